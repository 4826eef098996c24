//! What a [`FakeLmtp`](super::FakeLmtp) has seen, connection by connection and message by message.

use std::net::SocketAddr;

use crate::peer::ProxyHeader;

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct LmtpSession {
    /// The other end of the connection.
    pub from: Option<SocketAddr>,
    /// The PROXY header, where one is expected.
    pub header: Option<ProxyHeader>,
    /// Every line in front of, between and behind the messages, without its end.
    pub lines: Vec<String>,
    /// Those of the lines that had come before the line in front of them was answered, and `(data)` for a message that came
    /// before the go-ahead. What comes at the same time but later is not noticed.
    pub ahead: Vec<String>,
    /// Whether TLS has begun.
    pub tls: bool,
    /// The messages, from MAIL on, also those that came to nothing.
    pub transactions: Vec<LmtpTransaction>,
    /// How it ended, when it has.
    pub ended: Option<Ending>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With QUIT.
    Quit,
    /// The peer left without a word, or the backend was stopped.
    Gone,
    /// The backend closed it, as told.
    Closed,
    /// The backend reset it, as told.
    Reset,
}

/// One transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LmtpTransaction {
    /// The last LHLO, EHLO or HELO.
    pub hello: String,
    /// Whether it was in TLS.
    pub tls: bool,
    /// The lines of the XCLIENT commands on this connection, as they came after `XCLIENT `.
    pub xclients: Vec<String>,
    /// The lines of the XFORWARD commands in front of MAIL, as they came after `XFORWARD `.
    pub xforwards: Vec<String>,
    /// What followed `MAIL FROM:`, parameters included.
    pub mail: String,
    /// What followed `RCPT TO:`, for each recipient.
    pub rcpts: Vec<String>,
    /// Those of them that were agreed to.
    pub accepted: Vec<String>,
    /// The sizes in the BDAT commands; empty with DATA.
    pub chunks: Vec<usize>,
    /// How many octets of the message came, with all its dots.
    pub size: usize,
    /// These octets exactly as they came, up to and with the dot's line where there is one. Empty if none are kept.
    pub raw: Vec<u8>,
    /// The message without what the protocol adds, once it is complete. Empty if none are kept.
    pub message: Option<Vec<u8>>,
    /// The replies behind the message, as far as they were said.
    pub finals: Vec<String>,
    /// The recipients who were told a yes by these, as in [`LmtpTransaction::accepted`]. By SMTP the one reply is for all.
    pub taken: Vec<String>,
}

impl LmtpTransaction {
    /// Whether the message came completely.
    pub fn is_complete(&self) -> bool {
        self.message.is_some()
    }
}
