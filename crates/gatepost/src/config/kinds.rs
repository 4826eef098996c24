//! The kinds of values: each function takes a written value for what it should be, or tells what is wrong and how to write it.
//!
//! Durations and sizes need a unit; a bare number is refused rather than guessed. Texts that end up in one line of a protocol or
//! of the log may not hold control characters.

use super::places::{Spot, reason};
use super::problems::shown;
use super::reading::{Item, Reading, Told, enumerate};
use super::secret::is_secret;
use super::written::{Value, What};
use super::{hint, units};
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest text of one line, octets.
const LONGEST_LINE: usize = 4096;
/// The longest text of several lines, octets.
const LONGEST_TEXT: usize = 64 * 1024;

/// Text of one line, not empty.
pub(super) fn line(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    let text = any_text(r, item, "text")?;
    checked(r, item.value.at, item.name, text, LONGEST_LINE, |c| !c.is_control()).map(str::to_owned)
}

/// Text that may have several lines.
pub(super) fn lines(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    let text = any_text(r, item, "text")?;
    checked(r, item.value.at, item.name, text, LONGEST_TEXT, |c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
        .map(str::to_owned)
}

/// True or false.
pub(super) fn boolean(r: &mut Reading<'_>, item: &Item<'_>) -> Option<bool> {
    match &item.value.what {
        What::Boolean(yes) => Some(*yes),
        What::Text(text) => {
            let fix = match text.to_ascii_lowercase().as_str() {
                "yes" | "y" | "on" | "true" | "1" => format!("write {} = true", item.name),
                "no" | "n" | "off" | "false" | "0" => format!("write {} = false", item.name),
                _ => "write true or false, without quotes".to_owned(),
            };
            r.error_fix(item.value.at, "kind", format!("`{}` is text; it must be true or false", item.name), fix);
            None
        }
        _ => wrong(r, item, "true or false"),
    }
}

/// A whole number in a range.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<T>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    move |r, item| {
        let What::Integer(number) = item.value.what else {
            return wrong(r, item, "a whole number without quotes");
        };
        match T::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let text = format!("`{}` is {number}; it must be from {} to {}", item.name, range.start(), range.end());
                r.error(item.value.at, "range", text);
                None
            }
        }
    }
}

/// A duration with its unit, in a range; `why` is told when it is out of it.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
    why: &'static str,
) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<Duration> {
    move |r, item| {
        let text = match &item.value.what {
            What::Text(text) => text,
            What::Integer(number) => {
                let fix = format!("write the unit: \"{number}s\" for seconds; there are ms, s, m, h and d");
                r.error_fix(item.value.at, "kind", format!("`{}` is a number without a unit", item.name), fix);
                return None;
            }
            _ => return wrong(r, item, "a duration such as \"30s\""),
        };
        let Some(duration) = units::duration(text) else {
            let text = format!("`{}` is {}, which is no duration", item.name, shown(text));
            r.error_fix(
                item.value.at,
                "value",
                text,
                "write a whole number and a unit: \"500ms\", \"30s\", \"5m\", \"2h\", \"1d\"",
            );
            return None;
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (units::write_duration(*range.start()), units::write_duration(*range.end()));
        let because = if why.is_empty() { String::new() } else { format!(" ({why})") };
        r.error(item.value.at, "range", format!("`{}` is {text}; it must be from {low} to {high}{because}", item.name));
        None
    }
}

/// A size in octets with its unit, in a range.
pub(super) fn size(range: RangeInclusive<usize>) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<usize> {
    move |r, item| {
        let text = match &item.value.what {
            What::Text(text) => text,
            What::Integer(number) => {
                let fix = format!("write the unit: \"{number}B\" for octets; there are B, KiB and MiB");
                r.error_fix(item.value.at, "kind", format!("`{}` is a number without a unit", item.name), fix);
                return None;
            }
            _ => return wrong(r, item, "a size such as \"8KiB\""),
        };
        let Some(size) = units::size(text) else {
            let text = format!("`{}` is {}, which is no size", item.name, shown(text));
            r.error_fix(item.value.at, "value", text, "write a whole number and a unit: \"4096B\", \"8KiB\", \"1MiB\"");
            return None;
        };
        if range.contains(&size) {
            return Some(size);
        }
        let (low, high) = (units::write_size(*range.start()), units::write_size(*range.end()));
        r.error(item.value.at, "range", format!("`{}` is {text}; it must be from {low} to {high}", item.name));
        None
    }
}

/// One of a list of words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<T> {
    move |r, item| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let What::Text(text) = &item.value.what else {
            return wrong(r, item, &format!("one of {}, in quotes", enumerate(&names)));
        };
        if let Some((_, value)) = words.iter().find(|(name, _)| name == text) {
            return Some(*value);
        }
        unknown_word(r, item.value.at, item.name, text, &names);
        None
    }
}

/// Tells that a word is none of the known ones.
pub(super) fn unknown_word(r: &mut Reading<'_>, at: Spot, name: &str, word: &str, names: &[&str]) {
    let list = format!("it takes {}", enumerate(names));
    let fix = match hint::nearest(word, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {list}"),
        None => list,
    };
    r.error_fix(at, "value", format!("`{name}` cannot be {}", shown(word)), fix);
}

/// A path, relative to the file it stands in.
pub(super) fn path(r: &mut Reading<'_>, item: &Item<'_>) -> Option<PathBuf> {
    let text = any_text(r, item, "a path in quotes")?;
    let text = checked(r, item.value.at, item.name, text, LONGEST_LINE, |c| !c.is_control())?;
    Some(r.sources.dir(item.value.at).join(text))
}

