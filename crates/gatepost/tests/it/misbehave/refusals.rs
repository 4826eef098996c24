//! Backends that say no: to a login for good or for now, and to hearing who is calling.

use super::{SYS_TEMP, UNAVAILABLE, all_at_once, no_password, refused, still_served, trouble};
use crate::gate::{Gate, OTHERS_TOO, Want, everybody_at};
use Protocol::{Imap, ManageSieve, Pop3, Submission};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::Protocol;
use testkit::peer::{Backend, Conn, FakeBackend, FakeServer, Xclient};

#[test]
fn try_later_is_tried_again() {
    let cases = [
        (Imap, "NO [UNAVAILABLE] \x1b[31mmoving\x1b[0m, come back", "[UNAVAILABLE]"),
        (Pop3, "-ERR [SYS/TEMP] \x1b[31mmoving\x1b[0m, come back", "[SYS/TEMP]"),
        (Pop3, "-ERR [SYS/TEMP/DISK] \x1b[31mmoving\x1b[0m, come back", "[SYS/TEMP]"),
        (ManageSieve, "NO (TRYLATER) \"\x1b[31mmoving\x1b[0m, come back\"", "(TRYLATER)"),
        (Submission, "454 4.7.0 \x1b[31mmoving\x1b[0m, come back", "454 4.7.0"),
        (Submission, "451 4.3.0 \x1b[31mmoving\x1b[0m, come back", "454 4.7.0"),
    ];
    all_at_once(cases, |(protocol, answer, told): (Protocol, &str, &str)| {
        let backend = Backend { answer: answer.to_owned(), ..Backend::of(protocol) };
        let server = FakeServer::start(move |conn| {
            backend.login(conn);
        });
        let users = everybody_at(server.addr(), "");
        let want = Want { users: &users, backend: "proxy_timeout = \"3s\"", more: OTHERS_TOO, ..Default::default() };
        let gate = Gate::start(&want);
        let reply = gate.any_client(protocol).login("alice", "x");
        assert!(!reply.ok && reply.text.starts_with(told) && reply.text.contains("come back"), "{reply:?}");
        assert!(!reply.text.contains('\x1b'), "{reply:?}");
        assert!(server.connections() > 1 && server.connections() <= 4, "{}", server.connections());
        assert!(gate.gatepost.wait_for(" refused protocol=").contains("reason=backend-unavailable "));
    });
}

#[test]
fn try_later_once_is_not_noticed() {
    for (protocol, answer) in [
        (Imap, "NO [UNAVAILABLE] moving"),
        (Pop3, "-ERR [SYS/TEMP] moving"),
        (ManageSieve, "NO (TRYLATER) \"moving\""),
        (Submission, "454 4.7.0 moving"),
    ] {
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
        let gate = Gate::start(&Want { users: &everybody_at(server.addr(), ""), more: OTHERS_TOO, ..Default::default() });
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
    const WRONG_SIEVE: &str = "\"Authentication failed.\"";
    const WRONG_SMTP: &str = "535 5.7.8 Authentication failed.";
    let (sieve_later, smtp_later) = (trouble(ManageSieve), trouble(Submission));
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
        (ManageSieve, "NO \"no such user alice\"", WRONG_SIEVE, "backend-credentials"),
        (ManageSieve, "NO {18}\r\nno such user alice", WRONG_SIEVE, "backend-credentials"),
        (ManageSieve, "NO (LIMIT/CONNECTIONS) \"too many\"", "(TRYLATER) \"too many\"", "backend-limit"),
        (ManageSieve, "NO (TRYLATER/NORETRY) \"there\"", sieve_later, "backend-server-bug"),
        (ManageSieve, "NO (REFERRAL \"sieve://evil.example\") \"there\"", sieve_later, "backend-server-bug"),
        (ManageSieve, "NO (ENCRYPT-NEEDED) \"use TLS\"", sieve_later, "backend-server-bug"),
        (Submission, "535 5.7.8 no such user alice", WRONG_SMTP, "backend-credentials"),
        (Submission, "535-5.7.8 no such\r\n535 5.7.8 user alice", WRONG_SMTP, "backend-credentials"),
        (Submission, "535 unknown user", WRONG_SMTP, "backend-credentials"),
        (Submission, "525 5.7.13 call us", "525 5.7.13 call us", "backend-contact-admin"),
        (Submission, "530 5.7.0 use TLS", smtp_later, "backend-server-bug"),
        (Submission, "538 5.7.11 use TLS", smtp_later, "backend-server-bug"),
        (Submission, "503 5.5.1 what", smtp_later, "backend-server-bug"),
        (Submission, "550 5.2.900 alice@evil.example:587 there", smtp_later, "backend-server-bug"),
    ] {
        let server = FakeServer::start(move |conn| {
            Backend { answer: answer.to_owned(), ..Backend::of(protocol) }.login(conn);
        });
        let gate = Gate::start(&Want { users: &everybody_at(server.addr(), ""), more: OTHERS_TOO, ..Default::default() });
        let mut client = gate.any_client(protocol);
        let reply = client.login("alice", "x");
        assert_eq!((reply.ok, reply.text.as_str()), (false, heard), "{answer}");
        assert!(client.noop().ok, "its connection is back before login: {answer}");
        assert_eq!(server.connections(), 1, "{answer}");
        // The journal has what the client was not told.
        let words = answer.rsplit_once("] ").or(answer.split_once(' ')).map_or("", |(_, words)| words);
        let words =
            if matches!(protocol, Imap | Pop3) { words } else { words.rsplit([' ', '"']).find(|word| !word.is_empty()).unwrap() };
        let line = gate.gatepost.wait_for(" refused protocol=");
        assert!(line.contains(words) && line.contains(&format!("reason={reason} ")), "{answer}: {line}");
    }
}

