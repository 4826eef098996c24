//! `driver = "sqlite"`: one query against a database file, read-only.
//!
//! ```toml
//! [[users]]
//! driver = "sqlite"
//! path = "users.db"
//! query = '''
//! SELECT NULL AS password, 'Y' AS nopassword, host, destuser, 'Y' AS proxy FROM proxy WHERE user = '%u'
//! '''
//! ```
//!
//! The columns of the one row are the fields: any type as text, NULL is absent. No row is "no such user"; more than one is
//! trouble, because choosing would be guessing. Variables are bound (see [`query`](super::query)). `concat()` is there also
//! where the library lacks it, for queries that come from MySQL.
//!
//! Lookups run in two threads with a connection each. A lookup whose caller gave up is interrupted in mid-query. Another
//! program may write, lock or replace the file at any time: a lock is waited for (half the lookup timeout), a file that was
//! replaced (another inode) is opened afresh, and one that is gone, locked too long or broken is trouble until it is well
//! again. The file is not trusted: its schema may not call functions with side effects, and rows have limits.

use super::password::Scheme;
use super::query::Query;
use super::workers::{Refused, Workers};
use super::{
    Asked, BuildProblem, Built, Driver, Fields, Finding, KeyKind, KeySpec, Shared, Users, default_scheme, missing, own_path,
    own_text,
};
use crate::config::meant::UsersBlock;
use crate::failure::{Failure, Kind, Side};
use crate::users::chain::{MAX_FIELDS, MAX_VALUE};
use crate::witness::Step;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use wire::secret::Secret;

/// The row of the table.
pub(super) const DRIVER: Driver = Driver {
    name: "sqlite",
    doc: "a query against an SQLite database file",
    keys: &[
        KeySpec { name: "path", kind: KeyKind::Path, required: true, doc: "the database file" },
        KeySpec { name: "query", kind: KeyKind::Text, required: true, doc: "one SELECT; its columns are the fields" },
        KeySpec {
            name: "default_pass_scheme",
            kind: KeyKind::Text,
            required: false,
            doc: "how a password without {SCHEME} is to be read; default CRYPT",
        },
    ],
    build,
};

/// Enough for thousands of lookups a second, and one can hang without stopping the other.
const THREADS: usize = 2;

struct Sqlite {
    name: String,
    query: Query,
    scheme: Scheme,
    workers: Workers<Handle>,
}

fn build(block: &UsersBlock, shared: &Shared) -> Built {
    let mut problems = Vec::new();
    let path = own_path(block, "path").map_err(|problem| problems.push(problem)).ok();
    let scheme = default_scheme(block, Scheme::CRYPT).map_err(|problem| problems.push(problem)).ok();
    let query = match own_text(block, "query") {
        None => Err(missing(block, "query")),
        Some((text, at)) => match Query::parse(text) {
            Ok(query) => Ok((query, at)),
            Err(error) => Err(BuildProblem::template(at, "query", &error)),
        },
    };
    let query = query.map_err(|problem| problems.push(problem)).ok();
    let (Some((path, path_at)), Some(scheme), Some((query, query_at))) = (path, scheme, query) else { return Err(problems) };

    for caution in &query.cautions {
        (shared.warn)(format!("{query_at}: query, {caution}"));
    }
    // An absolute path is never taken for a URI or for ":memory:".
    let path =
        std::path::absolute(path).map_err(|why| vec![BuildProblem::new(path_at, format!("path: {why}"), "name a file")])?;
    let patience = (shared.limits.lookup_timeout / 2).min(MAX_PATIENCE);
    let file = Arc::new(File { path, sql: query.sql(|number| format!("?{number}")), patience });

    // Tried once here, so that a wrong path or query is found by the one who wrote it and not by the first user.
    match file.open().and_then(|open| open.check(&file)) {
        Ok(()) => {}
        Err(Trouble::Busy(why)) => (shared.warn)(format!("users \"{}\": {}: {why}", block.name, file.path.display())),
        Err(Trouble::File(why)) => {
            let text = format!("path: {}: {why}", file.path.display());
            return Err(vec![BuildProblem::new(
                path_at,
                text,
                "name an SQLite database that can be read; one in WAL mode can only be read where its directory may be written to",
            )]);
        }
        Err(Trouble::Sql(why)) => {
            let fix = format!("try it with: sqlite3 {}", file.path.display());
            return Err(vec![BuildProblem::new(query_at, format!("query: {why}"), fix)]);
        }
    }
    let make = move || Handle { file: Arc::clone(&file), open: None };
    let workers = Workers::start("sqlite", THREADS, shared.limits.lookups.max(1), make).map_err(|why| {
        vec![BuildProblem::new(&block.at, format!("cannot start a thread: {why}"), "raise the limit of threads")]
    })?;
    Ok(Box::new(Sqlite { name: block.name.clone(), query, scheme, workers }))
}

