//! One mail: its recipients, and the servers that are asked about them, all at once.
//!
//! Recipients that live at one place go by one connection ([`Place`]). Each place is a task of its own, so that one that is dead or
//! slow keeps nobody else's mail waiting; its recipients alone hear of it. A task gives its connection back when it is done, and the
//! next mail of this client goes by it.

mod letter;

use super::hold::Hold;
use super::recipient::{self, Asker, Place, Placed};
use super::told::{Server, Told};
use crate::delivery::courier::{Courier, Ground, Lost};
use crate::failure::{Failure, Kind, Side};
use crate::journal::Level;
use crate::login::record::Record;
use crate::login::talk::Talk;
use crate::witness::{Ear, Witness};
use bytes::BytesMut;
use message::letter::Hops;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use wire::envelope::{Mail, Rcpt, Verdict};
use wire::origin::xforward::Forwarded;
use wire::origin::{HopsLeft, Origin};
use wire::smtp::message::front::Front;

/// Lookups of one client that are under way together.
const LOOKUPS: usize = 16;
/// Connections that wait for this client's next mail.
const IDLE: usize = 8;
/// How long a letter that is being handed over may take once its client is sent away.
pub(super) const MAIL_KICKED: Duration = Duration::from_secs(20);
/// The most servers that a letter may have passed (RFC 5321 section 6.3).
const HOPS: usize = 100;

/// Connections of one client that wait for its next mail.
#[derive(Default)]
pub(super) struct Idle {
    couriers: Vec<(Place, HopsLeft, Courier)>,
    /// How many were opened.
    opened: u32,
    /// Of whom they were told.
    client: Option<Arc<Origin>>,
}

impl Idle {
    fn take(&mut self, place: &Place, hops: HopsLeft) -> Option<Courier> {
        let at = self.couriers.iter().position(|(known, left, _)| known == place && *left == hops)?;
        let mut courier = self.couriers.swap_remove(at).2;
        // While it waited its server may have gone, or said something that would pass for an answer.
        courier.is_ready().then_some(courier)
    }

    fn keep(&mut self, place: Place, hops: HopsLeft, mut courier: Courier) {
        if courier.is_ready() && self.couriers.len() < IDLE {
            self.couriers.push((place, hops, courier));
        } else {
            tokio::spawn(courier.quit());
        }
    }

    /// The next mail is this one's: what was told of somebody else is of no use to it.
    pub(super) fn serve(&mut self, client: &Arc<Origin>) {
        if self.client.as_ref().is_some_and(|known| known != client) {
            self.close();
        }
        self.client = Some(Arc::clone(client));
    }

    /// They were told of another client, or there is no next mail.
    pub(super) fn close(&mut self) {
        for (.., courier) in self.couriers.drain(..) {
            tokio::spawn(courier.quit());
        }
    }
}

/// A mail that was begun.
pub(super) struct Transaction {
    ground: Ground,
    protected: bool,
    mail: Arc<Mail>,
    /// As the next server hears it.
    forwarded: Arc<Forwarded>,
    /// Upstream has told it.
    told: bool,
    began: Instant,
    places: Vec<AtPlace>,
    /// How many recipients were asked about.
    asked: usize,
    /// Those that were taken, in order.
    taken: Vec<Taken>,
    hold: Option<Hold>,
    hops: Hops,
}

/// The client of a mail, for its answers.
pub(super) struct Client<'a, 't> {
    pub(super) talk: &'a mut Talk<'t>,
    pub(super) front: &'a mut Front,
    pub(super) out: &'a mut BytesMut,
    /// For it to read an answer.
    pub(super) patience: Duration,
}

impl Client<'_, '_> {
    async fn answer(&mut self, verdict: &Verdict) -> Option<()> {
        self.front.recipient(verdict, self.out);
        self.send().await
    }

    async fn send(&mut self) -> Option<()> {
        self.talk.record.heard(self.front.overheard(self.out));
        self.talk.send(self.out, Instant::now() + self.patience, self.front.state()).await
    }
}

/// The recipients of one place.
struct AtPlace {
    place: Place,
    hops: HopsLeft,
    /// `None` while its task has it, and where there is none.
    courier: Option<Courier>,
    server: Option<Server>,
    /// How many were taken there.
    taken: usize,
    /// Why nobody can be delivered to there any more.
    failed: Option<Trouble>,
}

