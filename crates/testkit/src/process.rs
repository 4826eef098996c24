//! A child process, in a process group of its own, that ends no later than the test.
//!
//! Three things end it: [`Process::stop`], dropping the value (also while a test panics), and, should the test process
//! itself be killed or abort, a guard: a small shell that holds the reading end of a pipe and kills the group when the
//! pipe breaks. All three aim at the process group that was created here, and at nothing else.
//!
//! The group matters for Dovecot: its master hands sessions to processes that outlive it. A TERM to the master alone
//! leaves the `imap` process of a logged-in client running until that client goes away; sent to the group it ends the
//! session at once with `* BYE Server shutting down.`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::Log;
use crate::wait::{PATIENCE, poll};

/// A running child and everything in its process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    group: Pid,
    guard: Option<Child>,
    output: Log,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with no input and with both outputs appended to the file `output`.
    #[track_caller]
    pub fn start(mut command: Command, output: impl Into<PathBuf>) -> Process {
        let output = output.into();
        let name = command.get_program().to_string_lossy().into_owned();
        let file = OpenOptions::new().create(true).append(true).open(&output);
        let (out, err) = match file.and_then(|f| Ok((f.try_clone()?, f))) {
            Ok(pair) => pair,
            Err(e) => panic!("cannot open {}: {e}", output.display()),
        };
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(e) => panic!("cannot start {name}: {e}"),
        };
        let group = pid(&child);
        Process { guard: Some(guard(group)), name, child, group, output: Log::at(output), ended: None }
    }

    /// The process id of the child, which is also the id of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stdout and stderr.
    pub fn output(&self) -> &Log {
        &self.output
    }

    /// How it ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or_default();
        }
        self.ended
    }

    /// Waits until `ready` is true; fails at once, with the end of the output, if the child ends first.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let outcome = poll(PATIENCE, || {
            // Asked in this order: a child that becomes ready and ends at once was ready.
            let ended = self.exit_status();
            if ready() { Some(Ok(())) } else { ended.map(Err) }
        });
        match outcome {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("{} ended ({status}) before this: {what}; {}", self.name, self.output.tail()),
            None => panic!("{}: waited {} s for this: {what}; {}", self.name, PATIENCE.as_secs(), self.output.tail()),
        }
    }

    /// Waits until the child ends by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        match poll(PATIENCE, || self.exit_status()) {
            Some(status) => status,
            None => panic!("{} is still running after {} s; {}", self.name, PATIENCE.as_secs(), self.output.tail()),
        }
    }

    /// Sends a signal to the child alone; nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            let _ = rustix::process::kill_process(self.group, signal);
        }
    }

    /// Asks the child alone to end (TERM), waits for it, and then clears its group.
    ///
    /// Returns how it ended. A child that does not obey within [`PATIENCE`] is killed and fails the test.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let ended = poll(PATIENCE, || self.exit_status());
        self.clear();
        match ended {
            Some(status) => status,
            None => panic!("{} ignored TERM for {} s; {}", self.name, PATIENCE.as_secs(), self.output.tail()),
        }
    }

    /// Asks every process of the group to end (TERM) and kills those that have not within a few seconds.
    pub fn stop_group(&mut self) {
        let mut asked: Option<Instant> = None;
        let _ = poll(GRACE, || {
            // Again and again: a process that was asked between looking for signals and waiting for input (Exim's
            // sessions) would not look before there is input.
            if asked.is_none_or(|at| at.elapsed() > ASK_AGAIN) {
                let _ = rustix::process::kill_process_group(self.group, Signal::TERM);
                asked = Some(Instant::now());
            }
            self.exit_status();
            members(self.group).is_empty().then_some(())
        });
        self.clear();
    }

    /// Kills every process of the group, like a machine that loses power, and returns when they are gone.
    pub fn kill(&mut self) {
        self.clear();
    }

    /// After this nobody is left in the group; can be repeated.
    fn clear(&mut self) {
        // While the guard lives the group has not been cleared. Afterwards its number may belong to somebody else.
        let Some(guard) = self.guard.take() else { return };
        let gone = poll(PATIENCE, || {
            if self.exit_status().is_some() && members(self.group).is_empty() {
                return Some(());
            }
            // Repeated, because a process may have been in the middle of a fork.
            let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
            None
        });
        dismiss(guard);
        if gone.is_none() && !std::thread::panicking() {
            panic!("{}: processes {:?} survived KILL", self.name, members(self.group));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The living processes of a process group. Those that ended and wait to be reaped by others do not count: in a
/// container without an init they wait for ever.
pub fn members(group: Pid) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let of_group = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // "pid (name) state parent group ...", and the name may contain blanks and parentheses.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let alive = fields.next().is_some_and(|state| state != "Z" && state != "X");
        alive && fields.nth(1).and_then(|g| g.parse().ok()) == Some(group.as_raw_nonzero().get())
    };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(of_group).collect()
}

const GRACE: Duration = Duration::from_secs(5);

const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Kills the group when this test process disappears without having said otherwise.
fn guard(group: Pid) -> Child {
    let mut shell = Command::new("/bin/sh");
    // -s, because dash takes no -- after -KILL.
    shell.args(["-c", r#"read -r word || kill -s KILL -- "-$1""#, "testkit-guard", &group.to_string()]);
    // In a group of its own, so that ^C on a terminal, which ends the tests, leaves it alive to do its work; without
    // our outputs, so that nobody waits for it to close them.
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    match shell.spawn() {
        Ok(child) => child,
        Err(e) => {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
            panic!("cannot start the guard of process group {group}: {e}");
        }
    }
}

fn dismiss(mut guard: Child) {
    if let Some(mut pipe) = guard.stdin.take() {
        let _ = pipe.write_all(b"done\n");
    }
    let _ = guard.wait();
}

fn pid(child: &Child) -> Pid {
    let raw = i32::try_from(child.id()).expect("process ids fit in pid_t");
    Pid::from_raw(raw).expect("a child has a positive process id")
}
