//! What is to be done at a backend: when TLS begins, whom to introduce, how to sign in.
//!
//! Values alone, filled in by whoever knows the route. What can be said of them at all is for the gate of the dance.

use super::{Stumble, StumbleKind};
use crate::login::Mechanism;
use crate::origin::{ForwardField, Origin};
use crate::secret::Password;
use std::time::Duration;

/// When TLS begins on the connection to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// No password is said: the backend is told who it is along with who is calling, and believes it (`proxy_noauth`; `LOGIN` of
    /// `XCLIENT` in SMTP). Never set for protocols without such a word.
    pub noauth: bool,
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
    /// How long whoever waits for this login will wait, where the carrier can say it (`TIMEOUT` of `XCLIENT` in SMTP).
    pub patience: Option<Duration>,
}

/// What is to be done on a fresh connection.
#[derive(Debug)]
pub struct Plan {
    /// When TLS begins.
    pub secure: Secure,
    /// Whom to introduce; `None` for backends that must not be told (`proxy_not_trusted`).
    pub introduce: Option<Introduction>,
    /// How to sign in; `None` where nobody does, and the dance ends when the backend knows who is calling (delivery of mail).
    pub sign_in: Option<SignIn>,
    /// Wait for each reply before the next command (`proxy_nopipelining`).
    pub one_at_a_time: bool,
    /// What to do where the backend offered to hear who is calling and then refused it.
    pub identity_refused: IdentityRefused,
    /// What we call ourselves (SMTP `EHLO`).
    pub server: String,
    /// What the client calls itself, for a backend that may know it and is not to hear it in an introduction.
    pub helo: Option<String>,
}

impl Plan {
    /// Who signs in, for a dialect that is asked to.
    ///
    /// # Errors
    /// Nobody does.
    pub(crate) fn signs_in(&self) -> Result<&SignIn, Stumble> {
        self.sign_in.as_ref().ok_or_else(|| Stumble::new(StumbleKind::Unspeakable, "nobody is to sign in"))
    }
}

/// What becomes of a login whose backend refuses to hear who is calling (`identity_refused`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityRefused {
    /// It fails: the backend would take every client for this proxy.
    Fail,
    /// It goes on, and [`Dance::identity_refused`](super::Dance::identity_refused) tells of it.
    Continue,
}
