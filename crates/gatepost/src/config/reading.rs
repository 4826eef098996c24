//! Walking the written tree: problems are collected instead of stopping at the first, and keys that nobody asked for are found.
//!
//! A [`Section`] is a table being read. Each key is asked for once, by name and kind; [`Section::finish`] reports what is left.
//! The list of valid keys in an error is therefore the list of keys that are really read.

use super::catalog::Catalog;
use super::hint;
use super::places::{Sources, Spot};
use super::problems::{Level, MOST, Problem, Problems, shown};
use super::secret::is_secret;
use super::written::{Entry, Table, Value, What};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The state of reading a configuration.
pub(super) struct Reading<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) sources: Sources,
    /// A file could not be read or has mistakes of TOML: what is missing may stand in the part that is not understood.
    pub(super) incomplete: bool,
    problems: Vec<(Spot, Problem)>,
    more: usize,
    errors: usize,
    unknown: Vec<Unknown>,
    /// Each key that was asked for, and the tables it belongs to.
    homes: BTreeMap<&'static str, Vec<String>>,
}

/// A key that nobody asked for. Judged at the end, when the keys of all tables are known.
struct Unknown {
    at: Spot,
    key: String,
    table: String,
    valid: Vec<&'static str>,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Told<T> {
    pub(super) value: T,
    pub(super) at: Spot,
}

/// A value under its full name, `limits.line`.
pub(super) struct Item<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a Value,
}

impl<'a> Reading<'a> {
    /// Begins.
    pub(super) fn new(catalog: &'a Catalog) -> Self {
        Reading {
            catalog,
            sources: Sources::default(),
            incomplete: false,
            problems: Vec::new(),
            more: 0,
            errors: 0,
            unknown: Vec::new(),
            homes: BTreeMap::new(),
        }
    }

    /// An error.
    pub(super) fn error(&mut self, at: Spot, code: &'static str, text: impl Into<String>) {
        self.problem(at, Level::Error, code, text.into(), None);
    }

    /// An error with what to do.
    pub(super) fn error_fix(&mut self, at: Spot, code: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.problem(at, Level::Error, code, text.into(), Some(fix.into()));
    }

    /// A warning with what to do.
    pub(super) fn warning(&mut self, at: Spot, code: &'static str, text: impl Into<String>, fix: impl Into<String>) {
        self.problem(at, Level::Warning, code, text.into(), Some(fix.into()));
    }

    /// Something that a later version brings.
    pub(super) fn later(&mut self, at: Spot, what: &str) {
        self.error_fix(at, "later", format!("{what} is not in this version"), "take it out until a version brings it");
    }

    /// `file:line:col`.
    pub(super) fn told_place(&self, at: Spot) -> String {
        self.sources.place(at).to_string()
    }

    /// The place of things that stand nowhere: the top of the main file.
    pub(super) fn top(&self) -> Spot {
        Spot { file: 0, offset: 0 }
    }

    /// Ends: the warnings, or all problems if one is an error.
    pub(super) fn finish(mut self) -> Result<(Vec<Problem>, Sources), Problems> {
        for unknown in std::mem::take(&mut self.unknown) {
            self.tell_unknown(&unknown);
        }
        if self.errors == 0 && self.more > 0 {
            let text = format!("there are {} more warnings", self.more);
            let at = self.top();
            self.problems
                .push((at, Problem { at: self.sources.place(at), level: Level::Warning, code: "more", text, fix: None }));
        }
        self.problems.sort_by_key(|(at, _)| *at);
        let list = self.problems.into_iter().map(|(_, problem)| problem).collect();
        if self.errors == 0 { Ok((list, self.sources)) } else { Err(Problems { list, more: self.more }) }
    }

    fn problem(&mut self, at: Spot, level: Level, code: &'static str, text: String, fix: Option<String>) {
        self.errors += usize::from(level == Level::Error);
        if self.problems.len() >= MOST {
            self.more += 1;
            // No number of warnings may hide why a configuration is refused.
            let warning = self.problems.iter().rposition(|(_, problem)| problem.level == Level::Warning);
            match warning {
                Some(index) if level == Level::Error => drop(self.problems.remove(index)),
                _ => return,
            }
        }
        self.problems.push((at, Problem { at: self.sources.place(at), level, code, text, fix }));
    }

