//! What is true of the front whatever it hears; what it answers to what is told in `tests/transcripts/submission`.

use super::*;
use crate::login::Front as _;
use crate::login::played::{self, Seen};
use proptest::prelude::*;

const CAPS: Caps = Caps { line: 60, sasl: 100, bad_commands: 4, commands: 12 };

fn terms() -> Terms {
    Terms {
        starttls: true,
        trusted: true,
        may_vouch: true,
        capability: "SIZE=1000 8BITMIME".into(),
        greeting: "Ready.".into(),
        ..played::terms()
    }
}

/// Feeds pieces that end where `cuts` says; every login is refused, and TLS begins at once.
fn converse(octets: &[u8], cuts: &[usize], caps: Caps) -> Seen {
    played::converse(&mut Front::new(terms(), caps), &Terms { starttls: false, ..terms() }, octets, cuts)
}

/// Input that gets somewhere: commands, pieces of commands, and rubbish. What is said behind EHLO, DATA and XCLIENT must wait for
/// the answer, and whether it did shows only in how it arrives: see `whoever_does_not_wait_is_sent_away`.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"AUTH\r\n".to_vec()),
        Just(b"AUTH PLAIN\r\n".to_vec()),
        Just(b"AUTH PLAIN AGEAYg==\r\n".to_vec()),
        Just(b"AUTH LOGIN =\r\n".to_vec()),
        Just(b"AUTH LOGIN YQ==\r\nYg==\r\n".to_vec()),
        Just(b"AGEAYg==\r\n".to_vec()),
        Just(b"*\r\n".to_vec()),
        Just(b"MAIL FROM:<>\r\n".to_vec()),
        Just(b"RCPT TO:<joe>\r\n".to_vec()),
        Just(b"BDAT 5\r\n".to_vec()),
        Just(b"XCLIENT\r\n".to_vec()),
        Just(b"XCLIENT ADDR=1 LOGIN=joe\r\n".to_vec()),
        Just(b"XCLIENT ".to_vec()),
        Just(b"STARTTLS\r\n".to_vec()),
        Just(b"NOOP x\r\n".to_vec()),
        Just(b"RSET\r\n".to_vec()),
        Just(b"HELP\r\n".to_vec()),
        Just(b"QUIT\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\0".to_vec()),
        Just(b"\r\n\r\n\0\r\nQUIT\n".to_vec()),
        Just(b"PROXY TCP4 ".to_vec()),
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        (0usize..200).prop_map(|length| vec![b'x'; length]),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn pieces_do_not_matter(octets in likely(), mut cuts in proptest::collection::vec(0usize..600, 0..20)) {
        cuts.sort_unstable();
        let bytes: Vec<usize> = (0..octets.len()).collect();
        let whole = converse(&octets, &[], CAPS);
        for cuts in [&cuts, &bytes] {
            let pieces = converse(&octets, cuts, CAPS);
            prop_assert_eq!(&pieces.out, &whole.out);
            prop_assert_eq!(&pieces.events, &whole.events);
            prop_assert_eq!(&pieces.passwords, &whole.passwords);
            prop_assert_eq!(&pieces.left, &whole.left);
        }
    }

    #[test]
    fn no_more_is_held_than_said(octets in likely()) {
        let bytes: Vec<usize> = (0..octets.len()).collect();
        prop_assert!(converse(&octets, &bytes, CAPS).most_held <= CAPS.held_at_most());
    }

    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes: Vec<usize> = (0..octets.len()).collect();
        let Seen { most_held: _, ..} = converse(&octets, &bytes, CAPS);
    }

    #[test]
    fn what_is_said_is_lines(octets in likely()) {
        let seen = converse(&octets, &[], CAPS);
        let rest = seen.out.replace("\r\n", "");
        prop_assert!(!rest.contains(|c: char| c.is_control()), "{:?}", seen.out);
        prop_assert!(seen.out.is_empty() || seen.out.ends_with("\r\n"));
    }
}

