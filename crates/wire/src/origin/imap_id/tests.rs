use super::*;
use crate::origin::spelling::NAMED_MAX;
use crate::origin::{ClientAddr, ReachedAddr};
use crate::origin::{HopsLeft, Transport};
use proptest::prelude::*;
use std::net::IpAddr;

fn pair(key: &str, value: &str) -> Pair {
    (key.into(), Some(value.into()))
}

fn origin() -> Origin {
    let session = SessionId::new("sVyHBLBgcLN/AAAB").unwrap();
    let mut origin = Origin::at_accept("127.0.0.1:45936".parse().unwrap(), "127.0.0.1:10143".parse().unwrap(), session);
    origin.hops = HopsLeft::said(4);
    origin
}

fn forward(name: &str, value: &str) -> ForwardField {
    ForwardField { name: name.into(), value: value.into() }
}

fn introduction(origin: Origin) -> Introduction {
    Introduction { origin, client_id: Vec::new(), forward: Vec::new(), patience: None }
}

fn shown(written: &Written) -> String {
    let spell = |(key, value): &Pair| {
        let value = value.as_ref().map_or("NIL".to_owned(), |v| String::from_utf8_lossy(v).into_owned());
        format!("{}={value}", String::from_utf8_lossy(key))
    };
    written.pairs.iter().map(spell).collect::<Vec<_>>().join(" ")
}

#[test]
fn is_written_in_the_known_order() {
    let mut intro = introduction(origin());
    intro.origin.name = Some("imap.example.com".into());
    intro.origin.transport = Some(Transport::Tls);
    intro.origin.forward = vec![forward("foo", "b\"ar"), forward("two", "")];
    intro.forward = vec![forward("foo", "again")];
    intro.client_id = vec![pair("name", "Mutt"), (b"os".to_vec(), None), pair("X-Session-ID", "forged")];
    let written = pairs(&intro);
    assert_eq!(
        shown(&written),
        "name=Mutt os=NIL x-session-id=sVyHBLBgcLN/AAAB x-originating-ip=127.0.0.1 x-originating-port=45936 \
         x-connected-ip=127.0.0.1 x-connected-port=10143 x-proxy-ttl=4 x-client-transport=TLS \
         x-connected-name=imap.example.com x-forward-foo=b\"ar x-forward-two=NIL x-forward-foo=again"
    );
    assert!(written.left_out.is_empty());
}

#[test]
fn what_a_receiver_cannot_take_is_left_out_and_named() {
    let mut intro = introduction(origin());
    intro.origin.name = Some("not a name".into());
    intro.forward = vec![
        forward("twenty_characters_ok", "1"),
        forward("twenty_one_characters", "1"),
        forward("long", &"v".repeat(1001)),
        forward("lines", "a\r\nb"),
        forward("nul", "a\0b"),
        forward("o d d", "1"),
        forward("", "1"),
        forward("fine", "Käse"),
    ];
    intro.client_id = vec![pair("name", "a\r\nA LOGOUT"), pair("a-key-that-has-more-than-30-octets", "x"), pair("", "x")];
    let written = pairs(&intro);
    let sent = shown(&written);
    assert!(sent.ends_with("x-forward-twenty_characters_ok=1 x-forward-fine=Käse"), "{sent}");
    assert_eq!(
        written.left_out,
        [
            "x-connected-name",
            "x-forward-twenty_one_characters",
            "x-forward-long",
            "x-forward-lines",
            "x-forward-nul",
            "x-forward-o d d",
            "x-forward-",
            "name",
            "a-key-that-has-more-than-30-octets",
            "",
        ]
    );
}

#[test]
fn identity_is_never_pushed_out_by_the_rest() {
    let mut intro = introduction(origin());
    intro.client_id = (0..40).map(|n| pair(&format!("key{n}"), "v")).collect();
    intro.forward = (0..40).map(|n| forward(&format!("f{n}"), &"\"".repeat(900))).collect();
    let written = pairs(&intro);
    let octets: usize = written
        .pairs
        .iter()
        .map(|(k, v)| k.len() + v.as_ref().map_or(3, |v| v.iter().map(|b| 1 + usize::from(*b == b'"')).sum()) + 6)
        .sum();
    assert!(octets < 8000, "{octets}");
    assert!(written.pairs.len() <= PAIRS_MAX);
    assert!(written.pairs.iter().any(|(key, _)| key == b"x-client-transport"));
    assert_eq!(written.left_out.len(), NAMED_MAX, "the log line stays short");
}

