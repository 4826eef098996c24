//! Signs in at a backend: address by address, connect, TLS, the dance, all inside one deadline.
//!
//! What is tried again, and what never:
//!
//! * before the password was sent: the next address of the name; where nobody answered, the same addresses again a second
//!   later, until the deadline;
//! * after it was sent: only where the backend said "try later" in so many words, three times at most;
//! * never after a definite no, and never past an invalid certificate.

use crate::failure::{Failure, Kind, Retry, Side};
use crate::resolve::Resolve;
use crate::route::{self, Route};
use bytes::BytesMut;
use relay::conn::Conn;
use relay::tls::connector::Connector;
use relay::{TlsErrorKind, TlsFacts};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use wire::dance::dialect::Dialect;
use wire::dance::{Dance, DanceEvent, Introduction, Plan, Secure, SignIn};
use wire::login::Welcome;
use wire::machine::Step;

/// Between two tries of the same backend.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a password is sent again after an explicit "try later".
const LATER_TRIES: u32 = 3;
/// What one read from a backend may bring during the dialogue.
const READ: usize = 4096;

/// What the room needs from the program.
pub struct Means<'a> {
    /// Finds addresses.
    pub resolver: &'a dyn Resolve,
    /// TLS that checks the certificate; or why it cannot.
    pub verified: Result<&'a Connector, &'a str>,
    /// TLS for `any-cert`.
    pub any_cert: &'a Connector,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
    /// The addresses this server listens on, for the check against loops.
    pub ourselves: &'a (dyn Fn(SocketAddr) -> bool + Sync),
}

/// A backend that let the user in.
pub struct SignedIn {
    /// The connection.
    pub conn: Conn,
    /// Where it leads.
    pub address: SocketAddr,
    /// What the backend said after the login; it belongs to the client.
    pub leftover: BytesMut,
    /// What the client is to be told.
    pub welcome: Welcome,
    /// What the backend could do before login, as it told it.
    pub learnt: Option<String>,
    /// TLS towards the backend.
    pub tls: Option<TlsFacts>,
    /// Who is calling was told.
    pub introduced: bool,
    /// Identity fields that could not be told, by name.
    pub left_out: Vec<String>,
    /// How many tries it took beyond the first.
    pub retries: u32,
}

/// Signs in. `introduction` makes what is told of the caller anew for each try; `progress` learns the address and state for logs.
///
/// # Errors
/// The failure of the last try, with the address and the dialogue's state in its detail.
pub async fn sign_in(
    means: &Means<'_>,
    route: &Route,
    dialect: fn() -> Box<dyn Dialect>,
    introduction: &(dyn Fn() -> Option<Introduction> + Sync),
    sign_in: &(dyn Fn() -> SignIn + Sync),
) -> Result<SignedIn, Failure> {
    let deadline = Instant::now() + route.timeout;
    let addresses = match route.address {
        Some(ip) => vec![ip],
        None => within(deadline, route, "resolving the name", means.resolver.addresses(&route.host)).await??,
    };
    for ip in &addresses {
        let at = SocketAddr::new(*ip, route.port);
        if (means.ourselves)(at) {
            return Err(route::to_ourselves(route, at));
        }
    }
    let mut retries = 0;
    let mut later = 0;
    loop {
        let mut again = false;
        let mut last = None;
        for ip in &addresses {
            let at = SocketAddr::new(*ip, route.port);
            let plan =
                Plan { secure: route.secure, introduce: introduction(), sign_in: sign_in(), one_at_a_time: route.one_at_a_time, identity_refused: wire::dance::IdentityRefused::Fail };
            match one_try(means, route, at, Dance::new(dialect(), plan), deadline).await {
                Ok(mut signed_in) => {
                    signed_in.retries = retries;
                    return Ok(signed_in);
                }
                Err(failure) => match failure.retry {
                    Retry::Never => return Err(failure),
                    Retry::OtherAddress => last = Some(failure),
                    Retry::Again => {
                        again = true;
                        last = Some(failure);
                    }
                    Retry::SameLater => {
                        later += 1;
                        again = later <= LATER_TRIES;
                        last = Some(failure);
                        break;
                    }
                },
            }
        }
        let failure = last.unwrap_or_else(|| Failure::new(Side::Backend, Kind::Dns, format!("host {}: no address", route.host)));
        if !again || Instant::now() + PAUSE >= deadline {
            return Err(with_retries(failure, retries));
        }
        sleep(PAUSE).await;
        retries += 1;
    }
}

fn with_retries(mut failure: Failure, retries: u32) -> Failure {
    if retries > 0 {
        failure.detail.push_str(&format!(" (after {retries} more tries)"));
    }
    failure
}

/// Waits no longer than the deadline.
async fn within<T>(deadline: Instant, route: &Route, what: &str, future: impl Future<Output = T>) -> Result<T, Failure> {
    timeout_at(deadline, future).await.map_err(|_| {
        let seconds = route.timeout.as_secs_f64();
        Failure::new(
            Side::Backend,
            Kind::Timeout,
            format!("host {}: {what} took longer than proxy_timeout ({seconds} s)", route.host),
        )
    })
}

