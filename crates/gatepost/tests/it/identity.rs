//! What a backend is told, beyond what a real one logs.

use crate::gate::{BINARY, Gate, Want, config, everybody_at, next};
use std::sync::mpsc::{Receiver, channel};
use testkit::Dir;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{Backend, Client, FakeServer, SeenLogin};

/// A backend that notes who signed in, and how.
fn noting_backend(backend: Backend) -> (FakeServer, Receiver<SeenLogin>) {
    let (note, seen) = channel();
    let server = FakeServer::start(move |conn| {
        if let Some(login) = backend.login(conn) {
            // Not every test wants to know.
            let _ = note.send(login);
            crate::gate::echo(conn);
        }
    });
    (server, seen)
}

#[test]
fn what_a_client_says_of_itself_is_handed_on_where_configured() {
    let (backend, seen) = noting_backend(Backend::default());
    // The list is at hand in queries, too.
    let users = everybody_at(backend.addr(), r#", forward_client = "%{client_id}""#);
    for (retain, id) in [(true, r#"("name" "Mutt" "os" NIL "x-session-id""#), (false, r#"("x-session-id""#)] {
        let more = format!("[protocol.imap]\nimap_id_retain = {retain}\nimap_id_send = {{ name = \"edge\" }}\n");
        let gate = Gate::start(&Want { users: &users, more: &more, ..Default::default() });
        let mut client = gate.client();
        let reply = client.ok(r#"ID ("name" "Mutt" "x-originating-ip" "192.0.2.1" "os" NIL)"#);
        assert!(reply.untagged_text().contains(r#"* ID ("name" "edge")"#), "{reply:?}");
        assert!(client.login("alice", "x").is_ok());
        let login = next(&seen);
        assert!(login.ids[0].starts_with(id), "{:?}", login.ids);
        assert!(!login.ids[0].contains("192.0.2.1"), "{:?}", login.ids);
        let in_query = login.ids[0].contains(r#""x-forward-client" "\"name\" \"Mutt\" \"os\" NIL""#);
        assert_eq!(in_query, retain, "{:?}", login.ids);
    }
}

#[test]
fn a_backend_that_must_not_know_is_not_told() {
    let (backend, seen) = noting_backend(Backend::default());
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), r#", proxy_not_trusted = "y""#), ..Default::default() });
    assert!(gate.client().login("alice", "x").is_ok());
    assert_eq!(next(&seen).commands, ["LOGIN"]);
    assert!(gate.gatepost.wait_for(" info login ").contains("identity=not-told"));
    // One that does not offer ID cannot be told, and the user gets in all the same.
    let plain =
        Backend { greeting: "* OK [CAPABILITY IMAP4rev1] hi".into(), capabilities: "IMAP4rev1".into(), ..Backend::default() };
    let (backend, seen) = noting_backend(plain);
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    assert!(gate.client().login("alice", "x").is_ok());
    assert_eq!(next(&seen).commands, ["LOGIN"]);
    assert!(gate.gatepost.wait_for(" info login ").contains("identity=not-offered"));
}

#[test]
fn what_is_said_under_tls_counts_more() {
    let (backend, seen) = noting_backend(Backend::default());
    let gate = Gate::start(&Want {
        users: &everybody_at(backend.addr(), ""),
        trust: r#"networks = ["127.0.0.1"]"#,
        ..Default::default()
    });
    let mut peer = gate.client();
    assert!(peer.command(r#"ID ("x-originating-ip" "10.66.66.66" "x-forward-team" "evil")"#).is_ok());
    peer.starttls(&gate.tls, "localhost");
    assert!(peer.command(r#"ID ("x-originating-ip" "192.0.2.7" "x-originating-port" "77")"#).is_ok());
    assert!(peer.login("alice", "x").is_ok());
    let id = next(&seen).ids.join(" ");
    assert!(id.contains(r#""x-originating-ip" "192.0.2.7" "x-originating-port" "77""#), "{id}");
    assert!(!id.contains("10.66.66.66") && !id.contains("evil"), "{id}");
    assert!(!id.contains("x-client-transport"), "nobody said how that client is protected: {id}");
}

#[test]
fn a_trusted_peer_that_speaks_for_itself_is_not_limited() {
    let (backend, _seen) = noting_backend(Backend::default());
    let gate = Gate::start(&Want {
        users: &everybody_at(backend.addr(), ""),
        trust: r#"networks = ["127.0.0.1"]"#,
        limits: "user_connections = 1\nconnections_before_login = 2",
        ..Default::default()
    });
    let mut on: Vec<Client> = (0..5).map(|_| gate.client()).collect();
    for client in &mut on {
        assert!(client.command(r#"ID ("x-session-id" "s")"#).is_ok());
        assert!(client.login("alice", "x").is_ok());
    }
    let for_another = r#"ID ("x-originating-ip" "192.0.2.7")"#;
    let mut first = gate.client();
    assert!(first.command(for_another).is_ok());
    assert!(first.login("alice", "x").is_ok());
    let mut second = gate.client();
    assert!(second.command(for_another).is_ok());
    second.no("LOGIN alice x", "[LIMIT]");
}

#[test]
fn ipv6_clients_and_backends() {
    let dir = Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let (note, seen) = channel();
    let backend = FakeServer::start_at("[::1]:0".parse().unwrap(), move |mut conn| {
        note.send(Backend::default().login(&mut conn)).unwrap();
        crate::gate::echo(&mut conn);
        conn.close();
    });
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let gatepost = Gatepost::start_in(dir, BINARY, &text.replacen("127.0.0.1:0", "[::1]:0", 1), |_| {});
    let mut client = Client::greeted(gatepost.addr("imap"));
    assert!(client.login("alice", "x").is_ok(), "{}", gatepost.log().tail());
    let id = next(&seen).unwrap().ids.join(" ");
    assert!(id.contains(r#""x-originating-ip" "::1""#) && id.contains(r#""x-connected-ip" "::1""#), "{id}");
    let line = gatepost.wait_for(" info login ");
    assert!(line.contains(&format!("client=[::1]:{}", client.local_addr().port())), "{line}");
}

#[test]
fn odd_columns_are_said_once_and_odd_values_fail_closed() {
    let (backend, _) = noting_backend(Backend::default());
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), r#", colour = "red""#), ..Default::default() });
    for _ in 0..3 {
        assert!(gate.client().login("alice", "x").is_ok());
    }
    // The remark stands ahead of the login it was made in.
    gate.gatepost.log().wait_for_count(" info login ", 3);
    assert_eq!(gate.gatepost.log().count(" unknown-field "), 1);
    for (field, value) in
        [("port", "imap"), ("hostip", "10.0.0"), ("proxy_timeout", "soon"), ("source_ip", "x"), ("delay_until", "soon")]
    {
        let users = everybody_at(backend.addr(), "").replace(", port", &format!(", {field} = \"{value}\", other_port"));
        let gate = Gate::start(&Want { users: &users, ..Default::default() });
        let before = backend.connections();
        gate.client().no("LOGIN alice x", "[UNAVAILABLE]");
        assert!(gate.gatepost.wait_for("reason=row").contains(field), "{field}");
        assert_eq!(backend.connections(), before, "{field}: nobody was shown the password");
    }
}

#[test]
fn a_password_is_never_replaced_unchecked() {
    let (backend, _) = noting_backend(Backend::default());
    for field in ["master", "pass"] {
        let gate =
            Gate::start(&Want { users: &everybody_at(backend.addr(), &format!(", {field} = \"m\"")), ..Default::default() });
        gate.client().no("LOGIN alice x", "[UNAVAILABLE]");
        assert!(gate.gatepost.wait_for("reason=row").contains("nopassword"));
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn odd_names_and_passwords_arrive_as_they_are() {
    for capabilities in ["IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN", "IMAP4rev1 ID AUTH=PLAIN", "IMAP4rev1 ID"] {
        let fake = Backend {
            greeting: format!("* OK [CAPABILITY {capabilities}] hi"),
            capabilities: capabilities.into(),
            ..Backend::default()
        };
        let (backend, seen) = noting_backend(fake);
        let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
        for (user, password) in
            [("o'brien", "a\"b\\c"), ("j\u{f6}rg", "p\u{e4}ss w\u{f6}rd"), ("a b", "%u{5}"), ("dom\\user", "")]
        {
            let mut client = gate.client();
            let reply = client.authenticate_plain("", user, password);
            if password.is_empty() {
                assert!(reply.text.contains("[AUTHENTICATIONFAILED]"), "an empty password is nobody's: {reply:?}");
                continue;
            }
            assert!(reply.is_ok(), "{capabilities}: {user}: {reply:?}\n{}", gate.gatepost.log().tail());
            let login = next(&seen);
            assert_eq!((login.user.as_str(), login.password.as_str(), login.authzid.as_str()), (user, password, ""));
        }
        // However a name is composed, it is one name.
        assert!(gate.client().authenticate_plain("", "jo\u{308}rg", "x").is_ok());
        assert_eq!(next(&seen).user, "j\u{f6}rg");
        for evil in ["a\r\nb", "a\u{1b}b", "a\u{202e}b", " a", "\u{85}"] {
            let reply = gate.client().authenticate_plain("", evil, "x");
            assert!(reply.text.contains("[AUTHENTICATIONFAILED]"), "{evil:?}: {reply:?}");
        }
        let reply = gate.client().authenticate_plain("victim", "alice", "x");
        assert!(reply.text.contains("[AUTHENTICATIONFAILED]"), "{reply:?}");
        assert_eq!(backend.connections(), 4, "nobody else was brought to the backend");
    }
}
