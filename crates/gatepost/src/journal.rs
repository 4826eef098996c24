//! The journal: one event, one line.
//!
//! Lines are built where the event happens and written by one thread of their own. A session never waits for a disk or a
//! pipe: when the queue is full the line is dropped and counted, and the count is written as soon as there is room.
//!
//! Whatever a peer or a database may have influenced is escaped: control characters and the Unicode characters that
//! change the direction of text become `\u{..}`, a value is cut at 512 octets, and in the text format a value with a space
//! or a quote is put into quotes. A password cannot get here: it has no `Display`.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

pub use crate::config::meant::LogFormat as Format;
pub use crate::config::meant::LogLevel as Level;

/// The longest value of a word, in octets before escaping.
const VALUE_MAX: usize = 512;
/// Lines that may wait for the writer.
const QUEUE: usize = 8192;

/// A value of a line.
#[derive(Clone, Copy)]
pub enum Word<'a> {
    /// Text from anywhere.
    Text(&'a dyn Display),
    /// A number.
    Number(u64),
    /// A length of time, written in seconds with milliseconds.
    Seconds(Duration),
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    queue: SyncSender<Note>,
    dropped: AtomicU64,
    /// How many were dropped since the start.
    lost: AtomicU64,
    level: AtomicU8,
    json: AtomicBool,
    /// The file to open anew, beside the queue: a full queue must not lose it.
    reopen: Mutex<Option<Option<PathBuf>>>,
}

impl Shared {
    fn spell(&self, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
        let line = if self.json.load(Ordering::Relaxed) { json_line } else { text_line };
        line(&now(), level, event, words)
    }
}

enum Note {
    Line(String),
    Reopen,
    Flush(SyncSender<()>),
}

