//! Letters on their way in: behind DATA, in chunks, or unwanted.

use super::{Arriving, BareNewline, Event, Flow, Front, PIECE_MAX, State, Taking, Verdict, line, too_large, xforward};
use crate::machine::Fault;
use bytes::BytesMut;

impl Front {
    pub(super) fn read_letter(
        &mut self,
        arriving: Arriving,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(State, Flow), Fault> {
        let mut piece = BytesMut::new();
        match arriving {
            Arriving::Data(mut taking) => {
                let ended = taking.take(input, PIECE_MAX, &mut piece);
                if !ended {
                    let idle = input.is_empty() && piece.is_empty();
                    let flow = self.piece(piece, taking.has_bare());
                    let flow = if idle { Flow::More } else { flow };
                    return Ok((State::Reading(Arriving::Data(taking)), flow));
                }
                let flow = self.piece(piece, taking.has_bare());
                Ok((State::Arrived { taking, last: true }, flow))
            }
            Arriving::Chunk { mut taking, left, last } => {
                let before = input.len();
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_MAX);
                taking.take(input, most, &mut piece);
                let left = left.saturating_sub(u64::try_from(before - input.len()).unwrap_or(u64::MAX));
                if left > 0 {
                    let idle = input.is_empty() && piece.is_empty();
                    let flow = self.piece(piece, taking.has_bare());
                    let flow = if idle { Flow::More } else { flow };
                    return Ok((State::Reading(Arriving::Chunk { taking, left, last }), flow));
                }
                if last {
                    taking.end(&mut piece);
                }
                let flow = self.piece(piece, taking.has_bare());
                Ok((State::Arrived { taking, last }, flow))
            }
            Arriving::Unwanted { left, answer } => {
                let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                drop(input.split_to(skipped));
                let left = left.saturating_sub(u64::try_from(skipped).unwrap_or(u64::MAX));
                if left > 0 {
                    return Ok((State::Reading(Arriving::Unwanted { left, answer }), Flow::More));
                }
                line(out, answer);
                Ok((State::AwaitCommand, Flow::Next))
            }
        }
    }

    /// Counts a piece and reports it, unless the letter has failed.
    fn piece(&mut self, piece: BytesMut, bare: bool) -> Flow {
        let Some(mail) = &mut self.mail else { return Flow::Next };
        mail.octets = mail.octets.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if mail.octets > self.caps.size {
            mail.failed.get_or_insert_with(|| too_large(self.caps.size));
        }
        if bare && self.caps.bare_newline == BareNewline::Reject {
            mail.failed
                .get_or_insert_with(|| Verdict::new(550, (6, 11), "Lines of a letter end in CRLF; a CR or LF stands alone."));
        }
        if piece.is_empty() || mail.failed.is_some() { Flow::Next } else { Flow::Tell(Event::Piece(piece.freeze())) }
    }

    /// All octets of the letter, or of a chunk, were reported. What became of the last of them counts, too.
    pub(super) fn arrived(&mut self, taking: Taking, last: bool, out: &mut BytesMut) -> (State, Flow) {
        let Some(mail) = &mut self.mail else { return (State::AwaitCommand, Flow::Next) };
        let Some(verdict) = mail.failed.clone() else {
            if last {
                return (State::AwaitDelivery, Flow::Tell(Event::End));
            }
            mail.chunks = Some(taking);
            line(out, "250 2.0.0 Chunk received.");
            return (State::AwaitCommand, Flow::Next);
        };
        // Behind a chunk that is not the last one there is one answer, and the mail is over with it.
        for _ in 0..if last { mail.taken } else { 1 } {
            line(out, self.heard(verdict.clone()));
        }
        if last {
            self.counts.lead_to_mail();
        }
        self.mail = None;
        self.forwarded = xforward::Said::default();
        let ends = taking.has_bare() && self.caps.bare_newline == BareNewline::Reject;
        if ends {
            line(out, "421 4.7.0 Goodbye.");
        }
        (State::Refusing { verdict, ends }, Flow::Next)
    }
}
