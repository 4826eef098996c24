//! The ManageSieve server side before login: a machine over bytes (RFC 5804 sections 1 and 2).
//!
//! It serves CAPABILITY, STARTTLS, AUTHENTICATE with PLAIN and LOGIN, NOOP, LOGOUT, and XCLIENT as Pigeonhole speaks it.
//! Everything else is `NO`, whether it is a command that needs a login or no command at all.
//!
//! What it promises:
//!
//! * *Caps in every state.* [`Border`] finds the ends of commands under [`Caps`]; an incomplete command stays in `input`,
//!   never more than [`Caps::held_at_most`] octets of it. Commands and broken commands are counted per connection, across
//!   STARTTLS; the answers to one input are bounded by the number of commands.
//! * *Nothing is read too far.* After a login is reported, or STARTTLS accepted, the input is not touched again: what a client
//!   pipelines behind AUTHENTICATE is its mail server's.
//! * *Behind TLS the capabilities come unasked* (RFC 5804 section 2.2): the first step says them, and needs no input for that.
//! * *Nothing is reflected* but a harmless tag of NOOP, by which clients find their place. A connection that begins as HTTP, as a
//!   TLS handshake or with a PROXY header is dropped without a word ([`stranger`]).
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
//! the next CRLF belongs to it. What goes over a cap ends the connection, because nobody waits before a literal. A client that
//! cancels AUTHENTICATE with `*` hears NO, but has done nothing bad. An initial response to LOGIN is the name.

use super::answer::{self, challenge};
use super::border::{Border, Excess, Found};
use super::command::{Command, Response};
use super::shown;
use super::text::Malformed;
use super::{Caps, goodbye_line};
use crate::login::{self, Goodbye, Helo, LoginEvent, Refusal, Terms, Unbelieved, Welcome};
use crate::machine::{Fault, Step};
use crate::manners::{BARE, Begun, Counts, LINE_ENDS, Most, STRANGER, asked, authenticate, consume};
use crate::origin::xclient;
use crate::overheard::{Line, Notes, Shown};
use crate::sasl::{self, Credentials, Heard, Server};
use crate::secret::Secret;
use crate::stranger;
use bytes::BytesMut;

/// The server side of one connection before login.
#[derive(Debug)]
pub struct Front {
    terms: Terms,
    caps: Caps,
    state: State,
    border: Border,
    /// Nothing has been read yet on this stream: it may be a stranger's.
    fresh: bool,
    /// TLS has begun, and the capabilities have not been told since.
    greets_anew: bool,
    counts: Counts,
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
            border: Border::default(),
            fresh: true,
            greets_anew: false,
            counts: Counts::under(Most { commands: caps.commands, bad_commands: caps.bad_commands }),
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
        if std::mem::take(&mut self.greets_anew) {
            answer::capability(&self.terms, "TLS negotiation successful.", out);
        }
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
        self.border = Border::default();
        self.fresh = true;
        self.greets_anew = true;
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

