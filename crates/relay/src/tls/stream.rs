//! The TLS engine on one socket: handshake, then steps that never wait.
//!
//! Ciphertext is read in one large gulp into a borrowed buffer and fed to rustls from there; plaintext is copied to the
//! caller's (also borrowed) buffer at once. What stays with the session between steps is a partial record inside rustls,
//! ciphertext the kernel would not take, and rarely a `carry` of ciphertext for which the caller had no room.
//! Everything rustls-specific about moving bytes is in this file, so that its caller-owned-buffer interface can
//! replace the present one here alone.
//!
//! A peer may send messages that carry no data (key updates, tickets, empty records). One step reads the socket once and
//! may come back with nothing, so such a peer is scheduled like any other instead of being served in a loop.

use super::{TlsError, TlsErrorKind, describe};
use crate::buffers;
use crate::conn::{Taken, retried, would_block};
use crate::socket::Socket;
use std::io::{self, Read, Write};

/// Room left in the caller's buffer for a record that was partly read before: plaintext of one record and a bit.
const RECORD_ROOM: usize = 17 * 1024;
/// Octets read at a time when the caller's buffer is small.
const SMALL_GULP: usize = 4 * 1024;

/// An established TLS session.
#[derive(Debug)]
pub(crate) struct TlsStream {
    session: rustls::Connection,
    /// Ciphertext read but not yet given to rustls, because the caller's buffer was full.
    carry: Vec<u8>,
    /// How reading ended: nothing is read from the socket any more.
    end: Option<Taken>,
    /// The fatal error that ended reading; told after the plaintext before it has been taken.
    failure: Option<rustls::Error>,
    said_goodbye: bool,
}

impl TlsStream {
    /// Takes a session whose handshake is complete.
    pub(crate) fn new(mut session: rustls::Connection) -> TlsStream {
        // Our own rule bounds what waits: nothing is accepted while ciphertext is unsent. A second limit inside would
        // only make a step accept part of what it was given.
        session.set_buffer_limit(None);
        let mut stream = TlsStream { session, carry: Vec::new(), end: None, failure: None, said_goodbye: false };
        stream.process();
        stream
    }

    /// Takes plaintext; reads the socket at most once.
    pub(crate) fn take(&mut self, socket: &Socket, out: &mut [u8]) -> io::Result<Taken> {
        let ready = self.decrypted(out);
        if ready > 0 {
            return Ok(Taken::Bytes(ready));
        }
        if !self.carry.is_empty() {
            let carry = std::mem::take(&mut self.carry);
            let fed = self.feed(&carry, out);
            if fed > 0 {
                return Ok(Taken::Bytes(fed));
            }
        }
        if let Some(failure) = &self.failure {
            let error = io::Error::new(io::ErrorKind::InvalidData, failure.clone());
            // One try to deliver the alert.
            let _ = self.flush(socket);
            return Err(error);
        }
        if let Some(end) = self.end {
            return Ok(end);
        }
        buffers::with(|gulp| {
            let size = out.len().saturating_sub(RECORD_ROOM).max(SMALL_GULP).min(gulp.len());
            let gulp = gulp.get_mut(..size).unwrap_or_default();
            match retried(|| socket.try_read(gulp)) {
                Ok(0) => {
                    self.end = Some(Taken::Truncated);
                    Ok(Taken::Truncated)
                }
                Ok(n) => Ok(Taken::Bytes(self.feed(gulp.get(..n).unwrap_or_default(), out))),
                Err(e) if would_block(&e) => Ok(Taken::Blocked),
                Err(e) => Err(e),
            }
        })
    }

    /// Encrypts and sends; accepts all of `bytes`, or none while older ciphertext is unsent.
    pub(crate) fn give(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush(socket)? {
            return Ok(0);
        }
        let accepted = self.session.writer().write(bytes)?;
        self.flush(socket)?;
        Ok(accepted)
    }

