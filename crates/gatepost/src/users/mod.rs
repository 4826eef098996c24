//! User databases: a question in, fields out.
//!
//! A database ([`Users`]) is asked for one user and gives the fields of one row, or nothing, or trouble. It decides
//! nothing: the [`chain`] asks the databases in order, checks the password, and merges the fields; the route reads them.
//!
//! Three outcomes stay three things throughout: *no such user* (`Ok(None)`), *a row*, and *trouble* (`Err`). Trouble never
//! turns into "wrong password" and never falls through to the next database unless the configuration says so.
//!
//! A new database is one file here and one row in [`DRIVERS`].

pub mod chain;
mod fixed;
pub mod lookups;
mod passwd_file;
pub mod password;
mod query;
mod sqlite;
mod template;
mod workers;

pub use chain::Chain;

pub use crate::config::{KeyKind, KeySpec};

use crate::config::DriverName;
use crate::config::meant::{Limits, Own, OwnValue, UsersBlock};
use crate::failure::Failure;
use crate::witness::{MASK, Witness, is_secret};
use password::Scheme;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use template::TemplateError;
use wire::origin::Origin;
use wire::secret::Password;
use zeroize::Zeroizing;

/// Every database there is. The configuration checks a block's own keys against its row.
pub static DRIVERS: &[Driver] = &[fixed::DRIVER, passwd_file::DRIVER, sqlite::DRIVER];

/// One kind of database.
#[derive(Debug)]
pub struct Driver {
    /// The word behind `driver =`.
    pub name: &'static str,
    /// What it is for, one line.
    pub doc: &'static str,
    /// The keys that only this driver has, beside those that every `[[users]]` block has.
    pub keys: &'static [KeySpec],
    /// Makes it from its block. Opens files, and so may block for a moment.
    pub build: fn(&UsersBlock, &Shared) -> Built,
}

/// What a driver makes of its block.
pub type Built = Result<Box<dyn Users>, Vec<BuildProblem>>;

/// The rows, as the configuration needs to know them.
pub static NAMES: LazyLock<Vec<DriverName>> =
    LazyLock::new(|| DRIVERS.iter().map(|driver| DriverName { name: driver.name, keys: driver.keys }).collect());

/// What every database is given besides its own block.
#[derive(Clone)]
pub struct Shared {
    /// `[limits]`.
    pub limits: Limits,
    /// Where a database says what an operator should know and no login is waiting to hear.
    pub warn: Warn,
}

/// Takes one line for the journal at level warning.
pub type Warn = Arc<dyn Fn(String) + Send + Sync>;

/// Why a block cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildProblem {
    /// `file:line:col` of the value.
    pub at: String,
    /// What is wrong.
    pub text: String,
    /// What to write instead.
    pub fix: String,
}

impl BuildProblem {
    /// Puts the three together.
    pub fn new(at: &str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        BuildProblem { at: at.to_owned(), text: text.into(), fix: fix.into() }
    }

    fn template(at: &str, what: &str, error: &TemplateError) -> Self {
        BuildProblem::new(at, format!("{what}, {error}"), error.fix.clone())
    }
}

impl fmt::Display for BuildProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: error[users]: {}", self.at, self.text)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "\n  fix: {}", self.fix) }
    }
}

/// What is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// The name as the client said it, checked for form.
    pub user: &'a str,
    /// Nobody signs in: where the mail of this user is delivered to is asked, and no password is compared.
    pub delivery: bool,
    /// The password, where one was said.
    pub password: Option<&'a Password>,
    /// A peer in `[trust] login` says that the user has signed in: a password is not compared.
    pub vouched: bool,
    /// The protocol's name, for `protocols` of a block.
    pub protocol: &'static str,
    /// `%s`: `imap`, `pop3`, `sieve`, ...
    pub service: &'static str,
    /// `%m`.
    pub mechanism: &'static str,
    /// The client's connection is protected, `%c`.
    pub protected: bool,
    /// Who is calling: `%r %l %a %b %{session} %{local_name} %{passdb:forward_x}`.
    pub origin: &'a Origin,
    /// The client's own ID as an IMAP list, where it is retained.
    pub client_id: Option<&'a str>,
    /// Who watches; nobody watches a real login.
    pub witness: Witness<'a>,
}

/// A question as one database of a chain is asked it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the client asked.
    pub question: &'a Question<'a>,
    /// The name to look up: after `username_format`, and after renames by databases asked earlier.
    pub user: &'a str,
    /// What databases asked earlier gave: `%{passdb:NAME}`.
    pub so_far: &'a Fields,
}

