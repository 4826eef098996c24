use super::*;
use std::collections::HashMap;
use std::net::Ipv4Addr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Items as written: `?` in front is `if_here`.
fn items(written: &[&str]) -> Vec<SourceIp> {
    let item = |(n, text): (usize, &&str)| SourceIp {
        host: text.trim_start_matches('?').to_owned(),
        if_here: text.starts_with('?'),
        at: format!("gatepost.toml:7:{}", n + 1),
    };
    written.iter().enumerate().map(item).collect()
}

/// This host has 10.0.0.x and 2001:db8::x. Binding 192.0.2.13 fails for another reason.
fn here(ip: IpAddr) -> io::Result<bool> {
    if ip.to_string() == "192.0.2.13" {
        return Err(io::Error::other("no more descriptors"));
    }
    Ok(ip.to_string().starts_with("10.0.0.") || ip.to_string().starts_with("2001:db8::"))
}

fn names(name: &str) -> io::Result<Vec<IpAddr>> {
    match name {
        "out.example" => Ok(vec![ip("10.0.0.1"), ip("::ffff:10.0.0.2"), ip("2001:db8::1"), ip("10.0.0.1")]),
        "half.example" => Ok(vec![ip("10.0.0.3"), ip("192.0.2.1")]),
        "blocked.example" => Ok(vec![ip("0.0.0.0")]),
        "empty.example" => Ok(Vec::new()),
        "many.example" => Ok((0..5000u32).map(|n| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))).collect()),
        _ => Err(io::Error::other("no such name")),
    }
}

fn sources(written: &[&str]) -> (Sources, Vec<String>) {
    Sources::resolve(&items(written), here, names).unwrap()
}

fn errors(written: &[&str]) -> Vec<String> {
    Sources::resolve(&items(written), here, names).unwrap_err()
}

/// All of a family, in the order of their text: where the rotation stands does not matter.
fn all(sources: &Sources, family_of: &str) -> Vec<String> {
    let mut all: Vec<String> = sources.pick(ip(family_of)).map(|ip| ip.to_string()).collect();
    all.sort();
    all
}

#[test]
fn names_give_all_their_addresses_once_and_canonical() {
    let (sources, remarks) = sources(&["10.0.0.2", "out.example", "::ffff:10.0.0.9"]);
    assert_eq!(all(&sources, "192.0.2.1"), ["10.0.0.1", "10.0.0.2", "10.0.0.9"]);
    assert_eq!(all(&sources, "2001:db8::99"), ["2001:db8::1"]);
    assert_eq!(remarks, [""; 0]);
}

#[test]
fn an_address_that_is_not_here_is_an_error_with_its_place() {
    assert_eq!(
        errors(&["10.0.0.1", "192.0.2.1", "half.example", "192.0.2.13"]),
        [
            "gatepost.toml:7:2: error[source]: backend.source_ips: 192.0.2.1: this host does not have it; write ?192.0.2.1 if that is meant",
            "gatepost.toml:7:3: error[source]: backend.source_ips: 192.0.2.1 (half.example): this host does not have it; write ?half.example if that is meant",
            "gatepost.toml:7:4: error[source]: backend.source_ips: 192.0.2.13: cannot be bound: no more descriptors; write ?192.0.2.13 if that is meant",
        ]
    );
}

#[test]
fn a_question_mark_leaves_out_what_is_not_here() {
    let (sources, remarks) = sources(&["?192.0.2.1", "?half.example", "?gone.example", "?192.0.2.13"]);
    assert_eq!(all(&sources, "192.0.2.1"), ["10.0.0.3"]);
    assert_eq!(
        remarks,
        [
            "gatepost.toml:7:1: source 192.0.2.1: this host does not have it; left out",
            "gatepost.toml:7:2: source 192.0.2.1 (half.example): this host does not have it; left out",
            "gatepost.toml:7:3: source gone.example: the name does not resolve: no such name; left out",
            "gatepost.toml:7:4: source 192.0.2.13: cannot be bound: no more descriptors; left out",
        ]
    );
}

#[test]
fn a_name_that_does_not_resolve_is_an_error() {
    assert_eq!(
        errors(&["gone.example", "empty.example"]),
        [
            "gatepost.toml:7:1: error[source]: backend.source_ips: gone.example: the name does not resolve: no such name; write ?gone.example if that is meant",
            "gatepost.toml:7:2: error[source]: backend.source_ips: empty.example: the name has no address; write ?empty.example if that is meant",
        ]
    );
}

#[test]
fn where_nothing_is_left_the_kernel_chooses_and_the_operator_hears_it() {
    let (sources, remarks) = sources(&["?192.0.2.1", "?empty.example"]);
    assert_eq!(sources.pick(ip("192.0.2.1")).next(), None);
    assert_eq!(remarks.len(), 3);
    assert_eq!(remarks[2], "gatepost.toml:7:1: none of the source addresses is here; the kernel chooses instead");
    let (sources, remarks) = self::sources(&[]);
    assert_eq!(sources.pick(ip("192.0.2.1")).next(), None);
    assert_eq!(remarks, [""; 0], "an empty list is no news");
}

#[test]
fn what_is_no_host_is_no_source() {
    for written in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "blocked.example"] {
        let anything = Sources::resolve(&items(&[written]), |_| Ok(true), names).unwrap_err();
        assert!(anything[0].contains("not the address of a host"), "{anything:?}");
    }
}

#[test]
fn too_many_addresses_are_an_error_even_with_a_question_mark() {
    let anything = Sources::resolve(&items(&["?many.example"]), |_| Ok(true), names).unwrap_err();
    assert_eq!(anything, ["gatepost.toml:7:1: more than 1024 source addresses"]);
}

#[test]
fn sources_are_taken_in_turn_and_each_login_sees_all_of_them_once() {
    let (sources, _) = sources(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "2001:db8::2"]);
    let backend = ip("192.0.2.1");
    let order = |first: IpAddr| -> Vec<IpAddr> {
        let three = [ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")];
        let start = three.iter().position(|ip| *ip == first).unwrap();
        (0..3).map(|n| three[(start + n) % 3]).collect()
    };
    let mut firsts: HashMap<IpAddr, usize> = HashMap::new();
    let mut expected: Option<IpAddr> = None;
    for _ in 0..300 {
        let picks: Vec<IpAddr> = sources.pick(backend).collect();
        // The other family's turn is its own.
        assert_eq!(sources.pick(ip("2001:db8::99")).count(), 2);
        assert_eq!(picks, order(picks[0]));
        assert!(expected.is_none_or(|expected| expected == picks[0]), "one further than last time");
        expected = Some(picks[1]);
        *firsts.entry(picks[0]).or_default() += 1;
    }
    assert_eq!(firsts.into_values().collect::<Vec<_>>(), [100, 100, 100]);
}

#[test]
fn a_rotation_goes_on_past_the_end_of_its_counter() {
    let rotation = Rotation { all: vec![ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")], next: AtomicUsize::new(usize::MAX) };
    for _ in 0..3 {
        assert_eq!(rotation.pick().count(), 3);
    }
}

#[test]
fn a_family_without_sources_is_left_to_the_kernel() {
    let (sources, _) = sources(&["10.0.0.1"]);
    assert_eq!(sources.pick(ip("2001:db8::99")).next(), None);
    assert_eq!(sources.pick(ip("::ffff:192.0.2.1")).next(), Some(ip("10.0.0.1")), "a mapped backend is an IPv4 backend");
}
