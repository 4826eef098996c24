//! What a good file means, and that it can be written down again.

use super::*;
use meant::{
    BackendProxy, BackendTls, CleartextAuth, DovecotVersion, Listen, ListenProxy, LocalBackend, LogFacility, LogFormat, LogLevel,
    LogTarget, Own, Skip, Then,
};
use std::time::Duration;
use wire::dance::IdentityRefused;

const FULL: &str = r##"version = 1
[server]
name = "edge.example.com"
user = "gatepost"
control = "run/control.sock"
threads = 3
[tls]
certificates = [{ cert = "tls/mail.pem", key = "tls/mail.key" }]
alpn_strict = false
[trust]
networks = ["10.1.0.0/16", "::ffff:192.0.2.1", "2001:db8::/32"]
login = ["192.0.2.1"]
identity_before_tls = "drop"
proxy_protocol = ["10.2.0.4", "2001:db8:2::/64"]
[[listen]]
protocols = ["imap", "imaps"]
cleartext_auth = "never"
proxy_protocol = "off"
[[listen]]
protocol = "imap"
address = ["10.1.0.5", "[::1]:1143", "*:2143"]
tls = "implicit"
[[listen]]
protocol = "pop3"
proxy_protocol = "mixed"
connections = 5000
[[listen]]
protocol = "pop3s"
tls = "offloaded"
proxy_protocol = "required"
[[listen]]
protocols = ["managesieve", "submission"]
xclient = "exim"
[[listen]]
protocol = "lmtp"
bare_newline = "reject"
[[users]]
driver = "static"
username_format = "%Ln"
protocols = ["imap"]
default_fields = { ssl = "yes" }
override_fields = { proxy_timeout = 10 }
result_success = "continue-ok"
result_failure = "return-fail"
result_internalfail = "continue"
skip = "authenticated"
deny = true
fields = { zulu = "1", Host = "a b", "x.y" = "\"\\'é\u007e", pass = "hunter2", empty = "" }
[[users]]
driver = "sqlite"
path = "users.db"
query = """
SELECT '''x''' \\ 'y'
FROM t\tWHERE u = '%u'"""
[[users]]
driver = "passwd-file"
path = "passwd"
[backend]
tls = "implicit"
tls_ca = "tls/backends-ca.pem"
tls_pin = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
tls_verify = false
tls_client_cert = "tls/mail.pem"
tls_client_key = "tls/mail.key"
proxy_timeout = "1500ms"
connect_timeout = "500ms"
self_addresses = ["192.0.2.7", "::ffff:192.0.2.8"]
source_ips = "10.0.0.8, ?2001:db8::8 ?out.example.com"
local = { pop3 = "[::1]:10110", imap = "Localhost:10143" }
disconnect_spread = "10s"
proxy_protocol = "v2"
identity_refused = "continue"
submission_login = "xclient"
[protocol.imap]
capability = "IMAP4rev1  ID"
imap_id_send = "name * support-url https://example.com/"
imap_id_retain = true
greeting = "Hello \\ \"you\""
idle_timeout = "31m"
[protocol.pop3]
capability = "TOP  UIDL"
greeting = "Hello \\ \"you\""
idle_timeout = "1h"
[protocol.managesieve]
sieve = "fileinto  reject"
notify = "mailto"
implementation = "Dovecot Pigeonhole"
greeting = "Hello"
idle_timeout = "40m"
[protocol.submission]
capability = "8BITMIME  SIZE=52428800"
greeting = "Hello"
login_timeout = "1m"
idle_timeout = "12m"
[protocol.lmtp]
capability = "DSN"
greeting = "Hello"
idle_timeout = "10m"
recipient_delimiter = "+-"
soft_bounce = true
[limits]
line = "64KiB"
literal = "65B"
bad_commands = 1
commands = 11
failed_logins = 2
failed_login_pause = "0s"
login_timeout = "2m"
tls_handshake_timeout = "10s"
connections = 7
connections_before_login = 8
user_connections = 9
exempt = ["192.0.2.40", "2001:db8:4::/64"]
guesses = 10
lookup_timeout = "3s"
lookups = 12
message_size = "1MiB"
recipients = 200
drain = "1h"
upgrade_drain = "7d"
[log]
format = "json"
level = "debug"
file = "tls/log"
[admin]
group = "mailadm"
address = ["127.0.0.1:9143", "[::1]:9143"]
token_file = "tls/mail.key"
"##;

