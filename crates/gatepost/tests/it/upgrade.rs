//! `gatepost upgrade`: a successor takes over under load, and one that cannot leaves everything as it was.

use crate::gate::{BINARY, OTHERS_TOO, Want, config, each_at_its_own, echo_backend, everybody_at};
use crate::stream::{Open, Stream, Way};
use crate::supervised::Manager;
use rustix::process::{Pid, Signal};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{Backend, Client, FakeBackend};
use testkit::{Dir, Protocol, real};

/// `gatepost upgrade` of this process: its successor, or the exit code and all that was said.
pub fn upgrade(dir: &Path) -> Result<u32, (Option<i32>, String)> {
    let out = Command::new(BINARY).args(["upgrade", "--config"]).arg(dir.join("gatepost.toml")).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    match out.status.code() {
        Some(0) => {
            let successor = said.strip_prefix("process ").and_then(|rest| rest.split(' ').next()).map(str::parse);
            Ok(successor.and_then(Result::ok).unwrap_or_else(|| panic!("no process in {said:?}")))
        }
        code => Err((code, said)),
    }
}

fn ask(dir: &Path, words: &[&str]) -> String {
    let out = Command::new(BINARY).args(words).arg("--config").arg(dir.join("gatepost.toml")).output().unwrap();
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

pub fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    rustix::process::kill_process(process, signal).expect("the process is there");
}

/// Whether it runs. One that has ended and that nobody has asked about is over, too.
fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

pub fn wait_for_end(process: u32) {
    testkit::wait::until("the process has ended", || !runs(process));
}

/// A Gatepost from a copy of the program, in a directory with everything that it needs.
struct House {
    gatepost: Gatepost,
    authority: Authority,
}

impl House {
    fn start(text: &str, program: &str) -> House {
        let dir = Dir::new();
        let authority = Authority::new(dir.path(), "gate");
        authority.server("gate", &["localhost"]);
        let program = dir.join(program);
        std::fs::copy(BINARY, &program).unwrap();
        dir.write("token", "0123456789abcdef");
        House { gatepost: Gatepost::start_in(dir, program, text, |_| {}), authority }
    }

    fn dir(&self) -> &Path {
        self.gatepost.dir().path()
    }

    fn ways(&self) -> Vec<Way> {
        let tls = self.authority.client_config();
        let both = |protocol: Protocol| {
            let clear = Way { protocol, at: self.gatepost.addr(protocol.name()), tls: None };
            let tls = |name: &str| Way { protocol, at: self.gatepost.addr(name), tls: Some(tls.clone()) };
            [clear].into_iter().chain(protocol.implicit().map(tls))
        };
        Protocol::ALL.into_iter().flat_map(both).collect()
    }
}

