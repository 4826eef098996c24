//! What is shown and what is left out, and that nothing is made while nobody listens.

use super::*;

fn censor(password: &str) -> Censor {
    let mut censor = Censor::default();
    censor.add(password.as_bytes());
    censor.name("alice@example.com");
    censor
}

#[test]
fn nobody_listens_and_nothing_is_made() {
    let mut notes = Notes::default();
    notes.heard(0, || panic!("made for nobody"));
    assert!(notes.merged(b"* OK\r\n", true).is_empty());
    assert_eq!(size_of::<Notes>(), size_of::<usize>());
}

#[test]
fn lines_are_told_in_their_order() {
    let mut notes = Notes::default();
    notes.keep(true);
    let mut out = b"* OK ready\r\n".to_vec();
    notes.heard(out.len(), || Shown { tag: Some("a".into()), ..Shown::plain("a NOOP") });
    out.extend_from_slice(b"a OK done\r\n");
    notes.heard(out.len(), || Shown::withheld(None, 9, "malformed"));
    out.extend_from_slice(b"hunter2 BAD What?\r\n+ \r\n");
    let lines = notes.merged(&out, true);
    let told: Vec<_> = lines.iter().map(|line| format!("{}{}", if line.from_peer { ">" } else { "<" }, line.text)).collect();
    assert_eq!(
        told,
        ["<* OK ready", ">a NOOP", "<a OK done", ">... (9 octets, malformed)", "<*** BAD What?", "<+ "],
        "a tag is shown only where its command was"
    );
    assert!(notes.merged(b"", true).is_empty());
}

#[test]
fn pieces_of_a_password_are_left_out_with_the_words_around_them() {
    let censor = censor("correct-horse");
    for said in [
        "L NO [AUTHENTICATIONFAILED] LOGIN alice correct-horse",
        "L NO [AUTHENTICATIONFAILED] \"correct\" and \"horse\"",
        "L NO [AUTHENTICATIONFAILED] c o r r e c t",
        "L NO [AUTHENTICATIONFAILED] CORREC",
        "L NO [AUTHENTICATIONFAILED] rrect-ho",
    ] {
        let shown = censor.shown(said.to_owned());
        assert!(shown.starts_with("L NO [AUTHENTICATIONFAILED] (left out: "), "{shown}");
    }
    for (said, head) in [
        ("NO \"correct-horse\"", "NO "),
        ("NO (TRYLATER) \"correct\"", "NO (TRYLATER) "),
        ("BYE (TRYLATER/NORETRY) \"horse, correct\"", "BYE (TRYLATER/NORETRY) "),
        ("NO (X-CORRECT) \"correct\"", "NO "),
        ("\"correct-horse\"", ""),
    ] {
        let shown = censor.shown(said.to_owned());
        assert!(shown.starts_with(&format!("{head}(left out: ")), "{shown}");
    }
    for before in ["", "\0alice\0", "x", "xy"] {
        let text = base64_encode(format!("{before}correct-horse").as_bytes());
        let text = String::from_utf8(text.expose().clone()).unwrap();
        assert!(censor.shown(format!("-ERR {text}")).starts_with("-ERR (left out"), "{text}");
        let (one, other) = text.split_at(text.len() / 2);
        assert!(censor.shown(format!("-ERR {one} {other}")).starts_with("-ERR (left out"), "{one} {other}");
    }
    for (said, kept) in [
        ("535 5.7.8 no correct-horse", "535 5.7.8 (left out: "),
        ("535-5.7.8 ct-horse", "535-5.7.8 (left out: "),
        ("535 correct", "535 (left out: "),
        ("535 5.7.correct", "535 (left out: "),
        ("250-CORRECT", "250-(left out: "),
        ("5350 ct-horse", "(left out: "),
    ] {
        let shown = censor.shown(said.to_owned());
        assert!(shown.starts_with(kept), "{shown}");
    }
    for fine in ["L OK Logged in", "a OK [CAPABILITY IMAP4rev1 SORT] Logged in", "* ID NIL", ""] {
        assert_eq!(censor.shown(fine.to_owned()), fine);
    }
}

#[test]
fn a_name_may_be_in_a_password_and_is_shown() {
    let censor = censor("alice-secret");
    let said = "L OK Hello alice, or alice@example.com";
    assert_eq!(censor.shown(said.to_owned()), said);
    assert!(censor.shown("L BAD secret".to_owned()).starts_with("L BAD (left out"));
    assert!(!format!("{censor:?}").contains("secr"));
}

/// Whoever may choose passwords and lines cannot make the censor slow: the time goes with the length of the line alone.
#[test]
fn long_passwords_and_many_of_them_cost_little() {
    let mut censor = Censor::default();
    let mut state = 1u32;
    for _ in 0..20 {
        let text: Vec<u8> = (0..4096)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b'a' + u8::try_from((state >> 16) % 26).unwrap_or(0)
            })
            .collect();
        censor.add(&text);
    }
    let pieces = censor.pieces.as_ref().map_or(0, |pieces| pieces.expose().len());
    assert!(pieces <= Censor::PIECES_MAX, "{pieces}");
    assert!(censor.shown("* OK 0123456789".to_owned()).starts_with("* OK (left out"), "none of them is forgotten");
}

#[test]
fn a_success_is_known_in_every_protocol() {
    for (reply, yes) in [
        ("L OK Logged in", true),
        ("* OK hi", true),
        ("+OK", true),
        ("OK \"Logged in.\"", true),
        ("NO OK", false),
        ("BYE \"OK\"", false),
        ("L NO OK", false),
        ("-ERR OK", false),
        ("235 2.7.0 in", true),
        ("250-NO", true),
        ("220", true),
        ("334 OK", false),
        ("535 OK", false),
        ("2350 NO", false),
        ("", false),
    ] {
        assert_eq!(is_yes(reply), yes, "{reply}");
    }
}

#[test]
fn short_passwords_are_left_to_what_takes_our_own_out_of_replies() {
    let censor = censor("abc");
    assert_eq!(censor.shown("L OK abc".to_owned()), "L OK abc");
}

#[test]
fn values_are_one_line() {
    assert_eq!(quoted(b"a\"b"), "\"a\\\"b\"");
    assert_eq!(quoted("\u{fc}".as_bytes()), "\"\u{fc}\"");
    assert_eq!(text(b"a\x1b[2Jb\r\n"), "a\\x1b[2Jb");
    assert!(text(&[b'x'; 5000]).len() <= LINE_MAX);
    assert_eq!(mechanism("PLAIN"), "PLAIN");
    assert!(!mechanism("HUNTER2").contains("HUNTER2"));
}
