//! Gatepost's benchmark: `make bench`, or `cargo run --release -p bench -- SCENARIO`.
//!
//! It starts the `gatepost` that lies beside it (build both with `--release`), a cheap scripted backend and its own clients,
//! all on loopback, and prints a Markdown table. Scenarios:
//!
//! * `idle [SESSIONS] [imap|pop3|managesieve|submission]`: memory per signed-in idle session, in clear and with TLS.
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

/// What clients and the backend speak. Clients have signed in and say nothing, but that in IMAP they stay in IDLE.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// ManageSieve, which has TLS behind STARTTLS only.
    ManageSieve,
    /// Submission.
    Submission,
}

impl Protocol {
    const ALL: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::ManageSieve, Protocol::Submission];

    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
            Protocol::ManageSieve => "managesieve",
            Protocol::Submission => "submission",
        }
    }

    /// The same with TLS from the first byte, where there is such a port.
    pub fn implicit(self) -> Option<String> {
        (self != Protocol::ManageSieve).then(|| format!("{}s", self.name()))
    }

    fn find(name: Option<&str>) -> Result<Protocol, Trouble> {
        let Some(name) = name else { return Ok(Protocol::Imap) };
        let names = || Protocol::ALL.map(Protocol::name).join(", ");
        let found = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name);
        found.ok_or_else(|| format!("idle SESSIONS PROTOCOL: {name} is none of {}", names()).into())
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let scenario = words.next().unwrap_or_else(|| "idle".to_owned());
    let done = match scenario.as_str() {
        "idle" => match (words.next().map_or(Ok(2000), |n| n.parse()), Protocol::find(words.next().as_deref())) {
            (Ok(sessions), Ok(protocol)) => idle::run(sessions, protocol),
            (Ok(_), Err(e)) => Err(e),
            (Err(e), _) => Err(format!("idle SESSIONS: {e}").into()),
        },
        other => Err(format!("there is no scenario {other}; there is: idle [SESSIONS] [PROTOCOL]").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}
