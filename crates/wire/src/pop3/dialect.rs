//! How POP3 dances: the spellings of a client that only signs in, and what the replies mean to it.
//!
//! POP3 has no tags, so a reply belongs to the oldest request that is open. CAPA is never asked: a backend that offers to
//! hear who is calling says so in its greeting, literally `+OK [XCLIENT]`, and whether it takes TLS or a mechanism shows when
//! it is asked for it. States carry the names that operators know from Dovecot's proxy: `starttls`, `xclient`, `login1` (USER
//! was said), `login2` (the password or AUTH was said).
//!
//! How the sign-in is said:
//!
//! | plan | said |
//! | --- | --- |
//! | master user, or mechanism PLAIN | `AUTH PLAIN` with its response if that line has at most 255 octets, else behind `+ ` |
//! | mechanism LOGIN | `AUTH LOGIN`, then name and password, each behind `+ ` |
//! | else | `USER`, and `PASS` behind its `+OK` |
//!
//! USER and PASS say names and passwords octet by octet (see [`super::command`]); servers that trim blanks see others.
//!
//! What a refusal of the sign-in means is read off its code and never guessed as a wrong password where there is a sign of
//! anything else: a code that we do not know, a referral (never followed), a no that came before any password was said
//! and is about TLS or the mechanism, or the words of a Dovecot proxy that cannot go on.
//!
//! RFC 1939 section 4, RFC 2595 (STLS), RFC 2449 section 8 and RFC 3206 (codes), RFC 5034 (AUTH).

use super::command::Command;
use super::reply::{self, Reply, Status};
use crate::dance::dialect::{Answer, Ask, Dialect, Heard, Offer, Said, foreign, protocol};
use crate::dance::{BackendNo, IdentityRefused, NoKind, Plan, SignIn, Stumble, StumbleKind};
use crate::encode::{base64_encode, escaped, one_line};
use crate::login::Mechanism;
use crate::origin::xclient;
use crate::overheard::{MASK, Notes, Shown};
use crate::sasl::client::{Client, Login, Plain};
use crate::secret::{Password, Secret};
use bytes::{BufMut, BytesMut};
use memchr::memmem;

/// POP3, as one backend speaks it.
#[derive(Default)]
pub struct Pop3 {
    /// The greeting said that who is calling may be told.
    hears_identity: bool,
    signing: Signing,
    /// A password, or a response that holds one, was said.
    secret_said: bool,
    left_out: Vec<String>,
    notes: Notes,
}

/// How far the sign-in is.
#[derive(Default)]
enum Signing {
    #[default]
    NotYet,
    /// USER was said; this waits for its `+OK`.
    User(Password),
    /// PASS was said.
    Pass,
    /// AUTH was said; what is left of it waits for `+ `. The flag: some response was said already.
    Auth(Box<dyn Client>, bool),
}

impl Pop3 {
    /// A dialect for a fresh connection.
    pub fn new() -> Self {
        Pop3::default()
    }

    fn sign_in(&mut self, sign_in: &SignIn, out: &mut BytesMut) -> Result<Said, Stumble> {
        let client: Box<dyn Client> = match sign_in.mechanism {
            Some(Mechanism::Plain) => Box::new(Plain::new(sign_in)),
            _ if sign_in.master.is_some() => Box::new(Plain::new(sign_in)),
            Some(Mechanism::Login) => Box::new(Login::new(sign_in)),
            Some(Mechanism::Command | Mechanism::Xclient) | None => {
                self.say_command(&Command::User(Secret::new(sign_in.user.as_bytes().to_vec())), out)?;
                self.signing = Signing::User(sign_in.password.clone());
                return Ok(Said { alone: true, secret: false });
            }
        };
        self.auth(client, sign_in, out)
    }

    /// Says a command. The gate of the dance has refused what no line can carry.
    fn say_command(&mut self, command: &Command, out: &mut BytesMut) -> Result<(), Stumble> {
        self.notes.heard(0, || command.shown());
        command.write(out).map_err(|_| Stumble::new(StumbleKind::Unspeakable, "POP3 cannot carry a value of the route"))
    }

