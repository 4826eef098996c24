//! `[admin]`: who may ask the running Gatepost, besides the owner of its socket (`server.control`).

use super::address::parse_address;
use super::server::user_name;
use crate::config::kinds;
use crate::config::meant::Admin;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use std::net::SocketAddr;

/// The most addresses.
const MOST: usize = 16;

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> Admin {
    let group = section.read(r, "group", user_name).map(|told| told.value);
    let told = section.read(r, "address", kinds::many(address));
    let at = told.as_ref().map_or(section.at, |told| told.at);
    let address: Vec<SocketAddr> = told.map(|told| told.value).unwrap_or_default().into_iter().map(|told| told.value).collect();
    let has_file = section.has("token_file");
    let token_file = section.read(r, "token_file", kinds::key_file).map(|told| told.value);
    if address.len() > MOST {
        r.error(at, "range", format!("`admin.address` has {} items; {MOST} are taken", address.len()));
    }
    if !address.is_empty() && !has_file {
        r.error_fix(
            at,
            "missing",
            "`admin.address` without `admin.token_file`: anybody who reaches that port could end sessions",
            "write a long random word into a file, `openssl rand -hex 32 > token`, and name it in token_file",
        );
    }
    for address in address.iter().filter(|address| !address.ip().is_loopback()) {
        let text = format!("`admin.address` {address} is not on this host alone: the token goes over the network in clear");
        r.warning(at, "clear", text, "use 127.0.0.1 and a tunnel, or a web server with TLS in front");
    }
    Admin { group, address, token_file }
}

/// Nothing but the socket.
pub(in super::super) fn default_admin() -> Admin {
    Admin { group: None, address: Vec::new(), token_file: None }
}

fn address(r: &mut Reading<'_>, item: &Item<'_>) -> Option<SocketAddr> {
    let text = kinds::line(r, item)?;
    let (why, fix) = match parse_address(&text) {
        Ok(found) => match (found.host, found.port) {
            (Some(_), Some(port)) => return found.sockets(port).into_iter().next(),
            (None, _) => ("would be all addresses", "name one, such as \"127.0.0.1:9143\"".to_owned()),
            (_, None) => ("has no port", "write \"127.0.0.1:9143\"".to_owned()),
        },
        Err((why, fix)) => (why, fix),
    };
    r.error_fix(item.value.at, "value", format!("`{}`: {} {why}", item.name, shown(&text)), fix);
    None
}
