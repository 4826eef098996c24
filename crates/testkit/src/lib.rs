//! What Gatepost's tests stand on: throw-away certificates and directories, child processes that are always cleaned
//! up, real mail servers, proxies and mail programs on loopback, scriptable peers that misbehave on command, and networks of
//! one's own.
//!
//! Promises, each proven in `tests/fixtures`:
//!
//! * whatever a test starts is gone when it ends, also when it panics or is killed ([`process`]);
//! * every wait is for a condition, with an upper bound, and its failure shows the log or the dialogue ([`wait`]);
//! * no port number is written down anywhere ([`ports`]);
//! * a test that cannot run (no Dovecot, not root) says so out loud, and fails where CI asks for everything ([`real`]).
//!
//! Nothing here is part of the product: the crate is a dev-dependency, and unlike the product it may panic, because a
//! panic is how a test fails.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test fixtures: a panic with a good text is the result that the caller wants"
)]

pub mod certs;
pub mod chromium;
pub mod delivered;
pub mod dir;
pub mod dovecot;
pub mod exim;
pub mod gatepost;
pub mod haproxy;
pub mod log;
pub mod mail_server;
pub mod netns;
pub mod nginx;
mod owner;
pub mod peer;
pub mod ports;
pub mod postfix;
pub mod process;
pub mod programs;
pub mod protocol;
pub mod real;
pub mod transcript;
pub mod wait;

pub use dir::Dir;
pub use log::Log;
pub use ports::free_port;
pub use protocol::Protocol;
