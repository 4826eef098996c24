//! The page itself: a function a topic, a line a family.
//!
//! Nothing here is kept between two scrapes, but what a sum of bytes was: it may not be seen to fall.

use super::exposition::{Kind, Page};
use super::process;
use super::totals::totals;
use crate::backend::health::{Condition, Report, Tries};
use crate::login::house::House;
use crate::login::limits;
use crate::login::roll::State;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use Kind::{Counter as C, Gauge as G, Histogram as H};

/// What is listened to, counted and known, in the text format of Prometheus.
pub fn render(house: &House) -> String {
    let mut page = Page::default();
    page.family("gatepost_build_info", G, "Always 1; the version is a label.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    logins(house, &mut page);
    sessions(house, &mut page);
    accepting(house, &mut page);
    limited(house, &mut page);
    databases(house, &mut page);
    backends(house, &mut page);
    certificates(house, &mut page);
    upkeep(house, &mut page);
    process::write(&mut page, house.metrics.started);
    page.into_text()
}

fn logins(house: &House, page: &mut Page) {
    let spoken: Vec<_> = house.metrics.spoken.iter().filter(|one| one.signs_in).collect();
    let mut family = page.family("gatepost_logins_total", C, "Logins that were answered, by outcome and the journal's reason.");
    for one in &spoken {
        family.sample(&[("protocol", one.name), ("outcome", "ok"), ("reason", "none")], one.logins.get());
        for (reason, count) in one.refused.each() {
            family.sample(&[("protocol", one.name), ("outcome", "refused"), ("reason", reason)], count);
        }
    }
    let mut family = page.family("gatepost_login_duration_seconds", H, "From a login to the decision on it.");
    for one in &spoken {
        family.histogram(&[("protocol", one.name), ("outcome", "ok")], &one.took);
        family.histogram(&[("protocol", one.name), ("outcome", "refused")], &one.took_refused);
    }
    let help = "Connections that ended without a login, by the journal's reason.";
    let mut family = page.family("gatepost_disconnects_before_login_total", C, help);
    for one in &house.metrics.spoken {
        for (reason, count) in one.left.each() {
            family.sample(&[("protocol", one.name), ("reason", reason)], count);
        }
    }
    let letters: Vec<_> = house.metrics.spoken.iter().filter(|one| !one.signs_in).collect();
    let mut family = page.family("gatepost_recipients_total", C, "Recipients of mail, by what became of them.");
    for one in &letters {
        for (outcome, count) in one.recipients.each() {
            family.sample(&[("protocol", one.name), ("outcome", outcome)], count);
        }
    }
    let mut family = page.family("gatepost_recipient_duration_seconds", H, "From MAIL to the last answer for a recipient.");
    for one in &letters {
        family.histogram(&[("protocol", one.name)], &one.took_mail);
    }
}

fn sessions(house: &House, page: &mut Page) {
    let spoken: Vec<_> = house.metrics.spoken.iter().filter(|one| one.signs_in).collect();
    let mut family = page.family("gatepost_sessions", G, "Sessions that are relayed now.");
    spoken.iter().for_each(|one| family.sample(&[("protocol", one.name)], one.sessions.load(Ordering::Relaxed)));
    let mut family = page.family("gatepost_session_ends_total", C, "Sessions that have ended, by whom.");
    for one in &spoken {
        for (by, count) in one.ended.each() {
            family.sample(&[("protocol", one.name), ("by", by)], count);
        }
    }
    let totals = totals(house);
    let help = "Octets relayed, those of sessions that go on included.";
    let mut family = page.family("gatepost_relayed_bytes_total", C, help);
    for one in &totals {
        family.sample(&[("protocol", one.protocol), ("direction", "to_backend")], one.to_backend);
        family.sample(&[("protocol", one.protocol), ("direction", "to_client")], one.to_client);
    }
    let mut family = page.family("gatepost_idle_sessions", G, "Sessions in which nothing has moved for a minute.");
    totals.iter().for_each(|one| family.sample(&[("protocol", one.protocol)], one.idle));
    let help = "Logins that are looked at (signing-in), or that wait for delay_until or the hold of a kick (held).";
    let mut family = page.family("gatepost_logins_in_progress", G, help);
    for one in &totals {
        for (state, count) in [(State::SigningIn, one.signing_in), (State::Held, one.held)] {
            family.sample(&[("protocol", one.protocol), ("state", state.word())], count);
        }
    }
}

fn accepting(house: &House, page: &mut Page) {
    page.one("gatepost_connections", G, "Connections of clients, signed in or not.", house.seats.taken());
    let help = "Connections of clients that have not signed in.";
    page.one("gatepost_connections_before_login", G, help, house.seats.strangers());
    let mut family = page.family("gatepost_listener_connections", G, "Connections at one listening address.");
    for door in house.doors.load().iter() {
        let at = door.bound.to_string();
        family.sample(&[("listener", &at), ("protocol", door.protocol.name)], door.places.used());
    }
    let accepted = &house.accepted;
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    page.one("gatepost_connections_accepted_total", C, "Connections that were accepted.", count(&accepted.accepted));
    let help = "Connections that were gone before they were accepted.";
    page.one("gatepost_connections_aborted_total", C, help, count(&accepted.aborted));
    let help = "Connections that were closed at once, by what they ran into.";
    let mut family = page.family("gatepost_connections_refused_total", C, help);
    for (reason, count) in [
        ("limits.connections_before_login", house.guard.sent_away()),
        ("listen.connections", count(&house.full_doors)),
        ("trust.proxy_protocol", count(&house.strangers)),
        ("resources", count(&accepted.turned_away)),
    ] {
        family.sample(&[("reason", reason)], count);
    }
    let help = "Times that accepting paused for want of descriptors or memory.";
    page.one("gatepost_accept_pauses_total", C, help, count(&accepted.pauses));
    let help = "Times that accepting waited because limits.connections was reached.";
    page.one("gatepost_accept_waits_total", C, help, house.seats.refusals());
    let help = "1 while strangers hold most of all connections, and have little patience to expect.";
    page.one("gatepost_stressed", G, help, u8::from(house.seats.stressed()));
}

fn limited(house: &House, page: &mut Page) {
    let all = limits::figures(house);
    let mut family = page.family(
        "gatepost_limit_used",
        G,
        "How much of a limit is used; of many users, addresses or listeners by the fullest.",
    );
    all.iter().for_each(|usage| family.sample(&[("limit", usage.limit.key())], usage.used));
    let mut family = page.family("gatepost_limit_max", G, "How much a limit allows.");
    all.iter().for_each(|usage| family.sample(&[("limit", usage.limit.key())], usage.most));
}

fn databases(house: &House, page: &mut Page) {
    let live = house.live.load();
    let mut family = page.family("gatepost_lookup_duration_seconds", H, "How long a user database took to answer.");
    live.chain.lookups().for_each(|(name, seen, _)| family.histogram(&[("database", name)], &seen.took));
    let help = "Questions to a user database that had no answer, or none in time.";
    let mut family = page.family("gatepost_lookup_failures_total", C, help);
    live.chain.lookups().for_each(|(name, seen, _)| family.sample(&[("database", name)], seen.failed.get()));
    let mut family = page.family("gatepost_lookups_in_flight", G, "Questions to a user database that are under way.");
    live.chain.lookups().for_each(|(name, _, under_way)| family.sample(&[("database", name)], under_way));
}

/// The figures of one address: of all of its places, or of all addresses that have none of their own.
#[derive(Default)]
struct Backend<'r> {
    conditions: [usize; 3],
    sessions: usize,
    connecting: usize,
    waiting: usize,
    tries: Option<&'r Tries>,
}

