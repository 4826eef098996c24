//! Listening sockets that come with the start: from systemd (sd_listen_fds(3)), or from the process whose successor we are.
//!
//! A configured listener takes the socket that is bound to its address instead of binding one. What systemd hands over and no
//! listener takes is an error: its clients would wait in a queue that nobody looks at.

use rustix::net::sockopt;
use std::net::{SocketAddr, TcpListener};

/// More than any configuration has, and no more than systemd's own limit.
const MOST: usize = 4096;

/// Sockets at one address.
struct Handed {
    /// The listener that had it in the process before: protocol, configured address, which of them.
    of: Option<(String, SocketAddr, usize)>,
    address: SocketAddr,
    /// For errors: number and name.
    called: String,
    sockets: Vec<TcpListener>,
}

/// All that were handed over and that nobody has taken yet.
#[derive(Default)]
pub struct HandedSockets(Vec<Handed>);

impl HandedSockets {
    /// What systemd hands over, by `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`.
    ///
    /// # Errors
    /// One of them is no listening TCP socket, or cannot serve as one of ours.
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
            let socket = passed.take_tcp_listener(index).map_err(|e| format!("{called} of systemd: {e}"))?;
            let Some(socket) = socket else { continue };
            let address = fit(&socket).map_err(|e| format!("{called} of systemd: {e}"))?;
            all.add(None, address, called, socket);
        }
        Ok(all)
    }

    /// Adds what another process of ours had open for a listener.
    ///
    /// # Errors
    /// It is no listening TCP socket.
    pub fn add_of(&mut self, protocol: String, configured: SocketAddr, nth: usize, socket: TcpListener) -> Result<(), String> {
        let address = fit(&socket)?;
        self.add(Some((protocol, configured, nth)), address, String::new(), socket);
        Ok(())
    }

    fn add(&mut self, of: Option<(String, SocketAddr, usize)>, address: SocketAddr, called: String, socket: TcpListener) {
        match self.0.iter_mut().find(|handed| handed.address == address && handed.of == of) {
            Some(handed) => handed.sockets.push(socket),
            None => self.0.push(Handed { of, address, called, sockets: vec![socket] }),
        }
    }

    /// The sockets for a listener, if there are any: those it had before, else those at its address.
    pub fn take(&mut self, protocol: &str, configured: SocketAddr, nth: usize) -> Option<Vec<TcpListener>> {
        let had =
            |handed: &Handed| handed.of.as_ref().is_some_and(|of| (of.0.as_str(), of.1, of.2) == (protocol, configured, nth));
        let at = self.0.iter().position(had);
        let at = at.or_else(|| self.0.iter().position(|handed| handed.address == configured))?;
        Some(self.0.swap_remove(at).sockets)
    }

    /// Those that no listener took, as systemd calls them.
    ///
    /// # Errors
    /// There are some; the sentence names them and the fix.
    pub fn all_taken(self) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        let left: Vec<String> = self.0.iter().map(|handed| format!("{} at {}", handed.called, handed.address)).collect();
        Err(format!(
            "systemd hands over what no listener is configured for: {}; add a [[listen]] with that address, or take it out of the \
             socket unit",
            left.join(", ")
        ))
    }
}

/// Its address, if it can serve as a listener of ours.
fn fit(socket: &TcpListener) -> Result<SocketAddr, String> {
    let address = socket.local_addr().map_err(|e| e.to_string())?;
    if !sockopt::socket_acceptconn(socket).unwrap_or(false) {
        return Err(format!("{address}: it does not listen; a socket unit for Gatepost has Accept=no"));
    }
    // Our own never take both families: 0.0.0.0 and [::] are two listeners here.
    if address.is_ipv6() && address.ip().is_unspecified() && !sockopt::ipv6_v6only(socket).unwrap_or(false) {
        return Err(format!("{address}: it listens for IPv4, too; set BindIPv6Only=ipv6-only in the socket unit"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> (TcpListener, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn a_listener_takes_its_own_and_else_what_is_at_its_address() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut handed = HandedSockets::default();
        let mut at = Vec::new();
        for nth in [0, 0, 1] {
            let (socket, address) = listener();
            at.push(address);
            handed.add_of("imap".into(), any, nth, socket).unwrap();
        }
        assert!(handed.take("pop3", any, 0).is_none());
        assert_eq!(handed.take("imap", any, 1).unwrap()[0].local_addr().unwrap(), at[2]);
        assert_eq!(handed.take("imap", any, 0).unwrap()[0].local_addr().unwrap(), at[0]);
        // Another protocol at the same address: it is the same door in the end.
        assert_eq!(handed.take("pop3", at[1], 0).unwrap().len(), 1);
        assert!(handed.all_taken().is_ok());
    }

    #[test]
    fn what_nobody_takes_is_named() {
        let (socket, address) = listener();
        let mut handed = HandedSockets::default();
        handed.add(None, address, "socket 3 (imap)".into(), socket);
        let said = handed.all_taken().unwrap_err();
        assert!(said.contains(&format!("socket 3 (imap) at {address}")) && said.contains("[[listen]]"), "{said}");
    }

    #[test]
    fn a_socket_for_both_families_is_refused() {
        let Ok(both) = TcpListener::bind("[::]:0") else { return };
        assert!(fit(&both).unwrap_err().contains("BindIPv6Only=ipv6-only"));
    }
}
