//! XCLIENT as Exim 4.97 to 4.99 has it when it is built with it, slips included: they are what a client has to live with.
//!
//! * ADDR and PORT must both have come before the first success, each in any command. What a refused command has said up to
//!   the fault is kept, so that the address may already be another one; and then the right to say XCLIENT, which is the
//!   address's, is gone.
//! * After the first success the right is not looked at again, and what a later command does not name stays.
//! * `IPV6:` is not known: it becomes a part of the address.
//! * The fourth syntax or protocol error ends the connection.

use super::submission::xtext;
use crate::peer::Conn;

/// What it believes.
#[derive(Debug, Default)]
pub(super) struct Exim {
    /// The address, once one was said; `[UNAVAILABLE]` makes it none.
    address: Option<Option<String>>,
    port: Option<u32>,
    name: Option<String>,
    login: Option<Option<String>>,
    /// The address is not the peer's own.
    moved: bool,
    /// What a first success waits for.
    had_address: bool,
    had_port: bool,
    /// A command has succeeded.
    believed: bool,
    errors: u32,
}

/// A refusal.
pub(super) struct No {
    pub reply: String,
    /// The connection ends with it.
    pub fatal: bool,
}

/// As many errors are forgiven.
const ERRORS: u32 = 3;

impl Exim {
    /// Whether EHLO lists it.
    pub(super) fn offers_xclient(&self) -> bool {
        self.believed || !self.moved
    }

    /// Whom LOGIN has signed in, or that it said that nobody is; `None` if it was not said.
    pub(super) fn login(&self) -> Option<Option<String>> {
        self.login.clone()
    }

    /// How the log names the client.
    pub(super) fn logged(&self, hello: &str, conn: &Conn) -> String {
        let peer = conn.peer_addr();
        let address = match &self.address {
            None => peer.ip().to_string(),
            Some(address) => address.clone().unwrap_or_default(),
        };
        let port = self.port.unwrap_or(u32::from(peer.port()));
        let name = self.name.as_ref().map_or(String::new(), |name| format!("{name} "));
        format!("H={name}({hello}) [{address}]:{port}")
    }

    /// One command.
    pub(super) fn xclient(&mut self, attributes: &str, greeted: bool, in_mail: bool, conn: &Conn) -> Result<(), No> {
        if !greeted {
            return Err(No { reply: "503 no HELO/EHLO given".to_owned(), fatal: false });
        }
        if !self.offers_xclient() {
            return Err(self.error("550", "XCLIENT command used when not advertised"));
        }
        if in_mail {
            return Err(No { reply: "503 mail transaction in progress".to_owned(), fatal: false });
        }
        match self.take(attributes, conn) {
            Ok(()) => {
                self.believed = true;
                Ok(())
            }
            Err(words) => Err(self.error("501", &words)),
        }
    }

    /// Left to right, and each takes effect at once.
    fn take(&mut self, attributes: &str, conn: &Conn) -> Result<(), String> {
        let mut words = attributes.split([' ', '\t']).filter(|word| !word.is_empty()).peekable();
        if words.peek().is_none() {
            return Err("XCLIENT must have at least one operand".to_owned());
        }
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                return Err(format!("XCLIENT: missing value for parameter '{word}'"));
            };
            let known = ["ADDR", "NAME", "PORT", "LOGIN", "DESTADDR", "DESTPORT"];
            let Some(known) = known.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                return Err(format!("XCLIENT: unrecognised parameter '{name}'"));
            };
            if value.is_empty() {
                return Err("XCLIENT: zero-length value for param".to_owned());
            }
            let nothing = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"].iter().any(|special| special.eq_ignore_ascii_case(value));
            let value = match (nothing, xtext(value)) {
                (true, _) => None,
                (false, Some(value)) => Some(value),
                (false, None) => return Err(format!("failed xtext decode for XCLIENT: '{value}'")),
            };
            match known {
                "ADDR" => {
                    self.had_address = self.address.as_ref().is_none_or(Option::is_some);
                    self.moved = value.as_deref() != Some(&conn.peer_addr().ip().to_string());
                    self.address = Some(value);
                }
                "PORT" => {
                    self.had_port = self.port.unwrap_or(u32::from(conn.peer_addr().port())) != 0;
                    // Like C's atoi: the digits at the beginning count, and without any it is 0.
                    let digits = |value: String| {
                        value.chars().map_while(|c| c.to_digit(10)).fold(0, |n: u32, d| n.wrapping_mul(10).wrapping_add(d))
                    };
                    self.port = Some(value.map_or(0, digits));
                }
                "NAME" => self.name = value,
                "LOGIN" => self.login = Some(value),
                _ => {}
            }
        }
        match (self.had_address, self.had_port) {
            (false, _) => Err("missing ADDR for XCLIENT".to_owned()),
            (_, false) => Err("missing PORT for XCLIENT".to_owned()),
            _ => Ok(()),
        }
    }

    fn error(&mut self, code: &str, words: &str) -> No {
        self.errors += 1;
        let fatal = self.errors > ERRORS;
        let reply = match fatal {
            true => format!("{code}-{words}\r\n{code} Too many syntax or protocol errors"),
            false => format!("{code} {words}"),
        };
        No { reply, fatal }
    }
}
