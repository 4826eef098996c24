//! Gatepost's benchmark: `make bench`, or `cargo run --release -p bench -- SCENARIO`.
//!
//! It starts the `gatepost` that lies beside it (build both with `--release`), a cheap scripted backend and its own clients,
//! all on loopback, and prints a Markdown table. Scenarios:
//!
//! * `idle [SESSIONS] [imap|pop3]`: memory per signed-in idle session, in clear and with TLS.
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

/// What clients and the backend speak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// IMAP: clients stay in IDLE.
    Imap,
    /// POP3: clients have signed in and say nothing.
    Pop3,
}

impl Protocol {
    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
        }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_else(|| "idle".to_owned());
    let done = match scenario.as_str() {
        "idle" => match (words.next().map_or(Ok(2000), |n| n.parse()), words.next().as_deref()) {
            (Ok(sessions), None | Some("imap")) => idle::run(sessions, Protocol::Imap),
            (Ok(sessions), Some("pop3")) => idle::run(sessions, Protocol::Pop3),
            (Ok(_), Some(other)) => Err(format!("idle SESSIONS PROTOCOL: {other} is neither imap nor pop3").into()),
            (Err(e), _) => Err(format!("idle SESSIONS: {e}").into()),
        },
        other => Err(format!("there is no scenario {other}; there is: idle [SESSIONS] [imap|pop3]").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}
