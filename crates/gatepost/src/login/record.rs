//! What the journal says of one session, from accept to end.
//!
//! Kept small: it lives as long as the session does.

use crate::backend::connect::Identity;
use crate::failure::{Failure, PRIVACY_REQUIRED};
use crate::journal::{Journal, Level, Word};
use crate::trace::Tap;
use relay::TlsFacts;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::login::Front;
use wire::origin::{ClientTls, Origin};
use wire::overheard::Line;

/// Who, where and since when.
pub struct Record {
    /// The protocol's name.
    pub protocol: &'static str,
    /// Session id.
    pub session: Box<str>,
    /// The user as the databases know it, once signed in.
    pub user: Box<str>,
    /// The client.
    pub client: SocketAddr,
    /// What it reached.
    pub reached: SocketAddr,
    /// How its connection is protected, in a word.
    pub secured: Secured,
    /// Our peer, where a trusted one told us of the client.
    pub via: Option<SocketAddr>,
    /// The backend.
    pub backend: Option<SocketAddr>,
    /// The row's host, once signed in.
    pub host: Box<str>,
    /// The name that the backend was given, where it is another.
    pub other_user: Option<Box<str>>,
    /// `user_*` of the row.
    pub notes: Box<[(Box<str>, Box<str>)]>,
    /// How the client's connection is protected, once signed in.
    pub client_tls: Option<Shielding>,
    /// Version and cipher of TLS with the backend.
    pub backend_tls: Option<(&'static str, &'static str)>,
    /// How the client showed who it is, once signed in.
    pub mechanism: &'static str,
    /// What the client called itself when it tried to sign in, in protocols where it does; gone once the relay begins.
    pub helo: Option<Box<str>>,
    /// A login was tried.
    pub tried: bool,
    /// When the connection came; once signed in, when the relay began.
    pub since: Instant,
    /// Why it ended without a login, once it has.
    pub left: Option<&'static str>,
    /// Who may be following, before the relay begins.
    pub tap: Option<Arc<Tap>>,
}

/// How a client's connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shielding {
    /// TLS that ends here: version and cipher.
    Here(&'static str, &'static str),
    /// TLS that ends at the balancer in front.
    InFront,
}

impl Record {
    /// A record of a session that has just been accepted.
    pub fn new(protocol: &'static str, origin: &Origin) -> Record {
        let mut record = Record {
            protocol,
            session: Box::from(""),
            user: Box::from(""),
            client: origin.client.0,
            reached: origin.reached.0,
            secured: Secured::No,
            via: None,
            backend: None,
            host: Box::from(""),
            other_user: None,
            notes: Box::default(),
            client_tls: None,
            backend_tls: None,
            mechanism: "",
            helo: None,
            tried: false,
            since: Instant::now(),
            left: None,
            tap: None,
        };
        record.tell(origin);
        record
    }

    /// Takes over what is believed of the caller now.
    pub fn tell(&mut self, origin: &Origin) {
        self.session = origin.session.as_str().into();
        self.client = origin.client.0;
        self.reached = origin.reached.0;
        self.via = origin.via();
    }

    /// Tells who follows what was said by the client, and by us in `out`.
    pub fn overhear(&self, front: &mut dyn Front, out: &[u8]) {
        if self.tap.is_some() {
            self.heard(front.overheard(out));
        }
    }

    /// Tells who follows these lines of the client, and ours between them.
    pub fn heard(&self, lines: Vec<Line>) {
        if let Some(tap) = self.tap.as_ref().filter(|_| !lines.is_empty()) {
            tap.client_said(lines);
        }
    }

    /// The name that the backend was given.
    pub fn destuser(&self) -> &str {
        self.other_user.as_deref().unwrap_or(&self.user)
    }

    /// A `user_NAME` of the row, by its whole name.
    pub fn alternative(&self, name: &str) -> Option<&str> {
        self.notes.iter().find(|(have, _)| **have == *name).map(|(_, value)| &**value)
    }

