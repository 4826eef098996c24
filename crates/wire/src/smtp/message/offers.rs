//! What a server takes that mails are handed to, as it answered LHLO or EHLO.

use crate::origin::xforward;

/// What it announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// `PIPELINING` (RFC 2920).
    pub pipelining: bool,
    /// `CHUNKING` (RFC 3030).
    pub chunking: bool,
    /// `SIZE` (RFC 1870); the most octets, where it told that.
    pub size: Option<Option<u64>>,
    /// `8BITMIME` (RFC 6152).
    pub eight_bit: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `DSN` (RFC 3461).
    pub dsn: bool,
    /// `XRCPTFORWARD`, which is Dovecot's.
    pub xrcptforward: bool,
    /// `XCLIENT` with `SESSION`: Dovecot's kind.
    dovecot: bool,
    /// What may be said by `XFORWARD`.
    pub xforward: xforward::Offered,
}

impl Offers {
    /// From the words of its answer, as [`crate::smtp::capability`] makes them.
    pub fn read(words: &str) -> Offers {
        let mut offers = Offers::default();
        let mut forward = Vec::new();
        for word in words.split_ascii_whitespace() {
            let (keyword, parameter) =
                word.split_once('=').map_or((word, None), |(keyword, parameter)| (keyword, Some(parameter)));
            match (keyword.to_ascii_uppercase().as_str(), parameter) {
                ("PIPELINING", _) => offers.pipelining = true,
                ("CHUNKING", _) => offers.chunking = true,
                // 0 is no limit.
                ("SIZE", size) => offers.size = Some(size.and_then(|size| size.parse().ok()).filter(|size| *size > 0)),
                ("8BITMIME", _) => offers.eight_bit = true,
                ("SMTPUTF8", _) => offers.smtputf8 = true,
                ("DSN", _) => offers.dsn = true,
                ("XRCPTFORWARD", _) => offers.xrcptforward = true,
                ("XCLIENT", Some(attribute)) => offers.dovecot |= attribute.eq_ignore_ascii_case("SESSION"),
                ("XFORWARD", Some(attribute)) => forward.push(attribute),
                _ => {}
            }
        }
        offers.xforward = xforward::Offered::read(&forward.join(" "));
        offers
    }

    /// Takes away all that could tell it of a client. What it takes of mail stays.
    pub fn hear_of_nobody(&mut self) {
        self.dovecot |= self.xrcptforward;
        self.xrcptforward = false;
        self.xforward = xforward::Offered::default();
    }

    /// `ORCPT` can be said: Dovecot takes it without announcing DSN.
    pub fn takes_orcpt(&self) -> bool {
        self.dsn || self.xrcptforward || self.dovecot
    }

    /// A letter of so many octets is too large for it.
    pub fn too_large(&self, octets: u64) -> bool {
        matches!(self.size, Some(Some(most)) if octets > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_servers_are_understood() {
        let dovecot = Offers::read("8BITMIME CHUNKING ENHANCEDSTATUSCODES PIPELINING XCLIENT=ADDR XCLIENT=SESSION XRCPTFORWARD");
        assert!(dovecot.chunking && dovecot.pipelining && dovecot.eight_bit && dovecot.xrcptforward && dovecot.takes_orcpt());
        assert!(!dovecot.dsn && !dovecot.smtputf8 && dovecot.size.is_none() && dovecot.xforward.is_empty());
        let postfix = Offers::read("PIPELINING SIZE=10240000 DSN SMTPUTF8 XFORWARD=NAME XFORWARD=ADDR");
        assert!(postfix.too_large(10_240_001) && !postfix.too_large(10_240_000) && !postfix.xforward.is_empty());
        let mut told_nothing = dovecot.clone();
        told_nothing.hear_of_nobody();
        assert!(!told_nothing.xrcptforward && told_nothing.takes_orcpt() && told_nothing.chunking);
        let mut told_nothing = postfix.clone();
        told_nothing.hear_of_nobody();
        assert!(told_nothing.xforward.is_empty() && told_nothing.dsn);
        for unlimited in ["SIZE", "SIZE=0", "SIZE=x"] {
            assert_eq!(Offers::read(unlimited).size, Some(None));
        }
        assert!(Offers::read("XCLIENT=ADDR XCLIENT=session").takes_orcpt() && !Offers::read("XCLIENT=ADDR").takes_orcpt());
    }
}
