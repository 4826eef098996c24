//! Certificates and keys: reading them from PEM, proving that they belong together, and choosing one for a client.
//!
//! Choice: the exact name, then a wildcard for the name's parent, then the default (the first given). Several
//! certificates may have the same name, usually one RSA and one ECDSA; then the client's signature schemes decide and
//! ECDSA goes first, because signing with it is about ten times cheaper. The name a client asks for is a key into the
//! table of loaded names and nothing else: nothing is stored for names we do not have.

use super::{TlsError, provider};
use rustls::SignatureAlgorithm;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureScheme};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// No certificate chain, key or CA bundle is larger.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// The certificates a listener serves.
#[derive(Debug)]
pub(crate) struct Certs {
    all: Vec<Arc<CertifiedKey>>,
    /// Indices into `all`, by lower-case name; a wildcard is stored under its parent with a leading dot.
    by_name: HashMap<String, Vec<usize>>,
    /// The first certificate and those with exactly the same names.
    default: Vec<usize>,
    /// What is told of each of `all`.
    facts: Vec<CertFacts>,
}

/// What an operator asks of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFacts {
    /// Its file; none where it came as text.
    pub file: Option<PathBuf>,
    /// The first of its names in alphabetical order; none where it has none.
    pub name: Option<String>,
    /// When it ends, seconds since 1970; none where that cannot be read.
    pub not_after: Option<i64>,
}

/// What a client of today signs with.
const EVERY_KIND: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];

impl Certs {
    /// Builds the table; the first key is the default.
    pub(crate) fn new(keys: Vec<Arc<CertifiedKey>>) -> Result<Certs, TlsError> {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut default = Vec::new();
        let mut first_names: Option<Vec<String>> = None;
        let mut facts = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            let mut names = key.cert.first().map(|cert| names_of(cert)).unwrap_or_default();
            names.sort_unstable();
            names.dedup();
            for name in &names {
                let name = name.strip_prefix('*').unwrap_or(name);
                by_name.entry(name.to_owned()).or_default().push(index);
            }
            let not_after = key.cert.first().and_then(|cert| not_after(cert));
            facts.push(CertFacts { file: None, name: names.first().cloned(), not_after });
            if *first_names.get_or_insert_with(|| names.clone()) == names {
                default.push(index);
            }
        }
        if default.is_empty() {
            return Err(TlsError::config("no certificate is configured; TLS needs at least one pair of cert and key"));
        }
        Ok(Certs { all: keys, by_name, default, facts })
    }

    /// What is told of each, in the order given.
    pub(crate) fn facts(&self) -> &[CertFacts] {
        &self.facts
    }

    /// The certificate for a client.
    pub(crate) fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.select(hello.server_name(), hello.signature_schemes())
    }

    fn select(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let candidates = name.and_then(|name| self.named(name)).unwrap_or(&self.default);
        let usable =
            || candidates.iter().filter_map(|&index| self.all.get(index)).filter(|key| key.key.choose_scheme(schemes).is_some());
        usable()
            .find(|key| key.key.algorithm() != SignatureAlgorithm::RSA)
            .or_else(|| usable().next())
            // No key suits: hand out the first, so the client hears of missing signature schemes, not of a missing name.
            .or_else(|| candidates.first().and_then(|&index| self.all.get(index)))
            .cloned()
    }

    /// The choice for a client that takes every kind of key: which one it is, and the names in it.
    pub(crate) fn shown_for(&self, name: Option<&str>) -> Option<(usize, Vec<String>)> {
        let chosen = self.select(name, EVERY_KIND)?;
        let index = self.all.iter().position(|key| Arc::ptr_eq(key, &chosen))?;
        Some((index, chosen.cert.first().map(|cert| names_of(cert)).unwrap_or_default()))
    }

    fn named(&self, name: &str) -> Option<&Vec<usize>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| self.by_name.get(name.get(name.find('.')?..)?))
    }
}

/// Reads a certificate and its key from files.
pub(crate) fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    pair(&read_file(cert)?, &read_file(key)?, &cert.display().to_string(), &key.display().to_string())
}

/// Makes a key with its certificate from PEM and proves that they belong together. The names are for the errors.
pub(crate) fn pair(cert_pem: &[u8], key_pem: &[u8], cert_name: &str, key_name: &str) -> Result<CertifiedKey, TlsError> {
    let chain = chain(cert_pem, cert_name)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| no_key(key_pem, key_name, &e))?;
    let key = provider().key_provider.load_private_key(key).map_err(|e| {
        TlsError::config(format!(
            "{key_name}: the private key is of a kind TLS cannot use ({e}); use RSA of 2048 bits or more, P-256, P-384 or Ed25519"
        ))
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(TlsError::config(format!(
            "{key_name}: this key does not belong to the certificate in {cert_name}; \
             the server's own certificate must come first in that file, before the intermediate ones"
        ))),
        Err(e) => Err(TlsError::config(format!("{cert_name}: the certificate cannot be used: {e}"))),
    }
}

/// All certificates of a PEM text; at least one.
pub(crate) fn chain(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::config(format!("{name}: damaged PEM: {e}")))?;
    if chain.is_empty() {
        let hint = if contains(pem, b"PRIVATE KEY-----") { "; it holds a private key: are cert and key exchanged?" } else { "" };
        return Err(TlsError::config(format!("{name}: no certificate in it (no \"BEGIN CERTIFICATE\" line){hint}")));
    }
    Ok(chain)
}

/// Reads a file whole, refusing what is too large to be meant.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(TlsError::config(format!("{}: permission denied; let the service's user or group read it", path.display())))
        }
        Err(e) => Err(TlsError::config(format!("{}: {e}", path.display()))),
        Ok(n) if n as u64 > LARGEST_FILE => {
            Err(TlsError::config(format!("{}: larger than {LARGEST_FILE} octets, so not a certificate or key", path.display())))
        }
        Ok(_) => Ok(bytes),
    }
}

