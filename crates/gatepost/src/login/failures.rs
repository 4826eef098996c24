//! Whose logins failed most in the last hour: for a person who looks, not for a decision.
//!
//! The table is bounded whatever a flood of names does: 1024 names of 255 octets. When it is full, the names with the fewest
//! failures make room, among equals those that have been quiet longest, an eighth at a time so that it is rare. So a flood
//! of names that come once pushes out others of its kind, and not a name that fails again and again.
//!
//! Failures are counted in six parts of ten minutes; what is told is the sum of the current part and the five before it.

use crate::failure::Failure;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most names.
pub const NAMES_MAX: usize = 1024;
/// The time that is looked back on.
pub const WINDOW: Duration = Duration::from_secs(3600);
/// The longest name, octets: no front hands on a longer one.
const NAME_MAX: usize = 255;
const PARTS: usize = 6;

/// The table.
pub struct Failures(Mutex<Table>);

struct Table {
    began: Instant,
    all: Parts,
    names: HashMap<Box<str>, Failing>,
}

struct Failing {
    parts: Parts,
    last: Instant,
    reason: &'static str,
    protocol: &'static str,
    client: IpAddr,
}

/// What is known of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The name as the client gave it.
    pub user: Box<str>,
    /// How many logins failed.
    pub failures: u64,
    /// The journal's word for the last one's reason.
    pub reason: &'static str,
    /// The protocol of the last one.
    pub protocol: &'static str,
    /// The client of the last one.
    pub client: IpAddr,
    /// How long ago the last one was.
    pub ago: Duration,
}

/// What is known of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many logins failed, also of names that are not kept.
    pub failures: u64,
    /// How many names are kept.
    pub names: usize,
    /// Those with the most failures, most first.
    pub top: Vec<Told>,
}

impl Default for Failures {
    fn default() -> Failures {
        Failures(Mutex::new(Table { began: Instant::now(), all: Parts::default(), names: HashMap::new() }))
    }
}

impl Failures {
    /// A login of this name was refused.
    pub fn note(&self, user: &str, failure: &Failure, protocol: &'static str, client: IpAddr) {
        self.lock().note(user, failure.kind.word(), protocol, client, Instant::now());
    }

