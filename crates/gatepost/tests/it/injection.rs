//! Bytes in clear around STARTTLS, in both directions: whoever stands on the way can put words there that look as if they had
//! been said under TLS (CVE-2011-0411, CVE-2021-33515 and their kin). None of them has an effect.
//!
//! What counts is not only what is answered: databases are asked nothing, backends hear nothing, and the journal says what it
//! was. Words are put in one segment behind the command or behind its answer, and cut in two at every octet. What a backend
//! offers in clear is not what it offers under TLS, and only the latter counts.

mod backends;

use crate::gate::{Gate, OTHERS_TOO, Want, each_at_its_own};
use crate::metrics::Scrape;
use testkit::Protocol;
use testkit::peer::{AnyClient, Backend, FakeBackend};
use testkit::wait::until;

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
