//! Takes connections for the admin API and serves them, a bounded number at a time.

use super::access::with_token;
use super::figures::open;
use super::patient::Patient;
use super::{Desk, routes};
use crate::journal::Level;
use axum::Router;
use axum::middleware::from_fn_with_state;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// How many may be connected at a time, at each socket.
pub(super) const CONNECTIONS: u32 = 64;
/// Time for the head of a request, and for its body.
pub(super) const HEAD: Duration = Duration::from_secs(5);
/// What a head may have.
const HEAD_MAX: usize = 16 * 1024;

/// Serves the unix socket: whoever may connect may ask.
pub async fn serve_unix(listener: UnixListener, desk: Desk, places: Arc<Semaphore>) {
    let app = routes(desk.clone()).merge(open(desk.clone()));
    loop {
        let Some(place) = place(&places).await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, app.clone(), place))),
            Err(e) => trouble(&desk, &e).await,
        }
    }
}

/// Serves a TCP address: whoever has the token may ask.
pub async fn serve_tcp(listener: TcpListener, desk: Desk, places: Arc<Semaphore>) {
    let app = routes(desk.clone()).layer(from_fn_with_state(desk.clone(), with_token)).merge(open(desk.clone()));
    loop {
        let Some(place) = place(&places).await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // A peer that has gone without a word keeps its place only until its keep-alive fails. An error: it is gone.
                if relay::listen::tune(&stream).is_ok() {
                    drop(tokio::spawn(serve(stream, app.clone(), place)));
                }
            }
            Err(e) => trouble(&desk, &e).await,
        }
    }
}

async fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).acquire_owned().await.ok()
}

/// Descriptors may be wanting: not a reason to spin, nor to end.
async fn trouble(desk: &Desk, e: &io::Error) {
    desk.house.journal.say(Level::Error, "control", e);
    sleep(Duration::from_secs(1)).await;
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: Router, place: OwnedSemaphorePermit) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_MAX).half_close(true);
    // Whatever goes wrong here is the asker's: it sees its connection end.
    let _ = http.serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(app)).await;
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::patient::STALLED;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    async fn served(request: &[u8], read_after: Option<Duration>) -> (usize, Duration) {
        let app = Router::new().route("/", get(async || "x".repeat(100_000)));
        let (mut client, stream) = tokio::io::duplex(1024);
        let places = Arc::new(Semaphore::new(1));
        let place = place(&places).await.unwrap();
        tokio::spawn(serve(stream, app, place));
        let began = Instant::now();
        client.write_all(request).await.unwrap();
        let mut got = Vec::new();
        let reading = async {
            match read_after {
                None => std::future::pending().await,
                Some(pause) => {
                    let mut buffer = [0; 1024];
                    loop {
                        sleep(pause).await;
                        match client.read(&mut buffer).await {
                            Ok(n) if n > 0 => got.extend_from_slice(&buffer[..n]),
                            _ => std::future::pending().await,
                        }
                    }
                }
            }
        };
        // The place is free again when the connection is over.
        tokio::select! {
            () = reading => {}
            free = timeout(Duration::from_secs(100_000), places.acquire()) => drop(free.expect("it ends")),
        }
        (got.len(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_loses_its_place_and_who_reads_slowly_does_not() {
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let (_, took) = served(request, None).await;
        assert!((STALLED..STALLED * 2).contains(&took), "{took:?}");
        let (got, took) = served(request, Some(STALLED / 3)).await;
        // All but what was still on its way when the server was through.
        assert!(got > 98_000, "only {got} octets");
        assert!(took > STALLED * 10, "{took:?}");
        let (_, took) = served(b"", None).await;
        assert!((HEAD..HEAD * 2).contains(&took), "{took:?}");
    }
}
