//! `TIME LEVEL EVENT name=value name=value ...`, and what all formats share: how a value is cut and escaped.

use super::{LINE_MAX, Level, VALUE_MAX, Word, level_word};
use std::fmt::{self, Display, Write as _};

/// A line without its time and its end.
pub(super) fn message(level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
    let mut line = format!("{} {event}", level_word(level));
    let left_out = each(&mut line, words, |line, name, word| {
        let _ = write!(line, " {}=", Name(name));
        plain(line, word, |line, value| {
            let quoted = value.is_empty() || value.contains([' ', '"', '=', '\\']) || value.chars().any(unprintable);
            let quote = if quoted { "\"" } else { "" };
            line.push_str(quote);
            escape(line, value, |line, c| {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            });
            line.push_str(quote);
        });
    });
    if left_out > 0 {
        let _ = write!(line, " left_out={left_out}");
    }
    line
}

/// Appends each word as long as the line is not too long; `session`, the last and short, always. Returns how many were not.
pub(super) fn each(line: &mut String, words: &[(&str, Word<'_>)], mut write: impl FnMut(&mut String, &str, &Word<'_>)) -> usize {
    let mut left_out = 0;
    for (name, word) in words {
        if matches!(word, Word::Dovecot(_)) {
            continue;
        }
        let before = line.len();
        write(line, name, word);
        if line.len() > LINE_MAX && *name != "session" {
            line.truncate(before);
            left_out += 1;
        }
    }
    left_out
}

/// A value: a number as it is, a text by `text`.
pub(super) fn plain(line: &mut String, word: &Word<'_>, text: impl FnOnce(&mut String, &str)) {
    let _ = match word {
        Word::Number(n) => write!(line, "{n}"),
        Word::Seconds(d) => write!(line, "{:.3}", d.as_secs_f64()),
        Word::Text(value) | Word::Dovecot(value) => {
            text(line, &cut(value, VALUE_MAX));
            Ok(())
        }
    };
}

/// Appends a text for between two quotes.
pub(super) fn escape(line: &mut String, value: &str, spell: impl Fn(&mut String, char)) {
    for c in value.chars() {
        if unprintable(c) {
            spell(line, c);
        } else {
            if matches!(c, '"' | '\\') {
                line.push('\\');
            }
            line.push(c);
        }
    }
}

/// Appends a text that has its place to itself.
pub fn escape_control(line: &mut String, value: &str) {
    for c in value.chars() {
        if unprintable(c) {
            let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
        } else {
            line.push(c);
        }
    }
}

/// Control characters, and characters that would reorder the line on a terminal.
pub fn unprintable(c: char) -> bool {
    wire::encode::is_invisible(c)
        || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The name of a word. Those of a row's `user_` and `event_` fields come from a database.
pub(super) struct Name<'a>(pub(super) &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(64) {
            f.write_char(if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' })?;
        }
        Ok(())
    }
}

/// The beginning of a text, at most `max` octets.
pub(super) fn cut(value: &dyn Display, max: usize) -> String {
    struct Cut(String, usize);
    impl fmt::Write for Cut {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            for c in s.chars() {
                if self.0.len() + c.len_utf8() > self.1 {
                    return Err(fmt::Error); // enough: stop formatting
                }
                self.0.push(c);
            }
            Ok(())
        }
    }
    let mut cut = Cut(String::new(), max);
    let _ = write!(cut, "{value}");
    cut.0
}
