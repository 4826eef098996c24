//! The carrier XFORWARD: who sent a mail, told ahead of each transaction, for logs and trace fields alone.
//!
//! Unlike XCLIENT it changes nothing about the peer: nobody is authorised by it, nothing is routed by it, and a session's own
//! facts never fill what it leaves open. [`Forwarded`] is therefore a complete set of its own, in which what was not said is
//! unknown. It is believed of trusted peers ([`Said::believed`]), may be said in several commands, of which the later count
//! ([`Said::add`]), and holds for one transaction; when it ends is up to the conversation.
//!
//! [`read()`] takes the attributes behind the verb: whole or nothing, so that a refused command leaves no trace. It is stricter
//! than Postfix, whose command this is, wherever two readers could disagree: what is said twice, malformed xtext, ports that do
//! not exist, and characters that mean something in a header field (Postfix makes them `?`) refuse the command. What is
//! `[UNAVAILABLE]` is unknown, SOURCE too: Postfix takes that for LOCAL. There is no `[TEMPUNAVAIL]`.
//!
//! [`write()`] says each attribute that a server offered, in Postfix's order, in commands shorter than [`COMMAND_MAX`]. What is
//! unknown, or could not be read back, is `[UNAVAILABLE]`. An unknown SOURCE is not said at all: where nobody says it, the next
//! server keeps its own mind about what is local.
//!
//! Left to others: whether the peer may be believed, the replies, and the order of commands. Postfix's XFORWARD_README is the
//! only standard.

use super::spelling::read_port;
use super::trust::TrustedPeer;
use super::xclient::READ_MAX;
use super::xtext::{self, SPELLED_MAX, UNAVAILABLE, decoded, encoded, is_client_name, special};
use super::{MailProtocol, Origin, Told, unmapped};
use crate::encode::escaped;
use bytes::BytesMut;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The words behind XFORWARD in our own EHLO or LHLO reply: all that [`read()`] takes.
pub const LISTED: &str = "NAME ADDR PORT PROTO HELO IDENT SOURCE";

/// Every command that is said is shorter than this, its CRLF included (RFC 5321 section 4.5.3.1.4).
pub const COMMAND_MAX: usize = 512;

/// The longest PROTO, in octets, as in Postfix.
const PROTO_MAX: usize = 64;

/// Who sent the mail, as upstream tells it: a complete set, in which what was not said is unknown. It is never mixed with the
/// session's own facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The name of the client's address.
    pub name: Option<Box<str>>,
    /// The client's address.
    pub addr: Option<IpAddr>,
    /// The client's port, not 0.
    pub port: Option<u16>,
    /// What it spoke; any word, such as `ESMTP`.
    pub proto: Option<Box<str>>,
    /// What it called itself.
    pub helo: Option<Box<str>>,
    /// What the transaction is called upstream, such as the queue id of a Postfix.
    pub ident: Option<Box<str>>,
    /// Where the mail comes from.
    pub source: Option<Source>,
}

/// Whether a mail was made here or came from outside; a Postfix completes the addresses in the header of the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From here.
    Local,
    /// From elsewhere.
    Remote,
}

impl Source {
    /// As it is spelled.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Local => "LOCAL",
            Source::Remote => "REMOTE",
        }
    }
}

impl Forwarded {
    /// Our own client, where upstream said nothing. `ident` is what we call the transaction. Nobody told us a SOURCE, and none is
    /// invented.
    pub fn of(origin: &Origin, ident: &str) -> Forwarded {
        let known = |told: &Option<Told>| told.as_ref().and_then(Told::known).map(Box::from);
        Forwarded {
            name: known(&origin.host_name),
            addr: Some(origin.client.0.ip()),
            port: Some(origin.client.0.port()).filter(|port| *port != 0),
            proto: origin.spoke.map(MailProtocol::as_str).map(Box::from),
            helo: known(&origin.helo),
            ident: Some(ident.into()),
            source: None,
        }
    }
}

/// What a peer has said by XFORWARD for one transaction: parsed, not yet believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// What was spoken of, be it only to say that it is unknown.
    heard: Offered,
    values: Forwarded,
}

impl Said {
    /// Nothing was said, not even that something is unknown.
    pub fn is_empty(&self) -> bool {
        self.heard.is_empty()
    }