#[test]
fn two_values_may_need_a_literal() {
    let mut intro = introduction(origin());
    intro.origin.forward = ["ä", "b", "ö", "ü"].into_iter().map(|value| forward("x", value)).collect();
    intro.client_id = vec![pair("name", "é"), pair("os", "plain")];
    let written = pairs(&intro);
    assert!(shown(&written).starts_with("os=plain x-session-id="));
    assert!(shown(&written).ends_with("x-forward-x=ä x-forward-x=b x-forward-x=ö"));
    assert_eq!(written.left_out, ["x-forward-x", "name"]);
}

#[test]
fn unknown_ports_are_not_said_and_mapped_addresses_are_unmapped() {
    let mut intro = introduction(origin());
    intro.origin.client = ClientAddr("[::ffff:192.0.2.7]:0".parse().unwrap());
    intro.origin.reached = ReachedAddr("[2001:db8::1]:993".parse().unwrap());
    let sent = shown(&pairs(&intro));
    assert!(sent.contains("x-originating-ip=192.0.2.7 x-connected-ip=2001:db8::1 x-connected-port=993 "), "{sent}");
}

#[test]
fn keys_are_reserved_in_any_case() {
    for key in RESERVED.iter().copied().chain(["X-Originating-IP", "X-FORWARD-anything", "x-forward-"]) {
        assert!(is_reserved(key.as_bytes()), "{key}");
    }
    for key in ["name", "x-originating", "x-originating-ip ", "originating-ip", "", "x-forward"] {
        assert!(!is_reserved(key.as_bytes()), "{key}");
    }
}

#[test]
fn everything_is_read() {
    let said = read(&[
        pair("name", "\u{1}whatever"),
        pair("X-Originating-IP", "2001:DB8::5"),
        pair("x-originating-port", "4711"),
        pair("x-connected-ip", "::ffff:10.0.0.1"),
        pair("x-connected-port", "993"),
        pair("x-connected-name", "imap.example.com"),
        pair("x-proxy-ttl", "4000"),
        pair("x-session-ext-id", "abc"),
        pair("x-session-id", "abc"),
        pair("x-client-transport", "TLSv1.3"),
        pair("x-multiplex", "0"),
        pair("X-Forward-Tag", "y=Ü"),
        pair("x-forward-tag", ""),
        (b"x-forward-nothing".to_vec(), None),
    ])
    .unwrap();
    let expected = OriginUpdate {
        client_ip: Some("2001:db8::5".parse().unwrap()),
        client_port: Some(4711),
        reached_ip: Some("10.0.0.1".parse().unwrap()),
        reached_port: Some(993),
        reached_name: Some("imap.example.com".into()),
        session: SessionId::new("abc"),
        hops: Some(HopsLeft::said(255)),
        transport: Some(Transport::Tls),
        forward: vec![forward("tag", "y=Ü"), forward("tag", "")],
        ..OriginUpdate::default()
    };
    assert_eq!(said, expected);
    assert_eq!(read(&[pair("x-client-transport", "none")]).unwrap().transport, Some(Transport::Insecure));
    assert!(read(&[(b"x-originating-ip".to_vec(), None), pair("name", "x")]).unwrap().is_empty());
}

