use super::*;
use crate::origin::{ClientAddr, HopsLeft, ReachedAddr, Transport};
use proptest::prelude::*;

fn origin() -> Origin {
    let session = SessionId::new("sVyHBLBgcLN/AAAB").unwrap();
    let mut origin = Origin::at_accept("127.0.0.1:45936".parse().unwrap(), "127.0.0.1:10110".parse().unwrap(), session);
    origin.hops = HopsLeft::said(4);
    origin.transport = None;
    origin
}

fn forward(name: &str, value: &str) -> ForwardField {
    ForwardField { name: name.into(), value: value.into() }
}

fn introduction(origin: Origin, forward: Vec<ForwardField>) -> Introduction {
    Introduction { origin, client_id: Vec::new(), forward, patience: None }
}

fn written(intro: &Introduction) -> (String, Vec<String>) {
    let mut out = BytesMut::new();
    let left_out = write_plain(intro, &mut out);
    let line = String::from_utf8(out.to_vec()).unwrap();
    assert!(line.len() <= LINE_MAX, "{}", line.len());
    let text = line.strip_suffix("\r\n").unwrap().to_owned();
    assert!(!text.contains(|c: char| c.is_control()), "{text}");
    (text, left_out)
}

fn read_back(line: &str) -> Result<OriginUpdate, Fault> {
    read_plain(line.strip_prefix("XCLIENT ").unwrap().as_bytes())
}

fn forwarded(octets: &[u8]) -> Result<OriginUpdate, Fault> {
    read_plain(format!("FORWARD={}", String::from_utf8_lossy(base64_encode(octets).expose())).as_bytes())
}

#[test]
fn is_written_in_the_known_order() {
    let (line, left_out) = written(&introduction(origin(), Vec::new()));
    assert_eq!(line, "XCLIENT ADDR=127.0.0.1 PORT=45936 DESTADDR=127.0.0.1 DESTPORT=10110 SESSION=sVyHBLBgcLN/AAAB TTL=4");
    assert!(left_out.is_empty());

    let mut all = origin();
    all.client = ClientAddr("[2001:db8::7]:0".parse().unwrap());
    all.reached = ReachedAddr("[::ffff:192.0.2.1]:995".parse().unwrap());
    all.transport = Some(Transport::Tls);
    all.name = Some("pop.example.com".into());
    all.forward = vec![forward("foo", "b_ar")];
    let (line, left_out) = written(&introduction(all, vec![forward("TWO", "x=y")]));
    assert_eq!(
        line,
        "XCLIENT ADDR=2001:db8::7 DESTADDR=192.0.2.1 DESTPORT=995 SESSION=sVyHBLBgcLN/AAAB TTL=4 CLIENT-TRANSPORT=TLS \
         DESTNAME=pop.example.com FORWARD=Zm9vPWJfYXIJdHdvPXg9eQ=="
    );
    assert!(left_out.is_empty());
}

#[test]
fn what_does_not_fit_is_left_out_and_named() {
    let mut full = origin();
    full.name = Some("not a name".into());
    full.forward = vec![forward("first", &"a".repeat(500)), forward("huge", &"b".repeat(500)), forward("small", "c")];
    let ours = vec![forward("o d d", "x"), forward("lines", "a\r\nb"), forward("tab", "a\tb"), forward("last", "Käse")];
    let (line, left_out) = written(&introduction(full, ours));
    assert_eq!(left_out, ["DESTNAME", "forward_huge", "forward_o d d", "forward_lines", "forward_tab"]);
    let said: Vec<_> = read_back(&line).unwrap().forward.into_iter().map(|field| field.name).collect();
    assert_eq!(said, ["first", "small", "last"]);
}

