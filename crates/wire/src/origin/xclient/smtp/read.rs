//! The attributes behind the verb, as a peer says them: whole or nothing.

use super::{Attribute, Offered};
use crate::encode::escaped;
use crate::origin::spelling::{is_host_name, read_hops, read_number, read_port, read_transport};
use crate::origin::xclient::{READ_MAX, read_address, read_forward};
use crate::origin::xtext::{self, SPELLED_MAX, decoded, is_client_name, special};
use crate::origin::{MailProtocol, OriginUpdate, SessionId, Told};
use crate::sasl;
use std::fmt;
use std::time::Duration;

/// What a peer may say, and must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Its LOGIN is believed.
    pub may_vouch: bool,
    /// ADDR and PORT must be there, as in the first XCLIENT that Exim hears on a connection.
    pub as_exim: bool,
}

/// The reason that the peer may hear, and whether it is about form or about rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// There is no attribute at all.
    NoOperand,
    /// It names a user, and of this peer that is not believed. (550; all others are 501.)
    MayNotVouch,
    /// ADDR and PORT must come together, as Exim wants it.
    NeedsAddressAndPort,
    /// One attribute is wrong.
    Attribute {
        /// Which one, as it was said: printable ASCII, cut.
        name: String,
        /// What is wrong with it. Values are never quoted.
        why: &'static str,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoOperand => f.write_str("XCLIENT wants attribute=value"),
            Malformed::MayNotVouch => f.write_str("You may not say who has signed in"),
            Malformed::NeedsAddressAndPort => f.write_str("ADDR and PORT are needed"),
            Malformed::Attribute { name, why } => write!(f, "{why}: {name}"),
        }
    }
}

/// Nothing stands behind the verb. Postfix tells this even to those whom it would not listen to.
pub fn no_operand(attributes: &[u8]) -> bool {
    xtext::no_operand(attributes)
}

/// Reads the attributes behind the verb. What is `[UNAVAILABLE]` says nothing, but for names, HELO and LOGIN, where it is known
/// that there is none.
///
/// # Errors
/// [`Malformed`], and then nothing was said. Attributes are looked at from left to right; the first that is wrong is told.
pub fn read(attributes: &[u8], rules: Rules) -> Result<OriginUpdate, Malformed> {
    if no_operand(attributes) {
        return Err(Malformed::NoOperand);
    }
    if attributes.len() > READ_MAX {
        return Err(Malformed::Attribute { name: "XCLIENT".to_owned(), why: "line too long" });
    }
    let mut said = OriginUpdate::default();
    let mut seen = Offered::default();
    for word in xtext::attributes(attributes) {
        let wrong = |why| Malformed::Attribute { name: escaped(word.shown, 32), why };
        let attribute = Attribute::named(word.name).ok_or_else(|| wrong("unknown attribute"))?;
        let spelled = word.spelled.ok_or_else(|| wrong("attribute=value expected"))?;
        if seen.lists(attribute) {
            return Err(wrong("said twice"));
        }
        seen = seen.with(attribute);
        if spelled.len() > attribute.spelled_max() {
            return Err(wrong("value too long"));
        }
        // The right comes before the form, as everywhere; that nobody has signed in may be said without it.
        if attribute == Attribute::Login && !rules.may_vouch && special(spelled) != Some(Told::Unavailable) {
            return Err(Malformed::MayNotVouch);
        }
        let value = read_value(attribute, spelled).ok_or_else(|| wrong("malformed value"))?;
        take(&mut said, attribute, value).ok_or_else(|| wrong("malformed value"))?;
    }
    if rules.as_exim && !(seen.lists(Attribute::Addr) && seen.lists(Attribute::Port)) {
        return Err(Malformed::NeedsAddressAndPort);
    }
    Ok(said)
}

impl Attribute {
    /// `FORWARD` may fill the line, and a user's name is measured by what it is and not by how it is spelled: each octet of
    /// `LOGIN` may take three.
    fn spelled_max(self) -> usize {
        match self {
            Attribute::Forward => READ_MAX,
            Attribute::Login => sasl::USER_MAX * 3,
            _ => SPELLED_MAX,
        }
    }
}

/// One value, decoded and in the set of characters that its attribute may have; `None` for what may not be said.
fn read_value(attribute: Attribute, spelled: &[u8]) -> Option<Told> {
    match special(spelled) {
        // Nobody says so of PROTO: Postfix and Dovecot refuse it, and Dovecot's client always knows what was spoken.
        Some(Told::Unavailable) if attribute == Attribute::Proto => return None,
        // Of HELO and LOGIN Postfix would take it for a name, and the others refuse it.
        Some(Told::TemporarilyUnavailable) if !matches!(attribute, Attribute::Name | Attribute::ReverseName) => return None,
        Some(told) => return Some(told),
        None => {}
    }
    let octets = decoded(spelled)?;
    let text = if attribute == Attribute::Login {
        sasl::name(&octets).ok()?
    } else {
        std::str::from_utf8(&octets).ok().filter(|text| text.bytes().all(|octet| octet.is_ascii_graphic()))?
    };
    Some(Told::Known(text.into()))
}

/// Believes one value to be of its attribute's form, or not.
fn take(said: &mut OriginUpdate, attribute: Attribute, value: Told) -> Option<()> {
    /// What is not known is not said.
    fn known<T>(value: &Told, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        value.known().map_or(Some(None), |text| read(text).map(Some))
    }
    fn told(value: Told, fine: impl FnOnce(&str) -> bool) -> Option<Option<Told>> {
        value.known().is_none_or(fine).then_some(Some(value))
    }
    match attribute {
        Attribute::Name => said.host_name = told(value, is_client_name)?,
        Attribute::ReverseName => said.reverse_name = told(value, is_client_name)?,
        Attribute::Helo => said.helo = told(value, |_| true)?,
        Attribute::Login => said.user = told(value, |_| true)?,
        Attribute::Addr => said.client_ip = known(&value, read_address)?,
        Attribute::Port => said.client_port = known(&value, read_port)?,
        Attribute::DestAddr => said.reached_ip = known(&value, read_address)?,
        Attribute::DestPort => said.reached_port = known(&value, read_port)?,
        Attribute::DestName => said.reached_name = known(&value, |name| is_host_name(name).then(|| name.to_owned()))?,
        Attribute::Session => said.session = known(&value, SessionId::new)?,
        Attribute::Ttl => said.hops = known(&value, read_hops)?,
        Attribute::Timeout => said.patience = known(&value, read_patience)?,
        Attribute::Transport => said.transport = known(&value, |text| Some(read_transport(text)))?,
        Attribute::Proto => said.spoke = known(&value, read_protocol)?,
        Attribute::Forward => said.forward = known(&value, read_forward)?.unwrap_or_default(),
    }
    Some(())
}

fn read_patience(text: &str) -> Option<Duration> {
    read_number(text).filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
}

/// `LMTP` is Dovecot's: Postfix neither lists nor takes it. Who was reached by LMTP may ask us all the same.
fn read_protocol(text: &str) -> Option<MailProtocol> {
    [MailProtocol::Smtp, MailProtocol::Esmtp, MailProtocol::Lmtp]
        .into_iter()
        .find(|protocol| protocol.as_str().eq_ignore_ascii_case(text))
}