#[test]
fn three_upgrades_under_load_refuse_nobody_and_old_sessions_live_on() {
    let backends = Protocol::ALL.map(|protocol| FakeBackend::start(Backend::of(protocol)));
    // A socket that two processes cannot both open: it must come with the others.
    let port = testkit::free_port();
    let admin = format!("[admin]\naddress = [\"127.0.0.1:{}\"]\ntoken_file = \"token\"\n", port.number());
    let text = config(&Want { users: &each_at_its_own(&backends, ""), more: &(admin + OTHERS_TOO), ..Default::default() });
    let mut house = House::start(&text, "gatepost");
    let (ways, dir) = (house.ways(), house.dir().to_owned());
    let mut all: Vec<(u32, Open)> = vec![(house.gatepost.id(), Open::start(&ways, 8))];
    // Two threads for each way.
    let stream = Stream::start(&[ways.clone(), ways.clone()].concat());
    for _ in 0..3 {
        stream.wait_for_more(40);
        let successor = upgrade(&dir).unwrap_or_else(|why| panic!("{why:?}; {}", house.gatepost.log().tail()));
        stream.wait_for_more(40);
        all.push((successor, Open::start(&ways, 8)));
        for (process, open) in &mut all {
            assert!(runs(*process));
            open.all_answer();
        }
    }
    let served = stream.finish();
    println!("{served} logins through three upgrades");
    // All sessions are seen, wherever they live; and the first process is spoken to at a socket of its own.
    let first = all[0].0;
    let sessions = ask(&dir, &["sessions"]);
    for number in 0..8 {
        assert_eq!(sessions.matches(&format!("open{number} ")).count(), 4, "{sessions}");
    }
    assert!(dir.join(format!("control.sock.{first}")).exists());
    assert_eq!(ask(&dir, &["kick", "open1"]).trim(), "4 connections kicked");

    let token = dir.join("token").display().to_string();
    let address = format!("127.0.0.1:{}", port.number());
    // Over TCP the newest process alone is asked.
    testkit::wait::until("the kicked one is gone", || {
        ask(&dir, &["sessions", "--admin", &address, "--token-file", &token]).contains("\n7 connections")
    });
    // Told to read its configuration anew, an old one passes it on.
    let log = house.gatepost.log().from_here();
    signal(first, Signal::HUP);
    log.wait_for("the new configuration is in force");

    // A process goes when its last session does, the oldest one too; the newest stays.
    let newest = all.last().unwrap().0;
    for (process, open) in all {
        for (number, client) in open.finish_but(1).into_iter().enumerate() {
            assert!(runs(process), "session {number} was still on");
            client.logout();
        }
        if process != newest {
            wait_for_end(process);
            assert!(!dir.join(format!("control.sock.{process}")).exists());
        }
    }
    assert!(!house.gatepost.is_running());
    ways[0].signed_in("last").logout();
    signal(newest, Signal::TERM);
    wait_for_end(newest);
    assert!(TcpStream::connect(ways[0].at).is_err(), "nobody has the socket any more");
    let journal = house.gatepost.log().lines();
    let turned_away =
        |line: &&String| line.contains(" refused ") || line.contains(" overload ") || line.contains("by=gatepost-sh");
    assert!(!journal.iter().any(|line| turned_away(&line)), "{:#?}", journal.iter().filter(turned_away).collect::<Vec<_>>());
    for (event, times) in [(" upgrading ", 3), (" upgraded ", 3), (" ready ", 4), (" upgrade-refused ", 0)] {
        assert_eq!(journal.iter().filter(|line| line.contains(event)).count(), times, "{event}: {journal:#?}");
    }
}

/// What is wrong, exit code, a piece of what is said, how it is done and undone.
type Case<'a> = (&'a str, i32, &'a str, &'a dyn Fn(), &'a dyn Fn());

#[test]
fn a_successor_that_cannot_start_leaves_the_old_one_serving() {
    let backend = echo_backend();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Default::default() });
    let house = House::start(&text, "gatepost");
    let (dir, program) = (house.dir().to_owned(), house.dir().join("gatepost"));
    let old = house.gatepost.id();
    let ways = &house.ways()[..2];
    let mut open = Open::start(ways, 4);
    let stream = Stream::start(ways);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let swap = |with: Option<&str>| {
        std::fs::rename(&program, dir.join("away")).unwrap();
        if let Some(script) = with {
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        }
    };
    let key = std::fs::read(dir.join("gate.key")).unwrap();
    let port = format!("address = [\"{}\"]", taken.local_addr().unwrap());
    let cases: &[Case<'_>] = &[
        (
            "the file is bad",
            78,
            "did you mean `static`",
            &|| drop(house.gatepost.dir().write("gatepost.toml", text.replace("\"static\"", "\"statik\""))),
            &|| drop(house.gatepost.dir().write("gatepost.toml", &text)),
        ),
        (
            "the key is none, which only shows when it is opened",
            78,
            "gate.key",
            &|| std::fs::write(dir.join("gate.key"), "rubbish").unwrap(),
            &|| std::fs::write(dir.join("gate.key"), &key).unwrap(),
        ),
        (
            "a new port is taken",
            1,
            "another program listens there",
            &|| {
                let more = format!("{text}[[listen]]\nprotocol = \"imap\"\n{port}\n");
                drop(house.gatepost.dir().write("gatepost.toml", more));
            },
            &|| drop(house.gatepost.dir().write("gatepost.toml", &text)),
        ),
        ("the program is gone", 1, "cannot start ", &|| swap(None), &|| std::fs::rename(dir.join("away"), &program).unwrap()),
        (
            "the program crashes",
            1,
            "ended before it was ready (signal: 6 (SIGABRT)",
            &|| swap(Some("#!/bin/sh\nkill -ABRT $$\n")),
            &|| std::fs::rename(dir.join("away"), &program).unwrap(),
        ),
    ];
    for (what, code, why, damage, repair) in cases {
        damage();
        let log = house.gatepost.log().from_here();
        let (got, said) = upgrade(&dir).expect_err(what);
        assert!(got == Some(*code) && said.contains(why), "{what}: {got:?} {said}");
        // The first is found by the command itself, and the running process is not asked.
        if *what != "the file is bad" {
            log.wait_for("this process goes on");
            assert!(
                log.lines().iter().any(|line| line.contains(" upgrade-refused ") && line.contains(why)),
                "{:#?}",
                log.lines()
            );
        }
        open.all_answer();
        stream.wait_for_more(4);
        repair();
    }
    assert!(runs(old));
    // And nothing stands in the way of one that can.
    let successor = upgrade(&dir).expect("all is well again");
    stream.wait_for_more(4);
    open.all_answer();
    stream.finish();
    open.finish().into_iter().for_each(|client| client.logout());
    wait_for_end(old);
    signal(successor, Signal::TERM);
    wait_for_end(successor);
}

