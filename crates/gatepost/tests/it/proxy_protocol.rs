//! PROXY headers, scripted octet by octet: from strangers, slow, broken, and what they may not change.
//!
//! The peers here are at addresses of 127.0.0.0/8: one plays the balancer, the others are strangers. Who the header names is
//! nobody of this host.

use crate::gate::{Gate, Want, echo_backend, everybody_at};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use testkit::Protocol;
use testkit::netns::{self, Alone};
use testkit::peer::{AnyClient, Client, FakeServer, V2_SIGNATURE};
use testkit::wait::PATIENCE;

pub const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 42));

/// Each kind of listener at an address of its own; the one without headers is that of every [`Gate`].
const OFF: &str = "127.0.0.1";
const REQUIRED: &str = "127.0.1.1";
const MIXED: &str = "127.0.1.2";
pub const OFFLOADED: &str = "127.0.1.3";
/// With TLS from the first byte behind the header.
const IMPLICIT: &str = "127.0.1.4";

const TCP4: u8 = 0x11;
const ALPN: u8 = 0x01;
const CRC32C: u8 = 0x03;
pub const SSL: u8 = 0x20;

/// About 203.0.113.9, which reached 198.51.100.1.
const V1: &str = "PROXY TCP4 203.0.113.9 198.51.100.1 4711 143\r\n";
const ENDS: [u8; 12] = [203, 0, 113, 9, 198, 51, 100, 1, 0x12, 0x67, 0, 143];

/// A header of version 2 with everything behind its family: this length, and these octets.
fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    [&V2_SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
}

/// An honest one with these TLVs.
pub fn v2_with(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut rest = ENDS.to_vec();
    for (kind, value) in tlvs {
        rest.push(*kind);
        rest.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        rest.extend(*value);
    }
    v2(0x21, TCP4, u16::try_from(rest.len()).unwrap(), &rest)
}

/// Everybody lives at an echoing backend.
struct House {
    gate: Gate,
    backend: FakeServer,
}

impl House {
    fn start(trust: &str, limits: &str) -> House {
        let backend = echo_backend();
        let trust = format!("proxy_protocol = [\"{BALANCER}\"]\n{trust}");
        let gate = Gate::start(&Want {
            users: &everybody_at(backend.addr(), ""),
            trust: &trust,
            limits,
            more: LISTENERS,
            ..Want::default()
        });
        House { gate, backend }
    }

    /// The listener at this address.
    #[track_caller]
    fn door(&self, protocol: &str, ip: &str) -> SocketAddr {
        let mine = |addr: &SocketAddr| addr.ip().to_string() == ip;
        self.gate.gatepost.addrs(protocol).into_iter().find(mine).expect("a listener")
    }

    /// A connection of the balancer that has said nothing yet.
    #[track_caller]
    fn balancer(&self, ip: &str) -> Client {
        Client::connect_from(BALANCER, self.door("imap", ip))
    }

    /// The journal's word on this connection.
    #[track_caller]
    fn journal_of(&self, conn: SocketAddr, piece: &str) -> String {
        self.gate.gatepost.log().wait_for_all(&[" disconnect ", &format!("client={conn} "), piece])
    }
}

pub const LISTENERS: &str = r#"
[[listen]]
protocol = "imap"
address = "127.0.1.1:0"
proxy_protocol = "required"
[[listen]]
protocol = "pop3"
address = "127.0.1.1:0"
proxy_protocol = "required"
[[listen]]
protocol = "managesieve"
address = "127.0.1.1:0"
proxy_protocol = "required"
[[listen]]
protocol = "submission"
address = "127.0.1.1:0"
proxy_protocol = "required"
[[listen]]
protocol = "imap"
address = "127.0.1.2:0"
proxy_protocol = "mixed"
[[listen]]
protocol = "imaps"
address = "127.0.1.3:0"
proxy_protocol = "required"
tls = "offloaded"
[[listen]]
protocol = "pop3s"
address = "127.0.1.3:0"
proxy_protocol = "required"
tls = "offloaded"
[[listen]]
protocol = "imaps"
address = "127.0.1.4:0"
proxy_protocol = "required"
"#;

