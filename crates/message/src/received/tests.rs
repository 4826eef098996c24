use super::*;
use proptest::prelude::*;
use wire::origin::trust::TrustedNets;
use wire::origin::xforward;
use wire::origin::{MailProtocol, SessionId};

const DATE: &str = "Fri, 20 Nov 2026 07:21:56 +0000";

fn origin(peer: &str) -> Origin {
    Origin::at_accept(peer.parse().unwrap(), "198.51.100.1:24".parse().unwrap(), SessionId::new("abc").unwrap())
}

fn trace(origin: &Origin) -> Trace<'_> {
    Trace {
        origin,
        forwarded: None,
        by: "mail.example.com",
        with: "LMTP",
        id: "sVyHBLBgcLN",
        tls: None,
        envelope_from: "joe@example.net",
        envelope_to: None,
        date: DATE,
    }
}

fn written(trace: &Trace) -> String {
    String::from_utf8(received(trace).raw().to_vec()).unwrap()
}

#[test]
fn what_is_known_is_told_and_nothing_else() {
    let mut known = origin("192.0.2.10:4711");
    assert_eq!(
        written(&trace(&known)),
        "Received: from [192.0.2.10] ([192.0.2.10])\r\n\
         \tby mail.example.com with LMTP id sVyHBLBgcLN\r\n\
         \t(envelope-from <joe@example.net>); Fri, 20 Nov 2026 07:21:56 +0000\r\n"
    );
    known.helo = Some(Told::Known("client.example".into()));
    known.host_name = Some(Told::Known("mail.client.example".into()));
    known.spoke = Some(MailProtocol::Lmtp);
    let said = xforward::read(b"NAME=up.example ADDR=198.51.100.9 PORT=25 PROTO=ESMTP HELO=h.example IDENT=4XyZ1q SOURCE=REMOTE");
    let nets = TrustedNets::new(vec!["192.0.2.0/24".parse().unwrap()]);
    let forwarded = said.unwrap().believed(&nets.admit("192.0.2.10".parse().unwrap()).unwrap());
    let full = Trace {
        forwarded: Some(&forwarded),
        with: "LMTPS",
        tls: Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
        envelope_from: "",
        envelope_to: Some("alice@example.com"),
        ..trace(&known)
    };
    assert_eq!(
        written(&full),
        "Received: from client.example (mail.client.example [192.0.2.10])\r\n\
         \t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n\
         \t(forwarded for up.example [198.51.100.9] helo=h.example id=4XyZ1q)\r\n\
         \tby mail.example.com with LMTPS id sVyHBLBgcLN\r\n\
         \t(envelope-from <>)\r\n\
         \tfor <alice@example.com>; Fri, 20 Nov 2026 07:21:56 +0000\r\n"
    );
    let field = received(&full);
    assert!(field.is("received") && field.value().starts_with(b"from client.example (mail"));

    // A client at a unix socket.
    let here = origin("127.0.0.1:0");
    assert!(written(&trace(&here)).starts_with("Received: from [127.0.0.1] ([127.0.0.1])\r\n"));
}

#[test]
fn addresses_of_the_later_kind_have_their_tag() {
    let mut later = origin("[2001:db8::7]:4711");
    later.helo = Some(Told::Known("[ipv6:2001:DB8:0::7]".into()));
    let forwarded = Forwarded { addr: Some("2001:db8::9".parse().unwrap()), ..Forwarded::default() };
    let text = written(&Trace { forwarded: Some(&forwarded), ..trace(&later) });
    assert!(
        text.starts_with("Received: from [IPv6:2001:db8::7] ([IPv6:2001:db8::7])\r\n\t(forwarded for [IPv6:2001:db8::9])\r\n"),
        "{text}"
    );
    later.helo = Some(Told::Known("[192.0.2.1]".into()));
    assert!(written(&trace(&later)).starts_with("Received: from [192.0.2.1] ([IPv6:2001:db8::7])\r\n"));
    assert!(written(&trace(&origin("[::ffff:192.0.2.1]:1"))).starts_with("Received: from [192.0.2.1] ([192.0.2.1])\r\n"));
}

