//! Reading and writing, with headers that are built by hand: the writer is no witness for the reader.

use super::crc32c::crc32c;
use super::*;
use crate::machine::Blame;
use crate::origin::trust::TrustedNets;
use crate::origin::{SessionId, Transport};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const SIGNATURE: &[u8] = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
/// 192.0.2.7:4711 calls 198.51.100.1:993.
const TCP4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x03, 0xe1];

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

/// A header about [`TCP4`] with these TLVs.
fn with(tlvs: &[Vec<u8>]) -> Vec<u8> {
    v2(0x21, 0x11, &[TCP4, &tlvs.concat()].concat())
}

fn ssl(flags: u8, verify: u32, inside: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x20, &[&[flags], &verify.to_be_bytes()[..], &inside.concat()].concat())
}

fn proxied(input: &[u8]) -> Proxied {
    match read(input) {
        Ok(Progress::Done { header: Header::Proxied(said), octets }) if octets == input.len() => *said,
        other => panic!("{}: {other:?}", input.escape_ascii()),
    }
}

fn broken(input: &[u8]) -> Fault {
    read(input).expect_err(&input.escape_ascii().to_string())
}

fn plain(client: &str, reached: &str) -> Proxied {
    let (client, reached) = (client.parse().unwrap(), reached.parse().unwrap());
    Proxied { client, reached, authority: None, alpn: None, protection: None, unique_id: None }
}

#[test]
fn version_1_names_both_ends() {
    for (line, client, reached) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n", "192.0.2.7:4711", "198.51.100.1:993"),
        ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0", "255.255.255.255:65535"),
        ("PROXY TCP6 2001:db8::7 2001:DB8::1 4711 993\r\n", "[2001:db8::7]:4711", "[2001:db8::1]:993"),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7:1", "[::1]:2"),
    ] {
        assert_eq!(proxied(line.as_bytes()), plain(client, reached), "{line}");
    }
    let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(proxied(longest.as_bytes()).client.port(), 65535);
}

#[test]
fn nobody_is_spoken_of() {
    let full = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - 16));
    assert_eq!(full.len(), V1_MAX);
    let mut cases: Vec<Vec<u8>> =
        ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN \r\n", "PROXY UNKNOWN ffff::1 ::  \0 x\r\n", &full].map(|line| line.into()).to_vec();
    // LOCAL with any family and whatever it says, and PROXY without a family: the length holds, no value is looked at.
    for (command, family, addresses) in NOBODY {
        cases.push(v2(command, family, b""));
        let addresses = vec![0xff; addresses];
        let evil = [tlv(0x02, b"\xff\r\n"), tlv(0x02, b""), tlv(0x20, b"short"), tlv(0x05, &[0; UNIQUE_ID_MAX + 1])].concat();
        cases.push(v2(command, family, &addresses));
        cases.push(v2(command, family, &[addresses, evil].concat()));
    }
    // No room for the addresses of the family, or a family of which nobody knows how long they are.
    for (family, octets) in [(0x11, 11), (0x22, 35), (0x31, 215), (0x41, V2_MAX - 16), (0xff, V2_MAX - 16)] {
        cases.push(v2(0x20, family, &vec![0xff; octets]));
    }
    for header in cases {
        let mut input = header.clone();
        input.extend_from_slice(b"\r\n\r\na1 NOOP\r\n");
        let expected = Progress::Done { header: Header::Local, octets: header.len() };
        assert_eq!(read(&input), Ok(expected), "{}", input.escape_ascii());
    }
}

/// Commands and families that speak of nobody, and how many octets of addresses stand before the TLVs.
const NOBODY: [(u8, u8, usize); 8] = [
    (0x21, 0x00, 0),
    (0x20, 0x00, 0),
    (0x20, 0x01, 0),
    (0x20, 0x11, 12),
    (0x20, 0x12, 12),
    (0x20, 0x21, 36),
    (0x20, 0x31, 216),
    (0x20, 0x32, 216),
];

