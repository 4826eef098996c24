//! Who is really calling: one type, and the ways to spell it for the next server.
//!
//! An [`Origin`] is what we believe about the caller. It is born at accept from the socket, amended by whatever a
//! *trusted* peer says ([`OriginUpdate`], applied only with a [`trust::TrustedPeer`] proof), and rendered for the next hop
//! by a carrier. Missing and "known to be unknown" stay apart: a field that was not said changes nothing.

pub mod imap_id;
pub mod trust;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
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

/// One forwarded pair: `forward_NAME` in a user database, `x-forward-NAME` in an IMAP ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardField {
    /// The name without prefix, lower case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// What we believe about the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where the client is.
    pub client: ClientAddr,
    /// What it reached.
    pub reached: ReachedAddr,
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
    /// How the client's own connection is protected.
    pub transport: Transport,
    /// A trusted peer said who is calling.
    pub forwarded: bool,
    /// Pairs received from a trusted peer, in order.
    pub forward: Vec<ForwardField>,
}

impl Origin {
    /// What the socket tells at accept. IPv4-mapped addresses are unmapped.
    pub fn at_accept(peer: SocketAddr, local: SocketAddr, session: SessionId) -> Self {
        let peer = SocketAddr::new(unmapped(peer.ip()), peer.port());
        let local = SocketAddr::new(unmapped(local.ip()), local.port());
        Origin {
            client: ClientAddr(peer),
            reached: ReachedAddr(local),
            real_client: ClientAddr(peer),
            real_reached: ReachedAddr(local),
            name: None,
            session,
            hops: HopsLeft::START,
            transport: Transport::Insecure,
            forwarded: false,
            forward: Vec::new(),
        }
    }

    /// Believes what a trusted peer said. The proof is why this cannot be called for anybody else.
    pub fn amend(&mut self, said: OriginUpdate, _proof: &TrustedPeer) {
        self.forwarded = true;
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
            self.hops = hops;
        }
        if let Some(transport) = said.transport {
            self.transport = transport;
        }
        if !said.forward.is_empty() {
            self.forward = said.forward;
        }
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
}

impl OriginUpdate {
    /// Nothing was said about the caller.
    pub fn is_empty(&self) -> bool {
        *self == OriginUpdate::default()
    }
}
