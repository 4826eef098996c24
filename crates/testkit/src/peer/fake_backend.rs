//! A backend that runs by itself: it lets everybody in, notes who came, dies on command and comes back on its port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Backend, Conn, FakeServer, Letters, SeenLogin};
use crate::Protocol;
use crate::ports::{Port, free_port};
use crate::wait::{PATIENCE, poll};

/// A listener with the script [`Backend`] and, behind the login, [`Backend::echo`]. A login that is refused by
/// [`Backend::answer`] leaves the connection silent, for the peer to end.
pub struct FakeBackend {
    backend: Backend,
    addr: SocketAddr,
    /// Held while it is dead, too, so that it can come back.
    _port: Port,
    server: Option<FakeServer>,
    seen: Arc<Seen>,
}

impl FakeBackend {
    /// Listens on a free port of 127.0.0.1.
    #[track_caller]
    pub fn start(backend: Backend) -> FakeBackend {
        FakeBackend::start_on(Ipv4Addr::LOCALHOST.into(), backend)
    }

    /// Listens on a free port of this address, one of loopback.
    #[track_caller]
    pub fn start_on(ip: IpAddr, mut backend: Backend) -> FakeBackend {
        // One that was made of the same value has a box of its own.
        backend.letters = Letters::default();
        let port = free_port();
        let addr = SocketAddr::new(ip, port.number());
        let mut fake = FakeBackend { backend, addr, _port: port, server: None, seen: Arc::default() };
        fake.revive();
        fake
    }

    /// Where it listens, while it lives.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        self.backend.protocol
    }

    /// Stops listening and ends all its connections at once. What was noted stays.
    ///
    /// # Panics
    ///
    /// When a script has failed before.
    #[track_caller]
    pub fn die(&mut self) {
        self.server = None;
    }

    /// Stops listening; connections go on. Ends with the next [`FakeBackend::die`] or [`FakeBackend::revive`], which
    /// first ends those connections.
    pub fn stop_listening(&mut self) {
        if let Some(server) = &mut self.server {
            server.stop_listening();
        }
    }

    /// Listens again on the same port.
    #[track_caller]
    pub fn revive(&mut self) {
        self.die();
        let start = || {
            let (backend, seen) = (self.backend.clone(), self.seen.clone());
            FakeServer::try_start_at(self.addr, move |conn| serve(&backend, &seen, conn)).ok()
        };
        // While it was dead the kernel may have lent the port to somebody for a moment.
        let started = poll(PATIENCE, start);
        assert!(started.is_some(), "cannot have {} back", self.addr);
        self.server = started;
    }

    /// Waits for all connections to end by themselves, and fails if a script failed; [`FakeBackend::die`] and dropping
    /// it may come before a script that is about to.
    #[track_caller]
    pub fn finish(mut self) {
        if let Some(server) = self.server.take() {
            server.finish();
        }
    }

    /// How many connections came so far, in all its lives.
    pub fn connections(&self) -> usize {
        self.seen.now().captures.len()
    }

    /// How many connections there are now.
    pub fn concurrent(&self) -> usize {
        self.seen.now().concurrent
    }

    /// The most connections that there were at once.
    pub fn peak(&self) -> usize {
        self.seen.now().peak
    }

    /// All logins so far, in the order in which they were answered.
    pub fn logins(&self) -> Vec<SeenLogin> {
        self.seen.now().logins.clone()
    }

    /// Waits until `n` logins were answered, and returns all.
    ///
    /// A login is noted after it was answered, so the client may know of it earlier.
    #[track_caller]
    pub fn wait_for_logins(&self, n: usize) -> Vec<SeenLogin> {
        self.wait_for("logins", n, || self.seen.now().logins.len() >= n);
        self.logins()
    }

    /// Waits until `n` connections have come.
    #[track_caller]
    pub fn wait_for_connections(&self, n: usize) {
        self.wait_for("connections", n, || self.connections() >= n);
    }

    /// Waits until there are exactly `n` connections.
    #[track_caller]
    pub fn wait_for_concurrent(&self, n: usize) {
        self.wait_for("connections at once", n, || self.concurrent() == n);
    }

    /// The mail that was sent through it by Submission.
    pub fn letters(&self) -> &Letters {
        &self.backend.letters
    }

    /// Everything that connection `n` (from 0, counted through all lives) has sent and the script has read, a PROXY
    /// header included; inside TLS, what came out of it.
    #[track_caller]
    pub fn received(&self, n: usize) -> Vec<u8> {
        let now = self.seen.now();
        let Some(capture) = now.captures.get(n) else { panic!("connection {n} asked for, {} have come", now.captures.len()) };
        lock(capture).clone()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, n: usize, ready: impl Fn() -> bool) {
        if poll(PATIENCE, || ready().then_some(())).is_none() {
            let now = self.seen.now();
            let (came, here, logins) = (now.captures.len(), now.concurrent, now.logins.len());
            drop(now);
            panic!("waited for {n} {what}; {came} connections came, {here} are here, {logins} logins were answered");
        }
    }
}

impl fmt::Debug for FakeBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeBackend").field("protocol", &self.protocol()).field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Seen(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    /// One per connection, filled while it is read.
    captures: Vec<Arc<Mutex<Vec<u8>>>>,
    concurrent: usize,
    peak: usize,
    logins: Vec<SeenLogin>,
}

impl Seen {
    fn now(&self) -> MutexGuard<'_, Notes> {
        lock(&self.0)
    }
}

/// One that counts as here, until dropped; also when its script panics.
struct Here<'a>(&'a Seen);

impl Here<'_> {
    fn count<'a>(seen: &'a Seen, conn: &Conn) -> Here<'a> {
        let mut now = seen.now();
        now.captures.push(conn.capture());
        now.concurrent += 1;
        now.peak = now.peak.max(now.concurrent);
        drop(now);
        Here(seen)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.now().concurrent -= 1;
    }
}

fn serve(backend: &Backend, seen: &Seen, mut conn: Conn) {
    let _here = Here::count(seen, &conn);
    backend.converse(&mut conn, |login| seen.now().logins.push(login));
    conn.close();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
