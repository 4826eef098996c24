//! Who is really calling: one type, and the ways to spell it for the next server.
//!
//! An [`Origin`] is what we believe about the caller. It is born at accept from the socket, moved by the PROXY header that
//! stands before everything else on such a connection ([`Origin::carried`]), amended by whatever a *trusted* peer says
//! ([`OriginUpdate`]), and rendered for the next hop by a carrier. The first is believed of PROXY peers only, the second of
//! trusted ones, each with a [`trust::TrustedPeer`] proof from its own list. Missing and "known to be unknown" stay apart:
//! a field that was not said changes nothing.
//!
//! [`xforward`] stands apart: it tells of a mail and not of a connection, so it moves no [`Origin`] and has a set of its own.
//!
//! So there are three layers of addresses, from the wire to the person: `real_client` (the socket), `source` (whose
//! connection it is: the socket's peer, or who came through a PROXY peer) and `client` (who is calling).

pub mod haproxy;
pub mod imap_id;
mod spelling;
pub mod trust;
pub mod xclient;
pub mod xforward;
pub(crate) mod xtext;

use crate::login::Helo;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use haproxy::{Protection, Proxied};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use trust::TrustedPeer;

/// The address the client calls from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub SocketAddr);

/// The address the client reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReachedAddr(pub SocketAddr);

/// Takes the IPv4 address out of an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`); every address that enters goes through here.
pub fn unmapped(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// An identifier of one session, passed from hop to hop: 1 to 64 octets of printable ASCII without space, quote and backslash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Box<str>);

impl SessionId {
    /// The longest identifier that is taken, as Dovecot 2.3's `LOGIN_MAX_SESSION_ID_LEN`.
    pub const MAX: usize = 64;

    /// Checks and takes an identifier.
    pub fn new(text: &str) -> Option<Self> {
        let fine =
            !text.is_empty() && text.len() <= Self::MAX && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        fine.then(|| SessionId(text.into()))
    }

    /// A fresh identifier of 96 random bits: 16 characters that need no escaping anywhere.
    pub fn from_random(bits: [u8; 12]) -> Self {
        SessionId(URL_SAFE_NO_PAD.encode(bits).into())
    }

    /// The identifier.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many proxies may still follow. Can only be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopsLeft(u8);

impl HopsLeft {
    /// What a connection starts with when nobody said anything, as Dovecot's `LOGIN_PROXY_TTL`.
    pub const START: HopsLeft = HopsLeft(5);

    /// What a peer said. Values over 255 count as 255.
    pub fn said(value: u32) -> Self {
        HopsLeft(u8::try_from(value).unwrap_or(u8::MAX))
    }

    /// The number itself.
    pub fn get(self) -> u8 {
        self.0
    }

    /// One hop fewer, for the next server; `None` when 1 or less is left: the login must be refused.
    pub fn spend(self) -> Option<HopsLeft> {
        (self.0 > 1).then(|| HopsLeft(self.0.saturating_sub(1)))
    }
}

/// How the client's own connection is protected, for `x-client-transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS.
    Tls,
    /// In clear.
    Insecure,
}

impl Transport {
    /// As Dovecot 2.4 spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tls => "TLS",
            Transport::Insecure => "insecure",
        }
    }
}

/// What is known of the TLS of the client's own connection. The words are those of whoever ended it: all of it may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The version, such as `TLSv1.3`; at most 64 octets.
    pub version: Option<String>,
    /// The cipher, as OpenSSL or IANA names it; at most 64 octets.
    pub cipher: Option<String>,
    /// The common name of the certificate that the client showed, at most 255 octets: only where it was *verified*.
    pub common_name: Option<String>,
}

/// One forwarded pair: `forward_NAME` in a user database, `x-forward-NAME` in an IMAP ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardField {
    /// The name without prefix, lower case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A word about the client that a peer may also say it does not know: three things besides having said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// This.
    Known(Box<str>),
    /// There is none (`[UNAVAILABLE]`).
    Unavailable,
    /// It could not be found out for now (`[TEMPUNAVAIL]`).
    TemporarilyUnavailable,
}

impl Told {
    /// The word, where it is known.
    pub fn known(&self) -> Option<&str> {
        match self {
            Told::Known(word) => Some(word),
            Told::Unavailable | Told::TemporarilyUnavailable => None,
        }
    }
}

/// What the client spoke, as `PROTO` of `XCLIENT` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailProtocol {
    /// It said `HELO`.
    Smtp,
    /// It said `EHLO`.
    Esmtp,
    /// It said `LHLO`.
    Lmtp,
}