    fn tell_unknown(&mut self, unknown: &Unknown) {
        let key = shown(&unknown.key);
        let list = || format!("{} takes {}", unknown.table, enumerate(&unknown.valid));
        let home = self.homes.get(unknown.key.as_str()).map(|homes| homes.join(" or "));
        if is_secret(&unknown.key) {
            let text = format!("{key} would put a secret into the configuration");
            let fix = format!("secrets live in files of their own that only the service user can read: `{}_file`", unknown.key);
            // Only where that is a key indeed; else there is nothing to sign in to.
            let fix = if unknown.valid.contains(&format!("{}_file", unknown.key).as_str()) {
                fix
            } else if unknown.valid.contains(&"fields") {
                format!("as a field of the user it belongs in `fields`; for a driver that signs in it is `{}_file`", unknown.key)
            } else {
                format!("take it out; a driver that signs in has `{}_file`, this table needs none", unknown.key)
            };
            self.error_fix(unknown.at, "secret", text, fix);
            return;
        }
        let within = if unknown.table.starts_with('[') { "in" } else { "at" };
        let text = format!("there is no {key} {within} {}", unknown.table);
        let near = hint::nearest(&unknown.key, unknown.valid.iter().copied());
        let fix = match (hint::elsewhere(&unknown.key), near, home) {
            (Some(ours), _, _) => format!("here it is {ours}"),
            (None, Some(near), Some(home)) => format!("did you mean `{near}`? {key} itself belongs in {home}"),
            (None, Some(near), None) => format!("did you mean `{near}`? {}", list()),
            (None, None, Some(home)) => format!("{key} belongs in {home}; {}", list()),
            (None, None, None) => list(),
        };
        self.error_fix(unknown.at, "unknown", text, fix);
    }
}

/// A table being read.
pub(super) struct Section {
    /// `limits`; empty for the top.
    name: String,
    /// `[limits]`.
    pub(super) title: String,
    /// Where it begins.
    pub(super) at: Spot,
    left: Vec<Entry>,
    asked: Vec<&'static str>,
}

impl Section {
    /// The whole configuration.
    pub(super) fn root(table: Table, at: Spot) -> Section {
        Section { name: String::new(), title: "the top level".to_owned(), at, left: table.entries, asked: Vec::new() }
    }

