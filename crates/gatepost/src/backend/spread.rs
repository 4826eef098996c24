//! Lets the clients of a dying backend go a few at a time (`backend.disconnect_spread`).
//!
//! When a backend dies all its clients lose their connection in one second, and all of them would be back in the next.
//! So of S sessions at most ceil(S / N) are let go in a second, N being `disconnect_spread` in seconds: the first second's
//! worth at once, each further one when its turn comes, in steps of 100 ms. A backend that dies in one moment has sent all
//! of them away before N seconds are over, and nobody is kept for longer than N.
//!
//! In ordinary operation nobody notices: unless others wait, the first ceil(S / N) sessions that end in a second leave at once,
//! and that is at least one, whatever S and N are.
//!
//! S is the highest count of the burst. A burst is over when it is N old and nobody waits, which is so at the latest when nothing
//! ended for N. It does not need that silence: a backend where somebody logs out every few seconds must not be measured by
//! the crowd it had in the morning.
//!
//! This file only reckons. [`super::health::SessionHere::delay`] is how a session asks.

use std::time::Duration;
use tokio::time::Instant;

/// Those who wait leave at multiples of this after the second began in which they were too many.
const STEP_MILLIS: u128 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// How the sessions of one backend are leaving.
#[derive(Debug, Default)]
pub struct Spread(Option<Burst>);

#[derive(Debug)]
struct Burst {
    began: Instant,
    /// The most sessions that there were.
    most: usize,
    /// How many more may go at once before `turn`.
    free: u32,
    /// The beginning of the second that `free` is for.
    second: Instant,
    /// The end of the current second, or of the queue where there is one: when the next one in line leaves.
    turn: Instant,
}

impl Spread {
    /// How long the session that ended at `now` waits before its client is let go: zero where the rate allows it or `spread`
    /// is zero, never more than `spread`. Each call takes a turn, so a session asks once.
    ///
    /// `sessions` is how many sessions the backend has, this one included; those that wait may be among them.
    pub fn delay(&mut self, sessions: usize, spread: Duration, now: Instant) -> Duration {
        if spread.is_zero() {
            return Duration::ZERO;
        }
        if self.0.as_ref().is_some_and(|burst| burst.is_over(spread, now)) {
            self.0 = None;
        }
        let burst = self.0.get_or_insert(Burst { began: now, most: 0, free: 0, second: now, turn: now });
        burst.most = burst.most.max(sessions);
        let rate = per_second(burst.most, spread);
        if now >= burst.turn {
            burst.second = now;
            burst.turn = now + SECOND;
            burst.free = rate;
        }
        if let Some(left) = burst.free.checked_sub(1) {
            burst.free = left;
            return Duration::ZERO;
        }
        let wait = burst.turn.saturating_duration_since(now);
        if wait >= spread {
            // More than there were at first, so they cannot all keep the rate. The queue must not grow without end.
            return spread;
        }
        let leaves = in_steps(burst.turn.saturating_duration_since(burst.second));
        burst.turn += one_of(rate);
        leaves.saturating_sub(now.saturating_duration_since(burst.second))
    }
}

impl Burst {
    fn is_over(&self, spread: Duration, now: Instant) -> bool {
        now >= self.turn && now.saturating_duration_since(self.began) >= spread
    }
}

/// ceil(sessions / spread in seconds), at least 1.
fn per_second(sessions: usize, spread: Duration) -> u32 {
    let sessions = u128::try_from(sessions).unwrap_or(u128::MAX);
    let rate = sessions.saturating_mul(1000).div_ceil(spread.as_millis().max(1));
    u32::try_from(rate).unwrap_or(u32::MAX).max(1)
}

/// The time between two that leave. Rounded up: one nanosecond less, and a second would let one more go.
fn one_of(rate: u32) -> Duration {
    Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(rate)))
}

