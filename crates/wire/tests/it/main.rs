//! Conversations: transcripts played against the machines, and the machines against each other.

// Everything here is a test, but the lints know only functions that carry the attribute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod back;
mod front;
mod meet;
mod script;
mod spoken;
mod xclient_vectors;
mod xforward_vectors;
