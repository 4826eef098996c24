//! PROXY headers that Gatepost sends: to a real Dovecot, which believes them and nothing that Gatepost says otherwise, and to
//! a scripted backend, for what Dovecot does not log.

use crate::gate::{Gate, Want};
use crate::proxy_protocol::{BALANCER, LISTENERS, OFFLOADED, SSL, v2_with};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use testkit::dovecot::{self, Options};
use testkit::peer::{AnyClient, Backend, Client, FakeBackend, FakeServer};
use testkit::{Protocol, real};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 42));

/// A Gatepost for this protocol, beside those that are always there.
fn gate(protocol: Protocol, to: SocketAddr, fields: &str, version: &str) -> Gate {
    let users = crate::gate::everybody_at(to, fields);
    let backend = format!("proxy_protocol = \"{version}\"");
    let more = match protocol {
        Protocol::Imap => String::new(),
        other => format!("[[listen]]\nprotocol = \"{}\"\naddress = \"127.0.0.1:0\"\n", other.name()),
    };
    Gate::start(&Want { users: &users, backend: &backend, more: &more, ..Want::default() })
}

/// One that came from [`CLIENT`] and speaks TLS.
#[track_caller]
fn client(gate: &Gate, protocol: Protocol) -> AnyClient {
    let mut client = AnyClient::connect_from(protocol, CLIENT, gate.gatepost.addr(protocol.name()));
    client.greeting();
    client.starttls(&gate.tls, "localhost");
    client
}

