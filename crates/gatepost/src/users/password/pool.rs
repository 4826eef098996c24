//! The threads that compare passwords.
//!
//! As many as there are processors, with a short queue: one slow hash takes a core for a good part of a second, and an I/O
//! thread that did it would stop hundreds of sessions. When the queue is full the login fails with "try later" at once.

use super::super::workers::{Refused, Workers};
use super::Verifier;
use crate::failure::{Failure, Kind, Side};
use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::time::timeout;
use wire::secret::Password;

/// How many comparisons may wait.
pub const QUEUE: usize = 64;

/// The pool.
pub struct Pool {
    workers: Workers<()>,
    deadline: Duration,
}

impl Pool {
    /// Starts one thread for each processor. `deadline` is for waiting and comparing together.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(deadline: Duration) -> io::Result<Pool> {
        let threads = available_parallelism().map_or(1, NonZero::get);
        Ok(Pool { workers: Workers::start("passwords", threads, QUEUE, || ())?, deadline })
    }

    /// Compares.
    ///
    /// # Errors
    /// When there is no verdict: the pool is overloaded or late (`Kind::Lookup`), or the verifier is not
    /// usable (`Kind::Row`). None of these is a wrong password.
    pub async fn matches(&self, verifier: &Verifier, password: &Password) -> Result<bool, Failure> {
        let (verifier, password) = (verifier.clone(), password.clone());
        match timeout(self.deadline, self.workers.run(move |()| verifier.matches(&password))).await {
            Ok(Ok(Ok(verdict))) => Ok(verdict),
            Ok(Ok(Err(why))) => Err(Failure::new(Side::Users, Kind::Row, why.0)),
            Ok(Err(Refused::Full)) => {
                Err(Failure::new(Side::Us, Kind::Lookup, format!("{QUEUE} password comparisons are waiting already")))
            }
            Ok(Err(Refused::Lost)) => Err(Failure::new(Side::Us, Kind::Internal, "a password comparison was lost")),
            Err(_) => {
                let text = format!("a password comparison took longer than {:?}", self.deadline);
                Err(Failure::new(Side::Us, Kind::Lookup, text))
            }
        }
    }
}
