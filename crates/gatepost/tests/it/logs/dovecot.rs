//! What a real Dovecot 2.3 proxy writes of a session, beside what we write of the same.

use crate::gate::{Gate, OTHERS_TOO, Want};
use std::net::IpAddr;
use testkit::dovecot::{Proxy, ProxyOptions};
use testkit::peer::{AnyClient, Backend, FakeBackend};
use testkit::{Dir, Log, Protocol, real};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 42));

/// Both proxies before one backend.
struct Pair {
    theirs: Proxy,
    ours: Gate,
    their_log: Log,
    our_log: Log,
    backend: FakeBackend,
    _dir: Dir,
}

impl Pair {
    /// `fields` is what both rows say beside the address. The backend's answer to a login; none: nobody is there.
    fn start(protocol: Protocol, fields: &[(&str, &str)], answer: Option<&str>) -> Pair {
        let mut backend = Backend::of(protocol);
        if let Some(answer) = answer.filter(|answer| !answer.is_empty()) {
            answer.clone_into(&mut backend.answer);
        }
        let mut backend = FakeBackend::start(backend);
        let mut options = ProxyOptions::to(backend.addr());
        options.fields = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        options.fields.push("proxy_timeout=2".into());
        let addr = backend.addr();
        if answer.is_none() {
            backend.die();
        }
        let dir = Dir::new();
        let mut row = vec![("proxy", "y"), ("password", "{PLAIN}x"), ("host", "127.0.0.1"), ("proxy_timeout", "2")];
        row.retain(|(name, _)| fields.iter().all(|(other, _)| other != name));
        row.extend(fields);
        let row: String = row.iter().map(|(name, value)| format!("{name} = \"{value}\", ")).collect();
        let users = format!("[[users]]\ndriver = \"static\"\nfields = {{ {row}port = \"{}\" }}\n", addr.port());
        let log = format!("format = \"dovecot-2.3\"\nfile = \"{}\"\n{OTHERS_TOO}", dir.join("log").display());
        let ours = Gate::start(&Want { users: &users, more: &log, ..Want::default() });
        let theirs = Proxy::start(options);
        let their_log = theirs.log().clone();
        Pair { theirs, ours, their_log, our_log: Log::at(dir.join("log")), backend, _dir: dir }
    }

    fn clients(&self, protocol: Protocol, tls: bool) -> [AnyClient; 2] {
        [self.theirs.addresses().of(protocol), self.ours.at(protocol)].map(|addr| {
            let mut client = AnyClient::connect_from(protocol, CLIENT, addr);
            client.greeting();
            if tls {
                let theirs = addr == self.theirs.addresses().of(protocol);
                let config = if theirs { self.theirs.certificate().client_config() } else { self.ours.tls.clone() };
                client.starttls(&config, "localhost");
            }
            client
        })
    }

    /// The lines of both with these pieces, without what differs by nature.
    #[track_caller]
    fn lines(&self, pieces: &[&str]) -> [String; 2] {
        [&self.their_log, &self.our_log].map(|log| common(&log.wait_for_all(pieces)))
    }
}

/// A line with its times, counts and identifiers made alike.
#[track_caller]
fn common(line: &str) -> String {
    let (date, rest) = line.split_at(16);
    assert!(date.ends_with(' ') && date.as_bytes()[6] == b' ', "{line}");
    let mut rest = rest.to_owned();
    for (start, end) in [("(0.", " secs"), ("(", "s idle"), ("in=", ","), ("out=", ")"), ("session=<", ">")] {
        let Some((before, behind)) = rest.rsplit_once(start) else { continue };
        let Some((value, behind)) = behind.split_once(end) else { continue };
        if !value.contains(' ') {
            rest = format!("{before}{start}*{end}{behind}");
        }
    }
    rest
}

/// The names of the fields behind the message.
fn fields(line: &str) -> Vec<String> {
    let (_, fields) = line.split_once(": user=<").unwrap();
    let fields = format!("user=<{fields}");
    fields.split(", ").map(|field| field.split('=').next().unwrap().to_owned()).collect()
}

