//! `gatepost sessions` (`who`): who is on.

use super::UNREACHABLE;
use super::ask::{At, Whom, ask_all, json_line, query, shown};
use super::table::Table;
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Who is meant; all kinds of words that are given must match.
#[derive(Args, Clone, Default)]
pub struct Chosen {
    /// The user, with * and ?; several times: any of them
    #[arg(long, value_name = "MASK")]
    user: Vec<String>,
    /// The name that the backend was given, with * and ?
    #[arg(long, value_name = "MASK")]
    destuser: Option<String>,
    /// The client's address or network
    #[arg(long, value_name = "ADDRESS[/BITS]")]
    client: Vec<String>,
    /// The backend: address, address:port, network, or the row's host
    #[arg(long, value_name = "BACKEND")]
    backend: Vec<String>,
    /// The protocol: imap, pop3, managesieve, submission or lmtp
    #[arg(long)]
    protocol: Option<String>,
    /// The session id
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// talking, signing-in, held or relayed
    #[arg(long)]
    state: Option<String>,
}

impl Chosen {
    /// For the query.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        pairs.extend(self.user.iter().map(|mask| ("user", mask.clone())));
        pairs.extend(self.client.iter().map(|net| ("client", net.clone())));
        pairs.extend(self.backend.iter().map(|backend| ("backend", backend.clone())));
        let single =
            [("destuser", &self.destuser), ("protocol", &self.protocol), ("session", &self.session), ("state", &self.state)];
        pairs.extend(single.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        pairs
    }

    /// With these users instead.
    pub fn users(users: &[String]) -> Chosen {
        Chosen { user: users.to_vec(), ..Chosen::default() }
    }
}

#[derive(Args)]
pub struct Sessions {
    #[command(flatten)]
    chosen: Chosen,
    /// As JSON, with all that is known
    #[arg(long)]
    json: bool,
    /// Again every two seconds, until interrupted
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    whom: Whom,
}

impl Sessions {
    /// Lists them.
    pub fn go(&self, config: &Path) -> ExitCode {
        let at = match self.whom.all(config) {
            Ok(at) => at,
            Err(code) => return code,
        };
        let pairs = self.chosen.pairs();
        loop {
            let sessions = match list("sessions", &at, &pairs) {
                Ok(sessions) => sessions,
                Err(code) => return code,
            };
            if self.json {
                tell!("{}", json_line(&json!({ "version": 1, "total": sessions.len(), "sessions": sessions })));
                return ExitCode::SUCCESS;
            }
            let mut text = String::new();
            if self.watch && std::io::stdout().is_terminal() {
                text.push_str("\x1b[H\x1b[2J");
            }
            text.push_str(&table(&sessions).columns());
            text.push_str(&format!("{} connections\n", sessions.len()));
            // A pager that was closed is no failure.
            if !super::is_read(&text) || !self.watch {
                return ExitCode::SUCCESS;
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    }
}

/// The sessions of all processes that have some.
///
/// # Errors
/// Told already.
pub fn list(verb: &str, at: &[At], pairs: &[(&str, String)]) -> Result<Vec<Value>, ExitCode> {
    let path = format!("/v1/sessions?{}", query(pairs));
    let mut all = Vec::new();
    for (at, answer) in ask_all(verb, at, &Method::GET, &path)? {
        match serde_json::from_slice::<Value>(&answer.body).map(|mut said| said.get_mut("sessions").map(Value::take)) {
            Ok(Some(Value::Array(mut sessions))) => all.append(&mut sessions),
            _ => {
                eprintln!("gatepost {verb}: {at}: its answer is no list of sessions");
                return Err(ExitCode::from(UNREACHABLE));
            }
        }
    }
    Ok(all)
}

/// A field as text; nothing where it is not there.
pub fn field(session: &Value, name: &str) -> String {
    match session.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn table(sessions: &[Value]) -> Table {
    let mut table = Table::new([
        "user",
        "client",
        "backend",
        "protocol",
        "state",
        "age",
        "idle",
        "to-backend",
        "to-client",
        "tls",
        "session",
    ]);
    for session in sessions {
        let text = |name: &str| field(session, name);
        let number = |name: &str| session.get(name).and_then(Value::as_u64).unwrap_or(0);
        let destuser = text("destuser");
        let user = text("user");
        let who = match (user.is_empty(), destuser.is_empty() || destuser == user) {
            (true, _) => "-".to_owned(),
            (false, true) => user,
            (false, false) => format!("{user} as {destuser}"),
        };
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let tls = text("tls");
        table.row(vec![
            who,
            text("client"),
            or_dash(text("backend")),
            text("protocol"),
            text("state"),
            span(number("age")),
            span(number("idle")),
            octets(number("to_backend")),
            octets(number("to_client")),
            or_dash(tls.split(':').next().unwrap_or_default().to_owned()),
            shown(&text("session")),
        ]);
    }
    table
}

/// Seconds for people: 42s, 3m05s, 2h07m, 3d04h.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Octets for people, three digits or so.
fn octets(octets: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| octets >= *unit) {
        None => format!("{octets}B"),
        Some((unit, name)) => {
            let tenths = u128::from(octets) * 10 / u128::from(unit);
            if tenths < 100 { format!("{}.{}{name}", tenths / 10, tenths % 10) } else { format!("{}{name}", tenths / 10) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        assert_eq!([0, 59, 60, 3599, 3600, 90061].map(span), ["0s", "59s", "1m00s", "59m59s", "1h00m", "1d01h"]);
        assert_eq!(
            [0, 1023, 1024, 1536, 10 << 20, u64::MAX].map(octets),
            ["0B", "1023B", "1.0KiB", "1.5KiB", "10MiB", "17179869183GiB"]
        );
    }
}