    /// AUTH, with the first response where it fits into the line.
    fn auth(&mut self, mut client: Box<dyn Client>, sign_in: &SignIn, out: &mut BytesMut) -> Result<Said, Stumble> {
        let mechanism = client.mechanism().to_owned();
        // Known from the plan without taking the response: base64, the words around it, and CRLF.
        let values = sign_in.master.as_ref().map_or(0, String::len) + sign_in.user.len() + sign_in.password.expose().len() + 2;
        let line = "AUTH  \r\n".len() + mechanism.len() + values.div_ceil(3) * 4;
        let initial = if client.speaks_first() && line <= AUTH_LINE_MAX { client.next() } else { None };
        let responded = initial.is_some();
        let secret = initial.as_ref().is_some_and(|message| message.secret);
        self.say_command(&Command::Auth { mechanism, initial: initial.map(|message| message.octets) }, out)?;
        self.secret_said = secret;
        self.signing = Signing::Auth(client, responded);
        Ok(Said { alone: true, secret })
    }

    /// A `+OK` to the sign-in: the end of it, or the middle.
    fn signed_in(&self, status: &Status<'_>) -> Result<Heard, Stumble> {
        match self.signing {
            Signing::User(_) => Ok(Heard::GoAhead),
            Signing::Auth(..) if !self.secret_said => {
                Err(protocol("the backend says that the user is in, and was told no password"))
            }
            _ => Ok(Heard::Answer(Ask::SignIn, Answer::Yes(words(status.text)))),
        }
    }

    /// A `-ERR` to the sign-in.
    fn refused(&self, status: &Status<'_>) -> BackendNo {
        let known = CODES.iter().find(|(name, _)| status.has_code(name)).map(|(_, kind)| *kind);
        let kind = match (known, status.code) {
            // For the operator to mend: a route without TLS to a server that wants it.
            (None | Some(NoKind::Credentials), _) if self.wants_tls(status.whole) => None,
            (Some(kind), _) => Some(kind),
            // A mechanism that the server does not know.
            (None, None) if matches!(self.signing, Signing::Auth(_, false)) => None,
            (None, None) if status.text.starts_with(PROXY_IN_TROUBLE) => None,
            (None, None) => Some(NoKind::Credentials),
            (None, Some(_)) => None,
        };
        match kind {
            Some(kind) => BackendNo { kind, text: words(status.text) },
            None => BackendNo { kind: NoKind::ServerBug, text: escaped(status.whole, WORDS_MAX) },
        }
    }

    /// Whether a no is about TLS by its words. Once a password was said only the plainest words count: it may be repeated in
    /// them, and a wrong one must not look like anything else.
    fn wants_tls(&self, no: &[u8]) -> bool {
        let no = no.to_ascii_lowercase();
        let said = |word: &&str| memmem::find(&no, word.as_bytes()).is_some();
        IN_CLEAR.iter().any(said) || !self.secret_said && ABOUT_TLS.iter().any(said)
    }
}

impl Dialect for Pop3 {
    fn border(&self, input: &[u8], greeted: bool, _most: usize) -> Result<Option<usize>, Stumble> {
        if !greeted && let Some(what) = foreign(input, "POP3") {
            return Err(protocol(format!("the greeting is {what}")));
        }
        reply::border(input).map_err(|why| protocol(format!("the backend sent {why}")))
    }

    fn greeting(&mut self, reply: &[u8]) -> Result<bool, Stumble> {
        match reply::read(reply) {
            Ok(Reply::Yes(_)) => {
                self.hears_identity = reply.starts_with(b"+OK [XCLIENT]");
                Ok(true)
            }
            Ok(Reply::No(status)) => Err(Stumble::new(
                StumbleKind::Refused,
                format!("the backend greets with -ERR: {}", escaped(status.whole, WORDS_MAX)),
            )),
            Ok(Reply::GoAhead) | Err(_) => Err(protocol(format!("the greeting is not POP3's: {}", escaped(reply, 200)))),
        }
    }

    fn hear(&mut self, reply: &[u8], oldest: Option<Ask>) -> Result<Heard, Stumble> {
        let read = reply::read(reply).map_err(|why| protocol(format!("not a POP3 reply ({why}): {}", escaped(reply, 200))))?;
        let Some(ask) = oldest else { return Err(protocol("the backend answers what was not asked")) };
        match (read, ask) {
            (Reply::Yes(status), Ask::SignIn) => self.signed_in(&status),
            (Reply::Yes(status), _) => Ok(Heard::Answer(ask, Answer::Yes(words(status.text)))),
            (Reply::No(status), Ask::SignIn) => Ok(Heard::Answer(ask, Answer::No(self.refused(&status)))),
            (Reply::No(status), _) => {
                let no = BackendNo { kind: NoKind::ServerBug, text: escaped(status.whole, WORDS_MAX) };
                Ok(Heard::Answer(ask, Answer::No(no)))
            }
            (Reply::GoAhead, Ask::SignIn) if matches!(self.signing, Signing::Auth(..)) => Ok(Heard::GoAhead),
            (Reply::GoAhead, _) => Err(protocol("the backend asks for more than was begun")),
        }
    }

