//! `[protocol.imap]`: what is said before login, and how long a session may be silent after it.

use super::greeting::{default_greeting, greeting};
use super::names::names;
use crate::config::kinds;
use crate::config::meant::Imap;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use crate::config::written::What;
use std::time::Duration;
use wire::imap::text::is_atom_char;

/// RFC 9051 section 5.4: no autologout before 30 minutes; a minute more, so that a client that wakes every 30 is in time.
const SHORTEST_IDLE: Duration = Duration::from_secs(31 * 60);
/// The most that `idle_timeout` can be, in every protocol.
pub(super) const LONGEST_IDLE: Duration = Duration::from_secs(30 * 86_400);
/// RFC 2971 section 3.3.
const MOST_ID: usize = 30;
const LONGEST_ID_NAME: usize = 30;
const LONGEST_ID_VALUE: usize = 1024;
/// A greeting or capability list is part of a line that small clients must hold.
const LONGEST_LINE: usize = 1000;

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section, server: &str) -> Imap {
    let default = default_imap(server);
    Imap {
        capability: section.read(r, "capability", capability).map(|told| told.value),
        id_send: section.read_or(r, "imap_id_send", id_send, default.id_send),
        id_retain: section.read_or(r, "imap_id_retain", kinds::boolean, default.id_retain),
        greeting: section.read_or(r, "greeting", greeting(LONGEST_LINE), default.greeting),
        idle_timeout: section.read_or(
            r,
            "idle_timeout",
            kinds::duration(SHORTEST_IDLE..=LONGEST_IDLE, "RFC 9051 section 5.4 gives a silent client 30 minutes"),
            default.idle_timeout,
        ),
    }
}

/// The defaults.
pub(in super::super) fn default_imap(server: &str) -> Imap {
    Imap {
        capability: None,
        id_send: vec![("name".to_owned(), "Gatepost".to_owned())],
        id_retain: false,
        greeting: default_greeting(server),
        idle_timeout: Duration::from_secs(2 * 3600),
    }
}

/// RFC 9051 section 7.2.2: atoms, IMAP4rev1 or IMAP4rev2 among them. What depends on the connection is ours to add.
fn capability(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    names(r, item, LONGEST_LINE, |words| {
        if let Some(word) = words.iter().find(|word| !word.bytes().all(is_atom_char)) {
            return Err((format!("holds {}, which is no atom", shown(word)), "write names with blanks between them"));
        }
        let ours = |word: &str| {
            let word = word.to_ascii_uppercase();
            matches!(word.as_str(), "STARTTLS" | "LOGINDISABLED") || word.starts_with("AUTH=")
        };
        if let Some(word) = words.iter().find(|word| ours(word)) {
            let why = format!("holds {}, which follows from each listener's TLS and the databases", shown(word));
            return Err((why, "take it out; Gatepost adds it where it is true"));
        }
        if !words.iter().any(|word| word.eq_ignore_ascii_case("IMAP4rev1") || word.eq_ignore_ascii_case("IMAP4rev2")) {
            let fix = "write for example \"IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE\"";
            return Err(("lacks IMAP4rev1 and IMAP4rev2".to_owned(), fix));
        }
        Ok(())
    })
}

/// A table of names and values, or one text of them in turn as Dovecot 2.3 has it; the value `*` is what Gatepost says of
/// itself.
fn id_send(r: &mut Reading<'_>, item: &Item<'_>) -> Option<Vec<(String, String)>> {
    let pairs = match &item.value.what {
        What::Text(_) => {
            let text = kinds::line(r, item)?;
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let (pairs, []) = words.as_chunks::<2>() else {
                let text = format!("`{}` has a name without a value", item.name);
                r.error_fix(item.value.at, "value", text, "write { name = \"Gatepost\", \"support-url\" = \"https://...\" }");
                return None;
            };
            pairs.iter().map(|[name, value]| ((*name).to_owned(), (*value).to_owned())).collect()
        }
        _ => kinds::fields(r, item)?,
    };
    if pairs.len() > MOST_ID {
        r.error(item.value.at, "range", format!("`{}` has more than the {MOST_ID} pairs of RFC 2971", item.name));
        return None;
    }
    let mut out: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let full = format!("{}.{name}", item.name);
        if out.iter().any(|(have, _)| have.eq_ignore_ascii_case(&name)) {
            r.error(item.value.at, "twice", format!("{} is set twice; case makes no difference here", shown(&full)));
            return None;
        }
        let value = match (name.to_ascii_lowercase().as_str(), value.as_str()) {
            ("name", "*") => "Gatepost".to_owned(),
            ("version", "*") => env!("CARGO_PKG_VERSION").to_owned(),
            (_, "*") => {
                let text = format!("{} is `*`, and Gatepost has nothing to say there", shown(&full));
                r.error_fix(item.value.at, "value", text, "`*` stands for our own `name` and `version`; write the value");
                return None;
            }
            _ => value,
        };
        let fine = |text: &str| text.bytes().all(|b| matches!(b, b' '..=b'~'));
        if name.len() > LONGEST_ID_NAME || value.len() > LONGEST_ID_VALUE || !fine(&name) || !fine(&value) {
            let text = format!(
                "{} is not ASCII, or longer than RFC 2971 allows (name {LONGEST_ID_NAME}, value {LONGEST_ID_VALUE} octets)",
                shown(&full)
            );
            r.error(item.value.at, "value", text);
            return None;
        }
        out.push((name, value));
    }
    Some(out)
}
