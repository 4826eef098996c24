//! A login that does not happen, from the listener to the verdict.

use super::ask::{Ask, Unanswerable};
use super::client::{Client, Conversation, Said};
use super::coming::{Coming, How, Passage, choose};
use super::outcome::{Outcome, Verdict};
use super::{Explanation, VERSION, seen, words};
use crate::backend::connect;
use crate::failure::{Failure, PRIVACY_REQUIRED};
use crate::journal::level_word;
use crate::login::arrival::Arrival;
use crate::login::auth::{self, Caller};
use crate::login::house::{House, Live};
use crate::login::session;
use crate::protocol::{LoginWay, PROTOCOLS};
use crate::witness::{MASK, Step, Trail, Witness};
use bytes::BytesMut;
use wire::dance::Introduction;
use wire::login::{Front, Goodbye, Login, LoginEvent, Terms};
use wire::secret::{Password, Secret};

/// Explains a login of a running Gatepost, or with `running` false of a house that was built from a configuration file alone.
///
/// # Errors
/// What was asked makes no sense here.
pub async fn login(house: &House, running: bool, ask: &Ask) -> Result<Explanation, Unanswerable> {
    let live = house.live.load_full();
    let trail = Trail::new(ask.password());
    let trail = if running { trail } else { trail.alone() };
    let outcome = {
        let rehearsal = Rehearsal::new(house, &live, ask, trail.witness())?;
        rehearsal.run(&trail).await?
    };
    let steps = trail.into_steps();
    let held = steps.iter().filter(|step| step.step == "hold").filter_map(|step| step.data.get("seconds")?.as_f64());
    let outcome = Outcome { waits: outcome.waits + held.sum::<f64>(), ..outcome };
    Ok(Explanation { version: VERSION, running, steps, outcome })
}

struct Rehearsal<'a> {
    coming: Coming<'a>,
    ask: &'a Ask,
    /// The listener's protocol's way.
    way: &'static LoginWay,
}

