//! Who follows dialogues sees everything of them but their secrets, and disturbs nobody.

// What is cut here is ASCII.
#![allow(clippy::string_slice)]

mod secrets;

use crate::admin::verb;
use crate::gate::{BINARY, Gate, OTHERS_TOO, Want, echo_backend, everybody_at};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use testkit::dovecot::Options;
use testkit::peer::{Backend, Client, FakeBackend};
use testkit::process::Process;
use testkit::wait::{PATIENCE, poll};
use testkit::{Dir, Protocol, real};

/// `gatepost trace` at work.
pub struct Tracer {
    process: Process,
    json: bool,
    _dir: Dir,
}

impl Tracer {
    /// Follows, and is at it when this returns.
    #[track_caller]
    pub fn start(gate: &Gate, words: &[&str]) -> Tracer {
        let dir = Dir::new();
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(gate.gatepost.dir().join("gatepost.toml")).arg("trace").args(words);
        let process = Process::start(command, dir.join("trace"));
        let json = words.contains(&"--json");
        let tracer = Tracer { process, json, _dir: dir };
        tracer.process.output().wait_for(if json { "\"event\":\"trace\"" } else { "following" });
        tracer
    }

    fn wait_for(&self, pieces: &[&str]) -> String {
        self.process.output().wait_for_all(pieces)
    }

    fn text(&self) -> String {
        self.process.output().lines().join("\n")
    }

