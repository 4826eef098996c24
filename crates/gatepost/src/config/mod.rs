//! The configuration: what was written, and what it means.
//!
//! [`load`] reads the main file and `conf.d/*.toml` beside it in the order of their names, joins them (`written`), and takes
//! each table for its meaning (`sections`). It promises:
//!
//! - *Everything at once*: all problems of all files, each with its place, a stable code and, where there is one, a fix.
//! - *Nothing passed over*: a key that is not read is an error, with the key that may have been meant; what a later version
//!   brings is told as such.
//! - *All or nothing*: a [`Meant`] is whole and consistent. Files that it names could be read when it was loaded.
//! - *Bounds*: files, their sizes, tables, depths and the number of problems told have limits; nothing in a file can cause a
//!   panic.
//!
//! Certificates, queries, templates and routing fields are for those who use them. So are system users and name resolution.

mod catalog;
mod effective;
mod hint;
mod kinds;
pub mod listen_at;
pub mod meant;
mod places;
mod problems;
mod reading;
mod secret;
mod sections;
mod spelling;
mod units;
mod written;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, DriverName, KeyKind, KeySpec, ProtocolName};
pub use effective::{effective, effective_with_secrets};
pub use problems::{Level, MOST as MOST_PROBLEMS, Place, Problem, Problems};
#[cfg(test)]
pub(crate) use sections::{default_backend, default_limits};
pub use units::duration as parse_duration;

use meant::Meant;
use places::{MOST_FILES, Spot, reason};
use reading::{Reading, Section};
use std::io;
use std::path::{Path, PathBuf};
use written::{Clash, Entry, MOST_KEYS, Table, What};

/// The version of the format that this program reads.
const VERSION: i64 = 1;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub meant: Meant,
    /// What the operator should know, in the order of files and lines.
    pub warnings: Vec<Problem>,
    /// The files that were read, the main file first.
    pub files: Vec<PathBuf>,
}

/// Reads the file at `path` and those in `conf.d` beside it.
///
/// # Errors
///
/// All problems, warnings among them, if at least one is an error.
pub fn load(path: &Path, catalog: &Catalog) -> Result<Loaded, Problems> {
    let mut r = Reading::new(catalog);
    let mut root = Table::default();
    read_file(&mut r, path, &mut root);
    // Without the main file there is no telling what its neighbours are about.
    if r.sources.text(0).is_empty() && r.incomplete {
        return Err(refusal(r));
    }
    for path in beside(&mut r, path) {
        read_file(&mut r, &path, &mut root);
    }
    let mut top = Section::root(root, r.top());
    read_version(&mut r, &mut top);
    let meant = sections::meant(&mut r, top);
    let (warnings, sources) = r.finish()?;
    Ok(Loaded { meant, warnings, files: sources.into_paths() })
}

/// Where the running Gatepost of this configuration answers (`server.control`), as far as that can be found out.
///
/// Whoever may ask it may not be able to read the keys and secrets that the files name, so nothing else is looked at, and where
/// the files cannot be read either it is the default.
pub fn control_socket(path: &Path) -> PathBuf {
    use toml::de::{DeTable, DeValue};
    let mut files = vec![path.to_owned()];
    let dir = path.parent().unwrap_or(Path::new("")).join("conf.d");
    let mut more = list(&dir).unwrap_or_default();
    more.sort();
    files.append(&mut more);
    let found = files.iter().take(MOST_FILES).find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let table = DeTable::parse(&text).ok()?;
        let server = table.get_ref().get("server").map(toml::Spanned::get_ref)?;
        let DeValue::Table(server) = server else { return None };
        let DeValue::String(control) = server.get("control").map(toml::Spanned::get_ref)? else { return None };
        Some(file.parent().unwrap_or(Path::new("")).join(&**control))
    });
    found.unwrap_or_else(|| sections::default_server().control)
}

