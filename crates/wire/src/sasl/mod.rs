//! SASL mechanisms: what is said in them, apart from how a protocol carries it (RFC 4422).
//!
//! The server side is [`Server`], one value per exchange that is consumed by each answer, so an exchange that went wrong
//! cannot be continued and what it held is wiped when it is dropped. Only mechanisms that hand over the password are
//! served: the proxy must say it again to the backend.
//!
//! What comes out is [`Credentials`]: octets as they were said. [`Credentials::into_login`] is the one gate through which
//! they become a [`Login`]; nothing with a control character in it passes.

pub mod client;
mod login;
mod plain;

use crate::encode::{escaped, is_invisible};
use crate::login::{Login, Mechanism};
use crate::secret::{Password, Secret};

/// The longest user name, in octets.
pub const USER_MAX: usize = 255;

/// The longest password, in octets.
pub const PASSWORD_MAX: usize = 4096;

/// The server side of one exchange, waiting for the client's next response.
#[derive(Debug)]
pub struct Server(Exchange);

#[derive(Debug)]
enum Exchange {
    Plain,
    Login(login::Server),
}

/// What follows a response.
#[derive(Debug)]
pub enum Heard {
    /// Ask for more with this challenge (octets before base64).
    Challenge(Server, &'static [u8]),
    /// The client has said all it has to say.
    Done(Credentials),
}

/// A response that does not belong into this exchange, in words for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Server {
    /// Begins an exchange; `None` for a mechanism that is not served. Names are compared without regard to case.
    pub fn begin(mechanism: &str) -> Option<Server> {
        let exchange = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Exchange::Plain,
            "LOGIN" => Exchange::Login(login::Server::default()),
            _ => return None,
        };
        Some(Server(exchange))
    }

    /// What is served, strongest first; a capability line lists these.
    pub const SERVED: [&'static str; 2] = ["PLAIN", "LOGIN"];

    /// Which mechanism this is.
    pub fn mechanism(&self) -> Mechanism {
        match self.0 {
            Exchange::Plain => Mechanism::Plain,
            Exchange::Login(_) => Mechanism::Login,
        }
    }

    /// The first challenge, for a client that sent no initial response (octets before base64, empty for none).
    pub fn challenge(&self) -> &'static [u8] {
        match &self.0 {
            Exchange::Plain => b"",
            Exchange::Login(server) => server.challenge(),
        }
    }

    /// Whether the client's very first response carries the password.
    pub fn first_response_is_secret(&self) -> bool {
        matches!(self.0, Exchange::Plain)
    }

    /// Takes a response, decoded.
    ///
    /// # Errors
    /// The response is not of this mechanism's form; the exchange is over.
    pub fn hear(self, response: Secret<Vec<u8>>) -> Result<Heard, Malformed> {
        match self.0 {
            Exchange::Plain => plain::read(&response).map(Heard::Done),
            Exchange::Login(server) => Ok(server.hear(response)),
        }
    }
}

/// Who the client says it is, in the octets it used.
#[derive(Debug)]
pub struct Credentials {
    /// The name to act as; empty for none.
    pub authzid: Vec<u8>,
    /// The name to authenticate as.
    pub user: Vec<u8>,
    /// The password.
    pub password: Password,
    /// How it was said.
    pub mechanism: Mechanism,
}

/// Credentials that cannot be true and must not go any further: a name or password with control characters, too long, not
/// UTF-8. To the client this is a wrong password like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unspeakable {
    /// The name that was said, escaped and cut, for the log.
    pub user: String,
    /// What is wrong, for the log.
    pub why: &'static str,
}

