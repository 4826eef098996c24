//! `gatepost doveadm` beside a real doveadm: the same sessions, the same columns, words and exit codes.

use crate::admin::verb;
use crate::gate::{Gate, OTHERS_TOO, Want, each_at_its_own};
use serde_json::Value;
use std::net::IpAddr;
use std::process::Command;
use testkit::dovecot::{Backend, Instance, Options, Proxy, ProxyOptions};
use testkit::peer::{AnyClient, FakeBackend};
use testkit::wait::{PATIENCE, poll};
use testkit::{Protocol, real};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 42));

/// Runs Dovecot's own: exit code and standard output.
fn doveadm(of: &Instance, words: &[&str]) -> (Option<i32>, String) {
    let out = Command::new("doveadm").arg("-c").arg(of.dir().join("dovecot.conf")).args(words).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

fn ours(gate: &Gate, words: &[&str]) -> (Option<i32>, String) {
    let (code, out, err) = verb(gate, &[&["doveadm"], words].concat());
    assert!(code != Some(2), "{words:?}: {err}");
    (code, out)
}

/// Lines with their blanks collapsed; the titles, and then what follows, sorted. 2.3 repeats the titles for each login process,
/// with their keys, before the process's sessions.
fn titles_and_rows(text: &str, is_title: impl Fn(&str) -> bool) -> (String, Vec<String>) {
    let mut lines = text.lines().map(|line| line.split([' ']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
    let titles = lines.next().unwrap_or_default();
    let mut rows: Vec<String> = lines.filter(|line| !is_title(line)).collect();
    rows.sort();
    (titles, rows)
}

#[test]
fn proxy_list_has_dovecot_s_columns() {
    let Some(_) = real::require("dovecot") else { return };
    let backends = Protocol::ALL.map(|protocol| FakeBackend::start(testkit::peer::Backend::of(protocol)));
    let fields = vec!["user_alias=ali-%n".to_owned(), "user_team=blue".to_owned()];
    let elsewhere = backends.iter().map(|backend| (backend.protocol(), backend.addr())).collect();
    let proxy = Proxy::start(ProxyOptions { elsewhere, fields, ..ProxyOptions::to(backends[0].addr()) });
    let users = each_at_its_own(&backends, ", user_alias = \"ali-%n\", user_team = \"blue\"");
    let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Default::default() });

    let mut clients = Vec::new();
    for (protocol, user) in [
        (Protocol::Imap, "alice"),
        (Protocol::Imap, "alice"),
        (Protocol::Imap, "bob@example.com"),
        (Protocol::Pop3, "carol"),
        (Protocol::ManageSieve, "dave"),
        (Protocol::Submission, "erin"),
    ] {
        for at in [proxy.addresses().of(protocol), gate.at(protocol)] {
            let mut client = AnyClient::connect_from(protocol, CLIENT, at);
            client.greeting();
            assert!(client.login(user, "x").ok, "{}\n{}", proxy.log().tail(), gate.gatepost.log().tail());
            clients.push(client);
        }
    }

    // Tab and table: titles for people, then rows.
    for format in ["tab", "table"] {
        let (code, theirs) = doveadm(&proxy, &["-f", format, "proxy", "list"]);
        let (our_code, our_text) = ours(&gate, &["-f", format, "proxy", "list"]);
        assert_eq!((code, our_code), (Some(0), Some(0)));
        let keys = |line: &str| line.starts_with("username\t") || line.starts_with("username ");
        let (theirs, our_text) = (titles_and_rows(&theirs, keys), titles_and_rows(&our_text, |_| false));
        assert_eq!(theirs.1.len(), 6, "{theirs:?}");
        assert_eq!(our_text, theirs, "{format}");
    }
    let (_, theirs) = doveadm(&proxy, &["-f", "flow", "proxy", "list"]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().filter(|l| !l.starts_with("username=username ")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&ours(&gate, &["-f", "flow", "proxy", "list"]).1), sorted(&theirs));
    let (_, theirs) = doveadm(&proxy, &["-f", "pager", "proxy", "list"]);
    let pages = |text: &str| {
        let mut pages: Vec<String> = text.split('\u{c}').map(|page| page.trim().to_owned()).collect();
        pages.retain(|page| !page.contains("username: username"));
        pages.sort();
        pages
    };
    assert_eq!(pages(&ours(&gate, &["-f", "pager", "proxy", "list"]).1), pages(&theirs));
    let objects = |text: &str| {
        let Value::Array(all) = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}")) else { panic!("{text}") };
        let mut all: Vec<String> =
            all.into_iter().filter(|one| one["username"] != "username").map(|one| one.to_string()).collect();
        all.sort();
        all
    };
    let (_, theirs) = doveadm(&proxy, &["-f", "json", "proxy", "list"]);
    assert_eq!(objects(&ours(&gate, &["-f", "json", "proxy", "list"]).1), objects(&theirs));

    // Nobody is meant; nothing is said.
    assert_eq!(ours(&gate, &["proxy", "kick", "nobody"]), doveadm(&proxy, &["proxy", "kick", "nobody"]));
    assert_eq!(ours(&gate, &["proxy", "kick"]).0, doveadm(&proxy, &["proxy", "kick"]).0, "wrong usage");
}

