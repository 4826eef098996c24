//! Which connections are meant: by user, destuser, client, backend, protocol, session id or state.
//!
//! All that is given must match. Nothing given matches everything, so that whoever ends sessions must ask for that in so many
//! words.

use super::{State, View};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The longest mask, octets: longer than any user name.
const MASK_MAX: usize = 512;

/// A name with `*` (any characters, none too) and `?` (one character), as `doveadm` has them. Case counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    text: Box<str>,
    exact: bool,
}

impl Mask {
    /// From here on `*` and `?` are ordinary characters: for names that somebody else chose.
    pub fn exact(&mut self) {
        self.exact = true;
    }

    /// Whether a text matches. Time is bounded by the product of both lengths, whatever the mask.
    pub fn matches(&self, text: &str) -> bool {
        if self.exact {
            return *self.text == *text;
        }
        let (mut mask, mut rest) = (self.text.chars(), text.chars());
        // Where to go on when a star has to take one character more.
        let mut star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
        loop {
            let at_rest = rest.clone();
            match (mask.next(), rest.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    star = Some((mask.clone(), at_rest.clone()));
                    rest = at_rest;
                    continue;
                }
                (Some('?'), Some(_)) => continue,
                (Some(want), Some(have)) if want == have => continue,
                _ => {}
            }
            let Some((after, mut from)) = star.take() else { return false };
            if from.next().is_none() {
                return false;
            }
            (mask, rest) = (after.clone(), from.clone());
            star = Some((after, from));
        }
    }

    /// The text of the mask.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Mask {
    type Err = String;
    fn from_str(text: &str) -> Result<Mask, String> {
        match text.len() {
            0 => Err("is empty".to_owned()),
            n if n > MASK_MAX => Err(format!("is longer than {MASK_MAX} octets")),
            _ => Ok(Mask { text: text.into(), exact: false }),
        }
    }
}

/// Backends by address, by address and port, by network, or by the name in `host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backends {
    /// One address and port.
    At(SocketAddr),
    /// All addresses of a network.
    In(IpNet),
    /// What the row's `host` says.
    Named(Box<str>),
}

impl FromStr for Backends {
    type Err = String;
    fn from_str(text: &str) -> Result<Backends, String> {
        if let Ok(at) = text.parse() {
            return Ok(Backends::At(at));
        }
        if let Ok(net) = net(text) {
            return Ok(Backends::In(net));
        }
        let named = !text.is_empty() && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('/');
        if named { Ok(Backends::Named(text.into())) } else { Err("is no address, network or host name".to_owned()) }
    }
}

impl Backends {
    /// Whether a route leads there, as far as that is known: its address may come later.
    pub fn has(&self, at: Option<SocketAddr>, host: &str) -> bool {
        match self {
            Backends::At(want) => at == Some(*want),
            Backends::In(net) => match (at, host.parse::<IpAddr>()) {
                (Some(at), _) => net.contains(&at.ip()),
                (None, Ok(host)) => net.contains(&host),
                (None, Err(_)) => false,
            },
            Backends::Named(name) => name.eq_ignore_ascii_case(host),
        }
    }
}

/// An address or a network in CIDR notation.
///
/// # Errors
/// It is neither.
pub fn net(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical())));
    net.map(|net| net.trunc()).map_err(|_| "is neither an address nor a network such as 192.0.2.0/24".to_owned())
}

/// Which connections are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The user is one of these.
    pub user: Vec<Mask>,
    /// The name that the backend was given.
    pub destuser: Option<Mask>,
    /// A `user_NAME` of the row: which, and its value.
    pub alternative: Option<(Box<str>, Vec<Mask>)>,
    /// The client's address.
    pub client: Vec<IpNet>,
    /// The backend is one of these.
    pub backend: Vec<Backends>,
    /// The protocol's name.
    pub protocol: Option<Box<str>>,
    /// The session id.
    pub session: Option<Box<str>>,
    /// What is being done.
    pub state: Option<State>,
}

impl Filter {
    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether a connection is meant.
    pub fn admits(&self, view: &View) -> bool {
        let record = view.record.as_deref();
        let by_user = self.user.is_empty() || !view.user.is_empty() && self.user.iter().any(|mask| mask.matches(&view.user));
        let by_destuser = self.destuser.as_ref().is_none_or(|mask| record.is_some_and(|r| mask.matches(r.destuser())));
        let by_alternative = self.alternative.as_ref().is_none_or(|(name, masks)| {
            let told = record.and_then(|r| r.alternative(name));
            told.is_some_and(|value| masks.iter().any(|mask| mask.matches(value)))
        });
        let by_client = self.client.is_empty() || self.client.iter().any(|net| net.contains(&view.client.ip()));
        let by_backend =
            self.backend.is_empty() || record.is_some_and(|r| self.backend.iter().any(|backend| backend.has(r.backend, &r.host)));
        by_user
            && by_destuser
            && by_alternative
            && by_client
            && by_backend
            && self.protocol.as_deref().is_none_or(|protocol| protocol == view.protocol)
            && self.session.as_deref().is_none_or(|session| session == &*view.session)
            && self.state.is_none_or(|state| state == view.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_those_of_doveadm() {
        for (mask, yes, no) in [
            ("alice", &["alice"][..], &["alic", "alicea", "Alice", ""][..]),
            ("*", &["", "a", "a@b"], &[]),
            ("*@example.com", &["a@example.com", "@example.com", "a@b@example.com"], &["a@example.com.", "example.com"]),
            ("a?c", &["abc", "aüc"], &["ac", "abbc"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc"], &["acb", "ab"]),
            ("**?", &["a", "ab"], &[""]),
        ] {
            let mask: Mask = mask.parse().unwrap();
            for text in yes {
                assert!(mask.matches(text), "{mask:?} {text}");
            }
            for text in no {
                assert!(!mask.matches(text), "{mask:?} {text}");
            }
        }
        assert!("".parse::<Mask>().is_err());
        assert!("x".repeat(513).parse::<Mask>().is_err());
    }

    #[test]
    fn an_evil_mask_costs_little() {
        let mask: Mask = "*a".repeat(250).parse().unwrap();
        assert!(!mask.matches(&"a".repeat(249)));
        assert!(!mask.matches(&format!("{}b", "a".repeat(255))));
    }

    #[test]
    fn backends_by_every_spelling() {
        let at: SocketAddr = "10.0.0.1:143".parse().unwrap();
        for (text, has) in [
            ("10.0.0.1:143", true),
            ("10.0.0.1:110", false),
            ("10.0.0.1", true),
            ("10.0.0.0/24", true),
            ("10.0.1.0/24", false),
            ("Mail1.example.net", true),
            ("mail2.example.net", false),
        ] {
            assert_eq!(text.parse::<Backends>().unwrap().has(Some(at), "mail1.example.net"), has, "{text}");
        }
        assert!("10.0.0.1".parse::<Backends>().unwrap().has(None, "10.0.0.1"), "before it is connected");
        for bad in ["", "a b", "10.0.0.0/40", "mail/1"] {
            assert!(bad.parse::<Backends>().is_err(), "{bad}");
        }
    }
}
