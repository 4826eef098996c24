//! The words of Dovecot's login processes, for programs that read Dovecot's log: fail2ban, logwatch, patterns of log stores.
//!
//! What has an equal in Dovecot is said as it says it; the rest has the same outer form. Three things differ on purpose.
//! Each refused login has a line of its own, `Aborted login (auth failed, 1 attempts ...)`, and the line at the end of its
//! connection has no such words: a filter that counts lines counts logins. Only what counts as a guess has these words:
//! trouble of ours is nobody's attack. And no name can end its field: whatever is not a letter, a digit or one of a few
//! signs becomes `\u{..}`; free text has no `<`, `>` and `=`, so it cannot say `rip=`.
//!
//! Lines that begin with `Disconnected` or `Aborted login` have no free text before their fields: patterns in use
//! backtrack there.

use super::text::{Name, cut, unprintable};
use super::{Level, VALUE_MAX, Word};
use crate::config::meant::DovecotVersion as Version;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The longest name, in octets before escaping; no front takes a longer one.
const NAME_MAX: usize = 256;
/// The longest value once escaped: only hostile ones come near it. A line has up to six, and receivers take 8 KiB.
const SPELLED_MAX: usize = 1024;

/// Words of other events have room up to here.
const WORDS_MAX: usize = 4096;
/// How a relay spells that an end came without TLS's close_notify.
const TRUNCATED: &str = "closed without TLS close_notify";

/// How Dovecot marks the line.
pub(super) fn label(level: Level, event: &str) -> &'static str {
    match level {
        Level::Error => "Error",
        Level::Warning => "Warning",
        Level::Info => "Info",
        // Those who leave without a login are of the usual kind there.
        Level::Debug if event == "disconnect" => "Info",
        Level::Debug => "Debug",
    }
}