async fn one_try(
    means: &Means<'_>,
    route: &Route,
    at: SocketAddr,
    mut dance: Dance,
    deadline: Instant,
) -> Result<SignedIn, Failure> {
    let place = format!("backend {at} ({})", route.host);
    let connect_by = deadline.min(Instant::now() + means.connect_timeout);
    let stream = match timeout_at(connect_by, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => {
            return Err(Failure::new(Side::Backend, Kind::Connect, format!("{place}: connect: {e}")).retry(Retry::Again));
        }
        Err(_) => {
            let detail = format!("{place}: connect: no answer");
            return Err(Failure::new(Side::Backend, Kind::Connect, detail).retry(Retry::Again));
        }
    };
    let broken = |e: std::io::Error| Failure::new(Side::Backend, Kind::Connect, format!("{place}: {e}")).retry(Retry::Again);
    relay::listen::tune(&stream).map_err(broken)?;
    let mut conn = Conn::clear(stream).map_err(broken)?;
    let mut input = BytesMut::new();
    let mut tls = None;
    let late = |state: &str| {
        let seconds = route.timeout.as_secs_f64();
        let detail = format!("{place}: no answer within proxy_timeout ({seconds} s), state {state}");
        Failure::new(Side::Backend, Kind::Timeout, detail)
    };
    if route.secure == Secure::Implicit {
        let secured = timeout_at(deadline, secure(means, route, &place, conn, &input)).await.map_err(|_| late("tls"))??;
        conn = secured.0;
        tls = Some(secured.1);
    }
    let mut out = BytesMut::new();
    loop {
        let step = dance.step(&mut input, &mut out).map_err(|stumble| {
            let mut failure = Failure::stumble(stumble, dance.credentials_sent());
            failure.detail = format!("{place}: {}, state {}", failure.detail, dance.state());
            failure
        })?;
        if !out.is_empty() {
            let sent = timeout_at(deadline, conn.write_all(&out)).await.map_err(|_| late(&dance.state()))?;
            wipe(&mut out);
            sent.map_err(|e| lost(&place, &dance, &e))?;
        }
        match step {
            Step::NeedInput => {
                let read = timeout_at(deadline, conn.read(&mut input, READ)).await.map_err(|_| late(&dance.state()))?;
                match read {
                    Ok(0) => return Err(closed(&place, &dance, "it closed the connection")),
                    Ok(_) => {}
                    Err(e) => return Err(lost(&place, &dance, &e)),
                }
            }
            Step::Event(DanceEvent::Secure) => {
                let secured =
                    timeout_at(deadline, secure(means, route, &place, conn, &input)).await.map_err(|_| late("tls"))??;
                conn = secured.0;
                tls = Some(secured.1);
                dance.secured();
            }
            Step::Event(DanceEvent::Welcome(welcome)) => {
                return Ok(SignedIn {
                    conn,
                    address: at,
                    leftover: input,
                    welcome,
                    learnt: dance.learnt().map(str::to_owned),
                    tls,
                    introduced: dance.introduced(),
                    left_out: dance.left_out().to_vec(),
                    retries: 0,
                });
            }
            Step::Event(DanceEvent::Refused(no)) => {
                // Leave quietly: the backend has said its last word to us.
                let mut failure = Failure::backend_no(no);
                failure.detail = format!("{place}: {}", failure.detail);
                return Err(failure);
            }
        }
    }
}

fn closed(place: &str, dance: &Dance, why: &str) -> Failure {
    let retry = if dance.credentials_sent() { Retry::Never } else { Retry::OtherAddress };
    let words = dance.farewell().map(|words| format!(" saying: {words}")).unwrap_or_default();
    let detail = format!("{place}: {why}{words}, state {}", dance.state());
    Failure::new(Side::Backend, Kind::BackendClosed, detail).retry(retry)
}

/// A connection that broke. What breaks TLS behind the handshake (a certificate of ours that the backend wants) is TLS's.
fn lost(place: &str, dance: &Dance, e: &std::io::Error) -> Failure {
    let failure = closed(place, dance, &e.to_string());
    if e.kind() == std::io::ErrorKind::InvalidData { Failure { kind: Kind::BackendTls, ..failure } } else { failure }
}

async fn secure(
    means: &Means<'_>,
    route: &Route,
    place: &str,
    conn: Conn,
    input: &BytesMut,
) -> Result<(Conn, TlsFacts), Failure> {
    let connector = if route.verify { means.verified } else { Ok(means.any_cert) };
    let connector = connector.map_err(|why| Failure::new(Side::Us, Kind::BackendTls, format!("{place}: TLS: {why}")))?;
    connector.connect(conn, server_name(&route.host), input).await.map_err(|e| {
        // An invalid certificate is a matter for the operator; a handshake that broke may go well at another address.
        let retry = match e.kind {
            TlsErrorKind::Certificate | TlsErrorKind::Config => Retry::Never,
            _ => Retry::OtherAddress,
        };
        Failure::new(Side::Backend, Kind::BackendTls, format!("{place}: TLS: {e}")).retry(retry)
    })
}

/// The name a certificate is checked against: an address loses its brackets.
fn server_name(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Overwrites what was sent: it may have held a password.
fn wipe(out: &mut BytesMut) {
    out.fill(0);
    out.clear();
}
