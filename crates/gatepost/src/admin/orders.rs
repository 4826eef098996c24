//! Orders that change the running process: they go to the one loop that may do so, and wait for its answer.

use super::Desk;
use super::answer::{Refusal, VERSION, json};
use crate::life::succession::Refused;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// What may be ordered.
pub enum Order {
    /// Read the configuration anew. The answer: remarks; or all problems, and then nothing has changed.
    Reload(oneshot::Sender<Result<Vec<String>, Vec<String>>>),
    /// Start a successor and hand over to it.
    Upgrade(oneshot::Sender<Result<Succeeded, Refused>>),
}

/// What came of an upgrade.
#[derive(Debug, Serialize)]
pub struct Succeeded {
    version: u32,
    /// The process that serves now.
    pub successor: u32,
    /// The process that served.
    pub predecessor: u32,
    /// The connections that it keeps.
    pub connections: usize,
}

impl Succeeded {
    /// This process has a successor.
    pub fn by(successor: u32, connections: usize) -> Succeeded {
        Succeeded { version: VERSION, successor, predecessor: std::process::id(), connections }
    }
}

/// Why there was none.
#[derive(Serialize)]
struct NotSucceeded {
    version: u32,
    error: &'static str,
    /// The exit code for a command: 78 where the configuration is to blame.
    code: u8,
    problems: Vec<String>,
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

/// `POST /v1/upgrade`.
pub async fn upgrade(State(desk): State<Desk>) -> Response {
    let (answer, heard) = oneshot::channel();
    let sent = desk.orders.send(Order::Upgrade(answer)).await.is_ok();
    match (sent, heard.await) {
        (true, Ok(Ok(succeeded))) => json(&succeeded),
        (true, Ok(Err(Refused { code, problems }))) => {
            let words = NotSucceeded { version: VERSION, error: "the old process goes on", code, problems };
            (StatusCode::UNPROCESSABLE_ENTITY, json(&words)).into_response()
        }
        _ => Refusal(StatusCode::SERVICE_UNAVAILABLE, "the server is going away".into()).into_response(),
    }
}