/// A recipient that was taken.
struct Taken {
    to: String,
    said: Option<String>,
    at: usize,
    /// Which one of the mail.
    nth: usize,
}

/// Why a recipient has no answer of a server.
#[derive(Clone)]
enum Trouble {
    Failure(Failure),
    Lost(String, Verdict),
}

/// What a place's task is to ask.
struct Errand {
    at: usize,
    /// With their numbers among those that were said together.
    rcpts: Vec<(usize, Rcpt)>,
    /// The way there, as the first of them has found it.
    found: Placed,
}

/// What a place's task comes back with.
struct Asked {
    at: usize,
    courier: Option<Courier>,
    /// The server's answers, as far as there are any.
    verdicts: Vec<Verdict>,
    /// Why there are no more.
    trouble: Option<Trouble>,
    numbers: Vec<usize>,
}

impl Transaction {
    pub(super) fn new(ground: Ground, protected: bool, mail: Mail, forwarded: Option<Forwarded>) -> Transaction {
        let told = forwarded.is_some();
        let forwarded = forwarded.unwrap_or_else(|| Forwarded::of(&ground.origin, ground.origin.session.as_str()));
        Transaction {
            ground,
            protected,
            mail: Arc::new(mail),
            forwarded: Arc::new(forwarded),
            told,
            began: Instant::now(),
            places: Vec::new(),
            asked: 0,
            taken: Vec::new(),
            hold: None,
            hops: Hops::default(),
        }
    }

    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// What upstream has told.
    pub(super) fn forwarded(&self) -> Option<&Forwarded> {
        self.told.then_some(&*self.forwarded)
    }

    /// The only recipient there is.
    pub(super) fn only_recipient(&self) -> Option<&str> {
        match self.taken.as_slice() {
            [one] => Some(&one.to),
            _ => None,
        }
    }

    /// Somebody was taken.
    pub(super) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    pub(super) fn mail(&self) -> &Mail {
        &self.mail
    }

    /// Asks about recipients: databases, then servers. Their client hears each answer in their order, as soon as those before it are
    /// known too. `None`: it does not hear them.
    pub(super) async fn ask(&mut self, rcpts: Vec<Rcpt>, idle: &mut Idle, client: &mut Client<'_, '_>) -> Option<()> {
        let base = self.asked;
        self.asked = base.saturating_add(rcpts.len());
        let given: Vec<String> = rcpts.iter().map(|rcpt| rcpt.to.to_string()).collect();
        let mut answers: Vec<Option<Verdict>> = vec![None; given.len()];
        let mut next = 0;
        let mut work: Vec<Errand> = Vec::new();
        let mut placed: Vec<Option<Result<Placed, Failure>>> = given.iter().map(|_| None).collect();
        for (n, found) in self.place(rcpts).await {
            if let Some(slot) = placed.get_mut(n) {
                *slot = Some(found);
            }
        }
        for (n, found) in placed.into_iter().enumerate() {
            let to = given.get(n).map(String::as_str).unwrap_or_default();
            let found =
                found.unwrap_or_else(|| Err(Failure::new(Side::Us, Kind::Internal, "its lookup ended without an answer")));
            let found = found.and_then(|found| found.sayable(&self.mail));
            match found {
                Err(failure) => {
                    let verdict = recipient::verdict(&failure, self.ground.origin.session.as_str());
                    set(
                        &mut answers,
                        n,
                        self.refuse(&client.talk.record, to, None, None, verdict, Some(&Trouble::Failure(failure))),
                    );
                }
                Ok(found) => {
                    let at = self.at(&found, idle);
                    let said = found.rcpt.to.to_string();
                    if let Some(trouble) = self.places.get(at).and_then(|place| place.failed.clone()) {
                        let verdict = trouble.verdict(&self.ground);
                        let server = self.places.get(at).and_then(|place| place.server.clone());
                        set(
                            &mut answers,
                            n,
                            self.refuse(&client.talk.record, to, Some(&said), server.as_ref(), verdict, Some(&trouble)),
                        );
                        continue;
                    }
                    let rcpt = found.rcpt.clone();
                    match work.iter_mut().find(|errand| errand.at == at) {
                        Some(errand) => errand.rcpts.push((n, rcpt)),
                        None => work.push(Errand { at, rcpts: vec![(n, rcpt)], found }),
                    }
                }
            }
        }
        let mut tasks = JoinSet::new();
        let mut said: Vec<Option<String>> = vec![None; given.len()];
        for Errand { at, rcpts, found } in work {
            let Some(place) = self.places.get_mut(at) else { continue };
            let courier = place.courier.take();
            idle.opened = idle.opened.saturating_add(1);
            let (ground, mail, forwarded, number) =
                (self.ground.clone(), Arc::clone(&self.mail), Arc::clone(&self.forwarded), idle.opened);
            for (n, rcpt) in &rcpts {
                if let Some(slot) = said.get_mut(*n) {
                    *slot = Some(rcpt.to.to_string());
                }
            }
            let (numbers, rcpts): (Vec<usize>, Vec<Rcpt>) = rcpts.into_iter().unzip();
            tasks.spawn(async move {
                let (courier, verdicts, trouble) = begin(&ground, courier, &found, &mail, &forwarded, &rcpts, number).await;
                Asked { at, courier, verdicts, trouble, numbers }
            });
        }
        loop {
            while let Some(Some(verdict)) = answers.get(next) {
                client.answer(verdict).await?;
                next += 1;
            }
            match tasks.join_next().await {
                Some(Ok(asked)) => self.heard(asked, base, (&given, &said), &mut answers, &client.talk.record),
                Some(Err(e)) => self.broken(&e),
                None => break,
            }
        }
        // Whoever has none by now has lost it to a fault of ours.
        while next < answers.len() {
            let known = answers.get(next).cloned().flatten();
            let verdict = known.unwrap_or_else(|| Verdict::new(451, (3, 0), "Internal error."));
            client.answer(&verdict).await?;
            next += 1;
        }
        Some(())
    }

