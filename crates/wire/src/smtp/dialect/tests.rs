//! What is true of the dance in SMTP whatever a backend says; single conversations are in `tests/transcripts/submission`.

use super::*;
use crate::dance::played::{self, PASSWORD, Seen, sign_in};
use crate::dance::{Dance, DanceEvent, Secure};
use crate::machine::Step;
use crate::origin::Told;
use memchr::memmem;
use proptest::prelude::*;

fn plan(secure: Secure, mechanism: Option<Mechanism>, noauth: bool) -> Plan {
    let mut plan = played::plan(secure, mechanism);
    plan.sign_in.as_mut().unwrap().noauth = noauth;
    if let Some(introduction) = &mut plan.introduce {
        introduction.origin.helo = Some(Told::Known("client.example".into()));
    }
    plan
}

fn converse<'a>(plan: Plan, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    played::converse(Box::new(Submission::new()), plan, pieces)
}

/// What a backend might say, true to the protocol or not; a reply ends where a piece does.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let reply = prop_oneof![
        8 => Just("220 hi\r\n"),
        8 => Just("250-b\r\n250-STARTTLS\r\n250-AUTH PLAIN LOGIN\r\n250 XCLIENT ADDR PORT LOGIN HELO\r\n"),
        4 => Just("250-b\r\n250 AUTH LOGIN\r\n"),
        4 => Just("250 b\r\n"),
        4 => Just("334 \r\n"),
        1 => Just("334 VXNlcm5hbWU6\r\n"),
        2 => Just("235 2.7.0 in\r\n"),
        1 => Just("535 5.7.8 s3cr3t-\u{e4}\r\n"),
        1 => Just("501 5.5.4 x\r\n"),
        1 => Just("550 x\r\n"),
        1 => Just("421 x\r\n"),
        1 => Just("+OK\r\n"),
        1 => Just("25"),
        1 => Just("250-b\r\n"),
    ];
    let junk = proptest::collection::vec(any::<u8>().prop_filter("no line ends inside", |octet| *octet != b'\n'), 0..12);
    let long = (8000usize..9000).prop_map(|length| vec![b'x'; length]);
    prop_oneof![40 => reply.prop_map(|reply| reply.as_bytes().to_vec()), 2 => junk, 1 => Just(b"220\n".to_vec()), 1 => long]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_backend_gets_the_password_unnoticed_and_pieces_do_not_matter(
        said in proptest::collection::vec(anything(), 0..10),
        secure in prop_oneof![Just(Secure::Never), Just(Secure::StartTls), Just(Secure::Implicit)],
        mechanism in prop_oneof![Just(None), Just(Some(Mechanism::Plain)), Just(Some(Mechanism::Login))],
        noauth in any::<bool>(),
    ) {
        // Replies that arrive together are ahead of their commands and end the dance; all others may come in any pieces.
        let whole = converse(plan(secure, mechanism, noauth), said.iter().map(Vec::as_slice));
        let octets = converse(plan(secure, mechanism, noauth), said.iter().flat_map(|reply| reply.chunks(1)));
        let threes = converse(plan(secure, mechanism, noauth), said.iter().flat_map(|reply| reply.chunks(3)));
        let verdicts = |seen: &Seen| seen.events.iter().map(|event| event.split("detail").next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
        prop_assert_eq!((&octets.out, verdicts(&octets)), (&whole.out, verdicts(&whole)));
        prop_assert_eq!((&threes.out, verdicts(&threes)), (&whole.out, verdicts(&whole)));
        prop_assert!(octets.most_held <= Dance::REPLY_MAX);

        let plain = base64_encode(format!("\0joe\0{PASSWORD}").as_bytes());
        let login = base64_encode(PASSWORD.as_bytes());
        let spellings: [&[u8]; 3] = [PASSWORD.as_bytes(), plain.expose(), login.expose()];
        let told = spellings.iter().any(|spelling| memmem::find(&whole.out, spelling).is_some());
        prop_assert_eq!(told, whole.credentials_sent);
        prop_assert!(!told || !noauth && (whole.in_tls || secure == Secure::Never));
        for identity in [&b"XCLIENT"[..], b"client.example"] {
            let said = memmem::find(&whole.out, identity).is_some();
            prop_assert!(!said || whole.in_tls || secure == Secure::Never);
        }
        prop_assert!(!whole.events.iter().any(|event| told && event.contains(PASSWORD)), "{:?}", whole.events);
    }

    #[test]
    fn an_initial_response_is_said_where_the_line_has_room(
        user in "[a-z]{1,250}", master in proptest::option::of("[a-z]{1,50}"), password in proptest::collection::vec(1u8..=9, 0..300),
    ) {
        let plan = plan(Secure::Never, None, false);
        let sign_in = sign_in(&user, master.as_deref(), &password, Some(Mechanism::Plain));
        let mut dialect = Submission { told: Some("AUTH=PLAIN".into()), ..Submission::new() };
        let mut out = BytesMut::new();
        let response = Plain::new(&sign_in).next().unwrap().octets;
        let said = dialect.sign_in(&Plan { sign_in: Some(sign_in), ..plan }, &mut out).unwrap();
        let longest = 512 - "AUTH PLAIN \r\n".len();
        let fits = base64_encode(response.expose()).expose().len() <= longest;
        prop_assert_eq!(said.secret, fits);
        prop_assert_eq!(&out[..] == b"AUTH PLAIN\r\n", !fits);
        prop_assert!(out.len() <= 512);
    }
}

