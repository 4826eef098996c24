//! Figures for Prometheus: what is counted, and the page that shows it.
//!
//! [`Metrics`] is what sessions count on, a field of the house; [`render`] adds what the other rooms know at that moment.
//! Outcomes are counted with the fixed words of the journal (`reason=`), so a figure leads to the lines behind it.
//!
//! Labels are protocols, fixed words, names of databases, listeners and certificates from the configuration, and at most 256
//! addresses of backends. Never a user, never a client: whoever sends a million names changes numbers, not their number.

pub mod counts;
pub mod exposition;
pub mod history;
mod process;
mod scrape;
mod totals;

pub use scrape::render;
pub use totals::{Total, totals};

use crate::failure;
use crate::protocol::{PROTOCOLS, Protocol};
use counts::{Counter, Histogram, Words};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bounds for logins, in microseconds: from a cached answer to `proxy_timeout` and what `delay_until` adds.
const LOGIN: &[u64] = &[
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// What becomes of a recipient.
pub const RECIPIENTS: &[&str] = &["delivered", "deferred", "rejected"];

/// How a connection ended that never signed in: the journal's words. A test compares them with the documentation.
pub const LEFT: &[&str] = &[
    "alpn",
    "bare-newline",
    "bdat-before-login",
    "closed",
    "http-on-imap",
    "http-on-lmtp",
    "http-on-managesieve",
    "http-on-pop3",
    "http-on-submission",
    "hung-up",
    "idle",
    "kicked",
    "limit",
    "line-too-long",
    "literal-too-big",
    "login-timeout",
    "logout",
    "lost",
    "malformed-literal",
    "pipelining",
    "proxy-checksum",
    "proxy-command",
    "proxy-family",
    "proxy-header",
    "proxy-missing",
    "proxy-protocol",
    "proxy-short",
    "proxy-tlv-bounds",
    "proxy-tlv-twice",
    "proxy-tlv-value",
    "proxy-too-long",
    "proxy-v1",
    "proxy-version",
    "quoted-too-long",
    "shutting-down",
    "starttls-injection",
    "tls",
    "tls-in-clear",
    "too-many-bad-commands",
    "too-many-commands",
    "too-many-failures",
    "too-many-literals",
];

/// Who ended a session: the journal's words.
pub const ENDED_BY: &[&str] = &["client", "backend", "gatepost-idle", "gatepost-kicked", "gatepost-shutting-down"];

/// What is counted by sessions and by the server.
#[derive(Debug)]
pub struct Metrics {
    spoken: Vec<Spoken>,
    /// When the process began, seconds since 1970.
    started: f64,
    generation: AtomicU64,
    reloads: Words,
    /// When a configuration was last put into force, seconds since 1970; and whether the last try succeeded.
    reloaded: AtomicU64,
    reload_ok: AtomicU64,
}

/// What one protocol does.
#[derive(Debug)]
struct Spoken {
    name: &'static str,
    /// Its clients sign in.
    signs_in: bool,
    logins: Counter,
    refused: Words,
    took: Histogram,
    took_refused: Histogram,
    left: Words,
    /// Of protocols of the message way: what became of recipients, and how long it took.
    recipients: Words,
    took_mail: Histogram,
    sessions: AtomicUsize,
    ended: Words,
    /// Of sessions that have ended.
    to_backend: Counter,
    to_client: Counter,
    /// What scrapes were told: with sessions that go on.
    told_to_backend: Counter,
    told_to_client: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let spoken = |protocol: &Protocol| Spoken {
            name: protocol.name,
            signs_in: protocol.login().is_some(),
            logins: Counter::default(),
            refused: Words::new(failure::WORDS),
            took: Histogram::new(LOGIN),
            took_refused: Histogram::new(LOGIN),
            left: Words::new(LEFT),
            recipients: Words::new(RECIPIENTS),
            took_mail: Histogram::new(LOGIN),
            sessions: AtomicUsize::new(0),
            ended: Words::new(ENDED_BY),
            to_backend: Counter::default(),
            to_client: Counter::default(),
            told_to_backend: Counter::default(),
            told_to_client: Counter::default(),
        };
        Metrics {
            spoken: PROTOCOLS.iter().map(spoken).collect(),
            started: now().as_secs_f64(),
            generation: AtomicU64::new(1),
            reloads: Words::new(&["ok", "failed"]),
            reloaded: AtomicU64::new(now().as_secs()),
            reload_ok: AtomicU64::new(1),
        }
    }
}

impl Metrics {
    fn of(&self, protocol: &str) -> Option<&Spoken> {
        self.spoken.iter().find(|spoken| spoken.name == protocol)
    }

