//! What backends can do, learnt from what they say before login.
//!
//! Clients trust the list they see before login, so it must be true for all of them: it is the intersection of what the
//! backends that users were signed in at lately have told. Before the first login after a start nothing is known yet, and
//! only what Gatepost itself can do is said; `capability` in the configuration replaces learning.

use crate::protocol::Protocol;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most backends that are remembered; what others say changes nothing.
const BACKENDS_MAX: usize = 1024;
/// What is taken of one backend's list.
const WORDS_MAX: usize = 64;
const OCTETS_MAX: usize = 1024;
/// A backend that nobody was signed in at for so long is no longer counted: it may be gone.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Lists by protocol and backend.
#[derive(Default)]
pub struct Learnt(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    by_backend: HashMap<(&'static str, SocketAddr), (Box<str>, Instant)>,
    common: HashMap<&'static str, Box<str>>,
    swept: Option<Instant>,
}

impl Learnt {
    /// A backend told its list before login.
    pub fn told(&self, protocol: &'static Protocol, backend: SocketAddr, list: &str) {
        self.told_at(protocol, backend, list, Instant::now());
    }

    fn told_at(&self, protocol: &'static Protocol, backend: SocketAddr, list: &str, now: Instant) {
        let list = bounded(&(protocol.tellable)(list));
        let tables = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sweep = tables.swept.is_none_or(|swept| now.duration_since(swept) >= REMEMBERED / 10);
        if sweep {
            tables.swept = Some(now);
            tables.by_backend.retain(|_, (_, seen)| now.duration_since(*seen) < REMEMBERED);
        }
        let key = (protocol.name, backend);
        let known = tables.by_backend.len();
        let new = match tables.by_backend.get_mut(&key) {
            Some((have, seen)) => {
                *seen = now;
                let new = **have != *list;
                *have = list.into();
                new
            }
            None if known >= BACKENDS_MAX => false,
            None => {
                tables.by_backend.insert(key, (list.into(), now));
                true
            }
        };
        if new || sweep {
            tables.find_common(protocol.name);
        }
    }

    /// What all of them can do.
    pub fn common(&self, protocol: &Protocol) -> String {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.common.get(protocol.name).map(|list| list.to_string()).unwrap_or_default()
    }
}

/// A list that is taken in: each word once, and no more than a greeting can bear. One backend must not burden them all.
fn bounded(list: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut octets = 0;
    for word in list.split_ascii_whitespace() {
        octets += word.len() + 1;
        if words.len() >= WORDS_MAX || octets > OCTETS_MAX {
            break;
        }
        if !words.iter().any(|have| have.eq_ignore_ascii_case(word)) {
            words.push(word);
        }
    }
    words.join(" ")
}

impl Tables {
    fn find_common(&mut self, protocol: &'static str) {
        let mut lists = self.by_backend.iter().filter(|((name, _), _)| *name == protocol).map(|(_, (list, _))| list);
        let mut common: Vec<&str> = lists.next().map(|list| list.split_ascii_whitespace().collect()).unwrap_or_default();
        for other in lists {
            common.retain(|word| other.split(' ').any(|have| have.eq_ignore_ascii_case(word)));
        }
        // A table has no order; clients and tests like one.
        common.sort_unstable_by_key(|word| word.to_ascii_uppercase());
        self.common.insert(protocol, common.join(" ").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_what_every_backend_can_do() {
        let imap = crate::protocol::find("imap").unwrap();
        let learnt = Learnt::default();
        assert_eq!(learnt.common(imap), "");
        learnt.told(imap, "10.0.0.1:143".parse().unwrap(), "IMAP4rev1 IDLE ENABLE STARTTLS AUTH=PLAIN CONDSTORE");
        assert_eq!(learnt.common(imap), "CONDSTORE ENABLE IDLE");
        learnt.told(imap, "10.0.0.2:143".parse().unwrap(), "IMAP4rev1 IDLE ENABLE");
        assert_eq!(learnt.common(imap), "ENABLE IDLE");
        learnt.told(imap, "10.0.0.2:143".parse().unwrap(), "IMAP4rev1 IDLE ENABLE condstore");
        assert_eq!(learnt.common(imap).to_ascii_uppercase(), "CONDSTORE ENABLE IDLE", "an upgrade is noticed");
    }

    #[test]
    fn a_list_that_is_too_long_is_cut() {
        let imap = crate::protocol::find("imap").unwrap();
        let learnt = Learnt::default();
        let long: String = (0..5000).map(|n| format!("X{} X{} ", n % 1000, n % 1000)).collect();
        learnt.told(imap, "10.0.0.1:143".parse().unwrap(), &long);
        assert_eq!(learnt.common(imap).split(' ').count(), WORDS_MAX);
    }

    #[test]
    fn a_backend_that_is_gone_is_forgotten() {
        let imap = crate::protocol::find("imap").unwrap();
        let (learnt, start) = (Learnt::default(), Instant::now());
        learnt.told_at(imap, "10.0.0.1:143".parse().unwrap(), "IDLE", start);
        learnt.told_at(imap, "10.0.0.2:143".parse().unwrap(), "IDLE CONDSTORE", start + REMEMBERED / 2);
        assert_eq!(learnt.common(imap), "IDLE");
        learnt.told_at(imap, "10.0.0.2:143".parse().unwrap(), "IDLE CONDSTORE", start + REMEMBERED);
        assert_eq!(learnt.common(imap), "CONDSTORE IDLE");
    }
}
