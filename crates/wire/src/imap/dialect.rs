//! How IMAP dances: the spellings of a client that only signs in, and what the replies mean to it.
//!
//! Commands carry the tags that operators know from Dovecot's proxy: `S STARTTLS`, `C CAPABILITY`, `I ID`, `L LOGIN` or
//! `L AUTHENTICATE`. Reading replies is [`super::reply`], writing commands is [`super::command`].
//!
//! How the sign-in is said:
//!
//! | plan | said |
//! | --- | --- |
//! | master user | `AUTHENTICATE PLAIN`; not offered where `AUTH=PLAIN` is not listed |
//! | mechanism LOGIN | `AUTHENTICATE LOGIN`; not offered where `AUTH=LOGIN` is not listed |
//! | mechanism PLAIN | `AUTHENTICATE PLAIN`; where `AUTH=PLAIN` is not listed as below: it says the same two values |
//! | else | `LOGIN`; where that is disabled, or would have to wait for a literal, `AUTHENTICATE PLAIN` if listed |
//!
//! `LOGINDISABLED` without TLS ends the dance before anything secret is said, whatever the plan.
//!
//! RFC 3501 6.2 and 7, RFC 2971 (ID), RFC 4959 (SASL-IR), RFC 5530 (codes), RFC 7888 (literals).

use super::command::{Command, Literals, Pieces, quotable};
use super::reply::{self, Condition, Reply, Status};
use crate::dance::dialect::{Answer, Ask, Dialect, Heard, Offer, Said, foreign, protocol};
use crate::dance::{BackendNo, NoKind, Plan, Secure, SignIn, Stumble, StumbleKind};
use crate::encode::{base64_encode, escaped, one_line};
use crate::login::Mechanism;
use crate::origin::imap_id;
use crate::overheard::{MASK, Notes, Shown};
use crate::sasl::client::{Client, Login, Plain};
use crate::secret::Secret;
use bytes::BytesMut;

/// IMAP, as one backend speaks it.
#[derive(Default)]
pub struct Imap {
    /// Told before the sign-in, since TLS.
    before: Option<String>,
    /// The question was answered, if only with a no.
    answered: bool,
    /// Told since the sign-in.
    after: Option<String>,
    signing_in: bool,
    /// What is left of the command said last, and of which request it is.
    rest: Rest,
    rest_of: Option<Ask>,
    signing: &'static str,
    left_out: Vec<String>,
    notes: Notes,
}

/// What waits for the backend's `+`.
#[derive(Default)]
enum Rest {
    #[default]
    Nothing,
    /// Pieces of a command behind its literals; a secret is in the last one of a sign-in.
    Pieces(std::vec::IntoIter<Secret<Vec<u8>>>, bool),
    Sasl(Box<dyn Client>),
}

impl Imap {
    /// A dialect for a fresh connection.
    pub fn new() -> Self {
        Imap::default()
    }

    fn has(&self, word: &str) -> bool {
        let list = self.before.as_deref().unwrap_or_default();
        list.split(' ').any(|told| told.eq_ignore_ascii_case(word))
    }

    fn literals(&self) -> Literals {
        match () {
            () if self.has("LITERAL+") => Literals::AtOnce,
            () if self.has("LITERAL-") => Literals::Short,
            () => Literals::Wait,
        }
    }

    /// The mechanism to sign in with; `None` for the LOGIN command.
    fn mechanism(&self, plan: &Plan) -> Result<Option<Box<dyn Client>>, Stumble> {
        let not_offered = |detail: &str| Stumble::new(StumbleKind::NotOffered, detail);
        let sign_in = plan.signs_in()?;
        let disabled = self.has("LOGINDISABLED");
        if disabled && plan.secure == Secure::Never {
            return Err(not_offered("the backend says LOGINDISABLED, and the route asks for no TLS"));
        }
        let plain = self.has("AUTH=PLAIN");
        let with_plain = || Ok(Some(Box::new(Plain::new(sign_in)) as Box<dyn Client>));
        match sign_in.mechanism {
            _ if sign_in.master.is_some() => {
                if plain {
                    with_plain()
                } else {
                    Err(not_offered("a master user needs AUTH=PLAIN, which the backend does not list"))
                }
            }
            Some(Mechanism::Login) if self.has("AUTH=LOGIN") => Ok(Some(Box::new(Login::new(sign_in)))),
            Some(Mechanism::Login) => Err(not_offered("the backend does not list AUTH=LOGIN")),
            Some(Mechanism::Plain) if plain => with_plain(),
            _ if plain && (disabled || self.must_wait(sign_in)) => with_plain(),
            _ if disabled => Err(not_offered("the backend says LOGINDISABLED and lists no AUTH=PLAIN")),
            _ => Ok(None),
        }
    }

