//! The table once more for a recipient: what a row that lets a user in, or keeps him out, does with mail for that user.
//!
//! The rows are the same, over the same databases; nobody signs in, and the backends take mail ([`Lmtp`]). What becomes of the mail
//! is written down here by the name of the case, for every one of them. What is compared is all that the backend heard up to the
//! letter, the client's answer, and the recipient's line in the journal.

use super::case::{Case, End, Met, Peer, Place, Setup, case};
use super::gates::{self, Certificates, Gates, Running};
use super::spelling::xtext;
use super::{owned, table};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use testkit::free_port;
use testkit::peer::{At, Does, FakeServer, Flavour, Lmtp, LmtpClient, LmtpSession};
use testkit::ports::Port;
use testkit::wait::{PATIENCE, poll};

/// What becomes of the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mail {
    /// What becomes of the login: it is delivered where the user gets in and under the name that is used there, or is "try later"
    /// for the same reason.
    AsLogin,
    /// Delivered by the row, whatever becomes of the login.
    Delivered,
    /// The same at another name.
    To(&'static str),
    /// Delivered to the local server.
    Local,
    /// "Try later", with this code, and this in the journal.
    Deferred(&'static str, &'static [&'static str]),
    /// Refused by the server itself.
    Rejected(&'static str),
}

/// Cases in which a login and a mail meet the same end.
const AS_LOGIN: &str = "
    proxy proxy-true-when-present maybe-elsewhere maybe-elsewhere-local maybe-us maybe-our-port maybe-us-local maybe-our-port-local
    maybe-another-port-local maybe-name-local maybe-self-address-local maybe-always always-elsewhere not-proxied not-proxied-local
    not-proxied-malformed
    host-name host-ipv6 host-empty host-null host-control host-line host-blank host-long hostip hostip-same hostip-bad hostip-empty
    hostip-contradicts port-0 port-65536 port-imap port-sign source source-not-ours source-other-family
    source-other-family-of-name source-bad source-empty
    ssl ssl-other-value ssl-any-cert ssl-invalid ssl-misspelt ssl-line starttls starttls-other-value starttls-any-cert
    starttls-invalid starttls-before-ssl starttls-checks
    timeout timeout-seconds timeout-bad timeout-0 give-up-0 give-up give-up-bad
    delay-past delay-bad delay-empty delay-bad-spread
    pipelining no-pipelining not-trusted header header-not-trusted header-front
    no-multiplex refresh director-tag redirect-reauth unknown-column unknown-column-again
    user user-destuser user-bad username domain destuser destuser-empty destuser-quotes destuser-line
    master-destuser master master-empty others
    noscheme pass pass-8-bit nopassword nopassword-earlier password-earlier-pass noauthenticate
    client-plain client-login mech-plain mech-plain-login mech-login mech-mirror-command mech-mirror-plain mech-mirror-login
    mech-mirror-long no-plain no-plain-sasl-alone no-plain-mech-imap no-plain-mech-pop3 no-plain-master-pop3 mech-plain-master
    nets nets-local-too nets-bad nets-forwarded real-nets real-nets-front real-nets-bad
    nologin-proxied
    forward forward-any-case forward-received-first forward-received forward-received-not-trusted forward-longest-name
    forward-quotes forward-8-bit forward-empty forward-long-name forward-tab forward-big forward-half
    forward-too-big forward-line forward-bad-name forward-no-name notes notes-odd
    default-is-late default-is-alone protected-is-late protected-is-alone later-row-wins null-changes-nothing remove remove-nothing
    remove-proxy suffix-unknown
    noauth noauth-login noauth-starttls noauth-ssl noauth-destuser noauth-forward noauth-long noauth-header noauth-local noauth-pass
    noauth-mech noauth-elsewhere noauth-elsewhere-master
    submission-login submission-login-elsewhere submission-login-elsewhere-unchecked
    lmtp-protocol lmtp-protocol-case lmtp-protocol-bad lmtp-protocol-empty lmtp-detail-destuser";

/// Cases in which nobody gets in, for the sake of a password, a mechanism or a closed account: nothing of that is asked of mail.
const DELIVERED: &str = "
    master-line password-wrong password-none password-bad pass-empty pass-line nopassword-password nopassword-pass nopassword-master
    nopassword-earlier-pass noauthenticate-wrong noauthenticate-last no-plain-mech no-plain-master mech-scram mech-external
    mech-empty mech-nonsense mech-login-master mech-mirror-master noauth-wrong noauth-not-listed noauth-master noauth-unchecked
    noauth-not-trusted submission-login-unchecked nodelay";

/// Cases without a place for mail: `nologin` is nothing to it, and the rest of the row names no server.
const NOWHERE: &str = "
    nologin nologin-reason nologin-reason-forged nologin-wrong refer refer-client-login refer-ssl refer-starttls refer-port
    refer-destuser refer-reason refer-ipv6 refer-wrong refer-forged";

/// The same with a local server.
const LOCAL: &str = "nologin-local refer-local nopassword-pass-local";

/// Cases whose mailbox is being moved.
const MOVING: &str = "delay-moves delay-spread delay-then-closed delay-wrong-password delay-too-long";

/// All others.
const OTHERS: &[(&str, Mail)] = &[
    ("proxy-to-ourselves", Mail::Deferred("451 4.4.6", &["reason=loop", "loops to itself"])),
    // Where no port is named the server listens where we do, and TLS makes no other.
    ("port-empty", Mail::Deferred("451 4.3.0", &["reason=connect", "backend 127.77.0.1:{gate} "])),
    ("port-ssl", Mail::Deferred("451 4.3.0", &["reason=connect", "backend 127.77.0.1:{gate} "])),
    ("port-starttls", Mail::Deferred("451 4.3.0", &["reason=connect", "backend 127.77.0.1:{gate} "])),
    ("lmtp-port-24", Mail::Deferred("451 4.3.0", &["reason=connect", "backend 127.77.0.1:24 "])),
    ("lmtp-port-25", Mail::Deferred("451 4.3.0", &["reason=connect", "backend 127.77.0.1:25 "])),
    ("lmtp-port-25-ssl", Mail::Deferred("451 4.3.0", &["reason=connect", "backend 127.77.0.1:25 "])),
    ("port-wrong-password", Mail::Deferred("451 4.3.0", &["reason=row", "field port"])),
    ("protocol", Mail::Delivered),
    ("first-wrong", Mail::To("early")),
    // An address beyond ASCII goes by SMTPUTF8 alone, and the mail came without.
    ("destuser-8-bit", Mail::Deferred("451 4.3.0", &["reason=row", "field destuser", "SMTPUTF8"])),
    ("noauth-8-bit", Mail::Deferred("451 4.3.0", &["reason=row", "field destuser", "SMTPUTF8"])),
    // Nothing is vouched for, so no name is too odd for that.
    ("noauth-unnameable", Mail::To("\"[UNAVAILABLE]\"")),
    // Whoever brings the mail does it for everybody: a no to that peer says nothing of the user.
    ("nets-elsewhere", Mail::Deferred("451 4.3.0", &["reason=row", "allow_nets: 127.0.0.1"])),
    ("nets-local", Mail::Deferred("451 4.3.0", &["reason=row", "allow_nets: 127.0.0.1"])),
    ("nets-empty", Mail::Deferred("451 4.3.0", &["reason=row", "allow_nets: 127.0.0.1"])),
    ("nets-first-elsewhere", Mail::Deferred("451 4.3.0", &["reason=row", "allow_nets: 127.0.0.1"])),
    ("nets-front", Mail::Deferred("451 4.3.0", &["reason=row", "allow_nets: 192.0.2.7"])),
    ("nodelay-nets", Mail::Deferred("451 4.3.0", &["reason=row", "allow_nets: 127.0.0.1"])),
    ("real-nets-elsewhere", Mail::Deferred("451 4.3.0", &["reason=row", "allow_real_nets: 127.0.0.1"])),
    ("real-nets-forwarded", Mail::Deferred("451 4.3.0", &["reason=row", "allow_real_nets: 127.0.0.9"])),
    ("refer-bad-port", Mail::Deferred("451 4.3.0", &["reason=row", "field port"])),
    ("nodelay-backend", Mail::Rejected("550 5.7.1 Not you.")),
];

/// Cases of fields that mean something for mail alone.
pub fn cases() -> Vec<Case> {
    let far = |name, row: &[_]| {
        case(name, &[&[("host", "127.77.0.1"), ("port", ""), ("proxy_timeout", "500ms")][..], row].concat()).by(&[])
    };
    vec![
        case("lmtp-protocol", &[("protocol", "lmtp")]).by(&[]),
        case("lmtp-protocol-case", &[("protocol", "LMTP")]).by(&[]),
        case("lmtp-protocol-bad", &[("protocol", "http")]).by(&[]).bad("field protocol"),
        case("lmtp-protocol-empty", &[("protocol", "")]).by(&[]).bad("field protocol"),
        case("lmtp-detail-destuser", &[("destuser", "bob@x.test")]).by(&[]).hears(|heard| heard.user = "bob+box@x.test"),
        far("lmtp-port-24", &[("protocol", "lmtp")]),
        far("lmtp-port-25", &[("protocol", "smtp")]),
        far("lmtp-port-25-ssl", &[("protocol", "smtp"), ("ssl", "yes")]),
    ]
}

/// By the name of the case.
fn ends() -> BTreeMap<&'static str, Mail> {
    let nowhere = Mail::Deferred("451 4.3.0", &["reason=row", "field proxy: is missing"]);
    let moving = Mail::Deferred("451 4.2.1", &["reason=held", "being moved"]);
    let groups =
        [(AS_LOGIN, Mail::AsLogin), (DELIVERED, Mail::Delivered), (NOWHERE, nowhere), (LOCAL, Mail::Local), (MOVING, moving)];
    let named = groups.into_iter().flat_map(|(names, mail)| names.split_whitespace().map(move |name| (name, mail)));
    let mut ends = BTreeMap::new();
    for (name, mail) in named.chain(OTHERS.iter().copied()) {
        assert!(ends.insert(name, mail).is_none(), "{name} has two ends");
    }
    ends
}

#[test]
fn every_case_says_what_becomes_of_mail() {
    let (mut ends, cases) = (ends(), table::table());
    for case in &cases {
        assert!(ends.remove(case.name).is_some(), "nothing says what {} does with mail", case.name);
    }
    assert!(ends.is_empty(), "there are no cases of these names: {ends:?}");
}

#[test]
fn every_field_for_a_recipient() {
    let (cases, ends) = (table::table(), ends());
    let gates = Gates::start(&cases);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..super::AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(case, ends[case.name], &gates))) {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned());
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}: {text}", case.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} cases fail:\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
    for setup in Setup::ALL {
        super::check_journal(setup, &cases, gates.running(setup));
    }
}

