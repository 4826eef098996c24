//! ManageSieve in the demo: `wire`'s front before the login, a [`Shelf`] of scripts and the [`mailbox`] that serves it behind,
//! and what tape and script must know.
//!
//! The tape is wrong on the safe side: a line is shown only where its command is known to hold no secret, or where it is the
//! script that a command announced. How a client answers in an exchange is no command, and so is hidden without being asked for.
//!
//! RFC 5804.

mod mailbox;
mod shelf;

pub use shelf::Shelf;

use super::guest::{Guest, Took};
use super::invitation::Files;
use super::letters::Letter;
use super::scene::{ALICE, Doors, NAME, Person};
use super::script::Talk;
use super::speech::{ANSWER_MAX, Answer, Errand, Is, Speech, Turn, Verdicts, plain_response};
use mailbox::Mailbox;
use wire::login::{Front, Mechanism, Terms};
use wire::machine::Machine;
use wire::sieve::Caps;
use wire::sieve::reply::border;
use wire::sieve::text::{Announced, Cursor, look};

/// The script that comes with the demo.
pub const SCRIPT: &str = "# Filters, in the language of RFC 5228.\r\n\
                          require [\"fileinto\"];\r\n\
                          if header :contains \"subject\" \"lunch\" {\r\n    \
                          fileinto \"Important\";\r\n\
                          }\r\n";
/// What it is called.
const SCRIPT_NAME: &str = "lunch";

/// ManageSieve.
pub struct ManageSieve;

impl Speech for ManageSieve {
    fn name(&self) -> &'static str {
        "managesieve"
    }

    fn implicit(&self) -> Option<&'static str> {
        None
    }

    fn starttls(&self) -> &'static str {
        "STARTTLS"
    }

    fn carrier(&self) -> &'static str {
        "XCLIENT"
    }

    fn paste(&self, doors: &Doors, files: &Files) -> Vec<String> {
        let command = format!(
            "echo {} | sieve-connect --passwordfd 0 -u {} --tlscafile {} \\\n  -s {NAME} -p {}",
            ALICE.password,
            ALICE.user,
            files.ca,
            doors.clear.port(),
        );
        vec![format!("{command} --upload --localsieve {} --remotesieve mine", files.script), format!("{command} --list")]
    }

    fn by_hand(&self, person: &Person) -> String {
        let plain = plain_response(person.user, person.password);
        format!(
            "AUTHENTICATE \"PLAIN\" \"{plain}\", PUTSCRIPT \"short\" \"keep;\", SETACTIVE \"short\", LISTSCRIPTS, \
             GETSCRIPT \"short\", LOGOUT"
        )
    }

    fn openssl(&self) -> &'static str {
        "sieve"
    }

    fn front(&self, terms: Terms) -> Box<dyn Front> {
        Box::new(wire::sieve::front::Front::new(terms, Caps::default()))
    }

    fn capability(&self) -> &'static str {
        mailbox::CAPABILITY
    }

    fn mailbox(&self, guest: Guest) -> Box<dyn Machine<Event = Turn> + Send> {
        Box::new(Mailbox::new(guest.server, guest.shelf))
    }

    fn by(&self, mechanism: Mechanism) -> &'static str {
        match mechanism {
            // The protocol has no login of its own.
            Mechanism::Command | Mechanism::Plain | Mechanism::Xclient => "AUTHENTICATE PLAIN",
            Mechanism::Login => "AUTHENTICATE LOGIN",
        }
    }

    fn shown(&self, line: &[u8], is: Is) -> usize {
        const HARMLESS: [&str; 12] = [
            "CAPABILITY",
            "CHECKSCRIPT",
            "DELETESCRIPT",
            "GETSCRIPT",
            "HAVESPACE",
            "LISTSCRIPTS",
            "LOGOUT",
            "PUTSCRIPT",
            "RENAMESCRIPT",
            "SETACTIVE",
            "STARTTLS",
            "XCLIENT",
        ];
        let word = word(line);
        match is {
            Is::Secret => 0,
            Is::Text(_) => line.len(),
            Is::Command if HARMLESS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word)) => line.len(),
            // Both words of it; the response is the third.
            Is::Command if word.eq_ignore_ascii_case(b"AUTHENTICATE") => {
                line.iter().enumerate().filter(|(_, octet)| **octet == b' ').nth(1).map_or(line.len(), |(at, _)| at)
            }
            // People type one thing for another, and it would be repeated.
            Is::Command if word.eq_ignore_ascii_case(b"NOOP") => word.len(),
            Is::Command => 0,
        }
    }

    fn behind(&self, line: &[u8], is: Is) -> Is {
        if let Is::Text(left) = is
            && let Some(left) = left.checked_sub(line.len().saturating_add(2))
        {
            return Is::Text(left);
        }
        match look(line).announced {
            None => Is::Command,
            Some(Announced::Literal(octets)) if matches!(word(line), b"PUTSCRIPT" | b"CHECKSCRIPT") => {
                usize::try_from(octets).map_or(Is::Secret, Is::Text)
            }
            Some(_) => Is::Secret,
        }
    }

    fn asks(&self, _line: &[u8]) -> Option<Is> {
        None
    }

    fn greets_again(&self) -> bool {
        true
    }

    fn answer(&self, _tag: &str, _words: &str, input: &[u8]) -> Result<Option<Answer>, String> {
        let (mut octets, mut content) = (0usize, None);
        loop {
            let rest = input.get(octets..).unwrap_or_default();
            let Some(length) = border(rest, ANSWER_MAX)? else { return Ok(None) };
            let whole = rest.get(..length).unwrap_or_default();
            octets = octets.saturating_add(length);
            match whole.first() {
                Some(b'"') => {}
                Some(b'{') => content = content.or(Cursor::new(whole).string().ok()),
                _ => {
                    let verdict = String::from_utf8_lossy(whole).trim_end().to_owned();
                    if !["OK", "NO", "BYE"].contains(&verdict.split(' ').next().unwrap_or_default()) {
                        return Err(format!("the answer to a command was expected, not {verdict:?}"));
                    }
                    return Ok(Some(Answer { octets, verdict, content }));
                }
            }
        }
    }

    fn verdicts(&self) -> Verdicts {
        Verdicts {
            ok: &["OK"],
            wrong: "NO \"Authentication failed.\"",
            later: "NO (TRYLATER)",
            stranger: "NO \"You are not from trusted IP",
        }
    }

    fn lie(&self, ip: &str, session: &str) -> String {
        format!("XCLIENT ADDR={ip} PORT=66 SESSION={session} TTL=99")
    }

    fn login(&self, user: &str, password: &str) -> Vec<String> {
        vec![self.plain(&plain_response(user, password))]
    }

    fn plain(&self, response: &str) -> String {
        format!("AUTHENTICATE \"PLAIN\" \"{response}\"")
    }

    fn errand(&self, person: &Person, _letters: &[Letter]) -> Errand {
        Errand {
            commands: vec![
                format!("PUTSCRIPT \"{SCRIPT_NAME}\" {{{}+}}\r\n{SCRIPT}", SCRIPT.len()),
                format!("SETACTIVE \"{SCRIPT_NAME}\""),
                "LISTSCRIPTS".to_owned(),
                format!("GETSCRIPT \"{SCRIPT_NAME}\""),
            ],
            goods: SCRIPT.as_bytes().to_vec(),
            arrives: format!("the script that went to {} came back octet by octet", person.server),
        }
    }

    fn special(&self, person: &Person, talk: &Talk) -> Vec<(bool, String)> {
        let stored = talk.took().position(|took| matches!(took, Took::Script { name, .. } if name == SCRIPT_NAME));
        let active = talk.took().position(|took| matches!(took, Took::Active(Some(name)) if name == SCRIPT_NAME));
        let is_active = stored.is_some_and(|stored| active.is_some_and(|active| stored < active));
        vec![(is_active, format!("{} stored the script and made it the active one", person.server))]
    }

    fn quit(&self) -> &'static str {
        "LOGOUT"
    }
}

