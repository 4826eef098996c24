//! Peers that do exactly what a test tells them to, in particular what no sane peer would do.
//!
//! [`FakeServer`] plays a backend, [`Client`] and [`Pop3Client`] a mail program; all are a [`Conn`] with a bounded
//! patience that keeps the dialogue and shows it when an expectation fails. Threads and blocking sockets: a script reads
//! from top to bottom.
//!
//! What is the same in both protocols has a word for both: [`AnyClient`], the script [`Backend`], and [`FakeBackend`],
//! which runs that script by itself, dies and comes back.

mod any_client;
mod client;
mod conn;
mod fake_backend;
mod header;
mod pop3_client;
mod scripts;
mod server;
mod stream;

pub use any_client::AnyClient;
pub use client::{Client, Reply};
pub use conn::{Conn, DIALOGUE_LIMIT};
pub use fake_backend::FakeBackend;
pub use header::{ProxyHeader, V2_SIGNATURE};
pub use pop3_client::{Outcome, Pop3Client};
pub use scripts::{Backend, SeenLogin};
pub use server::{FakeServer, Signal};
