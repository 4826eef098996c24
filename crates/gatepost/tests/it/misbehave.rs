//! Backends that do not behave: the right reply, the right line in the journal, inside the deadline, and nobody else suffers.

use crate::gate::{Gate, Want, echo, everybody_at};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::Dir;
use testkit::certs::{Authority, Request, Role, Validity};
use testkit::peer::{Backend, Client, Conn, FakeServer, Signal};

const UNAVAILABLE: &str = "[UNAVAILABLE] Account is temporarily unavailable.";

/// One login of alice through Gatepost to this address is refused as trouble, the journal says `reason` and `pieces`, and
/// bob's session, open all the while, goes on.
#[track_caller]
fn refused_at(backend: SocketAddr, row: &str, config: &str, reason: &str, pieces: &[&str]) {
    let fine = crate::gate::echo_backend();
    let (ip, port) = (backend.ip(), backend.port());
    // bob lives at a healthy server.
    let users = format!(
        "[[users]]\nname = \"bob\"\ndriver = \"passwd-file\"\npath = \"bob\"\n[[users]]\nname = \"sick\"\ndriver = \"static\"\nfields = {{ proxy = \"y\", nopassword = \"y\", host = \"{ip}\", port = \"{port}\"{row} }}\n"
    );
    let dir = Dir::new();
    dir.write("bob", format!("bob:::::::proxy=y nopassword=y host=127.0.0.1 port={}\n", fine.port()));
    let backend = format!("proxy_timeout = \"2s\"\nconnect_timeout = \"1s\"\n{config}");
    let gate = Gate::start_in(dir, &Want { users: &users, backend: &backend, ..Default::default() });
    let mut bob = gate.client();
    assert!(bob.login("bob", "b").is_ok(), "{}", gate.gatepost.log().tail());
    let mut client = gate.client();
    let reply = client.login("alice", "top-secret");
    assert!(reply.status == "NO" && reply.text.starts_with(UNAVAILABLE), "{reply:?}\n{}", gate.gatepost.log().tail());
    let line = gate.gatepost.wait_for(" refused ");
    for piece in [&*format!("reason={reason} "), "user=alice"].into_iter().chain(pieces.iter().copied()) {
        assert!(line.contains(piece), "no {piece:?} in {line}");
    }
    assert!(bob.command("NOOP").untagged_text().contains("ECHO NOOP"), "bob's session goes on");
    // The client's connection is back before login: the next try is looked up anew.
    assert!(client.command("NOOP").is_ok());
    assert!(client.login("bob", "b").is_ok(), "another user on the same connection");
    assert!(!gate.gatepost.log().tail().contains("top-secret"));
    drop((bob, client));
    fine.finish();
}

/// The same for a scripted backend.
#[track_caller]
fn refused(script: impl Fn(&mut Conn) + Send + Sync + 'static, reason: &str, pieces: &[&str]) -> Vec<u8> {
    let server = FakeServer::start(script);
    refused_at(server.addr(), "", "", reason, pieces);
    let heard = server.wait_for_end(0);
    server.finish();
    heard
}

fn no_password(heard: &[u8]) {
    let text = String::from_utf8_lossy(heard);
    assert!(!text.contains("top-secret") && !text.contains("LOGIN"), "{text}");
}

#[test]
fn dead() {
    let port = testkit::free_port();
    refused_at(SocketAddr::from(([127, 0, 0, 1], port.number())), "", "", "connect", &["Connection refused", "more tries"]);
}

#[test]
fn silent() {
    no_password(&refused(Conn::hold, "timeout", &["proxy_timeout (2 s)", "state"]));
}

#[test]
fn silent_after_the_login() {
    let heard = refused(
        |conn| {
            conn.send_line("* OK [CAPABILITY IMAP4rev1 ID] hi");
            conn.hold();
        },
        "timeout",
        &["login"],
    );
    assert!(String::from_utf8_lossy(&heard).contains("LOGIN"));
}

#[test]
fn refusing_the_connection_with_bye() {
    no_password(&refused(|conn| conn.send_line("* BYE go away"), "backend-closed", &["go away"]));
}

#[test]
fn already_authenticated() {
    let heard = refused(
        |conn| {
            conn.send_line("* PREAUTH welcome");
            conn.expect_end();
        },
        "backend-config",
        &["PREAUTH"],
    );
    no_password(&heard);
}

