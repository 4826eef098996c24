//! Mail from a real Postfix through Gatepost to a real Dovecot and a real Postfix, as docs/lmtp.md sets them up.

use crate::lmtp::gatepost;
use testkit::dovecot::{self, Backend};
use testkit::peer::SmtpClient;
use testkit::postfix::{self, Hop, Options, Postfix, Relay};

#[test]
fn a_mail_finds_the_server_of_each_recipient_and_its_sender_is_told() {
    if postfix::require().is_none() {
        return;
    }
    let trusting = dovecot::Options { any_user: true, trusted: "127.0.0.1".into(), ..dovecot::Options::default() };
    let dovecot = Backend::start(trusting);
    let behind = Postfix::start(Options { takes_all: true, xforward_hosts: "127.0.0.1".into(), ..Options::default() });
    let rows = [
        ("alice@in.test".to_owned(), format!("host=127.0.0.1 port={}", dovecot.lmtp().port())),
        ("bob@in.test".to_owned(), format!("host=127.0.0.1 protocol=smtp port={}", behind.addr().port())),
    ];
    let gatepost = gatepost(&rows, "[trust]\nnetworks = [\"127.0.0.1\"]");
    let relay = Some(Relay::to("in.test", Hop::Lmtp(gatepost.addr("lmtp"))));
    let front = Postfix::start(Options { takes_all: true, relay, ..Options::default() });
    let mut client = SmtpClient::connect_from([127, 0, 0, 9].into(), front.addr());
    client.greeting();
    client.say_hello();
    let to = ["alice@in.test", "alice+eu@in.test", "bob@in.test", "nobody@in.test"];
    client.send_message("sender@out.test", &to, b"Subject: x\r\n\r\nHello\r\n");
    for to in ["alice@in.test", "alice+eu@in.test", "bob@in.test"] {
        front.wait_for_attempt(to, "sent");
        let line = gatepost.log().wait_for_all(&[" delivered ", &format!("to={to}"), "orig_client=unknown[127.0.0.9]"]);
        assert!(line.contains(if to.starts_with("bob") { "identity=not-offered" } else { "identity=told" }), "{line}");
    }
    front.wait_for_attempt("nobody@in.test", "bounced");
    gatepost.log().wait_for_all(&[" rejected ", "to=nobody@in.test", "550 5.1.1"]);
    assert_eq!(dovecot.delivered("alice").messages().len(), 2);
    behind.log().wait_for("orig_client=unknown[127.0.0.9]");
}
