//! `[backend]`: how backends are reached where a row does not say otherwise.

use super::local::local;
use super::source_ips::source_ips;
use crate::config::kinds;
use crate::config::meant::{Backend, BackendProxy, BackendTls, Certificate, Listen, SubmissionLogin};
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use crate::config::written::What;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use wire::dance::IdentityRefused;

/// `tls`.
pub(in super::super) const TLS: &[(&str, BackendTls)] =
    &[("none", BackendTls::None), ("starttls", BackendTls::StartTls), ("implicit", BackendTls::Implicit)];

/// `proxy_protocol`.
pub(in super::super) const PROXY: &[(&str, BackendProxy)] =
    &[("off", BackendProxy::Off), ("v1", BackendProxy::V1), ("v2", BackendProxy::V2)];
/// `identity_refused`.
pub(in super::super) const REFUSED: &[(&str, IdentityRefused)] =
    &[("fail", IdentityRefused::Fail), ("continue", IdentityRefused::Continue)];

/// `submission_login`.
pub(in super::super) const LOGIN: &[(&str, SubmissionLogin)] =
    &[("password", SubmissionLogin::Password), ("xclient", SubmissionLogin::Xclient)];

const LATER: &[&str] = &["proxy_mech"];
const LONGEST: Duration = Duration::from_secs(600);

/// The meaning; `listen` is where clients come in.
pub(super) fn read(r: &mut Reading<'_>, section: &mut Section, listen: &[Listen]) -> Backend {
    let default = default_backend();
    let tls = section.read_or(r, "tls", tls_word, default.tls);
    let verify = section.read(r, "tls_verify", kinds::boolean);
    let tls_ca = section.read(r, "tls_ca", kinds::file).map(|told| told.value);
    let pins = section.read(r, "tls_pin", kinds::one_or_many(pin)).map(|told| told.value).unwrap_or_default();
    let tls_pin: Vec<[u8; 32]> = pins.into_iter().map(|told| told.value).collect();
    if let Some(verify) = verify.as_ref().filter(|verify| !verify.value)
        && tls_pin.is_empty()
    {
        let text = "with `backend.tls_verify = false` whoever stands between here and a backend can read passwords";
        r.warning(verify.at, "tls", text, "name the backends' CA with `tls_ca`, or their keys with `tls_pin`");
    }
    let tls_client = client_certificate(r, section);
    let proxy_timeout = section.read(r, "proxy_timeout", kinds::duration(Duration::from_secs(1)..=LONGEST, ""));
    let connect_timeout = section.read(r, "connect_timeout", kinds::duration(Duration::from_millis(100)..=LONGEST, ""));
    if let (deadline, Some(connect)) = (proxy_timeout.as_ref().map_or(default.proxy_timeout, |told| told.value), &connect_timeout)
        && connect.value > deadline
    {
        let text = "`backend.connect_timeout` is longer than `backend.proxy_timeout`, which it is a part of";
        r.error_fix(connect.at, "conflict", text, "make it shorter; it is for one attempt of several");
    }
    // A short deadline alone is no mistake: it shortens the attempts too.
    let proxy_timeout = proxy_timeout.map_or(default.proxy_timeout, |told| told.value);
    let connect_timeout = connect_timeout.map_or(default.connect_timeout, |told| told.value).min(proxy_timeout);
    let self_addresses = section.read(r, "self_addresses", kinds::many(address)).map(|told| told.value).unwrap_or_default();
    let source_ips = section.read_or(r, "source_ips", source_ips, default.source_ips);
    let local = section.read_or(r, "local", local(listen), default.local);
    let spread = kinds::duration(Duration::ZERO..=LONGEST, "");
    let disconnect_spread = section.read_or(r, "disconnect_spread", spread, default.disconnect_spread);
    let proxy_protocol = section.read_or(r, "proxy_protocol", kinds::word(PROXY), default.proxy_protocol);
    let identity_refused = section.read_or(r, "identity_refused", kinds::word(REFUSED), default.identity_refused);
    let submission_login = section.read_or(r, "submission_login", kinds::word(LOGIN), default.submission_login);
    section.later(r, LATER);
    Backend {
        tls,
        tls_verify: verify.is_none_or(|told| told.value),
        tls_ca,
        tls_pin,
        tls_client,
        proxy_timeout,
        connect_timeout,
        self_addresses: self_addresses.into_iter().map(|told| told.value).collect(),
        source_ips,
        local,
        disconnect_spread,
        proxy_protocol,
        identity_refused,
        submission_login,
    }
}

