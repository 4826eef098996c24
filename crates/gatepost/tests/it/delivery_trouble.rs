//! Servers that take mail and misbehave, each beside one that does not: whoever lives elsewhere has the mail and hears so; whoever
//! lives there hears the truth, and no yes that the server has not said to this letter.

use crate::lmtp::{gatepost, pipelined};
use testkit::gatepost::Gatepost;
use testkit::peer::{At, Does, FakeLmtp, Lmtp, LmtpClient, LmtpSession, LmtpTransaction, SmtpReply};

/// One trouble.
struct Row {
    /// Of letters only: it is part of addresses.
    name: &'static str,
    server: Lmtp,
    /// More of the users' rows.
    fields: &'static str,
    /// How large the letter is.
    size: usize,
    /// What the server's three recipients hear in the end.
    heard: [&'static str; 3],
    /// Whether the next mail goes by the same connection.
    goes_on: bool,
}

const UNREACHED: [&str; 3] = ["451 4.3.0"; 3];
const LOST: [&str; 3] = ["451 4.4.2"; 3];
const TAKEN: [&str; 3] = ["250 2.0.0"; 3];
const LARGE: usize = 16 * 1024 * 1024;

fn row(name: &'static str, server: Lmtp, heard: [&'static str; 3]) -> Row {
    Row { name, server, fields: "", size: 100, heard, goes_on: false }
}

fn at(at: At, does: Does) -> Lmtp {
    Lmtp::default().with(at, does)
}

fn data() -> Lmtp {
    Lmtp::default().without(&["CHUNKING"])
}

fn goes_on(row: Row) -> Row {
    Row { goes_on: true, ..row }
}

fn answers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(piece, reply)| ((*piece).to_owned(), (*reply).to_owned())).collect()
}

/// Runs them at the same time, with recipients that are said one after the other and with all at once.
fn run(rows: Vec<Row>) {
    let good = FakeLmtp::start(Lmtp::default());
    let good_for_large = FakeLmtp::start(Lmtp { keeps_data: false, ..Lmtp::default() });
    let mut users = Vec::new();
    let mut cases = Vec::new();
    for row in &rows {
        let good = if row.size == LARGE { &good_for_large } else { &good };
        for manner in ["lone", "group"] {
            let server = FakeLmtp::start(row.server.clone());
            for (n, user) in recipients(row, manner).into_iter().enumerate() {
                let here = [server.port(), good.port()][n % 2];
                let fields = if n % 2 == 0 { row.fields } else { "" };
                users.push((user, format!("host=127.0.0.1 port={here} {fields}")));
            }
            cases.push((row, manner, server, good));
        }
    }
    let gatepost = gatepost(&users, "");
    std::thread::scope(|scope| {
        for (row, manner, server, good) in &cases {
            let gatepost = &gatepost;
            scope.spawn(move || one(row, manner, gatepost, server, good));
        }
    });
    assert_eq!(gatepost.log().count("panic"), 0, "{}", gatepost.log().tail());
    gatepost.stop();
}

/// Three of the server in trouble, and two of the other between them.
fn recipients(row: &Row, manner: &str) -> Vec<String> {
    ["a", "x", "b", "y", "c"].iter().map(|who| format!("{who}.{}.{manner}@in.test", row.name)).collect()
}

