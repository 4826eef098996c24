use super::super::guest::Sent;
use super::super::server::Report;
use super::*;
use wire::origin::OriginUpdate;

const CLIENT: &str = "127.0.0.1:5512";

/// Everything as it should be; each test breaks one thing.
struct Scene {
    heard: Heard,
    letters: Vec<(&'static str, Sent)>,
    port: u16,
    xforward: String,
    rcpt: String,
    journal: Vec<String>,
}

impl Scene {
    fn new() -> Scene {
        let head = format!("Received: from {HELO} ([127.0.0.1])\r\n\tby {NAME} with LMTP id S1;\r\n\tnow\r\n");
        let letter = |to: &str| Sent {
            from: FROM.to_owned(),
            to: vec![to.to_owned()],
            octets: [head.as_bytes(), LETTER.as_bytes()].concat(),
            received: String::new(),
        };
        let line = |event: &str, to: &str| format!("now info {event} protocol=lmtp to={to} took=0.001");
        let lines = [
            line("delivered", ALICE.user),
            line("delivered", BOB.user),
            line("rejected", NOBODY),
            line("deferred", DAVE.user),
            "now error backend-failing text=x".to_owned(),
        ];
        Scene {
            heard: Heard {
                stranger: "550 5.7.0 No.".to_owned(),
                recipients: ["250 2.1.5 x", "250 2.1.5 x", "550 5.1.1 x", "451 4.3.0 x"].map(str::to_owned).to_vec(),
                finals: ["250 2.0.0 <alice> east", "250 2.0.0 <bob> west"].map(str::to_owned).to_vec(),
            },
            letters: vec![("east", letter("alice")), ("west", letter("bob"))],
            port: 5512,
            xforward: format!("XFORWARD ADDR=127.0.0.1 PORT=5512 HELO={HELO}"),
            rcpt: format!("RCPT TO:<bob> XRCPTFORWARD=department+3D{DEPARTMENT}"),
            journal: lines.to_vec(),
        }
    }

    fn failed(self) -> Vec<String> {
        let mut talk = Talk { client: CLIENT.parse().ok(), ..Talk::default() };
        let mut report = |server, what| talk.reports.push(Report { server, from: CLIENT.parse().unwrap(), what });
        for server in ["east", "west"] {
            let ip = Some([127, 0, 0, 1].into());
            let who = OriginUpdate { client_ip: ip, client_port: Some(self.port), ..OriginUpdate::default() };
            report(server, What::Told { who: Box::new(who), by: "XCLIENT", protected: false });
            report(server, What::Heard(self.xforward.clone()));
        }
        report("west", What::Heard(self.rcpt));
        self.letters.into_iter().for_each(|(server, letter)| report(server, What::Took(Took::Letter(Box::new(letter)))));
        let mut checks = Checks::default();
        check(&mut checks, &(talk, Ok(self.heard)), &self.journal);
        checks.failed()
    }
}

#[test]
fn all_hold_where_all_is_well() {
    assert_eq!(Scene::new().failed(), Vec::<String>::new());
}

type Breaks = fn(&mut Scene);

#[test]
fn whatever_goes_wrong_is_seen() {
    let cases: [(Breaks, &str); 17] = [
        (|scene| scene.heard.stranger = "250 2.0.0 OK".into(), "a mail server that is not trusted"),
        (|scene| scene.heard.recipients[1] = "451 4.3.0 x".into(), "alice and bob: taken"),
        (|scene| scene.heard.recipients[2] = "250 2.1.5 x".into(), "carol, whom nobody knows"),
        (|scene| scene.heard.recipients[3] = "550 5.1.1 x".into(), "dave, whose server is down"),
        (|scene| scene.heard.finals.swap(0, 1), "behind the letter"),
        (|scene| scene.heard.finals.push("250 2.0.0 east".into()), "behind the letter"),
        (|scene| scene.heard.finals[1] = "451 4.4.2 west".into(), "behind the letter"),
        (|scene| scene.letters[0].1.to.push("bob".into()), "alice: east has one letter"),
        (|scene| scene.letters[1].1.from.clear(), "bob: west has one letter"),
        (|scene| scene.letters[1].1.octets.push(b'x'), "bob: the letter arrived at west"),
        (|scene| scene.letters[0].1.octets.splice(0..0, *b"Received: x\r\n").for_each(drop), "alice: Gatepost has written one"),
        (|scene| scene.letters[0].1.octets = LETTER.into(), "alice: Gatepost has written one"),
        (|scene| scene.port = 1, "alice: east was told the mail server's own"),
        (|scene| scene.xforward = format!("XFORWARD ADDR={FORGED_IP} HELO={HELO}"), "bob: and by XFORWARD"),
        (|scene| scene.rcpt = "RCPT TO:<bob>".into(), "bob: west was told forward_department"),
        (|scene| scene.journal.push(scene.journal[2].clone()), "carol@example.com: the journal has one line"),
        (|scene| scene.journal.truncate(3), "dave: the journal has one line"),
    ];
    for (breaks, expected) in cases {
        let mut scene = Scene::new();
        breaks(&mut scene);
        let failed = scene.failed();
        assert!(failed.iter().any(|text| text.starts_with(&format!("LMTP, {expected}"))), "{expected}: {failed:?}");
    }
}

#[test]
fn a_letter_that_came_twice_is_no_letter() {
    let mut scene = Scene::new();
    scene.letters.extend(Scene::new().letters);
    assert_eq!(scene.failed().iter().filter(|text| text.contains("has one letter")).count(), 2);
}
