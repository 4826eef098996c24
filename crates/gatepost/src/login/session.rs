//! One session of the login way, read from top to bottom: accept, dialogue, relay, end.
//!
//! The *dialogue* lasts seconds and may be comfortable: buffers, a front, TLS handshakes, lookups. It is a future of its own
//! and gone, with all it held, before the *relay* begins, which lasts for hours and must be small.

use super::auth::Admitted;
use super::guard::Knock;
use super::house::{Door, House, Phase, Seat};
use super::record::{LoginWords, Moved, Record, Shielding};
use super::relayed::{LAST_WORDS, SignedIn};
use super::seen;
use super::talk::{KICKED, READ, STRESSED, Talk, kicked_in_vain};
use crate::backend::health::Place;
use crate::config::meant::{Limits, ListenTls};
use crate::failure::{Failure, Kind, PRIVACY_REQUIRED};
use crate::journal::Level;
use crate::protocol::LoginWay;
use crate::witness::{Ear, Known};
use bytes::BytesMut;
use relay::Socket;
use relay::clock::Clock;
use relay::pump::Early;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use wire::login::{Front, Goodbye, Login, LoginEvent, Refusal};
use wire::machine::Step;

/// How often a silent stranger's patience is looked at.
const STRESS_LOOK: Duration = Duration::from_secs(2);
/// Serves one accepted connection to its end.
pub fn serve(
    way: &'static LoginWay,
    socket: Socket,
    door: Arc<Door>,
    house: Arc<House>,
    clock: Clock,
    knock: Knock,
    mut seat: Seat,
) -> impl Future<Output = ()> + Send {
    // Boxed, so that the task does not keep room for the dialogue during the hours of the relay. And a block: the arguments of
    // an `async fn` are kept beside the places that they are moved to.
    let greeted = (Arc::clone(&door), Arc::clone(&house));
    let dialogue: Dialogue = Box::pin(async move { dialogue(way, socket, &greeted.0, &greeted.1, &clock, knock).await });
    async move {
        let Some(signed_in) = dialogue.await else { return };
        seat.signed_in();
        let relay = signed_in.relay(door.protocol, &house);
        relay.await;
    }
}

type Dialogue = Pin<Box<dyn Future<Output = Option<SignedIn>> + Send>>;

async fn dialogue(
    way: &'static LoginWay,
    socket: Socket,
    door: &Door,
    house: &House,
    clock: &Clock,
    knock: Knock,
) -> Option<SignedIn> {
    let live = house.live.load_full();
    let (mut talk, patience) = Talk::begin(socket, door, house, &live, clock, knock)?;
    let entry = Arc::clone(&talk.entry);
    let signed_in = tokio::select! {
        biased;
        signed_in = talk.run(way, Instant::now() + patience) => signed_in,
        () = kicked_in_vain(&entry) => {
            talk.part();
            None
        }
    };
    if signed_in.is_none() && talk.record.user.is_empty() {
        talk.count_end();
    }
    signed_in
}