/// A server that takes mail and notes it.
pub struct Server {
    fake: FakeServer,
    _port: Port,
    sessions: Arc<Mutex<Vec<LmtpSession>>>,
}

impl Server {
    pub fn start(peer: Peer, flavour: Flavour, header: bool, certificates: &Certificates) -> Server {
        // By SMTP the same list: who is calling is then said in the same words.
        let mut lmtp = Lmtp { flavour, header, ..Lmtp::default() };
        if let Peer::StartTls(cert) | Peer::Implicit(cert) = peer {
            lmtp.tls = Some(certificates.of(cert));
            lmtp.implicit = matches!(peer, Peer::Implicit(_));
        }
        match peer {
            Peer::Silent => lmtp = lmtp.with(At::Connect, Does::Hang),
            Peer::Refusing => lmtp.at_rcpt = vec![(String::new(), "550 5.7.1 Not you.".to_owned())],
            _ => {}
        }
        let sessions = Arc::<Mutex<Vec<LmtpSession>>>::default();
        let notes = Arc::clone(&sessions);
        let ip: IpAddr = if peer == Peer::Ipv6 { "::1" } else { "127.0.0.1" }.parse().unwrap();
        // Claimed for both families, see the other servers of the table.
        let port = free_port();
        let fake = FakeServer::start_at(SocketAddr::new(ip, port.number()), move |mut conn| {
            let session = lmtp.serve(&mut conn);
            notes.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        });
        Server { fake, _port: port, sessions }
    }

