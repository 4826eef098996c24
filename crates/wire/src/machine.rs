//! The shape of every conversation: bytes in, bytes out, events.
//!
//! A machine consumes what it understands from the input buffer and leaves the rest, so that at hand-over the bytes it
//! did not read are simply still there: nothing is lost, repeated or read twice.

use bytes::BytesMut;
use std::fmt;

/// A conversation that is driven with bytes.
pub trait Machine {
    /// What the machine has to tell its driver.
    type Event;

    /// Consumes what it understands from `input` and appends what must be said to `out`.
    ///
    /// # Errors
    /// A [`Fault`] ends the conversation; what the peer should still hear has been appended to `out` already.
    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<Self::Event>, Fault>;
}

/// What came of one step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<E> {
    /// Nothing to tell: send what is in `out`, then read more.
    NeedInput,
    /// Something to tell: send what is in `out`, act on it, then step again with what is left of the input.
    Event(E),
}

/// Which kind of rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The peer broke a rule of the protocol.
    Peer,
    /// The peer went over one of our limits.
    Limit,
    /// We drove the machine in a way its contract forbids.
    Misuse,
}

/// The end of a conversation, and whose fault it was.
///
/// `rule` is a fixed name for logs and counters; `detail` may quote the peer, escaped and cut, and never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault it was.
    pub blame: Blame,
    /// The rule that was broken, a fixed short name such as `line-too-long`.
    pub rule: &'static str,
    /// What happened, for the log.
    pub detail: String,
}

impl Fault {
    /// The peer broke a rule.
    pub fn peer(rule: &'static str, detail: impl Into<String>) -> Self {
        Fault { blame: Blame::Peer, rule, detail: detail.into() }
    }

    /// The peer went over a limit.
    pub fn limit(rule: &'static str, detail: impl Into<String>) -> Self {
        Fault { blame: Blame::Limit, rule, detail: detail.into() }
    }

    /// The driver broke the contract.
    pub fn misuse(rule: &'static str, detail: impl Into<String>) -> Self {
        Fault { blame: Blame::Misuse, rule, detail: detail.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.rule)
    }
}

impl std::error::Error for Fault {}
