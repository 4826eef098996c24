//! `gatepost explain --json`, asked by tests.

use crate::gate::BINARY;
use serde_json::Value;
use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};
use testkit::gatepost::Gatepost;

const DOCUMENTED: &str = include_str!("../../../../docs/explain.md");

/// What is asked, behind `explain login` or `explain rcpt`.
pub struct Asked<'a> {
    pub gatepost: &'a Gatepost,
    pub words: &'a [&'a str],
}

/// What was told.
pub struct Told {
    pub value: Value,
}

impl Asked<'_> {
    /// Asks the running Gatepost. The exit code says whether the user would get in.
    #[track_caller]
    pub fn explain(&self, password: Option<&str>) -> Told {
        self.told(self.run(password), "signs-in")
    }

    /// The same of a recipient. The exit code says whether it would be delivered.
    #[track_caller]
    pub fn explain_rcpt(&self) -> Told {
        self.told(self.run_verb("rcpt", None), "delivers")
    }

    #[track_caller]
    fn told(&self, (code, out, errors): (i32, String, String), good: &str) -> Told {
        let value: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {code} {out:?} {errors:?}"));
        let told = Told { value };
        assert_eq!(told.value["version"], 1);
        assert_eq!(told.value["running"], true, "{told:?}");
        for step in told.value["steps"].as_array().unwrap() {
            let row = format!("| `{}` |", step["step"].as_str().unwrap());
            assert!(DOCUMENTED.contains(&row), "docs/explain.md has no row {row}");
            for (key, _) in step["data"].as_object().unwrap() {
                assert!(DOCUMENTED.contains(&format!("`{key}`")), "docs/explain.md does not name {key}");
            }
        }
        assert_eq!(code, i32::from(told.verdict() != good), "{told:?}");
        told
    }

    /// The exit code, and both outputs.
    #[track_caller]
    pub fn run(&self, password: Option<&str>) -> (i32, String, String) {
        self.run_verb("login", password)
    }

    /// The same of another thing.
    #[track_caller]
    pub fn run_verb(&self, verb: &str, password: Option<&str>) -> (i32, String, String) {
        let mut command = Command::new(BINARY);
        let config = self.gatepost.dir().join("gatepost.toml");
        command.args(["explain", verb, "--json", "--config"]).arg(config).args(self.words);
        if password.is_some() {
            command.arg("--password-stdin");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(password.unwrap_or_default().as_bytes()).unwrap();
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }
}

impl Told {
    pub fn verdict(&self) -> &str {
        self.value["outcome"]["verdict"].as_str().unwrap()
    }

    /// A word of the outcome.
    pub fn outcome(&self, name: &str) -> Option<String> {
        self.value["outcome"].get(name).and_then(Value::as_str).map(str::to_owned)
    }

    /// The lines that the client would hear.
    pub fn hears(&self) -> Vec<&str> {
        let lines = self.value["outcome"].get("client_hears").and_then(Value::as_array);
        lines.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The data of all steps of one kind.
    pub fn steps(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let steps = self.value["steps"].as_array().unwrap().iter();
        steps.filter(move |step| step["step"] == kind).map(|step| &step["data"])
    }

    /// The login came about, and the journal says this of it.
    #[track_caller]
    pub fn check_in(&self, line: &str) {
        assert_eq!(self.verdict(), "signs-in", "{self:?}");
        let word = |name: &str| word(line, name);
        // An address at which nobody answers is passed over then.
        let addresses = self.steps("backend").map(|step| step["address"].as_str().unwrap()).collect::<Vec<_>>();
        let backend = word("backend").unwrap();
        assert!(addresses.contains(&&*backend), "{backend} is not in {addresses:?}");
        if addresses.len() == 1 {
            assert_eq!(self.outcome("backend"), Some(backend));
        }
        for name in ["host", "master", "mechanism", "database", "identity"] {
            assert_eq!(self.outcome(name), word(name), "{name}");
        }
        assert_eq!(self.outcome("destuser"), word("destuser").or(word("user")));
        assert_eq!(self.outcome("user"), word("user"));
        assert_eq!(self.outcome("tls").as_deref() == Some("none"), word("backend_tls").as_deref() == Some("none"), "{self:?}");
    }

    /// It was refused: the journal says this, and the client heard that.
    #[track_caller]
    pub fn check_refused(&self, line: &str, answer: &str) {
        assert_eq!((self.verdict(), self.outcome("reason")), ("refused", word(line, "reason")), "{self:?}");
        assert_eq!(self.outcome("side"), word(line, "side"));
        assert_eq!(self.hears().last().map(|heard| without_tag(heard)), Some(without_tag(answer)));
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.value.to_string()
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.value)
    }
}

/// An IMAP answer without its tag; a POP3 answer as it is.
pub fn without_tag(line: &str) -> &str {
    match line.split_once(' ') {
        Some((tag, rest)) if tag.len() == 1 && tag.bytes().all(|b| b.is_ascii_alphabetic()) => rest,
        _ => line,
    }
}

/// A word of a journal's line.
pub fn word(line: &str, name: &str) -> Option<String> {
    let rest = line.split_once(&format!(" {name}="))?.1;
    let Some(quoted) = rest.strip_prefix('"') else { return Some(rest.split(' ').next().unwrap().to_owned()) };
    let mut value = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next().unwrap() {
            '"' => return Some(value),
            '\\' => value.push(letters.next().unwrap()),
            c => value.push(c),
        }
    }
}
