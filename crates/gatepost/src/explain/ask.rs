//! What is asked: a user or a recipient, and how the client comes.

use crate::config::listen_at::ListenAt;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use wire::login::Mechanism;
use wire::secret::{Password, Secret};

/// A login to be explained. `Debug` shows no password.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The name as the client says it.
    pub user: String,
    /// `imap`, `pop3`, `managesieve`, `submission`; also `imaps`, `pop3s`, `submissions`, which chooses a listener with TLS from
    /// the first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Where the client is: an address, with or without a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Which listener it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenAt>,
    /// What it calls itself, in protocols where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// The server name that it asks for in TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// It does without TLS where it may.
    #[serde(default)]
    pub in_clear: bool,
    /// The proxy that calls us in its place and says by ID or XCLIENT who is calling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// How many proxies may still follow, as that proxy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// What that proxy forwards: `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<String>,
    /// The balancer through which the connection comes, with a PROXY header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancer: Option<String>,
    /// How it signs in.
    #[serde(default)]
    pub mechanism: Way,
    /// Its password, to be checked; without one it is taken for the right one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// A recipient whose mail is to be explained.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskRcpt {
    /// The address as the client says it, without brackets.
    pub recipient: String,
    /// Who sends the mail; nobody, as for reports.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sender: String,
    /// Who brings it: an address, with or without a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Which listener it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<ListenAt>,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// The server name that it asks for in TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// It does without TLS where it may.
    #[serde(default)]
    pub in_clear: bool,
    /// The proxy that calls us in its place and says by XCLIENT who is calling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// How many proxies may still follow, as that proxy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// What that proxy forwards for the recipient: `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<String>,
    /// The balancer through which the connection comes, with a PROXY header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancer: Option<String>,
}

/// How a client signs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The protocol's own command; SASL PLAIN where there is none.
    #[default]
    Command,
    /// SASL PLAIN.
    Plain,
    /// SASL LOGIN.
    Login,
}

impl Way {
    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Way::Command => "by the protocol's own command",
            Way::Plain => "by SASL PLAIN",
            Way::Login => "by SASL LOGIN",
        }
    }

    pub(super) fn mechanism(self) -> Mechanism {
        match self {
            Way::Command => Mechanism::Command,
            Way::Plain => Mechanism::Plain,
            Way::Login => Mechanism::Login,
        }
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("user", &self.user).field("from", &self.from).finish_non_exhaustive()
    }
}

/// Why there is nothing to explain: what was asked makes no sense here, in words for who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswerable(pub String);

impl fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ask {
    pub(super) fn password(&self) -> Option<Password> {
        self.password.as_ref().map(|password| Secret::new(password.clone().into_bytes()))
    }
}

/// An address with or without a port; the port is 0 where it is not said.
pub(super) fn address(option: &str, text: &str) -> Result<SocketAddr, Unanswerable> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = || bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    text.parse().or_else(|_| ip()).map_err(|_| Unanswerable(format!("{option} {text:?} is neither an address nor ADDRESS:PORT")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_port() {
        for (text, read) in [
            ("192.0.2.7", "192.0.2.7:0"),
            ("192.0.2.7:5000", "192.0.2.7:5000"),
            ("2001:db8::7", "[2001:db8::7]:0"),
            ("[2001:db8::7]", "[2001:db8::7]:0"),
            ("[2001:db8::7]:5000", "[2001:db8::7]:5000"),
        ] {
            assert_eq!(address("from", text).unwrap().to_string(), read);
        }
        for text in ["", "mail.example", "192.0.2", "192.0.2.7:", "192.0.2.7:70000"] {
            assert!(address("from", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let ask = Ask { user: "alice".into(), password: Some("tiger".into()), ..Ask::default() };
        assert!(!format!("{ask:?}").contains("tiger"));
    }
}
