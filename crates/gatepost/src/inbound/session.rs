//! One session of the message way, read from top to bottom: accept, conversation, end.
//!
//! Whatever becomes of a mail, its client hears it about each recipient; the connection ends only for what the client does, or when
//! we go: never because a server behind us is in trouble. A mail that is under way when the end begins may still come through.

use super::transaction::{Client, Idle, MAIL_KICKED, Transaction};
use crate::delivery::courier::Ground;
use crate::journal::Level;
use crate::login::arrival::Arrival;
use crate::login::guard::Knock;
use crate::login::house::{Door, House, Live, Phase, Seat};
use crate::login::talk::{KICKED, READ, Talk};
use crate::protocol::Settings;
use bytes::{Bytes, BytesMut};
use message::edit::{Edit, Edits};
use message::received::{Trace, date, received};
use relay::Socket;
use relay::clock::Clock;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep, timeout_at};
use wire::envelope::{Mail, Verdict};
use wire::login::{Goodbye, Terms};
use wire::machine::Step;
use wire::origin::{MailProtocol, Origin, Told};
use wire::smtp::message::Caps;
use wire::smtp::message::front::{Event, Front};

/// What one read from a client may bring while a letter comes.
const READ_LETTER: usize = 64 * 1024;

/// Serves one accepted connection to its end.
pub async fn serve(socket: Socket, door: Arc<Door>, house: Arc<House>, clock: Clock, knock: Knock, mut seat: Seat) {
    let live = house.live.load_full();
    let Some((mut talk, patience)) = Talk::begin(socket, &door, &house, &live, &clock, knock) else { return };
    let entry = Arc::clone(&talk.entry);
    let deadline = Instant::now() + patience;
    let mut session = Session { talk: &mut talk, house: &house, seat: &mut seat, idle: Idle::default(), mails: 0 };
    let ended = tokio::select! {
        biased;
        ended = session.run(deadline) => ended,
        // A mail that is being handed over has its own time for that.
        () = async { entry.kicked().await; sleep(MAIL_KICKED * 2).await } => None,
    };
    if ended.is_none() {
        talk.part();
    }
    if talk.record.left != Some("quit") {
        talk.count_end();
    }
}

struct Session<'a, 't> {
    talk: &'a mut Talk<'t>,
    house: &'a Arc<House>,
    seat: &'a mut Seat,
    idle: Idle,
    /// How many letters were taken or refused as a whole.
    mails: u64,
}

impl Session<'_, '_> {
    /// `None`: it was ended from outside, and nothing was written down.
    async fn run(&mut self, until_mail: Instant) -> Option<()> {
        let ended = self.converse(until_mail).await;
        self.idle.close();
        if ended.is_none() && self.talk.record.left.is_none() { None } else { Some(()) }
    }

