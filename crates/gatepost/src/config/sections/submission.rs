//! `[protocol.submission]`: what is said before login, how long that may take, and how long a session may be silent after it.

use super::greeting::greeting;
use super::imap::LONGEST_IDLE;
use super::names::names;
use crate::config::kinds;
use crate::config::meant::Submission;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use std::time::Duration;

/// RFC 5321 section 4.5.3.2: 10 minutes for the answer to a message; a minute more, so that it is the servers' to end it.
const SHORTEST_IDLE: Duration = Duration::from_secs(11 * 60);
/// A login that takes less than a machine needs is none, and one that takes an hour is nobody's.
const LOGIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3600);
/// RFC 5321 section 4.5.3.1.5: 512 octets for the line, of which `220 `, the server's name and ` ESMTP ` are the most.
const LONGEST_GREETING: usize = 240;
/// RFC 5321 section 4.5.3.1.5.
const LONGEST_WORD: usize = 500;
/// All words together, which a client reads before it signs in.
const LONGEST_CAPABILITY: usize = 1000;

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> Submission {
    let default = default_submission();
    Submission {
        capability: section.read(r, "capability", capability).map(|told| told.value),
        greeting: section.read_or(r, "greeting", greeting_of_smtp, default.greeting),
        login_timeout: section.read_or(
            r,
            "login_timeout",
            kinds::duration(LOGIN, "RFC 5321 section 4.5.3.2.7 gives a client 5 minutes for its next command"),
            default.login_timeout,
        ),
        idle_timeout: section.read_or(
            r,
            "idle_timeout",
            kinds::duration(SHORTEST_IDLE..=LONGEST_IDLE, "RFC 5321 section 4.5.3.2 gives a server 10 minutes to take a message"),
            default.idle_timeout,
        ),
    }
}

/// What stands behind the server's name in the first line.
pub(super) fn greeting_of_smtp(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    greeting(LONGEST_GREETING)(r, item)
}

/// The defaults.
pub(in super::super) fn default_submission() -> Submission {
    Submission {
        capability: None,
        greeting: "Gatepost ready.".to_owned(),
        login_timeout: Duration::from_secs(5 * 60),
        idle_timeout: SHORTEST_IDLE,
    }
}

/// RFC 5321 section 4.1.1.1: keywords, each perhaps with a parameter behind `=` (`SIZE=52428800`). What depends on the connection
/// is ours to add.
pub(super) fn capability(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    names(r, item, LONGEST_CAPABILITY, |words| {
        if words.is_empty() {
            return Err(("names no capability".to_owned(), "leave it out: then it is learnt from the backends"));
        }
        let name = |word: &str| word.split('=').next().unwrap_or_default().to_ascii_uppercase();
        let keyword = |word: &str| {
            let name = name(word);
            let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
            begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let fine = |word: &str| word.len() <= LONGEST_WORD && word.bytes().all(|b| b.is_ascii_graphic()) && keyword(word);
        if let Some(word) = words.iter().find(|word| !fine(word)) {
            let fix = "write keywords with blanks between them, a parameter behind an equals sign: \"8BITMIME SIZE=52428800\"";
            return Err((format!("holds {}, which is no keyword of EHLO", shown(word)), fix));
        }
        let ours = ["AUTH", "STARTTLS", "XCLIENT", "XFORWARD"];
        if let Some(word) = words.iter().find(|word| ours.contains(&name(word).as_str())) {
            let why = format!("holds {}, which follows from each listener's TLS, the databases and [trust]", shown(word));
            return Err((why, "take it out; Gatepost adds it where it is true"));
        }
        Ok(())
    })
}