/// Places are where a thing is written, not what it means.
fn without_places(mut meant: Meant) -> Meant {
    meant.listen.iter_mut().for_each(|listen| listen.at.clear());
    meant.backend.source_ips.iter_mut().for_each(|source| source.at.clear());
    for users in &mut meant.users {
        users.at.clear();
        users.own.values_mut().for_each(|own| own.at.clear());
    }
    meant
}

#[track_caller]
fn survives(dir: &Dir) {
    let meant = dir.load().unwrap().meant;
    let again = Dir::new();
    again.put("gatepost.toml", effective_with_secrets(&meant).as_bytes());
    let text = effective_with_secrets(&meant);
    match again.load() {
        Ok(loaded) => assert_eq!(without_places(loaded.meant), without_places(meant), "written:\n{text}"),
        Err(problems) => panic!("written:\n{text}\nproblems:\n{problems}"),
    }
}

#[test]
fn every_key_has_its_meaning() {
    let dir = Dir::furnished();
    dir.put("gatepost.toml", FULL.as_bytes());
    let loaded = dir.load().unwrap();
    assert_eq!(loaded.warnings, [], "a pin makes up for tls_verify = false, and all listeners offer TLS");
    let Meant { server, tls, trust, listen, users, backend, imap, pop3, managesieve, submission, lmtp, limits, log, admin } =
        loaded.meant;
    let file = |name: &str| dir.0.join(name);

    assert_eq!((server.name.as_str(), server.user.as_deref(), server.threads), ("edge.example.com", Some("gatepost"), 3));
    assert_eq!(server.control, file("run/control.sock"));
    assert_eq!((tls.certificates.len(), tls.alpn_strict), (1, false));
    assert_eq!((&tls.certificates[0].cert, &tls.certificates[0].key), (&file("tls/mail.pem"), &file("tls/mail.key")));
    let networks: Vec<String> = trust.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.1.0.0/16", "192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(trust.login, ["192.0.2.1/32".parse::<ipnet::IpNet>().unwrap()]);
    assert!(!trust.identity_before_tls);
    let balancers: Vec<String> = trust.proxy_protocol.iter().map(ToString::to_string).collect();
    assert_eq!(balancers, ["10.2.0.4/32", "2001:db8:2::/64"]);

    let told: Vec<_> = listen
        .iter()
        .map(|one| {
            let Listen {
                protocol,
                address,
                optional,
                tls,
                cleartext_auth,
                proxy_protocol,
                xclient,
                bare_newline,
                connections,
                at: _,
                socket_mode,
                socket_group,
            } = one;
            assert_eq!((*socket_mode, socket_group), (0o660, &None));
            assert_eq!(*xclient == meant::XclientAs::Exim, *protocol == "submission");
            assert_eq!(*bare_newline == wire::smtp::message::BareNewline::Reject, *protocol == "lmtp");
            let most = connections.map_or(String::new(), |most| format!(" {most}"));
            format!("{protocol} {address} {tls:?} {cleartext_auth:?} {proxy_protocol:?} {optional}{most}")
        })
        .collect();
    assert_eq!(
        told,
        [
            "imap 0.0.0.0:143 StartTls Never Off true",
            "imap [::]:143 StartTls Never Off true",
            "imap 0.0.0.0:993 Implicit Never Off true",
            "imap [::]:993 Implicit Never Off true",
            "imap 10.1.0.5:143 Implicit Loopback Off false",
            "imap [::1]:1143 Implicit Loopback Off false",
            "imap 0.0.0.0:2143 Implicit Loopback Off true",
            "imap [::]:2143 Implicit Loopback Off true",
            "pop3 0.0.0.0:110 StartTls Loopback Mixed true 5000",
            "pop3 [::]:110 StartTls Loopback Mixed true 5000",
            "pop3 0.0.0.0:995 Offloaded Loopback Required true",
            "pop3 [::]:995 Offloaded Loopback Required true",
            "managesieve 0.0.0.0:4190 StartTls Loopback Off true",
            "managesieve [::]:4190 StartTls Loopback Off true",
            "submission 0.0.0.0:587 StartTls Loopback Off true",
            "submission [::]:587 StartTls Loopback Off true",
            "lmtp 0.0.0.0:24 StartTls Loopback Off true",
            "lmtp [::]:24 StartTls Loopback Off true",
        ]
    );
    assert_eq!(listen[0].cleartext_auth, CleartextAuth::Never);
    assert_eq!(listen[0].at, format!("{}:15:1", file("gatepost.toml").display()));
    assert_eq!(listen[5].at, format!("{}:21:24", file("gatepost.toml").display()));

    let [first, second, third] = users.as_slice() else { panic!("three databases: {users:?}") };
    assert_eq!((first.name.as_str(), first.driver), ("static-1", "static"));
    assert_eq!((second.name.as_str(), third.name.as_str()), ("sqlite-2", "passwd-file-3"));
    assert_eq!(first.username_format.as_deref(), Some("%Ln"));
    assert_eq!((first.protocols.as_slice(), first.deny, first.skip), (["imap".to_owned()].as_slice(), true, Skip::Authenticated));
    assert_eq!((first.result_success, first.result_failure), (Then::ContinueOk, Then::ReturnFail));
    assert_eq!(first.result_internalfail, Then::Continue);
    assert_eq!((second.result_success, second.result_failure), (Then::ReturnOk, Then::Continue));
    assert_eq!((second.result_internalfail, second.skip, second.deny), (Then::ReturnFail, Skip::Never, false));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(first.default_fields, [pair("ssl", "yes")]);
    assert_eq!(first.override_fields, [pair("proxy_timeout", "10")], "numbers are texts, as in a row");
    assert_eq!(
        first.own["fields"].value,
        Own::Fields(vec![
            pair("zulu", "1"),
            pair("Host", "a b"),
            pair("x.y", "\"\\'é~"),
            pair("pass", "hunter2"),
            pair("empty", "")
        ]),
        "in the order of the file"
    );
    assert_eq!(second.own["path"].value, Own::Path(file("users.db")));
    assert_eq!(second.own["query"].value, Own::Text("SELECT '''x''' \\ 'y'\nFROM t\tWHERE u = '%u'".to_owned()));
    assert!(!third.own.contains_key("default_pass_scheme"));

    assert_eq!((backend.tls, backend.tls_verify), (BackendTls::Implicit, false));
    assert_eq!(backend.tls_ca, Some(file("tls/backends-ca.pem")));
    assert_eq!((backend.tls_pin[0][31], backend.tls_pin[1]), (31, [0; 32]));
    assert_eq!(backend.tls_client.unwrap().key, file("tls/mail.key"));
    assert_eq!((backend.proxy_timeout, backend.connect_timeout), (Duration::from_millis(1500), Duration::from_millis(500)));
    let addresses: Vec<String> = backend.self_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.7", "192.0.2.8"]);
    let sources: Vec<_> = backend.source_ips.iter().map(|one| (one.host.as_str(), one.if_here)).collect();
    assert_eq!(sources, [("10.0.0.8", false), ("2001:db8::8", true), ("out.example.com", true)]);
    assert!(backend.source_ips[0].at.starts_with(&format!("{}:", file("gatepost.toml").display())), "{:?}", backend.source_ips);
    let to = |host: &str, port| LocalBackend { host: host.to_owned(), port };
    let local: Vec<_> = backend.local.into_iter().collect();
    assert_eq!(local, [("imap".to_owned(), to("Localhost", 10143)), ("pop3".to_owned(), to("::1", 10110))]);
    assert_eq!(backend.disconnect_spread, Duration::from_secs(10));
    assert_eq!((backend.proxy_protocol, backend.identity_refused), (BackendProxy::V2, IdentityRefused::Continue));
    assert_eq!(backend.submission_login, meant::SubmissionLogin::Xclient);

    assert_eq!(imap.capability.as_deref(), Some("IMAP4rev1 ID"));
    assert_eq!(imap.id_send, [pair("name", "Gatepost"), pair("support-url", "https://example.com/")]);
    assert_eq!((imap.id_retain, imap.greeting.as_str()), (true, "Hello \\ \"you\""));
    assert_eq!(imap.idle_timeout, Duration::from_secs(1860));
    assert_eq!((pop3.capability.as_str(), pop3.greeting.as_str()), ("TOP UIDL", "Hello \\ \"you\""));
    assert_eq!(pop3.idle_timeout, Duration::from_secs(3600));
    let expected = meant::ManageSieve {
        sieve: Some("fileinto reject".into()),
        notify: Some("mailto".into()),
        implementation: "Dovecot Pigeonhole".into(),
        greeting: "Hello".into(),
        idle_timeout: Duration::from_secs(2400),
    };
    assert_eq!(managesieve, expected);
    let expected = meant::Submission {
        capability: Some("8BITMIME SIZE=52428800".into()),
        greeting: "Hello".into(),
        login_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(720),
    };
    assert_eq!(submission, expected);
    let expected = meant::Lmtp {
        capability: Some("DSN".into()),
        greeting: "Hello".into(),
        idle_timeout: Duration::from_secs(600),
        recipient_delimiter: "+-".into(),
        soft_bounce: true,
    };
    assert_eq!(lmtp, expected);

    let expected = meant::Limits {
        line: 65536,
        literal: 65,
        bad_commands: 1,
        commands: 11,
        failed_logins: 2,
        failed_login_pause: Duration::ZERO,
        login_timeout: Duration::from_secs(120),
        tls_handshake_timeout: Duration::from_secs(10),
        connections: 7,
        connections_before_login: 8,
        user_connections: 9,
        exempt: vec!["192.0.2.40/32".parse().unwrap(), "2001:db8:4::/64".parse().unwrap()],
        guesses: 10,
        lookup_timeout: Duration::from_secs(3),
        lookups: 12,
        message_size: 1024 * 1024,
        recipients: 200,
        drain: Duration::from_secs(3600),
        upgrade_drain: Duration::from_secs(7 * 86_400),
    };
    assert_eq!(limits, expected);
    assert_eq!((log.format, log.level, log.target), (LogFormat::Json, LogLevel::Debug, LogTarget::File(file("tls/log"))));
    let addresses = vec!["127.0.0.1:9143".parse().unwrap(), "[::1]:9143".parse().unwrap()];
    let expected = meant::Admin { group: Some("mailadm".into()), address: addresses, token_file: Some(file("tls/mail.key")) };
    assert_eq!(admin, expected);
}

