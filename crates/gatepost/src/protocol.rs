//! The table of protocols: everything the rest of the program asks about a protocol stands in its row.
//!
//! A new protocol is a folder in `wire` and a row here. No other room knows one by name.

use crate::config::ProtocolName;
use crate::config::meant::{Limits, ListenTls, Meant};
use std::sync::LazyLock;
use std::time::Duration;
use wire::dance::dialect::Dialect;
use wire::login::{Front, Goodbye, Terms};

/// What a client says of itself: a name and a value.
pub type Pair = (Vec<u8>, Option<Vec<u8>>);

/// A protocol.
pub struct Protocol {
    /// The name in `[[listen]] protocol` and in the journal.
    pub name: &'static str,
    /// What Dovecot calls it: in `doveadm`, and in the query variable `%s`, so that queries work as they are.
    pub service: &'static str,
    /// The registered port, in clear or with STARTTLS.
    pub port: u16,
    /// The name with TLS from the first byte, and its registered port, where there is one.
    pub implicit: Option<(&'static str, u16)>,
    /// The protocol's ALPN identifiers (IANA).
    pub alpn: &'static [&'static str],
    /// What the configuration says for this protocol.
    pub settings: fn(&Meant) -> Settings,
    /// What a client is told when we end its session.
    pub goodbye: fn(Goodbye) -> &'static [u8],
    /// The capabilities (of those a backend told before login) that a client may be told before login.
    pub tellable: fn(&str) -> String,
    /// What becomes of its clients.
    pub way: Way,
}

/// Every protocol belongs to one way through the house.
pub enum Way {
    /// A client signs in, and its bytes go to its own server.
    Login(LoginWay),
    /// A client hands over mails, and each recipient has a server of its own.
    Message,
}

/// A protocol in which clients sign in.
pub struct LoginWay {
    /// Makes the server side of a conversation.
    pub front: fn(Terms, &Limits) -> Box<dyn Front>,
    /// Makes the client side of a backend login.
    pub dialect: fn() -> Box<dyn Dialect>,
    /// A backend can be told who the user is in place of a password (`proxy_noauth`).
    pub noauth: bool,
    /// What a client says that asks the server what it is, where there is such a command, and leaves.
    pub parting: &'static [u8],
    /// Follows what the backend says after login, to know where a goodbye may stand.
    pub position: fn() -> Position,
    /// Spells what the client said of itself for `%{client_id}`.
    pub client_id: fn(&[Pair]) -> String,
}

impl Protocol {
    /// The login way, where clients of this protocol sign in.
    pub fn login(&self) -> Option<&LoginWay> {
        match &self.way {
            Way::Login(way) => Some(way),
            Way::Message => None,
        }
    }

    /// The registered ports in clear and with TLS from the first byte; the same one where there is no other.
    pub fn ports(&self) -> (u16, u16) {
        (self.port, self.implicit.map_or(self.port, |(_, port)| port))
    }

    /// What it is called, also with TLS from the first byte.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.implicit.map(|(name, _)| name))
    }
}

/// `[protocol.NAME]`, as sessions need it.
pub struct Settings {
    /// What clients are told before login.
    pub capability: Capability,
    /// What we say of ourselves.
    pub server_id: Vec<(String, String)>,
    /// The client's own words about itself are handed on.
    pub retain_client_id: bool,
    /// Text of the greeting.
    pub greeting: String,
    /// After login.
    pub idle_timeout: Duration,
    /// The whole phase before login, where the protocol wants another time than `limits.login_timeout`.
    pub login_timeout: Option<Duration>,
}

/// Whose capabilities a client is told before login, beside what the front says by itself.
pub enum Capability {
    /// What the backends have told.
    Learnt,
    /// These.
    Fixed(String),
    /// These, and of what the backends have told the words with other names in front of `=`.
    Over(String),
}

