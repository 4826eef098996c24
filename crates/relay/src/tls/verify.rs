//! Whether a backend's certificate is acceptable, and why not.
//!
//! Three ways: by name against a set of issuers; by pin (SHA-256 of the SubjectPublicKeyInfo), where a match is enough
//! and no match is a failure whatever else holds; any certificate. In all three the handshake's signature is checked, so
//! the peer has the key of the certificate it shows.

use super::provider;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How a backend's certificate is judged.
#[derive(Debug)]
pub(super) enum Verify {
    /// Valid for the name, issued by one we know.
    Name(Arc<WebPkiServerVerifier>),
    /// One of these keys.
    Pins(Vec<[u8; 32]>),
    /// Anything.
    Any,
}

impl ServerCertVerifier for Verify {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self {
            Verify::Name(webpki) => {
                webpki.verify_server_cert(cert, intermediates, name, ocsp, now).map_err(|e| explained(e, cert, intermediates))
            }
            Verify::Pins(pins) => match pin_of(cert) {
                Some(pin) if pins.contains(&pin) => Ok(ServerCertVerified::assertion()),
                Some(pin) => Err(sentence(format!(
                    "the certificate's key is none of the pinned ones; its pin (SHA-256 of the public key) is {}",
                    hex(&pin)
                ))),
                None => Err(CertificateError::BadEncoding.into()),
            },
            Verify::Any => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Names for a log line: escaped, and no more than a handful.
pub(super) fn listed(names: &[String]) -> String {
    let mut text: Vec<String> = names.iter().take(8).map(|name| cut(name)).collect();
    if names.len() > 8 {
        text.push(format!("and {} more", names.len() - 8));
    }
    text.join(", ")
}

/// SHA-256 of the certificate's SubjectPublicKeyInfo.
pub(super) fn pin_of(cert: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    Some(Sha256::digest(cert.tbs_certificate.subject_pki.raw).into())
}

/// Adds to the verifier's verdict what an operator needs to know.
fn explained(error: Error, cert: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Error {
    match &error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            // The last certificate shown is the one whose issuer is missing.
            let top = intermediates.last().unwrap_or(cert);
            let Ok((_, top)) = X509Certificate::from_der(top) else { return error };
            let issuer = cut(&top.issuer().to_string());
            sentence(if intermediates.is_empty() && top.issuer() == top.subject() {
                format!("the certificate is self-signed ({issuer}); use its pin, or a CA file that has its issuer")
            } else {
                format!(
                    "the certificate's issuer is unknown: {issuer}; give its CA file, or have the peer send the intermediate certificates"
                )
            })
        }
        Error::InvalidCertificate(CertificateError::Other(other)) if other.to_string().contains("CaUsedAsEndEntity") => {
            sentence("the peer shows a CA certificate as its own (a self-signed one made without care?); use its pin".into())
        }
        _ => error,
    }
}

/// Text of a certificate, safe for a log line.
fn cut(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A whole sentence as a verdict.
#[derive(Debug)]
struct Sentence(String);

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Sentence {}

fn sentence(text: String) -> Error {
    CertificateError::Other(OtherError(Arc::new(Sentence(text)))).into()
}
