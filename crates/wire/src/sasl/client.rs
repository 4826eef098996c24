//! The client side of the mechanisms with which we sign in to a backend.
//!
//! A [`Client`] says what the mechanism has to say, one message after the other; base64 and the protocol's own framing
//! belong to the dialect. A server that asks for more than that gets nothing: [`Client::next`] returns `None`.
//!
//! PLAIN is RFC 4616. LOGIN is draft-murchison-sasl-login: the server asks twice, for the name and for the password. What
//! its questions say is not looked at, because servers word them differently ("Username:", "User Name\0", "VXNlcm5hbWU6").

use crate::dance::SignIn;
use crate::secret::Secret;

/// One mechanism in the middle of its exchange.
pub trait Client: Send {
    /// The name that is announced and said, upper case.
    fn mechanism(&self) -> &'static str;

    /// Whether the client speaks first, so that its first message may ride on the command.
    fn speaks_first(&self) -> bool;

    /// The next message.
    fn next(&mut self) -> Option<Message>;
}

/// One message of an exchange.
#[derive(Debug)]
pub struct Message {
    /// What is to be said, not yet encoded.
    pub octets: Secret<Vec<u8>>,
    /// The password is in it.
    pub secret: bool,
}

/// PLAIN: the name to act as, the name to authenticate as, the password.
///
/// The first one stays empty unless a master user signs in for somebody: some servers take any name there as a wish to act
/// for somebody else, and refuse.
#[derive(Debug)]
pub struct Plain(Option<Secret<Vec<u8>>>);

impl Plain {
    /// Takes what is to be said. None of the values may hold NUL; whoever made the [`SignIn`] a plan has checked that.
    pub fn new(sign_in: &SignIn) -> Self {
        let (act_as, name) = match &sign_in.master {
            Some(master) => (sign_in.user.as_str(), master.as_str()),
            None => ("", sign_in.user.as_str()),
        };
        let password = sign_in.password.expose();
        // Room for all of it at once: a vector that grows leaves copies of the password behind.
        let mut message = Vec::with_capacity(act_as.len() + name.len() + password.len() + 2);
        message.extend_from_slice(act_as.as_bytes());
        message.push(0);
        message.extend_from_slice(name.as_bytes());
        message.push(0);
        message.extend_from_slice(password);
        Plain(Some(Secret::new(message)))
    }
}

impl Client for Plain {
    fn mechanism(&self) -> &'static str {
        "PLAIN"
    }

    fn speaks_first(&self) -> bool {
        true
    }

    fn next(&mut self) -> Option<Message> {
        self.0.take().map(|octets| Message { octets, secret: true })
    }
}

/// LOGIN: the name, then the password, each when asked. It cannot say a master user.
#[derive(Debug)]
pub struct Login {
    name: Option<Secret<Vec<u8>>>,
    password: Option<Secret<Vec<u8>>>,
}

impl Login {
    /// Takes what is to be said.
    pub fn new(sign_in: &SignIn) -> Self {
        Login { name: Some(Secret::new(sign_in.user.as_bytes().to_vec())), password: Some(sign_in.password.clone()) }
    }
}

impl Client for Login {
    fn mechanism(&self) -> &'static str {
        "LOGIN"
    }

    fn speaks_first(&self) -> bool {
        false
    }

    fn next(&mut self) -> Option<Message> {
        let name = self.name.take().map(|octets| Message { octets, secret: false });
        name.or_else(|| self.password.take().map(|octets| Message { octets, secret: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(master: Option<&str>) -> SignIn {
        SignIn {
            user: "joe".into(),
            master: master.map(str::to_owned),
            password: Secret::new(b"sec ret\xff".to_vec()),
            mechanism: None,
            noauth: false,
        }
    }

    fn all(client: &mut dyn Client) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| client.next()).map(|message| message.octets.expose().clone()).collect()
    }

    #[test]
    fn plain_says_everything_once() {
        assert_eq!(all(&mut Plain::new(&sign_in(None))), [b"\0joe\0sec ret\xff"]);
        assert_eq!(all(&mut Plain::new(&sign_in(Some("admin")))), [b"joe\0admin\0sec ret\xff"]);
    }

    #[test]
    fn login_says_two_things_and_no_third() {
        assert_eq!(all(&mut Login::new(&sign_in(None))), [&b"joe"[..], b"sec ret\xff"]);
    }

    #[test]
    fn nothing_of_it_can_be_printed() {
        let shown = format!("{:?} {:?}", Plain::new(&sign_in(None)), Login::new(&sign_in(None)));
        assert!(!shown.contains("sec") && !shown.contains("115"), "{shown}");
    }
}
