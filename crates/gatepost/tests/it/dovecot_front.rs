//! A real Dovecot 2.3 proxy in front of Gatepost: what it says of the client is believed, logged and told on.

use crate::gate::{Gate, Want, everybody_at};
use testkit::dovecot::{Backend, Leg, Options, Proxy, ProxyOptions};
use testkit::peer::Client;
use testkit::real;

#[test]
fn its_clients_are_logged_and_told_on() {
    let Some(_) = real::require("dovecot") else { return };
    let options =
        Options { trusted: "127.0.0.1".into(), forward_logged: vec!["team".into(), "local".into()], ..Default::default() };
    let dovecot = Backend::start(options);
    for (n, leg) in [Leg::Clear, Leg::StartTls, Leg::Tls].into_iter().enumerate() {
        // A received field is at hand in the query, and goes on besides one of our own.
        let users = everybody_at(dovecot.imap(), r#", forward_local = "%{passdb:forward_team}+%u""#);
        let gate = Gate::start(&Want { users: &users, trust: r#"networks = ["127.0.0.1"]"#, ..Default::default() });
        let to = if leg == Leg::Tls { gate.imaps() } else { gate.imap() };
        let proxy = Proxy::start(ProxyOptions { leg, forward: vec![("team".into(), "blue".into())], ..ProxyOptions::to(to) });
        let mut client = Client::connect_from("127.0.0.42".parse().unwrap(), proxy.imap());
        client.greeting();
        let reply = client.login("alice", "alice-secret");
        assert!(reply.is_ok(), "{leg:?}: {reply:?}\n{}\n{}", proxy.log().tail(), gate.gatepost.log().tail());
        let port = client.local_addr().port();

        let ours = gate.gatepost.wait_for(" info login ");
        assert!(ours.contains(&format!("client=127.0.0.42:{port} ")), "{leg:?}: {ours}");
        assert!(ours.contains("via=127.0.0.1:"), "{leg:?}: {ours}");
        let session = ours.rsplit_once("session=").unwrap().1.trim_matches('"');
        proxy.log().wait_for(&format!("session=<{session}>"));

        let theirs = dovecot.login_line(n + 1);
        for piece in [
            &*format!("rip=127.0.0.42, rport={port}"),
            &format!("session=<{session}>"),
            "forward_team=<blue>",
            "forward_local=<blue+alice>",
        ] {
            assert!(theirs.contains(piece), "{leg:?}: no {piece:?} in {theirs}");
        }
        client.ok("SELECT INBOX");
        client.logout();
    }
}

#[test]
fn identity_said_in_clear_can_be_dropped() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = Backend::start(Options { trusted: "127.0.0.1".into(), ..Default::default() });
    let users = everybody_at(dovecot.imap(), "");
    let trust = "networks = [\"127.0.0.1\"]\nidentity_before_tls = \"drop\"";
    let gate = Gate::start(&Want { users: &users, trust, ..Default::default() });
    let proxy = Proxy::start(ProxyOptions { leg: Leg::StartTls, ..ProxyOptions::to(gate.imap()) });
    let mut client = Client::connect_from("127.0.0.42".parse().unwrap(), proxy.imap());
    client.greeting();
    assert!(client.login("alice", "alice-secret").is_ok());
    let line = dovecot.login_line(1);
    assert!(line.contains("rip=127.0.0.1,"), "the proxy itself is the client: {line}");
}
