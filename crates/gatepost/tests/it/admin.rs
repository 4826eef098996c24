//! The admin socket and its verbs: who is on, kick, holds, access.

use crate::gate::{BINARY, Gate, OTHERS_TOO, Want, config, each_at_its_own, echo_backend, everybody_at};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::Protocol;
use testkit::peer::{AnyClient, Backend, FakeBackend};
use testkit::wait::{PATIENCE, poll};

/// Runs a verb against this Gatepost: exit code, standard output, standard error.
pub fn verb(gate: &Gate, words: &[&str]) -> (Option<i32>, String, String) {
    let file = gate.gatepost.dir().join("gatepost.toml");
    let out = Command::new(BINARY).arg("--config").arg(file).args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// The sessions as `gatepost sessions --json` lists them.
pub fn sessions(gate: &Gate, words: &[&str]) -> Vec<Value> {
    let all = [&["sessions", "--json"], words].concat();
    let (code, out, err) = verb(gate, &all);
    assert_eq!(code, Some(0), "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    let list = said["sessions"].as_array().unwrap().clone();
    assert_eq!(said["total"], list.len());
    list
}

/// One HTTP request on a stream: status and body.
pub fn http(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    stream.write_all(format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

pub fn on_socket(gate: &Gate, request: &str) -> (u16, String) {
    http(UnixStream::connect(gate.gatepost.dir().join("control.sock")).unwrap(), request)
}

#[test]
fn who_is_on_is_listed_with_all_that_is_known() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), ", destuser = \"%n-box\", user_alias = \"ali\"");
    let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, trust: "networks = [\"127.0.0.1\"]", ..Default::default() });
    let mut alice = gate.tls_client();
    alice.command("ID (\"x-originating-ip\" \"192.0.2.9\" \"x-originating-port\" \"999\" \"x-session-id\" \"sess9\")");
    assert!(alice.login("alice@example.com", "x").is_ok());
    assert!(alice.command("NOOP").untagged_text().contains("ECHO NOOP"));
    let silent = gate.client();

    let all = poll(PATIENCE, || Some(sessions(&gate, &[])).filter(|all| all.len() == 2)).expect("two connections");
    let on = all.iter().find(|one| one["state"] == "relayed").unwrap();
    assert!(on["idle"].as_u64() <= on["age"].as_u64(), "{on}");
    assert_eq!(on["user"], "alice@example.com");
    assert_eq!(on["destuser"], "alice-box");
    assert_eq!(on["client"], "192.0.2.9:999");
    assert!(on["via"].as_str().unwrap().starts_with("127.0.0.1:"), "{on}");
    assert_eq!(on["backend"], backend.addr().to_string());
    assert_eq!((&on["protocol"], &on["session"]), (&"imap".into(), &"sess9".into()));
    assert!(on["tls"].as_str().unwrap().starts_with("TLSv1."), "{on}");
    assert_eq!((&on["backend_tls"], &on["fields"]["user_alias"]), (&"none".into(), &"ali".into()));
    // Both directions are counted while the session lives, from what the relay moved.
    assert!(on["to_backend"].as_u64().unwrap() >= 8 && on["to_client"].as_u64().unwrap() >= 8, "{on}");
    let talking = all.iter().find(|one| one["state"] == "talking").unwrap();
    assert!(talking.get("user").is_none() && talking.get("backend").is_none(), "{talking}");

    for (words, count) in [
        (&["--user", "alice@*"][..], 1),
        (&["--user", "bob", "--user", "al?ce@example.com"], 1),
        (&["--destuser", "alice-box"], 1),
        (&["--client", "192.0.2.0/24"], 1),
        (&["--client", "127.0.0.1"], 1),
        (&["--backend", "127.0.0.1"], 1),
        (&["--backend", &backend.addr().to_string()], 1),
        (&["--backend", "127.0.0.2"], 0),
        (&["--session", "sess9"], 1),
        (&["--protocol", "pop3"], 0),
        (&["--state", "relayed"], 1),
        (&["--user", "alice@*", "--protocol", "pop3"], 0),
    ] {
        assert_eq!(sessions(&gate, words).len(), count, "{words:?}");
    }
    let (code, out, _) = verb(&gate, &["who"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("alice@example.com as alice-box") && out.ends_with("2 connections\n"), "{out}");
    let (code, _, err) = verb(&gate, &["sessions", "--client", "mail.example.com"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("client: mail.example.com is neither an address nor a network"), "{err}");
    drop(silent);
}

#[test]
fn names_from_anywhere_cannot_write_on_a_terminal() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let mut client = gate.client();
    assert!(client.login("al\u{301}ice", "x").is_ok());
    let (_, out, _) = verb(&gate, &["sessions"]);
    assert_eq!(out.lines().count(), 3, "{out}");
    let (_, out, _) = verb(&gate, &["doveadm", "-f", "tab", "proxy", "list"]);
    assert_eq!(out.lines().count(), 2, "{out}");
}

