//! What the demo must know of a protocol, beyond its row in [`crate::protocol`]: the server behind the login, what the tape
//! hides, and the words of the scripted client.
//!
//! A protocol of the demo is a [`Speech`] in [`SPEECHES`]; servers, listeners, the invitation, the scripts and the checks follow
//! from that list. Nothing here has sockets.

use super::guest::{Guest, Took};
use super::invitation::Files;
use super::letters::Letter;
use super::scene::{Doors, Person};
use super::script::Talk;
use super::{imap, managesieve, pop3, submission};
#[cfg(test)]
use bytes::BytesMut;
use wire::encode::base64_encode;
use wire::line::{Found, LineScan};
use wire::login::{Front, Mechanism, Terms};
use wire::machine::Machine;

/// All that is spoken here.
pub static SPEECHES: [&dyn Speech; 4] = [&imap::Imap, &pop3::Pop3, &managesieve::ManageSieve, &submission::Submission];

/// The longest answer that the scripted client takes, in octets.
pub const ANSWER_MAX: usize = 1024 * 1024;

/// A protocol of the demo.
pub trait Speech: Sync {
    /// Its name in `[[listen]]`, as in the program's table.
    fn name(&self) -> &'static str;
    /// The same with TLS from the first byte, where there is a port for that.
    fn implicit(&self) -> Option<&'static str>;
    /// The command that begins TLS.
    fn starttls(&self) -> &'static str;
    /// The command that tells who is calling.
    fn carrier(&self) -> &'static str;

    /// Commands to paste into a shell that do a user's errand with a program that many have; each may have several lines.
    fn paste(&self, doors: &Doors, files: &Files) -> Vec<String>;
    /// What to type for a login and the errand.
    fn by_hand(&self, person: &Person) -> String;
    /// What the option `-starttls` of `openssl s_client` calls it.
    fn openssl(&self) -> &'static str;

    /// The server before the login.
    fn front(&self, terms: Terms) -> Box<dyn Front>;
    /// What the server can do, as [`Terms::capability`] wants it.
    fn capability(&self) -> &'static str;
    /// What it can do behind the login, where the welcome tells that.
    fn capability_inside(&self) -> Option<&'static str> {
        None
    }
    /// The server behind the login.
    fn mailbox(&self, guest: Guest) -> Box<dyn Machine<Event = Turn> + Send>;
    /// How a login of this kind is called.
    fn by(&self, mechanism: Mechanism) -> &'static str;

    /// How many octets of a client's line may be shown. Where it is not sure, fewer.
    fn shown(&self, line: &[u8], is: Is) -> usize;
    /// What the client's line behind this one is, as far as this one tells.
    fn behind(&self, line: &[u8], is: Is) -> Is;
    /// What this line of the server says that the client's next line is, if anything.
    fn asks(&self, line: &[u8]) -> Option<Is>;

    /// Finds the whole greeting at the start of `input`, as [`Speech::answer`] does.
    ///
    /// # Errors
    /// See there.
    fn greeting(&self, input: &[u8]) -> Result<Option<Answer>, String> {
        self.answer("", "", input)
    }
    /// The server greets once more behind the command that begins TLS.
    fn greets_again(&self) -> bool {
        false
    }
    /// What a client says behind a greeting before everything else, if anything.
    fn hello(&self) -> Option<&'static str> {
        None
    }
    /// A command as it is sent, without CRLF.
    fn command(&self, _tag: &str, words: &str) -> String {
        words.to_owned()
    }
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
    /// What somebody signs in for. `letters`: what lies in the mailbox.
    fn errand(&self, person: &Person, letters: &[Letter]) -> Errand;
    /// Gatepost can say who the user is in place of a password (`proxy_noauth`).
    fn vouches(&self) -> bool {
        false
    }
    /// What else must hold of somebody's errand: whether it does, and in words.
    fn special(&self, _person: &Person, _talk: &Talk) -> Vec<(bool, String)> {
        Vec::new()
    }
    /// The command that ends it.
    fn quit(&self) -> &'static str;
}

/// What a client's line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// A command.
    Command,
    /// Part of a command or of an exchange: it may be a secret as a whole.
    Secret,
    /// Text that anybody may see, of so many octets at most; where it is shorter, the rest of the command stands behind it.
    Text(usize),
}

