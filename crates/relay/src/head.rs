//! Reading what stands before everything else on a connection, and not one octet more.
//!
//! Somebody in front of us may put a head before the client's own octets. Those may be of TLS, which must find them on the
//! socket, so a read that takes "what is there" would take too much. [`read_head`] peeks, asks whether the head is whole, and
//! takes exactly its octets. While it is not whole all octets seen belong to it: they are taken, so that the next peek waits
//! for new ones instead of seeing the same again.
//!
//! Left to others: what a head is (a closure says it), the deadline, and what is done with a connection that has none.

use crate::conn::Conn;
use bytes::BytesMut;
use std::fmt;
use std::io;

/// What is made of the octets seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head<T> {
    /// All of them belong to the head, and it is not whole.
    More,
    /// The head is whole, means this, and has so many octets.
    Whole(T, usize),
}

/// Why there is no head.
#[derive(Debug)]
pub enum HeadError<E> {
    /// The peer closed before the head was whole; whether it said anything is seen from what is held.
    Closed,
    /// As many octets as may be held, and still not whole.
    TooLong,
    /// What the closure said of the octets.
    Refused(E),
    /// What the kernel said; `InvalidInput` under TLS, or if the closure named a size that cannot be the head's.
    Io(io::Error),
}

impl<E: fmt::Display> fmt::Display for HeadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadError::Closed => f.write_str("the peer closed before its header was whole"),
            HeadError::TooLong => f.write_str("the header is too long"),
            HeadError::Refused(e) => e.fmt(f),
            HeadError::Io(e) => e.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for HeadError<E> {}

impl<E> From<io::Error> for HeadError<E> {
    fn from(e: io::Error) -> Self {
        HeadError::Io(e)
    }
}

/// Takes a head from the start of a clear connection, at most `cap` octets, and gives what `parse` made of it.
///
/// `parse` sees the head from its first octet on each time, with whatever has arrived behind it. Afterwards `held` has the
/// head's own octets, and what is behind it is still unread. Cancelling loses nothing if the same `held` is handed in again;
/// it is empty at first.
///
/// # Errors
/// See [`HeadError`]. If `parse` refuses, the octets it refused are not taken: closing the socket then resets the connection,
/// unless they are read away ([`Conn::shutdown`]).
pub async fn read_head<T, E>(
    conn: &mut Conn,
    held: &mut BytesMut,
    cap: usize,
    mut parse: impl FnMut(&[u8]) -> Result<Head<T>, E>,
) -> Result<T, HeadError<E>> {
    let mut seen = vec![0; cap];
    loop {
        let taken = held.len();
        let Some((start, space)) = seen.split_at_mut_checked(taken).filter(|(_, space)| !space.is_empty()) else {
            return Err(HeadError::TooLong);
        };
        start.copy_from_slice(held);
        let fresh = conn.peek(space).await?;
        if fresh == 0 {
            return Err(HeadError::Closed);
        }
        let looked_at = taken + fresh;
        match parse(seen.get(..looked_at).unwrap_or_default()).map_err(HeadError::Refused)? {
            Head::More => take(conn, held, looked_at).await?,
            Head::Whole(meaning, size) if (taken + 1..=looked_at).contains(&size) => {
                take(conn, held, size).await?;
                return Ok(meaning);
            }
            // A head that ended before what is new was whole the last time, too, and then we have taken too much.
            Head::Whole(..) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a head of an impossible size").into()),
        }
    }
}

