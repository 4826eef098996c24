//! Unix sockets that are files: made so that at no moment anybody else may connect, and removed by whoever has them last.
//!
//! A file may be made with root's rights in a directory that the service user can write to. So nothing that stands at the path
//! afterwards is trusted: rights, owner and group are given to the file that was looked at, never to where a link leads.

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fstat, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many may wait to be accepted (capped by `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Whose a socket's file is, and who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Permissions.
    pub mode: u32,
    /// `None`: this process's.
    pub owner: Option<Uid>,
    /// `None`: as the file has it.
    pub group: Option<Gid>,
}

/// Listens at a path; what is left behind there by a process that is gone makes room.
///
/// # Errors
/// `AddrInUse`: somebody answers there. `AlreadyExists`: it is no socket. Otherwise what the kernel said.
pub fn listen_at(path: &Path, rights: Rights) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket is there"));
        }
        match connect(&socket()?, &address).map_err(io::Error::from) {
            // Left behind by a process that is gone.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            // One that has no time to accept is there all the same, and is not waited for.
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ => return Err(io::Error::new(io::ErrorKind::AddrInUse, "a running program answers there")),
        }
    }
    let socket = socket()?;
    // The file gets what the socket has (less the umask): for a moment nobody else may ask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    if let Err(e) = let_in(path, rights) {
        // Nobody will listen there.
        drop(SocketFile::at(path, true));
        return Err(e);
    }
    Ok(UnixListener::from(socket))
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Gives the rights to what is at the path, if it is a socket of our own. What it has already is not given again: that can need
/// rights which this process had only when it started.
///
/// # Errors
/// `PermissionDenied`: it is not ours, or this process may not give that. Otherwise what the kernel said.
pub fn let_in(path: &Path, rights: Rights) -> io::Result<()> {
    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_uid != rustix::process::geteuid().as_raw() {
        let text = "somebody put something else in its place; only Gatepost may write to its directory";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let owner = rights.owner.filter(|owner| owner.as_raw() != stat.st_uid);
    let group = rights.group.filter(|group| group.as_raw() != stat.st_gid);
    // The group first: the old one may not ask.
    if owner.is_some() || group.is_some() {
        chownat(&file, "", owner, group, AtFlags::EMPTY_PATH)?;
    }
    if stat.st_mode & 0o7777 == rights.mode {
        return Ok(());
    }
    // Only by this detour can the mode of a file be set that is held and not opened.
    std::fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(rights.mode))
}

/// The number of a group.
///
/// # Errors
/// There is no such name.
pub fn group(name: &str) -> io::Result<Gid> {
    id_in("/etc/group", name, 1).map(Gid::from_raw)
}

/// The numbers of a user and of its group.
///
/// # Errors
/// There is no such name.
pub fn user(name: &str) -> io::Result<(Uid, Gid)> {
    Ok((Uid::from_raw(id_in("/etc/passwd", name, 1)?), Gid::from_raw(id_in("/etc/passwd", name, 2)?)))
}

/// A number in the line of a name: of /etc/passwd or /etc/group.
fn id_in(file: &str, name: &str, column: usize) -> io::Result<u32> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    line.and_then(|line| line.split(':').skip(1).nth(column)?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no such name in {file}")))
}

/// The file of a socket that this process listens on. Unless it is somebody else's, it is removed when the last that have it
/// let go of it, and if it is still the same file then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number.
    is: Option<(u64, u64)>,
    ours: AtomicBool,
}

impl SocketFile {
    /// What is at a path now; `ours` tells whether to remove it in the end.
    pub fn at(path: &Path, ours: bool) -> Arc<SocketFile> {
        Arc::new(SocketFile { path: path.to_owned(), is: identity(path), ours: AtomicBool::new(ours) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is removed in the end.
    pub fn is_ours(&self) -> bool {
        self.ours.load(Ordering::Relaxed)
    }

    /// From here on it is removed in the end, or is not.
    pub fn set_ours(&self, ours: bool) {
        self.ours.store(ours, Ordering::Relaxed);
    }

    /// Whether it is still there.
    pub fn is_there(&self) -> bool {
        self.is.is_some() && identity(&self.path) == self.is
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours() && self.is_there() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Which file is at a path, if it is a socket.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let there = std::fs::symlink_metadata(path).ok()?;
    there.file_type().is_socket().then(|| (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const ASK: Rights = Rights { mode: 0o660, owner: None, group: None };

    #[test]
    fn a_file_is_removed_by_whoever_has_it_last_and_only_if_it_is_the_same() {
        let dir = testkit::Dir::new();
        let path = dir.join("socket");
        let listener = listen_at(&path, ASK).unwrap();
        let file = SocketFile::at(&path, true);
        let other = Arc::clone(&file);
        drop(file);
        assert!(path.exists() && other.is_there());
        // Handed over: the other process has it.
        other.set_ours(false);
        drop(other);
        assert!(path.exists());
        // Somebody else's by now.
        let file = SocketFile::at(&path, true);
        std::fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        assert!(!file.is_there());
        drop((file, listener));
        assert!(path.exists());
        drop((SocketFile::at(&path, true), theirs));
        assert!(!path.exists());
        // Nothing, and what is no socket, is never removed.
        drop(SocketFile::at(&path, true));
        std::fs::write(&path, "").unwrap();
        drop(SocketFile::at(&path, true));
        assert!(path.exists());
        assert_eq!(listen_at(&path, ASK).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn other_rights_are_given_later() {
        let dir = testkit::Dir::new();
        let path = dir.join("socket");
        let _listener = listen_at(&path, ASK).unwrap();
        let own = Gid::from_raw(rustix::process::getegid().as_raw());
        for mode in [0o666, 0o600, 0o622] {
            let_in(&path, Rights { mode, group: Some(own), ..ASK }).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn names_become_numbers() {
        assert_eq!((user("root").unwrap().0.as_raw(), group("root").unwrap().as_raw()), (0, 0));
        for e in [user("nobody-of-this-name").unwrap_err(), group("nobody-of-this-name").unwrap_err()] {
            assert!(e.kind() == io::ErrorKind::NotFound && e.to_string().contains("no such name"), "{e}");
        }
    }

    #[test]
    fn rights_are_given_to_our_socket_and_to_nothing_else() {
        let dir = testkit::Dir::new();
        let path = dir.join("control.sock");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let listener = listen_at(&path, ASK).unwrap();
        assert_eq!(mode(&path), 0o660);
        drop(UnixStream::connect(&path).unwrap());
        drop(listener);
        // Left behind: its place is taken.
        drop(listen_at(&path, ASK).unwrap());

        // Whoever may write to the directory is quicker than we are.
        let secret = dir.write("secret", "s");
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&secret, &path).unwrap();
        let e = let_in(&path, ASK).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{e}");
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&secret, &path).unwrap();
        assert!(let_in(&path, ASK).is_err());
        assert_eq!(mode(&secret), 0o600);
    }

    #[test]
    fn one_that_has_no_time_is_there_all_the_same() {
        let dir = testkit::Dir::new();
        let path = dir.join("control.sock");
        let address = SocketAddrUnix::new(&path).unwrap();
        let busy = socket().unwrap();
        bind(&busy, &address).unwrap();
        listen(&busy, 0).unwrap();
        let queue: Vec<OwnedFd> = (0..10).map(|_| socket().unwrap()).collect();
        assert!(queue.iter().any(|waiting| connect(waiting, &address).is_err()), "the queue is full");
        let began = Instant::now();
        assert_eq!(listen_at(&path, ASK).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
