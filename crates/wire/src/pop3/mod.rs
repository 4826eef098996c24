//! POP3, as far as a proxy needs it: up to the login, on both sides (RFC 1939, RFC 2449).
//!
//! * [`command`]: what a command means, read and written;
//! * [`front`]: the server side before login;
//! * [`reply`]: what a backend answers;
//! * [`dialect`]: how the dance signs in to a backend;
//! * [`position`]: where in the backend's stream a line of ours would do no harm, after login.
//!
//! Deliberately absent: everything behind the login. Those bytes belong to the client and its server.

mod answer;
pub mod command;
pub mod dialect;
pub mod front;
pub mod position;
pub mod reply;
mod shown;

use crate::login::Goodbye;
use crate::origin::xclient;
use crate::sasl::PASSWORD_MAX;

/// What a client may use up before login. All of it is enforced while reading, whatever the client is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The longest command, in octets without CRLF; at least [`Caps::LINE_MIN`] count, and RFC 2449 section 4 asks for 253.
    /// `PASS` may always say the longest password, and `XCLIENT` of a trusted peer [`xclient::READ_MAX`] octets.
    pub line: usize,
    /// The longest SASL response, and the longest `AUTH` that brings one along, in octets without CRLF.
    pub sasl: usize,
    /// How many broken or unknown commands a connection may send: the last of them ends it.
    pub bad_commands: usize,
    /// How many commands of any kind are answered on a connection; the next one ends it.
    pub commands: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Caps { line: 512, sasl: 8192, bad_commands: 10, commands: 100 }
    }
}

impl Caps {
    /// A shorter line could not hold the words by which commands with a longer one are known.
    pub const LINE_MIN: usize = 16;

    /// The most octets of one line, its CRLF included, and so the most that waits in the input for its end.
    pub fn held_at_most(&self) -> usize {
        let longest = [self.line.max(Self::LINE_MIN), self.sasl, PASS_LINE, XCLIENT_LINE].into_iter().max().unwrap_or_default();
        longest.saturating_add(2)
    }

    /// The longest line that may begin like this, in octets without CRLF.
    fn of(&self, start: &[u8], trusted: bool) -> usize {
        let line = self.line.max(Self::LINE_MIN);
        let begins = |word: &[u8]| start.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if begins(b"PASS ") {
            line.max(PASS_LINE)
        } else if begins(b"AUTH ") {
            line.max(self.sasl)
        } else if trusted && (begins(b"XCLIENT ") || begins(b"XOIP ")) {
            line.max(XCLIENT_LINE)
        } else {
            line
        }
    }
}

/// `PASS` and the longest password.
const PASS_LINE: usize = "PASS ".len() + PASSWORD_MAX;

/// `XCLIENT` and all that is read of it.
const XCLIENT_LINE: usize = xclient::READ_MAX;

/// How POP3 says that we end the connection: one line, CRLF included. Before login the front says it; after login it may
/// only be said where [`position::Position::is_safe`]. `[SYS/TEMP]` (RFC 3206) stands where the trouble is ours.
pub fn goodbye_line(why: Goodbye) -> &'static [u8] {
    match why {
        Goodbye::LoginTimeout => b"-ERR Too much time passed without a login.\r\n",
        Goodbye::Idle => b"-ERR Disconnected for inactivity.\r\n",
        Goodbye::TooManyFailures => b"-ERR Too many failed logins.\r\n",
        Goodbye::TooManyConnections => b"-ERR Too many connections without a login from your address.\r\n",
        Goodbye::ListenerFull => b"-ERR [SYS/TEMP] Too many connections to this port, please try again later.\r\n",
        Goodbye::ShuttingDown => b"-ERR [SYS/TEMP] Server is shutting down, please reconnect.\r\n",
        Goodbye::BackendLost => b"-ERR [SYS/TEMP] The connection to the mail server is lost, please reconnect.\r\n",
        Goodbye::Kicked => b"-ERR Disconnected by the administrator.\r\n",
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
            assert!(line.starts_with(b"-ERR ") && line.ends_with(b".\r\n"), "{}", line.escape_ascii());
            assert_eq!(line.iter().filter(|octet| octet.is_ascii_control()).count(), 2);
        }
    }

    #[test]
    fn only_some_commands_may_be_long() {
        let caps = Caps { line: 100, sasl: 300, ..Caps::default() };
        for (start, stranger, trusted) in [
            ("CAPA", 100, 100),
            ("USER joe", 100, 100),
            ("PASS", 100, 100),
            ("pass x", PASS_LINE, PASS_LINE),
            ("PASSX ", 100, 100),
            ("Auth PLAIN", 300, 300),
            ("XCLIENT A", 100, XCLIENT_LINE),
            ("xoip 1", 100, XCLIENT_LINE),
            ("", 100, 100),
        ] {
            assert_eq!((caps.of(start.as_bytes(), false), caps.of(start.as_bytes(), true)), (stranger, trusted), "{start}");
        }
        let tiny = Caps { line: 0, sasl: 0, ..caps };
        assert_eq!((tiny.of(b"", true), tiny.of(b"AUTH ", true)), (Caps::LINE_MIN, Caps::LINE_MIN));
        assert!(tiny.held_at_most() >= XCLIENT_LINE + 2);
    }
}
