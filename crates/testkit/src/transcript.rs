//! Transcripts: conversations as text files, read here and played by the crate that owns the machine.
//!
//! ```text
//! # why this case exists
//! = terms starttls=no
//! C< * OK ready
//! C> a1 NOOP
//! C< a1 OK Done.
//! = bye
//! ```
//!
//! `C>` is what the client says and `C<` what it hears; `B>` and `B<` are the same for the backend. A line stands for one
//! line on the wire, CRLF included; a lone `\` at its end means "no CRLF here". `=` notes an event or a setting, and what
//! its words mean is up to the runner. `#` and empty lines are for the reader.
//!
//! Inside a line `\r \n \t \0 \xNN \\` stand for octets, and `\{9000:ab}` for `ab` nine thousand times (the text may hold
//! escapes, but no further repetition). In notes, words are separated by spaces; a word is `name`, `name=value` or
//! `name="value with spaces"`, `\"` is a quote inside one, and the other escapes work in values as well.
//!
//! What this leaves to others: feeding bytes, comparing, and saying what differs.

use std::fmt;

/// One line of a transcript that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line in the file, counted from 1.
    pub line: usize,
    /// What it says.
    pub what: What,
}

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Octets that come from that side.
    Says(Side, Vec<u8>),
    /// Octets that side gets to hear.
    Hears(Side, Vec<u8>),
    /// An event or a setting.
    Note(Note),
}

/// Whose end of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `C`: the mail client.
    Client,
    /// `B`: the server behind us.
    Backend,
}

/// The words behind `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The first word.
    pub verb: String,
    /// The words behind it.
    pub words: Vec<Word>,
}

impl Note {
    /// The value of the first word with that name.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.words.iter().find(|word| word.name == name).and_then(|word| word.value.as_deref())
    }

    /// Whether there is a word with that name, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word.name == name)
    }
}

/// One word of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word, or what stands in front of `=`.
    pub name: String,
    /// What stands behind `=`; `None` where there is no `=`.
    pub value: Option<Vec<u8>>,
}

/// Why a transcript cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The line in the file, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// Reads a transcript.
///
/// # Errors
/// The first line that is not in the format; nothing is skipped silently, or a typing error would switch a test off.
pub fn read(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let mut entries = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index.saturating_add(1);
        let unreadable = |why| Unreadable { line, why };
        if raw.trim().is_empty() || raw.starts_with('#') {
            continue;
        }
        let what = if let Some(rest) = raw.strip_prefix("= ") {
            What::Note(note(rest).map_err(unreadable)?)
        } else {
            let (mark, rest) = raw.split_once(' ').unwrap_or((raw, ""));
            let octets = wire_line(rest).map_err(unreadable)?;
            match mark {
                "C>" => What::Says(Side::Client, octets),
                "C<" => What::Hears(Side::Client, octets),
                "B>" => What::Says(Side::Backend, octets),
                "B<" => What::Hears(Side::Backend, octets),
                _ => return Err(unreadable("a line begins with C>, C<, B>, B<, = or #")),
            }
        };
        entries.push(Entry { line, what });
    }
    Ok(entries)
}

/// One line as it is on the wire.
fn wire_line(text: &str) -> Result<Vec<u8>, &'static str> {
    let (octets, open) = octets(text)?;
    let mut octets = octets;
    if !open {
        octets.extend_from_slice(b"\r\n");
    }
    Ok(octets)
}

