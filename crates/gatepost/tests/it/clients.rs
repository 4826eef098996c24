//! Real mail clients through Gatepost against a real Dovecot.

use crate::gate::{Gate, Want, everybody_at};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use testkit::dovecot::{Backend, Options};
use testkit::{Dir, real};

/// How many messages the mirror has; `GATEPOST_TEST_MESSAGES` asks for another number.
fn messages() -> usize {
    std::env::var("GATEPOST_TEST_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

fn dovecot_and_gate() -> (Backend, Gate) {
    let dovecot = Backend::start(Options { trusted: "127.0.0.1".into(), ..Default::default() });
    let ca = dovecot.certificate().ca_file.display().to_string();
    let backend = format!("tls = \"starttls\"\ntls_ca = \"{ca}\"");
    let gate = Gate::start(&Want { users: &everybody_at(dovecot.imap(), ""), backend: &backend, ..Default::default() });
    (dovecot, gate)
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{program} {arguments:?}: {}\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    text
}

#[test]
fn mbsync_mirrors_the_same_bytes() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("mbsync") else { return };
    let (dovecot, gate) = dovecot_and_gate();
    for n in 0..messages() {
        // One message of 5 MB in four hundred is enough: ordinary ones, raw 8-bit ones and empty ones are the rest.
        let message = testkit::dovecot::sample(7, n);
        let message = if message.len() > 1 << 20 && n % 400 >= 8 { testkit::dovecot::sample(7, n + 1) } else { message };
        dovecot.add_message("alice", "INBOX", &message);
    }
    let direct = mirror("direct", dovecot.imap().port(), &dovecot.certificate().ca_file);
    let through = mirror("through", gate.imap().port(), &gate.gatepost.dir().join("gate-ca.pem"));
    assert_eq!(direct.values().sum::<usize>(), messages());
    assert!(direct == through, "{} messages direct, {} through Gatepost, or different bytes", direct.len(), through.len());
}

/// Mirrors alice's INBOX with mbsync over STARTTLS: how often each content is there.
fn mirror(name: &str, port: u16, ca: &Path) -> BTreeMap<Vec<u8>, usize> {
    let dir = Dir::new();
    let path = dir.create(name);
    dir.create(format!("{name}/mail"));
    let path = path.display();
    let config = dir.write(
        "mbsyncrc",
        format!(
            "IMAPAccount a\nHost localhost\nPort {port}\nUser alice\nPass alice-secret\nSSLType STARTTLS\nSystemCertificates no\nCertificateFile {}\n\nIMAPStore far\nAccount a\n\nMaildirStore near\nPath {path}/mail/\nInbox {path}/mail/INBOX\nSubFolders Verbatim\n\nChannel c\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState {path}/\n",
            ca.display()
        ),
    );
    run("mbsync", &["-c", &config.display().to_string(), "-q", "c"]);
    let mut all = BTreeMap::new();
    for folder in ["new", "cur"] {
        for entry in std::fs::read_dir(dir.join(format!("{name}/mail/INBOX/{folder}"))).unwrap() {
            *all.entry(without_tuid(std::fs::read(entry.unwrap().path()).unwrap())).or_insert(0) += 1;
        }
    }
    all
}

/// mbsync puts a random field of its own into what it stores.
fn without_tuid(message: Vec<u8>) -> Vec<u8> {
    let Some(start) = message.windows(8).position(|w| w == b"X-TUID: ") else { return message };
    let end = message[start..].iter().position(|b| *b == b'\n').map_or(message.len(), |n| start + n + 1);
    [&message[..start], &message[end..]].concat()
}

#[test]
fn curl_fetches_a_message() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("curl") else { return };
    let (dovecot, gate) = dovecot_and_gate();
    let message = b"Subject: for curl\r\n\r\nHello, caf\xc3\xa9.\r\n";
    dovecot.add_message("alice", "INBOX", message);
    let ca = gate.gatepost.dir().join("gate-ca.pem").display().to_string();
    for (url, more) in [
        (format!("imaps://localhost:{}/INBOX;MAILINDEX=1", gate.imaps().port()), &[][..]),
        (format!("imap://localhost:{}/INBOX;MAILINDEX=1", gate.imap().port()), &["--ssl-reqd"]),
        (format!("imaps://localhost:{}/INBOX;MAILINDEX=1", gate.imaps().port()), &["--login-options", "AUTH=LOGIN"]),
    ] {
        let mut arguments = vec!["-sS", "--max-time", "20", "--cacert", &ca, "-u", "alice:alice-secret", &url];
        arguments.extend_from_slice(more);
        let got = run("curl", &arguments);
        assert_eq!(got.as_bytes(), message, "{url}");
    }
}

