//! One connection to a server that takes mails, by LMTP or SMTP, and the mails that go by it one after the other.
//!
//! What it promises:
//!
//! * *Every recipient gets the server's own answer, or one that says that there was none.* A server that closes, hangs, answers too
//!   few lines or none that are replies leaves those without an answer at `451`; a server that answers too many is left.
//! * *A yes is a reply to the end of this letter*, read from the connection. Nothing else makes one: what a server says before it
//!   has had that end can only be a no, and a connection on which answers went astray is given no letter.
//! * *A server has bounded time*: the route's for each command, three minutes for a piece of the letter, ten for the last answers.
//! * *Nothing is held*: the letter is read piece by piece as the server takes it.
//!
//! Who sent the mail is said anew ahead of each `MAIL` (XFORWARD), to servers that offer to hear it, and a no to that is only
//! written down: it informs, and decides nothing. A connection is told once who is calling (XCLIENT), so it serves one client. A
//! server that must not know who is calling (`proxy_not_trusted`) hears none of this, nor any pairs (XRCPTFORWARD).
//!
//! RFC 5321, RFC 2033 section 4.2 (a reply for each recipient), RFC 2920, RFC 3030.

mod words;

use crate::backend::connect::{self, Identity, SignedIn};
use crate::backend::health::{Place, SessionHere};
use crate::failure::Failure;
use crate::inbound::hold::Held;
use crate::journal::Level;
use crate::login::house::{House, Live};
use crate::protocol::Protocol;
use crate::route::Route;
use crate::trace::Tap;
use crate::witness::{Ear, Witness};
use bytes::{Bytes, BytesMut};
use relay::TlsFacts;
use relay::conn::Conn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use wire::dance::Introduction;
use wire::dance::dialect::Dialect;
use wire::encode::escaped;
use wire::envelope::{Mail, Rcpt, Verdict};
use wire::origin::xforward::{self, Forwarded};
use wire::origin::{HopsLeft, Origin, SessionId};
use wire::smtp::dialect::Submission;
use wire::smtp::message::command::{write_mail, write_rcpt};
use wire::smtp::message::letter::Stuffing;
use wire::smtp::message::offers::Offers;

/// For the answer to a command, unless the route has more patience: servers look up users and names.
const COMMAND: Duration = Duration::from_secs(30);
/// For a server to take a piece of a letter (RFC 5321 section 4.5.3.2.5).
const PIECE: Duration = Duration::from_secs(180);
/// For a letter and the answers behind it: as long as clients wait for ours, less what they need to hear it (RFC 5321 section
/// 4.5.3.2.6). A server that takes it later takes what its sender has sent again.
const FINAL: Duration = Duration::from_secs(590);
/// How long a server that has closed or refused in the middle of a letter may take for what it has to say of it.
const PARTING: Duration = Duration::from_secs(5);
/// For the answers to all recipients that are said together: less than a client waits for one (RFC 5321 section 4.5.3.2.3).
const ALL_ANSWERS: Duration = Duration::from_secs(240);
/// The longest reply that is read, in octets.
const REPLY_MAX: usize = 8192;
/// What one read may bring.
const READ: usize = 4096;
/// Recipients that are said before their answers are read.
const GROUP: usize = 100;

/// What all connections of a client's mail have in common.
#[derive(Clone)]
pub struct Ground {
    /// The protocol that the client speaks.
    pub protocol: &'static Protocol,
    /// What every session finds in place.
    pub house: Arc<House>,
    /// The configuration of this mail.
    pub live: Arc<Live>,
    /// Who brings it.
    pub origin: Arc<Origin>,
    /// Who follows.
    pub tap: Option<Arc<Tap>>,
}

