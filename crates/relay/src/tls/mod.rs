//! TLS 1.2 and 1.3 on rustls (RFC 5246, RFC 8446), for both sides of the proxy.
//!
//! - [`acceptor`]: clients. Certificates by server name and by what the client can verify, reread when the files change.
//! - [`connector`]: backends. By name, by own CA, by pin, or any certificate; client certificate; resumption.
//! - `stream`: moving bytes once the session stands.
//!
//! Promises: older versions, renegotiation and early data do not exist; the cryptography is passed explicitly, never the
//! process default; nothing that was read in clear is used after the switch: with unread bytes there is no switch.
//! The policy for backends is the same as for clients.

pub mod acceptor;
pub(crate) mod certs;
pub mod connector;
pub(crate) mod stream;
mod verify;

pub use certs::CertFacts;

use crate::conn::Conn;
use acceptor::CertSource;
use bytes::BytesMut;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, Error, HandshakeKind, InvalidMessage, PeerIncompatible, ProtocolVersion,
};
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use stream::FirstBytes;

/// What kind of trouble; [`TlsError`] has the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsErrorKind {
    /// A file, or an option, is not usable: configuration.
    Config,
    /// The connection is under TLS already.
    AlreadyTls,
    /// Bytes came in clear behind the command that starts TLS.
    EarlyBytes,
    /// The peer offered application protocols (RFC 7301) and none of ours.
    Alpn,
    /// The peer does not speak TLS.
    NotTls,
    /// The peer speaks only versions older than TLS 1.2.
    OldVersion,
    /// The peer's certificate is not acceptable.
    Certificate,
    /// The handshake failed otherwise.
    Handshake,
    /// The peer closed before the handshake was complete.
    Closed,
    /// The connection broke.
    Io,
}

impl TlsErrorKind {
    /// A fixed name for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsErrorKind::Config => "tls-config",
            TlsErrorKind::AlreadyTls => "tls-twice",
            TlsErrorKind::EarlyBytes => "tls-early-bytes",
            TlsErrorKind::Alpn => "tls-alpn",
            TlsErrorKind::NotTls => "not-tls",
            TlsErrorKind::OldVersion => "tls-version",
            TlsErrorKind::Certificate => "tls-certificate",
            TlsErrorKind::Handshake => "tls-handshake",
            TlsErrorKind::Closed => "tls-closed",
            TlsErrorKind::Io => "tls-io",
        }
    }
}

/// Why there is no TLS session, for a person to read. What it quotes of the peer is escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// What kind of trouble.
    pub kind: TlsErrorKind,
    /// What happened and, where we know it, what would help.
    pub detail: String,
}

impl TlsError {
    pub(crate) fn new(kind: TlsErrorKind, detail: impl Into<String>) -> TlsError {
        TlsError { kind, detail: detail.into() }
    }

    pub(crate) fn config(detail: impl Into<String>) -> TlsError {
        TlsError::new(TlsErrorKind::Config, detail)
    }

    pub(crate) fn io(e: io::Error) -> TlsError {
        TlsError::new(TlsErrorKind::Io, format!("the connection broke in the handshake: {e}"))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for TlsError {}

/// What was agreed in a handshake, for logs and for telling the next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The IANA name of the cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// Key bits of the cipher: 128 or 256.
    pub bits: u16,
    /// The server name the client asked for (acceptor) or we asked for (connector); a valid DNS name of at most 253 octets.
    pub sni: Option<String>,
    /// The application protocol agreed on.
    pub alpn: Option<String>,
    /// Whether an earlier session was resumed, so no certificate was shown.
    pub resumed: bool,
}

/// Our cryptography: aws-lc, with AES-128-GCM before AES-256-GCM (as safe, and cheaper per octet).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            use aws_lc_rs::cipher_suite as suite;
            Arc::new(CryptoProvider {
                cipher_suites: vec![
                    suite::TLS13_AES_128_GCM_SHA256,
                    suite::TLS13_AES_256_GCM_SHA384,
                    suite::TLS13_CHACHA20_POLY1305_SHA256,
                    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                ],
                ..aws_lc_rs::default_provider()
            })
        })
        .clone()
}

/// The gate before every switch: a clear connection, and not one byte read beyond the command that starts TLS.
fn may_start(conn: &Conn, early: &BytesMut) -> Result<(), TlsError> {
    if conn.is_tls() {
        return Err(TlsError::new(TlsErrorKind::AlreadyTls, "the connection is under TLS already"));
    }
    if !early.is_empty() {
        return Err(TlsError::new(
            TlsErrorKind::EarlyBytes,
            format!(
                "{} octets came in clear behind the command that starts TLS; refused, they may have been injected",
                early.len()
            ),
        ));
    }
    Ok(())
}

fn facts(session: &rustls::Connection, sni: Option<String>) -> TlsFacts {
    let (cipher, bits) = session.negotiated_cipher_suite().map_or(("unknown", 0), |suite| cipher_name(suite.suite()));
    TlsFacts {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        },
        cipher,
        bits,
        sni,
        alpn: session.alpn_protocol().map(|name| name.escape_ascii().to_string()),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// Only suites of [`provider`] can be agreed on.
fn cipher_name(suite: CipherSuite) -> (&'static str, u16) {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => ("TLS_AES_128_GCM_SHA256", 128),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => ("TLS_AES_256_GCM_SHA384", 256),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => ("TLS_CHACHA20_POLY1305_SHA256", 256),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 128),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 128),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 256),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 256),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 256),
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 256),
        _ => ("unknown", 0),
    }
}

/// Turns a failed handshake into words an operator can act on.
fn describe(error: &Error, first: &FirstBytes) -> TlsError {
    let (kind, detail) = match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            return first.no_tls();
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // Born with TLS 1.2 (RFC 5246 7.4.1.4.1): clients that are older do not send it, and this is asked before the
            // version.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            (TlsErrorKind::OldVersion, "the peer offers only TLS 1.0 or 1.1; TLS 1.2 or 1.3 is needed".into())
        }
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            (TlsErrorKind::Alpn, "no application protocol (ALPN) in common with the peer".into())
        }
        Error::InvalidCertificate(problem) => (TlsErrorKind::Certificate, certificate_problem(problem)),
        Error::NoCertificatesPresented => (TlsErrorKind::Certificate, "the peer showed no certificate".into()),
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired),
        ) => (TlsErrorKind::Certificate, format!("the peer does not accept our certificate (its alert: {alert:?})")),
        Error::AlertReceived(alert) => {
            (TlsErrorKind::Handshake, format!("the peer refused the handshake (its alert: {alert:?})"))
        }
        other => (TlsErrorKind::Handshake, format!("the handshake failed: {other}")),
    };
    TlsError::new(kind, detail)
}

fn certificate_problem(problem: &CertificateError) -> String {
    match problem {
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "no name at all".into() } else { verify::listed(presented) };
            format!("the certificate is not for {}, but for {names}", expected.to_str())
        }
        CertificateError::ExpiredContext { time, not_after } => {
            format!("the certificate expired {} ago", days(time.as_secs().saturating_sub(not_after.as_secs())))
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate is valid only in {} (is the clock of this machine right?)",
            days(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        // Our own verifier speaks in whole sentences.
        CertificateError::Other(other) => other.to_string(),
        other => format!("the certificate is not acceptable: {other}"),
    }
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => "less than a day".into(),
        1 => "1 day".into(),
        n => format!("{n} days"),
    }
}
