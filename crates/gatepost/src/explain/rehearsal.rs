//! A login that does not happen, from the listener to the verdict.

use super::ask::{self, Ask, Unanswerable};
use super::client::{Client, Conversation, Said};
use super::outcome::{Outcome, Verdict};
use super::{Explanation, VERSION, seen, words};
use crate::backend::connect;
use crate::config::meant::{ListenProxy, ListenTls};
use crate::failure::{Failure, PRIVACY_REQUIRED};
use crate::journal::level_word;
use crate::login::arrival::{Arrival, HeaderDue, Told, knocks_of_peer};
use crate::login::auth::{self, Caller};
use crate::login::house::{Door, House, Live};
use crate::login::limits::Ceiling;
use crate::login::session::{self, too_many_knocks};
use crate::protocol::{self, LoginWay, PROTOCOLS, Protocol};
use crate::server::{self, speaks_first};
use crate::witness::{MASK, Step, Trail, Witness};
use bytes::BytesMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use wire::dance::Introduction;
use wire::login::{Front, Goodbye, Login, LoginEvent, Terms};
use wire::origin::haproxy::{Protection, Proxied};
use wire::origin::{ClientAddr, ClientTls, ForwardField, HopsLeft, Origin, SessionId};
use wire::secret::{Password, Secret};

/// A client of which nothing was said is somewhere else: an address that nobody has (RFC 5737).
const SOMEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);
/// The session's id, in the place of one that would be made.
const SESSION: &str = "EXPLAINED";

/// Explains a login of a running Gatepost, or with `running` false of a house that was built from a configuration file alone.
///
/// # Errors
/// What was asked makes no sense here.
pub async fn login(house: &House, running: bool, ask: &Ask) -> Result<Explanation, Unanswerable> {
    let live = house.live.load_full();
    let trail = Trail::new(ask.password());
    let trail = if running { trail } else { trail.alone() };
    let outcome = {
        let rehearsal = Rehearsal::new(house, &live, ask, trail.witness())?;
        rehearsal.run(&trail).await?
    };
    let steps = trail.into_steps();
    let held = steps.iter().filter(|step| step.step == "hold").filter_map(|step| step.data.get("seconds")?.as_f64());
    let outcome = Outcome { waits: outcome.waits + held.sum::<f64>(), ..outcome };
    Ok(Explanation { version: VERSION, running, steps, outcome })
}

/// The listeners of a configuration that nobody serves.
pub fn doors_of(live: &Live) -> Vec<Arc<Door>> {
    let door = |listen: &crate::config::meant::Listen| {
        let places = Arc::new(Ceiling::new(listen.connections));
        Some(Arc::new(server::door(listen, protocol::find(listen.protocol)?, listen.address.clone(), places)))
    };
    live.meant.listen.iter().filter_map(door).collect()
}

struct Rehearsal<'a> {
    house: &'a House,
    live: &'a Live,
    ask: &'a Ask,
    witness: Witness<'a>,
    door: Arc<Door>,
    /// Its protocol's way.
    way: &'static LoginWay,
    /// The client itself.
    from: SocketAddr,
    via: Option<SocketAddr>,
    balancer: Option<SocketAddr>,
}

/// How a part of the way ends: it goes on, or that was all.
type Passage<T> = Result<T, Box<Outcome>>;

