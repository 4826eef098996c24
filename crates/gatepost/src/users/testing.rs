//! What the tests of this room share: blocks, questions, a directory that goes away.

use super::{Answer, BuildProblem, Chain, Question, Warn};
use crate::config::default_limits;
use crate::config::meant::{Limits, Own, OwnValue, Skip, Then, UsersBlock};
use crate::failure::{Failure, Kind};
use crate::witness::Witness;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use wire::origin::{Origin, SessionId};
use wire::secret::{Password, Secret};

/// A directory of its own for one test.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new() -> Dir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gatepost-users-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A database made by these statements.
    pub(super) fn database(&self, name: &str, sql: &str) -> PathBuf {
        let path = self.path(name);
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn limits() -> Limits {
    default_limits()
}

/// A block with all defaults.
pub(super) fn block(name: &str, driver: &'static str, own: &[(&str, Own)]) -> UsersBlock {
    let own = own.iter().map(|(key, value)| {
        let at = format!("gatepost.toml:7:1 {key}");
        ((*key).to_owned(), OwnValue { value: value.clone(), at })
    });
    UsersBlock {
        name: name.to_owned(),
        driver,
        protocols: Vec::new(),
        username_format: None,
        default_fields: Vec::new(),
        override_fields: Vec::new(),
        result_success: Then::ReturnOk,
        result_failure: Then::Continue,
        result_internalfail: Then::ReturnFail,
        skip: Skip::Never,
        deny: false,
        own: own.collect(),
        at: "gatepost.toml:5:1".to_owned(),
    }
}

pub(super) fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn fixed(name: &str, fields: &[(&str, &str)]) -> UsersBlock {
    block(name, "static", &[("fields", Own::Fields(pairs(fields)))])
}

pub(super) fn passwd_file(name: &str, path: &Path) -> UsersBlock {
    block(name, "passwd-file", &[("path", Own::Path(path.to_owned()))])
}

pub(super) fn sqlite(name: &str, path: &Path, query: &str) -> UsersBlock {
    block(name, "sqlite", &[("path", Own::Path(path.to_owned())), ("query", Own::Text(query.to_owned()))])
}

/// Collects what databases warn of.
pub(super) fn warnings() -> (Warn, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    (Arc::new(move |text| kept.lock().unwrap().push(text)), heard)
}

pub(super) fn chain(blocks: &[UsersBlock]) -> Chain {
    Chain::build(blocks, &limits(), warnings().0).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub(super) fn problems(blocks: &[UsersBlock]) -> Vec<BuildProblem> {
    match Chain::build(blocks, &limits(), warnings().0) {
        Ok(_) => panic!("it should not be built"),
        Err(problems) => problems,
    }
}

pub(super) fn secret(password: &str) -> Password {
    Secret::new(password.as_bytes().to_vec())
}

pub(super) fn origin() -> Origin {
    Origin::at_accept("192.0.2.7:40001".parse().unwrap(), "198.51.100.1:143".parse().unwrap(), SessionId::new("s3ss10n").unwrap())
}

pub(super) fn question<'a>(user: &'a str, password: Option<&'a Password>, origin: &'a Origin) -> Question<'a> {
    Question {
        vouched: false,
        user,
        delivery: false,
        password,
        protocol: "imap",
        service: "imap",
        mechanism: "PLAIN",
        protected: true,
        origin,
        client_id: None,
        witness: Witness::NOBODY,
    }
}

pub(super) async fn sign_in(chain: &Chain, user: &str, password: &str) -> Result<Answer, Failure> {
    let (origin, password) = (origin(), secret(password));
    chain.sign_in(&question(user, Some(&password), &origin)).await
}

/// The kind of the failure; a success is one.
pub(super) async fn refused(chain: &Chain, user: &str, password: &str) -> (Kind, String) {
    match sign_in(chain, user, password).await {
        Ok(answer) => panic!("{user} was let in: {answer:?}"),
        Err(failure) => (failure.kind, failure.detail),
    }
}
