//! Mail for a backend, written the way a local delivery agent writes it, and deterministic messages to write.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// The owner of all mail: `nobody`, who exists everywhere and is above Dovecot's lower limit for user ids.
pub(super) const UID: u32 = 65534;
/// Likewise `nogroup`.
pub(super) const GID: u32 = 65534;

/// Gives a path to the owner of mail.
#[track_caller]
pub(super) fn own(path: &Path) {
    chown(path, Some(UID), Some(GID)).unwrap_or_else(|e| panic!("cannot give {} away: {e}", path.display()));
}

/// Delivers a message: complete in `tmp`, then renamed into `new`.
#[track_caller]
pub(super) fn add(home: &Path, mailbox: &str, message: &[u8]) {
    let dir = mailbox_dir(home, mailbox);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Dovecot numbers new messages in the order of their file names.
    let name = format!("{DATE}.M{number:06}P{}.testkit", std::process::id());
    let (temporary, delivered) = (dir.join("tmp").join(&name), dir.join("new").join(&name));
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(DATE + u64::from(number));
    let written = fs::write(&temporary, message)
        .and_then(|()| fs::File::options().write(true).open(&temporary)?.set_modified(when))
        .and_then(|()| chown(&temporary, Some(UID), Some(GID)))
        .and_then(|()| fs::rename(&temporary, &delivered));
    written.unwrap_or_else(|e| panic!("cannot deliver to {}: {e}", dir.display()));
}

/// Message `number` of the series `seed`; the same arguments give the same bytes on every machine. CRLF line ends.
///
/// By `number % 8`: 1 has raw 8-bit text (UTF-8, then Latin-1, which is no UTF-8), 2 an empty body, 3 a body of 5 MB
/// (5 000 000 bytes), 4 dots and IMAP look-alikes at line starts, 5 one very long line; the others are ordinary.
pub fn sample(seed: u64, number: usize) -> Vec<u8> {
    let mut random = Random(seed ^ (number as u64).wrapping_mul(0x2545_F491_4F6C_DD1D));
    let mut message = format!(
        "From: Sender <sender@example.org>\r\nTo: reader@example.com\r\nSubject: message {number} of series {seed}\r\n\
         Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <{seed}.{number}@testkit.example.org>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .into_bytes();
    match number % 8 {
        1 => {
            message.extend_from_slice("Grüße, привет, 你好\r\n".as_bytes());
            message.extend_from_slice(b"Gr\xfc\xdfe \xa4 \xff\r\n");
        }
        2 => {}
        3 => {
            let end = message.len() + 5_000_000;
            while message.len() < end {
                random.line(&mut message);
            }
            message.truncate(end - 2);
            message.extend_from_slice(b"\r\n");
        }
        4 => message.extend_from_slice(b".\r\n..\r\n* BYE not really\r\nt1 OK not really\r\n)\r\n{5}\r\n+ \r\n"),
        5 => {
            message.extend((0..20_000).map(|_| random.letter()));
            message.extend_from_slice(b"\r\n");
        }
        _ => {
            for _ in 0..=random.next() % 20 {
                random.line(&mut message);
            }
        }
    }
    message
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// 2023-11-14 22:13:20 UTC, so that dates in tests do not depend on the day.
const DATE: u64 = 1_700_000_000;

/// Creates what is missing of a Maildir++ and returns the mailbox's directory.
#[track_caller]
fn mailbox_dir(home: &Path, mailbox: &str) -> PathBuf {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    assert!(mailbox.chars().all(plain), "not a plain mailbox name: {mailbox:?}");
    let root = home.join("Maildir");
    let dir = if mailbox == "INBOX" { root.clone() } else { root.join(format!(".{mailbox}")) };
    // Each level is given to its owner, or Dovecot cannot put its indexes beside the mail.
    for path in [home, &root, &dir, &dir.join("tmp"), &dir.join("new"), &dir.join("cur")] {
        fs::create_dir_all(path).unwrap_or_else(|e| panic!("cannot create {}: {e}", path.display()));
        own(path);
    }
    if mailbox != "INBOX" {
        let marker = dir.join("maildirfolder");
        fs::write(&marker, "").unwrap_or_else(|e| panic!("cannot create {}: {e}", marker.display()));
        own(&marker);
    }
    dir
}

/// SplitMix64: small, and the same everywhere for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn letter(&mut self) -> u8 {
        let [letter, ..] = (self.next() % 26).to_le_bytes();
        b'a' + letter
    }

    fn line(&mut self, into: &mut Vec<u8>) {
        let length = 20 + self.next() % 50;
        into.extend((0..length).map(|n| if n % 7 == 6 { b' ' } else { self.letter() }));
        into.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_the_same_each_time_and_differ_from_each_other() {
        assert_eq!(sample(7, 0), sample(7, 0));
        assert_ne!(sample(7, 0), sample(7, 8));
        assert_ne!(sample(7, 0), sample(8, 0));
    }

    #[test]
    fn among_eight_samples_are_the_awkward_ones() {
        let all: Vec<_> = (0..8).map(|n| sample(1, n)).collect();
        let body = |m: &[u8]| m.windows(4).position(|w| w == b"\r\n\r\n").map(|at| m.len() - at - 4);
        assert!(all.iter().any(|m| std::str::from_utf8(m).is_err()));
        assert!(all.iter().any(|m| body(m) == Some(0)));
        assert!(all.iter().any(|m| body(m) == Some(5_000_000)));
        for message in &all {
            let lines = message.split_inclusive(|&b| b == b'\n');
            assert!(lines.into_iter().all(|l| l.ends_with(b"\r\n") && !l[..l.len() - 2].contains(&b'\r')));
        }
    }
}
