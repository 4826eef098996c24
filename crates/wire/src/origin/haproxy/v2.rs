//! Version 2: sixteen octets, two addresses, TLVs (section 2.2).
//!
//! The sixteen octets are judged as they come; the rest once it is all there, which the cap makes a short wait.

use super::crc32c::crc32c;
use super::tlv::{self, Kind};
use super::{Header, Progress, Proxied, SocketAddr, UNIQUE_ID_MAX, V2_MAX, ends, missing, unmapped};
use crate::machine::Fault;
use crate::origin::spelling::is_host_name;
use crate::origin::{Origin, Transport};
use bytes::BytesMut;
use std::net::IpAddr;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const HEAD: usize = 16;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// Two addresses and two ports.
const TCP4_OCTETS: usize = 12;
const TCP6_OCTETS: usize = 36;
/// Two paths of unix sockets.
const UNIX_OCTETS: usize = 216;
/// The checksum's own TLV.
const CHECKSUM_OCTETS: usize = 7;

pub(super) fn read(input: &[u8]) -> Result<Progress, Fault> {
    if input.iter().zip(SIGNATURE).any(|(octet, expected)| octet != expected) {
        return Err(missing());
    }
    let mut rest = input.get(SIGNATURE.len()..).unwrap_or_default();
    let Some([command]) = take(&mut rest) else { return Ok(Progress::More) };
    match command {
        LOCAL | PROXY => {}
        0x20..=0x2f => return Err(Fault::peer("proxy-command", "a PROXY header with an unknown command")),
        _ => return Err(Fault::peer("proxy-version", "a binary PROXY header of another version than 2")),
    }
    let Some([family]) = take(&mut rest) else { return Ok(Progress::More) };
    let needed = match (command, family) {
        (LOCAL, _) | (PROXY, UNSPEC) => None,
        (_, TCP4) => Some(TCP4_OCTETS),
        (_, TCP6) => Some(TCP6_OCTETS),
        (_, 0x12 | 0x22) => return Err(Fault::peer("proxy-family", "a PROXY header about datagrams")),
        (_, 0x31 | 0x32) => return Err(Fault::peer("proxy-family", "a PROXY header about a unix socket")),
        _ => return Err(Fault::peer("proxy-family", "a PROXY header of an unknown family")),
    };
    let Some(length) = take(&mut rest) else { return Ok(Progress::More) };
    let length = usize::from(u16::from_be_bytes(length));
    let octets = HEAD + length;
    if octets > V2_MAX {
        return Err(Fault::limit("proxy-too-long", format!("a PROXY header of {octets} octets, more than {V2_MAX}")));
    }
    if needed.is_some_and(|needed| length < needed) {
        return Err(Fault::peer("proxy-short", "a PROXY header too short for its addresses"));
    }
    let (Some(whole), Some(mut rest)) = (input.get(..octets), rest.get(..length)) else { return Ok(Progress::More) };
    let header = match needed {
        None => {
            // LOCAL may come with any family; where we cannot tell addresses from TLVs, nobody can say that a checksum is there.
            if let Some(tlvs) = addresses_of(family).and_then(|octets| rest.get(octets..)) {
                skip_tlvs(tlvs, whole)?;
            }
            Header::Local
        }
        Some(_) => {
            let ends = if family == TCP4 { read_ends::<4>(&mut rest) } else { read_ends::<16>(&mut rest) };
            let (client, reached) =
                ends.ok_or_else(|| Fault::peer("proxy-short", "a PROXY header too short for its addresses"))?;
            Header::Proxied(Box::new(read_tlvs(client, reached, rest, whole)?))
        }
    };
    Ok(Progress::Done { header, octets })
}

pub(super) fn write(origin: Option<&Origin>, out: &mut BytesMut) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    let Some(origin) = origin else {
        out.extend_from_slice(SIGNATURE);
        out.extend_from_slice(&[LOCAL, UNSPEC, 0, 0]);
        return left_out;
    };
    let (client, reached) = ends(origin);
    let (family, addresses) = if client.is_ipv4() { (TCP4, TCP4_OCTETS) } else { (TCP6, TCP6_OCTETS) };
    let tlvs = write_tlvs(origin, V2_MAX - HEAD - addresses - CHECKSUM_OCTETS, &mut left_out);
    // Never more than V2_MAX, so it always fits.
    let length = u16::try_from(addresses + tlvs.len() + CHECKSUM_OCTETS).unwrap_or(u16::MAX);

    let mut header = Vec::with_capacity(V2_MAX);
    header.extend_from_slice(SIGNATURE);
    header.extend_from_slice(&[PROXY, family]);
    header.extend_from_slice(&length.to_be_bytes());
    for end in [client, reached] {
        match end.ip() {
            IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&reached.port().to_be_bytes());
    header.extend_from_slice(&tlvs);
    // The checksum comes last, so that it can be made over all that is before it.
    header.extend_from_slice(&[Kind::CRC32C, 0, 4]);
    let checksum = crc32c(&[&header, &[0; 4]]);
    header.extend_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(&header);
    left_out
}

