//! A backend for delivery by LMTP or SMTP that takes everything and notes it exactly, or misbehaves where it is told to
//! (RFC 2033, 5321, 3030, 3207; XCLIENT and XFORWARD as Postfix speaks them, XRCPTFORWARD as Dovecot does).
//!
//! [`Lmtp`] says how it behaves, [`FakeLmtp`] runs by itself, and [`Lmtp::serve`] is the same as a script for a
//! [`super::FakeServer`]. It is strict: what it does not offer it refuses, parameters of MAIL and RCPT included, so a client that
//! takes more than it was offered is found out.

mod fake;
mod record;
mod session;
mod wire;

use std::sync::Arc;

use rustls::ServerConfig;

use super::Signal;

pub use fake::FakeLmtp;
pub use record::{Ending, LmtpSession, LmtpTransaction};

/// How the backend behaves.
#[derive(Clone, Debug)]
pub struct Lmtp {
    /// What it speaks.
    pub flavour: Flavour,
    /// The greeting.
    pub greeting: String,
    /// What LHLO or EHLO lists, one per line. What is not here is refused. With [`Lmtp::tls`] set it also lists STARTTLS.
    pub capabilities: String,
    /// Offers STARTTLS with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// Speaks TLS from the first byte (behind a PROXY header) instead of offering it.
    pub implicit: bool,
    /// Expects a PROXY header before anything else.
    pub header: bool,
    /// The answer to MAIL.
    pub at_mail: String,
    /// Answers to RCPT other than a yes: for the first pair whose piece is in the address or its parameters.
    pub at_rcpt: Vec<(String, String)>,
    /// Answers behind the message other than a yes, found in the same way for each recipient who was agreed to. By SMTP the
    /// first one is for all.
    pub after_data: Vec<(String, String)>,
    /// What goes wrong, and where. For one place the steps are taken in this order; the first that says something stands for
    /// the usual reply.
    pub troubles: Vec<(At, Does)>,
    /// How each line of a reply ends.
    pub line_end: &'static str,
    /// Takes LF, CR and CRLF for a line end alike, as servers do that can be tricked. Otherwise a command without CRLF is
    /// refused, and only CRLF, dot, CRLF ends a message. A bare CR is not noticed before the next LF.
    pub lenient: bool,
    /// Keeps the octets of messages. Without it only [`LmtpTransaction::size`] is known of them: for messages that are too large
    /// or too many to be kept.
    pub keeps_data: bool,
}

/// What a backend for delivery speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// LMTP: LHLO, and a reply behind the message for each recipient who was agreed to.
    Lmtp,
    /// SMTP: EHLO or HELO, and one reply for all.
    Smtp,
}

/// A place in a session. Where there is a usual reply, it is in the place of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In the place of the greeting.
    Connect,
    /// Right behind the greeting; nothing was read.
    Greeted,
    /// At LHLO, EHLO or HELO.
    Hello,
    /// At STARTTLS.
    StartTls,
    /// At XCLIENT.
    Xclient,
    /// At XFORWARD.
    Xforward,
    /// At MAIL.
    Mail,
    /// At this RCPT of the transaction, counted from 1.
    Rcpt(usize),
    /// At DATA, in the place of the go-ahead.
    Data,
    /// In the message, once so many octets have come, but not before the next line end of DATA; with 0 before any is read.
    InData(usize),
    /// At this chunk that is not the last one, counted from 1, when it has come.
    Chunk(usize),
    /// When `BDAT n LAST` was read, and nothing of its octets.
    LastChunk,
    /// When the message is complete (the dot or the last chunk has come), before any reply.
    Dot,
    /// In the place of this reply behind the message, counted from 1. One more than there are stands for: behind all of them.
    Final(usize),
    /// At RSET.
    Rset,
    /// At QUIT.
    Quit,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Does {
    /// Closes the connection.
    Close,
    /// Resets it.
    Reset,
    /// Keeps it, reads nothing and says nothing any more, until the backend is stopped.
    Hang,
    /// Says this, exactly, line ends included, in the place of the usual reply. It has the effect that its first octet tells.
    Say(Vec<u8>),
    /// Repeats this, exactly, until the peer leaves.
    SayForEver(Vec<u8>),
    /// Waits for the signal and goes on.
    Wait(Signal),
}

impl Does {
    /// [`Does::Say`] with a text.
    pub fn say(text: &str) -> Does {
        Does::Say(text.as_bytes().to_vec())
    }
}

impl Default for Lmtp {
    /// LMTP with all it knows, in clear.
    fn default() -> Lmtp {
        Lmtp {
            flavour: Flavour::Lmtp,
            greeting: "220 fake.test LMTP ready".to_owned(),
            capabilities: "PIPELINING\nSIZE 104857600\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING\nDSN\n\
                           XCLIENT ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT\n\
                           XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\nXRCPTFORWARD"
                .to_owned(),
            tls: None,
            implicit: false,
            header: false,
            at_mail: "250 2.1.0 OK".to_owned(),
            at_rcpt: Vec::new(),
            after_data: Vec::new(),
            troubles: Vec::new(),
            line_end: "\r\n",
            lenient: false,
            keeps_data: true,
        }
    }
}

impl Lmtp {
    /// SMTP with all it knows, in clear. XCLIENT and XFORWARD are as Postfix lists them.
    pub fn smtp() -> Lmtp {
        Lmtp {
            flavour: Flavour::Smtp,
            greeting: "220 fake.test ESMTP ready".to_owned(),
            capabilities: "PIPELINING\nSIZE 104857600\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING\nDSN\n\
                           XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\n\
                           XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"
                .to_owned(),
            ..Lmtp::default()
        }
    }

    /// The same with this trouble, behind others that it has.
    #[must_use]
    pub fn with(mut self, at: At, does: Does) -> Lmtp {
        self.troubles.push((at, does));
        self
    }

    /// The same without these extensions.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Lmtp {
        let kept: Vec<_> = self.capabilities.lines().filter(|line| !names.contains(&word(line))).collect();
        self.capabilities = kept.join("\n");
        self
    }

    /// The same with this line among its extensions, in the place of one of the same name.
    #[must_use]
    pub fn offering(self, line: &str) -> Lmtp {
        let mut lmtp = self.without(&[word(line)]);
        lmtp.capabilities.push_str(&format!("\n{line}"));
        lmtp
    }

    /// The parameters of an extension, if it is offered.
    fn offers(&self, name: &str) -> Option<&str> {
        let line = self.capabilities.lines().find(|line| word(line) == name)?;
        Some(line.split_once(' ').map_or("", |(_, parameters)| parameters))
    }
}

fn word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// The answer of the first pair whose piece is in the text.
fn answer_for<'a>(pairs: &'a [(String, String)], text: &str) -> Option<&'a str> {
    pairs.iter().find(|(piece, _)| text.contains(&**piece)).map(|(_, answer)| &**answer)
}
