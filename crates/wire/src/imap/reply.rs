//! What an IMAP server says before and while it lets a user in, as far as a client that only signs in needs to know.
//!
//! Two stages, as everywhere: [`border`] finds where the first reply ends, literals included, and [`read`] finds its
//! meaning. Both look at bytes that are already here; how many may be held is the caller's cap. A reply with
//! a bare CR, a bare LF or a NUL is no reply.
//!
//! RFC 3501 7 and 9 (grammar), RFC 5530 (codes). Left out on purpose: everything inside a mailbox.

use super::text::{Announced, announced, is_atom_char};
use crate::line::{Found, LineScan};
use memchr::memchr;

/// One reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The answer to the command with this tag.
    Tagged(&'a [u8], Status<'a>),
    /// `* OK`, `* NO` and the like.
    Untagged(Status<'a>),
    /// `* CAPABILITY`: the list as it stands in the reply.
    Capability(&'a [u8]),
    /// `* ID`, whatever it tells.
    Id,
    /// Any other untagged data.
    Data,
    /// `+`: say on. What stands behind it is not looked at.
    GoAhead,
}

/// A condition with its words.
#[derive(Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// The condition.
    pub condition: Condition,
    /// The first response code, without its brackets.
    pub code: Option<Code<'a>>,
    /// The words behind all leading codes.
    pub text: &'a [u8],
    /// Codes and words as they came.
    pub whole: &'a [u8],
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Done, or for information.
    Ok,
    /// Refused, or a warning.
    No,
    /// Not understood.
    Bad,
    /// The server takes its leave.
    Bye,
    /// The greeting of a connection that is already signed in.
    PreAuth,
}

/// A response code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// Its name, as it came.
    pub name: &'a [u8],
    /// What stands behind the name.
    pub arguments: &'a [u8],
}

impl Code<'_> {
    /// Whether the code has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The octets of the first whole reply in `input`, its CRLF included; `None` while it is not all here.
///
/// # Errors
/// What is here cannot be the beginning of a reply: a bare CR or LF, or a literal of more than `most` octets.
pub fn border(input: &[u8], most: usize) -> Result<Option<usize>, &'static str> {
    let mut start = 0usize;
    loop {
        let Some(rest) = input.get(start..) else { return Ok(None) };
        let length = match LineScan::new().find(rest, usize::MAX) {
            Found::Line(length) => length,
            Found::More | Found::TooLong => return Ok(None),
            Found::Bare(_) => return Err("a bare CR or LF"),
        };
        let line = rest.get(..length).unwrap_or_default();
        start = start.saturating_add(length).saturating_add(2);
        // In words for people braces mean nothing; only data can hold literals.
        let data =
            input.get(..start).is_some_and(|head| matches!(read(head), Ok(Reply::Data | Reply::Id | Reply::Capability(_))));
        match announced(line).filter(|_| data) {
            None => return Ok(Some(start)),
            Some(Announced::Literal { octets, .. }) => match usize::try_from(octets) {
                Ok(octets) if octets <= most => start = start.saturating_add(octets),
                _ => return Err("a literal is too long"),
            },
            Some(Announced::Nonsense) => return Err("a malformed literal"),
        }
    }
}

/// Reads one whole reply, as [`border`] found it.
///
/// # Errors
/// It is not in the grammar.
pub fn read(reply: &[u8]) -> Result<Reply<'_>, &'static str> {
    let line = reply.strip_suffix(b"\r\n").ok_or("not a whole line")?;
    if line.contains(&0) {
        return Err("a NUL");
    }
    let (head, rest) = word(line);
    match head {
        b"+" => return Ok(Reply::GoAhead),
        b"*" => {}
        _ if head.is_empty() || !head.iter().all(|b| b.is_ascii_graphic()) => return Err("neither a tag nor a star"),
        tag => return status(rest).map(|status| Reply::Tagged(tag, status)).ok_or("a tag without OK, NO or BAD"),
    }
    if let Some(status) = status(rest) {
        return Ok(Reply::Untagged(status));
    }
    let (name, list) = word(rest);
    match name {
        _ if name.eq_ignore_ascii_case(b"CAPABILITY") => Ok(Reply::Capability(list)),
        _ if name.eq_ignore_ascii_case(b"ID") => Ok(Reply::Id),
        _ if name.is_empty() || !name.iter().all(|b| b.is_ascii_graphic()) => Err("a star with nothing behind it"),
        _ => Ok(Reply::Data),
    }
}

/// A capability list as it may be repeated: the words that are atoms, separated by single spaces. `None` if there are none.
pub fn capability(list: &[u8]) -> Option<String> {
    let mut out = String::new();
    for word in list.split(|b| *b == b' ').filter(|word| !word.is_empty() && word.iter().copied().all(is_atom_char)) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.iter().copied().map(char::from));
    }
    (!out.is_empty()).then_some(out)
}

