//! `gatepost explain login` beside what then happens, where it is not about the fields of a row: who connects and how, whom the
//! databases know, limits, backends that are dead, names that do not resolve.
//!
//! Each situation is explained by the running Gatepost, and then a client does what was explained. What must come of it stands
//! in the table, so that the two cannot be wrong together. Fields of rows are explained in [`crate::fields`].

mod house;
mod looks;

use crate::explained::{Told, word};
use crate::fields::spelling::{SPELLINGS, SignIn, Spelling, Way};
use house::House;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use testkit::Protocol;
use testkit::peer::AnyClient;
use testkit::wait::until;

/// May speak for others.
const FRONT: IpAddr = ip(9);
/// Begins with PROXY headers.
const BALANCER: IpAddr = ip(7);
/// Many users share it.
const WEBMAIL: IpAddr = ip(40);
const STRANGER: IpAddr = ip(42);
/// In its place comes an address of its own for each situation: the guesses of one are no delay of another.
const HERE: IpAddr = ip(1);
/// A front behind the balancer.
const FRONT_BEHIND: &str = "198.51.100.9:4711";
const SOMEBODY: &str = "203.0.113.9:4711";
const ELSEWHERE: &str = "203.0.113.10:4711";

const USUAL: &str = "127.0.0.1";
const REQUIRED: &str = "127.0.1.1";
const MIXED: &str = "127.0.1.2";
const OFFLOADED: &str = "127.0.1.3";
const NEVER: &str = "127.0.1.5";

