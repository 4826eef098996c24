//! How a client comes that does not come: from the listener to the greeting, whatever it wants there.

use super::ask::{self, Unanswerable};
use super::outcome::Outcome;
use super::seen;
use crate::config::listen_at::ListenAt;
use crate::config::meant::{ListenProxy, ListenTls};
use crate::login::arrival::{Arrival, HeaderDue, Told, knocks_of_peer};
use crate::login::house::{Door, House, Live};
use crate::login::limits::Ceiling;
use crate::login::session::too_many_knocks;
use crate::protocol::{self, PROTOCOLS, Protocol};
use crate::server::{self, speaks_first};
use crate::witness::{Step, Witness};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use wire::dance::Introduction;
use wire::login::Goodbye;
use wire::origin::haproxy::{Protection, Proxied};
use wire::origin::{ClientAddr, ClientTls, ForwardField, HopsLeft, Origin, SessionId};

/// A client of which nothing was said is somewhere else: an address that nobody has (RFC 5737).
const SOMEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);
/// The session's id, in the place of one that would be made.
const SESSION: &str = "EXPLAINED";

/// How a part of the way ends: it goes on, or that was all.
pub(super) type Passage<T> = Result<T, Box<Outcome>>;

/// What was asked of how a client comes.
pub(super) struct How<'a> {
    pub(super) from: Option<&'a String>,
    pub(super) helo: Option<&'a String>,
    pub(super) sni: Option<&'a String>,
    pub(super) in_clear: bool,
    pub(super) via: Option<&'a String>,
    pub(super) ttl: Option<u32>,
    pub(super) forward: &'a [String],
    pub(super) balancer: Option<&'a String>,
}

/// A client on its way to a listener.
pub(super) struct Coming<'a> {
    pub(super) house: &'a House,
    pub(super) live: &'a Live,
    how: How<'a>,
    pub(super) witness: Witness<'a>,
    pub(super) door: Arc<Door>,
    /// The client itself.
    pub(super) from: SocketAddr,
    pub(super) via: Option<SocketAddr>,
    balancer: Option<SocketAddr>,
}

