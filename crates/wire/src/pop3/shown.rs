//! Commands before login as an operator may see them: secrets are masked because of what they are (see [`crate::overheard`]).

use super::command::{Command, Malformed};
use crate::overheard::{MASK, Shown, mechanism, quoted};
use crate::secret::Secret;

/// Words with which commands begin.
const WORDS: [&str; 18] = [
    "APOP", "AUTH", "CAPA", "DELE", "LIST", "NOOP", "PASS", "QUIT", "RETR", "RSET", "STAT", "STLS", "TOP", "UIDL", "USER",
    "UTF8", "XCLIENT", "XOIP",
];

impl Command {
    /// The command as it is shown.
    pub fn shown(&self) -> Shown {
        match self {
            Command::Capa => Shown::plain("CAPA"),
            Command::Stls => Shown::plain("STLS"),
            Command::Noop => Shown::plain("NOOP"),
            Command::Quit => Shown::plain("QUIT"),
            Command::Mechanisms => Shown::plain("AUTH"),
            Command::User(name) => Shown {
                user: std::str::from_utf8(name.expose()).ok().map(str::to_owned),
                ..Shown::plain(format!("USER {}", quoted(name.expose())))
            },
            Command::Pass(_) => Shown::plain(format!("PASS {MASK}")),
            Command::Auth { mechanism: name, initial } => {
                let initial = match initial.as_ref().map(Secret::expose) {
                    None => String::new(),
                    Some(empty) if empty.is_empty() => " =".to_owned(),
                    Some(_) => format!(" {MASK}"),
                };
                Shown::plain(format!("AUTH {}{initial}", mechanism(name)))
            }
            Command::Xclient(attributes) => Shown::xclient(attributes),
            Command::Other => Shown::plain("..."),
        }
    }
}

/// A whole line that was read, understood or not.
pub(super) fn read(line: &[u8], command: &Result<Command, Malformed>) -> Shown {
    match command {
        Ok(Command::Other) => withheld(line, "no command before login"),
        Ok(command) => command.shown(),
        Err(_) => withheld(line, "malformed"),
    }
}

/// What was not understood, or is not whole: anything may be in it.
pub(super) fn withheld(octets: &[u8], why: &str) -> Shown {
    Shown::withheld_behind(&WORDS, octets, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_and_secrets_are_not() {
        for (line, expected) in [
            (&b"CAPA"[..], "CAPA"),
            (b"user alice", "USER \"alice\""),
            (b"PASS hunter2", "PASS ***"),
            (b"PASS", "PASS ... (4 octets, malformed)"),
            (b"AUTH", "AUTH"),
            (b"AUTH PLAIN", "AUTH PLAIN"),
            (b"AUTH PLAIN AGFsaWNlAGh1bnRlcjI=", "AUTH PLAIN ***"),
            (b"AUTH PLAIN =", "AUTH PLAIN ="),
            (b"AUTH PLAIN AGFsaWNlAGh1bnRlcjI", "AUTH ... (30 octets, malformed)"),
            (b"AGFsaWNlAGh1bnRlcjI=", "... (20 octets, no command before login)"),
            (b"APOP alice c4c9334bac560ecc979e58001b3e22fb", "APOP ... (43 octets, no command before login)"),
            (
                b"XCLIENT ADDR=192.0.2.1 hunter2=x FORWARD=dG9rZW49aHVudGVyMg==",
                "XCLIENT ADDR=192.0.2.1 ... (9 octets) FORWARD=***",
            ),
            (b"XOIP 192.0.2.1", "XCLIENT ADDR=192.0.2.1"),
            (b"USER a\tb", "USER ... (8 octets, malformed)"),
        ] {
            assert_eq!(read(line, &Command::read(line)).text, expected);
        }
    }
}
