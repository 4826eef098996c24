//! A few threads with a short queue, for work that blocks or burns: database calls, file reads, password hashes.
//!
//! The I/O threads never wait for such work, they await it. The queue has a limit, and a full queue is an answer
//! ([`Refused::Full`]) and not a wait: the caller says "try later" at once instead of piling up. Work whose caller has
//! gone away while it was queued is not done at all.
//!
//! Each thread owns a state `S` (a connection, say). A panic in the work costs the one caller its answer; the state is
//! then made anew, because nobody knows what the panic left in it.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::oneshot;

/// The threads. They end when this is dropped, each after the work it has in hand.
pub(super) struct Workers<S> {
    desk: Arc<Desk<S>>,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue is full.
    Full,
    /// The work was lost: it panicked.
    Lost,
}

impl<S: 'static> Workers<S> {
    /// Starts `threads` threads named `name`, with room for `limit` waiting pieces of work. `state` makes a thread's state,
    /// in that thread.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        name: &str,
        threads: usize,
        limit: usize,
        state: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let desk =
            Arc::new(Desk { queue: Mutex::new(Queue { waiting: VecDeque::new(), closed: false }), ready: Condvar::new(), limit });
        // From here on dropping `workers` ends what was started, also when a later thread fails.
        let workers = Workers { desk };
        let state: Arc<dyn Fn() -> S + Send + Sync> = Arc::new(state);
        for _ in 0..threads {
            let (desk, state) = (Arc::clone(&workers.desk), Arc::clone(&state));
            thread::Builder::new().name(name.to_owned()).spawn(move || desk.serve(&*state))?;
        }
        Ok(workers)
    }

    /// Has `work` done and waits for its result. Dropping the future takes the work back if it has not begun.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut S) -> T + Send + 'static) -> Result<T, Refused> {
        let (say, hear) = oneshot::channel();
        {
            let mut queue = self.desk.lock();
            if queue.waiting.len() >= self.desk.limit {
                // While all threads hang, callers run into their deadlines and leave; what they left must not keep others out.
                queue.waiting.retain(|piece| !piece.abandoned());
            }
            if queue.waiting.len() >= self.desk.limit {
                return Err(Refused::Full);
            }
            queue.waiting.push_back(Box::new(Ordered { work, say }));
        }
        self.desk.ready.notify_one();
        hear.await.map_err(|_| Refused::Lost)
    }
}

impl<S> Drop for Workers<S> {
    fn drop(&mut self) {
        let mut queue = self.desk.lock();
        queue.closed = true;
        queue.waiting.clear();
        drop(queue);
        self.desk.ready.notify_all();
    }
}

/// A piece of work in the queue.
trait Piece<S>: Send {
    fn abandoned(&self) -> bool;
    fn run(self: Box<Self>, state: &mut S);
}

struct Ordered<W, T> {
    work: W,
    say: oneshot::Sender<T>,
}

impl<S, T: Send, W: FnOnce(&mut S) -> T + Send> Piece<S> for Ordered<W, T> {
    fn abandoned(&self) -> bool {
        self.say.is_closed()
    }

    fn run(self: Box<Self>, state: &mut S) {
        if !self.abandoned() {
            // The caller may leave while we work; then the result is nobody's.
            let _ = self.say.send((self.work)(state));
        }
    }
}

struct Desk<S> {
    queue: Mutex<Queue<S>>,
    ready: Condvar,
    limit: usize,
}

struct Queue<S> {
    waiting: VecDeque<Box<dyn Piece<S>>>,
    closed: bool,
}

impl<S> Desk<S> {
    fn lock(&self) -> MutexGuard<'_, Queue<S>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, make: &(dyn Fn() -> S + Send + Sync)) {
        let mut state = make();
        while let Some(piece) = self.next() {
            if catch_unwind(AssertUnwindSafe(|| piece.run(&mut state))).is_err() {
                state = make();
            }
        }
    }

    fn next(&self) -> Option<Box<dyn Piece<S>>> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(piece) = queue.waiting.pop_front() {
                return Some(piece);
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::time::timeout;

    /// Waits until a thread has taken up what is to keep it busy.
    async fn begun<S: 'static, T>(workers: &Workers<S>, busy: &mut (impl Future<Output = T> + Unpin)) {
        while timeout(Duration::from_millis(5), &mut *busy).await.is_err() && !workers.desk.lock().waiting.is_empty() {}
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_recovers() {
        let workers = Workers::start("test", 1, 1, || ()).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let busy = workers.run(move |()| gate.recv().is_ok());
        tokio::pin!(busy);
        begun(&workers, &mut busy).await;
        let queued = workers.run(|()| 2);
        tokio::pin!(queued);
        assert!(timeout(Duration::from_millis(20), &mut queued).await.is_err(), "one waits");
        assert_eq!(workers.run(|()| 3).await, Err(Refused::Full));
        go.send(()).unwrap();
        assert_eq!(busy.await, Ok(true));
        assert_eq!(queued.await, Ok(2));
        assert_eq!(workers.run(|()| 4).await, Ok(4));
    }

    #[tokio::test]
    async fn a_panic_costs_one_caller_and_renews_the_state() {
        let workers = Workers::start("test", 1, 4, || 0).unwrap();
        let work = |n: &mut i32| {
            *n += 1;
            *n
        };
        assert_eq!(workers.run(work).await, Ok(1));
        assert_eq!(workers.run(work).await, Ok(2));
        assert_eq!(workers.run(|_| panic!("expected in this test")).await, Err::<(), _>(Refused::Lost));
        assert_eq!(workers.run(work).await, Ok(1));
    }

    #[tokio::test]
    async fn work_whose_caller_left_is_not_done() {
        let workers = Workers::start("test", 1, 4, Vec::<&str>::new).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let busy = workers.run(move |_| gate.recv().is_ok());
        tokio::pin!(busy);
        begun(&workers, &mut busy).await;
        assert!(timeout(Duration::from_millis(20), workers.run(|done: &mut Vec<&str>| done.push("left"))).await.is_err());
        go.send(()).unwrap();
        assert_eq!(workers.run(|done: &mut Vec<&str>| done.clone()).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn abandoned_work_frees_its_place_while_the_thread_hangs() {
        let workers = Workers::start("test", 1, 1, || ()).unwrap();
        let (go, gate) = mpsc::channel::<()>();
        let busy = workers.run(move |()| gate.recv().is_ok());
        tokio::pin!(busy);
        begun(&workers, &mut busy).await;
        assert!(timeout(Duration::from_millis(20), workers.run(|()| 1)).await.is_err(), "waits, then leaves");
        let next = workers.run(|()| 2);
        tokio::pin!(next);
        assert!(timeout(Duration::from_millis(20), &mut next).await.is_err(), "takes the place that was left");
        go.send(()).unwrap();
        assert_eq!(next.await, Ok(2));
    }

    #[tokio::test]
    async fn dropping_ends_the_threads() {
        let alive = Arc::new(());
        let kept = Arc::clone(&alive);
        let workers = Workers::start("test", 3, 4, move || Arc::clone(&kept)).unwrap();
        assert_eq!(workers.run(|_| ()).await, Ok(()));
        drop(workers);
        for _ in 0..200 {
            if Arc::strong_count(&alive) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("threads go on");
    }
}
