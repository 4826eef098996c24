//! `FETCH`: what is asked for, and how it is answered (RFC 3501 sections 6.4.5 and 7.4.2).
//!
//! All data items of RFC 3501 for letters with a single text part, the macros, and partial fetches. Lists have caps
//! ([`ITEMS_MAX`], [`NAMES_MAX`]), so an answer is at most as many letters long as there are, times [`ITEMS_MAX`]. Nothing of the
//! request is repeated but the names of header fields, which are atoms.

use super::super::letters::Letter;
use bytes::{BufMut, BytesMut};
use wire::imap::text::{Cursor, Malformed, write_nstring};

/// The most data items of one command.
const ITEMS_MAX: usize = 16;
/// The most names of header fields in one data item.
const NAMES_MAX: usize = 64;

/// One data item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// `FLAGS`
    Flags,
    /// `UID`
    Uid,
    /// `RFC822.SIZE`
    Size,
    /// `INTERNALDATE`
    InternalDate,
    /// `ENVELOPE`
    Envelope,
    /// `BODY` and `BODYSTRUCTURE`, under its own name.
    Structure(&'static str),
    /// `RFC822`, `RFC822.HEADER`, `RFC822.TEXT`, under its own name.
    Old(&'static str, Part),
    /// `BODY[...]`, and the range where only a part of it is wanted: offset and length.
    Section(Part, Option<(u32, u32)>),
}

/// A part of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// The header.
    Header,
    /// The header fields of these names, or all but these.
    Fields {
        /// All but these.
        not: bool,
        /// The names in upper case.
        names: Vec<String>,
    },
    /// The body.
    Text,
    /// Part 1, which is the body.
    First,
}

/// Reads the data items of a command: a macro, one item, or a list of items.
///
/// # Errors
/// What is wrong, in words for the client.
pub fn read(text: &mut Cursor<'_>) -> Result<Vec<Item>, Malformed> {
    if !text.take(b'(') {
        let name = name(text);
        return match name.as_slice() {
            b"FAST" => Ok(FAST.to_vec()),
            b"ALL" => Ok([FAST, &[Item::Envelope]].concat()),
            b"FULL" => Ok([FAST, &[Item::Envelope, Item::Structure("BODY")]].concat()),
            _ => Ok(vec![item(&name, text)?]),
        };
    }
    let mut items = Vec::new();
    loop {
        let name = name(text);
        let item = item(&name, text)?;
        // Twice the same item would only make the answer longer.
        if !items.contains(&item) {
            items.push(item);
        }
        if items.len() > ITEMS_MAX {
            return Err(Malformed("Too many data items."));
        }
        if text.take(b')') {
            return Ok(items);
        }
        text.space()?;
    }
}

/// Writes the response for one letter. `number` is its sequence number and, in this demo, also its UID.
pub fn write(letter: &Letter, number: usize, items: &[Item], out: &mut BytesMut) {
    out.put_slice(format!("* {number} FETCH (").as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.put_u8(b' ');
        }
        write_item(letter, number, item, out);
    }
    out.put_slice(b")\r\n");
}

const FAST: &[Item] = &[Item::Flags, Item::InternalDate, Item::Size];

fn name(text: &mut Cursor<'_>) -> Vec<u8> {
    text.run(|octet| octet.is_ascii_alphanumeric() || octet == b'.').unwrap_or_default().to_ascii_uppercase()
}

fn item(name: &[u8], text: &mut Cursor<'_>) -> Result<Item, Malformed> {
    Ok(match name {
        b"FLAGS" => Item::Flags,
        b"UID" => Item::Uid,
        b"RFC822.SIZE" => Item::Size,
        b"INTERNALDATE" => Item::InternalDate,
        b"ENVELOPE" => Item::Envelope,
        b"BODYSTRUCTURE" => Item::Structure("BODYSTRUCTURE"),
        b"RFC822" => Item::Old("RFC822", Part::Whole),
        b"RFC822.HEADER" => Item::Old("RFC822.HEADER", Part::Header),
        b"RFC822.TEXT" => Item::Old("RFC822.TEXT", Part::Text),
        // Nothing here ever becomes \Seen, so peeking makes no difference.
        b"BODY" | b"BODY.PEEK" if text.take(b'[') => section(text)?,
        b"BODY" => Item::Structure("BODY"),
        _ => return Err(Malformed("There is no such data item here.")),
    })
}

