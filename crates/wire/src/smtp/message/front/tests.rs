//! What the server side of LMTP answers and reports: tables of dialogues, and what is true of it whatever it hears.

use super::*;
use crate::login::played;
use proptest::prelude::*;

fn terms(trusted: bool) -> Terms {
    Terms { starttls: true, trusted, password_allowed: false, ..played::terms() }
}

/// What came of a conversation.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Codes of replies, and events in brackets, in the order in which they came. Pieces of a letter are one with its end.
    heard: Vec<String>,
    /// The replies as they are.
    out: String,
}

/// Drives a front as a session does: recipients whose names begin with `no` are refused, and letters with this word in them.
struct Player {
    front: Front,
    seen: Seen,
    input: BytesMut,
    letter: Vec<u8>,
    taken: Vec<String>,
    fails_at: Option<&'static str>,
    over: bool,
    most_held: usize,
}

impl Player {
    fn new(trusted: bool, caps: Caps) -> Player {
        let mut player = Player {
            front: Front::new(terms(trusted), caps),
            seen: Seen::default(),
            input: BytesMut::new(),
            letter: Vec::new(),
            taken: Vec::new(),
            fails_at: None,
            over: false,
            most_held: 0,
        };
        let mut out = BytesMut::new();
        player.front.greet(&mut out);
        player.hear(&mut out);
        player
    }

    /// One that has said LHLO, and of which nothing was heard since.
    fn ready(trusted: bool, caps: Caps) -> Player {
        let mut player = Player::new(trusted, caps);
        player.say(b"LHLO peer.test\r\n");
        player.seen = Seen::default();
        player
    }

    /// One write of the client.
    fn say(&mut self, octets: &[u8]) {
        if self.over {
            return;
        }
        self.input.extend_from_slice(octets);
        let mut out = BytesMut::new();
        loop {
            let step = self.front.step(&mut self.input, &mut out);
            self.hear(&mut out);
            match step {
                Ok(Step::NeedInput) => break,
                Ok(Step::Event(event)) => self.obey(event, &mut out),
                Err(fault) => {
                    self.note(format!("fault {}", fault.rule));
                    self.over = true;
                }
            }
            self.hear(&mut out);
            if self.over {
                return;
            }
        }
        assert!(self.front.owed.is_empty(), "an answer is owed");
        assert!(self.input.len() <= self.front.longest() + 2, "{} octets are held", self.input.len());
        self.most_held = self.most_held.max(self.input.len());
    }

    fn obey(&mut self, event: Event, out: &mut BytesMut) {
        let verdict_on = |mailbox: Option<&crate::address::Mailbox>| match mailbox {
            Some(mailbox) if mailbox.local().starts_with("no") => Verdict::new(550, (1, 1), "Nobody."),
            Some(mailbox) if mailbox.local().starts_with("later") => Verdict::new(451, (3, 0), "Not now."),
            _ => Verdict::new(250, (1, 5), "OK"),
        };
        match event {
            Event::Mail(mail) => {
                self.note(format!("mail {}{}", mail.path(), if mail.forwarded.is_empty() { "" } else { " forwarded" }));
                self.front.mail(&verdict_on(mail.from.as_ref()), out);
            }
            Event::Recipients(rcpts) => {
                for rcpt in rcpts {
                    self.note(format!("rcpt {}", rcpt.to));
                    let verdict = verdict_on(Some(&rcpt.to));
                    if verdict.is_yes() {
                        self.taken.push(rcpt.to.to_string());
                    }
                    self.front.recipient(&verdict, out);
                    self.hear(out);
                }
            }
            Event::Letter => {
                self.note("letter".to_owned());
                self.front.go_on(out);
            }
            Event::Piece(piece) => {
                assert!(!piece.is_empty() && piece.len() <= 2 * PIECE_MAX + 2, "a piece of {} octets", piece.len());
                self.letter.extend_from_slice(&piece);
                if self.fails_at.is_some_and(|word| String::from_utf8_lossy(&self.letter).contains(word)) {
                    self.front.fail(Verdict::new(554, (4, 6), "It goes round."));
                }
            }
            Event::End => {
                let letter = std::mem::take(&mut self.letter);
                self.note(format!("letter {}", letter.escape_ascii()));
                for to in self.taken.drain(..) {
                    self.front.delivered(&Verdict::new(250, (0, 0), format!("<{to}>")), out);
                }
            }
            Event::Refused(verdict) => self.forget(format!("refused {}", verdict.code())),
            Event::Reset => self.forget("reset".to_owned()),
            Event::Said(said) => {
                let known = said.client_ip.map(|ip| ip.to_string());
                self.forget(format!("said {}", known.unwrap_or_default()));
            }
            Event::Secure => {
                self.forget("secure".to_owned());
                self.front.secured(Terms { starttls: false, ..self.front.terms.clone() });
            }
            Event::Bye => {
                self.note("bye".to_owned());
                self.over = true;
            }
        }
    }

