//! The connections by which mail goes: one for the mails of one client to one place, told anew of each mail's sender, never shared
//! by two clients, and of no consequence when it has gone.

use crate::lmtp::gatepost;
use testkit::gatepost::Gatepost;
use testkit::peer::{At, Does, Ending, FakeLmtp, Lmtp, LmtpClient, Signal};

const TRUST: &str = "[trust]\nnetworks = [\"127.0.0.1\"]\n";
const LETTER: &[u8] = b"Subject: x\r\n\r\nHello\r\n";

fn everybody_at(fake: &FakeLmtp, more: &str) -> Gatepost {
    let users = ["a@in.test", "b@in.test"].map(|user| (user.to_owned(), format!("host=127.0.0.1 port={}", fake.port())));
    gatepost(&users, more)
}

#[track_caller]
fn mail(client: &mut LmtpClient, to: &str) {
    let heard = client.transaction("s@out.test", &[to], LETTER);
    assert_eq!(heard[0].code, 250, "{heard:?}");
}

#[test]
fn mails_of_one_client_go_by_one_connection_until_it_is_another_client() {
    let fake = FakeLmtp::start(Lmtp::default());
    let gatepost = everybody_at(&fake, TRUST);
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    client.expect("XFORWARD NAME=c.test ADDR=192.0.2.1 IDENT=Q1", "250 2.0.0");
    mail(&mut client, "a@in.test");
    client.expect("XFORWARD ADDR=192.0.2.2 HELO=h.test IDENT=Q2", "250 2.0.0");
    mail(&mut client, "b@in.test");
    // Nothing was told of this one.
    mail(&mut client, "a@in.test");
    assert_eq!(fake.connections(), 1, "{}", gatepost.log().tail());
    client.xclient("ADDR=192.0.2.9 PORT=4711");
    client.say_hello();
    mail(&mut client, "a@in.test");
    mail(&mut client, "b@in.test");
    assert_eq!(fake.connections(), 2, "{}", gatepost.log().tail());
    client.quit();
    let sessions = fake.wait_for_ends(2);
    assert!(sessions.iter().all(|s| s.ended == Some(Ending::Quit)), "{sessions:#?}");
    let told: Vec<String> = sessions.iter().flat_map(|s| &s.transactions).map(|t| t.xforwards.join(" ")).collect();
    assert_eq!(told.len(), 5);
    let holds = |n: usize, pieces: &[&str]| {
        let words: Vec<&str> = told[n].split(' ').collect();
        for piece in pieces {
            assert!(words.contains(piece), "mail {n}: {piece}: {told:#?}");
        }
    };
    holds(0, &["NAME=c.test", "ADDR=192.0.2.1", "IDENT=Q1", "HELO=[UNAVAILABLE]", "PORT=[UNAVAILABLE]"]);
    holds(1, &["NAME=[UNAVAILABLE]", "ADDR=192.0.2.2", "IDENT=Q2", "HELO=h.test"]);
    holds(2, &["ADDR=127.0.0.1", "HELO=client.test"]);
    holds(3, &["ADDR=192.0.2.9", "PORT=4711"]);
    holds(4, &["ADDR=192.0.2.9"]);
    assert!(!told[2].contains("=Q") && !told[3].contains("=Q"), "{told:#?}");
    let clients: Vec<String> = sessions.iter().map(|s| s.transactions[0].xclients.join(" ")).collect();
    assert!(clients[0].contains("ADDR=127.0.0.1") && clients[1].contains("ADDR=192.0.2.9"), "{clients:#?}");
}

#[test]
fn two_clients_never_share_a_connection() {
    let fake = FakeLmtp::start(Lmtp::default());
    let gatepost = everybody_at(&fake, "");
    let mut clients: Vec<LmtpClient> = (0..3).map(|_| LmtpClient::ready(gatepost.addr("lmtp"))).collect();
    for _ in 0..2 {
        for client in &mut clients {
            mail(client, "a@in.test");
        }
    }
    assert_eq!(fake.connections(), 3);
    for client in clients {
        client.quit();
    }
    let sessions = fake.wait_for_ends(3);
    assert!(sessions.iter().all(|s| s.transactions.len() == 2));
    let mut ports: Vec<String> = sessions.iter().map(|s| s.transactions[0].xclients.join(" ")).collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 3, "each was told of another client: {ports:?}");
}