#[test]
fn a_checksum_is_verified_even_if_nobody_is_spoken_of() {
    for (command, family, addresses) in NOBODY {
        let addresses = vec![0xff; addresses];
        let header = |tlvs: &[Vec<u8>]| v2(command, family, &[&addresses[..], &tlvs.concat()].concat());
        let (before, behind) = (tlv(0x02, b"a.example"), tlv(0xee, b"x"));
        let mut right = header(&[before.clone(), tlv(3, &[0; 4]), behind]);
        let at = 16 + addresses.len() + before.len() + 3;
        let sum = crc32c(&[&right]);
        right[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(read(&right), Ok(Progress::Done { header: Header::Local, octets: right.len() }), "{family:#x}");
        assert_eq!(octet_by_octet(&right), read(&right));
        // An address, a value that means nothing to us, the sum itself, what is behind it.
        for at in (16..16 + addresses.len()).chain([at - 4, at, at + 3, right.len() - 1]) {
            let mut wrong = right.clone();
            wrong[at] ^= 0x01;
            assert_eq!(broken(&wrong).rule, "proxy-checksum", "{family:#x}, octet {at}");
        }
        for (tlvs, rule) in [
            (vec![tlv(3, &[0; 4])], "proxy-checksum"),
            (vec![tlv(3, &[0; 3])], "proxy-tlv-value"),
            (vec![tlv(3, &[0; 5])], "proxy-tlv-value"),
            (vec![tlv(3, &[0; 4]), tlv(3, &[0; 4])], "proxy-tlv-twice"),
            (vec![vec![0x04]], "proxy-tlv-bounds"),
            (vec![vec![0x04, 0, 1]], "proxy-tlv-bounds"),
            (vec![tlv(0x04, b"x"), vec![3, 0, 4, 0, 0, 0]], "proxy-tlv-bounds"),
            (vec![b"\x02\xff\xff not a TLV".to_vec()], "proxy-tlv-bounds"),
        ] {
            assert_eq!(broken(&header(&tlvs)).rule, rule, "{family:#x} {tlvs:?}");
        }
    }
}

#[test]
fn version_2_names_both_ends() {
    assert_eq!(proxied(&with(&[])), plain("192.0.2.7:4711", "198.51.100.1:993"));
    let mut body = [[0; 16], [0; 16]].concat();
    body[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    body[15] = 7;
    body[26..].copy_from_slice(&[0xff, 0xff, 198, 51, 100, 1]);
    body.extend_from_slice(&[0x12, 0x67, 0, 0]);
    assert_eq!(proxied(&v2(0x21, 0x21, &body)), plain("[2001:db8::7]:4711", "198.51.100.1:0"));
}

#[test]
fn every_tlv_that_we_read() {
    let inside = [tlv(0x21, b"TLSv1.3"), tlv(0x25, b"RSA2048"), tlv(0x22, "J\u{f6}rg".as_bytes()), tlv(0x23, b"TLS_AES_128")];
    let said = proxied(&with(&[
        tlv(0x04, &[0xff; 9]),
        tlv(0x01, b"imap"),
        tlv(0x02, b"IMAP.example"),
        tlv(0x30, b"ns\0\r\n"),
        tlv(0xea, &[1, 2, 3]),
        ssl(0x07, 0, &inside),
        tlv(0x05, &[0xff; UNIQUE_ID_MAX]),
        tlv(0x04, b""),
    ]));
    let tls =
        ClientTls { version: Some("TLSv1.3".into()), cipher: Some("TLS_AES_128".into()), common_name: Some("J\u{f6}rg".into()) };
    let expected = Proxied {
        authority: Some("IMAP.example".into()),
        alpn: Some(b"imap".to_vec()),
        protection: Some(Protection::Tls(Box::new(tls))),
        unique_id: Some(vec![0xff; UNIQUE_ID_MAX]),
        ..plain("192.0.2.7:4711", "198.51.100.1:993")
    };
    assert_eq!(said, expected);
}

#[test]
fn a_common_name_counts_only_if_somebody_verified_it() {
    for (flags, verify, counts) in [
        (0x03, 0, true),
        (0x05, 0, true),
        (0x07, 0, true),
        (0xff, 0, true),
        (0x01, 0, false),
        (0x07, 1, false),
        (0x07, 0x0100_0000, false),
        (0xf9, 0, false),
    ] {
        let Some(Protection::Tls(tls)) = proxied(&with(&[ssl(flags, verify, &[tlv(0x22, b"joe")])])).protection else {
            panic!("{flags:#x} is TLS");
        };
        assert_eq!(tls.common_name.is_some(), counts, "{flags:#x} {verify}");
    }
    let empty = [tlv(0x21, b""), tlv(0x22, b""), tlv(0x23, b"")];
    let nothing = Some(Protection::Tls(Box::default()));
    assert_eq!(proxied(&with(&[ssl(0x07, 0, &empty)])).protection, nothing, "an empty name is nobody's");
    for flags in [0x00, 0x06, 0xfe] {
        let said = proxied(&with(&[ssl(flags, 0, &[tlv(0x22, b"joe")])]));
        assert_eq!(said.protection, Some(Protection::Clear), "{flags:#x}");
    }
}

/// The header with a checksum that is right, in front of other TLVs and behind them.
fn checked(before: &[Vec<u8>], behind: &[Vec<u8>]) -> Vec<u8> {
    let mut header = with(&[before.concat(), tlv(3, &[0; 4]), behind.concat()]);
    let at = 16 + TCP4.len() + before.concat().len() + 3;
    let sum = crc32c(&[&header]);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn a_checksum_is_verified_over_all_of_it() {
    let (before, behind) = ([tlv(2, b"a.example")], [tlv(5, b"id")]);
    let right = checked(&before, &behind);
    assert_eq!(proxied(&right).unique_id.as_deref(), Some(&b"id"[..]));
    for at in 16..right.len() {
        let mut wrong = right.clone();
        wrong[at] ^= 0x01;
        assert!(read(&wrong).is_err(), "octet {at}");
    }
    let mut wrong = right;
    wrong[17 + 3] ^= 0x80;
    assert_eq!(broken(&wrong).rule, "proxy-checksum");
}

#[test]
fn broken_headers_and_their_rules() {
    let line = |text: &str| text.as_bytes().to_vec();
    let long = "a".repeat(64);
    let ssl_with = |inside: &[Vec<u8>]| with(&[ssl(1, 0, inside)]);
    for (input, rule) in [
        (line("a1 NOOP\r\n"), "proxy-missing"),
        (line("\x16\x03\x01"), "proxy-missing"),
        (line("\0"), "proxy-missing"),
        (line(" PROXY"), "proxy-missing"),
        (line("POST"), "proxy-missing"),
        (line("PROXY\t"), "proxy-missing"),
        (line("proxy TCP4"), "proxy-missing"),
        (line("\r\n\r\nQUIT"), "proxy-missing"),
        (line("PROXY  "), "proxy-v1"),
        (line("PROXY UDP4"), "proxy-v1"),
        (line("PROXY TCP5"), "proxy-v1"),
        (line("PROXY TCP4\r"), "proxy-v1"),
        (line("PROXY TCP46"), "proxy-v1"),
        (line("PROXY TCP4  "), "proxy-v1"),
        (line("PROXY UNKNOWNX"), "proxy-v1"),
        (line("PROXY UNKNOWN\n"), "proxy-v1"),
        (line("PROXY UNKNOWN x\n"), "proxy-v1"),
        (line("PROXY UNKNOWN x\ry"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\n"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 993 \r\n"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\rx"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 4711 \r\n"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 04711 "), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 00 "), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 65536 "), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 +"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.7 198.51.100.1 -"), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.007 "), "proxy-v1"),
        (line("PROXY TCP4 192.0.2 "), "proxy-v1"),
        (line("PROXY TCP4 192.0.2.256 "), "proxy-v1"),
        (line("PROXY TCP4 0x"), "proxy-v1"),
        (line("PROXY TCP4 :"), "proxy-v1"),
        (line("PROXY TCP6 192.0.2.7 "), "proxy-v1"),
        (line("PROXY TCP6 fe80::1%"), "proxy-v1"),
        (line("PROXY TCP6 ["), "proxy-v1"),
        (line("PROXY TCP6 1::2::3 "), "proxy-v1"),
        (line(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - 15))), "proxy-too-long"),
        (line(&format!("PROXY TCP4 {}", "1".repeat(V1_MAX - 11))), "proxy-too-long"),
        (v2(0x10, 0x11, TCP4), "proxy-version"),
        (v2(0x31, 0x11, TCP4), "proxy-version"),
        (v2(0x22, 0x11, TCP4), "proxy-command"),
        (v2(0x2f, 0x11, TCP4), "proxy-command"),
        (v2(0x21, 0x12, TCP4), "proxy-family"),
        (v2(0x21, 0x22, &[0; 36]), "proxy-family"),
        (v2(0x21, 0x31, &[0; 216]), "proxy-family"),
        (v2(0x21, 0x32, &[0; 216]), "proxy-family"),
        (v2(0x21, 0x01, b""), "proxy-family"),
        (v2(0x21, 0x10, TCP4), "proxy-family"),
        (v2(0x21, 0x13, TCP4), "proxy-family"),
        (v2(0x21, 0x41, TCP4), "proxy-family"),
        (v2(0x21, 0x11, &TCP4[..11]), "proxy-short"),
        (v2(0x21, 0x21, &[0; 35]), "proxy-short"),
        ([SIGNATURE, &[0x21, 0x11, 0x02, 0x09]].concat(), "proxy-too-long"),
        ([SIGNATURE, &[0x20, 0x00, 0xff, 0xff]].concat(), "proxy-too-long"),
        (with(&[vec![0x04]]), "proxy-tlv-bounds"),
        (with(&[vec![0x04, 0]]), "proxy-tlv-bounds"),
        (with(&[vec![0x04, 0, 1]]), "proxy-tlv-bounds"),
        (with(&[vec![0xee, 0xff, 0xff, 0]]), "proxy-tlv-bounds"),
        (with(&[tlv(0x02, b"a.example"), vec![0x30, 0, 2, 0]]), "proxy-tlv-bounds"),
        (ssl_with(&[vec![0x21, 0]]), "proxy-tlv-bounds"),
        // Enough octets behind it, but those are not inside the SSL TLV.
        (with(&[ssl(1, 0, &[vec![0x22, 0, 4, b'j']]), tlv(0x04, &[0; 8])]), "proxy-tlv-bounds"),
        (with(&[ssl(0, 1, &[vec![0x26, 0, 1]])]), "proxy-tlv-bounds"),
        (with(&[tlv(0x20, &[1, 0, 0, 0])]), "proxy-tlv-value"),
        (with(&[tlv(0x20, b"")]), "proxy-tlv-value"),
        (with(&[tlv(0x01, b"")]), "proxy-tlv-value"),
        (with(&[tlv(0x01, &[b'x'; 256])]), "proxy-tlv-value"),
        (with(&[tlv(0x02, b"")]), "proxy-tlv-value"),
        (with(&[tlv(0x02, b"secret\r\nx")]), "proxy-tlv-value"),
        (with(&[tlv(0x02, b"secret.example.")]), "proxy-tlv-value"),
        (with(&[tlv(0x02, "s\u{e9}cret.example".as_bytes())]), "proxy-tlv-value"),
        (with(&[tlv(0x02, &[0xff])]), "proxy-tlv-value"),
        (with(&[tlv(0x02, &[b'a'; 64])]), "proxy-tlv-value"),
        (with(&[tlv(0x03, &[0; 3])]), "proxy-tlv-value"),
        (with(&[tlv(0x03, &[0; 5])]), "proxy-tlv-value"),
        (with(&[tlv(0x03, &[0; 4])]), "proxy-checksum"),
        (with(&[tlv(0x05, &[0; UNIQUE_ID_MAX + 1])]), "proxy-tlv-value"),
        (ssl_with(&[tlv(0x21, format!("{long}a").as_bytes())]), "proxy-tlv-value"),
        (ssl_with(&[tlv(0x23, format!("{long}a").as_bytes())]), "proxy-tlv-value"),
        (ssl_with(&[tlv(0x22, &[b'a'; 256])]), "proxy-tlv-value"),
        (ssl_with(&[tlv(0x22, b"secret\0")]), "proxy-tlv-value"),
        (ssl_with(&[tlv(0x22, "secret\u{85}".as_bytes())]), "proxy-tlv-value"),
        (ssl_with(&[tlv(0x22, b"\xff")]), "proxy-tlv-value"),
        (with(&[tlv(0x01, b"a"), tlv(0x01, b"a")]), "proxy-tlv-twice"),
        (with(&[tlv(0x02, b"a"), tlv(0x02, b"a")]), "proxy-tlv-twice"),
        (with(&[tlv(0x05, b""), tlv(0x05, b"")]), "proxy-tlv-twice"),
        (with(&[ssl(0, 1, &[]), ssl(1, 0, &[])]), "proxy-tlv-twice"),
        (checked(&[], &[tlv(0x03, &[0; 4])]), "proxy-tlv-twice"),
        (ssl_with(&[tlv(0x22, b"joe"), tlv(0x22, b"ann")]), "proxy-tlv-twice"),
        (ssl_with(&[tlv(0x21, b""), tlv(0x21, b"")]), "proxy-tlv-twice"),
        (ssl_with(&[tlv(0x23, b""), tlv(0x23, b"")]), "proxy-tlv-twice"),
    ] {
        let fault = broken(&input);
        assert_eq!(fault.rule, rule, "{}", input.escape_ascii());
        assert_eq!(fault.blame, if rule == "proxy-too-long" { Blame::Limit } else { Blame::Peer });
        assert!(!fault.detail.contains("secret"), "values stay out of the log: {fault}");
    }
}

