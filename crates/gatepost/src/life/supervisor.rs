//! The supervisor that started us, as far as there is one: what it is told, and the watchdog.

use super::notify::Notify;
use super::pulse::Pulse;
use crate::journal::{Journal, Level};
use relay::clock::Clock;
use std::io;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Our side of the talk with systemd. Without it everything here does nothing.
pub struct Supervisor {
    notify: Notify,
    /// The way to the service manager while a successor has it.
    silent: Notify,
    journal: Journal,
    watchdog: Option<(Interval, Pulse)>,
    /// The last status: it is not said twice.
    status: String,
    /// The last status is about trouble, and stays until something is ready again.
    trouble: bool,
    stuck: bool,
    deaf: bool,
}

impl Supervisor {
    /// Begins the talk; the clocks are those of the shards.
    pub fn new(notify: Notify, journal: Journal, clocks: Vec<Clock>) -> Supervisor {
        let watchdog = Pulse::wanted().filter(|_| notify.is_wanted()).map(|every| {
            let mut beat = interval(every);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            (beat, Pulse::new(clocks, every))
        });
        Supervisor {
            notify,
            silent: Notify::default(),
            journal,
            watchdog,
            status: String::new(),
            trouble: false,
            stuck: false,
            deaf: false,
        }
    }

    /// Everything is up.
    pub fn ready(&mut self, status: &str) {
        self.trouble = false;
        status.clone_into(&mut self.status);
        let sent = self.notify.ready(status);
        self.heard(sent);
    }

    /// All goes on, but something did not work: this is shown until something else does.
    pub fn ready_after_trouble(&mut self, status: &str) {
        self.ready(status);
        self.trouble = true;
    }

    /// A reload begins.
    pub fn reloading(&mut self) {
        self.status.clear();
        let sent = self.notify.reloading();
        self.heard(sent);
    }

    /// One line for people, if it is a new one.
    pub fn status(&mut self, status: &str) {
        if self.notify.is_wanted() && !self.trouble && self.status != status {
            status.clone_into(&mut self.status);
            let sent = self.notify.status(status);
            self.heard(sent);
        }
    }

    /// The end begins, and may take this long.
    pub fn stopping(&mut self, within: Duration, status: &str) {
        let sent = self.notify.stopping(within, status);
        self.heard(sent);
    }

    /// Another process is in charge now, and speaks for the service; from here on we are silent.
    pub fn succeeded_by(&mut self, successor: u32, status: &str) {
        let sent = self.notify.main_process(successor, status);
        self.heard(sent);
        self.silent = std::mem::take(&mut self.notify);
        self.watchdog = None;
    }

    /// That process is gone: the service is ours again, so that our end is its end.
    pub fn take_back(&mut self, status: &str) {
        self.notify = std::mem::take(&mut self.silent);
        let sent = self.notify.main_process(std::process::id(), status);
        self.heard(sent);
    }

    /// Waits for the watchdog's next turn and tells it that we live, if all shards do. Forever, without a watchdog.
    pub async fn watch(&mut self) {
        let Some((beat, pulse)) = &mut self.watchdog else { return std::future::pending().await };
        beat.tick().await;
        match pulse.beats() {
            Ok(()) => {
                self.stuck = false;
                let sent = self.notify.alive();
                self.heard(sent);
            }
            Err(shards) => {
                if !std::mem::replace(&mut self.stuck, true) {
                    let text = format!("shards {shards:?} stand still; the watchdog is not told that we live until they move");
                    self.journal.say(Level::Error, "watchdog", &text);
                }
            }
        }
    }

    /// Said once, not with every beat.
    fn heard(&mut self, sent: io::Result<()>) {
        match sent {
            Ok(()) => self.deaf = false,
            Err(e) if !std::mem::replace(&mut self.deaf, true) => {
                self.journal.say(Level::Error, "supervisor", &format_args!("NOTIFY_SOCKET: {e}"));
            }
            Err(_) => {}
        }
    }
}
