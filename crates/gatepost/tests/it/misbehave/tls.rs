//! Backends whose TLS is missing, broken, or somebody else's.

use super::{greet, no_password, refused_at};
use crate::gate::{Gate, Want, echo, everybody_at};
use Protocol::{Imap, ManageSieve, Pop3, Submission};
use testkit::certs::{Authority, Request, Role, Validity};
use testkit::peer::{Backend, Conn, FakeServer};
use testkit::{Dir, Protocol};

#[test]
fn no_tls_where_the_route_demands_it() {
    let server = FakeServer::start(|conn| {
        greet(Imap, conn);
        let _ = conn.read_to_end();
    });
    refused_at(Imap, server.addr(), r#", starttls = "yes""#, "", "backend-config", &["does not offer TLS"]);
    no_password(&server.wait_for_end(0));
    for protocol in [ManageSieve, Submission] {
        let server = FakeServer::start(move |conn| {
            greet(protocol, conn);
            let _ = conn.read_to_end();
        });
        refused_at(protocol, server.addr(), r#", starttls = "yes""#, "", "backend-config", &["does not offer TLS"]);
        no_password(&server.wait_for_end(0));
    }
    // A POP3 server is asked without more ado.
    for protocol in Protocol::ALL {
        let server = FakeServer::start(move |conn| {
            let (_, no) = asked_for_tls(protocol, conn);
            conn.send_line(if protocol == ManageSieve { "NO \"not today\"".to_owned() } else { format!("{no} not today") });
            let _ = conn.read_to_end();
        });
        refused_at(protocol, server.addr(), r#", starttls = "yes""#, "", "backend-closed", &["not today"]);
        no_password(&server.wait_for_end(0));
    }
}

#[test]
fn plain_text_where_tls_is_expected() {
    for protocol in Protocol::ALL {
        let server = FakeServer::start(move |conn| {
            greet(protocol, conn);
            let _ = conn.read_to_end();
        });
        refused_at(protocol, server.addr(), r#", ssl = "any-cert""#, "", "backend-tls", &[]);
    }
}

#[test]
fn certificates_that_are_wrong() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "ca");
    let ca = authority.ca_file().display().to_string();
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let good = authority.server("good", &["localhost", "127.0.0.1"]);
    let cases = [
        ("another name", authority.server("other", &["other.example"]), ca.clone(), "other.example"),
        (
            "expired",
            authority.issue("old", &Request { names: names(&["127.0.0.1"]), validity: Validity::Expired, ..Request::default() }),
            ca.clone(),
            "xpired",
        ),
        ("unknown issuer", good, Authority::new(dir.path(), "stranger").ca_file().display().to_string(), ""),
    ];
    for (name, certificate, ca, piece) in cases {
        for (protocol, implicit) in Protocol::ALL.into_iter().flat_map(|protocol| [(protocol, true), (protocol, false)]) {
            println!("{name}, {protocol:?}, from the first byte: {implicit}");
            let usual = Backend::of(protocol);
            let greeting = match protocol {
                Imap => "* OK [CAPABILITY IMAP4rev1 STARTTLS] hi",
                Pop3 => "+OK hi",
                ManageSieve | Submission => &usual.greeting,
            };
            let tls = Some(certificate.server_config());
            let backend = Backend { tls, implicit, greeting: greeting.to_owned(), ..usual.clone() };
            let server = FakeServer::start(move |conn| assert!(backend.login(conn).is_none(), "it was told a password"));
            let row = if implicit { r#", ssl = "yes""# } else { r#", starttls = "yes""# };
            refused_at(protocol, server.addr(), row, &format!("tls_ca = \"{ca}\""), "backend-tls", &[piece]);
            assert_eq!(server.connections(), 1, "{name}: an invalid certificate is not tried again");
            server.finish();
        }
    }
}

#[test]
fn the_client_certificate_is_shown_where_one_is_asked_for() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "ca");
    let own =
        authority.issue("gateway", &Request { names: vec!["gateway".to_owned()], role: Role::Client, ..Request::default() });
    let config = authority.server_config_requiring(&authority.server("backend", &["127.0.0.1"]));
    let shown = own.der().to_vec();
    let server = FakeServer::start_tls(config, move |conn: &mut Conn| {
        assert_eq!(conn.peer_certificate().as_ref(), Some(&shown));
        Backend::default().login(conn);
        echo(conn);
    });
    let backend =
        format!("tls_ca = {:?}\ntls_client_cert = {:?}\ntls_client_key = {:?}", authority.ca_file(), own.cert_file, own.key_file);
    let users = everybody_at(server.addr(), r#", ssl = "yes""#);
    let gate = Gate::start(&Want { users: &users, backend: &backend, ..Default::default() });
    let reply = gate.client().login("alice", "x");
    assert!(reply.is_ok(), "{reply:?}\n{}", gate.gatepost.log().tail());
    server.finish();
}

#[test]
fn a_client_certificate_that_is_missing_is_trouble_with_tls() {
    let dir = Dir::new();
    let authority = Authority::new(dir.path(), "ca");
    let config = authority.server_config_requiring(&authority.server("backend", &["127.0.0.1"]));
    let server = FakeServer::start_tls(config, |conn: &mut Conn| conn.fail("nobody has shown a certificate"));
    let ca = format!("tls_ca = \"{}\"", authority.ca_file().display());
    refused_at(Imap, server.addr(), r#", ssl = "yes""#, &ca, "backend-tls", &["ertificate"]);
    server.finish();
}

#[test]
fn pins_are_kept() {
    let Some(_) = testkit::real::require("openssl") else { return };
    let dir = Dir::new();
    let certificate = Authority::new(dir.path(), "ca").server("backend", &["elsewhere.example"]);
    let server = FakeServer::start_tls(certificate.server_config(), |conn: &mut Conn| {
        Backend::default().login(conn);
        echo(conn);
    });
    let pin = spki_pin(&certificate.cert_file);
    let users = everybody_at(server.addr(), r#", ssl = "yes""#);
    for (pin, fine) in [(pin.as_str(), true), ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", false)] {
        let backend = format!("tls_pin = \"{pin}\"\nproxy_timeout = \"3s\"");
        let gate = Gate::start(&Want { users: &users, backend: &backend, ..Default::default() });
        let reply = gate.client().login("alice", "x");
        assert_eq!(reply.is_ok(), fine, "{pin}: {reply:?}\n{}", gate.gatepost.log().tail());
        if !fine {
            gate.gatepost.wait_for("reason=backend-tls");
        }
    }
}

/// The pin as an operator makes it: openssl x509 -pubkey | openssl pkey -outform der | openssl dgst -sha256 | base64.
fn spki_pin(pem: &std::path::Path) -> String {
    let script = format!(
        "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
        pem.display()
    );
    let out = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Reads the command that asks for TLS: what a good answer to it begins with, and a bad one.
fn asked_for_tls(protocol: Protocol, conn: &mut Conn) -> (String, String) {
    match protocol {
        Imap => {
            conn.send_line("* OK [CAPABILITY IMAP4rev1 ID STARTTLS] hi");
            let line = conn.expect_line("STARTTLS");
            let tag = line.split(' ').next().unwrap_or_default();
            (format!("{tag} OK"), format!("{tag} NO"))
        }
        Pop3 => {
            greet(Pop3, conn);
            conn.expect_line("STLS");
            ("+OK".to_owned(), "-ERR".to_owned())
        }
        ManageSieve => {
            conn.send_line("\"STARTTLS\"\r\n\"XCLIENT\"\r\nOK \"hi\"");
            conn.expect_line("STARTTLS");
            ("OK".to_owned(), "NO".to_owned())
        }
        Submission => {
            conn.send_line("220 hi");
            conn.expect_line("EHLO");
            conn.send_line("250-hi\r\n250-XCLIENT ADDR PORT\r\n250 STARTTLS");
            conn.expect_line("STARTTLS");
            ("220".to_owned(), "454".to_owned())
        }
    }
}
