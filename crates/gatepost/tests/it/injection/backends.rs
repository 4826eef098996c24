//! Towards backends: what they say in clear around the permission for TLS, and what they offer there.

use crate::gate::{Gate, OTHERS_TOO, Want, everybody_at, trouble};
use rustls::ServerConfig;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use testkit::certs::Authority;
use testkit::peer::{AnyClient, Conn, FakeServer};
use testkit::{Dir, Protocol};

use Protocol::{Imap, ManageSieve, Pop3, Submission};

/// What a backend may put behind its permission for TLS: answers to what is not asked yet, other offers, half a line.
fn stuffing(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Imap => &["* CAPABILITY IMAP4rev1 ID AUTH=PLAIN\r\nL OK in\r\n", "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\r\n", "*"],
        Pop3 => &["+OK\r\n+OK in\r\n", "+OK [XCLIENT] hi\r\n", "-ERR no\r\n", "+"],
        ManageSieve => &[
            "\"SASL\" \"PLAIN\"\r\n\"XCLIENT\"\r\nOK \"TLS is here\"\r\nOK \"Updated\"\r\nOK \"in\"\r\n",
            "OK \"in\"\r\n",
            "NO \"no\"\r\n",
            "BYE (REFERRAL \"sieve://evil.example\") \"there\"\r\n",
            "\"",
        ],
        Submission => &[
            "250-hi\r\n250-XCLIENT ADDR PORT LOGIN\r\n250 AUTH PLAIN\r\n220 hi\r\n250 hi\r\n235 2.7.0 in\r\n",
            "235 2.7.0 in\r\n",
            "220 hi\r\n",
            "535 5.7.8 wrong\r\n",
            "2",
        ],
    }
}

/// Greets as one that offers everything, and reads the command for TLS: the permission, with its end.
fn asked_for_tls(protocol: Protocol, conn: &mut Conn) -> String {
    match protocol {
        Imap => {
            conn.send_line("* OK [CAPABILITY IMAP4rev1 ID STARTTLS AUTH=PLAIN] hi");
            let line = conn.expect_line("STARTTLS");
            format!("{} OK begin\r\n", line.split(' ').next().unwrap_or_default())
        }
        Pop3 => {
            conn.send_line("+OK [XCLIENT] hi");
            conn.expect_line("STLS");
            "+OK begin\r\n".to_owned()
        }
        ManageSieve => {
            conn.send_line("\"SASL\" \"PLAIN\"\r\n\"STARTTLS\"\r\n\"XCLIENT\"\r\nOK \"hi\"");
            conn.expect_line("STARTTLS");
            "OK \"begin\"\r\n".to_owned()
        }
        Submission => {
            conn.send_line("220 hi");
            conn.expect_line("EHLO");
            conn.send_line("250-hi\r\n250-AUTH PLAIN\r\n250-XCLIENT ADDR PORT HELO LOGIN\r\n250 STARTTLS");
            conn.expect_line("STARTTLS");
            "220 2.0.0 begin\r\n".to_owned()
        }
    }
}

/// In clear a backend is asked for TLS and hears nothing of anybody.
#[track_caller]
fn knows_nobody(protocol: Protocol, heard: &[u8]) {
    let text = String::from_utf8_lossy(heard);
    // What else it hears is the beginning of a handshake.
    let clear = text.split('\u{16}').next().unwrap_or_default();
    for word in ["alice", "secret", "AUTH", "LOGIN", "PASS", "XCLIENT", "ID ", "client.test", "127.0.0."] {
        assert!(!clear.contains(word), "{}: {word}: {clear}", protocol.name());
    }
}

#[test]
fn replies_behind_the_permission_for_tls_have_no_effect() {
    for protocol in Protocol::ALL {
        let turn = Arc::new(AtomicUsize::new(0));
        let next = Arc::clone(&turn);
        let server = FakeServer::start(move |conn| {
            let yes = asked_for_tls(protocol, conn);
            conn.send(format!("{yes}{}", stuffing(protocol)[next.fetch_add(1, Ordering::SeqCst)]));
            let _ = conn.read_to_end();
        });
        let users = everybody_at(server.addr(), r#", starttls = "any-cert""#);
        let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Want::default() });
        for (number, words) in stuffing(protocol).iter().enumerate() {
            let log = gate.gatepost.log().from_here();
            let reply = gate.any_client(protocol).login("alice", "secret");
            assert!(!reply.ok && reply.text.starts_with(trouble(protocol)), "{} {words:?}: {reply:?}", protocol.name());
            let line = log.wait_for(" refused protocol=");
            assert!(line.contains("reason=backend-protocol ") && line.contains("(stuffed)"), "{line}");
            knows_nobody(protocol, &server.wait_for_end(number));
        }
        assert_eq!(server.connections(), stuffing(protocol).len(), "nobody tries that again");
        server.finish();
    }
}

