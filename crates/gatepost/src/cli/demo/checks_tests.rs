use super::super::letters;
use super::super::server::Report;
use super::*;
use wire::origin::{ForwardField, OriginUpdate, SessionId};

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
        forward: vec![ForwardField { name: "department".to_owned(), value: DEPARTMENT.to_owned() }],
    }
}

/// Everything as it should be at one end of the demo; each test breaks one thing.
struct Seen {
    told: OriginUpdate,
    protected: bool,
    master: Option<String>,
    by: &'static str,
    said: Said,
    journal: Vec<String>,
    row: String,
}

impl Seen {
    fn of_alice() -> Seen {
        let letter = letters::of_east().first().map(|letter| letter.octets().to_vec());
        let user = "user=alice client=127.0.0.1:5512";
        Seen {
            told: OriginUpdate { forward: Vec::new(), ..told() },
            protected: false,
            master: None,
            by: "LOGIN",
            said: Said { letter, pipelined: true, refused_first: false },
            journal: vec![
                format!("T info login protocol=imap {user} backend_tls=none session=S1"),
                format!("T info end protocol=imap {user} session=S1"),
                "T info end protocol=imap user=bob@example.com session=S2".to_owned(),
            ],
            row: "> a1 LOGIN alice ***".to_owned(),
        }
    }

    fn of_bob() -> Seen {
        let letter = letters::of_west().first().map(|letter| letter.octets().to_vec());
        Seen {
            told: told(),
            protected: true,
            master: Some(MASTER.0.to_owned()),
            by: "AUTHENTICATE PLAIN",
            said: Said { letter, pipelined: false, refused_first: true },
            journal: vec![
                format!("T info login protocol=imap user=bob@example.com client={CLIENT} backend_tls=TLSv1.3:X session=S1"),
                "T info end protocol=imap user=bob@example.com session=S1".to_owned(),
                "T info end protocol=imap user=alice session=S2".to_owned(),
            ],
            row: "> b1 NOOP".to_owned(),
        }
    }

    /// The texts of the checks that fail.
    fn failing(self, person: &Person) -> Vec<String> {
        let report = |what| Report { server: person.server, from: address("127.0.0.1:7"), what };
        let mut reports = vec![report(What::Connected)];
        if self.protected {
            reports.push(report(What::Secured("TLSv1.3".to_owned())));
        }
        reports.push(report(What::Told { who: Box::new(self.told), protected: self.protected }));
        reports.push(report(What::Login { user: person.mailbox.to_owned(), master: self.master, by: self.by, introduced: true }));
        reports.push(report(What::Heard("a3 NOOP".to_owned())));
        let talk = Talk { client: Some(address(CLIENT)), rows: vec![(vec![self.row], Vec::new())], reports };
        let mut checks = Checks::default();
        if person.user == ALICE.user {
            checks.alice(&talk, &self.said, address(REACHED), letters::of_east().first(), &self.journal);
        } else {
            checks.bob(&talk, &self.said, address(REACHED), letters::of_west().first(), &self.journal);
        }
        checks.journal(&self.journal, &[&talk]);
        checks.0.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| text).collect()
    }
}

#[test]
fn all_is_well_when_all_is_well() {
    assert_eq!(Seen::of_alice().failing(&ALICE), Vec::<String>::new());
    assert_eq!(Seen::of_bob().failing(&BOB), Vec::<String>::new());
}

#[test]
fn every_lie_to_a_server_is_found() {
    type Break = fn(&mut Seen);
    let cases: [(Break, &str); 9] = [
        (|s| s.told.client_port = Some(1), "told the client's own address and port: not 127.0.0.1:5512 but 127.0.0.1:1"),
        (|s| s.told.client_ip = None, "told the client's own address and port: not 127.0.0.1:5512 but nothing"),
        (|s| s.told.reached_port = Some(1), "told the address that was reached: not 127.0.0.1:1993 but 127.0.0.1:1"),
        (|s| s.told.reached_name = None, "and the name that was asked for: not localhost but nothing"),
        (|s| s.told.session = SessionId::new("S9"), "told the journal's session identifier: not S1 but S9"),
        (|s| s.told.hops = Some(HopsLeft::said(5)), "x-proxy-ttl: not 4 but 5"),
        (|s| s.told.transport = Some(Transport::Insecure), "x-client-transport: not TLS but insecure"),
        (|s| s.said.letter.as_mut().unwrap().push(b'x'), "letter 1 arrived"),
        (|s| s.journal.retain(|line| !line.contains(" end ")), "the journal has the end of the session"),
    ];
    for (break_it, expected) in cases {
        for (mut seen, person) in [(Seen::of_alice(), ALICE), (Seen::of_bob(), BOB)] {
            break_it(&mut seen);
            let failing = seen.failing(&person);
            assert!(failing.iter().any(|text| text.contains(expected)), "{expected}: {failing:?}");
        }
    }
}

#[test]
fn what_each_script_is_about_is_checked() {
    let alone = |failing: Vec<String>, expected: &str| {
        assert!(failing.len() == 1 && failing[0].contains(expected), "{expected}: {failing:?}");
    };
    alone(Seen { said: Said { pipelined: false, ..Seen::of_alice().said }, ..Seen::of_alice() }.failing(&ALICE), "NOOP");
    alone(Seen { master: Some("x".to_owned()), ..Seen::of_alice() }.failing(&ALICE), "by LOGIN");
    alone(Seen { by: "AUTHENTICATE PLAIN", ..Seen::of_alice() }.failing(&ALICE), "by LOGIN");
    alone(Seen { master: None, ..Seen::of_bob() }.failing(&BOB), "master user");
    alone(Seen { told: OriginUpdate { forward: Vec::new(), ..told() }, ..Seen::of_bob() }.failing(&BOB), "forward_department");
    alone(Seen { protected: false, ..Seen::of_bob() }.failing(&BOB), "after STARTTLS, not before");
    alone(Seen { said: Said { refused_first: false, ..Seen::of_bob().said }, ..Seen::of_bob() }.failing(&BOB), "wrong password");
}

#[test]
fn a_password_or_a_forgery_in_the_journal_is_found() {
    let leak = |line: &str| {
        let mut seen = Seen::of_alice();
        seen.journal.push(line.to_owned());
        seen.failing(&ALICE)
    };
    let plain = base64_encode(format!("\0{}\0{}", BOB.user, BOB.password).as_bytes());
    for secret in PASSWORDS.into_iter().chain([std::str::from_utf8(plain.expose()).unwrap()]) {
        assert!(leak(&format!("T debug x text={secret}"))[0].starts_with("no password in the 4 lines"), "{secret}");
        let shown = Seen { row: format!("> a1 LOGIN alice {secret}"), ..Seen::of_alice() }.failing(&ALICE);
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
    assert_eq!(checks.script::<u8>("b", Err("broke off".to_owned())), 0);
    assert_eq!(checks.0.last().map(|(_, text)| text.as_str()), Some("b: broke off"));
    assert!(!checks.print(screen));
}
