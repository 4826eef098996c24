//! One try at one address of a backend: a place among those who connect, the connection, the PROXY header, TLS, the dance.

use super::connect::{Identity, Means, SignedIn, Words};
use super::health::{Attempt, Place, Refused, Transition};
use super::seen;
use crate::config::meant::BackendProxy;
use crate::failure::{Failure, Kind, Retry, Side};
use crate::route::Route;
use crate::witness::Known;
use bytes::BytesMut;
use relay::conn::Conn;
use relay::dial::{dial, exists_here, out_of_ports};
use relay::tls::connector::Connector;
use relay::{TlsErrorKind, TlsFacts};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use wire::dance::{Dance, DanceEvent, Plan, Secure, StumbleKind};
use wire::machine::Step;
use wire::origin::haproxy;

/// From the connection to the backend's greeting, TLS from the first byte included, where another address may do better. The
/// last one may take as long as the login: servers that look up names greet late.
const GREETING: Duration = Duration::from_secs(10);
/// What one read from a backend may bring during the dialogue.
const READ: usize = 4096;

/// One try at one address.
pub(super) struct Call<'a> {
    pub(super) means: &'a Means<'a>,
    pub(super) route: &'a Route,
    pub(super) words: &'a Words<'a>,
    pub(super) at: SocketAddr,
    pub(super) deadline: Instant,
    /// The name has an address that is still to be tried in this round.
    pub(super) others: bool,
    /// The address and the route's host, for messages.
    pub(super) place: String,
    /// The words with which the backend refused to hear who is calling, on another connection: on this one nobody says it.
    pub(super) refused: Option<String>,
}