#[test]
fn upstream_is_told_as_far_as_it_told() {
    let origin = origin("192.0.2.10:4711");
    let word = |text: &str| Some(Box::from(text));
    for (forwarded, expected) in [
        (Forwarded::default(), None),
        (Forwarded { port: Some(25), proto: word("ESMTP"), ..Forwarded::default() }, None),
        (Forwarded { name: word("up.example"), ..Forwarded::default() }, Some("(forwarded for up.example)")),
        (Forwarded { helo: word("h"), ..Forwarded::default() }, Some("(forwarded for unknown helo=h)")),
        (Forwarded { ident: word("1(2"), ..Forwarded::default() }, Some("(forwarded for unknown id=1?2)")),
        (
            Forwarded { helo: word("[x]"), ident: word("1"), ..Forwarded::default() },
            Some("(forwarded for unknown helo=?x? id=1)"),
        ),
    ] {
        let text = written(&Trace { forwarded: Some(&forwarded), ..trace(&origin) });
        let line = text.lines().find(|line| line.contains("forwarded"));
        assert_eq!(line.map(str::trim), expected, "{text}");
    }
}

#[test]
fn the_session_of_a_proxy_in_front_can_be_found() {
    let origin = origin("192.0.2.10:4711");
    let text = written(&Trace { id: "hCZABtj0/2q9bAAAg+2BzDdQ:P1", ..trace(&origin) });
    assert!(text.contains(" id hCZABtj0/2q9bAAAg+2BzDdQ:P1\r\n"), "{text}");
}

#[test]
fn nothing_a_peer_says_means_anything() {
    let mut evil = origin("192.0.2.10:4711");
    evil.helo = Some(Told::Known("a b) (c\\".into()));
    evil.host_name = Some(Told::Known("x\r\nBcc: y\0".into()));
    let text = written(&Trace {
        by: "",
        id: "<a@b>;",
        with: "LMTP (x",
        tls: Some(("TLS)", "\u{e4}")),
        envelope_from: "\"a)\\\"\u{e4}\r\n b\"@example.net",
        ..trace(&evil)
    });
    assert_eq!(
        text,
        "Received: from a?b???c? (x??Bcc??y? [192.0.2.10])\r\n\
         \t(using TLS? with cipher ?)\r\n\
         \tby ? with LMTP??x id ?a?b??\r\n\
         \t(envelope-from <\"a??\"??? b\"@example.net>); Fri, 20 Nov 2026 07:21:56 +0000\r\n"
    );
}

#[test]
fn a_recipient_is_told_as_it_is_or_not_at_all() {
    let origin = origin("192.0.2.10:4711");
    for (with, address, told) in [
        ("LMTP", "alice@example.com", true),
        ("LMTP", "alice", true),
        ("LMTP", "a+b=c/d@[192.0.2.1]", true),
        ("LMTP", "a@[IPv6:2001:db8::1]", true),
        ("LMTP", "\"john doe\"@example.com", true),
        ("LMTP", "\"a@b;<c>\"@example.com", true),
        ("UTF8LMTP", "j\u{f6}rg@b\u{fc}cher.example", true),
        ("utf8lmtpsa", "\"j\u{f6}rg x\"@example.com", true),
        ("LMTP", "j\u{f6}rg@example.com", false),
        ("UTF8LMTP", "a\u{202e}b@example.com", false),
        ("LMTP", "\"a\\\"b\"@example.com", false),
        ("LMTP", "\"a(b\"@example.com", false),
        ("LMTP", "\"@example.com", false),
        ("LMTP", "a b@example.com", false),
        ("LMTP", "a>;@example.com", false),
        ("LMTP", "a@b@example.com", false),
        ("LMTP", "@example.com", false),
        ("LMTP", "a@", false),
        ("LMTP", "a@[x]y]", false),
        ("LMTP", "a\r\n@example.com", false),
        ("LMTP", "", false),
        ("LMTP", &"a".repeat(ADDRESS_MAX), true),
        ("LMTP", &"a".repeat(ADDRESS_MAX + 1), false),
    ] {
        let text = written(&Trace { with, envelope_to: Some(address), ..trace(&origin) });
        // A long one is alone on its line.
        let unfolded = text.replace("\r\n\t", " ");
        assert_eq!(unfolded.contains(&format!(" for <{address}>; {DATE}")), told, "{text}");
        assert_eq!(unfolded.contains(" for "), told, "{text}");
        assert!(text.contains(DATE), "{text}");
    }
    let sender = written(&Trace { with: "UTF8LMTP", envelope_from: "j\u{f6}rg@example.net", ..trace(&origin) });
    assert!(sender.contains("(envelope-from <j\u{f6}rg@example.net>)"), "{sender}");
}

