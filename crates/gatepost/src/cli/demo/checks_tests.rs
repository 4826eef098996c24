use super::super::guest::{Arrival, Guest, Sent, Took};
use super::super::letters;
use super::super::managesieve::ManageSieve;
use super::super::pop3::Pop3;
use super::super::server::Report;
use super::super::speech::{SPEECHES, all_turns};
use super::super::submission::Submission;
use super::*;
use bytes::BytesMut;
use wire::origin::{ForwardField, OriginUpdate, SessionId, Told};

const CLIENT: &str = "127.0.0.1:5512";
const REACHED: &str = "127.0.0.1:1993";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn told() -> OriginUpdate {
    OriginUpdate {
        client_ip: Some(address(CLIENT).ip()),
        client_port: Some(address(CLIENT).port()),
        reached_ip: Some(address(REACHED).ip()),
        reached_port: Some(address(REACHED).port()),
        reached_name: Some("localhost".to_owned()),
        session: SessionId::new("S1"),
        hops: Some(HopsLeft::said(4)),
        transport: Some(Transport::Tls),
        helo: Some(Told::Known("laptop.example".into())),
        forward: vec![ForwardField { name: "department".to_owned(), value: DEPARTMENT.to_owned() }],
        ..OriginUpdate::default()
    }
}

fn doors(speech: &'static dyn Speech) -> Doors {
    let (reached, nowhere) = (address(REACHED), address("127.0.0.1:1"));
    Doors { speech, clear: reached, implicit: speech.implicit().map(|_| reached), behind: nowhere, east: nowhere, west: nowhere }
}

/// What a server takes in when the errand is done there.
fn taken(speech: &dyn Speech, person: &Person) -> Vec<Took> {
    let arrival = Arrival { client: address(CLIENT), helo: Some("laptop.example".to_owned()), protected: true };
    let guest = Guest { arrival, ..Guest::of_test(person.server) };
    let errand = speech.errand(person, &guest.letters);
    let mut said: BytesMut =
        errand.commands.iter().flat_map(|words| speech.command("a", words).into_bytes().into_iter().chain(*b"\r\n")).collect();
    all_turns(&mut *speech.mailbox(guest), &mut said).1
}

/// Everything as it should be in one script of one protocol; each test breaks one thing.
struct Scene {
    speech: &'static dyn Speech,
    script: Script,
    told: OriginUpdate,
    protected: bool,
    master: Option<String>,
    by: &'static str,
    said: Said,
    took: Vec<Took>,
    wrong: Wrong,
    later: bool,
    left_without: bool,
    journal: Vec<String>,
    row: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Script {
    Alice,
    Bob,
    Wrong,
    Dead,
    Behind,
}

impl Scene {
    fn of_alice(speech: &'static dyn Speech) -> Scene {
        let arrived = Some(speech.errand(&ALICE, &letters::of_east()).goods);
        let user = format!("protocol={} user=alice client={CLIENT}", speech.name());
        Scene {
            speech,
            script: Script::Alice,
            told: OriginUpdate { forward: Vec::new(), ..told() },
            protected: false,
            master: None,
            by: speech.by(Mechanism::Command),
            said: Said { arrived, pipelined: true, refused_first: false },
            took: taken(speech, &ALICE),
            wrong: Wrong { by_server: true, unknown_alike: true },
            later: true,
            left_without: true,
            journal: vec![
                format!("T info login {user} backend_tls=none session=S1"),
                format!("T info end {user} session=S1"),
                format!("T info end protocol={} user=bob@example.com session=S2", speech.name()),
            ],
            row: "> a1 LOGIN alice ***".to_owned(),
        }
    }

    fn of_bob(speech: &'static dyn Speech) -> Scene {
        let arrived = Some(speech.errand(&BOB, &letters::of_west()).goods);
        let user = format!("protocol={} user=bob@example.com client={CLIENT}", speech.name());
        Scene {
            script: Script::Bob,
            told: told(),
            protected: true,
            master: Some(MASTER.0.to_owned()),
            by: speech.by(Mechanism::Plain),
            said: Said { arrived, pipelined: false, refused_first: true },
            took: taken(speech, &BOB),
            journal: vec![
                format!("T info login {user} backend_tls=TLSv1.3:X session=S1"),
                format!("T info end {user} session=S1"),
                format!("T info end protocol={} user=alice session=S2", speech.name()),
            ],
            ..Scene::of_alice(speech)
        }
    }

