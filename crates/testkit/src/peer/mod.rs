//! Peers that do exactly what a test tells them to, in particular what no sane peer would do.
//!
//! [`FakeServer`] plays a backend, [`Client`] a mail program; both are a [`Conn`] with a bounded patience that keeps
//! the dialogue and shows it when an expectation fails. Threads and blocking sockets: a script reads from top to bottom.

mod client;
mod conn;
mod scripts;
mod server;

pub use client::{Client, Reply};
pub use conn::{Conn, DIALOGUE_LIMIT};
pub use scripts::{Backend, SeenLogin};
pub use server::{FakeServer, Signal};
