use super::super::super::letters;
use super::super::super::speech::all_answers;
use super::*;
use proptest::prelude::*;

fn fresh() -> Mailbox {
    Mailbox::new("east", letters::of_east().into())
}

/// Feeds what a client says, as a driver does; the answer, and whether the conversation is over.
fn talk(mailbox: &mut Mailbox, said: &[u8]) -> (String, bool) {
    all_answers(mailbox, &mut BytesMut::from(said))
}

fn answer(said: &str) -> String {
    let mut mailbox = fresh();
    assert!(talk(&mut mailbox, b"s SELECT INBOX\r\n").0.ends_with("s OK [READ-ONLY] Here it is.\r\n"));
    talk(&mut mailbox, format!("a {said}\r\n").as_bytes()).0
}

#[test]
fn commands_are_answered() {
    for (said, expected) in [
        ("NOOP", "a OK Nothing new.\r\n"),
        ("capability", "* CAPABILITY IMAP4rev1 LITERAL+ ID IDLE UNSELECT\r\na OK That is all.\r\n"),
        ("LIST \"\" *", "* LIST (\\HasNoChildren) \"/\" INBOX\r\na OK That is all.\r\n"),
        ("LSUB \"\" \"%\"", "* LSUB (\\HasNoChildren) \"/\" INBOX\r\na OK That is all.\r\n"),
        ("LIST \"\" \"\"", "* LIST (\\Noselect) \"/\" \"\"\r\na OK That is all.\r\n"),
        ("LIST Archive *", "a OK That is all.\r\n"),
        ("STATUS inbox (MESSAGES UIDNEXT MESSAGES)", "* STATUS INBOX (MESSAGES 3 UIDNEXT 4)\r\na OK That is all.\r\n"),
        ("STATUS Other (MESSAGES)", "a NO [NONEXISTENT] There is only INBOX here.\r\n"),
        ("FETCH 2 FLAGS", "* 2 FETCH (FLAGS ())\r\na OK That is all.\r\n"),
        ("FETCH *:2,3 (UID)", "* 2 FETCH (UID 2)\r\n* 3 FETCH (UID 3)\r\na OK That is all.\r\n"),
        ("UID FETCH 2:9 FLAGS", "* 2 FETCH (UID 2 FLAGS ())\r\n* 3 FETCH (UID 3 FLAGS ())\r\na OK That is all.\r\n"),
        ("UID FETCH 9 (FLAGS)", "a OK That is all.\r\n"),
        ("SEARCH ALL", "* SEARCH 1 2 3\r\na OK That is all.\r\n"),
        ("SEARCH CHARSET UTF-8 UNSEEN 2:*", "* SEARCH 2 3\r\na OK That is all.\r\n"),
        ("UID SEARCH UID 2:7", "* SEARCH 2 3\r\na OK That is all.\r\n"),
        ("SEARCH SEEN", "* SEARCH\r\na OK That is all.\r\n"),
        ("CHECK", "a OK All is well.\r\n"),
        ("UNSELECT", "a OK Closed.\r\n"),
        ("STORE 1 +FLAGS (\\Deleted)", "a NO [CANNOT] In this demo nothing can be changed.\r\n"),
        ("CREATE x", "a NO [CANNOT] In this demo nothing can be changed.\r\n"),
        ("LOGOUT", "* BYE Goodbye from east.\r\na OK That was all.\r\n"),
    ] {
        assert_eq!(answer(said), expected, "{said}");
    }
}

#[test]
fn what_is_wrong_is_bad_and_changes_nothing() {
    for said in [
        "",
        "X",
        "NOOP x",
        "FETCH",
        "FETCH 1",
        "FETCH 0 FLAGS",
        "FETCH 4 FLAGS",
        "FETCH 1: FLAGS",
        "FETCH 1:2:3 FLAGS",
        "FETCH 1,,2 FLAGS",
        "FETCH 99999999999 FLAGS",
        "FETCH a FLAGS",
        "UID FETCH 0 FLAGS",
        "UID NOOP",
        "UID",
        "SEARCH",
        "SEARCH SUBJECT x",
        "SEARCH ALL ",
        "STATUS INBOX",
        "STATUS INBOX ()",
        "STATUS INBOX (X)",
        "LIST",
        "LIST \"\"",
        "LIST \"\" * x",
        "SELECT",
        "CLOSE x",
        "LOGIN a b",
        "STARTTLS",
        "FETCH 1 (FLAGS) x",
    ] {
        let answer = answer(said);
        assert!(answer.starts_with("a BAD ") && answer.ends_with(".\r\n"), "{said}: {answer}");
    }
}

#[test]
fn a_mailbox_must_be_selected_first() {
    let mut mailbox = fresh();
    for said in ["FETCH 1 FLAGS", "UID FETCH 1 FLAGS", "SEARCH ALL", "CHECK", "CLOSE", "STORE 1 FLAGS ()"] {
        assert_eq!(talk(&mut mailbox, format!("a {said}\r\n").as_bytes()).0, "a BAD No mailbox is selected.\r\n", "{said}");
    }
    assert_eq!(talk(&mut mailbox, b"a SELECT Junk\r\n").0, "a NO [NONEXISTENT] There is only INBOX here.\r\n");
}

