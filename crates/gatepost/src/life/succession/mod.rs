//! `gatepost upgrade`: the running process starts its successor and hands over what it listens on.
//!
//! The predecessor starts the program that is now at its path, with its own arguments, and with one end of a socket pair as
//! standard input. Over that it passes its listening sockets (SCM_RIGHTS), so both have the same queues and no client is
//! refused. The successor builds everything, accepts, and says so; only then does the predecessor stop accepting. Whatever
//! goes wrong before that word, the predecessor goes on as if nothing had happened.
//!
//! ```text
//! predecessor                               successor
//! Listener (+ sockets), ... Control, All -> reads the configuration, opens databases, reads certificates
//!                                        <- Serving, or Failed with the reasons
//! InCharge                               -> takes orders, speaks to systemd
//! ```
//!
//! The successor belongs to the same user and has no more rights than the predecessor has now; it needs none for ports that it
//! is handed.

mod channel;
mod predecessor;
mod successor;

pub use predecessor::{Estate, Listener, Program, Refused, Upgrade, Upgraded};
pub use successor::Heir;

use crate::config::listen_at::ListenAt;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The variable that tells a process whose successor it is: the process id of its parent.
const PREDECESSOR: &str = "GATEPOST_PREDECESSOR";

/// How long a successor may take to open databases and read certificates.
pub const START: Duration = Duration::from_secs(60);

/// What the predecessor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Bequest {
    /// Sockets of one listener come with this; there can be several for one.
    Listener {
        protocol: String,
        configured: ListenAt,
        nth: usize,
        /// Of a unix socket: its file is ours to remove, and not systemd's.
        #[serde(default)]
        file: bool,
    },
    /// The control socket comes with this.
    Control { path: PathBuf },
    /// The socket of an `admin.address` comes with this.
    Admin { address: SocketAddr },
    /// That was all.
    All,
    /// The predecessor has stopped accepting.
    InCharge,
}

/// What the successor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    /// It accepts clients.
    Serving,
    /// It cannot, and ends with this exit code.
    Failed { code: u8, problems: Vec<String> },
}