fn backends(house: &House, page: &mut Page) {
    let places = house.health.report();
    let others = house.health.others();
    let mut named: BTreeMap<Option<SocketAddr>, Backend<'_>> = BTreeMap::new();
    // Those without a name are there from the start, so that they do not come as a surprise.
    named.insert(None, Backend { tries: Some(&others), ..Backend::default() });
    for place in &places {
        add(named.entry(place.named.then_some(place.at)).or_default(), place);
    }
    let all: Vec<(String, Backend<'_>)> =
        named.into_iter().map(|(at, backend)| (at.map_or_else(|| "other".to_owned(), |at| at.to_string()), backend)).collect();
    let mut family = page.family("gatepost_backend_state", G, "Ways to a backend address that are in this state.");
    for (at, backend) in &all {
        for (condition, count) in Condition::ALL.iter().zip(backend.conditions) {
            family.sample(&[("backend", at), ("state", condition.word())], count);
        }
    }
    for (name, help, value) in [
        ("gatepost_backend_sessions", "Sessions that are relayed to a backend.", (|b| b.sessions) as fn(&Backend<'_>) -> usize),
        ("gatepost_backend_connecting", "Logins between connect and greeting at a backend.", |b| b.connecting),
        ("gatepost_backend_waiting", "Logins that wait for a turn to connect to a backend.", |b| b.waiting),
    ] {
        let mut family = page.family(name, G, help);
        all.iter().for_each(|(at, backend)| family.sample(&[("backend", at)], value(backend)));
    }
    let tries = || all.iter().filter_map(|(at, backend)| Some((at, backend.tries?)));
    let mut family = page.family("gatepost_backend_connect_duration_seconds", H, "From a connect to the backend's greeting.");
    tries().for_each(|(at, tries)| family.histogram(&[("backend", at)], &tries.took));
    let help = "Connects that got no greeting, by the backend's fault.";
    let mut family = page.family("gatepost_backend_connect_failures_total", C, help);
    tries().for_each(|(at, tries)| family.sample(&[("backend", at)], tries.failed.get()));
    let mut family = page.family("gatepost_backend_not_tried_total", C, "Tries of logins that a backend was spared.");
    for (at, tries) in tries() {
        family.sample(&[("backend", at), ("reason", "backend-down")], tries.down.get());
        family.sample(&[("backend", at), ("reason", "backend-busy")], tries.busy.get());
    }
}

fn add<'r>(backend: &mut Backend<'r>, place: &'r Report) {
    if let Some(count) = backend.conditions.get_mut(place.condition as usize) {
        *count += 1;
    }
    backend.sessions += place.sessions;
    backend.connecting += place.connecting;
    backend.waiting += place.waiting;
    backend.tries = Some(&place.tries);
}

fn certificates(house: &House, page: &mut Page) {
    let live = house.live.load();
    let help = "When a certificate for clients ends, in seconds since 1970.";
    let mut family = page.family("gatepost_certificate_expiry_timestamp_seconds", G, help);
    for certificate in live.certificates() {
        let file = certificate.file.map(|file| file.display().to_string()).unwrap_or_default();
        let name = certificate.name.unwrap_or_default();
        if let Some(end) = certificate.not_after {
            family.sample(&[("file", &file), ("name", &name)], end);
        }
    }
}

fn upkeep(house: &House, page: &mut Page) {
    let metrics = &house.metrics;
    let load = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let help = "How many configurations have been in force since the start.";
    page.one("gatepost_config_generation", G, help, load(&metrics.generation));
    let help = "When a configuration was last put into force, in seconds since 1970.";
    page.one("gatepost_config_last_success_timestamp_seconds", G, help, load(&metrics.reloaded));
    let help = "1 if the last reload was successful, or there was none; 0 if the old configuration had to stay.";
    page.one("gatepost_config_last_reload_successful", G, help, load(&metrics.reload_ok));
    let mut family = page.family("gatepost_reloads_total", C, "Reloads, by outcome.");
    for (outcome, count) in metrics.reloads.each().filter(|(outcome, _)| *outcome != super::counts::OTHER) {
        family.sample(&[("outcome", outcome)], count);
    }
    let help = "Lines of the journal that were lost because its file or pipe could not keep up.";
    page.one("gatepost_journal_lines_dropped_total", C, help, house.journal.lost());
    let help = "Warnings of limits (limit-near) that were only counted, because there were many.";
    page.one("gatepost_limit_warnings_left_out_total", C, help, house.warnings.left_out());
}