#[test]
fn another_protocol() {
    for greeting in
        ["+OK POP3 ready", "220 mail.example ESMTP", "HTTP/1.1 400 Bad Request", "SSH-2.0-OpenSSH_9.2", "\u{16}\u{3}\u{1}"]
    {
        let heard = refused(
            move |conn| {
                conn.send_line(greeting);
                conn.expect_end();
            },
            "backend-protocol",
            &[],
        );
        no_password(&heard);
    }
}

#[test]
fn closing_before_and_after_the_password() {
    no_password(&refused(|_| {}, "backend-closed", &["state"]));
    let heard = refused(
        |conn| {
            conn.send_line("* OK [CAPABILITY IMAP4rev1] hi");
            conn.expect_line("LOGIN");
        },
        "backend-closed",
        &["login"],
    );
    let text = String::from_utf8_lossy(&heard);
    assert_eq!(text.matches("top-secret").count(), 1, "a password is sent once: {text}");
}

#[test]
fn endless_banner() {
    let heard = refused(
        |conn| {
            let sent = conn.flood(b"A", 32 << 20);
            assert!(sent < 32 << 20, "{sent} octets were taken");
        },
        "backend-protocol",
        &[],
    );
    no_password(&heard);
}

#[test]
fn endless_lines_and_a_huge_capability_list() {
    refused(
        |conn| {
            conn.flood(b"* OK still here\r\n", 32 << 20);
        },
        "backend-protocol",
        &[],
    );
    refused(
        |conn| {
            conn.send("* OK [CAPABILITY IMAP4rev1");
            conn.flood(b" X-CAPABILITY", 1 << 20);
        },
        "backend-protocol",
        &[],
    );
}

#[test]
fn answers_ahead_of_questions() {
    let heard = refused(
        |conn| {
            conn.send("* OK [CAPABILITY IMAP4rev1 ID] hi\r\nL OK you are in\r\n");
            let _ = conn.read_to_end();
        },
        "backend-protocol",
        &[],
    );
    no_password(&heard);
}

