//! What comes of a dance: what it reports on the way, the backend's no, and why it could not be finished.
//!
//! Texts are the backend's words, cleaned, cut and without our own password. What a client may hear of them is for others.

use crate::login::Welcome;

/// What the dance reports.
#[derive(Debug)]
pub enum DanceEvent {
    /// The backend is ready for TLS. If any byte waits in `input`, give up; else shake hands and call
    /// [`Dance::secured`](super::Dance::secured).
    Secure,
    /// The user is in. What is left in `input` belongs to the client.
    Welcome(Welcome),
    /// The backend said no to the login.
    Refused(BackendNo),
}

/// What kind of no it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKind {
    /// Wrong credentials, or a no without a reason.
    Credentials,
    /// May not act as that user.
    NotAuthorized,
    /// Try later.
    Unavailable,
    /// Too many connections.
    Limit,
    /// In use.
    InUse,
    /// See the administrator.
    ContactAdmin,
    /// The password has expired.
    Expired,
    /// A text for the person.
    Alert,
    /// The backend's own misconfiguration.
    ServerBug,
}

/// The backend's no: for the log in full, for the client only what [`NoKind`] allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendNo {
    /// What kind of no.
    pub kind: NoKind,
    /// The reply, printable, one line, at most 512 octets.
    pub text: String,
}

/// Why the dance could not be finished, other than by a no to the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StumbleKind {
    /// Not this protocol, junk, a wrong tag, too long, replies ahead of commands.
    Protocol,
    /// The backend refused a step for now (STARTTLS answered NO, BYE in the greeting).
    Refused,
    /// The backend cannot do what the route demands (no STARTTLS, LOGINDISABLED, no usable mechanism, PREAUTH).
    NotOffered,
    /// A value cannot be said in this protocol (control characters in a user or password).
    Unspeakable,
    /// The backend refused to hear who is calling, and may have believed a part of it. The login may go on all the same
    /// ([`IdentityRefused::Continue`](super::IdentityRefused::Continue)), but not on this connection. The detail is its words.
    HalfTold,
}

/// A dance that could not be finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stumble {
    /// Why.
    pub kind: StumbleKind,
    /// What happened, for the log: printable, at most 512 octets.
    pub detail: String,
}

impl Stumble {
    /// A stumble with a detail that may quote the backend's cleaned words; it is cut here.
    pub fn new(kind: StumbleKind, detail: impl Into<String>) -> Stumble {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(512));
        Stumble { kind, detail }
    }
}
