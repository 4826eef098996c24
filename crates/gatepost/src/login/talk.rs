//! What a connection of either way is while somebody talks to it: whose it is, its place on the roll, what the journal says of it.

use super::arrival::Arrival;
use super::guard::Knock;
use super::house::{Door, House, Live};
use super::record::{Moved, Record};
use super::relayed::{LAST_WORDS, LAST_WORDS_KICKED};
use super::roll::Entry;
use super::seen;
use crate::chance;
use crate::journal::Level;
use crate::protocol::Settings;
use crate::witness::{Ear, Known};
use bytes::BytesMut;
use relay::clock::Clock;
use relay::conn::Conn;
use relay::{Socket, TlsFacts};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wire::login::Terms;
use wire::origin::{Origin, SessionId};

/// Why a client that has not signed in is sent away by `gatepost kick`.
pub(crate) const KICKED: &str = "by an administrator";
/// What one read from a client may bring during the dialogue.
pub(crate) const READ: usize = 4096;
/// The time for signing in, and the bad commands allowed, while strangers hold most of the seats.
pub(super) const STRESSED: (Duration, u32) = (Duration::from_secs(10), 1);

/// The state of a dialogue.
pub(crate) struct Talk<'a> {
    /// Taken out only while TLS is being set up; gone when that failed.
    pub(crate) conn: Option<Conn>,
    /// The place among the connections of one network that have not signed in.
    pub(crate) knock: Option<Knock>,
    pub(crate) door: &'a Door,
    pub(crate) house: &'a House,
    pub(crate) live: &'a Live,
    /// Whose connection it is.
    pub(crate) who: Arrival,
    pub(crate) record: Record,
    /// Its place on the roll.
    pub(crate) entry: Arc<Entry>,
    /// TLS that ends here.
    pub(crate) tls: Option<TlsFacts>,
    pub(super) stressed: bool,
    /// It was written down that words about the caller do not count: of a trusted peer.
    pub(crate) noted_trusted: bool,
    /// The same of a stranger.
    pub(crate) noted_stranger: bool,
}

impl<'a> Talk<'a> {
    /// A connection that has just been accepted, and how long its dialogue may take. `None`: it is gone already.
    pub(crate) fn begin(
        socket: Socket,
        door: &'a Door,
        house: &'a House,
        live: &'a Live,
        clock: &Clock,
        knock: Knock,
    ) -> Option<(Talk<'a>, Duration)> {
        // A client that is gone before we look is not worth a line: floods would fill the log.
        let Ok(conn) = socket.tune().and_then(|()| Conn::clear(socket)) else {
            house.metrics.left(door.protocol.name, "lost");
            return None;
        };
        let origin = Origin::at_accept(conn.peer_addr(), conn.local_addr(), SessionId::from_random(chance::octets()));
        let stressed = house.seats.stressed();
        let login_timeout = (door.protocol.settings)(&live.meant).login_timeout.unwrap_or(live.meant.limits.login_timeout);
        let patience = if stressed { login_timeout.min(STRESSED.0) } else { login_timeout };
        let mut talk = Talk {
            record: Record::new(door.protocol.name, &origin),
            entry: house.roll.enter(door.protocol.name, &door.address, &origin, clock),
            who: Arrival::new(origin),
            conn: Some(conn),
            knock: Some(knock),
            door,
            house,
            live,
            tls: None,
            stressed,
            noted_trusted: false,
            noted_stranger: false,
        };
        if house.tracers.any() {
            talk.record.tap = Some(talk.tap(false));
        }
        Some((talk, patience))
    }

    /// Strangers held most of the seats when it came.
    pub(crate) fn stressed(&self) -> bool {
        self.stressed
    }

    /// It has ended before it came to anything.
    pub(crate) fn count_end(&self) {
        self.house.metrics.left(self.door.protocol.name, self.record.left.unwrap_or("lost"));
    }

    /// Who is calling is known anew: for the journal and the roll.
    pub(crate) fn told(&mut self) {
        self.record.tell(&self.who.origin);
        self.entry.tell(&self.who.origin);
        if let Some(tap) = &self.record.tap {
            tap.learn(&Known::Client(self.who.origin.client.0, self.who.origin.session.as_str()));
            tap.hear(seen::caller(&self.who.origin));
        }
    }

    /// What this connection may be offered.
    pub(crate) fn terms(&self, settings: &Settings) -> Terms {
        self.who.terms(self.door, self.live, settings, || self.house.learnt.common(self.door.protocol))
    }

    /// Sends what the front said, and forgets it: it may answer a password.
    pub(crate) async fn send(&mut self, out: &mut BytesMut, deadline: Instant, state: &str) -> Option<()> {
        if out.is_empty() {
            return Some(());
        }
        let sent = match self.conn.as_mut() {
            Some(conn) => timeout_at(deadline, conn.write_all(out)).await,
            None => return None,
        };
        out.clear();
        match sent {
            Ok(Ok(())) => Some(()),
            Ok(Err(e)) => {
                self.record.left(&self.house.journal, Level::Debug, "lost", &format_args!("{e}, state {state}"));
                None
            }
            Err(_) => {
                let text = format_args!("the client does not read, state {state}");
                self.record.left(&self.house.journal, Level::Info, "login-timeout", &text);
                None
            }
        }
    }

    /// Ends without a word what a kick found in the middle of something, and writes it down if that was not done.
    pub(crate) fn part(&mut self) {
        if !self.record.user.is_empty() {
            // Every login has its end.
            self.record.end(&self.house.journal, "gatepost-kicked", &"before the client heard that it is in", &Moved::default());
        } else if self.record.left.is_none() {
            self.record.left(&self.house.journal, Level::Info, "kicked", &KICKED);
        }
    }

    /// Sends the last words and closes.
    pub(crate) async fn last_words(&mut self, words: &[u8]) {
        if let Some(mut conn) = self.conn.take() {
            if !words.is_empty() {
                let _ = timeout(LAST_WORDS, conn.write_all(words)).await;
            }
            let _ = timeout(LAST_WORDS, conn.shutdown()).await;
        }
    }
}

/// Whatever is waited for, a kick is no longer awaited than this: a pause, a client that does not read its last words.
pub(crate) async fn kicked_in_vain(entry: &Entry) {
    entry.kicked().await;
    sleep(LAST_WORDS_KICKED * 2).await;
}
