//! A real Dovecot 2.3 proxy in front of Gatepost: what it says of the client is believed, logged and told on.

use crate::gate::{Gate, Want, everybody_at, listeners_for};
use crate::sending::{alice, delivered, send};
use std::net::IpAddr;
use testkit::dovecot::{Backend, Leg, Options, Proxy, ProxyOptions};
use testkit::peer::{AnyClient, FakeBackend, Sasl, SmtpClient};
use testkit::postfix::{self, Postfix};
use testkit::{Protocol, real};

/// Where the client of these tests stands.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 42));

const LEGS: [Leg; 3] = [Leg::Clear, Leg::StartTls, Leg::Tls];

/// A proxy to this Gatepost.
fn proxy_to(gate: &Gate, protocol: Protocol, leg: Leg) -> Proxy {
    // By ManageSieve it begins TLS with STARTTLS in any case.
    let from_first_byte = leg == Leg::Tls && protocol.implicit().is_some();
    let to = if from_first_byte { gate.tls_at(protocol) } else { gate.at(protocol) };
    let leg = if leg == Leg::Tls && !from_first_byte { Leg::StartTls } else { leg };
    Proxy::start(ProxyOptions { leg, forward: vec![("team".into(), "blue".into())], ..ProxyOptions::to(to) })
}

/// A client of that proxy that has read its greeting.
fn client_of(proxy: &Proxy, protocol: Protocol) -> AnyClient {
    let mut client = AnyClient::connect_from(protocol, CLIENT, proxy.addresses().of(protocol));
    client.greeting();
    client
}

