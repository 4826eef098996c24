//! How Submission dances: the spellings of a client that only signs in, and what the replies mean to it.
//!
//! SMTP has no tags, so a reply belongs to the oldest request that is open, and here each is answered before the next one leaves:
//! nearly every command of a login ends its group (RFC 2920). EHLO is asked first, again behind TLS, and again behind XCLIENT,
//! because what a server offers depends on who asks. States carry the names that operators know from Dovecot's proxy: `ehlo`,
//! `starttls`, `tls-ehlo`, `xclient`, `xclient-ehlo`, `authenticate`.
//!
//! How the sign-in is said:
//!
//! | plan | said |
//! | --- | --- |
//! | `noauth` | `XCLIENT` with `LOGIN`, who is calling included, and EHLO; not offered where `LOGIN` is not listed |
//! | master user, or mechanism PLAIN | `AUTH PLAIN`, with its response if that line has at most 512 octets, else behind `334` |
//! | mechanism LOGIN | `AUTH LOGIN`, then name and password, each behind `334` |
//! | else | `AUTH PLAIN` if it is listed, else `AUTH LOGIN` if that is |
//!
//! Each mechanism only where it is listed: a server that lists none wants TLS first, as a rule.
//!
//! The name in EHLO is the client's own, where it is known and the backend may know who is calling, else ours; in clear ahead of
//! TLS it is always ours. A server that refuses the client's name is greeted once more with ours: many clients have none that is
//! any good, and it is also said in XCLIENT.
//!
//! What a refusal of the sign-in means is read off its codes, the enhanced one first, and never guessed as a wrong password: that
//! is `535` or `5.7.8` and nothing else, once a password or a name was said. A referral is not followed.
//!
//! A refusal of XCLIENT leaves a server in doubt that may have believed a part of what was said: Postfix and Exim do. Only where
//! the refusal is about the command and not about what it said, and nothing was said before it, may the login go on on that
//! connection; else it ends with [`StumbleKind::HalfTold`].
//!
//! RFC 5321 section 4, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 3463 and RFC 5248 (codes); the XCLIENT README of Postfix.

use super::capability;
use super::command::Command;
use super::reply::{self, Reply};
use super::shown;
use crate::dance::dialect::{Answer, Ask, Dialect, Heard, Offer, Said, foreign, protocol};
use crate::dance::{BackendNo, IdentityRefused, NoKind, Plan, Secure, Stumble, StumbleKind};
use crate::encode::{base64_encode, escaped, one_line};
use crate::login::Mechanism;
use crate::origin::xclient::smtp::{self as xclient, Offered};
use crate::overheard::{MASK, Notes, Shown};
use crate::sasl::client::{Client, Login, Plain};
use bytes::{BufMut, BytesMut};
use std::collections::VecDeque;

/// Submission, as one backend speaks it; and the way up to the first mail of servers that take it from those they know.
#[derive(Default)]
pub struct Submission {
    /// LHLO is said in place of EHLO, and LMTP's habits of XCLIENT count (RFC 2033).
    lmtp: bool,
    /// Told in answer to the last EHLO; none since TLS or XCLIENT.
    told: Option<String>,
    /// What XCLIENT may say, of that.
    offered: Offered,
    /// The name said in the last EHLO was the client's.
    by_client_name: bool,
    /// The backend does not want to be greeted by that name.
    own_name_only: bool,
    /// Our own name.
    server: String,
    /// What was done before the last EHLO, for the state shown to operators.
    behind: Behind,
    /// Commands of XCLIENT that wait for the answer to the one before.
    waiting: VecDeque<Vec<u8>>,
    /// One of several was answered.
    in_part: bool,
    /// The login may go on where one was refused.
    may_go_on: bool,
    signing: Signing,
    /// A password, or a response that holds one, was said.
    secret_said: bool,
    left_out: Vec<String>,
    notes: Notes,
}

#[derive(Default, Clone, Copy)]
enum Behind {
    #[default]
    Greeting,
    Tls,
    Introduction,
}

