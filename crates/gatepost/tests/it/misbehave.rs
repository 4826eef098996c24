//! Backends that do not behave: the right reply, the right line in the journal, inside the deadline, and nobody else suffers.

mod tls;

use crate::gate::{Gate, POP3_TOO, Want, everybody_at};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::peer::{AnyClient, Backend, Client, Conn, FakeBackend, FakeServer};
use testkit::{Dir, Protocol};

use Protocol::{Imap, ManageSieve, Pop3, Submission};

const UNAVAILABLE: &str = "[UNAVAILABLE] Account is temporarily unavailable.";
const SYS_TEMP: &str = "[SYS/TEMP] Account is temporarily unavailable.";

/// How trouble is told in this protocol.
fn trouble(protocol: Protocol) -> &'static str {
    match protocol {
        Imap => UNAVAILABLE,
        Pop3 => SYS_TEMP,
        ManageSieve => "(TRYLATER) \"Account is temporarily unavailable.\"",
        Submission => "454 4.7.0 Account is temporarily unavailable.",
    }
}

/// One login of alice through Gatepost to this address is refused as trouble, the journal says `reason` and `pieces`, and
/// bob's session, open all the while, goes on.
#[track_caller]
fn refused_at(protocol: Protocol, backend: SocketAddr, row: &str, config: &str, reason: &str, pieces: &[&str]) {
    let fine = FakeBackend::start(Backend::of(protocol));
    let (ip, port) = (backend.ip(), backend.port());
    // bob lives at a healthy server.
    let users = format!(
        "[[users]]\nname = \"bob\"\ndriver = \"passwd-file\"\npath = \"bob\"\n[[users]]\nname = \"sick\"\ndriver = \"static\"\nfields = {{ proxy = \"y\", nopassword = \"y\", host = \"{ip}\", port = \"{port}\"{row} }}\n"
    );
    let dir = Dir::new();
    dir.write("bob", format!("bob:::::::proxy=y nopassword=y host=127.0.0.1 port={}\n", fine.port()));
    let backend = format!("proxy_timeout = \"2s\"\nconnect_timeout = \"1s\"\n{config}");
    let gate = Gate::start_in(dir, &Want { users: &users, backend: &backend, more: POP3_TOO, ..Default::default() });
    let mut bob = gate.any_client(protocol);
    assert!(bob.login("bob", "b").ok, "{}", gate.gatepost.log().tail());
    let mut client = gate.any_client(protocol);
    let reply = client.login("alice", "top-secret");
    assert!(!reply.ok && reply.text.starts_with(trouble(protocol)), "{reply:?}\n{}", gate.gatepost.log().tail());
    let line = gate.gatepost.wait_for(" refused protocol=");
    let protocol_word = format!("protocol={}", protocol.name());
    for piece in [&*format!("reason={reason} "), "user=alice", &protocol_word].into_iter().chain(pieces.iter().copied()) {
        assert!(line.contains(piece), "no {piece:?} in {line}");
    }
    still_served(&mut bob);
    // The client's connection is back before login: the next try is looked up anew.
    assert!(client.noop().ok);
    assert!(client.login("bob", "b").ok, "another user on the same connection");
    assert!(!gate.gatepost.log().tail().contains("top-secret"));
    drop((bob, client));
    fine.finish();
}

/// The same for a scripted backend.
#[track_caller]
fn refused(protocol: Protocol, script: impl Fn(&mut Conn) + Send + Sync + 'static, reason: &str, pieces: &[&str]) -> Vec<u8> {
    let server = FakeServer::start(script);
    refused_at(protocol, server.addr(), "", "", reason, pieces);
    let heard = server.wait_for_end(0);
    server.finish();
    heard
}

/// A session whose backend echoes goes on.
#[track_caller]
fn still_served(client: &mut AnyClient) {
    let echoed = client.echo();
    assert!(echoed.contains("ECHO NOOP"), "{echoed}");
}

fn no_password(heard: &[u8]) {
    let text = String::from_utf8_lossy(heard);
    assert!(!text.contains("top-secret") && !text.contains("LOGIN") && !text.contains("PASS"), "{text}");
}

/// A greeting after which a backend may be told who is calling.
fn greet(protocol: Protocol, conn: &mut Conn) {
    conn.send_line(match protocol {
        Imap => "* OK [CAPABILITY IMAP4rev1 ID] hi",
        Pop3 => "+OK [XCLIENT] hi",
        ManageSieve => "\"SASL\" \"PLAIN\"\r\n\"XCLIENT\"\r\nOK \"hi\"",
        Submission => "220 hi",
    });
    if protocol == Submission {
        conn.expect_line("EHLO");
        conn.send_line("250-hi\r\n250-AUTH PLAIN\r\n250 XCLIENT ADDR PORT");
    }
}