#[test]
fn the_smallest_file() {
    let meant = clean(&format!(
        "{TOP}[tls]\ncertificates = [{{ cert = \"tls/mail.pem\", key = \"tls/mail.key\" }}]\n[[listen]]\nprotocol = \"imap\"\n{USERS}"
    ));
    assert_eq!(meant.listen.len(), 2);
    assert_eq!(meant.listen[0].cleartext_auth, CleartextAuth::Loopback);
    assert_eq!(meant.server.control, Path::new("/run/gatepost/control.sock"));
    assert!(meant.server.threads >= 1 && meant.limits.connections >= 1);
    assert!(meant.tls.alpn_strict && meant.trust.identity_before_tls && meant.trust.networks.is_empty());
    assert_eq!((meant.backend.tls, meant.backend.tls_verify), (BackendTls::None, true));
    assert_eq!(meant.backend.proxy_timeout, Duration::from_secs(30));
    assert_eq!((meant.imap.capability, meant.imap.id_retain), (None, false));
    assert_eq!(meant.imap.idle_timeout, Duration::from_secs(7200));
    assert!(meant.trust.proxy_protocol.is_empty());
    assert_eq!((meant.listen[0].proxy_protocol, meant.listen[0].connections), (ListenProxy::Off, None));
    assert!(meant.limits.exempt.is_empty());
    assert_eq!((meant.backend.source_ips, meant.backend.local.len()), (vec![], 0));
    assert_eq!(meant.backend.disconnect_spread, Duration::ZERO);
    assert_eq!((meant.backend.proxy_protocol, meant.backend.identity_refused), (BackendProxy::Off, IdentityRefused::Fail));
    assert_eq!(meant.pop3.capability, "TOP UIDL RESP-CODES PIPELINING AUTH-RESP-CODE");
    assert_eq!(meant.pop3.greeting, "edge.example.com Gatepost ready.");
    assert_eq!(meant.pop3.idle_timeout, Duration::from_secs(660));
    assert!(meant.trust.login.is_empty());
    assert_eq!(
        (meant.listen[0].xclient, meant.backend.submission_login),
        (meant::XclientAs::Usual, meant::SubmissionLogin::Password)
    );
    let sieve = &meant.managesieve;
    assert_eq!((&sieve.sieve, &sieve.notify, sieve.implementation.as_str()), (&None, &None, "Gatepost"));
    assert_eq!((sieve.greeting.as_str(), sieve.idle_timeout.as_secs()), ("edge.example.com Gatepost ready.", 7200));
    let submission = &meant.submission;
    assert_eq!((&submission.capability, submission.greeting.as_str()), (&None, "Gatepost ready."));
    assert_eq!((submission.login_timeout.as_secs(), submission.idle_timeout.as_secs()), (300, 660));
    assert_eq!((meant.limits.line, meant.limits.literal, meant.limits.user_connections), (8192, 4096, 50));
    assert_eq!((meant.log.format, meant.log.level, meant.log.target), (LogFormat::Text, LogLevel::Info, LogTarget::Stderr));
}

