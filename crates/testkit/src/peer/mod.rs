//! Peers that do exactly what a test tells them to, in particular what no sane peer would do.
//!
//! [`FakeServer`] plays a backend, [`Client`], [`Pop3Client`], [`SieveClient`], [`SmtpClient`] and [`LmtpClient`] a mail program;
//! all are a [`Conn`] with a bounded patience that keeps the dialogue and shows it when an expectation fails. Threads and blocking
//! sockets: a script reads from top to bottom.
//!
//! What is the same in all protocols has a word for all: [`AnyClient`], the script [`Backend`], and [`FakeBackend`],
//! which runs that script by itself, dies and comes back. [`FakeLmtp`] is the same for delivery, by LMTP or SMTP. [`SmtpSink`] is where mail goes that a real server passes on.

mod any_client;
mod client;
mod conn;
mod dialogue;
mod fake_backend;
mod header;
mod letters;
mod lmtp;
mod lmtp_client;
mod pop3_client;
mod sasl;
mod scripts;
mod server;
mod sieve_client;
mod sieve_text;
mod smtp_client;
mod smtp_sink;
mod stream;

pub use any_client::AnyClient;
pub use client::{Client, Reply};
pub use conn::{Conn, DIALOGUE_LIMIT};
pub use fake_backend::FakeBackend;
pub use header::{ProxyHeader, V2_SIGNATURE};
pub use letters::{Letter, Letters};
pub use lmtp::{At, Does, Ending, FakeLmtp, Flavour, Lmtp, LmtpSession, LmtpTransaction};
pub use lmtp_client::LmtpClient;
pub use pop3_client::{Outcome, Pop3Client};
pub use sasl::Sasl;
pub use scripts::{Backend, SeenLogin, Xclient};
pub use server::{FakeServer, Signal};
pub use sieve_client::{SieveCaps, SieveClient, SieveReply};
pub use sieve_text::SieveItem;
pub use smtp_client::{Extensions, SmtpClient, SmtpReply};
pub use smtp_sink::SmtpSink;
