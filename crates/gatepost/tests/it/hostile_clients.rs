//! Clients that do not behave, and the limits that meet them.

use crate::gate::{Gate, OTHERS_TOO, Want, each_at_its_own, echo_backend, everybody_at};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use testkit::Protocol;
use testkit::peer::{AnyClient, Backend, Client, FakeBackend};
use testkit::wait::PATIENCE;

use Protocol::{Imap, ManageSieve, Pop3, Submission};

fn gate_with(limits: &str) -> (Gate, testkit::peer::FakeServer) {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), limits, ..Default::default() });
    (gate, backend)
}

/// For clients of one protocol.
fn gate_for(protocol: Protocol, limits: &str, trust: &str) -> (Gate, FakeBackend) {
    let backend = FakeBackend::start(Backend::of(protocol));
    let users = everybody_at(backend.addr(), "");
    let gate = Gate::start(&Want { users: &users, limits, trust, more: OTHERS_TOO, ..Default::default() });
    (gate, backend)
}

fn from(n: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, n))
}

#[test]
fn what_is_sent_behind_the_login_arrives_once_and_in_order() {
    for (protocol, sent, expected) in [
        (
            Imap,
            "a LOGIN alice x\r\nb NOOP 1\r\nc NOOP 2\r\nd LOGOUT\r\n",
            &["a OK", "* ECHO NOOP 1", "b OK", "* ECHO NOOP 2", "c OK", "* BYE", "d OK"][..],
        ),
        (
            Pop3,
            "USER alice\r\nPASS x\r\nNOOP 1\r\nNOOP 2\r\nQUIT\r\n",
            &["+OK", "+OK Logged in.", "+OK ECHO NOOP 1", "+OK ECHO NOOP 2", "+OK Bye."],
        ),
        (
            ManageSieve,
            "AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHg=\"\r\nNOOP 1\r\nNOOP 2\r\nLOGOUT\r\n",
            &["OK \"Logged in.\"", "OK \"ECHO NOOP 1\"", "OK \"ECHO NOOP 2\"", "OK \"Bye.\""],
        ),
        // EHLO ends its group (RFC 2920): what follows it is said once it was answered.
        (
            Submission,
            "AUTH PLAIN AGFsaWNlAHg=\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n",
            &["235 2.7.0 Logged in.", "250 ECHO MAIL FROM:<a@b>", "250 ECHO RCPT TO:<c@d>", "221 2.0.0 Bye."],
        ),
    ] {
        let (gate, _backend) = gate_for(protocol, "", "");
        for tls in [false, true] {
            let mut client = if tls { gate.any_tls_client(protocol) } else { gate.any_client(protocol) };
            client.say_hello();
            client.send(sent);
            let all = String::from_utf8(client.read_to_end()).unwrap();
            let lines: Vec<&str> = all.lines().collect();
            assert_eq!(lines.len(), expected.len(), "{all}");
            for (line, start) in lines.iter().zip(expected) {
                assert!(line.starts_with(start), "{all}");
            }
        }
    }
}

#[test]
fn one_byte_at_a_time() {
    for (protocol, sent, answer, echo) in [
        (Imap, "a AUTHENTICATE PLAIN AGFsaWNlAHg=\r\nb NOOP\r\n", "a OK", "* ECHO NOOP"),
        (Pop3, "AUTH PLAIN AGFsaWNlAHg=\r\nNOOP\r\n", "+OK Logged in.", "+OK ECHO NOOP"),
        (ManageSieve, "Authenticate {5+}\r\nPLAIN {12+}\r\nAGFsaWNlAHg=\r\nNOOP\r\n", "OK \"Logged in.\"", "OK \"ECHO NOOP\""),
        (Submission, "auth plain AGFsaWNlAHg=\r\nNOOP\r\n", "235 2.7.0 Logged in.", "250 ECHO NOOP"),
    ] {
        let (gate, _backend) = gate_for(protocol, "", "");
        let mut client = gate.any_client(protocol);
        client.say_hello();
        client.trickle(sent, Duration::from_millis(1));
        client.expect_line(answer);
        client.expect_line(echo);
        assert!(gate.gatepost.wait_for(" info login ").contains("user=alice"));
    }
}

