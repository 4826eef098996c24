//! One connection, in clear or under TLS.
//!
//! For the dialogue there are [`Conn::read`], [`Conn::write_all`] and [`Conn::shutdown`]; [`Conn::peek`] is for what must not
//! be read too far. For the pump there are steps
//! that never wait (`try_take`, `try_give`, `try_flush`), so the TLS engine underneath can change without the pump.
//! A `Conn` becomes TLS only by being consumed ([`crate::Acceptor::accept`], [`crate::Connector::connect`]): no reader
//! of the clear connection can survive the switch.
//!
//! Deadlines are the caller's. Dead peers are found by the kernel if the socket was tuned ([`crate::listen::tune`]).

use crate::buffers;
use crate::socket::Socket;
use crate::tls::stream::TlsStream;
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::Interest;

/// How long [`Conn::shutdown`] waits for the peer to close, and how many of its last octets it reads away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;
/// Octets given to TLS at a time in the dialogue: one record.
const RECORD: usize = 16 * 1024;

/// A connection to a client or a backend.
#[derive(Debug)]
pub struct Conn {
    pub(crate) socket: Socket,
    /// Boxed: a connection is moved about, and lies in several places of the futures that own it.
    ends: Box<Ends>,
    tls: Option<Box<TlsStream>>,
}

#[derive(Debug)]
struct Ends {
    peer: SocketAddr,
    local: SocketAddr,
}

/// What a step that reads found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many octets; 0 when only TLS's own messages came: ask again, but let others run first.
    Bytes(usize),
    /// Nothing now; ask again when the socket is readable.
    Blocked,
    /// The peer has said its last, properly: FIN in clear, close_notify under TLS.
    End,
    /// The peer closed the connection without close_notify: the end may have been cut off by somebody on the path.
    Truncated,
}

impl Conn {
    /// A connection in clear.
    ///
    /// # Errors
    /// If the socket has no addresses any more: the peer has already reset it.
    pub fn clear(stream: impl Into<Socket>) -> io::Result<Conn> {
        let socket = stream.into();
        let ends = Ends { peer: socket.peer_addr()?, local: socket.local_addr()? };
        Ok(Conn { socket, ends: Box::new(ends), tls: None })
    }

    /// Whether it is under TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The peer's address when the connection was made; IPv4-mapped addresses are unmapped, and over a unix socket it is
    /// [`crate::socket::UNIX`] on both ends.
    pub fn peer_addr(&self) -> SocketAddr {
        self.ends.peer
    }

    /// The address of ours that the peer reached, or that we called from.
    pub fn local_addr(&self) -> SocketAddr {
        self.ends.local
    }

    /// Waits for bytes and appends at most `at_most` (and at most 64 KiB) of them to `buf`. 0 is the end: the peer has
    /// closed, or `at_most` is 0.
    ///
    /// Cancelling loses nothing. Under TLS an end without close_notify is 0 too: in a dialogue both mean that the peer
    /// has gone, and no decision may rest on a connection's end.
    ///
    /// # Errors
    /// What the kernel said, or `InvalidData` with the TLS error in it (the peer has been sent the alert).
    pub async fn read(&mut self, buf: &mut BytesMut, at_most: usize) -> io::Result<usize> {
        if at_most == 0 {
            return Ok(0);
        }
        loop {
            let flushed = self.try_flush()?;
            let taken = buffers::with(|space| {
                let size = at_most.min(space.len());
                let space = space.get_mut(..size).unwrap_or_default();
                let taken = self.try_take(space)?;
                if let Taken::Bytes(n) = taken {
                    let read = space.get_mut(..n).unwrap_or_default();
                    buf.extend_from_slice(read);
                    // A dialogue may hold a password; the buffer goes on to other sessions.
                    read.fill(0);
                }
                Ok::<_, io::Error>(taken)
            })?;
            match taken {
                Taken::Bytes(0) => tokio::task::yield_now().await,
                Taken::Bytes(n) => return Ok(n),
                Taken::End | Taken::Truncated => return Ok(0),
                Taken::Blocked if flushed => self.socket.readable().await?,
                Taken::Blocked => {
                    self.socket.ready(Interest::READABLE.add(Interest::WRITABLE)).await?;
                }
            }
        }
    }

    /// Waits for bytes and copies what is there to `space` without taking it: the next read finds it again. 0 is the end, or
    /// `space` is empty. Only in clear: what TLS has decrypted is taken from the wire already.
    ///
    /// Whoever peeks again without reading gets the same at once, and would spin; [`crate::read_head`] does not.
    ///
    /// # Errors
    /// What the kernel said; `InvalidInput` under TLS.
    pub async fn peek(&self, space: &mut [u8]) -> io::Result<usize> {
        if self.is_tls() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a connection under TLS cannot be peeked at"));
        }
        if space.is_empty() {
            return Ok(0);
        }
        loop {
            match self.socket.peek(space).await {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Sends all of `bytes`. Returns when the kernel has them; cancelling leaves it open how many were sent.
    ///
    /// # Errors
    /// What the kernel said, or `InvalidData` with an earlier TLS error in it.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(RECORD) {
            let mut piece = piece;
            while !piece.is_empty() {
                let given = self.try_give(piece)?;
                piece = piece.get(given..).unwrap_or_default();
                if given == 0 {
                    self.socket.writable().await?;
                }
            }
        }
        while !self.try_flush()? {
            self.socket.writable().await?;
        }
        Ok(())
    }

