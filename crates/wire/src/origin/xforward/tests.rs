use super::*;
use crate::origin::trust::TrustedNets;
use crate::origin::{SessionId, TrustedPeer};
use proptest::prelude::*;

const POSTFIX: &str = "NAME ADDR PROTO HELO SOURCE PORT IDENT";

fn proof() -> TrustedPeer {
    TrustedNets::new(vec!["127.0.0.1/32".parse().unwrap()]).admit("127.0.0.1".parse().unwrap()).unwrap()
}

fn heard(attributes: &str) -> Result<Forwarded, Malformed> {
    read(attributes.as_bytes()).map(|said| said.believed(&proof()))
}

fn known() -> Forwarded {
    Forwarded {
        name: Some("up.test".into()),
        addr: Some("198.51.100.9".parse().unwrap()),
        port: Some(1234),
        proto: Some("ESMTP".into()),
        helo: Some("up.helo".into()),
        ident: Some("ABCDEF123".into()),
        source: Some(Source::Remote),
    }
}

/// The commands without XFORWARD and CRLF.
fn written(forwarded: &Forwarded, offered: Offered) -> Vec<String> {
    let mut out = BytesMut::from(&b"before\r\n"[..]);
    let commands = write(forwarded, offered, &mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let text = text.strip_prefix("before\r\n").unwrap();
    assert!(text.is_empty() || text.ends_with("\r\n"), "{text}");
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), commands);
    for line in &lines {
        assert!(line.len() + 2 < COMMAND_MAX && line.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{line}");
    }
    lines.into_iter().map(|line| line.strip_prefix("XFORWARD ").unwrap().to_owned()).collect()
}

/// What a next server knows after all commands.
fn merged(lines: &[String]) -> Said {
    let mut said = Said::default();
    for line in lines {
        said.add(read(line.as_bytes()).unwrap_or_else(|why| panic!("{why}: {line}")));
    }
    said
}

#[test]
fn all_that_is_listed_is_known() {
    let all = Offered::read(LISTED);
    assert_eq!(ATTRIBUTES.map(|(_, name)| name).join(" "), LISTED, "and said in this order");
    assert!(ATTRIBUTES.iter().all(|(attribute, _)| all.lists(*attribute)));
    assert_eq!(Offered::read(&POSTFIX.to_ascii_lowercase()), all);
    assert!(Offered::read(" XFOO  name=x = LOGIN").is_empty());
    assert!(!Offered::read("x\tSource").is_empty());
}

#[test]
fn commands_accumulate_and_the_later_counts() {
    let mut said = read(b"NAME=up.test ADDR=198.51.100.9 PORT=1234 PROTO=ESMTP").unwrap();
    said.add(read(b"\t helo=up.helo  Ident=ABCDEF123\tSOURCE=remote ").unwrap());
    assert_eq!(said.believed(&proof()), known());
    said.add(read(b"NAME=[unavailable] PORT=25").unwrap());
    assert_eq!(said.believed(&proof()), Forwarded { name: None, port: Some(25), ..known() });
    said.add(Said::default());
    assert_eq!(said.believed(&proof()), Forwarded { name: None, port: Some(25), ..known() });
    let all = "NAME=b.test ADDR=IPV6:2001:db8::1 PORT=2 PROTO=LMTP HELO=b IDENT=2 SOURCE=LOCAL";
    said.add(read(all.as_bytes()).unwrap());
    assert_eq!(Ok(said.believed(&proof())), heard(all));
}

#[test]
fn what_was_not_said_is_unknown() {
    assert!(Said::default().is_empty());
    let said = read(b"NAME=up.test").unwrap();
    assert_eq!(said.believed(&proof()), Forwarded { name: Some("up.test".into()), ..Forwarded::default() });
    let said = read(
        b"NAME=[UNAVAILABLE] ADDR=[Unavailable] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] \
          IDENT=[UNAVAILABLE] SOURCE=[unavailable]",
    )
    .unwrap();
    assert!(!said.is_empty(), "that nothing is known was said");
    assert_eq!(said.believed(&proof()), Forwarded::default());
}

