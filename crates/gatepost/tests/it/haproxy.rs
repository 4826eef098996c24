//! Debian's HAProxy in front of Gatepost in front of a real Dovecot: the person at the far end is known to both, whichever
//! header says so, and HAProxy itself is nobody.
//!
//! HAProxy calls from an address of its own here, so that what is its and what is the client's cannot be mistaken.

use crate::gate::{Gate, Want};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use testkit::certs::{Authority, Certificate, Request, Role};
use testkit::dovecot::{self, Options};
use testkit::haproxy::{Check, FrontTls, Frontend, Haproxy, Header};
use testkit::peer::AnyClient;
use testkit::{Dir, Protocol, real};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 42));
const WEBMAIL: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));
const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
/// Where TLS ends at HAProxy.
const EDGE: &str = "mail.example.com";

/// Each kind of listener at an address of its own, the usual ones at the first.
const OPEN: &str = "127.0.0.1";
const REQUIRED: &str = "127.0.1.1";
const MIXED: &str = "127.0.1.2";
const OFFLOADED: &str = "127.0.1.3";

/// A Dovecot that believes Gatepost, and a Gatepost that believes the balancer and the webmail.
struct House {
    dovecot: dovecot::Backend,
    gate: Gate,
    /// Signed what HAProxy shows.
    authority: Authority,
    edge: Certificate,
    /// Signed the certificates of clients.
    people: Authority,
}

impl House {
    fn start() -> House {
        let logged = ["name", "secured"].map(str::to_owned).to_vec();
        let options = Options { trusted: "127.0.0.1".into(), forward_logged: logged, ..Options::default() };
        let dovecot = dovecot::Backend::start(options);
        let dir = Dir::new();
        rusqlite::Connection::open(dir.join("users.db")).unwrap().execute_batch("CREATE TABLE u (user TEXT);").unwrap();
        let (authority, people) = (Authority::new(dir.path(), "edge-ca"), Authority::new(dir.path(), "people"));
        let edge = authority.server("edge", &[EDGE]);
        let users = Protocol::ALL.map(|protocol| {
            let (name, port) = (protocol.name(), dovecot.addresses().of(protocol).port());
            format!(
                "[[users]]\nname = \"{name}\"\nprotocols = [\"{name}\"]\ndriver = \"sqlite\"\npath = \"users.db\"\n\
                 query = \"SELECT 'y' AS proxy, 'y' AS nopassword, '127.0.0.1' AS host, {port} AS port, \
                 '%{{local_name}}' AS forward_name, '%c' AS forward_secured\"\n"
            )
        });
        let trust = format!("networks = [\"{WEBMAIL}\"]\nproxy_protocol = [\"{BALANCER}\"]");
        let mut more = String::new();
        for (ip, words) in [
            (REQUIRED, "proxy_protocol = \"required\""),
            (MIXED, "proxy_protocol = \"mixed\""),
            (OFFLOADED, "proxy_protocol = \"required\"\ntls = \"offloaded\""),
        ] {
            for protocol in Protocol::ALL {
                let protocol = protocol.implicit().filter(|_| ip == OFFLOADED).unwrap_or(protocol.name());
                more += &format!("[[listen]]\nprotocol = \"{protocol}\"\naddress = \"{ip}:0\"\n{words}\n");
            }
        }
        for protocol in ["pop3", "managesieve", "submission"] {
            more += &format!("[[listen]]\nprotocol = \"{protocol}\"\naddress = \"{OPEN}:0\"\n");
        }
        let gate = Gate::start_in(dir, &Want { users: &users.concat(), trust: &trust, more: &more, ..Want::default() });
        House { dovecot, gate, authority, edge, people }
    }

    /// The listener at this address.
    fn door(&self, protocol: Protocol, ip: &str) -> SocketAddr {
        let mine = |addr: &SocketAddr| addr.ip().to_string() == ip;
        self.gate.gatepost.addrs(protocol.name()).into_iter().find(mine).expect("a listener")
    }

    /// A way through HAProxy in clear, or with the client's own TLS untouched.
    fn way(&self, protocol: Protocol, ip: &str, header: Header) -> Frontend {
        Frontend { source: Some(BALANCER), ..Frontend::to(self.door(protocol, ip), header) }
    }

    /// A way with TLS that ends at HAProxy, which looks at certificates of clients.
    fn offloading(&self, protocol: Protocol, header: Header) -> Frontend {
        let tls = FrontTls {
            certificate: self.edge.clone(),
            clients: Some(self.people.ca_file()),
            alpn: vec![alpn(protocol).to_owned()],
        };
        Frontend { tls: Some(tls), ..self.way(protocol, OFFLOADED, header) }
    }

    /// The journal's line of the newest login, the `n`th (from 1) of all.
    #[track_caller]
    fn login(&self, n: usize) -> String {
        self.gate.gatepost.log().wait_for_count(" info login ", n).pop().unwrap()
    }
}

/// How TLS calls a protocol.
fn alpn(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Submission { "smtp" } else { protocol.name() }
}

