//! No secret is told to those who follow, whoever says it and however.

use super::{SECRET, Tracer, no_secret};
use crate::gate::{Gate, OTHERS_TOO, Want, everybody_at};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::Protocol;
use testkit::peer::{AnyClient, Backend, FakeBackend, FakeServer};
use testkit::wait::until;

/// Each mechanism, each spelling, towards each kind of backend; broken lines, too.
#[test]
fn no_spelling_of_a_password_is_ever_told() {
    let base64 = |text: String| STANDARD.encode(text);
    let quoted = SECRET.replace('\\', "\\\\").replace('"', "\\\"");
    let length = SECRET.len();
    let plain = base64(format!("\0alice\0{SECRET}"));
    let (user64, secret64) = (base64("alice".into()), base64(SECRET.into()));
    let imap: Vec<Vec<String>> = vec![
        vec![format!("a LOGIN alice \"{quoted}\"")],
        vec!["a LOGIN {5}".into(), format!("alice {{{length}}}"), SECRET.into()],
        vec![format!("a LOGIN alice {{{length}+}}\r\n{SECRET}")],
        vec![format!("a AUTHENTICATE PLAIN {plain}")],
        vec!["a AUTHENTICATE PLAIN".into(), plain.clone()],
        vec!["a AUTHENTICATE LOGIN".into(), user64.clone(), secret64.clone()],
        vec![format!("a AUTHENTICATE LOGIN {user64}"), secret64.clone()],
        // What nobody understands, each followed by a login so that it is known whose it is.
        vec![format!("a LOGIN alice \"{quoted}\" more")],
        vec![format!("LOGIN alice \"{quoted}\"")],
        vec![format!("{secret64}")],
        vec![format!("{SECRET} NOOP")],
        vec![format!("a AUTHENTICATE {secret64}")],
        vec![format!("a AUTHENTICATE PLAIN {plain}=")],
        vec!["a AUTHENTICATE PLAIN".into(), format!("{plain}=")],
        vec!["a AUTHENTICATE PLAIN".into(), "*".into(), plain.clone()],
        vec![format!("a LOGIN alice \"{quoted}\rx\"")],
        vec![format!("a ID (\"name\" \"{quoted}\" \"password\" \"{quoted}\")")],
        vec![format!("a LOGIN alice {{9999}}"), SECRET.into()],
    ];
    let pop3: Vec<Vec<String>> = vec![
        vec!["USER alice".into(), format!("PASS {SECRET}")],
        vec![format!("AUTH PLAIN {plain}")],
        vec!["AUTH PLAIN".into(), plain.clone()],
        vec!["AUTH LOGIN".into(), user64.clone(), secret64.clone()],
        vec![format!("PASS {SECRET}")],
        vec![format!("{SECRET}")],
        vec![format!("AUTH PLAIN {plain}=")],
        vec!["AUTH PLAIN".into(), "*".into(), plain.clone()],
        vec![format!("PASS {SECRET}\rx")],
        vec![format!("XCLIENT {SECRET}=1 ADDR=192.0.2.1 FORWARD={secret64}")],
        vec![format!("APOP alice {secret64}")],
    ];
    let by_imap = format!("z LOGIN alice \"{quoted}\"\r\n");
    let by_pop3 = format!("USER alice\r\nPASS {SECRET}\r\n");
    let sieve: Vec<Vec<String>> = vec![
        vec![format!("AUTHENTICATE \"PLAIN\" \"{plain}\"")],
        vec![format!("AUTHENTICATE \"PLAIN\" {{{}+}}\r\n{plain}", plain.len())],
        vec!["AUTHENTICATE \"PLAIN\"".into(), format!("\"{plain}\"")],
        vec!["AUTHENTICATE \"LOGIN\"".into(), format!("\"{user64}\""), format!("\"{secret64}\"")],
        vec![format!("AUTHENTICATE \"LOGIN\" \"{user64}\""), format!("{{{}+}}\r\n{secret64}", secret64.len())],
        vec![format!("{SECRET}")],
        vec![format!("AUTHENTICATE \"PLAIN\" \"{plain}=\"")],
        vec![format!("AUTHENTICATE PLAIN {plain}")],
        vec![format!("AUTHENTICATE \"{secret64}\"")],
        vec!["AUTHENTICATE \"PLAIN\"".into(), "\"*\"".into(), format!("\"{plain}\"")],
        vec![format!("NOOP \"{quoted}\"")],
        vec![format!("HAVESPACE \"{quoted}\" 10")],
        vec![format!("XCLIENT {SECRET}=1 ADDR=192.0.2.1 FORWARD={secret64}")],
    ];
    let submission: Vec<Vec<String>> = vec![
        vec![format!("AUTH PLAIN {plain}")],
        vec!["AUTH PLAIN".into(), plain.clone()],
        vec!["AUTH LOGIN".into(), user64.clone(), secret64.clone()],
        vec![format!("AUTH LOGIN {user64}"), secret64.clone()],
        vec![format!("{SECRET}")],
        vec![format!("AUTH PLAIN {plain}=")],
        vec![format!("AUTH {secret64}")],
        vec!["AUTH PLAIN".into(), "*".into(), plain.clone()],
        vec![format!("MAIL FROM:<{SECRET}>")],
        vec![format!("VRFY {SECRET}")],
        vec![format!("HELO {SECRET}")],
        vec![format!("XCLIENT ADDR=192.0.2.1 {SECRET}=1 FORWARD={secret64}")],
    ];
    let (by_sieve, by_submission) = (format!("{}\r\n", sieve[0][0]), format!("{}\r\n", submission[0][0]));
    // How many of them sign in by themselves.
    for (protocol, cases, complete, sign_in) in [
        (Protocol::Imap, imap, 7, by_imap),
        (Protocol::Pop3, pop3, 4, by_pop3),
        (Protocol::ManageSieve, sieve, 5, by_sieve),
        (Protocol::Submission, submission, 4, by_submission),
    ] {
        for fields in ["", ", proxy_mech = \"PLAIN\"", ", proxy_mech = \"LOGIN\""] {
            // Without LITERAL+ and SASL-IR the backend has to be asked for leave.
            let mut want = Backend::of(protocol);
            if protocol == Protocol::Imap {
                want.capabilities = "IMAP4rev1 ID AUTH=PLAIN AUTH=LOGIN".into();
                want.greeting = format!("* OK [CAPABILITY {}] ready", want.capabilities);
            }
            let backend = FakeBackend::start(want);
            let gate =
                Gate::start(&Want { users: &everybody_at(backend.addr(), fields), more: OTHERS_TOO, ..Default::default() });
            let tracer = Tracer::start(&gate, &["alice", "--json"]);
            for (number, case) in cases.iter().enumerate() {
                let mut client = AnyClient::greeted(protocol, gate.at(protocol));
                client.say_hello();
                for line in case {
                    client.send_line(line);
                    // An answer to each, whatever it is; a literal without a wait has one for both lines.
                    assert!(client.read_line().is_some(), "{case:?}");
                }
                let on = backend.logins().len();
                // Those that did not sign in do so now, so that they are known.
                if number >= complete {
                    let _ = client.try_send(&sign_in);
                    until(&format!("it signs in after {case:?}"), || backend.logins().len() > on);
                }
                drop(client);
                tracer.ends(number + 1);
            }
            assert!(backend.wait_for_logins(cases.len()).iter().all(|login| login.password == SECRET), "{fields}");
            let text = tracer.text();
            no_secret(&text, SECRET);
            assert!(text.contains("octets, malformed)") && text.contains("***"), "{text}");
        }
    }
}

