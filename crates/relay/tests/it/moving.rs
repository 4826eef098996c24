//! The pump while both sides are well: content, counts, order, back-pressure, cost.

use crate::peers::*;
use bytes::BytesMut;
use relay::{Clock, Conn, Early, Ended, EndedBy, Reason, Slot, pump};
use socket2::SockRef;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const HOUR: Duration = Duration::from_secs(3600);

/// A client and a backend with a running pump between them.
pub struct Stage {
    pub client: Conn,
    pub backend: Conn,
    pub clock: Clock,
    pub slot: Arc<Slot>,
    pub pump: JoinHandle<Ended>,
    pub polls: Arc<AtomicUsize>,
}

impl Stage {
    pub async fn new(client_tls: bool, backend_tls: bool) -> Stage {
        Stage::over(leg(client_tls).await, leg(backend_tls).await, Early::default())
    }

    pub fn over((client, mut near): (Conn, Conn), (mut far, backend): (Conn, Conn), early: Early) -> Stage {
        let clock = Clock::new();
        let slot = clock.slot(HOUR);
        let polls = Arc::new(AtomicUsize::new(0));
        let (given, counted) = (slot.clone(), polls.clone());
        let pump = tokio::spawn(async move {
            let mut watch = ();
            let mut relay = Box::pin(pump(&mut near, &mut far, early, given, &mut watch));
            poll_fn(|cx| {
                counted.fetch_add(1, Ordering::Relaxed);
                relay.as_mut().poll(cx)
            })
            .await
        });
        Stage { client, backend, clock, slot, pump, polls }
    }

    pub async fn ended(self) -> Ended {
        // Not a measurement: a pump that does not end should fail its test, not stop the suite.
        tokio::time::timeout(Duration::from_secs(30), self.pump).await.expect("the pump does not end").unwrap()
    }

    /// Sends one octet each way, which proves that the session lives.
    pub async fn lives(&mut self) {
        self.client.write_all(b">").await.unwrap();
        assert_eq!(read_n(&mut self.backend, 1).await, b">");
        self.backend.write_all(b"<").await.unwrap();
        assert_eq!(read_n(&mut self.client, 1).await, b"<");
    }

    /// Fails if the pump is polled while there is nothing to do.
    pub async fn rests(&self) {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let before = self.polls.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(self.polls.load(Ordering::Relaxed), before, "the pump is busy with nothing");
    }
}

const COMBINATIONS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

async fn send_in_chunks(conn: &mut Conn, content: &[u8], mut dice: Dice) {
    let mut rest = content;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(dice.chunk().min(rest.len()));
        conn.write_all(now).await.unwrap();
        rest = later;
        if dice.roll().is_multiple_of(4) {
            tokio::task::yield_now().await;
        }
    }
}

async fn read_in_chunks(conn: &mut Conn, mut dice: Dice) -> Vec<u8> {
    let mut all = BytesMut::new();
    while conn.read(&mut all, dice.chunk()).await.unwrap() > 0 {}
    all.to_vec()
}

#[tokio::test]
async fn content_arrives_whole_both_ways_and_is_counted_in_all_combinations() {
    for (client_tls, backend_tls) in COMBINATIONS {
        for (seed, odd) in (1..).zip([1, 2, 77, 4095]) {
            let up = Dice(seed).bytes(700_000 + odd);
            let down = Dice(seed + 100).bytes(2_000_000 - odd);
            let Stage { mut client, mut backend, pump, .. } = Stage::new(client_tls, backend_tls).await;
            let (up_sent, down_sent) = (up.clone(), down.clone());
            let backend = tokio::spawn(async move {
                let got = read_n(&mut backend, up_sent.len()).await;
                send_in_chunks(&mut backend, &down_sent, Dice(seed + 7)).await;
                let tail = read_in_chunks(&mut backend, Dice(seed + 8)).await;
                backend.finish().await.unwrap();
                assert!(tail.is_empty());
                got
            });
            send_in_chunks(&mut client, &up, Dice(seed + 5)).await;
            client.finish().await.unwrap();
            let got_down = read_in_chunks(&mut client, Dice(seed + 6)).await;
            let got_up = backend.await.unwrap();
            assert!(got_up == up && got_down == down, "{client_tls} {backend_tls} {seed}: content differs");
            let ended = pump.await.unwrap();
            assert_eq!((ended.to_backend, ended.to_client), (up.len() as u64, down.len() as u64));
            assert_eq!((ended.side, ended.reason), (EndedBy::Client, Reason::Closed));
        }
    }
}

/// Echoes arrive in pieces of every size while more is being sent: both directions are busy at once.
#[tokio::test]
async fn both_directions_at_once() {
    for (client_tls, backend_tls) in COMBINATIONS {
        let content = Dice(42).bytes(1_500_000);
        let Stage { mut client, mut backend, pump, .. } = Stage::new(client_tls, backend_tls).await;
        let expected = content.clone();
        let echo = tokio::spawn(async move {
            let mut buf = BytesMut::new();
            while backend.read(&mut buf, 10_000).await.unwrap() > 0 {
                let piece = buf.split();
                backend.write_all(&piece).await.unwrap();
            }
            backend.finish().await.unwrap();
        });
        let mut got = BytesMut::new();
        let mut dice = Dice(9);
        let mut rest = &content[..];
        while !rest.is_empty() {
            // Never more under way than fits the kernel's buffers, or this one task would wait for itself.
            let (now, later) = rest.split_at(dice.chunk().min(rest.len()).min(30_000));
            client.write_all(now).await.unwrap();
            rest = later;
            while got.len() < content.len() - rest.len() {
                client.read(&mut got, dice.chunk()).await.unwrap();
            }
        }
        client.finish().await.unwrap();
        assert!(read_all(&mut client).await.is_empty());
        echo.await.unwrap();
        assert!(got == expected, "{client_tls} {backend_tls}");
        let ended = pump.await.unwrap();
        assert_eq!((ended.to_backend, ended.to_client), (content.len() as u64, content.len() as u64));
    }
}

