//! `[limits]`: what one connection, one address, one user and all together may cost. Zero never means "no limit".

use super::trust::{Everybody, networks_of};
use crate::config::kinds;
use crate::config::meant::Limits;
use crate::config::reading::{Reading, Section};
use ipnet::IpNet;
use rustix::process::{Resource, getrlimit};
use std::time::Duration;

/// Descriptors that are not clients': listeners, databases, logs, the runtime.
const RESERVED: usize = 256;
/// More than any host has ports for; the default where descriptors are unlimited.
pub(super) const MOST_CONNECTIONS: usize = 1_000_000;
/// The most that one letter may be allowed to have.
const MOST_OCTETS: usize = 2 * 1024 * 1024 * 1024;
const COUNT: std::ops::RangeInclusive<u32> = 1..=1_000_000;

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> Limits {
    let default = default_limits();
    let seconds = |low, high| kinds::duration(Duration::from_secs(low)..=Duration::from_secs(high), "");
    let connections = section.read(r, "connections", kinds::number(1..=MOST_CONNECTIONS));
    if let Some(told) = connections.as_ref().filter(|told| told.value > default.connections) {
        let text = format!(
            "`limits.connections` needs {} descriptors, two each and {RESERVED} more; the limit here is enough for {}",
            told.value * 2 + RESERVED,
            default.connections
        );
        r.warning(told.at, "limit", text, "raise the descriptor limit of the service (LimitNOFILE=, ulimit -n)");
    }
    Limits {
        line: section.read_or(r, "line", kinds::size(512..=65536), default.line),
        literal: section.read_or(r, "literal", kinds::size(64..=65536), default.literal),
        bad_commands: section.read_or(r, "bad_commands", kinds::number(1..=1000), default.bad_commands),
        commands: section.read_or(r, "commands", kinds::number(10..=100_000), default.commands),
        failed_logins: section.read_or(r, "failed_logins", kinds::number(1..=1000), default.failed_logins),
        failed_login_pause: section.read_or(r, "failed_login_pause", seconds(0, 60), default.failed_login_pause),
        login_timeout: section.read_or(r, "login_timeout", seconds(1, 3600), default.login_timeout),
        tls_handshake_timeout: section.read_or(r, "tls_handshake_timeout", seconds(1, 600), default.tls_handshake_timeout),
        connections: connections.map_or(default.connections, |told| told.value),
        connections_before_login: section.read_or(
            r,
            "connections_before_login",
            kinds::number(1..=MOST_CONNECTIONS),
            default.connections_before_login,
        ),
        user_connections: section.read_or(r, "user_connections", kinds::number(1..=MOST_CONNECTIONS), default.user_connections),
        exempt: read_exempt(r, section),
        guesses: section.read_or(r, "guesses", kinds::number(COUNT), default.guesses),
        lookup_timeout: section.read_or(
            r,
            "lookup_timeout",
            kinds::duration(Duration::from_millis(100)..=Duration::from_secs(300), ""),
            default.lookup_timeout,
        ),
        lookups: section.read_or(r, "lookups", kinds::number(1..=65536), default.lookups),
        message_size: section.read_or(r, "message_size", kinds::size(64 * 1024..=MOST_OCTETS), default.message_size),
        recipients: section.read_or(r, "recipients", kinds::number(100..=100_000), default.recipients),
        drain: section.read_or(r, "drain", seconds(0, 86_400), default.drain),
        upgrade_drain: section.read_or(r, "upgrade_drain", seconds(0, 30 * 86_400), default.upgrade_drain),
    }
}

fn read_exempt(r: &mut Reading<'_>, section: &mut Section) -> Vec<IpNet> {
    let too_many = Everybody {
        code: "limit",
        why: "the limits per address would hold for nobody",
        fix: "list only webmail servers and the like, at which many users share an address; or raise the limits",
    };
    networks_of(r, section, "exempt", &too_many).0
}

/// The defaults on this host.
pub(crate) fn default_limits() -> Limits {
    let descriptors = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    Limits {
        line: 8192,
        literal: 4096,
        bad_commands: 10,
        commands: 100,
        failed_logins: 3,
        failed_login_pause: Duration::from_secs(2),
        login_timeout: Duration::from_secs(60),
        tls_handshake_timeout: Duration::from_secs(30),
        connections: connections(descriptors),
        connections_before_login: 100,
        user_connections: 50,
        exempt: Vec::new(),
        guesses: 20,
        lookup_timeout: Duration::from_secs(5),
        lookups: 256,
        message_size: 50 * 1024 * 1024,
        recipients: 1000,
        drain: Duration::from_secs(30),
        upgrade_drain: Duration::from_secs(86_400),
    }
}

/// Two descriptors per session, client and backend.
fn connections(descriptors: usize) -> usize {
    (descriptors.saturating_sub(RESERVED) / 2).clamp(1, MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_descriptors() {
        for (descriptors, expected) in [(1024, 384), (65536, 32640), (256, 1), (0, 1), (257, 1), (usize::MAX, 1_000_000)] {
            assert_eq!(connections(descriptors), expected, "{descriptors}");
        }
    }
}
