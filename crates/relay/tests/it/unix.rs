//! The same over unix sockets.

use crate::moving::Stage;
use crate::peers::*;
use bytes::BytesMut;
use relay::listen::{AcceptStats, Doorway, ListenSocket, shared};
use relay::socket::UNIX;
use relay::{Conn, Early, EndedBy, Head, Reason, read_head};
use std::convert::Infallible;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Two ends of one connection over a unix socket, under TLS or in clear.
async fn unix_leg(tls: bool) -> (Conn, Conn) {
    let (called, answered) = tokio::net::UnixStream::pair().unwrap();
    leg_over(tls, called, answered).await
}

/// A listening unix socket in a directory that goes with it.
struct Place(PathBuf);

impl Place {
    fn new() -> (Place, UnixListener) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("relay-unix-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("socket")).unwrap();
        (Place(dir), listener)
    }

    fn call(&self) -> UnixStream {
        UnixStream::connect(self.0.join("socket")).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_unix_client_is_relayed_to_a_tcp_backend_and_back() {
    for (client_tls, backend_tls) in [(false, false), (true, false), (false, true)] {
        let (client, backend) = (unix_leg(client_tls).await, leg(backend_tls).await);
        assert_eq!((client.1.peer_addr(), client.1.local_addr()), (UNIX, UNIX));
        let mut stage = Stage::over(client, backend, Early::default());
        stage.lives().await;
        stage.rests().await;
        let (up, down) = (Dice(3).bytes(900_001), Dice(4).bytes(1_200_003));
        let (sent_up, sent_down) = (up.clone(), down.clone());
        let Stage { mut client, mut backend, pump, .. } = stage;
        let backend = tokio::spawn(async move {
            backend.write_all(&sent_down).await.unwrap();
            let got = read_all(&mut backend).await;
            backend.finish().await.unwrap();
            got
        });
        let got_down = read_n(&mut client, down.len()).await;
        client.write_all(&sent_up).await.unwrap();
        client.finish().await.unwrap();
        assert!(read_all(&mut client).await.is_empty());
        assert!(backend.await.unwrap() == up && got_down == down, "{client_tls} {backend_tls}");
        let ended = pump.await.unwrap();
        assert_eq!((ended.side, ended.reason), (EndedBy::Client, Reason::Closed));
        assert_eq!((ended.to_backend, ended.to_client), (up.len() as u64 + 1, down.len() as u64 + 1));
    }
}

/// The kernel tells of a unix peer's close as of a hang-up in both directions, and goes on telling.
#[tokio::test]
async fn a_client_that_has_closed_costs_nothing_while_its_backend_is_silent() {
    let mut stage = Stage::over(unix_leg(false).await, leg(false).await, Early::default());
    stage.lives().await;
    drop(std::mem::replace(&mut stage.client, unix_leg(false).await.0));
    assert!(read_n_or_end(&mut stage.backend).await.is_empty());
    stage.rests().await;
    // What it says now finds nobody.
    stage.backend.write_all(b"anybody?").await.unwrap();
    let ended = stage.ended().await;
    assert_eq!((ended.side, ended.reason, ended.client_writable), (EndedBy::Client, Reason::Closed, false));
}

async fn read_n_or_end(conn: &mut Conn) -> BytesMut {
    let mut read = BytesMut::new();
    conn.read(&mut read, 1024).await.unwrap();
    read
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_backend() {
    let Stage { client, mut backend, pump, .. } = Stage::over(unix_leg(false).await, leg(false).await, Early::default());
    let block = vec![7u8; 256 * 1024];
    while tokio::time::timeout(std::time::Duration::from_millis(100), backend.write_all(&block)).await.is_ok() {}
    drop(client);
    let ended = pump.await.unwrap();
    assert_eq!(ended.side, EndedBy::Client);
    assert!(!ended.client_writable);
}

#[tokio::test]
async fn a_head_is_read_and_nothing_behind_it() {
    let (mut client, mut server) = unix_leg(false).await;
    client.write_all(b"the head;and the rest").await.unwrap();
    let mut held = BytesMut::new();
    let semicolon = |seen: &[u8]| -> Result<Head<()>, Infallible> {
        Ok(seen.iter().position(|b| *b == b';').map_or(Head::More, |at| Head::Whole((), at + 1)))
    };
    read_head(&mut server, &mut held, 64, semicolon).await.unwrap();
    assert_eq!(held, b"the head;"[..]);
    assert_eq!(read_n(&mut server, 12).await, b"and the rest");
    drop(client);
    assert_eq!(server.peek(&mut [0; 4]).await.unwrap(), 0);
}

/// All shards wait at one queue: each connection is taken once, and who came too late for it goes on waiting.
#[test]
fn shards_share_one_unix_socket() {
    let (place, listener) = Place::new();
    let sockets = shared(vec![ListenSocket::from(listener)], 3).unwrap();
    let sockets: Arc<Vec<_>> = Arc::new(sockets.into_iter().map(|socket| Mutex::new(Some(socket))).collect());
    assert_eq!(sockets.len(), 3);
    let (tell, told) = std::sync::mpsc::channel();
    let shards = relay::shard::spawn_shards(3, move |index| {
        let (sockets, tell) = (sockets.clone(), tell.clone());
        async move {
            let mut doorway = Doorway::new(sockets[index].lock().unwrap().take().unwrap()).unwrap();
            assert_eq!(doorway.local_addr().unwrap(), UNIX);
            let stats = AcceptStats::default();
            loop {
                let (socket, peer) = doorway.accept(&stats).await;
                let conn = socket.tune().and_then(|()| Conn::clear(socket)).unwrap();
                let quiet = stats.pauses.load(Ordering::Relaxed) == 0 && stats.aborted.load(Ordering::Relaxed) == 0;
                if tell.send((peer, conn.peer_addr(), quiet)).is_err() {
                    return;
                }
            }
        }
    })
    .unwrap();
    // Some at once and some one by one.
    let crowd: Vec<UnixStream> = (0..50).map(|_| place.call()).collect();
    for _ in &crowd {
        assert_eq!(told.recv().unwrap(), (UNIX, UNIX, true));
    }
    for _ in 0..50 {
        let _one = place.call();
        assert_eq!(told.recv().unwrap(), (UNIX, UNIX, true));
    }
    assert!(told.try_recv().is_err(), "nobody was taken twice");
    drop(told);
    for shard in shards {
        while !shard.is_finished() {
            let _ = place.call();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        shard.join().unwrap();
    }
}

#[tokio::test]
async fn who_waits_when_the_door_closes_is_taken_in() {
    let (place, listener) = Place::new();
    let mut doorway = Doorway::new(listener).unwrap();
    assert!(doorway.waiting().await.is_none());
    let _waiting = [place.call(), place.call()];
    let stats = AcceptStats::default();
    let _first = doorway.accept(&stats).await;
    assert!(doorway.waiting().await.is_some());
    assert!(doorway.waiting().await.is_none());
}
