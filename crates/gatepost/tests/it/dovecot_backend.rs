//! A real Dovecot 2.3 behind Gatepost: who does it believe is calling?

use crate::gate::{Gate, POP3_TOO, Want, everybody_at, listeners_for, trouble};
use std::net::{IpAddr, SocketAddr};
use testkit::dovecot::{Backend, Options, Proxy, ProxyOptions};
use testkit::peer::{AnyClient, Client, Pop3Client};
use testkit::{Protocol, real};

/// Where the client of these tests stands.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 42));

struct Case {
    name: &'static str,
    /// Fields of the row, as TOML, besides proxy, host and port; the port is the TLS one where `ssl` is there.
    fields: &'static str,
    /// The row holds the password, so Gatepost checks it.
    checked: bool,
    backend: &'static str,
    secured: bool,
    log: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case { name: "in clear", fields: "", checked: false, backend: "", secured: false, log: &["user=<alice>", "method=PLAIN"] },
    Case {
        name: "STARTTLS",
        fields: r#", starttls = "yes""#,
        checked: false,
        backend: "tls_ca = \"CA\"",
        secured: true,
        log: &["user=<alice>", "TLS"],
    },
    Case {
        name: "TLS",
        fields: r#", ssl = "yes""#,
        checked: false,
        backend: "tls_ca = \"CA\"",
        secured: true,
        log: &["user=<alice>", "TLS"],
    },
    Case {
        name: "STARTTLS with any certificate",
        fields: r#", starttls = "any-cert""#,
        checked: false,
        backend: "",
        secured: true,
        log: &["TLS"],
    },
    Case {
        name: "TLS by default",
        fields: "",
        checked: false,
        backend: "tls = \"implicit\"\ntls_ca = \"CA\"",
        secured: true,
        log: &["TLS"],
    },
    Case {
        name: "destuser",
        fields: r#", destuser = "bob", pass = "bob-secret""#,
        checked: true,
        backend: "",
        secured: false,
        log: &["user=<bob>"],
    },
    Case {
        name: "master user",
        fields: r#", master = "master", pass = "master-secret""#,
        checked: true,
        backend: "",
        secured: false,
        log: &["user=<alice>"],
    },
    Case {
        name: "master user by separator",
        fields: r#", destuser = "alice*master", pass = "master-secret""#,
        checked: true,
        backend: "",
        secured: false,
        log: &["user=<alice>"],
    },
];

#[test]
fn the_true_client_is_in_its_log() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot =
        Backend::start(Options { trusted: "127.0.0.1".into(), forward_logged: vec!["team".into()], ..Default::default() });
    for protocol in Protocol::ALL {
        let from_first_byte = |case: &Case| case.fields.contains(", ssl") || case.backend.contains("implicit");
        let possible = CASES.iter().filter(|case| protocol.implicit().is_some() || !from_first_byte(case));
        for (n, case) in possible.enumerate() {
            let what = format!("{}, {}", protocol.name(), case.name);
            let ca = dovecot.certificate().ca_file.display().to_string();
            let backend = case.backend.replace("CA", &ca);
            let addresses = dovecot.addresses();
            let implicit = || addresses.implicit(protocol).expect("a port with TLS from the first byte");
            let to = if from_first_byte(case) { implicit() } else { addresses.of(protocol) };
            let port = to.port();
            let password = if case.checked { r#"password = "{PLAIN}mine""# } else { r#"nopassword = "y""# };
            let users = format!(
                "[[users]]\ndriver = \"static\"\nfields = {{ proxy = \"y\", {password}, host = \"127.0.0.1\", port = \"{port}\", forward_team = \"t{n}\"{} }}\n",
                case.fields
            );
            let more = listeners_for(protocol);
            let gate = Gate::start(&Want { users: &users, backend: &backend, more: &more, ..Default::default() });
            let mut client = AnyClient::connect_from(protocol, CLIENT, gate.at(protocol));
            client.greeting();
            client.starttls(&gate.tls, "localhost");
            let reply = client.login("Alice", if case.checked { "mine" } else { "alice-secret" });
            assert!(reply.ok, "{what}: {reply:?}\n{}", gate.gatepost.log().tail());
            let line = dovecot.login_line_of(protocol, n + 1);
            let port = client.local_addr().port();
            for piece in case.log.iter().copied().chain([
                &*format!("rip=127.0.0.42, rport={port}"),
                "real_rip=127.0.0.1",
                &*format!("forward_team=<t{n}>"),
            ]) {
                assert!(line.contains(piece), "{what}: no {piece:?} in: {line}");
            }
            assert_eq!(line.contains(", TLS"), case.secured, "{what}: {line}");
            // The same session id on both sides.
            let ours = gate.gatepost.wait_for(" info login ");
            let session = ours.rsplit_once("session=").unwrap().1;
            assert!(line.contains(&format!("session=<{session}>")), "{what}: {ours}\n{line}");
            assert!(ours.contains("identity=told"), "{ours}");
            assert!(client.noop().ok, "{what}");
            client.logout();
            gate.gatepost.wait_for(" info end ");
            gate.gatepost.stop();
        }
    }
}

