//! What all shards know together of each backend host and port.
//!
//! Without this each login would find out for itself, within its own `proxy_timeout`, that a backend is dead, and all that
//! wait would run at it at once when it comes back. So:
//!
//! * at most [`IN_FLIGHT`] logins are between connect and greeting at one address; the others queue, first come, first
//!   served, each inside its own deadline;
//! * an address that has only failed for longer than `proxy_host_immediate_failure_after` refuses at once. About once a
//!   second one login is let through to try it, so that a backend that is back is found within about a second. Where nothing
//!   has failed for a minute nobody has tried, and nobody is refused;
//! * a name with several addresses is tried at those first that work.
//!
//! Failing counts from the first failure after the last success, not from that success: one connect that failed after a
//! quiet night makes no dead backend. A success ends it, whoever had it. A failure of a try that began before the last
//! success proves nothing, and is not heard.
//!
//! The table is bounded and its locks are short; none is held across an await. Dropping an [`Attempt`] or a waiting
//! [`Health::enter`] gives back what it held. This file opens no connection and writes no journal: it returns the
//! [`Transition`]s that deserve a line.

mod report;

pub use report::{Condition, Failing, Look, Report, Tries};

use super::spread::Spread;
use crate::chance;
use crate::route::Route;
use report::Names;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use wire::dance::Secure;

/// How many logins may be between connect and greeting at one address and port.
pub const IN_FLIGHT: usize = 128;
/// The most addresses that are known. The longest unused go first; those with sessions or attempts stay.
const KNOWN_MAX: usize = 4096;
/// What is kept of a failure's text, in characters.
const TEXT_MAX: usize = 200;
/// How often somebody is let through to an address that is down; give or take a quarter.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// For so long after a failure the other addresses of a name are tried first; give or take a quarter.
const AVOIDED: Duration = Duration::from_secs(10);
/// What nobody has found out anew for so long is no longer known: only probes fail while an address is down, one a second.
const FRESH: Duration = Duration::from_secs(60);
/// An address that flaps is told of once in so long.
const CALM: Duration = Duration::from_secs(10);

/// One way to reach a backend. A row that expects TLS where there is none, or calls from an address that cannot reach it, must
/// neither speak for the others nor take their places, so each way counts by itself.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Address and port.
    at: SocketAddr,
    /// TLS comes before the greeting.
    implicit_tls: bool,
    /// The row's own source address.
    source: Option<IpAddr>,
    /// What is spoken there; makes no other place, it is only told.
    protocol: &'static str,
}

impl Place {
    fn way(&self) -> (SocketAddr, bool, Option<IpAddr>) {
        (self.at, self.implicit_tls, self.source)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.way() == other.way()
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.way().hash(state);
    }
}

impl Place {
    /// The way of a route to one of its addresses.
    pub fn new(at: SocketAddr, route: &Route) -> Place {
        Place { at, implicit_tls: route.secure == Secure::Implicit, source: route.source, protocol: route.protocol }
    }
}

/// The table; one per process.
#[derive(Debug, Default)]
pub struct Health {
    table: Mutex<HashMap<Place, Arc<Known>>>,
    /// Which addresses are counted by themselves; its lock is taken inside that of the table.
    names: Mutex<Names>,
}

/// What is known of one address. Whoever tries it or has a session there holds it, so that it is not forgotten.
#[derive(Debug)]
struct Known {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    sessions: AtomicUsize,
    state: Mutex<State>,
    /// What came of tries; shared by all places of an address.
    tries: Arc<Tries>,
}

#[derive(Debug)]
struct State {
    used: Instant,
    last_success: Option<Instant>,
    trouble: Option<Trouble>,
    /// What the last login said of how long it may fail; zero is never to refuse.
    give_up_after: Duration,
    /// When a `Transition::Down` was last told.
    told: Option<Instant>,
    leaving: Spread,
}

/// Failures since the last success.
#[derive(Debug)]
struct Trouble {
    /// The first failure since the last success: what the journal tells.
    first: Instant,
    /// Since when all who tried have found it failing: what condemns it.
    since: Instant,
    last: Instant,
    text: Arc<str>,
    probe_at: Instant,
    avoided_until: Instant,
    told: bool,
    /// The client that all of it was about, where it may have been about one client only.
    whom: Option<IpAddr>,
}

impl Trouble {
    /// It has failed for so long, and somebody has found that out lately.
    fn condemns(&self, now: Instant, give_up_after: Duration) -> bool {
        !give_up_after.is_zero()
            && self.whom.is_none()
            && now.saturating_duration_since(self.since) > give_up_after
            && now.saturating_duration_since(self.last) <= FRESH
    }
}

/// Why no attempt may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The deadline passed in the queue.
    Busy {
        /// How many waited, this one included.
        waiting: usize,
    },
    /// The address is down, and it is not yet time to try it again.
    Down {
        /// Since when all who tried have found it failing.
        since: Instant,
        /// The last success, if there was one.
        last_success: Option<Instant>,
        /// The text of the last failure, 200 characters at most.
        text: Arc<str>,
    },
}

