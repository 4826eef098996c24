//! How it stands: `GET /v1/status`; and `POST /v1/drain`.
//!
//! A picture of one moment, from what the rooms know anyway. Rates are of the last minute, as the history has it.

use super::Desk;
use super::answer::{Refusal, VERSION, json};
use crate::backend::health::Report;
use crate::config::listen_at::ListenAt;
use crate::journal::Level;
use crate::login::house::{House, Phase};
use crate::login::limits;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most backends that are told; those with the most sessions and troubles.
const BACKENDS: usize = 1000;

#[derive(Serialize)]
struct Status<'a> {
    version: u32,
    gatepost: &'static str,
    pid: u32,
    name: &'a str,
    /// Seconds since 1970.
    since: u64,
    uptime: u64,
    phase: &'static str,
    connections: usize,
    sessions: BTreeMap<&'static str, usize>,
    listeners: Vec<Listener>,
    backends: Vec<Backend>,
    backends_left_out: usize,
    logins: Vec<Logins>,
    lookups: Vec<Lookups>,
    limits: Vec<Limit>,
    certificates: Vec<Certificate>,
}

#[derive(Serialize)]
struct Listener {
    protocol: &'static str,
    tls: &'static str,
    address: ListenAt,
    connections: usize,
}

#[derive(Serialize)]
struct Backend {
    address: SocketAddr,
    protocol: &'static str,
    implicit_tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    state: &'static str,
    sessions: usize,
    connecting: usize,
    waiting: usize,
    /// Seconds.
    failing_for: Option<u64>,
    last_failure: Option<u64>,
    last_success: Option<u64>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Logins {
    protocol: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    total: u64,
    per_second: f64,
}

/// Seconds.
#[derive(Serialize)]
struct Lookups {
    database: String,
    count: u64,
    failed: u64,
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Serialize)]
struct Limit {
    name: &'static str,
    used: usize,
    limit: usize,
    percent: usize,
    fullest: Option<String>,
}

#[derive(Serialize)]
struct Certificate {
    name: Option<String>,
    file: Option<String>,
    /// Seconds since 1970.
    not_after: Option<i64>,
    /// Whole days that are left; negative where it has ended.
    days: Option<i64>,
}

/// `GET /v1/status`.
pub async fn status(State(desk): State<Desk>) -> Response {
    let house = &desk.house;
    let live = house.live.load_full();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let uptime = desk.started.elapsed().as_secs();
    let mut backends: Vec<Backend> = house.health.report().into_iter().map(backend).collect();
    // Trouble first, then where most people are.
    backends.sort_by_key(|backend| (backend.state == "up", std::cmp::Reverse(backend.sessions)));
    let backends_left_out = backends.len().saturating_sub(BACKENDS);
    backends.truncate(BACKENDS);
    json(&Status {
        version: VERSION,
        gatepost: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        name: &live.meant.server.name,
        since: now.saturating_sub(uptime),
        uptime,
        phase: phase(&desk),
        connections: house.seats.taken(),
        sessions: house.metrics.sessions().collect(),
        listeners: listeners(house),
        backends,
        backends_left_out,
        logins: logins(house),
        lookups: live
            .chain
            .lookups()
            .map(|(name, seen, _)| Lookups {
                database: name.to_owned(),
                count: seen.took.cumulative().last().map_or(0, |(_, count)| *count),
                failed: seen.failed.get(),
                p50: seen.recent.quantile(0.5).map(|took| took.as_secs_f64()),
                p99: seen.recent.quantile(0.99).map(|took| took.as_secs_f64()),
            })
            .collect(),
        limits: limits::usages(house)
            .into_iter()
            .map(|usage| Limit {
                name: usage.limit.key(),
                used: usage.used,
                limit: usage.most,
                percent: usage.percent(),
                fullest: usage.whose.filter(|_| usage.used > 0),
            })
            .collect(),
        certificates: certificates(&live, now),
    })
}

/// In a word, for lists and for `/readyz`.
pub(super) fn phase(desk: &Desk) -> &'static str {
    match *desk.house.phase.borrow() {
        Phase::Closing | Phase::Leaving => "stopping",
        Phase::Open if desk.house.draining() => "draining",
        Phase::Open => "serving",
    }
}

fn listeners(house: &House) -> Vec<Listener> {
    let all = house.doors.load();
    let mut all: Vec<Listener> = all
        .iter()
        .map(|door| Listener {
            protocol: door.protocol.name,
            tls: door.tls.word(),
            address: door.bound.clone(),
            connections: door.places.used(),
        })
        .collect();
    all.sort_unstable_by(|a, b| (a.protocol, a.tls, &a.address).cmp(&(b.protocol, b.tls, &b.address)));
    all
}

fn backend(report: Report) -> Backend {
    let seconds = |ago: Option<Duration>| ago.map(|ago| ago.as_secs());
    Backend {
        address: report.at,
        protocol: report.protocol,
        implicit_tls: report.implicit_tls,
        source: report.source,
        state: report.condition.word(),
        sessions: report.sessions,
        connecting: report.connecting,
        waiting: report.waiting,
        failing_for: seconds(report.failing_for),
        last_failure: seconds(report.last_failure),
        last_success: seconds(report.last_success),
        error: report.failure.map(|text| text.to_string()),
    }
}

/// Those that ever were: zeros of all reasons would hide the rest.
fn logins(house: &House) -> Vec<Logins> {
    let (ago, had) = house.history.a_minute_ago().unwrap_or_default();
    let seconds = ago.as_secs_f64().max(1.0);
    // Before the first sample there are no rates.
    let had = had.iter().copied().map(Some).chain(std::iter::repeat(None));
    let told = house.metrics.outcomes().zip(had).filter(|((_, outcome, _, total), _)| *outcome == "ok" || *total > 0);
    told.map(|((protocol, outcome, reason, total), had)| {
        let more = u32::try_from(total.saturating_sub(had.unwrap_or(total))).unwrap_or(u32::MAX);
        let per_second = (f64::from(more) / seconds * 100.0).round() / 100.0;
        Logins { protocol, outcome, reason: (outcome != "ok").then_some(reason), total, per_second }
    })
    .collect()
}

fn certificates(live: &crate::login::house::Live, now: u64) -> Vec<Certificate> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let all = live.certificates().into_iter();
    all.map(|certificate| Certificate {
        name: certificate.name,
        file: certificate.file.map(|file| file.display().to_string()),
        not_after: certificate.not_after,
        days: certificate.not_after.map(|end| end.saturating_sub(now).div_euclid(86_400)),
    })
    .collect()
}

#[derive(Serialize)]
struct Drained {
    version: u32,
    phase: &'static str,
}

/// `POST /v1/drain?on=1` and `?on=0`: `/readyz` says no, so that balancers send nobody any more. Whoever comes is served all the
/// same: a client that a balancer has sent already must not be turned away.
pub async fn drain(State(desk): State<Desk>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let on = match query.as_deref() {
        Some("on=1") => true,
        Some("on=0") => false,
        _ => return Err(Refusal::bad("say on=1 or on=0")),
    };
    if desk.house.drain(on) {
        let text = if on { "balancers are told to go elsewhere (readyz)" } else { "balancers may come again (readyz)" };
        desk.house.journal.say(Level::Info, "drain", &text);
    }
    Ok(json(&Drained { version: VERSION, phase: phase(&desk) }))
}
