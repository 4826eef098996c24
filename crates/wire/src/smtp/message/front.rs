//! The LMTP server side: a machine over bytes (RFC 2033).
//!
//! It serves LHLO, STARTTLS (RFC 3207), MAIL, RCPT, DATA, BDAT (RFC 3030), RSET, NOOP, VRFY, HELP, QUIT, and of trusted peers
//! XCLIENT and XFORWARD as Postfix and Dovecot speak them. It decides nothing about mails: each recipient and each letter is
//! reported, and what is answered is for the driver to say.
//!
//! What it promises:
//!
//! * *One reply for each command, in order*, and behind a letter one for each recipient that was taken, in the order of RCPT.
//!   Recipients that are here together are reported together, so that nobody needs to ask for them one by one.
//! * *Only CRLF.CRLF ends a letter*, and what is reported of it has no other line ends ([`letter`](super::letter)).
//! * *Nothing is held.* A letter is reported in pieces as it comes; a line that is not whole stays in `input`, never more than
//!   [`Caps::held_at_most`] octets of it.
//! * *Nothing is reflected.* No word of a client is repeated. A connection that begins as HTTP, as a TLS handshake or with a
//!   PROXY header is dropped without a word ([`stranger`]).
//! * *Identity counts as a whole or not at all*, and what XFORWARD says is for one mail: it is gone with the end of the
//!   transaction, RSET, LHLO, STARTTLS and XCLIENT. A MAIL that was refused leaves it.
//!
//! What it leaves to others: databases, backends, deadlines, TLS itself, holding the letter.
//!
//! Choices: octets that are here already when LHLO or DATA is answered were said by somebody who did not wait for the answer
//! (RFC 2920 section 3.1): `554`, and the connection ends; behind XCLIENT only a lone LHLO may stand. A chunk of BDAT that is not
//! wanted is read away, all of it: its octets are no commands. Where nobody can say how many they are, the connection ends. Refused
//! recipients and transactions out of order are no abuse and not counted; commands that lead to no mail are.

use super::command::Command;
use super::letter::Taking;
use super::{BareNewline, Caps};
use crate::envelope::{Mail, Rcpt, Verdict};
use crate::line::{Found, LineScan};
use crate::login::{Goodbye, Helo, Terms, Unbelieved};
use crate::machine::{Fault, Step};
use crate::manners::{BARE, Counts, LINE_ENDS, Lines, Most, Next, STRANGER, line};
use crate::origin::xclient::smtp::{self as xclient, Rules};
use crate::origin::{OriginUpdate, Told, xforward};
use crate::overheard::{self, Notes, Shown};
use crate::smtp::answer::{self, Announced};
use crate::smtp::command::{Malformed, split};
use crate::stranger;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// What a front reports.
#[derive(Debug)]
pub enum Event {
    /// The client asked for TLS and was told to begin. Flush `out`; if any byte waits in `input`, drop the connection; shake
    /// hands; then call [`Front::secured`].
    Secure,
    /// A trusted peer said who is really calling. Whatever transaction there was is over.
    Said(Box<OriginUpdate>),
    /// A mail begins. Answer with [`Front::mail`]; until then do not step.
    Mail(Box<Mail>),
    /// Recipients, as many as are here. Answer each, in order, with [`Front::recipient`]; until then do not step.
    Recipients(Vec<Rcpt>),
    /// A letter begins. Call [`Front::go_on`], or [`Front::fail`] and then that; until then do not step.
    Letter,
    /// A piece of it.
    Piece(Bytes),
    /// It is whole. Answer with [`Front::delivered`]; until then do not step.
    End,
    /// The letter was refused as a whole, which its client has heard: forget it.
    Refused(Verdict),
    /// The transaction is over without a letter: forget it.
    Reset,
    /// The client took its leave and was answered. Flush `out`, then close.
    Bye,
}

/// The server side of one connection.
#[derive(Debug)]
pub struct Front {
    terms: Terms,
    caps: Caps,
    state: State,
    lines: Lines,
    fresh: bool,
    counts: Counts,
    greeted: bool,
    helo: Option<Helo>,
    must_greet: bool,
    in_tls: bool,
    /// Said by XFORWARD for the next mail, or for the one that was begun.
    forwarded: xforward::Said,
    mail: Option<Transaction>,
    /// Answers to recipients that wait for those before them.
    owed: VecDeque<Owed>,
    unbelieved: Option<Unbelieved>,
    notes: Notes,
}

