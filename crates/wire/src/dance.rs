//! The one backend login: greeting, TLS, fresh capabilities, introduction, sign-in.
//!
//! Every mail login is the same dance, so there is one machine, [`Dance`], over a [`Dialect`] per protocol:
//!
//! ```text
//! greeting -> [secure -> again] -> capabilities -> [introduce] -> sign in -> done, leftover bytes
//! ```
//!
//! TLS comes first where the plan asks for it, and nothing that was told before it counts behind it: who is calling is
//! never said in clear then, and capabilities are asked for anew, or the greeting that comes again is heard. What needs no
//! answer leaves together with what follows.
//!
//! A backend is not trusted. Its replies are capped (8192 octets each, 200 replies, 64 KiB in all) and must answer what was
//! asked, in order; a byte that is already here when a command is about to leave was said ahead of it, and ends the
//! dance. When the user is in, what is left in the input is untouched: it belongs to the client.
//!
//! Left to others: the deadline, connecting and retrying, the TLS handshake, checking certificates, and what a client may
//! hear of a refusal. `out` holds passwords while it waits to be sent; the driver owns and wipes it.

pub mod dialect;
mod echo;
mod gate;
mod outcome;
mod plan;

pub use outcome::{BackendNo, DanceEvent, NoKind, Stumble, StumbleKind};
pub use plan::{IdentityRefused, Introduction, Plan, Secure, SignIn};

use crate::login::Welcome;
use crate::machine::Step;
use crate::overheard::{self, Line};
use bytes::{Buf, BytesMut};
use dialect::{Answer, Ask, Dialect, Heard, Offer, protocol};
use echo::Echo;
use gate::speakable;
use std::collections::VecDeque;

/// A login to a backend, under way.
pub struct Dance {
    dialect: Box<dyn Dialect>,
    plan: Plan,
    state: State,
    /// Requests without their last word, oldest first.
    owed: VecDeque<Ask>,
    /// What was heard last, for [`Dance::state`].
    heard: &'static str,
    replies: usize,
    octets: usize,
    secured: bool,
    introduced: bool,
    /// The sign-in says who is calling.
    introduces_along: bool,
    signing_in: bool,
    credentials_sent: bool,
    aside: Aside,
    farewell: Option<String>,
    /// The backend's words when it refused to hear who is calling.
    identity_refused: Option<String>,
    echo: Echo,
    /// What was said by either side, where somebody wants to see it.
    overheard: Option<Vec<Line>>,
}

/// What the dance awaits.
#[derive(Debug)]
enum State {
    AwaitGreeting,
    AwaitReply,
    AwaitHandshake,
    /// Nothing is open and it is our turn.
    Turn,
    /// The user is in, and capabilities were asked for again. That many octets of the input were here before we asked.
    AwaitCapability {
        welcome: Welcome,
        stale: usize,
    },
    Over,
}

impl Dance {
    /// The most octets one reply may have, literals included.
    pub const REPLY_MAX: usize = 8192;
    /// The most replies that are heard before the user is in.
    pub const REPLIES_MAX: usize = 200;
    /// The most octets that are heard before the user is in.
    pub const OCTETS_MAX: usize = 64 * 1024;

    /// A dance on a fresh connection; for [`Secure::Implicit`] TLS is in place already.
    pub fn new(dialect: Box<dyn Dialect>, plan: Plan) -> Dance {
        Dance {
            dialect,
            echo: plan.sign_in.as_ref().map(Echo::new).unwrap_or_default(),
            plan,
            state: State::AwaitGreeting,
            owed: VecDeque::new(),
            heard: "none",
            replies: 0,
            octets: 0,
            secured: false,
            introduced: false,
            introduces_along: false,
            signing_in: false,
            credentials_sent: false,
            aside: Aside::default(),
            farewell: None,
            identity_refused: None,
            overheard: None,
        }
    }

    /// Consumes what it understands from `input` and appends what must be said to `out`. Behind [`DanceEvent::Welcome`],
    /// [`DanceEvent::Refused`] and any error it consumes and says nothing more.
    ///
    /// # Errors
    /// A [`Stumble`] ends the dance; drop the connection.
    pub fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<DanceEvent>, Stumble> {
        let step = self.advance(input, out);
        if step.is_err() {
            self.state = State::Over;
        }
        step
    }

    /// TLS is in place after [`DanceEvent::Secure`]: step again, also without input.
    pub fn secured(&mut self) {
        if matches!(self.state, State::AwaitHandshake) {
            self.dialect.secured();
            self.secured = true;
            self.state = if self.dialect.greets_anew() { State::AwaitGreeting } else { State::Turn };
        }
    }

