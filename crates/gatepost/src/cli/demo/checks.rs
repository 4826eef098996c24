//! What must hold after the script of `gatepost demo --once`.
//!
//! The witnesses are what was seen on the wire at both ends ([`Talk`]) and Gatepost's journal. A script that broke off is a
//! check that fails; what it would have seen is then missing and fails as well.

use super::letters::Letter;
use super::scene::{ALICE, BOB, DEPARTMENT, MASTER, NAME, PASSWORDS, Person};
use super::screen::{Screen, Tone};
use super::script::{FORGED_IP, FORGED_SESSION, Said, Talk, Wrong};
use super::server::What;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use wire::encode::base64_encode;
use wire::origin::{HopsLeft, Transport};

/// `x-proxy-ttl` that Gatepost sends when nobody told it one: 5, and one hop is spent.
const TTL: u8 = 4;

/// The checks so far: whether each holds, and what it is about.
#[derive(Debug, Default)]
pub struct Checks(Vec<(bool, String)>);

impl Checks {
    /// The script came to its end; what it saw, or nothing.
    pub fn script<T: Default>(&mut self, text: &str, outcome: Result<T, String>) -> T {
        match outcome {
            Ok(value) => {
                self.that(true, text);
                value
            }
            Err(e) => {
                self.that(false, &format!("{text}: {e}"));
                T::default()
            }
        }
    }

    /// What must hold of alice's session.
    pub fn alice(&mut self, talk: &Talk, saw: &Said, reached: SocketAddr, letter: Option<&Letter>, journal: &[String]) {
        self.introduced(&ALICE, talk, reached, journal);
        self.letter(&ALICE, saw, letter);
        let noop = saw.pipelined && talk.heard().any(|line| line.ends_with(" NOOP"));
        self.that(noop, "alice: the NOOP that she sent together with LOGIN was answered by east");
        let own = matches!(talk.login(), Some((user, None, "LOGIN")) if user == ALICE.mailbox);
        self.that(own, "alice: east let her in by LOGIN with the password she typed");
    }

    /// What must hold of bob's session.
    pub fn bob(&mut self, talk: &Talk, saw: &Said, reached: SocketAddr, letter: Option<&Letter>, journal: &[String]) {
        self.introduced(&BOB, talk, reached, journal);
        self.letter(&BOB, saw, letter);
        let login = talk.login();
        self.that(login.is_some_and(|(user, ..)| user == BOB.mailbox), "bob: west was asked for the mailbox bob (destuser)");
        let master = login.is_some_and(|(_, master, by)| master == Some(MASTER.0) && by == "AUTHENTICATE PLAIN");
        self.that(master, "bob: the master user signed in for him; west never saw his password");
        let department =
            talk.told().is_some_and(|who| who.forward.iter().any(|f| f.name == "department" && f.value == DEPARTMENT));
        self.that(department, "bob: west was told forward_department from his row");
        let secured = talk.reports.iter().position(|report| matches!(report.what, What::Secured(_)));
        let told = talk.reports.iter().position(|report| matches!(report.what, What::Told { .. }));
        let in_clear = talk.reports.iter().any(|report| matches!(report.what, What::Told { protected: false, .. }));
        let order = secured.is_some_and(|secured| told.is_some_and(|told| secured < told)) && !in_clear;
        self.that(order, "bob: west was told who is calling after STARTTLS, not before");
        let verified =
            journal_login(journal, &BOB).and_then(|line| word(line, "backend_tls")).is_some_and(|tls| tls.starts_with("TLSv1."));
        self.that(verified, "bob: Gatepost signed in at west under TLS");
        self.that(saw.refused_first, "bob: a wrong password got NO [AUTHENTICATIONFAILED], and west was not even connected");
    }

    /// What must hold of the logins that failed.
    pub fn wrong(&mut self, saw: &Wrong) {
        self.that(saw.by_server, "alice: with a wrong password east was asked, said no, and she heard AUTHENTICATIONFAILED");
        self.that(saw.unknown_alike, "carol, whom nobody knows: the same words as for a wrong password, and no server was asked");
    }

    /// What the journal must hold, and must not.
    pub fn journal(&mut self, journal: &[String], talks: &[&Talk]) {
        let believed = journal.iter().any(|line| line.contains(FORGED_IP) || line.contains(FORGED_SESSION))
            || talks.iter().flat_map(|talk| talk.heard()).any(|line| line.contains(FORGED_IP) || line.contains(FORGED_SESSION));
        self.that(!believed, "the address, session and TTL that the untrusted client claimed reached neither journal nor server");
        for person in [&ALICE, &BOB] {
            let ended = journal.iter().any(|line| line.contains(" end ") && word(line, "user") == Some(person.user));
            self.that(ended, &format!("{}: the journal has the end of the session", person.mailbox));
        }
        let is_in = |line: &str| {
            PASSWORDS.iter().any(|password| {
                let plain = base64_encode(format!("\0{}\0{password}", BOB.user).as_bytes());
                let plain = String::from_utf8_lossy(plain.expose()).into_owned();
                line.contains(password) || line.contains(&plain)
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
        for (holds, text) in &self.0 {
            let (tone, verdict) = if *holds { (Tone::Good, "PASS") } else { (Tone::Bad, "FAIL") };
            screen.tell(tone, verdict, text);
        }
        let failed = self.0.iter().filter(|(holds, _)| !holds).count();
        let all = self.0.len();
        if failed == 0 {
            screen.say(&format!("all {all} checks hold"));
        } else {
            screen.say(&format!("{failed} of {all} checks fail"));
        }
        failed == 0 && all > 0
    }

    fn that(&mut self, holds: bool, text: &str) {
        self.0.push((holds, text.to_owned()));
    }

    /// One that says, when it fails, what was seen instead.
    fn equal<T: PartialEq + Display>(&mut self, text: &str, expected: &T, seen: Option<T>) {
        let holds = seen.as_ref() == Some(expected);
        let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string());
        self.0.push((holds, if holds { format!("{text}: {seen}") } else { format!("{text}: not {expected} but {seen}") }));
    }

    /// The person's server was told who is calling, and told the truth.
    fn introduced(&mut self, person: &Person, talk: &Talk, reached: SocketAddr, journal: &[String]) {
        let (name, server) = (person.mailbox, person.server);
        let who = talk.told().cloned().unwrap_or_default();
        let address = |ip: Option<IpAddr>, port: Option<u16>| ip.zip(port).map(SocketAddr::from);
        let only = talk.reports.iter().all(|report| report.server == server || matches!(report.what, What::Left));
        self.that(only && talk.login().is_some(), &format!("{name}: was led to {server} and to no other server"));
        let line = journal_login(journal, person);
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
        self.equal(&format!("{name}: x-proxy-ttl"), &TTL, who.hops.map(HopsLeft::get));
        self.equal(&format!("{name}: x-client-transport"), &Transport::Tls.as_str(), who.transport.map(Transport::as_str));
    }

    fn letter(&mut self, person: &Person, saw: &Said, letter: Option<&Letter>) {
        let same = letter.is_some_and(|letter| saw.letter.as_deref() == Some(letter.octets()));
        self.that(same, &format!("{}: letter 1 arrived octet by octet as {} sent it", person.mailbox, person.server));
    }
}

fn journal_login<'a>(journal: &'a [String], person: &Person) -> Option<&'a str> {
    let is_login = |line: &&String| line.contains(" info login ") && word(line, "user") == Some(person.user);
    journal.iter().find(is_login).map(String::as_str)
}

/// The value of a word in a line of the journal; none of those that are asked for needs quotes.
fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