impl MailProtocol {
    /// As it is spelled.
    pub fn as_str(self) -> &'static str {
        match self {
            MailProtocol::Smtp => "SMTP",
            MailProtocol::Esmtp => "ESMTP",
            MailProtocol::Lmtp => "LMTP",
        }
    }
}

/// What we believe about the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where the client is.
    pub client: ClientAddr,
    /// What it reached.
    pub reached: ReachedAddr,
    /// Whose connection it is: the peer of our socket, or the client of a PROXY header. Whether somebody on that connection
    /// speaks for another is seen against this; [`Origin::amend`] never changes it.
    pub source: ClientAddr,
    /// What that connection reached: our end of the socket, or what the PROXY header says. [`Origin::amend`] never changes it.
    pub arrived: ReachedAddr,
    /// The peer of our own socket. Never changes.
    pub real_client: ClientAddr,
    /// Our own end of our own socket. Never changes.
    pub real_reached: ReachedAddr,
    /// The server name the client asked for in TLS (SNI), or what a trusted peer told of it.
    pub name: Option<String>,
    /// The session's identifier.
    pub session: SessionId,
    /// How many proxies may still follow.
    pub hops: HopsLeft,
    /// How the client's own connection is protected; `None` where a peer named the client and did not say.
    pub transport: Option<Transport>,
    /// The client's own TLS, where `transport` is TLS and more is known of it: from our own handshake or a PROXY header.
    pub tls: Option<Box<ClientTls>>,
    /// A trusted peer said who is calling, by a carrier inside the conversation; a PROXY header is not one.
    pub forwarded: bool,
    /// It named the client or told how that one is protected, or a PROXY header told of its TLS: what we see of TLS is not the
    /// client's.
    pub named: bool,
    /// Pairs received from a trusted peer, in order.
    pub forward: Vec<ForwardField>,
    /// The name of the client's address, as a trusted peer told it. Gatepost looks up none.
    pub host_name: Option<Told>,
    /// The same before anybody confirmed it.
    pub reverse_name: Option<Told>,
    /// What the client called itself: as a trusted peer told it, else as it said it to us.
    pub helo: Option<Told>,
    /// What it spoke, told or seen alike.
    pub spoke: Option<MailProtocol>,
    /// How long a trusted peer will wait for us.
    pub patience: Option<Duration>,
}

impl Origin {
    /// What the socket tells at accept. IPv4-mapped addresses are unmapped.
    pub fn at_accept(peer: SocketAddr, local: SocketAddr, session: SessionId) -> Self {
        let peer = SocketAddr::new(unmapped(peer.ip()), peer.port());
        let local = SocketAddr::new(unmapped(local.ip()), local.port());
        Origin {
            client: ClientAddr(peer),
            reached: ReachedAddr(local),
            source: ClientAddr(peer),
            arrived: ReachedAddr(local),
            real_client: ClientAddr(peer),
            real_reached: ReachedAddr(local),
            name: None,
            session,
            hops: HopsLeft::START,
            transport: Some(Transport::Insecure),
            tls: None,
            forwarded: false,
            named: false,
            forward: Vec::new(),
            host_name: None,
            reverse_name: None,
            helo: None,
            spoke: None,
            patience: None,
        }
    }

    /// A trusted peer speaks for a client at another address than that of its own connection. A PROXY header alone does not:
    /// the connection it describes is the client's.
    pub fn speaks_for_another(&self) -> bool {
        self.client.0.ip() != self.source.0.ip()
    }

    /// The peer of our socket, where it is not the client itself: a balancer, or who speaks for the client.
    pub fn via(&self) -> Option<SocketAddr> {
        (self.forwarded || self.source != self.real_client).then_some(self.real_client.0)
    }

    /// Believes the PROXY header that came before everything else. The proof is of the list of PROXY peers, not of the one
    /// whose carriers are believed.
    ///
    /// Both ends and the server name become the header's, all at once: without AUTHORITY there is no name, without an SSL TLV
    /// it is not known how the client is protected (`None`). Unless the header tells of TLS, the client may still shake hands
    /// with us, and what that shows is its own. `forwarded`, the hops, the session
    /// and the socket's own addresses stay.
    pub fn carried(&mut self, header: &Proxied, _proof: &TrustedPeer) {
        let client = SocketAddr::new(unmapped(header.client.ip()), header.client.port());
        let reached = SocketAddr::new(unmapped(header.reached.ip()), header.reached.port());
        self.client = ClientAddr(client);
        self.source = ClientAddr(client);
        self.reached = ReachedAddr(reached);
        self.arrived = ReachedAddr(reached);
        self.name.clone_from(&header.authority);
        (self.transport, self.tls) = match &header.protection {
            None => (None, None),
            Some(Protection::Clear) => (Some(Transport::Insecure), None),
            Some(Protection::Tls(tls)) => (Some(Transport::Tls), Some(tls.clone())),
        };
        // Told to be in clear, it may still become TLS with us, and then what we see is the client's own.
        self.named = matches!(header.protection, Some(Protection::Tls(_)));
    }

