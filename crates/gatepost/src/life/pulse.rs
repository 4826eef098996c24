//! Whether every part of the process still moves, for systemd's watchdog.
//!
//! The supervising loop asks, so it moves itself; of each shard the clock must have ticked (it does so once a second, on the
//! shard's own thread). A shard that is stuck in one task serves nobody, and only a restart helps: then the watchdog hears
//! nothing more from us, and fires.

use relay::clock::Clock;
use std::time::{Duration, Instant};

/// A clock ticks once a second; on a busy machine that may be late.
const TICKS: Duration = Duration::from_secs(3);

/// The shards' clocks, and when each was last seen to move.
pub struct Pulse {
    shards: Vec<(Clock, u32, Instant)>,
    allowed: Duration,
}

impl Pulse {
    /// How often systemd wants to hear from us: half of its limit, which is in `WATCHDOG_USEC` and is ours if `WATCHDOG_PID`
    /// says nothing else.
    pub fn wanted() -> Option<Duration> {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
            return None;
        }
        number("WATCHDOG_USEC").filter(|usec| *usec > 1).map(|usec| Duration::from_micros(usec / 2))
    }

    /// Begins to watch.
    pub fn new(clocks: Vec<Clock>, every: Duration) -> Pulse {
        let now = Instant::now();
        let shards = clocks.into_iter().map(|clock| (clock.seconds(), clock)).map(|(second, clock)| (clock, second, now));
        Pulse { shards: shards.collect(), allowed: every.max(TICKS) }
    }

    /// Whether all of them have moved lately; else the numbers of those that have not.
    ///
    /// # Errors
    /// The shards that stand still.
    pub fn beats(&mut self) -> Result<(), Vec<usize>> {
        self.beats_at(Instant::now())
    }

    fn beats_at(&mut self, now: Instant) -> Result<(), Vec<usize>> {
        let mut stuck = Vec::new();
        for (number, (clock, seen, when)) in self.shards.iter_mut().enumerate() {
            let second = clock.seconds();
            if second != *seen {
                (*seen, *when) = (second, now);
            } else if now.duration_since(*when) > self.allowed {
                stuck.push(number);
            }
        }
        if stuck.is_empty() { Ok(()) } else { Err(stuck) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_shard_that_stands_still_is_noticed_and_forgiven() {
        let clocks = [Clock::new(), Clock::new()];
        let mut pulse = Pulse::new(clocks.to_vec(), Duration::from_secs(5));
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(pulse.beats_at(at(4)), Ok(()));
        clocks[0].advance(1);
        assert_eq!(pulse.beats_at(at(6)), Err(vec![1]));
        clocks[1].advance(1);
        assert_eq!(pulse.beats_at(at(7)), Ok(()));
        assert_eq!(pulse.beats_at(at(12)), Err(vec![0]));
    }

    /// Real shards with real clocks, one of them in a task that does not come back.
    #[test]
    fn a_task_that_blocks_its_shard_stops_the_pulse() {
        let clocks = [Clock::new(), Clock::new()];
        let run = clocks.clone();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let shards = relay::shard::spawn_shards(2, move |index| {
            let (clock, mut stopped) = (run[index].clone(), stopped.clone());
            async move {
                tokio::select! {
                    () = clock.run() => {}
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
            }
        })
        .unwrap();
        let mut pulse = Pulse::new(clocks.to_vec(), Duration::from_millis(500));
        testkit::wait::until("both clocks tick", || clocks.iter().all(|clock| clock.seconds() > 0));
        assert_eq!(pulse.beats(), Ok(()));
        let (release, blocked) = mpsc::channel::<()>();
        shards[1].handle().spawn(async move {
            let _ = blocked.recv();
        });
        testkit::wait::until("the pulse stops", || pulse.beats() == Err(vec![1]));
        drop(release);
        testkit::wait::until("the pulse is back", || pulse.beats() == Ok(()));
        stop.send(true).unwrap();
        for shard in shards {
            shard.join().unwrap();
        }
    }
}
