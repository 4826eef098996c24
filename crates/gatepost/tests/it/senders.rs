//! Real programs that send, through Gatepost to a real Postfix.

use std::process::Command;

use testkit::certs::Authority;
use testkit::dovecot::sample;
use testkit::postfix::{self, Options, Postfix};
use testkit::programs::{self, Account, HELLO, Mail, Outcome};
use testkit::{Dir, Protocol, real};

use crate::gate::{Gate, Want, everybody_at, listeners_for};
use crate::sending::{Arrival, Leg, Way, alice, delivered};

/// From where Gatepost calls: an address that is not the clients'.
const OURS: &str = "127.0.0.9";

struct House {
    postfix: Postfix,
    gate: Gate,
}

impl House {
    #[track_caller]
    fn start() -> House {
        let extra = "smtpd_client_port_logging = yes\nmessage_size_limit = 20000000\n".to_owned();
        let postfix = Postfix::start(Options { xclient_hosts: OURS.into(), auth_in_tls_only: true, extra, ..Options::default() });
        let ca = postfix.certificate().ca_file.display();
        let backend = format!("tls = \"starttls\"\ntls_ca = \"{ca}\"\nsource_ips = \"{OURS}\"");
        let (users, more) = (everybody_at(postfix.addr(), ""), listeners_for(Protocol::Submission));
        let gate = Gate::start(&Want { users: &users, backend: &backend, more: &more, ..Default::default() });
        let house = House { postfix, gate };
        // Postfix' extensions are listed once somebody has signed in.
        house.run(false, "PLAIN", |account| {
            let outcome = programs::swaks(account, &mail(b"Subject: first\r\n\r\nx\r\n"), &[]);
            assert!(outcome.ok, "{}\n{}", outcome.said, house.gate.gatepost.log().tail());
        });
        delivered(&house.postfix, "first");
        house
    }

    /// Runs a program as alice.
    fn run<T>(&self, implicit: bool, mechanism: &str, program: impl FnOnce(&Account) -> T) -> T {
        let ca = self.gate.gatepost.dir().join("gate-ca.pem");
        let at = if implicit { self.gate.tls_at(Protocol::Submission) } else { self.gate.at(Protocol::Submission) };
        let port = at.port();
        program(&Account { port, implicit, ca: &ca, user: "alice", password: "alice-secret", mechanism })
    }

    /// What both logs say of the `n`th login (from 1) is about the client, and the same.
    #[track_caller]
    fn agrees(&self, n: usize, mechanism: &str) {
        let ours = self.gate.gatepost.log().wait_for_count(" info login ", n).swap_remove(n - 1);
        for piece in [
            "protocol=submission user=alice client=127.0.0.1:",
            &format!(" mechanism={mechanism} "),
            " tls=TLSv1.3:",
            " backend_tls=TLSv1.3:",
            " identity=told ",
        ] {
            assert!(ours.contains(piece), "no {piece:?} in {ours}");
        }
        let client = ours.split(' ').find_map(|word| word.strip_prefix("client=127.0.0.1:")).unwrap();
        self.postfix.log().wait_for(&format!("client=unknown[127.0.0.1]:{client}, sasl_method=PLAIN, sasl_username=alice"));
    }
}

fn mail(text: &[u8]) -> Mail<'_> {
    Mail { from: "alice@example.com", to: &["carol@example.org"], text }
}

#[test]
fn swaks_sends() {
    sends("swaks", programs::swaks);
}

#[test]
fn msmtp_sends() {
    sends("msmtp", programs::msmtp);
}

#[test]
fn curl_sends() {
    sends("curl", programs::curl);
}

/// What a mail server adds is in front; the fields and the body of the sender are the end.
fn as_stored(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|octet| *octet != b'\r').collect()
}

#[track_caller]
fn sends(name: &str, send: impl Fn(&Account, &Mail, &[&str]) -> Outcome) {
    let (Some(_), Some(_), Some(_)) = (postfix::require(), real::require(name), real::require("swaks")) else { return };
    let house = House::start();
    let mut logins = 1;
    for implicit in [false, true] {
        for mechanism in ["PLAIN", "LOGIN"] {
            // Raw 8-bit text, an empty body, 5 MB, and dots and commands at line starts.
            for number in [1, 2, 3, 4] {
                if number == 3 && mechanism == "LOGIN" {
                    continue;
                }
                let series = u64::from(implicit) * 2 + u64::from(mechanism == "LOGIN");
                let text = sample(series, number);
                let outcome = house.run(implicit, mechanism, |account| send(account, &mail(&text), &[]));
                assert!(outcome.ok, "{mechanism} {number}: {}\n{}", outcome.said, house.gate.gatepost.log().tail());
                logins += 1;
                house.agrees(logins, mechanism);
                let message = delivered(&house.postfix, &format!("message {number} of series {series}"));
                let received = message.received();
                assert!(received.starts_with(&format!("from {HELLO} (unknown [127.0.0.1])")), "{received}");
                assert!(received.contains("(Authenticated sender: alice)"), "{received}");
                let (mut got, put) = (message.raw(), as_stored(&text));
                let mut put = &put[..];
                if number == 2 {
                    // swaks leaves out the empty line in front of nothing.
                    (got, put) = (got.trim_ascii_end(), put.trim_ascii_end());
                }
                assert!(got.ends_with(put), "{mechanism} {number}: {} octets of {}: {message:?}", got.len(), put.len());
            }
        }
    }
    let wrong = house.run(false, "PLAIN", |account| {
        send(&Account { password: "wrong", ..account.clone() }, &mail(b"Subject: no\r\n\r\nx\r\n"), &[])
    });
    assert!(!wrong.ok, "{}", wrong.said);
    house.gate.gatepost.wait_for("reason=backend-credentials");
    let dir = Dir::new();
    let stranger = Authority::new(dir.path(), "stranger").ca_file();
    for implicit in [false, true] {
        let wary = house.run(implicit, "PLAIN", |account| {
            send(&Account { ca: &stranger, ..account.clone() }, &mail(b"Subject: no\r\n\r\nx\r\n"), &[])
        });
        assert!(!wary.ok, "{}", wary.said);
    }
    assert_eq!(house.gate.gatepost.log().count(" info login "), logins);
}

