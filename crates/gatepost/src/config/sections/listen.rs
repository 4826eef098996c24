//! `[[listen]]`: where clients come in, one [`Listen`] per protocol and address.
//!
//! Without `address` a protocol is offered on its registered port on all addresses of both families. `*:143` (or `:143`) is the
//! same for another port. An address without a port takes each protocol's own; one with a port can only serve one protocol.
//! A unix socket is an address with a port in this respect, and nobody can listen in between: TLS is not offered there by default.
//! Two listeners on one address are an error here rather than a surprise when binding.
//!
//! Where a balancer stands in front, `proxy_protocol` says who begins with a PROXY header, and `tls = "offloaded"` that TLS ended
//! there. Both are about whom we believe, so each needs its counterpart to be written.

use super::address::{Address, parse_address};
use super::limits::MOST_CONNECTIONS;
use super::protocol;
use super::trust::Balancers;
use super::unix_socket;
use crate::config::catalog::ProtocolName;
use crate::config::kinds;
use crate::config::listen_at::ListenAt;
use crate::config::meant::{CleartextAuth, Listen, ListenProxy, ListenTls, XclientAs};
use crate::config::places::Spot;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section, Told};
use crate::config::written::What;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use wire::smtp::message::BareNewline;

/// `tls`.
pub(in super::super) const TLS: &[(&str, ListenTls)] = &[
    ("none", ListenTls::None),
    ("starttls", ListenTls::StartTls),
    ("implicit", ListenTls::Implicit),
    ("offloaded", ListenTls::Offloaded),
];
/// `cleartext_auth`.
pub(in super::super) const CLEARTEXT_AUTH: &[(&str, CleartextAuth)] = &[
    ("never", CleartextAuth::Never),
    ("loopback", CleartextAuth::Loopback),
    ("trusted", CleartextAuth::Trusted),
    ("always", CleartextAuth::Always),
];
/// `proxy_protocol`.
pub(in super::super) const PROXY: &[(&str, ListenProxy)] =
    &[("off", ListenProxy::Off), ("required", ListenProxy::Required), ("mixed", ListenProxy::Mixed)];

/// `xclient`.
pub(in super::super) const XCLIENT: &[(&str, XclientAs)] = &[("usual", XclientAs::Usual), ("exim", XclientAs::Exim)];
/// Whose protocols speak the XCLIENT that the key is about.
const SMTP: &[&str] = &["submission"];
/// `bare_newline`.
pub(in super::super) const BARE_NEWLINE: &[(&str, BareNewline)] =
    &[("normalize", BareNewline::Normalize), ("reject", BareNewline::Reject)];
/// Whose protocols take letters.
const LETTERS: &[&str] = &["lmtp"];

/// The most `[[listen]]`.
const MOST: usize = 1000;
/// The most items of one `protocols` or `address`.
const MOST_ITEMS: usize = 100;

/// What other tables say that matters here.
pub(super) struct Terms {
    /// `[tls]` names certificates.
    pub(super) certificates: bool,
    /// `[trust]` names networks.
    pub(super) trusted: bool,
    /// `[trust] proxy_protocol`.
    pub(super) balancers: Balancers,
}

/// A word of this listener: `None` where another was written and told already, so that no conclusions are drawn from it.
type Word<T> = Told<Option<T>>;

pub(super) fn read(r: &mut Reading<'_>, root: &mut Section, terms: &Terms) -> Vec<Listen> {
    let written = root.has("listen");
    let blocks = root.sections(r, "listen", MOST);
    if blocks.as_ref().map_or(!written, Vec::is_empty) && !r.incomplete {
        r.error_fix(
            r.top(),
            "missing",
            "there is no [[listen]]: nobody could connect",
            "[[listen]] protocols = [\"imap\", \"imaps\"]",
        );
    }
    let (mut all, mut taken) = (Vec::new(), BTreeMap::new());
    let mut deaf = blocks.as_ref().is_some_and(|blocks| !blocks.is_empty());
    for mut block in blocks.unwrap_or_default() {
        let proxy = read_proxy(r, &mut block, terms);
        deaf &= matches!(proxy, None | Some(Told { value: Some(ListenProxy::Off), .. }));
        all.extend(read_block(r, &mut block, proxy, terms, &mut taken));
        block.finish(r);
    }
    if let Some(at) = terms.balancers.at.filter(|_| deaf && !r.incomplete) {
        let text = "`trust.proxy_protocol` names balancers, and no listener takes a PROXY header";
        r.warning(at, "trust", text, "write proxy_protocol = \"required\" in the [[listen]] that they connect to");
    }
    all
}

