//! What documents say that can be tried: configurations that stand whole in them are ones, and tests that they name are there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::Dir;
use testkit::certs::Authority;

use crate::gate::BINARY;

const PAGES: [(&str, &str); 3] = [
    ("lmtp.md", include_str!("../../../../docs/lmtp.md")),
    ("submission.md", include_str!("../../../../docs/submission.md")),
    ("managesieve.md", include_str!("../../../../docs/managesieve.md")),
];

const SECURITY: &str = include_str!("../../../../SECURITY.md");

/// The letters that stand for folders of transcripts there.
const FOLDERS: [(&str, &str); 4] = [("T", "imap"), ("P", "pop3"), ("M", "managesieve"), ("S", "submission")];

#[test]
fn their_examples_are_taken_without_a_word() {
    let dir = Dir::new();
    dir.create("tls");
    let authority = Authority::new(dir.join("tls"), "backends");
    authority.server("mail", &["mail.example.com"]);
    dir.write("users", "alice:{PLAIN}secret\n");
    let table = "CREATE TABLE proxy (user TEXT, host TEXT, destuser TEXT);";
    rusqlite::Connection::open(dir.join("users.db")).unwrap().execute_batch(table).unwrap();
    for (page, text) in PAGES {
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!blocks.is_empty(), "{page}");
        for block in blocks {
            assert!(block.starts_with("version = 1\n"), "{page} has a piece of a configuration:\n{block}");
            let file = dir.write("gatepost.toml", block);
            let out = Command::new(BINARY).arg("check").arg("--config").arg(file).output().unwrap();
            let said = [out.stdout, out.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(out.status.success() && !said.contains("warning"), "{page}:\n{block}\n{said}");
        }
    }
}

/// Each row of the table of promises names files, tests and transcripts; whoever renames one of them must say so there.
#[test]
fn the_proofs_of_our_promises_are_there() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    collect(crates, &mut sources);
    let tests: HashSet<&str> = sources.iter().flat_map(|(_, text)| text.split("fn ").skip(1)).filter_map(name).collect();
    let table = SECURITY.split("\n## ").find(|section| section.starts_with("Promises")).unwrap();
    let mut named = 0;
    for part in table.lines().filter(|line| line.starts_with("| ")).skip(2).flat_map(|row| row.split([';', '|'])) {
        let words: Vec<&str> = part.split('`').skip(1).step_by(2).collect();
        let folders = part.trim().split_once(" `").map_or("", |(folders, _)| folders);
        let folders: Vec<_> =
            folders.split(", ").filter_map(|letter| FOLDERS.iter().find(|(known, _)| *known == letter)).collect();
        for word in words {
            named += 1;
            for (_, folder) in &folders {
                let known = transcripts(&crates.join("wire/tests/transcripts").join(folder));
                let (head, any) = word.split_once('*').map_or((word, false), |(head, _)| (head, true));
                let fits = |name: &String| if any { name.starts_with(head) } else { name == head };
                assert!(known.iter().any(fits), "no transcript {folder}/{word}: {part}");
            }
            if word.ends_with(".rs") {
                assert!(sources.iter().any(|(path, _)| path.ends_with(word)), "no file {word}: {part}");
            } else if folders.is_empty() && word.contains('_') && name(word) == Some(word) {
                assert!(tests.contains(word), "no test {word}: {part}");
            }
        }
    }
    assert!(named > 200, "{named}: is this still the table?");
}

/// The name that a text begins with.
fn name(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
}

/// All sources below a folder.
fn collect(folder: &Path, sources: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            sources.push((path, text));
        }
    }
}

fn transcripts(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}
