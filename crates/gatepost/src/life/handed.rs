//! Listening sockets that come with the start: from systemd (sd_listen_fds(3)), or from the process whose successor we are.
//!
//! A configured listener takes the socket that is bound to its address instead of binding one; of a unix socket there is only one
//! at a path, whatever is spoken there. What systemd hands over and no
//! listener takes is an error: its clients would wait in a queue that nobody looks at.

use super::local::SocketFile;
use crate::config::listen_at::ListenAt;
use relay::listen::ListenSocket;
use rustix::net::sockopt;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

/// More than any configuration has, and no more than systemd's own limit.
const MOST: usize = 4096;

/// Sockets at one address.
struct Handed {
    /// The listener that had it in the process before: protocol, configured address, which of them.
    of: Option<(String, ListenAt, usize)>,
    address: ListenAt,
    /// For errors: number and name.
    called: String,
    sockets: Vec<ListenSocket>,
    /// Of a unix socket: removed by whoever is in charge, if it is ours.
    file: Option<Arc<SocketFile>>,
}

/// All that were handed over and that nobody has taken yet.
#[derive(Default)]
pub struct HandedSockets {
    all: Vec<Handed>,
    /// Files that a predecessor would have removed.
    files: Vec<Arc<SocketFile>>,
}

impl HandedSockets {
    /// What systemd hands over, by `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`.
    ///
    /// # Errors
    /// One of them is no listening stream socket, or cannot serve as one of ours.
    pub fn from_systemd() -> Result<HandedSockets, String> {
        let Ok(count) = std::env::var("LISTEN_FDS") else { return Ok(HandedSockets::default()) };
        // systemd always says for whom they are; in the environment of somebody else's child they mean nothing.
        if std::env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return Ok(HandedSockets::default());
        }
        if !count.parse::<usize>().is_ok_and(|count| count <= MOST) {
            return Err(format!("LISTEN_FDS={count:?} is no number of sockets"));
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut all = HandedSockets::default();
        let mut passed = listenfd::ListenFd::from_env();
        for index in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unnamed");
            let called = format!("socket {} ({name})", index + 3);
            // What is left in place by the first is asked for by the second.
            let socket = match passed.take_tcp_listener(index) {
                Ok(socket) => socket.map(ListenSocket::Tcp),
                Err(no_tcp) => match passed.take_unix_listener(index) {
                    Ok(socket) => socket.map(ListenSocket::Unix),
                    Err(_) => return Err(format!("{called} of systemd: {no_tcp}")),
                },
            };
            let Some(socket) = socket else { continue };
            let address = fit(&socket).map_err(|e| format!("{called} of systemd: {e}"))?;
            // Its file is systemd's.
            all.add(None, address, called, socket, false);
        }
        Ok(all)
    }

    /// Adds what another process of ours had open for a listener.
    ///
    /// # Errors
    /// It is no listening socket.
    pub fn add_of(&mut self, protocol: String, at: ListenAt, nth: usize, socket: OwnedFd, file: bool) -> Result<(), String> {
        let socket = match at {
            ListenAt::Tcp(_) => ListenSocket::Tcp(TcpListener::from(socket)),
            ListenAt::Unix(_) => ListenSocket::Unix(UnixListener::from(socket)),
        };
        let address = fit(&socket)?;
        self.add(Some((protocol, at, nth)), address, String::new(), socket, file);
        Ok(())
    }

    fn add(
        &mut self,
        of: Option<(String, ListenAt, usize)>,
        address: ListenAt,
        called: String,
        socket: ListenSocket,
        file_is_ours: bool,
    ) {
        match self.all.iter_mut().find(|handed| handed.address == address && handed.of == of) {
            Some(handed) => handed.sockets.push(socket),
            None => {
                // Ours only when we are in charge.
                let file = address.path().map(|path| SocketFile::at(path, false));
                if let Some(file) = file.as_ref().filter(|_| file_is_ours) {
                    self.files.push(Arc::clone(file));
                }
                self.all.push(Handed { of, address, called, sockets: vec![socket], file });
            }
        }
    }

    /// The sockets for a listener, if there are any: those it had before, else those at its address.
    pub fn take(&mut self, protocol: &str, configured: &ListenAt, nth: usize) -> Option<Vec<ListenSocket>> {
        let had =
            |handed: &Handed| handed.of.as_ref().is_some_and(|of| (of.0.as_str(), &of.1, of.2) == (protocol, configured, nth));
        let at = self.all.iter().position(had);
        let at = at.or_else(|| self.all.iter().position(|handed| handed.address == *configured))?;
        Some(self.all.swap_remove(at).sockets)
    }

    /// The socket at a path, and its file. None whose file is gone: nobody can connect to it any more.
    pub fn take_unix(&mut self, path: &Path) -> Option<(Vec<ListenSocket>, Arc<SocketFile>)> {
        let at = self.all.iter().position(|handed| handed.address.path().is_some_and(|of| **of == *path))?;
        let handed = self.all.swap_remove(at);
        Some((handed.sockets, handed.file.filter(|file| file.is_there())?))
    }

    /// The files that are ours when the predecessor has stopped accepting; those that no listener has by then are to go.
    pub fn into_files(self) -> Vec<Arc<SocketFile>> {
        self.files
    }

    /// Those that no listener took, as systemd calls them.
    ///
    /// # Errors
    /// There are some; the sentence names them and the fix.
    pub fn all_taken(&self) -> Result<(), String> {
        if self.all.is_empty() {
            return Ok(());
        }
        let left: Vec<String> = self.all.iter().map(|handed| format!("{} at {}", handed.called, handed.address)).collect();
        Err(format!(
            "systemd hands over what no listener is configured for: {}; add a [[listen]] with that address, or take it out of the \
             socket unit",
            left.join(", ")
        ))
    }
}

