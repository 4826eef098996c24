//! Gateposts in a row, and in a circle.

use crate::gate::{BINARY, Gate, OTHERS_TOO, Want, config, everybody_at};
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{AnyClient, FakeBackend};
use testkit::{Dir, Protocol, free_port};

#[test]
fn two_in_a_row_deliver_identity_and_spend_a_hop_each() {
    for protocol in Protocol::ALL {
        let backend = FakeBackend::start(testkit::peer::Backend::of(protocol));
        let inner_users = everybody_at(backend.addr(), r#", forward_inner = "2""#);
        let trust = r#"networks = ["127.0.0.1"]"#;
        let inner = Gate::start(&Want { users: &inner_users, trust, more: OTHERS_TOO, ..Default::default() });
        let open = inner.at(protocol);
        let from_first_byte = protocol.implicit().map(|_| (r#", ssl = "any-cert""#, inner.tls_at(protocol)));
        let legs = [("", open), (r#", starttls = "any-cert""#, open)].into_iter().chain(from_first_byte);
        for (n, (leg, to)) in legs.enumerate() {
            let what = format!("{} {leg}", protocol.name());
            let outer_users = everybody_at(to, &format!(r#", forward_outer = "1"{leg}"#));
            let outer = Gate::start(&Want { users: &outer_users, more: OTHERS_TOO, ..Default::default() });
            let mut client = AnyClient::connect_from(protocol, "127.0.0.42".parse().unwrap(), outer.at(protocol));
            client.greeting();
            client.starttls(&outer.tls, "localhost");
            let reply = client.login("alice", "alice-secret");
            assert!(reply.ok, "{what}: {reply:?}\n{}\n{}", outer.gatepost.log().tail(), inner.gatepost.log().tail());
            assert!(client.noop().ok, "{what}");
            let logins = backend.wait_for_logins(n + 1);
            let login = &logins[n];
            assert_eq!((login.user.as_str(), login.password.as_str()), ("alice", "alice-secret"));
            let said = login.introductions().join(" ");
            let session = outer.gatepost.wait_for(" info login ").rsplit_once("session=").unwrap().1.trim_matches('"').to_owned();
            for (key, value) in [
                (("x-originating-ip", "ADDR"), "127.0.0.42"),
                (("x-originating-port", "PORT"), &*client.local_addr().port().to_string()),
                (("x-connected-port", "DESTPORT"), &*outer.at(protocol).port().to_string()),
                (("x-session-id", "SESSION"), &*session),
                (("x-proxy-ttl", "TTL"), "3"),
                (("x-client-transport", "CLIENT-TRANSPORT"), "TLS"),
                (("x-connected-name", "DESTNAME"), "localhost"),
            ] {
                let piece = match protocol {
                    Protocol::Imap => format!("\"{}\" \"{value}\"", key.0),
                    Protocol::Pop3 | Protocol::ManageSieve | Protocol::Submission => format!(" {}={value} ", key.1),
                };
                assert!(format!(" {said} ").contains(&piece), "{what}: no {piece} in {said}");
            }
            let forwarded = match protocol {
                Protocol::Imap => r#""x-forward-outer" "1" "x-forward-inner" "2""#,
                // outer=1 TAB inner=2
                Protocol::Pop3 | Protocol::ManageSieve | Protocol::Submission => " FORWARD=b3V0ZXI9MQlpbm5lcj0y",
            };
            assert!(said.contains(forwarded), "{what}: {said}");
            if protocol == Protocol::Submission {
                // What the client called itself, through both, and in each EHLO.
                assert!(said.contains("HELO=client.test") && said.contains("PROTO=ESMTP"), "{what}: {said}");
                assert_eq!(login.hellos.last().map(String::as_str), Some("EHLO client.test"), "{what}");
            }
            client.logout();
        }
        backend.finish();
    }
}

#[test]
fn a_circle_ends_within_five_hops() {
    for protocol in Protocol::ALL {
        let (a, b) = (free_port(), free_port());
        let start = |own: u16, other: u16| {
            let dir = Dir::new();
            Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
            let users = everybody_at(std::net::SocketAddr::from(([127, 0, 0, 1], other)), "");
            let text =
                config(&Want { users: &users, trust: r#"networks = ["127.0.0.1"]"#, more: OTHERS_TOO, ..Default::default() });
            Gatepost::start_in(dir, BINARY, &listening_at(&text, protocol, own), |_| {})
        };
        let (first, second) = (start(a.number(), b.number()), start(b.number(), a.number()));
        let mut client = AnyClient::greeted(protocol, first.addr(protocol.name()));
        let reply = client.login("alice", "secret");
        let code = match protocol {
            Protocol::Imap => "[UNAVAILABLE]",
            Protocol::Pop3 => "[SYS/PERM]",
            Protocol::ManageSieve => "(TRYLATER/NORETRY)",
            Protocol::Submission => "451 4.4.6",
        };
        assert!(!reply.ok && reply.text.starts_with(code), "{reply:?}");
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
}

#[test]
fn a_route_to_ourselves_is_refused() {
    for protocol in Protocol::ALL {
        let own = free_port();
        let dir = Dir::new();
        Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], own.number()));
        let text = config(&Want { users: &everybody_at(at, ""), more: OTHERS_TOO, ..Default::default() });
        let gatepost = Gatepost::start_in(dir, BINARY, &listening_at(&text, protocol, own.number()), |_| {});
        let mut client = AnyClient::greeted(protocol, at);
        // The second time shows that nothing has been harmed.
        for _ in 0..2 {
            let reply = client.login("alice", "secret");
            assert!(!reply.ok && reply.text.contains("temporarily unavailable"), "{reply:?}");
        }
        assert!(gatepost.wait_for("reason=loop").contains("proxying loops to itself"));
    }
}

/// The configuration with the protocol's first listener at this port.
fn listening_at(text: &str, protocol: Protocol, port: u16) -> String {
    let listen = |port: u16| format!("protocol = \"{}\"\naddress = [\"127.0.0.1:{port}\"]", protocol.name());
    assert!(text.contains(&listen(0)));
    text.replacen(&listen(0), &listen(port), 1)
}
