//! What others see of the table, who only look: each place with its state, and what came of the tries at its address.
//!
//! At most [`NAMED`] addresses are counted by themselves, first come, first served; all others are counted together, so that
//! figures stay few however many backends rows name. An address that nobody has used for a day makes room.

use super::{Health, IN_FLIGHT, Known, Place, Refused, lock};
use crate::metrics::counts::{Counter, Histogram};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// The most addresses that are counted by themselves.
pub const NAMED: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);
/// How often all are looked at for those.
const SWEEP: Duration = Duration::from_secs(3600);
/// Bounds for connects, up to the greeting, in microseconds.
const CONNECT: &[u64] = &[1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

/// What came of tries since the start.
#[derive(Debug)]
pub struct Tries {
    /// That did not get to a greeting, and were the backend's fault.
    pub failed: Counter,
    /// Not made, because it was known to be down.
    pub down: Counter,
    /// Not made, because there was no turn in time.
    pub busy: Counter,
    /// That got to a greeting, and how long that took.
    pub took: Histogram,
}

impl Default for Tries {
    fn default() -> Self {
        Tries { failed: Counter::default(), down: Counter::default(), busy: Counter::default(), took: Histogram::new(CONNECT) }
    }
}

impl Tries {
    pub(super) fn connected(&self, took: Duration) {
        self.took.record(took);
    }

    pub(super) fn failed(&self) {
        self.failed.one();
    }

    pub(super) fn refused(&self, refused: &Refused) {
        match refused {
            Refused::Busy { .. } => self.busy.one(),
            Refused::Down { .. } => self.down.one(),
        }
    }
}

/// Which addresses are counted by themselves.
#[derive(Debug, Default)]
pub(super) struct Names {
    own: HashMap<SocketAddr, Weak<Tries>>,
    others: Arc<Tries>,
    /// When long unused ones were last made to go.
    swept: Option<Instant>,
}

impl Names {
    /// The tries at an address that is new in the table.
    pub(super) fn tries(&mut self, table: &mut HashMap<Place, Arc<Known>>, at: SocketAddr) -> Arc<Tries> {
        if let Some(tries) = self.own.get(&at).and_then(Weak::upgrade) {
            return tries;
        }
        if self.own.len() >= NAMED {
            let now = Instant::now();
            if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) > SWEEP) {
                self.swept = Some(now);
                table.retain(|_, known| self.is_other(known) || !is_stale(known, now));
            }
            self.own.retain(|_, tries| tries.strong_count() > 0);
        }
        if self.own.len() >= NAMED {
            return Arc::clone(&self.others);
        }
        let tries = Arc::default();
        self.own.insert(at, Arc::downgrade(&tries));
        tries
    }

    fn is_other(&self, known: &Known) -> bool {
        Arc::ptr_eq(&known.tries, &self.others)
    }
}

/// Nobody has used it for a day, and nobody is about to.
fn is_stale(known: &Arc<Known>, now: Instant) -> bool {
    Arc::strong_count(known) == 1 && now.saturating_duration_since(lock(&known.state).used) > DAY
}

/// What is known of one address, as [`Health::look`] saw it.
#[derive(Debug, Clone)]
pub struct Look {
    /// What a login would be told now; `true` where it would be the one that is let through to try a dead address.
    pub verdict: Result<bool, Refused>,
    /// Its trouble, where it has some.
    pub failing: Option<Failing>,
    /// How long ago it last worked.
    pub last_success: Option<Duration>,
    /// Sessions that are relayed there.
    pub sessions: usize,
    /// Logins between connect and greeting.
    pub connecting: usize,
    /// Logins that wait for a turn.
    pub waiting: usize,
}

/// Failures since the last success, by how long ago they were.
#[derive(Debug, Clone)]
pub struct Failing {
    /// The first one.
    pub first: Duration,
    /// The last one.
    pub last: Duration,
    /// The text of the last one.
    pub text: Arc<str>,
    /// The one client that all of it was about, where it may have been about one client only.
    pub whom: Option<IpAddr>,
}

/// In what condition a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The last that tried it was greeted, or nobody has tried.
    Up,
    /// The last that tried it failed.
    Suspect,
    /// It has failed for so long that it is not tried, but once a second.
    Down,
}

impl Condition {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Suspect => "suspect",
            Condition::Down => "down",
        }
    }

    /// All of them.
    pub const ALL: [Condition; 3] = [Condition::Up, Condition::Suspect, Condition::Down];
}

/// What is known of one place.
#[derive(Debug, Clone)]
pub struct Report {
    /// Address and port.
    pub at: SocketAddr,
    /// What is spoken there.
    pub protocol: &'static str,
    /// TLS comes before the greeting.
    pub implicit_tls: bool,
    /// The row's own source address.
    pub source: Option<IpAddr>,
    /// In what condition it is.
    pub condition: Condition,
    /// How long ago it began to fail, where it does.
    pub failing_for: Option<Duration>,
    /// How long ago the last failure was, where it does.
    pub last_failure: Option<Duration>,
    /// What the last failure was, as the journal has it, cut at 200 characters.
    pub failure: Option<Arc<str>>,
    /// How long ago somebody was greeted.
    pub last_success: Option<Duration>,
    /// Sessions that are relayed there.
    pub sessions: usize,
    /// Logins between connect and greeting.
    pub connecting: usize,
    /// Logins that wait for a turn.
    pub waiting: usize,
    /// Its address is counted by itself.
    pub named: bool,
    /// What came of tries at its address, or at all that are not counted by themselves.
    pub tries: Arc<Tries>,
}