/// Before login a client may wait for us: for its answer to a wrong password, or where a header is due of its balancer.
#[test]
fn a_kick_does_not_wait_for_a_pause_or_a_header() {
    let users = "[[users]]\nname = \"all\"\ndriver = \"static\"\nfields = { proxy = \"y\", host = \"127.0.0.1\", password = \"{PLAIN}right\" }\n";
    let more = "[[listen]]\nprotocol = \"pop3\"\naddress = [\"127.0.0.1:0\"]\nproxy_protocol = \"required\"\n";
    let trust = "proxy_protocol = [\"127.0.0.1\"]";
    let text = config(&Want { users, more, trust, ..Default::default() }).replace("\"10ms\"", "\"60s\"");
    let gate = Gate::start_with(testkit::Dir::new(), &text);
    let mut pausing = TcpStream::connect(gate.imap()).unwrap();
    let greeting = pausing.read(&mut [0; 1000]).unwrap();
    assert!(greeting > 0);
    pausing.write_all(b"a LOGIN alice wrong\r\n").unwrap();
    gate.gatepost.wait_for("reason=credentials");
    let mut silent = TcpStream::connect(gate.gatepost.addr("pop3")).unwrap();
    poll(PATIENCE, || (sessions(&gate, &[]).len() == 2).then_some(())).expect("two connections");
    let began = Instant::now();
    let (code, out, _) = verb(&gate, &["kick", "--all"]);
    assert_eq!((code, &*out), (Some(0), "2 connections kicked\n"));
    assert_eq!(silent.read(&mut [0; 100]).unwrap_or(0), 0);
    assert_eq!(pausing.read(&mut [0; 100]).unwrap_or(0), 0, "without an answer");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    gate.gatepost.log().wait_for_all(&["protocol=imap", "reason=kicked"]);
    gate.gatepost.log().wait_for_all(&["protocol=pop3", "reason=kicked"]);
}

/// `gatepost sessions | head`: who reads no further is no reason to panic.
#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let file = gate.gatepost.dir().join("gatepost.toml");
    for verb in [
        "version",
        "check",
        "show",
        "sessions",
        "sessions --json",
        "sessions --watch",
        "status",
        "status --json",
        "explain login alice",
        "explain login alice --json",
        "kick nobody",
        "doveadm who",
        "doveadm proxy list",
        "reload",
    ] {
        let (gone, out) = std::io::pipe().unwrap();
        drop(gone);
        let mut command = Command::new(BINARY);
        let done = command.arg("--config").arg(&file).args(verb.split(' ')).stdout(out).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        // The certificate of the tests ends soon.
        let code = if verb.starts_with("status") { 3 } else { 0 };
        assert_eq!((done.status.code(), &*said), (Some(code), ""), "{verb}");
    }
    // A full disk is one.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = Command::new(BINARY).arg("version").stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("standard output: No space left"));
}