    pub fn port(&self) -> u16 {
        self.fake.port()
    }

    /// The session that said this recipient. It is noted when it has ended.
    fn wait_for(&self, rcpt: &str) -> LmtpSession {
        let said = |session: &&LmtpSession| session.lines.iter().any(|line| line.starts_with(rcpt));
        let sessions = || self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = poll(PATIENCE, || sessions().iter().find(said).cloned());
        found.unwrap_or_else(|| panic!("nobody said {rcpt:?} among {:#?}", sessions()))
    }

    /// The first session, once it has ended.
    fn ended(&self) -> LmtpSession {
        let sessions = || self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        poll(PATIENCE, || sessions().first().cloned()).expect("a session has ended")
    }
}

/// A case that runs.
struct Run<'a> {
    case: &'a Case,
    running: &'a Running,
    places: Vec<(&'static str, String)>,
    row: Server,
    other: Server,
    smtp: bool,
}

const HELO: &str = "mta.test";
const LETTER: &[u8] = b"Subject: x\r\n\r\n.\r\n..\r\nWords.\r\n";

fn run(case: &Case, mail: Mail, gates: &Gates) {
    let running = gates.running(case.setup);
    let reached = running.gate.gatepost.addr("lmtp");
    let header = case.setup == Setup::Header;
    let smtp = case.row.contains(&("protocol", "smtp"));
    let flavour = if smtp { Flavour::Smtp } else { Flavour::Lmtp };
    let row = Server::start(case.peer, flavour, header, &gates.certificates);
    let other = Server::start(Peer::Clear, Flavour::Lmtp, header, &gates.certificates);
    let mut places = vec![
        ("{me}", format!("{}-lmtp", case.name)),
        ("{port}", row.port().to_string()),
        ("{other}", other.port().to_string()),
        ("{gate}", reached.port().to_string()),
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    places.extend([("{now+1}", 60), ("{now+6}", 60), ("{now+400}", 400)].map(|(name, ahead)| (name, (now + ahead).to_string())));
    Run { case, running, places, row, other, smtp }.run(mail, reached);
}

impl Run<'_> {
    fn run(&self, mail: Mail, reached: SocketAddr) {
        let Run { case, running, .. } = self;
        let me = self.fill("{me}");
        running.rows.insert("first", &me, &case.first, &|text| self.fill(text));
        running.rows.insert("rows", &me, &[&super::case::BASE[..], &case.row].concat(), &|text| self.fill(text));

        let source: IpAddr = if case.front.is_some() { gates::FRONT } else { "127.0.0.1" }.parse().unwrap();
        let mut client = LmtpClient::connect_from(source, reached);
        client.greeting();
        let mut caller = client.local_addr();
        let to = if case.name.contains("-detail-") { format!("{me}+box") } else { me.clone() };
        let mut rcpt = to.clone();
        client.lhlo(HELO);
        if let Some(pairs) = &case.front {
            caller.set_ip("192.0.2.7".parse().unwrap());
            let said = client.xclient(&format!("ADDR=192.0.2.7 PORT={} SESSION=front-{me} TTL=3", caller.port()));
            assert_eq!(said.code, 220, "{said:?}");
            client.lhlo(HELO);
            if !pairs.is_empty() {
                rcpt += &format!("> XRCPTFORWARD={}", joined(&owned(pairs)));
            }
        }
        let answer = client.transaction("s@out.test", &[&rcpt], LETTER).remove(0).text();
        client.quit();
        let line = self.journal(&to, caller);
        match mail {
            Mail::Deferred(code, journal) => self.check_no(" deferred ", code, journal, Met::Nobody, (&answer, &line)),
            Mail::Rejected(text) => {
                self.check_no(" rejected ", text, &["identity=told"], Met::SignIn, (&answer, &line));
                assert!(line.contains(&format!("reply=\"{text}\"")), "{line}");
            }
            Mail::Delivered => self.check_heard(&line, &answer, (Place::Row, &to), (caller, reached)),
            Mail::To(name) => self.check_heard(&line, &answer, (Place::Row, name), (caller, reached)),
            Mail::Local => self.check_heard(&line, &answer, (Place::Local, &to), (caller, reached)),
            Mail::AsLogin => match &case.end {
                End::Refused(_, met) => self.check_no(" deferred ", "451 4.3.0", &case.journal, *met, (&answer, &line)),
                End::In(heard) => {
                    let name = self.fill(if heard.authzid.is_empty() { heard.user } else { heard.authzid });
                    let quoted = name.contains(['"', ' ']);
                    let name = if quoted { format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")) } else { name };
                    self.check_heard(&line, &answer, (heard.at, &name), (caller, reached));
                }
            },
        }
    }

    fn fill(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
    }

    /// The journal's line on this recipient.
    fn journal(&self, to: &str, caller: SocketAddr) -> String {
        let log = self.running.gate.gatepost.log();
        let (client, to) = (format!("client={caller} "), format!(" to={to} "));
        let about = |line: &String| {
            let event = [" delivered ", " deferred ", " rejected "].iter().any(|event| line.contains(event));
            event && line.contains(&client) && line.contains(&to)
        };
        let found = poll(PATIENCE, || log.lines().into_iter().find(about));
        found.unwrap_or_else(|| panic!("nothing in the journal on {to}; {}", log.tail()))
    }

    fn check_no(&self, event: &str, code: &str, journal: &[&str], met: Met, (answer, line): (&str, &str)) {
        assert!(answer.starts_with(code), "{answer}; {line}");
        for piece in journal.iter().map(|piece| self.fill(piece)).chain([event.to_owned()]) {
            assert!(line.contains(&piece), "no {piece:?} in {line}");
        }
        assert_eq!(self.other.fake.connections(), 0);
        if met == Met::Nobody {
            assert_eq!(self.row.fake.connections(), 0, "somebody connected");
            return;
        }
        self.row.fake.wait_for_connections(1);
        match met {
            Met::StartTls => assert_eq!(self.row.ended().lines, ["LHLO gate.test", "STARTTLS"]),
            // It may not have noticed yet that nobody is there any more.
            Met::Mute => assert!(self.row.sessions.lock().unwrap().iter().all(|session| session.lines.is_empty())),
            Met::SignIn => assert!(self.row.ended().transactions.iter().all(|mail| mail.message.is_none())),
            Met::Nobody | Met::Greeted | Met::NoWay => panic!("no mail ends so: {met:?}"),
        }
        assert_eq!(self.row.fake.connections(), 1);
    }

    /// Everything up to the letter, and the letter.
    fn check_heard(&self, line: &str, answer: &str, (at, name): (Place, &str), (caller, reached): (SocketAddr, SocketAddr)) {
        let Run { case, running, smtp, .. } = self;
        assert!(answer.starts_with("250 2."), "{answer}; {line}");
        assert!(line.contains(" delivered "), "{line}");
        let heard = match &case.end {
            End::In(heard) => Some(heard),
            End::Refused(..) => None,
        };
        // Of a login that is refused nothing else is known than the row.
        let row_says = |field: &str| case.row.iter().any(|(name, _)| *name == field);
        let told = heard.map_or(!row_says("proxy_not_trusted"), |heard| heard.told);
        assert!(line.contains(if told { " identity=told " } else { " identity=not-told " }), "{line}");
        let server = match at {
            Place::Row => &self.row,
            Place::Other => &self.other,
            Place::Local => &running.lmtp,
        };
        let session = server.wait_for(&format!("RCPT TO:<{name}>"));
        for (place, server) in [(Place::Row, &self.row), (Place::Other, &self.other)] {
            assert_eq!(server.fake.connections(), usize::from(at == place), "connections to {place:?}");
        }
        let id = line.rsplit_once(" session=").unwrap().1.split(' ').next().unwrap().trim_matches('"');
        let mut expected = Vec::new();
        let hello = if *smtp { "EHLO" } else { "LHLO" };
        if matches!(case.peer, Peer::StartTls(_)) {
            // Who is calling is never said in clear then.
            expected.extend([format!("{hello} gate.test"), "STARTTLS".to_owned()]);
        }
        assert_eq!(session.tls, matches!(case.peer, Peer::StartTls(_) | Peer::Implicit(_)));
        if told {
            let hops = if case.front.is_some() { 2 } else { 4 };
            let (ip, port) = (caller.ip(), caller.port());
            expected.extend([
                format!("{hello} {HELO}"),
                format!("XCLIENT SESSION={id}:P1 TTL={hops} ADDR={ip} PORT={port} HELO={HELO} PROTO=LMTP"),
                format!("{hello} {HELO}"),
                format!("XFORWARD NAME=[UNAVAILABLE] ADDR={ip} PORT={port} PROTO=LMTP HELO={HELO} IDENT={id}"),
            ]);
        } else {
            expected.push(format!("{hello} gate.test"));
        }
        expected.push("MAIL FROM:<s@out.test>".to_owned());
        let mut rcpt = format!("RCPT TO:<{name}>");
        let to = word(line, " to=");
        if name != to {
            assert!(line.contains(" rcpt="), "{line}");
            rcpt += &format!(" ORCPT=rfc822;{}", xtext(&to));
        }
        let pairs =
            [case.front.as_deref().map(owned).unwrap_or_default(), heard.map(|heard| owned(&heard.forward)).unwrap_or_default()];
        let pairs = joined(&pairs.concat());
        if told && !pairs.is_empty() {
            rcpt += &format!(" XRCPTFORWARD={pairs}");
        }
        expected.push(rcpt);
        let envelope = session.lines.iter().take_while(|line| !line.starts_with("BDAT ")).cloned().collect::<Vec<_>>();
        assert_eq!(envelope, expected, "{line}");
        assert_eq!(session.from.unwrap().ip(), heard.map_or("127.0.0.1", |heard| heard.from).parse::<IpAddr>().unwrap());
        let [mail] = &session.transactions[..] else { panic!("{:#?}", session.transactions) };
        assert!(mail.message.as_ref().unwrap().ends_with(LETTER) && mail.taken.len() == 1, "{mail:?}");
        if told && case.row.iter().any(|(_, value)| value.contains('\t')) {
            // It stands ahead of the recipient's line, which has been seen.
            let cut = [" identity-cut ", &format!("backend 127.0.0.1:{}: ", self.row.port()), ": forward_a\""];
            assert!(running.gate.gatepost.log().find(&cut).is_some(), "not named in the journal: {cut:?}");
        }
        if case.peer == Peer::LineByLine {
            let together = heard.is_some_and(|heard| heard.together);
            assert_eq!(session.ahead.iter().any(|line| line.starts_with("RCPT")), together, "{:?}", session.ahead);
        }
        if case.setup == Setup::Header {
            let header = session.header.as_ref().expect("a PROXY header");
            assert_eq!(header.addresses(), told.then_some((caller, reached)));
        }
    }
}

/// A word of a journal's line.
fn word(line: &str, name: &str) -> String {
    line.split_once(name).and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default().to_owned()
}

/// Pairs joined by TAB, in xtext, as Dovecot has them. Values with control characters cannot be carried.
fn joined(pairs: &[(String, String)]) -> String {
    let carried = pairs.iter().filter(|(_, value)| !value.chars().any(char::is_control));
    let pairs: Vec<String> = carried.map(|(name, value)| format!("{name}={value}")).collect();
    xtext(&pairs.join("\t"))
}
