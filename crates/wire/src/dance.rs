//! The one backend login: greeting, TLS, fresh capabilities, introduction, sign-in.
//!
//! Every mail login is the same dance, so there is one machine, [`Dance`], over a [`Dialect`] per protocol:
//!
//! ```text
//! greeting -> [secure -> again] -> capabilities -> [introduce] -> sign in -> done, leftover bytes
//! ```

use crate::login::{Mechanism, Welcome};
use crate::origin::{ForwardField, Origin};
use crate::secret::Password;

/// When TLS begins on the connection to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// Never: the connection stays in clear.
    Never,
    /// After the greeting, by the protocol's own command.
    StartTls,
    /// It is in place before the greeting.
    Implicit,
}

/// How to sign in.
#[derive(Debug)]
pub struct SignIn {
    /// The mailbox: `destuser`, else the user.
    pub user: String,
    /// The master user who signs in for the user; forces SASL.
    pub master: Option<String>,
    /// The password of the master user where there is one, else of the user.
    pub password: Password,
    /// The SASL mechanism asked for (`proxy_mech`); `None` takes the protocol's own.
    pub mechanism: Option<Mechanism>,
}

/// Who is calling, as it is to be told.
#[derive(Debug)]
pub struct Introduction {
    /// What we believe, with the hop already spent.
    pub origin: Origin,
    /// What the client said of itself, where it is retained.
    pub client_id: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Pairs that the user database adds behind the received ones.
    pub forward: Vec<ForwardField>,
}

/// What is to be done on a fresh connection.
#[derive(Debug)]
pub struct Plan {
    /// When TLS begins.
    pub secure: Secure,
    /// Whom to introduce; `None` for backends that must not be told (`proxy_not_trusted`).
    pub introduce: Option<Introduction>,
    /// How to sign in.
    pub sign_in: SignIn,
    /// Wait for each reply before the next command (`proxy_nopipelining`).
    pub one_at_a_time: bool,
}

/// What the dance reports.
#[derive(Debug)]
pub enum DanceEvent {
    /// The backend is ready for TLS. If any byte waits in `input`, give up; else shake hands and call [`Dance::secured`].
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
}

/// A dance that could not be finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stumble {
    /// Why.
    pub kind: StumbleKind,
    /// What happened, for the log: printable, at most 512 octets.
    pub detail: String,
}
