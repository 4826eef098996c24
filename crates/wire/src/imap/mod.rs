//! IMAP, as far as a proxy needs it: up to the login, on both sides (RFC 3501, RFC 9051).
//!
//! * [`text`]: how values are spelled (atom, quoted string, literal), read and written;
//! * [`border`]: where a command ends, under [`Caps`] in every state;
//! * [`command`]: what a command means, read and written;
//! * [`front`]: the server side before login;
//! * [`reply`]: what a backend answers;
//! * [`dialect`]: how the dance signs in to a backend;
//! * [`position`]: where in the backend's stream a line of ours would do no harm, after login;
//! * [`capability`]: which of a backend's capabilities clients may be told before login.
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

/// What a client may use up before login. All of it is enforced while reading, whatever the client is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// The longest command, in octets: all its lines together, without CRLFs and literals. RFC 7162 section 4 asks for at
    /// least 8192. A SASL response has the same cap.
    pub line: usize,
    /// The longest literal, in octets.
    pub literal: usize,
    /// How many literals a command may have.
    pub literals: usize,
    /// How many broken or unknown commands a connection may send: the last of them ends it.
    pub bad_commands: usize,
    /// How many commands of any kind are answered on a connection; the next one ends it.
    pub commands: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Caps { line: 8192, literal: 4096, literals: 2, bad_commands: 10, commands: 100 }
    }
}

/// How IMAP says that we end the connection: one line, CRLF included. Before login the front says it; after login it may
/// only be said where [`position::Position::is_safe`].
pub fn goodbye_line(why: Goodbye) -> &'static [u8] {
    match why {
        Goodbye::LoginTimeout => b"* BYE Too much time passed without a login.\r\n",
        Goodbye::Idle => b"* BYE Disconnected for inactivity.\r\n",
        Goodbye::TooManyFailures => b"* BYE Too many failed logins.\r\n",
        Goodbye::TooManyConnections => b"* BYE Too many connections without a login from your address.\r\n",
        Goodbye::ListenerFull => b"* BYE Too many connections to this port, please try again later.\r\n",
        Goodbye::ShuttingDown => b"* BYE Server is shutting down, please reconnect.\r\n",
        Goodbye::BackendLost => b"* BYE The connection to the mail server is lost, please reconnect.\r\n",
        Goodbye::Kicked => b"* BYE Disconnected by the administrator.\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goodbye_is_one_untagged_line() {
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
            assert!(line.starts_with(b"* BYE ") && line.ends_with(b".\r\n"), "{}", line.escape_ascii());
            assert_eq!(line.iter().filter(|octet| octet.is_ascii_control()).count(), 2);
        }
    }
}
