//! What a POP3 server says before and while it lets a user in: one status line at a time.
//!
//! [`border`] finds where the first line ends, and [`read`] finds its meaning. Lists (CAPA) are never asked for. A reply with
//! a bare CR, a bare LF or a NUL is no reply, and an indicator in lower case is none either.
//!
//! RFC 1939 section 3, RFC 2449 section 8 (response codes), RFC 5034 section 4 (`+ `).

use crate::line::{Found, LineScan};

/// One reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`
    Yes(Status<'a>),
    /// `-ERR`
    No(Status<'a>),
    /// `+`: say on. What stands behind it is not looked at.
    GoAhead,
}

/// What stands behind an indicator.
#[derive(Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// The response code without its brackets; it stands right behind the indicator's blank.
    pub code: Option<&'a [u8]>,
    /// The words behind it.
    pub text: &'a [u8],
    /// Code and words as they came.
    pub whole: &'a [u8],
}

impl Status<'_> {
    /// Whether the code is this one or a kind of it, in any case (codes are hierarchical: RFC 2449 section 8.1).
    pub fn has_code(&self, name: &str) -> bool {
        let code = self.code.unwrap_or_default();
        let begins = code.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
        begins && matches!(code.get(name.len()), None | Some(b'/'))
    }
}

/// The octets of the first whole reply in `input`, its CRLF included; `None` while it is not all here.
///
/// # Errors
/// What is here cannot be the beginning of a reply: a bare CR or LF.
pub fn border(input: &[u8]) -> Result<Option<usize>, &'static str> {
    match LineScan::new().find(input, usize::MAX) {
        Found::Line(length) => Ok(Some(length.saturating_add(2))),
        Found::More | Found::TooLong => Ok(None),
        Found::Bare(_) => Err("a bare CR or LF"),
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
    if let Some(status) = behind(line, b"+OK") {
        Ok(Reply::Yes(status))
    } else if let Some(status) = behind(line, b"-ERR") {
        Ok(Reply::No(status))
    } else if behind(line, b"+").is_some() {
        Ok(Reply::GoAhead)
    } else {
        Err("neither +OK nor -ERR")
    }
}

/// What stands behind this indicator and its blank.
fn behind<'a>(line: &'a [u8], indicator: &[u8]) -> Option<Status<'a>> {
    let rest = line.strip_prefix(indicator)?;
    let whole = if rest.is_empty() { rest } else { rest.strip_prefix(b" ")? };
    let coded = whole.strip_prefix(b"[").and_then(|inside| {
        let end = inside.iter().position(|octet| *octet == b']')?;
        Some((inside.get(..end)?, inside.get(end.saturating_add(1)..)?.trim_ascii_start()))
    });
    Some(match coded {
        Some((code, text)) => Status { code: Some(code), text, whole },
        None => Status { code: None, text: whole, whole },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(reply: &str) -> String {
        let status = |status: Status<'_>| {
            let code = status.code.map(|code| String::from_utf8_lossy(code).into_owned());
            format!("{code:?} {:?}", String::from_utf8_lossy(status.text))
        };
        match read(format!("{reply}\r\n").as_bytes()) {
            Ok(Reply::Yes(yes)) => format!("yes {}", status(yes)),
            Ok(Reply::No(no)) => format!("no {}", status(no)),
            Ok(Reply::GoAhead) => "+".to_owned(),
            Err(why) => why.to_owned(),
        }
    }

    #[test]
    fn replies_mean_what_the_grammar_says() {
        for (reply, expected) in [
            ("+OK", "yes None \"\""),
            ("+OK Logged in.", "yes None \"Logged in.\""),
            ("+OK [XCLIENT] ready", "yes Some(\"XCLIENT\") \"ready\""),
            ("-ERR [SYS/TEMP] later", "no Some(\"SYS/TEMP\") \"later\""),
            ("-ERR [IN-USE]", "no Some(\"IN-USE\") \"\""),
            ("-ERR  [AUTH] x", "no None \" [AUTH] x\""),
            ("-ERR [never closed", "no None \"[never closed\""),
            ("-ERR x [AUTH]", "no None \"x [AUTH]\""),
            ("-ERR", "no None \"\""),
            ("+ ", "+"),
            ("+", "+"),
            ("+ VXNlcm5hbWU6", "+"),
            ("+OKAY", "neither +OK nor -ERR"),
            ("+ok", "neither +OK nor -ERR"),
            ("-ERROR", "neither +OK nor -ERR"),
            ("* OK", "neither +OK nor -ERR"),
            (".", "neither +OK nor -ERR"),
            ("", "neither +OK nor -ERR"),
            ("+OK a\0", "a NUL"),
        ] {
            assert_eq!(shown(reply), expected, "{reply}");
        }
    }

    #[test]
    fn codes_have_kinds() {
        let has = |code: &str, name| Status { code: Some(code.as_bytes()), text: b"", whole: b"" }.has_code(name);
        assert!(has("sys/temp", "SYS/TEMP") && has("SYS/TEMP/DISK", "SYS/TEMP") && has("AUTH", "AUTH"));
        assert!(!has("SYS/TEMPO", "SYS/TEMP") && !has("SYS", "SYS/TEMP") && !has("", "AUTH"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_borders_lie_inside(input in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'+'), Just(b'O'), Just(b'K'), Just(b' '), Just(b'['), Just(b']'), any::<u8>()], 0..60)) {
            if let Ok(Some(end)) = border(&input) {
                prop_assert!(end <= input.len() && input[..end].ends_with(b"\r\n"));
                let _ = read(&input[..end]);
            }
        }
    }
}
