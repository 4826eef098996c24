//! Where a user's mailbox lives: the only reader of field names.
//!
//! A [`Decision`] is made of what the user databases returned ([`Answer`]) and the defaults of `[backend]`. Field names and
//! meanings are those of Dovecot's passdb extra fields. A malformed value fails that one login, closed, and the message
//! names the field; nothing falls back to a default (Dovecot 2.3 takes the default port for a bad `port`, and so shows
//! passwords to the wrong service).
//!
//! Which field wins: `proxy` (or `proxy_maybe`) > `host` with `nologin` (a referral) > `nologin` > the local backend.

mod hold;
mod meaning;
mod row;

pub use hold::{Hold, LONGEST, Waiting};
pub use meaning::meaning;

use crate::config::meant::{Backend, LocalBackend, SubmissionLogin};
use crate::failure::{Failure, Kind, Side};
use crate::users::chain::USED_UP;
use crate::users::{Answer, Checked};
use row::{Row, address_literal};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire::dance::Secure;
use wire::login::{Mechanism, Referral};
use wire::origin::ForwardField;
use wire::secret::Password;

/// What a row decides over a login that is right.
#[derive(Debug)]
pub struct Decision {
    /// What becomes of the login.
    pub verdict: Verdict,
    /// `delay_until`: it is answered later.
    pub hold: Option<Hold>,
}

/// What becomes of a login.
#[derive(Debug)]
pub enum Verdict {
    /// Sign in there.
    SignIn(Box<Route>),
    /// The client is to go there by itself (`host` with `nologin`).
    Refer(Referral),
    /// Nobody gets in (`nologin`); `reason` in words for the person.
    Disabled(Option<String>),
}

/// Where to sign in, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// The protocol that is spoken there.
    pub protocol: &'static str,
    /// `host`: a name or an address; certificates are checked against it.
    pub host: String,
    /// The address to connect to, where it needs no lookup: `hostip`, or `host` where that is an address.
    pub address: Option<IpAddr>,
    /// `port`, or the protocol's registered one.
    pub port: u16,
    /// When TLS begins.
    pub secure: Secure,
    /// The certificate is checked (not `any-cert`).
    pub verify: bool,
    /// `destuser`, else the user: the name the backend is given.
    pub user: String,
    /// `master`.
    pub master: Option<String>,
    /// `pass`: what the backend is given instead of the client's password.
    pub pass: Option<Password>,
    /// `proxy_mech`: the SASL mechanism to sign in with; none takes the protocol's own way.
    pub mechanism: Option<Mechanism>,
    /// `proxy_noauth`: the backend is told who the user is, and no password. Never in protocols that have no word for it.
    pub noauth: bool,
    /// `source_ip`: whence to connect.
    pub source: Option<IpAddr>,
    /// `proxy_timeout`: the one deadline.
    pub timeout: Duration,
    /// `proxy_host_immediate_failure_after`: how long a backend must have been failing before logins are refused without
    /// trying it; zero = never.
    pub give_up_after: Duration,
    /// `proxy_nopipelining`.
    pub one_at_a_time: bool,
    /// Not `proxy_not_trusted`: the backend is told who is calling.
    pub introduce: bool,
    /// `forward_*`, without the prefix.
    pub forward: Vec<ForwardField>,
    /// `user_*` and `event_*`, whole names, for the journal.
    pub notes: Vec<(Box<str>, Box<str>)>,
    /// `nodelay`: a refusal is answered at once and counts as no guess.
    pub quick: bool,
    /// `protocol`: the server there speaks SMTP, and not what was spoken to us; of mail that is delivered.
    pub smtp: bool,
    /// `proxy_maybe`: what to do where it leads to this server itself.
    pub maybe: Option<Maybe>,
    /// The database that named it, for messages.
    pub database: String,
}

/// What `proxy_maybe` adds to a route.
#[derive(Debug, Clone)]
pub struct Maybe {
    /// The row named a port; without one any port of an address of ours is ourselves.
    pub port_given: bool,
    /// The route to the local backend; or why there is none.
    pub local: Result<Box<Route>, &'static str>,
}

/// What is known beside the row.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `[backend]`.
    pub backend: &'a Backend,
    /// The protocol's name, for `backend.local`.
    pub protocol: &'static str,
    /// The protocol's registered ports, in clear and with TLS from the first byte.
    pub ports: (u16, u16),
    /// How the client said who it is.
    pub mechanism: Mechanism,
    /// The protocol has a word for `proxy_noauth`.
    pub noauth: bool,
    /// Nobody signs in: mail is delivered there.
    pub delivery: bool,
}

