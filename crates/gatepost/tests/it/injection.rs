//! Bytes in clear around STARTTLS, in both directions: whoever stands on the way can put words there that look as if they had
//! been said under TLS (CVE-2011-0411, CVE-2021-33515 and their kin). None of them has an effect.
//!
//! What counts is not only what is answered: databases are asked nothing, backends hear nothing, and the journal says what it
//! was. Words are put in one segment behind the command or behind its answer, and cut in two at every octet. What a backend
//! offers in clear is not what it offers under TLS, and only the latter counts.

use crate::gate::{Gate, OTHERS_TOO, Want, each_at_its_own, everybody_at, trouble};
use crate::metrics::Scrape;
use rustls::ServerConfig;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use testkit::certs::Authority;
use testkit::peer::{AnyClient, Backend, Conn, FakeBackend, FakeServer};
use testkit::wait::until;
use testkit::{Dir, Protocol};

use Protocol::{Imap, ManageSieve, Pop3, Submission};

/// A Gatepost for all protocols, whose databases count what they are asked.
struct House {
    gate: Gate,
    backends: [FakeBackend; 4],
}

impl House {
    fn start(trust: &str) -> House {
        let backends = Protocol::ALL.map(|protocol| FakeBackend::start(Backend::of(protocol)));
        let users = each_at_its_own(&backends, "");
        House { gate: Gate::start(&Want { users: &users, trust, more: OTHERS_TOO, ..Want::default() }), backends }
    }

    /// Nobody was looked up, nobody was called, and nobody was said to be somebody else.
    #[track_caller]
    fn nothing_has_happened(&self) {
        let scrape = Scrape::of(&self.gate);
        for (backend, protocol) in self.backends.iter().zip(Protocol::ALL) {
            let name = protocol.name();
            let lookups = scrape.value(&format!("gatepost_lookup_duration_seconds_count{{database=\"{name}\"}}"));
            assert_eq!((lookups, backend.connections()), (0.0, 0), "{name}: {}", self.gate.gatepost.log().tail());
        }
        for event in [" login ", " refused ", " identity ", "192.0.2.66", "evil"] {
            assert_eq!(self.gate.gatepost.log().count(event), 0, "{event}: {}", self.gate.gatepost.log().tail());
        }
    }
}

/// The command for TLS.
fn command(protocol: Protocol) -> &'static str {
    match protocol {
        Imap => "a STARTTLS\r\n",
        Pop3 => "STLS\r\n",
        ManageSieve | Submission => "STARTTLS\r\n",
    }
}

/// How its answer begins, which is all that a client hears in clear.
fn permission(protocol: Protocol) -> &'static str {
    match protocol {
        Imap => "a OK ",
        Pop3 => "+OK ",
        ManageSieve => "OK ",
        Submission => "220 ",
    }
}

/// What somebody on the way would put behind the command: a name and a password, who is calling, who has signed in.
fn injected(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Imap => &[
            "b LOGIN alice x\r\n",
            "b AUTHENTICATE PLAIN AGFsaWNlAHg=\r\n",
            "b ID (\"x-originating-ip\" \"192.0.2.66\")\r\n",
            "b",
        ],
        Pop3 => &["USER alice\r\nPASS x\r\n", "AUTH PLAIN AGFsaWNlAHg=\r\n", "XCLIENT ADDR=192.0.2.66\r\n", "U"],
        ManageSieve => &[
            "AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHg=\"\r\n",
            "AUTHENTICATE \"PLAIN\" {12+}\r\nAGFsaWNlAHg=\r\n",
            "XCLIENT ADDR=192.0.2.66\r\n",
            "NOOP \"evil\"\r\n",
            "CAPABILITY\r\nSTARTTLS\r\n",
            "A",
        ],
        Submission => &[
            "AUTH PLAIN AGFsaWNlAHg=\r\n",
            "EHLO evil\r\n",
            "EHLO evil\r\nAUTH PLAIN AGFsaWNlAHg=\r\n",
            "XCLIENT ADDR=192.0.2.66\r\n",
            "XCLIENT ADDR=192.0.2.66 LOGIN=alice\r\nEHLO evil\r\nMAIL FROM:<evil@example.org>\r\n",
            "MAIL FROM:<evil@example.org>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n",
            "STARTTLS\r\n",
            "A",
        ],
    }
}

/// Who is believed, and may even vouch for users.
const TRUSTED: &str = "networks = [\"127.0.0.1\"]\nlogin = [\"127.0.0.1\"]";

#[test]
fn words_behind_starttls_have_no_effect_in_any_protocol() {
    for trust in ["", TRUSTED] {
        let house = House::start(trust);
        for protocol in Protocol::ALL {
            for (number, words) in injected(protocol).iter().enumerate() {
                let log = house.gate.gatepost.log().from_here();
                let mut client = house.gate.any_client(protocol);
                if number % 2 == 0 {
                    client.say_hello();
                }
                client.send(format!("{}{words}", command(protocol)));
                let heard = String::from_utf8(client.read_to_end()).unwrap();
                let is_permission = heard.starts_with(permission(protocol)) && heard.lines().count() == 1;
                assert!(is_permission, "{} {words:?}: {heard}", protocol.name());
                let line = log.wait_for_all(&[" warning disconnect ", "reason=starttls-injection "]);
                assert!(line.contains(&format!("protocol={} ", protocol.name())), "{line}");
            }
        }
        house.nothing_has_happened();
    }
}

