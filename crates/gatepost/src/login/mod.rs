//! The login way: a client signs in, and its bytes go to its own server.

pub mod arrival;
pub mod auth;
pub mod failures;
mod followed;
pub mod guard;
mod handshake;
pub mod house;
pub mod learnt;
pub mod limits;
pub mod record;
pub mod relayed;
pub mod roll;
pub(crate) mod seen;
pub mod session;
pub mod talk;
pub mod tally;
mod waiting;