#[test]
fn replies_that_come_in_two_pieces_have_no_effect_wherever_they_are_cut() {
    for protocol in Protocol::ALL {
        let words = stuffing(protocol)[0];
        let place = Arc::new(AtomicUsize::new(1));
        let at = Arc::clone(&place);
        let server = FakeServer::start(move |conn| {
            let yes = asked_for_tls(protocol, conn);
            let all = format!("{yes}{words}");
            let cut = at.load(Ordering::SeqCst);
            let (first, second) = all.split_at(cut.min(all.len()));
            conn.send(first);
            if cut == yes.len() {
                // The handshake has begun: what comes now comes instead of its answer.
                assert_eq!(conn.read_exact(1), b"\x16");
            }
            let _ = conn.try_send(second);
            let _ = conn.read_to_end();
        });
        let users = everybody_at(server.addr(), r#", starttls = "any-cert", proxy_timeout = "1""#);
        let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Want::default() });
        // The permission has 8 to 17 octets.
        for cut in 1..=17 + words.len().min(20) {
            place.store(cut, Ordering::SeqCst);
            let log = gate.gatepost.log().from_here();
            let reply = gate.any_client(protocol).login("alice", "secret");
            assert!(!reply.ok && reply.text.starts_with(trouble(protocol)), "{} cut at {cut}: {reply:?}", protocol.name());
            let line = log.wait_for(" refused protocol=");
            let known = ["reason=backend-protocol ", "reason=backend-tls "];
            assert!(known.iter().any(|reason| line.contains(reason)), "cut at {cut}: {line}");
        }
        drop(gate);
        for number in 0..server.connections() {
            knows_nobody(protocol, &server.wait_for_end(number));
        }
        server.finish();
    }
}

/// What a backend offers: in clear, and under TLS.
#[derive(Clone, Copy)]
struct Faces {
    protocol: Protocol,
    clear: &'static str,
    secure: &'static str,
    /// The words of the commands that it then must hear under TLS, in order.
    hears: &'static [&'static str],
    /// What the journal says of the identity.
    identity: &'static str,
}

const FACES: [Faces; 6] = [
    Faces {
        protocol: ManageSieve,
        clear: "\"SIEVE\" \"evil\"\n\"SASL\" \"PLAIN\"\n\"XCLIENT\"\n\"STARTTLS\"",
        secure: "\"SIEVE\" \"fileinto\"\n\"SASL\" \"LOGIN\"",
        hears: &["AUTHENTICATE \"LOGIN\""],
        identity: "identity=not-offered",
    },
    Faces {
        protocol: ManageSieve,
        clear: "\"SIEVE\" \"evil\"\n\"SASL\" \"\"\n\"STARTTLS\"",
        secure: "\"SIEVE\" \"fileinto\"\n\"SASL\" \"PLAIN\"\n\"XCLIENT\"",
        hears: &["XCLIENT ADDR=127.0.0.1", "AUTHENTICATE \"PLAIN\""],
        identity: "identity=told",
    },
    Faces {
        protocol: Submission,
        clear: "SIZE 666\nAUTH PLAIN\nXCLIENT ADDR PORT HELO LOGIN FORWARD\nSTARTTLS",
        secure: "SIZE 1000\nAUTH LOGIN",
        hears: &["EHLO", "AUTH LOGIN"],
        identity: "identity=not-offered",
    },
    Faces {
        protocol: Submission,
        clear: "SIZE 666\nSTARTTLS",
        secure: "SIZE 1000\nAUTH PLAIN\nXCLIENT ADDR PORT",
        hears: &["EHLO", "XCLIENT ADDR=127.0.0.1", "EHLO", "AUTH PLAIN"],
        identity: "identity=told",
    },
    Faces {
        protocol: Submission,
        clear: "SIZE 666\nAUTH PLAIN LOGIN\nXCLIENT ADDR PORT PROTO HELO LOGIN SESSION TTL FORWARD\nSTARTTLS",
        secure: "SIZE 1000\nAUTH PLAIN\nXCLIENT PORT ADDR",
        hears: &["EHLO", "XCLIENT ADDR=127.0.0.1 PORT=", "EHLO", "AUTH PLAIN"],
        identity: "identity=told",
    },
    Faces {
        protocol: Imap,
        clear: "ID AUTH=PLAIN SASL-IR STARTTLS",
        secure: "AUTH=PLAIN",
        hears: &["CAPABILITY", "LOGIN"],
        identity: "identity=not-offered",
    },
];

