//! The hours after a login: opaque bytes between a client and its backend.
//!
//! What is held here is held for as long as the session lasts, so it is little.

use super::guard::Entered;
use super::house::{House, Phase};
use super::record::{Moved, Record};
use super::roll::Entry;
use crate::backend::health::SessionHere;
use crate::protocol::{LoginWay, Protocol};
use bytes::BytesMut;
use relay::clock::EndOrder;
use relay::conn::Conn;
use relay::pump::{Early, Ended, EndedBy, Reason, pump};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use wire::login::Goodbye;

/// Time for the last words to a client that we leave.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// The same for a session that an administrator ends: both sides are closed within a second, whether the client reads or not.
pub const LAST_WORDS_KICKED: Duration = Duration::from_millis(400);

/// A backend that ends so soon behind a word of the client most likely answers it: a logout, not a death.
const JUST_NOW: Duration = Duration::from_secs(1);
/// What one read from a client that waits to be let go may bring.
const READ: usize = 4096;

/// What remains of a dialogue that went well.
pub struct SignedIn {
    /// The client.
    pub client: Conn,
    /// The backend.
    pub backend: Conn,
    /// What both have said already.
    pub early: Early,
    /// Counted among the backend's sessions until the end.
    pub here: SessionHere,
    /// For the journal.
    pub record: Arc<Record>,
    /// Its place on the roll.
    pub entry: Arc<Entry>,
    /// How long nothing may move.
    pub idle: Duration,
    /// The user's place among its sessions, until the end.
    pub entered: Option<Entered>,
    /// Its protocol's way.
    pub way: &'static LoginWay,
}

impl SignedIn {
    /// Moves bytes until one side ends it, says goodbye where that cannot break the stream, and writes the end down.
    ///
    /// A block, because the arguments of an `async fn` are kept beside the places that they are moved to, here for hours.
    pub fn relay(self, protocol: &'static Protocol, house: &House) -> impl Future<Output = ()> + Send {
        let SignedIn { mut client, mut backend, early, here, record, entry, idle, mut entered, way } = self;
        let mut position = (way.position)();
        async move {
            entry.relay(Arc::clone(&record), idle);
            let slot = Arc::clone(entry.slot());
            let on = house.metrics.session(protocol.name);
            let ended = pump(&mut client, &mut backend, early, slot, &mut position).await;
            entry.settle();
            on.moved(ended.to_backend, ended.to_client);
            // The end takes seconds, and would need more room than the hours before it.
            Box::pin(async {
                let answered = ended.client_quiet.is_some_and(|quiet| quiet <= JUST_NOW);
                if ended.side == EndedBy::Backend && !answered {
                    // Its clients will all come back: not in the same second.
                    let spread = house.live.load().meant.backend.disconnect_spread;
                    let wait = here.delay(spread, Instant::now());
                    if !wait.is_zero() {
                        // Its session is over: the user may begin another meanwhile.
                        entered = None;
                        let _ = timeout(LAST_WORDS, backend.shutdown()).await;
                        linger(&mut client, wait, house).await;
                    }
                }
                let patience = if ended.side == EndedBy::Us(EndOrder::Kicked) { LAST_WORDS_KICKED } else { LAST_WORDS };
                let left = answered && position.hides_logout() && matches!(ended.reason, Reason::Closed | Reason::Truncated);
                let mut whole = ended.side != EndedBy::Backend || ended.reason == Reason::Closed;
                if ended.client_writable && position.is_safe() {
                    let goodbye = match ended.side {
                        EndedBy::Client => None,
                        EndedBy::Backend if left => None,
                        EndedBy::Backend => Some(Goodbye::BackendLost),
                        EndedBy::Us(EndOrder::Idle) => Some(Goodbye::Idle),
                        EndedBy::Us(EndOrder::Kicked) => Some(Goodbye::Kicked),
                        EndedBy::Us(EndOrder::ShuttingDown) => Some(Goodbye::ShuttingDown),
                    };
                    if let Some(why) = goodbye {
                        let _ = timeout(patience, client.write_all((protocol.goodbye)(why))).await;
                        whole = true;
                    }
                }
                let _ = timeout(patience, async { tokio::join!(client.shutdown_as(whole), backend.shutdown()) }).await;
            })
            .await;
            journal_end(house, &record, &ended);
            on.ended(by(ended.side));
            drop((entered, here));
        }
    }
}

/// Keeps a client that has lost its backend, and reads away what it says, until the time is over, it leaves, or we do.
async fn linger(client: &mut Conn, wait: Duration, house: &House) {
    let mut phase = house.phase.clone();
    let reading = async {
        let mut away = BytesMut::new();
        while client.read(&mut away, READ).await.is_ok_and(|octets| octets > 0) {
            away.clear();
        }
    };
    tokio::select! {
        () = sleep(wait) => {}
        () = reading => {}
        () = Phase::Closing.reached(&mut phase) => {}
    }
}

fn journal_end(house: &House, record: &Record, ended: &Ended) {
    let moved = Moved { to_backend: ended.to_backend, to_client: ended.to_client, idle: ended.idle };
    record.end(&house.journal, by(ended.side), &ended.reason, &moved);
}

/// The word for who ended it.
fn by(side: EndedBy) -> &'static str {
    match side {
        EndedBy::Client => "client",
        EndedBy::Backend => "backend",
        EndedBy::Us(EndOrder::Idle) => "gatepost-idle",
        EndedBy::Us(EndOrder::Kicked) => "gatepost-kicked",
        EndedBy::Us(EndOrder::ShuttingDown) => "gatepost-shutting-down",
    }
}
