//! Commands before login as an operator may see them: secrets are masked because of what they are (see [`crate::overheard`]).

use super::command::Command;
use super::text::Malformed;
use crate::overheard::{MASK, Shown, mechanism, quoted};
use crate::secret::Secret;

/// Words with which commands begin.
const WORDS: [&str; 15] = [
    "AUTHENTICATE",
    "CAPABILITY",
    "CHECKSCRIPT",
    "DELETESCRIPT",
    "GETSCRIPT",
    "HAVESPACE",
    "LISTSCRIPTS",
    "LOGOUT",
    "NOOP",
    "PUTSCRIPT",
    "RENAMESCRIPT",
    "SETACTIVE",
    "STARTTLS",
    "UNAUTHENTICATE",
    "XCLIENT",
];

impl Command {
    /// The command as it is shown.
    pub fn shown(&self) -> Shown {
        match self {
            Command::Capability => Shown::plain("CAPABILITY"),
            Command::StartTls => Shown::plain("STARTTLS"),
            Command::Logout => Shown::plain("LOGOUT"),
            Command::Noop(None) => Shown::plain("NOOP"),
            // The tag is whatever somebody chose, and the answer may repeat it.
            Command::Noop(Some(tag)) => Shown { free: true, ..Shown::plain(format!("NOOP {}", quoted(tag.expose()))) },
            Command::Authenticate { mechanism: name, initial } => {
                let initial = match initial.as_ref().map(Secret::expose) {
                    None => String::new(),
                    Some(empty) if empty.is_empty() => " \"\"".to_owned(),
                    Some(_) => format!(" {MASK}"),
                };
                Shown::plain(format!("AUTHENTICATE {}{initial}", mechanism(name)))
            }
            Command::Xclient(attributes) => Shown::xclient(attributes),
            Command::Other => Shown::plain("..."),
        }
    }
}

/// A whole command that was read, understood or not.
pub(super) fn read(whole: &[u8], command: &Result<Command, Malformed>) -> Shown {
    match command {
        Ok(Command::Other) => withheld(whole, "no command before login"),
        Ok(command) => command.shown(),
        Err(_) => withheld(whole, "malformed"),
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
        for (command, expected) in [
            (&b"CAPABILITY"[..], "CAPABILITY"),
            (b"NOOP", "NOOP"),
            (b"noop \"a\\\"b\"", "NOOP \"a\\\"b\""),
            (b"AUTHENTICATE \"PLAIN\"", "AUTHENTICATE PLAIN"),
            (b"AUTHENTICATE \"PLAIN\" \"AGFsaWNlAGh1bnRlcjI=\"", "AUTHENTICATE PLAIN ***"),
            (b"AUTHENTICATE \"PLAIN\" {20+}\r\nAGFsaWNlAGh1bnRlcjI=", "AUTHENTICATE PLAIN ***"),
            (b"AUTHENTICATE \"PLAIN\" \"\"", "AUTHENTICATE PLAIN \"\""),
            (b"AUTHENTICATE \"hunter2\"", "AUTHENTICATE (some mechanism, 7 octets)"),
            (b"AUTHENTICATE \"PLAIN\" \"AGFsaWNlAGh1bnRlcjI\"", "AUTHENTICATE ... (44 octets, malformed)"),
            (b"\"AGFsaWNlAGh1bnRlcjI=\"", "... (24 octets, no command before login)"),
            (b"PUTSCRIPT \"x\" {3+}\r\nabc", "PUTSCRIPT ... (25 octets, no command before login)"),
            (
                b"XCLIENT ADDR=192.0.2.1 hunter2=x FORWARD=dG9rZW49aHVudGVyMg==",
                "XCLIENT ADDR=192.0.2.1 ... (9 octets) FORWARD=***",
            ),
        ] {
            let whole = [command, b"\r\n"].concat();
            assert_eq!(read(&whole, &Command::read(&whole)).text, expected);
        }
    }
}
