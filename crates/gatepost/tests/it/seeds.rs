//! The two classic schemas of Dovecot's proxy documentation, with their own query lines.

use crate::gate::{Gate, Want, next};
use std::sync::mpsc::{Sender, channel};
use testkit::Dir;
use testkit::peer::{FakeServer, SeenLogin};

/// A backend on an address of its own; every login is noted with the address it came in at.
fn backend(ip: &str, port: u16, seen: &Sender<(String, SeenLogin)>) -> FakeServer {
    let (seen, name) = (seen.clone(), ip.to_owned());
    FakeServer::start_at(format!("{ip}:{port}").parse().unwrap(), move |mut conn| {
        if let Some(login) = testkit::peer::Backend::default().login(&mut conn) {
            seen.send((name.clone(), login)).unwrap();
            crate::gate::echo(&mut conn);
        }
        conn.close();
    })
}

fn database(dir: &Dir, sql: &str) {
    let db = rusqlite::Connection::open(dir.join("users.db")).unwrap();
    db.execute_batch(sql).unwrap();
}

fn users(query: &str, port: u16) -> String {
    // The schemas have no column for a port, and tests cannot bind 143.
    format!(
        "[[users]]\nname = \"main\"\ndriver = \"sqlite\"\npath = \"users.db\"\nquery = '''\n{query}'''\ndefault_fields = {{ port = \"{port}\" }}\n"
    )
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

#[test]
fn password_forwarding() {
    let (note, seen) = channel();
    let one = backend("127.0.1.1", 0, &note);
    let two = backend("127.0.1.2", one.port(), &note);
    let dir = Dir::new();
    database(&dir, PASSWORD_FORWARDING);
    let query = "SELECT NULL AS password, 'Y' as nopassword, host, destuser,\n'Y' AS proxy FROM proxy WHERE user = '%u'\n";
    let gate = Gate::start_in(dir, &Want { users: &users(query, one.port()), ..Default::default() });
    for (user, password, at, as_user) in [("john", "j1", "127.0.1.1", "john"), ("joe", "j2", "127.0.1.2", "joe@example.com")] {
        let mut client = gate.client();
        assert!(client.login(user, password).is_ok(), "{user}\n{}", gate.gatepost.log().tail());
        let (host, login) = next(&seen);
        assert_eq!((host.as_str(), login.user.as_str(), login.password.as_str()), (at, as_user, password));
    }
    // A row without a host is a mistake of the operator, not of the person.
    gate.client().no("LOGIN jim x", "[UNAVAILABLE]");
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
        let mut client = gate.client();
        let reply = client.login(injection, "x");
        assert!(reply.text.contains("[AUTHENTICATIONFAILED]"), "{injection}: {reply:?}");
    }
    assert_eq!((one.connections(), two.connections()), (1, 1), "nobody got through");
    one.finish();
    two.finish();
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

#[test]
fn proxy_maybe() {
    let (note, seen) = channel();
    let one = backend("127.0.1.1", 0, &note);
    let dir = Dir::new();
    database(&dir, PROXY_MAYBE);
    // As the documentation prints it, line continuation of dovecot.conf included.
    let query = "  SELECT concat(user, '@', domain) AS user, password, host, 'Y' AS proxy_maybe \\\n  FROM users WHERE user = '%n' AND domain = '%d'\n";
    let gate = Gate::start_in(dir, &Want { users: &users(query, one.port()), ..Default::default() });
    let mut client = gate.client();
    assert!(client.login("John@Example.com", "j1").is_ok(), "{}", gate.gatepost.log().tail());
    let (_, login) = next(&seen);
    assert_eq!((login.user.as_str(), login.password.as_str()), ("john@example.com", "j1"));
    gate.client().no("LOGIN john@example.com wrong", "[AUTHENTICATIONFAILED]");
    gate.client().no("LOGIN john j1", "[AUTHENTICATIONFAILED]");
    gate.client().no("LOGIN john@example.org j1", "[AUTHENTICATIONFAILED]");
    assert_eq!(one.connections(), 1, "a wrong password never reaches the backend");
    drop(client);
    one.finish();
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
