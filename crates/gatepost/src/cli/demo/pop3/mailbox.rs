//! The demo server behind the login: one small mailbox, read-only, spoken to in POP3 (RFC 1939 sections 5 to 7).
//!
//! STAT, LIST, UIDL, RETR, TOP, NOOP, RSET, CAPA (RFC 2449) and QUIT. DELE is refused with `[SYS/PERM]` (RFC 3206), because other
//! clients read the same letters, also over IMAP, and nobody should believe that one is gone. A sans-IO [`Machine`]: one
//! command a step, so that its driver can send each answer before the next one is made.
//!
//! Caps: a line has at most [`LINE_MAX`] octets; after [`BAD_MAX`] bad commands it hangs up. An answer is at most all letters
//! long. Nothing that a client said is repeated.

use super::super::letters::{Letter, UID_VALIDITY};
use super::super::speech::Turn;
use bytes::{BufMut, BytesMut};
use std::fmt::Display;
use std::sync::Arc;
use wire::line::{Found, LineScan};
use wire::machine::{Fault, Machine, Step};

/// What can be done, before and behind the login.
pub const CAPABILITY: &str = "TOP UIDL RESP-CODES PIPELINING";

/// The longest command, CRLF not counted: RFC 2449 section 4 asks for 253.
const LINE_MAX: usize = 512;
/// The bad command that ends it.
const BAD_MAX: u32 = 20;

/// One client's view of the mailbox.
#[derive(Debug)]
pub struct Mailbox {
    server: &'static str,
    letters: Arc<[Letter]>,
    scan: LineScan,
    /// A bare CR or LF was answered; the rest of the line means nothing.
    broken: bool,
    bad_commands: u32,
}

