//! Connections to the servers behind us.

pub mod connect;