fn section(text: &mut Cursor<'_>) -> Result<Item, Malformed> {
    let part = match name(text).as_slice() {
        b"" => Part::Whole,
        b"HEADER" => Part::Header,
        b"TEXT" => Part::Text,
        b"1" => Part::First,
        b"HEADER.FIELDS" => Part::Fields { not: false, names: names(text)? },
        b"HEADER.FIELDS.NOT" => Part::Fields { not: true, names: names(text)? },
        _ => return Err(Malformed("There is no such section here.")),
    };
    if !text.take(b']') {
        return Err(Malformed("A section ends in a bracket."));
    }
    let mut range = None;
    if text.take(b'<') {
        let offset = number(text)?;
        let dot = text.take(b'.');
        let length = number(text)?;
        if !dot || !text.take(b'>') || length == 0 {
            return Err(Malformed("A partial fetch is spelled <offset.length>."));
        }
        range = Some((offset, length));
    }
    Ok(Item::Section(part, range))
}

fn names(text: &mut Cursor<'_>) -> Result<Vec<String>, Malformed> {
    text.space()?;
    if !text.take(b'(') {
        return Err(Malformed("A list of header fields was expected."));
    }
    let mut names = Vec::new();
    loop {
        let name = String::from_utf8_lossy(text.atom()?).to_ascii_uppercase();
        names.push(name);
        if names.len() > NAMES_MAX {
            return Err(Malformed("Too many header fields."));
        }
        if text.take(b')') {
            return Ok(names);
        }
        text.space()?;
    }
}

fn number(text: &mut Cursor<'_>) -> Result<u32, Malformed> {
    let digits = text.run(|octet| octet.is_ascii_digit()).unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Malformed("A number was expected."))
}

fn write_item(letter: &Letter, number: usize, item: &Item, out: &mut BytesMut) {
    match item {
        Item::Flags => out.put_slice(b"FLAGS ()"),
        Item::Uid => out.put_slice(format!("UID {number}").as_bytes()),
        Item::Size => out.put_slice(format!("RFC822.SIZE {}", letter.octets().len()).as_bytes()),
        Item::InternalDate => out.put_slice(format!("INTERNALDATE \"{}\"", letter.fields.internal_date).as_bytes()),
        Item::Envelope => write_envelope(letter, out),
        Item::Structure(name) => {
            let lines = letter.body().iter().filter(|octet| **octet == b'\n').count();
            let extended = if *name == "BODY" { "" } else { " NIL NIL NIL NIL" };
            let octets = letter.body().len();
            let text =
                format!("{name} (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"us-ascii\") NIL NIL \"7BIT\" {octets} {lines}{extended})");
            out.put_slice(text.as_bytes());
        }
        Item::Old(name, part) => {
            out.put_slice(name.as_bytes());
            write_literal(&octets_of(letter, part), out);
        }
        Item::Section(part, range) => {
            out.put_slice(format!("BODY[{}]", spelled(part)).as_bytes());
            let octets = octets_of(letter, part);
            let octets = match range {
                None => octets.as_slice(),
                Some((offset, length)) => {
                    out.put_slice(format!("<{offset}>").as_bytes());
                    let from = usize::try_from(*offset).unwrap_or(usize::MAX).min(octets.len());
                    let rest = octets.get(from..).unwrap_or_default();
                    rest.get(..usize::try_from(*length).unwrap_or(usize::MAX)).unwrap_or(rest)
                }
            };
            write_literal(octets, out);
        }
    }
}

fn spelled(part: &Part) -> String {
    match part {
        Part::Whole => String::new(),
        Part::Header => "HEADER".to_owned(),
        Part::Text => "TEXT".to_owned(),
        Part::First => "1".to_owned(),
        Part::Fields { not, names } => format!("HEADER.FIELDS{} ({})", if *not { ".NOT" } else { "" }, names.join(" ")),
    }
}

fn octets_of(letter: &Letter, part: &Part) -> Vec<u8> {
    match part {
        Part::Whole => letter.octets().to_vec(),
        Part::Header => letter.header().to_vec(),
        Part::Text | Part::First => letter.body().to_vec(),
        Part::Fields { not, names } => {
            // Our letters fold no field, so a line is a field.
            let mut chosen = Vec::new();
            for line in letter.header().split_inclusive(|octet| *octet == b'\n') {
                let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
                let named = names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name));
                if line == b"\r\n" || named != *not {
                    chosen.extend_from_slice(line);
                }
            }
            chosen
        }
    }
}

fn write_literal(octets: &[u8], out: &mut BytesMut) {
    out.put_slice(format!(" {{{}}}\r\n", octets.len()).as_bytes());
    out.put_slice(octets);
}

