//! The old process: starts the new one, hands over, and waits for its word.

use super::channel::{Channel, DESCRIPTORS};
use super::{Bequest, PREDECESSOR, Reply};
use crate::admin::Sockets;
use crate::config::listen_at::ListenAt;
use relay::listen::Listening;
use rustix::fs::stat;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// How long a successor that hung up may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// The exit code of [`Refused`] where the successor gave none.
const FAILED: u8 = 1;

/// Where this program is, and how it was called.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// This process's own, as seen at its start: what is at the path later is the new version.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn own() -> io::Result<Program> {
        let mut words = std::env::args_os();
        let running = std::env::current_exe()?;
        let called = words.next().unwrap_or_default();
        // As called, where that is this program: it may be a link that a package turns to the new version.
        let same = |path: &PathBuf| match (stat(path), stat(&running)) {
            (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        };
        let called = if called.as_bytes().contains(&b'/') {
            std::path::absolute(called).ok()
        } else {
            let search = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&search).map(|dir| dir.join(&called)).find(same)
        };
        Ok(Program { path: called.filter(same).unwrap_or(running), arguments: words.collect() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn start(&self, channel: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::from(channel)).env(PREDECESSOR, std::process::id().to_string());
        // These speak to this process by its number.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.spawn()
    }
}

/// What is handed over.
pub struct Estate {
    /// What is listened on.
    pub listeners: Vec<Listener>,
    /// Where the admin API is asked.
    pub admin: Sockets,
}

/// One listener.
pub struct Listener {
    /// The protocol's name.
    pub protocol: &'static str,
    /// The address as configured.
    pub configured: ListenAt,
    /// Which of those with this protocol and address.
    pub nth: usize,
    /// Its sockets.
    pub sockets: Vec<Arc<Listening>>,
    /// Of a unix socket: its file is ours to remove.
    pub file: bool,
}

/// Why there is no successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The exit code for the command.
    pub code: u8,
    /// One line each.
    pub problems: Vec<String>,
}

/// An upgrade under way. Dropping it ends the successor.
pub struct Upgrade {
    child: Minor,
    path: PathBuf,
    patience: Duration,
    answer: oneshot::Receiver<io::Result<(Channel, Option<Reply>)>>,
}

/// A successor that serves, and lives on without us.
pub struct Upgraded {
    child: Child,
    channel: Channel,
}

/// A successor that is not of age: it ends with this value.
struct Minor(Option<Child>);

impl Minor {
    /// How it ended, if it does so soon.
    async fn ended(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + ENDING;
        while Instant::now() < until {
            if let Some(Ok(Some(status))) = self.0.as_mut().map(Child::try_wait) {
                return Some(status);
            }
            sleep(Duration::from_millis(10)).await;
        }
        None
    }
}

impl Drop for Minor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Upgrade {
    /// Starts the successor and begins to hand over. It may take this long to be ready.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn begin(program: &Program, estate: Estate, patience: Duration) -> Result<Upgrade, Refused> {
        let path = program.path.clone();
        let failed = |e: io::Error| refused(format!("cannot start {}: {e}", path.display()));
        // It would end with us: a container goes with its first process.
        if std::process::id() == 1 {
            return Err(refused(
                "this is process 1 of a container, which ends with it; start a new container instead".to_owned(),
            ));
        }
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        ours.set_patience(patience).map_err(failed)?;
        let child = Minor(Some(program.start(theirs).map_err(failed)?));
        let (tell, answer) = oneshot::channel();
        // A thread, because neither the sending of descriptors nor the waiting may hold up what goes on here.
        let talk = move || {
            let _ = tell.send(talk(ours, &estate));
        };
        std::thread::Builder::new().name("upgrade".to_owned()).spawn(talk).map_err(failed)?;
        Ok(Upgrade { child, path, patience, answer })
    }

    /// The successor's process id.
    pub fn successor(&self) -> u32 {
        self.child.0.as_ref().map_or(0, Child::id)
    }

    /// Waits for the successor's word. If there is none the successor is gone afterwards.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn outcome(mut self) -> Result<Upgraded, Refused> {
        let path = self.path.display();
        Err(match self.answer.await {
            Ok(Ok((channel, Some(Reply::Serving)))) => match self.child.0.take() {
                Some(child) => return Ok(Upgraded { child, channel }),
                None => refused("the upgrade is over".to_owned()),
            },
            Ok(Ok((_, Some(Reply::Failed { code, problems })))) => {
                // It ends by itself, and may still have something to say to standard error.
                self.child.ended().await;
                Refused { code: code.max(FAILED), problems }
            }
            Ok(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => {
                refused(format!("{path} was not ready within {} s, and was ended", self.patience.as_secs()))
            }
            Ok(Err(e)) if e.kind() != io::ErrorKind::BrokenPipe => refused(format!("{path} cannot take over: {e}")),
            // It hung up.
            _ => refused(match self.child.ended().await {
                Some(status) => {
                    format!("{path} ended before it was ready ({status}); what it said went to Gatepost's standard error")
                }
                None => format!("{path} does not know how to take over, and was ended"),
            }),
        })
    }
}

