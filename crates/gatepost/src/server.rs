//! The process: listeners, shards, reload, drain.
//!
//! Every shard is one thread with its own runtime, its own accept sockets (`SO_REUSEPORT`) and its own sessions; they share
//! only what is in [`House`]. A reload builds the whole new generation first; only when all of it stands is it swapped in,
//! and sessions that are open keep the one they began with.

mod bound;
mod generation;
mod overload;

pub use bound::{Bound, bind, door};

use crate::config::listen_at::ListenAt;
use crate::config::meant::{ListenProxy, ListenTls, Meant};
use crate::inbound;
use crate::journal::{Journal, Level};
use crate::life::handed::HandedSockets;
use crate::life::local::SocketFile;
use crate::life::succession::Listener;
use crate::login::arrival::{knocks_of_peer, tell_knocks};
use crate::login::house::{Door, House, Live, Phase};
use crate::login::limits::{Ceiling, Limit};
use crate::login::session;
use crate::protocol::{self, Way};
use crate::resolve::Resolve;
use arc_swap::ArcSwap;
use bound::{DoorKey, Open, OpenUnix, bind_new, keys};
use overload::Overload;
use relay::Socket;
use relay::clock::{Clock, EndOrder};
use relay::listen::{AcceptStats, Doorway, ListenSocket, Listening};
use relay::shard::Shard;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use wire::login::Goodbye;

/// How long ended sessions may take to say goodbye.
const GOODBYES: Duration = Duration::from_secs(3);

struct OpenDoor {
    door: Arc<ArcSwap<Door>>,
    address: ListenAt,
    closed: watch::Sender<bool>,
    /// Of a unix socket.
    file: Option<Arc<SocketFile>>,
    /// Kept for a successor; closed with the door.
    sockets: Vec<Arc<Listening>>,
    accepting: Vec<JoinHandle<()>>,
}

impl OpenDoor {
    /// Nobody comes any more who has not come yet: first of all nobody finds the way.
    fn close(&mut self) {
        self.file = None;
        let _ = self.closed.send(true);
    }
}

/// The listeners, to open others beside them.
struct Doors<'a>(&'a HashMap<DoorKey, OpenDoor>);