#[track_caller]
fn has(line: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(line.contains(piece), "no {piece:?} in: {line}");
    }
}

/// The connection as the client sees it, in the words of Dovecot's log. Its XCLIENT does not say what it reached.
fn ends(client: &AnyClient) -> String {
    let (own, reached) = (client.local_addr(), client.peer_addr());
    let rip = format!("rip={}, rport={}, ", own.ip(), own.port());
    match client.protocol() {
        Protocol::Imap => rip + &format!("lip={}, lport={}, ", reached.ip(), reached.port()),
        Protocol::Pop3 | Protocol::ManageSieve | Protocol::Submission => rip,
    }
}

#[test]
fn tls_with_gatepost_itself_behind_each_header() {
    let (Some(_), Some(_)) = (real::require("haproxy"), real::require("dovecot")) else { return };
    let house = House::start();
    let mut logins = 0;
    for protocol in Protocol::ALL {
        // The last one says "in clear" where no TLS ends at HAProxy; what the client then agrees with us is its own.
        let headers = [Header::V1, Header::V2, Header::V2SslCn];
        let ways: Vec<Frontend> = headers.into_iter().map(|header| house.way(protocol, REQUIRED, header)).collect();
        let haproxy = Haproxy::start(&ways);
        for (number, way) in ways.iter().enumerate() {
            let mut client = AnyClient::connect_from(protocol, CLIENT, haproxy.addr(number));
            client.greeting();
            client.starttls(&house.gate.tls, "localhost");
            assert!(client.login("alice", "alice-secret").ok, "{way:?}: {}", house.gate.gatepost.log().tail());
            logins += 1;
            let line = house.dovecot.login_line_of(protocol, number + 1);
            has(&line, &[&ends(&client), "real_rip=127.0.0.1", "forward_name=<localhost>", "forward_secured=<secured>"]);
            let ours = house.login(logins);
            let seen = client.local_addr();
            has(&ours, &[&format!("client={seen} via={BALANCER}:"), "tls=TLSv1.3:", "identity=told"]);
            assert!(!ours.contains("offloaded") && !ours.contains("certificate="), "{ours}");
            client.logout();
        }
    }
    house.gate.gatepost.wait_for(", in clear");
}

#[test]
fn tls_that_ends_at_haproxy() {
    let (Some(_), Some(_)) = (real::require("haproxy"), real::require("dovecot")) else { return };
    let house = House::start();
    let names = vec!["alice@example.com".to_owned()];
    let alice = house.people.issue("alice", &Request { names, role: Role::Client, ..Request::default() });
    let mut logins = 0;
    for protocol in Protocol::ALL {
        let all = ["ssl", "cert-cn", "ssl-cipher", "authority", "unique-id", "crc32c"].map(str::to_owned).to_vec();
        let haproxy = Haproxy::start(&[
            house.offloading(protocol, Header::V2With(all)),
            house.offloading(protocol, Header::V2SslCn),
            // Says nothing of TLS: then the operator's word for the listener counts.
            house.offloading(protocol, Header::V1),
        ]);
        let mut showing = (*house.authority.client_config_showing(&alice)).clone();
        showing.alpn_protocols = vec![alpn(protocol).into()];
        let (showing, anonymous) = (Arc::new(showing), house.authority.client_config());
        // The way, the client's TLS, and what is known of it: the server name, the journal's words.
        let cases = [
            (0, &showing, EDGE, &["tls=offloaded:TLSv1.3:TLS_", "certificate=alice@example.com"][..]),
            (0, &anonymous, EDGE, &["tls=offloaded:TLSv1.3:TLS_"]),
            (1, &showing, "", &["tls=offloaded:TLSv1.3 ", "certificate=alice@example.com"]),
            (2, &showing, "", &["tls=offloaded "]),
        ];
        for (number, (way, tls, name, words)) in cases.into_iter().enumerate() {
            let mut client = AnyClient::connect_from(protocol, CLIENT, haproxy.addr(way));
            client.connect_tls(tls, EDGE);
            client.greeting();
            assert!(client.login("alice", "alice-secret").ok, "{}", house.gate.gatepost.log().tail());
            logins += 1;
            let line = house.dovecot.login_line_of(protocol, number + 1);
            let name = format!("forward_name=<{name}>");
            has(&line, &[&ends(&client), "real_rip=127.0.0.1", &name, "forward_secured=<secured>"]);
            let ours = house.login(logins);
            has(&ours, &[&format!("client={} via={BALANCER}:", client.local_addr())]);
            has(&ours, words);
            assert_eq!(ours.contains("certificate="), words.len() > 1, "{ours}");
            client.logout();
        }
        // Its unique id begins with the client's address, 127.0.0.42.
        let alpn = format!(", ALPN {}, id 7F00002A", alpn(protocol));
        let told = house.gate.gatepost.log().wait_for_all(&[" debug proxy-protocol ", "name mail.example.com", &alpn]);
        has(&told, &["certificate of alice@example.com"]);
    }
}

