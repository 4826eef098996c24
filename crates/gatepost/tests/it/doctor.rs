//! `gatepost doctor identity` tells a backend that believes us from one that does not.

use crate::admin::{sessions, verb};
use crate::gate::{BINARY, Gate, OTHERS_TOO, Want, config, echo_backend, everybody_at};
use std::path::Path;
use std::process::Command;
use testkit::dovecot::{Backend, Options};
use testkit::peer::{Conn, FakeServer};
use testkit::wait::until;
use testkit::{Dir, Protocol, postfix, real};

const FROM: &str = "192.0.2.66";

/// Runs the doctor for alice, and looks that nothing is left behind and nothing secret said.
#[track_caller]
fn doctor(gate: &Gate, words: &[&str]) -> (Option<i32>, String) {
    doctor_with(gate, "alice-secret", words)
}

#[track_caller]
fn doctor_with(gate: &Gate, password: &str, words: &[&str]) -> (Option<i32>, String) {
    let file = gate.gatepost.dir().write("doctor-password", format!("{password}\n"));
    let file = file.display().to_string();
    let all = [&["doctor", "identity", "alice", "--password-file", &file], words].concat();
    let (code, out, err) = verb(gate, &all);
    let said = out + &err;
    assert!(!said.contains(password), "{said}");
    until("nothing is left behind", || sessions(gate, &[]).is_empty());
    (code, said)
}

/// A real backend, with and without the trust that the deployment needs.
#[test]
fn dovecot_believes_us_where_it_is_told_to() {
    let Some(_) = real::require("dovecot") else { return };
    for trusted in ["127.0.0.1", ""] {
        let dovecot = Backend::start(Options { trusted: trusted.into(), ..Default::default() });
        let log = dovecot.log().path().display().to_string();
        for protocol in Protocol::ALL {
            let users = everybody_at(dovecot.addresses().of(protocol), "");
            let want = Want { users: &users, more: OTHERS_TOO, trust: "networks = [\"127.0.0.1\"]", ..Default::default() };
            let gate = Gate::start(&want);
            let name = protocol.name();
            let by_listener = if protocol.implicit().is_some() { gate.tls_at(protocol) } else { gate.at(protocol) }.to_string();
            for words in [&[][..], &["--from", FROM], &["--listener", &by_listener]] {
                let all = [&["--protocol", name, "--backend-log", &log], words].concat();
                let (code, said) = doctor(&gate, &all);
                let what = format!("{name}, trusted {trusted:?}, {words:?}:\n{said}");
                // By all others Dovecot offers to listen only to those whom it believes.
                let told = protocol == Protocol::Imap || !trusted.is_empty();
                assert_eq!(said.contains("told        yes: "), told, "{what}");
                if trusted.is_empty() {
                    assert_eq!(code, Some(1), "{what}");
                    assert!(said.contains("disproven   "), "{what}");
                    assert!(said.contains("login_trusted_networks = 127.0.0.1"), "{what}");
                } else {
                    assert_eq!(code, Some(0), "{what}");
                    let client = if words.contains(&"--from") { FROM } else { "127.0.0.1" };
                    assert!(said.contains(&format!("rip={client}")), "{what}");
                    assert!(said.contains(&format!("proven      the backend takes {client} for the client")), "{what}");
                }
            }
            // Without the log nobody can say.
            if protocol != Protocol::Imap && trusted.is_empty() {
                continue;
            }
            let (code, said) = doctor(&gate, &["--protocol", name, "--from", FROM]);
            assert_eq!(code, Some(3), "{said}");
            assert!(said.contains("not proven  told, but not seen: the backend cannot tell by itself"), "{said}");
        }
    }
}

/// Postfix writes neither session nor user, but whom it took for the client.
#[test]
fn postfix_believes_us_where_it_is_told_to() {
    let Some(_) = postfix::require() else { return };
    for (trusted, code) in [("127.0.0.1", 0), ("", 1)] {
        let postfix = postfix::Postfix::start(postfix::Options { xclient_hosts: trusted.into(), ..Default::default() });
        let log = postfix.log().path().display().to_string();
        let users = everybody_at(postfix.addr(), "");
        let want = Want { users: &users, more: OTHERS_TOO, trust: "networks = [\"127.0.0.1\"]", ..Default::default() };
        let gate = Gate::start(&want);
        for from in [FROM, "2001:db8::66"] {
            let words = ["--protocol", "submission", "--backend-log", &log, "--from", from];
            let (got, said) = doctor(&gate, &words);
            assert_eq!(got, Some(code), "{said}");
            if trusted.is_empty() {
                assert!(
                    said.contains("told        no: ") && said.contains("smtpd_authorized_xclient_hosts = 127.0.0.1"),
                    "{said}"
                );
            } else {
                assert!(said.contains(&format!("disconnect from unknown[{from}]")), "{said}");
                assert!(said.contains(&format!("proven      the backend takes {from} for the client")), "{said}");
            }
        }
        if !trusted.is_empty() {
            let (got, said) = doctor(&gate, &["--protocol", "submission", "--backend-log", &log]);
            assert_eq!(got, Some(3), "{said}");
            assert!(said.contains("client and proxy are both 127.0.0.1 here: name another client with --from"), "{said}");
        }
    }
}

