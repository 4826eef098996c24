//! Real ManageSieve clients through Gatepost against a real Dovecot with Pigeonhole.

use crate::gate::{Gate, Want, everybody_at, listeners_for};
use std::collections::BTreeSet;
use testkit::certs::Authority;
use testkit::dovecot::{Backend, Options};
use testkit::peer::SieveClient;
use testkit::programs::{self, Account, Outcome};
use testkit::{Dir, Protocol, real};

/// From where Gatepost calls: an address that is not the clients'.
const OURS: &str = "127.0.0.9";

/// More than a read takes, and with what could be mistaken for the end of a command or an answer.
fn script() -> String {
    let mut text = "require [\"fileinto\"];\r\n# \"é\" {5+}\r\n# OK\r\n# BYE \"no\"\r\n".to_owned();
    for number in 0..500 {
        text.push_str(&format!("if header :contains \"subject\" \"word {number}\" {{\r\n  fileinto \"Junk\";\r\n}}\r\n"));
    }
    text
}

struct House {
    dovecot: Backend,
    gate: Gate,
}

impl House {
    fn start() -> House {
        let dovecot = Backend::start(Options { trusted: OURS.into(), ..Default::default() });
        let ca = dovecot.certificate().ca_file.display().to_string();
        let backend = format!("tls = \"starttls\"\ntls_ca = \"{ca}\"\nsource_ips = \"{OURS}\"");
        let users = everybody_at(dovecot.addresses().managesieve, "");
        let more = listeners_for(Protocol::ManageSieve);
        let gate = Gate::start(&Want { users: &users, backend: &backend, more: &more, ..Default::default() });
        House { dovecot, gate }
    }

    /// Runs a client as alice.
    fn run<T>(&self, mechanism: &str, client: impl FnOnce(&Account) -> T) -> T {
        let ca = self.gate.gatepost.dir().join("gate-ca.pem");
        let port = self.gate.at(Protocol::ManageSieve).port();
        client(&Account { port, implicit: false, ca: &ca, user: "alice", password: "alice-secret", mechanism })
    }

    /// What both logs say of all logins so far is about the client, and the same.
    #[track_caller]
    fn agrees(&self, mechanisms: &[&str]) {
        let ours = self.gate.gatepost.log().wait_for_count(" info login ", mechanisms.len());
        for (n, (line, mechanism)) in ours.iter().zip(mechanisms).enumerate() {
            for piece in [
                "protocol=managesieve user=alice client=127.0.0.1:",
                &format!(" mechanism={mechanism} "),
                " tls=TLSv1.3:",
                " backend_tls=TLSv1.3:",
                " identity=told ",
            ] {
                assert!(line.contains(piece), "no {piece:?} in {line}");
            }
            let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap();
            let (_, port) = word("client=").rsplit_once(':').unwrap();
            let session = word("session=").trim_matches('"');
            let theirs = self.dovecot.login_line_of(Protocol::ManageSieve, n + 1);
            for piece in [
                "user=<alice>, method=PLAIN,",
                &format!("rip=127.0.0.1, rport={port},"),
                &format!("real_rip={OURS},"),
                ", TLS,",
                &format!("session=<{session}>"),
            ] {
                assert!(theirs.contains(piece), "no {piece:?} in {theirs}");
            }
        }
    }

    /// A wrong password, and a certificate of a stranger.
    #[track_caller]
    fn refuses(&self, client: impl Fn(&Account) -> Outcome) {
        let wrong = self.run("PLAIN", |account| client(&Account { password: "wrong", ..account.clone() }));
        assert!(!wrong.ok, "{}", wrong.said);
        let refused = self.gate.gatepost.wait_for(" info refused ");
        assert!(refused.contains("reason=backend-credentials") && !refused.contains("wrong"), "{refused}");
        let dir = Dir::new();
        let ca = Authority::new(dir.path(), "stranger").ca_file();
        let wary = self.run("PLAIN", |account| client(&Account { ca: &ca, ..account.clone() }));
        assert!(!wary.ok && wary.said.contains("certificate verify failed"), "{}", wary.said);
    }
}

