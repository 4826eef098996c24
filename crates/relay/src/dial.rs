//! Connections to others, from an address of our choice.
//!
//! A source address is bound without a port (`IP_BIND_ADDRESS_NO_PORT`, Linux 4.2): the kernel chooses one at connect, when it
//! knows the destination, and one port may serve many destinations. Bound the common way, an address has as many connections
//! as there are ephemeral ports, wherever they go.
//!
//! Left to others: names, deadlines, which source to take, and [`crate::listen::tune`].

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use tokio::net::{TcpSocket, TcpStream};

/// Connects to `to`; with `from` out of that address of this host. IPv4-mapped addresses count as IPv4.
///
/// # Errors
/// `InvalidInput` if `from` is of another family than `to`. `AddrNotAvailable` that names `from`, if this host does not have
/// it. Otherwise what the kernel said, its number kept; [`out_of_ports`] tells when another source might still do.
pub async fn dial(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let to = match to.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, to.port()),
        // As it is: a link-local address needs its scope.
        IpAddr::V6(_) => to,
    };
    socket(to, from)?.connect(to).await
}

/// Whether `ip` is an address of this host, so that it can be called from. One of a family that the host lacks is not.
///
/// # Errors
/// What the kernel said, unless it is that.
pub fn exists_here(ip: IpAddr) -> io::Result<bool> {
    let addr = SocketAddr::new(ip.to_canonical(), 0);
    let bound = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
        // The question is not whether a port is free.
        choose_port_at_connect(&socket)?;
        socket.bind(&addr.into())
    });
    match bound {
        Ok(()) => Ok(true),
        Err(e) if matches!(errno(&e), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether this error of [`dial`] says that no port is left between the source and this destination. A source that does not
/// exist is another error.
pub fn out_of_ports(e: &io::Error) -> bool {
    matches!(errno(e), Some(Errno::ADDRNOTAVAIL | Errno::AGAIN))
}

/// The socket before it connects.
fn socket(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let Some(from) = from.map(|ip| ip.to_canonical()) else { return Ok(socket) };
    if from.is_ipv4() != to.is_ipv4() {
        let text = format!("{} cannot be called from {from}: one is IPv4, the other IPv6", to.ip());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    socket.set_reuseaddr(true)?;
    choose_port_at_connect(&socket)?;
    // Without its number, which at connect would mean something else: no port is left.
    socket
        .bind(SocketAddr::new(from, 0))
        .map_err(|e| io::Error::new(e.kind(), format!("the source address {from} cannot be used: {e}")))?;
    Ok(socket)
}

/// Must come before bind. It is an option of IPv4 by name only.
fn choose_port_at_connect(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, IpBindAddressNoPort, &true)?)
}

fn errno(e: &io::Error) -> Option<Errno> {
    e.raw_os_error().map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;
    use tokio::net::TcpListener;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn calls_from_the_address_it_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let mapped = SocketAddr::new(ip("::ffff:127.0.0.1"), here.port());
        for (to, from, seen) in [
            (here, None, "127.0.0.1"),
            (here, Some("127.0.0.2"), "127.0.0.2"),
            (mapped, Some("127.0.0.3"), "127.0.0.3"),
            (here, Some("::ffff:127.0.0.4"), "127.0.0.4"),
        ] {
            let stream = dial(to, from.map(ip)).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!((peer.ip(), peer), (ip(seen), stream.local_addr().unwrap()));
        }
    }

    #[tokio::test]
    async fn the_kernel_chooses_no_port_before_it_knows_where_to() {
        let mut cases = vec![("127.0.0.1:1", "127.0.0.2")];
        if exists_here(ip("::1")).unwrap() {
            cases.push(("[::1]:1", "::1"));
        }
        for (to, from) in cases {
            let bound = socket(to.parse().unwrap(), Some(ip(from))).unwrap();
            assert!(getsockopt(&bound, IpBindAddressNoPort).unwrap());
            assert!(bound.reuseaddr().unwrap());
            assert_eq!(bound.local_addr().unwrap(), SocketAddr::new(ip(from), 0), "bound, and still without a port");
        }
    }

    #[tokio::test]
    async fn two_families_are_an_error_that_names_both() {
        for (to, from) in [("127.0.0.1:1", "::1"), ("[2001:db8::1]:1", "127.0.0.1")] {
            let to: SocketAddr = to.parse().unwrap();
            let error = dial(to, Some(ip(from))).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(from) && error.to_string().contains(&to.ip().to_string()), "{error}");
            assert!(!out_of_ports(&error));
        }
    }

    #[tokio::test]
    async fn a_source_that_is_not_here_is_no_want_of_ports() {
        let error = dial("127.0.0.1:1".parse().unwrap(), Some(ip("192.0.2.1"))).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("192.0.2.1") && !out_of_ports(&error), "{error}");
    }

    #[test]
    fn which_addresses_exist_here() {
        for (text, here) in [("127.0.0.1", true), ("127.200.3.4", true), ("::ffff:127.0.0.1", true), ("192.0.2.1", false)] {
            assert_eq!(exists_here(ip(text)).unwrap(), here, "{text}");
        }
        assert!(!exists_here(ip("2001:db8::1")).unwrap());
    }

    #[test]
    fn which_errors_mean_that_ports_ran_out() {
        for (code, out) in [(Errno::ADDRNOTAVAIL, true), (Errno::AGAIN, true), (Errno::CONNREFUSED, false), (Errno::MFILE, false)]
        {
            assert_eq!(out_of_ports(&io::Error::from_raw_os_error(code.raw_os_error())), out, "{code}");
        }
        assert!(!out_of_ports(&io::ErrorKind::AddrNotAvailable.into()), "not the kernel's word at connect");
    }
}
