use super::*;

#[test]
fn each_kind_of_server_hears_what_it_lists() {
    let intro = introduction(origin(), Vec::new());
    for (offered, line) in [
        (
            POSTFIX,
            "DESTADDR=198.51.100.1 DESTPORT=587 NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] ADDR=192.0.2.10 PORT=4711 \
             HELO=client.example PROTO=ESMTP LOGIN=joe+2Bx@example.org",
        ),
        (
            DOVECOT,
            "SESSION=sVyHBLBg+2BLN/AAAB TTL=5 ADDR=192.0.2.10 PORT=4711 HELO=client.example PROTO=ESMTP \
             LOGIN=joe+2Bx@example.org",
        ),
        (EXIM, "DESTADDR=198.51.100.1 DESTPORT=587 NAME=[UNAVAILABLE] ADDR=192.0.2.10 PORT=4711 LOGIN=joe+2Bx@example.org"),
    ] {
        let (lines, written) = written(Some(&intro), Some("joe+x@example.org"), offered);
        assert_eq!(lines, [line]);
        assert_eq!(written, Written { vouched: true, left_out: Vec::new() });
    }
    let (lines, written) = written(Some(&intro), Some("joe"), KUMO);
    assert_eq!(lines, ["DESTADDR=198.51.100.1 DESTPORT=587 ADDR=192.0.2.10 PORT=4711"]);
    assert_eq!((written.vouched, written.left_out), (false, vec!["LOGIN".to_owned()]));
}

#[test]
fn addresses_are_spelled_as_each_kind_wants_them() {
    let mut origin = origin();
    origin.client.0 = "[2001:db8::7]:0".parse().unwrap();
    origin.reached.0 = "[::ffff:192.0.2.1]:0".parse().unwrap();
    let intro = introduction(origin, Vec::new());
    for (offered, expected) in [
        ("ADDR PORT DESTADDR DESTPORT PROTO", "DESTADDR=192.0.2.1 ADDR=IPV6:2001:db8::7 PORT=[UNAVAILABLE] PROTO=ESMTP"),
        ("ADDR DESTADDR HELO", "DESTADDR=192.0.2.1 ADDR=IPV6:2001:db8::7 HELO=client.example"),
        (KUMO, "DESTADDR=192.0.2.1 ADDR=2001:db8::7 PORT=[UNAVAILABLE]"),
    ] {
        assert_eq!(written(Some(&intro), None, offered).0, [expected]);
    }
}

#[test]
fn without_an_introduction_only_the_user_is_named() {
    let (lines, told) = written(None, Some("Jörg x"), ALL);
    assert_eq!(lines, ["LOGIN=J+C3+B6rg+20x"]);
    assert_eq!(told, Written { vouched: true, left_out: Vec::new() });
    let nothing = (Vec::new(), Written::default());
    assert_eq!(written(None, None, ALL), nothing);
    assert_eq!(written(Some(&introduction(origin(), Vec::new())), None, "XFOO"), nothing);
}

#[test]
fn a_user_who_cannot_be_named_is_not() {
    for name in ["", " joe", "a\r\nQUIT", "a\0", "\u{202e}a", &"a".repeat(256), "[UNAVAILABLE]", "[tempunavail]"] {
        let (lines, told) = written(None, Some(name), ALL);
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(told, Written { vouched: false, left_out: vec!["LOGIN".to_owned()] });
    }
    assert!(!written(None, Some("joe"), "ADDR PORT PROTO HELO").1.vouched);
}

#[test]
fn names_are_said_where_they_are_names() {
    let mut evil = origin();
    evil.name = Some("not a name".into());
    evil.host_name = Some(Told::Known("a.-b".into()));
    evil.reverse_name = Some(Told::TemporarilyUnavailable);
    evil.helo = Some(Told::Known("Joe's=Mac".into()));
    evil.spoke = Some(MailProtocol::Lmtp);
    let intro = introduction(evil, Vec::new());
    let (lines, told) = written(Some(&intro), None, "NAME REVERSE_NAME HELO PROTO DESTNAME");
    assert_eq!(lines, ["NAME=[UNAVAILABLE] REVERSE_NAME=[TEMPUNAVAIL] HELO=[UNAVAILABLE]"], "Postfix knows no LMTP");
    assert_eq!(told.left_out, ["NAME", "HELO", "DESTNAME"].map(str::to_owned));
    let (lines, told) = written(Some(&intro), None, "PROTO SESSION ADDR");
    assert_eq!(lines, ["SESSION=sVyHBLBg+2BLN/AAAB ADDR=192.0.2.10 PROTO=LMTP"]);
    assert!(told.left_out.is_empty(), "what is not listed is not missed");

    for (helo, fine) in [
        ("client.example", true),
        ("MyPC", true),
        ("my_pc-", true),
        ("[192.0.2.1]", true),
        ("[IPv6:2001:db8::1]", true),
        ("[ipv6:::1]", true),
        ("192.0.2.1", true),
        ("", false),
        ("a..b", false),
        ("a.", false),
        ("a b", false),
        ("a+b", false),
        ("[]", false),
        ("[2001:db8::1]", false),
        ("[IPv6:192.0.2.1]", false),
        ("[192.0.2.1", false),
        ("[UNAVAILABLE]", false),
        ("[TEMPUNAVAIL]", false),
        ("käse.example", false),
    ] {
        assert_eq!(is_helo(helo), fine, "{helo}");
    }
}

