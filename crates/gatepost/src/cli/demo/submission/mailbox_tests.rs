use super::super::super::speech::{all_answers, all_turns};
use super::*;
use proptest::prelude::*;

fn fresh() -> Mailbox {
    Mailbox::new("west", Arrival::of_test())
}

fn talk(mailbox: &mut Mailbox, said: &[u8]) -> (String, bool) {
    all_answers(mailbox, &mut BytesMut::from(said))
}

#[test]
fn a_letter_is_taken() {
    let said =
        b"EHLO x\r\nMAIL FROM:<a@example.com> SIZE=20 BODY=8BITMIME\r\nRCPT TO:<b@example.com>\r\nrcpt to: <c@example.com>\r\n\
        DATA\r\nSubject: x\r\n\r\n..\r\n...a\r\n.b\r\n.\r\nQUIT\r\n";
    let (answer, mut took, over) = all_turns(&mut fresh(), &mut BytesMut::from(&said[..]));
    let expected = "250-west\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SIZE 262144\r\n\
        250 2.1.0 Fine.\r\n250 2.1.5 Fine.\r\n250 2.1.5 Fine.\r\n354 Go on, and end with a dot alone.\r\n\
        250 2.0.0 Taken; this demo keeps no letters.\r\n221 2.0.0 Goodbye from west.\r\n";
    assert_eq!((answer.as_str(), over), (expected, true));
    let Some(Took::Letter(letter)) = took.pop() else { panic!("a letter") };
    assert_eq!(
        (letter.from.as_str(), letter.to.as_slice()),
        ("a@example.com", &["b@example.com".to_owned(), "c@example.com".to_owned()][..])
    );
    assert_eq!(letter.octets, b"Subject: x\r\n\r\n.\r\n..a\r\nb\r\n");
    assert_eq!(letter.received, "from x ([127.0.0.1]:7) by west with ESMTPA");
}

#[test]
fn commands_are_answered() {
    let mut mailbox = fresh();
    for (said, expected) in [
        ("RCPT TO:<a@b>", "503 5.5.1 Say MAIL first."),
        ("DATA", "503 5.5.1 Say MAIL and RCPT first."),
        ("MAIL FROM:<a b>", "501 5.5.4 An address in angle brackets was expected."),
        ("MAIL FROM:a@b", "501 5.5.4 An address in angle brackets was expected."),
        ("MAIL TO:<a@b>", "501 5.5.4 An address in angle brackets was expected."),
        ("MAIL FROM:<a@b>SIZE=1", "501 5.5.4 An address in angle brackets was expected."),
        ("MAIL", "501 5.5.4 An address in angle brackets was expected."),
        ("MAIL FROM:<a@b> SIZE=262145", "552 5.3.4 A letter of that size is too long for this demo."),
        ("MAIL FROM:<a@b> SIZE=18446744073709551616", "555 5.5.4 That parameter is not known here."),
        ("MAIL FROM:<a@b> SMTPUTF8", "555 5.5.4 That parameter is not known here."),
        ("MAIL FROM:<>", "250 2.1.0 Fine."),
        ("MAIL FROM:<>", "503 5.5.1 There is a sender already."),
        ("RCPT TO:<>", "501 5.1.3 Somebody must get it."),
        ("RCPT TO:<a@b> NOTIFY=NEVER", "555 5.5.4 That parameter is not known here."),
        ("RCPT TO:<a@b>", "250 2.1.5 Fine."),
        ("RSET", "250 2.0.0 Forgotten."),
        ("DATA", "503 5.5.1 Say MAIL and RCPT first."),
        ("noop x", "250 2.0.0 Nothing new."),
        ("VRFY x", "252 2.5.2 Send it, and see."),
        ("AUTH PLAIN", "503 5.5.1 You are signed in already."),
        ("EHLO", "501 5.5.4 Say your name with that."),
        ("HELO x", "250 west"),
        ("QUIT now", "501 5.5.4 Nothing stands behind that command."),
        ("BDAT 3", "500 5.5.1 This little demo server does not know that command."),
    ] {
        assert_eq!(talk(&mut mailbox, format!("{said}\r\n").as_bytes()), (format!("{expected}\r\n"), false), "{said}");
    }
}