/// The octets a text stands for, and whether it ends in a lone backslash.
fn octets(text: &str) -> Result<(Vec<u8>, bool), &'static str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let mut after = escape.chars();
        match after.next() {
            None => return Ok((out, true)),
            Some('r') => out.push(b'\r'),
            Some('n') => out.push(b'\n'),
            Some('t') => out.push(b'\t'),
            Some('0') => out.push(0),
            Some('\\') => out.push(b'\\'),
            Some('"') => out.push(b'"'),
            Some('x') => {
                let digits = after.as_str().get(..2).ok_or("\\x needs two digits")?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| "\\x needs two hexadecimal digits")?);
                after = after.as_str().get(2..).unwrap_or_default().chars();
            }
            Some('{') => {
                let (inside, behind) = after.as_str().split_once('}').ok_or("\\{ without }")?;
                let (times, what) = inside.split_once(':').ok_or("\\{N:text} needs a colon")?;
                let times: usize = times.parse().map_err(|_| "\\{N:text} needs a number")?;
                if what.contains("\\{") {
                    return Err("a repetition inside a repetition");
                }
                let (what, open) = octets(what)?;
                if open {
                    return Err("a lone backslash inside a repetition");
                }
                out.extend_from_slice(&what.repeat(times));
                after = behind.chars();
            }
            Some(_) => return Err("unknown escape"),
        }
        rest = after.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    Ok((out, false))
}

/// The words of a note.
fn note(text: &str) -> Result<Note, &'static str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let stop = rest.find([' ', '=']).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(stop);
        let (value, behind) = match behind.strip_prefix('=') {
            None => (None, behind),
            Some(said) => {
                let (raw, behind) = match said.strip_prefix('"') {
                    Some(quoted) => quoted.split_at(closing_quote(quoted).ok_or("a quote is not closed")?),
                    None => said.split_at(said.find(' ').unwrap_or(said.len())),
                };
                let (value, open) = octets(raw)?;
                if open {
                    return Err("a lone backslash in a value");
                }
                (Some(value), behind.strip_prefix('"').unwrap_or(behind))
            }
        };
        if name.is_empty() || !(behind.is_empty() || behind.starts_with(' ')) {
            return Err("words of a note are separated by spaces");
        }
        words.push(Word { name: name.to_owned(), value });
        rest = behind.trim_start();
    }
    if words.first().is_none_or(|word| word.value.is_some()) {
        return Err("a note begins with a verb");
    }
    let verb = words.remove(0).name;
    Ok(Note { verb, words })
}

/// Where the quote is that is not behind a backslash.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|octet| {
        let closes = octet == b'"' && !escaped;
        escaped = octet == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_says(text: &str) -> Vec<u8> {
        match read(text).expect("readable").remove(0).what {
            What::Says(Side::Client, octets) => octets,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_is_a_line_on_the_wire() {
        assert_eq!(client_says("C> a1 NOOP"), b"a1 NOOP\r\n");
        assert_eq!(client_says("C>"), b"\r\n");
        assert_eq!(client_says("C> half\\"), b"half");
        assert_eq!(client_says(r"C> \r\n\t\0\xfe\\"), b"\r\n\t\0\xfe\\\r\n");
        assert_eq!(client_says(r"C> \{3:a\x20}!\"), b"a a a !");
    }

    #[test]
    fn sides_and_notes_are_told_apart() {
        let entries = read("# why\n\nB> hello\nB< there\n= login user=\"a \\\"b\\x00\" password= quick\n").expect("readable");
        assert_eq!(entries[0], Entry { line: 3, what: What::Says(Side::Backend, b"hello\r\n".to_vec()) });
        assert_eq!(entries[1], Entry { line: 4, what: What::Hears(Side::Backend, b"there\r\n".to_vec()) });
        let What::Note(note) = &entries[2].what else { panic!("a note") };
        assert_eq!(note.verb, "login");
        assert_eq!(note.value("user"), Some(&b"a \"b\0"[..]));
        assert_eq!(note.value("password"), Some(&b""[..]));
        assert!(note.has("quick") && note.value("quick").is_none());
    }

    #[test]
    fn what_is_not_the_format_is_an_error() {
        for (text, line) in
            [("\nD> x", 2), ("C> \\q", 1), ("C> \\x4", 1), ("= a=b", 1), ("= a b=\"c", 1), ("C> \\{2:\\{2:a}}", 1), ("=", 1)]
        {
            assert_eq!(read(text).expect_err(text).line, line, "{text}");
        }
    }
}