    /// Everything up to the end, which is written down where it happens.
    async fn converse(&mut self, until_mail: Instant) -> Option<()> {
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        self.talk.arrive(until_mail).await?;
        self.talk.record.secured = self.talk.secured();
        if self.talk.door.tls == crate::config::meant::ListenTls::Implicit {
            self.talk.secure(&input, until_mail).await?;
        }
        let settings = (self.talk.door.protocol.settings)(&self.talk.live.meant);
        let mut front = Front::new(self.terms(&settings), self.caps());
        front.overhear(self.talk.record.tap.is_some());
        front.greet(&mut out);
        let mut transaction: Option<Transaction> = None;
        let mut served = false;
        loop {
            if let Some(on) = self.talk.followed() {
                front.overhear(on);
            }
            let step = front.step(&mut input, &mut out);
            self.talk.record.heard(front.overheard(&out));
            self.talk.unbelieved(front.unbelieved());
            let idle_by = Instant::now() + settings.idle_timeout;
            let by = if served { idle_by } else { until_mail.min(idle_by) };
            let step = match step {
                Ok(step) => step,
                Err(fault) => {
                    self.talk.record.left(&self.house.journal, Level::Info, fault.rule, &fault.detail);
                    self.talk.last_words(&out).await;
                    return Some(());
                }
            };
            self.talk.send(&mut out, by, front.state()).await?;
            match step {
                Step::NeedInput => self.read(&mut front, &mut input, by).await?,
                Step::Event(Event::Piece(piece)) => {
                    if let Some(mail) = &mut transaction
                        && let Err(verdict) = mail.piece(&piece).await
                    {
                        front.fail(verdict);
                    }
                }
                Step::Event(Event::Mail(mail)) => {
                    let live = self.house.live.load_full();
                    let verdict = match mail.size {
                        Some(size) if !super::hold::has_room(&live.meant.server.temp_dir, size) => {
                            Verdict::new(452, (3, 1), "Insufficient system storage.")
                        }
                        _ => Verdict::new(250, (1, 0), "OK"),
                    };
                    if verdict.is_yes() {
                        let mail = self.begin(*mail, &front, live);
                        self.idle.serve(&mail.ground().origin);
                        transaction = Some(mail);
                    }
                    front.mail(&verdict, &mut out);
                }
                Step::Event(Event::Recipients(rcpts)) => {
                    let mail = transaction.as_mut()?;
                    let patience = settings.idle_timeout;
                    let mut client = Client { talk: self.talk, front: &mut front, out: &mut out, patience };
                    mail.ask(rcpts, &mut self.idle, &mut client).await?;
                    if mail.has_taken() && !std::mem::replace(&mut served, true) {
                        // It has come to something: it is no stranger any more.
                        self.seat.signed_in();
                        self.talk.knock = None;
                    }
                }
                Step::Event(Event::Letter) => {
                    if let Some(mail) = &mut transaction {
                        mail.begin_letter();
                    }
                    front.go_on(&mut out);
                }
                Step::Event(Event::End) => {
                    let mut mail = transaction.take()?;
                    if input.is_empty() {
                        // The room that a letter needed; servers may take their time now.
                        input = BytesMut::new();
                    }
                    let tls = self.talk.tls.as_ref().map(|facts| (facts.version, facts.cipher));
                    let ahead = |mail: &Transaction, start: &[u8]| trace(mail, start, tls);
                    self.mails += 1;
                    let patience = settings.idle_timeout;
                    let mut client = Client { talk: self.talk, front: &mut front, out: &mut out, patience };
                    let heard = mail.deliver(ahead, &mut client).await;
                    mail.end(&mut self.idle).await;
                    heard?;
                }
                Step::Event(Event::Refused(verdict)) => {
                    if let Some(mut mail) = transaction.take() {
                        mail.all(&verdict, &self.talk.record);
                        mail.end(&mut self.idle).await;
                    }
                }
                Step::Event(Event::Reset) => {
                    if let Some(mail) = transaction.take() {
                        mail.end(&mut self.idle).await;
                    }
                }
                Step::Event(Event::Said(said)) => {
                    if let Some(mail) = transaction.take() {
                        mail.end(&mut self.idle).await;
                    }
                    if self.talk.who.hear(*said) {
                        // What there is was told of somebody else.
                        self.idle.close();
                        self.talk.told();
                        self.talk.record.note(
                            &self.house.journal,
                            Level::Debug,
                            "identity",
                            &"a trusted peer said who is calling",
                        );
                        if !served && !self.talk.knock_for_client() {
                            self.leave(&mut front, Goodbye::TooManyConnections, "limit", "too many connections of the client")
                                .await;
                            return Some(());
                        }
                    }
                }
                Step::Event(Event::Secure) => {
                    if !input.is_empty() {
                        let text = "bytes behind STARTTLS, sent in clear: an injection, or a broken client";
                        self.talk.record.left(&self.house.journal, Level::Warning, "starttls-injection", &text);
                        return Some(());
                    }
                    if let Some(mail) = transaction.take() {
                        mail.end(&mut self.idle).await;
                    }
                    if !self.talk.live.meant.trust.identity_before_tls {
                        self.talk.who.forget();
                        self.talk.told();
                        self.idle.close();
                    }
                    self.talk.secure(&input, Instant::now() + settings.idle_timeout).await?;
                    front.secured(self.terms(&settings));
                }
                Step::Event(Event::Bye) => {
                    let text = format!("the client took its leave; {} letters", self.mails);
                    self.talk.record.left(&self.house.journal, Level::Debug, "quit", &text);
                    self.talk.last_words(&[]).await;
                    return Some(());
                }
            }
        }
    }