#[test]
fn sieve_connect_uploads_and_activates_the_same_bytes() {
    let (Some(_), Some(_)) = (real::require("dovecot"), real::require("sieve-connect")) else { return };
    let house = House::start();
    let script = script();
    let dir = Dir::new();
    let (file, back) = (dir.write("in.sieve", &script).display().to_string(), dir.join("out.sieve"));
    let mut mechanisms = Vec::new();
    for mechanism in ["PLAIN", "LOGIN"] {
        let mut run = |arguments: &[&str]| {
            let outcome = house.run(mechanism, |account| programs::sieve_connect(account, arguments));
            assert!(outcome.ok, "{mechanism}: {}\n{}", outcome.said, house.gate.gatepost.log().tail());
            mechanisms.push(mechanism);
            outcome.said
        };
        run(&["--upload", "--localsieve", &file, "--remotesieve", mechanism]);
        run(&["--activate", "--remotesieve", mechanism]);
        let list = run(&["--list"]);
        assert!(list.lines().any(|line| line == format!("\"{mechanism}\" ACTIVE")), "{list}");
        run(&["--download", "--remotesieve", mechanism, "--localsieve", &back.display().to_string()]);
        assert!(std::fs::read_to_string(&back).unwrap() == script);
        assert_eq!(house.dovecot.active_sieve_script("alice").as_deref(), Some(mechanism));
        assert!(house.dovecot.sieve_script("alice", mechanism).unwrap() == script.as_bytes());
    }
    house.agrees(&mechanisms);
    house.refuses(|account| programs::sieve_connect(account, &["--list"]));
}

#[test]
fn python_sievelib_uploads_and_activates_the_same_bytes() {
    let (Some(_), Some(_)) = (real::require("dovecot"), real::require("python3-sievelib")) else { return };
    let house = House::start();
    let text = script();
    // With LOGIN it sends both answers at once.
    let mechanisms = ["PLAIN", "LOGIN"];
    for mechanism in mechanisms {
        let script = format!(
            "text = {text:?}\n\
             assert c.putscript('{mechanism}', text), c.errmsg\n\
             assert not c.putscript('bad', 'no sieve'), 'taken'\n\
             assert c.setactive('{mechanism}'), c.errmsg\n\
             assert c.listscripts()[0] == '{mechanism}', c.listscripts()\n\
             assert c.getscript('{mechanism}').splitlines() == text.splitlines()"
        );
        let outcome = house.run(mechanism, |account| programs::sievelib(account, &script));
        assert!(outcome.ok, "{mechanism}: {}\n{}", outcome.said, house.gate.gatepost.log().tail());
        assert_eq!(house.dovecot.active_sieve_script("alice").as_deref(), Some(mechanism));
        assert!(house.dovecot.sieve_script("alice", mechanism).unwrap() == text.as_bytes());
        assert_eq!(house.dovecot.sieve_script("alice", "bad"), None);
    }
    house.agrees(&mechanisms);
    house.refuses(|account| programs::sievelib(account, ""));
}

/// Their order says nothing.
fn words(list: &str) -> BTreeSet<&str> {
    list.split(' ').collect()
}

/// A client that was told something else before it signed in would offer its user what is not there.
#[test]
fn a_client_is_told_what_this_backend_can_do() {
    let Some(_) = real::require("dovecot") else { return };
    let house = House::start();
    let direct = {
        let mut client = SieveClient::greeted(house.dovecot.addresses().managesieve);
        client.starttls(&house.dovecot.certificate().client_config(), "localhost");
        client.listed().clone()
    };
    for turn in ["cold", "learnt"] {
        let mut client = SieveClient::greeted(house.gate.at(Protocol::ManageSieve));
        assert!(client.listed().contains_key("STARTTLS"), "{turn}");
        client.starttls(&house.gate.tls, "localhost");
        let listed = client.listed().clone();
        assert!(!listed.contains_key("STARTTLS") && !listed.contains_key("XCLIENT"), "{turn}: {listed:?}");
        assert_eq!(listed.get("SASL").map(String::as_str), Some("PLAIN LOGIN"), "{turn}");
        if turn == "learnt" {
            for name in ["SIEVE", "NOTIFY"] {
                assert_eq!(words(&listed[name]), words(&direct[name]), "{name}");
            }
        }
        assert!(client.login("alice", "alice-secret").is_ok(), "{turn}");
        // After login it is the backend that answers.
        let after = client.capability().clone();
        assert_eq!(after.get("SIEVE"), direct.get("SIEVE"), "{turn}");
        assert!(after.contains_key("MAXREDIRECTS") && !listed.contains_key("MAXREDIRECTS"), "{turn}: {after:?}");
        client.logout();
    }
}

/// The server closes first behind the OK to LOGOUT, as it does when it dies.
#[test]
fn a_logout_is_not_taken_for_a_death() {
    let Some(_) = real::require("dovecot") else { return };
    let house = House::start();
    for turn in 0..4 {
        let mut client = SieveClient::greeted(house.gate.at(Protocol::ManageSieve));
        client.starttls(&house.gate.tls, "localhost");
        assert!(client.login("alice", "alice-secret").is_ok());
        if turn % 2 == 0 {
            client.ok("NOOP");
        }
        // Nothing comes behind the answer.
        client.logout();
    }
}
