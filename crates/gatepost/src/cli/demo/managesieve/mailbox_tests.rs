use super::super::super::speech::{all_answers, all_turns};
use super::super::shelf::SCRIPTS_MAX;
use super::*;
use proptest::prelude::*;

fn fresh() -> Mailbox {
    Mailbox::new("west", Arc::default())
}

fn talk(mailbox: &mut Mailbox, said: &[u8]) -> (String, bool) {
    all_answers(mailbox, &mut BytesMut::from(said))
}

#[test]
fn scripts_are_stored_listed_and_given_back() {
    let mut mailbox = fresh();
    for (said, expected) in [
        ("LISTSCRIPTS", "OK \"That is all.\"\r\n"),
        ("HAVESPACE \"a\" 100", "OK \"There is room for it.\"\r\n"),
        ("HAVESPACE \"a\" 16385", "NO (QUOTA/MAXSIZE) \"A script has at most 16384 octets here.\"\r\n"),
        ("HAVESPACE \"a\" 4294967296", "NO \"A number was expected.\"\r\n"),
        ("HAVESPACE \"a\"", "NO \"A number was expected.\"\r\n"),
        ("CHECKSCRIPT \"keep\"", "NO \"The last command does not end in a semicolon.\"\r\n"),
        ("checkscript {5+}\r\nkeep;", "OK \"It has the form of a script.\"\r\n"),
        ("PUTSCRIPT \"a\" \"keep\"", "NO \"The last command does not end in a semicolon.\"\r\n"),
        ("PUTSCRIPT \"a\" {7+}\r\nkeep;\r\n", "OK \"Stored until the demo ends.\"\r\n"),
        ("PUTSCRIPT {3+}\r\nb\"c \"stop;\"", "OK \"Stored until the demo ends.\"\r\n"),
        ("PUTSCRIPT \"\" \"keep;\"", "NO \"That cannot be the name of a script.\"\r\n"),
        ("PUTSCRIPT \"x\"", "NO \"Something is missing behind that command.\"\r\n"),
        ("SETACTIVE \"a\"", "OK \"So be it.\"\r\n"),
        ("LISTSCRIPTS", "\"a\" ACTIVE\r\n\"b\\\"c\"\r\nOK \"That is all.\"\r\n"),
        ("GETSCRIPT \"a\"", "{7}\r\nkeep;\r\n\r\nOK \"That is all.\"\r\n"),
        ("GETSCRIPT \"z\"", "NO (NONEXISTENT) \"There is no script of that name.\"\r\n"),
        ("DELETESCRIPT \"a\"", "NO (ACTIVE) \"That script is the active one.\"\r\n"),
        ("RENAMESCRIPT \"a\" \"c\"", "OK \"So be it.\"\r\n"),
        ("SETACTIVE \"\"", "OK \"So be it.\"\r\n"),
        ("DELETESCRIPT \"c\"", "OK \"It is gone.\"\r\n"),
        ("LISTSCRIPTS", "\"b\\\"c\"\r\nOK \"That is all.\"\r\n"),
        ("NOOP \"x\"", "OK \"Nothing new.\"\r\n"),
        ("AUTHENTICATE \"PLAIN\"", "NO \"You are signed in already.\"\r\n"),
        ("UNAUTHENTICATE", "NO \"This little demo server does not know that command.\"\r\n"),
        ("LISTSCRIPTS now", "NO \"Too many arguments.\"\r\n"),
    ] {
        assert_eq!(talk(&mut mailbox, format!("{said}\r\n").as_bytes()), (expected.to_owned(), false), "{said}");
    }
    assert!(talk(&mut mailbox, b"CAPABILITY\r\n").0.contains("\r\n\"SIEVE\" \"fileinto reject vacation\"\r\n"));
    assert_eq!(talk(&mut mailbox, b"LOGOUT\r\nNOOP\r\n"), ("OK \"Goodbye from west.\"\r\n".to_owned(), true));
}

#[test]
fn it_tells_what_it_took() {
    let mut said =
        BytesMut::from(&b"PUTSCRIPT \"a\" \"keep;\"\r\nPUTSCRIPT \"b\" \"x\"\r\nSETACTIVE \"a\"\r\nSETACTIVE \"\"\r\n"[..]);
    let (_, took, _) = all_turns(&mut fresh(), &mut said);
    let script = Took::Script { name: "a".into(), octets: 5 };
    assert_eq!(took, [script, Took::Active(Some("a".into())), Took::Active(None)]);
}

#[test]
fn clients_of_one_mailbox_see_the_same_scripts() {
    let shelf: Arc<Mutex<Shelf>> = Arc::default();
    let (mut one, mut other) = (Mailbox::new("west", Arc::clone(&shelf)), Mailbox::new("west", shelf));
    talk(&mut one, b"PUTSCRIPT \"a\" \"keep;\"\r\n");
    assert!(talk(&mut other, b"LISTSCRIPTS\r\n").0.starts_with("\"a\"\r\n"));
}

#[test]
fn what_is_too_much_ends_it() {
    for (said, expected) in [
        (format!("PUTSCRIPT \"a\" {{{}+}}\r\n", CAPS.literal + 1).into_bytes(), "BYE \"That literal is too long.\"\r\n"),
        (b"PUTSCRIPT \"a\" {x+}\r\n".to_vec(), "BYE \"That is no literal.\"\r\n"),
        (vec![b'x'; 20_000], "BYE \"That line is too long.\"\r\n"),
        (b"GETSCRIPT \"".iter().copied().chain([b'x'; 1100]).chain(*b"\"\r\n").collect(), "BYE \"That line is too long.\"\r\n"),
    ] {
        assert_eq!(talk(&mut fresh(), &said), (expected.to_owned(), true));
    }
    let (answer, over) = talk(&mut fresh(), &b"x\ny\r\n".repeat(50));
    assert_eq!((answer.matches("NO \"A line ends in CR LF.\"").count(), over), (CAPS.bad_commands - 1, true));
    let mut full = fresh();
    let (answer, over) =
        talk(&mut full, &(0..=SCRIPTS_MAX).flat_map(|n| format!("PUTSCRIPT \"{n}\" \"\"\r\n").into_bytes()).collect::<Vec<_>>());
    assert!(answer.ends_with("NO (QUOTA/MAXSCRIPTS) \"There is room for 16 scripts here.\"\r\n") && !over, "{answer}");
}

proptest! {
    #[test]
    fn pieces_do_not_matter_and_nothing_panics(
        said in proptest::collection::vec("(PUTSCRIPT|GETSCRIPT|SETACTIVE|HAVESPACE|LISTSCRIPTS)?( \"[ab]?\"| \\{1\\+\\}\r\na| 7| \"keep;\")*\r\n|[\0-\u{ff}]{0,9}", 0..8),
        cuts in proptest::collection::vec(1usize..9, 1..9),
    ) {
        let said = said.concat().into_bytes();
        let whole = talk(&mut fresh(), &said);
        let (mut mailbox, mut input, mut answer, mut over) = (fresh(), BytesMut::new(), String::new(), false);
        let (mut rest, mut cut) = (said.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() && !over {
            let (piece, behind) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
            input.extend_from_slice(piece);
            rest = behind;
            let (more, ended) = all_answers(&mut mailbox, &mut input);
            answer.push_str(&more);
            over = ended;
        }
        prop_assert_eq!((answer, over), whole);
    }
}
