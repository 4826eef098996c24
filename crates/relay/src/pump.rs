//! The relay proper: opaque bytes between a client and a backend, for hours.
//!
//! One future owns both connections. It waits for readiness, borrows the thread's buffer, moves bytes and gives the buffer
//! back before it waits again. While nothing moves it owns no buffer, no timer and no task of its own; a chunk costs no
//! allocation unless the receiver is slower than the sender. What the receiver did not take is kept in its exact size (at
//! most one buffer's worth), and that sender is not read again before it is gone: memory is bounded by one buffer per
//! direction whatever either side does.
//!
//! Ends: a side's FIN (close_notify) is passed on in its direction when everything before it has been delivered, and the
//! other direction goes on: after the client's end until nothing has moved for [`LINGER`], after the backend's for at
//! most two seconds. An end without close_notify is passed on without one, so it cannot be laundered into a proper one. A
//! reset ends the session once what had been read before is delivered. After the backend's end the caller may want to
//! have the last word to the client (a BYE): then [`pump`] returns at once and leaves the client open.
//!
//! Left to the caller: closing both connections, the log line, the BYE. To come without a change of the interface: `splice`
//! for directions that are clear on both sides.

mod flow;

use crate::clock::{EndOrder, Slot};
use crate::conn::Conn;
use crate::socket::Socket;
use bytes::BytesMut;
use flow::{Flow, Phase, Tail};
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::io::Interest;

/// After the client's end, or after one side was lost: the session ends when nothing has moved for so long.
pub const LINGER: Duration = Duration::from_secs(30);
/// After the backend's end has been passed on. The clock is coarse: this is between one and two seconds.
const BACKEND_GONE: Duration = Duration::from_secs(1);

/// Sees what goes to the client, in order, once; for knowing where in the protocol the client stands.
pub trait Watch: Send {
    /// Called with bytes on their way to the client. They may be cut anywhere.
    fn saw(&mut self, to_client: &[u8]);

    /// Asked when the backend has ended and all it said is delivered: true makes [`pump`] return at once with the client
    /// still open, so that the caller may add a goodbye; false passes the end on to the client.
    fn last_word(&self) -> bool {
        true
    }
}

/// Watches nothing, and passes every end on.
impl Watch for () {
    fn saw(&mut self, _: &[u8]) {}

    fn last_word(&self) -> bool {
        false
    }
}

/// What the dialogue has read and not used: it goes ahead of everything else.
#[derive(Debug, Default)]
pub struct Early {
    /// From the client.
    pub to_backend: BytesMut,
    /// From the backend.
    pub to_client: BytesMut,
}

/// Who ended the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// The client's end came first.
    Client,
    /// The backend's end came first.
    Backend,
    /// An order of ours.
    Us(EndOrder),
}

/// How the side that ended first did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It closed its direction properly.
    Closed,
    /// TCP was closed without TLS's close_notify: what it said last may have been cut off.
    Truncated,
    /// It reset the connection.
    Reset,
    /// It no longer answers: keep-alive or unacknowledged data timed out.
    TimedOut,
    /// It broke the rules of TLS.
    Tls(String),
    /// Another error of the network.
    Network(String),
    /// Not a side's doing.
    Ordered(EndOrder),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Closed => f.write_str("closed"),
            Reason::Truncated => f.write_str("closed without TLS close_notify"),
            Reason::Reset => f.write_str("connection reset"),
            Reason::TimedOut => f.write_str("no answer any more (timed out)"),
            Reason::Tls(what) => write!(f, "TLS error: {what}"),
            Reason::Network(what) => write!(f, "network error: {what}"),
            Reason::Ordered(order) => f.write_str(order.as_str()),
        }
    }
}

/// How a relayed session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Who ended it.
    pub side: EndedBy,
    /// How.
    pub reason: Reason,
    /// Octets of the client handed on to the backend: taken by the kernel or, under TLS, encrypted for sending.
    pub to_backend: u64,
    /// Octets of the backend handed on to the client, likewise.
    pub to_client: u64,
    /// How long the client had been quiet, to the second; `None` where it said nothing since the relay began. After a second or
    /// two the backend's end was most likely its answer to the client (a logout).
    pub client_quiet: Option<Duration>,
    /// How long nothing had moved in either direction, to the second.
    pub idle: Duration,
    /// Whether the caller may still write to the client: it stands where the backend left it, nothing is half sent, and we
    /// have not ended our direction.
    pub client_writable: bool,
}

