//! XCLIENT as SMTP servers speak it: Postfix's attributes and Dovecot's, each value in xtext (RFC 3461 section 4).
//!
//! [`read`] takes the attributes behind the verb: whole or nothing. Names and special values count in any case, blanks and tabs
//! may run together, IPv6 addresses may have Postfix's `IPV6:` or not. Everything else is strict: what is unknown, empty, said
//! twice or not xtext refuses the whole command, because two readers that disagree about one value disagree about who is calling.
//! One leniency is Postfix's: a value may hold a bare `=`.
//!
//! [`write`] says an [`Introduction`], a user that we vouch for, or both, to a server that listed what it takes ([`Offered`]).
//! What it did not list is not said. Commands are shorter than [`COMMAND_MAX`]; what does not fit goes ahead in commands of its
//! own, while the client itself stays together in the *last* one: Postfix takes no more XCLIENT of a peer that has named a
//! client, and forgets HELO, PROTO and LOGIN with the next. Exim and KumoMTA, known by what they do not list, want all in one
//! command, and IPv6 addresses bare.
//!
//! Left to others: whether the peer may be believed, the replies, and the conversation that begins anew behind each command.

use super::{LINE_MAX, READ_MAX, joined, read_address, read_forward};
use crate::dance::Introduction;
use crate::encode::{base64_encode, escaped};
use crate::origin::spelling::{is_host_name, leave_out, read_hops, read_number, read_port, read_transport};
use crate::origin::{MailProtocol, OriginUpdate, SessionId, Told, unmapped};
use crate::sasl;
use bytes::BytesMut;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A command that we say is shorter than this, its CRLF included (RFC 5321 section 4.5.3.1.4): but for one with a `FORWARD` or a
/// `LOGIN` that is longer by itself, which has at most [`LINE_MAX`].
pub const COMMAND_MAX: usize = 512;

/// The longest value that is read, as it is spelled: Postfix's limit. `FORWARD` may fill the line, and a user's name is measured
/// by what it is and not by how it is spelled: each octet of `LOGIN` may take three.
const SPELLED_MAX: usize = 255;

/// The reason that the peer may hear, and whether it is about form or about rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// There is no attribute at all.
    NoOperand,
    /// It names a user, and of this peer that is not believed. (550; all others are 501.)
    MayNotVouch,
    /// ADDR and PORT must come together, as Exim wants it.
    NeedsAddressAndPort,
    /// One attribute is wrong.
    Attribute {
        /// Which one: printable ASCII, cut.
        name: String,
        /// What is wrong with it. Values are never quoted.
        why: &'static str,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoOperand => f.write_str("XCLIENT wants attribute=value"),
            Malformed::MayNotVouch => f.write_str("You may not say who has signed in"),
            Malformed::NeedsAddressAndPort => f.write_str("ADDR and PORT are needed"),
            Malformed::Attribute { name, why } => write!(f, "{name}: {why}"),
        }
    }
}

/// What a peer may say, and must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Its LOGIN is believed.
    pub may_vouch: bool,
    /// ADDR and PORT must be there, as in the first XCLIENT that Exim hears on a connection.
    pub as_exim: bool,
}

/// Nothing stands behind the verb. Postfix tells this even to those whom it would not listen to.
pub fn no_operand(attributes: &[u8]) -> bool {
    attributes.iter().all(is_blank)
}

/// Reads the attributes behind the verb. What is `[UNAVAILABLE]` says nothing, but for names, HELO and LOGIN, where it is known
/// that there is none.
///
/// # Errors
/// [`Malformed`], and then nothing was said. Attributes are looked at from left to right; the first that is wrong is told.
pub fn read(attributes: &[u8], rules: Rules) -> Result<OriginUpdate, Malformed> {
    if no_operand(attributes) {
        return Err(Malformed::NoOperand);
    }
    if attributes.len() > READ_MAX {
        return Err(Malformed::Attribute { name: "XCLIENT".to_owned(), why: "line too long" });
    }
    let mut said = OriginUpdate::default();
    let mut seen = Offered::default();
    for word in attributes.split(is_blank).filter(|word| !word.is_empty()) {
        // Postfix splits at the first "=": "LOGIN=a=b" is the user "a=b".
        let mut parts = word.splitn(2, |octet| *octet == b'=');
        let name = parts.next().unwrap_or_default();
        let wrong = |why| Malformed::Attribute { name: escaped(name, 32), why };
        let attribute = Attribute::named(name).ok_or_else(|| wrong("unknown attribute"))?;
        let spelled = parts.next().filter(|value| !value.is_empty()).ok_or_else(|| wrong("attribute=value expected"))?;
        if seen.lists(attribute) {
            return Err(wrong("said twice"));
        }
        seen = seen.with(attribute);
        if spelled.len() > attribute.spelled_max() {
            return Err(wrong("value too long"));
        }
        let value = read_value(attribute, spelled).ok_or_else(|| wrong("malformed value"))?;
        if attribute == Attribute::Login && value != Told::Unavailable && !rules.may_vouch {
            return Err(Malformed::MayNotVouch);
        }
        take(&mut said, attribute, value).ok_or_else(|| wrong("malformed value"))?;
    }
    if rules.as_exim && !(seen.lists(Attribute::Addr) && seen.lists(Attribute::Port)) {
        return Err(Malformed::NeedsAddressAndPort);
    }
    Ok(said)
}

