//! What went wrong, sorted by side and consequence, and the one place that decides what a client may hear of it.
//!
//! Three things are kept apart: the *failure* (for the operator: everything we know), the *retry* (what the backend room
//! may do about it) and the *refusal* (what the client may hear). A temporary fault is never told as a wrong password:
//! clients would ask the person for a new one.

use crate::journal::Level;
use std::net::SocketAddr;
use wire::dance::{BackendNo, NoKind, Stumble, StumbleKind};
use wire::login::{LOOPING, Referral, Refusal};

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

impl Side {
    /// The stable word of the journal's `side=`.
    pub fn word(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Backend => "backend",
            Side::Users => "users",
            Side::Us => "us",
        }
    }
}

/// What kind of trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Wrong password, unknown user, or not allowed from here.
    Credentials,
    /// The client asked to act as somebody else.
    NotAuthorized,
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
    /// The backend closed or refused before the login was answered.
    BackendClosed,
    /// The backend did not speak the protocol.
    BackendProtocol,
    /// The backend cannot do what the route demands.
    BackendConfig,
    /// The deadline passed.
    Timeout,
    /// The backend said no.
    BackendNo(BackendNo),
    /// The backend has been failing for a while: it was not even tried.
    BackendDown,
    /// Too many connects to the backend are under way: the deadline passed in the queue.
    BackendBusy,
    /// The user may not log in at present (`nologin`); words for the person.
    Disabled(Option<String>),
    /// The client is to go to another server by itself.
    Referral(Referral),
    /// Proxies are looping, or the route leads to ourselves.
    Loop,
    /// A limit of ours.
    Limit,
    /// An order holds the login (`kick --hold`), and it has waited for as long as a login waits.
    Held,
    /// The server is going away, and would have kept the client waiting for longer than that takes.
    ShuttingDown,
    /// A fault of ours.
    Internal,
}

/// All words of the journal's `reason=` for a refused login: those of [`Kind`], and one for which no login is looked at.
pub const WORDS: &[&str] = &[
    "credentials",
    "not-authorized",
    PRIVACY_REQUIRED,
    "backend-credentials",
    "backend-not-authorized",
    "backend-limit",
    "backend-in-use",
    "backend-contact-admin",
    "backend-expired",
    "backend-alert",
    "backend-unavailable",
    "backend-server-bug",
    "limit",
    "lookup",
    "row",
    "dns",
    "connect",
    "backend-down",
    "backend-busy",
    "backend-tls",
    "backend-closed",
    "backend-protocol",
    "backend-config",
    "timeout",
    "shutting-down",
    "loop",
    "nologin",
    "referral",
    "held",
    "internal",
];

/// A login in clear, where that is not allowed.
pub const PRIVACY_REQUIRED: &str = "privacy-required";

impl Kind {
    /// The stable word of the journal's `reason=`.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Credentials => "credentials",
            Kind::NotAuthorized => "not-authorized",
            Kind::Lookup => "lookup",
            Kind::Row => "row",
            Kind::Dns => "dns",
            Kind::Connect => "connect",
            Kind::BackendTls => "backend-tls",
            Kind::BackendClosed => "backend-closed",
            Kind::BackendProtocol => "backend-protocol",
            Kind::BackendConfig => "backend-config",
            Kind::Timeout => "timeout",
            Kind::BackendNo(no) => match no.kind {
                NoKind::Credentials => "backend-credentials",
                NoKind::NotAuthorized => "backend-not-authorized",
                NoKind::Unavailable => "backend-unavailable",
                NoKind::Limit => "backend-limit",
                NoKind::InUse => "backend-in-use",
                NoKind::ContactAdmin => "backend-contact-admin",
                NoKind::Expired => "backend-expired",
                NoKind::Alert => "backend-alert",
                NoKind::ServerBug => "backend-server-bug",
            },
            Kind::BackendDown => "backend-down",
            Kind::BackendBusy => "backend-busy",
            Kind::Disabled(_) => "nologin",
            Kind::Referral(_) => "referral",
            Kind::Loop => "loop",
            Kind::Limit => "limit",
            Kind::Held => "held",
            Kind::ShuttingDown => "shutting-down",
            Kind::Internal => "internal",
        }
    }
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The next address may do better; the password was not sent.
    OtherAddress,
    /// Nobody answered: the next address, or the same one a second later. The password was not sent.
    Again,
    /// The same password may be sent again: the backend said "try later" in so many words.
    SameLater,
    /// The same address at once, on a new connection on which nobody says who is calling. The password was not sent.
    Unintroduced,
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
    /// The refusal is answered at once, and no later login is slowed for it (`nodelay`).
    pub quick: bool,
    /// Which backend, by its address and the name in the route, where one was tried.
    pub at: Option<Box<(SocketAddr, String)>>,
    /// For the log: names the thing, the place and the fix. May quote peers only escaped, never a secret.
    pub detail: String,
}