impl<'a> Coming<'a> {
    /// To this listener.
    ///
    /// # Errors
    /// What was asked makes no sense.
    pub(super) fn new(
        house: &'a House,
        live: &'a Live,
        how: How<'a>,
        door: Arc<Door>,
        witness: Witness<'a>,
    ) -> Result<Coming<'a>, Unanswerable> {
        let parse = |option: &str, text: Option<&String>| text.map(|text| ask::address(option, text)).transpose();
        let from = parse("from", how.from)?;
        let (via, balancer) = (parse("via", how.via)?, parse("balancer", how.balancer)?);
        if via.is_none() && (how.ttl.is_some() || !how.forward.is_empty()) {
            return Err(Unanswerable("ttl and forward are what a proxy in front says: give its address by via".to_owned()));
        }
        if let Some(helo) = how.helo.filter(|name| !wire::smtp::command::is_name(name.as_bytes())) {
            let why = "a name is 1 to 255 printable ASCII characters without a blank";
            return Err(Unanswerable(format!("{helo:?} would not be told to anybody: {why}")));
        }
        if how.in_clear && door.tls == ListenTls::Implicit {
            return Err(Unanswerable(format!("{}: TLS begins there with the first byte, nobody is in clear", door.name())));
        }
        let unix = door.bound.path().is_some();
        if unix && let Some(peer) = balancer.or(via).or(from).filter(|peer| !peer.ip().is_loopback()) {
            return Err(Unanswerable(format!(
                "{}: nobody comes from {} there, only processes of this host",
                door.name(),
                peer.ip()
            )));
        }
        let from = from.unwrap_or(if unix { relay::socket::UNIX } else { SOMEWHERE });
        Ok(Coming { house, live, how, witness, door, from, via, balancer })
    }

    /// From accept to the greeting: whose connection it is, and under which limits.
    pub(super) fn arrive(&self) -> Passage<Arrival> {
        let Coming { house, live, how, witness, door, from, via, balancer } = self;
        witness.saw(|| seen::listener(door));
        let peer = balancer.or(*via).unwrap_or(*from);
        let (peer, here) = match door.bound.tcp() {
            Some(bound) => (peer, SocketAddr::new(own_address(bound.ip(), peer), bound.port())),
            None => (relay::socket::UNIX, relay::socket::UNIX),
        };
        witness.saw(|| {
            let who = match (balancer, via) {
                (Some(_), _) => "balancer",
                (None, Some(_)) => "proxy",
                (None, None) if how.from.is_none() => "a client whose address was not given, say",
                (None, None) => "client",
            };
            seen::peer(who, peer, here, live)
        });

        let goodbye = |why| if speaks_first(door) { (door.protocol.goodbye)(why) } else { &[][..] };
        self.knock(peer.ip(), knocks_of_peer(door, live, peer.ip()), goodbye(Goodbye::TooManyConnections))?;
        if witness.knows_the_house() {
            if let Some(most) = door.places.limit() {
                witness.saw(|| {
                    seen::limit("listener", format!("{} has", door.name()), door.places.used(), most, "listen.connections")
                });
                if door.places.is_full() {
                    let text = format!("{most} connections at this listener (listen.connections)");
                    return Err(Box::new(Outcome::closed("limit", text, goodbye(Goodbye::ListenerFull))));
                }
            }
            let all = house.seats.all();
            if let Some(most) = all.limit() {
                witness.saw(|| {
                    seen::limit("connections", "all listeners together have".to_owned(), all.used(), most, "limits.connections")
                });
            }
        }

        let mut arrival = Arrival::new(Origin::at_accept(peer, here, session_id()));
        self.header(&mut arrival, here)?;
        let wants_tls = door.tls == ListenTls::Implicit || door.tls == ListenTls::StartTls && !how.in_clear;
        match live.acceptor(door.protocol) {
            Some(acceptor) if wants_tls => {
                let name = how.sni;
                witness.saw(|| seen::certificate(acceptor.shown_for(name.map(String::as_str)), name, live));
                arrival.shook_hands(name, &ClientTls::default());
            }
            None if door.tls == ListenTls::Implicit => {
                let text = "no certificate is configured ([tls] certificates)";
                return Err(Box::new(Outcome::closed("tls", text, &[])));
            }
            _ => {}
        }
        arrival.meet(live);
        witness.saw(|| crate::login::seen::trust(&arrival, live));
        Ok(arrival)
    }

    /// The PROXY header, if one is due or comes all the same.
    fn header(&self, arrival: &mut Arrival, here: SocketAddr) -> Passage<()> {
        let Coming { live, how, witness, door, from, via, balancer, .. } = self;
        let closed = |reason: &str, text: String| Err(Box::new(Outcome::closed(reason, text, &[])));
        let peer = arrival.origin.real_client.0;
        match (HeaderDue::of(door, live, peer.ip()), balancer) {
            (HeaderDue::No, None) => Ok(()),
            (HeaderDue::Stranger, _) => {
                let text =
                    format!("{peer} is not in trust.proxy_protocol, where all must be (listen.proxy_protocol = \"required\")");
                closed("proxy-protocol", text)
            }
            (HeaderDue::Yes(_), None) => {
                let text =
                    format!("{peer} is in trust.proxy_protocol, and so must begin with a PROXY header; without one it is closed");
                closed("proxy-missing", text)
            }
            (HeaderDue::No, Some(_)) => {
                let why = match door.proxy_protocol {
                    ListenProxy::Off => "this listener takes none (listen.proxy_protocol)".to_owned(),
                    _ => format!("{peer} is not in trust.proxy_protocol"),
                };
                let reason = if door.tls == ListenTls::Implicit { "tls" } else { "proxy-header" };
                closed(reason, format!("a PROXY header is no header here: {why}"))
            }
            (HeaderDue::Yes(proof), Some(_)) => {
                let behind = via.unwrap_or(*from);
                let offloads = matches!(door.tls, ListenTls::Offloaded | ListenTls::None);
                let header = Proxied {
                    client: behind,
                    reached: here,
                    authority: how.sni.cloned().filter(|_| offloads),
                    alpn: None,
                    protection: (offloads && how.in_clear).then_some(Protection::Clear),
                    unique_id: None,
                };
                arrival.behind_balancer = true;
                witness.saw(|| {
                    Step::new("proxy-header", format!("believed: {}", Told(&header)))
                        .with("client", behind.to_string())
                        .with("reached", here.to_string())
                });
                if let Err(text) = arrival.believe(&header, &proof, door, live) {
                    return closed("alpn", text);
                }
                let clear = door.tls != ListenTls::Implicit;
                let last_words = if clear { (door.protocol.goodbye)(Goodbye::TooManyConnections) } else { &[] };
                self.knock(arrival.origin.client.0.ip(), arrival.knocks(live), last_words)
            }
        }
    }

    /// A place among the connections of a network that have not signed in.
    pub(super) fn knock(&self, ip: IpAddr, most: Option<usize>, last_words: &[u8]) -> Passage<()> {
        let (Some(most), true) = (most, self.witness.knows_the_house()) else { return Ok(()) };
        let have = self.house.guard.waiting(ip);
        let text = format!("the network of {ip} has");
        self.witness.saw(|| seen::limit("connections_before_login", text, have, most, "limits.connections_before_login"));
        if have < most {
            return Ok(());
        }
        Err(Box::new(Outcome::closed("limit", too_many_knocks(most), last_words)))
    }

    /// What the client calls itself, in protocols where it does.
    pub(super) fn helo(&self) -> &'a str {
        self.how.helo.map_or("client.example", String::as_str)
    }

    /// What the proxy in front says of its client, pairs apart.
    pub(super) fn introduction(&self, arrival: &Arrival) -> Introduction {
        let mut origin = arrival.origin.clone();
        origin.client = ClientAddr(self.from);
        origin.session = session_id();
        origin.hops = self.how.ttl.map_or(HopsLeft::START, HopsLeft::said);
        (origin.transport, origin.tls, origin.name) = (None, None, None);
        origin.helo = Some(wire::origin::Told::Known(self.helo().into()));
        Introduction { origin, client_id: Vec::new(), forward: Vec::new(), patience: None }
    }

    /// The pairs that it forwards.
    pub(super) fn forwarded(&self) -> Result<Vec<ForwardField>, Unanswerable> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(ForwardField { name: name.to_ascii_lowercase(), value: value.to_owned() })
            }
            _ => Err(Unanswerable(format!("forward {text:?} is no NAME=VALUE"))),
        };
        self.how.forward.iter().map(pair).collect()
    }
}

