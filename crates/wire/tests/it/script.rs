//! What all players of transcripts share: where the files are, how one is cut into scenes, and in how many ways its octets
//! are fed.
//!
//! A *scene* is what happens until the transcript tells the driver to act (`= do ...`) or to look (`= left`, `= state`, ...).
//! Inside a scene everything a side says may arrive in any chunking, and what is heard and reported must be the same.

use std::path::{Path, PathBuf};
use testkit::transcript::{self, Entry, Note, Side, What};

/// One thing that can be seen from outside, in order. What is heard is joined as far as no event stands between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Heard(String),
    Event(String),
}

/// Notes what was seen.
pub fn push(log: &mut Vec<Seen>, seen: Seen) {
    match (log.last_mut(), seen) {
        (_, Seen::Heard(text)) if text.is_empty() => {}
        (Some(Seen::Heard(before)), Seen::Heard(text)) => before.push_str(&text),
        (_, seen) => log.push(seen),
    }
}

/// Octets as text that can be compared and shown.
pub fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

/// A verb and its words in one spelling, whatever their order.
pub fn words(verb: &str, mut words: Vec<(String, Option<Vec<u8>>)>) -> String {
    words.sort();
    let words = words.iter().map(|(name, value)| match value {
        Some(value) => format!(" {name}=\"{}\"", text(value)),
        None => format!(" {name}"),
    });
    format!("{verb}{}", words.collect::<String>())
}

/// A note in the spelling of [`words`].
pub fn note(note: &Note) -> String {
    words(&note.verb, note.words.iter().map(|word| (word.name.clone(), word.value.clone())).collect())
}

/// How the octets of a play arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feeding {
    /// Line by line as the file has them; after each, exactly what is written must have been seen.
    AsWritten,
    /// Each scene at once.
    Whole,
    /// One octet at a time.
    Octets,
    /// One scene in two pieces, the others whole.
    Split { scene: usize, at: usize },
}

/// One scene: what is said and expected, and the driver's note that ends it.
#[derive(Debug)]
pub struct Scene {
    pub entries: Vec<Entry>,
    pub ends_with: Option<Note>,
}

/// A transcript, cut into scenes.
pub struct Script {
    pub name: String,
    pub scenes: Vec<Scene>,
}

impl Script {
    /// Reads all transcripts of a protocol whose names begin so.
    pub fn all(protocol: &str, prefix: &str, is_driver_note: fn(&str) -> bool) -> Vec<Script> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(protocol);
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(&folder).expect("transcripts").map(|entry| entry.expect("entry").path()).collect();
        paths.sort();
        let scripts: Vec<Script> = paths
            .iter()
            .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix)))
            .map(|path| Script::read(path, is_driver_note))
            .collect();
        assert!(!scripts.is_empty(), "no transcripts {prefix}* in {}", folder.display());
        scripts
    }

    fn read(path: &Path, is_driver_note: fn(&str) -> bool) -> Script {
        let name = path.file_name().and_then(|name| name.to_str()).expect("name").to_owned();
        let file = std::fs::read_to_string(path).expect(&name);
        let mut scenes = vec![Scene { entries: Vec::new(), ends_with: None }];
        for entry in transcript::read(&file).unwrap_or_else(|unreadable| panic!("{name}: {unreadable}")) {
            let scene = scenes.last_mut().expect("a scene");
            match entry.what {
                What::Note(note) if is_driver_note(&note.verb) => {
                    scene.ends_with = Some(note);
                    scenes.push(Scene { entries: Vec::new(), ends_with: None });
                }
                _ => scene.entries.push(entry),
            }
        }
        Script { name, scenes }
    }

    /// Every way to feed it; a side's octets are split at every position, but for long scenes: those are about caps, and every
    /// few octets are enough.
    pub fn feedings(&self, side: Side) -> Vec<Feeding> {
        let mut all = vec![Feeding::AsWritten, Feeding::Whole, Feeding::Octets];
        for (index, scene) in self.scenes.iter().enumerate() {
            let octets = scene.said(side).len();
            all.extend((1..octets).step_by(1 + octets / 2000).map(|at| Feeding::Split { scene: index, at }));
        }
        all
    }
}

impl Scene {
    /// Everything this side says in it.
    pub fn said(&self, side: Side) -> Vec<u8> {
        let said = self.entries.iter().filter_map(|entry| match &entry.what {
            What::Says(who, octets) if *who == side => Some(octets.as_slice()),
            _ => None,
        });
        said.collect::<Vec<_>>().concat()
    }

    /// The pieces in which this side's octets arrive, each with the number of entries that must have been seen after it.
    pub fn pieces(&self, side: Side, feeding: Feeding, index: usize) -> Vec<(Vec<u8>, Option<usize>)> {
        let said = self.said(side);
        match feeding {
            Feeding::AsWritten => {
                let mut pieces: Vec<(Vec<u8>, Option<usize>)> = vec![(Vec::new(), Some(0))];
                for (at, entry) in self.entries.iter().enumerate() {
                    match &entry.what {
                        What::Says(who, octets) if *who == side => pieces.push((octets.clone(), Some(at + 1))),
                        _ => {
                            let last = pieces.last_mut().expect("a piece");
                            last.1 = Some(at + 1);
                        }
                    }
                }
                pieces
            }
            Feeding::Octets => said.iter().map(|octet| (vec![*octet], None)).collect(),
            Feeding::Split { scene, at } if scene == index => vec![(said[..at].to_vec(), None), (said[at..].to_vec(), None)],
            Feeding::Whole | Feeding::Split { .. } => vec![(said, None)],
        }
    }

    /// What must have been seen after so many entries.
    pub fn expected(&self, side: Side, entries: usize) -> Vec<Seen> {
        let mut log = Vec::new();
        for entry in self.entries.iter().take(entries) {
            match &entry.what {
                What::Hears(who, octets) if *who == side => push(&mut log, Seen::Heard(text(octets))),
                What::Note(said) => push(&mut log, Seen::Event(note(said))),
                _ => {}
            }
        }
        log
    }
}
