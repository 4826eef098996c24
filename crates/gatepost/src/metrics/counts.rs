//! What is counted while the house is at work: a relaxed atomic each, touched at logins and at ends of sessions, never while
//! bytes are relayed. No names of users or clients get here: every series is there from the start, or is bounded by the
//! configuration.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Raises it to this, and gives what it is then: for a sum that must not be seen to fall.
    pub fn at_least(&self, sum: u64) -> u64 {
        self.0.fetch_max(sum, Ordering::Relaxed).max(sum)
    }
}

/// A counter for each of some fixed words, and one for all others.
#[derive(Debug)]
pub struct Words {
    words: &'static [&'static str],
    counts: Box<[Counter]>,
}

/// The word for what has none of its own.
pub const OTHER: &str = "other";

impl Words {
    /// All at zero.
    pub fn new(words: &'static [&'static str]) -> Words {
        Words { words, counts: (0..=words.len()).map(|_| Counter::default()).collect() }
    }

    /// One more of this word.
    pub fn one(&self, word: &str) {
        let index = self.words.iter().position(|known| *known == word).unwrap_or(self.words.len());
        if let Some(count) = self.counts.get(index) {
            count.one();
        }
    }

    /// Every word and its count.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.words.iter().copied().chain([OTHER]).zip(self.counts.iter().map(Counter::get))
    }
}

/// How long things took, in buckets with bounds of microseconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds.
    buckets: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// With these upper bounds, rising.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        Histogram { bounds, buckets: (0..=bounds.len()).map(|_| Counter::default()).collect(), sum: Counter::default() }
    }

    /// It took so long.
    pub fn record(&self, took: Duration) {
        let micros = micros(took);
        if let Some(bucket) = self.buckets.get(bucket_of(self.bounds, micros)) {
            bucket.one();
        }
        self.sum.add(micros);
    }

    /// Every upper bound in microseconds (`None`: without one), with how many took as long or less.
    pub fn cumulative(&self) -> Vec<(Option<u64>, u64)> {
        let mut all = 0;
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                (bound, {
                    all += bucket.get();
                    all
                })
            })
            .collect()
    }

    /// Microseconds in all.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 2)
}

fn bucket_of(bounds: &[u64], micros: u64) -> usize {
    bounds.partition_point(|bound| *bound < micros)
}

/// How long a window of [`Recent`] is.
const WINDOW: Duration = Duration::from_secs(300);

/// How long things took lately: in this window of five minutes and the one before. For a person who looks now; what is to be
/// kept for longer is a [`Histogram`]'s, and Prometheus's.
#[derive(Debug)]
pub struct Recent {
    bounds: &'static [u64],
    began: Instant,
    /// Windows of even and of odd numbers.
    windows: [Window; 2],
}

#[derive(Debug)]
struct Window {
    number: AtomicU64,
    buckets: Box<[AtomicU64]>,
}

impl Recent {
    /// With these upper bounds in microseconds, rising.
    pub fn new(bounds: &'static [u64]) -> Recent {
        let window = || Window { number: AtomicU64::new(0), buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect() };
        Recent { bounds, began: Instant::now(), windows: [window(), window()] }
    }

    /// It took so long.
    pub fn record(&self, took: Duration) {
        self.record_at(self.began.elapsed(), took);
    }

    /// This part of all took no longer than that; `None` where nothing happened. Between two bounds it is taken as even; beyond
    /// the last it is the last.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        self.quantile_at(self.began.elapsed(), part)
    }

    fn record_at(&self, now: Duration, took: Duration) {
        let number = now.as_secs() / WINDOW.as_secs();
        let [even, odd] = &self.windows;
        let window = if number.is_multiple_of(2) { even } else { odd };
        // Whoever comes first in a new window clears it. Another thread's word may be lost in that moment: one of many.
        if window.number.swap(number, Ordering::Relaxed) != number {
            window.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        }
        if let Some(bucket) = window.buckets.get(bucket_of(self.bounds, micros(took))) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
    fn quantile_at(&self, now: Duration, part: f64) -> Option<Duration> {
        let number = now.as_secs() / WINDOW.as_secs();
        let mut counts = vec![0_u64; self.bounds.len() + 1];
        for window in &self.windows {
            if number.saturating_sub(window.number.load(Ordering::Relaxed)) <= 1 {
                let buckets = window.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
                counts.iter_mut().zip(buckets).for_each(|(count, more)| *count += more);
            }
        }
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = part.clamp(0.0, 1.0) * all as f64;
        let (mut below, mut lower) = (0_u64, 0_u64);
        for (count, upper) in counts.iter().zip(self.bounds) {
            if (below + count) as f64 >= wanted && *count > 0 {
                let within = ((wanted - below as f64) / *count as f64).max(0.0);
                return Some(Duration::from_micros(lower + ((upper - lower) as f64 * within) as u64));
            }
            (below, lower) = (below + count, *upper);
        }
        Some(Duration::from_micros(lower))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[u64] = &[1_000, 10_000, 100_000];

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn unknown_words_are_counted_together() {
        let words = Words::new(&["a", "b"]);
        ["a", "c", "d", "b", "a"].iter().for_each(|word| words.one(word));
        assert_eq!(words.each().collect::<Vec<_>>(), [("a", 2), ("b", 1), ("other", 2)]);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(BOUNDS);
        for took in [ms(0), ms(1), Duration::from_micros(1001), ms(100), ms(101), Duration::MAX] {
            histogram.record(took);
        }
        assert_eq!(histogram.cumulative(), [(Some(1_000), 2), (Some(10_000), 3), (Some(100_000), 4), (None, 6)]);
    }

    #[test]
    fn recent_forgets_what_is_two_windows_old() {
        let recent = Recent::new(BOUNDS);
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(recent.quantile_at(at(0), 0.99), None);
        for _ in 0..99 {
            recent.record_at(at(0), ms(5));
        }
        recent.record_at(at(299), ms(50));
        let low = recent.quantile_at(at(299), 0.5).unwrap();
        assert!(low > ms(1) && low < ms(10), "{low:?}");
        let high = recent.quantile_at(at(599), 0.999).unwrap();
        assert!(high > ms(90) && high <= ms(100), "{high:?}");
        assert_eq!(recent.quantile_at(at(600), 0.5), None);
        recent.record_at(at(601), ms(5000));
        assert_eq!(recent.quantile_at(at(700), 0.99), Some(ms(100)), "beyond the last bound: the last");
        recent.record_at(at(900), ms(0));
        assert!(recent.quantile_at(at(900), 0.25).unwrap() <= ms(1));
    }

    #[test]
    fn a_sum_is_not_seen_to_fall() {
        let shown = Counter::default();
        assert_eq!([shown.at_least(5), shown.at_least(3), shown.at_least(9)], [5, 5, 9]);
    }
}
