//! The Submission server side before login: a machine over bytes (RFC 6409, RFC 5321, RFC 4954).
//!
//! It serves EHLO, HELO, STARTTLS (RFC 3207), AUTH with PLAIN and LOGIN, NOOP, RSET, HELP, QUIT, and XCLIENT as Postfix speaks
//! it. Whatever else needs a login is `530`, and unknown words are `500`.
//!
//! What it promises:
//!
//! * *Caps in every state.* A line that is not whole stays in `input`, never more than [`Caps::held_at_most`] octets of it.
//!   Commands and broken commands are counted per connection, across STARTTLS; the answers to one input are bounded by the
//!   number of commands.
//! * *Nothing is read too far.* After a login is reported, or STARTTLS accepted, the input is not touched again: what a client
//!   pipelines behind AUTH is its mail server's.
//! * *Nothing is reflected.* No word of a client is ever repeated. A connection that begins as HTTP, as a TLS handshake or
//!   with a PROXY header is dropped without a word ([`stranger`]).
//! * *A password that may not be said here is not looked at.* It is answered, and not reported.
//! * *Identity counts as a whole or not at all.* One malformed attribute of XCLIENT, and nothing of that line is reported.
//! * *A letter is never read as commands.* DATA and BDAT before login end the group, or the connection.
//! * *Consumed octets are overwritten* in `input` before they are given up. A driver that reserves [`Caps::held_at_most`]
//!   octets and one read up front never makes the buffer grow, which would leave copies behind. What is still unread when
//!   the conversation ends is the driver's to overwrite.
//!
//! What it leaves to others: deciding about logins, counting failed ones, deadlines, TLS itself, and whether identity said
//! before TLS counts behind it.
//!
//! A peer that may vouch for users (`LOGIN` of XCLIENT) signs in with the first MAIL behind that: it is reported as a login and
//! stays in `input` for the mail server, whose answer is the answer to it. If the login is refused, the refusal is.
//!
//! Such a peer passes on what its client says as soon as it has heard `220`, an XCLIENT of that one included. So LOGIN is
//! believed only together with ADDR or before it, and behind it no XCLIENT at all, TLS or not: see `Heeded`.
//!
//! Choices where the standards are silent or leave one. A bare CR or LF makes the command around it bad at once, and everything
//! up to the next CRLF belongs to it. Octets that are here already when EHLO, HELO or DATA is answered were said by somebody who
//! did not wait for the answer (RFC 2920 section 3.1): `554`, and the connection ends. So does it for whatever stands behind an
//! XCLIENT that counts, unless that is a greeting, which Dovecot's proxies say at once: it is answered for the new client. After
//! BDAT the connection ends because octets follow that are no commands; to skip as many as it says would be to read, for a
//! stranger, what nobody wants, and to trust its number. HELP is answered, so that whoever tries it by hand learns what comes
//! first. A client that cancels AUTH with `*` has done nothing bad.

use super::answer::{self, Announced};
use super::command::{Command, Malformed, NO_BASE64, greets};
use super::shown;
use super::{Caps, goodbye_line};
use crate::encode::{base64_decode, base64_encode};
use crate::login::{self, Goodbye, Helo, Login, LoginEvent, Mechanism, Refusal, Terms, Unbelieved, Welcome};
use crate::machine::{Fault, Step};
use crate::manners::{BARE, Begun, Counts, LINE_ENDS, Lines, Most, Next, STRANGER, asked, authenticate, line};
use crate::origin::xclient::smtp::{self as xclient, Rules};
use crate::origin::{OriginUpdate, Told};
use crate::overheard::{Line, Notes, Shown};
use crate::sasl::{self, Credentials, Heard, Server};
use crate::stranger;
use bytes::{BufMut, BytesMut};

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
    /// The client has said EHLO or HELO since the greeting, or a trusted peer has said it in its place.
    greeted: bool,
    /// What it said to us.
    helo: Option<Helo>,
    /// Octets stood behind XCLIENT already: the command that they begin must be a greeting.
    must_greet: bool,
    /// STARTTLS was done.
    in_tls: bool,
    /// An XCLIENT has counted.
    identified: bool,
    heeded: Heeded,
    /// A trusted peer says that this user has signed in.
    vouched: Option<Box<str>>,
    unbelieved: Option<Unbelieved>,
    notes: Notes,
}

/// What of XCLIENT is still heeded, of a peer that may say it. It is never more again: behind the first XCLIENT nobody can tell
/// whether the peer speaks or the client that it has named, whose words it passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heeded {
    All,
    /// A client was named: who it is may be said again, but not that it has signed in.
    NoLogin,
    /// Somebody has signed in, who must not become somebody else.
    Nothing,
}

