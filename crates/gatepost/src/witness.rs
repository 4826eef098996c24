//! Who watches how a login is decided: nobody, an explanation (`gatepost explain`), or somebody who follows (`gatepost trace`).
//!
//! The rooms on the login way tell a [`Witness`] what they see and do, one [`Step`] at a time. In a login that nobody follows
//! there is none: then nothing is built, and a step costs one look at an empty option. So an explanation walks the way that
//! logins walk, and cannot tell another story.
//!
//! One who follows changes nothing. An explanation ([`Trail`]) changes two things on that way, both where no answer could be had
//! without it: a password that was not given is taken for the right one ([`Witness::supposes_password`]), and nobody waits for
//! `delay_until`. Whoever explains connects to no backend, counts no guess and takes no place: that is `explain`'s to see to.
//!
//! Steps may quote rows, queries and names: whoever shows them on a terminal escapes them. Secrets do not get here: see
//! [`Witness::shown`].

use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use wire::dance::SignIn;
use wire::overheard::Line;
pub use wire::overheard::{MASK, is_secret};
use wire::secret::Password;

/// The most steps that are kept: more than any configuration makes.
const STEPS_MAX: usize = 4096;

/// What was seen, one thing at a time.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What kind of step: a stable word.
    pub step: &'static str,
    /// In words for people, one line.
    pub text: String,
    /// More lines of the same kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
    /// The same for programs, by stable keys.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

impl Step {
    /// A step in words.
    pub fn new(step: &'static str, text: impl Into<String>) -> Step {
        Step { step, text: text.into(), more: Vec::new(), data: Map::new() }
    }

    /// One more line in words.
    #[must_use]
    pub fn more(mut self, line: impl Into<String>) -> Step {
        self.more.push(line.into());
        self
    }

    /// The same for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Step {
        self.data.insert(key.to_owned(), value.into());
        self
    }
}

/// Something that becomes known of a dialogue.
pub enum Known<'a> {
    /// A name that it tries to sign in with.
    User(&'a str),
    /// Who is calling.
    Client(SocketAddr, &'a str),
    /// Where it is sent.
    Backend(Option<SocketAddr>, &'a str),
}

/// All that was seen of one login that did not happen.
#[derive(Default)]
pub struct Trail {
    steps: Mutex<Vec<Step>>,
    /// What the client says, where that was given: masked wherever a row or a query repeats it.
    password: Option<Password>,
    /// No Gatepost runs: what is counted and known here is nothing.
    alone: bool,
}

impl Trail {
    /// A trail of a login with this password; with none it is taken for the right one.
    pub fn new(password: Option<Password>) -> Trail {
        Trail { password, ..Trail::default() }
    }

    /// A trail of a process that serves nobody: limits and the health of backends are unknown to it.
    #[must_use]
    pub fn alone(self) -> Trail {
        Trail { alone: true, ..self }
    }

    /// Its witness.
    pub fn witness(&self) -> Witness<'_> {
        Witness(Some(self))
    }

    /// The password of the login, where it was given.
    pub fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// What has been seen so far.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear for Trail {
    fn hear(&self, step: Step) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() < STEPS_MAX {
            steps.push(step);
        }
    }

    /// A value as it may be shown: `***` for what a name says is secret, and for what holds the password of this login.
    fn shown(&self, name: &str, value: &str) -> String {
        let said = self.password.as_ref().map(|password| password.expose().as_slice()).filter(|said| !said.is_empty());
        let repeats = said.is_some_and(|said| value.as_bytes().windows(said.len()).any(|window| window == said));
        if !value.is_empty() && (is_secret(name) || repeats) { MASK.to_owned() } else { value.to_owned() }
    }

    fn trail(&self) -> Option<&Trail> {
        Some(self)
    }
}

/// Hears what a witness tells. An explanation is one; a trace of a real login is another, and changes nothing on its way.
pub trait Ear: Sync {
    /// A step.
    fn hear(&self, step: Step);

    /// A value of this name as it may be shown.
    fn shown(&self, name: &str, value: &str) -> String;

    /// The trail of an explanation: this is no real login.
    fn trail(&self) -> Option<&Trail> {
        None
    }

    /// The lines of a real login are wanted, too; only then the following are called.
    fn listens(&self) -> bool {
        false
    }

    /// What the backend and we said.
    fn backend_said(&self, _lines: Vec<Line>) {}

    /// A password that is about to be used.
    fn keeps(&self, _sign_in: &SignIn) {}

    /// Something becomes known of whose login it is.
    fn learn(&self, _known: &Known<'_>) {}

    /// What is being done now.
    fn is_now(&self, _state: &'static str) {}
}

/// Hears what is seen, or nobody does.
#[derive(Clone, Copy, Default)]
pub struct Witness<'a>(Option<&'a dyn Ear>);

impl<'a> Witness<'a> {
    /// Of a login that nobody follows.
    pub const NOBODY: Witness<'static> = Witness(None);

    /// Of a login that somebody follows.
    pub fn of(ear: Option<&'a dyn Ear>) -> Witness<'a> {
        Witness(ear)
    }

    /// Tells a step. It is made only where somebody hears it.
    pub fn saw(self, step: impl FnOnce() -> Step) {
        if let Some(ear) = self.0 {
            ear.hear(step());
        }
    }

    /// Somebody watches who wants to know what would be: this is no real login, and nothing may come of it.
    pub fn watches(self) -> bool {
        self.trail().is_some()
    }

    /// Somebody follows a real login, line by line.
    pub fn listens(self) -> bool {
        self.0.is_some_and(Ear::listens)
    }

    /// Who follows, where somebody does.
    pub fn ear(self) -> Option<&'a dyn Ear> {
        self.0.filter(|ear| ear.listens())
    }

    fn trail(self) -> Option<&'a Trail> {
        self.0.and_then(Ear::trail)
    }

    /// No password was given, and one that a database would compare counts as right. Never true of a real login.
    pub fn supposes_password(self) -> bool {
        self.trail().is_some_and(|trail| trail.password.is_none())
    }

    /// Whether limits and the health of backends are known to the process that is watched.
    pub fn knows_the_house(self) -> bool {
        self.trail().is_none_or(|trail| !trail.alone)
    }

    /// A value of this name as it may be shown.
    pub fn shown(self, name: &str, value: &str) -> String {
        self.0.map_or_else(|| MASK.to_owned(), |ear| ear.shown(name, value))
    }
}

impl fmt::Debug for Witness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.watches() { "Witness" } else { "Witness(nobody)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::secret::Secret;

    #[test]
    fn nobody_builds_no_step() {
        Witness::NOBODY.saw(|| panic!("a step was built for nobody"));
        assert!(!Witness::NOBODY.supposes_password());
    }

    #[test]
    fn secrets_are_masked_by_name_and_by_what_they_hold() {
        let trail = Trail::new(Some(Secret::new(b"tiger".to_vec())));
        let witness = trail.witness();
        for (name, value, shown) in [
            ("host", "10.0.0.1", "10.0.0.1"),
            ("nopassword", "Y", "Y"),
            ("NoPassword", "Y", "Y"),
            ("password", "{PLAIN}lion", "***"),
            ("password_noscheme", "lion", "***"),
            ("pass", "lion", "***"),
            ("Pass:default", "lion", "***"),
            ("api_token", "lion", "***"),
            ("destuser", "a tiger in it", "***"),
            ("pass", "", ""),
        ] {
            assert_eq!(witness.shown(name, value), shown, "{name}={value}");
        }
        assert!(!witness.supposes_password());
        assert!(Trail::new(None).witness().supposes_password());
    }
}