/// What is wrong with a command, in words for the client.
struct Bad(&'static str);

impl Mailbox {
    /// The mailbox of a client that has just signed in.
    pub fn new(server: &'static str, letters: Arc<[Letter]>) -> Mailbox {
        Mailbox { server, letters, scan: LineScan::new(), broken: false, bad_commands: 0 }
    }
}

impl Machine for Mailbox {
    type Event = Turn;

    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<Turn>, Fault> {
        loop {
            match self.scan.find(input, LINE_MAX) {
                Found::More => return Ok(Step::NeedInput),
                Found::Bare(_) if self.broken => {}
                Found::Bare(_) => {
                    self.broken = true;
                    self.bad("A line ends in CR LF.", out)?;
                }
                Found::TooLong => {
                    line(out, "-ERR That line is too long.");
                    return Err(Fault::limit("line-too-long", "a line is too long"));
                }
                Found::Line(length) => {
                    let whole = input.split_to(length.saturating_add(2).min(input.len()));
                    self.scan = LineScan::new();
                    if std::mem::take(&mut self.broken) {
                        continue;
                    }
                    return match self.obey(whole.get(..length).unwrap_or_default(), out) {
                        Ok(turn) => Ok(Step::Event(turn)),
                        Err(Bad(why)) => self.bad(why, out).map(|()| Step::Event(Turn::Answered)),
                    };
                }
            }
        }
    }
}

impl Mailbox {
    fn bad(&mut self, why: &str, out: &mut BytesMut) -> Result<(), Fault> {
        self.bad_commands = self.bad_commands.saturating_add(1);
        if self.bad_commands < BAD_MAX {
            line(out, format_args!("-ERR {why}"));
            return Ok(());
        }
        line(out, "-ERR Too many bad commands.");
        Err(Fault::limit("bad-commands", "too many bad commands"))
    }

    fn obey(&self, whole: &[u8], out: &mut BytesMut) -> Result<Turn, Bad> {
        let mut words = whole.split(|octet| *octet == b' ');
        let name = words.next().unwrap_or_default().to_ascii_uppercase();
        let args: Vec<&[u8]> = words.take(3).collect();
        match (name.as_slice(), args.as_slice()) {
            (b"STAT", []) => line(out, format_args!("+OK {}", self.sum())),
            (b"LIST", []) => self.list(out, |_, letter| letter.octets().len().to_string()),
            (b"UIDL", []) => self.list(out, |number, _| unique(number)),
            (b"LIST", [number]) => {
                let (number, letter) = self.letter(number)?;
                line(out, format_args!("+OK {number} {}", letter.octets().len()));
            }
            (b"UIDL", [number]) => {
                let (number, _) = self.letter(number)?;
                line(out, format_args!("+OK {number} {}", unique(number)));
            }
            (b"RETR", [number]) => {
                let (_, letter) = self.letter(number)?;
                line(out, format_args!("+OK {} octets", letter.octets().len()));
                stuffed(lines(letter.octets()), out);
            }
            (b"TOP", [number, count]) => {
                let (_, letter) = self.letter(number)?;
                let count = self::number(count)?;
                line(out, "+OK");
                stuffed(lines(letter.header()).chain(lines(letter.body()).take(count)), out);
            }
            (b"DELE", [number]) => {
                self.letter(number)?;
                line(out, "-ERR [SYS/PERM] In this demo nothing can be changed.");
            }
            (b"NOOP", []) => line(out, "+OK"),
            (b"RSET", []) => line(out, format_args!("+OK {}", self.sum())),
            (b"CAPA", []) => {
                line(out, "+OK");
                CAPABILITY.split(' ').for_each(|word| line(out, word));
                line(out, ".");
            }
            (b"QUIT", []) => {
                line(out, format_args!("+OK Goodbye from {}.", self.server));
                return Ok(Turn::Bye);
            }
            (b"STAT" | b"LIST" | b"UIDL" | b"RETR" | b"TOP" | b"DELE" | b"NOOP" | b"RSET" | b"CAPA" | b"QUIT", _) => {
                return Err(Bad("That command wants other arguments."));
            }
            (b"USER" | b"PASS" | b"AUTH" | b"APOP" | b"STLS" | b"XCLIENT", _) => return Err(Bad("You are signed in already.")),
            _ => return Err(Bad("This little demo server does not know that command.")),
        }
        Ok(Turn::Answered)
    }

    /// How many letters, and the octets of all.
    fn sum(&self) -> String {
        format!("{} {}", self.letters.len(), self.letters.iter().map(|letter| letter.octets().len()).sum::<usize>())
    }

    fn list(&self, out: &mut BytesMut, value: impl Fn(usize, &Letter) -> String) {
        line(out, "+OK");
        for (index, letter) in self.letters.iter().enumerate() {
            let number = index.saturating_add(1);
            line(out, format_args!("{number} {}", value(number, letter)));
        }
        line(out, ".");
    }

    /// The letter of a number, and that number.
    fn letter(&self, said: &[u8]) -> Result<(usize, &Letter), Bad> {
        let number = number(said)?;
        let letter = number.checked_sub(1).and_then(|index| self.letters.get(index));
        letter.map(|letter| (number, letter)).ok_or(Bad("There is no letter of that number."))
    }
}

fn number(said: &[u8]) -> Result<usize, Bad> {
    let digits = std::str::from_utf8(said).ok().filter(|said| said.bytes().all(|octet| octet.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse::<u32>().ok()).and_then(|number| usize::try_from(number).ok());
    number.ok_or(Bad("A number was expected."))
}

/// The same for ever: nothing is ever added or removed.
fn unique(number: usize) -> String {
    format!("{UID_VALIDITY}.{number}")
}

/// Lines with their CRLF.
fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets.split_inclusive(|octet| *octet == b'\n')
}

/// Text behind a status line, and its end (RFC 1939 section 3). Every line of a letter ends in CRLF.
fn stuffed<'a>(lines: impl Iterator<Item = &'a [u8]>, out: &mut BytesMut) {
    for text in lines {
        if text.starts_with(b".") {
            out.put_u8(b'.');
        }
        out.put_slice(text);
    }
    line(out, ".");
}

fn line(out: &mut BytesMut, text: impl Display) {
    out.put_slice(format!("{text}\r\n").as_bytes());
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