#[test]
fn a_connection_that_was_closed_meanwhile_costs_no_mail() {
    // Without a word, with a reset, with a leave that nobody asked for, and with a yes that would pass for an answer.
    let leave = || Does::say("421 4.4.2 waited too long\r\n");
    for (name, ends) in [
        ("closed", vec![Does::Close]),
        ("reset", vec![Does::Reset]),
        ("leave", vec![leave(), Does::Close]),
        ("yes", vec![Does::say("250 2.0.0 yes\r\n"), Does::Close]),
    ] {
        let go = Signal::new();
        let plain = Lmtp::default().without(&["XFORWARD", "PIPELINING"]);
        let waits = plain.with(At::Final(2), Does::Wait(go.clone()));
        let server = ends.into_iter().fold(waits, |server, does| server.with(At::Final(2), does));
        let fake = FakeLmtp::start(server);
        let gatepost = everybody_at(&fake, "");
        let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
        mail(&mut client, "a@in.test");
        go.give();
        fake.wait_for("its end", |sessions| sessions[0].ended.is_some());
        mail(&mut client, "b@in.test");
        let complete = fake.wait_for_complete(2);
        assert!(complete[1].rcpts[0].contains("b@in.test"), "{name}: {complete:#?}");
        client.quit();
    }
}

#[test]
fn a_server_that_died_and_came_back_has_the_next_mail() {
    let mut fake = FakeLmtp::start(Lmtp::default());
    let gatepost = everybody_at(&fake, "");
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    mail(&mut client, "a@in.test");
    fake.die();
    let heard = client.transaction("s@out.test", &["a@in.test"], LETTER);
    assert!(heard[0].text().starts_with("451 4.3.0"), "{heard:?}");
    fake.revive();
    mail(&mut client, "a@in.test");
    assert_eq!(fake.wait_for_complete(2).len(), 2);
}

#[test]
fn what_nobody_asked_for_is_no_answer_to_a_letter() {
    let twice = Lmtp {
        after_data: vec![("a@in.test".to_owned(), "552 5.2.2 quota".to_owned())],
        ..Lmtp::default().with(At::Rcpt(1), Does::say("250 2.1.5 OK\r\n250 2.1.5 OK again\r\n"))
    };
    let fake = FakeLmtp::start(twice);
    let gatepost = everybody_at(&fake, "");
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    let heard = client.transaction("s@out.test", &["a@in.test"], LETTER);
    assert_eq!(heard[0].code, 451, "{heard:?}");
    assert!(fake.sessions()[0].transactions.iter().all(|t| t.message.is_none()), "it was given no letter");
    // An answer to MAIL that is none: what is said on that connection afterwards would be taken for the answer to something else.
    fake.behave(Lmtp::default().with(At::Mail, Does::say("354 go on\r\n")));
    let heard = client.transaction("s@out.test", &["b@in.test"], LETTER);
    assert_eq!(heard[0].code, 451, "{heard:?}");
    fake.behave(Lmtp::default());
    mail(&mut client, "b@in.test");
    assert_eq!(fake.connections(), 3, "{}", gatepost.log().tail());
}

#[test]
fn what_was_said_of_a_refused_mail_is_not_said_of_the_next() {
    let fake = FakeLmtp::start(Lmtp { at_mail: "451 4.7.1 not now".to_owned(), ..Lmtp::default() });
    let gatepost = everybody_at(&fake, TRUST);
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    client.expect("XFORWARD NAME=c.test ADDR=192.0.2.1 SOURCE=LOCAL", "250 2.0.0");
    let heard = client.transaction("s@out.test", &["a@in.test"], LETTER);
    assert_eq!(heard[0].code, 451, "{heard:?}");
    client.ok("RSET");
    fake.behave(Lmtp::default());
    mail(&mut client, "b@in.test");
    client.quit();
    let session = &fake.wait_for_ends(1)[0];
    let place = |word: &str| {
        session.lines.iter().rposition(|line| line.starts_with(word)).unwrap_or_else(|| panic!("no {word}: {session:#?}"))
    };
    assert!(place("RSET") < place("XFORWARD") && place("XFORWARD") < place("MAIL"), "{:#?}", session.lines);
}

#[test]
fn a_client_that_calls_itself_otherwise_is_told_anew() {
    let fake = FakeLmtp::start(Lmtp::default());
    let gatepost = everybody_at(&fake, "");
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    client.lhlo("one.test");
    mail(&mut client, "a@in.test");
    client.lhlo("two.test");
    mail(&mut client, "a@in.test");
    client.quit();
    let told: Vec<String> = fake.wait_for_ends(2).iter().map(|s| s.transactions[0].xclients.join(" ")).collect();
    assert!(told[0].contains("HELO=one.test") && told[1].contains("HELO=two.test"), "{told:#?}");
}
