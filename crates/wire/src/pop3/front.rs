//! The POP3 server side before login: a machine over bytes (RFC 1939 section 4, RFC 2449).
//!
//! It serves CAPA, STLS (RFC 2595), USER and PASS, AUTH with PLAIN and LOGIN (RFC 5034), NOOP, QUIT, and XCLIENT with XOIP as
//! Dovecot speaks them. Everything else, APOP included, is `-ERR`.
//!
//! What it promises:
//!
//! * *Caps in every state.* A line that is not whole stays in `input`, never more than [`Caps::held_at_most`] octets of it.
//!   Commands and broken commands are counted per connection, across STLS; the answers to one input are bounded by the
//!   number of commands.
//! * *Nothing is read too far.* After a login is reported, or STLS accepted, the input is not touched again: what a client
//!   pipelines behind PASS is its mail server's.
//! * *Nothing is reflected.* No word of a client is ever repeated. A connection that begins as HTTP, as a TLS handshake or
//!   with a PROXY header is dropped without a word ([`stranger`]).
//! * *A password that may not be said here is not looked at.* It is answered, and not reported.
//! * *Identity counts as a whole or not at all.* One malformed attribute of XCLIENT, and nothing of that line is reported.
//! * *Consumed octets are overwritten* in `input` before they are given up. A driver that reserves [`Caps::held_at_most`]
//!   octets and one read up front never makes the buffer grow, which would leave copies behind. What is still unread when
//!   the conversation ends is the driver's to overwrite.
//!
//! What it leaves to others: deciding about logins, counting failed ones, deadlines, TLS itself, and whether identity said
//! before TLS counts behind it.
//!
//! Choices where the standards are silent: a bare CR or LF makes the command around it bad at once, and everything up to
//! the next CRLF belongs to it. USER stays said until a login is reported, whatever stands between it and PASS. A client
//! that cancels AUTH with `*` hears `-ERR`, but has done nothing bad. Where no password may be said, AUTH alone lists
//! nothing.

use super::answer;
use super::command::{Command, Malformed};
use super::shown;
use super::{Caps, goodbye_line};
use crate::encode::base64_decode;
use crate::login::{self, Goodbye, Helo, LoginEvent, Mechanism, Refusal, Terms, Unbelieved, Welcome};
use crate::machine::{Fault, Step};
use crate::manners::{BARE, Begun, Counts, LINE_ENDS, Lines, Most, Next, STRANGER, asked, authenticate, challenge, line};
use crate::origin::xclient;
use crate::overheard::{Line, Notes, Shown};
use crate::sasl::{self, Credentials, Heard, Server};
use crate::secret::{Password, Secret};
use crate::stranger;
use bytes::BytesMut;

/// The server side of one connection before login.
#[derive(Debug)]
pub struct Front {
    terms: Terms,
    caps: Caps,
    state: State,
    lines: Lines,
    /// Nothing has been read yet on this stream: it may be a stranger's.
    fresh: bool,
    counts: Counts,
    user: Option<Secret<Vec<u8>>>,
    unbelieved: Option<Unbelieved>,
    notes: Notes,
}

#[derive(Debug)]
enum State {
    AwaitCommand,
    AwaitResponse(Server),
    AwaitVerdict,
    AwaitTls,
    Over,
}

/// What to do after one command or response.
enum Flow {
    Next,
    More,
    Tell(LoginEvent),
}

impl Front {
    /// The front of a connection that has just been accepted (or has just finished implicit TLS).
    pub fn new(terms: Terms, caps: Caps) -> Front {
        Front {
            terms,
            caps,
            state: State::AwaitCommand,
            lines: Lines::default(),
            fresh: true,
            counts: Counts::under(Most { commands: caps.commands, bad_commands: caps.bad_commands }),
            user: None,
            unbelieved: None,
            notes: Notes::default(),
        }
    }
}

impl login::Front for Front {
    fn greet(&mut self, out: &mut BytesMut) {
        answer::greeting(&self.terms, out);
    }

    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<LoginEvent>, Fault> {
        loop {
            let (state, flow) = match std::mem::replace(&mut self.state, State::Over) {
                State::AwaitCommand => self.read_command(input, out)?,
                State::AwaitResponse(exchange) => self.read_response(exchange, input, out)?,
                state @ (State::AwaitVerdict | State::AwaitTls | State::Over) => {
                    self.state = state;
                    return Err(Fault::misuse("step-out-of-turn", format!("stepped in state {}", login::Front::state(self))));
                }
            };
            self.state = state;
            match flow {
                Flow::Next => {}
                Flow::More => return Ok(Step::NeedInput),
                Flow::Tell(event) => return Ok(Step::Event(event)),
            }
        }
    }