/// Its address, if it can serve as a listener of ours.
fn fit(socket: &ListenSocket) -> Result<ListenAt, String> {
    let (address, listens) = match socket {
        ListenSocket::Tcp(socket) => (socket.local_addr().map(ListenAt::Tcp).map_err(|e| e.to_string())?, listens(socket)),
        ListenSocket::Unix(socket) => {
            let name = socket.local_addr().map_err(|e| e.to_string())?;
            let path = name.as_pathname().ok_or("a unix socket without a path: anybody could connect")?;
            (ListenAt::Unix(path.into()), listens(socket))
        }
    };
    if !listens {
        return Err(format!("{address}: it does not listen; a socket unit for Gatepost has Accept=no"));
    }
    // Our own never take both families: 0.0.0.0 and [::] are two listeners here.
    if let ListenSocket::Tcp(socket) = socket
        && address.ip().is_some_and(|ip| ip.is_ipv6() && ip.is_unspecified())
        && !sockopt::ipv6_v6only(socket).unwrap_or(false)
    {
        return Err(format!("{address}: it listens for IPv4, too; set BindIPv6Only=ipv6-only in the socket unit"));
    }
    Ok(address)
}

fn listens(socket: &impl AsFd) -> bool {
    sockopt::socket_acceptconn(socket).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    fn listener() -> (TcpListener, ListenAt) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address.into())
    }

    fn address_of(sockets: &[ListenSocket]) -> ListenAt {
        fit(&sockets[0]).unwrap()
    }

    #[test]
    fn a_listener_takes_its_own_and_else_what_is_at_its_address() {
        let any: ListenAt = "127.0.0.1:0".parse().unwrap();
        let mut handed = HandedSockets::default();
        let mut at = Vec::new();
        for nth in [0, 0, 1] {
            let (socket, address) = listener();
            at.push(address);
            handed.add_of("imap".into(), any.clone(), nth, socket.into(), false).unwrap();
        }
        assert!(handed.take("pop3", &any, 0).is_none());
        assert_eq!(address_of(&handed.take("imap", &any, 1).unwrap()), at[2]);
        assert_eq!(address_of(&handed.take("imap", &any, 0).unwrap()), at[0]);
        // Another protocol at the same address: it is the same door in the end.
        assert_eq!(handed.take("pop3", &at[1], 0).unwrap().len(), 1);
        assert!(handed.all_taken().is_ok());
    }

    #[test]
    fn what_nobody_takes_is_named() {
        let (socket, address) = listener();
        let mut handed = HandedSockets::default();
        handed.add(None, address.clone(), "socket 3 (imap)".into(), socket.into(), false);
        let said = handed.all_taken().unwrap_err();
        assert!(said.contains(&format!("socket 3 (imap) at {address}")) && said.contains("[[listen]]"), "{said}");
    }

    #[test]
    fn a_socket_for_both_families_is_refused() {
        let Ok(both) = TcpListener::bind("[::]:0") else { return };
        assert!(fit(&both.into()).unwrap_err().contains("BindIPv6Only=ipv6-only"));
    }

    #[test]
    fn a_unix_socket_belongs_to_its_path_whatever_is_spoken_there() {
        let dir = testkit::Dir::new();
        let path = dir.join("socket");
        let at = ListenAt::Unix(path.clone().into());
        let hand = |handed: &mut HandedSockets| {
            let socket = UnixListener::bind(&path).unwrap();
            handed.add_of("imap".into(), at.clone(), 0, socket.into(), true).unwrap();
        };
        let mut handed = HandedSockets::default();
        hand(&mut handed);
        assert!(handed.take_unix(&dir.join("other")).is_none());
        let (sockets, file) = handed.take_unix(&path).unwrap();
        assert!(sockets.len() == 1 && !file.is_ours() && file.is_there());
        // In charge: it stays for as long as a listener has it.
        for file in handed.into_files() {
            file.set_ours(true);
        }
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
        // One that no listener has, in charge: it goes.
        let mut handed = HandedSockets::default();
        hand(&mut handed);
        let files = handed.into_files();
        assert!(path.exists());
        files.iter().for_each(|file| file.set_ours(true));
        drop(files);
        assert!(!path.exists());
        // A path that leads nowhere any more.
        let mut handed = HandedSockets::default();
        hand(&mut handed);
        std::fs::remove_file(&path).unwrap();
        assert!(handed.take_unix(&path).is_none());
    }

    #[test]
    fn a_unix_socket_that_cannot_serve_is_refused() {
        let name = <SocketAddr as SocketAddrExt>::from_abstract_name(format!("gatepost-{}", std::process::id())).unwrap();
        let socket = UnixListener::bind_addr(&name).unwrap();
        assert!(fit(&socket.into()).unwrap_err().contains("without a path"));
    }
}