/// The words behind XCLIENT in our own EHLO reply: all that [`read`] takes, LOGIN only where the peer may vouch.
pub fn listed(may_vouch: bool) -> &'static str {
    if may_vouch {
        "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT FORWARD DESTNAME CLIENT-TRANSPORT"
    } else {
        "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT FORWARD DESTNAME CLIENT-TRANSPORT"
    }
}

/// What a server lists behind XCLIENT in its EHLO reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offered(u16);

impl Offered {
    /// From the words behind XCLIENT, in any case. Unknown ones are passed over.
    pub fn read(words: &str) -> Offered {
        words
            .split_ascii_whitespace()
            .filter_map(|word| Attribute::named(word.as_bytes()))
            .fold(Offered::default(), Offered::with)
    }

    /// Nothing that we know: there is nothing to say.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// A user can be named.
    pub fn takes_login(self) -> bool {
        self.lists(Attribute::Login)
    }

    /// A server of the kind of Exim and KumoMTA: it wants everything in one command, and IPv6 addresses bare. Its list is all
    /// that it shows of itself; those with the other habits list PROTO and HELO.
    fn wants_one_command(self) -> bool {
        !self.lists(Attribute::Proto) && !self.lists(Attribute::Helo)
    }

    fn lists(self, attribute: Attribute) -> bool {
        self.0 & attribute.bit() != 0
    }

    fn with(self, attribute: Attribute) -> Offered {
        Offered(self.0 | attribute.bit())
    }
}

/// What was said by [`write`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// How many commands, each of which is owed a reply before anything but another of them may be said.
    pub commands: usize,
    /// The user was named. If it should have been, nobody may be told that it has signed in unless this is so.
    pub vouched: bool,
    /// What the server would take and could not be said, printable, for the log.
    pub left_out: Vec<String>,
}

/// Says who is calling, as far as `offered` goes, and that this user has signed in. Commands with their CRLF are appended to
/// `out`; none where there is nothing to say.
///
/// A user whose name cannot be said is not said, see [`Written::vouched`].
pub fn write(intro: Option<&Introduction>, login: Option<&str>, offered: &Offered, out: &mut BytesMut) -> Written {
    let mut written = Written::default();
    let at_once = offered.wants_one_command();
    let max = if at_once { LINE_MAX } else { COMMAND_MAX - 1 };
    let caller = caller(intro, login, *offered, max, &mut written);
    let mut line = String::from(VERB);
    if let Some(intro) = intro {
        for (attribute, word) in surroundings(intro, *offered, &mut written.left_out) {
            let beside = if at_once { caller.len() } else { 0 };
            if line.len() + word.len() + beside + CRLF.len() > max {
                if at_once {
                    leave_out(&mut written.left_out, attribute.as_str());
                    continue;
                }
                say(&mut line, out, &mut written);
            }
            line.push_str(&word);
        }
        if offered.lists(Attribute::Forward) {
            let beside = if at_once { line.len() + caller.len() } else { VERB.len() };
            let word = forward(intro, LINE_MAX.saturating_sub(beside + CRLF.len()), &mut written.left_out);
            if line.len() + word.len() + CRLF.len() > max {
                say(&mut line, out, &mut written);
            }
            line.push_str(&word);
        }
    }
    if line.len() + caller.len() + CRLF.len() > max {
        say(&mut line, out, &mut written);
    }
    line.push_str(&caller);
    say(&mut line, out, &mut written);
    written
}

