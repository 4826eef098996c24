//! Every field of a row in every protocol, end to end: one [`table`](table::table), which all protocols run through.
//!
//! A case has a user of its own in an SQLite database, and a backend of its own that notes every octet. What is compared is
//! all that the backend heard up to the login, the line that the client got, and the line in the journal. Fields that are
//! documented or read and that no case is about fail a test of their own.

mod case;
mod explained;
mod gates;
mod lmtp;
pub mod spelling;
mod table;
mod vouching;

use crate::explained::Told;
use case::{Case, End, Heard, Met, PASSWORD, Peer, Place, Refused, Setup};
use gates::{Gates, Running, Server, Signed};
use spelling::{Dialogue, Identity, Reply, SPELLINGS, SignIn, Spelling};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use testkit::peer::AnyClient;
use testkit::wait::{self, PATIENCE};

/// Cases that run at one time: most of their time is waiting.
const AT_ONCE: usize = 12;

#[test]
fn every_field_in_every_protocol() {
    run_all(false);
}

#[test]
fn an_explanation_says_what_then_happens() {
    run_all(true);
}

/// Runs every case; explained first, perhaps.
fn run_all(explained: bool) {
    let cases = table::table();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "each case has its own name");
    let gates = Gates::start(&cases);
    let named = |(case, spelling): &(&Case, &'static dyn Spelling)| case.protocols.contains(&spelling.protocol());
    let mut runs: Vec<(&Case, &'static dyn Spelling)> =
        cases.iter().flat_map(|case| SPELLINGS.map(|spelling| (case, spelling))).filter(named).collect();
    // Those that are held come first, so that nobody waits for them at the end.
    runs.sort_by_key(|(case, _)| case.meanwhile.is_empty());
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((case, spelling)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = AssertUnwindSafe(|| run(case, *spelling, &gates, explained));
                    if let Err(panic) = catch_unwind(run) {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned());
                        let failure = format!("{} {}: {text}", spelling.protocol().name(), case.name);
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} runs fail:\n\n{}", failures.len(), runs.len(), failures.join("\n\n"));
    for setup in Setup::ALL {
        check_journal(setup, &cases, gates.running(setup));
    }
}

#[test]
fn every_field_that_is_read_or_documented_has_a_case_and_every_case_is_documented() {
    let documented = documented();
    let columns: BTreeSet<String> = table::table().iter().flat_map(Case::columns).map(family).collect();
    let read = gatepost::route::READ.iter().chain(gatepost::route::NOT_OURS);
    for field in read.chain(gatepost::users::chain::USED_UP).map(|name| family(name)) {
        assert!(columns.contains(&field), "{field} is read, and no case is about it");
        assert!(documented.contains(&field), "{field} is read, and docs/fields.md does not name it");
    }
    for field in &documented {
        assert!(columns.contains(field), "{field} is documented, and no case is about it");
    }
    let strays: Vec<&String> = columns.iter().filter(|&field| !documented.contains(field) && field != "colour").collect();
    assert!(strays.is_empty(), "no word about {strays:?} in docs/fields.md");
}

/// The names in the first columns of the tables in docs/fields.md.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../../../../docs/fields.md");
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(cell, _)| cell));
    let names = cells.flat_map(|cell| cell.split("`, `")).map(family).collect::<BTreeSet<_>>();
    assert!(names.len() > 30, "{names:?}");
    names
}

/// `forward_site`, `forward_` and `forward_NAME` are one field; suffixes belong to no field.
fn family(name: &str) -> String {
    let name = name.split(':').next().unwrap_or(name).to_ascii_lowercase();
    match ["forward_", "user_", "event_", "userdb_"].iter().find(|prefix| name.starts_with(**prefix)) {
        Some(prefix) => format!("{prefix}NAME"),
        None => name,
    }
}

/// A case in one protocol, ready to run.
struct Run<'a> {
    case: &'a Case,
    spelling: &'a dyn Spelling,
    running: &'a Running,
    /// What stands for the places in texts.
    places: Vec<(&'static str, String)>,
    row: Server,
    other: Server,
    /// It is explained before it happens.
    explained: bool,
}

