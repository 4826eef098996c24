//! Where mail goes, and what is said of places that there are not: unknown users, databases in trouble, mailboxes that move, other
//! names, details, this very host, TLS, loops.

use crate::gate::BINARY;
use crate::lmtp::{config, gatepost};
use std::process::Command;
use testkit::Dir;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{FakeLmtp, Lmtp, LmtpClient, SmtpReply};

const LETTER: &[u8] = b"Subject: x\r\n\r\nHello\r\n";

fn at(fake: &FakeLmtp, more: &str) -> String {
    format!("host=127.0.0.1 port={} {more}", fake.port())
}

fn mail(gatepost: &Gatepost, to: &[&str]) -> Vec<String> {
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    let heard = client.transaction("s@out.test", to, LETTER);
    client.quit();
    heard.iter().map(SmtpReply::text).collect()
}

#[track_caller]
fn is(heard: &[String], expected: &[&str]) {
    let right = heard.len() == expected.len() && heard.iter().zip(expected).all(|(heard, expected)| heard.starts_with(expected));
    assert!(right, "{heard:#?}, expected {expected:?}");
}

#[test]
fn soft_bounce_leaves_nobody_with_a_no_for_good() {
    let full = Lmtp { after_data: vec![("full@".into(), "552 5.2.2 full".into())], ..Lmtp::default() };
    let fake = FakeLmtp::start(full);
    let users = ["full@in.test", "well@in.test"].map(|user| (user.to_owned(), at(&fake, "")));
    let to = ["full@in.test", "nobody@in.test", "well@in.test"];
    is(&mail(&gatepost(&users, ""), &to), &["552 5.2.2", "550 5.1.1", "250 2.0.0"]);
    let soft = gatepost(&users, "[protocol.lmtp]\nsoft_bounce = true\n");
    is(&mail(&soft, &to), &["452 4.2.2", "450 4.1.1", "250 2.0.0"]);
    // The journal tells both what the server said and what was told.
    let line = soft.wait_for("to=full@in.test");
    assert!(line.contains("reply=\"552 5.2.2") && line.contains("told=\"452 4.2.2"), "{line}");
}

/// A Gatepost whose users live in a table, which this test changes.
fn of_table(fake: &FakeLmtp) -> (Gatepost, rusqlite::Connection) {
    of_table_with(fake, "")
}

fn of_table_with(fake: &FakeLmtp, more: &str) -> (Gatepost, rusqlite::Connection) {
    let dir = Dir::new();
    let table = rusqlite::Connection::open(dir.join("users.db")).unwrap();
    table.execute_batch("CREATE TABLE users (user varchar(255) PRIMARY KEY, port integer, delay_until varchar(32))").unwrap();
    let moved = "[[users]]
name = \"table\"
driver = \"sqlite\"
path = \"users.db\"
query = \"SELECT 'y' AS proxy, 'y' AS nopassword, '127.0.0.1' AS host, port, delay_until FROM users WHERE user = '%u'\"
";
    table.execute("INSERT INTO users VALUES ('a@in.test', ?1, NULL)", [fake.port()]).unwrap();
    let config = config(&dir, &[], "", &format!("{moved}{more}"));
    (Gatepost::start_in(dir, BINARY, &config, |_| {}), table)
}

#[test]
fn a_database_in_trouble_is_no_unknown_user() {
    let fake = FakeLmtp::start(Lmtp::default());
    let (gatepost, table) = of_table(&fake);
    is(&mail(&gatepost, &["a@in.test", "b@in.test"]), &["250 2.0.0", "550 5.1.1"]);
    table.execute_batch("ALTER TABLE users RENAME TO elsewhere").unwrap();
    is(&mail(&gatepost, &["a@in.test", "b@in.test"]), &["451 4.3.0", "451 4.3.0"]);
    table.execute_batch("ALTER TABLE elsewhere RENAME TO users").unwrap();
    is(&mail(&gatepost, &["a@in.test"]), &["250 2.0.0"]);
}

#[test]
fn mail_for_a_mailbox_that_moves_waits_at_its_sender_and_goes_to_the_new_place() {
    let (old, new) = (FakeLmtp::start(Lmtp::default()), FakeLmtp::start(Lmtp::default()));
    let (gatepost, table) = of_table(&old);
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    let mut mail = |expected: &str| {
        let heard = client.transaction("s@out.test", &["a@in.test"], LETTER)[0].text();
        assert!(heard.starts_with(expected), "{heard}, expected {expected}\n{}", gatepost.log().tail());
    };
    mail("250 2.0.0");
    table.execute("UPDATE users SET port = ?1, delay_until = '4000000000'", [new.port()]).unwrap();
    mail("451 4.2.1");
    table.execute("UPDATE users SET delay_until = NULL", []).unwrap();
    mail("250 2.0.0");
    table.execute("UPDATE users SET port = ?1", [old.port()]).unwrap();
    let kick = |time: &str| {
        let file = gatepost.dir().join("gatepost.toml");
        let out = Command::new(BINARY).arg("--config").arg(file).args(["kick", "a@in.test", "--hold", time]).output().unwrap();
        // 1: nobody was there.
        assert!(matches!(out.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&out.stderr));
    };
    kick("60s");
    mail("451 4.2.1");
    kick("0s");
    mail("250 2.0.0");
    assert_eq!((old.wait_for_complete(2).len(), new.wait_for_complete(1).len()), (2, 1));
}

