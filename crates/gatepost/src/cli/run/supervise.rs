//! The supervising loop: signals, orders, the watchdog, and the end.

use super::Stop;
use super::outlive::outlive;
use crate::admin::{Desk, Listening, Order, Succeeded};
use crate::journal::{Journal, Level};
use crate::life::succession::{Estate, Program, Refused, START, Upgrade, Upgraded};
use crate::life::supervisor::Supervisor;
use crate::server::Server;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How often certificates are looked at for changes.
const CERTIFICATES: Duration = Duration::from_secs(5);
/// What a stop may take beyond the drain: goodbyes, and what a supervisor should leave us besides.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What may come from outside. From here on they no longer end the process by themselves.
pub(super) struct Signals {
    pub(super) hangup: Signal,
    /// SIGUSR1: the log file was rotated.
    pub(super) rotated: Signal,
    pub(super) stop: Stopping,
}

/// SIGTERM and SIGINT.
pub(super) struct Stopping {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn heard() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            rotated: signal(SignalKind::user_defined1())?,
            stop: Stopping { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? },
        })
    }
}

impl Stopping {
    /// The order to stop.
    pub(super) async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// All that the loop has in hand.
pub(super) struct Running<'a> {
    pub(super) config: &'a Path,
    pub(super) server: Server,
    pub(super) orders: mpsc::Receiver<Order>,
    /// Kept, so that there is always somebody who may give orders.
    pub(super) desk: Desk,
    pub(super) listening: Listening,
    pub(super) supervisor: Supervisor,
    pub(super) signals: Signals,
    pub(super) journal: Journal,
    /// This program, for a successor; or why it is not known.
    pub(super) program: Result<Program, String>,
    /// `limits.drain`.
    pub(super) patience: Duration,
}

/// An upgrade under way, and who waits for it.
struct Pending {
    task: JoinHandle<Result<Upgraded, Refused>>,
    answer: oneshot::Sender<Result<Succeeded, Refused>>,
}

