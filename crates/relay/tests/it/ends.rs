//! How a relayed session ends, who did it, and who still hears what.

use crate::moving::Stage;
use crate::peers::*;
use bytes::BytesMut;
use relay::{Clock, Conn, Early, EndOrder, Ended, EndedBy, Reason, Watch, pump};
use socket2::SockRef;
use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

const BOTH: [bool; 2] = [false, true];

fn is(ended: &Ended, side: EndedBy, reason: Reason) {
    assert_eq!((ended.side, &ended.reason), (side, &reason));
}

/// Advances the clock until the pump has ended. Fails if that takes as long as the idle limit.
async fn let_time_pass(stage: Stage) -> Ended {
    let Stage { pump, clock, client, backend, slot, .. } = stage;
    for _ in 0..600 {
        if pump.is_finished() {
            break;
        }
        clock.advance(1);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(pump.is_finished(), "still running after ten minutes; order: {:?}", slot.order());
    drop((client, backend));
    pump.await.unwrap()
}

#[tokio::test]
async fn the_client_s_half_close_reaches_the_backend_which_may_go_on() {
    for (client_tls, backend_tls) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut stage = Stage::new(client_tls, backend_tls).await;
        stage.client.write_all(b"last words").await.unwrap();
        stage.client.finish().await.unwrap();
        assert_eq!(read_all(&mut stage.backend).await, b"last words");
        stage.backend.write_all(b"an answer").await.unwrap();
        assert_eq!(read_n(&mut stage.client, 9).await, b"an answer");
        stage.backend.finish().await.unwrap();
        assert!(read_all(&mut stage.client).await.is_empty());
        let ended = stage.ended().await;
        is(&ended, EndedBy::Client, Reason::Closed);
        assert!(!ended.client_writable);
        assert_eq!((ended.to_backend, ended.to_client), (10, 9));
    }
}

#[tokio::test]
async fn the_backend_s_half_close_reaches_the_client_which_may_go_on() {
    for (client_tls, backend_tls) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut stage = Stage::new(client_tls, backend_tls).await;
        stage.backend.write_all(b"last words").await.unwrap();
        stage.backend.finish().await.unwrap();
        assert_eq!(read_all(&mut stage.client).await, b"last words");
        stage.client.write_all(b"an answer").await.unwrap();
        assert_eq!(read_n(&mut stage.backend, 9).await, b"an answer");
        stage.client.finish().await.unwrap();
        assert!(read_all(&mut stage.backend).await.is_empty());
        is(&stage.ended().await, EndedBy::Backend, Reason::Closed);
    }
}

#[tokio::test]
async fn after_the_backend_s_end_a_client_that_stays_has_two_seconds_even_if_it_talks() {
    for tls in BOTH {
        let mut stage = Stage::new(tls, tls).await;
        stage.backend.finish().await.unwrap();
        assert!(read_all(&mut stage.client).await.is_empty());
        stage.client.write_all(b"still here").await.unwrap();
        assert_eq!(read_n(&mut stage.backend, 10).await, b"still here");
        stage.clock.advance(1);
        stage.client.write_all(b"and here").await.unwrap();
        assert_eq!(read_n(&mut stage.backend, 8).await, b"and here");
        stage.clock.advance(1);
        is(&stage.ended().await, EndedBy::Backend, Reason::Closed);
    }
}

#[tokio::test]
async fn after_the_client_s_end_a_silent_backend_has_half_a_minute_and_a_talking_one_longer() {
    let mut stage = Stage::new(false, false).await;
    stage.client.finish().await.unwrap();
    assert!(read_all(&mut stage.backend).await.is_empty());
    for _ in 0..5 {
        stage.clock.advance(20);
        stage.backend.write_all(b"more").await.unwrap();
        assert_eq!(read_n(&mut stage.client, 4).await, b"more");
    }
    stage.clock.advance(31);
    is(&stage.ended().await, EndedBy::Client, Reason::Closed);
}

#[derive(Default)]
struct Remembers(Vec<u8>);

impl Watch for Remembers {
    fn saw(&mut self, to_client: &[u8]) {
        self.0.extend_from_slice(to_client);
    }
}