#[test]
fn a_strangers_header_is_no_header() {
    let house = House::start("", "");
    // Where all must be balancers nobody else is answered, header or not.
    for ip in [REQUIRED, OFFLOADED] {
        for said in [&b""[..], V1.as_bytes(), &v2_with(&[]), b"a NOOP\r\n"] {
            let mut stranger = Client::connect_from(STRANGER, house.door("imap", ip));
            let at = stranger.local_addr();
            // It may be gone already.
            let _ = stranger.try_send(said);
            stranger.expect_end();
            assert!(house.journal_of(at, "reason=proxy-protocol").contains(" debug "));
        }
    }
    // Where clients come by themselves, one that begins with a header hears the greeting, as all do, and not a word on it.
    for ip in [OFF, MIXED] {
        for said in [V1.as_bytes(), &v2_with(&[]), b"PROXY UNKNOWN\r\n"] {
            let mut stranger = Client::connect_from(STRANGER, house.door("imap", ip));
            stranger.greeting();
            stranger.send([said, b"a NOOP\r\n"].concat());
            stranger.expect_end();
            house.journal_of(stranger.local_addr(), "reason=proxy-header");
        }
    }
    // On a listener without headers the balancer is a stranger, too.
    let mut balancer = house.balancer(OFF);
    balancer.greeting();
    balancer.send(V1);
    balancer.expect_end();
    house.journal_of(balancer.local_addr(), "reason=proxy-header");
    assert_eq!(house.gate.gatepost.log().count("203.0.113.9"), 0, "none of it was believed");
}

#[test]
fn a_slow_header_is_served_in_time_and_closed_after_it() {
    let house = House::start("", "");
    let mut never = house.balancer(REQUIRED);
    never.send(V1.trim_end());
    let mut silent = house.balancer(MIXED);
    for (number, header) in [V1.as_bytes().to_vec(), v2_with(&[(ALPN, b"imap")])].into_iter().enumerate() {
        let mut slow = house.balancer(REQUIRED);
        slow.trickle(header, Duration::from_millis(1));
        slow.greeting();
        slow.starttls(&house.gate.tls, "localhost");
        assert!(slow.login("alice", "x").is_ok());
        let logins = house.gate.gatepost.log().wait_for_count(" info login ", number + 1);
        assert!(logins[number].contains("client=203.0.113.9:4711 "), "{logins:#?}");
    }
    for client in [&mut never, &mut silent] {
        client.set_patience(PATIENCE);
        client.expect_end();
        house.journal_of(client.local_addr(), "reason=proxy-header");
    }
}

#[test]
fn broken_headers_are_named_and_harm_nobody_else() {
    let house = House::start("", "");
    let mut on = house.gate.tls_client();
    assert!(on.login("alice", "x").is_ok());
    let v1 = |rest: &str| format!("PROXY {rest}").into_bytes();
    let tlv = |octets: &[u8]| {
        let rest = [&ENDS[..], octets].concat();
        v2(0x21, TCP4, u16::try_from(rest.len()).unwrap(), &rest)
    };
    let cases = [
        ("no header", b"a NOOP\r\n".to_vec(), "proxy-missing"),
        ("a line that is too long", v1(&format!("UNKNOWN {}\r\n", "x".repeat(100))), "proxy-too-long"),
        ("a port beyond 65535", v1("TCP4 203.0.113.9 198.51.100.1 65536 143\r\n"), "proxy-v1"),
        ("a port with a leading zero", v1("TCP4 203.0.113.9 198.51.100.1 4711 0143\r\n"), "proxy-v1"),
        ("a port that is none", v1("TCP4 203.0.113.9 198.51.100.1 +1 143\r\n"), "proxy-v1"),
        ("LF alone", v1("TCP4 203.0.113.9 198.51.100.1 4711 143\n"), "proxy-v1"),
        ("UNKNOWN and LF alone", v1("UNKNOWN\n"), "proxy-v1"),
        ("TCP6 with an IPv4 address", v1("TCP6 203.0.113.9 198.51.100.1 4711 143\r\n"), "proxy-v1"),
        ("another version", v2(0x31, TCP4, 12, &ENDS), "proxy-version"),
        ("an unknown command", v2(0x22, TCP4, 12, &ENDS), "proxy-command"),
        ("UDP", v2(0x21, 0x12, 12, &ENDS), "proxy-family"),
        ("too short for its addresses", v2(0x21, TCP4, 11, &ENDS[..11]), "proxy-short"),
        ("a TLV beyond the end", tlv(&[ALPN, 0, 9, b'x']), "proxy-tlv-bounds"),
        ("half a TLV", tlv(&[ALPN, 0]), "proxy-tlv-bounds"),
        ("a TLV twice", v2_with(&[(ALPN, b"imap"), (ALPN, b"imap")]), "proxy-tlv-twice"),
        ("an empty ALPN", v2_with(&[(ALPN, b"")]), "proxy-tlv-value"),
        ("a wrong checksum", v2_with(&[(CRC32C, &[0; 4])]), "proxy-checksum"),
        ("the greatest length", v2(0x21, TCP4, u16::MAX, &ENDS), "proxy-too-long"),
    ];
    for (name, header, rule) in cases {
        for ip in [REQUIRED, MIXED, OFFLOADED, IMPLICIT] {
            let protocol = if ip == IMPLICIT { "imaps" } else { "imap" };
            let mut balancer = Client::connect_from(BALANCER, house.door(protocol, ip));
            balancer.send(&header);
            let said = balancer.read_to_end();
            assert!(said.is_empty(), "{name}: {}", said.escape_ascii());
            let line = house.journal_of(balancer.local_addr(), &format!("reason={rule} "));
            assert!(line.contains(" warning ") && !line.contains("203.0.113"), "{name}: {line}");
        }
        assert!(on.command("NOOP").untagged_text().contains("ECHO NOOP"), "{name}");
    }
    // Cut off in the middle: nobody's mistake but the line's.
    let mut cut = house.balancer(REQUIRED);
    cut.send(&V1.as_bytes()[..20]);
    cut.half_close();
    cut.expect_end();
    assert!(house.journal_of(cut.local_addr(), "reason=proxy-header").contains(" info "));
}