impl<'a> Rehearsal<'a> {
    fn new(house: &'a House, live: &'a Live, ask: &'a Ask, witness: Witness<'a>) -> Result<Rehearsal<'a>, Unanswerable> {
        let parse = |option: &str, text: &Option<String>| text.as_ref().map(|text| ask::address(option, text)).transpose();
        let from = parse("from", &ask.from)?;
        let (via, balancer) = (parse("via", &ask.via)?, parse("balancer", &ask.balancer)?);
        if via.is_none() && (ask.ttl.is_some() || !ask.forward.is_empty()) {
            return Err(Unanswerable("ttl and forward are what a proxy in front says: give its address by via".to_owned()));
        }
        if ask.user.is_empty() || ask.user.bytes().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return Err(Unanswerable("no client can say this user name: it is empty, or holds CR, LF or NUL".to_owned()));
        }
        if let Some(helo) = ask.helo.as_ref().filter(|name| !wire::smtp::command::is_name(name.as_bytes())) {
            let why = "a name is 1 to 255 printable ASCII characters without a blank";
            return Err(Unanswerable(format!("{helo:?} would not be told to anybody: {why}")));
        }
        let doors = house.doors.load_full();
        let door = choose(&doors, ask)?;
        let Some(way) = door.protocol.login() else {
            let text = format!("nobody signs in by {}: ask with explain rcpt ADDRESS", door.protocol.name);
            return Err(Unanswerable(text));
        };
        if ask.in_clear && door.tls == ListenTls::Implicit {
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
        Ok(Rehearsal { house, live, ask, witness, door, way, from, via, balancer })
    }

    async fn run(&self, trail: &Trail) -> Result<Outcome, Unanswerable> {
        let (mut arrival, mut front) = match self.arrive() {
            Ok(arrived) => arrived,
            Err(outcome) => return Ok(*outcome),
        };
        // In the place of a password that was not given: no database sees it, and no backend.
        let password = trail.password().cloned().unwrap_or_else(|| Secret::new(MASK.as_bytes().to_vec()));
        let login = match self.converse(&mut arrival, &mut *front, password)? {
            Ok(login) => login,
            Err(outcome) => return Ok(*outcome),
        };
        Ok(self.decide(&arrival, &mut *front, &login).await)
    }

    /// From accept to the greeting.
    fn arrive(&self) -> Passage<(Arrival, Box<dyn Front>)> {
        let Rehearsal { house, live, ask, witness, door, from, via, balancer, .. } = self;
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
                (None, None) if ask.from.is_none() => "a client whose address was not given, say",
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
        let wants_tls = door.tls == ListenTls::Implicit || door.tls == ListenTls::StartTls && !ask.in_clear;
        match live.acceptor(door.protocol) {
            Some(acceptor) if wants_tls => {
                let name = ask.sni.as_ref();
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

        let settings = (door.protocol.settings)(&live.meant);
        let terms = arrival.terms(door, live, &settings, || house.learnt.common(door.protocol));
        witness.saw(|| seen::terms(door, &arrival, &terms));
        let allowed = terms.password_allowed;
        let front = |terms| (self.way.front)(terms, &live.meant.limits);
        let permissive = Terms { password_allowed: true, ..terms.clone() };
        let mut front_here = front(terms);
        if !allowed {
            let password = Secret::new(MASK.as_bytes().to_vec());
            return Err(Box::new(match self.client(password, None).in_clear(&mut *front_here, &mut *front(permissive)) {
                Ok(heard) => Outcome::in_clear(&heard),
                Err(why) => Outcome::closed(PRIVACY_REQUIRED, why, &[]),
            }));
        }
        Ok((arrival, front_here))
    }

    /// The PROXY header, if one is due or comes all the same.
    fn header(&self, arrival: &mut Arrival, here: SocketAddr) -> Passage<()> {
        let Rehearsal { live, ask, witness, door, from, via, balancer, .. } = self;
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
                    authority: ask.sni.clone().filter(|_| offloads),
                    alpn: None,
                    protection: (offloads && ask.in_clear).then_some(Protection::Clear),
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

    /// The dialogue up to the login.
    fn converse(&self, arrival: &mut Arrival, front: &mut dyn Front, password: Password) -> Result<Passage<Login>, Unanswerable> {
        let Rehearsal { ask, witness, door, from, via, live, .. } = self;
        let introduction = match via {
            Some(_) => Some(self.introduction(arrival)?),
            None => None,
        };
        let client = self.client(password, introduction);
        let mut conversation: Conversation = client.greeted(front);
        loop {
            match conversation.go_on(front) {
                Said::Event(LoginEvent::Said(said)) => {
                    arrival.hear(*said);
                    if let Err(mut outcome) = self.knock(arrival.origin.client.0.ip(), arrival.knocks(live), &[]) {
                        let mut words = BytesMut::new();
                        front.goodbye(Goodbye::TooManyConnections, &mut words);
                        outcome.hears(&words);
                        return Ok(Err(outcome));
                    }
                }
                Said::Event(LoginEvent::Login(login)) => {
                    witness.saw(|| seen::identity(arrival, *via, *from));
                    let name = login.mechanism.name();
                    witness.saw(|| {
                        let how = if witness.supposes_password() {
                            "no password is given"
                        } else {
                            "with a password, which is checked"
                        };
                        Step::new("login", format!("{:?} signs in by {name}, {how}", login.user))
                            .with("user", &*login.user)
                            .with("mechanism", name)
                            .with("password", !witness.supposes_password())
                    });
                    return Ok(Ok(login));
                }
                Said::Event(LoginEvent::Unspeakable { why, mechanism, .. }) => {
                    let failure = Failure::credentials(why);
                    witness.saw(|| {
                        Step::new("login", format!("no database is asked: {why}"))
                            .with("mechanism", mechanism.name())
                            .with("refused", why)
                    });
                    return Ok(Err(Box::new(self.refused(arrival, front, &failure, 0.0))));
                }
                Said::Event(_) => return Err(Unanswerable("the front expects something else than a login".to_owned())),
                Said::Fault(rule, detail, words) => return Ok(Err(Box::new(Outcome::closed(rule, detail, &words)))),
                Said::Bad(heard) => return Ok(Err(Box::new(Outcome::bad_command(&heard)))),
                Said::Stuck(why) => {
                    return Err(Unanswerable(format!(
                        "a client of {} cannot say this login ({}): {why}",
                        door.name(),
                        ask.mechanism.words()
                    )));
                }
            }
        }
    }

    /// From the login to the backend's door.
    async fn decide(&self, arrival: &Arrival, front: &mut dyn Front, login: &Login) -> Outcome {
        let Rehearsal { house, live, witness, door, .. } = self;
        let limits = &live.meant.limits;
        let client = arrival.origin.client.0.ip();
        let exempt = arrival.exempt(live);
        let mut waits = 0.0;
        if witness.knows_the_house() {
            let delay = if exempt { std::time::Duration::ZERO } else { house.guard.delay(client, limits.guesses) };
            waits = delay.as_secs_f64();
            witness.saw(|| {
                let text = match (exempt, delay.is_zero()) {
                    (true, _) => "no delay for guesses: exempt".to_owned(),
                    (false, true) => format!(
                        "no delay: at most {} failed logins from the network of {client} (limits.guesses)",
                        limits.guesses
                    ),
                    (false, false) => {
                        format!(
                            "the login waits {waits} s: more than {} failed from the network of {client} (limits.guesses)",
                            limits.guesses
                        )
                    }
                };
                Step::new("guesses", text).with("free", limits.guesses).with("delay", waits).with("exempt", exempt)
            });
        }
        let client_id = front.client_id().to_vec();
        let mut origin = arrival.origin.clone();
        if let Some(helo) = front.helo() {
            origin.called_itself(helo);
        }
        let caller = Caller {
            protocol: door.protocol,
            way: self.way,
            origin: &origin,
            entry: None,
            protected: arrival.protected(),
            exempt,
            client_id: &client_id,
            witness: *witness,
        };
        let ready = match auth::ready(house, live, &caller, login).await {
            Ok(ready) => ready,
            Err(failure) => return self.refused(arrival, front, &failure, waits),
        };
        let route = &ready.route;
        let introduction = || ready.introduction(&caller);
        let credentials = || Some(ready.credentials(login.password.as_ref()));
        let said = connect::Words { dialect: self.way.dialect, introduction: &introduction, sign_in: &credentials };
        let call = match connect::foresee(&ready.means, route, &ready.addresses, &said) {
            Ok(call) => call,
            Err(failure) => return self.refused(arrival, front, &failure.quick(route.quick), waits),
        };
        let heard = words::of(&ready, &caller, limits);
        let header = seen::header_in_words(&call.header);
        witness.saw(|| words::step(&heard, &ready, header));
        if let Some(stumble) = heard.stumble {
            let failure = Failure::stumble(stumble, false).quick(route.quick);
            return self.refused(arrival, front, &failure, waits);
        }
        let whose = words::whose_password(route);
        let name = if route.user == ready.user { String::new() } else { format!(" as {:?}", route.user) };
        let master = route.master.as_ref().map(|master| format!(", by master {master:?}")).unwrap_or_default();
        Outcome {
            verdict: Verdict::SignsIn,
            text: format!("would sign {:?} in at {}{name}{master}", ready.user, call.address),
            backend: Some(call.address.to_string()),
            host: Some(route.host.clone()),
            user: Some(ready.user.clone()),
            destuser: Some(route.user.clone()),
            master: route.master.clone(),
            password: whose,
            mechanism: Some(login.mechanism.name()),
            database: Some(route.database.clone()),
            tls: Some(crate::login::seen::tls(route.secure)),
            identity: Some(if route.introduce { "told" } else { "not-told" }),
            waits,
            ..Outcome::default()
        }
    }

    /// What becomes of a failure: told by the one place that decides what a client may hear.
    fn refused(&self, arrival: &Arrival, front: &mut dyn Front, failure: &Failure, waits: f64) -> Outcome {
        let limits = &self.live.meant.limits;
        let mut heard = BytesMut::new();
        front.refuse(&session::refusal(failure, limits), &mut heard);
        let guess = failure.counts_as_guess();
        if guess && limits.failed_logins <= 1 {
            front.goodbye(Goodbye::TooManyFailures, &mut heard);
        }
        let mut outcome = Outcome::refused(failure, &heard);
        outcome.guess &= !arrival.exempt(self.live);
        outcome.waits = waits;
        if guess && !failure.quick {
            outcome.waits += limits.failed_login_pause.as_secs_f64();
        }
        self.witness.saw(|| {
            let (_, loud) = failure.refusal();
            Step::new("refusal", format!("{}: journalled as {}", failure.kind.word(), level_word(loud)))
                .with("reason", failure.kind.word())
                .with("side", failure.side.word())
                .with("level", level_word(loud))
        });
        outcome
    }

    /// A place among the connections of a network that have not signed in.
    fn knock(&self, ip: IpAddr, most: Option<usize>, last_words: &[u8]) -> Passage<()> {
        let (Some(most), true) = (most, self.witness.knows_the_house()) else { return Ok(()) };
        let have = self.house.guard.waiting(ip);
        let text = format!("the network of {ip} has");
        self.witness.saw(|| seen::limit("connections_before_login", text, have, most, "limits.connections_before_login"));
        if have < most {
            return Ok(());
        }
        Err(Box::new(Outcome::closed("limit", too_many_knocks(most), last_words)))
    }

    fn client(&self, password: Password, introduction: Option<Introduction>) -> Client<'_> {
        let mechanism = self.ask.mechanism.mechanism();
        let helo = self.helo();
        Client { way: self.way, user: &self.ask.user, password, mechanism, helo, introduction }
    }

    /// What the client calls itself, in protocols where it does.
    fn helo(&self) -> &str {
        self.ask.helo.as_deref().unwrap_or("client.example")
    }

    /// What the proxy in front says of its client.
    fn introduction(&self, arrival: &Arrival) -> Result<Introduction, Unanswerable> {
        let mut origin = arrival.origin.clone();
        origin.client = ClientAddr(self.from);
        origin.session = session_id();
        origin.hops = self.ask.ttl.map_or(HopsLeft::START, HopsLeft::said);
        (origin.transport, origin.tls, origin.name) = (None, None, None);
        origin.helo = Some(wire::origin::Told::Known(self.helo().into()));
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(ForwardField { name: name.to_ascii_lowercase(), value: value.to_owned() })
            }
            _ => Err(Unanswerable(format!("forward {text:?} is no NAME=VALUE"))),
        };
        let forward = self.ask.forward.iter().map(pair).collect::<Result<_, _>>()?;
        Ok(Introduction { origin, client_id: Vec::new(), forward, patience: None })
    }
}

