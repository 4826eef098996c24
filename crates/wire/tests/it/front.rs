//! Plays `transcripts/PROTOCOL/front-*.txt` on the front of each protocol.
//!
//! Notes that set the scene, at the top: `= terms` with the flags `starttls password trusted vouch exim retain` and the values
//! `capability greeting server id.NAME`; `= caps` with `line bad commands` and what the protocol has of its own (IMAP `literal
//! literals`, POP3 and Submission `sasl`, ManageSieve `quoted literal`); `= whole`: each scene at once only, because it is about
//! octets that arrive together.
//!
//! Notes that the driver acts on: `= do welcome|refuse|secured|still-here|goodbye|capability`; notes that it looks at
//! itself: `= left octets=...` (what waits unread; without it nothing may), `= state NAME`, `= client-id NAME=VALUE ...`,
//! `= helo [name=NAME] [extended]`. Whatever stands behind such a note is only said when all before it was answered.
//! All others are events: `= login`, `= unspeakable`, `= said`, `= secure`, `= bye`, `= fault`.

use crate::script::{Feeding, Scene, Script, Seen, note, push, text, words};
use crate::spoken::{IMAP, POP3, SIEVE, SUBMISSION, Spoken};
use bytes::BytesMut;
use std::fmt::Display;
use testkit::transcript::{Note, Side};
use wire::login::{Front, Goodbye, LoginEvent, Mechanism, Referral, Refusal, Terms, Welcome};
use wire::machine::Step;
use wire::origin::Told;

#[test]
fn imap_transcripts_play_in_every_chunking() {
    play_all(&IMAP, 50);
}

#[test]
fn pop3_transcripts_play_in_every_chunking() {
    play_all(&POP3, 50);
}

#[test]
fn managesieve_transcripts_play_in_every_chunking() {
    play_all(&SIEVE, 50);
}

#[test]
fn submission_transcripts_play_in_every_chunking() {
    play_all(&SUBMISSION, 55);
}

fn play_all(spoken: &Spoken, least: usize) {
    let scripts = Script::all(spoken.name, "front-", is_driver_note);
    assert!(scripts.len() >= least, "transcripts are missing: {}", scripts.len());
    let mut failed = Vec::new();
    for script in scripts {
        let at_once = script.scenes.iter().any(|scene| scene.ends_with.as_ref().is_some_and(|note| note.verb == "whole"));
        let feedings = if at_once { vec![Feeding::Whole] } else { script.feedings(Side::Client) };
        for feeding in feedings {
            // One failure must not hide the other files; what differs has been printed by then.
            if std::panic::catch_unwind(|| play(spoken, &script, feeding)).is_err() {
                failed.push(script.name.clone());
                break;
            }
        }
    }
    assert!(failed.is_empty(), "these did not play: {failed:?}");
}

fn is_driver_note(verb: &str) -> bool {
    matches!(verb, "terms" | "caps" | "whole" | "do" | "left" | "state" | "client-id" | "helo")
}

/// One play of one transcript.
struct Stage {
    front: Box<dyn Front>,
    input: BytesMut,
    /// What the client has said and the driver has not read, because it was not its turn.
    unread: Vec<u8>,
    /// Whether the machine may be stepped.
    turn: bool,
    /// A fault or a welcome: what waits is no concern of the front any more.
    over: bool,
    log: Vec<Seen>,
}

fn play(spoken: &Spoken, script: &Script, feeding: Feeding) {
    let at = |index: usize| format!("{}, scene {index}, fed {feeding:?}", script.name);
    let (mut terms, mut caps) = (None, None);
    let mut stage: Option<Stage> = None;
    for (index, scene) in script.scenes.iter().enumerate() {
        if let Some(said) = scene.ends_with.as_ref().filter(|note| matches!(note.verb.as_str(), "terms" | "caps" | "whole")) {
            assert!(stage.is_none() && scene.entries.is_empty(), "{}: terms and caps stand at the top", at(index));
            match said.verb.as_str() {
                "terms" => terms = Some(terms_of(said)),
                "whole" => {}
                _ => caps = Some(said),
            }
            continue;
        }
        let stage = stage.get_or_insert_with(|| Stage::open((spoken.front)(terms.clone().expect("= terms"), caps)));
        stage.play(scene, index, feeding, &at(index));
        match &scene.ends_with {
            Some(note) => stage.direct(note, &at(index)),
            None => stage.nothing_waits(&at(index)),
        }
    }
}

impl Stage {
    fn open(front: Box<dyn Front>) -> Stage {
        let mut stage = Stage { front, input: BytesMut::new(), unread: Vec::new(), turn: true, over: false, log: Vec::new() };
        let mut out = BytesMut::new();
        stage.front.greet(&mut out);
        push(&mut stage.log, Seen::Heard(text(&out)));
        stage
    }

