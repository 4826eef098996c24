//! Which dialogues a tracer wants to see. All kinds of words that are given must match; of one kind any will do.
//!
//! A dialogue becomes known bit by bit, so everything counts that it has been known as: the name that the client said and the
//! one that the databases have, the address of the connection and the one that a trusted peer told.

use crate::config::listen_at::ListenAt;
use crate::login::roll::{Backends, Mask};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::str::FromStr;

/// The most names, addresses and backends that are remembered of one dialogue.
const KNOWN_MAX: usize = 64;

/// What is known of a dialogue.
pub struct Who {
    /// Its number on the roll.
    pub number: u64,
    /// The protocol's name.
    pub protocol: &'static str,
    /// The listener, with its port.
    pub listener: ListenAt,
    /// Addresses of the client, the newest last.
    pub clients: Vec<SocketAddr>,
    /// Session ids, the newest last.
    pub sessions: Vec<Box<str>>,
    /// Names that it tries to sign in with.
    pub users: Vec<Box<str>>,
    /// Where it was sent: address and the row's host.
    pub backends: Vec<(Option<SocketAddr>, Box<str>)>,
}

impl Who {
    /// One thing more that is known.
    pub(super) fn add<T: PartialEq>(list: &mut Vec<T>, value: T) {
        if list.last() != Some(&value) && list.len() < KNOWN_MAX {
            list.push(value);
        }
    }
}

/// A listener: an address with a port, an address, a port, or a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// An address with a port, or a unix socket.
    At(ListenAt),
    /// All ports of an address.
    Of(IpNet),
    /// A port of all addresses.
    Port(u16),
}

impl FromStr for Listener {
    type Err = String;
    fn from_str(text: &str) -> Result<Listener, String> {
        if let Ok(at) = text.parse() {
            return Ok(Listener::At(at));
        }
        if let Ok(port) = text.parse() {
            return Ok(Listener::Port(port));
        }
        crate::login::roll::net(text).map(Listener::Of).map_err(|_| "is no address, port, address:port or unix:/path".to_owned())
    }
}

/// What is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The user is one of these.
    pub user: Vec<Mask>,
    /// The client's address.
    pub client: Vec<IpNet>,
    /// The backend is one of these.
    pub backend: Vec<Backends>,
    /// The listener is one of these.
    pub listener: Vec<Listener>,
    /// The protocol's name.
    pub protocol: Option<Box<str>>,
    /// The session id.
    pub session: Option<Box<str>>,
}

impl Wanted {
    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Wanted::default()
    }

    /// Whether it is this dialogue, as far as it is known. It may become so later, and stays so then.
    pub fn is(&self, who: &Who) -> bool {
        fn any<W, H>(want: &[W], have: &[H], fits: impl Fn(&W, &H) -> bool) -> bool {
            want.is_empty() || want.iter().any(|want| have.iter().any(|have| fits(want, have)))
        }
        any(&self.user, &who.users, |mask, user| mask.matches(user))
            && any(&self.client, &who.clients, |net, at| net.contains(&at.ip()))
            && any(&self.backend, &who.backends, |backend, (at, host)| backend.has(*at, host))
            && any(&self.listener, std::slice::from_ref(&who.listener), |listener, at| match listener {
                Listener::At(want) => want == at,
                Listener::Of(net) => at.ip().is_some_and(|ip| net.contains(&ip)),
                Listener::Port(port) => at.port() == Some(*port),
            })
            && self.protocol.as_deref().is_none_or(|protocol| protocol == who.protocol)
            && self.session.as_deref().is_none_or(|session| who.sessions.iter().any(|have| **have == *session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_must_match_and_any_of_a_kind() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let who = Who {
            number: 1,
            protocol: "imap",
            listener: at("192.0.2.1:143").into(),
            clients: vec![at("127.0.0.1:5"), at("198.51.100.7:6")],
            sessions: vec!["a".into(), "b".into()],
            users: vec!["Alice".into(), "alice@example.com".into()],
            backends: vec![(None, "mail1".into()), (Some(at("10.0.0.1:143")), "mail1".into())],
        };
        let mask = |text: &str| vec![text.parse::<Mask>().unwrap()];
        let net = |text: &str| vec![crate::login::roll::net(text).unwrap()];
        let none = Wanted::default();
        assert!(none.is_empty() && none.is(&who));
        for (wanted, is) in [
            (Wanted { user: mask("alice@*"), ..none.clone() }, true),
            (Wanted { user: mask("alice"), ..none.clone() }, false),
            (Wanted { client: net("198.51.100.0/24"), ..none.clone() }, true),
            (Wanted { client: net("198.51.101.0/24"), ..none.clone() }, false),
            (Wanted { backend: vec!["10.0.0.1:143".parse().unwrap()], ..none.clone() }, true),
            (Wanted { backend: vec!["mail2".parse().unwrap(), "mail1".parse().unwrap()], ..none.clone() }, true),
            (Wanted { listener: vec!["143".parse().unwrap()], ..none.clone() }, true),
            (Wanted { listener: vec!["192.0.2.1".parse().unwrap()], ..none.clone() }, true),
            (Wanted { listener: vec!["192.0.2.1:993".parse().unwrap()], ..none.clone() }, false),
            (Wanted { session: Some("b".into()), ..none.clone() }, true),
            (Wanted { session: Some("c".into()), ..none.clone() }, false),
            (Wanted { user: mask("Alice"), protocol: Some("pop3".into()), ..none.clone() }, false),
        ] {
            assert_eq!(wanted.is(&who), is, "{wanted:?}");
        }
        let who = Who { listener: "unix:/run/imap".parse().unwrap(), ..who };
        for (listener, is) in
            [("unix:/run/imap", true), ("/run/imap", true), ("/run/pop3", false), ("0", false), ("127.0.0.1", false)]
        {
            let wanted = Wanted { listener: vec![listener.parse().unwrap()], ..none.clone() };
            assert_eq!(wanted.is(&who), is, "{listener}");
        }
        for bad in ["", "mail", "1.2.3.4:x", "70000", "unix:run/imap"] {
            assert!(bad.parse::<Listener>().is_err(), "{bad}");
        }
    }
}
