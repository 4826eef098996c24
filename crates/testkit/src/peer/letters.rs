//! Mail that scripted servers have taken.

use std::sync::{Arc, Mutex, PoisonError};

use crate::wait::{PATIENCE, poll};

/// A message and its envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Who was signed in; empty if nobody was.
    pub user: String,
    /// The last EHLO or HELO in front of it.
    pub hello: String,
    /// The lines of the XCLIENT commands of its connection, as they came after `XCLIENT `.
    pub xclients: Vec<String>,
    /// What followed `MAIL FROM:`, parameters included.
    pub from: String,
    /// What followed `RCPT TO:`, for each recipient.
    pub to: Vec<String>,
    /// The message, byte for byte, without the dots that the protocol adds.
    pub data: Vec<u8>,
}

/// All messages, in the order in which they were taken. Clones are the same box.
#[derive(Clone, Debug, Default)]
pub struct Letters(Arc<Mutex<Vec<Letter>>>);

impl Letters {
    /// Those so far.
    pub fn all(&self) -> Vec<Letter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are `n`, and returns all.
    #[track_caller]
    pub fn wait_for(&self, n: usize) -> Vec<Letter> {
        match poll(PATIENCE, || Some(self.all()).filter(|all| all.len() >= n)) {
            Some(all) => all,
            None => panic!("waited for {n} messages; {} came", self.all().len()),
        }
    }

    pub(super) fn add(&self, letter: Letter) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
    }
}

impl Letter {
    /// The message as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}