/// The path of a file that can be read now.
pub(super) fn file(r: &mut Reading<'_>, item: &Item<'_>) -> Option<PathBuf> {
    let path = path(r, item)?;
    match readable(&path) {
        Ok(()) => Some(path),
        Err(why) => {
            r.error(item.value.at, "file", format!("`{}`: cannot read {}: {why}", item.name, shown_path(&path)));
            None
        }
    }
}

/// The path of a file with a private key, which should not be open to everybody.
pub(super) fn key_file(r: &mut Reading<'_>, item: &Item<'_>) -> Option<PathBuf> {
    let path = file(r, item)?;
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o004 != 0) {
        let text = format!("`{}`: everybody on this host can read {}", item.name, shown_path(&path));
        r.warning(item.value.at, "file", text, "chmod o= on it, and give it to the service user");
    }
    Some(path)
}

/// One value or an array of them; each is what `kind` takes.
pub(super) fn one_or_many<T>(
    kind: impl FnMut(&mut Reading<'_>, &Item<'_>) -> Option<T>,
) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<Vec<Told<T>>> {
    move |r, item| match &item.value.what {
        What::Array(items) => Some(each(r, item.name, items, kind)),
        _ => Some(each(r, item.name, std::slice::from_ref(item.value), kind)),
    }
}

/// An array; each item is what `kind` takes.
pub(super) fn many<T>(
    kind: impl FnMut(&mut Reading<'_>, &Item<'_>) -> Option<T>,
) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<Vec<Told<T>>> {
    move |r, item| match &item.value.what {
        What::Array(items) => Some(each(r, item.name, items, kind)),
        What::Text(text) if !is_secret(item.name) => {
            let text = shown(text).replace('`', "\"");
            r.error_fix(
                item.value.at,
                "kind",
                format!("`{}` is text; it must be an array", item.name),
                format!("put it in brackets: [{text}]"),
            );
            None
        }
        _ => wrong(r, item, "an array"),
    }
}

/// A table of texts in the order of the file. Numbers are taken as text, as a database's would be.
pub(super) fn fields(r: &mut Reading<'_>, item: &Item<'_>) -> Option<Vec<(String, String)>> {
    let What::Table(table) = &item.value.what else {
        return wrong(r, item, "a table such as { proxy = \"y\", host = \"mail.example.net\" }");
    };
    let mut out: Vec<(String, String)> = Vec::with_capacity(table.entries.len());
    for entry in &table.entries {
        let name = format!("{}.{}", item.name, entry.key);
        if !entry.key.bytes().all(|b| b.is_ascii_graphic()) || entry.key.is_empty() {
            r.error(entry.at, "value", format!("{} is no name of a field", shown(&entry.key)));
            continue;
        }
        if out.iter().any(|(have, _)| have.eq_ignore_ascii_case(&entry.key)) {
            r.error(entry.at, "twice", format!("{} is set twice; case makes no difference in names of fields", shown(&name)));
            continue;
        }
        match &entry.value.what {
            What::Text(text) => {
                // An empty value has a meaning: the field is there and says nothing.
                if text.len() > LONGEST_LINE || text.chars().any(char::is_control) {
                    let text = format!("{} is longer than {LONGEST_LINE} octets or holds control characters", shown(&name));
                    r.error(entry.value.at, "value", text);
                } else {
                    out.push((entry.key.clone(), text.clone()));
                }
            }
            What::Integer(number) => out.push((entry.key.clone(), number.to_string())),
            What::Boolean(yes) => {
                // `nopassword = false` would switch it on: a boolean field is true by being there.
                let fix = if *yes { "write \"y\"" } else { "leave it out: such a field is true whatever it says" };
                r.error_fix(entry.value.at, "kind", format!("{} is {yes}; fields are texts", shown(&name)), fix);
            }
            other => r.error(entry.value.at, "kind", format!("{} is {}; fields are texts", shown(&name), other.kind())),
        }
    }
    Some(out)
}

/// Tells that a value is of the wrong kind.
pub(super) fn wrong<T>(r: &mut Reading<'_>, item: &Item<'_>, wanted: &str) -> Option<T> {
    r.error(item.value.at, "kind", format!("`{}` is {}; it must be {wanted}", item.name, item.value.what.kind()));
    None
}

/// A path for a message.
pub(super) fn shown_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    // Not cut: the end is what matters. Escaped as any other.
    text.chars().flat_map(char::escape_debug).collect()
}

fn each<T>(
    r: &mut Reading<'_>,
    name: &str,
    items: &[Value],
    mut kind: impl FnMut(&mut Reading<'_>, &Item<'_>) -> Option<T>,
) -> Vec<Told<T>> {
    items.iter().filter_map(|value| Some(Told { value: kind(r, &Item { name, value })?, at: value.at })).collect()
}

fn any_text<'v>(r: &mut Reading<'_>, item: &Item<'v>, wanted: &str) -> Option<&'v str> {
    match &item.value.what {
        What::Text(text) => Some(text),
        _ => wrong(r, item, wanted),
    }
}

fn checked<'v>(
    r: &mut Reading<'_>,
    at: Spot,
    name: &str,
    text: &'v str,
    longest: usize,
    fine: impl Fn(char) -> bool,
) -> Option<&'v str> {
    let why = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > longest {
        format!("is longer than {longest} octets")
    } else if !text.chars().all(fine) {
        "holds control characters".to_owned()
    } else {
        return Some(text);
    };
    r.error(at, "value", format!("`{name}` {why}"));
    None
}

/// Opens it to see. Anything but a regular file is refused unopened: opening a pipe would wait for its other end.
fn readable(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| reason(&error))?;
    if metadata.is_dir() {
        return Err("it is a directory".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    File::open(path).map(drop).map_err(|error| reason(&error))
}
