//! Every command and every parameter, read; `MAIL` and `RCPT`, written and read back.

use super::*;
use proptest::prelude::*;

/// A command in words, or the reply that it gets.
fn shown(line: &[u8], trusted: bool) -> String {
    match Command::read(line, trusted) {
        Ok(Command::Mail(mail)) => {
            let Mail { size, body, smtputf8, ret, envid, forwarded, .. } = &*mail;
            assert!(forwarded.is_empty());
            let mut shown = format!("mail <{}>", mail.path());
            shown.extend(size.map(|size| format!(" size={size}")));
            shown.extend(body.map(|body| format!(" {body:?}")));
            shown.push_str(if *smtputf8 { " utf8" } else { "" });
            shown.extend(ret.map(|ret| format!(" {ret:?}")));
            shown.extend(envid.as_ref().map(|id| format!(" envid={id}")));
            shown
        }
        Ok(Command::Rcpt(rcpt)) => {
            let Rcpt { to, notify, orcpt, forward } = &*rcpt;
            let mut shown = format!("rcpt <{to}>");
            shown.extend(notify.as_ref().map(|words| format!(" notify={words}")));
            shown.extend(orcpt.as_ref().map(|of| format!(" orcpt={of}")));
            shown.extend(forward.iter().map(|ForwardField { name, value }| format!(" {name}={value}")));
            shown
        }
        Ok(Command::Lhlo(name)) => format!("lhlo <{name}>"),
        Ok(Command::Xclient(attributes)) => format!("xclient <{}>", attributes.escape_ascii()),
        Ok(Command::Xforward(attributes)) => format!("xforward <{}>", attributes.escape_ascii()),
        Ok(Command::Bdat { octets, last }) => format!("bdat {octets}{}", if last { " last" } else { "" }),
        Ok(plain) => format!("{plain:?}").to_lowercase(),
        Err(Malformed { code, .. }) => code.to_owned(),
    }
}

#[track_caller]
fn check(trusted: bool, rows: &[(&str, &str)]) {
    for (line, expected) in rows {
        assert_eq!(shown(line.as_bytes(), trusted), *expected, "{line:?}");
    }
}

#[test]
fn commands_mean_what_they_say() {
    let rows = [
        ("LHLO client.test", "lhlo <client.test>"),
        ("lhlo  [IPv6:::1] ", "lhlo <[IPv6:::1]>"),
        ("LHLO two words", "lhlo <>"),
        ("LHLO", "501 5.5.4"),
        ("EHLO x", "wronggreeting"),
        ("helo", "wronggreeting"),
        ("STARTTLS", "starttls"),
        ("STARTTLS x", "501 5.5.4"),
        ("data ", "data"),
        ("DATA x", "501 5.5.4"),
        ("RSET", "rset"),
        ("RSET x", "501 5.5.4"),
        ("QUIT", "quit"),
        ("QUIT x", "501 5.5.4"),
        ("NOOP ( \"", "noop"),
        ("VRFY joe", "vrfy"),
        ("HELP MAIL", "help"),
        ("XCLIENT A=b\tC=\0", "xclient <A=b\\tC=\\x00>"),
        ("xforward", "xforward <>"),
        ("XFORWARD NAME=x", "xforward <NAME=x>"),
        ("AUTH PLAIN", "other"),
        ("EXPN x", "other"),
        ("", "other"),
        (" MAIL FROM:<>", "other"),
        ("MAIL\tFROM:<>", "500 5.5.2"),
        ("NOOP \0", "500 5.5.2"),
        ("BDAT 0", "bdat 0"),
        ("bdat  86  last ", "bdat 86 last"),
        ("BDAT 00000000000000000005", "bdat 5"),
        ("BDAT 000000000000000000005", "501 5.5.4"),
        ("BDAT 9223372036854775807 LAST", "bdat 9223372036854775807 last"),
        ("BDAT 9223372036854775808", "501 5.5.4"),
        ("BDAT 18446744073709551616", "501 5.5.4"),
        ("BDAT -1", "501 5.5.4"),
        ("BDAT +1", "501 5.5.4"),
        ("BDAT", "501 5.5.4"),
        ("BDAT LAST", "501 5.5.4"),
        ("BDAT 1 LAST LAST", "501 5.5.4"),
        ("BDAT 1 FIRST", "501 5.5.4"),
    ];
    check(false, &rows);
    check(true, &rows);
    for line in [&b"MAIL FROM:<\xff@b>"[..], b"RCPT TO:<\xc0\x80@b>", b"BDAT \xff"] {
        assert_eq!(shown(line, true), "501 5.5.2", "{}", line.escape_ascii());
    }
    assert_eq!(shown(b"NOOP \xff", false), "noop");
}

