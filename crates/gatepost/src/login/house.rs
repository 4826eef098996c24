//! What every session finds in place: the live configuration, the tables, the journal.

use super::guard::Guard;
use super::learnt::Learnt;
use super::roll::Roll;
use crate::backend::health::Health;
use crate::backend::source::Sources;
use crate::config::meant::{CleartextAuth, ListenProxy, ListenTls, Meant};
use crate::journal::{Journal, Level};
use crate::protocol::Protocol;
use crate::resolve::Resolve;
use crate::users::chain::Chain;
use arc_swap::ArcSwap;
use relay::tls::acceptor::Acceptor;
use relay::tls::connector::Connector;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};
use wire::origin::trust::TrustedNets;

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
    /// The address as configured.
    pub address: SocketAddr,
}

/// One generation of the configuration, ready for use. A session keeps the one it began with.
pub struct Live {
    /// What the file means.
    pub meant: Meant,
    /// The user databases.
    pub chain: Chain,
    /// `[trust] networks`.
    pub trusted: TrustedNets,
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
}

impl Live {
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
    /// All connections.
    pub seats: Arc<Seats>,
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
            roll: Roll::default(),
            learnt: Learnt::default(),
            health: Arc::default(),
            resolver,
            strangers: AtomicU64::new(0),
            last_stranger: Mutex::new(None),
            seats,
            phase,
            remarks: Mutex::new(HashSet::new()),
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
    taken: AtomicUsize,
    waiting: AtomicUsize,
    limit: AtomicUsize,
    refusals: AtomicU64,
    freed: Notify,
}

impl Seats {
    fn new(limit: usize) -> Seats {
        Seats {
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            refusals: AtomicU64::new(0),
            freed: Notify::new(),
        }
    }

    /// A reload changed the limit.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// All are taken.
    pub fn full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed)
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
    pub fn take(self: &Arc<Self>) -> Seat {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Seat { seats: Arc::clone(self), before_login: true }
    }

    /// How often an accepting socket found all of them taken.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// More than 80 % of all seats are held by strangers: patience is short.
    pub fn stressed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed).saturating_mul(5) > self.limit.load(Ordering::Relaxed).saturating_mul(4)
    }
}

/// A connection's seat, until dropped.
pub struct Seat {
    seats: Arc<Seats>,
    before_login: bool,
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
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
        self.seats.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_back_and_stress_looks_at_strangers_only() {
        let seats = Arc::new(Seats::new(10));
        let mut all: Vec<Seat> = (0..9).map(|_| seats.take()).collect();
        assert!(seats.stressed());
        assert!(!seats.full());
        for seat in &mut all {
            seat.signed_in();
        }
        assert!(!seats.stressed());
        all.push(seats.take());
        assert!(seats.full());
        drop(all);
        assert_eq!((seats.taken(), seats.waiting.load(Ordering::Relaxed)), (0, 0));
    }
}
