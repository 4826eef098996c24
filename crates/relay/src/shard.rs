//! Shards: one thread, one single-threaded runtime, its own sockets and sessions.
//!
//! A session lives and dies on its shard, so relaying takes no lock and wakes no other thread. Session futures are
//! nevertheless kept `Send`: a work-stealing runtime stays one switch away. A panic in a spawned task ends that task
//! only; a panic in the shard's own future ends that shard and is reported by [`Shard::join`].

use std::any::Any;
use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};

/// A running shard.
#[derive(Debug)]
pub struct Shard {
    /// Its number, counted from 0; the thread is named `shard-N`.
    pub index: usize,
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Shard {
    /// The runtime, for spawning onto this shard from elsewhere.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether its future has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits (blocking) until the shard's future has ended. Tasks still running on the shard are dropped with it.
    ///
    /// # Errors
    /// The text of the panic that ended the shard.
    pub fn join(self) -> Result<(), String> {
        self.thread.join().map_err(|panic| format!("shard {} panicked: {}", self.index, text_of(panic.as_ref())))
    }
}

/// Starts `n` shards; each runs the future that `main` makes for its number, on a thread of its own.
///
/// # Errors
/// If a runtime (epoll descriptors) or a thread cannot be had. Shards started before that keep running detached until
/// their future ends, so treat it as fatal.
pub fn spawn_shards<M, F>(n: usize, main: M) -> io::Result<Vec<Shard>>
where
    M: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = ()>,
{
    // All runtimes first: running out of descriptors is found before anything runs.
    let mut runtimes = Vec::with_capacity(n);
    for _ in 0..n {
        runtimes.push(Builder::new_current_thread().enable_all().build()?);
    }
    let mut shards = Vec::with_capacity(n);
    for (index, runtime) in runtimes.into_iter().enumerate() {
        let main = main.clone();
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || runtime.block_on(main(index)))?;
        shards.push(Shard { index, handle, thread });
    }
    Ok(shards)
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no text"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn each_shard_has_its_number_and_its_thread() {
        let sum = Arc::new(AtomicUsize::new(0));
        let seen = sum.clone();
        let shards = spawn_shards(3, move |index| {
            let seen = seen.clone();
            async move {
                assert_eq!(std::thread::current().name(), Some(format!("shard-{index}").as_str()));
                seen.fetch_add(index + 1, Ordering::Relaxed);
            }
        })
        .unwrap();
        for shard in shards {
            shard.join().unwrap();
        }
        assert_eq!(sum.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn a_panic_in_a_task_ends_that_task_only() {
        let shards = spawn_shards(1, |_| async {
            let lost = tokio::spawn(async { panic!("one session") }).await;
            assert!(lost.unwrap_err().is_panic());
            assert_eq!(tokio::spawn(async { 7 }).await.unwrap(), 7);
        })
        .unwrap();
        for shard in shards {
            shard.join().unwrap();
        }
    }

    #[test]
    fn a_shard_s_own_panic_is_reported() {
        let shards = spawn_shards(1, |_| async { panic!("the shard itself") }).unwrap();
        let said = shards.into_iter().next().unwrap().join().unwrap_err();
        assert!(said.contains("the shard itself"), "{said}");
    }
}
