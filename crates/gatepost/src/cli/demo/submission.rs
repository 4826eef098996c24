//! Submission in the demo: `wire`'s front before the login, a [`mailbox`] that takes letters behind it, and what tape and script
//! must know.
//!
//! The tape is wrong on the safe side: a line is shown only where its command is known to hold no secret, or where it is part of
//! a letter that the server asked for, or of a chunk. It serves for [LMTP](super::lmtp) as well.
//!
//! RFC 6409, RFC 5321, RFC 4954 (AUTH), RFC 3207 (STARTTLS).

mod mailbox;

use super::guest::{Guest, Took};
use super::invitation::{Files, curl};
use super::letters::Letter;
use super::scene::{ALICE, BOB, Doors, Person};
use super::script::Talk;
use super::speech::{Answer, Errand, Is, Speech, Turn, Verdicts, first_line, plain_response};
use mailbox::Mailbox;
use wire::login::{Front, Mechanism, Terms};
use wire::machine::Machine;
use wire::origin::Told;
use wire::smtp::Caps;

/// The letter that comes with the demo. A line of it begins with dots, another is nothing but one.
pub const LETTER: &str = "Subject: lunch\r\n\
                          \r\n\
                          At noon, behind the gate?\r\n\
                          .\r\n\
                          ...if it does not rain\r\n";
/// What the scripted client calls itself.
const HELO: &str = "laptop.example";
/// How it says so.
const EHLO: &str = "EHLO laptop.example";

/// Submission.
pub struct Submission;

