//! Commands before login, read and written: one codec for the front, which reads them, and for the dance, which writes them
//! (RFC 5804 sections 2.1 to 2.4 and 2.13, XCLIENT of Pigeonhole).
//!
//! [`Command::read`] takes a whole command whose border is known (see [`super::border`]) and finds its meaning; its cost is
//! bounded by the caps of the border. Words are understood in any case. What cannot be spelled without changing its meaning is
//! refused.
//!
//! Credentials are held in [`Secret`], and so is the tag of NOOP, for people do type one for the other; the octets they were
//! read from are the owner's to wipe.

use super::text::{Cursor, Malformed, is_atom_char, write_string};
use crate::encode::{base64_decode, base64_encode};
use crate::secret::Secret;
use bytes::{BufMut, BytesMut};

/// What a client can ask before login, as far as anyone understands it.
#[derive(Debug)]
pub enum Command {
    /// `CAPABILITY`
    Capability,
    /// `STARTTLS`
    StartTls,
    /// `LOGOUT`
    Logout,
    /// `NOOP`, with the tag that is to be repeated.
    Noop(Option<Secret<Vec<u8>>>),
    /// `AUTHENTICATE`
    Authenticate {
        /// The mechanism's name, in upper case.
        mechanism: String,
        /// The initial response, decoded; an empty one (`""`) is not the same as none.
        initial: Option<Secret<Vec<u8>>>,
    },
    /// `XCLIENT`: the attributes, for [`crate::origin::xclient::read_plain`].
    Xclient(Vec<u8>),
    /// Anything else: unknown, or not to be had before login.
    Other,
}

/// A client's line in the middle of an exchange.
#[derive(Debug)]
pub enum Response {
    /// `"*"`: it wants no more of it. Without quotes it cannot mean anything else.
    Cancelled,
    /// The response, decoded.
    Said(Secret<Vec<u8>>),
}

/// A value holds what ManageSieve cannot carry there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unspeakable;

impl Command {
    /// Finds the meaning of a whole command, its literals and its last CRLF included.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client that never quote it.
    pub fn read(command: &[u8]) -> Result<Command, Malformed> {
        let mut text = Cursor::new(whole(command)?);
        let word = text.run(is_atom_char).to_ascii_uppercase();
        let command = match word.as_slice() {
            b"CAPABILITY" => Command::Capability,
            b"STARTTLS" => Command::StartTls,
            b"LOGOUT" => Command::Logout,
            b"NOOP" => {
                let tag = if text.more()? { Some(Secret::new(text.string()?)) } else { None };
                Command::Noop(tag)
            }
            b"AUTHENTICATE" => {
                if !text.more()? {
                    return Err(Malformed("A mechanism is missing."));
                }
                let mechanism = String::from_utf8_lossy(&text.string()?).to_ascii_uppercase();
                let initial = if text.more()? { Some(decoded(&Secret::new(text.string()?))?) } else { None };
                Command::Authenticate { mechanism, initial }
            }
            b"XCLIENT" => {
                text.more()?;
                return xclient(text.rest());
            }
            _ => return Ok(Command::Other),
        };
        text.end()?;
        Ok(command)
    }

    /// Spells the command with its CRLF, appending to `out`, which holds a secret then where the command does.
    ///
    /// # Errors
    /// A value holds what would be read as something else: a mechanism that is no atom, attributes that are none. Then nothing
    /// was appended. [`Command::Other`] means nothing that could be said.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Unspeakable> {
        match self {
            Command::Capability => out.put_slice(b"CAPABILITY"),
            Command::StartTls => out.put_slice(b"STARTTLS"),
            Command::Logout => out.put_slice(b"LOGOUT"),
            Command::Noop(tag) => {
                out.put_slice(b"NOOP");
                if let Some(tag) = tag {
                    out.put_u8(b' ');
                    write_string(tag.expose(), out);
                }
            }
            Command::Authenticate { mechanism, initial } => {
                if mechanism.is_empty() || !mechanism.bytes().all(is_atom_char) {
                    return Err(Unspeakable);
                }
                out.put_slice(b"AUTHENTICATE ");
                write_string(mechanism.as_bytes(), out);
                if let Some(initial) = initial {
                    out.put_u8(b' ');
                    write_string(base64_encode(initial.expose()).expose(), out);
                }
            }
            Command::Xclient(attributes) => {
                if xclient(attributes).is_err() {
                    return Err(Unspeakable);
                }
                out.put_slice(b"XCLIENT ");
                out.put_slice(attributes);
            }
            Command::Other => return Err(Unspeakable),
        }
        out.put_slice(b"\r\n");
        Ok(())
    }
}

