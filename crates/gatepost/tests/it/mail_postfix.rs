//! A real Postfix in front of LMTP, and one behind that takes mail by SMTP: who the sender's client was, what became of each
//! recipient, and letters of every kind.

use crate::lmtp::gatepost;
use testkit::dovecot::{self, Backend, Refusal};
use testkit::gatepost::Gatepost;
use testkit::peer::{FakeLmtp, Lmtp, LmtpTransaction, SmtpClient};
use testkit::postfix::{self, Hop, Options, Postfix, Relay};
use testkit::{Dir, free_port};

/// A socket that Postfix may use beside the port, and whose word about clients counts.
const TRUSTING: &str = "[[listen]]
protocol = \"lmtp\"
address = [\"unix:lmtp.sock\"]
socket_mode = \"0666\"
[trust]
networks = [\"127.0.0.1\"]
";

const LETTER: &[u8] = b"Subject: x\r\n\r\nWords.\r\n.\r\n";

/// One that takes all mail, believes our XCLIENT, and relays `in.test`.
#[track_caller]
fn front(hop: Hop) -> Postfix {
    Postfix::start(Options {
        takes_all: true,
        xclient_hosts: "127.0.0.1".into(),
        relay: Some(Relay::to("in.test", hop)),
        ..Options::default()
    })
}

/// One that keeps all mail.
#[track_caller]
fn behind(xforward_hosts: &str, extra: &str) -> Postfix {
    let (xforward_hosts, extra) = (xforward_hosts.to_owned(), extra.to_owned());
    Postfix::start(Options { takes_all: true, xforward_hosts, extra, ..Options::default() })
}

fn by_lmtp(gatepost: &Gatepost) -> Hop {
    Hop::Lmtp(gatepost.addr("lmtp"))
}

/// A user and the rest of the row.
fn at(user: &str, port: u16, more: &str) -> (String, String) {
    (user.to_owned(), format!("host=127.0.0.1 port={port} {more}"))
}

/// Hands a letter to a Postfix, of a client that XCLIENT has named.
#[track_caller]
fn submit(postfix: &Postfix, xclient: &str, mail: &str, to: &[&str], letter: &[u8]) {
    let mut client = SmtpClient::greeted(postfix.addr());
    client.say_hello();
    if !xclient.is_empty() {
        assert!(client.xclient(xclient).is_ok());
        client.say_hello();
    }
    client.ok(format!("MAIL FROM:{mail}"));
    for to in to {
        client.ok(format!("RCPT TO:{to}"));
    }
    client.expect("DATA", "354");
    client.send_dotted(letter);
    assert_eq!(client.reply().code, 250);
    client.quit();
}

#[test]
fn its_client_is_known_here_in_the_letter_and_at_the_next_postfix() {
    let Some(_) = postfix::require() else { return };
    let postfix = behind("127.0.0.1", "");
    let users = ["a", "b"].map(|user| at(&format!("{user}@in.test"), postfix.addr().port(), "protocol=smtp"));
    let gatepost = gatepost(&users, TRUSTING);
    let mut letters = 0;
    for hop in [by_lmtp(&gatepost), Hop::LmtpSocket(gatepost.dir().join("lmtp.sock"))] {
        let front = front(hop.clone());
        for (ip, shown) in [("192.0.2.10", "192.0.2.10"), ("IPV6:2001:db8::10", "2001:db8::10")] {
            let what = format!("{hop:?} {ip}");
            submit(&front, &format!("NAME=c.test ADDR={ip} PORT=4711"), "<s@out.test>", &["<a@in.test>", "<b@in.test>"], LETTER);
            front.wait_for_empty_queue();
            letters += 2;
            let sent = front.wait_for_attempt("b@in.test", "sent");
            let id = &sent.queue_id;
            assert!(sent.agent == "lmtp" && sent.said.contains("250 2.0.0"), "{what}: {sent:?}");
            for to in ["a", "b"] {
                let log = gatepost.log();
                let known = format!("orig_client=c.test[{shown}] orig_helo=client.test orig_queue_id={id} helo=postfix.test");
                let line =
                    log.wait_for_all(&[" delivered protocol=lmtp client=127.0.0.1:", &format!(" to={to}@in.test "), &known]);
                assert!(line.contains(" from=<s@out.test> ") && line.contains(" identity=not-offered "), "{what}: {line}");
                let session = line.rsplit_once(" session=").unwrap().1.to_owned();
                // It informs. The session is still Postfix's own.
                assert!(!line.contains(" via="), "{what}: {line}");
                let message = postfix.delivered().wait_for(letters);
                let ours = message.iter().map(|m| m.fields("Received")[1].clone()).find(|r| r.contains(&session));
                let ours = ours.unwrap_or_else(|| panic!("{what}: no {session}: {message:#?}"));
                let literal = if shown.contains(':') { format!("[IPv6:{shown}]") } else { format!("[{shown}]") };
                assert!(ours.starts_with("from postfix.test ([127.0.0.1]) "), "{what}: {ours}");
                let told =
                    format!("(forwarded for c.test {literal} helo=client.test id={id}) by edge.test with LMTP id {session} ");
                assert!(ours.contains(&told), "{what}: no {told:?} in {ours}");
            }
            postfix.log().wait_for(&format!("orig_queue_id={id}, orig_client=c.test[{shown}]"));
        }
    }
}

#[test]
fn one_that_is_not_trusted_is_not_asked_and_mail_flows() {
    let Some(_) = postfix::require() else { return };
    let fake = FakeLmtp::start(Lmtp::default());
    let gatepost = gatepost(&[at("a@in.test", fake.port(), "")], "");
    let front = front(by_lmtp(&gatepost));
    submit(&front, "NAME=c.test ADDR=192.0.2.10 PORT=4711", "<s@out.test>", &["<a@in.test>"], LETTER);
    front.wait_for_attempt("a@in.test", "sent");
    let line = gatepost.wait_for(" delivered ");
    assert!(!line.contains("orig_") && line.contains(" identity=told "), "{line}");
    // The next server hears of the peer that is known: Postfix itself.
    let mail = fake.wait_for_complete(1).remove(0);
    assert!(mail.xforwards.iter().all(|said| !said.contains("192.0.2.10")), "{mail:?}");
    assert!(mail.xforwards.join(" ").contains("ADDR=127.0.0.1") && mail.xclients[0].contains("ADDR=127.0.0.1"), "{mail:?}");
}

#[test]
fn its_log_has_the_truth_about_each_recipient() {
    let Some(_) = postfix::require() else { return };
    let refusing = vec![("full".to_owned(), Refusal::Full), ("busy".to_owned(), Refusal::FullForNow)];
    let dovecot = Backend::start(dovecot::Options { refusing, ..dovecot::Options::default() });
    let mut late = Backend::start(dovecot::Options::default());
    let (port, late_port) = (dovecot.lmtp().port(), late.lmtp().port());
    let users = ["alice", "ghost", "full", "busy"].map(|user| at(&format!("{user}@in.test"), port, ""));
    let gatepost = gatepost(&[&users[..], &[at("bob@in.test", late_port, "")]].concat(), "");
    late.kill();
    let front = front(by_lmtp(&gatepost));
    let to = ["<alice@in.test>", "<nobody@in.test>", "<ghost@in.test>", "<full@in.test>", "<bob@in.test>"];
    submit(&front, "", "<s@out.test>", &to, LETTER);
    let sent = front.wait_for_attempt("alice@in.test", "sent");
    assert!(sent.dsn == "2.0.0" && sent.said.starts_with("250 2.0.0 <alice@in.test> "), "{sent:?}");
    for (to, status, dsn, said) in [
        // The table does not know him; Dovecot does not know him; his mailbox is full; nobody is there.
        ("nobody", "bounced", "5.1.1", "550 5.1.1 No such user here. (in reply to RCPT TO command)"),
        (
            "ghost",
            "bounced",
            "5.1.1",
            "550 5.1.1 <ghost@in.test> User doesn't exist: ghost@in.test (in reply to RCPT TO command)",
        ),
        ("full", "bounced", "5.2.2", "552 5.2.2 <full@in.test> "),
        ("bob", "deferred", "4.3.0", "451 4.3.0 The mailbox cannot be reached for now (connect, session "),
    ] {
        let attempt = front.wait_for_attempt(&format!("{to}@in.test"), status);
        assert!(attempt.dsn == dsn && attempt.said.contains(said), "{attempt:?}\n{}", gatepost.log().tail());
        assert_eq!(attempt.queue_id, sent.queue_id);
    }
    late.start_again();
    front.wait_for_attempt("bob@in.test", "sent");
    submit(&front, "", "<s@out.test>", &["<busy@in.test>"], LETTER);
    let busy = front.wait_for_attempt("busy@in.test", "deferred");
    assert!(busy.dsn == "4.2.2" && busy.said.contains("452 4.2.2 <busy@in.test> "), "{busy:?}");
    // Each once, however often the others were tried.
    assert_eq!(late.delivered("bob").wait_for(1).len(), 1);
    assert_eq!(dovecot.delivered("alice").wait_for(1).len(), 1);
    let told = front.delivered().wait_for(1).remove(0);
    assert_eq!(told.fields("Return-Path"), ["<>"]);
}

#[test]
fn letters_of_every_kind_come_through() {
    let Some(_) = postfix::require() else { return };
    let fake = FakeLmtp::start(Lmtp::default());
    let plain = FakeLmtp::start(Lmtp::default().without(&["SMTPUTF8"]));
    let users = [at("a@in.test", fake.port(), ""), at("j\u{f6}rg@in.test", fake.port(), ""), at("old@in.test", plain.port(), "")];
    let gatepost = gatepost(&users, TRUSTING);
    let front = front(by_lmtp(&gatepost));
    let mut seen = 0;
    let mut goes = |mail: &str, to: &str, letter: &[u8]| -> LmtpTransaction {
        submit(&front, "", mail, &[to], letter);
        seen += 1;
        let got = fake.wait_for_complete(seen).remove(seen - 1);
        let message = got.message.clone().unwrap();
        // Postfix adds fields to those that there are.
        let at = letter.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        assert!(message.ends_with(&letter[at..]), "{mail}: {} octets came of {}", message.len(), letter.len());
        // Our field is on top, and there is one of Postfix below it.
        assert!(message.starts_with(b"Received: from postfix.test ([127.0.0.1])\r\n"), "{}", message.escape_ascii());
        got
    };
    let large: Vec<u8> = (0..16_000).map(|n| format!("{n:062}\r\n")).collect::<String>().into_bytes();
    let body = |octets: &[u8]| [b"Subject: x\r\n\r\n", octets].concat();
    goes("<s@out.test>", "<a@in.test>", &body(&large));

    let eight = goes("<s@out.test> BODY=8BITMIME", "<a@in.test>", &body(b"j\xc3\xb6rg \xff\xfe\r\n"));
    assert!(eight.mail.contains(" BODY=8BITMIME"), "{}", eight.mail);

    let international = b"Subject: \xc3\xb6\r\n\r\nx\r\n";
    let utf8 = goes("<s\u{f6}nder@out.test> SMTPUTF8", "<j\u{f6}rg@in.test>", international);
    assert!(utf8.mail.starts_with("<s\u{f6}nder@out.test> ") && utf8.mail.contains(" SMTPUTF8"), "{}", utf8.mail);
    assert!(utf8.rcpts[0].starts_with("<j\u{f6}rg@in.test>"), "{:?}", utf8.rcpts);
    assert!(String::from_utf8_lossy(&utf8.message.unwrap()).contains(" with UTF8LMTP id "));

    let nobody = goes("<>", "<a@in.test>", LETTER);
    assert!(nobody.mail.starts_with("<>"), "{}", nobody.mail);

    let dsn =
        goes("<s@out.test> RET=HDRS ENVID=QQ+2B314", "<a@in.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;first+2Btag@x.test", LETTER);
    assert!(dsn.mail.contains(" RET=HDRS") && dsn.mail.contains(" ENVID=QQ+2B314"), "{}", dsn.mail);
    let rcpt = &dsn.rcpts[0];
    assert!(rcpt.contains(" NOTIFY=SUCCESS,DELAY") && rcpt.contains(" ORCPT=rfc822;first+2Btag@x.test"), "{rcpt}");

    // A server that cannot take it is not given it, and the sender hears why.
    submit(&front, "", "<s\u{f6}nder@out.test> SMTPUTF8", &["<old@in.test>"], international);
    let old = front.wait_for_attempt("old@in.test", "bounced");
    assert!(old.dsn == "5.6.7" && old.said.contains("does not take SMTPUTF8"), "{old:?}");
    assert!(plain.transactions().is_empty());
}

#[test]
fn one_that_takes_mail_by_smtp_answers_for_all_and_the_bounces_are_true() {
    let Some(_) = postfix::require() else { return };
    let dir = Dir::new();
    let header = dir.write("header", "/^Subject: spam/ REJECT No spam here\n");
    let access = dir.write("access", "/^gone@/ 550 5.1.6 Moved away\n/^later@/ 451 4.2.0 Come later\n");
    let extra = format!(
        "header_checks = regexp:{}\nsmtpd_recipient_restrictions = check_recipient_access regexp:{}, reject_unauth_destination\n\
         message_size_limit = 100000\nsoft_bounce = no\n",
        header.display(),
        access.display()
    );
    let postfix = behind("127.0.0.1", &extra);
    let dead = free_port();
    let rows = ["a", "b", "gone", "later"].map(|user| at(&format!("{user}@in.test"), postfix.addr().port(), "protocol=smtp"));
    let gatepost = gatepost(&[&rows[..], &[at("dead@in.test", dead.number(), "protocol=smtp")]].concat(), TRUSTING);
    let front = front(by_lmtp(&gatepost));

    let all = ["<a@in.test>", "<b@in.test>", "<gone@in.test>", "<later@in.test>", "<dead@in.test>"];
    submit(&front, "", "<s@out.test>", &all, LETTER);
    for (to, status, dsn, said) in [
        ("a", "sent", "2.0.0", " queued as "),
        ("b", "sent", "2.0.0", " queued as "),
        ("gone", "bounced", "5.1.6", "Moved away"),
        ("later", "deferred", "4.2.0", "Come later"),
        ("dead", "deferred", "4.3.0", "cannot be reached"),
    ] {
        let attempt = front.wait_for_attempt(&format!("{to}@in.test"), status);
        assert!(attempt.dsn == dsn && attempt.said.contains(said), "{attempt:?}\n{}", gatepost.log().tail());
    }
    let id = front.wait_for_attempt("a@in.test", "sent").said.rsplit_once("queued as ").unwrap().1.to_owned();
    assert!(front.wait_for_attempt("b@in.test", "sent").said.contains(&id), "one transaction, one answer");
    let kept = postfix.delivered().wait_for(2);
    assert!(kept.iter().all(|message| message.body() == b"Words.\n.\n"), "{kept:#?}");

    submit(&front, "", "<s@out.test>", &["<a@in.test>", "<b@in.test>"], b"Subject: spam\r\n\r\nx\r\n");
    for to in ["a@in.test", "b@in.test"] {
        let no = front.wait_for_attempt(to, "bounced");
        assert!(no.dsn == "5.7.1" && no.said.contains("550 5.7.1 No spam here (in reply to end of DATA command)"), "{no:?}");
    }
    // It says how much it takes, so it is not given more.
    submit(
        &front,
        "",
        "<s@out.test>",
        &["<a@in.test>"],
        &[b"Subject: x\r\n\r\n", &b"0123456789abcd\r\n".repeat(7000)[..]].concat(),
    );
    front.log().wait_for_all(&["to=<a@in.test>", "dsn=5.3.4, status=bounced", "552 5.3.4"]);
    postfix.delivered().wait_for(2);
}
