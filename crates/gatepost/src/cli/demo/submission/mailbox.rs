//! The demo server behind the login, spoken to in SMTP: it takes letters, says what it took, and keeps nothing (RFC 5321).
//!
//! EHLO, HELO, MAIL, RCPT, DATA, RSET, NOOP, VRFY and QUIT; SIZE (RFC 1870), 8BITMIME (RFC 6152), PIPELINING (RFC 2920). A
//! sans-IO [`Machine`]: one command or letter a step, so that its driver can send each answer before the next one is made.
//!
//! Caps: a line has at most [`LINE_MAX`] octets, a letter [`LETTER_MAX`] and [`RECIPIENTS_MAX`] recipients; after [`BAD_MAX`] bad
//! commands it hangs up. Of a letter that is too long the rest is read and dropped. A letter with a bare CR or LF is refused, and
//! its end is a dot between CRLFs and nothing else. Nothing that a client said is repeated in an answer.

use super::super::guest::{Arrival, Sent, Took};
use super::super::speech::Turn;
use bytes::{BufMut, BytesMut};
use std::fmt::Display;
use wire::line::{Found, LineScan};
use wire::machine::{Fault, Machine, Step};

/// What is on offer, before and behind the login.
pub const CAPABILITY: &str = "SIZE=262144 8BITMIME";

/// The longest letter, in octets.
const LETTER_MAX: usize = 256 * 1024;
const RECIPIENTS_MAX: usize = 10;
/// The longest line, CRLF not counted: RFC 5321 section 4.5.3.1 asks for 998 in a letter, and less in commands.
const LINE_MAX: usize = 2000;
/// The longest address (RFC 5321 section 4.5.3.1.3).
const ADDRESS_MAX: usize = 254;
/// The bad command that ends it.
const BAD_MAX: u32 = 20;

/// What stands behind somebody who has signed in.
#[derive(Debug)]
pub struct Mailbox {
    server: &'static str,
    arrival: Arrival,
    scan: LineScan,
    /// A bare CR or LF was found in this line.
    broken: bool,
    bad_commands: u32,
    from: Option<String>,
    to: Vec<String>,
    letter: Option<Letter>,
}

/// A letter that is being read.
#[derive(Debug, Default)]
struct Letter {
    octets: Vec<u8>,
    too_long: bool,
    broken: bool,
}