/// A mail that was begun.
#[derive(Debug, Default)]
struct Transaction {
    /// How many recipients were said.
    said: usize,
    /// How many were taken.
    taken: usize,
    /// Octets of the letter so far.
    octets: u64,
    /// A chunk has been read, and which letter it belongs to.
    chunks: Option<Taking>,
    /// What becomes of the letter, where that is known before its end.
    failed: Option<Verdict>,
    utf8: bool,
}

#[derive(Debug)]
enum Owed {
    /// The driver is to say.
    Verdict,
    /// A whole line.
    Line(String),
}

#[derive(Debug)]
enum State {
    AwaitCommand,
    /// MAIL was reported.
    AwaitMail(Box<Transaction>),
    /// Recipients were reported.
    AwaitRecipients,
    /// The letter was reported, which comes behind DATA, or in chunks.
    AwaitGo(Arriving),
    /// It comes.
    Reading(Arriving),
    /// It is whole, or a chunk of it is; the last piece was reported, and what became of that is known.
    Arrived {
        taking: Taking,
        last: bool,
    },
    /// The letter was reported as whole.
    AwaitDelivery,
    /// A transaction is over, and the driver is to know.
    Resetting,
    /// So it is, with a letter that was refused; and with that the connection, perhaps.
    Refusing {
        verdict: Verdict,
        ends: bool,
    },
    /// A letter was refused that ends the connection.
    Offended,
    AwaitTls,
    Over,
}

/// A letter on its way in.
#[derive(Debug)]
enum Arriving {
    Data(Taking),
    Chunk {
        taking: Taking,
        left: u64,
        last: bool,
    },
    /// A chunk that belongs to nothing, and the answer to it.
    Unwanted {
        left: u64,
        answer: String,
    },
}

enum Flow {
    Next,
    More,
    Tell(Event),
}

impl Front {
    /// The front of a connection that has just been accepted (or has just finished implicit TLS).
    pub fn new(terms: Terms, caps: Caps) -> Front {
        Front {
            counts: Counts::under(Most { commands: caps.idle_commands, bad_commands: caps.bad_commands }),
            terms,
            caps,
            state: State::AwaitCommand,
            lines: Lines::default(),
            fresh: true,
            greeted: false,
            helo: None,
            must_greet: false,
            in_tls: false,
            forwarded: xforward::Said::default(),
            mail: None,
            owed: VecDeque::new(),
            unbelieved: None,
            notes: Notes::default(),
        }
    }

    /// Says the greeting. Called once, before the first step.
    pub fn greet(&mut self, out: &mut BytesMut) {
        answer::greeting(&self.terms, "LMTP", out);
    }