proptest! {
    /// However a password is said, with whatever in front, in whatever pieces: it is in no line that is overheard.
    #[test]
    fn no_password_is_overheard(head in "([ -~]{0,12}\r\n)?", which in 0usize..8, cut in 0usize..60) {
        const PASSWORD: &str = "Zq7-xw9K";
        let encode = |text: &str| String::from_utf8(base64_encode(text.as_bytes()).expose().clone()).unwrap();
        let (encoded, alone) = (encode(&format!("\0joe\0{PASSWORD}")), encode(PASSWORD));
        let said = match which {
            0 => format!("AUTH PLAIN {encoded}\r\n"),
            1 => format!("AUTH PLAIN\r\n{encoded}\r\n"),
            2 => format!("AUTH LOGIN\r\nam9l\r\n{alone}\r\n"),
            3 => format!("AUTH LOGIN {alone}\r\n{encoded}\r\n"),
            4 => format!("AUTH {PASSWORD}\r\n{PASSWORD}\r\n"),
            5 => format!("AUTH PLAIN {encoded} {PASSWORD}\r\nAUTH {encoded}\r\n"),
            6 => format!("MAIL {PASSWORD}\r\nXCLIENT {PASSWORD}=x {encoded}\r\n"),
            _ => format!("NOOP {PASSWORD}\r\nHELP {encoded}\r\nEHLO x {PASSWORD}\r\n"),
        };
        let octets = [head.as_bytes(), said.as_bytes()].concat();
        let mut front = greeted();
        front.overhear(true);
        let (mut input, mut out, mut lines) = (BytesMut::new(), BytesMut::new(), Vec::new());
        let (first, rest) = octets.split_at(cut.min(octets.len()));
        'fed: for piece in [first, rest] {
            input.extend_from_slice(piece);
            loop {
                let step = front.step(&mut input, &mut out);
                lines.extend(front.overheard(&out));
                out.clear();
                match step {
                    Ok(Step::NeedInput) => break,
                    Ok(Step::Event(LoginEvent::Login(_) | LoginEvent::Unspeakable { .. })) => {
                        front.refuse(&Refusal::WrongCredentials, &mut out);
                    }
                    Ok(Step::Event(LoginEvent::Secure)) => front.secured(terms()),
                    Ok(Step::Event(LoginEvent::Bye)) | Err(_) => break 'fed,
                    Ok(Step::Event(_)) => {}
                }
            }
        }
        for line in lines {
            let shown = [PASSWORD, &encoded, &alone].iter().any(|form| line.text.contains(*form));
            prop_assert!(!shown, "{}", line.text);
        }
    }
}

#[test]
fn an_endless_line_ends_at_the_cap_wherever_it_stands() {
    for start in ["", "EHLO ", "MAIL FROM:<", "AUTH PLAIN ", "XCLIENT FORWARD=", "XCLIENT\tADDR=", "NOOP "] {
        for filler in [b'x', b' ', b'=', 0, 0xff] {
            let octets = [start.as_bytes(), &vec![filler; 16 << 20]].concat();
            let cuts: Vec<usize> = (0..20_000).step_by(1000).collect();
            let seen = converse(&octets, &cuts, Caps::default());
            assert!(seen.out.ends_with("500 5.5.2 Line is too long.\r\n"), "{start}: {}", seen.out);
            assert!(seen.events.iter().any(|event| event.contains("line-too-long")));
            assert!(seen.most_held <= 14_000);
        }
    }
}

/// A front behind EHLO, with what it has said left out.
fn greeted() -> Front {
    let mut front = Front::new(terms(), CAPS);
    let (mut input, mut out) = (BytesMut::from(&b"EHLO client.example\r\n"[..]), BytesMut::new());
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::NeedInput)));
    front
}

fn said(front: &mut Front, octets: &[u8]) -> (Result<Step<LoginEvent>, Fault>, String, Vec<u8>) {
    let (mut input, mut out) = (BytesMut::from(octets), BytesMut::new());
    let step = front.step(&mut input, &mut out);
    (step, String::from_utf8(out.to_vec()).expect("UTF-8"), input.to_vec())
}

#[test]
fn whoever_does_not_wait_is_sent_away() {
    for (octets, before) in [
        (&b"EHLO a\r\nM"[..], ""),
        (b"HELO a\r\n\r\n", ""),
        (b"EHLO\r\nMAIL FROM:<>\r\n", ""),
        (b"NOOP\r\nEHLO a\r\nAUTH PLAIN AGEAYg==\r\n", "250 2.0.0 OK\r\n"),
        (b"DATA\r\nAUTH PLAIN AGEAYg==\r\n", ""),
        (b"XCLIENT ADDR=192.0.2.7\r\nMAIL FROM:<>\r\n", ""),
        (b"XCLIENT ADDR=192.0.2.7\r\nEHM", ""),
        (b"XCLIENT ADDR=192.0.2.7\r\n\r\n", ""),
    ] {
        let (step, out, _) = said(&mut greeted(), octets);
        assert_eq!(step.map_err(|fault| fault.rule).err(), Some("pipelining"), "{}", octets.escape_ascii());
        assert_eq!(out, format!("{before}554 5.5.0 SMTP protocol synchronization: wait for the answer.\r\n"));
    }
}

