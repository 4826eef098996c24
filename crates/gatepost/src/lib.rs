//! Gatepost: the program around [`wire`] and [`relay`].
//!
//! ARCHITECTURE.md is the map of the rooms and of which may know which.

pub mod admin;
pub mod backend;
pub mod chance;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod explain;
pub mod failure;
pub mod inbound;
pub mod journal;
pub mod life;
pub mod login;
pub mod metrics;
pub mod protocol;
pub mod resolve;
pub mod route;
pub mod server;
pub mod trace;
pub mod users;
pub mod witness;