    /// One step, see [`crate::machine::Machine::step`].
    ///
    /// # Errors
    /// On a [`Fault`] flush `out` and close.
    pub fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<Event>, Fault> {
        loop {
            let (state, flow) = match std::mem::replace(&mut self.state, State::Over) {
                State::AwaitCommand => self.read_command(input, out)?,
                State::Reading(arriving) => self.read_letter(arriving, input, out)?,
                State::Arrived { taking, last } => self.arrived(taking, last, out),
                State::Resetting => (State::AwaitCommand, Flow::Tell(Event::Reset)),
                State::Refusing { verdict, ends } => {
                    let next = if ends { State::Offended } else { State::AwaitCommand };
                    (next, Flow::Tell(Event::Refused(verdict)))
                }
                State::Offended => {
                    let why = "a CR or LF stands alone in a letter (listen.bare_newline = \"reject\")";
                    return Err(Fault::peer("bare-newline", why));
                }
                state => {
                    self.state = state;
                    return Err(Fault::misuse("step-out-of-turn", format!("stepped in state {}", self.state())));
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

    /// The answer to [`Event::Mail`].
    pub fn mail(&mut self, verdict: &Verdict, out: &mut BytesMut) {
        if let State::AwaitMail(transaction) = std::mem::replace(&mut self.state, State::AwaitCommand) {
            if verdict.is_yes() {
                self.mail = Some(*transaction);
            }
            line(out, verdict);
        }
    }

    /// The answer to the first recipient of [`Event::Recipients`] that has none yet.
    pub fn recipient(&mut self, verdict: &Verdict, out: &mut BytesMut) {
        if let Some(owed) = self.owed.iter_mut().find(|owed| matches!(owed, Owed::Verdict)) {
            *owed = Owed::Line(verdict.to_string());
            if let Some(mail) = self.mail.as_mut().filter(|_| verdict.is_yes()) {
                mail.taken += 1;
            }
        }
        self.say_owed(out);
        if self.owed.is_empty() && matches!(self.state, State::AwaitRecipients) {
            self.state = State::AwaitCommand;
        }
    }

    /// Says the answers that wait for none before them.
    fn say_owed(&mut self, out: &mut BytesMut) {
        while let Some(Owed::Line(answer)) = self.owed.front() {
            line(out, answer);
            self.owed.pop_front();
        }
    }

    /// The letter may come.
    pub fn go_on(&mut self, out: &mut BytesMut) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::AwaitGo(arriving) => {
                if let Arriving::Data(_) = arriving {
                    line(out, "354 End data with <CR><LF>.<CR><LF>");
                }
                self.state = State::Reading(arriving);
            }
            state => self.state = state,
        }
    }

    /// What becomes of the letter is known before its end: the rest is read and not reported, and this is the answer for all.
    pub fn fail(&mut self, verdict: Verdict) {
        if let Some(mail) = &mut self.mail {
            mail.failed.get_or_insert(verdict);
        }
    }

    /// An answer to [`Event::End`]: one for each recipient that was taken, in order. With the last one the mail is over.
    pub fn delivered(&mut self, verdict: &Verdict, out: &mut BytesMut) {
        let (State::AwaitDelivery, Some(mail)) = (&self.state, &mut self.mail) else { return };
        line(out, verdict);
        mail.taken = mail.taken.saturating_sub(1);
        if mail.taken == 0 {
            self.mail = None;
            self.counts.lead_to_mail();
            self.forwarded = xforward::Said::default();
            self.state = State::AwaitCommand;
        }
    }

    /// TLS is in place: the conversation starts afresh under new terms (RFC 3207 section 4.2).
    pub fn secured(&mut self, terms: Terms) {
        self.terms = terms;
        self.state = State::AwaitCommand;
        self.lines = Lines::default();
        self.fresh = true;
        self.in_tls = true;
        self.greeted = false;
        self.helo = None;
        self.must_greet = false;
        self.mail = None;
        self.forwarded = xforward::Said::default();
    }

    /// We end the connection.
    pub fn goodbye(&mut self, why: Goodbye, out: &mut BytesMut) {
        self.state = State::Over;
        out.extend_from_slice(super::goodbye_line(why));
    }

    /// A mail was begun.
    pub fn in_transaction(&self) -> bool {
        self.mail.is_some()
    }

    /// Words about the caller that were heard since this was last asked and do not count, for the log: the peer has been told.
    pub fn unbelieved(&mut self) -> Option<Unbelieved> {
        self.unbelieved.take()
    }

    /// What the client called itself.
    pub fn helo(&self) -> Option<&str> {
        self.helo.as_ref().map(|helo| helo.name.as_str())
    }

    /// Somebody wants to see what is said from now on, or nobody does any more.
    pub fn overhear(&mut self, on: bool) {
        self.notes.keep(on);
    }

    /// What was read since this was last asked, with the lines in `out` between. Ask before `out` is emptied.
    pub fn overheard(&mut self, out: &[u8]) -> Vec<overheard::Line> {
        self.notes.merged(out, false)
    }

    /// The name of the state, for timeout logs.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::AwaitCommand if !self.greeted => "await-lhlo",
            State::AwaitCommand if self.mail.is_some() => "await-rcpt",
            State::AwaitCommand | State::Resetting | State::Refusing { .. } => "await-mail",
            State::AwaitMail(_) | State::AwaitRecipients | State::AwaitGo(_) => "await-verdict",
            State::Arrived { .. } | State::AwaitDelivery => "await-verdict",
            State::Reading(_) => "await-data",
            State::AwaitTls => "await-tls",
            State::Offended | State::Over => "over",
        }
    }
}

