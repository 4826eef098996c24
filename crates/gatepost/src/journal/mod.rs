//! The journal: one event, one line.
//!
//! Lines are built where the event happens and written by one thread of their own. A session never waits for a disk, a
//! pipe or a daemon: when the queue is full the line is dropped and counted, and the count is written as soon as there is
//! room. What a target does not take is counted likewise.
//!
//! A format spells an event (`text`, `json`, `dovecot`); a target carries the line (`target`). Which of them are
//! in force changes with a reload, between two lines of the queue: each line goes where it was spelled for.
//!
//! Whatever a peer or a database may have influenced is escaped: control characters and the Unicode characters that
//! change the direction of text become `\u{..}`, a value is cut at 512 octets and a line at about 7 KiB, and each format
//! has its own care that a value stays one value. A password cannot get here: it has no `Display`.

mod dovecot;
mod json;
mod target;
mod text;

pub use text::{escape_control, unprintable};

pub use crate::config::meant::{LogFormat as Format, LogLevel as Level, LogTarget as Destination};

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};
use target::{Shape, Target};

/// The longest value of a word, in octets before escaping.
const VALUE_MAX: usize = 512;
/// Words that would make a line longer than this are left out and counted. Receivers of datagrams take 8 KiB.
const LINE_MAX: usize = 7 * 1024;
/// Lines that may wait for the writer.
const QUEUE: usize = 8192;
/// What the writer takes at once, octets.
const BATCH: usize = 64 * 1024;

