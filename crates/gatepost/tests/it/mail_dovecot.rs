//! A real Dovecot 2.3 in front of LMTP and behind it: who is calling, what is forwarded with each recipient, and what it does with
//! that.

use crate::gate::BINARY;
use rusqlite::Connection;
use testkit::dovecot::{Backend, Leg, Options, Proxy, ProxyOptions};
use testkit::gatepost::Gatepost;
use testkit::peer::{FakeLmtp, Lmtp, LmtpClient, SmtpReply};
use testkit::{Dir, real};

const LETTER: &[u8] = b"Subject: x\r\n\r\nWords.\r\n";

/// What our client says to the Dovecot in front, which believes it.
const CALLERS: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

/// A Gatepost with this database of places, by the colour that came with the recipient. Beside the query's fields each row says
/// which colour was seen.
fn gatepost(places: &[(&str, u16, &str)], trust: &str) -> Gatepost {
    let dir = Dir::new();
    let database = Connection::open(dir.join("places.db")).unwrap();
    database.execute_batch("CREATE TABLE places (colour TEXT, port TEXT, tls TEXT)").unwrap();
    for (colour, port, tls) in places {
        let tls = Some(tls).filter(|tls| !tls.is_empty());
        database.execute("INSERT INTO places VALUES (?1, ?2, ?3)", (colour, port.to_string(), tls)).unwrap();
    }
    drop(database);
    let config = format!(
        "version = 1
[server]
name = \"edge.test\"
control = \"control.sock\"
[[listen]]
protocol = \"lmtp\"
address = [\"127.0.0.1:0\"]
[tls]
certificates = [{{ cert = \"edge.pem\", key = \"edge.key\" }}]
[trust]
networks = [{trust}]
[[users]]
driver = \"sqlite\"
path = \"places.db\"
query = '''SELECT 'y' AS proxy, '127.0.0.1' AS host, port, tls AS starttls, '%{{passdb:forward_colour}}-seen' AS forward_seen
           FROM places WHERE colour = '%{{passdb:forward_colour}}' '''
"
    );
    testkit::certs::Authority::new(dir.path(), "edges").server("edge", &["127.0.0.1"]);
    Gatepost::start_in(dir, BINARY, &config, |_| {})
}

/// One that believes our XCLIENT and forwards a colour with each recipient.
fn proxy_to(gatepost: &Gatepost, leg: Leg, colour: &str) -> Proxy {
    let to = gatepost.addr("lmtp");
    let forward = vec![("colour".to_owned(), colour.to_owned())];
    Proxy::start(ProxyOptions { leg, forward, trusted: "127.0.0.1".into(), lmtp: Some(to), ..ProxyOptions::to(to) })
}

/// A client of that proxy on behalf of another.
fn client_of(proxy: &Proxy, ip: &str, ttl: u8) -> LmtpClient {
    let mut client = LmtpClient::ready(proxy.lmtp());
    assert!(client.xclient(&format!("ADDR={ip} PORT=4711 HELO=outer.example SESSION=outer TTL={ttl}")).is_ok());
    client.say_hello();
    client
}

#[track_caller]
fn assert_yes(replies: &[SmtpReply], gatepost: &Gatepost) {
    assert!(replies.iter().all(SmtpReply::is_ok), "{replies:#?}\n{}", gatepost.log().tail());
}

#[test]
fn who_calls_it_is_believed_and_told_on_with_hops_spent() {
    let Some(_) = real::require("dovecot") else { return };
    let fake = FakeLmtp::start(Lmtp::default());
    let gatepost = gatepost(&[("blue", fake.port(), "")], "\"127.0.0.1\"");
    let mut seen = 0;
    for leg in [Leg::Clear, Leg::StartTls] {
        let proxy = proxy_to(&gatepost, leg, "blue");
        for ip in CALLERS {
            let what = format!("{leg:?} {ip}");
            let replies = client_of(&proxy, ip, 3).transaction("s@out.test", &["u1@in.test", "u2+box@in.test"], LETTER);
            assert_yes(&replies, &gatepost);
            seen += 1;
            let mail = fake.wait_for_complete(seen).remove(seen - 1);
            // Each proxy on the way adds to the session and takes a hop.
            let said = format!("SESSION=outer:P1:P1 TTL=1 ADDR={ip} PORT=4711 HELO=outer.example PROTO=LMTP");
            assert_eq!(mail.xclients, [said], "{what}");
            assert_eq!(
                mail.accepted,
                [
                    "<u1@in.test> XRCPTFORWARD=colour+3Dblue+09seen+3Dblue-seen",
                    "<u2+box@in.test> XRCPTFORWARD=colour+3Dblue+09seen+3Dblue-seen"
                ],
                "{what}"
            );
            let line = gatepost.log().wait_for_count(" delivered ", seen * 2).pop().unwrap();
            let shown = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            for piece in [&*format!(" client={shown}:4711 via=127.0.0.1:"), " identity=told ", "session=outer:P1"] {
                assert!(line.contains(piece), "{what}: no {piece:?} in {line}");
            }
            let letter = String::from_utf8(mail.message.unwrap()).unwrap();
            let literal = if ip.contains(':') { format!("[IPv6:{ip}]") } else { format!("[{ip}]") };
            assert!(letter.starts_with(&format!("Received: from outer.example ({literal})")), "{what}: {letter}");
            assert_eq!(letter.contains(" with LMTPS id outer:P1"), leg != Leg::Clear, "{what}: {letter}");
        }
    }
    // The last hop is the proxy's: there is none for us.
    let proxy = proxy_to(&gatepost, Leg::Clear, "blue");
    let replies = client_of(&proxy, "192.0.2.7", 1).transaction("s@out.test", &["u1@in.test"], LETTER);
    assert!(replies[0].text().starts_with("451 4.4.6 "), "{replies:?}\n{}", gatepost.log().tail());
    assert_eq!(fake.transactions().len(), seen);
}

#[test]
fn what_it_forwards_with_a_recipient_chooses_the_server_and_arrives_there() {
    let Some(_) = real::require("dovecot") else { return };
    let options = Options {
        trusted: "127.0.0.1".into(),
        any_user: true,
        forward_logged: vec!["colour".into(), "seen".into()],
        ..Options::default()
    };
    let (blue, red) = (Backend::start(options.clone()), Backend::start(options));
    let gatepost = gatepost(&[("blue", blue.lmtp().port(), ""), ("red", red.lmtp().port(), "any-cert")], "\"127.0.0.1\"");
    for (colour, backend) in [("blue", &blue), ("red", &red)] {
        let proxy = proxy_to(&gatepost, Leg::Clear, colour);
        for ip in CALLERS {
            assert_yes(&client_of(&proxy, ip, 4).transaction("s@out.test", &["u1@in.test"], LETTER), &gatepost);
            backend.log().wait_for_all(&[
                "lmtp(u1)<",
                "<outer:P1:P1> ",
                &format!("forward_colour=<{colour}> forward_seen=<{colour}-seen> rip={ip}: "),
                "saved mail to INBOX",
            ]);
            backend.log().wait_for_all(&["USER", "service=lmtp", &format!("rip={ip}"), "rport=4711"]);
        }
        let messages = backend.delivered("u1").wait_for(2);
        let tls = if colour == "red" { " with LMTPS id outer:P1:P1" } else { " with LMTP id outer:P1:P1" };
        assert!(messages.iter().all(|message| message.received().contains(tls)), "{messages:#?}");
    }
    let lines = gatepost.log().wait_for_count(" delivered ", 4);
    assert!(lines[..2].iter().all(|line| line.contains(" backend_tls=none ")), "{lines:#?}");
    assert!(lines[2..].iter().all(|line| line.contains(" backend_tls=TLSv1.3")), "{lines:#?}");
    // A colour that the table does not have.
    let proxy = proxy_to(&gatepost, Leg::Clear, "green");
    let replies = client_of(&proxy, "192.0.2.7", 4).transaction("s@out.test", &["u1@in.test"], LETTER);
    assert!(replies[0].text().starts_with("550 5.1.1 "), "{replies:?}");
}

#[test]
fn a_dovecot_that_proxies_behind_us_uses_what_is_forwarded() {
    let Some(_) = real::require("dovecot") else { return };
    let backend = Backend::start(Options { trusted: "127.0.0.1".into(), any_user: true, ..Options::default() });
    let next = Proxy::start(ProxyOptions {
        fields: vec!["destuser=%{passdb:forward_colour}@in.test".into()],
        trusted: "127.0.0.1".into(),
        lmtp: Some(backend.lmtp()),
        ..ProxyOptions::to(backend.lmtp())
    });
    let port = next.lmtp().port();
    let users = [
        ("a@in.test".to_owned(), format!("host=127.0.0.1 port={port} forward_colour=blue")),
        ("b@in.test".to_owned(), format!("host=127.0.0.1 port={port} forward_colour=red starttls=any-cert destuser=bob@x.test")),
    ];
    let gatepost = crate::lmtp::gatepost(&users, "");
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    assert_yes(&client.transaction("s@out.test", &["a+box@in.test", "b@in.test"], LETTER), &gatepost);
    let port = client.local_addr().port();
    next.log().wait_for_all(&[
        "PASS",
        "a@in.test",
        "service=lmtp",
        "rip=127.0.0.1",
        &format!("rport={port}"),
        "forward_fields=colour=blue",
    ]);
    next.log().wait_for_all(&["PASS", "bob@x.test", "service=lmtp", "forward_fields=colour=red"]);
    assert_eq!(backend.delivered("blue").wait_for(1)[0].fields("Delivered-To"), ["blue+box@in.test"]);
    backend.delivered("red").wait_for(1);
}

#[test]
fn one_that_does_not_trust_us_offers_nothing_and_mail_flows() {
    let Some(_) = real::require("dovecot") else { return };
    let backend = Backend::start(Options { any_user: true, ..Options::default() });
    let port = backend.lmtp().port();
    let users = ["", "starttls=any-cert"].map(|tls| {
        (format!("u{}@in.test", tls.len()), format!("host=127.0.0.1 port={port} forward_colour=blue destuser=bob {tls}"))
    });
    let gatepost = crate::lmtp::gatepost(&users, "");
    for (n, (to, _)) in (1..).zip(&users) {
        let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
        assert_yes(&client.transaction("s@out.test", &[to], LETTER), &gatepost);
        let line = gatepost.log().wait_for_count(" delivered ", n).pop().unwrap();
        assert!(line.contains(" identity=not-offered ") && line.contains(" rcpt=bob "), "{line}");
        assert_eq!(line.contains(" backend_tls=TLSv1.3"), n == 2, "{line}");
        client.quit();
    }
    let messages = backend.delivered("bob").wait_for(2);
    // It is told at least by whom it has come here.
    for message in messages {
        assert!(message.fields("Received")[1].starts_with("from client.test ([127.0.0.1])"), "{message:?}");
    }
}
