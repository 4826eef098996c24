//! How known servers take XFORWARD, a row for each thing that was seen of them, played against our own front for LMTP; and what
//! was seen of Dovecot's XCLIENT by LMTP.
//!
//! A row says what a peer says and what the server of its *profile* answers (Postfix 3.12, Exim 4.99, Dovecot and nginx, observed).
//! It must come out as stated. Where we decided otherwise the row says what comes instead, and which decision that is: no row is
//! left out, and none is compared loosely. Each row begins on a fresh connection of a trusted peer, behind LHLO, which is what EHLO
//! is here.

use crate::xclient_vectors::{flush, shown};
use bytes::BytesMut;
use std::net::SocketAddr;
use wire::envelope::Verdict;
use wire::login::Terms;
use wire::machine::Step;
use wire::origin::trust::TrustedNets;
use wire::origin::xforward::Forwarded;
use wire::origin::{Origin, SessionId};
use wire::smtp::message::Caps;
use wire::smtp::message::front::{Event, Front};

/// One thing that was seen.
struct Row {
    number: &'static str,
    profile: Profile,
    /// What is said, a write each; CRLF is added. [`MESSAGE`] is a whole mail, of which only the last answer is noted.
    said: Vec<String>,
    /// What that server answers: reply codes with as many words behind them as matter, and what else comes of it.
    stated: Vec<&'static str>,
    /// Where we do otherwise: what we answer, and why.
    instead: Option<(Vec<&'static str>, &'static str)>,
    /// What we believe of each mail that is begun: who sent it.
    mails: Vec<String>,
    /// What we believe of the caller in the end.
    caller: &'static str,
    stranger: bool,
    before_lhlo: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Postfix,
    Exim,
    Dovecot,
    Nginx,
}

const UNCHANGED: &str = "-[203.0.113.9]:40000";
/// Nothing was said for a mail.
const NOTHING: &str = "-";
const MESSAGE: &str = "MESSAGE";
const LHLO: &str = "LHLO client.test";
const MAIL: &str = "MAIL FROM:<a@b.test>";
const XFORWARD: &str = "XFORWARD NAME=up.test ADDR=198.51.100.9 PORT=1234 PROTO=ESMTP";
const MORE: &str = "XFORWARD HELO=up.helo IDENT=ABCDEF123 SOURCE=REMOTE";
const FORWARDED: &str = "name=up.test addr=198.51.100.9 port=1234 proto=ESMTP";

// Decisions that more than one row meets.
const KNOWN: &str = "XFORWARD is known by LMTP here, to peers that are trusted";
const NO_RIGHT: &str = "a stranger hears that it has no right, as from Postfix";

fn row(number: &'static str, profile: Profile, said: &[&str], stated: &[&'static str], mails: &[&str]) -> Row {
    Row {
        number,
        profile,
        said: said.iter().map(|line| (*line).to_owned()).collect(),
        stated: stated.to_vec(),
        instead: None,
        mails: mails.iter().map(|mail| (*mail).to_owned()).collect(),
        caller: UNCHANGED,
        stranger: false,
        before_lhlo: false,
    }
}

