//! How ManageSieve spells a value: quoted string or literal (RFC 5804 sections 1.2 and 4), read and written.
//!
//! Reading has two stages. [`look`] looks at one line and says how it ends: a literal stands at the end of its line, outside of
//! every quoted string, and its octets follow. [`Cursor`] reads a piece of which the border is known already.
//!
//! A client writes `{n+}` and a server `{n}`, and nobody waits for anything in between. As Pigeonhole does, `{n}` is taken from
//! clients, too: whoever writes it sends the octets at once, and octets that follow must never be read as commands.
//!
//! Reading is more lenient than the grammar in one thing: arguments may be apart by more than one blank. A quoted string holds
//! no NUL, and no line end; whether it is UTF-8 is for those who use it.

use crate::line::{Found, LineScan};
use bytes::BufMut;

/// The most octets between the quotes of a quoted string, as it is written (RFC 5804 section 4).
pub const QUOTED_MAX: usize = 1024;

/// What is wrong with a piece of text, in words for the other side. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// What can be seen of a line without knowing what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What its end announces.
    pub announced: Option<Announced>,
    /// The longest quoted string in it, in octets between the quotes; one that does not end counts as well.
    pub longest_quoted: usize,
}

/// What the end of a line announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// So many octets follow the CRLF; [`u64::MAX`] where the number is too big to hold, which is over every cap.
    Literal(u64),
    /// It ends like a literal, but the number is none: nobody can tell where the octets end that are on their way.
    Nonsense,
}

/// Looks at a line, given without CRLF.
pub fn look(line: &[u8]) -> Look {
    let (mut quoted_from, mut escaped, mut longest_quoted, mut open) = (None, false, 0, None);
    for (at, octet) in line.iter().enumerate() {
        match (quoted_from, octet) {
            (None, b'"') => quoted_from = Some(at.saturating_add(1)),
            (None, b'{') => open = Some(at),
            (None, _) => {}
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(from), b'"') => {
                longest_quoted = longest_quoted.max(at.saturating_sub(from));
                quoted_from = None;
            }
            (Some(_), _) => {}
        }
    }
    if let Some(from) = quoted_from {
        longest_quoted = longest_quoted.max(line.len().saturating_sub(from));
        return Look { announced: None, longest_quoted };
    }
    let inside = open.and_then(|open: usize| line.get(open.saturating_add(1)..)?.strip_suffix(b"}"));
    Look { announced: inside.map(size), longest_quoted }
}

/// What stands between the braces.
fn size(inside: &[u8]) -> Announced {
    let digits = inside.strip_suffix(b"+").unwrap_or(inside);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Announced::Nonsense;
    }
    let octets = digits.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))));
    Announced::Literal(octets.unwrap_or(u64::MAX))
}