/// Reading: from octets to meanings.
impl Front {
    fn read_command(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        if self.fresh {
            if !stranger::looked_at(input, "http-on-lmtp")? {
                return Ok((State::AwaitCommand, Flow::More));
            }
            self.fresh = false;
        }
        match self.next_line(input) {
            Next::More => return Ok((State::AwaitCommand, Flow::More)),
            Next::TooLong(cap) => {
                self.notes.heard(out.len(), || Shown::withheld(None, input.len(), "too long"));
                line(out, "500 5.5.2 Line is too long.");
                return Err(Fault::limit("line-too-long", format!("line of more than {cap} octets")));
            }
            Next::Bare => {
                self.notes.heard(out.len(), || Shown::withheld(None, input.len(), BARE));
                self.bad("500 5.5.2", LINE_ENDS, out)?;
            }
            Next::Line(length) => {
                let said = input.get(..length).unwrap_or_default();
                let word = split(said).0;
                let (command, greets) = (Command::read(said, self.terms.trusted), word == b"LHLO");
                self.notes.heard(out.len(), || shown(said));
                self.lines.consume(length, input);
                let ends_group = greets || matches!(command, Ok(Command::Data));
                if std::mem::take(&mut self.must_greet) && !greets || ends_group && !input.is_empty() {
                    return Err(out_of_turn(out));
                }
                match command {
                    Ok(Command::Xclient(attributes)) => return self.identify(&attributes, input, out),
                    Ok(Command::Rcpt(rcpt)) if self.mail.is_some() => return Ok(self.recipients(*rcpt, input, out)),
                    Ok(command) => return self.obey(command, out),
                    Err(malformed) if is_about_envelope(&malformed) => {
                        line(out, format_args!("{} {}", malformed.code, malformed.why))
                    }
                    Err(malformed) if word == b"BDAT" => {
                        line(out, format_args!("{} {}", malformed.code, malformed.why));
                        return Err(Fault::peer("bdat-syntax", "nobody knows how many octets behind BDAT are none of a command"));
                    }
                    Err(malformed) => self.bad(malformed.code, malformed.why, out)?,
                }
            }
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn next_line(&mut self, input: &mut BytesMut) -> Next {
        let most = self.longest();
        self.lines.next(input, |_| most)
    }

    /// The longest line, without CRLF.
    fn longest(&self) -> usize {
        if self.terms.trusted { self.caps.line.max(Caps::TRUSTED_LINE) } else { self.caps.line }
    }

    /// The first of some recipients: takes those along that are here already.
    fn recipients(&mut self, first: Rcpt, input: &mut BytesMut, out: &mut BytesMut) -> (State, Flow) {
        let mut all = Vec::new();
        self.one_more(Ok(first), &mut all);
        while input.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"RCPT")) {
            // Whatever is no whole recipient is for the next step, which looks at it afresh.
            let Found::Line(length) = LineScan::new().find(input, self.longest()) else { break };
            let said = input.get(..length).unwrap_or_default();
            let rcpt = match Command::read(said, self.terms.trusted) {
                Ok(Command::Rcpt(rcpt)) => Ok(*rcpt),
                Err(malformed) if is_about_envelope(&malformed) => Err(malformed),
                _ => break,
            };
            self.notes.heard(out.len(), || shown(said));
            self.lines.consume(length, input);
            self.one_more(rcpt, &mut all);
        }
        if all.is_empty() {
            self.say_owed(out);
            return (State::AwaitCommand, Flow::Next);
        }
        (State::AwaitRecipients, Flow::Tell(Event::Recipients(all)))
    }

    fn one_more(&mut self, rcpt: Result<Rcpt, Malformed>, all: &mut Vec<Rcpt>) {
        let Some(mail) = &mut self.mail else { return };
        let owed = match rcpt {
            Err(Malformed { code, why }) => Owed::Line(format!("{code} {why}")),
            Ok(_) if mail.chunks.is_some() => Owed::Line("503 5.5.1 The letter has begun.".to_owned()),
            Ok(_) if mail.said >= self.caps.recipients => Owed::Line("452 4.5.3 Too many recipients.".to_owned()),
            Ok(rcpt) if rcpt.to.is_international() && !mail.utf8 => {
                Owed::Line("553 5.6.7 An address beyond ASCII needs SMTPUTF8.".to_owned())
            }
            Ok(rcpt) => {
                mail.said += 1;
                all.push(rcpt);
                Owed::Verdict
            }
        };
        self.owed.push_back(owed);
    }
}