/// Greets, and reads up to and including the password.
fn hear_password(protocol: Protocol, conn: &mut Conn) {
    match protocol {
        Imap => {
            conn.send_line("* OK [CAPABILITY IMAP4rev1] hi");
            conn.expect_line("LOGIN");
        }
        Pop3 => {
            conn.send_line("+OK hi");
            conn.expect_line("USER");
            conn.send_line("+OK");
            conn.expect_line("PASS");
        }
        ManageSieve => {
            conn.send_line("\"SASL\" \"PLAIN\"\r\nOK \"hi\"");
            conn.expect_line("AUTHENTICATE");
        }
        Submission => {
            conn.send_line("220 hi");
            conn.expect_line("EHLO");
            conn.send_line("250-hi\r\n250 AUTH PLAIN");
            conn.expect_line("AUTH");
        }
    }
}

#[test]
fn dead() {
    for protocol in Protocol::MAILBOX {
        let port = testkit::free_port();
        let at = SocketAddr::from(([127, 0, 0, 1], port.number()));
        refused_at(protocol, at, "", "", "connect", &["Connection refused", "more tries"]);
    }
}

#[test]
fn silent() {
    for protocol in Protocol::MAILBOX {
        no_password(&refused(protocol, Conn::hold, "timeout", &["proxy_timeout (2 s)", "state", "the row needs ssl"]));
    }
}

#[test]
fn silent_after_the_login() {
    for (protocol, state) in [(Imap, "login"), (Pop3, "state login2")] {
        let script = move |conn: &mut Conn| {
            hear_password(protocol, conn);
            conn.hold();
        };
        let heard = refused(protocol, script, "timeout", &[state]);
        assert_eq!(String::from_utf8_lossy(&heard).matches("top-secret").count(), 1);
    }
}

#[test]
fn refusing_the_connection() {
    for (protocol, greeting) in [(Imap, "* BYE go away"), (Pop3, "-ERR go away"), (Pop3, "-ERR [SYS/TEMP] go away")] {
        no_password(&refused(protocol, move |conn| conn.send_line(greeting), "backend-closed", &["go away"]));
    }
}

