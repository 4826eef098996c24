//! How known servers take XCLIENT, a row for each thing that was seen of them, played against our own front for Submission.
//!
//! A row says what a peer says and what the server of its *profile* answers (Postfix 3.12, Exim 4.99, Dovecot 2.3, KumoMTA,
//! Haraka and nginx, observed or read from their source). It is played under our terms for that kind of peer, and must come out
//! as stated. Where we decided otherwise the row says what comes instead, and which decision that is: no row is left out, and
//! none is compared loosely. Each row begins on a fresh connection of a trusted peer, behind EHLO.
//!
//! What needs a mail server or the whole program names the test of the program that shows it.

use bytes::BytesMut;
use std::net::SocketAddr;
use wire::login::{Front as _, LoginEvent, Mechanism, Terms, Welcome};
use wire::machine::Step;
use wire::origin::trust::TrustedNets;
use wire::origin::{Origin, SessionId, Told};
use wire::smtp::{Caps, front::Front};

/// One thing that was seen.
struct Row {
    number: &'static str,
    profile: Profile,
    /// What is said, a write each; CRLF is added.
    said: Vec<String>,
    /// What that server answers: reply codes with as many words behind them as matter, and what else comes of it.
    stated: Vec<&'static str>,
    /// Where we do otherwise: what we answer, and why.
    instead: Option<(Vec<&'static str>, &'static str)>,
    /// What we believe of the caller afterwards.
    believed: String,
    /// The program's test that shows the rest of it: file and name.
    elsewhere: Option<&'static str>,
    starttls: bool,
    stranger: bool,
    before_ehlo: bool,
    bad_commands: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Postfix,
    Exim,
    Dovecot,
    Kumo,
    Haraka,
    Nginx,
    /// Postfix behind a PROXY header.
    Proxied,
}

const UNCHANGED: &str = "-[203.0.113.9]:40000";

const ADDR: &str = "XCLIENT ADDR=192.0.2.10";
const EHLO: &str = "EHLO client.test";
const MAIL: &str = "MAIL FROM:<a@b.test>";
const RCPT: &str = "RCPT TO:<c@foreign.test>";

/// Where what a mail server makes of it is seen.
const RELAYING: &str = "xclient_said::postfix_relays_for_the_user_that_was_named_and_for_nobody";

// Decisions that more than one row meets.
const NO_MAIL: &str = "mail wants a login; what was said of the client is the mail server's to judge, and is told to it";
const SAID_AGAIN: &str =
    "trust is tested on the peer of the connection and never on a claimed address: XCLIENT may be said again";
const NOBODY_ELSE: &str = "behind LOGIN it may be the user who speaks, through the peer: nobody becomes another";
const NO_TRANSACTION: &str = "there is no transaction before the login; behind it XCLIENT is the mail server's";
const NO_XFORWARD: &str = "XFORWARD is about mails and not about logins, and is not known here";
const BOTH_SPELLINGS: &str = "IPv6 addresses are taken with IPV6: and bare: peers say both";
const WHOLE_OR_NOTHING: &str = "a command counts as a whole or not at all, and one that did not may be said again";
const STRICT: &str = "what two readers could read differently is refused";
const ALL_IS_LISTED: &str = "we list every attribute and take each by itself; Exim's habits are asked for, not its gaps";

fn row(number: &'static str, profile: Profile, said: &[&str], stated: &[&'static str], believed: &str) -> Row {
    Row {
        number,
        profile,
        said: said.iter().map(|line| (*line).to_owned()).collect(),
        stated: stated.to_vec(),
        instead: None,
        believed: believed.to_owned(),
        elsewhere: None,
        starttls: false,
        stranger: false,
        before_ehlo: false,
        bad_commands: Caps::default().bad_commands,
    }
}

