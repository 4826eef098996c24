//! Front meets back: the dance signs in to our own front, in memory, in pieces of every size from one octet up.
//!
//! The front plays the backend here, and in the chain test a second one stands before the dance as it does in the program.

use bytes::BytesMut;
use proptest::prelude::*;
use wire::dance::{Dance, DanceEvent, Introduction, Plan, Secure, SignIn};
use wire::imap::Caps;
use wire::imap::dialect::Imap;
use wire::imap::front::Front;
use wire::login::{Front as _, LoginEvent, Mechanism, Refusal, Terms, Welcome};
use wire::machine::Step;
use wire::origin::{ForwardField, HopsLeft, Origin, OriginUpdate, SessionId, Transport};
use wire::secret::Secret;

/// How to sign in, and what the backend lets see of what it can.
#[derive(Debug, Clone, Copy)]
enum Way {
    Command,
    /// Without LITERAL+ and AUTH=PLAIN.
    CommandWaiting,
    /// Without LITERAL+.
    CommandElsePlain,
    PlainAtOnce,
    /// Without SASL-IR.
    PlainWaiting,
    Login,
    Master,
}

impl Way {
    const ALL: [Way; 7] =
        [Way::Command, Way::CommandWaiting, Way::CommandElsePlain, Way::PlainAtOnce, Way::PlainWaiting, Way::Login, Way::Master];

    fn hidden(self) -> &'static [&'static str] {
        match self {
            Way::CommandWaiting => &[" LITERAL+", " AUTH=PLAIN"],
            Way::CommandElsePlain => &[" LITERAL+"],
            Way::PlainWaiting => &[" SASL-IR"],
            _ => &[],
        }
    }

    fn mechanism(self) -> Option<Mechanism> {
        match self {
            Way::PlainAtOnce | Way::PlainWaiting => Some(Mechanism::Plain),
            Way::Login => Some(Mechanism::Login),
            _ => None,
        }
    }
}

/// The two ends and the wire between them.
struct Meeting {
    dance: Dance,
    front: Front,
    way: Way,
    chunk: usize,
    /// On the way to the front, and what it holds.
    to_front: Vec<u8>,
    front_input: BytesMut,
    /// On the way to the dance, and what it holds.
    to_dance: Vec<u8>,
    dance_input: BytesMut,
    said: Vec<OriginUpdate>,
}

/// What the backend is asked.
type Asked = (String, Option<String>, Vec<u8>);

fn terms(protected: bool) -> Terms {
    Terms {
        starttls: !protected,
        password_allowed: protected,
        trusted: true,
        capability: "IDLE".into(),
        greeting: "Backend ready.".into(),
        server_id: vec![("name".into(), "Gatepost".into())],
        retain_client_id: true,
    }
}

fn sign_in(way: Way, user: &str, password: &[u8]) -> SignIn {
    SignIn {
        user: user.into(),
        master: matches!(way, Way::Master).then(|| "master \"of\" all".into()),
        password: Secret::new(password.to_vec()),
        mechanism: way.mechanism(),
    }
}

fn origin() -> Origin {
    let session = SessionId::new("sVyHBLBgcLN/AAAB").unwrap();
    let mut origin = Origin::at_accept("[2001:db8::7]:45936".parse().unwrap(), "192.0.2.1:993".parse().unwrap(), session);
    origin.hops = HopsLeft::said(4);
    origin.transport = Some(Transport::Tls);
    origin.name = Some("imap.example.com".into());
    origin.forward = vec![ForwardField { name: "tag".into(), value: "b\"l\\ü".into() }];
    origin
}

impl Meeting {
    fn new(way: Way, secure: Secure, chunk: usize, sign_in: SignIn, introduce: Option<Introduction>) -> Meeting {
        let plan = Plan { secure, introduce, sign_in, one_at_a_time: chunk.is_multiple_of(2) };
        Meeting {
            dance: Dance::new(Box::new(Imap::new()), plan),
            front: Front::new(terms(secure != Secure::StartTls), Caps::default()),
            way,
            chunk,
            to_front: Vec::new(),
            front_input: BytesMut::new(),
            to_dance: Vec::new(),
            dance_input: BytesMut::new(),
            said: Vec::new(),
        }
    }