#[test]
fn every_log_target_has_its_meaning() {
    let log = |keys: &str| clean(&format!("{TOP}{LISTEN}{USERS}[log]\n{keys}\n")).log;
    let syslog = |socket: &str, code| LogTarget::Syslog { socket: socket.into(), facility: LogFacility::new(code) };
    for (keys, target) in [
        ("target = \"stderr\"", LogTarget::Stderr),
        ("target = \"syslog\"", syslog("/dev/log", 2)),
        ("target = \"syslog\"\nsocket = \"/run/x\"\nfacility = \"local7\"", syslog("/run/x", 23)),
        (
            "target = \"journald\"",
            LogTarget::Journald { socket: "/run/systemd/journal/socket".into(), facility: LogFacility::new(2) },
        ),
    ] {
        assert_eq!(log(keys).target, target, "{keys}");
    }
    assert_eq!(log("format = \"dovecot-2.3\"").format, LogFormat::Dovecot(DovecotVersion::V2_3));
    assert_eq!(log("format = \"dovecot-2.4\"").format, LogFormat::Dovecot(DovecotVersion::V2_4));
}

#[test]
fn what_is_shown_can_be_loaded() {
    let dir = Dir::furnished();
    let with_log = |keys: &str| format!("{TOP}{LISTEN}{USERS}[log]\n{keys}\n");
    for text in [
        FULL.to_owned(),
        format!("{TOP}{LISTEN}{USERS}"),
        with_log("target = \"syslog\"\nformat = \"dovecot-2.4\""),
        with_log("target = \"journald\"\nsocket = \"/run/x y\"\nfacility = \"authpriv\""),
    ] {
        dir.put("gatepost.toml", text.as_bytes());
        survives(&dir);
    }
}

