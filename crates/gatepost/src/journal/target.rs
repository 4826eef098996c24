//! Where lines go: standard error, a file, the syslog daemon, systemd's journal.
//!
//! A [`Shape`] is how a line is dressed for its target, a [`Target`] what carries it. Both daemons take datagrams on a unix
//! socket: RFC 3164 as it is spoken on `/dev/log`, and journald's native protocol, where each word is a field of its own.
//!
//! Only the journal's own thread waits for a target. A daemon that does not read is waited for once, for half a second;
//! from then on what it does not take at once is lost and counted, until it reads again. One that went away is looked for
//! again with each line.

use super::text::{Name, escape_control};
use super::{Destination, Format, Level, Word, dovecot, json, text};
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon that does not read may hold up the lines behind.
const PATIENCE: Duration = Duration::from_millis(500);

/// The rights of a new log file: names and addresses are not for everybody on the host.
const FILE_MODE: u32 = 0o640;

/// How a line is dressed.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// With its time, and an end.
    Line,
    /// A datagram for a syslog daemon.
    Syslog { facility: u8 },
    /// A datagram for journald.
    Journald { facility: u8 },
}

impl Shape {
    pub(super) fn of(destination: &Destination) -> Shape {
        match destination {
            Destination::Stderr | Destination::File(_) => Shape::Line,
            Destination::Syslog { facility, .. } => Shape::Syslog { facility: facility.code() },
            Destination::Journald { facility, .. } => Shape::Journald { facility: facility.code() },
        }
    }

    pub(super) fn line(self, format: Format, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
        // Wall clock: for people. Deadlines use the monotonic clock.
        let now = jiff::Timestamp::now();
        let pid = std::process::id();
        match self {
            Shape::Line => {
                let mut line = match format {
                    Format::Text => format!("{} {}", exact(now), text::message(level, event, words)),
                    Format::Json => json::message(&exact(now), level, event, words),
                    Format::Dovecot(version) => {
                        let label = Some(dovecot::label(level, event));
                        format!("{} {}", local(now, "%b %d %H:%M:%S"), dovecot::message(version, label, event, words))
                    }
                };
                line.push('\n');
                line
            }
            Shape::Syslog { facility } => {
                let priority = facility.saturating_mul(8).saturating_add(severity(level));
                let when = local(now, "%b %e %H:%M:%S");
                let message = bare(format, now, level, event, words);
                format!("<{priority}>{when} {}[{pid}]: {message}", identifier(format))
            }
            Shape::Journald { facility } => {
                let message = bare(format, now, level, event, words);
                let (priority, name) = (severity(level), identifier(format));
                let mut fields = format!(
                    "MESSAGE={message}\nPRIORITY={priority}\nSYSLOG_FACILITY={facility}\nSYSLOG_IDENTIFIER={name}\nSYSLOG_PID={pid}\nGATEPOST_EVENT={event}\n"
                );
                text::each(&mut fields, words, |fields, name, word| {
                    let name = Name(name).to_string().to_ascii_uppercase().replace(['-', '.'], "_");
                    let _ = write!(fields, "GATEPOST_{name}=");
                    text::plain(fields, word, escape_control);
                    fields.push('\n');
                });
                fields
            }
        }
    }
}

/// A line for those who know the time themselves.
fn bare(format: Format, now: jiff::Timestamp, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
    match format {
        Format::Text => text::message(level, event, words),
        Format::Json => json::message(&exact(now), level, event, words),
        // To syslog Dovecot says what kind of line it is, unless it is the usual kind.
        Format::Dovecot(version) => {
            let label = Some(dovecot::label(level, event)).filter(|label| *label != "Info");
            dovecot::message(version, label, event, words)
        }
    }
}

/// Who speaks. What reads Dovecot's lines from syslog looks for its name.
fn identifier(format: Format) -> &'static str {
    match format {
        Format::Text | Format::Json => "gatepost",
        Format::Dovecot(_) => "dovecot",
    }
}

/// The severity of RFC 3164, section 4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// UTC with milliseconds.
fn exact(now: jiff::Timestamp) -> String {
    jiff::Timestamp::from_millisecond(now.as_millisecond()).map_or_else(|_| now.to_string(), |t| format!("{t:.3}"))
}

