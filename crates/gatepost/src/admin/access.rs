//! Who may ask over TCP: whoever has the token.

use super::Desk;
use super::answer::Refusal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::path::Path;
use subtle::ConstantTimeEq;

/// The shortest and the longest token, octets.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;

/// What is kept of a token: its digest, so that comparing takes the same time for all of one length and nothing can print it.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    fn of(text: &[u8]) -> Token {
        Token(Sha256::digest(text).into())
    }

    fn is(&self, text: &[u8]) -> bool {
        bool::from(Token::of(text).0.ct_eq(&self.0))
    }
}

/// Reads the token: the first line of its file.
///
/// # Errors
/// The file cannot be read, or its first line cannot be a token.
pub fn read_token(file: &Path) -> Result<Token, String> {
    let bytes = zeroize::Zeroizing::new(std::fs::read(file).map_err(|e| format!("admin.token_file {}: {e}", file.display()))?);
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
    if !LENGTHS.contains(&line.len()) || !line.iter().all(u8::is_ascii_graphic) {
        let (least, most) = (LENGTHS.start(), LENGTHS.end());
        return Err(format!(
            "admin.token_file {}: its first line must be one word of {least} to {most} printable ASCII characters; openssl rand -hex 32 makes one",
            file.display()
        ));
    }
    Ok(Token::of(line))
}

/// Lets those pass who have the token. What needs none is routed before this.
pub async fn with_token(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let word =
        given.and_then(|value| value.split_first_chunk::<7>()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    let live = desk.house.live.load();
    match (&live.admin_token, word) {
        (Some(token), Some((_, word))) if token.is(word.trim_ascii()) => {}
        _ => {
            let refusal =
                Refusal(StatusCode::UNAUTHORIZED, "send Authorization: Bearer with the token of admin.token_file".into());
            return ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response();
        }
    }
    drop(live);
    next.run(request).await
}

/// What is followed live takes one of few places, and is in the journal: an order, though it is asked for by GET.
pub const FOLLOWED: &str = "/v1/trace";

/// Refuses what a page of another site makes a browser order. Where a web server in front lets browsers in without our token,
/// nothing else would tell such an order from one of the person at the browser.
pub async fn own_pages_only(request: Request, next: Next) -> Response {
    let orders = !request.method().is_safe() || request.uri().path() == FOLLOWED;
    if !orders || is_own(request.headers()) {
        next.run(request).await
    } else {
        Refusal(StatusCode::FORBIDDEN, "a page of another site may order nothing here".into()).into_response()
    }
}

/// Browsers say where a page is from; they leave `Sec-Fetch-Site` out where the server's address is neither HTTPS nor loopback.
fn is_own(headers: &HeaderMap) -> bool {
    let said = |name| headers.get(name).map(HeaderValue::as_bytes);
    match (said(HeaderName::from_static("sec-fetch-site")), said(header::ORIGIN)) {
        (Some(site), _) => matches!(site, b"same-origin" | b"none"),
        (None, Some(origin)) => {
            let host = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
            host.is_some() && host == said(header::HOST)
        }
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        for (site, origin, own) in [
            (None, None, true),
            (Some("same-origin"), Some("https://mail.example.com"), true),
            (Some("none"), None, true),
            (Some("cross-site"), None, false),
            (Some("same-site"), Some("http://gate:8080"), false),
            (None, Some("http://gate:8080"), true),
            (None, Some("http://gate:8081"), false),
            (None, Some("null"), false),
            (None, Some("http://evil.example"), false),
        ] {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("gate:8080"))]);
            site.map(|site| headers.insert("sec-fetch-site", HeaderValue::from_static(site)));
            origin.map(|origin| headers.insert(header::ORIGIN, HeaderValue::from_static(origin)));
            assert_eq!(is_own(&headers), own, "{site:?} {origin:?}");
        }
    }

    #[tokio::test]
    async fn what_changes_nothing_may_be_asked_from_anywhere_and_a_trace_is_an_order() {
        use axum::routing::{any, get};
        let app = axum::Router::new().route("/v1/status", any(async || "")).route(FOLLOWED, get(async || ""));
        let app = app.layer(axum::middleware::from_fn(own_pages_only)).into_service::<axum::body::Body>();
        for (method, path, site, status) in [
            ("GET", "/v1/status", "cross-site", 200),
            ("POST", "/v1/status", "cross-site", 403),
            ("POST", "/v1/status", "same-origin", 200),
            ("GET", FOLLOWED, "cross-site", 403),
            ("GET", FOLLOWED, "same-site", 403),
            ("GET", FOLLOWED, "same-origin", 200),
        ] {
            let request = Request::builder().method(method).uri(path).header("sec-fetch-site", site);
            let service = hyper_util::service::TowerToHyperService::new(app.clone());
            let answer = hyper::service::Service::call(&service, request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{method} {path} {site}");
        }
    }

    #[test]
    fn a_token_is_one_long_word() {
        let dir = testkit::Dir::new();
        for (text, fine) in [
            ("0123456789abcdef", true),
            ("0123456789abcdef\n", true),
            ("0123456789abcdef\nsecond line", true),
            ("0123456789abcde", false),
            ("", false),
            ("\n0123456789abcdef", false),
            ("0123456789 abcdef", false),
        ] {
            let file = dir.write("token", text);
            assert_eq!(read_token(&file).is_ok(), fine, "{text:?}");
        }
        let token = read_token(&dir.write("token", "0123456789abcdef\n")).unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeg") && !token.is(b""));
        assert!(read_token(&dir.join("none")).is_err());
    }
}