    /// Waits for the client's next octets.
    async fn read(&mut self, front: &mut Front, input: &mut BytesMut, by: Instant) -> Option<()> {
        let mut phase = self.house.phase.clone();
        // A mail that is under way may still come through.
        let end = if front.in_transaction() { Phase::Leaving } else { Phase::Closing };
        let most = if front.state() == "await-data" { READ_LETTER } else { READ };
        let entry = Arc::clone(&self.talk.entry);
        let conn = self.talk.conn.as_mut()?;
        let read = tokio::select! {
            read = timeout_at(by, conn.read(input, most)) => read,
            () = end.reached(&mut phase) => {
                self.leave(front, Goodbye::ShuttingDown, "shutting-down", "the server is going away").await;
                return None;
            }
            () = entry.kicked() => {
                self.leave(front, Goodbye::Kicked, "kicked", KICKED).await;
                return None;
            }
        };
        let state = front.state();
        let journal = &self.house.journal;
        match read {
            Ok(Ok(0)) => {
                let level = if front.in_transaction() { Level::Info } else { Level::Debug };
                self.talk.record.left(journal, level, "closed", &format_args!("the client left in state {state}"));
                None
            }
            Ok(Ok(_)) => Some(()),
            Ok(Err(e)) => {
                self.talk.record.left(journal, Level::Info, "lost", &format_args!("{e}, state {state}"));
                None
            }
            Err(_) => {
                self.leave(front, Goodbye::Idle, "idle", &format!("nothing came in time, state {state}")).await;
                None
            }
        }
    }

    fn begin(&mut self, mail: Mail, front: &Front, live: Arc<Live>) -> Transaction {
        let talk = &mut *self.talk;
        let mut origin = talk.who.origin.clone();
        called(&mut origin, front.helo());
        talk.record.helo = origin.helo.as_ref().and_then(Told::known).map(Into::into);
        let forwarded = match &talk.who {
            Arrival { trust: Some(proof), .. } if !mail.forwarded.is_empty() => Some(mail.forwarded.believed(proof)),
            _ => None,
        };
        let ground = Ground {
            protocol: talk.door.protocol,
            house: Arc::clone(self.house),
            live,
            origin: Arc::new(origin),
            tap: talk.record.tap.clone(),
        };
        Transaction::new(ground, talk.who.protected(), mail, forwarded)
    }

    fn terms(&self, settings: &Settings) -> Terms {
        terms(self.talk.terms(settings))
    }

    fn caps(&self) -> Caps {
        caps(self.talk.door, self.talk.live, self.talk.stressed())
    }

    /// We end it: says goodbye and writes it down.
    async fn leave(&mut self, front: &mut Front, why: Goodbye, reason: &'static str, text: &str) {
        let mut out = BytesMut::new();
        front.goodbye(why, &mut out);
        self.talk.record.heard(front.overheard(&out));
        self.talk.record.left(&self.house.journal, Level::Info, reason, &text);
        self.talk.last_words(&out).await;
    }
}

/// What is offered to a client that signs in nowhere.
pub(crate) fn terms(terms: Terms) -> Terms {
    Terms { password_allowed: false, may_vouch: false, ..terms }
}

/// What a connection may use up; less where strangers hold most of the seats.
pub(crate) fn caps(door: &Door, live: &Live, stressed: bool) -> Caps {
    let limits = &live.meant.limits;
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    Caps {
        bad_commands: if stressed { 1 } else { count(limits.bad_commands) },
        idle_commands: count(limits.commands),
        recipients: limits.recipients,
        size: u64::try_from(limits.message_size).unwrap_or(u64::MAX),
        bare_newline: door.bare_newline,
        soft_bounce: live.meant.lmtp.soft_bounce,
        ..Caps::default()
    }
}

/// What the client called itself, unless a trusted peer has told it.
pub(crate) fn called(origin: &mut Origin, helo: Option<&str>) {
    if let Some(name) = helo {
        origin.helo.get_or_insert_with(|| Told::Known(name.into()));
    }
    origin.spoke.get_or_insert(MailProtocol::Lmtp);
}

/// The field that says how the letter came here (RFC 5321 section 4.4).
fn trace(mail: &Transaction, start: &[u8], tls: Option<(&'static str, &'static str)>) -> Bytes {
    let ground = mail.ground();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let date = date(i64::try_from(now.as_secs()).unwrap_or(i64::MAX), 0);
    let with = match (mail.mail().smtputf8, tls.is_some()) {
        (false, false) => "LMTP",
        (false, true) => "LMTPS",
        (true, false) => "UTF8LMTP",
        (true, true) => "UTF8LMTPS",
    };
    let field = received(&Trace {
        origin: &ground.origin,
        forwarded: mail.forwarded(),
        by: &ground.live.meant.server.name,
        with,
        id: ground.origin.session.as_str(),
        tls,
        envelope_from: &mail.mail().path(),
        envelope_to: mail.only_recipient(),
        date: &date,
    });
    let mut edits = Edits::default();
    edits.add(Edit::Prepend(field));
    edits.ahead(start).unwrap_or_default()
}
