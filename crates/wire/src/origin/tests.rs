use super::trust::TrustedNets;
use super::*;

#[test]
fn a_fresh_identifier_is_one_that_would_be_taken() {
    for bits in [[0; 12], [0xff; 12], *b"0123456789ab"] {
        let fresh = SessionId::from_random(bits);
        assert_eq!(SessionId::new(fresh.as_str()), Some(fresh.clone()));
        assert_eq!(fresh.as_str().len(), 16);
    }
}

#[test]
fn what_we_saw_of_a_proxy_is_not_told_of_its_client() {
    let peer: SocketAddr = "10.0.0.1:999".parse().unwrap();
    let mut origin = Origin::at_accept(peer, "10.0.0.2:993".parse().unwrap(), SessionId::new("s").unwrap());
    origin.transport = Some(Transport::Tls);
    origin.name = Some("gateway.example".into());
    let proof = TrustedNets::new(vec!["10.0.0.1/32".parse().unwrap()]).admit(peer.ip()).unwrap();
    origin.amend(OriginUpdate { client_ip: "192.0.2.7".parse().ok(), ..OriginUpdate::default() }, &proof);
    assert_eq!((origin.transport, origin.name.as_deref()), (None, None));
    assert_eq!(origin.client, ClientAddr("192.0.2.7:0".parse().unwrap()), "a port belongs to its address");
    let more =
        OriginUpdate { transport: Some(Transport::Tls), reached_name: Some("a.example".into()), ..OriginUpdate::default() };
    origin.amend(more, &proof);
    assert_eq!((origin.transport, origin.name.as_deref()), (Some(Transport::Tls), Some("a.example")));
}

fn header(protection: Option<Protection>, authority: Option<&str>) -> Proxied {
    Proxied {
        client: "[::ffff:192.0.2.7]:4711".parse().unwrap(),
        reached: "198.51.100.1:993".parse().unwrap(),
        authority: authority.map(str::to_owned),
        alpn: None,
        protection,
        unique_id: Some(b"log".to_vec()),
    }
}

/// At a socket between two addresses that no header and no carrier below repeats.
fn at_accept() -> (Origin, TrustedPeer) {
    let peer: SocketAddr = "10.0.0.1:999".parse().unwrap();
    let origin = Origin::at_accept(peer, "10.0.0.2:993".parse().unwrap(), SessionId::new("s").unwrap());
    let proof = TrustedNets::new(vec!["10.0.0.1/32".parse().unwrap()]).admit(peer.ip()).unwrap();
    (origin, proof)
}

#[test]
fn a_proxy_header_moves_the_connection_and_not_the_socket() {
    let (mut origin, proof) = at_accept();
    let tls = ClientTls { version: Some("TLSv1.3".into()), cipher: None, common_name: Some("joe".into()) };
    origin.carried(&header(Some(Protection::Tls(Box::new(tls.clone()))), Some("imap.example")), &proof);
    let (client, reached) = (ClientAddr("192.0.2.7:4711".parse().unwrap()), ReachedAddr("198.51.100.1:993".parse().unwrap()));
    let (was, _) = at_accept();
    let expected = Origin {
        client,
        reached,
        source: client,
        arrived: reached,
        name: Some("imap.example".into()),
        transport: Some(Transport::Tls),
        tls: Some(Box::new(tls)),
        named: true,
        ..was
    };
    assert_eq!(origin, expected, "all else is the socket's");
    assert!(!origin.forwarded && !origin.speaks_for_another());
}

#[test]
fn the_peer_of_the_socket_is_told_where_it_is_not_the_client() {
    let (mut origin, proof) = at_accept();
    assert_eq!(origin.via(), None);
    let (mut balanced, peer) = (origin.clone(), origin.real_client.0);
    balanced.carried(&header(None, None), &proof);
    assert_eq!(balanced.via(), Some(peer));
    // Also if it says no more than that somebody else is behind it.
    origin.amend(OriginUpdate { hops: Some(HopsLeft::said(3)), ..OriginUpdate::default() }, &proof);
    assert_eq!((origin.client.0, origin.via()), (peer, Some(peer)));
}

#[test]
fn what_a_header_says_of_tls_is_three_things() {
    let (mut origin, proof) = at_accept();
    origin.name = Some("stale.example".into());
    origin.carried(&header(None, None), &proof);
    assert_eq!((origin.transport, origin.tls.clone(), origin.named, origin.name.clone()), (None, None, false, None));
    origin.carried(&header(Some(Protection::Tls(Box::default())), None), &proof);
    assert_eq!((origin.transport, origin.tls.is_some(), origin.named), (Some(Transport::Tls), true, true));
    origin.carried(&header(Some(Protection::Clear), None), &proof);
    assert_eq!((origin.transport, origin.tls.clone(), origin.named), (Some(Transport::Insecure), None, false));
}

#[test]
fn who_speaks_for_another_is_seen_against_the_connection() {
    let (mut origin, proof) = at_accept();
    let about = |ip: &str| OriginUpdate { client_ip: ip.parse().ok(), reached_ip: ip.parse().ok(), ..OriginUpdate::default() };
    origin.carried(&header(Some(Protection::Tls(Box::default())), None), &proof);
    let (source, arrived) = (origin.source, origin.arrived);
    origin.amend(about("203.0.113.9"), &proof);
    assert!(origin.speaks_for_another());
    assert_eq!((origin.transport, origin.tls.clone()), (None, None), "that TLS was the connection's");
    origin.amend(about("10.0.0.1"), &proof);
    assert!(origin.speaks_for_another(), "the socket's address is another one than the connection's");
    origin.amend(about("192.0.2.7"), &proof);
    assert!(!origin.speaks_for_another());
    assert_eq!((origin.source, origin.arrived), (source, arrived));
}

#[test]
fn hops_are_said_once_and_then_only_taken_from() {
    let (mut origin, proof) = at_accept();
    for (said, left) in [(9, 9), (200, 9), (4, 4), (5, 4), (0, 0), (1, 0)] {
        origin.amend(OriginUpdate { hops: Some(HopsLeft::said(said)), ..OriginUpdate::default() }, &proof);
        assert_eq!(origin.hops.get(), left, "after {said}");
    }
}

#[test]
fn a_word_about_the_transport_ends_what_was_known_of_another() {
    let (mut origin, proof) = at_accept();
    origin.transport = Some(Transport::Tls);
    origin.tls = Some(Box::default());
    origin.amend(OriginUpdate { hops: Some(HopsLeft::said(3)), ..OriginUpdate::default() }, &proof);
    assert!(origin.tls.is_some(), "nothing was said about it");
    origin.amend(OriginUpdate { transport: Some(Transport::Insecure), ..OriginUpdate::default() }, &proof);
    assert_eq!((origin.transport, origin.tls), (Some(Transport::Insecure), None));
}
