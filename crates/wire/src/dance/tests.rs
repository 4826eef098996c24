use super::*;
use crate::imap::dialect::Imap;
use crate::login::Mechanism;
use crate::secret::Secret;
use proptest::prelude::*;

const PASSWORD: &str = "s3cr3t-\u{e4}";

fn plan(secure: Secure, mechanism: Option<Mechanism>) -> Plan {
    let sign_in = SignIn {
        user: "joe".into(),
        master: None,
        password: Secret::new(PASSWORD.as_bytes().to_vec()),
        mechanism,
        noauth: false,
    };
    Plan {
        secure,
        introduce: None,
        sign_in: Some(sign_in),
        one_at_a_time: false,
        identity_refused: IdentityRefused::Fail,
        server: "proxy.example".into(),
        helo: None,
    }
}

fn dance(secure: Secure, mechanism: Option<Mechanism>) -> Dance {
    Dance::new(Box::new(Imap::new()), plan(secure, mechanism))
}

/// Steps once with this input; what was said, and what was left.
fn say(dance: &mut Dance, said: &[u8]) -> (Result<Step<DanceEvent>, Stumble>, BytesMut, BytesMut) {
    let (mut input, mut out) = (BytesMut::from(said), BytesMut::new());
    let step = dance.step(&mut input, &mut out);
    (step, out, input)
}

#[test]
fn an_endless_greeting_is_given_up_at_the_cap() {
    let mut dance = dance(Secure::Never, None);
    let (mut input, mut out) = (BytesMut::from(&b"* OK "[..]), BytesMut::new());
    let mut fed = input.len();
    while dance.step(&mut input, &mut out).is_ok() {
        input.extend_from_slice(&[b'x'; 1000]);
        fed += 1000;
        assert!(fed <= Dance::REPLY_MAX + 1000, "32 MiB would have been held");
    }
    assert!(out.is_empty());
}

#[test]
fn nothing_is_touched_outside_its_turn() {
    let mut dance = dance(Secure::StartTls, None);
    assert!(matches!(say(&mut dance, b"* OK hi\r\n"), (Ok(Step::NeedInput), _, _)));
    dance.secured(); // not yet: it would unlock the password on a connection in clear
    assert!(matches!(say(&mut dance, b"S OK go\r\n"), (Ok(Step::Event(DanceEvent::Secure)), _, _)));
    let (step, out, left) = say(&mut dance, b"* CAPABILITY IMAP4rev1\r\n");
    assert!(matches!(step, Ok(Step::NeedInput)) && out.is_empty() && !left.is_empty());
    dance.secured();
    let (_, out, _) = say(&mut dance, b"");
    assert_eq!(out, b"C CAPABILITY\r\n"[..]);
    assert!(say(&mut dance, b"HTTP/1.1 400\r\n").0.is_err());
    let (step, out, left) = say(&mut dance, b"C OK\r\n");
    assert!(matches!(step, Ok(Step::NeedInput)) && out.is_empty() && !left.is_empty(), "a stumble is the end");
}

/// Every way to sign in, at backends that wait for literals and responses or do not, and that repeat what they hear.
#[test]
fn what_is_overheard_has_no_password_in_it() {
    for mechanism in [None, Some(Mechanism::Plain), Some(Mechanism::Login)] {
        for list in ["IMAP4rev1 AUTH=PLAIN AUTH=LOGIN", "IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN AUTH=LOGIN"] {
            let mut dance = dance(Secure::Never, mechanism);
            dance.overhear();
            let mut said = say(&mut dance, format!("* OK [CAPABILITY {list}] hi\r\n").as_bytes()).1;
            let mut rounds = 0;
            while !dance.credentials_sent() && rounds < 4 {
                said = say(&mut dance, b"+ go on\r\n").1;
                rounds += 1;
            }
            let repeated = said.strip_suffix(b"\r\n").unwrap_or(&said).to_vec();
            let (step, ..) = say(&mut dance, &[b"L NO what? ", repeated.as_slice(), b"\r\n"].concat());
            assert!(matches!(step, Ok(Step::Event(DanceEvent::Refused(_)))), "{mechanism:?} {list}: {step:?}");
            let lines = dance.overheard();
            let text: String = lines.iter().map(|line| format!("{}\n", line.text)).collect();
            assert!(text.contains("***") && text.contains("L NO what?"), "{text}");
            for form in [PASSWORD, "s3cr3t", "czNjcjN0", "AGpvZ", "MzY3I"] {
                assert!(!text.contains(form), "{mechanism:?} {list}: {form} in {text}");
            }
            assert!(dance.overheard().is_empty(), "it is told once");
        }
    }
}

#[test]
fn nobody_overhears_and_nothing_is_kept() {
    let mut dance = dance(Secure::Never, None);
    let _ = say(&mut dance, b"* OK [CAPABILITY IMAP4rev1] hi\r\n");
    assert!(dance.overheard().is_empty());
}

/// What a backend might say, true to the protocol or not.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        3 => Just("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ STARTTLS] hi\r\n"),
        3 => Just("* OK [CAPABILITY IMAP4rev1 AUTH=LOGIN AUTH=PLAIN STARTTLS] hi\r\n"),
        2 => Just("* OK hi\r\n"),
        2 => Just("* CAPABILITY IMAP4rev1 LITERAL-\r\n"),
        1 => Just("* CAPABILITY LOGINDISABLED\r\n"),
        1 => Just("* PREAUTH hi\r\n"),
        1 => Just("* BYE\r\n"),
        2 => Just("* ID ({3}\r\n"),
        4 => Just("+ \r\n"),
        4 => Just("C OK\r\n"),
        3 => Just("S OK\r\n"),
        3 => Just("L OK\r\n"),
        2 => Just("L NO [ALERT] no\r\n"),
        1 => Just("I OK\r\n"),
        1 => Just("\n"),
    ];
    prop_oneof![9 => line.prop_map(|line| line.as_bytes().to_vec()), 1 => proptest::collection::vec(any::<u8>(), 0..20)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_backend_gets_the_password_unnoticed_or_makes_us_grow(
        said in proptest::collection::vec(anything(), 0..12),
        secure in prop_oneof![Just(Secure::Never), Just(Secure::StartTls), Just(Secure::Implicit)],
        mechanism in prop_oneof![Just(None), Just(Some(Mechanism::Plain)), Just(Some(Mechanism::Login))],
    ) {
        let mut dance = dance(secure, mechanism);
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let mut in_tls = secure == Secure::Implicit;
        let mut events = 0;
        'said: for piece in said {
            input.extend_from_slice(&piece);
            loop {
                match dance.step(&mut input, &mut out) {
                    Ok(Step::NeedInput) => break,
                    Ok(Step::Event(DanceEvent::Secure)) => {
                        prop_assert!(input.is_empty());
                        dance.secured();
                        in_tls = true;
                    }
                    Ok(Step::Event(_)) => events += 1,
                    Err(_) => break 'said,
                }
            }
            prop_assert!(input.len() < Dance::REPLY_MAX || events > 0);
        }
        let plain = crate::encode::base64_encode(format!("\0joe\0{PASSWORD}").as_bytes());
        let login = crate::encode::base64_encode(PASSWORD.as_bytes());
        let spellings: [&[u8]; 3] = [PASSWORD.as_bytes(), plain.expose(), login.expose()];
        let told = spellings.iter().any(|spelling| memchr::memmem::find(&out, spelling).is_some());
        prop_assert_eq!(told, dance.credentials_sent());
        prop_assert!(!told || in_tls || secure == Secure::Never);
        prop_assert!(events <= 1);
    }
}
