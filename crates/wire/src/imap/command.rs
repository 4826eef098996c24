//! Commands before login, read and written: one codec for the front, which reads them, and for the dance, which writes them
//! (RFC 3501 section 6.1 and 6.2, ID of RFC 2971, SASL-IR of RFC 4959, LITERAL+ and LITERAL- of RFC 7888).
//!
//! [`Command::read`] takes a whole command whose border is known (see [`super::border`]) and finds its meaning; its cost is
//! bounded by the caps of the border and, for lists, by the numbers below. [`Command::write`] spells a command in pieces:
//! each piece after the first is sent when the server has said `+`. What cannot be spelled without changing its meaning is
//! refused: no value is quoted, cut or cleaned into something else.
//!
//! Credentials are held in [`Secret`]; the octets they were read from are the owner's to wipe.

use super::text::{Cursor, Literal, Malformed, Quotable, is_tag_char};
use crate::encode::{base64_decode, base64_encode};
use crate::origin::imap_id::{KEY_MAX, Pair, VALUE_MAX};
use crate::secret::{Password, Secret};
use std::fmt;

/// The most items (keys and values) in the list of an ID command.
pub const LIST_ITEMS_MAX: usize = 128;

/// A command's tag: 1 to 64 octets of the tag grammar, and so fit to be echoed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(Box<str>);

impl Tag {
    /// The longest tag.
    pub const MAX: usize = 64;