/// What is wrong with a command: codes and words for the client.
struct Bad(&'static str);

impl Mailbox {
    /// For a client that has just signed in.
    pub fn new(server: &'static str, arrival: Arrival) -> Mailbox {
        let (scan, to) = (LineScan::new(), Vec::new());
        Mailbox { server, arrival, scan, broken: false, bad_commands: 0, from: None, to, letter: None }
    }
}

impl Machine for Mailbox {
    type Event = Turn;

    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<Turn>, Fault> {
        loop {
            match self.scan.find(input, LINE_MAX) {
                Found::More => return Ok(Step::NeedInput),
                Found::Bare(_) => self.broken = true,
                Found::TooLong => {
                    line(out, "500 5.5.2 That line is too long.");
                    return Err(Fault::limit("line-too-long", "a line is too long"));
                }
                Found::Line(length) => {
                    let whole = input.split_to(length.saturating_add(2).min(input.len()));
                    self.scan = LineScan::new();
                    let broken = std::mem::take(&mut self.broken);
                    match self.letter.take() {
                        Some(letter) if broken || whole != b".\r\n"[..] => self.letter = Some(letter.with(&whole, broken)),
                        Some(letter) => return Ok(Step::Event(self.take_in(letter, out))),
                        None if broken => return self.bad("500 5.5.2 A line ends in CR LF.", out).map(Step::Event),
                        None => {
                            return match self.obey(whole.get(..length).unwrap_or_default(), out) {
                                Ok(turn) => Ok(Step::Event(turn)),
                                Err(Bad(why)) => self.bad(why, out).map(Step::Event),
                            };
                        }
                    }
                }
            }
        }
    }
}

impl Letter {
    /// With one more line, its CRLF included and a dot in front taken away (RFC 5321 section 4.5.2).
    fn with(mut self, line: &[u8], broken: bool) -> Letter {
        self.broken |= broken;
        let line = line.strip_prefix(b".").unwrap_or(line);
        self.too_long |= self.octets.len().saturating_add(line.len()) > LETTER_MAX;
        if self.too_long {
            self.octets = Vec::new();
        } else {
            self.octets.extend_from_slice(line);
        }
        self
    }
}

impl Mailbox {
    fn bad(&mut self, why: &str, out: &mut BytesMut) -> Result<Turn, Fault> {
        self.bad_commands = self.bad_commands.saturating_add(1);
        if self.bad_commands < BAD_MAX {
            line(out, why);
            return Ok(Turn::Answered);
        }
        line(out, "421 4.7.0 Too many bad commands.");
        Err(Fault::limit("bad-commands", "too many bad commands"))
    }

    fn obey(&mut self, whole: &[u8], out: &mut BytesMut) -> Result<Turn, Bad> {
        let text = std::str::from_utf8(whole).map_err(|_| Bad("500 5.5.2 A command is text."))?;
        let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
        match (name.to_ascii_uppercase().as_str(), rest) {
            ("EHLO" | "HELO", "") => return Err(Bad("501 5.5.4 Say your name with that.")),
            ("EHLO", name) => {
                self.reset();
                self.arrival.helo = Some(name.chars().take(255).collect());
                line(out, format_args!("250-{}", self.server));
                ["PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME"].iter().for_each(|word| line(out, format_args!("250-{word}")));
                line(out, format_args!("250 SIZE {LETTER_MAX}"));
            }
            ("HELO", name) => {
                self.reset();
                self.arrival.helo = Some(name.chars().take(255).collect());
                line(out, format_args!("250 {}", self.server));
            }
            ("MAIL", _) if self.from.is_some() => return Err(Bad("503 5.5.1 There is a sender already.")),
            ("MAIL", rest) => {
                let (from, parameters) = path(rest, "FROM:")?;
                parameters.split_ascii_whitespace().try_for_each(parameter)?;
                self.from = Some(from.to_owned());
                line(out, "250 2.1.0 Fine.");
            }
            ("RCPT", _) if self.from.is_none() => return Err(Bad("503 5.5.1 Say MAIL first.")),
            ("RCPT", _) if self.to.len() >= RECIPIENTS_MAX => line(out, "452 4.5.3 Those are all the recipients of one letter."),
            ("RCPT", rest) => match path(rest, "TO:")? {
                ("", _) => return Err(Bad("501 5.1.3 Somebody must get it.")),
                (to, parameters) if parameters.trim().is_empty() => {
                    self.to.push(to.to_owned());
                    line(out, "250 2.1.5 Fine.");
                }
                _ => return Err(Bad("555 5.5.4 That parameter is not known here.")),
            },
            ("DATA", "") if self.to.is_empty() => return Err(Bad("503 5.5.1 Say MAIL and RCPT first.")),
            ("DATA", "") => {
                self.letter = Some(Letter::default());
                line(out, "354 Go on, and end with a dot alone.");
            }
            ("RSET", "") => {
                self.reset();
                line(out, "250 2.0.0 Forgotten.");
            }
            ("NOOP", _) => line(out, "250 2.0.0 Nothing new."),
            ("VRFY", _) => line(out, "252 2.5.2 Send it, and see."),
            ("QUIT", "") => {
                line(out, format_args!("221 2.0.0 Goodbye from {}.", self.server));
                return Ok(Turn::Bye);
            }
            ("DATA" | "RSET" | "QUIT", _) => return Err(Bad("501 5.5.4 Nothing stands behind that command.")),
            ("AUTH" | "STARTTLS" | "XCLIENT", _) => return Err(Bad("503 5.5.1 You are signed in already.")),
            _ => return Err(Bad("500 5.5.1 This little demo server does not know that command.")),
        }
        Ok(Turn::Answered)
    }

    /// The end of a letter.
    fn take_in(&mut self, letter: Letter, out: &mut BytesMut) -> Turn {
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        if letter.broken {
            line(out, "550 5.6.0 A letter holds no bare CR or LF.");
        } else if letter.too_long {
            line(out, format_args!("552 5.3.4 A letter has at most {LETTER_MAX} octets here."));
        } else {
            line(out, "250 2.0.0 Taken; this demo keeps no letters.");
            let received = self.arrival.received(self.server, ["ESMTPA", "ESMTPSA"]);
            return Turn::Took(Took::Letter(Box::new(Sent { from, to, octets: letter.octets, received })));
        }
        Turn::Answered
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }
}

/// The address of `FROM:<address> parameters`, and what stands behind it.
fn path<'a>(rest: &'a str, word: &str) -> Result<(&'a str, &'a str), Bad> {
    let syntax = Bad("501 5.5.4 An address in angle brackets was expected.");
    let behind = rest.split_at_checked(word.len()).filter(|(start, _)| start.eq_ignore_ascii_case(word));
    // Many put a blank there.
    let inside = behind.and_then(|(_, path)| path.trim_start_matches(' ').strip_prefix('<'));
    let Some((address, parameters)) = inside.and_then(|inside| inside.split_once('>')) else { return Err(syntax) };
    let fine = address.len() <= ADDRESS_MAX && address.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'<');
    if fine && (parameters.is_empty() || parameters.starts_with(' ')) { Ok((address, parameters)) } else { Err(syntax) }
}

/// Looks at a parameter of MAIL.
fn parameter(said: &str) -> Result<(), Bad> {
    let (name, value) = said.split_once('=').unwrap_or((said, ""));
    match name.to_ascii_uppercase().as_str() {
        "SIZE" if value.parse::<u64>().is_ok_and(|size| usize::try_from(size).is_ok_and(|size| size <= LETTER_MAX)) => Ok(()),
        "SIZE" if value.parse::<u64>().is_ok() => Err(Bad("552 5.3.4 A letter of that size is too long for this demo.")),
        "BODY" if value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME") => Ok(()),
        _ => Err(Bad("555 5.5.4 That parameter is not known here.")),
    }
}

fn line(out: &mut BytesMut, text: impl Display) {
    out.put_slice(format!("{text}\r\n").as_bytes());
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
