//! The demo server behind the login: one small mailbox, read-only, spoken to in IMAP4rev1 (RFC 3501 section 6).
//!
//! Enough for curl, Python's imaplib, a person with `openssl s_client`, and with good will a mail program: CAPABILITY, NOOP,
//! ID, LIST, LSUB, STATUS, SELECT, EXAMINE, FETCH, SEARCH for flags and numbers, IDLE (RFC 2177), CHECK, CLOSE, UNSELECT
//! (RFC 3691), LOGOUT. What would change something is answered NO, what is not known BAD. A sans-IO [`Machine`]: one command
//! a step, so that its driver can send each answer before the next one is made.
//!
//! Caps: those of [`CAPS`] while reading, [`super::fetch`]'s on lists; after [`Caps::bad_commands`] bad commands it hangs up.
//! Sequence numbers and UIDs are the same, 1 to n: nothing is ever removed.

use super::super::letters::{Letter, UID_VALIDITY};
use super::super::speech::Turn;
use super::fetch;
use bytes::{Buf, BufMut, BytesMut};
use std::sync::Arc;
use wire::imap::Caps;
use wire::imap::border::{Border, Excess, Found};
use wire::imap::command::Tag;
use wire::imap::text::{Cursor, Malformed};
use wire::machine::{Fault, Machine, Step};

/// What a client may use up.
pub const CAPS: Caps = Caps { line: 8192, literal: 4096, literals: 8, bad_commands: 20, commands: usize::MAX };

/// What is on offer behind the login.
pub const CAPABILITY: &str = "IMAP4rev1 LITERAL+ ID IDLE UNSELECT";

/// One client's view of the mailbox.
#[derive(Debug)]
pub struct Mailbox {
    server: &'static str,
    letters: Arc<[Letter]>,
    state: State,
    selected: bool,
    border: Border,
    bad_commands: usize,
}

#[derive(Debug)]
enum State {
    AwaitCommand,
    AwaitDone { tag: Tag },
}

/// How a command ends.
enum Outcome {
    Ok(&'static str),
    No(&'static str),
    Idle,
    Bye,
}

impl Mailbox {
    /// The mailbox of a client that has just signed in.
    pub fn new(server: &'static str, letters: Arc<[Letter]>) -> Mailbox {
        Mailbox { server, letters, state: State::AwaitCommand, selected: false, border: Border::default(), bad_commands: 0 }
    }
}

impl Machine for Mailbox {
    type Event = Turn;

    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<Turn>, Fault> {
        loop {
            let found = match self.state {
                State::AwaitCommand => self.border.command(input, &CAPS),
                State::AwaitDone { .. } => self.border.line(input, &CAPS),
            };
            match found {
                Found::More => return Ok(Step::NeedInput),
                Found::Ask => out.put_slice(b"+ Go on.\r\n"),
                Found::Bare => self.bad(None, "A line ends in CR LF.", out)?,
                Found::Skip(length) => self.consume(length, input),
                Found::Refuse(excess, length) => {
                    let tag = Tag::of(input.get(..length).unwrap_or_default());
                    self.consume(length, input);
                    self.bad(tag.as_ref(), too_much(excess), out)?;
                }
                Found::Unstoppable(excess) => {
                    out.put_slice(b"* BYE That literal cannot be taken.\r\n");
                    return Err(Fault::limit("literal", too_much(excess)));
                }
                Found::TooLong => {
                    out.put_slice(b"* BYE That line is too long.\r\n");
                    return Err(Fault::limit("line-too-long", "a line is too long"));
                }
                Found::Whole(length) => {
                    let whole = input.split_to(length.min(input.len()));
                    self.border = Border::default();
                    return Ok(Step::Event(self.answer(&whole, out)?));
                }
            }
        }
    }
}

fn too_much(excess: Excess) -> &'static str {
    match excess {
        Excess::Size => "That literal is too big.",
        Excess::Count => "Too many literals.",
        Excess::Nonsense => "That is no literal.",
    }
}

impl Mailbox {
    fn consume(&mut self, length: usize, input: &mut BytesMut) {
        input.advance(length.min(input.len()));
        self.border = Border::default();
    }

