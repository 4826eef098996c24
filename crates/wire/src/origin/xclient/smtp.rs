//! XCLIENT as SMTP servers speak it: Postfix's attributes and Dovecot's, each value in xtext (RFC 3461 section 4).
//!
//! [`read()`] takes the attributes behind the verb: whole or nothing. Names and special values count in any case, blanks and tabs
//! may run together, IPv6 addresses may have Postfix's `IPV6:` or not. Everything else is strict: what is unknown, empty, said
//! twice or not xtext refuses the whole command, because two readers that disagree about one value disagree about who is calling.
//! One leniency is Postfix's: a value may hold a bare `=`.
//!
//! [`write()`] says an [`Introduction`](crate::dance::Introduction), a user that we vouch for, or both, to a server that listed
//! what it takes ([`Offered`]). What it did not list is not said. Commands are shorter than [`COMMAND_MAX`]; what does not fit
//! goes ahead in commands of its own, while the client itself stays together in the *last* one: Postfix takes no more XCLIENT of
//! a peer that has named a client, and forgets HELO, PROTO and LOGIN with the next; a Gatepost takes ADDR for another client, of
//! whose TLS nothing was said yet. Exim and KumoMTA, known by what they do not list, want all in one command, and IPv6 addresses
//! bare.
//!
//! Left to others: whether the peer may be believed, the replies, and the conversation that begins anew behind each command.

mod read;
mod write;

pub use read::{Malformed, Rules, no_operand, read};
pub use write::{COMMAND_MAX, Written, write};

use crate::origin::spelling::is_host_name;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The words behind XCLIENT in our own EHLO reply: all that [`read()`] takes, LOGIN only where the peer may vouch.
pub fn listed(may_vouch: bool) -> &'static str {
    if may_vouch {
        "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT FORWARD DESTNAME CLIENT-TRANSPORT"
    } else {
        "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT FORWARD DESTNAME CLIENT-TRANSPORT"
    }
}

/// The same in answer to LHLO: nobody signs in by LMTP, and pairs travel with each recipient (`XRCPTFORWARD`).
pub const LISTED_BY_LMTP: &str =
    "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT DESTNAME CLIENT-TRANSPORT";

/// What a server lists behind XCLIENT in its EHLO reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offered {
    attributes: u16,
    lmtp: bool,
}

impl Offered {
    /// From the words behind XCLIENT, in any case. Unknown ones are passed over.
    pub fn read(words: &str) -> Offered {
        words
            .split_ascii_whitespace()
            .filter_map(|word| Attribute::named(word.as_bytes()))
            .fold(Offered::default(), Offered::with)
    }

    /// It was listed in answer to LHLO: such servers are Dovecot's kind, which has known `LMTP` from the beginning, and `IPV6:`
    /// only since later.
    #[must_use]
    pub fn over_lmtp(self, lmtp: bool) -> Offered {
        Offered { lmtp, ..self }
    }

    /// A user can be named.
    pub fn takes_login(self) -> bool {
        self.lists(Attribute::Login)
    }

    /// A server of the kind of Exim and KumoMTA: it wants everything in one command, and IPv6 addresses bare. Its list is all
    /// that it shows of itself; those with the other habits list PROTO and HELO.
    fn wants_one_command(self) -> bool {
        !self.lists(Attribute::Proto) && !self.lists(Attribute::Helo)
    }

    fn lists(self, attribute: Attribute) -> bool {
        self.attributes & attribute.bit() != 0
    }

    fn with(self, attribute: Attribute) -> Offered {
        Offered { attributes: self.attributes | attribute.bit(), ..self }
    }
}

/// How the client called itself can be said to every server: a domain, or an address in brackets. Dovecot refuses the whole
/// command for any other, and clients say what they like.
pub(crate) fn is_helo(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => match address.split_at_checked(5) {
            Some((tag, ip)) if tag.eq_ignore_ascii_case("IPv6:") => ip.parse::<Ipv6Addr>().is_ok(),
            _ => address.parse::<Ipv4Addr>().is_ok(),
        },
        None => is_host_name(text),
    }
}

/// All attributes that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    Name,
    ReverseName,
    Addr,
    Port,
    Proto,
    Helo,
    Login,
    DestAddr,
    DestPort,
    DestName,
    Session,
    Ttl,
    Timeout,
    Transport,
    Forward,
}

const ATTRIBUTES: [(Attribute, &str); 15] = [
    (Attribute::Name, "NAME"),
    (Attribute::ReverseName, "REVERSE_NAME"),
    (Attribute::Addr, "ADDR"),
    (Attribute::Port, "PORT"),
    (Attribute::Proto, "PROTO"),
    (Attribute::Helo, "HELO"),
    (Attribute::Login, "LOGIN"),
    (Attribute::DestAddr, "DESTADDR"),
    (Attribute::DestPort, "DESTPORT"),
    (Attribute::DestName, "DESTNAME"),
    (Attribute::Session, "SESSION"),
    (Attribute::Ttl, "TTL"),
    (Attribute::Timeout, "TIMEOUT"),
    (Attribute::Transport, "CLIENT-TRANSPORT"),
    (Attribute::Forward, "FORWARD"),
];

impl Attribute {
    fn named(name: &[u8]) -> Option<Attribute> {
        ATTRIBUTES.into_iter().find(|(_, known)| known.as_bytes().eq_ignore_ascii_case(name)).map(|(attribute, _)| attribute)
    }

    fn as_str(self) -> &'static str {
        ATTRIBUTES.into_iter().find(|(attribute, _)| *attribute == self).map_or("", |(_, name)| name)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

#[cfg(test)]
mod tests;