    /// Whether the key is written and was not asked for yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.iter().any(|entry| entry.key == key)
    }

    /// The value of a key, if it is there and is what `kind` takes; `kind` tells what is wrong otherwise.
    pub(super) fn read<T>(
        &mut self,
        r: &mut Reading<'_>,
        key: &'static str,
        kind: impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<T>,
    ) -> Option<Told<T>> {
        let entry = self.take(r, key)?;
        let name = self.full(key);
        let value = kind(r, &Item { name: &name, value: &entry.value })?;
        Some(Told { value, at: entry.value.at })
    }

    /// The same with a default.
    pub(super) fn read_or<T>(
        &mut self,
        r: &mut Reading<'_>,
        key: &'static str,
        kind: impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<T>,
        default: T,
    ) -> T {
        self.read(r, key, kind).map_or(default, |told| told.value)
    }

    /// A table within this one; where it is absent, an empty one that yields defaults.
    pub(super) fn section(&mut self, r: &mut Reading<'_>, key: &'static str) -> Section {
        let name = self.full(key);
        let mut section = Section { title: format!("[{name}]"), name, at: self.at, left: Vec::new(), asked: Vec::new() };
        let Some(entry) = self.take(r, key) else { return section };
        section.at = entry.at;
        match entry.value.what {
            What::Table(table) => section.left = table.entries,
            What::Array(_) => {
                let fix = format!("write [{}] with one pair of brackets", section.name);
                r.error_fix(entry.at, "kind", format!("`{}` is an array; there is only one", section.name), fix);
            }
            other => {
                let text = format!("`{}` is {}; it must be a table", section.name, other.kind());
                r.error_fix(entry.at, "kind", text, format!("write [{}]", section.name));
            }
        }
        section
    }

    /// The tables of an array. `None`: the key is not there or is no array of tables.
    pub(super) fn sections(&mut self, r: &mut Reading<'_>, key: &'static str, most: usize) -> Option<Vec<Section>> {
        let entry = self.take(r, key)?;
        let name = self.full(key);
        let What::Array(items) = entry.value.what else {
            let text = format!("`{name}` is {}; it must be an array of tables", entry.value.what.kind());
            let fix = match entry.value.what {
                What::Table(_) if self.name.is_empty() => format!("write [[{name}]] with two pairs of brackets"),
                _ => format!("write `{key} = [{{ ... }}]` or [[{name}]]"),
            };
            r.error_fix(entry.at, "kind", text, fix);
            return None;
        };
        if items.len() > most {
            r.error(entry.at, "range", format!("there are more than {most} [[{name}]]"));
            return None;
        }
        let empty = items.is_empty();
        let mut sections = Vec::with_capacity(items.len());
        for item in items {
            match item.what {
                What::Table(table) => sections.push(Section {
                    name: name.clone(),
                    title: format!("[[{name}]]"),
                    at: item.at,
                    left: table.entries,
                    asked: Vec::new(),
                }),
                other => {
                    let text = format!("an item of `{name}` is {}; each must be a table", other.kind());
                    r.error_fix(item.at, "kind", text, format!("write `{key} = [{{ ... }}]` or [[{name}]]"));
                }
            }
        }
        // Wrong items were told; that none is left is no news.
        (empty || !sections.is_empty()).then_some(sections)
    }

    /// Keys that a later version brings.
    pub(super) fn later(&mut self, r: &mut Reading<'_>, keys: &[&str]) {
        let (later, left) = std::mem::take(&mut self.left).into_iter().partition(|entry| keys.contains(&entry.key.as_str()));
        self.left = left;
        for entry in later {
            let what = match entry.value.what {
                What::Table(_) if self.name.is_empty() => format!("[{}]", entry.key),
                What::Array(_) if self.name.is_empty() => format!("[[{}]]", entry.key),
                _ => format!("`{}`", self.full(&entry.key)),
            };
            r.later(entry.at, &what);
        }
    }

    /// A key with its place, whatever its kind.
    pub(super) fn entry_of(&mut self, r: &mut Reading<'_>, key: &'static str) -> Option<Entry> {
        self.take(r, key)
    }

    /// What nobody asked for yet.
    pub(super) fn left(&self) -> &[Entry] {
        &self.left
    }

    /// Takes a key out that has been told of.
    pub(super) fn forget(&mut self, key: &str) {
        self.left.retain(|entry| entry.key != key);
    }

    /// Ends without a look at what is left: its meaning depends on something that is wrong itself.
    pub(super) fn drop_rest(mut self) {
        self.left.clear();
    }

    /// Ends: whatever nobody asked for is unknown.
    pub(super) fn finish(self, r: &mut Reading<'_>) {
        for entry in self.left {
            if r.unknown.len() < MOST {
                let (table, valid) = (self.title.clone(), self.asked.clone());
                r.unknown.push(Unknown { at: entry.at, key: entry.key, table, valid });
            } else {
                r.errors += 1;
                r.more += 1;
            }
        }
    }

    /// The key under its full name.
    pub(super) fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, r: &mut Reading<'_>, key: &'static str) -> Option<Entry> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let homes = r.homes.entry(key).or_default();
        if !homes.contains(&self.title) {
            homes.push(self.title.clone());
        }
        let index = self.left.iter().position(|entry| entry.key == key)?;
        Some(self.left.remove(index))
    }
}

/// "`a`, `b`, `c`".
pub(super) fn enumerate(words: &[&str]) -> String {
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}`{word}`");
    }
    if out.is_empty() { "nothing".to_owned() } else { out }
}