impl Health {
    /// What is known of an address, and what [`Health::enter`] would say now to a login with this `give_up_after`. Only looks:
    /// no probe is taken, and an address that nobody knows stays unknown.
    pub fn look(&self, at: Place, give_up_after: Duration) -> Look {
        let Some(known) = lock(&self.table).get(&at).cloned() else {
            return Look { verdict: Ok(false), failing: None, last_success: None, sessions: 0, connecting: 0, waiting: 0 };
        };
        let now = Instant::now();
        let state = lock(&known.state);
        Look {
            verdict: state.verdict(now, give_up_after),
            failing: state.trouble.as_ref().map(|trouble| Failing {
                first: now.saturating_duration_since(trouble.first),
                last: now.saturating_duration_since(trouble.last),
                text: Arc::clone(&trouble.text),
                whom: trouble.whom,
            }),
            last_success: state.last_success.map(|success| now.saturating_duration_since(success)),
            sessions: known.sessions.load(Ordering::Relaxed),
            connecting: IN_FLIGHT.saturating_sub(known.permits.available_permits()),
            waiting: known.waiting.load(Ordering::Relaxed),
        }
    }

    /// All places, by address.
    pub fn report(&self) -> Vec<Report> {
        let now = Instant::now();
        let others = self.others();
        let mut all: Vec<Report> = lock(&self.table).iter().map(|(place, known)| one(*place, known, now, &others)).collect();
        all.sort_unstable_by_key(|report| (report.at, report.implicit_tls, report.source));
        all
    }

    /// What came of tries at addresses that are not counted by themselves.
    pub fn others(&self) -> Arc<Tries> {
        Arc::clone(&lock(&self.names).others)
    }
}

fn one(place: Place, known: &Known, now: Instant, others: &Arc<Tries>) -> Report {
    let state = lock(&known.state);
    let trouble = state.trouble.as_ref();
    let condition = match trouble {
        None => Condition::Up,
        Some(trouble) if trouble.condemns(now, state.give_up_after) => Condition::Down,
        Some(_) => Condition::Suspect,
    };
    Report {
        at: place.at,
        protocol: place.protocol,
        implicit_tls: place.implicit_tls,
        source: place.source,
        condition,
        failing_for: trouble.map(|trouble| now.saturating_duration_since(trouble.first)),
        last_failure: trouble.map(|trouble| now.saturating_duration_since(trouble.last)),
        failure: trouble.map(|trouble| Arc::clone(&trouble.text)),
        last_success: state.last_success.map(|success| now.saturating_duration_since(success)),
        sessions: known.sessions.load(Ordering::Relaxed),
        connecting: IN_FLIGHT.saturating_sub(known.permits.available_permits()),
        waiting: known.waiting.load(Ordering::Relaxed),
        named: !Arc::ptr_eq(&known.tries, others),
        tries: Arc::clone(&known.tries),
    }
}

#[cfg(test)]
mod tests {
    use super::super::FRESH;
    use super::*;

    fn place(n: u32) -> Place {
        Place { at: SocketAddr::new(IpAddr::V4(n.into()), 143), implicit_tls: false, source: None, protocol: "imap" }
    }

    async fn fail(health: &Health, n: u32) {
        let attempt = health.enter(place(n), Instant::now() + FRESH, Duration::from_secs(10)).await.unwrap();
        attempt.failed("refused", None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_up_then_suspect_then_down_then_up() {
        let health = Health::default();
        let condition = |health: &Health| health.report()[0].condition;
        let _session = health.session(place(1));
        assert_eq!(condition(&health), Condition::Up);
        fail(&health, 1).await;
        assert_eq!(condition(&health), Condition::Suspect);
        tokio::time::advance(Duration::from_secs(11)).await;
        fail(&health, 1).await;
        let report = health.report().remove(0);
        assert_eq!((report.condition, report.failure.as_deref(), report.sessions), (Condition::Down, Some("refused"), 1));
        assert_eq!(report.failing_for.map(|long| long.as_secs()), Some(11));
        assert!(health.enter(place(1), Instant::now(), Duration::from_secs(10)).await.is_err());
        assert_eq!((report.tries.failed.get(), report.tries.down.get()), (2, 1));
        tokio::time::advance(Duration::from_secs(2)).await;
        let attempt = health.enter(place(1), Instant::now() + FRESH, Duration::from_secs(10)).await.unwrap();
        assert_eq!(health.report()[0].connecting, 1);
        attempt.connected();
        let report = health.report().remove(0);
        assert_eq!((report.condition, report.failing_for, report.connecting), (Condition::Up, None, 0));
        assert_eq!(report.tries.took.cumulative().last().unwrap().1, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn few_addresses_have_figures_of_their_own() {
        let health = Health::default();
        let last = u32::try_from(NAMED).unwrap() + 9;
        for n in 0..=last {
            fail(&health, n).await;
        }
        let other = Place { implicit_tls: true, ..place(3) };
        let _session = health.session(other);
        assert_eq!(health.report().iter().filter(|report| report.named).count(), NAMED + 1, "one address has two places");
        assert_eq!(health.others().failed.get(), 10);
        // Whoever was not used for a day makes room, and whoever is in use does not.
        tokio::time::advance(DAY + FRESH).await;
        fail(&health, last + 1).await;
        let named: Vec<u32> = health
            .report()
            .iter()
            .filter_map(|report| match report.at.ip() {
                IpAddr::V4(ip) if report.named => Some(ip.into()),
                _ => None,
            })
            .collect();
        assert_eq!(named, [3, last + 1], "its place in clear was idle, that with TLS has a session");
        assert_eq!(health.others().failed.get(), 10);
    }
}