#[test]
fn no_starttls_where_the_route_demands_it() {
    let server = FakeServer::start(|conn| {
        conn.send_line("* OK [CAPABILITY IMAP4rev1 ID] hi");
        let _ = conn.read_to_end();
    });
    refused_at(server.addr(), r#", starttls = "yes""#, "", "backend-config", &["does not offer TLS"]);
    no_password(&server.wait_for_end(0));
    let server = FakeServer::start(|conn| {
        conn.send_line("* OK [CAPABILITY IMAP4rev1 ID STARTTLS] hi");
        let line = conn.expect_line("STARTTLS");
        let tag = line.split(' ').next().unwrap_or_default().to_owned();
        conn.send_line(format!("{tag} NO not today"));
        let _ = conn.read_to_end();
    });
    refused_at(server.addr(), r#", starttls = "yes""#, "", "backend-closed", &["not today"]);
    no_password(&server.wait_for_end(0));
}

#[test]
fn replies_smuggled_in_before_tls() {
    let server = FakeServer::start(|conn| {
        conn.send_line("* OK [CAPABILITY IMAP4rev1 ID STARTTLS] hi");
        let line = conn.expect_line("STARTTLS");
        let tag = line.split(' ').next().unwrap_or_default().to_owned();
        conn.send(format!("{tag} OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nL OK in\r\n"));
        let _ = conn.read_to_end();
    });
    refused_at(server.addr(), r#", starttls = "any-cert""#, "", "backend-protocol", &["stuffed"]);
    no_password(&server.wait_for_end(0));
}

#[test]
fn plain_text_where_tls_is_expected() {
    let server = FakeServer::start(|conn| {
        conn.send_line("* OK [CAPABILITY IMAP4rev1] hi");
        let _ = conn.read_to_end();
    });
    refused_at(server.addr(), r#", ssl = "any-cert""#, "", "backend-tls", &[]);
}

#[test]
fn certificates_that_are_wrong() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "ca");
    let ca = authority.ca_file().display().to_string();
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let good = authority.server("good", &["localhost", "127.0.0.1"]);
    let cases = [
        ("another name", authority.server("other", &["other.example"]), ca.clone(), "other.example"),
        (
            "expired",
            authority.issue("old", &Request { names: names(&["127.0.0.1"]), validity: Validity::Expired, ..Request::default() }),
            ca.clone(),
            "xpired",
        ),
        ("unknown issuer", good, Authority::new(dir.path(), "stranger").ca_file().display().to_string(), ""),
    ];
    for (name, certificate, ca, piece) in cases {
        let config = certificate.server_config();
        let server = FakeServer::start_tls(config, |conn| {
            conn.send_line("* OK [CAPABILITY IMAP4rev1] hi");
            let _ = conn.read_to_end();
        });
        println!("{name}");
        refused_at(server.addr(), r#", ssl = "yes""#, &format!("tls_ca = \"{ca}\""), "backend-tls", &[piece]);
        assert_eq!(server.connections(), 1, "{name}: an invalid certificate is not tried again");
    }
}

#[test]
fn closing_after_the_login_is_told() {
    let go = Signal::new();
    let wait = go.clone();
    let server = FakeServer::start(move |conn| {
        Backend::default().login(conn);
        conn.wait(&wait);
    });
    let users = everybody_at(server.addr(), "");
    let gate = Gate::start(&Want { users: &users, ..Default::default() });
    let mut client = gate.client();
    assert!(client.login("alice", "x").is_ok());
    go.give();
    client.expect_line("* BYE");
    client.expect_end();
    let end = gate.gatepost.wait_for(" info end ");
    assert!(end.contains("by=backend"), "{end}");
}

#[test]
fn closing_inside_a_literal_is_not_disturbed() {
    let server = FakeServer::start(|conn| {
        Backend::default().login(conn);
        conn.send("* 1 FETCH (BODY[] {1000}\r\nhalf of it\r\n");
    });
    let users = everybody_at(server.addr(), "");
    let gate = Gate::start(&Want { users: &users, ..Default::default() });
    let mut client = gate.client();
    assert!(client.login("alice", "x").is_ok());
    let rest = client.read_to_end();
    assert_eq!(String::from_utf8_lossy(&rest), "* 1 FETCH (BODY[] {1000}\r\nhalf of it\r\n", "no BYE inside a message");
}

#[test]
fn try_later_is_tried_again_and_a_definite_no_is_not() {
    let server = FakeServer::start(|conn| {
        let answer = "NO [UNAVAILABLE] \x1b[31mmoving\x1b[0m, come back".to_owned();
        Backend { answer, ..Backend::default() }.login(conn);
    });
    let gate =
        Gate::start(&Want { users: &everybody_at(server.addr(), ""), backend: "proxy_timeout = \"3s\"", ..Default::default() });
    let mut client = gate.client();
    let reply = client.login("alice", "x");
    assert!(reply.text.starts_with("[UNAVAILABLE]") && reply.text.contains("come back"), "{reply:?}");
    assert!(!reply.text.contains('\x1b'), "{reply:?}");
    assert!(server.connections() > 1 && server.connections() <= 4, "{}", server.connections());
    for (answer, heard) in [
        ("NO [AUTHENTICATIONFAILED] no such user alice", "[AUTHENTICATIONFAILED] Authentication failed."),
        ("NO unknown user", "[AUTHENTICATIONFAILED] Authentication failed."),
        ("BAD what", "[AUTHENTICATIONFAILED] Authentication failed."),
        ("NO [LIMIT] too many", "[LIMIT] too many"),
        ("NO [INUSE] busy", "[INUSE] busy"),
        ("NO [CONTACTADMIN] call us", "[CONTACTADMIN] call us"),
        ("NO [REFERRAL imap://evil.example/] there", UNAVAILABLE),
        ("NO [TRYLATER] there", UNAVAILABLE),
    ] {
        let server = FakeServer::start(move |conn| {
            Backend { answer: answer.to_owned(), ..Backend::default() }.login(conn);
        });
        let gate = Gate::start(&Want { users: &everybody_at(server.addr(), ""), ..Default::default() });
        let reply = gate.client().login("alice", "x");
        assert_eq!((reply.status.as_str(), reply.text.as_str()), ("NO", heard), "{answer}");
        assert_eq!(server.connections(), 1, "{answer}");
        // The journal has what the client was not told.
        let words = answer.rsplit_once("] ").map_or(answer.split_once(' ').unwrap().1, |(_, words)| words);
        assert!(gate.gatepost.wait_for(" refused ").contains(words), "{answer}");
    }
}

#[test]
fn the_client_certificate_is_shown_where_one_is_asked_for() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "ca");
    let own =
        authority.issue("gateway", &Request { names: vec!["gateway".to_owned()], role: Role::Client, ..Request::default() });
    let config = authority.server_config_requiring(&authority.server("backend", &["127.0.0.1"]));
    let shown = own.der().to_vec();
    let server = FakeServer::start_tls(config, move |conn: &mut Conn| {
        assert_eq!(conn.peer_certificate().as_ref(), Some(&shown));
        Backend::default().login(conn);
        echo(conn);
    });
    let backend =
        format!("tls_ca = {:?}\ntls_client_cert = {:?}\ntls_client_key = {:?}", authority.ca_file(), own.cert_file, own.key_file);
    let users = everybody_at(server.addr(), r#", ssl = "yes""#);
    let gate = Gate::start(&Want { users: &users, backend: &backend, ..Default::default() });
    let reply = gate.client().login("alice", "x");
    assert!(reply.is_ok(), "{reply:?}\n{}", gate.gatepost.log().tail());
    server.finish();
}

#[test]
fn a_client_certificate_that_is_missing_is_trouble_with_tls() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "ca");
    let config = authority.server_config_requiring(&authority.server("backend", &["127.0.0.1"]));
    let server = FakeServer::start_tls(config, |conn: &mut Conn| conn.fail("nobody has shown a certificate"));
    let ca = format!("tls_ca = \"{}\"", authority.ca_file().display());
    refused_at(server.addr(), r#", ssl = "yes""#, &ca, "backend-tls", &["ertificate"]);
    server.finish();
}

#[test]
fn pins_are_kept() {
    let Some(_) = testkit::real::require("openssl") else { return };
    let dir = Dir::new();
    let certificate = Authority::new(dir.path(), "ca").server("backend", &["elsewhere.example"]);
    let server = FakeServer::start_tls(certificate.server_config(), |conn: &mut Conn| {
        Backend::default().login(conn);
        echo(conn);
    });
    let pin = spki_pin(&certificate.cert_file);
    let users = everybody_at(server.addr(), r#", ssl = "yes""#);
    for (pin, fine) in [(pin.as_str(), true), ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", false)] {
        let backend = format!("tls_pin = \"{pin}\"\nproxy_timeout = \"3s\"");
        let gate = Gate::start(&Want { users: &users, backend: &backend, ..Default::default() });
        let reply = gate.client().login("alice", "x");
        assert_eq!(reply.is_ok(), fine, "{pin}: {reply:?}\n{}", gate.gatepost.log().tail());
        if !fine {
            gate.gatepost.wait_for("reason=backend-tls");
        }
    }
}

/// The pin as an operator makes it: openssl x509 -pubkey | openssl pkey -outform der | openssl dgst -sha256 | base64.
fn spki_pin(pem: &std::path::Path) -> String {
    let script = format!(
        "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
        pem.display()
    );
    let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_slow_client_and_a_slow_backend_hold_no_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = FakeServer::start(move |conn| {
        Backend::default().login(conn);
        // The client reads nothing: this must stop long before 256 MiB.
        while count.load(Ordering::Relaxed) < 256 << 20 && conn.try_send([b'x'; 65536]).is_ok() {
            count.fetch_add(65536, Ordering::Relaxed);
        }
    });
    let gate = Gate::start(&Want { users: &everybody_at(server.addr(), ""), ..Default::default() });
    let before = gate.gatepost.resident_kib();
    let mut client: Client = gate.tls_client();
    assert!(client.login("alice", "x").is_ok());
    let mut last = (0, 0);
    testkit::wait::until("the backend can send no more", || {
        let now = sent.load(Ordering::Relaxed);
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        now > 0 && last.1 > 100
    });
    assert!(last.0 < 64 << 20, "{} octets were taken without a reader", last.0);
    let grown = gate.gatepost.resident_kib().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB");
    drop(client);
    server.wait_for_end(0);
}
