//! A real Postfix behind Gatepost: whom it believes to be calling, in its log and in the mail, and what it refuses.

use testkit::Dir;
use testkit::Protocol;
use testkit::peer::{Backend, FakeBackend, Sasl, Xclient};
use testkit::postfix::{self, Options, Postfix};

use crate::sending::{Arrival, HELLO, LEGS, Leg, Way, alice, checked_here, delivered, send, ways_to_sign_in};

/// One that believes Gatepost, and logs the ports of clients.
#[track_caller]
fn authorising(extra: &str) -> Postfix {
    let extra = format!("smtpd_client_port_logging = yes\n{extra}");
    Postfix::start(Options { xclient_hosts: "127.0.0.1".into(), extra, ..Options::default() })
}

const ARRIVALS: [Arrival; 5] = [
    Arrival::Itself,
    Arrival::Told("192.0.2.66"),
    Arrival::Told("2001:db8::66"),
    Arrival::Headed("192.0.2.77"),
    Arrival::Headed("2001:db8::77"),
];

#[test]
fn the_true_client_is_in_its_log_and_in_the_mail() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("");
    for leg in LEGS {
        let way = Way::to(&postfix, leg, "", "");
        let cases = ARRIVALS.into_iter().flat_map(|arrival| ways_to_sign_in().map(|sasl| (arrival, sasl)));
        for (n, (arrival, sasl)) in (1..).zip(cases) {
            let what = format!("{leg:?} {arrival:?} {n}");
            let (mut client, who) = way.client(arrival);
            way.sign_in(&mut client, &sasl);
            send(client, &what);
            let (ip, port) = (who.ip(), who.port());
            let logged = format!("client=unknown[{ip}]:{port}, sasl_method=PLAIN, sasl_username=alice");
            postfix.log().wait_for_all(&["smtpd", &logged]);
            let message = delivered(&postfix, &what);
            assert_eq!(message.body(), b".\n..\nWords.\n", "{what}");
            let received = message.received();
            let shown = if ip.is_ipv6() { format!("IPv6:{ip}") } else { ip.to_string() };
            assert!(received.starts_with(&format!("from {HELLO} (unknown [{shown}])")), "{what}: {received}");
            let with = if leg == Leg::Clear { " with ESMTPA " } else { " with ESMTPSA " };
            for piece in ["(Authenticated sender: alice)", with] {
                assert!(received.contains(piece), "{what}: no {piece:?} in {received}");
            }
            assert_eq!(received.contains("(using TLSv1.3 "), leg != Leg::Clear, "{what}: {received}");

            let ours = way.login_line(n);
            let backend_tls = if leg == Leg::Clear { " backend_tls=none " } else { " backend_tls=TLSv1.3:" };
            for piece in [
                "protocol=submission user=alice ",
                &format!(" client={who} "),
                &format!(" mechanism={} ", sasl.mechanism()),
                " tls=TLSv1.3:",
                backend_tls,
                " identity=told ",
            ] {
                assert!(ours.contains(piece), "{what}: no {piece:?} in {ours}");
            }
            assert_eq!(ours.contains(" via="), arrival != Arrival::Itself, "{what}: {ours}");
        }
        // It was asked for the passwords of the true clients, too.
        postfix.dovecot().log().wait_for_all(&["service=smtp", "rip=2001:db8::66"]);
    }
}

#[test]
fn names_that_a_trusted_peer_said_arrive() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("");
    let way = Way::to(&postfix, Leg::StartTls, "", "");
    let (mut client, _) = way.client(Arrival::Told("192.0.2.66"));
    let said = "NAME=pc.isp.example REVERSE_NAME=pc.isp.example ADDR=192.0.2.67 PORT=67 HELO=phone.example PROTO=ESMTP";
    assert_eq!(client.xclient(said).code, 220);
    // A proxy's own.
    client.ehlo("webmail.example");
    way.sign_in(&mut client, &alice());
    send(client, "names");
    let received = delivered(&postfix, "names").received();
    assert!(received.starts_with("from phone.example (pc.isp.example [192.0.2.67])"), "{received}");
    postfix.log().wait_for("client=pc.isp.example[192.0.2.67]:67, sasl_method=PLAIN, sasl_username=alice");
}

