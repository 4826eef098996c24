//! What must hold after the script of `gatepost demo --once`.
//!
//! The witnesses are what was seen on the wire at both ends ([`Talk`]) and Gatepost's journal. A script that broke off is a
//! check that fails; what it would have seen is then missing and fails as well.

use super::scene::{ALICE, BOB, DAVE, DEPARTMENT, Doors, ERIN, MASTER, NAME, PASSWORDS, Person};
use super::screen::{Screen, Tone};
use super::script::{BEHIND, Behind, Dead, FORGED_IP, FORGED_SESSION, REACHED_THERE, Said, Talk, Wrong};
use super::server::What;
use super::speech::{Errand, Speech, plain_response, title};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use wire::login::Mechanism;
use wire::origin::{HopsLeft, Transport};

/// The hops that may follow when nobody told Gatepost how many: 5, and one is spent.
const TTL: u8 = 4;

/// A script: what both ends said, and what it saw, or where it broke off.
pub type Played<T> = (Talk, Result<T, String>);

/// All scripts of one protocol.
pub struct Seen {
    /// See [`Stage::alice`](super::script::Stage::alice).
    pub alice: Played<Said>,
    /// And so on.
    pub bob: Played<Said>,
    /// See above.
    pub wrong: Played<Wrong>,
    /// See above.
    pub dead: Played<Dead>,
    /// See above.
    pub behind: Played<Behind>,
    /// See above; only in protocols that [vouch](Speech::vouches).
    pub erin: Played<Said>,
}

impl Default for Seen {
    fn default() -> Self {
        fn unplayed<T>() -> Played<T> {
            (Talk::default(), Err("was not played".to_owned()))
        }
        Seen { alice: unplayed(), bob: unplayed(), wrong: unplayed(), dead: unplayed(), behind: unplayed(), erin: unplayed() }
    }
}

impl Seen {
    /// What was said in all of them.
    pub fn talks(&self) -> [&Talk; 6] {
        [&self.alice.0, &self.bob.0, &self.wrong.0, &self.dead.0, &self.behind.0, &self.erin.0]
    }
}

/// The checks so far: whether each holds, and what it is about.
#[derive(Debug, Default)]
pub struct Checks {
    all: Vec<(bool, String)>,
    /// What those to come begin with.
    about: String,
}

impl Checks {
    /// What must hold of all scripts of one protocol. `errands`: alice's and bob's.
    pub fn protocol(&mut self, doors: &Doors, seen: &Seen, errands: &[Errand; 2], journal: &[String]) {
        let speech = doors.speech;
        let of_protocol: Vec<&str> =
            journal.iter().map(String::as_str).filter(|line| word(line, "protocol") == Some(speech.name())).collect();
        let journal = of_protocol.as_slice();
        let [of_alice, of_bob] = errands;
        self.about(&title(speech.name()));
        self.alice(doors, &seen.alice, of_alice, journal);
        self.bob(doors, &seen.bob, of_bob, journal);
        self.wrong(speech, &seen.wrong);
        self.dead(speech, &seen.dead, journal);
        self.behind(doors, &seen.behind, journal);
        if speech.vouches() {
            self.erin(doors, &seen.erin);
        }
        self.ended(journal);
    }

    fn alice(&mut self, doors: &Doors, (talk, outcome): &Played<Said>, errand: &Errand, journal: &[&str]) {
        let (speech, over) = (doors.speech, doors.safest_name());
        let words = format!("alice: over {over}, certificate checked, every command answered as it should be");
        let saw = self.script(&words, outcome);
        self.introduced("alice", &ALICE, talk, doors.safest(), journal_login(journal, &ALICE));
        self.errand(speech, &ALICE, talk, saw, errand);
        let noop = saw.is_some_and(|saw| saw.pipelined) && talk.heard().any(|line| line.split(' ').next_back() == Some("NOOP"));
        let login = speech.by(Mechanism::Command);
        self.that(noop, &format!("alice: the NOOP that she sent together with {login} was answered by east"));
        let own = matches!(talk.login(), Some((user, None, by)) if user == ALICE.mailbox && by == login);
        self.that(own, &format!("alice: east let her in by {login} with the password she typed"));
    }

