//! A backend dies with all its sessions, and comes back: who hears what, when, and how hard it is run at.
//!
//! One port speaks all protocols here: a PROXY header says where the client came in. So one backend has all the sessions,
//! and is told of once.

use crate::addresses::{FIRST, SECOND, alice_knowing};
use crate::gate::{Gate, OTHERS_TOO, Want, everybody_at, trouble};
use gatepost::backend::health::Health;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use testkit::Protocol;
use testkit::free_port;
use testkit::peer::{AnyClient, Backend, Conn, FakeServer, ProxyHeader};
use testkit::ports::Port;
use testkit::wait::{poll, until};
use wire::dance::Secure;

const SESSIONS: usize = 150;
const IN_FLIGHT: usize = 128;
const ROOMY: &str = "connections_before_login = 10000\nuser_connections = 10000";

/// A backend for all protocols that greets only when it is told to, dies, and comes back on its port.
struct Ward {
    port: Port,
    seen: Arc<Seen>,
    server: Option<FakeServer>,
}

#[derive(Default)]
struct Seen {
    /// Where clients come in, by protocol.
    doors: Mutex<Vec<(u16, Protocol)>>,
    /// Connections in all its lives.
    came: AtomicUsize,
    /// Connected, and not greeted yet.
    ungreeted: AtomicUsize,
    most_ungreeted: AtomicUsize,
    /// How many more may be greeted.
    greetings: AtomicUsize,
    /// Closes whatever comes, before its greeting.
    sick: AtomicBool,
}

impl Ward {
    /// One that greets everybody.
    fn open() -> Ward {
        let ward = Ward::shut();
        ward.greet(usize::MAX / 2);
        ward
    }

    /// One that listens and greets nobody yet.
    fn shut() -> Ward {
        let mut ward = Ward { port: free_port(), seen: Arc::default(), server: None };
        ward.revive();
        ward
    }

    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number()).into()
    }

    /// A Gatepost in front of it.
    fn gate(&self, more_fields: &str, backend: &str) -> Gate {
        let backend = format!("proxy_protocol = \"v1\"\n{backend}");
        let users = everybody_at(self.addr(), more_fields);
        let gate = Gate::start(&Want { users: &users, backend: &backend, limits: ROOMY, more: OTHERS_TOO, ..Default::default() });
        let doors = Protocol::ALL.map(|protocol| (gate.at(protocol).port(), protocol));
        *self.seen.doors.lock().unwrap_or_else(PoisonError::into_inner) = doors.to_vec();
        gate
    }

    fn die(&mut self) {
        self.server = None;
    }

    #[track_caller]
    fn revive(&mut self) {
        self.die();
        let start = || {
            let seen = Arc::clone(&self.seen);
            FakeServer::try_start_at(self.addr(), move |conn| seen.serve(conn)).ok()
        };
        // While it was dead the kernel may have lent the port to somebody for a moment.
        self.server = poll(testkit::wait::PATIENCE, start);
        assert!(self.server.is_some(), "cannot have {} back", self.addr());
    }

    /// Lets so many more be greeted.
    fn greet(&self, more: usize) {
        self.seen.greetings.fetch_add(more, Ordering::SeqCst);
    }

    fn came(&self) -> usize {
        self.seen.came.load(Ordering::SeqCst)
    }

    fn ungreeted(&self) -> usize {
        self.seen.ungreeted.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn wait_for_ungreeted(&self, n: usize) {
        let done = poll(testkit::wait::PATIENCE, || (self.ungreeted() == n).then_some(()));
        assert!(done.is_some(), "{} wait for their greeting, and not {n}", self.ungreeted());
    }
}

impl Seen {
    fn serve(&self, mut conn: Conn) {
        self.came.fetch_add(1, Ordering::SeqCst);
        let waiting = self.ungreeted.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_ungreeted.fetch_max(waiting, Ordering::SeqCst);
        let header = if self.sick.load(Ordering::SeqCst) { None } else { ProxyHeader::read(&mut conn) };
        let header = header.filter(|_| self.wait_for_greeting(&mut conn));
        self.ungreeted.fetch_sub(1, Ordering::SeqCst);
        let Some(header) = header else { return conn.close() };
        let (_, reached) = header.addresses().expect("Gatepost says where the client came in");
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (_, protocol) = doors.into_iter().find(|(port, _)| *port == reached.port()).expect("one of the doors");
        let backend = Backend::of(protocol);
        if backend.login(&mut conn).is_some() {
            backend.echo(&mut conn);
        }
        conn.close();
    }

