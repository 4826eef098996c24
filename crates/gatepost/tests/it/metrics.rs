//! Figures for Prometheus: what they count, that they stay few, and what promtool (Debian: prometheus) thinks of all that we
//! ship.

mod shipped;

use crate::admin::{http, on_socket};
use crate::gate::{Gate, OTHERS_TOO, POP3_TOO, Want, config, each_at_its_own, echo_backend, everybody_at};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testkit::peer::{AnyClient, Client, FakeBackend};
use testkit::wait::{PATIENCE, poll};
use testkit::{Dir, Protocol, real};

/// One answer of `/metrics`.
pub struct Scrape(String);

impl Scrape {
    #[track_caller]
    pub fn of(gate: &Gate) -> Scrape {
        let (status, text) = on_socket(gate, "GET /metrics HTTP/1.1");
        assert_eq!(status, 200, "{text}");
        Scrape(text)
    }

    /// Waits until this series has this value.
    #[track_caller]
    pub fn until(gate: &Gate, series: &str, value: f64) -> Scrape {
        let found = poll(PATIENCE, || Some(Scrape::of(gate)).filter(|scrape| scrape.find(series) == Some(value)));
        found.unwrap_or_else(|| panic!("{series} {value} never came:\n{}", Scrape::of(gate).0))
    }

    /// Every series, with its labels and without its value.
    fn series(&self) -> BTreeSet<&str> {
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' ')).map(|(s, _)| s).collect()
    }

    fn find(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }

    /// Every family with its type and the names of its labels.
    fn families(&self) -> BTreeMap<String, (String, BTreeSet<String>)> {
        let types = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let families = types.map(|(name, kind)| {
            let parts = [name.to_owned(), format!("{name}_bucket")];
            let labels = self.series().into_iter().filter_map(|series| {
                let (of, labels) = series.split_once('{')?;
                parts.iter().any(|part| part == of).then_some(labels)
            });
            let names =
                labels.flat_map(|labels| labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name));
            let names = names.filter(|name| *name != "le").map(str::to_owned).collect();
            (name.to_owned(), (kind.to_owned(), names))
        });
        families.collect()
    }
}

/// A house that has seen something of everything.
fn lively() -> (Gate, FakeBackend, Vec<AnyClient>) {
    let backend = FakeBackend::start(testkit::peer::Backend::of(Protocol::Imap));
    let (ip, port) = (backend.addr().ip(), backend.addr().port());
    let dir = Dir::new();
    // `gone` is at a backend where nobody is.
    dir.write("users", "alice:{PLAIN}right\nbob:{PLAIN}right\ngone:{PLAIN}right::::::host=127.0.0.99 port=9\n");
    let users = format!(
        "[[users]]\nname = \"main\"\ndriver = \"passwd-file\"\npath = \"users\"\n\
         default_fields = {{ host = \"{ip}\", port = \"{port}\" }}\noverride_fields = {{ proxy = \"y\", proxy_timeout = \"1\" }}\n"
    );
    let text = config(&Want { users: &users, more: POP3_TOO, ..Want::default() });
    let text = text.replacen("address = [\"127.0.0.1:0\"]\n", "address = [\"127.0.0.1:0\"]\nconnections = 10\n", 1);
    let gate = Gate::start_with(dir, &text);
    let mut on = Vec::new();
    for user in ["alice", "bob", "alice"] {
        let mut client = gate.any_client(Protocol::Imap);
        assert!(client.login(user, "right").ok);
        on.push(client);
    }
    let mut stranger = gate.any_client(Protocol::Imap);
    assert!(!stranger.login("alice", "wrong").ok);
    assert!(!stranger.login("gone", "right").ok);
    drop(stranger);
    let mut pop3 = gate.any_client(Protocol::Pop3);
    assert!(!pop3.login("mallory", "x").ok);
    pop3.logout();
    Scrape::until(&gate, "gatepost_disconnects_before_login_total{protocol=\"imap\",reason=\"closed\"}", 1.0);
    Scrape::until(&gate, "gatepost_disconnects_before_login_total{protocol=\"pop3\",reason=\"logout\"}", 1.0);
    // Whoever has left gives its place back last, and whoever is in counts as that a moment after it has heard so.
    Scrape::until(&gate, "gatepost_connections", 3.0);
    Scrape::until(&gate, "gatepost_sessions{protocol=\"imap\"}", 3.0);
    (gate, backend, on)
}

