//! Names of protocols where the port makes no difference.

use crate::config::kinds;
use crate::config::places::Spot;
use crate::config::problems::shown;
use crate::config::reading::Reading;

/// The protocol of this name, `imap`. What names none, or one with its port (`imaps`), is told; `key` is where it was written.
pub(super) fn base(r: &mut Reading<'_>, at: Spot, key: &str, name: &str) -> Option<&'static str> {
    let catalog = r.catalog;
    match catalog.protocols.iter().find(|row| row.name == name) {
        Some(row) if row.base == row.name => return Some(row.base),
        Some(row) => {
            let text = format!("`{key}`: {} is {} on another port", shown(row.name), shown(row.base));
            r.error_fix(at, "value", text, format!("write \"{}\", which is both", row.base));
        }
        None if catalog.later_protocols.contains(&name) => r.later(at, &format!("the protocol {}", shown(name))),
        None => {
            let names: Vec<&str> = catalog.protocols.iter().filter(|row| row.base == row.name).map(|row| row.name).collect();
            kinds::unknown_word(r, at, key, name, &names);
        }
    }
    None
}
