//! Coarse time for idle sessions: one tick a second per shard instead of a timer per session.
//!
//! A session registers a [`Slot`] with an idle limit. Activity is one relaxed store. The clock keeps the slots ordered by
//! the second at which they could be due; when that comes it looks at the last activity and either puts the slot back
//! or orders its end. So a session costs the clock one look per idle limit, however busy it is, and a lock is taken only
//! when a slot is made, dropped, looked at or its limit shortened.
//!
//! The same slot carries the orders to end a session from outside (kick, shutdown): the first order stands. And it is where
//! others see how much has been moved and for how long nothing was.
//!
//! Limits are kept to the second and never cut short: a limit of n seconds ends a session between n and n + 1 seconds
//! after its last activity. Time is monotonic; steps of the wall clock do not matter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// Why a session was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndOrder {
    /// Nothing moved for as long as its limit allows.
    Idle,
    /// An administrator ended it.
    Kicked,
    /// The program is shutting down.
    ShuttingDown,
}

impl EndOrder {
    /// A fixed name for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            EndOrder::Idle => "idle",
            EndOrder::Kicked => "kicked",
            EndOrder::ShuttingDown => "shutting-down",
        }
    }
}

/// A shard's clock; cheap to clone, all clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Seconds since the clock was made.
    now: AtomicU32,
    book: Mutex<Book>,
}

/// The slots by the second at which they must be looked at.
#[derive(Debug, Default)]
struct Book {
    due: BTreeMap<(u32, u64), Weak<Slot>>,
    next_id: u64,
}

impl Clock {
    /// A clock at second 0. It stands still until [`Clock::run`] or [`Clock::advance`].
    pub fn new() -> Clock {
        Clock::default()
    }

