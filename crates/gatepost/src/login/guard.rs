//! Limits on who may knock, how often, and how many may stay.
//!
//! Addresses count as /32 (IPv4) or /64 (IPv6). Every table is bounded, keyed with the standard library's random keys, and
//! touched only at accept, at a login and at a session's end, never while bytes are relayed. Trusted peers themselves are
//! exempt: what they forward is counted under the address they name.

use std::collections::HashMap;
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

/// The tables.
#[derive(Default)]
pub struct Guard {
    before_login: Mutex<HashMap<Net, usize>>,
    guesses: Mutex<HashMap<Net, Guesses>>,
    users: Mutex<HashMap<(Box<str>, Net), usize>>,
    sent_away: AtomicU64,
}

#[derive(Clone, Copy)]
struct Guesses {
    count: u32,
    since: Instant,
    last: Instant,
}

impl Guard {
    /// A connection that has not signed in. `None`: this network has `limit` of them already.
    pub fn knock(self: &Arc<Self>, ip: IpAddr, limit: usize) -> Option<Knock> {
        let net = Net::of(ip);
        let mut table = lock(&self.before_login);
        let count = table.entry(net).or_insert(0);
        if *count >= limit {
            self.sent_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        Some(Knock { guard: Arc::clone(self), net })
    }

    /// How many connections were sent away because their network had too many.
    pub fn sent_away(&self) -> u64 {
        self.sent_away.load(Ordering::Relaxed)
    }

    /// This user has `limit` sessions from this address already: how many. Only looks.
    pub fn is_full(&self, user: &str, ip: IpAddr, limit: usize) -> Option<usize> {
        lock(&self.users).get(&(Box::from(user), Net::of(ip))).copied().filter(|count| *count >= limit)
    }

    /// A login of this user from this address. `Err`: how many there are already.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn enter(self: &Arc<Self>, user: &str, ip: IpAddr, limit: usize) -> Result<Entered, usize> {
        let key = (Box::from(user), Net::of(ip));
        let mut table = lock(&self.users);
        let count = table.entry(key.clone()).or_insert(0);
        if *count >= limit {
            return Err(*count);
        }
        *count += 1;
        Ok(Entered { guard: Arc::clone(self), key, number: *count })
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
    guard: Arc<Guard>,
    net: Net,
}

impl Drop for Knock {
    fn drop(&mut self) {
        release(&mut lock(&self.guard.before_login), &self.net);
    }
}

/// A session that counts for its user and address, until dropped.
pub struct Entered {
    guard: Arc<Guard>,
    key: (Box<str>, Net),
    /// Which one of this user and address it is.
    pub number: usize,
}

impl Drop for Entered {
    fn drop(&mut self) {
        release(&mut lock(&self.guard.users), &self.key);
    }
}

fn release<K: std::hash::Hash + Eq>(table: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = table.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            table.remove(key);
        }
    }
    // A burst must not hold its memory for ever.
    if table.len() * 8 < table.capacity() && table.capacity() > 1024 {
        table.shrink_to(table.len() * 2);
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
        let first = guard.knock(ip("10.0.0.1"), 2).unwrap();
        let _second = guard.knock(ip("10.0.0.1"), 2).unwrap();
        assert!(guard.knock(ip("10.0.0.1"), 2).is_none());
        assert!(guard.knock(ip("10.0.0.2"), 2).is_some());
        drop(first);
        assert!(guard.knock(ip("10.0.0.1"), 2).is_some());
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
