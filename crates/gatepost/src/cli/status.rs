//! `gatepost status`: how it stands; and `drain`, `undrain`.

use super::ask::{Whom, ask, json_line, refusal, shown};
use super::sessions::{field, span};
use super::table::Table;
use super::{FAILED, WARNINGS};
use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

#[derive(Args)]
pub struct Status {
    /// As JSON, with all that is known
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whom: Whom,
}

impl Status {
    /// Shows it. Exit code 3 where something needs an operator: a backend that fails, a limit at 80 %, a certificate that ends
    /// within two weeks.
    pub fn go(&self, config: &Path) -> ExitCode {
        let answer = match self.whom.serving(config).and_then(|at| ask("status", &at, Method::GET, "/v1/status")) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        if answer.status != StatusCode::OK {
            eprintln!("gatepost status: {}", refusal(&answer));
            return ExitCode::from(FAILED);
        }
        let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if self.json {
            tell!("{}", json_line(&status));
        } else {
            super::tell_whole(&text(&status));
        }
        if needs_somebody(&status) { ExitCode::from(WARNINGS) } else { ExitCode::SUCCESS }
    }
}

#[derive(Args)]
pub struct Drain {
    #[command(flatten)]
    whom: Whom,
}

impl Drain {
    /// Has balancers go elsewhere, or come again.
    pub fn go(&self, config: &Path, on: bool) -> ExitCode {
        let (verb, path) = if on { ("drain", "/v1/drain?on=1") } else { ("undrain", "/v1/drain?on=0") };
        match self.whom.serving(config).and_then(|at| ask(verb, &at, Method::POST, path)) {
            Ok(answer) if answer.status == StatusCode::OK => {
                let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                tell!("{}", shown(&field(&said, "phase")));
                ExitCode::SUCCESS
            }
            Ok(answer) => {
                eprintln!("gatepost {verb}: {}", refusal(&answer));
                ExitCode::from(FAILED)
            }
            Err(code) => code,
        }
    }
}

/// A certificate that ends so soon is news.
const DAYS: i64 = 14;
/// A backend whose last failure is longer ago, with nobody who tried it since, is none: its rows may be gone. Seconds.
const STALE: u64 = 600;

fn needs_somebody(status: &Value) -> bool {
    let any = |list: &str, is: &dyn Fn(&Value) -> bool| list_of(status, list).iter().any(is);
    any("backends", &|backend| field(backend, "state") != "up" && number(backend, "last_failure") < STALE)
        || any("limits", &|limit| number(limit, "percent") >= 80)
        || any("certificates", &|certificate| certificate.get("days").and_then(Value::as_i64).is_some_and(|days| days < DAYS))
}

fn list_of<'a>(status: &'a Value, name: &str) -> &'a [Value] {
    status.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(of: &Value, name: &str) -> u64 {
    of.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn ago(of: &Value, name: &str) -> String {
    of.get(name).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), span)
}

fn millis(of: &Value, name: &str) -> String {
    let seconds = of.get(name).and_then(Value::as_f64);
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1}ms", seconds * 1000.0))
}

fn text(status: &Value) -> String {
    let word = |name: &str| shown(&field(status, name));
    let mut text = format!(
        "{} {}: Gatepost {}, process {}, for {}\n",
        word("name"),
        word("phase"),
        word("gatepost"),
        word("pid"),
        span(number(status, "uptime"))
    );
    let sessions = status.get("sessions").and_then(Value::as_object);
    let by_protocol: Vec<String> = sessions.into_iter().flatten().map(|(name, count)| format!("{count} {name}")).collect();
    text.push_str(&format!("{} connections, sessions: {}\n", number(status, "connections"), by_protocol.join(", ")));
    let mut section = |title: &str, table: Table| {
        let rows = if table.is_empty() { "none\n".to_owned() } else { table.columns() };
        text.push_str(&format!("\n{title}\n{rows}"));
    };

    let mut table = Table::new(["protocol", "tls", "address", "connections"]);
    for one in list_of(status, "listeners") {
        table.row(["protocol", "tls", "address", "connections"].map(|name| field(one, name)).to_vec());
    }
    section("Listeners", table);

    let mut table = Table::new([
        "backend",
        "protocol",
        "state",
        "sessions",
        "connecting",
        "waiting",
        "failing",
        "last success",
        "last error",
    ]);
    for one in list_of(status, "backends") {
        let implicit = if one.get("implicit_tls").and_then(Value::as_bool) == Some(true) { " tls" } else { "" };
        let source = field(one, "source");
        let from = if source.is_empty() { String::new() } else { format!(" from {source}") };
        table.row(vec![
            format!("{}{implicit}{from}", field(one, "address")),
            field(one, "protocol"),
            field(one, "state"),
            field(one, "sessions"),
            field(one, "connecting"),
            field(one, "waiting"),
            ago(one, "failing_for"),
            ago(one, "last_success"),
            field(one, "error"),
        ]);
    }
    section("Backends", table);
    let left_out = number(status, "backends_left_out");

    let mut table = Table::new(["protocol", "outcome", "reason", "total", "per second"]);
    for one in list_of(status, "logins") {
        let rate = one.get("per_second").and_then(Value::as_f64).unwrap_or(0.0);
        table.row(vec![
            field(one, "protocol"),
            field(one, "outcome"),
            field(one, "reason"),
            field(one, "total"),
            format!("{rate:.2}"),
        ]);
    }
    section("Logins (rates of the last minute)", table);

    let mut table = Table::new(["database", "questions", "failed", "p50", "p99"]);
    for one in list_of(status, "lookups") {
        table.row(vec![
            field(one, "database"),
            field(one, "count"),
            field(one, "failed"),
            millis(one, "p50"),
            millis(one, "p99"),
        ]);
    }
    section("Lookups (times of the last five to ten minutes)", table);

    let mut table = Table::new(["limit", "used", "of", "percent", "fullest"]);
    for one in list_of(status, "limits") {
        table.row(["name", "used", "limit", "percent", "fullest"].map(|name| field(one, name)).to_vec());
    }
    section("Limits", table);

    let mut table = Table::new(["certificate", "days", "file"]);
    for one in list_of(status, "certificates") {
        table.row(["name", "days", "file"].map(|name| field(one, name)).to_vec());
    }
    section("Certificates", table);
    if left_out > 0 {
        text.push_str(&format!("\n{left_out} more backends are up and have fewer sessions\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_backend_that_nobody_tries_any_more_needs_nobody() {
        let with = |state: &str, last_failure: Option<u64>| {
            needs_somebody(&json!({"backends": [{"state": state, "last_failure": last_failure}]}))
        };
        assert!(with("down", Some(1)) && with("suspect", Some(STALE - 1)));
        assert!(!with("suspect", Some(STALE)) && !with("up", None));
    }
}