impl Row {
    fn instead(self, codes: &[&'static str], why: &'static str) -> Row {
        Row { instead: Some((codes.to_vec(), why)), ..self }
    }

    fn stranger(self) -> Row {
        Row { stranger: true, ..self }
    }

    fn before_lhlo(self) -> Row {
        Row { before_lhlo: true, ..self }
    }

    fn caller(self, caller: &'static str) -> Row {
        Row { caller, ..self }
    }
}

#[rustfmt::skip] // A table is read by its columns.
fn postfix() -> Vec<Row> {
    use Profile::Postfix as P;
    let long = |name: &str, length: usize| format!("XFORWARD {name}={}", "a".repeat(length));
    let (proto_65, proto_64, proto) = (long("PROTO", 65), long("PROTO", 64), format!("proto={}", "a".repeat(64)));
    let (helo_256, helo_255, ident_255) = (long("HELO", 256), long("HELO", 255), long("IDENT", 255));
    let helo_and_ident = format!("helo={0} ident={0}", "a".repeat(255));
    let all = format!("{FORWARDED} helo=up.helo ident=ABCDEF123 source=REMOTE");
    let pipelined = format!("{XFORWARD}\r\n{MAIL}\r\nRCPT TO:<c@in.test>");
    vec![
        row("42", P, &["XCLIENT ADDR=192.0.2.10", "XFORWARD NAME=x", "XCLIENT", "XFORWARD", MESSAGE],
            &["550", "550", "501", "501", "250"], &[NOTHING]).stranger(),
        row("50", P, &[XFORWARD, MORE, MESSAGE], &["250 2.0.0", "250", "250"], &[&all]),
        row("51", P, &[XFORWARD, MORE, MESSAGE, MESSAGE], &["250", "250", "250", "250"], &[&all, NOTHING]),
        row("52", P, &["XFORWARD NAME=up.test", MESSAGE], &["250", "250"], &["name=up.test"]),
        row("53", P, &[XFORWARD, "RSET", MESSAGE], &["250", "250", "250"], &[NOTHING]),
        row("53", P, &[XFORWARD, MAIL, "RSET", MESSAGE], &["250", "250", "250", "250"], &[FORWARDED, NOTHING]),
        row("54", P, &[XFORWARD, LHLO, MESSAGE], &["250", "250", "250"], &[NOTHING]),
        row("55", P, &[XFORWARD, "MAIL FROM:bad<", MESSAGE], &["250", "501", "250"], &[FORWARDED]),
        row("56", P, &["XFORWARD", "XFORWARD FOO=x", "XFORWARD NAME=", "XFORWARD NAME"], &["501", "501", "501", "501"], &[]),
        row("57", P, &["XFORWARD ADDR=2001:db8::1", "XFORWARD ADDR=IPV6:2001:db8::1", MESSAGE], &["501", "250", "250"],
            &["addr=2001:db8::1"]),
        row("58", P, &[&proto_65, &proto_64, MESSAGE], &["501", "250", "250"], &[&proto]),
        row("59", P, &["XFORWARD SOURCE=foo", "XFORWARD SOURCE=local", MESSAGE], &["501", "250", "250"], &["source=LOCAL"]),
        row("59", P, &["XFORWARD SOURCE=local", "XFORWARD SOURCE=[UNAVAILABLE]", MESSAGE], &["250", "250", "250"], &["unknown"])
            .instead(&["250", "250", "250"], "what is unavailable is unknown, and nobody's mail is made local by that"),
        row("60", P, &["XFORWARD NAME=[TEMPUNAVAIL]", "XFORWARD LOGIN=joe", "XFORWARD DESTADDR=192.0.2.1"],
            &["501", "501", "501"], &[]),
        row("61", P, &[&helo_256, &helo_255, &ident_255, MESSAGE], &["501", "250", "250", "250"], &[&helo_and_ident]),
        row("62", P, &[XFORWARD], &["250"], &[]).before_lhlo(),
        row("62", P, &["HELO client.test", XFORWARD, MESSAGE], &["250", "250", "250"], &[FORWARDED])
            .instead(&["500 5.5.1", "250", "250"], "LMTP has LHLO, and nothing else to greet with (RFC 2033 section 4.1)"),
        row("63", P, &[&pipelined], &["250", "250", "250"], &[FORWARDED]),
        row("64", P, &[XFORWARD, "XCLIENT ADDR=192.0.2.10", LHLO, MESSAGE], &["250", "220", "250", "250"], &[NOTHING])
            .caller("-[192.0.2.10]:0"),
        row("65", P, &[XFORWARD, "STARTTLS", LHLO, MESSAGE], &["250", "220", "secure", "250", "250"], &[NOTHING]),
        row("66", P, &["XFORWARD NAME=up.test ADDR=bad", MESSAGE], &["501", "250"], &[NOTHING]),
    ]
}

#[rustfmt::skip]
fn others() -> Vec<Row> {
    use Profile::{Dovecot as D, Exim, Nginx};
    vec![
        row("80", Exim, &["XFORWARD NAME=a"], &["500"], &[]).instead(&["250 2.0.0"], KNOWN),
        row("93", D, &["XFORWARD ADDR=1.2.3.4"], &["500 5.5.1"], &[]).instead(&["250 2.0.0"], KNOWN),
        row("98", Nginx, &["XCLIENT ADDR=192.0.2.10", "XFORWARD ADDR=192.0.2.10"], &["500 5.5.1", "500 5.5.1"], &[])
            .instead(&["550 5.7.0", "550 5.7.0"], NO_RIGHT).stranger(),
        // What was seen of XCLIENT by LMTP.
        row("89", D, &[MAIL, "XCLIENT ADDR=192.0.2.10", "RCPT TO:<c@in.test>"], &["250", "503 5.5.0", "250"], &[NOTHING])
            .instead(&["250", "503 5.5.1", "250"], "a command out of order is 5.5.1 everywhere here, as in RFC 3463"),
        row("90", D, &["XCLIENT ADDR=192.0.2.10 HELO=c.test PROTO=ESMTP", MESSAGE], &["220", "250"], &[NOTHING])
            .caller("-[192.0.2.10]:0 helo=c.test proto=ESMTP"),
        row("94", D, &["XCLIENT ADDR=192.0.2.10\r\nLHLO client.test", MESSAGE], &["220", "250", "250"], &[NOTHING])
            .caller("-[192.0.2.10]:0"),
    ]
}

fn all() -> Vec<Row> {
    [postfix(), others()].into_iter().flatten().collect()
}

#[test]
fn every_row_is_here() {
    let rows = all();
    for number in (50..=66).chain([42, 80, 89, 90, 93, 94, 98]).map(|number| number.to_string()) {
        assert!(rows.iter().any(|row| row.number == number), "row {number} is missing");
    }
    for Row { number, stated, instead, .. } in rows {
        assert!(!stated.is_empty(), "{number}");
        assert!(instead.is_none_or(|(_, why)| why.len() > 20), "{number}: a decision has reasons");
    }
}

#[test]
fn every_row_comes_out_as_stated_or_as_decided() {
    let mut wrong = Vec::new();
    for row in all() {
        let (answers, mails, caller) = play(&row);
        let expected = row.instead.as_ref().map_or(&row.stated, |(codes, _)| codes);
        // "501" is met by "501 5.5.4 ...", but not by "5010".
        let meets = |(answer, expected): (&String, &&str)| {
            answer.strip_prefix(expected).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let fine = answers.len() == expected.len() && answers.iter().zip(expected).all(meets);
        if !fine || mails != row.mails || caller != row.caller {
            wrong.push(format!(
                "row {} of {:?}:\n  said {:?}\n  expected {expected:?}, {:?}, {}\n  heard    {answers:?}, {mails:?}, {caller}",
                row.number, row.profile, row.said, row.mails, row.caller
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Plays a row: what is answered, and what is believed of each mail and, in the end, of the caller.
fn play(row: &Row) -> (Vec<String>, Vec<String>, String) {
    let peer: SocketAddr = "203.0.113.9:40000".parse().expect("an address");
    let local = "198.51.100.1:24".parse().expect("an address");
    let mut origin = Origin::at_accept(peer, local, SessionId::new("row").expect("an identifier"));
    let nets = TrustedNets::new(vec!["203.0.113.0/24".parse().expect("a network")]);
    let proof = nets.admit(peer.ip()).expect("the peer is in the list");
    let terms = Terms {
        starttls: true,
        password_allowed: false,
        trusted: !row.stranger,
        may_vouch: false,
        xclient_as_exim: false,
        server: "mail.example.com".into(),
        capability: String::new(),
        greeting: "Ready.".into(),
        server_id: Vec::new(),
        retain_client_id: false,
    };
    let mut front = Front::new(terms.clone(), Caps::default());
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let (mut answers, mut mails) = (Vec::new(), Vec::new());
    let yes = Verdict::new(250, (0, 0), "OK");
    front.greet(&mut out);
    flush(&mut out, &mut answers);
    let lhlo = (!row.before_lhlo).then(|| "LHLO peer.test".to_owned());
    let skipped = lhlo.iter().count() + 1;
    for write in lhlo.iter().chain(&row.said) {
        let before = answers.len();
        let said = if write == MESSAGE { &format!("{MAIL}\r\nRCPT TO:<c@in.test>\r\nBDAT 3 LAST\r\nx") } else { write };
        input.extend_from_slice(said.as_bytes());
        input.extend_from_slice(b"\r\n");
        loop {
            let step = front.step(&mut input, &mut out).unwrap_or_else(|e| panic!("row {}: {e}", row.number));
            flush(&mut out, &mut answers);
            match step {
                Step::NeedInput => break,
                Step::Event(Event::Said(said)) => origin.amend(*said, &proof),
                Step::Event(Event::Secure) => {
                    answers.push("secure".to_owned());
                    assert!(input.is_empty());
                    front.secured(Terms { starttls: false, ..terms.clone() });
                }
                Step::Event(Event::Mail(mail)) => {
                    assert!(!row.stranger || mail.forwarded.is_empty(), "nobody else is believed");
                    let nothing = mail.forwarded.is_empty();
                    mails.push(if nothing { NOTHING.to_owned() } else { sender(&mail.forwarded.believed(&proof)) });
                    front.mail(&yes, &mut out);
                }
                Step::Event(Event::Recipients(rcpts)) => rcpts.iter().for_each(|_| front.recipient(&yes, &mut out)),
                Step::Event(Event::Letter) => front.go_on(&mut out),
                Step::Event(Event::End) => front.delivered(&yes, &mut out),
                Step::Event(Event::Piece(_) | Event::Reset) => {}
                Step::Event(event) => panic!("row {}: {event:?}", row.number),
            }
            flush(&mut out, &mut answers);
        }
        if write == MESSAGE {
            let last = answers.pop().expect("an answer");
            assert_eq!(answers.len() - before, 2, "row {}: {answers:?}", row.number);
            answers.truncate(before);
            answers.push(last);
        }
    }
    (answers.split_off(skipped), mails, shown(&origin))
}

/// Who sent a mail, as far as that is known.
fn sender(forwarded: &Forwarded) -> String {
    let Forwarded { name, addr, port, proto, helo, ident, source } = forwarded;
    let word = |word: &Option<Box<str>>| word.as_deref().map(str::to_owned);
    let known: Vec<String> = [
        ("name", word(name)),
        ("addr", addr.map(|addr| addr.to_string())),
        ("port", port.map(|port| port.to_string())),
        ("proto", word(proto)),
        ("helo", word(helo)),
        ("ident", word(ident)),
        ("source", source.map(|source| source.as_str().to_owned())),
    ]
    .into_iter()
    .filter_map(|(attribute, value)| value.map(|value| format!("{attribute}={value}")))
    .collect();
    if known.is_empty() { "unknown".to_owned() } else { known.join(" ") }
}
