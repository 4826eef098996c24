//! One direction of a relay: what is under way in it, and how far its end has come.
//!
//! A turn is synchronous: it moves what can be moved now, at most [`BURST`] octets, and reports what happened. What that
//! means for the other direction and for the session is decided in [`super`].

use super::{Reason, Watch, reason_of};
use crate::buffers;
use crate::conn::{Conn, Taken};
use bytes::{Buf, Bytes};
use std::io;

/// Octets moved in one direction before other sessions have their turn.
const BURST: usize = 256 * 1024;

/// One direction.
pub(super) struct Flow {
    /// What the receiver has not taken yet.
    pub(super) rest: Bytes,
    pub(super) moved: u64,
    pub(super) phase: Phase,
    /// Its source was found to be lost; an end read from it is no proper one.
    pub(super) source_lost: bool,
    /// The end has been passed on, or has begun to be: nothing more can be said in this direction.
    pub(super) passed_on: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The source has ended; what was read before is still to be delivered.
    Draining(Tail),
    /// Everything is delivered; the end itself is being passed on.
    Finishing(Tail),
    Done,
}

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Clean,
    Truncated,
    /// By an error: nobody is there any more to take the other direction.
    Lost,
}

/// What one synchronous turn of a direction came to.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) moved: bool,
    /// Stopped for fairness, not for want of bytes or room.
    pub(super) busy: bool,
    pub(super) source_ended: Option<(Tail, Reason)>,
    pub(super) sink_failed: Option<Reason>,
    /// The end was passed on in this turn.
    pub(super) passed_on: bool,
    /// Everything is delivered and the receiver is left open for the caller.
    pub(super) left_open: bool,
}

impl Flow {
    pub(super) fn new(early: &[u8]) -> Flow {
        Flow { rest: exact(early), moved: 0, phase: Phase::Open, source_lost: false, passed_on: false }
    }

    /// Moves at most [`BURST`] octets, then whatever end follows them.
    pub(super) fn turn<W: Watch>(&mut self, from: &mut Conn, to: &mut Conn, watch: &mut W) -> Turn {
        let mut turn = Turn::default();
        let mut budget = BURST;
        while self.phase != Phase::Done {
            match self.deliver(to, &mut turn) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    turn.sink_failed = Some(reason_of(&e));
                    break;
                }
            }
            match self.phase {
                Phase::Open if budget == 0 => {
                    turn.busy = true;
                    break;
                }
                Phase::Open => {
                    let taken = buffers::with(|buffer| self.carry(from, to, buffer, watch, &mut turn));
                    match taken {
                        Ok(Taken::Bytes(0)) => budget = budget.saturating_sub(buffers::SIZE),
                        Ok(Taken::Bytes(n)) => budget = budget.saturating_sub(n),
                        Ok(Taken::Blocked) => break,
                        Ok(Taken::End) => self.source_end(Tail::Clean, Reason::Closed, &mut turn),
                        Ok(Taken::Truncated) => self.source_end(Tail::Truncated, Reason::Truncated, &mut turn),
                        Err(e) => self.source_end(Tail::Lost, reason_of(&e), &mut turn),
                    }
                    if turn.sink_failed.is_some() {
                        break;
                    }
                }
                Phase::Draining(Tail::Lost) => self.phase = Phase::Done,
                Phase::Draining(_) if watch.last_word() => {
                    turn.left_open = true;
                    self.phase = Phase::Done;
                }
                Phase::Draining(tail) => {
                    self.passed_on = true;
                    self.phase = Phase::Finishing(tail);
                }
                Phase::Finishing(tail) => match to.try_finish(tail == Tail::Clean) {
                    Ok(true) => {
                        turn.passed_on = true;
                        self.phase = Phase::Done;
                    }
                    Ok(false) => break,
                    Err(e) => {
                        turn.sink_failed = Some(reason_of(&e));
                        break;
                    }
                },
                Phase::Done => break,
            }
        }
        turn
    }

    /// Sends what was left over before; true when nothing is left.
    fn deliver(&mut self, to: &mut Conn, turn: &mut Turn) -> io::Result<bool> {
        if !self.rest.is_empty() {
            let given = to.try_give(&self.rest)?;
            self.rest.advance(given);
            self.count(given, turn);
            if !self.rest.is_empty() {
                return Ok(false);
            }
            // Gives the memory back; an emptied `Bytes` still holds it.
            self.rest = Bytes::new();
        }
        to.try_flush()
    }

    /// One buffer's worth from source to sink.
    fn carry<W: Watch>(
        &mut self,
        from: &mut Conn,
        to: &mut Conn,
        buffer: &mut [u8],
        watch: &mut W,
        turn: &mut Turn,
    ) -> io::Result<Taken> {
        let taken = from.try_take(buffer)?;
        if let Taken::Bytes(n) = taken {
            let bytes = buffer.get(..n).unwrap_or_default();
            if !bytes.is_empty() {
                watch.saw(bytes);
            }
            match to.try_give(bytes) {
                Ok(given) => {
                    self.count(given, turn);
                    self.rest = exact(bytes.get(given..).unwrap_or_default());
                }
                Err(e) => turn.sink_failed = Some(reason_of(&e)),
            }
        }
        Ok(taken)
    }

    fn source_end(&mut self, tail: Tail, reason: Reason, turn: &mut Turn) {
        let tail = if self.source_lost { Tail::Lost } else { tail };
        self.phase = Phase::Draining(tail);
        turn.source_ended = Some((tail, reason));
    }

    fn count(&mut self, given: usize, turn: &mut Turn) {
        self.moved = self.moved.saturating_add(given as u64);
        turn.moved |= given > 0;
    }

    pub(super) fn wants_source(&self) -> bool {
        self.phase == Phase::Open && self.rest.is_empty()
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Finishing(_) | Phase::Done)
    }

    pub(super) fn abandon(&mut self) {
        self.rest = Bytes::new();
        self.phase = Phase::Done;
    }
}

/// A copy of its exact size; nothing for nothing.
fn exact(bytes: &[u8]) -> Bytes {
    if bytes.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(bytes) }
}
