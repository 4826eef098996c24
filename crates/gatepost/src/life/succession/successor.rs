//! The new process: what it was handed, and what it says of its start.

use super::channel::Channel;
use super::{Bequest, PREDECESSOR, Reply};
use crate::admin::Sockets;
use crate::life::handed::HandedSockets;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

/// The predecessor sends at once, and answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// What can be said of a failure: enough for a person, and little enough for one message.
const MOST_TEXT: usize = 16 * 1024;

/// A process that was started by its predecessor.
pub struct Heir {
    channel: Channel,
    sockets: HandedSockets,
    admin: Sockets,
}

impl Heir {
    /// Takes what the predecessor hands over; `None` where there is none.
    ///
    /// # Errors
    /// What came is not what a predecessor sends.
    pub fn from_env() -> Result<Option<Heir>, String> {
        let Some(predecessor) = std::env::var_os(PREDECESSOR) else { return Ok(None) };
        let told: Option<i32> = predecessor.to_str().and_then(|pid| pid.parse().ok());
        // Inherited by somebody else's child, or by ours after its parent has gone.
        if told.is_none() || told != rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) {
            return Err(format!("{PREDECESSOR}={}: that is not the parent of this process; unset it", predecessor.display()));
        }
        let lost = |e: std::io::Error| format!("{PREDECESSOR}: standard input: {e}");
        let channel = Channel::over(std::io::stdin().as_fd().try_clone_to_owned().map_err(lost)?);
        channel.set_patience(PATIENCE).map_err(lost)?;
        let mut heir = Heir { channel, sockets: HandedSockets::default(), admin: Sockets::default() };
        loop {
            match heir.channel.receive().map_err(lost)? {
                Some((Bequest::Listener { protocol, configured, nth, file }, passed)) => {
                    for socket in passed {
                        heir.sockets.add_of(protocol.clone(), configured.clone(), nth, socket, file)?;
                    }
                }
                Some((Bequest::Control { path }, passed)) => {
                    heir.admin.control = passed.into_iter().next().map(|socket| (path, UnixListener::from(socket)));
                }
                Some((Bequest::Admin { address }, passed)) => {
                    heir.admin.addresses.extend(passed.into_iter().map(|socket| (address, TcpListener::from(socket))));
                }
                Some((Bequest::All, _)) => return Ok(Some(heir)),
                Some((Bequest::InCharge, _)) | None => {
                    return Err(format!("{PREDECESSOR}: the predecessor is gone"));
                }
            }
        }
    }

    /// The listening sockets.
    pub fn take_sockets(&mut self) -> HandedSockets {
        std::mem::take(&mut self.sockets)
    }

    /// The control socket, if it is at this path.
    pub fn take_control(&mut self, path: &Path) -> Option<UnixListener> {
        let (_, socket) = self.admin.control.take_if(|(at, _)| at == path)?;
        Some(socket)
    }

    /// The socket of this `admin.address`.
    pub fn take_admin(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.admin.addresses.iter().position(|(of, _)| *of == address)?;
        Some(self.admin.addresses.swap_remove(at).1)
    }

    /// Says that clients are accepted, and returns when the predecessor has stopped accepting.
    pub fn serving(self) {
        // Whatever comes back, or nothing: the predecessor is no longer in charge, or no longer there.
        let _ = self.channel.send(&Reply::Serving, &[]);
        let _ = self.channel.receive::<Bequest>();
        if let Some((elsewhere, _)) = self.admin.control {
            // The configuration names another control socket now; nobody will answer at this one.
            let _ = std::fs::remove_file(elsewhere);
        }
    }

    /// Says why it cannot start.
    pub fn failed(&self, code: u8, problems: &[String]) {
        let mut room = MOST_TEXT;
        let fits = |problem: &&String| room.checked_sub(problem.len()).map(|left| room = left).is_some();
        let problems = problems.iter().take_while(fits).cloned().collect();
        let _ = self.channel.send(&Reply::Failed { code, problems }, &[]);
    }
}