fn one(row: &Row, manner: &str, gatepost: &Gatepost, server: &FakeLmtp, good: &FakeLmtp) {
    let case = format!("{}, {manner}", row.name);
    let to = recipients(row, manner);
    let letter = letter(row.size);
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    let heard = mail(&mut client, manner, &to, &letter);
    let told: Vec<String> = heard.iter().map(SmtpReply::text).collect();
    let expected = [row.heard[0], "250 2.0.0", row.heard[1], "250 2.0.0", row.heard[2]];
    for (n, (told, expected)) in told.iter().zip(expected).enumerate() {
        assert!(told.starts_with(expected), "{case}: {}: {told}, expected {expected}", to[n]);
    }
    // No yes that the server has not said.
    for (user, _) in to.iter().zip(&told).step_by(2).filter(|(_, told)| told.starts_with('2')) {
        server.wait_for(&format!("{case}: {user}'s yes"), |sessions| {
            let of_whole = sessions.iter().flat_map(|s| &s.transactions).filter(|t| t.is_complete());
            of_whole.flat_map(|t| &t.taken).filter(|taken| taken.contains(&**user)).count() == 1
        });
    }
    for user in [&to[1], &to[3]] {
        once(good, &case, user, &letter);
    }
    // One line for each.
    for (user, told) in to.iter().zip(&told) {
        let lines: Vec<String> = gatepost.log().wait_for_count(&format!("to={user} "), 1);
        assert_eq!(lines.len(), 1, "{case}: {lines:#?}");
        let event = if told.starts_with('2') {
            " delivered"
        } else if told.starts_with('4') {
            " deferred"
        } else {
            " rejected"
        };
        assert!(lines[0].contains(event) && lines[0].contains(" took="), "{case}: {told}: {}", lines[0]);
    }
    // The same client goes on, and the server has come to its senses.
    server.behave(if row.fields.contains("smtp") { Lmtp::smtp() } else { Lmtp::default() });
    let before = server.connections();
    let heard = mail(&mut client, manner, &to, &self::letter(100));
    assert!(heard.iter().all(SmtpReply::is_ok), "{case}, the next mail: {heard:?}");
    assert_eq!(server.connections() == before, row.goes_on, "{case}: {before} connections, then {}", server.connections());
    client.quit();
}

/// This recipient has had it from this server, whole and once.
fn once(server: &FakeLmtp, case: &str, user: &str, letter: &[u8]) {
    let whole =
        |t: &LmtpTransaction| t.message.as_ref().is_some_and(|m| m.is_empty() || m.ends_with(letter)) && t.size > letter.len();
    let had = |sessions: &[LmtpSession]| {
        let all = sessions.iter().flat_map(|s| &s.transactions);
        all.filter(|t| t.taken.iter().any(|taken| taken.contains(user))).map(whole).collect::<Vec<bool>>()
    };
    server.wait_for(&format!("{case}: the letter of {user}"), |sessions| !had(sessions).is_empty());
    server.wait_for(&format!("{case}: no other letter of {user}"), |sessions| had(sessions) == [true]);
}

fn mail(client: &mut LmtpClient, manner: &str, to: &[String], letter: &[u8]) -> Vec<SmtpReply> {
    if manner == "lone" { client.transaction("s@out.test", to, letter) } else { pipelined(client, "s@out.test", to, letter) }
}