/// A line without its time and its end. `mark`: with the label.
pub(super) fn message(version: Version, mark: Option<&str>, event: &str, words: &[(&str, Word<'_>)]) -> String {
    let said = Said(words);
    let mut line = match said.text("protocol") {
        Some(protocol) => format!("{protocol}-login: "),
        None => "gatepost: ".to_owned(),
    };
    if let Some(mark) = mark {
        let _ = write!(line, "{mark}: ");
    }
    match event {
        "login" => said.login(version, &mut line),
        "end" => said.end(version, &mut line),
        "refused" => said.refused(version, &mut line),
        "disconnect" => said.left(version, &mut line),
        _ => said.other(event, &mut line),
    }
    line
}

/// The words of one event.
struct Said<'a>(&'a [(&'a str, Word<'a>)]);

impl Said<'_> {
    fn word(&self, name: &str) -> Option<&Word<'_>> {
        self.0.iter().find(|(have, _)| *have == name).map(|(_, word)| word)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.word(name)? {
            Word::Text(text) | Word::Dovecot(text) => Some(cut(text, VALUE_MAX)),
            Word::Number(number) => Some(number.to_string()),
            Word::Seconds(time) => Some(format!("{:.3}", time.as_secs_f64())),
        }
    }

    fn name(&self, name: &str) -> String {
        match self.word(name) {
            Some(Word::Text(text) | Word::Dovecot(text)) => safe_name(&cut(text, NAME_MAX)),
            _ => String::new(),
        }
    }

    /// Free text.
    fn free(&self, name: &str) -> String {
        self.text(name).map_or_else(String::new, |text| safe_text(&text))
    }

    fn address(&self, name: &str) -> Option<SocketAddr> {
        self.text(name)?.parse().ok()
    }

    fn seconds(&self, name: &str) -> u64 {
        match self.word(name) {
            Some(Word::Seconds(time)) => time.as_secs(),
            _ => self.text(name).and_then(|text| text.parse().ok()).unwrap_or(0),
        }
    }

    /// `proxy(USER,WHERE): `
    fn proxy(&self, version: Version, line: &mut String) {
        let place = match (self.address("backend"), self.host()) {
            (Some(at), Some(host)) if version == Version::V2_4 => format!("{host}[{}]:{}", at.ip(), at.port()),
            (Some(at), _) => at.to_string(),
            (None, _) => "?".to_owned(),
        };
        let _ = write!(line, "proxy({},{place}): ", self.name("user"));
    }

    /// The name of the backend, where it was not told by its address.
    fn host(&self) -> Option<String> {
        let host = self.text("host")?;
        let named = !host.is_empty() && host.parse::<IpAddr>().is_err();
        named.then(|| safe_name(&host))
    }

    fn login(&self, version: Version, line: &mut String) {
        self.proxy(version, line);
        match version {
            Version::V2_3 => {
                let at = self.address("backend").map(|at| at.ip().to_string()).unwrap_or_default();
                let _ = write!(line, "Started proxying to <{at}>");
                if let Some(host) = self.host() {
                    let _ = write!(line, " (<{host}>)");
                }
            }
            Version::V2_4 => line.push_str("Started proxying to remote host"),
        }
        if let Some(source) = self.text("source") {
            let _ = write!(line, " from {source}");
        }
        if self.word("destuser").is_some() {
            let _ = write!(line, " as user {}", self.name("destuser"));
        }
        if self.word("master").is_some() {
            let _ = write!(line, " (master {})", self.name("master"));
        }
        let _ = write!(line, " ({} secs", self.text("took").unwrap_or_default());
        if let Some(retries) = self.text("retries") {
            let _ = write!(line, ", {retries} reconnects");
        }
        line.push(')');
        self.fields(line, Reason::Untold);
    }

    fn end(&self, version: Version, line: &mut String) {
        self.proxy(version, line);
        let by = self.text("by").unwrap_or_default();
        let side = match by.as_str() {
            "client" => "client",
            "backend" => "server",
            _ => "proxy",
        };
        let _ = write!(line, "Disconnected by {side}");
        match by.as_str() {
            "gatepost-kicked" => line.push_str(": Kicked by admin"),
            "gatepost-idle" => line.push_str(": Idle for too long"),
            "gatepost-shutting-down" => line.push_str(": Shutting down"),
            _ => match self.free("reason") {
                // An end without more ado has no reason there either; a client's without close_notify stands beside TLS.
                reason if reason == "closed" || self.is_cut_off() => {}
                reason => {
                    let _ = write!(line, ": {reason}");
                }
            },
        }
        let number = |name| self.text(name).unwrap_or_else(|| "0".to_owned());
        let _ = write!(line, " ({}s idle, in={}, out={})", self.seconds("idle"), number("in"), number("out"));
        self.fields(line, Reason::Untold);
    }

    /// The client closed its connection, and not its TLS before.
    fn is_cut_off(&self) -> bool {
        self.text("by").is_some_and(|by| by == "client") && self.text("reason").is_some_and(|reason| reason == TRUNCATED)
    }

    fn refused(&self, version: Version, line: &mut String) {
        let reason = self.text("reason").unwrap_or_default();
        let took = self.seconds("took");
        if self.word("guess").is_some() {
            // One of the backend's, or of a database of ours.
            let theirs = reason.starts_with("backend-");
            let _ = match (version, theirs) {
                (Version::V2_3, true) => write!(line, "Aborted login (proxy dest auth failed)"),
                (Version::V2_3, false) => write!(line, "Aborted login (auth failed, 1 attempts in {took} secs)"),
                (Version::V2_4, theirs) => {
                    let code = if theirs { "proxy_dest_auth_failed" } else { "auth_failed" };
                    write!(line, "Login aborted: Login refused (auth failed, 1 attempts in {took} secs) ({code})")
                }
            };
            return self.fields(line, Reason::Told);
        }
        let known = match (reason.as_str(), version) {
            ("privacy-required", Version::V2_3) => Some("Login failed: Plaintext authentication disabled"),
            ("privacy-required", Version::V2_4) => Some("Login failed: Cleartext authentication disabled"),
            ("limit", _) => Some("Maximum number of connections from user+IP exceeded (limits.user_connections)"),
            ("nologin", Version::V2_3) => Some("Aborted login (user disabled)"),
            ("nologin", Version::V2_4) => Some("Login aborted: Login refused (user disabled) (user_disabled)"),
            ("referral", Version::V2_3) => Some("Aborted login (auth referral)"),
            ("referral", Version::V2_4) => Some("Login aborted: Login refused (auth referral) (auth_nologin_referral)"),
            _ => None,
        };
        if let Some(known) = known {
            line.push_str(known);
            return self.fields(line, Reason::Told);
        }
        if self.word("backend").is_some() {
            self.proxy(version, line);
        } else {
            line.push_str("Login failed: ");
        }
        // What the detail says of the backend stands there already.
        let text = self.text("text").unwrap_or_default();
        let place = format!("backend {} ({}): ", self.text("backend").unwrap_or_default(), self.text("host").unwrap_or_default());
        line.push_str(&safe_text(text.strip_prefix(&place).unwrap_or(&text)));
        self.fields(line, Reason::Word);
    }

    /// A connection that ended without a login.
    fn left(&self, version: Version, line: &mut String) {
        let reason = self.text("reason").unwrap_or_default();
        let word = safe_name(&reason);
        let how = match reason.as_str() {
            "closed" | "lost" => "Connection closed",
            "logout" if version == Version::V2_3 => "Aborted login by logging out",
            "logout" => "Logged out",
            "login-timeout" => "Inactivity",
            "shutting-down" => "Shutting down",
            "tls" => "TLS handshake failed",
            "too-many-failures" => "Too many failed logins",
            "too-many-bad-commands" => "Too many invalid commands",
            _ => &word,
        };
        let begin = if version == Version::V2_3 { "Disconnected" } else { "Login aborted" };
        let _ = write!(line, "{begin}: {how}");
        // What a strict filter counts; that it was sent away is not the client's doing.
        if self.word("attempts").is_none() && reason != "shutting-down" {
            let _ = write!(line, " (no auth attempts in {} secs)", self.seconds("lasted"));
            if version == Version::V2_4 {
                line.push_str(" (no_auth_attempts)");
            }
        } else {
            // The bracket stops patterns that walk over free text: without it they would walk over the fields as well.
            let _ = write!(line, " (after {} secs)", self.seconds("lasted"));
        }
        self.fields(line, Reason::Told);
    }

    fn other(&self, event: &str, line: &mut String) {
        let _ = write!(line, "{event}: {}", self.free("text"));
        let session = self.word("protocol").is_some();
        for (name, word) in self.0 {
            let is_field = *name == "text" || session && ["protocol", "user", "client", "session"].contains(name);
            if !is_field && !matches!(word, Word::Dovecot(_)) && line.len() < WORDS_MAX {
                let _ = write!(line, " ({} {})", Name(name), self.free(name));
            }
        }
        if session {
            self.fields(line, Reason::Untold);
        }
    }

    /// `: user=<..>, method=.., rip=.., lip=.., TLS, session=<..>`
    fn fields(&self, line: &mut String, told: Reason) {
        let _ = write!(line, ": user=<{}>", self.name("user"));
        if self.word("mechanism").is_some() {
            let _ = write!(line, ", method={}", self.name("mechanism"));
        }
        for (field, word) in [("rip", "client"), ("lip", "reached")] {
            if let Some(address) = self.address(word) {
                let _ = write!(line, ", {field}={}", address.ip());
            }
        }
        if let Some(secured) = self.text("secured") {
            let _ = write!(line, ", {secured}{}", if self.is_cut_off() { ": Connection closed" } else { "" });
        }
        if told != Reason::Untold {
            let _ = write!(line, ", reason={}", self.name("reason"));
        }
        if told == Reason::Told {
            let _ = write!(line, ", text=\"{}\"", self.free("text").replace('"', "'"));
        }
        if let Some(session) = self.text("session") {
            // Up to 64 printable characters, and a peer may have chosen them.
            let session: String = session.chars().map(|c| if matches!(c, '<' | '>' | '=' | ',') { '?' } else { c }).collect();
            let _ = write!(line, ", session=<{session}>");
        }
    }
}

/// How much of the reason stands among the fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Untold,
    /// `reason=`.
    Word,
    /// `reason=` and `text=`.
    Told,
}

/// A name that cannot end its field, whatever encloses it.
fn safe_name(name: &str) -> String {
    spelled(name, |c| !c.is_alphanumeric() && !".-_@+!#$%&*/?^~|'`".contains(c))
}

/// Text that has no field in it.
fn safe_text(text: &str) -> String {
    spelled(text, |c| matches!(c, '<' | '>' | '=' | '\\'))
}

fn spelled(text: &str, strange: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if out.len() > SPELLED_MAX {
            break;
        }
        if unprintable(c) || strange(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}