/// Where SMTP and LMTP are served, where `protocol` is written and `port` is not.
const SMTP_PORT: u16 = 25;
const LMTP_PORT: u16 = 24;

/// How long a backend must have been failing, where a row does not say, as Dovecot's default.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// Fields that decide nothing on the login way and are taken without a word: for others to read, for another protocol, or
/// true of Gatepost whatever they say (`proxy_no_multiplex`).
pub const NOT_OURS: &[&str] = &["original_user", "auth_user", "login_user", "proxy_no_multiplex", "protocol"];

/// Every field that is read here by name.
pub const READ: &[&str] = &[
    "proxy",
    "proxy_maybe",
    "proxy_always",
    "host",
    "hostip",
    "port",
    "source_ip",
    "ssl",
    "starttls",
    "proxy_timeout",
    "proxy_host_immediate_failure_after",
    "proxy_mech",
    "master",
    "pass",
    "destuser",
    "proxy_nopipelining",
    "proxy_not_trusted",
    "proxy_noauth",
    "nologin",
    "reason",
    "nodelay",
    "delay_until",
];

/// Decides. `unknown` is told each field that has no effect here (`proxy_refresh`, `director_tag`, a misspelling), to warn of
/// it once.
///
/// # Errors
/// A [`Kind::Row`] failure that names the field: the login ends with "try later".
pub fn decide(answer: &Answer, asked: &Asked<'_>, unknown: &mut dyn FnMut(&str)) -> Result<Decision, Failure> {
    let row = Row { answer };
    let mut forward = Vec::new();
    let mut notes = Vec::new();
    for (name, value) in answer.fields.iter() {
        if let Some(key) = name.strip_prefix("forward_") {
            forward.push(row.forward(name, key, value)?);
        } else if ["user_", "event_"].iter().any(|prefix| name.starts_with(prefix)) {
            row.note(&mut notes, name, value);
        } else if name.contains(':') {
            return Err(row.bad(name, "has a suffix that means nothing here: default_fields and override_fields say it already"));
        } else if !is_known(name) {
            unknown(name);
        }
    }
    let hold = Hold::read(&row)?;
    let verdict = if row.flag("proxy") || row.flag("proxy_maybe") {
        let mut route = route(&row, asked, forward, notes)?;
        let host = row.name("host")?.ok_or_else(|| row.bad("host", "is missing: the row must say where the mailbox lives"))?;
        let (host_address, hostip) = (address_literal(&host), row.address("hostip")?);
        if let (Some(a), Some(b)) = (host_address, hostip)
            && a != b
        {
            return Err(row.bad("hostip", format_args!("{b} contradicts host, which is the address {a}")));
        }
        route.address = hostip.or(host_address);
        route.host = host;
        if let (Some(source), Some(to)) = (route.source, route.address)
            && source.is_ipv4() != to.is_ipv4()
        {
            return Err(row.bad("source_ip", format_args!("{source} cannot reach {to}, which is of the other address family")));
        }
        // Also beside proxy, as in Dovecot.
        if row.flag("proxy_maybe") {
            let local = if row.flag("proxy_always") {
                Err("proxy_always forbids the local backend")
            } else {
                local(&route, asked, answer).ok_or("no backend.local is configured for this protocol")
            };
            route.maybe = Some(Maybe { port_given: row.port()?.is_some(), local });
        }
        Verdict::SignIn(Box::new(route))
    } else if row.flag("nologin") && !asked.delivery {
        row.refuse_unchecked_nologin()?;
        match row.name("host")? {
            Some(host) => Verdict::Refer(refer(&row, asked, host)?),
            None => Verdict::Disabled(row.reason()),
        }
    } else {
        let route = route(&row, asked, forward, notes)?;
        Verdict::SignIn(local(&route, asked, answer).ok_or_else(|| {
            let text = "is missing: the row must return proxy (or proxy_maybe) to say that the user lives elsewhere";
            row.bad(
                "proxy",
                format_args!("{text}; without it the login goes to backend.local, which names none for {}", asked.protocol),
            )
        })?)
    };
    Ok(Decision { verdict, hold })
}

