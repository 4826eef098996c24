//! How a login would be decided: `POST /v1/explain/login`, with the words of [`Ask`] as JSON.
//!
//! What is answered is an [`crate::explain::Explanation`]. Nothing comes of it; see there.

use super::Desk;
use super::answer::{Refusal, json};
use crate::explain::{self, Ask, Unanswerable};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

/// `POST /v1/explain/login`.
pub async fn login(State(desk): State<Desk>, body: Bytes) -> Result<Response, Refusal> {
    let ask: Ask = serde_json::from_slice(&body).map_err(|e| Refusal::bad(words(&e)))?;
    match explain::login(&desk.house, true, &ask).await {
        Ok(told) => Ok(json(&told)),
        Err(Unanswerable(why)) => Err(Refusal::bad(why)),
    }
}

/// What is wrong with the request. Its own values are not repeated: one of them is a password.
fn words(e: &serde_json::Error) -> String {
    let what = match e.classify() {
        serde_json::error::Category::Data => "a key that is not known, or a value of another kind",
        _ => "no JSON",
    };
    format!("the body, line {}, column {}: {what}", e.line(), e.column())
}
