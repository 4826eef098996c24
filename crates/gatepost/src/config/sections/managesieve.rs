//! `[protocol.managesieve]`: what is said before login, and how long a session may be silent after it.

use super::greeting::{default_greeting, greeting};
use super::imap::LONGEST_IDLE;
use super::names::names;
use crate::config::kinds;
use crate::config::meant::ManageSieve;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use std::time::Duration;

/// RFC 5804 section 1.2: no autologout before 30 minutes; a minute more, so that a client that wakes every 30 is in time.
const SHORTEST_IDLE: Duration = Duration::from_secs(31 * 60);
/// RFC 5804 section 4: 1024 octets in a quoted string.
const LONGEST_TEXT: usize = 1000;

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section, server: &str) -> ManageSieve {
    let default = default_managesieve(server);
    ManageSieve {
        sieve: section.read(r, "sieve", words).map(|told| told.value),
        notify: section.read(r, "notify", words).map(|told| told.value),
        implementation: section.read_or(r, "implementation", implementation, default.implementation),
        greeting: section.read_or(r, "greeting", greeting(LONGEST_TEXT), default.greeting),
        idle_timeout: section.read_or(
            r,
            "idle_timeout",
            kinds::duration(SHORTEST_IDLE..=LONGEST_IDLE, "RFC 5804 section 1.2 gives a silent client 30 minutes"),
            default.idle_timeout,
        ),
    }
}

/// The defaults.
pub(in super::super) fn default_managesieve(server: &str) -> ManageSieve {
    ManageSieve {
        sieve: None,
        notify: None,
        implementation: "Gatepost".to_owned(),
        greeting: default_greeting(server),
        idle_timeout: Duration::from_secs(2 * 3600),
    }
}

/// Names of extensions (RFC 5228 section 6.2) or of notification methods, with blanks between them.
fn words(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    names(r, item, LONGEST_TEXT, |words| {
        if words.is_empty() {
            return Err(("names nothing".to_owned(), "leave it out: then it is learnt from the backends"));
        }
        let fine = |word: &str| word.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
        match words.iter().find(|word| !fine(word)) {
            Some(word) => Err((format!("holds {}, which is no such name", shown(word)), "write names with blanks between them")),
            None => Ok(()),
        }
    })
}

/// Becomes a quoted string as it is.
fn implementation(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    let text = kinds::line(r, item)?;
    let fine = text.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
    if text.is_empty() || text.len() > 200 || !fine {
        let why = format!("`{}` must be 1 to 200 printable ASCII characters without quotes and backslashes", item.name);
        r.error_fix(item.value.at, "value", why, "write for example \"Gatepost\", or what old clients look for");
        return None;
    }
    Some(text)
}
