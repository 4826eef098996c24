//! Conversations with a front in memory, for the tests of all fronts.

use super::{Front, LoginEvent, Refusal, Terms};
use crate::machine::Step;
use bytes::BytesMut;

/// Of a peer that nobody trusts, with TLS in place. A test says what is different for it.
pub(crate) fn terms() -> Terms {
    Terms {
        starttls: false,
        password_allowed: true,
        trusted: false,
        may_vouch: false,
        xclient_as_exim: false,
        server: "mail.example.com".into(),
        capability: String::new(),
        greeting: "Hello".into(),
        server_id: Vec::new(),
        retain_client_id: false,
    }
}

/// Everything there is to see of a conversation: what was said, the events, how it ended, what was left unread.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) out: String,
    pub(crate) events: Vec<String>,
    pub(crate) passwords: Vec<Vec<u8>>,
    pub(crate) left: Vec<u8>,
    pub(crate) most_held: usize,
}

/// Feeds pieces that end where `cuts` says; every login is refused, and TLS begins at once, under `secured`.
pub(crate) fn converse(front: &mut dyn Front, secured: &Terms, octets: &[u8], cuts: &[usize]) -> Seen {
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let (mut events, mut passwords, mut most_held, mut start) = (Vec::new(), Vec::new(), 0, 0);
    'fed: for end in cuts.iter().copied().filter(|end| *end <= octets.len()).chain([octets.len()]) {
        input.extend_from_slice(&octets[start..end]);
        start = end;
        loop {
            match front.step(&mut input, &mut out) {
                Ok(Step::NeedInput) => break,
                Ok(Step::Event(event)) => {
                    events.push(format!("{event:?}"));
                    if let LoginEvent::Login(login) = &event {
                        passwords.extend(login.password.as_ref().map(|password| password.expose().clone()));
                    }
                    match event {
                        LoginEvent::Login(_) | LoginEvent::Unspeakable { .. } => {
                            front.refuse(&Refusal::WrongCredentials, &mut out);
                        }
                        LoginEvent::Secure => front.secured(secured.clone()),
                        LoginEvent::Said(_) | LoginEvent::InClear { .. } => {}
                        LoginEvent::Bye | LoginEvent::HangUp => break 'fed,
                    }
                }
                Err(fault) => {
                    events.push(format!("{fault:?}"));
                    break 'fed;
                }
            }
        }
        most_held = most_held.max(input.len());
    }
    input.extend_from_slice(&octets[start..]);
    Seen { out: String::from_utf8_lossy(&out).into_owned(), events, passwords, left: input.to_vec(), most_held }
}
