//! Real mail clients through Gatepost against a real Dovecot.

use crate::gate::{Gate, POP3_TOO, Want, everybody_at};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use testkit::dovecot::{Backend, Options};
use testkit::peer::Pop3Client;
use testkit::{Dir, Protocol, real};

/// How many messages the mirror has; `GATEPOST_TEST_MESSAGES` asks for another number.
fn messages() -> usize {
    std::env::var("GATEPOST_TEST_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

fn dovecot_and_gate() -> (Backend, Gate) {
    dovecot_and_gate_for(Protocol::Imap)
}

fn dovecot_and_gate_for(protocol: Protocol) -> (Backend, Gate) {
    let dovecot = Backend::start(Options { trusted: "127.0.0.1".into(), ..Default::default() });
    let ca = dovecot.certificate().ca_file.display().to_string();
    let backend = format!("tls = \"starttls\"\ntls_ca = \"{ca}\"");
    let users = everybody_at(dovecot.addresses().of(protocol), "");
    let gate = Gate::start(&Want { users: &users, backend: &backend, more: POP3_TOO, ..Default::default() });
    (dovecot, gate)
}

/// Message `n` of a mailbox of hundreds: ordinary ones, raw 8-bit ones and empty ones, but one of 5 MB in four hundred is
/// enough.
fn message(n: usize) -> Vec<u8> {
    let large = n % 8 == 3;
    testkit::dovecot::sample(7, if large && n % 400 >= 8 { n + 1 } else { n })
}

/// How often each content is there.
fn counted(messages: impl Iterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut all = BTreeMap::new();
    for message in messages {
        *all.entry(message).or_insert(0) += 1;
    }
    all
}

/// The files of a directory, by name.
fn files(dir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// With the line ends that messages have on the wire; the samples have no other CR and LF.
fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(message.len() + message.len() / 40);
    for octet in message {
        if *octet == b'\n' && all.last() != Some(&b'\r') {
            all.push(b'\r');
        }
        all.push(*octet);
    }
    all
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
        dovecot.add_message("alice", "INBOX", &message(n));
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
    let folders = ["new", "cur"].map(|folder| files(&dir.join(format!("{name}/mail/INBOX/{folder}"))));
    counted(folders.into_iter().flatten().map(without_tuid))
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

/// How many messages POP3 clients fetch.
const POP3_MESSAGES: usize = 500;

#[test]
fn mpop_fetches_the_same_bytes() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("mpop") else { return };
    let (dovecot, gate) = dovecot_and_gate_for(Protocol::Pop3);
    let mailbox = counted((0..POP3_MESSAGES).map(message));
    for n in 0..POP3_MESSAGES {
        dovecot.add_message("alice", "INBOX", &message(n));
    }
    let ca = gate.gatepost.dir().join("gate-ca.pem");
    for (starttls, port) in [("on", gate.at(Protocol::Pop3).port()), ("off", gate.tls_at(Protocol::Pop3).port())] {
        // As a mail client comes, and without what it may leave out.
        for (pipelining, auth) in [("on", "user"), ("off", "plain")] {
            let dir = Dir::new();
            for folder in ["mail", "mail/tmp", "mail/new", "mail/cur"] {
                dir.create(folder);
            }
            let (path, ca) = (dir.path().display(), ca.display());
            let config = format!(
                "account a\nhost localhost\nport {port}\nauth {auth}\nuser alice\npasswordeval \"printf alice-secret\"\n\
                 tls on\ntls_starttls {starttls}\ntls_trust_file {ca}\npipelining {pipelining}\n\
                 delivery maildir {path}/mail\nuidls_file {path}/uidls\nkeep on\nreceived_header off\n"
            );
            let file = dir.write("mpoprc", config);
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            run("mpop", &["-q", "-C", &file.display().to_string(), "a"]);
            // It stores line ends as they are on its own system.
            let got = counted(files(&dir.join("mail/new")).iter().map(|message| with_crlf(message)));
            assert!(got == mailbox, "starttls {starttls}: {} different messages", got.len());
        }
    }
    // Two ways of TLS, two ways of signing in.
    let logins = gate.gatepost.log().wait_for_count(" info login ", 4);
    assert!(logins.iter().all(|line| line.contains("protocol=pop3") && !line.contains(" tls=none")), "{logins:#?}");
}

#[test]
fn python_poplib_fetches_the_same_bytes() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("python3") else { return };
    let (dovecot, gate) = dovecot_and_gate_for(Protocol::Pop3);
    for n in 0..POP3_MESSAGES {
        dovecot.add_message("alice", "INBOX", &message(n));
    }
    let script = r#"
import poplib, ssl, sys
open_port, tls_port, ca, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
poplib._MAXLINE = 100000  # one message has a longer line than it takes by default
context = ssl.create_default_context(cafile=ca)

# In clear from loopback.
m = poplib.POP3('localhost', open_port, timeout=60)
assert m.capa()['SASL'] == ['PLAIN', 'LOGIN'] and 'STLS' in m.capa(), m.capa()
m.user('alice')
m.pass_('alice-secret')
assert m.stat()[0] == 500
m.quit()

# STLS, and everything fetched.
m = poplib.POP3('localhost', open_port, timeout=60)
m.stls(context)
assert 'STLS' not in m.capa(), m.capa()
try:
    m.user('alice')
    m.pass_('wrong')
    sys.exit('the wrong password was taken')
except poplib.error_proto as refused:
    assert b'[AUTH]' in refused.args[0], refused
m.user('alice')
m.pass_('alice-secret')
assert 'UIDL' in m.capa()
uids = [line.split()[1] for line in m.uidl()[1]]
assert len(set(uids)) == 500, len(set(uids))
for n in range(1, 501):
    with open('%s/%04d' % (out, n), 'wb') as f:
        for line in m.retr(n)[1]:
            f.write(line + b'\r\n')
m.quit()

# TLS from the first byte: the same mailbox.
m = poplib.POP3_SSL('localhost', tls_port, context=context, timeout=60)
m.user('alice')
m.pass_('alice-secret')
assert [line.split()[1] for line in m.uidl()[1]] == uids
head = m.top(7, 0)[1]
assert b'Subject: message 6 of series 7' in head and head[-1] == b'', head
m.quit()
"#;
    let dir = Dir::new();
    let (file, got) = (dir.write("client.py", script), dir.create("got"));
    let (open, tls) = (gate.at(Protocol::Pop3).port().to_string(), gate.tls_at(Protocol::Pop3).port().to_string());
    let ca = gate.gatepost.dir().join("gate-ca.pem");
    let arguments = [file.as_path(), Path::new(&open), Path::new(&tls), &ca, &got].map(|path| path.display().to_string());
    run("python3", &arguments.each_ref().map(String::as_str));
    let got = files(&got);
    assert_eq!(got.len(), POP3_MESSAGES);
    for (n, got) in got.into_iter().enumerate() {
        let put = message(n);
        assert!(got == put, "message {n} has {} octets on the way and {} in the mailbox", got.len(), put.len());
    }
}

#[test]
fn curl_fetches_a_message_by_pop3() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("curl") else { return };
    let (dovecot, gate) = dovecot_and_gate_for(Protocol::Pop3);
    let message = b"Subject: for curl\r\n\r\n.dots\r\n..\r\nHello, caf\xc3\xa9.\r\n";
    dovecot.add_message("alice", "INBOX", message);
    let ca = gate.gatepost.dir().join("gate-ca.pem").display().to_string();
    let open = format!("pop3://localhost:{}/1", gate.at(Protocol::Pop3).port());
    let tls = format!("pop3s://localhost:{}/1", gate.tls_at(Protocol::Pop3).port());
    for (url, more) in [
        (&open, &[][..]),
        (&open, &["--ssl-reqd"]),
        (&tls, &[]),
        (&tls, &["--login-options", "AUTH=LOGIN"]),
        (&tls, &["--login-options", "AUTH=PLAIN", "--sasl-ir"]),
    ] {
        let mut arguments = vec!["-sS", "--max-time", "20", "--cacert", &ca, "-u", "alice:alice-secret", url];
        arguments.extend_from_slice(more);
        let got = run("curl", &arguments);
        assert_eq!(got.as_bytes(), message, "{url} {more:?}");
    }
    let logins = gate.gatepost.log().wait_for_count(" info login ", 5);
    let said = |mechanism: &str| logins.iter().filter(|line| line.contains(&format!("mechanism={mechanism} "))).count();
    assert!(said("LOGIN") >= 1 && said("PLAIN") >= 1, "{logins:#?}");
}