#[derive(Debug)]
enum State {
    AwaitCommand,
    AwaitResponse(Server),
    /// Whoever decides was asked. A MAIL of so many octets without CRLF stands for the login, where it was no AUTH.
    AwaitVerdict(Option<usize>),
    /// A line of so many octets was answered, and is still in the input.
    Answered(usize),
    AwaitTls,
    /// What was said last ends the connection.
    HangingUp,
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
            greeted: false,
            helo: None,
            must_greet: false,
            in_tls: false,
            identified: false,
            heeded: Heeded::All,
            vouched: None,
            unbelieved: None,
            notes: Notes::default(),
        }
    }
}

impl login::Front for Front {
    fn greet(&mut self, out: &mut BytesMut) {
        answer::greeting(&self.terms, "ESMTP", out);
    }

    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<LoginEvent>, Fault> {
        loop {
            let (state, flow) = match std::mem::replace(&mut self.state, State::Over) {
                State::AwaitCommand => self.read_command(input, out)?,
                State::AwaitResponse(exchange) => self.read_response(exchange, input, out)?,
                State::Answered(length) => {
                    self.lines.consume(length, input);
                    (State::AwaitCommand, Flow::Next)
                }
                State::HangingUp => (State::Over, Flow::Tell(LoginEvent::HangUp)),
                state @ (State::AwaitVerdict(_) | State::AwaitTls | State::Over) => {
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
        self.in_tls = true;
        self.greeted = false;
        self.helo = None;
        self.must_greet = false;
    }

    fn forget_identity(&mut self) {
        self.identified = false;
        self.vouched = None;
    }

    fn welcome(&mut self, welcome: &Welcome, out: &mut BytesMut) {
        // The answer to a MAIL is its mail server's.
        if let State::AwaitVerdict(None) = std::mem::replace(&mut self.state, State::Over) {
            answer::welcome(welcome, out);
        }
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        if let State::AwaitVerdict(mail) = self.state {
            answer::refusal(refusal, out);
            self.state = match (refusal, mail) {
                (Refusal::Limit { .. }, _) => State::HangingUp,
                (_, Some(length)) => State::Answered(length),
                (_, None) => State::AwaitCommand,
            };
        }
    }

    /// SMTP has no word for that: any line would be the answer.
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
        self.helo.clone()
    }

    fn overhear(&mut self, on: bool) {
        self.notes.keep(on);
    }

    fn overheard(&mut self, out: &[u8]) -> Vec<Line> {
        self.notes.merged(out, false)
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::AwaitCommand | State::Answered(_) if !self.greeted => "await-ehlo",
            State::AwaitCommand | State::Answered(_) => "await-command",
            State::AwaitResponse(_) => "await-sasl-response",
            State::AwaitVerdict(_) => "await-verdict",
            State::AwaitTls => "await-tls",
            State::HangingUp => "hanging-up",
            State::Over => "over",
        }
    }
}

/// Reading: from octets to meanings.
impl Front {
    fn read_command(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        if self.fresh {
            if !stranger::looked_at(input, "http-on-submission")? {
                return Ok((State::AwaitCommand, Flow::More));
            }
            self.fresh = false;
        }
        match self.lines.next(input, |start| self.caps.of(start, self.terms.trusted)) {
            Next::More => return Ok((State::AwaitCommand, Flow::More)),
            Next::TooLong(cap) => {
                self.notes.heard(out.len(), || shown::withheld(input, "too long"));
                line(out, "500 5.5.2 Line is too long.");
                return Err(line_too_long(cap));
            }
            Next::Bare => {
                self.notes.heard(out.len(), || shown::withheld(input, BARE));
                self.count_command(out)?;
                self.bad("500 5.5.2", LINE_ENDS, out)?;
            }
            Next::Line(length) => {
                let said = input.get(..length).unwrap_or_default();
                let (command, greets) = (Command::read(said), greets(said));
                self.notes.heard(out.len(), || shown::read(said, &command));
                if let (Ok(Command::Mail), Some(user), true, false) = (&command, &self.vouched, self.greeted, self.must_greet) {
                    let user = user.to_string();
                    self.count_command(out)?;
                    let login = Login { user, authzid: None, password: None, mechanism: Mechanism::Xclient };
                    return Ok((State::AwaitVerdict(Some(length)), Flow::Tell(LoginEvent::Login(login))));
                }
                self.lines.consume(length, input);
                self.count_command(out)?;
                let ends_group = greets || matches!(command, Ok(Command::Data));
                if std::mem::take(&mut self.must_greet) && !greets || ends_group && !input.is_empty() {
                    return Err(out_of_turn(out));
                }
                match command {
                    Ok(Command::Xclient(attributes)) => return self.identify(&attributes, input, out),
                    Ok(command) => return self.obey(command, out),
                    Err(Malformed { code, why }) => self.bad(code, why, out)?,
                }
            }
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn read_response(&mut self, exchange: Server, input: &mut BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let length = match self.lines.next(input, |_| self.caps.sasl) {
            Next::More => return Ok((State::AwaitResponse(exchange), Flow::More)),
            Next::TooLong(cap) => {
                line(out, "500 5.5.6 Line is too long.");
                return Err(line_too_long(cap));
            }
            Next::Bare => {
                self.notes.heard(out.len(), || shown::withheld(input, BARE));
                self.bad("500 5.5.2", LINE_ENDS, out)?;
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
            None if cancelled => line(out, "501 5.7.0 Authentication cancelled."),
            None => self.bad(NO_BASE64.code, NO_BASE64.why, out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }
}

/// Meaning: from commands to answers and events.
impl Front {
    fn obey(&mut self, command: Command, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match command {
            Command::Ehlo(name) => {
                self.greeted_by(name, true);
                let heard = self.terms.trusted && self.heeded != Heeded::Nothing;
                let xclient = heard.then(|| xclient::listed(self.may_vouch()));
                answer::capabilities(&self.terms, &Announced { auth: true, xclient, ..Announced::default() }, out);
            }
            Command::Helo(name) => {
                self.greeted_by(name, false);
                answer::greeted(&self.terms, out);
            }
            Command::Noop => line(out, "250 2.0.0 OK"),
            Command::Rset => line(out, "250 2.0.0 OK"),
            Command::Help => line(out, "214 2.0.0 To send mail, say EHLO and sign in with AUTH."),
            Command::Quit => {
                line(out, "221 2.0.0 Bye.");
                return Ok((State::Over, Flow::Tell(LoginEvent::Bye)));
            }
            Command::StartTls if self.terms.starttls => {
                line(out, "220 2.0.0 Begin TLS negotiation now.");
                return Ok((State::AwaitTls, Flow::Tell(LoginEvent::Secure)));
            }
            Command::StartTls if self.in_tls => self.bad("503 5.5.1", "TLS is in use already.", out)?,
            Command::StartTls => self.bad("502 5.5.1", "STARTTLS is not available on this connection.", out)?,
            Command::Auth { .. } if !self.greeted => self.bad("503 5.5.1", EHLO_FIRST, out)?,
            Command::Auth { .. } if self.vouched.is_some() => self.bad("503 5.5.1", "Already authenticated.", out)?,
            Command::Auth { mechanism, initial } => match authenticate(&mechanism, initial, self.terms.password_allowed) {
                Begun::Unknown => line(out, "504 5.5.4 Unsupported authentication mechanism."),
                Begun::InClear { exposed } => {
                    answer::refusal(&Refusal::PrivacyRequired, out);
                    return Ok((State::AwaitCommand, Flow::Tell(LoginEvent::InClear { exposed })));
                }
                Begun::Heard(heard) => return self.hear(heard, out),
            },
            Command::Mail if self.vouched.is_some() => self.bad("503 5.5.1", EHLO_FIRST, out)?,
            Command::Mail | Command::Data | Command::NeedsLogin => self.needs_login(out)?,
            Command::Bdat => {
                self.needs_login(out)?;
                return Err(Fault::peer("bdat-before-login", "BDAT before login: what follows are no commands"));
            }
            Command::Xclient(_) | Command::Lhlo(_) | Command::Other => self.bad("500 5.5.1", "Unknown command.", out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn greeted_by(&mut self, name: String, extended: bool) {
        self.greeted = true;
        self.helo = (!name.is_empty()).then_some(Helo { name, extended });
    }

    /// A command that comes too early.
    fn needs_login(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        if self.vouched.is_some() {
            // Said behind a MAIL that was refused, more often than not.
            line(out, "503 5.5.1 Say MAIL first.");
        } else if self.terms.xclient_as_exim && !self.greeted {
            self.bad("503 5.5.1", EHLO_FIRST, out)?;
        } else {
            answer::needs_login(&self.terms, out);
        }
        Ok(())
    }

    fn hear(&mut self, heard: Result<Heard, sasl::Malformed>, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match heard {
            Ok(Heard::Challenge(exchange, question)) => {
                out.put_slice(b"334 ");
                out.put_slice(base64_encode(question).expose());
                out.put_slice(b"\r\n");
                Ok((State::AwaitResponse(exchange), Flow::Next))
            }
            Ok(Heard::Done(credentials)) => Ok(judge(credentials)),
            Err(sasl::Malformed(why)) => {
                self.bad("501 5.5.2", why, out)?;
                Ok((State::AwaitCommand, Flow::Next))
            }
        }
    }

    /// XCLIENT. The order in which it is looked at is Postfix's: even a stranger hears first that something is missing.
    fn identify(&mut self, attributes: &[u8], input: &BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let as_exim = self.terms.xclient_as_exim && !self.identified;
        if as_exim && !self.greeted {
            self.bad("503 5.5.1", EHLO_FIRST, out)?;
        } else if xclient::no_operand(attributes) {
            self.bad("501 5.5.4", "Syntax: XCLIENT attribute=value...", out)?;
        } else if !self.terms.trusted {
            self.unbelieved = Some(Unbelieved { trusted: false, why: STRANGER.to_owned() });
            self.bad("550 5.7.0", "You may not say who is calling.", out)?;
        } else if self.heeded == Heeded::Nothing {
            self.unbelieved = Some(Unbelieved { trusted: true, why: format!("XCLIENT behind LOGIN: {PERHAPS_THE_CLIENT}") });
            self.bad("550 5.7.0", "Somebody has signed in: who is calling cannot be said any more.", out)?;
        } else {
            match xclient::read(attributes, Rules { may_vouch: self.may_vouch(), as_exim }) {
                Ok(said) => return self.identified(said, input, out),
                Err(malformed) => {
                    let (code, why) = match malformed {
                        xclient::Malformed::MayNotVouch if self.terms.may_vouch => {
                            ("550 5.7.0", format!("LOGIN behind an XCLIENT: {PERHAPS_THE_CLIENT}"))
                        }
                        xclient::Malformed::MayNotVouch => ("550 5.7.0", "LOGIN: it is not in trust.login".to_owned()),
                        _ => ("501 5.5.4", malformed.to_string()),
                    };
                    self.unbelieved = Some(Unbelieved { trusted: true, why });
                    self.bad(code, &answer::of_xclient(&malformed), out)?;
                }
            }
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    /// It counts: the conversation begins anew, also where nothing new was said.
    fn identified(&mut self, said: OriginUpdate, input: &BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        if !may_begin_greeting(input) {
            return Err(out_of_turn(out));
        }
        self.must_greet = !input.is_empty();
        self.identified = true;
        self.greeted = matches!(said.helo, Some(Told::Known(_)));
        self.helo = None;
        self.vouched = said.user.as_ref().filter(|_| self.may_vouch()).and_then(|user| user.known()).map(Into::into);
        if self.vouched.is_some() {
            self.heeded = Heeded::Nothing;
        } else if said.client_ip.is_some() {
            self.heeded = Heeded::NoLogin;
        }
        answer::greeting(&self.terms, "ESMTP", out);
        Ok((State::AwaitCommand, Flow::Tell(LoginEvent::Said(Box::new(said)))))
    }

    /// Whether LOGIN would be believed now.
    fn may_vouch(&self) -> bool {
        self.terms.may_vouch && self.heeded == Heeded::All
    }

    fn bad(&mut self, code: &str, why: &str, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.bad_command().inspect_err(|_| line(out, "421 4.7.0 Too many invalid commands."))?;
        line(out, format_args!("{code} {why}"));
        Ok(())
    }

    fn count_command(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.command().inspect_err(|_| line(out, "421 4.7.0 Too many commands without a login."))
    }
}

/// Why a peer is not believed any more, for the log.
const PERHAPS_THE_CLIENT: &str = "it may be the client's own word, passed on";

/// What is to be said first.
const EHLO_FIRST: &str = "Say EHLO first.";

/// Hands the credentials to whoever decides.
fn judge(credentials: Credentials) -> (State, Flow) {
    (State::AwaitVerdict(None), Flow::Tell(asked(credentials)))
}

/// Whether this may become a command of EHLO or HELO.
fn may_begin_greeting(input: &[u8]) -> bool {
    let begins = |word: &[u8]| word.iter().zip(input).all(|(one, other)| one.eq_ignore_ascii_case(other));
    begins(b"EHLO") || begins(b"HELO")
}

fn line_too_long(cap: usize) -> Fault {
    Fault::limit("line-too-long", format!("line of more than {cap} octets"))
}

/// Somebody did not wait for an answer that changes everything behind it.
fn out_of_turn(out: &mut BytesMut) -> Fault {
    line(out, "554 5.5.0 SMTP protocol synchronization: wait for the answer.");
    Fault::peer("pipelining", "octets behind a command that ends its group (RFC 2920), sent before the answer to it")
}

#[cfg(test)]
mod tests;