/// A stranger must not be able to make us wait: the last octet here is the first that no header has in its place.
#[test]
fn the_first_octet_that_cannot_belong_is_enough() {
    let head = |octets: &[u8]| [SIGNATURE, octets].concat();
    for input in [
        b"a".to_vec(),
        b"PO".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1x".to_vec(),
        b"PROXY TCP4 1.2.3.4\r".to_vec(),
        b"PROXY TCP6 x".to_vec(),
        b"PROXY UD".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        head(&[0x11]),
        head(&[0x25]),
        head(&[0x21, 0x31]),
        head(&[0x21, 0x11, 0xff, 0xff]),
        head(&[0x21, 0x11, 0, 11]),
    ] {
        let (_, before) = input.split_last().unwrap();
        assert_eq!(read(before), Ok(Progress::More), "{}", before.escape_ascii());
        broken(&input);
    }
    assert_eq!(read(b""), Ok(Progress::More));
}

#[test]
fn the_caps_count_the_last_octet_in() {
    let full = V2_MAX - 16 - TCP4.len() - 3;
    let header = with(&[tlv(0x04, &vec![0; full])]);
    assert_eq!(header.len(), V2_MAX);
    proxied(&header);
    assert_eq!(broken(&with(&[tlv(0x04, &vec![0; full + 1])])[..16]).rule, "proxy-too-long");
    let line = format!("PROXY UNKNOWN{}", " ".repeat(V1_MAX - 13));
    assert_eq!(read(&line.as_bytes()[..V1_MAX - 1]), Ok(Progress::More));
    assert_eq!(broken(line.as_bytes()).rule, "proxy-too-long");
}