#[test]
fn behind_xclient_a_greeting_may_come_at_once_and_nothing_else() {
    const XCLIENT: &[u8] = b"XCLIENT ADDR=192.0.2.7 LOGIN=joe\r\n";
    // What begins like one, and how it goes on.
    for (at_once, later, fine) in [
        (&b"EHLO a\r\n"[..], &b""[..], true),
        (b"helo a\r\n", b"", true),
        (b"E", b"HLO a\r\n", true),
        (b"EHLO", b" a\r\n", true),
        (b"EHLO a\r\n", b"MAIL FROM:<>\r\n", false),
        (b"EH", b"NO\r\n", false),
        (b"EHLOX\r\n", b"", false),
    ] {
        let mut front = greeted();
        let mut input = BytesMut::from(&[XCLIENT, at_once].concat()[..]);
        let mut out = BytesMut::new();
        let step = front.step(&mut input, &mut out);
        assert!(matches!(step, Ok(Step::Event(LoginEvent::Said(_)))), "{step:?}");
        assert_eq!(input, at_once);
        input.extend_from_slice(later);
        out.clear();
        let step = front.step(&mut input, &mut out);
        assert_eq!(step.is_ok(), fine, "{}: {step:?}", at_once.escape_ascii());
        assert_eq!(out.starts_with(b"250"), fine, "{}", out.escape_ascii());
    }
}

#[test]
fn secrets_do_not_print() {
    let octets = b"AUTH PLAIN AGpvZQBodW50ZXIy\r\n";
    let mut front = greeted();
    let (step, _, _) = said(&mut front, octets);
    let Ok(Step::Event(event @ LoginEvent::Login(_))) = step else { panic!("a login") };
    let shown = format!("{event:?} {front:?}");
    assert!(shown.contains("joe") && !shown.contains("hunter2"), "{shown}");

    // The password where the name belongs; and nothing of it is left in the buffer.
    let mut front = greeted();
    let (_, _, left) = said(&mut front, b"AUTH LOGIN\r\naHVudGVyMg==\r\n");
    assert!(left.is_empty());
    let octets = format!("{:?}", b"hunter2");
    let shown = format!("{front:?}");
    assert!(!shown.contains(octets.trim_matches(['[', ']'])) && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn stepping_out_of_turn_is_the_drivers_fault_and_changes_nothing() {
    let mut front = greeted();
    let mut input = BytesMut::from(&b"AUTH PLAIN AGpvZQBwdw==\r\nMAIL FROM:<>\r\n"[..]);
    let mut out = BytesMut::new();
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(LoginEvent::Login(_)))));
    let fault = front.step(&mut input, &mut out).expect_err("not our turn");
    assert_eq!((fault.blame, fault.rule), (crate::machine::Blame::Misuse, "step-out-of-turn"));
    assert_eq!((&input[..], &out[..], front.state()), (&b"MAIL FROM:<>\r\n"[..], &b""[..], "await-verdict"));
    front.welcome(&Welcome::default(), &mut out);
    assert_eq!((&input[..], &out[..], front.state()), (&b"MAIL FROM:<>\r\n"[..], &b"235 2.7.0 Logged in.\r\n"[..], "over"));
    front.refuse(&Refusal::WrongCredentials, &mut out);
    assert_eq!((&out[..], front.state()), (&b"235 2.7.0 Logged in.\r\n"[..], "over"), "there is nothing to refuse any more");
}

#[test]
fn nothing_half_said_survives_the_switch_to_tls() {
    let mut front = greeted();
    assert!(matches!(said(&mut front, b"AUTH LOGIN\r\nam9l\r\n").0, Ok(Step::NeedInput)));
    assert_eq!((front.state(), front.helo().is_some()), ("await-sasl-response", true));
    front.secured(terms());
    assert_eq!((front.state(), front.helo()), ("await-ehlo", None));
    assert_eq!(said(&mut front, b"AUTH PLAIN AGpvZQBwdw==\r\n").1, "503 5.5.1 Say EHLO first.\r\n");
    let mut front = greeted();
    assert!(said(&mut front, b"XCLIENT ADDR=192.0.2.7 HELO=a\r\nEHLO").0.is_ok());
    front.secured(terms());
    assert_eq!(said(&mut front, b"NOOP\r\n").1, "250 2.0.0 OK\r\n", "what had to be a greeting is gone with the rest");
}

