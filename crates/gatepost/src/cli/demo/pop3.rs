//! POP3 in the demo: `wire`'s front before the login, a small [`mailbox`] behind it, and what tape and script must know.
//!
//! The tape is wrong on the safe side: a line is shown only where its command is known to hold no secret, and what a client
//! sends because the server asked for more is hidden.
//!
//! RFC 1939, RFC 2449, RFC 2595 (STLS), RFC 5034 (AUTH).

mod mailbox;

use super::guest::Guest;
use super::invitation::{Files, curl};
use super::letters::{self, Letter};
use super::scene::{Doors, Person};
use super::speech::{Answer, Errand, Is, Speech, Turn, Verdicts, first_line};
use mailbox::Mailbox;
use wire::login::{Front, Mechanism, Terms};
use wire::machine::Machine;
use wire::pop3::Caps;

/// POP3.
pub struct Pop3;

impl Speech for Pop3 {
    fn name(&self) -> &'static str {
        "pop3"
    }

    fn implicit(&self) -> Option<&'static str> {
        Some("pop3s")
    }

    fn starttls(&self) -> &'static str {
        "STLS"
    }

    fn carrier(&self) -> &'static str {
        "XCLIENT"
    }

    fn paste(&self, doors: &Doors, files: &Files) -> Vec<String> {
        curl(doors, files, ["pop3", "pop3s"], "1", |_| String::new())
    }

    fn by_hand(&self, person: &Person) -> String {
        format!("USER {}, PASS {}, LIST, TOP 1 99, QUIT", person.user, person.password)
    }

    fn openssl(&self) -> &'static str {
        "pop3"
    }

    fn front(&self, terms: Terms) -> Box<dyn Front> {
        Box::new(wire::pop3::front::Front::new(terms, Caps::default()))
    }

    fn capability(&self) -> &'static str {
        mailbox::CAPABILITY
    }

    fn mailbox(&self, guest: Guest) -> Box<dyn Machine<Event = Turn> + Send> {
        Box::new(Mailbox::new(guest.server, guest.letters))
    }

    fn by(&self, mechanism: Mechanism) -> &'static str {
        match mechanism {
            Mechanism::Command | Mechanism::Xclient => "USER and PASS",
            Mechanism::Plain => "AUTH PLAIN",
            Mechanism::Login => "AUTH LOGIN",
        }
    }

    fn shown(&self, line: &[u8], is: Is) -> usize {
        const HARMLESS: [&str; 14] =
            ["CAPA", "DELE", "LIST", "NOOP", "QUIT", "RETR", "RSET", "STAT", "STLS", "TOP", "UIDL", "USER", "XCLIENT", "XOIP"];
        let word = word(line);
        if is != Is::Command {
            0
        } else if HARMLESS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word)) {
            line.len()
        } else if word.eq_ignore_ascii_case(b"AUTH") {
            // Both words of it; the response is the third.
            line.iter().enumerate().filter(|(_, octet)| **octet == b' ').nth(1).map_or(line.len(), |(at, _)| at)
        } else if word.eq_ignore_ascii_case(b"PASS") {
            word.len()
        } else {
            0
        }
    }

    fn behind(&self, _line: &[u8], _is: Is) -> Is {
        Is::Command
    }

    fn asks(&self, line: &[u8]) -> Option<Is> {
        (line == b"+" || line.starts_with(b"+ ")).then_some(Is::Secret)
    }

    fn answer(&self, _tag: &str, words: &str, input: &[u8]) -> Result<Option<Answer>, String> {
        let Some(line) = first_line(input)? else { return Ok(None) };
        let verdict = String::from_utf8_lossy(line).into_owned();
        let mut octets = line.len().saturating_add(2);
        if !is_ok(line) && !line.starts_with(b"-ERR") {
            return Err(format!("the answer to a command was expected, not {verdict:?}"));
        }
        if !is_ok(line) || !is_list(words) {
            return Ok(Some(Answer { octets, verdict, content: None }));
        }
        let mut letter = Vec::new();
        loop {
            let Some(line) = first_line(input.get(octets..).unwrap_or_default())? else { return Ok(None) };
            octets = octets.saturating_add(line.len()).saturating_add(2);
            if line == b"." {
                let content = word(words.as_bytes()).eq_ignore_ascii_case(b"RETR").then_some(letter);
                return Ok(Some(Answer { octets, verdict, content }));
            }
            letter.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            letter.extend_from_slice(b"\r\n");
        }
    }

    fn verdicts(&self) -> Verdicts {
        Verdicts { ok: &["+OK"], wrong: "-ERR [AUTH]", later: "-ERR [SYS/TEMP]", stranger: "+OK" }
    }

    fn lie(&self, ip: &str, session: &str) -> String {
        format!("XCLIENT ADDR={ip} PORT=66 SESSION={session} TTL=99")
    }

    fn login(&self, user: &str, password: &str) -> Vec<String> {
        vec![format!("USER {user}"), format!("PASS {password}")]
    }

    fn plain(&self, response: &str) -> String {
        format!("AUTH PLAIN {response}")
    }

    fn errand(&self, person: &Person, letters: &[Letter]) -> Errand {
        letters::fetched(person, letters, &["STAT", "RETR 1"])
    }

    fn quit(&self) -> &'static str {
        "QUIT"
    }
}

