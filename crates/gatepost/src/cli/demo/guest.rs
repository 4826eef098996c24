//! Who has signed in to one of the demo's mail servers, and what that leaves there.
//!
//! A [`Guest`] is all that the server behind a login may need to know; a protocol takes of it what it has a use for. What a server
//! takes in is told as [`Took`], and of that only scripts are kept, on a [`Shelf`] in memory.

use super::letters::Letter;
use super::managesieve::Shelf;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Somebody who has signed in.
pub struct Guest {
    /// Where.
    pub server: &'static str,
    /// What lies in the mailbox.
    pub letters: Arc<[Letter]>,
    /// The scripts of the mailbox.
    pub shelf: Arc<Mutex<Shelf>>,
}

/// What a server took in.
#[derive(Debug, PartialEq, Eq)]
pub enum Took {
    /// A script, which it keeps until the demo ends.
    Script {
        /// Its name.
        name: String,
        /// How long it is.
        octets: usize,
    },
    /// The word that this script is to be used from now on; or none.
    Active(Option<String>),
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Took::Script { name, octets } => write!(f, "stored the script {name:?}, {octets} octets"),
            Took::Active(Some(name)) => write!(f, "the script {name:?} is the active one now"),
            Took::Active(None) => f.write_str("no script is active now"),
        }
    }
}

#[cfg(test)]
impl Guest {
    /// Somebody who was led here by nobody.
    pub fn of_test(server: &'static str) -> Guest {
        let letters = if server == "west" { super::letters::of_west() } else { super::letters::of_east() };
        Guest { server, letters: letters.into(), shelf: Arc::default() }
    }
}