#[test]
fn a_mechanism_is_taken_that_it_offers() {
    let Some(_) = postfix::require() else { return };
    for (offered, fields, said) in [
        ("plain login", "", "PLAIN"),
        ("plain login", r#", proxy_mech = "LOGIN""#, "LOGIN"),
        ("login", "", "LOGIN"),
        ("plain", "", "PLAIN"),
    ] {
        let mut options = Options { xclient_hosts: "127.0.0.1".into(), ..Options::default() };
        options.dovecot.extra = format!("auth_mechanisms = {offered}\n");
        let postfix = Postfix::start(options);
        let way = Way::to(&postfix, Leg::Clear, fields, "");
        for (n, sasl) in ways_to_sign_in().iter().enumerate() {
            let (mut client, who) = way.client(Arrival::Itself);
            way.sign_in(&mut client, sasl);
            send(client, &format!("{n}"));
            let logged = format!("client=unknown[{}], sasl_method={said}, sasl_username=alice", who.ip());
            postfix.log().wait_for_count(&logged, n + 1);
        }
    }
}

#[test]
fn where_it_does_not_know_us_mail_flows_and_the_journal_says_so() {
    let Some(_) = postfix::require() else { return };
    let postfix = Postfix::start(Options::default());
    for (leg, refused) in LEGS.into_iter().flat_map(|leg| ["fail", "continue"].map(|refused| (leg, refused))) {
        let way = Way::to(&postfix, leg, "", &format!("identity_refused = \"{refused}\""));
        for (n, sasl) in (1..).zip(ways_to_sign_in()) {
            let what = format!("{leg:?} {refused} {n}");
            let (mut client, _) = way.client(Arrival::Itself);
            way.sign_in(&mut client, &sasl);
            send(client, &what);
            let received = delivered(&postfix, &what).received();
            // The name at least is the client's.
            assert!(received.starts_with(&format!("from {HELLO} (unknown [127.0.0.1])")), "{what}: {received}");
            let ours = way.login_line(n);
            assert!(ours.contains(" identity=not-offered ") && ours.contains(" client=127.0.0.42:"), "{what}: {ours}");
        }
        // It is no refusal.
        assert_eq!(way.gatepost.log().count(" identity-refused "), 0);
    }
}

/// With a map between its ears, Postfix refuses what it has listed.
#[test]
fn where_it_refuses_what_it_offers_the_journal_says_so() {
    let Some(_) = postfix::require() else { return };
    // 501 may have changed half of what was said; the other has changed nothing.
    for (instead, code) in [("XCLIENT", "501 5.5.4"), ("NONSENSE", "500 5.5.2")] {
        let dir = Dir::new();
        // Ours names HELO.
        let map = dir.write("filter", format!("/^XCLIENT .*HELO=/ {instead}\n"));
        let postfix = authorising(&format!("smtpd_command_filter = regexp:{}\n", map.display()));
        let way = Way::to(&postfix, Leg::StartTls, "", "identity_refused = \"fail\"");
        let (mut client, _) = way.client(Arrival::Itself);
        let reply = client.authenticate(&alice());
        assert!(reply.text().starts_with("454 4.7.0 "), "{reply:?}\n{}", way.gatepost.log().tail());
        let refused = way.gatepost.wait_for(" refused ");
        for piece in ["protocol=submission", "side=backend", "reason=backend-config", "refused to hear who is calling", code] {
            assert!(refused.contains(piece), "no {piece:?} in {refused}");
        }
        assert_eq!(postfix.log().count("sasl_"), 0, "no password went there");

        let way = Way::to(&postfix, Leg::StartTls, "", "identity_refused = \"continue\"");
        let (mut client, _) = way.client(Arrival::Itself);
        way.sign_in(&mut client, &alice());
        send(client, code);
        let received = delivered(&postfix, code).received();
        assert!(received.starts_with(&format!("from {HELLO} (unknown [127.0.0.1])")), "{received}");
        let warning = way.gatepost.wait_for(" identity-refused ");
        assert!(warning.contains(" warning ") && warning.contains(code), "{warning}");
        assert!(way.login_line(1).contains(" identity=not-told "), "{}", way.login_line(1));
        // The price, of which the documents warn: our right to it is the client's.
        assert_eq!(way.signed_in().xclient("ADDR=192.0.2.99 PORT=99").code, 220);
    }
}

/// Real ones say this to those that they do not list it to, so this one is scripted.
#[test]
fn where_a_backend_refuses_with_550_the_journal_says_so() {
    let xclient = Xclient::Answered("550 5.7.0 Error: insufficient authorization".into());
    let backend = FakeBackend::start(Backend { xclient, ..Backend::of(Protocol::Submission) });
    let users = crate::gate::everybody_at(backend.addr(), "");
    let way = Way::with(&users, "identity_refused = \"fail\"");
    let (mut client, _) = way.client(Arrival::Itself);
    let reply = client.authenticate(&alice());
    assert!(reply.text().starts_with("454 4.7.0 "), "{reply:?}");
    let refused = way.gatepost.wait_for(" refused ");
    assert!(refused.contains("reason=backend-config") && refused.contains("insufficient authorization"), "{refused}");
    assert_eq!(backend.logins().len(), 0);

    let way = Way::with(&users, "identity_refused = \"continue\"");
    send(way.signed_in(), "x");
    assert!(way.gatepost.wait_for(" identity-refused ").contains("insufficient authorization"));
    assert!(way.login_line(1).contains(" identity=not-told "), "{}", way.login_line(1));
    assert_eq!(backend.wait_for_logins(1)[0].user, "alice");
}

#[test]
fn without_a_password_it_is_told_who_has_signed_in() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("");
    for (what, fields, backend) in [("row", r#", proxy_noauth = "y""#, ""), ("everybody", "", "submission_login = \"xclient\"")] {
        for leg in [Leg::Clear, Leg::StartTls] {
            let tls = if leg == Leg::Clear { "" } else { r#", starttls = "any-cert""# };
            let way = Way::with(&checked_here(postfix.addr().port(), &format!("{tls}{fields}")), backend);
            for (n, sasl) in (1..).zip([Sasl::plain("", "Alice", "mine"), Sasl::login("alice", "mine")]) {
                let subject = format!("{what} {leg:?} {n}");
                let (mut client, who) = way.client(Arrival::Itself);
                let wrong = client.authenticate(&Sasl::plain("", "alice", "alice-secret"));
                assert!(wrong.text().starts_with("535 5.7.8 "), "{wrong:?}");
                assert_eq!(client.authenticate(&sasl).text(), "235 2.7.0 Logged in.", "{}", way.gatepost.log().tail());
                send(client, &subject);
                postfix.log().wait_for(&format!(
                    "client=unknown[{}]:{}, sasl_method=XCLIENT, sasl_username=alice",
                    who.ip(),
                    who.port()
                ));
                let received = delivered(&postfix, &subject).received();
                assert!(received.starts_with(&format!("from {HELLO} (unknown [127.0.0.42])")), "{received}");
                assert!(received.contains("(Authenticated sender: alice)"), "{received}");
                let ours = way.login_line(n);
                assert!(
                    ours.contains(&format!(" mechanism={} ", sasl.mechanism())) && ours.contains(" identity=told "),
                    "{ours}"
                );
            }
        }
    }
    assert_eq!(postfix.dovecot().log().count("service=smtp"), 0, "nobody asked for a password");
}

/// As nobody a client would get in, and then be told at RCPT that it may not send.
#[test]
fn without_a_password_and_without_xclient_nobody_gets_in() {
    let Some(_) = postfix::require() else { return };
    let postfix = Postfix::start(Options::default());
    for refused in ["fail", "continue"] {
        let backend = format!("identity_refused = \"{refused}\"");
        let way = Way::with(&checked_here(postfix.addr().port(), r#", proxy_noauth = "y""#), &backend);
        let (mut client, _) = way.client(Arrival::Itself);
        let reply = client.authenticate(&Sasl::plain("", "alice", "mine"));
        assert!(reply.text().starts_with("454 4.7.0 "), "{reply:?}");
        let line = way.gatepost.wait_for(" refused ");
        assert!(line.contains("reason=backend-config") && line.contains("LOGIN"), "{line}");
    }
}

#[test]
fn a_wrong_password_is_told_in_our_words_and_the_next_one_counts() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("");
    let way = Way::to(&postfix, Leg::StartTls, "", "");
    let (mut client, _) = way.client(Arrival::Itself);
    for sasl in [Sasl::plain("", "alice", "wrong"), Sasl::login("nobody", "wrong")] {
        let reply = client.authenticate(&sasl);
        assert_eq!(reply.text(), "535 5.7.8 Authentication failed.");
    }
    way.sign_in(&mut client, &alice());
    send(client, "at last");
    delivered(&postfix, "at last");
    let refused = way.gatepost.log().wait_for_count(" info refused ", 2);
    assert!(refused.iter().all(|line| line.contains("reason=backend-credentials")), "{refused:#?}");
    assert!(!way.gatepost.log().tail().contains("wrong"), "no password in the journal");
    postfix.log().wait_for_all(&["warning: unknown[127.0.0.42]", "SASL PLAIN authentication failed"]);
}

#[test]
fn what_stands_behind_auth_is_for_the_server() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("");
    let way = Way::to(&postfix, Leg::StartTls, "", "");
    let (mut client, _) = way.client(Arrival::Itself);
    // alice, alice-secret
    client.send(
        "AUTH PLAIN AGFsaWNlAGFsaWNlLXNlY3JldA==\r\nMAIL FROM:<alice@example.com>\r\nRCPT TO:<carol@example.org>\r\nDATA\r\n",
    );
    let codes: Vec<u16> = (0..4).map(|_| client.reply().code).collect();
    assert_eq!(codes, [235, 250, 250, 354], "{}", client.dialogue());
    client.send("Subject: in one packet\r\n\r\nx\r\n.\r\nRSET\r\nQUIT\r\n");
    let codes: Vec<u16> = (0..3).map(|_| client.reply().code).collect();
    assert_eq!(codes, [250, 250, 221]);
    client.expect_end();
    delivered(&postfix, "in one packet");
    // A wrong one in front: nobody is signed in, and no mail goes out. A letter is no sequence of commands.
    for (behind, answers) in [("QUIT\r\n", [535, 530, 530, 221]), ("DATA\r\nQUIT\r\n.\r\n", [535, 530, 530, 554])] {
        let (mut client, _) = way.client(Arrival::Itself);
        let front = "AUTH PLAIN AGFsaWNlAHdyb25n\r\nMAIL FROM:<alice@example.com>\r\nRCPT TO:<carol@example.org>\r\n";
        client.send(format!("{front}{behind}"));
        let codes: Vec<u16> = (0..4).map(|_| client.reply().code).collect();
        assert_eq!(codes, answers, "{}", client.dialogue());
        client.expect_end();
    }
    assert_eq!(postfix.delivered().messages().len(), 1);
}

/// After a login Gatepost reads nothing: whether XCLIENT is for the client to say is for Postfix to judge, and it judges
/// by the client that it was told of.
#[test]
fn a_client_cannot_use_our_right_to_xclient() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("");
    let said = "ADDR=192.0.2.99 PORT=99 LOGIN=root";
    for leg in LEGS {
        for arrival in [Arrival::Itself, Arrival::Headed("2001:db8::77")] {
            let way = Way::to(&postfix, leg, "", "");
            let (mut client, who) = way.client(arrival);
            way.sign_in(&mut client, &alice());
            // Postfix lists it to those that may say it.
            assert_eq!(client.ehlo(HELLO).get("XCLIENT"), None, "{leg:?}");
            let reply = client.xclient(said);
            assert!(reply.text().starts_with("550 5.7.0 "), "{leg:?}: {reply:?}");
            let subject = format!("{leg:?} {arrival:?}");
            send(client, &subject);
            let received = delivered(&postfix, &subject).received();
            assert!(received.contains("(Authenticated sender: alice)") && !received.contains("192.0.2.99"), "{received}");
            postfix.log().wait_for(&format!("client=unknown[{}]:{}, sasl_method=PLAIN", who.ip(), who.port()));
        }
    }
    // With a password of its own or ours, it is the same.
    let way = Way::with(&checked_here(postfix.addr().port(), r#", proxy_noauth = "y""#), "");
    let (mut client, _) = way.client(Arrival::Itself);
    way.sign_in(&mut client, &Sasl::plain("", "alice", "mine"));
    assert!(client.xclient(said).text().starts_with("550 5.7.0 "));
}

/// Where it does not, they count all clients for Gatepost: who has more than fifty at one time must except it from them.
#[test]
fn where_it_believes_us_its_limits_count_the_true_client() {
    let Some(_) = postfix::require() else { return };
    let [same, others] = ["192.0.2.66", "192.0.2.67"].map(Arrival::Told);
    for (xclient_hosts, excepted, gets_in) in
        [("127.0.0.1", "", [false, true]), ("", "", [false, false]), ("", "127.0.0.1", [true, true])]
    {
        let limits = "smtpd_client_connection_count_limit = 1\nsmtpd_client_event_limit_exceptions =";
        let extra = format!("{limits} {excepted}\n");
        let postfix = Postfix::start(Options { xclient_hosts: xclient_hosts.into(), extra, ..Options::default() });
        let way = Way::to(&postfix, Leg::StartTls, "", "");
        let (mut first, _) = way.client(same);
        way.sign_in(&mut first, &alice());
        for (arrival, gets_in) in [same, others].into_iter().zip(gets_in) {
            let what = format!("{xclient_hosts:?} {excepted:?} {arrival:?}");
            let (mut next, _) = way.client(arrival);
            let reply = next.authenticate(&alice());
            assert_eq!(reply.is_ok(), gets_in, "{what}: {reply:?}");
            if !gets_in {
                assert!(reply.text().starts_with("454 4.7.0 "), "{what}: {reply:?}");
                let words = "421 4.7.0 postfix.test Error: too many connections from ";
                way.gatepost.log().wait_for_all(&[" refused ", "side=backend", words]);
            }
        }
        first.quit();
    }
}

/// Unlike XCLIENT, which it judges anew by each client: the documents warn of it.
#[test]
fn our_right_to_xforward_is_every_clients() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("smtpd_authorized_xforward_hosts = 127.0.0.1");
    let way = Way::to(&postfix, Leg::Clear, "", "");
    let mut client = way.signed_in();
    let offers = client.ehlo(HELLO);
    assert!(offers.get("XFORWARD").is_some() && offers.get("XCLIENT").is_none(), "{offers:?}");
    assert!(client.command("XFORWARD ADDR=192.0.2.99 NAME=x.example").is_ok());
    send(client, "forwarded");
    delivered(&postfix, "forwarded");
    let logged = "sasl_username=alice, orig_client=x.example[192.0.2.99]";
    postfix.log().wait_for_all(&["client=unknown[127.0.0.42]:", logged]);
    // Where we are not listed, it is nobody's.
    let wary = authorising("");
    let way = Way::to(&wary, Leg::Clear, "", "");
    let mut client = way.signed_in();
    assert_eq!(client.ehlo(HELLO).get("XFORWARD"), None);
    assert!(!client.command("XFORWARD ADDR=192.0.2.99").is_ok());
}

/// The documents warn of it: who lists Gatepost and has it tell nothing has listed every client.
#[test]
fn where_nothing_is_told_the_right_is_everybodys() {
    let Some(_) = postfix::require() else { return };
    let postfix = authorising("");
    let way = Way::to(&postfix, Leg::Clear, r#", proxy_not_trusted = "y""#, "");
    let mut client = way.signed_in();
    assert!(way.login_line(1).contains(" identity=not-told "), "{}", way.login_line(1));
    assert!(client.ehlo(HELLO).get("XCLIENT").is_some());
    assert_eq!(client.xclient("ADDR=192.0.2.99 PORT=99").code, 220);
    // Not listed, it is nobody's, and mail flows.
    let wary = Postfix::start(Options::default());
    let way = Way::to(&wary, Leg::Clear, r#", proxy_not_trusted = "y""#, "");
    let mut client = way.signed_in();
    assert!(client.xclient("ADDR=192.0.2.99 PORT=99").text().starts_with("550 5.7.0 "));
    send(client, "unknown");
    let received = delivered(&wary, "unknown").received();
    // It must not know who is calling, so it does not hear the client's name either.
    assert!(received.starts_with("from gate.test (unknown [127.0.0.1])"), "{received}");
}

#[test]
fn a_proxy_header_tells_it_the_address() {
    let Some(_) = postfix::require() else { return };
    // It looks for the client, and no longer for Gatepost, among those who may say XCLIENT.
    let postfix = authorising("smtpd_upstream_proxy_protocol = haproxy");
    for version in ["v1", "v2"] {
        let way = Way::to(&postfix, Leg::StartTls, "", &format!("proxy_protocol = \"{version}\""));
        for (n, arrival) in (1..).zip([Arrival::Itself, Arrival::Told("192.0.2.66"), Arrival::Headed("2001:db8::77")]) {
            let subject = format!("{version} {n}");
            let (mut client, who) = way.client(arrival);
            way.sign_in(&mut client, &alice());
            assert!(client.xclient("ADDR=192.0.2.99").text().starts_with("550 5.7.0 "));
            send(client, &subject);
            let logged = format!("client=unknown[{}]:{}, sasl_method=PLAIN, sasl_username=alice", who.ip(), who.port());
            postfix.log().wait_for(&logged);
            assert!(delivered(&postfix, &subject).received().starts_with(&format!("from {HELLO} (unknown [")));
            assert!(way.login_line(n).contains(" identity=header "), "{}", way.login_line(n));
        }
    }
}
