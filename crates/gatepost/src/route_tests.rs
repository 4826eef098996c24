use super::*;
use crate::config::default_backend;
use crate::users::Fields;

fn answer(pairs: &[(&str, &str)], checked: Checked) -> Answer {
    Answer {
        user: "alice".into(),
        fields: Fields::new(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))),
        nopassword: checked == Checked::Nobody,
        checked,
        database: "main".into(),
    }
}

fn route(pairs: &[(&str, &str)]) -> Result<Route, Failure> {
    let mut all = vec![("proxy", "y"), ("host", "10.0.0.1")];
    all.extend_from_slice(pairs);
    decide(&answer(&all, Checked::By("main".into())), &default_backend(), (143, 993), &mut |_| {})
}

#[test]
fn ports_follow_tls_whatever_the_order() {
    for (pairs, port) in [
        (&[][..], 143),
        (&[("ssl", "yes")], 993),
        (&[("starttls", "yes")], 143),
        (&[("ssl", "yes"), ("starttls", "any-cert")], 143),
        (&[("port", "10143"), ("ssl", "yes")], 10143),
        (&[("port", "")], 143),
    ] {
        assert_eq!(route(pairs).unwrap().port, port, "{pairs:?}");
    }
}

#[test]
fn malformed_values_fail_closed_and_name_the_field() {
    for (field, value) in [
        ("port", "0"),
        ("port", "65536"),
        ("port", "imap"),
        ("port", " 143"),
        ("hostip", "10.0.0"),
        ("hostip", ""),
        ("hostip", "10.0.0.2"),
        ("proxy_timeout", "soon"),
        ("proxy_timeout", ""),
        ("proxy_timeout", "0"),
        ("proxy_timeout", "99h"),
        ("proxy_timeout", "99999999999999999999"),
        ("destuser", "a\r\nb"),
        ("master", "m\0"),
        ("pass", ""),
        ("pass", "a\nb"),
        ("pass", "x".repeat(5000).as_str()),
        ("ssl", "y\n"),
        ("forward_", "x"),
        ("forward_a b", "x"),
        ("forward_a", "x\ny"),
        ("nologin", "y"),
        ("delay_until", "1"),
        ("source_ip", "10.0.0.9"),
        ("host:default", "10.0.0.9"),
    ] {
        let failure = route(&[(field, value)]).expect_err(&format!("{field}={value:?}"));
        assert_eq!(failure.kind, Kind::Row);
        assert!(failure.detail.contains(field), "{failure}");
        assert!(failure.detail.contains("main"), "{failure}");
    }
}

#[test]
fn pins_hold_even_where_authorities_are_set_aside() {
    let mut backend = Backend { tls: BackendTls::Implicit, tls_verify: false, ..default_backend() };
    let pairs = [("proxy", "y"), ("host", "h")];
    let verify = |backend: &Backend, pairs: &[(&str, &str)]| {
        decide(&answer(pairs, Checked::Nobody), backend, (143, 993), &mut |_| {}).unwrap().verify
    };
    assert!(!verify(&backend, &pairs));
    backend.tls_pin = vec![[0; 32]];
    assert!(verify(&backend, &pairs));
    assert!(!verify(&backend, &[("proxy", "y"), ("host", "h"), ("ssl", "any-cert")]), "the row's own word wins");
}

#[test]
fn a_row_must_say_proxy_and_host() {
    for (pairs, field) in
        [(&[("host", "h")][..], "proxy"), (&[("proxy", "y")], "host"), (&[("proxy", "y"), ("host", "")], "host")]
    {
        let failure = decide(&answer(pairs, Checked::Nobody), &default_backend(), (143, 993), &mut |_| {}).unwrap_err();
        assert!(failure.detail.contains(&format!("field {field}")), "{failure}");
    }
    assert!(
        decide(&answer(&[("proxy", "no"), ("host", "h")], Checked::Nobody), &default_backend(), (143, 993), &mut |_| {}).is_ok(),
        "true when present"
    );
}

#[test]
fn an_unchecked_password_is_never_replaced() {
    for field in ["pass", "master"] {
        let pairs = [("proxy", "y"), ("host", "h"), (field, "x")];
        let failure = decide(&answer(&pairs, Checked::Nobody), &default_backend(), (143, 993), &mut |_| {}).unwrap_err();
        assert!(failure.detail.contains(field) && failure.detail.contains("nopassword"), "{failure}");
        assert!(decide(&answer(&pairs, Checked::By("main".into())), &default_backend(), (143, 993), &mut |_| {}).is_ok());
    }
}

#[test]
fn names_addresses_and_users() {
    let route =
        route(&[("host", "[2001:db8::1]"), ("destuser", "bob"), ("master", ""), ("forward_x", "1"), ("forward_y", "")]).unwrap();
    assert_eq!(route.address, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(route.user, "bob");
    assert_eq!(route.master, None);
    assert_eq!(route.forward.len(), 2);
    let named = decide(
        &answer(&[("proxy", "y"), ("host", "a.example"), ("hostip", "10.0.0.7")], Checked::Nobody),
        &default_backend(),
        (143, 993),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!((named.host.as_str(), named.address), ("a.example", Some("10.0.0.7".parse().unwrap())));
}

#[test]
fn fields_without_meaning_are_told() {
    let mut told = Vec::new();
    let pairs = [("proxy", "y"), ("host", "h"), ("colour", "red"), ("userdb_home", "/x"), ("director_tag", "1")];
    decide(&answer(&pairs, Checked::Nobody), &default_backend(), (143, 993), &mut |name| told.push(name.to_owned())).unwrap();
    assert_eq!(told, ["colour", "director_tag"]);
}

#[test]
fn intervals_are_dovecots() {
    for (text, millis) in
        [("30", 30_000), ("500ms", 500), ("2m", 120_000), ("2 mins", 120_000), ("10secs", 10_000), ("1h", 3_600_000)]
    {
        assert_eq!(interval(text), Some(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "-1", "1.5s", "x", "5 parsecs", "0", "2h"] {
        assert_eq!(interval(text), None, "{text}");
    }
}
