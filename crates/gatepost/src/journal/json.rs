//! One JSON object a line: `time`, `level`, `event` and the words.

use super::text::{Name, each, escape, plain};
use super::{Level, Word, level_word};
use std::fmt::Write as _;

/// A line without its end.
pub(super) fn message(now: &str, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
    let mut line = format!("{{\"time\":\"{now}\",\"level\":\"{}\",\"event\":\"{event}\"", level_word(level));
    let left_out = each(&mut line, words, |line, name, word| {
        let _ = write!(line, ",\"{}\":", Name(name));
        plain(line, word, |line, value| {
            line.push('"');
            escape(line, value, |line, c| {
                for unit in c.encode_utf16(&mut [0u16; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            });
            line.push('"');
        });
    });
    if left_out > 0 {
        let _ = write!(line, ",\"left_out\":{left_out}");
    }
    line.push('}');
    line
}
