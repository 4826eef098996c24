//! Orders that change the running process: they go to the one loop that may do so, and wait for its answer.

use super::Desk;
use super::answer::{Refusal, VERSION, json};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// What may be ordered.
pub enum Order {
    /// Read the configuration anew. The answer: remarks; or all problems, and then nothing has changed.
    Reload(oneshot::Sender<Result<Vec<String>, Vec<String>>>),
}

/// The way to the loop.
pub type Orders = mpsc::Sender<Order>;

/// What came of a reload.
#[derive(Serialize)]
struct Reloaded {
    version: u32,
    remarks: Vec<String>,
}

/// Why there was none.
#[derive(Serialize)]
struct NotReloaded {
    version: u32,
    error: &'static str,
    problems: Vec<String>,
}

/// `POST /v1/reload`.
pub async fn reload(State(desk): State<Desk>) -> Response {
    let (answer, heard) = oneshot::channel();
    let sent = desk.orders.send(Order::Reload(answer)).await.is_ok();
    match (sent, heard.await) {
        (true, Ok(Ok(remarks))) => json(&Reloaded { version: VERSION, remarks }),
        (true, Ok(Err(problems))) => {
            let words = NotReloaded { version: VERSION, error: "the old configuration stays in force", problems };
            (StatusCode::UNPROCESSABLE_ENTITY, json(&words)).into_response()
        }
        _ => Refusal(StatusCode::SERVICE_UNAVAILABLE, "the server is going away".into()).into_response(),
    }
}