    fn of_behind(speech: &'static dyn Speech) -> Scene {
        let mut scene = Scene { script: Script::Behind, ..Scene::of_alice(speech) };
        (scene.told.client_ip, scene.told.client_port) = (Some(BEHIND.ip()), Some(BEHIND.port()));
        (scene.told.reached_ip, scene.told.reached_port) = (Some(REACHED_THERE.ip()), Some(REACHED_THERE.port()));
        let protocol = format!("protocol={}", speech.name());
        scene.journal.insert(1, format!("T info login {protocol} user=alice client={BEHIND} session=S1"));
        scene.journal.push(format!("T warning refused {protocol} client=127.0.0.1:9 reason=proxy-missing"));
        scene
    }

    fn of_dead(speech: &'static dyn Speech) -> Scene {
        let mut scene = Scene { script: Script::Dead, ..Scene::of_alice(speech) };
        scene.journal.push(format!("T info refused protocol={} user=dave side=backend reason=x", speech.name()));
        scene
    }

    /// The texts of the checks that fail.
    fn failing(self) -> Vec<String> {
        let Scene { speech, script, .. } = self;
        let person = if script == Script::Bob { &BOB } else { &ALICE };
        let report = |what| Report { server: person.server, from: address("127.0.0.1:7"), what };
        let mut reports = vec![report(What::Connected)];
        if self.protected {
            reports.push(report(What::Secured("TLSv1.3".to_owned())));
        }
        reports.push(report(What::Told { who: Box::new(self.told), by: speech.carrier(), protected: self.protected }));
        reports.push(report(What::Login { user: person.mailbox.to_owned(), master: self.master, by: self.by, introduced: true }));
        reports.push(report(What::Heard(speech.command("a3", "NOOP"))));
        reports.extend(self.took.into_iter().map(|took| report(What::Took(took))));
        if script == Script::Dead {
            reports = vec![report(What::Left)];
        }
        let client = if script == Script::Behind { BEHIND } else { address(CLIENT) };
        let talk = Talk { client: Some(client), rows: vec![(vec![self.row], Vec::new())], reports };
        let journal: Vec<&str> = self.journal.iter().map(String::as_str).collect();
        let mut checks = Checks::default();
        let doors = doors(speech);
        let (of_alice, of_bob) = (speech.errand(&ALICE, &letters::of_east()), speech.errand(&BOB, &letters::of_west()));
        let played = match script {
            Script::Alice => {
                let played = (talk, Ok(self.said));
                checks.alice(&doors, &played, &of_alice, &journal);
                played.0
            }
            Script::Bob => {
                let played = (talk, Ok(self.said));
                checks.bob(&doors, &played, &of_bob, &journal);
                played.0
            }
            Script::Wrong => {
                let played = (talk, Ok(self.wrong));
                checks.wrong(speech, &played);
                played.0
            }
            Script::Dead => {
                let played = (talk, Ok(Dead { later: self.later }));
                checks.dead(speech, &played, &journal);
                played.0
            }
            Script::Behind => {
                let played = (talk, Ok(Behind { left_without: self.left_without }));
                checks.behind(&doors, &played, &journal);
                played.0
            }
        };
        checks.ended(&journal);
        checks.journal(&self.journal, &[&played]);
        checks.failed()
    }
}

#[test]
fn all_is_well_when_all_is_well() {
    for speech in SPEECHES {
        for scene in [Scene::of_alice, Scene::of_bob, Scene::of_behind, Scene::of_dead] {
            assert_eq!(scene(speech).failing(), Vec::<String>::new());
        }
        assert_eq!(Scene { script: Script::Wrong, ..Scene::of_alice(speech) }.failing(), Vec::<String>::new());
    }
}

#[test]
fn every_lie_to_a_server_is_found() {
    type Break = fn(&mut Scene);
    let cases: [(Break, &str); 9] = [
        (|s| s.told.client_port = Some(1), "told the client's own address and port: not 127.0.0.1:5512 but 127.0.0.1:1"),
        (|s| s.told.client_ip = None, "told the client's own address and port: not 127.0.0.1:5512 but nothing"),
        (|s| s.told.reached_port = Some(1), "told the address that was reached: not 127.0.0.1:1993 but 127.0.0.1:1"),
        (|s| s.told.reached_name = None, "and the name that was asked for: not localhost but nothing"),
        (|s| s.told.session = SessionId::new("S9"), "told the journal's session identifier: not S1 but S9"),
        (|s| s.told.hops = Some(HopsLeft::said(5)), "how many proxies may follow: not 4 but 5"),
        (|s| s.told.transport = Some(Transport::Insecure), "connection is protected: not TLS but insecure"),
        (|s| s.said.arrived.as_mut().unwrap().push(b'x'), "octet by octet"),
        (|s| s.journal.retain(|line| !line.contains(" end ")), "the journal has the end of the session"),
    ];
    for (break_it, expected) in cases {
        for mut scene in SPEECHES.into_iter().flat_map(|speech| [Scene::of_alice(speech), Scene::of_bob(speech)]) {
            break_it(&mut scene);
            let failing = scene.failing();
            assert!(failing.iter().any(|text| text.contains(expected)), "{expected}: {failing:?}");
        }
    }
}

#[test]
fn what_each_script_is_about_is_checked() {
    type Break = fn(&mut Scene);
    type Whole = fn(&'static dyn Speech) -> Scene;
    let cases: [(Whole, Break, &str); 15] = [
        (Scene::of_alice, |s| s.said.pipelined = false, "NOOP"),
        (Scene::of_alice, |s| s.master = Some("x".to_owned()), "with the password she typed"),
        (Scene::of_alice, |s| s.by = s.speech.by(Mechanism::Login), "with the password she typed"),
        (Scene::of_bob, |s| s.master = None, "master user"),
        (Scene::of_bob, |s| s.told.forward.clear(), "forward_department"),
        (Scene::of_bob, |s| s.protected = false, ", not before"),
        (Scene::of_bob, |s| s.said.refused_first = false, "a wrong password got"),
        (Scene::of_alice, |s| (s.script, s.wrong.by_server) = (Script::Wrong, false), "with a wrong password east was asked"),
        (Scene::of_alice, |s| (s.script, s.wrong.unknown_alike) = (Script::Wrong, false), "carol"),
        (Scene::of_dead, |s| s.later = false, "his server is down"),
        (Scene::of_dead, |s| s.journal.retain(|line| !line.contains("side=backend")), "the server's trouble"),
        (Scene::of_behind, |s| s.left_without = false, "somebody without a PROXY header"),
        (Scene::of_behind, |s| s.journal.retain(|line| !line.contains("proxy-missing")), "the journal says why"),
        (Scene::of_behind, |s| s.told.client_ip = Some(address(CLIENT).ip()), "not 203.0.113.7:42424 but 127.0.0.1:42424"),
        (Scene::of_behind, |s| s.told.reached_port = Some(1), "not 198.51.100.25:4242 but 198.51.100.25:1"),
    ];
    for speech in SPEECHES {
        for (scene, break_it, expected) in cases {
            let mut scene = scene(speech);
            break_it(&mut scene);
            let failing = scene.failing();
            assert!(failing.len() == 1 && failing[0].contains(expected), "{expected}: {failing:?}");
        }
    }
}

#[test]
fn a_login_on_gateposts_word_is_checked() {
    let failing = |user: &str, by: &'static str, heard: &str, refused_first: bool| {
        let report = |what| Report { server: "west", from: address("127.0.0.1:7"), what };
        let login = What::Login { user: user.to_owned(), master: None, by, introduced: true };
        let mut reports = vec![
            report(What::Told { who: Box::new(told()), by: "XCLIENT", protected: true }),
            report(What::Heard(heard.to_owned())),
            report(login),
        ];
        reports.extend(taken(&Submission, &ERIN).into_iter().map(|took| report(What::Took(took))));
        let talk = Talk { client: Some(address(CLIENT)), rows: Vec::new(), reports };
        let arrived = Some(Submission.errand(&ERIN, &[]).goods);
        let mut checks = Checks::default();
        checks.erin(&doors(&Submission), &(talk, Ok(Said { arrived, pipelined: false, refused_first })));
        checks.failed()
    };
    assert_eq!(failing("erin", "XCLIENT LOGIN", "EHLO x", true), Vec::<String>::new());
    for (seen, expected) in [
        (failing("bob", "XCLIENT LOGIN", "EHLO x", true), "erin: west let her in"),
        (failing("erin", "AUTH PLAIN", "EHLO x", true), "erin: west let her in"),
        (failing("erin", "XCLIENT LOGIN", "AUTH PLAIN ***", true), "erin: west heard no password"),
        (failing("erin", "XCLIENT LOGIN", "EHLO x", false), "erin: a wrong password"),
    ] {
        assert!(seen.len() == 1 && seen[0].starts_with(expected), "{expected}: {seen:?}");
    }
}

#[test]
fn a_password_or_a_forgery_in_the_journal_is_found() {
    let leak = |line: &str| {
        let mut scene = Scene::of_alice(&Pop3);
        scene.journal.push(line.to_owned());
        scene.failing()
    };
    let plain = [&ALICE, &BOB].map(|person| plain_response(person.user, person.password));
    for secret in PASSWORDS.into_iter().chain(plain.iter().map(String::as_str)) {
        assert!(leak(&format!("T debug x text={secret}"))[0].starts_with("no password in the 4 lines"), "{secret}");
        let shown = Scene { row: format!("> PASS {secret}"), ..Scene::of_alice(&Pop3) }.failing();
        assert_eq!(shown, ["no password in the conversations above"], "{secret}");
    }
    assert!(leak(&format!("T debug x client={FORGED_IP}:66"))[0].starts_with("the address, session and TTL"));
    assert!(leak(&format!("T debug x session={FORGED_SESSION}"))[0].starts_with("the address, session and TTL"));
}

#[test]
fn one_check_that_fails_fails_them_all() {
    let screen = Screen::new();
    let mut checks = Checks::default();
    assert!(!checks.print(screen), "nothing checked is nothing proven");
    checks.that(true, "a");
    assert!(checks.print(screen));
    assert!(checks.script::<u8>("b", &Err("broke off".to_owned())).is_none());
    assert_eq!(checks.all.last().map(|(_, text)| text.as_str()), Some("b: broke off"));
    assert!(!checks.print(screen));
}

#[test]
fn a_script_that_was_not_played_is_a_failure() {
    let errands = [Pop3.errand(&ALICE, &letters::of_east()), Pop3.errand(&BOB, &letters::of_west())];
    let mut checks = Checks::default();
    checks.protocol(&doors(&Pop3), &Seen::default(), &errands, &[]);
    let broken = checks.all.iter().filter(|(_, text)| text.ends_with(": was not played")).count();
    let held: Vec<_> = checks.all.iter().filter(|(holds, _)| *holds).collect();
    assert_eq!((broken, held), (5, Vec::new()));
    assert!(checks.all.iter().all(|(_, text)| text.starts_with("POP3, ")));
}

#[test]
fn an_errand_that_is_half_done_is_found() {
    for speech in SPEECHES.into_iter().filter(|speech| !taken(*speech, &ALICE).is_empty()) {
        for scene in [Scene::of_alice(speech), Scene::of_bob(speech)] {
            let failing = Scene { took: Vec::new(), ..scene }.failing();
            assert!(!failing.is_empty(), "{}", speech.name());
        }
    }
    let turned = Scene { took: taken(&ManageSieve, &ALICE).into_iter().rev().collect(), ..Scene::of_alice(&ManageSieve) };
    assert_eq!(turned.failing(), ["alice: east stored the script and made it the active one"]);

    let silent = OriginUpdate { helo: None, ..Scene::of_bob(&Submission).told };
    let failing = Scene { told: silent, ..Scene::of_bob(&Submission) }.failing();
    assert_eq!(failing, ["bob: west was told what the client calls itself: laptop.example"]);
    type Break = fn(&mut Sent);
    let cases: [(Break, &str); 3] = [
        (|letter| letter.from.clear(), "bob: sender and recipient arrived at west as they were said"),
        (|letter| letter.to.push("x".to_owned()), "bob: sender and recipient arrived at west as they were said"),
        (|letter| letter.received.push('x'), "bob: what west writes into Received names the client, not Gatepost"),
    ];
    for (break_it, expected) in cases {
        let mut scene = Scene::of_bob(&Submission);
        scene.took.iter_mut().for_each(|took| {
            if let Took::Letter(letter) = took {
                break_it(letter)
            }
        });
        assert_eq!(scene.failing(), [expected]);
    }
}