impl Journal {
    /// Opens the file (standard error if none) and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(format: Format, level: Level, file: Option<&Path>) -> io::Result<Journal> {
        let target = Target::open(file)?;
        Journal::start(format, level, target)
    }

    /// A journal whose lines go to a function: for the demo and for tests.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn to_fn(format: Format, level: Level, f: impl FnMut(&str) + Send + 'static) -> io::Result<Journal> {
        Journal::start(format, level, Target::Function(Box::new(f)))
    }

    fn start(format: Format, level: Level, target: Target) -> io::Result<Journal> {
        let (queue, notes) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            queue,
            dropped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            level: AtomicU8::new(rank(level)),
            json: AtomicBool::new(format == Format::Json),
            reopen: Mutex::new(None),
        });
        // Weak: the writer ends when the last journal is gone.
        let weak = Arc::downgrade(&shared);
        std::thread::Builder::new().name("journal".into()).spawn(move || write_notes(&notes, target, &weak))?;
        Ok(Journal { shared })
    }

    /// Takes over what a reload changed, and opens the file anew.
    pub fn reopen(&self, format: Format, level: Level, file: Option<&Path>) {
        self.shared.level.store(rank(level), Ordering::Relaxed);
        self.shared.json.store(format == Format::Json, Ordering::Relaxed);
        *self.shared.reopen.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.map(Path::to_path_buf));
        // Only to wake the writer: where the queue is full it is awake.
        let _ = self.shared.queue.try_send(Note::Reopen);
    }

    /// Lines of this level are written.
    pub fn wants(&self, level: Level) -> bool {
        rank(level) <= self.shared.level.load(Ordering::Relaxed)
    }

    /// How many lines were dropped since the start.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes one line: what happened, and words in order.
    pub fn line(&self, level: Level, event: &str, words: &[(&str, Word<'_>)]) {
        if !self.wants(level) {
            return;
        }
        let line = self.shared.spell(level, event, words);
        if let Err(TrySendError::Full(_)) = self.shared.queue.try_send(Note::Line(line)) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A line with one sentence, for events without fields of their own.
    pub fn say(&self, level: Level, event: &str, text: &dyn Display) {
        self.line(level, event, &[("text", Word::Text(text))]);
    }

    /// Waits until everything said so far is written; about two seconds at most. Blocks its thread: for the end of a process.
    pub fn flush(&self) {
        let until = Instant::now() + Duration::from_secs(2);
        let (done, wait) = sync_channel(1);
        let mut note = Note::Flush(done);
        // A queue that is full now has room as soon as the writer gets on.
        while let Err(TrySendError::Full(again)) = self.shared.queue.try_send(note) {
            if Instant::now() >= until {
                return;
            }
            note = again;
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = wait.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

enum Target {
    Stderr,
    File(std::fs::File),
    Function(Box<dyn FnMut(&str) + Send>),
}

impl Target {
    fn open(file: Option<&Path>) -> io::Result<Target> {
        match file {
            None => Ok(Target::Stderr),
            Some(path) => std::fs::OpenOptions::new().create(true).append(true).open(path).map(Target::File),
        }
    }

    fn reopen(&mut self, file: Option<&Path>) -> io::Result<()> {
        if !matches!(self, Target::Function(_)) {
            *self = Target::open(file)?;
        }
        Ok(())
    }

    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        // A journal that cannot be written must not stop the mail; the next reopen may mend it.
        let _ = match self {
            Target::Stderr => io::stderr().lock().write_all(text.as_bytes()),
            Target::File(file) => file.write_all(text.as_bytes()),
            Target::Function(f) => {
                for line in text.lines() {
                    f(line);
                }
                Ok(())
            }
        };
    }
}

fn write_notes(notes: &Receiver<Note>, mut target: Target, shared: &Weak<Shared>) {
    let mut batch = String::new();
    while let Ok(first) = notes.recv() {
        let mut next = Some(first);
        let mut waiting = Vec::new();
        while let Some(note) = next.take() {
            match note {
                Note::Line(line) => batch.push_str(&line),
                Note::Flush(done) => waiting.push(done),
                Note::Reopen => {}
            }
            if batch.len() < 64 * 1024 {
                next = notes.try_recv().ok();
            }
        }
        if let Some(shared) = shared.upgrade() {
            let lost = shared.dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let text = "lines were dropped because the log could not keep up";
                let words = [("lines", Word::Number(lost)), ("text", Word::Text(&text))];
                batch.push_str(&shared.spell(Level::Warning, "log-dropped", &words));
            }
            let reopen = shared.reopen.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(path) = reopen {
                target.write(&batch);
                batch.clear();
                if let Err(e) = target.reopen(path.as_deref()) {
                    let problem = format!("{}: {e}", path.unwrap_or_default().display());
                    batch.push_str(&shared.spell(Level::Error, "log-reopen-failed", &[("text", Word::Text(&problem))]));
                }
            }
        }
        target.write(&batch);
        batch.clear();
        for done in waiting {
            let _ = done.send(());
        }
    }
}

fn now() -> String {
    // Wall clock: for people. Deadlines use the monotonic clock.
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_millisecond(now.as_millisecond()).map_or_else(|_| now.to_string(), |t| format!("{t:.3}"))
}

fn rank(level: Level) -> u8 {
    match level {
        Level::Error => 0,
        Level::Warning => 1,
        Level::Info => 2,
        Level::Debug => 3,
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

fn text_line(now: &str, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
    let mut line = format!("{now} {} {event}", level_word(level));
    for (name, word) in words {
        let _ = write!(line, " {name}=");
        write_value(&mut line, word, |line, value| {
            let quoted = value.is_empty() || value.contains([' ', '"', '=', '\\']) || value.chars().any(unprintable);
            let quote = if quoted { "\"" } else { "" };
            line.push_str(quote);
            escape(line, value, |line, c| {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            });
            line.push_str(quote);
        });
    }
    line.push('\n');
    line
}

fn json_line(now: &str, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
    let mut line = format!("{{\"time\":\"{now}\",\"level\":\"{}\",\"event\":\"{event}\"", level_word(level));
    for (name, word) in words {
        let _ = write!(line, ",\"{name}\":");
        write_value(&mut line, word, |line, value| {
            line.push('"');
            escape(line, value, |line, c| {
                for unit in c.encode_utf16(&mut [0u16; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            });
            line.push('"');
        });
    }
    line.push_str("}\n");
    line
}

fn write_value(line: &mut String, word: &Word<'_>, text: impl Fn(&mut String, &str)) {
    let _ = match word {
        Word::Number(n) => write!(line, "{n}"),
        Word::Seconds(d) => write!(line, "{:.3}", d.as_secs_f64()),
        Word::Text(value) => {
            text(line, &cut(value));
            Ok(())
        }
    };
}

fn escape(line: &mut String, value: &str, spell: impl Fn(&mut String, char)) {
    for c in value.chars() {
        if unprintable(c) {
            spell(line, c);
        } else {
            if matches!(c, '"' | '\\') {
                line.push('\\');
            }
            line.push(c);
        }
    }
}

/// Control characters, and characters that would reorder the line on a terminal.
fn unprintable(c: char) -> bool {
    wire::encode::is_invisible(c)
        || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn cut(value: &dyn Display) -> String {
    struct Cut(String);
    impl fmt::Write for Cut {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            for c in s.chars() {
                if self.0.len() + c.len_utf8() > VALUE_MAX {
                    return Err(fmt::Error); // enough: stop formatting
                }
                self.0.push(c);
            }
            Ok(())
        }
    }
    let mut cut = Cut(String::new());
    let _ = write!(cut, "{value}");
    cut.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(user: &'a &'a str) -> [(&'static str, Word<'a>); 2] {
        [("user", Word::Text(user)), ("bytes", Word::Number(7))]
    }

    #[test]
    fn one_event_is_one_line_whatever_is_in_it() {
        let evil = "a\r\n2026-01-01 info login user=root\x1b[2J\u{202e}\u{2028}\"\\ = \0";
        for line in [text_line("T", Level::Info, "login", &words(&evil)), json_line("T", Level::Info, "login", &words(&evil))] {
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.ends_with('\n'));
            assert!(!line.trim_end_matches('\n').chars().any(unprintable), "{line:?}");
        }
        let json = json_line("T", Level::Info, "login", &words(&evil));
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["user"], evil);
        assert_eq!(read["bytes"], 7);
    }

    #[test]
    fn values_are_cut_and_plain_ones_stay_plain() {
        let long = "x".repeat(64 * 1024);
        let line = text_line("T", Level::Info, "login", &words(&long.as_str()));
        assert!(line.len() < 600, "{}", line.len());
        assert_eq!(text_line("T", Level::Info, "login", &words(&"müller")), "T info login user=müller bytes=7\n");
        assert_eq!(text_line("T", Level::Info, "login", &words(&"a b")), "T info login user=\"a b\" bytes=7\n");
    }

    #[test]
    fn a_stuck_writer_drops_and_counts() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (tx, lines) = std::sync::mpsc::channel();
        let mut first = true;
        let journal = Journal::to_fn(Format::Text, Level::Info, move |line| {
            if std::mem::take(&mut first) {
                let _ = wait.recv();
            }
            let _ = tx.send(line.to_owned());
        })
        .unwrap();
        for _ in 0..(QUEUE * 2) {
            journal.say(Level::Info, "x", &"y");
        }
        go.send(()).unwrap();
        journal.flush();
        journal.say(Level::Info, "x", &"end");
        journal.flush();
        let all: Vec<String> = lines.try_iter().collect();
        assert!(all.iter().any(|l| l.contains("log-dropped lines=")), "{} lines", all.len());
    }

    #[test]
    fn debug_is_not_written_at_info() {
        let (tx, lines) = std::sync::mpsc::channel();
        let journal = Journal::to_fn(Format::Text, Level::Info, move |line| drop(tx.send(line.to_owned()))).unwrap();
        journal.say(Level::Debug, "a", &"");
        journal.say(Level::Error, "b", &"");
        journal.flush();
        let all: Vec<String> = lines.try_iter().collect();
        assert_eq!(all.len(), 1);
        assert!(all[0].contains(" error b "));
    }
}