#[test]
fn the_line_is_filled_to_its_last_octet_and_never_over() {
    let mut longest = origin();
    longest.client = ClientAddr("[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap());
    longest.reached = ReachedAddr("[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap());
    longest.session = SessionId::new(&"s".repeat(64)).unwrap();
    longest.hops = HopsLeft::said(255);
    longest.transport = Some(Transport::Insecure);
    longest.name = Some([&"n".repeat(63); 4].map(|label| label.as_str()).join("."));
    let mut said = 0;
    for length in 0..700 {
        let (line, left_out) = written(&introduction(longest.clone(), vec![forward("f", &"v".repeat(length))]));
        said += usize::from(left_out.is_empty());
        assert!(line.contains(" DESTNAME=nnn"), "identity is never pushed out");
    }
    assert!((300..400).contains(&said), "{said}");
}

#[test]
fn everything_is_read() {
    let said = read_plain(
        b"addr=IPV6:2001:DB8::5  Port=4711 DESTADDR=::ffff:10.0.0.1 DESTPORT=995 DESTNAME=pop.example.com SESSION=abc TTL=4000 \
          CLIENT-TRANSPORT=TLSv1.3 PROTO=POP3 FORWARD=Zm9vPWJfYXIJdHdvPXg9eQ== HELO LOGIN=[unavailable] X=\x01 ",
    )
    .unwrap();
    let expected = OriginUpdate {
        client_ip: Some("2001:db8::5".parse().unwrap()),
        client_port: Some(4711),
        reached_ip: Some("10.0.0.1".parse().unwrap()),
        reached_port: Some(995),
        reached_name: Some("pop.example.com".into()),
        session: SessionId::new("abc"),
        hops: Some(HopsLeft::said(255)),
        transport: Some(Transport::Tls),
        forward: vec![forward("foo", "b_ar"), forward("two", "x=y")],
        ..OriginUpdate::default()
    };
    assert_eq!(said, expected);
    for nothing in [&b""[..], b"  ", b"ADDR=[UNAVAILABLE]", b"addr=[Unavailable] TTL=[unavailable]", b"NAME=x", b"FORWARD="] {
        assert!(read_plain(nothing).unwrap().is_empty(), "{}", nothing.escape_ascii());
    }
    for (text, ip) in [("192.0.2.1", "192.0.2.1"), ("::1", "::1"), ("ipv6:::1", "::1"), ("IPV6:::ffff:192.0.2.1", "192.0.2.1")] {
        assert_eq!(read_plain(format!("ADDR={text}").as_bytes()).unwrap().client_ip, Some(ip.parse().unwrap()), "{text}");
    }
    assert_eq!(read_plain(b"TTL=0 CLIENT-TRANSPORT=none").unwrap().transport, Some(Transport::Insecure));
}

#[test]
fn one_malformed_value_refuses_all() {
    for (key, value) in [
        ("ADDR", "999.1.1.1"),
        ("ADDR", ""),
        ("ADDR", "fe80::1%eth0"),
        ("ADDR", "[::1]"),
        ("ADDR", "IPV6:192.0.2.1"),
        ("ADDR", "IPV6:"),
        ("ADDR", "IPV4:192.0.2.1"),
        ("DESTADDR", "pop.example.com"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "+25"),
        ("PORT", ""),
        ("DESTPORT", "x"),
        ("TTL", "-1"),
        ("TTL", ""),
        ("TTL", "999999999999999999999"),
        ("SESSION", ""),
        ("SESSION", "a\"b"),
        ("SESSION", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("DESTNAME", "a..b"),
        ("DESTNAME", "evil\\"),
        ("CLIENT-TRANSPORT", ""),
        ("CLIENT-TRANSPORT", "TLS\u{7f}"),
        ("FORWARD", "Zm9v!"),
        ("FORWARD", "Zm9vPWJhcg"),
        ("FORWARD", "Zm9vPWJhch=="),
    ] {
        let fault = read_plain(format!("PORT=25 {key}={value}").as_bytes()).expect_err(value);
        assert!(fault.detail.contains(key), "{fault}");
        assert!(value.len() < 5 || !fault.detail.contains(value), "values stay out of the log: {fault}");
    }
    for bad in [&b"ADDR"[..], b"PORT TTL=1", b"ADDR=\xff", b"ADDR=192.0.2.1 ADDR=192.0.2.2", b"FORWARD=YT0x FORWARD=YT0y"] {
        assert!(read_plain(bad).is_err(), "{}", bad.escape_ascii());
    }
    assert!(read_plain(b"ADDR=192.0.2.1 ADDR=IPV6:::ffff:192.0.2.1").is_ok(), "saying the same again is no contradiction");
    assert!(read_plain(&[b'x'; READ_MAX]).is_ok());
    assert_eq!(read_plain(&[b'x'; READ_MAX + 1]).expect_err("too big").rule, "identity-too-big");
}

#[test]
fn forwarded_pairs_are_what_the_rules_allow() {
    let fields = |octets: &[u8]| forwarded(octets).unwrap().forward;
    assert_eq!(fields(b"A_long_name_of_more_than_20=1"), [forward("a_long_name_of_more_than_20", "1")]);
    assert_eq!(fields("e\te=\te=ä=".as_bytes()), [forward("e", ""), forward("e", ""), forward("e", "ä=")]);
    for bad in [
        &b"=x"[..],
        b"a b=x",
        b"a=x\t",
        b"\t",
        b"a=\r\nQUIT",
        b"a=\0",
        b"a=\xff",
        // Escapes that do not exist, and those that stand for what no value may hold.
        b"a=\x01",
        b"a=\x01x",
        b"a=\x01\x01",
        b"a=\x011",
        b"a=\x01t",
        b"a=\x01r\x01n",
        b"a=\x010",
    ] {
        let fault = forwarded(bad).expect_err("malformed");
        assert!(fault.detail.contains("FORWARD"), "{}", bad.escape_ascii());
    }
    assert!(forwarded(format!("a={}", "x".repeat(1024)).as_bytes()).is_ok());
    assert!(forwarded(format!("a={}", "x".repeat(1025)).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn escapes_are_undone(pair in "[\\x00-\\x20a-zä]{0,20}") {
        let escaped = tab_escaped(&pair);
        prop_assert!(!escaped.contains(['\t', '\r', '\n', '\0']));
        prop_assert_eq!(tab_unescaped(&escaped), Some(pair));
    }

    #[test]
    fn what_is_written_is_read_back(origin in any_origin()) {
        let (line, left_out) = written(&introduction(origin.clone(), Vec::new()));
        let said = read_back(&line).unwrap();
        let carried: Vec<ForwardField> =
            origin.forward.iter().filter(|field| !left_out.contains(&format!("forward_{}", field.name))).cloned().collect();
        let expected = OriginUpdate {
            client_ip: Some(origin.client.0.ip()),
            client_port: Some(origin.client.0.port()).filter(|port| *port != 0),
            reached_ip: Some(origin.reached.0.ip()),
            reached_port: Some(origin.reached.0.port()).filter(|port| *port != 0),
            reached_name: origin.name.clone(),
            session: Some(origin.session.clone()),
            hops: Some(origin.hops),
            transport: origin.transport,
            forward: carried,
            ..OriginUpdate::default()
        };
        prop_assert_eq!(said, expected);
        for field in origin.forward.iter().filter(|field| left_out.contains(&format!("forward_{}", field.name))) {
            let control = field.value.chars().any(char::is_control);
            prop_assert!(control || line.len() + (field.value.len() + field.name.len()) * 4 / 3 + 12 > LINE_MAX, "{line}");
        }
    }

    #[test]
    fn reading_never_panics(words in proptest::collection::vec(
        ("(?i)(addr|port|destaddr|destport|destname|session|ttl|client-transport|forward|x)=?", any::<Vec<u8>>()), 0..8)) {
        let line: Vec<u8> = words.into_iter().flat_map(|(key, value)| [key.into_bytes(), value, vec![b' ']].concat()).collect();
        let _ = read_plain(&line);
        let _ = forwarded(&line);
    }
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(|b| unmapped(IpAddr::from(b)))]
}

prop_compose! {
    fn any_origin()(
        client in any_ip(), client_port in any::<u16>(), reached in any_ip(), reached_port in any::<u16>(),
        session in "[!#-\\[\\]-~]{1,64}", hops in 1u32..=255,
        transport in proptest::sample::select(&[None, Some(Transport::Tls), Some(Transport::Insecure)][..]),
        name in proptest::option::of("[a-z0-9-]{1,63}(\\.[a-z0-9_-]{1,63}){0,2}"),
        forward in proptest::collection::vec(".{0,200}", 0..8),
    ) -> Origin {
        let mut origin = Origin::at_accept(
            SocketAddr::new(client, client_port),
            SocketAddr::new(reached, reached_port),
            SessionId::new(&session).unwrap(),
        );
        origin.hops = HopsLeft::said(hops);
        origin.transport = transport;
        origin.name = name;
        // Each under a name of its own, so that what was left out can be told.
        let named = |(index, value)| ForwardField { name: format!("name_{index}.x"), value };
        origin.forward = forward.into_iter().enumerate().map(named).collect();
        origin
    }
}
