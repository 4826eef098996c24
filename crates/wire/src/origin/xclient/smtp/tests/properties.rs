//! What holds whatever is said: to the reader by anybody, and by the writer of anything.

use super::*;

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(|b| unmapped(IpAddr::from(b)))]
}

/// Names as they are, as they should be, and as somebody would like them to be.
fn any_told() -> impl Strategy<Value = Option<Told>> {
    let word = prop_oneof![
        6 => "[a-z0-9_]{1,63}(\\.[a-z0-9][a-z0-9_-]{0,61}[a-z0-9]){0,3}",
        2 => any_ip().prop_map(|ip| format!("[{}{ip}]", if ip.is_ipv6() { "IPv6:" } else { "" })),
        1 => "[ -~]{0,40}",
        1 => ".{0,40}",
        1 => Just("a\r\nQUIT".to_owned()),
        1 => Just("x LOGIN=root".to_owned()),
        1 => Just("[TEMPUNAVAIL]".to_owned()),
    ];
    let told = prop_oneof![
        4 => word.prop_map(|word| Told::Known(word.into())),
        1 => Just(Told::Unavailable),
        1 => Just(Told::TemporarilyUnavailable),
    ];
    proptest::option::of(told)
}

fn any_login() -> impl Strategy<Value = Option<String>> {
    let name = prop_oneof![".{0,60}", "[a-z+=@ ]{1,30}", "ä{100,127}", "[a-z]{200,260}", Just("a\r\nMAIL FROM:<>".to_owned())];
    proptest::option::of(name)
}

prop_compose! {
    fn any_introduction()(
        client in any_ip(), client_port in any::<u16>(), reached in any_ip(), reached_port in any::<u16>(),
        session in "[!#-\\[\\]-~]{1,64}", hops in 1u32..=255,
        transport in proptest::sample::select(&[None, Some(Transport::Tls), Some(Transport::Insecure)][..]),
        name in proptest::option::of(prop_oneof!["[a-z0-9-]{1,63}(\\.[a-z0-9_-]{1,63}){0,3}", ".{0,20}"]),
        told in (any_told(), any_told(), any_told()),
        spoke in proptest::sample::select(
            &[None, Some(MailProtocol::Smtp), Some(MailProtocol::Esmtp), Some(MailProtocol::Lmtp)][..]),
        patience in proptest::option::of(1u32..),
        forward in proptest::collection::vec(prop_oneof!["[ -~ä]{0,300}", ".{0,300}"], 0..6),
    ) -> Introduction {
        let mut origin = Origin::at_accept(
            SocketAddr::new(client, client_port),
            SocketAddr::new(reached, reached_port),
            SessionId::new(&session).unwrap(),
        );
        origin.hops = HopsLeft::said(hops);
        origin.transport = transport;
        origin.name = name;
        (origin.host_name, origin.reverse_name, origin.helo) = told;
        origin.spoke = spoke;
        let named = |(index, value)| ForwardField { name: format!("name_{index}.x"), value };
        origin.forward = forward.into_iter().enumerate().map(named).collect();
        let patience = patience.map(|seconds| Duration::from_secs(seconds.into()));
        Introduction { origin, client_id: Vec::new(), forward: Vec::new(), patience }
    }
}

/// Some of the attributes, or what a known server lists.
fn any_offer() -> impl Strategy<Value = String> {
    let some = proptest::sample::subsequence(ATTRIBUTES.map(|(_, name)| name).to_vec(), 0..=15).prop_map(|names| names.join(" "));
    prop_oneof![3 => some, 2 => proptest::sample::select(&[ALL, POSTFIX, EXIM, KUMO, DOVECOT][..]).prop_map(str::to_owned)]
}

/// What several commands said together: no attribute is in two of them.
fn merged(lines: &[String]) -> OriginUpdate {
    lines.iter().map(|line| read_all(line).expect(line)).fold(OriginUpdate::default(), |one, other| OriginUpdate {
        client_ip: one.client_ip.or(other.client_ip),
        client_port: one.client_port.or(other.client_port),
        reached_ip: one.reached_ip.or(other.reached_ip),
        reached_port: one.reached_port.or(other.reached_port),
        reached_name: one.reached_name.or(other.reached_name),
        session: one.session.or(other.session),
        hops: one.hops.or(other.hops),
        transport: one.transport.or(other.transport),
        forward: [one.forward, other.forward].concat(),
        host_name: one.host_name.or(other.host_name),
        reverse_name: one.reverse_name.or(other.reverse_name),
        helo: one.helo.or(other.helo),
        spoke: one.spoke.or(other.spoke),
        patience: one.patience.or(other.patience),
        user: one.user.or(other.user),
    })
}