#[test]
fn dates_are_known() {
    for (seconds, offset, expected) in [
        (0, 0, "Thu, 1 Jan 1970 00:00:00 +0000"),
        (1_795_159_316, 0, "Fri, 20 Nov 2026 07:21:56 +0000"),
        (951_782_400, 0, "Tue, 29 Feb 2000 00:00:00 +0000"),
        (951_868_800, 0, "Wed, 1 Mar 2000 00:00:00 +0000"),
        (1_709_251_199, 0, "Thu, 29 Feb 2024 23:59:59 +0000"),
        (4_107_542_399, 0, "Sun, 28 Feb 2100 23:59:59 +0000"),
        (4_107_542_400, 0, "Mon, 1 Mar 2100 00:00:00 +0000"),
        (-2_208_988_800, 0, "Mon, 1 Jan 1900 00:00:00 +0000"),
        (-2_203_891_200, 0, "Thu, 1 Mar 1900 00:00:00 +0000"),
        (253_402_300_799, 0, "Fri, 31 Dec 9999 23:59:59 +0000"),
        (2_147_483_648, 0, "Tue, 19 Jan 2038 03:14:08 +0000"),
        (-1, 0, "Wed, 31 Dec 1969 23:59:59 +0000"),
        (13_574_606_400, 0, "Tue, 29 Feb 2400 12:00:00 +0000"),
        (1_795_159_316, 3600, "Fri, 20 Nov 2026 08:21:56 +0100"),
        (1_795_159_316, 20_700, "Fri, 20 Nov 2026 13:06:56 +0545"),
        (1_795_159_316, -12_600, "Fri, 20 Nov 2026 03:51:56 -0330"),
        (1_795_159_316, -28_800, "Thu, 19 Nov 2026 23:21:56 -0800"),
        (1_795_159_316, 50_400, "Fri, 20 Nov 2026 21:21:56 +1400"),
        // Amsterdam, long ago: no zone of mail has seconds.
        (0, 1172, "Thu, 1 Jan 1970 00:19:00 +0019"),
        (0, -59, "Thu, 1 Jan 1970 00:00:00 +0000"),
        (0, -1, "Thu, 1 Jan 1970 00:00:00 +0000"),
        (0, i32::MAX, "Thu, 1 Jan 1970 23:59:00 +2359"),
        (0, i32::MIN, "Wed, 31 Dec 1969 00:01:00 -2359"),
        (i64::MAX, 3600, "Fri, 31 Dec 9999 23:59:59 +0100"),
        (i64::MIN, 0, "Mon, 1 Jan 1900 00:00:00 +0000"),
    ] {
        assert_eq!(date(seconds, offset), expected, "{seconds} {offset}");
    }
}

#[test]
fn every_day_follows_the_one_before() {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut weekdays = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].into_iter().cycle();
    let mut seconds = -2_208_988_800;
    for year in 1900..=2401 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (month, days) in months.iter().zip([31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            for day in 1..=days {
                let expected = format!("{}, {day} {month} {year} 00:00:00 +0000", weekdays.next().unwrap());
                assert_eq!(date(seconds, 0), expected);
                seconds += 86_400;
            }
        }
    }
}