#[test]
fn what_is_new_in_the_file_and_behind_the_link_is_in_force_afterwards() {
    let (one, two) = (echo_backend(), echo_backend());
    let dir = Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    std::fs::copy(BINARY, dir.join("gatepost-1")).unwrap();
    std::fs::copy(BINARY, dir.join("gatepost-2")).unwrap();
    symlink("gatepost-1", dir.join("gatepost")).unwrap();
    let text = config(&Want { users: &everybody_at(one.addr(), ""), limits: "upgrade_drain = \"0s\"", ..Default::default() });
    let program = dir.join("gatepost");
    let gatepost = Gatepost::start_in(dir, program, &text, |_| {});
    let at = |name: &str| gatepost.dir().join(name);
    let mut old = Client::greeted(gatepost.addr("imap"));
    assert!(old.login("alice", "x").is_ok());

    // Another route, one listener less, one more; three shards instead of two; another control socket.
    let port = testkit::free_port();
    let fresh: SocketAddr = ([127, 0, 0, 1], port.number()).into();
    let imaps = "protocol = \"imaps\"\naddress = [\"127.0.0.1:0\"]";
    let moved = text
        .replace(&format!("port = \"{}\"", one.addr().port()), &format!("port = \"{}\"", two.addr().port()))
        .replace(imaps, &format!("protocol = \"imap\"\naddress = [\"{fresh}\"]"))
        .replace("threads = 2", "threads = 3");
    gatepost.dir().write("gatepost.toml", &moved);
    std::fs::remove_file(at("gatepost")).unwrap();
    symlink("gatepost-2", at("gatepost")).unwrap();
    let successor = upgrade(gatepost.dir().path()).unwrap();
    assert_eq!(std::fs::read_link(format!("/proc/{successor}/exe")).unwrap(), at("gatepost-2"), "what the link says now");
    // upgrade_drain is 0 here: the old sessions hear goodbye at once.
    old.expect_line("* BYE ");
    old.expect_end();
    wait_for_end(gatepost.id());
    assert!(TcpStream::connect(gatepost.addr("imaps")).is_err(), "that listener is no longer configured");
    let mut clients: Vec<Client> =
        [gatepost.addr("imap"), fresh].iter().cycle().take(20).map(|at| Client::greeted(*at)).collect();
    for client in &mut clients {
        assert!(client.login("alice", "x").is_ok());
    }
    assert_eq!((one.connections(), two.connections()), (1, 20));

    // From three shards to one: the queues of all sockets are served.
    gatepost.dir().write("gatepost.toml", moved.replace("threads = 3", "threads = 1").replace("control.sock", "other.sock"));
    // The running one is asked where it is.
    let socket = at("control.sock");
    let out = Command::new(BINARY).args(["upgrade", "--socket"]).arg(&socket).arg("--config").arg(at("gatepost.toml")).output();
    assert!(out.unwrap().status.success(), "{}", gatepost.log().tail());
    wait_for_end(successor);
    assert!(!socket.exists() && at("other.sock").exists());
    for _ in 0..20 {
        assert!(Client::greeted(fresh).login("alice", "x").is_ok());
    }
}