impl Credentials {
    /// Checks the form.
    ///
    /// # Errors
    /// [`Unspeakable`] with the rule that was broken.
    pub fn into_login(self) -> Result<Login, Unspeakable> {
        let unspeakable = |why| Unspeakable { user: escaped(&self.user, USER_MAX), why };
        let user = name(&self.user).map_err(unspeakable)?.to_owned();
        let authzid = match self.authzid.as_slice() {
            same if same.is_empty() || same == self.user => None,
            other => Some(name(other).map_err(unspeakable)?.to_owned()),
        };
        let password = self.password.expose();
        if password.len() > PASSWORD_MAX {
            return Err(unspeakable("password too long"));
        }
        if password.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return Err(unspeakable("password with CR, LF or NUL"));
        }
        Ok(Login { user, authzid, password: Some(self.password), mechanism: self.mechanism })
    }
}

/// The one rule of what can be a user's name: one that may be looked up, logged and said to a backend.
///
/// It is short, UTF-8, has nothing invisible in it ([`is_invisible`]) and no white space at the ends.
///
/// # Errors
/// The rule that was broken, in words for the log.
pub fn name(octets: &[u8]) -> Result<&str, &'static str> {
    if octets.is_empty() {
        return Err("empty name");
    }
    if octets.len() > USER_MAX {
        return Err("name too long");
    }
    let name = std::str::from_utf8(octets).map_err(|_| "name is not UTF-8")?;
    if name.chars().any(is_invisible) {
        return Err("name with control characters");
    }
    if name.trim().len() != name.len() {
        return Err("name with a space at an end");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(authzid: &[u8], user: &[u8], password: &[u8]) -> Result<Login, Unspeakable> {
        let password = Secret::new(password.to_vec());
        Credentials { authzid: authzid.to_vec(), user: user.to_vec(), password, mechanism: Mechanism::Plain }.into_login()
    }

    #[test]
    fn the_gate_lets_ordinary_names_through() {
        for user in ["joe", "joe@example.org", "a b", "Jörg", "ｊｏｅ", "%u${run}%{user}", "' OR ''='", "../x", &"a".repeat(255)]
        {
            let login = login(b"", user.as_bytes(), b"").expect(user);
            assert_eq!((login.user.as_str(), login.authzid), (user, None));
        }
    }

    #[test]
    fn the_gate_stops_what_could_become_something_else() {
        for (user, why) in [
            (&b""[..], "empty name"),
            (&[b'a'; 256], "name too long"),
            (b"a\xff", "name is not UTF-8"),
            (b"\xc0\xaf", "name is not UTF-8"),
            (b"a\r\nb", "name with control characters"),
            (b"a\0", "name with control characters"),
            (b"a\x7f", "name with control characters"),
            (b"a\x1b[2J", "name with control characters"),
            ("a\u{85}".as_bytes(), "name with control characters"),
            ("a\u{202e}b".as_bytes(), "name with control characters"),
            ("\u{2066}a".as_bytes(), "name with control characters"),
            ("a\u{2028}b".as_bytes(), "name with control characters"),
            ("a\u{2029}b".as_bytes(), "name with control characters"),
            (b" a", "name with a space at an end"),
            ("a\u{3000}".as_bytes(), "name with a space at an end"),
        ] {
            assert_eq!(login(b"", user, b"pw").expect_err(why).why, why, "{}", user.escape_ascii());
            if !user.is_empty() {
                assert_eq!(login(user, b"joe", b"pw").expect_err(why).why, why, "{}", user.escape_ascii());
            }
        }
        for password in [&b"a\rb"[..], b"a\nb", b"a\0b", &[b'a'; 4097]] {
            assert!(login(b"", b"joe", password).is_err(), "{}", password.escape_ascii());
        }
        assert!(login(b"", b"joe", &[0xff; 4096]).is_ok());
        assert_eq!(login(b"", b"a\nb\\", b"").expect_err("LF").user, "a\\x0ab\\\\");
    }

    #[test]
    fn acting_as_oneself_is_not_acting_as_somebody() {
        assert_eq!(login(b"joe", b"joe", b"").expect("same").authzid, None);
        assert_eq!(login(b"ann", b"joe", b"").expect("other").authzid.as_deref(), Some("ann"));
    }
}
