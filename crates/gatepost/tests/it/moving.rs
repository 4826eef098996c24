//! Moving users from one real Dovecot to another: one update sets `host` and `delay_until`, their sessions are ended, and
//! who signs in meanwhile waits and lands on the new server.

use crate::gate::{Gate, OTHERS_TOO, Want, trouble};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use testkit::dovecot::{Backend, Options};
use testkit::peer::{AnyClient, Outcome};
use testkit::{Dir, Protocol, real};

/// A user is one row, and what moves it is an update of that row.
const SCHEMA: &str = "
CREATE TABLE servers (name varchar(16) PRIMARY KEY, ip varchar(64) NOT NULL, imap integer NOT NULL, pop3 integer NOT NULL,
  sieve integer NOT NULL, submission integer NOT NULL);
CREATE TABLE users (user varchar(255) PRIMARY KEY, password varchar(100), host varchar(16) NOT NULL, delay_until varchar(32));
INSERT INTO users (user, password, host) VALUES
  ('alice', NULL, 'old'), ('bob', NULL, 'old'), ('carol', '{PLAIN}carol-secret', 'old');
";

const USERS: &str = r#"[[users]]
name = "main"
driver = "sqlite"
path = "users.db"
query = '''
SELECT password, CASE WHEN password IS NULL THEN 'Y' END AS nopassword, 'Y' AS proxy, ip AS host,
  CASE '%s' WHEN 'imap' THEN imap WHEN 'pop3' THEN pop3 WHEN 'submission' THEN submission WHEN 'sieve' THEN sieve END AS port, delay_until
FROM users JOIN servers ON servers.name = users.host WHERE user = '%u'
'''
"#;

/// Where the clients of these tests stand.
const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 42));

/// The line of a Dovecot's log that says that somebody is in.
const LOGIN: &str = "-login: Info: Login: ";

/// Two servers, the table, and the Gatepost in front. All live on the old one.
struct Town {
    old: Backend,
    new: Backend,
    gate: Gate,
    table: rusqlite::Connection,
}

/// What came of a login, and when, since the epoch.
type Answer = (AnyClient, Outcome, Duration);

impl Town {
    fn new(limits: &str) -> Town {
        let dovecot = || {
            let users = ["alice", "bob", "carol"].map(|name| (name.to_owned(), format!("{name}-secret")));
            Backend::start(Options { users: users.into(), trusted: "127.0.0.1".into(), ..Default::default() })
        };
        let (old, new) = (dovecot(), dovecot());
        let dir = Dir::new();
        let table = rusqlite::Connection::open(dir.join("users.db")).unwrap();
        table.execute_batch(SCHEMA).unwrap();
        for (name, at) in [("old", old.addresses()), ("new", new.addresses())] {
            let values =
                (name, at.imap.ip().to_string(), at.imap.port(), at.pop3.port(), at.managesieve.port(), at.submission.port());
            table.execute("INSERT INTO servers VALUES (?1, ?2, ?3, ?4, ?5, ?6)", values).unwrap();
        }
        let gate = Gate::start_in(dir, &Want { users: USERS, limits, more: OTHERS_TOO, ..Default::default() });
        Town { old, new, gate, table }
    }

    /// The one update: this user lives there, and nobody gets in before then.
    fn settle(&self, user: &str, host: &str, delay_until: &str) {
        let sql = "UPDATE users SET host = ?2, delay_until = ?3 WHERE user = ?1";
        assert_eq!(self.table.execute(sql, (user, host, delay_until)).unwrap(), 1);
    }

    fn client(&self, protocol: Protocol) -> AnyClient {
        let mut client = AnyClient::connect_from(protocol, CLIENT, self.gate.at(protocol));
        client.greeting();
        client
    }

    /// Signs in with the right password, which may take a while.
    fn signing_in(&self, protocol: Protocol, user: &str) -> JoinHandle<Answer> {
        let (mut client, user) = (self.client(protocol), user.to_owned());
        std::thread::spawn(move || {
            let outcome = client.login(&user, &format!("{user}-secret"));
            (client, outcome, now())
        })
    }

    /// Waits until so many logins have been held since the start.
    #[track_caller]
    fn wait_for_held(&self, n: usize) -> Vec<String> {
        self.gate.gatepost.log().wait_for_count(" info held ", n)
    }
}

/// Since the epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A second that is between two and three seconds ahead: enough for what has to be done before.
fn soon() -> u64 {
    now().as_secs() + 3
}

