//! `[trust]`: whose word about the client is believed. A mistake here lets anybody claim any address, so host bits behind a
//! prefix, and networks that are or add up to everybody, are errors.

use crate::config::kinds;
use crate::config::meant::Trust;
use crate::config::places::Spot;
use crate::config::problems::shown;
use crate::config::reading::{Item, Reading, Section};
use crate::config::written::What;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// `identity_before_tls`: whether what a trusted peer said before STARTTLS is kept.
pub(in super::super) const BEFORE_TLS: &[(&str, bool)] = &[("keep", true), ("drop", false)];

/// What the listeners must know of `proxy_protocol`.
pub(super) struct Balancers {
    /// It names somebody, right or wrong.
    pub(super) written: bool,
    /// Where, if it is right.
    pub(super) at: Option<Spot>,
}

pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> (Trust, Balancers) {
    let claims = |fix| Everybody { code: "trust", why: "any client could claim to be any other", fix };
    let proxies = claims("list only the proxies and webmail servers that tell true client addresses");
    let (networks, _) = networks_of(r, section, "networks", &proxies);
    let vouches = claims("list only the proxies that check passwords themselves");
    let (login, vouchers) = networks_of(r, section, "login", &vouches);
    if let (Some(net), Some(at)) = (login.iter().find(|net| !networks.iter().any(|known| known.contains(*net))), vouchers.at) {
        let text = format!("`trust.login` names {net}, which is not in `trust.networks`: nothing that it says would be heard");
        r.error_fix(at, "trust", text, format!("add \"{net}\" to `networks`"));
    }
    let identity_before_tls = section.read_or(r, "identity_before_tls", kinds::word(BEFORE_TLS), true);
    let headers = claims("list only the balancers that begin their connections with a PROXY header");
    let (proxy_protocol, balancers) = networks_of(r, section, "proxy_protocol", &headers);
    (Trust { networks, identity_before_tls, login, proxy_protocol }, balancers)
}

/// What is said of a list that everybody is in.
pub(super) struct Everybody {
    pub(super) code: &'static str,
    pub(super) why: &'static str,
    /// Who belongs into it.
    pub(super) fix: &'static str,
}

/// A list of networks that are not everybody.
pub(super) fn networks_of(
    r: &mut Reading<'_>,
    section: &mut Section,
    key: &'static str,
    everybody: &Everybody,
) -> (Vec<IpNet>, Balancers) {
    let mut written = false;
    let told = section.read(r, key, |r, item| {
        written = !matches!(&item.value.what, What::Array(items) if items.is_empty());
        kinds::many(network)(r, item)
    });
    let at = told.as_ref().filter(|_| written).map(|told| told.at);
    let networks: Vec<IpNet> = told.map(|told| told.value).unwrap_or_default().into_iter().map(|told| told.value).collect();
    // Halves of the world in two lines are the world as well.
    if IpNet::aggregate(&networks).iter().any(|net| net.prefix_len() == 0) {
        let name = section.full(key);
        let text = format!("`{name}` covers every address of a family: {}", everybody.why);
        r.error_fix(at.unwrap_or(section.at), everybody.code, text, everybody.fix);
    }
    (networks, Balancers { written, at })
}

fn network(r: &mut Reading<'_>, item: &Item<'_>) -> Option<IpNet> {
    let text = kinds::line(r, item)?;
    let parsed = match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().ok(),
    };
    let Some(net) = parsed else {
        let text = format!("`{}`: {} is neither an address nor a network", item.name, shown(&text));
        r.error_fix(
            item.value.at,
            "value",
            text,
            "write \"192.0.2.40\", \"10.1.0.0/16\" or \"2001:db8::/32\"; names are not taken",
        );
        return None;
    };
    let net = unmapped(net);
    if net.addr() != net.network() {
        let text = format!("`{}`: {} has bits behind its prefix", item.name, shown(&text));
        let fix = format!("write \"{}\" for the network or \"{}\" for the host alone", net.trunc(), net.addr());
        r.error_fix(item.value.at, "value", text, fix);
        return None;
    }
    Some(net)
}

/// Peers are compared after `::ffff:0:0/96` was taken off them, so it is taken off networks too.
fn unmapped(net: IpNet) -> IpNet {
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(prefix)) if net.addr().is_ipv6() => Ipv4Net::new(address, prefix).map_or(net, IpNet::V4),
        _ => net,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_networks_are_ipv4() {
        for (written, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1/128", "192.0.2.1/32"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            assert_eq!(unmapped(written.parse().unwrap()), meant.parse::<IpNet>().unwrap(), "{written}");
        }
    }
}
