//! `gatepost upgrade`: has the running Gatepost start its successor and hand over to it.

use super::ask::{Whom, ask, refusal, shown_lines};
use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

#[derive(Args)]
pub struct Upgrade {
    #[command(flatten)]
    whom: Whom,
}

impl Upgrade {
    /// Checks the files, then has the successor started.
    pub fn go(&self, path: &Path) -> ExitCode {
        // As with a reload.
        if !self.whom.is_named()
            && let Err(code) = super::load(path)
        {
            return code;
        }
        let answer = match self.whom.serving(path).and_then(|at| ask("upgrade", &at, Method::POST, "/v1/upgrade")) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let number = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or_default();
        match answer.status {
            StatusCode::OK => {
                let (successor, predecessor, connections) = (number("successor"), number("predecessor"), number("connections"));
                tell!("process {successor} serves; process {predecessor} goes on with {connections} connections until they end");
                ExitCode::SUCCESS
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                let problems = said.get("problems").and_then(Value::as_array).into_iter().flatten();
                problems.filter_map(Value::as_str).for_each(|problem| eprintln!("{}", shown_lines(problem)));
                eprintln!("gatepost upgrade: {}", refusal(&answer));
                ExitCode::from(u8::try_from(number("code")).unwrap_or(super::FAILED).max(super::FAILED))
            }
            _ => {
                eprintln!("gatepost upgrade: {}", refusal(&answer));
                ExitCode::from(super::FAILED)
            }
        }
    }
}
