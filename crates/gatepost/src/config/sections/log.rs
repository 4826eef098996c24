//! `[log]`: how the journal is written, and where to.

use crate::config::kinds;
use crate::config::meant::{Log, LogFormat, LogLevel};
use crate::config::reading::{Item, Reading, Section};
use std::path::PathBuf;

/// `format`.
pub(in super::super) const FORMAT: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
/// `level`.
pub(in super::super) const LEVEL: &[(&str, LogLevel)] =
    &[("error", LogLevel::Error), ("warning", LogLevel::Warning), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> Log {
    let default = default_log();
    Log {
        format: section.read_or(r, "format", kinds::word(FORMAT), default.format),
        level: section.read_or(r, "level", kinds::word(LEVEL), default.level),
        file: section.read(r, "file", file).map(|told| told.value),
    }
}

/// The defaults.
pub(in super::super) fn default_log() -> Log {
    Log { format: LogFormat::Text, level: LogLevel::Info, file: None }
}

/// It may not exist yet; its directory must.
fn file(r: &mut Reading<'_>, item: &Item<'_>) -> Option<PathBuf> {
    let path = kinds::path(r, item)?;
    let why = match path.parent() {
        _ if path.is_dir() => "it is a directory",
        Some(dir) if dir.is_dir() => return Some(path),
        _ => "its directory does not exist",
    };
    r.error(item.value.at, "file", format!("`{}`: cannot write {}: {why}", item.name, kinds::shown_path(&path)));
    None
}
