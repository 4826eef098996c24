//! A Dovecot that proxies every login, and every recipient of LMTP, to one address.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use super::instance::Setup;
use super::{Addresses, Instance};
use crate::certs::Authority;
use crate::{Dir, Protocol};

/// A running Dovecot proxy, an [`Instance`] that proxies. It checks no passwords: the backend does. By LMTP all recipients are
/// its own, and each goes to the backend.
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
    /// TLS from the first byte, without looking at the certificate; by ManageSieve and LMTP, which have no port for that,
    /// STARTTLS.
    Tls,
}

/// What a [`Proxy`] is made of.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where every login goes.
    pub backend: SocketAddr,
    /// Where logins by these protocols go instead.
    pub elsewhere: Vec<(Protocol, SocketAddr)>,
    /// Where recipients of LMTP go instead.
    pub lmtp: Option<SocketAddr>,
    /// How it goes there.
    pub leg: Leg,
    /// `login_trusted_networks` of the proxy: who may tell it, with ID or XCLIENT, who is really calling, and who may send
    /// XRCPTFORWARD.
    pub trusted: String,
    /// Fields that are forwarded as `forward_NAME=VALUE`. The database is a line of words, so a value has no blanks.
    pub forward: Vec<(String, String)>,
    /// More fields of the answer, such as `destuser=%Lu`, `proxy_timeout=3` or `protocol=smtp`, one word each. What came
    /// as a forwarded field can be used in them: `destuser=%{passdb:forward_NAME}`.
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
        let (leg, elsewhere, lmtp, sessions) = (Leg::Clear, Vec::new(), None, 100);
        ProxyOptions { backend, elsewhere, lmtp, leg, trusted, forward, fields, sessions, extra }
    }

    /// Proxies each protocol to its own address, this way.
    pub fn to_each(at: &Addresses, leg: Leg) -> ProxyOptions {
        let of = |protocol| match leg {
            Leg::Clear | Leg::StartTls => at.of(protocol),
            Leg::Tls => at.implicit(protocol).unwrap_or(at.of(protocol)),
        };
        let elsewhere = Protocol::ALL.map(|protocol| (protocol, of(protocol))).to_vec();
        ProxyOptions { leg, elsewhere, lmtp: Some(at.lmtp), ..ProxyOptions::to(of(Protocol::Imap)) }
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
    let ProxyOptions { backend, elsewhere, lmtp, leg, extra, .. } = options;
    let usual = database(options, *backend, *leg);
    let logins = Protocol::ALL.map(|protocol| {
        let addr = elsewhere.iter().find(|(p, _)| *p == protocol).map(|(_, addr)| *addr);
        (protocol.service(), protocol.implicit().is_some(), addr)
    });
    let mut others = String::new();
    for (service, has_implicit, addr) in logins.into_iter().chain([("lmtp", false, *lmtp)]) {
        let leg = if *leg == Leg::Tls && !has_implicit { Leg::StartTls } else { *leg };
        let own = database(options, addr.unwrap_or(*backend), leg);
        // Databases of a protocol stand in front of those for all.
        if own != usual {
            others.push_str(&format!("protocol {service} {{\n{own}}}\n"));
        }
    }
    format!(
        "auth_mechanisms = plain login
auth_failure_delay = 0 secs
disable_plaintext_auth = no
hostname = proxy.test
lmtp_proxy = yes
{others}{usual}# A proxy has no mail of its own, but the protocol insists on a user database.
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
{extra}
"
    )
}

/// One row for all.
fn database(options: &ProxyOptions, addr: SocketAddr, leg: Leg) -> String {
    let ProxyOptions { forward, fields, .. } = options;
    let leg = match leg {
        Leg::Clear => "",
        Leg::StartTls => " starttls=any-cert",
        Leg::Tls => " ssl=any-cert",
    };
    let mut args = format!("proxy=y nopassword=y host={} port={}{leg}", addr.ip(), addr.port());
    let forward = forward.iter().map(|(name, value)| format!("forward_{name}={value}"));
    for word in forward.chain(fields.iter().cloned()) {
        assert!(!word.contains(char::is_whitespace), "a field of this database is one word: {word:?}");
        args.push(' ');
        args.push_str(&word);
    }
    format!("passdb {{\n  driver = static\n  args = {args}\n}}\n")
}
