//! User databases: a question in, fields out.

use crate::failure::Failure;
use std::future::Future;
use std::pin::Pin;
use wire::origin::Origin;
use wire::secret::Password;

/// What is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// The name as the client said it, checked for form.
    pub user: &'a str,
    /// The password, where one was said.
    pub password: Option<&'a Password>,
    /// `%s`: `imap`, `pop3`, ...
    pub protocol: &'static str,
    /// `%m`.
    pub mechanism: &'static str,
    /// The client's connection is protected, `%c`.
    pub protected: bool,
    /// Who is calling: `%r %l %a %b %{session} %{local_name} %{passdb:forward_x}`.
    pub origin: &'a Origin,
    /// The client's own ID as an IMAP list, where it is retained.
    pub client_id: Option<&'a str>,
}

/// Fields of a row: names case-folded to lower case, NULL left out, in the order of the row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Takes the pairs; names are folded.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Fields(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a field, in place where it exists.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(have, _)| have == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_ascii_lowercase(), value.to_owned())),
        }
    }

    /// Takes a field out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(have, _)| have != name);
    }
}

/// One database.
pub trait Users: Send + Sync {
    /// Looks a user up. `None`: there is no such user. The row's `password` field, if any, is a verifier such as
    /// `{SSHA256}...`; the chain compares.
    fn find<'a>(
        &'a self,
        question: &'a Question<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Fields>, Failure>> + Send + 'a>>;
}

/// Who checked the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Nobody: the backend will.
    Nobody,
    /// A database of the chain, by name.
    By(String),
}

/// What the chain found.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The user after `username_format`, `user`, `username` and `domain` fields.
    pub user: String,
    /// All fields, merged; `password`, `nopassword` are out.
    pub fields: Fields,
    /// `nopassword` was set by the database that let the user in.
    pub nopassword: bool,
    /// Who checked the password.
    pub checked: Checked,
    /// The database that gave the answer, for the log.
    pub database: String,
}