#[test]
fn one_malformed_value_refuses_all() {
    let long = "n".repeat(256);
    for (key, value) in [
        ("x-originating-ip", "999.1.1.1"),
        ("x-originating-ip", "fe80::1%eth0"),
        ("x-originating-ip", ""),
        ("x-originating-ip", "10.0.0.1 "),
        ("x-connected-ip", "[::1]"),
        ("x-originating-port", "0"),
        ("x-originating-port", "65536"),
        ("x-originating-port", "+25"),
        ("x-connected-port", "14 3"),
        ("x-connected-port", ""),
        ("x-proxy-ttl", "-1"),
        ("x-proxy-ttl", "four"),
        ("x-proxy-ttl", "999999999999999999999"),
        ("x-session-id", ""),
        ("x-session-id", "a b"),
        ("x-session-id", "a\"b"),
        ("x-session-id", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("x-session-ext-id", "ü"),
        ("x-connected-name", ""),
        ("x-connected-name", "a..b"),
        ("x-connected-name", "a b"),
        ("x-connected-name", "evil\\"),
        ("x-connected-name", &long),
        ("x-forward-a", "x\r\ny"),
        ("x-forward-a", "x\u{7f}"),
        ("x-forward-a", "x\u{85}"),
        ("x-forward-", "x"),
        ("x-forward-a b", "x"),
        ("x-forward-a\"", "x"),
        ("x-forward-twenty_one_characters", "x"),
    ] {
        let fault = read(&[pair("x-originating-port", "25"), pair(key, value)]).unwrap_err();
        assert!(fault.detail.contains(&key.escape_debug().to_string()), "{fault}");
        assert!(value.len() < 5 || !fault.detail.contains(value), "values stay out of the log: {fault}");
    }
    assert!(read(&[(b"x-forward-a".to_vec(), Some(vec![0xff]))]).is_err());
    assert!(read(&[pair("x-forward-a", &"x".repeat(1025))]).is_err());
    assert!(read(&[pair("x-session-id", "one"), pair("x-session-ext-id", "two")]).is_err());
    let nine: Vec<Pair> = (0..9).map(|_| pair("x-forward-a", &"x".repeat(1000))).collect();
    assert!(read(&nine).is_err() && read(&nine[..8]).is_ok());
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(|b| unmapped(IpAddr::from(b)))]
}

prop_compose! {
    fn any_origin()(
        client in any_ip(), client_port in any::<u16>(), reached in any_ip(), reached_port in any::<u16>(),
        session in "[!#-\\[\\]-~]{1,64}", hops in 1u32..=255, tls in any::<bool>(),
        name in proptest::option::of("[a-z0-9-]{1,63}(\\.[a-z0-9_-]{1,63}){0,2}"),
        forward in proptest::collection::vec(("[a-z0-9_.-]{1,25}", ".{0,40}"), 0..12),
    ) -> Origin {
        let mut origin = Origin::at_accept(
            SocketAddr::new(client, client_port),
            SocketAddr::new(reached, reached_port),
            SessionId::new(&session).unwrap(),
        );
        origin.hops = HopsLeft::said(hops);
        origin.transport = Some(if tls { Transport::Tls } else { Transport::Insecure });
        origin.name = name;
        origin.forward = forward.into_iter().map(|(name, value)| ForwardField { name, value }).collect();
        origin
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(origin in any_origin()) {
        let mut literals = 2;
        let carried = |f: &&ForwardField| {
            let fits = f.name.len() <= 20 && !f.value.is_empty() && !f.value.chars().any(char::is_control);
            let literal = fits && !f.value.is_ascii();
            if literal && literals > 0 {
                literals -= 1;
                return true;
            }
            fits && !literal
        };
        let expected = OriginUpdate {
            client_ip: Some(origin.client.0.ip()),
            client_port: Some(origin.client.0.port()).filter(|p| *p != 0),
            reached_ip: Some(origin.reached.0.ip()),
            reached_port: Some(origin.reached.0.port()).filter(|p| *p != 0),
            reached_name: origin.name.clone(),
            session: Some(origin.session.clone()),
            hops: Some(origin.hops),
            transport: origin.transport,
            forward: origin.forward.iter().filter(carried).cloned().collect(),
            ..OriginUpdate::default()
        };
        let written = pairs(&introduction(origin));
        prop_assert_eq!(read(&written.pairs).unwrap(), expected);
    }

    #[test]
    fn reading_never_panics(pairs in proptest::collection::vec(
        ("(?i)(x-forward-|x-proxy-ttl|x-session-id|x-originating-(ip|port))?.{0,8}", proptest::option::of(any::<Vec<u8>>())), 0..8)) {
        let pairs: Vec<Pair> = pairs.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect();
        let _ = read(&pairs);
    }
}

#[test]
fn hops_are_any_number() {
    for (text, hops) in [("0", 0), ("1", 1), ("255", 255), ("256", 255), ("99999999999999999999", 255)] {
        assert_eq!(read(&[pair("x-proxy-ttl", text)]).unwrap().hops.unwrap().get(), hops, "{text}");
    }
}