fn read_ends<const OCTETS: usize>(rest: &mut &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; OCTETS]>,
{
    let client = unmapped(IpAddr::from(take::<OCTETS>(rest)?));
    let reached = unmapped(IpAddr::from(take::<OCTETS>(rest)?));
    let client_port = u16::from_be_bytes(take(rest)?);
    let reached_port = u16::from_be_bytes(take(rest)?);
    Some((SocketAddr::new(client, client_port), SocketAddr::new(reached, reached_port)))
}

fn read_tlvs(client: SocketAddr, reached: SocketAddr, tlvs: &[u8], whole: &[u8]) -> Result<Proxied, Fault> {
    let mut said = Proxied { client, reached, authority: None, alpn: None, protection: None, unique_id: None };
    let mut checksum = Checksum::of(whole);
    let mut rest = tlvs;
    while let Some((kind, value)) = tlv::next(&mut rest)? {
        match kind {
            Kind::ALPN => tlv::set(&mut said.alpn, (1..=255).contains(&value.len()).then(|| value.to_vec()), "ALPN")?,
            Kind::AUTHORITY => {
                let name = std::str::from_utf8(value).ok().filter(|name| is_host_name(name));
                tlv::set(&mut said.authority, name.map(str::to_owned), "AUTHORITY")?;
            }
            Kind::CRC32C => checksum.hear(value, rest)?,
            Kind::UNIQUE_ID => {
                tlv::set(&mut said.unique_id, (value.len() <= UNIQUE_ID_MAX).then(|| value.to_vec()), "UNIQUE_ID")?;
            }
            Kind::SSL => tlv::set(&mut said.protection, tlv::read_ssl(value)?, "SSL")?,
            // NOOP is padding; namespaces and types that others use say nothing to us.
            _ => {}
        }
    }
    checksum.verified()?;
    Ok(said)
}

/// What is left to do for a header that speaks of nobody: a checksum that is there is verified. The other TLVs mean nothing.
fn skip_tlvs(tlvs: &[u8], whole: &[u8]) -> Result<(), Fault> {
    let mut checksum = Checksum::of(whole);
    let mut rest = tlvs;
    while let Some((kind, value)) = tlv::next(&mut rest)? {
        if kind == Kind::CRC32C {
            checksum.hear(value, rest)?;
        }
    }
    checksum.verified()
}

/// The checksum of a header, which may be there once (section 2.2.3).
struct Checksum<'a> {
    whole: &'a [u8],
    right: Option<bool>,
}

impl Checksum<'_> {
    fn of(whole: &[u8]) -> Checksum<'_> {
        Checksum { whole, right: None }
    }

    /// Takes the value of the TLV and all that is behind it. The sum is that of the whole header with zeros in its own place.
    fn hear(&mut self, value: &[u8], behind: &[u8]) -> Result<(), Fault> {
        let before = self.whole.len() - behind.len() - value.len();
        let sum = crc32c(&[self.whole.get(..before).unwrap_or_default(), &[0; 4], behind]);
        tlv::set(&mut self.right, value.try_into().ok().map(|said| sum == u32::from_be_bytes(said)), "CRC32C")
    }

    fn verified(&self) -> Result<(), Fault> {
        match self.right {
            Some(false) => Err(Fault::peer("proxy-checksum", "the CRC32C of a PROXY header is wrong")),
            _ => Ok(()),
        }
    }
}

/// How many octets of addresses stand before the TLVs, by the upper half of the family; `None` where we do not know the family.
fn addresses_of(family: u8) -> Option<usize> {
    match family >> 4 {
        0 => Some(0),
        1 => Some(TCP4_OCTETS),
        2 => Some(TCP6_OCTETS),
        3 => Some(UNIX_OCTETS),
        _ => None,
    }
}

fn write_tlvs(origin: &Origin, room: usize, left_out: &mut Vec<&'static str>) -> Vec<u8> {
    let mut tlvs = tlv::Room::new(room);
    if let Some(name) = &origin.name
        && !(is_host_name(name) && tlvs.put(Kind::AUTHORITY, name.as_bytes()))
    {
        left_out.push("AUTHORITY");
    }
    if !tlvs.put(Kind::UNIQUE_ID, origin.session.as_str().as_bytes()) {
        left_out.push("UNIQUE_ID");
    }
    let put = match origin.transport {
        Some(Transport::Tls) => tlvs.put_ssl(Some(origin.tls.as_deref()), left_out),
        Some(Transport::Insecure) => tlvs.put_ssl(None, left_out),
        None => true,
    };
    if !put {
        left_out.push("SSL");
    }
    tlvs.into_octets()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}
