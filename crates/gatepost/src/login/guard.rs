//! Limits on who may knock, how often, and how many may stay.
//!
//! Addresses count as /32 (IPv4) or /64 (IPv6). Every table is bounded, keyed with the standard library's random keys, and
//! touched only at accept, at a login and at a session's end, never while bytes are relayed. Who is exempt (trusted peers
//! themselves, `limits.exempt`) is not counted at all; what trusted peers forward is counted under the address they name.

use super::tally::{Counted, Tally};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most networks whose failed logins are remembered.
const GUESSERS_MAX: usize = 65_536;
/// How long failed logins are remembered.
const GUESS_WINDOW: Duration = Duration::from_secs(600);
/// The first and the longest delay of a guessing network.
const DELAY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(16));

/// A network that is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Net(IpAddr);

impl Net {
    /// The network of an address.
    pub fn of(ip: IpAddr) -> Net {
        match ip.to_canonical() {
            IpAddr::V6(ip) => Net(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)))),
            ip @ IpAddr::V4(_) => Net(ip),
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => write!(f, "{ip}"),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

/// The tables.
#[derive(Default)]
pub struct Guard {
    before_login: Mutex<Tally<Net>>,
    guesses: Mutex<HashMap<Net, Guesses>>,
    users: Mutex<Tally<(Box<str>, Net)>>,
    sent_away: AtomicU64,
}

#[derive(Clone, Copy)]
struct Guesses {
    count: u32,
    since: Instant,
    last: Instant,
}

impl Guard {
    /// A connection that has not signed in; without a limit it is exempt, and not counted. `None`: this network has `limit` of
    /// them already.
    pub fn knock(self: &Arc<Self>, ip: IpAddr, limit: Option<usize>) -> Option<Knock> {
        let Some(limit) = limit else { return Some(Knock { counted: None, near: None }) };
        let net = Net::of(ip);
        match lock(&self.before_login).add(&net, limit) {
            Ok(Counted { number, near }) => {
                Some(Knock { counted: Some((Arc::clone(self), net, limit)), near: near.then_some((net, number)) })
            }
            Err(_) => {
                self.sent_away.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// The most that one network has before login.
    pub fn most_before_login(&self) -> usize {
        lock(&self.before_login).highest()
    }

    /// The network that has the most before login.
    pub fn fullest_before_login(&self) -> Option<Net> {
        lock(&self.before_login).fullest().map(|(net, _)| *net)
    }

    /// The most sessions that one user has from one network.
    pub fn most_of_a_user(&self) -> usize {
        lock(&self.users).highest()
    }

    /// The user that has the most sessions from one network.
    pub fn fullest_user(&self) -> Option<(Box<str>, Net)> {
        lock(&self.users).fullest().map(|(key, _)| key.clone())
    }

    /// How many connections were sent away because their network had too many.
    pub fn sent_away(&self) -> u64 {
        self.sent_away.load(Ordering::Relaxed)
    }

    /// This user has `limit` sessions from this address already: how many. Only looks.
    pub fn is_full(&self, user: &str, ip: IpAddr, limit: usize) -> Option<usize> {
        Some(lock(&self.users).count(&(Box::from(user), Net::of(ip)))).filter(|count| *count >= limit)
    }

    /// How many sessions this user has from this address. Only looks.
    pub fn sessions(&self, user: &str, ip: IpAddr) -> usize {
        lock(&self.users).count(&(Box::from(user), Net::of(ip)))
    }

    /// How many connections from the network of this address have not signed in. Only looks.
    pub fn waiting(&self, ip: IpAddr) -> usize {
        lock(&self.before_login).count(&Net::of(ip))
    }

    /// A login of this user from this address. `Err`: how many there are already.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn enter(self: &Arc<Self>, user: &str, ip: IpAddr, limit: usize) -> Result<Entered, usize> {
        let key = (Box::from(user), Net::of(ip));
        let Counted { number, near } = lock(&self.users).add(&key, limit)?;
        Ok(Entered { guard: Arc::clone(self), key, limit, near: near.then_some(number) })
    }

    /// A wrong password came from here.
    pub fn guessed(&self, ip: IpAddr) {
        let now = Instant::now();
        let mut table = lock(&self.guesses);
        if table.len() >= GUESSERS_MAX {
            table.retain(|_, guesses| now.duration_since(guesses.since) < GUESS_WINDOW);
            if table.len() >= GUESSERS_MAX {
                // Still full: the eighth that has been quiet longest makes room, so that this is rare.
                let mut quiet: Vec<Instant> = table.values().map(|guesses| guesses.last).collect();
                let (_, last, _) = quiet.select_nth_unstable(GUESSERS_MAX / 8);
                let last = *last;
                table.retain(|_, guesses| guesses.last > last);
            }
        }
        let guesses = table.entry(Net::of(ip)).or_insert(Guesses { count: 0, since: now, last: now });
        if now.duration_since(guesses.since) >= GUESS_WINDOW {
            *guesses = Guesses { count: 0, since: now, last: now };
        }
        guesses.count = guesses.count.saturating_add(1);
        guesses.last = now;
    }

    /// How long a login from here must wait before it is looked at, given how many wrong ones are free.
    pub fn delay(&self, ip: IpAddr, free: u32) -> Duration {
        let table = lock(&self.guesses);
        match table.get(&Net::of(ip)) {
            Some(guesses) if guesses.count > free && guesses.since.elapsed() < GUESS_WINDOW => {
                let doublings = (guesses.count - free - 1).min(8);
                (DELAY.0 * 2u32.pow(doublings)).min(DELAY.1)
            }
            _ => Duration::ZERO,
        }
    }
}

/// A connection that counts as not signed in, until dropped.
pub struct Knock {
    /// Where, under which limit; nowhere if it is exempt.
    counted: Option<(Arc<Guard>, Net, usize)>,
    /// With it the network came near the limit: worth a line.
    pub near: Option<(Net, usize)>,
}

impl Drop for Knock {
    fn drop(&mut self) {
        if let Some((guard, net, limit)) = &self.counted {
            lock(&guard.before_login).remove(net, *limit);
        }
    }
}

/// A session that counts for its user and address, until dropped.
pub struct Entered {
    guard: Arc<Guard>,
    key: (Box<str>, Net),
    limit: usize,
    /// With it the user came near the limit: how many there are. Worth a line.
    pub near: Option<usize>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&self.guard.users).remove(&self.key, self.limit);
    }
}