/// A value of a line.
#[derive(Clone, Copy)]
pub enum Word<'a> {
    /// Text from anywhere.
    Text(&'a dyn Display),
    /// Text that only the formats of Dovecot have a place for.
    Dovecot(&'a dyn Display),
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
    /// Dropped, and not told of yet.
    dropped: AtomicU64,
    /// Dropped since the start.
    lost: AtomicU64,
    level: AtomicU8,
    /// Held for reading from the spelling of a line until it is in the queue: so no line of an old style comes behind one
    /// of a new style.
    style: RwLock<Style>,
    /// What the writer is to open before the first line of a generation. Beside the queue: a full queue must not lose it.
    turns: Mutex<VecDeque<(u64, Destination)>>,
}

impl Shared {
    fn drop_lines(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }
}

/// How lines are spelled at present, and for whom.
struct Style {
    format: Format,
    destination: Destination,
    shape: Shape,
    /// Counts how often something was opened anew.
    generation: u64,
}

impl Style {
    fn spell(&self, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> String {
        self.shape.line(self.format, level, event, words)
    }
}

enum Note {
    Line(u64, String),
    Reopen(u64),
    Flush(SyncSender<()>),
}

impl Journal {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or nobody listens on the socket.
    pub fn open(format: Format, level: Level, destination: &Destination) -> io::Result<Journal> {
        let target = Target::open(destination)?;
        target.probe()?;
        Journal::start(format, level, destination.clone(), target)
    }

    /// A journal whose lines go to a function: for the demo and for tests.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn to_fn(format: Format, level: Level, f: impl FnMut(&str) + Send + 'static) -> io::Result<Journal> {
        Journal::start(format, level, Destination::Stderr, Target::Function(Box::new(f)))
    }

    fn start(format: Format, level: Level, destination: Destination, target: Target) -> io::Result<Journal> {
        let (queue, notes) = sync_channel(QUEUE);
        let shape = Shape::of(&destination);
        let shared = Arc::new(Shared {
            queue,
            dropped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            level: AtomicU8::new(rank(level)),
            style: RwLock::new(Style { format, destination, shape, generation: 0 }),
            turns: Mutex::new(VecDeque::new()),
        });
        // Weak: the writer ends when the last journal is gone.
        let writer = Writer { shared: Arc::downgrade(&shared), target, generation: 0, batch: Vec::new() };
        std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&notes))?;
        Ok(Journal { shared })
    }

    /// Takes over what a reload changed, and opens the target anew.
    pub fn reopen(&self, format: Format, level: Level, destination: &Destination) {
        self.shared.level.store(rank(level), Ordering::Relaxed);
        self.turn(|style| {
            style.format = format;
            style.destination = destination.clone();
            style.shape = Shape::of(destination);
        });
    }

    /// Opens the same target anew: somebody has moved the file away.
    pub fn rotate(&self) {
        self.turn(|_| {});
    }

    fn turn(&self, change: impl FnOnce(&mut Style)) {
        let generation = {
            let mut style = self.shared.style.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut style);
            style.generation = style.generation.wrapping_add(1);
            let mut turns = self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= TURNS {
                // The writer is stuck, and somebody reloads again and again: the newest is what counts.
                turns.pop_back();
            }
            turns.push_back((style.generation, style.destination.clone()));
            style.generation
        };
        // Only to wake the writer: where the queue is full, the first line of the new style tells it.
        let _ = self.shared.queue.try_send(Note::Reopen(generation));
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
        let style = self.shared.style.read().unwrap_or_else(PoisonError::into_inner);
        let line = style.spell(level, event, words);
        if let Err(TrySendError::Full(_)) = self.shared.queue.try_send(Note::Line(style.generation, line)) {
            self.shared.drop_lines(1);
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

/// Changes of the target that may wait for the writer.
const TURNS: usize = 16;

/// The thread that writes.
struct Writer {
    shared: Weak<Shared>,
    target: Target,
    /// The style of what the target takes.
    generation: u64,
    /// Lines for the target as it is.
    batch: Vec<String>,
}

impl Writer {
    fn run(mut self, notes: &Receiver<Note>) {
        while let Ok(first) = notes.recv() {
            let mut next = Some(first);
            let mut waiting = Vec::new();
            let mut octets = 0usize;
            while let Some(note) = next.take() {
                match note {
                    Note::Line(generation, line) => {
                        self.turn_to(generation);
                        octets = octets.saturating_add(line.len());
                        self.batch.push(line);
                    }
                    Note::Reopen(generation) => self.turn_to(generation),
                    Note::Flush(done) => waiting.push(done),
                }
                if octets < BATCH {
                    next = notes.try_recv().ok();
                }
            }
            self.write();
            self.tell_lost();
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self) {
        let lost = self.target.write(&self.batch);
        self.batch.clear();
        if lost > 0
            && let Some(shared) = self.shared.upgrade()
        {
            shared.drop_lines(lost);
        }
    }

    /// Says how many lines were lost, if there are any and that can be said.
    fn tell_lost(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let lost = shared.dropped.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let text = "lines were dropped because the log could not keep up";
        let words = [("lines", Word::Number(lost)), ("text", Word::Text(&text))];
        let line = self.spelled(&shared, Level::Warning, "log-dropped", &words);
        if line.is_some_and(|line| self.target.write(&[line]) == 0) {
            return;
        }
        shared.dropped.fetch_add(lost, Ordering::Relaxed);
    }

    /// `None`: the style has changed, and its target is not open yet.
    fn spelled(&self, shared: &Shared, level: Level, event: &str, words: &[(&str, Word<'_>)]) -> Option<String> {
        let style = shared.style.read().unwrap_or_else(PoisonError::into_inner);
        (style.generation == self.generation).then(|| style.spell(level, event, words))
    }

    /// Opens what lines of this generation are for.
    fn turn_to(&mut self, generation: u64) {
        while generation != self.generation {
            let Some(shared) = self.shared.upgrade() else { return };
            let turn = {
                let mut turns = shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
                turns.pop_front()
            };
            let Some((to, destination)) = turn else { return };
            self.write();
            self.generation = to;
            if let Err(e) = self.target.reopen(&destination) {
                let problem = format!("{destination}: {e}");
                let words = [("text", Word::Text(&problem))];
                self.batch.extend(self.spelled(&shared, Level::Error, "log-reopen-failed", &words));
            }
        }
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::Error => 0,
        Level::Warning => 1,
        Level::Info => 2,
        Level::Debug => 3,
    }
}

/// The word for it in lines.
pub fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

#[cfg(test)]
mod tests;
