//! `gatepost status`, `drain` and `undrain`.

use crate::admin::verb;
use crate::gate::{Gate, Want};
use serde_json::Value;
use testkit::Protocol;
use testkit::peer::{Backend, FakeBackend};
use testkit::wait::{PATIENCE, poll};

fn status(gate: &Gate) -> (Option<i32>, Value) {
    let (code, out, err) = verb(gate, &["status", "--json"]);
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

#[test]
fn what_stands_well_and_what_does_not() {
    let mut backend = FakeBackend::start(Backend::of(Protocol::Imap));
    let fields = "proxy = \"y\", nopassword = \"y\", host = \"127.0.0.1\", proxy_host_immediate_failure_after = \"1\", proxy_timeout = \"2\"";
    let users =
        format!("[[users]]\nname = \"all\"\ndriver = \"static\"\nfields = {{ {fields}, port = \"{}\" }}\n", backend.port());
    let gate = Gate::start(&Want { users: &users, limits: "user_connections = 5", ..Default::default() });

    let (code, quiet) = status(&gate);
    assert_eq!((quiet["phase"].as_str(), quiet["name"].as_str()), (Some("serving"), Some("gate.test")));
    assert_eq!(quiet["backends"].as_array().unwrap().len(), 0, "nobody has been anywhere");
    let listeners: Vec<String> = quiet["listeners"].as_array().unwrap().iter().map(|one| one["address"].to_string()).collect();
    assert_eq!(listeners.len(), 2);
    assert!(listeners.contains(&format!("\"{}\"", gate.imap())), "{listeners:?}");
    let certificate = &quiet["certificates"][0];
    assert!(certificate["file"].as_str().unwrap().ends_with("gate.pem"), "{certificate}");
    // The certificates of tests end soon, and whoever watches the exit code is to hear of that.
    let days = certificate["days"].as_i64().unwrap();
    assert_eq!(code, Some(if days < 14 { 3 } else { 0 }), "{days} days");

    let mut on: Vec<_> = (0..4).map(|_| gate.client()).collect();
    on.iter_mut().for_each(|client| assert!(client.login("alice", "x").is_ok()));
    // They have heard that they are in a moment before they count as that.
    let four = || Some(status(&gate)).filter(|(_, status)| status["sessions"]["imap"] == 4);
    let (code, busy) = poll(PATIENCE, four).expect("all four are relayed");
    assert_eq!((code, &busy["sessions"]["pop3"]), (Some(3), &0.into()), "a limit at 80 %");
    let at = &busy["backends"][0];
    assert_eq!((at["address"].as_str().unwrap(), &at["state"]), (backend.addr().to_string().as_str(), &"up".into()));
    assert_eq!((&at["protocol"], &at["sessions"], &at["error"]), (&"imap".into(), &4.into(), &Value::Null));
    let limit = busy["limits"].as_array().unwrap().iter().find(|one| one["name"] == "limits.user_connections").unwrap();
    assert_eq!((&limit["used"], &limit["limit"], &limit["percent"]), (&4.into(), &5.into(), &80.into()));
    assert_eq!(limit["fullest"], "alice from 127.0.0.1");
    let login = &busy["logins"][0];
    assert_eq!((&login["outcome"], &login["total"]), (&"ok".into(), &4.into()));
    assert!(login["per_second"].as_f64().unwrap() > 0.0, "{login}");
    let lookup = &busy["lookups"][0];
    assert_eq!((&lookup["database"], &lookup["count"]), (&"all".into(), &4.into()));
    assert!(lookup["p99"].as_f64().unwrap() > 0.0, "{lookup}");

    // It dies: suspected by the first that fails, condemned by those that go on failing, found again by the first that is
    // greeted.
    on.clear();
    backend.die();
    let mut client = gate.client();
    assert!(!client.login("alice", "x").is_ok());
    let failing = || Some(status(&gate)).filter(|(_, status)| status["backends"][0]["state"] != "up");
    let (code, seen) = poll(PATIENCE, failing).expect("it has failed");
    assert_eq!(code, Some(3));
    let text = seen["backends"][0]["error"].as_str().unwrap().to_owned();
    assert!(text.contains("Connection refused"), "{text}");
    let again = poll(PATIENCE, || {
        client.login("alice", "x");
        Some(status(&gate).1).filter(|status| status["backends"][0]["state"] == "down")
    });
    let down = again.expect("it has failed for longer than a second");
    assert!(down["backends"][0]["failing_for"].as_u64().unwrap() >= 1, "{down}");
    assert!(down["backends"][0]["last_success"].as_u64().is_some(), "{down}");
    // People read the same.
    let (_, out, _) = verb(&gate, &["status"]);
    let line = out.lines().find(|line| line.starts_with(&backend.addr().to_string())).unwrap_or_else(|| panic!("{out}"));
    assert!(line.contains(" down ") && line.contains("Connection refused"), "{line}");
    for title in ["Listeners", "Backends", "Logins", "Lookups", "Limits", "Certificates"] {
        assert!(out.lines().any(|line| line.starts_with(title)), "{title}: {out}");
    }

    backend.revive();
    let up = poll(PATIENCE, || {
        client.login("alice", "x");
        Some(status(&gate)).filter(|(_, status)| status["backends"][0]["state"] == "up")
    });
    assert_eq!(up.expect("found again").1["backends"][0]["error"], Value::Null);
}

#[test]
fn drain_tells_balancers_and_nobody_else() {
    let backend = FakeBackend::start(Backend::of(Protocol::Imap));
    let gate = Gate::start(&Want { users: &crate::gate::everybody_at(backend.addr(), ""), ..Default::default() });
    let ready = || crate::admin::on_socket(&gate, "GET /readyz HTTP/1.1");
    assert_eq!(ready(), (200, "ready\n".into()));
    assert_eq!(verb(&gate, &["drain"]), (Some(0), "draining\n".into(), String::new()));
    assert_eq!(ready(), (503, "draining\n".into()));
    assert_eq!(status(&gate).1["phase"], "draining");
    assert!(gate.client().login("alice", "x").is_ok(), "who was sent here already is served");
    // It outlives a reload: an operator's word is not the file's to take back.
    assert_eq!(verb(&gate, &["reload"]).0, Some(0));
    assert_eq!(ready().0, 503);
    assert_eq!(verb(&gate, &["undrain"]).1, "serving\n");
    assert_eq!(ready().0, 200);
    assert_eq!(crate::admin::on_socket(&gate, "POST /v1/drain HTTP/1.1").0, 400);
    gate.gatepost.log().wait_for_count(" info drain ", 2);
}
