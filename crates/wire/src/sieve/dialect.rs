//! How ManageSieve dances: the spellings of a client that only signs in, and what the replies mean to it.
//!
//! There are no tags, so a reply belongs to the oldest request that is open. A server tells its capabilities by itself, in its
//! greeting and again behind TLS, where nothing counts that was told before; they are never asked for. A server that begins TLS
//! and does not tell them then is waited for until the deadline. States carry the names that operators know from Dovecot's
//! proxy: `tls-start`, `xclient`, `auth`.
//!
//! How the sign-in is said:
//!
//! | plan | said |
//! | --- | --- |
//! | master user, or mechanism PLAIN | `AUTHENTICATE "PLAIN"` with its response; not offered where PLAIN is not listed |
//! | mechanism LOGIN | `AUTHENTICATE "LOGIN"`, then name and password, each when asked; not offered where it is not listed |
//! | else | PLAIN; where that is not listed, LOGIN if it is |
//!
//! Responses are quoted strings up to 1024 octets, and literals above. AUTHENTICATE waits for the answer to XCLIENT, as it does
//! with Dovecot's proxies.
//!
//! What a refusal of the sign-in means is read off its code and never guessed as a wrong password where there is a sign of
//! anything else: a code that we do not know, a referral (never followed), a no to a mechanism of which nothing was said yet, or
//! the words of a Dovecot proxy that cannot go on. A `BYE` without a code is a leave like any other.
//!
//! RFC 5804 sections 1.3 (codes), 1.7 (capabilities), 2.1 (AUTHENTICATE), 2.2 (STARTTLS); XCLIENT of Pigeonhole.

use super::capability::List;
use super::command::{Command, Response};
use super::reply::{self, Condition, Reply, Status};
use crate::dance::dialect::{Answer, Ask, Dialect, Heard, Offer, Said, foreign, protocol};
use crate::dance::{BackendNo, NoKind, Plan, SignIn, Stumble, StumbleKind};
use crate::encode::{escaped, one_line};
use crate::login::Mechanism;
use crate::origin::xclient;
use crate::overheard::{MASK, Notes, Shown};
use crate::sasl::client::{Client, Login, Plain};
use bytes::BytesMut;
use memchr::memmem;

/// ManageSieve, as one backend speaks it.
#[derive(Default)]
pub struct Sieve {
    /// What it told of itself, since TLS.
    listed: List,
    /// All of that is here.
    greeted: bool,
    /// What is left of the exchange.
    signing: Option<Box<dyn Client>>,
    /// Some response was said.
    responded: bool,
    /// A response that holds a password was said.
    secret_said: bool,
    left_out: Vec<String>,
    notes: Notes,
}

impl Sieve {
    /// A dialect for a fresh connection.
    pub fn new() -> Self {
        Sieve::default()
    }

    /// The mechanism to sign in with. Who has heard no greeting has nothing to go by but the plan.
    fn mechanism(&self, sign_in: &SignIn) -> Result<Box<dyn Client>, Stumble> {
        let not_offered = |detail: &str| Err(Stumble::new(StumbleKind::NotOffered, detail));
        let master = sign_in.master.is_some();
        let (plain, login) = (self.listed.plain || !self.greeted, self.listed.login || !self.greeted);
        match sign_in.mechanism {
            _ if self.greeted && !self.listed.sasl => not_offered("the backend lists no SASL mechanism (TLS required?)"),
            Some(Mechanism::Login) if login && !master => Ok(Box::new(Login::new(sign_in))),
            Some(Mechanism::Login) if !master => not_offered("the backend does not list SASL LOGIN"),
            _ if plain => Ok(Box::new(Plain::new(sign_in))),
            _ if master => not_offered("a master user needs SASL PLAIN, which the backend does not list"),
            Some(Mechanism::Plain) => not_offered("the backend does not list SASL PLAIN"),
            _ if login => Ok(Box::new(Login::new(sign_in))),
            _ => not_offered("the backend lists neither SASL PLAIN nor LOGIN"),
        }
    }

