//! The login way: a client signs in, and its bytes go to its own server.

mod arrival;
pub mod auth;
pub mod guard;
pub mod house;
pub mod learnt;
pub mod record;
pub mod relayed;
pub mod roll;
pub mod session;
mod waiting;
