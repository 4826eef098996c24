//! The PROXY protocol, versions 1 and 2: who is calling, said in a header before everything else on a connection.
//!
//! [`read`] looks at the octets that have arrived and says whether they are a header, the beginning of one, or none. It keeps
//! nothing between two calls, so how the octets arrive cannot matter, and it finds a stranger at the first octet that no header
//! could have there: nobody waits for the end of what is not one. [`write_v1`] and [`write_v2`] append a whole header, meant to
//! be sent in one write before anything else.
//!
//! What it promises: no header is longer than [`V1_MAX`] or [`V2_MAX`]; a length is compared with the cap before anything is
//! waited for; every TLV that is looked at is checked or the header is refused, and no fault repeats a value; a common name is
//! one that somebody verified. Where a header says that it speaks of nobody (`UNKNOWN`, LOCAL, no address family) its addresses
//! and values are skipped unread, as the specification wants: it is [`Header::Local`], and the socket's own addresses count. In
//! version 2 a checksum that is there is verified all the same, and so are the bounds of the TLVs on the way to it.
//!
//! Stricter than the specification: datagrams and unix sockets are refused, because no mail comes that way; a TLV of those
//! that we read may be there once.
//!
//! Left to others: whether the peer may send one at all ([`super::trust`], [`Origin::carried`]), the deadline, and not to read a
//! single octet behind it.
//!
//! HAProxy, `doc/proxy-protocol.txt`, sections 2.1 (version 1) and 2.2 (version 2); CRC32C is that of RFC 3720 B.4.

mod crc32c;
mod tlv;
mod v1;
mod v2;

use super::{ClientTls, Origin, unmapped};
use crate::machine::Fault;
use bytes::BytesMut;
use std::net::{IpAddr, SocketAddr};

/// The longest header of version 1, its CRLF included, in octets.
pub const V1_MAX: usize = 107;

/// The longest header of version 2 that is taken or written, TLVs included, in octets: what Postfix takes as well.
pub const V2_MAX: usize = 536;

/// The longest UNIQUE_ID, in octets.
pub const UNIQUE_ID_MAX: usize = 128;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// It speaks of nobody, as the health check of a proxy does: the socket's own addresses are the true ones.
    Local,
    /// It speaks of a client.
    Proxied(Box<Proxied>),
}

/// The connection that a header describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// Where the client is. IPv4-mapped addresses are unmapped.
    pub client: SocketAddr,
    /// What it reached. IPv4-mapped addresses are unmapped.
    pub reached: SocketAddr,
    /// The server name that the client asked for, a valid host name spelled as it came.
    pub authority: Option<String>,
    /// The application protocol agreed with the client, 1 to 255 octets.
    pub alpn: Option<Vec<u8>>,
    /// How the client's connection to the proxy is protected; `None` where the header does not say.
    pub protection: Option<Protection>,
    /// The sender's own identifier of the connection, at most [`UNIQUE_ID_MAX`] opaque octets: a word for the log.
    pub unique_id: Option<Vec<u8>>,
}

/// How a client's connection to the sender of a header is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// In clear.
    Clear,
    /// TLS, and what is told of it.
    Tls(Box<ClientTls>),
}

/// How far a header has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// All octets so far belong to a header, and more must come.
    More,
    /// The header is whole.
    Done {
        /// What it says.
        header: Header,
        /// How many octets it has; whatever is behind them does not belong to it.
        octets: usize,
    },
}

/// Reads the header at the start of `input`, of either version.
///
/// # Errors
/// A [`Fault`] as soon as the octets cannot become a header: within a word or field of version 1 at the first octet that does
/// not fit; in version 2 at the octet of the signature, version, command, family or length. What is wrong inside a field or a
/// TLV shows when it is whole. Rules: `proxy-missing` (no header at all), `proxy-v1`, `proxy-version`, `proxy-command`,
/// `proxy-family`, `proxy-short`, `proxy-too-long` (our limit), `proxy-tlv-bounds`, `proxy-tlv-twice`, `proxy-tlv-value`,
/// `proxy-checksum`.
pub fn read(input: &[u8]) -> Result<Progress, Fault> {
    match input.first() {
        None => Ok(Progress::More),
        Some(b'P') => v1::read(input),
        Some(b'\r') => v2::read(input),
        Some(_) => Err(missing()),
    }
}

/// Appends a header of version 1: client and reached address of `origin`, or `PROXY UNKNOWN` where there is none.
///
/// If one address is IPv4 and the other IPv6, the header is TCP6 and the IPv4 one is mapped. At most [`V1_MAX`] octets.
pub fn write_v1(origin: Option<&Origin>, out: &mut BytesMut) {
    v1::write(origin.map(ends), out);
}

/// Appends a header of version 2, or LOCAL where there is no `origin`; returns the names of what had to be left out, for the log.
///
/// Addresses are as in version 1. Then: AUTHORITY, the name; UNIQUE_ID, the session; SSL, if the transport is known; CRC32C.
/// At most [`V2_MAX`] octets: what does not fit, or no receiver could take, is left out. The order in which room is given is
/// AUTHORITY, UNIQUE_ID, SSL itself, common name, version, cipher.
///
/// The SSL TLV says nothing that we do not know. With a common name it says "a certificate in this session" (0x04), which is
/// true whether it was shown on this very connection or before, and verified (0). Without one it says no certificate, and as
/// the specification has it, not verified (1).
pub fn write_v2(origin: Option<&Origin>, out: &mut BytesMut) -> Vec<&'static str> {
    v2::write(origin, out)
}

fn missing() -> Fault {
    Fault::peer("proxy-missing", "no PROXY header")
}

/// The two ends to write, always of one family: IPv4 where both are, else IPv6.
fn ends(origin: &Origin) -> (SocketAddr, SocketAddr) {
    let (client, reached) = (origin.client.0, origin.reached.0);
    let ips = match (unmapped(client.ip()), unmapped(reached.ip())) {
        (IpAddr::V4(client), IpAddr::V6(reached)) => (client.to_ipv6_mapped().into(), reached.into()),
        (IpAddr::V6(client), IpAddr::V4(reached)) => (client.into(), reached.to_ipv6_mapped().into()),
        same => same,
    };
    (SocketAddr::new(ips.0, client.port()), SocketAddr::new(ips.1, reached.port()))
}

#[cfg(test)]
mod tests;
