use super::row::interval;
use super::*;
use crate::config::default_backend;
use crate::config::meant::BackendTls;
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

fn asked(backend: &Backend) -> Asked<'_> {
    Asked { backend, protocol: "imap", ports: (143, 993), mechanism: Mechanism::Command, noauth: false, delivery: false }
}

/// The decision over a row whose password was checked by a database, with a local backend or without.
fn decided(pairs: &[(&str, &str)], local: Option<&str>) -> Result<Verdict, Failure> {
    let mut backend = default_backend();
    if let Some(host) = local {
        backend.local.insert("imap".into(), LocalBackend { host: host.into(), port: 10143 });
    }
    decide(&answer(pairs, Checked::By("main".into())), &asked(&backend), &mut |_| {}).map(|decision| decision.verdict)
}

fn route(pairs: &[(&str, &str)]) -> Result<Route, Failure> {
    let mut all = vec![("proxy", "y"), ("host", "10.0.0.1")];
    all.extend_from_slice(pairs);
    match decided(&all, None)? {
        Verdict::SignIn(route) => Ok(*route),
        other => panic!("{other:?}"),
    }
}

/// The route of a row whose password nobody checked.
fn unchecked(pairs: &[(&str, &str)], backend: &Backend) -> Result<Route, Failure> {
    match decide(&answer(pairs, Checked::Nobody), &asked(backend), &mut |_| {})?.verdict {
        Verdict::SignIn(route) => Ok(*route),
        other => panic!("{other:?}"),
    }
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
        ("port", "+143"),
        ("delay_until", ""),
        ("delay_until", "soon"),
        ("delay_until", "+5"),
        ("delay_until", "1+"),
        ("delay_until", "-1"),
        ("delay_until", "99999999999999999999"),
        ("source_ip", ""),
        ("source_ip", "10.0.0"),
        ("source_ip", "2001:db8::1"),
        ("proxy_mech", ""),
        ("proxy_mech", "plain login"),
        ("proxy_mech", "SCRAM-SHA-256"),
        ("proxy_host_immediate_failure_after", "later"),
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
    let verify = |backend: &Backend, pairs: &[(&str, &str)]| unchecked(pairs, backend).unwrap().verify;
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
        let failure = unchecked(pairs, &default_backend()).unwrap_err();
        assert!(failure.detail.contains(&format!("field {field}")), "{failure}");
    }
    assert!(unchecked(&[("proxy", "no"), ("host", "h")], &default_backend()).is_ok(), "true when present");
}

#[test]
fn an_unchecked_password_is_never_replaced() {
    for field in ["pass", "master", "proxy_noauth"] {
        let pairs = [("proxy", "y"), ("host", "h"), (field, "x")];
        let failure = unchecked(&pairs, &default_backend()).unwrap_err();
        assert!(failure.detail.contains(field) && failure.detail.contains("nopassword"), "{failure}");
        assert!(decided(&pairs, None).is_ok());
    }
}

