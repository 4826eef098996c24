//! What every session finds in place: the live configuration, the tables, the journal.

use super::failures::Failures;
use super::guard::Guard;
use super::learnt::Learnt;
use super::limits::{Ceiling, Under, Warnings};
use super::roll::Roll;
use crate::admin::Token;
use crate::backend::connect::{Means, Ourselves};
use crate::backend::health::Health;
use crate::backend::source::Sources;
use crate::config::listen_at::ListenAt;
use crate::config::meant::{CleartextAuth, ListenProxy, ListenTls, Meant, XclientAs};
use crate::journal::{Journal, Level};
use crate::metrics::Metrics;
use crate::metrics::history::History;
use crate::protocol::Protocol;
use crate::resolve::Resolve;
use crate::trace::Tracers;
use crate::users::chain::Chain;
use crate::witness::{Step, Witness};
use arc_swap::ArcSwap;
use relay::listen::AcceptStats;
use relay::tls::CertFacts;
use relay::tls::acceptor::Acceptor;
use relay::tls::connector::Connector;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};
use wire::origin::Origin;
use wire::origin::trust::TrustedNets;
use wire::smtp::message::BareNewline;

/// The most remarks that are remembered as already made.
const REMARKS_MAX: usize = 1024;

/// One listening address and what is spoken there.
pub struct Door {
    /// The protocol's row.
    pub protocol: &'static Protocol,
    /// When TLS begins.
    pub tls: ListenTls,
    /// Who may say a password in clear.
    pub cleartext_auth: CleartextAuth,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ListenProxy,
    /// What XCLIENT must be like, in SMTP.
    pub xclient: XclientAs,
    /// What becomes of line ends in letters that are none.
    pub bare_newline: BareNewline,
    /// The address as configured.
    pub address: ListenAt,
    /// The address after binding: the port is known.
    pub bound: ListenAt,
    /// Its connections, and how many there may be; the same after a reload.
    pub places: Arc<Ceiling>,
}

impl Door {
    /// What an operator calls it.
    pub fn name(&self) -> String {
        format!("{} on {}", self.protocol.name, self.bound)
    }
}

/// One generation of the configuration, ready for use. A session keeps the one it began with.
pub struct Live {
    /// What the file means.
    pub meant: Meant,
    /// The user databases.
    pub chain: Chain,
    /// `[trust] networks`.
    pub trusted: TrustedNets,
    /// `[trust] login`.
    pub vouchers: TrustedNets,
    /// `[trust] proxy_protocol`.
    pub proxies: TrustedNets,
    /// `[backend] source_ips`.
    pub sources: Sources,
    /// TLS for clients, one per protocol (their ALPN differs); none without certificates.
    pub acceptors: Vec<(&'static str, Arc<Acceptor>)>,
    /// TLS towards backends, certificates checked; or why that cannot be done here.
    pub verified: Result<Connector, String>,
    /// TLS towards backends, `any-cert`.
    pub any_cert: Connector,
    /// The ports this server listens on.
    pub ports: Vec<u16>,
    /// Of `admin.token_file`.
    pub admin_token: Option<Token>,
}

impl Live {
    /// The certificates that clients are shown. Each protocol has read the same files.
    pub fn certificates(&self) -> Vec<CertFacts> {
        self.acceptors.first().map(|(_, acceptor)| acceptor.certificates()).unwrap_or_default()
    }

    /// TLS for clients of a protocol.
    pub fn acceptor(&self, protocol: &Protocol) -> Option<&Arc<Acceptor>> {
        self.acceptors.iter().find(|(name, _)| *name == protocol.name).map(|(_, acceptor)| acceptor)
    }
}

/// Where the life of the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Open,
    /// No new sessions; those that have not signed in are sent away, unless their login is being looked at.
    Closing,
    /// Everybody is told goodbye.
    Leaving,
}

impl Phase {
    /// Waits until the life of the process is as far as this.
    pub async fn reached(self, phase: &mut watch::Receiver<Phase>) {
        // Its sender lives as long as the server: gone means the same.
        let _ = phase.wait_for(|phase| *phase >= self).await;
    }
}

/// The house.
pub struct House {
    /// The newest generation of the configuration.
    pub live: ArcSwap<Live>,
    /// The journal.
    pub journal: Journal,
    /// Limits.
    pub guard: Arc<Guard>,
    /// Whose logins fail.
    pub failures: Failures,
    /// What was on.
    pub history: History,
    /// Who is on.
    pub roll: Roll,
    /// What backends can do, as they told it.
    pub learnt: Learnt,
    /// Which backends serve, and how many sessions they have.
    pub health: Arc<Health>,
    /// Names to addresses.
    pub resolver: Box<dyn Resolve>,
    /// How many connections were closed because their peers may not send the PROXY header that is asked for.
    pub strangers: AtomicU64,
    /// The last of those peers.
    pub last_stranger: Mutex<Option<IpAddr>>,
    /// How many connections were closed because their listener had all that it may have.
    pub full_doors: AtomicU64,
    /// All connections.
    pub seats: Arc<Seats>,
    /// What is listened on.
    pub doors: ArcSwap<Vec<Arc<Door>>>,
    /// What is counted.
    pub metrics: Metrics,
    /// What happened while accepting.
    pub accepted: Arc<AcceptStats>,
    /// Who follows dialogues.
    pub tracers: Arc<Tracers>,
    /// What is said of limits that are nearly reached.
    pub warnings: Warnings,
    /// Balancers are told to go elsewhere.
    draining: AtomicBool,
    /// Where the life of the process stands.
    pub phase: watch::Receiver<Phase>,
    remarks: Mutex<HashSet<String>>,
}