/// Relays until both directions have ended, or one side is lost, or `slot` has an order.
///
/// Bytes in either direction touch the slot's clock. The future must be polled on the runtime of both sockets; dropping it
/// ends the relay where it stands.
pub fn pump<'a, W: Watch>(
    client: &'a mut Conn,
    backend: &'a mut Conn,
    early: Early,
    slot: Arc<Slot>,
    watch: &'a mut W,
) -> impl Future<Output = Ended> + Send + use<'a, W> {
    if !early.to_client.is_empty() {
        watch.saw(&early.to_client);
    }
    let mut relay = Relay {
        up: Flow::new(&early.to_backend),
        down: Flow::new(&early.to_client),
        client,
        backend,
        client_lost: false,
        backend_lost: false,
        first: None,
        client_spoke: (!early.to_backend.is_empty()).then(|| slot.now()),
        slot,
        registered: None,
    };
    // The dialogue's buffers are larger than what is left in them.
    drop(early);
    // A block: the arguments of an `async fn` are kept beside the places that they are moved to, for hours.
    async move {
        loop {
            let busy = relay.step(watch);
            if relay.up.phase == Phase::Done && relay.down.phase == Phase::Done {
                return relay.ended(None);
            }
            if let Some(order) = relay.slot.order() {
                return relay.ended(Some(order));
            }
            if busy {
                tokio::task::yield_now().await;
            } else {
                relay.wait().await;
            }
        }
    }
}

struct Relay<'a> {
    client: &'a mut Conn,
    backend: &'a mut Conn,
    /// From the client to the backend.
    up: Flow,
    /// From the backend to the client.
    down: Flow,
    /// The side can take nothing more.
    client_lost: bool,
    backend_lost: bool,
    /// Whose end came first, and how.
    first: Option<(EndedBy, Reason)>,
    /// When the client said something last, by the slot's clock.
    client_spoke: Option<u32>,
    slot: Arc<Slot>,
    /// The waker the slot knows: asking again only when it changes saves a lock per wait.
    registered: Option<Waker>,
}

