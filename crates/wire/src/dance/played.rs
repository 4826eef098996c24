//! Dances with a backend in memory that says anything, for the tests of the dialects.

use super::dialect::Dialect;
use super::{Dance, DanceEvent, IdentityRefused, Introduction, Plan, Secure, SignIn};
use crate::login::Mechanism;
use crate::machine::Step;
use crate::origin::{Origin, SessionId};
use crate::secret::Secret;
use bytes::BytesMut;

pub(crate) const PASSWORD: &str = "s3cr3t-\u{e4}";

pub(crate) fn sign_in(user: &str, master: Option<&str>, password: &[u8], mechanism: Option<Mechanism>) -> SignIn {
    let master = master.map(str::to_owned);
    SignIn { user: user.into(), master, password: Secret::new(password.to_vec()), mechanism, noauth: false }
}

/// Joe signs in with [`PASSWORD`], and the backend is to be told who is calling.
pub(crate) fn plan(secure: Secure, mechanism: Option<Mechanism>) -> Plan {
    let session = SessionId::new("s").unwrap();
    let origin = Origin::at_accept("192.0.2.7:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap(), session);
    Plan {
        secure,
        introduce: Some(Introduction { origin, client_id: Vec::new(), forward: Vec::new(), patience: None }),
        sign_in: Some(sign_in("joe", None, PASSWORD.as_bytes(), mechanism)),
        one_at_a_time: false,
        identity_refused: IdentityRefused::Continue,
        server: "proxy.example".into(),
        helo: None,
    }
}

/// What a dance came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) out: Vec<u8>,
    pub(crate) events: Vec<String>,
    pub(crate) credentials_sent: bool,
    pub(crate) in_tls: bool,
    pub(crate) most_held: usize,
}

/// The backend says these pieces, and TLS is there as soon as it is wanted.
pub(crate) fn converse<'a>(dialect: Box<dyn Dialect>, plan: Plan, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut in_tls = plan.secure == Secure::Implicit;
    let mut dance = Dance::new(dialect, plan);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let (mut events, mut most_held) = (Vec::new(), 0);
    'said: for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match dance.step(&mut input, &mut out) {
                Ok(Step::NeedInput) => break,
                Ok(Step::Event(DanceEvent::Secure)) => {
                    events.push("secure".to_owned());
                    dance.secured();
                    in_tls = true;
                }
                Ok(Step::Event(event)) => {
                    events.push(format!("{event:?}"));
                    break 'said;
                }
                Err(stumble) => {
                    events.push(format!("{stumble:?}"));
                    break 'said;
                }
            }
        }
        most_held = most_held.max(input.len());
    }
    Seen { out: out.to_vec(), events, credentials_sent: dance.credentials_sent(), in_tls, most_held }
}
