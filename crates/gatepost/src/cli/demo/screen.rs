//! The demo's words on a terminal: at most [`WIDTH`] columns, colours only where somebody can see them.
//!
//! Everything that is printed here has been cleaned by whoever made it; what cannot be written (the reader of a pipe has
//! gone) is nobody's loss.

use std::io::{IsTerminal, Write};

/// Columns of a line.
pub const WIDTH: usize = 110;
/// Columns of the left side of two.
const LEFT: usize = 50;
/// Columns by which the rest of a folded line is moved in.
const HANG: usize = 4;

/// Colours, by what they mean.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    /// A heading.
    Heading,
    /// The first mail server.
    East,
    /// The second one.
    West,
    /// Gatepost's own words.
    Journal,
    /// A check that holds.
    Good,
    /// One that does not.
    Bad,
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    colours: bool,
}

impl Screen {
    /// Looks whether somebody can see colours: a terminal that is not `dumb`, and no `NO_COLOR` (no-color.org).
    pub fn new() -> Screen {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen { colours: std::io::stdout().is_terminal() && !dumb && !is_set("NO_COLOR") }
    }

    /// Prints a line, or several. Lines of different threads do not mix.
    pub fn say(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Prints one thought behind a coloured word, folded.
    pub fn tell(&self, tone: Tone, word: &str, text: &str) {
        let folded = fold(&format!("{word} {text}"), WIDTH).join("\n");
        let rest = folded.strip_prefix(word).unwrap_or(&folded);
        self.say(&format!("{}{rest}", self.paint(tone, word)));
    }

    /// Text in a colour.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Heading => "1",
            Tone::East => "36",
            Tone::West => "35",
            Tone::Journal => "33",
            Tone::Good => "32",
            Tone::Bad => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Two columns, each line of each side folded.
pub fn side_by_side(left: &[String], right: &[String]) -> Vec<String> {
    let fold_all = |side: &[String], width| side.iter().flat_map(|line| fold(line, width)).collect::<Vec<_>>();
    let (left, right) = (fold_all(left, LEFT), fold_all(right, WIDTH.saturating_sub(LEFT).saturating_sub(3)));
    let empty = String::new();
    (0..left.len().max(right.len()))
        .map(|n| {
            let (left, right) = (left.get(n).unwrap_or(&empty), right.get(n).unwrap_or(&empty));
            format!("{left:LEFT$} | {right}").trim_end().to_owned()
        })
        .collect()
}

/// Folds a line at spaces, and in the middle of words that are wider than a line.
pub fn fold(line: &str, width: usize) -> Vec<String> {
    let mut folded = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    let mut hang = 0;
    loop {
        let room = width.saturating_sub(hang).max(1);
        if rest.len() <= room {
            break;
        }
        // A space right behind the room is as good as one in it; one at the very start would make an empty line.
        let space = rest.iter().take(room.saturating_add(1)).rposition(|c| *c == ' ').filter(|at| *at > room / 3);
        let behind = rest.split_off(space.unwrap_or(room).min(rest.len()));
        folded.push(format!("{:hang$}{}", "", rest.iter().collect::<String>()));
        rest = behind.into_iter().skip(usize::from(space.is_some())).collect();
        hang = HANG;
    }
    folded.push(format!("{:hang$}{}", "", rest.iter().collect::<String>()));
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_at_spaces() {
        assert_eq!(fold("short", 20), ["short"]);
        assert_eq!(fold("", 20), [""]);
        assert_eq!(fold("one two three four five six", 15), ["one two three", "    four five", "    six"]);
        assert_eq!(fold("one two three f", 13), ["one two three", "    f"]);
        assert_eq!(fold(&"x".repeat(30), 20), ["x".repeat(20), format!("    {}", "x".repeat(10))]);
        for width in [1, 5, 20, 110] {
            for line in [&"é ".repeat(100), &"x".repeat(333), &format!("{} {}", "y".repeat(50), "z".repeat(50)), &" ".repeat(50)]
            {
                let folded = fold(line, width);
                assert!(folded.iter().all(|line| line.chars().count() <= width.max(HANG + 1)), "{folded:?}");
                let letters = |text: &str| text.chars().filter(|c| *c != ' ').count();
                assert_eq!(folded.iter().map(|line| letters(line)).sum::<usize>(), letters(line), "nothing is lost");
            }
        }
    }

    #[test]
    fn two_columns_stand_side_by_side() {
        let lines = side_by_side(&["> a".into(), "< b".into(), "< c".into()], &["x ".repeat(40).trim_end().into()]);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with(&format!("> a{}| x x", " ".repeat(LEFT - 2))), "{lines:?}");
        assert!(lines[2].ends_with(" |"), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
    }
}
