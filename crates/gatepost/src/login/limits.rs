//! The limits on how many there may be at one time: what an operator hears of one that is nearly reached, and where each stands.
//!
//! A warning comes when 80 % are used, and again only after less than 60 % were: whoever hovers about the mark makes one line.
//! Many addresses together make at most 20 a minute of each limit; the others are counted, and told in sum.

use super::house::House;
use crate::journal::{Journal, Level};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many warnings of one limit are written in one [`WINDOW`].
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// So many are near the limit: 80 %. A limit of one is either free or reached.
pub fn is_near(used: usize, limit: usize) -> bool {
    limit > 1 && used.saturating_mul(5) >= limit.saturating_mul(4)
}

/// So few that coming near the limit would be news again: less than 60 %.
pub fn is_calm(used: usize, limit: usize) -> bool {
    used.saturating_mul(5) < limit.saturating_mul(3)
}

/// A limit on how many there may be at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// All connections.
    All,
    /// Connections of one listener.
    Listener,
    /// Connections of an address that have not signed in.
    BeforeLogin,
    /// Sessions of a user from an address.
    User,
    /// Questions to one database.
    Lookups,
}

impl Limit {
    /// Its key in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Limit::All => "limits.connections",
            Limit::Listener => "listen.connections",
            Limit::BeforeLogin => "limits.connections_before_login",
            Limit::User => "limits.user_connections",
            Limit::Lookups => "limits.lookups",
        }
    }
}

/// Says which limits are nearly reached.
#[derive(Debug, Default)]
pub struct Warnings {
    /// When the window began, and how many lines were written in it; of each limit.
    windows: Mutex<[Option<(Instant, u32)>; 5]>,
    left_out: AtomicU64,
}

impl Warnings {
    /// A limit has come near: one line, unless there were many just now.
    pub fn near(&self, journal: &Journal, limit: Limit, text: &dyn Display) {
        if self.may(limit, Instant::now()) {
            journal.say(Level::Warning, "limit-near", &format_args!("{text} ({})", limit.key()));
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many warnings were only counted.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    fn may(&self, limit: Limit, now: Instant) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = windows.get_mut(limit as usize) else { return false };
        match window {
            Some((began, lines)) if now.saturating_duration_since(*began) < WINDOW => {
                *lines += 1;
                *lines <= LINES
            }
            _ => {
                *window = Some((now, 1));
                true
            }
        }
    }
}

/// So many at one time and no more.
#[derive(Debug)]
pub struct Ceiling {
    used: AtomicUsize,
    /// `usize::MAX` is none.
    limit: AtomicUsize,
    warned: AtomicBool,
}

impl Ceiling {
    /// With nothing under it.
    pub fn new(limit: Option<usize>) -> Ceiling {
        Ceiling {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit.unwrap_or(usize::MAX)),
            warned: AtomicBool::new(false),
        }
    }

    /// A reload changed the limit.
    pub fn set(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn limit(&self) -> Option<usize> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit < usize::MAX)
    }

    /// No more may come.
    pub fn is_full(&self) -> bool {
        self.used() >= self.limit.load(Ordering::Relaxed)
    }

    /// One more, full or not. True: it has just come near the limit, which is worth a line.
    pub fn add(&self) -> bool {
        let used = self.used.fetch_add(1, Ordering::Relaxed) + 1;
        is_near(used, self.limit.load(Ordering::Relaxed)) && !self.warned.swap(true, Ordering::Relaxed)
    }

    /// One less.
    pub fn remove(&self) {
        let left = self.used.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        if self.warned.load(Ordering::Relaxed) && is_calm(left, self.limit.load(Ordering::Relaxed)) {
            self.warned.store(false, Ordering::Relaxed);
        }
    }

    /// One more, unless it is full. Two that come at one time may both be refused the last place.
    pub fn enter(self: &Arc<Self>) -> Option<Under> {
        if self.is_full() {
            return None;
        }
        let near = self.add();
        let under = Under { ceiling: Arc::clone(self), near };
        (self.used() <= self.limit.load(Ordering::Relaxed)).then_some(under)
    }
}

/// A connection that counts under a ceiling, until dropped.
#[derive(Debug)]
pub struct Under {
    ceiling: Arc<Ceiling>,
    /// With it the ceiling came near: worth a line.
    pub near: bool,
}

impl Drop for Under {
    fn drop(&mut self) {
        self.ceiling.remove();
    }
}