impl Failure {
    /// A failure that ends the login.
    pub fn new(side: Side, kind: Kind, detail: impl Into<String>) -> Self {
        Failure { side, kind, retry: Retry::Never, quick: false, at: None, detail: detail.into() }
    }

    /// The same with another answer to "again?".
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same for a row that says `nodelay`, or not.
    #[must_use]
    pub fn quick(mut self, quick: bool) -> Self {
        self.quick = quick;
        self
    }

    /// The same of a backend.
    #[must_use]
    pub fn at(mut self, address: SocketAddr, host: &str) -> Self {
        self.at = Some(Box::new((address, host.to_owned())));
        self
    }

    /// A wrong password, an unknown user, or a name that cannot be one: all the same to the client.
    pub fn credentials(detail: impl Into<String>) -> Self {
        Failure::new(Side::Client, Kind::Credentials, detail)
    }

    /// A row that cannot be followed. `field` is the column or attribute to look at.
    pub fn row(database: &str, field: &str, problem: impl std::fmt::Display) -> Self {
        Failure::new(Side::Users, Kind::Row, format!("users \"{database}\": field {field}: {problem}"))
    }

    /// The backend's no to a login.
    pub fn backend_no(no: BackendNo) -> Self {
        // A circle of proxies must not be walked again and again.
        let retry = if no.kind == NoKind::Unavailable && !is_looping(&no) { Retry::SameLater } else { Retry::Never };
        let side = match no.kind {
            NoKind::Unavailable | NoKind::ServerBug => Side::Backend,
            _ => Side::Client,
        };
        let detail = format!("the backend said: {}", no.text);
        Failure::new(side, Kind::BackendNo(no), detail).retry(retry)
    }

    /// A backend dialogue that could not be finished.
    pub fn stumble(stumble: Stumble, credentials_sent: bool) -> Self {
        let retry = if credentials_sent { Retry::Never } else { Retry::OtherAddress };
        match stumble.kind {
            StumbleKind::Protocol => Failure::new(Side::Backend, Kind::BackendProtocol, stumble.detail).retry(retry),
            StumbleKind::Refused => Failure::new(Side::Backend, Kind::BackendClosed, stumble.detail).retry(retry),
            StumbleKind::NotOffered => Failure::new(Side::Backend, Kind::BackendConfig, stumble.detail).retry(retry),
            StumbleKind::HalfTold => Failure::new(Side::Backend, Kind::BackendConfig, stumble.detail).retry(Retry::Unintroduced),
            // What the client said has been checked by its front: only a row can bring such a value.
            StumbleKind::Unspeakable => Failure::new(Side::Users, Kind::Row, stumble.detail),
        }
    }