#[test]
fn sessions_are_told_as_dovecot_tells_them() {
    let Some(_) = real::require("dovecot") else { return };
    for protocol in Protocol::ALL {
        for (fields, tls) in [
            (&[][..], false),
            (&[("destuser", "%Lu@example.org")][..], true),
            (&[("master", "boss"), ("pass", "secret"), ("source_ip", "127.0.0.9")][..], false),
            (&[("host", "localhost"), ("hostip", "127.0.0.1")][..], true),
        ] {
            let fields = fields.iter().filter(|(name, _)| protocol == Protocol::Imap || *name != "master");
            let row = fields.copied().collect::<Vec<_>>();
            let pair = Pair::start(protocol, &row, Some(""));
            for mut client in pair.clients(protocol, tls) {
                assert!(client.login("Alice", "x").ok, "{}\n{}", pair.their_log.tail(), pair.our_log.tail());
                assert!(client.noop().ok);
                drop(client);
            }
            let [theirs, ours] = pair.lines(&["proxy(", "Started proxying to "]);
            assert_eq!(ours, theirs);
            for (name, value) in &row {
                let shown = match *name {
                    "destuser" => " as user alice@example.org (".to_owned(),
                    "master" => " (master boss) (".to_owned(),
                    "source_ip" => format!(" from {value} "),
                    "host" => " (<localhost>) ".to_owned(),
                    _ => continue,
                };
                assert!(ours.contains(&shown), "no {shown:?} in {ours}");
            }
            let [theirs, ours] = pair.lines(&["proxy(", "Disconnected by client"]);
            assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn a_backend_that_ends_is_told_as_dovecot_tells_it() {
    let Some(_) = real::require("dovecot") else { return };
    for protocol in Protocol::ALL {
        let mut pair = Pair::start(protocol, &[], Some(""));
        let mut clients = pair.clients(protocol, false);
        assert!(clients.iter_mut().all(|client| client.login("alice", "x").ok));
        pair.backend.die();
        let [theirs, ours] = pair.lines(&["proxy(", "Disconnected by server"]);
        assert_eq!(ours, theirs);
        drop(clients);
    }
}

/// Here the words differ on purpose: each refused login has a line, and the detail stands among the fields.
#[test]
fn refusals_have_the_fields_of_dovecots() {
    let Some(_) = real::require("dovecot") else { return };
    use Protocol::{Imap, ManageSieve, Submission};
    for (protocol, answer, piece, begin) in [
        (Imap, Some("NO [AUTHENTICATIONFAILED] no"), "(proxy dest auth failed)", "imap-login: Info: "),
        (Imap, None, "proxy(alice,127.0.0.1:", "imap-login: Error: "),
        (ManageSieve, Some("NO \"no\""), "(proxy dest auth failed)", "managesieve-login: Info: "),
        (ManageSieve, None, "proxy(alice,127.0.0.1:", "managesieve-login: Error: "),
        (Submission, Some("535 5.7.8 no"), "(proxy dest auth failed)", "submission-login: Info: "),
        (Submission, None, "proxy(alice,127.0.0.1:", "submission-login: Error: "),
    ] {
        let pair = Pair::start(protocol, &[], answer);
        for mut client in pair.clients(protocol, false) {
            assert!(!client.login("alice", "x").ok);
            client.logout();
        }
        let begin_of_both = format!("{begin}{}", if answer.is_none() { piece } else { "" });
        let [theirs, ours] = pair.lines(&[begin, piece]);
        assert!(theirs.starts_with(&begin_of_both) && ours.starts_with(&begin_of_both), "{theirs}\n{ours}");
        let (theirs, mut ours) = (fields(&theirs), fields(&ours));
        assert!(ours.iter().any(|field| field == "reason"), "{ours:?}");
        ours.retain(|field| field != "reason" && field != "text");
        assert_eq!(ours, theirs);
    }
}