    fn secured(&mut self, terms: Terms) {
        self.terms = terms;
        self.state = State::AwaitCommand;
        self.lines = Lines::default();
        self.fresh = true;
        self.user = None;
    }

    /// Nothing is kept of it here, and XCLIENT may be said again at any time.
    fn forget_identity(&mut self) {}

    fn welcome(&mut self, welcome: &Welcome, out: &mut BytesMut) {
        if let State::AwaitVerdict = std::mem::replace(&mut self.state, State::Over) {
            answer::welcome(welcome, out);
        }
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        if let State::AwaitVerdict = self.state {
            self.state = State::AwaitCommand;
            answer::refusal(refusal, out);
        }
    }

    /// POP3 has no word for that: any line would be the answer.
    fn still_here(&mut self, _out: &mut BytesMut) {}

    fn goodbye(&mut self, why: Goodbye, out: &mut BytesMut) {
        self.state = State::Over;
        out.extend_from_slice(goodbye_line(why));
    }

    /// Clients have no command for it.
    fn client_id(&self) -> &[(Vec<u8>, Option<Vec<u8>>)] {
        &[]
    }

    fn unbelieved(&mut self) -> Option<Unbelieved> {
        self.unbelieved.take()
    }

    fn helo(&self) -> Option<Helo> {
        None
    }

    fn overhear(&mut self, on: bool) {
        self.notes.keep(on);
    }

    fn overheard(&mut self, out: &[u8]) -> Vec<Line> {
        self.notes.merged(out, false)
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::AwaitCommand if self.user.is_some() => "await-pass",
            State::AwaitCommand => "await-command",
            State::AwaitResponse(_) => "await-sasl-response",
            State::AwaitVerdict => "await-verdict",
            State::AwaitTls => "await-tls",
            State::Over => "over",
        }
    }
}