    fn play(&mut self, scene: &Scene, index: usize, feeding: Feeding, at: &str) {
        self.run();
        for (octets, written) in scene.pieces(Side::Client, feeding, index) {
            if self.turn {
                self.input.extend_from_slice(&octets);
                self.run();
            } else {
                self.unread.extend_from_slice(&octets);
            }
            if let Some(entries) = written {
                assert_eq!(self.log, scene.expected(Side::Client, entries), "{at}, after {entries} entries");
            }
        }
        assert_eq!(self.log, scene.expected(Side::Client, usize::MAX), "{at}");
        self.log.clear();
    }

    fn run(&mut self) {
        while self.turn {
            let mut out = BytesMut::new();
            let step = self.front.step(&mut self.input, &mut out);
            push(&mut self.log, Seen::Heard(text(&out)));
            match step {
                Ok(Step::NeedInput) => return,
                Ok(Step::Event(event)) => {
                    self.turn = matches!(event, LoginEvent::Said(_) | LoginEvent::InClear { .. });
                    self.over = matches!(event, LoginEvent::Bye | LoginEvent::HangUp);
                    push(&mut self.log, Seen::Event(seen(&event)));
                }
                Err(fault) => {
                    (self.turn, self.over) = (false, true);
                    let blame = format!("{:?}", fault.blame).to_lowercase();
                    push(&mut self.log, Seen::Event(words("fault", vec![(blame, None), (fault.rule.to_owned(), None)])));
                }
            }
        }
    }

    fn waiting(&self) -> Vec<u8> {
        [&self.input[..], &self.unread].concat()
    }

    fn nothing_waits(&self, at: &str) {
        assert!(self.over || self.waiting().is_empty(), "{at}: left unread: {}", text(&self.waiting()));
    }

    /// Does what the driver is told to do. What it makes the front say is expected at the start of the next scene.
    fn direct(&mut self, note: &Note, at: &str) {
        let first = note.words.first().map(|word| word.name.as_str()).unwrap_or_default();
        match (note.verb.as_str(), first) {
            ("left", "octets") => {
                assert_eq!(text(&self.waiting()), text(note.value("octets").unwrap_or_default()), "{at}");
                // Said and seen: it is no surprise at the end.
                self.input.clear();
                self.unread.clear();
                return;
            }
            ("state", name) => return assert_eq!(self.front.state(), name, "{at}"),
            ("helo", _) => {
                let mut said = Vec::new();
                if let Some(helo) = self.front.helo() {
                    said.push(("name".to_owned(), Some(helo.name.into_bytes())));
                    said.extend(helo.extended.then(|| ("extended".to_owned(), None)));
                }
                return assert_eq!(words("helo", said), crate::script::note(note), "{at}");
            }
            ("client-id", _) => {
                let kept = self.front.client_id().iter();
                let kept = kept.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.clone())).collect();
                return assert_eq!(words("client-id", kept), crate::script::note(note), "{at}");
            }
            _ => {}
        }
        let mut out = BytesMut::new();
        let said = |name: &str| note.value(name).map(|value| String::from_utf8(value.to_vec()).expect("UTF-8"));
        match first {
            "welcome" => {
                let aside = note.words.iter().filter(|word| word.name == "aside").filter_map(|word| word.value.clone());
                let welcome =
                    Welcome { text: said("text").unwrap_or_default(), capability: said("capability"), aside: aside.collect() };
                self.front.welcome(&welcome, &mut out);
                self.over = true;
            }
            "refuse" => {
                self.front.refuse(&refusal_of(note), &mut out);
                self.turn = true;
            }
            "secured" => {
                self.nothing_waits(at);
                self.front.secured(terms_of(note));
                self.turn = true;
            }
            "forget-identity" => self.front.forget_identity(),
            "still-here" => self.front.still_here(&mut out),
            "goodbye" => {
                self.front.goodbye(goodbye_of(note), &mut out);
                (self.turn, self.over) = (false, true);
            }
            _ => panic!("{at}: unknown direction {}", crate::script::note(note)),
        }
        if self.turn {
            self.input.extend_from_slice(&std::mem::take(&mut self.unread));
        }
        push(&mut self.log, Seen::Heard(text(&out)));
    }
}

