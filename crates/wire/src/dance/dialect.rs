//! What a protocol must know to dance: how to spell each request, and what a reply means.
//!
//! The dance owns the order of things, the caps, and which replies are owed. A [`Dialect`] owns spellings and the little
//! that follows from them: what the backend offers, and the rest of a command that waits for a go-ahead. A new protocol is
//! one file that implements this trait.

use super::{BackendNo, Plan, Stumble, StumbleKind};
use crate::overheard::Notes;
use bytes::BytesMut;

/// What the dance asks of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// What can you do? (`CAPABILITY`, `CAPA`, `EHLO`)
    Capability,
    /// Begin TLS. (`STARTTLS`, `STLS`)
    Secure,
    /// This is who is calling. (`ID`, `XCLIENT`)
    Introduce,
    /// Let this user in.
    SignIn,
}

/// Whether the backend can be asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It can.
    Yes,
    /// It said that it cannot, or did not list it.
    No,
    /// It must be asked for its capabilities first. Never after it answered that question.
    Unknown,
}

/// What was said, as far as it matters to what may be said next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Nothing may leave before the backend has spoken: the rest waits for a go-ahead, or the conversation starts anew.
    pub alone: bool,
    /// A secret was in it.
    pub secret: bool,
}

/// What a reply means.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was taken in, or is of no interest.
    Noted,
    /// A complete line for the client, if the user gets in; cleaned.
    Aside(Vec<u8>),
    /// The last word on this request. The dance checks that it was the oldest one open.
    Answer(Ask, Answer),
    /// The backend wants the rest of what was begun.
    GoAhead,
    /// The backend takes its leave, with these words, cleaned.
    Bye(String),
}

/// How a request was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with these words, cleaned.
    Yes(String),
    /// No. For a sign-in this is what becomes of the login.
    No(BackendNo),
    /// The backend does not know such a request; its words, cleaned.
    NotUnderstood(String),
}

/// One protocol, seen from its client side.
pub trait Dialect: Send {
    /// The octets of the first whole reply in `input`, or `None` while it is not all here. `greeted` is false for the
    /// greeting, where another protocol is recognised as early as possible. No reply is longer than `most`.
    ///
    /// # Errors
    /// What is here cannot become a reply.
    fn border(&self, input: &[u8], greeted: bool, most: usize) -> Result<Option<usize>, Stumble>;

    /// Hears one reply of the greeting. `true` when the greeting is complete.
    ///
    /// # Errors
    /// It is not a greeting that leads to a login.
    fn greeting(&mut self, reply: &[u8]) -> Result<bool, Stumble>;

    /// Whether servers greet once more behind TLS, unasked: then that greeting is heard first.
    fn greets_anew(&self) -> bool {
        false
    }

    /// Hears one reply behind the greeting; `oldest` is the first request that is still open.
    ///
    /// # Errors
    /// The reply is not in the grammar, or belongs to nothing that was said.
    fn hear(&mut self, reply: &[u8], oldest: Option<Ask>) -> Result<Heard, Stumble>;

    /// Whether the backend can be asked for this, as far as it has told.
    fn offer(&self, ask: Ask) -> Offer;

    /// Says a request, appending to `out`.
    ///
    /// # Errors
    /// The backend offers no way to say it; then nothing was appended.
    fn say(&mut self, ask: Ask, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble>;

    /// Says the next part of what was begun.
    ///
    /// # Errors
    /// There is nothing more to say.
    fn say_on(&mut self, out: &mut BytesMut) -> Result<Said, Stumble>;

    /// TLS is in place: what was told before it counts for nothing, where the protocol has a way to tell it again.
    fn secured(&mut self);

    /// The capabilities told before the sign-in, since TLS where there is TLS.
    fn capability(&self) -> Option<&str>;

    /// The capabilities told since the sign-in, for the client.
    fn capability_after(&self) -> Option<&str>;

    /// Whether the client is to be told capabilities after the sign-in, and the backend has told none of its own accord.
    fn lacks_capability(&self) -> bool;

    /// Whether a backend that offers to hear who is calling grants a right by it, so that a no to what we said matters
    /// (`XCLIENT`). False where the answer says nothing about that (IMAP `ID`).
    fn introduction_is_a_right(&self) -> bool;

    /// Keys of the introduction that were not sent.
    fn left_out(&self) -> &[String];

    /// Where it notes what it says, as it may be shown.
    fn notes(&mut self) -> &mut Notes;

    /// The name of a request in the state shown to operators; a sign-in may be in different parts.
    fn label(&self, ask: Ask) -> &'static str;
}

/// What a peer that does not speak the expected protocol seems to speak, by its first four octets. `None` also where there
/// are fewer, and where it is `expected`: `IMAP`, `POP3`, `ManageSieve` or `SMTP`.
pub fn foreign(head: &[u8], expected: &str) -> Option<&'static str> {
    let (protocol, what) = match head {
        [b'+', b'O', b'K', _, ..] | [b'-', b'E', b'R', b'R', ..] => ("POP3", "POP3's: is the port right?"),
        [b'*', b' ', b'O' | b'B' | b'P', b'K' | b'Y' | b'R', ..] => ("IMAP", "IMAP's: is the port right?"),
        [b'2' | b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b' ' | b'-', ..] => ("SMTP", "SMTP's or FTP's: is the port right?"),
        [b'H', b'T', b'T', b'P', ..] => ("HTTP", "HTTP's: is the port right?"),
        [b'S', b'S', b'H', b'-', ..] => ("SSH", "SSH's: is the port right?"),
        [b'"', b'A'..=b'Z' | b'a'..=b'z', _, _, ..] => ("ManageSieve", "ManageSieve's: is the port right?"),
        // A handshake or an alert record of TLS 1.x.
        [0x15 | 0x16, 3, 0..=4, _, ..] => ("TLS", "a TLS record: should this route say ssl=yes?"),
        _ => return None,
    };
    (protocol != expected).then_some(what)
}

/// A stumble over the backend's breach of the protocol.
pub fn protocol(detail: impl Into<String>) -> Stumble {
    Stumble::new(StumbleKind::Protocol, detail)
}
