//! A throw-away certificate authority, for TLS tests without fixed keys and without a program to make them.
//!
//! Every certificate is written as PEM into the directory of its authority, because the servers under test read files,
//! and kept as rustls values, because the peers in this crate do not. Two authorities know nothing of each other: the
//! second one plays "signed by a stranger".

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate authority with a directory.
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// What to put into a certificate; see [`Authority::issue`].
#[derive(Clone, Debug)]
pub struct Request {
    /// Host names and IP addresses of the subject; the first is also its common name. A client certificate may have a
    /// user's name here.
    pub names: Vec<String>,
    /// The kind of key.
    pub key: Key,
    /// When it is valid.
    pub validity: Validity,
    /// Who shows it.
    pub role: Role,
}

/// Kinds of keys that mail servers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// P-256: quick to make, the default.
    Ecdsa,
    /// RSA with 2048 bits, which old mail clients insist on.
    Rsa,
}

/// Validity of a certificate, relative to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Since yesterday and for two more days.
    Now,
    /// It ended yesterday.
    Expired,
    /// It begins tomorrow.
    NotYet,
}

/// Which side of a connection shows the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server.
    Server,
    /// A client that proves who it is.
    Client,
}

impl Default for Request {
    /// A valid ECDSA server certificate for `localhost`, `127.0.0.1` and `::1`.
    fn default() -> Request {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        Request { names, key: Key::Ecdsa, validity: Validity::Now, role: Role::Server }
    }
}

/// A certificate with its key, as files and as values.
#[derive(Clone)]
pub struct Certificate {
    /// PEM file with the certificate (and nothing else: the authority signs directly).
    pub cert_file: PathBuf,
    /// PEM file with the key in PKCS #8, readable by its owner only.
    pub key_file: PathBuf,
    /// PEM file with the certificate of whoever signed it; its own when self-signed.
    pub ca_file: PathBuf,
    cert: CertificateDer<'static>,
    key: Vec<u8>,
    root: CertificateDer<'static>,
}

impl Authority {
    /// Makes an authority that writes into `dir`, beginning with its own certificate as `NAME-ca.pem`.
    #[track_caller]
    pub fn new(dir: impl Into<PathBuf>, name: &str) -> Authority {
        let dir = dir.into();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        limit(&mut params, Validity::Now);
        let key = new_key(Key::Ecdsa);
        let certificate = params.self_signed(&key).unwrap_or_else(|e| panic!("cannot make the authority {name}: {e}"));
        let authority =
            Authority { name: name.to_owned(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key), dir };
        write(&authority.ca_file(), &certificate.pem());
        authority
    }