fn names(line: &str) -> Vec<&str> {
    line.split(' ').map(|word| word.split('=').next().unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(intro in any_introduction(), login in any_login(), offered in any_offer()) {
        let (lines, told) = written(Some(&intro), login.as_deref(), &offered);
        let said = merged(&lines);
        let lists = |name: &str| offered.split(' ').any(|listed| listed == name);
        let left_out = |name: &str| told.left_out.iter().any(|left_out| left_out == name);
        let told_of = |name: &str, told: &Option<Told>| match told {
            _ if !lists(name) => None,
            Some(Told::TemporarilyUnavailable) if name != "HELO" => Some(Told::TemporarilyUnavailable),
            Some(Told::Known(word)) if !left_out(name) => Some(Told::Known(word.clone())),
            _ => Some(Told::Unavailable),
        };
        let said_pair = |field: &&ForwardField| lists("FORWARD") && !left_out(&format!("forward_{}", field.name));
        let origin = &intro.origin;
        let mut expected = OriginUpdate {
            client_ip: lists("ADDR").then(|| origin.client.0.ip()),
            client_port: Some(origin.client.0.port()).filter(|port| lists("PORT") && *port != 0),
            reached_ip: Some(origin.reached.0.ip()).filter(|_| lists("DESTADDR") && !left_out("DESTADDR")),
            reached_port: Some(origin.reached.0.port()).filter(|port| lists("DESTPORT") && *port != 0 && !left_out("DESTPORT")),
            reached_name: origin.name.clone().filter(|_| lists("DESTNAME") && !left_out("DESTNAME")),
            session: Some(origin.session.clone()).filter(|_| lists("SESSION") && !left_out("SESSION")),
            hops: Some(origin.hops).filter(|_| lists("TTL") && !left_out("TTL")),
            transport: origin.transport.filter(|_| lists("CLIENT-TRANSPORT") && !left_out("CLIENT-TRANSPORT")),
            forward: origin.forward.iter().filter(said_pair).cloned().collect(),
            host_name: told_of("NAME", &origin.host_name),
            reverse_name: told_of("REVERSE_NAME", &origin.reverse_name),
            helo: told_of("HELO", &origin.helo),
            spoke: origin.spoke.filter(|spoke| lists("PROTO") && (*spoke != MailProtocol::Lmtp || lists("SESSION"))),
            patience: intro.patience.filter(|_| lists("TIMEOUT") && !left_out("TIMEOUT")),
            user: login.filter(|_| told.vouched).map(|name| Told::Known(name.into())),
        };
        if origin.reverse_name.is_none() && !matches!(expected.host_name, None | Some(Told::Unavailable)) {
            // Whoever hears NAME takes it for both.
            expected.reverse_name = None;
        }
        if said.helo.is_none() && left_out("HELO") {
            // Dropped for its length, and not because it is no name.
            expected.helo = None;
        }
        prop_assert_eq!(said, expected);
        // Only a known server's list is without room for the little things; the others were drawn.
        for name in ["DESTADDR", "DESTPORT", "SESSION", "TTL", "TIMEOUT", "CLIENT-TRANSPORT"] {
            prop_assert!(!left_out(name) || !(lists("PROTO") || lists("HELO")));
        }
    }

    #[test]
    fn several_commands_make_one_caller(intro in any_introduction()) {
        let (lines, told) = written(Some(&intro), None, listed(false));
        let left_out = |name: &str| told.left_out.iter().any(|left_out| left_out == name);
        let nets = TrustedNets::new(vec!["127.0.0.1/32".parse().unwrap()]);
        let local = "127.0.0.1:25".parse().unwrap();
        let mut heard = Origin::at_accept(local, local, SessionId::new("ours").unwrap());
        for line in &lines {
            heard.amend(read_all(line).unwrap(), &nets.admit(local.ip()).unwrap());
        }
        let said = &intro.origin;
        prop_assert_eq!((heard.client, heard.reached), (said.client, said.reached));
        prop_assert_eq!((&heard.session, heard.hops, heard.transport), (&said.session, said.hops, said.transport));
        // One that is too long to stand beside the client is another client's to a Gatepost.
        let beside = lines.last().is_some_and(|line| names(line).contains(&"DESTNAME"));
        prop_assert_eq!(heard.name, said.name.clone().filter(|_| beside));
        let short = said.name.as_ref().is_none_or(|name| name.len() < 100) && lines.last().is_some_and(|line| line.len() < 380);
        prop_assert!(beside || !short || said.name.is_none() || left_out("DESTNAME"));
        prop_assert_eq!((heard.spoke, heard.patience), (said.spoke, intro.patience));
        let pairs: Vec<_> =
            said.forward.iter().filter(|field| !left_out(&format!("forward_{}", field.name))).cloned().collect();
        prop_assert_eq!(heard.forward, pairs);
    }

    #[test]
    fn no_command_is_too_long_or_says_what_it_should_not(
        intro in proptest::option::of(any_introduction()), login in any_login(), offered in any_offer(),
    ) {
        let mut out = BytesMut::new();
        let told = write(intro.as_ref(), login.as_deref(), &Offered::read(&offered), &mut out);
        prop_assert!(out.is_empty() || out.ends_with(b"\r\n"));
        let lines: Vec<&[u8]> = out.split_inclusive(|octet| *octet == b'\n').collect();
        let at_once = !offered.split(' ').any(|name| name == "PROTO" || name == "HELO");
        let mut last = None;
        for (index, line) in lines.iter().enumerate() {
            let text = line.strip_suffix(b"\r\n").and_then(|line| line.strip_prefix(b"XCLIENT ")).unwrap();
            prop_assert!(text.iter().all(|octet| (b' '..=b'~').contains(octet)), "{}", text.escape_ascii());
            let text = std::str::from_utf8(text).unwrap();
            let names = names(text);
            prop_assert!(names.iter().all(|name| offered.split(' ').any(|listed| listed == *name)), "{text}");
            prop_assert!(line.len() <= LINE_MAX);
            let alone = names == ["FORWARD"] || (names.contains(&"LOGIN") && !names.contains(&"HELO"));
            prop_assert!(line.len() < COMMAND_MAX || at_once || alone, "{text}");
            let is_last = index + 1 == lines.len();
            let of_the_client = ["NAME", "REVERSE_NAME", "ADDR", "PORT", "HELO", "PROTO", "LOGIN"];
            prop_assert!(is_last || !names.iter().any(|name| of_the_client.contains(name)), "{text}");
            last = Some(names);
        }
        prop_assert!(!at_once || lines.len() <= 1);
        let said = last.is_some_and(|names| names.contains(&"LOGIN"));
        prop_assert_eq!(said, told.vouched);
        prop_assert!(login.is_some() || !told.vouched);
        prop_assert!(told.left_out.iter().all(|name| !name.chars().any(char::is_control)));
    }

    #[test]
    fn what_is_read_can_be_said_again(line in any_line()) {
        let Ok(said) = read(&line, ALL_RIGHTS) else { return Ok(()) };
        let nets = TrustedNets::new(vec!["0.0.0.0/0".parse().unwrap()]);
        let mut origin = origin();
        let proof = nets.admit(origin.client.0.ip()).unwrap();
        let user = said.user.clone();
        origin.amend(said.clone(), &proof);
        let mut intro = introduction(origin, Vec::new());
        intro.patience = said.patience;
        let (lines, told) = written(Some(&intro), user.as_ref().and_then(Told::known), ALL);
        let again = merged(&lines);
        prop_assert!(user.as_ref().and_then(Told::known).is_none() || told.vouched);
        prop_assert_eq!(again.user.as_ref().and_then(Told::known), user.as_ref().and_then(Told::known));
        prop_assert_eq!(again.client_ip, Some(intro.origin.client.0.ip()));
        for (again, said) in [(&again.host_name, &said.host_name), (&again.reverse_name, &said.reverse_name)] {
            let cut = told.left_out.iter().any(|name| name.ends_with("NAME"));
            prop_assert!(cut || again == said || said.is_none(), "{again:?} {said:?}");
        }
        prop_assert_eq!(again.patience, said.patience);
    }

    #[test]
    fn whatever_is_read_is_clean(line in any_line(), may_vouch: bool, as_exim: bool) {
        match read(&line, Rules { may_vouch, as_exim }) {
            Ok(said) => {
                for told in [&said.host_name, &said.reverse_name, &said.helo] {
                    let clean = |word: &str| !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_graphic());
                    prop_assert!(told.as_ref().and_then(Told::known).is_none_or(clean));
                }
                let user = said.user.as_ref().and_then(Told::known);
                prop_assert!(user.is_none_or(|name| crate::sasl::name(name.as_bytes()) == Ok(name)));
                prop_assert!(may_vouch || user.is_none());
                for told in [&said.helo, &said.user] {
                    prop_assert!(*told != Some(Told::TemporarilyUnavailable));
                }
                prop_assert!(said.client_port != Some(0) && said.reached_port != Some(0));
                prop_assert!(said.client_ip.is_none_or(|ip| ip == unmapped(ip)));
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
        let mut line = b"NAME=a.example ADDR=192.0.2.1 PORT=25 HELO=b.example LOGIN=joe SESSION=abc".to_vec();
        line.insert(at % (line.len() + 1), octet);
        prop_assert!(read(&line, ALL_RIGHTS).is_err(), "{}", line.escape_ascii());
    }
}

/// Attributes with values that are right, or close to it.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(ATTRIBUTES.to_vec()).prop_flat_map(|(attribute, name)| {
        let name = prop_oneof![8 => Just(name.to_owned()), 1 => Just(name.to_ascii_lowercase()), 1 => Just(format!("{name}X"))];
        (name, prop_oneof![12 => right(attribute), 1 => close()], "[ \t]{1,3}")
    });
    let octets = proptest::option::weighted(0.2, (0usize.., any::<u8>()));
    (proptest::collection::vec(word, 1..5), octets).prop_map(|(words, octet)| {
        let mut line: Vec<u8> =
            words.iter().map(|(name, value, blank)| format!("{name}={value}{blank}")).collect::<String>().into();
        if let Some((at, octet)) = octet {
            line.insert(at % line.len(), octet);
        }
        line
    })
}