/// Runs promtool in a directory of ours: whether it is content, and all that it says.
fn promtool(dir: &Path, words: &[&str], input: &str) -> Option<(bool, String)> {
    let tool = real::require("promtool")?;
    let mut command = Command::new(tool);
    command.args(words).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    Some((out.status.success(), String::from_utf8(said).unwrap()))
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn what_happens_is_counted() {
    let (gate, backend, on) = lively();
    let at = backend.addr().to_string();
    let scrape = Scrape::of(&gate);
    let logins = |protocol: &str, outcome: &str, reason: &str| {
        scrape.value(&format!("gatepost_logins_total{{protocol=\"{protocol}\",outcome=\"{outcome}\",reason=\"{reason}\"}}"))
    };
    assert_eq!((logins("imap", "ok", "none"), logins("imap", "refused", "credentials")), (3.0, 1.0));
    assert_eq!((logins("imap", "refused", "connect"), logins("pop3", "refused", "credentials")), (1.0, 1.0));
    assert_eq!((logins("imap", "refused", "other"), logins("pop3", "ok", "none")), (0.0, 0.0));
    for (series, value) in [
        ("gatepost_login_duration_seconds_count{protocol=\"imap\",outcome=\"ok\"}", 3.0),
        ("gatepost_login_duration_seconds_bucket{protocol=\"imap\",outcome=\"refused\",le=\"+Inf\"}", 2.0),
        ("gatepost_sessions{protocol=\"imap\"}", 3.0),
        ("gatepost_connections", 3.0),
        ("gatepost_connections_before_login", 0.0),
        ("gatepost_connections_accepted_total", 5.0),
        ("gatepost_lookup_duration_seconds_count{database=\"main\"}", 6.0),
        ("gatepost_lookup_failures_total{database=\"main\"}", 0.0),
        ("gatepost_lookups_in_flight{database=\"main\"}", 0.0),
        ("gatepost_backend_state{backend=\"127.0.0.99:9\",state=\"suspect\"}", 1.0),
        ("gatepost_backend_state{backend=\"127.0.0.99:9\",state=\"up\"}", 0.0),
        ("gatepost_limit_used{limit=\"limits.user_connections\"}", 2.0),
        ("gatepost_limit_max{limit=\"limits.user_connections\"}", 50.0),
        ("gatepost_limit_used{limit=\"listen.connections\"}", 3.0),
        ("gatepost_limit_max{limit=\"listen.connections\"}", 10.0),
        ("gatepost_config_generation", 1.0),
        ("gatepost_config_last_reload_successful", 1.0),
        ("gatepost_stressed", 0.0),
        ("gatepost_logins_in_progress{protocol=\"imap\",state=\"signing-in\"}", 0.0),
        (&format!("gatepost_listener_connections{{listener=\"{}\",protocol=\"imap\"}}", gate.imap()), 3.0),
        (&format!("gatepost_backend_state{{backend=\"{at}\",state=\"up\"}}"), 1.0),
        (&format!("gatepost_backend_sessions{{backend=\"{at}\"}}"), 3.0),
        (&format!("gatepost_backend_connect_duration_seconds_count{{backend=\"{at}\"}}"), 3.0),
    ] {
        assert_eq!(scrape.value(series), value, "{series}");
    }
    assert!(scrape.value("gatepost_backend_connect_failures_total{backend=\"127.0.0.99:9\"}") >= 1.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let file = gate.gatepost.dir().join("gate.pem");
    let end = format!("gatepost_certificate_expiry_timestamp_seconds{{file=\"{}\",name=\"localhost\"}}", file.display());
    assert!(scrape.value(&end) > now, "{end}");
    assert!((now - scrape.value("process_start_time_seconds")).abs() < 120.0);
    assert!(scrape.value("process_open_fds") > 5.0 && scrape.value("process_resident_memory_bytes") > 1e6);
    drop(on);
    Scrape::until(&gate, "gatepost_session_ends_total{protocol=\"imap\",by=\"client\"}", 3.0);
    Scrape::until(&gate, "gatepost_sessions{protocol=\"imap\"}", 0.0);
    Scrape::until(&gate, "gatepost_limit_used{limit=\"limits.user_connections\"}", 0.0);
}

#[test]
fn each_protocol_has_its_own_figures() {
    let backends = Protocol::ALL.map(|protocol| FakeBackend::start(testkit::peer::Backend::of(protocol)));
    let users = each_at_its_own(&backends, "");
    let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Want::default() });
    let on = Protocol::ALL.map(|protocol| {
        let mut client = gate.any_tls_client(protocol);
        assert!(client.login("alice", "x").ok);
        assert!(client.noop().ok);
        let mut refused = gate.any_client(protocol);
        // Somebody else in one's own name.
        assert!(!refused.authenticate_plain("somebody", "alice", "x").ok);
        refused.logout();
        client
    });
    for protocol in Protocol::ALL {
        let name = protocol.name();
        for (series, labels, value) in [
            ("logins_total", ",outcome=\"ok\",reason=\"none\"", 1.0),
            ("logins_total", ",outcome=\"refused\",reason=\"not-authorized\"", 1.0),
            ("sessions", "", 1.0),
            ("login_duration_seconds_count", ",outcome=\"ok\"", 1.0),
        ] {
            Scrape::until(&gate, &format!("gatepost_{series}{{protocol=\"{name}\"{labels}}}"), value);
        }
        let scrape = Scrape::of(&gate);
        assert!(scrape.value(&format!("gatepost_relayed_bytes_total{{protocol=\"{name}\",direction=\"to_backend\"}}")) >= 6.0);
        let others = scrape.series().iter().filter(|series| series.contains(&format!("protocol=\"{name}\""))).count();
        assert!(others > 10, "{others}");
    }
    drop(on);
    for protocol in Protocol::ALL {
        Scrape::until(&gate, &format!("gatepost_session_ends_total{{protocol=\"{}\",by=\"client\"}}", protocol.name()), 1.0);
    }
}

