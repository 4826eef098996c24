//! One dialogue that may be followed: what was said and decided, kept until it is known whose it is, and handed on.
//!
//! Nothing secret comes in: lines are made by the codecs, which mask what is secret because of what it is. The [`Censor`] takes
//! passwords out of words that others chose: answers of a backend, what we pass on of them, and what clients say of themselves.

use super::{Tracer, Tracers, Who};
use crate::config::listen_at::ListenAt;
use crate::journal::Word;
use crate::witness::{Ear, Known, MASK, Step, is_secret};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use wire::dance::SignIn;
use wire::overheard::{Censor, Line};

/// The most events that are kept of one dialogue, and how many octets they may have.
const PAST_MAX: (usize, usize) = (400, 64 << 10);
/// The most octets that are kept of all dialogues.
const PAST_OF_ALL_MAX: usize = 64 << 20;
/// The most octets of words in one event; a row or a query may be long.
const TEXT_MAX: usize = 4096;
/// The most lines and values of a step.
const MORE_MAX: usize = 100;

/// A dialogue that may be followed.
pub struct Tap {
    began: Instant,
    tracers: Arc<Tracers>,
    state: Mutex<State>,
}

struct State {
    who: Who,
    censor: Censor,
    past: VecDeque<Event>,
    octets: usize,
    /// Events that were kept no longer.
    forgotten: u64,
    /// Who follows it.
    followers: Vec<Arc<Tracer>>,
    relayed: bool,
    /// What is being done.
    doing: &'static str,
}

/// One thing that happened.
#[derive(Clone, Serialize)]
struct Event {
    event: &'static str,
    /// The connection's number on the roll.
    number: u64,
    /// Seconds since the dialogue was first seen.
    at: f64,
    #[serde(flatten)]
    what: What,
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum What {
    Begin {
        protocol: &'static str,
        listener: ListenAt,
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<SocketAddr>,
        session: String,
        time: String,
        under_way: bool,
    },
    Line {
        from: &'static str,
        to: &'static str,
        text: String,
        #[serde(skip)]
        free: bool,
    },
    Step(Step),
    State {
        state: &'static str,
    },
    LeftOut {
        events: u64,
    },
    End {
        relayed: bool,
        text: &'static str,
    },
}

impl Tap {
    /// A dialogue; `under_way`: it began before somebody traced.
    pub fn new(tracers: &Arc<Tracers>, who: Who, under_way: bool) -> Tap {
        let begin = What::Begin {
            protocol: who.protocol,
            listener: who.listener.clone(),
            client: who.clients.last().copied(),
            session: who.sessions.last().map(ToString::to_string).unwrap_or_default(),
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            under_way,
        };
        let state = State {
            who,
            censor: Censor::default(),
            past: VecDeque::new(),
            octets: 0,
            forgotten: 0,
            followers: Vec::new(),
            relayed: false,
            doing: "talking",
        };
        let tap = Tap { began: Instant::now(), tracers: Arc::clone(tracers), state: Mutex::new(state) };
        tap.add(vec![("begin", begin)]);
        tap
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client and we said.
    pub fn client_said(&self, lines: Vec<Line>) {
        self.lines(lines, "client");
    }

    fn lines(&self, lines: Vec<Line>, peer: &'static str) {
        for user in lines.iter().filter_map(|line| line.user.as_deref()) {
            self.learn(&Known::User(user));
        }
        let events = lines.into_iter().map(|line| {
            let (from, to) = if line.from_peer { (peer, "gatepost") } else { ("gatepost", peer) };
            ("line", What::Line { from, to, text: line.text, free: line.free })
        });
        self.add(events.collect());
    }

    /// A password that is about to be used, and the names that go with it.
    pub fn keeps(&self, names: &[&str], password: &[u8]) {
        let mut state = self.state();
        state.censor.add(password);
        for name in names {
            state.censor.name(name);
        }
    }

    /// Something becomes known.
    pub fn learn(&self, known: &Known<'_>) {
        {
            let mut state = self.state();
            let State { who, censor, .. } = &mut *state;
            match known {
                Known::User(name) => {
                    censor.name(name);
                    Who::add(&mut who.users, Box::from(*name));
                }
                Known::Client(client, session) => {
                    Who::add(&mut who.clients, *client);
                    Who::add(&mut who.sessions, Box::from(*session));
                }
                Known::Backend(at, host) => Who::add(&mut who.backends, (*at, Box::from(*host))),
            }
        }
        self.add(Vec::new());
    }

    /// What is being done now.
    pub fn is_now(&self, state: &'static str) {
        if std::mem::replace(&mut self.state().doing, state) == state {
            return;
        }
        self.add(vec![("state", What::State { state })]);
    }

    /// The user is in; from here on nothing is seen.
    pub fn relayed(&self) {
        self.state().relayed = true;
        self.is_now("relayed");
    }

    /// What the journal says of it.
    pub fn journal(&self, event: &'static str, words: &[(&str, Word<'_>)]) {
        let mut data = Map::new();
        let mut text = String::new();
        for (name, word) in words {
            let value = match word {
                Word::Dovecot(_) => continue,
                Word::Text(text) => Value::from(text.to_string()),
                Word::Number(number) => Value::from(*number),
                Word::Seconds(time) => Value::from(time.as_secs_f64()),
            };
            match (*name, value) {
                ("text", Value::String(said)) => text = said,
                (name, value) => {
                    data.insert(name.to_owned(), value);
                }
            }
        }
        if text.is_empty() {
            let word = |(name, value): (&String, &Value)| match value {
                Value::String(text) => format!("{name}={text}"),
                other => format!("{name}={other}"),
            };
            text = data.iter().filter(|(name, _)| !ALWAYS.contains(&name.as_str())).map(word).collect::<Vec<_>>().join(" ");
        } else if let Some(Value::String(reason)) = data.get("reason") {
            text = format!("{reason}: {text}");
        }
        self.hear(Step { step: event, text, more: Vec::new(), data });
    }