#[test]
fn no_more_time_is_asked_for_than_there_is() {
    let mut intro = introduction(origin(), Vec::new());
    for (patience, said) in [(0, "1"), (999, "1"), (1999, "1"), (30_500, "30"), (u64::MAX, "4294967295")] {
        intro.patience = Some(Duration::from_millis(patience));
        assert_eq!(written(Some(&intro), None, "TIMEOUT PROTO").0, [format!("TIMEOUT={said} PROTO=ESMTP")]);
    }
}

/// Four labels of which the last has this length: 193 to 255 octets.
fn long_name(last: usize) -> String {
    let label = "n".repeat(63);
    format!("{label}.{label}.{label}.{}", "n".repeat(last))
}

#[test]
fn the_client_stays_together_in_the_last_command() {
    let mut long = origin();
    long.client.0 = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
    long.reached = crate::origin::ReachedAddr(long.client.0);
    long.name = Some(long_name(63));
    long.transport = Some(Transport::Insecure);
    long.helo = Some(Told::Known(long_name(20).into()));
    let address = "2001:db8:1111:2222:3333:4444:5555:6666";
    let intro = introduction(long.clone(), vec![forward("a", &"x".repeat(200))]);
    let (lines, told) = written(Some(&intro), Some("joe"), ALL);
    assert_eq!(
        lines,
        [
            format!("DESTADDR=IPV6:{address} DESTPORT=65535 SESSION=sVyHBLBg+2BLN/AAAB TTL=5 DESTNAME={}", long_name(63)),
            // This and what follows would be longer than a command.
            format!("FORWARD=YT14{}eA+3D+3D", "eHh4".repeat(66)),
            format!(
                "NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] ADDR=IPV6:{address} PORT=65535 HELO={} PROTO=ESMTP \
                 CLIENT-TRANSPORT=insecure LOGIN=joe",
                long_name(20)
            ),
        ]
    );
    assert_eq!((lines.len(), told.left_out), (3, Vec::new()));

    // One name and HELO are too much: HELO goes. Two names are: the one that nobody confirmed goes. With a long user all go.
    let mut told = |host: usize, reverse: usize, user: &str| {
        long.host_name = Some(Told::Known(long_name(host).into()));
        long.reverse_name = Some(Told::Known(long_name(reverse).into()));
        let (lines, told) =
            written(Some(&introduction(long.clone(), Vec::new())), Some(user), "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN");
        assert!(told.vouched);
        (lines.last().unwrap().clone(), told.left_out)
    };
    let rest = |user: &str| format!("ADDR=IPV6:{address} PORT=65535 PROTO=ESMTP LOGIN={user}");
    let expected = format!("NAME={} REVERSE_NAME=[UNAVAILABLE] {}", long_name(63), rest("joe"));
    assert_eq!(told(63, 63, "joe"), (expected, vec!["HELO".to_owned(), "REVERSE_NAME".to_owned()]));
    let expected = format!("NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] {}", rest(&"j".repeat(255)));
    let all = ["HELO", "REVERSE_NAME", "NAME"].map(str::to_owned).to_vec();
    assert_eq!(told(1, 1, &"j".repeat(255)), (expected, all.clone()));
    // A name like this one is longer than a command by itself. Postfix will say so; Dovecot takes it.
    let expected = format!("NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] {}", rest(&"+C3+A4".repeat(127)));
    assert_eq!(told(1, 1, &"ä".repeat(127)), (expected, all));
}

#[test]
fn exim_hears_everything_in_one_command() {
    let mut long = origin();
    long.host_name = Some(Told::Known(long_name(63).into()));
    let intro = introduction(long, Vec::new());
    let user = "ä".repeat(60);
    let (lines, told) = written(Some(&intro), Some(&user), EXIM);
    let expected = format!(
        "DESTADDR=198.51.100.1 DESTPORT=587 NAME={} ADDR=192.0.2.10 PORT=4711 LOGIN={}",
        long_name(63),
        "+C3+A4".repeat(60)
    );
    assert_eq!(lines, [expected]);
    assert!(told.left_out.is_empty());
    let (lines, told) = written(Some(&intro), Some(&"ä".repeat(127)), EXIM);
    assert!(lines[0].starts_with("DESTADDR=198.51.100.1 DESTPORT=587 NAME=[UNAVAILABLE] ADDR=192.0.2.10 PORT=4711 LOGIN=+C3"));
    assert_eq!(told.left_out, ["NAME"]);
}

