//! `driver = "passwd-file"`: a text file, one user a line, in Dovecot's format.
//!
//! ```text
//! user:{SCHEME}password:uid:gid:gecos:home:shell:name=value name2=value2
//! ```
//!
//! Only the name is needed. What stands behind the seventh colon are fields, separated by blanks (so no value has a blank;
//! colons are fine); `userdb_...` fields and the numbers before are a mail store's business and passed over. Values may hold
//! variables, which are expanded once. Empty lines and lines that begin with `#` are nothing.
//!
//! The file is read whole and kept; before a lookup, at most once a second, its time, size and inode are looked at, in a
//! thread of its own. What happens with a file that is not well:
//!
//! * *missing, unreadable, over 64 MiB*: every lookup is trouble ("try later") until it is well again. Going on with old
//!   contents would let in people whom the operator has just taken out;
//! * *changed within the last second*: the old contents are used until it has been quiet for a second, five at most. It may
//!   be in the middle of being written, and half a file would tell users that they do not exist;
//! * *a broken line*: reported, and trouble for the user whose line it is; nobody else notices. A line whose user cannot be
//!   read is reported and passed over;
//! * *a user twice*: reported; the first line counts.

use super::password::Scheme;
use super::template::Text;
use super::workers::{Refused, Workers};
use super::{
    Asked, BuildProblem, Built, Driver, Fields, Finding, KeyKind, KeySpec, Shared, Users, Warn, default_scheme, own_path,
};
use crate::config::meant::UsersBlock;
use crate::failure::{Failure, Kind, Side};
use crate::witness::Step;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The row of the table.
pub(super) const DRIVER: Driver = Driver {
    name: "passwd-file",
    doc: "a text file in the format of Dovecot's passwd-file",
    keys: &[
        KeySpec { name: "path", kind: KeyKind::Path, required: true, doc: "the file" },
        KeySpec {
            name: "default_pass_scheme",
            kind: KeyKind::Text,
            required: false,
            doc: "how a password without {SCHEME} is to be read; default CRYPT",
        },
        KeySpec { name: "scheme", kind: KeyKind::Text, required: false, doc: "the older name of default_pass_scheme" },
    ],
    build,
};

/// The largest file that is read.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// How long a look at the file's time and size is good for; and how long a file must be quiet.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that is written to without pause is read anyway after this.
const MAX_UNREST: Duration = Duration::from_secs(5);
/// So many broken lines are reported each time.
const REPORTED: usize = 10;

struct PasswdFile {
    scheme: Scheme,
    source: Arc<Source>,
    workers: Workers<()>,
}

fn build(block: &UsersBlock, shared: &Shared) -> Built {
    let mut problems = Vec::new();
    let path = own_path(block, "path").map_err(|problem| problems.push(problem)).ok();
    let mut scheme = default_scheme(block, Scheme::CRYPT);
    if let Some((name, at)) = super::own_text(block, "scheme") {
        scheme = match Scheme::named(name) {
            _ if block.own.contains_key("default_pass_scheme") => {
                Err(BuildProblem::new(at, "scheme and default_pass_scheme are the same key", "keep one of them"))
            }
            Ok(scheme) => Ok(scheme),
            Err(why) => Err(BuildProblem::new(at, format!("scheme: {why}"), "use one of PLAIN, SSHA256, SSHA512, CRYPT, ...")),
        };
    }
    let scheme = scheme.map_err(|problem| problems.push(problem)).ok();
    let (Some((path, path_at)), Some(scheme)) = (path, scheme) else { return Err(problems) };
    let source = Arc::new(Source::new(block.name.clone(), path.to_owned(), Arc::clone(&shared.warn)));
    if let Err(why) = source.look() {
        return Err(vec![BuildProblem::new(path_at, format!("path: {why}"), "name a readable file")]);
    }
    let workers = Workers::start("passwd-file", 1, shared.limits.lookups.max(1), || ()).map_err(|why| {
        vec![BuildProblem::new(&block.at, format!("cannot start a thread: {why}"), "raise the limit of threads")]
    })?;
    Ok(Box::new(PasswdFile { scheme, source, workers }))
}