/// The problems of a reading that ended early.
fn refusal(r: Reading<'_>) -> Problems {
    match r.finish() {
        Err(problems) => problems,
        // An early end has a reason, which is an error; were it lost, the list would be empty and still a refusal.
        Ok((list, _)) => Problems { list, more: 0 },
    }
}

/// Reads one file into the tree. `version` is each file's own.
fn read_file(r: &mut Reading<'_>, path: &Path, root: &mut Table) {
    let file = match r.sources.take_in(path) {
        Ok(file) => file,
        Err(unread) => {
            r.incomplete = true;
            r.error(unread.at, "file", format!("cannot be read: {}", unread.reason));
            return;
        }
    };
    let (table, mistakes) = match written::parse(&r.sources, file) {
        Ok(parsed) => parsed,
        Err(error) => {
            r.incomplete = true;
            r.error(Spot { file, offset: 0 }, "file", format!("cannot be read: {}", reason(&error)));
            return;
        }
    };
    let mut sound = true;
    for mistake in mistakes {
        sound &= mistake.code != "syntax";
        r.incomplete |= mistake.code == "syntax";
        r.error(mistake.at, mistake.code, mistake.text);
    }
    // What TOML recovered from its mistakes is a guess; complaints about guesses help nobody.
    if !sound {
        return;
    }
    let table = if file == 0 { table } else { without_version(r, table) };
    let mut clashes = Vec::new();
    written::join(root, table, "", &mut clashes);
    for clash in clashes {
        match clash {
            Clash::Twice { name, first, second } => {
                let text = format!("{} is set already at {}", problems::shown(&name), r.told_place(first));
                r.error_fix(second, "twice", text, "keep one of the two; only arrays are joined across files");
            }
            Clash::TooMany { at } => r.error(at, "range", format!("with this file a table has more than {MOST_KEYS} keys")),
        }
    }
}

/// In `conf.d`, `version` may be said again, if it is the same.
fn without_version(r: &mut Reading<'_>, mut table: Table) -> Table {
    if let Some(index) = table.entries.iter().position(|entry| entry.key == "version") {
        check_version(r, &table.entries.remove(index));
    }
    table
}

fn read_version(r: &mut Reading<'_>, top: &mut Section) {
    match top.entry_of(r, "version") {
        Some(entry) => check_version(r, &entry),
        None if r.incomplete => {}
        None => r.error_fix(r.top(), "version", "`version` is missing", format!("begin the file with version = {VERSION}")),
    }
}

fn check_version(r: &mut Reading<'_>, entry: &Entry) {
    let fix = format!("write version = {VERSION}, before the first table");
    match entry.value.what {
        What::Integer(VERSION) => {}
        What::Integer(number) if number > VERSION => {
            let text = format!("`version` is {number}; this program reads {VERSION}");
            r.error_fix(entry.value.at, "version", text, "run the Gatepost that this file was written for");
        }
        What::Integer(number) => r.error_fix(entry.value.at, "version", format!("there is no version {number}"), fix),
        _ => r.error_fix(entry.value.at, "version", "`version` must be a number", fix),
    }
}

/// The files of `conf.d`, sorted by name; hidden ones and other endings are an editor's or a package manager's.
fn beside(r: &mut Reading<'_>, main: &Path) -> Vec<PathBuf> {
    let dir = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let mut found = match list(&dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            r.incomplete = true;
            r.error(r.top(), "file", format!("cannot list {}: {}", kinds::shown_path(&dir), reason(&error)));
            Vec::new()
        }
    };
    if found.len() >= MOST_FILES {
        r.incomplete = true;
        r.error(r.top(), "file", format!("{} has {MOST_FILES} files or more", kinds::shown_path(&dir)));
        found.clear();
    }
    found.sort();
    found
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let octets = name.as_encoded_bytes();
        if octets.ends_with(b".toml") && !octets.starts_with(b".") {
            found.push(dir.join(&name));
            if found.len() >= MOST_FILES {
                break;
            }
        }
    }
    Ok(found)
}