impl Row {
    fn instead(self, codes: &[&'static str], why: &'static str) -> Row {
        Row { instead: Some((codes.to_vec(), why)), ..self }
    }

    fn elsewhere(self, test: &'static str) -> Row {
        Row { elsewhere: Some(test), ..self }
    }

    fn stranger(self) -> Row {
        Row { stranger: true, ..self }
    }

    fn before_ehlo(self) -> Row {
        Row { before_ehlo: true, ..self }
    }
}

#[rustfmt::skip] // A table is read by its columns.
fn postfix() -> Vec<Row> {
    use Profile::Postfix as P;
    let long = |name: &str, length: usize| format!("XCLIENT {name}={}", "a".repeat(length));
    let (helo_256, helo_255, name_255) = (long("HELO", 256), long("HELO", 255), long("NAME", 255));
    let helo_is = format!("{UNCHANGED} helo={}", "a".repeat(255));
    vec![
        row("1", P, &["XCLIENT NAME=client.test ADDR=192.0.2.10", "STATE"], &["220", "await-ehlo"], "client.test[192.0.2.10]:0"),
        row("2", P, &["XCLIENT NAME=client.test ADDR=192.0.2.10", EHLO], &["220", "250"], "client.test[192.0.2.10]:0")
            .instead(&["220", "250 XCLIENT"], SAID_AGAIN),
        row("3", P, &["XCLIENT NAME=client.test ADDR=192.0.2.10", "XCLIENT ADDR=192.0.2.11"], &["220", "550 5.7.0"],
            "-[192.0.2.11]:0")
            .instead(&["220", "220"], SAID_AGAIN),
        row("4", P, &[ADDR], &["220"], "-[192.0.2.10]:0").before_ehlo(),
        row("5", P, &["XCLIENT"], &["501 5.5.4"], UNCHANGED),
        row("6", P, &["XCLIENT FOO=bar"], &["501"], UNCHANGED),
        row("7", P, &["XCLIENT NAME"], &["501"], UNCHANGED),
        row("8", P, &["XCLIENT NAME="], &["501"], UNCHANGED),
        row("9", P, &["XCLIENT =x"], &["501"], UNCHANGED),
        row("10", P, &["XCLIENT NAME=bad_name..x"], &["501"], UNCHANGED),
        row("11", P, &["XCLIENT NAME=-foo"], &["501"], UNCHANGED),
        row("12", P, &["XCLIENT NAME=192.0.2.1"], &["501"], UNCHANGED),
        row("13", P, &["XCLIENT NAME=x_y.test"], &["220"], "x_y.test[203.0.113.9]:40000"),
        row("14", P, &["XCLIENT ADDR=foo", "XCLIENT ADDR=999.1.1.1"], &["501", "501"], UNCHANGED),
        row("15", P, &["XCLIENT ADDR=[192.0.2.1]"], &["501"], UNCHANGED),
        row("16", P, &["XCLIENT ADDR=2001:db8::1"], &["501"], "-[2001:db8::1]:0").instead(&["220"], BOTH_SPELLINGS),
        row("17", P, &["XCLIENT ADDR=IPV6:2001:DB8:0:0::1 NAME=[UNAVAILABLE]"], &["220"], "unknown[2001:db8::1]:0"),
        row("18", P, &["xclient addr=ipv6:2001:db8::2 name=[unavailable]"], &["220"], "unknown[2001:db8::2]:0"),
        row("19", P, &["XCLIENT ADDR=IPV6:192.0.2.1"], &["501"], UNCHANGED),
        row("20", P, &["XCLIENT ADDR=IPV6:::ffff:192.0.2.7"], &["220"], "-[192.0.2.7]:0"),
        row("21", P, &["XCLIENT PORT=abc", "XCLIENT PORT=123456"], &["501", "501"], UNCHANGED),
        row("22", P, &["XCLIENT PORT=99999"], &["220"], UNCHANGED).instead(&["501"], "a port is a number from 1 to 65535"),
        row("23", P, &["XCLIENT PROTO=LMTP", "XCLIENT PROTO=HTTP", "XCLIENT PROTO=[UNAVAILABLE]"], &["501", "501", "501"],
            "-[203.0.113.9]:40000 proto=LMTP")
            .instead(&["220", "501", "501"], "LMTP is known, as Dovecot says it of clients that came by it"),
        row("24", P, &[&helo_256], &["501"], UNCHANGED),
        row("25", P, &[&helo_255], &["220"], &helo_is),
        row("26", P, &[&name_255], &["501"], UNCHANGED),
        row("27", P, &["XCLIENT DESTADDR=foo", "XCLIENT DESTPORT=x"], &["501", "501"], UNCHANGED),
        row("28", P, &["XCLIENT LOGIN="], &["501"], UNCHANGED),
        row("29", P, &["XCLIENT ADDR=[TEMPUNAVAIL]", "XCLIENT PORT=[TEMPUNAVAIL]"], &["501", "501"], UNCHANGED),
        row("30", P, &["XCLIENT ADDR=192.0.2.10 NAME=[TEMPUNAVAIL]"], &["220"], "unknown-for-now[192.0.2.10]:0"),
        row("31", P, &["XCLIENT ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE] \
            DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE]"], &["220"], "unknown[203.0.113.9]:40000 helo=unknown")
            .instead(&["220"], "an address that is not known is not said: limits and logs need one, and the peer's is true"),
        row("32", P, &["XCLIENT ADDR=192.0.2.10 HELO=client.helo PROTO=ESMTP PORT=4321", "STATE", MAIL],
            &["220", "await-command", "250"], "-[192.0.2.10]:4321 helo=client.helo proto=ESMTP")
            .instead(&["220", "await-command", "530 5.7.0"], NO_MAIL),
        row("33", P, &["XCLIENT HELO=h.test PROTO=ESMTP LOGIN=joe", "XCLIENT NAME=client.test ADDR=192.0.2.10", MAIL],
            &["220", "220", "250"], "-[203.0.113.9]:40000 helo=h.test proto=ESMTP")
            .instead(&["220", "550 5.7.0", "login joe"], NOBODY_ELSE),
        row("34", P, &["XCLIENT ADDR=192.0.2.10 LOGIN=joe+40example.org", EHLO, MAIL],
            &["220", "250", "250"], "-[192.0.2.10]:0")
            .instead(&["220", "250", "login joe@example.org"],
                "the user signs in at the mail server, which answers MAIL and relays or not")
            .elsewhere(RELAYING),
        row("35", P, &[ADDR, EHLO, MAIL, RCPT],
            &["220", "250", "250", "554"], "-[192.0.2.10]:0")
            .instead(&["220", "250", "530 5.7.0", "530 5.7.0"], NO_MAIL)
            .elsewhere(RELAYING),
        row("36", P, &["XCLIENT ADDR=192.0.2.10 LOGIN=joe", "EHLO one.test", "XCLIENT ADDR=192.0.2.11", "EHLO two.test",
            MAIL, RCPT], &["220", "250", "220", "250", "250", "554"], "-[192.0.2.10]:0")
            .instead(&["220", "250", "550 5.7.0", "250", "login joe", "relayed"], NOBODY_ELSE),
        row("37", P, &[MAIL, ADDR, "RSET", ADDR],
            &["250", "503", "250", "220"], "-[192.0.2.10]:0")
            .instead(&["530 5.7.0", "220", "250", "220"], NO_TRANSACTION),
        row("38", P, &["XCLIENT ADDR=192.0.2.10 ADDR=192.0.2.20"], &["220"], UNCHANGED).instead(&["501"], STRICT),
        row("39", P, &["XCLIENT ADDR=192.0.2.10 FOO=x", MAIL], &["501", "250"], UNCHANGED)
            .instead(&["501", "530 5.7.0"], WHOLE_OR_NOTHING),
        row("40", P, &["XCLIENT ADDR=192.0.2.66", EHLO, MAIL, RCPT],
            &["220", "250", "250", "554"], "-[192.0.2.66]:0")
            .instead(&["220", "250", "530 5.7.0", "530 5.7.0"], NO_MAIL),
        row("41", P, &["XCLIENT ADDR=192.0.2.66", EHLO, MAIL], &["554", "503 5.7.0", "503"],
            "-[192.0.2.66]:0")
            .instead(&["220", "250", "530 5.7.0"], NO_MAIL),
        row("42", P, &[ADDR, "XFORWARD NAME=x", "XCLIENT", "XFORWARD"], &["550", "550", "501", "501"], UNCHANGED)
            .instead(&["550 5.7.0", "500 5.5.1", "501 5.5.4", "500 5.5.1"], NO_XFORWARD).stranger(),
        row("43", P, &["XCLIENT HELO=a+2Bb+3Dc+20d ADDR=192.0.2.10"], &["220"], UNCHANGED)
            .instead(&["501"], "a blank is in no name that a client can have said; nothing is replaced by question marks"),
        row("43", P, &["XCLIENT HELO=a+2Bb+3Dc ADDR=192.0.2.10"], &["220"], "-[192.0.2.10]:0 helo=a+b=c"),
        row("44", P, &["XCLIENT HELO=a+zzb+4 ADDR=192.0.2.10"], &["220"], UNCHANGED).instead(&["501"], STRICT),
        row("45", P, &["XCLIENT HELO=evil+0D+0AX-Inj:+20y ADDR=192.0.2.10 PROTO=ESMTP"], &["220"], UNCHANGED)
            .instead(&["501"], STRICT),
        row("46", P, &["XCLIENT   ADDR=192.0.2.10\tPORT=1"], &["220"], "-[192.0.2.10]:1"),
        row("47", P, &["XCLIENT ADDR=192.0.2.10\r\nEHLO client.test\r\nMAIL FROM:<a@b.test>"], &["554 5.5.0", "closed"],
            "-[192.0.2.10]:0")
            .instead(&["220", "554 5.5.0", "closed"], "a greeting may stand behind XCLIENT, and only behind it is too much said"),
        row("47", P, &["XCLIENT ADDR=192.0.2.10\r\nMAIL FROM:<a@b.test>"], &["554 5.5.0", "closed"], UNCHANGED),
        Row { starttls: true, ..row("48", P, &["STARTTLS", EHLO, ADDR, EHLO],
            &["220", "secure", "250 XCLIENT", "220", "250 XCLIENT"], "-[192.0.2.10]:0") },
        row("49", P, &["XCLIENT ADDR=192.0.2.10 NAME=one.test PORT=1", EHLO, "XCLIENT ADDR=192.0.2.11"],
            &["220", "250", "220"], "-[192.0.2.11]:0")
            .instead(&["220", "250", "220"], "name and port belong to their address: what is not said of a new one is not known"),
    ]
}

#[rustfmt::skip]
fn exim() -> Vec<Row> {
    use Profile::Exim as E;
    vec![
        row("67", E, &["XCLIENT ADDR=192.0.2.10 PORT=4321 NAME=client.test", MAIL], &["220", "503"],
            "client.test[192.0.2.10]:4321"),
        row("68", E, &["XCLIENT ADDR=192.0.2.10 NAME=[UNAVAILABLE]", "XCLIENT ADDR=192.0.2.10 PORT=1"], &["501", "550"],
            "-[192.0.2.10]:1")
            .instead(&["501", "220"], WHOLE_OR_NOTHING),
        row("68", E, &["XCLIENT ADDR=192.0.2.10 NAME=[UNAVAILABLE]"], &["501"], UNCHANGED),
        row("69", E, &["XCLIENT ADDR=192.0.2.10 PORT=4321"], &["503"], UNCHANGED).before_ehlo(),
        Row { bad_commands: 4, ..row("70", E, &["XCLIENT", "XCLIENT FOO=bar", "XCLIENT NAME", "XCLIENT NAME="],
            &["501", "501", "501", "501", "closed"], UNCHANGED)
            .instead(&["501", "501", "501", "421 4.7.0", "closed"],
                "how many are too many is a setting, and what ends a connection is 421") },
        row("71", E, &["XCLIENT ADDR=192.0.2.10 PORT=4321 HELO=foo", "XCLIENT ADDR=192.0.2.11 PORT=4321 PROTO=ESMTP"],
            &["501", "501"], "-[192.0.2.11]:4321 proto=ESMTP")
            .instead(&["220", "220"], ALL_IS_LISTED),
        row("72", E, &["XCLIENT ADDR=IPV6:2001:db8::1 PORT=4321"], &["220"], "-[2001:db8::1]:4321")
            .instead(&["220"], "an address is an address and not its spelling; in Exim the prefix stays, which is a defect"),
        row("73", E, &["XCLIENT ADDR=2001:db8::1 PORT=4321"], &["220"], "-[2001:db8::1]:4321"),
        row("74", E, &["XCLIENT ADDR=192.0.2.10 PORT=4321 LOGIN=a+4", "XCLIENT ADDR=192.0.2.11 PORT=1"], &["501", "550"],
            "-[192.0.2.11]:1")
            .instead(&["501", "220"], WHOLE_OR_NOTHING),
        row("75", E, &[MAIL, "XCLIENT ADDR=192.0.2.10 PORT=1"], &["250", "503"], "-[192.0.2.10]:1")
            .instead(&["530 5.7.0", "220"], NO_TRANSACTION),
        row("76", E, &["XCLIENT ADDR=192.0.2.10 PORT=1 NAME=a.test", "XCLIENT NAME=[TEMPUNAVAIL]"], &["220", "220"],
            "unknown-for-now[192.0.2.10]:1"),
        row("77", E, &["AUTH PLAIN AGpvZQBwdw==", "XCLIENT ADDR=192.0.2.10 PORT=1", EHLO], &["235", "220", "250"], UNCHANGED)
            .instead(&["login joe", "235 2.7.0", "relayed", "relayed"], NO_TRANSACTION),
        row("78", E, &["XCLIENT ADDR=192.0.2.10 PORT=1 LOGIN=joe", EHLO, "AUTH PLAIN AGFubgBwdw=="], &["220", "250", "503"],
            "-[192.0.2.10]:1"),
        row("79", E, &["XCLIENT ADDR=192.0.2.10 PORT=1"], &["550"], UNCHANGED).stranger(),
    ]
}

#[rustfmt::skip]
fn others() -> Vec<Row> {
    use Profile::{Dovecot as D, Haraka, Kumo, Nginx, Proxied};
    vec![
        row("81", D, &["XCLIENT"], &["220"], UNCHANGED).instead(&["501"], STRICT),
        row("82", D, &["XCLIENT FOO=bar", "XCLIENT NAME", "XCLIENT NAME="], &["220", "220", "220"], UNCHANGED)
            .instead(&["501", "501", "501"], STRICT),
        row("83", D, &["XCLIENT ADDR=foo", "XCLIENT PORT=x", "XCLIENT PROTO=HTTP"], &["501", "501", "501"], UNCHANGED),
        row("84", D, &["XCLIENT PORT=0", "XCLIENT PORT=65536", "XCLIENT TTL=x", "XCLIENT TIMEOUT=x"],
            &["501", "501", "501", "501"], UNCHANGED),
        row("85", D, &["XCLIENT HELO=a+zz"], &["501"], UNCHANGED),
        row("86", D, &["XCLIENT ADDR=192.0.2.1  PORT=4"], &["501"], "-[192.0.2.1]:4")
            .instead(&["220"], "blanks may run together, as Postfix and Exim have it"),
        row("87", D, &["XCLIENT ADDR=2001:db8::1", "XCLIENT ADDR=IPV6:2001:db8::1", "XCLIENT ADDR=IPV6:192.0.2.1"],
            &["220", "220", "501"], "-[2001:db8::1]:0"),
        row("88", D, &[ADDR], &["220"], "-[192.0.2.10]:0").before_ehlo(),
        row("89", D, &[MAIL, ADDR], &["250", "503 5.5.0"], "-[192.0.2.10]:0")
            .instead(&["530 5.7.0", "220"], NO_TRANSACTION),
        row("90", D, &["XCLIENT ADDR=192.0.2.10 HELO=c.test PROTO=ESMTP", MAIL], &["220", "250"],
            "-[192.0.2.10]:0 helo=c.test proto=ESMTP")
            .instead(&["220", "530 5.7.0"], NO_MAIL)
            .elsewhere("xclient_said::postfix_keeps_the_client_and_the_user_of_the_last_of_several_commands"),
        row("91", D, &[ADDR, MAIL], &["220", "530 5.7.0"], "-[192.0.2.10]:0"),
        row("92", D, &["AUTH PLAIN AGpvZQBwdw==", ADDR], &["235", "502 5.5.1"], UNCHANGED)
            .instead(&["login joe", "235 2.7.0", "relayed"], NO_TRANSACTION),
        // With EHLO in place of LHLO. As they are, 89, 90 and 94 are played by LMTP: see `xforward_vectors`.
        row("94", D, &["XCLIENT ADDR=192.0.2.10\r\nEHLO client.test"], &["220", "250"], "-[192.0.2.10]:0"),
        row("95", Kumo, &["XCLIENT NAME=x"], &["501"], "x[203.0.113.9]:40000").instead(&["220"], ALL_IS_LISTED),
        row("96", Kumo, &["XCLIENT ADDR=192.0.2.1", "XCLIENT PORT=1"], &["220", "550"], "-[192.0.2.1]:1")
            .instead(&["220", "220"], SAID_AGAIN),
        row("96a", Kumo, &["XCLIENT ADDR=IPV6:2001:db8::1"], &["501"], "-[2001:db8::1]:0").instead(&["220"], BOTH_SPELLINGS),
        row("96b", Haraka, &["XCLIENT ADDR=2001:db8::1"], &["501"], "-[2001:db8::1]:0").instead(&["220"], BOTH_SPELLINGS),
        row("97", Haraka, &["XCLIENT NAME=x.test"], &["501"], "x.test[203.0.113.9]:40000").instead(&["220"], ALL_IS_LISTED),
        row("98", Nginx, &[ADDR, "XFORWARD ADDR=192.0.2.10"], &["500 5.5.1", "500 5.5.1"], UNCHANGED)
            .instead(&["550 5.7.0", "500 5.5.1"], "a stranger hears that it has no right, as from Postfix").stranger(),
        row("103", Proxied, &[ADDR], &["550"], UNCHANGED).stranger()
            .elsewhere("proxy_protocol::a_balancer_lends_its_trust_to_nobody"),
    ]
}

fn all() -> Vec<Row> {
    [postfix(), exim(), others()].into_iter().flatten().collect()
}

#[test]
fn every_row_is_here() {
    let rows = all();
    let numbers = (1..=49).chain(67..=79).chain(81..=92).chain([94, 95, 96, 97, 98, 103]).map(|number| number.to_string());
    for number in numbers.chain(["96a", "96b"].map(str::to_owned)) {
        assert!(rows.iter().any(|row| row.number == number), "row {number} is missing");
    }
    for row in rows {
        let Row { number, stated, instead, elsewhere, .. } = row;
        assert!(!stated.is_empty(), "{number}");
        assert!(instead.is_none_or(|(_, why)| why.len() > 20), "{number}: a decision has reasons");
        if let Some((file, name)) = elsewhere.map(|test| test.split_once("::").expect("file::name")) {
            let path = format!("{}/../gatepost/tests/it/{file}.rs", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect(&path);
            assert!(text.contains(&format!("fn {name}()")), "{number}: {path} has no test {name}");
        }
    }
}

#[test]
fn every_row_comes_out_as_stated_or_as_decided() {
    let mut wrong = Vec::new();
    for row in all() {
        let (answers, believed) = play(&row);
        let expected = row.instead.as_ref().map_or(&row.stated, |(codes, _)| codes);
        // "501" is met by "501 5.5.4 ...", but not by "5010".
        let meets = |(answer, expected): (&String, &&str)| {
            answer.strip_prefix(expected).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let fine = answers.len() == expected.len() && answers.iter().zip(expected).all(meets);
        if !fine || believed != row.believed {
            let elsewhere = row.elsewhere.unwrap_or("nowhere else");
            wrong.push(format!(
                "row {} of {:?}, seen {elsewhere}:\n  said {:?}\n  expected {expected:?}, {}\n  heard    {answers:?}, {believed}",
                row.number, row.profile, row.said, row.believed
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Plays a row: what is answered, and what is believed in the end.
fn play(row: &Row) -> (Vec<String>, String) {
    let peer: SocketAddr = "203.0.113.9:40000".parse().expect("an address");
    let local = "198.51.100.1:587".parse().expect("an address");
    let mut origin = Origin::at_accept(peer, local, SessionId::new("row").expect("an identifier"));
    let nets = TrustedNets::new(vec!["203.0.113.0/24".parse().expect("a network")]);
    let terms = Terms {
        starttls: row.starttls,
        password_allowed: !row.starttls,
        trusted: !row.stranger,
        may_vouch: !row.stranger,
        xclient_as_exim: row.profile == Profile::Exim,
        server: "mail.example.com".into(),
        capability: String::new(),
        greeting: "Ready.".into(),
        server_id: Vec::new(),
        retain_client_id: false,
    };
    let caps = Caps { bad_commands: row.bad_commands, ..Caps::default() };
    let mut front = Front::new(terms.clone(), caps);
    let mut out = BytesMut::new();
    front.greet(&mut out);
    let mut answers = Vec::new();
    let mut input = BytesMut::new();
    let ehlo = (!row.before_ehlo).then(|| "EHLO peer.test".to_owned());
    let skipped = ehlo.iter().count() + 1;
    let mut reading = true;
    for write in ehlo.iter().chain(&row.said) {
        if write == "STATE" {
            flush(&mut out, &mut answers);
            answers.push(front.state().to_owned());
            continue;
        }
        input.extend_from_slice(write.as_bytes());
        input.extend_from_slice(b"\r\n");
        if !reading {
            answers.push("relayed".to_owned());
        }
        while reading {
            let step = front.step(&mut input, &mut out);
            flush(&mut out, &mut answers);
            match step {
                Ok(Step::NeedInput) => break,
                Ok(Step::Event(LoginEvent::Said(said))) => {
                    let proof = nets.admit(peer.ip()).expect("the peer is in the list");
                    origin.amend(*said, &proof);
                }
                Ok(Step::Event(LoginEvent::Secure)) => {
                    answers.push("secure".to_owned());
                    assert!(input.is_empty());
                    front.secured(Terms { starttls: false, password_allowed: true, ..terms.clone() });
                }
                Ok(Step::Event(LoginEvent::Login(login))) => {
                    answers.push(format!("login {}", login.user));
                    assert_eq!(login.password.is_none(), login.mechanism == Mechanism::Xclient);
                    assert_eq!(
                        input.starts_with(b"MAIL"),
                        login.mechanism == Mechanism::Xclient,
                        "MAIL is left for the mail server"
                    );
                    front.welcome(&Welcome::default(), &mut out);
                    flush(&mut out, &mut answers);
                    reading = false;
                }
                Ok(Step::Event(event)) => panic!("row {}: {event:?}", row.number),
                Err(_) => {
                    answers.push("closed".to_owned());
                    reading = false;
                }
            }
        }
    }
    (answers.split_off(skipped), shown(&origin))
}

/// Replies, each as one line: of several lines the code, and the keywords among them that may depend on the peer.
pub(crate) fn flush(out: &mut BytesMut, answers: &mut Vec<String>) {
    let text = String::from_utf8(out.split().to_vec()).expect("ASCII");
    let mut keywords = Vec::new();
    for line in text.split_terminator("\r\n") {
        let (code, rest) = line.split_at(3);
        let words = rest.strip_prefix(' ').or(rest.strip_prefix('-')).expect("a reply");
        keywords.extend(["STARTTLS", "XCLIENT", "XFORWARD"].into_iter().find(|known| words.split(' ').next() == Some(*known)));
        if let Some(last) = rest.strip_prefix(' ') {
            let several = text.contains(&format!("{code}-"));
            answers.push(if several { [&[code], &keywords[..]].concat().join(" ") } else { format!("{code} {last}") });
            keywords.clear();
        }
    }
}

/// `name[address]:port`, and what else is known of the client.
pub(crate) fn shown(origin: &Origin) -> String {
    let told = |told: &Option<Told>| match told {
        None => "-".to_owned(),
        Some(Told::Known(word)) => word.to_string(),
        Some(Told::Unavailable) => "unknown".to_owned(),
        Some(Told::TemporarilyUnavailable) => "unknown-for-now".to_owned(),
    };
    let client = origin.client.0;
    let mut shown = format!("{}[{}]:{}", told(&origin.host_name), client.ip(), client.port());
    if origin.helo.is_some() {
        shown.push_str(&format!(" helo={}", told(&origin.helo)));
    }
    if let Some(spoke) = origin.spoke {
        shown.push_str(&format!(" proto={}", spoke.as_str()));
    }
    shown
}
