//! `[protocol.pop3]`: what is said before login, and how long a session may be silent after it.

use super::greeting::{default_greeting, greeting};
use super::imap::LONGEST_IDLE;
use super::names::names;
use crate::config::kinds;
use crate::config::meant::Pop3;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use std::time::Duration;

/// RFC 1939 section 3: no autologout before 10 minutes; a minute more, so that a client that wakes every 10 is in time.
const SHORTEST_IDLE: Duration = Duration::from_secs(11 * 60);
/// RFC 2449 section 4: 512 octets for the whole line, of which `+OK [XCLIENT] ` and CRLF are 16.
const LONGEST_GREETING: usize = 496;
/// RFC 2449 section 3: 512 octets for a line, with CRLF.
const LONGEST_WORD: usize = 510;
/// All words together, which a client reads before it signs in.
const LONGEST_CAPABILITY: usize = 1000;

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section, server: &str) -> Pop3 {
    let default = default_pop3(server);
    Pop3 {
        capability: section.read_or(r, "capability", capability, default.capability),
        greeting: section.read_or(r, "greeting", pop3_greeting, default.greeting),
        idle_timeout: section.read_or(
            r,
            "idle_timeout",
            kinds::duration(SHORTEST_IDLE..=LONGEST_IDLE, "RFC 1939 section 3 gives a silent client 10 minutes"),
            default.idle_timeout,
        ),
    }
}

/// The defaults.
pub(in super::super) fn default_pop3(server: &str) -> Pop3 {
    Pop3 {
        capability: "TOP UIDL RESP-CODES PIPELINING AUTH-RESP-CODE".to_owned(),
        greeting: default_greeting(server),
        idle_timeout: SHORTEST_IDLE,
    }
}

/// RFC 2449 section 3: words of printable ASCII without dots, each a line of its own. What depends on the connection is ours to
/// add; what needs an argument cannot be said in a list of words.
fn capability(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    names(r, item, LONGEST_CAPABILITY, |words| {
        let is_one_of = |word: &str, names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(word));
        if words.is_empty() {
            return Err(("names no capability".to_owned(), "leave it out for the default"));
        }
        // A dot could end the list of lines, or be taken off the line's beginning.
        let fine = |word: &str| word.len() <= LONGEST_WORD && word.bytes().all(|b| b.is_ascii_graphic() && b != b'.');
        if let Some(word) = words.iter().find(|word| !fine(word)) {
            let why = format!("holds {}, which is no name of a capability", shown(word));
            return Err((why, "write names with blanks between them"));
        }
        if let Some(word) = words.iter().find(|word| is_one_of(word, &["USER", "SASL", "STLS"])) {
            let why = format!("holds {}, which follows from each listener's TLS and the databases", shown(word));
            return Err((why, "take it out; Gatepost adds it where it is true"));
        }
        if let Some(word) = words.iter().find(|word| is_one_of(word, &["EXPIRE", "LOGIN-DELAY", "IMPLEMENTATION"])) {
            let why = format!("holds {}, which needs an argument; each word here is a line of its own", shown(word));
            return Err((why, "take it out; clients hear it from their backend after login"));
        }
        Ok(())
    })
}

fn pop3_greeting(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    let text = greeting(LONGEST_GREETING)(r, item)?;
    // RFC 1939 section 7: a message identifier in the greeting offers APOP, which we cannot do.
    if text.split_once('<').is_some_and(|(_, rest)| rest.contains('>')) {
        let why = format!("`{}` holds a text in angle brackets, which clients take for an offer of APOP", item.name);
        r.error_fix(item.value.at, "value", why, "take the angle brackets out");
        return None;
    }
    Some(text)
}