/// Reads a piece of text from left to right.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning.
    pub fn new(text: &'a [u8]) -> Self {
        Cursor { rest: text }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next octet, which stays where it is.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Reads this octet if it is the next one.
    pub fn take(&mut self, octet: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == octet => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads octets of one kind, as many as there are.
    pub fn run(&mut self, is_kind: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|octet| !is_kind(*octet)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        run
    }

    /// Reads blanks. Whether there is anything behind them; it must not touch what stands before.
    ///
    /// # Errors
    /// Something follows without a blank.
    pub fn more(&mut self) -> Result<bool, Malformed> {
        let blanks = self.run(|octet| octet == b' ').len();
        match self.peek() {
            None => Ok(false),
            Some(_) if blanks > 0 => Ok(true),
            Some(_) => Err(Malformed("Arguments are separated by spaces.")),
        }
    }

    /// Nothing but blanks may follow.
    ///
    /// # Errors
    /// Something else does.
    pub fn end(&mut self) -> Result<(), Malformed> {
        if self.more()? { Err(Malformed("Too many arguments.")) } else { Ok(()) }
    }

    /// Reads a quoted string or a literal. The copy that is returned is the only one made.
    ///
    /// # Errors
    /// There is none.
    pub fn string(&mut self) -> Result<Vec<u8>, Malformed> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(<[u8]>::to_vec),
            _ => Err(Malformed("A quoted string or literal was expected.")),
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Malformed> {
        // Where it ends is found first, so that a half-read password is never left behind in a dropped buffer.
        let length = quoted_length(self.rest)?;
        let (quoted, rest) = self.rest.split_at_checked(length).ok_or(UNCLOSED)?;
        let inside = quoted.get(1..length.saturating_sub(1)).unwrap_or_default();
        let mut value = Vec::with_capacity(inside.len());
        let mut escaped = false;
        for octet in inside {
            escaped = *octet == b'\\' && !escaped;
            if !escaped {
                value.push(*octet);
            }
        }
        self.rest = rest;
        Ok(value)
    }

    fn literal(&mut self) -> Result<&'a [u8], Malformed> {
        let broken = Malformed("Malformed literal.");
        let Found::Line(line) = LineScan::new().find(self.rest, self.rest.len()) else { return Err(broken) };
        let (head, tail) = self.rest.split_at_checked(line).ok_or(broken)?;
        // The border was found by the same reading of the same line.
        let inside = head.strip_prefix(b"{").and_then(|head| head.strip_suffix(b"}")).ok_or(broken)?;
        let Announced::Literal(octets) = size(inside) else { return Err(broken) };
        let octets = usize::try_from(octets).map_err(|_| broken)?;
        let (value, rest) = tail.get(2..).and_then(|tail| tail.split_at_checked(octets)).ok_or(broken)?;
        self.rest = rest;
        Ok(value)
    }
}

const UNCLOSED: Malformed = Malformed("A quoted string does not end.");

/// The octets of the quoted string at the start, quotes included.
fn quoted_length(text: &[u8]) -> Result<usize, Malformed> {
    let mut escaped = false;
    for (at, octet) in text.iter().enumerate().skip(1) {
        match octet {
            0 | b'\r' | b'\n' => return Err(Malformed("A quoted string holds NUL, CR or LF.")),
            b'"' | b'\\' if escaped => escaped = false,
            _ if escaped => return Err(Malformed("Only quotes and backslashes are escaped.")),
            b'\\' => escaped = true,
            b'"' => return Ok(at.saturating_add(1)),
            _ => {}
        }
    }
    Err(UNCLOSED)
}

/// Whether an atom may hold it: any printable ASCII but blanks, quotes, backslashes, parentheses and opening braces.
pub fn is_atom_char(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'(' | b')' | b'{' | b'"' | b'\\')
}

/// Writes a value as a client says it: as a quoted string where that can hold it, as a literal else.
pub fn write_string(value: &[u8], out: &mut impl BufMut) {
    let escapes = value.iter().filter(|octet| matches!(octet, b'"' | b'\\')).count();
    let speakable = std::str::from_utf8(value).is_ok() && !value.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'));
    if speakable && value.len().saturating_add(escapes) <= QUOTED_MAX {
        write_quoted(value, out);
    } else {
        out.put_slice(format!("{{{}+}}\r\n", value.len()).as_bytes());
        out.put_slice(value);
    }
}