/// The user for whom the next MAIL would sign in.
fn vouched(front: &mut Front) -> Option<String> {
    let (step, _, _) = said(front, b"MAIL FROM:<>\r\n");
    match step.expect("no fault") {
        Step::Event(LoginEvent::Login(login)) => Some(login.user),
        _ => None,
    }
}

#[test]
fn who_is_vouched_for_is_the_client_that_was_named() {
    for (commands, expected) in [
        (&["XCLIENT LOGIN=joe HELO=a"][..], Some("joe")),
        (&["XCLIENT LOGIN=joe", "EHLO a"], Some("joe")),
        (&["XCLIENT LOGIN=joe"], None),
        (&["XCLIENT LOGIN=joe ADDR=192.0.2.7 HELO=a"], Some("joe")),
        (&["XCLIENT TTL=3", "XCLIENT LOGIN=joe ADDR=192.0.2.7 HELO=a"], Some("joe")),
        (&["XCLIENT LOGIN=[UNAVAILABLE]", "XCLIENT LOGIN=joe HELO=a"], Some("joe")),
        (&["XCLIENT LOGIN=joe", "RSET", "EHLO a"], Some("joe")),
        (&["XCLIENT LOGIN=joe", "XCLIENT ADDR=x", "EHLO a"], Some("joe")),
        (&["XCLIENT LOGIN=joe", "tls", "EHLO a"], Some("joe")),
        (&["XCLIENT LOGIN=joe", "forget", "tls", "EHLO a"], None),
    ] {
        let mut front = greeted();
        for command in commands {
            match *command {
                "tls" => front.secured(terms()),
                "forget" => front.forget_identity(),
                command => assert!(said(&mut front, format!("{command}\r\n").as_bytes()).0.is_ok()),
            }
        }
        assert_eq!(vouched(&mut front).as_deref(), expected, "{commands:?}");
    }
}

/// What is said behind the first XCLIENT may be the client's, whose words a peer passes on that has no more to say itself.
#[test]
fn nobody_becomes_another_through_the_peer_that_named_it() {
    for named in
        ["XCLIENT LOGIN=joe ADDR=192.0.2.7", "XCLIENT LOGIN=joe", "XCLIENT ADDR=192.0.2.7", "XCLIENT HELO=b ADDR=192.0.2.7"]
    {
        for between in [&[][..], &["EHLO a"], &["EHLO a", "tls", "EHLO a"], &["forget", "tls"], &["tls", "EHLO a", "mail"]] {
            for forged in ["LOGIN=ceo", "LOGIN=ceo ADDR=192.0.2.8", "ADDR=192.0.2.8", "PORT=5", "LOGIN=[UNAVAILABLE]"] {
                let mut front = greeted();
                assert!(said(&mut front, format!("{named}\r\n").as_bytes()).0.is_ok());
                let forgotten = between.contains(&"forget");
                let joe = (named.contains("joe") && !forgotten).then_some("joe");
                for step in between {
                    match *step {
                        "tls" => front.secured(terms()),
                        "forget" => front.forget_identity(),
                        "mail" => {
                            assert_eq!(vouched(&mut front).as_deref(), joe);
                            if joe.is_some() {
                                front.refuse(&Refusal::WrongCredentials, &mut BytesMut::new());
                                // It is still in the input, as the driver holds it.
                                assert!(said(&mut front, b"MAIL FROM:<>\r\n").0.is_ok());
                            }
                        }
                        step => assert!(said(&mut front, format!("{step}\r\n").as_bytes()).0.is_ok()),
                    }
                }
                let (step, out, _) = said(&mut front, format!("XCLIENT {forged}\r\n").as_bytes());
                let heeded = !named.contains("joe") && !forged.contains("ceo");
                assert_eq!(matches!(step, Ok(Step::Event(LoginEvent::Said(_)))), heeded, "{named}, {between:?}, {forged}");
                assert_eq!(out.starts_with("550 5.7.0 "), !heeded, "{named}, {between:?}, {forged}: {out}");
                let (_, list, _) = said(&mut front, b"EHLO a\r\n");
                assert_eq!(list.contains("XCLIENT "), !named.contains("joe"), "{list}");
                assert!(!list.contains(" LOGIN DESTADDR"), "{list}");
                assert_eq!(vouched(&mut front).as_deref(), joe, "{named}, {between:?}, {forged}");
            }
        }
    }
}