#[test]
fn pairs_are_said_as_far_as_one_command_goes() {
    let pairs = vec![forward("first", &"a".repeat(500)), forward("huge", &"b".repeat(500)), forward("small", "c")];
    let mut full = origin();
    full.forward = pairs;
    let intro = introduction(full, vec![forward("o d d", "x"), forward("lines", "a\r\nb"), forward("last", "Käse")]);
    let (lines, told) = written(Some(&intro), None, DOVECOT);
    assert_eq!(told.left_out, ["forward_huge", "forward_o d d", "forward_lines"]);
    assert_eq!(lines.len(), 3);
    let said: Vec<_> = read_all(&lines[1]).unwrap().forward.into_iter().map(|field| field.name).collect();
    assert_eq!(said, ["first", "small", "last"]);

    // Filled to the last octet, whatever is escaped, and never over.
    for offered in ["FORWARD SESSION TTL PROTO", "FORWARD SESSION TTL"] {
        let mut longest = 0;
        for length in 0..900 {
            let (lines, told) = written(Some(&introduction(origin(), vec![forward("f", &"v".repeat(length))])), None, offered);
            if told.left_out.is_empty() {
                longest = longest.max(lines.iter().map(String::len).max().unwrap() + "XCLIENT \r\n".len());
            }
        }
        assert!((LINE_MAX - 8..=LINE_MAX).contains(&longest), "{offered}: {longest}");
    }
}

/// A name of exactly this length.
fn name_of(length: usize) -> String {
    (1..=length).map(|place| if place % 64 == 0 && place < length { '.' } else { 'n' }).collect()
}

#[test]
fn commands_are_filled_to_the_last_octet() {
    for (offered, expected) in [("NAME ADDR PORT HELO PROTO", [1, 1]), ("NAME ADDR PORT HELO PROTO DESTADDR DESTPORT", [1, 2])] {
        let mut longest = 0;
        let mut commands = Vec::new();
        for length in 1..=255 {
            let mut long = origin();
            long.host_name = Some(Told::Known(name_of(230).into()));
            long.helo = Some(Told::Known(name_of(length).into()));
            let (lines, told) = written(Some(&introduction(long, Vec::new())), None, offered);
            let length = lines.iter().map(String::len).max().unwrap() + "XCLIENT \r\n".len();
            assert!(told.left_out.is_empty() || told.left_out == ["HELO"]);
            longest = longest.max(length);
            commands.push(lines.len());
        }
        assert_eq!(longest, COMMAND_MAX - 1, "{offered}");
        assert_eq!([commands.iter().min(), commands.iter().max()], expected.each_ref().map(Some), "{offered}");
    }
}

#[test]
fn who_wants_one_command_gets_what_fits_into_it() {
    let mut long = origin();
    long.name = Some(name_of(255));
    long.host_name = Some(Told::Known(name_of(255).into()));
    long.forward = vec![forward("a", &"x".repeat(30)), forward("b", &"y".repeat(600)), forward("c", "z")];
    let intro = introduction(long, Vec::new());
    let offered = "NAME ADDR PORT LOGIN DESTADDR DESTPORT DESTNAME SESSION TTL FORWARD";
    let mut longest = 0;
    let mut seen = Vec::new();
    for length in 1..=255 {
        let user = format!("{}{}", "+".repeat(length / 2), "u".repeat(length - length / 2));
        let (lines, told) = written(Some(&intro), Some(&user), offered);
        assert!(told.vouched && lines.len() == 1);
        longest = longest.max(lines[0].len() + "XCLIENT \r\n".len());
        assert_eq!(lines[0].contains("DESTNAME="), !told.left_out.iter().any(|name| name == "DESTNAME"));
        seen.extend(told.left_out);
    }
    assert!((LINE_MAX - 8..=LINE_MAX).contains(&longest), "{longest}");
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["DESTNAME", "forward_a", "forward_b", "forward_c"], "the client itself is whole, and hops count");
}

#[test]
fn the_documented_example_is_what_is_said() {
    let session = SessionId::new("hJ2sYw0bqvN1xZkT").unwrap();
    let mut origin = Origin::at_accept("[2001:db8::7]:51200".parse().unwrap(), "198.51.100.5:587".parse().unwrap(), session);
    origin.hops = HopsLeft::said(4);
    origin.helo = Some(Told::Known("laptop.example".into()));
    origin.spoke = Some(MailProtocol::Esmtp);
    origin.transport = Some(Transport::Tls);
    let intro = Introduction { patience: Some(Duration::from_secs(30)), ..introduction(origin, vec![forward("site", "west")]) };
    let (lines, told) = written(Some(&intro), None, listed(false));
    assert_eq!((lines.len(), told.left_out), (1, Vec::new()));
    let documents = include_str!("../../../../../../../docs/forward-identity.md");
    assert!(documents.contains(&format!("\nXCLIENT {}\nEHLO laptop.example\n", lines[0])), "{}", lines[0]);
}

#[test]
fn what_was_not_known_is_not_left_out() {
    let intro = introduction(origin(), Vec::new());
    for (offered, left_out) in [(POSTFIX, &["HELO"][..]), (EXIM, &[])] {
        let (lines, told) = written(Some(&intro), Some(&"ä".repeat(127)), offered);
        assert!(told.vouched && lines.last().unwrap().contains("NAME=[UNAVAILABLE]"));
        assert_eq!(told.left_out, left_out, "{offered}");
    }
}
