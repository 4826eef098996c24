//! A Dovecot that proxies every login to one address.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use super::Instance;
use super::instance::Setup;
use crate::Dir;
use crate::certs::Authority;

/// A running Dovecot proxy, an [`Instance`] that proxies. It checks no passwords: the backend does.
#[derive(Debug)]
pub struct Proxy {
    instance: Instance,
}

/// How the proxy speaks to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// In clear.
    Clear,
    /// STARTTLS or STLS, without looking at the certificate. This version sends its ID command before it, in clear, and
    /// its XCLIENT command behind it.
    StartTls,
    /// TLS from the first byte, without looking at the certificate.
    Tls,
}

/// What a [`Proxy`] is made of.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where every login goes.
    pub backend: SocketAddr,
    /// Where logins by POP3 go instead, if elsewhere.
    pub pop3: Option<SocketAddr>,
    /// How it goes there.
    pub leg: Leg,
    /// `login_trusted_networks` of the proxy: who may tell it, with ID or XCLIENT, who is really calling.
    pub trusted: String,
    /// Fields that are forwarded as `forward_NAME=VALUE`. The database is a line of words, so a value has no blanks.
    pub forward: Vec<(String, String)>,
    /// More fields of the answer, such as `destuser=%Lu` or `proxy_timeout=3`, one word each.
    pub fields: Vec<String>,
    /// How many sessions there may be at once, per protocol.
    pub sessions: u32,
    /// More configuration, appended as it is.
    pub extra: String,
}

impl ProxyOptions {
    /// Proxies to `backend` in clear, trusting nobody.
    pub fn to(backend: SocketAddr) -> ProxyOptions {
        let (trusted, extra) = (String::new(), String::new());
        let (forward, fields) = (Vec::new(), Vec::new());
        ProxyOptions { backend, pop3: None, leg: Leg::Clear, trusted, forward, fields, sessions: 100, extra }
    }
}

impl Proxy {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    ///
    /// Without a usable Dovecot: call [`crate::real::require`] first.
    #[track_caller]
    pub fn start(options: ProxyOptions) -> Proxy {
        let dir = Dir::new();
        let authority = Authority::new(dir.path(), "proxy-authority");
        let certificate = authority.server("proxy", &["localhost", "127.0.0.1", "proxy.test"]);
        let own = config(&options);
        let ProxyOptions { trusted, sessions, .. } = &options;
        let setup = Setup { certificate, trusted, haproxy_trusted: "", sessions: *sessions, own };
        Proxy { instance: Instance::start(dir, setup) }
    }
}

impl Deref for Proxy {
    type Target = Instance;
    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl DerefMut for Proxy {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }
}

fn config(options: &ProxyOptions) -> String {
    let ProxyOptions { backend, pop3, leg, forward, fields, extra, .. } = options;
    let leg = match leg {
        Leg::Clear => "",
        Leg::StartTls => " starttls=any-cert",
        Leg::Tls => " ssl=any-cert",
    };
    let pop3 = pop3.as_ref().unwrap_or(backend);
    // The database has one row for all; %s is the service that asks.
    let by_service = |pop3: String, imap: String| {
        if pop3 == imap { imap } else { format!("%{{if;%s;eq;pop3;{pop3};{imap}}}") }
    };
    let host = by_service(pop3.ip().to_string(), backend.ip().to_string());
    let port = by_service(pop3.port().to_string(), backend.port().to_string());
    let mut args = format!("proxy=y nopassword=y host={host} port={port}{leg}");
    let forward = forward.iter().map(|(name, value)| format!("forward_{name}={value}"));
    for word in forward.chain(fields.iter().cloned()) {
        assert!(!word.contains(char::is_whitespace), "a field of this database is one word: {word:?}");
        args.push(' ');
        args.push_str(&word);
    }
    format!(
        "auth_mechanisms = plain login
auth_failure_delay = 0 secs
disable_plaintext_auth = no
passdb {{
  driver = static
  args = {args}
}}
# A proxy has no mail of its own, but the protocol insists on a user database.
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
{extra}
"
    )
}