    /// What the client may hear, and how loud the journal is.
    pub fn refusal(&self) -> (Refusal, Level) {
        match &self.kind {
            Kind::Credentials | Kind::NotAuthorized => (Refusal::WrongCredentials, Level::Info),
            Kind::Limit => (Refusal::Limit { text: None }, Level::Warning),
            Kind::BackendNo(no) if is_looping(no) => (Refusal::Looping, Level::Warning),
            Kind::BackendNo(no) => {
                let text = (!no.text.is_empty()).then(|| no.text.clone());
                match no.kind {
                    NoKind::Credentials => (Refusal::WrongCredentials, Level::Info),
                    NoKind::NotAuthorized => (Refusal::NotAuthorized, Level::Info),
                    NoKind::Unavailable => (Refusal::Unavailable { text }, Level::Warning),
                    NoKind::Limit => (Refusal::Limit { text }, Level::Warning),
                    NoKind::InUse => (Refusal::InUse { text }, Level::Info),
                    NoKind::ContactAdmin => (Refusal::ContactAdmin { text }, Level::Info),
                    NoKind::Expired => (Refusal::Expired { text }, Level::Info),
                    NoKind::Alert => (Refusal::Alert { text: no.text.clone() }, Level::Info),
                    NoKind::ServerBug => (Refusal::Unavailable { text: None }, Level::Error),
                }
            }
            Kind::Lookup
            | Kind::Row
            | Kind::Dns
            | Kind::Connect
            | Kind::BackendTls
            | Kind::BackendClosed
            | Kind::BackendProtocol
            | Kind::BackendConfig
            | Kind::Timeout
            | Kind::Internal => (Refusal::Unavailable { text: None }, Level::Error),
            // The backend's trouble was told when it began; a line per login need not shout.
            Kind::BackendDown | Kind::BackendBusy => (Refusal::Unavailable { text: None }, Level::Warning),
            Kind::Held | Kind::ShuttingDown => (Refusal::Unavailable { text: None }, Level::Info),
            Kind::Disabled(text) => {
                let text = text.clone().unwrap_or_else(|| "Login disabled for this user.".to_owned());
                (Refusal::ContactAdmin { text: Some(text) }, Level::Info)
            }
            Kind::Referral(to) => (Refusal::Referral(to.clone()), Level::Info),
            Kind::Loop => (Refusal::Looping, Level::Error),
        }
    }

    /// The login was refused because of who asked: it counts as a guess and is slowed, unless the failure is `quick`.
    pub fn counts_as_guess(&self) -> bool {
        match &self.kind {
            Kind::Credentials | Kind::NotAuthorized => true,
            // Servers word a wrong password in many ways.
            Kind::BackendNo(no) => match no.kind {
                NoKind::Credentials | NoKind::NotAuthorized | NoKind::Expired | NoKind::Alert | NoKind::ContactAdmin => true,
                NoKind::Unavailable | NoKind::Limit | NoKind::InUse | NoKind::ServerBug => false,
            },
            _ => false,
        }
    }
}

/// Another Gatepost behind this backend has found that proxies are looping.
fn is_looping(no: &BackendNo) -> bool {
    matches!(no.kind, NoKind::Unavailable | NoKind::ServerBug) && no.text.contains(LOOPING)
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_never_told_as_a_wrong_password() {
        for kind in [
            Kind::Lookup,
            Kind::Row,
            Kind::Dns,
            Kind::Connect,
            Kind::BackendTls,
            Kind::BackendClosed,
            Kind::BackendProtocol,
            Kind::BackendConfig,
            Kind::Timeout,
            Kind::BackendDown,
            Kind::BackendBusy,
            Kind::Held,
            Kind::ShuttingDown,
            Kind::Internal,
        ] {
            let failure = Failure::new(Side::Backend, kind, "x");
            assert_eq!(failure.refusal().0, Refusal::Unavailable { text: None }, "{failure}");
            assert!(!failure.counts_as_guess());
        }
    }

    #[test]
    fn only_an_explicit_try_later_lets_the_password_be_sent_again() {
        for kind in [NoKind::Credentials, NoKind::Limit, NoKind::Alert, NoKind::ServerBug, NoKind::Expired] {
            assert_eq!(Failure::backend_no(BackendNo { kind, text: "x".into() }).retry, Retry::Never);
        }
        let later = Failure::backend_no(BackendNo { kind: NoKind::Unavailable, text: "x".into() });
        assert_eq!(later.retry, Retry::SameLater);
        let looping = BackendNo { kind: NoKind::Unavailable, text: format!("[UNAVAILABLE] {LOOPING}") };
        assert_eq!(Failure::backend_no(looping).retry, Retry::Never);
        let sent = Failure::stumble(Stumble { kind: StumbleKind::Protocol, detail: "x".into() }, true);
        assert_eq!(sent.retry, Retry::Never);
    }
}
