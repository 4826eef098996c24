//! Sockets, TLS, and moving bytes. This crate knows no mail: it can be tested, measured and replaced alone.
//!
//! Connections come from [`listen`] and from [`dial()`]. A session has two phases. In the *dialogue* (seconds) the program reads
//! and writes through a [`Conn`]; the switch to TLS consumes the clear connection and refuses to happen while unread bytes are
//! about ([`tls`]). In the *relay* (hours) [`pump()`] moves opaque bytes both ways and owns no buffer, timer or task while
//! nothing moves; the end for want of activity comes from the shard's one [`Clock`].
//!
//! What is left to others: what the bytes mean, deadlines of the dialogue, limits on how many sessions there are, logs.

mod buffers;
pub mod clock;
pub mod conn;
pub mod dial;
pub mod head;
pub mod listen;
pub mod pump;
pub mod shard;
pub mod socket;
pub mod tls;

pub use clock::{Clock, EndOrder, Slot};
pub use conn::Conn;
pub use dial::dial;
pub use head::{Head, HeadError, read_head};
pub use pump::{Early, Ended, EndedBy, Reason, Watch, pump};
pub use socket::Socket;
pub use tls::acceptor::{AcceptOptions, Acceptor, CertSource};
pub use tls::connector::{ConnectPolicy, Connector};
pub use tls::{TlsError, TlsErrorKind, TlsFacts};
