//! What is true of the dance in ManageSieve whatever a backend says; single conversations are in `tests/transcripts/managesieve`.

use super::*;
use crate::dance::played::{self, PASSWORD, Seen, plan, sign_in};
use crate::dance::{Dance, DanceEvent, Secure};
use crate::encode::base64_encode;
use crate::machine::Step;
use proptest::prelude::*;

fn converse<'a>(plan: Plan, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    played::converse(Box::new(Sieve::new()), plan, pieces)
}

/// What a backend might say, true to the protocol or not; a reply ends where a piece does.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let reply = prop_oneof![
        6 => Just("\"IMPLEMENTATION\" \"x\"\r\n\"SASL\" \"PLAIN LOGIN\"\r\n\"STARTTLS\"\r\n\"XCLIENT\"\r\nOK\r\n"),
        2 => Just("\"SASL\" {5}\r\nLOGIN\r\nOK \"hi\"\r\n"),
        1 => Just("\"SASL\" \"\"\r\n\"STARTTLS\"\r\nOK\r\n"),
        8 => Just("OK\r\n"),
        4 => Just("\"\"\r\n"),
        1 => Just("{12}\r\nVXNlcm5hbWU6\r\n"),
        1 => Just("NO \"s3cr3t-\u{e4}\"\r\n"),
        1 => Just("NO {9}\r\ns3cr3t-\u{e4}\r\n"),
        1 => Just("NO (TRYLATER) \"x\"\r\n"),
        1 => Just("NO (REFERRAL \"sieve://evil.example\") \"x\"\r\n"),
        1 => Just("BYE \"x\"\r\n"),
        1 => Just("+OK hi\r\n"),
        1 => Just("O"),
        1 => Just("{900000}\r\n"),
        1 => Just("\r\n"),
    ];
    let junk = proptest::collection::vec(any::<u8>().prop_filter("no line ends inside", |octet| *octet != b'\n'), 0..12);
    let long = (8000usize..9000).prop_map(|length| vec![b'x'; length]);
    prop_oneof![30 => reply.prop_map(|reply| reply.as_bytes().to_vec()), 2 => junk, 1 => Just(b"OK\n".to_vec()), 1 => long]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_backend_gets_the_password_unnoticed_and_pieces_do_not_matter(
        said in proptest::collection::vec(anything(), 0..10),
        secure in prop_oneof![Just(Secure::Never), Just(Secure::StartTls), Just(Secure::Implicit)],
        mechanism in prop_oneof![Just(None), Just(Some(Mechanism::Plain)), Just(Some(Mechanism::Login))],
    ) {
        // Lines that arrive together are ahead of their commands and end the dance; all others may come in any pieces.
        let whole = converse(plan(secure, mechanism), said.iter().map(Vec::as_slice));
        let octets = converse(plan(secure, mechanism), said.iter().flat_map(|line| line.chunks(1)));
        let threes = converse(plan(secure, mechanism), said.iter().flat_map(|line| line.chunks(3)));
        prop_assert_eq!((&octets.out, &octets.events), (&whole.out, &whole.events));
        prop_assert_eq!((&threes.out, &threes.events), (&whole.out, &whole.events));
        prop_assert!(octets.most_held <= Dance::REPLY_MAX);

        let plain = base64_encode(format!("\0joe\0{PASSWORD}").as_bytes());
        let login = base64_encode(PASSWORD.as_bytes());
        let spellings: [&[u8]; 3] = [PASSWORD.as_bytes(), plain.expose(), login.expose()];
        let told = spellings.iter().any(|spelling| memmem::find(&whole.out, spelling).is_some());
        prop_assert_eq!(told, whole.credentials_sent);
        prop_assert!(!told || whole.in_tls || secure == Secure::Never);
        let introduced = memmem::find(&whole.out, b"XCLIENT").is_some();
        prop_assert!(!introduced || whole.in_tls || secure == Secure::Never);
        let first_word_of_tls = whole.out.starts_with(b"STARTTLS\r\n") || whole.out.is_empty();
        prop_assert!(secure != Secure::StartTls || first_word_of_tls);
        prop_assert!(!whole.events.iter().any(|event| told && event.contains(PASSWORD)), "{:?}", whole.events);
    }

    #[test]
    fn a_response_is_quoted_where_a_quoted_string_has_room(
        user in "[a-z]{1,150}", master in proptest::option::of("[a-z]{1,50}"), password in proptest::collection::vec(1u8..=9, 0..1200),
    ) {
        let sign_in = sign_in(&user, master.as_deref(), &password, Some(Mechanism::Plain));
        let mut out = BytesMut::new();
        let said = Sieve::new().sign_in(&sign_in, &mut out).unwrap();
        let response = base64_encode(Plain::new(&sign_in).next().unwrap().octets.expose());
        let encoded = String::from_utf8_lossy(response.expose());
        let expected = if encoded.len() <= 1024 {
            format!("AUTHENTICATE \"PLAIN\" \"{encoded}\"\r\n")
        } else {
            format!("AUTHENTICATE \"PLAIN\" {{{}+}}\r\n{encoded}\r\n", encoded.len())
        };
        prop_assert_eq!(out.escape_ascii().to_string(), expected.into_bytes().escape_ascii().to_string());
        prop_assert!(said.secret && said.alone);
    }
}

/// Every way to sign in, at a backend that repeats what it hears, quoted or as a literal.
#[test]
fn what_is_overheard_has_no_password_in_it() {
    for mechanism in [None, Some(Mechanism::Plain), Some(Mechanism::Login)] {
        for literal in [false, true] {
            let mut dance = Dance::new(Box::new(Sieve::new()), plan(Secure::Never, mechanism));
            dance.overhear();
            let mut step = |said: &[u8]| {
                let (mut input, mut out) = (BytesMut::from(said), BytesMut::new());
                let step = dance.step(&mut input, &mut out).unwrap();
                (step, out, dance.overheard(), dance.credentials_sent())
            };
            let (mut said, mut lines) = (BytesMut::new(), Vec::new());
            let replies = [&b"\"SASL\" \"PLAIN LOGIN\"\r\n\"XCLIENT\"\r\nOK\r\n"[..], b"OK\r\n", b"\"\"\r\n", b"\"\"\r\n"];
            for reply in replies {
                let (_, out, heard, sent) = step(reply);
                (said, lines) = (out, [lines, heard].concat());
                if sent {
                    break;
                }
            }
            let repeated = said.escape_ascii().to_string().replace("\\\"", "").replace("\\r\\n", " ");
            let no =
                if literal { format!("NO {{{}}}\r\n{repeated}\r\n", repeated.len()) } else { format!("NO \"{repeated}\"\r\n") };
            let (refused, _, heard, _) = step(no.as_bytes());
            assert!(matches!(refused, Step::Event(DanceEvent::Refused(_))), "{refused:?}");
            let text: String = lines.iter().chain(&heard).map(|line| format!("{}\n", line.text)).collect();
            assert!(text.contains("XCLIENT ADDR=192.0.2.7") && text.contains("AUTHENTICATE ") && text.contains("***"), "{text}");
            for form in [PASSWORD, "s3cr3t", "czNjcjN0", "AGpvZ", "MzY3I"] {
                assert!(!text.contains(form), "{mechanism:?} {literal}: {form} in {text}");
            }
        }
    }
}