/// Reading: from octets to meanings.
impl Front {
    fn read_command(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        if self.fresh {
            if !stranger::looked_at(input, "http-on-pop3")? {
                return Ok((State::AwaitCommand, Flow::More));
            }
            self.fresh = false;
        }
        match self.lines.next(input, |start| self.caps.of(start, self.terms.trusted)) {
            Next::More => return Ok((State::AwaitCommand, Flow::More)),
            Next::TooLong(cap) => {
                self.notes.heard(out.len(), || shown::withheld(input, "too long"));
                return Err(line_too_long(cap, out));
            }
            Next::Bare => {
                self.notes.heard(out.len(), || shown::withheld(input, BARE));
                self.count_command(out)?;
                self.bad(LINE_ENDS, out)?;
            }
            Next::Line(length) => {
                let said = input.get(..length).unwrap_or_default();
                let command = Command::read(said);
                self.notes.heard(out.len(), || shown::read(said, &command));
                self.lines.consume(length, input);
                self.count_command(out)?;
                match command {
                    Ok(command) => return self.obey(command, out),
                    Err(Malformed(why)) => self.bad(why, out)?,
                }
            }
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn read_response(&mut self, exchange: Server, input: &mut BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let length = match self.lines.next(input, |_| self.caps.sasl) {
            Next::More => return Ok((State::AwaitResponse(exchange), Flow::More)),
            Next::TooLong(cap) => return Err(line_too_long(cap, out)),
            Next::Bare => {
                self.notes.heard(out.len(), || shown::withheld(input, BARE));
                self.bad(LINE_ENDS, out)?;
                return Ok((State::AwaitCommand, Flow::Next));
            }
            Next::Line(length) => length,
        };
        let said = input.get(..length).unwrap_or_default();
        let cancelled = said == b"*";
        let response = base64_decode(said);
        self.notes.heard(out.len(), || Shown::sasl_response(cancelled, response.is_some()));
        self.lines.consume(length, input);
        match response {
            Some(response) => return self.hear(exchange.hear(response), out),
            None if cancelled => line(out, "-ERR Authentication cancelled."),
            None => self.bad("Invalid base64 data.", out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }
}

/// Meaning: from commands to answers and events.
impl Front {
    fn obey(&mut self, command: Command, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match command {
            Command::Capa => answer::capability(&self.terms, out),
            Command::Mechanisms => answer::mechanisms(&self.terms, out),
            Command::Noop => line(out, "+OK"),
            Command::Quit => {
                line(out, "+OK Logging out.");
                return Ok((State::Over, Flow::Tell(LoginEvent::Bye)));
            }
            Command::Stls if self.terms.starttls => {
                line(out, "+OK Begin TLS negotiation now.");
                return Ok((State::AwaitTls, Flow::Tell(LoginEvent::Secure)));
            }
            Command::Stls => self.bad("STLS is not available on this connection.", out)?,
            Command::Xclient(attributes) => return self.identify(&attributes, out),
            Command::User(_) if !self.terms.password_allowed => return Ok(privacy_required(false, out)),
            Command::Pass(_) if !self.terms.password_allowed => return Ok(privacy_required(true, out)),
            Command::User(name) => {
                self.user = Some(name);
                line(out, "+OK");
            }
            Command::Pass(password) => match self.user.take() {
                Some(user) => return Ok(self.judge(by_command(&user, password))),
                None => self.bad("No user name was given.", out)?,
            },
            Command::Auth { mechanism, initial } => match authenticate(&mechanism, initial, self.terms.password_allowed) {
                Begun::Unknown => line(out, "-ERR Unsupported authentication mechanism."),
                Begun::InClear { exposed } => return Ok(privacy_required(exposed, out)),
                Begun::Heard(heard) => return self.hear(heard, out),
            },
            Command::Other => self.bad("Unknown command, or one that needs a login first.", out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn hear(&mut self, heard: Result<Heard, sasl::Malformed>, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match heard {
            Ok(Heard::Challenge(exchange, question)) => {
                challenge(question, out);
                Ok((State::AwaitResponse(exchange), Flow::Next))
            }
            Ok(Heard::Done(credentials)) => Ok(self.judge(credentials)),
            Err(sasl::Malformed(why)) => {
                self.bad(why, out)?;
                Ok((State::AwaitCommand, Flow::Next))
            }
        }
    }

    /// Hands the credentials to whoever decides.
    fn judge(&mut self, credentials: Credentials) -> (State, Flow) {
        self.user = None;
        (State::AwaitVerdict, Flow::Tell(asked(credentials)))
    }

    /// XCLIENT: a stranger hears that nobody listens, for older proxies give up a login at `-ERR`.
    fn identify(&mut self, attributes: &[u8], out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let mut flow = Flow::Next;
        if !self.terms.trusted {
            self.unbelieved = Some(Unbelieved { trusted: false, why: STRANGER.to_owned() });
            line(out, "+OK You are not from trusted IP - ignoring");
            return Ok((State::AwaitCommand, flow));
        }
        match xclient::read_plain(attributes) {
            Ok(said) => {
                line(out, "+OK Updated");
                if !said.is_empty() {
                    flow = Flow::Tell(LoginEvent::Said(Box::new(said)));
                }
            }
            Err(fault) => {
                self.unbelieved = Some(Unbelieved { trusted: true, why: fault.detail });
                self.bad("Invalid parameters", out)?;
            }
        }
        Ok((State::AwaitCommand, flow))
    }

    fn bad(&mut self, why: &str, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.bad_command().inspect_err(|_| line(out, "-ERR Too many invalid commands."))?;
        line(out, format_args!("-ERR {why}"));
        Ok(())
    }

    fn count_command(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.command().inspect_err(|_| line(out, "-ERR Too many commands without a login."))
    }
}

fn line_too_long(cap: usize, out: &mut BytesMut) -> Fault {
    line(out, "-ERR Command line is too long.");
    Fault::limit("line-too-long", format!("line of more than {cap} octets"))
}

fn privacy_required(exposed: bool, out: &mut BytesMut) -> (State, Flow) {
    answer::refusal(&Refusal::PrivacyRequired, out);
    (State::AwaitCommand, Flow::Tell(LoginEvent::InClear { exposed }))
}

fn by_command(user: &Secret<Vec<u8>>, password: Password) -> Credentials {
    Credentials { authzid: Vec::new(), user: user.expose().clone(), password, mechanism: Mechanism::Command }
}

#[cfg(test)]
mod tests;
