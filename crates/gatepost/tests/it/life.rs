//! Start, reload, drain: what operators do to a running Gatepost.

use crate::gate::{BINARY, Gate, Want, config, echo_backend, everybody_at};
use std::process::Command;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::Client;

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
fn sigterm_says_goodbye() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let mut stranger = gate.client();
    let mut on = gate.client();
    assert!(on.login("alice", "x").is_ok());
    let waiting = std::thread::spawn(move || {
        stranger.expect_line("* BYE");
        stranger.expect_end();
        on.expect_line("* BYE");
        on.expect_end();
    });
    let lines = gate.gatepost.stop();
    waiting.join().unwrap();
    assert!(lines.iter().any(|l| l.contains("by=gatepost-shutting-down")), "{lines:#?}");
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