impl Users for Sqlite {
    fn find<'a>(&'a self, asked: &'a Asked<'a>) -> Finding<'a> {
        Box::pin(async move {
            let values = self.query.values(asked);
            asked.question.witness.saw(|| self.query_step(asked));
            let running = Running::default();
            let theirs = running.clone();
            // Dropped when the caller gives up, and then interrupts what is under way.
            let _interrupt = InterruptOnDrop(running);
            match self.workers.run(move |handle| handle.find(&values, &theirs)).await {
                Ok(Ok(fields)) => Ok(fields),
                Ok(Err(Bad::Row(why))) => Err(Failure::new(Side::Users, Kind::Row, why)),
                Ok(Err(Bad::Database(why))) => Err(Failure::new(Side::Users, Kind::Lookup, why)),
                Err(Refused::Full) => Err(Failure::new(Side::Users, Kind::Lookup, "too many lookups are waiting")),
                Err(Refused::Lost) => Err(Failure::new(Side::Us, Kind::Internal, format!("{}: a lookup was lost", self.name))),
            }
        })
    }

    fn needs_password(&self) -> bool {
        self.query.uses_password()
    }

    fn default_scheme(&self) -> Scheme {
        self.scheme
    }
}

impl Sqlite {
    /// The query, for who watches.
    fn query_step(&self, asked: &Asked<'_>) -> Step {
        let sql = self.query.sql(|number| format!("?{number}"));
        let values = self.query.shown_values(asked);
        let mut step = Step::new("query", sql.split_whitespace().collect::<Vec<_>>().join(" "));
        for (number, value) in (1..).zip(&values) {
            step = step.more(format!("?{number} = {value:?}"));
        }
        if self.query.uses_password() && asked.question.witness.supposes_password() {
            step = step.more("the query looks at the password (%w), and none was given: it may find nothing for that alone");
        }
        step.with("database", &*self.name).with("sql", sql).with("values", values)
    }
}

/// No more than this is waited for a lock; SQLite counts milliseconds in an `int`.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// What is to be opened, and asked.
struct File {
    path: PathBuf,
    sql: String,
    /// How long a lock is waited for.
    patience: Duration,
}

/// What a thread owns.
struct Handle {
    file: Arc<File>,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    inode: (u64, u64),
}

/// Why the database cannot be used.
#[derive(Debug)]
enum Trouble {
    /// Somebody else has it locked.
    Busy(String),
    /// The file is missing, unreadable, or no database.
    File(String),
    /// The query does not fit it.
    Sql(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let text = match &error {
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            error => error.to_string(),
        };
        match code {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Busy(text),
            Some(
                ErrorCode::NotADatabase
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly,
            ) => Trouble::File(text),
            _ => Trouble::Sql(text),
        }
    }
}

/// Why a lookup has no result.
enum Bad {
    Database(String),
    Row(String),
}

impl File {
    fn inode(&self) -> Result<(u64, u64), Trouble> {
        match std::fs::metadata(&self.path) {
            Ok(meta) if meta.is_file() => Ok((meta.dev(), meta.ino())),
            Ok(_) => Err(Trouble::File("not a file".to_owned())),
            Err(why) => Err(Trouble::File(why.to_string())),
        }
    }

    fn open(&self) -> Result<Open, Trouble> {
        // Before opening: if the file is replaced in between, the next lookup sees a third inode and opens again.
        let inode = self.inode()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.patience)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        if *LACKS_CONCAT {
            provide_concat(&connection)?;
        }
        Ok(Open { connection, inode })
    }
}

impl Open {
    /// The query can be prepared, reads only, and gives columns.
    fn check(&self, file: &File) -> Result<(), Trouble> {
        let statement = self.connection.prepare(&file.sql)?;
        match statement.column_count() {
            _ if !statement.readonly() => Err(Trouble::Sql("it would change the database".to_owned())),
            0 => Err(Trouble::Sql("it is no SELECT".to_owned())),
            count if count > MAX_FIELDS => Err(Trouble::Sql(format!("{count} columns are more than {MAX_FIELDS}"))),
            _ => Ok(()),
        }
    }
}

