//! A server that runs one script per connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::Conn;
use crate::wait::{PATIENCE, poll};

/// A listener on loopback with a script. Dropping it ends all its connections, and fails the test if a script failed.
pub struct FakeServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<(Arc<TcpListener>, JoinHandle<()>)>,
}

impl FakeServer {
    /// Listens on a free port of 127.0.0.1 and runs `script` for each connection, each on its own thread.
    ///
    /// The connection is closed when the script returns. A script that panics fails the test, in [`FakeServer::finish`]
    /// or when the server is dropped, with the script's own message.
    #[track_caller]
    pub fn start(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> FakeServer {
        FakeServer::start_at((Ipv4Addr::LOCALHOST, 0).into(), move |mut conn| {
            script(&mut conn);
            conn.close();
        })
    }

    /// As [`FakeServer::start`], with TLS from the first byte. Connections whose handshake fails never reach the script.
    #[track_caller]
    pub fn start_tls(config: Arc<ServerConfig>, script: impl Fn(&mut Conn) + Send + Sync + 'static) -> FakeServer {
        FakeServer::start_at((Ipv4Addr::LOCALHOST, 0).into(), move |mut conn| {
            if conn.try_accept_tls(&config).is_ok() {
                script(&mut conn);
                conn.close();
            }
        })
    }

    /// As [`FakeServer::start`] on an address of the caller's choice (to come back on a port, or `::1`), with a script
    /// that owns its connection, so that it can end it with [`Conn::reset`].
    #[track_caller]
    pub fn start_at(addr: SocketAddr, script: impl Fn(Conn) + Send + Sync + 'static) -> FakeServer {
        let script = Arc::new(script);
        // A child that another test is just starting may hold a listener that was closed on this port, until it is itself.
        let bound = poll(Duration::from_secs(5), || {
            let script = Arc::clone(&script);
            match FakeServer::try_start_at(addr, move |conn| script(conn)) {
                Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => None,
                bound => Some(bound),
            }
        });
        match bound {
            Some(Ok(server)) => server,
            Some(Err(e)) => panic!("cannot listen on {addr}: {e}"),
            None => panic!("cannot listen on {addr}: somebody else does"),
        }
    }

    /// As [`FakeServer::start_at`]; an address that cannot be had is an answer, not a failure.
    #[track_caller]
    pub fn try_start_at(addr: SocketAddr, script: impl Fn(Conn) + Send + Sync + 'static) -> std::io::Result<FakeServer> {
        let listener = Arc::new(TcpListener::bind(addr)?);
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = {
            let (shared, listener) = (shared.clone(), listener.clone());
            std::thread::Builder::new().name(format!("fake server {addr}")).spawn(move || accept(&listener, &shared, script))
        };
        let accepting = accepting.unwrap_or_else(|e| panic!("cannot start a thread: {e}"));
        Ok(FakeServer { addr, shared, accepting: Some((listener, accepting)) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The address on which it listens.
    pub fn ip(&self) -> IpAddr {
        self.addr.ip()
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.shared.visits().len()
    }

    /// Waits until `n` connections have come.
    #[track_caller]
    pub fn wait_for_connections(&self, n: usize) {
        if poll(PATIENCE, || (self.connections() >= n).then_some(())).is_none() {
            panic!("{} connections came, waited for {n}", self.connections());
        }
    }

    /// Everything that connection `n` (from 0) has sent and its script has read, up to 256 MiB; inside TLS, what came out
    /// of it.
    #[track_caller]
    pub fn received(&self, n: usize) -> Vec<u8> {
        let visits = self.shared.visits();
        let Some(visit) = visits.get(n) else { panic!("connection {n} asked for, {} have come", visits.len()) };
        lock(&visit.capture).clone()
    }

    /// Waits until the script of connection `n` has ended, and returns all that it has read.
    #[track_caller]
    pub fn wait_for_end(&self, n: usize) -> Vec<u8> {
        let ended = || self.shared.visits().get(n).is_some_and(|v| v.ended.load(Ordering::Acquire)).then_some(());
        if poll(PATIENCE, ended).is_none() {
            panic!("connection {n} has not ended after {} s", PATIENCE.as_secs());
        }
        self.received(n)
    }

    /// Waits for all scripts to end and fails with the message of the first one that failed.
    #[track_caller]
    pub fn finish(mut self) {
        let running = || self.shared.visits().iter().any(|v| !v.ended.load(Ordering::Acquire));
        let done = poll(PATIENCE, || (!running()).then_some(())).is_some();
        self.stop();
        if let Some(message) = lock(&self.shared.failure).take() {
            panic!("a server script failed: {message}");
        }
        assert!(done, "a server script has not ended after {} s", PATIENCE.as_secs());
    }

    /// Closes the listener; connections that were accepted go on.
    pub fn stop_listening(&mut self) {
        let Some((listener, accepting)) = self.accepting.take() else { return };
        self.shared.closed.store(true, Ordering::Release);
        // Closing is not enough: a child that another test is about to start has the same socket for a moment. This ends
        // it for all, and wakes the thread that accepts.
        let _ = rustix::net::shutdown(&*listener, rustix::net::Shutdown::Both);
        let _ = accepting.join();
    }

    fn stop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.stop_listening();
        // Nothing is added from here on.
        for visit in self.shared.visits().iter() {
            if let Some(socket) = visit.socket.upgrade() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        let scripts = std::mem::take(&mut *lock(&self.shared.scripts));
        for script in scripts {
            let _ = script.join();
        }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop();
        let failure = lock(&self.shared.failure).take();
        if let Some(message) = failure.filter(|_| !std::thread::panicking()) {
            panic!("a server script failed: {message}");
        }
    }
}

impl fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// Something a test lets happen and scripts wait for. Once given it stays given; clones are the same signal.
#[derive(Clone, Default)]
pub struct Signal(Arc<(Mutex<bool>, Condvar)>);

impl Signal {
    /// A signal that has not been given.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Lets everybody go who waits, now or later.
    pub fn give(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Whether it was given.
    pub fn is_given(&self) -> bool {
        *lock(&self.0.0)
    }

    /// `true` when given or when there is nothing to wait for any more, `false` when `limit` has passed.
    pub(super) fn wait(&self, limit: Duration, stopped: &AtomicBool) -> bool {
        let end = Instant::now() + limit;
        let mut given = lock(&self.0.0);
        while !*given && !stopped.load(Ordering::Acquire) {
            if Instant::now() >= end {
                return false;
            }
            let nap = Duration::from_millis(50);
            given = self.0.1.wait_timeout(given, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_given() { "a signal (given)" } else { "a signal" })
    }
}

#[derive(Default)]
struct Shared {
    /// Nobody is accepted any more.
    closed: AtomicBool,
    /// Scripts are to end.
    stopped: Arc<AtomicBool>,
    visits: Mutex<Vec<Visit>>,
    scripts: Mutex<Vec<JoinHandle<()>>>,
    failure: Mutex<Option<String>>,
}

impl Shared {
    fn visits(&self) -> MutexGuard<'_, Vec<Visit>> {
        lock(&self.visits)
    }
}

struct Visit {
    socket: Weak<TcpStream>,
    capture: Arc<Mutex<Vec<u8>>>,
    ended: Arc<AtomicBool>,
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, script: impl Fn(Conn) + Send + Sync + 'static) {
    let script = Arc::new(script);
    for socket in listener.incoming() {
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        // A client that gave up before it was accepted is no business of the script.
        let Ok(socket) = socket else { continue };
        let (capture, ended) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let conn = Conn::with(socket, capture.clone(), shared.stopped.clone());
        shared.visits().push(Visit { socket: conn.socket(), capture, ended: ended.clone() });
        let run = {
            let (script, shared) = (script.clone(), shared.clone());
            move || {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| script(conn))) {
                    shared.script_failed(&*panic);
                }
                ended.store(true, Ordering::Release);
            }
        };
        match std::thread::Builder::new().name("script".to_owned()).spawn(run) {
            Ok(handle) => lock(&shared.scripts).push(handle),
            Err(e) => *lock(&shared.failure) = Some(format!("cannot start a thread: {e}")),
        }
    }
}

impl Shared {
    fn script_failed(&self, panic: &(dyn std::any::Any + Send)) {
        // Once the server is being stopped its connections are cut, and scripts notice: that is not their failure.
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
        lock(&self.failure).get_or_insert(text.unwrap_or_else(|| "a panic without a text".to_owned()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