/// Rounded down to a step: rounded up, the last ones might be late. Counted from the beginning of a second, nobody comes into
/// the second before by it.
fn in_steps(wait: Duration) -> Duration {
    let millis = wait.as_millis() / STEP_MILLIS * STEP_MILLIS;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TEN: Duration = Duration::from_secs(10);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// All sessions end in the same moment; the count goes down as they do.
    fn all_at_once(sessions: usize, spread: Duration) -> Vec<Duration> {
        let (mut leaving, now) = (Spread::default(), Instant::now());
        (0..sessions).map(|gone| leaving.delay(sessions - gone, spread, now)).collect()
    }

    #[test]
    fn a_backend_dies_and_its_clients_leave_over_the_whole_spread() {
        let delays = all_at_once(150, TEN);
        assert_eq!(delays.iter().filter(|delay| delay.is_zero()).count(), 15, "the first second's worth");
        assert!(delays.is_sorted(), "who ended first leaves first");
        assert!(delays[15] >= SECOND, "the second second's worth does not leave in the first");
        assert!(delays[149] < TEN && delays[149] >= millis(9500), "{:?}", delays[149]);
        let mut seconds = BTreeMap::new();
        let mut slots = BTreeMap::new();
        for delay in &delays {
            assert_eq!(delay.as_millis() % 100, 0);
            *seconds.entry(delay.as_secs()).or_insert(0) += 1;
            if !delay.is_zero() {
                *slots.entry(delay.as_millis()).or_insert(0) += 1;
            }
        }
        assert!(seconds.values().all(|gone| *gone <= 15), "{seconds:?}");
        assert!(slots.values().all(|gone| *gone <= 2), "{slots:?}");
    }

    #[test]
    fn a_logout_now_and_then_is_not_delayed() {
        let (mut leaving, start) = (Spread::default(), Instant::now());
        for second in 0..100 {
            assert_eq!(leaving.delay(1, TEN, start + SECOND * second), Duration::ZERO, "second {second}");
        }
        assert_eq!(leaving.delay(5000, TEN, start + SECOND * 1000), Duration::ZERO);
    }

    #[test]
    fn a_crowd_without_a_spread_leaves_at_once() {
        assert!(all_at_once(500, Duration::ZERO).iter().all(Duration::is_zero));
        assert!(all_at_once(500, millis(900)).iter().all(Duration::is_zero), "all of them are the first second's worth");
    }

    #[test]
    fn years_of_logouts_save_up_no_credit_and_leave_no_old_count() {
        let (mut leaving, start) = (Spread::default(), Instant::now());
        assert_eq!(leaving.delay(9000, TEN, start), Duration::ZERO);
        let mut now = start;
        for _ in 0..500 {
            now += SECOND * 2;
            assert_eq!(leaving.delay(150, TEN, now), Duration::ZERO);
        }
        now += SECOND * 2;
        let delays: Vec<Duration> = (0..150).map(|gone| leaving.delay(150 - gone, TEN, now)).collect();
        assert_eq!(delays.iter().filter(|delay| delay.is_zero()).count(), 15);
        assert!(delays[149] < TEN && delays[149] >= millis(9500), "{:?}", delays[149]);
    }

    #[test]
    fn a_death_that_takes_a_while_keeps_its_first_count() {
        let (mut leaving, start) = (Spread::default(), Instant::now());
        let mut due = Vec::new();
        for gone in 0u32..150 {
            let now = start + millis(20) * gone;
            due.push(millis(20) * gone + leaving.delay(150 - usize::try_from(gone).unwrap(), TEN, now));
        }
        assert!(due.iter().filter(|due| **due < SECOND).count() <= 15);
        assert!(due.iter().all(|due| *due < TEN), "{due:?}");
        assert!(*due.last().unwrap() >= millis(9500), "at the rate of 150, not of what was left");
    }

    #[test]
    fn who_asks_between_two_steps_does_not_leave_a_second_early() {
        let (mut leaving, start) = (Spread::default(), Instant::now());
        let mut seconds = BTreeMap::new();
        for gone in 0u32..150 {
            let late = millis(1) * gone;
            let due = late + leaving.delay(150 - usize::try_from(gone).unwrap(), SECOND * 3, start + late);
            *seconds.entry(due.as_secs()).or_insert(0) += 1;
        }
        assert_eq!(seconds, BTreeMap::from([(0, 50), (1, 50), (2, 50)]));
    }

    #[test]
    fn the_next_death_begins_afresh() {
        let (mut leaving, start) = (Spread::default(), Instant::now());
        for gone in 0..150 {
            leaving.delay(150 - gone, TEN, start);
        }
        let again = start + TEN + SECOND;
        let free = (0..20).filter(|_| leaving.delay(20, TEN, again).is_zero()).count();
        assert_eq!(free, 2, "the rate of 20 sessions");
    }

    #[test]
    fn more_than_there_were_wait_no_longer_than_the_spread() {
        let (mut leaving, now) = (Spread::default(), Instant::now());
        let delays: Vec<Duration> = (0..1000).map(|_| leaving.delay(10, TEN, now)).collect();
        assert!(delays.is_sorted());
        assert_eq!(delays[999], TEN);
        assert_eq!(leaving.delay(10, TEN, now + TEN * 2), Duration::ZERO, "and what they took is no debt of others");
    }

    #[test]
    fn odd_numbers_are_harmless() {
        let (mut leaving, now) = (Spread::default(), Instant::now());
        leaving.delay(10, TEN, now + SECOND);
        leaving.delay(usize::MAX, Duration::from_nanos(1), now);
        leaving.delay(0, Duration::MAX, now);
        assert_eq!(per_second(0, TEN), 1);
        assert_eq!(per_second(usize::MAX, Duration::from_nanos(1)), u32::MAX);
        assert_eq!(per_second(151, TEN), 16);
    }

    proptest! {
        #[test]
        fn any_crowd_leaves_in_time_and_within_the_rate(sessions in 1usize..2000, spread in 1u64..120) {
            let spread = Duration::from_secs(spread);
            let delays = all_at_once(sessions, spread);
            prop_assert!(delays.is_sorted());
            prop_assert!(delays.iter().all(|delay| *delay < spread || delay.is_zero()));
            let rate = per_second(sessions, spread);
            let mut seconds = BTreeMap::new();
            for delay in delays {
                *seconds.entry(delay.as_secs()).or_insert(0u32) += 1;
            }
            prop_assert!(seconds.values().all(|gone| *gone <= rate));
        }
    }
}