/// What the journal wants one line of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// It worked, or was not known, and has failed.
    Down,
    /// It works again.
    Up {
        /// How long after its first failure.
        after: Duration,
    },
}

impl Health {
    /// Leave to try an address; waits for it until `by`. `give_up_after` is `proxy_host_immediate_failure_after`; zero is
    /// never to refuse for being down.
    ///
    /// # Errors
    /// [`Refused::Busy`] where the deadline passed in the queue, [`Refused::Down`] where the address is known to be down, also
    /// if that became known while this one queued.
    pub async fn enter(&self, at: Place, by: Instant, give_up_after: Duration) -> Result<Attempt, Refused> {
        let known = self.known(at);
        let tries = Arc::clone(&known.tries);
        Health::enter_known(known, by, give_up_after).await.inspect_err(|refused| tries.refused(refused))
    }

    async fn enter_known(known: Arc<Known>, by: Instant, give_up_after: Duration) -> Result<Attempt, Refused> {
        let probes = known.may_try(give_up_after)?;
        let permit = match Arc::clone(&known.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = Waiting::new(&known);
                let Ok(Ok(permit)) = timeout_at(by, Arc::clone(&known.permits).acquire_owned()).await else {
                    return Err(Refused::Busy { waiting: waiting.count() });
                };
                drop(waiting);
                if !probes {
                    // Those in front may have found it dead. Then the queue goes home at once, not 128 at a time.
                    known.may_try(give_up_after)?;
                }
                permit
            }
        };
        Ok(Attempt { known, began: Instant::now(), _permit: permit })
    }

    /// Puts those addresses last that failed within about the last 10 seconds; the order is kept otherwise.
    ///
    /// An address that failed and was left alone since has its old place again for one caller every 10 seconds or so: else
    /// nobody would find out that it is back while the others work.
    pub fn order(&self, addresses: &mut [SocketAddr], place: impl Fn(SocketAddr) -> Place) {
        self.sort(addresses, place, Known::is_avoided);
    }

    /// The order in which [`Health::order`] would put them. Only looks: nobody's turn is taken.
    pub fn foresee_order(&self, addresses: &mut [SocketAddr], place: impl Fn(SocketAddr) -> Place) {
        self.sort(addresses, place, |known, now| lock(&known.state).avoided(now));
    }

    fn sort(&self, addresses: &mut [SocketAddr], place: impl Fn(SocketAddr) -> Place, avoided: impl Fn(&Known, Instant) -> bool) {
        if addresses.len() < 2 {
            return;
        }
        let now = Instant::now();
        addresses.sort_by_cached_key(|at| {
            let known = lock(&self.table).get(&place(*at)).cloned();
            known.is_some_and(|known| avoided(&known, now))
        });
    }

    /// A session that is relayed there: counts until dropped.
    pub fn session(&self, at: Place) -> SessionHere {
        let known = self.known(at);
        known.sessions.fetch_add(1, Ordering::Relaxed);
        SessionHere(known)
    }

    /// The entry of an address. Where the table is full of addresses in use, it is one that nobody else will see: such a login
    /// is neither refused nor counted with others.
    fn known(&self, at: Place) -> Arc<Known> {
        let now = Instant::now();
        let mut table = lock(&self.table);
        if let Some(known) = table.get(&at) {
            lock(&known.state).used = now;
            return Arc::clone(known);
        }
        if table.len() >= KNOWN_MAX {
            make_room(&mut table);
        }
        let known = Arc::new(Known::new(now, lock(&self.names).tries(&mut table, at.at)));
        if table.len() < KNOWN_MAX {
            table.insert(at, Arc::clone(&known));
        }
        known
    }
}

/// Forgets the eighth that was unused longest, so that this is rare.
fn make_room(table: &mut HashMap<Place, Arc<Known>>) {
    // Only the table has it: nobody tries it or is there, and under the table's lock nobody can begin to.
    let idle = table.iter().filter(|(_, known)| Arc::strong_count(known) == 1);
    let mut idle: Vec<(Instant, Place)> = idle.map(|(at, known)| (lock(&known.state).used, *at)).collect();
    idle.sort_unstable_by_key(|(used, _)| *used);
    for (_, at) in idle.iter().take(KNOWN_MAX / 8) {
        table.remove(at);
    }
}

impl Known {
    fn new(now: Instant, tries: Arc<Tries>) -> Known {
        Known {
            permits: Arc::new(Semaphore::new(IN_FLIGHT)),
            waiting: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            state: Mutex::new(State {
                used: now,
                last_success: None,
                trouble: None,
                give_up_after: Duration::ZERO,
                told: None,
                leaving: Spread::default(),
            }),
            tries,
        }
    }

    /// Whether it may be tried, and then whether as the probe of this second.
    fn may_try(&self, give_up_after: Duration) -> Result<bool, Refused> {
        let now = Instant::now();
        let state = &mut *lock(&self.state);
        state.give_up_after = give_up_after;
        let probes = state.verdict(now, give_up_after)?;
        if let Some(trouble) = state.trouble.as_mut().filter(|_| probes) {
            trouble.probe_at = now + chance::around(PROBE_EVERY);
        }
        Ok(probes)
    }

