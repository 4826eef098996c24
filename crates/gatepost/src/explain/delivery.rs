//! A recipient's mail that is not brought, from the listener to the verdict.

use super::ask::{AskRcpt, Unanswerable};
use super::client::TURNS_MAX;
use super::coming::{Coming, How, Passage, choose};
use super::outcome::{Outcome, Verdict};
use super::{Explanation, VERSION, said, seen};
use crate::backend::connect;
use crate::delivery::courier;
use crate::failure::Failure;
use crate::inbound::recipient::{self, Asker, Placed};
use crate::inbound::session::{called, caps, terms};
use crate::inbound::told;
use crate::journal::level_word;
use crate::login::arrival::Arrival;
use crate::login::house::{House, Live};
use crate::protocol::PROTOCOLS;
use crate::witness::{Step as Seen, Trail, Witness};
use bytes::BytesMut;
use wire::address::read_path;
use wire::dance::{Dance, DanceEvent, IdentityRefused, Plan, Secure};
use wire::envelope::{Mail, Rcpt, Verdict as Answer};
use wire::login::Goodbye;
use wire::machine::Step;
use wire::origin::Origin;
use wire::smtp::dialect::Submission;
use wire::smtp::message::command::write_rcpt;
use wire::smtp::message::front::{Event, Front};
use wire::smtp::message::offers::Offers;

/// Explains what would become of a recipient's mail, as [`super::login`] does a login.
///
/// # Errors
/// What was asked makes no sense here.
pub async fn rcpt(house: &House, running: bool, ask: &AskRcpt) -> Result<Explanation, Unanswerable> {
    let live = house.live.load_full();
    let trail = if running { Trail::new(None) } else { Trail::new(None).alone() };
    let outcome = Rehearsal::new(house, &live, ask, trail.witness())?.run().await?;
    Ok(Explanation { version: VERSION, running, steps: trail.into_steps(), outcome })
}

struct Rehearsal<'a> {
    coming: Coming<'a>,
    ask: &'a AskRcpt,
}