    /// Tells those who follow, and keeps it for those who may yet.
    fn add(&self, events: Vec<(&'static str, What)>) {
        let tracers = self.tracers.all();
        let mut state = self.state();
        let state = &mut *state;
        state.followers.retain(|follower| tracers.iter().any(|tracer| tracer.number == follower.number));
        for tracer in tracers {
            if state.followers.iter().all(|follower| follower.number != tracer.number) && tracer.wanted.is(&state.who) {
                for event in &state.past {
                    tracer.queue.push(&spelled(event, &state.censor));
                }
                if state.forgotten > 0 {
                    let event = self.event(state, "left-out", What::LeftOut { events: state.forgotten });
                    tracer.queue.push(&spelled(&event, &state.censor));
                }
                state.followers.push(tracer);
            }
        }
        for (name, what) in events {
            let event = self.event(state, name, what);
            let line = spelled(&event, &state.censor);
            for follower in &state.followers {
                follower.queue.push(&line);
            }
            let octets = line.len();
            let room = state.past.len() < PAST_MAX.0 && state.octets.saturating_add(octets) <= PAST_MAX.1;
            if room && self.tracers.kept.load(Ordering::Relaxed).saturating_add(octets) <= PAST_OF_ALL_MAX {
                self.tracers.kept.fetch_add(octets, Ordering::Relaxed);
                state.octets = state.octets.saturating_add(octets);
                state.past.push_back(event);
            } else {
                state.forgotten = state.forgotten.saturating_add(1);
            }
        }
    }

    fn event(&self, state: &State, event: &'static str, what: What) -> Event {
        Event { event, number: state.who.number, at: self.began.elapsed().as_secs_f64(), what }
    }
}

/// Words that every line of the journal has.
const ALWAYS: [&str; 5] = ["protocol", "user", "client", "via", "session"];

impl Ear for Tap {
    fn hear(&self, step: Step) {
        self.add(vec![("step", What::Step(step))]);
    }

    /// `***` for what a name says is secret, and for what holds a password.
    fn shown(&self, name: &str, value: &str) -> String {
        if value.is_empty() {
            return String::new();
        }
        if is_secret(name) { MASK.to_owned() } else { self.state().censor.value(value) }
    }

    fn listens(&self) -> bool {
        true
    }

    fn backend_said(&self, lines: Vec<Line>) {
        self.lines(lines, "backend");
    }

    fn keeps(&self, sign_in: &SignIn) {
        let names: Vec<&str> = std::iter::once(sign_in.user.as_str()).chain(sign_in.master.as_deref()).collect();
        Tap::keeps(self, &names, sign_in.password.expose());
    }

    fn learn(&self, known: &Known<'_>) {
        Tap::learn(self, known);
    }

    fn is_now(&self, state: &'static str) {
        Tap::is_now(self, state);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let relayed = self.state().relayed;
        let text = if relayed { "relayed from here on: what follows is not looked at" } else { "the connection is over" };
        self.add(vec![("end", What::End { relayed, text })]);
        let octets = self.state().octets;
        self.tracers.kept.fetch_sub(octets, Ordering::Relaxed);
    }
}

/// An event as a line of JSON.
fn spelled(event: &Event, censor: &Censor) -> Bytes {
    let mut event = event.clone();
    match &mut event.what {
        What::Line { text, free: true, .. } => *text = censor.shown(std::mem::take(text)),
        What::Step(step) => clean(step, censor),
        _ => {}
    }
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    line.push(b'\n');
    Bytes::from(line)
}

/// A step may quote what a backend said, and a row or a query may be long.
fn clean(step: &mut Step, censor: &Censor) {
    let quotes = matches!(step.step, "failed" | "refused" | "disconnect" | "login" | "identity" | "id");
    let clean = |text: &mut String| {
        if quotes {
            *text = censor.shown(std::mem::take(text));
        }
        if text.len() > TEXT_MAX {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            text.push_str("...");
        }
    };
    clean(&mut step.text);
    step.more.truncate(MORE_MAX);
    step.more.iter_mut().for_each(clean);
    if serde_json::to_vec(&step.data).map_or(0, |data| data.len()) > 4 * TEXT_MAX {
        step.data = Map::new();
    }
    if quotes {
        for (_, value) in step.data.iter_mut() {
            if let Value::String(text) = value {
                clean(text);
            }
        }
    }
}
