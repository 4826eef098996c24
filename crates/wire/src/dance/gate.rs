//! What may be said at all, whatever the protocol.

use super::{SignIn, Stumble, StumbleKind};
use crate::login::Mechanism;
use crate::sasl::{PASSWORD_MAX, USER_MAX};

/// The gate in front of every dialect: a row of a database can put anything into a plan, and CR, LF or NUL would end a
/// line, a string or a SASL field somewhere on the way. Never quotes the value.
pub(super) fn speakable(sign_in: &SignIn) -> Result<(), Stumble> {
    let names = [("user", Some(&sign_in.user)), ("master user", sign_in.master.as_ref())];
    for (what, name) in names.into_iter().filter_map(|(what, name)| Some((what, name?))) {
        if !(1..=USER_MAX).contains(&name.len()) {
            return Err(Stumble::new(StumbleKind::Unspeakable, format!("the {what} is empty or longer than {USER_MAX} octets")));
        }
        if name.bytes().any(breaks_lines) {
            return Err(Stumble::new(StumbleKind::Unspeakable, format!("the {what} holds CR, LF or NUL")));
        }
    }
    let password = sign_in.password.expose();
    if password.len() > PASSWORD_MAX {
        return Err(Stumble::new(StumbleKind::Unspeakable, format!("the password is longer than {PASSWORD_MAX} octets")));
    }
    if password.iter().copied().any(breaks_lines) {
        return Err(Stumble::new(StumbleKind::Unspeakable, "the password holds CR, LF or NUL"));
    }
    if sign_in.master.is_some() && sign_in.mechanism == Some(Mechanism::Login) {
        return Err(Stumble::new(StumbleKind::Unspeakable, "SASL LOGIN cannot name a master user"));
    }
    Ok(())
}

fn breaks_lines(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n' | 0)
}
