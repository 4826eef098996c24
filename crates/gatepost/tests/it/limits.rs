//! Limits on how many there may be at one time: whom they stop, what that one hears, and what the operator hears before.

use crate::gate::{Gate, OTHERS_TOO, Want, config, echo_backend, everybody_at};
use crate::metrics::Scrape;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use testkit::peer::{AnyClient, Backend, Client, FakeBackend};
use testkit::{Dir, Protocol};

const WEBMAIL: IpAddr = ip(40);

const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, last))
}

fn greeted_from(source: IpAddr, addr: SocketAddr) -> Client {
    let mut client = Client::connect_from(source, addr);
    client.greeting();
    client
}

/// A configuration with a limit at the IMAP listener.
fn with_listener(want: &Want<'_>, connections: &str) -> String {
    config(want).replacen("address = [\"127.0.0.1:0\"]\n", &format!("address = [\"127.0.0.1:0\"]\n{connections}"), 1)
}

#[test]
fn a_full_listener_leaves_room_at_the_others() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), "");
    let want = Want { users: &users, more: OTHERS_TOO, ..Want::default() };
    let mut gate = Gate::start_with(Dir::new(), &with_listener(&want, "connections = 3\n"));
    let mut on: Vec<Client> = (0..3).map(|_| gate.client()).collect();
    assert!(on[0].login("alice", "x").is_ok());
    let start = gate.gatepost.descriptors();
    for _ in 0..20 {
        let mut refused = Client::connect_from(ip(9), gate.imap());
        refused.expect_line("* BYE Too many connections to this port, please try again later.");
        refused.expect_end();
    }
    gate.gatepost.wait_for_descriptors(start);
    gate.gatepost.wait_for("their listener has all that it may have (listen.connections)");
    gate.gatepost.log().wait_for_all(&[" limit-near ", "imap on 127.0.0.1:", " has 3 of 3 connections (listen.connections)"]);
    drop((gate.tls_client(), gate.any_client(Protocol::Pop3)));

    // The count survives a reload, and the new limit holds for it.
    gate.gatepost.reload_with(&with_listener(&want, "connections = 4\n"));
    gate.gatepost.wait_for(" reloaded ");
    on.push(gate.client());
    Client::connect(gate.imap()).expect_line("* BYE Too many connections to this port");
    on.truncate(1);
    // Their places are free again as soon as Gatepost has seen them go.
    let again = testkit::wait::poll(testkit::wait::PATIENCE, || {
        let mut client = Client::connect(gate.imap());
        client.read_line().is_some_and(|line| line.starts_with("* OK")).then_some(client)
    });
    assert!(again.is_some() && on[0].command("NOOP").is_ok(), "{}", gate.gatepost.log().tail());
}

