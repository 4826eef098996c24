//! Who is calling and who has signed in, as told by XCLIENT in ManageSieve and Submission: by strangers, by trusted peers, and
//! by those that may vouch for users. What databases, limits and backends then know is that client, and not the peer.

use crate::gate::{Gate, OTHERS_TOO, Want, trouble};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use testkit::peer::{AnyClient, Backend, FakeBackend, FakeServer, SeenLogin, SmtpClient, Xclient};
use testkit::{Dir, Protocol};

use Protocol::{ManageSieve, Submission};

const BOTH: [Protocol; 2] = [ManageSieve, Submission];

/// May say who is calling and who has signed in; may say who is calling; may say nothing.
const VOUCHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 8));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// What else a row says is in its columns; the query hands on what it knows of the client.
const SCHEMA: &str = "
CREATE TABLE users (user TEXT PRIMARY KEY, pass TEXT, master TEXT, proxy_noauth TEXT, allow_nets TEXT);
INSERT INTO users VALUES
  ('alice', NULL, NULL, NULL, NULL),
  ('near', NULL, NULL, NULL, '192.0.2.0/24'),
  ('bymaster', 'm-secret', 'boss', NULL, NULL),
  ('bypass', 'p-secret', NULL, NULL, NULL),
  ('byname', NULL, NULL, 'y', NULL),
  ('bynamenear', NULL, NULL, 'y', '192.0.2.0/24');
";

struct House {
    gate: Gate,
    backends: [FakeBackend; 2],
}

impl House {
    fn start(limits: &str) -> House {
        let backend = |protocol| Backend { xclient: Xclient::SignsIn, ..Backend::of(protocol) };
        let backends = BOTH.map(|protocol| FakeBackend::start(backend(protocol)));
        House { gate: gate_at(&backends.each_ref().map(|backend| (backend.protocol(), backend.port())), limits), backends }
    }

    fn backend(&self, protocol: Protocol) -> &FakeBackend {
        self.backends.iter().find(|backend| backend.protocol() == protocol).unwrap()
    }

    /// A client from this address that has read its greeting.
    fn client(&self, protocol: Protocol, from: IpAddr) -> AnyClient {
        client(&self.gate, protocol, from)
    }

    /// One that a trusted peer has named.
    #[track_caller]
    fn named(&self, protocol: Protocol, ip: &str) -> AnyClient {
        let mut client = self.client(protocol, PEER);
        let outcome = client.introduce(format!("{ip}:7777").parse().unwrap(), "s", 4);
        assert!(outcome.ok, "{outcome:?}");
        client
    }

    /// By Submission, from this address, with EHLO said.
    fn smtp(&self, from: IpAddr) -> SmtpClient {
        smtp(&self.gate, from)
    }
}

/// In front of these backends.
fn gate_at(backends: &[(Protocol, u16)], limits: &str) -> Gate {
    let dir = Dir::new();
    rusqlite::Connection::open(dir.join("users.db")).unwrap().execute_batch(SCHEMA).unwrap();
    let block = |(protocol, port): &(Protocol, u16)| {
        let name = protocol.name();
        format!(
            "[[users]]\nname = \"{name}\"\nprotocols = [\"{name}\"]\ndriver = \"sqlite\"\npath = \"users.db\"\n\
             query = \"SELECT '{{PLAIN}}right' AS password, 'y' AS proxy, '127.0.0.1' AS host, {port} AS port, pass, master, \
             proxy_noauth, allow_nets, '%r' AS forward_ip, '%{{passdb:forward_team}}' AS forward_crew, '%m' AS forward_by \
             FROM users WHERE user = '%u'\"\n"
        )
    };
    let users: String = backends.iter().map(block).collect();
    let trust = format!("networks = [\"{VOUCHER}\", \"{PEER}\"]\nlogin = [\"{VOUCHER}\"]");
    Gate::start_in(dir, &Want { users: &users, trust: &trust, limits, more: OTHERS_TOO, ..Want::default() })
}

fn client(gate: &Gate, protocol: Protocol, from: IpAddr) -> AnyClient {
    let mut client = AnyClient::connect_from(protocol, from, gate.at(protocol));
    client.greeting();
    client
}