    /// ManageSieve has no word for that: any line would be the answer, or a challenge.
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
            State::AwaitCommand | State::AwaitResponse(_) if self.border.is_in_literal() => "await-literal",
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
            if !stranger::looked_at(input, "http-on-managesieve")? {
                return Ok((State::AwaitCommand, Flow::More));
            }
            self.fresh = false;
        }
        let longest = self.caps.of(input, self.terms.trusted);
        match self.border.command(input, longest, &self.caps) {
            Found::More => return Ok((State::AwaitCommand, Flow::More)),
            Found::Whole(length) => {
                let whole = input.get(..length).unwrap_or_default();
                let command = Command::read(whole);
                self.notes.heard(out.len(), || shown::read(whole, &command));
                self.consume(length, input);
                self.count_command(out)?;
                match command {
                    Ok(command) => return self.obey(command, out),
                    Err(Malformed(why)) => self.bad(why, out)?,
                }
            }
            Found::Bare => {
                self.notes.heard(out.len(), || shown::withheld(input, BARE));
                self.count_command(out)?;
                self.bad(LINE_ENDS, out)?;
            }
            Found::Skip(length) => self.consume(length, input),
            Found::Unstoppable(excess) => {
                self.notes.heard(out.len(), || shown::withheld(input, "not taken"));
                return Err(self.too_much(excess, longest, out));
            }
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn read_response(&mut self, exchange: Server, input: &mut BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let longest = self.caps.of(b"", false);
        let length = match self.border.command(input, longest, &self.caps) {
            Found::Whole(length) => length,
            Found::More => return Ok((State::AwaitResponse(exchange), Flow::More)),
            Found::Skip(length) => {
                self.consume(length, input);
                return Ok((State::AwaitResponse(exchange), Flow::Next));
            }
            Found::Bare => {
                self.notes.heard(out.len(), || shown::withheld(input, BARE));
                self.bad(LINE_ENDS, out)?;
                return Ok((State::AwaitCommand, Flow::Next));
            }
            Found::Unstoppable(excess) => return Err(self.too_much(excess, longest, out)),
        };
        let response = Response::read(input.get(..length).unwrap_or_default());
        let cancelled = matches!(response, Ok(Response::Cancelled));
        self.notes.heard(out.len(), || Shown::sasl_response(cancelled, response.is_ok()));
        self.consume(length, input);
        match response {
            Ok(Response::Said(response)) => return self.hear(exchange.hear(response), out),
            Ok(Response::Cancelled) => no("Authentication cancelled.", out),
            Err(Malformed(why)) => self.bad(why, out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn consume(&mut self, length: usize, input: &mut BytesMut) {
        consume(length, input);
        self.border = Border::default();
    }

    /// Says why the conversation ends.
    fn too_much(&self, excess: Excess, longest: usize, out: &mut BytesMut) -> Fault {
        let Caps { quoted, literal, .. } = self.caps;
        let (text, fault) = match excess {
            Excess::Line => {
                ("Command line is too long.", Fault::limit("line-too-long", format!("line of more than {longest} octets")))
            }
            Excess::Quoted => {
                let detail = format!("quoted string of more than {quoted} octets");
                ("A quoted string is too long.", Fault::limit("quoted-too-long", detail))
            }
            Excess::Literal => {
                let detail = format!("literals of more than {literal} octets");
                ("The literal is too big.", Fault::limit("literal-too-big", detail))
            }
            Excess::Nonsense => {
                ("Malformed literal.", Fault::peer("malformed-literal", "nobody can tell where the command ends"))
            }
        };
        bye(text, out);
        fault
    }
}

/// Meaning: from commands to answers and events.
impl Front {
    fn obey(&mut self, command: Command, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match command {
            Command::Capability => answer::capability(&self.terms, "Capability completed.", out),
            Command::Noop(tag) => answer::noop(tag.as_ref().map(|tag| tag.expose().as_slice()), out),
            Command::Logout => {
                answer::status("OK", None, "Logout completed.", out);
                return Ok((State::Over, Flow::Tell(LoginEvent::Bye)));
            }
            Command::StartTls if self.terms.starttls => {
                answer::status("OK", None, "Begin TLS negotiation now.", out);
                return Ok((State::AwaitTls, Flow::Tell(LoginEvent::Secure)));
            }
            Command::StartTls => self.bad("STARTTLS is not available on this connection.", out)?,
            Command::Xclient(attributes) => return self.identify(&attributes, out),
            Command::Authenticate { mechanism, initial } => return self.begin(&mechanism, initial, out),
            Command::Other => self.bad("Unknown command, or one that needs a login first.", out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn begin(&mut self, mechanism: &str, initial: Option<Secret<Vec<u8>>>, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let flow = match authenticate(mechanism, initial, self.terms.password_allowed) {
            Begun::Unknown => {
                no("Unsupported authentication mechanism.", out);
                Flow::Next
            }
            Begun::InClear { exposed } => {
                answer::refusal(&Refusal::PrivacyRequired, out);
                Flow::Tell(LoginEvent::InClear { exposed })
            }
            Begun::Heard(heard) => return self.hear(heard, out),
        };
        Ok((State::AwaitCommand, flow))
    }

    fn hear(&mut self, heard: Result<Heard, sasl::Malformed>, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match heard {
            Ok(Heard::Challenge(exchange, question)) => {
                challenge(question, out);
                Ok((State::AwaitResponse(exchange), Flow::Next))
            }
            Ok(Heard::Done(credentials)) => Ok(judge(credentials)),
            Err(sasl::Malformed(why)) => {
                self.bad(why, out)?;
                Ok((State::AwaitCommand, Flow::Next))
            }
        }
    }

    fn identify(&mut self, attributes: &[u8], out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let mut flow = Flow::Next;
        if !self.terms.trusted {
            self.unbelieved = Some(Unbelieved { trusted: false, why: STRANGER.to_owned() });
            no("You are not from trusted IP", out);
            return Ok((State::AwaitCommand, flow));
        }
        match xclient::read_plain(attributes) {
            Ok(said) => {
                answer::status("OK", None, "Updated", out);
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
        self.counts.bad_command().inspect_err(|_| bye("Too many invalid commands.", out))?;
        no(why, out);
        Ok(())
    }

    fn count_command(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.command().inspect_err(|_| bye("Too many commands without a login.", out))
    }
}

fn no(text: &str, out: &mut BytesMut) {
    answer::status("NO", None, text, out);
}

fn bye(text: &str, out: &mut BytesMut) {
    answer::status("BYE", None, text, out);
}

/// Hands the credentials to whoever decides.
fn judge(credentials: Credentials) -> (State, Flow) {
    (State::AwaitVerdict, Flow::Tell(asked(credentials)))
}

#[cfg(test)]
mod tests;
