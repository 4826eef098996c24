//! The manners that the fronts of all protocols share: counting what a client may use up, overwriting what was read, carrying
//! SASL, and handing over credentials.
//!
//! What it promises: commands and bad commands are counted in one place, [`Counts`], for the life of a connection, and the count
//! of bad ones cannot be put back; of a broken line nothing is taken for a line of its own ([`Lines`]); octets given up by [`consume`] are
//! overwritten first; a SASL response that may not be said here is not looked at.
//!
//! What it leaves to the fronts: the words of every answer but a challenge, what a command is and which one was bad, and the
//! state behind each step.
//!
//! RFC 4422 section 3 (the exchange); RFC 3501 section 6.2.2 and RFC 5034 section 4 (how a challenge is spelled).

use crate::encode::{base64_encode, one_line};
use crate::line::{Found, LineScan};
use crate::login::LoginEvent;
use crate::machine::Fault;
use crate::sasl::{Credentials, Heard, Malformed, Server};
use crate::secret::Secret;
use bytes::{Buf, BufMut, BytesMut};
use std::fmt::Display;
use zeroize::Zeroize;

/// What was not taken for a line, in a word for who watches.
pub(crate) const BARE: &str = "a bare CR or LF";
/// What is wrong with XCLIENT of a peer that is not trusted, for the log.
pub(crate) const STRANGER: &str = "it says by XCLIENT who is calling, and is not in trust.networks";
/// What is wrong with a bare CR or LF, in words for the client.
pub(crate) const LINE_ENDS: &str = "Lines end in CRLF.";

/// How many commands a client has sent on a connection, and how many of them were bad; never fewer than before, TLS or not.
#[derive(Debug)]
pub(crate) struct Counts {
    most: Most,
    commands: usize,
    bad_commands: usize,
}

/// The caps of [`Counts`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// How many commands of any kind are answered; the next one ends the connection.
    pub(crate) commands: usize,
    /// How many bad commands a connection may send: the last of them ends it.
    pub(crate) bad_commands: usize,
}

impl Counts {
    /// Nothing counted yet.
    pub(crate) fn under(most: Most) -> Counts {
        Counts { most, commands: 0, bad_commands: 0 }
    }

    /// Counts a command.
    ///
    /// # Errors
    /// `too-many-commands`: it is one too many. Say so and close.
    pub(crate) fn command(&mut self) -> Result<(), Fault> {
        self.commands = self.commands.saturating_add(1);
        if self.commands > self.most.commands {
            return Err(Fault::limit("too-many-commands", format!("more than {} commands before login", self.most.commands)));
        }
        Ok(())
    }

    /// The commands so far have led to something: they count no more. Bad ones do.
    pub(crate) fn lead_to_mail(&mut self) {
        self.commands = 0;
    }

    /// Counts a bad command; as a command it has been counted already.
    ///
    /// # Errors
    /// `too-many-bad-commands`: it is the last one. Say so in place of what was wrong with it, and close.
    pub(crate) fn bad_command(&mut self) -> Result<(), Fault> {
        self.bad_commands = self.bad_commands.saturating_add(1);
        if self.bad_commands >= self.most.bad_commands {
            return Err(Fault::limit("too-many-bad-commands", format!("{} invalid commands", self.bad_commands)));
        }
        Ok(())
    }
}

/// Gives up octets that have been understood, or all there are if there are fewer. They may hold a password, so they are
/// overwritten first.
pub(crate) fn consume(length: usize, input: &mut BytesMut) {
    let length = length.min(input.len());
    if let Some(octets) = input.get_mut(..length) {
        octets.zeroize();
    }
    input.advance(length);
}

/// Takes lines out of an input, for protocols in which a command is a line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    scan: LineScan,
    /// A bare CR or LF was reported; the rest of the line means nothing.
    broken: bool,
}

/// What the input begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing whole.
    More,
    /// A line of so many octets, without CRLF.
    Line(usize),
    /// A bare CR or LF in a line that goes on.
    Bare,
    /// A line of more than so many octets.
    TooLong(usize),
}