    fn answer(&mut self, whole: &[u8], out: &mut BytesMut) -> Result<Turn, Fault> {
        if let State::AwaitDone { tag } = std::mem::replace(&mut self.state, State::AwaitCommand) {
            if whole.trim_ascii_end().eq_ignore_ascii_case(b"DONE") {
                end(&tag, "OK", "No longer idle.", out);
            } else {
                self.bad(Some(&tag), "DONE was expected.", out)?;
            }
            return Ok(Turn::Answered);
        }
        let Some(tag) = Tag::of(whole) else {
            self.bad(None, "A tag is missing.", out)?;
            return Ok(Turn::Answered);
        };
        match self.obey(whole, out) {
            Ok(Outcome::Ok(text)) => end(&tag, "OK", text, out),
            Ok(Outcome::No(text)) => end(&tag, "NO", text, out),
            Ok(Outcome::Idle) => {
                out.put_slice(b"+ Waiting; nothing ever arrives in this demo. Say DONE.\r\n");
                self.state = State::AwaitDone { tag };
            }
            Ok(Outcome::Bye) => {
                out.put_slice(format!("* BYE Goodbye from {}.\r\n", self.server).as_bytes());
                end(&tag, "OK", "That was all.", out);
                return Ok(Turn::Bye);
            }
            Err(Malformed(text)) => self.bad(Some(&tag), text, out)?,
        }
        Ok(Turn::Answered)
    }

    fn bad(&mut self, tag: Option<&Tag>, text: &str, out: &mut BytesMut) -> Result<(), Fault> {
        match tag {
            Some(tag) => end(tag, "BAD", text, out),
            None => out.put_slice(format!("* BAD {text}\r\n").as_bytes()),
        }
        self.bad_commands = self.bad_commands.saturating_add(1);
        if self.bad_commands < CAPS.bad_commands {
            return Ok(());
        }
        out.put_slice(b"* BYE Too many bad commands.\r\n");
        Err(Fault::limit("bad-commands", "too many bad commands"))
    }

    fn obey(&mut self, whole: &[u8], out: &mut BytesMut) -> Result<Outcome, Malformed> {
        let mut text = Cursor::new(whole.strip_suffix(b"\r\n").unwrap_or(whole));
        text.run(|octet| octet != b' ');
        text.space()?;
        let mut name = word(&mut text);
        let by_uid = name == b"UID";
        if by_uid {
            text.space()?;
            name = word(&mut text);
        }
        let outcome = match (by_uid, name.as_slice()) {
            (_, b"FETCH") => self.fetch(by_uid, &mut text, out)?,
            (_, b"SEARCH") => self.search(&mut text, out)?,
            (_, b"STORE" | b"COPY" | b"MOVE" | b"EXPUNGE") => return self.needs_selected().map(|()| READ_ONLY),
            (false, b"APPEND" | b"CREATE" | b"DELETE" | b"RENAME" | b"SUBSCRIBE" | b"UNSUBSCRIBE") => return Ok(READ_ONLY),
            (false, b"CAPABILITY") => {
                out.put_slice(format!("* CAPABILITY {CAPABILITY}\r\n").as_bytes());
                Outcome::Ok("That is all.")
            }
            (false, b"NOOP") => Outcome::Ok("Nothing new."),
            (false, b"ID") => {
                // What a client says of itself is no use here; that it is a list is all that is asked of it.
                text.space()?;
                out.put_slice(format!("* ID (\"name\" \"Gatepost demo server {}\")\r\n", self.server).as_bytes());
                return Ok(Outcome::Ok("Pleased to meet you."));
            }
            (false, b"LIST" | b"LSUB") => self.list(&name, &mut text, out)?,
            (false, b"STATUS") => self.status(&mut text, out)?,
            (false, b"SELECT" | b"EXAMINE") => self.select(&mut text, out)?,
            (false, b"CHECK") => self.needs_selected().map(|()| Outcome::Ok("All is well."))?,
            (false, b"CLOSE" | b"UNSELECT") => {
                self.needs_selected()?;
                text.end()?;
                self.selected = false;
                Outcome::Ok("Closed.")
            }
            (false, b"IDLE") => Outcome::Idle,
            (false, b"LOGOUT") => Outcome::Bye,
            (false, b"LOGIN" | b"AUTHENTICATE" | b"STARTTLS") => return Err(Malformed("You are signed in already.")),
            _ => return Err(Malformed("This little demo server does not know that command.")),
        };
        text.end()?;
        Ok(outcome)
    }

