//! A stream socket, TCP or unix: what both can do, under one name.
//!
//! A connection over a unix socket comes from a process of this host, and has no address that could be told on. It counts as one
//! from [`UNIX`] to [`UNIX`] wherever addresses matter: for trust, limits, logs, and what is said to backends. Port 0 means
//! "unknown" in all of these.

use crate::listen::{tune, unmapped};
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

/// The address of both ends of a connection over a unix socket.
pub const UNIX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A connected stream.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// The same step for whichever socket it is.
macro_rules! either {
    ($socket:expr, $stream:ident => $step:expr) => {
        match $socket {
            Socket::Tcp($stream) => $step,
            Socket::Unix($stream) => $step,
        }
    };
}

impl Socket {
    /// The other end's address; an IPv4-mapped one is unmapped.
    ///
    /// # Errors
    /// The peer has already reset the connection.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map(unmapped),
            Socket::Unix(_) => Ok(UNIX),
        }
    }

    /// Our end's address; an IPv4-mapped one is unmapped.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().map(unmapped),
            Socket::Unix(_) => Ok(UNIX),
        }
    }

    /// Sets what every connection of a proxy wants, see [`tune()`]. A unix socket has nothing to set: nothing of it is on its way, and
    /// its peer's end is known at once.
    ///
    /// # Errors
    /// What the kernel said, which happens when the peer has already gone.
    pub fn tune(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => tune(stream),
            Socket::Unix(_) => Ok(()),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(bytes))
    }

    pub(crate) fn try_write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_vectored(bytes))
    }

    pub(crate) fn try_read(&self, space: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(space))
    }

    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        either!(self, stream => stream.ready(interest).await)
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// Waits for bytes and copies them without taking them.
    pub(crate) async fn peek(&self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.peek(space).await,
            Socket::Unix(stream) => {
                stream.async_io(Interest::READABLE, || Ok(recv(stream, &mut *space, RecvFlags::PEEK)?.0)).await
            }
        }
    }

    /// Ends our direction.
    pub(crate) fn finish(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }

    /// The error that the kernel holds for it; `WouldBlock` where there is none.
    pub(crate) fn pending_error(&self) -> io::Result<()> {
        let error = || match SockRef::from(self).take_error()? {
            Some(e) => Err(e),
            // Clears the readiness, or waiting for an error would return at once for ever.
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
        either!(self, stream => stream.try_io(Interest::ERROR, error))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, stream => stream.as_fd())
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Socket {
        Socket::Tcp(stream)
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        Socket::Unix(stream)
    }
}