impl Response {
    /// Reads a whole line of an exchange, its literal and its last CRLF included.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client that never quote it.
    pub fn read(line: &[u8]) -> Result<Response, Malformed> {
        let line = whole(line)?;
        if line == b"*" {
            return Ok(Response::Cancelled);
        }
        let mut text = Cursor::new(line);
        let encoded = Secret::new(text.string()?);
        text.end()?;
        if encoded.expose() == b"*" { Ok(Response::Cancelled) } else { decoded(&encoded).map(Response::Said) }
    }

    /// Spells a response with its CRLF, appending to `out`.
    pub fn write(response: &Secret<Vec<u8>>, out: &mut BytesMut) {
        write_string(base64_encode(response.expose()).expose(), out);
        out.put_slice(b"\r\n");
    }
}

/// What stands before the last CRLF. A literal may end in one of its own, so it is not guessed.
fn whole(command: &[u8]) -> Result<&[u8], Malformed> {
    command.strip_suffix(b"\r\n").ok_or(Malformed("Lines end in CRLF."))
}

/// What a string of base64 stands for. The text is as secret as that.
fn decoded(encoded: &Secret<Vec<u8>>) -> Result<Secret<Vec<u8>>, Malformed> {
    base64_decode(encoded.expose()).ok_or(Malformed("Invalid base64 data."))
}