#[test]
fn one_malformed_value_refuses_all() {
    for nothing in ["", " ", "\t \t"] {
        assert!(no_operand(nothing.as_bytes()));
        assert_eq!(heard(nothing), Err(Malformed::NoOperand));
    }
    assert!(!no_operand(b" ="));
    let long = "a".repeat(256);
    for (attribute, why) in [
        ("FOO=x", "unknown attribute"),
        ("LOGIN=joe", "unknown attribute"),
        ("REVERSE_NAME=a.example", "unknown attribute"),
        ("DESTADDR=192.0.2.1", "unknown attribute"),
        ("DESTPORT=25", "unknown attribute"),
        ("SESSION=x", "unknown attribute"),
        ("DOMAIN=LOCAL", "unknown attribute"),
        ("NAME", "attribute=value expected"),
        ("NAME=", "attribute=value expected"),
        ("SOURCE=", "attribute=value expected"),
        ("FOO", "unknown attribute"),
        ("port=25", "said twice"),
        ("PORT=1234", "said twice"),
        ("PORT=[UNAVAILABLE]", "said twice"),
        (&format!("HELO={long}"), "value too long"),
        (&format!("IDENT={}", "+41".repeat(86)), "value too long"),
        (&format!("NAME={long}"), "value too long"),
    ] {
        let name = attribute.split('=').next().unwrap_or_default().to_owned();
        let expected = Err(Malformed::Attribute { name, why });
        assert_eq!(heard(&format!("PORT=25 {attribute} ADDR=192.0.2.1")), expected, "{attribute}");
    }
    assert_eq!(heard("=x"), Err(Malformed::Attribute { name: "=x".to_owned(), why: "unknown attribute" }));
    for (name, values) in [
        ("NAME", &["bad_name..x", "-foo", "a.-foo", "foo-", ".a", "a.", "192.0.2.1", "12", "[192.0.2.1]", "a/b", "a+20b"][..]),
        ("NAME", &["a+C3+A4", "[TEMPUNAVAI", "a+2Eb+00", &"a".repeat(64)]),
        ("ADDR", &["bad", "999.1.1.1", "192.0.2.01", "[192.0.2.1]", "2001:db8::1", "::ffff:192.0.2.1", "[2001:db8::1]"]),
        ("ADDR", &["IPV6:192.0.2.1", "IPV6:", "IPV4:192.0.2.1", "IPV6:IPV6:::1", "IPV6:fe80::1%eth0", "unknown", "192.0.2.1:25"]),
        ("PORT", &["x", "0", "65536", "99999", "123456", "000025", "-1", "+2B25", "1.5"]),
        ("PROTO", &[&"p".repeat(65), "ES+20MTP", "SMTP(x)"]),
        ("SOURCE", &["foo", "LOCALS", "+5BUNAVAILABLE]"]),
    ] {
        for value in values {
            let expected = Err(Malformed::Attribute { name: name.to_owned(), why: "malformed value" });
            assert_eq!(heard(&format!("HELO=x {name}={value} IDENT=1")), expected, "{name}={value}");
        }
    }
}

#[test]
fn no_attribute_carries_what_means_something_elsewhere() {
    for value in [
        "[TEMPUNAVAIL]",
        "[tempunavail]",
        // Absent to those who look after decoding, a name to those who look before.
        "+5BUNAVAILABLE+5D",
        "[unavailable+5d",
        "+5bTEMPUNAVAIL]",
        // No xtext.
        "a+zzb+4",
        "a+4",
        "a+",
        "+",
        "a\u{f6}",
        "a\u{7f}",
        "a\u{0}",
        "a\u{1b}",
        // Controls, and what is no ASCII.
        "a+00b",
        "a+0D+0AX-Inj:+20y",
        "a+0A",
        "a+09b",
        "a+1B",
        "a+7F",
        "a+C3+A4",
        "a+FF",
        "a+C2+85",
        // What means something in a header field.
        "a+20b",
        "<a",
        "a>",
        "(a",
        "a)",
        "a\\b",
        "a\"b",
        "a;b",
        "a@b",
        "a+3Cb",
        "a+28b",
        "a+5Cb",
        "a+40b",
    ] {
        for (_, name) in ATTRIBUTES {
            let expected = Err(Malformed::Attribute { name: name.to_owned(), why: "malformed value" });
            assert_eq!(heard(&format!("{name}={value}")), expected, "{name}={value}");
        }
    }
}

