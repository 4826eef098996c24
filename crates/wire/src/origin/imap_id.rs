//! The carrier IMAP ID: who is calling, said in the pairs of an `ID` command (RFC 2971) with the `x-` keys of Dovecot.
//!
//! [`read`] takes the reserved pairs of one `ID` apart: all of them are parsed before any of them counts, so a peer that
//! says one malformed value has said nothing. [`pairs`] spells an [`Introduction`] for the next server. Neither knows how
//! IMAP writes a string: quoting and literals belong to [`crate::imap`].
//!
//! What receivers can take decides what is sent. A key over 30 octets makes Dovecot refuse the whole command, a value of
//! about one kilobyte makes it drop the connection, and RFC 2971 3.3 allows 30 pairs. Identity comes first, then forwarded
//! pairs, then what the client said of itself; what does not fit is left out and *named* for the log, never shown.
//!
//! Left to others: whether the peer may be believed (`origin/trust.rs`) and the spending of hops (`Origin`).

use super::spelling::{
    is_forward_name, is_forward_value, is_host_name, leave_out, malformed, read_hops, read_ip, read_port, read_transport, set,
};
use super::{ForwardField, Origin, OriginUpdate, SessionId, unmapped};
use crate::dance::Introduction;
use crate::machine::Fault;
use std::net::SocketAddr;

/// One pair of an `ID` command: the key, and the value or `None` for NIL.
pub type Pair = (Vec<u8>, Option<Vec<u8>>);

/// The longest key, in octets (RFC 2971 3.3; Dovecot refuses the whole command beyond it).
pub const KEY_MAX: usize = 30;

pub use super::spelling::{FORWARD_MAX, VALUE_MAX};

/// The most pairs that one `ID` may hold (RFC 2971 3.3).
pub const PAIRS_MAX: usize = 30;

/// Whether this key speaks about the caller. What an untrusted client says under it is dropped without a word.
pub fn is_reserved(key: &[u8]) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with(FORWARD.as_bytes()) || RESERVED.iter().any(|name| name.as_bytes() == key)
}

/// Reads what a peer says about the caller. Pairs under other keys and reserved ones that are NIL say nothing.
///
/// # Errors
/// One malformed value, two different values for one key, or an excess of [`VALUE_MAX`] or [`FORWARD_MAX`] refuses the
/// whole command; the [`Fault`] names the key and never the value.
pub fn read(pairs: &[Pair]) -> Result<OriginUpdate, Fault> {
    let mut said = OriginUpdate::default();
    let mut forwarded = 0usize;
    for (key, value) in pairs {
        let (true, Some(value)) = (is_reserved(key), value) else { continue };
        let key = String::from_utf8_lossy(key).to_ascii_lowercase();
        if value.len() > VALUE_MAX {
            return Err(Fault::limit("identity-value-too-long", format!("value of {} is too long", key.escape_debug())));
        }
        let text = std::str::from_utf8(value).map_err(|_| malformed(&key))?;
        if let Some(name) = key.strip_prefix(FORWARD) {
            forwarded = forwarded.saturating_add(name.len()).saturating_add(text.len());
            if forwarded > FORWARD_MAX {
                return Err(Fault::limit("identity-forward-too-big", "forwarded pairs are too big"));
            }
            if key.len() > KEY_MAX || !is_forward_name(name) || !is_forward_value(text) {
                return Err(malformed(&key));
            }
            said.forward.push(ForwardField { name: name.to_owned(), value: text.to_owned() });
            continue;
        }
        match key.as_str() {
            "x-originating-ip" => set(&mut said.client_ip, read_ip(text), &key)?,
            "x-originating-port" => set(&mut said.client_port, read_port(text), &key)?,
            "x-connected-ip" => set(&mut said.reached_ip, read_ip(text), &key)?,
            "x-connected-port" => set(&mut said.reached_port, read_port(text), &key)?,
            "x-connected-name" => set(&mut said.reached_name, is_host_name(text).then(|| text.to_owned()), &key)?,
            "x-proxy-ttl" => set(&mut said.hops, read_hops(text), &key)?,
            "x-session-id" | "x-session-ext-id" => set(&mut said.session, SessionId::new(text), &key)?,
            "x-client-transport" => set(&mut said.transport, Some(read_transport(text)), &key)?,
            // x-multiplex asks for a framing that we do not speak; a peer that offers it works without it.
            _ => {}
        }
    }
    Ok(said)
}

/// The pairs to send, and the keys of what was not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The pairs in the order to send them. Values may hold 8-bit octets, but no control characters.
    pub pairs: Vec<Pair>,
    /// Keys of pairs that the receiver could not have taken, printable, for the log.
    pub left_out: Vec<String>,
}

