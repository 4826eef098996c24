//! Where a user's mailbox lives: the only reader of field names.
//!
//! A [`Route`] is made of what the user databases returned ([`Answer`]) and the defaults of `[backend]`. Field names and
//! meanings are those of Dovecot's passdb extra fields. A malformed value fails that one login, closed, and the message
//! names the field; nothing falls back to a default (Dovecot 2.3 takes the default port for a bad `port`, and so shows
//! passwords to the wrong service).

use crate::config::meant::{Backend, BackendTls};
use crate::failure::{Failure, Kind, Side};
use crate::users::{Answer, Checked};
use std::net::IpAddr;
use std::time::Duration;
use wire::dance::Secure;
use wire::origin::ForwardField;
use wire::sasl::PASSWORD_MAX;
use wire::secret::{Password, Secret};

/// Where to sign in, and how.
#[derive(Debug)]
pub struct Route {
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
    /// `proxy_timeout`: the one deadline.
    pub timeout: Duration,
    /// `proxy_nopipelining`.
    pub one_at_a_time: bool,
    /// Not `proxy_not_trusted`: the backend is told who is calling.
    pub introduce: bool,
    /// `forward_*`, without the prefix.
    pub forward: Vec<ForwardField>,
    /// Only where it is not this server (`proxy_maybe`).
    pub maybe: bool,
    /// The database that named it, for messages.
    pub database: String,
}

/// Fields that carry no routing and are for others to read: taken without effect and without a warning.
const NOT_OURS: &[&str] = &["user", "username", "domain", "original_user", "auth_user", "login_user", "password", "nopassword"];

/// Fields that decide over a login and that this version cannot follow: using one fails the login, so that nobody relies on it.
const NOT_YET: &[&str] = &["nologin", "source_ip", "proxy_mech", "proxy_noauth", "proxy_redirect_reauth", "delay_until"];

/// Makes the route. `default_ports` are the protocol's registered ports, in clear and with TLS from the first byte.
/// `unknown` is told each field that has no effect here (`nodelay`, `proxy_refresh`, a misspelling), to warn of it once.
///
/// # Errors
/// A [`Kind::Row`] failure that names the field: the login ends with "try later".
pub fn decide(
    answer: &Answer,
    backend: &Backend,
    default_ports: (u16, u16),
    unknown: &mut dyn FnMut(&str),
) -> Result<Route, Failure> {
    let row = Row { answer };
    let mut forward = Vec::new();
    for (name, value) in answer.fields.iter() {
        if let Some(key) = name.strip_prefix("forward_") {
            forward.push(row.forward(name, key, value)?);
        } else if NOT_YET.contains(&name) {
            return Err(row.bad(name, "is not supported in this version; take it out of the row or query"));
        } else if name.contains(':') {
            return Err(row.bad(name, "has a suffix that means nothing here: default_fields and override_fields say it already"));
        } else if !READ.contains(&name)
            && !NOT_OURS.contains(&name)
            && !["userdb_", "user_", "event_"].iter().any(|prefix| name.starts_with(prefix))
        {
            unknown(name);
        }
    }

    let maybe = row.flag("proxy_maybe");
    if !maybe && !row.flag("proxy") {
        return Err(
            row.bad("proxy", "is missing: the row must return proxy (or proxy_maybe) to say that the user lives elsewhere")
        );
    }
    let host = row.name("host")?.ok_or_else(|| row.bad("host", "is missing: the row must say where the mailbox lives"))?;
    let host_address = address_literal(&host);
    let hostip = match row.value("hostip") {
        Some(text) => Some(address_literal(text).ok_or_else(|| row.bad("hostip", format_args!("{text:?} is no IP address")))?),
        None => None,
    };
    if let (Some(a), Some(b)) = (host_address, hostip)
        && a != b
    {
        return Err(row.bad("hostip", format_args!("{b} contradicts host, which is the address {a}")));
    }
    let (secure, verify) = row.tls(backend)?;
    let port = match row.value("port") {
        Some(text) => text
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| row.bad("port", format_args!("{text:?} is no port (1 to 65535)")))?,
        None if secure == Secure::Implicit => default_ports.1,
        None => default_ports.0,
    };
    let timeout = match row.value("proxy_timeout") {
        Some(text) => interval(text).ok_or_else(|| {
            row.bad(
                "proxy_timeout",
                format_args!("{text:?} is no time: write seconds, or a number with ms, s, secs, m, mins or h, up to 1h"),
            )
        })?,
        None => backend.proxy_timeout,
    };
    let master = row.name("master")?;
    let pass = row.pass()?;
    if answer.checked == Checked::Nobody {
        // Nobody has checked the password: what the backend is given must then be the client's own, or everybody could be anybody.
        for (field, present) in [("pass", pass.is_some()), ("master", master.is_some())] {
            if present {
                return Err(row.bad(
                    field,
                    "together with nopassword would let in anybody with any password; return the user's password too, so that Gatepost checks it",
                ));
            }
        }
    }
    let user = row.name("destuser")?.unwrap_or_else(|| answer.user.clone());
    Ok(Route {
        address: hostip.or(host_address),
        host,
        port,
        secure,
        verify,
        user,
        master,
        pass,
        timeout,
        one_at_a_time: row.flag("proxy_nopipelining"),
        introduce: !row.flag("proxy_not_trusted"),
        forward,
        maybe,
        database: answer.database.clone(),
    })
}