#[test]
fn limits_are_met_exactly() {
    let long = "a".repeat(255);
    for fine in [
        format!("PROTO={}", "p".repeat(64)),
        format!("PROTO={}", "+70".repeat(64)),
        format!("HELO={long} IDENT={long}"),
        format!("HELO={}", "+61".repeat(85)),
        format!("NAME={}", ["n".repeat(63).as_str(); 4].join(".")),
        "NAME=x_y.test".to_owned(),
        "PORT=1".to_owned(),
        "PORT=65535".to_owned(),
        "PORT=00025".to_owned(),
        "HELO=[IPv6:2001:db8::1]".to_owned(),
        "IDENT=a+2Bb+3dc=d/e?".to_owned(),
    ] {
        assert!(heard(&fine).is_ok(), "{fine}");
    }
    for (text, ip) in [
        ("192.0.2.7", "192.0.2.7"),
        ("IPV6:2001:DB8:0:0::1", "2001:db8::1"),
        ("ipv6:2001:db8::2", "2001:db8::2"),
        ("IPv6:::ffff:192.0.2.7", "192.0.2.7"),
        ("+31+39+32.0.2.1", "192.0.2.1"),
    ] {
        assert_eq!(heard(&format!("addr={text}")).unwrap().addr, Some(ip.parse().unwrap()), "{text}");
    }
    for (text, source) in [("LOCAL", Some(Source::Local)), ("local", Some(Source::Local)), ("Remote", Some(Source::Remote))] {
        assert_eq!(heard(&format!("SOURCE={text}")).unwrap().source, source, "{text}");
    }
    let blanks = format!("{}PORT=1", " ".repeat(READ_MAX - 6));
    assert!(heard(&blanks).is_ok());
    assert_eq!(heard(&format!(" {blanks}")), Err(Malformed::Attribute { name: "XFORWARD".into(), why: "line too long" }));
}

#[test]
fn reasons_are_fit_to_be_told() {
    assert_eq!(read(b"").unwrap_err().to_string(), "XFORWARD wants attribute=value");
    let evil = read(b"X\r\n250 ok\x1b\xff=joe").unwrap_err().to_string();
    assert_eq!(evil, "unknown attribute: X\\x0d\\x0a250");
    assert!(!heard("HELO=joe+0Asecret").unwrap_err().to_string().contains("secret"));
}

#[test]
fn what_known_peers_say_is_understood() {
    // Postfix, as a before-queue filter hears it.
    let said = heard("NAME=client.test ADDR=IPv6:2001:db8::77 PORT=4321 HELO=c+2Bd IDENT=[UNAVAILABLE] PROTO=ESMTP SOURCE=LOCAL");
    let expected = Forwarded {
        name: Some("client.test".into()),
        addr: Some("2001:db8::77".parse().unwrap()),
        port: Some(4321),
        proto: Some("ESMTP".into()),
        helo: Some("c+d".into()),
        ident: None,
        source: Some(Source::Local),
    };
    assert_eq!(said, Ok(expected));
}

#[test]
fn what_was_offered_is_said_in_order() {
    let all = "NAME=up.test ADDR=198.51.100.9 PORT=1234 PROTO=ESMTP HELO=up.helo IDENT=ABCDEF123 SOURCE=REMOTE";
    assert_eq!(written(&known(), Offered::read(POSTFIX)), [all]);
    assert_eq!(written(&known(), Offered::read("ident name")), ["NAME=up.test IDENT=ABCDEF123"]);
    assert!(written(&known(), Offered::default()).is_empty());
    let nothing = "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] \
                   IDENT=[UNAVAILABLE]";
    assert_eq!(written(&Forwarded::default(), Offered::read(POSTFIX)), [nothing], "and not a word of SOURCE");
    assert!(written(&Forwarded::default(), Offered::read("SOURCE")).is_empty());
    let local = Forwarded { source: Some(Source::Local), addr: Some("::1".parse().unwrap()), ..Forwarded::default() };
    assert_eq!(written(&local, Offered::read("SOURCE ADDR")), ["ADDR=IPV6:::1 SOURCE=LOCAL"]);
}