    /// Somebody wants to see what is said.
    pub fn overhear(&mut self) {
        self.dialect.notes().keep(true);
        self.overheard.get_or_insert_default();
    }

    /// What was said by either side since this was last asked, in order; empty where nobody wants to see it.
    pub fn overheard(&mut self) -> Vec<Line> {
        self.overheard.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Notes what the dialect has just said.
    fn note_said(&mut self) {
        if let Some(lines) = &mut self.overheard {
            let said = self.dialect.notes().take().into_iter();
            lines.extend(said.map(|shown| Line { from_peer: false, free: shown.free, text: shown.text, user: None }));
        }
    }

    /// Notes what the backend has said; our own password is taken out of it.
    fn note_heard(&mut self, reply: &[u8]) {
        if let Some(lines) = &mut self.overheard {
            for line in reply.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
                let text = overheard::text(line);
                // In a success a short password would more likely be an ordinary word.
                let short_too = !overheard::is_yes(&text);
                let text = if self.credentials_sent { self.echo.masked(text, short_too) } else { text };
                lines.push(Line { from_peer: true, free: true, text, user: None });
            }
        }
    }

    /// Where the dance is, for timeout logs: the requests that are open, a slash, what was heard last (`id+login/banner`).
    pub fn state(&self) -> String {
        let open: Vec<_> = self.owed.iter().map(|ask| self.dialect.label(*ask)).collect();
        format!("{}/{}", open.join("+"), self.heard)
    }

    /// Whether a password has left: a retry would say it again.
    pub fn credentials_sent(&self) -> bool {
        self.credentials_sent
    }

    /// Whether the backend has greeted as one that can be signed in to.
    pub fn greeted(&self) -> bool {
        self.heard != "none"
    }

    /// The capabilities that the backend told before the sign-in, behind TLS where there is TLS.
    pub fn learnt(&self) -> Option<&str> {
        self.dialect.capability()
    }

    /// Keys of the introduction that could not be said to this backend, for the log.
    pub fn left_out(&self) -> &[String] {
        self.dialect.left_out()
    }

    /// Whether the backend was told who is calling, and did not refuse to hear it.
    pub fn introduced(&self) -> bool {
        self.introduced && self.identity_refused.is_none()
    }

    /// The words with which the backend refused to hear who is calling, cleaned, where the login went on all the same.
    pub fn identity_refused(&self) -> Option<&str> {
        self.identity_refused.as_deref()
    }

    /// The words with which the backend took its leave, cleaned, for when the connection ends without an answer.
    pub fn farewell(&self) -> Option<&str> {
        self.farewell.as_deref()
    }

