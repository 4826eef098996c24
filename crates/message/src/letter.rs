//! Where the header of a letter ends, and which fields it has (RFC 5322 section 2.1).
//!
//! [`Head::parse`] looks at a letter, or at as much of its beginning as a header may fill, and loses nothing: what is no field
//! (the first line of a mailbox file, a line without a colon, folding with nothing above it) is kept as a stray line where it
//! stands. The header ends at the first empty line and nowhere else, or with the letter. It takes time in proportion to the
//! header, whatever that looks like, and refuses one over the caps.
//!
//! [`Hops`] counts the same `Received` fields in a letter that arrives in pieces, and remembers none of it. A letter that has
//! been on too many servers goes round in circles (RFC 5321 section 6.3).

use crate::field::Field;
use bytes::Bytes;
use std::fmt;

/// The longest header that is looked at, in octets, its empty line included.
pub const HEAD_MAX: usize = 1024 * 1024;

/// The most fields, and stray lines, of a header.
pub const FIELDS_MAX: usize = 5000;

/// The longest field, in octets, with its name and line ends.
pub const FIELD_MAX: usize = 64 * 1024;

/// A header over one of the caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooBig {
    /// Over [`HEAD_MAX`].
    Head,
    /// Over [`FIELDS_MAX`].
    Fields,
    /// Over [`FIELD_MAX`].
    Field,
}

impl fmt::Display for TooBig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooBig::Head => write!(f, "the header is longer than {HEAD_MAX} octets"),
            TooBig::Fields => write!(f, "the header has more than {FIELDS_MAX} fields"),
            TooBig::Field => write!(f, "a header field is longer than {FIELD_MAX} octets"),
        }
    }
}

impl std::error::Error for TooBig {}

/// The header of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    raw: Bytes,
    parts: Vec<Part>,
}

/// What stands in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A field.
    Field(Field),
    /// What is none, with its line ends.
    Stray(Bytes),
}

impl Part {
    /// All of it.
    pub fn raw(&self) -> &Bytes {
        match self {
            Part::Field(field) => field.raw(),
            Part::Stray(raw) => raw,
        }
    }
}

impl Head {
    /// Parses the header of this letter. The beginning of a letter will do if it holds the whole header, or more than
    /// [`HEAD_MAX`] octets. The parts are slices of it, not copies.
    ///
    /// # Errors
    /// [`TooBig`].
    pub fn parse(letter: Bytes) -> Result<Head, TooBig> {
        let mut parts = Vec::new();
        let mut start = 0;
        let mut end = 0;
        let mut take = |from: usize, to: usize| {
            if from == to {
                return Ok(());
            }
            if to - from > FIELD_MAX {
                return Err(TooBig::Field);
            }
            if parts.len() == FIELDS_MAX {
                return Err(TooBig::Fields);
            }
            let raw = letter.slice(from..to);
            parts.push(Field::parse(raw.clone()).map_or(Part::Stray(raw), Part::Field));
            Ok(())
        };
        // Somebody may hand over a letter of one line: no more of it is looked at than may count.
        let looked_at = letter.get(..letter.len().min(HEAD_MAX + 1)).unwrap_or_default();
        for line in looked_at.split_inclusive(|octet| *octet == b'\n') {
            let ends = matches!(line, b"\n" | b"\r\n");
            if ends || !line.starts_with(b" ") && !line.starts_with(b"\t") {
                take(start, end)?;
                start = end;
            }
            end += line.len();
            if end > HEAD_MAX {
                return Err(TooBig::Head);
            }
            if ends {
                return Ok(Head { raw: letter.slice(..end), parts });
            }
        }
        take(start, end)?;
        Ok(Head { raw: letter.slice(..end), parts })
    }

    /// The header as it came, its empty line included where it has one.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Where the body begins, in octets from the start of the letter.
    pub fn body_at(&self) -> usize {
        self.raw.len()
    }

    /// What stands in it, from top to bottom. One after the other they are [`Head::raw`] without the empty line.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The empty line; has no octets where the letter ends with its header.
    pub fn empty_line(&self) -> Bytes {
        let parts = self.parts.iter().map(|part| part.raw().len()).sum::<usize>();
        self.raw.slice(parts.min(self.raw.len())..)
    }

    /// The fields, from top to bottom.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = &Field> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(field) => Some(field),
            Part::Stray(_) => None,
        })
    }
}

