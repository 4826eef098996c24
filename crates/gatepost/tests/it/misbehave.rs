//! Backends that do not behave: the right reply, the right line in the journal, inside the deadline, and nobody else suffers.

mod refusals;
mod tls;

use crate::gate::{Gate, OTHERS_TOO, Want, everybody_at};
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
    let gate = Gate::start_in(dir, &Want { users: &users, backend: &backend, more: OTHERS_TOO, ..Default::default() });
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

/// Runs all cases side by side: most of their time is waiting.
fn all_at_once<T: Send>(cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let run = &run;
            scope.spawn(move || run(case));
        }
    });
}

fn no_password(heard: &[u8]) {
    let text = String::from_utf8_lossy(heard);
    assert_eq!(passwords(heard), 0, "{text}");
    assert!(!text.contains("LOGIN") && !text.contains("PASS") && !text.contains("AUTH"), "{text}");
}

/// How often alice's password was said.
fn passwords(heard: &[u8]) -> usize {
    let text = String::from_utf8_lossy(heard);
    // As it is, and in the response of PLAIN.
    text.matches("top-secret").count() + text.matches("AGFsaWNlAHRvcC1zZWNyZXQ=").count()
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
    all_at_once(Protocol::ALL, |protocol| {
        let port = testkit::free_port();
        let at = SocketAddr::from(([127, 0, 0, 1], port.number()));
        refused_at(protocol, at, "", "", "connect", &["Connection refused", "more tries"]);
    });
}

#[test]
fn silent() {
    all_at_once(Protocol::ALL, |protocol| {
        no_password(&refused(protocol, Conn::hold, "timeout", &["proxy_timeout (2 s)", "state", "the row needs ssl"]));
    });
}

#[test]
fn silent_after_the_login() {
    let cases = [(Imap, "login"), (Pop3, "state login2"), (ManageSieve, "state auth"), (Submission, "state authenticate")];
    all_at_once(cases, |(protocol, state)| {
        let script = move |conn: &mut Conn| {
            hear_password(protocol, conn);
            conn.hold();
        };
        let heard = refused(protocol, script, "timeout", &[state]);
        assert_eq!(passwords(&heard), 1);
    });
}