#[test]
fn a_letter_comes_whole() {
    let letter = &letters::of_east()[1];
    let expected = format!(
        "* 2 FETCH (UID 2 BODY[] {{{}}}\r\n{})\r\na OK That is all.\r\n",
        letter.octets().len(),
        std::str::from_utf8(letter.octets()).unwrap()
    );
    assert_eq!(answer("UID FETCH 2 BODY.PEEK[]"), expected);
}

#[test]
fn idle_waits_for_done() {
    let mut mailbox = fresh();
    assert_eq!(talk(&mut mailbox, b"a IDLE\r\n").0, "+ Waiting; nothing ever arrives in this demo. Say DONE.\r\n");
    let mut input = BytesMut::from(&b"do"[..]);
    assert_eq!(all_answers(&mut mailbox, &mut input).0, "");
    input.extend_from_slice(b"ne\r\nb NOOP\r\n");
    assert_eq!(all_answers(&mut mailbox, &mut input).0, "a OK No longer idle.\r\nb OK Nothing new.\r\n");
    talk(&mut mailbox, b"c IDLE\r\n");
    assert_eq!(talk(&mut mailbox, b"d NOOP\r\n").0, "c BAD DONE was expected.\r\n");
}

#[test]
fn literals_are_taken_under_caps() {
    let mut mailbox = fresh();
    let (said, over) = talk(&mut mailbox, b"a SELECT {5}\r\nINBOX\r\nb SELECT {5+}\r\nINBOX\r\n");
    assert!(said.starts_with("+ Go on.\r\n* FLAGS ") && said.ends_with("b OK [READ-ONLY] Here it is.\r\n") && !over, "{said}");
    assert_eq!(talk(&mut mailbox, b"a APPEND INBOX {999999}\r\n"), ("a BAD That literal is too big.\r\n".into(), false));
    assert_eq!(talk(&mut mailbox, b"a APPEND INBOX {999999+}\r\n"), ("* BYE That literal cannot be taken.\r\n".into(), true));
}

#[test]
fn a_client_that_talks_nonsense_is_left() {
    let mut mailbox = fresh();
    let (said, over) = talk(&mut mailbox, &b"x\r\n".repeat(1000));
    assert!(over);
    assert_eq!(said.matches(" BAD ").count(), CAPS.bad_commands);
    assert!(said.ends_with("* BYE Too many bad commands.\r\n"), "{said}");
    let (said, over) = talk(&mut fresh(), &[b'x'; 100_000]);
    assert_eq!((said.as_str(), over), ("* BYE That line is too long.\r\n", true));
    let (said, over) = talk(&mut fresh(), b"a NOOP\nb NOOP\r\nc NOOP\r\n");
    assert_eq!((said.as_str(), over), ("* BAD A line ends in CR LF.\r\nc OK Nothing new.\r\n", false));
}

#[test]
fn an_answer_is_bounded() {
    let ranges = "1:*,".repeat(1500) + "1:*";
    let items: Vec<String> = (1..=16).map(|n| format!("BODY[]<0.{}>", 100_000 + n)).collect();
    let answer = answer(&format!("FETCH {ranges} ({})", items.join(" ")));
    let whole: usize = letters::of_east().iter().map(|letter| letter.octets().len() + 40).sum();
    assert!(answer.ends_with("a OK That is all.\r\n") && answer.len() < whole * 17, "{}", answer.len());
}

#[test]
fn a_pattern_means_inbox_or_not() {
    for (pattern, expected) in [
        ("INBOX", true),
        ("inbox", true),
        ("*", true),
        ("%", true),
        ("IN%", true),
        ("*X", true),
        ("I*N*B*O*X", true),
        ("%%%%%%%%%%", true),
        ("INBOX*", true),
        ("", false),
        ("INBO", false),
        ("INBOXX", false),
        ("INBOX/%", false),
        ("*Y*", false),
    ] {
        assert_eq!(matches_inbox(pattern.as_bytes()), expected, "{pattern}");
    }
    assert!(matches_inbox(&[b'*'; 12_000]));
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        talk(&mut fresh(), &octets);
    }

    #[test]
    fn any_command_gets_one_tagged_answer(
        name in "(UID )?(FETCH|SEARCH|STATUS|LIST|SELECT|ID|IDLE|X)",
        rest in r#"( ?[0-9:*,()\[\]<>."%A-Z]{0,12}){0,6}"#,
    ) {
        let mut mailbox = fresh();
        talk(&mut mailbox, b"s SELECT INBOX\r\n");
        let (said, over) = talk(&mut mailbox, format!("tag1 {name}{rest}\r\n").as_bytes());
        prop_assert!(!over);
        let answers = said.split("\r\n").filter(|line| line.starts_with("tag1 ") || line.starts_with("+ ")).count();
        prop_assert_eq!(answers, 1, "{}", said);
    }
}