/// The listener that was asked for, or the first one that fits.
fn choose(doors: &[Arc<Door>], ask: &Ask) -> Result<Arc<Door>, Unanswerable> {
    let usual = || PROTOCOLS.first().filter(|_| ask.listener.is_none()).map(|first| first.name);
    let name = ask.protocol.as_deref().or_else(usual);
    let known = |name: &str| PROTOCOLS.iter().any(|row| row.names().any(|known| known == name));
    if let Some(name) = name.filter(|name| !known(name)) {
        let names: Vec<&str> = PROTOCOLS.iter().flat_map(Protocol::names).collect();
        return Err(Unanswerable(format!("there is no protocol {name:?}; it is one of {}", names.join(", "))));
    }
    let implicit = |door: &Door| door.tls == ListenTls::Implicit;
    let under_tls = |door: &Door| door.protocol.implicit.map(|(name, _)| name);
    let fits = |door: &&Arc<Door>| match (name, &ask.listener) {
        (_, Some(listener)) if door.bound != *listener && door.address != *listener => false,
        (Some(name), None) => door.protocol.name == name && !implicit(door) || under_tls(door) == Some(name) && implicit(door),
        (Some(name), Some(_)) => door.protocol.name == name || under_tls(door) == Some(name),
        (None, _) => true,
    };
    // A protocol that is only spoken under TLS from the first byte is meant by its own name as well.
    let at_all = |door: &&Arc<Door>| ask.listener.is_none() && name == Some(door.protocol.name);
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