    /// All, and so many of the names that failed most.
    pub fn summary(&self, most: usize) -> Summary {
        self.lock().summary(most, Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn note(&mut self, user: &str, reason: &'static str, protocol: &'static str, client: IpAddr, now: Instant) {
        let part = self.part(now);
        self.all.add(part);
        let user = user.get(..user.floor_char_boundary(NAME_MAX)).unwrap_or_default();
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(user) {
            self.make_room(part);
        }
        let fresh = || Failing { parts: Parts::default(), last: now, reason, protocol, client };
        let failing = match self.names.get_mut(user) {
            Some(failing) => failing,
            None => self.names.entry(user.into()).or_insert_with(fresh),
        };
        failing.parts.add(part);
        (failing.last, failing.reason, failing.protocol, failing.client) = (now, reason, protocol, client);
    }

    fn summary(&self, most: usize, now: Instant) -> Summary {
        let part = self.part(now);
        let told = |(user, failing): (&_, &Failing)| Told {
            user: Box::clone(user),
            failures: failing.parts.sum(part),
            reason: failing.reason,
            protocol: failing.protocol,
            client: failing.client,
            ago: now.saturating_duration_since(failing.last),
        };
        let mut top: Vec<Told> = self.names.iter().map(told).filter(|told| told.failures > 0).collect();
        top.sort_unstable_by(|a, b| b.failures.cmp(&a.failures).then(a.ago.cmp(&b.ago)).then(a.user.cmp(&b.user)));
        let names = top.len();
        top.truncate(most);
        Summary { failures: self.all.sum(part), names, top }
    }

    fn part(&self, now: Instant) -> u64 {
        let length = WINDOW / u32::try_from(PARTS).unwrap_or(1);
        now.saturating_duration_since(self.began).as_secs() / length.as_secs()
    }

    fn make_room(&mut self, part: u64) {
        let mut ranks: Vec<(u64, Instant)> = self.names.values().map(|failing| (failing.parts.sum(part), failing.last)).collect();
        let (_, last, _) = ranks.select_nth_unstable(NAMES_MAX / 8);
        let last = *last;
        self.names.retain(|_, failing| (failing.parts.sum(part), failing.last) > last);
    }
}

/// A count for each of the last parts of the hour.
#[derive(Default)]
struct Parts {
    newest: u64,
    counts: [u32; PARTS],
}

impl Parts {
    fn add(&mut self, part: u64) {
        for gone in (self.newest + 1..=part).rev().take(PARTS) {
            if let Some(count) = self.counts.get_mut(index(gone)) {
                *count = 0;
            }
        }
        self.newest = self.newest.max(part);
        if let Some(count) = self.counts.get_mut(index(part)) {
            *count = count.saturating_add(1);
        }
    }

    fn sum(&self, part: u64) -> u64 {
        let parts = u64::try_from(PARTS).unwrap_or(1);
        // What was counted last may be long ago: only the parts that are in the window still count.
        let first = (part + 1).saturating_sub(parts).max((self.newest + 1).saturating_sub(parts));
        (first..=self.newest.min(part)).map(|one| self.counts.get(index(one)).copied().map_or(0, u64::from)).sum()
    }
}

fn index(part: u64) -> usize {
    usize::try_from(part % u64::try_from(PARTS).unwrap_or(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn table() -> (Table, Instant) {
        let began = Instant::now();
        (Table { began, all: Parts::default(), names: HashMap::new() }, began)
    }

    #[test]
    fn who_fails_most_comes_first_and_is_forgotten_after_an_hour() {
        let (mut table, began) = table();
        let at = |minutes: u64| began + Duration::from_secs(60 * minutes);
        for minute in [0, 5, 15, 59] {
            table.note("often", "credentials", "imap", HERE, at(minute));
        }
        table.note("once", "lookup", "pop3", HERE, at(20));
        let counts = |table: &Table, minutes| -> Vec<(String, u64)> {
            table.summary(9, at(minutes)).top.into_iter().map(|told| (told.user.into(), told.failures)).collect()
        };
        assert_eq!(counts(&table, 59), [("often".into(), 4), ("once".into(), 1)]);
        assert_eq!(counts(&table, 60), [("often".into(), 2), ("once".into(), 1)], "the first ten minutes are over");
        assert_eq!(counts(&table, 79), [("often".into(), 1), ("once".into(), 1)]);
        assert_eq!(counts(&table, 85), [("often".into(), 1)]);
        assert_eq!(counts(&table, 120), []);
        let told = table.summary(1, at(59)).top.remove(0);
        assert_eq!((told.reason, told.protocol, told.ago), ("credentials", "imap", Duration::ZERO));
        assert_eq!((table.summary(0, at(59)).failures, table.summary(0, at(59)).names), (5, 2));
        // After a long silence nothing of the old parts comes back.
        table.note("often", "credentials", "imap", HERE, at(6000));
        assert_eq!(counts(&table, 6000), [("often".into(), 1)]);
        assert_eq!(table.summary(0, at(6000)).failures, 1);
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_drowns_nobody_who_fails_again() {
        let (mut table, began) = table();
        let mut now = began;
        for n in 0..50_000_u32 {
            now += Duration::from_millis(1);
            if n % 500 == 0 {
                table.note("victim", "credentials", "imap", HERE, now);
            }
            table.note(&format!("{n}-{}", "x".repeat(600)), "credentials", "imap", HERE, now);
            assert!(table.names.len() <= NAMES_MAX);
        }
        let summary = table.summary(3, now);
        assert_eq!((&*summary.top[0].user, summary.top[0].failures), ("victim", 100));
        assert_eq!(summary.failures, 50_100);
        assert!(table.names.keys().all(|name| name.len() <= NAME_MAX));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let (mut table, began) = table();
        table.note(&"ü".repeat(300), "credentials", "imap", HERE, began);
        assert_eq!(table.names.keys().next().unwrap().chars().count(), 127);
    }
}
