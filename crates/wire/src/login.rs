//! The words a front and the program exchange, the same for every protocol of the login way.
//!
//! A [`Front`] is the server side of a conversation before login. It is told its [`Terms`] (what this connection may be
//! offered), reports [`LoginEvent`]s, and is told the outcome as a [`Welcome`] or a [`Refusal`]. It knows neither sockets
//! nor databases, and it does not decide: it asks.

use crate::encode::percent_encoded;
use crate::machine::{Fault, Step};
use crate::origin::OriginUpdate;
use crate::overheard::Line;
use crate::secret::Password;
use bytes::BytesMut;

/// How the client showed who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// The protocol's own command (IMAP `LOGIN`, POP3 `USER`/`PASS`).
    Command,
    /// SASL PLAIN, RFC 4616.
    Plain,
    /// SASL LOGIN, draft-murchison-sasl-login.
    Login,
    /// The client said nothing of that kind: a trusted peer vouches for it (`LOGIN` of `XCLIENT`).
    Xclient,
}

impl Mechanism {
    /// The name for logs and for the query variable `%m`; the protocol's own command counts as PLAIN, as operators know it, and
    /// XCLIENT as what Postfix calls it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Command | Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::Xclient => "XCLIENT",
        }
    }
}

/// A login as the client gave it: decoded and checked for form, not for truth.
#[derive(Debug)]
pub struct Login {
    /// The name to authenticate as: UTF-8, no control characters, 1 to 255 octets.
    pub user: String,
    /// The name to act as where it was given and differs from `user` (SASL authorization identity).
    pub authzid: Option<String>,
    /// The password: 0 to 4096 octets, never CR, LF or NUL. None was said with [`Mechanism::Xclient`]: whoever decides must
    /// know itself that the peer may vouch for others, and a backend can be signed in to only by another credential.
    pub password: Option<Password>,
    /// How it was said.
    pub mechanism: Mechanism,
}

/// What a front reports to its driver.
#[derive(Debug)]
pub enum LoginEvent {
    /// The client asked for TLS and was told to begin. Flush `out`; if any byte waits in `input`, drop the connection;
    /// shake hands; then call [`Front::secured`].
    Secure,
    /// A trusted peer said who is really calling. Only reported where [`Terms::trusted`] was set.
    Said(Box<OriginUpdate>),
    /// The client asks to be let in. Answer with [`Front::welcome`] or [`Front::refuse`]; until then do not step.
    Login(Login),
    /// The client gave a name or password that cannot be true and must reach neither a database nor a backend (control
    /// characters, not UTF-8, too long). It is a failed login like any other: count it, then answer with [`Front::refuse`]
    /// and [`Refusal::WrongCredentials`]; until then do not step.
    Unspeakable {
        /// The name that was said, escaped and cut to 255 octets, for the log and nothing else.
        user: String,
        /// How it was said.
        mechanism: Mechanism,
        /// The rule that was broken, for the log.
        why: &'static str,
    },
    /// The client was refused because a password may not be said in clear here; it has been told. For the log.
    InClear {
        /// It said a password all the same.
        exposed: bool,
    },
    /// The client took its leave and was answered. Flush `out`, then close.
    Bye,
    /// The answer to its login said that the connection ends with it (SMTP `421`). Flush `out`, then close.
    HangUp,
}

/// What this connection may be offered, decided in one place by the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// STARTTLS can be offered: TLS is configured here and not yet in use.
    pub starttls: bool,
    /// A password may be said now: nobody can listen, or the configuration allows it in clear.
    pub password_allowed: bool,
    /// The peer is in `[trust] networks`: what it says about the caller is believed.
    pub trusted: bool,
    /// The peer is in `[trust] login` as well: whom it names as the user has signed in (`LOGIN` of `XCLIENT` in SMTP).
    pub may_vouch: bool,
    /// `XCLIENT` is taken as Exim takes it: behind EHLO, and with ADDR and PORT (SMTP).
    pub xclient_as_exim: bool,
    /// The name of this server, for greetings that begin with it (SMTP).
    pub server: String,
    /// The capabilities of the backends that a client may be told before login, space separated, without those that this
    /// front adds itself according to these terms.
    pub capability: String,
    /// Text of the greeting.
    pub greeting: String,
    /// What the server says of itself (IMAP ID): pairs of name and value.
    pub server_id: Vec<(String, String)>,
    /// Keep what the client says of itself (IMAP ID) for the backend.
    pub retain_client_id: bool,
}

/// The backend let the user in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The text of the backend's success line, cleaned, without response codes.
    pub text: String,
    /// The capabilities after login, as the backend told them *after* login.
    pub capability: Option<String>,
    /// Untagged lines the backend said while signing in that are meant for the client (such as alerts), complete with CRLF.
    pub aside: Vec<Vec<u8>>,
}

/// The words of [`Refusal::Looping`] in every protocol, behind its code. Proxies in front know by them not to try again, so they
/// never change.
pub const LOOPING: &str = "Account is temporarily unavailable. (Proxies are looping.)";