    fn offer(&self, ask: Ask) -> Offer {
        match ask {
            // Asking is as quick as asking whether one may ask.
            Ask::Secure | Ask::SignIn => Offer::Yes,
            Ask::Introduce if self.hears_identity => Offer::Yes,
            Ask::Introduce | Ask::Capability => Offer::No,
        }
    }

    fn say(&mut self, ask: Ask, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        match ask {
            Ask::Capability => Err(protocol("CAPA is never asked")),
            Ask::Secure => {
                self.say_command(&Command::Stls, out)?;
                Ok(Said { alone: true, secret: false })
            }
            Ask::Introduce => {
                if let Some(intro) = &plan.introduce {
                    let from = out.len();
                    self.left_out = xclient::write_plain(intro, out);
                    let said = out.get(from..).unwrap_or_default();
                    self.notes.heard(0, || Shown::xclient(said.trim_ascii().strip_prefix(b"XCLIENT ").unwrap_or_default()));
                }
                // A password does not leave for a backend that may yet refuse to hear whose it is.
                let at_once =
                    plan.sign_in.as_ref().is_some_and(|who| who.master.is_some() || who.mechanism == Some(Mechanism::Plain));
                Ok(Said { alone: at_once && plan.identity_refused == IdentityRefused::Fail, secret: false })
            }
            Ask::SignIn => self.sign_in(plan.signs_in()?, out),
        }
    }

    fn say_on(&mut self, out: &mut BytesMut) -> Result<Said, Stumble> {
        let secret = match std::mem::take(&mut self.signing) {
            Signing::User(password) => {
                self.say_command(&Command::Pass(password), out)?;
                self.signing = Signing::Pass;
                true
            }
            Signing::Auth(mut client, _) => {
                let message = client.next().ok_or_else(|| protocol("the backend asks for more than the mechanism has to say"))?;
                out.put_slice(base64_encode(message.octets.expose()).expose());
                out.put_slice(b"\r\n");
                self.notes.heard(0, || Shown::plain(MASK));
                self.signing = Signing::Auth(client, true);
                message.secret
            }
            Signing::NotYet | Signing::Pass => return Err(protocol("the backend asks for more than was begun")),
        };
        self.secret_said |= secret;
        Ok(Said { alone: true, secret })
    }

    /// No server greets again behind STLS, so what the greeting offered in clear still stands: to forget it would be never to
    /// tell a backend who is calling under TLS. Whoever changes the greeting on the way can hide the offer, or make up one
    /// that is refused then; who is calling is said under TLS alone.
    fn secured(&mut self) {}

    fn capability(&self) -> Option<&str> {
        None
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
            Ask::Capability => "capa",
            Ask::Secure => "starttls",
            Ask::Introduce => "xclient",
            Ask::SignIn if matches!(self.signing, Signing::Pass | Signing::Auth(..)) => "login2",
            Ask::SignIn => "login1",
        }
    }
}

/// The words of a reply, fit to be shown.
fn words(text: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(text), WORDS_MAX)
}

/// The response codes of a refused login that mean something to us or to the client. All others are trouble.
const CODES: [(&str, NoKind); 4] =
    [("AUTH", NoKind::Credentials), ("SYS/TEMP", NoKind::Unavailable), ("IN-USE", NoKind::InUse), ("LOGIN-DELAY", NoKind::Limit)];

/// What servers say of a password where they want TLS first.
const IN_CLEAR: [&str; 2] = ["plaintext", "cleartext"];

/// What they say else, and what anybody may be named.
const ABOUT_TLS: [&str; 3] = ["ssl", "tls", "encrypt"];

/// How the no of a Dovecot proxy begins that is looping or has no usable route; where the trouble is its backend's it says
/// `[SYS/TEMP]` in front. By IMAP the same no is `[SERVERBUG]`.
const PROXY_IN_TROUBLE: &[u8] = b"Account is temporarily unavailable.";

/// The longest line with an initial response, CRLF included (RFC 2449 section 4).
const AUTH_LINE_MAX: usize = 255;

/// The most octets of a backend's words that are kept.
const WORDS_MAX: usize = 512;

#[cfg(test)]
mod tests;
