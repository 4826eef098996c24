//! Who follows dialogues live (`gatepost trace`), and what they get.
//!
//! A dialogue is followed up to its hand-over to the relay; what is relayed is never looked at. While nobody traces, a dialogue
//! pays one relaxed load for each of its steps ([`Tracers::any`]). While somebody does, each dialogue has a [`Tap`]: whose it
//! is shows only when its login comes, so what came before is kept, within bounds, and dropped when it turns out to be
//! somebody else's.
//!
//! Nobody waits for a tracer: what does not fit into its [`Queue`] is lost to it, counted, and told to it.

mod queue;
mod tap;
mod wanted;

pub use queue::Queue;
pub use tap::Tap;
pub use wanted::{Listener, Wanted, Who};

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most tracers at a time.
pub const TRACERS_MAX: usize = 16;

/// One who follows.
pub struct Tracer {
    /// Unlike any other in the life of the process.
    pub number: u64,
    /// What it wants to see.
    pub wanted: Wanted,
    /// What it is to get.
    pub queue: Queue,
}

/// All who follow.
#[derive(Default)]
pub struct Tracers {
    /// How many there are; looked at by every dialogue.
    active: AtomicUsize,
    list: Mutex<Vec<Arc<Tracer>>>,
    numbers: AtomicU64,
    /// Octets that all taps keep for those whose user is not known yet.
    kept: AtomicUsize,
}

impl Tracers {
    /// Somebody traces.
    pub fn any(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
    }

    /// Begins to follow. `None`: there are as many as there may be.
    pub fn begin(&self, wanted: Wanted) -> Option<Arc<Tracer>> {
        let mut list = self.list();
        if list.len() >= TRACERS_MAX {
            return None;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let tracer = Arc::new(Tracer { number, wanted, queue: Queue::default() });
        list.push(Arc::clone(&tracer));
        self.active.store(list.len(), Ordering::Relaxed);
        Some(tracer)
    }

    /// Ends it.
    pub fn end(&self, tracer: &Tracer) {
        let mut list = self.list();
        list.retain(|other| other.number != tracer.number);
        self.active.store(list.len(), Ordering::Relaxed);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    fn all(&self) -> Vec<Arc<Tracer>> {
        self.list().clone()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Tracer>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
