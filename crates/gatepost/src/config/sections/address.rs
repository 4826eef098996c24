//! The addresses of listeners as they are written: `192.0.2.1`, `192.0.2.1:143`, `[2001:db8::1]:143`, `*:143`, `:143`.
//!
//! IPv6 stands in brackets, port or not: `::1:143` is an address of its own, and seldom the one that was meant. IPv4-mapped
//! addresses are IPv4. Names are not taken: what they mean can change between check and start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An address as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    /// `None`: all addresses of both families.
    pub(super) host: Option<IpAddr>,
    /// An IPv6 scope, as in `[fe80::1%2]:143`.
    pub(super) scope: u32,
    /// `None`: the protocol's.
    pub(super) port: Option<u16>,
}

impl Address {
    /// All addresses, the registered port.
    pub(super) const DEFAULT: Address = Address { host: None, scope: 0, port: None };

    /// What to bind. IPv4 before IPv6, as `gatepost show` expects of a pair.
    pub(super) fn sockets(self, registered: u16) -> Vec<SocketAddr> {
        let port = self.port.unwrap_or(registered);
        match self.host {
            None => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))],
            Some(IpAddr::V4(host)) => vec![SocketAddr::from((host, port))],
            Some(IpAddr::V6(host)) => vec![SocketAddrV6::new(host, port, 0, self.scope).into()],
        }
    }
}

/// Takes a text for an address.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence, and what to write.
pub(super) fn parse_address(text: &str) -> Result<Address, (&'static str, String)> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        // `::1:143` is an address, and perhaps not the one that was meant.
        let other =
            text.rsplit_once(':').and_then(|(host, port)| Some((host.parse::<Ipv6Addr>().ok()?, port.parse::<u16>().ok()?)));
        let fix = match other {
            Some((host, port)) => format!("write \"[{host}]:{port}\", or \"[{address}]\" if all of it is the address"),
            None => format!("write \"[{address}]\" or \"[{address}]:143\""),
        };
        return Err(("could be read with or without a port", fix));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (Host::Six(host), None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (Host::Six(host), Some(port)),
            None => return Err(("is no address", FORMS.to_owned())),
        },
        None => match text.rsplit_once(':') {
            Some((host, port)) => (Host::Plain(host), Some(port)),
            None => (Host::Plain(text), None),
        },
    };
    let port = match port {
        None => None,
        // A sign or blanks would pass `parse`.
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => match port.parse::<u16>() {
            Err(_) => return Err(("has no port up to 65535", FORMS.to_owned())),
            // 0: any free port, told by `gatepost run --ports-file`.
            Ok(port) => Some(port),
        },
        Some(_) => return Err(("has no number as its port", FORMS.to_owned())),
    };
    let (host, scope) = match host {
        Host::Plain("" | "*") if text.is_empty() => return Err(("is no address", FORMS.to_owned())),
        Host::Plain("" | "*") => (None, 0),
        Host::Plain("localhost") => {
            return Err(("is a name; addresses are taken", "write \"127.0.0.1\" and \"[::1]\"".to_owned()));
        }
        Host::Plain(host) => match host.parse::<Ipv4Addr>() {
            Ok(host) => (Some(IpAddr::V4(host)), 0),
            Err(_) => return Err(("is no address", FORMS.to_owned())),
        },
        Host::Six(host) => match format!("[{host}]:1").parse::<SocketAddr>() {
            Ok(SocketAddr::V6(six)) => (Some(six.ip().to_canonical()), six.scope_id()),
            _ => return Err(("has no IPv6 address between its brackets", FORMS.to_owned())),
        },
    };
    if host.is_some_and(|host| host.is_multicast() || host == IpAddr::V4(Ipv4Addr::BROADCAST)) {
        return Err(("is no address to listen on", FORMS.to_owned()));
    }
    Ok(Address { host, scope, port })
}

enum Host<'a> {
    Plain(&'a str),
    Six(&'a str),
}

const FORMS: &str = "write \"192.0.2.1\", \"192.0.2.1:143\", \"[2001:db8::1]:143\" or \"*:143\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let some = |host: &str, port| Ok(Address { host: Some(host.parse().unwrap()), scope: 0, port });
        let all = |port| Ok(Address { host: None, scope: 0, port });
        for (text, expected) in [
            ("192.0.2.1", some("192.0.2.1", None)),
            ("192.0.2.1:143", some("192.0.2.1", Some(143))),
            ("0.0.0.0:143", some("0.0.0.0", Some(143))),
            ("[::1]", some("::1", None)),
            ("[::1]:993", some("::1", Some(993))),
            ("[::ffff:192.0.2.1]:993", some("192.0.2.1", Some(993))),
            ("*", all(None)),
            ("*:1143", all(Some(1143))),
            (":1143", all(Some(1143))),
            ("[fe80::1%2]:143", Ok(Address { host: Some("fe80::1".parse().unwrap()), scope: 2, port: Some(143) })),
        ] {
            assert_eq!(parse_address(text), expected, "{text}");
        }
        for text in [
            "",
            ":",
            "*:",
            "::1",
            "::1:143",
            "2001:db8::1:143",
            "192.0.2.1:65536",
            "192.0.2.1:65536",
            "192.0.2.1:+143",
            "192.0.2.1: 143",
            "192.0.2:143",
            "192.0.2.256",
            "localhost",
            "localhost:143",
            "mail.example.com:143",
            "[192.0.2.1]:143",
            "[::1",
            "::1]:143",
            "[::1]143",
            "[]:143",
            "[::1%eth0]:143",
            "143",
            "224.0.0.1:143",
            "[ff02::1]:143",
            "255.255.255.255",
            "1.2.3.4:143:143",
            "[::1]:1]:143",
            "１９２.0.2.1",
        ] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