#[tokio::test]
async fn the_caller_may_have_the_last_word_after_the_backend_s_end() {
    for tls in BOTH {
        let ((mut client, mut near), (mut far, mut backend)) = (leg(tls).await, leg(tls).await);
        let early = Early { to_client: BytesMut::from("* OK "), ..Early::default() };
        let slot = Clock::new().slot(Duration::MAX);
        let relayed = tokio::spawn(async move {
            let mut watch = Remembers::default();
            let ended = pump(&mut near, &mut far, early, slot, &mut watch).await;
            (near, ended, watch.0)
        });
        backend.write_all(b"* 1 EXISTS\r\n").await.unwrap();
        backend.finish().await.unwrap();
        let (mut near, ended, seen) = relayed.await.unwrap();
        is(&ended, EndedBy::Backend, Reason::Closed);
        assert!(ended.client_writable);
        assert_eq!(seen, b"* OK * 1 EXISTS\r\n");
        near.write_all(b"* BYE gone\r\n").await.unwrap();
        // The client closes when it has heard; shutdown waits for that.
        let ((), heard) = tokio::join!(near.shutdown(), async {
            let heard = read_all(&mut client).await;
            drop(client);
            heard
        });
        assert_eq!(heard, b"* OK * 1 EXISTS\r\n* BYE gone\r\n");
    }
}

/// Resets the connection of a socket handle, whatever stands on it.
#[tokio::test]
async fn how_long_the_client_was_quiet_is_told() {
    for said in BOTH {
        let ((mut client, mut near), (mut far, mut backend)) = (leg(false).await, leg(false).await);
        let clock = Clock::new();
        let slot = clock.slot(Duration::MAX);
        let relayed = tokio::spawn(async move {
            let mut watch = Remembers::default();
            pump(&mut near, &mut far, Early::default(), slot, &mut watch).await
        });
        if said {
            client.write_all(b"QUIT\r\n").await.unwrap();
            let mut heard = BytesMut::new();
            assert!(backend.read(&mut heard, 100).await.unwrap() > 0);
        }
        clock.advance(7);
        backend.finish().await.unwrap();
        let ended = relayed.await.unwrap();
        assert_eq!((ended.side, ended.client_quiet), (EndedBy::Backend, said.then(|| Duration::from_secs(7))));
    }
}

fn reset(below: &std::net::TcpStream) {
    SockRef::from(below).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A leg with a second handle below its calling (or answering) end.
async fn leg_with_below(tls: bool, answering: bool) -> (Conn, Conn, std::net::TcpStream) {
    let (mut called, mut answered) = sockets().await;
    let below;
    if answering {
        (answered, below) = behind(answered);
    } else {
        (called, below) = behind(called);
    }
    let (called, answered) = leg_over(tls, called, answered).await;
    (called, answered, below)
}

#[tokio::test]
async fn resets_are_told_from_closes() {
    for tls in BOTH {
        let (client, near, below) = leg_with_below(tls, false).await;
        let mut stage = Stage::over((client, near), leg(tls).await, Early::default());
        stage.lives().await;
        reset(&below);
        drop((std::mem::replace(&mut stage.client, leg(false).await.0), below));
        let ended = stage.ended().await;
        is(&ended, EndedBy::Client, Reason::Reset);
        assert!(!ended.client_writable);

        let (far, backend, below) = leg_with_below(tls, true).await;
        let mut stage = Stage::over(leg(tls).await, (far, backend), Early::default());
        stage.lives().await;
        reset(&below);
        drop((std::mem::replace(&mut stage.backend, leg(false).await.0), below));
        let ended = stage.ended().await;
        is(&ended, EndedBy::Backend, Reason::Reset);
        assert!(ended.client_writable, "a reset backend leaves the client open for a goodbye");
    }
}

#[tokio::test]
async fn a_tls_end_without_close_notify_is_a_truncation_and_stays_one_on_the_next_leg() {
    // client =TLS= first pump =TLS= second pump -clear- backend
    let (client, near, below) = leg_with_below(true, false).await;
    let (middle, onward) = leg(true).await;
    let (far, mut backend) = leg(false).await;
    let (clock, mut client) = (Clock::new(), client);
    let relay = |mut a: Conn, mut b: Conn| {
        let slot = clock.slot(Duration::MAX);
        tokio::spawn(async move { pump(&mut a, &mut b, Early::default(), slot, &mut ()).await })
    };
    let (first, second) = (relay(near, middle), relay(onward, far));
    client.write_all(b"delivered").await.unwrap();
    below.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut backend).await, b"delivered");
    backend.finish().await.unwrap();
    let ended = first.await.unwrap();
    is(&ended, EndedBy::Client, Reason::Truncated);
    assert_eq!(ended.to_backend, 9);
    is(&second.await.unwrap(), EndedBy::Client, Reason::Truncated);
}

