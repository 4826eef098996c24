//! Bounded waiting for a condition; the only place that sleeps for it.
//!
//! Tests wait for facts, never for time to pass. The bounds are generous because a machine with two busy cores is a
//! normal place to run tests, and because a test that passes never reaches them.

use std::time::{Duration, Instant};

/// How long a server may take to start, to stop or to write a log line before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `ready` until it answers `Some`, or returns `None` once `limit` has passed.
///
/// `ready` is asked at least once, and once more after the limit, so that a machine that was asleep does not fail a
/// test whose condition holds.
pub fn poll<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    while Instant::now() < end {
        if let Some(found) = ready() {
            return Some(found);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(25));
    }
    ready()
}

/// Waits up to [`PATIENCE`] until `ready` is true and panics with `what` otherwise.
#[track_caller]
pub fn until(what: &str, mut ready: impl FnMut() -> bool) {
    if poll(PATIENCE, || ready().then_some(())).is_none() {
        panic!("waited {} s for this, in vain: {what}", PATIENCE.as_secs());
    }
}
