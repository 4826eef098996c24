//! Start, reload, drain: what operators do to a running Gatepost.

use crate::gate::{BINARY, Gate, OTHERS_TOO, Want, config, echo_backend, everybody_at};
use std::process::Command;
use testkit::Protocol;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{AnyClient, Backend, Client, FakeBackend};

fn verb(gate: &Gate, words: &[&str]) -> (Option<i32>, String) {
    let file = gate.gatepost.dir().join("gatepost.toml");
    let out = Command::new(BINARY).args(words).arg("--config").arg(file).output().unwrap();
    (out.status.code(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn reload_changes_routes_and_touches_no_session() {
    let (one, two) = (echo_backend(), echo_backend());
    let mut gate = Gate::start(&Want { users: &everybody_at(one.addr(), ""), ..Default::default() });
    let mut old = gate.client();
    assert!(old.login("alice", "x").is_ok());
    let moved = config(&Want { users: &everybody_at(two.addr(), ""), ..Default::default() });
    gate.gatepost.dir().write("gatepost.toml", &moved);
    let (code, said) = verb(&gate, &["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(gate.client().login("alice", "x").is_ok());
    assert_eq!((one.connections(), two.connections()), (1, 1));
    assert!(old.command("NOOP").untagged_text().contains("ECHO"), "the old session goes on");

    // A bad file never replaces a good one, and says why, here and in the journal.
    gate.gatepost.dir().write("gatepost.toml", moved.replace("driver = \"static\"", "driver = \"statik\""));
    let (code, said) = verb(&gate, &["reload"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("gatepost.toml:") && said.contains("static"), "{said}");
    gate.gatepost.reload();
    gate.gatepost.wait_for("the old configuration stays in force");
    assert!(gate.client().login("alice", "x").is_ok());
    assert!(old.command("NOOP").is_ok());
}

#[test]
fn reload_opens_and_closes_listeners() {
    let backend = echo_backend();
    let mut gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let mut on = gate.tls_client();
    assert!(on.login("alice", "x").is_ok());
    let port = testkit::free_port();
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let listen = "[[listen]]\nprotocol = \"imaps\"\naddress = [\"127.0.0.1:0\"]\n";
    assert!(text.contains(listen));
    let fresh = format!("[[listen]]\nprotocol = \"imap\"\naddress = [\"127.0.0.1:{}\"]\ntls = \"none\"\n", port.number());
    gate.gatepost.reload_with(&text.replace(listen, &fresh));
    gate.gatepost.wait_for("the new configuration is in force");
    let mut client = Client::greeted(([127, 0, 0, 1], port.number()).into());
    assert!(client.login("alice", "x").is_ok());
    assert!(on.command("NOOP").is_ok(), "a session of a closed listener goes on");
    assert!(gate.client().login("alice", "x").is_ok(), "an unchanged listener stays");
    testkit::wait::until("the old listener is closed", || std::net::TcpStream::connect(gate.imaps()).is_err());
}

#[test]
fn reload_adds_and_removes_pop3_and_touches_no_session() {
    let (imap, pop3) = (FakeBackend::start(Backend::of(Protocol::Imap)), FakeBackend::start(Backend::of(Protocol::Pop3)));
    let one = |protocol: &str, port| {
        format!(
            "[[users]]\nname = \"{protocol}\"\ndriver = \"static\"\nprotocols = [\"{protocol}\"]\nfields = {{ proxy = \"y\", nopassword = \"y\", host = \"127.0.0.1\", port = \"{port}\" }}\n"
        )
    };
    let users = one("imap", imap.port()) + &one("pop3", pop3.port());
    let want = Want { users: &users, ..Default::default() };
    let mut gate = Gate::start(&want);
    let mut by_imap = gate.any_client(Protocol::Imap);
    assert!(by_imap.login("alice", "x").ok);
    let port = testkit::free_port();
    let pop3_at = std::net::SocketAddr::from(([127, 0, 0, 1], port.number()));
    assert!(std::net::TcpStream::connect(pop3_at).is_err(), "nobody listens there yet");

    let listen = format!("[[listen]]\nprotocol = \"pop3\"\naddress = [\"{pop3_at}\"]\n");
    let log = gate.gatepost.log().from_here();
    gate.gatepost.reload_with(&config(&Want { more: &listen, users: &users, ..Default::default() }));
    log.wait_for("the new configuration is in force");
    let mut by_pop3 = AnyClient::greeted(Protocol::Pop3, pop3_at);
    assert!(by_pop3.login("bob", "x").ok, "{}", gate.gatepost.log().tail());
    assert!(by_imap.noop().ok);

    let log = gate.gatepost.log().from_here();
    gate.gatepost.reload_with(&config(&want));
    log.wait_for("the new configuration is in force");
    testkit::wait::until("the listener is closed", || std::net::TcpStream::connect(pop3_at).is_err());
    assert_eq!(by_pop3.noop().text, "ECHO NOOP", "a session of a closed listener goes on");
    assert!(by_imap.noop().ok);
    assert_eq!((imap.connections(), pop3.connections()), (1, 1));
    by_pop3.logout();
    assert!(gate.gatepost.wait_for(" info end ").contains("protocol=pop3"));
}

#[test]
fn certificates_are_read_anew() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let mut on = gate.tls_client();
    assert!(on.login("alice", "x").is_ok());
    let dir = gate.gatepost.dir().path().to_path_buf();
    // A bad file leaves the old certificate in place, and says so.
    let good = std::fs::read(dir.join("gate.pem")).unwrap();
    std::fs::write(dir.join("gate.pem"), "rubbish").unwrap();
    gate.gatepost.wait_for("the old ones stay in use");
    drop(gate.tls_client());
    std::fs::write(dir.join("gate.pem"), good).unwrap();
    let authority = Authority::new(&dir, "fresh");
    authority.server("gate", &["localhost"]);
    gate.gatepost.wait_for("read anew");
    testkit::wait::until("the new certificate is shown", || {
        Client::connect(gate.imaps()).try_connect_tls(&authority.client_config(), "localhost").is_ok()
    });
    assert!(on.command("NOOP").is_ok());
}

#[test]
fn check_and_show() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    for words in [&["check"][..], &["-t"]] {
        let (code, said) = verb(&gate, words);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("fine"), "{said}");
    }
    for words in [&["show", "--effective"][..], &["-T"]] {
        let (code, said) = verb(&gate, words);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("proxy_timeout = \"30s\""), "{said}");
    }
    // Everything that is wrong at once, each with its place.
    let text = config(&Want {
        users: &everybody_at(backend.addr(), ""),
        backend: "proxy_timeot = \"1s\"\nconnect_timeout = 5",
        ..Default::default()
    });
    gate.gatepost.dir().write("gatepost.toml", text.replace("gate.key", "missing.key"));
    let (code, said) = verb(&gate, &["check"]);
    assert_eq!(code, Some(78), "{said}");
    for piece in ["proxy_timeout", "connect_timeout", "missing.key", "error["] {
        assert!(said.contains(piece), "no {piece} in {said}");
    }
    // And what only shows when things are opened.
    let text = config(&Want {
        users: "[[users]]\ndriver = \"sqlite\"\npath = \"gate.key\"\nquery = \"SELECT host FROM %d\"\n",
        ..Default::default()
    });
    gate.gatepost.dir().write("gatepost.toml", text);
    let (code, said) = verb(&gate, &["check"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("query, column 18") && said.contains("gatepost.toml:"), "{said}");
}

#[test]
fn rows_in_the_file_are_judged_without_a_login() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    for (row, remark) in [
        ("proxy = \"y\", nopassword = \"y\", host = \"h\", destuser = \"%n\", pass = \"%w\"", None),
        ("proxy = \"y\", nopassword = \"y\", forward_x = \"1\", \"port:default\" = \"143\"", None),
        ("proxy = \"y\", host = \"h\", port = \"imap\"", Some("field port: \"imap\" is no port")),
        ("proxy = \"y\", host = \"h\", destusr = \"%n\"", Some("field destusr has no effect")),
        ("nopassword = \"y\", nologin = \"y\"", Some("field nologin: together with nopassword")),
        ("nopassword = \"y\", host = \"h\", pass = \"x\"", Some("field pass: together with nopassword")),
    ] {
        let users = format!("[[users]]\nname = \"all\"\ndriver = \"static\"\nfields = {{ {row} }}\n");
        gate.gatepost.dir().write("gatepost.toml", config(&Want { users: &users, ..Default::default() }));
        let (code, said) = verb(&gate, &["check"]);
        assert_eq!(code, Some(if remark.is_some() { 3 } else { 0 }), "{row}: {said}");
        if let Some(remark) = remark {
            assert!(said.contains("gatepost.toml:") && said.contains(remark), "{row}: {said}");
        }
    }
}

#[test]
fn nobody_answers_the_control_socket() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let file = gate.gatepost.dir().join("gatepost.toml");
    let keep = testkit::Dir::new();
    for name in ["gatepost.toml", "gate.pem", "gate.key"] {
        std::fs::copy(gate.gatepost.dir().join(name), keep.join(name)).unwrap();
    }
    drop(file);
    let out = Command::new(BINARY).args(["reload", "--config"]).arg(keep.join("gatepost.toml")).output().unwrap();
    assert_eq!(out.status.code(), Some(69), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn only_a_dead_socket_makes_room_for_the_control_socket() {
    let backend = echo_backend();
    let dir = testkit::Dir::new();
    dir.write("control.sock", "somebody's notes");
    let gate = Gate::start_in(dir, &Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    gate.gatepost.wait_for("something else than a socket is there");
    assert_eq!(std::fs::read_to_string(gate.gatepost.dir().join("control.sock")).unwrap(), "somebody's notes");
}

#[test]
fn sigterm_says_goodbye_where_it_is_safe() {
    // bob is in the middle of a message: nothing of ours may become part of it.
    for (protocol, goodbye, message) in [
        (Protocol::Imap, "* BYE ", "* 1 FETCH (BODY[] {1000}\r\nhalf of it\r\n"),
        (Protocol::Pop3, "-ERR [SYS/TEMP] Server is shutting down", "+OK 1000 octets\r\nhalf of it\r\n"),
        (Protocol::ManageSieve, "BYE (TRYLATER) \"Server is shutting down", "{1000}\r\nhalf of it\r\n"),
        (Protocol::Submission, "421 4.3.2 Server is shutting down", "250 ECHO\r\n250-half of it\r\n"),
    ] {
        let backend = testkit::peer::FakeServer::start(move |conn| {
            let login = Backend::of(protocol).login(conn);
            if login.is_some_and(|login| login.user == "bob") {
                conn.send(message);
            }
            conn.hold();
        });
        let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Default::default() });
        let (mut stranger, mut on, mut reading) =
            (gate.any_client(protocol), gate.any_tls_client(protocol), gate.any_client(protocol));
        assert!(on.login("alice", "x").ok && reading.login("bob", "x").ok);
        let (first, second) = message.split_once("\r\n").unwrap();
        reading.expect_line(first);
        reading.expect_line(second.trim_end());
        let waiting = std::thread::spawn(move || {
            for client in [&mut stranger, &mut on] {
                let line = client.expect_line("");
                assert!(line.starts_with(goodbye), "{line}");
                client.expect_end();
            }
            reading.expect_end();
        });
        let lines = gate.gatepost.stop();
        waiting.join().unwrap();
        let ended = lines.iter().filter(|line| line.contains(" end ") && line.contains("by=gatepost-shutting-down"));
        assert_eq!(ended.count(), 2, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("reason=shutting-down")), "{lines:#?}");
    }
}

#[test]
fn who_waits_for_a_backend_at_the_end_hears_goodbye() {
    let backend = testkit::peer::FakeServer::start(|conn| conn.hold());
    for (protocol, goodbye) in [
        (Protocol::Imap, "* BYE "),
        (Protocol::Pop3, "-ERR [SYS/TEMP] Server is shutting down"),
        (Protocol::ManageSieve, "BYE (TRYLATER) \"Server is shutting down"),
        (Protocol::Submission, "421 4.3.2 Server is shutting down"),
    ] {
        let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Default::default() });
        let mut client = gate.any_client(protocol);
        let before = backend.connections();
        client.send_login("alice", "x");
        backend.wait_for_connections(before + 1);
        let waiting = std::thread::spawn(move || {
            if protocol == Protocol::Pop3 {
                client.expect_line("+OK");
            }
            let line = client.expect_line("");
            assert!(line.starts_with(goodbye), "{line}");
            client.expect_end();
        });
        let lines = gate.gatepost.stop();
        waiting.join().expect("a goodbye");
        assert!(lines.iter().any(|line| line.contains("reason=shutting-down")), "{lines:#?}");
        assert!(lines.last().is_some_and(|line| line.contains("0 connections cut")), "{lines:#?}");
    }
}

