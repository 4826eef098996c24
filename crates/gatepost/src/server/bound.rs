//! Listening sockets: which are wanted, which are there already, and why one cannot be had.

use crate::config::meant::{Listen, Meant};
use crate::life::handed::HandedSockets;
use crate::login::house::Door;
use crate::login::limits::Ceiling;
use crate::protocol::{self, Protocol};
use relay::listen::ListenSocket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// What makes a listener the same one after a reload: protocol, configured address, and which of them where several ask
/// for any free port (port 0) on one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DoorKey(pub(super) &'static str, pub(super) SocketAddr, pub(super) usize);

/// The keys of all listeners, in their order.
pub(super) fn keys(listen: &[Listen]) -> Vec<DoorKey> {
    let mut keys: Vec<DoorKey> = Vec::with_capacity(listen.len());
    for one in listen {
        let same = |key: &&DoorKey| key.0 == one.protocol && key.1 == one.address;
        keys.push(DoorKey(one.protocol, one.address, keys.iter().filter(same).count()));
    }
    keys
}

/// A listening address with its sockets, one per shard.
pub struct Bound {
    pub(super) key: DoorKey,
    pub(super) door: Door,
    /// The address after binding: the port is known.
    pub address: SocketAddr,
    pub(super) sockets: Vec<ListenSocket>,
}

/// Binds every listener of the configuration. Done before privileges are given up.
/// A listener for which a socket was handed over takes that one. `remark` hears of default addresses that are passed over
/// because this host lacks their family.
///
/// # Errors
/// An address cannot be bound: which, why, and where it is written.
pub fn bind(meant: &Meant, handed: &mut HandedSockets, remark: &mut dyn FnMut(String)) -> Result<Vec<Bound>, String> {
    bind_new(meant, handed, remark, &|_| false)
}

/// Binds those that there are not yet.
pub(super) fn bind_new(
    meant: &Meant,
    handed: &mut HandedSockets,
    remark: &mut dyn FnMut(String),
    have: &dyn Fn(&DoorKey) -> bool,
) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for (listen, key) in meant.listen.iter().zip(keys(&meant.listen)) {
        if have(&key) {
            continue;
        }
        let Some(protocol) = protocol::find(listen.protocol) else {
            return Err(format!("{}: protocol {} has no row", listen.at, listen.protocol));
        };
        let sockets = match handed.take(key.0, key.1, key.2) {
            Some(sockets) => Ok(sockets),
            None => relay::listen::bind(listen.address, meant.server.threads),
        };
        match sockets {
            Ok(sockets) => {
                let address = sockets.first().map_or(Ok(listen.address), std::net::TcpListener::local_addr);
                let sockets = sockets.into_iter().map(ListenSocket::Tcp).collect();
                let sockets = relay::listen::shared(sockets, meant.server.threads);
                let (address, sockets) =
                    address.and_then(|at| Ok((at, sockets?))).map_err(|e| format!("{}: {}: {e}", listen.at, listen.address))?;
                let door = door(listen, protocol, address, Arc::new(Ceiling::new(listen.connections)));
                bound.push(Bound { key, door, address, sockets });
            }
            Err(e) if listen.optional && family_missing(&e) => {
                remark(format!("listening address {} is passed over: {e}", listen.address));
            }
            Err(e) => {
                let fix = match e.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "; ports below 1024 need root at start or the capability CAP_NET_BIND_SERVICE"
                    }
                    io::ErrorKind::AddrInUse => "; another program listens there",
                    _ => "",
                };
                return Err(format!("{}: cannot listen on {}: {e}{fix}", listen.at, listen.address));
            }
        }
    }
    Ok(bound)
}

/// What is spoken at a listener that is bound.
pub fn door(listen: &Listen, protocol: &'static Protocol, bound: SocketAddr, places: Arc<Ceiling>) -> Door {
    Door {
        protocol,
        tls: listen.tls,
        cleartext_auth: listen.cleartext_auth,
        proxy_protocol: listen.proxy_protocol,
        xclient: listen.xclient,
        bare_newline: listen.bare_newline,
        address: listen.address,
        bound,
        places,
    }
}

/// This host has no such address family.
fn family_missing(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::AddrNotAvailable || e.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_family_is_told_from_other_trouble_by_what_bind_says() {
        for (errno, missing) in [
            (rustix::io::Errno::AFNOSUPPORT, true),
            (rustix::io::Errno::ADDRNOTAVAIL, true),
            (rustix::io::Errno::ADDRINUSE, false),
            (rustix::io::Errno::ACCESS, false),
        ] {
            assert_eq!(family_missing(&io::Error::from_raw_os_error(errno.raw_os_error())), missing, "{errno}");
        }
        // And the number survives the way through the relay's room: nobody has this address here.
        let e = relay::listen::bind("[2001:db8::1]:0".parse().unwrap(), 1).unwrap_err();
        assert!(e.raw_os_error().is_some() && family_missing(&e), "{e:?}");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let e = relay::listen::bind(taken.local_addr().unwrap(), 1).unwrap_err();
        assert!(e.raw_os_error().is_some() && !family_missing(&e), "{e:?}");
    }
}
