//! The demo server behind the login, spoken to in ManageSieve: the scripts of one mailbox (RFC 5804 section 2).
//!
//! CAPABILITY, NOOP, HAVESPACE, PUTSCRIPT, CHECKSCRIPT, LISTSCRIPTS, SETACTIVE, GETSCRIPT, DELETESCRIPT, RENAMESCRIPT and LOGOUT.
//! A sans-IO [`Machine`]: one command a step, so that its driver can send each answer before the next one is made.
//!
//! Caps: those of [`CAPS`] while reading, the [`Shelf`]'s on what is kept; after [`Caps::bad_commands`] bad commands it hangs up.
//! A literal that is too long ends the connection, because nobody waits before its octets. What a client said is repeated only
//! where it asks for it: names and scripts of its own.

use super::super::guest::Took;
use super::super::speech::Turn;
use super::shelf::{No, SCRIPT_MAX, Shelf, check, is_name};
use bytes::{Buf, BufMut, BytesMut};
use std::sync::{Arc, Mutex, PoisonError};
use wire::machine::{Fault, Machine, Step};
use wire::sieve::Caps;
use wire::sieve::border::{Border, Excess, Found};
use wire::sieve::text::{Cursor, Malformed, is_atom_char};

/// What can be done, before and behind the login.
pub const CAPABILITY: &str = "IMPLEMENTATION=Gatepost-demo SIEVE=fileinto SIEVE=reject SIEVE=vacation";

/// What a client may use up. One literal may be a script, and others of the same command its name.
const CAPS: Caps = Caps { line: 2048, quoted: 1024, literal: SCRIPT_MAX + 2048, bad_commands: 20, commands: usize::MAX };

/// One client's view of the scripts.
#[derive(Debug)]
pub struct Mailbox {
    server: &'static str,
    shelf: Arc<Mutex<Shelf>>,
    border: Border,
    bad_commands: usize,
}

