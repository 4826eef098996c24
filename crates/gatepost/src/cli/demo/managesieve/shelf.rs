//! The scripts of one mailbox: in memory, few and short, gone when the demo is.
//!
//! A script is looked at as far as its form goes (RFC 5228 section 2): text in UTF-8 whose strings, comments and brackets end,
//! and whose last command does. What it would do is nobody's business here, for no letter is ever delivered.

use std::collections::BTreeMap;

/// The longest script, in octets.
pub const SCRIPT_MAX: usize = 16 * 1024;
/// The most scripts.
pub const SCRIPTS_MAX: usize = 16;
/// The longest name, in octets (RFC 5804 section 1.6 wants 512).
const NAME_MAX: usize = 512;
/// How deep brackets may stand in each other.
const DEPTH_MAX: usize = 32;

/// Scripts by their names.
#[derive(Debug, Default)]
pub struct Shelf {
    scripts: BTreeMap<String, Vec<u8>>,
    active: Option<String>,
}

/// Why something is not done: a code (RFC 5804 section 1.3), where there is one for it, and words for the client.
#[derive(Debug, PartialEq, Eq)]
pub struct No {
    /// The code without its parentheses.
    pub code: Option<&'static str>,
    /// The words.
    pub text: String,
}

impl No {
    fn new(code: &'static str, text: &str) -> No {
        No { code: Some(code), text: text.to_owned() }
    }
}

impl Shelf {
    /// Whether a script of that name and length would find its place.
    ///
    /// # Errors
    /// It would not.
    pub fn has_space(&self, name: &str, octets: usize) -> Result<(), No> {
        if octets > SCRIPT_MAX {
            return Err(No::new("QUOTA/MAXSIZE", &format!("A script has at most {SCRIPT_MAX} octets here.")));
        }
        if !self.scripts.contains_key(name) && self.scripts.len() >= SCRIPTS_MAX {
            return Err(No::new("QUOTA/MAXSCRIPTS", &format!("There is room for {SCRIPTS_MAX} scripts here.")));
        }
        Ok(())
    }

    /// Stores a script, in place of one of that name.
    ///
    /// # Errors
    /// There is no space, or it is none.
    pub fn put(&mut self, name: &str, script: &[u8]) -> Result<(), No> {
        self.has_space(name, script.len())?;
        check(script)?;
        self.scripts.insert(name.to_owned(), script.to_vec());
        Ok(())
    }

    /// The script of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&[u8], No> {
        self.scripts.get(name).map(Vec::as_slice).ok_or_else(no_such)
    }

    /// Makes a script the active one; none with an empty name.
    ///
    /// # Errors
    /// There is no such script.
    pub fn activate(&mut self, name: &str) -> Result<(), No> {
        if !name.is_empty() {
            self.get(name)?;
        }
        self.active = Some(name.to_owned()).filter(|name| !name.is_empty());
        Ok(())
    }

    /// Takes a script away.
    ///
    /// # Errors
    /// It is the active one, or there is none.
    pub fn delete(&mut self, name: &str) -> Result<(), No> {
        if self.active.as_deref() == Some(name) {
            return Err(No::new("ACTIVE", "That script is the active one."));
        }
        self.scripts.remove(name).map(|_| ()).ok_or_else(no_such)
    }

    /// Gives a script another name; the active one stays active.
    ///
    /// # Errors
    /// There is none, or already one of the new name.
    pub fn rename(&mut self, old: &str, new: &str) -> Result<(), No> {
        self.get(old)?;
        if self.scripts.contains_key(new) {
            return Err(No::new("ALREADYEXISTS", "There is a script of that name already."));
        }
        if let Some(script) = self.scripts.remove(old) {
            self.scripts.insert(new.to_owned(), script);
        }
        if self.active.as_deref() == Some(old) {
            self.active = Some(new.to_owned());
        }
        Ok(())
    }

    /// The names in order, and whether it is the active one's.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        self.scripts.keys().map(|name| (name.as_str(), self.active.as_deref() == Some(name)))
    }
}