    fn forget(&mut self, what: String) {
        self.letter.clear();
        self.taken.clear();
        self.note(what);
    }

    fn note(&mut self, what: String) {
        self.seen.heard.push(format!("[{what}]"));
    }

    /// Notes the code of each reply, with its enhanced one where it has that.
    fn hear(&mut self, out: &mut BytesMut) {
        let text = String::from_utf8(out.split().to_vec()).expect("UTF-8");
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        for line in text.split_terminator("\r\n") {
            assert!(!line.contains(char::is_control) && line.len() <= 512, "{line:?}");
            let mut words = line.splitn(3, ' ');
            let (code, next) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if code.len() == 3 {
                let enhanced = next.len() >= 5 && next.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
                self.seen.heard.push(if enhanced { format!("{code} {next}") } else { code.to_owned() });
            }
        }
        self.seen.out.push_str(&text);
    }
}

/// What is heard of a client that says these lines, a write each, behind LHLO. What begins with `=` is said without a line end.
fn heard(trusted: bool, caps: Caps, lines: &[&str]) -> Vec<String> {
    let mut player = Player::ready(trusted, caps);
    player.fails_at = Some("FAIL");
    for line in lines {
        match line.strip_prefix('=') {
            Some(raw) => player.say(raw.as_bytes()),
            None => player.say(format!("{line}\r\n").as_bytes()),
        }
    }
    player.seen.heard
}