    /// The places of recipients, some at a time.
    async fn place(&self, rcpts: Vec<Rcpt>) -> Vec<(usize, Result<Placed, Failure>)> {
        let mut found = Vec::with_capacity(rcpts.len());
        let mut tasks = JoinSet::new();
        let mut rest = rcpts.into_iter().enumerate();
        loop {
            while tasks.len() < LOOKUPS
                && let Some((n, rcpt)) = rest.next()
            {
                let (ground, protected) = (self.ground.clone(), self.protected);
                tasks.spawn(async move {
                    let witness = Witness::of(ground.tap.as_deref().map(|tap| tap as &dyn Ear));
                    let asker = Asker { protocol: ground.protocol, origin: &ground.origin, protected, witness };
                    (n, recipient::place(&ground.house, &ground.live, &asker, &rcpt).await)
                });
            }
            match tasks.join_next().await {
                Some(Ok(one)) => found.push(one),
                Some(Err(e)) => self.broken(&e),
                None => return found,
            }
        }
    }

    /// The place of a recipient among those of this mail.
    fn at(&mut self, found: &Placed, idle: &mut Idle) -> usize {
        let place = found.place();
        if let Some(at) = self.places.iter().position(|known| known.place == place) {
            return at;
        }
        let courier = idle.take(&place, found.hops);
        let server = courier.as_ref().map(Server::of);
        self.places.push(AtPlace { place, hops: found.hops, courier, server, taken: 0, failed: None });
        self.places.len() - 1
    }

    /// Takes in what a place has answered.
    fn heard(
        &mut self,
        asked: Asked,
        base: usize,
        (given, said): (&[String], &[Option<String>]),
        answers: &mut [Option<Verdict>],
        record: &Record,
    ) {
        let Asked { at, courier, verdicts, trouble, numbers } = asked;
        let Some(place) = self.places.get_mut(at) else { return };
        if let Some(courier) = &courier {
            place.server = Some(Server::of(courier));
        }
        place.courier = courier;
        let server = place.server.clone();
        place.failed.clone_from(&trouble);
        let mut said_by_it = verdicts.into_iter();
        let verdicts: Vec<_> = numbers
            .iter()
            .map(|_| match (said_by_it.next(), &trouble) {
                // A no stands. A yes is worth nothing any more.
                (Some(verdict), Some(_)) if !verdict.is_yes() => (verdict, None),
                (Some(verdict), None) => (verdict, None),
                (_, Some(trouble)) => (trouble.verdict(&self.ground), Some(trouble.clone())),
                (None, None) => (Verdict::new(451, (3, 0), "Internal error."), None),
            })
            .collect();
        for (n, (verdict, trouble)) in numbers.into_iter().zip(verdicts) {
            let to = given.get(n).cloned().unwrap_or_default();
            let other = said.get(n).cloned().flatten().filter(|other| *other != to);
            if verdict.is_yes() {
                if let Some(place) = self.places.get_mut(at) {
                    self.taken.push(Taken { to, said: other, at, nth: base.saturating_add(n) });
                    place.taken += 1;
                }
                set(answers, n, verdict);
            } else {
                let heard = self.refuse(record, &to, other.as_deref(), server.as_ref(), verdict, trouble.as_ref());
                set(answers, n, heard);
            }
        }
    }

