//! `gatepost explain rcpt` against what then happens to a mail.

use crate::explained::{Asked, Told, word};
use crate::gate::BINARY;
use crate::lmtp::gatepost;
use std::process::Command;
use testkit::gatepost::Gatepost;
use testkit::peer::{FakeLmtp, Lmtp, LmtpClient};

const LETTER: &[u8] = b"Subject: x\r\n\r\nHello\r\n";

#[track_caller]
fn explained(gatepost: &Gatepost, words: &[&str]) -> Told {
    Asked { gatepost, words }.explain_rcpt()
}

/// An answer with the session that stands in it made the same for all.
fn sessionless(answer: &str) -> String {
    match answer.split_once(", session ") {
        Some((head, rest)) => format!("{head}, session S{}", rest.split_once(')').map_or("", |(_, rest)| rest)),
        None => answer.to_owned(),
    }
}

#[test]
fn a_mail_goes_as_the_explanation_says() {
    let fake = FakeLmtp::start(Lmtp::default());
    let at = format!("host=127.0.0.1 port={}", fake.port());
    let kept = testkit::Dir::new();
    let table = kept.join("users.db");
    rusqlite::Connection::open(&table).unwrap().execute_batch("CREATE TABLE u (name TEXT, password TEXT)").unwrap();
    let row = |user: &str, fields: String| (format!("{user}@in.test"), fields);
    let gatepost = gatepost(
        &[
            row("plain", at.clone()),
            row("renamed", format!("{at} destuser=other@store.test forward_site=west")),
            row("quiet", format!("{at} proxy_not_trusted=y")),
            row("bad", "host=127.0.0.1 port=many".into()),
            row("nowhere", "port=24".into()),
            row("moving", format!("{at} delay_until=4102444800")),
            row("loop", "host=127.0.0.1".into()),
            row("nets", format!("{at} allow_nets=192.0.2.0/24")),
        ],
        // It can only be asked with a password, and so has no mail.
        &format!(
            "[[users]]
name = \"passwords\"
driver = \"sqlite\"
path = \"{}\"
query = \"SELECT * FROM u WHERE '%u' = name AND '%w' = password\"",
            table.display()
        ),
    );
    let helo = "testkit.test";
    let mut client = LmtpClient::connect(gatepost.addr("lmtp"));
    client.greeting();
    client.lhlo(helo);
    let mut delivered = 0;
    for (recipient, verdict, code) in [
        ("plain@in.test", "delivers", "250"),
        ("plain+box@in.test", "delivers", "250"),
        ("renamed+box@in.test", "delivers", "250"),
        ("quiet@in.test", "delivers", "250"),
        ("bad@in.test", "deferred", "451 4.3.0"),
        ("nowhere@in.test", "deferred", "451 4.3.0"),
        ("moving@in.test", "deferred", "451 4.2.1"),
        ("loop@in.test", "deferred", "451 4.4.6"),
        ("nets@in.test", "deferred", "451 4.3.0"),
        ("nobody@in.test", "rejected", "550 5.1.1"),
    ] {
        let log = gatepost.log().from_here();
        let words = [recipient, "--from", "127.0.0.1", "--helo", helo, "--sender", "s@out.test"];
        let told = explained(&gatepost, &words);
        assert_eq!(told.verdict(), verdict, "{told:?}");
        assert_eq!(log.count("recipient"), 0, "{}", log.tail());
        assert_eq!(fake.transactions().len(), delivered, "{recipient}: a server was called");

        let replies = client.transaction("s@out.test", &[recipient], LETTER);
        let reply = replies[0].text();
        assert!(reply.starts_with(code), "{recipient}: {reply}");
        let event = if verdict == "delivers" { "delivered" } else { verdict };
        let line = log.wait_for_all(&[&format!(" {event} "), &format!("to={recipient}")]);
        assert_eq!((told.outcome("reason"), told.outcome("side")), (word(&line, "reason"), word(&line, "side")), "{line}");
        if verdict != "delivers" {
            assert_eq!(told.outcome("detail"), word(&line, "text"), "{told:?}");
            assert_eq!(told.hears().into_iter().map(sessionless).collect::<Vec<_>>(), [sessionless(&reply)]);
            let refusal = told.steps("refusal").next().unwrap();
            assert!(refusal["event"] == event && line.contains(refusal["level"].as_str().unwrap()), "{line}: {refusal}");
            continue;
        }
        assert_eq!((told.outcome("backend"), told.outcome("host")), (word(&line, "backend"), word(&line, "host")));
        assert_eq!(told.outcome("identity"), word(&line, "identity"));
        assert_eq!(told.outcome("rcpt"), word(&line, "rcpt").or(Some(recipient.to_owned())), "{line}");
        delivered += 1;
        let mail = fake.wait_for_complete(delivered).pop().unwrap();
        let said: Vec<&str> =
            told.steps("words").flat_map(|step| step["lines"].as_array().unwrap()).map(|l| l.as_str().unwrap()).collect();
        let has = |line: String| assert!(said.contains(&&*line), "{line}: {told:?}");
        has(format!("LHLO {}", mail.hello.trim_start_matches("LHLO ")));
        has(format!("MAIL FROM:{}", mail.mail));
        has(format!("RCPT TO:{}", mail.rcpts[0]));
        let xclient = said.iter().any(|line| line.starts_with("XCLIENT "));
        assert_eq!(xclient, !mail.xclients.is_empty(), "{told:?}");
        for attribute in ["ADDR=127.0.0.1", "HELO=testkit.test", "PROTO=LMTP"] {
            let said = said.iter().any(|line| line.starts_with("XFORWARD") && line.contains(attribute));
            assert_eq!(said, mail.xforwards.iter().any(|line| line.contains(attribute)), "{attribute}: {told:?} {mail:?}");
        }
    }
    let told = explained(&gatepost, &["nobody@in.test"]);
    let passed_over = told.steps("database").find(|step| step["database"] == "passwords").unwrap();
    assert!(passed_over["why"].as_str().unwrap().contains("password") && passed_over["asked"] == false, "{passed_over}");
    let told = explained(&gatepost, &["renamed+box@in.test"]);
    assert!(told.steps("password").all(|step| step["result"] == "none"), "{told:?}");
    let recipient = told.steps("recipient").next().unwrap();
    assert_eq!((&recipient["user"], &recipient["detail"]), (&"renamed@in.test".into(), &"+box".into()));
}

