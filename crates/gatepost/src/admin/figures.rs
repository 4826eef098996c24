//! What other programs ask at intervals: `/metrics` (Prometheus), `/livez` and `/readyz` (balancers, orchestrators).

use super::Desk;
use super::page;
use super::status::phase;
use crate::metrics::exposition::CONTENT_TYPE;
use crate::metrics::render;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// `GET /metrics`.
pub async fn metrics(State(desk): State<Desk>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], render(&desk.house)).into_response()
}

/// What needs no token: it tells nothing of users or backends. With the files of the status page.
pub fn open(desk: Desk) -> Router {
    Router::new().route("/livez", get(|| async { "live\n" })).route("/readyz", get(readyz)).with_state(desk).merge(page::files())
}

/// Whether a client that connects now may sign in. Not whether backends are up: a balancer that takes this process away because
/// of them would take all others away too.
async fn readyz(State(desk): State<Desk>) -> Response {
    match phase(&desk) {
        "serving" => "ready\n".into_response(),
        other => (StatusCode::SERVICE_UNAVAILABLE, format!("{other}\n")).into_response(),
    }
}