    /// One more command: what it says replaces what was said of the same attribute before.
    pub fn add(&mut self, more: Said) {
        fn replace<T>(said: bool, old: &mut T, new: T) {
            if said {
                *old = new;
            }
        }
        let Forwarded { name, addr, port, proto, helo, ident, source } = more.values;
        let said = |attribute| more.heard.lists(attribute);
        replace(said(Attribute::Name), &mut self.values.name, name);
        replace(said(Attribute::Addr), &mut self.values.addr, addr);
        replace(said(Attribute::Port), &mut self.values.port, port);
        replace(said(Attribute::Proto), &mut self.values.proto, proto);
        replace(said(Attribute::Helo), &mut self.values.helo, helo);
        replace(said(Attribute::Ident), &mut self.values.ident, ident);
        replace(said(Attribute::Source), &mut self.values.source, source);
        self.heard = Offered(self.heard.0 | more.heard.0);
    }

    /// Believes it. The proof is why this cannot be called for anybody else.
    pub fn believed(&self, _proof: &TrustedPeer) -> Forwarded {
        self.values.clone()
    }
}

/// The reason that the peer may hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// There is no attribute at all.
    NoOperand,
    /// One attribute is wrong.
    Attribute {
        /// Which one, as it was said: printable ASCII, cut.
        name: String,
        /// What is wrong with it. Values are never quoted.
        why: &'static str,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoOperand => f.write_str("XFORWARD wants attribute=value"),
            Malformed::Attribute { name, why } => write!(f, "{why}: {name}"),
        }
    }
}

/// Nothing stands behind the verb. Postfix tells this even to those whom it would not listen to.
pub fn no_operand(attributes: &[u8]) -> bool {
    xtext::no_operand(attributes)
}

/// Reads the attributes behind the verb.
///
/// # Errors
/// [`Malformed`], and then nothing was said. Attributes are looked at from left to right; the first that is wrong is told.
pub fn read(attributes: &[u8]) -> Result<Said, Malformed> {
    if no_operand(attributes) {
        return Err(Malformed::NoOperand);
    }
    if attributes.len() > READ_MAX {
        return Err(Malformed::Attribute { name: "XFORWARD".to_owned(), why: "line too long" });
    }
    let mut said = Said::default();
    for word in xtext::attributes(attributes) {
        let wrong = |why| Malformed::Attribute { name: escaped(word.shown, 32), why };
        let attribute = Attribute::named(word.name).ok_or_else(|| wrong("unknown attribute"))?;
        let spelled = word.spelled.ok_or_else(|| wrong("attribute=value expected"))?;
        if said.heard.lists(attribute) {
            return Err(wrong("said twice"));
        }
        said.heard = said.heard.with(attribute);
        if spelled.len() > SPELLED_MAX {
            return Err(wrong("value too long"));
        }
        take(&mut said.values, attribute, spelled).ok_or_else(|| wrong("malformed value"))?;
    }
    Ok(said)
}

/// Takes one value into a set that has none of its attribute yet; `None` for what may not be said.
fn take(values: &mut Forwarded, attribute: Attribute, spelled: &[u8]) -> Option<()> {
    match special(spelled) {
        Some(Told::Unavailable) => return Some(()),
        Some(_) => return None,
        None => {}
    }
    let octets = decoded(spelled)?;
    let text = std::str::from_utf8(&octets).ok()?;
    let word = || fits(attribute, text).then(|| Some(Box::from(text)));
    match attribute {
        Attribute::Addr => values.addr = Some(read_address(text)?),
        Attribute::Port => values.port = Some(read_port(text).filter(|_| text.len() <= 5)?),
        Attribute::Source => {
            let source = [Source::Local, Source::Remote].into_iter().find(|source| source.as_str().eq_ignore_ascii_case(text));
            values.source = Some(source?);
        }
        Attribute::Name => values.name = word()?,
        Attribute::Proto => values.proto = word()?,
        Attribute::Helo => values.helo = word()?,
        Attribute::Ident => values.ident = word()?,
    }
    Some(())
}