#[test]
fn a_mail_has_its_parameters_once_and_well_formed() {
    let long = |length: usize| "x".repeat(length);
    let many = (0..40).map(|n| format!(" X{n}")).collect::<String>();
    let (long_enough, too_long) = (format!("MAIL FROM:<> ENVID={}", long(100)), format!("MAIL FROM:<> ENVID={}", long(101)));
    check(
        false,
        &[
            ("MAIL FROM:<>", "mail <>"),
            ("mail from: <a@b.test>", "mail <a@b.test>"),
            ("MAIL FROM:<@r.test:a@b.test>", "mail <a@b.test>"),
            ("MAIL FROM:<;x;@b.test>", "501 5.1.3"),
            ("MAIL FROM:<\"a b\"@b.test>", "mail <\"a b\"@b.test>"),
            ("MAIL FROM:a@b.test", "501 5.1.3"),
            ("MAIL FROM:<a@b.test", "501 5.1.3"),
            ("MAIL FROM:bad<", "501 5.1.3"),
            ("MAIL FROM:<a@b.test>SIZE=1", "501 5.5.4"),
            ("MAIL TO:<a@b.test>", "501 5.5.4"),
            ("MAIL", "501 5.5.4"),
            ("MAIL FROM", "501 5.5.4"),
            ("MAIL FROM:<> =", "501 5.5.4"),
            ("MAIL FROM:<> SIZE=10", "mail <> size=10"),
            ("MAIL FROM:<>  size=0  body=8bitmime ", "mail <> size=0 EightBit"),
            ("MAIL FROM:<> SIZE", "501 5.5.4"),
            ("MAIL FROM:<> SIZE=", "501 5.5.4"),
            ("MAIL FROM:<> SIZE=-1", "501 5.5.4"),
            ("MAIL FROM:<> SIZE=1 SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<> SIZE=18446744073709551616", "501 5.5.4"),
            ("MAIL FROM:<> BODY=7BIT", "mail <> SevenBit"),
            ("MAIL FROM:<> BODY=BINARYMIME", "501 5.5.4"),
            ("MAIL FROM:<> BODY", "501 5.5.4"),
            ("MAIL FROM:<> BODY=7BIT BODY=8BITMIME", "501 5.5.4"),
            ("MAIL FROM:<> SMTPUTF8", "mail <> utf8"),
            ("MAIL FROM:<> SMTPUTF8=yes", "501 5.5.4"),
            ("MAIL FROM:<> SMTPUTF8 SMTPUTF8", "501 5.5.4"),
            ("MAIL FROM:<j\u{f6}@b.test> SMTPUTF8", "mail <j\u{f6}@b.test> utf8"),
            ("MAIL FROM:<j\u{f6}@b.test>", "553 5.6.7"),
            ("MAIL FROM:<> RET=full", "mail <> Full"),
            ("MAIL FROM:<> RET=HDRS", "mail <> Headers"),
            ("MAIL FROM:<> RET=ALL", "501 5.5.4"),
            ("MAIL FROM:<> RET", "501 5.5.4"),
            ("MAIL FROM:<> ENVID=QQ314159+2B", "mail <> envid=QQ314159+2B"),
            ("MAIL FROM:<> ENVID=", "501 5.5.4"),
            ("MAIL FROM:<> ENVID=a=b", "501 5.5.4"),
            ("MAIL FROM:<> ENVID=\u{e4}", "501 5.5.4"),
            ("MAIL FROM:<> AUTH=<>", "555 5.5.4"),
            ("MAIL FROM:<> BY=120;R", "555 5.5.4"),
            ("MAIL FROM:<> XRCPTFORWARD=YT1i", "555 5.5.4"),
            ("MAIL FROM:<> NOTIFY=NEVER", "555 5.5.4"),
            ("MAIL FROM:<> A_B=1", "501 5.5.4"),
            (&format!("MAIL FROM:<>{many}"), "501 5.5.4"),
            (&too_long, "501 5.5.4"),
        ],
    );
    assert_eq!(shown(long_enough.as_bytes(), false), format!("mail <> envid={}", long(100)));
}