impl Users for PasswdFile {
    fn find<'a>(&'a self, asked: &'a Asked<'a>) -> Finding<'a> {
        Box::pin(async move {
            asked.question.witness.saw(|| {
                let path = self.source.path.display();
                Step::new("query", format!("the line of {:?} in {path}", asked.user))
                    .with("database", &*self.source.name)
                    .with("path", path.to_string())
                    .with("line", asked.user)
            });
            let contents = match self.source.fresh() {
                Some(contents) => contents,
                None => {
                    let source = Arc::clone(&self.source);
                    self.workers.run(move |()| source.look()).await.map_err(|why| {
                        let text = match why {
                            Refused::Full => "too many lookups are waiting for the file",
                            Refused::Lost => "reading the file was given up",
                        };
                        Failure::new(Side::Users, Kind::Lookup, text)
                    })?
                }
            };
            let contents = contents.map_err(|why| Failure::new(Side::Users, Kind::Lookup, why))?;
            let Some(line) = contents.line(asked.user) else { return Ok(None) };
            let pairs = line.and_then(Line::read).map_err(|why| Failure::new(Side::Users, Kind::Row, why))?;
            let expand = |(name, text): (String, Text)| Ok((name, text.expand_text(asked)?));
            let mut fields = Fields::new(pairs.fields.into_iter().map(expand).collect::<Result<Vec<_>, Failure>>()?);
            if let Some(password) = pairs.password {
                fields.set("password", password);
            }
            Ok(Some(fields))
        })
    }

    fn default_scheme(&self) -> Scheme {
        self.scheme
    }

    fn example(&self) -> Option<String> {
        self.source.fresh()?.ok()?.example()
    }
}

/// The file, and what was in it when we last looked.
struct Source {
    name: String,
    path: PathBuf,
    warn: Warn,
    last: Mutex<Option<Look>>,
    /// Somebody has been in it.
    peopled: AtomicBool,
}

struct Look {
    at: Instant,
    contents: Result<Arc<Contents>, String>,
    /// Since when the file has been seen to change without a pause.
    unrest: Option<Instant>,
}

/// What is compared to see a change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: Option<SystemTime>,
    /// Of the inode: a writer that restores size and time cannot restore this.
    touched: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp {
            inode: (meta.dev(), meta.ino()),
            size: meta.len(),
            changed: meta.modified().ok(),
            touched: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Written to within the last second, or in the future by a wrong clock.
    fn is_warm(&self) -> bool {
        self.changed.is_some_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < LOOK_EVERY))
    }
}

impl Source {
    fn new(name: String, path: PathBuf, warn: Warn) -> Self {
        Source { name, path, warn, last: Mutex::new(None), peopled: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Look>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look found, while it is good.
    fn fresh(&self) -> Option<Result<Arc<Contents>, String>> {
        self.lock().as_ref().filter(|look| look.at.elapsed() < LOOK_EVERY).map(|look| look.contents.clone())
    }

    /// Looks, unless somebody else just did. Blocks: never on an I/O thread.
    fn look(&self) -> Result<Arc<Contents>, String> {
        if let Some(contents) = self.fresh() {
            return contents;
        }
        let (old, unrest) = match &*self.lock() {
            Some(look) => (look.contents.as_ref().ok().cloned(), look.unrest),
            None => (None, None),
        };
        let (contents, unrest) = self.read(old, unrest);
        *self.lock() = Some(Look { at: Instant::now(), contents: contents.clone(), unrest });
        contents
    }

    fn read(&self, old: Option<Arc<Contents>>, unrest: Option<Instant>) -> (Result<Arc<Contents>, String>, Option<Instant>) {
        let shown = self.path.display();
        let meta = match std::fs::metadata(&self.path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return (Err(format!("{shown}: not a file")), None),
            Err(why) => return (Err(format!("{shown}: {why}")), None),
        };
        let stamp = Stamp::of(&meta);
        if let Some(old) = &old {
            if old.stamp == stamp && old.settled {
                return (Ok(Arc::clone(old)), None);
            }
            let since = unrest.unwrap_or_else(Instant::now);
            if stamp.is_warm() && since.elapsed() < MAX_UNREST {
                return (Ok(Arc::clone(old)), Some(since));
            }
        }
        match self.read_whole() {
            Ok((stamp, bytes)) => {
                let (contents, reports) = Contents::of(stamp, bytes);
                // A full disk empties files. Nobody's password has become wrong by that.
                let empty = contents.lines.is_empty();
                if empty && self.peopled.load(Ordering::Relaxed) {
                    return (Err(format!("{shown}: nobody is in it any more; if that is meant, restart or reload")), None);
                }
                self.peopled.fetch_or(!empty, Ordering::Relaxed);
                if old.is_none_or(|old| old.bytes != contents.bytes) {
                    self.report(reports);
                }
                (Ok(Arc::new(contents)), None)
            }
            Err(why) => (Err(format!("{shown}: {why}")), None),
        }
    }

    fn read_whole(&self) -> Result<(Stamp, Vec<u8>), String> {
        let file = File::open(&self.path).map_err(|why| why.to_string())?;
        // Taken before reading: a change while we read shows at the next look.
        let stamp = Stamp::of(&file.metadata().map_err(|why| why.to_string())?);
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|why| why.to_string())?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("larger than {MAX_FILE} octets"));
        }
        Ok((stamp, bytes))
    }

    fn report(&self, reports: Vec<(usize, String)>) {
        let count = reports.len();
        for (line, why) in reports.into_iter().take(REPORTED) {
            (self.warn)(format!("users \"{}\": {}:{line}: {why}", self.name, self.path.display()));
        }
        if count > REPORTED {
            (self.warn)(format!("users \"{}\": {}: {} more broken lines", self.name, self.path.display(), count - REPORTED));
        }
    }
}

