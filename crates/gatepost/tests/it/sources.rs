//! From which addresses Gatepost calls backends, and how many connections that allows.
//!
//! A connection is told from all others by four numbers: address and port of both ends. Towards one address and port of a
//! backend only our own end is free, so one source address has as many connections there as there are local ports: some
//! 28,000 as Linux comes, less than 64k whatever it is told. Two things lift that. Each further source multiplies it. And
//! the limit is one *per destination*: because the kernel chooses the port at connect, when it knows where to, the same port
//! of the same source serves every backend at once. So S sources with P ports reach S x P connections to each backend, and
//! S x P x B to B of them; no 64k stands in the way, only memory and descriptors.
//!
//! What holds for 28,000 ports holds for ten: the tests narrow the range, in a network of their own, where nobody else uses
//! it up and clients bring ports from outside it.

use crate::gate::{BINARY, Gate, Want, config, everybody_at};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::netns::{self, Alone};
use testkit::peer::{Backend, Client, FakeBackend, Reply};
use testkit::ports::Port;
use testkit::{Dir, free_port, wait};

/// The sources of the first `n` logins at this backend, in order.
fn sources(backend: &FakeBackend, n: usize) -> Vec<String> {
    let logins = backend.wait_for_logins(n);
    logins.iter().take(n).map(|login| login.from.expect("an address").ip().to_string()).collect()
}

/// Each in turn, whichever came first.
#[track_caller]
fn in_turn(seen: &[String], all: &[&str]) {
    let mut first: Vec<&str> = seen.iter().take(all.len()).map(String::as_str).collect();
    first.sort_unstable();
    assert_eq!(first, all);
    for (number, source) in seen.iter().enumerate() {
        assert_eq!(*source, seen[number % all.len()], "the {number}th of {seen:?}");
    }
}

fn gate(backend: &FakeBackend, fields: &str, words: &str) -> Gate {
    Gate::start(&Want { users: &everybody_at(backend.addr(), fields), backend: words, ..Want::default() })
}

#[test]
fn sources_are_taken_in_turn() {
    for words in [r#"source_ips = ["127.0.2.1", "127.0.2.2", "127.0.2.3"]"#, r#"source_ips = "127.0.2.1 127.0.2.2, 127.0.2.3""#] {
        let backend = FakeBackend::start(Backend::default());
        let gate = gate(&backend, "", words);
        for _ in 0..9 {
            assert!(gate.client().login("alice", "x").is_ok(), "{}", gate.gatepost.log().tail());
        }
        in_turn(&sources(&backend, 9), &["127.0.2.1", "127.0.2.2", "127.0.2.3"]);
    }
}

