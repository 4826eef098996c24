//! What was on in the last hour: a sample every five seconds, kept in memory, for the status page and whoever has no Prometheus;
//! and how logins came out in the last minute, for the rates of `gatepost status`.
//!
//! Bounded: 720 samples, each with the sessions of at most 32 backends and the sum of all others. Sums since the start become
//! differences here, so that a sample speaks for itself.

use super::{Total, totals};
use crate::login::house::House;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::MissedTickBehavior;

/// The time between two samples.
pub const EVERY: Duration = Duration::from_secs(5);
/// How many are kept: an hour.
const KEPT: usize = 720;
/// How many backends a sample names.
const BACKENDS: usize = 32;
/// So many steps are a minute.
const MINUTE: usize = 12;

/// One look at the house, and what happened since the last one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When, since 1970. By a clock that never goes back.
    pub time: Duration,
    /// The time since the sample before; of the first one zero.
    pub long: Duration,
    /// Sessions that are relayed, in the order of [`Excerpt::protocols`].
    pub sessions: Box<[u32]>,
    /// The sessions of those backends that have most.
    pub backends: Box<[(SocketAddr, u32)]>,
    /// The sessions of all other backends together.
    pub others: u32,
    /// Logins that went well.
    pub logins: u64,
    /// Logins that were refused.
    pub refused: u64,
    /// Octets relayed to backends.
    pub to_backend: u64,
    /// Octets relayed to clients.
    pub to_client: u64,
}

/// The samples.
pub struct History {
    /// When the process began: by both clocks.
    began: (Instant, Duration),
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    protocols: Vec<&'static str>,
    samples: VecDeque<Sample>,
    /// How many there were before those that are kept.
    forgotten: u64,
    last: Option<Sums>,
    /// The counts of [`super::Metrics::outcomes`] at the samples of the last minute, and when that was.
    outcomes: VecDeque<(Duration, Box<[u64]>)>,
}

/// Sums since the start.
struct Sums {
    at: Duration,
    logins: u64,
    refused: u64,
    to_backend: u64,
    to_client: u64,
}

/// Some of the samples, one after the other.
pub struct Excerpt {
    /// The protocols, in the order of the samples.
    pub protocols: Vec<&'static str>,
    /// The number of the first one since the start of the process.
    pub first: u64,
    /// What there is.
    pub samples: Vec<Sample>,
}

impl Default for History {
    fn default() -> History {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        History { began: (Instant::now(), wall), ring: Mutex::default() }
    }
}

/// Takes samples for as long as the process lives.
pub async fn keep(house: Arc<House>) {
    let mut ticks = tokio::time::interval(EVERY);
    // After a standstill one sample is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut backends: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for report in house.health.report() {
            *backends.entry(report.at).or_default() += count(report.sessions);
        }
        let history = &house.history;
        let totals = totals(&house);
        let outcomes = house.metrics.outcomes().map(|(.., count)| count).collect();
        let (elapsed, mut ring) = (history.began.0.elapsed(), history.lock());
        ring.add(elapsed, history.began.1, &totals, backends);
        ring.note(elapsed, outcomes);
    }
}

impl History {
    /// When the process began, since 1970. Tells one process from the next.
    pub fn started(&self) -> Duration {
        self.began.1
    }

    /// All samples that are kept, from this number on.
    pub fn since(&self, number: u64) -> Excerpt {
        let ring = self.lock();
        let skip = usize::try_from(number.saturating_sub(ring.forgotten)).unwrap_or(usize::MAX).min(ring.samples.len());
        let samples: Vec<Sample> = ring.samples.iter().skip(skip).cloned().collect();
        let first = ring.forgotten.saturating_add(u64::try_from(skip).unwrap_or(u64::MAX));
        Excerpt { protocols: ring.protocols.clone(), first, samples }
    }

