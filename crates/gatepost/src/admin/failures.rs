//! `GET /v1/failures`: whose logins failed most in the last hour.

use super::Desk;
use super::answer::{Refusal, VERSION, json};
use super::query::said;
use crate::login::failures::{NAMES_MAX, Summary, Told, WINDOW};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::net::IpAddr;

/// How many names are told of where the request does not say.
const USUAL: usize = 100;

#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    /// Seconds.
    window: u64,
    failures: u64,
    names: usize,
    users: Vec<User<'a>>,
}

#[derive(Serialize)]
struct User<'a> {
    user: &'a str,
    failures: u64,
    reason: &'a str,
    protocol: &'a str,
    client: IpAddr,
    ago: u64,
}

/// `GET /v1/failures?limit=N`.
pub async fn list(State(desk): State<Desk>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let most = most(query.as_deref())?;
    let Summary { failures, names, top } = desk.house.failures.summary(most);
    let users = top.iter().map(user).collect();
    Ok(json(&Answer { version: VERSION, window: WINDOW.as_secs(), failures, names, users }))
}

fn user(told: &Told) -> User<'_> {
    let Told { user, failures, reason, protocol, client, ago } = told;
    User { user, failures: *failures, reason, protocol, client: *client, ago: ago.as_secs() }
}

fn most(query: Option<&str>) -> Result<usize, Refusal> {
    let mut most = USUAL;
    for word in said(query) {
        match &*word.name {
            "limit" => {
                let number = word.value.parse().ok().filter(|number| (1..=NAMES_MAX).contains(number));
                most = number.ok_or_else(|| word.bad(format_args!("is no number from 1 to {NAMES_MAX}")))?;
            }
            _ => return Err(word.unknown()),
        }
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_strictly() {
        for (query, want) in [(None, Some(USUAL)), (Some("limit=1"), Some(1)), (Some("limit=1024"), Some(1024))] {
            assert_eq!(most(query).ok(), want, "{query:?}");
        }
        for bad in ["limit=0", "limit=1025", "limit=x", "limit=", "user=x"] {
            assert!(most(Some(bad)).is_err(), "{bad}");
        }
    }
}
