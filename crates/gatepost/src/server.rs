//! The process: listeners, shards, reload, drain.
//!
//! Every shard is one thread with its own runtime, its own accept sockets (`SO_REUSEPORT`) and its own sessions; they share
//! only what is in [`House`]. A reload builds the whole new generation first; only when all of it stands is it swapped in,
//! and sessions that are open keep the one they began with.

mod generation;
mod overload;

use crate::config::meant::{Listen, ListenProxy, ListenTls, Meant};
use crate::journal::{Journal, Level};
use crate::life::handed::HandedSockets;
use crate::login::arrival::{knocks_of_peer, tell_knocks};
use crate::login::house::{Door, House, Live, Phase};
use crate::login::limits::{Ceiling, Limit};
use crate::login::session;
use crate::protocol;
use crate::resolve::Resolve;
use arc_swap::ArcSwap;
use overload::Overload;
use relay::clock::{Clock, EndOrder};
use relay::listen::{AcceptStats, Doorway};
use relay::shard::Shard;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use wire::login::Goodbye;

/// How long ended sessions may take to say goodbye.
const GOODBYES: Duration = Duration::from_secs(3);

/// What makes a listener the same one after a reload: protocol, configured address, and which of them where several ask
/// for any free port (port 0) on one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct DoorKey(&'static str, SocketAddr, usize);

fn keys(listen: &[Listen]) -> Vec<DoorKey> {
    let mut keys: Vec<DoorKey> = Vec::with_capacity(listen.len());
    for one in listen {
        let same = |key: &&DoorKey| key.0 == one.protocol && key.1 == one.address;
        keys.push(DoorKey(one.protocol, one.address, keys.iter().filter(same).count()));
    }
    keys
}

/// A listening address with its sockets, one per shard.
pub struct Bound {
    key: DoorKey,
    door: Door,
    /// The address after binding: the port is known.
    pub address: SocketAddr,
    sockets: Vec<std::net::TcpListener>,
}

/// Binds every listener of the configuration. Done before privileges are given up.
///
/// # Errors
/// An address cannot be bound: which, why, and where it is written.
///
/// `remark` hears of default addresses that are passed over because this host lacks their family.
///
/// A listener for which a socket was handed over takes that one.
pub fn bind(meant: &Meant, handed: &mut HandedSockets, remark: &mut dyn FnMut(String)) -> Result<Vec<Bound>, String> {
    bind_new(meant, handed, remark, &|_| false)
}

fn bind_new(
    meant: &Meant,
    handed: &mut HandedSockets,
    remark: &mut dyn FnMut(String),
    have: &dyn Fn(&DoorKey) -> bool,
) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for (listen, key) in meant.listen.iter().zip(keys(&meant.listen)) {
        if have(&key) {
            continue;
        }
        let Some(protocol) = protocol::find(listen.protocol) else {
            return Err(format!("{}: protocol {} has no row", listen.at, listen.protocol));
        };
        let sockets = match handed.take(key.0, key.1, key.2) {
            Some(sockets) => relay::listen::shared(sockets, meant.server.threads),
            None => relay::listen::bind(listen.address, meant.server.threads),
        };
        match sockets {
            Ok(sockets) => {
                let address = sockets.first().map_or(Ok(listen.address), std::net::TcpListener::local_addr);
                let address = address.map_err(|e| format!("{}: {}: {e}", listen.at, listen.address))?;
                let door = door(listen, protocol, address, Arc::new(Ceiling::new(listen.connections)));
                bound.push(Bound { key, door, address, sockets });
            }
            Err(e) if listen.optional && family_missing(&e) => {
                remark(format!("listening address {} is passed over: {e}", listen.address));
            }
            Err(e) => {
                let fix = match e.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "; ports below 1024 need root at start or the capability CAP_NET_BIND_SERVICE"
                    }
                    io::ErrorKind::AddrInUse => "; another program listens there",
                    _ => "",
                };
                return Err(format!("{}: cannot listen on {}: {e}{fix}", listen.at, listen.address));
            }
        }
    }
    Ok(bound)
}