    /// Whether the LOGIN command would have to stop in the middle for a literal. No password is longer than LITERAL- takes.
    fn must_wait(&self, sign_in: &SignIn) -> bool {
        let values = [sign_in.user.as_bytes(), sign_in.password.expose()];
        self.literals() == Literals::Wait && values.into_iter().any(|value| quotable(value).is_none())
    }

    fn sign_in(&mut self, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        let Some(mut client) = self.mechanism(plan)? else {
            self.signing = "login";
            let SignIn { user, password, .. } = plan.signs_in()?;
            let command = Command::Login { user: user.as_bytes().to_vec(), password: password.clone() };
            return self.command("L", &command, true, out);
        };
        self.signing = "authenticate";
        let mechanism = client.mechanism().to_owned();
        let initial = if client.speaks_first() && self.has("SASL-IR") { client.next() } else { None };
        match initial {
            Some(initial) => {
                let command = Command::Authenticate { mechanism, initial: Some(initial.octets) };
                self.command("L", &command, initial.secret, out)
            }
            None => {
                self.command("L", &Command::Authenticate { mechanism, initial: None }, false, out)?;
                self.rest = Rest::Sasl(client);
                Ok(Said { alone: true, secret: false })
            }
        }
    }

    fn introduce(&mut self, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        let Some(intro) = &plan.introduce else { return Ok(Said { alone: false, secret: false }) };
        let written = imap_id::pairs(intro);
        self.left_out = written.left_out;
        self.command("I", &Command::Id(written.pairs), false, out)
    }

    fn command(&mut self, tag: &str, command: &Command, secret: bool, out: &mut BytesMut) -> Result<Said, Stumble> {
        let pieces: Pieces = command
            .write(tag, self.literals())
            .map_err(|_| Stumble::new(StumbleKind::Unspeakable, "IMAP cannot carry a value of the route"))?;
        self.notes.heard(0, || command.shown(tag));
        self.rest = Rest::Pieces(pieces.into_iter(), secret);
        self.next_piece(out).ok_or_else(|| protocol("a command of nothing"))
    }

    /// Says the next piece of the command; `None` where there is none.
    fn next_piece(&mut self, out: &mut BytesMut) -> Option<Said> {
        let Rest::Pieces(pieces, secret) = &mut self.rest else { return None };
        out.extend_from_slice(pieces.next()?.expose());
        let last = pieces.len() == 0;
        let said = Said { alone: !last, secret: *secret && last };
        if last {
            self.rest = Rest::Nothing;
        }
        Some(said)
    }

    /// Takes in a capability list; `oldest` tells what it can be about.
    fn told(&mut self, list: &[u8], oldest: Option<Ask>) {
        let Some(list) = reply::capability(list) else { return };
        match oldest {
            _ if !self.signing_in => self.before = Some(list),
            // Behind the introduction it would be what was so before the sign-in.
            Some(Ask::Introduce) => {}
            _ => self.after = Some(list),
        }
    }

