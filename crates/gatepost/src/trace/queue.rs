//! What waits for one tracer: whole lines of JSON, so many octets at most. What does not fit is counted.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The most octets that wait for one tracer.
const OCTETS_MAX: usize = 1 << 20;
/// The most that it gets at once.
const AT_ONCE: usize = 64 << 10;

/// Lines for one tracer.
#[derive(Default)]
pub struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Bytes>,
    octets: usize,
    /// Lost since this was last told, and in all.
    lost: u64,
    lost_ever: u64,
    told: u64,
    waker: Option<Waker>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a line in, or counts it as lost.
    pub fn push(&self, line: &Bytes) {
        let waker = {
            let mut waiting = self.waiting();
            // Behind a loss nothing is let in before it has been told: the gap is where it is told.
            if waiting.lost > 0 || waiting.octets.saturating_add(line.len()) > OCTETS_MAX {
                waiting.lost = waiting.lost.saturating_add(1);
                waiting.lost_ever = waiting.lost_ever.saturating_add(1);
            } else {
                waiting.octets = waiting.octets.saturating_add(line.len());
                waiting.lines.push_back(line.clone());
            }
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next lines, and how many were lost behind them.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<(Vec<u8>, u64)> {
        let mut waiting = self.waiting();
        if waiting.lines.is_empty() && waiting.lost == 0 {
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut text = Vec::new();
        while text.len() < AT_ONCE
            && let Some(line) = waiting.lines.pop_front()
        {
            waiting.octets = waiting.octets.saturating_sub(line.len());
            waiting.told = waiting.told.saturating_add(1);
            text.extend_from_slice(&line);
        }
        let lost = if waiting.lines.is_empty() { std::mem::take(&mut waiting.lost) } else { 0 };
        Poll::Ready((text, lost))
    }

    /// How many lines were handed on, and how many were lost.
    pub fn counts(&self) -> (u64, u64) {
        let waiting = self.waiting();
        (waiting.told, waiting.lost_ever)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_the_gap_is_told_where_it_is() {
        let queue = Queue::default();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(queue.poll(&mut cx).is_pending());
        let line = Bytes::from(vec![b'x'; 1000]);
        for _ in 0..2000 {
            queue.push(&line);
        }
        let mut got = 0;
        let lost = loop {
            let Poll::Ready((text, lost)) = queue.poll(&mut cx) else { panic!("there is more") };
            got += text.len() / 1000;
            if lost > 0 {
                break lost;
            }
        };
        assert_eq!((got as u64 + lost, got), (2000, OCTETS_MAX / 1000));
        assert!(queue.poll(&mut cx).is_pending());
        assert_eq!(queue.counts(), (got as u64, lost));
        queue.push(&line);
        assert!(queue.poll(&mut cx).is_ready());
    }
}
