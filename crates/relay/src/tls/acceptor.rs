//! TLS towards clients: STARTTLS and implicit TLS alike.
//!
//! Promises: the switch refuses to happen while a byte read in clear is waiting (command injection behind STARTTLS);
//! a client that offers application protocols (ALPN, RFC 7301) must offer one of ours, or is sent alert 120, which keeps
//! browsers that were steered here from talking to us (cross-protocol attacks); a client that offers none is welcome.
//! Certificates are swapped without touching sessions, and bad files never replace good ones. Sessions resume by ticket
//! (one per handshake, keys of this process, changed every six hours), so resumable sessions cost no memory.
//!
//! Left to the caller: the deadline of the handshake, calling [`Acceptor::reread_if_changed`] now and then, off the
//! shards, because it reads files.

use super::certs::{self, CertFacts, Certs};
use super::stream::{FirstBytes, Peer, Sip, TlsStream, Wire, closed_early, handshake};
use super::{TlsError, TlsErrorKind, TlsFacts, describe, facts, may_start, provider};
use crate::conn::{Conn, retried, would_block};
use crate::socket::Socket;
use arc_swap::ArcSwap;
use bytes::BytesMut;
use rustls::CipherSuite;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A fatal alert no_application_protocol (RFC 7301 3.2) as it is said before there are keys.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// Where a certificate and its key are: two PEM files, the server's own certificate first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertSource {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What a listener asks of its TLS clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AcceptOptions {
    /// Application protocols in our order of preference, such as `imap`.
    pub alpn: Vec<Vec<u8>>,
    /// Refuse clients that offer protocols and none of `alpn`. Otherwise such a handshake goes on without a protocol.
    pub alpn_strict: bool,
}

/// Accepts TLS from clients. A clone is the same acceptor.
#[derive(Debug, Clone)]
pub struct Acceptor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    served: Arc<Served>,
    config: Arc<ServerConfig>,
    options: AcceptOptions,
    files: Mutex<Files>,
}

/// The certificates in use; the rest of the configuration never changes.
#[derive(Debug)]
struct Served(ArcSwap<Certs>);

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().choose(&hello)
    }
}

/// What the certificate files looked like when they were last read, well or badly.
#[derive(Debug)]
struct Files {
    sources: Vec<CertSource>,
    marks: Vec<Option<Mark>>,
    /// Of the contents in use.
    digest: [u8; 32],
}

/// Modification time to the nanosecond, size, device and inode: what changes when a file is replaced or rewritten.
type Mark = (i64, i64, u64, u64, u64);

impl Acceptor {
    /// Reads the certificates. Clients are matched by server name: exact, wildcard, else the first of `sources`.
    ///
    /// # Errors
    /// If a file cannot be read or used, or a key does not belong to its certificate; the text names the file and the fix.
    pub fn new(sources: &[CertSource], options: AcceptOptions) -> Result<Acceptor, TlsError> {
        // Marks first: a file replaced while we read is then read again.
        let marks = marks(sources);
        let (certs, digest) = load(sources)?;
        Acceptor::build(certs, options, Files { sources: sources.to_vec(), marks, digest })
    }

    /// The same from PEM texts, pairs of certificate chain and key; there is nothing to reread.
    ///
    /// # Errors
    /// As for [`Acceptor::new`]; the text counts the pairs from 1.
    pub fn in_memory(pairs: &[(&str, &str)], options: AcceptOptions) -> Result<Acceptor, TlsError> {
        let mut keys = Vec::with_capacity(pairs.len());
        for (n, (cert, key)) in (1..).zip(pairs) {
            let (cert_name, key_name) = (format!("certificate {n}"), format!("key {n}"));
            keys.push(Arc::new(certs::pair(cert.as_bytes(), key.as_bytes(), &cert_name, &key_name)?));
        }
        let files = Files { sources: Vec::new(), marks: Vec::new(), digest: [0; 32] };
        Acceptor::build(Certs::new(keys)?, options, files)
    }

