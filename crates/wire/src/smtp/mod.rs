//! SMTP, as far as a proxy needs it for Submission: up to the login, on both sides (RFC 6409, RFC 5321, RFC 4954, RFC 3207,
//! RFC 2920).
//!
//! * [`command`]: what a command means, read and written;
//! * [`front`]: the server side before login;
//! * [`reply`]: what a backend answers;
//! * [`capability`]: what is on offer, as words;
//! * [`dialect`]: how the dance signs in to a backend;
//! * [`position`]: where in the backend's stream a line of ours would do no harm, after login;
//! * [`message`]: servers that take mails: LMTP.
//!
//! Deliberately absent from the login way: envelopes and letters. Behind the login those bytes belong to the client and its server.

mod answer;
pub mod capability;
pub mod command;
pub mod dialect;
pub mod front;
pub mod message;
pub mod position;
pub mod reply;
mod shown;

use crate::login::Goodbye;
use crate::origin::xclient;

/// What a client may use up before login. All of it is enforced while reading, whatever the client is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The longest command, in octets without CRLF; at least [`Caps::LINE_MIN`] count. `XCLIENT` of a trusted peer may always
    /// have [`xclient::READ_MAX`] octets of attributes.
    pub line: usize,
    /// The longest SASL response, and the longest `AUTH` that brings one along, in octets without CRLF (RFC 4954 section 4:
    /// 12288).
    pub sasl: usize,
    /// How many broken or unknown commands a connection may send: the last of them ends it.
    pub bad_commands: usize,
    /// How many commands of any kind are answered on a connection; the next one ends it.
    pub commands: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Caps { line: 2048, sasl: 12288, bad_commands: 10, commands: 100 }
    }
}

impl Caps {
    /// A shorter line could not hold the words by which commands with a longer one are known.
    pub const LINE_MIN: usize = 16;

    /// The most octets of one line, its CRLF included, and so the most that waits in the input for its end.
    pub fn held_at_most(&self) -> usize {
        self.line.max(Self::LINE_MIN).max(self.sasl).max(XCLIENT_LINE).saturating_add(2)
    }

    /// The longest line that may begin like this, in octets without CRLF.
    fn of(&self, start: &[u8], trusted: bool) -> usize {
        let line = self.line.max(Self::LINE_MIN);
        let begins = |word: &[u8]| start.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if begins(b"AUTH ") {
            line.max(self.sasl)
        } else if trusted && (begins(b"XCLIENT ") || begins(b"XCLIENT\t")) {
            line.max(XCLIENT_LINE)
        } else {
            line
        }
    }
}

/// `XCLIENT` and all that is read of it.
const XCLIENT_LINE: usize = xclient::READ_MAX;

/// How SMTP says that we end the connection: one line, CRLF included. Before login the front says it; after login it may only be
/// said where [`position::Position::is_safe`].
pub fn goodbye_line(why: Goodbye) -> &'static [u8] {
    match why {
        Goodbye::LoginTimeout => b"421 4.4.2 Too much time passed without a login.\r\n",
        Goodbye::Idle => b"421 4.4.2 Disconnected for inactivity.\r\n",
        Goodbye::TooManyFailures => b"421 4.7.0 Too many failed logins.\r\n",
        Goodbye::TooManyConnections => b"421 4.7.0 Too many connections without a login from your address.\r\n",
        Goodbye::ListenerFull => b"421 4.7.0 Too many connections to this port, please try again later.\r\n",
        Goodbye::ShuttingDown => b"421 4.3.2 Server is shutting down, please reconnect.\r\n",
        Goodbye::BackendLost => b"421 4.4.2 The connection to the mail server is lost, please reconnect.\r\n",
        Goodbye::Kicked => b"421 4.7.0 Disconnected by the administrator.\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goodbye_is_one_line() {
        for why in [
            Goodbye::LoginTimeout,
            Goodbye::Idle,
            Goodbye::TooManyFailures,
            Goodbye::TooManyConnections,
            Goodbye::ListenerFull,
            Goodbye::ShuttingDown,
            Goodbye::BackendLost,
            Goodbye::Kicked,
        ] {
            let line = goodbye_line(why);
            assert!(line.starts_with(b"421 4.") && line.ends_with(b".\r\n"), "{}", line.escape_ascii());
            assert_eq!(line.iter().filter(|octet| octet.is_ascii_control()).count(), 2);
        }
    }

    #[test]
    fn only_some_commands_may_be_long() {
        let caps = Caps { line: 100, sasl: 300, ..Caps::default() };
        for (start, stranger, trusted) in [
            ("EHLO x", 100, 100),
            ("MAIL FROM:<", 100, 100),
            ("AUTH", 100, 100),
            ("auth PLAIN", 300, 300),
            ("AUTHX ", 100, 100),
            ("XCLIENT A", 100, XCLIENT_LINE),
            ("xclient\tA", 100, XCLIENT_LINE),
            ("XCLIENTS ", 100, 100),
            ("", 100, 100),
        ] {
            assert_eq!((caps.of(start.as_bytes(), false), caps.of(start.as_bytes(), true)), (stranger, trusted), "{start}");
        }
        let tiny = Caps { line: 0, sasl: 0, ..caps };
        assert_eq!((tiny.of(b"", true), tiny.of(b"AUTH ", true)), (Caps::LINE_MIN, Caps::LINE_MIN));
        assert!(tiny.held_at_most() >= XCLIENT_LINE + 2);
    }
}
