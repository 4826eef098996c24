//! A list of names in one text, with blanks between them: as capabilities and extensions are written.

use crate::config::kinds;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading};

/// What is wrong with a list, behind its key, and how to mend it.
pub(super) type Wrong = (String, &'static str);

/// The names with one blank between them, at most so many octets as written. What is wrong with these names is for `check` to
/// say; that they are the list, and not added to one, is said here.
pub(super) fn names(
    r: &mut Reading<'_>,
    item: &Item<'_>,
    longest: usize,
    check: impl FnOnce(&[&str]) -> Result<(), Wrong>,
) -> Option<String> {
    let text = kinds::line(r, item)?;
    let names: Vec<&str> = text.split_ascii_whitespace().collect();
    let added = names.iter().find(|name| name.starts_with('+'));
    let checked = match added {
        Some(name) => Err((format!("adds {} to a list; it is the list itself", shown(name)), "write all of them")),
        None => check(&names),
    };
    let too_long = || (format!("is longer than {longest} octets"), "write what clients need before login");
    match checked.and_then(|()| if text.len() > longest { Err(too_long()) } else { Ok(()) }) {
        Ok(()) => Some(names.join(" ")),
        Err((why, fix)) => {
            r.error_fix(item.value.at, "value", format!("`{}` {why}", item.name), fix);
            None
        }
    }
}