impl Faces {
    fn list(&self, conn: &mut Conn, words: &str, tag: &str) {
        match self.protocol {
            ManageSieve => conn.send_line(format!("{}\r\nOK \"hi\"", words.replace('\n', "\r\n"))),
            Submission => conn.send_line(format!("250-hi\r\n250-{}", words.replace('\n', "\r\n250-")).replacen(
                &format!("250-{}", words.lines().last().unwrap_or_default()),
                &format!("250 {}", words.lines().last().unwrap_or_default()),
                1,
            )),
            _ => conn.send_line(format!("* CAPABILITY IMAP4rev1 {words}\r\n{tag} OK done")),
        }
    }

    /// Serves a login, and returns what was heard of it under TLS, line by line.
    fn serve(&self, conn: &mut Conn, tls: &Arc<ServerConfig>) -> Vec<String> {
        match self.protocol {
            ManageSieve => {
                self.list(conn, self.clear, "");
                conn.expect_line("STARTTLS");
                conn.send_line("OK \"begin\"");
            }
            Submission => {
                conn.send_line("220 hi");
                conn.expect_line("EHLO");
                self.list(conn, self.clear, "");
                conn.expect_line("STARTTLS");
                conn.send_line("220 begin");
            }
            _ => {
                conn.send_line(format!("* OK [CAPABILITY IMAP4rev1 {}] hi", self.clear));
                let line = conn.expect_line("STARTTLS");
                conn.send_line(format!("{} OK begin", line.split(' ').next().unwrap_or_default()));
            }
        }
        conn.accept_tls(tls);
        if self.protocol == ManageSieve {
            self.list(conn, self.secure, "");
        }
        let mut heard = Vec::new();
        while let Some(line) = conn.read_line() {
            let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let said = if self.protocol == Imap { rest } else { &line };
            let word = said.split(' ').next().unwrap_or_default();
            heard.push(said.to_owned());
            match (self.protocol, word) {
                (Submission, "EHLO") => self.list(conn, self.secure, ""),
                (Imap, "CAPABILITY") => self.list(conn, self.secure, tag),
                (Submission, "XCLIENT") => conn.send_line("220 hi"),
                (ManageSieve, "XCLIENT") => conn.send_line("OK \"Updated\""),
                (_, "LOGIN") => {
                    conn.send_line(format!("{tag} OK [CAPABILITY IMAP4rev1] in"));
                    return heard;
                }
                (_, "AUTH" | "AUTHENTICATE") => {
                    let by_login = said.contains("LOGIN");
                    for challenge in ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"].iter().filter(|_| by_login) {
                        let line =
                            if self.protocol == Submission { format!("334 {challenge}") } else { format!("\"{challenge}\"") };
                        conn.send_line(line);
                        conn.expect_line("");
                    }
                    conn.send_line(if self.protocol == Submission { "235 2.7.0 in" } else { "OK \"in\"" });
                    return heard;
                }
                _ => conn.fail("what is that?"),
            }
        }
        heard
    }
}

#[test]
fn what_was_offered_in_clear_does_not_count_under_tls() {
    let dir = Dir::new();
    let tls = Authority::new(dir.path(), "ca").server("backend", &["127.0.0.1"]).server_config();
    for faces in FACES {
        let (note, heard) = channel();
        let (note, tls) = (Mutex::new(note), tls.clone());
        let server = FakeServer::start(move |conn| {
            let lines = faces.serve(conn, &tls);
            note.lock().unwrap().send(lines).unwrap();
            conn.hold();
        });
        let users = everybody_at(server.addr(), r#", starttls = "any-cert", forward_x = "y""#);
        let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Want::default() });
        let mut client = gate.any_client(faces.protocol);
        assert!(client.login("alice", "x").ok, "{}", gate.gatepost.log().tail());
        let heard = crate::gate::next(&heard);
        let fits = heard.len() == faces.hears.len() && heard.iter().zip(faces.hears).all(|(line, word)| line.starts_with(word));
        assert!(fits, "{heard:?} is not {:?}", faces.hears);
        // By SMTP nothing is said that is not listed.
        assert!(faces.protocol != Submission || !heard.concat().contains("FORWARD"), "{heard:?}");
        assert!(gate.gatepost.wait_for(" info login ").contains(faces.identity), "{}", gate.gatepost.log().tail());
        // And who comes next is told what it can do under TLS.
        let mut next = gate.any_client(faces.protocol);
        let listed = match &mut next {
            AnyClient::ManageSieve(client) => client.listed().get("SIEVE").cloned(),
            AnyClient::Submission(client) => client.ehlo("client.test").get("SIZE").map(str::to_owned),
            _ => continue,
        };
        let told = if faces.protocol == ManageSieve { "fileinto" } else { "1000" };
        assert_eq!(listed.as_deref(), Some(told), "{}", next.dialogue());
    }
}