/// What somebody signs in for.
#[derive(Debug)]
pub struct Errand {
    /// The commands, in order.
    pub commands: Vec<String>,
    /// What must arrive, octet by octet.
    pub goods: Vec<u8>,
    /// What must be true of that, in words.
    pub arrives: String,
}

/// What a step of a mailbox did.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// A command was answered, or as much of it as can be for now.
    Answered,
    /// Likewise, and the server took something in.
    Took(Took),
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
    /// The letter or script in it, if there is one.
    pub content: Option<Vec<u8>>,
}

/// What verdicts begin with.
#[derive(Debug, Clone, Copy)]
pub struct Verdicts {
    /// Done, or go on.
    pub ok: &'static [&'static str],
    /// Name or password is wrong.
    pub wrong: &'static str,
    /// Not now; nothing is wrong with the password.
    pub later: &'static str,
    /// What a stranger hears who says for whom it speaks.
    pub stranger: &'static str,
}

impl Verdicts {
    /// Whether it is a good one.
    pub fn is_ok(&self, verdict: &str) -> bool {
        self.ok.iter().any(|ok| verdict.starts_with(ok))
    }
}

/// The name of a protocol as people write it.
pub fn title(name: &str) -> String {
    match name {
        "managesieve" => "ManageSieve".to_owned(),
        "submission" => "Submission".to_owned(),
        "submissions" => "Submissions".to_owned(),
        _ => name.to_ascii_uppercase(),
    }
}

/// The response of SASL PLAIN.
pub fn plain_response(user: &str, password: &str) -> String {
    String::from_utf8_lossy(base64_encode(format!("\0{user}\0{password}").as_bytes()).expose()).into_owned()
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

/// A mailbox, driven as a server does: the answer to all of `said`, what was taken in, and whether the conversation is over.
#[cfg(test)]
pub fn all_turns(mailbox: &mut dyn Machine<Event = Turn>, said: &mut BytesMut) -> (String, Vec<Took>, bool) {
    use wire::machine::Step;
    let (mut out, mut all) = (BytesMut::new(), Vec::new());
    let over = loop {
        match mailbox.step(said, &mut out) {
            Ok(Step::NeedInput) => break false,
            Ok(Step::Event(Turn::Answered)) => {}
            Ok(Step::Event(Turn::Took(took))) => all.push(took),
            Ok(Step::Event(Turn::Bye)) | Err(_) => break true,
        }
    };
    (String::from_utf8_lossy(&out).into_owned(), all, over)
}

/// The answer, and whether the conversation is over.
#[cfg(test)]
pub fn all_answers(mailbox: &mut dyn Machine<Event = Turn>, said: &mut BytesMut) -> (String, bool) {
    let (answer, _, over) = all_turns(mailbox, said);
    (answer, over)
}

#[cfg(test)]
mod tests {
    use super::super::scene::BOB;
    use super::*;
    use crate::protocol;

    #[test]
    fn each_is_a_protocol_of_the_program_and_answers_in_its_own_words() {
        for speech in SPEECHES {
            let row = protocol::find(speech.name()).unwrap();
            assert_eq!(row.implicit.map(|(name, _)| name), speech.implicit());
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
            let whole = speech.greeting(&greeting).unwrap().unwrap();
            assert!(whole.octets == greeting.len() && speech.verdicts().is_ok(&whole.verdict), "{whole:?}");
            let guest = Guest::of_test("west");
            let errand = speech.errand(&BOB, &guest.letters);
            let commands: Vec<&str> = errand.commands.iter().map(String::as_str).chain([speech.quit()]).collect();
            let mut mailbox = speech.mailbox(guest);
            let mut found = None;
            for words in commands {
                let mut said = BytesMut::from(format!("{}\r\n", speech.command("a1", words)).as_bytes());
                let (answer, took, over) = all_turns(&mut *mailbox, &mut said);
                let whole = speech.answer("a1", words, answer.as_bytes()).unwrap().unwrap();
                assert!(whole.octets == answer.len() && speech.verdicts().is_ok(&whole.verdict), "{answer}");
                assert_eq!(over, words == speech.quit(), "{answer}");
                let letter = took.into_iter().find_map(|took| took.letter().map(<[u8]>::to_vec));
                found = found.or(whole.content).or(letter);
            }
            assert_eq!(found, Some(errand.goods), "{}", errand.arrives);
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