fn status(text: &[u8]) -> Option<Status<'_>> {
    let (name, whole) = word(text);
    let condition = match name.to_ascii_uppercase().as_slice() {
        b"OK" => Condition::Ok,
        b"NO" => Condition::No,
        b"BAD" => Condition::Bad,
        b"BYE" => Condition::Bye,
        b"PREAUTH" => Condition::PreAuth,
        _ => return None,
    };
    let (code, mut text) = leading_code(whole);
    // A second code would become the first one where the text is said again without its own.
    while let (Some(_), rest) = leading_code(text) {
        text = rest;
    }
    while let [b'[', rest @ ..] = text {
        text = rest;
    }
    Some(Status { condition, code, text, whole })
}

fn leading_code(text: &[u8]) -> (Option<Code<'_>>, &[u8]) {
    let inside = text.strip_prefix(b"[").and_then(|inside| Some((inside, memchr(b']', inside)?)));
    let Some((inside, end)) = inside else { return (None, text) };
    let (Some(code), Some(rest)) = (inside.get(..end), inside.get(end.saturating_add(1)..)) else { return (None, text) };
    let (name, arguments) = word(code);
    (Some(Code { name, arguments }), rest.trim_ascii_start())
}

/// The first word and what stands behind the space after it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b' ', text).unwrap_or(text.len());
    let (head, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    (head, rest.strip_prefix(b" ").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(reply: &str) -> String {
        match read(format!("{reply}\r\n").as_bytes()) {
            Ok(Reply::Tagged(tag, status)) => format!("{} {}", String::from_utf8_lossy(tag), shown_status(&status)),
            Ok(Reply::Untagged(status)) => format!("* {}", shown_status(&status)),
            Ok(Reply::Capability(list)) => format!("capability {:?}", capability(list)),
            Ok(Reply::GoAhead) => "+".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(why) => format!("error: {why}"),
        }
    }

    fn shown_status(status: &Status<'_>) -> String {
        let code =
            status.code.as_ref().map(|c| format!("{}|{}", String::from_utf8_lossy(c.name), String::from_utf8_lossy(c.arguments)));
        format!("{:?} {} \"{}\"", status.condition, code.unwrap_or("-".into()), String::from_utf8_lossy(status.text))
    }

    #[test]
    fn replies_mean_what_the_grammar_says() {
        for (reply, expected) in [
            ("* OK ready", "* Ok - \"ready\""),
            ("* ok", "* Ok - \"\""),
            ("* OK [CAPABILITY IMAP4rev1 ID] hi", "* Ok CAPABILITY|IMAP4rev1 ID \"hi\""),
            ("L NO [UNAVAILABLE] later", "L No UNAVAILABLE| \"later\""),
            ("L NO [LIMIT][REFERRAL imap://x/] [ALERT]  go", "L No LIMIT| \"go\""),
            ("L NO [REFERRAL imap://[::1]/] go", "L No REFERRAL|imap://[::1 \"/] go\""),
            ("L NO [never closed", "L No - \"never closed\""),
            ("L NO [[[", "L No - \"\""),
            ("L BAD", "L Bad - \"\""),
            ("* BYE {3}", "* Bye - \"{3}\""),
            ("* PREAUTH in", "* PreAuth - \"in\""),
            ("* CAPABILITY  IMAP4rev1 \"x\" a]b  ID ", "capability Some(\"IMAP4rev1 ID\")"),
            ("* CAPABILITY", "capability None"),
            ("* ID NIL", "Id"),
            ("* 3 EXISTS", "Data"),
            ("* OK h\0i", "error: a NUL"),
            ("+", "+"),
            ("+ PDEyMz4=", "+"),
            ("+OK ready", "error: a tag without OK, NO or BAD"),
            ("220 mail ESMTP", "error: a tag without OK, NO or BAD"),
            ("", "error: neither a tag nor a star"),
            (" OK x", "error: neither a tag nor a star"),
            ("* ", "error: a star with nothing behind it"),
            ("\u{1b} OK x", "error: neither a tag nor a star"),
        ] {
            assert_eq!(shown(reply), expected, "{reply}");
        }
    }

    #[test]
    fn borders_count_literals_in_data_only() {
        for (input, expected) in [
            ("* OK hi\r\nmore", Ok(Some(9))),
            ("* OK {5}\r\nmore", Ok(Some(10))),
            ("* OK hi\r", Ok(None)),
            ("* ID (\"a\" {4}\r\nb\nc!)\r\nrest", Ok(Some(22))),
            ("* ID (\"a\" {4+}\r\nbcd", Ok(None)),
            ("* ID ({9}\r\n", Ok(None)),
            ("* ID ({99999999999999999999999}\r\n", Err("a literal is too long")),
            ("* ID ({101}\r\n", Err("a literal is too long")),
            ("* ID {x+}\r\n", Err("a malformed literal")),
            ("* OK hi\n", Err("a bare CR or LF")),
            ("* OK h\ri\r\n", Err("a bare CR or LF")),
        ] {
            assert_eq!(border(input.as_bytes(), 100), expected, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_borders_lie_inside(input in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'*'), Just(b' '), Just(b'['), Just(b']'), Just(b'{'), Just(b'}'), Just(b'1'), any::<u8>()], 0..80)) {
            if let Ok(Some(end)) = border(&input, 50) {
                prop_assert!(end <= input.len() && input[..end].ends_with(b"\r\n"));
                let _ = read(&input[..end]);
            }
        }
    }
}
