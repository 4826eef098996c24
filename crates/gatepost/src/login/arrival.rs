//! Whose connection this is, before anybody says a word: the peer's of the socket, or of whom a balancer's PROXY header tells.
//!
//! [`Arrival`] is what is known of a connection and what follows from it: whether somebody can listen, who is exempt from
//! limits, what may be offered. It does no I/O, so an explanation makes one of what it is told, and asks it the same.
//!
//! A header is believed of the peers in `trust.proxy_protocol` alone, and asked for only where the listener says so. Two lists
//! stay apart: to be in that one gives no right to speak for clients by ID or XCLIENT, which is tested on the header's client.

use super::guard::Net;
use super::house::{Door, House, Live, Phase};
use super::limits::Limit;
use super::session::too_many_knocks;
use super::talk::Talk;
use crate::config::meant::{CleartextAuth, ListenProxy, ListenTls, XclientAs};
use crate::journal::Level;
use crate::protocol::Settings;
use bytes::BytesMut;
use relay::head::{Head, HeadError, read_head};
use std::fmt;
use std::net::IpAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use wire::login::{Goodbye, Terms, Unbelieved};
use wire::origin::haproxy::{self, Header, Progress, Protection, Proxied};
use wire::origin::trust::TrustedPeer;
use wire::origin::{ClientTls, Origin, OriginUpdate, Transport};

/// Time for a PROXY header, from accept.
const PROXY_HEADER: Duration = Duration::from_secs(5);

/// Whether a connection begins with a PROXY header.
pub enum HeaderDue {
    /// It does not.
    No,
    /// It must, and this peer's would not be believed: it is closed without a word.
    Stranger,
    /// It does, and this peer is believed.
    Yes(TrustedPeer),
}

impl HeaderDue {
    /// Decided by the address alone, before the first byte.
    pub fn of(door: &Door, live: &Live, peer: IpAddr) -> HeaderDue {
        match (door.proxy_protocol, live.proxies.admit(peer)) {
            (ListenProxy::Off, _) | (ListenProxy::Mixed, None) => HeaderDue::No,
            (ListenProxy::Required, None) => HeaderDue::Stranger,
            (ListenProxy::Required | ListenProxy::Mixed, Some(proof)) => HeaderDue::Yes(proof),
        }
    }
}

/// How many connections that have not signed in the network of a peer may have, as the socket tells of it: balancers, trusted
/// peers and those that many share as many as they like.
pub fn knocks_of_peer(door: &Door, live: &Live, peer: IpAddr) -> Option<usize> {
    let balancer = matches!(HeaderDue::of(door, live, peer), HeaderDue::Yes(_));
    let limits = &live.meant.limits;
    let exempt = balancer || live.trusted.admit(peer).is_some() || limits.is_exempt(peer);
    (!exempt).then_some(limits.connections_before_login)
}

/// What is known of a connection.
pub struct Arrival {
    /// What the socket told, or the PROXY header.
    pub born: Origin,
    /// What is believed now.
    pub origin: Origin,
    /// Its peer may speak for others.
    pub trust: Option<TrustedPeer>,
    /// Its peer may also say who has signed in (`trust.login`).
    pub may_vouch: Option<TrustedPeer>,
    /// The user for whom that peer vouches.
    pub vouched: Option<Box<str>>,
    /// There is TLS that ends here.
    pub secured: bool,
    /// There is TLS that ends at the balancer in front.
    pub shielded: bool,
    /// The connection began with a PROXY header.
    pub behind_balancer: bool,
    /// A trusted peer said in clear who is calling.
    said_in_clear: bool,
}

impl Arrival {
    /// A connection that has just been accepted.
    pub fn new(origin: Origin) -> Arrival {
        Arrival {
            born: origin.clone(),
            origin,
            trust: None,
            may_vouch: None,
            vouched: None,
            secured: false,
            shielded: false,
            behind_balancer: false,
            said_in_clear: false,
        }
    }

    /// Takes over what a balancer tells of its client, and [meets](Arrival::meet) that one.
    ///
    /// # Errors
    /// The balancer agreed on another protocol with the client (ALPN): why the connection is closed.
    pub fn believe(&mut self, header: &Proxied, proof: &TrustedPeer, door: &Door, live: &Live) -> Result<(), String> {
        self.origin.carried(header, proof);
        let in_clear = header.protection == Some(Protection::Clear);
        self.shielded = matches!(header.protection, Some(Protection::Tls(_)));
        if door.tls == ListenTls::Offloaded && !in_clear {
            // The operator's word for a balancer that does not say it itself.
            self.shielded = true;
            self.origin.transport = Some(Transport::Tls);
        }
        self.born = self.origin.clone();
        self.meet(live);
        match &header.alpn {
            Some(alpn) if live.meant.tls.alpn_strict && !door.protocol.alpn.iter().any(|id| id.as_bytes() == alpn) => {
                Err(format!("the balancer agreed on ALPN {} with the client", alpn.escape_ascii()))
            }
            _ => Ok(()),
        }
    }