    fn events(&self) -> Vec<Value> {
        assert!(self.json);
        self.process.output().lines().iter().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Waits until so many dialogues have ended.
    #[track_caller]
    fn ends(&self, number: usize) {
        self.process.output().wait_for_count(if self.json { "\"event\":\"end\"" } else { "  end " }, number);
    }

    /// Lines of one leg and direction, such as `C>`.
    fn lines(&self, mark: &str) -> Vec<String> {
        let (from, to) = match mark {
            "C>" => ("client", "gatepost"),
            "C<" => ("gatepost", "client"),
            "B>" => ("gatepost", "backend"),
            _ => ("backend", "gatepost"),
        };
        let is = |event: &&Value| event["from"] == from && event["to"] == to;
        self.events().iter().filter(is).map(|event| event["text"].as_str().unwrap().to_owned()).collect()
    }

    fn steps(&self) -> Vec<String> {
        self.events().iter().filter_map(|event| event["step"].as_str().map(str::to_owned)).collect()
    }
}

/// A password with everything in it that has a spelling of its own.
const SECRET: &str = "tr0ub4dor&\"x\\3-zebra";

/// No form of a secret stands there: plain, quoted, escaped, in JSON, in base64 at any offset, or in halves.
#[track_caller]
fn no_secret(text: &str, secret: &str) {
    let lower = text.to_lowercase();
    let mut forms = vec![secret.to_owned(), secret.replace('\\', "\\\\").replace('"', "\\\""), format!("{secret:?}")];
    for form in forms.clone() {
        forms.push(serde_json::to_string(&form).unwrap());
    }
    for before in ["", "x", "xy", "\0alice\0", "alice\0alice\0", "\0alice@example.com\0"] {
        let encoded = STANDARD.encode(format!("{before}{secret}"));
        forms.push(encoded.trim_end_matches('=').to_owned());
        let middle = encoded.len() / 2;
        forms.push(encoded[middle - 4..middle + 4].to_owned());
    }
    let half = secret.len() / 2;
    forms.extend([secret[..half].to_owned(), secret[half..].to_owned(), secret[half - 4..half + 4].to_owned()]);
    for form in forms {
        let form = form.trim_matches('"').to_lowercase();
        assert!(!lower.contains(&form), "{form:?} is in:\n{text}");
    }
}

#[test]
fn both_legs_and_every_decision_are_told_and_no_secret() {
    for protocol in Protocol::ALL {
        let backend = FakeBackend::start(Backend::of(protocol));
        let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Default::default() });
        let tracer = Tracer::start(&gate, &["alice*", "--json"]);
        let mut client = gate.any_client(protocol);
        client.starttls(&gate.tls, "localhost");
        assert!(client.login("alice@example.com", SECRET).ok);
        assert!(client.noop().ok);
        client.logout();
        tracer.ends(1);
        let events = tracer.events();
        assert_eq!((&events[0]["event"], &events[1]["event"]), (&"trace".into(), &"begin".into()));
        // From the greeting on, though the user was only known later.
        let (greeting, login, mask) = match protocol {
            Protocol::Imap => ("* OK [CAPABILITY", "LOGIN \"alice@example.com\" ***", "L LOGIN \"alice@example.com\" ***"),
            Protocol::Pop3 => ("+OK", "PASS ***", "PASS ***"),
            Protocol::ManageSieve => ("\"IMPLEMENTATION\"", "AUTHENTICATE PLAIN ***", "AUTHENTICATE PLAIN ***"),
            Protocol::Submission => ("220", "AUTH PLAIN ***", "AUTH PLAIN ***"),
        };
        assert!(tracer.lines("C<")[0].starts_with(greeting), "{:?}", tracer.lines("C<"));
        assert!(tracer.lines("C>").iter().any(|line| line.ends_with(login)), "{:?}", tracer.lines("C>"));
        assert!(tracer.lines("B>").iter().any(|line| line == mask), "{:?}", tracer.lines("B>"));
        assert!(tracer.lines("B<").iter().any(|line| line.contains("Logged in")), "{:?}", tracer.lines("B<"));
        assert!(tracer.lines("C<").last().unwrap().contains("Logged in"), "{:?}", tracer.lines("C<"));
        let steps = tracer.steps();
        for step in
            ["trust", "client-tls", "database", "row", "answer", "route", "addresses", "try", "connected", "identity", "login"]
        {
            assert!(steps.iter().any(|have| have == step), "no {step} in {steps:?}");
        }
        let states: Vec<_> = events.iter().filter_map(|event| event["state"].as_str()).collect();
        assert_eq!((states.first(), states.last()), (Some(&"signing-in"), Some(&"relayed")));
        let end = events.last().unwrap();
        assert_eq!((&end["event"], &end["relayed"]), (&"end".into(), &true.into()));
        assert!(end["text"].as_str().unwrap().contains("relayed from here on"));
        // What came behind the login is not there.
        assert!(!tracer.text().contains("NOOP") && !tracer.text().contains("LOGOUT") && !tracer.text().contains("QUIT"));
        assert!(events.windows(2).all(|two| two[0]["at"].as_f64().unwrap_or(0.0) <= two[1]["at"].as_f64().unwrap_or(0.0)));
        no_secret(&tracer.text(), SECRET);
    }
}

#[test]
fn each_tracer_sees_its_own_and_nobody_else() {
    let backend = echo_backend();
    let gate = Gate::start(&Want {
        users: &everybody_at(backend.addr(), ""),
        trust: "networks = [\"127.0.0.1\"]",
        more: OTHERS_TOO,
        ..Default::default()
    });
    let alice = Tracer::start(&gate, &["alice", "--json"]);
    let both = Tracer::start(&gate, &["alice", "b?b", "--json"]);
    let net = Tracer::start(&gate, &["--client", "192.0.2.0/24", "--session", "sess9", "--json"]);
    let other = Tracer::start(&gate, &["--listener", &gate.imaps().port().to_string(), "--backend", "192.0.2.1", "--json"]);
    for user in ["alice", "bob", "carol"] {
        let mut client = gate.client();
        if user == "carol" {
            client.command("ID (\"x-originating-ip\" \"192.0.2.9\" \"x-originating-port\" \"999\" \"x-session-id\" \"sess9\")");
        }
        assert!(client.login(user, "x").is_ok());
    }
    alice.ends(1);
    both.ends(2);
    net.ends(1);
    // A tracer that begins later has seen nothing of them.
    let late = Tracer::start(&gate, &["*", "--json"]);
    let mut dave = gate.client();
    assert!(dave.login("dave", "x").is_ok());
    late.ends(1);
    assert!(!alice.text().contains("bob") && !alice.text().contains("carol") && !alice.text().contains("dave"));
    assert!(both.text().contains("bob") && !both.text().contains("carol"));
    assert!(net.text().contains("carol") && net.text().contains("192.0.2.9") && !net.text().contains("bob"));
    assert!(late.text().contains("dave") && !late.text().contains("carol"));
    assert_eq!(other.events().len(), 1, "{}", other.text());
    let numbers = |tracer: &Tracer| {
        let mut numbers: Vec<_> = tracer.events().iter().filter_map(|event| event["number"].as_u64()).collect();
        numbers.dedup();
        numbers.len()
    };
    assert_eq!((numbers(&alice), numbers(&late)), (1, 1));
}