fn word(line: &[u8]) -> &[u8] {
    line.split(|octet| *octet == b' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tape::Tape;
    use super::*;

    #[test]
    fn passwords_are_left_out() {
        for (line, expected) in [
            ("AUTHENTICATE \"PLAIN\" \"AGEAYg==\"", "AUTHENTICATE \"PLAIN\" ***"),
            ("authenticate \"PLAIN\" {8+}", "authenticate \"PLAIN\" ***"),
            ("AUTHENTICATE  \"hunter2\"", "AUTHENTICATE ***"),
            ("AUTHENTICATE \"LOGIN\"", "AUTHENTICATE \"LOGIN\""),
            ("\"aHVudGVyMg==\"", "***"),
            ("hunter2", "***"),
            (" AUTHENTICATE hunter2", "***"),
            ("NOOP", "NOOP"),
            ("NOOP \"hunter2\"", "NOOP ***"),
            ("GETSCRIPT \"x\"", "GETSCRIPT \"x\""),
            ("XCLIENT ADDR=192.0.2.1", "XCLIENT ADDR=192.0.2.1"),
            ("", ""),
        ] {
            let mut tape = Tape::new(&ManageSieve);
            assert_eq!(tape.client(format!("{line}\r\n").as_bytes()), [expected], "{line}");
        }
    }

    #[test]
    fn scripts_are_shown_and_other_literals_are_not() {
        let mut tape = Tape::new(&ManageSieve);
        let said = tape.client(b"PUTSCRIPT \"x\" {9+}\r\nkeep;\r\n\r\n\r\nNOOP\r\n");
        assert_eq!(said, ["PUTSCRIPT \"x\" {9+}", "keep;", "", "", "NOOP"]);
        let said = tape.client(b"AUTHENTICATE \"PLAIN\" {4+}\r\nNOOP\r\nLOGOUT\r\n");
        assert_eq!(said, ["AUTHENTICATE \"PLAIN\" ***", "***", "LOGOUT"]);
        // A name that is a literal: the script behind it is not told from a command, and hidden.
        let said = tape.client(b"PUTSCRIPT {1+}\r\nx {4+}\r\na\r\n\r\nhunter2\r\n");
        assert_eq!(said[..1], ["PUTSCRIPT {1+}"]);
        assert_eq!(said[4..], ["***"]);
    }

    #[test]
    fn an_answer_is_found_when_it_is_whole() {
        let said = b"{10}\r\nOK\r\nkeep;\x0a\r\nOK \"Done.\"\r\nNO";
        let whole = said.len() - 2;
        for end in 0..whole {
            assert_eq!(ManageSieve.answer("", "", &said[..end]), Ok(None), "{end}");
        }
        let content = Some(b"OK\r\nkeep;\n".to_vec());
        let expected = Answer { octets: whole, verdict: "OK \"Done.\"".into(), content };
        assert_eq!(ManageSieve.answer("", "", said), Ok(Some(expected)));
        let list = ManageSieve.answer("", "", b"\"a\" ACTIVE\r\n\"b\"\r\nNO (TRYLATER) \"x\"\r\n").unwrap().unwrap();
        assert_eq!((list.verdict.as_str(), list.content), ("NO (TRYLATER) \"x\"", None));
        for junk in [&b"OKAY\r\n"[..], b"+OK\r\n", b"OK\n", b"{x}\r\n"] {
            assert!(ManageSieve.answer("", "", junk).is_err(), "{}", junk.escape_ascii());
        }
    }
}