    /// Whose connection it is is known now: may its peer speak for others?
    pub fn meet(&mut self, live: &Live) {
        let peer = self.origin.source.0.ip();
        self.trust = live.trusted.admit(peer);
        self.may_vouch = self.trust.as_ref().and(live.vouchers.admit(peer));
    }

    /// TLS is in place, and ends here.
    pub fn shook_hands(&mut self, name: Option<&String>, tls: &ClientTls) {
        self.secured = true;
        for origin in [&mut self.born, &mut self.origin] {
            // What we see of a peer that named a client is not what that client uses.
            if !origin.named {
                if name.is_some() {
                    origin.name = name.cloned();
                }
                origin.transport = Some(Transport::Tls);
                origin.tls = Some(Box::new(tls.clone()));
            }
        }
    }

    /// The peer said who is calling. False: nobody may say that here.
    pub fn hear(&mut self, mut said: OriginUpdate) -> bool {
        let protected = self.protected();
        if self.trust.is_none() {
            return false;
        }
        if protected && std::mem::take(&mut self.said_in_clear) {
            self.forget();
        }
        self.said_in_clear = !protected;
        if said.client_ip.is_some() {
            // It was another client that had signed in.
            self.vouched = None;
        }
        if let (Some(user), Some(_)) = (said.user.take(), &self.may_vouch) {
            self.vouched = user.known().map(Into::into);
        }
        if let Some(proof) = &self.trust {
            self.origin.amend(said, proof);
        }
        true
    }

    /// What the peer said of the caller does not count.
    pub fn forget(&mut self) {
        self.origin = self.born.clone();
        self.vouched = None;
    }

    /// How many connections that have not signed in the client's network may have, once it is known by other means than the
    /// socket.
    pub fn knocks(&self, live: &Live) -> Option<usize> {
        let moved = self.origin.speaks_for_another() || self.origin.source != self.origin.real_client;
        (moved && !self.exempt(live)).then_some(live.meant.limits.connections_before_login)
    }

    /// The client is a process of this host: the same address on both ends, or a loopback one. Who comes through a balancer is
    /// not, wherever the balancer runs.
    fn local_client(&self) -> bool {
        let (client, own) = (self.origin.real_client.0.ip(), self.origin.real_reached.0.ip());
        !self.behind_balancer && (client.is_loopback() || client == own)
    }

    /// Nobody can listen on the client's connection.
    pub fn protected(&self) -> bool {
        self.secured || self.shielded
    }

    /// A trusted peer that speaks for itself is not limited, nor who comes from an address that many share (`limits.exempt`).
    pub fn exempt(&self, live: &Live) -> bool {
        let itself = self.trust.is_some() && !self.origin.speaks_for_another();
        itself || live.meant.limits.is_exempt(self.origin.client.0.ip())
    }

    /// What this connection may be offered. `learnt` is what backends can do, for protocols that learn it.
    pub fn terms(&self, door: &Door, live: &Live, settings: &Settings, learnt: impl FnOnce() -> String) -> Terms {
        let secure = self.protected();
        let trusted = self.trust.is_some();
        let cleartext = match door.cleartext_auth {
            CleartextAuth::Never => false,
            CleartextAuth::Loopback => self.local_client(),
            CleartextAuth::Trusted => trusted || self.local_client(),
            CleartextAuth::Always => true,
        };
        Terms {
            starttls: !secure && door.tls == ListenTls::StartTls && live.acceptor(door.protocol).is_some(),
            password_allowed: secure || cleartext,
            trusted,
            may_vouch: self.may_vouch.is_some(),
            xclient_as_exim: door.xclient == XclientAs::Exim,
            server: live.meant.server.name.clone(),
            capability: settings.capability.words(learnt),
            greeting: settings.greeting.clone(),
            server_id: settings.server_id.clone(),
            retain_client_id: settings.retain_client_id,
        }
    }
}

