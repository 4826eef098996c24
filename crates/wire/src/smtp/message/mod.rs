//! The message way: servers that take mails and not logins (LMTP, RFC 2033), and how a mail is handed to the next one.
//!
//! * [`command`]: what a client of a mail transaction can ask, read and written;
//! * [`front`]: the server side, a machine over bytes;
//! * [`letter`]: where a letter ends, and what its lines are on the way in and on the way out;
//! * [`offers`]: what the next server takes, and how `MAIL` and `RCPT` are said to it.

pub mod command;
pub mod front;
pub mod letter;
pub mod offers;

use crate::login::Goodbye;

/// What a connection may use up. All of it is enforced while reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The longest command, in octets without CRLF; that of a trusted peer may be [`Caps::TRUSTED_LINE`].
    pub line: usize,
    /// How many broken or unknown commands a connection may send: the last of them ends it.
    pub bad_commands: usize,
    /// How many commands that lead to no mail are answered in a row; the next one ends the connection.
    pub idle_commands: usize,
    /// How many recipients a mail may have; the others are `452`.
    pub recipients: usize,
    /// The largest letter, in octets as it is passed on; a larger one is `552`.
    pub size: u64,
    /// What becomes of a CR or LF that stands alone in a letter.
    pub bare_newline: BareNewline,
    /// What a letter is refused for is told as "try later".
    pub soft_bounce: bool,
}

/// What becomes of a letter with line ends that are none (a CR or LF alone).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNewline {
    /// They become CRLF.
    Normalize,
    /// The letter is refused with `550 5.6.11`, and the connection ends.
    Reject,
}

impl Caps {
    /// The longest command of a trusted peer: XCLIENT, and RCPT with pairs (`XRCPTFORWARD`).
    pub const TRUSTED_LINE: usize = 16 * 1024;

    /// The most octets of one command that wait in the input for its end.
    pub fn held_at_most(&self) -> usize {
        self.line.max(Self::TRUSTED_LINE).saturating_add(2)
    }
}

impl Default for Caps {
    fn default() -> Self {
        Caps {
            line: 2048,
            bad_commands: 10,
            idle_commands: 100,
            recipients: 1000,
            size: 50 * 1024 * 1024,
            bare_newline: BareNewline::Normalize,
            soft_bounce: false,
        }
    }
}

/// What clients are told of what the backends can do: that reports on delivery are theirs to send. Everything else a front can do
/// by itself, or asks of the one backend that a recipient has.
pub fn tellable(list: &str) -> String {
    let dsn = list.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("DSN"));
    if dsn { "DSN".to_owned() } else { String::new() }
}

/// How we say that we end the connection: one line, CRLF included. Only where a reply is due, or none is.
pub fn goodbye_line(why: Goodbye) -> &'static [u8] {
    match why {
        Goodbye::LoginTimeout => b"421 4.4.2 Too much time passed without a mail.\r\n",
        Goodbye::TooManyConnections => b"421 4.7.0 Too many connections without a mail from your address.\r\n",
        other => super::goodbye_line(other),
    }
}