impl Talk<'_> {
    async fn run(&mut self, way: &'static LoginWay, mut deadline: Instant) -> Option<SignedIn> {
        let mut phase = self.house.phase.clone();
        let mut input = BytesMut::new();
        let mut out = BytesMut::new();
        self.arrive(deadline).await?;
        self.record.secured = self.secured();
        if let Some(tap) = &self.record.tap {
            tap.hear(seen::trust(&self.who, self.live));
        }
        if self.door.tls == ListenTls::Implicit {
            self.secure(&input, deadline).await?;
        }
        let settings = (self.door.protocol.settings)(&self.live.meant);
        let mut limits = self.live.meant.limits.clone();
        if self.stressed {
            limits.bad_commands = STRESSED.1;
        }
        let mut front = (way.front)(self.terms(&settings), &limits);
        let mut failed_logins = 0;
        let mut told_in_clear = false;
        let accepted = Instant::now();
        front.overhear(self.record.tap.is_some());
        front.greet(&mut out);
        loop {
            self.listen(&mut *front);
            let step = front.step(&mut input, &mut out);
            if let (Some(tap), Ok(Step::Event(LoginEvent::Login(login)))) = (&self.record.tap, &step) {
                // Before anything is shown: what the client said of itself may hold it.
                tap.keeps(&[&login.user], login.password.as_ref().map_or(&[], |password| password.expose()));
            }
            self.record.overhear(&mut *front, &out);
            self.unbelieved(front.unbelieved());
            let step = match step {
                Ok(step) => step,
                Err(fault) => {
                    self.record.left(&self.house.journal, Level::Info, fault.rule, &fault.detail);
                    self.last_words(&out).await;
                    return None;
                }
            };
            self.send(&mut out, deadline, front.state()).await?;
            match step {
                Step::NeedInput => {
                    let conn = self.conn.as_mut()?;
                    let look = Instant::now() + STRESS_LOOK;
                    let read = tokio::select! {
                        read = timeout_at(deadline.min(look), conn.read(&mut input, READ)) => Some(read),
                        () = Phase::Closing.reached(&mut phase) => None,
                        () = self.entry.kicked() => {
                            self.leave(&mut *front, Goodbye::Kicked, "kicked", KICKED.into()).await;
                            return None;
                        }
                    };
                    let Some(read) = read else {
                        self.leave(&mut *front, Goodbye::ShuttingDown, "shutting-down", "the server is going away".into()).await;
                        return None;
                    };
                    match read {
                        Ok(Ok(0)) => {
                            let state = front.state();
                            self.record.left(
                                &self.house.journal,
                                Level::Debug,
                                "closed",
                                &format_args!("the client left in state {state}"),
                            );
                            return None;
                        }
                        Ok(Ok(_)) => {}
                        Ok(Err(e)) => {
                            let state = front.state();
                            self.record.left(&self.house.journal, Level::Debug, "lost", &format_args!("{e}, state {state}"));
                            return None;
                        }
                        Err(_) if Instant::now() < deadline => {
                            // While strangers hold most of the seats, those that are here already lose their patience too.
                            if self.house.seats.stressed() {
                                deadline = deadline.min(accepted + STRESSED.0);
                            }
                        }
                        Err(_) => {
                            let state = front.state();
                            let text = format!("not signed in within login_timeout, state {state}");
                            self.leave(&mut *front, Goodbye::LoginTimeout, "login-timeout", text).await;
                            return None;
                        }
                    }
                }
                Step::Event(LoginEvent::Said(said)) => {
                    if self.who.hear(*said) {
                        self.told();
                        self.record.note(&self.house.journal, Level::Debug, "identity", &"a trusted peer said who is calling");
                        if !self.knock_for_client() {
                            let text = too_many_knocks(limits.connections_before_login);
                            self.leave(&mut *front, Goodbye::TooManyConnections, "limit", text).await;
                            return None;
                        }
                    }
                }
                Step::Event(LoginEvent::Secure) => {
                    if !input.is_empty() {
                        let text = "bytes behind STARTTLS, sent in clear: an injection, or a broken client";
                        self.record.left(&self.house.journal, Level::Warning, "starttls-injection", &text);
                        return None;
                    }
                    if !self.live.meant.trust.identity_before_tls {
                        self.who.forget();
                        self.told();
                        front.forget_identity();
                    }
                    self.secure(&input, deadline).await?;
                    front.secured(self.terms(&settings));
                }
                Step::Event(LoginEvent::Login(login)) => {
                    let began = Instant::now();
                    let failure = match self.sign_in(way, &login, &mut *front, &mut input).await? {
                        Ok(admitted) => return self.welcome(way, &login, admitted, &mut *front, input, began).await,
                        Err(failure) => failure,
                    };
                    self.house.metrics.refused(self.door.protocol.name, failure.kind.word(), Some(began.elapsed()));
                    let mechanism = login.mechanism.name();
                    self.record.refused(&self.house.journal, &login.user, mechanism, &failure, began.elapsed());
                    self.count_failure(&login.user, &failure);
                    drop(login);
                    self.entry.signing_in(None);
                    if let Some(tap) = &self.record.tap {
                        tap.is_now("talking");
                    }
                    self.refuse(&failure, &mut *front, &mut out, &mut failed_logins).await?;
                    // The time we made the client wait is ours, not its.
                    deadline += began.elapsed();
                }
                Step::Event(LoginEvent::Unspeakable { user, mechanism, why }) => {
                    let began = Instant::now();
                    self.known(&Known::User(&user));
                    let failure = Failure::credentials(why);
                    self.house.metrics.refused(self.door.protocol.name, failure.kind.word(), None);
                    self.record.refused(&self.house.journal, &user, mechanism.name(), &failure, Duration::ZERO);
                    self.count_failure(&user, &failure);
                    self.refuse(&failure, &mut *front, &mut out, &mut failed_logins).await?;
                    deadline += began.elapsed();
                }
                Step::Event(LoginEvent::InClear { exposed }) => {
                    // Once is enough: a client that cannot do TLS tries again and again.
                    if !std::mem::replace(&mut told_in_clear, true) {
                        self.house.metrics.refused(self.door.protocol.name, PRIVACY_REQUIRED, None);
                        self.record.in_clear(&self.house.journal, exposed);
                    }
                }
                Step::Event(LoginEvent::HangUp) => {
                    self.record.left(&self.house.journal, Level::Info, "hung-up", &"the answer to its login ends the connection");
                    self.last_words(&[]).await;
                    return None;
                }
                Step::Event(LoginEvent::Bye) => {
                    self.record.left(&self.house.journal, Level::Debug, "logout", &"the client took its leave before login");
                    self.last_words(&[]).await;
                    return None;
                }
            }
        }
    }

    fn count_failure(&self, user: &str, failure: &Failure) {
        self.house.failures.note(user, failure, self.door.protocol.name, self.who.origin.client.0.ip());
    }

    /// Answers a failed login. `None`: it was one too many.
    async fn refuse(&mut self, failure: &Failure, front: &mut dyn Front, out: &mut BytesMut, failed: &mut u32) -> Option<()> {
        let limits = &self.live.meant.limits;
        let refusal = refusal(failure, limits);
        if !failure.counts_as_guess() {
            front.refuse(&refusal, out);
            return Some(());
        }
        *failed += 1;
        if !failure.quick {
            if !self.who.exempt(self.live) {
                self.house.guard.guessed(self.who.origin.client.0.ip());
            }
            let mut phase = self.house.phase.clone();
            tokio::select! {
                () = sleep(limits.failed_login_pause) => {}
                () = Phase::Closing.reached(&mut phase) => {}
            }
        }
        front.refuse(&refusal, out);
        if *failed < limits.failed_logins {
            return Some(());
        }
        front.goodbye(Goodbye::TooManyFailures, out);
        self.record.overhear(front, out);
        self.record.left(&self.house.journal, Level::Info, "too-many-failures", &"limits.failed_logins is reached");
        self.last_words(out).await;
        None
    }

    /// The user is in: the client hears it, and what is left goes to the relay.
    async fn welcome(
        &mut self,
        way: &'static LoginWay,
        login: &Login,
        admitted: Admitted,
        front: &mut dyn Front,
        input: BytesMut,
        began: Instant,
    ) -> Option<SignedIn> {
        let Admitted { user, route, backend, entered } = admitted;
        let mut out = BytesMut::new();
        front.welcome(&backend.welcome, &mut out);
        self.record.user = user.into();
        self.record.backend = Some(backend.address);
        self.record.host = route.host.as_str().into();
        self.record.other_user = (route.user != *self.record.user).then(|| route.user.as_str().into());
        self.record.notes = route.notes.iter().filter(|(name, _)| name.starts_with("user_")).cloned().collect();
        self.record.client_tls = match &self.tls {
            Some(facts) => Some(Shielding::Here(facts.version, facts.cipher)),
            None => self.who.shielded.then_some(Shielding::InFront),
        };
        self.record.backend_tls = backend.tls.as_ref().map(|facts| (facts.version, facts.cipher));
        self.record.mechanism = login.mechanism.name();
        let chosen = route.source.is_some() || !self.live.meant.backend.source_ips.is_empty();
        let words = LoginWords {
            host: &route.host,
            destuser: &route.user,
            master: route.master.as_deref(),
            mechanism: login.mechanism.name(),
            database: &route.database,
            client_tls: self.tls.as_ref(),
            offloaded: self.who.shielded.then_some(self.who.origin.tls.as_deref()),
            source: chosen.then(|| backend.conn.local_addr().ip()),
            backend_tls: backend.tls.as_ref(),
            identity: backend.identity,
            retries: backend.retries,
            notes: &route.notes,
            took: began.elapsed(),
        };
        self.house.metrics.login(self.door.protocol.name, words.took);
        self.record.login(&self.house.journal, &words);
        self.record.overhear(front, &out);
        let by = Instant::now() + LAST_WORDS * 5;
        if self.send(&mut out, by, "welcome").await.is_none() {
            // Every login has its end.
            self.record.end(&self.house.journal, "client", &"gone before it heard that it is in", &Moved::default());
            return None;
        }
        if let Some(tap) = &self.record.tap {
            tap.relayed();
        }
        let settings = (self.door.protocol.settings)(&self.live.meant);
        let record = std::mem::replace(&mut self.record, Record::new(self.door.protocol.name, &self.who.origin));
        Some(SignedIn {
            client: self.conn.take()?,
            backend: backend.conn,
            early: Early { to_backend: input, to_client: backend.leftover },
            here: self.house.health.session(Place::new(backend.address, &route)),
            record: Arc::new(Record { since: std::time::Instant::now(), tap: None, helo: None, ..record }),
            entry: Arc::clone(&self.entry),
            idle: settings.idle_timeout,
            entered,
            way,
        })
    }

    /// We end it: says goodbye and writes it down.
    async fn leave(&mut self, front: &mut dyn Front, why: Goodbye, reason: &'static str, text: String) {
        let mut out = BytesMut::new();
        front.goodbye(why, &mut out);
        self.record.overhear(front, &out);
        self.record.left(&self.house.journal, Level::Info, reason, &text);
        self.last_words(&out).await;
    }
}

/// What the client may hear of a failure.
pub fn refusal(failure: &Failure, limits: &Limits) -> Refusal {
    match failure.kind {
        Kind::Limit => Refusal::Limit {
            text: Some(format!("Too many sessions of this user from your address (limit {})", limits.user_connections)),
        },
        _ => failure.refusal().0,
    }
}

pub(crate) fn too_many_knocks(limit: usize) -> String {
    format!("{limit} connections before login from here (limits.connections_before_login)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a task keeps for the hours of the relay, besides what both connections have elsewhere.
    #[test]
    fn a_session_is_small() {
        type Serve<F> = fn(&'static LoginWay, Socket, Arc<Door>, Arc<House>, Clock, Knock, Seat) -> F;
        fn size_of_future<F>(_: Serve<F>) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(serve);
        assert!(size <= 1280, "{size} octets");
    }
}