#[test]
fn what_nobody_would_take_is_unavailable() {
    for word in [
        "",
        "a b",
        "a\r\nQUIT",
        "x SOURCE=LOCAL",
        "ä",
        "a@b",
        "(a)",
        "[UNAVAILABLE]",
        "[tempunavail]",
        &"a".repeat(256),
        &"+".repeat(86),
    ] {
        let evil = Forwarded {
            name: Some(word.into()),
            proto: Some(word.into()),
            helo: Some(word.into()),
            ident: Some(word.into()),
            port: Some(0),
            ..Forwarded::default()
        };
        let nothing = "NAME=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] IDENT=[UNAVAILABLE]";
        assert_eq!(written(&evil, Offered::read("NAME PORT PROTO HELO IDENT")), [nothing], "{word}");
    }
    let plus = Forwarded { ident: Some("+".repeat(85).into()), ..Forwarded::default() };
    assert_eq!(written(&plus, Offered::read("IDENT")), [format!("IDENT={}", "+2B".repeat(85))]);
    let mapped = Forwarded { addr: Some("::ffff:192.0.2.1".parse().unwrap()), ..Forwarded::default() };
    assert_eq!(written(&mapped, Offered::read("ADDR")), ["ADDR=192.0.2.1"]);
}

#[test]
fn what_is_too_long_for_one_command_is_said_in_more() {
    let long: Box<str> = "a".repeat(255).into();
    let full = Forwarded {
        name: Some(["n".repeat(63).as_str(); 4].join(".").into()),
        helo: Some(long.clone()),
        ident: Some(long),
        ..known()
    };
    let lines = written(&full, Offered::read(LISTED));
    let names: Vec<Vec<_>> =
        lines.iter().map(|line| line.split(' ').filter_map(|word| word.split('=').next()).collect()).collect();
    assert_eq!(names, [vec!["NAME", "ADDR", "PORT", "PROTO"], vec!["HELO"], vec!["IDENT", "SOURCE"]]);
    assert_eq!(merged(&lines).believed(&proof()), full);
    // Filled to the last octet, and never over.
    let longest = (0..=255).flat_map(|length| {
        let helo = Forwarded { helo: Some("h".repeat(length).into()), name: full.name.clone(), ..Forwarded::default() };
        written(&helo, Offered::read("NAME HELO"))
    });
    assert_eq!(longest.map(|line| "XFORWARD \r\n".len() + line.len()).max(), Some(COMMAND_MAX - 1));
}

#[test]
fn our_own_client_is_told_as_it_is_known() {
    let session = SessionId::new("abc").unwrap();
    let mut origin = Origin::at_accept("[::ffff:192.0.2.10]:4711".parse().unwrap(), "198.51.100.1:24".parse().unwrap(), session);
    let expected = Forwarded { addr: Some("192.0.2.10".parse().unwrap()), port: Some(4711), ..Forwarded::default() };
    assert_eq!(Forwarded::of(&origin, "T1"), Forwarded { ident: Some("T1".into()), ..expected.clone() });
    origin.host_name = Some(Told::Known("client.example".into()));
    origin.helo = Some(Told::TemporarilyUnavailable);
    origin.spoke = Some(MailProtocol::Lmtp);
    origin.client.0.set_port(0);
    let expected = Forwarded {
        name: Some("client.example".into()),
        proto: Some("LMTP".into()),
        ident: Some("T2".into()),
        port: None,
        ..expected
    };
    assert_eq!(Forwarded::of(&origin, "T2"), expected);
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(|b| unmapped(IpAddr::from(b)))]
}

/// What can be said, whole.
fn any_forwarded() -> impl Strategy<Value = Forwarded> {
    let word = |octets| proptest::option::of(prop_oneof![3 => "[a-zA-Z0-9.:\\[\\]-]{1,40}", 1 => octets]);
    let long = "[!#-'*-:=?A-\\[\\]-~]{1,85}|[a-z]{200,255}";
    (
        proptest::option::of("[a-z0-9_]{1,63}(\\.[a-z][a-z0-9_-]{0,61}[a-z0-9]){1,2}"),
        proptest::option::of(any_ip()),
        proptest::option::of(1u16..),
        word("[!#-'*-:=?A-\\[\\]-~]{1,64}"),
        word(long),
        word(long),
        proptest::sample::select(&[None, Some(Source::Local), Some(Source::Remote)][..]),
    )
        .prop_map(|(name, addr, port, proto, helo, ident, source)| {
            let word = |word: Option<String>| word.map(|word| word.chars().take(255).collect::<String>().into());
            let proto = proto.map(|proto| proto.chars().take(64).collect());
            Forwarded { name: word(name), addr, port, proto: word(proto), helo: word(helo), ident: word(ident), source }
        })
}