/// Reads what was peeked at, until so many octets are held. They are there: it waits for nobody.
async fn take<E>(conn: &mut Conn, held: &mut BytesMut, size: usize) -> Result<(), HeadError<E>> {
    while held.len() < size {
        let left = size - held.len();
        if conn.read(held, left).await? == 0 {
            return Err(HeadError::Closed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tune;
    use std::convert::Infallible;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    const CAP: usize = 16;

    async fn pair() -> (TcpStream, Conn) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&client).unwrap();
        (client, Conn::clear(listener.accept().await.unwrap().0).unwrap())
    }

    /// A head of these tests: starts with `#`, ends with the first `;`, and means its length.
    fn ends_with_semicolon(seen: &[u8]) -> Result<Head<usize>, &'static str> {
        if seen.first() != Some(&b'#') {
            return Err("no #");
        }
        Ok(seen.iter().position(|b| *b == b';').map_or(Head::More, |at| Head::Whole(at + 1, at + 1)))
    }

    async fn rest(conn: &mut Conn) -> BytesMut {
        let mut rest = BytesMut::new();
        while conn.read(&mut rest, usize::MAX).await.unwrap() > 0 {}
        rest
    }

    #[tokio::test]
    async fn what_came_in_the_same_segment_stays_on_the_socket() {
        let (mut client, mut conn) = pair().await;
        // The first octets of a TLS hello; a second head is no part of the first.
        client.write_all(b"#head;\x16\x03\x01\x02\x00;#;").await.unwrap();
        client.shutdown().await.unwrap();
        let mut held = BytesMut::new();
        assert_eq!(read_head(&mut conn, &mut held, CAP, ends_with_semicolon).await.unwrap(), 6);
        assert_eq!(&held[..], b"#head;");
        assert_eq!(&rest(&mut conn).await[..], b"\x16\x03\x01\x02\x00;#;");
    }

    #[tokio::test]
    async fn octet_by_octet_without_spinning() {
        let (mut client, mut conn) = pair().await;
        let head = b"#0123456789abc;";
        let (asked, mut asking) = tokio::sync::mpsc::unbounded_channel();
        let reading = tokio::spawn(async move {
            let mut held = BytesMut::new();
            let mut calls = 0;
            let whole = read_head(&mut conn, &mut held, CAP, |seen| {
                calls += 1;
                asked.send(seen.len()).unwrap();
                ends_with_semicolon(seen)
            })
            .await;
            (whole.unwrap(), calls, held, conn)
        });
        for (sent, octet) in head.iter().enumerate() {
            client.write_all(&[*octet]).await.unwrap();
            assert_eq!(asking.recv().await, Some(sent + 1), "each octet is seen with all before it");
        }
        let (size, calls, held, mut conn) = reading.await.unwrap();
        assert_eq!((size, calls, &held[..]), (head.len(), head.len(), &head[..]), "asked once for each octet");
        client.write_all(b"x").await.unwrap();
        drop(client);
        assert_eq!(&rest(&mut conn).await[..], b"x");
    }

    #[tokio::test]
    async fn closed_in_the_middle_or_before() {
        for sent in [&b""[..], b"#", b"#he"] {
            let (mut client, mut conn) = pair().await;
            client.write_all(sent).await.unwrap();
            drop(client);
            let mut held = BytesMut::new();
            let end = read_head(&mut conn, &mut held, CAP, ends_with_semicolon).await;
            assert!(matches!(end, Err(HeadError::Closed)), "{end:?}");
            assert_eq!(held, sent);
        }
    }

    #[tokio::test]
    async fn a_stranger_is_refused_at_once_and_loses_nothing() {
        let (mut client, mut conn) = pair().await;
        client.write_all(b"a1 NOOP\r\n").await.unwrap();
        let mut held = BytesMut::new();
        let end = read_head(&mut conn, &mut held, CAP, ends_with_semicolon).await;
        assert!(matches!(end, Err(HeadError::Refused("no #"))), "{end:?}");
        drop(client);
        assert_eq!(&rest(&mut conn).await[..], b"a1 NOOP\r\n");
    }

    #[tokio::test]
    async fn the_cap_counts_the_last_octet_in() {
        for (sent, fits) in [(&b"#23456789abcdef;"[..], true), (b"#23456789abcdefg;", false)] {
            let (mut client, mut conn) = pair().await;
            client.write_all(sent).await.unwrap();
            let mut held = BytesMut::new();
            match read_head(&mut conn, &mut held, CAP, ends_with_semicolon).await {
                Ok(size) => assert_eq!((size, fits), (CAP, true)),
                Err(HeadError::TooLong) => assert!(!fits),
                other => panic!("{other:?}"),
            }
            assert_eq!(held.len(), CAP);
        }
    }

    #[tokio::test]
    async fn cancelled_and_taken_up_again() {
        let (mut client, mut conn) = pair().await;
        let mut held = BytesMut::new();
        for piece in [&b"#he"[..], b"ad", b";x"] {
            client.write_all(piece).await.unwrap();
            conn.peek(&mut [0]).await.unwrap();
            let mut reading = std::pin::pin!(read_head(&mut conn, &mut held, CAP, ends_with_semicolon));
            // One look, then it is dropped.
            let looked =
                tokio::select! { biased; whole = &mut reading => Some(whole.unwrap()), () = std::future::ready(()) => None };
            assert_eq!(looked, (piece == b";x").then_some(6));
        }
        assert_eq!(&held[..], b"#head;");
        drop(client);
        assert_eq!(&rest(&mut conn).await[..], b"x");
    }

    #[tokio::test]
    async fn a_closure_that_contradicts_itself_is_an_error() {
        for size in [0, 1, 4] {
            let (mut client, mut conn) = pair().await;
            client.write_all(b"#").await.unwrap();
            let mut held = BytesMut::from(&b"#"[..]);
            let parse = |_: &[u8]| Ok::<_, Infallible>(Head::Whole((), size));
            let end = read_head(&mut conn, &mut held, CAP, parse).await;
            assert!(matches!(&end, Err(HeadError::Io(e)) if e.kind() == io::ErrorKind::InvalidInput), "{size} {end:?}");
        }
    }
}
