//! What the files say: a tree of values that know where they stand, and how the trees of several files become one.
//!
//! Promises: the tree is at most [`DEEPEST`] levels deep and a table has at most [`MOST_KEYS`] keys, so that whoever walks it may
//! recurse and search; keys stand in the order of the file. TOML's own mistakes are told with their place, several per file.
//! What the keys mean is for others.
//!
//! Joining: tables are joined key by key, arrays end to end in the order of the files; anything else that is set in two files is
//! an error that names both places.

use super::places::{Sources, Spot};
use std::io;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// More levels than any key of the configuration needs.
const DEEPEST: usize = 16;
/// More keys than any table of the configuration needs.
pub(super) const MOST_KEYS: usize = 1000;
/// Beyond this, TOML's recovery from a mistake tells more noise than news.
const MOST_MISTAKES: usize = 20;
/// TOML's tables of 80 levels in keys of 80 parts in inline tables make a tree of 6500 levels, and its memory is released by
/// recursion: this stack (address space, not memory) is enough for that even in debug builds.
const STACK: usize = 64 * 1024 * 1024;

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) at: Spot,
    pub(super) what: What,
}

/// The kinds of values. Floats and dates have no use here, so only their kind is kept.
#[derive(Debug, Clone)]
pub(super) enum What {
    Text(String),
    Integer(i64),
    Float,
    Boolean(bool),
    Date,
    Array(Vec<Value>),
    Table(Table),
}

impl What {
    /// The kind, for a sentence.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            What::Text(_) => "text",
            What::Integer(_) => "a number",
            What::Float => "a fraction",
            What::Boolean(_) => "true or false",
            What::Date => "a date or time",
            What::Array(_) => "an array",
            What::Table(_) => "a table",
        }
    }
}

/// A table, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Spot,
    pub(super) value: Value,
}

/// Something that is wrong with the writing itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) at: Spot,
    pub(super) code: &'static str,
    pub(super) text: String,
}

/// Reads one file's text. With mistakes the tree is what could be recovered.
///
/// # Errors
///
/// Only if the system cannot start a thread.
pub(super) fn parse(sources: &Sources, file: usize) -> io::Result<(Table, Vec<Mistake>)> {
    let text = sources.text(file);
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || parse_here(text, file))?
            .join()
            .map_err(|_| io::Error::other("the TOML reader failed"))
    })
}

/// What cannot be joined.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// The key of this full name is set in two files.
    Twice { name: String, first: Spot, second: Spot },
    /// A table has more than [`MOST_KEYS`] keys from here on.
    TooMany { at: Spot },
}

/// Joins the tree of a later file to that of the earlier ones.
pub(super) fn join(into: &mut Table, from: Table, path: &str, clashes: &mut Vec<Clash>) {
    for entry in from.entries {
        let name = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        // Each file keeps to the limit; many files must too, as each key is searched among all.
        let full = into.entries.len() >= MOST_KEYS;
        match into.entries.iter_mut().find(|have| have.key == entry.key) {
            None if full => {
                clashes.push(Clash::TooMany { at: entry.at });
                return;
            }
            None => into.entries.push(entry),
            Some(have) => match (&mut have.value.what, entry.value.what) {
                (What::Table(old), What::Table(new)) => join(old, new, &name, clashes),
                (What::Array(old), What::Array(new)) => old.extend(new),
                _ => clashes.push(Clash::Twice { name, first: have.at, second: entry.at }),
            },
        }
    }
}

fn parse_here(text: &str, file: usize) -> (Table, Vec<Mistake>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    // They come in the order of TOML's passes.
    let mut errors: Vec<_> = errors.into_iter().map(|error| (error.span().map_or(0, |span| span.start), error)).collect();
    errors.sort_by_key(|(offset, _)| *offset);
    let mut mistakes = Vec::new();
    let mut last_line = None;
    for (offset, error) in errors {
        // Several complaints about one line have one cause.
        let line = text.as_bytes().get(..offset).map(|before| memchr::memrchr(b'\n', before));
        if last_line == Some(line) || mistakes.len() >= MOST_MISTAKES {
            continue;
        }
        last_line = Some(line);
        mistakes.push(Mistake { at: Spot { file, offset }, code: "syntax", text: error.message().trim().to_owned() });
    }
    let sound = mistakes.is_empty();
    let mut taking = Taking { file, mistakes };
    let table = taking.table(root.get_ref(), 0);
    if !sound {
        // In a recovered tree, numbers and depths are guesses.
        taking.mistakes.retain(|mistake| mistake.code == "syntax");
    }
    (table, taking.mistakes)
}

/// Copies TOML's tree into ours.
struct Taking {
    file: usize,
    mistakes: Vec<Mistake>,
}

