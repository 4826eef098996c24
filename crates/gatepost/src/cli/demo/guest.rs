//! Who has signed in to one of the demo's mail servers, and what that leaves there.
//!
//! A [`Guest`] is all that the server behind a login may need to know; a protocol takes of it what it has a use for. What a
//! server takes in is told as [`Took`], and of that only scripts are kept, on a [`Shelf`] in memory.

use super::letters::Letter;
use super::managesieve::Shelf;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Somebody who has signed in.
pub struct Guest {
    /// Where.
    pub server: &'static str,
    /// What lies in the mailbox.
    pub letters: Arc<[Letter]>,
    /// The scripts of the mailbox.
    pub shelf: Arc<Mutex<Shelf>>,
    /// Where the guest comes from.
    pub arrival: Arrival,
}

/// What a server knows of where its guest comes from: what it was told, or else what it sees itself.
#[derive(Debug)]
pub struct Arrival {
    /// The client's address.
    pub client: SocketAddr,
    /// What it called itself.
    pub helo: Option<String>,
    /// Its own connection is protected.
    pub protected: bool,
}

impl Arrival {
    /// What stands behind `Received:`, as far as it does not change from one run to the next (RFC 5321 section 4.4, RFC 3848).
    /// `with`: the protocol in clear, and in TLS.
    pub fn received(&self, server: &str, with: [&str; 2]) -> String {
        let helo = self.helo.as_deref().unwrap_or("unknown");
        let [clear, secure] = with;
        let with = if self.protected { secure } else { clear };
        format!("from {helo} ([{}]:{}) by {server} with {with}", self.client.ip(), self.client.port())
    }
}

/// A letter that was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// From whom; nobody where empty.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
    /// The letter, without the dots that only SMTP needs.
    pub octets: Vec<u8>,
    /// See [`Arrival::received`].
    pub received: String,
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
    /// A letter, which it does not keep.
    Letter(Box<Sent>),
    /// The word that this script is to be used from now on; or none.
    Active(Option<String>),
}

impl Took {
    /// The letter, where it is one.
    pub fn letter(&self) -> Option<&[u8]> {
        match self {
            Took::Letter(letter) => Some(&letter.octets),
            Took::Script { .. } | Took::Active(_) => None,
        }
    }
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Took::Script { name, octets } => write!(f, "stored the script {name:?}, {octets} octets"),
            Took::Letter(letter) => {
                let Sent { from, to, octets, received } = &**letter;
                let (octets, to) = (octets.len(), to.join(">, <"));
                write!(f, "took a letter of {octets} octets from <{from}> to <{to}>; Received: {received}")
            }
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
        Guest { server, letters: letters.into(), shelf: Arc::default(), arrival: Arrival::of_test() }
    }
}

#[cfg(test)]
impl Arrival {
    /// Nobody told where from.
    pub fn of_test() -> Arrival {
        Arrival { client: SocketAddr::from(([127, 0, 0, 1], 7)), helo: None, protected: false }
    }
}
