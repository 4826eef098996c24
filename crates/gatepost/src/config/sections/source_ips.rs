//! `backend.source_ips`: a list, or one text as Dovecot's `login_source_ips` has it.
//!
//! `?` before an item means: only what this host has of it; before a whole text, that for all its items. What this host has is
//! found out when the configuration is put into force.

use super::host::host;
use crate::config::kinds;
use crate::config::meant::SourceIp;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Told};
use crate::config::written::What;
use std::collections::BTreeSet;

/// The most items.
const MOST: usize = 256;

/// An item as it is written, without its `?`.
struct Marked {
    host: String,
    if_here: bool,
}

pub(super) fn source_ips(r: &mut Reading<'_>, item: &Item<'_>) -> Option<Vec<SourceIp>> {
    let marked = match &item.value.what {
        What::Array(items) if items.len() > MOST => return too_many(r, item),
        What::Array(_) => kinds::many(one)(r, item)?,
        What::Text(_) => all_in_one(r, item)?,
        _ => return kinds::wrong(r, item, "a list such as [\"192.0.2.8\", \"?192.0.2.9\"]"),
    };
    if marked.len() > MOST {
        return too_many(r, item);
    }
    let mut have = BTreeSet::new();
    let mut out = Vec::with_capacity(marked.len());
    for Told { value: Marked { host: written, if_here }, at } in marked {
        let host = match host(&written) {
            Ok(host) => host,
            Err(why) => {
                let text = format!("`{}`: {} {why}", item.name, shown(&written));
                r.error_fix(at, "value", text, "write \"192.0.2.8\", \"2001:db8::8\" or a host name, without a port");
                continue;
            }
        };
        // Names in any case are one name; so is an address with `?` and without.
        if have.insert(host.to_ascii_lowercase()) {
            out.push(SourceIp { host, if_here, at: r.told_place(at) });
        } else {
            r.error_fix(at, "twice", format!("`{}` has {} twice", item.name, shown(&host)), "take one out");
        }
    }
    Some(out)
}

fn one(r: &mut Reading<'_>, item: &Item<'_>) -> Option<Marked> {
    let text = kinds::line(r, item)?;
    if text.contains([' ', ',']) {
        let why = format!("`{}`: {} is more than one item", item.name, shown(&text));
        r.error_fix(item.value.at, "value", why, "give each its own quotes");
        return None;
    }
    Some(marked(&text, false))
}

fn all_in_one(r: &mut Reading<'_>, item: &Item<'_>) -> Option<Vec<Told<Marked>>> {
    let text = kinds::line(r, item)?;
    let (all_if_here, rest) = match text.strip_prefix('?') {
        Some(rest) => (true, rest),
        None => (false, text.as_str()),
    };
    let words = rest.split([' ', ',']).filter(|word| !word.is_empty());
    let found: Vec<_> = words.map(|word| Told { value: marked(word, all_if_here), at: item.value.at }).collect();
    if found.is_empty() {
        let fix = "leave it out to let the system choose";
        r.error_fix(item.value.at, "value", format!("`{}` names no address", item.name), fix);
        return None;
    }
    Some(found)
}

fn marked(word: &str, all_if_here: bool) -> Marked {
    match word.strip_prefix('?') {
        Some(host) => Marked { host: host.to_owned(), if_here: true },
        None => Marked { host: word.to_owned(), if_here: all_if_here },
    }
}

fn too_many<T>(r: &mut Reading<'_>, item: &Item<'_>) -> Option<T> {
    r.error(item.value.at, "range", format!("`{}` has more than {MOST} items", item.name));
    None
}