/// Fields of a row: names case-folded to lower case, NULL left out, in the order of the row. Debug output masks values
/// that may be secret.
///
/// Any field may hold a password (`pass`, `password`, a column under another name), so every value is wiped when it goes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, Zeroizing<String>)>);

impl Fields {
    /// Takes the pairs; names are folded.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Fields(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), Zeroizing::new(value))).collect())
    }

    /// The value of a field; of the last one where a row has the same name twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a field, in place where it exists.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().rev().find(|(have, _)| have.eq_ignore_ascii_case(name)) {
            // Not in the old one's memory: growing would leave a copy of it behind.
            Some((_, old)) => *old = Zeroizing::new(value.to_owned()),
            None => self.0.push((name.to_ascii_lowercase(), Zeroizing::new(value.to_owned()))),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
    }

    /// Takes a field out and gives its value.
    pub fn take(&mut self, name: &str) -> Option<Zeroizing<String>> {
        let value = self.get(name).map(|value| Zeroizing::new(value.to_owned()));
        self.remove(name);
        value
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, if is_secret(name) { MASK } else { value }))).finish()
    }
}

/// The future of [`Users::find`].
pub type Finding<'a> = Pin<Box<dyn Future<Output = Result<Option<Fields>, Failure>> + Send + 'a>>;

/// One database.
pub trait Users: Send + Sync {
    /// Looks a user up. `None`: there is no such user. The row's `password` field, if any, is a verifier such as
    /// `{SSHA256}...`; the chain compares.
    ///
    /// The caller sets the deadline and drops the future when it passes; work under way must then be given up. It also
    /// bounds how many run at once.
    ///
    /// # Errors
    /// Only for trouble with the database (`Kind::Lookup`) or with what stands in the row (`Kind::Row`).
    fn find<'a>(&'a self, asked: &'a Asked<'a>) -> Finding<'a>;

    /// It can only be asked together with a password, and so not for a recipient.
    fn needs_password(&self) -> bool {
        false
    }

    /// How a `password` without `{SCHEME}` is to be read.
    fn default_scheme(&self) -> Scheme;

    /// Some verifier that stands in this database, where that is known without being asked for a user. Unknown users cost
    /// as much time as this one.
    fn example(&self) -> Option<String> {
        None
    }
}

/// Who checked the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Nobody: the backend will.
    Nobody,
    /// A database of the chain, by name.
    By(String),
    /// The trusted peer that vouches for the user (`LOGIN` of `XCLIENT`).
    Peer,
}

/// What the chain found.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The user after `username_format`, `user`, `username` and `domain` fields.
    pub user: String,
    /// All fields, merged; what the chain itself consumes (see [`chain`]) is out.
    pub fields: Fields,
    /// `nopassword` was set by the database that let the user in, and no other one checked the password.
    pub nopassword: bool,
    /// Who checked the password.
    pub checked: Checked,
    /// The database that gave the answer, for the log.
    pub database: String,
}

/// A block's own text value.
fn own_text<'a>(block: &'a UsersBlock, key: &str) -> Option<(&'a str, &'a str)> {
    match block.own.get(key) {
        Some(OwnValue { value: Own::Text(text), at }) => Some((text, at)),
        _ => None,
    }
}

/// A block's own path, which must be there.
fn own_path<'a>(block: &'a UsersBlock, key: &str) -> Result<(&'a Path, &'a str), BuildProblem> {
    match block.own.get(key) {
        Some(OwnValue { value: Own::Path(path), at }) => Ok((path, at)),
        _ => Err(missing(block, key)),
    }
}

fn missing(block: &UsersBlock, key: &str) -> BuildProblem {
    BuildProblem::new(
        &block.at,
        format!("users \"{}\": driver {} needs {key}", block.name, block.driver),
        format!("add {key} = ..."),
    )
}

/// The block's `default_pass_scheme`, or what the driver has for default.
fn default_scheme(block: &UsersBlock, otherwise: Scheme) -> Result<Scheme, BuildProblem> {
    match own_text(block, "default_pass_scheme") {
        None => Ok(otherwise),
        Some((name, at)) => Scheme::named(name).map_err(|why| {
            BuildProblem::new(at, format!("default_pass_scheme: {why}"), "use one of PLAIN, SSHA256, SSHA512, CRYPT, ...")
        }),
    }
}

#[cfg(test)]
mod testing;
