//! `backend.local`: by protocol, the mail server on this host.

use super::host::host_port;
use super::protocol;
use crate::config::kinds;
use crate::config::meant::{Listen, LocalBackend};
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading};
use crate::config::written::What;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The table; `listen` is where we listen ourselves, which is the one place where nobody could sign in.
pub(super) fn local(
    listen: &[Listen],
) -> impl FnOnce(&mut Reading<'_>, &Item<'_>) -> Option<BTreeMap<String, LocalBackend>> + use<'_> {
    move |r, item| {
        let What::Table(table) = &item.value.what else {
            return kinds::wrong(r, item, "a table such as { imap = \"127.0.0.1:10143\" }");
        };
        let mut out = BTreeMap::new();
        for entry in &table.entries {
            let Some(protocol) = protocol::base(r, entry.at, item.name, &entry.key) else { continue };
            let name = format!("{}.{protocol}", item.name);
            let item = Item { name: &name, value: &entry.value };
            let Some(backend) = server(r, &item) else { continue };
            if let Some(ours) = listen.iter().find(|listen| leads_to(&backend, listen)) {
                let text = format!("`{name}` is our own listener at {}: logins would come back here", ours.at);
                r.warning(entry.value.at, "conflict", text, "name the address and port of the mail server on this host");
            }
            out.insert(protocol.to_owned(), backend);
        }
        Some(out)
    }
}

fn server(r: &mut Reading<'_>, item: &Item<'_>) -> Option<LocalBackend> {
    let text = kinds::line(r, item)?;
    match host_port(&text) {
        Ok((host, port)) => Some(LocalBackend { host, port }),
        Err(why) => {
            let fix = "write \"127.0.0.1:10143\", \"[::1]:10143\" or \"localhost:10143\"";
            r.error_fix(item.value.at, "value", format!("`{}`: {} {why}", item.name, shown(&text)), fix);
            None
        }
    }
}

/// Only what is certain without a lookup.
fn leads_to(backend: &LocalBackend, listen: &Listen) -> bool {
    let Some(listens) = listen.address.tcp() else { return false };
    let ours = listens.ip();
    let here = match backend.host.parse::<IpAddr>() {
        Ok(to) => to == ours || (ours.is_unspecified() && to.is_loopback() && to.is_ipv4() == ours.is_ipv4()),
        Err(_) => backend.host.eq_ignore_ascii_case("localhost") && (ours.is_unspecified() || ours.is_loopback()),
    };
    here && backend.port == listens.port()
}
