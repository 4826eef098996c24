//! One field of a header (RFC 5322 section 2.2), as it stands there.
//!
//! A [`Field`] keeps its octets: case of the name, folding, line ends, and whatever its value may be. Lines end with LF, with or
//! without a CR before it; a CR alone is an octet like others. Its name is printable ASCII up to the first colon, blanks before
//! the colon allowed (section 4.5.8), and never folded.
//!
//! What was parsed may be anything; what is *made* here ([`Field::new`]) is strict, because somebody downstream will parse it.

use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;

/// A field with its line end, which only the last field of a letter without a body may lack.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    raw: Bytes,
    /// How long the name is, at the start of `raw`.
    name: usize,
    /// Where the value begins: behind the colon.
    value: usize,
}

/// Why no field could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAField {
    /// The name is empty, or holds something else than printable ASCII without the colon.
    Name,
    /// The value holds a control character, a line break that is no folding, or a line of nothing but blanks.
    Value,
    /// A line would be longer than [`LINE_MAX`].
    TooLong,
}

impl fmt::Display for NotAField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotAField::Name => "this is no name of a header field",
            NotAField::Value => "the value of a header field has a character or a line break that it may not have",
            NotAField::TooLong => "a line of a header field is longer than 998 octets",
        })
    }
}

impl std::error::Error for NotAField {}

/// The longest line that may be made, in octets, without its CRLF (RFC 5322 section 2.1.1).
pub const LINE_MAX: usize = 998;

impl Field {
    /// Makes a field. The value may be folded: CRLF and a blank or a tab. A blank is put between colon and value.
    ///
    /// # Errors
    /// [`NotAField`] for what would not be read back as this one field.
    pub fn new(name: &str, value: &str) -> Result<Field, NotAField> {
        if !is_name(name.as_bytes()) {
            return Err(NotAField::Name);
        }
        let text = format!("{name}: {value}");
        let mut lines = text.split("\r\n");
        // The first line has the name. A line of blanks, should something strip them, would end the header.
        let fine = lines.next().is_some_and(is_text)
            && lines.all(|line| line.starts_with([' ', '\t']) && is_text(line) && !line.trim_matches([' ', '\t']).is_empty());
        if !fine {
            return Err(NotAField::Value);
        }
        if text.split("\r\n").any(|line| line.len() > LINE_MAX) {
            return Err(NotAField::TooLong);
        }
        Ok(Field::composed(name, value))
    }

    /// Puts a field together whose parts are known to be right.
    pub(crate) fn composed(name: &str, value: &str) -> Field {
        Field { name: name.len(), value: name.len() + 1, raw: format!("{name}: {value}\r\n").into() }
    }

    /// Takes the lines of one field, where they are some.
    pub(crate) fn parse(raw: Bytes) -> Option<Field> {
        let line = raw.split(|octet| *octet == b'\n').next()?;
        let colon = memchr::memchr(b':', line)?;
        let name = trimmed_end(line.get(..colon)?);
        let name = is_name(name).then_some(name.len())?;
        Some(Field { raw, name, value: colon + 1 })
    }

    /// The name, in the case in which it stands there.
    pub fn name(&self) -> &str {
        // It is ASCII: that was seen when it became a field.
        self.raw.get(..self.name).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// It has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }

    /// All of it, with folding and line ends.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// What stands behind the colon on one line (RFC 5322 section 2.2.3): line ends are gone, and blanks around it; those in it
    /// stay, also where it was folded. Any octets but LF.
    pub fn value(&self) -> Cow<'_, [u8]> {
        let value = self.raw.get(self.value..).unwrap_or_default();
        if memchr::memchr(b'\n', value).is_none_or(|at| at + 1 == value.len()) {
            return Cow::Borrowed(trimmed(without_line_end(value)));
        }
        let mut unfolded = Vec::with_capacity(value.len());
        for line in value.split_inclusive(|octet| *octet == b'\n') {
            unfolded.extend_from_slice(without_line_end(line));
        }
        Cow::Owned(trimmed(&unfolded).to_vec())
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field({:?})", self.raw)
    }
}

/// Printable ASCII without the colon (RFC 5322 section 2.2).
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':')
}

fn is_text(line: &str) -> bool {
    !line.chars().any(|c| c.is_control() && c != '\t')
}

fn without_line_end(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}