fn no_key(pem: &[u8], name: &str, error: &rustls::pki_types::pem::Error) -> TlsError {
    let detail = if contains(pem, b"ENCRYPTED") {
        format!("{name}: the private key is encrypted; write it without a passphrase: openssl pkey -in OLD -out NEW")
    } else if contains(pem, b"BEGIN CERTIFICATE") {
        format!("{name}: no private key in it, but a certificate: are cert and key exchanged?")
    } else {
        format!("{name}: no private key in it: {error}")
    };
    TlsError::config(detail)
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

/// The DNS names of a certificate in lower case; the common name only where there are no alternative names at all.
pub(crate) fn names_of(cert: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, cert)) = X509Certificate::from_der(cert) else { return Vec::new() };
    if let Ok(Some(alternatives)) = cert.subject_alternative_name() {
        return alternatives
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
    }
    cert.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).map(str::to_ascii_lowercase).collect()
}

/// When a certificate ends, seconds since 1970.
fn not_after(cert: &CertificateDer<'_>) -> Option<i64> {
    X509Certificate::from_der(cert).ok().map(|(_, cert)| cert.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn certified(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<CertifiedKey> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let cert = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Arc::new(pair(cert.pem().as_bytes(), key.serialize_pem().as_bytes(), "cert.pem", "key.pem").unwrap())
    }

    #[test]
    fn names_and_ends_are_told_in_order() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["b.example".to_owned(), "a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 3, 1);
        let cert = params.self_signed(&key).unwrap();
        let dated = pair(cert.pem().as_bytes(), key.serialize_pem().as_bytes(), "cert.pem", "key.pem").unwrap();
        let certs = Certs::new(vec![Arc::new(dated), certified(&[], &rcgen::PKCS_ECDSA_P256_SHA256)]).unwrap();
        let [first, second] = certs.facts() else { panic!("{:?}", certs.facts()) };
        assert_eq!((first.name.as_deref(), first.not_after), (Some("a.example"), Some(1_930_089_600)));
        assert!(second.not_after.is_some() && first.file.is_none());
    }

    #[test]
    fn names_choose_exact_then_wildcard_then_default() {
        let ec = &rcgen::PKCS_ECDSA_P256_SHA256;
        let certs = Certs::new(vec![
            certified(&["default.example"], ec),
            certified(&["*.example.org"], ec),
            certified(&["Mail.Example.ORG", "mail.example.net"], ec),
        ])
        .unwrap();
        let long = "a".repeat(300);
        for (name, expected) in [
            (None, 0),
            (Some("default.example"), 0),
            (Some("mail.example.org"), 2),
            (Some("MAIL.example.org"), 2),
            (Some("mail.example.org."), 2),
            (Some("imap.example.org"), 1),
            (Some("a.imap.example.org"), 0),
            (Some("example.org"), 0),
            (Some(".example.org"), 1),
            (Some("nobody.example"), 0),
            (Some(""), 0),
            (Some("."), 0),
            (Some("..\\"), 0),
            (Some(long.as_str()), 0),
        ] {
            let chosen = certs.select(name, &[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
            assert!(Arc::ptr_eq(&chosen, &certs.all[expected]), "{name:?}");
            assert_eq!(certs.shown_for(name).unwrap().0, expected, "{name:?}");
        }
    }

    #[test]
    fn the_client_s_schemes_choose_between_rsa_and_ecdsa() {
        let rsa = certified(&["mail.example"], &rcgen::PKCS_RSA_SHA256);
        let ecdsa = certified(&["mail.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let certs = Certs::new(vec![rsa, ecdsa]).unwrap();
        let (r, e) = (SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256);
        for (name, schemes, expected) in [
            (Some("mail.example"), &[r, e][..], 1),
            (Some("mail.example"), &[r], 0),
            (Some("mail.example"), &[e], 1),
            (None, &[r], 0),
            (None, &[r, e], 1),
            (Some("mail.example"), &[], 0),
        ] {
            let chosen = certs.select(name, schemes).unwrap();
            assert!(Arc::ptr_eq(&chosen, &certs.all[expected]), "{name:?} {schemes:?}");
        }
    }

    #[test]
    fn errors_name_the_file_and_the_fix() {
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let cert = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let check = |cert: &str, key: &str, said: &[&str]| {
            let error = pair(cert.as_bytes(), key.as_bytes(), "c.pem", "k.pem").unwrap_err();
            assert_eq!(error.kind, super::super::TlsErrorKind::Config);
            for words in said {
                assert!(error.detail.contains(words), "{words:?} is missing in {:?}", error.detail);
            }
            assert!(!error.detail.contains("MIG"), "quotes the key: {}", error.detail);
        };
        check(&cert, &other, &["k.pem", "c.pem", "does not belong"]);
        check("", &key, &["c.pem", "no certificate"]);
        check(&key, &cert, &["c.pem", "exchanged"]);
        check(&cert, &cert, &["k.pem", "exchanged"]);
        check(&cert, "", &["k.pem", "no private key"]);
        check(
            &cert,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            &["k.pem", "encrypted", "openssl"],
        );
        check("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", &key, &["c.pem", "damaged"]);
        check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, &["c.pem"]);
        assert!(read_file(Path::new("/nonexistent/x.pem")).unwrap_err().detail.contains("/nonexistent/x.pem"));
        assert!(read_file(Path::new("/dev/zero")).unwrap_err().detail.contains("larger"));
        assert!(Certs::new(Vec::new()).is_err());
    }
}