/// A socket that sends `head` and what is written first in one piece.
struct Headed {
    socket: TcpStream,
    head: Vec<u8>,
}

impl Write for Headed {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let mut all = std::mem::take(&mut self.head);
        if all.is_empty() {
            return self.socket.write(octets);
        }
        all.extend_from_slice(octets);
        self.socket.write_all(&all).map(|()| octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

impl Read for Headed {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.socket.read(into)
    }
}

#[test]
fn header_and_client_hello_in_one_segment() {
    let backend = echo_backend();
    // 127.0.0.1 plays the balancer: the standard library calls from there.
    let gate = Gate::start(&Want {
        users: &everybody_at(backend.addr(), ""),
        trust: "proxy_protocol = [\"127.0.0.1\"]",
        more: LISTENERS,
        ..Want::default()
    });
    let house = House { gate, backend };
    for (header, alpn) in [(V1.as_bytes().to_vec(), true), (v2_with(&[]), false)] {
        let socket = TcpStream::connect(house.door("imaps", IMPLICIT)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut config: ClientConfig = (*house.gate.tls).clone();
        config.alpn_protocols = if alpn { vec![b"imap".to_vec()] } else { Vec::new() };
        let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut client = BufReader::new(StreamOwned::new(tls, Headed { socket, head: header }));
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        assert!(line.starts_with("* OK"), "{line:?}");
        client.get_mut().write_all(b"a LOGIN alice x\r\nb LOGOUT\r\n").unwrap();
        let mut rest = String::new();
        while !rest.contains("b OK") && client.read_line(&mut rest).unwrap() > 0 {}
        assert!(rest.contains("a OK") && rest.contains("b OK"), "{rest}");
    }
    house.gate.gatepost.log().wait_for_count("client=203.0.113.9:4711 via=127.0.0.1:", 4);
    let logins = house.gate.gatepost.log().wait_for_count(" info login ", 2);
    assert!(logins.iter().all(|line| line.contains("tls=TLSv1.3")), "{logins:#?}");
}

#[test]
fn header_and_first_command_in_one_segment() {
    let house = House::start("", "");
    for header in [V1.as_bytes().to_vec(), v2_with(&[]), b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, 0, b"")] {
        for ip in [REQUIRED, MIXED, OFFLOADED] {
            let mut balancer = house.balancer(ip);
            balancer.send([&header[..], b"a NOOP\r\nb LOGOUT\r\n"].concat());
            let said = String::from_utf8(balancer.read_to_end()).unwrap();
            let starts: Vec<&str> = said.lines().map(|line| line.get(..4).unwrap_or(line)).collect();
            assert_eq!(starts, ["* OK", "a OK", "* BY", "b OK"], "{said}");
        }
        let mut pop3 = AnyClient::connect_from(Protocol::Pop3, BALANCER, house.door("pop3", REQUIRED));
        pop3.send([&header[..], b"CAPA\r\nQUIT\r\n"].concat());
        let said = String::from_utf8(pop3.read_to_end()).unwrap();
        assert!(said.starts_with("+OK") && said.contains("\r\nSTLS\r\n") && said.ends_with("\r\n"), "{said}");
    }
}

#[test]
fn a_password_in_clear_is_not_local_because_the_balancer_is() {
    let house = House::start("", "");
    // A client of this host may.
    let mut local = house.balancer(OFF);
    assert!(!local.greeting().contains("LOGINDISABLED"));
    assert!(local.login("alice", "x").is_ok());
    // A balancer that speaks of nobody may do so for a client that it has no address for.
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, 0, b""), v2(0x21, 0, 0, b"")] {
        for ip in [REQUIRED, MIXED, OFFLOADED] {
            let mut remote = house.balancer(ip);
            remote.send(&header);
            assert!(remote.greeting().contains("LOGINDISABLED"));
            remote.no("LOGIN alice x", "[PRIVACYREQUIRED]");
        }
    }
    let before = house.backend.connections();
    // Who comes through it from elsewhere may not, even if the header gives it an address of this host.
    let local = "PROXY TCP4 127.0.0.1 127.0.0.1 4711 143\r\n".as_bytes().to_vec();
    let clear = v2_with(&[(SSL, &[0, 0, 0, 0, 1])]);
    for header in [V1.as_bytes().to_vec(), clear.clone(), local] {
        for ip in [REQUIRED, MIXED] {
            let mut remote = house.balancer(ip);
            remote.send(&header);
            assert!(remote.greeting().contains("LOGINDISABLED"));
            remote.no("LOGIN alice x", "[PRIVACYREQUIRED]");
        }
    }
    // Nor where TLS should have ended in front, and the balancer itself says that there was none.
    let mut remote = house.balancer(OFFLOADED);
    remote.send(&clear);
    assert!(remote.greeting().contains("LOGINDISABLED"));
    remote.no("LOGIN alice x", "[PRIVACYREQUIRED]");
    assert_eq!(house.backend.connections(), before, "nothing of it went anywhere");
}