#[test]
fn a_flood_of_names_adds_no_series() {
    let (gate, _backend, _on) = lively();
    let before = Scrape::of(&gate);
    for n in 0..200_u32 {
        let from = std::net::Ipv4Addr::from(0x7f01_0000 + n);
        let mut client = Client::connect_from(from.into(), gate.imap());
        client.greeting();
        client.send_line(format!("a LOGIN \"user-{n}\\\"{{}}\" wrong"));
        client.expect_line("a NO");
        if n % 25 == 0 {
            assert_eq!(Scrape::of(&gate).series(), before.series());
        }
    }
    let after = Scrape::of(&gate);
    assert_eq!(before.series(), after.series());
    assert_eq!(after.value("gatepost_logins_total{protocol=\"imap\",outcome=\"refused\",reason=\"credentials\"}"), 201.0);
    let kinds = after.families().len();
    assert!(after.series().len() < 700 && kinds > 30, "{} series of {kinds} families", after.series().len());
}

#[test]
fn bytes_are_counted_while_they_move_and_never_fall() {
    let backend = echo_backend();
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Want::default() });
    let of = |direction: &str| format!("gatepost_relayed_bytes_total{{protocol=\"imap\",direction=\"{direction}\"}}");
    let (up, down) = (of("to_backend"), of("to_client"));
    let mut last = (0.0, 0.0);
    let mut look = || {
        let scrape = Scrape::of(&gate);
        let now = (scrape.value(&up), scrape.value(&down));
        assert!(now.0 >= last.0 && now.1 >= last.1, "{last:?} {now:?}");
        last = now;
        now
    };
    for _ in 0..3 {
        let mut client = gate.client();
        assert!(client.login("alice", "x").is_ok());
        let (before, _) = look();
        for _ in 0..20 {
            assert!(client.command("NOOP some words that are not short").is_ok());
        }
        // The session goes on, and is in.
        let (now, _) = look();
        assert!(now >= before + 20.0 * 39.0, "{before} {now}");
        client.send("x LOGOUT\r\n");
        // At its end many look.
        for _ in 0..50 {
            look();
        }
    }
    let ends = gate.gatepost.log().wait_for_count(" info end ", 3);
    let word = |line: &str, name: &str| -> f64 {
        line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap().parse().unwrap()
    };
    let sum = |name: &str| ends.iter().map(|line| word(line, name)).sum::<f64>();
    let scrape = Scrape::of(&gate);
    assert_eq!((scrape.value(&up), scrape.value(&down)), (sum("in"), sum("out")), "as the journal has it");
}