fn is_blank(octet: &u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn trimmed_end(mut octets: &[u8]) -> &[u8] {
    while let Some((_, rest)) = octets.split_last().filter(|(last, _)| is_blank(last)) {
        octets = rest;
    }
    octets
}

fn trimmed(mut octets: &[u8]) -> &[u8] {
    while let Some((_, rest)) = octets.split_first().filter(|(first, _)| is_blank(first)) {
        octets = rest;
    }
    trimmed_end(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_a_field_is_kept_as_it_is() {
        for (raw, name, value) in [
            ("Subject: hello\r\n", "Subject", "hello"),
            ("subject:hello", "subject", "hello"),
            ("X-Odd \t: \t a  b \t\n", "X-Odd", "a  b"),
            ("Empty:\r\n", "Empty", ""),
            ("Empty:", "Empty", ""),
            ("A:b:c\r\n", "A", "b:c"),
            ("To: a@example,\r\n\tb@example,\n  c@example\r\n", "To", "a@example,\tb@example,  c@example"),
            ("To:\r\n a\r\n", "To", "a"),
            ("To: a\r\n \r\n\t\r\n", "To", "a"),
            ("Bare: a\rb\r\r\n", "Bare", "a\rb\r"),
            ("!#$%&'*+-./?@[\\]^_`{|}~: x\n", "!#$%&'*+-./?@[\\]^_`{|}~", "x"),
            ("Nul: \0\n", "Nul", "\0"),
        ] {
            let field = Field::parse(Bytes::from(raw)).unwrap();
            assert_eq!((field.name(), &*field.value(), &field.raw()[..]), (name, value.as_bytes(), raw.as_bytes()), "{raw:?}");
        }
        for raw in [
            "",
            "\r\n",
            ":x\r\n",
            " : x\n",
            "Subject\r\n",
            "Subject\r\n : x\r\n",
            "From joe Mon 12:00\n",
            "N\u{e4}me: x\n",
            "a\0: x\n",
        ] {
            assert_eq!(Field::parse(Bytes::from(raw)), None, "{raw:?}");
        }
    }

    #[test]
    fn names_count_in_any_case() {
        let field = Field::parse(Bytes::from("rEceived : x\r\n")).unwrap();
        assert!(field.is("Received") && field.is("RECEIVED") && !field.is("Receive") && !field.is("Received "));
        assert_eq!(format!("{field:?}"), "Field(b\"rEceived : x\\r\\n\")");
    }

    #[test]
    fn what_is_made_is_a_field() {
        let field = Field::new("X-Example", "one\r\n\ttwo\r\n three").unwrap();
        assert_eq!(&field.raw()[..], b"X-Example: one\r\n\ttwo\r\n three\r\n");
        assert_eq!((field.name(), &*field.value()), ("X-Example", &b"one\ttwo three"[..]));
        assert_eq!(&Field::new("X", "").unwrap().raw()[..], b"X: \r\n");
        assert_eq!(&*Field::new("X", "Gr\u{fc}\u{df}e").unwrap().value(), "Gr\u{fc}\u{df}e".as_bytes());
        for name in ["", "a b", "a:", "a\r\nb", "n\u{e4}me", "a\t", "\0"] {
            assert_eq!(Field::new(name, "x"), Err(NotAField::Name), "{name:?}");
        }
        for value in
            ["a\r\nBcc: b", "a\r\n", "a\r\n\r\n b", "a\r\n \t\r\n b", "a\nb", "a\n b", "a\rb", "a\r", "\0", "\u{7f}", "\u{85}"]
        {
            assert_eq!(Field::new("X", value), Err(NotAField::Value), "{value:?}");
        }
        assert!(Field::new("X", &"a".repeat(LINE_MAX - 3)).is_ok());
        assert_eq!(Field::new("X", &"a".repeat(LINE_MAX - 2)), Err(NotAField::TooLong));
        assert!(Field::new("X", &format!("a\r\n {}", "b".repeat(LINE_MAX - 1))).is_ok());
        assert_eq!(Field::new("X", &format!("a\r\n {}", "b".repeat(LINE_MAX))), Err(NotAField::TooLong));
        assert!(NotAField::TooLong.to_string().contains(&LINE_MAX.to_string()));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(name in "[!-9;-~]{1,20}", value in "([a-z \\t:\u{e9}]|\\r\\n[ \\t]|[\\r\\n\\x00]){0,20}") {
            if let Ok(field) = Field::new(&name, &value) {
                prop_assert_eq!(Field::parse(field.raw().clone()), Some(field.clone()));
                prop_assert_eq!(field.name(), name);
                let unfolded = value.replace("\r\n", "");
                prop_assert_eq!(field.value(), unfolded.trim_matches([' ', '\t']).as_bytes());
            }
        }

        #[test]
        fn parsing_never_panics(raw in any::<Vec<u8>>()) {
            if let Some(field) = Field::parse(raw.clone().into()) {
                prop_assert!(is_name(field.name().as_bytes()) && raw.starts_with(field.name().as_bytes()));
                prop_assert!(!field.value().contains(&b'\n'));
                prop_assert_eq!(&field.raw()[..], &raw[..]);
            }
        }
    }
}
