//! Handshakes: whom we accept, whom we trust, and what is said when it fails.

use crate::peers::*;
use bytes::BytesMut;
use relay::{AcceptOptions, Acceptor, CertSource, Conn, ConnectPolicy, Connector, TlsErrorKind};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, RootCertStore, ServerConfig, ServerConnection, SignatureScheme};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use x509_parser::prelude::{FromDer, X509Certificate};

fn alpn(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn pin(pem: &str) -> [u8; 32] {
    let der = der(pem);
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    Sha256::digest(cert.tbs_certificate.subject_pki.raw).into()
}

fn refused(secured: Secured, kind: TlsErrorKind, words: &[&str]) {
    let error = secured.map(|(_, facts)| facts).unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    for word in words {
        assert!(error.detail.contains(word), "{word:?} is missing in: {error}");
    }
}

#[tokio::test]
async fn a_handshake_tells_what_was_agreed_and_bytes_flow() {
    let ca = Ca::new("facts");
    let acceptor = ca.issue(&["mail.example"]).acceptor();
    let (called, answered) = shake(&ca.connector(), "mail.example", &acceptor).await;
    let ((mut client, asked), (mut server, given)) = (called.unwrap(), answered.unwrap());
    assert_eq!(given.version, "TLSv1.3");
    assert_eq!((given.cipher, given.bits), ("TLS_AES_128_GCM_SHA256", 128));
    assert_eq!(given.sni.as_deref(), Some("mail.example"));
    assert_eq!((given.alpn.clone(), given.resumed), (None, false));
    assert_eq!(asked, given);
    assert!(client.is_tls() && server.is_tls());
    assert_eq!(client.peer_addr(), server.local_addr());
    client.write_all(b"hello").await.unwrap();
    assert_eq!(read_n(&mut server, 5).await, b"hello");
}

#[tokio::test]
async fn bytes_read_in_clear_stop_the_switch_on_both_legs() {
    let ca = Ca::new("early");
    let acceptor = ca.issue(&["mail.example"]).acceptor();
    let early = BytesMut::from("a2 NOOP\r\n");
    let (mut called, answered) = clear().await;
    refused(acceptor.accept(answered, &early).await, TlsErrorKind::EarlyBytes, &["9 octets"]);
    assert!(read_all(&mut called).await.is_empty(), "nothing is said to the client");
    let (called, mut answered) = clear().await;
    refused(lenient().connect(called, "mail.example", &early).await, TlsErrorKind::EarlyBytes, &["9 octets"]);
    assert!(read_all(&mut answered).await.is_empty());
}

#[tokio::test]
async fn tls_does_not_start_twice() {
    let acceptor = Ca::new("twice").issue(&["mail.example"]).acceptor();
    let (called, answered) = leg(true).await;
    let none = BytesMut::new();
    refused(acceptor.accept(answered, &none).await, TlsErrorKind::AlreadyTls, &[]);
    refused(lenient().connect(called, "mail.example", &none).await, TlsErrorKind::AlreadyTls, &[]);
}

#[tokio::test]
async fn alpn_is_matched_absent_or_refused() {
    let ca = Ca::new("alpn");
    let pair = ca.issue(&["mail.example"]);
    let acceptor = |ours: &[&str], strict| pair.acceptor_with(AcceptOptions { alpn: alpn(ours), alpn_strict: strict });
    let asking = |theirs: &[&str]| {
        let policy = ConnectPolicy { verify: false, alpn: alpn(theirs), ..ConnectPolicy::default() };
        Connector::new(policy).unwrap()
    };
    for (ours, strict, theirs, agreed) in [
        (&["imap"][..], true, &["imap"][..], Some("imap")),
        (&["imap"], true, &["h2", "imap"], Some("imap")),
        (&["imap"], true, &[], None),
        (&[], true, &[], None),
        (&["imap"], false, &["h2"], None),
        (&["imap"], false, &["imap"], Some("imap")),
        (&[], false, &["h2"], None),
    ] {
        let (called, answered) = shake(&asking(theirs), "mail.example", &acceptor(ours, strict)).await;
        assert_eq!(answered.unwrap().1.alpn.as_deref(), agreed, "{ours:?} {strict} {theirs:?}");
        assert_eq!(called.unwrap().1.alpn.as_deref(), agreed);
    }
    for (ours, theirs) in [(&["imap"][..], &["http/1.1"][..]), (&["imap", "pop3"], &["h2", "ftp"]), (&[], &["h2"])] {
        let (called, answered) = shake(&asking(theirs), "mail.example", &acceptor(ours, true)).await;
        refused(answered, TlsErrorKind::Alpn, &[theirs[0]]);
        refused(called, TlsErrorKind::Alpn, &[]);
    }
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let ca = Ca::new("sni");
    let pairs = [ca.issue(&["default.example"]), ca.issue(&["*.example.org"]), ca.issue(&["imap.example.org"])];
    let texts: Vec<_> = pairs.iter().map(|p| (p.cert.as_str(), p.key.as_str())).collect();
    let acceptor = Acceptor::in_memory(&texts, AcceptOptions::default()).unwrap();
    for (name, expected) in
        [("imap.example.org", 2), ("IMAP.example.ORG", 2), ("pop.example.org", 1), ("nobody.example", 0), ("192.0.2.1", 0)]
    {
        let (session, hello) = raw_hello(raw_client(&[], &[], false), name);
        let (accepted, seen) = shake_raw(&acceptor, session, hello).await;
        assert_eq!(seen.unwrap().0, der(&pairs[expected].cert).to_vec(), "{name}");
        let sni = accepted.unwrap().1.sni;
        assert_eq!(sni.is_some(), name != "192.0.2.1", "{sni:?}");
    }
}

#[tokio::test]
async fn hostile_server_names_end_their_own_handshake_at_most() {
    let ca = Ca::new("hostile sni");
    let pair = ca.issue(&["mail.example"]);
    let acceptor = pair.acceptor();
    let mut dice = Dice(3);
    let place = "placeholder-of-a-name.example";
    let mut evil = vec![b"\\".repeat(place.len()), b"a".repeat(place.len()), b".".repeat(place.len()), vec![0; place.len()]];
    evil.push(b"trailing-backslash-example.x\\".to_vec());
    evil.extend((0..100).map(|_| dice.bytes(place.len())));
    for name in evil {
        assert_eq!(name.len(), place.len());
        let (session, mut hello) = raw_hello(raw_client(&[], &[], false), place);
        let at = hello.windows(place.len()).position(|window| window == place.as_bytes()).unwrap();
        hello[at..at + name.len()].copy_from_slice(&name);
        let (accepted, client) = shake_raw(&acceptor, session, hello).await;
        // The client's idea of the transcript differs from ours only if it was changed on the way: always here.
        assert!(accepted.is_err() && client.is_err());
    }
    let (_, answered) = shake(&ca.connector(), "mail.example", &acceptor).await;
    answered.unwrap();
}

#[tokio::test]
async fn rsa_and_ecdsa_for_one_name_are_chosen_by_what_the_client_can_check() {
    let ca = Ca::new("two keys");
    let rsa = ca.issue_with(&["mail.example"], &rcgen::PKCS_RSA_SHA256, |_| {});
    let ecdsa = ca.issue(&["mail.example"]);
    let texts = [(rsa.cert.as_str(), rsa.key.as_str()), (&ecdsa.cert, &ecdsa.key)];
    let acceptor = Acceptor::in_memory(&texts, AcceptOptions::default()).unwrap();
    let (r, e) = (SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256);
    let rsa_suite = CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384;
    for (suites, schemes, only_tls12, expected) in [
        (&[][..], &[][..], false, &ecdsa),
        (&[], &[r, e], false, &ecdsa),
        (&[], &[r], false, &rsa),
        (&[], &[e], true, &ecdsa),
        (&[], &[r], true, &rsa),
        (&[rsa_suite], &[], true, &rsa),
    ] {
        let (session, hello) = raw_hello(raw_client(suites, schemes, only_tls12), "mail.example");
        let (accepted, seen) = shake_raw(&acceptor, session, hello).await;
        assert_eq!(seen.unwrap().0, der(&expected.cert).to_vec(), "{suites:?} {schemes:?} {only_tls12}");
        assert_eq!(accepted.unwrap().1.version, if only_tls12 { "TLSv1.2" } else { "TLSv1.3" });
    }
}

#[tokio::test]
async fn aes_128_is_preferred_unless_the_client_has_no_aes() {
    let acceptor = Ca::new("suites").issue(&["mail.example"]).acceptor();
    let (a128, a256) = (CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_AES_256_GCM_SHA384);
    let chacha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
    for (offered, expected, name) in [
        (&[a256, chacha, a128][..], a128, "TLS_AES_128_GCM_SHA256"),
        (&[chacha, a256, a128], chacha, "TLS_CHACHA20_POLY1305_SHA256"),
        (&[a256], a256, "TLS_AES_256_GCM_SHA384"),
    ] {
        let (session, hello) = raw_hello(raw_client(offered, &[], false), "mail.example");
        let (accepted, seen) = shake_raw(&acceptor, session, hello).await;
        assert_eq!(seen.unwrap().1, expected);
        assert_eq!(accepted.unwrap().1.cipher, name);
    }
}

#[tokio::test]
async fn a_hello_in_records_of_one_octet_is_a_hello() {
    let acceptor = Ca::new("crumbs").issue(&["mail.example"]).acceptor();
    let (session, hello) = raw_hello(raw_client(&[], &[], false), "mail.example");
    let crumbs: Vec<u8> = hello[5..].iter().flat_map(|&octet| [22, 3, 1, 0, 1, octet]).collect();
    let (accepted, seen) = shake_raw(&acceptor, session, crumbs).await;
    accepted.unwrap();
    seen.unwrap();
}

#[tokio::test]
async fn broken_hellos_end_with_an_error() {
    let acceptor = Ca::new("broken").issue(&["mail.example"]).acceptor();
    let (_, hello) = raw_hello(raw_client(&[], &[], false), "mail.example");
    let close_notify = [21, 3, 3, 0, 2, 1, 0];
    let half = &hello[..hello.len() / 2];
    let old = [&[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    use TlsErrorKind::*;
    for (sent, kinds) in [
        (half.to_vec(), &[Closed][..]),
        (Vec::new(), &[Closed]),
        ([half, &close_notify].concat(), &[Closed, Handshake, NotTls]),
        (close_notify.to_vec(), &[Closed, Handshake]),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &[NotTls]),
        (b"a1 L".to_vec(), &[NotTls]),
        (vec![0; 10_000], &[NotTls]),
        (vec![22; 10_000], &[NotTls, Handshake]),
        (vec![0x80; 10_000], &[NotTls]),
        (Dice(5).bytes(10_000), &[NotTls]),
        (old, &[OldVersion]),
        // An announced handshake message of 16 MiB, and records that go on filling it.
        ([&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &vec![1; 16380]].concat(), &[Handshake]),
    ] {
        let (mut called, answered) = sockets().await;
        let none = BytesMut::new();
        let accepting = acceptor.accept(Conn::clear(answered).unwrap(), &none);
        let (accepted, ()) = tokio::join!(accepting, async {
            let _ = called.write_all(&sent).await;
            let _ = called.shutdown().await;
        });
        let error = accepted.map(|(_, facts)| facts).unwrap_err();
        assert!(kinds.contains(&error.kind), "{:?} after {}", error, sent[..sent.len().min(20)].escape_ascii());
        assert!(!error.detail.contains("GET"), "a client's words may be its password");
    }
}

#[tokio::test]
async fn dropping_a_stalled_handshake_closes_it() {
    let acceptor = Ca::new("stalled").issue(&["mail.example"]).acceptor();
    let (mut called, answered) = sockets().await;
    called.write_all(&[22, 3, 1, 1]).await.unwrap();
    let none = BytesMut::new();
    let accepting = acceptor.accept(Conn::clear(answered).unwrap(), &none);
    tokio::time::timeout(std::time::Duration::from_millis(20), accepting).await.unwrap_err();
    assert_eq!(called.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn certificates_are_reread_and_bad_ones_do_not_replace_good_ones() {
    let ca = Ca::new("reread");
    let (old, new) = (ca.issue(&["old.example"]), ca.issue(&["new.example"]));
    let source = CertSource { cert: ca.file("cert.pem", &old.cert), key: ca.file("key.pem", &old.key) };
    let acceptor = Acceptor::new(std::slice::from_ref(&source), AcceptOptions::default()).unwrap();
    let connector = ca.connector();
    let serves = async |name: &str| {
        let (called, answered) = shake(&connector, name, &acceptor).await;
        called.is_ok() && answered.is_ok()
    };
    assert_eq!(acceptor.reread_if_changed(), Ok(false));
    assert!(serves("old.example").await && !serves("new.example").await);
    let (called, answered) = shake(&connector, "old.example", &acceptor).await;
    let (mut living, mut served) = (called.unwrap().0, answered.unwrap().0);

    // A new certificate whose key has not arrived yet: reported once, the old pair goes on.
    ca.file("cert.pem", &new.cert);
    let error = acceptor.reread_if_changed().unwrap_err();
    assert!(error.detail.contains("key.pem") && error.detail.contains("cert.pem"), "{error}");
    assert_eq!(acceptor.reread_if_changed(), Ok(false));
    assert!(serves("old.example").await);

    ca.file("key.pem", &new.key);
    assert_eq!(acceptor.reread_if_changed(), Ok(true));
    assert!(serves("new.example").await && !serves("old.example").await);
    served.write_all(b"undisturbed").await.unwrap();
    assert_eq!(read_n(&mut living, 11).await, b"undisturbed");

    // Replaced by itself: another inode, the same content.
    std::fs::rename(ca.file("copy.pem", &new.cert), &source.cert).unwrap();
    assert_eq!(acceptor.reread_if_changed(), Ok(false));
    std::fs::remove_file(&source.key).unwrap();
    assert!(acceptor.reread_if_changed().unwrap_err().detail.contains("key.pem"));
    assert!(serves("new.example").await);
}

#[tokio::test]
async fn sessions_resume_under_the_same_connector_only() {
    let ca = Ca::new("resume");
    let acceptor = ca.issue(&["mail.example"]).acceptor();
    let (one, other) = (ca.connector(), ca.connector());
    for (connector, resumed) in [(&one, false), (&one, true), (&other, false), (&one.clone(), true)] {
        let (called, answered) = shake(connector, "mail.example", &acceptor).await;
        let ((mut client, asked), (mut server, given)) = (called.unwrap(), answered.unwrap());
        assert_eq!((asked.resumed, given.resumed), (resumed, resumed));
        // The ticket comes with the first bytes.
        server.write_all(b"* OK").await.unwrap();
        read_n(&mut client, 4).await;
    }
}

#[tokio::test]
async fn backends_are_checked_by_name_against_the_issuers_given() {
    let (ca, stranger) = (Ca::new("Known Issuer"), Ca::new("Unknown Issuer"));
    let good = ca.issue(&["imap.example", "127.0.0.1"]).acceptor();
    let connector = ca.connector();
    for name in ["imap.example", "IMAP.Example.", "127.0.0.1"] {
        shake(&connector, name, &good).await.0.unwrap();
    }
    let (called, answered) = shake(&connector, "other.example", &good).await;
    refused(called, TlsErrorKind::Certificate, &["other.example", "imap.example", "127.0.0.1"]);
    refused(answered, TlsErrorKind::Certificate, &["does not accept our certificate"]);

    let unknown = stranger.issue(&["imap.example"]).acceptor();
    let (called, _) = shake(&connector, "imap.example", &unknown).await;
    refused(called, TlsErrorKind::Certificate, &["issuer is unknown", "Unknown Issuer"]);

    let expired = ca.issue_with(&["imap.example"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let (called, _) = shake(&connector, "imap.example", &expired.acceptor()).await;
    refused(called, TlsErrorKind::Certificate, &["expired", "days ago"]);

    let future = ca.issue_with(&["imap.example"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = rcgen::date_time_ymd(3000, 1, 1);
    });
    let (called, _) = shake(&connector, "imap.example", &future.acceptor()).await;
    refused(called, TlsErrorKind::Certificate, &["valid only in", "clock"]);

    for name in ["", "bad name", "a..b", "[::1]", "x\r\ny"] {
        let (called, _answered) = clear().await;
        refused(connector.connect(called, name, &BytesMut::new()).await, TlsErrorKind::Config, &["neither"]);
    }
}

#[tokio::test]
async fn a_self_signed_backend_is_called_that() {
    let ca = Ca::new("self");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["imap.example".to_owned()]).unwrap();
    for is_ca in [false, true] {
        if is_ca {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let pair = Pair { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
        let (called, _) = shake(&ca.connector(), "imap.example", &pair.acceptor()).await;
        refused(called, TlsErrorKind::Certificate, &["self-signed", "pin"]);
    }
}

#[tokio::test]
async fn a_pin_decides_alone_and_any_certificate_means_any() {
    let ca = Ca::new("pins");
    let (pair, other) = (ca.issue(&["imap.example"]), ca.issue(&["imap.example"]));
    let acceptor = pair.acceptor();
    let pinned = |pins: Vec<[u8; 32]>, verify| {
        let policy = ConnectPolicy { verify, pins, ca: Some(ca.file("ca.pem", &ca.pem)), ..ConnectPolicy::default() };
        Connector::new(policy).unwrap()
    };
    for verify in [true, false] {
        // Right key under a wrong name; wrong key under the right name and issuer.
        shake(&pinned(vec![pin(&other.cert), pin(&pair.cert)], verify), "wrong.example", &acceptor).await.0.unwrap();
        let (called, _) = shake(&pinned(vec![pin(&other.cert)], verify), "imap.example", &acceptor).await;
        let seen: String = pin(&pair.cert).iter().map(|byte| format!("{byte:02x}")).collect();
        refused(called, TlsErrorKind::Certificate, &["pin", &seen]);
    }
    shake(&lenient(), "whatever.example", &acceptor).await.0.unwrap();
}

#[tokio::test]
async fn our_certificate_is_shown_to_a_backend_that_asks() {
    let ca = Ca::new("mutual");
    let (server, ours) = (ca.issue(&["imap.example"]), ca.issue(&["proxy.example"]));
    let mut roots = RootCertStore::empty();
    roots.add(der(&ca.pem)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![der(&server.cert)], PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap())
        .unwrap();
    let source = CertSource { cert: ca.file("proxy.pem", &ours.cert), key: ca.file("proxy-key.pem", &ours.key) };
    let policy = ConnectPolicy { verify: false, client: Some(source.clone()), ..ConnectPolicy::default() };
    let connector = Connector::new(policy.clone()).unwrap();
    let (called, answered) = sockets().await;
    let backend = tokio::task::spawn_blocking(move || {
        let mut stream = answered.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut session = ServerConnection::new(Arc::new(config)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        session.peer_certificates().unwrap()[0].to_vec()
    });
    connector.connect(Conn::clear(called).unwrap(), "imap.example", &BytesMut::new()).await.unwrap();
    assert_eq!(backend.await.unwrap(), der(&ours.cert).to_vec());

    std::fs::write(&source.key, &server.key).unwrap();
    let error = Connector::new(policy).unwrap_err();
    assert!(error.kind == TlsErrorKind::Config && error.detail.contains("proxy-key.pem"), "{error}");
}

#[tokio::test]
async fn backends_without_usable_tls_are_described() {
    let server_hello = [&[22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
    use TlsErrorKind::*;
    for (said, kind, words) in [
        (&b"* OK IMAP4rev1 ready\r\n"[..], NotTls, &["plain text", "* OK IMAP4rev1 ready"][..]),
        (b"+OK", NotTls, &["plain text", "+OK"]),
        (b"\x00\xff\x00\xff\x00\xff\x00\xff", NotTls, &["neither"]),
        (&server_hello, OldVersion, &["TLS 1.0 or 1.1"]),
        (&[21, 3, 2, 0, 2, 2, 70], OldVersion, &["TLS 1.0 or 1.1"]),
        (&[21, 3, 3, 0, 2, 2, 40], Handshake, &["HandshakeFailure"]),
        (b"", Closed, &["before it said anything"]),
        (&[22, 3, 3, 0, 99], Closed, &["middle"]),
    ] {
        let (called, mut answered) = sockets().await;
        let connector = lenient();
        let none = BytesMut::new();
        let connecting = connector.connect(Conn::clear(called).unwrap(), "imap.example", &none);
        let (connected, ()) = tokio::join!(connecting, async {
            let mut hello = [0; 1024];
            assert!(answered.read(&mut hello).await.unwrap() > 0);
            answered.write_all(said).await.unwrap();
            answered.shutdown().await.unwrap();
            // Closing with the rest of a hello unread would reset the connection.
            while answered.read(&mut hello).await.unwrap_or(0) > 0 {}
        });
        refused(connected, kind, words);
    }
}

#[tokio::test]
async fn the_system_s_issuers_do_not_know_ours() {
    match Connector::new(ConnectPolicy::default()) {
        Ok(connector) => {
            let acceptor = Ca::new("Private").issue(&["imap.example"]).acceptor();
            let (called, _) = shake(&connector, "imap.example", &acceptor).await;
            refused(called, TlsErrorKind::Certificate, &["issuer is unknown"]);
        }
        // A machine without the package: then the error says so.
        Err(error) => assert!(error.detail.contains("ca-certificates"), "{error}"),
    }
    let ca = Ca::new("files");
    for (content, words) in
        [("nothing", "no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "bad.pem")]
    {
        let policy = ConnectPolicy { ca: Some(ca.file("bad.pem", content)), ..ConnectPolicy::default() };
        let error = Connector::new(policy).unwrap_err();
        assert!(error.kind == TlsErrorKind::Config && error.detail.contains(words), "{error}");
    }
}