#[test]
fn swaks_sends_without_waiting_for_answers() {
    let (Some(_), Some(_)) = (postfix::require(), real::require("swaks")) else { return };
    let house = House::start();
    for implicit in [false, true] {
        let text = sample(7, usize::from(implicit) * 4);
        let outcome = house.run(implicit, "PLAIN", |account| programs::swaks(account, &mail(&text), &["--pipeline"]));
        assert!(outcome.ok, "{}", outcome.said);
        let message = delivered(&house.postfix, &format!("message {} of series 7", usize::from(implicit) * 4));
        assert!(message.raw().ends_with(&as_stored(&text)));
    }
}

/// Names beyond ASCII in the envelope and in the header (RFC 6531), with the two that can.
#[test]
fn python_and_curl_send_with_smtputf8() {
    let (Some(_), Some(_), Some(_)) = (postfix::require(), real::require("python3"), real::require("curl")) else { return };
    if real::require("swaks").is_none() {
        return;
    }
    let house = House::start();
    let script = r#"
import smtplib, ssl, sys
port, tls_port, ca = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=ca)
message = 'From: Alïce <alïce@example.com>\r\nSubject: 你好 %s\r\n\r\n.\r\nПривет\r\n'
for name in 'STARTTLS', 'TLS':
    if name == 'TLS':
        s = smtplib.SMTP_SSL('localhost', tls_port, local_hostname='program.test', context=context, timeout=60)
    else:
        s = smtplib.SMTP('localhost', port, local_hostname='program.test', timeout=60)
        s.starttls(context=context)
    s.ehlo()
    assert s.has_extn('smtputf8') and s.has_extn('8bitmime'), s.esmtp_features
    # It says nothing anew behind the login.
    s.login('alice', 'alice-secret')
    refused = s.sendmail('alïce@example.com', ['çarol@example.org'], (message % name).encode(),
                         mail_options=['SMTPUTF8', 'BODY=8BITMIME'])
    assert not refused, refused
    s.quit()
"#;
    let dir = Dir::new();
    let file = dir.write("client.py", script);
    let [port, tls_port] =
        [house.gate.at(Protocol::Submission), house.gate.tls_at(Protocol::Submission)].map(|at| at.port().to_string());
    let ca = house.gate.gatepost.dir().join("gate-ca.pem");
    let out = Command::new("python3").arg(file).args([port, tls_port]).arg(ca).output().unwrap();
    assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stderr), house.gate.gatepost.log().tail());
    let text = "Subject: 你好 curl\r\n\r\nПривет\r\n".as_bytes();
    let outcome = house.run(false, "PLAIN", |account| {
        let mail = Mail { from: "alïce@example.com", to: &["çarol@example.org"], text };
        programs::curl(account, &mail, &[])
    });
    assert!(outcome.ok, "{}", outcome.said);
    for name in ["STARTTLS", "TLS", "curl"] {
        let message = delivered(&house.postfix, &format!("你好 {name}"));
        assert_eq!(message.fields("Delivered-To"), ["çarol@example.org"]);
        assert!(String::from_utf8_lossy(message.body()).ends_with("Привет\n"));
        assert!(message.received().contains(" with UTF8SMTPSA "), "{}", message.received());
    }
}

/// No program at hand sends chunks; a client of our own does.
#[test]
fn chunks_and_commands_between_them_arrive() {
    let Some(_) = postfix::require() else { return };
    let extra = "message_size_limit = 20000000\n".to_owned();
    let postfix = Postfix::start(Options { xclient_hosts: "127.0.0.1".into(), extra, ..Options::default() });
    let way = Way::to(&postfix, Leg::StartTls, "", "");
    let (mut client, _) = way.client(Arrival::Itself);
    way.sign_in(&mut client, &alice());
    assert!(client.ehlo("laptop.example").get("CHUNKING").is_some());
    let text = sample(7, 3);
    client.send("MAIL FROM:<alice@example.com> BODY=8BITMIME\r\nRCPT TO:<carol@example.org>\r\n");
    for (n, chunk) in text.chunks(1_000_000).enumerate() {
        let last = if (n + 1) * 1_000_000 >= text.len() { " LAST" } else { "" };
        client.send(format!("BDAT {}{last}\r\n", chunk.len()));
        client.send(chunk);
    }
    client.send("NOOP\r\n");
    let codes: Vec<u16> = (0..2 + text.len().div_ceil(1_000_000) + 1).map(|_| client.reply().code).collect();
    assert!(codes.iter().all(|code| *code == 250), "{codes:?}");
    client.quit();
    assert!(delivered(&postfix, "message 3 of series 7").raw().ends_with(&as_stored(&text)));
}
