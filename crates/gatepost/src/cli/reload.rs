//! `gatepost reload`: asks the running Gatepost, and waits for its answer.

use super::ask::{Whom, ask, refusal, shown_lines};
use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

#[derive(Args)]
pub struct Reload {
    #[command(flatten)]
    whom: Whom,
}

impl Reload {
    /// Checks the files, then has them put into force.
    pub fn go(&self, path: &Path) -> ExitCode {
        // Whoever names somebody to ask may be on another host, or may not read keys: the one that runs tells all of it, too.
        if !self.whom.is_named()
            && let Err(code) = super::load(path)
        {
            return code;
        }
        let answer = match self.whom.serving(path).and_then(|at| ask("reload", &at, Method::POST, "/v1/reload")) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let lines = |name: &str| -> Vec<String> {
            let list = said.get(name).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(shown_lines).collect()
        };
        match answer.status {
            StatusCode::OK => {
                let remarks = lines("remarks");
                remarks.iter().for_each(|remark| tell!("{remark}"));
                tell!("the new configuration is in force");
                if remarks.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::WARNINGS) }
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                lines("problems").iter().for_each(|problem| eprintln!("{problem}"));
                eprintln!("{}", refusal(&answer));
                ExitCode::from(super::BAD_CONFIG)
            }
            _ => {
                eprintln!("gatepost reload: {}", refusal(&answer));
                ExitCode::from(super::FAILED)
            }
        }
    }
}
