//! The bytes of a connection, in clear or in TLS on either side.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use rustls::{ClientConnection, ServerConnection, StreamOwned};

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub(super) fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(s) => s.read(into),
            Stream::Server(s) => s.read(into),
            Stream::Client(s) => s.read(into),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Plain(s) => s.write_all(bytes),
            Stream::Server(s) => s.write_all(bytes).and_then(|()| s.flush()),
            Stream::Client(s) => s.write_all(bytes).and_then(|()| s.flush()),
        }
    }

    pub(super) fn handshake(&mut self) -> std::io::Result<()> {
        match self {
            Stream::Plain(_) => {}
            Stream::Server(s) => {
                s.conn.complete_io(&mut s.sock)?;
            }
            Stream::Client(s) => {
                s.conn.complete_io(&mut s.sock)?;
            }
        }
        Ok(())
    }

    /// TLS has a way to say that the end was meant.
    pub(super) fn say_goodbye(&mut self) {
        match self {
            Stream::Plain(_) => {}
            Stream::Server(s) => {
                s.conn.send_close_notify();
                let _ = s.conn.write_tls(&mut s.sock);
            }
            Stream::Client(s) => {
                s.conn.send_close_notify();
                let _ = s.conn.write_tls(&mut s.sock);
            }
        }
    }
}

/// Whether a read has come to its deadline.
pub(super) fn is_timeout(e: &std::io::Error) -> bool {
    // A read with a deadline ends with either, depending on the system.
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Whether the peer has gone without a goodbye.
pub(super) fn is_reset(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}