/// Meaning: from commands to answers and events.
impl Front {
    fn obey(&mut self, command: Command, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        match command {
            Command::Lhlo(name) => {
                self.count(out)?;
                self.greeted = true;
                self.helo = (!name.is_empty()).then_some(Helo { name, extended: true });
                let announced = Announced {
                    letters: Some(self.caps.size),
                    auth: false,
                    xclient: self.terms.trusted.then_some(xclient::LISTED_BY_LMTP),
                    xforward: self.terms.trusted.then_some(xforward::LISTED),
                };
                answer::capabilities(&self.terms, &announced, out);
                return Ok(self.reset());
            }
            Command::WrongGreeting => self.bad("500 5.5.1", "This is LMTP: say LHLO.", out)?,
            Command::Noop => self.idle("250 2.0.0 OK", out)?,
            Command::Vrfy => self.idle("252 2.5.0 Try to deliver to it.", out)?,
            Command::Help => self.idle("214 2.0.0 LHLO, MAIL, RCPT and DATA or BDAT deliver a mail (RFC 2033).", out)?,
            Command::Rset => {
                self.idle("250 2.0.0 OK", out)?;
                return Ok(self.reset());
            }
            Command::Quit => {
                line(out, "221 2.0.0 Bye.");
                return Ok((State::Over, Flow::Tell(Event::Bye)));
            }
            Command::StartTls if self.terms.starttls => {
                line(out, "220 2.0.0 Begin TLS negotiation now.");
                return Ok((State::AwaitTls, Flow::Tell(Event::Secure)));
            }
            Command::StartTls if self.in_tls => self.bad("503 5.5.1", "TLS is in use already.", out)?,
            Command::StartTls => self.bad("502 5.5.1", "STARTTLS is not available on this connection.", out)?,
            Command::Mail(_) if !self.greeted => self.bad("503 5.5.1", "Say LHLO first.", out)?,
            Command::Mail(_) if self.mail.is_some() => line(out, "503 5.5.1 A mail was begun already."),
            Command::Mail(mail) if mail.size.is_some_and(|size| size > self.caps.size) => {
                line(out, self.heard(too_large(self.caps.size)))
            }
            Command::Mail(mut mail) => {
                mail.forwarded = self.forwarded.clone();
                let transaction = Transaction { utf8: mail.smtputf8, ..Transaction::default() };
                return Ok((State::AwaitMail(Box::new(transaction)), Flow::Tell(Event::Mail(mail))));
            }
            Command::Rcpt(_) => line(out, MAIL_FIRST),
            Command::Data => match &self.mail {
                None => line(out, MAIL_FIRST),
                Some(mail) if mail.chunks.is_some() => line(out, "503 5.5.1 The letter has begun with BDAT."),
                Some(mail) if mail.taken == 0 => line(out, NO_RECIPIENTS),
                Some(_) => return Ok((State::AwaitGo(Arriving::Data(Taking::dotted())), Flow::Tell(Event::Letter))),
            },
            Command::Bdat { octets, last } => return Ok(self.chunk(octets, last)),
            Command::Xforward(attributes) => self.forward(&attributes, out)?,
            Command::Xclient(_) | Command::Other => self.bad("500 5.5.1", "Unknown command.", out)?,
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    fn chunk(&mut self, left: u64, last: bool) -> (State, Flow) {
        let answer = match &mut self.mail {
            None => MAIL_FIRST,
            Some(mail) if mail.taken == 0 => NO_RECIPIENTS,
            Some(mail) => {
                if mail.octets.saturating_add(left) > self.caps.size {
                    mail.failed.get_or_insert_with(|| too_large(self.caps.size));
                }
                return match mail.chunks.take() {
                    Some(taking) => (State::Reading(Arriving::Chunk { taking, left, last }), Flow::Next),
                    None => {
                        let first = Arriving::Chunk { taking: Taking::chunked(), left, last };
                        (State::AwaitGo(first), Flow::Tell(Event::Letter))
                    }
                };
            }
        };
        (State::Reading(Arriving::Unwanted { left, answer: answer.to_owned() }), Flow::Next)
    }

    /// A refusal of a letter as its client hears it.
    fn heard(&self, verdict: Verdict) -> Verdict {
        if self.caps.soft_bounce { verdict.softened() } else { verdict }
    }

    /// Forgets the mail that was begun, and what was said for it.
    fn reset(&mut self) -> (State, Flow) {
        self.forwarded = xforward::Said::default();
        if self.mail.take().is_some() { (State::Resetting, Flow::Next) } else { (State::AwaitCommand, Flow::Next) }
    }

    /// XFORWARD. The order in which it is looked at is Postfix's.
    fn forward(&mut self, attributes: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        if self.mail.is_some() {
            line(out, "503 5.5.1 A mail was begun already.");
        } else if xforward::no_operand(attributes) {
            self.bad("501 5.5.4", "Syntax: XFORWARD attribute=value...", out)?;
        } else if !self.terms.trusted {
            let why = "it says by XFORWARD who sent a mail, and is not in trust.networks".to_owned();
            self.unbelieved = Some(Unbelieved { trusted: false, why });
            self.bad("550 5.7.0", "You may not say who sent a mail.", out)?;
        } else {
            match xforward::read(attributes) {
                Ok(said) => {
                    self.forwarded.add(said);
                    line(out, "250 2.0.0 OK");
                }
                Err(malformed) => {
                    self.unbelieved = Some(Unbelieved { trusted: true, why: format!("XFORWARD: {malformed}") });
                    self.bad("501 5.5.4", &answer::of_xforward(&malformed), out)?;
                }
            }
        }
        Ok(())
    }

    /// XCLIENT. The order in which it is looked at is Postfix's: even a stranger hears first that something is missing.
    fn identify(&mut self, attributes: &[u8], input: &BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        self.count(out)?;
        if self.mail.is_some() {
            line(out, "503 5.5.1 A mail was begun already.");
        } else if xclient::no_operand(attributes) {
            self.bad("501 5.5.4", "Syntax: XCLIENT attribute=value...", out)?;
        } else if !self.terms.trusted {
            self.unbelieved = Some(Unbelieved { trusted: false, why: STRANGER.to_owned() });
            self.bad("550 5.7.0", "You may not say who is calling.", out)?;
        } else {
            match xclient::read(attributes, Rules { may_vouch: false, as_exim: false }) {
                Ok(said) => return self.identified(said, input, out),
                Err(malformed) => {
                    let code = if malformed == xclient::Malformed::MayNotVouch { "550 5.7.0" } else { "501 5.5.4" };
                    self.unbelieved = Some(Unbelieved { trusted: true, why: malformed.to_string() });
                    self.bad(code, &answer::of_xclient(&malformed), out)?;
                }
            }
        }
        Ok((State::AwaitCommand, Flow::Next))
    }

    /// It counts: the conversation begins anew.
    fn identified(&mut self, said: OriginUpdate, input: &BytesMut, out: &mut BytesMut) -> Result<(State, Flow), Fault> {
        let begins = b"LHLO".iter().zip(input).all(|(one, other)| one.eq_ignore_ascii_case(other));
        if !begins {
            return Err(out_of_turn(out));
        }
        self.must_greet = !input.is_empty();
        self.greeted = matches!(said.helo, Some(Told::Known(_)));
        self.helo = None;
        self.forwarded = xforward::Said::default();
        self.greet(out);
        Ok((State::AwaitCommand, Flow::Tell(Event::Said(Box::new(said)))))
    }

    fn bad(&mut self, code: &str, why: &str, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.bad_command().inspect_err(|_| line(out, "421 4.7.0 Too many invalid commands."))?;
        line(out, format_args!("{code} {why}"));
        Ok(())
    }

    fn idle(&mut self, answer: &str, out: &mut BytesMut) -> Result<(), Fault> {
        self.count(out)?;
        line(out, answer);
        Ok(())
    }

    fn count(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        self.counts.command().inspect_err(|_| line(out, "421 4.7.0 Too many commands without a mail."))
    }
}

/// The most octets of a letter that are reported at once.
const PIECE_MAX: usize = 64 * 1024;
const MAIL_FIRST: &str = "503 5.5.1 Say MAIL first.";
const NO_RECIPIENTS: &str = "503 5.5.1 No recipient was taken.";

fn too_large(most: u64) -> Verdict {
    Verdict::new(552, (3, 4), format!("The letter is larger than {most} octets."))
}

/// Whether it is about an address or a parameter: who passes it on has got it from somebody else, and it is no abuse.
fn is_about_envelope(malformed: &Malformed) -> bool {
    matches!(malformed.code, "501 5.1.3" | "555 5.5.4" | "553 5.6.7" | "550 5.7.0")
}

/// A line as an operator may see it: there are no secrets in this protocol but those that databases forward.
fn shown(said: &[u8]) -> Shown {
    let (word, attributes) = split(said);
    if word == b"XCLIENT" {
        return crate::smtp::shown::xclient(attributes);
    }
    let text = overheard::text(said);
    let text = match text.to_ascii_uppercase().find("XRCPTFORWARD=") {
        Some(at) => format!("{}XRCPTFORWARD={}", text.get(..at).unwrap_or_default(), overheard::MASK),
        None => text,
    };
    Shown { free: true, ..Shown::plain(text) }
}

/// Somebody did not wait for an answer that changes everything behind it.
fn out_of_turn(out: &mut BytesMut) -> Fault {
    line(out, "554 5.5.0 LMTP protocol synchronization: wait for the answer.");
    Fault::peer("pipelining", "octets behind a command that ends its group (RFC 2920), sent before the answer to it")
}

mod letters;
#[cfg(test)]
mod tests;
