//! The words of ManageSieve (RFC 5804 section 4), which both sides write alike: atoms, quoted strings and literals.

use super::Conn;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SieveItem {
    /// A word or a number, or a parenthesis.
    Atom(String),
    /// A string, quoted or a literal.
    Text(Vec<u8>),
}

impl SieveItem {
    /// The string, if it is one.
    pub fn text(&self) -> Option<String> {
        match self {
            SieveItem::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            SieveItem::Atom(_) => None,
        }
    }

    /// Whether it is this word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, SieveItem::Atom(atom) if atom.eq_ignore_ascii_case(word))
    }
}

/// The pieces of a line that has begun with `line`: the data of literals is read, and what follows each of them.
/// `None` when the stream ends before.
#[track_caller]
pub(super) fn items(conn: &mut Conn, line: &str) -> Option<Vec<SieveItem>> {
    let mut found = Vec::new();
    let mut line = line.to_owned();
    loop {
        let literal = pieces(&line, &mut found);
        let Some(size) = literal else { return Some(found) };
        found.push(SieveItem::Text(conn.read_exact(size)));
        line = conn.read_line()?;
    }
}

/// Takes a line apart; the size of the literal that it announces at its end, `None` if it just ends.
fn pieces(line: &str, found: &mut Vec<SieveItem>) -> Option<usize> {
    let mut rest = line;
    loop {
        let mut chars = rest.chars();
        let first = chars.next()?;
        rest = match first {
            ' ' => chars.as_str(),
            '(' | ')' => {
                found.push(SieveItem::Atom(first.to_string()));
                chars.as_str()
            }
            '"' => {
                let (text, after) = quoted(chars.as_str());
                found.push(SieveItem::Text(text.into_bytes()));
                after
            }
            _ => {
                if let Some(size) = announced(rest) {
                    return Some(size);
                }
                let (atom, after) = rest.split_at(rest.find([' ', '(', ')', '"']).unwrap_or(rest.len()));
                found.push(SieveItem::Atom(atom.to_owned()));
                after
            }
        };
    }
}

/// A quoted string behind its first quote, and what follows it.
fn quoted(rest: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return (text, chars.as_str()),
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    (text, "")
}

/// The size in `{n}` or `{n+}`, if that is all there is.
fn announced(rest: &str) -> Option<usize> {
    let digits = rest.strip_prefix('{')?.strip_suffix('}')?;
    digits.strip_suffix('+').unwrap_or(digits).parse().ok()
}

/// A string as one writes it: quoted where that is possible.
pub(super) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let plain = std::str::from_utf8(text).ok().filter(|t| t.len() <= 1024 && !t.contains(['\r', '\n', '\0']));
    match plain {
        Some(plain) => format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\"")).into_bytes(),
        None => literal(text, "+"),
    }
}

/// A string as a literal; clients add `+` behind the size.
pub(super) fn literal(text: impl AsRef<[u8]>, plus: &str) -> Vec<u8> {
    let text = text.as_ref();
    [format!("{{{}{plus}}}\r\n", text.len()).as_bytes(), text].concat()
}

/// Pieces as one line, with every string quoted.
pub(super) fn shown(items: &[SieveItem]) -> String {
    let mut line = String::new();
    for item in items {
        let word = match item {
            SieveItem::Atom(atom) => atom.clone(),
            SieveItem::Text(bytes) => {
                let text = String::from_utf8_lossy(bytes).replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{text}\"")
            }
        };
        if !line.is_empty() && !line.ends_with('(') && word != ")" {
            line.push(' ');
        }
        line.push_str(&word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(line: &str) -> (String, Option<usize>) {
        let mut found = Vec::new();
        let size = pieces(line, &mut found);
        (shown(&found), size)
    }

    #[test]
    fn lines_are_taken_apart_and_put_together() {
        for line in [r#"NO (REFERRAL "sieve://a@b") "x \"y\" \\""#, r#""a" ACTIVE"#, "OK", r#"OK (TAG "x") "Done""#, r#""" """#] {
            assert_eq!(taken(line), (line.to_owned(), None));
        }
        assert_eq!(taken("NO (TRYLATER) {12}"), ("NO (TRYLATER)".to_owned(), Some(12)));
        assert_eq!(taken(r#"PUTSCRIPT "a{5+}" {5+}"#), (r#"PUTSCRIPT "a{5+}""#.to_owned(), Some(5)));
        assert_eq!(taken("{x}").1, None);
    }

    #[test]
    fn what_cannot_be_quoted_is_a_literal() {
        assert_eq!(string("a\"b\\"), b"\"a\\\"b\\\\\"");
        assert_eq!(string("a\r\n"), b"{3+}\r\na\r\n");
        assert_eq!(string(b"\xff"), b"{1+}\r\n\xff");
        assert_eq!(literal("", ""), b"{0}\r\n");
    }
}