#[track_caller]
fn check(trusted: bool, caps: Caps, rows: &[(&[&str], &[&str])]) {
    let wrong: Vec<String> = rows
        .iter()
        .map(|(said, expected)| (said, expected, heard(trusted, caps, said)))
        .filter(|(_, expected, heard)| heard != *expected)
        .map(|(said, expected, heard)| format!("said {said:?}\n  expected {expected:?}\n  heard    {heard:?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const MAIL: &str = "MAIL FROM:<s@out.test>";
const A: &str = "RCPT TO:<a@in.test>";
const B: &str = "RCPT TO:<b@in.test>";
const NO: &str = "RCPT TO:<no@in.test>";
const MAILED: &str = "[mail s@out.test]";
const GOT_A: &str = "[rcpt a@in.test]";
const OK: &str = "250 2.1.5";

#[test]
fn orders_are_kept() {
    let refused: Vec<(&[&str], &[&str])> = vec![
        (&[A], &["503 5.5.1"]),
        (&["DATA"], &["503 5.5.1"]),
        (&["=BDAT 6\r\nNOOP\r\n"], &["503 5.5.1"]),
        (&["=BDAT 0 LAST\r\n"], &["503 5.5.1"]),
        (&[MAIL, MAIL], &[MAILED, OK, "503 5.5.1"]),
        (&[MAIL, "DATA"], &[MAILED, OK, "503 5.5.1"]),
        (&[MAIL, "=BDAT 6 LAST\r\nQUIT\r\n"], &[MAILED, OK, "503 5.5.1"]),
        (&[MAIL, NO, "DATA"], &[MAILED, OK, "[rcpt no@in.test]", "550 5.1.1", "503 5.5.1"]),
        (&["MAIL FROM:<no@out.test>", A], &["[mail no@out.test]", "550 5.1.1", "503 5.5.1"]),
        (&[MAIL, "RSET", A], &[MAILED, OK, "250 2.0.0", "[reset]", "503 5.5.1"]),
        (&[MAIL, "LHLO again.test", A], &[MAILED, OK, "250", "[reset]", "503 5.5.1"]),
        (&["EHLO x", "HELO x"], &["500 5.5.1", "500 5.5.1"]),
        (&["LHLO", "DATA x", "RSET x", "QUIT x"], &["501 5.5.4", "501 5.5.4", "501 5.5.4", "501 5.5.4"]),
        (&["NOOP (", "VRFY x", "HELP", "EXPN x", ""], &["250 2.0.0", "252 2.5.0", "214 2.0.0", "500 5.5.1", "500 5.5.1"]),
        (&["NO\u{7}OP", "=NO\nOP\r\nNOOP\r\n"], &["500 5.5.2", "500 5.5.2", "250 2.0.0"]),
        (&["QUIT", "NOOP"], &["221 2.0.0", "[bye]"]),
        (&["=LHLO x\r\nNOOP\r\n"], &["554 5.5.0", "[fault pipelining]"]),
        (&[MAIL, A, "=DATA\r\nSubject"], &[MAILED, OK, GOT_A, OK, "554 5.5.0", "[fault pipelining]"]),
    ];
    check(false, Caps::default(), &refused);
    let mut player = Player::new(false, Caps::default());
    player.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n");
    assert_eq!(player.seen.heard, ["220", "503 5.5.1", "503 5.5.1", "503 5.5.1"], "nobody was greeted");
}

#[test]
fn letters_are_answered_for_each_recipient_that_was_taken() {
    check(
        false,
        Caps::default(),
        &[
            (
                &[MAIL, A, NO, B, "DATA", "Subject: x", "", "..dot", ".", "RSET"],
                &[
                    MAILED,
                    OK,
                    GOT_A,
                    OK,
                    "[rcpt no@in.test]",
                    "550 5.1.1",
                    "[rcpt b@in.test]",
                    OK,
                    "[letter]",
                    "354",
                    "[letter Subject: x\\r\\n\\r\\n.dot\\r\\n]",
                    "250 2.0.0",
                    "250 2.0.0",
                    "250 2.0.0",
                ],
            ),
            (
                &[MAIL, A, "=BDAT 3\r\na\r\n", "=BDAT 2\r\n.\r", "=BDAT 3 last\r\n\nb\n", "NOOP"],
                &[
                    MAILED,
                    OK,
                    GOT_A,
                    OK,
                    "[letter]",
                    "250 2.0.0",
                    "250 2.0.0",
                    "[letter a\\r\\n.\\r\\nb\\r\\n]",
                    "250 2.0.0",
                    "250 2.0.0",
                ],
            ),
            (&[MAIL, A, "=BDAT 0 LAST\r\n"], &[MAILED, OK, GOT_A, OK, "[letter]", "[letter ]", "250 2.0.0"]),
            // One behind the other, all at once.
            (
                &[MAIL, A, "=BDAT 1 LAST\r\nxMAIL FROM:<>\r\nRCPT TO:<b@in.test>\r\nBDAT 1 LAST\r\nyQUIT\r\n"],
                &[
                    MAILED,
                    OK,
                    GOT_A,
                    OK,
                    "[letter]",
                    "[letter x\\r\\n]",
                    "250 2.0.0",
                    "[mail ]",
                    OK,
                    "[rcpt b@in.test]",
                    OK,
                    "[letter]",
                    "[letter y\\r\\n]",
                    "250 2.0.0",
                    "221 2.0.0",
                    "[bye]",
                ],
            ),
        ],
    );
}

#[test]
fn chunks_and_data_do_not_mix_and_octets_of_chunks_are_no_commands() {
    let begun = [MAILED, OK, GOT_A, OK, "[letter]", "250 2.0.0"];
    for (then, expected) in [
        (&["DATA", "NOOP"][..], &["503 5.5.1", "250 2.0.0"][..]),
        (&[B, "=BDAT 0 LAST\r\n"], &["503 5.5.1", "[letter NOOP\\r\\n]", "250 2.0.0"]),
        (&["RSET", "=BDAT 6 LAST\r\nQUIT\r\n", "NOOP"], &["250 2.0.0", "[reset]", "503 5.5.1", "250 2.0.0"]),
        (&["XCLIENT ADDR=192.0.2.1", "XFORWARD NAME=x"], &["503 5.5.1", "503 5.5.1"]),
    ] {
        let said = [&[MAIL, A, "=BDAT 6\r\nNOOP\r\n"][..], then].concat();
        check(true, Caps::default(), &[(&said, &[&begun[..], expected].concat())]);
    }
    // Where nobody knows where the commands go on, there are none.
    for number in ["-1", "18446744073709551616", "9223372036854775808", "", "x", "5 LASTLY", "5 LAST x", "+5", "0x5", "5\t"] {
        let line = format!("BDAT {number}");
        for said in [&[&line, "QUIT"][..], &[MAIL, A, &line, "QUIT"]] {
            let heard = heard(false, Caps::default(), said);
            assert!(heard.ends_with(&["[fault bdat-syntax]".to_owned()]), "{line}: {heard:?}");
            let answer = &heard[heard.len() - 2];
            assert!(answer.starts_with("50"), "{line}: {heard:?}");
        }
    }
    // The largest number there is: it is read away, for ever.
    let said = [&["=BDAT 9223372036854775807\r\n"][..], &["QUIT"; 10]].concat();
    check(false, Caps::default(), &[(&said, &[])]);
}

#[test]
fn batches_are_answered_in_order() {
    let caps = Caps { recipients: 5, ..Caps::default() };
    let rcpt = |name: &str| format!("RCPT TO:<{name}@in.test>\r\n");
    let batch = format!(
        "={}{}RCPT TO:<\r\nRCPT FROM:<x>\r\n{}RCPT TO:<j\u{f6}@in.test>\r\nrcpt to:<c@in.test> FOO\r\n{}{}{}NOOP\r\n{}\nRCPT",
        rcpt("a"),
        rcpt("no"),
        rcpt("later"),
        rcpt("b"),
        rcpt("d"),
        rcpt("e"),
        "RCPT TO:<f@in.test>"
    );
    let expected = [
        MAILED,
        OK,
        GOT_A,
        OK,
        "[rcpt no@in.test]",
        "550 5.1.1",
        "501 5.1.3",
        "501 5.5.4",
        "[rcpt later@in.test]",
        "451 4.3.0",
        "553 5.6.7",
        "555 5.5.4",
        "[rcpt b@in.test]",
        OK,
        "[rcpt d@in.test]",
        OK,
        "452 4.5.3",
        "250 2.0.0",
        // Behind a bare LF nothing is a line.
        "500 5.5.2",
    ];
    let mut whole = heard(false, caps, &[MAIL, &batch]);
    // Recipients that are here together are reported together, before the answers to those between them are said.
    let cut: Vec<String> = {
        let mut player = Player::ready(false, caps);
        player.say(format!("{MAIL}\r\n").as_bytes());
        for octet in batch.strip_prefix('=').unwrap().as_bytes() {
            player.say(&[*octet]);
        }
        player.seen.heard
    };
    assert_eq!(cut, expected);
    whole.sort_unstable();
    let mut sorted = expected.map(str::to_owned);
    sorted.sort_unstable();
    assert_eq!(whole, sorted);
    let replies = |batch: &str| {
        let mut player = Player::ready(false, caps);
        player.say(format!("{MAIL}\r\n{batch}").as_bytes());
        player.seen.out
    };
    let codes = |text: &str| text.lines().map(|line| line.chars().take(3).collect::<String>()).collect::<Vec<_>>();
    assert_eq!(
        codes(&replies(batch.strip_prefix('=').unwrap())),
        ["250", "250", "550", "501", "501", "451", "553", "555", "250", "250", "452", "250", "500"]
    );
    // Half a recipient waits for its other half.
    check(
        false,
        caps,
        &[(&[MAIL, "=RCPT TO:<a@in.test>\r\nRCPT TO:<b@in", ".test>"], &[MAILED, OK, GOT_A, OK, "[rcpt b@in.test]", OK])],
    );
}

#[test]
fn what_is_too_much_is_refused() {
    let caps = Caps { line: 60, bad_commands: 3, idle_commands: 4, size: 10, ..Caps::default() };
    let long = format!("NOOP {}", "x".repeat(60));
    let longest = format!("NOOP {}", "x".repeat(55));
    let begun = [MAILED, OK, GOT_A, OK, "[letter]"];
    check(
        false,
        caps,
        &[
            (&[&longest, &long], &["250 2.0.0", "500 5.5.2", "[fault line-too-long]"]),
            (&["X", "Y", "Z", "NOOP"], &["500 5.5.1", "500 5.5.1", "421 4.7.0", "[fault too-many-bad-commands]"]),
            // LHLO was the first.
            (
                &["NOOP", "RSET", "VRFY x", "HELP"],
                &["250 2.0.0", "250 2.0.0", "252 2.5.0", "421 4.7.0", "[fault too-many-commands]"],
            ),
            (&["MAIL FROM:<s@out.test> SIZE=11", "MAIL FROM:<s@out.test> SIZE=10"], &["552 5.3.4", MAILED, OK]),
            (
                &[MAIL, A, B, "DATA", "123456789", ".", "NOOP", "NOOP"],
                &[
                    MAILED,
                    OK,
                    GOT_A,
                    OK,
                    "[rcpt b@in.test]",
                    OK,
                    "[letter]",
                    "354",
                    "552 5.3.4",
                    "552 5.3.4",
                    "[refused 552]",
                    "250 2.0.0",
                    "250 2.0.0",
                ],
            ),
            (&[MAIL, A, "DATA", "12345678", "."], &[&begun[..], &["354", "[letter 12345678\\r\\n]", "250 2.0.0"]].concat()),
            (
                &[MAIL, A, "=BDAT 11 LAST\r\n12345\r\nQUIT", "NOOP"],
                &[&begun[..], &["552 5.3.4", "[refused 552]", "250 2.0.0"]].concat(),
            ),
            (
                &[MAIL, A, "=BDAT 5\r\n12345", "=BDAT 6\r\n123456BDAT 2 LAST\r\nxx", "NOOP"],
                &[&begun[..], &["250 2.0.0", "552 5.3.4", "[refused 552]", "503 5.5.1", "250 2.0.0"]].concat(),
            ),
        ],
    );
}

#[test]
fn a_mail_puts_back_the_count_of_idle_commands_but_not_of_bad_ones() {
    let caps = Caps { bad_commands: 3, idle_commands: 3, ..Caps::default() };
    let mail = [MAIL, A, "DATA", "."];
    let noise = ["NOOP", "NOOP"];
    let said: Vec<&str> = (0..5).flat_map(|_| noise.iter().chain(&mail)).copied().collect();
    assert!(!heard(false, caps, &said).iter().any(|heard| heard.contains("fault")));
    let said: Vec<&str> = (0..3).flat_map(|_| ["X"].iter().chain(&mail)).copied().collect();
    assert!(heard(false, caps, &said).iter().any(|heard| heard == "[fault too-many-bad-commands]"));
}

#[test]
fn tls_and_identity_begin_the_conversation_anew() {
    let xforward = "XFORWARD NAME=up.test";
    check(
        true,
        Caps::default(),
        &[
            (
                &[xforward, MAIL, A, "STARTTLS", A, MAIL, "LHLO x", MAIL, "STARTTLS"],
                &[
                    "250 2.0.0",
                    "[mail s@out.test forwarded]",
                    OK,
                    GOT_A,
                    OK,
                    "220 2.0.0",
                    "[secure]",
                    "503 5.5.1",
                    "503 5.5.1",
                    "250",
                    MAILED,
                    OK,
                    "503 5.5.1",
                ],
            ),
            (
                &[xforward, "XCLIENT ADDR=192.0.2.10", MAIL, "LHLO x", MAIL],
                &["250 2.0.0", "220", "[said 192.0.2.10]", "503 5.5.1", "250", MAILED, OK],
            ),
            (&["XCLIENT HELO=c.test", MAIL], &["220", "[said ]", MAILED, OK]),
            (&["=XCLIENT ADDR=192.0.2.10\r\nLHLO x\r\n", MAIL], &["220", "[said 192.0.2.10]", "250", MAILED, OK]),
            (&["=XCLIENT ADDR=192.0.2.10\r\nMAIL FROM:<>\r\n"], &["554 5.5.0", "[fault pipelining]"]),
            (
                &["=XCLIENT ADDR=192.0.2.10\r\nLHLO x\r\nMAIL FROM:<>\r\n"],
                &["220", "[said 192.0.2.10]", "554 5.5.0", "[fault pipelining]"],
            ),
            (&["=XCLIENT ADDR=192.0.2.10\r\nLHL", "=OX\r\n"], &["220", "[said 192.0.2.10]", "554 5.5.0", "[fault pipelining]"]),
            (&[MAIL, "XCLIENT ADDR=192.0.2.10", A], &[MAILED, OK, "503 5.5.1", GOT_A, OK]),
            (
                &["XCLIENT", "XCLIENT FOO=x", "XCLIENT LOGIN=joe", "XCLIENT ADDR=x"],
                &["501 5.5.4", "501 5.5.4", "550 5.7.0", "501 5.5.4"],
            ),
            (&["XCLIENT ADDR=192.0.2.1 ADDR=192.0.2.2", "XCLIENT TTL=x"], &["501 5.5.4", "501 5.5.4"]),
            (&[xforward, "RSET", MAIL], &["250 2.0.0", "250 2.0.0", MAILED, OK]),
            (&[xforward, "LHLO x", MAIL], &["250 2.0.0", "250", MAILED, OK]),
            (
                &[xforward, "MAIL FROM:<no@x.test>", "MAIL FROM:<", MAIL],
                &["250 2.0.0", "[mail no@x.test forwarded]", "550 5.1.1", "501 5.1.3", "[mail s@out.test forwarded]", OK],
            ),
        ],
    );
    check(
        false,
        Caps::default(),
        &[(
            &["XCLIENT ADDR=192.0.2.10", "XCLIENT", xforward, "XFORWARD", "RCPT TO:<a@b> XRCPTFORWARD=YT1i", MAIL],
            &["550 5.7.0", "501 5.5.4", "550 5.7.0", "501 5.5.4", "550 5.7.0", MAILED, OK],
        )],
    );
}

#[test]
fn what_is_offered_depends_on_the_peer() {
    for (trusted, expected) in [(true, true), (false, false)] {
        let mut player = Player::new(trusted, Caps { size: 77, ..Caps::default() });
        player.say(b"LHLO x\r\n");
        let has = |line: &str| player.seen.out.lines().any(|said| said.get(4..) == Some(line));
        for always in ["PIPELINING", "ENHANCEDSTATUSCODES", "SIZE 77", "8BITMIME", "SMTPUTF8", "CHUNKING", "STARTTLS"] {
            assert!(has(always), "{always}: {}", player.seen.out);
        }
        assert_eq!(has(&format!("XCLIENT {}", xclient::LISTED_BY_LMTP)), expected);
        assert_eq!(has(&format!("XFORWARD {}", xforward::LISTED)), expected);
        assert_eq!(has("XRCPTFORWARD"), expected);
        assert!(!player.seen.out.contains("LOGIN") && !player.seen.out.contains(" FORWARD"));
    }
}

#[test]
fn a_letter_that_fails_on_the_way_is_read_to_its_end_and_refused() {
    let begun = [MAILED, OK, GOT_A, OK, "[rcpt b@in.test]", OK, "[letter]"];
    for (then, expected) in [
        // In its only piece, and in the first of many.
        (&["DATA", "=FAIL\r\n.\r\n"][..], &["354", "554 5.4.6", "554 5.4.6", "[refused 554]"][..]),
        (&["DATA", "FAIL", "MAIL FROM:<x>", "."], &["354", "554 5.4.6", "554 5.4.6", "[refused 554]"]),
        (&["=BDAT 6 LAST\r\nFAIL\r\n", "NOOP"], &["554 5.4.6", "554 5.4.6", "[refused 554]", "250 2.0.0"]),
        (&["=BDAT 6\r\nFAIL\r\n", "NOOP"], &["554 5.4.6", "[refused 554]", "250 2.0.0"]),
        (
            &["=BDAT 2\r\nFA", "=BDAT 6 LAST\r\nIL\r\n\r\n", "NOOP"],
            &["250 2.0.0", "554 5.4.6", "554 5.4.6", "[refused 554]", "250 2.0.0"],
        ),
    ] {
        let said = [&[MAIL, A, B][..], then].concat();
        check(false, Caps::default(), &[(&said, &[&begun[..], expected].concat())]);
    }
}

#[test]
fn line_ends_that_are_none_are_mended_or_end_the_connection() {
    let begun = [MAILED, OK, GOT_A, OK, "[letter]"];
    let mend = ["354", "[letter a\\r\\n.\\r\\nb\\r\\n]", "250 2.0.0", "250 2.0.0"];
    let said = [MAIL, A, "DATA", "a\n.", "b", ".", "NOOP"];
    check(false, Caps::default(), &[(&said, &[&begun[..], &mend].concat())]);
    let caps = Caps { bare_newline: BareNewline::Reject, ..Caps::default() };
    let end = ["550 5.6.11", "421 4.7.0", "[refused 550]", "[fault bare-newline]"];
    for bare in ["a\n.", "a\r.", "\n", "\r", "a\r\r"] {
        let said = [MAIL, A, "DATA", bare, "b", ".", "NOOP"];
        check(false, caps, &[(&said, &[&begun[..], &["354"], &end].concat())]);
        let chunk = format!("=BDAT {} LAST\r\n{bare}b", bare.len() + 1);
        check(false, caps, &[(&[MAIL, A, &chunk, "NOOP"], &[&begun[..], &end].concat())]);
    }
    let chunk = [MAIL, A, "=BDAT 1\r\n\r", "=BDAT 1\r\n\n", "=BDAT 1 LAST\r\n\r", "NOOP"];
    check(false, caps, &[(&chunk, &[&begun[..], &["250 2.0.0", "250 2.0.0"], &end].concat())]);
}

#[test]
fn a_mail_is_over_with_its_last_answer() {
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let mut player = Player::ready(false, Caps::default());
    player.say(b"MAIL FROM:<>\r\nRCPT TO:<a>\r\nRCPT TO:<b>\r\n");
    let front = &mut player.front;
    input.extend_from_slice(b"BDAT 0 LAST\r\nNOOP\r\n");
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(Event::Letter))));
    front.go_on(&mut out);
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(Event::End))));
    for (n, state) in ["await-verdict", "await-mail", "await-mail"].into_iter().enumerate() {
        front.delivered(&Verdict::new(250, (0, 0), n.to_string()), &mut out);
        assert_eq!(front.state(), state, "one answer too many is none");
    }
    assert_eq!(out, "250 2.0.0 0\r\n250 2.0.0 1\r\n");
}

