//! What a service manager hears from the program, and the sockets it hands over.

use crate::gate::{BINARY, Want, config, echo_backend, everybody_at};
use crate::upgrade::{signal, upgrade, wait_for_end};
use rustix::process::Signal;
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::Client;
use testkit::process::Process;
use testkit::{Dir, real};

/// A socket as systemd has one, and what came to it.
pub struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    pub fn at(socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(testkit::wait::PATIENCE)).unwrap();
        Manager { socket }
    }

    /// The next message but those of the watchdog.
    #[track_caller]
    pub fn next(&self) -> Vec<String> {
        loop {
            let lines = self.any();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }

    #[track_caller]
    fn any(&self) -> Vec<String> {
        let mut buffer = [0u8; 4096];
        let n = self.socket.recv(&mut buffer).expect("a message for the service manager");
        let text = String::from_utf8(buffer[..n].to_vec()).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    /// The next message that has this line.
    #[track_caller]
    pub fn wait_for(&self, line: &str) -> Vec<String> {
        // The watchdog's messages never end.
        let end = Instant::now() + testkit::wait::PATIENCE;
        while Instant::now() < end {
            let lines = self.any();
            if lines.iter().any(|l| l == line) {
                return lines;
            }
        }
        panic!("nobody said {line}")
    }
}

fn now_usec() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000
}

fn with_certificate() -> Dir {
    let dir = Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    dir
}

#[test]
fn the_service_manager_hears_of_start_reload_and_stop() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), "");
    let dir = with_certificate();
    let at = dir.join("notify");
    let name = format!("gatepost-test-{}-notify", std::process::id());
    let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let sockets = [
        (UnixDatagram::bind(&at).unwrap(), at.into_os_string()),
        (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
    ];
    let mut dir = Some(dir);
    for (socket, to) in sockets {
        let manager = Manager::at(socket);
        let text = config(&Want { users: &users, ..Default::default() });
        let mut gatepost = Gatepost::start_in(dir.take().unwrap_or_else(with_certificate), BINARY, &text, |command| {
            command.env("NOTIFY_SOCKET", &to);
        });
        assert_eq!(manager.any(), ["READY=1", "STATUS=Serving 0 sessions on 2 listeners."], "and no watchdog unless asked for");

        let asked = now_usec();
        gatepost.reload();
        let lines = manager.next();
        assert_eq!(lines[0], "RELOADING=1");
        let usec: i128 = lines[1].strip_prefix("MONOTONIC_USEC=").and_then(|usec| usec.parse().ok()).expect("a time");
        assert!((asked..=now_usec()).contains(&usec), "{asked} {usec}");
        assert_eq!(manager.next()[0], "READY=1");

        gatepost.reload_with("version = 7");
        assert_eq!(manager.next()[0], "RELOADING=1");
        let lines = manager.next();
        assert_eq!(lines[0], "READY=1", "the old configuration serves");
        assert!(lines[1].starts_with("STATUS=Reload refused, the old configuration stays in force: "), "{lines:?}");
        assert!(Client::greeted(gatepost.addr("imap")).login("alice", "x").is_ok());

        gatepost.stop();
        let lines = manager.wait_for("STOPPING=1");
        assert!(lines.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=10000000")), "{lines:?}");
    }
}

#[test]
fn the_watchdog_hears_that_it_lives() {
    let backend = echo_backend();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    for (pid, heard) in [(None, true), (Some("1"), false)] {
        let dir = with_certificate();
        let at = dir.join("notify");
        let manager = Manager::at(UnixDatagram::bind(&at).unwrap());
        let gatepost = Gatepost::start_in(dir, BINARY, &text, |command| {
            command.env("NOTIFY_SOCKET", &at).env("WATCHDOG_USEC", "400000");
            if let Some(pid) = pid {
                command.env("WATCHDOG_PID", pid);
            }
        });
        manager.wait_for("STATUS=Serving 0 sessions on 2 listeners.");
        if heard {
            // More often than the limit asks for: half of it.
            let since = Instant::now();
            for _ in 0..20 {
                assert_eq!(manager.any(), ["WATCHDOG=1"]);
            }
            assert!(since.elapsed() >= Duration::from_secs(3), "and not all the time");
            gatepost.stop();
        } else {
            // Another process of the service has the watchdog.
            gatepost.stop();
            assert_eq!(manager.any()[0], "STOPPING=1");
        }
    }
}

#[test]
fn a_service_manager_that_cannot_be_heard_is_no_reason_not_to_serve() {
    let backend = echo_backend();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    for (name, said) in [("vsock:2:1", "NOTIFY_SOCKET vsock:2:1: "), ("/nonexistent/notify", "NOTIFY_SOCKET: ")] {
        let gatepost = Gatepost::start_in(with_certificate(), BINARY, &text, |command| {
            command.env("NOTIFY_SOCKET", name);
        });
        gatepost.wait_for(said);
        assert!(Client::greeted(gatepost.addr("imap")).login("alice", "x").is_ok());
    }
}

/// `systemd-socket-activate` with these sockets, in front of the program and its words.
fn activated<'a>(activate: &OsStr, listen: &[String], words: impl IntoIterator<Item = &'a OsStr>) -> Command {
    let mut command = Command::new(activate);
    command.args(listen.iter().flat_map(|at| ["-l", at])).arg(BINARY).args(words);
    command
}

