//! The two classic schemas of Dovecot's proxy documentation, with their own query lines.

use crate::gate::{Gate, OTHERS_TOO, Want, next, trouble};
use std::sync::mpsc::{Sender, channel};
use testkit::dovecot::{Backend, Options};
use testkit::netns::{self, Alone};
use testkit::peer::{AnyClient, FakeServer, SeenLogin};
use testkit::{Dir, Protocol, real};

/// A backend on an address of its own; every login is noted with the address it came in at.
fn backend(protocol: Protocol, ip: &str, port: u16, seen: &Sender<(String, SeenLogin)>) -> FakeServer {
    let (seen, name) = (seen.clone(), ip.to_owned());
    let backend = testkit::peer::Backend::of(protocol);
    FakeServer::start_at(format!("{ip}:{port}").parse().unwrap(), move |mut conn| {
        if let Some(login) = backend.login(&mut conn) {
            seen.send((name.clone(), login)).unwrap();
            backend.echo(&mut conn);
        }
        conn.close();
    })
}

/// How a wrong password is answered, and how trouble.
fn codes(protocol: Protocol) -> (&'static str, &'static str) {
    match protocol {
        Protocol::Imap => ("[AUTHENTICATIONFAILED]", trouble(protocol)),
        Protocol::Pop3 => ("[AUTH]", trouble(protocol)),
        Protocol::ManageSieve => ("\"Authentication failed.\"", trouble(protocol)),
        Protocol::Submission => ("535 5.7.8", trouble(protocol)),
    }
}

/// A fresh client's login must be refused with this code.
#[track_caller]
fn refused(gate: &Gate, protocol: Protocol, user: &str, password: &str, code: &str) {
    let reply = gate.any_client(protocol).login(user, password);
    assert!(!reply.ok && reply.text.starts_with(code), "{} {user:?}: {reply:?}", protocol.name());
}

fn database(dir: &Dir, sql: &str) {
    let db = rusqlite::Connection::open(dir.join("users.db")).unwrap();
    db.execute_batch(sql).unwrap();
}

fn users(query: &str, port: u16) -> String {
    // The schemas have no column for a port, and these tests cannot bind 143.
    format!("{}default_fields = {{ port = \"{port}\" }}\n", users_on_registered_ports(query))
}

fn users_on_registered_ports(query: &str) -> String {
    format!("[[users]]\nname = \"main\"\ndriver = \"sqlite\"\npath = \"users.db\"\nquery = '''\n{query}'''\n")
}

const PASSWORD_FORWARDING: &str = "
CREATE TABLE proxy (
  user varchar(255) NOT NULL,
  host varchar(16) default NULL,
  destuser varchar(255) NOT NULL default '',
  PRIMARY KEY  (user)
);
INSERT INTO proxy VALUES ('john', '127.0.1.1', ''), ('joe', '127.0.1.2', 'joe@example.com'), ('jim', NULL, '');
";

const PASSWORD_FORWARDING_QUERY: &str =
    "SELECT NULL AS password, 'Y' as nopassword, host, destuser,\n'Y' AS proxy FROM proxy WHERE user = '%u'\n";

