//! Version 1: one line of text (section 2.1).
//!
//! The line is walked from its start at every call: it has at most 107 octets. A field ends the walk at the first octet that
//! is not of its alphabet, so what does not speak PROXY is found without waiting for a line end.

use super::{Header, Progress, Proxied, V1_MAX, missing, unmapped};
use crate::machine::Fault;
use bytes::BytesMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) fn read(input: &[u8]) -> Result<Progress, Fault> {
    let mut walk = Walk { line: input.get(..V1_MAX).unwrap_or(input), at: 0 };
    match line(&mut walk) {
        Ok(header) => Ok(Progress::Done { header, octets: walk.at }),
        Err(Stop::Broken(fault)) => Err(fault),
        Err(Stop::More) if input.len() < V1_MAX => Ok(Progress::More),
        Err(Stop::More) => Err(Fault::limit("proxy-too-long", format!("a PROXY line without an end in {V1_MAX} octets"))),
    }
}

pub(super) fn write(ends: Option<(SocketAddr, SocketAddr)>, out: &mut BytesMut) {
    let line = match ends {
        Some((client, reached)) => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", client.ip(), reached.ip(), client.port(), reached.port())
        }
        None => "PROXY UNKNOWN\r\n".into(),
    };
    out.extend_from_slice(line.as_bytes());
}

/// Why a walk did not reach the end of the line.
enum Stop {
    /// There is no more input.
    More,
    Broken(Fault),
}

fn line(walk: &mut Walk) -> Result<Header, Stop> {
    walk.word(b"PROXY ", missing)?;
    if walk.peek()? == b'U' {
        walk.word(b"UNKNOWN", family)?;
        return unknown(walk);
    }
    walk.word(b"TCP", family)?;
    let read_ip: fn(&mut Walk, &str) -> Result<IpAddr, Stop> = match walk.next()? {
        b'4' => |walk, what| {
            walk.field(what, b" ", |b| b.is_ascii_digit() || b == b'.', |t| t.parse::<Ipv4Addr>().ok()).map(IpAddr::V4)
        },
        b'6' => |walk, what| {
            let alphabet = |b: u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
            walk.field(what, b" ", alphabet, |t| t.parse::<Ipv6Addr>().ok()).map(|ip| unmapped(ip.into()))
        },
        _ => return Err(Stop::Broken(family())),
    };
    walk.word(b" ", family)?;
    let client = read_ip(walk, "source address")?;
    let reached = read_ip(walk, "destination address")?;
    let client_port = walk.field("source port", b" ", |b| b.is_ascii_digit(), port)?;
    let reached_port = walk.field("destination port", b"\r\n", |b| b.is_ascii_digit(), port)?;
    Ok(Header::Proxied(Box::new(Proxied {
        client: SocketAddr::new(client, client_port),
        reached: SocketAddr::new(reached, reached_port),
        authority: None,
        alpn: None,
        protection: None,
        unique_id: None,
    })))
}

/// Whatever follows UNKNOWN is skipped, but only CRLF ends it.
fn unknown(walk: &mut Walk) -> Result<Header, Stop> {
    let mut octet = walk.next()?;
    if !matches!(octet, b' ' | b'\r') {
        return Err(Stop::Broken(family()));
    }
    while octet != b'\r' {
        octet = walk.next()?;
        if octet == b'\n' {
            return Err(Stop::Broken(line_end()));
        }
    }
    walk.word(b"\n", line_end)?;
    Ok(Header::Local)
}

/// Canonical: digits only, and no zero in front.
fn port(text: &str) -> Option<u16> {
    if text.len() > 1 && text.starts_with('0') { None } else { text.parse().ok() }
}

fn family() -> Fault {
    Fault::peer("proxy-v1", "a PROXY line of another family than TCP4, TCP6 and UNKNOWN")
}

fn line_end() -> Fault {
    Fault::peer("proxy-v1", "a PROXY line with a bare CR or LF")
}

fn malformed(what: &str) -> Fault {
    Fault::peer("proxy-v1", format!("the {what} of a PROXY line is malformed"))
}

/// The line, and how much of it has been taken.
struct Walk<'a> {
    line: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn peek(&self) -> Result<u8, Stop> {
        self.line.get(self.at).copied().ok_or(Stop::More)
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let octet = self.peek()?;
        self.at += 1;
        Ok(octet)
    }

    /// Takes exactly these octets.
    fn word(&mut self, word: &[u8], otherwise: fn() -> Fault) -> Result<(), Stop> {
        for expected in word {
            if self.next()? != *expected {
                return Err(Stop::Broken(otherwise()));
            }
        }
        Ok(())
    }

    /// Takes octets of an alphabet and then `end`; gives what `parse` makes of them.
    fn field<T>(&mut self, what: &str, end: &[u8], alphabet: fn(u8) -> bool, parse: fn(&str) -> Option<T>) -> Result<T, Stop> {
        let broken = || Stop::Broken(malformed(what));
        let start = self.at;
        while alphabet(self.peek()?) {
            self.at += 1;
        }
        let text = self.line.get(start..self.at).and_then(|octets| std::str::from_utf8(octets).ok());
        for expected in end {
            if self.next()? != *expected {
                return Err(broken());
            }
        }
        text.and_then(parse).ok_or_else(broken)
    }
}
