//! Configurations that stand whole in the documents are ones.

use std::process::Command;

use testkit::Dir;
use testkit::certs::Authority;

use crate::gate::BINARY;

const PAGES: [(&str, &str); 2] = [
    ("submission.md", include_str!("../../../../docs/submission.md")),
    ("managesieve.md", include_str!("../../../../docs/managesieve.md")),
];

#[test]
fn their_examples_are_taken_without_a_word() {
    let dir = Dir::new();
    dir.create("tls");
    let authority = Authority::new(dir.join("tls"), "backends");
    authority.server("mail", &["mail.example.com"]);
    dir.write("users", "alice:{PLAIN}secret\n");
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
