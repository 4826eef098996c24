//! `[log]`: how the journal is written, and where to.

use super::server::socket;
use crate::config::kinds;
use crate::config::meant::{DovecotVersion, Log, LogFacility, LogFormat, LogLevel, LogTarget};
use crate::config::reading::{Item, Reading, Section, Told};
use std::path::{Path, PathBuf};

/// `format`.
pub(in super::super) const FORMAT: &[(&str, LogFormat)] = &[
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("dovecot-2.3", LogFormat::Dovecot(DovecotVersion::V2_3)),
    ("dovecot-2.4", LogFormat::Dovecot(DovecotVersion::V2_4)),
];
/// `level`.
pub(in super::super) const LEVEL: &[(&str, LogLevel)] =
    &[("error", LogLevel::Error), ("warning", LogLevel::Warning), ("info", LogLevel::Info), ("debug", LogLevel::Debug)];
/// `target`.
pub(in super::super) const TARGET: &[(&str, Kind)] =
    &[("stderr", Kind::Stderr), ("file", Kind::File), ("syslog", Kind::Syslog), ("journald", Kind::Journald)];
/// `facility`: those of RFC 3164 that a program which is no part of the system may use.
pub(in super::super) const FACILITY: &[(&str, LogFacility)] = &[
    ("mail", DEFAULT_FACILITY),
    ("user", LogFacility::new(1)),
    ("daemon", LogFacility::new(3)),
    ("auth", LogFacility::new(4)),
    ("authpriv", LogFacility::new(10)),
    ("local0", LogFacility::new(16)),
    ("local1", LogFacility::new(17)),
    ("local2", LogFacility::new(18)),
    ("local3", LogFacility::new(19)),
    ("local4", LogFacility::new(20)),
    ("local5", LogFacility::new(21)),
    ("local6", LogFacility::new(22)),
    ("local7", LogFacility::new(23)),
];
/// Mail.
pub(in super::super) const DEFAULT_FACILITY: LogFacility = LogFacility::new(2);

/// A target without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Stderr,
    File,
    Syslog,
    Journald,
}

impl Kind {
    /// Whether the target is of this kind.
    pub(in super::super) fn is_kind_of(self, target: &LogTarget) -> bool {
        self == match target {
            LogTarget::Stderr => Kind::Stderr,
            LogTarget::File(_) => Kind::File,
            LogTarget::Syslog { .. } => Kind::Syslog,
            LogTarget::Journald { .. } => Kind::Journald,
        }
    }

    /// Where its daemon listens.
    fn socket(self) -> &'static Path {
        Path::new(if self == Kind::Journald { "/run/systemd/journal/socket" } else { "/dev/log" })
    }
}

/// The default of `socket`.
pub(in super::super) fn default_socket(target: &LogTarget) -> Option<&'static Path> {
    [Kind::Syslog, Kind::Journald].into_iter().find(|kind| kind.is_kind_of(target)).map(Kind::socket)
}

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> Log {
    let default = default_log();
    let format = section.read_or(r, "format", kinds::word(FORMAT), default.format);
    let level = section.read_or(r, "level", kinds::word(LEVEL), default.level);
    Log { format, level, target: target(r, section) }
}

/// The defaults.
pub(in super::super) fn default_log() -> Log {
    Log { format: LogFormat::Text, level: LogLevel::Info, target: LogTarget::Stderr }
}

fn target(r: &mut Reading<'_>, section: &mut Section) -> LogTarget {
    let (named, has_file) = (section.has("target"), section.has("file"));
    let kind = section.read(r, "target", kinds::word(TARGET));
    let at = kind.as_ref().map_or(section.at, |told| told.at);
    let file = section.read(r, "file", file);
    let socket = section.read(r, "socket", socket);
    let facility = section.read(r, "facility", kinds::word(FACILITY));
    let kind = match kind {
        Some(told) => told.value,
        // A wrong target is told already.
        None if named => return LogTarget::Stderr,
        None if has_file => Kind::File,
        None => Kind::Stderr,
    };
    let daemon = matches!(kind, Kind::Syslog | Kind::Journald);
    only_for(r, "file", &file, kind == Kind::File, "file");
    only_for(r, "socket", &socket, daemon, "syslog\" or \"journald");
    only_for(r, "facility", &facility, daemon, "syslog\" or \"journald");
    let socket = socket.map_or_else(|| kind.socket().to_path_buf(), |told| told.value);
    let facility = facility.map_or(DEFAULT_FACILITY, |told| told.value);
    match (kind, file) {
        (Kind::Stderr, _) => LogTarget::Stderr,
        (Kind::File, Some(file)) => LogTarget::File(file.value),
        (Kind::File, None) => {
            // A wrong file is told already.
            if !has_file {
                let fix = "[log] file = \"/var/log/gatepost.log\"";
                r.error_fix(at, "missing", "`log.target` is \"file\", and there is no `log.file`", fix);
            }
            LogTarget::Stderr
        }
        (Kind::Syslog, _) => LogTarget::Syslog { socket, facility },
        (Kind::Journald, _) => LogTarget::Journald { socket, facility },
    }
}

/// What would have no effect is refused.
fn only_for<T>(r: &mut Reading<'_>, key: &str, told: &Option<Told<T>>, fits: bool, targets: &str) {
    if let Some(told) = told
        && !fits
    {
        let text = format!("`log.{key}` has no effect with this `log.target`");
        r.error_fix(told.at, "conflict", text, format!("take it out, or write target = \"{targets}\""));
    }
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