fn smtp(gate: &Gate, from: IpAddr) -> SmtpClient {
    let AnyClient::Submission(mut client) = client(gate, Submission, from) else { unreachable!() };
    client.ehlo("peer.example");
    client
}

/// The pairs that a backend was told with the client.
fn forwarded(login: &SeenLogin) -> Vec<String> {
    let words = login.xclients.iter().flat_map(|line| line.split(' '));
    let value = words.filter_map(|word| word.strip_prefix("FORWARD=")).next_back().unwrap_or_default();
    // In SMTP it is in xtext as well.
    let value = value.replace("+3D", "=").replace("+2B", "+");
    let pairs = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
    pairs.split('\t').map(str::to_owned).collect()
}

#[test]
fn a_client_that_a_trusted_peer_names_is_known_to_queries_and_backends() {
    let house = House::start("");
    for protocol in BOTH {
        let mut client = house.client(protocol, PEER);
        let words = format!("ADDR=192.0.2.7 PORT=7777 FORWARD={}", STANDARD.encode("team=blue"));
        match &mut client {
            AnyClient::ManageSieve(client) => assert!(client.xclient(&words).is_ok()),
            AnyClient::Submission(client) => {
                assert!(client.ehlo("peer.example").get("XCLIENT").is_some_and(|list| !list.contains("LOGIN")));
                assert!(client.xclient(&words.replace("Ymx1ZQ==", "Ymx1ZQ+3D+3D")).is_ok());
            }
            _ => unreachable!(),
        }
        assert!(client.login("alice", "right").ok, "{}", house.gate.gatepost.log().tail());
        let login = house.backend(protocol).wait_for_logins(1).remove(0);
        let told = login.xclients.join(" ");
        assert!(told.contains("ADDR=192.0.2.7 PORT=7777"), "{told}");
        let pairs = forwarded(&login);
        for pair in ["team=blue", "ip=192.0.2.7", "crew=blue", "by=PLAIN"] {
            assert!(pairs.iter().any(|have| have == pair), "{}: no {pair} in {pairs:?}", protocol.name());
        }
        let name = format!("protocol={} ", protocol.name());
        let line = house.gate.gatepost.log().wait_for_all(&[" info login ", &name]);
        assert!(line.contains(&format!("client=192.0.2.7:7777 via={PEER}:")), "{line}");
    }
}

#[test]
fn a_stranger_speaks_for_itself_alone() {
    let house = House::start("");
    for protocol in BOTH {
        let mut client = house.client(protocol, STRANGER);
        let refused = match &mut client {
            AnyClient::ManageSieve(client) => {
                assert!(!client.listed().contains_key("XCLIENT"));
                client.no("XCLIENT ADDR=192.0.2.7 PORT=7777", "not from trusted").rest
            }
            AnyClient::Submission(client) => {
                assert!(client.ehlo("me.example").get("XCLIENT").is_none());
                // Nobody may say who has signed in, whoever is named along with it.
                client.expect("XCLIENT ADDR=192.0.2.7 LOGIN=byname", "550 5.7.0");
                client.expect("MAIL FROM:<x@example.org>", "530 5.7.0");
                client.expect("XCLIENT ADDR=192.0.2.7 PORT=7777", "550 5.7.0").text()
            }
            _ => unreachable!(),
        };
        assert!(client.login("alice", "right").ok, "{refused}: {}", house.gate.gatepost.log().tail());
        let login = house.backend(protocol).wait_for_logins(1).remove(0);
        let (told, own) = (login.xclients.join(" "), client.local_addr());
        assert!(told.contains(&format!("ADDR={} PORT={} ", own.ip(), own.port())) && !told.contains("192.0.2"), "{told}");
        assert!(forwarded(&login).contains(&format!("ip={STRANGER}")), "{told}");
        // Told to the operator, too, and once, however often it is said.
        let noted = house.gate.gatepost.wait_for(&format!(" info identity-unbelieved protocol={} ", protocol.name()));
        assert!(noted.contains(&format!("client={STRANGER}:")) && noted.contains("not in trust.networks"), "{noted}");
        assert_eq!(house.gate.gatepost.log().count(&format!("identity-unbelieved protocol={} ", protocol.name())), 1);
    }
    // One that is trusted with names of clients is not trusted with those of users.
    let mut peer = house.smtp(PEER);
    peer.expect("XCLIENT ADDR=192.0.2.7 LOGIN=byname", "550 5.7.0");
    peer.expect("MAIL FROM:<x@example.org>", "530 5.7.0");
    assert!(house.gate.gatepost.wait_for(" warning identity-unbelieved ").contains("LOGIN: it is not in trust.login"));
    assert_eq!(house.backend(Submission).connections(), 1);
    assert_eq!(house.gate.gatepost.log().count("mechanism=XCLIENT"), 0);
}

