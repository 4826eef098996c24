//! `GET /v1/history`: the last hour, a sample every five seconds, column by column.

use super::Desk;
use super::answer::{Refusal, VERSION, json};
use super::query::said;
use crate::metrics::history::{EVERY, Excerpt, Sample};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;

#[derive(Serialize)]
struct Answer {
    version: u32,
    /// Tells one process from the next.
    started: f64,
    /// Seconds between two samples.
    every: u64,
    /// The number of the first sample that is told, and of the one that will come next.
    first: u64,
    next: u64,
    time: Vec<u64>,
    seconds: Vec<f64>,
    sessions: BTreeMap<&'static str, Vec<u32>>,
    backends: Vec<Backend>,
    others: Vec<u32>,
    logins: Vec<u64>,
    refused: Vec<u64>,
    to_backend: Vec<u64>,
    to_client: Vec<u64>,
}

#[derive(Serialize)]
struct Backend {
    address: SocketAddr,
    sessions: Vec<u32>,
}

/// `GET /v1/history?since=NUMBER`.
pub async fn list(State(desk): State<Desk>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let history = &desk.house.history;
    let excerpt = history.since(since(query.as_deref())?);
    Ok(json(&columns(excerpt, history.started().as_secs_f64())))
}

fn since(query: Option<&str>) -> Result<u64, Refusal> {
    let mut since = 0;
    for word in said(query) {
        match &*word.name {
            "since" => since = word.value.parse().map_err(|_| word.bad("is no number of a sample"))?,
            _ => return Err(word.unknown()),
        }
    }
    Ok(since)
}

fn columns(excerpt: Excerpt, started: f64) -> Answer {
    let Excerpt { protocols, first, samples } = excerpt;
    let mut backends: BTreeMap<SocketAddr, Vec<u32>> = BTreeMap::new();
    for (index, sample) in samples.iter().enumerate() {
        for (address, sessions) in &sample.backends {
            let column = backends.entry(*address).or_insert_with(|| vec![0; samples.len()]);
            if let Some(cell) = column.get_mut(index) {
                *cell = *sessions;
            }
        }
    }
    let column = |of: fn(&Sample) -> u64| samples.iter().map(of).collect();
    let of_protocol = |index: usize| samples.iter().map(|s| s.sessions.get(index).copied().unwrap_or(0)).collect();
    Answer {
        version: VERSION,
        started,
        every: EVERY.as_secs(),
        first,
        next: first.saturating_add(u64::try_from(samples.len()).unwrap_or(u64::MAX)),
        time: column(|s| s.time.as_secs()),
        seconds: samples.iter().map(|s| s.long.as_secs_f64()).collect(),
        sessions: protocols.iter().enumerate().map(|(index, name)| (*name, of_protocol(index))).collect(),
        backends: backends.into_iter().map(|(address, sessions)| Backend { address, sessions }).collect(),
        others: samples.iter().map(|s| s.others).collect(),
        logins: column(|s| s.logins),
        refused: column(|s| s.refused),
        to_backend: column(|s| s.to_backend),
        to_client: column(|s| s.to_client),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_a_cell_for_every_sample() {
        let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:143".parse().unwrap(), "10.0.0.2:143".parse().unwrap());
        let sample =
            |backends: &[(SocketAddr, u32)]| Sample { sessions: [1, 2].into(), backends: backends.into(), ..Sample::default() };
        let samples = vec![sample(&[(a, 1)]), sample(&[(b, 2), (a, 3)]), sample(&[])];
        let answer = columns(Excerpt { protocols: vec!["imap", "pop3"], first: 40, samples }, 1.0);
        assert_eq!((answer.first, answer.next, answer.time.len()), (40, 43, 3));
        let columns: Vec<_> = answer.backends.iter().map(|one| (one.address, one.sessions.clone())).collect();
        assert_eq!(columns, [(a, vec![1, 3, 0]), (b, vec![0, 2, 0])]);
        assert_eq!(answer.sessions["pop3"], [2, 2, 2]);
    }

    #[test]
    fn the_number_is_read_strictly() {
        assert_eq!(since(None).ok(), Some(0));
        assert_eq!(since(Some("since=7")).ok(), Some(7));
        for bad in ["since=", "since=-1", "since=x", "from=1"] {
            assert!(since(Some(bad)).is_err(), "{bad}");
        }
    }
}