#[test]
fn a_backend_that_will_not_hear_who_is_calling() {
    for (protocol, no) in [
        (Pop3, "-ERR You are not trusted"),
        (ManageSieve, "NO \"You are not trusted\""),
        (Submission, "550 5.7.0 You are not trusted"),
    ] {
        let backend = Backend { xclient: Xclient::Answered(no.to_owned()), ..Backend::of(protocol) };
        let strict = backend.clone();
        let script = move |conn: &mut Conn| assert!(strict.login(conn).is_none(), "it was told a password");
        no_password(&refused(protocol, script, "backend-config", &["You are not trusted"]));
        let backend = FakeBackend::start(backend);
        let users = everybody_at(backend.addr(), "");
        let words = "identity_refused = \"continue\"";
        let gate = Gate::start(&Want { users: &users, backend: words, more: OTHERS_TOO, ..Default::default() });
        let mut client = gate.any_client(protocol);
        assert!(client.login("alice", "x").ok, "{}", gate.gatepost.log().tail());
        let said = gate.gatepost.wait_for("identity-refused");
        assert!(said.contains("user alice") && said.contains("You are not trusted"), "{said}");
        assert!(gate.gatepost.wait_for(" info login ").contains("identity=not-told"));
        still_served(&mut client);
    }
}

/// SMTP has two more ways to refuse: to have heard half of it, and to hear it later. Nothing goes on on that connection.
#[test]
fn an_xclient_that_is_heard_by_half_or_not_now() {
    for (no, refused, reason) in [
        ("501 5.5.4 Bad ADDR", "fail", "backend-config"),
        ("501 5.5.4 Bad ADDR", "continue", ""),
        ("421 4.3.2 going", "fail", "backend-closed"),
        ("421 4.3.2 going", "continue", "backend-closed"),
        ("450 4.7.0 not now", "continue", "backend-closed"),
    ] {
        let usual = Backend::of(Submission);
        let server = FakeServer::start(move |conn: &mut Conn| {
            conn.send_line("220 hi");
            while let Some(line) = conn.read_line() {
                match line.split(' ').next().unwrap_or_default() {
                    "EHLO" => conn.send_line("250-hi\r\n250-AUTH PLAIN\r\n250 XCLIENT ADDR PORT"),
                    "XCLIENT" => conn.send_line(no),
                    "AUTH" => {
                        conn.send_line("235 2.7.0 in");
                        return usual.echo(conn);
                    }
                    _ => conn.fail("what is that?"),
                }
            }
        });
        let words = format!("identity_refused = \"{refused}\"\nproxy_timeout = \"2s\"");
        let users = everybody_at(server.addr(), "");
        let gate = Gate::start(&Want { users: &users, backend: &words, more: OTHERS_TOO, ..Default::default() });
        let mut client = gate.any_client(Submission);
        let reply = client.login("alice", "top-secret");
        no_password(&server.wait_for_end(0));
        if reason.is_empty() {
            assert!(reply.ok, "{no}, {refused}: {reply:?}");
            still_served(&mut client);
            let second = server.received(1);
            assert!(!String::from_utf8_lossy(&second).contains("XCLIENT"), "{}", second.escape_ascii());
            assert!(gate.gatepost.wait_for("identity-refused").contains("Bad ADDR"));
            assert!(gate.gatepost.wait_for(" info login ").contains("identity=not-told"));
        } else {
            assert!(!reply.ok && reply.text.starts_with(trouble(Submission)), "{no}, {refused}: {reply:?}");
            let line = gate.gatepost.wait_for(" refused protocol=");
            assert!(line.contains(&format!("reason={reason} ")) && line.contains("side=backend"), "{no}, {refused}: {line}");
        }
    }
}
