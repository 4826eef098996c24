//! Bytes and manners: codecs and conversations of the mail protocols, without sockets.
//!
//! Everything in this crate is *sans-IO*: a machine is handed the bytes that arrived and says what must be sent and what
//! it understood. There is no async runtime, no TLS and no socket crate in the manifest, so that is a fact of the build
//! and not a habit.
//!
//! The map:
//!
//! * [`machine`]: the one trait all conversations share, and [`machine::Fault`], which says whose fault it was;
//! * [`mod@line`], [`encode`], [`secret`]: the small tools (lines under a cap, spellings, values that cannot be printed);
//! * [`login`]: what a front tells the program and what it is told, protocol by protocol the same;
//! * [`sasl`]: mechanisms, server and client side;
//! * [`origin`]: who is really calling, and the ways to tell the next server;
//! * [`overheard`]: what is said, as operators may see it;
//! * [`dance`]: the one backend login, over a dialect for each protocol;
//! * [`address`], [`envelope`]: to whom a mail goes, and what its senders ask on the way;
//! * `manners`: what the fronts of all protocols do alike (counting, SASL, handing over credentials);
//! * [`stranger`]: who speaks something else altogether;
//! * [`imap`], [`pop3`], [`sieve`], [`smtp`]: codec, front and dialect of each protocol.

pub mod address;
pub mod dance;
pub mod encode;
pub mod envelope;
pub mod imap;
pub mod line;
pub mod login;
pub mod machine;
mod manners;
pub mod origin;
pub mod overheard;
pub mod pop3;
pub mod sasl;
pub mod secret;
pub mod sieve;
pub mod smtp;
pub mod stranger;
