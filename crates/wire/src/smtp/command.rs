//! Commands before login, read and written: one codec for the front, which reads them, and for the dance, which writes them
//! (RFC 5321 section 4.1, RFC 3207, RFC 4954).
//!
//! Only what stands before a login has a meaning here. What needs one ([`Command::Mail`], [`Command::Data`],
//! [`Command::Bdat`], [`Command::NeedsLogin`]) is known by its first word and not looked into: it is the mail server's.
//!
//! A control character makes a command bad, but not XCLIENT's, whose codec takes tabs between attributes and refuses the others
//! itself, nor one that needs a login. Blanks at the end of a line mean nothing (RFC 5321 section 4.1.1).

use crate::encode::{base64_decode, base64_encode};
use crate::secret::Secret;
use bytes::BytesMut;

/// The longest name that a client may call itself, in octets.
pub const NAME_MAX: usize = 255;

/// What a client can ask before login, as far as anyone understands it.
#[derive(Debug)]
pub enum Command {
    /// `EHLO` with a name, as it was said: see [`is_name`]. Empty: what was said is no such name.
    Ehlo(String),
    /// `HELO`, likewise.
    Helo(String),
    /// `LHLO`, which LMTP has in place of both (RFC 2033); only said, never heard here.
    Lhlo(String),
    /// `STARTTLS`
    StartTls,
    /// `AUTH`
    Auth {
        /// The mechanism's name, in upper case.
        mechanism: String,
        /// The initial response, decoded; an empty one (`=`) is not the same as none.
        initial: Option<Secret<Vec<u8>>>,
    },
    /// `NOOP`
    Noop,
    /// `RSET`
    Rset,
    /// `HELP`
    Help,
    /// `QUIT`
    Quit,
    /// `XCLIENT`: the attributes, for [`crate::origin::xclient::smtp`].
    Xclient(Vec<u8>),
    /// `MAIL`
    Mail,
    /// `DATA`
    Data,
    /// `BDAT`: octets that are no commands follow at once.
    Bdat,
    /// Anything else that is to be had behind a login only.
    NeedsLogin,
    /// Anything else.
    Other,
}

/// What is wrong with a command, in words for the client that never quote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// The reply code, and the enhanced one (RFC 3463).
    pub code: &'static str,
    /// The words.
    pub why: &'static str,
}

/// A value holds what a line of SMTP cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unspeakable;

/// Whether a client may call itself so, or we a client: 1 to [`NAME_MAX`] octets of printable ASCII without blanks. Whether it is
/// a name of a host is for mail servers to judge.
pub fn is_name(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
}

/// Whether a line is a greeting by its first word, whatever stands behind that.
pub fn greets(line: &[u8]) -> bool {
    matches!(split(line).0.as_slice(), b"EHLO" | b"HELO")
}

impl Command {
    /// Finds the meaning of a whole line without its CRLF.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &[u8]) -> Result<Command, Malformed> {
        let (word, argument) = split(line);
        match word.as_slice() {
            b"MAIL" => return Ok(Command::Mail),
            b"DATA" => return Ok(Command::Data),
            b"BDAT" => return Ok(Command::Bdat),
            b"RCPT" | b"BURL" | b"VRFY" | b"EXPN" | b"ETRN" => return Ok(Command::NeedsLogin),
            b"XCLIENT" => return Ok(Command::Xclient(argument.to_vec())),
            _ => {}
        }
        if line.iter().any(u8::is_ascii_control) {
            return Err(Malformed { code: "500 5.5.2", why: "Control characters are not allowed." });
        }
        let argument = argument.trim_ascii();
        match word.as_slice() {
            b"EHLO" => name(argument).map(Command::Ehlo),
            b"HELO" => name(argument).map(Command::Helo),
            b"AUTH" => auth(argument),
            b"NOOP" => Ok(Command::Noop),
            b"HELP" => Ok(Command::Help),
            b"STARTTLS" | b"RSET" | b"QUIT" if !argument.is_empty() => Err(syntax("This command takes no argument.")),
            b"STARTTLS" => Ok(Command::StartTls),
            b"RSET" => Ok(Command::Rset),
            b"QUIT" => Ok(Command::Quit),
            _ => Ok(Command::Other),
        }
    }

    /// Spells the command with its CRLF, appending to `out`, which holds a secret then where the command does.
    ///
    /// # Errors
    /// A value is none that could be read back, or this is nothing that the dance says. Then nothing was appended.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), Unspeakable> {
        let encoded;
        let (word, value): (&str, &[u8]) = match self {
            Command::Ehlo(name) if is_name(name.as_bytes()) => ("EHLO ", name.as_bytes()),
            Command::Lhlo(name) if is_name(name.as_bytes()) => ("LHLO ", name.as_bytes()),
            Command::StartTls => ("STARTTLS", b""),
            Command::Quit => ("QUIT", b""),
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
            _ => return Err(Unspeakable),
        };
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// The first word in upper case, and what stands behind the blank.
pub(super) fn split(line: &[u8]) -> (Vec<u8>, &[u8]) {
    let end = line.iter().position(|octet| matches!(octet, b' ' | b'\t')).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, b""));
    (word.to_ascii_uppercase(), rest.get(1..).unwrap_or_default())
}

