//! Who is on: every connection from accept to its end, so that it can be listed and ended.
//!
//! An [`Entry`] is shared by the task that serves the connection and the roll, which only looks. Before login it says who
//! calls and what is being done; after login it holds the session's [`Record`], the same one that the journal writes from, so
//! nothing is kept twice during the hours of the relay. How much was moved, and when last, stands in the session's slot: the
//! relay writes it there without a lock.
//!
//! To end sessions is an order in that slot. The first order stands, from any thread; whoever waits on the slot is woken.

mod filter;
mod holds;
mod view;

pub use filter::{Backends, Filter, Mask, net};
pub use holds::{Coming, HOLD_MAX, Held, Holds};
pub use view::View;

use super::record::Record;
use crate::config::listen_at::ListenAt;
use relay::clock::{Clock, EndOrder, Slot};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};
use wire::origin::Origin;

/// What is being done for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has signed in: the client talks, or is silent.
    Talking,
    /// A login is looked at: databases are asked, the backend is connected to.
    SigningIn,
    /// A login waits for `delay_until` or for the hold of a kick.
    Held,
    /// Signed in; bytes are relayed.
    Relayed,
}

impl State {
    /// All of them, in the order in which they follow each other.
    pub const ALL: [State; 4] = [State::Talking, State::SigningIn, State::Held, State::Relayed];

    /// The word in lists and filters.
    pub fn word(self) -> &'static str {
        match self {
            State::Talking => "talking",
            State::SigningIn => "signing-in",
            State::Held => "held",
            State::Relayed => "relayed",
        }
    }
}

/// A connection on the roll.
pub struct Entry {
    /// Unlike any other in the life of the process.
    pub number: u64,
    /// The protocol's name.
    pub protocol: &'static str,
    /// The address of the listener.
    pub listener: ListenAt,
    born: Instant,
    slot: Arc<Slot>,
    stage: Mutex<Stage>,
    /// What its slot has counted is counted elsewhere now.
    settled: AtomicBool,
}

/// Small in the relay: what only the dialogue needs goes with it.
enum Stage {
    Dialogue(Box<Caller>),
    Relay(Arc<Record>),
}

/// Who talks, before login.
struct Caller {
    session: Box<str>,
    client: SocketAddr,
    via: Option<SocketAddr>,
    /// The name that the login under way gave; as the databases have it once they have answered.
    user: Box<str>,
    state: State,
}

impl Entry {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot in its shard's clock.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Takes over what is believed of the caller now.
    pub fn tell(&self, origin: &Origin) {
        if let Stage::Dialogue(caller) = &mut *self.stage() {
            caller.session = origin.session.as_str().into();
            (caller.client, caller.via) = (origin.client.0, origin.via());
        }
    }

    /// A login begins to be looked at; or ends, with `None`.
    pub fn signing_in(&self, name: Option<&str>) {
        if let Stage::Dialogue(caller) = &mut *self.stage() {
            caller.user = name.unwrap_or_default().into();
            caller.state = if name.is_some() { State::SigningIn } else { State::Talking };
        }
    }

    /// The login under way waits, or goes on.
    pub fn held(&self, waits: bool) {
        if let Stage::Dialogue(caller) = &mut *self.stage() {
            caller.state = if waits { State::Held } else { State::SigningIn };
        }
    }

    /// The user is in; nothing may move for longer than `idle`.
    pub fn relay(&self, record: Arc<Record>, idle: Duration) {
        *self.stage() = Stage::Relay(record);
        self.slot.shorten(idle);
    }

    /// From here on what it has moved is counted among the sessions that have ended.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// What it has moved, unless that is counted elsewhere.
    pub fn unsettled(&self) -> Option<(u64, u64)> {
        (!self.settled.load(Ordering::Acquire)).then(|| self.slot.moved())
    }

    /// What is being done for it.
    pub fn state(&self) -> State {
        match &*self.stage() {
            Stage::Dialogue(caller) => caller.state,
            Stage::Relay(_) => State::Relayed,
        }
    }

    /// Waits for the order to leave before login. Other orders are about the end of the process, which a dialogue learns from
    /// its phase.
    pub async fn kicked(&self) {
        std::future::poll_fn(|cx| match self.slot.poll_order(cx) {
            Poll::Ready(EndOrder::Kicked) => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await;
    }
}

/// The connections that there are.
#[derive(Default)]
pub struct Roll {
    entries: Mutex<Vec<Weak<Entry>>>,
    numbers: AtomicU64,
    /// Whose logins wait for a while.
    pub holds: Holds,
}

impl Roll {
    /// Writes a connection in. It is struck off by itself when it is gone.
    pub fn enter(&self, protocol: &'static str, listener: &ListenAt, origin: &Origin, clock: &Clock) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            protocol,
            listener: listener.clone(),
            born: Instant::now(),
            slot: clock.slot(Duration::MAX),
            stage: Mutex::new(Stage::Dialogue(Box::new(Caller {
                session: origin.session.as_str().into(),
                client: origin.client.0,
                via: origin.via(),
                user: Box::from(""),
                state: State::Talking,
            }))),
            settled: AtomicBool::new(false),
        });
        let mut entries = self.lock();
        if entries.len() == entries.capacity() {
            entries.retain(|entry| entry.strong_count() > 0);
            // Without headroom a roll that is nearly full would be swept at every accept.
            let room = entries.len();
            entries.reserve(room.max(64));
        }
        entries.push(Arc::downgrade(&entry));
        entry
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All connections, oldest first. A moment's picture: the roll is not kept locked while it is looked at.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        let entries = self.lock().clone();
        entries.iter().filter_map(Weak::upgrade).collect()
    }

    /// Tells all of them to end.
    pub fn end_all(&self, order: EndOrder) {
        for entry in self.all() {
            entry.slot.end(order);
        }
    }

    /// Ends the connections that match: how many. Those that have an order already are not counted.
    pub fn kick(&self, filter: &Filter) -> usize {
        let mut kicked = 0;
        for entry in self.all() {
            if entry.slot.order().is_none() && filter.admits(&View::of(&entry)) {
                entry.slot.end(EndOrder::Kicked);
                kicked += 1;
            }
        }
        kicked
    }
}

#[cfg(test)]
mod tests;
