//! What went wrong, sorted by side and consequence, and the one place that decides what a client may hear of it.

use std::fmt;
use wire::dance::{BackendNo, NoKind};
use wire::login::Refusal;

/// On which side of Gatepost the trouble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client.
    Client,
    /// The mail server behind us.
    Backend,
    /// A user database, or what stands in it.
    Users,
    /// Gatepost itself: its configuration or its machine.
    Us,
}

/// What kind of trouble. The names are stable: they stand in the journal as `reason=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Wrong password, unknown user, or not allowed from here.
    Credentials,
    /// The user may not act as the user asked for.
    NotAuthorized,
    /// A password in clear where the configuration forbids it.
    PrivacyRequired,
    /// A user database is in trouble.
    Lookup,
    /// A row says something impossible; the detail names the field.
    Row,
    /// A name could not be resolved.
    Dns,
    /// The backend could not be connected.
    Connect,
    /// TLS with the backend failed.
    BackendTls,
    /// The backend closed before the login was answered.
    BackendClosed,
    /// The backend did not speak the protocol.
    BackendProtocol,
    /// The backend cannot do what the route demands.
    BackendConfig,
    /// The deadline passed.
    Timeout,
    /// The backend said no.
    BackendNo(BackendNo),
    /// Proxies are looping, or the route leads to ourselves.
    Loop,
    /// A limit of ours.
    Limit,
    /// A fault of ours.
    Internal,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The next address may do better; the password was not sent.
    OtherAddress,
    /// The same password may be sent again: the backend said "try later" in so many words.
    SameLater,
    /// Never in this login.
    Never,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// On which side.
    pub side: Side,
    /// What kind.
    pub kind: Kind,
    /// Whether trying again can help.
    pub retry: Retry,
    /// For the log: names the thing, the place and the fix. May quote peers only escaped, never a secret.
    pub detail: String,
}

impl Failure {
    /// A failure that ends the login.
    pub fn new(side: Side, kind: Kind, detail: impl Into<String>) -> Self {
        Failure { side, kind, retry: Retry::Never, detail: detail.into() }
    }

    /// The same with another answer to "again?".
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}