/// Computers have names of any letters, and their mail programs say them as they are: as with Dovecot, nobody's mail is
/// refused for that, only the name cannot be said again.
pub(super) fn name(said: &[u8]) -> Result<String, Malformed> {
    match std::str::from_utf8(said) {
        Ok(name) if is_name(said) => Ok(name.to_owned()),
        _ if (1..=NAME_MAX).contains(&said.len()) => Ok(String::new()),
        _ => Err(syntax("A name is needed, of up to 255 characters.")),
    }
}

/// `PLAIN`, or `PLAIN <initial response>` (RFC 4954 section 4).
fn auth(words: &[u8]) -> Result<Command, Malformed> {
    let mut words = words.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(syntax("A mechanism is missing."))?;
    let mechanism = String::from_utf8_lossy(mechanism).to_ascii_uppercase();
    let initial = match words.next() {
        None => None,
        Some(b"=") => Some(Secret::new(Vec::new())),
        Some(text) => Some(base64_decode(text).ok_or(NO_BASE64)?),
    };
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial }),
        Some(_) => Err(syntax("Too many arguments.")),
    }
}

/// A response of SASL that is not in base64.
pub const NO_BASE64: Malformed = Malformed { code: "501 5.5.2", why: "Invalid base64 data." };

pub(super) fn syntax(why: &'static str) -> Malformed {
    Malformed { code: "501 5.5.4", why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(line: &[u8]) -> String {
        let text = |octets: &[u8]| octets.escape_ascii().to_string();
        match Command::read(line) {
            Ok(Command::Ehlo(name)) => format!("ehlo <{name}>"),
            Ok(Command::Helo(name)) => format!("helo <{name}>"),
            Ok(Command::Auth { mechanism, initial: None }) => format!("auth {mechanism}"),
            Ok(Command::Auth { mechanism, initial: Some(initial) }) => format!("auth {mechanism} <{}>", text(initial.expose())),
            Ok(Command::Xclient(attributes)) => format!("xclient <{}>", text(&attributes)),
            Ok(plain) => format!("{plain:?}").to_lowercase(),
            Err(Malformed { code, why }) => format!("{code} {why}"),
        }
    }

    #[test]
    fn commands_mean_what_they_say() {
        const NAMELESS: &str = "501 5.5.4 A name is needed, of up to 255 characters.";
        for (line, expected) in [
            (&b"EHLO client.example"[..], "ehlo <client.example>"),
            (b"ehlo  [IPv6:2001:db8::1]  ", "ehlo <[IPv6:2001:db8::1]>"),
            (b"HELO a_b<>", "helo <a_b<>>"),
            (b"EHLO", NAMELESS),
            (b"EHLO  ", NAMELESS),
            (b"EHLO two words", "ehlo <>"),
            (b"HELO j\xf6rg", "helo <>"),
            (b"EHLO\tx", "500 5.5.2 Control characters are not allowed."),
            (b"EHLOX y", "other"),
            (b"STARTTLS", "starttls"),
            (b"starttls now", "501 5.5.4 This command takes no argument."),
            (b"AUTH plain", "auth PLAIN"),
            (b"auth  PLAIN  =", "auth PLAIN <>"),
            (b"AUTH PLAIN YWJj", "auth PLAIN <abc>"),
            (b"AUTH PLAIN YWJ", "501 5.5.2 Invalid base64 data."),
            (b"AUTH PLAIN YWJj YWJj", "501 5.5.4 Too many arguments."),
            (b"AUTH", "501 5.5.4 A mechanism is missing."),
            (b"NOOP", "noop"),
            (b"NOOP ( or any other words", "noop"),
            (b"RSET ", "rset"),
            (b"RSET x", "501 5.5.4 This command takes no argument."),
            (b"HELP STARTTLS", "help"),
            (b"quit", "quit"),
            (b"QUIT\0", "500 5.5.2 Control characters are not allowed."),
            (b"XCLIENT ADDR=192.0.2.1\tPORT=1", "xclient <ADDR=192.0.2.1\\tPORT=1>"),
            (b"xclient", "xclient <>"),
            (b"XCLIENT\tADDR=\0", "xclient <ADDR=\\x00>"),
            (b"MAIL FROM:<\xff\0>", "mail"),
            (b"mail", "mail"),
            (b"MAILX", "other"),
            (b"RCPT TO:<\"\">", "needslogin"),
            (b"DATA", "data"),
            (b"bdat 99999999999999999999 LAST", "bdat"),
            (b"BURL imap://x", "needslogin"),
            (b"VRFY postmaster", "needslogin"),
            (b"XFORWARD NAME=x", "other"),
            (b" EHLO x", "other"),
            (b"", "other"),
        ] {
            assert_eq!(shown(line), expected, "{}", line.escape_ascii());
        }
        let longest = [b"EHLO ".as_slice(), &[b'a'; 255]].concat();
        assert!(matches!(Command::read(&longest), Ok(Command::Ehlo(_))));
        assert!(Command::read(&[&longest, b"a".as_slice()].concat()).is_err());
    }

    #[test]
    fn greetings_are_known_by_their_word() {
        for (line, is_one) in
            [("EHLO x", true), ("helo", true), ("ehlo\ty", true), ("EHLOX", false), ("MAIL", false), ("", false)]
        {
            assert_eq!(greets(line.as_bytes()), is_one, "{line}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_said() {
        for command in [
            Command::Ehlo("a\r\nb".into()),
            Command::Ehlo("a b".into()),
            Command::Ehlo(String::new()),
            Command::Ehlo("a".repeat(256)),
            Command::Auth { mechanism: "PLAIN =".into(), initial: None },
            Command::Auth { mechanism: String::new(), initial: None },
            Command::Xclient(b"ADDR=192.0.2.1".to_vec()),
            Command::Mail,
            Command::Other,
        ] {
            let mut out = BytesMut::new();
            assert_eq!(command.write(&mut out), Err(Unspeakable));
            assert!(out.is_empty());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[!-~]{1,255}", response in proptest::option::of(any::<Vec<u8>>()), which in 0..3) {
            let command = match which {
                0 => Command::Ehlo(name),
                1 => Command::Auth { mechanism: "PLAIN".into(), initial: response.map(Secret::new) },
                _ => Command::StartTls,
            };
            let mut out = BytesMut::new();
            command.write(&mut out).unwrap();
            let line = out.strip_suffix(b"\r\n").unwrap();
            let mut again = BytesMut::new();
            Command::read(line).unwrap().write(&mut again).unwrap();
            prop_assert_eq!(&out, &again);
        }

        #[test]
        fn reading_never_panics(word in "(?i)(ehlo|auth|auth plain|xclient|mail|bdat)?[ \t]{0,2}", rest in any::<Vec<u8>>()) {
            let _ = Command::read(&[word.into_bytes(), rest].concat());
        }
    }
}
