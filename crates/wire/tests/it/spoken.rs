//! The protocols under test, a row each: where their transcripts are, and how their machines are made.

use testkit::transcript::Note;
use wire::dance::dialect::Dialect;
use wire::login::{Front, Terms};
use wire::{imap, pop3, sieve, smtp};

/// One protocol.
pub struct Spoken {
    /// The folder of its transcripts.
    pub name: &'static str,
    /// Its front, under the caps of a note `= caps`.
    pub front: fn(Terms, Option<&Note>) -> Box<dyn Front>,
    /// Its dialect.
    pub dialect: fn() -> Box<dyn Dialect>,
}

pub static IMAP: Spoken = Spoken {
    name: "imap",
    front: |terms, said| {
        let mut caps = imap::Caps::default();
        each(said, |name, value| match name {
            "line" => caps.line = value,
            "literal" => caps.literal = value,
            "literals" => caps.literals = value,
            "bad" => caps.bad_commands = value,
            "commands" => caps.commands = value,
            name => panic!("unknown cap {name}"),
        });
        Box::new(imap::front::Front::new(terms, caps))
    },
    dialect: || Box::new(imap::dialect::Imap::new()),
};

pub static POP3: Spoken = Spoken {
    name: "pop3",
    front: |terms, said| {
        let mut caps = pop3::Caps::default();
        each(said, |name, value| match name {
            "line" => caps.line = value,
            "sasl" => caps.sasl = value,
            "bad" => caps.bad_commands = value,
            "commands" => caps.commands = value,
            name => panic!("unknown cap {name}"),
        });
        Box::new(pop3::front::Front::new(terms, caps))
    },
    dialect: || Box::new(pop3::dialect::Pop3::new()),
};

pub static SIEVE: Spoken = Spoken {
    name: "managesieve",
    front: |terms, said| {
        let mut caps = sieve::Caps::default();
        each(said, |name, value| match name {
            "line" => caps.line = value,
            "quoted" => caps.quoted = value,
            "literal" => caps.literal = value,
            "bad" => caps.bad_commands = value,
            "commands" => caps.commands = value,
            name => panic!("unknown cap {name}"),
        });
        Box::new(sieve::front::Front::new(terms, caps))
    },
    dialect: || Box::new(sieve::dialect::Sieve::new()),
};

pub static SUBMISSION: Spoken = Spoken {
    name: "submission",
    front: |terms, said| {
        let mut caps = smtp::Caps::default();
        each(said, |name, value| match name {
            "line" => caps.line = value,
            "sasl" => caps.sasl = value,
            "bad" => caps.bad_commands = value,
            "commands" => caps.commands = value,
            name => panic!("unknown cap {name}"),
        });
        Box::new(smtp::front::Front::new(terms, caps))
    },
    dialect: || Box::new(smtp::dialect::Submission::new()),
};

fn each(said: Option<&Note>, mut set: impl FnMut(&str, usize)) {
    for word in said.iter().flat_map(|note| &note.words) {
        let value = std::str::from_utf8(word.value.as_deref().expect("a value")).expect("UTF-8");
        set(&word.name, value.parse().expect("a number"));
    }
}
