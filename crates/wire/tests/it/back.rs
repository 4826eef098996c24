//! Plays the transcripts of backend logins (`PROTOCOL/back-*.txt`) against the dance: each one whole, split at every octet, and
//! octet by octet.
//!
//! Notes of these files, beside what the backend says (`B>`) and hears (`B<`):
//!
//! * `= plan user=.. password=.. [master=..] [mechanism=plain|login|command] [secure=starttls|implicit] [one_at_a_time]
//!   [introduce] [identity_continue] [noauth] [name=..] [helo=..] [patience=..] [forward=..] [client=..] [from=..]`: what is to
//!   be done; the first note;
//! * `= whole`: feed this file whole only, because it is about octets that arrive together;
//! * `= secure`, `= welcome [text=..] [capability=..] [aside=..]`, `= refused kind=.. text=..`, `= stumble kind=..
//!   [says=..]`: the events, in order; a word that is not there must not be there in the event either, but `says` is a part
//!   of the detail;
//! * `= rest text=..`: what is left in the input at the end; nothing where there is no such note;
//! * `= now [state=..] [learnt=..] [farewell=..] [identity_refused=..] [left_out=..] [introduced] [credentials_sent]`: what
//!   the dance tells of itself at this place.

use crate::spoken::{IMAP, POP3, SIEVE, SUBMISSION, Spoken};
use bytes::BytesMut;
use std::path::Path;
use std::time::Duration;
use testkit::transcript::{Entry, Note, Side, What, read};
use wire::dance::{Dance, DanceEvent, IdentityRefused, Introduction, Plan, Secure, SignIn};
use wire::login::{Helo, Mechanism};
use wire::machine::Step;
use wire::origin::{ClientAddr, ForwardField, HopsLeft, Origin, SessionId, Transport};
use wire::secret::Secret;

#[test]
fn imap_backend_transcripts() {
    play_all(&IMAP, 25);
}

#[test]
fn pop3_backend_transcripts() {
    play_all(&POP3, 70);
}

#[test]
fn managesieve_backend_transcripts() {
    play_all(&SIEVE, 90);
}

#[test]
fn submission_backend_transcripts() {
    play_all(&SUBMISSION, 80);
}

fn play_all(spoken: &Spoken, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(spoken.name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("back-"));
    files.sort();
    assert!(files.len() >= least, "transcripts are missing: {}", files.len());
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let entries = read(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|why| panic!("{name}: {why}"));
        let whole_only = entries.iter().any(|entry| matches!(&entry.what, What::Note(note) if note.verb == "whole"));
        let octets: usize =
            entries.iter().map(|entry| if let What::Says(Side::Backend, said) = &entry.what { said.len() } else { 0 }).sum();
        play(spoken, &format!("{name} whole"), &entries, &|_| false);
        if !whole_only {
            play(spoken, &format!("{name} octet by octet"), &entries, &|_| true);
            // Long files are about caps: every octet of them once is enough, every cut is not needed.
            for cut in (1..octets).step_by(1 + octets / 2000) {
                play(spoken, &format!("{name} cut at {cut}"), &entries, &|at| at == cut);
            }
        }
    }
}

