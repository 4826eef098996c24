use super::*;

fn known(name: &str) -> Option<Told> {
    Some(Told::Known(name.into()))
}

#[test]
fn everything_is_read() {
    let said = read_all(
        "\t name=client.example  ADDR=IPV6:2001:DB8::5\tPort=4711 proto=esmtp HELO=[IPv6:2001:db8::5] LOGIN=J+c3+b6rg+20x=y \
         DESTADDR=2001:db8::1 DESTPORT=587 REVERSE_NAME=[tempunavail] SESSION=a+2Bb TTL=4000 TIMEOUT=30 \
         FORWARD=Zm9vPWJfYXIJdHdvPXg9eQ+3D+3d DESTNAME=mx_1.example CLIENT-TRANSPORT=TLSv1.3 ",
    );
    let expected = OriginUpdate {
        client_ip: Some("2001:db8::5".parse().unwrap()),
        client_port: Some(4711),
        reached_ip: Some("2001:db8::1".parse().unwrap()),
        reached_port: Some(587),
        reached_name: Some("mx_1.example".into()),
        session: SessionId::new("a+b"),
        hops: Some(HopsLeft::said(255)),
        transport: Some(Transport::Tls),
        forward: vec![forward("foo", "b_ar"), forward("two", "x=y")],
        host_name: known("client.example"),
        reverse_name: Some(Told::TemporarilyUnavailable),
        helo: known("[IPv6:2001:db8::5]"),
        spoke: Some(MailProtocol::Esmtp),
        patience: Some(Duration::from_secs(30)),
        user: known("Jörg x=y"),
    };
    assert_eq!(said, Ok(expected));
}

#[test]
fn what_is_unavailable_says_nothing_or_that_there_is_none() {
    let said = read_all(
        "NAME=[UNAVAILABLE] REVERSE_NAME=[Unavailable] ADDR=[UNAVAILABLE] PORT=[unavailable] HELO=[UNAVAILABLE] \
         LOGIN=[UNAVAILABLE] DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE] DESTNAME=[UNAVAILABLE] SESSION=[UNAVAILABLE] \
         TTL=[UNAVAILABLE] TIMEOUT=[UNAVAILABLE] FORWARD=[UNAVAILABLE] CLIENT-TRANSPORT=[UNAVAILABLE]",
    );
    let none = Some(Told::Unavailable);
    let expected = OriginUpdate {
        host_name: none.clone(),
        reverse_name: none.clone(),
        helo: none.clone(),
        user: none,
        ..OriginUpdate::default()
    };
    assert_eq!(said, Ok(expected));
    let said = read_all("NAME=[TEMPUNAVAIL] REVERSE_NAME=[tempunavail]").unwrap();
    assert_eq!((said.host_name, said.reverse_name), (Some(Told::TemporarilyUnavailable), Some(Told::TemporarilyUnavailable)));
}

