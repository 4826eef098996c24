//! A real Exim 4.96 behind Gatepost, which knows no XCLIENT, and a scripted one that does.

use testkit::Protocol;
use testkit::exim::{Exim, Options};
use testkit::peer::{Backend, FakeBackend, Sasl};
use testkit::real;

use crate::gate::everybody_at;
use crate::sending::{Arrival, HELLO, LEGS, Leg, Way, alice, checked_here, delivered, send, ways_to_sign_in};

#[test]
fn mail_flows_and_the_journal_says_that_nothing_was_told() {
    let Some(_) = real::require("exim") else { return };
    // What it offers in TLS alone, it offers there.
    let exim = Exim::start(Options::default());
    for leg in LEGS {
        let way = Way::to(&exim, leg, "", "");
        for (n, sasl) in (1..).zip(ways_to_sign_in()) {
            let subject = format!("{leg:?} {n}");
            let (mut client, who) = way.client(Arrival::Itself);
            way.sign_in(&mut client, &sasl);
            send(client, &subject);
            let message = delivered(&exim, &subject);
            assert_eq!(message.body(), b".\n..\nWords.\n");
            let received = message.received();
            // The name at least is the client's.
            assert!(received.starts_with("from [127.0.0.1] (port="), "{received}");
            assert!(received.contains(&format!(" helo={HELLO}) by exim.test with esmtp")), "{received}");
            let ours = way.login_line(n);
            for piece in [
                "protocol=submission user=alice ",
                &format!(" client={who} "),
                &format!(" mechanism={} ", sasl.mechanism()),
                if leg == Leg::Clear { " backend_tls=none " } else { " backend_tls=TLSv1.3:" },
                " identity=not-offered ",
            ] {
                assert!(ours.contains(piece), "{subject}: no {piece:?} in {ours}");
            }
        }
        let spelled = if leg == Leg::Clear { " P=esmtpa A=plain:alice " } else { " P=esmtpsa X=TLS1.3:" };
        exim.log().wait_for_all(&["<= alice@example.com ", &format!("H=({HELLO}) [127.0.0.1]:"), spelled]);
    }
}

#[test]
fn passwords_are_for_it_to_judge() {
    let Some(_) = real::require("exim") else { return };
    let exim = Exim::start(Options { auth_in_tls_only: true, ..Options::default() });
    let way = Way::to(&exim, Leg::StartTls, "", "");
    let (mut client, _) = way.client(Arrival::Itself);
    for sasl in [Sasl::plain("", "alice", "wrong"), Sasl::login("nobody", "wrong")] {
        assert_eq!(client.authenticate(&sasl).text(), "535 5.7.8 Authentication failed.");
    }
    way.sign_in(&mut client, &alice());
    send(client, "at last");
    delivered(&exim, "at last");
    // Where it wants TLS and the row has none, that is a mistake of ours and no wrong password.
    let way = Way::to(&exim, Leg::Clear, "", "");
    let (mut client, _) = way.client(Arrival::Itself);
    let reply = client.authenticate(&alice());
    assert!(reply.text().starts_with("454 4.7.0 "), "{reply:?}");
    assert!(way.gatepost.wait_for(" refused ").contains("reason=backend-config"));
}

