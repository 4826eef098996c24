//! Takes connections for the admin API and serves them, a bounded number at a time.

use super::access::with_token;
use super::figures::open;
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
/// Time for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
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
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, app.clone(), place))),
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
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)).await;
    drop(place);
}
