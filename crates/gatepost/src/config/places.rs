//! The files that were read, and where in them something stands.
//!
//! While reading, a place is a [`Spot`], two numbers; line and column are counted only for the few spots that are told.
//!
//! Promises: no more than [`MOST_FILES`] files, [`LARGEST_FILE`] octets each and [`LARGEST_ALL`] together are held, whatever the
//! directory contains; devices and pipes without an end cost no more than that.

use super::problems::Place;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The largest file, octets.
pub(super) const LARGEST_FILE: u64 = 1024 * 1024;
/// The most octets of all files.
pub(super) const LARGEST_ALL: u64 = 8 * LARGEST_FILE;
/// The most files.
pub(super) const MOST_FILES: usize = 1000;

/// A place: which file, and how many octets into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) file: usize,
    pub(super) offset: usize,
}

/// One file.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// Absolute, so that paths stay right when the program changes its directory.
    dir: PathBuf,
    text: String,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: Vec<Source>,
    octets: u64,
}

/// Why a file could not be taken in: where in it, and the reason.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) at: Spot,
    pub(super) reason: String,
}

impl Sources {
    /// Reads a file. It has a number in either case, so that the trouble has a place.
    pub(super) fn take_in(&mut self, path: &Path) -> Result<usize, Unread> {
        let file = self.files.len();
        let start = Spot { file, offset: 0 };
        let dir = path.parent().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())).unwrap_or_default();
        // `parent` of a bare file name is empty, and an empty path has no absolute form.
        let dir = if dir.as_os_str().is_empty() { std::env::current_dir().unwrap_or_default() } else { dir };
        self.files.push(Source { path: path.to_owned(), dir, text: String::new(), lines: vec![0] });
        let left = LARGEST_FILE.min(LARGEST_ALL.saturating_sub(self.octets));
        let octets = read_capped(path, left, file == 0).map_err(|error| Unread { at: start, reason: reason(&error) })?;
        let Some(octets) = octets else {
            let reason = if left < LARGEST_FILE {
                format!("all files together are larger than {} MiB", LARGEST_ALL / (1024 * 1024))
            } else {
                format!("the file is larger than {} MiB", LARGEST_FILE / (1024 * 1024))
            };
            return Err(Unread { at: start, reason });
        };
        self.octets += octets.len() as u64;
        let (text, broken) = match String::from_utf8(octets) {
            Ok(text) => (text, None),
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(offset))
            }
        };
        let lines = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect();
        if let Some(source) = self.files.last_mut() {
            source.text = text;
            source.lines = lines;
        }
        match broken {
            None => Ok(file),
            Some(offset) => Err(Unread { at: Spot { file, offset }, reason: "this is not UTF-8".to_owned() }),
        }
    }

    /// The text of a file.
    pub(super) fn text(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |source| source.text.as_str())
    }

    /// The directory that relative paths at this spot start from.
    pub(super) fn dir(&self, at: Spot) -> &Path {
        self.files.get(at.file).map_or(Path::new(""), |source| source.dir.as_path())
    }

    /// Line and column.
    pub(super) fn place(&self, at: Spot) -> Place {
        let Some(source) = self.files.get(at.file) else {
            return Place { file: PathBuf::new(), line: 1, col: 1 };
        };
        let line = source.lines.partition_point(|&start| start <= at.offset).max(1);
        let start = source.lines.get(line - 1).copied().unwrap_or(0);
        let end = at.offset.min(source.text.len());
        let before = source.text.as_bytes().get(start..end).unwrap_or_default();
        // Characters: octets that do not continue one.
        let col = before.iter().filter(|&&octet| octet & 0xC0 != 0x80).count() + 1;
        Place { file: source.path.clone(), line, col }
    }

    /// The paths of all files, in the order of reading.
    pub(super) fn into_paths(self) -> Vec<PathBuf> {
        self.files.into_iter().map(|source| source.path).collect()
    }
}

/// An error of the system without its number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The whole file, or nothing where it is longer than the limit.
fn read_capped(path: &Path, limit: u64, may_be_pipe: bool) -> io::Result<Option<Vec<u8>>> {
    // The main file may be a pipe that a shell made; nobody writes pipes into a directory of files, and opening one waits.
    if !may_be_pipe && std::fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    let file = File::open(path)?;
    let mut octets = Vec::new();
    file.take(limit + 1).read_to_end(&mut octets)?;
    Ok((octets.len() as u64 <= limit).then_some(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        let text = "a\nüb\r\n\nlast";
        let lines = vec![0, 2, 7, 8];
        let sources =
            Sources { files: vec![Source { path: "f".into(), dir: "/".into(), text: text.to_owned(), lines }], octets: 0 };
        let at = |offset| {
            let place = sources.place(Spot { file: 0, offset });
            (place.line, place.col)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(4), (2, 2), "a character of two octets is one column");
        assert_eq!(at(7), (3, 1));
        assert_eq!(at(8), (4, 1));
        assert_eq!(at(12), (4, 5));
        assert_eq!(at(9999), (4, 5), "never beyond the end");
        assert_eq!(sources.place(Spot { file: 7, offset: 0 }).line, 1);
    }
}