/// Writes a quoted string. The value must have no line end and no NUL: what comes from elsewhere is made fit before.
pub(super) fn write_quoted(value: &[u8], out: &mut impl BufMut) {
    out.put_u8(b'"');
    for octet in value {
        if matches!(octet, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*octet);
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_say_how_they_end() {
        use Announced::{Literal, Nonsense};
        for (line, announced, longest_quoted) in [
            ("", None, 0),
            ("NOOP", None, 0),
            ("NOOP \"ab\"", None, 2),
            ("NOOP {5}", Some(Literal(5)), 0),
            ("NOOP {5+}", Some(Literal(5)), 0),
            ("X \"abc\"{5+}", Some(Literal(5)), 3),
            ("X{5+}", Some(Literal(5)), 0),
            ("{0}", Some(Literal(0)), 0),
            ("{007}", Some(Literal(7)), 0),
            ("{4294967296}", Some(Literal(4_294_967_296)), 0),
            ("{18446744073709551615+}", Some(Literal(u64::MAX)), 0),
            ("{99999999999999999999999+}", Some(Literal(u64::MAX)), 0),
            ("{}", Some(Nonsense), 0),
            ("{+}", Some(Nonsense), 0),
            ("{-1}", Some(Nonsense), 0),
            ("{5+ }", Some(Nonsense), 0),
            ("{5-}", Some(Nonsense), 0),
            ("{a{5}", Some(Literal(5)), 0),
            ("{5} ", None, 0),
            ("5}", None, 0),
            ("{5", None, 0),
            // In words for people braces mean nothing.
            ("NO \"{5}", None, 3),
            ("NO \"{5}\"", None, 3),
            ("NO \"a\\\"\" {5}", Some(Literal(5)), 3),
            ("NO \"a\\\\\" {5}", Some(Literal(5)), 3),
            ("NO \"a\\\" {5}", None, 7),
            ("{ \"a\" {5}", Some(Literal(5)), 1),
            ("{ \"a\" 5}", Some(Nonsense), 1),
            ("\"a\" \"abcd\" \"ab\"", None, 4),
        ] {
            assert_eq!(look(line.as_bytes()), Look { announced, longest_quoted }, "{line}");
        }
    }

    #[test]
    fn strings_are_read() {
        for (text, expected) in [
            (&br#""a \"b\\c" x"#[..], Some((&br#"a "b\c"#[..], &b" x"[..]))),
            (b"\"\"", Some((b"", b""))),
            (b"\"\xc3\xa4\t\x01\"", Some((b"\xc3\xa4\t\x01", b""))),
            (b"{3}\r\na\r\n x", Some((b"a\r\n", b" x"))),
            (b"{3+}\r\nabc", Some((b"abc", b""))),
            (b"{0}\r\n", Some((b"", b""))),
            (b"{1}\r\n\0", Some((b"\0", b""))),
            (b"{4}\r\nabc", None),
            (b"{3}x\r\nabc", None),
            (b"{9999999999999999999999}\r\nabc", None),
            (br#""a\b""#, None),
            (b"\"a", None),
            (b"\"a\\\"", None),
            (b"\"a\0\"", None),
            (b"\"a\r\n\"", None),
            (b"atom", None),
            (b"", None),
            (b" \"a\"", None),
        ] {
            let mut cursor = Cursor::new(text);
            let read = cursor.string().ok();
            assert_eq!(read.as_deref(), expected.map(|(value, _)| value), "{}", text.escape_ascii());
            if let Some((_, rest)) = expected {
                assert_eq!(cursor.rest(), rest);
            }
        }
    }

    #[test]
    fn long_values_are_literals() {
        for (value, starts) in [
            ("a".repeat(1024), "\"aaa"),
            ("a".repeat(1025), "{1025+}\r\naaa"),
            ("\"".repeat(512), "\"\\\""),
            ("\"".repeat(513), "{513+}\r\n\"\""),
            ("a\r\n".into(), "{3+}\r\na"),
            ("\0".into(), "{1+}\r\n\0"),
            (String::new(), "\"\""),
        ] {
            let mut out = Vec::new();
            write_string(value.as_bytes(), &mut out);
            assert!(out.starts_with(starts.as_bytes()), "{}", out.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_ends_where_it_says(value in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let mut out = Vec::new();
            write_string(&value, &mut out);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.string().unwrap(), value.clone());
            prop_assert!(cursor.rest().is_empty());
            let line = out.split(|octet| *octet == b'\n').next().unwrap();
            match look(line.strip_suffix(b"\r").unwrap_or(line)) {
                Look { announced: Some(Announced::Literal(octets)), .. } => prop_assert_eq!(octets, value.len() as u64),
                Look { announced, longest_quoted } => {
                    prop_assert_eq!(announced, None);
                    prop_assert!(longest_quoted <= QUOTED_MAX && out.len() == longest_quoted + 2);
                }
            }
        }

        #[test]
        fn nothing_panics(text in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'),
                Just(b'+'), Just(b'3'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..40)) {
            let _ = look(&text);
            let _ = Cursor::new(&text).string();
        }
    }
}
