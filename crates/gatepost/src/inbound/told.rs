//! What the journal says of each recipient: one line, whatever became of it.
//!
//! `delivered`, `deferred` (try later) or `rejected` (for good). Whose answer it was stands in it: that of the server behind us as
//! `reply`, or ours with `reason`, `side` and all that is known of the trouble.

use crate::delivery::courier::Courier;
use crate::failure::Failure;
use crate::journal::{Journal, Level, Word};
use crate::login::record::Record;
use std::net::SocketAddr;
use std::time::Duration;
use wire::envelope::{Mail, Verdict};
use wire::origin::xforward::Forwarded;

/// The server that a recipient was said to.
#[derive(Debug, Clone)]
pub(super) struct Server {
    address: SocketAddr,
    host: String,
    tls: &'static str,
    identity: &'static str,
}

impl Server {
    pub(super) fn of(courier: &Courier) -> Server {
        Server {
            address: courier.address,
            host: courier.host.clone(),
            tls: courier.tls.as_ref().map_or("none", |tls| tls.version),
            identity: courier.identity.word(),
        }
    }
}

/// One recipient, and what became of it.
pub(super) struct Told<'a> {
    pub(super) mail: &'a Mail,
    /// Who sent it, where upstream has told.
    pub(super) forwarded: Option<&'a Forwarded>,
    /// As it was given.
    pub(super) to: &'a str,
    /// As it was said to the server, where that is another.
    pub(super) said: Option<&'a str>,
    pub(super) server: Option<&'a Server>,
    /// The answer as it came, and the one that the client has heard.
    pub(super) verdict: &'a Verdict,
    pub(super) heard: &'a Verdict,
    /// Why there is none of a server.
    pub(super) failure: Option<&'a Failure>,
    pub(super) lost: Option<&'a str>,
    pub(super) size: Option<u64>,
    pub(super) took: Duration,
}

impl Told<'_> {
    pub(super) fn write(&self, record: &Record, journal: &Journal) {
        let outcome = outcome(self.verdict);
        let level = match self.failure {
            Some(failure) => failure.refusal().1,
            None if self.lost.is_some() => Level::Error,
            None if outcome == "deferred" => Level::Warning,
            None => Level::Info,
        };
        let from = format!("<{}>", self.mail.path());
        let mut words: Vec<(&str, Word<'_>)> = vec![("from", Word::Text(&from)), ("to", Word::Text(&self.to))];
        if let Some(said) = &self.said {
            words.push(("rcpt", Word::Text(said)));
        }
        if let Some(server) = self.server {
            words.push(("backend", Word::Text(&server.address)));
            words.push(("host", Word::Text(&server.host)));
            words.push(("backend_tls", Word::Text(&server.tls)));
            words.push(("identity", Word::Text(&server.identity)));
        }
        words.push(("reply", Word::Text(self.verdict)));
        if self.heard != self.verdict {
            words.push(("told", Word::Text(self.heard)));
        }
        let (reason, side) = match (self.failure, self.lost) {
            (Some(failure), _) => (Some(failure.kind.word()), Some(failure.side.word())),
            (None, Some(_)) => (Some("backend-closed"), Some("backend")),
            (None, None) => (None, None),
        };
        if let (Some(reason), Some(side)) = (&reason, &side) {
            words.push(("reason", Word::Text(reason)));
            words.push(("side", Word::Text(side)));
        }
        if let Some(failure) = self.failure {
            words.push(("text", Word::Text(&failure.detail)));
        } else if let Some(lost) = &self.lost {
            words.push(("text", Word::Text(lost)));
        }
        if let Some(size) = self.size {
            words.push(("size", Word::Number(size)));
        }
        let orig = self.forwarded.map(|forwarded| {
            let unknown = || "unknown".to_owned();
            let client = format!(
                "{}[{}]",
                forwarded.name.as_deref().unwrap_or("unknown"),
                forwarded.addr.map_or_else(unknown, |ip| ip.to_string())
            );
            (client, forwarded.helo.as_deref(), forwarded.ident.as_deref())
        });
        if let Some((client, helo, ident)) = &orig {
            words.push(("orig_client", Word::Text(client)));
            if let Some(helo) = helo {
                words.push(("orig_helo", Word::Text(helo)));
            }
            if let Some(ident) = ident {
                words.push(("orig_queue_id", Word::Text(ident)));
            }
        }
        if let Some(helo) = &record.helo {
            words.push(("helo", Word::Text(helo)));
        }
        words.push(("took", Word::Seconds(self.took)));
        record.recipient(journal, level, outcome, &words);
    }
}

/// The event, by the answer of whoever decided.
pub fn outcome(verdict: &Verdict) -> &'static str {
    match verdict.code() {
        500.. => "rejected",
        400.. => "deferred",
        _ => "delivered",
    }
}
