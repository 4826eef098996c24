//! What a ManageSieve server says before and while it lets a user in, as far as a client that only signs in needs to know.
//!
//! Two stages, as everywhere: [`border`] finds where the first reply ends, literals included, and [`read`] finds its meaning.
//! Both look at octets that are already here; how many may be held is the caller's cap. Strings may be quoted or literals
//! wherever they stand: values of capabilities, challenges, words for people, inside of codes. A reply with a bare CR, a bare
//! LF or a NUL is no reply.
//!
//! RFC 5804 sections 1.2, 1.3 and 4. Left out on purpose: everything behind the login.

use super::text::{Announced, Cursor, Malformed, is_atom_char, look};
use crate::line::{Found, LineScan};

/// One reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `OK`, `NO` or `BYE`: the end of an answer.
    Status(Status<'a>),
    /// One or two strings in a line: a capability with its value, or a challenge.
    Strings(Vec<u8>, Option<Vec<u8>>),
}

/// A condition with its words.
#[derive(Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// The condition.
    pub condition: Condition,
    /// The response code.
    pub code: Option<Code<'a>>,
    /// The words, taken out of their string.
    pub text: Vec<u8>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Done.
    Ok,
    /// Refused.
    No,
    /// The server takes its leave.
    Bye,
}

/// A response code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// Its name, as it came.
    pub name: &'a [u8],
    /// Name and arguments, as they came.
    pub whole: &'a [u8],
}

impl Code<'_> {
    /// Whether the code is this one or a kind of it, in any case (codes are hierarchical: RFC 5804 section 1.3).
    pub fn is(&self, name: &str) -> bool {
        let begins = self.name.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
        begins && matches!(self.name.get(name.len()), None | Some(b'/'))
    }
}

impl Status<'_> {
    /// Whether the code is this one or a kind of it.
    pub fn has_code(&self, name: &str) -> bool {
        self.code.as_ref().is_some_and(|code| code.is(name))
    }

    /// The code in its parentheses, and the words.
    pub fn whole(&self) -> Vec<u8> {
        match &self.code {
            Some(code) if self.text.is_empty() => [b"(", code.whole, b")"].concat(),
            Some(code) => [b"(", code.whole, b") ", self.text.as_slice()].concat(),
            None => self.text.clone(),
        }
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
        start = start.saturating_add(length).saturating_add(2);
        match look(rest.get(..length).unwrap_or_default()).announced {
            None => return Ok(Some(start)),
            Some(Announced::Literal(octets)) => match usize::try_from(octets) {
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
    let reply = reply.strip_suffix(b"\r\n").ok_or("not a whole line")?;
    if reply.contains(&0) {
        return Err("a NUL");
    }
    let mut text = Cursor::new(reply);
    if matches!(text.peek(), Some(b'"' | b'{')) {
        return strings(&mut text).map_err(|Malformed(_)| "malformed strings");
    }
    let condition = match text.run(is_atom_char).to_ascii_uppercase().as_slice() {
        b"OK" => Condition::Ok,
        b"NO" => Condition::No,
        b"BYE" => Condition::Bye,
        _ => return Err("neither a string nor OK, NO or BYE"),
    };
    status(condition, &mut text).map(Reply::Status).map_err(|Malformed(_)| "a malformed code or text")
}

fn strings<'a>(text: &mut Cursor<'_>) -> Result<Reply<'a>, Malformed> {
    let first = text.string()?;
    let second = if text.more()? { Some(text.string()?) } else { None };
    text.end()?;
    Ok(Reply::Strings(first, second))
}

fn status<'a>(condition: Condition, text: &mut Cursor<'a>) -> Result<Status<'a>, Malformed> {
    let mut status = Status { condition, code: None, text: Vec::new() };
    let mut more = text.more()?;
    if more && text.peek() == Some(b'(') {
        status.code = Some(code(text)?);
        more = text.more()?;
    }
    if more {
        status.text = text.string()?;
    }
    text.end()?;
    Ok(status)
}

