//! `gatepost kick`: ends connections. Both sides are closed within a second, the client with a goodbye where one can be said.

use super::USAGE;
use super::ask::{At, Whom, ask_all, query};
use super::sessions::Chosen;
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

#[derive(Args)]
pub struct Kick {
    /// Users, with * and ?; the same as --user
    #[arg(value_name = "USER")]
    users: Vec<String>,
    #[command(flatten)]
    chosen: Chosen,
    /// Everybody
    #[arg(long)]
    all: bool,
    /// Let their logins wait for so long afterwards, 300s at most; 0s only ends an earlier hold, and kicks nobody
    #[arg(long, value_name = "TIME")]
    hold: Option<String>,
    /// Only say how many would be ended
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whom: Whom,
}

impl Kick {
    /// Ends them.
    pub fn go(&self, config: &Path) -> ExitCode {
        let mut pairs = Chosen::users(&self.users).pairs();
        pairs.extend(self.chosen.pairs());
        if pairs.is_empty() && !self.all {
            eprintln!("gatepost kick: whom? Name a user, --client, --backend, --session or another word; or --all");
            return ExitCode::from(USAGE);
        }
        if self.all && !pairs.is_empty() {
            eprintln!("gatepost kick: --all, or words that say whom: not both");
            return ExitCode::from(USAGE);
        }
        if self.all {
            pairs.push(("all", "1".to_owned()));
        }
        if let Some(hold) = &self.hold {
            pairs.push(("hold", hold.clone()));
        }
        if self.dry_run {
            pairs.push(("dry_run", "1".to_owned()));
        }
        let at = match self.whom.all(config) {
            Ok(at) => at,
            Err(code) => return code,
        };
        match kick("kick", &at, &pairs) {
            Ok(kicked) if self.json => tell!("{}", json!({ "version": 1, "kicked": kicked, "dry_run": self.dry_run })),
            Ok(kicked) if self.dry_run => tell!("{kicked} connections would be kicked"),
            Ok(kicked) => tell!("{kicked} connections kicked"),
            Err(code) => return code,
        }
        ExitCode::SUCCESS
    }
}

/// Has all processes that have sessions end those that are meant: how many.
///
/// # Errors
/// Told already.
pub fn kick(verb: &str, at: &[At], pairs: &[(&str, String)]) -> Result<u64, ExitCode> {
    let path = format!("/v1/kick?{}", query(pairs));
    let mut kicked = 0;
    for (_, answer) in ask_all(verb, at, &Method::POST, &path)? {
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        kicked += said.get("kicked").and_then(Value::as_u64).unwrap_or(0);
    }
    Ok(kicked)
}