fn read_block(
    r: &mut Reading<'_>,
    block: &mut Section,
    proxy: Option<Word<ListenProxy>>,
    terms: &Terms,
    taken: &mut BTreeMap<ListenAt, Spot>,
) -> Vec<Listen> {
    let protocols = read_protocols(r, block);
    let tls: Option<Word<ListenTls>> = block.read(r, "tls", |r, item| Some(kinds::word(TLS)(r, item)));
    let cleartext_auth = block.read(r, "cleartext_auth", kinds::word(CLEARTEXT_AUTH));
    check_offloaded(r, tls.as_ref(), proxy.as_ref(), cleartext_auth.as_ref());
    let cleartext_auth = cleartext_auth.map_or(CleartextAuth::Loopback, |told| told.value);
    let proxy_protocol = proxy.and_then(|told| told.value).unwrap_or(ListenProxy::Off);
    let xclient = block.read(r, "xclient", kinds::word(XCLIENT));
    if let Some(told) = xclient.as_ref().filter(|_| !protocols.known.iter().any(|row| SMTP.contains(&row.value.base))) {
        let text = "`listen.xclient` has no effect here: only SMTP has more than one XCLIENT";
        r.error_fix(told.at, "conflict", text, "take it out");
    }
    let xclient = xclient.map_or(XclientAs::Usual, |told| told.value);
    let bare_newline = block.read(r, "bare_newline", kinds::word(BARE_NEWLINE));
    if let Some(told) = bare_newline.as_ref().filter(|_| !protocols.known.iter().any(|row| LETTERS.contains(&row.value.base))) {
        let text = "`listen.bare_newline` has no effect here: letters are read by LMTP alone";
        r.error_fix(told.at, "conflict", text, "take it out");
    }
    let bare_newline = bare_newline.map_or(BareNewline::Normalize, |told| told.value);
    let connections = block.read(r, "connections", kinds::number(1..=MOST_CONNECTIONS)).map(|told| told.value);
    let written = block.has("address");
    let addresses = match block.read(r, "address", addresses) {
        Some(told) => told.value,
        // What is wrong with it was told; there is no default to fall back to then.
        None if written => Vec::new(),
        None => vec![Told { value: Where::Tcp(Address::DEFAULT), at: block.at }],
    };
    let file = unix_socket::read_file(r, block, addresses.iter().any(|told| matches!(told.value, Where::Unix(_))));

    let mut out = Vec::new();
    let mut complained = BTreeSet::new();
    for Told { value: protocol, at } in &protocols.known {
        if let Some(Told { value: Some(word), at }) = &tls
            && protocol.tls == ListenTls::Implicit
            && !matches!(word, ListenTls::Implicit | ListenTls::Offloaded)
        {
            let text = format!("`{}` means TLS from the first byte; `tls` says otherwise", protocol.name);
            r.error_fix(*at, "conflict", text, format!("take `tls` out, or write `{}` instead", protocol.base));
        }
        let tls_at = |place: &Where| match (&tls, place) {
            (Some(told), _) => told.value,
            (None, Where::Unix(_)) if protocol.tls == ListenTls::StartTls => Some(ListenTls::None),
            (None, _) => Some(protocol.tls),
        };
        // Where an address is wrong that is told, and no conclusions are drawn from the want of one.
        let ours = |told: &Told<Where>| matches!(tls_at(&told.value), Some(ListenTls::StartTls | ListenTls::Implicit));
        let ours = addresses.iter().any(ours);
        if ours && !terms.certificates && !r.incomplete {
            tell_no_certificate(r, tls.as_ref().map_or(*at, |told| told.at), protocol);
        }
        for Told { value: address, at } in addresses.iter().cloned() {
            if protocols.written > 1 && address.is_for_one() {
                if complained.insert(at) {
                    let (what, fix) = match address {
                        Where::Tcp(_) => {
                            ("an address with a port", "leave the port out, or give each protocol a [[listen]] of its own")
                        }
                        Where::Unix(_) => ("a unix socket", "give each protocol a [[listen]] of its own"),
                    };
                    r.error_fix(at, "conflict", format!("{what} serves one protocol, and this listener has several"), fix);
                }
                continue;
            }
            let listen = Listen {
                protocol: protocol.base,
                address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into(),
                socket_mode: file.mode,
                socket_group: file.group.clone(),
                optional: matches!(address, Where::Tcp(Address { host: None, .. })),
                tls: tls_at(&address).unwrap_or(protocol.tls),
                cleartext_auth,
                proxy_protocol,
                xclient: if SMTP.contains(&protocol.base) { xclient } else { XclientAs::Usual },
                bare_newline: if LETTERS.contains(&protocol.base) { bare_newline } else { BareNewline::Normalize },
                connections,
                at: r.told_place(at),
            };
            for socket in address.sockets(protocol.port) {
                match taken.get(&socket).filter(|_| !socket.is_any()) {
                    None => {
                        taken.insert(socket.clone(), at);
                        out.push(Listen { address: socket, ..listen.clone() });
                    }
                    Some(&first) => {
                        // Once for both families.
                        if complained.insert(at) {
                            let text = format!("{socket} is taken already by the listener at {}", r.told_place(first));
                            r.error_fix(at, "twice", text, "give one of the two another address or port, or take it out");
                        }
                    }
                }
            }
        }
    }
    warn_of_no_login(r, block, &out, cleartext_auth, terms);
    out
}

