//! Sums over a protocol, as Prometheus and the status page are told them.

use crate::login::house::House;
use crate::login::roll::State;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// After so long without a byte a session counts as idle.
const IDLE: Duration = Duration::from_secs(60);

/// What one protocol has done since the start, and has now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Total {
    /// The protocol's name.
    pub protocol: &'static str,
    /// Sessions that are relayed now.
    pub sessions: usize,
    /// Those of them in which nothing has moved for a minute.
    pub idle: usize,
    /// Logins that are looked at.
    pub signing_in: usize,
    /// Logins that wait for `delay_until` or the hold of a kick.
    pub held: usize,
    /// Logins that went well.
    pub logins: u64,
    /// Logins that were refused.
    pub refused: u64,
    /// Octets relayed to backends, those of sessions that go on included.
    pub to_backend: u64,
    /// The same to clients.
    pub to_client: u64,
}

/// All protocols. Walks once over the roll; no sum is ever seen to fall.
pub fn totals(house: &House) -> Vec<Total> {
    let spoken = &house.metrics.spoken;
    // First those that have ended: a session that ends between the two looks is missed once, and never counted twice.
    let mut all: Vec<Total> = spoken
        .iter()
        .map(|one| Total {
            protocol: one.name,
            sessions: one.sessions.load(Ordering::Relaxed),
            idle: 0,
            signing_in: 0,
            held: 0,
            logins: one.logins.get(),
            refused: one.refused.each().map(|(_, count)| count).sum(),
            to_backend: one.to_backend.get(),
            to_client: one.to_client.get(),
        })
        .collect();
    fence(Ordering::Acquire);
    for entry in house.roll.all() {
        let Some(total) = all.iter_mut().find(|total| total.protocol == entry.protocol) else { continue };
        if let Some((to_backend, to_client)) = entry.unsettled() {
            total.to_backend = total.to_backend.saturating_add(to_backend);
            total.to_client = total.to_client.saturating_add(to_client);
        }
        match entry.state() {
            State::Talking => {}
            State::SigningIn => total.signing_in += 1,
            State::Held => total.held += 1,
            State::Relayed => total.idle += usize::from(entry.slot().idle() >= IDLE),
        }
    }
    for (total, one) in all.iter_mut().zip(spoken) {
        total.to_backend = one.told_to_backend.at_least(total.to_backend);
        total.to_client = one.told_to_client.at_least(total.to_client);
    }
    all
}
