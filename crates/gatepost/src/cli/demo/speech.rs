//! What the demo must know of a protocol, beyond its row in [`crate::protocol`]: the server behind the login, what the tape
//! hides, and the words of the scripted client.
//!
//! A protocol of the demo is a [`Speech`] in [`SPEECHES`]; servers, listeners, the invitation, the scripts and the checks follow
//! from that list. Nothing here has sockets.

use super::letters::Letter;
use super::scene::Person;
use super::{imap, pop3};
#[cfg(test)]
use bytes::BytesMut;
use std::sync::Arc;
use wire::line::{Found, LineScan};
use wire::login::{Front, Mechanism, Terms};
use wire::machine::Machine;

/// All that is spoken here.
pub static SPEECHES: [&dyn Speech; 2] = [&imap::Imap, &pop3::Pop3];

/// The longest answer that the scripted client takes, in octets.
pub const ANSWER_MAX: usize = 1024 * 1024;

/// A protocol of the demo.
pub trait Speech: Sync {
    /// Its name in `[[listen]]`, as in the program's table.
    fn name(&self) -> &'static str;
    /// The same with TLS from the first byte.
    fn implicit(&self) -> &'static str;
    /// The command that begins TLS.
    fn starttls(&self) -> &'static str;
    /// The command that tells who is calling.
    fn carrier(&self) -> &'static str;

    /// What stands behind host and port in a URL of the first letter.
    fn letter_path(&self) -> &'static str;
    /// What to type for a login and a letter.
    fn by_hand(&self, person: &Person) -> String;

    /// The server before the login.
    fn front(&self, terms: Terms) -> Box<dyn Front>;
    /// What the server can do, as [`Terms::capability`] wants it.
    fn capability(&self) -> &'static str;
    /// What it can do behind the login, where the welcome tells that.
    fn capability_inside(&self) -> Option<&'static str>;
    /// The server behind the login.
    fn mailbox(&self, server: &'static str, letters: Arc<[Letter]>) -> Box<dyn Machine<Event = Turn> + Send>;
    /// How a login of this kind is called.
    fn by(&self, mechanism: Mechanism) -> &'static str;

    /// How many octets of a client's line may be shown; `asked`: the server asked for this line, or the one before announced it.
    /// Where it is not sure, fewer.
    fn shown(&self, line: &[u8], asked: bool) -> usize;
    /// The next line of the client belongs to this one.
    fn goes_on(&self, line: &[u8]) -> bool;
    /// This line of the server asks for a line that may be a secret as a whole.
    fn asks(&self, line: &[u8]) -> bool;

    /// Whether a greeting is a good one.
    fn is_greeting(&self, line: &[u8]) -> bool;
    /// A command as it is sent, without CRLF.
    fn command(&self, tag: &str, words: &str) -> String;
    /// Finds the whole answer to such a command at the start of `input`; `None`: it is not all here.
    ///
    /// # Errors
    /// It is no answer to it, in words.
    fn answer(&self, tag: &str, words: &str, input: &[u8]) -> Result<Option<Answer>, String>;
    /// What verdicts begin with.
    fn verdicts(&self) -> Verdicts;
    /// The command that claims to speak for somebody at another address, in a session of that name.
    fn lie(&self, ip: &str, session: &str) -> String;
    /// The protocol's own login; the last answer is the verdict.
    fn login(&self, user: &str, password: &str) -> Vec<String>;
    /// A login by SASL PLAIN with its response.
    fn plain(&self, response: &str) -> String;
    /// The commands that fetch the first letter; it is in the last answer.
    fn read_letter(&self) -> &'static [&'static str];
    /// The command that ends it.
    fn quit(&self) -> &'static str;
}

/// What a step of a mailbox did.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// A command was answered, or as much of it as can be for now.
    Answered,
    /// The client took its leave.
    Bye,
}

