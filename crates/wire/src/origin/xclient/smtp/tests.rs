use super::*;
use crate::origin::{ForwardField, HopsLeft, Origin, Transport};

const ALL: &str =
    "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT FORWARD DESTNAME CLIENT-TRANSPORT";
const POSTFIX: &str = "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT";
const EXIM: &str = "ADDR NAME PORT LOGIN DESTADDR DESTPORT";
const KUMO: &str = "ADDR PORT DESTADDR DESTPORT";
const DOVECOT: &str = "ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT FORWARD";

const ALL_RIGHTS: Rules = Rules { may_vouch: true, as_exim: false };

fn origin() -> Origin {
    let session = SessionId::new("sVyHBLBg+LN/AAAB").unwrap();
    let mut origin = Origin::at_accept("192.0.2.10:4711".parse().unwrap(), "198.51.100.1:587".parse().unwrap(), session);
    origin.helo = Some(Told::Known("client.example".into()));
    origin.spoke = Some(MailProtocol::Esmtp);
    origin
}

fn forward(name: &str, value: &str) -> ForwardField {
    ForwardField { name: name.into(), value: value.into() }
}

fn introduction(origin: Origin, forward: Vec<ForwardField>) -> Introduction {
    Introduction { origin, client_id: Vec::new(), forward, patience: None }
}

/// The commands without XCLIENT and CRLF, and what else is told of them.
fn written(intro: Option<&Introduction>, login: Option<&str>, offered: &str) -> (Vec<String>, Written) {
    let mut out = BytesMut::new();
    let written = write(intro, login, &Offered::read(offered), &mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let lines: Vec<String> =
        text.split_terminator("\r\n").map(|line| line.strip_prefix("XCLIENT ").unwrap().to_owned()).collect();
    assert_eq!(lines.len(), written.commands);
    (lines, written)
}

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
            "SESSION=sVyHBLBg+2BLN/AAAB TTL=5 ADDR=192.0.2.10 PORT=4711 HELO=client.example PROTO=ESMTP LOGIN=joe+2Bx@example.org",
        ),
        (EXIM, "DESTADDR=198.51.100.1 DESTPORT=587 NAME=[UNAVAILABLE] ADDR=192.0.2.10 PORT=4711 LOGIN=joe+2Bx@example.org"),
    ] {
        let (lines, written) = written(Some(&intro), Some("joe+x@example.org"), offered);
        assert_eq!(lines, [line]);
        assert_eq!(written, Written { commands: 1, vouched: true, left_out: Vec::new() });
    }
    let (lines, written) = written(Some(&intro), Some("joe"), KUMO);
    assert_eq!(lines, ["DESTADDR=198.51.100.1 DESTPORT=587 ADDR=192.0.2.10 PORT=4711"]);
    assert_eq!((written.vouched, written.left_out), (false, vec!["LOGIN".to_owned()]));
}

#[test]
fn all_that_is_listed_is_known() {
    assert_eq!(listed(true), ALL);
    let all = Offered::read(listed(true));
    for (attribute, name) in ATTRIBUTES {
        assert!(all.lists(attribute), "{name}");
        assert_eq!(Offered::read(listed(false)).lists(attribute), attribute != Attribute::Login, "{name}");
        assert_eq!(attribute.as_str(), name);
    }
    assert!(Offered::read("  XFOO  name=x =").is_empty());
    assert!(Offered::read("nAme Xfoo\tLOGIN").takes_login());
}

fn read_all(attributes: &str) -> Result<OriginUpdate, Malformed> {
    read(attributes.as_bytes(), ALL_RIGHTS)
}

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
        ("=x", "unknown attribute"),
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