fn word(line: &[u8]) -> &[u8] {
    line.split(|octet| *octet == b' ').next().unwrap_or_default()
}

fn is_ok(line: &[u8]) -> bool {
    line == b"+OK" || line.starts_with(b"+OK ")
}

/// Whether a good answer to this command has more lines.
fn is_list(words: &str) -> bool {
    let alone = !words.contains(' ');
    match words.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "CAPA" | "RETR" | "TOP" => true,
        "LIST" | "UIDL" => alone,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tape::Tape;
    use super::*;

    #[test]
    fn passwords_are_left_out() {
        for (line, expected) in [
            ("USER alice", "USER alice"),
            ("PASS hunter2", "PASS ***"),
            ("pass hunter2 and more", "pass ***"),
            ("PASS", "PASS"),
            ("AUTH PLAIN AGEAYg==", "AUTH PLAIN ***"),
            ("auth plain", "auth plain"),
            ("AUTH  hunter2", "AUTH ***"),
            ("AUTH", "AUTH"),
            ("APOP alice hunter2", "***"),
            ("hunter2", "***"),
            (" PASS hunter2", "***"),
            ("\tPASS hunter2", "***"),
            ("RETR 1", "RETR 1"),
            ("XCLIENT ADDR=192.0.2.1", "XCLIENT ADDR=192.0.2.1"),
            ("", ""),
        ] {
            let mut tape = Tape::new(&Pop3);
            assert_eq!(tape.client(format!("{line}\r\n").as_bytes()), [expected], "{line}");
        }
    }

    #[test]
    fn answers_to_the_server_are_left_out() {
        let mut tape = Tape::new(&Pop3);
        tape.server(b"+OK ready\r\n");
        assert_eq!(tape.client(b"AUTH LOGIN\r\n"), ["AUTH LOGIN"]);
        assert_eq!(tape.server(b"+ VXNlcm5hbWU6\r\n"), ["+ VXNlcm5hbWU6"]);
        assert_eq!(tape.client(b"USER\r\nNOOP\r\n"), ["***", "NOOP"]);
    }

    #[test]
    fn an_answer_is_found_when_it_is_whole() {
        let said = b"+OK 9 octets\r\n..a\r\n\r\n...\r\n.\r\n+OK";
        let whole = said.len() - 3;
        for end in 0..whole {
            assert_eq!(Pop3.answer("", "retr 1", &said[..end]), Ok(None), "{end}");
        }
        let content = Some(b".a\r\n\r\n..\r\n".to_vec());
        assert_eq!(Pop3.answer("", "retr 1", said), Ok(Some(Answer { octets: whole, verdict: "+OK 9 octets".into(), content })));
        for (words, first) in [("LIST", false), ("LIST 1", true), ("STAT", true), ("CAPA", false), ("UIDL 1", true)] {
            let octets = if first { 14 } else { whole };
            assert_eq!(Pop3.answer("", words, said).unwrap().unwrap().octets, octets, "{words}");
        }
        let no = Pop3.answer("", "RETR 1", b"-ERR no\r\n+OK\r\n").unwrap().unwrap();
        assert_eq!((no.octets, no.verdict.as_str(), no.content), (9, "-ERR no", None));
        for junk in [&b"OK\r\n"[..], b"+OKAY\r\n", b"+ \r\n", b"+OK\n"] {
            assert!(Pop3.answer("", "STAT", junk).is_err(), "{}", junk.escape_ascii());
        }
    }
}
