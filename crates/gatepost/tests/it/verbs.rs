//! What holds for all verbs: readers who leave, exit codes of wrong usage, what is told of a reload.

use crate::admin::verb;
use crate::gate::{BINARY, Gate, Want, everybody_at};
use std::process::{Command, Stdio};

fn gate() -> Gate {
    Gate::start(&Want { users: &everybody_at(([127, 0, 0, 1], 1).into(), ""), ..Default::default() })
}

/// Changes the configuration, and reloads: exit code, standard output, standard error.
fn reload(gate: &Gate, change: impl FnOnce(&str) -> String) -> (Option<i32>, String, String) {
    let file = gate.gatepost.dir().join("gatepost.toml");
    let text = change(&std::fs::read_to_string(&file).unwrap());
    std::fs::write(&file, text).unwrap();
    verb(gate, &["reload"])
}

#[test]
fn a_reader_who_has_left_is_no_trouble() {
    let gate = gate();
    let file = gate.gatepost.dir().join("gatepost.toml");
    let nobody = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for (words, code) in [
        (&["show", "--effective"][..], 0),
        (&["check"], 0),
        (&["version"], 0),
        (&["sessions"], 0),
        (&["sessions", "--watch"], 0),
        (&["sessions", "--state", "odd"], 1),
        (&["doveadm", "who"], 0),
        (&["doveadm", "-f", "json", "proxy", "list"], 0),
        (&["kick", "nobody"], 0),
        (&["explain", "login", "alice"], 0),
        (&["explain", "login", "alice", "--in-clear", "--from", "192.0.2.1"], 1),
        (&["explain", "rcpt", "alice"], 2),
        (&["reload"], 0),
        (&["reload", "--help"], 0),
    ] {
        let run = |out: Stdio, err: Stdio| {
            Command::new(BINARY).arg("--config").arg(&file).args(words).stdout(out).stderr(err).spawn().unwrap()
        };
        let done = run(nobody(), Stdio::piped()).wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{words:?}: {err}");
        assert!(!err.contains("panicked"), "{words:?}: {err}");
        assert_eq!(run(nobody(), nobody()).wait().unwrap().code(), Some(code), "{words:?}");
    }
    // What is lost on a full disk is missed.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let done = Command::new(BINARY).arg("--config").arg(&file).arg("sessions").stdout(full).output().unwrap();
    let err = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(1) && err.contains("gatepost: standard output: No space left"), "{err}");
}

#[test]
fn wrong_usage_has_the_code_of_the_tool_that_is_meant() {
    let gate = gate();
    for (words, code) in [
        (&["doveadm"][..], 64),
        (&["doveadm", "frob"], 64),
        (&["doveadm", "proxy"], 64),
        (&["doveadm", "who", "-x"], 64),
        (&["doveadm", "kick"], 64),
        (&["doveadm", "who", "--help"], 0),
        (&["frob"], 2),
        (&["sessions", "alice"], 2),
        (&["sessions", "--token-file", "token"], 2),
        (&["kick"], 2),
        (&["kick", "--all", "alice"], 2),
        (&["-V"], 0),
        (&["--version"], 0),
    ] {
        let (is, _, err) = verb(&gate, words);
        assert_eq!(is, Some(code), "{words:?}: {err}");
    }
    let (_, _, err) = verb(&gate, &["doveadm", "proxy", "kick"]);
    assert!(err.starts_with("doveadm proxy kick "), "{err}");
    assert_eq!(verb(&gate, &["--version"]).1, verb(&gate, &["version"]).1);
}

#[test]
fn what_waits_for_the_next_start_is_compared_with_what_runs() {
    let gate = gate();
    let remarks = "server.threads has changed and takes effect at the next start\n\
                   admin.group has changed and takes effect at the next start\n";
    let other = |text: &str| text.replace("threads = 2", "threads = 3") + "[admin]\ngroup = \"mail\"\n";
    let (code, out, _) = reload(&gate, other);
    assert_eq!((code, out), (Some(3), format!("{remarks}the new configuration is in force\n")));
    let (code, out, _) = reload(&gate, str::to_owned);
    assert_eq!((code, out), (Some(3), format!("{remarks}the new configuration is in force\n")), "it still waits");
    let (code, out, _) =
        reload(&gate, |text| text.replace("threads = 3", "threads = 2").replace("[admin]\ngroup = \"mail\"\n", ""));
    assert_eq!((code, &*out), (Some(0), "the new configuration is in force\n"), "it is what runs");
}

