//! What is wrong with a configuration, told so that it can be put right: place, code, sentence, fix.
//!
//! All problems of all files are told at once, up to [`MOST`]; what follows is counted. A problem may quote names out of the
//! file, escaped and cut ([`shown`]), and never a value that could be a secret.

use std::fmt;
use std::path::PathBuf;

/// How many problems are told before they are only counted.
pub const MOST: usize = 200;

/// A place in a file; line and column count from 1, the column in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: usize,
    /// The column.
    pub col: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file's name may hold anything but NUL and `/`; a terminal must not obey it.
        write!(f, "{}:{}:{}", plain(&self.file.to_string_lossy()), self.line, self.col)
    }
}

/// Whether the program can run in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It cannot.
    Error,
    /// It can.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// How grave.
    pub level: Level,
    /// A stable word for scripts: `syntax`, `unknown`, `kind`, `range`, `later`, ...
    pub code: &'static str,
    /// What is wrong, one sentence without a full stop.
    pub text: String,
    /// What to do.
    pub fix: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(f, "{}: {level}[{}]: {}", self.at, self.code, self.text)?;
        match &self.fix {
            Some(fix) => write!(f, "\n  fix: {fix}"),
            None => Ok(()),
        }
    }
}

/// The problems of a configuration that cannot be used, in the order of files and lines, warnings among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The first [`MOST`].
    pub list: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A word of the file in backticks: escaped, and cut after 60 characters.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("`{}{dots}`", plain(&cut))
}

/// Without control characters and direction marks.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // `escape_debug` knows what is printable, and would also double quotes and backslashes, which are harmless here.
        if matches!(c, '"' | '\'' | '\\') {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form() {
        let mut problem = Problem {
            at: Place { file: PathBuf::from("/etc/gatepost/gatepost.toml"), line: 3, col: 7 },
            level: Level::Error,
            code: "unknown",
            text: "no such key".to_owned(),
            fix: None,
        };
        assert_eq!(problem.to_string(), "/etc/gatepost/gatepost.toml:3:7: error[unknown]: no such key");
        problem.fix = Some("write it right".to_owned());
        problem.level = Level::Warning;
        assert_eq!(problem.to_string(), "/etc/gatepost/gatepost.toml:3:7: warning[unknown]: no such key\n  fix: write it right");
        let two = Problems { list: vec![problem.clone(), problem], more: 3 };
        assert_eq!(two.to_string().lines().count(), 5);
        assert!(two.to_string().ends_with("\nand 3 more"));
    }

    #[test]
    fn what_is_quoted_cannot_steer_a_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "`a\\u{1b}[2Jb\\n`");
        assert_eq!(shown("\u{202e}x"), "`\\u{202e}x`");
        assert_eq!(shown(&"x".repeat(100)), format!("`{}...`", "x".repeat(60)));
        assert_eq!(shown("it's \"ü\""), "`it's \"ü\"`");
    }
}