fn restricted(mut forwarded: Forwarded, offered: Offered) -> Forwarded {
    let lacks = |attribute| !offered.lists(attribute);
    forwarded.name.take_if(|_| lacks(Attribute::Name));
    forwarded.addr.take_if(|_| lacks(Attribute::Addr));
    forwarded.port.take_if(|_| lacks(Attribute::Port));
    forwarded.proto.take_if(|_| lacks(Attribute::Proto));
    forwarded.helo.take_if(|_| lacks(Attribute::Helo));
    forwarded.ident.take_if(|_| lacks(Attribute::Ident));
    forwarded.source.take_if(|_| lacks(Attribute::Source));
    forwarded
}

/// Attributes with values that are right, or close to it.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        3 => "[a-z]([a-z0-9]|\\.[a-z]|\\+2[Bb]){0,12}",
        1 => "[0-9]{1,6}",
        1 => any_ip().prop_map(|ip| format!("{}{ip}", if ip.is_ipv6() { "IPV6:" } else { "" })),
        1 => "LOCAL|remote|\\[UNAVAILABLE\\]|\\[TEMPUNAVAIL\\]",
        1 => "([a-z]|\\+[0-9A-Fa-f]{2}){1,12}",
        1 => "[ -~]{0,12}",
    ];
    let name = proptest::sample::select(ATTRIBUTES.to_vec()).prop_map(|(_, name)| name);
    let octets = proptest::option::weighted(0.2, (0usize.., any::<u8>()));
    (proptest::collection::vec((name, value, "[ \t]{1,3}"), 1..4), octets).prop_map(|(words, octet)| {
        let mut line: Vec<u8> =
            words.iter().map(|(name, value, blank)| format!("{name}={value}{blank}")).collect::<String>().into();
        if let Some((at, octet)) = octet {
            line.insert(at % line.len(), octet);
        }
        line
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(forwarded in any_forwarded(), offered in 0u8..128) {
        let offered = Offered(offered);
        let said = merged(&written(&forwarded, offered));
        let source = offered.lists(Attribute::Source) && forwarded.source.is_none();
        prop_assert_eq!(said.heard.0, if source { offered.0 & !Attribute::Source.bit() } else { offered.0 });
        prop_assert_eq!(said.believed(&proof()), restricted(forwarded, offered));
    }

    #[test]
    fn whatever_is_written_can_be_read(words in proptest::array::uniform4(proptest::option::of(".{0,300}")), port: Option<u16>) {
        let [name, proto, helo, ident] = words.map(|word| word.map(Box::from));
        let forwarded = Forwarded { name, proto, helo, ident, port, ..Forwarded::default() };
        let said = merged(&written(&forwarded, Offered::read(LISTED)));
        prop_assert_eq!(said.heard.0 | Attribute::Source.bit(), Offered::read(LISTED).0);
    }

    #[test]
    fn whatever_is_read_is_clean(line in prop_oneof![4 => any_line(), 1 => any::<Vec<u8>>()]) {
        match read(&line) {
            Ok(said) => {
                prop_assert!(!said.is_empty());
                let told = said.believed(&proof());
                for word in [&told.name, &told.proto, &told.helo, &told.ident].into_iter().flatten() {
                    let clean = |octet: u8| octet.is_ascii_graphic() && !b"<>()\\\";@".contains(&octet);
                    prop_assert!(!word.is_empty() && word.bytes().all(clean), "{word}");
                }
                prop_assert!(told.addr.is_none_or(|ip| ip == unmapped(ip)) && told.port != Some(0));
                prop_assert_eq!(merged(&written(&told, Offered::read(LISTED))).believed(&proof()), told, "and can be said again");
            }
            Err(why) => {
                let why = why.to_string();
                prop_assert!(why.len() < 64 && why.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{why}");
            }
        }
    }

    #[test]
    fn one_octet_that_is_not_xtext_spoils_everything(at in 0usize.., octet in any::<u8>()) {
        let octet = if octet.is_ascii_graphic() || matches!(octet, b' ' | b'\t') { octet | 0x80 } else { octet };
        let mut line = b"NAME=a.example ADDR=192.0.2.1 PORT=25 HELO=b.example IDENT=abc".to_vec();
        line.insert(at % (line.len() + 1), octet);
        prop_assert!(read(&line).is_err(), "{}", line.escape_ascii());
    }
}