/// Every field that [`decide`] reads by name.
const READ: &[&str] = &[
    "proxy",
    "proxy_maybe",
    "host",
    "hostip",
    "port",
    "ssl",
    "starttls",
    "proxy_timeout",
    "master",
    "pass",
    "destuser",
    "proxy_nopipelining",
    "proxy_not_trusted",
];

struct Row<'a> {
    answer: &'a Answer,
}

impl Row<'_> {
    fn bad(&self, field: &str, problem: impl std::fmt::Display) -> Failure {
        Failure::row(&self.answer.database, field, problem)
    }

    /// A boolean field is true when it is there, whatever it says.
    fn flag(&self, name: &str) -> bool {
        self.answer.fields.get(name).is_some()
    }

    fn value(&self, name: &str) -> Option<&str> {
        let value = self.answer.fields.get(name)?;
        // An empty port stands for none, as an empty host, destuser and master do. Any other empty value is malformed and says so.
        (!(value.is_empty() && name == "port")).then_some(value)
    }

    /// A name that goes onto a wire: empty means absent, control characters and excess are refused.
    fn name(&self, field: &str) -> Result<Option<String>, Failure> {
        match self.answer.fields.get(field) {
            None | Some("") => Ok(None),
            Some(value) if value.len() > 255 => Err(self.bad(field, "is longer than 255 octets")),
            Some(value) if value.chars().any(|c| c.is_control() || (field == "host" && c.is_whitespace())) => {
                Err(self.bad(field, format_args!("{value:?} holds a control character or space")))
            }
            Some(value) => Ok(Some(value.to_owned())),
        }
    }

    fn pass(&self) -> Result<Option<Password>, Failure> {
        let Some(pass) = self.answer.fields.get("pass") else { return Ok(None) };
        if pass.is_empty() || pass.len() > PASSWORD_MAX || pass.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(self.bad("pass", format_args!("is empty, longer than {PASSWORD_MAX} octets, or holds CR, LF or NUL")));
        }
        Ok(Some(Secret::new(pass.as_bytes().to_vec())))
    }

    fn tls(&self, backend: &Backend) -> Result<(Secure, bool), Failure> {
        // Both set: STARTTLS wins, as in Dovecot.
        for (field, secure) in [("starttls", Secure::StartTls), ("ssl", Secure::Implicit)] {
            match self.answer.fields.get(field) {
                None => {}
                Some("any-cert") => return Ok((secure, false)),
                // Any other value counts as yes, so a misspelt any-cert is the stricter one.
                Some(value) if value.chars().any(char::is_control) => {
                    return Err(self.bad(field, format_args!("{value:?}: write yes or any-cert")));
                }
                Some(_) => return Ok((secure, true)),
            }
        }
        // A pin checks more than any authority: with one, tls_verify = false only sets the authorities aside.
        let verify = backend.tls_verify || !backend.tls_pin.is_empty();
        let secure = match backend.tls {
            BackendTls::None => Secure::Never,
            BackendTls::StartTls => Secure::StartTls,
            BackendTls::Implicit => Secure::Implicit,
        };
        Ok((secure, verify))
    }

    fn forward(&self, field: &str, key: &str, value: &str) -> Result<ForwardField, Failure> {
        let fine = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !fine {
            return Err(self.bad(field, "the name behind forward_ may hold letters, digits, _, - and ."));
        }
        if value.len() > 1024 || value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(self.bad(field, "the value is longer than 1024 octets or holds CR, LF or NUL"));
        }
        Ok(ForwardField { name: key.to_owned(), value: value.to_owned() })
    }
}

/// An IP address, also in brackets.
fn address_literal(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// Dovecot's intervals: a bare number is seconds; 1 ms to 1 h.
fn interval(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1000,
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        _ => return None,
    };
    let millis = number.checked_mul(millis)?;
    (1..=3_600_000).contains(&millis).then(|| Duration::from_millis(millis))
}

/// A row whose destination is this server itself.
pub fn to_ourselves(route: &Route, at: std::net::SocketAddr) -> Failure {
    if route.maybe {
        Failure::row(
            &route.database,
            "proxy_maybe",
            format_args!("leads to this server itself ({at}), and no local backend can be configured in this version"),
        )
    } else {
        Failure::new(
            Side::Users,
            Kind::Loop,
            format!("users \"{}\": proxying loops to itself: host leads to {at}", route.database),
        )
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
