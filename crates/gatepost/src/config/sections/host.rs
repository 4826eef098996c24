//! Hosts as they are written: names (RFC 1123 section 2.1), addresses, and both with a port.
//!
//! Whether a name resolves is found out when it is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name or an address. Addresses come back in their one spelling, names as they are written.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        let one = !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST);
        return if one { Ok(address.to_string()) } else { Err("is no address of a host") };
    }
    dns_like(text)?;
    // The last part of a name is no number, so that an address with a slip in it is not looked up as a name.
    if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("is neither an address nor a host name");
    }
    Ok(text.to_owned())
}

/// A host with a port behind a colon, IPv6 in brackets; the brackets are not part of the host.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence.
pub(super) fn host_port(text: &str) -> Result<(String, u16), &'static str> {
    // `::1:143` is an address of its own, and seldom the one that was meant.
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("could be read with or without a port");
    }
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((six, rest)) => {
            if six.parse::<Ipv6Addr>().is_err() {
                return Err("has no IPv6 address between its brackets");
            }
            (six, rest.strip_prefix(':').ok_or("has no port")?)
        }
        None => text.rsplit_once(':').ok_or("has no port")?,
    };
    // A sign would pass `parse`.
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or("has no port from 1 to 65535")?;
    Ok((host(name)?, port))
}

/// Letters, digits and inner hyphens, 63 octets a label, 253 in all.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence.
pub(super) fn dns_like(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 253 {
        return Err("is empty or longer than 253 octets");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err("has an empty part or one of more than 63 octets");
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err("holds other characters than letters, digits, hyphens and dots");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("has a part that begins or ends with a hyphen");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("Mail.example.com", "Mail.example.com"),
            ("localhost", "localhost"),
            ("a1.2b", "a1.2b"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "192.0.2.256",
            "192.0.2",
            "192.0.2.01",
            "143",
            "[::1]",
            "192.0.2.1:143",
            "192.0.2.0/24",
            "fe80::1%eth0",
            "a b",
            "a_b",
            "a.",
            "-a",
            "münchen.example",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_with_ports() {
        for (text, name, port) in [
            ("127.0.0.1:10143", "127.0.0.1", 10143),
            ("[::1]:10110", "::1", 10110),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1", 1),
            ("localhost:65535", "localhost", 65535),
        ] {
            assert_eq!(host_port(text), Ok((name.to_owned(), port)), "{text}");
        }
        for text in [
            "",
            ":",
            ":143",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            "localhost:+143",
            "localhost:imap",
            "127.0.0.1",
            "::1",
            "::1:143",
            "[::1]",
            "[::1]143",
            "[::1]:",
            "[localhost]:143",
            "[127.0.0.1]:143",
            "[]:143",
            "[::1:143",
            "0.0.0.0:143",
            "[::]:143",
            "127.0.0.1:143:143",
        ] {
            assert!(host_port(text).is_err(), "{text}");
        }
    }
}
