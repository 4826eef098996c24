//! Names of protocols: where the port makes no difference, and those that are none here.

use crate::config::catalog::Catalog;
use crate::config::places::Spot;
use crate::config::problems::shown;
use crate::config::reading::Reading;
use crate::config::{hint, kinds};

/// The protocol of this name, `imap`. What names none, or one with its port (`imaps`), is told; `key` is where it was written.
pub(super) fn base(r: &mut Reading<'_>, at: Spot, key: &str, name: &str) -> Option<&'static str> {
    let catalog = r.catalog;
    match catalog.protocols.iter().find(|row| row.name == name) {
        Some(row) if row.base == row.name => return Some(row.base),
        Some(row) => {
            let text = format!("`{key}`: {} is {} on another port", shown(row.name), shown(row.base));
            r.error_fix(at, "value", text, format!("write \"{}\", which is both", row.base));
        }
        None => {
            let names: Vec<&str> = catalog.protocols.iter().filter(|row| row.base == row.name).map(|row| row.name).collect();
            unknown(r, at, key, name, &names);
        }
    }
    None
}

/// Tells of a protocol that is none of `names`; `key` is where it was written.
pub(super) fn unknown(r: &mut Reading<'_>, at: Spot, key: &str, name: &str, names: &[&str]) {
    let Catalog { later_protocols, .. } = r.catalog;
    let theirs = hint::protocol(name, names);
    match theirs {
        // Elsewhere it is the word for both.
        Some(ours) if later_protocols.contains(&name) => {
            let text = format!("the protocol {} is not in this version", shown(name));
            r.error_fix(at, "later", text, format!("for users who sign in to send mail it is `{ours}`; else take it out"));
        }
        None if later_protocols.contains(&name) => r.later(at, &format!("the protocol {}", shown(name))),
        Some(ours) => r.error_fix(at, "value", format!("`{key}` cannot be {}", shown(name)), format!("here it is `{ours}`")),
        None => kinds::unknown_word(r, at, key, name, names),
    }
}
