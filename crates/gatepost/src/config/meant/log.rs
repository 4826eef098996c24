//! What `[log]` means: how lines of the journal are written, and where to.

use std::fmt;
use std::path::PathBuf;

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `format`.
    pub format: LogFormat,
    /// `level`.
    pub level: LogLevel,
    /// `target`, with what belongs to it: `file`, `socket`, `facility`; default standard error.
    pub target: LogTarget,
}

/// How a line of the journal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` words.
    Text,
    /// One JSON object.
    Json,
    /// The words of Dovecot's login processes.
    Dovecot(DovecotVersion),
}

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DovecotVersion {
    /// Those of 2.3.
    V2_3,
    /// Those of 2.4.
    V2_4,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// A file that is appended to.
    File(PathBuf),
    /// A syslog daemon, by RFC 3164 over a unix socket.
    Syslog {
        /// `socket`: default `/dev/log`.
        socket: PathBuf,
        /// `facility`: default `mail`.
        facility: LogFacility,
    },
    /// systemd's journal, by its native protocol.
    Journald {
        /// `socket`: default `/run/systemd/journal/socket`.
        socket: PathBuf,
        /// `facility`: default `mail`.
        facility: LogFacility,
    },
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTarget::Stderr => f.write_str("standard error"),
            LogTarget::File(path) => write!(f, "log.file {}", path.display()),
            LogTarget::Syslog { socket, .. } => write!(f, "log.target syslog, socket {}", socket.display()),
            LogTarget::Journald { socket, .. } => write!(f, "log.target journald, socket {}", socket.display()),
        }
    }
}

/// A facility of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFacility(u8);

impl LogFacility {
    /// By its number in RFC 3164, section 4.1.1.
    pub const fn new(code: u8) -> LogFacility {
        LogFacility(code)
    }

    /// Its number.
    pub fn code(self) -> u8 {
        self.0
    }
}

/// Which lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what needs a person.
    Error,
    /// And what may soon.
    Warning,
    /// And one line per login, refusal and session end.
    Info,
    /// And the course of each login.
    Debug,
}
