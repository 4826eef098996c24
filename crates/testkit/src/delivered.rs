//! What a mail server delivered: a maildir for all recipients, and the messages in it.
//!
//! A server of the testkit that takes mail puts every message of every recipient into one maildir. A message is there
//! once it is complete, so a test waits for a number of them and reads. What only the server can have added is read
//! from the header: `Received`, and `Delivered-To` with the recipient.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wait::{PATIENCE, poll};

/// The maildir of one server.
#[derive(Clone, Debug)]
pub struct Delivered {
    maildir: PathBuf,
}

/// A message as it lies there: with the server's fields in front, and with the server's line ends (LF).
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    raw: Vec<u8>,
}

impl Delivered {
    /// The maildir at this path, which need not be there yet.
    pub(crate) fn at(maildir: impl Into<PathBuf>) -> Delivered {
        Delivered { maildir: maildir.into() }
    }

    /// The messages so far, in the order of their arrival. Those that arrive at the same time have none.
    #[track_caller]
    pub fn messages(&self) -> Vec<Message> {
        let mut found: Vec<_> = files(&self.maildir.join("new"));
        found.sort();
        found.into_iter().map(|(_, path)| Message::read(&path)).collect()
    }

    /// Waits until there are `n` messages and returns them; more than that fail the test.
    #[track_caller]
    pub fn wait_for(&self, n: usize) -> Vec<Message> {
        let _ = poll(PATIENCE, || (files(&self.maildir.join("new")).len() >= n).then_some(()));
        let messages = self.messages();
        assert!(messages.len() == n, "{} messages were delivered, waited for {n}: {messages:#?}", messages.len());
        messages
    }
}

impl Message {
    /// All of it.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The values of all fields of this name, from the top, each in one line with one blank where it was folded.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let (header, _) = self.halves();
        let header = String::from_utf8_lossy(header).replace("\r\n", "\n");
        let mut unfolded: Vec<String> = Vec::new();
        for line in header.lines() {
            match unfolded.last_mut() {
                Some(last) if line.starts_with([' ', '\t']) => {
                    last.push(' ');
                    last.push_str(line.trim());
                }
                _ => unfolded.push(line.trim_end().to_owned()),
            }
        }
        let named = unfolded.iter().filter_map(|line| line.split_once(':'));
        named.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// The field of the last server: that to which it was delivered.
    #[track_caller]
    pub fn received(&self) -> String {
        let Some(first) = self.fields("Received").into_iter().next() else { panic!("no Received field in {self:?}") };
        first
    }

    /// What stands behind the first empty line.
    pub fn body(&self) -> &[u8] {
        self.halves().1
    }

    #[track_caller]
    fn read(path: &Path) -> Message {
        Message { raw: fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display())) }
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        let ends = [&b"\n\n"[..], b"\n\r\n"];
        let found = ends.iter().filter_map(|end| {
            let at = self.raw.windows(end.len()).position(|w| w == *end)?;
            Some((at, at + end.len()))
        });
        match found.min() {
            Some((at, behind)) => (&self.raw[..at], &self.raw[behind..]),
            None => (&self.raw, &[]),
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.raw[..self.raw.len().min(SHOWN)];
        write!(f, "({} octets)\n{}", self.raw.len(), String::from_utf8_lossy(shown))
    }
}

/// How much of a message a failed test shows.
const SHOWN: usize = 4096;

/// Files of a directory with the time when they were written, in nanoseconds.
fn files(dir: &Path) -> Vec<(u128, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let dated = |entry: fs::DirEntry| {
        let written = entry.metadata().ok()?.modified().ok()?;
        Some((written.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos(), entry.path()))
    };
    entries.flatten().filter_map(dated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dir;

    #[test]
    fn folded_fields_are_one_line_and_the_body_begins_behind_the_first_empty_one() {
        let text = "Received: from a\n\tby b;\n  now\nTo: x\nreceived: two\n\nReceived: no field\n\nend\n";
        for raw in [text.to_owned(), text.replace('\n', "\r\n")] {
            let message = Message { raw: raw.into_bytes() };
            assert_eq!(message.fields("Received"), ["from a by b; now", "two"]);
            assert_eq!(message.received(), "from a by b; now");
            assert!(message.body().starts_with(b"Received: no field"));
        }
    }

    #[test]
    fn messages_come_in_the_order_of_their_arrival() {
        let dir = Dir::new();
        let delivered = Delivered::at(dir.join("box"));
        assert!(delivered.messages().is_empty());
        dir.create("box/new");
        for (second, name) in [(2, "a"), (1, "b"), (3, "c")] {
            let path = dir.write(format!("box/new/{name}"), name);
            let when = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
            fs::File::options().write(true).open(path).and_then(|f| f.set_modified(when)).unwrap();
        }
        let raw: Vec<Vec<u8>> = delivered.wait_for(3).iter().map(|l| l.raw().to_vec()).collect();
        assert_eq!(raw, [b"b", b"a", b"c"]);
    }
}
