//! Telling systemd how we are: datagrams of `NAME=value` lines to the socket in `NOTIFY_SOCKET` (sd_notify(3)).
//!
//! Without that variable nothing is sent. A name that begins with `@` is an abstract socket. A message that cannot be sent is
//! an error for the journal and no more: the mail goes on.

use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// systemd reads at once; a socket of somebody else's must not hold us up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest status, octets.
const STATUS_MAX: usize = 1024;

/// The way to the supervisor, if there is one.
#[derive(Debug, Default)]
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// As the environment says.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is none that can be used; the sentence names it.
    pub fn from_env() -> Result<Notify, String> {
        match std::env::var_os("NOTIFY_SOCKET") {
            None => Ok(Notify(None)),
            Some(name) => Notify::to(&name).map_err(|e| format!("NOTIFY_SOCKET {}: {e}", name.display())),
        }
    }

    /// To this socket.
    ///
    /// # Errors
    /// It is neither a path nor an abstract name, or no socket can be had.
    pub fn to(name: &OsStr) -> io::Result<Notify> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "only paths and abstract names (@...) are known")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Notify(Some((socket, address))))
    }

    /// Whether anybody listens.
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Everything is up, or up again; `status` is one line for people.
    ///
    /// # Errors
    /// As for all of these: what the kernel said of sending.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        self.say(&format!("READY=1\nSTATUS={}\n", one_line(status)))
    }

    /// What we are doing, one line for people.
    ///
    /// # Errors
    /// See [`Notify::ready`].
    pub fn status(&self, status: &str) -> io::Result<()> {
        self.say(&format!("STATUS={}\n", one_line(status)))
    }

    /// A reload begins; [`Notify::ready`] ends it. The time is how systemd tells it from one that was over before it asked.
    ///
    /// # Errors
    /// See [`Notify::ready`].
    pub fn reloading(&self) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=Reading the configuration anew.\n"))
    }

    /// The end begins, and may take this long.
    ///
    /// # Errors
    /// See [`Notify::ready`].
    pub fn stopping(&self, within: Duration, status: &str) -> io::Result<()> {
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS={}\n", within.as_micros(), one_line(status)))
    }

    /// The service is this process from here on, and it is ready.
    ///
    /// # Errors
    /// See [`Notify::ready`].
    pub fn main_process(&self, pid: u32, status: &str) -> io::Result<()> {
        self.say(&format!("MAINPID={pid}\nREADY=1\nSTATUS={}\n", one_line(status)))
    }

    /// We are alive.
    ///
    /// # Errors
    /// See [`Notify::ready`].
    pub fn alive(&self) -> io::Result<()> {
        self.say("WATCHDOG=1\n")
    }

    fn say(&self, message: &str) -> io::Result<()> {
        let Some((socket, address)) = &self.0 else { return Ok(()) };
        socket.send_to_addr(message.as_bytes(), address).map(|_| ())
    }
}

/// A second line would be another order. systemd takes no message of more than 4096 octets: with a longer status the whole
/// message, its READY=1 too, would be lost.
fn one_line(status: &str) -> String {
    let end = status.floor_char_boundary(STATUS_MAX);
    let cut = status.get(..end).unwrap_or_default();
    let mut line: String = cut.chars().map(|c| if wire::encode::is_invisible(c) { ' ' } else { c }).collect();
    if end < status.len() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_it_to_paths_and_to_abstract_names() {
        let dir = testkit::Dir::new();
        let path = dir.join("notify");
        let name = format!("gatepost-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, to) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into()),
        ] {
            let notify = Notify::to(&to).unwrap();
            notify.ready("two\nlines").unwrap();
            let mut buffer = [0u8; 256];
            let n = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"READY=1\nSTATUS=two lines\n");
        }
    }

    #[test]
    fn a_long_status_is_cut_and_the_rest_of_the_message_is_not_lost() {
        let line = one_line(&format!("\u{202e}\n{}", "ü".repeat(5000)));
        assert!(line.starts_with("  ü") && line.ends_with("ü...") && line.len() <= STATUS_MAX + 3, "{}", line.len());
    }

    #[test]
    fn other_names_are_refused_and_a_dead_socket_is_an_error() {
        for name in ["", "notify", "vsock:2:1234"] {
            assert!(Notify::to(OsStr::new(name)).is_err(), "{name}");
        }
        let dir = testkit::Dir::new();
        assert!(Notify::to(dir.join("nobody").as_os_str()).unwrap().alive().is_err());
        assert!(Notify::default().alive().is_ok(), "without a supervisor nothing happens");
    }
}
