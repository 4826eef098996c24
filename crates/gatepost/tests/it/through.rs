//! What ManageSieve and Submission carry behind a login, pipelined and large: it arrives octet for octet, and so does what comes
//! back when the client has nothing more to say.

use crate::gate::{Gate, OTHERS_TOO, Want, each_at_its_own, echo_backend, everybody_at};
use testkit::Protocol;
use testkit::peer::{AnyClient, Backend, FakeBackend};

use Protocol::{Imap, ManageSieve, Pop3, Submission};

/// More than all buffers on the way together, with every octet in it and every kind of line end.
fn large() -> Vec<u8> {
    let line: Vec<u8> = (0..=255).chain(*b"\r\n.\r\nAUTH PLAIN\r\n{5+}\r\nSTARTTLS\n\r").collect();
    line.iter().copied().cycle().take(6 << 20).collect()
}

#[test]
fn large_letters_and_scripts_that_are_said_at_once_with_the_login() {
    let backends = [ManageSieve, Submission].map(|protocol| FakeBackend::start(Backend::of(protocol)));
    let gate = Gate::start(&Want { users: &each_at_its_own(&backends, ""), more: OTHERS_TOO, ..Want::default() });
    let text = large();
    for tls in [false, true] {
        for backend in &backends {
            let protocol = backend.protocol();
            let mut client = if tls { gate.any_tls_client(protocol) } else { gate.any_client(protocol) };
            client.say_hello();
            let size = text.len();
            let (before, behind, answers) = match protocol {
                ManageSieve => (
                    format!("AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHg=\"\r\nPUTSCRIPT \"big\" {{{size}+}}\r\n"),
                    "\r\nLOGOUT\r\n",
                    vec![
                        "OK \"Logged in.\"".to_owned(),
                        format!("OK \"ECHO PUTSCRIPT \\\"big\\\" {{{size}+}}\""),
                        "OK \"Bye.\"".into(),
                    ],
                ),
                _ => (
                    format!("AUTH PLAIN AGFsaWNlAHg=\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT {size} LAST\r\n"),
                    "QUIT\r\n",
                    vec![
                        "235 2.7.0 Logged in.".to_owned(),
                        "250 ECHO MAIL FROM:<a@b>".into(),
                        "250 ECHO RCPT TO:<c@d>".into(),
                        format!("250 ECHO BDAT {size} LAST"),
                        "221 2.0.0 Bye.".into(),
                    ],
                ),
            };
            client.send([before.as_bytes(), &text, behind.as_bytes()].concat());
            client.half_close();
            let heard = String::from_utf8(client.read_to_end()).unwrap();
            assert_eq!(heard.lines().collect::<Vec<_>>(), answers, "{}, TLS: {tls}", protocol.name());
            let received = backend.received(usize::from(tls));
            let command = format!("{}\r\n", before.lines().last().unwrap());
            let at = received.windows(command.len()).position(|octets| octets == command.as_bytes()).expect("the command");
            assert!(received[at + command.len()..].starts_with(&text), "{}, TLS: {tls}: not what was sent", protocol.name());
            if protocol == Submission {
                let letter = backend.letters().wait_for(1 + usize::from(tls)).remove(usize::from(tls));
                assert!(letter.data == text, "the letter is another one");
            }
        }
    }
}

/// SMTP in its usual order: nothing is pipelined, and lines that begin with a dot are doubled.
#[test]
fn a_letter_of_dots_and_another_client_s_login_in_it() {
    let backend = FakeBackend::start(Backend::of(Submission));
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Want::default() });
    let AnyClient::Submission(mut client) = gate.any_tls_client(Submission) else { unreachable!() };
    client.ehlo("client.example");
    assert!(client.login("alice", "x").is_ok());
    // What the backend offers behind the login is for the client to ask.
    assert!(client.ehlo("client.example").get("CHUNKING").is_some());
    let text = b".\r\n..\r\n.QUIT\r\nAUTH PLAIN AGJvYgB5\r\n421 not a goodbye\r\n\r\n";
    client.send_message("a@b", &["c@d", "e@f"], text);
    client.send_message("a@b", &["g@h"], b"second\r\n");
    client.quit();
    let letters = backend.letters().wait_for(2);
    assert_eq!((letters[0].data.as_slice(), letters[0].user.as_str()), (&text[..], "alice"));
    assert_eq!((letters[1].to.as_slice(), letters[1].text().as_str()), (&["<g@h>".to_owned()][..], "second\r\n"));
    assert_eq!(backend.logins().len(), 1, "nobody else has signed in");
}

#[test]
fn odd_names_and_passwords_arrive_as_they_are_by_sasl() {
    let backends = [Pop3, ManageSieve, Submission].map(|protocol| FakeBackend::start(Backend::of(protocol)));
    for fields in ["", ", proxy_mech = \"PLAIN\"", ", proxy_mech = \"LOGIN\""] {
        let gate = Gate::start(&Want { users: &each_at_its_own(&backends, fields), more: OTHERS_TOO, ..Want::default() });
        for backend in &backends {
            let protocol = backend.protocol();
            for (user, password) in [
                ("o'brien", "a\"b\\c"),
                ("j\u{f6}rg", "p\u{e4}ss w\u{f6}rd"),
                ("dom\\user", "{5+}"),
                ("a+b=c@example.org", "%u(){}*"),
                // Longer than a line of SMTP may be with it.
                ("alice", &"p".repeat(700)),
            ] {
                // By POP3 names with blanks, and passwords of any length, have to be said by SASL.
                let seen = backend.logins().len();
                let reply = gate.any_client(protocol).authenticate_plain("", user, password);
                let is_long = protocol == Pop3 && password.len() > 250 && !reply.ok;
                assert!(reply.ok || is_long, "{} {user}: {reply:?}\n{}", protocol.name(), gate.gatepost.log().tail());
                if reply.ok {
                    let login = backend.wait_for_logins(seen + 1).remove(seen);
                    assert_eq!((login.user.as_str(), login.password.as_str(), login.authzid.as_str()), (user, password, ""));
                }
            }
            let wrong = gate.any_client(protocol).authenticate_plain("victim", "alice", "x");
            assert!(!wrong.ok, "{wrong:?}");
        }
    }
}

/// At accept the words are those of the protocol, too.
#[test]
fn who_is_one_too_many_hears_so_in_the_words_of_the_protocol() {
    let backend = echo_backend();
    let limits = "connections_before_login = 1";
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), limits, more: OTHERS_TOO, ..Want::default() });
    let stranger = gate.any_client(Imap);
    for (protocol, words) in [
        (Imap, "* BYE Too many connections without a login"),
        (Pop3, "-ERR Too many connections without a login"),
        (ManageSieve, "BYE \"Too many connections without a login"),
        (Submission, "421 4.7.0 Too many connections without a login"),
    ] {
        let mut second = AnyClient::connect(protocol, gate.at(protocol));
        let heard = String::from_utf8(second.read_to_end()).unwrap();
        assert!(heard.starts_with(words) && heard.lines().count() == 1, "{heard}");
    }
    drop(stranger);
}