impl<'a> Rehearsal<'a> {
    fn new(house: &'a House, live: &'a Live, ask: &'a AskRcpt, witness: Witness<'a>) -> Result<Rehearsal<'a>, Unanswerable> {
        for (what, address) in [("recipient", &ask.recipient), ("sender", &ask.sender)] {
            let more = read_path(&format!("<{address}>")).is_ok_and(|(_, rest)| !rest.is_empty());
            if more || address.bytes().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
                return Err(Unanswerable(format!("no client can say this {what}: it is more than an address")));
            }
        }
        let takes_mail = || PROTOCOLS.iter().find(|row| row.login().is_none() && ask.listener.is_none()).map(|row| row.name);
        let door = choose(&house.doors.load_full(), takes_mail(), ask.listener.as_ref())?;
        if door.protocol.login().is_some() {
            let text = format!("{} takes no mail for others: ask with explain login USER", door.name());
            return Err(Unanswerable(text));
        }
        let how = How {
            from: ask.from.as_ref(),
            helo: ask.helo.as_ref(),
            sni: ask.sni.as_ref(),
            in_clear: ask.in_clear,
            via: ask.via.as_ref(),
            ttl: ask.ttl,
            forward: &ask.forward,
            balancer: ask.balancer.as_ref(),
        };
        Ok(Rehearsal { coming: Coming::new(house, live, how, door, witness)?, ask })
    }

    async fn run(&self) -> Result<Outcome, Unanswerable> {
        let Coming { house, live, door, .. } = &self.coming;
        let mut arrival = match self.coming.arrive() {
            Ok(arrival) => arrival,
            Err(outcome) => return Ok(*outcome),
        };
        let settings = (door.protocol.settings)(&live.meant);
        let terms = terms(arrival.terms(door, live, &settings, || house.learnt.common(door.protocol)));
        let mut front = Front::new(terms, caps(door, live, false));
        let (mail, rcpt) = match self.converse(&mut arrival, &mut front)? {
            Ok(said) => said,
            Err(outcome) => return Ok(*outcome),
        };
        Ok(self.decide(&arrival, &front, &mail, &rcpt).await)
    }

    /// The dialogue up to the recipient.
    fn converse(&self, arrival: &mut Arrival, front: &mut Front) -> Result<Passage<(Mail, Rcpt)>, Unanswerable> {
        let Coming { witness, from, via, .. } = &self.coming;
        let forward = self.coming.forwarded()?;
        let (mut to_front, mut to_client) = (BytesMut::new(), BytesMut::new());
        if let Err(outcome) = self.introduce(arrival, front, &mut to_front, &mut to_client)? {
            return Ok(Err(outcome));
        }
        witness.saw(|| seen::identity(arrival, *via, *from));
        to_client.clear();

        let AskRcpt { sender, recipient, .. } = self.ask;
        let utf8 = if sender.is_ascii() && recipient.is_ascii() { "" } else { " SMTPUTF8" };
        to_front.extend_from_slice(format!("MAIL FROM:<{sender}>{utf8}\r\n").as_bytes());
        let mail = match step(front, &mut to_front, &mut to_client) {
            Ok(Some(Event::Mail(mail))) => *mail,
            Ok(_) => return Ok(Err(Box::new(Outcome::no_recipient(&to_client)))),
            Err(outcome) => return Ok(Err(outcome)),
        };
        front.mail(&Answer::new(250, (1, 0), "OK"), &mut to_client);
        to_client.clear();
        match read_path(&format!("<{recipient}>")) {
            Ok((Some(to), _)) => {
                // Whoever is not offered to say pairs says none.
                let forward = if arrival.trust.is_some() { forward } else { Vec::new() };
                let offers = Offers::read("XRCPTFORWARD");
                write_rcpt(&Rcpt { to, notify: None, orcpt: None, forward }, &offers, &mut to_front);
            }
            _ => to_front.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes()),
        }
        Ok(match step(front, &mut to_front, &mut to_client) {
            Ok(Some(Event::Recipients(rcpts))) => match rcpts.into_iter().next() {
                Some(rcpt) => Ok((mail, rcpt)),
                None => Err(Box::new(Outcome::no_recipient(&to_client))),
            },
            Ok(_) => Err(Box::new(Outcome::no_recipient(&to_client))),
            Err(outcome) => Err(outcome),
        })
    }

    /// Up to the first mail: LHLO, and what a proxy in front says of its client.
    fn introduce(
        &self,
        arrival: &mut Arrival,
        front: &mut Front,
        to_front: &mut BytesMut,
        to_client: &mut BytesMut,
    ) -> Result<Passage<()>, Unanswerable> {
        let plan = Plan {
            // It is in place already where there is some.
            secure: Secure::Never,
            introduce: self.coming.via.map(|_| self.coming.introduction(arrival)),
            sign_in: None,
            one_at_a_time: true,
            identity_refused: IdentityRefused::Continue,
            server: self.coming.helo().to_owned(),
            helo: None,
        };
        let stuck = |why: &str| Unanswerable(format!("a client of {} does not get to a mail: {why}", self.coming.door.name()));
        let mut dance = Dance::new(Box::new(Submission::lmtp()), plan);
        front.greet(to_client);
        for _ in 0..TURNS_MAX {
            match dance.step(to_client, to_front) {
                Ok(Step::NeedInput) => {}
                Ok(Step::Event(DanceEvent::Welcome(_))) => return Ok(Ok(())),
                Ok(Step::Event(_)) => return Err(stuck("it is refused")),
                Err(stumble) => return Err(stuck(&stumble.detail)),
            }
            match step(front, to_front, to_client) {
                Ok(Some(Event::Said(said))) => {
                    arrival.hear(*said);
                    let client = arrival.origin.client.0.ip();
                    if let Err(mut outcome) = self.coming.knock(client, arrival.knocks(self.coming.live), &[]) {
                        let mut words = BytesMut::new();
                        front.goodbye(Goodbye::TooManyConnections, &mut words);
                        outcome.hears(&words);
                        return Ok(Err(outcome));
                    }
                }
                Ok(Some(_)) => return Err(stuck("something else is expected")),
                Ok(None) if to_client.is_empty() => return Err(stuck("both wait for each other")),
                Ok(None) => {}
                Err(outcome) => return Ok(Err(outcome)),
            }
        }
        Err(stuck("the conversation has no end"))
    }

    /// From the recipient to its server's door.
    async fn decide(&self, arrival: &Arrival, front: &Front, mail: &Mail, rcpt: &Rcpt) -> Outcome {
        let Coming { house, live, witness, door, .. } = &self.coming;
        let mut origin = arrival.origin.clone();
        called(&mut origin, front.helo());
        let asker = Asker { protocol: door.protocol, origin: &origin, protected: arrival.protected(), witness: *witness };
        let placed = match recipient::place(house, live, &asker, rcpt).await {
            Ok(placed) => placed,
            Err(failure) => return self.refused(&failure, &origin),
        };
        let Placed { route, addresses, hops, .. } = &placed;
        let introduction = || courier::introduction(&origin, route, *hops, 1);
        let words = connect::Words { dialect: courier::dialect(route), introduction: &introduction, sign_in: &|| None };
        let means = house.means(live, &origin, *witness, false);
        let call = match connect::foresee(&means, route, addresses, &words) {
            Ok(call) => call,
            Err(failure) => return self.refused(&failure, &origin),
        };
        let heard = said::of(&placed, &means, introduction(), mail, &origin, *witness);
        let header = seen::header_in_words(&call.header);
        witness.saw(|| said::step(&heard, &placed, header));
        if let Some(stumble) = heard.stumble {
            return self.refused(&Failure::stumble(stumble, false), &origin);
        }
        let (given, there) = (rcpt.to.to_string(), placed.rcpt.to.to_string());
        let name = if given == there { String::new() } else { format!(" as {there}") };
        Outcome {
            verdict: Verdict::Delivers,
            text: format!("mail for {given} would be handed to {}{name}", call.address),
            backend: Some(call.address.to_string()),
            host: Some(route.host.clone()),
            user: Some(placed.user.clone()),
            rcpt: Some(there),
            database: Some(route.database.clone()),
            tls: Some(crate::login::seen::tls(route.secure)),
            identity: Some(if route.introduce { "told" } else { "not-told" }),
            ..Outcome::default()
        }
    }

    /// What becomes of a failure: told by the one place that decides what a recipient's client may hear.
    fn refused(&self, failure: &Failure, origin: &Origin) -> Outcome {
        let verdict = recipient::verdict(failure, origin.session.as_str());
        let heard = recipient::heard(&verdict, &self.coming.live.meant);
        let (event, (_, loud)) = (told::outcome(&verdict), failure.refusal());
        self.coming.witness.saw(|| {
            Seen::new("refusal", format!("{}: journalled as {event}, {}", failure.kind.word(), level_word(loud)))
                .with("event", event)
                .with("reason", failure.kind.word())
                .with("side", failure.side.word())
                .with("level", level_word(loud))
        });
        Outcome::undelivered(failure, verdict.is_final_no(), &heard)
    }
}

/// One step of the front. The error: it ended the conversation.
fn step(front: &mut Front, input: &mut BytesMut, out: &mut BytesMut) -> Passage<Option<Event>> {
    match front.step(input, out) {
        Ok(Step::Event(event)) => Ok(Some(event)),
        Ok(Step::NeedInput) => Ok(None),
        Err(fault) => Err(Box::new(Outcome::closed(fault.rule, fault.detail, out))),
    }
}