    fn bob(&mut self, doors: &Doors, (talk, outcome): &Played<Said>, errand: &Errand, journal: &[&str]) {
        let (speech, starttls) = (doors.speech, doors.speech.starttls());
        let words = format!("bob: over {starttls}, certificate checked, every command but the wrong login answered OK");
        let saw = self.script(&words, outcome);
        let line = journal_login(journal, &BOB);
        self.introduced("bob", &BOB, talk, doors.clear, line);
        self.errand(speech, &BOB, talk, saw, errand);
        let login = talk.login();
        self.that(login.is_some_and(|(user, ..)| user == BOB.mailbox), "bob: west was asked for the mailbox bob (destuser)");
        let master = login.is_some_and(|(_, master, by)| master == Some(MASTER.0) && by == speech.by(Mechanism::Plain));
        self.that(master, "bob: the master user signed in for him; west never saw his password");
        let department =
            talk.told().is_some_and(|who| who.forward.iter().any(|f| f.name == "department" && f.value == DEPARTMENT));
        self.that(department, "bob: west was told forward_department from his row");
        let secured = talk.reports.iter().position(|report| matches!(report.what, What::Secured(_)));
        let told = talk.reports.iter().position(|report| matches!(report.what, What::Told { .. }));
        let in_clear = talk.reports.iter().any(|report| matches!(report.what, What::Told { protected: false, .. }));
        let order = secured.is_some_and(|secured| told.is_some_and(|told| secured < told)) && !in_clear;
        self.that(order, &format!("bob: west was told who is calling after {starttls}, not before"));
        let verified = line.and_then(|line| word(line, "backend_tls")).is_some_and(|tls| tls.starts_with("TLSv1."));
        self.that(verified, "bob: Gatepost signed in at west under TLS");
        let wrong = speech.verdicts().wrong;
        let refused = saw.is_some_and(|saw| saw.refused_first);
        self.that(refused, &format!("bob: a wrong password got {wrong}, and west was not even connected"));
    }

    fn wrong(&mut self, speech: &dyn Speech, (_, outcome): &Played<Wrong>) {
        let saw = self.script("wrong logins: each was answered", outcome);
        let wrong = speech.verdicts().wrong;
        let by_server = saw.is_some_and(|saw| saw.by_server);
        self.that(by_server, &format!("alice: with a wrong password east was asked, said no, and she heard {wrong}"));
        let alike = saw.is_some_and(|saw| saw.unknown_alike);
        self.that(alike, "carol, whom nobody knows: the same words as for a wrong password, and no server was asked");
    }

    fn dead(&mut self, speech: &dyn Speech, (talk, outcome): &Played<Dead>, journal: &[&str]) {
        let saw = self.script("dave: his login was answered", outcome);
        let nobody = talk.reports.iter().all(|report| matches!(report.what, What::Left));
        let later = speech.verdicts().later;
        let text = format!("dave: his server is down, and he heard {later}: not that his password is wrong");
        self.that(saw.is_some_and(|saw| saw.later) && nobody, &text);
        let blamed = |line: &&str| {
            let is_his = line.contains(" refused ") && word(line, "user") == Some(DAVE.user);
            is_his && word(line, "side") == Some("backend")
        };
        self.that(journal.iter().any(blamed), "dave: the journal says that it is the server's trouble");
    }

