//! What is true of the front whatever it hears; what it answers to what is told in `tests/transcripts/imap`.

use super::*;
use crate::encode::base64_encode;
use crate::login::Front as _;
use crate::login::played::{self, Seen};
use proptest::prelude::*;

const CAPS: Caps = Caps { line: 300, literal: 20, literals: 2, bad_commands: 4, commands: 12 };

fn terms() -> Terms {
    Terms {
        starttls: true,
        trusted: true,
        capability: "IDLE".into(),
        greeting: "Ready.".into(),
        server_id: vec![("name".into(), "Gatepost".into())],
        retain_client_id: true,
        ..played::terms()
    }
}

/// Feeds pieces that end where `cuts` says; every login is refused, and TLS begins at once.
fn converse(octets: &[u8], cuts: &[usize], caps: Caps) -> Seen {
    played::converse(&mut Front::new(terms(), caps), &Terms { starttls: false, ..terms() }, octets, cuts)
}

/// Input that gets somewhere: commands, pieces of commands, and rubbish.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"a CAPABILITY\r\n".to_vec()),
        Just(b"b LOGIN joe secret\r\n".to_vec()),
        Just(b"b LOGIN {3}\r\njoe {2+}\r\npw\r\n".to_vec()),
        Just(b"b LOGIN {3+}\r\n\xff\r\n {2}\r\n\0w\r\n".to_vec()),
        Just(b"c AUTHENTICATE PLAIN\r\n".to_vec()),
        Just(b"c AUTHENTICATE PLAIN AGEAYg==\r\n".to_vec()),
        Just(b"c AUTHENTICATE LOGIN\r\n".to_vec()),
        Just(b"AGEAYg==\r\n".to_vec()),
        Just(b"*\r\n".to_vec()),
        Just(b"d ID (\"name\" \"x\" \"x-originating-ip\" \"192.0.2.1\")\r\n".to_vec()),
        Just(b"e STARTTLS\r\n".to_vec()),
        Just(b"f LOGOUT\r\n".to_vec()),
        (0u32..40, any::<bool>()).prop_map(|(n, plus)| format!("g X {{{n}{}}}\r\n", if plus { "+" } else { "" }).into_bytes()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(vec![b'x'; 301]),
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
        converse(&octets, &[], CAPS);
    }

    #[test]
    fn what_is_said_is_lines(octets in likely()) {
        let seen = converse(&octets, &[], CAPS);
        let rest = seen.out.replace("\r\n", "");
        prop_assert!(!rest.contains(|c: char| c.is_control()), "{:?}", seen.out);
        prop_assert!(seen.out.is_empty() || seen.out.ends_with("\r\n"));
    }
}

#[test]
fn an_endless_line_ends_at_the_cap_wherever_it_stands() {
    for start in [
        "",
        "a ",
        "a LOGIN ",
        "a LOGIN \"",
        "a LOGIN joe ",
        "a ID (",
        "a ID (\"",
        "a AUTHENTICATE PLAIN ",
        "a AUTHENTICATE PLAIN\r\n",
    ] {
        for filler in [b'x', b'(', b'"', b' ', b'\\', b'{', 0, 0xff] {
            let octets = [start.as_bytes(), &vec![filler; 16 << 20]].concat();
            let cuts: Vec<usize> = (0..10_000).step_by(1000).collect();
            let seen = converse(&octets, &cuts, Caps::default());
            assert!(seen.out.ends_with("* BYE Command line is too long.\r\n"), "{start}: {}", seen.out);
            assert!(seen.events.iter().any(|event| event.contains("line-too-long")));
            assert!(seen.most_held <= 10_000);
        }
    }
}

#[test]
fn secrets_do_not_print() {
    let seen = converse(b"a LOGIN joe hunter2\r\n", &[], CAPS);
    assert_eq!(seen.passwords, [b"hunter2"]);
    assert!(seen.events[0].contains("joe") && !seen.events[0].contains("hunter2"), "{:?}", seen.events);

    // Half an exchange, with the name said and the password on its way.
    let mut front = Front::new(terms(), CAPS);
    let mut input = BytesMut::from(&b"a AUTHENTICATE LOGIN\r\naHVudGVyMg==\r\n"[..]);
    let mut out = BytesMut::new();
    front.step(&mut input, &mut out).expect("no fault");
    assert_eq!((front.state(), input.len()), ("await-sasl-response", 0));
    let octets = format!("{:?}", b"hunter2");
    assert!(!format!("{front:?}").contains(octets.trim_matches(['[', ']'])), "{front:?}");
}

#[test]
fn stepping_out_of_turn_is_the_drivers_fault_and_changes_nothing() {
    let mut front = Front::new(terms(), CAPS);
    let mut input = BytesMut::from(&b"a LOGIN joe pw\r\nb SELECT INBOX\r\n"[..]);
    let mut out = BytesMut::new();
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(LoginEvent::Login(_)))));
    let fault = front.step(&mut input, &mut out).expect_err("not our turn");
    assert_eq!((fault.blame, fault.rule), (crate::machine::Blame::Misuse, "step-out-of-turn"));
    assert_eq!((&input[..], &out[..], front.state()), (&b"b SELECT INBOX\r\n"[..], &b""[..], "await-verdict"));
    front.welcome(&Welcome::default(), &mut out);
    assert_eq!((&input[..], &out[..], front.state()), (&b"b SELECT INBOX\r\n"[..], &b"a OK Logged in.\r\n"[..], "over"));
}

#[test]
fn nothing_half_read_survives_the_switch_to_tls() {
    let mut front = Front::new(terms(), CAPS);
    let (mut input, mut out) = (BytesMut::from(&b"a LOGIN {3+}\r\njo"[..]), BytesMut::new());
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::NeedInput)));
    front.secured(terms());
    assert_eq!(front.state(), "await-command");
    let mut input = BytesMut::from(&b"b NOOP\r\n"[..]);
    front.step(&mut input, &mut out).expect("no fault");
    assert_eq!(&out[..], b"b OK NOOP completed.\r\n");
}

proptest! {
    /// However a password is said, with whatever in front, in whatever pieces: it is in no line that is overheard.
    #[test]
    fn no_password_is_overheard(head in "[ -~]{0,12}(\r\n)?", which in 0usize..8, cut in 0usize..60) {
        const PASSWORD: &str = "Zq7-xw9K";
        let encoded = base64_encode(format!("\0joe\0{PASSWORD}").as_bytes());
        let encoded = String::from_utf8(encoded.expose().clone()).unwrap();
        let said = match which {
            0 => format!("a LOGIN joe {PASSWORD}\r\n"),
            1 => format!("a LOGIN joe {{8}}\r\n{PASSWORD}\r\n"),
            2 => format!("a LOGIN joe \"{PASSWORD}\r\n"),
            3 => format!("a AUTHENTICATE PLAIN {encoded}\r\n"),
            4 => format!("a AUTHENTICATE PLAIN\r\n{encoded}\r\n"),
            5 => format!("{PASSWORD}\r\n{encoded}\r\n"),
            6 => format!("a {PASSWORD} LOGIN\r\na {encoded}\r\n"),
            _ => format!("a LOGIN joe {{8+}}\r\n{PASSWORD} x\r\n"),
        };
        let octets = [head.as_bytes(), said.as_bytes()].concat();
        let mut front = Front::new(terms(), CAPS);
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
            prop_assert!(!line.text.contains(PASSWORD) && !line.text.contains(&encoded), "{}", line.text);
        }
    }
}
