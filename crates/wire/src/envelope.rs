//! The envelope of a mail: from whom, to whom, and what its senders ask of each server on the way.
//!
//! What stands here was read and checked for form by `smtp::message`, and is written by the same folder for the next server. Words
//! that belong to other ends of the way (`ENVID`, `ORCPT`) are kept as they are spelled, in xtext: nobody in the middle has to
//! understand them.
//!
//! RFC 5321 (MAIL, RCPT), RFC 1870 (SIZE), RFC 6152 (BODY), RFC 3461 (RET, ENVID, NOTIFY, ORCPT), RFC 6531 (SMTPUTF8).

use crate::address::Mailbox;
use crate::encode::one_line;
use crate::origin::ForwardField;
use crate::origin::xforward;
use std::fmt;

/// How the octets of a letter are to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `7BIT`: the sender says that there is no octet above 127.
    SevenBit,
    /// `8BITMIME`.
    EightBit,
}

/// How much of the letter a report on its delivery shows (`RET`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// `FULL`.
    Full,
    /// `HDRS`.
    Headers,
}

/// What `MAIL` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Where reports go; `None` for `<>`, which gets none.
    pub from: Option<Mailbox>,
    /// `SIZE`.
    pub size: Option<u64>,
    /// `BODY`.
    pub body: Option<BodyKind>,
    /// `SMTPUTF8`.
    pub smtputf8: bool,
    /// `RET`.
    pub ret: Option<Ret>,
    /// `ENVID`, in xtext.
    pub envid: Option<Box<str>>,
    /// What the peer has said by XFORWARD for this mail; believed by whoever has a proof of its right.
    pub forwarded: xforward::Said,
}

impl Mail {
    /// The path as it is spelled, without brackets.
    pub fn path(&self) -> String {
        self.from.as_ref().map(Mailbox::to_string).unwrap_or_default()
    }
}

/// What `RCPT` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// To whom.
    pub to: Mailbox,
    /// `NOTIFY`: the words, each once, apart by commas.
    pub notify: Option<Box<str>>,
    /// `ORCPT`: type, semicolon, xtext.
    pub orcpt: Option<Box<str>>,
    /// `XRCPTFORWARD` of a trusted peer: pairs that Dovecot's databases see as `forward_NAME`.
    pub forward: Vec<ForwardField>,
}

/// What becomes of a recipient or of a whole mail, as its sender hears it: our words, or those of the server that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    code: u16,
    enhanced: (u8, u16, u16),
    text: String,
}

impl Verdict {
    /// The longest text, in octets: with codes before it a line stays below 512 (RFC 5321 section 4.5.3.1.5).
    pub const TEXT_MAX: usize = 400;

    /// A verdict in words of ours: 2xx, 4xx or 5xx with the enhanced code of the same class. What no server may say there becomes
    /// `451`.
    pub fn new(code: u16, enhanced: (u16, u16), text: impl AsRef<str>) -> Verdict {
        let code = if matches!(code, 200..=299 | 400..=599) { code } else { 451 };
        let class = u8::try_from(code / 100).unwrap_or(4);
        Verdict { code, enhanced: (class, enhanced.0, enhanced.1), text: one_line(text.as_ref(), Verdict::TEXT_MAX) }
    }

    /// The reply code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The mail, or the recipient, is taken.
    pub fn is_yes(&self) -> bool {
        self.code < 400
    }

    /// It will never be.
    pub fn is_final_no(&self) -> bool {
        self.code >= 500
    }

    /// The words behind the codes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A no that would be final as one that may be tried again (`soft_bounce`).
    #[must_use]
    pub fn softened(self) -> Verdict {
        match self.code {
            500.. => Verdict { code: self.code - 100, enhanced: (4, self.enhanced.1, self.enhanced.2), ..self },
            _ => self,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, subject, detail) = self.enhanced;
        write!(f, "{} {class}.{subject}.{detail}", self.code)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_line_with_codes_of_one_class() {
        for (code, text, expected) in [
            (250, "Saved", "250 2.1.5 Saved"),
            (452, "quota\r\n250 x", "452 4.1.5 quota??250 x"),
            (550, "", "550 5.1.5"),
            (354, "go on", "451 4.1.5 go on"),
            (999, "x", "451 4.1.5 x"),
        ] {
            assert_eq!(Verdict::new(code, (1, 5), text).to_string(), expected);
        }
        assert!(Verdict::new(550, (1, 1), "x".repeat(9999)).to_string().len() < 500);
    }

    #[test]
    fn only_what_is_final_is_softened() {
        for (code, expected) in [(250, "250 2.1.1 x"), (451, "451 4.1.1 x"), (552, "452 4.1.1 x")] {
            assert_eq!(Verdict::new(code, (1, 1), "x").softened().to_string(), expected);
        }
    }
}
