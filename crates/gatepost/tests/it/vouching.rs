//! Peers that say who has signed in, and the clients behind them: whoever signed in at such a peer speaks through it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use testkit::nginx::{Nginx, Question, Verdict, Way};
use testkit::peer::{Backend, FakeBackend, Sasl, SmtpClient};
use testkit::postfix::{self, Options, Postfix};
use testkit::{Protocol, real};

use crate::gate::{BINARY, Gate, Want, config, listeners_for};
use crate::sending::{HELLO, checked_here, unchecked};

/// In clear, for nginx speaks nothing else to what is behind it.
const LISTENER: &str =
    "[[listen]]\nprotocol = \"submission\"\naddress = \"127.0.0.1:0\"\ntls = \"none\"\ncleartext_auth = \"trusted\"\n";

/// A Gatepost that believes who has signed in at a peer on this host, and signs in at the backend with a password of its own.
fn believing(backend: &FakeBackend) -> Gate {
    let users = unchecked(backend.port(), r#", pass = "row-secret""#);
    let trust = "networks = [\"127.0.0.1\"]\nlogin = [\"127.0.0.1\"]";
    Gate::start(&Want { users: &users, trust, more: LISTENER, ..Default::default() })
}

/// Signs in as joe at the peer, and tries to be the boss at the Gatepost behind it.
#[track_caller]
fn climb(peer: SocketAddr, inner: &Gate, backend: &FakeBackend) {
    let forged = ["LOGIN=boss", "LOGIN=boss ADDR=192.0.2.99", "ADDR=192.0.2.99", "LOGIN=[UNAVAILABLE]"];
    for (n, greets) in [true, false].into_iter().enumerate() {
        let mut client = SmtpClient::connect(peer);
        client.greeting();
        client.ehlo(HELLO);
        let reply = client.authenticate(&Sasl::plain("", "joe", "mine"));
        assert!(reply.is_ok(), "{reply:?}\n{}", inner.gatepost.log().tail());
        if greets {
            assert_eq!(client.ehlo(HELLO).get("XCLIENT"), None);
        }
        for said in forged {
            let reply = client.xclient(said);
            assert!(reply.text().starts_with("550 5.7.0 "), "{said}: {reply:?}");
            client.ehlo(HELLO);
        }
        assert!(client.command("MAIL FROM:<boss@example.com>").is_ok(), "{}", inner.gatepost.log().tail());
        let logins = backend.wait_for_logins(n + 1);
        assert_eq!((logins[n].user.as_str(), logins[n].password.as_str()), ("joe", "row-secret"));
        client.quit();
    }
    assert_eq!((inner.gatepost.log().count("user=boss"), inner.gatepost.log().count("192.0.2.99")), (0, 0));
}

#[test]
fn nobody_becomes_another_through_a_gatepost_in_front() {
    let backend = FakeBackend::start(Backend::of(Protocol::Submission));
    let inner = believing(&backend);
    let users = checked_here(inner.at(Protocol::Submission).port(), r#", proxy_noauth = "y""#);
    let more = listeners_for(Protocol::Submission);
    let outer = Gate::start(&Want { users: &users, more: &more, ..Default::default() });
    climb(outer.at(Protocol::Submission), &inner, &backend);
    backend.finish();
}

#[test]
fn nobody_becomes_another_through_an_nginx_in_front() {
    let Some(_) = real::require("nginx") else { return };
    let backend = FakeBackend::start(Backend::of(Protocol::Submission));
    let inner = believing(&backend);
    let to = inner.at(Protocol::Submission);
    let check = move |asked: &Question| if asked.password == "mine" { Verdict::At(to) } else { Verdict::No("No.".into()) };
    let nginx = Nginx::start(&[Way { auth: false, ..Way::submission() }], check);
    climb(nginx.addr(0), &inner, &backend);
    backend.finish();
}

/// Why a row that tells of no client must not have a user named by XCLIENT: see
/// `who_is_named_without_a_password_comes_with_a_client`.
#[test]
fn a_postfix_that_is_told_of_no_client_lets_a_user_become_another() {
    let Some(_) = postfix::require() else { return };
    let postfix = Postfix::start(Options { xclient_hosts: "127.0.0.1".into(), ..Options::default() });
    for (client, again) in [("", 220), (" ADDR=192.0.2.7", 550)] {
        let mut smtp = SmtpClient::greeted(postfix.addr());
        smtp.ehlo(HELLO);
        smtp.expect(format!("XCLIENT LOGIN=joe{client}"), "220");
        smtp.ehlo(HELLO);
        assert_eq!(smtp.xclient("LOGIN=boss").code, again, "{client:?}");
        smtp.quit();
    }
}

#[test]
fn a_peer_that_leaves_behind_its_mail_is_not_waited_for() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let backend = FakeBackend::start(Backend::of(Protocol::Submission));
    let fields = format!(r#", pass = "row-secret", delay_until = "{}""#, now + 200);
    let users = unchecked(backend.port(), &fields);
    let trust = "networks = [\"127.0.0.1\"]\nlogin = [\"127.0.0.1\"]";
    let gate = Gate::start(&Want { users: &users, trust, more: LISTENER, ..Default::default() });
    let log = gate.gatepost.log();
    let mut client = SmtpClient::connect(gate.at(Protocol::Submission));
    client.greeting();
    client.expect("XCLIENT ADDR=192.0.2.7 LOGIN=joe", "220");
    client.ehlo(HELLO);
    client.send("MAIL FROM:<joe@example.com>\r\n");
    log.wait_for(" held protocol=submission ");
    client.half_close();
    log.wait_for("closed, while the login of joe was looked at");
    client.expect_end();
    assert_eq!(backend.connections(), 0);
    backend.finish();
}

/// `nopassword` is no contradiction in a row for those of whom a peer says that they have signed in.
#[test]
fn check_finds_no_fault_with_a_row_for_whom_a_peer_vouches() {
    let backend = FakeBackend::start(Backend::of(Protocol::Submission));
    let gate = believing(&backend);
    let vouchers = "networks = [\"127.0.0.1\"]\nlogin = [\"127.0.0.1\"]";
    let only = "protocols = [\"submission\"]\n";
    for (trust, block, row, fine) in [
        (vouchers, only, "proxy_noauth = \"y\"", true),
        (vouchers, only, "pass = \"x\"", true),
        (vouchers, only, "pass = \"x\", port = \"587x\"", false),
        (vouchers, "", "pass = \"x\"", false),
        ("", only, "proxy_noauth = \"y\"", false),
        ("", only, "pass = \"x\"", false),
    ] {
        let fields = format!("proxy = \"y\", nopassword = \"y\", host = \"h\", {row}");
        let rest =
            "[[users]]\nname = \"rest\"\ndriver = \"static\"\nfields = { proxy = \"y\", nopassword = \"y\", host = \"h\" }\n";
        let users = format!("[[users]]\ndriver = \"static\"\n{block}fields = {{ {fields} }}\n{rest}");
        gate.gatepost.dir().write("gatepost.toml", config(&Want { users: &users, trust, more: LISTENER, ..Default::default() }));
        let check = Command::new(BINARY).args(["check", "--config"]).arg(gate.gatepost.dir().join("gatepost.toml")).output();
        let output = check.expect("check");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(if fine { 0 } else { 3 }), "{trust} {block} {row}: {said}");
        assert_eq!(said.contains("cannot sign in"), !fine, "{said}");
    }
    backend.finish();
}
