//! One connection of a scripted peer: bytes with a deadline, and the dialogue so far.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::Signal;
use super::dialogue::Dialogue;
use super::stream::{Stream, is_reset, is_timeout};

/// How long a step of a dialogue may take before it fails.
pub const DIALOGUE_LIMIT: Duration = Duration::from_secs(10);

/// One end of a connection. Every step that fails panics with the dialogue; dropping it closes the connection.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    /// A handle of the same socket, for deadlines, shutdown and linger below TLS.
    ///
    /// Counted, so that a server can cut it without keeping it open: the last handle must go with the connection.
    socket: Arc<TcpStream>,
    waiting: Vec<u8>,
    patience: Duration,
    dialogue: Dialogue,
    capture: Arc<Mutex<Vec<u8>>>,
    captures: bool,
    stopped: Arc<AtomicBool>,
}

impl Conn {
    /// Takes over a connected socket.
    #[track_caller]
    pub fn new(socket: TcpStream) -> Conn {
        Conn::with(socket, Arc::default(), Arc::default())
    }

    #[track_caller]
    pub(super) fn with(socket: TcpStream, capture: Arc<Mutex<Vec<u8>>>, stopped: Arc<AtomicBool>) -> Conn {
        // Scripts write small pieces and mean each of them to be a segment of its own.
        socket.set_nodelay(true).unwrap_or_else(|e| panic!("unusable socket: {e}"));
        Conn::over(socket, capture, stopped)
    }

    /// Takes over a connected socket of the file system. It has no addresses that [`Conn::peer_addr`] could tell.
    #[track_caller]
    pub fn over_unix(socket: UnixStream) -> Conn {
        // All that is done with a socket from here on is the same for both kinds, and the kernel knows which it is.
        Conn::over(TcpStream::from(OwnedFd::from(socket)), Arc::default(), Arc::default())
    }

    #[track_caller]
    fn over(socket: TcpStream, capture: Arc<Mutex<Vec<u8>>>, stopped: Arc<AtomicBool>) -> Conn {
        let handle = socket.set_write_timeout(Some(DIALOGUE_LIMIT)).and_then(|()| socket.try_clone());
        let handle = handle.unwrap_or_else(|e| panic!("unusable socket: {e}"));
        Conn {
            stream: Stream::Plain(socket),
            socket: Arc::new(handle),
            waiting: Vec::new(),
            patience: DIALOGUE_LIMIT,
            dialogue: Dialogue::default(),
            capture,
            captures: true,
            stopped,
        }
    }

    /// The other end's address.
    #[track_caller]
    pub fn peer_addr(&self) -> SocketAddr {
        self.socket.peer_addr().unwrap_or_else(|e| self.fail(&format!("not connected: {e}")))
    }