impl Capability {
    /// The words, apart by blanks.
    pub fn words(&self, learnt: impl FnOnce() -> String) -> String {
        match self {
            Capability::Learnt => learnt(),
            Capability::Fixed(words) => words.clone(),
            Capability::Over(ours) => {
                let name = |word: &str| word.split('=').next().unwrap_or_default().to_ascii_uppercase();
                let said = learnt();
                let others = said.split_ascii_whitespace().filter(|word| !ours.split(' ').any(|own| name(own) == name(word)));
                ours.split(' ').chain(others).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

/// Where a session after login stands.
pub enum Position {
    /// IMAP.
    Imap(wire::imap::position::Position),
    /// POP3.
    Pop3(wire::pop3::position::Position),
    /// ManageSieve.
    Sieve(wire::sieve::position::Position),
    /// Submission.
    Smtp(wire::smtp::position::Position),
}

impl Position {
    /// A goodbye may be written now.
    pub fn is_safe(&self) -> bool {
        match self {
            Position::Imap(position) => position.is_safe(),
            Position::Pop3(position) => position.is_safe(),
            Position::Sieve(position) => position.is_safe(),
            Position::Smtp(position) => position.is_safe(),
        }
    }

    /// The last answer before a logout looks like any other: IMAP and SMTP say that they leave, and POP3 is not followed so far.
    pub fn hides_logout(&self) -> bool {
        matches!(self, Position::Sieve(_))
    }
}

impl relay::pump::Watch for Position {
    fn saw(&mut self, to_client: &[u8]) {
        match self {
            Position::Imap(position) => position.saw(to_client),
            Position::Pop3(position) => position.saw(to_client),
            Position::Sieve(position) => position.saw(to_client),
            Position::Smtp(position) => position.saw(to_client),
        }
    }
}

/// All protocols.
pub static PROTOCOLS: &[Protocol] = &[IMAP, POP3, MANAGESIEVE, SUBMISSION, LMTP];

const IMAP: Protocol = Protocol {
    name: "imap",
    service: "imap",
    port: 143,
    implicit: Some(("imaps", 993)),
    alpn: &["imap"],
    settings: |meant| Settings {
        capability: meant.imap.capability.clone().map_or(Capability::Learnt, Capability::Fixed),
        server_id: meant.imap.id_send.clone(),
        retain_client_id: meant.imap.id_retain,
        greeting: meant.imap.greeting.clone(),
        idle_timeout: meant.imap.idle_timeout,
        login_timeout: None,
    },
    goodbye: wire::imap::goodbye_line,
    tellable: wire::imap::capability::tellable,
    way: Way::Login(LoginWay {
        front: |terms, limits| Box::new(wire::imap::front::Front::new(terms, imap_caps(limits))),
        dialect: || Box::new(wire::imap::dialect::Imap::new()),
        noauth: false,
        parting: b"d1 ID NIL\r\nd2 LOGOUT\r\n",
        position: || Position::Imap(wire::imap::position::Position::new()),
        client_id: wire::imap::text::list,
    }),
};

const POP3: Protocol = Protocol {
    name: "pop3",
    service: "pop3",
    port: 110,
    implicit: Some(("pop3s", 995)),
    alpn: &["pop3"],
    settings: |meant| Settings {
        capability: Capability::Fixed(meant.pop3.capability.clone()),
        server_id: Vec::new(),
        retain_client_id: false,
        greeting: meant.pop3.greeting.clone(),
        idle_timeout: meant.pop3.idle_timeout,
        login_timeout: None,
    },
    goodbye: wire::pop3::goodbye_line,
    tellable: |_| String::new(),
    way: Way::Login(LoginWay {
        front: |terms, limits| Box::new(wire::pop3::front::Front::new(terms, pop3_caps(limits))),
        dialect: || Box::new(wire::pop3::dialect::Pop3::new()),
        noauth: false,
        parting: b"QUIT\r\n",
        position: || Position::Pop3(wire::pop3::position::Position::new()),
        // A POP3 client says nothing of itself, and its backends are not asked what they can do.
        client_id: |_| String::new(),
    }),
};

const MANAGESIEVE: Protocol = Protocol {
    name: "managesieve",
    service: "sieve",
    port: 4190,
    implicit: None,
    alpn: &["managesieve"],
    settings: |meant| {
        let told = [
            ("IMPLEMENTATION", Some(&meant.managesieve.implementation)),
            ("SIEVE", meant.managesieve.sieve.as_ref()),
            ("NOTIFY", meant.managesieve.notify.as_ref()),
        ];
        let words = told.iter().flat_map(|(name, words)| words.iter().flat_map(move |words| in_words(name, words)));
        Settings {
            capability: Capability::Over(words.collect::<Vec<_>>().join(" ")),
            server_id: Vec::new(),
            retain_client_id: false,
            greeting: meant.managesieve.greeting.clone(),
            idle_timeout: meant.managesieve.idle_timeout,
            login_timeout: None,
        }
    },
    goodbye: wire::sieve::goodbye_line,
    tellable: wire::sieve::capability::tellable,
    way: Way::Login(LoginWay {
        front: |terms, limits| Box::new(wire::sieve::front::Front::new(terms, sieve_caps(limits))),
        dialect: || Box::new(wire::sieve::dialect::Sieve::new()),
        noauth: false,
        parting: b"LOGOUT\r\n",
        position: || Position::Sieve(wire::sieve::position::Position::new()),
        client_id: |_| String::new(),
    }),
};

const SUBMISSION: Protocol = Protocol {
    name: "submission",
    service: "submission",
    port: 587,
    implicit: Some(("submissions", 465)),
    // None is registered; this is what servers confirm that have one.
    alpn: &["smtp"],
    settings: |meant| Settings {
        capability: meant.submission.capability.clone().map_or(Capability::Learnt, Capability::Fixed),
        server_id: Vec::new(),
        retain_client_id: false,
        greeting: meant.submission.greeting.clone(),
        idle_timeout: meant.submission.idle_timeout,
        login_timeout: Some(meant.submission.login_timeout),
    },
    goodbye: wire::smtp::goodbye_line,
    tellable: wire::smtp::capability::tellable,
    way: Way::Login(LoginWay {
        front: |terms, limits| Box::new(wire::smtp::front::Front::new(terms, smtp_caps(limits))),
        dialect: || Box::new(wire::smtp::dialect::Submission::new()),
        noauth: true,
        parting: b"QUIT\r\n",
        position: || Position::Smtp(wire::smtp::position::Position::new()),
        client_id: |_| String::new(),
    }),
};

const LMTP: Protocol = Protocol {
    name: "lmtp",
    service: "lmtp",
    port: 24,
    implicit: None,
    // None is registered, and no client is known that offers one.
    alpn: &["lmtp"],
    settings: |meant| Settings {
        capability: meant.lmtp.capability.clone().map_or(Capability::Learnt, Capability::Fixed),
        server_id: Vec::new(),
        retain_client_id: false,
        greeting: meant.lmtp.greeting.clone(),
        idle_timeout: meant.lmtp.idle_timeout,
        login_timeout: Some(BEFORE_MAIL),
    },
    goodbye: wire::smtp::message::goodbye_line,
    tellable: wire::smtp::message::tellable,
    way: Way::Message,
};

/// How long a client of the message way may take up to its first mail.
const BEFORE_MAIL: Duration = Duration::from_secs(600);

/// A value with blanks in it as words of one name.
fn in_words<'a>(name: &'a str, value: &'a str) -> impl Iterator<Item = String> + 'a {
    value.split_ascii_whitespace().map(move |word| format!("{name}={word}"))
}

fn count(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn imap_caps(limits: &Limits) -> wire::imap::Caps {
    wire::imap::Caps {
        line: limits.line,
        literal: limits.literal,
        bad_commands: count(limits.bad_commands),
        commands: count(limits.commands),
        ..wire::imap::Caps::default()
    }
}

fn pop3_caps(limits: &Limits) -> wire::pop3::Caps {
    wire::pop3::Caps { bad_commands: count(limits.bad_commands), commands: count(limits.commands), ..wire::pop3::Caps::default() }
}

fn sieve_caps(limits: &Limits) -> wire::sieve::Caps {
    wire::sieve::Caps {
        bad_commands: count(limits.bad_commands),
        commands: count(limits.commands),
        ..wire::sieve::Caps::default()
    }
}

fn smtp_caps(limits: &Limits) -> wire::smtp::Caps {
    wire::smtp::Caps { bad_commands: count(limits.bad_commands), commands: count(limits.commands), ..wire::smtp::Caps::default() }
}

/// The row of a protocol.
pub fn find(name: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|protocol| protocol.name == name)
}

/// All names, to say which there are.
pub fn names() -> String {
    PROTOCOLS.iter().map(|protocol| protocol.name).collect::<Vec<_>>().join(", ")
}

/// What the configuration may name.
pub static NAMES: LazyLock<Vec<ProtocolName>> = LazyLock::new(|| {
    let names = |p: &Protocol| {
        let clear = ProtocolName { name: p.name, port: p.port, tls: ListenTls::StartTls, base: p.name };
        let implicit = |(name, port)| ProtocolName { name, port, tls: ListenTls::Implicit, base: p.name };
        [Some(clear), p.implicit.map(implicit)]
    };
    PROTOCOLS.iter().flat_map(names).flatten().collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_goes_over_what_was_learnt() {
        let learnt = || "SIEVE=a SIEVE=b NOTIFY=mailto MAXREDIRECTS=4".to_owned();
        assert_eq!(Capability::Learnt.words(learnt), learnt());
        assert_eq!(Capability::Fixed("X".into()).words(learnt), "X");
        assert_eq!(Capability::Over("I=x SIEVE=c".into()).words(learnt), "I=x SIEVE=c NOTIFY=mailto MAXREDIRECTS=4");
    }

    #[test]
    fn no_name_and_no_port_stands_for_two_protocols() {
        let names: Vec<_> = NAMES.iter().map(|row| row.name).collect();
        assert_eq!(names, ["imap", "imaps", "pop3", "pop3s", "managesieve", "submission", "submissions", "lmtp"]);
        let ports: Vec<_> = NAMES.iter().map(|row| row.port).collect();
        assert_eq!(ports, [143, 993, 110, 995, 4190, 587, 465, 24]);
        assert!(PROTOCOLS.iter().all(|row| std::ptr::eq(find(row.name).unwrap(), row)));
    }
}