    /// `false` when the peer leaves before its turn.
    fn wait_for_greeting(&self, conn: &mut Conn) -> bool {
        let take = |left: usize| left.checked_sub(1);
        while self.greetings.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            if !conn.is_silent_for(Duration::from_millis(20)) {
                return false;
            }
        }
        true
    }
}

/// Clients of all protocols in turn that have read their greeting.
fn clients(gate: &Gate, n: usize) -> Vec<AnyClient> {
    let all = Protocol::ALL.into_iter().cycle();
    // From two addresses: what a backend does to one client only would say nothing about the backend.
    let ips = ["127.0.0.1", "127.0.0.2", "127.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap()).into_iter().cycle();
    let client = |(protocol, ip): (Protocol, IpAddr)| {
        let mut client = AnyClient::connect_from(protocol, ip, gate.at(protocol));
        client.greeting();
        client
    };
    all.zip(ips).take(n).map(client).collect()
}

/// The same, signed in, each as somebody else.
#[track_caller]
fn on(gate: &Gate, n: usize) -> Vec<AnyClient> {
    let mut all = clients(gate, n);
    for (n, client) in all.iter_mut().enumerate() {
        let outcome = client.login(&format!("user{n}"), "x");
        assert!(outcome.ok, "{outcome:?}\n{}", gate.gatepost.log().tail());
    }
    all
}

/// Waits for all to lose their connection, each with a goodbye: how long it took them, in order.
#[track_caller]
fn leave(clients: Vec<AnyClient>, died: Instant) -> Vec<Duration> {
    let leaving: Vec<_> = clients.into_iter().map(|client| std::thread::spawn(move || goodbye(client, died))).collect();
    let mut times: Vec<Duration> = leaving.into_iter().map(|thread| thread.join().expect("each hears its goodbye")).collect();
    times.sort_unstable();
    times
}

fn goodbye(mut client: AnyClient, died: Instant) -> Duration {
    client.set_patience(testkit::wait::PATIENCE);
    let line = client.expect_line("");
    let gone = died.elapsed();
    let expected = match client.protocol() {
        Protocol::Imap => "* BYE",
        Protocol::Pop3 => "-ERR [SYS/TEMP]",
        Protocol::ManageSieve => "BYE",
        Protocol::Submission => "421 4.4.2",
    };
    assert!(line.starts_with(expected), "{line}");
    client.expect_end();
    gone
}

#[test]
fn all_leave_at_once_and_hear_that_it_is_trouble_when_they_come_back() {
    let mut ward = Ward::open();
    let gate = ward.gate("", "proxy_timeout = \"2s\"\nconnect_timeout = \"1s\"\ndisconnect_spread = \"0s\"");
    let clients_on = on(&gate, SESSIONS);
    let died = Instant::now();
    ward.die();
    let times = leave(clients_on, died);
    assert_eq!(times.len(), SESSIONS);
    assert!(times.iter().all(|time| *time < Duration::from_secs(5)), "{times:?}");
    let ends = gate.gatepost.log().wait_for_count(" info end ", SESSIONS);
    assert!(ends.iter().all(|line| line.contains("by=backend")), "{ends:#?}");

    // They all come back in the same moment, and it is still dead.
    let mut back = clients(&gate, SESSIONS);
    for (n, client) in back.iter_mut().enumerate() {
        client.send_login(&format!("user{n}"), "x");
    }
    for client in &mut back {
        let heard = client.login_answer();
        let code = trouble(client.protocol());
        assert!(!heard.ok && heard.text.starts_with(code), "{heard:?}");
    }
    let refused = gate.gatepost.log().wait_for_count(" refused protocol=", SESSIONS);
    assert!(refused.iter().all(|line| line.contains("side=backend")), "{refused:#?}");
    let failing = gate.gatepost.log().wait_for_count(" backend-failing ", 1);
    assert!(failing.len() == 1 && failing[0].contains(&ward.addr().to_string()), "{failing:#?}");

    // The same connections try again when it is back: none of them was slowed down or sent away.
    let revived = Instant::now();
    ward.revive();
    back[0].send_login("user0", "x");
    assert!(back[0].login_answer().ok);
    assert!(revived.elapsed() < Duration::from_secs(2), "{:?}", revived.elapsed());
    for (n, client) in back.iter_mut().enumerate().skip(1) {
        client.send_login(&format!("user{n}"), "x");
        let heard = client.login_answer();
        assert!(heard.ok, "{heard:?}");
    }
    assert_eq!(gate.gatepost.log().wait_for_count(" backend-back ", 1).len(), 1);
    assert_eq!(gate.gatepost.log().count(" backend-failing "), 1);
}

#[test]
fn a_spread_lets_them_go_a_third_a_second() {
    let mut ward = Ward::open();
    let gate = ward.gate("", "disconnect_spread = \"3s\"");
    let clients_on = on(&gate, SESSIONS);
    let died = Instant::now();
    ward.die();
    let times = leave(clients_on, died);
    for second in 1..=2 {
        let gone = times.iter().filter(|time| **time < Duration::from_secs(second)).count();
        let most = SESSIONS / 3 * usize::try_from(second).unwrap();
        assert!(gone <= most, "{gone} are gone before second {second}: {times:?}");
    }
    assert_eq!(times.len(), SESSIONS, "all are gone in the end");
    gate.gatepost.log().wait_for_count("by=backend", SESSIONS);
}

#[test]
fn all_that_waited_get_in_but_not_all_at_once() {
    let mut ward = Ward::shut();
    let gate = ward.gate("", "proxy_timeout = \"60s\"\nconnect_timeout = \"1s\"");
    ward.die();
    let mut waiting = clients(&gate, SESSIONS);
    for (n, client) in waiting.iter_mut().enumerate() {
        client.set_patience(Duration::from_secs(60));
        client.send_login(&format!("user{n}"), "x");
    }
    gate.gatepost.wait_for(" backend-failing ");
    let revived = Instant::now();
    ward.revive();
    until("somebody has come", || ward.came() > 0);
    assert!(revived.elapsed() < Duration::from_secs(2), "{:?}", revived.elapsed());
    ward.wait_for_ungreeted(IN_FLIGHT);
    // All have had their next try by then: they try about once a second.
    let more = poll(Duration::from_secs(2), || (ward.came() > IN_FLIGHT).then_some(()));
    assert!(more.is_none(), "{} have come, and none was greeted", ward.came());
    ward.greet(1);
    until("the next one comes when one was greeted", || ward.came() == IN_FLIGHT + 1);
    ward.greet(usize::MAX / 2);
    for client in &mut waiting {
        let heard = client.login_answer();
        assert!(heard.ok, "{heard:?}");
    }
    assert_eq!(ward.seen.most_ungreeted.load(Ordering::SeqCst), IN_FLIGHT);
    assert_eq!((ward.came(), ward.ungreeted()), (SESSIONS, 0), "nobody had to come twice");
    gate.gatepost.log().wait_for_count(" info login ", SESSIONS);
    assert_eq!(gate.gatepost.log().count(" backend-back "), 1);
    assert_eq!(gate.gatepost.log().count(" backend-failing "), 1);
    assert_eq!(gate.gatepost.log().count(" refused protocol="), 0);
}

#[test]
fn a_backend_that_is_down_for_longer_is_left_alone() {
    let ward = Ward::open();
    ward.seen.sick.store(true, Ordering::SeqCst);
    let gate = ward.gate(", proxy_host_immediate_failure_after = \"1s\", proxy_timeout = \"500ms\"", "");
    let mut clients = clients(&gate, 2);
    let try_again = |clients: &mut Vec<AnyClient>| {
        for client in clients {
            client.send_login("alice", "x");
            let heard = client.login_answer();
            let code = trouble(client.protocol());
            assert!(!heard.ok && heard.text.starts_with(code), "{heard:?}");
        }
    };
    until("it is known to be down", || {
        // A connection may say only so many commands before its login.
        clients = self::clients(&gate, 2);
        try_again(&mut clients);
        gate.gatepost.log().count("reason=backend-down") > 0
    });
    let (since, before, asked_before) = (Instant::now(), ward.came(), gate.gatepost.log().count(" refused protocol="));
    until("it was tried three times more", || {
        clients = self::clients(&gate, 2);
        try_again(&mut clients);
        ward.came() >= before + 3
    });
    // Probes are three quarters of a second apart at least.
    let most = usize::try_from(since.elapsed().as_millis() / 750).unwrap() + 1;
    let probes = ward.came() - before;
    assert!(probes <= most, "{probes} tries in {:?}", since.elapsed());
    let asked = gate.gatepost.log().count(" refused protocol=") - asked_before;
    assert!(asked > probes * 2, "{asked} logins and {probes} tries: who was refused without one?");
    assert_eq!(gate.gatepost.log().count(" backend-failing "), 1);

    let revived = Instant::now();
    ward.seen.sick.store(false, Ordering::SeqCst);
    until("it is found again", || {
        clients = self::clients(&gate, 1);
        clients[0].send_login("alice", "x");
        clients[0].login_answer().ok
    });
    assert!(revived.elapsed() < Duration::from_secs(2), "{:?}", revived.elapsed());
    gate.gatepost.wait_for(" backend-back ");
    assert!(on(&gate, 10).len() == 10, "and everybody is served at once");
}

#[test]
fn of_two_addresses_the_dead_one_is_asked_last_and_found_again() {
    let port = free_port();
    let at = |ip| SocketAddr::new(ip, port.number());
    let sick = Arc::new(AtomicBool::new(true));
    let is_sick = Arc::clone(&sick);
    let first = FakeServer::start_at(at(FIRST), move |mut conn| {
        if !is_sick.load(Ordering::SeqCst) && Backend::default().login(&mut conn).is_some() {
            conn.hold();
        }
    });
    let second = FakeServer::start_at(at(SECOND), |mut conn| {
        Backend::default().login(&mut conn);
        conn.hold();
    });
    let health = Health::default();
    let login = || async {
        let signed_in = alice_knowing(&health, port.number(), Secure::Never, None).await;
        let signed_in = signed_in.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(signed_in.retries, 0);
        signed_in.address
    };
    // Ten seconds, give or take a quarter, pass in no time: the clock is moved between logins only.
    let later = |seconds| async move {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..20 {
            assert_eq!(login().await, second.addr());
        }
        assert_eq!(first.connections(), 1, "found dead by one, and known to all");
        later(13).await;
        for _ in 0..20 {
            assert_eq!(login().await, second.addr());
        }
        assert_eq!(first.connections(), 2, "looked at by one, and still dead");
        sick.store(false, Ordering::SeqCst);
        later(13).await;
        for _ in 0..5 {
            assert_eq!(login().await, first.addr(), "found again, and first again");
        }
    });
    assert_eq!((first.connections(), second.connections()), (7, 40));
}

