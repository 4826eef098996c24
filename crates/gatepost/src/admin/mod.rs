//! The admin API: what operators and their programs ask of a running Gatepost, as HTTP with JSON.
//!
//! It is served on a unix socket (`server.control`), where the rights of the file say who may ask, and on TCP addresses
//! (`admin.address`) to those who send the token as `Authorization: Bearer TOKEN`. Without it only `/livez`, `/readyz` and the
//! files of the status page are answered there, which tell nothing.
//!
//! Everything below `/v1` keeps its meaning: fields may be added, none changes or goes. Errors are `{"error": "..."}` with a
//! status of 400 (the request), 401 (the token), 404, 408 (too slow), 409 (not now), 413 (too large), 422 (refused, and why)
//! or 503.
//!
//! Asking costs the sessions nothing: this runs on a thread of its own beside the shards, takes no lock of theirs for longer than
//! a look, and whoever asks too much at once waits (64 connections, 16 KiB a request, 5 s for its head and for its body; who
//! takes nothing of its answer for 30 s loses it).

mod access;
mod answer;
mod explain;
mod failures;
mod figures;
mod history;
mod listening;
mod orders;
mod page;
mod patient;
mod query;
mod serve;
mod sessions;
mod status;
mod trace;

pub use access::{Token, read_token};
pub use listening::{Listening, Sockets};
pub use orders::{Order, Orders, Succeeded};

use crate::login::house::House;
use crate::metrics::history::keep as keep_history;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Instant;

/// The largest body of a request.
const BODY_MAX: usize = 16 * 1024;

/// What every answer is made from.
#[derive(Clone)]
pub struct Desk {
    /// Whom it is about.
    pub house: Arc<House>,
    /// To the loop that may change things.
    pub orders: Orders,
    /// Since when.
    pub started: Instant,
}

impl Desk {
    /// For this house. Its history is kept as long as the runtime lives.
    pub fn new(house: Arc<House>, orders: Orders) -> Desk {
        tokio::spawn(keep_history(Arc::clone(&house)));
        Desk { house, orders, started: Instant::now() }
    }
}

/// Every path, for who comes by the socket.
pub fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/metrics", get(figures::metrics))
        .route("/v1/failures", get(failures::list))
        .route("/v1/history", get(history::list))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/kick", post(sessions::kick))
        .route("/v1/status", get(status::status))
        .route("/v1/drain", post(status::drain))
        .route("/v1/reload", post(orders::reload))
        .route("/v1/explain/login", post(explain::login))
        .route("/v1/explain/rcpt", post(explain::rcpt))
        .route("/v1/upgrade", post(orders::upgrade))
        .route(access::FOLLOWED, get(trace::follow))
        .fallback(answer::nothing_there)
        .layer(from_fn(access::own_pages_only))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(desk)
}
