//! IMAP in the demo: `wire`'s front before the login, a small [`mailbox`] behind it, and what tape and script must know.
//!
//! The tape is wrong on the safe side: the last argument of LOGIN, everything behind the mechanism of AUTHENTICATE, and every
//! line that a client sends as a literal or because the server asked for more, is hidden.

mod fetch;
mod mailbox;

use super::guest::Guest;
use super::invitation::{Files, curl};
use super::letters::{self, Letter};
use super::scene::{Doors, Person};
use super::speech::{ANSWER_MAX, Answer, Errand, Is, Speech, Turn, Verdicts, first_line};
use mailbox::Mailbox;
use wire::imap::Caps;
use wire::imap::text::{Announced, Cursor, announced, is_tag_char};
use wire::login::{Front, Mechanism, Terms};
use wire::machine::Machine;

/// The most untagged responses before an answer.
const UNTAGGED_MAX: usize = 100;

/// IMAP.
pub struct Imap;

impl Speech for Imap {
    fn name(&self) -> &'static str {
        "imap"
    }

    fn implicit(&self) -> Option<&'static str> {
        Some("imaps")
    }

    fn starttls(&self) -> &'static str {
        "STARTTLS"
    }

    fn carrier(&self) -> &'static str {
        "ID"
    }

    fn paste(&self, doors: &Doors, files: &Files) -> Vec<String> {
        curl(doors, files, ["imap", "imaps"], "INBOX;UID=1", |_| String::new())
    }

    fn by_hand(&self, person: &Person) -> String {
        format!("a LOGIN {} {}, b SELECT INBOX, c FETCH 1:* BODY[TEXT], d LOGOUT", person.user, person.password)
    }

    fn openssl(&self) -> &'static str {
        "imap"
    }

    fn front(&self, terms: Terms) -> Box<dyn Front> {
        Box::new(wire::imap::front::Front::new(terms, Caps::default()))
    }

    fn capability(&self) -> &'static str {
        "IDLE UNSELECT"
    }

    fn capability_inside(&self) -> Option<&'static str> {
        Some(mailbox::CAPABILITY)
    }

    fn mailbox(&self, guest: Guest) -> Box<dyn Machine<Event = Turn> + Send> {
        Box::new(Mailbox::new(guest.server, guest.letters))
    }

    fn by(&self, mechanism: Mechanism) -> &'static str {
        match mechanism {
            Mechanism::Command | Mechanism::Xclient => "LOGIN",
            Mechanism::Plain => "AUTHENTICATE PLAIN",
            Mechanism::Login => "AUTHENTICATE LOGIN",
        }
    }

    fn shown(&self, line: &[u8], is: Is) -> usize {
        let may_be_secret = is != Is::Command && !line.eq_ignore_ascii_case(b"DONE");
        if may_be_secret { 0 } else { without_password(line) }
    }

    fn behind(&self, line: &[u8], _is: Is) -> Is {
        if announced(line).is_some() { Is::Secret } else { Is::Command }
    }

    fn asks(&self, line: &[u8]) -> Option<Is> {
        line.starts_with(b"+").then_some(Is::Secret)
    }

    fn greeting(&self, input: &[u8]) -> Result<Option<Answer>, String> {
        let Some(line) = first_line(input)? else { return Ok(None) };
        let verdict = String::from_utf8_lossy(line.strip_prefix(b"* ").unwrap_or_default()).into_owned();
        Ok(Some(Answer { octets: line.len().saturating_add(2), verdict, content: None }))
    }

    fn command(&self, tag: &str, words: &str) -> String {
        format!("{tag} {words}")
    }

    fn answer(&self, tag: &str, _words: &str, input: &[u8]) -> Result<Option<Answer>, String> {
        let (mut octets, mut untagged, mut content) = (0usize, 0, None);
        loop {
            let rest = input.get(octets..).unwrap_or_default();
            let Some(response) = response(rest)? else { return Ok(None) };
            octets = octets.saturating_add(response.octets);
            if rest.starts_with(b"* ") && untagged < UNTAGGED_MAX {
                untagged += 1;
                content = content.or(response.literal);
                continue;
            }
            let text = String::from_utf8_lossy(rest.get(..response.octets).unwrap_or_default()).into_owned();
            let verdict = text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' '));
            let verdict = verdict.ok_or_else(|| format!("the answer to {tag} was expected, not {:?}", text.trim_end()))?;
            return Ok(Some(Answer { octets, verdict: verdict.trim_end().to_owned(), content }));
        }
    }

    fn verdicts(&self) -> Verdicts {
        Verdicts { ok: &["OK "], wrong: "NO [AUTHENTICATIONFAILED]", later: "NO [UNAVAILABLE]", stranger: "OK " }
    }

    fn lie(&self, ip: &str, session: &str) -> String {
        format!(
            "ID (\"name\" \"demo\" \"x-originating-ip\" \"{ip}\" \"x-originating-port\" \"66\" \
             \"x-session-id\" \"{session}\" \"x-proxy-ttl\" \"99\")"
        )
    }

    fn login(&self, user: &str, password: &str) -> Vec<String> {
        vec![format!("LOGIN {user} {password}")]
    }

    fn plain(&self, response: &str) -> String {
        format!("AUTHENTICATE PLAIN {response}")
    }

    fn errand(&self, person: &Person, letters: &[Letter]) -> Errand {
        letters::fetched(person, letters, &["SELECT INBOX", "UID FETCH 1 BODY.PEEK[]"])
    }

    fn quit(&self) -> &'static str {
        "LOGOUT"
    }
}

