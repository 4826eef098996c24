//! The old process after an upgrade: its sessions live on in it until they end.
//!
//! It accepts nobody, speaks to the service manager no more, and still answers for its sessions, at the control socket's path
//! with its process id behind it. It ends when nobody is left, after `limits.upgrade_drain`, or when told to stop. Should the
//! successor die in that time nobody serves any more: then it ends at once, and as a failure, so that the service is restarted.

use super::Stop;
use super::supervise::{Running, refused};
use crate::admin::{Listening, Order, Sockets, Succeeded};
use crate::journal::Level;
use crate::life::succession::{Refused, Upgraded};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How often it is looked whether the successor lives.
const LOOK: Duration = Duration::from_secs(1);

/// Why this process ends now.
enum End {
    Empty,
    Late,
    Told,
    Alone(String),
}

/// Puts the successor in charge and lives on.
pub(super) async fn outlive(
    mut running: Running<'_>,
    mut upgraded: Upgraded,
    answer: oneshot::Sender<Result<Succeeded, Refused>>,
) -> Result<(), Stop> {
    let successor = upgraded.successor();
    let place = running.listening.leave().await;
    let beside = place.map(|path| Beside(with_process_id(path)));
    let text = format!("process {successor} serves; sessions of process {} go on there", std::process::id());
    running.supervisor.succeeded_by(successor, &text);
    running.server.bequeath();
    running.server.close_doors().await;
    upgraded.put_in_charge();
    let limit = running.server.house().live.load().meant.limits.upgrade_drain;
    let connections = running.server.connections();
    let left = format!("{connections} connections may go on here for {} s", limit.as_secs());
    running.journal.say(Level::Info, "upgraded", &format_args!("process {successor} serves; {left}"));
    let _asked = beside.as_ref().and_then(|beside| answer_at(&running, beside));
    let _ = answer.send(Ok(Succeeded::by(successor, connections)));

    let until = Instant::now() + limit;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let serves = format!("process {successor} serves now; ask that one");
    let end = loop {
        tokio::select! {
            () = running.server.empty() => break End::Empty,
            () = sleep_until(until) => break End::Late,
            () = running.signals.stop.told() => break End::Told,
            _ = look.tick() => if let Some(status) = upgraded.has_ended() {
                break End::Alone(status.to_string());
            },
            _ = running.signals.hangup.recv() => upgraded.reload(),
            _ = running.signals.rotated.recv() => running.journal.rotate(),
            Some(order) = running.orders.recv() => match order {
                Order::Reload(answer) => drop(answer.send(Err(vec![serves.clone()]))),
                Order::Upgrade(answer) => drop(answer.send(Err(refused(&serves)))),
            },
        }
    };
    // The command that ordered the upgrade is one of those who wait.
    running.listening.answered().await;
    match end {
        End::Empty | End::Late => running.stop(Duration::ZERO).await,
        End::Told => {
            let patience = running.patience;
            running.stop(patience).await;
        }
        End::Alone(status) => {
            let text = format!("the successor, process {successor}, has ended ({status}): nobody serves any more");
            running.journal.say(Level::Error, "successor-lost", &text);
            running.supervisor.take_back(&text);
            running.stop(Duration::ZERO).await;
            return Err(Stop::Failed(text));
        }
    }
    Ok(())
}

/// Answers for the sessions that are left.
fn answer_at(running: &Running<'_>, beside: &Beside) -> Option<Listening> {
    let meant = &running.server.house().live.load().meant;
    let listening = super::control_socket(meant, &beside.0).and_then(|listener| {
        let sockets = Sockets { control: Some((beside.0.clone(), listener)), addresses: Vec::new() };
        Listening::start(sockets, &running.desk)
    });
    match listening {
        Ok(listening) => Some(listening),
        Err(e) => {
            let text = format!("{}: {e}; the sessions of this process can be neither listed nor kicked", beside.0.display());
            running.journal.say(Level::Warning, "control", &text);
            None
        }
    }
}

/// `PATH.PID`.
fn with_process_id(path: PathBuf) -> PathBuf {
    let mut name = path.into_os_string();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

/// A socket file that goes with its process.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