    fn behind(&mut self, doors: &Doors, (talk, outcome): &Played<Behind>, journal: &[&str]) {
        let over = doors.safest_name();
        let words = format!("alice behind a balancer: over {over} after a PROXY header, every command answered OK");
        let saw = self.script(&words, outcome);
        let client = BEHIND.to_string();
        let is_hers = |line: &&&str| is_login(line, &ALICE) && word(line, "client") == Some(&client);
        let line = journal.iter().find(is_hers).copied();
        self.introduced("alice behind a balancer", &ALICE, talk, REACHED_THERE, line);
        let missing = journal.iter().any(|line| word(line, "reason") == Some("proxy-missing"));
        let left = saw.is_some_and(|saw| saw.left_without) && missing;
        self.that(left, "somebody without a PROXY header at that port: not served, and the journal says why");
    }

    fn erin(&mut self, doors: &Doors, (talk, outcome): &Played<Said>) {
        let (speech, over) = (doors.speech, doors.safest_name());
        let words = format!("erin: over {over}, every command but the wrong login answered OK");
        let saw = self.script(&words, outcome);
        let own = matches!(talk.login(), Some((user, None, by)) if user == ERIN.mailbox && by == speech.by(Mechanism::Xclient));
        self.that(own, "erin: west let her in because Gatepost said who she is (proxy_noauth)");
        let silent = talk.login().is_some() && !talk.heard().any(|line| line.starts_with("AUTH"));
        self.that(silent, "erin: west heard no password, hers or any");
        let wrong = speech.verdicts().wrong;
        let refused = saw.is_some_and(|saw| saw.refused_first);
        self.that(refused, &format!("erin: a wrong password got {wrong}, and west was not even connected"));
        self.errand(speech, &ERIN, talk, saw, &speech.errand(&ERIN, &[]));
    }

    fn ended(&mut self, journal: &[&str]) {
        for person in [&ALICE, &BOB] {
            let ended = journal.iter().any(|line| line.contains(" end ") && word(line, "user") == Some(person.user));
            self.that(ended, &format!("{}: the journal has the end of the session", person.mailbox));
        }
    }

    /// What the journal must not hold, nor what was shown.
    pub fn journal(&mut self, journal: &[String], talks: &[&Talk]) {
        self.about.clear();
        let heard = talks.iter().flat_map(|talk| talk.heard());
        let believed =
            journal.iter().map(String::as_str).chain(heard).any(|line| line.contains(FORGED_IP) || line.contains(FORGED_SESSION));
        self.that(!believed, "the address, session and TTL that the untrusted client claimed reached neither journal nor server");
        let is_in = |line: &str| {
            PASSWORDS.iter().any(|password| {
                let logins = [&ALICE, &BOB, &DAVE, &ERIN].map(|person| plain_response(person.user, password));
                line.contains(password) || logins.iter().any(|plain| line.contains(plain.as_str()))
            })
        };
        let clean = !journal.is_empty() && !journal.iter().any(|line| is_in(line));
        self.that(clean, &format!("no password in the {} lines of the journal, at level debug", journal.len()));
        let rows = || talks.iter().flat_map(|talk| &talk.rows).flat_map(|(left, right)| left.iter().chain(right));
        self.that(rows().next().is_some() && !rows().any(|line| is_in(line)), "no password in the conversations above");
    }

    /// Prints all of them. True: all hold.
    pub fn print(&self, screen: Screen) -> bool {
        screen.say(&screen.paint(Tone::Heading, "Checks"));
        for (holds, text) in &self.all {
            let (tone, verdict) = if *holds { (Tone::Good, "PASS") } else { (Tone::Bad, "FAIL") };
            screen.tell(tone, verdict, text);
        }
        let failed = self.all.iter().filter(|(holds, _)| !holds).count();
        let all = self.all.len();
        if failed == 0 {
            screen.say(&format!("all {all} checks hold"));
        } else {
            screen.say(&format!("{failed} of {all} checks fail"));
        }
        failed == 0 && all > 0
    }

    /// Begins what is about this.
    pub fn about(&mut self, title: &str) {
        self.about = format!("{title}, ");
    }