impl Lines {
    /// Finds the next line, and drops without a word what is left of one that was reported as broken. `cap` is the longest line
    /// that may begin with what the input begins with.
    pub(crate) fn next(&mut self, input: &mut BytesMut, cap: impl Fn(&[u8]) -> usize) -> Next {
        loop {
            let cap = cap(input);
            match self.scan.find(input, cap) {
                Found::More => return Next::More,
                Found::TooLong => return Next::TooLong(cap),
                Found::Bare(_) if self.broken => {}
                Found::Bare(_) => {
                    self.broken = true;
                    return Next::Bare;
                }
                Found::Line(length) if self.broken => self.consume(length, input),
                Found::Line(length) => return Next::Line(length),
            }
        }
    }

    /// Gives up a line and its CRLF.
    pub(crate) fn consume(&mut self, length: usize, input: &mut BytesMut) {
        consume(length.saturating_add(2), input);
        *self = Lines::default();
    }
}

/// How the command that begins a SASL exchange is to be taken.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The mechanism is not served.
    Unknown,
    /// No password may be said here. Answer it, and report it as [`LoginEvent::InClear`].
    InClear {
        /// The password was said along with the command.
        exposed: bool,
    },
    /// What follows, as after any response.
    Heard(Result<Heard, Malformed>),
}

/// Begins a SASL exchange, with the client's initial response where it brought one along, decoded.
pub(crate) fn authenticate(mechanism: &str, initial: Option<Secret<Vec<u8>>>, password_allowed: bool) -> Begun {
    let Some(exchange) = Server::begin(mechanism) else { return Begun::Unknown };
    if !password_allowed {
        let exposed = initial.is_some_and(|said| !said.expose().is_empty()) && exchange.first_response_is_secret();
        return Begun::InClear { exposed };
    }
    Begun::Heard(match initial {
        Some(response) => exchange.hear(response),
        None => {
            let question = exchange.challenge();
            Ok(Heard::Challenge(exchange, question))
        }
    })
}

/// Asks for the next SASL response, as IMAP and POP3 spell it.
pub(crate) fn challenge(question: &[u8], out: &mut BytesMut) {
    out.put_slice(b"+ ");
    out.put_slice(base64_encode(question).expose());
    out.put_slice(b"\r\n");
}

/// The credentials as the program is to hear of them: a login, or one that nobody may look at.
pub(crate) fn asked(credentials: Credentials) -> LoginEvent {
    let mechanism = credentials.mechanism;
    match credentials.into_login() {
        Ok(login) => LoginEvent::Login(login),
        Err(refused) => LoginEvent::Unspeakable { user: refused.user, mechanism, why: refused.why },
    }
}

/// One line with its CRLF. The text must have no other: what comes from elsewhere passes [`shown`] first.
pub(crate) fn line(out: &mut BytesMut, text: impl Display) {
    out.put_slice(text.to_string().as_bytes());
    out.put_slice(b"\r\n");
}

