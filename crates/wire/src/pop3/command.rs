//! Commands before login, read and written: one codec for the front, which reads them, and for the dance, which writes them
//! (RFC 1939 sections 4 and 7, CAPA of RFC 2449, STLS of RFC 2595, AUTH of RFC 5034, XCLIENT and XOIP of Dovecot).
//!
//! POP3 has no quoting. A name or password is the rest of its line, octet by octet, blanks at its ends included: nothing is
//! trimmed in either direction, so what a client said is what a backend hears. Some servers trim; a value with blanks at an
//! end reaches those by SASL only. What cannot be said without changing its meaning is refused.
//!
//! A control character makes a command bad, except in a password, where only NUL does. Names and passwords are held in
//! [`Secret`], for people do type one for the other; the octets they were read from are the owner's to wipe.

use crate::encode::{base64_decode, base64_encode};
use crate::secret::{Password, Secret};
use bytes::BytesMut;

/// What a client can ask before login, as far as anyone understands it.
#[derive(Debug)]
pub enum Command {
    /// `CAPA`
    Capa,
    /// `STLS`
    Stls,
    /// `NOOP`
    Noop,
    /// `QUIT`
    Quit,
    /// `USER`: any octets but control characters; form is checked by [`crate::sasl::Credentials`].
    User(Secret<Vec<u8>>),
    /// `PASS`: any octets but NUL.
    Pass(Password),
    /// `AUTH` alone: which mechanisms are there?
    Mechanisms,
    /// `AUTH` with a mechanism.
    Auth {
        /// The mechanism's name, in upper case.
        mechanism: String,
        /// The initial response, decoded; an empty one (`=`) is not the same as none.
        initial: Option<Secret<Vec<u8>>>,
    },
    /// `XCLIENT`, or `XOIP` as `ADDR`: the attributes, for [`crate::origin::xclient::read_plain`].
    Xclient(Vec<u8>),
    /// Anything else: unknown, or not to be had before login.
    Other,
}

/// What is wrong with a command, in words for the client that never quote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A value holds what a line of POP3 cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unspeakable;

impl Command {
    /// Finds the meaning of a whole line without its CRLF.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &[u8]) -> Result<Command, Malformed> {
        let mut parts = line.splitn(2, |octet| *octet == b' ');
        let word = parts.next().unwrap_or_default().to_ascii_uppercase();
        let argument = parts.next();
        let is_pass = word == b"PASS";
        if line.iter().any(|octet| if is_pass { *octet == 0 } else { octet.is_ascii_control() }) {
            return Err(Malformed("Control characters are not allowed."));
        }
        let value = argument.filter(|value| !value.is_empty());
        match (word.as_slice(), value) {
            (b"USER", Some(name)) => Ok(Command::User(Secret::new(name.to_vec()))),
            (b"USER", None) => Err(Malformed("A name is missing.")),
            // An empty password is one, but not the lack of it.
            (b"PASS", _) => {
                argument.map(|password| Command::Pass(Secret::new(password.to_vec()))).ok_or(Malformed("A password is missing."))
            }
            (b"AUTH", Some(words)) if !words.trim_ascii().is_empty() => auth(words),
            (b"XCLIENT", attributes) => Ok(Command::Xclient(attributes.unwrap_or_default().to_vec())),
            (b"XOIP", address) => Ok(Command::Xclient(xoip(address.unwrap_or_default()))),
            (b"CAPA" | b"STLS" | b"NOOP" | b"QUIT" | b"AUTH", blanks) => {
                if blanks.is_some_and(|blanks| !blanks.trim_ascii().is_empty()) {
                    return Err(Malformed("This command takes no argument."));
                }
                Ok(match word.as_slice() {
                    b"CAPA" => Command::Capa,
                    b"STLS" => Command::Stls,
                    b"NOOP" => Command::Noop,
                    b"QUIT" => Command::Quit,
                    _ => Command::Mechanisms,
                })
            }
            _ => Ok(Command::Other),
        }
    }

    /// Spells the command with its CRLF, appending to `out`, which holds a secret then where the command does.
    ///
    /// # Errors
    /// A value holds what would be read as something else: CR, LF or NUL, or a blank in the mechanism. Then nothing was
    /// appended. [`Command::Other`] means nothing that could be said.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Unspeakable> {
        let encoded;
        let (word, value): (&str, &[u8]) = match self {
            Command::Capa => ("CAPA", b""),
            Command::Stls => ("STLS", b""),
            Command::Noop => ("NOOP", b""),
            Command::Quit => ("QUIT", b""),
            Command::Mechanisms => ("AUTH", b""),
            Command::User(name) => ("USER ", name.expose()),
            Command::Pass(password) => ("PASS ", password.expose()),
            Command::Xclient(attributes) => ("XCLIENT ", attributes),
            Command::Auth { mechanism, initial } => {
                if mechanism.is_empty() || !mechanism.bytes().all(|octet| octet.is_ascii_graphic()) {
                    return Err(Unspeakable);
                }
                out.extend_from_slice(b"AUTH ");
                out.extend_from_slice(mechanism.as_bytes());
                encoded = initial.as_ref().map(|initial| base64_encode(initial.expose()));
                match &encoded {
                    None => ("", b""),
                    Some(empty) if empty.expose().is_empty() => (" ", b"="),
                    Some(encoded) => (" ", encoded.expose()),
                }
            }
            Command::Other => return Err(Unspeakable),
        };
        if value.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return Err(Unspeakable);
        }
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// `PLAIN`, or `PLAIN <initial response>` (RFC 5034 section 4).
fn auth(words: &[u8]) -> Result<Command, Malformed> {
    let mut words = words.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let mechanism = String::from_utf8_lossy(words.next().unwrap_or_default()).to_ascii_uppercase();
    let initial = match words.next() {
        None => None,
        Some(b"=") => Some(Secret::new(Vec::new())),
        Some(text) => Some(base64_decode(text).ok_or(Malformed("Invalid base64 data."))?),
    };
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial }),
        Some(_) => Err(Malformed("Too many arguments.")),
    }
}