impl Open for Doors<'_> {
    fn has(&self, key: &DoorKey) -> bool {
        self.0.contains_key(key)
    }

    fn unix(&self, path: &Path) -> io::Result<Option<OpenUnix>> {
        let open = self.0.values().find(|open| open.file.as_ref().is_some_and(|file| file.path() == path && file.is_there()));
        let Some((socket, file)) = open.and_then(|open| open.sockets.first().zip(open.file.as_ref())) else { return Ok(None) };
        let socket = socket.as_fd().try_clone_to_owned()?;
        Ok(Some((ListenSocket::Unix(socket.into()), Arc::clone(file))))
    }
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
    pub fn listening(&self) -> Vec<(&'static str, &'static str, ListenAt)> {
        let mut all: Vec<_> = self
            .doors
            .values()
            .map(|open| {
                let door = open.door.load();
                let implicit = door.tls == ListenTls::Implicit;
                let name = door.protocol.implicit.filter(|_| implicit).map_or(door.protocol.name, |(name, _)| name);
                (name, door.tls.word(), open.address.clone())
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
        self.house.metrics.sessions().map(|(_, sessions)| sessions).sum()
    }

    fn open(&mut self, bound: Vec<Bound>) {
        for Bound { key, door, address, sockets, file } in bound {
            let words = format!("{} ({}) on {address}", door.protocol.name, door.tls.word());
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
            self.doors.insert(key, OpenDoor { door, address, closed, file, sockets: open, accepting: tasks });
        }
        self.post_doors();
    }

    /// Lets everybody know what is listened on.
    fn post_doors(&self) {
        let mut doors: Vec<Arc<Door>> = self.doors.values().map(|open| open.door.load_full()).collect();
        doors.sort_unstable_by(|a, b| (a.protocol.name, &a.bound).cmp(&(b.protocol.name, &b.bound)));
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
        let open = Doors(&self.doors);
        let bound =
            bind_new(&meant, &mut HandedSockets::default(), &mut |text| remarks.push(text), &open).map_err(|e| vec![e])?;
        let wanted = keys(&meant.listen);
        let kept = wanted.iter().filter_map(|key| self.doors.get(key)).filter_map(|open| open.address.port());
        let ports = kept.chain(bound.iter().filter_map(|b| b.address.port())).collect();
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
                open.door.store(Arc::new(door(listen, protocol, open.address.clone(), places)));
            }
        }
        let log = live.meant.log.clone();
        self.house.seats.set_limit(live.meant.limits.connections);
        self.house.live.store(Arc::new(live));
        self.open(bound);
        for key in gone {
            if let Some(mut open) = self.doors.remove(&key) {
                open.close();
                self.house.journal.say(Level::Info, "closed", &open.address);
            }
        }
        self.post_doors();
        remarks.extend(self.let_in());
        self.house.journal.reopen(log.format, log.level, &log.target);
        Ok(remarks)
    }

    /// Gives the files of unix sockets the rights that the configuration says: what stands in the way.
    pub fn let_in(&self) -> Vec<String> {
        let live = self.house.live.load();
        let listen = &live.meant.listen;
        let files = listen.iter().zip(keys(listen)).filter_map(|(one, key)| Some((one, self.doors.get(&key)?.file.as_ref()?)));
        files.filter_map(|(one, file)| bound::let_in(one, &live.meant, file).err()).collect()
    }

    /// The files of unix sockets are the successor's: it removes them.
    pub fn bequeath(&self) {
        for file in self.doors.values().filter_map(|open| open.file.as_ref()) {
            file.set_ours(false);
        }
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

    /// What a successor needs to accept in our place.
    pub fn estate(&self) -> Vec<Listener> {
        let listener = |(key, open): (&DoorKey, &OpenDoor)| Listener {
            protocol: key.0,
            configured: key.1.clone(),
            nth: key.2,
            sockets: open.sockets.clone(),
            file: open.file.as_ref().is_some_and(|file| file.is_ours()),
        };
        self.doors.iter().map(listener).collect()
    }

    /// Stops accepting, and nothing else. Who waits in a queue already is taken in; afterwards nobody comes any more.
    pub async fn close_doors(&mut self) {
        let mut doors: Vec<OpenDoor> = self.doors.drain().map(|(_, open)| open).collect();
        doors.iter_mut().for_each(OpenDoor::close);
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
        let left = self.sessions();
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
    let serve = |socket: Socket| {
        let Ok(peer) = socket.peer_addr() else { return };
        let (live, door) = (house.live.load(), door.load_full());
        // Before it takes a seat: one network over its limit must not hold those of the others.
        let knocks = knocks_of_peer(&door, &live, peer.ip());
        let send_away = |socket: &Socket, why| {
            if speaks_first(&door) {
                // Non-blocking, and into an empty buffer: it is taken at once or not at all.
                let _ = rustix::io::write(socket, (door.protocol.goodbye)(why));
            }
        };
        let Some(knock) = house.guard.knock(peer.ip(), knocks) else {
            return send_away(&socket, Goodbye::TooManyConnections);
        };
        if let Some((near, limit)) = knock.near.zip(knocks) {
            tell_knocks(&house, near, limit);
        }
        let Some(place) = door.places.enter() else {
            house.full_doors.fetch_add(1, Ordering::Relaxed);
            return send_away(&socket, Goodbye::ListenerFull);
        };
        if place.near {
            tell_near(&house, Limit::Listener, &format_args!("{} has", door.name()), &door.places);
        }
        let seat = house.seats.take(place);
        if seat.near {
            tell_near(&house, Limit::All, &"all listeners together have", house.seats.all());
        }
        let (house, clock) = (Arc::clone(&house), clock.clone());
        match &door.protocol.way {
            Way::Login(way) => drop(tokio::spawn(session::serve(way, socket, door, house, clock, knock, seat))),
            Way::Message => drop(tokio::spawn(inbound::session::serve(socket, door, house, clock, knock, seat))),
        }
    };
    loop {
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => break,
            (socket, _) = async {
                house.seats.room().await;
                doorway.accept(&stats).await
            } => serve(socket),
        }
    }
    // Connections that the kernel has already taken for this socket would be reset with it.
    while let Some(socket) = doorway.waiting().await {
        serve(socket);
    }
}
