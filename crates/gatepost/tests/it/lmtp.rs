//! Mail for many, each recipient at its own server: real Dovecots and servers that misbehave.

use crate::gate::BINARY;
use std::time::{Duration, Instant};
use testkit::dovecot::{Backend, Options};
use testkit::gatepost::Gatepost;
use testkit::peer::{FakeLmtp, Lmtp, LmtpClient, SmtpReply};
use testkit::programs::{Mail, replies_to, swaks_lmtp};
use testkit::{Dir, free_port, real};

/// A Gatepost that takes mail, and a passwd-file that says where each of these lives.
pub(crate) fn gatepost(users: &[(String, String)], more: &str) -> Gatepost {
    let dir = Dir::new();
    let rows: String = users.iter().map(|(user, fields)| format!("{user}:::::::nopassword=y proxy=y {fields}\n")).collect();
    dir.write("users", rows);
    let config = format!(
        "version = 1
[server]
name = \"edge.test\"
control = \"control.sock\"
[[listen]]
protocol = \"lmtp\"
address = [\"127.0.0.1:0\"]
tls = \"none\"
[[users]]
driver = \"passwd-file\"
path = \"users\"
{more}
"
    );
    Gatepost::start_in(dir, BINARY, &config, |_| {})
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

#[test]
fn each_recipient_has_its_server_and_its_answer() {
    if real::require("dovecot").is_none() || real::require("swaks").is_none() {
        return;
    }
    let backends: Vec<Backend> = (0..2).map(|_| Backend::start(Options { any_user: true, ..Options::default() })).collect();
    let dead = free_port();
    let ports = [backends[0].lmtp().port(), backends[1].lmtp().port(), dead.number()];
    let users: Vec<(String, String)> =
        (0..50).map(|n| (format!("u{n}@in.test"), format!("host=127.0.0.1 port={}", ports[n % 3]))).collect();
    let gatepost = gatepost(&users, "");
    let to: Vec<&str> = users.iter().map(|(user, _)| user.as_str()).collect();
    let began = Instant::now();
    let outcome =
        swaks_lmtp(gatepost.addr("lmtp"), &Mail { from: "sender@out.test", to: &to, text: b"Subject: x\r\n\r\nHello\r\n" }, &[]);
    let took = began.elapsed();
    let (at_rcpt, finals) = replies_to(&outcome.said);
    assert_eq!((at_rcpt.len(), finals.len()), (50, 34), "{}\n{}", outcome.said, gatepost.log().tail());
    for (n, reply) in at_rcpt.iter().enumerate() {
        let expected = if n % 3 == 2 { "451 4.3.0" } else { "250 2.1.5" };
        assert!(reply.contains(expected), "{n}: {reply}");
    }
    let lived: Vec<usize> = (0..50).filter(|n| n % 3 < 2).collect();
    for (n, reply) in lived.iter().zip(&finals) {
        assert!(reply.contains(&format!("250 2.0.0 <u{n}@in.test>")), "{n}: {reply}");
        let inbox = backends[n % 3].delivered(&format!("u{n}"));
        assert_eq!(inbox.messages().len(), 1, "u{n}");
    }
    assert!(took < Duration::from_secs(60), "{took:?}");
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