#[test]
fn sockets_of_systemd_are_served_by_all_shards_and_the_rest_is_bound() {
    let Some(activate) = real::require("systemd-socket-activate") else { return };
    let backend = echo_backend();
    let port = testkit::free_port();
    let at: SocketAddr = ([127, 0, 0, 1], port.number()).into();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let text = text.replacen("127.0.0.1:0", &at.to_string(), 1);
    let mut first = None;
    let gatepost = Gatepost::start_in(with_certificate(), BINARY, &text, |command| {
        let words: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
        let dir = command.get_current_dir().unwrap().to_owned();
        *command = activated(activate.as_os_str(), &[at.to_string()], words.iter().map(|word| word.as_os_str()));
        command.current_dir(dir);
        // It waits for the first client before it starts the program; that client is in the queue then.
        first = Some(std::thread::spawn(move || {
            testkit::wait::until("systemd-socket-activate listens", || TcpStream::connect(at).is_ok());
            let mut client = Client::greeted(at);
            assert!(client.login("first", "x").is_ok());
            client
        }));
    });
    let mut first = first.unwrap().join().expect("the client that started it");
    assert_eq!(gatepost.addr("imap"), at);
    assert!(gatepost.port("imaps") != 0, "what is not handed over is bound");
    let mut clients: Vec<Client> = (0..40).map(|_| Client::greeted(at)).collect();
    for client in &mut clients {
        assert!(client.login("alice", "x").is_ok(), "{}", gatepost.log().tail());
    }
    assert!(first.command("NOOP").is_ok());
    assert!(TcpListener::bind(at).is_err(), "somebody listens there");
    // The successor has it from its predecessor, not from systemd.
    let successor = upgrade(gatepost.dir().path()).unwrap_or_else(|why| panic!("{why:?}; {}", gatepost.log().tail()));
    let mut second = Client::greeted(at);
    assert!(second.login("second", "x").is_ok() && first.command("NOOP").is_ok());
    drop(first);
    drop(clients);
    wait_for_end(gatepost.id());
    assert!(second.command("NOOP").is_ok());
    signal(successor, Signal::TERM);
    wait_for_end(successor);
    TcpListener::bind(at).expect("the socket is closed with the program");
}

#[test]
fn sockets_of_systemd_that_fit_nothing_end_the_start() {
    let Some(activate) = real::require("systemd-socket-activate") else { return };
    let backend = echo_backend();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let (port, other) = (testkit::free_port(), testkit::free_port());
    let at: SocketAddr = ([127, 0, 0, 1], port.number()).into();
    let dual = format!("[::]:{}", other.number());
    for (second, said) in [
        (None, format!("systemd hands over what no listener is configured for: socket 3 (mail) at {at}")),
        (Some("/run.sock"), "socket 4 (mail) at unix:/".to_owned()),
        (Some(&*dual), format!("socket 4 (mail) of systemd: {dual}: it listens for IPv4, too; set BindIPv6Only=ipv6-only")),
    ] {
        let dir = with_certificate();
        let file = dir.write("gatepost.toml", &text);
        let mut listen = vec![at.to_string()];
        listen.extend(second.map(|second| match second.strip_prefix('/') {
            Some(name) => dir.join(name).display().to_string(),
            None => second.to_owned(),
        }));
        let words = [OsStr::new("run"), OsStr::new("--config"), file.as_os_str()];
        let mut command = activated(activate.as_os_str(), &listen, words);
        let program = command.get_program().to_owned();
        let rest: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
        command = Command::new(program);
        command.arg(format!("--fdname={}", vec!["mail"; listen.len()].join(":"))).args(rest);
        let mut process = Process::start(command, dir.join("journal"));
        testkit::wait::until("systemd-socket-activate listens", || TcpStream::connect(at).is_ok());
        let status = process.wait_exit();
        assert_eq!(status.code(), Some(1), "{}", process.output().tail());
        process.output().wait_for(&said);
    }
}

/// A file of packaging/systemd, with the program that was built for this test.
fn unit(name: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd").join(name);
    std::fs::read_to_string(file).unwrap().replace("/usr/local/bin/gatepost", BINARY)
}

#[test]
fn systemd_takes_the_units_and_finds_little_exposed() {
    let Some(analyze) = real::require("systemd-analyze") else { return };
    let dir = Dir::new();
    let said = |words: &[&str]| {
        let out = Command::new(&analyze).args(words).args(["--no-pager", "--man=no"]).current_dir(dir.path()).output().unwrap();
        (out.status.code(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
    };
    // As an administrator of systemd before 253 has it, so that this machine's systemd knows every line, old or new.
    let reload = "Type=notify-reload\n";
    let before_253 = unit("gatepost.service.d/before-253.conf");
    let lines =
        before_253.lines().filter(|line| !line.starts_with('#') && line.contains('=')).collect::<Vec<_>>().join("\n") + "\n";
    assert!(unit("gatepost.service").contains(reload) && lines.starts_with("Type=notify\nExecReload="), "{lines}");
    dir.write("gatepost.service", unit("gatepost.service").replace(reload, &lines));
    dir.write("gatepost.socket", unit("gatepost.socket"));
    let (code, words) = said(&["verify", "./gatepost.service", "./gatepost.socket"]);
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("gatepost")).collect();
    assert!(code == Some(0) && ours.is_empty(), "{words}");
    let (code, words) = said(&["security", "--offline=true", "--threshold=20", "./gatepost.service"]);
    assert_eq!(code, Some(0), "exposed above 2.0: {words}");
    // And that the tool can say no.
    dir.write("bare.service", format!("[Service]\nExecStart={BINARY} run\n"));
    assert_ne!(said(&["security", "--offline=true", "--threshold=20", "./bare.service"]).0, Some(0));
}