#[test]
fn its_clients_are_logged_and_told_on() {
    let Some(_) = real::require("dovecot") else { return };
    let options =
        Options { trusted: "127.0.0.1".into(), forward_logged: vec!["team".into(), "local".into()], ..Default::default() };
    let dovecot = Backend::start(options);
    for (protocol, n, leg) in
        Protocol::ALL.into_iter().flat_map(|p| LEGS.into_iter().enumerate().map(move |(n, leg)| (p, n, leg)))
    {
        let what = format!("{}, {leg:?}", protocol.name());
        // A received field is at hand in the query, and goes on besides one of our own.
        let users = everybody_at(dovecot.addresses().of(protocol), r#", forward_local = "%{passdb:forward_team}+%u""#);
        let (trust, more) = (r#"networks = ["127.0.0.1"]"#, listeners_for(protocol));
        let gate = Gate::start(&Want { users: &users, trust, more: &more, ..Default::default() });
        let proxy = proxy_to(&gate, protocol, leg);
        let mut client = client_of(&proxy, protocol);
        let reply = client.login("alice", "alice-secret");
        assert!(reply.ok, "{what}: {reply:?}\n{}\n{}", proxy.log().tail(), gate.gatepost.log().tail());
        let port = client.local_addr().port();

        let ours = gate.gatepost.wait_for(" info login ");
        assert!(ours.contains(&format!("client=127.0.0.42:{port} ")), "{what}: {ours}");
        assert!(ours.contains("via=127.0.0.1:"), "{what}: {ours}");
        let session = ours.rsplit_once("session=").unwrap().1.trim_matches('"');
        proxy.log().wait_for(&format!("session=<{session}>"));

        let theirs = dovecot.login_line_of(protocol, n + 1);
        for piece in [
            &*format!("rip=127.0.0.42, rport={port}"),
            &format!("session=<{session}>"),
            "forward_team=<blue>",
            "forward_local=<blue+alice>",
        ] {
            assert!(theirs.contains(piece), "{what}: no {piece:?} in {theirs}");
        }
        assert!(client.noop().ok, "{what}");
        client.logout();
    }
}

#[test]
fn its_hops_are_counted_on() {
    let Some(_) = real::require("dovecot") else { return };
    for protocol in Protocol::ALL {
        let backend = FakeBackend::start(testkit::peer::Backend::of(protocol));
        let users = everybody_at(backend.addr(), "");
        let (trust, more) = (r#"networks = ["127.0.0.1"]"#, listeners_for(protocol));
        let gate = Gate::start(&Want { users: &users, trust, more: &more, ..Default::default() });
        for (n, leg) in LEGS.into_iter().enumerate() {
            let proxy = proxy_to(&gate, protocol, leg);
            let mut client = client_of(&proxy, protocol);
            assert!(client.login("alice", "x").ok, "{}\n{}", proxy.log().tail(), gate.gatepost.log().tail());
            // Five to begin with, spent by the proxy and by us.
            let hops = if protocol == Protocol::Imap { r#""x-proxy-ttl" "3""# } else { " TTL=3" };
            let logins = backend.wait_for_logins(n + 1);
            let said = logins[n].introductions();
            assert!(said.len() == 1 && said[0].contains(hops), "{}, {leg:?}: {said:?}", protocol.name());
        }
    }
}

/// It says its own name in EHLO, behind XCLIENT and without waiting for the answer, and the client's in XCLIENT.
#[test]
fn what_a_client_calls_itself_goes_past_it() {
    let Some(_) = real::require("dovecot") else { return };
    let protocol = Protocol::Submission;
    let backend = FakeBackend::start(testkit::peer::Backend::of(protocol));
    let users = everybody_at(backend.addr(), "");
    let (trust, more) = (r#"networks = ["127.0.0.1"]"#, listeners_for(protocol));
    let gate = Gate::start(&Want { users: &users, trust, more: &more, ..Default::default() });
    for (n, (leg, sasl)) in
        LEGS.into_iter().zip([Sasl::plain("", "alice", "x"), Sasl::login("alice", "x")].iter().cycle()).enumerate()
    {
        let proxy = proxy_to(&gate, protocol, leg);
        let mut client = SmtpClient::connect_from(CLIENT, proxy.addresses().submission);
        client.greeting();
        client.ehlo("laptop.example");
        let reply = client.authenticate(sasl);
        assert!(reply.is_ok(), "{leg:?}: {reply:?}\n{}\n{}", proxy.log().tail(), gate.gatepost.log().tail());
        let seen = backend.wait_for_logins(n + 1).swap_remove(n);
        let said = seen.xclients.join(" ");
        let port = client.local_addr().port();
        for piece in
            ["ADDR=127.0.0.42 ", &format!("PORT={port} "), "HELO=laptop.example ", "PROTO=ESMTP ", "FORWARD=dGVhbT1ibHVl "]
        {
            assert!(format!("{said} ").contains(piece), "{leg:?}: no {piece:?} in {said}");
        }
        assert!(seen.hellos.iter().all(|hello| hello == "EHLO laptop.example"), "{leg:?}: {:?}", seen.hellos);
        client.send_message("alice@example.com", &["carol@example.org"], b"Subject: x\r\n\r\n.\r\n");
        assert_eq!(backend.letters().wait_for(n + 1)[n].hello, "EHLO laptop.example");
        client.quit();
    }
}

#[test]
fn a_real_postfix_behind_us_knows_its_clients() {
    let Some(_) = postfix::require() else { return };
    let extra = "smtpd_client_port_logging = yes\n".to_owned();
    let postfix = Postfix::start(postfix::Options { xclient_hosts: "127.0.0.1".into(), extra, ..Default::default() });
    let protocol = Protocol::Submission;
    let users = everybody_at(postfix.addr(), "");
    let (trust, more) = (r#"networks = ["127.0.0.1"]"#, listeners_for(protocol));
    let gate = Gate::start(&Want { users: &users, trust, more: &more, ..Default::default() });
    for leg in LEGS {
        let proxy = proxy_to(&gate, protocol, leg);
        let mut client = SmtpClient::connect_from(CLIENT, proxy.addresses().submission);
        client.greeting();
        client.ehlo("laptop.example");
        let reply = client.authenticate(&alice());
        assert!(reply.is_ok(), "{leg:?}: {reply:?}\n{}\n{}", proxy.log().tail(), gate.gatepost.log().tail());
        let port = client.local_addr().port();
        let subject = format!("{leg:?}");
        send(client, &subject);
        postfix.log().wait_for(&format!("client=unknown[127.0.0.42]:{port}, sasl_method=PLAIN, sasl_username=alice"));
        let received = delivered(&postfix, &subject).received();
        assert!(received.starts_with("from laptop.example (unknown [127.0.0.42])"), "{leg:?}: {received}");
    }
}

#[test]
fn identity_said_in_clear_can_be_dropped() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = Backend::start(Options { trusted: "127.0.0.1".into(), ..Default::default() });
    let trust = "networks = [\"127.0.0.1\"]\nidentity_before_tls = \"drop\"";
    // XCLIENT it says behind STLS and STARTTLS, and so that is not in question.
    for protocol in Protocol::ALL {
        let client_ip = if protocol == Protocol::Imap { "127.0.0.1" } else { "127.0.0.42" };
        let users = everybody_at(dovecot.addresses().of(protocol), "");
        let more = listeners_for(protocol);
        let gate = Gate::start(&Want { users: &users, trust, more: &more, ..Default::default() });
        let proxy = proxy_to(&gate, protocol, Leg::StartTls);
        assert!(client_of(&proxy, protocol).login("alice", "alice-secret").ok);
        let line = dovecot.login_line_of(protocol, 1);
        assert!(line.contains(&format!("rip={client_ip},")), "{}: {line}", protocol.name());
    }
}