    /// Runs until the backend is asked to let somebody in.
    fn until_asked(&mut self) -> Asked {
        let mut out = BytesMut::new();
        self.front.greet(&mut out);
        self.front_says(&out);
        for _ in 0..100_000 {
            assert!(self.dance_step().is_none(), "an outcome before anybody was asked");
            let moved = carry(&mut self.to_front, &mut self.front_input, self.chunk);
            let mut out = BytesMut::new();
            let event = self.front.step(&mut self.front_input, &mut out).unwrap();
            self.front_says(&out);
            match event {
                Step::Event(LoginEvent::Login(login)) => {
                    return (login.user, login.authzid, login.password.expose().clone());
                }
                Step::Event(LoginEvent::Said(update)) => self.said.push(update),
                Step::Event(LoginEvent::Secure) => {
                    assert!(self.front_input.is_empty() && self.to_front.is_empty(), "said ahead of TLS");
                    self.front.secured(terms(true));
                }
                Step::Event(other) => panic!("{other:?}"),
                Step::NeedInput => assert!(moved || !self.to_dance.is_empty() || !self.to_front.is_empty(), "{}", self.state()),
            }
        }
        panic!("no end: {}", self.state())
    }

    /// Runs until the dance knows how it ended.
    fn until_told(&mut self) -> DanceEvent {
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

    fn dance_step(&mut self) -> Option<DanceEvent> {
        carry(&mut self.to_dance, &mut self.dance_input, self.chunk);
        let mut out = BytesMut::new();
        let step = self.dance.step(&mut self.dance_input, &mut out).unwrap();
        self.to_front.extend_from_slice(&out);
        match step {
            Step::NeedInput => None,
            Step::Event(DanceEvent::Secure) => {
                assert!(self.dance_input.is_empty() && self.to_dance.is_empty(), "said ahead of TLS");
                self.dance.secured();
                self.dance_step()
            }
            Step::Event(event) => Some(event),
        }
    }

    fn front_says(&mut self, out: &[u8]) {
        let mut said = String::from_utf8(out.to_vec()).unwrap();
        for word in self.way.hidden() {
            said = said.replace(word, "");
        }
        self.to_dance.extend_from_slice(said.as_bytes());
    }

    fn state(&self) -> String {
        format!("dance {} front {}", self.dance.state(), self.front.state())
    }

    /// Everything on its way from the backend that the dance did not take: the client's.
    fn rest_for_client(self) -> Vec<u8> {
        [self.dance_input.as_ref(), &self.to_dance].concat()
    }
}

fn carry(from: &mut Vec<u8>, to: &mut BytesMut, chunk: usize) -> bool {
    let piece: Vec<u8> = from.drain(..chunk.min(from.len())).collect();
    to.extend_from_slice(&piece);
    !piece.is_empty()
}

fn welcome() -> Welcome {
    Welcome {
        text: "Logged in".into(),
        capability: Some("IMAP4rev1 IDLE".into()),
        aside: vec![b"* OK [ALERT] hello\r\n".to_vec()],
    }
}

/// One login with these values, from the greeting to what lies behind the welcome.
fn signs_in(way: Way, secure: Secure, chunk: usize, user: &str, password: &[u8], introduce: bool) {
    let introduction = introduce.then(|| Introduction { origin: origin(), client_id: Vec::new(), forward: Vec::new() });
    let mut meeting = Meeting::new(way, secure, chunk, sign_in(way, user, password), introduction);
    let asked = meeting.until_asked();
    let expected = match way {
        Way::Master => ("master \"of\" all".to_owned(), Some(user.to_owned()), password.to_vec()),
        _ => (user.to_owned(), None, password.to_vec()),
    };
    assert!(asked == expected, "{way:?} {chunk}: {:?} {:?}", asked.0, asked.1);
    assert_eq!(meeting.dance.introduced(), introduce);
    assert_eq!(meeting.said.len(), usize::from(introduce));
    if let Some(said) = meeting.said.first() {
        let mut believed = Origin::at_accept("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap(), origin().session);
        let nets = wire::origin::trust::TrustedNets::new(vec!["127.0.0.0/8".parse().unwrap()]);
        believed.amend(said.clone(), &nets.admit("127.0.0.1".parse().unwrap()).unwrap());
        let expected = Origin {
            real_client: believed.real_client,
            real_reached: believed.real_reached,
            forwarded: true,
            named: true,
            ..origin()
        };
        assert_eq!(believed, expected);
    }
    assert!(meeting.dance.credentials_sent());

    let mut out = BytesMut::new();
    meeting.front.welcome(&welcome(), &mut out);
    meeting.front_says(&out);
    meeting.to_dance.extend_from_slice(b"* 3 EXISTS\r\n{9}\r\n\0");
    match meeting.until_told() {
        DanceEvent::Welcome(told) => assert_eq!(told, welcome(), "{way:?} {chunk}"),
        other => panic!("{other:?}"),
    }
    assert!(meeting.to_front.is_empty() && meeting.front_input.is_empty(), "said behind the login");
    assert_eq!(meeting.rest_for_client(), b"* 3 EXISTS\r\n{9}\r\n\0");
}

#[test]
fn every_way_in_pieces_of_every_size() {
    for way in Way::ALL {
        for secure in [Secure::Never, Secure::StartTls, Secure::Implicit] {
            for chunk in 1..=64 {
                signs_in(way, secure, chunk, "joe@example.org", b"pa ss\"w\\ord", true);
                signs_in(way, secure, chunk, "j\u{f6}rg \"the\\man\"", b"\xff\xfe {5+}", false);
            }
        }
    }
}

#[test]
fn every_odd_value_in_every_way() {
    let long_user = "u".repeat(255);
    let users = ["j", "a b", "\"", "\\", "{3+}", "NIL", "*", "L", "日本語", "%u${run}", long_user.as_str()];
    let passwords: [&[u8]; 12] = [
        b"",
        b" ",
        b"\"",
        b"\\\"\\",
        b"{3}",
        b"{3+}",
        b"\t\x01\x7f",
        b"\xff",
        b"\xc3\xa4\xc3",
        &[b'p'; 4096],
        &[b'"'; 4096],
        &[0xff; 4096],
    ];
    for way in Way::ALL {
        for (index, user) in users.iter().enumerate() {
            for (other, password) in passwords.iter().enumerate() {
                let chunk = if password.len() > 1000 { 61 } else { 1 + (index * 13 + other * 7) % 64 };
                signs_in(way, Secure::Never, chunk, user, password, other % 2 == 0);
            }
        }
    }
}

#[test]
fn a_refusal_keeps_its_kind_and_its_words() {
    use wire::dance::NoKind;
    let text = || Some("because".to_owned());
    for (refusal, kind) in [
        (Refusal::WrongCredentials, NoKind::Credentials),
        (Refusal::NotAuthorized, NoKind::NotAuthorized),
        (Refusal::Unavailable { text: text() }, NoKind::Unavailable),
        (Refusal::Limit { text: text() }, NoKind::Limit),
        (Refusal::InUse { text: text() }, NoKind::InUse),
        (Refusal::ContactAdmin { text: text() }, NoKind::ContactAdmin),
        (Refusal::Expired { text: text() }, NoKind::Expired),
        (Refusal::Alert { text: "because".into() }, NoKind::Alert),
    ] {
        for way in Way::ALL {
            let mut meeting = Meeting::new(way, Secure::Never, 3, sign_in(way, "joe", b"wrong"), None);
            meeting.until_asked();
            let mut out = BytesMut::new();
            meeting.front.refuse(&refusal, &mut out);
            meeting.front_says(&out);
            match meeting.until_told() {
                DanceEvent::Refused(no) => {
                    assert_eq!(no.kind, kind, "{way:?}");
                    assert!(
                        no.text == "because" || matches!(refusal, Refusal::WrongCredentials | Refusal::NotAuthorized),
                        "{}",
                        no.text
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn capabilities_that_were_not_told_are_asked_for_and_nothing_is_lost() {
    for chunk in 1..=64 {
        let mut meeting = Meeting::new(Way::Command, Secure::Never, chunk, sign_in(Way::Command, "joe", b"secret"), None);
        meeting.until_asked();
        meeting.to_dance.extend_from_slice(b"L OK in\r\n* 3 EXISTS\r\n");
        match meeting.until_told() {
            DanceEvent::Welcome(told) => {
                assert_eq!(told.capability.as_deref(), Some("IMAP4rev1 AFTER"));
                assert_eq!(told.aside.concat(), b"* 3 EXISTS\r\n* 1 RECENT\r\n");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(meeting.rest_for_client(), b"* 2 EXISTS\r\n");
    }
}

/// Client, front, dance, backend: what the client pipelines behind its login reaches the backend as it was.
#[test]
fn a_chain_loses_nothing() {
    let logins: [(&[u8], &str); 4] = [
        (b"a1 LOGIN {3+}\r\njoe \"se\\\"cret\"\r\n", "a1"),
        (b"b2 AUTHENTICATE PLAIN AGpvZQBzZSJjcmV0\r\n", "b2"),
        (b"c3 AUTHENTICATE PLAIN\r\nAGpvZQBzZSJjcmV0\r\n", "c3"),
        (b"d4 AUTHENTICATE LOGIN\r\nam9l\r\nc2UiY3JldA==\r\n", "d4"),
    ];
    let behind: &[u8] = b"x SELECT {5+}\r\nINBOX\r\ny LOGIN evil evil\r\n\0\xff\n";
    for (said, tag) in logins {
        for way in Way::ALL {
            for chunk in 1..=64 {
                let mut front = Front::new(terms(true), Caps::default());
                let (mut client, mut input, mut heard) = ([said, behind].concat(), BytesMut::new(), BytesMut::new());
                front.greet(&mut heard);
                let login = loop {
                    assert!(carry(&mut client, &mut input, chunk), "the client has said all");
                    if let Step::Event(LoginEvent::Login(login)) = front.step(&mut input, &mut heard).unwrap() {
                        break login;
                    }
                };
                let mut back = sign_in(way, &login.user, login.password.expose());
                back.mechanism = way.mechanism();
                let mut meeting = Meeting::new(way, Secure::StartTls, chunk, back, None);
                let asked = meeting.until_asked();
                assert_eq!(asked.2, b"se\"cret");
                let mut out = BytesMut::new();
                meeting.front.welcome(&welcome(), &mut out);
                meeting.front_says(&out);
                meeting.to_dance.extend_from_slice(b"* 3 EXISTS\r\n");
                let DanceEvent::Welcome(told) = meeting.until_told() else { panic!("refused") };
                heard.clear();
                front.welcome(&told, &mut heard);
                let expected = format!("* OK [ALERT] hello\r\n{tag} OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n");
                assert_eq!(String::from_utf8_lossy(&heard), expected);
                assert_eq!([input.as_ref(), &client].concat(), behind);
                assert_eq!(meeting.rest_for_client(), b"* 3 EXISTS\r\n");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_credentials_arrive_as_they_are(
        user in "[^\\p{C}\\p{Z}]([^\\p{C}\\p{Zl}\\p{Zp}]{0,30}[^\\p{C}\\p{Z}])?",
        password in proptest::collection::vec(any::<u8>().prop_filter("no line ends", |b| !matches!(b, 0 | b'\r' | b'\n')), 0..60),
        way in proptest::sample::select(&Way::ALL[..]),
        tls in any::<bool>(),
        chunk in 1usize..=64,
    ) {
        signs_in(way, if tls { Secure::StartTls } else { Secure::Never }, chunk, &user, &password, tls);
    }
}
