//! How IMAP spells a value: atom, quoted string, literal (RFC 3501 section 4, RFC 7888), read and written.
//!
//! Reading works on a piece of which the end is already known (see [`super::border`]), through a [`Cursor`]. Writing goes
//! through [`Quotable`] and [`Literal`], which can only be made of octets that this spelling can carry: a value with CR or
//! LF cannot end up in a quoted string, and one with NUL in neither (RFC 3501 section 9, CHAR8).
//!
//! Reading is as strict as RFC 3501 with two exceptions that real clients and proxies need: unquoted arguments may hold
//! `%`, `*` and `\` (people type `DOMAIN\user`, and Dovecot takes it), and quoted strings may hold 8-bit octets, as in
//! UTF8=ACCEPT (RFC 6855) and IMAP4rev2.

use crate::line::{Found, LineScan};
use bytes::{BufMut, BytesMut};

/// What is wrong with a piece of text, in words for the other side. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

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

    /// Whether everything has been read.
    pub fn is_end(&self) -> bool {
        self.rest.is_empty()
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

    /// Reads the single space between two arguments.
    pub fn space(&mut self) -> Result<(), Malformed> {
        if self.take(b' ') { Ok(()) } else { Err(Malformed("Arguments are separated by single spaces.")) }
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.is_end() { Ok(()) } else { Err(Malformed("Unexpected text at the end of the command.")) }
    }

    /// Reads octets of one kind, as many as there are; `None` where there is not a single one.
    pub fn run(&mut self, is_kind: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        let length = self.rest.iter().position(|octet| !is_kind(*octet)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        (!run.is_empty()).then_some(run)
    }

    /// Reads an atom.
    pub fn atom(&mut self) -> Result<&'a [u8], Malformed> {
        self.run(is_atom_char).ok_or(Malformed("An atom was expected."))
    }

    /// Reads an atom, a quoted string or a literal. The copy that is returned is the only one made.
    pub fn astring(&mut self) -> Result<Vec<u8>, Malformed> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => self.run(is_argument_char).map(<[u8]>::to_vec).ok_or(Malformed("An argument is missing or malformed.")),
        }
    }

    /// Reads a quoted string or a literal.
    pub fn string(&mut self) -> Result<Vec<u8>, Malformed> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(<[u8]>::to_vec),
            _ => Err(Malformed("A quoted string or literal was expected.")),
        }
    }

    /// Reads a quoted string, a literal, or NIL (`None`).
    pub fn nstring(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        match self.peek() {
            Some(b'"' | b'{') => self.string().map(Some),
            _ if self.run(is_atom_char).is_some_and(|atom| atom.eq_ignore_ascii_case(b"NIL")) => Ok(None),
            _ => Err(Malformed("A quoted string, a literal or NIL was expected.")),
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
        let Some(Announced::Literal { octets, .. }) = announced(head) else { return Err(broken) };
        // The border was found by the same reading of the same line; a head with anything in front of the brace is another
        // value's business.
        if memchr::memrchr(b'{', head) != Some(0) {
            return Err(broken);
        }
        let octets = usize::try_from(octets).map_err(|_| broken)?;
        let (value, rest) = tail.get(2..).and_then(|tail| tail.split_at_checked(octets)).ok_or(broken)?;
        self.rest = rest;
        Ok(value)
    }
}

/// What the end of a line announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// So many octets follow the CRLF: `{n}`, or `{n+}` where the sender does not wait (RFC 7888). `~{n}` counts as well.
    Literal {
        /// The size; [`u64::MAX`] where the number is too big to hold, which is over every cap.
        octets: u64,
        /// The sender waits for a `+` first.
        waits: bool,
    },
    /// It ends like a literal whose octets come without waiting, but the number is none: nobody can tell where it ends.
    Nonsense,
}

/// Reads the literal announcement at the end of a line (given without CRLF); `None` where there is none.
pub fn announced(line: &[u8]) -> Option<Announced> {
    let inside = line.strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', inside)?;
    let number = inside.get(open.saturating_add(1)..)?;
    let (digits, waits) = match number.strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (number, true),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return (!waits).then_some(Announced::Nonsense);
    }
    let octets = digits.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))));
    Some(Announced::Literal { octets: octets.unwrap_or(u64::MAX), waits })
}