/// How a command ends.
enum Outcome {
    Ok(&'static str),
    Took(&'static str, Took),
    Bye,
}

/// Why a command is refused.
enum Refused {
    /// It is none, or not one that can be followed.
    Bad(&'static str),
    /// It is a good one, but no.
    No(No),
}

impl From<Malformed> for Refused {
    fn from(Malformed(why): Malformed) -> Refused {
        Refused::Bad(why)
    }
}

impl From<No> for Refused {
    fn from(no: No) -> Refused {
        Refused::No(no)
    }
}

impl Mailbox {
    /// The scripts of a client that has just signed in.
    pub fn new(server: &'static str, shelf: Arc<Mutex<Shelf>>) -> Mailbox {
        Mailbox { server, shelf, border: Border::default(), bad_commands: 0 }
    }
}

impl Machine for Mailbox {
    type Event = Turn;

    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<Turn>, Fault> {
        loop {
            match self.border.command(input, CAPS.line, &CAPS) {
                Found::More => return Ok(Step::NeedInput),
                Found::Bare => self.bad("A line ends in CR LF.", out)?,
                Found::Skip(length) => {
                    input.advance(length.min(input.len()));
                    self.border = Border::default();
                }
                Found::Unstoppable(excess) => {
                    let why = match excess {
                        Excess::Line | Excess::Quoted => "That line is too long.",
                        Excess::Literal => "That literal is too long.",
                        Excess::Nonsense => "That is no literal.",
                    };
                    status("BYE", None, why, out);
                    return Err(Fault::limit("command-too-long", why));
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

impl Mailbox {
    fn answer(&mut self, whole: &[u8], out: &mut BytesMut) -> Result<Turn, Fault> {
        match self.obey(whole.strip_suffix(b"\r\n").unwrap_or(whole), out) {
            Ok(Outcome::Ok(text)) => status("OK", None, text, out),
            Ok(Outcome::Took(text, took)) => {
                status("OK", None, text, out);
                return Ok(Turn::Took(took));
            }
            Ok(Outcome::Bye) => {
                status("OK", None, &format!("Goodbye from {}.", self.server), out);
                return Ok(Turn::Bye);
            }
            Err(Refused::Bad(why)) => self.bad(why, out)?,
            Err(Refused::No(No { code, text })) => status("NO", code, &text, out),
        }
        Ok(Turn::Answered)
    }

    fn bad(&mut self, why: &str, out: &mut BytesMut) -> Result<(), Fault> {
        self.bad_commands = self.bad_commands.saturating_add(1);
        if self.bad_commands < CAPS.bad_commands {
            status("NO", None, why, out);
            return Ok(());
        }
        status("BYE", None, "Too many bad commands.", out);
        Err(Fault::limit("bad-commands", "too many bad commands"))
    }

    fn obey(&self, whole: &[u8], out: &mut BytesMut) -> Result<Outcome, Refused> {
        let mut text = Cursor::new(whole);
        let word = text.run(is_atom_char).to_ascii_uppercase();
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match word.as_slice() {
            b"CAPABILITY" => {
                text.end()?;
                capability(out);
                Outcome::Ok("That is all.")
            }
            b"NOOP" => {
                // A tag is for clients behind STARTTLS; nobody needs it here.
                if text.more()? {
                    text.string()?;
                }
                text.end()?;
                Outcome::Ok("Nothing new.")
            }
            b"HAVESPACE" => {
                let name = name(&mut text)?;
                let octets = number(&mut text)?;
                text.end()?;
                shelf.has_space(&name, octets)?;
                Outcome::Ok("There is room for it.")
            }
            b"PUTSCRIPT" => {
                let name = name(&mut text)?;
                let script = string(&mut text)?;
                text.end()?;
                shelf.put(&name, &script)?;
                Outcome::Took("Stored until the demo ends.", Took::Script { name, octets: script.len() })
            }
            b"CHECKSCRIPT" => {
                let script = string(&mut text)?;
                text.end()?;
                check(&script)?;
                Outcome::Ok("It has the form of a script.")
            }
            b"LISTSCRIPTS" => {
                text.end()?;
                for (name, active) in shelf.names() {
                    out.put_slice(format!("{}{}\r\n", quoted(name), if active { " ACTIVE" } else { "" }).as_bytes());
                }
                Outcome::Ok("That is all.")
            }
            b"SETACTIVE" => {
                let name = utf8(string(&mut text)?)?;
                text.end()?;
                shelf.activate(&name)?;
                Outcome::Took("So be it.", Took::Active(Some(name).filter(|name| !name.is_empty())))
            }
            b"GETSCRIPT" => {
                let name = name(&mut text)?;
                text.end()?;
                let script = shelf.get(&name)?;
                out.put_slice(format!("{{{}}}\r\n", script.len()).as_bytes());
                out.put_slice(script);
                out.put_slice(b"\r\n");
                Outcome::Ok("That is all.")
            }
            b"DELETESCRIPT" => {
                let name = name(&mut text)?;
                text.end()?;
                shelf.delete(&name)?;
                Outcome::Ok("It is gone.")
            }
            b"RENAMESCRIPT" => {
                let (old, new) = (name(&mut text)?, name(&mut text)?);
                text.end()?;
                shelf.rename(&old, &new)?;
                Outcome::Ok("So be it.")
            }
            b"LOGOUT" => {
                text.end()?;
                Outcome::Bye
            }
            b"AUTHENTICATE" | b"STARTTLS" | b"XCLIENT" => return Err(Refused::Bad("You are signed in already.")),
            _ => return Err(Refused::Bad("This little demo server does not know that command.")),
        };
        Ok(outcome)
    }
}

fn string(text: &mut Cursor<'_>) -> Result<Vec<u8>, Refused> {
    if text.more()? { Ok(text.string()?) } else { Err(Refused::Bad("Something is missing behind that command.")) }
}

fn name(text: &mut Cursor<'_>) -> Result<String, Refused> {
    let name = utf8(string(text)?)?;
    if is_name(&name) { Ok(name) } else { Err(Refused::Bad("That cannot be the name of a script.")) }
}

fn utf8(octets: Vec<u8>) -> Result<String, Refused> {
    String::from_utf8(octets).map_err(|_| Refused::Bad("A name is text in UTF-8."))
}

fn number(text: &mut Cursor<'_>) -> Result<usize, Refused> {
    text.more()?;
    let digits = std::str::from_utf8(text.run(|octet| octet.is_ascii_digit())).unwrap_or_default();
    // RFC 5804 section 4: a number has 32 bits.
    let number = digits.parse::<u32>().ok().and_then(|number| usize::try_from(number).ok());
    number.ok_or(Refused::Bad("A number was expected."))
}

fn capability(out: &mut BytesMut) {
    let extensions: Vec<&str> = CAPABILITY.split(' ').filter_map(|word| word.strip_prefix("SIEVE=")).collect();
    let list = format!(
        "\"IMPLEMENTATION\" \"Gatepost-demo\"\r\n\"SIEVE\" \"{}\"\r\n\"SASL\" \"\"\r\n\"MAXREDIRECTS\" \"0\"\r\n\"VERSION\" \"1.0\"\r\n",
        extensions.join(" ")
    );
    out.put_slice(list.as_bytes());
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The line that ends an answer.
fn status(condition: &str, code: Option<&str>, text: &str, out: &mut BytesMut) {
    let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
    out.put_slice(format!("{condition}{code} {}\r\n", quoted(text)).as_bytes());
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