fn door(listen: &Listen, protocol: &'static protocol::Protocol, bound: SocketAddr, places: Arc<Ceiling>) -> Door {
    Door {
        protocol,
        tls: listen.tls,
        cleartext_auth: listen.cleartext_auth,
        proxy_protocol: listen.proxy_protocol,
        address: listen.address,
        bound,
        places,
    }
}

/// This host has no such address family.
fn family_missing(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::AddrNotAvailable || e.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

struct OpenDoor {
    door: Arc<ArcSwap<Door>>,
    address: SocketAddr,
    closed: watch::Sender<bool>,
    /// Kept for a successor; closed with the door.
    sockets: Vec<Arc<TcpListener>>,
    accepting: Vec<JoinHandle<()>>,
}

/// A running server.
pub struct Server {
    house: Arc<House>,
    phase: watch::Sender<Phase>,
    shards: Vec<(Shard, Clock)>,
    stop: watch::Sender<bool>,
    doors: HashMap<DoorKey, OpenDoor>,
    overload: Overload,
    warn: crate::users::Warn,
}

impl Server {
    /// Starts the shards on sockets that are bound.
    ///
    /// # Errors
    /// A thread or a socket could not be set up.
    pub fn start(live: Live, bound: Vec<Bound>, journal: Journal, resolver: Box<dyn Resolve>) -> io::Result<Server> {
        let (phase, watching) = watch::channel(Phase::Open);
        let warn = warn_to(&journal);
        let threads = live.meant.server.threads;
        let house = Arc::new(House::new(Arc::new(live), journal, resolver, watching));
        let clocks: Vec<Clock> = (0..threads).map(|_| Clock::new()).collect();
        let (stop, stopped) = watch::channel(false);
        let tickers = clocks.clone();
        let shards = relay::shard::spawn_shards(threads, move |index| {
            let clock = tickers.get(index).cloned().unwrap_or_default();
            let mut stopped = stopped.clone();
            async move {
                tokio::select! {
                    () = clock.run() => {}
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
            }
        })?;
        let shards = shards.into_iter().zip(clocks).collect();
        let mut server = Server { house, phase, shards, stop, doors: HashMap::new(), overload: Overload::default(), warn };
        server.open(bound);
        Ok(server)
    }

    /// What is listened on: protocol, TLS and the bound address.
    ///
    /// `imaps` and `pop3s` are the names where TLS begins with the first byte *here*. Where it ended in front of us the name is
    /// that of the protocol, whichever the configuration said, and the word `offloaded`.
    pub fn listening(&self) -> Vec<(&'static str, &'static str, SocketAddr)> {
        let mut all: Vec<_> = self
            .doors
            .values()
            .map(|open| {
                let door = open.door.load();
                let implicit = door.tls == ListenTls::Implicit;
                let name = if implicit { door.protocol.implicit.0 } else { door.protocol.name };
                (name, tls_word(door.tls), open.address)
            })
            .collect();
        all.sort_unstable();
        all
    }

    /// The shards' clocks.
    pub fn clocks(&self) -> Vec<Clock> {
        self.shards.iter().map(|(_, clock)| clock.clone()).collect()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.house.seats.taken()
    }

    /// What all sessions share.
    pub fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// How many sessions are signed in.
    pub fn sessions(&self) -> usize {
        self.house.roll.count()
    }

    fn open(&mut self, bound: Vec<Bound>) {
        for Bound { key, door, address, sockets } in bound {
            let words = format!("{} ({}) on {address}", door.protocol.name, tls_word(door.tls));
            let door = Arc::new(ArcSwap::from_pointee(door));
            let (closed, watching) = watch::channel(false);
            let (mut open, mut tasks) = (Vec::with_capacity(sockets.len()), Vec::with_capacity(sockets.len()));
            // There can be more sockets than shards, if they were handed over.
            for ((shard, clock), socket) in self.shards.iter().cycle().zip(sockets) {
                // On the shard's runtime, whose thread will be woken.
                let runtime = shard.handle().enter();
                let doorway = match Doorway::new(socket) {
                    Ok(doorway) => doorway,
                    Err(e) => {
                        self.house.journal.say(Level::Error, "listen", &format_args!("{address}: {e}"));
                        continue;
                    }
                };
                drop(runtime);
                open.push(doorway.socket());
                let stats = Arc::clone(&self.house.accepted);
                let accepting =
                    accept(Arc::clone(&self.house), Arc::clone(&door), doorway, watching.clone(), clock.clone(), stats);
                tasks.push(shard.handle().spawn(accepting));
            }
            self.house.journal.say(Level::Info, "listening", &words);
            self.doors.insert(key, OpenDoor { door, address, closed, sockets: open, accepting: tasks });
        }
        self.post_doors();
    }

    /// Lets everybody know what is listened on.
    fn post_doors(&self) {
        let mut doors: Vec<Arc<Door>> = self.doors.values().map(|open| open.door.load_full()).collect();
        doors.sort_unstable_by_key(|door| (door.protocol.name, door.bound));
        self.house.doors.store(Arc::new(doors));
    }

    /// A configuration was to be put into force: counts what came of it.
    pub fn count_reload(&self, ok: bool) {
        self.house.metrics.reloaded(ok);
    }

    /// Puts a new configuration into force without touching a session.
    ///
    /// # Errors
    /// Every problem; then nothing has changed.
    pub fn reload(&mut self, meant: Meant) -> Result<Vec<String>, Vec<String>> {
        let mut remarks = Vec::new();
        let old = self.house.live.load_full();
        let (mut meant, running) = (meant, &old.meant);
        wait_for_the_next_start("server.threads", &running.server.threads, &mut meant.server.threads, &mut remarks);
        wait_for_the_next_start("server.user", &running.server.user, &mut meant.server.user, &mut remarks);
        wait_for_the_next_start("server.control", &running.server.control, &mut meant.server.control, &mut remarks);
        wait_for_the_next_start("admin.group", &running.admin.group, &mut meant.admin.group, &mut remarks);
        wait_for_the_next_start("admin.address", &running.admin.address, &mut meant.admin.address, &mut remarks);
        let have = |key: &DoorKey| self.doors.contains_key(key);
        let bound =
            bind_new(&meant, &mut HandedSockets::default(), &mut |text| remarks.push(text), &have).map_err(|e| vec![e])?;
        let wanted = keys(&meant.listen);
        let kept = wanted.iter().filter_map(|key| self.doors.get(key)).map(|open| open.address.port());
        let ports = kept.chain(bound.iter().map(|b| b.address.port())).collect();
        // What is journalled is told to the person at the terminal as well.
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (hear, tell) = (Arc::clone(&heard), Arc::clone(&self.warn));
        let building = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&building);
        let warn: crate::users::Warn = Arc::new(move |text: String| {
            if still.load(Ordering::Relaxed) {
                hear.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
            }
            tell(text);
        });
        let mut live = Live::build(meant, ports, &warn)?;
        live.chain.continue_from(&old.chain);
        building.store(false, Ordering::Relaxed);
        remarks.append(&mut heard.lock().unwrap_or_else(PoisonError::into_inner));

        // Everything stands: swap.
        let gone: Vec<DoorKey> = self.doors.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for (listen, key) in live.meant.listen.iter().zip(&wanted) {
            if let (Some(open), Some(protocol)) = (self.doors.get(key), protocol::find(listen.protocol)) {
                let places = Arc::clone(&open.door.load().places);
                places.set(listen.connections);
                open.door.store(Arc::new(door(listen, protocol, open.address, places)));
            }
        }
        let log = live.meant.log.clone();
        self.house.seats.set_limit(live.meant.limits.connections);
        self.house.live.store(Arc::new(live));
        self.open(bound);
        for key in gone {
            if let Some(open) = self.doors.remove(&key) {
                let _ = open.closed.send(true);
                self.house.journal.say(Level::Info, "closed", &open.address);
            }
        }
        self.post_doors();
        self.house.journal.reopen(log.format, log.level, &log.target);
        Ok(remarks)
    }

    /// Reads certificates anew where their files have changed. A bad file leaves the old certificate in place.
    pub fn reread_certificates(&self) {
        let mut news = Vec::new();
        for (_, acceptor) in &self.house.live.load().acceptors {
            match acceptor.reread_if_changed() {
                Ok(false) => {}
                Ok(true) => news.push((Level::Info, "read anew".to_owned())),
                Err(e) => news.push((Level::Warning, format!("the old ones stay in use: {e}"))),
            }
        }
        // Each protocol has read them by itself, and found the same.
        news.dedup();
        for (level, text) in news {
            self.house.journal.say(level, "certificates", &text);
        }
    }

    /// Writes down what stood in the way of accepting since the last call.
    pub fn tell_overload(&mut self) {
        self.overload.tell(&self.house);
    }

    /// What a successor needs to accept in our place: each listener's protocol, configured address and which of them, and its
    /// sockets.
    pub fn estate(&self) -> Vec<(&'static str, SocketAddr, usize, Vec<Arc<TcpListener>>)> {
        self.doors.iter().map(|(key, open)| (key.0, key.1, key.2, open.sockets.clone())).collect()
    }

    /// Stops accepting, and nothing else. Who waits in a queue already is taken in; afterwards nobody comes any more.
    pub async fn close_doors(&mut self) {
        let doors: Vec<OpenDoor> = self.doors.drain().map(|(_, open)| open).collect();
        for open in &doors {
            let _ = open.closed.send(true);
        }
        for task in doors.into_iter().flat_map(|open| open.accepting) {
            let _ = task.await;
        }
        self.post_doors();
    }

    /// Waits until nobody is left.
    pub async fn empty(&self) {
        while self.house.seats.taken() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops accepting, sends those away who have not signed in, and lets sessions go on until none is left, the time is
    /// over, or `hurry` says so; then they are told goodbye.
    pub async fn drain(mut self, patience: Duration, hurry: impl Future<Output = ()>) {
        self.close_doors().await;
        let _ = self.phase.send(Phase::Closing);
        let until = Instant::now() + patience;
        tokio::select! {
            () = self.empty() => {}
            () = tokio::time::sleep_until(until) => {}
            () = hurry => {}
        }
        let _ = self.phase.send(Phase::Leaving);
        let left = self.house.roll.count();
        if left > 0 {
            self.house.journal.say(Level::Info, "draining", &format_args!("{left} sessions are told goodbye"));
        }
        // Again and again: a login that was under way may be through only now.
        let goodbyes = async {
            while self.house.seats.taken() > 0 {
                self.house.roll.end_all(EndOrder::ShuttingDown);
                sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = timeout(GOODBYES, goodbyes).await;
        let cut = self.house.seats.taken();
        let _ = self.stop.send(true);
        for (shard, _) in self.shards.drain(..) {
            if let Err(panic) = shard.join() {
                self.house.journal.say(Level::Error, "panic", &panic);
            }
        }
        self.house.journal.say(Level::Info, "stopped", &format_args!("{cut} connections cut"));
        self.house.journal.flush();
    }
}

/// A key that a reload cannot change. What is in force stays the running one's, so that each reload compares with that.
fn wait_for_the_next_start<T: PartialEq + Clone>(name: &str, running: &T, wanted: &mut T, remarks: &mut Vec<String>) {
    if running != wanted {
        remarks.push(format!("{name} has changed and takes effect at the next start"));
        wanted.clone_from(running);
    }
}

/// Where databases say what an operator should know.
pub fn warn_to(journal: &Journal) -> crate::users::Warn {
    let journal = journal.clone();
    Arc::new(move |text: String| journal.say(Level::Warning, "setup", &text))
}

/// The word for the ports file and the journal.
pub fn tls_word(tls: ListenTls) -> &'static str {
    match tls {
        ListenTls::None => "none",
        ListenTls::StartTls => "starttls",
        ListenTls::Implicit => "implicit",
        ListenTls::Offloaded => "offloaded",
    }
}

/// Whether who comes without a PROXY header hears us in clear before anything else.
pub fn speaks_first(door: &Door) -> bool {
    door.tls != ListenTls::Implicit && door.proxy_protocol != ListenProxy::Required
}

fn tell_near(house: &House, limit: Limit, who: &dyn std::fmt::Display, ceiling: &Ceiling) {
    let most = ceiling.limit().unwrap_or(usize::MAX);
    house.warnings.near(&house.journal, limit, &format_args!("{who} {} of {most} connections", ceiling.used()));
}

/// Accepts on one socket until told to close.
async fn accept(
    house: Arc<House>,
    door: Arc<ArcSwap<Door>>,
    mut doorway: Doorway,
    mut closed: watch::Receiver<bool>,
    clock: Clock,
    stats: Arc<AcceptStats>,
) {
    let serve = |stream: TcpStream| {
        let Ok(peer) = stream.peer_addr() else { return };
        let (live, door) = (house.live.load(), door.load_full());
        // Before it takes a seat: one network over its limit must not hold those of the others.
        let knocks = knocks_of_peer(&door, &live, peer.ip());
        let send_away = |stream: TcpStream, why| {
            if speaks_first(&door)
                && let Ok(mut stream) = stream.into_std()
            {
                // Non-blocking, and into an empty buffer: it is taken at once or not at all.
                let _ = stream.write((door.protocol.goodbye)(why));
            }
        };
        let Some(knock) = house.guard.knock(peer.ip(), knocks) else {
            return send_away(stream, Goodbye::TooManyConnections);
        };
        if let Some((near, limit)) = knock.near.zip(knocks) {
            tell_knocks(&house, near, limit);
        }
        let Some(place) = door.places.enter() else {
            house.full_doors.fetch_add(1, Ordering::Relaxed);
            return send_away(stream, Goodbye::ListenerFull);
        };
        if place.near {
            tell_near(&house, Limit::Listener, &format_args!("{} has", door.name()), &door.places);
        }
        let seat = house.seats.take(place);
        if seat.near {
            tell_near(&house, Limit::All, &"all listeners together have", house.seats.all());
        }
        tokio::spawn(session::serve(stream, door, Arc::clone(&house), clock.clone(), knock, seat));
    };
    loop {
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => break,
            (stream, _) = async {
                house.seats.room().await;
                doorway.accept(&stats).await
            } => serve(stream),
        }
    }
    // Connections that the kernel has already taken for this socket would be reset with it.
    while let Some(stream) = doorway.waiting().await {
        serve(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_family_is_told_from_other_trouble_by_what_bind_says() {
        for (errno, missing) in [
            (rustix::io::Errno::AFNOSUPPORT, true),
            (rustix::io::Errno::ADDRNOTAVAIL, true),
            (rustix::io::Errno::ADDRINUSE, false),
            (rustix::io::Errno::ACCESS, false),
        ] {
            assert_eq!(family_missing(&io::Error::from_raw_os_error(errno.raw_os_error())), missing, "{errno}");
        }
        // And the number survives the way through the relay's room: nobody has this address here.
        let e = relay::listen::bind("[2001:db8::1]:0".parse().unwrap(), 1).unwrap_err();
        assert!(e.raw_os_error().is_some() && family_missing(&e), "{e:?}");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let e = relay::listen::bind(taken.local_addr().unwrap(), 1).unwrap_err();
        assert!(e.raw_os_error().is_some() && !family_missing(&e), "{e:?}");
    }
}
