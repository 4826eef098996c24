//! Clients that do not behave, and the limits that meet them.

use crate::gate::{Gate, Want, echo_backend, everybody_at};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use testkit::peer::Client;
use testkit::wait::PATIENCE;

fn gate_with(limits: &str) -> (Gate, testkit::peer::FakeServer) {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), limits, ..Default::default() });
    (gate, backend)
}

fn from(n: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, n))
}

#[test]
fn what_is_sent_behind_the_login_arrives_once_and_in_order() {
    let (gate, backend) = gate_with("");
    for tls in [false, true] {
        let mut client = if tls { gate.tls_client() } else { gate.client() };
        client.send("a LOGIN alice x\r\nb NOOP 1\r\nc NOOP 2\r\nd LOGOUT\r\n");
        let all = String::from_utf8(client.read_to_end()).unwrap();
        let expected = ["a OK", "* ECHO NOOP 1", "b OK", "* ECHO NOOP 2", "c OK", "* BYE", "d OK"];
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{all}");
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(start), "{all}");
        }
    }
    drop(backend);
}

#[test]
fn one_byte_at_a_time() {
    let (gate, _backend) = gate_with("");
    let mut client = gate.client();
    client.trickle("a AUTHENTICATE PLAIN AGFsaWNlAHg=\r\nb NOOP\r\n", Duration::from_millis(1));
    client.expect_line("a OK");
    client.expect_line("* ECHO NOOP");
}

#[test]
fn bytes_behind_starttls_end_it() {
    let (gate, backend) = gate_with("");
    let mut client = gate.client();
    client.send("a STARTTLS\r\nb LOGIN alice x\r\n");
    client.expect_line("a OK");
    client.expect_end();
    gate.gatepost.wait_for("reason=starttls-injection");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn the_time_for_signing_in_is_bounded() {
    let (gate, _backend) = gate_with("login_timeout = \"1s\"\ncommands = 100000");
    let (mut silent, mut busy) = (gate.client(), gate.client());
    // Bytes do not buy time: if they did, this would go on until the guard ends it.
    let guard = Instant::now() + PATIENCE;
    while busy.try_send("a NOOP\r\n").is_ok() && busy.read_line().is_some_and(|line| line.starts_with("a OK")) {
        assert!(Instant::now() < guard, "still served; {}", gate.gatepost.log().tail());
        // So that the limit of commands is out of reach in the time there is.
        std::thread::sleep(Duration::from_millis(1));
    }
    silent.expect_line("* BYE");
    silent.expect_end();
    gate.gatepost.log().wait_for_count("reason=login-timeout", 2);
}

#[test]
fn wrong_passwords_close_the_connection_and_slow_the_network() {
    let dir = testkit::Dir::new();
    dir.write("users", "alice:{PLAIN}right:::::proxy=y host=127.0.0.1\n");
    let users = "[[users]]\ndriver = \"passwd-file\"\npath = \"users\"\n";
    let gate = Gate::start_in(dir, &Want { users, limits: "guesses = 3", ..Default::default() });
    let mut client = gate.client();
    client.no("LOGIN alice wrong", "[AUTHENTICATIONFAILED]");
    client.no("LOGIN nobody wrong", "[AUTHENTICATIONFAILED]");
    client.no("LOGIN alice \"\"", "[AUTHENTICATIONFAILED]");
    client.expect_line("* BYE");
    client.expect_end();
    gate.gatepost.wait_for("reason=too-many-failures");
    // Three guesses are free and the fourth is the first too many; the fifth is looked at only after two seconds.
    // Meanwhile another network is served: it guesses twice before the first network has its answer.
    let mut guesser = gate.client();
    guesser.no("LOGIN alice wrong", "[AUTHENTICATIONFAILED]");
    let mut other = Client::connect_from(from(9), gate.imap());
    other.greeting();
    let asked = Instant::now();
    let tag = guesser.send_command("LOGIN slowed wrong");
    other.no("LOGIN first wrong", "[AUTHENTICATIONFAILED]");
    other.no("LOGIN second wrong", "[AUTHENTICATIONFAILED]");
    assert_eq!(guesser.reply(&tag).status, "NO");
    assert!(asked.elapsed() >= Duration::from_secs(2), "the delay is never shorter: {:?}", asked.elapsed());
    gate.gatepost.wait_for("user=slowed");
    let lines = gate.gatepost.log().lines();
    let order = ["user=first", "user=second", "user=slowed"].map(|user| lines.iter().position(|line| line.contains(user)));
    assert!(order.is_sorted() && order[0].is_some(), "{order:?}: {lines:#?}");
}

#[test]
fn sessions_of_a_user_and_strangers_of_a_network_are_limited() {
    let (gate, _backend) = gate_with("user_connections = 2\nconnections_before_login = 3");
    let mut on: Vec<Client> = (0..2).map(|_| gate.client()).collect();
    for client in &mut on {
        assert!(client.login("alice", "x").is_ok());
    }
    let mut third = gate.client();
    third.no("LOGIN alice x", "[LIMIT]");
    gate.gatepost.wait_for("reason=limit");
    gate.gatepost.wait_for("limit-near");
    let mut elsewhere = Client::connect_from(from(9), gate.imap());
    elsewhere.greeting();
    assert!(elsewhere.login("alice", "x").is_ok(), "another address has its own");
    on.pop().unwrap().logout();
    gate.gatepost.wait_for(" info end ");
    assert!(third.login("alice", "x").is_ok(), "a place is free again");

    let strangers: Vec<Client> = (0..3).map(|_| gate.client()).collect();
    let mut refused = Client::connect(gate.imap());
    refused.expect_line("* BYE");
    refused.expect_end();
    drop(strangers);
}

#[test]
fn a_network_over_its_limit_holds_nothing() {
    let (gate, _backend) = gate_with("connections_before_login = 3");
    let strangers: Vec<Client> = (0..3).map(|_| gate.client()).collect();
    let start = gate.gatepost.descriptors();
    // They neither read on nor close: whoever keeps them waiting would soon have no descriptors left.
    let refused: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::connect(gate.imap());
            client.expect_line("* BYE");
            client
        })
        .collect();
    gate.gatepost.wait_for_descriptors(start);
    let mut elsewhere = Client::connect_from(from(9), gate.imap());
    elsewhere.greeting();
    assert!(elsewhere.login("alice", "x").is_ok());
    gate.gatepost.wait_for("their network has too many");
    drop((strangers, refused));
}