    fn build(certs: Certs, options: AcceptOptions, files: Files) -> Result<Acceptor, TlsError> {
        let served = Arc::new(Served(ArcSwap::from_pointee(certs)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::config(format!("TLS cannot be set up: {e}")))?
            .with_no_client_auth()
            .with_cert_resolver(served.clone());
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(|e| TlsError::config(format!("no ticket keys: {e}")))?;
        config.send_tls13_tickets = 1;
        config.alpn_protocols.clone_from(&options.alpn);
        Ok(Acceptor(Arc::new(Inner { served, config: Arc::new(config), options, files: Mutex::new(files) })))
    }

    /// Looks whether a certificate file has changed and, if so, serves new handshakes with what it holds now. True when
    /// there was a change of contents. Reads files: call it from a thread that may block.
    ///
    /// # Errors
    /// If what the files hold now cannot be used; the old certificates stay in use. The same bad files are reported once.
    pub fn reread_if_changed(&self) -> Result<bool, TlsError> {
        let mut files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = marks(&files.sources);
        if marks == files.marks {
            return Ok(false);
        }
        files.marks = marks;
        let (certs, digest) = load(&files.sources)?;
        if digest == files.digest {
            return Ok(false);
        }
        files.digest = digest;
        self.0.served.0.store(Arc::new(certs));
        Ok(true)
    }

    /// Which certificate a client that asks for this name is shown, if it takes every kind of key: its place among the sources
    /// (from 0) and the names in it.
    pub fn shown_for(&self, name: Option<&str>) -> Option<(usize, Vec<String>)> {
        self.0.served.0.load().shown_for(name)
    }

    /// The certificates that new handshakes are served with, in the order of the sources.
    pub fn certificates(&self) -> Vec<CertFacts> {
        let certs = self.0.served.0.load();
        let files = self.0.files.lock().unwrap_or_else(PoisonError::into_inner);
        let files = files.sources.iter().map(|source| Some(source.cert.clone())).chain(std::iter::repeat(None));
        certs.facts().iter().zip(files).map(|(facts, file)| CertFacts { file, ..facts.clone() }).collect()
    }

    /// Performs the handshake. `early` is what has been read of the client and not been used: it must be empty.
    ///
    /// The connection is consumed either way; on failure the client has been sent an alert, if it was listening, and the
    /// socket is closed. The deadline is the caller's: dropping the future closes the connection.
    ///
    /// # Errors
    /// [`TlsErrorKind::AlreadyTls`], [`TlsErrorKind::EarlyBytes`], [`TlsErrorKind::Alpn`] or what the handshake brought.
    pub async fn accept(&self, conn: Conn, early: &BytesMut) -> Result<(Conn, TlsFacts), TlsError> {
        may_start(&conn, early)?;
        let mut first = FirstBytes::of(Peer::Client);
        let accepted = hello(&conn.socket, &mut first).await?;
        let config = self.config_for(&accepted.client_hello(), &conn.socket)?;
        let session = accepted.into_connection(config).map_err(|(e, mut alert)| {
            let _ = alert.write(&mut Wire(&conn.socket));
            describe(&e, &first)
        })?;
        let mut session = rustls::Connection::from(session);
        handshake(&conn.socket, &mut session, &mut first).await?;
        let sni = match &session {
            rustls::Connection::Server(server) => server.server_name().map(str::to_owned),
            rustls::Connection::Client(_) => None,
        };
        let facts = facts(&session, sni);
        Ok((conn.under_tls(TlsStream::new(session)), facts))
    }

    /// The configuration for this client, or the refusal of the protocols it offers.
    fn config_for(&self, hello: &ClientHello<'_>, socket: &Socket) -> Result<Arc<ServerConfig>, TlsError> {
        let ours = &self.0.options.alpn;
        let foreign = match hello.alpn() {
            Some(mut offered) => !offered.any(|name| ours.iter().any(|our| our == name)),
            None => false,
        };
        if foreign && self.0.options.alpn_strict {
            // Seven octets into a fresh socket; if they do not fit, the client will see the close.
            let _ = socket.try_write(&NO_APPLICATION_PROTOCOL);
            return Err(TlsError::new(
                TlsErrorKind::Alpn,
                format!(
                    "the client wants to speak {}, not {}",
                    listed(hello.alpn()),
                    listed(Some(ours.iter().map(Vec::as_slice)))
                ),
            ));
        }
        // We choose the cipher, because most clients name AES-256 first out of habit. ChaCha20 first is no habit: such a
        // client has no AES instructions.
        let chacha = matches!(
            hello.cipher_suites().iter().find(|suite| !is_grease(**suite)),
            Some(
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                    | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
            )
        );
        if !foreign && !chacha {
            return Ok(self.0.config.clone());
        }
        let mut config = ServerConfig::clone(&self.0.config);
        if foreign {
            config.alpn_protocols.clear();
        }
        config.ignore_client_order = !chacha;
        Ok(Arc::new(config))
    }
}

/// Reads the client's first message, however it is cut into records (rustls bounds it to 64 KiB).
async fn hello(socket: &Socket, first: &mut FirstBytes) -> Result<rustls::server::Accepted, TlsError> {
    let mut acceptor = rustls::server::Acceptor::default();
    loop {
        socket.readable().await.map_err(TlsError::io)?;
        match retried(|| acceptor.read_tls(&mut Sip { socket, first })) {
            Ok(0) => return Err(closed_early(first)),
            Ok(_) => {}
            Err(e) if would_block(&e) => continue,
            Err(e) => return Err(TlsError::io(e)),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((e, mut alert)) => {
                let _ = alert.write(&mut Wire(socket));
                return Err(describe(&e, first));
            }
        }
    }
}

/// Values that clients scatter to keep servers tolerant (RFC 8701).
fn is_grease(suite: CipherSuite) -> bool {
    let value = u16::from(suite);
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// Protocol names for a log line: escaped, and no more than a handful.
fn listed<'a>(names: Option<impl Iterator<Item = &'a [u8]>>) -> String {
    let names: Vec<_> = names.into_iter().flatten().take(8).map(|name| format!("\"{}\"", name.escape_ascii())).collect();
    if names.is_empty() { "any".into() } else { names.join(", ") }
}

fn load(sources: &[CertSource]) -> Result<(Certs, [u8; 32]), TlsError> {
    let mut digest = Sha256::new();
    let mut keys = Vec::with_capacity(sources.len());
    for source in sources {
        let cert = certs::read_file(&source.cert)?;
        let key = certs::read_file(&source.key)?;
        digest.update(Sha256::digest(&cert));
        digest.update(Sha256::digest(&key));
        let names = (source.cert.display().to_string(), source.key.display().to_string());
        keys.push(Arc::new(certs::pair(&cert, &key, &names.0, &names.1)?));
    }
    Ok((Certs::new(keys)?, digest.finalize().into()))
}

fn marks(sources: &[CertSource]) -> Vec<Option<Mark>> {
    sources.iter().flat_map(|source| [mark(&source.cert), mark(&source.key)]).collect()
}

fn mark(path: &Path) -> Option<Mark> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.dev(), meta.ino()))
}
