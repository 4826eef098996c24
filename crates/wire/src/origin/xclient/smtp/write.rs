//! Who is calling and who has signed in, said to a server that listed what it takes.

use super::{Attribute, Offered, is_helo};
use crate::dance::Introduction;
use crate::encode::base64_encode;
use crate::origin::spelling::{is_host_name, leave_out};
use crate::origin::xclient::{LINE_MAX, joined};
use crate::origin::xtext::{TEMPORARILY, UNAVAILABLE, encoded, is_client_name, special};
use crate::origin::{MailProtocol, Told, unmapped};
use crate::sasl;
use bytes::BytesMut;
use std::net::IpAddr;

/// A command that we say is shorter than this, its CRLF included (RFC 5321 section 4.5.3.1.4): but for one with a `FORWARD` or a
/// `LOGIN` that is longer by itself, which has at most [`LINE_MAX`].
pub const COMMAND_MAX: usize = 512;

const VERB: &str = "XCLIENT";
const CRLF: &str = "\r\n";

/// What was said by [`write()`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The user was named. If it should have been, nobody may be told that it has signed in unless this is so.
    pub vouched: bool,
    /// What the server would take and could not be said, printable, for the log.
    pub left_out: Vec<String>,
}

/// Says who is calling, as far as `offered` goes, and that this user has signed in. Commands with their CRLF are appended to
/// `out`, one a line; none where there is nothing to say. Each is owed a reply before anything but another of them may be said.
///
/// A user whose name cannot be said is not said, see [`Written::vouched`].
pub fn write(intro: Option<&Introduction>, login: Option<&str>, offered: &Offered, out: &mut BytesMut) -> Written {
    let mut written = Written::default();
    let at_once = offered.wants_one_command();
    let max = if at_once { LINE_MAX } else { COMMAND_MAX - 1 };
    let mut caller = caller(intro, login, *offered, max, &mut written);
    let mut line = String::from(VERB);
    if let Some(intro) = intro {
        let mut ahead = surroundings(intro, *offered);
        if let Some(word) = server_name(intro, *offered, &mut written.left_out) {
            if !at_once && VERB.len() + caller.len() + word.1.len() + CRLF.len() <= max {
                caller.push_str(&word.1);
            } else {
                ahead.push(word);
            }
        }
        for (attribute, word) in ahead {
            let beside = if at_once { caller.len() } else { 0 };
            if line.len() + word.len() + beside + CRLF.len() > max {
                if at_once {
                    leave_out(&mut written.left_out, attribute.as_str());
                    continue;
                }
                say(&mut line, out);
            }
            line.push_str(&word);
        }
        if offered.lists(Attribute::Forward) {
            let beside = if at_once { line.len() + caller.len() } else { VERB.len() };
            let word = forward(intro, LINE_MAX.saturating_sub(beside + CRLF.len()), &mut written.left_out);
            if line.len() + word.len() + CRLF.len() > max {
                say(&mut line, out);
            }
            line.push_str(&word);
        }
    }
    if line.len() + caller.len() + CRLF.len() > max {
        say(&mut line, out);
    }
    line.push_str(&caller);
    say(&mut line, out);
    written
}

/// Ends a command and begins the next, unless nothing stands in it.
fn say(line: &mut String, out: &mut BytesMut) {
    if line.len() > VERB.len() {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(CRLF.as_bytes());
        line.truncate(VERB.len());
    }
}

/// One attribute with the blank before it, spelled already.
type Word = (Attribute, String);

fn word(attribute: Attribute, spelled: &str) -> Word {
    (attribute, format!(" {}={spelled}", attribute.as_str()))
}

/// What is said of the connection and not of the client: each attribute may go ahead in a command of its own. Where there is one
/// command only, what stands behind is the first that finds no room.
fn surroundings(intro: &Introduction, offered: Offered) -> Vec<Word> {
    let origin = &intro.origin;
    let reached = origin.reached.0;
    let mut words = vec![word(Attribute::DestAddr, &address(reached.ip(), offered))];
    if reached.port() != 0 {
        words.push(word(Attribute::DestPort, &reached.port().to_string()));
    }
    words.push(word(Attribute::Session, &encoded(origin.session.as_str().as_bytes())));
    words.push(word(Attribute::Ttl, &origin.hops.get().to_string()));
    if let Some(patience) = intro.patience {
        // No more than there is, but less than a second is no time to ask for.
        words.push(word(Attribute::Timeout, &patience.as_secs().clamp(1, u32::MAX.into()).to_string()));
    }
    words.retain(|(attribute, _)| offered.lists(*attribute));
    words
}

/// The name that the client asked for in TLS. It is another client's if ADDR is said behind it, at least to a Gatepost: so it
/// stands in the last command where that has room.
fn server_name(intro: &Introduction, offered: Offered, left_out: &mut Vec<String>) -> Option<Word> {
    let name = intro.origin.name.as_deref().filter(|_| offered.lists(Attribute::DestName))?;
    if !is_host_name(name) {
        leave_out(left_out, Attribute::DestName.as_str());
        return None;
    }
    Some(word(Attribute::DestName, name))
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
    // Postfix takes a NAME that is known for the other name as well, where nobody says more of that one.
    let unknown = word(Attribute::Name, UNAVAILABLE);
    let named = words.iter().any(|(known, word)| *known == Attribute::Name && *word != unknown.1);
    let one_name = named && intro.is_some_and(|intro| intro.origin.reverse_name.is_none());
    words.into_iter().filter(|(known, _)| !(one_name && *known == Attribute::ReverseName)).map(|(_, word)| word).collect()
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
        Some(MailProtocol::Lmtp) if !offered.lists(Attribute::Session) && !offered.lmtp => {}
        Some(spoke) => words.push(word(Attribute::Proto, spoke.as_str())),
        None => {}
    }
    if let Some(transport) = origin.transport {
        // How that client's own connection is protected: said ahead of ADDR it would be about another one.
        words.push(word(Attribute::Transport, transport.as_str()));
    }
    words.retain(|(attribute, _)| offered.lists(*attribute));
    words
}

fn address(ip: IpAddr, offered: Offered) -> String {
    match unmapped(ip) {
        IpAddr::V6(ip) if !offered.wants_one_command() && !offered.lmtp => format!("IPV6:{ip}"),
        ip => ip.to_string(),
    }
}