#[test]
fn who_and_kick_have_dovecot_s_words() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = Backend::start(Options { extra: "disable_plaintext_auth = no\n".into(), ..Default::default() });
    let backends = Protocol::ALL.map(|protocol| FakeBackend::start(testkit::peer::Backend::of(protocol)));
    let users = each_at_its_own(&backends, "");
    let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Default::default() });
    let on = |protocol: Protocol, user: &str| {
        [dovecot.addresses().of(protocol), gate.at(protocol)].map(|at| {
            let mut client = AnyClient::connect_from(protocol, CLIENT, at);
            client.greeting();
            assert!(client.login(user, &format!("{user}-secret")).ok, "{}", dovecot.log().tail());
            client
        })
    };
    let (alice, again, bob) = (on(Protocol::Imap, "alice"), on(Protocol::Imap, "alice"), on(Protocol::Imap, "bob"));
    let others = [Protocol::Pop3, Protocol::ManageSieve, Protocol::Submission].map(|protocol| on(protocol, "bob"));
    // Process ids differ, and Dovecot has one for each session; all else is the same.
    let without_pids = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| {
                let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
                let is_pid = |word: &str| {
                    let digits = word.trim_matches(['(', ')']);
                    !digits.is_empty() && digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit())
                };
                words.retain(|word| !is_pid(word));
                words.join(" ")
            })
            .collect()
    };
    // A session is told to Dovecot's anvil a little behind the login.
    let all_on = || Some(doveadm(&dovecot, &["who", "-1"]).1).filter(|text| text.lines().count() == 7);
    poll(PATIENCE, all_on).expect("six sessions of Dovecot");
    for (words, format) in
        [(&["who"][..], "table"), (&["who", "-1"], "table"), (&["who", "-1"], "tab"), (&["who", "alice"], "tab")]
    {
        let all = [&["-f", format], words].concat();
        let sorted = |text: String| {
            let mut lines = without_pids(&text);
            let titles = lines.remove(0);
            lines.sort();
            (titles, lines)
        };
        assert_eq!(sorted(ours(&gate, &all).1), sorted(doveadm(&dovecot, &all).1), "{all:?}");
    }
    assert_eq!(ours(&gate, &["kick", "nobody"]), doveadm(&dovecot, &["kick", "nobody"]));
    let (theirs, our_text) = (doveadm(&dovecot, &["kick", "alice"]), ours(&gate, &["kick", "alice"]));
    // Through a pipe 2.3 says the names before the sentence, on a terminal behind it.
    let words = |(code, text): (Option<i32>, String)| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words.sort();
        (code, words)
    };
    assert_eq!(words(our_text), words(theirs));
    let [mut dovecot_bob, mut our_bob] = bob;
    assert!(dovecot_bob.noop().ok && our_bob.noop().ok);
    drop((alice, again, others));

    let mut dovecot = dovecot;
    dovecot.stop();
    let code = doveadm(&dovecot, &["who"]).0;
    let nobody = Command::new(crate::gate::BINARY)
        .args(["doveadm", "who", "-a"])
        .arg(gate.gatepost.dir().join("no-socket"))
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), code, "nobody answers");
}
