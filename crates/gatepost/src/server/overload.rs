//! What stood in the way of accepting, told in sum: an operator must see why clients wait, and a flood must not fill the journal.

use crate::journal::Level;
use crate::login::house::House;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// What has been written down already.
#[derive(Default)]
pub(super) struct Overload {
    /// How much of each kind.
    told: [u64; 7],
    stressed: bool,
}

impl Overload {
    /// Writes down what is new since the last call: a line a kind.
    pub(super) fn tell(&mut self, house: &House) {
        let last = *house.last_stranger.lock().unwrap_or_else(PoisonError::into_inner);
        let strangers = match last {
            Some(last) => {
                format!("connections were closed: their peers (last {last}) are not in trust.proxy_protocol, where all must be")
            }
            None => String::new(),
        };
        let now = [
            (house.accepted.pauses.load(Ordering::Relaxed), "times accepting paused for want of descriptors or memory"),
            (
                house.accepted.turned_away.load(Ordering::Relaxed),
                "connections were closed at once for want of descriptors or memory",
            ),
            (house.guard.sent_away(), "connections were sent away: their network has too many (limits.connections_before_login)"),
            (house.strangers.load(Ordering::Relaxed), strangers.as_str()),
            (house.seats.refusals(), "times accepting waited because all connections were taken (limits.connections)"),
            (
                house.full_doors.load(Ordering::Relaxed),
                "connections were sent away: their listener has all that it may have (listen.connections)",
            ),
            (house.warnings.left_out(), "more limits were nearly reached (limit-near), too many for a line each"),
        ];
        for ((count, what), told) in now.into_iter().zip(&mut self.told) {
            if count > *told {
                house.journal.say(Level::Warning, "overload", &format_args!("{} {what}", count - *told));
                *told = count;
            }
        }
        let stressed = house.seats.stressed();
        if stressed != self.stressed {
            self.stressed = stressed;
            let text = if stressed {
                "strangers hold more than 80 % of all connections: they have 10 s and one mistake"
            } else {
                "strangers have their usual patience again"
            };
            house.journal.say(Level::Warning, "overload", &text);
        }
    }
}