#[track_caller]
fn joined(thread: JoinHandle<Answer>) -> Answer {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[test]
fn users_move_while_they_are_on() {
    let Some(_) = real::require("dovecot") else { return };
    let town = Town::new("");
    let users = ["alice", "bob"];
    let each = || Protocol::ALL.into_iter().flat_map(move |protocol| users.map(|user| (protocol, user)));
    let sessions: Vec<_> = each().map(|(protocol, user)| (user, joined(town.signing_in(protocol, user)))).collect();
    assert!(sessions.iter().all(|(_, (_, outcome, _))| outcome.ok), "{}", town.gate.gatepost.log().tail());
    town.old.log().wait_for_count(LOGIN, sessions.len());

    let (old, until) = (town.old.log().from_here(), soon());
    let moved = town.table.execute("UPDATE users SET host = 'new', delay_until = ?1", [format!("{until}+2")]).unwrap();
    assert_eq!(moved, 3, "one update moves all");
    // One user is kicked where it was, the other's clients leave by themselves.
    let config = town.old.dir().join("dovecot.conf");
    let kick = Command::new("doveadm").arg("-c").arg(config).args(["kick", "alice"]).output().unwrap();
    assert!(kick.status.success(), "{}", String::from_utf8_lossy(&kick.stderr));
    for (user, (mut client, ..)) in sessions {
        if user == "alice" {
            client.read_to_end();
        }
    }
    let again: Vec<_> = each().map(|(protocol, user)| (protocol, user, town.signing_in(protocol, user))).collect();
    for line in town.wait_for_held(again.len()) {
        assert!(line.contains("delay_until"), "{line}");
    }
    assert_eq!(town.new.log().count(LOGIN), 0, "the old server is still closing");
    for (protocol, user, thread) in again {
        let (mut client, outcome, at) = joined(thread);
        assert!(outcome.ok, "{} {user}: {outcome:?}\n{}", protocol.name(), town.gate.gatepost.log().tail());
        assert!(at >= Duration::from_secs(until), "{} {user} was answered at {at:?}, held until {until}", protocol.name());
        assert!(client.noop().ok);
        let port = client.local_addr().port();
        let login = format!("{}{LOGIN}user=<{user}>", protocol.name());
        town.new.log().wait_for_all(&[&login, &format!("rip=127.0.0.42, rport={port},")]);
        client.logout();
    }
    assert_eq!(old.count(LOGIN), 0, "nobody came back to the old server");
    // The time is over, and its random part too.
    testkit::wait::until("the hold is over", || now() > Duration::from_secs(until + 2));
    assert!(town.client(Protocol::Imap).login("alice", "alice-secret").ok);
    let held = each().count();
    assert_eq!(town.wait_for_held(held).len(), held, "nobody is held any more");
}

#[test]
fn what_the_row_says_at_the_end_counts() {
    let Some(_) = real::require("dovecot") else { return };
    let town = Town::new("");
    let until = soon();
    for user in ["alice", "bob"] {
        town.settle(user, "new", &until.to_string());
    }
    let [back, pushed] = ["alice", "bob"].map(|user| Protocol::ALL.map(|protocol| town.signing_in(protocol, user)));
    let held = 2 * Protocol::ALL.len();
    town.wait_for_held(held);
    // One is to stay after all. The other's move takes longer.
    town.settle("alice", "old", &until.to_string());
    town.settle("bob", "new", &(until + 1).to_string());
    for (threads, at, elsewhere, user, earliest) in
        [(back, &town.old, &town.new, "alice", until), (pushed, &town.new, &town.old, "bob", until + 1)]
    {
        for thread in threads {
            let (client, outcome, when) = joined(thread);
            let what = format!("{} {user}", client.protocol().name());
            assert!(outcome.ok, "{what}: {outcome:?}\n{}", town.gate.gatepost.log().tail());
            assert!(when >= Duration::from_secs(earliest), "{what} was answered at {when:?}, held until {earliest}");
            at.log().wait_for_all(&[&format!("{}{LOGIN}user=<{user}>", client.protocol().name())]);
        }
        assert_eq!(elsewhere.log().count(&format!("{LOGIN}user=<{user}>")), 0, "{user} is nowhere else");
    }
    assert_eq!(town.wait_for_held(held).len(), held, "however often the row changes, a held login is told once");
}

#[test]
fn a_random_part_spreads_the_answers_and_nobody_has_to_wait_for_our_end() {
    let Some(_) = real::require("dovecot") else { return };
    let town = Town::new("");
    // A minute for all of them, so that a lot of 0 s does not let one of them in at once.
    town.settle("alice", "new", &format!("{}+200", now().as_secs() + 60));
    let waiting: Vec<_> = (0..16)
        .map(|n| {
            let mut client = town.client(Protocol::ALL[n % Protocol::ALL.len()]);
            client.send_login("alice", "alice-secret");
            client
        })
        .collect();
    let waits: Vec<f64> = town.wait_for_held(waiting.len()).iter().map(|line| seconds(line)).collect();
    let (least, most) = waits.iter().fold((f64::MAX, 0.0), |(least, most): (f64, f64), n| (least.min(*n), most.max(*n)));
    // Sixteen of 200 seconds lie within twenty of them once in many billions of times.
    assert!(most <= 260.0 && most - least > 20.0, "{waits:?}");
    let journal = town.gate.gatepost.stop();
    let said = |piece: &str| journal.iter().filter(|line| line.contains(piece)).count();
    assert_eq!(
        (said(" info login "), said("reason=shutting-down side=us"), said("0 connections cut")),
        (0, 16, 1),
        "{journal:#?}"
    );
    for mut client in waiting {
        let code = trouble(client.protocol());
        let words = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        assert!(words.contains(code) && words.contains("shutting down"), "{words}");
    }
    assert_eq!(town.new.log().count(LOGIN) + town.old.log().count(LOGIN), 0);
}

/// `... delay_until: 12.3 s ...`.
#[track_caller]
fn seconds(held: &str) -> f64 {
    let words = held.split_once("delay_until: ").and_then(|(_, words)| words.split_once(" s\""));
    let number = words.and_then(|(number, _)| number.parse().ok());
    number.unwrap_or_else(|| panic!("no seconds in {held}"))
}

#[test]
fn too_far_ahead_is_no_wrong_password() {
    let Some(_) = real::require("dovecot") else { return };
    // The first wrong password would be the last thing that the connection hears.
    let town = Town::new("failed_logins = 1");
    town.settle("alice", "new", &(now().as_secs() + 900).to_string());
    for protocol in Protocol::ALL {
        let (code, mut client) = (trouble(protocol), town.client(protocol));
        for _ in 0..3 {
            let outcome = client.login("alice", "alice-secret");
            assert!(!outcome.ok && outcome.text.starts_with(code), "{}: {outcome:?}", protocol.name());
        }
        // What was put right counts for the next login, on the same connection.
        town.settle("alice", "new", "0");
        assert!(client.login("alice", "alice-secret").ok, "{}", protocol.name());
        town.settle("alice", "new", &(now().as_secs() + 900).to_string());
    }
    let refused = town.gate.gatepost.log().wait_for_count(" refused ", 3 * Protocol::ALL.len());
    assert!(refused.iter().all(|line| line.contains("reason=row") && line.contains("field delay_until")), "{refused:#?}");
    assert_eq!(town.gate.gatepost.log().count(" info held "), 0);
    town.new.log().wait_for_count(LOGIN, Protocol::ALL.len());
}

#[test]
fn a_held_client_is_not_told_that_it_takes_too_long() {
    let Some(_) = real::require("dovecot") else { return };
    let town = Town::new("login_timeout = \"1s\"");
    let until = soon();
    town.settle("alice", "new", &until.to_string());
    let waiting = Protocol::ALL.map(|protocol| {
        let mut client = town.client(protocol);
        std::thread::spawn(move || {
            // The backend says no, and then there is time left for another try.
            let wrong = client.login("alice", "wrong");
            let at = now();
            assert!(!wrong.ok && wrong.text.contains("Authentication failed."), "{wrong:?}");
            let outcome = client.login("alice", "alice-secret");
            (client, outcome, at)
        })
    });
    for thread in waiting {
        let (mut client, outcome, at) = joined(thread);
        assert!(outcome.ok, "{outcome:?}\n{}", town.gate.gatepost.log().tail());
        assert!(at >= Duration::from_secs(until), "{at:?}, held until {until}");
        assert!(client.noop().ok);
        client.logout();
    }
    assert_eq!(town.gate.gatepost.log().count("login-timeout"), 0);
}

#[test]
fn a_wrong_password_is_not_held() {
    let Some(_) = real::require("dovecot") else { return };
    let town = Town::new("");
    // Carol's password stands in her row.
    let until = now().as_secs() + 200;
    town.settle("carol", "new", &until.to_string());
    for protocol in Protocol::ALL {
        let outcome = town.client(protocol).login("carol", "wrong");
        assert!(!outcome.ok && outcome.text.contains("Authentication failed."), "{outcome:?}");
    }
    town.gate.gatepost.log().wait_for_count("reason=credentials", Protocol::ALL.len());
    assert_eq!(town.gate.gatepost.log().count(" info held "), 0);
}