#[test]
fn logins_that_were_given_up_leave_every_place_free() {
    let ward = Ward::shut();
    let gate = ward.gate("", "proxy_timeout = \"10m\"");
    for round in 0..5 {
        // 128 of them connect and 72 queue.
        let impatient: Vec<Conn> = (0..200).map(|n| impatient(&gate, Protocol::ALL[n % Protocol::ALL.len()])).collect();
        ward.wait_for_ungreeted(IN_FLIGHT);
        for conn in impatient {
            // In one round they hang up politely. They may still want to hear whether they got in, but nobody waits long.
            if round == 0 { conn.close() } else { conn.reset() }
        }
        ward.wait_for_ungreeted(0);
    }
    // As many as ever connect at the same time, and all get in. Until here the backend noticed only later who had left.
    ward.seen.most_ungreeted.store(0, Ordering::SeqCst);
    let mut good = clients(&gate, SESSIONS);
    for client in &mut good {
        client.send_login("patient", "x");
    }
    ward.wait_for_ungreeted(IN_FLIGHT);
    ward.greet(usize::MAX / 2);
    for client in &mut good {
        let heard = client.login_answer();
        assert!(heard.ok, "{heard:?}");
    }
    assert_eq!(ward.seen.most_ungreeted.load(Ordering::SeqCst), IN_FLIGHT);
}

/// One that asks to be let in.
fn impatient(gate: &Gate, protocol: Protocol) -> Conn {
    let mut client = AnyClient::greeted(protocol, gate.at(protocol));
    client.send_login("impatient", "x");
    client.into_conn()
}

#[test]
fn those_who_wait_to_be_let_go_do_not_hold_up_the_end() {
    let mut ward = Ward::open();
    let gate = ward.gate("", "disconnect_spread = \"10m\"");
    let all = 20;
    let mut waiting = on(&gate, all);
    ward.die();
    // One goes at once, another by itself; all others have minutes to wait.
    gate.gatepost.wait_for(" info end ");
    drop(waiting.pop());
    drop(waiting.remove(0));
    let left = waiting.len();
    let stopped = Instant::now();
    let leaving = std::thread::spawn(move || leave(waiting, stopped));
    let lines = gate.gatepost.stop();
    assert_eq!(leaving.join().unwrap().len(), left, "each hears its goodbye");
    assert_eq!(lines.iter().filter(|line| line.contains("by=backend")).count(), all);
    assert!(lines.last().is_some_and(|line| line.contains("0 connections cut")), "{:?}", lines.last());
}