/// A backend that repeats what it was told, in every form it can think of.
#[test]
fn what_a_backend_repeats_is_left_out() {
    let backend = FakeServer::start(|conn| {
        conn.send_line("* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID] ready");
        let _ = conn.read_line();
        let login = conn.read_line().unwrap_or_default();
        let half = SECRET.len() / 2;
        conn.send_line(format!("* NO you said {login}"));
        conn.send_line(format!("* NO {}", SECRET.to_uppercase()));
        conn.send_line(format!("* NO {} and {}", &SECRET[..half], &SECRET[half..]));
        conn.send_line(format!("* NO {}", SECRET.chars().map(|c| format!("{c} ")).collect::<String>()));
        conn.send_line(format!("* NO {}", STANDARD.encode(format!("\0alice\0{SECRET}"))));
        conn.send_line(format!("* NO b64={}", STANDARD.encode(SECRET)));
        conn.send_line(format!("L NO [AUTHENTICATIONFAILED] {}", &SECRET[4..]));
        conn.hold();
    });
    let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let tracer = Tracer::start(&gate, &["alice", "--json"]);
    let mut client = gate.client();
    assert!(!client.login("alice", SECRET).is_ok());
    drop(client);
    tracer.ends(1);
    no_secret(&tracer.text(), SECRET);
    let lines = tracer.lines("B<");
    assert!(lines.iter().any(|line| line.starts_with("L NO [AUTHENTICATIONFAILED] (left out:")), "{lines:?}");
    assert!(tracer.steps().iter().any(|step| step == "refused"), "{:?}", tracer.steps());
}