fn letter(size: usize) -> Vec<u8> {
    let mut letter = b"Subject: trouble\r\n\r\n".to_vec();
    while letter.len() < size {
        letter.extend_from_slice(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n");
    }
    letter
}

#[test]
fn a_server_that_dies_before_the_letter() {
    let garbage = || Does::say("what?\r\n");
    run(vec![
        row("connect", at(At::Connect, Does::Close), UNREACHED),
        row("connectreset", at(At::Connect, Does::Reset), UNREACHED),
        row("connectno", at(At::Connect, Does::say("554 5.3.2 not today\r\n")), UNREACHED),
        row("connectgarbage", at(At::Connect, garbage()).with(At::Connect, Does::Close), UNREACHED),
        row("greeted", at(At::Greeted, Does::Close), UNREACHED),
        row("hello", at(At::Hello, Does::Close), UNREACHED),
        row("helloleaves", at(At::Hello, Does::say("421 4.3.2 not now\r\n")).with(At::Hello, Does::Close), UNREACHED),
        row("helloendless", at(At::Hello, Does::SayForEver(b"250-x\r\n".to_vec())), UNREACHED),
        row("mail", at(At::Mail, Does::Close), LOST),
        row("mailgarbage", at(At::Mail, garbage()), LOST),
        row("mailendless", at(At::Mail, Does::SayForEver(b"250 x".to_vec())), LOST),
        row("rcptfirst", at(At::Rcpt(1), Does::Close), LOST),
        row("rcptsecond", at(At::Rcpt(2), Does::Close), LOST),
        row("rcptthird", at(At::Rcpt(3), Does::Reset), LOST),
        // Its recipients' own answers stand, and what comes behind the garbage is not taken for answers to the letter.
        row(
            "rcptno",
            Lmtp { at_rcpt: answers(&[("a.rcptno", "550 5.1.1 none such")]), ..at(At::Rcpt(2), Does::Close) },
            ["550 5.1.1", "451 4.4.2", "451 4.4.2"],
        ),
        row("rcptgarbage", at(At::Rcpt(2), garbage()).with(At::Dot, Does::Close), LOST),
        row("rcptgarbagetaken", at(At::Rcpt(2), garbage()), LOST),
        row("rcptendless", at(At::Rcpt(2), Does::SayForEver(b"250-2.1.5 x\r\n".to_vec())), LOST),
        row("rcptbare", at(At::Rcpt(2), Does::say("354 what\r\n")), LOST),
        row("data", data().with(At::Data, Does::Close), LOST),
        row("datagarbage", data().with(At::Data, garbage()), LOST),
    ]);
}

#[test]
fn a_server_that_dies_in_the_letter_or_behind_it() {
    let garbage = || Does::say("what?\r\n");
    let large = |row| Row { size: LARGE, ..row };
    run(vec![
        row("lastchunk", at(At::LastChunk, Does::Close), LOST),
        large(row("lastchunklarge", at(At::LastChunk, Does::Close), LOST)),
        row("indata", data().with(At::InData(50), Does::Close), LOST),
        large(row("indatalarge", data().with(At::InData(100_000), Does::Reset), LOST)),
        large(row("inchunk", at(At::InData(100_000), Does::Close), LOST)),
        row("dot", at(At::Dot, Does::Close), LOST),
        row("dotdata", data().with(At::Dot, Does::Reset), LOST),
        row("final", at(At::Final(1), Does::Close), LOST),
        row("finalsecond", at(At::Final(2), Does::Close), ["250 2.0.0", "451 4.4.2", "451 4.4.2"]),
        row("finalthird", data().with(At::Final(3), Does::Close), ["250 2.0.0", "250 2.0.0", "451 4.4.2"]),
        row("finalgarbage", at(At::Final(1), garbage()), LOST),
        row("finalgarbagethen", at(At::Final(2), garbage()), ["250 2.0.0", "451 4.4.2", "451 4.4.2"]),
        row("finalgoahead", at(At::Final(1), Does::say("354 go ahead\r\n")), LOST),
        row("finalendless", at(At::Final(2), Does::SayForEver(b"250-x\r\n".to_vec())), ["250 2.0.0", "451 4.4.2", "451 4.4.2"]),
        row("finalline", at(At::Final(1), Does::SayForEver(b"2".to_vec())), LOST),
        row("finalcut", at(At::Final(1), Does::say("250-2.0.0 a\r\n")).with(At::Final(1), Does::Close), LOST),
        row("finalcodes", at(At::Final(1), Does::say("250-2.0.0 a\r\n550 5.0.0 b\r\n")), LOST),
        row("toomany", at(At::Final(4), Does::say("250 2.0.0 once more\r\n")), TAKEN),
    ]);
}

#[test]
fn a_server_that_says_no() {
    let large = |row| Row { size: LARGE, ..row };
    let no = |at_rcpt: &[(&str, &str)], after_data: &[(&str, &str)]| Lmtp {
        at_rcpt: answers(at_rcpt),
        after_data: answers(after_data),
        ..Lmtp::default()
    };
    let leaves = || Does::say("421 4.3.2 going\r\n");
    run(vec![
        goes_on(row("atmail", Lmtp { at_mail: "452 4.3.1 full".into(), ..Lmtp::default() }, ["452 4.3.1"; 3])),
        goes_on(row("atmailalone", Lmtp { at_mail: "550 5.7.1 no".into(), ..data().without(&["PIPELINING"]) }, ["550 5.7.1"; 3])),
        row("mailleaves", at(At::Mail, leaves()).with(At::Mail, Does::Close), LOST),
        // It says so and stays: the others are taken, and the next mail goes elsewhere.
        row("rcptleaves", at(At::Rcpt(1), leaves()), ["451 4.3.2", "250 2.0.0", "250 2.0.0"]),
        row("rcptleft", at(At::Rcpt(1), leaves()).with(At::Rcpt(1), Does::Close), ["451 4.3.2", "451 4.4.2", "451 4.4.2"]),
        row("finalleaves", at(At::Final(1), leaves()), ["451 4.3.2", "250 2.0.0", "250 2.0.0"]),
        row("finalleft", at(At::Final(2), leaves()).with(At::Final(2), Does::Close), ["250 2.0.0", "451 4.3.2", "451 4.4.2"]),
        goes_on(row(
            "single",
            no(&[("a.single", "550 5.1.1 none such")], &[("b.single", "452 4.2.2 full")]),
            ["550 5.1.1", "452 4.2.2", "250 2.0.0"],
        )),
        goes_on(row(
            "lines",
            no(&[("b.lines", "450-4.1.1 a\n450-4.1.1 b\n450 4.1.1 c")], &[("c.lines", "552-5.2.2 a\n552 5.2.2 b")]),
            ["250 2.0.0", "450 4.1.1", "552 5.2.2"],
        )),
        goes_on(row("nobody", no(&[(".nobody", "550 5.1.1 none such")], &[]), ["550 5.1.1"; 3])),
        goes_on(row("datano", data().with(At::Data, Does::say("554 5.5.1 no\r\n")), ["554 5.5.1"; 3])),
        row("datayes", data().with(At::Data, Does::say("250 2.0.0 already there\r\n")), LOST),
        // What comes before the end can only be a no; the letter's end is not said any more, so nobody has it.
        large(row(
            "early",
            at(At::InData(100_000), Does::say("552 5.3.4 too much\r\n")).with(At::InData(100_000), Does::Close),
            ["552 5.3.4", "451 4.4.2", "451 4.4.2"],
        )),
        large(row(
            "earlyandhangs",
            at(At::InData(1000), Does::say("552 5.3.4 no\r\n")).with(At::InData(1000), Does::Hang),
            ["552 5.3.4", "451 4.4.2", "451 4.4.2"],
        )),
        large(row("earlyyes", at(At::InData(1000), Does::say("250 2.0.0 yes\r\n")).with(At::InData(1000), Does::Close), LOST)),
    ]);
}

#[test]
fn a_server_that_knows_little() {
    let smtp = |row| Row { fields: "protocol=smtp", ..row };
    run(vec![
        goes_on(row("serial", Lmtp::default().without(&["PIPELINING"]), TAKEN)),
        goes_on(row("bydata", data(), TAKEN)),
        goes_on(row("plain", Lmtp { capabilities: String::new(), ..Lmtp::default() }, TAKEN)),
        row("serialdies", Lmtp::default().without(&["PIPELINING"]).with(At::Rcpt(2), Does::Close), LOST),
        goes_on(smtp(row("smtp", Lmtp::smtp(), TAKEN))),
        goes_on(smtp(row("smtpserial", Lmtp::smtp().without(&["PIPELINING", "CHUNKING"]), TAKEN))),
        goes_on(smtp(row(
            "smtpno",
            Lmtp { after_data: answers(&[(".smtpno", "452 4.3.1 full")]), ..Lmtp::smtp() },
            ["452 4.3.1"; 3],
        ))),
        smtp(row("smtpdot", Lmtp::smtp().with(At::Dot, Does::Close), LOST)),
        smtp(row("smtptoomany", Lmtp::smtp().with(At::Final(2), Does::say("250 2.0.0 more\r\n")), TAKEN)),
    ]);
}