    /// Reads the tag that a command begins with; `None` where it has none that may be echoed.
    pub fn of(command: &[u8]) -> Option<Tag> {
        let tag = Cursor::new(command).run(is_tag_char).filter(|tag| tag.len() <= Tag::MAX)?;
        if !matches!(command.get(tag.len()), None | Some(b' ' | b'\r' | b'\n')) {
            return None;
        }
        std::str::from_utf8(tag).ok().map(|tag| Tag(tag.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client can ask before login, as far as anyone understands it.
#[derive(Debug)]
pub enum Command {
    /// `CAPABILITY`
    Capability,
    /// `NOOP`
    Noop,
    /// `LOGOUT`
    Logout,
    /// `STARTTLS`
    StartTls,
    /// `ID`: the pairs in order, none for `ID NIL`.
    Id(Vec<Pair>),
    /// `LOGIN`: any octets; form is checked by [`crate::sasl::Credentials`].
    Login {
        /// The user name.
        user: Vec<u8>,
        /// The password.
        password: Password,
    },
    /// `AUTHENTICATE`
    Authenticate {
        /// The mechanism's name, in upper case.
        mechanism: String,
        /// The initial response, decoded; an empty one (`=`) is not the same as none.
        initial: Option<Secret<Vec<u8>>>,
    },
    /// Anything else: unknown, or not to be had before login.
    Other,
}

impl Command {
    /// Finds the meaning of a whole command, literals included; the CRLF at its end may be there or not.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client that never quote it.
    pub fn read(command: &[u8]) -> Result<Command, Malformed> {
        let command = command.strip_suffix(b"\r\n").unwrap_or(command);
        if command.contains(&0) {
            return Err(Malformed("NUL is not allowed."));
        }
        let mut text = Cursor::new(command);
        text.run(is_tag_char).ok_or(Malformed("A tag is missing."))?;
        text.space()?;
        let name = text.run(|octet| octet.is_ascii_alphanumeric()).unwrap_or_default().to_ascii_uppercase();
        let command = match name.as_slice() {
            b"CAPABILITY" => Command::Capability,
            b"NOOP" => Command::Noop,
            b"LOGOUT" => Command::Logout,
            b"STARTTLS" => Command::StartTls,
            b"ID" => {
                text.space()?;
                Command::Id(read_pairs(&mut text)?)
            }
            b"LOGIN" => {
                text.space()?;
                let user = text.astring()?;
                text.space()?;
                Command::Login { user, password: Secret::new(text.astring()?) }
            }
            b"AUTHENTICATE" => {
                text.space()?;
                let mechanism = String::from_utf8_lossy(text.atom()?).to_ascii_uppercase();
                Command::Authenticate { mechanism, initial: read_initial(&mut text)? }
            }
            _ => return Ok(Command::Other),
        };
        text.end()?;
        Ok(command)
    }

    /// Spells the command for a server that takes literals in this way.
    ///
    /// # Errors
    /// [`Unspeakable`] where a value holds what IMAP cannot carry there (NUL, a mechanism that is no atom).
    pub fn write(&self, tag: &str, literals: Literals) -> Result<Pieces, Unspeakable> {
        let mut writer = Writer::new(tag, literals, self.room());
        match self {
            Command::Capability => writer.word("CAPABILITY"),
            Command::Noop => writer.word("NOOP"),
            Command::Logout => writer.word("LOGOUT"),
            Command::StartTls => writer.word("STARTTLS"),
            Command::Id(pairs) if pairs.is_empty() => writer.word("ID NIL"),
            Command::Id(pairs) => {
                writer.word("ID (");
                for (index, (key, value)) in pairs.iter().enumerate() {
                    if index > 0 {
                        writer.word(" ");
                    }
                    writer.string(key)?;
                    writer.word(" ");
                    match value {
                        Some(value) => writer.string(value)?,
                        None => writer.word("NIL"),
                    }
                }
                writer.word(")");
            }
            Command::Login { user, password } => {
                writer.word("LOGIN ");
                writer.string(user)?;
                writer.word(" ");
                writer.string(password.expose())?;
            }
            Command::Authenticate { mechanism, initial } => {
                if mechanism.is_empty() || !mechanism.bytes().all(super::text::is_atom_char) {
                    return Err(Unspeakable);
                }
                writer.word("AUTHENTICATE ");
                writer.word(mechanism);
                match initial.as_ref().map(Secret::expose) {
                    None => {}
                    Some(response) if response.is_empty() => writer.word(" ="),
                    Some(response) => {
                        writer.word(" ");
                        writer.octets(base64_encode(response).expose());
                    }
                }
            }
            Command::Other => return Err(Unspeakable),
        }
        Ok(writer.finish())
    }

    /// An upper bound of the octets written, so that no buffer with a secret in it is ever moved and left behind.
    fn room(&self) -> usize {
        let value = |octets: &[u8]| octets.len().saturating_mul(2).saturating_add(32);
        match self {
            Command::Login { user, password } => value(user).saturating_add(value(password.expose())),
            Command::Authenticate { mechanism, initial } => {
                value(mechanism.as_bytes()).saturating_add(initial.as_ref().map_or(0, |initial| value(initial.expose())))
            }
            _ => 0,
        }
    }
}

/// How a server takes literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literals {
    /// After its `+` (RFC 3501 section 7.5).
    Wait,
    /// LITERAL-: without waiting up to 4096 octets.
    Short,
    /// LITERAL+: without waiting.
    AtOnce,
}

/// A spelled command: the first piece is sent at once, each further one when the server has said `+`. The last piece ends
/// in CRLF.
pub type Pieces = Vec<Secret<Vec<u8>>>;

/// A value that IMAP cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unspeakable;

/// The value as a client quotes it; `None` where it must be a literal. Long values are no matter of characters: with every
/// octet escaped they would make lines longer than the 8192 octets that servers take (RFC 7162 section 4).
pub fn quotable(value: &[u8]) -> Option<Quotable<'_>> {
    Quotable::new(value).filter(|_| value.len() <= 1024)
}

struct Writer {
    literals: Literals,
    done: Pieces,
    piece: Vec<u8>,
    room: usize,
}

impl Writer {
    fn new(tag: &str, literals: Literals, room: usize) -> Self {
        let room = room.saturating_add(tag.len()).saturating_add(64);
        let mut writer = Writer { literals, done: Vec::new(), piece: Vec::with_capacity(room), room };
        writer.word(tag);
        writer.word(" ");
        writer
    }

    fn word(&mut self, word: &str) {
        self.octets(word.as_bytes());
    }

    fn octets(&mut self, octets: &[u8]) {
        self.piece.extend_from_slice(octets);
    }

    fn string(&mut self, value: &[u8]) -> Result<(), Unspeakable> {
        if let Some(quotable) = quotable(value) {
            quotable.write(&mut self.piece);
            return Ok(());
        }
        let literal = Literal::new(value).ok_or(Unspeakable)?;
        let waits = match self.literals {
            Literals::Wait => true,
            Literals::Short => value.len() > 4096,
            Literals::AtOnce => false,
        };
        literal.announce(waits, &mut self.piece);
        if waits {
            let next = Vec::with_capacity(self.room);
            self.done.push(Secret::new(std::mem::replace(&mut self.piece, next)));
        }
        self.octets(literal.octets());
        Ok(())
    }

    fn finish(mut self) -> Pieces {
        self.word("\r\n");
        self.done.push(Secret::new(std::mem::take(&mut self.piece)));
        std::mem::take(&mut self.done)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.piece);
    }
}

/// The argument of ID. Spaces inside the parentheses may be doubled: Dovecot 2.3 as a proxy writes `( "name"`.
fn read_pairs(text: &mut Cursor<'_>) -> Result<Vec<Pair>, Malformed> {
    let mut pairs = Vec::new();
    if !text.take(b'(') {
        return match text.nstring() {
            Ok(None) => Ok(pairs),
            _ => Err(Malformed("Invalid ID parameters: a list or NIL was expected.")),
        };
    }
    let spaces = |text: &mut Cursor<'_>| text.run(|octet| octet == b' ').is_some();
    spaces(text);
    while !text.take(b')') {
        if pairs.len() >= LIST_ITEMS_MAX / 2 {
            return Err(Malformed("Invalid ID parameters: too many."));
        }
        let key = text.string()?;
        if !spaces(text) {
            return Err(Malformed("Invalid ID parameters: a name without a value."));
        }
        let value = text.nstring()?;
        if key.len() > KEY_MAX || value.as_ref().is_some_and(|value| value.len() > VALUE_MAX) {
            return Err(Malformed("Invalid ID parameters: a name or value is too long."));
        }
        pairs.push((key, value));
        if !spaces(text) && text.peek() != Some(b')') {
            return Err(Malformed("Invalid ID parameters: the list is malformed."));
        }
    }
    Ok(pairs)
}

/// The initial response of AUTHENTICATE, if there is one.
fn read_initial(text: &mut Cursor<'_>) -> Result<Option<Secret<Vec<u8>>>, Malformed> {
    if text.is_end() {
        return Ok(None);
    }
    text.space()?;
    let said = text.run(|octet| octet != b' ').unwrap_or_default();
    match said {
        b"=" => Ok(Some(Secret::new(Vec::new()))),
        b"" => Err(Malformed("An initial response was expected.")),
        _ => base64_decode(said).map(Some).ok_or(Malformed("Invalid base64 data in initial response.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A command as text, secrets and all.
    fn shown(command: &Command) -> String {
        let text = |octets: &[u8]| octets.escape_ascii().to_string();
        match command {
            Command::Login { user, password } => format!("login {} {}", text(user), text(password.expose())),
            Command::Authenticate { mechanism, initial } => {
                format!("authenticate {mechanism} {:?}", initial.as_ref().map(|initial| text(initial.expose())))
            }
            Command::Id(pairs) => {
                format!("id {:?}", pairs.iter().map(|(k, v)| (text(k), v.as_deref().map(text))).collect::<Vec<_>>())
            }
            other => format!("{other:?}").to_ascii_lowercase(),
        }
    }

    fn check(command: &str, expected: &str) {
        let read = Command::read(command.as_bytes());
        assert_eq!(read.as_ref().map_or_else(|_| "malformed".to_owned(), shown), expected, "{command:?}");
    }

    #[test]
    fn commands_are_read() {
        check("a CAPABILITY\r\n", "capability");
        check("a noop\r\n", "noop");
        check("a Logout\r\n", "logout");
        check("a STARTTLS\r\n", "starttls");
        check("a LOGIN joe secret\r\n", "login joe secret");
        check("a LOGIN {3}\r\njoe \"se\\\"cret\"\r\n", "login joe se\\\"cret");
        check("a LOGIN \"\" {2+}\r\n\r\n\r\n", "login  \\r\\n");
        check("a AUTHENTICATE plain\r\n", "authenticate PLAIN None");
        check("a AUTHENTICATE PLAIN =\r\n", "authenticate PLAIN Some(\"\")");
        check("a AUTHENTICATE PLAIN AGEAYg==\r\n", "authenticate PLAIN Some(\"\\\\x00a\\\\x00b\")");
        check("a ID NIL\r\n", "id []");
        check("a ID ()\r\n", "id []");
        check("a ID ( \"a\"  nil \"b\" {1}\r\nc )\r\n", "id [(\"a\", None), (\"b\", Some(\"c\"))]");
        check("a SELECT INBOX\r\n", "other");
        check("a \r\n", "other");
    }

    #[test]
    fn broken_commands_are_told_apart_from_unknown_ones() {
        for command in [
            "",
            "a\r\n",
            "a NOOP \r\n",
            "a NOOP x\r\n",
            "a STARTTLS now\r\n",
            "a LOGIN joe\r\n",
            "a LOGIN joe  secret\r\n",
            "a LOGIN joe secret x\r\n",
            "a LOGIN joe \"secret\r\n",
            "a LOGIN joe \"se\0cret\"\r\n",
            "a LOGIN (joe) secret\r\n",
            "a AUTHENTICATE\r\n",
            "a AUTHENTICATE {5}\r\nPLAIN\r\n",
            "a AUTHENTICATE PLAIN \r\n",
            "a AUTHENTICATE PLAIN AGEAYg=\r\n",
            "a AUTHENTICATE PLAIN AGEAYg== x\r\n",
            "a ID\r\n",
            "a ID \"a\"\r\n",
            "a ID (\"a\")\r\n",
            "a ID (\"a\" \"b\"\r\n",
            "a ID ((\"a\" \"b\"))\r\n",
            "a ID (\"a\" (\"b\"))\r\n",
            "a ID (\"a\" \"b\"\"c\" \"d\")\r\n",
            "a ID (a b)\r\n",
        ] {
            check(command, "malformed");
        }
    }

    #[test]
    fn id_has_its_limits() {
        let id = |pairs: usize, key: usize, value: usize| {
            let pair = format!("\"{}\" \"{}\" ", "k".repeat(key), "v".repeat(value));
            Command::read(format!("a ID ({})\r\n", pair.repeat(pairs)).as_bytes()).is_ok()
        };
        assert!(id(64, 1, 1) && !id(65, 1, 1));
        assert!(id(1, 30, 1) && !id(1, 31, 1));
        assert!(id(1, 1, 1024) && !id(1, 1, 1025));
    }

    #[test]
    fn only_a_tag_that_may_be_echoed_is_a_tag() {
        let tag = |command: &[u8]| Tag::of(command).map(|tag| tag.to_string());
        assert_eq!(tag(b"a.1] NOOP\r\n").as_deref(), Some("a.1]"));
        assert_eq!(tag(b"a\r\n").as_deref(), Some("a"));
        assert_eq!(tag(&[b'a'; 64]).map(|tag| tag.len()), Some(64));
        for command in
            [&[b'a'; 65][..], b"a+ NOOP", b" NOOP", b"", b"\xff NOOP", b"a\0 NOOP", b"%n NOOP", b"(a NOOP", b"* NOOP", b"a{ NOOP"]
        {
            assert_eq!(tag(command), None, "{}", command.escape_ascii());
        }
    }

    #[test]
    fn a_literal_waits_unless_the_server_does_not_ask_for_it() {
        let written = |password: &[u8], literals| {
            let command = Command::Login { user: b"joe".to_vec(), password: Secret::new(password.to_vec()) };
            let pieces = command.write("L", literals).expect("speakable");
            pieces.iter().map(|piece| piece.expose().escape_ascii().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(written(b"a\"b", Literals::Wait), [r#"L LOGIN \"joe\" \"a\\\"b\"\r\n"#]);
        assert_eq!(written(b"\xe4", Literals::Wait), [r#"L LOGIN \"joe\" {1}\r\n"#, r"\xe4\r\n"]);
        assert_eq!(written(&[b'"'; 1024], Literals::Wait).len(), 1);
        assert_eq!(written(&[b'a'; 1025], Literals::Wait).len(), 2);
        assert_eq!(written(b"\xe4", Literals::AtOnce), [r#"L LOGIN \"joe\" {1+}\r\n\xe4\r\n"#]);
        assert_eq!(written(b"\xe4", Literals::Short).len(), 1);
        assert_eq!(written(&[0xe4; 4097], Literals::Short).len(), 2);
    }

    #[test]
    fn what_cannot_be_said_is_not_written() {
        let nul = Command::Login { user: b"joe".to_vec(), password: Secret::new(b"a\0b".to_vec()) };
        assert_eq!(nul.write("L", Literals::AtOnce).err(), Some(Unspeakable));
        let mechanism = Command::Authenticate { mechanism: "PLAIN x".into(), initial: None };
        assert_eq!(mechanism.write("L", Literals::AtOnce).err(), Some(Unspeakable));
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let octets = || proptest::collection::vec(1u8.., 0..40);
        prop_oneof![
            Just(()).prop_map(|()| Command::Capability),
            Just(()).prop_map(|()| Command::StartTls),
            (octets(), octets()).prop_map(|(user, password)| Command::Login { user, password: Secret::new(password) }),
            ("[A-Z0-9-]{1,20}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)))
                .prop_map(|(mechanism, initial)| Command::Authenticate { mechanism, initial: initial.map(Secret::new) }),
            proptest::collection::vec((proptest::collection::vec(1u8.., 0..30), proptest::option::of(octets())), 0..8)
                .prop_map(Command::Id),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(command in any_command(), literals in 0..3) {
            let literals = [Literals::Wait, Literals::Short, Literals::AtOnce][usize::try_from(literals).unwrap()];
            let pieces = command.write("t1", literals).expect("speakable");
            let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.expose().clone()).collect();
            let read = Command::read(&whole).expect("readable");
            prop_assert_eq!(shown(&read), shown(&command));
        }

        #[test]
        fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Command::read(&octets);
            let _ = Command::read(&[b"a ID (".as_slice(), &octets].concat());
            let _ = Command::read(&[b"a LOGIN ".as_slice(), &octets].concat());
        }
    }
}
