//! Front meets back, in each protocol: the dance signs in to our own front, in memory, in pieces of every size from one octet
//! up.
//!
//! The front plays the backend here ([`meeting`]), and in the chain test a second one stands before the dance as it does in the
//! program.

mod meeting;

use crate::spoken::{IMAP, POP3, SIEVE, SUBMISSION, Spoken};
use bytes::BytesMut;
use meeting::{IMAP_WAY, Meeting, POP3_WAY, SIEVE_WAY, SUBMISSION_WAY, WAYS, Way, carry, origin, sign_in, terms, welcome};
use proptest::prelude::*;
use wire::dance::{DanceEvent, Introduction, Secure, SignIn};
use wire::login::{LOOPING, LoginEvent, Mechanism, Refusal, Terms};
use wire::machine::Step;
use wire::origin::{Origin, Told};

/// One login with these values, from the greeting to what lies behind the welcome.
fn signs_in(way: Way, secure: Secure, chunk: usize, user: &str, password: &[u8], introduce: bool) {
    let introduction =
        introduce.then(|| Introduction { origin: origin(), client_id: Vec::new(), forward: Vec::new(), patience: None });
    let mut meeting = Meeting::new(way, secure, chunk, sign_in(way, user, password), introduction);
    let asked = meeting.until_asked();
    let name = way.name;
    let expected = if way.master {
        ("master \"of\" all".to_owned(), Some(user.to_owned()), password.to_vec())
    } else {
        (user.to_owned(), None, password.to_vec())
    };
    assert!(asked == expected, "{name} {chunk}: {:?} {:?}", asked.0, asked.1);
    assert_eq!(meeting.dance.introduced(), introduce);
    assert_eq!(meeting.said.len(), usize::from(introduce));
    if let Some(said) = meeting.said.first() {
        let mut believed = Origin::at_accept("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap(), origin().session);
        let nets = wire::origin::trust::TrustedNets::new(vec!["127.0.0.0/8".parse().unwrap()]);
        believed.amend(said.clone(), &nets.admit("127.0.0.1".parse().unwrap()).unwrap());
        // What is not known is said to be so.
        let unknown = way.is_submission().then_some(Told::Unavailable);
        let expected = Origin {
            host_name: unknown.clone(),
            reverse_name: unknown.clone(),
            helo: unknown,
            source: believed.source,
            arrived: believed.arrived,
            real_client: believed.real_client,
            real_reached: believed.real_reached,
            forwarded: true,
            named: true,
            ..origin()
        };
        assert_eq!(believed, expected);
    }
    assert!(meeting.dance.credentials_sent());

    let mut out = BytesMut::new();
    meeting.front.welcome(&welcome(), &mut out);
    meeting.front_says(&out);
    meeting.to_dance.extend_from_slice(b"* 3 EXISTS\r\n{9}\r\n\0");
    match meeting.until_told() {
        DanceEvent::Welcome(told) => assert_eq!(told, way.told(), "{name} {chunk}"),
        other => panic!("{other:?}"),
    }
    assert!(meeting.to_front.is_empty() && meeting.front_input.is_empty(), "said behind the login");
    assert_eq!(meeting.rest_for_client(), b"* 3 EXISTS\r\n{9}\r\n\0");
}

#[test]
fn every_way_in_pieces_of_every_size() {
    for way in WAYS {
        for secure in [Secure::Never, Secure::StartTls, Secure::Implicit] {
            for chunk in 1..=64 {
                signs_in(way, secure, chunk, "joe@example.org", b"pa ss\"w\\ord", true);
                signs_in(way, secure, chunk, "j\u{f6}rg \"the\\man\"", b"\xff\xfe {5+}", false);
            }
        }
    }
}

#[test]
fn every_odd_value_in_every_way() {
    let long_user = "u".repeat(255);
    let users = ["j", "a b", "\"", "\\", "{3+}", "NIL", "*", "L", "日本語", "%u${run}", long_user.as_str()];
    let passwords: [&[u8]; 12] = [
        b"",
        b" ",
        b"\"",
        b"\\\"\\",
        b"{3}",
        b"{3+}",
        b"\t\x01\x7f",
        b"\xff",
        b"\xc3\xa4\xc3",
        &[b'p'; 4096],
        &[b'"'; 4096],
        &[0xff; 4096],
    ];
    for way in WAYS {
        for (index, user) in users.iter().enumerate() {
            for (other, password) in passwords.iter().enumerate() {
                let chunk = if password.len() > 1000 { 61 } else { 1 + (index * 13 + other * 7) % 64 };
                signs_in(way, Secure::Never, chunk, user, password, other % 2 == 0);
            }
        }
    }
}

#[test]
fn a_refusal_keeps_its_kind_and_its_words() {
    let text = || Some("because".to_owned());
    for refusal in [
        Refusal::WrongCredentials,
        Refusal::NotAuthorized,
        Refusal::Unavailable { text: text() },
        Refusal::Looping,
        Refusal::Limit { text: text() },
        Refusal::InUse { text: text() },
        Refusal::ContactAdmin { text: text() },
        Refusal::Expired { text: text() },
        Refusal::Alert { text: "because".into() },
    ] {
        for way in WAYS {
            let mut meeting = Meeting::new(way, Secure::Never, 3, sign_in(way, "joe", b"wrong"), None);
            meeting.until_asked();
            let mut out = BytesMut::new();
            meeting.front.refuse(&refusal, &mut out);
            meeting.front_says(&out);
            match meeting.until_told() {
                DanceEvent::Refused(no) => {
                    assert_eq!(no.kind, way.kind(&refusal), "{}", way.name);
                    let kept = match refusal {
                        Refusal::WrongCredentials | Refusal::NotAuthorized => true,
                        // For the operator of the proxy in front a code may stand before them.
                        Refusal::Looping => no.text.ends_with(LOOPING),
                        _ => no.text == "because",
                    };
                    assert!(kept, "{}", no.text);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn capabilities_that_were_not_told_are_asked_for_and_nothing_is_lost() {
    for chunk in 1..=64 {
        let mut meeting = Meeting::new(IMAP_WAY, Secure::Never, chunk, sign_in(IMAP_WAY, "joe", b"secret"), None);
        meeting.until_asked();
        meeting.to_dance.extend_from_slice(b"L OK in\r\n* 3 EXISTS\r\n");
        match meeting.until_told() {
            DanceEvent::Welcome(told) => {
                assert_eq!(told.capability.as_deref(), Some("IMAP4rev1 AFTER"));
                assert_eq!(told.aside.concat(), b"* 3 EXISTS\r\n* 1 RECENT\r\n");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(meeting.rest_for_client(), b"* 2 EXISTS\r\n");
    }
}

/// Client, front, dance, backend: what the client pipelines behind its login reaches the backend as it was.
#[test]
fn a_chain_loses_nothing() {
    const IMAP_TOLD: &str = " OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n";
    let logins: [(&Spoken, &[u8], &str); 15] = [
        (&IMAP, b"a1 LOGIN {3+}\r\njoe \"se\\\"cret\"\r\n", "a1"),
        (&IMAP, b"b2 AUTHENTICATE PLAIN AGpvZQBzZSJjcmV0\r\n", "b2"),
        (&IMAP, b"c3 AUTHENTICATE PLAIN\r\nAGpvZQBzZSJjcmV0\r\n", "c3"),
        (&IMAP, b"d4 AUTHENTICATE LOGIN\r\nam9l\r\nc2UiY3JldA==\r\n", "d4"),
        (&POP3, b"USER joe\r\nPASS se\"cret\r\n", ""),
        (&POP3, b"AUTH PLAIN AGpvZQBzZSJjcmV0\r\n", ""),
        (&POP3, b"AUTH PLAIN\r\nAGpvZQBzZSJjcmV0\r\n", ""),
        (&POP3, b"AUTH LOGIN\r\nam9l\r\nc2UiY3JldA==\r\n", ""),
        (&SIEVE, b"AUTHENTICATE \"PLAIN\" \"AGpvZQBzZSJjcmV0\"\r\n", ""),
        (&SIEVE, b"AUTHENTICATE \"PLAIN\" {16+}\r\nAGpvZQBzZSJjcmV0\r\n", ""),
        (&SIEVE, b"AUTHENTICATE \"PLAIN\"\r\n\"AGpvZQBzZSJjcmV0\"\r\n", ""),
        (&SIEVE, b"AUTHENTICATE \"LOGIN\"\r\n\"am9l\"\r\n{12+}\r\nc2UiY3JldA==\r\n", ""),
        (&SUBMISSION, b"AUTH PLAIN AGpvZQBzZSJjcmV0\r\n", ""),
        (&SUBMISSION, b"AUTH PLAIN\r\nAGpvZQBzZSJjcmV0\r\n", ""),
        (&SUBMISSION, b"AUTH LOGIN am9l\r\nc2UiY3JldA==\r\n", ""),
    ];
    let behind: &[u8] = b"x SELECT {5+}\r\nINBOX\r\nPASS evil\r\ny LOGIN evil evil\r\n\0\xff\n";
    for (spoken, said, tag) in logins {
        for way in WAYS.into_iter().filter(|way| way.spoken.name == spoken.name) {
            for chunk in 1..=64 {
                let mut front = (spoken.front)(terms(true), None);
                let (mut client, mut input, mut heard) = ([said, behind].concat(), BytesMut::new(), BytesMut::new());
                front.greet(&mut heard);
                if way.is_submission() {
                    // Nobody may go on before this is answered.
                    let mut hello = BytesMut::from(&b"EHLO client.example\r\n"[..]);
                    assert!(matches!(front.step(&mut hello, &mut heard), Ok(Step::NeedInput)));
                }
                let login = loop {
                    assert!(carry(&mut client, &mut input, chunk), "the client has said all");
                    if let Step::Event(LoginEvent::Login(login)) = front.step(&mut input, &mut heard).unwrap() {
                        break login;
                    }
                };
                let back = sign_in(way, &login.user, login.password.as_ref().expect("a password").expose());
                let mut meeting = Meeting::new(way, Secure::StartTls, chunk, back, None);
                let asked = meeting.until_asked();
                assert_eq!(asked.2, b"se\"cret");
                let mut out = BytesMut::new();
                meeting.front.welcome(&welcome(), &mut out);
                meeting.front_says(&out);
                meeting.to_dance.extend_from_slice(b"* 3 EXISTS\r\n");
                let DanceEvent::Welcome(told) = meeting.until_told() else { panic!("refused") };
                heard.clear();
                front.welcome(&told, &mut heard);
                let expected = match tag {
                    "" if way.is_sieve() => "OK \"Logged in\"\r\n".to_owned(),
                    "" if way.is_submission() => "235 2.7.0 Logged in\r\n".to_owned(),
                    "" => "+OK Logged in\r\n".to_owned(),
                    tag => format!("* OK [ALERT] hello\r\n{tag}{IMAP_TOLD}"),
                };
                assert_eq!(String::from_utf8_lossy(&heard), expected);
                assert_eq!([input.as_ref(), &client].concat(), behind);
                assert_eq!(meeting.rest_for_client(), b"* 3 EXISTS\r\n");
            }
        }
    }
}

/// A backend whose operator did not list this proxy in its trusted networks offers nothing, and is told nothing.
#[test]
fn who_is_not_trusted_tells_nobody_who_is_calling() {
    for (way, chunk) in [POP3_WAY, SIEVE_WAY, SUBMISSION_WAY].into_iter().flat_map(|way| (1..=64).map(move |chunk| (way, chunk)))
    {
        let introduction = Introduction { origin: origin(), client_id: Vec::new(), forward: Vec::new(), patience: None };
        let mut meeting = Meeting::new(way, Secure::Never, chunk, sign_in(way, "joe", b"pw"), Some(introduction));
        meeting.front = (way.spoken.front)(Terms { trusted: false, ..terms(true) }, None);
        meeting.until_asked();
        assert!(!meeting.dance.introduced() && meeting.said.is_empty());
    }
}

/// `proxy_noauth`: a backend that believes us lets the user in with the first MAIL, and with it alone.
#[test]
fn a_user_that_we_vouch_for_needs_no_password() {
    for (secure, chunk) in
        [Secure::Never, Secure::StartTls, Secure::Implicit].into_iter().flat_map(|s| (1..=64).map(move |n| (s, n)))
    {
        let introduction = Introduction { origin: origin(), client_id: Vec::new(), forward: Vec::new(), patience: None };
        let back = SignIn { noauth: true, ..sign_in(SUBMISSION_WAY, "j\u{f6}rg+x@example.org", b"") };
        let mut meeting = Meeting::new(SUBMISSION_WAY, secure, chunk, back, Some(introduction));
        meeting.vouches = true;
        meeting.front = (SUBMISSION.front)(Terms { may_vouch: true, ..terms(secure != Secure::StartTls) }, None);
        let mut out = BytesMut::new();
        meeting.front.greet(&mut out);
        meeting.front_says(&out);
        let told = loop {
            if let Some(event) = meeting.dance_step() {
                break event;
            }
            assert!(meeting.front_step().is_none(), "nobody has said MAIL");
        };
        assert!(matches!(told, DanceEvent::Welcome(told) if told.text == "Logged in."));
        assert!(meeting.dance.introduced() && !meeting.dance.credentials_sent());
        assert_eq!(meeting.said.last().and_then(|said| said.user.clone()), Some(Told::Known("j\u{f6}rg+x@example.org".into())));

        let client = b"MAIL FROM:<joe@example.org>\r\nRCPT TO:<ann@example.org>\r\n";
        meeting.to_front.extend_from_slice(client);
        let asked = loop {
            if let Some(login) = meeting.front_step() {
                break login;
            }
        };
        assert_eq!((asked.user.as_str(), asked.mechanism), ("j\u{f6}rg+x@example.org", Mechanism::Xclient));
        assert!(asked.password.is_none());
        let left = [meeting.front_input.as_ref(), &meeting.to_front].concat();
        assert_eq!(left, client, "it is for the mail server");
    }
}

proptest! {
    #[test]
    fn any_credentials_arrive_as_they_are(
        user in "[^\\p{C}\\p{Z}]([^\\p{C}\\p{Zl}\\p{Zp}]{0,30}[^\\p{C}\\p{Z}])?",
        password in proptest::collection::vec(any::<u8>().prop_filter("no line ends", |b| !matches!(b, 0 | b'\r' | b'\n')), 0..60),
        way in proptest::sample::select((0..WAYS.len()).collect::<Vec<_>>()),
        tls in any::<bool>(),
        chunk in 1usize..=64,
    ) {
        signs_in(WAYS[way], if tls { Secure::StartTls } else { Secure::Never }, chunk, &user, &password, tls);
    }
}