#[test]
fn what_is_nearly_reached_is_told_once() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), "");
    let limits = "connections = 40\nconnections_before_login = 10\nuser_connections = 5";
    let want = Want { users: &users, limits, ..Want::default() };
    let gate = Gate::start_with(Dir::new(), &with_listener(&want, "connections = 30\n"));
    let log = gate.gatepost.log();
    let near = |key: &str| log.lines().iter().filter(|line| line.contains(" limit-near ") && line.contains(key)).count();

    let mut strangers: Vec<Client> = (0..7).map(|_| greeted_from(ip(2), gate.imap())).collect();
    assert_eq!(near("connections_before_login"), 0);
    strangers.extend((0..3).map(|_| greeted_from(ip(2), gate.imap())));
    log.wait_for_all(&["127.0.0.2 has 8 of 10 connections that have not signed in (limits.connections_before_login)"]);
    let mut refused = Client::connect_from(ip(2), gate.imap());
    refused.expect_line("* BYE Too many connections without a login from your address.");

    let mut sessions: Vec<Client> = Vec::new();
    for n in 0..5 {
        let mut client = greeted_from(ip(3), gate.imap());
        assert!(client.login("alice", "x").is_ok(), "{n}");
        sessions.push(client);
    }
    log.wait_for_all(&["user alice has 4 of 5 sessions from 127.0.0.3 (limits.user_connections)"]);
    let reply = greeted_from(ip(3), gate.imap()).no("LOGIN alice x", "[LIMIT]");
    assert!(reply.text.contains("Too many sessions of this user from your address (limit 5)"), "{reply:?}");
    log.wait_for_all(&[" refused ", "reason=limit", "the limit (limits.user_connections) is 5"]);

    // 15 are on; the 24th of the listener and the 32nd of all are 80 %. What is told may be one more: shards accept side by side.
    let more = |n: u8, at: SocketAddr| -> Vec<Client> { (0..n).map(|n| Client::connect_from(ip(100 + n), at)).collect() };
    let imap = more(10, gate.imap());
    log.wait_for_all(&["imap on 127.0.0.1:", " of 30 connections (listen.connections)"]);
    let imaps = more(9, gate.imaps());
    log.wait_for_all(&["all listeners together have ", " of 40 connections (limits.connections)"]);
    for key in ["limits.connections)", "listen.connections)", "limits.connections_before_login)", "limits.user_connections)"] {
        assert_eq!(near(key), 1, "{key}: {}", log.tail());
    }
    drop((strangers, imap, imaps, sessions));
}