    /// The counts of [`super::Metrics::outcomes`] a minute ago, or at the start, and how long ago that was; none before the first
    /// sample.
    pub fn a_minute_ago(&self) -> Option<(Duration, Box<[u64]>)> {
        let (then, counts) = self.lock().outcomes.front().cloned()?;
        Some((self.began.0.elapsed().saturating_sub(then), counts))
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn add(&mut self, elapsed: Duration, began: Duration, totals: &[Total], backends: BTreeMap<SocketAddr, u32>) {
        let sum = |of: fn(&Total) -> u64| totals.iter().map(of).fold(0, u64::saturating_add);
        let sums = Sums {
            at: elapsed,
            logins: sum(|total| total.logins),
            refused: sum(|total| total.refused),
            to_backend: sum(|total| total.to_backend),
            to_client: sum(|total| total.to_client),
        };
        let mut backends: Vec<(SocketAddr, u32)> = backends.into_iter().filter(|(_, sessions)| *sessions > 0).collect();
        backends.sort_by_key(|(_, sessions)| std::cmp::Reverse(*sessions));
        let others = backends.iter().skip(BACKENDS).fold(0_u32, |sum, (_, sessions)| sum.saturating_add(*sessions));
        backends.truncate(BACKENDS);
        let grown = |now: u64, of: fn(&Sums) -> u64| self.last.as_ref().map_or(0, |last| now.saturating_sub(of(last)));
        let sample = Sample {
            time: began + elapsed,
            long: self.last.as_ref().map_or(Duration::ZERO, |last| elapsed.saturating_sub(last.at)),
            sessions: totals.iter().map(|total| count(total.sessions)).collect(),
            backends: backends.into(),
            others,
            logins: grown(sums.logins, |last| last.logins),
            refused: grown(sums.refused, |last| last.refused),
            to_backend: grown(sums.to_backend, |last| last.to_backend),
            to_client: grown(sums.to_client, |last| last.to_client),
        };
        self.protocols = totals.iter().map(|total| total.protocol).collect();
        self.last = Some(sums);
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
            self.forgotten += 1;
        }
        self.samples.push_back(sample);
    }

    fn note(&mut self, elapsed: Duration, outcomes: Box<[u64]>) {
        if self.outcomes.len() > MINUTE {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((elapsed, outcomes));
    }
}

fn count(sessions: usize) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u32) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4((0x0a00_0000 + n).into()), 143)
    }

    fn history(samples: u64, backends: u32) -> History {
        let history = History::default();
        for n in 1..=samples {
            let total = Total { protocol: "imap", sessions: 7, logins: n * 10, refused: n * n, to_client: n, ..Total::default() };
            let backends = (0..backends).map(|b| (at(b), b)).collect();
            history.lock().add(EVERY * u32::try_from(n).unwrap(), Duration::from_secs(1000), &[total], backends);
        }
        history
    }

    #[test]
    fn a_sample_says_what_happened_since_the_one_before() {
        let all = history(3, 2).since(0);
        assert_eq!((all.first, all.protocols), (0, vec!["imap"]));
        let figures: Vec<_> = all.samples.iter().map(|s| (s.time.as_secs(), s.long.as_secs(), s.logins, s.refused)).collect();
        assert_eq!(figures, [(1005, 0, 0, 0), (1010, 5, 10, 3), (1015, 5, 10, 5)], "what was before the first is not of now");
        assert_eq!(*all.samples[0].sessions, [7]);
        assert_eq!(*all.samples[0].backends, [(at(1), 1)], "without sessions it takes no room");
    }

    #[test]
    fn a_minute_ago_is_a_minute_ago() {
        let history = History::default();
        assert_eq!(history.a_minute_ago(), None);
        for n in 0..100 {
            history.lock().note(EVERY * n, Box::from([u64::from(n)]));
            let (_, counts) = history.a_minute_ago().unwrap();
            assert_eq!(*counts, [u64::from(n.saturating_sub(12))]);
        }
    }

    #[test]
    fn an_hour_and_32_backends_are_kept() {
        let history = history(1000, 100);
        let all = history.since(0);
        assert_eq!((all.first, all.samples.len()), (280, KEPT));
        let last = all.samples.last().unwrap();
        assert_eq!((last.backends.len(), last.backends[0], last.backends[31]), (BACKENDS, (at(99), 99), (at(68), 68)));
        assert_eq!(last.others, (1..68).sum::<u32>());
        for (since, first, len) in [(279, 280, KEPT), (281, 281, KEPT - 1), (999, 999, 1), (1000, 1000, 0), (u64::MAX, 1000, 0)] {
            let some = history.since(since);
            assert_eq!((some.first, some.samples.len()), (first, len), "{since}");
        }
    }
}
