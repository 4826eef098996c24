//! Signs in at a backend: address by address, connect, TLS, the dance, all inside one deadline.
//!
//! What is tried again, and what never:
//!
//! * before the password was sent: the next address of the name; where nobody answered, the same addresses again about a
//!   second later, until the deadline; and the same address at once and once more, without saying who is calling, where the
//!   backend refused that half-way and `identity_refused` lets the login go on;
//! * after it was sent: only where the backend said "try later" in so many words, three times at most;
//! * never after a definite no, and never past an invalid certificate.
//!
//! At most 128 logins connect to one backend at a time, and one that has been failing for long is not tried by everybody:
//! both is [`super::health`]'s to say. Whence a connection is made is [`super::source`]'s.

pub use super::call::server_name;

use super::call::Call;
use super::health::{Health, Place, Transition};
use super::seen;
use super::source::Sources;
use crate::chance;
use crate::config::meant::BackendProxy;
use crate::failure::{Failure, Kind, Retry, Side};
use crate::resolve::Resolve;
use crate::route::{self, Maybe, Route};
use crate::witness::{Step, Witness};
use bytes::BytesMut;
use relay::TlsFacts;
use relay::conn::Conn;
use relay::tls::connector::Connector;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use wire::dance::dialect::Dialect;
use wire::dance::{IdentityRefused, Introduction, SignIn};
use wire::login::Welcome;

/// Between two tries of the same backend, a quarter more or less.
const PAUSE: Duration = Duration::from_secs(1);
/// What a try must have left of the deadline: one that ends with it in the middle of a connect would say less than the one before.
const LEAST: Duration = Duration::from_millis(50);
/// How often a password is sent again after an explicit "try later".
const LATER_TRIES: u32 = 3;

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
    /// What is this server itself: for the check against loops.
    pub ourselves: Ourselves<'a>,
    /// What is known of backends.
    pub health: &'a Health,
    /// `source_ips`.
    pub sources: &'a Sources,
    /// Whom nobody answered is tried again until the deadline; else each address once.
    pub again: bool,
    /// `proxy_protocol`.
    pub proxy_protocol: BackendProxy,
    /// `identity_refused`.
    pub identity_refused: IdentityRefused,
    /// What we call ourselves.
    pub server: &'a str,
    /// Hears when a backend begins or ceases to fail, and of what.
    pub tell: &'a dyn Tell,
    /// Who watches; of most logins nobody.
    pub witness: Witness<'a>,
}

/// Hears when a backend begins or ceases to fail, and of what.
pub trait Tell: Sync {
    /// It began, or it ceased.
    fn tell(&self, at: SocketAddr, transition: Transition, text: &str);
}

/// The addresses that lead back to this server.
pub struct Ourselves<'a> {
    /// Our own end of the client's connection.
    pub reached: SocketAddr,
    /// What the client reached at a balancer: it leads back here as well.
    pub arrived: SocketAddr,
    /// `self_addresses`.
    pub addresses: &'a [IpAddr],
    /// The ports that we serve.
    pub ports: &'a [u16],
}

impl Ourselves<'_> {
    /// Whether an address is this server's, on a port that it serves or on any.
    pub fn is_at(&self, at: SocketAddr, any_port: bool) -> bool {
        let own = self.reached;
        let own_ip = at.ip() == own.ip() || at.ip().is_unspecified() || self.addresses.contains(&at.ip());
        let own_port = any_port || at.port() == own.port() || self.ports.contains(&at.port());
        own_ip && own_port || at == self.arrived || any_port && at.ip() == self.arrived.ip()
    }
}

/// What is said to the backend; made anew for each try.
pub struct Words<'a> {
    /// The protocol's client side.
    pub dialect: fn() -> Box<dyn Dialect>,
    /// Who is calling, unless the backend must not know.
    pub introduction: &'a (dyn Fn() -> Option<Introduction> + Sync),
    /// Who signs in; nobody, where mail is delivered.
    pub sign_in: &'a (dyn Fn() -> Option<SignIn> + Sync),
}

