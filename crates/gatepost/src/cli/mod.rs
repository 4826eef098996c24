//! The command line: `gatepost VERB`, one file per verb.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings, 69 unreachable, 78 bad configuration.

// The one room that talks to a person on a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// `println!` for what a verb was asked for: a reader that has gone, as in `gatepost sessions | head`, is no failure.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::tell_whole(&format!("{}\n", format_args!($($text)*))) };
}

/// The standard library's panics where nobody reads standard error any more, as in `gatepost check 2>&1 | head`.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::complain(&format!($($text)*)) };
}

mod ask;
mod check;
mod demo;
mod doctor;
mod doveadm;
mod explain;
mod kick;
mod reload;
mod run;
mod sessions;
mod show;
mod status;
mod table;
mod trace;
mod upgrade;
mod version;

use crate::config::{Catalog, Loaded, Problems};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Failed.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// Done, with warnings.
const WARNINGS: u8 = 3;
/// Nobody answers at the control socket.
const UNREACHABLE: u8 = 69;
/// Bad configuration, as sysexits(3) EX_CONFIG.
const BAD_CONFIG: u8 = 78;

/// A line to standard error. If that cannot be written there is nowhere left to say so.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Text with its ends of lines, to standard output.
fn tell_whole(text: &str) {
    let _ = is_read(text);
}

/// The same; false where nobody reads it, so that whoever goes on telling can end.
fn is_read(text: &str) -> bool {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => false,
        Err(e) => {
            eprintln!("gatepost: standard output: {e}");
            std::process::exit(i32::from(FAILED));
        }
    }
}

#[derive(Parser)]
#[command(
    name = "gatepost",
    version,
    about = "The mail edge: finds each user's mail server, says who is calling, and gets out of the way"
)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The same as `check`
    #[arg(short = 't', conflicts_with = "show_effective")]
    test: bool,
    /// The same as `show --effective`
    #[arg(short = 'T', id = "show_effective")]
    show: bool,
    #[command(flatten)]
    file: File,
}

#[derive(Args, Clone)]
struct File {
    /// The configuration file; conf.d/*.toml beside it is read too
    #[arg(short, long, value_name = "FILE", global = true, default_value = "/etc/gatepost/gatepost.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve, in the foreground
    Run(run::Run),
    /// Try Gatepost out: starts two small mail servers, a user database and Gatepost on free loopback ports
    Demo(demo::Demo),
    /// Check the configuration and say everything that is wrong with it
    Check,
    /// Show the configuration
    Show(show::Show),
    /// Say how a login, or a recipient's mail, would be decided, step by step, without calling a mail server
    #[command(subcommand)]
    Explain(explain::Explain),
    /// Tell the running Gatepost to read its configuration anew, without touching a session
    Reload(reload::Reload),
    /// Have the running Gatepost start the program that is now at its path, and hand its listening sockets over to it
    Upgrade(upgrade::Upgrade),
    /// How it stands: backends, logins, lookups, limits, certificates
    Status(status::Status),
    /// Have balancers go elsewhere: /readyz says no; whoever comes is served
    Drain(status::Drain),
    /// Have balancers come again
    Undrain(status::Drain),
    /// Who is on: user, client, backend, protocol, state, age, idle, bytes, TLS, session id
    #[command(alias = "who")]
    Sessions(sessions::Sessions),
    /// End connections, and let their users' logins wait for a while if you like
    Kick(kick::Kick),
    /// Follow the dialogues of a user live, both legs and every decision, secrets masked
    Trace(trace::Trace),
    /// Prove that something works, by doing it
    #[command(subcommand)]
    Doctor(doctor::Doctor),
    /// The few commands of doveadm that scripts use: who, kick, proxy list, proxy kick
    Doveadm(doveadm::Doveadm),
    /// Say which version this is
    Version,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            let _ = said.print();
            let usage = if doveadm::is_meant(std::env::args_os().skip(1)) { doveadm::USAGE } else { USAGE };
            return if said.use_stderr() { ExitCode::from(usage) } else { ExitCode::SUCCESS };
        }
    };
    raise_descriptors();
    match cli.verb {
        Some(Verb::Run(run)) => run.go(&cli.file.config),
        Some(Verb::Demo(demo)) => demo.go(),
        Some(Verb::Check) => check::go(&cli.file.config),
        Some(Verb::Show(show)) => show.go(&cli.file.config),
        Some(Verb::Explain(explain)) => explain.go(&cli.file.config),
        Some(Verb::Reload(reload)) => reload.go(&cli.file.config),
        Some(Verb::Upgrade(upgrade)) => upgrade.go(&cli.file.config),
        Some(Verb::Status(status)) => status.go(&cli.file.config),
        Some(Verb::Drain(drain)) => drain.go(&cli.file.config, true),
        Some(Verb::Undrain(drain)) => drain.go(&cli.file.config, false),
        Some(Verb::Sessions(sessions)) => sessions.go(&cli.file.config),
        Some(Verb::Kick(kick)) => kick.go(&cli.file.config),
        Some(Verb::Trace(trace)) => trace.go(&cli.file.config),
        Some(Verb::Doctor(doctor)) => doctor.go(&cli.file.config),
        Some(Verb::Doveadm(doveadm)) => doveadm.go(&cli.file.config),
        Some(Verb::Version) => version::go(),
        None if cli.test => check::go(&cli.file.config),
        None if cli.show => show::effective(&cli.file.config),
        None => {
            let _ = Cli::command().print_help();
            ExitCode::from(USAGE)
        }
    }
}

/// As many descriptors as the system lets us have: the limits of `[limits]` follow from it.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What the configuration may name: the rows of the tables.
fn catalog() -> Catalog {
    Catalog {
        protocols: &crate::protocol::NAMES,
        drivers: &crate::users::NAMES,
        later_protocols: &["smtp"],
        later_drivers: &["mysql", "pgsql", "ldap", "oauth2", "auth_http", "http", "dovecot", "popmap", "popmap-regex"],
    }
}

/// Loads the configuration, or says all that is wrong with it.
fn load(path: &std::path::Path) -> Result<Loaded, ExitCode> {
    match crate::config::load(path, &catalog()) {
        Ok(loaded) => Ok(loaded),
        Err(problems) => {
            tell(&problems);
            Err(ExitCode::from(BAD_CONFIG))
        }
    }
}

fn tell(problems: &Problems) {
    eprintln!("{problems}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn each_protocol_stands_in_the_help_of_each_verb_that_takes_one() {
        fn look(command: &Command) -> usize {
            let here = command.get_arguments().filter(|arg| arg.get_long() == Some("protocol"));
            let here = here.map(|arg| {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let signs_in = matches!(command.get_name(), "login" | "identity");
                for protocol in crate::protocol::PROTOCOLS.iter().filter(|row| !signs_in || row.login().is_some()) {
                    assert!(help.contains(protocol.name), "{}: {help}", command.get_name());
                }
            });
            here.count() + command.get_subcommands().map(look).sum::<usize>()
        }
        let found = look(&Cli::command());
        assert!(found >= 5, "sessions, kick, trace, explain login, doctor identity; {found}");
    }
}
