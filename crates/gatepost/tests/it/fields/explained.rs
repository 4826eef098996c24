//! `gatepost explain login` beside what then happens: each case of the table is explained first, and then it runs.

use super::case::{Case, End, Heard, PASSWORD, Peer};
use super::spelling::{Spelling, Way};
use super::{Run, gates};
use crate::explained::{Asked, Told, word};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::net::SocketAddr;
use testkit::Protocol;

/// What can only be known by calling the backend.
const UNFORESEEN: &[&str] = &["connect", "timeout", "backend-tls", "backend-closed", "backend-config", "backend-credentials"];

/// Explains a login that is about to happen: this client is connected.
pub fn ask(run: &Run<'_>, client: SocketAddr) -> Told {
    let Run { case, spelling, running, .. } = run;
    let me = run.fill("{me}");
    let mechanism = match case.way {
        Way::Command => "command",
        Way::Plain => "plain",
        Way::Login => "login",
        Way::Vouched => panic!("only a backend is told so"),
    };
    let from = client.to_string();
    let front = SocketAddr::new("192.0.2.7".parse().unwrap(), client.port()).to_string();
    let via = format!("{}:{}", gates::FRONT, client.port());
    let mut words = vec![&*me, "--protocol", spelling.protocol().name(), "--in-clear", "--mechanism", mechanism];
    words.extend(spelling.helo().iter().flat_map(|name| ["--helo", name]));
    let pairs: Vec<String> = case.front.iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    match &case.front {
        None => words.extend(["--from", &from]),
        Some(_) => {
            words.extend(["--from", &front, "--via", &via, "--ttl", "3"]);
            words.extend(pairs.iter().flat_map(|pair| ["--forward", pair]));
        }
    }
    let asked = Asked { gatepost: &running.gate.gatepost, words: &words };
    let told = asked.explain(Some(case.password));
    // Without a password the right one is supposed: no protocol has a part in that, but one that may say none.
    let twice = matches!(spelling.protocol(), Protocol::Imap | Protocol::Submission);
    if case.password == PASSWORD && twice {
        let supposed = asked.explain(None);
        let outcome = |told: &Told| {
            let mut outcome = told.value["outcome"].clone();
            // A hold is shorter by now, and partly of random length.
            outcome["waits"] = Value::Null;
            outcome
        };
        assert_eq!(outcome(&supposed), outcome(&told), "without a password");
    }
    assert_eq!(run.row.connections() + run.other.connections(), 0, "explained, and not called");
    for word in [" login ", " refused ", " held ", " unknown-field "] {
        let line = running.gate.gatepost.log().find(&[word, &format!("user={me} ")]);
        assert!(line.is_none(), "a journal's line about an explanation: {line:?}");
    }
    assert!(!told.text().contains("-secret"), "a password: {told:?}");
    told
}

/// Compares it with what happened: the client's line, the journal's line.
pub fn check(run: &Run<'_>, told: &Told, answer: &str, line: &str) {
    let case = run.case;
    for field in &case.warned {
        assert!(told.steps("remark").any(|step| step["field"] == *field), "no remark on {field}: {told:?}");
    }
    if !case.meanwhile.is_empty() {
        // What the databases say after the wait is known to nobody before it.
        let held = told.steps("hold").next().and_then(|step| step["seconds"].as_f64());
        assert!(held.is_some_and(|seconds| seconds > 0.0), "{told:?}");
        return;
    }
    if case.row.iter().any(|(name, value)| *name == "delay_until" && value.starts_with("{now")) && matches!(case.end, End::In(_))
    {
        assert!(told.steps("hold").next().is_some_and(|step| step["seconds"].as_f64() > Some(0.0)), "{told:?}");
    }
    match &case.end {
        End::In(_) => told.check_in(line),
        End::Refused(..) => {
            let reason = word(line, "reason").unwrap();
            if UNFORESEEN.contains(&&*reason) {
                assert_eq!(told.verdict(), "signs-in", "{told:?}");
                let backend = told.outcome("backend").unwrap();
                assert!(line.contains(&format!("backend {backend} ")), "{backend} in {line}");
                return;
            }
            told.check_refused(line, answer);
            let quick = case.columns().any(|name| name == "nodelay");
            assert_eq!(told.value["outcome"]["guess"], reason == "credentials" && !quick, "{told:?}");
        }
    }
}

/// Compares the words for the backend with what it heard.
pub fn check_heard(
    spelling: &dyn Spelling,
    case: &Case,
    told: &Told,
    heard: &Heard,
    session: &str,
    said: &str,
    header: Option<(SocketAddr, SocketAddr)>,
) {
    // It is explained for a backend that offers all of it.
    if !case.meanwhile.is_empty() || case.peer == Peer::ListsNoPlain {
        return;
    }
    let words = told.steps("words").next().unwrap();
    let lines = words["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
    let lines = lines.filter(|line| *line != "(TLS begins)");
    let lines: Vec<String> = lines.map(|line| spelling.timeless(line, heard.deadline)).collect();
    let heard_lines: Vec<String> = said.trim_end().split("\r\n").map(|line| masked(line, heard.password, session)).collect();
    // The password is shown as a string, also where IMAP has to send it as a literal.
    let (lines, heard_lines) = match heard.password.is_ascii() || spelling.protocol() != Protocol::Imap {
        true => (&lines[..], &heard_lines[..]),
        false => (&lines[..1], &heard_lines[..1]),
    };
    assert_eq!(lines, heard_lines, "explained, and heard");
    match (words["header"].as_str(), header) {
        (None, None) => {}
        (Some(text), Some((client, reached))) => {
            assert!(text.starts_with(&format!("client {client} at {reached}")), "{text}");
        }
        (Some(text), None) => assert!(text.contains("nobody"), "{text}"),
        (None, Some(_)) => panic!("a header that was not explained"),
    }
    let sign_in = &words["sign_in"];
    match heard.way {
        Way::Vouched => assert_eq!((&sign_in["password"], &sign_in["mechanism"]), (&Value::Null, &"XCLIENT".into())),
        _ => assert_eq!(sign_in["password"], if heard.password == case.password { "client" } else { "row" }),
    }
    assert_eq!(told.outcome("password").map(Value::from).unwrap_or_default(), sign_in["password"]);
}

/// A line that a backend heard, with `***` for the password and the session that stands for all.
fn masked(line: &str, password: &str, session: &str) -> String {
    let line = line.replace(session, "EXPLAINED");
    let (head, last) = line.rsplit_once(' ').map_or(("", &*line), |(head, last)| (head, last));
    let bare = last.trim_matches('"');
    let quote = if bare == last { "" } else { "\"" };
    if let Some(decoded) = STANDARD.decode(bare).ok().and_then(|octets| String::from_utf8(octets).ok())
        && decoded.ends_with(password)
    {
        let decoded = decoded.strip_suffix(password).unwrap().replace('\0', "\\0");
        let blank = if head.is_empty() { "" } else { " " };
        return format!("{head}{blank}{quote}base64({decoded}***){quote}");
    }
    line.replace(password, "***")
}