/// The same where all of it is one reply.
#[test]
fn what_a_backend_repeats_in_one_reply_is_left_out() {
    for protocol in [Protocol::ManageSieve, Protocol::Submission] {
        let backend = FakeServer::start(move |conn| {
            if protocol == Protocol::ManageSieve {
                conn.send_line("\"SASL\" \"PLAIN\"\r\nOK \"hi\"");
            } else {
                conn.send_line("220 hi");
                conn.expect_line("EHLO");
                conn.send_line("250-hi\r\n250 AUTH PLAIN");
            }
            let login = conn.read_line().unwrap_or_default().replace('"', "'");
            let half = SECRET.len() / 2;
            let said = [
                format!("you said {login}"),
                SECRET.to_uppercase(),
                format!("{} and {}", &SECRET[..half], &SECRET[half..]),
                STANDARD.encode(SECRET),
                SECRET[4..].to_owned(),
            ];
            if protocol == Protocol::ManageSieve {
                let said = said.join("\r\n");
                conn.send_line(format!("NO {{{}}}\r\n{said}", said.len()));
            } else {
                conn.send_line(format!("535-5.7.8 {}\r\n535 5.7.8 end", said.join("\r\n535-5.7.8 ")));
            }
            conn.hold();
        });
        let gate = Gate::start(&Want { users: &everybody_at(backend.addr(), ""), more: OTHERS_TOO, ..Default::default() });
        let tracer = Tracer::start(&gate, &["alice", "--json"]);
        let mut client = gate.any_client(protocol);
        let outcome = client.login("alice", SECRET);
        assert!(!outcome.ok, "{outcome:?}");
        drop(client);
        tracer.ends(1);
        gate.gatepost.wait_for("reason=backend-credentials ");
        no_secret(&tracer.text(), SECRET);
        // The journal keeps pieces of words; the password itself is in none of its forms there, nor told to the client.
        for text in [gate.gatepost.log().lines().join("\n"), outcome.text] {
            for form in [SECRET.to_owned(), SECRET.replace('\\', "\\\\").replace('"', "\\\""), STANDARD.encode(SECRET)] {
                assert!(!text.to_lowercase().contains(&form.to_lowercase()), "{form:?} is in {text}");
            }
        }
        assert!(tracer.lines("B<").iter().any(|line| line.contains("(left out:")), "{:?}", tracer.lines("B<"));
    }
}

/// The password of a row, that the client does not know.
#[test]
fn the_password_of_a_row_is_not_told() {
    let row = "row-0nly-qwxyz";
    for protocol in Protocol::ALL {
        let backend = FakeBackend::start(Backend::of(protocol));
        let users = format!(
            "[[users]]\ndriver = \"static\"\nfields = {{ proxy = \"y\", password = \"{{PLAIN}}{SECRET_TOML}\", host = \"127.0.0.1\", port = \"{}\", pass = \"{row}\", master = \"boss\", forward_token = \"{row}\" }}\n",
            backend.port()
        );
        let gate = Gate::start(&Want { users: &users, more: OTHERS_TOO, ..Default::default() });
        let tracer = Tracer::start(&gate, &["*", "--json"]);
        let mut client = gate.any_client(protocol);
        assert!(client.login("alice", SECRET).ok, "{}", gate.gatepost.log().tail());
        drop(client);
        tracer.ends(1);
        no_secret(&tracer.text(), SECRET);
        no_secret(&tracer.text(), row);
        assert!(tracer.text().contains("boss"), "names are told");
    }
}

/// [`SECRET`] in a basic string of TOML.
const SECRET_TOML: &str = "tr0ub4dor&\\\"x\\\\3-zebra";
