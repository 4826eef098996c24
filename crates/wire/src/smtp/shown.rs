//! Commands before login as an operator may see them: secrets are masked because of what they are (see [`crate::overheard`]).

use super::command::{Command, Malformed};
use crate::origin::xclient::smtp::{self as xclient, Rules};
use crate::overheard::{MASK, Shown, mechanism, text};
use crate::secret::Secret;

/// Words with which commands begin.
const WORDS: [&str; 20] = [
    "AUTH", "BDAT", "BURL", "DATA", "EHLO", "ETRN", "EXPN", "HELO", "HELP", "LHLO", "MAIL", "NOOP", "QUIT", "RCPT", "RSET",
    "STARTTLS", "TURN", "VRFY", "XCLIENT", "XFORWARD",
];

impl Command {
    /// The command as it is shown; of those that are looked into only the word and what they say of a client.
    pub fn shown(&self) -> Shown {
        let free = |text: String| Shown { free: true, ..Shown::plain(text) };
        match self {
            Command::Ehlo(name) if name.is_empty() => Shown::plain("EHLO ..."),
            Command::Helo(name) if name.is_empty() => Shown::plain("HELO ..."),
            Command::Ehlo(name) => free(format!("EHLO {name}")),
            Command::Helo(name) => free(format!("HELO {name}")),
            Command::Lhlo(name) => free(format!("LHLO {name}")),
            Command::StartTls => Shown::plain("STARTTLS"),
            Command::Auth { mechanism: name, initial } => {
                let initial = match initial.as_ref().map(Secret::expose) {
                    None => String::new(),
                    Some(empty) if empty.is_empty() => " =".to_owned(),
                    Some(_) => format!(" {MASK}"),
                };
                Shown::plain(format!("AUTH {}{initial}", mechanism(name)))
            }
            Command::Noop => Shown::plain("NOOP"),
            Command::Rset => Shown::plain("RSET"),
            Command::Help => Shown::plain("HELP"),
            Command::Quit => Shown::plain("QUIT"),
            Command::Xclient(attributes) => xclient(attributes),
            Command::Mail | Command::Data | Command::Bdat | Command::NeedsLogin | Command::Other => Shown::plain("..."),
        }
    }
}

/// XCLIENT: names and values. `FORWARD` is base64 of more of them, and is not taken apart here.
pub(super) fn xclient(attributes: &[u8]) -> Shown {
    let words = attributes.split(|octet| matches!(octet, b' ' | b'\t')).filter(|word| !word.is_empty()).map(|word| {
        let text = text(word);
        match text.split_once('=') {
            Some((name, _)) if name.eq_ignore_ascii_case("FORWARD") => format!("FORWARD={MASK}"),
            Some((name, _)) if xclient::listed(true).split(' ').any(|known| known.eq_ignore_ascii_case(name)) => text,
            _ => format!("... ({} octets)", word.len()),
        }
    });
    let text = std::iter::once("XCLIENT".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
    let said = xclient::read(attributes, Rules { may_vouch: true, as_exim: false });
    let user = said.ok().and_then(|said| said.user?.known().map(str::to_owned));
    Shown { free: true, user, ..Shown::plain(text) }
}

/// A whole line that was read, understood or not.
pub(super) fn read(line: &[u8], command: &Result<Command, Malformed>) -> Shown {
    match command {
        Ok(Command::Mail | Command::Data | Command::Bdat | Command::NeedsLogin) => withheld(line, "for the mail server"),
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
            (&b"ehlo client.example"[..], "EHLO client.example"),
            (b"HELO [192.0.2.1]", "HELO [192.0.2.1]"),
            (b"EHLO two words", "EHLO ..."),
            (b"STARTTLS", "STARTTLS"),
            (b"NOOP hunter2", "NOOP"),
            (b"HELP hunter2", "HELP"),
            (b"AUTH PLAIN", "AUTH PLAIN"),
            (b"AUTH PLAIN AGFsaWNlAGh1bnRlcjI=", "AUTH PLAIN ***"),
            (b"AUTH LOGIN =", "AUTH LOGIN ="),
            (b"AUTH PLAIN AGFsaWNlAGh1bnRlcjI", "AUTH ... (30 octets, malformed)"),
            (b"AUTH HUNTER2", "AUTH (some mechanism, 7 octets)"),
            (b"AGFsaWNlAGh1bnRlcjI=", "... (20 octets, no command before login)"),
            (b"MAIL FROM:<a@example.com>", "MAIL ... (25 octets, for the mail server)"),
            (b"BDAT 5 LAST", "BDAT ... (11 octets, for the mail server)"),
            (
                b"XCLIENT ADDR=192.0.2.1 hunter2=x\tFORWARD=dG9rZW49aHVudGVyMg==",
                "XCLIENT ADDR=192.0.2.1 ... (9 octets) FORWARD=***",
            ),
        ] {
            assert_eq!(read(line, &Command::read(line)).text, expected);
        }
        let vouched = xclient(b"ADDR=192.0.2.1 LOGIN=joe+40example.org");
        assert_eq!(vouched.user.as_deref(), Some("joe@example.org"));
    }
}