impl Speech for Submission {
    fn name(&self) -> &'static str {
        "submission"
    }

    fn implicit(&self) -> Option<&'static str> {
        Some("submissions")
    }

    fn starttls(&self) -> &'static str {
        "STARTTLS"
    }

    fn carrier(&self) -> &'static str {
        "XCLIENT"
    }

    fn paste(&self, doors: &Doors, files: &Files) -> Vec<String> {
        // The path is what curl says in EHLO.
        curl(doors, files, ["smtp", "smtps"], HELO, |person| {
            let (from, to) = envelope(person);
            format!("--mail-from {from} --mail-rcpt {to} -T {}", files.letter)
        })
    }

    fn by_hand(&self, person: &Person) -> String {
        let ((from, to), plain) = (envelope(person), plain_response(person.user, person.password));
        format!("{EHLO}, AUTH PLAIN {plain}, MAIL FROM:<{from}>, RCPT TO:<{to}>, DATA, Hello, a dot alone, QUIT")
    }

    fn openssl(&self) -> &'static str {
        "smtp"
    }

    fn front(&self, terms: Terms) -> Box<dyn Front> {
        Box::new(wire::smtp::front::Front::new(terms, Caps::default()))
    }

    fn capability(&self) -> &'static str {
        mailbox::CAPABILITY
    }

    fn mailbox(&self, guest: Guest) -> Box<dyn Machine<Event = Turn> + Send> {
        Box::new(Mailbox::new(guest.server, guest.arrival))
    }

    fn by(&self, mechanism: Mechanism) -> &'static str {
        match mechanism {
            // The protocol has no login of its own.
            Mechanism::Command | Mechanism::Plain => "AUTH PLAIN",
            Mechanism::Login => "AUTH LOGIN",
            Mechanism::Xclient => "XCLIENT LOGIN",
        }
    }

    fn shown(&self, line: &[u8], is: Is) -> usize {
        // Those of LMTP are among them.
        const HARMLESS: [&str; 13] =
            ["BDAT", "DATA", "EHLO", "HELO", "LHLO", "MAIL", "NOOP", "QUIT", "RCPT", "RSET", "STARTTLS", "XCLIENT", "XFORWARD"];
        let word = word(line);
        match is {
            Is::Secret => 0,
            Is::Text(octets) => line.len().min(octets),
            Is::Command if HARMLESS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word)) => line.len(),
            // Both words of it; the response is the third.
            Is::Command if word.eq_ignore_ascii_case(b"AUTH") => {
                line.iter().enumerate().filter(|(_, octet)| **octet == b' ').nth(1).map_or(line.len(), |(at, _)| at)
            }
            Is::Command => 0,
        }
    }

    fn behind(&self, line: &[u8], is: Is) -> Is {
        match is {
            Is::Text(usize::MAX) if line != b"." => is,
            Is::Text(usize::MAX) | Is::Secret => Is::Command,
            Is::Text(octets) => text(octets.saturating_sub(line.len()).saturating_sub(2)),
            Is::Command => text(chunk(line)),
        }
    }

    fn asks(&self, line: &[u8]) -> Option<Is> {
        if line.starts_with(b"334") { Some(Is::Secret) } else { line.starts_with(b"354").then_some(Is::Text(usize::MAX)) }
    }

    fn hello(&self) -> Option<&'static str> {
        Some(EHLO)
    }

    fn answer(&self, _tag: &str, _words: &str, input: &[u8]) -> Result<Option<Answer>, String> {
        let mut octets = 0usize;
        loop {
            let Some(line) = first_line(input.get(octets..).unwrap_or_default())? else { return Ok(None) };
            octets = octets.saturating_add(line.len()).saturating_add(2);
            let verdict = String::from_utf8_lossy(line).into_owned();
            let (code, rest) = line.split_at_checked(3).unwrap_or((line, b"?"));
            let is_code = code.len() == 3 && code.iter().all(u8::is_ascii_digit) && input.starts_with(code);
            match rest.first() {
                Some(b'-') if is_code => {}
                None | Some(b' ') if is_code => return Ok(Some(Answer { octets, verdict, content: None })),
                _ => return Err(format!("the answer to a command was expected, not {verdict:?}")),
            }
        }
    }

    fn verdicts(&self) -> Verdicts {
        Verdicts { ok: &["2", "354"], wrong: "535 5.7.8", later: "454 4.7.0", stranger: "550 5.7.0" }
    }

    fn lie(&self, ip: &str, session: &str) -> String {
        format!("XCLIENT ADDR={ip} PORT=66 SESSION={session} TTL=99")
    }

    fn login(&self, user: &str, password: &str) -> Vec<String> {
        vec![self.plain(&plain_response(user, password))]
    }

    fn plain(&self, response: &str) -> String {
        format!("AUTH PLAIN {response}")
    }

    fn errand(&self, person: &Person, _letters: &[Letter]) -> Errand {
        let (from, to) = envelope(person);
        Errand {
            commands: vec![format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"), "DATA".to_owned(), self.letter()],
            goods: LETTER.as_bytes().to_vec(),
            arrives: format!("the letter arrived at {} octet by octet", person.server),
        }
    }

    fn vouches(&self) -> bool {
        true
    }

    fn special(&self, person: &Person, talk: &Talk) -> Vec<(bool, String)> {
        let server = person.server;
        let called = talk.told().is_some_and(|who| who.helo.as_ref().and_then(Told::known) == Some(HELO));
        let (from, to) = envelope(person);
        let letter = talk.took().find_map(|took| if let Took::Letter(letter) = took { Some(letter) } else { None });
        let envelope = letter.is_some_and(|letter| letter.from == from && letter.to == [to]);
        let client =
            talk.client.map(|client| format!("from {HELO} ([{}]:{}) by {server} with ESMTPSA", client.ip(), client.port()));
        let received = letter.is_some_and(|letter| Some(&letter.received) == client.as_ref());
        vec![
            (called, format!("{server} was told what the client calls itself: {HELO}")),
            (envelope, format!("sender and recipient arrived at {server} as they were said")),
            (received, format!("what {server} writes into Received names the client, not Gatepost")),
        ]
    }

    fn quit(&self) -> &'static str {
        "QUIT"
    }
}

impl Submission {
    /// The letter as it is said behind DATA, but for the last CRLF.
    pub fn letter(&self) -> String {
        let stuffed = |line: &str| if line.starts_with('.') { [".", line].concat() } else { line.to_owned() };
        LETTER.split_inclusive('\n').map(stuffed).chain([".".to_owned()]).collect()
    }
}

/// From whom somebody's letter is, and to whom.
fn envelope(person: &Person) -> (String, String) {
    let address =
        |Person { user, .. }: &Person| if user.contains('@') { (*user).to_owned() } else { format!("{user}@localhost") };
    let to = if person.user == ALICE.user { &BOB } else { &ALICE };
    (address(person), address(to))
}