#[test]
fn a_balancer_lends_its_trust_to_nobody() {
    let house = House::start(&format!("networks = [\"{BALANCER}\", \"203.0.113.0/24\"]"), "");
    let another: SocketAddr = "192.0.2.7:77".parse().unwrap();
    // Who comes through it is believed for an address of its own.
    for (header, believed) in [
        (V1.as_bytes().to_vec(), true),
        (b"PROXY UNKNOWN\r\n".to_vec(), false),
        (v2(0x20, 0, 0, b""), false),
        (v2(0x21, 0, 0, b""), false),
    ] {
        for protocol in Protocol::ALL {
            let mut client = AnyClient::connect_from(protocol, BALANCER, house.door(protocol.name(), REQUIRED));
            client.send(&header);
            client.greeting();
            let heard = client.introduce(another, "said", 5);
            let from = if believed { another } else { client.local_addr() };
            client.logout();
            let line = house.gate.gatepost.wait_for(&format!(" disconnect protocol={} client={from} ", protocol.name()));
            assert_eq!(line.contains("session=said"), believed, "{line}");
            let refused = heard.text.contains("not from trusted") || heard.text.starts_with("550 5.7.0 ");
            assert!(protocol == Protocol::Imap || refused != believed, "{heard:?}");
        }
    }
}

#[test]
fn a_balancer_elsewhere_says_no_password_for_itself() {
    Alone::new("proxy_protocol::alone_with_a_balancer_elsewhere").run();
}

#[test]
#[ignore = "run by a_balancer_elsewhere_says_no_password_for_itself, in a network of its own"]
fn alone_with_a_balancer_elsewhere() {
    if !netns::is_alone() {
        return;
    }
    let elsewhere: IpAddr = [192, 0, 2, 5].into();
    let added = Command::new("ip").args(["address", "add", "192.0.2.5/32", "dev", "lo"]).status();
    assert!(added.is_ok_and(|status| status.success()));
    let backend = echo_backend();
    let gate = Gate::start(&Want {
        users: &everybody_at(backend.addr(), ""),
        trust: "proxy_protocol = [\"192.0.2.5\"]",
        more: LISTENERS,
        ..Want::default()
    });
    let house = House { gate, backend };
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, 0, b"")] {
        let mut balancer = Client::connect_from(elsewhere, house.door("imap", OFFLOADED));
        balancer.send(header);
        assert!(balancer.greeting().contains("LOGINDISABLED"));
        balancer.no("LOGIN alice x", "[PRIVACYREQUIRED]");
    }
    // The same balancer with a client: TLS ended there, the operator says.
    let mut client = Client::connect_from(elsewhere, house.door("imap", OFFLOADED));
    client.send(V1);
    client.greeting();
    assert!(client.login("alice", "x").is_ok());
    assert_eq!(house.backend.connections(), 1);
}