/// Counts the `Received` fields of a letter that arrives in pieces, as [`Head::parse`] would find them, with a memory of a few
/// octets. It has no caps: a header of any size has so many hops.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hops {
    received: usize,
    at: At,
}

/// Where in a letter the next octet stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// At the start of a line.
    #[default]
    Start,
    /// Behind a CR that began a line.
    EmptyLine,
    /// In the name, of which so many octets are those of `Received`.
    Name(usize),
    /// In the blanks behind that name.
    BehindName,
    /// In a line that is known not to count, or has counted.
    Line,
    /// Behind the header.
    Body,
}

const RECEIVED: &[u8] = b"received";

impl Hops {
    /// The next piece, of any size.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while self.at != At::Body {
            if self.at == At::Line {
                let Some(end) = memchr::memchr(b'\n', rest) else { return };
                rest = rest.get(end + 1..).unwrap_or_default();
                self.at = At::Start;
            }
            let Some((octet, behind)) = rest.split_first() else { return };
            rest = behind;
            self.at = self.step(*octet);
        }
    }

    /// How many there are so far.
    pub fn received(&self) -> usize {
        self.received
    }

    fn step(&mut self, octet: u8) -> At {
        let letter = |matched: usize| match RECEIVED.get(matched) {
            Some(wanted) if octet.eq_ignore_ascii_case(wanted) => At::Name(matched + 1),
            _ => At::Line,
        };
        match (self.at, octet) {
            (At::Start | At::EmptyLine, b'\n') | (At::Body, _) => At::Body,
            (_, b'\n') => At::Start,
            (At::Start, b'\r') => At::EmptyLine,
            (At::Start, _) => letter(0),
            (At::Name(matched), b':') | (At::Name(matched), b' ' | b'\t') if matched < RECEIVED.len() => At::Line,
            (At::Name(_) | At::BehindName, b':') => {
                self.received = self.received.saturating_add(1);
                At::Line
            }
            (At::Name(_) | At::BehindName, b' ' | b'\t') => At::BehindName,
            (At::Name(matched), _) => letter(matched),
            (At::EmptyLine | At::BehindName | At::Line, _) => At::Line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(letter: &str) -> Head {
        Head::parse(Bytes::copy_from_slice(letter.as_bytes())).unwrap()
    }

    fn counted(letter: &[u8]) -> usize {
        let mut hops = Hops::default();
        hops.feed(letter);
        hops.received()
    }

    #[test]
    fn a_header_is_taken_apart_and_nothing_is_lost() {
        for (letter, names, body) in [
            ("A: 1\r\nB: 2\r\n\r\nbody\r\n", "A B", "body\r\n"),
            ("A: 1\nB: 2\r\n  3\n\t4\n\nbody", "A B", "body"),
            ("A: 1\r\n\r\n", "A", ""),
            ("A: 1\r\n", "A", ""),
            ("A: 1", "A", ""),
            ("A: 1\r\n\r", "A -", ""),
            ("", "", ""),
            ("\r\nA: 1\r\n", "", "A: 1\r\n"),
            ("\n\r\n", "", "\r\n"),
            ("From joe Mon 12:00:00\nA: 1\n\n", "- A", ""),
            (" folded\r\nA: 1\r\n\r\n", "- A", ""),
            ("A: 1\r\nno field\r\n folded\r\nB: 2\r\n\r\n", "A - B", ""),
            ("A: 1\r\n \r\nB: 2\r\n\r\nx", "A B", "x"),
            ("A: 1\r\n\r\r\nB: 2\r\n\r\nx", "A - B", "x"),
            ("A: 1\rB: 2\r\r\n\r\n", "A", ""),
            ("no letter at all", "-", ""),
        ] {
            let head = parsed(letter);
            let found: Vec<_> =
                head.parts().iter().map(|part| if let Part::Field(field) = part { field.name() } else { "-" }).collect();
            assert_eq!(found.join(" "), names, "{letter:?}");
            assert_eq!(letter.get(head.body_at()..), Some(body), "{letter:?}");
            assert_eq!(head.fields().count(), found.iter().filter(|name| **name != "-").count());
        }
    }

    #[test]
    fn over_a_cap_is_an_error_that_names_it() {
        let field = |length: usize| format!("A: {}\r\n", "x".repeat(length - 5));
        let parse = |letter: String| Head::parse(letter.into()).map(|head| head.parts().len());
        assert_eq!(parse(field(FIELD_MAX)), Ok(1));
        assert_eq!(parse(field(FIELD_MAX + 1)), Err(TooBig::Field));
        assert_eq!(parse(format!("A: 1\r\n{}\r\n", " x\r\n".repeat(FIELD_MAX / 4))), Err(TooBig::Field));
        assert_eq!(parse(format!("{}\r\nbody: 1\r\n", "A:\r\n".repeat(FIELDS_MAX))), Ok(FIELDS_MAX));
        assert_eq!(parse("A:\r\n".repeat(FIELDS_MAX + 1)), Err(TooBig::Fields));
        assert_eq!(parse("stray\n".repeat(FIELDS_MAX + 1)), Err(TooBig::Fields));
        let full = field(FIELD_MAX).repeat(HEAD_MAX / FIELD_MAX - 1) + &field(FIELD_MAX - 2);
        assert_eq!(parse(format!("{full}\r\n{}", "body".repeat(1000))), Ok(16));
        assert_eq!(parse(format!("{full} \r\n\r\n")), Err(TooBig::Head));
        assert_eq!(parse("x".repeat(HEAD_MAX + 1)), Err(TooBig::Head));
        assert_eq!(parse("\r".repeat(3 * HEAD_MAX)), Err(TooBig::Head));
        for (why, cap) in [(TooBig::Head, HEAD_MAX), (TooBig::Fields, FIELDS_MAX), (TooBig::Field, FIELD_MAX)] {
            assert!(why.to_string().contains(&cap.to_string()), "{why}");
        }
    }

    #[test]
    fn hops_are_counted_to_the_end_of_the_header() {
        for (letter, hops) in [
            ("Received: a\r\nreceived: b\r\nRECEIVED \t: c\r\n\tReceived: d\r\n\r\nReceived: e\r\n", 3),
            ("Received:\nReceived:\n\nReceived:\n", 2),
            ("Received", 0),
            ("Received:", 1),
            ("Received\r\n :\r\n", 0),
            ("Received x: a\r\n", 0),
            ("X-Received: a\r\nReceived-SPF: b\r\nReceive: c\r\n Received: d\r\n", 0),
            ("Subject: Received: a\r\n", 0),
            ("\r\nReceived: a\r\n", 0),
            ("\rReceived: a\r\nReceived: b\r\n", 1),
            ("A: b\r\r\nReceived: a\r\n", 1),
            ("\r\r\nReceived: a\r\n", 1),
            ("no field\r\nReceived: a\r\n", 1),
            ("Rece\0ived: a\r\n", 0),
            ("", 0),
        ] {
            assert_eq!(counted(letter.as_bytes()), hops, "{letter:?}");
        }
        assert!(size_of::<Hops>() <= 32, "it remembers no letter");
    }

    /// Letters of what matters.
    fn any_letter() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just("Received:".to_owned()),
            1 => "(?i)received[ \t]{0,2}:?",
            1 => "X-Received|Receive|Receivedd|A",
            3 => "\r\n|\n",
            2 => "[ \t\r:]",
            1 => "[ -~]{0,5}",
            1 => "\0|\u{e4}",
        ];
        prop_oneof![
            4 => proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes()),
            1 => any::<Vec<u8>>(),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost(letter in any_letter()) {
            let letter = Bytes::from(letter);
            let head = Head::parse(letter.clone()).unwrap();
            let parts: Vec<u8> = head.parts().iter().flat_map(|part| part.raw().to_vec()).collect();
            prop_assert_eq!([&parts[..], &head.empty_line()[..]].concat(), head.raw().to_vec());
            prop_assert_eq!(&letter[..head.body_at()], &head.raw()[..]);
            if head.empty_line().is_empty() {
                prop_assert_eq!(head.raw(), &letter);
            } else {
                prop_assert!(matches!(&head.empty_line()[..], b"\n" | b"\r\n"));
            }
            let again = Head::parse(head.raw().clone()).unwrap();
            prop_assert_eq!(again, head, "the body is not looked at");
        }

        #[test]
        fn pieces_do_not_matter(letter in any_letter(), cuts in proptest::collection::vec(0usize..200, 0..20)) {
            let mut hops = Hops::default();
            let mut rest = &letter[..];
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                hops.feed(piece);
                rest = behind;
            }
            hops.feed(rest);
            let mut octets = Hops::default();
            letter.iter().for_each(|octet| octets.feed(&[*octet]));
            let head = Head::parse(letter.into()).unwrap();
            let expected = head.fields().filter(|field| field.is("Received")).count();
            prop_assert_eq!((hops.received(), octets.received()), (expected, expected));
        }
    }
}