/// How the client called itself can be said to every server: a domain, or an address in brackets. Dovecot refuses the whole
/// command for any other, and clients say what they like.
pub(crate) fn is_helo(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => match address.split_at_checked(5) {
            Some((tag, ip)) if tag.eq_ignore_ascii_case("IPv6:") => ip.parse::<Ipv6Addr>().is_ok(),
            _ => address.parse::<Ipv4Addr>().is_ok(),
        },
        None => is_host_name(text),
    }
}

const VERB: &str = "XCLIENT";
const CRLF: &str = "\r\n";
const UNAVAILABLE: &str = "[UNAVAILABLE]";
const TEMPORARILY: &str = "[TEMPUNAVAIL]";

/// All attributes that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Name,
    ReverseName,
    Addr,
    Port,
    Proto,
    Helo,
    Login,
    DestAddr,
    DestPort,
    DestName,
    Session,
    Ttl,
    Timeout,
    Transport,
    Forward,
}

const ATTRIBUTES: [(Attribute, &str); 15] = [
    (Attribute::Name, "NAME"),
    (Attribute::ReverseName, "REVERSE_NAME"),
    (Attribute::Addr, "ADDR"),
    (Attribute::Port, "PORT"),
    (Attribute::Proto, "PROTO"),
    (Attribute::Helo, "HELO"),
    (Attribute::Login, "LOGIN"),
    (Attribute::DestAddr, "DESTADDR"),
    (Attribute::DestPort, "DESTPORT"),
    (Attribute::DestName, "DESTNAME"),
    (Attribute::Session, "SESSION"),
    (Attribute::Ttl, "TTL"),
    (Attribute::Timeout, "TIMEOUT"),
    (Attribute::Transport, "CLIENT-TRANSPORT"),
    (Attribute::Forward, "FORWARD"),
];

impl Attribute {
    fn named(name: &[u8]) -> Option<Attribute> {
        ATTRIBUTES.into_iter().find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(attribute, _)| attribute)
    }

    fn as_str(self) -> &'static str {
        ATTRIBUTES.into_iter().find(|(attribute, _)| *attribute == self).map_or("", |(_, name)| name)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }

    fn spelled_max(self) -> usize {
        match self {
            Attribute::Forward => READ_MAX,
            Attribute::Login => sasl::USER_MAX * 3,
            _ => SPELLED_MAX,
        }
    }
}

fn is_blank(octet: &u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// One value, decoded and in the set of characters that its attribute may have; `None` for what may not be said.
///
/// A special value is one as it is spelled. Postfix and Dovecot look for it after decoding, Exim before: what only becomes one by
/// decoding would be an absence to some and a name to others, and is refused.
fn read_value(attribute: Attribute, spelled: &[u8]) -> Option<Told> {
    match special(spelled) {
        // Nobody says so of PROTO: Postfix and Dovecot refuse it, and Dovecot's client always knows what was spoken.
        Some(Told::Unavailable) if attribute == Attribute::Proto => return None,
        // Of HELO and LOGIN Postfix would take it for a name, and the others refuse it.
        Some(Told::TemporarilyUnavailable) if !matches!(attribute, Attribute::Name | Attribute::ReverseName) => return None,
        Some(told) => return Some(told),
        None => {}
    }
    let octets = decoded(spelled)?;
    if special(&octets).is_some() {
        return None;
    }
    let text = if attribute == Attribute::Login {
        sasl::name(&octets).ok()?
    } else {
        std::str::from_utf8(&octets).ok().filter(|text| text.bytes().all(|octet| octet.is_ascii_graphic()))?
    };
    Some(Told::Known(text.into()))
}

fn special(text: &[u8]) -> Option<Told> {
    if text.eq_ignore_ascii_case(UNAVAILABLE.as_bytes()) {
        Some(Told::Unavailable)
    } else if text.eq_ignore_ascii_case(TEMPORARILY.as_bytes()) {
        Some(Told::TemporarilyUnavailable)
    } else {
        None
    }
}

/// Undoes xtext, with lower-case digits and a bare `=` tolerated.
fn decoded(spelled: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(spelled.len());
    let mut rest = spelled.iter();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let high = digit()?;
                high << 4 | digit()?
            }
            _ => Some(*octet).filter(u8::is_ascii_graphic)?,
        });
    }
    Some(octets)
}