/// A client that connected before the trace began, and one that never gets as far as a login.
#[test]
fn dialogues_under_way_and_those_that_fail_early_are_told() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), more: "", ..Default::default() });
    let mut early = gate.client();
    let tracer = Tracer::start(&gate, &["--client", "127.0.0.0/8", "--json"]);
    assert!(early.login("alice", "x").is_ok());
    tracer.wait_for(&["\"under_way\":true"]);
    tracer.ends(1);
    assert!(tracer.lines("C>").iter().any(|line| line.ends_with("LOGIN \"alice\" ***")), "{}", tracer.text());
    // No TLS on the port where it is expected.
    let mut plain = Client::connect(gate.imaps());
    plain.send_line("a1 LOGIN alice hunter2hunter2");
    plain.read_to_end();
    tracer.ends(2);
    let text = tracer.text();
    assert!(text.contains("\"step\":\"disconnect\"") && text.contains("\"reason\":\"tls\""), "{text}");
    no_secret(&text, "hunter2hunter2");
}

/// A password in clear is refused unseen; whose it was is known by its command.
#[test]
fn a_login_refused_in_clear_is_told_by_its_name() {
    let backend = echo_backend();
    let config = crate::gate::config(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Default::default() })
        .replace("[[listen]]\n", "[[listen]]\ncleartext_auth = \"never\"\n");
    let gate = Gate::start_with(Dir::new(), &config);
    // By the others nothing but SASL says a name, and that is not looked at.
    for protocol in Protocol::MAILBOX {
        let tracer = Tracer::start(&gate, &["alice", "--json"]);
        let mut client = gate.any_client(protocol);
        assert!(!client.login("alice", SECRET).ok);
        drop(client);
        tracer.ends(1);
        assert!(tracer.text().contains("privacy-required"), "{}", tracer.text());
        no_secret(&tracer.text(), SECRET);
    }
}

#[test]
fn a_real_backend_is_followed_by_all_protocols() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = testkit::dovecot::Backend::start(Options { trusted: "127.0.0.1".into(), ..Default::default() });
    for protocol in Protocol::ALL {
        let users = everybody_at(dovecot.addresses().of(protocol), ", starttls = \"any-cert\"");
        let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Default::default() });
        let tracer = Tracer::start(&gate, &["alice", "--count", "2"]);
        let mut client = gate.any_client(protocol);
        assert!(!client.login("alice", "alice-wrong-one").ok);
        assert!(client.login("alice", "alice-secret").ok);
        let mut second = gate.any_tls_client(protocol);
        assert!(second.authenticate_plain("", "alice", "alice-secret").ok);
        let Tracer { mut process, .. } = tracer;
        assert!(process.wait_exit().success(), "--count ends it");
        let text = process.output().lines().join("\n");
        for piece in [
            "backend-tls: TLSv1.",
            "identity: told in the dialogue",
            "refused: ",
            "relayed from here on",
            "B> ",
            "B< ",
            "C> ",
            "C< ",
        ] {
            assert!(text.contains(piece), "no {piece:?} in:\n{text}");
        }
        let told = match protocol {
            Protocol::Imap => "x-originating-ip",
            Protocol::Submission => " ADDR=127.0.0.1 PORT=",
            Protocol::Pop3 | Protocol::ManageSieve => "XCLIENT ADDR=127.0.0.1",
        };
        assert!(text.contains(told), "{text}");
        no_secret(&text, "alice-secret");
        no_secret(&text, "alice-wrong-one");
    }
}