const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// What is explained, and then happens.
struct Situation {
    name: &'static str,
    /// `in`, or the word of the journal's `reason`; in each protocol.
    end: [&'static str; 4],
    /// The peer of the socket.
    from: IpAddr,
    at: &'static str,
    /// TLS from the first byte.
    implicit: bool,
    /// Whom its PROXY header names.
    header: Option<&'static str>,
    /// TLS, with this server name.
    tls: Option<&'static str>,
    /// Whom a proxy in front names, and how many may still follow.
    named: Option<(&'static str, u8)>,
    user: &'static str,
    password: &'static str,
    /// What stands before it; what it returns is there until the end.
    before: fn(&House, Protocol) -> Vec<AnyClient>,
    /// The client that the journal tells of, where it is not the peer.
    client: Option<&'static str>,
}

fn situation(name: &'static str, end: &'static str) -> Situation {
    Situation {
        name,
        end: [end; 4],
        from: HERE,
        at: USUAL,
        implicit: false,
        header: None,
        tls: None,
        named: None,
        user: "alice",
        password: "tiger",
        before: |_, _| Vec::new(),
        client: None,
    }
}

fn table() -> Vec<Situation> {
    let usual = situation;
    vec![
        usual("in-clear-from-here", "in"),
        Situation { tls: Some("localhost"), ..usual("starttls", "in") },
        Situation { tls: Some("localhost"), implicit: true, ..usual("tls-from-the-first-byte", "in") },
        Situation { password: "lion", ..usual("wrong-password", "credentials") },
        Situation { user: "nobody", ..usual("unknown-user", "credentials") },
        Situation {
            user: "al\u{7}ice",
            end: ["credentials", "bad-command", "credentials", "credentials"],
            ..usual("a-name-that-nobody-has", "")
        },
        Situation { user: "jo\u{308}rg", ..usual("a-name-that-is-composed", "in") },
        Situation { user: "ALICE", ..usual("capitals", "in") },
        Situation { user: "banned", ..usual("deny-list", "credentials") },
        Situation { user: "moved", ..usual("a-second-database-adds-to-the-row", "in") },
        Situation {
            user: "postman",
            end: ["credentials", "in", "credentials", "credentials"],
            ..usual("a-database-for-one-protocol", "in")
        },
        Situation { user: "broken", ..usual("a-line-that-makes-no-sense", "row") },
        Situation { user: "nowhere", ..usual("a-name-that-does-not-resolve", "dns") },
        Situation { user: "vouched", ..usual("a-password-for-us-alone", "in") },
        Situation { user: "closed", ..usual("nologin", "nologin") },
        Situation { at: NEVER, ..usual("no-password-in-clear", "privacy-required") },
        Situation { at: NEVER, tls: Some("localhost"), ..usual("but-under-tls", "in") },
        Situation { from: FRONT, named: Some((SOMEBODY, 3)), client: Some(SOMEBODY), ..usual("a-trusted-proxy", "in") },
        Situation { from: FRONT, named: Some((SOMEBODY, 2)), client: Some(SOMEBODY), ..usual("the-last-hop-but-one", "in") },
        Situation { from: FRONT, named: Some((SOMEBODY, 1)), client: Some(SOMEBODY), ..usual("hops-used-up", "loop") },
        Situation { from: FRONT, ..usual("a-trusted-proxy-for-itself", "in") },
        Situation {
            from: FRONT,
            named: Some((ELSEWHERE, 3)),
            client: Some(ELSEWHERE),
            user: "local",
            ..usual("nets-of-the-named-client", "credentials")
        },
        Situation { at: REQUIRED, from: STRANGER, ..usual("no-balancer-where-all-must-be", "proxy-protocol") },
        Situation {
            at: REQUIRED,
            from: BALANCER,
            header: Some(SOMEBODY),
            tls: Some("localhost"),
            client: Some(SOMEBODY),
            ..usual("a-balancer", "in")
        },
        Situation { at: REQUIRED, from: BALANCER, ..usual("a-balancer-without-a-header", "proxy-missing") },
        Situation { at: REQUIRED, from: BALANCER, header: Some(SOMEBODY), ..usual("a-balancer-in-clear", "privacy-required") },
        Situation { at: MIXED, from: STRANGER, ..usual("mixed-without-a-header", "in") },
        Situation {
            at: MIXED,
            from: BALANCER,
            header: Some(SOMEBODY),
            tls: Some("localhost"),
            client: Some(SOMEBODY),
            ..usual("mixed-with-a-header", "in")
        },
        Situation { from: BALANCER, header: Some(SOMEBODY), ..usual("a-header-where-none-is-due", "proxy-header") },
        Situation {
            at: OFFLOADED,
            from: BALANCER,
            header: Some(SOMEBODY),
            tls: Some(""),
            client: Some(SOMEBODY),
            ..usual("tls-that-ends-in-front", "in")
        },
        Situation {
            at: OFFLOADED,
            from: BALANCER,
            header: Some(FRONT_BEHIND),
            tls: Some(""),
            named: Some((SOMEBODY, 3)),
            client: Some(SOMEBODY),
            ..usual("a-trusted-proxy-behind-the-balancer", "in")
        },
        Situation { from: ip(20), before: House::both_places, ..usual("all-places-of-a-user", "limit") },
        Situation { from: WEBMAIL, before: House::both_places_of_webmail, ..usual("webmail-has-more-places", "in") },
        Situation { from: ip(31), before: House::strangers, ..usual("all-places-before-login", "limit") },
        Situation { from: ip(32), before: House::guesses, ..usual("after-guesses", "in") },
        Situation { from: ip(33), before: House::hold, user: "held", ..usual("held-by-an-order", "in") },
    ]
}

/// Each in a house of its own, so that nobody's guesses are another's.
fn an_explanation_says_what_then_happens(protocol: Protocol) {
    let house = House::start();
    let (n, spelling) = SPELLINGS.into_iter().enumerate().find(|(_, spelling)| spelling.protocol() == protocol).unwrap();
    let all = table();
    assert!(all.len() >= 35);
    for (number, row) in (100..).zip(&all) {
        if row.implicit && protocol.implicit().is_none() {
            continue;
        }
        println!("{}", row.name);
        let situation = &Situation { from: if row.from == HERE { ip(number) } else { row.from }, ..*row };
        let there = (situation.before)(&house, protocol);
        situation.run(&house, spelling, situation.end[n]);
        drop(there);
        // Nobody of this situation is in the way of the next one.
        until("an empty house", || house.backends.iter().all(|backend| backend.concurrent() == 0));
    }
}

#[test]
fn an_explanation_says_what_then_happens_by_imap() {
    an_explanation_says_what_then_happens(Protocol::Imap);
}

#[test]
fn an_explanation_says_what_then_happens_by_pop3() {
    an_explanation_says_what_then_happens(Protocol::Pop3);
}

#[test]
fn an_explanation_says_what_then_happens_by_managesieve() {
    an_explanation_says_what_then_happens(Protocol::ManageSieve);
}

#[test]
fn an_explanation_says_what_then_happens_by_submission() {
    an_explanation_says_what_then_happens(Protocol::Submission);
}

impl Situation {
    fn run(&self, house: &House, spelling: &'static dyn Spelling, end: &str) {
        let told = self.explain(house, spelling.protocol());
        if self.password == "tiger" && end != "credentials" {
            let supposed =
                house.explain(&self.words(house, spelling.protocol()).iter().map(|word| &**word).collect::<Vec<_>>(), None);
            assert_eq!(supposed.outcome("reason"), told.outcome("reason"));
            assert_eq!(supposed.outcome("backend"), told.outcome("backend"));
        }
        let log = house.gate.gatepost.log().from_here();
        let began = Instant::now();
        let (client, heard) = self.happens(house, spelling, end);
        let took = began.elapsed();
        let waits = told.value["outcome"]["waits"].as_f64().unwrap();
        match end {
            "in" => {
                let line = log.wait_for_all(&[" login ", &format!("protocol={} ", spelling.protocol().name())]);
                told.check_in(&line);
                let from = word(&line, "client").unwrap();
                assert_eq!(from, self.client.map_or_else(|| client.local_addr().to_string(), str::to_owned));
                let told_client = told.steps("client").next().unwrap()["client"].as_str().unwrap();
                let ip = |text: &str| text.parse::<SocketAddr>().unwrap().ip();
                assert_eq!(ip(told_client), ip(&from), "{told:?}");
            }
            _ if told.verdict() == "closed" => {
                assert_eq!(told.outcome("reason").as_deref(), Some(end), "{told:?}");
                assert_eq!(told.hears().join("\r\n"), heard.trim_end());
                // Those that are sent away at accept are told of in sum.
                if end != "limit" {
                    log.wait_for_all(&[" disconnect ", &format!("reason={end} ")]);
                }
            }
            // Not worth a line.
            "bad-command" => {
                assert_eq!((told.verdict(), told.outcome("reason").as_deref()), ("refused", Some(end)), "{told:?}");
                assert_eq!(told.hears(), [heard.trim_end()]);
            }
            _ => {
                let line = log.wait_for_all(&[" refused ", &format!("protocol={} ", spelling.protocol().name())]);
                assert_eq!(word(&line, "reason").as_deref(), Some(end));
                told.check_refused(&line, &heard);
                assert_eq!(told.value["outcome"]["guess"], end == "credentials" && !told.exempt(), "{told:?}");
            }
        }
        assert!(took.as_secs_f64() + 0.2 >= waits.min(2.0), "{waits} s were told, and it took {took:?}");
        assert!(waits < 0.5 || took > Duration::from_secs(1), "{waits}");
    }

    fn words(&self, house: &House, protocol: Protocol) -> Vec<String> {
        let mut words: Vec<String> = [self.user, "--protocol", protocol.name(), "--listener"].map(str::to_owned).into();
        words.push(house.listener(protocol, self.at, self.implicit).to_string());
        let mut say = |option: &str, value: &str| words.extend([option.to_owned(), value.to_owned()]);
        // From the client to us: named, header, peer.
        let peer = self.from.to_string();
        match (self.header, self.named) {
            (None, None) => say("--from", &peer),
            (Some(client), None) => {
                say("--from", client);
                say("--balancer", &peer);
            }
            (header, Some((client, hops))) => {
                say("--from", client);
                say("--ttl", &hops.to_string());
                say("--via", header.unwrap_or(&peer));
                if header.is_some() {
                    say("--balancer", &peer);
                }
            }
        }
        match self.tls {
            Some(name) if !name.is_empty() => say("--sni", name),
            Some(_) => {}
            None => words.push("--in-clear".to_owned()),
        }
        words
    }

    fn explain(&self, house: &House, protocol: Protocol) -> Told {
        let words = self.words(house, protocol);
        house.explain(&words.iter().map(|word| &**word).collect::<Vec<_>>(), Some(self.password))
    }

    /// Does it. What is heard last is returned: the answer to the login, or all there was on a connection that is closed.
    fn happens(&self, house: &House, spelling: &'static dyn Spelling, end: &str) -> (AnyClient, String) {
        let addr = house.listener(spelling.protocol(), self.at, self.implicit);
        let mut client = AnyClient::connect_from(spelling.protocol(), self.from, addr);
        if let Some(named) = self.header {
            let named: SocketAddr = named.parse().unwrap();
            let header = format!("PROXY TCP4 {} {} {} {}\r\n", named.ip(), addr.ip(), named.port(), addr.port());
            // It may be closed by then.
            let _ = client.try_send(header);
        }
        let closes = ["proxy-protocol", "proxy-missing", "proxy-header"].contains(&end);
        let full = self.name == "all-places-before-login";
        if closes || full {
            if !full {
                let _ = client.try_send("a NOOP\r\n");
            }
            let heard = String::from_utf8(client.read_to_end()).unwrap();
            // Who is no friend of headers has greeted before it saw one.
            let heard = if self.at == USUAL && !full { String::new() } else { heard };
            return (client, heard);
        }
        let tls = |client: &mut AnyClient| match self.tls {
            Some(name) if !name.is_empty() && self.implicit => client.connect_tls(&house.gate.tls, name),
            Some(name) if !name.is_empty() => client.starttls(&house.gate.tls, name),
            _ => {}
        };
        if self.implicit {
            tls(&mut client);
        }
        client.greeting();
        if !self.implicit {
            tls(&mut client);
        }
        if let Some((named, hops)) = self.named {
            assert!(client.introduce(named.parse().unwrap(), "front-session", hops).ok);
        }
        let sign_in =
            SignIn { way: Way::Command, authzid: String::new(), user: self.user.to_owned(), password: self.password.to_owned() };
        let heard = if end == "privacy-required" || end == "bad-command" {
            in_clear(&mut client, &sign_in)
        } else {
            spelling.sign_in(&mut client, &sign_in)
        };
        (client, heard)
    }
}

/// The answer to a login where none may be said in clear, or to a name that is none.
fn in_clear(client: &mut AnyClient, sign_in: &SignIn) -> String {
    match client {
        AnyClient::Imap(client) => {
            client.send_line(format!("a LOGIN {} {}", sign_in.user, sign_in.password));
            client.expect_until("a NO").pop().unwrap()
        }
        AnyClient::Pop3(client) => {
            client.send_line(format!("USER {}", sign_in.user));
            client.expect_line("-ERR")
        }
        AnyClient::ManageSieve(_) | AnyClient::Submission(_) => {
            client.send_login(&sign_in.user, &sign_in.password);
            client.expect_line("")
        }
    }
}

impl Told {
    fn exempt(&self) -> bool {
        self.steps("guesses").any(|step| step["exempt"] == true)
    }
}
