//! The addresses that connections to backends are made from (`backend.source_ips`, Dovecot's `login_source_ips`).
//!
//! One address and port of a backend can take some 28,000 connections from one of ours before the kernel runs out of local
//! ports. Several sources multiply that. They are taken in turn, IPv4 and IPv6 each in a rotation of its own that starts
//! anywhere, and a caller whose source has no port left (EADDRNOTAVAIL) takes the next one in the same login.
//!
//! Names are resolved once, when the configuration is put into force; a reload resolves them anew. What cannot be used is
//! told at load and not at the login that would trip over it.
//!
//! A backend of a family without sources is dialled as the kernel chooses: with IPv4 sources only, an IPv6 backend still
//! works.

use crate::chance;
use crate::config::meant::SourceIp;
use std::io;
use std::iter::{Cycle, Skip, Take};
use std::net::IpAddr;
use std::slice::Iter;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most sources, all names resolved. More is an error at load: somebody else's name would decide over our memory.
pub const SOURCES_MAX: usize = 1024;

/// The sources of one configuration. Without any, the kernel chooses.
#[derive(Debug, Default)]
pub struct Sources {
    v4: Rotation,
    v6: Rotation,
}

#[derive(Debug, Default)]
struct Rotation {
    all: Vec<IpAddr>,
    next: AtomicUsize,
}

/// All sources of one family, each once, beginning with the one whose turn it is.
#[derive(Debug, Clone)]
pub struct Picks<'a>(Take<Skip<Cycle<Iter<'a, IpAddr>>>>);

impl Sources {
    /// Finds the sources, and what the operator is to be told of them.
    ///
    /// `exists_here` says whether this host can bind an address ([`relay::dial::exists_here`]), `lookup` gives all addresses of a
    /// name. An item with `if_here` is left out with a remark where this host lacks it; any other must be usable. IPv4-mapped
    /// addresses are taken as IPv4, and repeated ones count once.
    ///
    /// # Errors
    /// One text for each item that cannot be used, beginning with its place.
    pub fn resolve(
        items: &[SourceIp],
        exists_here: impl Fn(IpAddr) -> io::Result<bool>,
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>>,
    ) -> Result<(Sources, Vec<String>), Vec<String>> {
        let mut found: Vec<IpAddr> = Vec::new();
        let (mut remarks, mut errors) = (Vec::new(), Vec::new());
        'items: for item in items {
            let addresses = match addresses_of(item, &lookup) {
                Ok(addresses) => addresses,
                Err(why) if item.if_here => {
                    remarks.push(format!("{}: source {}: {why}; left out", item.at, item.host));
                    continue;
                }
                Err(why) => {
                    errors.push(format!(
                        "{}: error[source]: backend.source_ips: {}: {why}; write ?{} if that is meant",
                        item.at, item.host, item.host
                    ));
                    continue;
                }
            };
            for ip in addresses.iter().map(IpAddr::to_canonical) {
                if found.contains(&ip) {
                    continue;
                }
                let name = if item.host.parse::<IpAddr>().is_ok() { String::new() } else { format!(" ({})", item.host) };
                match unusable(ip, &exists_here) {
                    None if found.len() >= SOURCES_MAX => {
                        errors.push(format!("{}: more than {SOURCES_MAX} source addresses", item.at));
                        break 'items;
                    }
                    None => found.push(ip),
                    Some(why) if item.if_here => remarks.push(format!("{}: source {ip}{name}: {why}; left out", item.at)),
                    Some(why) => {
                        errors.push(format!(
                            "{}: error[source]: backend.source_ips: {ip}{name}: {why}; write ?{} if that is meant",
                            item.at, item.host
                        ));
                    }
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        if let Some(first) = items.first().filter(|_| found.is_empty()) {
            remarks.push(format!("{}: none of the source addresses is here; the kernel chooses instead", first.at));
        }
        let (v4, v6) = found.into_iter().partition(IpAddr::is_ipv4);
        Ok((Sources { v4: Rotation::new(v4), v6: Rotation::new(v6) }, remarks))
    }

    /// The sources for one connection to a backend at `family_of`: the first is the one to try, the others are for when it has
    /// no port left. Empty where there is none of that family: then the kernel chooses.
    pub fn pick(&self, family_of: IpAddr) -> Picks<'_> {
        match family_of.to_canonical() {
            IpAddr::V4(_) => self.v4.pick(),
            IpAddr::V6(_) => self.v6.pick(),
        }
    }
}

impl Sources {
    /// All sources for this family. Only looks: nobody's turn is taken.
    pub fn all(&self, family_of: IpAddr) -> &[IpAddr] {
        match family_of.to_canonical() {
            IpAddr::V4(_) => &self.v4.all,
            IpAddr::V6(_) => &self.v6.all,
        }
    }
}

impl Rotation {
    fn new(all: Vec<IpAddr>) -> Rotation {
        // Anywhere: several proxies, or one that restarts often, must not all lean on the first.
        let next = usize::try_from(chance::number()).unwrap_or_default();
        Rotation { all, next: AtomicUsize::new(next) }
    }

    fn pick(&self) -> Picks<'_> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let start = turn.checked_rem(self.all.len()).unwrap_or_default();
        Picks(self.all.iter().cycle().skip(start).take(self.all.len()))
    }
}

impl Iterator for Picks<'_> {
    type Item = IpAddr;

    fn next(&mut self) -> Option<IpAddr> {
        self.0.next().copied()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

fn addresses_of(item: &SourceIp, lookup: &impl Fn(&str) -> io::Result<Vec<IpAddr>>) -> Result<Vec<IpAddr>, String> {
    if let Ok(ip) = item.host.parse::<IpAddr>() {
        return Ok(vec![ip]);
    }
    match lookup(&item.host) {
        Ok(addresses) if addresses.is_empty() => Err("the name has no address".to_owned()),
        Ok(addresses) => Ok(addresses),
        Err(e) => Err(format!("the name does not resolve: {e}")),
    }
}

/// Why an address cannot be a source.
fn unusable(ip: IpAddr, exists_here: &impl Fn(IpAddr) -> io::Result<bool>) -> Option<String> {
    // Both can be bound, and neither says whence a connection comes. Name servers that block names answer 0.0.0.0.
    if ip.is_unspecified() || ip.is_multicast() {
        return Some("not the address of a host".to_owned());
    }
    match exists_here(ip) {
        Ok(true) => None,
        Ok(false) => Some("this host does not have it".to_owned()),
        Err(e) => Some(format!("cannot be bound: {e}")),
    }
}

#[cfg(test)]
mod tests;