    fn advance(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<DanceEvent>, Stumble> {
        if matches!(self.state, State::AwaitGreeting) {
            self.plan.sign_in.as_ref().map_or(Ok(()), speakable)?;
        }
        loop {
            match self.state {
                State::Turn => {
                    if let Some(event) = self.take_turn(input, out)? {
                        return Ok(Step::Event(event));
                    }
                }
                State::AwaitHandshake | State::Over => return Ok(Step::NeedInput),
                State::AwaitGreeting | State::AwaitReply | State::AwaitCapability { .. } => {
                    let Some(reply) = self.next_reply(input)? else { return Ok(Step::NeedInput) };
                    if let Some(event) = self.take_in(&reply, input, out)? {
                        return Ok(Step::Event(event));
                    }
                }
            }
        }
    }

    /// Takes one whole reply out of the input, under the caps.
    fn next_reply(&mut self, input: &mut BytesMut) -> Result<Option<Vec<u8>>, Stumble> {
        let greeted = !matches!(self.state, State::AwaitGreeting);
        // What lies beyond the cap must not be looked at: it may be what the client is to get, and large.
        let seen = input.get(..Self::REPLY_MAX).unwrap_or(input);
        let Some(end) = self.dialect.border(seen, greeted, Self::REPLY_MAX)? else {
            return if seen.len() < Self::REPLY_MAX { Ok(None) } else { Err(protocol("the backend's reply is too long")) };
        };
        self.replies = self.replies.saturating_add(1);
        self.octets = self.octets.saturating_add(end);
        if self.replies > Self::REPLIES_MAX || self.octets > Self::OCTETS_MAX {
            return Err(protocol("the backend says too much before the login is through"));
        }
        let reply = seen.get(..end).unwrap_or_default().to_vec();
        input.advance(reply.len());
        self.note_heard(&reply);
        Ok(Some(reply))
    }

    fn take_in(&mut self, reply: &[u8], input: &BytesMut, out: &mut BytesMut) -> Result<Option<DanceEvent>, Stumble> {
        if matches!(self.state, State::AwaitGreeting) {
            if self.dialect.greeting(reply)? {
                self.heard = "banner";
                self.state = State::Turn;
            }
            return Ok(None);
        }
        let stale = match &mut self.state {
            State::AwaitCapability { stale, .. } => {
                let was = *stale;
                *stale = was.saturating_sub(reply.len());
                was > 0
            }
            _ => false,
        };
        let heard = self.dialect.hear(reply, self.owed.front().copied());
        match if self.credentials_sent { self.without_password(heard)? } else { heard? } {
            Heard::Noted => Ok(None),
            Heard::Aside(line) => {
                if self.signing_in {
                    self.aside.push(line);
                }
                Ok(None)
            }
            Heard::Bye(words) => {
                self.farewell = Some(words);
                Ok(None)
            }
            Heard::GoAhead => {
                if !input.is_empty() {
                    return Err(stuffed("ahead of our answer"));
                }
                let said = self.dialect.say_on(out);
                self.note_said();
                let said = said?;
                self.credentials_sent |= said.secret;
                let introducing = self.owed.front() == Some(&Ask::Introduce);
                self.heard = if introducing { self.dialect.label(Ask::Introduce) } else { "auth-continue" };
                Ok(None)
            }
            Heard::Answer(ask, _) if self.owed.front() != Some(&ask) || stale => {
                Err(protocol(format!("the backend answered what was not asked ({})", self.dialect.label(ask))))
            }
            Heard::Answer(ask, answer) => {
                self.heard = self.dialect.label(ask);
                self.owed.pop_front();
                self.answered(ask, answer, input, out)
            }
        }
    }

    /// Our own password, taken out of every text that goes further.
    fn without_password(&self, heard: Result<Heard, Stumble>) -> Result<Heard, Stumble> {
        let mask = |text| self.echo.masked(text, true);
        Ok(match heard.map_err(|stumble| Stumble::new(stumble.kind, mask(stumble.detail)))? {
            Heard::Answer(ask, Answer::Yes(text)) => Heard::Answer(ask, Answer::Yes(self.echo.masked(text, false))),
            Heard::Answer(ask, Answer::No(no)) => Heard::Answer(ask, Answer::No(BackendNo { text: mask(no.text), ..no })),
            Heard::Answer(ask, Answer::NotUnderstood(text)) => Heard::Answer(ask, Answer::NotUnderstood(mask(text))),
            Heard::Bye(words) => Heard::Bye(mask(words)),
            // A client may have to read it to the letter, so what would have to be masked is left out.
            Heard::Aside(line) if self.echo.is_in(&line) => Heard::Noted,
            heard => heard,
        })
    }

    fn answered(
        &mut self,
        ask: Ask,
        answer: Answer,
        input: &BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<DanceEvent>, Stumble> {
        match (ask, answer) {
            (Ask::Secure, Answer::Yes(_)) => {
                if !input.is_empty() {
                    return Err(stuffed("between the permission for TLS and TLS"));
                }
                self.state = State::AwaitHandshake;
                return Ok(Some(DanceEvent::Secure));
            }
            (Ask::Secure, Answer::No(no)) => {
                return Err(Stumble::new(StumbleKind::Refused, format!("the backend refused TLS: {}", no.text)));
            }
            (Ask::Secure, Answer::NotUnderstood(words)) => {
                return Err(Stumble::new(StumbleKind::NotOffered, format!("the backend does not know TLS: {words}")));
            }
            (Ask::SignIn, Answer::Yes(text)) => {
                self.introduced |= self.introduces_along;
                let welcome = Welcome { text, capability: None, aside: Vec::new() };
                if self.dialect.lacks_capability() {
                    self.request(Ask::Capability, out)?;
                    self.state = State::AwaitCapability { welcome, stale: input.len() };
                    return Ok(None);
                }
                return Ok(Some(self.welcome(welcome, true)));
            }
            (Ask::SignIn, Answer::No(no)) => {
                self.state = State::Over;
                return Ok(Some(DanceEvent::Refused(no)));
            }
            (Ask::SignIn, Answer::NotUnderstood(text)) => {
                self.state = State::Over;
                return Ok(Some(DanceEvent::Refused(BackendNo { kind: NoKind::Credentials, text })));
            }
            (Ask::Capability, answer) => {
                if let State::AwaitCapability { welcome, .. } = &mut self.state {
                    let welcome = std::mem::take(welcome);
                    return Ok(Some(self.welcome(welcome, matches!(answer, Answer::Yes(_)))));
                }
            }
            (Ask::Introduce, Answer::No(BackendNo { text, .. }) | Answer::NotUnderstood(text))
                if self.dialect.introduction_is_a_right() =>
            {
                if self.plan.identity_refused == IdentityRefused::Fail {
                    let detail = format!("the backend refused to hear who is calling (identity_refused = \"fail\"): {text}");
                    return Err(Stumble::new(StumbleKind::NotOffered, detail));
                }
                self.identity_refused = Some(text);
            }
            (Ask::Introduce, _) => {}
        }
        if self.owed.is_empty() {
            self.state = State::Turn;
        }
        Ok(None)
    }

    fn welcome(&mut self, welcome: Welcome, told: bool) -> DanceEvent {
        self.state = State::Over;
        let capability = self.dialect.capability_after().filter(|_| told).map(str::to_owned);
        DanceEvent::Welcome(Welcome { capability, aside: std::mem::take(&mut self.aside).lines, ..welcome })
    }

    /// Says the next thing, and what may follow it at once. Nothing is open.
    fn take_turn(&mut self, input: &BytesMut, out: &mut BytesMut) -> Result<Option<DanceEvent>, Stumble> {
        if !input.is_empty() {
            return Err(stuffed("ahead of our command"));
        }
        self.state = State::AwaitReply;
        if self.plan.secure == Secure::StartTls && !self.secured {
            return match self.dialect.offer(Ask::Secure) {
                Offer::Yes => self.request(Ask::Secure, out).map(|_| None),
                Offer::Unknown => self.request(Ask::Capability, out).map(|_| None),
                Offer::No => Err(Stumble::new(StumbleKind::NotOffered, "the backend does not offer TLS")),
            };
        }
        if self.plan.introduce.is_some() && !self.introduced {
            match self.dialect.offer(Ask::Introduce) {
                // Without a password it is said along with who has signed in.
                Offer::Yes if self.plan.sign_in.as_ref().is_some_and(|sign_in| sign_in.noauth) => self.introduces_along = true,
                Offer::Yes => {
                    let alone = self.request(Ask::Introduce, out)?;
                    self.introduced = true;
                    if alone || self.plan.one_at_a_time {
                        return Ok(None);
                    }
                }
                Offer::Unknown => return self.request(Ask::Capability, out).map(|_| None),
                Offer::No => {}
            }
        }
        match self.dialect.offer(Ask::SignIn) {
            Offer::Unknown => self.request(Ask::Capability, out).map(|_| None),
            // What is under way is awaited: nothing may be open where somebody else takes over.
            Offer::Yes | Offer::No if self.plan.sign_in.is_none() && !self.owed.is_empty() => Ok(None),
            Offer::Yes | Offer::No if self.plan.sign_in.is_none() => Ok(Some(self.welcome(Welcome::default(), false))),
            Offer::Yes | Offer::No => {
                self.signing_in = true;
                self.request(Ask::SignIn, out).map(|_| None)
            }
        }
    }

    /// Says one request; says whether nothing may follow it yet.
    fn request(&mut self, ask: Ask, out: &mut BytesMut) -> Result<bool, Stumble> {
        let said = self.dialect.say(ask, &self.plan, out);
        self.note_said();
        let said = said?;
        self.credentials_sent |= said.secret;
        self.owed.push_back(ask);
        Ok(said.alone)
    }
}

/// Lines for the client, under caps of their own: what goes beyond them is dropped.
#[derive(Debug, Default)]
struct Aside {
    lines: Vec<Vec<u8>>,
    octets: usize,
}

impl Aside {
    const LINES_MAX: usize = 32;
    const OCTETS_MAX: usize = 8 * 1024;

    fn push(&mut self, line: Vec<u8>) {
        let octets = self.octets.saturating_add(line.len());
        if self.lines.len() < Self::LINES_MAX && octets <= Self::OCTETS_MAX {
            self.octets = octets;
            self.lines.push(line);
        }
    }
}

fn stuffed(place: &str) -> Stumble {
    Stumble::new(StumbleKind::Protocol, format!("the backend spoke {place} (stuffed)"))
}

#[cfg(test)]
pub(crate) mod played;
#[cfg(test)]
mod tests;
