//! Where a listener is: an address and port, or the path of a unix socket. Written and read as `192.0.2.1:143`, `unix:/path`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// The longest path of a unix socket, in octets: what `sockaddr_un` holds, less the NUL behind it.
pub const LONGEST_PATH: usize = 107;

/// What stands before a path.
pub(super) const UNIX: &str = "unix:";

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAt {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(Arc<Path>),
}

impl ListenAt {
    /// The address and port, if it has one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAt::Tcp(address) => Some(*address),
            ListenAt::Unix(_) => None,
        }
    }

    /// The address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.tcp().map(|address| address.ip())
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        self.tcp().map(|address| address.port())
    }

    /// The path of a unix socket.
    pub fn path(&self) -> Option<&Arc<Path>> {
        match self {
            ListenAt::Tcp(_) => None,
            ListenAt::Unix(path) => Some(path),
        }
    }

    /// Another one every time: port 0 stands for any that is free.
    pub fn is_any(&self) -> bool {
        self.port() == Some(0)
    }
}

impl From<SocketAddr> for ListenAt {
    fn from(address: SocketAddr) -> ListenAt {
        ListenAt::Tcp(address)
    }
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAt::Tcp(address) => address.fmt(f),
            ListenAt::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenAt, String> {
        let path = text.strip_prefix(UNIX).unwrap_or(text);
        if path.starts_with('/') {
            return Ok(ListenAt::Unix(Path::new(path).into()));
        }
        text.parse().map(ListenAt::Tcp).map_err(|_| "is neither ADDRESS:PORT nor unix:/PATH".to_owned())
    }
}

impl Serialize for ListenAt {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ListenAt, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["192.0.2.1:143", "[2001:db8::1]:143", "unix:/run/gatepost/lmtp"] {
            let at: ListenAt = text.parse().unwrap();
            assert_eq!(at.to_string(), text);
            let json = serde_json::to_string(&at).unwrap();
            assert_eq!((json.trim_matches('"'), serde_json::from_str::<ListenAt>(&json).unwrap()), (text, at));
        }
        assert_eq!("/run/x".parse::<ListenAt>().unwrap().to_string(), "unix:/run/x");
        for text in ["", "unix:", "unix:run/x", "192.0.2.1", "143", "mail:143"] {
            assert!(text.parse::<ListenAt>().is_err(), "{text}");
        }
    }
}