#[test]
fn password_forwarding() {
    for protocol in Protocol::ALL {
        let (note, seen) = channel();
        let one = backend(protocol, "127.0.1.1", 0, &note);
        let two = backend(protocol, "127.0.1.2", one.port(), &note);
        let (wrong, trouble) = codes(protocol);
        let dir = Dir::new();
        database(&dir, PASSWORD_FORWARDING);
        let users = users(PASSWORD_FORWARDING_QUERY, one.port());
        let gate = Gate::start_in(dir, &Want { users: &users, more: OTHERS_TOO, ..Default::default() });
        for (user, password, at, as_user) in [("john", "j1", "127.0.1.1", "john"), ("joe", "j2", "127.0.1.2", "joe@example.com")]
        {
            let mut client = gate.any_client(protocol);
            assert!(client.login(user, password).ok, "{user}\n{}", gate.gatepost.log().tail());
            let (host, login) = next(&seen);
            assert_eq!((host.as_str(), login.user.as_str(), login.password.as_str()), (at, as_user, password));
        }
        // A row without a host is a mistake of the operator, not of the person.
        refused(&gate, protocol, "jim", "x", trouble);
        assert!(gate.gatepost.wait_for("reason=row").contains("field host"));
        for injection in [
            "' OR '1'='1",
            "' OR ''='",
            "john' --",
            "\\' OR 1=1 --",
            "john\\",
            "%u",
            "%{user}",
            "*",
            "' UNION SELECT NULL,'Y','127.0.1.1','','Y' --",
        ] {
            refused(&gate, protocol, injection, "x", wrong);
        }
        assert_eq!((one.connections(), two.connections()), (1, 1), "nobody got through");
        one.finish();
        two.finish();
    }
}

const PROXY_MAYBE: &str = "
CREATE TABLE users (
  user varchar(255) NOT NULL,
  domain varchar(255) NOT NULL,
  password varchar(100) NOT NULL,
  host varchar(16) NOT NULL,
  home varchar(100) NOT NULL,
  PRIMARY KEY (user)
);
INSERT INTO users VALUES ('john', 'example.com', '{PLAIN}j1', '127.0.1.1', '/home/john'),
  ('joe', 'example.org', '{SHA256-CRYPT}$5$saltsalt$g5Uo4vWak2QcCf4VXDSvYIBZ3S.sA3N0RGoUpvimJP.', '127.0.1.1', '/home/joe'),
  ('self', 'example.com', '{PLAIN}s1', '127.0.0.1', '/home/self');
";

/// As the documentation prints it, line continuation of dovecot.conf included.
const PROXY_MAYBE_QUERY: &str = "  SELECT concat(user, '@', domain) AS user, password, host, 'Y' AS proxy_maybe \\\n  FROM users WHERE user = '%n' AND domain = '%d'\n";

#[test]
fn proxy_maybe() {
    for protocol in Protocol::ALL {
        let (note, seen) = channel();
        let one = backend(protocol, "127.0.1.1", 0, &note);
        let (wrong, _) = codes(protocol);
        let dir = Dir::new();
        database(&dir, PROXY_MAYBE);
        let users = users(PROXY_MAYBE_QUERY, one.port());
        let gate = Gate::start_in(dir, &Want { users: &users, more: OTHERS_TOO, ..Default::default() });
        let mut client = gate.any_client(protocol);
        assert!(client.login("John@Example.com", "j1").ok, "{}", gate.gatepost.log().tail());
        let (_, login) = next(&seen);
        assert_eq!((login.user.as_str(), login.password.as_str()), ("john@example.com", "j1"));
        refused(&gate, protocol, "john@example.com", "wrong", wrong);
        refused(&gate, protocol, "john", "j1", wrong);
        refused(&gate, protocol, "john@example.org", "j1", wrong);
        assert_eq!(one.connections(), 1, "a wrong password never reaches the backend");
        drop(client);
        one.finish();
    }
}

#[test]
fn both_schemas_on_the_registered_ports() {
    let Some(_) = real::require("dovecot") else { return };
    Alone::new("seeds::word_for_word_in_a_network_of_their_own").run();
}