/// How a backend was told who is calling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// In the conversation, with all that we know (ID, XCLIENT).
    Told,
    /// By a PROXY header alone: addresses, and with version 2 the client's TLS.
    Header,
    /// Not at all: the backend does not offer to hear it.
    NotOffered,
    /// Not at all: it is not to know (`proxy_not_trusted`), or refused to hear it.
    NotTold,
}

impl Identity {
    /// The word of the journal.
    pub fn word(self) -> &'static str {
        match self {
            Identity::Told => "told",
            Identity::Header => "header",
            Identity::NotOffered => "not-offered",
            Identity::NotTold => "not-told",
        }
    }
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
    /// How who is calling was told.
    pub identity: Identity,
    /// The backend's words when it refused to hear who is calling.
    pub identity_refused: Option<String>,
    /// Identity fields that could not be told, by name.
    pub left_out: Vec<String>,
    /// How many tries it took beyond the first.
    pub retries: u32,
}

/// Finds the addresses of a route. One that leads to ourselves is sent to the local backend
/// (`proxy_maybe`) or refused.
///
/// # Errors
/// The name cannot be resolved, or proxies would loop.
pub async fn find(means: &Means<'_>, route: Route, deadline: Instant) -> Result<(Route, Vec<SocketAddr>), Failure> {
    let found = addresses(means, &route, deadline).await?;
    let Some(ours) = found.iter().find(|at| is_ours(means, &route, **at)) else { return Ok((route, found)) };
    let Some(Maybe { local: Ok(local), .. }) = &route.maybe else { return Err(route::to_ourselves(&route, *ours)) };
    means.witness.saw(|| {
        Step::new(
            "local",
            format!("{ours} is this server itself: proxy_maybe leads to backend.local, {}:{}", local.host, local.port),
        )
        .with("ourselves", ours.to_string())
        .with("host", &*local.host)
        .with("port", local.port)
    });
    let local = (**local).clone();
    let found = addresses(means, &local, deadline).await?;
    match found.iter().find(|at| is_ours(means, &local, **at)) {
        Some(ours) => Err(route::to_ourselves(&local, *ours)),
        None => Ok((local, found)),
    }
}

/// Where `proxy_maybe` names no port, any service of ours is meant: what the local backend is there for.
fn is_ours(means: &Means<'_>, route: &Route, at: SocketAddr) -> bool {
    let any_port = route.maybe.as_ref().is_some_and(|maybe| !maybe.port_given);
    means.ourselves.is_at(at, any_port)
}

async fn addresses(means: &Means<'_>, route: &Route, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
    let ips = match route.address {
        Some(ip) => vec![ip],
        None => timeout_at(deadline, means.resolver.addresses(&route.host)).await.map_err(|_| {
            let (host, seconds) = (&route.host, route.timeout.as_secs_f64());
            let detail = format!("host {host}: resolving the name took longer than proxy_timeout ({seconds} s)");
            Failure::new(Side::Backend, Kind::Timeout, detail)
        })??,
    };
    let found: Vec<SocketAddr> = ips.into_iter().map(|ip| SocketAddr::new(ip, route.port)).collect();
    means.witness.saw(|| {
        let how = if route.address.is_some() { "no lookup is needed" } else { "looked up" };
        let list: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
        let text = format!("{}: {} ({how})", route.host, list.join(", "));
        Step::new("addresses", text).with("host", &*route.host).with("looked_up", route.address.is_none()).with("addresses", list)
    });
    Ok(found)
}