#[test]
fn steps_out_of_turn_are_faults_and_answers_out_of_turn_are_nothing() {
    let (mut input, mut out) = (BytesMut::from("MAIL FROM:<>\r\n"), BytesMut::new());
    let mut front = Front::new(terms(false), Caps::default());
    front.recipient(&Verdict::new(250, (1, 5), ""), &mut out);
    front.mail(&Verdict::new(250, (1, 5), ""), &mut out);
    front.delivered(&Verdict::new(250, (0, 0), ""), &mut out);
    front.go_on(&mut out);
    assert!(out.is_empty());
    front.greeted = true;
    assert!(matches!(front.step(&mut input, &mut out), Ok(Step::Event(Event::Mail(_)))));
    assert_eq!(front.step(&mut input, &mut out).unwrap_err().rule, "step-out-of-turn");
    front.goodbye(Goodbye::ShuttingDown, &mut out);
    assert_eq!((front.state(), front.step(&mut input, &mut out).is_err()), ("over", true));
}

#[test]
fn a_letter_of_any_size_is_not_held() {
    let mut player = Player::ready(false, Caps { size: 100, ..Caps::default() });
    player.say(b"MAIL FROM:<>\r\nRCPT TO:<a>\r\n");
    player.say(b"DATA\r\n");
    for _ in 0..200 {
        player.say(&[b'x'; 100_000]);
    }
    assert!(player.letter.len() < 200_000, "what is too large is no longer reported");
    player.say(b"\r\n.\r\n");
    assert_eq!((player.most_held, player.seen.heard.last().map(String::as_str)), (0, Some("[refused 552]")));
}