/// Believes one value to be of its attribute's form, or not.
fn take(said: &mut OriginUpdate, attribute: Attribute, value: Told) -> Option<()> {
    /// What is not known is not said.
    fn known<T>(value: &Told, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        value.known().map_or(Some(None), |text| read(text).map(Some))
    }
    fn told(value: Told, fine: impl FnOnce(&str) -> bool) -> Option<Option<Told>> {
        value.known().is_none_or(fine).then_some(Some(value))
    }
    match attribute {
        Attribute::Name => said.host_name = told(value, is_client_name)?,
        Attribute::ReverseName => said.reverse_name = told(value, is_client_name)?,
        Attribute::Helo => said.helo = told(value, |_| true)?,
        Attribute::Login => said.user = told(value, |_| true)?,
        Attribute::Addr => said.client_ip = known(&value, read_address)?,
        Attribute::Port => said.client_port = known(&value, read_port)?,
        Attribute::DestAddr => said.reached_ip = known(&value, read_address)?,
        Attribute::DestPort => said.reached_port = known(&value, read_port)?,
        Attribute::DestName => said.reached_name = known(&value, |name| is_host_name(name).then(|| name.to_owned()))?,
        Attribute::Session => said.session = known(&value, SessionId::new)?,
        Attribute::Ttl => said.hops = known(&value, read_hops)?,
        Attribute::Timeout => said.patience = known(&value, read_patience)?,
        Attribute::Transport => said.transport = known(&value, |text| Some(read_transport(text)))?,
        Attribute::Proto => said.spoke = known(&value, read_protocol)?,
        Attribute::Forward => said.forward = known(&value, read_forward)?.unwrap_or_default(),
    }
    Some(())
}

/// Postfix's rules for the name of a host: labels of letters, digits, hyphens and underscores, no hyphen at an end of one, and
/// not all of it digits.
fn is_client_name(name: &str) -> bool {
    is_host_name(name)
        && !name.split('.').any(|label| label.starts_with('-') || label.ends_with('-'))
        && !name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.')
}

fn read_patience(text: &str) -> Option<Duration> {
    read_number(text).filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
}

/// `LMTP` is Dovecot's: Postfix neither lists nor takes it. Who was reached by LMTP may ask us all the same.
fn read_protocol(text: &str) -> Option<MailProtocol> {
    [MailProtocol::Smtp, MailProtocol::Esmtp, MailProtocol::Lmtp]
        .into_iter()
        .find(|protocol| protocol.as_str().eq_ignore_ascii_case(text))
}

/// Ends a command and begins the next, unless nothing stands in it.
fn say(line: &mut String, out: &mut BytesMut, written: &mut Written) {
    if line.len() > VERB.len() {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(CRLF.as_bytes());
        written.commands += 1;
        line.truncate(VERB.len());
    }
}

/// One attribute with the blank before it, spelled already.
type Word = (Attribute, String);

fn word(attribute: Attribute, spelled: &str) -> Word {
    (attribute, format!(" {}={spelled}", attribute.as_str()))
}

/// What is said of the connection and not of the client: each attribute may go ahead in a command of its own.
fn surroundings(intro: &Introduction, offered: Offered, left_out: &mut Vec<String>) -> Vec<Word> {
    let origin = &intro.origin;
    let reached = origin.reached.0;
    let mut words = vec![word(Attribute::DestAddr, &address(reached.ip(), offered))];
    if reached.port() != 0 {
        words.push(word(Attribute::DestPort, &reached.port().to_string()));
    }
    match &origin.name {
        Some(name) if is_host_name(name) => words.push(word(Attribute::DestName, name)),
        Some(_) if offered.lists(Attribute::DestName) => leave_out(left_out, Attribute::DestName.as_str()),
        _ => {}
    }
    words.push(word(Attribute::Session, &encoded(origin.session.as_str().as_bytes())));
    words.push(word(Attribute::Ttl, &origin.hops.get().to_string()));
    if let Some(patience) = intro.patience {
        // No more than there is, but less than a second is no time to ask for.
        words.push(word(Attribute::Timeout, &patience.as_secs().clamp(1, u32::MAX.into()).to_string()));
    }
    if let Some(transport) = origin.transport {
        words.push(word(Attribute::Transport, transport.as_str()));
    }
    words.retain(|(attribute, _)| offered.lists(*attribute));
    words
}