#[test]
fn master_users_and_other_mechanisms() {
    let Some(_) = real::require("exim") else { return };
    let exim = Exim::start(Options::default());
    let port = exim.addr().port();
    for (fields, logged) in [
        (r#", pass = "master-secret", master = "master""#, "A=plain:alice "),
        (r#", pass = "bob-secret", destuser = "bob""#, "A=plain:bob "),
        (r#", pass = "bob-secret", destuser = "bob", proxy_mech = "LOGIN""#, "A=login:bob "),
    ] {
        let users = checked_here(port, fields);
        let way = Way::with(&users, "");
        let log = exim.log().from_here();
        let (mut client, _) = way.client(Arrival::Itself);
        way.sign_in(&mut client, &Sasl::login("alice", "mine"));
        send(client, fields);
        log.wait_for_all(&["<= alice@example.com ", logged]);
    }
}

/// Debian's has none. What this one does was seen at a real one.
#[test]
fn one_with_xclient_hears_all_of_it_at_once_and_bare() {
    let backend = FakeBackend::start(Backend::exim());
    let way = Way::with(&everybody_at(backend.addr(), ""), "");
    let arrivals = [Arrival::Itself, Arrival::Told("192.0.2.66"), Arrival::Told("2001:db8::66"), Arrival::Headed("2001:db8::77")];
    for (n, (arrival, sasl)) in arrivals.into_iter().zip(ways_to_sign_in()).enumerate() {
        let (mut client, who) = way.client(arrival);
        way.sign_in(&mut client, &sasl);
        send(client, "x");
        let seen = backend.wait_for_logins(n + 1).swap_remove(n);
        let (ip, port) = (who.ip(), who.port());
        assert_eq!(seen.logged, format!("H=({HELLO}) [{ip}]:{port}"));
        assert_eq!(seen.commands, ["EHLO", "XCLIENT", "EHLO", "AUTH"]);
        assert_eq!(seen.hellos, [format!("EHLO {HELLO}"), format!("EHLO {HELLO}")]);
        let said = &seen.xclients[0];
        for piece in [format!("ADDR={ip} "), format!("PORT={port} ")] {
            assert!(format!("{said} ").contains(&piece), "no {piece:?} in {said}");
        }
        assert!(!said.contains("IPV6:") && !said.contains("HELO") && !said.contains("PROTO"), "{said}");
        let letter = backend.letters().wait_for(n + 1).swap_remove(n);
        assert_eq!((&*letter.user, &*letter.hello), ("alice", &*format!("EHLO {HELLO}")));
        assert!(way.login_line(n + 1).contains(" identity=told "));
    }
}

#[test]
fn one_with_xclient_can_be_told_who_has_signed_in() {
    let backend = FakeBackend::start(Backend::exim());
    let users = checked_here(backend.port(), r#", proxy_noauth = "y""#);
    let way = Way::with(&users, "");
    let (mut client, who) = way.client(Arrival::Told("2001:db8::66"));
    way.sign_in(&mut client, &Sasl::plain("", "joe@example.org", "mine"));
    send(client, "x");
    let seen = backend.wait_for_logins(1).remove(0);
    assert_eq!((&*seen.user, &*seen.mechanism, &*seen.password), ("joe@example.org", "XCLIENT", ""));
    assert_eq!(seen.logged, format!("H=({HELLO}) [{}]:{}", who.ip(), who.port()));
    assert_eq!(seen.commands, ["EHLO", "XCLIENT", "EHLO"]);
    assert_eq!(backend.letters().wait_for(1)[0].user, "joe@example.org");
}

/// What a refused command has said counts all the same there, so nobody goes on on that connection.
#[test]
fn one_that_refuses_half_way_is_called_anew_or_not_at_all() {
    let half = Backend {
        // An Exim that lists more than it takes.
        capabilities: Backend::exim().capabilities.replace("XCLIENT ADDR NAME PORT", "XCLIENT ADDR NAME PORT FOO"),
        xclient: testkit::peer::Xclient::Answered("501 XCLIENT: unrecognised parameter 'NAME'".into()),
        ..Backend::exim()
    };
    let backend = FakeBackend::start(Backend { protocol: Protocol::Submission, ..half });
    let users = everybody_at(backend.addr(), "");
    let way = Way::with(&users, "identity_refused = \"fail\"");
    let (mut client, _) = way.client(Arrival::Itself);
    assert!(client.authenticate(&alice()).text().starts_with("454 4.7.0 "));
    let refused = way.gatepost.wait_for(" refused ");
    assert!(refused.contains("unrecognised parameter") && refused.contains(&format!(" helo={HELLO} ")), "{refused}");
    assert_eq!((backend.connections(), backend.logins().len()), (1, 0));

    let way = Way::with(&users, "identity_refused = \"continue\"");
    send(way.signed_in(), "x");
    assert!(way.gatepost.wait_for(" identity-refused ").contains("unrecognised parameter"));
    let seen = backend.wait_for_logins(1).remove(0);
    assert_eq!(seen.commands, ["EHLO", "AUTH"], "on a connection of its own");
    assert_eq!(seen.hellos, [format!("EHLO {HELLO}")], "and it may know as much");
    assert_eq!(backend.connections(), 3);
    assert!(way.login_line(1).contains(&format!(" mechanism=PLAIN helo={HELLO} ")), "{}", way.login_line(1));
}
