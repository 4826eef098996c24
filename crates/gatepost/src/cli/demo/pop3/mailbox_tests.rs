use super::super::super::letters;
use super::super::super::speech::{Speech, all_answers};
use super::super::Pop3;
use super::*;
use proptest::prelude::*;

fn fresh() -> Mailbox {
    Mailbox::new("west", letters::of_west().into())
}

fn talk(mailbox: &mut Mailbox, said: &[u8]) -> (String, bool) {
    all_answers(mailbox, &mut BytesMut::from(said))
}

fn answer(said: &str) -> String {
    talk(&mut fresh(), format!("{said}\r\n").as_bytes()).0
}

#[test]
fn commands_are_answered() {
    let sizes: Vec<usize> = letters::of_west().iter().map(|letter| letter.octets().len()).collect();
    let [one, two, three] = sizes[..] else { panic!("three letters") };
    let sum = one + two + three;
    for (said, expected) in [
        ("STAT", format!("+OK 3 {sum}\r\n")),
        ("stat", format!("+OK 3 {sum}\r\n")),
        ("RSET", format!("+OK 3 {sum}\r\n")),
        ("LIST", format!("+OK\r\n1 {one}\r\n2 {two}\r\n3 {three}\r\n.\r\n")),
        ("LIST 2", format!("+OK 2 {two}\r\n")),
        ("UIDL", "+OK\r\n1 20260601.1\r\n2 20260601.2\r\n3 20260601.3\r\n.\r\n".to_owned()),
        ("UIDL 3", "+OK 3 20260601.3\r\n".to_owned()),
        ("NOOP", "+OK\r\n".to_owned()),
        ("DELE 1", "-ERR [SYS/PERM] In this demo nothing can be changed.\r\n".to_owned()),
        ("CAPA", "+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\n.\r\n".to_owned()),
        ("QUIT", "+OK Goodbye from west.\r\n".to_owned()),
    ] {
        assert_eq!(answer(said), expected, "{said}");
    }
    assert!(talk(&mut fresh(), b"QUIT\r\n").1, "QUIT ends it");
    assert!(!talk(&mut fresh(), b"DELE 1\r\nDELE 1\r\n").1);
}

#[test]
fn a_letter_comes_whole_with_its_dots() {
    let letters = letters::of_west();
    let letter = &letters[0];
    let answer_to_retr = answer("RETR 1");
    assert!(answer_to_retr.contains("\r\n..\r\n"), "its line of one dot is doubled: {answer_to_retr}");
    assert!(answer_to_retr.starts_with(&format!("+OK {} octets\r\n", letter.octets().len())));
    let read = Pop3.answer("", "RETR 1", answer_to_retr.as_bytes()).unwrap().unwrap();
    assert_eq!((read.octets, read.content.as_deref()), (answer_to_retr.len(), Some(letter.octets())));

    let header = std::str::from_utf8(letter.header()).unwrap();
    assert_eq!(answer("TOP 1 0"), format!("+OK\r\n{header}.\r\n"));
    assert_eq!(answer("TOP 1 1"), format!("+OK\r\n{header}Hello Bob,\r\n.\r\n"));
    let behind_status = |answer: String| answer.split_once("\r\n").map(|(_, rest)| rest.to_owned());
    assert_eq!(behind_status(answer("TOP 1 4294967295")), behind_status(answer_to_retr));
}

#[test]
fn what_is_wrong_is_an_error() {
    for said in [
        "",
        " ",
        "X",
        "STAT 1",
        "LIST 0",
        "LIST 4",
        "LIST 1 2",
        "LIST ",
        "LIST x",
        "LIST +1",
        "LIST 99999999999",
        "RETR",
        "RETR 1 ",
        "RETR 4",
        "RETR -1",
        "TOP 1",
        "TOP 1 x",
        "TOP 4 1",
        "TOP 1 1 1",
        "DELE",
        "DELE 4",
        "UIDL 4",
        "NOOP x",
        "QUIT now",
        "USER x",
        "STLS",
        " STAT",
        "CAPA x",
    ] {
        let (answer, over) = talk(&mut fresh(), format!("{said}\r\n").as_bytes());
        assert!(
            answer.starts_with("-ERR ") && answer.ends_with(".\r\n") && answer.lines().count() == 1 && !over,
            "{said}: {answer}"
        );
    }
}

#[test]
fn a_client_that_talks_nonsense_is_left() {
    let (said, over) = talk(&mut fresh(), &b"x\r\n".repeat(1000));
    assert_eq!((said.matches("-ERR ").count(), over), (20, true));
    assert!(said.ends_with("-ERR Too many bad commands.\r\n"), "{said}");
    let bare = talk(&mut fresh(), &b"x\n".repeat(10_000));
    assert_eq!((bare.0.as_str(), bare.1), ("-ERR A line ends in CR LF.\r\n-ERR That line is too long.\r\n", true));
    assert_eq!(talk(&mut fresh(), &[b'x'; 100_000]), ("-ERR That line is too long.\r\n".to_owned(), true));
    let (said, over) = talk(&mut fresh(), b"NOOP\nNOOP\rNOOP\r\nNOOP\r\n");
    assert_eq!((said.as_str(), over), ("-ERR A line ends in CR LF.\r\n+OK\r\n", false));
}

proptest! {
    #[test]
    fn any_octets_are_survived_however_they_arrive(octets in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300usize) {
        let whole = talk(&mut fresh(), &octets);
        let (mut mailbox, cut) = (fresh(), cut.min(octets.len()));
        let mut input = BytesMut::from(&octets[..cut]);
        let (mut said, mut over) = all_answers(&mut mailbox, &mut input);
        if !over {
            input.extend_from_slice(&octets[cut..]);
            let rest = all_answers(&mut mailbox, &mut input);
            said.push_str(&rest.0);
            over = rest.1;
        }
        prop_assert_eq!((said, over), whole);
    }

    #[test]
    fn any_command_gets_one_status(name in "STAT|LIST|UIDL|RETR|TOP|DELE|X", rest in "( [0-9a-z+-]{0,12}){0,4}") {
        let (said, over) = talk(&mut fresh(), format!("{name}{rest}\r\n").as_bytes());
        prop_assert!(!over);
        let answer = Pop3.answer("", &format!("{name}{rest}"), said.as_bytes());
        prop_assert!(answer.is_ok_and(|answer| answer.is_some_and(|answer| answer.octets == said.len())), "{}", said);
    }
}