/// Speaks IMAP, lets everybody in, and answers ID with what it likes.
fn answering_id(answer: fn(&str) -> String) -> FakeServer {
    FakeServer::start(move |conn: &mut Conn| {
        let Some(seen) = testkit::peer::Backend::default().login(conn) else { return };
        let told = seen.ids.first().cloned().unwrap_or_default();
        while let Some(line) = conn.read_line() {
            let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
            if command.starts_with("ID") {
                conn.send_line(answer(&told));
            }
            conn.send_line(format!("{tag} OK done"));
            if command == "LOGOUT" {
                return;
            }
        }
    })
}

#[test]
fn a_backend_that_answers_id_with_what_it_was_told_is_heard() {
    for (answer, code, words) in [
        ((|told| format!("* ID {told}")) as fn(&str) -> String, 0, "proven      the backend takes 192.0.2.66"),
        (|_| "* ID (\"x-originating-ip\" \"127.0.0.1\")".to_owned(), 1, "disproven   the backend takes 127.0.0.1"),
        (|_| "* ID (\"name\" \"something\")".to_owned(), 3, "not proven  told, but not seen"),
        (|_| "* ID NIL".to_owned(), 3, "not proven  told, but not seen"),
    ] {
        let backend = answering_id(answer);
        let users = everybody_at(backend.addr(), "");
        let gate = Gate::start(&Want { users: &users, trust: "networks = [\"127.0.0.1\"]", ..Default::default() });
        let (got, said) = doctor(&gate, &["--from", FROM]);
        assert_eq!(got, Some(code), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(said.contains("\"x-originating-ip\" \"192.0.2.66\""), "what was told is shown: {said}");
    }
}

#[test]
fn what_stands_in_the_way_is_told() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ", proxy_not_trusted = \"y\""), ..Default::default() });
    let (code, said) = doctor(&gate, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("told        no: the row says proxy_not_trusted"), "{said}");
    let (code, said) = doctor(&gate, &["--from", FROM]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("this host is not in trust.networks"), "{said}");

    let users =
        "[[users]]\ndriver = \"static\"\nfields = { proxy = \"y\", password = \"{PLAIN}right-one\", host = \"127.0.0.1\" }\n";
    let gate = Gate::start(&Want { users, ..Default::default() });
    let (code, said) = doctor_with(&gate, "wrong-one", &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("not proven  the login failed: "), "{said}");

    for (words, code, why) in [
        (&["--protocol", "gopher"][..], 2, "gopher is none of imap, pop3, managesieve, submission"),
        (&["--protocol", "pop3"], 2, "there is no such listener"),
        (&["--listener", "127.0.0.1:1"], 2, "there is no such listener; there are: imap on 127.0.0.1:"),
        (&["--backend-log", "/nonexistent"], 1, "/nonexistent: "),
        (&["--ca", "/nonexistent"], 1, "/nonexistent"),
        (&["--socket", "/nonexistent"], 69, "is Gatepost running"),
    ] {
        let (got, said) = doctor_with(&gate, "wrong-one", words);
        assert_eq!(got, Some(code), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
    }
}

/// Its own certificate is known by its key, or by an authority; another one is not taken.
#[test]
fn the_password_is_said_to_gatepost_alone() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let ca = gate.gatepost.dir().join("gate-ca.pem");
    let ca = if ca.exists() { ca } else { authority(gate.gatepost.dir().path()) };
    let ca = ca.display().to_string();
    let imaps = gate.imaps().to_string();
    for words in [&["--insecure"][..], &["--ca", &ca], &["--ca", &ca, "--name", "localhost"], &["--listener", &imaps]] {
        let (code, said) = doctor(&gate, words);
        assert_eq!(code, Some(3), "{words:?}: {said}");
    }
    let (code, said) = doctor(&gate, &["--ca", &ca, "--name", "mail.example.com"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("TLS with Gatepost"), "{said}");
    // A configuration that names another certificate than the one that is served.
    let other = Dir::new();
    testkit::certs::Authority::new(other.path(), "other").server("gate", &["localhost"]);
    let file = other.write("gatepost.toml", config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() }));
    let password = other.write("password", "alice-secret\n");
    let out = Command::new(BINARY)
        .arg("--config")
        .arg(file)
        .args(["doctor", "identity", "alice", "--socket"])
        .arg(gate.gatepost.dir().join("control.sock"))
        .arg("--password-file")
        .arg(password)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(69), "{said}");
    assert!(said.contains("none of the pinned ones"), "{said}");
}

fn authority(dir: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    let names: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "pem")).collect();
    names.iter().find(|path| path.file_stem().is_some_and(|stem| stem != "gate")).cloned().unwrap_or_else(|| panic!("{names:?}"))
}
