//! Listening sockets: which are wanted, which are there already, and why one cannot be had.

use crate::config::listen_at::ListenAt;
use crate::config::meant::{Listen, Meant};
use crate::life::handed::HandedSockets;
use crate::life::local::{self, Rights, SocketFile};
use crate::login::house::Door;
use crate::login::limits::Ceiling;
use crate::protocol::{self, Protocol};
use relay::listen::ListenSocket;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// What makes a listener the same one after a reload: protocol, configured address, and which of them where several ask
/// for any free port (port 0) on one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DoorKey(pub(super) &'static str, pub(super) ListenAt, pub(super) usize);

/// The keys of all listeners, in their order.
pub(super) fn keys(listen: &[Listen]) -> Vec<DoorKey> {
    let mut keys: Vec<DoorKey> = Vec::with_capacity(listen.len());
    for one in listen {
        let same = |key: &&DoorKey| key.0 == one.protocol && key.1 == one.address;
        keys.push(DoorKey(one.protocol, one.address.clone(), keys.iter().filter(same).count()));
    }
    keys
}

/// A listening address with its sockets, one per shard.
pub struct Bound {
    pub(super) key: DoorKey,
    pub(super) door: Door,
    /// The address after binding: the port is known.
    pub address: ListenAt,
    pub(super) sockets: Vec<ListenSocket>,
    /// Of a unix socket.
    pub(super) file: Option<Arc<SocketFile>>,
}

/// What is open already of the sockets that are wanted.
pub(super) trait Open {
    /// The listener is there.
    fn has(&self, key: &DoorKey) -> bool;
    /// The socket at a path, whatever is spoken there now.
    fn unix(&self, path: &Path) -> io::Result<Option<OpenUnix>>;
}

/// A listening unix socket, and its file.
pub(super) type OpenUnix = (ListenSocket, Arc<SocketFile>);

/// Nothing is.
struct Nothing;

impl Open for Nothing {
    fn has(&self, _: &DoorKey) -> bool {
        false
    }

    fn unix(&self, _: &Path) -> io::Result<Option<OpenUnix>> {
        Ok(None)
    }
}

/// Binds every listener of the configuration. Done before privileges are given up.
/// A listener for which a socket was handed over takes that one. `remark` hears of default addresses that are passed over
/// because this host lacks their family.
///
/// # Errors
/// An address cannot be bound: which, why, and where it is written.
pub fn bind(meant: &Meant, handed: &mut HandedSockets, remark: &mut dyn FnMut(String)) -> Result<Vec<Bound>, String> {
    bind_new(meant, handed, remark, &Nothing)
}

/// Binds those that there are not yet.
pub(super) fn bind_new(
    meant: &Meant,
    handed: &mut HandedSockets,
    remark: &mut dyn FnMut(String),
    open: &dyn Open,
) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for (listen, key) in meant.listen.iter().zip(keys(&meant.listen)) {
        if open.has(&key) {
            continue;
        }
        let Some(protocol) = protocol::find(listen.protocol) else {
            return Err(format!("{}: protocol {} has no row", listen.at, listen.protocol));
        };
        let opened = match &listen.address {
            ListenAt::Tcp(address) => tcp(*address, &key, handed, meant),
            ListenAt::Unix(path) => unix(path, listen, handed, meant, open),
        };
        match opened {
            Ok(Opened { address, sockets, file }) => {
                let door = door(listen, protocol, address.clone(), Arc::new(Ceiling::new(listen.connections)));
                bound.push(Bound { key, door, address, sockets, file });
            }
            Err(e) if listen.optional && family_missing(&e) => {
                remark(format!("listening address {} is passed over: {e}", listen.address));
            }
            Err(e) => {
                let fix = match e.kind() {
                    io::ErrorKind::PermissionDenied if listen.address.path().is_none() => {
                        "; ports below 1024 need root at start or the capability CAP_NET_BIND_SERVICE"
                    }
                    io::ErrorKind::AddrInUse if listen.address.path().is_none() => "; another program listens there",
                    io::ErrorKind::AddrInUse => "; stop it, or give this listener another path",
                    _ => "",
                };
                return Err(format!("{}: cannot listen on {}: {e}{fix}", listen.at, listen.address));
            }
        }
    }
    Ok(bound)
}