/// So many octets of a letter are left.
fn text(octets: usize) -> Is {
    if octets == 0 { Is::Command } else { Is::Text(octets) }
}

/// How many octets of a letter stand behind this command (BDAT, RFC 3030, which only LMTP has here).
fn chunk(line: &[u8]) -> usize {
    let mut words = line.split(|octet| *octet == b' ');
    let is_chunk = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"BDAT"));
    let octets = words.next().filter(|_| is_chunk).and_then(|octets| std::str::from_utf8(octets).ok()?.parse().ok());
    octets.filter(|octets| *octets != usize::MAX).unwrap_or(0)
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
            ("AUTH PLAIN AGEAYg==", "AUTH PLAIN ***"),
            ("auth plain", "auth plain"),
            ("AUTH  hunter2", "AUTH ***"),
            ("hunter2", "***"),
            (" AUTH hunter2", "***"),
            ("MAIL FROM:<alice@localhost>", "MAIL FROM:<alice@localhost>"),
            ("VRFY hunter2", "***"),
            (".", "***"),
            ("", ""),
        ] {
            let mut tape = Tape::new(&Submission);
            assert_eq!(tape.client(format!("{line}\r\n").as_bytes()), [expected], "{line}");
        }
    }

    #[test]
    fn a_letter_is_shown_where_it_was_asked_for() {
        let mut tape = Tape::new(&Submission);
        assert_eq!(tape.client(b"DATA\r\nhunter2\r\n"), ["DATA", "***"]);
        tape.server(b"354 Go on.\r\n");
        assert_eq!(tape.client(b"AUTH PLAIN x\r\n..\r\n.\r\nAUTH PLAIN x\r\n"), ["AUTH PLAIN x", "..", ".", "AUTH PLAIN ***"]);
        tape.server(b"334 VXNlcm5hbWU6\r\n");
        assert_eq!(tape.client(b"NOOP\r\nNOOP\r\n"), ["***", "NOOP"]);
    }

    #[test]
    fn a_chunk_is_shown_and_nothing_behind_it() {
        for (said, expected) in [
            ("BDAT 8 LAST\r\n.\r\nabc\r\nhunter2\r\n", &["BDAT 8 LAST", ".", "abc", "***"][..]),
            ("bdat 3\r\nabchunter2\r\nhunter2\r\n", &["bdat 3", "abc ***", "***"]),
            ("BDAT 0 LAST\r\nhunter2\r\n", &["BDAT 0 LAST", "***"]),
            ("BDAT x\r\nhunter2\r\n", &["BDAT x", "***"]),
            ("BDAT 18446744073709551615\r\nhunter2\r\n", &["BDAT 18446744073709551615", "***"]),
        ] {
            assert_eq!(Tape::new(&Submission).client(said.as_bytes()), expected, "{said}");
        }
    }

    #[test]
    fn an_answer_is_found_when_it_is_whole() {
        let said = b"250-east\r\n250-SIZE 1\r\n250 DSN\r\n250";
        let whole = said.len() - 3;
        for end in 0..whole {
            assert_eq!(Submission.answer("", "", &said[..end]), Ok(None), "{end}");
        }
        let expected = Answer { octets: whole, verdict: "250 DSN".into(), content: None };
        assert_eq!(Submission.answer("", "", said), Ok(Some(expected)));
        assert_eq!(Submission.answer("", "", b"250\r\n").unwrap().unwrap().verdict, "250");
        for junk in [&b"+OK\r\n"[..], b"25\r\n", b"250_x\r\n", b"250-a\r\n251 b\r\n", b"250 x\n"] {
            assert!(Submission.answer("", "", junk).is_err(), "{}", junk.escape_ascii());
        }
    }

    #[test]
    fn alice_writes_to_bob_and_bob_to_alice() {
        let (alice, bob) = ("alice@localhost".to_owned(), BOB.user.to_owned());
        assert_eq!((envelope(&ALICE), envelope(&BOB)), ((alice.clone(), bob.clone()), (bob, alice)));
    }
}
