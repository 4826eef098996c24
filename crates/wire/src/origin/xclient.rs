//! The carrier XCLIENT: who is calling, said in one command with attributes that Dovecot and Postfix know.
//!
//! It has two flavours. That of SMTP, with the most attributes and an encoding, is in [`smtp`]. The *plain* one is here, which
//! POP3 and ManageSieve speak: `KEY=value` apart by blanks, values as they are, IPv6 addresses bare. [`read_plain`] parses all
//! attributes before any of them counts, so a peer that says one malformed value has said nothing. [`write_plain`] spells an
//! [`Introduction`] for the next server, in the order of Dovecot 2.4; older ones pass over what they do not know.
//!
//! What receivers can take decides what is sent. Dovecot drops a connection whose line is longer than its input buffer of
//! about one kilobyte. The identity always fits into [`LINE_MAX`]; forwarded pairs are said as far as there is room, and
//! what is left out is *named* for the log, never shown.
//!
//! Forwarded pairs travel together in `FORWARD`: `name=value` with Dovecot's escapes for control characters, joined by TAB,
//! all of it in base64. Which names and values may be said is the same for every carrier (`spelling.rs`).
//!
//! Left to others: whether the peer may be believed (`origin/trust.rs`), the spending of hops (`Origin`), and what a
//! protocol answers.

pub mod smtp;

use super::spelling::{
    VALUE_MAX, is_forward_name, is_forward_value, is_host_name, leave_out, malformed, read_hops, read_ip, read_port,
    read_transport, set,
};
use super::{ForwardField, Origin, OriginUpdate, SessionId, unmapped};
use crate::dance::Introduction;
use crate::encode::{base64_decode, base64_encode};
use crate::machine::Fault;
use bytes::BytesMut;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The longest line that is said, in octets, its CRLF included.
pub const LINE_MAX: usize = 1000;

/// The most octets of attributes that are read, forwarded pairs and all: a peer in `[trust] networks` may say more than it is
/// told.
pub const READ_MAX: usize = 8192;

/// Says the whole line, CRLF included, and returns the names of what could not be said, printable, for the log.
///
/// A port of 0 is an unknown one and is not said. `hops` is written as it is: the caller has spent one already. Received
/// pairs come before our own.
pub fn write_plain(intro: &Introduction, out: &mut BytesMut) -> Vec<String> {
    let mut left_out = Vec::new();
    let mut line = String::from("XCLIENT");
    for (key, value) in attributes(&intro.origin, &mut left_out) {
        line.push(' ');
        line.push_str(key);
        line.push('=');
        line.push_str(&value);
    }
    // Base64 makes four octets of three.
    let room = LINE_MAX.saturating_sub(line.len() + " FORWARD=\r\n".len()) / 4 * 3;
    let pairs = joined(intro, |pairs| pairs.len() <= room, &mut left_out);
    out.extend_from_slice(line.as_bytes());
    if !pairs.is_empty() {
        out.extend_from_slice(b" FORWARD=");
        out.extend_from_slice(base64_encode(&pairs).expose());
    }
    out.extend_from_slice(b"\r\n");
    left_out
}

/// Reads the attributes behind the command's word. Unknown ones, and known ones that are `[UNAVAILABLE]`, say nothing.
///
/// # Errors
/// One malformed value, two different values for one attribute, or an excess of [`READ_MAX`] refuses the whole command; the
/// [`Fault`] names the attribute and never the value.
pub fn read_plain(attributes: &[u8]) -> Result<OriginUpdate, Fault> {
    if attributes.len() > READ_MAX {
        return Err(Fault::limit("identity-too-big", format!("more than {READ_MAX} octets of attributes")));
    }
    let mut said = OriginUpdate::default();
    let mut forward = None;
    for word in attributes.split(|octet| *octet == b' ').filter(|word| !word.is_empty()) {
        let mut parts = word.splitn(2, |octet| *octet == b'=');
        let key = parts.next().unwrap_or_default().to_ascii_uppercase();
        let Some(key) = KEYS.into_iter().find(|known| known.as_bytes() == key) else { continue };
        let value = parts.next().and_then(|value| std::str::from_utf8(value).ok()).ok_or_else(|| malformed(key))?;
        if value.eq_ignore_ascii_case("[UNAVAILABLE]") {
            continue;
        }
        match key {
            "ADDR" => set(&mut said.client_ip, read_address(value), key)?,
            "PORT" => set(&mut said.client_port, read_port(value), key)?,
            "DESTADDR" => set(&mut said.reached_ip, read_address(value), key)?,
            "DESTPORT" => set(&mut said.reached_port, read_port(value), key)?,
            "DESTNAME" => set(&mut said.reached_name, is_host_name(value).then(|| value.to_owned()), key)?,
            "SESSION" => set(&mut said.session, SessionId::new(value), key)?,
            "TTL" => set(&mut said.hops, read_hops(value), key)?,
            "CLIENT-TRANSPORT" => {
                let fine = (1..=VALUE_MAX).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_graphic());
                set(&mut said.transport, fine.then(|| read_transport(value)), key)?;
            }
            _ => set(&mut forward, read_forward(value), key)?,
        }
    }
    said.forward = forward.unwrap_or_default();
    Ok(said)
}

