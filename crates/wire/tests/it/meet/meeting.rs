//! The two ends of a login and the wire between them, in memory, and the ways of signing in that are played on it.
//!
//! The front plays the backend. A [`Way`] knows what of an answer arrives at the other end, which differs with the protocol.

use crate::spoken::{IMAP, POP3, SIEVE, SUBMISSION, Spoken};
use bytes::BytesMut;
use wire::dance::{Dance, DanceEvent, IdentityRefused, Introduction, NoKind, Plan, Secure, SignIn};
use wire::login::{Front, Login, LoginEvent, Mechanism, Refusal, Terms, Welcome};
use wire::machine::Step;
use wire::origin::{ForwardField, HopsLeft, Origin, OriginUpdate, SessionId, Transport};
use wire::secret::Secret;

/// How to sign in, and what the backend lets see of what it can.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) spoken: &'static Spoken,
    /// Words that the backend does not say.
    hidden: &'static [&'static str],
    mechanism: Option<Mechanism>,
    pub(super) master: bool,
}

pub(super) const IMAP_WAY: Way = Way { name: "imap command", spoken: &IMAP, hidden: &[], mechanism: None, master: false };
pub(super) const POP3_WAY: Way = Way { name: "pop3 command", spoken: &POP3, ..IMAP_WAY };
pub(super) const SIEVE_WAY: Way = Way { name: "managesieve", spoken: &SIEVE, ..IMAP_WAY };
pub(super) const SUBMISSION_WAY: Way = Way { name: "submission", spoken: &SUBMISSION, ..IMAP_WAY };

pub(super) static WAYS: [Way; 21] = [
    IMAP_WAY,
    Way { name: "imap command, waiting", hidden: &[" LITERAL+", " AUTH=PLAIN"], ..IMAP_WAY },
    Way { name: "imap command, else plain", hidden: &[" LITERAL+"], ..IMAP_WAY },
    Way { name: "imap plain at once", mechanism: Some(Mechanism::Plain), ..IMAP_WAY },
    Way { name: "imap plain, waiting", mechanism: Some(Mechanism::Plain), hidden: &[" SASL-IR"], ..IMAP_WAY },
    Way { name: "imap login", mechanism: Some(Mechanism::Login), ..IMAP_WAY },
    Way { name: "imap master", master: true, ..IMAP_WAY },
    POP3_WAY,
    // Long values wait by themselves.
    Way { name: "pop3 plain", mechanism: Some(Mechanism::Plain), ..POP3_WAY },
    Way { name: "pop3 login", mechanism: Some(Mechanism::Login), ..POP3_WAY },
    Way { name: "pop3 master", master: true, ..POP3_WAY },
    // Long values are literals by themselves.
    SIEVE_WAY,
    Way { name: "managesieve plain", mechanism: Some(Mechanism::Plain), ..SIEVE_WAY },
    Way { name: "managesieve login", mechanism: Some(Mechanism::Login), ..SIEVE_WAY },
    Way { name: "managesieve login, for want of plain", hidden: &["PLAIN "], ..SIEVE_WAY },
    Way { name: "managesieve master", master: true, ..SIEVE_WAY },
    // Long values wait by themselves.
    SUBMISSION_WAY,
    Way { name: "submission plain", mechanism: Some(Mechanism::Plain), ..SUBMISSION_WAY },
    Way { name: "submission login", mechanism: Some(Mechanism::Login), ..SUBMISSION_WAY },
    Way { name: "submission login, for want of plain", hidden: &[" PLAIN"], ..SUBMISSION_WAY },
    Way { name: "submission master", master: true, ..SUBMISSION_WAY },
];

impl Way {
    fn is_imap(&self) -> bool {
        self.spoken.name == IMAP.name
    }

    pub(super) fn is_sieve(&self) -> bool {
        self.spoken.name == SIEVE.name
    }

    pub(super) fn is_submission(&self) -> bool {
        self.spoken.name == SUBMISSION.name
    }

    /// What arrives of a welcome: only IMAP says more than the words.
    pub(super) fn told(&self) -> Welcome {
        if self.is_imap() { welcome() } else { Welcome { text: welcome().text, ..Welcome::default() } }
    }

