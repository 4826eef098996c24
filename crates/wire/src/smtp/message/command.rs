//! Commands of a mail transaction, read; and `MAIL` and `RCPT` spelled for the next server.
//!
//! Addresses and parameters are read into an envelope, whole or not at all. A parameter that nobody announced is `555`, as RFC 5321
//! section 4.1.1.11 wants it. The octets of a line are UTF-8 or refused; beyond ASCII they count only with `SMTPUTF8`.
//!
//! RFC 5321 section 4.1, RFC 2033 (LHLO), RFC 1870, RFC 3030 (BDAT), RFC 3461, RFC 6152, RFC 6531; `XRCPTFORWARD` is Dovecot's: pairs
//! joined by TAB, in xtext, and also taken in base64, as its documentation calls it.

use super::offers::Offers;
use crate::address::{Mailbox, read_path};
use crate::envelope::{BodyKind, Mail, Rcpt, Ret};
use crate::origin::xclient::{pairs_of_tabs, read_forward, tab_joined};
use crate::origin::{ForwardField, xforward, xtext};
use crate::smtp::command::{Malformed, name, split, syntax};
use bytes::BytesMut;

/// What a client can ask.
#[derive(Debug)]
pub enum Command {
    /// `LHLO` with a name; empty: what was said is none that can be said again.
    Lhlo(String),
    /// `EHLO` or `HELO`, which LMTP does not have.
    WrongGreeting,
    /// `STARTTLS`
    StartTls,
    /// `MAIL`
    Mail(Box<Mail>),
    /// `RCPT`
    Rcpt(Box<Rcpt>),
    /// `DATA`
    Data,
    /// `BDAT`: so many octets follow at once.
    Bdat {
        /// How many.
        octets: u64,
        /// The letter is whole with them.
        last: bool,
    },
    /// `RSET`
    Rset,
    /// `NOOP`
    Noop,
    /// `VRFY`
    Vrfy,
    /// `HELP`
    Help,
    /// `QUIT`
    Quit,
    /// `XCLIENT`: the attributes.
    Xclient(Vec<u8>),
    /// `XFORWARD`: the attributes.
    Xforward(Vec<u8>),
    /// Anything else.
    Other,
}

impl Command {
    /// Finds the meaning of a whole line without its CRLF. `trusted`: the peer may say `XRCPTFORWARD`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &[u8], trusted: bool) -> Result<Command, Malformed> {
        let (word, argument) = split(line);
        match word.as_slice() {
            b"XCLIENT" => return Ok(Command::Xclient(argument.to_vec())),
            b"XFORWARD" => return Ok(Command::Xforward(argument.to_vec())),
            _ => {}
        }
        if line.iter().any(u8::is_ascii_control) {
            return Err(Malformed { code: "500 5.5.2", why: "Control characters are not allowed." });
        }
        let argument = argument.trim_ascii();
        let text = || std::str::from_utf8(argument).map_err(|_| Malformed { code: "501 5.5.2", why: "This is not UTF-8." });
        match word.as_slice() {
            b"LHLO" => name(argument).map(Command::Lhlo),
            b"EHLO" | b"HELO" => Ok(Command::WrongGreeting),
            b"MAIL" => mail(text()?).map(|mail| Command::Mail(Box::new(mail))),
            b"RCPT" => rcpt(text()?, trusted).map(|rcpt| Command::Rcpt(Box::new(rcpt))),
            b"BDAT" => bdat(text()?),
            b"NOOP" => Ok(Command::Noop),
            b"VRFY" => Ok(Command::Vrfy),
            b"HELP" => Ok(Command::Help),
            b"STARTTLS" | b"DATA" | b"RSET" | b"QUIT" if !argument.is_empty() => Err(syntax("This command takes no argument.")),
            b"STARTTLS" => Ok(Command::StartTls),
            b"DATA" => Ok(Command::Data),
            b"RSET" => Ok(Command::Rset),
            b"QUIT" => Ok(Command::Quit),
            _ => Ok(Command::Other),
        }
    }
}

/// What is announced and may be asked here, but for the reverse path.
fn mail(argument: &str) -> Result<Mail, Malformed> {
    let (from, rest) = path(argument, "FROM:")?;
    let mut mail =
        Mail { from, size: None, body: None, smtputf8: false, ret: None, envid: None, forwarded: xforward::Said::default() };
    for (key, value) in parameters(rest)? {
        let once = match (key.as_str(), value) {
            ("SIZE", Some(size)) => set(&mut mail.size, number(size)),
            ("BODY", Some(body)) => set(&mut mail.body, body_kind(body)),
            ("SMTPUTF8", None) => !std::mem::replace(&mut mail.smtputf8, true),
            ("RET", Some(ret)) => set(&mut mail.ret, ret_of(ret)),
            ("ENVID", Some(id)) => set(&mut mail.envid, is_xtext(id, 100).then(|| id.into())),
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID", _) => false,
            _ => return Err(UNKNOWN_PARAMETER),
        };
        if !once {
            return Err(syntax("A parameter is malformed, or said twice."));
        }
    }
    if mail.from.as_ref().is_some_and(Mailbox::is_international) && !mail.smtputf8 {
        return Err(NOT_ASCII);
    }
    Ok(mail)
}