    fn sign_in(&mut self, sign_in: &SignIn, out: &mut BytesMut) -> Result<Said, Stumble> {
        let mut client = self.mechanism(sign_in)?;
        let mechanism = client.mechanism().to_owned();
        let initial = if client.speaks_first() { client.next() } else { None };
        let secret = initial.as_ref().is_some_and(|message| message.secret);
        self.responded = initial.is_some();
        self.say_command(&Command::Authenticate { mechanism, initial: initial.map(|message| message.octets) }, out)?;
        self.secret_said = secret;
        self.signing = Some(client);
        Ok(Said { alone: true, secret })
    }

    /// Says a command.
    fn say_command(&mut self, command: &Command, out: &mut BytesMut) -> Result<(), Stumble> {
        self.notes.heard(0, || command.shown());
        command.write(out).map_err(|_| Stumble::new(StumbleKind::Unspeakable, "ManageSieve cannot carry a value of the route"))
    }

    /// A `NO`, or a `BYE` with a code, to the sign-in.
    fn refused(&self, status: &Status<'_>) -> BackendNo {
        let kind = match &status.code {
            Some(code) => CODES.iter().find(|(name, _)| code.is(name)).and_then(|(_, kind)| *kind),
            // For the operator to mend: a route without TLS to a server that wants it, or a mechanism that it does not know.
            None if self.wants_tls(&status.text) || !self.responded => None,
            None if status.text.starts_with(PROXY_IN_TROUBLE) => None,
            None => Some(NoKind::Credentials),
        };
        match kind {
            Some(kind) => BackendNo { kind, text: words(&status.text) },
            None => BackendNo { kind: NoKind::ServerBug, text: whole(status) },
        }
    }

    /// Whether a no without a code is about TLS by its words. Once a password was said only the plainest words count: it may be
    /// repeated in them, and a wrong one must not look like anything else.
    fn wants_tls(&self, no: &[u8]) -> bool {
        let no = no.to_ascii_lowercase();
        let said = |word: &&str| memmem::find(&no, word.as_bytes()).is_some();
        IN_CLEAR.iter().any(said) || !self.secret_said && ABOUT_TLS.iter().any(said)
    }

    fn answered(&self, status: &Status<'_>, ask: Ask) -> Result<Heard, Stumble> {
        let no = |no| Ok(Heard::Answer(ask, Answer::No(no)));
        match (status.condition, ask) {
            (Condition::Ok, Ask::SignIn) if !self.secret_said => {
                Err(protocol("the backend says that the user is in, and was told no password"))
            }
            (Condition::Ok, _) => Ok(Heard::Answer(ask, Answer::Yes(words(&status.text)))),
            (Condition::No, Ask::SignIn) => no(self.refused(status)),
            (Condition::Bye, Ask::SignIn) if status.code.is_some() => no(self.refused(status)),
            (Condition::No, _) => no(BackendNo { kind: NoKind::ServerBug, text: whole(status) }),
            (Condition::Bye, _) => Ok(Heard::Bye(whole(status))),
        }
    }
}

impl Dialect for Sieve {
    fn border(&self, input: &[u8], greeted: bool, most: usize) -> Result<Option<usize>, Stumble> {
        if !greeted && let Some(what) = foreign(input, "ManageSieve") {
            return Err(protocol(format!("the greeting is {what}")));
        }
        reply::border(input, most).map_err(|why| protocol(format!("the backend sent {why}")))
    }

    fn greeting(&mut self, reply: &[u8]) -> Result<bool, Stumble> {
        match reply::read(reply) {
            Ok(Reply::Strings(name, value)) => {
                self.listed.hear(&name, value.as_deref());
                Ok(false)
            }
            Ok(Reply::Status(status)) if status.condition == Condition::Ok => {
                self.greeted = true;
                Ok(true)
            }
            Ok(Reply::Status(status)) => {
                let condition = if status.condition == Condition::No { "NO" } else { "BYE" };
                let detail = format!("the backend greets with {condition}: {}", whole(&status));
                Err(Stumble::new(StumbleKind::Refused, detail))
            }
            Err(_) => Err(protocol(format!("the greeting is not ManageSieve's: {}", escaped(reply, 200)))),
        }
    }

    fn greets_anew(&self) -> bool {
        true
    }