    /// Sends what waits; true when nothing is left.
    pub(crate) fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while self.session.wants_write() {
            match retried(|| self.session.write_tls(&mut Wire(socket))) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if would_block(&e) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    pub(crate) fn owes(&self) -> bool {
        self.session.wants_write()
    }

    /// Queues close_notify, once.
    pub(crate) fn say_goodbye(&mut self) {
        if !self.said_goodbye {
            self.said_goodbye = true;
            self.session.send_close_notify();
        }
    }

    /// Gives ciphertext to rustls until it is used up or `out` is full; the rest is carried. Returns the plaintext made.
    fn feed(&mut self, mut ciphertext: &[u8], out: &mut [u8]) -> usize {
        let mut filled = 0;
        while !ciphertext.is_empty() && filled < out.len() {
            match self.session.read_tls(&mut ciphertext) {
                // After close_notify rustls takes nothing more, and what follows has no meaning (RFC 8446 6.1).
                Ok(0) => return filled,
                Ok(_) => self.process(),
                Err(e) => {
                    self.failure.get_or_insert(rustls::Error::General(e.to_string()));
                }
            }
            filled += self.decrypted(out.get_mut(filled..).unwrap_or_default());
            if self.failure.is_some() {
                return filled;
            }
        }
        self.carry = ciphertext.to_vec();
        filled
    }

    fn process(&mut self) {
        match self.session.process_new_packets() {
            Ok(state) if state.peer_has_closed() => self.end = Some(Taken::End),
            Ok(_) => {}
            Err(e) => {
                self.failure.get_or_insert(e);
            }
        }
    }

    fn decrypted(&mut self, out: &mut [u8]) -> usize {
        // Errors here are "nothing yet" and "ended", and both are known from elsewhere.
        self.session.reader().read(out).unwrap_or(0)
    }
}

/// Drives a handshake to its end, including our last messages (a TLS 1.3 server's ticket).
///
/// The caller sets the deadline by dropping the future. `first` is told what the peer sent first, for a diagnosis of
/// peers that speak no TLS.
pub(crate) async fn handshake(socket: &Socket, session: &mut rustls::Connection, first: &mut FirstBytes) -> Result<(), TlsError> {
    loop {
        while session.wants_write() {
            match retried(|| session.write_tls(&mut Wire(socket))) {
                Ok(_) => {}
                Err(e) if would_block(&e) => socket.writable().await.map_err(TlsError::io)?,
                Err(e) => return Err(TlsError::io(e)),
            }
        }
        if !session.is_handshaking() {
            return Ok(());
        }
        socket.readable().await.map_err(TlsError::io)?;
        match retried(|| session.read_tls(&mut Sip { socket, first })) {
            Ok(0) => return Err(closed_early(first)),
            Ok(_) => {}
            Err(e) if would_block(&e) => continue,
            Err(e) => return Err(TlsError::io(e)),
        }
        if let Err(e) = session.process_new_packets() {
            // One try to deliver the alert; a peer that does not read gets none.
            let _ = session.write_tls(&mut Wire(socket));
            return Err(describe(&e, first));
        }
    }
}

/// The peer closed in the middle of a handshake.
pub(crate) fn closed_early(first: &FirstBytes) -> TlsError {
    if first.is_text() {
        return first.no_tls();
    }
    let when = if first.bytes.is_empty() { "before it said anything" } else { "in the middle of the handshake" };
    TlsError::new(TlsErrorKind::Closed, format!("the peer closed the connection {when}"))
}

/// The first octets a peer sent in a handshake, to tell what it speaks if not TLS.
#[derive(Debug)]
pub(crate) struct FirstBytes {
    bytes: Vec<u8>,
    from: Peer,
}

/// Whose words they are: a backend's greeting may be quoted, a client's first words may hold its password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Client,
    Backend,
}

/// How much of a peer's first words is kept.
const FIRST_WORDS: usize = 64;

impl FirstBytes {
    pub(crate) fn of(from: Peer) -> FirstBytes {
        FirstBytes { bytes: Vec::new(), from }
    }

    /// The error for a peer whose first octets are no TLS record.
    pub(crate) fn no_tls(&self) -> TlsError {
        let detail = match (self.from, self.is_text()) {
            (Peer::Backend, true) => {
                format!("the peer speaks no TLS here; it answered with plain text: \"{}\"", self.line().escape_ascii())
            }
            (Peer::Client, true) => {
                "the client sent plain text where TLS was to start; is it set up for STARTTLS, or for no encryption?".into()
            }
            (_, false) => "the peer speaks no TLS here; what it sent is neither a TLS record nor text".into(),
        };
        TlsError::new(TlsErrorKind::NotTls, detail)
    }

    fn note(&mut self, seen: &[u8]) {
        let room = FIRST_WORDS.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(seen.get(..room).unwrap_or(seen));
    }

    fn is_text(&self) -> bool {
        let line = self.line();
        !line.is_empty() && line.iter().all(|&b| b == b'\t' || (b' '..=b'~').contains(&b))
    }

    fn line(&self) -> &[u8] {
        self.bytes.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default()
    }
}

/// The socket for rustls to write to: never waits.
pub(crate) struct Wire<'a>(pub(crate) &'a Socket);

impl Write for Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket for rustls to read from during a handshake, with a note of what came first.
pub(crate) struct Sip<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) first: &'a mut FirstBytes,
}

impl Read for Sip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.socket.try_read(buf)?;
        self.first.note(buf.get(..n).unwrap_or_default());
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_s_first_words_are_quoted_and_a_client_s_never() {
        let check = |from, seen: &[u8], expected: &str| {
            let mut first = FirstBytes::of(from);
            seen.chunks(5).for_each(|piece| first.note(piece));
            let said = first.no_tls().detail;
            assert!(said.ends_with(expected), "{said}");
        };
        let (client, backend) = (Peer::Client, Peer::Backend);
        check(backend, b"* OK [CAPABILITY IMAP4rev1] ready\r\nmore", ": \"* OK [CAPABILITY IMAP4rev1] ready\"");
        check(backend, b"+OK \"quoted\"\r\n", ": \"+OK \\\"quoted\\\"\"");
        check(backend, b"\x1b[2Jevil", "nor text");
        check(backend, b"\r\n", "nor text");
        check(backend, b"", "nor text");
        check(backend, &[b'a'; 500], &format!(": \"{}\"", "a".repeat(FIRST_WORDS)));
        check(client, b"a1 LOGIN joe secret\r\n", "no encryption?");
        check(client, b"\x00\x01\x02", "nor text");
    }
}