fn run(case: &Case, spelling: &'static dyn Spelling, gates: &Gates, explained: bool) {
    let running = gates.running(case.setup);
    let reached = running.gate.gatepost.addr(spelling.protocol().name());
    let row = Server::start(spelling, case.peer, case.setup == Setup::Header, &gates.certificates);
    let other = Server::start(spelling, Peer::Clear, case.setup == Setup::Header, &gates.certificates);
    let (clear, tls) = spelling.ports();
    let mut places = vec![
        ("{me}", format!("{}-{}", case.name, spelling.protocol().name())),
        ("{port}", row.port().to_string()),
        ("{other}", other.port().to_string()),
        ("{gate}", reached.port().to_string()),
        ("{clear}", clear.to_string()),
        ("{tls}", tls.to_string()),
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    places.extend([("{now+1}", 1), ("{now+6}", 6), ("{now+400}", 400)].map(|(name, ahead)| (name, (now + ahead).to_string())));
    Run { case, spelling, running, places, row, other, explained }.run(reached);
}

impl Run<'_> {
    fn run(&self, reached: SocketAddr) {
        let Run { case, spelling, running, .. } = self;
        let me = self.fill("{me}");
        running.rows.insert("first", &me, &case.first, &|text| self.fill(text));
        running.rows.insert("rows", &me, &[&case::BASE[..], &case.row].concat(), &|text| self.fill(text));

        let source: IpAddr = if case.front.is_some() { gates::FRONT } else { "127.0.0.1" }.parse().unwrap();
        let mut client = AnyClient::connect_from(spelling.protocol(), source, reached);
        client.greeting();
        let front = case.front.as_ref().map(|forward| Identity {
            session: format!("front-{me}"),
            client: SocketAddr::new("192.0.2.7".parse().unwrap(), client.local_addr().port()),
            reached: None,
            transport: None,
            hops: 3,
            forward: owned(forward),
        });
        if let Some(front) = &front {
            spelling.introduce(&mut client, front);
        }
        let told = self.explained.then(|| explained::ask(self, client.local_addr()));
        let sign_in = SignIn { way: case.way, authzid: String::new(), user: me.clone(), password: case.password.to_owned() };
        let answer = std::thread::scope(|scope| {
            if !case.meanwhile.is_empty() {
                scope.spawn(|| {
                    running.gate.gatepost.log().wait_for_all(&[" held ", &format!("user={me} ")]);
                    running.rows.change("rows", &me, &case.meanwhile, &|text| self.fill(text));
                });
            }
            spelling.sign_in(&mut client, &sign_in)
        });
        let caller = front.as_ref().map_or(client.local_addr(), |front| front.client);
        let line = self.journal(caller);
        assert_eq!(answer, spelling.answer(&self.answer(), case.way), "the client's line; {line}");
        let event = if matches!(case.end, End::In(_)) { " login " } else { " refused " };
        for piece in case.journal.iter().map(|piece| self.fill(piece)).chain([event.to_owned()]) {
            assert!(line.contains(&piece), "no {piece:?} in {line}");
        }
        if let Some(told) = &told {
            explained::check(self, told, &answer, &line);
        }
        match &case.end {
            End::Refused(_, met) => self.check_refused(*met),
            End::In(heard) => {
                let session = line.rsplit_once("session=").unwrap().1.trim_matches('"').to_owned();
                let identity = Identity {
                    session,
                    client: caller,
                    reached: Some(reached),
                    transport: front.is_none().then_some("insecure"),
                    hops: front.as_ref().map_or(5, |front| front.hops) - 1,
                    forward: front.map(|front| front.forward).unwrap_or_default(),
                };
                self.check_heard(heard, identity, told.as_ref());
            }
        }
    }

    /// A text of the table with its places filled in.
    fn fill(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
    }

    fn answer(&self) -> Reply {
        match self.case.end {
            End::In(_) => Reply::In,
            End::Refused(Refused::WrongPassword, _) => Reply::WrongPassword,
            End::Refused(Refused::Unavailable, _) => Reply::Unavailable,
            End::Refused(Refused::Looping, _) => Reply::Looping,
            End::Refused(Refused::Disabled(text), _) => Reply::Disabled(self.fill(text)),
            End::Refused(Refused::Refer { user, host, port, text }, _) => {
                let port = self.fill(port).parse().unwrap();
                Reply::Refer { user: self.fill(user), host: self.fill(host), port, text: self.fill(text) }
            }
        }
    }

    /// The journal's line on the login of this client.
    fn journal(&self, caller: SocketAddr) -> String {
        let log = self.running.gate.gatepost.log();
        // Ports come again. A renamed user keeps its name as the beginning.
        let (client, user) = (format!("client={caller} "), format!("user={}", self.fill("{me}")));
        let about = |line: &String| {
            let event = [" login ", " refused "].iter().any(|event| line.contains(event));
            event && line.contains(&client) && line.contains(&user)
        };
        let found = wait::poll(PATIENCE, || log.lines().into_iter().find(about));
        found.unwrap_or_else(|| panic!("nothing in the journal on {user}; {}", log.tail()))
    }

    fn check_refused(&self, met: Met) {
        assert_eq!(self.other.connections(), 0);
        if met == Met::Nobody {
            assert_eq!(self.row.connections(), 0, "somebody connected");
            return;
        }
        self.row.wait_for_connections(1);
        let said = String::from_utf8(self.row.received(0)).unwrap();
        match met {
            Met::StartTls => assert_eq!(said, self.spelling.starttls()),
            Met::Greeted => assert_eq!(said, format!("EHLO {}\r\n", self.spelling.helo().unwrap())),
            Met::NoWay => {
                let signs_in = ["LOGIN ", "USER ", "AUTH", "AUTHENTICATE"].iter().find(|word| said.contains(*word));
                assert!(signs_in.is_none(), "{said}");
            }
            Met::SignIn => drop(self.row.wait_for(&self.fill("{me}"))),
            Met::Nobody | Met::Mute => assert_eq!(said, ""),
        }
        assert_eq!(self.row.connections(), 1);
    }

    /// `identity`: without the pairs of the row.
    fn check_heard(&self, heard: &Heard, identity: Identity, explained: Option<&Told>) {
        let Run { case, spelling, running, .. } = self;
        let user = self.fill(heard.user);
        let name = if heard.authzid.is_empty() { user.clone() } else { self.fill(heard.authzid) };
        let local = running.local(*spelling);
        let server = match heard.at {
            Place::Row => &self.row,
            Place::Other => &self.other,
            Place::Local => local,
        };
        let signed: Signed = server.wait_for(&user);
        for (place, server) in [(Place::Row, &self.row), (Place::Other, &self.other)] {
            assert_eq!(server.connections(), usize::from(heard.at == place), "connections to {place:?}");
        }
        let mut said = signed.raw.as_slice();
        if let Some(explained) = explained {
            let header = signed.header.as_ref().and_then(|header| header.addresses());
            let octets = signed.header.as_ref().map_or(0, |header| header.raw.len());
            let said = String::from_utf8(said[octets..].to_vec()).unwrap();
            let said = spelling.timeless(&said, heard.deadline);
            explained::check_heard(*spelling, case, explained, heard, &identity.session, &said, header);
        }
        if case.setup == Setup::Header {
            let header = signed.header.as_ref().expect("a PROXY header");
            let told = heard.told.then_some((identity.client, identity.reached.unwrap()));
            assert_eq!(header.addresses(), told);
            assert_eq!(header.raw[12] & 0x0F, u8::from(heard.told), "LOCAL where nobody may be told");
            said = said.strip_prefix(&header.raw[..]).unwrap();
        }
        let all = [identity.forward.clone(), owned(&heard.forward)].concat();
        let (told, cut): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, value)| spelling.carries(name, value));
        let identity = heard.told.then_some(Identity { forward: told, ..identity });
        let sign_in = SignIn { way: heard.way, authzid: self.fill(heard.authzid), user, password: heard.password.to_owned() };
        let expected = spelling.dialogue(&Dialogue { starttls: heard.starttls, identity, sign_in });
        let said = spelling.timeless(&String::from_utf8_lossy(said), heard.deadline);
        assert_eq!(said, expected, "what the backend of {name} heard");
        assert_eq!(signed.from, heard.from.parse::<IpAddr>().unwrap());
        if case.peer == Peer::LineByLine {
            assert_eq!(signed.together, heard.together && spelling.pipelines(), "commands leave together");
        }
        // It stands ahead of the login's line, which has been seen.
        let about = format!("user {},", self.fill("{me}"));
        let left_out = running.gate.gatepost.log().find(&[" identity-cut ", &about]).unwrap_or_default().replace('_', "-");
        assert_eq!(left_out.is_empty(), cut.is_empty(), "{left_out}");
        for (name, _) in cut {
            assert!(left_out.contains(&format!("forward-{name}")), "{name} in {left_out}");
        }
    }
}

/// Fields without effect are named once, no other field is, and no password is.
fn check_journal(setup: Setup, cases: &[Case], running: &Running) {
    let lines = running.gate.gatepost.log().lines();
    let warned: BTreeSet<&str> =
        cases.iter().filter(|case| case.setup == setup).flat_map(|case| case.warned.iter().copied()).collect();
    let told: Vec<&String> = lines.iter().filter(|line| line.contains(" unknown-field ")).collect();
    assert_eq!(told.len(), warned.len(), "{setup:?}: each once: {told:#?}");
    for field in warned {
        assert!(told.iter().any(|line| line.contains(&format!("field {field} has no effect"))), "{field}: {told:#?}");
    }
    let leak = lines.iter().find(|line| line.contains("-secret"));
    assert!(leak.is_none(), "a password in the journal: {leak:?}");
    assert!(PASSWORD.ends_with("-secret"));
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