#[test]
fn a_recipient_has_its_parameters_once_and_well_formed() {
    check(
        false,
        &[
            ("RCPT TO:<a@b.test>", "rcpt <a@b.test>"),
            ("rcpt to: <joe>", "rcpt <joe>"),
            ("RCPT TO:<>", "501 5.5.4"),
            ("RCPT TO:<\"\">", "501 5.1.3"),
            ("RCPT TO:<\"\"@b.test>", "501 5.1.3"),
            ("RCPT TO:<../../x@b.test>", "rcpt <../../x@b.test>"),
            ("RCPT FROM:<a@b.test>", "501 5.5.4"),
            ("RCPT TO:<a@b.test> NOTIFY=never", "rcpt <a@b.test> notify=NEVER"),
            ("RCPT TO:<a> NOTIFY=Success,FAILURE,delay", "rcpt <a> notify=SUCCESS,FAILURE,DELAY"),
            ("RCPT TO:<a> NOTIFY=SUCCESS,SUCCESS", "501 5.5.4"),
            ("RCPT TO:<a> NOTIFY=NEVER,SUCCESS", "501 5.5.4"),
            ("RCPT TO:<a> NOTIFY=SOMETIMES", "501 5.5.4"),
            ("RCPT TO:<a> NOTIFY=", "501 5.5.4"),
            ("RCPT TO:<a> NOTIFY=,", "501 5.5.4"),
            ("RCPT TO:<a> NOTIFY", "501 5.5.4"),
            ("RCPT TO:<a> NOTIFY=DELAY NOTIFY=DELAY", "501 5.5.4"),
            ("RCPT TO:<a> ORCPT=rfc822;b+2Bc@d.test", "rcpt <a> orcpt=rfc822;b+2Bc@d.test"),
            ("RCPT TO:<a> ORCPT=utf-8;\u{f6}@d.test", "rcpt <a> orcpt=utf-8;\u{f6}@d.test"),
            ("RCPT TO:<a> ORCPT=rfc822", "501 5.5.4"),
            ("RCPT TO:<a> ORCPT=;x", "501 5.5.4"),
            ("RCPT TO:<a> ORCPT=rfc822;", "501 5.5.4"),
            ("RCPT TO:<a> ORCPT=rf c822;x", "501 5.5.4"),
            ("RCPT TO:<a> ORCPT=x;\u{a0}", "501 5.5.4"),
            ("RCPT TO:<a> ORCPT=rfc822;x ORCPT=rfc822;x", "501 5.5.4"),
            ("RCPT TO:<a> SIZE=1", "555 5.5.4"),
            ("RCPT TO:<a> RRVS=2014", "555 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=YT1i", "550 5.7.0"),
            ("RCPT TO:<a> XRCPTFORWARD", "550 5.7.0"),
        ],
    );
    let orcpt = |length: usize| format!("RCPT TO:<a> ORCPT=rfc822;{}", "x".repeat(length));
    assert!(shown(orcpt(493).as_bytes(), false).starts_with("rcpt"));
    assert_eq!(shown(orcpt(494).as_bytes(), false), "501 5.5.4");
}