    /// How logins came out since the start: protocol, outcome, the journal's reason (`none` of those that went well), how many.
    /// Always the same ones in the same order.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        self.spoken.iter().filter(|one| one.signs_in).flat_map(|one| {
            let refused = one.refused.each().map(|(reason, count)| (one.name, "refused", reason, count));
            std::iter::once((one.name, "ok", "none", one.logins.get())).chain(refused)
        })
    }

    /// How many sessions each protocol has.
    pub fn sessions(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.spoken.iter().map(|one| (one.name, one.sessions.load(Ordering::Relaxed)))
    }

    /// A login that went well, and how long the client waited for it.
    pub fn login(&self, protocol: &str, took: Duration) {
        if let Some(spoken) = self.of(protocol) {
            spoken.logins.one();
            spoken.took.record(took);
        }
    }

    /// A login that was refused, with the journal's word for the reason; and how long the client waited, if it was looked at.
    pub fn refused(&self, protocol: &str, reason: &str, took: Option<Duration>) {
        if let Some(spoken) = self.of(protocol) {
            spoken.refused.one(reason);
            if let Some(took) = took {
                spoken.took_refused.record(took);
            }
        }
    }

    /// A connection that ended without a login, with the journal's word for the reason.
    pub fn left(&self, protocol: &str, reason: &str) {
        if let Some(spoken) = self.of(protocol) {
            spoken.left.one(reason);
        }
    }

    /// What became of a recipient, in the journal's word, and how long after MAIL.
    pub fn recipient(&self, protocol: &str, outcome: &str, took: Duration) {
        if let Some(spoken) = self.of(protocol) {
            spoken.recipients.one(outcome);
            spoken.took_mail.record(took);
        }
    }

    /// A session is on, until dropped.
    pub fn session(&self, protocol: &str) -> On<'_> {
        let spoken = self.of(protocol);
        if let Some(spoken) = spoken {
            spoken.sessions.fetch_add(1, Ordering::Relaxed);
        }
        On(spoken)
    }

    /// A configuration was to be put into force, and was or was not.
    pub fn reloaded(&self, ok: bool) {
        self.reloads.one(if ok { "ok" } else { "failed" });
        self.reload_ok.store(u64::from(ok), Ordering::Relaxed);
        if ok {
            self.generation.fetch_add(1, Ordering::Relaxed);
            self.reloaded.store(now().as_secs(), Ordering::Relaxed);
        }
    }
}

/// A session that counts among those that are on, until dropped.
pub struct On<'m>(Option<&'m Spoken>);

impl On<'_> {
    /// The relay is over, and has moved so many octets. From here on they are not the session's any more, but of all.
    pub fn moved(&self, to_backend: u64, to_client: u64) {
        if let Some(spoken) = self.0 {
            // Whoever sees these sums sees too that the session is settled.
            fence(Ordering::Release);
            spoken.to_backend.add(to_backend);
            spoken.to_client.add(to_client);
        }
    }

    /// It has ended: by whom, in the journal's word.
    pub fn ended(self, by: &str) {
        if let Some(spoken) = self.0 {
            spoken.ended.one(by);
        }
    }
}

impl Drop for On<'_> {
    fn drop(&mut self) {
        if let Some(spoken) = self.0 {
            spoken.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reasons in a table of a page: what stands in backquotes in its first cell.
    fn documented<'t>(page: &'t str, title: &str) -> Vec<&'t str> {
        let section = page.split(title).nth(1).unwrap().split("\n#").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let mut words: Vec<&str> = rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').step_by(2)).collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    #[test]
    fn the_words_are_those_of_the_documentation() {
        let operate = include_str!("../../../../docs/operate.md");
        assert_eq!(documented(operate, "### Reasons of a disconnect"), LEFT);
        let mut refused = failure::WORDS.to_vec();
        refused.sort_unstable();
        assert_eq!(documented(operate, "| reason | what happened |"), refused);
    }

    #[test]
    fn the_login_way_says_no_other_words() {
        let mut said = 0;
        let rooms = concat!(env!("CARGO_MANIFEST_DIR"), "/src/login");
        for file in std::fs::read_dir(rooms).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            for call in text.split(".left(").skip(1).chain(text.split(".leave(").skip(1)) {
                // The first text of a call is its reason, unless that is a variable.
                let words = call.split(';').next().unwrap_or_default();
                let Some(word) = words.split('"').nth(1).filter(|word| !word.contains([' ', '{'])) else { continue };
                assert!(LEFT.contains(&word), "{word} in {}", file.display());
                said += 1;
            }
        }
        assert!(said > 20, "{said}");
    }

    #[test]
    fn sessions_come_and_go() {
        let metrics = Metrics::default();
        let first = metrics.session("imap");
        let second = metrics.session("imap");
        drop(first);
        assert_eq!(metrics.of("imap").unwrap().sessions.load(Ordering::Relaxed), 1);
        drop((second, metrics.session("nothing")));
        assert_eq!(metrics.of("imap").unwrap().sessions.load(Ordering::Relaxed), 0);
    }
}