#[test]
fn python_imaplib_and_idle() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("python3") else { return };
    let (dovecot, gate) = dovecot_and_gate();
    dovecot.add_message("alice", "INBOX", b"Subject: one\r\n\r\n1\r\n");
    let script = r#"
import imaplib, ssl, sys, os
port, ca, flag = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=ca)
m = imaplib.IMAP4('localhost', port, timeout=30)
m.starttls(context)
assert 'STARTTLS' not in m.capabilities, m.capabilities
assert m.login('alice', 'alice-secret')[0] == 'OK'
assert m.select('INBOX')[1] == [b'1']
print(m.fetch('1', '(BODY[])')[1][0][1].decode(), end='')
m.send(b'x IDLE\r\n')
assert m.readline().startswith(b'+ ')
open(flag, 'w').close()
while True:
    line = m.readline()
    assert line, 'closed'
    if b'2 EXISTS' in line:
        break
m.send(b'DONE\r\n')
while not m.readline().startswith(b'x OK'):
    pass
m.logout()
print('idle noticed')
"#;
    let dir = Dir::new();
    let (file, flag) = (dir.write("client.py", script), dir.join("idling"));
    let ca = gate.gatepost.dir().join("gate-ca.pem");
    let client = Command::new("python3")
        .arg(file)
        .arg(gate.imap().port().to_string())
        .arg(ca)
        .arg(&flag)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    testkit::wait::until("the client is idle", || flag.exists());
    dovecot.add_message("alice", "INBOX", b"Subject: two\r\n\r\n2\r\n");
    let out = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("Subject: one") && text.contains("idle noticed"), "{text}");
}

#[test]
fn openssl_s_client() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("openssl") else { return };
    let (dovecot, gate) = dovecot_and_gate();
    dovecot.add_message("alice", "INBOX", b"Subject: one\r\n\r\n1\r\n");
    let ca = gate.gatepost.dir().join("gate-ca.pem").display().to_string();
    for (port, more) in [(gate.imap().port(), &["-starttls", "imap"][..]), (gate.imaps().port(), &["-alpn", "imap"])] {
        let script = format!(
            "{{ printf 'a LOGIN alice alice-secret\\r\\n'; sleep 1; printf 'b SELECT INBOX\\r\\nc LOGOUT\\r\\n'; }} | timeout 20 openssl s_client -quiet -verify_return_error -servername localhost -verify_hostname localhost -CAfile {ca} -connect localhost:{port} {} 2>&1",
            more.join(" ")
        );
        let out = run("sh", &["-c", &script]);
        assert!(out.contains("a OK") && out.contains("* 1 EXISTS") && out.contains("c OK"), "{out}");
    }
}

#[test]
fn capabilities_are_true_before_and_after_login() {
    let Some(_) = real::require("dovecot") else { return };
    let (_dovecot, gate) = dovecot_and_gate();
    let mut cold = gate.client();
    let list = cold.ok("CAPABILITY").untagged_text();
    assert!(list.contains("IMAP4rev1 SASL-IR LITERAL+ ID") && !list.contains("IDLE"), "the list of a cold start: {list}");
    // This client asked before login, so it hears the new list untagged; and it is the one of after login.
    let reply = cold.login("alice", "alice-secret");
    assert!(reply.is_ok());
    let after = reply.untagged_text();
    assert!(after.contains("* CAPABILITY") && after.contains("CONDSTORE") && !after.contains("AUTH=PLAIN"), "{after}");
    assert!(!reply.text.contains("CAPABILITY"), "{reply:?}");
    // Learnt: the next client is told before login what the backend told before login.
    let mut warm = gate.client();
    let list = warm.ok("CAPABILITY").untagged_text();
    assert!(list.contains("IDLE") && list.contains("STARTTLS"), "{list}");
    let mut silent = gate.tls_client();
    let reply = silent.login("alice", "alice-secret");
    assert!(reply.text.starts_with("[CAPABILITY ") && reply.text.contains("CONDSTORE"), "{reply:?}");
}
