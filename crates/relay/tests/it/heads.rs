//! Heads in front of what a connection is really for.

use crate::peers::*;
use bytes::BytesMut;
use relay::{Conn, Head, HeadError, read_head};
use std::convert::Infallible;
use std::io::ErrorKind;

const HEAD: &[u8] = b"the head;";

fn semicolon(seen: &[u8]) -> Result<Head<()>, Infallible> {
    Ok(seen.iter().position(|b| *b == b';').map_or(Head::More, |at| Head::Whole((), at + 1)))
}

#[tokio::test]
async fn a_handshake_begins_in_the_segment_that_ends_the_head() {
    let ca = Ca::new("heads");
    let acceptor = ca.issue(&["mail.example"]).acceptor();
    let (session, hello) = raw_hello(raw_client(&[], &[], false), "mail.example");
    let (called, answered) = sockets().await;
    let client = raw_shake(called, session, [HEAD, &hello].concat());
    let mut conn = Conn::clear(answered).unwrap();
    let mut held = BytesMut::new();
    read_head(&mut conn, &mut held, 64, semicolon).await.unwrap();
    assert_eq!(held, HEAD);
    let (conn, facts) = acceptor.accept(conn, &BytesMut::new()).await.unwrap();
    assert!(conn.is_tls() && facts.sni.as_deref() == Some("mail.example"));
    client.await.unwrap().unwrap();
}

#[tokio::test]
async fn under_tls_there_is_nothing_to_peek_at() {
    let (mut client, mut server) = leg(true).await;
    client.write_all(HEAD).await.unwrap();
    assert_eq!(server.peek(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut held = BytesMut::new();
    let end = read_head(&mut server, &mut held, 64, semicolon).await;
    assert!(matches!(&end, Err(HeadError::Io(e)) if e.kind() == ErrorKind::InvalidInput), "{end:?}");
    assert_eq!(read_n(&mut server, HEAD.len()).await, HEAD, "and nothing is lost by trying");
}

#[tokio::test]
async fn a_peek_takes_nothing() {
    let (mut client, mut server) = leg(false).await;
    assert_eq!(server.peek(&mut []).await.unwrap(), 0);
    client.write_all(HEAD).await.unwrap();
    let mut space = [0; 3];
    for _ in 0..2 {
        assert_eq!((server.peek(&mut space).await.unwrap(), &space), (3, b"the"));
    }
    assert_eq!(read_n(&mut server, HEAD.len()).await, HEAD);
    drop(client);
    assert_eq!(server.peek(&mut space).await.unwrap(), 0);
}