/// A code with its parentheses. What may stand in strings inside of it, parentheses among it, is passed over.
fn code<'a>(text: &mut Cursor<'a>) -> Result<Code<'a>, Malformed> {
    text.take(b'(');
    let whole = text.rest();
    let name = text.run(is_atom_char);
    let mut open = 1usize;
    loop {
        let left = text.rest().len();
        match text.peek() {
            Some(b'"' | b'{') => drop(text.string()?),
            Some(b'(') => {
                text.take(b'(');
                open = open.saturating_add(1);
            }
            Some(b')') => {
                text.take(b')');
                open = open.saturating_sub(1);
            }
            Some(octet) if octet == b' ' || is_atom_char(octet) => drop(text.run(|octet| octet == b' ' || is_atom_char(octet))),
            _ => return Err(Malformed("A response code does not end.")),
        }
        if open == 0 {
            let inside = whole.get(..whole.len().saturating_sub(left)).unwrap_or_default();
            return if name.is_empty() {
                Err(Malformed("A response code has no name."))
            } else {
                Ok(Code { name, whole: inside })
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(reply: &[u8]) -> String {
        let text = |octets: &[u8]| octets.escape_ascii().to_string();
        match read(reply) {
            Ok(Reply::Status(status)) => {
                let code = status.code.map(|code| format!("({}) ", text(code.whole))).unwrap_or_default();
                format!("{:?} {code}<{}>", status.condition, text(&status.text)).to_lowercase()
            }
            Ok(Reply::Strings(first, None)) => format!("<{}>", text(&first)),
            Ok(Reply::Strings(first, Some(second))) => format!("<{}> <{}>", text(&first), text(&second)),
            Err(why) => why.to_owned(),
        }
    }

    #[test]
    fn replies_mean_what_the_grammar_says() {
        for (reply, expected) in [
            ("OK", "ok <>"),
            ("oK ", "ok <>"),
            ("OK \"Logged in.\"", "ok <logged in.>"),
            ("no {3}\r\na\r\n", "no <a\\r\\n>"),
            ("BYE (TRYLATER) \"x\"", "bye (trylater) <x>"),
            ("NO (TRYLATER/NORETRY)", "no (trylater/noretry) <>"),
            ("OK (SASL \"cnNw\")", "ok (sasl \\\"cnnw\\\") <>"),
            ("OK (TAG {4}\r\na)\r\n) \"Done\"", "ok (tag {4}\\r\\na)\\r\\n) <done>"),
            ("BYE (REFERRAL \"sieve://a)b\") \"go\"", "bye (referral \\\"sieve://a)b\\\") <go>"),
            ("NO (REFERRAL sieve://joe;AUTH=PLAIN@[::1]:4190) \"x\"", "no (referral sieve://joe;auth=plain@[::1]:4190) <x>"),
            ("NO (X (a \"b)\" (1)) 2) \"x\"", "no (x (a \\\"b)\\\" (1)) 2) <x>"),
            ("NO \"(TRYLATER) x\"", "no <(trylater) x>"),
            ("NO ()", "a malformed code or text"),
            ("NO (\"x\")", "a malformed code or text"),
            ("NO (X \"x\"", "a malformed code or text"),
            ("NO (X", "a malformed code or text"),
            ("NO (X)\"x\"", "a malformed code or text"),
            ("NO\"x\"", "a malformed code or text"),
            ("OK words", "a malformed code or text"),
            ("OK \"a\" \"b\"", "a malformed code or text"),
            ("\"SASL\" \"PLAIN LOGIN\"", "<SASL> <PLAIN LOGIN>"),
            ("{4}\r\nSASL {5}\r\nPLAIN", "<SASL> <PLAIN>"),
            ("\"STARTTLS\"", "<STARTTLS>"),
            ("\"\"", "<>"),
            ("{0}\r\n", "<>"),
            ("\"a\" \"b\" \"c\"", "malformed strings"),
            ("\"a\" b", "malformed strings"),
            ("\"a", "malformed strings"),
            ("\"a\0\"", "a NUL"),
            ("{1}\r\n\0", "a NUL"),
            ("OKAY", "neither a string nor OK, NO or BYE"),
            ("+OK", "neither a string nor OK, NO or BYE"),
            (" OK", "neither a string nor OK, NO or BYE"),
            ("", "neither a string nor OK, NO or BYE"),
        ] {
            let reply = format!("{reply}\r\n");
            assert_eq!(shown(reply.as_bytes()), expected, "{reply}");
            assert_eq!(border(reply.as_bytes(), 100), Ok(Some(reply.len())), "{reply}");
        }
        assert_eq!(shown(b"OK"), "not a whole line");
    }

    #[test]
    fn replies_end_where_their_literals_do() {
        for (input, expected) in [
            ("OK\r\nOK\r\n", Ok(Some(4))),
            ("OK {3}\r\nab", Ok(None)),
            ("OK {3}\r\n\r\n\r", Ok(None)),
            ("OK {3}\r\nabc\r\nx", Ok(Some(13))),
            ("OK {3+}\r\nabc\r\nx", Ok(Some(14))),
            ("OK \"{3}\"\r\nx", Ok(Some(10))),
            ("OK {101}\r\n", Err("a literal is too long")),
            ("OK {99999999999999999999}\r\n", Err("a literal is too long")),
            ("OK {x}\r\n", Err("a malformed literal")),
            ("OK\n", Err("a bare CR or LF")),
            ("OK\rx", Err("a bare CR or LF")),
            ("OK {1}\r\nx\n", Err("a bare CR or LF")),
        ] {
            assert_eq!(border(input.as_bytes(), 100), expected, "{input:?}");
        }
    }

    #[test]
    fn codes_have_kinds() {
        let has = |code: &str, name| Code { name: code.as_bytes(), whole: b"" }.is(name);
        assert!(
            has("TRYLATER", "TRYLATER") && has("trylater/noretry", "TRYLATER") && has("TryLater/NoRetry", "TRYLATER/NORETRY")
        );
        assert!(!has("TRYLATERS", "TRYLATER") && !has("TRYLATER", "TRYLATER/NORETRY") && !has("", "TRYLATER"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_borders_lie_inside(input in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'O'), Just(b'K'), Just(b' '), Just(b'('), Just(b')'), Just(b'"'), Just(b'{'), Just(b'2'),
            Just(b'}'), any::<u8>()], 0..60)) {
            if let Ok(Some(end)) = border(&input, 100) {
                prop_assert!(end <= input.len() && input[..end].ends_with(b"\r\n"));
                let _ = read(&input[..end]);
            }
        }

        #[test]
        fn pieces_do_not_matter(input in "(OK|NO|\"a\")?( \\(X( \"a\")?\\))?( \"[a{}3]{0,4}\"| \\{[0-3]\\})?(\r\n)?[a\r\n]{0,4}") {
            let first = (0..=input.len()).find_map(|end| border(&input.as_bytes()[..end], 100).transpose());
            let whole = border(input.as_bytes(), 100).transpose();
            prop_assert_eq!(first, whole);
        }
    }
}