#[test]
fn one_malformed_value_refuses_all() {
    let long = |length| "a".repeat(length);
    for (attribute, whys) in [
        ("FOO=bar", "unknown attribute"),
        ("NAMEX=x", "unknown attribute"),
        ("NAME", "attribute=value expected"),
        ("NAME=", "attribute=value expected"),
        ("LOGIN=", "attribute=value expected"),
        ("PORT=1", "said twice"),
        ("port=25", "said twice"),
        (&format!("HELO={}", long(256)), "value too long"),
        (&format!("SESSION={}", "+41".repeat(86)), "value too long"),
        (&format!("LOGIN={}", "+41".repeat(256)), "value too long"),
    ] {
        let name = attribute.split('=').next().unwrap_or_default().to_owned();
        let expected = Err(Malformed::Attribute { name, why: whys });
        assert_eq!(read_all(&format!("PORT=25 {attribute} TTL=3")), expected, "{attribute}");
    }
    let nameless = Err(Malformed::Attribute { name: "=x".to_owned(), why: "unknown attribute" });
    assert_eq!(read_all("=x"), nameless);
    for (name, values) in [
        (
            "NAME",
            &[
                "bad_name..x",
                "-foo",
                "a.-foo",
                "foo-",
                "foo-.b",
                ".a",
                "a.",
                "192.0.2.1",
                "12",
                "a/b",
                "[192.0.2.1]",
                "a+20b",
                "a+C3+A4",
                &long(64),
                "[TEMPUNAVAI",
            ][..],
        ),
        (
            "ADDR",
            &["foo", "999.1.1.1", "192.0.2.01", "[192.0.2.1]", "[2001:db8::1]", "IPV6:192.0.2.1", "IPV6:", "IPV4:192.0.2.1"],
        ),
        ("ADDR", &["fe80::1+25eth0", "fe80::1%eth0", "IPV6:IPV6:::1", "[TEMPUNAVAIL]", "unknown", "192.0.2.1:25", "0x7f.1"]),
        ("DESTADDR", &["foo", "[TEMPUNAVAIL]", "IPV6:192.0.2.1"]),
        ("DESTPORT", &["x", "0", "65536", "+2B25", "-1", "[TEMPUNAVAIL]", "123456", "99999999999999999999"]),
        ("PROTO", &["HTTP", "ESMTPS", "[UNAVAILABLE]", "[TEMPUNAVAIL]"]),
        (
            "HELO",
            &["[TEMPUNAVAIL]", "a+20b", "a+09b", "a+0D+0AX-Inj:+20y", "a+00", "a+7F", "a+C3+A4", "a+zzb+4", "a+4", "a+", "+"],
        ),
        (
            "LOGIN",
            &["[TEMPUNAVAIL]", "[tempunavail]", "a+00b", "joe+0D+0AX:+20y", "joe+0A", "a+1B", "+FF", "+C0+AF", "+ED+A0+80"],
        ),
        ("LOGIN", &["+20joe", "joe+20", "a+C2+85", "a+E2+80+AE", "a+4", "a+g0", "a+", "a\u{f6}", "a\u{7f}"]),
        ("LOGIN", &["+5BUNAVAILABLE+5D", "[unavailable+5d", "+5bTEMPUNAVAIL]"]),
        ("SESSION", &["a+22b", "a+5Cb", "a\"b", "a+20b", &long(65), "[TEMPUNAVAIL]"]),
        ("TTL", &["x", "-1", "1.5", "+2B1", "999999999999999999999", "[TEMPUNAVAIL]"]),
        ("TIMEOUT", &["x", "0", "000", "-1", "1.5", "4294967296", "[TEMPUNAVAIL]"]),
        ("DESTNAME", &["a..b", "evil\\", "a+20b", "[TEMPUNAVAIL]"]),
        ("CLIENT-TRANSPORT", &["TLS+20x", "TLS+0A", "[TEMPUNAVAIL]"]),
        ("FORWARD", &["Zm9v!", "Zm9vPWJhcg", "Zm9vPWJhch=="]),
    ] {
        for value in values {
            let expected = Err(Malformed::Attribute { name: name.to_owned(), why: "malformed value" });
            assert_eq!(read_all(&format!("PORT=25 {name}={value} ADDR=192.0.2.1")), expected, "{name}={value}");
        }
    }
}

