//! Listening sockets, and an accept that neither dies nor spins.
//!
//! Every shard has a socket of its own for each address (`SO_REUSEPORT`), so no accept is shared and none wakes
//! another shard. A unix socket there is only one of: each shard has a copy of its descriptor, all of them wake, and whoever comes
//! first takes the connection. Running out of descriptors is met with a spare one: the waiting connection is accepted and closed at
//! once, which tells that client to go elsewhere instead of leaving it in the queue, and then accepting pauses.
//! Connections that died in the queue are counted, not reported.
//!
//! Left to others: limits per address, the files of unix sockets, dropping privileges, who else has the sockets.

use crate::socket::{Socket, UNIX};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// Connections the kernel may queue per socket before we accept them (capped by `net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// Pause after the first failed accept; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Sent but unacknowledged data: after this long the peer counts as dead (RFC 5482, `TCP_USER_TIMEOUT`).
const USER_TIMEOUT: Duration = Duration::from_secs(120);
/// Data the kernel may queue unsent per connection, so that a slow reader costs little kernel memory.
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// A listening socket that is open, and with no runtime yet.
#[derive(Debug)]
pub enum ListenSocket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A unix socket.
    Unix(std::os::unix::net::UnixListener),
}

impl ListenSocket {
    fn try_clone(&self) -> io::Result<ListenSocket> {
        match self {
            ListenSocket::Tcp(socket) => socket.try_clone().map(ListenSocket::Tcp),
            ListenSocket::Unix(socket) => socket.try_clone().map(ListenSocket::Unix),
        }
    }
}

impl From<std::net::TcpListener> for ListenSocket {
    fn from(socket: std::net::TcpListener) -> ListenSocket {
        ListenSocket::Tcp(socket)
    }
}

impl From<std::os::unix::net::UnixListener> for ListenSocket {
    fn from(socket: std::os::unix::net::UnixListener) -> ListenSocket {
        ListenSocket::Unix(socket)
    }
}

/// Opens one listening socket per shard on `addr`.
///
/// With port 0 the kernel chooses a port for the first socket and the others share it. An IPv6 address listens for IPv6
/// only. The sockets are non-blocking and close on exec.
///
/// # Errors
/// What the kernel said, its number kept: the caller may tell a missing address family from a taken port. `InvalidInput` if
/// `shards` is 0.
pub fn bind(addr: SocketAddr, shards: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if shards == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a listener needs at least one shard"));
    }
    let mut addr = addr;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = bind_one(addr)?;
        addr = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Sockets on one address that somebody else opened, or a unix socket, with enough copies for every shard to have one.
///
/// All are kept, however few shards there are: each has a queue of its own. Copies share one, and whichever shard wakes first
/// takes the connection.
///
/// # Errors
/// No descriptor is left.
pub fn shared(mut sockets: Vec<ListenSocket>, shards: usize) -> io::Result<Vec<ListenSocket>> {
    let opened = sockets.len();
    for copy in opened..shards {
        let Some(socket) = sockets.get(copy % opened.max(1)) else { break };
        let socket = socket.try_clone()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind_one(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What happened while accepting, counted since the start; one per process or per listener, as the caller likes.
#[derive(Debug, Default)]
pub struct AcceptStats {
    /// Connections handed out.
    pub accepted: AtomicU64,
    /// Connections that were gone before we took them (`ECONNABORTED` and network errors of the queue).
    pub aborted: AtomicU64,
    /// Connections closed at once because descriptors or memory ran out.
    pub turned_away: AtomicU64,
    /// Times accepting paused for want of descriptors or memory.
    pub pauses: AtomicU64,
}

/// A listening socket with its runtime.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Listening {
    /// A connection that waits, its peer's address with it; an IPv4-mapped one is unmapped.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        match self {
            Listening::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, peer)| (Socket::Tcp(stream), unmapped(peer))),
            Listening::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| (Socket::Unix(stream), UNIX)),
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listening::Tcp(listener) => listener.as_fd(),
            Listening::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The accepting end of one listening socket: the spare descriptor and the growing pause live here.
#[derive(Debug)]
pub struct Doorway {
    listening: Arc<Listening>,
    spare: Option<File>,
    pause: Duration,
}