    fn write(&self, journal: &Journal, level: Level, event: &'static str, more: &[(&str, Word<'_>)]) {
        let mut words: Vec<(&str, Word<'_>)> = Vec::with_capacity(8 + more.len());
        words.push(("protocol", Word::Text(&self.protocol)));
        if !self.user.is_empty() {
            words.push(("user", Word::Text(&self.user)));
        }
        words.push(("client", Word::Text(&self.client)));
        if let Some(via) = &self.via {
            words.push(("via", Word::Text(via)));
        }
        if let Some(backend) = &self.backend {
            words.push(("backend", Word::Text(backend)));
        }
        words.extend_from_slice(more);
        words.push(("reached", Word::Dovecot(&self.reached)));
        let secured = self.secured.word();
        if let Some(secured) = &secured {
            words.push(("secured", Word::Dovecot(secured)));
        }
        words.push(("session", Word::Text(&self.session)));
        if let Some(tap) = &self.tap {
            tap.journal(event, &words);
        }
        journal.line(level, event, &words);
    }

    /// One user is in.
    pub fn login(&self, journal: &Journal, in_: &LoginWords<'_>) {
        let mut words: Vec<(&str, Word<'_>)> = vec![("host", Word::Text(&in_.host))];
        if in_.destuser != &*self.user {
            words.push(("destuser", Word::Text(&in_.destuser)));
        }
        if let Some(master) = &in_.master {
            words.push(("master", Word::Text(master)));
        }
        words.push(("mechanism", Word::Text(&in_.mechanism)));
        words.extend(self.helo.as_ref().map(|name| ("helo", Word::Text(name) as Word<'_>)));
        words.push(("database", Word::Text(&in_.database)));
        let (client_tls, backend_tls) = (TlsWord(in_.client_tls), TlsWord(in_.backend_tls));
        let offloaded = in_.offloaded.map(Offloaded);
        match &offloaded {
            Some(offloaded) if in_.client_tls.is_none() => words.push(("tls", Word::Text(offloaded))),
            _ => words.push(("tls", Word::Text(&client_tls))),
        }
        let certificate = in_.offloaded.flatten().and_then(|tls| tls.common_name.as_ref());
        if let Some(name) = certificate {
            words.push(("certificate", Word::Text(name)));
        }
        words.push(("backend_tls", Word::Text(&backend_tls)));
        let identity = in_.identity.word();
        words.push(("identity", Word::Text(&identity)));
        if let Some(source) = &in_.source {
            words.push(("source", Word::Dovecot(source)));
        }
        if in_.retries > 0 {
            words.push(("retries", Word::Number(u64::from(in_.retries))));
        }
        words.extend(in_.notes.iter().map(|(name, value)| (&**name, Word::Text(value))));
        words.push(("took", Word::Seconds(in_.took)));
        self.write(journal, Level::Info, "login", &words);
    }

    /// A login that failed.
    pub fn refused(&mut self, journal: &Journal, user: &str, mechanism: &str, failure: &Failure, took: Duration) {
        self.tried = true;
        let (_, level) = failure.refusal();
        let (side, reason) = (failure.side.word(), failure.kind.word());
        let mut words: Vec<(&str, Word<'_>)> = Vec::new();
        if self.user.is_empty() {
            words.push(("user", Word::Text(&user)));
        }
        words.push(("mechanism", Word::Text(&mechanism)));
        words.push(("reason", Word::Text(&reason)));
        words.push(("side", Word::Text(&side)));
        words.push(("took", Word::Seconds(took)));
        words.extend(self.helo.as_ref().map(|name| ("helo", Word::Text(name) as Word<'_>)));
        words.push(("text", Word::Text(&failure.detail)));
        if failure.counts_as_guess() {
            words.push(("guess", Word::Dovecot(&"yes")));
        }
        if let Some((at, host)) = failure.at.as_deref() {
            words.extend([("backend", Word::Dovecot(at)), ("host", Word::Dovecot(host))] as [(&str, Word<'_>); 2]);
        }
        self.write(journal, level, "refused", &words);
    }

    /// A login that was refused because a password may not be said in clear.
    pub fn in_clear(&mut self, journal: &Journal, exposed: bool) {
        self.tried = true;
        let text = if exposed { "a password was said in clear" } else { "a login was tried in clear" };
        let words = [("reason", Word::Text(&PRIVACY_REQUIRED)), ("side", Word::Text(&"client")), ("text", Word::Text(&text))];
        self.write(journal, Level::Info, "refused", &words);
    }

    /// A connection that ended without a login.
    pub fn left(&mut self, journal: &Journal, level: Level, reason: &'static str, text: &dyn Display) {
        self.left = Some(reason);
        let lasted = self.since.elapsed().as_secs();
        let mut words: Vec<(&str, Word<'_>)> =
            vec![("reason", Word::Text(&reason)), ("text", Word::Text(text)), ("lasted", Word::Dovecot(&lasted))];
        if self.tried {
            words.push(("attempts", Word::Dovecot(&"some")));
        }
        self.write(journal, level, "disconnect", &words);
    }

    /// A session that ended.
    pub fn end(&self, journal: &Journal, by: &str, reason: &dyn Display, moved: &Moved) {
        let idle = moved.idle.as_secs();
        let words = [
            ("by", Word::Text(&by)),
            ("reason", Word::Text(reason)),
            ("in", Word::Number(moved.to_backend)),
            ("out", Word::Number(moved.to_client)),
            ("lasted", Word::Seconds(self.since.elapsed())),
            ("host", Word::Dovecot(&self.host)),
            ("mechanism", Word::Dovecot(&self.mechanism)),
            ("idle", Word::Dovecot(&idle)),
        ];
        self.write(journal, Level::Info, "end", &words);
    }

    /// What became of one recipient of a mail.
    pub fn recipient(&self, journal: &Journal, level: Level, event: &'static str, words: &[(&str, Word<'_>)]) {
        self.write(journal, level, event, words);
    }

    /// A remark on the way.
    pub fn note(&self, journal: &Journal, level: Level, event: &'static str, text: &dyn Display) {
        if journal.wants(level) {
            self.write(journal, level, event, &[("text", Word::Text(text))]);
        }
    }
}

/// How a client's connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secured {
    /// Not at all.
    No,
    /// It is in clear, and need not fear: the client is on this host, or trusted.
    Local,
    /// By TLS, with us or with the balancer in front.
    Tls,
}

impl Secured {
    /// Dovecot's words for it.
    fn word(self) -> Option<&'static str> {
        match self {
            Secured::No => None,
            Secured::Local => Some("secured"),
            Secured::Tls => Some("TLS"),
        }
    }
}

/// What a session has moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// Octets.
    pub to_backend: u64,
    /// Octets.
    pub to_client: u64,
    /// For how long nothing had moved at the end.
    pub idle: Duration,
}

/// The words of a login line.
pub struct LoginWords<'a> {
    /// The route's host.
    pub host: &'a str,
    /// The name the backend was given.
    pub destuser: &'a str,
    /// Who signed in for the user.
    pub master: Option<&'a str>,
    /// How the client showed who it is.
    pub mechanism: &'a str,
    /// The database that gave the route.
    pub database: &'a str,
    /// TLS with the client.
    pub client_tls: Option<&'a TlsFacts>,
    /// TLS of the client that ends at the balancer in front, and what is known of it.
    pub offloaded: Option<Option<&'a ClientTls>>,
    /// The address of ours from which the backend was reached, where one was chosen.
    pub source: Option<IpAddr>,
    /// TLS with the backend.
    pub backend_tls: Option<&'a TlsFacts>,
    /// How the backend was told who is calling.
    pub identity: Identity,
    /// Tries beyond the first.
    pub retries: u32,
    /// `user_*` and `event_*` of the row.
    pub notes: &'a [(Box<str>, Box<str>)],
    /// From the client's login to its answer.
    pub took: Duration,
}

struct TlsWord<'a>(Option<&'a TlsFacts>);

impl Display for TlsWord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(facts) => write!(f, "{}:{}{}", facts.version, facts.cipher, if facts.resumed { ":resumed" } else { "" }),
        }
    }
}

/// `offloaded`, with the words of the balancer where it has some.
struct Offloaded<'a>(Option<&'a ClientTls>);

impl Display for Offloaded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("offloaded")?;
        let tls = self.0.into_iter().flat_map(|tls| [&tls.version, &tls.cipher]);
        tls.flatten().try_for_each(|word| write!(f, ":{word}"))
    }
}