impl Upgraded {
    /// The successor's process id.
    pub fn successor(&self) -> u32 {
        self.child.id()
    }

    /// Tells it that we have stopped accepting.
    pub fn put_in_charge(&self) {
        // If it is gone, `has_ended` finds out.
        let _ = self.channel.send(&Bequest::InCharge, &[]);
    }

    /// Ends it: this process was told to stop before it could put it in charge.
    pub fn abandon(self) {
        drop(Minor(Some(self.child)));
    }

    /// Has it read its configuration anew: a SIGHUP that came to us was meant for who serves.
    pub fn reload(&self) {
        // Not reaped yet, so the number is still its own.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::HUP);
        }
    }

    /// How it ended, if it did.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

fn refused(reason: String) -> Refused {
    Refused { code: FAILED, problems: vec![reason] }
}

/// Hands over, and waits for the answer.
fn talk(channel: Channel, estate: &Estate) -> io::Result<(Channel, Option<Reply>)> {
    for Listener { protocol, configured, nth, sockets, file } in &estate.listeners {
        for some in sockets.chunks(DESCRIPTORS) {
            let descriptors: Vec<_> = some.iter().map(|socket| socket.as_fd()).collect();
            let (protocol, configured) = ((*protocol).to_owned(), configured.clone());
            let bequest = Bequest::Listener { protocol, configured, nth: *nth, file: *file };
            channel.send(&bequest, &descriptors)?;
        }
    }
    if let Some((path, socket)) = &estate.admin.control {
        channel.send(&Bequest::Control { path: path.clone() }, &[socket.as_fd()])?;
    }
    for (address, socket) in &estate.admin.addresses {
        channel.send(&Bequest::Admin { address: *address }, &[socket.as_fd()])?;
    }
    channel.send(&Bequest::All, &[])?;
    let reply = channel.receive()?.map(|(reply, _)| reply);
    Ok((channel, reply))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    /// A program that is none of ours in the successor's place, and what becomes of it.
    async fn refused_by(path: &str, arguments: &[&str]) -> (Refused, Option<PathBuf>) {
        let program = Program { path: path.into(), arguments: arguments.iter().map(OsString::from).collect() };
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let socket = Listening::Tcp(socket);
        let sockets = vec![Arc::new(socket)];
        let listener = Listener { protocol: "imap", configured: address.into(), nth: 0, sockets, file: false };
        let estate = Estate { listeners: vec![listener], admin: Sockets::default() };
        match Upgrade::begin(&program, estate, Duration::from_millis(300)) {
            Err(refused) => (refused, None),
            Ok(upgrade) => {
                let at = PathBuf::from(format!("/proc/{}", upgrade.successor()));
                let Err(refused) = upgrade.outcome().await else { panic!("{path} cannot serve") };
                drop(TcpStream::connect(address));
                (refused, Some(at))
            }
        }
    }

    #[tokio::test]
    async fn whatever_is_at_the_path_the_reason_is_said_and_nothing_is_left_behind() {
        for (path, arguments, said) in [
            ("/nonexistent/gatepost", &[][..], "cannot start /nonexistent/gatepost: No such file"),
            ("/dev/null", &[], "cannot start /dev/null: Permission denied"),
            ("/bin/false", &[], "/bin/false ended before it was ready (exit status: 1)"),
            ("/bin/sh", &["-c", "kill -KILL $$"], "/bin/sh ended before it was ready (signal: 9 (SIGKILL))"),
            ("/bin/sleep", &["1000"], "/bin/sleep was not ready within 0 s, and was ended"),
            ("/bin/sh", &["-c", "exec <&-; exec sleep 1000"], "/bin/sh does not know how to take over, and was ended"),
            ("/bin/sh", &["-c", "echo not JSON >&0; exec sleep 1000"], "/bin/sh cannot take over: "),
        ] {
            let (refused, process) = refused_by(path, arguments).await;
            assert_eq!(refused.code, FAILED);
            assert!(refused.problems[0].starts_with(said), "{refused:?}");
            assert!(process.is_none_or(|at| !at.exists()), "{path} {arguments:?} is still there");
        }
    }
}