fn no_such() -> No {
    No::new("NONEXISTENT", "There is no script of that name.")
}

/// Whether it is a name (RFC 5804 section 1.6).
pub fn is_name(name: &str) -> bool {
    let is_line_end = |c: char| matches!(c, '\u{2028}' | '\u{2029}');
    (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(|c| c.is_control() || is_line_end(c))
}

/// Looks at the form of a script.
///
/// # Errors
/// What is wrong, and in which line.
pub fn check(script: &[u8]) -> Result<(), No> {
    let no = |text: &str| No { code: None, text: text.to_owned() };
    let text = std::str::from_utf8(script).map_err(|_| no("A script is text in UTF-8."))?;
    if text.contains('\0') {
        return Err(no("A script holds no NUL."));
    }
    let (mut rest, mut open, mut last) = (text, Vec::new(), ';');
    let line_of = |rest: &str| text.matches('\n').count().saturating_sub(rest.matches('\n').count()).saturating_add(1);
    let wrong = |rest: &str, what: &str| Err(no(&format!("Line {}: {what}", line_of(rest))));
    while let Some(c) = rest.chars().next() {
        let behind = rest.get(c.len_utf8()..).unwrap_or_default();
        let skipped = match c {
            ' ' | '\t' | '\r' | '\n' => Some(behind),
            '#' => Some(behind.split_once('\n').map_or("", |(_, next)| next)),
            '/' if behind.starts_with('*') => match behind.split_once("*/") {
                Some((_, next)) => Some(next),
                None => return wrong(rest, "this comment does not end."),
            },
            _ => None,
        };
        if let Some(skipped) = skipped {
            rest = skipped;
            continue;
        }
        let next = match c {
            '"' => match behind_string(behind) {
                Some(next) => next,
                None => return wrong(rest, "this string does not end."),
            },
            // A string of many lines, up to a line with nothing but a dot.
            't' | 'T' if is_word_start(text, rest) && rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("text:")) => {
                match behind.split_once("\n.\r\n").or_else(|| behind.split_once("\n.\n")) {
                    Some((_, next)) => next,
                    None => return wrong(rest, "this text does not end."),
                }
            }
            '(' | '[' | '{' if open.len() >= DEPTH_MAX => return wrong(rest, "brackets stand too deep here."),
            '(' | '[' | '{' => {
                open.push(c);
                behind
            }
            ')' | ']' | '}' => {
                let expected = match c {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop() != Some(expected) || (c == '}' && !matches!(last, ';' | '{' | '}')) {
                    return wrong(rest, "this bracket has no place here.");
                }
                behind
            }
            ';' if matches!(open.last(), None | Some('{')) && !matches!(last, ';' | '{' | '}') => behind,
            ',' | ':' => behind,
            c if c.is_ascii_alphanumeric() || c == '_' => behind,
            _ => return wrong(rest, "this means nothing here."),
        };
        last = c;
        rest = next;
    }
    match (open.is_empty(), last) {
        (false, _) => Err(no("A bracket is not closed.")),
        (true, ';' | '}') => Ok(()),
        (true, _) => Err(no("The last command does not end in a semicolon.")),
    }
}

/// What stands behind the quote that ends a string.
fn behind_string(inside: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, octet) in inside.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return inside.get(at.saturating_add(1)..),
            _ => {}
        }
    }
    None
}

