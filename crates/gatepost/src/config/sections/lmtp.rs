//! `[protocol.lmtp]`: what clients are told, how patient we are with them, and what recipients are to us.

use super::imap::LONGEST_IDLE;
use super::submission::{capability, greeting_of_smtp};
use crate::config::kinds;
use crate::config::meant::Lmtp;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use std::time::Duration;

/// RFC 5321 section 4.5.3.2.7: 5 minutes for the next command.
const SHORTEST_IDLE: Duration = Duration::from_secs(5 * 60);

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> Lmtp {
    let default = default_lmtp();
    Lmtp {
        capability: section.read(r, "capability", capability).map(|told| told.value),
        greeting: section.read_or(r, "greeting", greeting_of_smtp, default.greeting),
        idle_timeout: section.read_or(
            r,
            "idle_timeout",
            kinds::duration(
                SHORTEST_IDLE..=LONGEST_IDLE,
                "RFC 5321 section 4.5.3.2.7 gives a client 5 minutes for its next command",
            ),
            default.idle_timeout,
        ),
        recipient_delimiter: section.read_or(r, "recipient_delimiter", delimiter, default.recipient_delimiter),
        soft_bounce: section.read_or(r, "soft_bounce", kinds::boolean, default.soft_bounce),
    }
}

/// The defaults.
pub(in super::super) fn default_lmtp() -> Lmtp {
    Lmtp {
        capability: None,
        greeting: "Gatepost ready.".to_owned(),
        idle_timeout: SHORTEST_IDLE,
        recipient_delimiter: "+".to_owned(),
        soft_bounce: false,
    }
}

/// Characters, each of which begins a detail; none for addresses without.
fn delimiter(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    if matches!(&item.value.what, crate::config::written::What::Text(text) if text.is_empty()) {
        return Some(String::new());
    }
    let text = kinds::line(r, item)?;
    // What no local part has without quotes, or what means something of its own there, would divide where nobody expects it.
    if text.len() <= 8 && text.bytes().all(|b| b"!#$%&*+-/=?^_{|}~".contains(&b)) {
        return Some(text);
    }
    let text = format!("`{}`: {} are no delimiters", item.name, shown(&text));
    r.error_fix(
        item.value.at,
        "value",
        text,
        "write the characters that begin a detail: \"+\", or \"+-\" for either; \"\" for none",
    );
    None
}