/// What a client may hear when it is not let in. Each protocol spells it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong password, unknown or disabled user: all the same to the client.
    WrongCredentials,
    /// May not act as the user asked for.
    NotAuthorized,
    /// Try later: database, DNS or backend in trouble. Never to be taken for a wrong password.
    Unavailable {
        /// The backend's own words, cleaned and cut, where it said "try later" itself.
        text: Option<String>,
    },
    /// The login went through too many proxies, or came back to us: trying again will not help. Said as [`LOOPING`].
    Looping,
    /// A password was said or asked for on a connection that anyone can read.
    PrivacyRequired,
    /// Too many connections of this user or address.
    Limit {
        /// Which limit, in words for the person.
        text: Option<String>,
    },
    /// The mailbox is in use (POP3, some IMAP servers).
    InUse {
        /// The backend's words, cleaned and cut.
        text: Option<String>,
    },
    /// The person must talk to the administrator.
    ContactAdmin {
        /// The backend's words, cleaned and cut.
        text: Option<String>,
    },
    /// The password has expired.
    Expired {
        /// The backend's words, cleaned and cut.
        text: Option<String>,
    },
    /// A text that the person must be shown.
    Alert {
        /// The backend's words, cleaned and cut.
        text: String,
    },
    /// The mailbox lives elsewhere, and the client is to go there by itself (`host` with `nologin` in a row).
    Referral(Referral),
}

/// Where a client is sent by a referral (RFC 2221). Each front spells it, or says only the words where it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referral {
    /// The name to sign in with there.
    pub user: String,
    /// The mechanism that the client used here.
    pub mechanism: Mechanism,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Words for the person instead of `Try this server instead.`
    pub text: Option<String>,
}

impl Referral {
    /// The user, and the host with the port, as a URL has them (RFC 3986): nothing stands in them that could end a response
    /// code or a line. `usual` is the port that goes without saying.
    pub(crate) fn in_url(&self, usual: Option<u16>) -> (String, String) {
        let host = percent_encoded(&self.host);
        // The only colons that a host may have are an IPv6 address's.
        let host = if self.host.contains(':') { format!("[{}]", host.replace("%3A", ":")) } else { host };
        let place = if usual == Some(self.port) { host } else { format!("{host}:{}", self.port) };
        (percent_encoded(&self.user), place)
    }
}

/// Why we end a connection by ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// The time for signing in is over.
    LoginTimeout,
    /// Nothing moved for too long after login.
    Idle,
    /// Too many failed logins.
    TooManyFailures,
    /// Too many connections of this address have not signed in.
    TooManyConnections,
    /// The listener has all the connections that it may have.
    ListenerFull,
    /// The server is going away.
    ShuttingDown,
    /// The backend is gone in the middle of a session.
    BackendLost,
    /// Ended by an administrator.
    Kicked,
}

/// What an SMTP client called itself (`HELO` or `EHLO`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helo {
    /// The name, as it was said: 1 to 255 printable ASCII characters.
    pub name: String,
    /// It said `EHLO`.
    pub extended: bool,
}

/// Words about the caller that do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbelieved {
    /// The peer may say who is calling: what it said is malformed, or more than it may say.
    pub trusted: bool,
    /// What is wrong, in words that quote no value; at most 512 octets.
    pub why: String,
}

/// The server side of a conversation before login.
pub trait Front: Send {
    /// Says the greeting. Called once, before the first step.
    fn greet(&mut self, out: &mut BytesMut);

    /// One step, see [`crate::machine::Machine::step`].
    ///
    /// # Errors
    /// On a [`Fault`] flush `out` and close.
    fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step<LoginEvent>, Fault>;

    /// TLS is in place: the conversation starts afresh under new terms, as RFC 3501 6.2.1 and RFC 3207 4.2 demand.
    /// What counts abuse is kept; so is the client's own ID where a trusted peer said it (it may say it only in clear);
    /// one that says under TLS who is calling is heard once more, because nobody on the way can have changed that.
    /// Step again, also without input: some protocols greet anew.
    fn secured(&mut self, terms: Terms);

    /// What a trusted peer said of the caller so far does not count: it may say it again.
    fn forget_identity(&mut self);

    /// The login succeeded. After `out` is flushed everything belongs to the relay, what is left in `input` included.
    fn welcome(&mut self, welcome: &Welcome, out: &mut BytesMut);

    /// The login failed; the conversation is back where it was before it.
    fn refuse(&mut self, refusal: &Refusal, out: &mut BytesMut);

    /// The client is being kept waiting for the answer to its login: say what this protocol has for that, or nothing.
    fn still_here(&mut self, out: &mut BytesMut);

    /// We end the connection before login.
    fn goodbye(&mut self, why: Goodbye, out: &mut BytesMut);

    /// What the client said of itself (IMAP ID) where it is to be kept: name and value, in order; bounded.
    fn client_id(&self) -> &[(Vec<u8>, Option<Vec<u8>>)];

    /// Words about the caller that were heard since this was last asked and do not count, for the log: the peer has been told.
    fn unbelieved(&mut self) -> Option<Unbelieved>;

    /// What the client called itself, in protocols where it does.
    fn helo(&self) -> Option<Helo>;

    /// Somebody wants to see what is said from now on, or nobody does any more.
    fn overhear(&mut self, on: bool);

    /// What was read since this was last asked, with the lines in `out` between; empty where nobody wants to see it. Ask when
    /// something was said, before `out` is emptied.
    fn overheard(&mut self, out: &[u8]) -> Vec<Line>;

    /// The name of the state, for timeout logs.
    fn state(&self) -> &'static str;
}

#[cfg(test)]
pub(crate) mod played;
