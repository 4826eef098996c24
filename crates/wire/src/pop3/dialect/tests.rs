//! What is true of the dance in POP3 whatever a backend says; single conversations are in `tests/transcripts/pop3`.

use super::*;
use crate::dance::played::{self, PASSWORD, Seen, plan, sign_in};
use crate::dance::{Dance, Secure};
use proptest::prelude::*;

fn converse<'a>(plan: Plan, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    played::converse(Box::new(Pop3::new()), plan, pieces)
}

/// What a backend might say, true to the protocol or not; a line ends where a piece does.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => Just("+OK [XCLIENT] hi\r\n"),
        8 => Just("+OK\r\n"),
        4 => Just("+ \r\n"),
        1 => Just("+ VXNlcm5hbWU6\r\n"),
        1 => Just("-ERR [AUTH] s3cr3t-\u{e4}\r\n"),
        1 => Just("-ERR use TLS\r\n"),
        1 => Just("* OK hi\r\n"),
        1 => Just("+O"),
        1 => Just(".\r\n"),
        1 => Just("\r\n"),
    ];
    let junk = proptest::collection::vec(any::<u8>().prop_filter("no line ends inside", |octet| *octet != b'\n'), 0..12);
    let long = (8000usize..9000).prop_map(|length| vec![b'x'; length]);
    prop_oneof![30 => line.prop_map(|line| line.as_bytes().to_vec()), 2 => junk, 1 => Just(b"+OK\n".to_vec()), 1 => long]
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
        let first_word_of_tls = whole.out.starts_with(b"STLS\r\n") || whole.out.is_empty();
        prop_assert!(secure != Secure::StartTls || first_word_of_tls);
        prop_assert!(!whole.events.iter().any(|event| told && event.contains(PASSWORD)), "{:?}", whole.events);
    }

    #[test]
    fn an_initial_response_is_said_where_the_line_has_room(
        user in "[a-z]{1,150}", master in proptest::option::of("[a-z]{1,50}"), password in proptest::collection::vec(1u8..=9, 0..200),
    ) {
        let sign_in = sign_in(&user, master.as_deref(), &password, Some(Mechanism::Plain));
        let mut out = BytesMut::new();
        let said = Pop3::new().sign_in(&sign_in, &mut out).unwrap();
        let response = Plain::new(&sign_in).next().unwrap().octets;
        let longest = 255 - "AUTH PLAIN \r\n".len();
        let fits = base64_encode(response.expose()).expose().len() <= longest;
        prop_assert_eq!(said.secret, fits);
        prop_assert_eq!(&out[..] == b"AUTH PLAIN\r\n", !fits);
        prop_assert!(out.len() <= 255);
    }
}
