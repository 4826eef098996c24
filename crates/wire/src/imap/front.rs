//! The IMAP server side before login: a machine over bytes (RFC 3501, RFC 9051 sections 6.1 and 6.2).
//!
//! It serves CAPABILITY, NOOP, LOGOUT, ID (RFC 2971), STARTTLS, LOGIN and AUTHENTICATE PLAIN and LOGIN, with SASL-IR (RFC
//! 4959) and literals of both kinds (RFC 7888). Everything else is `BAD`, whether it is a command that needs a login or no
//! command at all: before login the difference is nobody's business, and `BAD` is what Dovecot says.
//!
//! What it promises:
//!
//! * *Caps in every state.* [`Border`] finds the ends of commands under [`Caps`]; an incomplete command stays in `input`,
//!   never more than [`Caps::held_at_most`] octets of it. Commands and broken commands are counted per connection, across
//!   STARTTLS; the answers to one input are bounded by the number of commands.
//! * *Nothing is read too far.* After a login is reported, or STARTTLS accepted, the input is not touched again.
//! * *Nothing is reflected.* Only a well-formed tag is repeated to the client. A connection that begins as HTTP, as a TLS
//!   handshake or with a PROXY header is dropped without a word ([`stranger`]).
//! * *A password that may not be said here is not looked at.* It is answered, and not reported.
//! * *Consumed octets are overwritten* in `input` before they are given up. What `BytesMut` leaves behind when it grows is
//!   out of reach from here: a driver that reserves [`Caps::held_at_most`] octets and one read up front never makes it
//!   grow. What is still unread when the conversation ends is the driver's to overwrite.
//!
//! What it leaves to others: deciding about logins, counting failed ones, deadlines, TLS itself.
//!
//! Choices where the standards are silent: a bare CR or LF makes the command around it `BAD` at once, and everything up to
//! the next CRLF belongs to it. The last bad command that [`Caps`] allow is answered with BYE in place of BAD. A client
//! that cancels AUTHENTICATE with `*` hears BAD, as the standard demands, but has done nothing bad.

use super::answer::{self, EXPOSED};
use super::border::{Border, Excess, Found};
use super::command::{Command, Tag};
use super::shown;
use super::{Caps, goodbye_line};
use crate::encode::{base64_decode, one_line};
use crate::login::{self, Goodbye, Helo, LoginEvent, Mechanism, Refusal, Terms, Unbelieved, Welcome};
use crate::machine::{Fault, Step};
use crate::manners::{BARE, Begun, Counts, LINE_ENDS, Most, asked, authenticate, challenge, consume, line};
use crate::origin::imap_id::{self, Pair};
use crate::overheard::{Line, Notes, Shown};
use crate::sasl::{Credentials, Heard, Malformed, Server};
use crate::stranger;
use bytes::BytesMut;

/// The most pairs that are kept of what a client says of itself.
const RETAINED_PAIRS: usize = 30;

/// The most octets that are kept of it, names and values together, as Dovecot's `imap_id_retain`.
const RETAINED_OCTETS: usize = 256;

/// The server side of one connection before login.
#[derive(Debug)]
pub struct Front {
    terms: Terms,
    caps: Caps,
    state: State,
    border: Border,
    /// Nothing has been read yet on this stream: it may be a stranger's.
    fresh: bool,
    counts: Counts,
    asked_capability: bool,
    /// A trusted peer has said who is calling; it is said once.
    identity_said: bool,
    client_id: Vec<Pair>,
    unbelieved: Option<Unbelieved>,
    notes: Notes,
}