#[test]
fn limits_and_networks_are_those_of_the_named_client() {
    let house = House::start("user_connections = 1");
    for protocol in BOTH {
        let mut first = house.named(protocol, "192.0.2.7");
        assert!(first.login("alice", "right").ok, "{}", house.gate.gatepost.log().tail());
        let mut second = house.named(protocol, "192.0.2.7");
        let over = second.login("alice", "right");
        let code = if protocol == Submission { "421 4.7.0" } else { "(TRYLATER)" };
        assert!(!over.ok && over.text.starts_with(code) && over.text.contains("(limit 1)"), "{over:?}");
        if protocol == Submission {
            // With that code the connection is over.
            second.expect_end();
            house.gate.gatepost.wait_for("reason=hung-up");
        }
        assert!(house.named(protocol, "192.0.2.8").login("alice", "right").ok, "another client has its own");

        // Networks of a row are about the client, too.
        let wrong = if protocol == Submission { "535 5.7.8" } else { "\"Authentication failed.\"" };
        let elsewhere = house.named(protocol, "198.51.100.7").login("near", "right");
        assert!(!elsewhere.ok && elsewhere.text.starts_with(wrong), "{elsewhere:?}");
        assert!(house.named(protocol, "192.0.2.9").login("near", "right").ok);
    }
}

#[test]
fn guesses_are_those_of_the_named_client() {
    let house = House::start("guesses = 1\nfailed_logins = 100");
    for protocol in BOTH {
        let log = house.gate.gatepost.log().from_here();
        let net = if protocol == Submission { "192.0.2.7" } else { "198.51.100.7" };
        let mut guesser = house.named(protocol, net);
        assert!(!guesser.login("alice", "wrong").ok);
        assert!(!guesser.login("alice", "wrong").ok);
        // The third is looked at two seconds later; meanwhile another client of the same peer is answered twice.
        let asked = Instant::now();
        guesser.send_login("slowed", "wrong");
        let mut other = house.named(protocol, "203.0.113.7");
        assert!(other.login("alice", "right").ok);
        assert!(!guesser.login_answer().ok);
        assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
        log.wait_for("user=slowed");
        let lines = log.lines();
        let at = |piece: &str| lines.iter().position(|line| line.contains(piece));
        assert!(at(" info login ") < at("user=slowed") && at(" info login ").is_some(), "{lines:#?}");
        for line in lines.iter().filter(|line| line.contains(" refused ")) {
            assert!(line.contains(&format!("client={net}:7777 via={PEER}:")), "{line}");
        }
    }
}

/// A letter that is said in one piece, as SMTP allows, and its text.
const LETTER: &str = "MAIL FROM:<me@example.org>\r\nRCPT TO:<you@example.org>\r\nRCPT TO:<her@example.org>\r\n";
const TEXT: &str = "Subject: one\r\n\r\n.dotted\r\nAUTH PLAIN is a line of the letter\r\nQUIT\r\n";