    /// What those are about that do not hold.
    #[cfg(test)]
    pub fn failed(&self) -> Vec<String> {
        self.all.iter().filter(|(holds, _)| !holds).map(|(_, text)| text.clone()).collect()
    }

    /// The script came to its end; what it saw.
    pub fn script<'a, T>(&mut self, text: &str, outcome: &'a Result<T, String>) -> Option<&'a T> {
        match outcome {
            Ok(_) => self.that(true, text),
            Err(e) => self.that(false, &format!("{text}: {e}")),
        }
        outcome.as_ref().ok()
    }

    /// One.
    pub fn that(&mut self, holds: bool, text: &str) {
        self.all.push((holds, format!("{}{text}", self.about)));
    }

    /// One that says, when it fails, what was seen instead.
    pub fn equal<T: PartialEq + Display>(&mut self, text: &str, expected: &T, seen: Option<T>) {
        let holds = seen.as_ref() == Some(expected);
        let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string());
        self.that(holds, &if holds { format!("{text}: {seen}") } else { format!("{text}: not {expected} but {seen}") });
    }

    /// The person's server was told who is calling, and told the truth. `line`: of the login in the journal.
    fn introduced(&mut self, name: &str, person: &Person, talk: &Talk, reached: SocketAddr, line: Option<&str>) {
        let server = person.server;
        let who = talk.told().cloned().unwrap_or_default();
        let address = |ip: Option<IpAddr>, port: Option<u16>| ip.zip(port).map(SocketAddr::from);
        let only = talk.reports.iter().all(|report| report.server == server || matches!(report.what, What::Left));
        self.that(only && talk.login().is_some(), &format!("{name}: was led to {server} and to no other server"));
        let of_journal = |name| line.and_then(|line| word(line, name)).map(str::to_owned);
        let client = talk.client.map_or_else(|| "a client".to_owned(), |client| client.to_string());
        let told = address(who.client_ip, who.client_port).map(|told| told.to_string());
        self.equal(&format!("{name}: {server} was told the client's own address and port"), &client, told);
        self.equal(&format!("{name}: the journal has the same client"), &client, of_journal("client"));
        let session = of_journal("session").unwrap_or_else(|| "a login in the journal".to_owned());
        let told = who.session.as_ref().map(ToString::to_string);
        self.equal(&format!("{name}: {server} was told the journal's session identifier"), &session, told);
        let told = address(who.reached_ip, who.reached_port);
        self.equal(&format!("{name}: {server} was told the address that was reached"), &reached, told);
        self.equal(&format!("{name}: and the name that was asked for"), &NAME.to_owned(), who.reached_name.clone());
        self.equal(&format!("{name}: how many proxies may follow"), &TTL, who.hops.map(HopsLeft::get));
        let transport = who.transport.map(Transport::as_str);
        self.equal(&format!("{name}: how the client's connection is protected"), &Transport::Tls.as_str(), transport);
    }

    /// The errand was done, and truly.
    fn errand(&mut self, speech: &dyn Speech, person: &Person, talk: &Talk, saw: Option<&Said>, errand: &Errand) {
        let arrived = saw.and_then(|saw| saw.arrived.as_deref());
        let name = person.mailbox;
        self.that(arrived == Some(errand.goods.as_slice()), &format!("{name}: {}", errand.arrives));
        for (holds, text) in speech.special(person, talk) {
            self.that(holds, &format!("{name}: {text}"));
        }
    }
}

fn is_login(line: &str, person: &Person) -> bool {
    line.contains(" info login ") && word(line, "user") == Some(person.user)
}

/// The first login of somebody.
fn journal_login<'a>(journal: &[&'a str], person: &Person) -> Option<&'a str> {
    journal.iter().find(|line| is_login(line, person)).copied()
}

/// The value of a word in a line of the journal; none of those that are asked for needs quotes.
pub fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