#[tokio::test]
async fn early_bytes_go_first() {
    for (client_tls, backend_tls) in COMBINATIONS {
        let early = Early { to_backend: BytesMut::from("a1 SELECT"), to_client: BytesMut::from("* OK wel") };
        let mut stage = Stage::over(leg(client_tls).await, leg(backend_tls).await, early);
        stage.client.write_all(b" INBOX").await.unwrap();
        stage.backend.write_all(b"come").await.unwrap();
        assert_eq!(read_n(&mut stage.backend, 15).await, b"a1 SELECT INBOX");
        assert_eq!(read_n(&mut stage.client, 12).await, b"* OK welcome");
        stage.client.finish().await.unwrap();
        stage.backend.finish().await.unwrap();
        let ended = stage.ended().await;
        assert_eq!((ended.to_backend, ended.to_client), (15, 12));
    }
}

/// Sockets whose kernel buffers are small, so that what is held elsewhere shows.
async fn narrow(tls: bool) -> (Conn, Conn) {
    let (called, answered) = sockets().await;
    for socket in [&called, &answered] {
        let socket = SockRef::from(socket);
        socket.set_send_buffer_size(32 * 1024).unwrap();
        socket.set_recv_buffer_size(32 * 1024).unwrap();
    }
    leg_over(tls, called, answered).await
}

const FLOOD: usize = 64 * 1024 * 1024;
/// Four narrow kernel buffers (the kernel doubles what it is asked for), one buffer of ours, and what is in flight.
const HELD: usize = 768 * 1024;

/// Sends `FLOOD` octets and counts what has been accepted.
async fn flood(mut conn: Conn, sent: Arc<AtomicUsize>) -> Conn {
    let block = Dice(77).bytes(8 * 1024);
    for _ in 0..FLOOD / block.len() {
        conn.write_all(&block).await.unwrap();
        sent.fetch_add(block.len(), Ordering::Relaxed);
    }
    conn.finish().await.unwrap();
    conn
}

async fn until_still(sent: &AtomicUsize) -> usize {
    let mut last = (usize::MAX, 0);
    loop {
        let now = sent.load(Ordering::Relaxed);
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        if last.1 == 20 && now > 0 {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_stopped_reader_stops_the_sender_and_memory_is_bounded() {
    for (client_tls, backend_tls) in COMBINATIONS {
        for from_backend in [true, false] {
            let stage = Stage::over(narrow(client_tls).await, narrow(backend_tls).await, Early::default());
            let (source, mut sink) = if from_backend { (stage.backend, stage.client) } else { (stage.client, stage.backend) };
            let sent = Arc::new(AtomicUsize::new(0));
            let producer = tokio::spawn(flood(source, sent.clone()));
            let stalled = until_still(&sent).await;
            assert!(stalled <= HELD, "{stalled} octets left the sender while nobody reads");
            // It was only held: everything comes once it is read.
            let block = Dice(77).bytes(8 * 1024);
            let mut got = 0;
            let mut buf = BytesMut::new();
            while sink.read(&mut buf, 64 * 1024).await.unwrap() > 0 {
                while buf.len() >= block.len() {
                    assert!(buf.split_to(block.len()) == block, "content differs after {got}");
                    got += block.len();
                }
            }
            assert_eq!((got, buf.len()), (FLOOD, 0));
            sink.finish().await.unwrap();
            let ended = stage.pump.await.unwrap();
            let counts = (ended.to_backend, ended.to_client);
            assert_eq!(counts, if from_backend { (0, FLOOD as u64) } else { (FLOOD as u64, 0) });
            drop(producer.await.unwrap());
        }
    }
}

#[tokio::test]
async fn nothing_to_do_is_no_work() {
    for (client_tls, backend_tls) in COMBINATIONS {
        let mut stage = Stage::new(client_tls, backend_tls).await;
        stage.lives().await;
        stage.rests().await;
        // Half closed.
        stage.client.finish().await.unwrap();
        assert!(read_all(&mut stage.backend).await.is_empty());
        stage.rests().await;
    }
    // Blocked by a reader that has stopped.
    let mut stage = Stage::over(narrow(true).await, narrow(true).await, Early::default());
    let sent = Arc::new(AtomicUsize::new(0));
    let (spare, _other) = leg(false).await;
    let producer = tokio::spawn(flood(std::mem::replace(&mut stage.backend, spare), sent.clone()));
    until_still(&sent).await;
    stage.rests().await;
    producer.abort();
}

#[tokio::test]
async fn the_relay_is_small_and_may_change_threads() {
    fn sendable<T: Send>(_: &T) {}
    let ((mut client, _c), (mut backend, _b)) = (clear().await, clear().await);
    let slot = Clock::new().slot(HOUR);
    let mut watch = ();
    let relay = pump(&mut client, &mut backend, Early::default(), slot, &mut watch);
    sendable(&relay);
    let size = size_of_val(&relay);
    assert!(size <= 1024, "{size} octets");
    assert!(size_of::<Conn>() <= 128);
}