/// A tracer that never reads: sessions are served as ever, and what it missed is counted.
#[test]
fn a_tracer_that_does_not_read_costs_only_itself() {
    let backend = FakeBackend::start(Backend::default());
    let gate = Gate::start(&Want {
        users: &everybody_at(backend.addr(), ""),
        limits: "user_connections = 100000",
        ..Default::default()
    });
    let mut deaf = UnixStream::connect(gate.gatepost.dir().join("control.sock")).unwrap();
    deaf.write_all(b"GET /v1/trace?user=* HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    gate.gatepost.log().wait_for_all(&[" trace ", "state=begin"]);
    // Each dialogue is some kilobytes of events; the sockets hold a few hundred, the queue a megabyte.
    for number in 0..700 {
        let mut client = gate.client();
        assert!(client.login(&format!("user{number}"), "x").is_ok(), "{number}");
    }
    assert_eq!(backend.wait_for_logins(700).len(), 700);
    let mut text = Vec::new();
    let mut chunk = [0; 65536];
    let lost = poll(PATIENCE, || {
        let n = deaf.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&text);
        let at = text.find("{\"event\":\"lost\",\"events\":")?;
        text[at + 25..].split('}').next().and_then(|number| number.parse::<u64>().ok())
    });
    assert!(lost.expect("it is told of its loss") > 100);
    // Behind the gap it goes on.
    let mut client = gate.client();
    assert!(client.login("after-the-gap", "x").is_ok());
    let found = poll(PATIENCE, || {
        let n = deaf.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..n]);
        String::from_utf8_lossy(&text).contains("after-the-gap").then_some(())
    });
    assert!(found.is_some());
    // It is gone without a word: that is noticed, and the trace ends.
    drop(deaf);
    let end = gate.gatepost.log().wait_for_all(&[" trace ", "state=end"]);
    assert!(end.contains("lost=") && !end.contains("lost=0"), "{end}");
}

#[test]
fn there_are_so_many_traces_and_each_is_in_the_journal() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let mut tracers: Vec<Tracer> = (0..16).map(|_| Tracer::start(&gate, &["alice"])).collect();
    gate.gatepost.log().wait_for_count("state=begin", 16);
    let (code, _, err) = verb(&gate, &["trace", "alice"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("16 traces are on already"), "{err}");
    let mut client = gate.client();
    assert!(client.login("alice", "x").is_ok());
    for tracer in &tracers {
        tracer.ends(1);
    }
    // One leaves, and the next may come.
    tracers.pop();
    let line = gate.gatepost.log().wait_for_all(&[" trace ", "state=end"]);
    assert!(line.contains("text=\"user=alice\"") && line.contains("lost=0"), "{line}");
    let (code, out, _) = verb(&gate, &["trace", "alice", "--for", "10ms"]);
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{out}");

    for (words, code, why) in [
        (&["trace"][..], Some(2), "say whom to follow"),
        (&["trace", "--client", "mail"], Some(1), "neither an address nor a network"),
        (&["trace", "--listener", "mail"], Some(1), "is no address, port, address:port or unix:/path"),
        (&["trace", "a", "--for", "soon"], Some(2), "is no length of time"),
        (&["trace", "a", "--count", "0"], Some(2), "--count"),
        (&["trace", "a", "--socket", "/nonexistent"], Some(69), "is Gatepost running"),
    ] {
        let (got, _, err) = verb(&gate, words);
        assert_eq!(got, code, "{words:?}: {err}");
        assert!(err.contains(why), "{words:?}: {err}");
    }
}
