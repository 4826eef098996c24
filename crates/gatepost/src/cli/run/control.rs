//! The control socket: who may ask.

use crate::config::meant::Meant;
use crate::life::local::{self, Rights};
use rustix::fs::Gid;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Listens on the control socket; one left behind by a process that is gone makes room. Its group may ask as well.
pub(super) fn control_socket(meant: &Meant, path: &Path) -> io::Result<UnixListener> {
    let group = group_of_control(meant)?;
    local::listen_at(path, Rights { mode: 0o660, owner: None, group }).map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(e.kind(), "another Gatepost answers there"),
        _ => e,
    })
}

/// `admin.group`, else that of `server.user` where the process is root and will become it, else the process's own.
fn group_of_control(meant: &Meant) -> io::Result<Option<Gid>> {
    let named = |what: &str, name: &str, e: io::Error| io::Error::new(e.kind(), format!("{what} {name}: {e}"));
    if let Some(name) = &meant.admin.group {
        return local::group(name).map(Some).map_err(|e| named("admin.group", name, e));
    }
    match &meant.server.user {
        Some(name) if rustix::process::geteuid().is_root() => {
            local::user(name).map(|(_, group)| Some(group)).map_err(|e| named("server.user", name, e))
        }
        _ => Ok(None),
    }
}
