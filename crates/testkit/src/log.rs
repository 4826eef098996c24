//! A log file that a child writes and a test reads.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::wait::{PATIENCE, poll};

/// A view of a log file from some line onwards. It need not exist yet: a missing file has no lines.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
    skip: usize,
}

impl Log {
    /// The whole of the file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Log {
        Log { path: path.into(), skip: 0 }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A view of what is written from now on.
    pub fn from_here(&self) -> Log {
        Log { path: self.path.clone(), skip: self.all().len() }
    }

    /// The complete lines so far; bytes that are no UTF-8 are shown as replacement characters.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.all();
        lines.drain(..self.skip.min(lines.len()));
        lines
    }

    /// How many lines so far contain `piece`.
    pub fn count(&self, piece: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(piece)).count()
    }

    /// Waits for a line that contains `piece` and returns the first such line.
    #[track_caller]
    pub fn wait_for(&self, piece: &str) -> String {
        self.wait_for_all(&[piece])
    }

    /// Waits for a line that contains all `pieces`, in this order and without overlap, and returns the first such line.
    #[track_caller]
    pub fn wait_for_all(&self, pieces: &[&str]) -> String {
        match poll(PATIENCE, || self.find(pieces)) {
            Some(line) => line,
            None => panic!("waited {} s for a log line with {pieces:?}; {}", PATIENCE.as_secs(), self.tail()),
        }
    }

    /// Waits until `n` lines contain `piece` and returns them all.
    #[track_caller]
    pub fn wait_for_count(&self, piece: &str, n: usize) -> Vec<String> {
        let enough = || {
            let found: Vec<_> = self.lines().into_iter().filter(|line| line.contains(piece)).collect();
            (found.len() >= n).then_some(found)
        };
        match poll(PATIENCE, enough) {
            Some(lines) => lines,
            None => panic!("waited {} s for {n} log lines with {piece:?}; {}", PATIENCE.as_secs(), self.tail()),
        }
    }

    /// The first line so far that contains all `pieces` in this order.
    pub fn find(&self, pieces: &[&str]) -> Option<String> {
        self.lines().into_iter().find(|line| holds_in_order(line, pieces))
    }

    /// The last lines, as a text for failure messages.
    pub fn tail(&self) -> String {
        let lines = self.all();
        let mut last: VecDeque<String> = VecDeque::new();
        let more = lines.len().saturating_sub(TAIL_LINES);
        last.extend(lines.into_iter().skip(more));
        let shown: Vec<String> = last.into_iter().collect();
        format!("the end of {} ({more} lines before it):\n{}", self.path.display(), shown.join("\n"))
    }

    fn all(&self) -> Vec<String> {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // The last piece has no line end yet: a writer is in the middle of it.
        let mut lines: Vec<String> = text.split('\n').map(|l| l.trim_end_matches('\r').to_owned()).collect();
        lines.pop();
        lines
    }
}

const TAIL_LINES: usize = 60;

fn holds_in_order(line: &str, pieces: &[&str]) -> bool {
    let mut rest = line;
    pieces.iter().all(|piece| match rest.split_once(piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_must_come_in_order_and_not_overlap() {
        assert!(holds_in_order("user=<a>, rip=1.2.3.4, x", &["user=<a>", "rip=1.2.3.4"]));
        assert!(!holds_in_order("rip=1.2.3.4, user=<a>", &["user=<a>", "rip=1.2.3.4"]));
        assert!(!holds_in_order("aa", &["aa", "a"]));
    }

    #[test]
    fn an_unfinished_line_is_not_there_yet() {
        let dir = crate::Dir::new();
        let log = Log::at(dir.write("log", "one\ntwo\nthr"));
        assert_eq!(log.lines(), ["one", "two"]);
        let later = log.from_here();
        dir.write("log", "one\ntwo\nthree\n");
        assert_eq!(later.lines(), ["three"]);
        assert_eq!(log.count("t"), 2);
    }

    #[test]
    fn a_missing_file_has_no_lines() {
        assert!(Log::at("/nonexistent/log").lines().is_empty());
    }
}