/// The protocols of a block: those of this version, and how many are written.
struct Protocols {
    known: Vec<Told<&'static ProtocolName>>,
    written: usize,
}

fn read_protocols(r: &mut Reading<'_>, block: &mut Section) -> Protocols {
    let (has_one, has_many) = (block.has("protocol"), block.has("protocols"));
    let one = block.read(r, "protocol", kinds::line);
    let many = block.read(r, "protocols", kinds::many(kinds::line));
    match (has_one, has_many) {
        (true, true) => {
            r.error_fix(block.at, "conflict", "this listener has both `protocol` and `protocols`", "keep `protocols` alone");
        }
        (false, false) => {
            r.error_fix(block.at, "missing", "this listener has no `protocol`", "protocols = [\"imap\", \"imaps\"]");
        }
        _ => {}
    }
    let mut names: Vec<Told<String>> = one.into_iter().collect();
    if let Some(many) = many {
        if many.value.is_empty() {
            r.error_fix(many.at, "value", "`listen.protocols` names no protocol", "protocols = [\"imap\", \"imaps\"]");
        }
        names.extend(many.value);
    }
    let written = names.len();
    if written > MOST_ITEMS {
        r.error(block.at, "range", format!("`listen.protocols` has more than {MOST_ITEMS} items"));
        names.clear();
    }
    let mut known: Vec<Told<&'static ProtocolName>> = Vec::new();
    for Told { value: name, at } in names {
        let catalog = r.catalog;
        if let Some(row) = catalog.protocols.iter().find(|row| row.name == name) {
            if known.iter().any(|told| told.value.name == row.name) {
                r.error_fix(at, "twice", format!("`{name}` is named twice in this listener"), "take one out");
            } else {
                known.push(Told { value: row, at });
            }
        } else {
            let names: Vec<&str> = catalog.protocols.iter().map(|row| row.name).collect();
            protocol::unknown(r, at, "listen.protocol", &name, &names);
        }
    }
    Protocols { known, written }
}

/// `proxy_protocol`, which is of no use where nobody's header is believed.
fn read_proxy(r: &mut Reading<'_>, block: &mut Section, terms: &Terms) -> Option<Word<ListenProxy>> {
    let told: Word<ListenProxy> = block.read(r, "proxy_protocol", |r, item| Some(kinds::word(PROXY)(r, item)))?;
    let why = match told.value {
        Some(ListenProxy::Required) => "nobody could connect",
        Some(ListenProxy::Mixed) => "nobody's header would be believed",
        Some(ListenProxy::Off) | None => return Some(told),
    };
    if !terms.balancers.written && !r.incomplete {
        let text = format!("`listen.proxy_protocol` needs `trust.proxy_protocol`: without it {why}");
        r.error_fix(told.at, "missing", text, "[trust] proxy_protocol = [\"10.2.0.4\"], with the addresses of the balancers");
    }
    Some(told)
}