impl Running<'_> {
    /// Serves until told to stop, or until a successor has taken over and nobody is left here.
    pub(super) async fn supervise(mut self) -> Result<(), Stop> {
        let mut certificates = tokio::time::interval(CERTIFICATES);
        let mut pending: Option<Pending> = None;
        self.journal.say(Level::Info, "ready", &format_args!("gatepost {}", env!("CARGO_PKG_VERSION")));
        self.supervisor.ready(&self.serving());
        loop {
            tokio::select! {
                // During an upgrade it waits for who serves afterwards.
                _ = self.signals.hangup.recv(), if pending.is_none() => {
                    // What came of it stands in the journal.
                    let _ = self.reload();
                }
                _ = self.signals.rotated.recv() => self.journal.rotate(),
                Some(order) = self.orders.recv() => match order {
                    Order::Reload(answer) if pending.is_some() => drop(answer.send(Err(vec![UNDER_WAY.to_owned()]))),
                    Order::Reload(answer) => drop(answer.send(self.reload())),
                    Order::Upgrade(answer) if pending.is_some() => drop(answer.send(Err(refused(UNDER_WAY)))),
                    Order::Upgrade(answer) => match self.begin_upgrade() {
                        Ok(task) => pending = Some(Pending { task, answer }),
                        Err(refused) => self.not_upgraded(refused, answer),
                    }
                },
                outcome = outcome(&mut pending) => {
                    let Some(Pending { answer, .. }) = pending.take() else { continue };
                    match outcome {
                        Ok(upgraded) => return outlive(self, upgraded, answer).await,
                        Err(refused) => self.not_upgraded(refused, answer),
                    }
                }
                _ = certificates.tick() => {
                    self.server.reread_certificates();
                    self.server.tell_overload();
                    let status = self.serving();
                    self.supervisor.status(&status);
                }
                () = self.supervisor.watch() => {}
                () = self.signals.stop.told() => break,
            }
        }
        if let Some(Pending { task, .. }) = pending {
            // A successor that is not in charge yet ends with us.
            task.abort();
            if let Ok(Ok(upgraded)) = task.await {
                upgraded.abandon();
            }
        }
        let patience = self.patience;
        self.stop(patience).await;
        Ok(())
    }

    /// Ends: sessions may go on for so long, unless a second order to stop comes.
    pub(super) async fn stop(mut self, patience: Duration) {
        let status = format!("{} sessions may go on for {} s", self.server.sessions(), patience.as_secs());
        self.journal.say(Level::Info, "stopping", &status);
        self.supervisor.stopping(patience + LAST_WORDS, &format!("Stopping: {status}."));
        self.server.drain(patience, self.signals.stop.told()).await;
    }

    /// What the service manager shows of us.
    fn serving(&self) -> String {
        format!("Serving {} sessions on {} listeners.", self.server.sessions(), self.server.listening().len())
    }

    /// Starts a successor.
    fn begin_upgrade(&mut self) -> Result<JoinHandle<Result<Upgraded, Refused>>, Refused> {
        let program = self.program.as_ref().map_err(|e| refused(&format!("it is not known where this program is: {e}")))?;
        let admin = self.listening.copies().map_err(|e| refused(&e.to_string()))?;
        let upgrade = Upgrade::begin(program, Estate { listeners: self.server.estate(), admin }, START)?;
        let text = format!("{} is started as process {}", program.path().display(), upgrade.successor());
        self.journal.say(Level::Info, "upgrading", &text);
        self.supervisor.status(&format!("Upgrading: {text}."));
        Ok(tokio::spawn(upgrade.outcome()))
    }

    fn not_upgraded(&mut self, refused: Refused, answer: oneshot::Sender<Result<Succeeded, Refused>>) {
        for problem in &refused.problems {
            self.journal.say(Level::Error, "upgrade-refused", problem);
        }
        self.journal.say(Level::Error, "upgrade-refused", &"this process goes on");
        let first = headline(&refused.problems);
        self.supervisor.ready_after_trouble(&format!("Upgrade refused, the old process goes on: {first}"));
        let _ = answer.send(Err(refused));
    }

    /// Reads the configuration anew, and tells the supervisor when that is over.
    fn reload(&mut self) -> Result<Vec<String>, Vec<String>> {
        self.supervisor.reloading();
        let outcome = self.put_into_force();
        self.server.count_reload(outcome.is_ok());
        match &outcome {
            Ok(_) => {
                let status = self.serving();
                self.supervisor.ready(&status);
            }
            // Also the end of the reload: there is no word for one that failed.
            Err(problems) => self
                .supervisor
                .ready_after_trouble(&format!("Reload refused, the old configuration stays in force: {}", headline(problems))),
        }
        outcome
    }

    fn put_into_force(&mut self) -> Result<Vec<String>, Vec<String>> {
        let problems = match crate::config::load(self.config, &crate::cli::catalog()) {
            Ok(loaded) => {
                let drain = loaded.meant.limits.drain;
                match self.server.reload(loaded.meant) {
                    Ok(mut remarks) => {
                        remarks.extend(loaded.warnings.iter().map(ToString::to_string));
                        self.patience = drain;
                        self.journal.say(Level::Info, "reloaded", &"the new configuration is in force");
                        for line in remarks.iter().flat_map(|remark| remark.lines()) {
                            self.journal.say(Level::Warning, "reload", &line);
                        }
                        return Ok(remarks);
                    }
                    Err(problems) => problems,
                }
            }
            Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
        };
        for line in problems.iter().flat_map(|problem| problem.lines()) {
            self.journal.say(Level::Error, "reload-refused", &line);
        }
        self.journal.say(Level::Error, "reload-refused", &"the old configuration stays in force");
        Err(problems)
    }
}

const UNDER_WAY: &str = "an upgrade is under way; try again when it is over";

pub(super) fn refused(problem: &str) -> Refused {
    Refused { code: crate::cli::FAILED, problems: vec![problem.to_owned()] }
}

/// The one line that a status has room for: the first error, since warnings of the same configuration may stand before it.
fn headline(problems: &[String]) -> &str {
    let error = problems.iter().find(|line| line.contains(": error["));
    error.or(problems.first()).map_or("see the journal", String::as_str)
}

/// Waits for the end of an upgrade, if there is one.
async fn outcome(pending: &mut Option<Pending>) -> Result<Upgraded, Refused> {
    match pending {
        Some(pending) => (&mut pending.task).await.unwrap_or_else(|e| Err(refused(&e.to_string()))),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_about_the_error_and_not_about_a_warning_before_it() {
        let lines = ["a.toml:1:1: warning[file]: x", "  fix: y", "a.toml:9:1: error[unknown]: z", "  fix: w"].map(str::to_owned);
        assert_eq!(headline(&lines), lines[2]);
        assert_eq!(headline(&lines[..2]), lines[0]);
        assert_eq!(headline(&[]), "see the journal");
    }
}