/// Signs in at the first of the addresses that lets it.
///
/// # Errors
/// The failure of the last try, with the address and the dialogue's state in its detail.
pub async fn sign_in(
    means: &Means<'_>,
    route: &Route,
    addresses: &[SocketAddr],
    words: &Words<'_>,
    deadline: Instant,
) -> Result<SignedIn, Failure> {
    let mut addresses = addresses.to_vec();
    means.health.order(&mut addresses, |at| Place::new(at, route));
    let mut retries = 0;
    let mut later = 0;
    loop {
        let mut again = false;
        let mut last = None;
        for (n, at) in addresses.iter().enumerate() {
            let place = place(*at, route);
            let mut call = Call {
                means,
                route,
                words,
                at: *at,
                deadline,
                others: n + 1 < addresses.len() || !means.again,
                place,
                refused: None,
            };
            let mut tried = call.one_try().await;
            if let Err(failure) = &mut tried
                && failure.retry == Retry::Unintroduced
            {
                // What it has believed of a refused introduction nobody knows: it must not count for this login.
                let words = std::mem::take(&mut failure.detail);
                call.refused = Some(words.clone());
                tried = call.one_try().await.map_err(|mut failure| {
                    failure.detail.push_str(&format!(" (before that it refused to hear who is calling: {words})"));
                    failure
                });
            }
            match tried.map_err(|failure| failure.at(*at, &route.host)) {
                Ok(mut signed_in) => {
                    signed_in.retries = retries;
                    return Ok(signed_in);
                }
                Err(failure) => match failure.retry {
                    Retry::Never => return Err(failure),
                    // The second does not come twice: nothing was said that could be refused.
                    Retry::OtherAddress | Retry::Unintroduced => last = Some(failure),
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
        let failure = last.unwrap_or_else(|| no_address(route));
        let pause = chance::around(PAUSE);
        if !again || !means.again || Instant::now() + pause + LEAST >= deadline {
            return Err(with_retries(failure, retries));
        }
        sleep(pause).await;
        retries += 1;
    }
}

/// What [`sign_in`] would come to, as far as it can be known without a connection: each address in its order, with what stands
/// in the way of calling it; and the one that would be called first.
///
/// # Errors
/// No address would be called: the failure of the last one.
pub fn foresee(means: &Means<'_>, route: &Route, addresses: &[SocketAddr], words: &Words<'_>) -> Result<Foreseen, Failure> {
    let mut addresses = addresses.to_vec();
    means.health.foresee_order(&mut addresses, |at| Place::new(at, route));
    let deadline = Instant::now() + route.timeout;
    let mut last = None;
    let mut called: Option<Foreseen> = None;
    for at in &addresses {
        let call = Call { means, route, words, at: *at, deadline, others: false, place: place(*at, route), refused: None };
        let outcome = call.foresee();
        let look = means.health.look(Place::new(*at, route), route.give_up_after);
        means.witness.saw(|| seen::address(*at, route, means, &look, outcome.as_ref().err()));
        match outcome {
            Ok(()) if called.is_none() => {
                let (header, left_out) = call.proxy_header();
                called = Some(Foreseen { address: *at, header, left_out });
            }
            Ok(()) => {}
            // It would end the login, unless another address took it before.
            Err(failure) if failure.retry == Retry::Never && called.is_none() => return Err(failure),
            Err(failure) => last = Some(failure),
        }
    }
    called.ok_or_else(|| last.unwrap_or_else(|| no_address(route)))
}

/// The call that would be made.
pub struct Foreseen {
    /// Where.
    pub address: SocketAddr,
    /// The PROXY header before everything else; empty without one.
    pub header: BytesMut,
    /// What that header has no room for.
    pub left_out: Vec<&'static str>,
}

fn place(at: SocketAddr, route: &Route) -> String {
    format!("backend {at} ({})", route.host)
}

fn no_address(route: &Route) -> Failure {
    Failure::new(Side::Backend, Kind::Dns, format!("host {}: no address", route.host))
}

fn with_retries(mut failure: Failure, retries: u32) -> Failure {
    if retries > 0 {
        failure.detail.push_str(&format!(" (after {retries} more tries)"));
    }
    failure
}

#[cfg(test)]
mod tests;