    /// What arrives of a refusal.
    pub(super) fn kind(&self, refusal: &Refusal) -> NoKind {
        match (refusal, self.is_imap()) {
            (Refusal::WrongCredentials, _) => NoKind::Credentials,
            (Refusal::Unavailable { .. }, _) => NoKind::Unavailable,
            (Refusal::Looping, true) => NoKind::Unavailable,
            (Refusal::Looping, false) if self.is_submission() => NoKind::Unavailable,
            // In POP3 and ManageSieve the code alone says that trying again will not help.
            (Refusal::Looping, false) => NoKind::ServerBug,
            // ManageSieve has one code for all that goes away by itself.
            (Refusal::InUse { .. } | Refusal::Limit { .. }, false) if self.is_sieve() => NoKind::Unavailable,
            // Submission has codes that say so of the whole service, and one for whoever must talk to somebody.
            (Refusal::InUse { .. } | Refusal::Limit { .. }, false) if self.is_submission() => NoKind::Unavailable,
            (Refusal::ContactAdmin { .. }, false) if self.is_submission() => NoKind::ContactAdmin,
            (Refusal::InUse { .. }, _) => NoKind::InUse,
            (Refusal::NotAuthorized, true) => NoKind::NotAuthorized,
            (Refusal::Limit { .. }, true) => NoKind::Limit,
            (Refusal::ContactAdmin { .. }, true) => NoKind::ContactAdmin,
            (Refusal::Expired { .. }, true) => NoKind::Expired,
            (Refusal::Alert { .. }, true) => NoKind::Alert,
            // POP3 has one code for all limits, and one for all that concerns the person; ManageSieve has none for that.
            (Refusal::Limit { .. }, false) => NoKind::InUse,
            (Refusal::NotAuthorized | Refusal::ContactAdmin { .. } | Refusal::Expired { .. } | Refusal::Alert { .. }, false) => {
                NoKind::Credentials
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// The two ends and the wire between them.
pub(super) struct Meeting {
    pub(super) dance: Dance,
    pub(super) front: Box<dyn Front>,
    way: Way,
    chunk: usize,
    /// On the way to the front, and what it holds.
    pub(super) to_front: Vec<u8>,
    pub(super) front_input: BytesMut,
    /// On the way to the dance, and what it holds.
    pub(super) to_dance: Vec<u8>,
    dance_input: BytesMut,
    pub(super) said: Vec<OriginUpdate>,
    /// The front waits for TLS, and the dance has not come so far.
    shaking: bool,
    /// The front believes whom the dance vouches for.
    pub(super) vouches: bool,
}

/// What the backend is asked.
pub(super) type Asked = (String, Option<String>, Vec<u8>);

pub(super) fn terms(protected: bool) -> Terms {
    Terms {
        starttls: !protected,
        password_allowed: protected,
        trusted: true,
        may_vouch: false,
        xclient_as_exim: false,
        server: "mail.example.com".into(),
        capability: "IDLE".into(),
        greeting: "Backend ready.".into(),
        server_id: vec![("name".into(), "Gatepost".into())],
        retain_client_id: true,
    }
}

pub(super) fn sign_in(way: Way, user: &str, password: &[u8]) -> SignIn {
    SignIn {
        user: user.into(),
        master: way.master.then(|| "master \"of\" all".into()),
        password: Secret::new(password.to_vec()),
        mechanism: way.mechanism,
        noauth: false,
    }
}

pub(super) fn origin() -> Origin {
    let session = SessionId::new("sVyHBLBgcLN/AAAB").unwrap();
    let mut origin = Origin::at_accept("[2001:db8::7]:45936".parse().unwrap(), "192.0.2.1:993".parse().unwrap(), session);
    origin.hops = HopsLeft::said(4);
    origin.transport = Some(Transport::Tls);
    origin.name = Some("imap.example.com".into());
    origin.forward = vec![ForwardField { name: "tag".into(), value: "b\"l\\ü".into() }];
    origin
}

impl Meeting {
    pub(super) fn new(way: Way, secure: Secure, chunk: usize, sign_in: SignIn, introduce: Option<Introduction>) -> Meeting {
        let plan = Plan {
            secure,
            introduce,
            sign_in: Some(sign_in),
            one_at_a_time: chunk.is_multiple_of(2),
            identity_refused: IdentityRefused::Fail,
            server: "proxy.example".into(),
            helo: None,
        };
        Meeting {
            dance: Dance::new((way.spoken.dialect)(), plan),
            front: (way.spoken.front)(terms(secure != Secure::StartTls), None),
            way,
            chunk,
            to_front: Vec::new(),
            front_input: BytesMut::new(),
            to_dance: Vec::new(),
            dance_input: BytesMut::new(),
            said: Vec::new(),
            shaking: false,
            vouches: false,
        }
    }

    /// Runs until the backend is asked to let somebody in.
    pub(super) fn until_asked(&mut self) -> Asked {
        let mut out = BytesMut::new();
        self.front.greet(&mut out);
        self.front_says(&out);
        for _ in 0..100_000 {
            assert!(self.dance_step().is_none(), "an outcome before anybody was asked");
            if let Some(login) = self.front_step() {
                return (login.user, login.authzid, login.password.expect("a password").expose().clone());
            }
        }
        panic!("no end: {}", self.state())
    }

    /// The front hears some more of what is on its way to it.
    pub(super) fn front_step(&mut self) -> Option<Login> {
        if self.shaking {
            return None;
        }
        let moved = carry(&mut self.to_front, &mut self.front_input, self.chunk);
        let mut out = BytesMut::new();
        let event = self.front.step(&mut self.front_input, &mut out).unwrap();
        self.front_says(&out);
        match event {
            Step::Event(LoginEvent::Login(login)) => return Some(login),
            Step::Event(LoginEvent::Said(update)) => self.said.push(*update),
            Step::Event(LoginEvent::Secure) => {
                assert!(self.front_input.is_empty() && self.to_front.is_empty(), "said ahead of TLS");
                self.shaking = true;
            }
            Step::Event(other) => panic!("{other:?}"),
            Step::NeedInput => assert!(moved || !self.to_dance.is_empty() || !self.to_front.is_empty(), "{}", self.state()),
        }
        None
    }

    /// Runs until the dance knows how it ended.
    pub(super) fn until_told(&mut self) -> DanceEvent {
        for _ in 0..100_000 {
            if let Some(event) = self.dance_step() {
                return event;
            }
            // Behind its answer the backend is a mailbox: the one thing it is asked is its capabilities.
            let moved = carry(&mut self.to_front, &mut self.front_input, self.chunk);
            if self.front_input.ends_with(b"C CAPABILITY\r\n") {
                self.front_input.clear();
                self.to_dance.extend_from_slice(b"* 1 RECENT\r\n* CAPABILITY IMAP4rev1 AFTER\r\nC OK done\r\n* 2 EXISTS\r\n");
            }
            assert!(moved || !self.to_dance.is_empty() || !self.to_front.is_empty(), "{}", self.state());
        }
        panic!("no end: {}", self.state())
    }

    pub(super) fn dance_step(&mut self) -> Option<DanceEvent> {
        carry(&mut self.to_dance, &mut self.dance_input, self.chunk);
        let mut out = BytesMut::new();
        let step = self.dance.step(&mut self.dance_input, &mut out).unwrap();
        self.to_front.extend_from_slice(&out);
        match step {
            Step::NeedInput => None,
            Step::Event(DanceEvent::Secure) => {
                assert!(self.dance_input.is_empty() && self.to_dance.is_empty(), "said ahead of TLS");
                assert!(std::mem::take(&mut self.shaking), "TLS without the front");
                self.dance.secured();
                self.front.secured(Terms { may_vouch: self.vouches, ..terms(true) });
                self.dance_step()
            }
            Step::Event(event) => Some(event),
        }
    }

    pub(super) fn front_says(&mut self, out: &[u8]) {
        let mut said = String::from_utf8(out.to_vec()).unwrap();
        for word in self.way.hidden {
            said = said.replace(word, "");
        }
        self.to_dance.extend_from_slice(said.as_bytes());
    }

    fn state(&self) -> String {
        format!("dance {} front {}", self.dance.state(), self.front.state())
    }

    /// Everything on its way from the backend that the dance did not take: the client's.
    pub(super) fn rest_for_client(self) -> Vec<u8> {
        [self.dance_input.as_ref(), &self.to_dance].concat()
    }
}

pub(super) fn carry(from: &mut Vec<u8>, to: &mut BytesMut, chunk: usize) -> bool {
    let piece: Vec<u8> = from.drain(..chunk.min(from.len())).collect();
    to.extend_from_slice(&piece);
    !piece.is_empty()
}

pub(super) fn welcome() -> Welcome {
    Welcome {
        text: "Logged in".into(),
        capability: Some("IMAP4rev1 IDLE".into()),
        aside: vec![b"* OK [ALERT] hello\r\n".to_vec()],
    }
}