/// All that is read; the last one is `FORWARD`.
pub(crate) const KEYS: [&str; 9] =
    ["ADDR", "PORT", "DESTADDR", "DESTPORT", "DESTNAME", "SESSION", "TTL", "CLIENT-TRANSPORT", "FORWARD"];

/// The identity without forwarded pairs, in the order to say it. Nothing in it needs an escape in any flavour but xtext.
fn attributes(origin: &Origin, left_out: &mut Vec<String>) -> Vec<(&'static str, String)> {
    let mut said = Vec::with_capacity(KEYS.len());
    address(&mut said, "ADDR", "PORT", origin.client.0);
    address(&mut said, "DESTADDR", "DESTPORT", origin.reached.0);
    said.push(("SESSION", origin.session.to_string()));
    said.push(("TTL", origin.hops.get().to_string()));
    if let Some(transport) = origin.transport {
        said.push(("CLIENT-TRANSPORT", transport.as_str().to_owned()));
    }
    match &origin.name {
        Some(name) if is_host_name(name) => said.push(("DESTNAME", name.clone())),
        Some(_) => leave_out(left_out, "DESTNAME"),
        None => {}
    }
    said
}

fn address(said: &mut Vec<(&'static str, String)>, ip: &'static str, port: &'static str, address: SocketAddr) {
    said.push((ip, unmapped(address.ip()).to_string()));
    if address.port() != 0 {
        said.push((port, address.port().to_string()));
    }
}

/// An address, bare or as Postfix spells the later kind: `IPV6:2001:db8::1`.
fn read_address(text: &str) -> Option<IpAddr> {
    match text.split_at_checked(5) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("IPV6:") => {
            rest.parse::<Ipv6Addr>().ok().map(|ip| unmapped(ip.into()))
        }
        _ => read_ip(text),
    }
}

/// The pairs of an introduction as `FORWARD` joins them, before base64: each that may be said, and with which the whole still
/// `fits`; the others are named.
fn joined(intro: &Introduction, fits: impl Fn(&[u8]) -> bool, left_out: &mut Vec<String>) -> Vec<u8> {
    tab_joined(intro.origin.forward.iter().chain(&intro.forward), fits, left_out)
}

/// Pairs as Dovecot joins them: each that may be said, and with which the whole still `fits`; the others are named.
pub(crate) fn tab_joined<'a>(
    fields: impl IntoIterator<Item = &'a ForwardField>,
    fits: impl Fn(&[u8]) -> bool,
    left_out: &mut Vec<String>,
) -> Vec<u8> {
    let mut pairs: Vec<u8> = Vec::new();
    for field in fields {
        let name = field.name.to_ascii_lowercase();
        let before = pairs.len();
        if before > 0 {
            pairs.push(b'\t');
        }
        pairs.extend_from_slice(tab_escaped(&format!("{name}={}", field.value)).as_bytes());
        if !(is_forward_name(&name) && is_forward_value(&field.value) && fits(&pairs)) {
            pairs.truncate(before);
            leave_out(left_out, &format!("forward_{name}"));
        }
    }
    pairs
}

/// The pairs of `FORWARD`.
pub(crate) fn read_forward(text: &str) -> Option<Vec<ForwardField>> {
    let joined = base64_decode(text.as_bytes())?;
    pairs_of_tabs(std::str::from_utf8(joined.expose()).ok()?)
}

/// Pairs joined by TAB. One without `=` has an empty value: so Dovecot 2.3 spells those.
pub(crate) fn pairs_of_tabs(joined: &str) -> Option<Vec<ForwardField>> {
    let read = |pair: &str| {
        let pair = tab_unescaped(pair)?;
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        let fine = is_forward_name(name) && is_forward_value(value);
        fine.then(|| ForwardField { name: name.to_ascii_lowercase(), value: value.to_owned() })
    };
    if joined.is_empty() { Some(Vec::new()) } else { joined.split('\t').map(read).collect() }
}

/// What means something between pairs, and how it is spelled inside of one: 0x01 and this.
const ESCAPES: [(char, char); 5] = [('\u{1}', '1'), ('\t', 't'), ('\r', 'r'), ('\n', 'n'), ('\0', '0')];

/// No value that may be said needs this today; it is here so that no later one can end its pair.
fn tab_escaped(pair: &str) -> String {
    let mut escaped = String::with_capacity(pair.len());
    for c in pair.chars() {
        match ESCAPES.iter().find(|(plain, _)| *plain == c) {
            Some((_, letter)) => escaped.extend(['\u{1}', *letter]),
            None => escaped.push(c),
        }
    }
    escaped
}

/// `None` for an escape that does not exist.
fn tab_unescaped(pair: &str) -> Option<String> {
    let mut plain = String::with_capacity(pair.len());
    let mut chars = pair.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1}' {
            let letter = chars.next()?;
            plain.push(ESCAPES.iter().find(|(_, known)| *known == letter)?.0);
        } else {
            plain.push(c);
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests;