#[test]
fn a_stranger_cannot_say_who_it_is() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot =
        Backend::start(Options { trusted: "127.0.0.1".into(), forward_logged: vec!["team".into()], ..Default::default() });
    let users = everybody_at(dovecot.imap(), "");
    // Another address than the client's is trusted.
    let gate = Gate::start(&Want { users: &users, trust: r#"networks = ["127.0.0.99"]"#, ..Default::default() });
    let mut client = Client::connect_from(CLIENT, gate.imap());
    client.greeting();
    let said = r#"ID ("x-originating-ip" "192.0.2.66" "x-originating-port" "66" "x-session-id" "evil" "x-proxy-ttl" "1" "x-forward-team" "root" "name" "x")"#;
    assert!(client.command(said).is_ok());
    assert!(client.login("alice", "alice-secret").is_ok());
    let line = dovecot.login_line(1);
    let port = client.local_addr().port();
    assert!(line.contains(&format!("rip=127.0.0.42, rport={port}")), "{line}");
    assert!(line.contains("forward_team=<>"), "{line}");
    assert!(!line.contains("evil"), "{line}");
    assert!(!gate.gatepost.log().tail().contains("192.0.2.66"));

    // And one that is trusted can.
    let mut webmail = Client::connect_from("127.0.0.99".parse().unwrap(), gate.imap());
    webmail.greeting();
    assert!(webmail.command(said.replace("\"x-proxy-ttl\" \"1\"", "\"x-proxy-ttl\" \"4\"")).is_ok());
    assert!(webmail.login("alice", "alice-secret").is_ok());
    let line = dovecot.login_line(2);
    for piece in ["rip=192.0.2.66, rport=66", "session=<evil>", "forward_team=<root>", "real_rip=127.0.0.1"] {
        assert!(line.contains(piece), "no {piece:?} in {line}");
    }
    let ours = gate.gatepost.log().wait_for_count(" info login ", 2);
    assert!(ours[1].contains("client=192.0.2.66:66") && ours[1].contains("via=127.0.0.99:"), "{}", ours[1]);
}

#[test]
fn a_stranger_cannot_say_who_it_is_by_pop3() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot =
        Backend::start(Options { trusted: "127.0.0.1".into(), forward_logged: vec!["team".into()], ..Default::default() });
    let users = everybody_at(dovecot.pop3(), "");
    let trust = r#"networks = ["127.0.0.99"]"#;
    let gate = Gate::start(&Want { users: &users, trust, more: POP3_TOO, ..Default::default() });
    let to = gate.at(Protocol::Pop3);
    // FORWARD says team=root.
    let said = "XCLIENT ADDR=192.0.2.66 PORT=66 SESSION=evil TTL=4 FORWARD=dGVhbT1yb290";
    let mut stranger = Pop3Client::connect_from(CLIENT, to);
    let greeting = stranger.greeting();
    assert!(!greeting.contains("XCLIENT"), "{greeting}");
    for command in [said, "XOIP 192.0.2.66"] {
        // Older proxies give up at -ERR.
        let reply = stranger.ok(command);
        assert!(reply.contains("ignoring"), "{command}: {reply}");
    }
    assert!(stranger.login("alice", "alice-secret").ok);
    let line = dovecot.login_line_of(Protocol::Pop3, 1);
    let port = stranger.local_addr().port();
    assert!(line.contains(&format!("rip=127.0.0.42, rport={port}")), "{line}");
    assert!(line.contains("forward_team=<>"), "{line}");
    assert!(!line.contains("evil"), "{line}");
    assert!(!gate.gatepost.log().tail().contains("192.0.2.66"));

    let trusted = |introduction: &str| {
        let mut webmail = Pop3Client::connect_from("127.0.0.99".parse().unwrap(), to);
        let greeting = webmail.greeting();
        assert!(greeting.starts_with("+OK [XCLIENT]"), "{greeting}");
        assert_eq!(webmail.ok(introduction), "Updated");
        assert!(webmail.login("alice", "alice-secret").ok, "{introduction}\n{}", gate.gatepost.log().tail());
        webmail
    };
    let _webmail = trusted(said);
    let line = dovecot.login_line_of(Protocol::Pop3, 2);
    for piece in ["rip=192.0.2.66, rport=66", "session=<evil>", "forward_team=<root>", "real_rip=127.0.0.1"] {
        assert!(line.contains(piece), "no {piece:?} in {line}");
    }
    let ours = gate.gatepost.log().wait_for_count(" info login ", 2);
    assert!(ours[1].contains("client=192.0.2.66:66") && ours[1].contains("via=127.0.0.99:"), "{}", ours[1]);

    // The older command knows the address alone.
    let _webmail = trusted("XOIP 192.0.2.67");
    let line = dovecot.login_line_of(Protocol::Pop3, 3);
    assert!(line.contains("rip=192.0.2.67,") && line.contains("real_rip=127.0.0.1"), "{line}");
}