/// One run; `cut_before` says where the backend's octets come in separate pieces, counted over the whole file.
fn play(spoken: &Spoken, name: &str, entries: &[Entry], cut_before: &dyn Fn(usize) -> bool) {
    let mut stage = Stage { name, dance: None, input: BytesMut::new(), out: BytesMut::new(), events: Vec::new(), over: false };
    let mut said = 0;
    let mut ends_with_rest = false;
    let mut index = 0;
    while let Some(entry) = entries.get(index) {
        index += 1;
        match &entry.what {
            What::Says(Side::Backend, octets) => {
                let mut block = octets.clone();
                while let Some(Entry { what: What::Says(Side::Backend, more), .. }) = entries.get(index) {
                    block.extend_from_slice(more);
                    index += 1;
                }
                stage.nothing_unexpected(entry.line);
                let mut piece = Vec::new();
                for octet in block {
                    if cut_before(said) {
                        stage.feed(&std::mem::take(&mut piece));
                    }
                    piece.push(octet);
                    said += 1;
                }
                stage.feed(&piece);
            }
            What::Hears(Side::Backend, octets) => stage.backend_hears(octets, entry.line),
            What::Says(Side::Client, _) | What::Hears(Side::Client, _) => panic!("{name}: there is no client here"),
            What::Note(note) => match note.verb.as_str() {
                "plan" => stage.dance = Some(Dance::new((spoken.dialect)(), plan(note))),
                "whole" => {}
                "now" => stage.tells(note, entry.line),
                "rest" => {
                    ends_with_rest = true;
                    let rest = note.value("text").unwrap_or_default();
                    assert_eq!(stage.input.escape_ascii().to_string(), rest.escape_ascii().to_string(), "{name}: rest");
                }
                "secure" | "welcome" | "refused" | "stumble" => stage.reports(note, entry.line),
                other => panic!("{name}: unknown note {other}"),
            },
        }
    }
    stage.nothing_unexpected(0);
    let stumbled = entries.iter().any(|entry| matches!(&entry.what, What::Note(note) if note.verb == "stumble"));
    assert!(ends_with_rest || stumbled || stage.input.is_empty(), "{name}: left over: {}", stage.input.escape_ascii());
}

struct Stage<'a> {
    name: &'a str,
    dance: Option<Dance>,
    input: BytesMut,
    out: BytesMut,
    events: Vec<String>,
    over: bool,
}

impl Stage<'_> {
    fn dance(&mut self) -> &mut Dance {
        self.dance.as_mut().expect("a plan comes first")
    }

    fn feed(&mut self, piece: &[u8]) {
        if self.over && self.events.last().is_some_and(|event| event.starts_with("stumble")) {
            return;
        }
        self.input.extend_from_slice(piece);
        self.step();
    }

    fn step(&mut self) {
        loop {
            let dance = self.dance.as_mut().expect("a plan comes first");
            match dance.step(&mut self.input, &mut self.out) {
                Ok(Step::NeedInput) => return,
                Ok(Step::Event(event)) => {
                    self.over |= !matches!(event, DanceEvent::Secure);
                    self.events.push(shown(&event));
                }
                Err(stumble) => {
                    assert!(stumble.detail.len() <= 512 && !stumble.detail.chars().any(char::is_control));
                    self.over = true;
                    self.events.push(format!("stumble kind={:?} {}", stumble.kind, stumble.detail));
                    return;
                }
            }
        }
    }

    fn backend_hears(&mut self, octets: &[u8], line: usize) {
        let heard = self.out.split_to(octets.len().min(self.out.len()));
        assert_eq!(heard.escape_ascii().to_string(), octets.escape_ascii().to_string(), "{}: line {line}", self.name);
    }

    fn reports(&mut self, note: &Note, line: usize) {
        let state = self.dance().state();
        assert!(!self.events.is_empty(), "{}: line {line}: no event, state {state}", self.name);
        let event = self.events.remove(0);
        let text = |name: &str| String::from_utf8(note.value(name).unwrap_or_default().to_vec()).unwrap();
        match note.verb.as_str() {
            "secure" => {
                assert_eq!(event, "secure", "{}: line {line}", self.name);
                self.dance().secured();
                self.step();
            }
            "welcome" => {
                let told = if note.has("capability") { Some(text("capability")) } else { None };
                let expected =
                    format!("welcome text={} capability={told:?} aside={}", text("text"), text("aside").escape_default());
                assert_eq!(event, expected, "{}: line {line}", self.name);
            }
            "refused" => {
                let expected = format!("refused kind={} text={}", text("kind"), text("text"));
                assert_eq!(event, expected, "{}: line {line}", self.name);
            }
            _ => {
                assert!(event.starts_with(&format!("stumble kind={} ", text("kind"))), "{}: line {line}: {event}", self.name);
                assert!(event.contains(&text("says")), "{}: line {line}: {event}", self.name);
            }
        }
    }

    fn tells(&mut self, note: &Note, line: usize) {
        let name = self.name;
        let text = |word: &str| note.has(word).then(|| String::from_utf8(note.value(word).unwrap_or_default().to_vec()).unwrap());
        let dance = self.dance();
        if let Some(state) = text("state") {
            assert_eq!(dance.state(), state, "{name}: line {line}");
        }
        if let Some(left_out) = text("left_out") {
            assert_eq!(dance.left_out().join(","), left_out, "{name}: line {line}");
        }
        assert_eq!(dance.learnt().map(str::to_owned), text("learnt"), "{name}: line {line}");
        assert_eq!(dance.farewell().map(str::to_owned), text("farewell"), "{name}: line {line}");
        let refused = dance.identity_refused().map(str::to_owned);
        assert_eq!(refused, text("identity_refused"), "{name}: line {line}");
        assert_eq!(dance.introduced(), note.has("introduced"), "{name}: line {line}");
        assert_eq!(dance.credentials_sent(), note.has("credentials_sent"), "{name}: line {line}");
    }

    fn nothing_unexpected(&self, line: usize) {
        assert!(self.out.is_empty(), "{}: before line {line}: unexpectedly said {}", self.name, self.out.escape_ascii());
        assert!(self.events.is_empty(), "{}: before line {line}: unexpectedly {:?}", self.name, self.events);
    }
}

