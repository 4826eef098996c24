//! What is true of the front whatever it hears; what it answers to what is told in `tests/transcripts/managesieve`.

use super::*;
use crate::login::Front as _;
use crate::login::played::{self, Seen};
use proptest::prelude::*;

const CAPS: Caps = Caps { line: 60, quoted: 40, literal: 100, bad_commands: 4, commands: 12 };

fn terms() -> Terms {
    Terms {
        starttls: true,
        trusted: true,
        capability: "SIEVE=fileinto NOTIFY=mailto".into(),
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
        Just(b"CAPABILITY\r\n".to_vec()),
        Just(b"NOOP \"tag\"\r\n".to_vec()),
        Just(b"NOOP {3+}\r\nt\r\n\r\n".to_vec()),
        Just(b"AUTHENTICATE \"PLAIN\"\r\n".to_vec()),
        Just(b"AUTHENTICATE \"PLAIN\" \"AGEAYg==\"\r\n".to_vec()),
        Just(b"AUTHENTICATE \"PLAIN\" {8+}\r\nAGEAYg==\r\n".to_vec()),
        Just(b"AUTHENTICATE \"LOGIN\" \"\"\r\n".to_vec()),
        Just(b"AUTHENTICATE \"LOGIN\" ".to_vec()),
        Just(b"\"AGEAYg==\"\r\n".to_vec()),
        Just(b"{8+}\r\nAGEAYg==\r\n".to_vec()),
        Just(b"{4}\r\n".to_vec()),
        Just(b"{200+}\r\n".to_vec()),
        Just(b"{x}\r\n".to_vec()),
        Just(b"\"*\"\r\n".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"PUTSCRIPT \"a\" {6+}\r\nNOOP\r\n\r\n".to_vec()),
        Just(b"XCLIENT ADDR=192.0.2.1 TTL=3\r\n".to_vec()),
        Just(b"XCLIENT ADDR=192.0.2.1.\r\n".to_vec()),
        Just(b"XCLIENT ".to_vec()),
        Just(b"STARTTLS\r\n".to_vec()),
        Just(b"LOGOUT\r\n".to_vec()),
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
    fn what_is_said_is_in_the_grammar(octets in likely()) {
        let seen = converse(&octets, &[], CAPS);
        for line in seen.out.split_inclusive('\n') {
            prop_assert!(crate::sieve::reply::read(line.as_bytes()).is_ok(), "{:?}", line);
            prop_assert!(!line.trim_end_matches("\r\n").contains(|c: char| c.is_control()), "{:?}", line);
        }
    }
}

#[test]
fn what_is_endless_ends_at_its_cap_wherever_it_stands() {
    for (start, over) in [
        ("", "Command line is too long."),
        ("NOOP", "Command line is too long."),
        ("NOOP \"", "Command line is too long."),
        ("NOOP {2+}\r\nxx", "Command line is too long."),
        ("AUTHENTICATE \"PLAIN\" \"", "Command line is too long."),
        ("AUTHENTICATE \"PLAIN\"\r\n\"", "Command line is too long."),
        ("XCLIENT FORWARD=", "Command line is too long."),
        ("NOOP {999999+}\r\n", "The literal is too big."),
        ("AUTHENTICATE \"PLAIN\" {999999+}\r\n", "The literal is too big."),
        ("AUTHENTICATE \"PLAIN\"\r\n{12289+}\r\n", "The literal is too big."),
    ] {
        for filler in [b'x', b' ', b'=', 0, 0xff] {
            let octets = [start.as_bytes(), &vec![filler; 16 << 20]].concat();
            let cuts: Vec<usize> = (0..30_000).step_by(1000).collect();
            let seen = converse(&octets, &cuts, Caps::default());
            assert!(seen.out.ends_with(&format!("BYE \"{over}\"\r\n")), "{start}: {}", seen.out);
            assert!(seen.events.iter().any(|event| event.contains("Limit")));
            assert!(seen.most_held <= Caps::default().held_at_most());
        }
    }
}

#[test]
fn secrets_do_not_print() {
    for said in [
        &b"AUTHENTICATE \"PLAIN\" \"AGpvZQBodW50ZXIy\"\r\n"[..],
        b"AUTHENTICATE \"PLAIN\" {16+}\r\nAGpvZQBodW50ZXIy\r\n",
        b"AUTHENTICATE \"PLAIN\"\r\n{16+}\r\nAGpvZQBodW50ZXIy\r\n",
    ] {
        let seen = converse(said, &[], CAPS);
        assert_eq!(seen.passwords, [b"hunter2"]);
        assert!(seen.events[0].contains("joe") && !seen.events[0].contains("hunter2"), "{:?}", seen.events);
    }

    // The password where the name belongs, or no secret at all; and nothing of it is left in the buffer.
    for said in [
        &b"AUTHENTICATE \"LOGIN\" \"aHVudGVyMg==\"\r\n"[..],
        b"AUTHENTICATE \"LOGIN\"\r\n\"aHVudGVyMg==\"\r\n",
        b"NOOP \"hunter2!\"\r\n",
    ] {
        let mut front = Front::new(terms(), CAPS);
        let (mut input, mut out) = (BytesMut::from(said), BytesMut::new());
        front.step(&mut input, &mut out).expect("no fault");
        assert!(input.is_empty());
        let octets = format!("{:?}", b"hunter2");
        let shown = format!("{front:?}{}", out.escape_ascii());
        assert!(!shown.contains(octets.trim_matches(['[', ']'])) && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn stepping_out_of_turn_is_the_drivers_fault_and_changes_nothing() {
    let mut front = Front::new(terms(), CAPS);
    let mut input = BytesMut::from(&b"AUTHENTICATE \"PLAIN\" \"AGpvZQBwdw==\"\r\nLISTSCRIPTS\r\n"[..]);
    let mut out = BytesMut::new();
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(LoginEvent::Login(_)))));
    out.clear();
    let fault = front.step(&mut input, &mut out).expect_err("not our turn");
    assert_eq!((fault.blame, fault.rule), (crate::machine::Blame::Misuse, "step-out-of-turn"));
    assert_eq!((&input[..], &out[..], front.state()), (&b"LISTSCRIPTS\r\n"[..], &b""[..], "await-verdict"));
    front.welcome(&Welcome::default(), &mut out);
    let said = (&input[..], &out[..], front.state());
    assert_eq!(said, (&b"LISTSCRIPTS\r\n"[..], &b"OK \"Logged in.\"\r\n"[..], "over"));
    front.refuse(&Refusal::WrongCredentials, &mut out);
    assert_eq!((&out[..], front.state()), (&b"OK \"Logged in.\"\r\n"[..], "over"), "there is nothing to refuse any more");
}

#[test]
fn nothing_half_said_survives_the_switch_to_tls() {
    for said in
        [&b"NOOP {9+}\r\nx"[..], b"NOOP \"x\nAUTHENTICATE", b"AUTHENTICATE \"PLAIN\"\r\n", b"AUTHENTICATE \"PLAIN\"\r\n{9+}\r\n"]
    {
        let mut front = Front::new(terms(), CAPS);
        let (mut input, mut out) = (BytesMut::from(said), BytesMut::new());
        assert!(matches!(front.step(&mut input, &mut out), Ok(Step::NeedInput)));
        front.secured(terms());
        assert_eq!(front.state(), "await-command");
        out.clear();
        let mut input = BytesMut::from(&b"NOOP \"x\"\r\n"[..]);
        front.step(&mut input, &mut out).expect("no fault");
        assert!(out.ends_with(b"OK \"TLS negotiation successful.\"\r\nOK (TAG \"x\") \"Done.\"\r\n"), "{}", out.escape_ascii());
    }
}

#[test]
fn behind_tls_the_first_step_tells_the_capabilities_and_no_other() {
    let mut front = Front::new(terms(), CAPS);
    let (mut input, mut out) = (BytesMut::from(&b"STARTTLS\r\n"[..]), BytesMut::new());
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(LoginEvent::Secure))));
    out.clear();
    front.secured(Terms { starttls: false, ..terms() });
    assert!(out.is_empty());
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::NeedInput)));
    assert!(out.starts_with(b"\"IMPLEMENTATION\" ") && memchr::memmem::find(&out, b"STARTTLS").is_none());
    out.clear();
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::NeedInput)));
    assert!(out.is_empty());
}