#[test]
fn the_time_for_signing_in_is_bounded() {
    let cases = [
        (Imap, "a NOOP\r\n", "a OK", "* BYE"),
        (Pop3, "NOOP\r\n", "+OK", "-ERR Too much time"),
        (ManageSieve, "NOOP\r\n", "OK", "BYE \"Too much time"),
        (Submission, "NOOP\r\n", "250", "421 4.4.2 Too much time"),
    ];
    let bounded = |(protocol, command, ok, goodbye): (Protocol, &str, &str, &str)| {
        let backend = FakeBackend::start(Backend::of(protocol));
        // Submission has a time of its own, and no shorter one.
        let (limits, more) = match protocol {
            Submission => ("commands = 100000", format!("{OTHERS_TOO}[protocol.submission]\nlogin_timeout = \"10s\"\n")),
            _ => ("login_timeout = \"1s\"\ncommands = 100000", OTHERS_TOO.to_owned()),
        };
        let users = everybody_at(backend.addr(), "");
        let gate = Gate::start(&Want { users: &users, limits, more: &more, ..Default::default() });
        let (mut silent, mut busy, mut half) = (gate.any_client(protocol), gate.any_client(protocol), gate.any_client(protocol));
        half.send(command.trim_end());
        // Bytes do not buy time: if they did, this would go on until the guard ends it.
        let guard = Instant::now() + PATIENCE;
        while busy.try_send(command).is_ok() && busy.read_line().is_some_and(|line| line.starts_with(ok)) {
            assert!(Instant::now() < guard, "still served; {}", gate.gatepost.log().tail());
            // So that the limit of commands is out of reach in the time there is.
            std::thread::sleep(Duration::from_millis(1));
        }
        for client in [&mut silent, &mut half] {
            client.set_patience(PATIENCE);
            client.expect_line(goodbye);
            client.expect_end();
        }
        gate.gatepost.log().wait_for_count("reason=login-timeout", 3);
    };
    // Side by side: it is nothing but waiting.
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || bounded(case));
        }
    });
}