    fn is_avoided(&self, now: Instant) -> bool {
        let state = &mut *lock(&self.state);
        let avoided = state.avoided(now);
        if let Some(trouble) = state.trouble.as_mut().filter(|_| !avoided) {
            trouble.avoided_until = now + chance::around(AVOIDED);
        }
        avoided
    }
}

impl State {
    /// Whether it may be tried, and then whether as the probe of this second. Only looks.
    fn verdict(&self, now: Instant, give_up_after: Duration) -> Result<bool, Refused> {
        let Some(trouble) = &self.trouble else { return Ok(false) };
        if !trouble.condemns(now, give_up_after) {
            return Ok(false);
        }
        if now < trouble.probe_at {
            let text = Arc::clone(&trouble.text);
            return Err(Refused::Down { since: trouble.since, last_success: self.last_success, text });
        }
        Ok(true)
    }

    /// The other addresses of its name are tried first. Only looks.
    fn avoided(&self, now: Instant) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| now < trouble.avoided_until)
    }
}

/// Leave to try an address, with one of its [`IN_FLIGHT`] permits. Dropped without a verdict it says nothing of the address:
/// so ends a try whose client went away, or one that our own deadline cut short.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    known: Arc<Known>,
    began: Instant,
    /// Given back with the attempt.
    _permit: OwnedSemaphorePermit,
}

impl Attempt {
    /// The address works. What the backend thinks of the user does not matter here.
    pub fn connected(self) -> Option<Transition> {
        let now = Instant::now();
        self.known.tries.connected(now.saturating_duration_since(self.began));
        let mut state = lock(&self.known.state);
        state.last_success = Some(now);
        let trouble = state.trouble.take().filter(|trouble| trouble.told)?;
        Some(Transition::Up { after: now.saturating_duration_since(trouble.first) })
    }

    /// The address does not work: connect refused, no answer within `connect_timeout`, closed before the greeting and the
    /// like. `text` is kept for those who are refused because of it.
    ///
    /// An address that flaps is told of once in 10 seconds, and a trouble that nobody was told of ends without a word.
    /// `whom` is the client where the backend knew whose connection it was (a PROXY header): one client alone, whom it may have
    /// banned, takes nobody's backend away.
    pub fn failed(self, text: &str, whom: Option<IpAddr>) -> Option<Transition> {
        let now = Instant::now();
        self.known.tries.failed();
        let text: Arc<str> = text.chars().take(TEXT_MAX).collect::<String>().into();
        let avoided_until = now + chance::around(AVOIDED);
        let state = &mut *lock(&self.known.state);
        if state.last_success.is_some_and(|success| self.began < success) {
            return None;
        }
        let new = Trouble {
            first: now,
            since: now,
            last: now,
            text: Arc::clone(&text),
            probe_at: now,
            avoided_until,
            told: false,
            whom,
        };
        let trouble = state.trouble.get_or_insert(new);
        // What nobody has found out anew for so long may have been another trouble.
        if now.saturating_duration_since(trouble.last) > FRESH {
            (trouble.since, trouble.whom) = (now, whom);
        }
        trouble.last = now;
        if trouble.whom.is_some() && trouble.whom != whom {
            // Only from here on it is not about one client.
            (trouble.since, trouble.whom) = (now, None);
        }
        trouble.text = text;
        trouble.avoided_until = avoided_until;
        let calm = state.told.is_none_or(|told| now.saturating_duration_since(told) >= CALM);
        if trouble.told || !calm {
            return None;
        }
        trouble.told = true;
        state.told = Some(now);
        Some(Transition::Down)
    }
}

/// A session that is relayed at a backend, until dropped.
#[derive(Debug)]
pub struct SessionHere(Arc<Known>);

impl SessionHere {
    /// How many sessions the backend has, this one included.
    pub fn count(&self) -> usize {
        self.0.sessions.load(Ordering::Relaxed)
    }

    /// The backend ended this session: how long to wait before its client is let go (`disconnect_spread`; zero is at once).
    /// Each call takes a turn, so a session asks once. See [`super::spread`].
    pub fn delay(&self, spread: Duration, now: Instant) -> Duration {
        let sessions = self.count();
        lock(&self.0.state).leaving.delay(sessions, spread, now)
    }
}

impl Drop for SessionHere {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
        lock(&self.0.state).used = Instant::now();
    }
}

/// Counts among those that queue, until dropped.
struct Waiting<'a>(&'a Known);

impl Waiting<'_> {
    fn new(known: &Known) -> Waiting<'_> {
        known.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(known)
    }

    fn count(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Busy { waiting } => write!(f, "{IN_FLIGHT} connects in flight, {waiting} waiting"),
            Refused::Down { since, last_success, text } => {
                write!(f, "down for {} s", since.elapsed().as_secs())?;
                match last_success {
                    Some(success) => write!(f, " (last success {} s ago): {text}", success.elapsed().as_secs()),
                    None => write!(f, " (no success yet): {text}"),
                }
            }
        }
    }
}

/// A panic in one session must not lock out the others: the entries are sound after any of their few operations.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