fn origin(client: IpAddr, reached: IpAddr) -> Origin {
    Origin::at_accept(SocketAddr::new(client, 4711), SocketAddr::new(reached, 993), SessionId::new("s3ss10n").unwrap())
}

#[test]
fn what_is_written_octet_by_octet() {
    let mut out = BytesMut::new();
    write_v1(None, &mut out);
    assert_eq!(&out.split()[..], b"PROXY UNKNOWN\r\n");
    assert_eq!(write_v2(None, &mut out), [""; 0]);
    assert_eq!(out.split(), v2(0x20, 0, b""));

    let mut origin = origin("192.0.2.7".parse().unwrap(), "198.51.100.1".parse().unwrap());
    write_v1(Some(&origin), &mut out);
    assert_eq!(&out.split()[..], b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 993\r\n");
    origin.transport = Some(Transport::Tls);
    origin.name = Some("a.example".into());
    origin.tls = Some(Box::new(ClientTls { version: Some("TLSv1.3".into()), cipher: None, common_name: Some("joe".into()) }));
    assert_eq!(write_v2(Some(&origin), &mut out), [""; 0]);
    let inside = [tlv(0x22, b"joe"), tlv(0x21, b"TLSv1.3")];
    assert_eq!(out.split(), checked(&[tlv(2, b"a.example"), tlv(5, b"s3ss10n"), ssl(0x05, 0, &inside)], &[]));

    origin.tls = None;
    origin.name = None;
    write_v2(Some(&origin), &mut out);
    assert_eq!(out.split(), checked(&[tlv(5, b"s3ss10n"), ssl(0x01, 1, &[])], &[]), "no certificate is not a verified one");
    origin.transport = Some(Transport::Insecure);
    write_v2(Some(&origin), &mut out);
    assert_eq!(out.split(), checked(&[tlv(5, b"s3ss10n"), ssl(0x00, 1, &[])], &[]));
    origin.transport = None;
    write_v2(Some(&origin), &mut out);
    assert_eq!(out.split(), checked(&[tlv(5, b"s3ss10n")], &[]), "what is not known is not said");
}

#[test]
fn ends_of_two_families_are_written_as_ipv6() {
    let mut out = BytesMut::new();
    write_v1(Some(&origin("192.0.2.7".parse().unwrap(), "2001:db8::1".parse().unwrap())), &mut out);
    assert_eq!(&out.split()[..], b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4711 993\r\n");
    let other_way = origin("2001:db8::7".parse().unwrap(), "198.51.100.1".parse().unwrap());
    write_v2(Some(&other_way), &mut out);
    assert_eq!(out[13], 0x21);
    assert_eq!(out[42..48], [0xff, 0xff, 198, 51, 100, 1]);
}

#[test]
fn what_no_receiver_could_take_is_left_out_and_named() {
    let mut origin = origin("2001:db8::7".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let mut out = BytesMut::new();
    origin.transport = Some(Transport::Tls);
    origin.name = Some("not a name".into());
    let bad = ClientTls { version: Some("a\r\n".into()), cipher: Some("x".repeat(65)), common_name: Some("joe\0".into()) };
    origin.tls = Some(Box::new(bad));
    assert_eq!(write_v2(Some(&origin), &mut out), ["AUTHORITY", "SSL_CN", "SSL_VERSION", "SSL_CIPHER"]);
    let said = proxied(&out.split());
    assert_eq!((said.authority, said.protection), (None, Some(Protection::Tls(Box::default()))));

    // Everything as long as it may be: more than there is room for.
    origin.session = SessionId::new(&"s".repeat(64)).unwrap();
    origin.name = Some(["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join("."));
    let most = ClientTls { version: Some("v".repeat(64)), cipher: Some("c".repeat(64)), common_name: Some("n".repeat(255)) };
    origin.tls = Some(Box::new(most));
    assert_eq!(write_v2(Some(&origin), &mut out), ["SSL_CN"]);
    assert!(out.len() <= V2_MAX);
    let said = proxied(&out);
    assert_eq!(said.authority, origin.name);
    assert!(matches!(said.protection, Some(Protection::Tls(tls)) if tls.common_name.is_none() && tls.cipher.is_some()));
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(|ip| std::net::Ipv4Addr::from(ip).to_ipv6_mapped().into()),
    ]
}

prop_compose! {
    fn any_tls()(
        version in option::of("[ -~]{1,64}"), cipher in option::of("[ -~]{1,64}"), common_name in option::of("\\PC{1,40}"),
    ) -> ClientTls {
        ClientTls { version, cipher, common_name }
    }
}

prop_compose! {
    /// What a header of ours can carry: no application protocol, and the identifier is a session's.
    fn any_proxied()(
        client in any_ip(), client_port in any::<u16>(), reached in any_ip(), reached_port in any::<u16>(),
        authority in option::of("[A-Za-z0-9-]{1,20}(\\.[a-z0-9_-]{1,20}){0,2}"),
        protection in option::of(prop_oneof![
            Just(Protection::Clear), any_tls().prop_map(|tls| Protection::Tls(Box::new(tls)))]),
        session in "[!#-\\[\\]-~]{1,64}",
    ) -> Proxied {
        Proxied {
            client: SocketAddr::new(unmapped(client), client_port),
            reached: SocketAddr::new(unmapped(reached), reached_port),
            authority,
            alpn: None,
            protection,
            unique_id: Some(session.into_bytes()),
        }
    }
}

/// The caller that such a header describes.
fn origin_of(said: &Proxied) -> Origin {
    let session = SessionId::new(std::str::from_utf8(said.unique_id.as_deref().unwrap()).unwrap()).unwrap();
    let peer: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let mut origin = Origin::at_accept(peer, "10.0.0.2:2".parse().unwrap(), session);
    let proof = TrustedNets::new(vec!["10.0.0.0/8".parse().unwrap()]).admit(peer.ip()).unwrap();
    origin.carried(said, &proof);
    origin
}

/// Random octets, and octets that get past the first questions.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let octets = || vec(any::<u8>(), 0..80);
    let tlvs = vec((prop_oneof![0u8..6, Just(0x20), Just(0x21), Just(0x22), any::<u8>()], octets()), 0..5).prop_map(|tlvs| {
        let mut all = Vec::new();
        for (kind, value) in tlvs {
            all.extend(tlv(kind, &value));
        }
        all
    });
    let inside = vec((0x20u8..0x26, octets()), 0..3)
        .prop_map(|inside| ssl(7, 0, &inside.iter().map(|(kind, value)| tlv(*kind, value)).collect::<Vec<_>>()));
    let family = prop_oneof![8 => Just(0x11u8), 2 => Just(0x21u8), 1 => any::<u8>()];
    let command = prop_oneof![4 => Just(0x21u8), 1 => Just(0x20u8)];
    prop_oneof![
        1 => octets(),
        2 => "PROXY (TCP4|TCP6|UNKNOWN)( [0-9a-f:.]{0,9}){0,5}( )?\r?\n?.{0,9}".prop_map(String::into_bytes),
        2 => (command, family, vec(any::<u8>(), 0..40), tlvs).prop_map(|(command, family, rest, tlvs)| {
            let addresses = if family == 0x21 { [0; 36].as_slice() } else { TCP4 };
            v2(command, family, &[addresses, &tlvs, &rest].concat())
        }),
        1 => inside.prop_map(|inside| with(&[inside])),
    ]
}

/// Asks after each octet, as if they came one by one, until there is an answer.
fn octet_by_octet(input: &[u8]) -> Result<Progress, Fault> {
    (0..=input.len()).map(|seen| read(&input[..seen])).find(|answer| *answer != Ok(Progress::More)).unwrap_or(Ok(Progress::More))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_written_is_read_back(said in any_proxied(), behind in vec(any::<u8>(), 0..9)) {
        let origin = origin_of(&said);
        let mut out = BytesMut::new();
        write_v1(Some(&origin), &mut out);
        let octets = out.len();
        prop_assert!(octets <= V1_MAX);
        out.extend_from_slice(&behind);
        let ends = Proxied { authority: None, protection: None, unique_id: None, ..said.clone() };
        prop_assert_eq!(read(&out), Ok(Progress::Done { header: Header::Proxied(Box::new(ends)), octets }));

        out.clear();
        prop_assert!(write_v2(Some(&origin), &mut out).is_empty());
        let octets = out.len();
        prop_assert!(octets <= V2_MAX);
        prop_assert_eq!(octet_by_octet(&out), Ok(Progress::Done { header: Header::Proxied(Box::new(said.clone())), octets }));
        out.extend_from_slice(&behind);
        prop_assert_eq!(read(&out), Ok(Progress::Done { header: Header::Proxied(Box::new(said)), octets }));
    }

    #[test]
    fn nothing_panics_and_no_split_matters(input in any_input()) {
        prop_assert_eq!(read(&input), octet_by_octet(&input));
    }

    /// Of the addresses: a wrong type or length may make another, unchecked header of it, which the protocol allows.
    #[test]
    fn a_wrong_address_never_passes_the_checksum(said in any_proxied(), at in any::<prop::sample::Index>(), by in 1u8..) {
        let mut out = BytesMut::new();
        write_v2(Some(&origin_of(&said)), &mut out);
        let addresses = if out[13] == 0x11 { 12 } else { 36 };
        out[16 + at.index(addresses)] ^= by;
        prop_assert_eq!(broken(&out).rule, "proxy-checksum");
    }
}