struct Opened {
    /// The port is known.
    address: ListenAt,
    sockets: Vec<ListenSocket>,
    file: Option<Arc<SocketFile>>,
}

fn tcp(address: SocketAddr, key: &DoorKey, handed: &mut HandedSockets, meant: &Meant) -> io::Result<Opened> {
    let sockets = match handed.take(key.0, &key.1, key.2) {
        Some(sockets) => sockets,
        None => relay::listen::bind(address, meant.server.threads)?.into_iter().map(ListenSocket::Tcp).collect(),
    };
    let bound = match sockets.first() {
        Some(ListenSocket::Tcp(socket)) => socket.local_addr()?,
        _ => address,
    };
    let sockets = relay::listen::shared(sockets, meant.server.threads)?;
    Ok(Opened { address: bound.into(), sockets, file: None })
}

/// There is one socket at a path: that which is open already, or was handed over, serves whatever is to be spoken there.
fn unix(path: &Arc<Path>, listen: &Listen, handed: &mut HandedSockets, meant: &Meant, open: &dyn Open) -> io::Result<Opened> {
    let (sockets, file) = match (open.unix(path)?, handed.take_unix(path)) {
        (Some((socket, file)), _) => (vec![socket], file),
        (None, Some(handed)) => handed,
        (None, None) => {
            let socket = local::listen_at(path, rights(listen, meant)?)?;
            (vec![socket.into()], SocketFile::at(path, true))
        }
    };
    let sockets = relay::listen::shared(sockets, meant.server.threads)?;
    Ok(Opened { address: ListenAt::Unix(Arc::clone(path)), sockets, file: Some(file) })
}

/// What the file of a unix socket should have. It belongs to `server.user`, whom the process becomes.
fn rights(listen: &Listen, meant: &Meant) -> io::Result<Rights> {
    let named = |key: &str, name: &str, e: io::Error| io::Error::new(e.kind(), format!("{key} {name}: {e}"));
    let service = meant.server.user.as_deref().filter(|_| rustix::process::geteuid().is_root());
    let service = service.map(|name| local::user(name).map_err(|e| named("server.user", name, e))).transpose()?;
    let group = listen.socket_group.as_deref();
    let group = group.map(|name| local::group(name).map_err(|e| named("socket_group", name, e))).transpose()?;
    let own = || service.map_or_else(rustix::process::getegid, |(_, group)| group);
    Ok(Rights { mode: listen.socket_mode, owner: service.map(|(user, _)| user), group: Some(group.unwrap_or_else(own)) })
}

/// Gives a unix socket's file that is there already what the configuration says now. What stands in the way is told: then it
/// keeps what it has.
pub(super) fn let_in(listen: &Listen, meant: &Meant, file: &SocketFile) -> Result<(), String> {
    if !file.is_ours() {
        return Ok(());
    }
    let given = rights(listen, meant).and_then(|rights| local::let_in(file.path(), rights));
    given.map_err(|e| format!("{}: {}: its rights stay as they are: {e}", listen.at, listen.address))
}

/// What is spoken at a listener that is bound.
pub fn door(listen: &Listen, protocol: &'static Protocol, bound: ListenAt, places: Arc<Ceiling>) -> Door {
    Door {
        protocol,
        tls: listen.tls,
        cleartext_auth: listen.cleartext_auth,
        proxy_protocol: listen.proxy_protocol,
        xclient: listen.xclient,
        bare_newline: listen.bare_newline,
        address: listen.address.clone(),
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
