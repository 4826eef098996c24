//! `[server]`: who this host is.

use super::host::dns_like;
use crate::config::kinds;
use crate::config::meant::Server;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use std::path::PathBuf;

/// The longest path of a unix socket, octets: `sun_path` without its NUL.
const LONGEST_SOCKET: usize = 107;

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> Server {
    let default = default_server();
    let named = section.has("name");
    let name = section.read(r, "name", host_name).map_or_else(|| default.name.clone(), |told| told.value);
    if !named && let Err(why) = dns_like(&default.name) {
        let text = format!("this host's name {} {why}, so it cannot be the default of `server.name`", shown(&default.name));
        r.error_fix(section.at, "missing", text, "[server] name = \"mail.example.com\"");
    }
    let user = section.read(r, "user", user_name).map(|told| told.value);
    let control = section.read_or(r, "control", socket, default.control);
    let threads = section.read_or(r, "threads", kinds::number(1..=1024), default.threads);
    let temp_dir = section.read_or(r, "temp_dir", directory, default.temp_dir);
    Server { name, user, control, threads, temp_dir }
}

/// The defaults on this host.
pub(in super::super) fn default_server() -> Server {
    Server {
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        user: None,
        control: PathBuf::from("/run/gatepost/control.sock"),
        temp_dir: std::env::temp_dir(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn host_name(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    let name = kinds::line(r, item)?;
    match dns_like(&name) {
        Ok(()) => Some(name),
        Err(why) => {
            let text = format!("`{}`: {} {why}", item.name, shown(&name));
            r.error_fix(item.value.at, "value", text, "write the name that clients use, such as \"mail.example.com\"");
            None
        }
    }
}

pub(super) fn user_name(r: &mut Reading<'_>, item: &Item<'_>) -> Option<String> {
    let name = kinds::line(r, item)?;
    // What useradd(8) takes; a colon or a slash would be something else than a name.
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')) {
        return Some(name);
    }
    r.error(item.value.at, "value", format!("`{}`: {} is no name of a system user or group", item.name, shown(&name)));
    None
}

/// A directory that is there. Whether files can be made in it is seen when the first one is.
fn directory(r: &mut Reading<'_>, item: &Item<'_>) -> Option<PathBuf> {
    let path = kinds::path(r, item)?;
    if path.is_dir() {
        return Some(path);
    }
    r.error_fix(
        item.value.at,
        "path",
        format!("`{}`: {} is no directory", item.name, kinds::shown_path(&path)),
        "name one that the service may write to, such as \"/var/tmp\", or leave it out",
    );
    None
}

/// The path of a unix socket.
pub(super) fn socket(r: &mut Reading<'_>, item: &Item<'_>) -> Option<PathBuf> {
    let path = kinds::path(r, item)?;
    if path.as_os_str().len() <= LONGEST_SOCKET {
        return Some(path);
    }
    r.error_fix(
        item.value.at,
        "range",
        format!("`{}` is longer than the {LONGEST_SOCKET} octets a unix socket's path may have", item.name),
        "use a shorter absolute path, such as \"/run/gatepost/control.sock\"",
    );
    None
}
