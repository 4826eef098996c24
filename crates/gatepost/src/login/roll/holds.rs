//! Whose logins wait for a while: what `kick --hold` asks for.
//!
//! Between the end of a user's sessions and whatever an operator does next (the last copy, the row that leads elsewhere) nobody
//! must come in. A held login waits with its connection open, as with `delay_until`, and the databases are asked again
//! after it. The table is small and bounded, and costs a login nothing while it is empty.

use super::filter::{Backends, Mask};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// The most holds at a time.
pub const HOLDS_MAX: usize = 1024;
/// The longest: clients give up, and a login is never kept for longer.
pub const HOLD_MAX: Duration = Duration::from_secs(300);

/// Whose logins: all that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The user is one of these.
    pub user: Vec<Mask>,
    /// The name that the backend would be given.
    pub destuser: Option<Mask>,
    /// The client's address.
    pub client: Vec<IpNet>,
    /// The backend is one of these, as far as the row says.
    pub backend: Vec<Backends>,
    /// The protocol's name.
    pub protocol: Option<Box<str>>,
}

/// A login that would go on now.
pub struct Coming<'a> {
    /// The user as the databases know it.
    pub user: &'a str,
    /// The name that the backend would be given.
    pub destuser: &'a str,
    /// The row's host.
    pub host: &'a str,
    /// The client.
    pub client: IpAddr,
    /// The protocol's name.
    pub protocol: &'a str,
}

impl Held {
    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Held::default()
    }

    fn has(&self, login: &Coming<'_>) -> bool {
        (self.user.is_empty() || self.user.iter().any(|mask| mask.matches(login.user)))
            && self.destuser.as_ref().is_none_or(|mask| mask.matches(login.destuser))
            && (self.client.is_empty() || self.client.iter().any(|net| net.contains(&login.client)))
            && (self.backend.is_empty() || self.backend.iter().any(|backend| backend.has(None, login.host)))
            && self.protocol.as_deref().is_none_or(|protocol| protocol == login.protocol)
    }
}

/// The table.
#[derive(Default)]
pub struct Holds {
    any: AtomicBool,
    changed: Notify,
    list: Mutex<Vec<(Held, Instant)>>,
}

impl Holds {
    /// Holds these logins from now on, [`HOLD_MAX`] at most. The same again replaces the old term; zero ends it.
    ///
    /// # Errors
    /// There are 1024 already.
    pub fn add(&self, held: Held, term: Duration) -> Result<(), String> {
        let now = Instant::now();
        let mut list = self.lock();
        list.retain(|(have, until)| *until > now && *have != held);
        if list.len() >= HOLDS_MAX {
            return Err(format!("there are {HOLDS_MAX} holds already; wait until some are over"));
        }
        if !term.is_zero() {
            list.push((held, now + term.min(HOLD_MAX)));
        }
        self.any.store(!list.is_empty(), Ordering::Release);
        drop(list);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Ready when a hold was added or ended after this was called, though it is awaited later.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// For how long this login has to wait still.
    pub fn wait(&self, login: &Coming<'_>) -> Option<Duration> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let now = Instant::now();
        let mut list = self.lock();
        list.retain(|(_, until)| *until > now);
        self.any.store(!list.is_empty(), Ordering::Release);
        let until = list.iter().filter(|(held, _)| held.has(login)).map(|(_, until)| *until).max()?;
        Some(until.saturating_duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Held, Instant)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming<'a>(user: &'a str, host: &'a str) -> Coming<'a> {
        Coming { user, destuser: user, host, client: IpAddr::from([192, 0, 2, 7]), protocol: "imap" }
    }

    fn of(user: &str) -> Held {
        Held { user: vec![user.parse().unwrap()], ..Held::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_over_when_its_time_is() {
        let holds = Holds::default();
        assert_eq!(holds.wait(&coming("a", "h")), None);
        holds.add(of("a*"), Duration::from_secs(60)).unwrap();
        assert_eq!(holds.wait(&coming("alice", "h")), Some(Duration::from_secs(60)));
        assert_eq!(holds.wait(&coming("bob", "h")), None);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(holds.wait(&coming("alice", "h")), Some(Duration::from_secs(1)));
        holds.add(of("a*"), Duration::from_secs(10)).unwrap();
        assert_eq!(holds.wait(&coming("alice", "h")), Some(Duration::from_secs(10)), "the same again begins anew");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(holds.wait(&coming("alice", "h")), None);
        holds.add(of("a"), Duration::from_secs(9999)).unwrap();
        assert_eq!(holds.wait(&coming("a", "h")), Some(HOLD_MAX));
        holds.add(of("a"), Duration::ZERO).unwrap();
        assert_eq!(holds.wait(&coming("a", "h")), None, "zero ends it");
    }

    #[tokio::test]
    async fn by_backend_and_bounded() {
        let holds = Holds::default();
        let held = Held { backend: vec!["mail1".parse().unwrap()], ..Held::default() };
        holds.add(held, Duration::from_secs(60)).unwrap();
        assert!(holds.wait(&coming("a", "mail1")).is_some());
        assert!(holds.wait(&coming("a", "mail2")).is_none());
        for n in 1..HOLDS_MAX {
            holds.add(of(&n.to_string()), Duration::from_secs(60)).unwrap();
        }
        assert!(holds.add(of("x"), Duration::from_secs(60)).is_err());
    }
}