/// XCLIENT, whatever comes of it.
#[track_caller]
fn xclient(client: &mut AnyClient, attributes: &str) -> String {
    match client {
        AnyClient::ManageSieve(client) => client.xclient(attributes).rest,
        AnyClient::Submission(client) => {
            client.say_hello();
            client.xclient(attributes).text()
        }
        AnyClient::Imap(_) | AnyClient::Pop3(_) => panic!("{} has a test of its own", client.protocol().name()),
    }
}

#[test]
fn a_stranger_cannot_say_who_it_is_by_managesieve_or_submission() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot =
        Backend::start(Options { trusted: "127.0.0.1".into(), forward_logged: vec!["team".into()], ..Default::default() });
    for (protocol, refused, believed) in [
        (Protocol::ManageSieve, "\"You are not from trusted IP\"", "\"Updated\""),
        (Protocol::Submission, "550 5.7.0 ", "220 gate.test ESMTP"),
    ] {
        let users = everybody_at(dovecot.addresses().of(protocol), "");
        let (trust, more) = (r#"networks = ["127.0.0.99"]"#, listeners_for(protocol));
        let gate = Gate::start(&Want { users: &users, trust, more: &more, ..Default::default() });
        // FORWARD says team=root.
        let said = "ADDR=192.0.2.66 PORT=66 SESSION=evil TTL=4 FORWARD=dGVhbT1yb290";
        let mut stranger = AnyClient::connect_from(protocol, CLIENT, gate.at(protocol));
        stranger.greeting();
        let reply = xclient(&mut stranger, said);
        assert!(reply.starts_with(refused), "{reply}");
        assert!(stranger.login("alice", "alice-secret").ok);
        let line = dovecot.login_line_of(protocol, 1);
        let port = stranger.local_addr().port();
        assert!(line.contains(&format!("rip=127.0.0.42, rport={port}")), "{line}");
        assert!(line.contains("forward_team=<>") && !line.contains("evil"), "{line}");
        assert!(!gate.gatepost.log().tail().contains("192.0.2.66"));

        let mut webmail = AnyClient::connect_from(protocol, "127.0.0.99".parse().unwrap(), gate.at(protocol));
        webmail.greeting();
        let reply = xclient(&mut webmail, said);
        assert!(reply.starts_with(believed), "{reply}");
        assert!(webmail.login("alice", "alice-secret").ok);
        let line = dovecot.login_line_of(protocol, 2);
        for piece in ["rip=192.0.2.66, rport=66", "session=<evil>", "forward_team=<root>", "real_rip=127.0.0.1"] {
            assert!(line.contains(piece), "no {piece:?} in {line}");
        }
        let ours = gate.gatepost.log().wait_for_count(" info login ", 2);
        assert!(ours[1].contains("client=192.0.2.66:66") && ours[1].contains("via=127.0.0.99:"), "{}", ours[1]);
    }
}