/// Text that is fit for the end of a line, at most so many octets; what is said instead where nothing is left of it.
pub(crate) fn shown(text: &str, longest: usize, else_say: &str) -> String {
    let text = one_line(text, longest);
    if text.is_empty() { else_say.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Mechanism;

    fn secret(octets: &[u8]) -> Secret<Vec<u8>> {
        Secret::new(octets.to_vec())
    }

    fn rules(said: impl IntoIterator<Item = Result<(), Fault>>) -> Vec<&'static str> {
        said.into_iter().map(|said| said.map_or_else(|fault| fault.rule, |()| "")).collect()
    }

    #[test]
    fn the_next_command_and_the_last_bad_one_are_too_many() {
        let mut counts = Counts::under(Most { commands: 3, bad_commands: 2 });
        assert_eq!(rules((0..5).map(|_| counts.command())), ["", "", "", "too-many-commands", "too-many-commands"]);
        assert_eq!(rules((0..3).map(|_| counts.bad_command())), ["", "too-many-bad-commands", "too-many-bad-commands"]);
        let mut none = Counts::under(Most { commands: 0, bad_commands: 0 });
        assert_eq!(rules([none.command(), none.bad_command()]), ["too-many-commands", "too-many-bad-commands"]);
        let mut full = Counts { commands: usize::MAX, ..Counts::under(Most { commands: 3, bad_commands: 2 }) };
        assert_eq!(rules([full.command()]), ["too-many-commands"], "the count does not begin anew");
    }

    #[test]
    fn no_more_is_consumed_than_there_is() {
        let mut input = BytesMut::from(&b"PASS secret\r\nNOOP\r\n"[..]);
        consume(13, &mut input);
        assert_eq!(input, b"NOOP\r\n"[..]);
        consume(usize::MAX, &mut input);
        assert!(input.is_empty());
    }

    #[test]
    fn of_a_broken_line_nothing_is_a_line() {
        let mut lines = Lines::default();
        let mut input = BytesMut::from(&b"NO\nOP\rQUIT\r\nSTAT\r\nlonger\r\n"[..]);
        let cap = |start: &[u8]| if start.starts_with(b"l") { 5 } else { 100 };
        assert_eq!(lines.next(&mut input, cap), Next::Bare);
        assert_eq!(lines.next(&mut input, cap), Next::Line(4), "told once");
        lines.consume(4, &mut input);
        assert_eq!(lines.next(&mut input, cap), Next::TooLong(5));
        assert_eq!(Lines::default().next(&mut BytesMut::from(&b"NOOP\r"[..]), cap), Next::More);
    }

    #[test]
    fn a_response_that_may_not_be_said_is_not_looked_at() {
        for (mechanism, initial, exposed) in [
            ("PLAIN", Some(&b"\0joe\0pw"[..]), true),
            ("plain", Some(b"no such form"), true),
            ("PLAIN", Some(b""), false),
            ("PLAIN", None, false),
            ("LOGIN", Some(b"joe"), false),
            ("LOGIN", None, false),
        ] {
            match authenticate(mechanism, initial.map(secret), false) {
                Begun::InClear { exposed: said } => assert_eq!(said, exposed, "{mechanism} {initial:?}"),
                other => panic!("{mechanism} {initial:?}: {other:?}"),
            }
        }
        for allowed in [true, false] {
            assert!(matches!(authenticate("EXTERNAL", Some(secret(b"")), allowed), Begun::Unknown));
        }
    }

    #[test]
    fn an_exchange_begins_with_a_question_or_with_what_was_said() {
        for (mechanism, asked) in [("PLAIN", &b"+ \r\n"[..]), ("LOGIN", b"+ VXNlcm5hbWU6\r\n")] {
            let Begun::Heard(Ok(Heard::Challenge(_, question))) = authenticate(mechanism, None, true) else {
                panic!("{mechanism} asks first");
            };
            let mut out = BytesMut::new();
            challenge(question, &mut out);
            assert_eq!(out, asked, "{mechanism}");
        }
        let said = authenticate("PLAIN", Some(secret(b"\0joe\0pw")), true);
        assert!(matches!(said, Begun::Heard(Ok(Heard::Done(said))) if said.user == b"joe"));
        assert!(matches!(authenticate("PLAIN", Some(secret(b"joe")), true), Begun::Heard(Err(_))));
    }

    #[test]
    fn nobody_looks_at_credentials_that_cannot_be_true() {
        let said = |user: &[u8]| {
            let (user, password) = (user.to_vec(), secret(b"pw"));
            asked(Credentials { authzid: Vec::new(), user, password, mechanism: Mechanism::Login })
        };
        assert!(matches!(said(b"joe"), LoginEvent::Login(login) if login.user == "joe" && login.mechanism == Mechanism::Login));
        match said(b"j\noe") {
            LoginEvent::Unspeakable { user, mechanism: Mechanism::Login, .. } => assert_eq!(user, "j\\x0aoe"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn text_from_elsewhere_is_one_line_and_no_code() {
        assert_eq!(shown("[ALERT] pay\r\n* OK", 512, "No."), "ALERT] pay??* OK");
        assert_eq!(shown("\r\n[", 512, "No."), "No.");
        assert_eq!(shown(&"x".repeat(1000), 400, "No.").len(), 400);
    }
}