#[test]
fn what_a_no_means_is_read_off_its_codes() {
    for (reply, expected, text) in [
        ("535 5.7.8 Bad", NoKind::Credentials, "Bad"),
        ("535 Bad", NoKind::Credentials, "Bad"),
        ("535 5.7.0 Bad", NoKind::Credentials, "Bad"),
        ("535-5.7.8 Bad.\r\n535 5.7.8 See https://x", NoKind::Credentials, "Bad. See https://x"),
        ("550 5.7.8 Bad", NoKind::Credentials, "Bad"),
        ("454 5.7.8 Bad", NoKind::Credentials, "Bad"),
        ("454 4.7.0 Later", NoKind::Unavailable, "Later"),
        ("451 4.4.6 Loop", NoKind::Unavailable, "Loop"),
        ("432 4.7.12 Transition", NoKind::Unavailable, "Transition"),
        ("421 4.7.0 Too many", NoKind::Unavailable, "Too many"),
        ("421", NoKind::Unavailable, ""),
        ("525 5.7.13 Disabled", NoKind::ContactAdmin, "Disabled"),
        ("535 5.7.13 Disabled", NoKind::ContactAdmin, "Disabled"),
        ("535 5.7.11 TLS", NoKind::ServerBug, "535 5.7.11 TLS"),
        ("534 5.7.9 Weak", NoKind::ServerBug, "534 5.7.9 Weak"),
        ("538 TLS", NoKind::ServerBug, "538 TLS"),
        ("530 5.7.0 TLS first", NoKind::ServerBug, "530 5.7.0 TLS first"),
        ("504 5.5.4 Unknown", NoKind::ServerBug, "504 5.5.4 Unknown"),
        ("503 5.5.1 Order", NoKind::ServerBug, "503 5.5.1 Order"),
        ("502 5.5.1 Unknown", NoKind::ServerBug, "502 5.5.1 Unknown"),
        ("500 What", NoKind::ServerBug, "500 What"),
        ("554 5.7.1 No", NoKind::ServerBug, "554 5.7.1 No"),
        ("550 5.2.900 joe@b.example:587 Referral", NoKind::ServerBug, "550 5.2.900 joe@b.example:587 Referral"),
        ("535 5.2.900 joe@b.example:587 Referral", NoKind::ServerBug, "535 5.2.900 joe@b.example:587 Referral"),
    ] {
        let octets = format!("{reply}\r\n");
        let read = reply::read(octets.as_bytes()).unwrap();
        assert_eq!(refused(&read, true), BackendNo { kind: expected, text: text.into() }, "{reply}");
        let unasked = refused(&read, false).kind;
        assert_eq!(
            unasked,
            if expected == NoKind::Credentials { NoKind::ServerBug } else { expected },
            "{reply}: nothing was said"
        );
    }
}

#[test]
fn a_name_that_no_server_would_take_is_not_said() {
    let named = |helo: Option<Told>, own_name_only| {
        let mut plan = plan(Secure::Never, None, false);
        plan.introduce.as_mut().unwrap().origin.helo = helo;
        Submission { own_name_only, ..Submission::new() }.name(&plan).to_owned()
    };
    for (helo, expected) in [
        ("client.example", "client.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("<script>", "proxy.example"),
        ("[not an address]", "proxy.example"),
        ("a..b", "proxy.example"),
    ] {
        assert_eq!(named(Some(Told::Known(helo.into())), false), expected, "{helo}");
        assert_eq!(named(Some(Told::Known(helo.into())), true), "proxy.example", "{helo}");
    }
    assert_eq!(named(Some(Told::Unavailable), false), "proxy.example");
    assert_eq!(named(None, false), "proxy.example");
}

/// Every way to sign in, at a backend that repeats what it hears, on one line or several.
#[test]
fn what_is_overheard_has_no_password_in_it() {
    for (mechanism, lines) in [None, Some(Mechanism::Plain), Some(Mechanism::Login)].into_iter().flat_map(|m| [(m, 1), (m, 2)]) {
        let mut dance = Dance::new(Box::new(Submission::new()), plan(Secure::Never, mechanism, false));
        dance.overhear();
        let mut step = |said: &[u8]| {
            let (mut input, mut out) = (BytesMut::from(said), BytesMut::new());
            let step = dance.step(&mut input, &mut out).unwrap();
            (step, out, dance.overheard(), dance.credentials_sent())
        };
        let (mut said, mut told) = (BytesMut::new(), Vec::new());
        for reply in [
            "220 b",
            "250-b\r\n250-AUTH PLAIN LOGIN\r\n250 XCLIENT ADDR",
            "220 b",
            "250-b\r\n250 AUTH PLAIN LOGIN",
            "334 x",
            "334 y",
        ] {
            let (_, out, heard, sent) = step(format!("{reply}\r\n").as_bytes());
            (said, told) = (out, [told, heard].concat());
            if sent {
                break;
            }
        }
        let repeated = said.escape_ascii().to_string();
        let no =
            if lines == 1 { format!("500 {repeated}\r\n") } else { format!("535-5.7.8 {repeated}\r\n535 5.7.8 {repeated}\r\n") };
        let (refused, _, heard, _) = step(no.as_bytes());
        assert!(matches!(refused, Step::Event(DanceEvent::Refused(_))), "{refused:?}");
        let text: String = told.iter().chain(&heard).map(|line| format!("{}\n", line.text)).collect();
        assert!(text.contains("XCLIENT ADDR=192.0.2.7") && text.contains("EHLO client.example"), "{text}");
        assert!(text.contains("AUTH ") && text.contains("***"), "{text}");
        for form in [PASSWORD, "s3cr3t", "czNjcjN0", "AGpvZ", "MzY3I"] {
            assert!(!text.contains(form), "{mechanism:?} {lines}: {form} in {text}");
        }
    }
}
