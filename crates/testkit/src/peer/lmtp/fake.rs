//! The backend for delivery as one that runs by itself: it dies and comes back, and its behaviour can be changed on the way.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Lmtp;
use super::record::{Ending, LmtpSession, LmtpTransaction};
use super::session::{House, Session};
use crate::peer::{Conn, FakeServer};
use crate::ports::{Port, free_port};
use crate::wait::{PATIENCE, poll};

/// A listener with the script [`Lmtp::serve`], and what all its connections brought.
pub struct FakeLmtp {
    addr: SocketAddr,
    /// Held while it is dead, too, so that it can come back.
    _port: Port,
    server: Option<FakeServer>,
    shared: Arc<Shared>,
}

impl Lmtp {
    /// Serves one connection as a script of a [`FakeServer`], and returns what came on it. [`Does::Close`](super::Does::Close) and
    /// [`Does::Reset`](super::Does::Reset) are left to the script: what is returned says which it is to be.
    #[track_caller]
    pub fn serve(&self, conn: &mut Conn) -> LmtpSession {
        let shared = Shared::new(self.clone());
        shared.serve(conn);
        let sessions = std::mem::take(&mut *shared.sessions());
        sessions.into_iter().next().unwrap_or_default()
    }
}

impl FakeLmtp {
    /// Listens on a free port of 127.0.0.1.
    #[track_caller]
    pub fn start(lmtp: Lmtp) -> FakeLmtp {
        FakeLmtp::start_on(Ipv4Addr::LOCALHOST.into(), lmtp)
    }

    /// Listens on a free port of this address, one of loopback.
    #[track_caller]
    pub fn start_on(ip: IpAddr, lmtp: Lmtp) -> FakeLmtp {
        let port = free_port();
        let addr = SocketAddr::new(ip, port.number());
        let mut fake = FakeLmtp { addr, _port: port, server: None, shared: Arc::new(Shared::new(lmtp)) };
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

    /// Behaves like this from the next line on, also on the connections that are there. What it offered before is not
    /// offered again.
    pub fn behave(&self, lmtp: Lmtp) {
        *lock(&self.shared.behaviour) = Arc::new(lmtp);
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

    /// Stops listening; connections go on.
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
            let shared = self.shared.clone();
            FakeServer::try_start_at(self.addr, move |mut conn| match shared.serve(&mut conn) {
                Ending::Reset => conn.reset(),
                _ => conn.close(),
            })
            .ok()
        };
        // While it was dead the kernel may have lent the port to somebody for a moment.
        let started = poll(PATIENCE, start);
        assert!(started.is_some(), "cannot have {} back", self.addr);
        self.server = started;
    }

    /// How many connections came so far, in all its lives.
    pub fn connections(&self) -> usize {
        self.shared.sessions().len()
    }

    /// What came so far, a session for each connection.
    pub fn sessions(&self) -> Vec<LmtpSession> {
        self.shared.sessions().clone()
    }

    /// The messages so far, also those that came to nothing, connection by connection.
    pub fn transactions(&self) -> Vec<LmtpTransaction> {
        self.shared.sessions().iter().flat_map(|s| s.transactions.clone()).collect()
    }

    /// Waits until `n` messages have come completely, and returns these; more than that fail the test.
    ///
    /// What was answered to the last of them may not be noted yet.
    #[track_caller]
    pub fn wait_for_complete(&self, n: usize) -> Vec<LmtpTransaction> {
        let count = |sessions: &[LmtpSession]| sessions.iter().flat_map(|s| &s.transactions).filter(|t| t.is_complete()).count();
        self.wait_for(&format!("{n} complete messages"), |sessions| count(sessions) >= n);
        let complete: Vec<_> = self.transactions().into_iter().filter(LmtpTransaction::is_complete).collect();
        assert!(complete.len() == n, "{} messages came, waited for {n}", complete.len());
        complete
    }

    /// Waits until all its connections have ended, of which there must be `n`, and returns what came on them.
    #[track_caller]
    pub fn wait_for_ends(&self, n: usize) -> Vec<LmtpSession> {
        self.wait_for(&format!("the ends of {n} connections"), |s| s.len() >= n && s.iter().all(|s| s.ended.is_some()));
        let sessions = self.sessions();
        assert!(sessions.len() == n, "{} connections came, waited for {n}", sessions.len());
        sessions
    }

    /// Waits until this is so.
    #[track_caller]
    pub fn wait_for(&self, what: &str, ready: impl Fn(&[LmtpSession]) -> bool) {
        if poll(PATIENCE, || ready(&self.shared.sessions()).then_some(())).is_none() {
            let lines: Vec<_> = self.shared.sessions().iter().map(|s| (s.lines.clone(), s.ended)).collect();
            panic!("waited {} s for {what}; what came: {lines:#?}", PATIENCE.as_secs());
        }
    }

    /// Waits for all connections to end by themselves, and fails if a script failed.
    #[track_caller]
    pub fn finish(mut self) {
        if let Some(server) = self.server.take() {
            server.finish();
        }
    }
}

impl fmt::Debug for FakeLmtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeLmtp").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// What the connections share.
struct Shared {
    behaviour: Mutex<Arc<Lmtp>>,
    sessions: Mutex<Vec<LmtpSession>>,
}

impl Shared {
    fn new(lmtp: Lmtp) -> Shared {
        Shared { behaviour: Mutex::new(Arc::new(lmtp)), sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<LmtpSession>> {
        lock(&self.sessions)
    }

    #[track_caller]
    fn serve(&self, conn: &mut Conn) -> Ending {
        let mut sessions = self.sessions();
        let house = OneOf { shared: self, number: sessions.len() };
        sessions.push(LmtpSession { from: Some(conn.peer_addr()), ..LmtpSession::default() });
        drop(sessions);
        if !house.behaviour().keeps_data {
            conn.capture_nothing();
        }
        let ending = Session::new(&house, conn).run();
        house.note(&mut |seen| seen.ended = Some(ending));
        ending
    }
}

/// One of the connections.
struct OneOf<'a> {
    shared: &'a Shared,
    number: usize,
}

impl House for OneOf<'_> {
    fn behaviour(&self) -> Arc<Lmtp> {
        lock(&self.shared.behaviour).clone()
    }

    fn note(&self, change: &mut dyn FnMut(&mut LmtpSession)) {
        if let Some(seen) = self.shared.sessions().get_mut(self.number) {
            change(seen);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
