//! Working memory of a thread, lent for the length of one synchronous step.
//!
//! A session that waits owns no buffer: it borrows one when bytes are there and gives it back before it awaits, which
//! the closure enforces. Two are kept per thread, because a step may need one for ciphertext and one for plaintext.
//! Contents are left over from other sessions: callers look only at what they have just written.

use std::cell::RefCell;

/// Octets in one buffer: four TLS records of full size.
pub(crate) const SIZE: usize = 64 * 1024;

/// Buffers kept per thread; deeper nesting than the crate uses would allocate and free.
const KEPT: usize = 2;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `step` with a buffer of [`SIZE`] octets.
pub(crate) fn with<R>(step: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    let result = step(&mut buffer);
    POOL.with_borrow_mut(|pool| {
        if pool.len() < KEPT {
            pool.push(buffer);
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allocation_serves_many_steps() {
        let first = with(|buffer| buffer.as_ptr() as usize);
        for _ in 0..10 {
            assert_eq!(with(|buffer| buffer.as_ptr() as usize), first);
        }
    }

    #[test]
    fn nested_loans_are_distinct_and_the_pool_stays_small() {
        with(|a| with(|b| with(|c| assert!(a.as_ptr() != b.as_ptr() && b.as_ptr() != c.as_ptr()))));
        assert_eq!(POOL.with_borrow(Vec::len), KEPT);
    }
}
