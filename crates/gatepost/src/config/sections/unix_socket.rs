//! Listeners on unix sockets: `address = "unix:/run/gatepost/lmtp"`, `socket_mode`, `socket_group`.
//!
//! A path is relative to the file that it stands in. Whether its directory is there, and the group, is seen when it is bound.

use crate::config::kinds;
use crate::config::listen_at::{LONGEST_PATH, UNIX};
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section, Told};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Who may connect where nothing else is written: the owner and the group.
const MODE: u32 = 0o660;

/// What is written of a socket's file.
pub(super) struct File {
    pub(super) mode: u32,
    pub(super) group: Option<String>,
}

/// The keys of the file, which mean nothing where there is none.
pub(super) fn read_file(r: &mut Reading<'_>, block: &mut Section, unix: bool) -> File {
    let told_mode = block.read(r, "socket_mode", mode);
    let told_group = block.read(r, "socket_group", kinds::line);
    let places =
        [("socket_mode", told_mode.as_ref().map(|told| told.at)), ("socket_group", told_group.as_ref().map(|told| told.at))];
    for (key, at) in places {
        if let Some(at) = at.filter(|_| !unix && !r.incomplete) {
            let text = format!("`listen.{key}` has no effect: no `address` of this listener is a unix socket");
            r.error_fix(at, "conflict", text, "take it out");
        }
    }
    File { mode: told_mode.map_or(MODE, |told: Told<u32>| told.value), group: told_group.map(|told| told.value) }
}

/// A path, if this is how one begins.
pub(super) fn path_of(text: &str) -> Option<&str> {
    text.strip_prefix(UNIX).or_else(|| text.starts_with('/').then_some(text))
}

/// The path of a socket.
pub(super) fn path(r: &mut Reading<'_>, item: &Item<'_>, text: &str) -> Option<Arc<Path>> {
    let at = item.value.at;
    let refused = match text {
        "" | "." | "/" => Some("names no file"),
        _ if text.ends_with('/') => Some("names a directory"),
        _ if text.starts_with('@') => Some("is an abstract socket, which has no owner and no rights; a file is taken"),
        _ => None,
    };
    if let Some(why) = refused {
        r.error_fix(at, "value", format!("`{}`: {} {why}", item.name, shown(text)), "address = \"unix:/run/gatepost/lmtp\"");
        return None;
    }
    let path = r.sources.dir(at).join(text);
    let path = std::path::absolute(&path).unwrap_or(path);
    let octets = path.as_os_str().as_bytes().len();
    if octets > LONGEST_PATH {
        let text = format!("`{}`: the path of a unix socket has at most {LONGEST_PATH} octets, this one has {octets}", item.name);
        r.error(at, "range", text);
        return None;
    }
    Some(path.into())
}

/// `"0660"`: octal, as chmod(1) takes it.
fn mode(r: &mut Reading<'_>, item: &Item<'_>) -> Option<u32> {
    let text = kinds::line(r, item)?;
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    match u32::from_str_radix(&text, 8).ok().filter(|mode| digits && *mode <= 0o777) {
        // To connect is to write.
        Some(mode) if mode & 0o222 == 0 => {
            let text = format!("`{}`: nobody could connect with {}: that takes the right to write", item.name, shown(&text));
            r.error_fix(item.value.at, "value", text, "\"0660\" lets the owner and the group, \"0666\" everybody");
            None
        }
        Some(mode) => Some(mode),
        None => {
            let text = format!("`{}` cannot be {}", item.name, shown(&text));
            r.error_fix(item.value.at, "value", text, "an octal number in quotes, as \"0660\"");
            None
        }
    }
}