    /// Believes what a trusted peer said. The proof is why this cannot be called for anybody else.
    pub fn amend(&mut self, said: OriginUpdate, _proof: &TrustedPeer) {
        let spoken = std::mem::replace(&mut self.forwarded, true);
        if said.client_ip.is_some() || said.client_port.is_some() {
            // What we saw of TLS so far was the peer's, not its client's.
            self.name = None;
            self.transport = None;
            self.tls = None;
            self.named = true;
        }
        self.named |= said.transport.is_some() || said.reached_name.is_some();
        if let Some(ip) = said.client_ip {
            // A port belongs to its address: one without the other would name a caller that never was.
            let port = said.client_port.unwrap_or(0);
            self.client = ClientAddr(SocketAddr::new(unmapped(ip), port));
        } else if let Some(port) = said.client_port {
            self.client.0.set_port(port);
        }
        if let Some(ip) = said.reached_ip {
            self.reached = ReachedAddr(SocketAddr::new(unmapped(ip), said.reached_port.unwrap_or(0)));
        } else if let Some(port) = said.reached_port {
            self.reached.0.set_port(port);
        }
        if let Some(name) = said.reached_name {
            self.name = Some(name);
        }
        if let Some(session) = said.session {
            self.session = session;
        }
        if let Some(hops) = said.hops {
            // Who said a number already can only take from it.
            self.hops = if spoken && hops.get() > self.hops.get() { self.hops } else { hops };
        }
        if said.transport.is_some() {
            self.transport = said.transport;
            // Details of a TLS that this word may not be about.
            self.tls = None;
        }
        if !said.forward.is_empty() {
            self.forward = said.forward;
        }
        if said.client_ip.is_some() {
            // They are another client's.
            (self.host_name, self.reverse_name, self.helo, self.spoke) = (None, None, None, None);
        }
        fn replace<T>(known: &mut Option<T>, said: Option<T>) {
            if said.is_some() {
                *known = said;
            }
        }
        replace(&mut self.host_name, said.host_name);
        replace(&mut self.reverse_name, said.reverse_name);
        replace(&mut self.helo, said.helo);
        replace(&mut self.spoke, said.spoke);
        replace(&mut self.patience, said.patience);
    }

    /// What the client called itself to us; what a trusted peer told of it counts more.
    pub fn called_itself(&mut self, helo: Helo) {
        self.helo.get_or_insert_with(|| Told::Known(helo.name.into()));
        self.spoke.get_or_insert(if helo.extended { MailProtocol::Esmtp } else { MailProtocol::Smtp });
    }
}

/// What a peer said about the caller: parsed and checked, not yet believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginUpdate {
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The client's port.
    pub client_port: Option<u16>,
    /// The address the client reached.
    pub reached_ip: Option<IpAddr>,
    /// The port the client reached.
    pub reached_port: Option<u16>,
    /// The name the client asked for in TLS.
    pub reached_name: Option<String>,
    /// The session's identifier.
    pub session: Option<SessionId>,
    /// How many proxies may still follow.
    pub hops: Option<HopsLeft>,
    /// How the client's own connection is protected.
    pub transport: Option<Transport>,
    /// Forwarded pairs.
    pub forward: Vec<ForwardField>,
    /// The name of the client's address.
    pub host_name: Option<Told>,
    /// The same before anybody confirmed it.
    pub reverse_name: Option<Told>,
    /// What the client called itself.
    pub helo: Option<Told>,
    /// What it spoke.
    pub spoke: Option<MailProtocol>,
    /// How long the peer will wait for us.
    pub patience: Option<Duration>,
    /// The user that the peer vouches for. [`Origin::amend`] does not look at it: it is no identity of a connection but an
    /// authentication, and takes a proof of its own.
    pub user: Option<Told>,
}

impl OriginUpdate {
    /// Nothing was said about the caller.
    pub fn is_empty(&self) -> bool {
        *self == OriginUpdate::default()
    }
}

#[cfg(test)]
mod tests;