/// Reads a trace field as a strict reader would: what stands in comments, and what stands outside of them.
fn understood(text: &str) -> Option<(Vec<String>, String)> {
    let body = text.strip_prefix("Received: ")?.strip_suffix("\r\n")?;
    for line in body.split("\r\n").skip(1) {
        (line.starts_with('\t') && !line.trim().is_empty()).then_some(())?;
    }
    let unfolded = body.replace("\r\n", "");
    let (mut comments, mut outside) = (Vec::new(), String::new());
    let (mut comment, mut quoted): (Option<String>, bool) = (None, false);
    for c in unfolded.chars() {
        (!c.is_control() || c == '\t').then_some(())?;
        match (c, &mut comment) {
            ('\\', _) => return None,
            ('(', Some(_)) => return None,
            (')', None) if !quoted => return None,
            ('(', None) if !quoted => comment = Some(String::new()),
            (')', Some(_)) => comments.extend(comment.take()),
            (c, Some(comment)) => comment.push(c),
            (c, None) => {
                quoted ^= c == '"';
                outside.push(c);
            }
        }
    }
    (comment.is_none() && !quoted).then_some((comments, outside))
}

fn any_word() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9.@-]{0,40}", 2 => "[ -~]{0,90}", 1 => ".{0,20}", 1 => "[()\"\\\\<>;\r\n\t@ ]{0,10}", 1 => "[a@.]{200,700}"]
}

proptest! {
    #[test]
    fn whatever_is_said_it_stays_one_field(
        words in proptest::array::uniform10(proptest::option::of(any_word())),
        with in prop_oneof![3 => Just("LMTP".to_owned()), 2 => Just("UTF8LMTPS".to_owned()), 1 => any_word()],
        ip in any::<[u8; 16]>(),
        has_tls: bool,
        has_forwarded: bool,
    ) {
        let [helo, name, by, id, from, to, version, cipher, up, ident] = words;
        let mut origin = origin("192.0.2.1:1");
        origin.client.0.set_ip(ip.into());
        origin.helo = helo.map(|helo| Told::Known(helo.into()));
        origin.host_name = name.map(|name| Told::Known(name.into()));
        let forwarded = Forwarded { name: up.clone().map(Box::from), helo: up.map(Box::from), ident: ident.map(Box::from), ..Forwarded::default() };
        let (by, id, from) = (by.unwrap_or_default(), id.unwrap_or_default(), from.unwrap_or_default());
        let (version, cipher) = (version.unwrap_or_default(), cipher.unwrap_or_default());
        let text = written(&Trace {
            origin: &origin,
            forwarded: has_forwarded.then_some(&forwarded),
            by: &by,
            with: &with,
            id: &id,
            tls: has_tls.then_some((&version, &cipher)),
            envelope_from: &from,
            envelope_to: to.as_deref(),
            date: DATE,
        });
        for line in text.split("\r\n") {
            prop_assert!(line.len() < 998, "{}", line.len());
            prop_assert!(line.len() < 77 || line.trim_start().split(' ').any(|word| word.len() > 20), "{line}");
        }
        prop_assert!(text.is_ascii() || with.to_ascii_uppercase().starts_with("UTF8"), "{text}");
        let (comments, outside) = understood(&text).ok_or_else(|| TestCaseError::fail(text.clone()))?;
        let expected = 2 + usize::from(has_tls) + usize::from(text.contains("\t(forwarded"));
        prop_assert_eq!(comments.len(), expected, "{}", text);
        // From, by, with, id, for and the date, each once and in this order.
        let (clauses, date) = outside.rsplit_once(';').unwrap();
        prop_assert_eq!(date.trim(), DATE);
        let mut words = clauses.split_ascii_whitespace();
        for (keyword, needed) in [("from", true), ("by", true), ("with", true), ("id", true), ("for", false)] {
            let found = words.next();
            prop_assert!(found == Some(keyword) || !needed && found.is_none(), "{}", text);
            prop_assert!(found.is_none() || words.next().is_some(), "{}", text);
        }
        let rest: Vec<_> = words.collect();
        prop_assert!(rest.is_empty() || to.is_some_and(|to| to.starts_with('"')), "{}", text);
        let again = crate::letter::Head::parse(format!("{text}\r\n").into()).unwrap();
        prop_assert_eq!((again.parts().len(), again.fields().count()), (1, 1));
    }

    #[test]
    fn no_moment_is_no_date(seconds: i64, offset: i32) {
        let text = date(seconds, offset);
        prop_assert!((30..=31).contains(&text.len()) && text.is_ascii(), "{text}");
    }
}