/// Both sides are closed within a second: the client hears a goodbye, the backend sees the end.
#[test]
fn kick_by_each_key_with_500_on() {
    let backends = Protocol::ALL.map(|protocol| FakeBackend::start(Backend::of(protocol)));
    let users = each_at_its_own(&backends, ", destuser = \"box-%u\", user_alias = \"alias-%u\"");
    let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, trust: "networks = [\"127.0.0.1\"]", ..Default::default() });
    let by = |n: usize| match n % 10 {
        7 => Protocol::Submission,
        8 => Protocol::ManageSieve,
        9 => Protocol::Pop3,
        _ => Protocol::Imap,
    };
    let is_imap = |n: usize| by(n) == Protocol::Imap;
    let on = || backends.iter().map(FakeBackend::concurrent).sum::<usize>();
    // Client n is 198.51.x.y, its session id is s-n, its user u-n; a tenth comes by each of the others.
    let mut clients: Vec<Option<AnyClient>> = (0..500)
        .map(|n| {
            let mut client = gate.any_client(by(n));
            let ip = format!("198.51.{}.{}:{}", 100 + n / 250, n % 250 + 1, 1000 + n);
            client.introduce(ip.parse().unwrap(), &format!("s-{n}"), 5);
            let outcome = client.login(&format!("u-{n}"), "x");
            assert!(outcome.ok, "{n}: {}", outcome.text);
            Some(client)
        })
        .collect();
    assert_eq!(sessions(&gate, &["--state", "relayed"]).len(), 500);

    let at = backends[0].addr().to_string();
    for (words, who) in [
        (&["kick", "u-0"][..], vec![0]),
        (&["kick", "--user", "u-1?"], (10..20).collect::<Vec<usize>>()),
        (&["kick", "--destuser", "box-u-2"], vec![2]),
        (&["kick", "--client", "198.51.100.4"], vec![3]),
        (&["kick", "--client", "198.51.101.192/26", "--protocol", "imap"], (441..500).filter(|n| is_imap(*n)).collect()),
        (&["kick", "--session", "s-5"], vec![5]),
        (&["kick", "--user", "u-6", "--backend", &at], vec![6]),
        (&["doveadm", "kick", "u-7"], vec![7]),
        (&["doveadm", "proxy", "kick", "-f", "user_alias", "alias-u-8"], vec![8]),
        (&["kick", "--protocol", "pop3"], (0..500).filter(|n| n % 10 == 9 && *n != 19).collect()),
        (&["kick", "--protocol", "managesieve"], (0..500).filter(|n| n % 10 == 8 && ![8, 18].contains(n)).collect()),
        (&["kick", "--protocol", "submission"], (0..500).filter(|n| n % 10 == 7 && ![7, 17].contains(n)).collect()),
        (&["doveadm", "proxy", "kick", "-h", "127.0.0.1", "u-1", "u-4"], vec![1, 4]),
        (&["kick", "--backend", &at], (20..441).filter(|n| is_imap(*n)).collect()),
    ] {
        if words[0] == "kick" {
            let (code, out, err) = verb(&gate, &[words, &["--dry-run"]].concat());
            assert_eq!(code, Some(0), "{err}");
            assert_eq!(out, format!("{} connections would be kicked\n", who.len()), "{words:?}");
        }
        let open = on();
        let (code, out, err) = verb(&gate, words);
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
        let answered = Instant::now();
        for n in &who {
            let mut client = clients[*n].take().unwrap_or_else(|| panic!("{words:?}: {n} was kicked before"));
            let last = String::from_utf8(client.read_to_end()).unwrap();
            let goodbye = match by(*n) {
                Protocol::Imap => "* BYE ",
                Protocol::Pop3 => "",
                Protocol::ManageSieve => "BYE ",
                Protocol::Submission => "421 4.7.0 ",
            };
            assert!(last.starts_with(goodbye), "{words:?}: {n} heard {last:?}");
        }
        let gone = || (on() == open - who.len()).then_some(());
        assert!(poll(PATIENCE, gone).is_some(), "{words:?}: {} of {open}", on());
        // A second is what is promised. Nothing else would end these within it: the client's patience is longer, and so are all
        // terms of the relay; the rest is what this machine needs for 500.
        assert!(answered.elapsed() < Duration::from_secs(5), "{words:?}: {:?}", answered.elapsed());
        for client in clients.iter_mut().flatten().take(3) {
            assert!(client.noop().ok, "{words:?} took somebody else along");
        }
    }
    assert_eq!(clients.iter().flatten().count(), 0);
    gate.gatepost.log().wait_for_count("by=gatepost-kicked", 500);
    assert_eq!(verb(&gate, &["kick", "nobody"]).1, "0 connections kicked\n");
    assert_eq!(verb(&gate, &["kick"]).0, Some(2));
    let (code, out, _) = verb(&gate, &["doveadm", "kick", "nobody"]);
    assert_eq!((code, out.as_str()), (Some(68), "no users kicked\n"), "as Dovecot");
    assert_eq!(verb(&gate, &["doveadm", "proxy", "kick", "nobody"]), (Some(0), "0 connections kicked\n".into(), String::new()));
    assert_eq!(verb(&gate, &["doveadm", "kick"]).0, Some(64));
}