    /// As [`Conn::write_all`], but stops where the peer speaks before it has had all of `bytes`; false then. What it said is appended
    /// to `heard`, at most `at_most` octets of it; nothing is, where it has closed.
    ///
    /// For a peer that must not speak before the end: one that does, has stopped reading more often than not.
    ///
    /// # Errors
    /// What the kernel said, or `InvalidData` with the TLS error in it.
    pub async fn write_unless_told(&mut self, bytes: &[u8], heard: &mut BytesMut, at_most: usize) -> io::Result<bool> {
        for piece in bytes.chunks(RECORD) {
            let mut piece = piece;
            while !piece.is_empty() {
                if self.try_hear(heard, at_most)? {
                    return Ok(false);
                }
                let given = self.try_give(piece)?;
                piece = piece.get(given..).unwrap_or_default();
                if given == 0 {
                    self.socket.ready(Interest::READABLE.add(Interest::WRITABLE)).await?;
                }
            }
        }
        while !self.try_flush()? {
            if self.try_hear(heard, at_most)? {
                return Ok(false);
            }
            self.socket.ready(Interest::READABLE.add(Interest::WRITABLE)).await?;
        }
        Ok(true)
    }

    /// Takes what is there, without waiting; whether the peer has said something or closed.
    ///
    /// # Errors
    /// What the kernel said, or `InvalidData` with the TLS error in it.
    pub fn try_hear(&mut self, heard: &mut BytesMut, at_most: usize) -> io::Result<bool> {
        buffers::with(|space| {
            let size = at_most.min(space.len());
            let space = space.get_mut(..size).unwrap_or_default();
            loop {
                match self.try_take(space)? {
                    // TLS's own messages.
                    Taken::Bytes(0) => {}
                    Taken::Bytes(n) => {
                        let read = space.get_mut(..n).unwrap_or_default();
                        heard.extend_from_slice(read);
                        read.fill(0);
                        return Ok(true);
                    }
                    Taken::Blocked => return Ok(false),
                    Taken::End | Taken::Truncated => return Ok(true),
                }
            }
        })
    }

    /// Ends our direction only: close_notify under TLS, then FIN. Reading goes on.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn finish(&mut self) -> io::Result<()> {
        while !self.try_finish(true)? {
            self.socket.writable().await?;
        }
        Ok(())
    }

    /// Says goodbye: close_notify under TLS, then FIN. After that reads away what the peer still sends until it closes,
    /// for at most one second and 256 KiB: closing a socket with unread bytes would make the kernel reset the
    /// connection and destroy what we wrote last. Best effort, errors are nobody's business any more.
    pub async fn shutdown(&mut self) {
        self.shutdown_as(true).await;
    }

    /// The same; where `clean` is false TLS's close_notify is left out, so that a stream that was cut off on its other leg
    /// is not taken for a whole one.
    pub async fn shutdown_as(&mut self, clean: bool) {
        if self.try_finish(clean).is_ok() {
            let _ = tokio::time::timeout(LINGER, self.read_away()).await;
        }
    }

    async fn read_away(&self) {
        let mut left = LINGER_OCTETS;
        while left > 0 && self.socket.readable().await.is_ok() {
            // Whatever comes is thrown away, so TLS need not look at it.
            match buffers::with(|space| self.socket.try_read(space)) {
                Ok(0) => return,
                Ok(n) => left = left.saturating_sub(n),
                Err(e) if would_block(&e) => {}
                Err(_) => return,
            }
        }
    }

    /// Wraps the same socket in TLS.
    pub(crate) fn under_tls(self, tls: TlsStream) -> Conn {
        Conn { tls: Some(Box::new(tls)), ..self }
    }

    /// Reads what is there into `space`, which must not be empty.
    pub(crate) fn try_take(&mut self, space: &mut [u8]) -> io::Result<Taken> {
        match &mut self.tls {
            Some(tls) => tls.take(&self.socket, space),
            None => match retried(|| self.socket.try_read(space)) {
                Ok(0) => Ok(Taken::End),
                Ok(n) => Ok(Taken::Bytes(n)),
                Err(e) if would_block(&e) => Ok(Taken::Blocked),
                Err(e) => Err(e),
            },
        }
    }

    /// Sends what can be sent now and says how much of `bytes` it has accepted; 0 means: wait until writable.
    ///
    /// In clear, accepted means taken by the kernel. Under TLS it means encrypted; ciphertext that the kernel did not
    /// take waits inside, nothing further is accepted before it is gone, and [`Conn::owes`] tells of it.
    pub(crate) fn try_give(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tls) = &mut self.tls {
            return tls.give(&self.socket, bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match retried(|| self.socket.try_write(rest)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if would_block(&e) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Sends ciphertext that waits inside; true when none is left.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        self.tls.as_mut().map_or(Ok(true), |tls| tls.flush(&self.socket))
    }

    /// Whether ciphertext waits inside for the socket to become writable.
    pub(crate) fn owes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.owes())
    }

    /// Ends our direction: close_notify under TLS if the end is a `clean` one, then FIN. False when the socket must
    /// become writable first; then call it again.
    pub(crate) fn try_finish(&mut self, clean: bool) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            if clean {
                tls.say_goodbye();
            }
            if !tls.flush(&self.socket)? {
                return Ok(false);
            }
        }
        self.socket.finish()?;
        Ok(true)
    }

    /// The error the kernel holds for this socket, where nothing is being read that would report it.
    pub(crate) fn pending_error(&self) -> Option<io::Error> {
        self.socket.pending_error().err().filter(|e| !would_block(e))
    }
}

pub(crate) fn would_block(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock
}

/// Runs a system call again when a signal interrupted it.
pub(crate) fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