    /// Ticks once a second, forever: spawn it once per shard.
    pub async fn run(self) {
        let start = Instant::now();
        let first = self.now();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let passed = u32::try_from(start.elapsed().as_secs()).unwrap_or(u32::MAX);
            let target = first.saturating_add(passed);
            self.advance(target.saturating_sub(self.now()));
        }
    }

    /// Moves the clock on and ends the slots that have become due. [`Clock::run`] calls it; a test may instead.
    pub fn advance(&self, seconds: u32) {
        let now = self.now().saturating_add(seconds);
        self.0.now.store(now, Ordering::Relaxed);
        // Slots are let go after the lock: dropping the last handle of one takes the lock again.
        let mut idle = Vec::new();
        let mut alive = Vec::new();
        let mut book = self.book();
        while let Some(entry) = book.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, id), weak) = entry.remove_entry();
            let Some(slot) = weak.upgrade() else { continue };
            let deadline = slot.deadline();
            if deadline <= now {
                idle.push(slot);
            } else {
                slot.due.store(deadline, Ordering::Relaxed);
                book.due.insert((deadline, id), weak);
                alive.push(slot);
            }
        }
        drop(book);
        for slot in idle {
            slot.end(EndOrder::Idle);
        }
    }

    /// Registers a session that ends when nothing moves for `idle_limit` (rounded up to seconds, at least one;
    /// `Duration::MAX` means never).
    pub fn slot(&self, idle_limit: Duration) -> Arc<Slot> {
        let now = self.now();
        let mut book = self.book();
        let id = book.next_id;
        book.next_id = id.wrapping_add(1);
        let slot = Arc::new(Slot {
            clock: self.clone(),
            id,
            last: AtomicU32::new(now),
            limit: AtomicU32::new(seconds(idle_limit)),
            due: AtomicU32::new(0),
            order: AtomicU8::new(NONE),
            to_backend: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            waker: Mutex::new(None),
        });
        let deadline = slot.deadline();
        slot.due.store(deadline, Ordering::Relaxed);
        book.due.insert((deadline, id), Arc::downgrade(&slot));
        slot
    }

    /// How many seconds it has counted: a clock that runs on a shard stands still when the shard does.
    pub fn seconds(&self) -> u32 {
        self.now()
    }

    /// How many slots the clock still has to look at.
    pub fn registered(&self) -> usize {
        self.book().due.len()
    }

    fn now(&self) -> u32 {
        self.0.now.load(Ordering::Relaxed)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing in here panics half way through a change; a poisoned lock must not end the other sessions.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NONE: u8 = 0;
const IDLE: u8 = 1;
const KICKED: u8 = 2;
const SHUTTING_DOWN: u8 = 3;

/// A session's place in the clock, and the bell that wakes it. Leaves the clock when dropped.
#[derive(Debug)]
pub struct Slot {
    clock: Clock,
    id: u64,
    /// Second of the last activity.
    last: AtomicU32,
    /// Seconds without activity that are allowed.
    limit: AtomicU32,
    /// Its key in the book; changed only under the book's lock.
    due: AtomicU32,
    order: AtomicU8,
    /// Octets moved so far.
    to_backend: AtomicU64,
    to_client: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    /// Orders the session to end and wakes it. The first order stands; from any thread.
    pub fn end(&self, reason: EndOrder) {
        let code = match reason {
            EndOrder::Idle => IDLE,
            EndOrder::Kicked => KICKED,
            EndOrder::ShuttingDown => SHUTTING_DOWN,
        };
        if self.order.compare_exchange(NONE, code, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let waker = self.waker().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// The order given, if any.
    pub fn order(&self) -> Option<EndOrder> {
        match self.order.load(Ordering::Acquire) {
            IDLE => Some(EndOrder::Idle),
            KICKED => Some(EndOrder::Kicked),
            SHUTTING_DOWN => Some(EndOrder::ShuttingDown),
            _ => None,
        }
    }

    /// The seconds of its clock.
    pub(crate) fn now(&self) -> u32 {
        self.clock.now()
    }

    /// Says that something moved just now.
    pub fn touch(&self) {
        self.last.store(self.clock.now(), Ordering::Relaxed);
    }

    /// For how long nothing has moved, to the second.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.clock.now().saturating_sub(self.last.load(Ordering::Relaxed)).into())
    }

    /// Octets handed on so far: to the backend, to the client.
    pub fn moved(&self) -> (u64, u64) {
        (self.to_backend.load(Ordering::Relaxed), self.to_client.load(Ordering::Relaxed))
    }

    /// Says how much has been moved in all.
    pub(crate) fn count(&self, to_backend: u64, to_client: u64) {
        self.to_backend.store(to_backend, Ordering::Relaxed);
        self.to_client.store(to_client, Ordering::Relaxed);
    }

    /// Ready with the order once there is one. One waiter at a time: the last to ask is woken.
    pub fn poll_order(&self, cx: &Context<'_>) -> Poll<EndOrder> {
        if let Some(order) = self.order() {
            return Poll::Ready(order);
        }
        let mut waker = self.waker();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        // An order given between the first look and the registration found no waker to wake.
        self.order().map_or(Poll::Pending, Poll::Ready)
    }

    /// Lowers the limit (never raises it) and counts it from now.
    pub fn shorten(&self, limit: Duration) {
        self.touch();
        let mut book = self.clock.book();
        self.limit.fetch_min(seconds(limit), Ordering::Relaxed);
        let deadline = self.deadline();
        if let Some(entry) = book.due.remove(&(self.due.load(Ordering::Relaxed), self.id)) {
            self.due.store(deadline, Ordering::Relaxed);
            book.due.insert((deadline, self.id), entry);
        }
    }

    /// The second at which it is idle. One more than the limit: activity is stamped with the second it fell into.
    fn deadline(&self) -> u32 {
        self.last.load(Ordering::Relaxed).saturating_add(self.limit.load(Ordering::Relaxed)).saturating_add(1)
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let left = self.clock.book().due.remove(&(self.due.load(Ordering::Relaxed), self.id));
        drop(left);
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(limit: Duration) -> u32 {
    let whole = limit.as_secs().saturating_add(u64::from(limit.subsec_nanos() > 0));
    u32::try_from(whole).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    struct Bell(AtomicUsize);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn sec(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_limit_is_never_cut_short() {
        let clock = Clock::new();
        let slot = clock.slot(sec(5));
        clock.advance(5);
        assert_eq!(slot.order(), None);
        clock.advance(1);
        assert_eq!(slot.order(), Some(EndOrder::Idle));
        assert_eq!(clock.registered(), 0);
    }

    #[test]
    fn activity_postpones_the_end() {
        let clock = Clock::new();
        let slot = clock.slot(sec(10));
        for _ in 0..100 {
            clock.advance(9);
            slot.touch();
        }
        assert_eq!(slot.order(), None);
        clock.advance(11);
        assert_eq!(slot.order(), Some(EndOrder::Idle));
    }

    #[test]
    fn a_dropped_slot_leaves_nothing_behind() {
        let clock = Clock::new();
        let slots: Vec<_> = (0..1000).map(|n| clock.slot(sec(n))).collect();
        clock.advance(100);
        drop(slots);
        assert_eq!(clock.registered(), 0);
    }

    #[test]
    fn the_first_order_stands_and_wakes_once() {
        let clock = Clock::new();
        let slot = clock.slot(Duration::MAX);
        let bell = Arc::new(Bell(AtomicUsize::new(0)));
        let waker = Waker::from(bell.clone());
        let cx = Context::from_waker(&waker);
        assert!(slot.poll_order(&cx).is_pending());
        slot.end(EndOrder::Kicked);
        slot.end(EndOrder::ShuttingDown);
        assert_eq!(bell.0.load(Ordering::SeqCst), 1);
        assert_eq!(slot.poll_order(&cx), Poll::Ready(EndOrder::Kicked));
    }

    #[test]
    fn shortening_counts_from_now_and_never_lengthens() {
        let clock = Clock::new();
        let slot = clock.slot(sec(3600));
        clock.advance(100);
        slot.shorten(sec(1));
        clock.advance(1);
        assert_eq!(slot.order(), None);
        clock.advance(1);
        assert_eq!(slot.order(), Some(EndOrder::Idle));

        let short = clock.slot(sec(2));
        short.shorten(sec(50));
        clock.advance(3);
        assert_eq!(short.order(), Some(EndOrder::Idle));
    }

    #[tokio::test]
    async fn a_running_clock_ends_an_idle_slot() {
        let clock = Clock::new();
        let slot = clock.slot(sec(1));
        let ticking = tokio::spawn(clock.clone().run());
        assert_eq!(std::future::poll_fn(|cx| slot.poll_order(cx)).await, EndOrder::Idle);
        ticking.abort();
    }

    #[test]
    fn never_is_never_and_time_does_not_wrap() {
        let clock = Clock::new();
        let slot = clock.slot(Duration::MAX);
        clock.advance(u32::MAX - 1);
        assert_eq!(slot.order(), None);
    }
}