impl<'a> Rehearsal<'a> {
    fn new(house: &'a House, live: &'a Live, ask: &'a Ask, witness: Witness<'a>) -> Result<Rehearsal<'a>, Unanswerable> {
        if ask.user.is_empty() || ask.user.bytes().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return Err(Unanswerable("no client can say this user name: it is empty, or holds CR, LF or NUL".to_owned()));
        }
        let usual = || PROTOCOLS.first().filter(|_| ask.listener.is_none()).map(|first| first.name);
        let door = choose(&house.doors.load_full(), ask.protocol.as_deref().or_else(usual), ask.listener.as_ref())?;
        let Some(way) = door.protocol.login() else {
            let text = format!("nobody signs in by {}: ask with explain rcpt ADDRESS", door.protocol.name);
            return Err(Unanswerable(text));
        };
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
        Ok(Rehearsal { coming: Coming::new(house, live, how, door, witness)?, ask, way })
    }

    async fn run(&self, trail: &Trail) -> Result<Outcome, Unanswerable> {
        let (mut arrival, mut front) = match self.arrive() {
            Ok(arrived) => arrived,
            Err(outcome) => return Ok(*outcome),
        };
        // In the place of a password that was not given: no database sees it, and no backend.
        let password = trail.password().cloned().unwrap_or_else(|| Secret::new(MASK.as_bytes().to_vec()));
        let login = match self.converse(&mut arrival, &mut *front, password)? {
            Ok(login) => login,
            Err(outcome) => return Ok(*outcome),
        };
        Ok(self.decide(&arrival, &mut *front, &login).await)
    }

    /// From accept to the greeting.
    fn arrive(&self) -> Passage<(Arrival, Box<dyn Front>)> {
        let Coming { house, live, witness, door, .. } = &self.coming;
        let arrival = self.coming.arrive()?;
        let settings = (door.protocol.settings)(&live.meant);
        let terms = arrival.terms(door, live, &settings, || house.learnt.common(door.protocol));
        witness.saw(|| seen::terms(door, &arrival, &terms));
        let allowed = terms.password_allowed;
        let front = |terms| (self.way.front)(terms, &live.meant.limits);
        let permissive = Terms { password_allowed: true, ..terms.clone() };
        let mut front_here = front(terms);
        if !allowed {
            let password = Secret::new(MASK.as_bytes().to_vec());
            return Err(Box::new(match self.client(password, None).in_clear(&mut *front_here, &mut *front(permissive)) {
                Ok(heard) => Outcome::in_clear(&heard),
                Err(why) => Outcome::closed(PRIVACY_REQUIRED, why, &[]),
            }));
        }
        Ok((arrival, front_here))
    }

    /// The dialogue up to the login.
    fn converse(&self, arrival: &mut Arrival, front: &mut dyn Front, password: Password) -> Result<Passage<Login>, Unanswerable> {
        let (ask, Coming { witness, door, from, via, live, .. }) = (self.ask, &self.coming);
        let introduction = match via {
            Some(_) => {
                let forward = self.coming.forwarded()?;
                Some(Introduction { forward, ..self.coming.introduction(arrival) })
            }
            None => None,
        };
        let client = self.client(password, introduction);
        let mut conversation: Conversation = client.greeted(front);
        loop {
            match conversation.go_on(front) {
                Said::Event(LoginEvent::Said(said)) => {
                    arrival.hear(*said);
                    if let Err(mut outcome) = self.coming.knock(arrival.origin.client.0.ip(), arrival.knocks(live), &[]) {
                        let mut words = BytesMut::new();
                        front.goodbye(Goodbye::TooManyConnections, &mut words);
                        outcome.hears(&words);
                        return Ok(Err(outcome));
                    }
                }
                Said::Event(LoginEvent::Login(login)) => {
                    witness.saw(|| seen::identity(arrival, *via, *from));
                    let name = login.mechanism.name();
                    witness.saw(|| {
                        let how = if witness.supposes_password() {
                            "no password is given"
                        } else {
                            "with a password, which is checked"
                        };
                        Step::new("login", format!("{:?} signs in by {name}, {how}", login.user))
                            .with("user", &*login.user)
                            .with("mechanism", name)
                            .with("password", !witness.supposes_password())
                    });
                    return Ok(Ok(login));
                }
                Said::Event(LoginEvent::Unspeakable { why, mechanism, .. }) => {
                    let failure = Failure::credentials(why);
                    witness.saw(|| {
                        Step::new("login", format!("no database is asked: {why}"))
                            .with("mechanism", mechanism.name())
                            .with("refused", why)
                    });
                    return Ok(Err(Box::new(self.refused(arrival, front, &failure, 0.0))));
                }
                Said::Event(_) => return Err(Unanswerable("the front expects something else than a login".to_owned())),
                Said::Fault(rule, detail, words) => return Ok(Err(Box::new(Outcome::closed(rule, detail, &words)))),
                Said::Bad(heard) => return Ok(Err(Box::new(Outcome::bad_command(&heard)))),
                Said::Stuck(why) => {
                    return Err(Unanswerable(format!(
                        "a client of {} cannot say this login ({}): {why}",
                        door.name(),
                        ask.mechanism.words()
                    )));
                }
            }
        }
    }

    /// From the login to the backend's door.
    async fn decide(&self, arrival: &Arrival, front: &mut dyn Front, login: &Login) -> Outcome {
        let Coming { house, live, witness, door, .. } = &self.coming;
        let limits = &live.meant.limits;
        let client = arrival.origin.client.0.ip();
        let exempt = arrival.exempt(live);
        let mut waits = 0.0;
        if witness.knows_the_house() {
            let delay = if exempt { std::time::Duration::ZERO } else { house.guard.delay(client, limits.guesses) };
            waits = delay.as_secs_f64();
            witness.saw(|| {
                let text = match (exempt, delay.is_zero()) {
                    (true, _) => "no delay for guesses: exempt".to_owned(),
                    (false, true) => format!(
                        "no delay: at most {} failed logins from the network of {client} (limits.guesses)",
                        limits.guesses
                    ),
                    (false, false) => {
                        format!(
                            "the login waits {waits} s: more than {} failed from the network of {client} (limits.guesses)",
                            limits.guesses
                        )
                    }
                };
                Step::new("guesses", text).with("free", limits.guesses).with("delay", waits).with("exempt", exempt)
            });
        }
        let client_id = front.client_id().to_vec();
        let mut origin = arrival.origin.clone();
        if let Some(helo) = front.helo() {
            origin.called_itself(helo);
        }
        let caller = Caller {
            protocol: door.protocol,
            way: self.way,
            origin: &origin,
            entry: None,
            protected: arrival.protected(),
            exempt,
            client_id: &client_id,
            witness: *witness,
        };
        let ready = match auth::ready(house, live, &caller, login).await {
            Ok(ready) => ready,
            Err(failure) => return self.refused(arrival, front, &failure, waits),
        };
        let route = &ready.route;
        let introduction = || ready.introduction(&caller);
        let credentials = || Some(ready.credentials(login.password.as_ref()));
        let said = connect::Words { dialect: self.way.dialect, introduction: &introduction, sign_in: &credentials };
        let call = match connect::foresee(&ready.means, route, &ready.addresses, &said) {
            Ok(call) => call,
            Err(failure) => return self.refused(arrival, front, &failure.quick(route.quick), waits),
        };
        let heard = words::of(&ready, &caller, limits);
        let header = seen::header_in_words(&call.header);
        witness.saw(|| words::step(&heard, &ready, header));
        if let Some(stumble) = heard.stumble {
            let failure = Failure::stumble(stumble, false).quick(route.quick);
            return self.refused(arrival, front, &failure, waits);
        }
        let whose = words::whose_password(route);
        let name = if route.user == ready.user { String::new() } else { format!(" as {:?}", route.user) };
        let master = route.master.as_ref().map(|master| format!(", by master {master:?}")).unwrap_or_default();
        Outcome {
            verdict: Verdict::SignsIn,
            text: format!("would sign {:?} in at {}{name}{master}", ready.user, call.address),
            backend: Some(call.address.to_string()),
            host: Some(route.host.clone()),
            user: Some(ready.user.clone()),
            destuser: Some(route.user.clone()),
            master: route.master.clone(),
            password: whose,
            mechanism: Some(login.mechanism.name()),
            database: Some(route.database.clone()),
            tls: Some(crate::login::seen::tls(route.secure)),
            identity: Some(if route.introduce { "told" } else { "not-told" }),
            waits,
            ..Outcome::default()
        }
    }

    /// What becomes of a failure: told by the one place that decides what a client may hear.
    fn refused(&self, arrival: &Arrival, front: &mut dyn Front, failure: &Failure, waits: f64) -> Outcome {
        let limits = &self.coming.live.meant.limits;
        let mut heard = BytesMut::new();
        front.refuse(&session::refusal(failure, limits), &mut heard);
        let guess = failure.counts_as_guess();
        if guess && limits.failed_logins <= 1 {
            front.goodbye(Goodbye::TooManyFailures, &mut heard);
        }
        let mut outcome = Outcome::refused(failure, &heard);
        outcome.guess &= !arrival.exempt(self.coming.live);
        outcome.waits = waits;
        if guess && !failure.quick {
            outcome.waits += limits.failed_login_pause.as_secs_f64();
        }
        self.coming.witness.saw(|| {
            let (_, loud) = failure.refusal();
            Step::new("refusal", format!("{}: journalled as {}", failure.kind.word(), level_word(loud)))
                .with("reason", failure.kind.word())
                .with("side", failure.side.word())
                .with("level", level_word(loud))
        });
        outcome
    }

    fn client(&self, password: Password, introduction: Option<Introduction>) -> Client<'_> {
        let mechanism = self.ask.mechanism.mechanism();
        let helo = self.coming.helo();
        Client { way: self.way, user: &self.ask.user, password, mechanism, helo, introduction }
    }
}