    fn needs_selected(&self) -> Result<(), Malformed> {
        if self.selected { Ok(()) } else { Err(Malformed("No mailbox is selected.")) }
    }

    fn select(&mut self, text: &mut Cursor<'_>, out: &mut BytesMut) -> Result<Outcome, Malformed> {
        text.space()?;
        let name = text.astring()?;
        text.end()?;
        // RFC 3501 section 6.3.1: a SELECT that fails leaves no mailbox selected.
        self.selected = name.eq_ignore_ascii_case(b"INBOX");
        if !self.selected {
            return Ok(NO_SUCH_MAILBOX);
        }
        let count = self.letters.len();
        out.put_slice(
            format!(
                "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* {count} EXISTS\r\n* 0 RECENT\r\n\
                 * OK [PERMANENTFLAGS ()] Nothing can be changed.\r\n* OK [UIDVALIDITY {UID_VALIDITY}] UIDs are for ever.\r\n\
                 * OK [UIDNEXT {}] The next UID.\r\n",
                count.saturating_add(1)
            )
            .as_bytes(),
        );
        Ok(Outcome::Ok("[READ-ONLY] Here it is."))
    }

    fn list(&self, name: &[u8], text: &mut Cursor<'_>, out: &mut BytesMut) -> Result<Outcome, Malformed> {
        text.space()?;
        let mut pattern = text.astring()?;
        text.space()?;
        let wanted = text.astring()?;
        text.end()?;
        let name = String::from_utf8_lossy(name).into_owned();
        if wanted.is_empty() {
            out.put_slice(format!("* {name} (\\Noselect) \"/\" \"\"\r\n").as_bytes());
        } else {
            pattern.extend_from_slice(&wanted);
            if matches_inbox(&pattern) {
                out.put_slice(format!("* {name} (\\HasNoChildren) \"/\" INBOX\r\n").as_bytes());
            }
        }
        Ok(Outcome::Ok("That is all."))
    }

    fn status(&self, text: &mut Cursor<'_>, out: &mut BytesMut) -> Result<Outcome, Malformed> {
        text.space()?;
        let mailbox = text.astring()?;
        text.space()?;
        if !text.take(b'(') {
            return Err(Malformed("A list was expected."));
        }
        let count = self.letters.len();
        let mut answers: Vec<String> = Vec::new();
        loop {
            let answer = match word(text).as_slice() {
                b"MESSAGES" => format!("MESSAGES {count}"),
                b"UNSEEN" => format!("UNSEEN {count}"),
                b"RECENT" => "RECENT 0".to_owned(),
                b"UIDNEXT" => format!("UIDNEXT {}", count.saturating_add(1)),
                b"UIDVALIDITY" => format!("UIDVALIDITY {UID_VALIDITY}"),
                _ => return Err(Malformed("There is no such status here.")),
            };
            if !answers.contains(&answer) {
                answers.push(answer);
            }
            if text.take(b')') {
                break;
            }
            text.space()?;
        }
        text.end()?;
        if !mailbox.eq_ignore_ascii_case(b"INBOX") {
            return Ok(NO_SUCH_MAILBOX);
        }
        out.put_slice(format!("* STATUS INBOX ({})\r\n", answers.join(" ")).as_bytes());
        Ok(Outcome::Ok("That is all."))
    }

    fn fetch(&self, by_uid: bool, text: &mut Cursor<'_>, out: &mut BytesMut) -> Result<Outcome, Malformed> {
        self.needs_selected()?;
        text.space()?;
        let numbers = self.numbers(by_uid, text)?;
        text.space()?;
        let mut items = fetch::read(text)?;
        text.end()?;
        if by_uid && !items.contains(&fetch::Item::Uid) {
            items.insert(0, fetch::Item::Uid);
        }
        for number in numbers {
            if let Some(letter) = self.letters.get(number.saturating_sub(1)) {
                fetch::write(letter, number, &items, out);
            }
        }
        Ok(Outcome::Ok("That is all."))
    }