#[test]
fn a_silent_pop3_client_has_its_ten_minutes() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Default::default() });
    let (code, said) = verb(&gate, &["show", "--effective"]);
    assert_eq!(code, Some(0), "{said}");
    let pop3 = said.split_once("[protocol.pop3]").expect("a section").1;
    assert!(pop3.contains("idle_timeout = \"11m\""), "{said}");
    let users = everybody_at(backend.addr(), "");
    for (time, fine) in [("10m", false), ("659s", false), ("11m", true), ("1h", true)] {
        let more = format!("[protocol.pop3]\nidle_timeout = \"{time}\"\n{OTHERS_TOO}");
        gate.gatepost.dir().write("gatepost.toml", config(&Want { users: &users, more: &more, ..Default::default() }));
        let (code, said) = verb(&gate, &["check"]);
        assert_eq!(code, Some(if fine { 0 } else { 78 }), "{time}: {said}");
        assert_eq!(said.contains("RFC 1939"), !fine, "{time}: {said}");
    }
}

#[test]
fn the_journal_can_be_json_in_a_file() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let text = text.replace("level = \"debug\"", "level = \"info\"\nformat = \"json\"\nfile = \"journal.json\"");
    let dir = testkit::Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let other = Gatepost::start_in(dir, BINARY, &text, |_| {});
    let mut client = Client::greeted(other.addr("imap"));
    assert!(client.login("al\u{202e}ice", "x").status == "NO");
    assert!(client.login("alice", "x").is_ok());
    client.logout();
    let log = testkit::Log::at(other.dir().join("journal.json"));
    log.wait_for("\"event\":\"end\"");
    for line in log.lines() {
        let read: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(read["time"].is_string() && read["level"].is_string());
    }
    let login: serde_json::Value = serde_json::from_str(&log.wait_for("\"event\":\"login\"")).unwrap();
    assert_eq!(login["user"], "alice");
    drop(gate);
}

#[test]
fn a_taken_port_and_a_bad_key_are_said_at_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let users = everybody_at(taken.local_addr().unwrap(), "");
    let text = config(&Want { users: &users, ..Default::default() }).replacen(
        "127.0.0.1:0",
        &taken.local_addr().unwrap().to_string(),
        1,
    );
    let dir = testkit::Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    dir.write("gatepost.toml", text);
    let out = Command::new(BINARY).args(["run", "--config"]).arg(dir.join("gatepost.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    let named = format!("cannot listen on {}: ", taken.local_addr().unwrap());
    assert!(said.contains(&named) && said.contains("gatepost.toml:"), "{said}");
}