/// What a client sends, how the last line that it hears begins (nothing behind the greeting if empty), and how the journal
/// calls it.
type Hostile = (&'static str, Vec<u8>, &'static str, &'static str);

fn hostile(protocol: Protocol) -> Vec<Hostile> {
    let lines = |line: &[u8], n| line.repeat(n);
    let behind = |start: &str, filling: u8, n| [start.as_bytes(), &vec![filling; n]].concat();
    let all_octets: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    match protocol {
        Imap => vec![
            ("a line of 16 MiB", vec![b'A'; 16 << 20], "* BYE", "line-too-long"),
            ("100 000 commands", lines(b"a NOOP\r\n", 100_000), "* BYE", "too-many-commands"),
            ("garbage", lines(b"a garbage\r\n", 1000), "* BYE", "too-many-bad-commands"),
            ("bare LF", lines(b"a LOGIN alice x\n\r\n", 1000), "* BYE", "too-many-bad-commands"),
            ("all octets", all_octets, "* BYE", "line-too-long"),
            ("an endless response", behind("a AUTHENTICATE PLAIN\r\n", b'A', 1 << 20), "* BYE", "line-too-long"),
            ("100 KB of ID", behind("a ID (\"x-originating-ip\" \"", b'1', 100 << 10), "* BYE", "line-too-long"),
            ("a browser", b"POST / HTTP/1.1\r\nHost: x\r\n\r\na LOGIN alice x\r\n".to_vec(), "", "http-on-imap"),
            ("TLS", tls, "", "tls-in-clear"),
            ("an injection", b"a STARTTLS\r\nb LOGIN alice x\r\n".to_vec(), "a OK", "starttls-injection"),
        ],
        Pop3 => vec![
            ("a line of 16 MiB", vec![b'A'; 16 << 20], "-ERR Command line is too long.", "line-too-long"),
            ("100 000 commands", lines(b"NOOP\r\n", 100_000), "-ERR Too many commands", "too-many-commands"),
            ("garbage", lines(b"garbage\r\n", 1000), "-ERR Too many invalid", "too-many-bad-commands"),
            ("bare LF", lines(b"USER alice\nPASS x\n\r\n", 1000), "-ERR Too many invalid", "too-many-bad-commands"),
            ("all octets", all_octets, "-ERR Command line is too long.", "line-too-long"),
            ("an endless response", behind("AUTH PLAIN\r\n", b'A', 1 << 20), "-ERR Command line is too long.", "line-too-long"),
            (
                "an endless password",
                behind("USER alice\r\nPASS ", b'A', 1 << 20),
                "-ERR Command line is too long.",
                "line-too-long",
            ),
            ("100 KB of XCLIENT", behind("XCLIENT ADDR=", b'1', 100 << 10), "-ERR Command line is too long.", "line-too-long"),
            ("a browser", b"POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER alice\r\nPASS x\r\n".to_vec(), "", "http-on-pop3"),
            ("TLS", tls, "", "tls-in-clear"),
            ("an injection", b"STLS\r\nUSER alice\r\nPASS x\r\n".to_vec(), "+OK Begin TLS", "starttls-injection"),
        ],
        ManageSieve => vec![
            ("a line of 16 MiB", vec![b'A'; 16 << 20], "BYE", "line-too-long"),
            ("100 000 commands", lines(b"NOOP\r\n", 100_000), "BYE", "too-many-commands"),
            ("garbage", lines(b"garbage\r\n", 1000), "BYE", "too-many-bad-commands"),
            ("all octets", all_octets, "BYE", "line-too-long"),
            ("an endless response", behind("AUTHENTICATE \"PLAIN\"\r\n", b'A', 1 << 20), "BYE", "line-too-long"),
            ("100 KB of XCLIENT", behind("XCLIENT ADDR=", b'1', 100 << 10), "BYE", "line-too-long"),
            ("bare LF", lines(b"AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHg=\"\n\r\n", 1000), "BYE", "too-many-bad-commands"),
            ("a literal of 4 GiB", b"AUTHENTICATE \"PLAIN\" {4294967295+}\r\n".to_vec(), "BYE", "literal-too-big"),
            ("a literal of any size", b"AUTHENTICATE {99999999999999999999+}\r\nNOOP\r\n".to_vec(), "BYE", "literal-too-big"),
            ("a quoted string of 100 KB", behind("AUTHENTICATE \"", b'A', 100 << 10), "BYE", "line-too-long"),
            ("a browser", b"POST / HTTP/1.1\r\nHost: x\r\n\r\nNOOP\r\n".to_vec(), "", "http-on-managesieve"),
            ("TLS", tls, "", "tls-in-clear"),
            ("an injection", b"STARTTLS\r\nNOOP\r\n".to_vec(), "OK", "starttls-injection"),
        ],
        Submission => vec![
            ("a line of 16 MiB", vec![b'A'; 16 << 20], "500 5.5.2 Line is too long.", "line-too-long"),
            ("100 000 commands", lines(b"NOOP\r\n", 100_000), "421 4.7.0", "too-many-commands"),
            ("garbage", lines(b"garbage\r\n", 1000), "421 4.7.0", "too-many-bad-commands"),
            ("all octets", all_octets, "500 5.5.2 Line is too long.", "line-too-long"),
            ("an endless response", behind("AUTH PLAIN\r\n", b'A', 1 << 20), "500 5.5.6 Line is too long.", "line-too-long"),
            ("100 KB of XCLIENT", behind("XCLIENT ADDR=", b'1', 100 << 10), "500 5.5.2 Line is too long.", "line-too-long"),
            ("bare LF", lines(b"AUTH PLAIN\nAGFsaWNlAHg=\n\r\n", 1000), "421 4.7.0", "too-many-bad-commands"),
            ("a letter without a login", b"EHLO x\r\nMAIL FROM:<x>\r\n".to_vec(), "554 5.5.0", "pipelining"),
            ("a chunk without a login", b"BDAT 9 LAST\r\nQUIT\r\n\r\n\r\n".to_vec(), "530 5.7.0", "bdat-before-login"),
            ("who does not wait", b"DATA\r\nQUIT\r\n".to_vec(), "554 5.5.0", "pipelining"),
            ("a browser", b"POST / HTTP/1.1\r\nHost: x\r\n\r\nNOOP\r\n".to_vec(), "", "http-on-submission"),
            ("TLS", tls, "", "tls-in-clear"),
            ("an injection", b"STARTTLS\r\nNOOP\r\n".to_vec(), "220", "starttls-injection"),
        ],
    }
}

#[test]
fn hostile_words_cost_only_the_connection_that_says_them() {
    for protocol in Protocol::ALL {
        for trust in ["", "networks = [\"127.0.0.1\"]"] {
            let (gate, backend) = gate_for(protocol, "", trust);
            let mut calm = gate.any_client(protocol);
            assert!(calm.login("calm", "x").ok);
            for (name, words, reply, reason) in hostile(protocol) {
                println!("{protocol:?}, trusted: {}: {name}", !trust.is_empty());
                let log = gate.gatepost.log().from_here();
                let mut client = gate.any_client(protocol);
                if words.starts_with(b"AUTH") {
                    client.say_hello();
                }
                // The answer may come, and the end, before all of it is sent.
                let _ = client.try_send(&words);
                let heard = String::from_utf8_lossy(&client.read_to_end()).into_owned();
                assert!(heard.len() < 64 << 10, "answered with {} octets", heard.len());
                let last = heard.lines().last().unwrap_or_default();
                assert!(last.starts_with(reply) && last.is_empty() == reply.is_empty(), "{heard}");
                log.wait_for_all(&[" disconnect ", &format!("reason={reason} ")]);
                assert!(calm.noop().ok);
            }
            assert_eq!(backend.connections(), 1, "none of it came to a login");
            assert_eq!(gate.gatepost.log().count(" error panic "), 0);
        }
    }
}

#[test]
fn names_and_passwords_that_could_become_commands_go_nowhere() {
    for (protocol, wrong) in [
        (Imap, "[AUTHENTICATIONFAILED]"),
        (Pop3, "[AUTH]"),
        (ManageSieve, "\"Authentication failed.\""),
        (Submission, "535 5.7.8"),
    ] {
        let (gate, backend) = gate_for(protocol, "failed_logins = 100\nguesses = 100", "");
        let mut calm = gate.any_client(protocol);
        assert!(calm.login("calm", "x").ok);
        let mut client = gate.any_client(protocol);
        for (user, password, shown) in [
            ("al\r\nice", "x", r#"user="al\\x0d\\x0aice" "#),
            ("al\nice", "x", r#"user="al\\x0aice" "#),
            ("ali\0ce", "x", "user=ali "),
            ("alice", "x\0y", "user=alice "),
            ("alice", "x\r\nQUIT", "user=alice "),
            ("alice", "x\ny", "user=alice "),
            ("alice", "x\ry", "user=alice "),
        ] {
            let log = gate.gatepost.log().from_here();
            let outcome = client.authenticate_plain("", user, password);
            assert!(!outcome.ok && outcome.text.starts_with(wrong), "{user:?} {password:?}: {outcome:?}");
            let line = log.wait_for(" refused protocol=");
            assert!(line.contains("reason=credentials ") && line.contains("side=client"), "{line}");
            assert!(line.contains(shown), "no {shown:?} in {line}");
            assert!(calm.noop().ok);
        }
        assert_eq!(backend.connections(), 1);
        assert!(client.authenticate_plain("", "alice", "x").ok, "the connection is as good as before");
    }
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
    let backends = Protocol::ALL.map(|protocol| FakeBackend::start(Backend::of(protocol)));
    let users = each_at_its_own(&backends, "");
    for (policy, trust, allowed) in
        [("never", "", false), ("loopback", "", true), ("trusted", "networks = [\"127.0.0.1\"]", true), ("always", "", true)]
    {
        let text = crate::gate::config(&Want { users: &users, trust, more: OTHERS_TOO, ..Default::default() });
        let text = text.replace("[[listen]]\n", &format!("[[listen]]\ncleartext_auth = \"{policy}\"\n"));
        let gate = Gate::start_with(testkit::Dir::new(), &text);
        for (backend, protocol) in backends.iter().zip(Protocol::ALL) {
            let before = backend.connections();
            let mut client = gate.any_client(protocol);
            // What is offered, where a client can know.
            let offered = match &mut client {
                AnyClient::Imap(client) => Some(client.ok("CAPABILITY").untagged_text().contains("AUTH=PLAIN")),
                AnyClient::Pop3(client) => Some(client.capabilities().contains(&"USER".to_owned())),
                AnyClient::ManageSieve(client) => client.listed().get("SASL").map(|list| list.contains("PLAIN")),
                AnyClient::Submission(client) => Some(client.ehlo("client.test").get("AUTH").is_some()),
            };
            assert_eq!(offered, Some(allowed), "{policy}: {}", client.dialogue());
            let reply = client.login("alice", "x");
            assert_eq!(reply.ok, allowed, "{policy}: {reply:?}");
            if !allowed {
                let code = match protocol {
                    Imap => "[PRIVACYREQUIRED]",
                    Pop3 => "",
                    ManageSieve => "(ENCRYPT-NEEDED)",
                    Submission => "538 5.7.11",
                };
                assert!(reply.text.starts_with(code), "{reply:?}");
                assert_eq!(backend.connections(), before, "a password that may not be said here goes nowhere");
                client.starttls(&gate.tls, "localhost");
                assert!(client.login("alice", "x").ok, "under TLS it may be said");
            }
        }
    }
}

#[test]
fn noise_and_floods_leave_the_others_alone() {
    for protocol in Protocol::ALL {
        let (gate, _backend) = gate_for(protocol, "connections_before_login = 10000", "");
        let addr = gate.gatepost.addr(protocol.name());
        let mut calm = gate.any_client(protocol);
        assert!(calm.login("calm", "x").ok);
        let mut noises: Vec<Vec<u8>> = vec![
            b"a LOGIN {99999999999999999999}\r\n".to_vec(),
            b"a LOGIN {4096+}\r\n".iter().copied().chain(vec![0; 5000]).collect(),
            b"a ID (".iter().copied().chain(b"(".repeat(100_000)).collect(),
            b"\r\n".repeat(20_000),
            b"+OK\r\n".repeat(20_000),
            b"AUTH =\r\n*\r\nAUTH PLAIN =\r\n*\r\n".repeat(1000),
            b"AUTHENTICATE {99999999999999999999+}\r\n".to_vec(),
            b"AUTHENTICATE \"PLAIN\" {4294967295+}\r\n".iter().copied().chain(vec![b'A'; 100_000]).collect(),
            b"CAPABILITY {0+}\r\n {0+}\r\n".repeat(20_000),
        ];
        if protocol == Submission {
            noises.extend([
                b"EHLO x\r\n".repeat(20_000),
                b"MAIL FROM:<x>\r\nRCPT TO:<y>\r\nDATA\r\nAUTH PLAIN AGFsaWNlAHg=\r\n.\r\n".repeat(1000),
                b"EHLO x\r\nBDAT 99999999999999999999 LAST\r\nAUTH PLAIN AGFsaWNlAHg=\r\n".to_vec(),
                b"BDAT 30 LAST\r\nEHLO x\r\nAUTH PLAIN AGFsaWNlAHg=\r\n".to_vec(),
            ]);
        }
        for (n, noise) in noises.iter().enumerate() {
            let mut client = AnyClient::connect(protocol, addr);
            let _ = client.try_send(noise);
            client.half_close();
            let heard = client.read_to_end();
            let text = String::from_utf8_lossy(&heard);
            assert!(heard.len() < 64 * 1024, "noise {n} was answered with {} octets", heard.len());
            assert!(!text.contains("a OK ") && !text.contains("Logged in"), "noise {n}: {text}");
            assert!(calm.noop().ok, "after noise {n}");
        }
        for _ in 0..500 {
            testkit::peer::Conn::new(std::net::TcpStream::connect(addr).unwrap()).reset();
        }
        assert!(calm.noop().ok);
        assert!(gate.any_client(protocol).login("alice", "x").ok);
        gate.gatepost.wait_for("user=alice");
        assert_eq!(gate.gatepost.log().count(" error panic "), 0);
    }
}

#[test]
fn garbage_in_the_tls_port_and_wrong_alpn() {
    // By ManageSieve no TLS begins with the first byte.
    for (protocol, own, other) in [(Imap, "imap", "pop3"), (Pop3, "pop3", "imap"), (Submission, "smtp", "submission")] {
        let (gate, _backend) = gate_for(protocol, "", "");
        let mut calm = gate.any_client(protocol);
        assert!(calm.login("calm", "x").ok);
        let addr = gate.tls_at(protocol);
        let mut client = AnyClient::connect(protocol, addr);
        client.send("a LOGIN alice x\r\nUSER alice\r\nPASS x\r\n");
        let heard = client.read_to_end();
        assert!(!heard.contains(&b'\n'), "an alert at most, and nothing in clear: {}", heard.escape_ascii());
        gate.gatepost.wait_for("reason=tls");
        let alpn = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        for (alpn, fine) in [(alpn(&[own]), true), (alpn(&[]), true), (alpn(&[other]), false), (alpn(&["h2", "http/1.1"]), false)]
        {
            let mut config = (*gate.tls).clone();
            config.alpn_protocols = alpn.clone();
            let mut client = AnyClient::connect(protocol, addr);
            assert_eq!(client.try_connect_tls(&std::sync::Arc::new(config), "localhost").is_ok(), fine, "{alpn:?}");
        }
        assert!(calm.noop().ok);
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