/// How far the sign-in is.
#[derive(Default)]
enum Signing {
    #[default]
    NotYet,
    /// AUTH was said; what is left of it waits for `334`. The flag: some response was said already.
    Auth(Box<dyn Client>, bool),
    /// XCLIENT with the user was said, or a part of it. The name for EHLO behind it.
    Vouching(String),
    /// And EHLO behind it.
    Greeting,
}

impl Submission {
    /// A dialect for a fresh connection, to a server that speaks SMTP.
    pub fn new() -> Self {
        Submission::default()
    }

    /// The same to one that speaks LMTP, where nobody signs in.
    pub fn lmtp() -> Self {
        Submission { lmtp: true, ..Submission::default() }
    }

    fn lists(&self, word: &str) -> bool {
        let list = self.told.as_deref().unwrap_or_default();
        list.split(' ').any(|told| told.eq_ignore_ascii_case(word))
    }

    /// Takes in what the backend can do.
    fn told(&mut self, reply: &Reply<'_>) {
        let told = capability::words(reply.lines.iter().skip(1).copied());
        let attributes = told.split(' ').filter_map(|word| word.split_once('='));
        let attributes = attributes.filter(|(keyword, _)| keyword.eq_ignore_ascii_case("XCLIENT")).map(|(_, word)| word);
        self.offered = Offered::read(&attributes.collect::<Vec<_>>().join(" ")).over_lmtp(self.lmtp);
        self.told = Some(told);
    }

    /// Nothing of what the backend told counts any more.
    fn forget(&mut self, behind: Behind) {
        self.told = None;
        self.offered = Offered::default();
        self.behind = behind;
    }

    /// Says a command.
    fn say_command(&mut self, command: &Command, out: &mut BytesMut) -> Result<Said, Stumble> {
        command.write(out).map_err(|_| Stumble::new(StumbleKind::Unspeakable, "SMTP cannot carry a value of the route"))?;
        self.notes.heard(0, || command.shown());
        Ok(Said { alone: true, secret: false })
    }