/// What octets are played against.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Mending,
    Small,
    Rejecting,
}

fn play(octets: &[Vec<u8>], cuts: &[usize], each: bool, trusted: bool, kind: Kind) -> Seen {
    let caps = Caps { line: 60, bad_commands: 6, idle_commands: 20, recipients: 4, ..Caps::default() };
    let caps = match kind {
        Kind::Mending => caps,
        Kind::Small => Caps { size: 12, ..caps },
        Kind::Rejecting => Caps { bare_newline: BareNewline::Reject, ..caps },
    };
    let mut player = Player::new(trusted, caps);
    player.fails_at = matches!(kind, Kind::Mending).then_some("FAIL");
    let mut at = 0;
    // A write ends where it must, and where a cut is.
    let mut write = Vec::new();
    for piece in octets {
        for octet in piece {
            write.push(*octet);
            at += 1;
            if each || cuts.contains(&at) {
                player.say(&std::mem::take(&mut write));
            }
        }
        if [&b"LHLO"[..], b"DATA", b"XCLI"].iter().any(|word| piece.starts_with(word)) {
            player.say(&std::mem::take(&mut write));
        }
    }
    player.say(&write);
    // In a batch events come ahead of answers.
    let (mut events, replies): (Vec<String>, Vec<String>) = player.seen.heard.drain(..).partition(|heard| heard.starts_with('['));
    events.extend(replies);
    Seen { heard: events, out: player.seen.out }
}