/// A panic in one session must not lock out the others: the tables are sound after any of their few operations.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_a_host_or_a_64() {
        assert_eq!(Net::of(ip("2001:db8::1")), Net::of(ip("2001:db8::ffff:1")));
        assert_ne!(Net::of(ip("2001:db8::1")), Net::of(ip("2001:db8:0:1::1")));
        assert_ne!(Net::of(ip("10.0.0.1")), Net::of(ip("10.0.0.2")));
        assert_eq!(Net::of(ip("::ffff:10.0.0.1")), Net::of(ip("10.0.0.1")));
    }

    #[test]
    fn knocks_and_sessions_are_counted_and_given_back() {
        let guard = Arc::new(Guard::default());
        let first = guard.knock(ip("10.0.0.1"), Some(2)).unwrap();
        let _second = guard.knock(ip("10.0.0.1"), Some(2)).unwrap();
        assert!(guard.knock(ip("10.0.0.1"), Some(2)).is_none());
        assert!(guard.knock(ip("10.0.0.2"), Some(2)).is_some());
        assert!(guard.knock(ip("10.0.0.1"), None).is_some(), "who is exempt is neither refused nor counted");
        assert_eq!(guard.most_before_login(), 2);
        drop(first);
        assert!(guard.knock(ip("10.0.0.1"), Some(2)).is_some());
        let entered = guard.enter("alice", ip("10.0.0.1"), 1).unwrap();
        assert_eq!(guard.enter("alice", ip("10.0.0.1"), 1).err(), Some(1));
        assert!(guard.enter("bob", ip("10.0.0.1"), 1).is_ok());
        drop(entered);
        assert!(guard.enter("alice", ip("10.0.0.1"), 1).is_ok());
        assert!(lock(&guard.users).is_empty(), "nothing stays behind");
    }

    #[test]
    fn delays_double_up_to_a_bound_and_hit_only_the_guesser() {
        let guard = Guard::default();
        let (evil, good) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..20 {
            guard.guessed(evil);
        }
        assert_eq!(guard.delay(evil, 20), Duration::ZERO);
        let mut seen = Vec::new();
        for _ in 0..6 {
            guard.guessed(evil);
            seen.push(guard.delay(evil, 20).as_secs());
        }
        assert_eq!(seen, [2, 4, 8, 16, 16, 16]);
        assert_eq!(guard.delay(good, 20), Duration::ZERO);
    }

    #[test]
    fn the_table_of_guessers_is_bounded() {
        let guard = Guard::default();
        for n in 0..u32::try_from(GUESSERS_MAX).unwrap() + 10 {
            guard.guessed(IpAddr::V4(std::net::Ipv4Addr::from(n)));
            if n % 20_000 == 0 {
                assert!(lock(&guard.guesses).len() <= GUESSERS_MAX);
            }
        }
        assert!(lock(&guard.guesses).len() <= GUESSERS_MAX);
    }
}
