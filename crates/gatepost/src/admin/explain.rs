//! How a login would be decided: `POST /v1/explain/login`, with the words of [`Ask`] as JSON; or a recipient's mail:
//! `POST /v1/explain/rcpt`, with those of [`AskRcpt`].
//!
//! What is answered is an [`crate::explain::Explanation`]. Nothing comes of it; see there.

use super::Desk;
use super::answer::{Refusal, json};
use super::serve::HEAD;
use crate::explain::{self, Ask, AskRcpt, Unanswerable};
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

/// `POST /v1/explain/login`.
pub async fn login(State(desk): State<Desk>, request: Request) -> Result<Response, Refusal> {
    let body = body(request).await?;
    let ask: Ask = serde_json::from_slice(&body).map_err(|e| Refusal::bad(words(&e)))?;
    match explain::login(&desk.house, true, &ask).await {
        Ok(told) => Ok(json(&told)),
        Err(Unanswerable(why)) => Err(Refusal::bad(why)),
    }
}

/// `POST /v1/explain/rcpt`.
pub async fn rcpt(State(desk): State<Desk>, request: Request) -> Result<Response, Refusal> {
    let body = body(request).await?;
    let ask: AskRcpt = serde_json::from_slice(&body).map_err(|e| Refusal::bad(words(&e)))?;
    match explain::rcpt(&desk.house, true, &ask).await {
        Ok(told) => Ok(json(&told)),
        Err(Unanswerable(why)) => Err(Refusal::bad(why)),
    }
}

/// The whole body, which has as much time as a head.
async fn body(request: Request) -> Result<Bytes, Refusal> {
    match timeout(HEAD, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        // Too large, or it broke off.
        Ok(Err(refused)) => {
            let text = refused.body_text();
            Err(Refusal(refused.into_response().status(), format!("the body: {text}")))
        }
        Err(_) => Err(Refusal(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {} s", HEAD.as_secs()))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, HttpBody};
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_time_and_its_size() {
        let read = async |what: Body| body(Request::new(what)).await;
        assert_eq!(read(Body::from("{}")).await.map_err(|e| e.1).unwrap(), "{}");
        let late = read(Body::new(Endless)).await.map_err(|e| (e.0, e.1)).unwrap_err();
        assert_eq!(late, (StatusCode::REQUEST_TIMEOUT, "the body did not come within 5 s".to_owned()));
        let large = read(Body::from(vec![b' '; 3 << 20])).await.map_err(|e| e.0).unwrap_err();
        assert_eq!(large, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