/// `FORWARD` with as many pairs as go into so many octets; empty for none.
fn forward(intro: &Introduction, room: usize, left_out: &mut Vec<String>) -> String {
    let spelled = |pairs: &[u8]| word(Attribute::Forward, &encoded(base64_encode(pairs).expose())).1;
    // Base64 and xtext make a value longer: what is too long before them need not be spelled.
    let pairs = joined(intro, |pairs| pairs.len() <= room && spelled(pairs).len() <= room, left_out);
    if pairs.is_empty() { String::new() } else { spelled(&pairs) }
}

/// The client itself and the user, who stand in the last command: all of it, or less until it fits. HELO goes first, because
/// EHLO says it again, then names. The user's name never goes: what is longer than a command by that is said all the same.
fn caller(intro: Option<&Introduction>, login: Option<&str>, offered: Offered, max: usize, written: &mut Written) -> String {
    let mut words = match intro {
        Some(intro) => client(intro, offered, &mut written.left_out),
        None => Vec::new(),
    };
    if let Some(name) = login {
        // There is no spelling for a user who is called like an absence.
        written.vouched = offered.takes_login() && sasl::name(name.as_bytes()).is_ok() && special(name.as_bytes()).is_none();
        if written.vouched {
            words.push(word(Attribute::Login, &encoded(name.as_bytes())));
        } else {
            leave_out(&mut written.left_out, Attribute::Login.as_str());
        }
    }
    let without =
        [(Attribute::Helo, String::new()), word(Attribute::ReverseName, UNAVAILABLE), word(Attribute::Name, UNAVAILABLE)];
    for (attribute, less) in without {
        if VERB.len() + words.iter().map(|(_, word)| word.len()).sum::<usize>() + CRLF.len() <= max {
            break;
        }
        if let Some((_, word)) = words.iter_mut().find(|(known, word)| *known == attribute && word.len() > less.len()) {
            *word = less;
            leave_out(&mut written.left_out, attribute.as_str());
        }
    }
    words.into_iter().map(|(_, word)| word).collect()
}

/// The client itself. Names, HELO and the port that are not known are said to be so: Postfix would keep what it knows of us.
fn client(intro: &Introduction, offered: Offered, left_out: &mut Vec<String>) -> Vec<Word> {
    let origin = &intro.origin;
    let mut told = |attribute, told: &Option<Told>, fine: fn(&str) -> bool| match told {
        Some(Told::Known(name)) if fine(name) => word(attribute, name),
        Some(Told::TemporarilyUnavailable) if attribute != Attribute::Helo => word(attribute, TEMPORARILY),
        _ => {
            if offered.lists(attribute) && matches!(told, Some(Told::Known(_))) {
                leave_out(left_out, attribute.as_str());
            }
            word(attribute, UNAVAILABLE)
        }
    };
    let port = origin.client.0.port();
    let mut words = vec![
        told(Attribute::Name, &origin.host_name, is_client_name),
        told(Attribute::ReverseName, &origin.reverse_name, is_client_name),
        word(Attribute::Addr, &address(origin.client.0.ip(), offered)),
        word(Attribute::Port, &if port == 0 { UNAVAILABLE.to_owned() } else { port.to_string() }),
        told(Attribute::Helo, &origin.helo, is_helo),
    ];
    match origin.spoke {
        // Only Dovecot knows it, and Dovecot lists SESSION. There is no word for what is not known.
        Some(MailProtocol::Lmtp) if !offered.lists(Attribute::Session) => {}
        Some(spoke) => words.push(word(Attribute::Proto, spoke.as_str())),
        None => {}
    }
    words.retain(|(attribute, _)| offered.lists(*attribute));
    words
}

fn address(ip: IpAddr, offered: Offered) -> String {
    match unmapped(ip) {
        IpAddr::V6(ip) if !offered.wants_one_command() => format!("IPV6:{ip}"),
        ip => ip.to_string(),
    }
}

/// Xtext: a value in printable ASCII without blank, `+` and `=`.
fn encoded(octets: &[u8]) -> String {
    let mut spelled = String::with_capacity(octets.len());
    for octet in octets {
        match octet {
            b'!'..=b'~' if !matches!(octet, b'+' | b'=') => spelled.push(char::from(*octet)),
            _ => spelled.push_str(&format!("+{octet:02X}")),
        }
    }
    spelled
}

#[cfg(test)]
mod tests;