#[test]
fn problems_and_remarks_of_several_lines_are_told_in_lines() {
    let gate = gate();
    let log = gate.gatepost.log().from_here();
    let (code, out, _) = reload(&gate, |text| text.replace("[limits]\n", "[limits]\nconnections = 1000000\n"));
    assert_eq!(code, Some(3), "{out}");
    assert!(
        out.contains(" descriptors") && out.contains("\n  fix: raise the descriptor limit") && !out.contains("u{a}"),
        "{out}"
    );
    let line = log.wait_for("warning[limit]");
    assert!(!line.contains("u{a}"), "{line}");
    log.wait_for_all(&[" warning reload ", "  fix: raise the descriptor limit"]);

    let users = everybody_at(([127, 0, 0, 1], 1).into(), "");
    let database = "[[users]]\nname = \"all\"\ndriver = \"sqlite\"\npath = \"users.db\"\nquery = \"SELEKT\"\n";
    let made = Command::new("sqlite3").arg(gate.gatepost.dir().join("users.db")).arg("create table t (a)").status();
    if !made.is_ok_and(|made| made.success()) {
        return;
    }
    let (code, _, err) = reload(&gate, |text| text.replace(&users, database));
    assert_eq!(code, Some(78), "{err}");
    assert!(
        err.contains("error[users]: query: ") && err.contains("\n  fix: try it with: sqlite3 ") && !err.contains("u{a}"),
        "{err}"
    );
}

#[test]
fn a_login_is_explained_at_the_listener_that_a_client_would_take() {
    // The one with TLS from the first byte has the lower address.
    let config = crate::gate::config(&Want { users: &everybody_at(([127, 0, 0, 1], 1).into(), ""), ..Default::default() });
    let config = config.replace("[\"127.0.0.1:0\"]\n[[listen]]", "[\"127.0.0.2:0\"]\n[[listen]]");
    assert!(config.contains("127.0.0.2"));
    let more = [("submissions", 1), ("submission", 2), ("managesieve", 1)]
        .map(|(protocol, last)| format!("[[listen]]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.{last}:0\"\n"));
    let gate = Gate::start_with(testkit::Dir::new(), &(config + &more.concat()));
    for (words, first) in [
        (&[][..], "listener      imap on 127.0.0.2:"),
        (&["--protocol", "submission"], "listener      submission on 127.0.0.2:"),
        (&["--protocol", "submissions"], "listener      submission on 127.0.0.1:"),
        (&["--protocol", "managesieve"], "listener      managesieve on 127.0.0.1:"),
        (&["--protocol", "imap"], "listener      imap on 127.0.0.2:"),
        (&["--protocol", "imaps"], "listener      imap on 127.0.0.1:"),
    ] {
        let (_, out, err) = verb(&gate, &[&["explain", "login", "alice"], words].concat());
        assert!(out.starts_with(first), "{words:?}: {out}{err}");
    }
}

#[test]
fn whoever_names_whom_to_ask_needs_no_files() {
    let gate = gate();
    let ask = |words: &[&str]| {
        let socket = gate.gatepost.dir().join("control.sock");
        let out = Command::new(BINARY)
            .args(["--config", "/nonexistent/gatepost.toml"])
            .args(words)
            .arg("--socket")
            .arg(socket)
            .output();
        let out = out.unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    assert_eq!(ask(&["reload"]).0, Some(0), "{}", ask(&["reload"]).1);
    std::fs::write(gate.gatepost.dir().join("gatepost.toml"), "version = 2\n").unwrap();
    let (code, err) = ask(&["reload"]);
    assert!(code == Some(78) && err.contains("error[version]") && err.contains("the old configuration stays in force"), "{err}");
    let (code, err) = ask(&["upgrade"]);
    assert!(code == Some(78) && err.contains("error[version]"), "{code:?} {err}");
}

#[test]
fn the_journal_says_in_plain_words_who_was_kicked_and_held() {
    let gate = gate();
    let log = gate.gatepost.log().from_here();
    let (code, _, err) = verb(&gate, &["kick", "a@b", "--client", "192.0.2.0/24", "--hold", "60s"]);
    assert_eq!(code, Some(0), "{err}");
    log.wait_for("info kick connections=0 text=\"user=a@b client=192.0.2.0/24 hold=60s\"");
    assert_eq!(verb(&gate, &["kick", "a@b", "--client", "192.0.2.0/24", "--hold", "0s"]).0, Some(0));
    log.wait_for("info kick connections=0 text=\"user=a@b client=192.0.2.0/24 hold=0s\"");
}
