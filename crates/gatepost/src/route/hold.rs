//! `delay_until`: a login that is right, and is answered later.
//!
//! The field is a Unix time, with `+N` behind it N random seconds are added (0 to N-1) so that held clients do not come
//! back all at once. Moving a user is one update that sets the new `host` and a `delay_until` a minute ahead, and a kick:
//! whoever signs in meanwhile waits, and lands on the new server. After the wait the databases are asked again, so what
//! they say *then* is what counts.
//!
//! A login waits 300 seconds in all. Whatever asks for more is answered with "try later", and never as a wrong password
//! (Dovecot fails the authentication).

use super::row::Row;
use crate::failure::Failure;
use std::time::Duration;

/// The longest a login waits in all.
pub const LONGEST: Duration = Duration::from_secs(300);

/// What `delay_until` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Unix time.
    until: u64,
    /// `+N`.
    spread: u64,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Go on.
    Over,
    /// Wait so long, then ask the databases again.
    For(Duration),
    /// More than [`LONGEST`].
    TooLong,
}

impl Hold {
    pub(super) fn read(row: &Row<'_>) -> Result<Option<Hold>, Failure> {
        let Some(text) = row.answer.fields.get("delay_until") else { return Ok(None) };
        let (until, spread) = text.split_once('+').unwrap_or((text, "0"));
        let number = |text: &str| -> Option<u64> { text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())? };
        match (number(until), number(spread)) {
            (Some(until), Some(spread)) => Ok(Some(Hold { until, spread })),
            _ => Err(row.bad("delay_until", format_args!("{text:?} is no Unix time in seconds, with or without +N behind it"))),
        }
    }

    /// What is to be done `waited` after the login came, `now` after the epoch. `random` picks one of the `+N` seconds; it
    /// counts only for the first wait, or a hold that is over would never end.
    pub fn waiting(self, now: Duration, waited: Duration, random: u64) -> Waiting {
        let until = Duration::from_secs(self.until);
        if until <= now && !waited.is_zero() {
            return Waiting::Over;
        }
        if until.saturating_sub(now) + waited > LONGEST {
            return Waiting::TooLong;
        }
        let extra = if waited.is_zero() { random.checked_rem(self.spread).unwrap_or(0) } else { 0 };
        let extra = Duration::from_secs(extra);
        let wait = (until + extra).saturating_sub(now).min(LONGEST.saturating_sub(waited));
        if wait.is_zero() { Waiting::Over } else { Waiting::For(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_000_000_500);

    fn waiting(until: u64, spread: u64, waited: u64, random: u64) -> Waiting {
        Hold { until, spread }.waiting(NOW, Duration::from_secs(waited), random)
    }

    fn millis(n: u64) -> Waiting {
        Waiting::For(Duration::from_millis(n))
    }

    #[test]
    fn a_login_waits_until_then_and_at_most_300_seconds_in_all() {
        assert_eq!(waiting(999_999, 0, 0, 7), Waiting::Over, "the past");
        assert_eq!(waiting(0, 0, 0, 7), Waiting::Over);
        assert_eq!(waiting(1_000_010, 0, 0, 7), millis(9_500));
        assert_eq!(waiting(1_000_300, 0, 0, 7), millis(299_500), "300 s ahead is the last that is held");
        assert_eq!(waiting(1_000_301, 0, 0, 7), Waiting::TooLong);
        assert_eq!(waiting(u64::MAX, 0, 0, 7), Waiting::TooLong);
        assert_eq!(waiting(1_000_010, 0, 291, 7), Waiting::TooLong, "pushed on again and again");
        assert_eq!(waiting(1_000_010, 0, 290, 7), millis(9_500));
    }

    #[test]
    fn the_random_part_is_added_once_and_stays_under_the_limit() {
        assert_eq!(waiting(1_000_010, 5, 0, 13), millis(9_500 + 3_000));
        assert_eq!(waiting(999_999, 5, 0, 4), millis(2_500), "the moment is past, its spread is not");
        assert_eq!(waiting(999_999, 5, 3, 4), Waiting::Over, "it has waited already");
        assert_eq!(waiting(1_000_001, 5, 3, 4), millis(500), "and a clock a little behind does not add it again");
        assert_eq!(waiting(1_000_300, 1000, 0, 999), millis(300_000));
        assert_eq!(waiting(1_000_010, 1, 0, u64::MAX), millis(9_500), "+1 adds nothing");
    }
}
