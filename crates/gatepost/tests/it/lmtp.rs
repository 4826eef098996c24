//! Mail for many, each recipient at its own server: real Dovecots and servers that misbehave.

use crate::gate::BINARY;
use testkit::dovecot::{Backend, Options};
use testkit::gatepost::Gatepost;
use testkit::peer::{At, Does, FakeLmtp, Lmtp, LmtpClient, SmtpReply};
use testkit::programs::{Mail, replies_to, swaks_lmtp};
use testkit::{Dir, real};

/// A Gatepost that takes mail, and a passwd-file that says where each of these lives.
pub(crate) fn gatepost(users: &[(String, String)], more: &str) -> Gatepost {
    let dir = Dir::new();
    let config = config(&dir, users, "", more);
    Gatepost::start_in(dir, BINARY, &config, |_| {})
}

/// Its configuration, with more in `[server]` and whole sections behind all. The users' file is written.
pub(crate) fn config(dir: &Dir, users: &[(String, String)], server: &str, more: &str) -> String {
    let rows: String = users.iter().map(|(user, fields)| format!("{user}:::::::nopassword=y proxy=y {fields}\n")).collect();
    dir.write("users", rows);
    format!(
        "version = 1
[server]
name = \"edge.test\"
control = \"control.sock\"
{server}
[[listen]]
protocol = \"lmtp\"
address = [\"127.0.0.1:0\"]
tls = \"none\"
[[users]]
driver = \"passwd-file\"
path = \"users\"
{more}
"
    )
}

/// As [`LmtpClient::transaction`], with the whole envelope at once (RFC 2920).
pub(crate) fn pipelined<T: AsRef<str>>(client: &mut LmtpClient, from: &str, to: &[T], message: &[u8]) -> Vec<SmtpReply> {
    let rcpts: String = to.iter().map(|to| format!("RCPT TO:<{}>\r\n", to.as_ref())).collect();
    client.send(format!("MAIL FROM:<{from}>\r\n{rcpts}"));
    let mail = client.reply();
    assert!(mail.is_ok(), "{mail:?}");
    let at_rcpt: Vec<SmtpReply> = to.iter().map(|_| client.reply()).collect();
    if !at_rcpt.iter().any(SmtpReply::is_ok) {
        client.ok("RSET");
        return at_rcpt;
    }
    client.expect("DATA", "354");
    client.send_dotted(message);
    client.finals(at_rcpt)
}

/// Three servers and one that keeps still: whoever lives at the first three is not kept waiting by the third's death, nor by the
/// fourth's silence.
#[test]
fn each_recipient_has_its_server_and_its_answer() {
    if real::require("dovecot").is_none() || real::require("swaks").is_none() {
        return;
    }
    let mut backends: Vec<Backend> = (0..3).map(|_| Backend::start(Options { any_user: true, ..Options::default() })).collect();
    let ports: Vec<u16> = backends.iter().map(|backend| backend.lmtp().port()).collect();
    let users: Vec<(String, String)> =
        (0..50).map(|n| (format!("u{n}@in.test"), format!("host=127.0.0.1 port={}", ports[n % 3]))).collect();
    backends[2].kill();
    let gatepost = gatepost(&users, "");
    fifty(&gatepost, &users, 3, 2);
    for n in (0..50).filter(|n| n % 3 < 2) {
        let inbox = backends[n % 3].delivered(&format!("u{n}"));
        assert_eq!(inbox.messages().len(), 1, "u{n}");
        assert!(backends[1 - n % 3].delivered(&format!("u{n}")).messages().is_empty(), "u{n}");
    }
}

#[test]
fn a_server_that_never_greets_keeps_nobody_else_waiting() {
    if real::require("dovecot").is_none() || real::require("swaks").is_none() {
        return;
    }
    let backends: Vec<Backend> = (0..2).map(|_| Backend::start(Options { any_user: true, ..Options::default() })).collect();
    let silent = FakeLmtp::start(Lmtp::default().with(At::Connect, Does::Hang));
    let ports = [backends[0].lmtp().port(), backends[1].lmtp().port(), silent.port()];
    let home = |n: usize| format!("host=127.0.0.1 port={} proxy_timeout=3", ports[n % 3]);
    let users: Vec<(String, String)> = (0..50).map(|n| (format!("u{n}@in.test"), home(n))).collect();
    let gatepost = gatepost(&users, "");
    fifty(&gatepost, &users, 3, 2);
    for n in (0..50).filter(|n| n % 3 < 2) {
        assert_eq!(backends[n % 3].delivered(&format!("u{n}")).messages().len(), 1, "u{n}");
    }
    // It was waited for once, and not by each of its recipients.
    assert_eq!(silent.connections(), 1);
}

/// One transaction of swaks for all of these users, of whom every `of`th lives at a server that does not answer.
fn fifty(gatepost: &Gatepost, users: &[(String, String)], of: usize, dead: usize) {
    let to: Vec<&str> = users.iter().map(|(user, _)| user.as_str()).collect();
    let mail = Mail { from: "sender@out.test", to: &to, text: b"Subject: x\r\n\r\nHello\r\n" };
    let outcome = swaks_lmtp(gatepost.addr("lmtp"), &mail, &[]);
    let (at_rcpt, finals) = replies_to(&outcome.said);
    let lived: Vec<usize> = (0..users.len()).filter(|n| n % of != dead).collect();
    assert_eq!((at_rcpt.len(), finals.len()), (users.len(), lived.len()), "{}\n{}", outcome.said, gatepost.log().tail());
    for (n, reply) in at_rcpt.iter().enumerate() {
        let expected = if n % of == dead { "451 4.3.0" } else { "250 2.1.5" };
        assert!(reply.contains(expected), "{n}: {reply}");
    }
    for (n, reply) in lived.iter().zip(&finals) {
        assert!(reply.contains(&format!("250 2.0.0 <u{n}@in.test>")), "{n}: {reply}");
    }
    // A line for each, and the patience of ten seconds was never used up.
    let log = gatepost.log();
    assert_eq!((log.count(" delivered "), log.count(" deferred ")), (lived.len(), users.len() - lived.len()), "{}", log.tail());
    for line in log.lines().iter().filter(|line| line.contains(" took=")) {
        let took: f64 = line.split(" took=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(took < 10.0, "{line}");
    }
}

#[test]
fn a_letter_arrives_as_it_was() {
    let fake = FakeLmtp::start(Lmtp::default());
    let gatepost = gatepost(&[("a@in.test".into(), format!("host=127.0.0.1 port={}", fake.port()))], "");
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    let letter = b"Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n";
    let replies = client.transaction("s@out.test", &["a@in.test"], letter);
    assert!(replies[0].code == 250, "{replies:?}\n{}", gatepost.log().tail());
    let got = fake.wait_for_complete(1);
    let message = got[0].message.clone().unwrap();
    assert!(message.ends_with(letter), "{}", message.escape_ascii());
}

#[test]
fn a_short_letter_that_goes_round_is_refused() {
    let fake = FakeLmtp::start(Lmtp::default());
    let gatepost = gatepost(&[("a@in.test".into(), format!("host=127.0.0.1 port={}", fake.port()))], "");
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    // It comes in one piece, which is the last one.
    for (fields, code, letters) in [(101, 554, 0), (100, 250, 1)] {
        let letter = "Received: from x by y; now\r\n".repeat(fields) + "\r\nx\r\n";
        let replies = client.transaction("s@out.test", &["a@in.test"], letter.as_bytes());
        assert_eq!(replies[0].code, code, "{fields}: {replies:?}\n{}", gatepost.log().tail());
        let complete = fake.transactions().iter().filter(|transaction| transaction.is_complete()).count();
        assert_eq!(complete, letters, "{fields}");
    }
}