/// An event in the words of a transcript.
fn seen(event: &LoginEvent) -> String {
    let mut said: Vec<(String, Option<Vec<u8>>)> = Vec::new();
    let mut add = |name: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            said.push((name.to_owned(), Some(value.to_string().into_bytes())));
        }
    };
    let verb = match event {
        LoginEvent::InClear { exposed: true } => "in-clear exposed",
        LoginEvent::InClear { exposed: false } => "in-clear",
        LoginEvent::Secure => "secure",
        LoginEvent::Bye => "bye",
        LoginEvent::HangUp => "hang-up",
        LoginEvent::Login(login) => {
            add("user", Some(&login.user));
            add("authzid", login.authzid.as_ref().map(|name| name as _));
            add("mechanism", Some(&format!("{:?}", login.mechanism).to_lowercase()));
            if let Some(password) = &login.password {
                said.push(("password".to_owned(), Some(password.expose().clone())));
            }
            "login"
        }
        LoginEvent::Unspeakable { user, mechanism, why } => {
            add("user", Some(user));
            add("mechanism", Some(&format!("{mechanism:?}").to_lowercase()));
            add("why", Some(why));
            "unspeakable"
        }
        LoginEvent::Said(update) => {
            add("client_ip", update.client_ip.as_ref().map(|value| value as _));
            add("client_port", update.client_port.as_ref().map(|value| value as _));
            add("reached_ip", update.reached_ip.as_ref().map(|value| value as _));
            add("reached_port", update.reached_port.as_ref().map(|value| value as _));
            add("reached_name", update.reached_name.as_ref().map(|value| value as _));
            for (name, told) in [
                ("host_name", &update.host_name),
                ("reverse_name", &update.reverse_name),
                ("helo", &update.helo),
                ("vouched", &update.user),
            ] {
                add(name, told.as_ref().map(told_word).as_ref().map(|word| word as _));
            }
            add("spoke", update.spoke.map(|spoke| spoke.as_str()).as_ref().map(|value| value as _));
            add("patience", update.patience.map(|time| time.as_secs()).as_ref().map(|value| value as _));
            add("session", update.session.as_ref().map(|value| value as _));
            add("hops", update.hops.map(|hops| hops.get()).as_ref().map(|value| value as _));
            add("transport", update.transport.map(|transport| transport.as_str()).as_ref().map(|value| value as _));
            for field in &update.forward {
                add(&format!("forward.{}", field.name), Some(&field.value));
            }
            "said"
        }
    };
    words(verb, said)
}

fn terms_of(note: &Note) -> Terms {
    let mut terms = Terms {
        starttls: false,
        password_allowed: false,
        trusted: false,
        may_vouch: false,
        xclient_as_exim: false,
        server: "mail.example.com".into(),
        capability: String::new(),
        greeting: "Ready.".to_owned(),
        server_id: Vec::new(),
        retain_client_id: false,
    };
    for word in &note.words {
        let value = || String::from_utf8(word.value.clone().expect("a value")).expect("UTF-8");
        match word.name.as_str() {
            "secured" if note.verb == "do" => {}
            "starttls" => terms.starttls = true,
            "password" => terms.password_allowed = true,
            "trusted" => terms.trusted = true,
            "vouch" => terms.may_vouch = true,
            "exim" => terms.xclient_as_exim = true,
            "server" => terms.server = value(),
            "retain" => terms.retain_client_id = true,
            "capability" => terms.capability = value(),
            "greeting" => terms.greeting = value(),
            name => match name.strip_prefix("id.") {
                Some(name) => terms.server_id.push((name.to_owned(), value())),
                None => panic!("unknown term {name}"),
            },
        }
    }
    terms
}

fn refusal_of(note: &Note) -> Refusal {
    let text = note.value("text").map(|value| String::from_utf8(value.to_vec()).expect("UTF-8"));
    match note.words.get(1).map(|word| word.name.as_str()) {
        Some("wrong-credentials") => Refusal::WrongCredentials,
        Some("not-authorized") => Refusal::NotAuthorized,
        Some("unavailable") => Refusal::Unavailable { text },
        Some("looping") => Refusal::Looping,
        Some("limit") => Refusal::Limit { text },
        Some("in-use") => Refusal::InUse { text },
        Some("contact-admin") => Refusal::ContactAdmin { text },
        Some("expired") => Refusal::Expired { text },
        Some("alert") => Refusal::Alert { text: text.expect("a text") },
        Some("referral") => {
            let said = |name| String::from_utf8(note.value(name).expect(name).to_vec()).expect("UTF-8");
            let port = said("port").parse().expect("a port");
            Refusal::Referral(Referral { user: said("user"), mechanism: Mechanism::Command, host: said("host"), port, text })
        }
        _ => panic!("unknown refusal {}", crate::script::note(note)),
    }
}

fn goodbye_of(said: &Note) -> Goodbye {
    match said.words.get(1).map(|word| word.name.as_str()) {
        Some("login-timeout") => Goodbye::LoginTimeout,
        Some("idle") => Goodbye::Idle,
        Some("too-many-failures") => Goodbye::TooManyFailures,
        Some("shutting-down") => Goodbye::ShuttingDown,
        _ => panic!("unknown goodbye {}", note(said)),
    }
}

/// As scenes spell it: what is not known in brackets.
fn told_word(told: &Told) -> String {
    match told {
        Told::Known(word) => word.to_string(),
        Told::Unavailable => "[unavailable]".to_owned(),
        Told::TemporarilyUnavailable => "[tempunavail]".to_owned(),
    }
}