fn rcpt(argument: &str, trusted: bool) -> Result<Rcpt, Malformed> {
    let (to, rest) = path(argument, "TO:")?;
    let Some(to) = to else { return Err(syntax("There is no recipient.")) };
    let mut rcpt = Rcpt { to, notify: None, orcpt: None, forward: Vec::new() };
    let mut forward = None;
    for (key, value) in parameters(rest)? {
        let once = match (key.as_str(), value) {
            ("NOTIFY", Some(words)) => set(&mut rcpt.notify, notify(words)),
            ("ORCPT", Some(of)) => set(&mut rcpt.orcpt, is_orcpt(of).then(|| of.into())),
            ("XRCPTFORWARD", _) if !trusted => {
                return Err(Malformed { code: "550 5.7.0", why: "You may not say who is calling." });
            }
            ("XRCPTFORWARD", Some(pairs)) => set(&mut forward, read_pairs(pairs)),
            ("NOTIFY" | "ORCPT" | "XRCPTFORWARD", _) => false,
            _ => return Err(UNKNOWN_PARAMETER),
        };
        if !once {
            return Err(syntax("A parameter is malformed, or said twice."));
        }
    }
    rcpt.forward = forward.unwrap_or_default();
    Ok(rcpt)
}

/// Takes a value that is well-formed and has not been said.
fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    value.is_some_and(|value| field.replace(value).is_none())
}

/// `FROM:<...>` with what stands behind it. Blanks behind the colon are common and forbidden; they are passed over.
fn path<'a>(argument: &'a str, keyword: &str) -> Result<(Option<Mailbox>, &'a str), Malformed> {
    let behind = argument
        .split_at_checked(keyword.len())
        .filter(|(word, _)| word.eq_ignore_ascii_case(keyword))
        .map(|(_, rest)| rest.trim_start_matches(' '))
        .ok_or(syntax("FROM:<address> or TO:<address> is needed."))?;
    let (mailbox, rest) = read_path(behind).map_err(|bad| Malformed { code: "501 5.1.3", why: bad.0 })?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(syntax("A blank is missing behind the address."));
    }
    Ok((mailbox, rest))
}

/// Names in upper case, and values.
fn parameters(text: &str) -> Result<Vec<(String, Option<&str>)>, Malformed> {
    let words = text.split(' ').filter(|word| !word.is_empty());
    let read = |word: &'_ str| -> Option<(String, Option<usize>)> {
        let end = word.find('=').unwrap_or(word.len());
        let key = word.get(..end)?;
        let fine = !key.is_empty() && key.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        fine.then(|| (key.to_ascii_uppercase(), (end < word.len()).then_some(end + 1)))
    };
    let mut all = Vec::new();
    for word in words {
        if all.len() >= PARAMETERS_MAX {
            return Err(syntax("There are too many parameters."));
        }
        let (key, value) = read(word).ok_or(syntax("A parameter is malformed."))?;
        all.push((key, value.and_then(|at| word.get(at..))));
    }
    Ok(all)
}

fn bdat(argument: &str) -> Result<Command, Malformed> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let octets = words.next().and_then(number).ok_or(syntax("A number of octets is needed."))?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(syntax("Behind the number LAST may stand, and nothing else.")),
    };
    if words.next().is_some() {
        return Err(syntax("Behind the number LAST may stand, and nothing else."));
    }
    Ok(Command::Bdat { octets, last })
}

/// Digits only, at most 20 of them, and what a counter can hold.
fn number(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|n| *n <= u64::MAX / 2)
}

fn body_kind(text: &str) -> Option<BodyKind> {
    match text.to_ascii_uppercase().as_str() {
        "7BIT" => Some(BodyKind::SevenBit),
        "8BITMIME" => Some(BodyKind::EightBit),
        _ => None,
    }
}

fn ret_of(text: &str) -> Option<Ret> {
    match text.to_ascii_uppercase().as_str() {
        "FULL" => Some(Ret::Full),
        "HDRS" => Some(Ret::Headers),
        _ => None,
    }
}