#[test]
fn what_is_shown_hides_secrets_and_marks_defaults() {
    let dir = Dir::furnished();
    dir.put("gatepost.toml", FULL.as_bytes());
    let meant = dir.load().unwrap().meant;
    let shown = effective(&meant);
    assert!(!shown.contains("hunter2") && shown.contains("pass = \"***\""), "{shown}");
    assert!(effective_with_secrets(&meant).contains("hunter2"));
    assert!(!format!("{meant:?}").contains("hunter2"));
    assert!(shown.contains("\nguesses = 10\n"), "{shown}");
    // The rest of a text with hidden secrets is still a configuration.
    let again = Dir::new();
    again.put("gatepost.toml", shown.as_bytes());
    assert!(again.load().is_ok());

    dir.put("gatepost.toml", format!("{TOP}{LISTEN}{USERS}").as_bytes());
    let shown = effective(&dir.load().unwrap().meant);
    for line in ["local = {}  # default", "source_ips = []  # default", "proxy_protocol = []  # default"] {
        assert!(shown.lines().any(|have| have == line), "{line} in\n{shown}");
    }
    for line in ["guesses = 20  # default", "tls_verify = true  # default", "# tls_ca: not set", "name = \"edge.example.com\""] {
        assert!(shown.lines().any(|have| have == line), "{line} in\n{shown}");
    }
}