/// An address as Postfix spells it. Unlike with XCLIENT the later kind needs its prefix: without it Postfix refuses it, and
/// nobody else says XFORWARD differently.
fn read_address(text: &str) -> Option<IpAddr> {
    match text.split_at_checked(5) {
        Some((prefix, ip)) if prefix.eq_ignore_ascii_case("IPV6:") => ip.parse::<Ipv6Addr>().ok().map(|ip| unmapped(ip.into())),
        _ => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

/// A word that is one, and cannot be taken for anything else where it is put into a header field: what means something there,
/// Postfix makes into `?`.
fn fits(attribute: Attribute, word: &str) -> bool {
    let neutral = |octet: u8| octet.is_ascii_graphic() && !b"<>()\\\";@".contains(&octet);
    let form = match attribute {
        Attribute::Name => is_client_name(word),
        Attribute::Proto => word.len() <= PROTO_MAX,
        _ => true,
    };
    form && !word.is_empty() && word.bytes().all(neutral) && special(word.as_bytes()).is_none()
}

/// What a server lists behind XFORWARD in its EHLO or LHLO reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offered(u8);

impl Offered {
    /// From the words behind XFORWARD, in any case. Unknown ones are passed over.
    pub fn read(words: &str) -> Offered {
        words
            .split_ascii_whitespace()
            .filter_map(|word| Attribute::named(word.as_bytes()))
            .fold(Offered::default(), Offered::with)
    }

    /// Nothing that we know.
    pub fn is_empty(self) -> bool {
        self == Offered::default()
    }

    fn lists(self, attribute: Attribute) -> bool {
        self.0 & attribute.bit() != 0
    }

    fn with(self, attribute: Attribute) -> Offered {
        Offered(self.0 | attribute.bit())
    }
}

/// Says who sent the mail, as far as `offered` goes: commands with their CRLF are appended to `out`, one a line. Returns their
/// number, which is 0 where there is nothing to say; each is owed a reply, and all may be said ahead of MAIL without waiting.
pub fn write(forwarded: &Forwarded, offered: Offered, out: &mut BytesMut) -> usize {
    let mut commands = 0;
    let mut used = COMMAND_MAX;
    for (attribute, name) in ATTRIBUTES.into_iter().filter(|(attribute, _)| offered.lists(*attribute)) {
        let value = match forwarded.spelled(attribute) {
            Some(value) => value,
            None if attribute == Attribute::Source => continue,
            None => UNAVAILABLE.to_owned(),
        };
        let word = format!(" {name}={value}");
        if used + word.len() >= COMMAND_MAX {
            end(commands, out);
            commands += 1;
            out.extend_from_slice(VERB);
            used = VERB.len() + CRLF.len();
        }
        out.extend_from_slice(word.as_bytes());
        used += word.len();
    }
    end(commands, out);
    commands
}

fn end(commands: usize, out: &mut BytesMut) {
    if commands > 0 {
        out.extend_from_slice(CRLF);
    }
}

const VERB: &[u8] = b"XFORWARD";
const CRLF: &[u8] = b"\r\n";

impl Forwarded {
    /// One value as it is said; `None` where it is unknown or no reader would take it.
    fn spelled(&self, attribute: Attribute) -> Option<String> {
        let word = match attribute {
            Attribute::Addr => {
                return Some(match unmapped(self.addr?) {
                    IpAddr::V6(ip) => format!("IPV6:{ip}"),
                    ip => ip.to_string(),
                });
            }
            Attribute::Port => return self.port.filter(|port| *port != 0).map(|port| port.to_string()),
            Attribute::Source => return self.source.map(|source| source.as_str().to_owned()),
            Attribute::Name => &self.name,
            Attribute::Proto => &self.proto,
            Attribute::Helo => &self.helo,
            Attribute::Ident => &self.ident,
        };
        let word = word.as_deref().filter(|word| fits(attribute, word))?;
        Some(encoded(word.as_bytes())).filter(|spelled| spelled.len() <= SPELLED_MAX)
    }
}

/// All attributes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Name,
    Addr,
    Port,
    Proto,
    Helo,
    Ident,
    Source,
}

/// In the order in which they are said.
const ATTRIBUTES: [(Attribute, &str); 7] = [
    (Attribute::Name, "NAME"),
    (Attribute::Addr, "ADDR"),
    (Attribute::Port, "PORT"),
    (Attribute::Proto, "PROTO"),
    (Attribute::Helo, "HELO"),
    (Attribute::Ident, "IDENT"),
    (Attribute::Source, "SOURCE"),
];

impl Attribute {
    fn named(name: &[u8]) -> Option<Attribute> {
        ATTRIBUTES.into_iter().find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(attribute, _)| attribute)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests;