#[derive(Debug)]
enum State {
    AwaitCommand,
    AwaitResponse { tag: Tag, exchange: Server },
    AwaitVerdict { tag: Tag },
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
            counts: Counts::under(Most { commands: caps.commands, bad_commands: caps.bad_commands }),
            asked_capability: false,
            identity_said: false,
            client_id: Vec::new(),
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
                State::AwaitResponse { tag, exchange } => self.read_response(tag, exchange, input, out)?,
                state @ (State::AwaitVerdict { .. } | State::AwaitTls | State::Over) => {
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
        if !(self.terms.trusted && terms.trusted) {
            self.client_id.clear();
        }
        // What is said under TLS counts more than what anybody on the way may have said in clear.
        self.identity_said = false;
        self.terms = terms;
        self.state = State::AwaitCommand;
        self.border = Border::default();
        self.fresh = true;
        self.asked_capability = false;
    }

    fn forget_identity(&mut self) {
        self.identity_said = false;
        self.client_id.clear();
    }

    fn welcome(&mut self, welcome: &Welcome, out: &mut BytesMut) {
        if let State::AwaitVerdict { tag } = std::mem::replace(&mut self.state, State::Over) {
            answer::welcome(&tag, welcome, self.asked_capability, out);
        }
    }

    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut) {
        match std::mem::replace(&mut self.state, State::AwaitCommand) {
            State::AwaitVerdict { tag } => answer::refusal(&tag, refusal, out),
            other => self.state = other,
        }
    }

    fn still_here(&mut self, out: &mut BytesMut) {
        line(out, "* OK Still waiting for the mail server, please hold on.");
    }

    fn goodbye(&mut self, why: Goodbye, out: &mut BytesMut) {
        self.state = State::Over;
        out.extend_from_slice(goodbye_line(why));
    }

    fn client_id(&self) -> &[Pair] {
        &self.client_id
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
        self.notes.merged(out, true)
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::AwaitCommand if self.border.is_in_literal() => "await-literal",
            State::AwaitCommand => "await-command",
            State::AwaitResponse { .. } => "await-sasl-response",
            State::AwaitVerdict { .. } => "await-verdict",
            State::AwaitTls => "await-tls",
            State::Over => "over",
        }
    }
}

/// Reading: from octets to meanings.
impl Front {
    fn read_command(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        if self.fresh {
            if !stranger::looked_at(input, "http-on-imap")? {
                return Ok((State::AwaitCommand, Flow::More));
            }
            self.fresh = false;
        }
        let next = Ok((State::AwaitCommand, Flow::Next));
        let found = self.border.command(input, &self.caps);
        if let Some(why) = withheld(found) {
            self.notes.heard(out.len(), || shown::withheld(input, why));
        }
        match found {
            Found::More => Ok((State::AwaitCommand, Flow::More)),
            Found::Ask => {
                line(out, "+ OK");
                next
            }
            Found::Whole(length) => {
                let whole = input.get(..length).unwrap_or_default();
                let (tag, command) = (Tag::of(whole), Command::read(whole));
                self.notes.heard(out.len(), || shown::read(whole, tag.as_ref(), &command));
                self.consume(length, input);
                self.count_command(out)?;
                match (tag, command) {
                    (None, _) => self.bad(None, "Invalid tag.", out)?,
                    (Some(tag), Err(malformed)) => self.bad(Some(&tag), malformed.0, out)?,
                    (Some(tag), Ok(command)) => return self.obey(tag, command, out),
                }
                next
            }
            Found::Bare => {
                self.count_command(out)?;
                self.bad(Tag::of(input).as_ref(), LINE_ENDS, out)?;
                next
            }
            Found::Skip(length) => {
                self.consume(length, input);
                next
            }
            Found::Refuse(excess, length) => {
                let tag = Tag::of(input);
                self.consume(length, input);
                self.count_command(out)?;
                match (tag, excess) {
                    (Some(tag), Excess::Size) => line(out, format_args!("{tag} NO [TOOBIG] The literal is too big.")),
                    (tag, _) => self.bad(tag.as_ref(), "Too many or too big literals.", out)?,
                }
                next
            }
            Found::Unstoppable(Excess::Nonsense) => {
                line(out, "* BYE Malformed literal.");
                Err(Fault::peer("malformed-literal", "nobody can tell where the command ends"))
            }
            Found::Unstoppable(Excess::Size) => {
                line(out, "* BYE [TOOBIG] The literal is too big.");
                Err(Fault::limit("literal-too-big", format!("literal of more than {} octets", self.caps.literal)))
            }
            Found::Unstoppable(Excess::Count) => {
                line(out, "* BYE [TOOBIG] Too many literals.");
                Err(Fault::limit("too-many-literals", format!("more than {} literals in a command", self.caps.literals)))
            }
            Found::TooLong => Err(self.line_too_long(out)),
        }
    }