#[test]
fn reloads_are_told_and_figures_survive_them() {
    let (mut gate, _backend, _on) = lively();
    let lookups = "gatepost_lookup_duration_seconds_count{database=\"main\"}";
    let before = Scrape::of(&gate).value(lookups);
    gate.gatepost.reload();
    let after = Scrape::until(&gate, "gatepost_config_generation", 2.0);
    assert_eq!((before, after.value(lookups)), (6.0, 6.0));
    assert_eq!(after.value("gatepost_reloads_total{outcome=\"ok\"}"), 1.0);
    gate.gatepost.reload_with("version = 1\nnonsense = 1\n");
    let refused = Scrape::until(&gate, "gatepost_config_last_reload_successful", 0.0);
    assert_eq!(refused.value("gatepost_config_generation"), 2.0);
    assert_eq!(refused.value("gatepost_reloads_total{outcome=\"failed\"}"), 1.0);
}

#[test]
fn who_may_ask_what() {
    let backend = echo_backend();
    let dir = Dir::new();
    dir.write("token", "correct-horse-battery-staple\n");
    let users = everybody_at(backend.addr(), "");
    let more = "[admin]\naddress = [\"127.0.0.1:0\"]\ntoken_file = \"token\"\n";
    let text = config(&Want { users: &users, more, ..Want::default() });
    let mut gate = Gate::start_with(dir, &text.replace("drain = \"0s\"", "drain = \"60s\""));
    let line = gate.gatepost.wait_for("admin API on");
    let at = line.trim_end_matches('"').rsplit(' ').next().unwrap().to_owned();
    let ask = |request: &str| http(TcpStream::connect(&at).unwrap(), request);
    assert_eq!(ask("GET /metrics HTTP/1.1").0, 401);
    let (status, text) = ask("GET /metrics HTTP/1.1\r\nAuthorization: Bearer correct-horse-battery-staple");
    assert!(status == 200 && text.contains("gatepost_build_info{version="), "{status} {text}");
    assert_eq!(ask("GET /livez HTTP/1.1"), (200, "live\n".to_owned()));
    assert_eq!(ask("GET /readyz HTTP/1.1"), (200, "ready\n".to_owned()));
    assert_eq!(ask("GET /readyz/.. HTTP/1.1").0, 401);
    assert_eq!(on_socket(&gate, "GET /readyz HTTP/1.1"), (200, "ready\n".to_owned()));

    // While the last sessions go on it lives, and is not ready for new ones.
    let mut client = gate.client();
    assert!(client.login("alice", "x").is_ok());
    gate.gatepost.signal(rustix::process::Signal::TERM);
    gate.gatepost.wait_for(" stopping ");
    let (status, text) =
        poll(PATIENCE, || Some(on_socket(&gate, "GET /readyz HTTP/1.1")).filter(|(status, _)| *status != 200)).unwrap();
    assert_eq!((status, text.as_str()), (503, "stopping\n"));
    assert_eq!(on_socket(&gate, "GET /livez HTTP/1.1").0, 200);
    assert!(client.command("NOOP").is_ok());
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let (gate, _backend, _on) = lively();
    let Some((fine, said)) = promtool(Path::new("/"), &["check", "metrics"], &Scrape::of(&gate).0) else { return };
    assert!(fine && said.is_empty(), "{said}");
    // The tool does look.
    let (fine, _) = promtool(Path::new("/"), &["check", "metrics"], "# TYPE a counter\na 1\n").unwrap();
    assert!(!fine);
}

#[test]
fn every_figure_is_documented_as_it_is() {
    let (gate, _backend, _on) = lively();
    let page = std::fs::read_to_string(shipped("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, kind, labels, ..] = cells.as_slice() else { return None };
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        matches!(*kind, "counter" | "gauge" | "histogram")
            .then(|| (name.trim_matches('`').to_owned(), ((*kind).to_owned(), labels)))
    });
    let documented: BTreeMap<String, (String, BTreeSet<String>)> = rows.collect();
    assert_eq!(documented, Scrape::of(&gate).families());
}
