//! Certificates, connected pairs, and pseudo-random content for the tests.

use bytes::BytesMut;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use relay::{AcceptOptions, Acceptor, Conn, ConnectPolicy, Connector, Socket, TlsError, TlsFacts};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::{TcpListener, TcpStream};

/// An issuer of certificates, and a directory for their files.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    dir: PathBuf,
}

/// A certificate and key as PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new(name: &str) -> Ca {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("relay-it-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Ca { issuer: Issuer::new(params, key), pem, dir }
    }

    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
    }

    pub fn issue_with(
        &self,
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Verifies against this issuer only.
    pub fn connector(&self) -> Connector {
        Connector::new(ConnectPolicy { ca: Some(self.file("ca.pem", &self.pem)), ..ConnectPolicy::default() }).unwrap()
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Pair {
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor_with(AcceptOptions::default())
    }

    pub fn acceptor_with(&self, options: AcceptOptions) -> Acceptor {
        Acceptor::in_memory(&[(&self.cert, &self.key)], options).unwrap()
    }
}

/// Takes any certificate.
pub fn lenient() -> Connector {
    Connector::new(ConnectPolicy { verify: false, ..ConnectPolicy::default() }).unwrap()
}

/// Two ends of one TCP connection: the one that called, the one that answered.
pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (called, answered) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (called.unwrap(), answered.unwrap().0)
}

pub async fn clear() -> (Conn, Conn) {
    let (called, answered) = sockets().await;
    (Conn::clear(called).unwrap(), Conn::clear(answered).unwrap())
}

pub type Secured = Result<(Conn, TlsFacts), TlsError>;

/// A handshake of ours with ours: what the connector and what the acceptor made of it.
pub async fn shake(connector: &Connector, name: &str, acceptor: &Acceptor) -> (Secured, Secured) {
    let (called, answered) = clear().await;
    let none = BytesMut::new();
    tokio::join!(connector.connect(called, name, &none), acceptor.accept(answered, &none))
}

/// Two ends of one connection, under TLS or in clear.
pub async fn leg(tls: bool) -> (Conn, Conn) {
    let (called, answered) = sockets().await;
    leg_over(tls, called, answered).await
}

pub async fn leg_over(tls: bool, called: impl Into<Socket>, answered: impl Into<Socket>) -> (Conn, Conn) {
    let (called, answered) = (Conn::clear(called).unwrap(), Conn::clear(answered).unwrap());
    if !tls {
        return (called, answered);
    }
    let acceptor = Ca::new("leg").issue(&["leg.example"]).acceptor();
    let connector = lenient();
    let none = BytesMut::new();
    let (called, answered) = tokio::join!(connector.connect(called, "leg.example", &none), acceptor.accept(answered, &none));
    (called.unwrap().0, answered.unwrap().0)
}

/// A second handle on a socket, for misbehaving below TLS.
pub fn behind(stream: TcpStream) -> (TcpStream, std::net::TcpStream) {
    let stream = stream.into_std().unwrap();
    let below = stream.try_clone().unwrap();
    (TcpStream::from_std(stream).unwrap(), below)
}

/// Deterministic content and chunk sizes (xorshift64*).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.roll().to_be_bytes()[0]).collect()
    }

    /// Mostly small, now and then larger than every buffer.
    pub fn chunk(&mut self) -> usize {
        let most = match self.roll() % 8 {
            0 => 1,
            1..4 => 200,
            4..7 => 20_000,
            _ => 200_000,
        };
        1 + usize::try_from(self.roll() % most).unwrap()
    }
}

/// Reads until the end.
pub async fn read_all(conn: &mut Conn) -> Vec<u8> {
    let mut all = BytesMut::new();
    while conn.read(&mut all, 64 * 1024).await.unwrap() > 0 {}
    all.to_vec()
}

/// Reads exactly `n` octets.
pub async fn read_n(conn: &mut Conn, n: usize) -> Vec<u8> {
    let mut all = BytesMut::new();
    while all.len() < n {
        let left = n - all.len();
        assert!(conn.read(&mut all, left).await.unwrap() > 0, "ended after {} of {n}", all.len());
    }
    all.to_vec()
}

/// A client of rustls without our layer: for offering what a [`Connector`] does not.
pub fn raw_client(suites: &[CipherSuite], schemes: &[SignatureScheme], only_tls12: bool) -> ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if !suites.is_empty() {
        let all = std::mem::take(&mut provider.cipher_suites);
        let find = |wanted: &CipherSuite| *all.iter().find(|suite| suite.suite() == *wanted).unwrap();
        provider.cipher_suites = suites.iter().map(find).collect();
    }
    let versions: &[_] = if only_tls12 { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
    let mut schemes = schemes.to_vec();
    if schemes.is_empty() {
        schemes = provider.signature_verification_algorithms.supported_schemes();
    }
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(schemes)))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Anything(Vec<SignatureScheme>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// A raw client's hello as it goes over the wire, and the session to go on with.
pub fn raw_hello(config: ClientConfig, name: &str) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    (session, hello)
}

/// Sends `hello` and goes on with the handshake, on a thread of its own. The leaf certificate seen, or the error.
pub fn raw_shake(
    stream: TcpStream,
    mut session: ClientConnection,
    hello: Vec<u8>,
) -> tokio::task::JoinHandle<Result<(Vec<u8>, CipherSuite), String>> {
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    tokio::task::spawn_blocking(move || {
        stream.write_all(&hello).map_err(|e| e.to_string())?;
        while session.is_handshaking() {
            session.complete_io(&mut stream).map_err(|e| e.to_string())?;
        }
        let leaf = session.peer_certificates().unwrap()[0].to_vec();
        Ok((leaf, session.negotiated_cipher_suite().unwrap().suite()))
    })
}

/// What our acceptor and a raw client make of each other.
pub async fn shake_raw(
    acceptor: &Acceptor,
    session: ClientConnection,
    hello: Vec<u8>,
) -> (Secured, Result<(Vec<u8>, CipherSuite), String>) {
    let (called, answered) = sockets().await;
    let client = raw_shake(called, session, hello);
    let accepted = acceptor.accept(Conn::clear(answered).unwrap(), &BytesMut::new()).await;
    (accepted, client.await.unwrap())
}