/// Spells an introduction: retained client pairs, then the identity, then forwarded pairs, received ones before our own.
///
/// A forwarded pair with an empty value goes out as NIL, as Dovecot sends it. A port of 0 is an unknown one and is not
/// said. `hops` is written as it is: the caller has spent one already.
pub fn pairs(intro: &Introduction) -> Written {
    let mut left_out = Vec::new();
    let identity = identity_pairs(&intro.origin, &mut left_out);
    let mut room = Room { pairs: PAIRS_MAX, octets: COMMAND_MAX, literals: LITERALS_MAX };
    for (key, value) in &identity {
        room.take(key, value.as_deref());
    }
    let mut forward = Vec::new();
    for field in intro.origin.forward.iter().chain(&intro.forward) {
        let key = format!("{FORWARD}{}", field.name.to_ascii_lowercase());
        let value = (!field.value.is_empty()).then(|| field.value.as_bytes().to_vec());
        let fits = key.len() <= KEY_MAX && is_forward_name(&field.name) && is_forward_value(&field.value);
        if fits && field.value.len() <= SENT_VALUE_MAX && room.take(key.as_bytes(), value.as_deref()) {
            forward.push((key.into_bytes(), value));
        } else {
            leave_out(&mut left_out, &key);
        }
    }
    let mut client = Vec::new();
    for (key, value) in intro.client_id.iter().filter(|(key, _)| !is_reserved(key)) {
        let fits = (1..=KEY_MAX).contains(&key.len())
            && key.iter().all(|b| matches!(b, b' '..=b'~'))
            && is_client_value(value.as_deref());
        if fits && room.take(key, value.as_deref()) {
            client.push((key.clone(), value.clone()));
        } else {
            leave_out(&mut left_out, &String::from_utf8_lossy(key));
        }
    }
    let mut pairs = client;
    pairs.extend(identity);
    pairs.extend(forward);
    Written { pairs, left_out }
}

const FORWARD: &str = "x-forward-";

const RESERVED: [&str; 10] = [
    "x-originating-ip",
    "x-originating-port",
    "x-connected-ip",
    "x-connected-port",
    "x-connected-name",
    "x-proxy-ttl",
    "x-session-id",
    "x-session-ext-id",
    "x-client-transport",
    "x-multiplex",
];

/// The longest value that is sent: Dovecot's parser gives up a little above one kilobyte.
const SENT_VALUE_MAX: usize = 1000;

/// The most octets of a whole command: below the 8192 of RFC 7162 4, and what others cut at 8000.
const COMMAND_MAX: usize = 7900;

/// The most values that need a literal: servers that count them before login, we among them, take two in a command.
const LITERALS_MAX: usize = 2;

/// What may still go into the command.
struct Room {
    pairs: usize,
    octets: usize,
    literals: usize,
}

impl Room {
    /// Takes the room of one pair; says whether there was enough.
    fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> bool {
        let escapes = |text: &[u8]| text.iter().filter(|b| matches!(b, b'"' | b'\\')).count();
        let value = value.unwrap_or_default();
        // Two pairs of quotes or a literal's head, two spaces, NIL: none of it is more than twelve octets.
        let octets = key.len() + escapes(key) + value.len() + escapes(value) + 12;
        // Only a literal can carry 8-bit octets.
        let literals = usize::from(!value.is_ascii());
        match (self.pairs.checked_sub(1), self.octets.checked_sub(octets), self.literals.checked_sub(literals)) {
            (Some(pairs), Some(octets), Some(literals)) => {
                *self = Room { pairs, octets, literals };
                true
            }
            _ => false,
        }
    }
}

fn identity_pairs(origin: &Origin, left_out: &mut Vec<String>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::with_capacity(8);
    let mut say = |key: &str, value: String| pairs.push((key.into(), Some(value.into_bytes())));
    say("x-session-id", origin.session.as_str().to_owned());
    say_address(&mut say, "x-originating-ip", "x-originating-port", origin.client.0);
    say_address(&mut say, "x-connected-ip", "x-connected-port", origin.reached.0);
    say("x-proxy-ttl", origin.hops.get().to_string());
    if let Some(transport) = origin.transport {
        say("x-client-transport", transport.as_str().to_owned());
    }
    match &origin.name {
        Some(name) if is_host_name(name) => say("x-connected-name", name.clone()),
        Some(_) => leave_out(left_out, "x-connected-name"),
        None => {}
    }
    pairs
}

fn say_address(say: &mut impl FnMut(&str, String), ip: &str, port: &str, address: SocketAddr) {
    say(ip, unmapped(address.ip()).to_string());
    if address.port() != 0 {
        say(port, address.port().to_string());
    }
}

fn is_client_value(value: Option<&[u8]>) -> bool {
    value.is_none_or(|v| v.len() <= SENT_VALUE_MAX && !v.iter().any(u8::is_ascii_control))
}

#[cfg(test)]
mod tests;
