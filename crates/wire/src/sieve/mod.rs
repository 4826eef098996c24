//! ManageSieve, as far as a proxy needs it: up to the login, on both sides (RFC 5804).
//!
//! * [`text`]: how values are spelled (quoted string, literal), read and written;
//! * [`border`]: where a command ends, under [`Caps`] in every state;
//! * [`command`]: what a command means, read and written;
//! * [`front`]: the server side before login;
//! * [`reply`]: what a backend answers;
//! * [`capability`]: what a backend can do, and which of it clients may be told before login;
//! * [`dialect`]: how the dance signs in to a backend;
//! * [`position`]: where in the backend's stream a line of ours would do no harm, after login.
//!
//! Deliberately absent: everything behind the login. Those bytes belong to the client and its server.

mod answer;
pub mod border;
pub mod capability;
pub mod command;
pub mod dialect;
pub mod front;
pub mod position;
pub mod reply;
mod shown;
pub mod text;

use crate::login::Goodbye;
use crate::origin::xclient;

/// What a client may use up before login. All of it is enforced while reading, whatever the client is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The longest command, in octets: all its lines together, without literals; at least [`Caps::LINE_MIN`] count. `XCLIENT` of
    /// a trusted peer may always say [`xclient::READ_MAX`] octets. A SASL response has the same cap.
    pub line: usize,
    /// The longest quoted string, in octets between its quotes.
    pub quoted: usize,
    /// The longest literal, in octets; those of one command together may not be longer.
    pub literal: usize,
    /// How many broken or unknown commands a connection may send: the last of them ends it.
    pub bad_commands: usize,
    /// How many commands of any kind are answered on a connection; the next one ends it.
    pub commands: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Caps { line: 2048, quoted: text::QUOTED_MAX, literal: 12_288, bad_commands: 10, commands: 100 }
    }
}

impl Caps {
    /// A shorter line could not hold the word by which commands with a longer one are known.
    pub const LINE_MIN: usize = 16;

    /// The most octets of one command, its last CRLF included, and so the most that waits in the input for its end.
    pub fn held_at_most(&self) -> usize {
        let line = self.line.max(Self::LINE_MIN).max(xclient::READ_MAX);
        line.saturating_add(self.literal).saturating_add(2)
    }

    /// The longest command that may begin like this, in octets.
    fn of(&self, start: &[u8], trusted: bool) -> usize {
        let line = self.line.max(Self::LINE_MIN);
        let word = b"XCLIENT ";
        let is_xclient = start.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if trusted && is_xclient { line.max(xclient::READ_MAX) } else { line }
    }
}

/// How ManageSieve says that we end the connection: one line, CRLF included. Before login the front says it; after login it may
/// only be said where [`position::Position::is_safe`]. `(TRYLATER)` stands where the trouble is ours.
pub fn goodbye_line(why: Goodbye) -> &'static [u8] {
    match why {
        Goodbye::LoginTimeout => b"BYE \"Too much time passed without a login.\"\r\n",
        Goodbye::Idle => b"BYE \"Disconnected for inactivity.\"\r\n",
        Goodbye::TooManyFailures => b"BYE \"Too many failed logins.\"\r\n",
        Goodbye::TooManyConnections => b"BYE \"Too many connections without a login from your address.\"\r\n",
        Goodbye::ListenerFull => b"BYE (TRYLATER) \"Too many connections to this port, please try again later.\"\r\n",
        Goodbye::ShuttingDown => b"BYE (TRYLATER) \"Server is shutting down, please reconnect.\"\r\n",
        Goodbye::BackendLost => b"BYE (TRYLATER) \"The connection to the mail server is lost, please reconnect.\"\r\n",
        Goodbye::Kicked => b"BYE \"Disconnected by the administrator.\"\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::reply::{self, Condition, Reply};
    use super::*;

    #[test]
    fn every_goodbye_is_one_line_of_the_grammar() {
        for (why, code) in [
            (Goodbye::LoginTimeout, None),
            (Goodbye::Idle, None),
            (Goodbye::TooManyFailures, None),
            (Goodbye::TooManyConnections, None),
            (Goodbye::ListenerFull, Some(&b"TRYLATER"[..])),
            (Goodbye::ShuttingDown, Some(b"TRYLATER")),
            (Goodbye::BackendLost, Some(b"TRYLATER")),
            (Goodbye::Kicked, None),
        ] {
            let line = goodbye_line(why);
            assert_eq!(line.iter().filter(|octet| octet.is_ascii_control()).count(), 2);
            let Ok(Reply::Status(status)) = reply::read(line) else { panic!("{}", line.escape_ascii()) };
            assert_eq!((status.condition, status.code.map(|code| code.name)), (Condition::Bye, code));
            assert!(status.text.ends_with(b"."));
        }
    }

    #[test]
    fn only_a_trusted_xclient_may_be_long() {
        let caps = Caps { line: 100, ..Caps::default() };
        for (start, stranger, trusted) in [
            ("CAPABILITY", 100, 100),
            ("AUTHENTICATE \"PLAIN\" ", 100, 100),
            ("XCLIENT A", 100, xclient::READ_MAX),
            ("xclient ", 100, xclient::READ_MAX),
            ("XCLIENTS", 100, 100),
            ("", 100, 100),
        ] {
            assert_eq!((caps.of(start.as_bytes(), false), caps.of(start.as_bytes(), true)), (stranger, trusted), "{start}");
        }
        let tiny = Caps { line: 0, ..caps };
        assert_eq!(tiny.of(b"", true), Caps::LINE_MIN);
        assert!(tiny.held_at_most() >= xclient::READ_MAX + tiny.literal);
    }
}