impl Talk<'_> {
    /// Learns whose connection this is: the socket's peer's, or of whom a balancer's PROXY header tells. `None`: it is over.
    ///
    /// Who may send a header is decided by the address alone, before the first byte; nobody hears a word before it is read.
    pub(crate) async fn arrive(&mut self, deadline: Instant) -> Option<()> {
        match HeaderDue::of(self.door, self.live, self.who.origin.real_client.0.ip()) {
            HeaderDue::Stranger => {
                let text = "a peer that is not in trust.proxy_protocol, where all must be";
                // Told in sum: scanners must not fill the journal, and a balancer that was forgotten must not go unseen.
                self.house.strangers.fetch_add(1, Ordering::Relaxed);
                let stranger = self.who.origin.real_client.0.ip();
                *self.house.last_stranger.lock().unwrap_or_else(PoisonError::into_inner) = Some(stranger);
                self.record.left(&self.house.journal, Level::Debug, "proxy-protocol", &text);
                return None;
            }
            HeaderDue::No => self.who.meet(self.live),
            HeaderDue::Yes(proof) => {
                let header = self.header(deadline).await?;
                self.who.behind_balancer = true;
                match header {
                    Header::Proxied(header) => self.believe(&header, &proof).await?,
                    // Its own health check, or a client that it cannot name: nobody is to be taken for the balancer itself.
                    Header::Local => return Some(()),
                }
            }
        }
        Some(())
    }

    /// Reads a PROXY header, and not an octet behind it.
    async fn header(&mut self, deadline: Instant) -> Option<Header> {
        let by = deadline.min(Instant::now() + PROXY_HEADER);
        let conn = self.conn.as_mut()?;
        let mut held = BytesMut::new();
        let reading = read_head(conn, &mut held, haproxy::V2_MAX, |octets| {
            haproxy::read(octets).map(|progress| match progress {
                Progress::More => Head::More,
                Progress::Done { header, octets } => Head::Whole(header, octets),
            })
        });
        let mut phase = self.house.phase.clone();
        let read = tokio::select! {
            read = timeout_at(by, reading) => read,
            () = Phase::Closing.reached(&mut phase) => return None,
        };
        let journal = &self.house.journal;
        match read {
            Ok(Ok(header)) => return Some(header),
            Ok(Err(HeadError::Refused(fault))) => self.record.left(journal, Level::Warning, fault.rule, &fault.detail),
            // Balancers that only look whether the port is open leave without a header.
            Ok(Err(HeadError::Closed)) if held.is_empty() => {
                self.record.left(journal, Level::Debug, "closed", &"before its PROXY header")
            }
            Ok(Err(e)) => self.record.left(journal, Level::Info, "proxy-header", &e),
            Err(_) => {
                let seconds = PROXY_HEADER.as_secs();
                self.record.left(journal, Level::Warning, "proxy-header", &format_args!("not here within {seconds} s"));
            }
        }
        None
    }

    /// Writes down that words about the caller do not count: a peer that should be in a list, or an attack. Once for each kind.
    pub(crate) fn unbelieved(&mut self, heard: Option<Unbelieved>) {
        let Some(Unbelieved { trusted, why }) = heard else { return };
        let noted = if trusted { &mut self.noted_trusted } else { &mut self.noted_stranger };
        if !std::mem::replace(noted, true) {
            let level = if trusted { Level::Warning } else { Level::Info };
            self.record.note(&self.house.journal, level, "identity-unbelieved", &why);
        }
    }

    /// Takes over what a balancer tells of its client.
    async fn believe(&mut self, header: &Proxied, proof: &TrustedPeer) -> Option<()> {
        let believed = self.who.believe(header, proof, self.door, self.live);
        self.told();
        self.record.note(&self.house.journal, Level::Debug, "proxy-protocol", &Told(header));
        if let Err(text) = believed {
            self.record.left(&self.house.journal, Level::Info, "alpn", &text);
            return None;
        }
        if self.knock_for_client() {
            return Some(());
        }
        let text = too_many_knocks(self.live.meant.limits.connections_before_login);
        // Counted and told in sum: one client must not fill the journal.
        self.record.left(&self.house.journal, Level::Debug, "limit", &text);
        let clear = self.door.tls != ListenTls::Implicit;
        self.last_words(if clear { (self.door.protocol.goodbye)(Goodbye::TooManyConnections) } else { &[] }).await;
        None
    }

    /// From here on another address is the client's: the place before login is counted there. False: it has too many.
    pub(crate) fn knock_for_client(&mut self) -> bool {
        let limit = self.who.knocks(self.live);
        // Its old place first: a peer that names the same client twice needs one, not two.
        self.knock = None;
        self.knock = self.house.guard.knock(self.who.origin.client.0.ip(), limit);
        if let Some((near, limit)) = self.knock.as_ref().and_then(|knock| knock.near).zip(limit) {
            tell_knocks(self.house, near, limit);
        }
        self.knock.is_some()
    }
}

/// A network has nearly as many connections before login as it may have.
pub fn tell_knocks(house: &House, (net, number): (Net, usize), limit: usize) {
    let text = format_args!("{net} has {number} of {limit} connections that have not signed in");
    house.warnings.near(&house.journal, Limit::BeforeLogin, &text);
}

/// A header in words. What a balancer says is to be escaped.
pub struct Told<'a>(pub &'a Proxied);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxied { client, reached, authority, alpn, protection, unique_id } = self.0;
        write!(f, "the balancer tells of {client} at {reached}")?;
        if let Some(name) = authority {
            write!(f, ", name {name}")?;
        }
        match protection {
            None => {}
            Some(Protection::Clear) => f.write_str(", in clear")?,
            Some(Protection::Tls(tls)) => {
                let word = |text: &Option<String>| text.as_deref().unwrap_or("?").to_owned();
                write!(f, ", {} {}", word(&tls.version), word(&tls.cipher))?;
                if let Some(name) = &tls.common_name {
                    write!(f, ", certificate of {name}")?;
                }
            }
        }
        if let Some(alpn) = alpn {
            write!(f, ", ALPN {}", alpn.escape_ascii())?;
        }
        if let Some(id) = unique_id {
            write!(f, ", id {}", id.escape_ascii())?;
        }
        Ok(())
    }
}