#[test]
fn cleartext_passwords_only_where_allowed() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), "");
    for (policy, trust, allowed) in
        [("never", "", false), ("loopback", "", true), ("trusted", "networks = [\"127.0.0.1\"]", true), ("always", "", true)]
    {
        let text = crate::gate::config(&Want { users: &users, trust, ..Default::default() });
        let text = text.replacen(
            "address = [\"127.0.0.1:0\"]",
            &format!("address = [\"127.0.0.1:0\"]\ncleartext_auth = \"{policy}\""),
            1,
        );
        let dir = testkit::Dir::new();
        testkit::certs::Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
        let gatepost = testkit::gatepost::Gatepost::start_in(dir, crate::gate::BINARY, &text, |_| {});
        let mut client = Client::connect(gatepost.addr("imap"));
        let greeting = client.greeting();
        assert_eq!(greeting.contains("LOGINDISABLED"), !allowed, "{policy}: {greeting}");
        assert_eq!(greeting.contains("AUTH=PLAIN"), allowed, "{policy}: {greeting}");
        let reply = client.login("alice", "x");
        assert_eq!(reply.is_ok(), allowed, "{policy}: {reply:?}");
        if !allowed {
            assert!(reply.text.starts_with("[PRIVACYREQUIRED]"), "{reply:?}");
        }
    }
}

#[test]
fn noise_and_floods_leave_the_others_alone() {
    let (gate, backend) = gate_with("connections_before_login = 10000");
    let mut calm = gate.client();
    assert!(calm.login("calm", "x").is_ok());
    let noises: Vec<Vec<u8>> = vec![
        vec![b'A'; 1 << 20],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\na LOGIN alice x\r\n".to_vec(),
        b"a LOGIN {99999999999999999999}\r\n".to_vec(),
        b"a LOGIN {4096+}\r\n".iter().copied().chain(vec![0; 5000]).collect(),
        b"a ID (".iter().copied().chain(b"(".repeat(100_000)).collect(),
        b"\r\n".repeat(20_000),
        (0..=255u8).cycle().take(100_000).collect(),
    ];
    for (n, noise) in noises.iter().enumerate() {
        let mut client = Client::connect(gate.imap());
        let _ = client.try_send(noise);
        client.half_close();
        let heard = client.read_to_end();
        assert!(heard.len() < 64 * 1024, "noise {n} was answered with {} octets", heard.len());
        assert!(!heard.windows(5).any(|w| w == b"a OK "), "noise {n}: {}", String::from_utf8_lossy(&heard));
        assert!(calm.command("NOOP").untagged_text().contains("ECHO"), "after noise {n}");
    }
    for _ in 0..500 {
        testkit::peer::Conn::new(std::net::TcpStream::connect(gate.imap()).unwrap()).reset();
    }
    assert!(calm.command("NOOP").is_ok());
    assert!(gate.client().login("alice", "x").is_ok());
    gate.gatepost.wait_for("user=alice");
    assert_eq!(gate.gatepost.log().count(" error panic "), 0);
    drop(backend);
}

#[test]
fn garbage_in_the_tls_port_and_wrong_alpn() {
    let (gate, _backend) = gate_with("");
    let mut client = Client::connect(gate.imaps());
    client.send("a LOGIN alice x\r\n");
    let _ = client.read_to_end();
    gate.gatepost.wait_for("reason=tls");
    for (alpn, fine) in [(&[b"imap".to_vec()][..], true), (&[], true), (&[b"h2".to_vec(), b"http/1.1".to_vec()], false)] {
        let mut config = (*gate.tls).clone();
        config.alpn_protocols = alpn.to_vec();
        let mut client = Client::connect(gate.imaps());
        assert_eq!(client.try_connect_tls(&std::sync::Arc::new(config), "localhost").is_ok(), fine, "{alpn:?}");
    }
}

#[test]
fn nothing_is_left_behind_by_many_sessions() {
    let (gate, _backend) = gate_with("");
    let start = gate.gatepost.descriptors();
    for round in 0..50 {
        let mut client = if round % 2 == 0 { gate.client() } else { gate.tls_client() };
        assert!(client.login("alice", "x").is_ok());
        client.logout();
    }
    // What the program still opened on its way up is no leak; one descriptor in every second session would be 25.
    gate.gatepost.wait_for_descriptors(start + 20);
}