#[test]
fn pairs_of_a_trusted_peer_are_read_in_both_spellings() {
    check(
        true,
        &[
            // a=b, and a=b TAB c=d e.
            ("RCPT TO:<a> XRCPTFORWARD=a+3Db", "rcpt <a> a=b"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3Db+09C+3Dd+20e", "rcpt <a> a=b c=d e"),
            ("RCPT TO:<a> xrcptforward=YT1i", "rcpt <a> a=b"),
            ("RCPT TO:<a> XRCPTFORWARD=YT1iCWM9ZCBl", "rcpt <a> a=b c=d e"),
            ("RCPT TO:<a> XRCPTFORWARD=YWE9Yg==", "rcpt <a> aa=b"),
            ("RCPT TO:<a> XRCPTFORWARD=YWE9YmM=", "rcpt <a> aa=bc"),
            ("RCPT TO:<a> XRCPTFORWARD=", "rcpt <a>"),
            ("RCPT TO:<a> XRCPTFORWARD", "501 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3Db XRCPTFORWARD=a+3Db", "501 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3", "501 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=+3Db", "501 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3D+01x", "501 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3D+0D+0A", "501 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3D+FF", "501 5.5.4"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3D", "rcpt <a> a="),
            ("RCPT TO:<a> XRCPTFORWARD=a+3Db+3D", "rcpt <a> a=b="),
            ("RCPT TO:<a> XRCPTFORWARD=a=b", "rcpt <a> a=b"),
            ("RCPT TO:<a> XRCPTFORWARD=a+3Db+09+3Dc", "501 5.5.4"),
        ],
    );
}

fn everything() -> Offers {
    Offers::read("PIPELINING CHUNKING SIZE=100 8BITMIME SMTPUTF8 DSN XRCPTFORWARD XCLIENT=SESSION XCLIENT=ADDR")
}

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn a_server_is_told_what_it_announced() {
    let Ok(Command::Mail(mail)) =
        Command::read("MAIL FROM:<j\u{f6}@b> SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x".as_bytes(), false)
    else {
        panic!("it is a mail")
    };
    let Ok(Command::Rcpt(rcpt)) =
        Command::read(b"RCPT TO:<\"a b\"@c> NOTIFY=NEVER ORCPT=rfc822;x XRCPTFORWARD=a+3Db+09c+3Dd", true)
    else {
        panic!("it is a recipient")
    };
    for (offers, mail_said, rcpt_said) in [
        (
            everything(),
            "MAIL FROM:<j\u{f6}@b> SIZE=77 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x\r\n",
            "RCPT TO:<\"a b\"@c> NOTIFY=NEVER ORCPT=rfc822;x XRCPTFORWARD=a+3Db+09c+3Dd\r\n",
        ),
        (Offers::default(), "MAIL FROM:<j\u{f6}@b>\r\n", "RCPT TO:<\"a b\"@c>\r\n"),
        (Offers::read("8BITMIME SIZE"), "MAIL FROM:<j\u{f6}@b> SIZE=77 BODY=8BITMIME\r\n", "RCPT TO:<\"a b\"@c>\r\n"),
        (
            Offers::read("DSN"),
            "MAIL FROM:<j\u{f6}@b> RET=HDRS ENVID=x\r\n",
            "RCPT TO:<\"a b\"@c> NOTIFY=NEVER ORCPT=rfc822;x\r\n",
        ),
    ] {
        assert_eq!(written(|out| write_mail(&mail, Some(77), &offers, out)), mail_said);
        assert_eq!(written(|out| drop(write_rcpt(&rcpt, &offers, out))), rcpt_said);
    }
    assert_eq!(
        written(|out| write_mail(&Mail { smtputf8: false, ..*mail.clone() }, None, &everything(), out)).matches("SIZE").count(),
        0
    );
}

#[test]
fn pairs_that_do_not_fit_are_named() {
    let pair = |n: usize| ForwardField { name: format!("n{n}"), value: "=".repeat(500) };
    let forward: Vec<_> = (0..9).map(pair).collect();
    let to = Mailbox::of_user("a@b").unwrap();
    let mut out = BytesMut::new();
    let left_out = write_rcpt(&Rcpt { to, notify: None, orcpt: None, forward }, &everything(), &mut out);
    assert!(!left_out.is_empty() && left_out.len() < 9 && out.len() <= RCPT_MAX, "{left_out:?}");
    let Ok(Command::Rcpt(read)) = Command::read(out.strip_suffix(b"\r\n").unwrap(), true) else { panic!("it is a recipient") };
    assert_eq!(read.forward.len() + left_out.len(), 9);
}

#[test]
fn an_original_recipient_is_in_xtext_or_not_said() {
    for (user, expected) in [("a+b@c", Some("rfc822;a+2Bb@c")), ("a b@c", Some("rfc822;\"a+20b\"@c")), ("j\u{f6}@c", None)] {
        let orcpt = Mailbox::of_user(user).and_then(|mailbox| orcpt_of(&mailbox));
        assert_eq!(orcpt.as_deref(), expected, "{user}");
        assert!(orcpt.is_none_or(|orcpt| is_orcpt(&orcpt)));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        local in "[a-z\" .+\\\\>]{1,9}",
        pairs in proptest::collection::vec(("[a-z][a-z0-9_]{0,5}", "[ -~]{0,9}"), 0..4),
        size in 0u64..1_000_000,
        utf8 in any::<bool>(),
    ) {
        let Some(to) = Mailbox::of_user(&format!("{local}@b.test")) else { return Ok(()) };
        let mail = Mail {
            from: Some(to.clone()), size: Some(size), body: Some(BodyKind::EightBit), smtputf8: utf8, ret: Some(Ret::Full),
            envid: Some("x".into()), forwarded: xforward::Said::default(),
        };
        let line = written(|out| write_mail(&mail, Some(size), &everything(), out));
        match Command::read(line.strip_suffix("\r\n").unwrap().as_bytes(), false) {
            Ok(Command::Mail(read)) => prop_assert_eq!(*read, mail),
            other => prop_assert!(false, "{}: {:?}", line, other),
        }
        let forward: Vec<_> = pairs.into_iter().map(|(name, value)| ForwardField { name, value }).collect();
        let rcpt = Rcpt { to, notify: Some("DELAY".into()), orcpt: Some("rfc822;x".into()), forward };
        let line = written(|out| drop(write_rcpt(&rcpt, &everything(), out)));
        match Command::read(line.strip_suffix("\r\n").unwrap().as_bytes(), true) {
            Ok(Command::Rcpt(read)) => prop_assert_eq!(*read, rcpt, "{}", line),
            other => prop_assert!(false, "{}: {:?}", line, other),
        }
    }

    #[test]
    fn reading_never_panics(
        word in "(?i)(mail from:|rcpt to:|bdat|lhlo|xforward)?[ <]{0,2}",
        rest in any::<Vec<u8>>(),
        trusted in any::<bool>(),
    ) {
        let _ = Command::read(&[word.into_bytes(), rest].concat(), trusted);
    }

    #[test]
    fn parameters_never_panic(
        rest in "( (size|BODY|SMTPUTF8|ret|ENVID|NOTIFY|ORCPT|XRCPTFORWARD)?=?[a-z0-9;,+=\u{e4}]{0,9}){0,5}",
        trusted in any::<bool>(),
    ) {
        for start in ["MAIL FROM:<>", "RCPT TO:<a>"] {
            let _ = Command::read(format!("{start}{rest}").as_bytes(), trusted);
        }
    }
}