#[test]
fn whom_a_peer_vouches_for_is_signed_in_by_what_the_row_has() {
    let house = House::start("");
    let letters = house.backend(Submission).letters();
    for (n, (user, mechanism, authzid, name, password)) in [
        ("bymaster", "PLAIN", "bymaster", "boss", "m-secret"),
        ("bypass", "PLAIN", "", "bypass", "p-secret"),
        ("byname", "XCLIENT", "", "byname", ""),
        ("bynamenear", "XCLIENT", "", "bynamenear", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = house.smtp(VOUCHER);
        let reply = client.xclient(&format!("ADDR=192.0.2.7 PORT=7777 HELO=client.example LOGIN={user}"));
        assert_eq!(reply.code, 220, "{reply:?}");
        let list = client.ehlo("peer.example");
        assert_eq!(list.get("XCLIENT"), None, "it may be the user who speaks now");
        client.expect("AUTH PLAIN AGFsaWNlAHg=", "503 5.5.1");
        // All up to the letter in one segment.
        client.send(format!("{LETTER}DATA\r\n"));
        for code in [250, 250, 250, 354] {
            let reply = client.reply();
            assert_eq!(reply.code, code, "{user}: {reply:?}\n{}", house.gate.gatepost.log().tail());
        }
        client.send(format!("{}.\r\n", TEXT.replace("\r\n.", "\r\n..")));
        assert_eq!(client.reply().code, 250);
        client.quit();
        let login = house.backend(Submission).wait_for_logins(n + 1).remove(n);
        let said = (&*login.mechanism, &*login.authzid, &*login.user, &*login.password);
        assert_eq!(said, (mechanism, authzid, name, password));
        let told = login.xclients.join(" ");
        assert!(told.contains("ADDR=192.0.2.7 PORT=7777") && told.contains("HELO=client.example"), "{told}");
        assert_eq!(told.contains(&format!("LOGIN={user}")), mechanism == "XCLIENT", "{told}");
        assert!(forwarded(&login).contains(&"by=XCLIENT".to_owned()), "{told}");
        let letter = letters.wait_for(n + 1).remove(n);
        assert_eq!((letter.user.as_str(), letter.from.as_str()), (name, "<me@example.org>"));
        assert_eq!(
            (letter.to, String::from_utf8(letter.data).unwrap()),
            (vec!["<you@example.org>".to_owned(), "<her@example.org>".to_owned()], TEXT.to_owned())
        );
        let line = house.gate.gatepost.log().wait_for_all(&[" info login ", &format!("user={user} ")]);
        for piece in ["mechanism=XCLIENT", "client=192.0.2.7:7777", &format!("via={VOUCHER}:")] {
            assert!(line.contains(piece), "no {piece} in {line}");
        }
    }
    assert_eq!(letters.all().len(), 4, "and nothing else became a letter");
}

#[test]
fn whom_a_peer_vouches_for_is_refused_like_anybody() {
    let house = House::start("");
    for (user, client_ip, code, reason, piece) in [
        // A row that has nothing to sign in with: it is for the operator to mend, and named.
        ("alice", "192.0.2.7", "454 4.7.0", "row", "proxy_noauth"),
        ("nobody", "192.0.2.7", "535 5.7.8", "credentials", "user=nobody"),
        ("bynamenear", "198.51.100.7", "535 5.7.8", "credentials", "user=bynamenear"),
    ] {
        let log = house.gate.gatepost.log().from_here();
        let mut client = house.smtp(VOUCHER);
        assert!(client.xclient(&format!("ADDR={client_ip} LOGIN={user}")).is_ok());
        client.ehlo("peer.example");
        client.send(LETTER);
        let reply = client.reply();
        assert!(reply.text().starts_with(code), "{user}: {reply:?}");
        // What stood behind the MAIL was not for anybody.
        assert_eq!((client.reply().code, client.reply().code), (503, 503));
        let line = log.wait_for(" refused protocol=submission ");
        for piece in [&*format!("reason={reason} "), "mechanism=XCLIENT", &format!("client={client_ip}:"), piece] {
            assert!(line.contains(piece), "no {piece} in {line}");
        }
        // Whoever was refused does not become somebody else: the next client comes with a connection of its own.
        client.expect("XCLIENT ADDR=192.0.2.7 LOGIN=byname", "550 5.7.0");
        let mut client = house.smtp(VOUCHER);
        assert!(client.xclient("ADDR=192.0.2.7 LOGIN=byname").is_ok());
        client.ehlo("peer.example");
        assert_eq!(client.command("MAIL FROM:<x@example.org>").code, 250, "{}", house.gate.gatepost.log().tail());
    }
    // And one of whom it is not said at once is nobody, and will be.
    let mut client = house.smtp(VOUCHER);
    assert!(client.xclient("ADDR=192.0.2.8").is_ok());
    client.expect("XCLIENT LOGIN=byname", "550 5.7.0");
    client.ehlo("peer.example");
    client.expect("MAIL FROM:<x@example.org>", "530 5.7.0");
    assert_eq!(house.backend(Submission).connections(), 3);
}

/// RFC 2920 and its one exception: proxies of Dovecot say EHLO right behind XCLIENT.
#[test]
fn what_may_stand_behind_xclient_in_one_segment() {
    let house = House::start("");
    let mut client = house.smtp(VOUCHER);
    client.send("XCLIENT ADDR=192.0.2.7 LOGIN=byname\r\nEHLO peer.example\r\n");
    assert_eq!((client.reply().code, client.reply().code), (220, 250));
    client.send(LETTER);
    assert_eq!([client.reply().code, client.reply().code, client.reply().code], [250; 3]);
    for behind in
        ["MAIL FROM:<x@example.org>\r\n", "EHLO peer.example\r\nMAIL FROM:<x@example.org>\r\n", "AUTH PLAIN AGFsaWNlAHg=\r\n"]
    {
        let log = house.gate.gatepost.log().from_here();
        let mut client = house.smtp(VOUCHER);
        client.send(format!("XCLIENT ADDR=192.0.2.7 LOGIN=byname\r\n{behind}"));
        let heard = String::from_utf8(client.read_to_end()).unwrap();
        assert!(heard.lines().last().is_some_and(|line| line.starts_with("554 5.5.0")), "{heard}");
        log.wait_for_all(&[" disconnect ", "reason=pipelining "]);
    }
    assert_eq!(house.backend(Submission).connections(), 1);
}

#[test]
fn a_listener_may_want_xclient_as_exim_does() {
    let backend = FakeBackend::start(Backend::of(Submission));
    let more = "[[listen]]\nprotocol = \"submission\"\naddress = [\"127.0.0.1:0\"]\nxclient = \"exim\"\n";
    let trust = format!("networks = [\"{PEER}\"]");
    let users = crate::gate::everybody_at(backend.addr(), "");
    let gate = Gate::start(&Want { users: &users, trust: &trust, more, ..Want::default() });
    let AnyClient::Submission(mut client) = client(&gate, Submission, PEER) else { unreachable!() };
    client.expect("XCLIENT ADDR=192.0.2.7 PORT=7777", "503 5.5.1");
    client.ehlo("peer.example");
    client.expect("XCLIENT ADDR=192.0.2.7", "501 5.5.4");
    assert!(client.xclient("ADDR=192.0.2.7 PORT=7777").is_ok());
    client.ehlo("peer.example");
    assert!(client.login("alice", "x").is_ok());
    assert!(backend.wait_for_logins(1)[0].xclients.join(" ").contains("ADDR=192.0.2.7 PORT=7777"));
}

#[test]
fn a_peer_that_waits_for_so_long_is_answered_before() {
    let silent = FakeServer::start(testkit::peer::Conn::hold);
    let gate = gate_at(&[(Submission, silent.port())], "");
    for (login, asks) in [("LOGIN=byname ", "MAIL FROM:<x@example.org>"), ("", "AUTH PLAIN AGFsaWNlAHJpZ2h0")] {
        let mut client = smtp(&gate, VOUCHER);
        let log = gate.gatepost.log().from_here();
        assert!(client.xclient(&format!("ADDR=192.0.2.7 {login}TIMEOUT=1")).is_ok());
        client.ehlo("peer.example");
        // The route's own deadline is 30 s, and the client of this test waits for ten.
        let reply = client.command(asks);
        assert!(reply.text().starts_with(trouble(Submission)), "{reply:?}");
        assert!(log.wait_for(" refused protocol=submission ").contains("reason=timeout "));
    }
    drop(gate);
}