#[test]
fn the_service_manager_follows_to_the_successor_and_back() {
    let backend = echo_backend();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let dir = Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let at = dir.join("notify");
    let manager = Manager::at(UnixDatagram::bind(&at).unwrap());
    let mut gatepost = Gatepost::start_in(dir, BINARY, &text, |command| {
        command.env("NOTIFY_SOCKET", &at).env("WATCHDOG_USEC", "1000000");
    });
    manager.wait_for("READY=1");
    let mut on = Client::greeted(gatepost.addr("imap"));
    assert!(on.login("alice", "x").is_ok());
    let successor = upgrade(gatepost.dir().path()).unwrap();
    // The old one names it before it speaks itself, so that it is listened to.
    let lines = manager.wait_for(&format!("MAINPID={successor}"));
    assert_eq!(lines[1], "READY=1");
    let lines = manager.wait_for("READY=1");
    assert!(!lines.iter().any(|line| line.starts_with("MAINPID=")), "{lines:?}");
    manager.wait_for("WATCHDOG=1");
    assert!(on.command("NOOP").is_ok());

    // Nobody serves after this: the service is over, as a failure, so that it is started again.
    let log = gatepost.log().from_here();
    signal(successor, Signal::KILL);
    manager.wait_for(&format!("MAINPID={}", gatepost.id()));
    manager.wait_for("STOPPING=1");
    log.wait_for(" successor-lost ");
    on.expect_line("* BYE ");
    testkit::wait::until("the old one has ended", || !gatepost.is_running());
    log.wait_for("nobody serves any more");
}

#[test]
fn the_successor_of_a_process_that_gave_up_root_keeps_its_ports() {
    if !real::require_root("the program gives its rights up here, and has a port below 1024") {
        return;
    }
    let backend = echo_backend();
    let dir = Dir::new();
    let certificate = Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let uid = passwd.lines().find_map(|line| line.strip_prefix("nobody:")?.split(':').nth(1)?.parse().ok()).unwrap();
    // The service user reads the key, and writes the ports file; the control socket's directory stays root's.
    let own: PathBuf = dir.join("root");
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o755)).unwrap();
    for path in [certificate.key_file.as_path(), dir.path()] {
        chown(path, Some(uid), None).unwrap();
    }
    // An address that nobody else has a server at.
    let privileged: SocketAddr = "127.83.11.5:143".parse().unwrap();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() })
        .replacen("[server]\n", "[server]\nuser = \"nobody\"\n", 1)
        .replacen("127.0.0.1:0", &privileged.to_string(), 1)
        .replace("\"control.sock\"", "\"root/control.sock\"");
    let gatepost = Gatepost::start_in(dir, BINARY, &text, |_| {});
    let mut on = Client::greeted(privileged);
    assert!(on.login("alice", "x").is_ok());
    let mut successor = 0;
    for _ in 0..2 {
        successor = upgrade(gatepost.dir().path()).unwrap_or_else(|why| panic!("{why:?}; {}", gatepost.log().tail()));
        let status = std::fs::read_to_string(format!("/proc/{successor}/status")).unwrap();
        assert!(
            status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}")) && status.contains("CapEff:\t0000000000000000"),
            "{status}"
        );
        assert!(Client::greeted(privileged).login("alice", "x").is_ok());
        assert!(on.command("NOOP").is_ok());
    }
    // It has no place for a socket of its own, and says what that means.
    gatepost.wait_for("the sessions of this process can be neither listed nor kicked");
    assert!(ask(gatepost.dir().path(), &["reload"]).contains("in force"), "the successor owns the control socket");
    signal(successor, Signal::TERM);
    wait_for_end(successor);
}

#[test]
fn a_variable_that_is_not_ours_is_refused() {
    let dir = Dir::new();
    let out = Command::new(BINARY).args(["run", "--config"]).arg(dir.join("none")).env("GATEPOST_PREDECESSOR", "1").output();
    let out = out.unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("GATEPOST_PREDECESSOR=1: that is not the parent of this process"), "{said}");
}