/// The defaults.
pub(crate) fn default_backend() -> Backend {
    Backend {
        tls: BackendTls::None,
        tls_verify: true,
        tls_ca: None,
        tls_pin: Vec::new(),
        tls_client: None,
        proxy_timeout: Duration::from_secs(30),
        connect_timeout: Duration::from_secs(5),
        self_addresses: Vec::new(),
        source_ips: Vec::new(),
        local: BTreeMap::new(),
        disconnect_spread: Duration::ZERO,
        proxy_protocol: BackendProxy::Off,
        identity_refused: IdentityRefused::Fail,
        submission_login: SubmissionLogin::Password,
    }
}

/// The words of rows have no place here; whoever writes them is told ours.
fn tls_word(r: &mut Reading<'_>, item: &Item<'_>) -> Option<BackendTls> {
    if let What::Text(text) = &item.value.what {
        let ours = match text.as_str() {
            "yes" | "y" | "ssl" | "tls" => Some("tls = \"implicit\""),
            "any-cert" => Some("tls = \"implicit\" or \"starttls\", with tls_verify = false"),
            "no" | "n" | "off" => Some("tls = \"none\""),
            _ => None,
        };
        if let Some(ours) = ours {
            let text = format!("`{}` cannot be {}", item.name, shown(text));
            r.error_fix(item.value.at, "value", text, format!("that is a row's word; here it is {ours}"));
            return None;
        }
    }
    kinds::word(TLS)(r, item)
}

fn client_certificate(r: &mut Reading<'_>, section: &mut Section) -> Option<Certificate> {
    let (has_cert, has_key) = (section.has("tls_client_cert"), section.has("tls_client_key"));
    let cert = section.read(r, "tls_client_cert", kinds::file);
    let key = section.read(r, "tls_client_key", kinds::key_file);
    if has_cert != has_key {
        let (there, missing) =
            if has_cert { ("tls_client_cert", "tls_client_key") } else { ("tls_client_key", "tls_client_cert") };
        let at = cert.as_ref().or(key.as_ref()).map_or(section.at, |told| told.at);
        r.error_fix(at, "missing", format!("`backend.{there}` needs `backend.{missing}`"), format!("{missing} = \"...\""));
    }
    Some(Certificate { cert: cert?.value, key: key?.value })
}

/// SHA-256 of a public key in base64 (RFC 7469 section 2.4), also as curl writes it, `sha256//...`.
fn pin(r: &mut Reading<'_>, item: &Item<'_>) -> Option<[u8; 32]> {
    let text = kinds::line(r, item)?;
    let bare = text.strip_prefix("sha256//").unwrap_or(&text);
    if let Some(pin) = STANDARD.decode(bare).ok().and_then(|octets| <[u8; 32]>::try_from(octets).ok()) {
        return Some(pin);
    }
    let hex =
        bare.bytes().filter(u8::is_ascii_hexdigit).count() == 64 && bare.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    let why = if hex {
        "is a fingerprint in hexadecimal; a pin is of the public key alone, in base64"
    } else {
        "is no SHA-256 in base64 (44 characters)"
    };
    r.error_fix(
        item.value.at,
        "value",
        format!("`{}`: {} {why}", item.name, shown(&text)),
        "openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
    );
    None
}

fn address(r: &mut Reading<'_>, item: &Item<'_>) -> Option<IpAddr> {
    let text = kinds::line(r, item)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let text = format!("`{}`: {} is no address", item.name, shown(&text));
        r.error_fix(item.value.at, "value", text, "write \"192.0.2.1\" or \"2001:db8::1\", without a port");
        return None;
    };
    Some(address.to_canonical())
}
