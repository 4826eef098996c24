//! What can be seen of one connection, at one moment.

use super::{Entry, Stage, State};
use crate::config::listen_at::ListenAt;
use crate::login::record::Record;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Stands for a client until it is looked up.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One connection at one moment.
#[derive(Clone)]
pub struct View {
    /// Its number on the roll.
    pub number: u64,
    /// The protocol's name.
    pub protocol: &'static str,
    /// The address of the listener.
    pub listener: ListenAt,
    /// What is being done for it.
    pub state: State,
    /// Session id.
    pub session: Box<str>,
    /// The user; empty where nobody tries to sign in.
    pub user: Box<str>,
    /// The client.
    pub client: SocketAddr,
    /// Our peer, where a trusted one told us of the client.
    pub via: Option<SocketAddr>,
    /// Since accept; after login, since then.
    pub age: Duration,
    /// For how long nothing has moved; before login zero.
    pub idle: Duration,
    /// Octets handed on to the backend.
    pub to_backend: u64,
    /// Octets handed on to the client.
    pub to_client: u64,
    /// After login: all that is known.
    pub record: Option<Arc<Record>>,
}

impl View {
    /// Looks at an entry.
    pub fn of(entry: &Entry) -> View {
        let (to_backend, to_client) = entry.slot.moved();
        let mut view = View {
            number: entry.number,
            protocol: entry.protocol,
            listener: entry.listener.clone(),
            state: State::Relayed,
            session: Box::from(""),
            user: Box::from(""),
            client: NOWHERE,
            via: None,
            age: entry.born.elapsed(),
            idle: Duration::ZERO,
            to_backend,
            to_client,
            record: None,
        };
        match &*entry.stage() {
            Stage::Dialogue(caller) => {
                (view.session, view.user, view.state) = (caller.session.clone(), caller.user.clone(), caller.state);
                (view.client, view.via) = (caller.client, caller.via);
            }
            Stage::Relay(record) => {
                (view.session, view.user) = (record.session.clone(), record.user.clone());
                (view.client, view.via) = (record.client, record.via);
                view.age = record.since.elapsed();
                // The shards' clocks are coarse: what is new has not been idle for longer than it is there.
                view.idle = entry.slot.idle().min(view.age);
                view.record = Some(Arc::clone(record));
            }
        }
        view
    }

    /// The backend's address, once signed in there.
    pub fn backend(&self) -> Option<SocketAddr> {
        self.record.as_ref().and_then(|record| record.backend)
    }
}