#[test]
fn limits_are_met_exactly() {
    let label = "n".repeat(63);
    let name = [label.as_str(); 4].join(".");
    for fine in [
        format!("NAME={name}"),
        format!("NAME={label}.example"),
        "NAME=x_y.test".to_owned(),
        "NAME=_dmarc.3com.0".to_owned(),
        format!("HELO={}", "a".repeat(255)),
        format!("HELO={}", "+61".repeat(85)),
        "HELO=a+2Bb+3Dc=d".to_owned(),
        "HELO=<a;b>()\\\"".to_owned(),
        format!("LOGIN={}", "+c3+A4".repeat(127)),
        format!("LOGIN={}", "+41".repeat(255)),
        format!("SESSION={}", "+2B".repeat(64)),
        "PORT=65535 DESTPORT=1".to_owned(),
        "PORT=00025".to_owned(),
        "TIMEOUT=4294967295".to_owned(),
        "TTL=0".to_owned(),
        "PROTO=lmtp".to_owned(),
        "CLIENT-TRANSPORT=insecure".to_owned(),
        "ADDR=2001:db8::1 DESTADDR=iPv6:2001:db8::2".to_owned(),
    ] {
        assert!(read_all(&fine).is_ok(), "{fine}");
    }
    for (text, ip) in [
        ("IPV6:::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("IPV6:2001:DB8:0:0::1", "2001:db8::1"),
        ("+31+39+32.0.2.1", "192.0.2.1"),
    ] {
        assert_eq!(read_all(&format!("ADDR={text}")).unwrap().client_ip, Some(ip.parse().unwrap()), "{text}");
    }
    let pairs = crate::encode::base64_encode(format!("a={}", "x".repeat(1024)).as_bytes());
    let forward = format!("FORWARD={}", String::from_utf8_lossy(pairs.expose()).replace('=', "+3D"));
    assert_eq!(read_all(&forward).unwrap().forward.len(), 1, "its own limit is that of the line");
    let blanks = format!("{}PORT=1", " ".repeat(READ_MAX - 6));
    assert!(read_all(&blanks).is_ok());
    let too_long = Malformed::Attribute { name: "XCLIENT".into(), why: "line too long" };
    assert_eq!(read_all(&format!(" {blanks}")), Err(too_long));
}

#[test]
fn who_may_not_vouch_may_say_that_nobody_has_signed_in() {
    let stranger = Rules { may_vouch: false, as_exim: false };
    for refused in ["LOGIN=joe", "login=joe ADDR=192.0.2.1", "ADDR=192.0.2.1 LOGIN=+zz", "LOGIN=[TEMPUNAVAIL]"] {
        assert_eq!(read(refused.as_bytes(), stranger), Err(Malformed::MayNotVouch), "{refused}");
    }
    let said = read(b"LOGIN=[UNAVAILABLE] PORT=1", stranger).unwrap();
    assert_eq!((said.user, said.client_port), (Some(Told::Unavailable), Some(1)));
    for wrong in ["LOGIN=", "LOGIN", "PORT=x LOGIN=joe", "LOGIN=[UNAVAILABLE] LOGIN=joe"] {
        assert!(matches!(read(wrong.as_bytes(), stranger), Err(Malformed::Attribute { .. })), "{wrong}");
    }
}

#[test]
fn exim_wants_address_and_port_at_once() {
    let exim = Rules { may_vouch: false, as_exim: true };
    for fine in ["ADDR=192.0.2.1 PORT=25", "port=25 name=a addr=2001:db8::1", "ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]"] {
        assert!(read(fine.as_bytes(), exim).is_ok(), "{fine}");
    }
    for less in ["ADDR=192.0.2.1", "PORT=25", "NAME=[TEMPUNAVAIL]", "ADDR=192.0.2.1 NAME=[UNAVAILABLE] DESTPORT=25"] {
        assert_eq!(read(less.as_bytes(), exim), Err(Malformed::NeedsAddressAndPort), "{less}");
    }
    for nothing in ["", " ", "\t \t"] {
        assert!(no_operand(nothing.as_bytes()));
        assert_eq!(read(nothing.as_bytes(), exim), Err(Malformed::NoOperand));
    }
    assert!(!no_operand(b" ="));
}

#[test]
fn reasons_are_fit_to_be_told() {
    let evil = read(b"X\r\n250 ok\x1b\xff=joe", ALL_RIGHTS).unwrap_err().to_string();
    assert_eq!(evil, "unknown attribute: X\\x0d\\x0a250");
    let long = read(&[b'X'; 4000], ALL_RIGHTS).unwrap_err().to_string();
    assert_eq!(long, format!("unknown attribute: {}...", "X".repeat(29)));
    assert!(!read_all("LOGIN=joe+0Asecret").unwrap_err().to_string().contains("secret"));
}

#[test]
fn what_known_peers_say_is_understood() {
    let dovecot = "HELO=client.example PROTO=ESMTP TTL=2 PORT=4711 ADDR=2001:db8::7 SESSION=a+2Bb FORWARD=Y29sb3VyPWJsdWU+3D";
    let expected = OriginUpdate {
        client_ip: Some("2001:db8::7".parse().unwrap()),
        client_port: Some(4711),
        session: SessionId::new("a+b"),
        hops: Some(HopsLeft::said(2)),
        forward: vec![forward("colour", "blue")],
        helo: known("client.example"),
        spoke: Some(MailProtocol::Esmtp),
        ..OriginUpdate::default()
    };
    assert_eq!(read_all(dovecot), Ok(expected));
    // One that knows nothing of its client but where it is.
    let said = read_all("HELO=[UNAVAILABLE] PROTO=ESMTP LOGIN=[UNAVAILABLE] TTL=4 PORT=25 ADDR=192.0.2.1 SESSION=x").unwrap();
    assert_eq!((said.helo, said.user), (Some(Told::Unavailable), Some(Told::Unavailable)));

    let nginx = read_all("ADDR=192.0.2.10 LOGIN=alice NAME=[UNAVAILABLE]").unwrap();
    assert_eq!((nginx.user, nginx.host_name), (known("alice"), Some(Told::Unavailable)));
    // Before 1.29.2 it escapes nothing. A plus that happens to be followed by two hexadecimal digits is another name then, and
    // nobody can tell; every other is refused, and so is a name with a blank, which would say more than a name.
    assert_eq!(read_all("ADDR=192.0.2.10 LOGIN=joe+41@a NAME=[UNAVAILABLE]").unwrap().user, known("joeA@a"));
    assert!(read_all("ADDR=192.0.2.10 LOGIN=joe+news@a NAME=[UNAVAILABLE]").is_err());
    assert!(read_all("ADDR=192.0.2.10 LOGIN=joe NAME=x NAME=[UNAVAILABLE]").is_err());
    // At a unix socket its client has no address.
    assert!(read_all("ADDR=unix: NAME=[UNAVAILABLE]").is_err());
}