/// Bytes in clear count for TLS only on the word of a header, and nothing is left for `cleartext_auth` to decide.
fn check_offloaded(
    r: &mut Reading<'_>,
    tls: Option<&Word<ListenTls>>,
    proxy: Option<&Word<ListenProxy>>,
    cleartext_auth: Option<&Told<CleartextAuth>>,
) {
    let Some(Told { value: Some(ListenTls::Offloaded), at }) = tls else { return };
    if !matches!(proxy, Some(Told { value: Some(ListenProxy::Required) | None, .. })) {
        let text = "`listen.tls = \"offloaded\"` without `proxy_protocol = \"required\"`: anybody could say a password in clear";
        r.error_fix(*at, "conflict", text, "write proxy_protocol = \"required\" in this listener too");
    }
    if let Some(told) = cleartext_auth {
        let text = "`listen.cleartext_auth` has no effect beside `tls = \"offloaded\"`, where TLS ended at the balancer";
        r.error_fix(told.at, "conflict", text, "take it out");
    }
}

/// One `address`.
#[derive(Debug, Clone)]
enum Where {
    Tcp(Address),
    Unix(Arc<Path>),
}

impl Where {
    /// Only one protocol can be spoken there.
    fn is_for_one(&self) -> bool {
        match self {
            Where::Tcp(address) => address.port.is_some(),
            Where::Unix(_) => true,
        }
    }

    /// What to bind.
    fn sockets(self, registered: u16) -> Vec<ListenAt> {
        match self {
            Where::Tcp(address) => address.sockets(registered).into_iter().map(ListenAt::Tcp).collect(),
            Where::Unix(path) => vec![ListenAt::Unix(path)],
        }
    }
}

fn addresses(r: &mut Reading<'_>, item: &Item<'_>) -> Option<Vec<Told<Where>>> {
    if matches!(&item.value.what, What::Array(items) if items.is_empty()) {
        let fix = "leave it out for all addresses on the registered port";
        r.error_fix(item.value.at, "value", format!("`{}` names no address", item.name), fix);
        return None;
    }
    let found = kinds::one_or_many(address)(r, item)?;
    if found.len() > MOST_ITEMS {
        r.error(item.value.at, "range", format!("`{}` has more than {MOST_ITEMS} items", item.name));
        return None;
    }
    Some(found)
}

fn address(r: &mut Reading<'_>, item: &Item<'_>) -> Option<Where> {
    let text = kinds::line(r, item)?;
    if let Some(path) = unix_socket::path_of(&text) {
        return unix_socket::path(r, item, path).map(Where::Unix);
    }
    match parse_address(&text) {
        Ok(address) => Some(Where::Tcp(address)),
        Err((why, fix)) => {
            r.error_fix(item.value.at, "value", format!("`{}`: {} {why}", item.name, shown(&text)), fix);
            None
        }
    }
}

fn tell_no_certificate(r: &mut Reading<'_>, at: Spot, protocol: &ProtocolName) {
    let certificates = "[tls] certificates = [{ cert = \"chain.pem\", key = \"key.pem\" }]";
    let fix = if protocol.tls == ListenTls::Implicit {
        format!("{certificates}, or take `{}` out", protocol.name)
    } else {
        format!("{certificates}, or tls = \"none\" in this listener")
    };
    r.error_fix(at, "tls", format!("`{}` offers TLS here, and [tls] has no certificate", protocol.name), fix);
}

/// A listener that refuses everybody's password is seldom meant.
fn warn_of_no_login(r: &mut Reading<'_>, block: &Section, listen: &[Listen], auth: CleartextAuth, terms: &Terms) {
    // Nobody signs in where letters are taken.
    let clear = || listen.iter().filter(|listen| listen.tls == ListenTls::None && !LETTERS.contains(&listen.protocol));
    // A balancer on this host brings clients that are not.
    let balanced = clear().any(|listen| listen.proxy_protocol != ListenProxy::Off);
    let outside = balanced || clear().any(|listen| listen.address.ip().is_some_and(|ip| !ip.is_loopback()));
    let who = match auth {
        CleartextAuth::Never => "nobody",
        CleartextAuth::Loopback => "only clients on this host",
        CleartextAuth::Trusted if !terms.trusted => "only clients on this host",
        CleartextAuth::Trusted | CleartextAuth::Always => return,
    };
    let never = auth == CleartextAuth::Never && clear().next().is_some();
    if outside || never {
        let text = format!("without TLS and with `cleartext_auth` as it is, {who} can sign in at this listener");
        let fix = if balanced {
            "offer TLS; if it ends at the balancer, tls = \"offloaded\" and proxy_protocol = \"required\"; or cleartext_auth = \
             \"always\" if the network itself is private"
        } else {
            "offer TLS, or set cleartext_auth = \"always\" if the network itself is private"
        };
        r.warning(block.at, "cleartext", text, fix);
    }
}