    fn hear(&mut self, reply: &[u8], oldest: Option<Ask>) -> Result<Heard, Stumble> {
        let read =
            reply::read(reply).map_err(|why| protocol(format!("not a ManageSieve reply ({why}): {}", escaped(reply, 200))))?;
        match (read, oldest) {
            (Reply::Status(status), Some(ask)) => self.answered(&status, ask),
            (Reply::Status(_), None) => Err(protocol("the backend answers what was not asked")),
            (Reply::Strings(_, None), Some(Ask::SignIn)) => Ok(Heard::GoAhead),
            (Reply::Strings(..), _) => Err(protocol("the backend asks for more than was begun")),
        }
    }

    fn offer(&self, ask: Ask) -> Offer {
        let listed = |listed| if listed { Offer::Yes } else { Offer::No };
        match ask {
            Ask::Secure => listed(self.listed.starttls),
            Ask::Introduce => listed(self.listed.xclient),
            Ask::SignIn => Offer::Yes,
            Ask::Capability => Offer::No,
        }
    }

    fn say(&mut self, ask: Ask, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        match ask {
            Ask::Capability => Err(protocol("CAPABILITY is never asked")),
            Ask::Secure => {
                self.say_command(&Command::StartTls, out)?;
                Ok(Said { alone: true, secret: false })
            }
            Ask::Introduce => {
                if let Some(intro) = &plan.introduce {
                    let from = out.len();
                    self.left_out = xclient::write_plain(intro, out);
                    let said = out.get(from..).unwrap_or_default();
                    self.notes.heard(0, || Shown::xclient(said.trim_ascii().strip_prefix(b"XCLIENT ").unwrap_or_default()));
                }
                Ok(Said { alone: true, secret: false })
            }
            Ask::SignIn => self.sign_in(plan.signs_in()?, out),
        }
    }

    fn say_on(&mut self, out: &mut BytesMut) -> Result<Said, Stumble> {
        let client = self.signing.as_mut().ok_or_else(|| protocol("the backend asks for more than was begun"))?;
        let message = client.next().ok_or_else(|| protocol("the backend asks for more than the mechanism has to say"))?;
        Response::write(&message.octets, out);
        self.notes.heard(0, || Shown::plain(MASK));
        self.responded = true;
        self.secret_said |= message.secret;
        Ok(Said { alone: true, secret: message.secret })
    }

    fn secured(&mut self) {
        self.listed = List::default();
        self.greeted = false;
    }

    fn capability(&self) -> Option<&str> {
        self.greeted.then(|| self.listed.words())
    }

    fn capability_after(&self) -> Option<&str> {
        None
    }

    fn lacks_capability(&self) -> bool {
        false
    }

    fn introduction_is_a_right(&self) -> bool {
        true
    }

    fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    fn label(&self, ask: Ask) -> &'static str {
        match ask {
            Ask::Capability => "capability",
            Ask::Secure => "tls-start",
            Ask::Introduce => "xclient",
            Ask::SignIn => "auth",
        }
    }
}

/// The words of a reply, fit to be shown.
fn words(text: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(text), WORDS_MAX)
}

/// Code and words, for the log alone.
fn whole(status: &Status<'_>) -> String {
    escaped(&status.whole(), WORDS_MAX)
}

/// The response codes of a refused login that mean something to us or to the client; the first that fits counts. All others are
/// trouble: a mechanism that is not good enough, a connection that is not, a referral, and what nobody knows.
const CODES: [(&str, Option<NoKind>); 3] = [
    // So Pigeonhole's proxies say that trying again will not help.
    ("TRYLATER/NORETRY", None),
    ("TRYLATER", Some(NoKind::Unavailable)),
    // Pigeonhole 2.4 says LIMIT/CONNECTIONS.
    ("LIMIT", Some(NoKind::Limit)),
];

/// What servers say of a password where they want TLS first.
const IN_CLEAR: [&str; 2] = ["plaintext", "cleartext"];

/// What they say else, and what anybody may be named.
const ABOUT_TLS: [&str; 3] = ["ssl", "tls", "encrypt"];

/// How the no of a Dovecot 2.3 proxy begins that has no usable route or is looping; where trying again can help it says
/// `(TRYLATER)` in front.
const PROXY_IN_TROUBLE: &[u8] = b"Account is temporarily unavailable.";

/// The most octets of a backend's words that are kept.
const WORDS_MAX: usize = 512;

#[cfg(test)]
mod tests;
