//! A PROXY protocol header, version 1 or 2, as a server that expects one gets it: kept raw, and taken apart for tests.
//!
//! It is written for itself and shares no code with the program, so that both cannot be wrong in the same way. It looks
//! where a field must be and believes the rest.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Conn;

/// How a header of version 2 begins.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// One header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// All its bytes, up to and including the line end of version 1.
    pub raw: Vec<u8>,
}

impl ProxyHeader {
    /// Reads a header and not a byte more, on a connection in clear. `None` when the peer leaves without a word; anything else
    /// that is no header fails the test.
    #[track_caller]
    pub fn read(conn: &mut Conn) -> Option<ProxyHeader> {
        if !conn.has_more() {
            return None;
        }
        // The shortest header of version 1 is longer than this.
        let mut raw = conn.read_no_more(V2_SIGNATURE.len());
        if raw == V2_SIGNATURE {
            raw.extend(conn.read_no_more(4));
            raw.extend(conn.read_no_more(usize::from(u16::from_be_bytes([raw[14], raw[15]]))));
            if raw[12] >> 4 != 2 || raw[12] & 0x0F > 1 {
                conn.fail("a PROXY header of an unknown version or command");
            }
        } else {
            while !raw.ends_with(b"\r\n") {
                if !raw.starts_with(b"PROXY ") || raw.len() >= V1_LIMIT {
                    conn.fail("expected a PROXY header");
                }
                raw.extend(conn.read_no_more(1));
            }
        }
        Some(ProxyHeader { raw })
    }

    /// 1 or 2.
    pub fn version(&self) -> u8 {
        if self.raw.starts_with(&V2_SIGNATURE) { 2 } else { 1 }
    }

    /// The client's address and the one that it reached; `None` where the header names none (LOCAL, UNKNOWN).
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        if self.version() == 1 {
            let text = std::str::from_utf8(&self.raw).ok()?;
            let words: Vec<&str> = text.trim_end().split(' ').collect();
            let ["PROXY", "TCP4" | "TCP6", from, to, from_port, to_port] = words[..] else { return None };
            let at = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
            return Some((at(from, from_port)?, at(to, to_port)?));
        }
        let is_local = self.raw[12] & 0x0F == 0;
        let rest = &self.raw[16..];
        let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        match self.raw[13] {
            _ if is_local => None,
            0x11 => {
                let ip = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(rest.get(at..at + 4)?).ok()?));
                Some(((ip(0)?, port(8)?).into(), (ip(4)?, port(10)?).into()))
            }
            0x21 => {
                let ip = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest.get(at..at + 16)?).ok()?));
                Some(((ip(0)?, port(32)?).into(), (ip(16)?, port(34)?).into()))
            }
            _ => None,
        }
    }

    /// The value of the first field (TLV) of this type, such as `0x02`, the name that the client asked for.
    pub fn field(&self, kind: u8) -> Option<&[u8]> {
        let addresses = match self.raw.get(13) {
            _ if self.version() == 1 => return None,
            Some(0x11) => 12,
            Some(0x21) => 36,
            _ => 0,
        };
        tlv(self.raw.get(16 + addresses..)?, kind)
    }

    /// The value of the first field of this type inside the field of TLS (`0x20`), such as `0x22`, the common name of
    /// the client's certificate.
    pub fn tls_field(&self, kind: u8) -> Option<&[u8]> {
        // Flags (1) and the outcome of the verification (4) come first.
        tlv(self.field(0x20)?.get(5..)?, kind)
    }
}

/// With CRLF.
const V1_LIMIT: usize = 107;

fn tlv(mut rest: &[u8], kind: u8) -> Option<&[u8]> {
    loop {
        let (&[found, high, low], behind) = rest.split_first_chunk()?;
        let (value, next) = behind.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        if found == kind {
            return Some(value);
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_versions() {
        let v1 = |line: &str| ProxyHeader { raw: line.as_bytes().to_vec() }.addresses();
        let pair = |a: &str, b: &str| Some((a.parse().unwrap(), b.parse().unwrap()));
        assert_eq!(v1("PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n"), pair("192.0.2.1:5", "192.0.2.2:6"));
        assert_eq!(v1("PROXY TCP6 2001:db8::1 ::1 5 6\r\n"), pair("[2001:db8::1]:5", "[::1]:6"));
        assert_eq!(v1("PROXY UNKNOWN\r\n"), None);
        let v2 = |command: u8, rest: &[u8]| {
            let length = u8::try_from(rest.len()).unwrap();
            ProxyHeader { raw: [&V2_SIGNATURE[..], &[0x20 | command, 0x11, 0, length], rest].concat() }
        };
        let rest = [&[192, 0, 2, 1, 192, 0, 2, 2, 0, 5, 1, 6][..], b"\x04\0\x01x\x20\0\x0a\x07\0\0\0\0\x22\0\x02me"].concat();
        let header = v2(1, &rest);
        assert_eq!(header.addresses(), pair("192.0.2.1:5", "192.0.2.2:262"));
        assert_eq!((header.field(4), header.field(2)), (Some(&b"x"[..]), None));
        assert_eq!(header.tls_field(0x22), Some(&b"me"[..]));
        assert_eq!(v2(0, &rest).addresses(), None);
        assert_eq!(v2(1, &rest[..20]).field(0x20), None, "one that is cut off");
    }
}