impl Taking {
    fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Table {
        let mut inner: Vec<_> = table.iter().collect();
        // TOML's map is sorted by name; the order of fields has a meaning, and problems are told from top to bottom.
        inner.sort_by_key(|(key, _)| key.span().start);
        let mut entries = Vec::new();
        for (key, value) in inner {
            let at = self.spot(key.span().start);
            if entries.len() >= MOST_KEYS {
                self.mistake(at, "range", format!("this table has more than {MOST_KEYS} keys"));
                break;
            }
            if let Some(value) = self.value(value, depth + 1) {
                entries.push(Entry { key: key.get_ref().to_string(), at, value });
            }
        }
        Table { entries }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Option<Value> {
        let at = self.spot(value.span().start);
        if depth > DEEPEST {
            self.mistake(at, "range", format!("nested more than {DEEPEST} levels deep"));
            return None;
        }
        let what = match value.get_ref() {
            DeValue::String(text) => What::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => What::Integer(number),
                Err(_) => {
                    self.mistake(at, "range", "this number is out of all bounds".to_owned());
                    return None;
                }
            },
            DeValue::Float(_) => What::Float,
            DeValue::Boolean(yes) => What::Boolean(*yes),
            DeValue::Datetime(_) => What::Date,
            DeValue::Array(items) => What::Array(items.iter().filter_map(|item| self.value(item, depth + 1)).collect()),
            DeValue::Table(table) => What::Table(self.table(table, depth)),
        };
        Some(Value { at, what })
    }

    fn spot(&self, offset: usize) -> Spot {
        Spot { file: self.file, offset }
    }

    fn mistake(&mut self, at: Spot, code: &'static str, text: String) {
        if self.mistakes.len() < MOST_MISTAKES {
            self.mistakes.push(Mistake { at, code, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> (Table, Vec<String>) {
        let dir =
            std::env::temp_dir().join(format!("gatepost-written-{}-{:x}", std::process::id(), std::ptr::from_ref(text).addr()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("f.toml");
        std::fs::write(&path, text).unwrap();
        let mut sources = Sources::default();
        let file = sources.take_in(&path).unwrap();
        let (table, mistakes) = parse(&sources, file).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let told = mistakes
            .into_iter()
            .map(|mistake| {
                let place = sources.place(mistake.at);
                format!("{}:{} {}: {}", place.line, place.col, mistake.code, mistake.text)
            })
            .collect();
        (table, told)
    }

    fn keys(table: &Table) -> Vec<&str> {
        table.entries.iter().map(|entry| entry.key.as_str()).collect()
    }

    #[test]
    fn order_is_that_of_the_file() {
        let (table, mistakes) = take("z = 1\na = 2\n[m]\ny = 1\nb = 2\n[c]\n");
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(keys(&table), ["z", "a", "m", "c"]);
        let What::Table(inner) = &table.entries[2].value.what else { panic!("m is a table") };
        assert_eq!(keys(inner), ["y", "b"]);
    }

    #[test]
    fn several_mistakes_in_one_file() {
        let (_, mistakes) = take("a = \nb = 1\nc = [1,\nd = 2\n");
        assert!(mistakes.len() >= 2, "{mistakes:?}");
        assert!(mistakes[0].starts_with("1:"), "{mistakes:?}");
    }

    #[test]
    fn a_key_set_twice_is_a_mistake_of_its_second_line() {
        let (_, mistakes) = take("a = 1\nb = 1\na = 2\n");
        assert_eq!(mistakes, ["3:1 syntax: duplicate key"]);
    }

    #[test]
    fn numbers_beyond_64_bits() {
        let (_, mistakes) = take("a = 99999999999999999999\nb = 0x10\n");
        assert_eq!(mistakes, ["1:5 range: this number is out of all bounds"]);
    }

    #[test]
    fn too_many_keys() {
        let text: String = (0..=MOST_KEYS).map(|n| format!("k{n} = 1\n")).collect();
        let (table, mistakes) = take(&text);
        assert_eq!(table.entries.len(), MOST_KEYS);
        assert_eq!(mistakes, ["1001:1 range: this table has more than 1000 keys"]);
    }

    #[test]
    fn depth_is_bounded_however_it_is_written() {
        let (_, mistakes) = take(&format!("a = {}{}", "[".repeat(30), "]".repeat(30)));
        assert_eq!(mistakes, ["1:21 range: nested more than 16 levels deep"]);
        // Beyond TOML's own limit.
        let (_, mistakes) = take(&format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)));
        assert!(mistakes[0].contains("recursion depth"), "{mistakes:?}");
        // Long keys within inline tables: each within TOML's limits, together thousands of levels.
        let long = vec!["a"; 79].join(".");
        let text = format!("{}1{}", format!("{long} = {{ ").repeat(78) + "x = ", " }".repeat(78));
        let (_, mistakes) = take(&text);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains("nested more than 16"), "{mistakes:?}");
    }

    #[test]
    fn joining() {
        let (mut one, _) = take("a = 1\n[t]\nx = 1\nlist = [1]\n[[l]]\n");
        let (two, _) = take("a = 2\n[t]\ny = 1\nlist = [2, 3]\nx = [1]\n[[l]]\n[[l]]\n");
        let mut clashes = Vec::new();
        join(&mut one, two, "", &mut clashes);
        let twice = |name: &str, first, second| Clash::Twice {
            name: name.to_owned(),
            first: Spot { file: 0, offset: first },
            second: Spot { file: 0, offset: second },
        };
        assert_eq!(clashes, [twice("a", 0, 0), twice("t.x", 10, 30)]);
        assert_eq!(keys(&one), ["a", "t", "l"]);
        let What::Table(t) = &one.entries[1].value.what else { panic!("t is a table") };
        assert_eq!(keys(t), ["x", "list", "y"]);
        let (What::Array(list), What::Array(l)) = (&t.entries[1].value.what, &one.entries[2].value.what) else {
            panic!("arrays")
        };
        assert_eq!((list.len(), l.len()), (3, 3));
    }
}