    fn tagged(&mut self, tag: &[u8], status: &Status<'_>) -> Result<Heard, Stumble> {
        let ask = match tag {
            b"S" => Ask::Secure,
            b"C" => Ask::Capability,
            b"I" => Ask::Introduce,
            b"L" => Ask::SignIn,
            _ => return Err(protocol(format!("the backend answers under a tag that is not ours: {}", escaped(tag, 64)))),
        };
        let answer = match status.condition {
            Condition::Ok => Answer::Yes(words(status.text)),
            Condition::No => Answer::No(backend_no(status)),
            Condition::Bad => Answer::NotUnderstood(words(status.text)),
            Condition::Bye | Condition::PreAuth => return Err(protocol("the backend answers a command with BYE or PREAUTH")),
        };
        if self.rest_of == Some(ask) {
            // Where the answer came instead of a go-ahead, the rest is not wanted.
            self.rest = Rest::Nothing;
        }
        match (ask, &status.code) {
            (Ask::Capability, _) => self.answered = true,
            (Ask::SignIn, Some(code)) if code.is("CAPABILITY") => self.told(code.arguments, Some(ask)),
            _ => {}
        }
        if ask == Ask::SignIn {
            self.signing = "login";
        }
        Ok(Heard::Answer(ask, answer))
    }

    fn untagged(&mut self, status: &Status<'_>, reply: &[u8], oldest: Option<Ask>) -> Result<Heard, Stumble> {
        match (status.condition, &status.code) {
            (Condition::Bye, _) => Ok(Heard::Bye(words(status.text))),
            (Condition::PreAuth, _) => Err(protocol("the backend says PREAUTH behind its greeting")),
            (_, Some(code)) if code.is("CAPABILITY") => {
                self.told(code.arguments, oldest);
                Ok(Heard::Noted)
            }
            // Where a client is to go is not for a backend to say.
            (_, Some(code)) if code.is("REFERRAL") => Ok(Heard::Noted),
            _ => Ok(aside(reply)),
        }
    }
}

impl Dialect for Imap {
    fn border(&self, input: &[u8], greeted: bool, most: usize) -> Result<Option<usize>, Stumble> {
        if !greeted && let Some(what) = foreign(input, "IMAP") {
            return Err(protocol(format!("the greeting is {what}")));
        }
        reply::border(input, most).map_err(|why| protocol(format!("the backend sent {why}")))
    }

    fn greeting(&mut self, reply: &[u8]) -> Result<bool, Stumble> {
        let Ok(Reply::Untagged(status)) = reply::read(reply) else {
            return Err(protocol(format!("the greeting is not IMAP's: {}", escaped(reply, 200))));
        };
        match status.condition {
            Condition::Ok => {
                if let Some(code) = status.code.filter(|code| code.is("CAPABILITY")) {
                    self.told(code.arguments, None);
                }
                Ok(true)
            }
            Condition::Bye => {
                Err(Stumble::new(StumbleKind::Refused, format!("the backend greets with BYE: {}", words(status.text))))
            }
            Condition::PreAuth => Err(Stumble::new(
                StumbleKind::NotOffered,
                "the backend greets with PREAUTH, as if somebody were signed in already",
            )),
            Condition::No | Condition::Bad => Err(protocol(format!("the greeting is a refusal: {}", words(status.text)))),
        }
    }

    fn hear(&mut self, reply: &[u8], oldest: Option<Ask>) -> Result<Heard, Stumble> {
        match reply::read(reply).map_err(|why| protocol(format!("not an IMAP reply ({why}): {}", escaped(reply, 200))))? {
            Reply::Tagged(tag, status) => self.tagged(tag, &status),
            Reply::Untagged(status) => self.untagged(&status, reply, oldest),
            Reply::Capability(list) => {
                self.told(list, oldest);
                Ok(Heard::Noted)
            }
            Reply::Id => Ok(Heard::Noted),
            Reply::Data if reply.iter().filter(|b| **b == b'\n').count() > 1 => {
                Err(protocol("the backend sends mailbox data before the login is through"))
            }
            Reply::Data => Ok(aside(reply)),
            Reply::GoAhead => match self.rest {
                Rest::Pieces(..) | Rest::Sasl(_) if self.rest_of == oldest => Ok(Heard::GoAhead),
                _ => Err(protocol("the backend asks for more than was begun")),
            },
        }
    }