fn right(attribute: Attribute) -> BoxedStrategy<String> {
    match attribute {
        Attribute::Name | Attribute::ReverseName | Attribute::DestName => {
            "[a-z][a-z0-9]{1,9}(\\.[a-z][a-z0-9_]{0,9}){0,3}".boxed()
        }
        Attribute::Addr | Attribute::DestAddr => any_ip().prop_map(|ip| ip.to_string()).boxed(),
        Attribute::Port | Attribute::DestPort | Attribute::Ttl | Attribute::Timeout => "[1-9][0-9]{0,3}".boxed(),
        Attribute::Proto => "E?SMTP|LMTP".boxed(),
        Attribute::Helo => "([!-*,-~]|\\+[2-7][1-9A-Ea-e]){1,20}".boxed(),
        Attribute::Login => "[a-z]([a-z=]|\\+20[a-z]|\\+4[0-9A-Fa-f]|\\+[Cc]3\\+[Bb]6){0,20}".boxed(),
        Attribute::Session => "([!#-*,-<>-\\[\\]-~]|\\+2B|\\+3d){1,64}".boxed(),
        Attribute::Transport => "TLSv1\\.3|insecure".boxed(),
        Attribute::Forward => proptest::collection::vec("[a-z]{1,9}=[ -~]{0,20}", 1..4)
            .prop_map(|pairs| {
                let pairs = crate::encode::base64_encode(pairs.join("\t").as_bytes());
                String::from_utf8_lossy(pairs.expose()).replace('+', "+2B").replace('=', "+3d")
            })
            .boxed(),
    }
}

fn close() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._-]{1,20}",
        "[0-9]{1,6}",
        "(IPV6:)?[0-9a-f:]{2,20}",
        "\\[UNAVAILABLE\\]|\\[TEMPUNAVAIL\\]",
        "([a-z]|\\+[0-9A-Fa-f]{2}){1,12}",
        "[ -~]{0,12}",
        ".{0,12}",
    ]
}