#[test]
fn already_authenticated() {
    let heard = refused(
        Imap,
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
    let all = ["220 mail.example ESMTP", "HTTP/1.1 400 Bad Request", "SSH-2.0-OpenSSH_9.2", "\u{16}\u{3}\u{1}"];
    let of_both = all.into_iter().flat_map(|greeting| [(Imap, greeting), (Pop3, greeting)]);
    for (protocol, greeting) in of_both.chain([(Imap, "+OK POP3 ready"), (Pop3, "* OK IMAP4rev1 ready"), (Pop3, "+ OK")]) {
        let heard = refused(
            protocol,
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
    for protocol in Protocol::MAILBOX {
        no_password(&refused(protocol, |_| {}, "backend-closed", &["state"]));
        let heard = refused(protocol, move |conn| hear_password(protocol, conn), "backend-closed", &["login"]);
        let text = String::from_utf8_lossy(&heard);
        assert_eq!(text.matches("top-secret").count(), 1, "a password is sent once: {text}");
    }
    // Between the name and the password.
    let script = |conn: &mut Conn| {
        conn.send_line("+OK hi");
        conn.expect_line("USER");
    };
    no_password(&refused(Pop3, script, "backend-closed", &["state login1"]));
}

#[test]
fn endless_banner() {
    for protocol in Protocol::MAILBOX {
        let heard = refused(
            protocol,
            |conn| {
                let sent = conn.flood(b"A", 32 << 20);
                assert!(sent < 32 << 20, "{sent} octets were taken");
            },
            "backend-protocol",
            &[],
        );
        no_password(&heard);
    }
}

#[test]
fn endless_lines_and_a_huge_first_line() {
    for (protocol, start, pattern) in [
        (Imap, "", "* OK still here\r\n"),
        (Imap, "* OK [CAPABILITY IMAP4rev1", " X-CAPABILITY"),
        (Pop3, "", "+OK still here\r\n"),
        (Pop3, "", "-ERR still here\r\n"),
        (Pop3, "+OK [XCLIENT]", " and more"),
    ] {
        let script = move |conn: &mut Conn| {
            conn.send(start);
            conn.flood(pattern.as_bytes(), 32 << 20);
        };
        let reason = if pattern.starts_with("-ERR") { "backend-closed" } else { "backend-protocol" };
        refused(protocol, script, reason, &[]);
    }
}

#[test]
fn answers_ahead_of_questions() {
    for (protocol, words) in [
        (Imap, "* OK [CAPABILITY IMAP4rev1 ID] hi\r\nL OK you are in\r\n"),
        (Pop3, "+OK [XCLIENT] hi\r\n+OK\r\n+OK\r\n+OK you are in\r\n"),
        (Pop3, "+OK hi\r\n+OK\r\n+OK you are in\r\n"),
        (Pop3, "+OK hi\r\n+ \r\n"),
    ] {
        let script = move |conn: &mut Conn| {
            conn.send(words);
            let _ = conn.read_to_end();
        };
        no_password(&refused(protocol, script, "backend-protocol", &[]));
    }
    // The answer to the password behind the one to the name.
    let script = |conn: &mut Conn| {
        conn.send_line("+OK hi");
        conn.expect_line("USER");
        conn.send("+OK\r\n+OK you are in\r\n");
        let _ = conn.read_to_end();
    };
    no_password(&refused(Pop3, script, "backend-protocol", &["stuffed"]));
}

#[test]
fn closing_after_the_login_is_told_where_it_is_safe() {
    // What the backend says after the login, and whether a line of ours may follow it.
    for (protocol, words, safe) in [
        (Imap, "", true),
        (Imap, "* 3 EXISTS\r\n", true),
        (Imap, "* 1 FETCH (BODY[] {1000}\r\nhalf of it\r\n", false),
        (Pop3, "", true),
        (Pop3, "-ERR no such message\r\n", true),
        (Pop3, "+OK 120 octets\r\nSubject: x\r\n\r\nall of it\r\n.\r\n", true),
        (Pop3, "+OK 1000 octets\r\nhalf of it\r\n", false),
        (Pop3, "+OK 1000 octets\r\nhalf of it\r\n-ERR is mail here\r\n", false),
        (Pop3, "+OK 1000 octets\r\nhalf of a li", false),
    ] {
        let server = FakeServer::start(move |conn| {
            Backend::of(protocol).login(conn);
            conn.send(words);
        });
        let fine = FakeBackend::start(Backend::of(protocol));
        let dir = Dir::new();
        dir.write("bob", format!("bob:::::::proxy=y nopassword=y host=127.0.0.1 port={}\n", fine.port()));
        let users =
            format!("[[users]]\nname = \"bob\"\ndriver = \"passwd-file\"\npath = \"bob\"\n{}", everybody_at(server.addr(), ""));
        let gate = Gate::start_in(dir, &Want { users: &users, more: POP3_TOO, ..Default::default() });
        let mut bob = gate.any_client(protocol);
        assert!(bob.login("bob", "b").ok);
        let mut client = gate.any_client(protocol);
        assert!(client.login("alice", "x").ok);
        let heard = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        drop(client);
        let goodbye = heard.strip_prefix(words).unwrap_or_else(|| panic!("{words:?} became {heard:?}"));
        let begins = if protocol == Imap { "* BYE " } else { "-ERR [SYS/TEMP] " };
        assert_eq!(goodbye.starts_with(begins) && goodbye.ends_with("\r\n"), safe, "{heard:?}");
        assert_eq!(goodbye.is_empty(), !safe, "{heard:?}");
        let end = gate.gatepost.wait_for(" info end ");
        assert!(end.contains("by=backend") && end.contains("user=alice"), "{end}");
        still_served(&mut bob);
    }
}

#[test]
fn try_later_is_tried_again() {
    for (protocol, answer, told) in [
        (Imap, "NO [UNAVAILABLE] \x1b[31mmoving\x1b[0m, come back", "[UNAVAILABLE]"),
        (Pop3, "-ERR [SYS/TEMP] \x1b[31mmoving\x1b[0m, come back", "[SYS/TEMP]"),
        (Pop3, "-ERR [SYS/TEMP/DISK] \x1b[31mmoving\x1b[0m, come back", "[SYS/TEMP]"),
    ] {
        let backend = Backend { answer: answer.to_owned(), ..Backend::of(protocol) };
        let server = FakeServer::start(move |conn| {
            backend.login(conn);
        });
        let users = everybody_at(server.addr(), "");
        let want = Want { users: &users, backend: "proxy_timeout = \"3s\"", more: POP3_TOO, ..Default::default() };
        let gate = Gate::start(&want);
        let reply = gate.any_client(protocol).login("alice", "x");
        assert!(!reply.ok && reply.text.starts_with(told) && reply.text.contains("come back"), "{reply:?}");
        assert!(!reply.text.contains('\x1b'), "{reply:?}");
        assert!(server.connections() > 1 && server.connections() <= 4, "{}", server.connections());
        assert!(gate.gatepost.wait_for(" refused protocol=").contains("reason=backend-unavailable "));
    }
}

#[test]
fn try_later_once_is_not_noticed() {
    for (protocol, answer) in [(Imap, "NO [UNAVAILABLE] moving"), (Pop3, "-ERR [SYS/TEMP] moving")] {
        let first = Arc::new(AtomicUsize::new(0));
        let server = FakeServer::start(move |conn| {
            let mut backend = Backend::of(protocol);
            if first.fetch_add(1, Ordering::SeqCst) == 0 {
                backend.answer = answer.to_owned();
            }
            if backend.login(conn).is_some() && backend.lets_in() {
                backend.echo(conn);
            }
        });
        let gate = Gate::start(&Want { users: &everybody_at(server.addr(), ""), more: POP3_TOO, ..Default::default() });
        let mut client = gate.any_client(protocol);
        assert!(client.login("alice", "x").ok, "{}", gate.gatepost.log().tail());
        assert!(gate.gatepost.wait_for(" info login ").contains("retries=1"));
        still_served(&mut client);
        assert_eq!(server.connections(), 2);
    }
}

#[test]
fn a_definite_no_is_told_as_what_it_is_and_not_tried_again() {
    const WRONG: &str = "[AUTHENTICATIONFAILED] Authentication failed.";
    const WRONG_POP3: &str = "[AUTH] Authentication failed.";
    for (protocol, answer, heard, reason) in [
        (Imap, "NO [AUTHENTICATIONFAILED] no such user alice", WRONG, "backend-credentials"),
        (Imap, "NO unknown user", WRONG, "backend-credentials"),
        (Imap, "BAD what", WRONG, "backend-credentials"),
        (Imap, "NO [LIMIT] too many", "[LIMIT] too many", "backend-limit"),
        (Imap, "NO [INUSE] busy", "[INUSE] busy", "backend-in-use"),
        (Imap, "NO [CONTACTADMIN] call us", "[CONTACTADMIN] call us", "backend-contact-admin"),
        (Imap, "NO [REFERRAL imap://evil.example/] there", UNAVAILABLE, "backend-server-bug"),
        (Imap, "NO [TRYLATER] there", UNAVAILABLE, "backend-server-bug"),
        (Pop3, "-ERR [AUTH] no such user alice", WRONG_POP3, "backend-credentials"),
        (Pop3, "-ERR unknown user", WRONG_POP3, "backend-credentials"),
        (Pop3, "-ERR", WRONG_POP3, "backend-credentials"),
        (Pop3, "-ERR [IN-USE] busy", "[IN-USE] busy", "backend-in-use"),
        (Pop3, "-ERR [LOGIN-DELAY] too many", "[IN-USE] too many", "backend-limit"),
        (Pop3, "-ERR [SYS/PERM] broken", SYS_TEMP, "backend-server-bug"),
        (Pop3, "-ERR [REFERRAL/alice@evil.example] there", SYS_TEMP, "backend-server-bug"),
        (Pop3, "-ERR [TRYLATER] there", SYS_TEMP, "backend-server-bug"),
        (Pop3, "-ERR plaintext is disallowed", SYS_TEMP, "backend-server-bug"),
    ] {
        let server = FakeServer::start(move |conn| {
            Backend { answer: answer.to_owned(), ..Backend::of(protocol) }.login(conn);
        });
        let gate = Gate::start(&Want { users: &everybody_at(server.addr(), ""), more: POP3_TOO, ..Default::default() });
        let mut client = gate.any_client(protocol);
        let reply = client.login("alice", "x");
        assert_eq!((reply.ok, reply.text.as_str()), (false, heard), "{answer}");
        assert!(client.noop().ok, "its connection is back before login: {answer}");
        assert_eq!(server.connections(), 1, "{answer}");
        // The journal has what the client was not told.
        let words = answer.rsplit_once("] ").or(answer.split_once(' ')).map_or("", |(_, words)| words);
        let line = gate.gatepost.wait_for(" refused protocol=");
        assert!(line.contains(words) && line.contains(&format!("reason={reason} ")), "{answer}: {line}");
    }
}

#[test]
fn a_backend_that_will_not_hear_who_is_calling() {
    let script = |conn: &mut Conn| {
        greet(Pop3, conn);
        conn.expect_line("XCLIENT ");
        conn.send_line("-ERR You are not trusted");
        while let Some(line) = conn.read_line() {
            conn.send_line(if line.starts_with("PASS") { "+OK in" } else { "+OK" });
            if line.starts_with("PASS") {
                Backend::of(Pop3).echo(conn);
            }
        }
    };
    no_password(&refused(Pop3, script, "backend-config", &["You are not trusted"]));
    let server = FakeServer::start(script);
    let users = everybody_at(server.addr(), "");
    let want = Want { users: &users, backend: "identity_refused = \"continue\"", more: POP3_TOO, ..Default::default() };
    let gate = Gate::start(&want);
    let mut client = gate.any_client(Pop3);
    assert!(client.login("alice", "x").ok, "{}", gate.gatepost.log().tail());
    let said = gate.gatepost.wait_for("identity-refused");
    assert!(said.contains("user alice") && said.contains("You are not trusted"), "{said}");
    assert!(gate.gatepost.wait_for(" info login ").contains("identity=not-told"));
    still_served(&mut client);
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