#[test]
fn connections_before_login_are_counted_for_the_client_of_the_header() {
    let house = House::start("", "connections_before_login = 2");
    let about = |client: u8| format!("PROXY TCP4 203.0.113.{client} 198.51.100.1 4711 143\r\n");
    let connect = |client: u8| {
        let mut balancer = house.balancer(REQUIRED);
        balancer.send(about(client));
        balancer
    };
    // Six of one balancer, two of each client.
    let mut here: Vec<Client> = [1, 1, 2, 2, 3, 3].map(connect).into();
    for client in &mut here {
        client.greeting();
    }
    let mut third = connect(1);
    assert_eq!(third.read_to_end(), b"* BYE Too many connections without a login from your address.\r\n");
    let line = house.gate.gatepost.log().wait_for_all(&[" disconnect ", "client=203.0.113.1:4711 ", "reason=limit"]);
    assert!(line.contains("limits.connections_before_login"), "{line}");
    // One that leaves makes room for another one.
    drop(here.remove(0));
    house.gate.gatepost.wait_for("reason=closed");
    connect(1).greeting();
}

#[test]
fn a_network_over_its_limit_hears_nothing_before_a_header() {
    let house = House::start("", "connections_before_login = 1");
    let mut first = Client::connect_from(STRANGER, house.door("imap", OFF));
    first.greeting();
    for (protocol, ip, word) in [
        ("imap", OFF, "* BYE"),
        // There it is a client like any other.
        ("imap", MIXED, "* BYE"),
        ("imap", REQUIRED, ""),
        ("pop3", REQUIRED, ""),
        ("imap", OFFLOADED, ""),
        ("pop3", OFFLOADED, ""),
        ("imaps", IMPLICIT, ""),
    ] {
        let mut second = Client::connect_from(STRANGER, house.door(protocol, ip));
        let said = String::from_utf8(second.read_to_end()).unwrap();
        assert_eq!(said.get(..word.len()), Some(word), "{protocol} {ip}: {said:?}");
        assert_eq!(said.is_empty(), word.is_empty(), "{protocol} {ip}: {said:?}");
    }
}

#[test]
fn a_protocol_that_is_not_ours_is_refused_behind_the_balancer_too() {
    let house = House::start("", "");
    for (protocol, ip, alpn, welcome) in [
        ("imap", OFFLOADED, "http/1.1", false),
        ("imap", OFFLOADED, "pop3", false),
        ("imap", OFFLOADED, "imap", true),
        ("pop3", OFFLOADED, "pop3", true),
        ("pop3", OFFLOADED, "imap", false),
        ("imap", MIXED, "http/1.1", false),
    ] {
        let mut balancer = Client::connect_from(BALANCER, house.door(protocol, ip));
        balancer.send(v2_with(&[(ALPN, alpn.as_bytes())]));
        if welcome {
            assert!(balancer.read_line().is_some_and(|line| line.contains("OK")), "{protocol} {alpn}");
        } else {
            balancer.expect_end();
        }
    }
    let lines = house.gate.gatepost.log().wait_for_count("reason=alpn", 4);
    assert!(lines.iter().any(|line| line.contains("http/1.1")), "{lines:#?}");
}

#[test]
fn listeners_are_named_by_what_begins_there() {
    let house = House::start("", "");
    let named = |ip: &str| -> Vec<(String, String)> {
        let all = house.gate.gatepost.listeners().iter().filter(|l| l.addr.ip().to_string() == ip);
        all.map(|l| (l.protocol.clone(), l.tls.clone())).collect()
    };
    let pairs = |all: &[(&str, &str)]| all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(named(OFFLOADED), pairs(&[("imap", "offloaded"), ("pop3", "offloaded")]));
    assert_eq!(
        named(REQUIRED),
        pairs(&[("imap", "starttls"), ("managesieve", "starttls"), ("pop3", "starttls"), ("submission", "starttls")])
    );
    assert_eq!(named(IMPLICIT), pairs(&[("imaps", "implicit")]));
}