/// Octets that can be said in a quoted string: 7-bit, without NUL, CR and LF (RFC 3501 section 9, QUOTED-CHAR).
#[derive(Clone, Copy)]
pub struct Quotable<'a>(&'a [u8]);

impl<'a> Quotable<'a> {
    /// `None` where a quoted string cannot say it.
    pub fn new(value: &'a [u8]) -> Option<Self> {
        value.iter().all(|octet| octet.is_ascii() && !matches!(octet, 0 | b'\r' | b'\n')).then_some(Quotable(value))
    }

    /// Writes it, with the quotes.
    pub fn write(self, out: &mut impl BufMut) {
        out.put_u8(b'"');
        for octet in self.0 {
            if matches!(octet, b'"' | b'\\') {
                out.put_u8(b'\\');
            }
            out.put_u8(*octet);
        }
        out.put_u8(b'"');
    }
}

/// Octets that can be said in a literal: everything but NUL (RFC 3501 section 9, CHAR8).
///
/// That a literal *can* carry CR and LF does not mean that a user name or password may hold them: whoever writes those
/// refuses them before (see [`crate::sasl`]).
#[derive(Clone, Copy)]
pub struct Literal<'a>(&'a [u8]);

impl<'a> Literal<'a> {
    /// `None` where a literal cannot say it.
    pub fn new(value: &'a [u8]) -> Option<Self> {
        (!value.contains(&0)).then_some(Literal(value))
    }

    /// The octets that follow the announcement.
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// Writes the announcement with its CRLF: `{n}`, or `{n+}` where the octets are sent without waiting. A server always
    /// writes `{n}`: its literals are never waited for.
    pub fn announce(self, waits: bool, out: &mut impl BufMut) {
        let plus = if waits { "" } else { "+" };
        out.put_slice(format!("{{{}{plus}}}\r\n", self.0.len()).as_bytes());
    }
}

/// Writes a value as a server does in a response: NIL, quoted string or literal. `None`, and nothing written, for NUL.
pub fn write_nstring(value: Option<&[u8]>, out: &mut impl BufMut) -> Option<()> {
    match value.map(|value| Quotable::new(value).ok_or(value)) {
        None => out.put_slice(b"NIL"),
        Some(Ok(quotable)) => quotable.write(out),
        Some(Err(value)) => {
            let literal = Literal::new(value)?;
            literal.announce(true, out);
            out.put_slice(literal.octets());
        }
    }
    Some(())
}

/// Pairs as the inside of an IMAP list, for people and databases (`%{client_id}`): `"name" "Mailer" "os" NIL`. A pair that
/// quoted strings cannot hold is left out.
pub fn list(pairs: &[(Vec<u8>, Option<Vec<u8>>)]) -> String {
    let mut out = Vec::new();
    for (name, value) in pairs {
        let mut pair = BytesMut::new();
        let Some(name) = Quotable::new(name) else { continue };
        name.write(&mut pair);
        pair.put_u8(b' ');
        match value.as_deref().map(Quotable::new) {
            None => pair.put_slice(b"NIL"),
            Some(Some(value)) => value.write(&mut pair),
            Some(None) => continue,
        }
        out.push(String::from_utf8_lossy(&pair).into_owned());
    }
    out.join(" ")
}