/// Whether a field of this name has a meaning, if perhaps for others.
pub fn is_known(name: &str) -> bool {
    let prefixes = ["forward_", "user_", "event_", "userdb_"];
    [READ, NOT_OURS, USED_UP].iter().any(|known| known.contains(&name)) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// All of a route but the place.
fn route(
    row: &Row<'_>,
    asked: &Asked<'_>,
    forward: Vec<ForwardField>,
    notes: Vec<(Box<str>, Box<str>)>,
) -> Result<Route, Failure> {
    let (secure, verify) = row.tls(asked.backend)?;
    let smtp = asked.delivery && row.speaks_smtp()?;
    let default_port = match secure {
        _ if smtp => SMTP_PORT,
        _ if asked.delivery && row.flag("protocol") => LMTP_PORT,
        Secure::Implicit => asked.ports.1,
        Secure::Never | Secure::StartTls => asked.ports.0,
    };
    let route = Route {
        protocol: asked.protocol,
        host: String::new(),
        address: None,
        port: row.port()?.unwrap_or(default_port),
        secure,
        verify,
        user: row.name("destuser")?.unwrap_or_else(|| row.answer.user.clone()),
        master: if asked.delivery { None } else { row.name("master")? },
        pass: if asked.delivery { None } else { row.pass()? },
        mechanism: if asked.delivery { None } else { row.mechanism(asked.mechanism)? },
        noauth: asked.noauth && (row.flag("proxy_noauth") || asked.backend.submission_login == SubmissionLogin::Xclient),
        source: row.address("source_ip")?,
        timeout: row.interval("proxy_timeout", Duration::from_millis(1))?.unwrap_or(asked.backend.proxy_timeout),
        give_up_after: row.interval("proxy_host_immediate_failure_after", Duration::ZERO)?.unwrap_or(GIVE_UP_AFTER),
        one_at_a_time: row.flag("proxy_nopipelining"),
        introduce: !row.flag("proxy_not_trusted"),
        forward,
        notes,
        quick: row.flag("nodelay"),
        smtp,
        maybe: None,
        database: row.answer.database.clone(),
    };
    if asked.delivery {
        // What is about passwords decides nothing here.
        return Ok(route);
    }
    if row.answer.checked == Checked::Nobody {
        row.refuse_unchecked(&route)?;
    }
    if asked.mechanism == Mechanism::Xclient && route.pass.is_none() && !route.noauth {
        return Err(row.bad(
            "proxy_noauth",
            "is missing, and so is pass: a user for whom a trusted peer vouches (XCLIENT LOGIN) brings no password",
        ));
    }
    if route.noauth && route.master.is_some() {
        return Err(row.bad("proxy_noauth", "says no password and names no master user; leave master out, or proxy_noauth"));
    }
    if route.noauth && !route.introduce {
        return Err(row.bad(
            "proxy_not_trusted",
            "together with proxy_noauth (or backend.submission_login): a backend that believes us who has signed in, and hears of \
             no client, believes it of that user, too, who could be any other; leave one of them out",
        ));
    }
    if route.master.is_some() && route.mechanism == Some(Mechanism::Login) {
        return Err(row.bad("proxy_mech", "LOGIN cannot say a master user; with master take PLAIN, or leave it out"));
    }
    Ok(route)
}

/// The same login at the local backend: as in Dovecot, host, port and destuser of the row do not count there, nor does its TLS.
fn local(route: &Route, asked: &Asked<'_>, answer: &Answer) -> Option<Box<Route>> {
    let LocalBackend { host, port } = asked.backend.local.get(asked.protocol)?.clone();
    Some(Box::new(Route {
        address: address_literal(&host),
        host,
        port,
        secure: Secure::Never,
        smtp: false,
        source: None,
        user: answer.user.clone(),
        maybe: None,
        ..route.clone()
    }))
}

fn refer(row: &Row<'_>, asked: &Asked<'_>, host: String) -> Result<Referral, Failure> {
    // Of what the row says alone: how this proxy reaches backends is nothing to the client.
    let implicit = row.flag("ssl") && !row.flag("starttls");
    let bare = address_literal(&host).map(|ip| ip.to_string());
    // Names and nothing else: the host becomes part of a URL.
    if bare.is_none() && !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        return Err(row.bad("host", format_args!("{host:?} is neither a name nor an address")));
    }
    Ok(Referral {
        user: row.name("destuser")?.unwrap_or_else(|| row.answer.user.clone()),
        mechanism: asked.mechanism,
        host: bare.unwrap_or(host),
        port: row.port()?.unwrap_or(if implicit { asked.ports.1 } else { asked.ports.0 }),
        text: row.reason(),
    })
}

/// A row whose destination is this server itself.
pub fn to_ourselves(route: &Route, at: SocketAddr) -> Failure {
    match &route.maybe {
        Some(Maybe { local: Err(why), .. }) => {
            Failure::row(&route.database, "proxy_maybe", format_args!("leads to this server itself ({at}), and {why}"))
        }
        _ => Failure::new(
            Side::Users,
            Kind::Loop,
            format!("users \"{}\": proxying loops to itself: host {} leads to {at}", route.database, route.host),
        ),
    }
}

#[cfg(test)]
mod tests;