fn shown(event: &DanceEvent) -> String {
    match event {
        DanceEvent::Secure => "secure".into(),
        DanceEvent::Welcome(welcome) => {
            let aside: Vec<u8> = welcome.aside.concat();
            let aside = String::from_utf8(aside).unwrap();
            format!("welcome text={} capability={:?} aside={}", welcome.text, welcome.capability, aside.escape_default())
        }
        DanceEvent::Refused(no) => format!("refused kind={:?} text={}", no.kind, no.text),
    }
}

fn plan(note: &Note) -> Plan {
    let text = |name: &str| note.value(name).map(|value| String::from_utf8(value.to_vec()).unwrap());
    let mut origin = Origin::at_accept(
        "127.0.0.1:45936".parse().unwrap(),
        "127.0.0.1:10143".parse().unwrap(),
        SessionId::new("sVyHBLBgcLN/AAAB").unwrap(),
    );
    origin.hops = HopsLeft::said(4);
    origin.transport = Some(Transport::Tls);
    origin.name = text("name");
    if let Some(from) = text("from") {
        origin.client = ClientAddr(from.parse().unwrap());
    }
    if let Some(name) = text("helo") {
        origin.called_itself(Helo { name, extended: true });
    }
    let forward = text("forward").map(|value| ForwardField { name: "tag".into(), value });
    let client_id = note.value("client").map(|value| (b"name".to_vec(), Some(value.to_vec())));
    Plan {
        secure: match text("secure").as_deref() {
            None => Secure::Never,
            Some("starttls") => Secure::StartTls,
            Some("implicit") => Secure::Implicit,
            Some(other) => panic!("secure={other}"),
        },
        introduce: note.has("introduce").then(|| Introduction {
            origin,
            client_id: client_id.into_iter().collect(),
            forward: forward.into_iter().collect(),
            patience: text("patience").map(|seconds| Duration::from_secs(seconds.parse().unwrap())),
        }),
        sign_in: text("user").map(|user| SignIn {
            user,
            master: text("master"),
            password: Secret::new(note.value("password").expect("a password").to_vec()),
            mechanism: text("mechanism").map(|mechanism| match mechanism.as_str() {
                "plain" => Mechanism::Plain,
                "login" => Mechanism::Login,
                "command" => Mechanism::Command,
                other => panic!("mechanism={other}"),
            }),
            noauth: note.has("noauth"),
        }),
        one_at_a_time: note.has("one_at_a_time"),
        identity_refused: if note.has("identity_continue") { IdentityRefused::Continue } else { IdentityRefused::Fail },
        server: "proxy.example".into(),
        helo: None,
    }
}
