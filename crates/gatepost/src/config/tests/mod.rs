//! Whole files: what is written in a directory of its own, and the problems or the meaning that must come of it.

mod examples;
mod files;
mod hostile;
mod keys;
mod listeners;
mod meaning;
mod tables;
mod users;

use super::meant::ListenTls;
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What this program will have soon, and what later.
pub(super) static CATALOG: Catalog = Catalog {
    protocols: &[
        ProtocolName { name: "imap", port: 143, tls: ListenTls::StartTls, base: "imap" },
        ProtocolName { name: "imaps", port: 993, tls: ListenTls::Implicit, base: "imap" },
        ProtocolName { name: "pop3", port: 110, tls: ListenTls::StartTls, base: "pop3" },
        ProtocolName { name: "pop3s", port: 995, tls: ListenTls::Implicit, base: "pop3" },
        ProtocolName { name: "managesieve", port: 4190, tls: ListenTls::StartTls, base: "managesieve" },
        ProtocolName { name: "submission", port: 587, tls: ListenTls::StartTls, base: "submission" },
        ProtocolName { name: "submissions", port: 465, tls: ListenTls::Implicit, base: "submission" },
        ProtocolName { name: "lmtp", port: 24, tls: ListenTls::StartTls, base: "lmtp" },
    ],
    drivers: &[
        DriverName {
            name: "static",
            keys: &[KeySpec { name: "fields", kind: KeyKind::Fields, required: true, doc: "what every user gets" }],
        },
        DriverName {
            name: "sqlite",
            keys: &[
                KeySpec { name: "path", kind: KeyKind::Path, required: true, doc: "the database" },
                KeySpec { name: "query", kind: KeyKind::Text, required: true, doc: "the question" },
            ],
        },
        DriverName {
            name: "passwd-file",
            keys: &[
                KeySpec { name: "path", kind: KeyKind::Path, required: true, doc: "the file" },
                KeySpec { name: "default_pass_scheme", kind: KeyKind::Text, required: false, doc: "of bare passwords" },
            ],
        },
    ],
    later_protocols: &["smtp"],
    later_drivers: &["mysql", "pgsql", "ldap", "oauth2", "auth_http", "http", "dovecot", "popmap", "popmap-regex"],
};

/// The shortest useful beginning: all that is required but the parts a test is about.
pub(super) const TOP: &str = "version = 1\nserver.name = \"edge.example.com\"\n";
/// A listener that needs no certificate, and warns of nothing.
pub(super) const LISTEN: &str = "[[listen]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:1143\"\ntls = \"none\"\n";
/// A user database.
pub(super) const USERS: &str =
    "[[users]]\ndriver = \"static\"\nfields = { proxy = \"y\", nopassword = \"y\", host = \"192.0.2.9\" }\n";

/// A directory that goes when it is dropped.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new() -> Dir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gatepost-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// With files of which tests need only that they are there.
    pub(super) fn furnished() -> Dir {
        let dir = Dir::new();
        for name in ["tls/mail.pem", "tls/mail.key", "tls/backends-ca.pem", "users.db", "moves.db", "popmap", "passwd"] {
            dir.put(name, b"x");
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.0.join("tls/mail.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        dir
    }

    pub(super) fn put(&self, name: &str, octets: &[u8]) -> &Dir {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, octets).unwrap();
        self
    }

    pub(super) fn load(&self) -> Result<Loaded, Problems> {
        load(&self.0.join("gatepost.toml"), &CATALOG)
    }

    /// All problems, errors or only warnings, with the directory's name taken off.
    pub(super) fn problems(&self) -> Vec<String> {
        let list = match self.load() {
            Ok(loaded) => loaded.warnings,
            Err(problems) => {
                assert!(problems.list.iter().any(|problem| problem.level == Level::Error), "a refusal has a reason");
                problems.list
            }
        };
        list.iter().map(|problem| problem.to_string().replace(&format!("{}/", self.0.display()), "")).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Each problem begins as its expectation up to the first `|`, and holds what stands between and behind further ones.
#[track_caller]
pub(super) fn compare(input: &str, told: &[String], expected: &[&str]) {
    let alike = told.len() == expected.len()
        && told.iter().zip(expected).all(|(told, expected)| {
            let mut parts = expected.split('|');
            parts.next().is_some_and(|start| told.starts_with(start)) && parts.all(|part| told.contains(part))
        });
    assert!(alike, "input:\n{input}\nexpected:\n{}\ntold:\n{}", expected.join("\n"), told.join("\n"));
}

/// One file, and all problems that must be told of it, in order.
#[track_caller]
pub(super) fn check(input: &str, expected: &[&str]) {
    let dir = Dir::furnished();
    dir.put("gatepost.toml", input.as_bytes());
    let told: Vec<String> =
        dir.problems().into_iter().map(|told| told.strip_prefix("gatepost.toml:").unwrap_or(&told).to_owned()).collect();
    compare(input, &told, expected);
}

/// A file that must be taken without a word.
#[track_caller]
pub(super) fn clean(input: &str) -> Meant {
    let dir = Dir::furnished();
    dir.put("gatepost.toml", input.as_bytes());
    match dir.load() {
        Ok(loaded) => {
            assert!(loaded.warnings.is_empty(), "input:\n{input}\nwarnings: {:?}", loaded.warnings);
            loaded.meant
        }
        Err(problems) => panic!("input:\n{input}\nproblems:\n{problems}"),
    }
}

/// Tables from line 11 on, behind a whole and clean beginning.
#[track_caller]
pub(super) fn behind(tables: &str, expected: &[&str]) {
    let start = format!("{TOP}{LISTEN}{USERS}");
    assert_eq!(start.lines().count(), 9);
    check(&format!("{start}\n{tables}\n"), expected);
}