/// A backend that hears `XCLIENT LOGIN` from us and no address would hear it from the user as well.
#[test]
fn who_is_named_without_a_password_comes_with_a_client() {
    let row = |more: &[(&'static str, &'static str)]| [&[("proxy", "y"), ("host", "h")], more].concat();
    for (login, more, fine) in [
        (SubmissionLogin::Password, &[("proxy_not_trusted", "y")][..], true),
        (SubmissionLogin::Password, &[("proxy_noauth", "y")], true),
        (SubmissionLogin::Password, &[("proxy_noauth", "y"), ("proxy_not_trusted", "y")], false),
        (SubmissionLogin::Xclient, &[("proxy_not_trusted", "y")], false),
    ] {
        let backend = Backend { submission_login: login, ..default_backend() };
        for (noauth, mechanism) in [(true, Mechanism::Plain), (true, Mechanism::Xclient), (false, Mechanism::Plain)] {
            let asked = Asked { noauth, mechanism, ..asked(&backend) };
            let answer = answer(&row(&[more, &[("pass", "x")]].concat()), Checked::By("main".into()));
            let decided = decide(&answer, &asked, &mut |_| {});
            assert_eq!(decided.is_ok(), fine || !noauth, "{more:?}");
            if let Err(failure) = decided {
                assert!(failure.detail.contains("field proxy_not_trusted: together with proxy_noauth"), "{failure}");
            }
        }
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
    let named = unchecked(&[("proxy", "y"), ("host", "a.example"), ("hostip", "10.0.0.7")], &default_backend()).unwrap();
    assert_eq!((named.host.as_str(), named.address), ("a.example", Some("10.0.0.7".parse().unwrap())));
}

#[test]
fn fields_without_meaning_are_told() {
    let mut told = Vec::new();
    let pairs = [
        ("proxy", "y"),
        ("host", "h"),
        ("colour", "red"),
        ("userdb_home", "/x"),
        ("director_tag", "1"),
        ("proxy_refresh", "300"),
        ("proxy_no_multiplex", "y"),
    ];
    let backend = default_backend();
    decide(&answer(&pairs, Checked::Nobody), &asked(&backend), &mut |name| told.push(name.to_owned())).unwrap();
    assert_eq!(told, ["colour", "director_tag", "proxy_refresh"]);
}

#[test]
fn intervals_are_dovecots() {
    for (text, millis) in
        [("30", 30_000), ("500ms", 500), ("2m", 120_000), ("2 mins", 120_000), ("10secs", 10_000), ("1h", 3_600_000)]
    {
        assert_eq!(interval(text), Some(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "-1", "1.5s", "x", "5 parsecs", "2h", "99999999999999999999"] {
        assert_eq!(interval(text), None, "{text}");
    }
}

#[test]
fn proxy_wins_over_a_referral_and_a_referral_over_nologin() {
    let refer = |pairs: &[(&str, &str)]| match decided(pairs, None).unwrap() {
        Verdict::Refer(to) => (to.user, to.host, to.port, to.text),
        other => panic!("{other:?}"),
    };
    assert!(matches!(decided(&[("proxy", "y"), ("host", "h"), ("nologin", "y")], None).unwrap(), Verdict::SignIn(_)));
    assert_eq!(refer(&[("host", "h.example"), ("nologin", "y")]), ("alice".into(), "h.example".into(), 143, None));
    let all = [("host", "[2001:db8::1]"), ("nologin", ""), ("ssl", "y"), ("destuser", "bob"), ("reason", "[ALERT] Moved\r\nx")];
    assert_eq!(refer(&all), ("bob".into(), "2001:db8::1".into(), 993, Some("ALERT] Moved??x".into())));
    assert_eq!(decided(&[("host", "h/../x"), ("nologin", "y")], None).unwrap_err().kind, Kind::Row);
    for (pairs, expected) in [
        (&[("nologin", "y")][..], None),
        (&[("nologin", "n"), ("reason", "Pay first")], Some("Pay first")),
        (&[("nologin", "y"), ("host", "")], None),
    ] {
        assert!(matches!(decided(pairs, Some("127.0.0.1")).unwrap(), Verdict::Disabled(text) if text.as_deref() == expected));
    }
}

#[test]
fn nologin_is_said_to_nobody_who_has_not_shown_a_password() {
    let backend = default_backend();
    for row in [&[("nologin", "y")][..], &[("nologin", "y"), ("host", "h"), ("reason", "Unpaid")]] {
        let failure = decide(&answer(row, Checked::Nobody), &asked(&backend), &mut |_| {}).unwrap_err();
        assert!(failure.detail.contains("nologin") && failure.detail.contains("nopassword"), "{failure}");
    }
}

#[test]
fn what_is_not_proxied_goes_to_the_local_backend_if_there_is_one() {
    let row = [("host", "h"), ("port", "1"), ("destuser", "bob"), ("ssl", "y"), ("source_ip", "10.0.0.1"), ("forward_x", "1")];
    let Verdict::SignIn(route) = decided(&row, Some("127.0.0.1")).unwrap() else { panic!() };
    assert_eq!((route.host.as_str(), route.port, route.secure), ("127.0.0.1", 10143, Secure::Never));
    assert_eq!((route.user.as_str(), route.source, route.forward.len()), ("alice", None, 1));
    assert!(decided(&row, None).unwrap_err().detail.contains("field proxy"));

    let maybe = |pairs: &[(&str, &str)], local| {
        let mut all = vec![("proxy_maybe", "y"), ("host", "10.0.0.1")];
        all.extend_from_slice(pairs);
        let Verdict::SignIn(route) = decided(&all, local).unwrap() else { panic!() };
        let maybe = route.maybe.unwrap();
        (maybe.port_given, maybe.local.map(|local| local.host))
    };
    assert_eq!(maybe(&[], Some("127.0.0.9")), (false, Ok("127.0.0.9".into())));
    assert_eq!(maybe(&[("proxy", "y"), ("port", "143")], Some("127.0.0.9")), (true, Ok("127.0.0.9".into())));
    assert!(maybe(&[], None).1.unwrap_err().contains("backend.local"));
    assert!(maybe(&[("proxy_always", "y")], Some("127.0.0.9")).1.unwrap_err().contains("proxy_always"));
}

#[test]
fn mechanisms_are_named_mirrored_or_refused() {
    let backend = default_backend();
    let mech = |value: &str, used| {
        let answer = answer(&[("proxy", "y"), ("host", "h"), ("proxy_mech", value)], Checked::Nobody);
        match decide(&answer, &Asked { mechanism: used, ..asked(&backend) }, &mut |_| {}).unwrap().verdict {
            Verdict::SignIn(route) => route.mechanism,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(mech("login", Mechanism::Command), Some(Mechanism::Login));
    assert_eq!(mech("PLAIN", Mechanism::Login), Some(Mechanism::Plain));
    assert_eq!(mech("%m", Mechanism::Login), Some(Mechanism::Login));
    assert_eq!(mech("%{mechanism}", Mechanism::Command), Some(Mechanism::Plain));
    let failure = route(&[("proxy_mech", "XOAUTH2")]).unwrap_err();
    assert!(failure.detail.contains("later version"), "{failure}");
    assert!(route(&[("proxy_mech", "LOGIN"), ("master", "admin")]).unwrap_err().detail.contains("master"));
}

#[test]
fn notes_for_the_journal_are_few_and_short() {
    let many: Vec<(String, String)> = (0..40).map(|n| (format!("event_{n}"), "ä".repeat(400))).collect();
    let pairs: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let notes = route(&pairs).unwrap().notes;
    assert_eq!((notes.len(), notes[0].1.len()), (16, 254));
    assert!(route(&[("user_a b", "x")]).unwrap().notes.is_empty());
}

#[test]
fn times_and_flags() {
    let route = route(&[("proxy_host_immediate_failure_after", "0"), ("nodelay", "no"), ("source_ip", "10.0.0.9")]).unwrap();
    assert_eq!((route.give_up_after, route.quick, route.source), (Duration::ZERO, true, Some("10.0.0.9".parse().unwrap())));
    let backend = default_backend();
    let held =
        decide(&answer(&[("nologin", "y"), ("delay_until", "5+3")], Checked::By("main".into())), &asked(&backend), &mut |_| {});
    assert!(held.unwrap().hold.is_some(), "whatever the verdict is");
}
