//! `greeting`, as it is in every `[protocol.NAME]`.

use crate::config::kinds;
use crate::config::reading::{Item, Reading};

/// Text behind the protocol's own `* OK [CAPABILITY ...] ` or `+OK `, of at most so many octets.
pub(super) fn greeting(longest: usize) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<String> {
    move |r, item| {
        let text = kinds::line(r, item)?;
        let why = if text.len() > longest {
            format!("is longer than {longest} octets")
        } else if !text.is_ascii() {
            "holds characters beyond ASCII, which a greeting cannot say".to_owned()
        } else if text.starts_with('[') {
            "begins with a bracket, which clients take for a response code".to_owned()
        } else {
            return Some(text);
        };
        r.error(item.value.at, "value", format!("`{}` {why}", item.name));
        None
    }
}

/// What is said by default.
pub(super) fn default_greeting(server: &str) -> String {
    format!("{server} Gatepost ready.")
}
