//! Single fields of a row: what a well-formed value is, and how a malformed one is told.

use super::Route;
use crate::config::meant::{Backend, BackendTls};
use crate::failure::Failure;
use crate::users::{Answer, Checked};
use std::net::IpAddr;
use std::time::Duration;
use wire::dance::Secure;
use wire::encode::is_invisible;
use wire::login::Mechanism;
use wire::origin::ForwardField;
use wire::sasl::PASSWORD_MAX;
use wire::secret::{Password, Secret};

/// The most `user_*` and `event_*` fields that are kept, and the longest value.
const NOTES_MAX: (usize, usize) = (16, 255);

/// A row, one field at a time.
pub(super) struct Row<'a> {
    pub(super) answer: &'a Answer,
}

impl Row<'_> {
    pub(super) fn bad(&self, field: &str, problem: impl std::fmt::Display) -> Failure {
        Failure::row(&self.answer.database, field, problem)
    }

    /// A boolean field is true when it is there, whatever it says.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.answer.fields.get(name).is_some()
    }

    /// A name that goes onto a wire: empty means absent, control characters and excess are refused.
    pub(super) fn name(&self, field: &str) -> Result<Option<String>, Failure> {
        match self.answer.fields.get(field) {
            None | Some("") => Ok(None),
            Some(value) if value.len() > 255 => Err(self.bad(field, "is longer than 255 octets")),
            Some(value) if value.chars().any(|c| is_invisible(c) || (field == "host" && c.is_whitespace())) => {
                Err(self.bad(field, format_args!("{value:?} holds a control character or space")))
            }
            Some(value) => Ok(Some(value.to_owned())),
        }
    }

    pub(super) fn address(&self, field: &str) -> Result<Option<IpAddr>, Failure> {
        let Some(text) = self.answer.fields.get(field) else { return Ok(None) };
        let usable = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        };
        match address_literal(text).filter(|ip| field != "source_ip" || usable(ip)) {
            Some(ip) => Ok(Some(ip)),
            None => Err(self.bad(field, format_args!("{text:?} is no IP address"))),
        }
    }

    /// An empty port stands for none, as an empty host, destuser and master do. Any other empty value is malformed.
    pub(super) fn port(&self) -> Result<Option<u16>, Failure> {
        match self.answer.fields.get("port") {
            None | Some("") => Ok(None),
            Some(text) => match text.parse() {
                Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(port)),
                _ => Err(self.bad("port", format_args!("{text:?} is no port (1 to 65535)"))),
            },
        }
    }

    pub(super) fn interval(&self, field: &str, shortest: Duration) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.answer.fields.get(field) else { return Ok(None) };
        match interval(text).filter(|time| *time >= shortest) {
            Some(time) => Ok(Some(time)),
            None => Err(self.bad(
                field,
                format_args!("{text:?} is no time: write seconds, or a number with ms, s, secs, m, mins or h, up to 1h"),
            )),
        }
    }

    pub(super) fn pass(&self) -> Result<Option<Password>, Failure> {
        let Some(pass) = self.answer.fields.get("pass") else { return Ok(None) };
        if pass.is_empty() || pass.len() > PASSWORD_MAX || pass.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(self.bad("pass", format_args!("is empty, longer than {PASSWORD_MAX} octets, or holds CR, LF or NUL")));
        }
        Ok(Some(Secret::new(pass.as_bytes().to_vec())))
    }

    /// `proxy_mech`: `%m` is what the client used itself.
    pub(super) fn mechanism(&self, used: Mechanism) -> Result<Option<Mechanism>, Failure> {
        let Some(text) = self.answer.fields.get("proxy_mech") else { return Ok(None) };
        match text.to_ascii_uppercase().as_str() {
            "PLAIN" => Ok(Some(Mechanism::Plain)),
            "LOGIN" => Ok(Some(Mechanism::Login)),
            "%M" | "%{MECH}" | "%{MECHANISM}" if used == Mechanism::Login => Ok(Some(Mechanism::Login)),
            "%M" | "%{MECH}" | "%{MECHANISM}" => Ok(Some(Mechanism::Plain)),
            "XOAUTH2" | "OAUTHBEARER" | "EXTERNAL" | "ANONYMOUS" | "CRAM-MD5" | "DIGEST-MD5" | "SCRAM-SHA-1"
            | "SCRAM-SHA-1-PLUS" | "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS" | "GSSAPI" | "GSS-SPNEGO" | "NTLM" => {
                Err(self
                    .bad("proxy_mech", format_args!("{text} comes with a later version; this one signs in by PLAIN and LOGIN")))
            }
            _ => Err(self.bad("proxy_mech", format_args!("{text:?} is no mechanism; this version knows PLAIN, LOGIN and %m"))),
        }
    }

    /// `protocol` of a row for delivery: `lmtp`, which goes without saying, or `smtp`.
    pub(super) fn speaks_smtp(&self) -> Result<bool, Failure> {
        match self.answer.fields.get("protocol") {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("lmtp") => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("smtp") => Ok(true),
            Some(text) => Err(self.bad("protocol", format_args!("{text:?} is neither lmtp nor smtp"))),
        }
    }

    /// When TLS begins, and whether the certificate is checked.
    pub(super) fn tls(&self, backend: &Backend) -> Result<(Secure, bool), Failure> {
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

    /// Words for the person who is refused, on one line.
    pub(super) fn reason(&self) -> Option<String> {
        self.answer.fields.get("reason").map(|text| wire::encode::one_line(text, 512)).filter(|text| !text.is_empty())
    }

    pub(super) fn forward(&self, field: &str, key: &str, value: &str) -> Result<ForwardField, Failure> {
        let fine = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !fine {
            return Err(self.bad(field, "the name behind forward_ may hold letters, digits, _, - and ."));
        }
        if value.len() > 1024 || value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(self.bad(field, "the value is longer than 1024 octets or holds CR, LF or NUL"));
        }
        Ok(ForwardField { name: key.to_owned(), value: value.to_owned() })
    }

    /// `user_*` and `event_*`: for the journal alone, so what is too much is left out and fails nothing.
    pub(super) fn note(&self, notes: &mut Vec<(Box<str>, Box<str>)>, name: &str, value: &str) {
        let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if word && notes.len() < NOTES_MAX.0 && name.len() <= 64 {
            let end = value.floor_char_boundary(NOTES_MAX.1);
            notes.push((name.into(), value.get(..end).unwrap_or_default().into()));
        }
    }

    /// What `nologin` has to say is for those who have shown that they are that user.
    pub(super) fn refuse_unchecked_nologin(&self) -> Result<(), Failure> {
        if self.answer.checked != Checked::Nobody {
            return Ok(());
        }
        Err(self.bad(
            "nologin",
            "together with nopassword would tell anybody who asks; return the user's password too, so that Gatepost checks it",
        ))
    }

    /// Nobody has checked the password: what the backend is given must then be the client's own, or everybody could be
    /// anybody.
    pub(super) fn refuse_unchecked(&self, route: &Route) -> Result<(), Failure> {
        for (field, present) in [
            ("pass", route.pass.is_some()),
            ("master", route.master.is_some()),
            ("proxy_noauth", route.noauth || self.flag("proxy_noauth")),
        ] {
            if present {
                return Err(self.bad(
                    field,
                    "together with nopassword would let in anybody with any password; return the user's password too, so that Gatepost checks it",
                ));
            }
        }
        Ok(())
    }
}

/// An IP address, also in brackets.
pub(super) fn address_literal(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// Dovecot's intervals: a bare number is seconds; up to 1 h.
pub(super) fn interval(text: &str) -> Option<Duration> {
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
    (millis <= 3_600_000).then(|| Duration::from_millis(millis))
}
