//! Loopback port numbers for servers that cannot bind port 0 (Dovecot) and for addresses where nobody listens.
//!
//! Asking the kernel for a port and releasing it invites somebody else to take it. So numbers come from below the range
//! from which the kernel serves outgoing connections and port 0, and each is held by a lock on a file that all
//! test processes of this user share. What remains is a stranger's server on that very number: such numbers are tried
//! and skipped, and `dovecot` picks others if one is taken in between.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::netns;

/// A port number that no other test gets while this value lives. Nobody listens on it unless its owner does.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Claims a port that is free on all loopback addresses.
pub fn free_port() -> Port {
    let claims = claims_dir();
    let (low, high) = numbers();
    let span = u32::from(high - low);
    // Processes start at different places, so that they seldom meet at the same lock.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..span {
        let step = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        let Ok(number) = u16::try_from(u32::from(low) + step) else { continue };
        let opened = File::options().write(true).create(true).truncate(false).open(claims.join(number.to_string()));
        let Ok(claim) = opened else { continue };
        // The kernel drops the lock with the process, however it ends; the empty file may stay.
        if claim.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
            return Port { number, _claim: claim };
        }
    }
    panic!("no free port between {low} and {high}, claimed in {}", claims.display());
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn claims_dir() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("gatepost-test-ports-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => panic!("cannot create {}: {e}", dir.display()),
        _ => {}
    }
    // Everybody may write beside it: it must be what we made, not something put there to lead us elsewhere.
    let ours = fs::symlink_metadata(&dir).is_ok_and(|m| m.is_dir() && m.uid() == user && m.mode() & 0o022 == 0);
    assert!(ours, "{} is not a private directory of this user; remove it", dir.display());
    dir
}

/// 10 000 numbers that the kernel does not give to others, as far as the machine's settings allow.
fn numbers() -> (u16, u16) {
    match netns::local_ports() {
        Some((low, _)) if low >= 30_000 => (20_000, 30_000),
        Some((_, high)) if high < 55_000 => (55_000, 65_000),
        _ => (20_000, 30_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_not_given_twice() {
        let held: Vec<Port> = (0..20).map(|_| free_port()).collect();
        let mut numbers: Vec<u16> = held.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
    }

    #[test]
    fn a_claimed_port_can_be_listened_on() {
        let port = free_port();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).is_ok());
    }
}