#[test]
fn a_dovecot_that_trusts_nobody_knows_the_client() {
    let Some(_) = real::require("dovecot") else { return };
    // Otherwise it takes no password in clear: behind the header it sees the client, who is elsewhere, and not us.
    let extra = "disable_plaintext_auth = no".into();
    let dovecot = dovecot::Backend::start(Options { haproxy_trusted: "127.0.0.1".into(), extra, ..Options::default() });
    for protocol in Protocol::ALL {
        let headed = dovecot.behind_haproxy();
        let open = headed.of(protocol);
        let mut logins = 0;
        for version in ["v1", "v2"] {
            let from_first_byte = headed.implicit(protocol).map(|addr| (addr, r#", ssl = "any-cert""#));
            for (to, fields) in [(open, ""), (open, r#", starttls = "any-cert""#), (open, r#", proxy_not_trusted = "y""#)]
                .into_iter()
                .chain(from_first_byte)
            {
                let gate = gate(protocol, to, fields, version);
                let mut client = client(&gate, protocol);
                assert!(client.login("alice", "alice-secret").ok, "{version}{fields}: {}", gate.gatepost.log().tail());
                logins += 1;
                let line = dovecot.login_line_of(protocol, logins);
                let (own, reached) = (client.local_addr(), client.peer_addr());
                let told = format!("rip={}, rport={}, lip={}, lport={},", own.ip(), own.port(), reached.ip(), reached.port());
                if fields.contains("not_trusted") {
                    // The header speaks of nobody, so it is Gatepost's own connection.
                    assert!(line.contains("rip=127.0.0.1, ") && !line.contains("127.0.0.42"), "{version}{fields}: {line}");
                } else {
                    assert!(line.contains(&told), "{version}{fields}: no {told:?} in {line}");
                }
                assert_eq!(line.contains(", TLS"), fields.contains("any-cert"), "{version}{fields}: {line}");
                assert!(client.noop().ok);
                client.logout();
            }
        }
    }
}

#[test]
fn what_the_header_says_and_what_it_keeps_to_itself() {
    for protocol in Protocol::ALL {
        let backend = FakeBackend::start(Backend { header: true, ..Backend::of(protocol) });
        for (number, (version, hidden)) in [("v1", false), ("v2", false), ("v1", true), ("v2", true)].into_iter().enumerate() {
            let fields = if hidden { r#", proxy_not_trusted = "y""# } else { "" };
            let gate = gate(protocol, backend.addr(), fields, version);
            let mut client = client(&gate, protocol);
            assert!(client.login("alice", "x").ok, "{}", gate.gatepost.log().tail());
            let login = backend.wait_for_logins(number + 1).remove(number);
            let header = login.header.clone().expect("a header");
            let session = gate.gatepost.wait_for(" info login ").rsplit_once("session=").unwrap().1.trim_matches('"').to_owned();
            assert_eq!(header.version(), if version == "v1" { 1 } else { 2 });
            if hidden {
                assert_eq!(header.addresses(), None);
                assert!(header.raw.len() <= 16, "{}", header.raw.escape_ascii());
                assert!(login.introductions().is_empty(), "{login:?}");
            } else {
                assert_eq!(header.addresses(), Some((client.local_addr(), client.peer_addr())));
                let words = [header.field(0x02), header.field(0x05), header.tls_field(0x21), header.tls_field(0x22)];
                let told = [Some(&b"localhost"[..]), Some(session.as_bytes()), Some(b"TLSv1.3"), None];
                assert_eq!(words, if version == "v1" { [None; 4] } else { told });
            }
        }
        // Once it says a header, a backend that wants none is a backend that cannot be used; it is no wrong password.
        let plain = FakeServer::start(move |conn| {
            conn.send_line(match protocol {
                Protocol::ManageSieve => "\"SASL\" \"PLAIN\"\r\nOK \"ready\"".to_owned(),
                _ => Backend::of(protocol).greeting,
            });
            // The beginning of the header, taken for a command.
            conn.read_exact(16);
            let no = match protocol {
                Protocol::Imap => "* BAD what?\r\n",
                Protocol::Pop3 => "-ERR what?\r\n",
                Protocol::ManageSieve => "NO \"what?\"\r\n",
                Protocol::Submission => "500 5.5.1 what?\r\n",
            };
            let _ = conn.try_send(no);
            conn.read_to_end();
        });
        let gate = gate(protocol, plain.addr(), ", proxy_timeout = \"1\"", "v2");
        let heard = client(&gate, protocol).login("alice", "x");
        assert!(!heard.ok && !heard.text.contains("AUTH"), "{heard:?}");
    }
}

#[test]
fn what_the_next_header_has_no_room_for_is_named() {
    let backend = FakeBackend::start(Backend { header: true, ..Backend::of(Protocol::Imap) });
    let gate = Gate::start(&Want {
        users: &crate::gate::everybody_at(backend.addr(), ""),
        backend: "proxy_protocol = \"v2\"",
        trust: &format!("proxy_protocol = [\"{BALANCER}\"]"),
        more: LISTENERS,
        ..Want::default()
    });
    let door = gate.gatepost.addrs("imap").into_iter().find(|addr| addr.ip().to_string() == OFFLOADED).unwrap();
    // Both fit where they come from, which has less to say beside them.
    let (host, common_name) = (["a".repeat(59).as_str(); 4].join("."), "c".repeat(250));
    let own = u8::try_from(common_name.len()).unwrap();
    let ssl = [&[1 | 4, 0, 0, 0, 0, 0x22, 0, own][..], common_name.as_bytes()].concat();
    let mut client = Client::connect_from(BALANCER, door);
    client.send(v2_with(&[(0x02, host.as_bytes()), (SSL, &ssl)]));
    client.greeting();
    assert!(client.login("alice", "x").is_ok(), "{}", gate.gatepost.log().tail());
    let header = backend.wait_for_logins(1).remove(0).header.expect("a header");
    assert_eq!((header.field(0x02), header.tls_field(0x22)), (Some(host.as_bytes()), None));
    let line = gate.gatepost.wait_for(" identity-cut ");
    assert!(line.contains("limits: PROXY SSL_CN\""), "{line}");
}

#[test]
fn behind_a_header_dovecot_looks_for_the_client_among_those_it_trusts() {
    let Some(_) = real::require("dovecot") else { return };
    // So what we say by ID is not believed, although it trusts us: the documents warn of it.
    let extra = "disable_plaintext_auth = no".into();
    let ours = || "127.0.0.1".to_owned();
    let logged = vec!["team".to_owned()];
    let options = Options { trusted: ours(), haproxy_trusted: ours(), forward_logged: logged, extra, ..Options::default() };
    let dovecot = dovecot::Backend::start(options);
    for protocol in Protocol::ALL {
        let gate = gate(protocol, dovecot.behind_haproxy().of(protocol), r#", forward_team = "blue""#, "v2");
        let mut client = client(&gate, protocol);
        assert!(client.login("alice", "alice-secret").ok, "{}", gate.gatepost.log().tail());
        let line = dovecot.login_line_of(protocol, 1);
        assert!(line.contains("rip=127.0.0.42, ") && line.contains("forward_team=<>"), "{line}");
    }
}