/// A file's contents, and where each user's line is in them.
struct Contents {
    stamp: Stamp,
    /// It had been quiet for a second when we read it. Otherwise it may change once more within the same tick of the file
    /// system's clock, which the stamp does not show.
    settled: bool,
    bytes: Vec<u8>,
    lines: HashMap<Box<str>, Range<usize>>,
}

impl Contents {
    /// Finds the lines. Also gives what is wrong with which line.
    fn of(stamp: Stamp, bytes: Vec<u8>) -> (Contents, Vec<(usize, String)>) {
        let mut lines: HashMap<Box<str>, Range<usize>> = HashMap::new();
        let mut reports = Vec::new();
        let mut begin = 0;
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let range = begin..begin + line.len();
            begin = range.end + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let Some(name) = std::str::from_utf8(name).ok().filter(|name| !name.is_empty()) else {
                reports.push((number, "no user name that could be read; the line is passed over".to_owned()));
                continue;
            };
            if let Err(why) = text_of(line).and_then(Line::read) {
                reports.push((number, why));
            }
            match lines.entry(name.into()) {
                Entry::Occupied(_) => {
                    reports.push((number, format!("user {} stands here a second time; the first line counts", shown(name))));
                }
                Entry::Vacant(place) => {
                    place.insert(range);
                }
            }
        }
        let settled = !stamp.is_warm();
        (Contents { stamp, settled, bytes, lines }, reports)
    }

    /// A user's line. The inner error is a line that is no text.
    fn line(&self, user: &str) -> Option<Result<&str, String>> {
        let range = self.lines.get(user)?.clone();
        Some(text_of(self.bytes.get(range)?))
    }

    fn example(&self) -> Option<String> {
        let password = |user: &str| Some(Line::read(self.line(user)?.ok()?).ok()?.password?.to_owned());
        self.lines.keys().take(100).find_map(|user| password(user))
    }
}

fn text_of(line: &[u8]) -> Result<&str, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    std::str::from_utf8(line).map_err(|_| "the line is not UTF-8".to_owned())
}

/// A line, taken apart.
struct Line<'a> {
    password: Option<&'a str>,
    fields: Vec<(String, Text)>,
}

impl Line<'_> {
    fn read(line: &str) -> Result<Line<'_>, String> {
        let mut parts = line.splitn(8, ':').skip(1);
        let password = parts.next().filter(|password| !password.is_empty());
        let extra = parts.nth(5).unwrap_or_default();
        let mut fields = Vec::new();
        for pair in extra.split(' ').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.starts_with("userdb_") {
                continue;
            }
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("a field without a name".to_owned());
            }
            let text = Text::parse(value).map_err(|error| format!("field {}, {error}", shown(name)))?;
            fields.push((name.to_owned(), text));
        }
        Ok(Line { password, fields })
    }
}

fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