    /// The name to greet with, by this plan, where nobody can listen or nothing better will come.
    fn name<'a>(&self, plan: &'a Plan) -> &'a str {
        let told = plan.introduce.as_ref().and_then(|intro| intro.origin.helo.as_ref()?.known());
        told.or(plan.helo.as_deref()).filter(|name| !self.own_name_only && xclient::is_helo(name)).unwrap_or(&plan.server)
    }

    fn ehlo(&mut self, name: &str, out: &mut BytesMut) -> Result<Said, Stumble> {
        self.by_client_name = name != self.server;
        let greeting = if self.lmtp { Command::Lhlo } else { Command::Ehlo };
        self.say_command(&greeting(name.to_owned()), out)
    }

    /// Says who is calling, who has signed in, or both: the first command of it.
    fn xclient(&mut self, plan: &Plan, login: Option<&str>, out: &mut BytesMut) -> Result<Said, Stumble> {
        let mut said = BytesMut::new();
        let written = xclient::write(plan.introduce.as_ref(), login, &self.offered, &mut said);
        if login.is_some() && !written.vouched {
            return Err(Stumble::new(StumbleKind::Unspeakable, "XCLIENT cannot carry the name of the user (proxy_noauth)"));
        }
        self.left_out = written.left_out;
        self.may_go_on = plan.identity_refused == IdentityRefused::Continue;
        self.waiting = said.split_inclusive(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
        self.next_xclient(out)
            .ok_or_else(|| Stumble::new(StumbleKind::NotOffered, "the backend lists nothing that XCLIENT could say"))
    }

    fn next_xclient(&mut self, out: &mut BytesMut) -> Option<Said> {
        let command = self.waiting.pop_front()?;
        self.notes.heard(0, || shown::xclient(command.trim_ascii().strip_prefix(b"XCLIENT ").unwrap_or_default()));
        out.extend_from_slice(&command);
        Some(Said { alone: true, secret: false })
    }

    /// The mechanism to sign in with.
    fn mechanism(&self, plan: &Plan) -> Result<Box<dyn Client>, Stumble> {
        let sign_in = plan.signs_in()?;
        let (plain, login) = (self.lists("AUTH=PLAIN"), self.lists("AUTH=LOGIN"));
        let any =
            self.told.iter().flat_map(|told| told.split(' ')).any(|word| capability::keyword(word).eq_ignore_ascii_case("AUTH"));
        let lacking = match sign_in.mechanism {
            _ if sign_in.master.is_some() && plain => return Ok(Box::new(Plain::new(sign_in))),
            Some(Mechanism::Plain) if plain => return Ok(Box::new(Plain::new(sign_in))),
            Some(Mechanism::Login) if login && sign_in.master.is_none() => return Ok(Box::new(Login::new(sign_in))),
            _ if sign_in.master.is_some() => "AUTH PLAIN, which a master user needs",
            Some(Mechanism::Plain) => "AUTH PLAIN",
            Some(Mechanism::Login) => "AUTH LOGIN",
            _ if plain => return Ok(Box::new(Plain::new(sign_in))),
            _ if login => return Ok(Box::new(Login::new(sign_in))),
            _ => "AUTH PLAIN or LOGIN",
        };
        let why = match plan.secure {
            _ if any => "",
            Secure::Never => " (TLS required?)",
            Secure::StartTls | Secure::Implicit => ", nor any AUTH (is SASL off there?)",
        };
        Err(Stumble::new(StumbleKind::NotOffered, format!("the backend does not list {lacking}{why}")))
    }

    /// AUTH, with the first response where it fits into the line.
    fn auth(&mut self, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        let sign_in = plan.signs_in()?;
        let mut client = self.mechanism(plan)?;
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

    fn sign_in(&mut self, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        let sign_in = plan.signs_in()?;
        if !sign_in.noauth {
            return self.auth(plan, out);
        }
        if !self.offered.takes_login() {
            let detail = "the backend does not list LOGIN behind XCLIENT, which proxy_noauth needs";
            return Err(Stumble::new(StumbleKind::NotOffered, detail));
        }
        let said = self.xclient(plan, Some(&sign_in.user), out)?;
        self.signing = Signing::Vouching(self.name(plan).to_owned());
        Ok(said)
    }
}

/// What replies mean.
impl Submission {
    /// The answer to EHLO.
    fn greeted(&mut self, reply: &Reply<'_>) -> Result<Heard, Stumble> {
        match reply.code {
            250 => {
                self.told(reply);
                Ok(Heard::Answer(Ask::Capability, Answer::Yes(String::new())))
            }
            500..600 if self.by_client_name => {
                self.own_name_only = true;
                Ok(Heard::Answer(Ask::Capability, Answer::NotUnderstood(whole(reply))))
            }
            400..500 => Err(for_now("greeted", reply)),
            500..600 => Err(Stumble::new(StumbleKind::NotOffered, format!("the backend refuses EHLO: {}", whole(reply)))),
            _ => Err(unexpected(reply)),
        }
    }

    fn secure(reply: &Reply<'_>) -> Result<Heard, Stumble> {
        let answer = match reply.code {
            220 => Answer::Yes(words(reply)),
            500 | 502 => Answer::NotUnderstood(whole(reply)),
            400..600 => Answer::No(trouble(reply)),
            _ => return Err(unexpected(reply)),
        };
        Ok(Heard::Answer(Ask::Secure, answer))
    }

    /// The answer to one command of XCLIENT.
    fn introduced(&mut self, reply: &Reply<'_>) -> Result<Heard, Stumble> {
        match reply.code {
            220 | 250 if !self.waiting.is_empty() => {
                self.in_part = true;
                Ok(Heard::GoAhead)
            }
            220 | 250 => {
                self.forget(Behind::Introduction);
                Ok(Heard::Answer(Ask::Introduce, Answer::Yes(words(reply))))
            }
            400..500 => Err(for_now("told who is calling", reply)),
            500..600 if self.may_go_on && (self.in_part || !ABOUT_THE_COMMAND.contains(&reply.code)) => {
                Err(Stumble::new(StumbleKind::HalfTold, whole(reply)))
            }
            500..600 => Ok(Heard::Answer(Ask::Introduce, Answer::No(trouble(reply)))),
            _ => Err(unexpected(reply)),
        }
    }

    /// The answer to what was said last of the sign-in.
    fn signed_in(&mut self, reply: &Reply<'_>) -> Result<Heard, Stumble> {
        let yes = |text: String| Ok(Heard::Answer(Ask::SignIn, Answer::Yes(text)));
        let no = |no: BackendNo| Ok(Heard::Answer(Ask::SignIn, Answer::No(no)));
        match (&self.signing, reply.code) {
            (Signing::Auth(..), 235) if !self.secret_said => {
                Err(protocol("the backend says that the user is in, and was told no password"))
            }
            (Signing::Auth(..), 235) => yes(words(reply)),
            (Signing::Auth(..), 334) | (Signing::Vouching(_), 220 | 250) => Ok(Heard::GoAhead),
            (Signing::Auth(_, responded), 400..600) => no(refused(reply, *responded)),
            (Signing::Greeting, 250) => {
                self.told(reply);
                yes("Logged in.".to_owned())
            }
            (Signing::Greeting, 500..600) if self.by_client_name => {
                self.own_name_only = true;
                self.signing = Signing::Vouching(self.server.clone());
                Ok(Heard::GoAhead)
            }
            (Signing::Vouching(_) | Signing::Greeting, 400..500) => {
                no(BackendNo { kind: NoKind::Unavailable, text: words(reply) })
            }
            (Signing::Vouching(_) | Signing::Greeting, 500..600) => no(trouble(reply)),
            _ => Err(unexpected(reply)),
        }
    }
}

impl Dialect for Submission {
    fn border(&self, input: &[u8], greeted: bool, _most: usize) -> Result<Option<usize>, Stumble> {
        if !greeted && let Some(what) = foreign(input, "SMTP") {
            return Err(protocol(format!("the greeting is {what}")));
        }
        reply::border(input).map_err(|why| protocol(format!("the backend sent {why}")))
    }

    fn greeting(&mut self, reply: &[u8]) -> Result<bool, Stumble> {
        let reply = read(reply)?;
        match reply.code {
            220 => Ok(true),
            400..600 => Err(Stumble::new(StumbleKind::Refused, format!("the backend greets with {}", whole(&reply)))),
            _ => Err(unexpected(&reply)),
        }
    }

    fn hear(&mut self, reply: &[u8], oldest: Option<Ask>) -> Result<Heard, Stumble> {
        let reply = read(reply)?;
        match oldest {
            Some(Ask::Capability) => self.greeted(&reply),
            Some(Ask::Secure) => Submission::secure(&reply),
            Some(Ask::Introduce) => self.introduced(&reply),
            Some(Ask::SignIn) => self.signed_in(&reply),
            None => Err(protocol("the backend answers what was not asked")),
        }
    }

    fn offer(&self, ask: Ask) -> Offer {
        let listed = |word| if self.lists(word) { Offer::Yes } else { Offer::No };
        match ask {
            Ask::Capability => Offer::Yes,
            _ if self.told.is_none() => Offer::Unknown,
            Ask::Secure => listed("STARTTLS"),
            // A server that hears no address hears nothing that would matter.
            Ask::Introduce => listed("XCLIENT=ADDR"),
            Ask::SignIn => Offer::Yes,
        }
    }

    fn say(&mut self, ask: Ask, plan: &Plan, out: &mut BytesMut) -> Result<Said, Stumble> {
        self.server.clone_from(&plan.server);
        match ask {
            Ask::Capability => {
                let ahead_of_tls = plan.secure == Secure::StartTls && matches!(self.behind, Behind::Greeting);
                let name = if ahead_of_tls { &plan.server } else { self.name(plan) };
                self.ehlo(name, out)
            }
            Ask::Secure => self.say_command(&Command::StartTls, out),
            Ask::Introduce => self.xclient(plan, None, out),
            Ask::SignIn => self.sign_in(plan, out),
        }
    }

    fn say_on(&mut self, out: &mut BytesMut) -> Result<Said, Stumble> {
        if let Some(said) = self.next_xclient(out) {
            return Ok(said);
        }
        match std::mem::take(&mut self.signing) {
            Signing::Auth(mut client, _) => {
                let message = client.next().ok_or_else(|| protocol("the backend asks for more than the mechanism has to say"))?;
                out.put_slice(base64_encode(message.octets.expose()).expose());
                out.put_slice(b"\r\n");
                self.notes.heard(0, || Shown::plain(MASK));
                self.signing = Signing::Auth(client, true);
                self.secret_said |= message.secret;
                Ok(Said { alone: true, secret: message.secret })
            }
            Signing::Vouching(name) => {
                self.forget(Behind::Introduction);
                self.signing = Signing::Greeting;
                self.ehlo(&name, out)
            }
            Signing::NotYet | Signing::Greeting => Err(protocol("the backend asks for more than was begun")),
        }
    }

    fn secured(&mut self) {
        self.forget(Behind::Tls);
    }

    fn capability(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// Nobody tells any behind the login: a client asks again with EHLO, which is its server's to answer.
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
        match (ask, &self.signing) {
            (Ask::Secure, _) => "starttls",
            (Ask::Introduce, _) | (Ask::SignIn, Signing::Vouching(_)) => "xclient",
            (Ask::SignIn, Signing::NotYet | Signing::Auth(..)) => "authenticate",
            (Ask::Capability | Ask::SignIn, _) => match self.behind {
                Behind::Greeting if self.lmtp => "lhlo",
                Behind::Greeting => "ehlo",
                Behind::Tls if self.lmtp => "tls-lhlo",
                Behind::Tls => "tls-ehlo",
                Behind::Introduction if self.lmtp => "xclient-lhlo",
                Behind::Introduction => "xclient-ehlo",
            },
        }
    }
}

/// The backend's no to AUTH. `responded`: something was said that could be wrong.
fn refused(reply: &Reply<'_>, responded: bool) -> BackendNo {
    let known = reply.enhanced().and_then(|code| CODES.iter().find(|(known, _)| *known == code)).map(|(_, kind)| *kind);
    let kind = known.unwrap_or(match reply.code {
        535 => NoKind::Credentials,
        525 => NoKind::ContactAdmin,
        400..500 => NoKind::Unavailable,
        // TLS or another mechanism is wanted, a command was not understood, the user is elsewhere: for the operator to mend.
        _ => NoKind::ServerBug,
    });
    match kind {
        NoKind::ServerBug => trouble(reply),
        NoKind::Credentials if !responded => trouble(reply),
        kind => BackendNo { kind, text: words(reply) },
    }
}

/// A no that is for the operator to read as it came.
fn trouble(reply: &Reply<'_>) -> BackendNo {
    BackendNo { kind: NoKind::ServerBug, text: whole(reply) }
}

fn read(reply: &[u8]) -> Result<Reply<'_>, Stumble> {
    reply::read(reply).map_err(|why| protocol(format!("not an SMTP reply ({why}): {}", escaped(reply, 200))))
}