/// `XOIP 192.0.2.1` as attributes. Where there is not just one word, there is no address either.
fn xoip(address: &[u8]) -> Vec<u8> {
    let address = address.trim_ascii();
    let one = if address.contains(&b' ') { b"".as_slice() } else { address };
    [b"ADDR=", one].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(line: &[u8]) -> String {
        let text = |octets: &[u8]| octets.escape_ascii().to_string();
        match Command::read(line) {
            Ok(Command::User(name)) => format!("user <{}>", text(name.expose())),
            Ok(Command::Pass(password)) => format!("pass <{}>", text(password.expose())),
            Ok(Command::Auth { mechanism, initial: None }) => format!("auth {mechanism}"),
            Ok(Command::Auth { mechanism, initial: Some(initial) }) => format!("auth {mechanism} <{}>", text(initial.expose())),
            Ok(Command::Xclient(attributes)) => format!("xclient <{}>", text(&attributes)),
            Ok(plain) => format!("{plain:?}").to_lowercase(),
            Err(Malformed(why)) => why.to_owned(),
        }
    }

    #[test]
    fn commands_mean_what_they_say() {
        for (line, expected) in [
            (&b"CAPA"[..], "capa"),
            (b"capa ", "capa"),
            (b"Stls", "stls"),
            (b"NOOP  ", "noop"),
            (b"quit", "quit"),
            (b"QUIT now", "This command takes no argument."),
            (b"CAPA\t", "Control characters are not allowed."),
            (b"USER joe", "user <joe>"),
            (b"USER  a b ", "user < a b >"),
            (b"user \xff", "user <\\xff>"),
            (b"USER", "A name is missing."),
            (b"USER ", "A name is missing."),
            (b"USER a\tb", "Control characters are not allowed."),
            (b"PASS p w ", "pass <p w >"),
            (b"PASS  ", "pass < >"),
            (b"PASS ", "pass <>"),
            (b"PASS", "A password is missing."),
            (b"PASS \t\x01\x7f", "pass <\\t\\x01\\x7f>"),
            (b"PASS a\0", "Control characters are not allowed."),
            (b"AUTH", "mechanisms"),
            (b"auth  ", "mechanisms"),
            (b"AUTH plain", "auth PLAIN"),
            (b"AUTH PLAIN =", "auth PLAIN <>"),
            (b"AUTH PLAIN YWJj", "auth PLAIN <abc>"),
            (b"AUTH PLAIN YWJ", "Invalid base64 data."),
            (b"AUTH PLAIN YWJj YWJj", "Too many arguments."),
            (b"XCLIENT ADDR=::1 TTL=1", "xclient <ADDR=::1 TTL=1>"),
            (b"xclient", "xclient <>"),
            (b"XOIP 192.0.2.1", "xclient <ADDR=192.0.2.1>"),
            (b"XOIP", "xclient <ADDR=>"),
            (b"XOIP 192.0.2.1 TTL=9", "xclient <ADDR=>"),
            (b"APOP joe c4c9334bac560ecc979e58001b3e22fb", "other"),
            (b"STAT", "other"),
            (b" CAPA", "other"),
            (b"", "other"),
        ] {
            assert_eq!(shown(line), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_said() {
        let secret = |octets: &[u8]| Secret::new(octets.to_vec());
        for command in [
            Command::User(secret(b"a\r\nb")),
            Command::Pass(secret(b"a\nb")),
            Command::Pass(secret(b"a\rb")),
            Command::Pass(secret(b"a\0b")),
            Command::Xclient(b"ADDR=\r\nQUIT".to_vec()),
            Command::Auth { mechanism: "PLAIN =".into(), initial: None },
            Command::Auth { mechanism: String::new(), initial: None },
            Command::Other,
        ] {
            let mut out = BytesMut::new();
            assert_eq!(command.write(&mut out), Err(Unspeakable));
            assert!(out.is_empty());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[^\\x00-\\x1f\\x7f]{1,20}", password in any::<Vec<u8>>(), which in 0..4) {
            let command = match which {
                0 => Command::User(Secret::new(name.into_bytes())),
                1 => Command::Pass(Secret::new(password)),
                2 => Command::Auth { mechanism: "PLAIN".into(), initial: Some(Secret::new(password)) },
                _ => Command::Xclient(name.into_bytes()),
            };
            let mut out = BytesMut::new();
            if command.write(&mut out).is_ok() {
                let line = out.strip_suffix(b"\r\n").unwrap();
                let mut again = BytesMut::new();
                Command::read(line).unwrap().write(&mut again).unwrap();
                prop_assert_eq!(&out, &again);
            }
        }

        #[test]
        fn reading_never_panics(word in "(?i)(user|pass|auth|xclient|xoip|capa)?[ ]{0,2}", rest in any::<Vec<u8>>()) {
            let _ = Command::read(&[word.into_bytes(), rest].concat());
        }
    }
}