/// Input that gets somewhere. Octets in one write with LHLO, DATA and XCLIENT are documented to make a difference.
fn likely() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let words = proptest::sample::select(vec![
        "LHLO x\r\n",
        "MAIL FROM:<a@b>\r\n",
        "MAIL FROM:<no@b>\r\n",
        "MAIL FROM:<> SIZE=13\r\n",
        "RCPT TO:<a@b>\r\n",
        "RCPT TO:<no@b>\r\n",
        "RCPT TO:<later>\r\n",
        "RCPT TO:<\r\n",
        "RCPT TO:<a> FOO\r\n",
        "RCPT",
        "RCPT TO:<\"\">\r\n",
        "DATA\r\n",
        ".\r\n",
        "\r\n.\r\n",
        "..x\r\n",
        "FAIL",
        "FA",
        "IL\r\n",
        "BDAT 3\r\n",
        "BDAT 3 LAST\r\n",
        "BDAT 0\r\n",
        "BDAT 9 last\r\n",
        "BDAT x\r\n",
        "abc",
        "RSET\r\n",
        "NOOP\r\n",
        "VRFY\r\n",
        "QUIT\r\n",
        "STARTTLS\r\n",
        "XCLIENT ADDR=192.0.2.1\r\n",
        "XCLIENT HELO=x\r\n",
        "XFORWARD NAME=x\r\n",
        "XFORWARD\r\n",
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\n.\n",
        "\n.\r\n",
        "\r.\r\n",
        "GET / HTTP/1.1\r\n",
        "PROXY TCP4 ",
        "\r\n\r\n\0\r\nQUIT\n",
    ]);
    let piece = prop_oneof![
        12 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => (0usize..130).prop_map(|length| vec![b'x'; length]),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    // Most conversations come to something.
    let opening = proptest::sample::select(vec!["", "LHLO x\r\n", "LHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<a>\r\nRCPT TO:<b>\r\n"]);
    (opening, proptest::collection::vec(piece, 0..14)).prop_map(|(opening, pieces)| {
        let lines = opening.split_inclusive("\r\n").map(|line| line.as_bytes().to_vec());
        lines.chain(pieces).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_do_not_matter(
        octets in likely(),
        cuts in proptest::collection::vec(0usize..300, 0..12),
        trusted in any::<bool>(),
        kind in proptest::sample::select(vec![Kind::Mending, Kind::Small, Kind::Rejecting]),
    ) {
        let whole = play(&octets, &[], false, trusted, kind);
        prop_assert_eq!(&play(&octets, &cuts, false, trusted, kind), &whole);
        prop_assert_eq!(&play(&octets, &[], true, trusted, kind), &whole);
    }

    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..300), trusted in any::<bool>()) {
        let mut player = Player::ready(trusted, Caps::default());
        player.say(b"MAIL FROM:<>\r\nRCPT TO:<a>\r\n");
        player.say(&octets);
    }
}