    fn offer(&self, ask: Ask) -> Offer {
        let listed = |word| if self.has(word) { Offer::Yes } else { Offer::No };
        match ask {
            Ask::Capability => Offer::Yes,
            // Asking is as quick as asking whether one may ask.
            Ask::Secure if self.before.is_none() => Offer::Yes,
            Ask::Secure => listed("STARTTLS"),
            Ask::Introduce | Ask::SignIn if self.before.is_none() && !self.answered => Offer::Unknown,
            Ask::Introduce => listed("ID"),
            Ask::SignIn => Offer::Yes,
        }
    }

    fn say(&mut self, ask: Ask, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        self.rest_of = Some(ask);
        match ask {
            Ask::Capability => self.command("C", &Command::Capability, false, out),
            Ask::Secure => self.command("S", &Command::StartTls, false, out),
            Ask::Introduce => self.introduce(plan, out),
            Ask::SignIn => {
                let said = self.sign_in(plan, out)?;
                self.signing_in = true;
                Ok(said)
            }
        }
    }

    fn say_on(&mut self, out: &mut BytesMut) -> Result<Said, Stumble> {
        if let Rest::Sasl(client) = &mut self.rest {
            let message = client.next().ok_or_else(|| protocol("the backend asks for more than the mechanism has to say"))?;
            out.extend_from_slice(base64_encode(message.octets.expose()).expose());
            out.extend_from_slice(b"\r\n");
            self.notes.heard(0, || Shown::plain(MASK));
            self.signing = "auth-continue";
            return Ok(Said { alone: true, secret: message.secret });
        }
        self.notes.heard(0, || Shown::plain("... (goes on behind a literal)"));
        self.next_piece(out).ok_or_else(|| protocol("the backend asks for more than was begun"))
    }

    fn secured(&mut self) {
        self.before = None;
        self.answered = false;
    }

    fn capability(&self) -> Option<&str> {
        self.before.as_deref()
    }

    fn capability_after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    fn lacks_capability(&self) -> bool {
        self.after.is_none()
    }

    fn introduction_is_a_right(&self) -> bool {
        false
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
            Ask::Secure => "starttls",
            Ask::Introduce => "id",
            Ask::SignIn => self.signing,
        }
    }
}

/// The backend's no. A code without a meaning for the login stays in the words: they are for the log alone then.
fn backend_no(status: &Status<'_>) -> BackendNo {
    let kind = match &status.code {
        None => Some(NoKind::Credentials),
        Some(code) => CODES.iter().find(|(name, _)| code.is(name)).map(|(_, kind)| *kind),
    };
    match kind {
        Some(kind) => BackendNo { kind, text: words(status.text) },
        // Somebody's own code for trouble ([TRYLATER], [SYS/TEMP], ...): never to be told as a wrong password.
        None => BackendNo { kind: NoKind::ServerBug, text: escaped(status.whole, WORDS_MAX) },
    }
}

/// The words of a reply, fit to be shown.
fn words(text: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(text), WORDS_MAX)
}

/// A line for the client: what could steer a terminal does not reach it.
fn aside(reply: &[u8]) -> Heard {
    let line = reply.strip_suffix(b"\r\n").unwrap_or(reply);
    let mut line: Vec<u8> = line.iter().map(|b| if b.is_ascii_control() { b'?' } else { *b }).collect();
    line.extend_from_slice(b"\r\n");
    Heard::Aside(line)
}

/// The response codes of a refused login that mean something to us or to the client (RFC 5530, RFC 3501 7.1).
const CODES: [(&str, NoKind); 10] = [
    ("AUTHENTICATIONFAILED", NoKind::Credentials),
    ("AUTHORIZATIONFAILED", NoKind::NotAuthorized),
    ("UNAVAILABLE", NoKind::Unavailable),
    ("LIMIT", NoKind::Limit),
    ("INUSE", NoKind::InUse),
    ("CONTACTADMIN", NoKind::ContactAdmin),
    ("EXPIRED", NoKind::Expired),
    ("ALERT", NoKind::Alert),
    ("SERVERBUG", NoKind::ServerBug),
    // A route without TLS to a server that wants it: for the operator to mend.
    ("PRIVACYREQUIRED", NoKind::ServerBug),
];

/// The most octets of a backend's words that are kept.
const WORDS_MAX: usize = 512;