#[test]
fn words_that_come_in_two_pieces_have_no_effect_wherever_they_are_cut() {
    let house = House::start(TRUSTED);
    for protocol in Protocol::ALL {
        let asking = command(protocol);
        // The longest is cut most often.
        let words = injected(protocol).iter().max_by_key(|words| words.len()).unwrap();
        let all = format!("{asking}{words}");
        let log = house.gate.gatepost.log().from_here();
        for cut in 1..all.len() {
            let (first, second) = all.split_at(cut);
            let mut client = house.gate.any_client(protocol);
            client.send(first);
            let mut heard = Vec::new();
            if cut >= asking.len() {
                // What comes now comes instead of a handshake, or behind an end.
                heard = client.expect_line(permission(protocol)).into_bytes();
            }
            let _ = client.try_send(second);
            heard.extend(client.read_to_end());
            let text = String::from_utf8_lossy(&heard);
            assert!(text.starts_with(permission(protocol)), "{} cut at {cut}: {text}", protocol.name());
            // Behind the permission comes at most an alert of TLS: seven octets that begin with its type.
            let behind = match heard.iter().position(|octet| *octet == b'\n') {
                Some(end) => &heard[end + 1..],
                None => &heard[heard.iter().rposition(|octet| *octet == 0x15).unwrap_or(heard.len())..],
            };
            assert!(behind.len() <= 7 && behind.iter().all(|octet| *octet < 0x80), "{} cut at {cut}: {text}", protocol.name());
        }
        let name = format!("protocol={} ", protocol.name());
        let ended = || log.lines().iter().filter(|line| line.contains(" disconnect ") && line.contains(&name)).count();
        until("all are in the journal", || ended() == all.len() - 1);
        let known = ["reason=starttls-injection ", "reason=tls "];
        for line in log.lines().iter().filter(|line| line.contains(" disconnect ")) {
            assert!(known.iter().any(|reason| line.contains(reason)), "{line}");
        }
    }
    house.nothing_has_happened();
}

#[test]
fn what_a_client_called_itself_in_clear_is_not_known_under_tls() {
    let house = House::start("");
    let mut client = house.gate.any_client(Submission);
    let AnyClient::Submission(smtp) = &mut client else { unreachable!() };
    smtp.ehlo("clear.example");
    // Half of a login.
    smtp.expect("AUTH LOGIN", "334");
    smtp.expect("*", "501");
    smtp.starttls(&house.gate.tls, "localhost");
    smtp.expect("AUTH PLAIN AGFsaWNlAHg=", "503 5.5.1");
    smtp.expect("YWxpY2U=", "500 5.5.1");
    smtp.ehlo("tls.example");
    assert!(smtp.login("alice", "x").is_ok());
    let login = house.backends[3].wait_for_logins(1).remove(0);
    let told = format!("{:?} {:?}", login.hellos, login.xclients);
    assert!(told.contains("HELO=tls.example") && told.contains("EHLO tls.example"), "{told}");
    assert!(!told.contains("clear.example"), "{told}");
}

/// One exception has its switch: proxies of Dovecot 2.3 say who is calling in clear, and then ask for TLS.
#[test]
fn who_is_calling_is_taken_over_from_clear_only_where_that_is_meant() {
    for (words, counts) in [("", true), ("identity_before_tls = \"drop\"", false)] {
        let house = House::start(&format!("{TRUSTED}\n{words}"));
        for (backend, protocol) in house.backends.iter().zip(Protocol::ALL) {
            for (number, again) in [false, true].into_iter().enumerate() {
                let mut client = house.gate.any_client(protocol);
                assert!(client.introduce(([192, 0, 2, 66], 66).into(), "clear", 4).ok);
                client.starttls(&house.gate.tls, "localhost");
                if again {
                    assert!(client.introduce(([192, 0, 2, 7], 77).into(), "tls", 4).ok);
                }
                assert!(client.login("alice", "x").ok, "{}", house.gate.gatepost.log().tail());
                let login = backend.wait_for_logins(number + 1).remove(number);
                let told = login.introductions().join(" ");
                let has = ["192.0.2.66", "192.0.2.7 "].map(|ip| format!("{told} ").replace('"', " ").contains(ip));
                assert_eq!(has, [counts && !again, again], "{} {words}: {told}", protocol.name());
            }
        }
        // Who has signed in is part of it.
        let mut client = house.gate.any_client(Submission);
        let AnyClient::Submission(smtp) = &mut client else { unreachable!() };
        smtp.ehlo("proxy.example");
        assert!(smtp.xclient("ADDR=192.0.2.66 LOGIN=alice").is_ok());
        smtp.ehlo("proxy.example");
        smtp.starttls(&house.gate.tls, "localhost");
        smtp.ehlo("proxy.example");
        // With `nopassword` in the row, and nothing to sign in with, it gets no further than this.
        smtp.expect("MAIL FROM:<alice@example.org>", if counts { "454 4.7.0" } else { "530 5.7.0" });
    }
}

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