#[test]
fn refusing_the_connection() {
    for (protocol, greeting) in [
        (Imap, "* BYE go away"),
        (Pop3, "-ERR go away"),
        (Pop3, "-ERR [SYS/TEMP] go away"),
        (ManageSieve, "BYE \"go away\""),
        (ManageSieve, "BYE (TRYLATER) {7}\r\ngo away"),
        (ManageSieve, "NO \"go away\""),
        (Submission, "554 go away"),
        (Submission, "554-5.3.2 please\r\n554 5.3.2 go away"),
        (Submission, "421 4.3.2 go away"),
    ] {
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
    let all = ["HTTP/1.1 400 Bad Request", "SSH-2.0-OpenSSH_9.2", "\u{16}\u{3}\u{1}"];
    let own = [
        (Imap, "* OK IMAP4rev1 ready"),
        (Pop3, "+OK POP3 ready"),
        (ManageSieve, "\"IMPLEMENTATION\" \"x\"\r\n\"SASL\" \"PLAIN\"\r\nOK \"ready\""),
        (Submission, "220 mail.example ESMTP"),
    ];
    let of_each = |greeting| Protocol::ALL.map(|protocol| (protocol, greeting));
    let others = own.into_iter().flat_map(|(whose, words)| of_each(words).into_iter().filter(move |(of, _)| *of != whose));
    for (protocol, greeting) in all.into_iter().flat_map(of_each).chain(others).chain([(Pop3, "+ OK"), (Submission, "2200 hi")]) {
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
    all_at_once(Protocol::ALL, |protocol| {
        no_password(&refused(protocol, |_| {}, "backend-closed", &["state"]));
        let state = if matches!(protocol, Imap | Pop3) { "state login" } else { "state auth" };
        let heard = refused(protocol, move |conn| hear_password(protocol, conn), "backend-closed", &[state]);
        assert_eq!(passwords(&heard), 1, "a password is sent once: {}", String::from_utf8_lossy(&heard));
    });
}

#[test]
fn closing_in_the_middle() {
    // Between the name and the password.
    let script = |conn: &mut Conn| {
        conn.send_line("+OK hi");
        conn.expect_line("USER");
    };
    no_password(&refused(Pop3, script, "backend-closed", &["state login1"]));
    // In the middle of what is listed, and when it was heard who is calling.
    for (protocol, words) in [(ManageSieve, "\"SASL\" \"PLAIN\"\r\n\"XCLIENT\"\r\n"), (Submission, "220-hi\r\n220")] {
        let script = move |conn: &mut Conn| conn.send(words);
        no_password(&refused(protocol, script, "backend-closed", &["state"]));
    }
    for protocol in [Pop3, ManageSieve, Submission] {
        let script = move |conn: &mut Conn| {
            greet(protocol, conn);
            conn.expect_line("XCLIENT ");
        };
        no_password(&refused(protocol, script, "backend-closed", &["xclient"]));
    }
    let script = |conn: &mut Conn| {
        conn.send_line("220 hi");
        conn.expect_line("EHLO");
        conn.send("250-hi\r\n250-AUTH PLAIN\r\n");
    };
    no_password(&refused(Submission, script, "backend-closed", &["ehlo"]));
}

#[test]
fn endless_banner() {
    for protocol in Protocol::ALL {
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
        (ManageSieve, "", "\"SIEVE\" \"still here\"\r\n"),
        (ManageSieve, "\"SIEVE\" \"", "and more "),
        (ManageSieve, "\"SIEVE\" {33000000}\r\n", "and more "),
        (ManageSieve, "OK {4294967295}\r\n", "and more "),
        (Submission, "", "220-still here\r\n"),
        (Submission, "220 ", "and more "),
        (Submission, "220 hi\r\n250-hi", "\r\n250-AUTH PLAIN"),
    ] {
        let script = move |conn: &mut Conn| {
            let (greeting, rest) =
                start.split_once("\r\n250").map_or(("", start), |(greeting, _)| start.split_at(greeting.len() + 2));
            conn.send(greeting);
            if !greeting.is_empty() {
                conn.expect_line("EHLO");
            }
            conn.send(rest);
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
        (ManageSieve, "\"SASL\" \"PLAIN\"\r\nOK \"hi\"\r\nOK \"you are in\"\r\n"),
        (ManageSieve, "\"SASL\" \"PLAIN\"\r\n\"XCLIENT\"\r\nOK \"hi\"\r\nOK \"Updated\"\r\nOK \"you are in\"\r\n"),
        (ManageSieve, "\"SASL\" \"LOGIN\"\r\nOK \"hi\"\r\n\"\"\r\n"),
        (Submission, "220 hi\r\n250-hi\r\n250 AUTH PLAIN\r\n235 you are in\r\n"),
        (Submission, "220 hi\r\n250 hi\r\n"),
        (Submission, "220 hi\r\n334 \r\n"),
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
    // The answer to AUTH behind the one to EHLO, or behind the one to XCLIENT.
    let script = |conn: &mut Conn| {
        conn.send_line("220 hi");
        conn.expect_line("EHLO");
        conn.send("250-hi\r\n250 AUTH PLAIN\r\n235 you are in\r\n");
        let _ = conn.read_to_end();
    };
    no_password(&refused(Submission, script, "backend-protocol", &["stuffed"]));
    for (protocol, words) in [
        (ManageSieve, "OK \"Updated\"\r\nOK \"you are in\"\r\n"),
        (Submission, "220 hi\r\n250-hi\r\n250 AUTH PLAIN\r\n235 you are in\r\n"),
    ] {
        let script = move |conn: &mut Conn| {
            greet(protocol, conn);
            conn.expect_line("XCLIENT ");
            conn.send(words);
            let _ = conn.read_to_end();
        };
        no_password(&refused(protocol, script, "backend-protocol", &["stuffed"]));
    }
}

/// A yes to nothing: no password was asked for, and some may have been said to somebody else.
#[test]
fn a_yes_without_a_question() {
    for (protocol, words) in [(ManageSieve, "OK \"you are in\""), (Submission, "235 2.7.0 you are in")] {
        let script = move |conn: &mut Conn| {
            match protocol {
                Submission => {
                    conn.send_line("220 hi");
                    conn.expect_line("EHLO");
                    conn.send_line("250-hi\r\n250 AUTH LOGIN");
                }
                _ => conn.send_line("\"SASL\" \"LOGIN\"\r\nOK \"hi\""),
            }
            // LOGIN says nothing before it is asked.
            conn.expect_line("AUTH");
            conn.send_line(words);
            let _ = conn.read_to_end();
        };
        let heard = refused(protocol, script, "backend-protocol", &[]);
        assert_eq!(passwords(&heard), 0, "{}", String::from_utf8_lossy(&heard));
    }
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
        (ManageSieve, "", true),
        (ManageSieve, "NO (NONEXISTENT) \"no such script\"\r\n", true),
        (ManageSieve, "{20}\r\nredirect \"x@y\";\r\nOK \r\nOK \"done\"\r\n", true),
        (ManageSieve, "{1000}\r\nhalf of it\r\n", false),
        (ManageSieve, "{1000}\r\nhalf of it\r\nOK \"is the script's\"\r\n", false),
        (ManageSieve, "\"one\"\r\n\"two", false),
        (Submission, "", true),
        (Submission, "550-5.1.1 nobody\r\n550 5.1.1 of that name\r\n", true),
        // Whoever sends a letter has not had the answer to it yet.
        (Submission, "354 go ahead\r\n", true),
        // TLS is the next thing to come.
        (Submission, "220 begin\r\n", false),
        (Submission, "250-ECHO\r\n", false),
        (Submission, "250 EC", false),
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
        let gate = Gate::start_in(dir, &Want { users: &users, more: OTHERS_TOO, ..Default::default() });
        let mut bob = gate.any_client(protocol);
        assert!(bob.login("bob", "b").ok);
        let mut client = gate.any_client(protocol);
        assert!(client.login("alice", "x").ok);
        let heard = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        drop(client);
        let goodbye = heard.strip_prefix(words).unwrap_or_else(|| panic!("{words:?} became {heard:?}"));
        let begins = match protocol {
            Imap => "* BYE ",
            Pop3 => "-ERR [SYS/TEMP] ",
            ManageSieve => "BYE ",
            Submission => "421 4.4.2 ",
        };
        assert_eq!(goodbye.starts_with(begins) && goodbye.ends_with("\r\n"), safe, "{heard:?}");
        assert_eq!(goodbye.is_empty(), !safe, "{heard:?}");
        let end = gate.gatepost.wait_for(" info end ");
        assert!(end.contains("by=backend") && end.contains("user=alice"), "{end}");
        still_served(&mut bob);
    }
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