/// Local time without year and zone, as daemons have always said it.
fn local(now: jiff::Timestamp, form: &str) -> String {
    now.to_zoned(jiff::tz::TimeZone::system()).strftime(form).to_string()
}

/// What carries lines.
pub(super) enum Target {
    Stderr(Torn),
    File(std::fs::File, Torn),
    Daemon(Daemon),
    Function(Box<dyn FnMut(&str) + Send>),
}

/// The last write ended in the middle of a line.
type Torn = bool;

impl Target {
    pub(super) fn open(destination: &Destination) -> io::Result<Target> {
        match destination {
            Destination::Stderr => Ok(Target::Stderr(false)),
            Destination::File(path) => {
                let file = std::fs::OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)?;
                Ok(Target::File(file, false))
            }
            Destination::Syslog { socket, .. } | Destination::Journald { socket, .. } => {
                Ok(Target::Daemon(Daemon { path: socket.clone(), socket: None, stuck: false }))
            }
        }
    }

    /// Whether somebody is there.
    pub(super) fn probe(&self) -> io::Result<()> {
        match self {
            Target::Daemon(daemon) => connect(&daemon.path).map(drop),
            Target::Stderr(_) | Target::File(..) | Target::Function(_) => Ok(()),
        }
    }

    /// Opens another target, or the same anew. On an error what was there goes on, where it takes lines of the same shape.
    pub(super) fn reopen(&mut self, destination: &Destination) -> io::Result<()> {
        if matches!(self, Target::Function(_)) {
            return Ok(());
        }
        match Target::open(destination) {
            Ok(target) => {
                *self = target;
                Ok(())
            }
            Err(e) => {
                if matches!(self, Target::Daemon(_)) {
                    *self = Target::Stderr(false);
                }
                Err(e)
            }
        }
    }

    /// Writes lines and returns how many were lost. A journal that cannot be written must not stop the mail.
    pub(super) fn write(&mut self, lines: &[String]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        match self {
            Target::Stderr(torn) => append(&mut io::stderr().lock(), torn, lines),
            Target::File(file, torn) => append(file, torn, lines),
            Target::Daemon(daemon) => lines.iter().map(|line| u64::from(!daemon.send(line))).sum(),
            Target::Function(f) => {
                lines.iter().for_each(|line| f(line.trim_end_matches('\n')));
                0
            }
        }
    }
}

/// Appends lines, all in one write where that can be done. On an error the rest is lost: the disk may be full.
pub(super) fn append(out: &mut impl io::Write, torn: &mut Torn, lines: &[String]) -> u64 {
    // What failed in the middle of a line gets its end first.
    let mut text = if *torn { b"\n".to_vec() } else { Vec::new() };
    let mended = text.len();
    lines.iter().for_each(|line| text.extend_from_slice(line.as_bytes()));
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(octets) if octets > 0 => rest = rest.get(octets..).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    let written = text.len().saturating_sub(rest.len());
    if written > 0 {
        *torn = text.get(..written).is_some_and(|part| !part.ends_with(b"\n"));
    }
    let lost = text.get(written.max(mended)..).unwrap_or_default();
    u64::try_from(lost.iter().filter(|octet| **octet == b'\n').count()).unwrap_or(u64::MAX)
}

/// A daemon that takes datagrams.
pub(super) struct Daemon {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// It let one line wait in vain: the next ones do not wait.
    stuck: bool,
}

impl Daemon {
    /// False: the line is lost.
    fn send(&mut self, line: &str) -> bool {
        // The second time on a fresh socket: the daemon may have been started anew.
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = connect(&self.path).ok();
                self.stuck = false;
            }
            let Some(socket) = &self.socket else { return false };
            match self.offer(socket, line) {
                Ok(()) => {
                    self.wait_again();
                    return true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.stuck = socket.set_nonblocking(true).is_ok();
                    return false;
                }
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => return false,
                Err(_) => self.socket = None,
            }
        }
        false
    }

    fn offer(&self, socket: &UnixDatagram, line: &str) -> io::Result<()> {
        loop {
            match socket.send(line.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// It reads again.
    fn wait_again(&mut self) {
        if std::mem::take(&mut self.stuck)
            && let Some(socket) = &self.socket
        {
            self.stuck = socket.set_nonblocking(false).is_err();
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}