/// Everything up to the letter.
const ENVELOPE: &[u8] = b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n";

fn taken(letter: &[u8]) -> (String, usize) {
    let (answer, took, _) = all_turns(&mut fresh(), &mut BytesMut::from(&[ENVELOPE, letter].concat()[..]));
    (answer.lines().skip(3).collect::<Vec<_>>().join("\n"), took.len())
}

#[test]
fn only_a_dot_between_crlfs_ends_a_letter() {
    for inside in ["\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\n.\n", "\r\n.\r.\r\n"] {
        let letter = format!("a{inside}MAIL FROM:<evil@b>\r\n.\r\nNOOP\r\n");
        let expected = "550 5.6.0 A letter holds no bare CR or LF.\n250 2.0.0 Nothing new.";
        assert_eq!(taken(letter.as_bytes()), (expected.to_owned(), 0), "{inside:?}");
    }
}

#[test]
fn what_is_too_much_is_not_kept() {
    let line = [&[b'x'; 998][..], b"\r\n"].concat();
    let fits = line.repeat(LETTER_MAX / 1000);
    assert_eq!(taken(&[&fits[..], b".\r\n"].concat()).1, 1);
    let mut mailbox = fresh();
    talk(&mut mailbox, &[ENVELOPE, &fits, &line, &fits].concat());
    assert_eq!(mailbox.letter.as_ref().map(|letter| letter.octets.capacity()), Some(0));
    assert_eq!(talk(&mut mailbox, b".\r\n").0, "552 5.3.4 A letter has at most 262144 octets here.\r\n");

    let many = b"MAIL FROM:<a@b>\r\n".iter().copied().chain(b"RCPT TO:<a@b>\r\n".repeat(RECIPIENTS_MAX + 1));
    let answer = talk(&mut fresh(), &many.collect::<Vec<_>>()).0;
    assert!(answer.ends_with("452 4.5.3 Those are all the recipients of one letter.\r\n"), "{answer}");
    for said in [&[b'x'; LINE_MAX + 1][..], &[ENVELOPE, &[b'x'; LINE_MAX + 1]].concat()] {
        let (answer, over) = talk(&mut fresh(), said);
        assert!(answer.ends_with("500 5.5.2 That line is too long.\r\n") && over, "{answer}");
    }
    for said in [&b"x\r\n"[..], b"NOOP\nNOOP\r\n", b"\xff\r\n"] {
        let (answer, over) = talk(&mut fresh(), &said.repeat(50));
        assert!(answer.ends_with("\r\n421 4.7.0 Too many bad commands.\r\n") && over, "{answer}");
        assert_eq!(answer.lines().count(), usize::try_from(BAD_MAX).unwrap());
    }
}

proptest! {
    #[test]
    fn pieces_do_not_matter_and_nothing_panics(
        said in proptest::collection::vec("(MAIL FROM:<a>|RCPT TO:<b>|DATA|RSET|NOOP|\\.{0,2})[ x]{0,2}\r\n|[\r\n.]{1,4}|[\0-\u{ff}]{0,9}", 0..12),
        cuts in proptest::collection::vec(1usize..9, 1..9),
    ) {
        let said = said.concat().into_bytes();
        let whole = all_turns(&mut fresh(), &mut BytesMut::from(&said[..]));
        let (mut mailbox, mut input, mut seen) = (fresh(), BytesMut::new(), (String::new(), Vec::new(), false));
        let (mut rest, mut cut) = (said.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() && !seen.2 {
            let (piece, behind) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            input.extend_from_slice(piece);
            rest = behind;
            let (answer, took, over) = all_turns(&mut mailbox, &mut input);
            seen.0.push_str(&answer);
            seen.1.extend(took);
            seen.2 = over;
        }
        prop_assert_eq!(seen, whole);
    }
}
