//! Gateposts in a row, and in a circle.

use crate::gate::{BINARY, Gate, Want, config, everybody_at, next};
use std::sync::mpsc::channel;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{Client, FakeServer};
use testkit::{Dir, free_port};

#[test]
fn two_in_a_row_deliver_identity_and_spend_a_hop_each() {
    let (note, seen) = channel();
    let backend = FakeServer::start(move |conn| {
        note.send(testkit::peer::Backend::default().login(conn)).unwrap();
        crate::gate::echo(conn);
    });
    let inner_users = everybody_at(backend.addr(), r#", forward_inner = "2""#);
    let inner = Gate::start(&Want { users: &inner_users, trust: r#"networks = ["127.0.0.1"]"#, ..Default::default() });
    for (leg, to) in [("", inner.imap()), (r#", starttls = "any-cert""#, inner.imap()), (r#", ssl = "any-cert""#, inner.imaps())]
    {
        let outer_users = everybody_at(to, &format!(r#", forward_outer = "1"{leg}"#));
        let outer = Gate::start(&Want { users: &outer_users, ..Default::default() });
        let mut client = Client::connect_from("127.0.0.42".parse().unwrap(), outer.imap());
        client.greeting();
        client.starttls(&outer.tls, "localhost");
        let reply = client.login("alice", "alice-secret");
        assert!(reply.is_ok(), "{leg}: {reply:?}\n{}\n{}", outer.gatepost.log().tail(), inner.gatepost.log().tail());
        assert!(client.command("NOOP").untagged_text().contains("ECHO NOOP"));
        let login = next(&seen).unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("alice", "alice-secret"));
        let id = login.ids.join(" ");
        let session = outer.gatepost.wait_for(" info login ").rsplit_once("session=").unwrap().1.trim_matches('"').to_owned();
        for piece in [
            "\"x-originating-ip\" \"127.0.0.42\"",
            &*format!("\"x-originating-port\" \"{}\"", client.local_addr().port()),
            &*format!("\"x-connected-port\" \"{}\"", outer.imap().port()),
            &*format!("\"x-session-id\" \"{session}\""),
            "\"x-proxy-ttl\" \"3\"",
            "\"x-client-transport\" \"TLS\"",
            "\"x-connected-name\" \"localhost\"",
            "\"x-forward-outer\" \"1\" \"x-forward-inner\" \"2\"",
        ] {
            assert!(id.contains(piece), "{leg}: no {piece} in {id}");
        }
        client.logout();
    }
    backend.finish();
}

#[test]
fn a_circle_ends_within_five_hops() {
    let (a, b) = (free_port(), free_port());
    let start = |own: u16, other: u16| {
        let dir = Dir::new();
        Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
        let users = everybody_at(std::net::SocketAddr::from(([127, 0, 0, 1], other)), "");
        let text = config(&Want { users: &users, trust: r#"networks = ["127.0.0.1"]"#, ..Default::default() });
        let text = text.replacen("127.0.0.1:0", &format!("127.0.0.1:{own}"), 1);
        Gatepost::start_in(dir, BINARY, &text, |_| {})
    };
    let (first, second) = (start(a.number(), b.number()), start(b.number(), a.number()));
    let mut client = Client::greeted(first.addr("imap"));
    client.no("LOGIN alice secret", "[UNAVAILABLE]");
    drop(client);
    // The journal is written behind the replies: wait for it, and count what stands in it at the end.
    first.log().wait_for_count(" refused ", 3);
    second.log().wait_for_count(" refused ", 2);
    let (first, second) = (first.stop(), second.stop());
    let count = |lines: &[String], piece: &str| lines.iter().filter(|line| line.contains(piece)).count();
    let refused = (count(&first, " refused "), count(&second, " refused "));
    assert_eq!(refused, (3, 2), "each of the five hops refused once:\n{first:#?}\n{second:#?}");
    let loops = (count(&first, "reason=loop"), count(&second, "reason=loop"));
    assert_eq!(loops, (1, 0), "the last one says why:\n{first:#?}\n{second:#?}");
}

#[test]
fn a_route_to_ourselves_is_refused() {
    let own = free_port();
    let dir = Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], own.number()));
    let text = config(&Want { users: &everybody_at(at, ""), ..Default::default() });
    let text = text.replacen("127.0.0.1:0", &at.to_string(), 1);
    let gatepost = Gatepost::start_in(dir, BINARY, &text, |_| {});
    let mut client = Client::greeted(at);
    client.no("LOGIN alice secret", "[UNAVAILABLE]");
    assert!(gatepost.wait_for("reason=loop").contains("proxying loops to itself"));
    // Nothing has been harmed.
    client.no("LOGIN alice secret", "[UNAVAILABLE]");
}