fn notify(text: &str) -> Option<Box<str>> {
    let upper = text.to_ascii_uppercase();
    let words: Vec<&str> = upper.split(',').collect();
    let known = |word: &&str| matches!(*word, "SUCCESS" | "FAILURE" | "DELAY");
    let each_once = words.iter().enumerate().all(|(n, word)| !words.iter().take(n).any(|before| before == word));
    let fine = upper == "NEVER" || words.iter().all(known) && each_once;
    fine.then(|| upper.into())
}

fn is_xtext(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'=')
}

/// `rfc822;xtext` or `utf-8;...` (RFC 3461 section 4.2, RFC 6533 section 3).
fn is_orcpt(text: &str) -> bool {
    let Some((kind, address)) = text.split_once(';') else { return false };
    let atom = !kind.is_empty() && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let printable = address.chars().all(|c| c.is_ascii_graphic() || !c.is_ascii() && !c.is_control() && !c.is_whitespace());
    atom && !address.is_empty() && text.len() <= 500 && printable
}

/// Pairs in xtext; what holds none of them may be base64, and is what that says. In xtext no `=` stands for itself, and at the end
/// of base64 one does.
fn read_pairs(text: &str) -> Option<Vec<ForwardField>> {
    let decoded = xtext::decoded(text.as_bytes()).and_then(|octets| String::from_utf8(octets).ok());
    decoded
        .filter(|joined| joined.contains('=') && !text.ends_with('='))
        .and_then(|joined| pairs_of_tabs(&joined))
        .or_else(|| read_forward(text))
}

/// Says `MAIL` to a server that takes so much. What it did not announce is left out: `SIZE` and `BODY` only inform, and a report that
/// nobody was asked for is not sent.
pub fn write_mail(mail: &Mail, size: Option<u64>, offers: &Offers, out: &mut BytesMut) {
    let mut line = format!("MAIL FROM:<{}>", mail.path());
    if let Some(size) = size.filter(|_| offers.size.is_some()) {
        line.push_str(&format!(" SIZE={size}"));
    }
    match mail.body.filter(|_| offers.eight_bit) {
        Some(BodyKind::EightBit) => line.push_str(" BODY=8BITMIME"),
        Some(BodyKind::SevenBit) => line.push_str(" BODY=7BIT"),
        None => {}
    }
    if mail.smtputf8 && offers.smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    if offers.dsn {
        match mail.ret {
            Some(Ret::Full) => line.push_str(" RET=FULL"),
            Some(Ret::Headers) => line.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(id) = &mail.envid {
            line.push_str(&format!(" ENVID={id}"));
        }
    }
    line.push_str("\r\n");
    out.extend_from_slice(line.as_bytes());
}

/// Says `RCPT`. Returns the names of pairs that could not be said.
pub fn write_rcpt(rcpt: &Rcpt, offers: &Offers, out: &mut BytesMut) -> Vec<String> {
    let mut line = format!("RCPT TO:<{}>", rcpt.to);
    if let Some(notify) = rcpt.notify.as_ref().filter(|_| offers.dsn) {
        line.push_str(&format!(" NOTIFY={notify}"));
    }
    if let Some(orcpt) = rcpt.orcpt.as_ref().filter(|_| offers.takes_orcpt()) {
        line.push_str(&format!(" ORCPT={orcpt}"));
    }
    let mut left_out = Vec::new();
    if offers.xrcptforward && !rcpt.forward.is_empty() {
        let spelled = |pairs: &[u8]| xtext::encoded(pairs);
        let pairs = tab_joined(&rcpt.forward, |pairs| line.len() + spelled(pairs).len() + 20 <= RCPT_MAX, &mut left_out);
        if !pairs.is_empty() {
            line.push_str(&format!(" XRCPTFORWARD={}", spelled(&pairs)));
        }
    }
    line.push_str("\r\n");
    out.extend_from_slice(line.as_bytes());
    left_out
}

/// The original recipient, for one whose address was rewritten on the way (RFC 3461 section 4.2).
pub fn orcpt_of(mailbox: &Mailbox) -> Option<Box<str>> {
    let text = mailbox.to_string();
    let spelled = if mailbox.is_international() { return None } else { format!("rfc822;{}", xtext::encoded(text.as_bytes())) };
    (spelled.len() <= 500).then(|| spelled.into())
}

const UNKNOWN_PARAMETER: Malformed = Malformed { code: "555 5.5.4", why: "A parameter is not known here." };
const NOT_ASCII: Malformed = Malformed { code: "553 5.6.7", why: "An address beyond ASCII needs SMTPUTF8." };

/// The most parameters of one command.
const PARAMETERS_MAX: usize = 32;
/// The longest `RCPT` that is said, in octets: what Dovecot takes of one line with room to spare.
const RCPT_MAX: usize = 4000;

#[cfg(test)]
mod tests;