/// The listeners of a configuration that nobody serves.
pub fn doors_of(live: &Live) -> Vec<Arc<Door>> {
    let door = |listen: &crate::config::meant::Listen| {
        let places = Arc::new(Ceiling::new(listen.connections));
        Some(Arc::new(server::door(listen, protocol::find(listen.protocol)?, listen.address.clone(), places)))
    };
    live.meant.listen.iter().filter_map(door).collect()
}

/// The listener that was asked for, or the first one that fits.
pub(super) fn choose(doors: &[Arc<Door>], name: Option<&str>, listener: Option<&ListenAt>) -> Result<Arc<Door>, Unanswerable> {
    let known = |name: &str| PROTOCOLS.iter().any(|row| row.names().any(|known| known == name));
    if let Some(name) = name.filter(|name| !known(name)) {
        let names: Vec<&str> = PROTOCOLS.iter().flat_map(Protocol::names).collect();
        return Err(Unanswerable(format!("there is no protocol {name:?}; it is one of {}", names.join(", "))));
    }
    let implicit = |door: &Door| door.tls == ListenTls::Implicit;
    let under_tls = |door: &Door| door.protocol.implicit.map(|(name, _)| name);
    let fits = |door: &&Arc<Door>| match (name, listener) {
        (_, Some(listener)) if door.bound != *listener && door.address != *listener => false,
        (Some(name), None) => door.protocol.name == name && !implicit(door) || under_tls(door) == Some(name) && implicit(door),
        (Some(name), Some(_)) => door.protocol.name == name || under_tls(door) == Some(name),
        (None, _) => true,
    };
    // A protocol that is only spoken under TLS from the first byte is meant by its own name as well.
    let at_all = |door: &&Arc<Door>| listener.is_none() && name == Some(door.protocol.name);
    doors.iter().find(fits).or_else(|| doors.iter().find(at_all)).cloned().ok_or_else(|| {
        let all: Vec<String> = doors.iter().map(|door| format!("{} ({})", door.name(), door.tls.word())).collect();
        Unanswerable(format!("no such listener; there are: {}", all.join(", ")))
    })
}

/// What the peer reaches: the listener's address or, where it listens on all, the one that the kernel would answer from.
fn own_address(bound: IpAddr, peer: SocketAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    let unspecified: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let loopback = if peer.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    // A socket of datagrams that is connected and says nothing: the kernel only looks at its routes.
    let asked = || {
        let socket = UdpSocket::bind((unspecified, 0))?;
        socket.connect((peer.ip(), 9))?;
        socket.local_addr()
    };
    asked().map_or(loopback, |own: SocketAddr| own.ip())
}

fn session_id() -> SessionId {
    SessionId::new(SESSION).unwrap_or_else(|| SessionId::from_random([0; 12]))
}