#[test]
fn another_name_keeps_the_detail_and_tells_the_first() {
    let fake = FakeLmtp::start(Lmtp::default());
    let users = [("a@in.test".to_owned(), at(&fake, "destuser=box7@store.test")), ("b@in.test".to_owned(), at(&fake, ""))];
    let gatepost = gatepost(&users, "");
    is(&mail(&gatepost, &["a+spam@in.test", "b+x@in.test"]), &["250 2.0.0"; 2]);
    let got = fake.wait_for_complete(1);
    assert_eq!(got[0].rcpts[0], "<box7+spam@store.test> ORCPT=rfc822;a+2Bspam@in.test");
    assert!(got[0].rcpts[1].starts_with("<b+x@in.test>"), "{:?}", got[0].rcpts);
    let line = gatepost.wait_for("to=a+spam@in.test");
    assert!(line.contains(" rcpt=box7+spam@store.test"), "{line}");
}

#[test]
fn what_begins_a_detail_is_told_by_the_configuration() {
    let fake = FakeLmtp::start(Lmtp::default());
    let users = [("a@in.test".to_owned(), at(&fake, ""))];
    for (delimiter, plus, minus) in
        [("+", "250", "550 5.1.1"), ("-", "550 5.1.1", "250"), ("+-", "250", "250"), ("", "550", "550")]
    {
        let gatepost = gatepost(&users, &format!("[protocol.lmtp]\nrecipient_delimiter = \"{delimiter}\"\n"));
        is(&mail(&gatepost, &["a@in.test", "a+x@in.test", "a-x@in.test"]), &["250", plus, minus]);
    }
}

#[test]
fn who_lives_on_this_very_host_is_delivered_to_beside_us() {
    let local = FakeLmtp::start(Lmtp::default());
    let dir = Dir::new();
    let config = config(&dir, &[], "", &format!("[backend]\nlocal = {{ lmtp = \"127.0.0.1:{}\" }}\n", local.port()));
    let rows = "a@in.test:::::::nopassword=y proxy_maybe=y host=127.0.0.1\n";
    dir.write("users", rows);
    let gatepost = Gatepost::start_in(dir, BINARY, &config, |_| {});
    is(&mail(&gatepost, &["a@in.test"]), &["250 2.0.0"]);
    local.wait_for_complete(1);
}

#[test]
fn tls_on_both_legs() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "ca");
    let certificate = authority.server("server", &["localhost", "127.0.0.1"]);
    let tls = Some(certificate.server_config());
    let starttls = FakeLmtp::start(Lmtp { tls: tls.clone(), ..Lmtp::default() });
    let implicit = FakeLmtp::start(Lmtp { tls, implicit: true, ..Lmtp::default() });
    let bare = FakeLmtp::start(Lmtp::default());
    let users = [
        ("a@in.test".to_owned(), at(&starttls, "starttls=any-cert")),
        ("b@in.test".to_owned(), at(&implicit, "ssl=any-cert")),
        ("c@in.test".to_owned(), at(&bare, "starttls=any-cert")),
    ];
    let config = config(&dir, &users, "", "[tls]\ncertificates = [{ cert = \"server.pem\", key = \"server.key\" }]\n");
    let config = config.replace("tls = \"none\"", "tls = \"starttls\"");
    let gatepost = Gatepost::start_in(dir, BINARY, &config, |_| {});
    let mut client = LmtpClient::connect(gatepost.addr("lmtp"));
    client.greeting();
    client.say_hello();
    client.starttls(&authority.client_config(), "localhost");
    client.say_hello();
    let heard = client.transaction("s@out.test", &["a@in.test", "b@in.test", "c@in.test"], LETTER);
    let heard: Vec<String> = heard.iter().map(SmtpReply::text).collect();
    is(&heard, &["250 2.0.0", "250 2.0.0", "451 4.3.0"]);
    for fake in [&starttls, &implicit] {
        let got = fake.wait_for_complete(1);
        assert!(got[0].tls);
        let text = String::from_utf8(got[0].message.clone().unwrap()).unwrap();
        assert!(text.contains("with LMTPS"), "{text}");
    }
    assert!(bare.transactions().is_empty(), "nothing is said in clear");
    assert!(gatepost.wait_for("to=a@in.test").contains(" backend_tls=TLSv1.3"));
}

#[test]
fn two_that_send_mail_to_each_other_end_it() {
    let fake = FakeLmtp::start(Lmtp::default());
    let trust = "[trust]\nnetworks = [\"127.0.0.1\"]\n";
    let (first, table) = of_table_with(&fake, trust);
    let second = gatepost(&[("a@in.test".to_owned(), format!("host=127.0.0.1 port={}", first.port("lmtp")))], trust);
    table.execute("UPDATE users SET port = ?1", [second.port("lmtp")]).unwrap();
    is(&mail(&first, &["a@in.test"]), &["451 4.4.6"]);
    let loops = |gatepost: &Gatepost| gatepost.log().lines().iter().filter(|line| line.contains("reason=loop")).count();
    assert_eq!(loops(&first) + loops(&second), 1, "one of them has found it: {}", first.log().tail());
    table.execute("UPDATE users SET port = ?1", [fake.port()]).unwrap();
    is(&mail(&second, &["a@in.test"]), &["250 2.0.0"]);
}
