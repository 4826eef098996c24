//! How single values about a caller are read: the same rules for every carrier, strict, and without a word about the value.

use super::{HopsLeft, Transport, unmapped};
use crate::machine::Fault;
use std::net::IpAddr;

/// The longest value that is read, in octets (RFC 2971 3.3; Dovecot takes a little less).
pub const VALUE_MAX: usize = 1024;

/// The most that all forwarded pairs of one introduction may hold together, names and values, in octets.
pub const FORWARD_MAX: usize = 8192;

/// The most keys that are named as left out: a row with a thousand columns must not make a thousand-fold log line.
pub(super) const NAMED_MAX: usize = 16;

/// Sets a field that may be said once; saying the same again is no contradiction.
pub(super) fn set<T: PartialEq>(field: &mut Option<T>, value: Option<T>, key: &str) -> Result<(), Fault> {
    let value = value.ok_or_else(|| malformed(key))?;
    if field.as_ref().is_some_and(|told| *told != value) {
        return Err(Fault::peer("identity-contradiction", format!("{key} is said twice with different values")));
    }
    *field = Some(value);
    Ok(())
}

/// One malformed value: `key` is named, the value never.
pub(super) fn malformed(key: &str) -> Fault {
    let key: String = key.chars().take(64).flat_map(char::escape_debug).collect();
    Fault::peer("identity-malformed", format!("value or name of {key} is malformed"))
}

pub(super) fn read_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(unmapped)
}

pub(super) fn read_port(text: &str) -> Option<u16> {
    read_number(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0)
}

/// Digits only: the standard parser would also take a sign.
pub(super) fn read_number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Any number: 0 is a login that has gone far enough, and is refused as such; what is too large to count is just many.
pub(super) fn read_hops(text: &str) -> Option<HopsLeft> {
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| HopsLeft::said(text.parse().unwrap_or(u32::MAX)))
}

pub(super) fn read_transport(text: &str) -> Transport {
    match text.get(..3) {
        Some(head) if head.eq_ignore_ascii_case("TLS") => Transport::Tls,
        _ => Transport::Insecure,
    }
}

pub(super) fn is_host_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

pub(super) fn is_forward_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

pub(super) fn is_forward_value(value: &str) -> bool {
    value.len() <= VALUE_MAX && !value.chars().any(char::is_control)
}

/// Names a key that the receiver could not have taken, printable, for the log.
pub(super) fn leave_out(left_out: &mut Vec<String>, key: &str) {
    if left_out.len() < NAMED_MAX {
        left_out.push(key.chars().take(64).flat_map(char::escape_debug).collect());
    }
}
