//! How long a database takes to answer, for figures and for a person who asks.

use crate::metrics::counts::{Counter, Histogram, Recent};
use std::time::Duration;

/// Bounds in microseconds: from a file in memory to `lookup_timeout`.
const BOUNDS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    30_000_000,
];

/// What came of the questions to one database, since the start: a reload keeps it.
#[derive(Debug)]
pub struct Lookups {
    /// How long answers took, a row or none.
    pub took: Histogram,
    /// The same of the last five to ten minutes.
    pub recent: Recent,
    /// That had no answer: trouble, too late, or too many at one time.
    pub failed: Counter,
}

impl Default for Lookups {
    fn default() -> Self {
        Lookups { took: Histogram::new(BOUNDS), recent: Recent::new(BOUNDS), failed: Counter::default() }
    }
}

impl Lookups {
    /// A question has ended.
    pub(super) fn record(&self, took: Duration, answered: bool) {
        if answered {
            self.took.record(took);
        } else {
            self.failed.one();
        }
        // Trouble that took long is what a person looks for here.
        self.recent.record(took);
    }
}