#[test]
fn direct_clients_beside_those_of_haproxy() {
    let (Some(_), Some(_)) = (real::require("haproxy"), real::require("dovecot")) else { return };
    let house = House::start();
    for protocol in Protocol::ALL {
        let door = house.door(protocol, MIXED);
        let haproxy = Haproxy::start(&[house.way(protocol, MIXED, Header::V2)]);
        for (number, at) in [door, haproxy.addr(0), door].into_iter().enumerate() {
            let mut client = AnyClient::connect_from(protocol, CLIENT, at);
            client.greeting();
            client.starttls(&house.gate.tls, "localhost");
            assert!(client.login("alice", "alice-secret").ok, "{}", house.gate.gatepost.log().tail());
            has(&house.dovecot.login_line_of(protocol, number + 1), &[&ends(&client)]);
            let seen = format!("client={} ", client.local_addr());
            let ours = house.gate.gatepost.log().wait_for_all(&[" info login ", &seen]);
            assert_eq!(ours.contains(&format!("via={BALANCER}:")), at != door, "{ours}");
            client.logout();
        }
    }
}

#[test]
fn health_checks_leave_no_warning() {
    let (Some(_), Some(_)) = (real::require("haproxy"), real::require("dovecot")) else { return };
    let house = House::start();
    // The journal is written a moment after the event: what belongs to the start must not be counted below.
    house.gate.gatepost.log().wait_for(" ready ");
    for protocol in Protocol::ALL {
        let greeting = || Check::Says(if protocol == Protocol::Submission { "220 " } else { "OK" }.to_owned());
        let mut ways = Vec::new();
        for header in [Header::None, Header::V1, Header::V2, Header::V2SslCn] {
            ways.push(Frontend { check: Check::Connects, ..house.way(protocol, REQUIRED, header) });
        }
        for header in [Header::V1, Header::V2] {
            ways.push(Frontend { check: greeting(), ..house.way(protocol, MIXED, header.clone()) });
            ways.push(Frontend { check: greeting(), ..house.way(protocol, OFFLOADED, header) });
        }
        let journal = house.gate.gatepost.log().from_here();
        let haproxy = Haproxy::start(&ways);
        // Several of each kind.
        journal.wait_for_count(" debug disconnect ", 8 * ways.len());
        assert_eq!(haproxy.log().count(" is DOWN"), 0, "{}", haproxy.log().tail());
        let mut client = AnyClient::connect_from(protocol, CLIENT, haproxy.addr(2));
        client.greeting();
        client.starttls(&house.gate.tls, "localhost");
        assert!(client.login("alice", "alice-secret").ok, "{}", haproxy.log().tail());
        client.logout();
        drop(haproxy);
        journal.wait_for(" info end ");
        let loud: Vec<String> = journal.lines().into_iter().filter(|line| !line.contains(" debug ")).collect();
        assert_eq!(loud.len(), 2, "only the session itself: {loud:#?}");
    }
}

#[test]
fn a_trusted_webmail_behind_haproxy_is_believed_and_haproxy_is_not() {
    let (Some(_), Some(_)) = (real::require("haproxy"), real::require("dovecot")) else { return };
    let house = House::start();
    let person: SocketAddr = "192.0.2.66:66".parse().unwrap();
    for protocol in Protocol::ALL {
        let haproxy = Haproxy::start(&[house.way(protocol, REQUIRED, Header::V2)]);
        let (open, required) = (house.door(protocol, OPEN), house.door(protocol, REQUIRED));
        // From where, to where, what it says first, whether it is believed.
        let cases = [
            (WEBMAIL, haproxy.addr(0), "", true),
            (CLIENT, haproxy.addr(0), "", false),
            // The balancer by itself: on a listener without headers, and behind a header that speaks of nobody.
            (BALANCER, open, "", false),
            (BALANCER, required, "PROXY UNKNOWN\r\n", false),
        ];
        for (number, (from, to, first, believed)) in cases.into_iter().enumerate() {
            let mut client = AnyClient::connect_from(protocol, from, to);
            client.send(first);
            client.greeting();
            client.starttls(&house.gate.tls, "localhost");
            // To whom it is not listened to, IMAP does not say so, and all others do.
            let session = format!("s{number}");
            let heard = client.introduce(person, &session, 4);
            assert!(heard.ok || (!believed && protocol != Protocol::Imap), "{heard:?}");
            assert!(client.login("alice", "alice-secret").ok, "{}", house.gate.gatepost.log().tail());
            let line = house.dovecot.login_line_of(protocol, number + 1);
            if believed {
                has(&line, &["rip=192.0.2.66, rport=66", "session=<s0>"]);
                let ours = house.gate.gatepost.log().wait_for_all(&[" info login ", &format!("client={person} ")]);
                has(&ours, &[&format!("via={BALANCER}:"), "session=s0"]);
            } else {
                has(&line, &[&ends(&client)]);
                assert!(!line.contains("192.0.2.66") && !line.contains(&format!("session=<{session}>")), "{line}");
            }
            client.logout();
        }
    }
}
