//! The control socket's file: made so that at no moment anybody else may ask.
//!
//! It may be made with root's rights in a directory that the service user can write to. So nothing that stands at the path
//! afterwards is trusted: rights and group are given to the file that was looked at, never to where a link leads.

use crate::config::meant::Meant;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, chownat, fchmod, fstat, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// How many may wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens on the control socket; one left behind by a process that is gone makes room. Its group may ask as well.
pub(super) fn control_socket(meant: &Meant, path: &Path) -> io::Result<UnixListener> {
    listen_at(path, group_of_control(meant)?)
}

fn listen_at(path: &Path, group: Option<Gid>) -> io::Result<UnixListener> {
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
            _ => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another Gatepost answers there")),
        }
    }
    let socket = socket()?;
    // The file gets what the socket has (less the umask): for a moment nobody else may ask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let_in(path, group)?;
    Ok(UnixListener::from(socket))
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Lets the group ask: if what is at the path is a socket of our own.
fn let_in(path: &Path, group: Option<Gid>) -> io::Result<()> {
    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_uid != rustix::process::geteuid().as_raw() {
        let text = "somebody put something else in its place; only Gatepost may write to its directory";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    // The group first: the old one may not ask.
    if let Some(group) = group {
        chownat(&file, "", None, Some(group), AtFlags::EMPTY_PATH)?;
    }
    // Only by this detour can the mode of a file be set that is held and not opened.
    std::fs::set_permissions(format!("/proc/self/fd/{}", file.as_raw_fd()), Permissions::from_mode(0o660))
}

/// `admin.group`, else that of `server.user` where the process is root and will become it, else the process's own.
fn group_of_control(meant: &Meant) -> io::Result<Option<Gid>> {
    let unknown = |what: &str, name: &str, file: &str| {
        io::Error::new(io::ErrorKind::NotFound, format!("{what} {name}: there is no such name in {file}"))
    };
    if let Some(name) = &meant.admin.group {
        let gid = id_in("/etc/group", name, 1);
        return Ok(Some(Gid::from_raw(gid.ok_or_else(|| unknown("admin.group", name, "/etc/group"))?)));
    }
    match &meant.server.user {
        Some(name) if rustix::process::geteuid().is_root() => {
            let gid = id_in("/etc/passwd", name, 2);
            Ok(Some(Gid::from_raw(gid.ok_or_else(|| unknown("server.user", name, "/etc/passwd"))?)))
        }
        _ => Ok(None),
    }
}

/// A number in the line of a name: of /etc/passwd or /etc/group.
fn id_in(file: &str, name: &str, column: usize) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut line = text.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(1);
    line.nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn rights_are_given_to_our_socket_and_to_nothing_else() {
        let dir = testkit::Dir::new();
        let path = dir.join("control.sock");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let listener = listen_at(&path, None).unwrap();
        assert_eq!(mode(&path), 0o660);
        drop(UnixStream::connect(&path).unwrap());
        drop(listener);
        // Left behind: its place is taken.
        drop(listen_at(&path, None).unwrap());

        // Whoever may write to the directory is quicker than we are.
        let secret = dir.write("secret", "s");
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&secret, &path).unwrap();
        let e = let_in(&path, None).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{e}");
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&secret, &path).unwrap();
        assert!(let_in(&path, None).is_err());
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
        assert_eq!(listen_at(&path, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
