//! The status page: three files that come with the program, and nothing from elsewhere.
//!
//! They tell nothing of this house, so they are given without a token; what the page shows it asks of the API, with the token
//! that a person typed in. The headers let it load itself and ask its own server, and nothing else: were a name from the
//! Internet ever taken for markup, it could neither run nor fetch.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use axum::routing::get;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The paths of its files.
pub fn files() -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/page.css", get(async || file("text/css; charset=utf-8", include_str!("page/page.css"))))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", include_str!("page/page.js"))))
        .route("/charts.js", get(async || file("text/javascript; charset=utf-8", include_str!("page/charts.js"))))
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The page of an old version must not ask a new one.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}