fn write_envelope(letter: &Letter, out: &mut BytesMut) {
    let fields = &letter.fields;
    // What is written here is ours and holds no NUL, the one thing that cannot be said.
    let text = |value: &str, out: &mut BytesMut| write_nstring(Some(value.as_bytes()), out).unwrap_or_default();
    let address = |(name, local, domain): (&str, &str, &str), out: &mut BytesMut| {
        out.put_slice(b" ((");
        text(name, out);
        out.put_slice(b" NIL ");
        text(local, out);
        out.put_u8(b' ');
        text(domain, out);
        out.put_slice(b"))");
    };
    out.put_slice(b"ENVELOPE (");
    text(fields.date, out);
    out.put_u8(b' ');
    text(fields.subject, out);
    for who in [fields.from, fields.from, fields.from, fields.to] {
        address(who, out);
    }
    out.put_slice(b" NIL NIL NIL ");
    text(&fields.message_id, out);
    out.put_u8(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::letters;

    fn items(text: &str) -> Result<Vec<Item>, Malformed> {
        let mut cursor = Cursor::new(text.as_bytes());
        let items = read(&mut cursor)?;
        cursor.end().map(|()| items)
    }

    fn answer(text: &str) -> String {
        let mut out = BytesMut::new();
        write(&letters::of_east()[0], 1, &items(text).unwrap(), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn items_are_answered() {
        let letter = &letters::of_east()[0];
        let (whole, header, body) = (letter.octets().len(), letter.header().len(), letter.body().len());
        assert_eq!(
            answer("FAST"),
            format!("* 1 FETCH (FLAGS () INTERNALDATE \"01-Jun-2026 09:00:00 +0000\" RFC822.SIZE {whole})\r\n")
        );
        assert!(answer("(UID BODY.PEEK[])").starts_with(&format!("* 1 FETCH (UID 1 BODY[] {{{whole}}}\r\nDate: ")));
        assert!(answer("rfc822.header").starts_with(&format!("* 1 FETCH (RFC822.HEADER {{{header}}}\r\nDate: ")));
        assert!(answer("BODY[1]").starts_with(&format!("* 1 FETCH (BODY[1] {{{body}}}\r\nHello ")));
        assert_eq!(answer("BODY[TEXT]<0.5>"), "* 1 FETCH (BODY[TEXT]<0> {5}\r\nHello)\r\n");
        assert_eq!(answer("BODY[]<999999.5>"), "* 1 FETCH (BODY[]<999999> {0}\r\n)\r\n");
        assert_eq!(
            answer("BODY.PEEK[HEADER.FIELDS (subject X-None)]"),
            "* 1 FETCH (BODY[HEADER.FIELDS (SUBJECT X-NONE)] {34}\r\nSubject: You have reached east\r\n\r\n)\r\n"
        );
        assert!(!answer("BODY[HEADER.FIELDS.NOT (SUBJECT)]").contains("You have reached"));
        assert!(answer("ALL").contains(
            "ENVELOPE (\"Mon, 01 Jun 2026 09:00:00 +0000\" \"You have reached east\" \
             ((\"The demo\" NIL \"demo\" \"localhost\")) "
        ));
        let lines = std::str::from_utf8(letter.body()).unwrap().lines().count();
        let structure = format!("BODY (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"us-ascii\") NIL NIL \"7BIT\" {body} {lines})");
        assert!(answer("FULL").contains(&structure));
    }

    #[test]
    fn literals_are_as_long_as_they_say() {
        for item in ["BODY[]", "BODY[HEADER]", "BODY[TEXT]", "RFC822", "BODY[HEADER.FIELDS (FROM TO)]", "BODY[]<10.20>"] {
            let answer = answer(item);
            let (head, rest) = answer.split_once("}\r\n").unwrap();
            let length: usize = head.rsplit_once('{').unwrap().1.parse().unwrap();
            assert_eq!(rest.get(length..), Some(")\r\n"), "{item}");
        }
    }

    #[test]
    fn an_item_asked_twice_is_answered_once() {
        assert_eq!(items("(BODY[] UID BODY[] BODY.PEEK[])").unwrap(), [Item::Section(Part::Whole, None), Item::Uid]);
    }

    #[test]
    fn nonsense_is_refused() {
        let many = format!("({})", (1..=20).map(|n| format!("BODY[]<0.{n}>")).collect::<Vec<_>>().join(" "));
        let names = format!("BODY[HEADER.FIELDS ({})]", "A ".repeat(100) + "A");
        for text in [
            "",
            "(",
            "()",
            "(FLAGS",
            "(FLAGS )",
            "FLAGS UID",
            "X",
            "BODY[",
            "BODY[X]",
            "BODY[2]",
            "BODY[]<",
            "BODY[]<1>",
            "BODY[]<0.0>",
            "BODY[]<4294967296.1>",
            "BODY[]<1.1",
            "BODY[HEADER.FIELDS]",
            "BODY[HEADER.FIELDS ()]",
            "BODY[HEADER.FIELDS (\"A\")]",
            &many,
            &names,
        ] {
            assert!(items(text).is_err(), "{text}");
        }
    }
}
