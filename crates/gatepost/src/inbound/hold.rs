//! The letter while it is here.
//!
//! A small one stays in memory. One that is larger than [`MEMORY`] goes to a file in `server.temp_dir` as it comes, and only the
//! last piece of it is in memory: so what a session costs does not depend on what it is sent. The file has no name from the
//! beginning (`O_TMPFILE`) or from the moment it was made: whatever becomes of this process, nothing is left behind.
//!
//! Files are written and read on threads that may block. Several deliveries read one letter at the same time, each at its own pace.

use bytes::{Bytes, BytesMut};
use rustix::fs::{CWD, Mode, OFlags, openat, statvfs, unlink};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// The most octets of one letter that are kept in memory.
pub const MEMORY: usize = 128 * 1024;
/// What one look into a letter brings at most.
const READ: usize = 64 * 1024;

/// A letter that is coming in.
pub struct Hold {
    dir: PathBuf,
    /// What is not in the file yet; all of it, while there is none.
    waiting: BytesMut,
    file: Option<Arc<File>>,
    written: u64,
}

/// A letter that is here.
#[derive(Debug)]
pub struct Held {
    memory: Bytes,
    file: Option<Arc<File>>,
    size: u64,
}

impl Hold {
    /// Room for a letter; large ones go to this directory.
    pub fn new(dir: &Path) -> Hold {
        Hold { dir: dir.to_owned(), waiting: BytesMut::new(), file: None, written: 0 }
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// No file could be made or written; the letter is lost.
    pub async fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(piece);
        if self.waiting.len() > MEMORY { self.write().await } else { Ok(()) }
    }

    /// All of it is here.
    ///
    /// # Errors
    /// The file could not be written.
    pub async fn finish(mut self) -> io::Result<Held> {
        if self.file.is_some() && !self.waiting.is_empty() {
            self.write().await?;
        }
        let size = self.written.saturating_add(u64::try_from(self.waiting.len()).unwrap_or(u64::MAX));
        // What is in the file is not in memory as well: not even as an empty piece of a large buffer.
        let memory = if self.file.is_some() { Bytes::new() } else { self.waiting.freeze() };
        Ok(Held { memory, file: self.file, size })
    }

    async fn write(&mut self) -> io::Result<()> {
        let (dir, file, at) = (self.dir.clone(), self.file.clone(), self.written);
        let piece = self.waiting.split().freeze();
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let written = spawn_blocking(move || {
            let file = file.map_or_else(|| nameless(&dir).map(Arc::new), Ok)?;
            file.write_all_at(&piece, at)?;
            Ok::<_, io::Error>(file)
        });
        self.file = Some(written.await.map_err(io::Error::other)??);
        self.written = self.written.saturating_add(length);
        Ok(())
    }
}

impl Held {
    /// How many octets it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What stands at an offset; empty behind the end.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn read(&self, at: u64) -> io::Result<Bytes> {
        let Some(file) = &self.file else {
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.memory.len());
            return Ok(self.memory.slice(from..from.saturating_add(READ).min(self.memory.len())));
        };
        let most = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(READ);
        let file = Arc::clone(file);
        let read = spawn_blocking(move || {
            let mut space = vec![0; most];
            file.read_exact_at(&mut space, at)?;
            Ok::<_, io::Error>(Bytes::from(space))
        });
        read.await.map_err(io::Error::other)?
    }
}

/// Whether a letter of so many octets would find room: what fits into memory always does.
pub fn has_room(dir: &Path, octets: u64) -> bool {
    if octets <= u64::try_from(MEMORY).unwrap_or(u64::MAX) {
        return true;
    }
    // What cannot be asked is found out when it is written.
    statvfs(dir).map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= octets)
}

/// The disk, or what this user may have of it, is full.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// A file that nobody can find.
fn nameless(dir: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    match openat(CWD, dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => Ok(File::from(file)),
        // Not every file system knows it.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let name: String = crate::chance::octets::<12>().iter().map(|octet| format!("{octet:02x}")).collect();
            let path = dir.join(format!(".gatepost-{name}"));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
            let file = openat(CWD, &path, flags, mode)?;
            unlink(&path)?;
            Ok(File::from(file))
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn held(pieces: &[&[u8]], dir: &Path) -> Held {
        let mut hold = Hold::new(dir);
        for piece in pieces {
            hold.add(piece).await.unwrap();
            assert!(hold.waiting.len() <= MEMORY, "what waits is bounded");
        }
        hold.finish().await.unwrap()
    }

    async fn all(held: &Held) -> Vec<u8> {
        let mut letter = Vec::new();
        loop {
            let piece = held.read(u64::try_from(letter.len()).unwrap()).await.unwrap();
            if piece.is_empty() {
                return letter;
            }
            letter.extend_from_slice(&piece);
        }
    }

    #[tokio::test]
    async fn a_letter_is_what_it_was_wherever_it_is() {
        let dir = testkit::Dir::new();
        let pattern: Vec<u8> = (0..64 * 1024_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for pieces in [0, 1, 2, 3, 40] {
            let held = held(&vec![&pattern[..]; pieces], dir.path()).await;
            assert_eq!(held.size(), u64::try_from(pieces * pattern.len()).unwrap());
            assert_eq!(held.file.is_some(), pieces > 2);
            assert_eq!(all(&held).await, pattern.repeat(pieces));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file has a name");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told_as_such() {
        let mut hold = Hold::new(Path::new("/"));
        // Every write to it says so.
        hold.file = Some(Arc::new(File::options().write(true).open("/dev/full").unwrap()));
        let e = hold.add(&vec![b'a'; MEMORY + 1]).await.unwrap_err();
        assert!(is_full(&e), "{e:?}");
        assert!(!is_full(&Hold::new(Path::new("/nonexistent")).add(&vec![0; MEMORY + 1]).await.unwrap_err()));
    }

    #[test]
    fn room_is_asked_for_large_letters_only() {
        let nowhere = Path::new("/nonexistent");
        assert!(has_room(nowhere, 10) && has_room(nowhere, u64::MAX), "what cannot be asked is tried");
        let here = std::env::temp_dir();
        assert!(has_room(&here, 200_000) && !has_room(&here, u64::MAX));
    }
}