/// A Dovecot proxy behind us is one that counts: it refuses a login with one hop left or less.
#[test]
fn the_hops_that_are_left_are_told() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = Backend::start(Options::default());
    let options =
        ProxyOptions { trusted: "127.0.0.1".into(), ..ProxyOptions::to_each(&dovecot.addresses(), testkit::dovecot::Leg::Clear) };
    let proxy = Proxy::start(options);
    for protocol in Protocol::ALL {
        let users = everybody_at(proxy.addresses().of(protocol), "");
        let (trust, more) = (r#"networks = ["127.0.0.99"]"#, listeners_for(protocol));
        let gate = Gate::start(&Want { users: &users, trust, more: &more, ..Default::default() });
        for (hops, arrives) in [(4, true), (3, true), (2, false), (1, false)] {
            let mut client = AnyClient::connect_from(protocol, "127.0.0.99".parse().unwrap(), gate.at(protocol));
            client.greeting();
            let who = SocketAddr::from(([192, 0, 2, 66], 66));
            assert!(client.introduce(who, &format!("{}{hops}", protocol.name()), hops).ok);
            let reply = client.login("alice", "alice-secret");
            assert_eq!(reply.ok, arrives, "{} with {hops} hops: {reply:?}\n{}", protocol.name(), gate.gatepost.log().tail());
            if !arrives {
                // Ours says that trying again is of no use; what the proxy behind us says without a code is trouble.
                let code = match protocol {
                    Protocol::Pop3 if hops == 1 => "[SYS/PERM]",
                    Protocol::ManageSieve if hops == 1 => "(TRYLATER/NORETRY)",
                    Protocol::Submission if hops == 1 => "451 4.4.6",
                    protocol => trouble(protocol),
                };
                assert!(reply.text.starts_with(code), "{} with {hops} hops: {reply:?}", protocol.name());
            }
        }
        // The last one ends with us, and the one before with the proxy behind us.
        let refused = gate.gatepost.log().wait_for_count(" refused ", 2);
        assert!(refused[0].contains("reason=backend-"), "{}", refused[0]);
        proxy.log().wait_for_all(&[
            &format!("{}-login: ", protocol.name()),
            "TTL reached zero",
            &format!("session=<{}2>", protocol.name()),
        ]);
        assert!(refused[1].contains("reason=loop"), "{}", refused[1]);
    }
}

#[test]
fn refusals_of_a_real_backend_are_masked_and_the_way_back_is_open() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = Backend::start(Options { trusted: "127.0.0.1".into(), max_userip_connections: 1, ..Default::default() });
    let users = everybody_at(dovecot.pop3(), "");
    let gate = Gate::start(&Want { users: &users, more: POP3_TOO, ..Default::default() });
    let mut client = Pop3Client::greeted(gate.at(Protocol::Pop3));
    for user in ["alice", "nobody"] {
        let reply = client.login(user, "wrong");
        assert_eq!((reply.ok, &*reply.text), (false, "[AUTH] Authentication failed."), "{user}");
    }
    assert!(client.login("alice", "alice-secret").ok, "the connection is back in Gatepost's own state");
    assert!(!gate.gatepost.log().tail().contains("wrong"), "no password in the journal");

    let users = everybody_at(dovecot.imap(), "");
    let gate = Gate::start(&Want { users: &users, ..Default::default() });
    let mut client = gate.client();
    client.no("LOGIN alice wrong", "[AUTHENTICATIONFAILED] Authentication failed.");
    client.no("LOGIN nobody wrong", "[AUTHENTICATIONFAILED] Authentication failed.");
    assert!(client.login("alice", "alice-secret").is_ok(), "the connection is back in Gatepost's own state");
    let refused = gate.gatepost.log().wait_for_count(" info refused ", 2);
    assert!(refused[0].contains("reason=backend-credentials") && refused[0].contains("user=alice"), "{}", refused[0]);
    assert!(!gate.gatepost.log().tail().contains("wrong"), "no password in the journal");
}
