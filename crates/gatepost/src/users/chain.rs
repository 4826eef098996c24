//! The databases in order, and what becomes of their answers.
//!
//! Rules and words are those of Dovecot's passdb chain. The chain has a state, *let in* or *not*, that begins as *not*. Each
//! database that is not passed over (`protocols`, `skip`) gives one of three outcomes, and its `result_success`,
//! `result_failure` or `result_internalfail` says how the state changes and whether the next one is asked:
//!
//! | rule | state becomes | then |
//! | --- | --- | --- |
//! | `return-ok`, `return-fail`, `return` | in, not in, as it is | end |
//! | `continue-ok`, `continue-fail`, `continue` | in, not in, as it is | next |
//!
//! * Fields of a database that let the user in are merged into the answer; those of one that did not are forgotten.
//! * A database after one that let the user in does not check the password again (`continue`, `continue-ok`).
//! * Trouble (a database down, late or overloaded, a row that makes no sense) ends the chain unless
//!   `result_internalfail` says otherwise, and if nobody let the user in, the verdict is trouble and never "wrong password".
//! * `deny`: whoever stands in that database is refused; its trouble always ends the chain.
//! * A name that exists nowhere costs as much time as a wrong password.
//!
//! Of the fields the chain itself uses up: `password`, `password_noscheme`, `nopassword`, `noauthenticate`, `allow_nets`,
//! `allow_real_nets` (a mismatch is a database that does not know the user), `user`, `username` and `domain` (renames).
//! A name may end in `:default` or `:protected` (set only where nothing is set yet) or `:remove` (take the field out).
//! `default_fields` come before the row, `override_fields` after it and before the password is checked.

mod block;
mod seen;

use super::lookups::Lookups;
use super::password::Pool;
use super::{Answer, BuildProblem, Checked, Fields, Question, Shared, Warn};
use crate::config::meant::{Limits, Skip, Then, UsersBlock};
use crate::failure::{Failure, Kind, Side};
use block::{Block, Outcome, Proof};
use std::sync::Arc;

/// The most fields of one row.
pub const MAX_FIELDS: usize = 256;
/// The longest value of one field, in octets.
pub const MAX_VALUE: usize = 64 * 1024;

/// The fields that the chain uses up; no later room sees them.
pub const USED_UP: &[&str] = &[
    "password",
    "password_noscheme",
    "nopassword",
    "noauthenticate",
    "allow_nets",
    "allow_real_nets",
    "user",
    "username",
    "domain",
];

/// All databases of a configuration.
pub struct Chain {
    blocks: Vec<Block>,
    pool: Pool,
}