/// A connection.
pub struct Courier {
    conn: Conn,
    input: BytesMut,
    offers: Offers,
    smtp: bool,
    one_at_a_time: bool,
    /// For each command.
    patience: Duration,
    /// For the letter and the answers to it.
    finals: Duration,
    /// Where it leads.
    pub address: SocketAddr,
    /// The route's host.
    pub host: String,
    /// TLS there.
    pub tls: Option<TlsFacts>,
    /// How the server was told who is calling.
    pub identity: Identity,
    state: State,
    /// The server has said 421: no other mail after this one.
    leaving: bool,
    tap: Option<Arc<Tap>>,
    house: Arc<House>,
    /// Counted among the sessions of the server.
    _here: SessionHere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No mail was begun.
    Ready,
    /// MAIL was taken.
    Begun,
    /// Nothing can be said any more.
    Gone,
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub struct Lost(String);

impl Lost {
    /// What its recipients hear.
    pub fn verdict(&self) -> Verdict {
        Verdict::new(451, (4, 2), "The connection to the mailbox's server was lost.")
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Courier {
    /// Connects, and tells the server who is calling. `number` sets the connections of one client's session apart.
    ///
    /// # Errors
    /// No address of the route would have us.
    pub async fn open(
        ground: &Ground,
        route: &Route,
        addresses: &[SocketAddr],
        hops: HopsLeft,
        number: u32,
    ) -> Result<Courier, Failure> {
        let Ground { protocol, house, live, origin, tap } = ground;
        let witness = Witness::of(tap.as_deref().map(|tap| tap as &dyn Ear));
        let means = house.means(live, origin, witness, false);
        let deadline = Instant::now() + route.timeout;
        let introduction = || introduction(origin, route, hops, number);
        let words = connect::Words { dialect: dialect(route), introduction: &introduction, sign_in: &|| None };
        let reached = connect::sign_in(&means, route, addresses, &words, deadline).await?;
        let SignedIn { conn, address, leftover, learnt, tls, identity, identity_refused, left_out, .. } = reached;
        if let Some(words) = identity_refused {
            let text = format_args!("backend {address}: it refused to hear who is calling: {words}");
            house.journal.say(Level::Warning, "identity-refused", &text);
        }
        let learnt = learnt.unwrap_or_default();
        if !route.smtp {
            house.learnt.told(protocol, address, &learnt);
        }
        let mut offers = Offers::read(&learnt);
        if !route.introduce {
            offers.hear_of_nobody();
        }
        // A proxy in front that says how long it waits (`TIMEOUT` of XCLIENT).
        let waits = origin.patience.unwrap_or(Duration::MAX);
        let courier = Courier {
            conn,
            input: leftover,
            offers,
            smtp: route.smtp,
            one_at_a_time: route.one_at_a_time,
            patience: COMMAND.max(route.timeout).min(waits),
            finals: FINAL.min(waits),
            address,
            host: route.host.clone(),
            tls,
            identity,
            state: State::Ready,
            leaving: false,
            tap: tap.clone(),
            house: Arc::clone(house),
            _here: house.health.session(Place::new(address, route)),
        };
        courier.cut(&left_out);
        Ok(courier)
    }

    /// It can take another mail, as far as the server has told: whatever has come by now without being asked for is a leave, or the
    /// answer to something else.
    pub fn is_ready(&mut self) -> bool {
        self.state == State::Ready
            && !self.leaving
            && self.input.is_empty()
            && matches!(self.conn.try_hear(&mut self.input, READ), Ok(false))
    }

    /// The server takes its leave.
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// What it offers.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Begins a mail with its first recipients. The answers, in order; where MAIL was refused it is the answer for all. They are
    /// fewer than the recipients only where the connection was lost.
    pub async fn begin(&mut self, mail: &Mail, forwarded: &Forwarded, rcpts: &[Rcpt]) -> (Vec<Verdict>, Option<Lost>) {
        let mut verdicts = Vec::with_capacity(rcpts.len());
        let said = self.say_mail(mail, forwarded, rcpts, &mut verdicts).await;
        (verdicts, self.lost(said))
    }

    async fn say_mail(
        &mut self,
        mail: &Mail,
        forwarded: &Forwarded,
        rcpts: &[Rcpt],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), Lost> {
        let Offers { smtputf8, .. } = self.offers;
        if mail.smtputf8 && !smtputf8 {
            let no = Verdict::new(550, (6, 7), "The mailbox's server does not take SMTPUTF8.");
            verdicts.resize(rcpts.len(), no);
            return Ok(());
        }
        if mail.size.is_some_and(|size| self.offers.too_large(size)) {
            let no = Verdict::new(552, (3, 4), "The letter is larger than the mailbox's server takes.");
            verdicts.resize(rcpts.len(), no);
            return Ok(());
        }
        self.quiet()?;
        let by = Instant::now() + ALL_ANSWERS;
        let mut out = BytesMut::new();
        let forwards = xforward::write(forwarded, self.offers.xforward, &mut out);
        self.note(&out);
        if self.waits() && forwards > 0 {
            let commands = out.split();
            for command in commands.split_inclusive(|octet| *octet == b'\n') {
                self.say(command).await?;
                self.forward_reply().await?;
            }
        }
        let mail_at = out.len();
        write_mail(mail, mail.size, &self.offers, &mut out);
        self.note(out.get(mail_at..).unwrap_or_default());
        if self.waits() {
            self.say(&out).await?;
            let answer = self.mail_verdict().await?;
            if !answer.is_yes() {
                verdicts.resize(rcpts.len(), answer);
                self.forget(forwards).await;
                return Ok(());
            }
            self.state = State::Begun;
            return self.say_recipients(rcpts, verdicts).await;
        }
        // Everything at once (RFC 2920): what is taken is known by the answers.
        let (first, rest) = rcpts.split_at(rcpts.len().min(GROUP));
        self.recipients(first, &mut out);
        self.say(&out).await?;
        for _ in 0..forwards {
            self.forward_reply().await?;
        }
        let answer = self.mail_verdict().await?;
        if !answer.is_yes() {
            verdicts.resize(rcpts.len(), answer);
            for _ in first {
                self.verdict((1, 5), by).await?;
            }
            self.forget(forwards).await;
            return Ok(());
        }
        self.state = State::Begun;
        for _ in first {
            verdicts.push(self.verdict((1, 5), by).await?);
        }
        self.say_recipients(rest, verdicts).await
    }

    /// Says more recipients of the mail that was begun. The answers as of [`Courier::begin`].
    pub async fn more(&mut self, rcpts: &[Rcpt]) -> (Vec<Verdict>, Option<Lost>) {
        let mut verdicts = Vec::with_capacity(rcpts.len());
        let said = self.say_recipients(rcpts, &mut verdicts).await;
        (verdicts, self.lost(said))
    }

    /// Whatever went wrong: answers may still come that belong to nothing any more.
    fn lost(&mut self, said: Result<(), Lost>) -> Option<Lost> {
        let lost = said.err();
        if lost.is_some() {
            self.state = State::Gone;
        }
        lost
    }

    async fn say_recipients(&mut self, rcpts: &[Rcpt], verdicts: &mut Vec<Verdict>) -> Result<(), Lost> {
        let group = if self.waits() { 1 } else { GROUP };
        let by = Instant::now() + ALL_ANSWERS;
        for some in rcpts.chunks(group) {
            self.quiet()?;
            let mut out = BytesMut::new();
            self.recipients(some, &mut out);
            self.say(&out).await?;
            for _ in some {
                verdicts.push(self.verdict((1, 5), by).await?);
            }
        }
        Ok(())
    }

    /// Whether a mail is under way.
    pub fn has_begun(&self) -> bool {
        self.state == State::Begun
    }

    /// Gives the mail up.
    pub async fn abort(&mut self) {
        if self.state != State::Begun {
            return;
        }
        self.note(b"RSET\r\n");
        let reset = async {
            self.say(b"RSET\r\n").await?;
            self.verdict((0, 0), Instant::now() + PARTING).await
        };
        self.state = match timeout(PARTING, reset).await {
            Ok(Ok(answer)) if answer.is_yes() => State::Ready,
            _ => State::Gone,
        };
    }

    /// What was said of a mail that was refused must not be of the next one: XFORWARD outlives a MAIL that is refused.
    async fn forget(&mut self, forwards: usize) {
        if forwards > 0 {
            self.state = State::Begun;
            self.abort().await;
        }
    }

    /// Nothing is owed to us, and so nothing may have come: it would be taken for the answer to what is said next.
    fn quiet(&mut self) -> Result<(), Lost> {
        if self.input.is_empty() && matches!(self.conn.try_hear(&mut self.input, READ), Ok(false)) {
            return Ok(());
        }
        self.state = State::Gone;
        Err(Lost(format!("it closed, or says what was not asked: {}", escaped(&self.input, 200))))
    }

    /// Hands the letter over, with a field of ours ahead of it, to the `taken` recipients of the mail: an answer for each, in their
    /// order.
    pub async fn deliver(&mut self, ahead: &Bytes, letter: &Held, taken: usize) -> (Vec<Verdict>, Option<Lost>) {
        let mut verdicts = Vec::with_capacity(taken);
        if self.state != State::Begun {
            // Answers that are still to come are not to this letter.
            let lost = Lost("the connection was lost before the letter".to_owned());
            verdicts.resize(taken, lost.verdict());
            return (verdicts, Some(lost));
        }
        let lost = match self.hand_over(ahead, letter, taken, &mut verdicts).await {
            Ok(()) => {
                if self.state == State::Begun {
                    self.state = State::Ready;
                }
                None
            }
            Err(lost) => {
                self.state = State::Gone;
                Some(lost)
            }
        };
        if let Some(lost) = &lost {
            verdicts.resize(taken, lost.verdict());
        } else if !self.input.is_empty() {
            self.state = State::Gone;
            let said = escaped(&self.input, 200);
            return (verdicts, Some(Lost(format!("it says more than was asked: {said}"))));
        }
        (verdicts, lost)
    }

    async fn hand_over(&mut self, ahead: &Bytes, letter: &Held, taken: usize, verdicts: &mut Vec<Verdict>) -> Result<(), Lost> {
        self.quiet()?;
        let by = Instant::now() + self.finals;
        let size = letter.size().saturating_add(u64::try_from(ahead.len()).unwrap_or(u64::MAX));
        let said = if self.offers.chunking {
            let command = format!("BDAT {size} LAST\r\n");
            self.note(command.as_bytes());
            match self.say(command.as_bytes()).await {
                Ok(()) => self.send(ahead, letter, None, by).await,
                Err(lost) => Err(lost),
            }
        } else {
            self.note(b"DATA\r\n");
            self.say(b"DATA\r\n").await?;
            let answer = self.reply(Instant::now() + self.patience).await?;
            if answer.0 != 354 {
                // One answer for all (RFC 2033 section 4.2); a yes would be to nothing, and nobody knows what it waits for now.
                let verdict = answer.verdict((3, 0));
                if matches!(verdict.code(), 400..) {
                    verdicts.resize(taken, verdict);
                    self.abort().await;
                    return Ok(());
                }
                return Err(Lost(format!("it answers DATA with {}", answer.0)));
            }
            self.send(ahead, letter, Some(Stuffing::default()), by).await
        };
        // A server may refuse in the middle of it, say so, and close.
        let by = if said.is_ok() { by } else { Instant::now() + PARTING };
        let answers = if self.smtp { 1 } else { taken };
        for _ in 0..answers {
            let answer = match self.reply(by).await {
                Ok(answer) => answer,
                Err(lost) => return Err(said.err().unwrap_or(lost)),
            };
            if !matches!(answer.0, 200..=299 | 400..=599) {
                return Err(Lost(format!("it answers the letter with {}", answer.0)));
            }
            let verdict = answer.verdict((0, 0));
            // A yes to a letter that it has not had is none.
            verdicts.push(if said.is_err() && verdict.is_yes() { Lost(String::new()).verdict() } else { verdict });
        }
        if self.smtp
            && let Some(verdict) = verdicts.first().cloned()
        {
            verdicts.resize(taken, verdict);
        }
        said
    }

    /// The letter, as it is or with its dots doubled.
    async fn send(&mut self, ahead: &Bytes, letter: &Held, mut stuffing: Option<Stuffing>, by: Instant) -> Result<(), Lost> {
        let mut at = 0;
        let mut piece = ahead.clone();
        loop {
            match &mut stuffing {
                Some(stuffing) => {
                    let mut out = BytesMut::new();
                    stuffing.say(&piece, &mut out);
                    self.give(&out, by).await?;
                }
                None => self.give(&piece, by).await?,
            }
            piece = letter.read(at).await.map_err(|e| Lost(format!("the letter cannot be read back: {e}")))?;
            at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if piece.is_empty() {
                break;
            }
        }
        if let Some(stuffing) = stuffing {
            let mut out = BytesMut::new();
            stuffing.end(&mut out);
            self.give(&out, by).await?;
        }
        Ok(())
    }

    async fn give(&mut self, octets: &[u8], by: Instant) -> Result<(), Lost> {
        match timeout_at(by.min(Instant::now() + PIECE), self.conn.write_unless_told(octets, &mut self.input, READ)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Lost("it closed, or spoke, before it had the whole letter".to_owned())),
            Ok(Err(e)) => Err(Lost(format!("in the middle of the letter: {e}"))),
            Err(_) => Err(Lost("it does not take the letter in time".to_owned())),
        }
    }

    /// Takes leave; nobody waits for the answer.
    pub async fn quit(mut self) {
        if self.state != State::Gone {
            self.note(b"QUIT\r\n");
            let _ = timeout(PARTING, async {
                self.say(b"QUIT\r\n").await?;
                self.reply(Instant::now() + PARTING).await
            })
            .await;
        }
        let _ = timeout(PARTING, self.conn.shutdown()).await;
    }

    /// Each command waits for its answer.
    fn waits(&self) -> bool {
        self.one_at_a_time || !self.offers.pipelining
    }

    fn recipients(&self, rcpts: &[Rcpt], out: &mut BytesMut) {
        for rcpt in rcpts {
            let at = out.len();
            let left_out = write_rcpt(rcpt, &self.offers, out);
            self.note(out.get(at..).unwrap_or_default());
            self.cut(&left_out);
        }
    }

    /// Names what could not be told to the server, and never shows it.
    fn cut(&self, left_out: &[String]) {
        if !left_out.is_empty() {
            let text = format_args!("backend {}: not told because of its limits: {}", self.address, left_out.join(", "));
            self.house.journal.say(Level::Warning, "identity-cut", &text);
        }
    }
}

/// Who is calling, as a server is told: on the `number`th connection of the client's session.
pub fn introduction(origin: &Origin, route: &Route, hops: HopsLeft, number: u32) -> Option<Introduction> {
    route.introduce.then(|| Introduction {
        // Pairs travel with each recipient.
        origin: Origin {
            hops,
            session: SessionId::new(&format!("{}:P{number}", origin.session)).unwrap_or_else(|| origin.session.clone()),
            forward: Vec::new(),
            ..origin.clone()
        },
        client_id: Vec::new(),
        forward: Vec::new(),
        patience: None,
    })
}

/// What is spoken to a server.
pub fn dialect(route: &Route) -> fn() -> Box<dyn Dialect> {
    if route.smtp { || Box::new(Submission::new()) } else { || Box::new(Submission::lmtp()) }
}