impl Relay<'_> {
    /// Moves what can be moved now. True if there is more to do at once.
    fn step<W: Watch>(&mut self, watch: &mut W) -> bool {
        let up = self.up.turn(self.client, self.backend, &mut ());
        if up.moved {
            self.client_spoke = Some(self.slot.now());
        }
        // Once the backend has said its last, a client that keeps talking does not prolong the session.
        if up.moved && !self.down.is_ending() {
            self.slot.touch();
        }
        if let Some((tail, reason)) = up.source_ended {
            self.side_ended(EndedBy::Client, tail, reason);
        }
        if let Some(reason) = up.sink_failed {
            self.lost(EndedBy::Backend, reason);
        }

        let down = self.down.turn(self.backend, self.client, watch);
        if down.moved {
            self.slot.touch();
        }
        if let Some((tail, reason)) = down.source_ended {
            self.side_ended(EndedBy::Backend, tail, reason);
        }
        if let Some(reason) = down.sink_failed {
            self.lost(EndedBy::Client, reason);
        }
        if up.moved || down.moved {
            self.slot.count(self.up.moved, self.down.moved);
        }
        if down.left_open {
            // The caller's goodbye is all that is still to come.
            self.up.abandon();
        }
        if down.passed_on {
            self.slot.shorten(BACKEND_GONE);
        }
        up.busy || down.busy
    }

    fn side_ended(&mut self, side: EndedBy, tail: Tail, reason: Reason) {
        if tail == Tail::Lost {
            return self.lost(side, reason);
        }
        self.first.get_or_insert((side, reason));
        if side == EndedBy::Client {
            self.slot.shorten(LINGER);
        }
    }

    /// A side can take nothing more. What it said before may still be waiting in the kernel and is read to its end.
    fn lost(&mut self, side: EndedBy, reason: Reason) {
        self.first.get_or_insert((side, reason));
        if side == EndedBy::Client {
            self.client_lost = true;
            self.down.abandon();
            self.up.source_lost = true;
        } else {
            self.backend_lost = true;
            self.up.abandon();
            self.down.source_lost = true;
        }
        self.slot.shorten(LINGER);
    }

    /// Waits until a step can move something, a side is lost, or there is an order.
    async fn wait(&mut self) {
        let client_read = self.up.wants_source() && !self.backend.owes();
        let backend_read = self.down.wants_source() && !self.client.owes();
        let client_write = self.down.phase != Phase::Done && (!self.down.rest.is_empty() || self.client.owes());
        let backend_write = self.up.phase != Phase::Done && (!self.up.rest.is_empty() || self.backend.owes());
        let client_wants = interest(client_read, client_write, self.client_lost);
        let backend_wants = interest(backend_read, backend_write, self.backend_lost);

        self.woken(client_wants, backend_wants).await;

        // Where something is read, the read finds the error, after the bytes before it. Where nothing is (its receiver is
        // slow, or it has ended), nobody else would.
        if !client_read
            && !self.client_lost
            && let Some(e) = self.client.pending_error()
        {
            self.lost(EndedBy::Client, reason_of(&e));
        }
        if !backend_read
            && !self.backend_lost
            && let Some(e) = self.backend.pending_error()
        {
            self.lost(EndedBy::Backend, reason_of(&e));
        }
    }

    async fn woken(&mut self, client_wants: Option<Interest>, backend_wants: Option<Interest>) {
        let Relay { client, backend, slot, registered, .. } = self;
        let mut client_ready = pin!(ready(&client.socket, client_wants));
        let mut backend_ready = pin!(ready(&backend.socket, backend_wants));
        poll_fn(|cx| {
            let known = registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            let ordered = if known {
                slot.order().is_some()
            } else {
                *registered = Some(cx.waker().clone());
                slot.poll_order(cx).is_ready()
            };
            let client = client_ready.as_mut().poll(cx).is_ready();
            let backend = backend_ready.as_mut().poll(cx).is_ready();
            if ordered || client || backend { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }

    fn ended(self, order: Option<EndOrder>) -> Ended {
        let client_writable = !self.client_lost && !self.down.passed_on && self.down.rest.is_empty() && !self.client.owes();
        let (side, reason) = match (order, self.first) {
            // The clock only set a term to what a side had begun.
            (None | Some(EndOrder::Idle), Some(first)) => first,
            (Some(order), _) => (EndedBy::Us(order), Reason::Ordered(order)),
            // Both directions end only after one side did; the arm exists because the compiler cannot know.
            (None, None) => (EndedBy::Backend, Reason::Closed),
        };
        let quiet = self.client_spoke.map(|then| self.slot.now().saturating_sub(then));
        let client_quiet = quiet.map(|seconds| Duration::from_secs(seconds.into()));
        let (to_backend, to_client, idle) = (self.up.moved, self.down.moved, self.slot.idle());
        Ended { side, reason, to_backend, to_client, client_quiet, idle, client_writable }
    }
}

/// What to wait for on a socket. An error makes it readable too, so it is asked for only where nothing is read.
fn interest(read: bool, write: bool, lost: bool) -> Option<Interest> {
    let wanted = [(read, Interest::READABLE), (write && !lost, Interest::WRITABLE), (!read && !lost, Interest::ERROR)];
    wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, interest)| interest).reduce(Interest::add)
}

async fn ready(socket: &Socket, interest: Option<Interest>) {
    if let Some(interest) = interest
        && socket.ready(interest).await.is_ok()
    {
        return;
    }
    // Nothing to wait for; or the runtime is being taken down, which alone fails here, and will drop us.
    pending().await
}

fn reason_of(e: &io::Error) -> Reason {
    match e.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => Reason::Reset,
        io::ErrorKind::NotConnected => Reason::Reset,
        io::ErrorKind::TimedOut => Reason::TimedOut,
        io::ErrorKind::InvalidData => Reason::Tls(e.to_string()),
        _ => Reason::Network(e.to_string()),
    }
}
