//! How answers look.

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The version of everything below `/v1`.
pub const VERSION: u32 = 1;

/// A refusal in words.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub String);

impl Refusal {
    /// The request is wrong.
    pub fn bad(why: impl Into<String>) -> Refusal {
        Refusal(StatusCode::BAD_REQUEST, why.into())
    }
}

#[derive(Serialize)]
struct Words<'a> {
    error: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, json(&Words { error: &self.1 })).into_response()
    }
}

/// A value as JSON, on one line.
pub fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(mut text) => {
            text.push('\n');
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        // Our own types have no maps with odd keys and no infinities.
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

/// No such path.
pub async fn nothing_there(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(100).collect();
    Refusal(StatusCode::NOT_FOUND, format!("there is nothing at {}", path.escape_default()))
}
