//! Whose word counts.

use ipnet::IpNet;
use std::net::IpAddr;

/// The networks whose peers are believed when they say who is calling. Empty by default; loopback has no special standing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedNets(Vec<IpNet>);

/// Proof that a peer is in [`TrustedNets`]. Only [`TrustedNets::admit`] can make one.
#[derive(Debug)]
pub struct TrustedPeer(());

impl TrustedNets {
    /// Takes the list from the configuration.
    pub fn new(nets: Vec<IpNet>) -> Self {
        TrustedNets(nets)
    }

    /// Checks a peer: that of the socket or, where a balancer's PROXY header was believed, the client that the header names.
    /// Never an address that was claimed inside the conversation (ID, XCLIENT). IPv4-mapped addresses count as IPv4.
    pub fn admit(&self, peer: IpAddr) -> Option<TrustedPeer> {
        let peer = peer.to_canonical();
        self.0.iter().any(|net| net.contains(&peer)).then_some(TrustedPeer(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_trusted_by_default() {
        assert!(TrustedNets::default().admit("127.0.0.1".parse().unwrap()).is_none());
    }

    #[test]
    fn mapped_addresses_are_the_same_peer() {
        let nets = TrustedNets::new(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(nets.admit("10.1.2.3".parse().unwrap()).is_some());
        assert!(nets.admit("::ffff:10.1.2.3".parse().unwrap()).is_some());
        assert!(nets.admit("11.1.2.3".parse().unwrap()).is_none());
    }
}