/// Whether no word goes on here.
fn is_word_start(text: &str, rest: &str) -> bool {
    let before = text.get(..text.len().saturating_sub(rest.len())).unwrap_or_default();
    !before.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_script_has_a_form() {
        for fine in [
            super::super::SCRIPT,
            "",
            "keep;",
            "# only a comment",
            "/* one\n of two lines */ keep;\n",
            "require [\"fileinto\", \"reject\"];\r\nif anyof (size :over 100K, not header \"a\" \"b\") { discard; } else { keep; }",
            "redirect \"a;{[(\\\"\";",
            "vacation text:\r\nI am away; {\r\n..\r\n.\r\n;",
            "if true { }",
            "if true { if true { stop; } }",
        ] {
            assert_eq!(check(fine.as_bytes()), Ok(()), "{fine:?}");
        }
        for (bad, expected) in [
            (&b"keep"[..], "The last command does not end in a semicolon."),
            (b"keep;\nif true {", "A bracket is not closed."),
            (b"keep;\n}", "Line 2: this bracket has no place here."),
            (b"if (true] { }", "Line 1: this bracket has no place here."),
            (b"if true { keep }", "Line 1: this bracket has no place here."),
            (b"fileinto (\"a\";);", "Line 1: this means nothing here."),
            (b"keep;;", "Line 1: this means nothing here."),
            (b"keep;\n\n\"abc;", "Line 3: this string does not end."),
            (b"/* abc", "Line 1: this comment does not end."),
            (b"vacation text:\r\nabc;\r\n", "Line 1: this text does not end."),
            (b"<html>", "Line 1: this means nothing here."),
            ("käse;".as_bytes(), "Line 1: this means nothing here."),
            (b"\xff;", "A script is text in UTF-8."),
            (b"\0", "A script holds no NUL."),
        ] {
            assert_eq!(check(bad).unwrap_err().text, expected, "{}", bad.escape_ascii());
        }
        assert!(check("[".repeat(DEPTH_MAX + 1).as_bytes()).unwrap_err().text.contains("too deep"));
    }

    #[test]
    fn it_is_bounded_and_knows_its_scripts() {
        let mut shelf = Shelf::default();
        let code = |result: Result<(), No>| result.unwrap_err().code;
        for n in 0..SCRIPTS_MAX {
            shelf.put(&format!("script {n:02}"), b"keep;").unwrap();
        }
        assert_eq!(code(shelf.put("one more", b"keep;")), Some("QUOTA/MAXSCRIPTS"));
        assert_eq!(code(shelf.put("script 00", &vec![b' '; SCRIPT_MAX + 1])), Some("QUOTA/MAXSIZE"));
        shelf.put("script 00", b"stop;").unwrap();
        assert_eq!(shelf.get("script 00"), Ok(&b"stop;"[..]));
        shelf.activate("script 01").unwrap();
        assert_eq!(code(shelf.activate("nothing")), Some("NONEXISTENT"));
        assert_eq!(code(shelf.delete("script 01")), Some("ACTIVE"));
        assert_eq!(code(shelf.delete("nothing")), Some("NONEXISTENT"));
        assert_eq!(code(shelf.rename("script 01", "script 02")), Some("ALREADYEXISTS"));
        assert_eq!(code(shelf.rename("nothing", "something")), Some("NONEXISTENT"));
        shelf.rename("script 01", "an active one").unwrap();
        shelf.delete("script 02").unwrap();
        let names: Vec<_> = shelf.names().collect();
        assert_eq!((names.len(), names[0], names[1]), (SCRIPTS_MAX - 1, ("an active one", true), ("script 00", false)));
        shelf.activate("").unwrap();
        assert!(shelf.names().all(|(_, active)| !active));
        shelf.delete("an active one").unwrap();
    }

    #[test]
    fn names_are_lines() {
        for (name, fine) in [("a", true), ("", false), ("a\nb", false), ("a\u{2028}b", false), ("käse \"x\"", true)] {
            assert_eq!(is_name(name), fine, "{name:?}");
        }
        assert!(is_name(&"x".repeat(NAME_MAX)) && !is_name(&"x".repeat(NAME_MAX + 1)));
    }

    proptest! {
        #[test]
        fn looking_never_panics(script in any::<Vec<u8>>(), text in "[a-c;{}()\\[\\]\"#/*\\\\\n:t. ]{0,80}", words in "(text:|\n\\.\r\n|é|;|\\{){0,20}") {
            let _ = check(&script);
            let _ = check(text.as_bytes());
            let _ = check(words.as_bytes());
        }
    }
}