/// What a server says to one command.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The octets of all of it.
    pub octets: usize,
    /// Whether it went well, and why not: without tag and CRLF.
    pub verdict: String,
    /// The letter in it, if there is one.
    pub letter: Option<Vec<u8>>,
}

/// What verdicts begin with.
#[derive(Debug, Clone, Copy)]
pub struct Verdicts {
    /// Done.
    pub ok: &'static str,
    /// Name or password is wrong.
    pub wrong: &'static str,
    /// Not now; nothing is wrong with the password.
    pub later: &'static str,
}

/// The name of a protocol as people write it.
pub fn title(name: &str) -> String {
    name.to_ascii_uppercase()
}

/// The first line of `input` without CRLF; `None`: it is not all here.
///
/// # Errors
/// It cannot become a line.
pub fn first_line(input: &[u8]) -> Result<Option<&[u8]>, String> {
    match LineScan::new().find(input, ANSWER_MAX) {
        Found::Line(length) => Ok(input.get(..length)),
        Found::More => Ok(None),
        Found::Bare(_) => Err("the server sent a line that does not end in CR LF".to_owned()),
        Found::TooLong => Err("the server sent a line that is too long".to_owned()),
    }
}

/// A mailbox, driven as a server does: the answer to all of `said`, and whether the conversation is over.
#[cfg(test)]
pub fn all_answers(mailbox: &mut dyn Machine<Event = Turn>, said: &mut BytesMut) -> (String, bool) {
    use wire::machine::Step;
    let mut out = BytesMut::new();
    let over = loop {
        match mailbox.step(said, &mut out) {
            Ok(Step::NeedInput) => break false,
            Ok(Step::Event(Turn::Answered)) => {}
            Ok(Step::Event(Turn::Bye)) | Err(_) => break true,
        }
    };
    (String::from_utf8_lossy(&out).into_owned(), over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    #[test]
    fn each_is_a_protocol_of_the_program_and_answers_in_its_own_words() {
        for speech in SPEECHES {
            let row = protocol::find(speech.name()).unwrap();
            assert_eq!(row.implicit.map(|(name, _)| name), Some(speech.implicit()));
            let greeting = {
                let mut out = BytesMut::new();
                let capability = speech.capability().to_owned();
                let terms = Terms {
                    starttls: true,
                    password_allowed: true,
                    trusted: true,
                    may_vouch: false,
                    xclient_as_exim: false,
                    server: "mail.example.com".to_owned(),
                    capability,
                    greeting: "hi".to_owned(),
                    server_id: Vec::new(),
                    retain_client_id: false,
                };
                speech.front(terms).greet(&mut out);
                out
            };
            assert!(first_line(&greeting).unwrap().is_some_and(|line| speech.is_greeting(line)));
            let commands = [speech.read_letter(), &[speech.quit()]].concat();
            let letters: Arc<[Letter]> = super::super::letters::of_west().into();
            let mut mailbox = speech.mailbox("west", Arc::clone(&letters));
            let mut found = None;
            for words in commands {
                let mut said = BytesMut::from(format!("{}\r\n", speech.command("a1", words)).as_bytes());
                let (answer, over) = all_answers(&mut *mailbox, &mut said);
                let whole = speech.answer("a1", words, answer.as_bytes()).unwrap().unwrap();
                assert!(whole.octets == answer.len() && whole.verdict.starts_with(speech.verdicts().ok), "{answer}");
                assert_eq!(over, words == speech.quit(), "{answer}");
                found = found.or(whole.letter);
            }
            assert_eq!(found.as_deref(), Some(letters[0].octets()));
        }
    }

    #[test]
    fn a_line_is_whole_or_not_or_none() {
        assert_eq!(first_line(b"ab\r\ncd"), Ok(Some(&b"ab"[..])));
        assert_eq!(first_line(b"ab\r"), Ok(None));
        assert!(first_line(b"ab\ncd\r\n").is_err());
        assert!(first_line(&vec![b'x'; ANSWER_MAX + 1]).is_err());
    }
}