#[test]
fn who_brings_a_mail_and_what_it_forwards_is_believed_as_the_listener_would() {
    let fake = FakeLmtp::start(Lmtp::default());
    let rows = [("a@in.test".to_owned(), format!("host=127.0.0.1 port={}", fake.port()))];
    let gatepost = gatepost(&rows, "[trust]\nnetworks = [\"10.1.0.5\"]\n[protocol.lmtp]\nsoft_bounce = true");
    let words = ["a@in.test", "--from", "192.0.2.7", "--ttl", "2", "--forward", "site=west"];
    let with = |via| explained(&gatepost, &[&words[..], &["--via", via]].concat());
    let said = |told: &Told| told.steps("words").map(ToString::to_string).collect::<String>();
    let believed = with("10.1.0.5");
    assert!(said(&believed).contains("ADDR=192.0.2.7") && said(&believed).contains("XRCPTFORWARD="), "{believed:?}");
    assert_eq!(believed.steps("hops").next().unwrap()["left"], 1);
    let stranger = with("10.1.0.6");
    assert!(said(&stranger).contains("ADDR=10.1.0.6") && !said(&stranger).contains("XRCPTFORWARD="), "{stranger:?}");
    let looping = explained(&gatepost, &["a@in.test", "--via", "10.1.0.5", "--ttl", "0"]);
    assert_eq!((looping.verdict(), looping.hears()), ("deferred", vec!["451 4.4.6 Mail is looping between proxies."]));
    // With soft_bounce the client hears another answer than the journal has.
    let unknown = explained(&gatepost, &["nobody@in.test"]);
    assert_eq!((unknown.verdict(), unknown.hears()), ("rejected", vec!["450 4.1.1 No such user here."]));
    assert_eq!(fake.transactions().len(), 0);
}

#[test]
fn what_cannot_be_explained_is_said_and_a_file_is_enough() {
    let gatepost = gatepost(&[("a@in.test".into(), "host=127.0.0.1 port=1".into())], "");
    let run = |words: &[&str]| Asked { gatepost: &gatepost, words }.run_verb("rcpt", None);
    for (words, error) in [
        (&["a@in.test> NOTIFY=NEVER"][..], "more than an address"),
        (&["a@in.test\r\nDATA"], "more than an address"),
        (&["a@in.test", "--helo", "two words"], "would not be told to anybody"),
        (&["a@in.test", "--listener", "192.0.2.1:24"], "no such listener"),
        (&["a@in.test", "--via", "127.0.0.1", "--forward", "site"], "is no NAME=VALUE"),
    ] {
        let (code, _, err) = run(words);
        assert!(code == 2 && err.contains(error), "{words:?}: {code} {err}");
    }
    let (code, out, err) = run(&["no brackets@in.test"]);
    assert!(code == 1 && out.contains("bad-command"), "{code} {out} {err}");
    let text = |words: &[&str]| {
        let config = gatepost.dir().join("gatepost.toml");
        let out = Command::new(BINARY).args(["explain", "rcpt", "--config"]).arg(config).args(words).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, out) = text(&["a@in.test", "--from-file"]);
    let first = out.lines().next().unwrap();
    assert!(code == Some(0) && first.starts_with("from the file alone"), "{out}");
    assert!(out.contains("\noutcome       mail for a@in.test would be handed to 127.0.0.1:1\n"), "{out}");
    let (code, out) = text(&["b@in.test"]);
    assert!(code == Some(1) && out.ends_with("the client hears: 550 5.1.1 No such user here.\n"), "{out}");
}
