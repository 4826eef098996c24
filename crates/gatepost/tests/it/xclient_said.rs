//! What the codec of XCLIENT says is what real servers understand, also where it is more than one command holds.
//!
//! Here a client of the test says it, command by command: no Gatepost is between. The program's own ways to these servers are
//! tested elsewhere; hardly any login there is long enough to need a second command.

use bytes::BytesMut;
use testkit::dovecot::{self, Backend};
use testkit::peer::SmtpClient;
use testkit::postfix::{self, Postfix};
use testkit::{Protocol, real};
use wire::dance::Introduction;
use wire::origin::xclient::smtp::{Offered, write};
use wire::origin::{ForwardField, HopsLeft, MailProtocol, Origin, SessionId, Told};

/// A client at `2001:db8::7` that came to us at `198.51.100.1`.
fn introduction() -> Introduction {
    let session = SessionId::new("a+b/c=d").unwrap();
    let mut origin = Origin::at_accept("[2001:db8::7]:4711".parse().unwrap(), "198.51.100.1:587".parse().unwrap(), session);
    origin.hops = HopsLeft::said(3);
    origin.helo = Some(Told::Known("client.example".into()));
    origin.spoke = Some(MailProtocol::Esmtp);
    Introduction { origin, client_id: Vec::new(), forward: Vec::new(), patience: None }
}

/// Says all of it, and returns the commands.
fn say(client: &mut SmtpClient, intro: &Introduction, login: Option<&str>) -> Vec<String> {
    let offers = client.ehlo("proxy.test");
    let offered = Offered::read(offers.get("XCLIENT").expect("XCLIENT is offered"));
    let mut out = BytesMut::new();
    let written = write(Some(intro), login, &offered, &mut out);
    assert_eq!((written.left_out, written.vouched), (Vec::new(), login.is_some()));
    let commands: Vec<String> = String::from_utf8(out.to_vec()).unwrap().lines().map(str::to_owned).collect();
    for command in &commands {
        client.expect(command, "220");
    }
    commands
}

#[test]
fn postfix_keeps_the_client_and_the_user_of_the_last_of_several_commands() {
    let Some(_) = postfix::require() else { return };
    let postfix = Postfix::start(postfix::Options { xclient_hosts: "127.0.0.1".into(), ..postfix::Options::default() });
    let mut intro = introduction();
    let name = format!("{0}.{0}.{0}.{1}", "n".repeat(63), "m".repeat(63));
    let helo = format!("{}.{}.{}", "h".repeat(60), "i".repeat(60), "j".repeat(10));
    intro.origin.host_name = Some(Told::Known(name.as_str().into()));
    intro.origin.helo = Some(Told::Known(helo.as_str().into()));
    let mut client = SmtpClient::greeted(postfix.addr());
    let commands = say(&mut client, &intro, Some("joe+x=y@example.org"));
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands.iter().all(|command| command.len() + 2 < 512));
    // No EHLO: what is known of the client was said by XCLIENT alone.
    client.send_message("alice@example.com", &["carol@example.org"], b"Subject: x\r\n\r\nWords.\r\n");
    client.quit();
    let received = postfix.delivered().wait_for(1)[0].received();
    let start = format!("from {helo} ({name} [IPv6:2001:db8::7]) (Authenticated sender: joe+x=y@example.org)");
    assert!(received.starts_with(&start) && received.contains(" with ESMTPA id "), "{received}");
    postfix.log().wait_for_all(&["[2001:db8::7], sasl_method=XCLIENT, sasl_username=joe+x=y@example.org"]);

    // What is not known of this client is not left over from us.
    let log = postfix.log().from_here();
    let mut client = SmtpClient::greeted(postfix.addr());
    assert_eq!(say(&mut client, &introduction(), None).len(), 1);
    client.ehlo("client.example");
    assert!(client.login("alice", "alice-secret").is_ok());
    client.send_message("alice@example.com", &["carol@example.org"], b"Subject: y\r\n\r\nWords.\r\n");
    client.quit();
    log.wait_for_all(&["client=unknown[2001:db8::7], sasl_method=PLAIN, sasl_username=alice"]);
}

#[test]
fn postfix_relays_for_the_user_that_was_named_and_for_nobody() {
    let Some(_) = postfix::require() else { return };
    let postfix = Postfix::start(postfix::Options { xclient_hosts: "127.0.0.1".into(), ..postfix::Options::default() });
    for (login, answer) in [(Some("joe@example.org"), "250"), (None, "554 5.7.1")] {
        let mut client = SmtpClient::greeted(postfix.addr());
        say(&mut client, &introduction(), login);
        client.ehlo("client.example");
        client.ok("MAIL FROM:<joe@example.org>");
        client.expect("RCPT TO:<carol@elsewhere.example>", answer);
        client.quit();
    }
}

#[test]
fn dovecot_puts_together_what_several_commands_say() {
    let Some(_) = real::require("dovecot") else { return };
    let options = dovecot::Options {
        trusted: "127.0.0.1".into(),
        forward_logged: vec!["colour".to_owned()],
        ..dovecot::Options::default()
    };
    let backend = Backend::start(options);
    let mut intro = introduction();
    let colour = "x=y+z ".repeat(90);
    intro.forward = vec![ForwardField { name: "colour".to_owned(), value: colour.trim().to_owned() }];
    let mut client = SmtpClient::greeted(backend.addresses().submission);
    let commands = say(&mut client, &intro, None);
    assert_eq!(commands.len(), 3, "{commands:?}");
    assert!(commands[1].starts_with("XCLIENT FORWARD=") && commands[1].len() > 512, "{commands:?}");
    client.ehlo("client.example");
    assert!(client.login("alice", "alice-secret").is_ok());
    let line = backend.login_line_of(Protocol::Submission, 1);
    for piece in ["rip=2001:db8::7, rport=4711", "session=<a+b/c=d>", &format!("colour=<{}>", colour.trim())] {
        assert!(line.contains(piece), "{piece:?} is not in {line}");
    }
}