/// ATOM-CHAR of RFC 3501 section 9.
pub fn is_atom_char(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// What a tag is made of: ASTRING-CHAR without `+` (RFC 3501 section 9).
pub fn is_tag_char(octet: u8) -> bool {
    octet != b'+' && (is_atom_char(octet) || octet == b']')
}

/// What an unquoted argument is made of: ASTRING-CHAR, and `%`, `*`, `\` (see the top of this file).
fn is_argument_char(octet: u8) -> bool {
    is_atom_char(octet) || matches!(octet, b']' | b'%' | b'*' | b'\\')
}

/// The length of the quoted string at the start, quotes included.
fn quoted_length(text: &[u8]) -> Result<usize, Malformed> {
    let mut escaped = false;
    for (offset, octet) in text.iter().enumerate().skip(1) {
        match octet {
            b'\r' | b'\n' | 0 => return Err(UNCLOSED),
            b'"' | b'\\' if escaped => escaped = false,
            _ if escaped => return Err(Malformed("A backslash in a quoted string stands only before a quote or a backslash.")),
            b'\\' => escaped = true,
            b'"' => return Ok(offset.saturating_add(1)),
            _ => {}
        }
    }
    Err(UNCLOSED)
}

const UNCLOSED: Malformed = Malformed("A quoted string is not closed.");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn announcements() {
        let literal = |octets, waits| Some(Announced::Literal { octets, waits });
        for (line, expected) in [
            ("a LOGIN {5}", literal(5, true)),
            ("a LOGIN {5+}", literal(5, false)),
            ("a X ~{5}", literal(5, true)),
            ("{0}", literal(0, true)),
            ("{007}", literal(7, true)),
            ("{4294967296}", literal(4_294_967_296, true)),
            ("{18446744073709551615}", literal(u64::MAX, true)),
            ("{18446744073709551616}", literal(u64::MAX, true)),
            ("{99999999999999999999999+}", literal(u64::MAX, false)),
            ("{}", None),
            ("{-1}", None),
            ("{ 5}", None),
            ("{5-}", None),
            ("{0x5}", None),
            ("5}", None),
            ("{5} ", None),
            ("{+}", Some(Announced::Nonsense)),
            ("{-1+}", Some(Announced::Nonsense)),
            ("{1{x+}", Some(Announced::Nonsense)),
        ] {
            assert_eq!(announced(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn arguments_are_read() {
        for (text, expected) in [
            (&b"plain rest"[..], Some((&b"plain"[..], &b" rest"[..]))),
            (br"DOM\user", Some((br"DOM\user", b""))),
            (b"p%*]x)", Some((b"p%*]x", b")"))),
            (br#""a \"b\\c" x"#, Some((br#"a "b\c"#, b" x"))),
            (b"\"\"", Some((b"", b""))),
            (b"\"\xc3\xa4\"", Some((b"\xc3\xa4", b""))),
            (b"{3}\r\na\r\n x", Some((b"a\r\n", b" x"))),
            (b"{3+}\r\nabc", Some((b"abc", b""))),
            (b"{0}\r\n", Some((b"", b""))),
            (b"{4}\r\nabc", None),
            (b"{3}x\r\nabc", None),
            (b"~{3}\r\nabc", Some((b"~", b"{3}\r\nabc"))),
            (b"{9999999999999999999999}\r\nabc", None),
            (br#""a\b""#, None),
            (b"\"a", None),
            (b"\"a\\\"", None),
            (b"\"a\0\"", None),
            (b"", None),
            (b" a", None),
            (b"(a)", None),
            (b"\xff", None),
        ] {
            let mut cursor = Cursor::new(text);
            let read = cursor.astring().ok();
            assert_eq!(read.as_deref(), expected.map(|(value, _)| value), "{}", text.escape_ascii());
            if let Some((_, rest)) = expected {
                assert_eq!(cursor.rest(), rest);
            }
        }
    }

    #[test]
    fn nil_is_not_a_string() {
        assert_eq!(Cursor::new(b"NIL").nstring(), Ok(None));
        assert_eq!(Cursor::new(b"nil)").nstring(), Ok(None));
        assert_eq!(Cursor::new(b"\"NIL\"").nstring(), Ok(Some(b"NIL".to_vec())));
        assert!(Cursor::new(b"NILS").nstring().is_err());
        assert!(Cursor::new(b"NIL").string().is_err());
    }

    proptest! {
        #[test]
        fn written_strings_read_back(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            if write_nstring(Some(&value), &mut out).is_some() {
                prop_assert_eq!(Cursor::new(&out).nstring(), Ok(Some(value)));
            } else {
                prop_assert!(value.contains(&0) && out.is_empty());
            }
        }

        #[test]
        fn a_quoted_string_is_one_line(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(quotable) = Quotable::new(&value) {
                let mut out = Vec::new();
                quotable.write(&mut out);
                prop_assert!(!out.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n' | 0x80..)));
            }
        }

        #[test]
        fn any_octets_are_survived(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Cursor::new(&text).astring();
            let _ = Cursor::new(&text).nstring();
            let _ = announced(&text);
        }
    }
}