fn unexpected(reply: &Reply<'_>) -> Stumble {
    protocol(format!("the backend answers what was not asked: {}", whole(reply)))
}

fn for_now(what: &str, reply: &Reply<'_>) -> Stumble {
    Stumble::new(StumbleKind::Refused, format!("the backend does not want to be {what} for now: {}", whole(reply)))
}

/// The words of a reply without codes, fit to be shown.
fn words(reply: &Reply<'_>) -> String {
    one_line(&String::from_utf8_lossy(&reply.text()), WORDS_MAX)
}

/// A reply with its codes, escaped.
fn whole(reply: &Reply<'_>) -> String {
    escaped(&reply.whole(), WORDS_MAX)
}

/// The enhanced codes of a refused login that say more than the code in front of them.
const CODES: [(&str, NoKind); 6] = [
    ("5.7.8", NoKind::Credentials),
    ("5.7.13", NoKind::ContactAdmin),
    // A mechanism or TLS is wanted.
    ("5.7.9", NoKind::ServerBug),
    ("5.7.10", NoKind::ServerBug),
    ("5.7.11", NoKind::ServerBug),
    ("5.2.900", NoKind::ServerBug),
];

/// Refusals of XCLIENT itself, by a server that has not looked at what was said: no such command, not now, not you.
const ABOUT_THE_COMMAND: [u16; 4] = [500, 502, 503, 550];

/// The longest line with an initial response, CRLF included (RFC 4954 section 4).
const AUTH_LINE_MAX: usize = 512;

/// The most octets of a backend's words that are kept.
const WORDS_MAX: usize = 512;

#[cfg(test)]
mod tests;
