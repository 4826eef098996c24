//! Gatepost's benchmark: `make bench`, or `cargo run --release -p bench -- SCENARIO`.
//!
//! It starts the `gatepost` that lies beside it (build both with `--release`), a cheap scripted backend and its own clients,
//! all on loopback, and prints a Markdown table. Scenarios:
//!
//! * `idle [SESSIONS]`: memory per signed-in idle session, in clear and with TLS.
//!
//! bench/RUNS.md keeps dated results with the machine and the commit.

// A program that prints tables.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod backend;
mod client;
mod idle;
mod proxy;

use std::process::ExitCode;

/// What went wrong: a sentence for the person at the terminal.
pub type Trouble = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_else(|| "idle".to_owned());
    let done = match scenario.as_str() {
        "idle" => match words.next().map_or(Ok(2000), |n| n.parse()) {
            Ok(sessions) => idle::run(sessions),
            Err(e) => Err(format!("idle SESSIONS: {e}").into()),
        },
        other => Err(format!("there is no scenario {other}; there is: idle [SESSIONS]").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}