impl House {
    /// Puts the house together.
    pub fn new(live: Arc<Live>, journal: Journal, resolver: Box<dyn Resolve>, phase: watch::Receiver<Phase>) -> House {
        let seats = Arc::new(Seats::new(live.meant.limits.connections));
        House {
            live: ArcSwap::from(live),
            journal,
            guard: Arc::new(Guard::default()),
            failures: Failures::default(),
            history: History::default(),
            roll: Roll::default(),
            learnt: Learnt::default(),
            health: Arc::default(),
            resolver,
            strangers: AtomicU64::new(0),
            last_stranger: Mutex::new(None),
            full_doors: AtomicU64::new(0),
            seats,
            doors: ArcSwap::default(),
            metrics: Metrics::default(),
            accepted: Arc::default(),
            tracers: Arc::default(),
            warnings: Warnings::default(),
            draining: AtomicBool::new(false),
            phase,
            remarks: Mutex::new(HashSet::new()),
        }
    }

    /// What calling a backend needs; `again`: whom nobody answers is tried until the deadline.
    pub fn means<'a>(&'a self, live: &'a Live, origin: &'a Origin, witness: Witness<'a>, again: bool) -> Means<'a> {
        let backend = &live.meant.backend;
        Means {
            resolver: &*self.resolver,
            verified: live.verified.as_ref().map_err(String::as_str),
            any_cert: &live.any_cert,
            connect_timeout: backend.connect_timeout,
            ourselves: Ourselves {
                reached: origin.real_reached.0,
                arrived: origin.arrived.0,
                addresses: &backend.self_addresses,
                ports: &live.ports,
            },
            health: &self.health,
            sources: &live.sources,
            again,
            proxy_protocol: backend.proxy_protocol,
            identity_refused: backend.identity_refused,
            server: &live.meant.server.name,
            tell: self,
            witness,
        }
    }

    /// Balancers are told to go elsewhere (`gatepost drain`).
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Has balancers go elsewhere, or come again. True where that is news.
    pub fn drain(&self, on: bool) -> bool {
        self.draining.swap(on, Ordering::Relaxed) != on
    }

    /// A field of a row that has no effect: told to who watches, else once in the life of the process.
    pub fn remark_field(&self, database: &str, field: &str, witness: Witness<'_>) {
        let remark = format!("users \"{database}\": field {field} has no effect");
        if witness.watches() {
            witness.saw(|| Step::new("remark", remark).with("event", "unknown-field").with("field", field));
        } else {
            self.remark("unknown-field", remark);
        }
    }

    /// Says something once in the life of the process.
    pub fn remark(&self, event: &str, text: String) {
        let mut made = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() < REMARKS_MAX && !made.contains(&text) {
            self.journal.say(Level::Warning, event, &text);
            made.insert(text);
        }
    }
}

/// How many connections there may be in all: accept waits while all are taken, so that no descriptor is wanting in the
/// middle of a login.
pub struct Seats {
    all: Ceiling,
    waiting: AtomicUsize,
    refusals: AtomicU64,
    freed: Notify,
}

impl Seats {
    fn new(limit: usize) -> Seats {
        Seats { all: Ceiling::new(Some(limit)), waiting: AtomicUsize::new(0), refusals: AtomicU64::new(0), freed: Notify::new() }
    }

    /// A reload changed the limit.
    pub fn set_limit(&self, limit: usize) {
        self.all.set(Some(limit));
        self.freed.notify_waiters();
    }

    /// How many are taken, and how many there are.
    pub fn all(&self) -> &Ceiling {
        &self.all
    }

    /// All are taken.
    pub fn full(&self) -> bool {
        self.all.is_full()
    }

    /// Waits until one is free.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.full() {
                return;
            }
            self.refusals.fetch_add(1, Ordering::Relaxed);
            freed.await;
        }
    }

    /// Takes one. Accepting sockets race for the last, so a few more than the limit can be taken: at most one per socket.
    pub fn take(self: &Arc<Self>, place: Under) -> Seat {
        let near = self.all.add();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Seat { seats: Arc::clone(self), before_login: true, near, _place: place }
    }

    /// How often an accepting socket found all of them taken.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.all.used()
    }

    /// How many are taken by clients that have not signed in.
    pub fn strangers(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// More than 80 % of all seats are held by strangers: patience is short.
    pub fn stressed(&self) -> bool {
        let limit = self.all.limit().unwrap_or(usize::MAX);
        self.waiting.load(Ordering::Relaxed).saturating_mul(5) > limit.saturating_mul(4)
    }
}

/// A connection's seat, until dropped.
pub struct Seat {
    seats: Arc<Seats>,
    before_login: bool,
    /// With it all seats came near their limit: worth a line.
    pub near: bool,
    /// The place among the connections of its listener.
    _place: Under,
}

impl Seat {
    /// The client has signed in.
    pub fn signed_in(&mut self) {
        if std::mem::take(&mut self.before_login) {
            self.seats.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.signed_in();
        self.seats.all.remove();
        self.seats.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_back_and_stress_looks_at_strangers_only() {
        let seats = Arc::new(Seats::new(10));
        let listener = Arc::new(Ceiling::new(None));
        let take = || seats.take(listener.enter().unwrap());
        let mut all: Vec<Seat> = (0..9).map(|_| take()).collect();
        assert!(!all[6].near && all[7].near && !all[8].near, "80 % are told of once");
        assert!(seats.stressed());
        assert!(!seats.full());
        for seat in &mut all {
            seat.signed_in();
        }
        assert!(!seats.stressed());
        all.push(take());
        assert!(seats.full());
        drop(all);
        assert_eq!((seats.taken(), seats.strangers(), listener.used()), (0, 0, 0));
    }
}