#[tokio::test]
async fn garbage_inside_tls_ends_the_session_after_what_came_before_it() {
    let (client, near, mut below) = leg_with_below(true, false).await;
    let mut stage = Stage::over((client, near), leg(false).await, Early::default());
    stage.client.write_all(b"fine").await.unwrap();
    below.write_all(b"\x17\x03\x03\x00\x20this is no ciphertext of anybody").unwrap();
    assert_eq!(read_n(&mut stage.backend, 4).await, b"fine");
    let ended = stage.ended().await;
    assert_eq!(ended.side, EndedBy::Client);
    assert!(matches!(ended.reason, Reason::Tls(_)), "{:?}", ended.reason);
    assert_eq!(ended.to_backend, 4);
}

#[tokio::test]
async fn a_reset_is_noticed_while_the_other_side_is_stuck() {
    for (client_tls, backend_tls) in [(false, false), (true, true)] {
        let (client, near, below) = leg_with_below(client_tls, false).await;
        let stage = Stage::over((client, near), leg(backend_tls).await, Early::default());
        let Stage { mut client, backend, clock, slot, pump, polls } = stage;
        // The backend does not read: writing goes on until everything is full.
        let block = vec![7u8; 256 * 1024];
        while tokio::time::timeout(Duration::from_millis(100), client.write_all(&block)).await.is_ok() {}
        reset(&below);
        drop((client, below));
        let stage = Stage { client: leg(false).await.0, backend, clock, slot, pump, polls };
        is(&let_time_pass(stage).await, EndedBy::Client, Reason::Reset);
    }
}

#[tokio::test]
async fn idleness_is_measured_by_bytes_in_either_direction() {
    for tls in BOTH {
        let mut stage = Stage::new(tls, tls).await;
        for _ in 0..3 {
            stage.clock.advance(3599);
            stage.lives().await;
        }
        stage.clock.advance(3601);
        let ended = stage.ended().await;
        is(&ended, EndedBy::Us(EndOrder::Idle), Reason::Ordered(EndOrder::Idle));
        assert!(ended.client_writable);
    }
}

#[tokio::test]
async fn orders_end_a_session_at_once() {
    for order in [EndOrder::Kicked, EndOrder::ShuttingDown] {
        let mut stage = Stage::new(true, false).await;
        stage.lives().await;
        let slot = Arc::clone(&stage.slot);
        std::thread::spawn(move || slot.end(order)).join().unwrap();
        let ended = stage.ended().await;
        is(&ended, EndedBy::Us(order), Reason::Ordered(order));
        assert!(ended.client_writable);
    }
}

#[tokio::test]
async fn with_something_half_sent_the_client_gets_no_goodbye() {
    for tls in BOTH {
        let Stage { client, mut backend, slot, pump, .. } = Stage::new(tls, false).await;
        let block = vec![7u8; 256 * 1024];
        while tokio::time::timeout(Duration::from_millis(100), backend.write_all(&block)).await.is_ok() {}
        slot.end(EndOrder::Kicked);
        assert!(!pump.await.unwrap().client_writable);
        drop(client);
    }
}

#[tokio::test]
async fn an_ended_session_leaves_the_clock() {
    let Stage { client, backend, clock, slot, pump, .. } = Stage::new(false, false).await;
    drop(slot);
    assert_eq!(clock.registered(), 1);
    drop((client, backend));
    pump.await.unwrap();
    assert_eq!(clock.registered(), 0);
}

/// A reset would make many kernels throw away what their program has not read yet, our goodbye included.
#[tokio::test]
async fn closing_on_a_peer_that_still_talks_does_not_reset_it() {
    for tls in BOTH {
        let (mut peer, mut ours, below) = leg_with_below(tls, false).await;
        peer.write_all(&[b'x'; 50_000]).await.unwrap();
        ours.write_all(b"* BYE too much\r\n").await.unwrap();
        let ((), heard) = tokio::join!(
            async {
                ours.shutdown().await;
                drop(ours);
            },
            async {
                // The peer is slow to look: a goodbye that does not wait for it has come and gone by then.
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(below.take_error().unwrap().is_none(), "the connection was reset");
                let heard = read_all(&mut peer).await;
                drop((peer, below));
                heard
            }
        );
        assert_eq!(heard, b"* BYE too much\r\n");
    }
}