/// Attributes are atoms apart by blanks.
fn xclient(attributes: &[u8]) -> Result<Command, Malformed> {
    if attributes.iter().all(|octet| *octet == b' ' || is_atom_char(*octet)) {
        Ok(Command::Xclient(attributes.to_vec()))
    } else {
        Err(Malformed("Invalid parameters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(line: &[u8]) -> String {
        let text = |octets: &[u8]| octets.escape_ascii().to_string();
        match Command::read(line) {
            Ok(Command::Noop(Some(tag))) => format!("noop <{}>", text(tag.expose())),
            Ok(Command::Noop(None)) => "noop".to_owned(),
            Ok(Command::Authenticate { mechanism, initial: None }) => format!("auth {mechanism}"),
            Ok(Command::Authenticate { mechanism, initial: Some(initial) }) => {
                format!("auth {mechanism} <{}>", text(initial.expose()))
            }
            Ok(Command::Xclient(attributes)) => format!("xclient <{}>", text(&attributes)),
            Ok(plain) => format!("{plain:?}").to_lowercase(),
            Err(Malformed(why)) => why.to_owned(),
        }
    }

    #[test]
    fn commands_mean_what_they_say() {
        for (line, expected) in [
            (&b"CAPABILITY"[..], "capability"),
            (b"capability  ", "capability"),
            (b"CAPABILITY \"x\"", "Too many arguments."),
            (b"CAPABILITY\"x\"", "Arguments are separated by spaces."),
            (b"StartTls", "starttls"),
            (b"STARTTLS now", "Too many arguments."),
            (b"LogOut", "logout"),
            (b"NOOP", "noop"),
            (b"NOOP ", "noop"),
            (b"NOOP \"a b\"", "noop <a b>"),
            (b"NOOP {4+}\r\na\r\nb", "noop <a\\r\\nb>"),
            (b"NOOP {0}\r\n", "noop <>"),
            (b"NOOP atom", "A quoted string or literal was expected."),
            (b"NOOP \"a\" \"b\"", "Too many arguments."),
            (b"NOOP \"a\"\"b\"", "Arguments are separated by spaces."),
            (b"NOOP \"a", "A quoted string does not end."),
            (b"AUTHENTICATE \"plain\"", "auth PLAIN"),
            (b"authenticate  {5+}\r\nPLAIN ", "auth PLAIN"),
            (b"AUTHENTICATE \"PLAIN\" \"\"", "auth PLAIN <>"),
            (b"AUTHENTICATE \"PLAIN\" {0+}\r\n", "auth PLAIN <>"),
            (b"AUTHENTICATE \"PLAIN\" \"YWJj\"", "auth PLAIN <abc>"),
            (b"AUTHENTICATE \"PLAIN\"  {4+}\r\nYWJj", "auth PLAIN <abc>"),
            (b"AUTHENTICATE \"PLAIN\" {4}\r\nYWJj", "auth PLAIN <abc>"),
            (b"AUTHENTICATE {5+}\r\nPLAIN {4+}\r\nYWJj", "auth PLAIN <abc>"),
            (b"AUTHENTICATE \"PLAIN\" \"YWJ\"", "Invalid base64 data."),
            (b"AUTHENTICATE \"PLAIN\" \"=\"", "Invalid base64 data."),
            (b"AUTHENTICATE \"PLAIN\" YWJj", "A quoted string or literal was expected."),
            (b"AUTHENTICATE \"PLAIN\" \"YWJj\" \"YWJj\"", "Too many arguments."),
            (b"AUTHENTICATE \"PLAIN\"\"YWJj\"", "Arguments are separated by spaces."),
            (b"AUTHENTICATE PLAIN", "A quoted string or literal was expected."),
            (b"AUTHENTICATE", "A mechanism is missing."),
            (b"AUTHENTICATE ", "A mechanism is missing."),
            (b"XCLIENT ADDR=::1 TTL=1", "xclient <ADDR=::1 TTL=1>"),
            (b"xclient", "xclient <>"),
            (b"XCLIENT \"ADDR=::1\"", "Invalid parameters"),
            (b"XCLIENT ADDR=::1\tTTL=1", "Invalid parameters"),
            (b"XCLIENT ADDR=\xff", "Invalid parameters"),
            (b"XCLIENT {8+}\r\nADDR=::1", "Invalid parameters"),
            (b"PUTSCRIPT \"x\" {3+}\r\nabc", "other"),
            (b"LISTSCRIPTS", "other"),
            (b"UNAUTHENTICATE", "other"),
            (b" NOOP", "other"),
            (b"\"NOOP\"", "other"),
            (b"", "other"),
        ] {
            assert_eq!(shown(&[line, b"\r\n"].concat()), expected, "{}", line.escape_ascii());
        }
        assert_eq!(shown(b"NOOP"), "Lines end in CRLF.");
    }

    #[test]
    fn responses_are_strings() {
        for (line, expected) in [
            (&b"\"YWJj\""[..], "abc"),
            (b"{4+}\r\nYWJj", "abc"),
            (b"\"YWJj\" ", "abc"),
            (b"\"\"", ""),
            (b"{0+}\r\n", ""),
            (b"\"*\"", "cancelled"),
            (b"{1+}\r\n*", "cancelled"),
            (b"*", "cancelled"),
            (b"\"*\" \"*\"", "Too many arguments."),
            (b"YWJj", "A quoted string or literal was expected."),
            (b"", "A quoted string or literal was expected."),
            (b"\"YWJj\" x", "Too many arguments."),
            (b"\"YW Jj\"", "Invalid base64 data."),
        ] {
            let read = match Response::read(&[line, b"\r\n"].concat()) {
                Ok(Response::Cancelled) => "cancelled".to_owned(),
                Ok(Response::Said(said)) => String::from_utf8_lossy(said.expose()).into_owned(),
                Err(Malformed(why)) => why.to_owned(),
            };
            assert_eq!(read, expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_said() {
        for command in [
            Command::Xclient(b"ADDR=\r\nLOGOUT".to_vec()),
            Command::Xclient(b"ADDR=\"".to_vec()),
            Command::Authenticate { mechanism: "PLAIN \"".into(), initial: None },
            Command::Authenticate { mechanism: String::new(), initial: None },
            Command::Other,
        ] {
            let mut out = BytesMut::new();
            assert_eq!(command.write(&mut out), Err(Unspeakable));
            assert!(out.is_empty());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in proptest::collection::vec(any::<u8>(), 0..1200), which in 0..3) {
            let command = match which {
                0 => Command::Noop(Some(Secret::new(value))),
                1 => Command::Authenticate { mechanism: "PLAIN".into(), initial: Some(Secret::new(value)) },
                _ => Command::Xclient(value),
            };
            let mut out = BytesMut::new();
            if command.write(&mut out).is_ok() {
                let mut again = BytesMut::new();
                Command::read(&out).unwrap().write(&mut again).unwrap();
                prop_assert_eq!(&out, &again);
            } else {
                prop_assert!(matches!(command, Command::Xclient(_)));
            }
        }

        #[test]
        fn a_response_is_read_back(value in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let mut out = BytesMut::new();
            Response::write(&Secret::new(value.clone()), &mut out);
            match Response::read(&out) {
                Ok(Response::Said(said)) => prop_assert_eq!(said.expose(), &value),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn reading_never_panics(word in "(?i)(noop|authenticate \"plain\"|xclient)?[ ]{0,2}", rest in any::<Vec<u8>>()) {
            let _ = Command::read(&[word.into_bytes(), rest.clone()].concat());
            let _ = Response::read(&rest);
        }
    }
}
