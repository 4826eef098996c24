//! TLS towards backends.
//!
//! One [`Connector`] per policy. By default the certificate must be valid for the name, against the system's issuers
//! (read once, shared) or a CA file; with pins, the key decides alone; with `verify` off any certificate will do.
//! Sessions resume from memory, per connector, so one policy's leniency never serves another.
//!
//! Promises: bytes read in clear behind the backend's agreement to STARTTLS fail the connection. Errors say what an
//! operator has to change: which names the certificate has, which issuer is missing, that the peer answered in plain text.
//! A pin is about the backend's own key: pins of issuers are not looked for.

use super::certs;
use super::stream::{FirstBytes, Peer, TlsStream, handshake};
use super::verify::{Verify, pin_of};
use super::{CertSource, TlsError, TlsFacts, facts, may_start, provider};
use crate::conn::Conn;
use bytes::BytesMut;
use rustls::RootCertStore;
use rustls::client::{ClientConfig, ClientConnection, Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Names whose sessions are remembered per connector.
const REMEMBERED: usize = 256;

/// How a backend's TLS is judged, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectPolicy {
    /// Check the certificate by name. Off means any certificate, unless there are pins.
    pub verify: bool,
    /// A PEM file of issuers to use instead of the system's.
    pub ca: Option<PathBuf>,
    /// SHA-256 of acceptable SubjectPublicKeyInfos; if any are given, a match is needed and enough.
    pub pins: Vec<[u8; 32]>,
    /// Our certificate, shown if the backend asks for one.
    pub client: Option<CertSource>,
    /// Application protocols to offer (RFC 7301); none by default, as few mail servers look at them.
    pub alpn: Vec<Vec<u8>>,
}

impl Default for ConnectPolicy {
    /// Checked by name against the system's issuers.
    fn default() -> Self {
        ConnectPolicy { verify: true, ca: None, pins: Vec::new(), client: None, alpn: Vec::new() }
    }
}

/// Starts TLS with backends. A clone is the same connector and shares its remembered sessions.
#[derive(Debug, Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// Reads the files the policy names.
    ///
    /// # Errors
    /// If a file cannot be read or used, or the system has no issuers at all; the text names the file and the fix.
    pub fn new(policy: ConnectPolicy) -> Result<Connector, TlsError> {
        let verify = if !policy.pins.is_empty() {
            Verify::Pins(policy.pins)
        } else if policy.verify {
            let roots = match &policy.ca {
                Some(path) => issuers_of(path)?,
                None => system_issuers()?,
            };
            let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|e| TlsError::config(format!("certificates cannot be checked: {e}")))?;
            Verify::Name(webpki)
        } else {
            Verify::Any
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::config(format!("TLS cannot be set up: {e}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verify));
        let mut config = match &policy.client {
            Some(source) => {
                let key = certs::read_pair(&source.cert, &source.key)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = policy.alpn;
        config.resumption = Resumption::in_memory_sessions(REMEMBERED);
        Ok(Connector { config: Arc::new(config) })
    }

    /// Performs the handshake. `name` is a DNS name, sent as server name, or an IP address literal; the certificate must be
    /// valid for it where names are checked. `early` is what has been read of the backend and not been used: it must be empty.
    ///
    /// The connection is consumed either way. The deadline is the caller's: dropping the future closes the connection.
    ///
    /// # Errors
    /// [`super::TlsErrorKind::AlreadyTls`], [`super::TlsErrorKind::EarlyBytes`], [`super::TlsErrorKind::Config`] for a name
    /// that cannot be one, or what the handshake brought.
    pub async fn connect(&self, conn: Conn, name: &str, early: &BytesMut) -> Result<(Conn, TlsFacts), TlsError> {
        may_start(&conn, early)?;
        let asked = ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned())
            .map_err(|_| TlsError::config(format!("\"{}\" is neither a host name nor an address", name.escape_debug())))?;
        let sni = match &asked {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let session = ClientConnection::new(self.config.clone(), asked)
            .map_err(|e| TlsError::config(format!("TLS cannot be started: {e}")))?;
        let mut session = rustls::Connection::from(session);
        handshake(&conn.socket, &mut session, &mut FirstBytes::of(Peer::Backend)).await?;
        let facts = facts(&session, sni);
        Ok((conn.under_tls(TlsStream::new(session)), facts))
    }
}

/// The pin of the key for which a PEM file of certificates stands: of its first one.
///
/// # Errors
/// The file cannot be read, or has no certificate.
pub fn pin_of_file(path: &Path) -> Result<[u8; 32], TlsError> {
    let name = path.display().to_string();
    let chain = certs::chain(&certs::read_file(path)?, &name)?;
    chain.first().and_then(pin_of).ok_or_else(|| TlsError::config(format!("{name}: its first certificate cannot be read")))
}

fn issuers_of(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certs::chain(&certs::read_file(path)?, &path.display().to_string())? {
        roots
            .add(cert)
            .map_err(|e| TlsError::config(format!("{}: a certificate in it is no CA certificate: {e}", path.display())))?;
    }
    Ok(Arc::new(roots))
}

/// The system's issuers, read at the first need. Only a success is remembered.
fn system_issuers() -> Result<Arc<RootCertStore>, TlsError> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = SYSTEM.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        return Err(TlsError::config(format!(
            "the system has no CA certificates{why}; install its ca-certificates package, or give a CA file or a pin"
        )));
    }
    Ok(SYSTEM.get_or_init(|| Arc::new(roots)).clone())
}