#[test]
fn a_source_that_is_not_here_is_passed_over_only_if_that_is_meant() {
    let backend = FakeBackend::start(Backend::default());
    let mut gate = gate(&backend, "", r#"source_ips = ["?192.0.2.77", "127.0.2.1", "?127.0.2.2"]"#);
    let remark = gate.gatepost.wait_for("192.0.2.77");
    assert!(remark.contains(" warning setup ") && remark.contains("left out"), "{remark}");
    for _ in 0..4 {
        assert!(gate.client().login("alice", "x").is_ok());
    }
    in_turn(&sources(&backend, 4), &["127.0.2.1", "127.0.2.2"]);

    let with = |words: &str| config(&Want { users: &everybody_at(backend.addr(), ""), backend: words, ..Want::default() });
    gate.gatepost.reload_with(&with(r#"source_ips = ["192.0.2.77", "127.0.2.3"]"#));
    let refused = gate.gatepost.wait_for("reload-refused");
    assert!(refused.contains("192.0.2.77") && refused.contains("?192.0.2.77"), "{refused}");
    assert!(gate.client().login("alice", "x").is_ok(), "the old ones stay");
    in_turn(&sources(&backend, 5), &["127.0.2.1", "127.0.2.2"]);

    gate.gatepost.reload_with(&with(r#"source_ips = "?192.0.2.77 192.0.2.78""#));
    gate.gatepost.wait_for("the kernel chooses instead");
    gate.gatepost.wait_for("the new configuration is in force");
    assert!(gate.client().login("alice", "x").is_ok());
    assert_eq!(sources(&backend, 6)[5], "127.0.0.1");
}

#[test]
fn the_source_of_a_row_wins() {
    let backend = FakeBackend::start(Backend::default());
    let words = r#"source_ips = ["127.0.2.1", "127.0.2.2"]"#;
    let first = gate(&backend, r#", source_ip = "127.0.2.9""#, words);
    for _ in 0..3 {
        assert!(first.client().login("alice", "x").is_ok());
    }
    in_turn(&sources(&backend, 3), &["127.0.2.9"]);
    // It is not replaced by one of the others where this host lacks it: the backend may know us by it.
    for source in ["192.0.2.77", "::1"] {
        let gate = gate(&backend, &format!(", source_ip = \"{source}\""), words);
        gate.client().no("LOGIN alice x", "[UNAVAILABLE]");
        let refused = gate.gatepost.wait_for("reason=row");
        assert!(refused.contains("field source_ip") && refused.contains(source), "{refused}");
    }
    assert_eq!(backend.logins().len(), 3);
}

#[test]
fn each_family_has_sources_of_its_own() {
    Alone::new("sources::alone_with_both_families").run();
}

#[test]
#[ignore = "run by each_family_has_sources_of_its_own, in a network of its own"]
fn alone_with_both_families() {
    if !netns::is_alone() {
        return;
    }
    for address in ["2001:db8::1/128", "2001:db8::2/128"] {
        let added = Command::new("ip").args(["address", "add", address, "dev", "lo", "nodad"]).status();
        assert!(added.is_ok_and(|status| status.success()), "{address}");
    }
    let words = r#"source_ips = ["2001:db8::1", "127.0.2.1", "2001:db8::2"]"#;
    for (ip, all) in [("::1", &["2001:db8::1", "2001:db8::2"][..]), ("127.0.0.1", &["127.0.2.1"])] {
        let backend = FakeBackend::start_on(ip.parse().unwrap(), Backend::default());
        let gate = gate(&backend, "", words);
        for _ in 0..4 {
            assert!(gate.client().login("alice", "x").is_ok(), "{}", gate.gatepost.log().tail());
        }
        in_turn(&sources(&backend, 4), all);
    }
}

#[test]
fn ten_ports_are_ten_connections_for_each_source_and_backend() {
    Alone::new("sources::alone_with_ten_ports").local_ports(LOW, LOW + 9).run();
}

/// The first of the ten.
const LOW: u16 = 40_000;

/// A Gatepost that uses none of the ten ports but to call backends; the user's domain is the backend's port.
struct Narrow {
    gatepost: Gatepost,
    at: SocketAddr,
    _ports: [Port; 2],
}

impl Narrow {
    fn start(words: &str) -> Narrow {
        let dir = Dir::new();
        Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
        let users = "[[users]]\nname = \"all\"\ndriver = \"static\"\n\
                     fields = { proxy = \"y\", nopassword = \"y\", host = \"127.0.0.1\", port = \"%d\" }\n";
        let backend = format!("proxy_timeout = \"1s\"\n{words}");
        let limits = "connections_before_login = 1000";
        let text = config(&Want { users, backend: &backend, limits, ..Want::default() });
        let ports = [free_port(), free_port()];
        let text = ports.iter().fold(text, |text, port| text.replacen("127.0.0.1:0", &format!("127.0.0.1:{}", port.number()), 1));
        let gatepost = Gatepost::start_in(dir, BINARY, &text, |_| {});
        Narrow { at: gatepost.addr("imap"), gatepost, _ports: ports }
    }

    /// A client that has asked for a login at this backend, and the answer.
    #[track_caller]
    fn login(&self, clients: &mut Clients, backend: &FakeBackend) -> (Client, Reply) {
        let (from, number) = clients.next();
        let mut client = Client::connect_from_port(from, self.at);
        client.greeting();
        let reply = client.login(&format!("u{number}@{}", backend.port()), "x");
        (client, reply)
    }

    /// So many sessions, all of which must be possible.
    #[track_caller]
    fn fill(&self, clients: &mut Clients, backend: &FakeBackend, n: usize) -> Vec<Client> {
        let mut on = Vec::new();
        for number in 0..n {
            let (client, reply) = self.login(clients, backend);
            assert!(reply.is_ok(), "the {number}th: {reply:?}; {}", self.gatepost.log().tail());
            on.push(client);
        }
        on
    }

    /// One more is not possible, and is told as what it is. Returns the journal's line.
    #[track_caller]
    fn is_full(&self, clients: &mut Clients, backend: &FakeBackend) -> String {
        let journal = self.gatepost.log().from_here();
        let (_, reply) = self.login(clients, backend);
        assert!(reply.status == "NO" && reply.text.starts_with("[UNAVAILABLE]"), "{reply:?}");
        let line = journal.wait_for(" refused ");
        assert!(line.contains("reason=connect side=us ") && line.contains("no free port"), "{line}");
        line
    }
}

/// Where clients call from: ports that the kernel does not give away, each once.
struct Clients(u16);

impl Clients {
    fn next(&mut self) -> (SocketAddr, u16) {
        self.0 += 1;
        (SocketAddr::new(IpAddr::from([127, 0, 3, 1]), 50_000 + self.0), self.0)
    }
}

#[test]
#[ignore = "run by ten_ports_are_ten_connections_for_each_source_and_backend, in a network of its own"]
fn alone_with_ten_ports() {
    if !netns::is_alone() {
        return;
    }
    // As Linux comes: on loopback a port of an ended connection is kept for a second, and not for sixty.
    std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "2").unwrap();
    let clients = &mut Clients(0);
    // Without sources the kernel's own choice has the same ten, and the journal names the way out.
    for (words, told) in [
        ("", "backend.source_ips can name more addresses"),
        (r#"source_ips = "127.0.2.1""#, "at any of backend.source_ips (127.0.2.1)"),
        (r#"source_ips = ["127.0.2.1", "127.0.2.2", "127.0.2.3"]"#, "at any of backend.source_ips (127.0.2."),
    ] {
        // New ones each time, to which no port of an ended connection is still being kept.
        let backends = [(); 2].map(|()| FakeBackend::start(Backend::default()));
        let [first, second] = &backends;
        let narrow = Narrow::start(words);
        let most = if words.contains('[') { 30 } else { 10 };
        let mut on = narrow.fill(clients, first, most);
        first.wait_for_concurrent(most);
        let line = narrow.is_full(clients, first);
        assert!(line.contains(told), "{line}");
        assert!(!told.contains("any of") || words.contains('[') == line.contains("127.0.2.3"), "all that were tried: {line}");

        // The same ports once more, to another backend.
        let elsewhere = narrow.fill(clients, second, most);
        second.wait_for_concurrent(most);
        let line = narrow.is_full(clients, second);
        assert!(line.contains(&second.addr().to_string()), "{line}");
        for client in &mut on {
            assert!(client.command("NOOP").is_ok(), "nothing happens to those that are in");
        }

        // One that ends makes room for one.
        on.remove(0).logout();
        first.wait_for_concurrent(most - 1);
        on.extend(narrow.fill(clients, first, 1));
        narrow.is_full(clients, first);
        // Where a client just leaves it is we who end the connection to the backend, and the kernel keeps its port for a while.
        drop(on.remove(0));
        first.wait_for_concurrent(most - 1);
        wait::until("the port can be used again", || {
            let (client, reply) = narrow.login(clients, first);
            on.push(client);
            reply.is_ok()
        });
        drop((on, elsewhere));
        backends.iter().for_each(|backend| backend.wait_for_concurrent(0));
        let said = narrow.gatepost.stop();
        assert!(!said.iter().any(|line| line.contains("backend-failing")), "a want of ports is not the backend's: {said:#?}");
    }
}
