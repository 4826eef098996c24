//! What is told of the way to the login: the listener, who connects, whether it is believed, what it may say. Nothing here
//! decides.

use crate::login::arrival::{Arrival, Told};
use crate::login::house::{Door, Live};
use crate::witness::Step;
use ipnet::IpNet;
use std::net::SocketAddr;
use wire::login::Terms;
use wire::origin::haproxy::{self, Header, Progress};

/// Where the client knocks.
pub(super) fn listener(door: &Door) -> Step {
    let header = door.proxy_protocol.word();
    let text = format!("{}, TLS {}, PROXY header {header}", door.name(), door.tls.word());
    Step::new("listener", text)
        .with("protocol", door.protocol.name)
        .with("address", door.bound.to_string())
        .with("tls", door.tls.word())
        .with("proxy_protocol", header)
}

/// Who connects.
pub(super) fn peer(who: &str, peer: SocketAddr, here: SocketAddr, live: &Live) -> Step {
    let text = format!("{who} {} connects", shown(peer));
    let net = |nets: &[IpNet]| nets.iter().find(|net| net.contains(&peer.ip())).map(ToString::to_string);
    Step::new("peer", format!("{text} to {}", shown(here)))
        .with("peer", peer.to_string())
        .with("reached", here.to_string())
        .with("proxy_protocol", net(&live.meant.trust.proxy_protocol))
        .with("exempt", live.meant.limits.is_exempt(peer.ip()))
}

/// What the connection may be offered.
pub(super) fn terms(door: &Door, arrival: &Arrival, terms: &Terms) -> Step {
    let key = door.cleartext_auth.word();
    let how = match (arrival.secured, arrival.shielded) {
        (true, _) => "under TLS",
        (false, true) => "under TLS that ends at the balancer",
        (false, false) => "in clear",
    };
    let verdict = if terms.password_allowed { "a password may be said" } else { "no password may be said" };
    Step::new("terms", format!("{how}: {verdict} (cleartext_auth = \"{key}\")"))
        .with("protected", arrival.protected())
        .with("password_allowed", terms.password_allowed)
        .with("starttls_offered", terms.starttls)
        .with("cleartext_auth", key)
}

/// Which certificate the client is shown.
pub(super) fn certificate(chosen: Option<(usize, Vec<String>)>, sni: Option<&String>, live: &Live) -> Step {
    let (index, names) = chosen.unwrap_or_default();
    let file = live.meant.tls.certificates.get(index).map(|certificate| certificate.cert.display().to_string());
    let asked = sni.map_or("no name is asked for".to_owned(), |name| format!("{name:?} is asked for"));
    let fits = sni.is_none_or(|name| names.iter().any(|known| is_for(known, name)));
    let hint = if fits { "" } else { ": no certificate is for this name, so the first one" };
    let text = format!("{asked}: {} ({}){hint}", file.as_deref().unwrap_or("?"), names.join(", "));
    Step::new("tls", text).with("sni", sni.cloned()).with("certificate", file).with("names", names).with("fits", fits)
}

/// Whether a name of a certificate is this one, or a wildcard for it.
fn is_for(known: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    match known.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => known == name,
    }
}

/// What is believed of who is calling.
pub(super) fn identity(arrival: &Arrival, via: Option<SocketAddr>, from: SocketAddr) -> Step {
    let origin = &arrival.origin;
    let text = match via {
        Some(via) if origin.forwarded => {
            format!("{} says by ID or XCLIENT that {} is calling: believed", shown(via), shown(from))
        }
        Some(via) => {
            format!("{} says that {} is calling: not believed, the client is {}", shown(via), shown(from), shown(origin.client.0))
        }
        None => format!("the client is {}", shown(origin.client.0)),
    };
    let forward: Vec<String> = origin.forward.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
    let mut step = Step::new("client", text);
    for pair in &forward {
        step = step.more(format!("forwarded: {pair}"));
    }
    step.with("client", origin.client.0.to_string())
        .with("reached", origin.reached.0.to_string())
        .with("forwarded", origin.forwarded)
        .with("hops", origin.hops.get())
        .with("name", origin.name.clone())
        .with("forward", forward)
}

/// One of the limits on connections.
pub(super) fn limit(name: &str, who: String, have: usize, most: usize, key: &str) -> Step {
    let what = if name == "connections_before_login" { "connections that have not signed in" } else { "connections" };
    crate::login::seen::limit_step(name, format!("{who} {have} of {most} {what} ({key})"), have, most, false)
}

/// A header that we would send, in words; `None` where there is none.
pub(super) fn header_in_words(octets: &[u8]) -> Option<String> {
    match haproxy::read(octets) {
        Ok(Progress::Done { header: Header::Local, .. }) => Some("of nobody (LOCAL or UNKNOWN)".to_owned()),
        Ok(Progress::Done { header: Header::Proxied(header), .. }) => {
            Some(Told(&header).to_string().replacen("the balancer tells of ", "client ", 1))
        }
        _ => None,
    }
}

/// Without a port that nobody knows.
pub(super) fn shown(address: SocketAddr) -> String {
    if address.port() == 0 { address.ip().to_string() } else { address.to_string() }
}