    /// This end's address.
    #[track_caller]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap_or_else(|e| self.fail(&format!("not connected: {e}")))
    }

    /// Sets how long each further step of reading may take; [`DIALOGUE_LIMIT`] unless set.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Sends these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(e) = self.try_send(bytes) {
            self.fail(&format!("cannot send: {e}"));
        }
    }

    /// Sends a line and adds CRLF.
    #[track_caller]
    pub fn send_line(&mut self, line: impl AsRef<[u8]>) {
        let mut bytes = line.as_ref().to_vec();
        bytes.extend_from_slice(b"\r\n");
        self.send(bytes);
    }

    /// Sends these bytes; a peer that has gone is an answer, not a failure.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        let bytes = bytes.as_ref();
        self.dialogue.note('>', bytes);
        self.stream.write_all(bytes)
    }

    /// Sends one byte at a time, each in a segment of its own as far as the kernel allows, with `pause` in between.
    #[track_caller]
    pub fn trickle(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) {
        for byte in bytes.as_ref() {
            self.send([*byte]);
            std::thread::sleep(pause);
        }
    }

    /// Repeats `pattern` until `total` bytes are sent or the peer ends the connection or takes nothing for
    /// [`DIALOGUE_LIMIT`]. Returns how many bytes were handed to the kernel.
    pub fn flood(&mut self, pattern: &[u8], total: usize) -> usize {
        let block = pattern.repeat((64 * 1024 / pattern.len().max(1)).max(1));
        let mut sent = 0;
        while sent < total && !self.stopped.load(Ordering::Relaxed) {
            let part = block.get(..block.len().min(total - sent)).unwrap_or(&block);
            match self.stream.write_all(part) {
                Ok(()) => sent += part.len(),
                Err(_) => break,
            }
        }
        self.dialogue.note('=', format!("flooded with {sent} bytes").as_bytes());
        sent
    }

    /// The next line without its CRLF, or `None` at the end of the stream (a reset counts as one).
    ///
    /// A line ends with LF; a missing CR is visible to the caller as a line end that [`Conn::expect_line`] refuses.
    #[track_caller]
    pub fn read_line(&mut self) -> Option<String> {
        let line = self.read_until_lf(self.deadline())?;
        let text = line.strip_suffix(b"\n").map_or(&*line, |l| l.strip_suffix(b"\r").unwrap_or(l));
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// The next line, which must be there, end with CRLF and contain `piece`; returned without CRLF.
    #[track_caller]
    pub fn expect_line(&mut self, piece: &str) -> String {
        self.expect_line_by(self.deadline(), piece)
    }

    #[track_caller]
    pub(super) fn expect_line_by(&mut self, end: Instant, piece: &str) -> String {
        let text = String::from_utf8_lossy(&self.expect_raw_line_by(end, piece)).into_owned();
        if !text.contains(piece) {
            self.fail(&format!("expected a line with {piece:?}, got {text:?}"));
        }
        text
    }

    /// The next line without its CRLF, byte for byte; `piece` is only for the text of a failure.
    #[track_caller]
    pub(super) fn expect_raw_line_by(&mut self, end: Instant, piece: &str) -> Vec<u8> {
        let Some(mut line) = self.read_until_lf(end) else { self.fail(&format!("expected a line with {piece:?}, got the end")) };
        if !line.ends_with(b"\r\n") {
            self.fail(&format!("expected a line with {piece:?}, got one without CRLF"));
        }
        line.truncate(line.len() - 2);
        line
    }

    /// Whether anything more comes, now or within the patience for a step; `false` at the end of the stream. Takes no
    /// more than one byte from the kernel.
    #[track_caller]
    pub(super) fn has_more(&mut self) -> bool {
        if !self.waiting.is_empty() {
            return true;
        }
        match self.fill_by(self.deadline(), 1) {
            Ok(more) => more,
            Err(e) if is_reset(&e) => false,
            Err(e) => self.fail(&format!("waiting for anything: {e}")),
        }
    }

    /// Everything that has come from the peer so far, up to 256 MiB; inside TLS, what came out of it.
    pub fn received(&self) -> Vec<u8> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads lines until one contains `piece`; returns them all, the last one being that line. All of them together
    /// are one step.
    #[track_caller]
    pub fn expect_until(&mut self, piece: &str) -> Vec<String> {
        let end = self.deadline();
        let (mut lines, mut kept) = (Vec::new(), 0);
        loop {
            let line = self.expect_line_by(end, "");
            let found = line.contains(piece);
            kept += line.len();
            if kept > KEPT {
                self.fail(&format!("expected a line with {piece:?}, got ever more others"));
            }
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    /// Exactly `n` bytes.
    #[track_caller]
    pub fn read_exact(&mut self, n: usize) -> Vec<u8> {
        self.read_in_blocks(n, BLOCK)
    }

    /// As [`Conn::read_exact`], and what follows is left to the kernel: it may be the beginning of TLS.
    #[track_caller]
    pub(super) fn read_no_more(&mut self, n: usize) -> Vec<u8> {
        self.read_in_blocks(n, 1)
    }

    #[track_caller]
    fn read_in_blocks(&mut self, n: usize, block: usize) -> Vec<u8> {
        let end = Instant::now() + self.patience.max(Duration::from_micros(n as u64));
        while self.waiting.len() < n {
            match self.fill_by(end, block) {
                Ok(true) => {}
                Ok(false) => self.fail(&format!("expected {n} bytes, got the end after {}", self.waiting.len())),
                Err(e) => self.fail(&format!("expected {n} bytes, got {}, then: {e}", self.waiting.len())),
            }
        }
        self.take(n)
    }

    /// What has come and was not read yet, or what comes next, however long that takes; `None` at the end of the stream,
    /// when the server is stopped, and after a reset.
    pub(super) fn read_some(&mut self) -> Option<Vec<u8>> {
        while self.waiting.is_empty() {
            match self.fill(Instant::now() + Duration::from_secs(1)) {
                Ok(true) => {}
                Err(e) if is_timeout(&e) && !self.stopped.load(Ordering::Relaxed) => {}
                Ok(false) | Err(_) => return None,
            }
        }
        Some(std::mem::take(&mut self.waiting))
    }

    /// Lets [`Conn::received`] forget what comes from here on, for peers that send more than a test can keep.
    pub(super) fn capture_nothing(&mut self) {
        self.captures = false;
    }

    /// Everything until the peer ends the stream; a reset counts as an end.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let end = self.deadline();
        loop {
            match self.fill(end) {
                Ok(true) if self.waiting.len() > KEPT => self.fail("expected the end of the stream, got more and more"),
                Ok(true) => {}
                Ok(false) => return self.take(self.waiting.len()),
                Err(e) if is_reset(&e) => return self.take(self.waiting.len()),
                Err(e) => self.fail(&format!("expected the end of the stream: {e}")),
            }
        }
    }

    /// The peer must end the stream without saying anything more; a reset counts as an end.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        if !rest.is_empty() {
            self.fail("expected the end of the stream, got the bytes at the end of the dialogue");
        }
    }

    /// Whether the peer says nothing and keeps the connection for this long.
    ///
    /// The one wait for time instead of a condition: silence has no event. Keep it short.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        self.waiting.is_empty() && matches!(self.fill(end), Err(e) if is_timeout(&e))
    }

    /// Keeps the connection open, recording and forgetting what comes, until the peer ends it or the server is stopped.
    pub fn hold(&mut self) {
        while !self.stopped.load(Ordering::Relaxed) {
            match self.fill(Instant::now() + Duration::from_millis(50)) {
                Ok(true) => self.waiting.clear(),
                Err(e) if is_timeout(&e) => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Does nothing, and reads nothing, until the server is stopped.
    pub fn hang(&mut self) {
        self.dialogue.note('=', b"hangs");
        while !self.stopped.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Does nothing, and reads nothing, until the test gives the signal; fails after three times [`DIALOGUE_LIMIT`].
    #[track_caller]
    pub fn wait(&mut self, signal: &Signal) {
        self.dialogue.note('=', format!("waits for {signal:?}").as_bytes());
        if !signal.wait(DIALOGUE_LIMIT * 3, &self.stopped) {
            self.fail(&format!("{signal:?} was not given"));
        }
    }

    /// Ends the stream in this direction only; the peer may go on talking.
    pub fn half_close(&mut self) {
        self.dialogue.note('=', "half close".as_bytes());
        self.stream.say_goodbye();
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends the connection politely.
    pub fn close(mut self) {
        self.stream.say_goodbye();
    }

    /// Ends the connection with a RST: what the peer has not read yet is lost.
    pub fn reset(mut self) {
        self.dialogue.note('=', "reset".as_bytes());
        // Closing with a linger time of zero is how a program asks for a RST.
        let _ = rustix::net::sockopt::set_socket_linger(&*self.socket, Some(Duration::ZERO));
    }

    /// Continues as the server side of TLS. Fails if the peer sent clear text ahead of its handshake.
    #[track_caller]
    pub fn accept_tls(&mut self, config: &Arc<ServerConfig>) {
        if let Err(e) = self.try_accept_tls(config) {
            self.fail(&format!("no TLS: {e}"));
        }
    }

    /// As [`Conn::accept_tls`]; a client that refuses our certificate is an answer, not a failure. The connection is
    /// of no use after an error.
    pub fn try_accept_tls(&mut self, config: &Arc<ServerConfig>) -> std::io::Result<()> {
        let tls = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
        let socket = self.plain()?;
        self.stream = Stream::Server(Box::new(StreamOwned::new(tls, socket)));
        self.handshake()
    }

    /// Continues as the client side of TLS, expecting a certificate for `name`.
    #[track_caller]
    pub fn connect_tls(&mut self, config: &Arc<ClientConfig>, name: &str) {
        if let Err(e) = self.try_connect_tls(config, name) {
            self.fail(&format!("no TLS with {name}: {e}"));
        }
    }

    /// As [`Conn::connect_tls`]; a refusal is an answer, not a failure. The connection is of no use after an error.
    pub fn try_connect_tls(&mut self, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<()> {
        let server = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let tls = ClientConnection::new(config.clone(), server).map_err(std::io::Error::other)?;
        let socket = self.plain()?;
        self.stream = Stream::Client(Box::new(StreamOwned::new(tls, socket)));
        self.handshake()
    }

    /// The certificate (DER) that the peer showed; a client shows one only where it is asked for.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        let shown = match &self.stream {
            Stream::Plain(_) => None,
            Stream::Client(tls) => tls.conn.peer_certificates(),
            Stream::Server(tls) => tls.conn.peer_certificates(),
        };
        shown.and_then(|chain| chain.first()).map(|der| der.to_vec())
    }

    /// The server name (SNI) that the client asked for, on the server side of a TLS connection.
    pub fn server_name(&self) -> Option<String> {
        match &self.stream {
            Stream::Server(tls) => tls.conn.server_name().map(str::to_owned),
            Stream::Plain(_) | Stream::Client(_) => None,
        }
    }

    /// Fails the test with a reason and the dialogue so far.
    #[track_caller]
    pub fn fail(&self, reason: &str) -> ! {
        panic!("{reason}\n--- dialogue ---\n{}", self.dialogue());
    }

    /// The dialogue so far: `>` sent by this end, `<` received, `=` other events. Long turns are shortened.
    pub fn dialogue(&self) -> String {
        self.dialogue.to_string()
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    pub(super) fn capture(&self) -> Arc<Mutex<Vec<u8>>> {
        self.capture.clone()
    }

    pub(super) fn socket(&self) -> Weak<TcpStream> {
        Arc::downgrade(&self.socket)
    }

    fn plain(&self) -> std::io::Result<TcpStream> {
        if !matches!(self.stream, Stream::Plain(_)) {
            return Err(std::io::Error::other("the connection is in TLS already"));
        }
        if !self.waiting.is_empty() {
            return Err(std::io::Error::other("bytes in clear are waiting in front of the handshake"));
        }
        self.socket.try_clone()
    }

    fn handshake(&mut self) -> std::io::Result<()> {
        self.socket.set_read_timeout(Some(DIALOGUE_LIMIT))?;
        let done = self.stream.handshake();
        let event = done.as_ref().map_or_else(|e| format!("TLS fails: {e}"), |()| "TLS begins".to_owned());
        self.dialogue.note('=', event.as_bytes());
        done
    }

    #[track_caller]
    fn read_until_lf(&mut self, end: Instant) -> Option<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.waiting.iter().skip(seen).position(|&b| b == b'\n') {
                return Some(self.take(seen + at + 1));
            }
            seen = self.waiting.len();
            if seen > KEPT {
                self.fail("a line without an end");
            }
            match self.fill(end) {
                Ok(true) => {}
                Ok(false) if self.waiting.is_empty() => return None,
                Ok(false) => self.fail("the stream ends in the middle of a line"),
                Err(e) if is_reset(&e) => return None,
                Err(e) => self.fail(&format!("waiting for a line: {e}")),
            }
        }
    }

    /// Reads once; `false` at the end of the stream.
    fn fill(&mut self, end: Instant) -> std::io::Result<bool> {
        self.fill_by(end, BLOCK)
    }

    /// As [`Conn::fill`], at most so many bytes.
    fn fill_by(&mut self, end: Instant, most: usize) -> std::io::Result<bool> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        let mut block = [0; BLOCK];
        let n = match self.stream.read(&mut block[..most.min(BLOCK)]) {
            Ok(n) => n,
            // Half of the world ends TLS without close_notify.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => 0,
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(true),
            // The kernel calls this "resource temporarily unavailable", which explains nothing in a test's output.
            Err(e) if is_timeout(&e) => return Err(ErrorKind::TimedOut.into()),
            Err(e) => return Err(e),
        };
        let got = &block[..n];
        match n {
            0 => self.dialogue.note('=', b"end of stream"),
            _ => self.dialogue.note_received(got, most == 1),
        }
        self.waiting.extend_from_slice(got);
        let mut capture = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        if self.captures && capture.len() <= KEPT {
            capture.extend_from_slice(got);
        }
        drop(capture);
        Ok(n > 0)
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        self.waiting.drain(..n).collect()
    }
}

/// Most bytes that are kept of what one connection sends: more than any test means to send, less than a machine has.
const KEPT: usize = 256 << 20;

/// Most bytes that are asked of the kernel at once.
const BLOCK: usize = 16 * 1024;