#[test]
fn a_pop3_session_in_one_packet() {
    let Some(_) = real::require("dovecot") else { return };
    let (dovecot, gate) = dovecot_and_gate_for(Protocol::Pop3);
    let mail = b"Subject: one\r\n\r\n.1\r\n";
    dovecot.add_message("alice", "INBOX", mail);
    // Dovecot ends a session of TLS at once when the client ends its half.
    let clear = Gate::start(&Want { users: &everybody_at(dovecot.pop3(), ""), more: POP3_TOO, ..Default::default() });
    for leg in ["clear", "stls", "tls", "half-closed"] {
        let mut client = match leg {
            "half-closed" => Pop3Client::connect(clear.at(Protocol::Pop3)),
            "tls" => Pop3Client::connect_tls(gate.tls_at(Protocol::Pop3), &gate.tls, "localhost"),
            _ => Pop3Client::connect(gate.at(Protocol::Pop3)),
        };
        client.greeting();
        if leg == "stls" {
            client.stls(&gate.tls, "localhost");
        }
        client.send("USER alice\r\nPASS alice-secret\r\nSTAT\r\nRETR 1\r\nQUIT\r\n");
        if leg == "half-closed" {
            client.half_close();
        }
        assert!(client.outcome().ok && client.outcome().ok, "{leg}\n{}", gate.gatepost.log().tail());
        assert_eq!(client.outcome().text, format!("1 {}", mail.len()), "{leg}");
        assert!(client.outcome().ok);
        assert_eq!(client.rest_of_multi_line(), mail, "{leg}");
        assert!(client.outcome().ok);
        client.expect_end();
    }
    // A wrong password in front: what stands behind it was meant for a session that there is not.
    let mut client = Pop3Client::greeted(gate.at(Protocol::Pop3));
    client.send("USER alice\r\nPASS wrong\r\nSTAT\r\nUSER alice\r\nPASS alice-secret\r\nSTAT\r\nQUIT\r\n");
    let answers: Vec<bool> = (0..7).map(|_| client.outcome().ok).collect();
    assert_eq!(answers, [true, false, false, true, true, true, true]);
    client.expect_end();
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
fn openssl_s_client_by_pop3() {
    let Some(_) = real::require("dovecot") else { return };
    let Some(_) = real::require("openssl") else { return };
    let (dovecot, gate) = dovecot_and_gate_for(Protocol::Pop3);
    dovecot.add_message("alice", "INBOX", b"Subject: one\r\n\r\n1\r\n");
    let ca = gate.gatepost.dir().join("gate-ca.pem").display().to_string();
    let (open, tls) = (gate.at(Protocol::Pop3).port(), gate.tls_at(Protocol::Pop3).port());
    for (port, more) in [(open, &["-starttls", "pop3"][..]), (tls, &["-alpn", "pop3"])] {
        let script = format!(
            "printf 'USER alice\\r\\nPASS alice-secret\\r\\nLIST 1\\r\\nQUIT\\r\\n' | timeout 20 openssl s_client -quiet -verify_return_error -servername localhost -verify_hostname localhost -CAfile {ca} -connect localhost:{port} {} 2>&1",
            more.join(" ")
        );
        let out = run("sh", &["-c", &script]);
        assert!(out.contains("+OK Logged in.") && out.contains("+OK 1 19") && out.contains("+OK Logging out"), "{out}");
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

/// The server closes first behind QUIT and LOGOUT, as it does when it dies.
#[test]
fn a_logout_is_not_taken_for_a_death() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = Backend::start(Options::default());
    for protocol in Protocol::MAILBOX {
        let users = everybody_at(dovecot.addresses().of(protocol), "");
        let backend = "disconnect_spread = \"10m\"";
        let gate = Gate::start(&Want { users: &users, backend, more: POP3_TOO, ..Default::default() });
        for _ in 0..4 {
            let mut client = gate.any_client(protocol);
            assert!(client.login("alice", "alice-secret").ok);
            client.logout();
        }
    }
}