    /// All keys must hold. No letter has a flag, so each key about flags holds for all or for none.
    fn search(&self, text: &mut Cursor<'_>, out: &mut BytesMut) -> Result<Outcome, Malformed> {
        self.needs_selected()?;
        let mut hits: Vec<usize> = (1..=self.letters.len()).collect();
        loop {
            text.space()?;
            let digit = text.peek().is_some_and(|octet| octet.is_ascii_digit() || octet == b'*');
            if digit {
                let numbers = self.numbers(false, text)?;
                hits.retain(|hit| numbers.contains(hit));
            } else {
                match word(text).as_slice() {
                    b"ALL" | b"OLD" | b"UNANSWERED" | b"UNDELETED" | b"UNDRAFT" | b"UNFLAGGED" | b"UNSEEN" => {}
                    b"ANSWERED" | b"DELETED" | b"DRAFT" | b"FLAGGED" | b"NEW" | b"RECENT" | b"SEEN" => hits.clear(),
                    b"UID" => {
                        text.space()?;
                        let numbers = self.numbers(true, text)?;
                        hits.retain(|hit| numbers.contains(hit));
                    }
                    b"CHARSET" => {
                        text.space()?;
                        text.astring()?;
                        continue;
                    }
                    _ => return Err(Malformed("This little demo server searches for flags and numbers only.")),
                }
            }
            if text.is_end() {
                break;
            }
        }
        let hits: String = hits.iter().map(|hit| format!(" {hit}")).collect();
        out.put_slice(format!("* SEARCH{hits}\r\n").as_bytes());
        Ok(Outcome::Ok("That is all."))
    }

    /// Reads a set of numbers and says which letters are meant, each once and in order. A UID of nothing is no mistake, a
    /// sequence number of nothing is one (RFC 3501 section 6.4.8).
    fn numbers(&self, by_uid: bool, text: &mut Cursor<'_>) -> Result<Vec<usize>, Malformed> {
        let nonsense = Malformed("That is no set of numbers.");
        let last = self.letters.len();
        let set = text.run(|octet| octet.is_ascii_digit() || matches!(octet, b'*' | b':' | b',')).ok_or(nonsense)?;
        let bound = |bound: &[u8]| match bound {
            b"*" => Ok(last),
            digits if digits.iter().all(u8::is_ascii_digit) => {
                let number: u32 = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(nonsense)?;
                let number = usize::try_from(number).map_err(|_| nonsense)?;
                if number == 0 || (!by_uid && number > last) {
                    return Err(Malformed("There is no letter of that number."));
                }
                Ok(number)
            }
            _ => Err(nonsense),
        };
        let mut chosen = vec![false; last];
        for range in set.split(|octet| *octet == b',') {
            let mut bounds = range.splitn(2, |octet| *octet == b':');
            let first = bound(bounds.next().unwrap_or_default())?;
            let second = bounds.next().map_or(Ok(first), bound)?;
            let (from, to) = (first.min(second), first.max(second));
            for (index, chosen) in chosen.iter_mut().enumerate() {
                *chosen |= (from..=to).contains(&index.saturating_add(1));
            }
        }
        Ok(chosen.iter().enumerate().filter(|(_, chosen)| **chosen).map(|(index, _)| index.saturating_add(1)).collect())
    }
}

const READ_ONLY: Outcome = Outcome::No("[CANNOT] In this demo nothing can be changed.");
const NO_SUCH_MAILBOX: Outcome = Outcome::No("[NONEXISTENT] There is only INBOX here.");

fn end(tag: &Tag, verdict: &str, text: &str, out: &mut BytesMut) {
    out.put_slice(format!("{tag} {verdict} {text}\r\n").as_bytes());
}

fn word(text: &mut Cursor<'_>) -> Vec<u8> {
    text.run(|octet| octet.is_ascii_alphanumeric()).unwrap_or_default().to_ascii_uppercase()
}

/// Whether a pattern of LIST means INBOX, in any case. Follows all ways through the pattern at once, so a pattern of nothing
/// but stars costs no more than its length times six.
fn matches_inbox(pattern: &[u8]) -> bool {
    const NAME: &[u8] = b"INBOX";
    // reached[n]: what has been read of the pattern can mean the first n letters of the name.
    let mut reached = [true, false, false, false, false, false];
    for octet in pattern {
        let mut next = [false; 6];
        let wild = matches!(octet, b'*' | b'%');
        for (index, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
            if wild {
                next.iter_mut().skip(index).for_each(|next| *next = true);
            } else if NAME.get(index).is_some_and(|letter| letter.eq_ignore_ascii_case(octet))
                && let Some(next) = next.get_mut(index.saturating_add(1))
            {
                *next = true;
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