    /// Writes down that a recipient is not taken; the answer that the client hears.
    fn refuse(
        &self,
        record: &Record,
        to: &str,
        said: Option<&str>,
        server: Option<&Server>,
        verdict: Verdict,
        trouble: Option<&Trouble>,
    ) -> Verdict {
        let heard = self.soften(&verdict);
        self.tell(record, to, said.filter(|said| *said != to), server, (&verdict, &heard), trouble, None);
        heard
    }

    fn soften(&self, verdict: &Verdict) -> Verdict {
        recipient::heard(verdict, &self.ground.live.meant)
    }

    #[expect(clippy::too_many_arguments, reason = "one line has many words")]
    fn tell(
        &self,
        record: &Record,
        to: &str,
        said: Option<&str>,
        server: Option<&Server>,
        (verdict, heard): (&Verdict, &Verdict),
        trouble: Option<&Trouble>,
        size: Option<u64>,
    ) {
        let told = Told {
            mail: &self.mail,
            forwarded: self.forwarded(),
            to,
            said,
            server,
            verdict,
            heard,
            failure: match trouble {
                Some(Trouble::Failure(failure)) => Some(failure),
                _ => None,
            },
            lost: match trouble {
                Some(Trouble::Lost(why, _)) => Some(why),
                _ => None,
            },
            size,
            took: self.began.elapsed(),
        };
        let house = &self.ground.house;
        house.metrics.recipient(self.ground.protocol.name, super::told::outcome(verdict), told.took);
        told.write(record, &house.journal);
    }

    /// Ends it: connections that can take another mail wait for that.
    pub(super) async fn end(self, idle: &mut Idle) {
        for AtPlace { place, hops, courier, .. } in self.places {
            let Some(mut courier) = courier else { continue };
            courier.abort().await;
            idle.keep(place, hops, courier);
        }
    }

    fn broken(&self, e: &JoinError) {
        self.ground.house.journal.say(Level::Error, "panic", &e);
    }
}

impl Trouble {
    fn verdict(&self, ground: &Ground) -> Verdict {
        match self {
            Trouble::Failure(failure) => recipient::verdict(failure, ground.origin.session.as_str()),
            Trouble::Lost(_, verdict) => verdict.clone(),
        }
    }
}

/// Says the mail and some recipients to one place, on the connection that there is or a new one.
async fn begin(
    ground: &Ground,
    courier: Option<Courier>,
    found: &Placed,
    mail: &Mail,
    forwarded: &Forwarded,
    rcpts: &[Rcpt],
    number: u32,
) -> (Option<Courier>, Vec<Verdict>, Option<Trouble>) {
    let trouble = |lost: Lost| Trouble::Lost(lost.to_string(), lost.verdict());
    if let Some(mut courier) = courier {
        let under_way = courier.has_begun();
        let (verdicts, lost) = if under_way { courier.more(rcpts).await } else { courier.begin(mail, forwarded, rcpts).await };
        // One that has waited too long for its server's taste says so now, or is gone: nothing was said on it but this.
        if under_way || (lost.is_none() && !courier.is_leaving()) {
            return (Some(courier), verdicts, lost.map(trouble));
        }
    }
    let mut courier = match Courier::open(ground, &found.route, &found.addresses, found.hops, number).await {
        Ok(courier) => courier,
        Err(failure) => return (None, Vec::new(), Some(Trouble::Failure(failure))),
    };
    let (verdicts, lost) = courier.begin(mail, forwarded, rcpts).await;
    (Some(courier), verdicts, lost.map(trouble))
}

fn set(answers: &mut [Option<Verdict>], n: usize, verdict: Verdict) {
    if let Some(slot) = answers.get_mut(n) {
        *slot = Some(verdict);
    }
}