impl Chain {
    /// Opens everything. Reads files, and waits for a locked database for up to half the lookup timeout: not for an I/O
    /// thread.
    ///
    /// # Errors
    /// All problems of all blocks at once.
    pub fn build(blocks: &[UsersBlock], limits: &Limits, warn: Warn) -> Result<Chain, Vec<BuildProblem>> {
        let shared = Shared { limits: limits.clone(), warn };
        let mut problems = Vec::new();
        let mut built = Vec::new();
        for block in blocks {
            match Block::build(block, &shared) {
                Ok(block) => built.push(block),
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let pool = Pool::start(limits.lookup_timeout)
            .map_err(|why| vec![BuildProblem::new("", format!("cannot start a thread: {why}"), "raise the limit of threads")])?;
        Ok(Chain { blocks: built, pool })
    }

    /// Asks who this is, and whether the password is right.
    ///
    /// # Errors
    /// `Kind::Credentials` when the user is not let in, whatever the reason; anything else is trouble, and says nothing about
    /// the password. The detail names the database.
    pub async fn sign_in(&self, question: &Question<'_>) -> Result<Answer, Failure> {
        check_form(question)?;
        let mut standing = Standing::new(question.user);
        let mut asked = 0_usize;
        let mut blocks = self.blocks.iter();
        for block in blocks.by_ref() {
            if let Some(why) = standing.passes_over(block, question) {
                question.witness.saw(|| seen::passed_over(block, why));
                continue;
            }
            asked += 1;
            let outcome = block.ask(question, &standing, &self.pool).await;
            question.witness.saw(|| seen::outcome(block, &outcome, question));
            if block.deny {
                match outcome {
                    Outcome::No { known: false, .. } => continue,
                    Outcome::Trouble(failure) => return Err(failure),
                    _ => return Err(credentials(format!("user stands in the deny list {}", block.name))),
                }
            }
            let next = standing.take(block, outcome);
            question.witness.saw(|| seen::rule(block, &standing, next));
            if next == Next::End {
                break;
            }
        }
        blocks.for_each(|block| question.witness.saw(|| seen::passed_over(block, "the chain ended before it")));
        if asked == 0 && !standing.state {
            let can = if question.delivery { " that can be asked without a password" } else { "" };
            let text = format!("no [[users]] block{can} is asked for protocol {}", question.protocol);
            return Err(Failure::new(Side::Us, Kind::Lookup, text));
        }
        self.verdict(question, standing).await
    }

    /// The databases that a recipient is not looked up in, though they serve the protocol: they can only be asked with a password.
    pub fn deaf_to_recipients<'a>(&'a self, protocol: &'a str) -> impl Iterator<Item = &'a str> {
        self.blocks.iter().filter(move |block| block.serves(protocol) && block.needs_password()).map(|block| block.name.as_str())
    }

    /// Goes on counting where an older generation has counted, for databases of the same name.
    pub fn continue_from(&mut self, old: &Chain) {
        for block in &mut self.blocks {
            if let Some(same) = old.blocks.iter().find(|same| same.name == block.name) {
                block.seen_lookups = Arc::clone(&same.seen_lookups);
            }
        }
    }

    /// What came of the questions to each database, by name; and how many are under way.
    pub fn lookups(&self) -> impl Iterator<Item = (&str, &Lookups, usize)> {
        self.blocks.iter().map(|block| (block.name.as_str(), &*block.seen_lookups, block.under_way()))
    }

    /// The database with the most lookups under way: its name, how many, how many it may have.
    pub fn busiest(&self) -> Option<(&str, usize, usize)> {
        let busy = self.blocks.iter().map(|block| (block.name.as_str(), block.under_way(), block.lookups));
        busy.max_by_key(|(_, under_way, _)| *under_way)
    }

    async fn verdict(&self, question: &Question<'_>, standing: Standing<'_>) -> Result<Answer, Failure> {
        if standing.state {
            question.witness.saw(|| seen::answer(&standing, question.delivery));
            return Ok(standing.answer(question.vouched));
        }
        if let Some(trouble) = standing.trouble {
            return Err(trouble);
        }
        if let Some(name) = standing.found.as_ref().filter(|_| question.delivery) {
            let text = format!("users \"{name}\": knows the user, and the rules of the chain (result_success) let nobody in");
            return Err(Failure::new(Side::Users, Kind::Lookup, text));
        }
        if let Some(block) = standing.only_looked_up {
            let text = "noauthenticate, and no database behind it to check the password";
            return Err(block.trouble(Kind::Lookup, text));
        }
        if let Some(password) = question.password {
            for block in &standing.unproven {
                if let Some(decoy) = block.decoy() {
                    // The verdict stands; trouble here is what a known user would have met as well.
                    self.pool.matches(&decoy, password).await?;
                }
            }
        }
        Err(standing.no.unwrap_or_else(|| credentials("no database let the user in".to_owned())))
    }
}

/// What stands after the databases asked so far.
struct Standing<'c> {
    user: String,
    fields: Fields,
    /// Let in.
    state: bool,
    /// Later databases need not check the password.
    verified: bool,
    checked: Checked,
    nopassword: bool,
    database: String,
    trouble: Option<Failure>,
    no: Option<Failure>,
    /// The rule that was followed last, and by what outcome.
    followed: (&'static str, Option<Then>),
    /// The last database asked had `noauthenticate`.
    only_looked_up: Option<&'c Block>,
    /// The last database that knew the user.
    found: Option<String>,
    /// Databases that said no without comparing a password.
    unproven: Vec<&'c Block>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Ask,
    End,
}

impl<'c> Standing<'c> {
    fn new(user: &str) -> Self {
        Standing {
            user: user.to_owned(),
            fields: Fields::default(),
            state: false,
            verified: false,
            checked: Checked::Nobody,
            nopassword: false,
            database: String::new(),
            trouble: None,
            no: None,
            followed: ("", None),
            only_looked_up: None,
            found: None,
            unproven: Vec::new(),
        }
    }

    /// Why a database is not asked.
    fn passes_over(&self, block: &Block, question: &Question<'_>) -> Option<&'static str> {
        match block.skip {
            _ if question.delivery && block.needs_password() => Some("it can only be asked with a password (%w)"),
            _ if !block.serves(question.protocol) => Some("it is not for this protocol (protocols)"),
            Skip::Authenticated if self.state => Some("an earlier one let the user in (skip = \"authenticated\")"),
            Skip::Unauthenticated if !self.state => Some("no earlier one let the user in (skip = \"unauthenticated\")"),
            _ => None,
        }
    }

    fn take(&mut self, block: &'c Block, outcome: Outcome) -> Next {
        self.only_looked_up = None;
        self.followed = ("noauthenticate", None);
        let (key, rule) = match outcome {
            Outcome::In { user, fields, proof } => {
                self.user = user;
                self.fields = fields;
                block.name.clone_into(&mut self.database);
                self.found = Some(block.name.clone());
                match proof {
                    Proof::Checked => self.checked = Checked::By(block.name.clone()),
                    Proof::NoPassword => self.nopassword = true,
                    Proof::Earlier => {}
                }
                ("result_success", block.result_success)
            }
            Outcome::LookedUp { user, fields } => {
                self.user = user;
                self.fields = fields;
                self.only_looked_up = Some(block);
                return Next::Ask;
            }
            Outcome::No { why, proven, .. } => {
                self.no = Some(why);
                if !proven {
                    self.unproven.push(block);
                }
                ("result_failure", block.result_failure)
            }
            Outcome::Trouble(failure) => {
                self.trouble.get_or_insert(failure);
                ("result_internalfail", block.result_internalfail)
            }
        };
        self.followed = (key, Some(rule));
        match rule {
            Then::ReturnOk | Then::ContinueOk => {
                self.state = true;
                block.name.clone_into(&mut self.database);
            }
            Then::ReturnFail | Then::ContinueFail => self.state = false,
            Then::Return | Then::Continue => {}
        }
        if rule == Then::ContinueOk || rule == Then::Continue && key == "result_success" {
            self.verified = true;
        }
        match rule {
            Then::ReturnOk | Then::ReturnFail | Then::Return => Next::End,
            Then::Continue | Then::ContinueOk | Then::ContinueFail => Next::Ask,
        }
    }

    fn answer(self, vouched: bool) -> Answer {
        let checked = if vouched { Checked::Peer } else { self.checked };
        Answer {
            user: self.user,
            fields: self.fields,
            nopassword: self.nopassword && checked == Checked::Nobody,
            checked,
            database: self.database,
        }
    }
}

/// What is not even looked up (T25). An empty password is no password: some backends would take it for an anonymous bind.
fn check_form(question: &Question<'_>) -> Result<(), Failure> {
    if !is_name(question.user) {
        return Err(credentials("the user name has a form that no user has".to_owned()));
    }
    if question.password.is_some_and(|password| password.expose().is_empty()) {
        return Err(credentials("an empty password".to_owned()));
    }
    Ok(())
}

/// A row may not make a name that no client could have said.
fn is_name(user: &str) -> bool {
    wire::sasl::name(user.as_bytes()).is_ok()
}

fn credentials(detail: String) -> Failure {
    Failure::new(Side::Client, Kind::Credentials, detail)
}

#[cfg(test)]
mod tests;
