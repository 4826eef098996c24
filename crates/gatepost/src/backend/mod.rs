//! Connections to the servers behind us.
//!
//! | file | what |
//! | --- | --- |
//! | `connect.rs` | one login at a backend: its addresses, one after the other, again and again, in one deadline |
//! | `call.rs` | one try at one address: connect, PROXY header, TLS, the dance |
//! | `health.rs` | what all shards know together of each backend address: dead or alive, how many connect, how many are on |
//! | `spread.rs` | how the clients of a backend that died are let go, so that they do not all come back at once |
//! | `source.rs` | the addresses that connections are made from |
//! | `seen.rs` | what a witness is told of an address |
//!
//! `health.rs`, `spread.rs` and `source.rs` open no connection and write no journal: they answer, and whoever dials acts on it.

mod call;
pub mod connect;
pub mod health;
pub(crate) mod seen;
pub mod source;
pub mod spread;