impl Handle {
    fn find(&mut self, values: &[Secret<Vec<u8>>], running: &Running) -> Result<Option<Fields>, Bad> {
        match self.ask(values, running) {
            Ok(found) => found.map_err(Bad::Row),
            Err(trouble) => {
                // Whatever it was, a new connection is the best start for the next lookup; only a lock says nothing of ours.
                if !matches!(trouble, Trouble::Busy(_)) {
                    self.open = None;
                }
                let (Trouble::Busy(why) | Trouble::File(why) | Trouble::Sql(why)) = trouble;
                Err(Bad::Database(format!("{}: {why}", self.file.path.display())))
            }
        }
    }

    fn ask(&mut self, values: &[Secret<Vec<u8>>], running: &Running) -> Result<Result<Option<Fields>, String>, Trouble> {
        let inode = self.file.inode()?;
        if self.open.as_ref().is_none_or(|open| open.inode != inode) {
            let open = self.file.open()?;
            open.check(&self.file)?;
            self.open = Some(open);
        }
        let Some(open) = &self.open else { return Err(Trouble::File("not open".to_owned())) };
        let _running = running.begin(open.connection.get_interrupt_handle());
        let mut statement = open.connection.prepare_cached(&self.file.sql)?;
        for (number, value) in (1..).zip(values) {
            match std::str::from_utf8(value.expose()) {
                Ok(text) => statement.raw_bind_parameter(number, text)?,
                // Only the client's password can be this, and only a blob can carry it.
                Err(_) => statement.raw_bind_parameter(number, value.expose().as_slice())?,
            }
        }
        let outcome = read_row(&mut statement);
        // The statement is kept for the next lookup; what was bound may be a password.
        statement.clear_bindings();
        outcome
    }
}

/// The one row. The inner error is about what stands in it.
fn read_row(statement: &mut rusqlite::Statement<'_>) -> Result<Result<Option<Fields>, String>, Trouble> {
    // A table can be made with a column name that is not UTF-8, and rusqlite panics over it: it costs this lookup (see workers).
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.raw_query();
    let Some(row) = rows.next()? else { return Ok(Ok(None)) };
    let mut pairs = Vec::with_capacity(names.len());
    for (column, name) in names.into_iter().enumerate() {
        match text_of(row.get_ref(column)?) {
            Ok(Some(text)) => pairs.push((name, text)),
            Ok(None) => {}
            Err(why) => return Ok(Err(format!("column {}: {why}", name.escape_debug()))),
        }
    }
    let mut count = 1;
    while count <= COUNTED && rows.next()?.is_some() {
        count += 1;
    }
    match count {
        1 => Ok(Ok(Some(Fields::new(pairs)))),
        count if count > COUNTED => Err(Trouble::Sql(format!("more than {COUNTED} rows, one was expected"))),
        count => Err(Trouble::Sql(format!("{count} rows, one was expected"))),
    }
}

/// So many rows are counted for the message.
const COUNTED: usize = 100;

fn text_of(value: ValueRef<'_>) -> Result<Option<String>, String> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(number.to_string())),
        // As SQLite writes it: 1.0 and not 1.
        ValueRef::Real(number) => Ok(Some(format!("{number:?}"))),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes.len() > MAX_VALUE => {
            Err(format!("{} octets are more than {MAX_VALUE}", bytes.len()))
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            std::str::from_utf8(bytes).map(|text| Some(text.to_owned())).map_err(|_| "not UTF-8".to_owned())
        }
    }
}

/// The library is older than 3.44.
static LACKS_CONCAT: LazyLock<bool> =
    LazyLock::new(|| Connection::open_in_memory().is_ok_and(|connection| connection.prepare("SELECT concat('a', 'b')").is_err()));

/// As MySQL and PostgreSQL know it: the texts of all arguments; here NULL is the empty text, as in newer SQLite itself.
fn provide_concat(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("concat", -1, flags, |arguments| {
        let mut whole = String::new();
        for index in 0..arguments.len() {
            let text = text_of(arguments.get_raw(index)).map_err(|why| rusqlite::Error::UserFunctionError(why.into()))?;
            whole.push_str(&text.unwrap_or_default());
            if whole.len() > MAX_VALUE {
                return Err(rusqlite::Error::UserFunctionError("concat: the text is too long".into()));
            }
        }
        Ok(Value::Text(whole))
    })
}

/// The lookup that is under way, if it is: set and cleared by the thread, used by the caller to stop it.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Option<InterruptHandle>>>);

impl Running {
    fn begin(&self, handle: InterruptHandle) -> Ended<'_> {
        self.put(Some(handle));
        Ended(self)
    }

    fn put(&self, handle: Option<InterruptHandle>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }
}

/// Marks the end of the lookup however it ends, so that an interrupt can never hit the next one.
struct Ended<'a>(&'a Running);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.put(None);
    }
}

struct InterruptOnDrop(Running);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            handle.interrupt();
        }
    }
}

#[cfg(test)]
mod tests;