#[test]
fn logins_under_way_are_kicked_too_and_held_afterwards() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let log = gate.gatepost.log().from_here();
    let mut waits = gate.client();
    let (code, out, err) = verb(&gate, &["kick", "alice", "--hold", "60s"]);
    assert_eq!((code, out.as_str()), (Some(0), "0 connections kicked\n"), "{err}");
    waits.send_command("LOGIN alice x");
    log.wait_for_all(&["held", "user=alice", "kick --hold"]);
    let held = sessions(&gate, &["--state", "held"]);
    assert_eq!((held.len(), &held[0]["user"]), (1, &"alice".into()));
    let mut bob = gate.client();
    assert!(bob.login("bob", "x").is_ok(), "others are not held");
    // Kicked while it waits: it hears why it goes.
    assert_eq!(verb(&gate, &["kick", "alice"]).1, "1 connections kicked\n");
    assert!(String::from_utf8_lossy(&waits.read_to_end()).contains("* BYE "), "told");
    log.wait_for_all(&["disconnect", "reason=kicked", "alice"]);
    // The next one waits as well, until the hold is over by order.
    let mut again = gate.client();
    let tag = again.send_command("LOGIN alice x");
    poll(PATIENCE, || (sessions(&gate, &["--state", "held"]).len() == 1).then_some(())).expect("held again");
    assert_eq!(verb(&gate, &["kick", "alice", "--hold", "0s", "--state", "talking"]).0, Some(1), "a hold knows no state");
    assert_eq!(backend.connections(), 1);
    assert_eq!(verb(&gate, &["kick", "alice", "--hold", "0s"]).1, "0 connections kicked\n");
    assert!(again.reply(&tag).is_ok(), "the hold is over, and it was not kicked");
    for (words, problem) in [
        (&["kick", "alice", "--hold", "301s"][..], "at most 300 s"),
        (&["kick", "alice", "--hold", "soon"], "no length of time"),
        (&["kick", "--session", "x", "--hold", "1s"], "hold goes with"),
    ] {
        let (code, _, err) = verb(&gate, words);
        assert_eq!(code, Some(1));
        assert!(err.contains(problem), "{words:?}: {err}");
    }
}

#[test]
fn the_socket_is_for_its_group() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), "");
    let gate = Gate::start(&Want { users: &users, ..Default::default() });
    let mode = std::fs::metadata(gate.gatepost.dir().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let want = Want { users: &users, more: "[admin]\ngroup = \"no-such-group\"\n", ..Default::default() };
    let gate = Gate::start(&want);
    gate.gatepost.wait_for("admin.group no-such-group: there is no such name in /etc/group");
}