/// Nothing is added to the schemas, not even a port: the backends are real Dovecots on 143, 110, 4190 and 587.
#[test]
#[ignore = "run by both_schemas_on_the_registered_ports, in a network of its own"]
fn word_for_word_in_a_network_of_their_own() {
    if !netns::is_alone() {
        return;
    }
    let user = |name: &str, password: &str| (name.to_owned(), password.to_owned());
    let elsewhere = |ip: &str, users: Vec<(String, String)>| {
        let ports =
            [("imap", "imap", 143), ("pop3", "pop3", 110), ("managesieve", "sieve", 4190), ("submission", "submission", 587)]
                .map(|(login, name, port)| {
                    format!("service {login}-login {{\n  inet_listener {name} {{\n    port = {port}\n  }}\n}}\n")
                });
        let extra = format!("listen = {ip}\n{}", ports.concat());
        Backend::start(Options { users, trusted: "127.0.0.1".into(), extra, ..Default::default() })
    };
    let john = [user("john", "j1"), user("john@example.com", "j1")];
    let one = elsewhere("127.0.1.1", john.into());
    let two = elsewhere("127.0.1.2", vec![user("joe@example.com", "j2")]);
    let here = Backend::start(Options {
        users: vec![user("self@example.com", "s1")],
        trusted: "127.0.0.1".into(),
        ..Default::default()
    });
    let local = Protocol::ALL.map(|protocol| format!("{} = \"{}\"", protocol.name(), here.addresses().of(protocol)));
    let local = format!("local = {{ {} }}", local.join(", "));
    let dirs = [Dir::new(), Dir::new()];
    database(&dirs[0], PASSWORD_FORWARDING);
    database(&dirs[1], PROXY_MAYBE);
    let [forwarding, maybe] = dirs;
    let start = |dir: Dir, query: &str| {
        let users = users_on_registered_ports(query);
        Gate::start_in(dir, &Want { users: &users, backend: &local, more: OTHERS_TOO, ..Default::default() })
    };
    let (forwarding, maybe) = (start(forwarding, PASSWORD_FORWARDING_QUERY), start(maybe, PROXY_MAYBE_QUERY));
    for protocol in Protocol::ALL {
        let (wrong, _) = codes(protocol);
        for (gate, name, password, at, n, as_user) in [
            (&forwarding, "john", "j1", &one, 1, "john"),
            (&forwarding, "joe", "j2", &two, 1, "joe@example.com"),
            (&maybe, "john@example.com", "j1", &one, 2, "john@example.com"),
            // The row leads to the address that the client reached: to this server.
            (&maybe, "self@example.com", "s1", &here, 1, "self@example.com"),
        ] {
            let what = format!("{} {name}", protocol.name());
            let mut client = AnyClient::connect_from(protocol, "127.0.0.42".parse().unwrap(), gate.at(protocol));
            client.greeting();
            client.starttls(&gate.tls, "localhost");
            assert!(client.login(name, password).ok, "{what}\n{}", gate.gatepost.log().tail());
            assert!(client.noop().ok, "{what}");
            let line = at.login_line_of(protocol, n);
            assert!(line.contains(&format!("user=<{as_user}>")) && line.contains("rip=127.0.0.42,"), "{what}: {line}");
        }
        refused(&maybe, protocol, "self@example.com", "wrong", wrong);
    }
    // Four users by each protocol, and nobody came twice.
    let logins = |at: &Backend| at.log().count("-login: Info: Login: ");
    let each = Protocol::ALL.len();
    assert_eq!((logins(&one), logins(&two), logins(&here)), (2 * each, each, each));
}

#[test]
fn proxy_maybe_to_ourselves_names_the_row() {
    let dir = Dir::new();
    database(&dir, PROXY_MAYBE);
    let own = testkit::free_port();
    let query = "SELECT concat(user, '@', domain) AS user, password, host, 'Y' AS proxy_maybe FROM users WHERE user = '%n' AND domain = '%d'\n";
    let text = crate::gate::config(&Want { users: &users(query, own.number()), ..Default::default() });
    let text = text.replacen("127.0.0.1:0", &format!("127.0.0.1:{}", own.number()), 1);
    testkit::certs::Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let gatepost = testkit::gatepost::Gatepost::start_in(dir, crate::gate::BINARY, &text, |_| {});
    let mut client = testkit::peer::Client::greeted(gatepost.addr("imap"));
    client.no("LOGIN self@example.com s1", "[UNAVAILABLE]");
    assert!(gatepost.wait_for("reason=row").contains("field proxy_maybe"));
}
