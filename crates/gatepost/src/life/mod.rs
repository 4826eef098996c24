//! The life of the process as its supervisor sees it: what it is told, which sockets come with the start, whether all of it
//! still moves.
//!
//! Outside of systemd none of this does anything: each part begins with an environment variable that is not there.

pub mod handed;
pub mod local;
pub mod notify;
pub mod pulse;
pub mod succession;
pub mod supervisor;