/// How much of a limit is used: of many users, addresses, listeners or databases the fullest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Which.
    pub limit: Limit,
    /// Who is fullest, where there are several: for a person, never for a label.
    pub whose: Option<String>,
    /// How many there are.
    pub used: usize,
    /// How many there may be.
    pub most: usize,
}

impl Usage {
    /// Rounded down; more than 100 where a limit was lowered.
    pub fn percent(&self) -> usize {
        self.used.saturating_mul(100).checked_div(self.most).unwrap_or(0)
    }
}

/// How much of each limit is used. Walks through the tables to find who is fullest.
pub fn usages(house: &House) -> Vec<Usage> {
    let named = |usage: Usage| {
        let whose = match usage.limit {
            Limit::BeforeLogin => house.guard.fullest_before_login().map(|net| net.to_string()),
            Limit::User => house.guard.fullest_user().map(|(user, net)| format!("{user} from {net}")),
            Limit::All | Limit::Listener | Limit::Lookups => usage.whose,
        };
        Usage { whose, ..usage }
    };
    figures(house).into_iter().map(named).collect()
}

/// The same without who is fullest among users and addresses: takes no time worth speaking of.
pub fn figures(house: &House) -> Vec<Usage> {
    let live = house.live.load();
    let limits = &live.meant.limits;
    let one = |limit, used, most| Usage { limit, whose: None, used, most };
    let mut all = vec![one(Limit::All, house.seats.taken(), limits.connections)];
    let doors = house.doors.load();
    let limited = doors.iter().filter_map(|door| Some((door, door.places.used(), door.places.limit()?)));
    if let Some((door, used, most)) = limited.max_by(|(_, a, of_a), (_, b, of_b)| (a * of_b).cmp(&(b * of_a))) {
        all.push(Usage { whose: Some(door.name()), ..one(Limit::Listener, used, most) });
    }
    all.push(one(Limit::BeforeLogin, house.guard.most_before_login(), limits.connections_before_login));
    all.push(one(Limit::User, house.guard.most_of_a_user(), limits.user_connections));
    if let Some((database, used, most)) = live.chain.busiest() {
        all.push(Usage { whose: Some(database.to_owned()), ..one(Limit::Lookups, used, most) });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_tells_of_a_crossing_once_until_it_was_calm() {
        let ceiling = Arc::new(Ceiling::new(Some(10)));
        let mut on: Vec<Under> = (0..7).map(|_| ceiling.enter().unwrap()).collect();
        assert!(on.iter().all(|under| !under.near));
        on.push(ceiling.enter().unwrap());
        assert!(on[7].near);
        on.extend((0..2).map(|_| ceiling.enter().unwrap()));
        assert!(!on[8].near && !on[9].near);
        assert!(ceiling.enter().is_none() && ceiling.enter().is_none());
        assert_eq!(ceiling.used(), 10);
        on.truncate(6);
        on.extend((0..2).map(|_| ceiling.enter().unwrap()));
        assert!(!on[7].near, "60 % is not calm");
        on.truncate(5);
        on.extend((0..3).map(|_| ceiling.enter().unwrap()));
        assert!(on[7].near);
        on.clear();
        assert_eq!(ceiling.used(), 0);
    }

    #[test]
    fn without_a_limit_nothing_is_near_or_full() {
        let ceiling = Arc::new(Ceiling::new(None));
        let on: Vec<Under> = (0..100).map(|_| ceiling.enter().unwrap()).collect();
        assert!(on.iter().all(|under| !under.near));
        assert_eq!((ceiling.limit(), ceiling.is_full()), (None, false));
        ceiling.set(Some(50));
        assert!(ceiling.is_full() && ceiling.enter().is_none());
    }

    #[test]
    fn a_thousand_crossings_are_twenty_lines_a_minute() {
        let warnings = Warnings::default();
        let now = Instant::now();
        let said = |limit, now| (0..1000).filter(|_| warnings.may(limit, now)).count();
        assert_eq!(said(Limit::BeforeLogin, now), 20);
        assert_eq!(said(Limit::User, now), 20, "each limit has its own");
        assert_eq!(said(Limit::BeforeLogin, now + WINDOW / 2), 0);
        assert_eq!(said(Limit::BeforeLogin, now + WINDOW), 20);
    }

    #[test]
    fn percents() {
        let of = |used, most| Usage { limit: Limit::All, whose: None, used, most }.percent();
        assert_eq!([of(0, 10), of(79, 100), of(12, 10), of(1, 0)], [0, 79, 120, 0]);
    }
}