impl Call<'_> {
    /// The whole try.
    ///
    /// # Errors
    /// What stood in the way, and whether it may be tried again.
    pub(super) async fn one_try(&self) -> Result<SignedIn, Failure> {
        let witness = self.means.witness;
        if let Some(ear) = witness.ear() {
            ear.learn(&Known::Backend(Some(self.at), &self.route.host));
        }
        witness.saw(|| seen::tried(self.at, &self.route.host));
        let outcome = self.tried().await;
        if let Err(failure) = &outcome {
            witness.saw(|| seen::failed(self.at, failure));
        }
        outcome
    }

    async fn tried(&self) -> Result<SignedIn, Failure> {
        let mut attempt = Some(self.enter().await?);
        let began = Instant::now();
        let mut heard = false;
        let outcome = match self.reach().await {
            Ok(reached) => {
                // With the greeting the place among those who connect is free for the next one.
                let mut greeted = || self.tell(attempt.take().and_then(Attempt::connected), "");
                self.dialogue(reached, &mut heard, &mut greeted).await
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &outcome
            && !heard
            && self.is_absence(failure, began)
        {
            self.tell(attempt.and_then(|attempt| attempt.failed(&failure.detail, self.whom(failure))), &failure.detail);
        }
        outcome
    }

    /// Whether all would have failed here, as far as can be seen: nobody was there, or nobody said a word. Not what is
    /// the fault of our own host, or of a deadline that cut it short; and each [`Place`] speaks for itself alone.
    fn is_absence(&self, failure: &Failure, began: Instant) -> bool {
        let absent = matches!(failure.kind, Kind::Connect | Kind::BackendClosed | Kind::Timeout);
        let patient = Instant::now() < self.deadline || began.elapsed() >= self.means.connect_timeout;
        failure.side == Side::Backend && absent && patient
    }

    /// The client, where the backend knew it when it failed: behind a PROXY header it may close on that client alone.
    fn whom(&self, failure: &Failure) -> Option<IpAddr> {
        if failure.kind != Kind::BackendClosed || self.means.proxy_protocol == BackendProxy::Off {
            return None;
        }
        (self.words.introduction)().map(|introduction| introduction.origin.client.0.ip())
    }

    fn tell(&self, transition: Option<Transition>, text: &str) {
        if let Some(transition) = transition {
            self.means.tell.tell(self.at, transition, text);
        }
    }

    /// Waits for a place among those who connect to this backend.
    async fn enter(&self) -> Result<Attempt, Failure> {
        // Where there are other addresses, nobody queues for this one longer than a connect may take.
        let longest = if self.others { Instant::now() + self.means.connect_timeout } else { self.deadline };
        let by = self.deadline.min(longest);
        let place_of = Place::new(self.at, self.route);
        self.means.health.enter(place_of, by, self.route.give_up_after).await.map_err(|refused| self.kept_out(&refused))
    }

    /// It may not be tried now.
    fn kept_out(&self, refused: &Refused) -> Failure {
        let place = &self.place;
        match refused {
            Refused::Down { .. } => {
                let detail = format!("{place}: not tried: {refused}");
                Failure::new(Side::Backend, Kind::BackendDown, detail).retry(Retry::OtherAddress)
            }
            Refused::Busy { .. } => {
                let detail = format!("{place}: no turn to connect in time: {refused}");
                Failure::new(Side::Backend, Kind::BackendBusy, detail).retry(Retry::OtherAddress)
            }
        }
    }

    /// What stands in the way of a call before anything is sent, as far as it can be known without a connection.
    ///
    /// # Errors
    /// As [`Call::one_try`] would fail.
    pub(super) fn foresee(&self) -> Result<(), Failure> {
        self.means
            .health
            .look(Place::new(self.at, self.route), self.route.give_up_after)
            .verdict
            .map_err(|refused| self.kept_out(&refused))?;
        if let Some(source) = self.route.source {
            self.of_one_family(source)?;
            if matches!(exists_here(source), Ok(false)) {
                return Err(self.no_address_of_ours(source));
            }
        }
        if self.route.secure != Secure::Never {
            self.connector()?;
        }
        Ok(())
    }

    fn of_one_family(&self, source: IpAddr) -> Result<(), Failure> {
        if source.is_ipv4() == self.at.is_ipv4() {
            return Ok(());
        }
        Err(self.bad_source(&format!("{source} cannot reach {}, which is of the other address family", self.at)))
    }

    fn no_address_of_ours(&self, source: IpAddr) -> Failure {
        self.bad_source(&format!("{source} is no address of this host"))
    }

    fn bad_source(&self, what: &str) -> Failure {
        Failure::row(&self.route.database, "source_ip", what).retry(Retry::OtherAddress)
    }

    /// Connects, says the PROXY header, and begins TLS where it comes first.
    async fn reach(&self) -> Result<Reached, Failure> {
        let place = &self.place;
        let broken = |e: io::Error| Failure::new(Side::Backend, Kind::Connect, format!("{place}: {e}")).retry(Retry::Again);
        let connect_by = self.deadline.min(Instant::now() + self.means.connect_timeout);
        let stream = timeout_at(connect_by, self.connect()).await.unwrap_or_else(|_| {
            let detail = format!("{place}: connect: no answer");
            Err(Failure::new(Side::Backend, Kind::Connect, detail).retry(Retry::Again))
        })?;
        self.means.witness.saw(|| seen::connected(self.at, &stream));
        relay::listen::tune(&stream).map_err(broken)?;
        let mut conn = Conn::clear(stream).map_err(broken)?;
        let greet_by = if self.others { self.deadline.min(Instant::now() + GREETING) } else { self.deadline };
        let (header, left_out) = self.proxy_header();
        if !header.is_empty() {
            self.means.witness.saw(|| seen::header(&header, self.means.proxy_protocol, &left_out));
            timeout_at(greet_by, conn.write_all(&header)).await.map_err(|_| self.late("proxy-header"))?.map_err(broken)?;
        }
        if self.route.secure == Secure::Implicit {
            let (conn, tls) = self.secure(conn, &BytesMut::new(), greet_by).await?;
            return Ok(Reached { conn, tls: Some(tls), greet_by, left_out });
        }
        Ok(Reached { conn, tls: None, greet_by, left_out })
    }

    /// The header, and what had to be left out of it. A backend that must not know who is calling gets one that says nothing.
    pub(super) fn proxy_header(&self) -> (BytesMut, Vec<&'static str>) {
        let mut left_out = Vec::new();
        let mut header = BytesMut::new();
        let introduction = (self.words.introduction)();
        let origin = introduction.as_ref().map(|introduction| &introduction.origin);
        match self.means.proxy_protocol {
            BackendProxy::Off => {}
            BackendProxy::V1 => haproxy::write_v1(origin, &mut header),
            BackendProxy::V2 => left_out = haproxy::write_v2(origin, &mut header),
        }
        (header, left_out)
    }

    /// From the row's source address, from the configured ones in turn, or as the kernel chooses.
    async fn connect(&self) -> Result<TcpStream, Failure> {
        let (at, place) = (self.at, &self.place);
        let ours = |what: String| Failure::new(Side::Us, Kind::Connect, format!("{place}: {what}")).retry(Retry::Again);
        let theirs = |e: io::Error| {
            let side = if is_theirs(&e) { Side::Backend } else { Side::Us };
            Failure::new(side, Kind::Connect, format!("{place}: connect: {e}")).retry(Retry::Again)
        };
        if let Some(source) = self.route.source {
            self.of_one_family(source)?;
            return dial(at, Some(source)).await.map_err(|e| match e.kind() {
                _ if out_of_ports(&e) => ours(format!("source_ip {source} has no free port for it")),
                io::ErrorKind::AddrNotAvailable => self.no_address_of_ours(source),
                _ => theirs(e),
            });
        }
        let mut tried = Vec::new();
        for source in self.means.sources.pick(at.ip()) {
            match dial(at, Some(source)).await {
                // Without a port left, or gone since the configuration was read: the next one may do.
                Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable || out_of_ports(&e) => tried.push(source.to_string()),
                Err(e) => return Err(theirs(e)),
                Ok(stream) => return Ok(stream),
            }
        }
        if !tried.is_empty() {
            return Err(ours(format!("no free port for it at any of backend.source_ips ({})", tried.join(", "))));
        }
        dial(at, None).await.map_err(|e| {
            if !out_of_ports(&e) {
                return theirs(e);
            }
            ours(format!("no free port for it ({e}); backend.source_ips can name more addresses of this host"))
        })
    }

    /// The dance. `heard` becomes true with the backend's first octet; `greeted` is called when it has greeted, perhaps again
    /// and again.
    async fn dialogue(
        &self,
        reached: Reached,
        heard: &mut bool,
        greeted: &mut (dyn FnMut() + Send),
    ) -> Result<SignedIn, Failure> {
        let Call { means, route, words, at, deadline, place, .. } = self;
        let Reached { mut conn, mut tls, greet_by, left_out } = reached;
        let introduction = (words.introduction)();
        // A backend that refused to hear more may know as much.
        let helo = introduction.as_ref().and_then(|intro| intro.origin.helo.as_ref()?.known()).map(str::to_owned);
        let plan = Plan {
            secure: route.secure,
            helo,
            introduce: introduction.filter(|_| self.refused.is_none()),
            sign_in: (words.sign_in)(),
            one_at_a_time: route.one_at_a_time,
            identity_refused: means.identity_refused,
            server: means.server.to_owned(),
        };
        let mut dance = Dance::new((words.dialect)(), plan);
        if means.witness.listens() {
            dance.overhear();
        }
        let mut input = BytesMut::new();
        let mut out = BytesMut::new();
        loop {
            let step = dance.step(&mut input, &mut out);
            if let Some(ear) = means.witness.ear() {
                ear.backend_said(dance.overheard());
            }
            if dance.greeted() {
                greeted();
            }
            let by = if dance.greeted() { *deadline } else { greet_by };
            let step = step.map_err(|stumble| {
                if stumble.kind == StumbleKind::HalfTold {
                    // Its words alone: they are told as those of a refusal if the next connection goes well.
                    return Failure::stumble(stumble, dance.credentials_sent());
                }
                let mut failure = Failure::stumble(stumble, dance.credentials_sent());
                failure.detail = format!("{place}: {}, state {}", failure.detail, dance.state());
                failure
            })?;
            if !out.is_empty() {
                let sent = timeout_at(by, conn.write_all(&out)).await.map_err(|_| self.late(&dance.state()))?;
                wipe(&mut out);
                sent.map_err(|e| lost(place, &dance, &e))?;
            }
            match step {
                Step::NeedInput => {
                    let read = timeout_at(by, conn.read(&mut input, READ)).await.map_err(|_| self.late(&dance.state()))?;
                    match read {
                        Ok(0) => return Err(closed(place, &dance, "it closed the connection")),
                        Ok(_) => *heard = true,
                        Err(e) => return Err(lost(place, &dance, &e)),
                    }
                }
                Step::Event(DanceEvent::Secure) => {
                    let secured = self.secure(conn, &input, *deadline).await?;
                    conn = secured.0;
                    tls = Some(secured.1);
                    dance.secured();
                }
                Step::Event(DanceEvent::Welcome(welcome)) => {
                    let unsaid = left_out.iter().map(|name| format!("PROXY {name}"));
                    let refused = dance.identity_refused().or(self.refused.as_deref());
                    let identity = if dance.introduced() {
                        Identity::Told
                    } else if means.proxy_protocol != BackendProxy::Off && route.introduce {
                        Identity::Header
                    } else if route.introduce && refused.is_none() {
                        Identity::NotOffered
                    } else {
                        Identity::NotTold
                    };
                    means.witness.saw(|| seen::identity(identity, route.introduce, refused));
                    return Ok(SignedIn {
                        conn,
                        address: *at,
                        leftover: input,
                        welcome,
                        learnt: dance.learnt().map(str::to_owned),
                        tls,
                        identity,
                        identity_refused: refused.map(str::to_owned),
                        left_out: unsaid.chain(dance.left_out().iter().cloned()).collect(),
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

    /// Nothing came in time: within the whole deadline, or no greeting within its part of it.
    fn late(&self, state: &str) -> Failure {
        let place = &self.place;
        let (what, retry) = if Instant::now() < self.deadline {
            (format!("no greeting within {} s", GREETING.as_secs()), Retry::Again)
        } else {
            (format!("no answer within proxy_timeout ({} s)", self.route.timeout.as_secs_f64()), Retry::Never)
        };
        // The commonest reason why a server that is well says nothing at first.
        let silent = self.route.secure != Secure::Implicit && state.ends_with("/none");
        let hint = if silent { "; if TLS begins there with the first byte, the row needs ssl" } else { "" };
        Failure::new(Side::Backend, Kind::Timeout, format!("{place}: {what}, state {state}{hint}")).retry(retry)
    }

    /// TLS as the route wants it.
    fn connector(&self) -> Result<&Connector, Failure> {
        let connector = if self.route.verify { self.means.verified } else { Ok(self.means.any_cert) };
        connector.map_err(|why| Failure::new(Side::Us, Kind::BackendTls, format!("{}: TLS: {why}", self.place)))
    }

    async fn secure(&self, conn: Conn, input: &BytesMut, by: Instant) -> Result<(Conn, TlsFacts), Failure> {
        let place = &self.place;
        let connector = self.connector()?;
        let shaking = connector.connect(conn, server_name(&self.route.host), input);
        let shaken = timeout_at(by, shaking).await.map_err(|_| self.late("tls"))?.map_err(|e| {
            // An invalid certificate is a matter for the operator; a handshake that broke may go well at another address.
            let retry = match e.kind {
                TlsErrorKind::Certificate | TlsErrorKind::Config => Retry::Never,
                _ => Retry::OtherAddress,
            };
            Failure::new(Side::Backend, Kind::BackendTls, format!("{place}: TLS: {e}")).retry(retry)
        })?;
        self.means.witness.saw(|| seen::shaken("backend-tls", &shaken.1));
        Ok(shaken)
    }
}

/// A backend that is connected.
struct Reached {
    conn: Conn,
    tls: Option<TlsFacts>,
    /// Until when it must have greeted.
    greet_by: Instant,
    /// What its PROXY header had no room for, by name.
    left_out: Vec<&'static str>,
}

/// What the backend or the way to it is to blame for. All else (no descriptor, no memory, a firewall of our own) is ours.
fn is_theirs(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

fn closed(place: &str, dance: &Dance, why: &str) -> Failure {
    let retry = if dance.credentials_sent() {
        Retry::Never
    } else if dance.greeted() {
        Retry::OtherAddress
    } else {
        // As good as refused: so a balancer in front of the backend closes when there is nobody behind it.
        Retry::Again
    };
    let words = dance.farewell().map(|words| format!(" saying: {words}")).unwrap_or_default();
    let detail = format!("{place}: {why}{words}, state {}", dance.state());
    Failure::new(Side::Backend, Kind::BackendClosed, detail).retry(retry)
}

/// A connection that broke. What breaks TLS behind the handshake (a certificate of ours that the backend wants) is TLS's.
fn lost(place: &str, dance: &Dance, e: &io::Error) -> Failure {
    let failure = closed(place, dance, &e.to_string());
    if e.kind() != io::ErrorKind::InvalidData {
        return failure;
    }
    let retry = if failure.retry == Retry::Again { Retry::OtherAddress } else { failure.retry };
    Failure { kind: Kind::BackendTls, ..failure }.retry(retry)
}

/// The name a certificate is checked against: an address loses its brackets.
pub fn server_name(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Overwrites what was sent: it may have held a password.
fn wipe(out: &mut BytesMut) {
    out.fill(0);
    out.clear();
}