    /// PEM file with the authority's own certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join(format!("{}-ca.pem", self.name))
    }

    /// Makes a certificate and writes `STEM.pem` and `STEM.key`.
    #[track_caller]
    pub fn issue(&self, stem: &str, request: &Request) -> Certificate {
        let key = new_key(request.key);
        let made = params(request).signed_by(&key, &self.issuer);
        let made = made.unwrap_or_else(|e| panic!("cannot make the certificate {stem}: {e}"));
        Certificate::store(&self.dir, stem, &made, &key, (self.ca_file(), self.certificate.clone()))
    }

    /// A valid server certificate for these names, as `STEM.pem` and `STEM.key`.
    #[track_caller]
    pub fn server(&self, stem: &str, names: &[&str]) -> Certificate {
        self.issue(stem, &Request { names: names.iter().map(|&n| n.to_owned()).collect(), ..Request::default() })
    }

    /// TLS for a client that trusts this authority only.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        client_config(&self.certificate, None)
    }

    /// TLS for a server that shows `own` and lets in only clients with a certificate of this authority.
    pub fn server_config_requiring(&self, own: &Certificate) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&self.certificate)), provider()).build();
        let verifier = verifier.unwrap_or_else(|e| panic!("unusable authority: {e}"));
        let config =
            builder!(ServerConfig).with_client_cert_verifier(verifier).with_single_cert(vec![own.cert.clone()], own.key());
        Arc::new(config.unwrap_or_else(|e| panic!("unusable server certificate: {e}")))
    }

    /// TLS for a client that trusts this authority only and shows a certificate.
    pub fn client_config_showing(&self, identity: &Certificate) -> Arc<ClientConfig> {
        client_config(&self.certificate, Some(identity))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Certificate {
    /// A certificate that signs itself, which no client trusts unless told to.
    #[track_caller]
    pub fn self_signed(dir: &Path, stem: &str, request: &Request) -> Certificate {
        let key = new_key(request.key);
        let made = params(request).self_signed(&key).unwrap_or_else(|e| panic!("cannot make the certificate {stem}: {e}"));
        let root = (dir.join(format!("{stem}.pem")), made.der().clone());
        Certificate::store(dir, stem, &made, &key, root)
    }

    /// TLS for a server that shows this certificate to everybody.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let versions = builder!(ServerConfig);
        let config = versions.with_no_client_auth().with_single_cert(vec![self.cert.clone()], self.key());
        Arc::new(config.unwrap_or_else(|e| panic!("unusable server certificate: {e}")))
    }

    /// TLS for a client that trusts whoever signed this certificate.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        client_config(&self.root, None)
    }

    /// The certificate in DER, for fingerprints.
    pub fn der(&self) -> &[u8] {
        &self.cert
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    fn store(dir: &Path, stem: &str, made: &rcgen::Certificate, key: &KeyPair, root: (PathBuf, CertificateDer<'static>)) -> Self {
        let (cert_file, key_file) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        write(&cert_file, &made.pem());
        write_private(&key_file, &key.serialize_pem());
        Certificate { cert_file, key_file, ca_file: root.0, cert: made.der().clone(), key: key.serialize_der(), root: root.1 }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}

/// The provider is named each time: a process that also links another one has no default.
macro_rules! builder {
    ($config:ty) => {
        <$config>::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|e| panic!("no TLS: {e}"))
    };
}
use builder;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(root: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap_or_else(|e| panic!("unusable authority: {e}"));
    roots
}

fn client_config(root: &CertificateDer<'static>, identity: Option<&Certificate>) -> Arc<ClientConfig> {
    let client = builder!(ClientConfig).with_root_certificates(roots(root));
    Arc::new(match identity {
        None => client.with_no_client_auth(),
        Some(own) => match client.with_client_auth_cert(vec![own.cert.clone()], own.key()) {
            Ok(config) => config,
            Err(e) => panic!("unusable client certificate: {e}"),
        },
    })
}

fn params(request: &Request) -> CertificateParams {
    let mut params = CertificateParams::default();
    for name in &request.names {
        let san = match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if name.contains('@') => SanType::Rfc822Name(ia5(name)),
            Err(_) => SanType::DnsName(ia5(name)),
        };
        params.subject_alt_names.push(san);
    }
    if let Some(first) = request.names.first() {
        params.distinguished_name.push(DnType::CommonName, first);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match request.role {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    limit(&mut params, request.validity);
    params
}

fn ia5(name: &str) -> rcgen::string::Ia5String {
    name.try_into().unwrap_or_else(|e| panic!("{name:?} cannot stand in a certificate: {e}"))
}

fn limit(params: &mut CertificateParams, validity: Validity) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970");
    let (from, to) = match validity {
        Validity::Now => (now - DAY, now + 2 * DAY),
        Validity::Expired => (now - 3 * DAY, now - DAY),
        Validity::NotYet => (now + DAY, now + 3 * DAY),
    };
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + from;
    params.not_after = epoch + to;
}

const DAY: Duration = Duration::from_secs(86_400);

fn new_key(kind: Key) -> KeyPair {
    let made = match kind {
        Key::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        Key::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    };
    made.unwrap_or_else(|e| panic!("cannot make a key: {e}"))
}

fn write(path: &Path, pem: &str) {
    fs::write(path, pem).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}

fn write_private(path: &Path, pem: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(pem.as_bytes()));
    written.unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}