#[test]
fn over_tcp_only_with_the_token() {
    let backend = echo_backend();
    let dir = testkit::Dir::new();
    dir.write("token", "correct-horse-battery-staple\n");
    let users = everybody_at(backend.addr(), "");
    let more = "[admin]\naddress = [\"127.0.0.1:0\"]\ntoken_file = \"token\"\n";
    let gate = Gate::start_with(dir, &config(&Want { users: &users, more, ..Default::default() }));
    let line = gate.gatepost.wait_for("admin API on");
    let at = line.trim_end_matches('"').rsplit(' ').next().unwrap().to_owned();
    let ask = |request: &str| http(TcpStream::connect(&at).unwrap(), request);
    let with = |token: &str| format!("GET /v1/sessions HTTP/1.1\r\nAuthorization: {token}");
    assert_eq!(ask(&with("Bearer correct-horse-battery-staple")).0, 200);
    assert_eq!(ask(&with("bearer correct-horse-battery-staple")).0, 200);
    for token in ["Bearer correct-horse-battery-stapl", "Bearer ", "Basic correct-horse-battery-staple", "Bearer x y"] {
        let (status, body) = ask(&with(token));
        assert_eq!(status, 401, "{token}");
        assert!(!body.contains("correct-horse"), "{body}");
    }
    assert_eq!(ask("GET /v1/sessions HTTP/1.1").0, 401);
    assert_eq!(ask("POST /v1/kick?all=1 HTTP/1.1").0, 401);
    assert_eq!(ask("GET /v1/nothing HTTP/1.1").0, 401, "who has no token does not learn what there is");

    let token = gate.gatepost.dir().join("token");
    let mut command = Command::new(BINARY);
    command.args(["sessions", "--json", "--admin", &at, "--token-file"]).arg(&token);
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));

    std::fs::write(&token, "some-other-token-of-yesterday\n").unwrap();
    for words in [&["sessions"][..], &["status"], &["trace", "*"], &["explain", "login", "alice"], &["kick", "--all"]] {
        let out = Command::new(BINARY).args(words).args(["--admin", &at, "--token-file"]).arg(&token).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(69), "{words:?}: {err}");
        assert!(err.contains("the token of --token-file is not the one of its admin.token_file\n"), "{words:?}: {err}");
    }
}

#[test]
fn a_broken_request_costs_only_itself() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let mut client = gate.client();
    assert!(client.login("alice", "x").is_ok());
    for (request, status) in [
        ("GET /v1/nothing HTTP/1.1", 404),
        ("GET /v1/kick HTTP/1.1", 405),
        ("POST /v1/kick HTTP/1.1", 400),
        ("POST /v1/kick?user= HTTP/1.1", 400),
        ("POST /v1/kick?usr=alice HTTP/1.1", 400),
        ("GET /v1/sessions?state=on HTTP/1.1", 400),
        ("GET /v1/sessions?user=%00%ff%0a HTTP/1.1", 200),
        ("BREW /v1/sessions HTTP/1.1", 405),
        ("nonsense", 400),
    ] {
        assert_eq!(on_socket(&gate, request).0, status, "{request}");
    }
    let long = format!("GET /v1/sessions?user={} HTTP/1.1", "x".repeat(100_000));
    let (status, _) = on_socket(&gate, &long);
    assert!(matches!(status, 0 | 400 | 414 | 431), "{status}");
    // As many as like may connect and be silent; who comes later is served when they have gone.
    let silent: Vec<UnixStream> =
        (0..64).map(|_| UnixStream::connect(gate.gatepost.dir().join("control.sock")).unwrap()).collect();
    assert!(client.command("NOOP").untagged_text().contains("ECHO NOOP"), "sessions do not notice");
    drop(silent);
    assert_eq!(sessions(&gate, &[]).len(), 1);
}
