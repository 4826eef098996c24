//! Memory of a signed-in session that says nothing.

use crate::client::{self, Client};
use crate::proxy::Proxy;
use crate::{Protocol, Trouble, backend};
use std::time::Duration;

/// Measures and prints.
pub fn run(sessions: usize, protocol: Protocol) -> Result<(), Trouble> {
    let need = u64::try_from(sessions)?.saturating_mul(2).saturating_add(1024);
    raise_descriptors(need)?;
    let backend = backend::start(protocol)?;
    println!("| idle sessions | PSS before, KiB | PSS with sessions, KiB | KiB per session | PSS after all left, KiB |");
    println!("| --- | --- | --- | --- | --- |");
    for with_tls in [false, true] {
        // A process of its own for each row: what one left behind must not help the other.
        let proxy = Proxy::start(backend, protocol)?;
        let config = client::tls(&proxy.ca)?;
        let (name, address, tls) = if with_tls { ("TLS", proxy.tls, Some(&config)) } else { ("clear", proxy.clear, None) };
        // The first sessions pay for what is set up once.
        let warm: Vec<Client> = (0..32).map(|n| Client::idle(protocol, address, tls, n)).collect::<Result<_, _>>()?;
        drop(warm);
        let before = settled(&proxy)?;
        let clients: Vec<Client> = (0..sessions).map(|n| Client::idle(protocol, address, tls, n)).collect::<Result<_, _>>()?;
        let with = settled(&proxy)?;
        drop(clients);
        let after = settled(&proxy)?;
        #[allow(clippy::cast_precision_loss)] // KiB of one process
        let each = (with.saturating_sub(before)) as f64 / sessions as f64;
        println!("| {sessions} {} {name} | {before} | {with} | {each:.1} | {after} |", protocol.name());
    }
    Ok(())
}

/// The figure once it has stood still for eight seconds: the allocator gives memory back with a delay of five.
fn settled(proxy: &Proxy) -> Result<u64, Trouble> {
    let (mut last, mut still) = (proxy.pss_kib()?, 0);
    for _ in 0..60 {
        std::thread::sleep(Duration::from_secs(1));
        let now = proxy.pss_kib()?;
        still = if now.abs_diff(last) <= 64 { still + 1 } else { 0 };
        last = now;
        if still >= 8 {
            break;
        }
    }
    Ok(last)
}

fn raise_descriptors(need: u64) -> Result<(), Trouble> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|have| have >= need) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|most| most < need) {
        return Err(format!("{need} descriptors are needed; raise the limit with ulimit -n").into());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(need), maximum: limit.maximum })?;
    Ok(())
}
