//! What is true of the front whatever it hears; what it answers to what is told in `tests/transcripts/pop3`.

use super::*;
use crate::login::Front as _;
use crate::login::played::{self, Seen};
use proptest::prelude::*;

const CAPS: Caps = Caps { line: 60, sasl: 100, bad_commands: 4, commands: 12 };

fn terms() -> Terms {
    Terms {
        starttls: true,
        trusted: true,
        capability: "TOP UIDL".into(),
        greeting: "Ready.".into(),
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
        Just(b"CAPA\r\n".to_vec()),
        Just(b"USER joe\r\n".to_vec()),
        Just(b"PASS secret\r\n".to_vec()),
        Just(b"PASS ".to_vec()),
        Just(b"USER \xff\r\nPASS \0\r\n".to_vec()),
        Just(b"AUTH\r\n".to_vec()),
        Just(b"AUTH PLAIN\r\n".to_vec()),
        Just(b"AUTH PLAIN AGEAYg==\r\n".to_vec()),
        Just(b"AUTH LOGIN =\r\n".to_vec()),
        Just(b"AGEAYg==\r\n".to_vec()),
        Just(b"*\r\n".to_vec()),
        Just(b"XCLIENT ADDR=192.0.2.1 TTL=3\r\n".to_vec()),
        Just(b"XOIP 192.0.2.1.\r\n".to_vec()),
        Just(b"XCLIENT ".to_vec()),
        Just(b"STLS\r\n".to_vec()),
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

#[test]
fn an_endless_line_ends_at_the_cap_wherever_it_stands() {
    for start in ["", "USER ", "USER joe\r\nPASS ", "AUTH PLAIN ", "AUTH PLAIN\r\n", "XCLIENT FORWARD=", "XOIP ", "CAPA "] {
        for filler in [b'x', b' ', b'=', 0, 0xff] {
            let octets = [start.as_bytes(), &vec![filler; 16 << 20]].concat();
            let cuts: Vec<usize> = (0..10_000).step_by(1000).collect();
            let seen = converse(&octets, &cuts, Caps::default());
            assert!(seen.out.ends_with("-ERR Command line is too long.\r\n"), "{start}: {}", seen.out);
            assert!(seen.events.iter().any(|event| event.contains("line-too-long")));
            assert!(seen.most_held <= 10_000);
        }
    }
}

#[test]
fn secrets_do_not_print() {
    let seen = converse(b"USER joe\r\nPASS hunter2\r\n", &[], CAPS);
    assert_eq!(seen.passwords, [b"hunter2"]);
    assert!(seen.events[0].contains("joe") && !seen.events[0].contains("hunter2"), "{:?}", seen.events);

    // The password where the name belongs, both ways; and nothing of it is left in the buffer.
    for said in [&b"USER hunter2\r\n"[..], b"AUTH LOGIN\r\naHVudGVyMg==\r\n"] {
        let mut front = Front::new(terms(), CAPS);
        let (mut input, mut out) = (BytesMut::from(said), BytesMut::new());
        front.step(&mut input, &mut out).expect("no fault");
        assert!(input.is_empty());
        let octets = format!("{:?}", b"hunter2");
        let shown = format!("{front:?}");
        assert!(!shown.contains(octets.trim_matches(['[', ']'])) && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn stepping_out_of_turn_is_the_drivers_fault_and_changes_nothing() {
    let mut front = Front::new(terms(), CAPS);
    let mut input = BytesMut::from(&b"USER joe\r\nPASS pw\r\nSTAT\r\n"[..]);
    let mut out = BytesMut::new();
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(LoginEvent::Login(_)))));
    out.clear();
    let fault = front.step(&mut input, &mut out).expect_err("not our turn");
    assert_eq!((fault.blame, fault.rule), (crate::machine::Blame::Misuse, "step-out-of-turn"));
    assert_eq!((&input[..], &out[..], front.state()), (&b"STAT\r\n"[..], &b""[..], "await-verdict"));
    front.welcome(&Welcome::default(), &mut out);
    assert_eq!((&input[..], &out[..], front.state()), (&b"STAT\r\n"[..], &b"+OK Logged in.\r\n"[..], "over"));
    front.refuse(&Refusal::WrongCredentials, &mut out);
    assert_eq!((&out[..], front.state()), (&b"+OK Logged in.\r\n"[..], "over"), "there is nothing to refuse any more");
}

#[test]
fn nothing_half_said_survives_the_switch_to_tls() {
    let mut front = Front::new(terms(), CAPS);
    let (mut input, mut out) = (BytesMut::from(&b"USER joe\r\nPASS sec\n"[..]), BytesMut::new());
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::NeedInput)));
    assert_eq!(front.state(), "await-pass");
    front.secured(terms());
    assert_eq!(front.state(), "await-command");
    out.clear();
    let mut input = BytesMut::from(&b"PASS secret\r\n"[..]);
    front.step(&mut input, &mut out).expect("no fault");
    assert_eq!(&out[..], b"-ERR No user name was given.\r\n");
}