#[test]
fn webmail_shares_one_address_and_is_not_limited_by_it() {
    let backend = echo_backend();
    let (at, to) = (backend.addr().ip(), backend.addr().port());
    let users = format!(
        "[[users]]\ndriver = \"passwd-file\"\npath = \"users\"\n\
         override_fields = {{ proxy = \"y\", host = \"{at}\", port = \"{to}\" }}\n"
    );
    let limits = "user_connections = 1\nconnections_before_login = 2\nguesses = 1\nfailed_logins = 50\nexempt = [\"127.0.0.40\"]";
    let dir = Dir::new();
    dir.write("users", "alice:{PLAIN}right\n");
    let gate = Gate::start_in(dir, &Want { users: &users, limits, ..Want::default() });
    let mut webmail: Vec<Client> = (0..6).map(|_| greeted_from(WEBMAIL, gate.imap())).collect();
    // No right to speak for anybody, and no delay after failed logins.
    assert!(webmail[0].command(r#"ID ("x-originating-ip" "192.0.2.7")"#).is_ok());
    let began = Instant::now();
    for _ in 0..8 {
        webmail[1].no("LOGIN alice wrong", "AUTHENTICATIONFAILED");
    }
    for client in &mut webmail {
        assert!(client.login("alice", "right").is_ok(), "{}", gate.gatepost.log().tail());
    }
    // The first delayed login would wait for 2 s, the second for 4 s.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    let logins = gate.gatepost.log().wait_for_count(" info login ", 6);
    assert!(logins.iter().all(|line| line.contains("client=127.0.0.40:")), "{logins:#?}");

    let mut other: Vec<Client> = (0..2).map(|_| greeted_from(ip(41), gate.imap())).collect();
    Client::connect_from(ip(41), gate.imap()).expect_line("* BYE Too many connections without a login");
    assert!(other[0].login("alice", "right").is_ok());
    other[1].no("LOGIN alice right", "[LIMIT]");
}

/// How a client is named: whence, at which listener, in which words; and what is heard if it is welcome.
struct Way {
    protocol: Protocol,
    peer: IpAddr,
    door: IpAddr,
    greeted: bool,
    words: fn(&str) -> String,
    welcome: &'static str,
}

const WAYS: [Way; 5] = [
    Way {
        protocol: Protocol::Imap,
        peer: ip(7),
        door: ip(1),
        greeted: true,
        words: |client| format!("i ID (\"x-originating-ip\" \"{client}\" \"x-originating-port\" \"7777\")\r\n"),
        welcome: "i OK",
    },
    Way {
        protocol: Protocol::Pop3,
        peer: ip(7),
        door: ip(1),
        greeted: true,
        words: |client| format!("XCLIENT ADDR={client} PORT=7777\r\n"),
        welcome: "+OK",
    },
    Way {
        protocol: Protocol::ManageSieve,
        peer: ip(7),
        door: ip(1),
        greeted: true,
        words: |client| format!("XCLIENT ADDR={client} PORT=7777\r\n"),
        welcome: "OK",
    },
    Way {
        protocol: Protocol::Submission,
        peer: ip(7),
        door: ip(1),
        greeted: true,
        words: |client| format!("XCLIENT ADDR={client} PORT=7777\r\n"),
        welcome: "220",
    },
    Way {
        protocol: Protocol::Imap,
        peer: ip(6),
        door: ip(8),
        greeted: false,
        words: |client| format!("PROXY TCP4 {client} 127.0.0.8 7777 143\r\n"),
        welcome: "* OK",
    },
];

impl Way {
    /// A connection of this client, as it is named; `heard` is what it hears then.
    fn named(&self, gate: &Gate, client: &str, heard: &str) -> AnyClient {
        let at = gate.gatepost.addrs(self.protocol.name()).into_iter().find(|at| at.ip() == self.door).unwrap();
        let mut conn = AnyClient::connect_from(self.protocol, self.peer, at);
        if self.greeted {
            conn.greeting();
        }
        conn.send((self.words)(client));
        conn.expect_until(heard);
        if heard == self.welcome {
            // Who is named is answered first and counted then, before its next command.
            conn.noop();
        }
        conn
    }
}

#[test]
fn whoever_is_named_is_counted_however_it_was_named() {
    for way in WAYS {
        let backend = FakeBackend::start(Backend::of(way.protocol));
        let more = format!(
            "{OTHERS_TOO}[[listen]]\nprotocol = \"imap\"\naddress = \"127.0.0.8:0\"\nproxy_protocol = \"required\"\ncleartext_auth = \"always\"\n"
        );
        let gate = Gate::start(&Want {
            users: &everybody_at(backend.addr(), ""),
            trust: "networks = [\"127.0.0.7\"]\nproxy_protocol = [\"127.0.0.6\"]",
            limits: "user_connections = 2\nconnections_before_login = 3\nexempt = [\"192.0.2.40\"]",
            more: &more,
            ..Want::default()
        });
        let mut on: Vec<AnyClient> = Vec::new();
        let mut login = |client: &str| {
            let mut conn = way.named(&gate, client, way.welcome);
            let outcome = conn.login("alice", "x");
            on.push(conn);
            outcome
        };
        for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.40", "192.0.2.40", "192.0.2.40"] {
            assert!(login(client).ok, "{client}: {}", gate.gatepost.log().tail());
        }
        let third = login("192.0.2.1");
        assert!(!third.ok && third.text.contains("(limit 2)"), "{third:?}");
        // Its connection still counts as not signed in, but by Submission, where it ends with that answer: two or three more, and
        // the next is one too many. The sessions have heard that they are in a moment before they count as that.
        let left = if way.protocol == Protocol::Submission { 0 } else { 1 };
        Scrape::until(&gate, "gatepost_connections_before_login", f64::from(left));
        let mut strangers: Vec<AnyClient> = (left..3).map(|_| way.named(&gate, "192.0.2.1", way.welcome)).collect();
        let one_too_many = way.named(&gate, "192.0.2.1", "Too many connections without a login from your address.");
        // Named anew, a connection gives its old place up first.
        if way.greeted {
            strangers[0].send((way.words)("192.0.2.1"));
            strangers[0].expect_until(way.welcome);
            strangers[0].noop();
        }
        let others: Vec<AnyClient> = (0..4).map(|_| way.named(&gate, "192.0.2.40", way.welcome)).collect();
        let elsewhere = way.named(&gate, "192.0.2.3", way.welcome);
        drop((strangers, one_too_many, others, elsewhere));
    }
}