    fn read_response(
        &mut self,
        tag: Tag,
        exchange: Server,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(State, Flow), Fault> {
        let length = match self.border.line(input, &self.caps) {
            Found::Whole(length) => length,
            Found::Bare => {
                self.notes.heard(out.len(), || shown::withheld(input, BARE));
                self.bad(Some(&tag), LINE_ENDS, out)?;
                return Ok((State::AwaitCommand, Flow::Next));
            }
            Found::TooLong => return Err(self.line_too_long(out)),
            // A plain line has no other ends.
            _ => return Ok((State::AwaitResponse { tag, exchange }, Flow::More)),
        };
        let said = input.get(..length.saturating_sub(2)).unwrap_or_default();
        let cancelled = said == b"*";
        let response = base64_decode(said);
        // What follows answers the command.
        let masked = || Shown { tag: Some(tag.to_string()), ..Shown::sasl_response(cancelled, response.is_some()) };
        self.notes.heard(out.len(), masked);
        self.consume(length, input);
        match response {
            Some(response) => self.hear(tag, exchange.hear(response), out),
            None if cancelled => {
                line(out, format_args!("{tag} BAD Authentication cancelled."));
                Ok((State::AwaitCommand, Flow::Next))
            }
            None => {
                self.bad(Some(&tag), "Invalid base64 data.", out)?;
                Ok((State::AwaitCommand, Flow::Next))
            }
        }
    }

    fn consume(&mut self, length: usize, input: &mut BytesMut) {
        consume(length, input);
        self.border = Border::default();
    }

    fn line_too_long(&self, out: &mut BytesMut) -> Fault {
        line(out, "* BYE Command line is too long.");
        Fault::limit("line-too-long", format!("line of more than {} octets", self.caps.line))
    }
}

/// Meaning: from commands to answers and events.
impl Front {
    fn obey(&mut self, tag: Tag, command: Command, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match command {
            Command::Capability => {
                self.asked_capability = true;
                line(out, format_args!("* CAPABILITY {}", answer::capability(&self.terms)));
                line(out, format_args!("{tag} OK Pre-login capabilities listed, post-login capabilities have more."));
            }
            Command::Noop => line(out, format_args!("{tag} OK NOOP completed.")),
            Command::Logout => {
                line(out, "* BYE Logging out");
                line(out, format_args!("{tag} OK Logout completed."));
                return Ok((State::Over, Flow::Tell(LoginEvent::Bye)));
            }
            Command::StartTls if self.terms.starttls => {
                line(out, format_args!("{tag} OK Begin TLS negotiation now."));
                return Ok((State::AwaitTls, Flow::Tell(LoginEvent::Secure)));
            }
            Command::StartTls => self.bad(Some(&tag), "STARTTLS is not available on this connection.", out)?,
            Command::Id(pairs) => return self.identify(&tag, pairs, out),
            Command::Login { user, password } => {
                if !self.terms.password_allowed {
                    return Ok(privacy_required(&tag, true, out));
                }
                let credentials = Credentials { authzid: Vec::new(), user, password, mechanism: Mechanism::Command };
                return Ok(judge(tag, credentials));
            }
            Command::Authenticate { mechanism, initial } => {
                match authenticate(&mechanism, initial, self.terms.password_allowed) {
                    Begun::Unknown => line(out, format_args!("{tag} NO Unsupported authentication mechanism.")),
                    Begun::InClear { exposed } => return Ok(privacy_required(&tag, exposed, out)),
                    Begun::Heard(heard) => return self.hear(tag, heard, out),
                }
            }
            Command::Other => self.bad(Some(&tag), "Unknown command, or one that needs a login first.", out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn hear(&mut self, tag: Tag, heard: Result<Heard, Malformed>, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match heard {
            Ok(Heard::Challenge(exchange, question)) => {
                challenge(question, out);
                Ok((State::AwaitResponse { tag, exchange }, Flow::Next))
            }
            Ok(Heard::Done(credentials)) => Ok(judge(tag, credentials)),
            Err(Malformed(why)) => {
                self.bad(Some(&tag), why, out)?;
                Ok((State::AwaitCommand, Flow::Next))
            }
        }
    }

    /// ID: all of it counts or nothing of it.
    fn identify(&mut self, tag: &Tag, pairs: Vec<Pair>, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let mut flow = Flow::Next;
        if self.terms.trusted && !self.identity_said && pairs.iter().any(|(key, _)| imap_id::is_reserved(key)) {
            match imap_id::read(&pairs) {
                Ok(said) if said.is_empty() => {}
                Ok(said) => {
                    self.identity_said = true;
                    flow = Flow::Tell(LoginEvent::Said(Box::new(said)));
                }
                // Only a trusted peer hears this, and its operator needs to know which key it was.
                Err(fault) => {
                    self.unbelieved = Some(Unbelieved { trusted: true, why: fault.detail.clone() });
                    self.bad(Some(tag), &format!("Invalid ID parameters: {}", one_line(&fault.detail, 200)), out)?;
                    return Ok((State::AwaitCommand, Flow::Next));
                }
            }
        }
        if self.terms.retain_client_id {
            self.client_id = retained(pairs);
        }
        answer::server_id(&self.terms, out);
        let which = if self.terms.trusted { "Trusted ID" } else { "ID" };
        line(out, format_args!("{tag} OK {which} completed."));
        Ok((State::AwaitCommand, flow))
    }

    fn bad(&mut self, tag: Option<&Tag>, why: &str, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.bad_command().inspect_err(|_| line(out, "* BYE Too many invalid IMAP commands."))?;
        match tag {
            Some(tag) => line(out, format_args!("{tag} BAD {why}")),
            None => line(out, format_args!("* BAD {why}")),
        }
        Ok(())
    }

    fn count_command(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.command().inspect_err(|_| line(out, "* BYE Too many commands without a login."))
    }
}

/// Why something that was found is no whole command, and shown as that.
fn withheld(found: Found) -> Option<&'static str> {
    match found {
        Found::Ask => Some("goes on behind a literal"),
        Found::Bare => Some(BARE),
        Found::Refuse(..) | Found::Unstoppable(_) => Some("a literal that is not taken"),
        Found::TooLong => Some("too long"),
        Found::More | Found::Whole(_) | Found::Skip(_) => None,
    }
}

/// Refuses a password in clear, with a warning where it has been said.
fn privacy_required(tag: &Tag, exposed: bool, out: &mut BytesMut) -> (State, Flow) {
    if exposed {
        line(out, EXPOSED);
    }
    answer::refusal(tag, &Refusal::PrivacyRequired, out);
    (State::AwaitCommand, Flow::Tell(LoginEvent::InClear { exposed }))
}

/// Hands the credentials to whoever decides.
fn judge(tag: Tag, credentials: Credentials) -> (State, Flow) {
    (State::AwaitVerdict { tag }, Flow::Tell(asked(credentials)))
}

/// What is kept of a client's ID: from its start, as far as the limits reach, without what only trusted peers may say.
fn retained(pairs: Vec<Pair>) -> Vec<Pair> {
    let mut octets = 0usize;
    let keep = |(key, value): &Pair| {
        octets = octets.saturating_add(key.len()).saturating_add(value.as_ref().map_or(0, Vec::len));
        octets <= RETAINED_OCTETS
    };
    pairs.into_iter().filter(|(key, _)| !imap_id::is_reserved(key)).take(RETAINED_PAIRS).take_while(keep).collect()
}

#[cfg(test)]
mod tests;