/// One response: its octets with all literals and the lines behind them, and the first literal.
struct Response {
    octets: usize,
    literal: Option<Vec<u8>>,
}

fn response(input: &[u8]) -> Result<Option<Response>, String> {
    let (mut octets, mut literal) = (0usize, None);
    loop {
        let Some(line) = first_line(input.get(octets..).unwrap_or_default())? else { return Ok(None) };
        octets = octets.saturating_add(line.len()).saturating_add(2);
        let Some(Announced::Literal { octets: length, .. }) = announced(line) else {
            return Ok(Some(Response { octets, literal }));
        };
        let end = octets.saturating_add(usize::try_from(length).unwrap_or(ANSWER_MAX).min(ANSWER_MAX));
        let Some(text) = input.get(octets..end) else { return Ok(None) };
        literal = literal.or_else(|| Some(text.to_vec()));
        octets = end;
    }
}

/// How much of a command's line may be shown.
fn without_password(line: &[u8]) -> usize {
    let mut text = Cursor::new(line);
    let tag = text.run(is_tag_char);
    text.run(|octet| octet == b' ');
    let name = text.run(|octet| octet.is_ascii_alphanumeric()).unwrap_or_default();
    let behind_name = line.len().saturating_sub(text.rest().len());
    match name.to_ascii_uppercase().as_slice() {
        b"LOGIN" if text.space().is_ok() => {
            // Where the name cannot be told from the password, neither is shown.
            let is_name = text.astring().is_ok() && text.peek() == Some(b' ');
            if is_name { line.len().saturating_sub(text.rest().len()) } else { behind_name }
        }
        b"AUTHENTICATE" if text.space().is_ok() => {
            let _ = text.atom();
            line.len().saturating_sub(text.rest().len())
        }
        // A line without tag and name is no command that we know: it may be anything.
        _ if tag.is_none() && !line.is_empty() => 0,
        _ => line.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tape::Tape;
    use super::*;

    fn check(line: &str, expected: &str) {
        let mut tape = Tape::new(&Imap);
        assert_eq!(tape.client(format!("{line}\r\n").as_bytes()), [expected], "{line}");
    }

    #[test]
    fn passwords_are_left_out() {
        check("a LOGIN alice hunter2", "a LOGIN alice ***");
        check("a login \"al ice\" \"hunter2\"", "a login \"al ice\" ***");
        check("a LOGIN \"al ice hunter2", "a LOGIN ***");
        check("a LOGIN hunter2", "a LOGIN ***");
        check("a LOGIN  alice hunter2", "a LOGIN ***");
        check("a  LOGIN alice hunter2", "a  LOGIN alice ***");
        check("a AUTHENTICATE PLAIN AGEAYg==", "a AUTHENTICATE PLAIN ***");
        check("a AUTHENTICATE PLAIN", "a AUTHENTICATE PLAIN");
        check("a AUTHENTICATE \"hunter2\"", "a AUTHENTICATE ***");
        check("%hunter2", "***");
        check("a NOOP", "a NOOP");
        check("a ID (\"name\" \"x\")", "a ID (\"name\" \"x\")");
        check("", "");
    }

    #[test]
    fn answers_to_the_server_are_left_out() {
        let mut tape = Tape::new(&Imap);
        assert_eq!(tape.client(b"a AUTHENTICATE LOGIN\r\n"), ["a AUTHENTICATE LOGIN"]);
        assert_eq!(tape.server(b"+ VXNlcm5hbWU6\r\n"), ["+ VXNlcm5hbWU6"]);
        assert_eq!(tape.client(b"aHVudGVyMg==\r\n"), ["***"]);
        tape.server(b"+ Idling\r\n");
        assert_eq!(tape.client(b"DONE\r\nb NOOP\r\n"), ["DONE", "b NOOP"]);
    }

    #[test]
    fn literals_are_left_out_however_they_are_sent() {
        let mut tape = Tape::new(&Imap);
        let said = tape.client(b"a LOGIN {5+}\r\nalice {7+}\r\nhunter2\r\nb NOOP\r\n");
        assert_eq!(said, ["a LOGIN ***", "***", "***", "b NOOP"]);
    }

    #[test]
    fn an_answer_is_found_when_it_is_whole() {
        let said = b"* OK x\r\n* 1 FETCH (BODY[] {8}\r\na1 OK \r\n)\r\na1 OK done\r\n* 2";
        let whole = said.len() - 3;
        for end in 0..whole {
            assert_eq!(Imap.answer("a1", "", &said[..end]), Ok(None), "{end}");
        }
        let expected = Answer { octets: whole, verdict: "OK done".into(), content: Some(b"a1 OK \r\n".to_vec()) };
        assert_eq!(Imap.answer("a1", "", said), Ok(Some(expected)));
        assert!(Imap.answer("a2", "", said).is_err_and(|why| why.contains("a2 was expected")));
        assert!(Imap.answer("a1", "", b"* x\n").is_err());
        assert!(Imap.answer("a1", "", &b"* x\r\n".repeat(UNTAGGED_MAX + 1)).is_err());
        assert_eq!(Imap.answer("a1", "", b"* {99999999999999}\r\n"), Ok(None));
    }
}