impl Doorway {
    /// Takes a socket of [`bind`] or [`shared`] to the current runtime.
    ///
    /// # Errors
    /// What the kernel said when the socket was registered or the spare descriptor opened.
    pub fn new(socket: impl Into<ListenSocket>) -> io::Result<Doorway> {
        let listening = match socket.into() {
            ListenSocket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Listening::Tcp(TcpListener::from_std(socket)?)
            }
            ListenSocket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Listening::Unix(UnixListener::from_std(socket)?)
            }
        };
        Ok(Doorway { listening: Arc::new(listening), spare: Some(spare()?), pause: FIRST_PAUSE })
    }

    /// Its socket, to be handed to a successor. It is closed when this is dropped as well.
    pub fn socket(&self) -> Arc<Listening> {
        Arc::clone(&self.listening)
    }

    /// The address it listens on; [`UNIX`] for a unix socket.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &*self.listening {
            Listening::Tcp(listener) => listener.local_addr(),
            Listening::Unix(_) => Ok(UNIX),
        }
    }

    /// The next connection and its peer's address (an IPv4-mapped one is unmapped; [`UNIX`] over a unix socket).
    ///
    /// Does not fail: what goes wrong is counted, and what would repeat at once is followed by a pause of 50 ms growing
    /// to 1 s. May be cancelled at any time.
    pub async fn accept(&mut self, stats: &AcceptStats) -> (Socket, SocketAddr) {
        loop {
            match std::future::poll_fn(|cx| self.listening.poll_accept(cx)).await {
                Ok(accepted) => {
                    self.pause = FIRST_PAUSE;
                    stats.accepted.fetch_add(1, Ordering::Relaxed);
                    return accepted;
                }
                Err(e) if died_in_queue(&e) => {
                    stats.aborted.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    self.turn_away(stats).await;
                    stats.pauses.fetch_add(1, Ordering::Relaxed);
                    let pause = self.pause;
                    self.pause = (pause * 2).min(LONGEST_PAUSE);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// A connection that waits in the queue already, or `None` when none does: before a socket is closed its queue must be
    /// emptied, because the kernel resets what is left in it.
    pub async fn waiting(&mut self) -> Option<Socket> {
        std::future::poll_fn(|cx| match self.listening.poll_accept(cx) {
            Poll::Ready(Ok((socket, _))) => Poll::Ready(Some(socket)),
            _ => Poll::Ready(None),
        })
        .await
    }

    /// Gives up the spare descriptor to accept one waiting connection and close it, then takes the spare back.
    async fn turn_away(&mut self, stats: &AcceptStats) {
        self.spare = None;
        // The readiness is still set, so this either yields the waiting connection now or is not ready.
        let taken = std::future::poll_fn(|cx| Poll::Ready(self.listening.poll_accept(cx))).await;
        if let Poll::Ready(Ok((socket, _))) = taken {
            drop(socket);
            stats.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        // Another thread may have taken the descriptor; then the next failure finds no spare and only pauses.
        self.spare = spare().ok();
    }
}

/// Sets what every connection of a proxy wants: no delay, keep-alive after 60 s every 10 s six times, 120 s for unacknowledged
/// data, and at most 128 KiB queued unsent in the kernel.
///
/// # Errors
/// What the kernel said, which happens when the peer has already gone.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(6);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}

/// An IPv4 address that arrived through an IPv6 socket, as IPv4.
pub(crate) fn unmapped(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn spare() -> io::Result<File> {
    File::open("/dev/null")
}

/// Errors that belong to the one connection which left the queue, not to us (accept(2), "Error handling").
fn died_in_queue(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::OPNOTSUPP
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_port_that_the_kernel_chose() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(sockets) = bind(host.parse().unwrap(), 3) else {
                assert!(host.starts_with('['), "IPv4 loopback must work");
                continue;
            };
            let port = sockets[0].local_addr().unwrap().port();
            assert!(port != 0);
            assert!(sockets.iter().all(|s| s.local_addr().unwrap().port() == port));
        }
    }

    #[test]
    fn few_sockets_are_copied_for_all_shards_and_many_are_all_kept() {
        for (opened, shards, expected) in [(1, 3, 3), (2, 3, 3), (3, 2, 3), (0, 2, 0)] {
            let sockets = if opened > 0 { bind("127.0.0.1:0".parse().unwrap(), opened).unwrap() } else { Vec::new() };
            let sockets = sockets.into_iter().map(ListenSocket::Tcp).collect();
            assert_eq!(shared(sockets, shards).unwrap().len(), expected, "{opened} for {shards}");
        }
    }

    #[test]
    fn the_kernel_s_own_number_is_kept() {
        let error = bind("192.0.2.1:0".parse().unwrap(), 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ADDRNOTAVAIL.raw_os_error()), "{error}");
    }

    #[test]
    fn no_shards_is_an_error() {
        assert_eq!(bind("127.0.0.1:0".parse().unwrap(), 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn tuning_reaches_the_socket() {
        let mut doorway = Doorway::new(bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0)).unwrap();
        let client = TcpStream::connect(doorway.local_addr().unwrap()).await.unwrap();
        let stats = AcceptStats::default();
        let (stream, peer) = doorway.accept(&stats).await;
        assert_eq!(peer, client.local_addr().unwrap());
        stream.tune().unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 6);
        assert_eq!(stats.accepted.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_queue_s_errors_are_told_from_ours() {
        for (code, queue) in [(Errno::CONNABORTED, true), (Errno::PROTO, true), (Errno::MFILE, false), (Errno::NFILE, false)] {
            assert_eq!(died_in_queue(&io::Error::from_raw_os_error(code.raw_os_error())), queue, "{code}");
        }
    }

    #[test]
    fn mapped_addresses_are_unmapped() {
        assert_eq!(unmapped("[::ffff:192.0.2.7]:143".parse().unwrap()), "192.0.2.7:143".parse().unwrap());
        assert_eq!(unmapped("[2001:db8::1]:143".parse().unwrap()), "[2001:db8::1]:143".parse().unwrap());
    }
}
