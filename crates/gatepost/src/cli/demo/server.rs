//! The demo's two little mail servers: what stands behind Gatepost in the demo, and tells what arrives there.
//!
//! A server speaks each protocol on a port of its own, LMTP among them ([`lmtp`]). Before the login it is [`wire`]'s own front,
//! which believes whoever calls (`trusted`): the demo's servers listen on loopback and have nothing to hide. Behind the login it
//! is the mailbox of its [`Speech`]. Each server [tells](Report) what it is told, who signs in, what it takes, and, where asked
//! to, every line of the conversation without passwords.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections a port, the caps of both machines, [`LOGIN_TIMEOUT`] and [`IDLE_TIMEOUT`], three wrong
//! passwords. An answer is sent before the next command is looked at.

mod lmtp;

use super::guest::{Arrival, Guest, Took};
use super::letters::Letter;
use super::managesieve::Shelf;
use super::speech::{Speech, Turn};
use super::submission::Submission;
use super::tape::Tape;
use bytes::BytesMut;
use relay::conn::Conn;
use relay::listen::{AcceptStats, Doorway};
use relay::tls::acceptor::Acceptor;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use wire::login::{Login, LoginEvent, Mechanism, Refusal, Terms, Welcome};
use wire::machine::Step;
use wire::origin::{OriginUpdate, Told, Transport};

/// The most connections of one port; further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// Wrong passwords of one connection.
const WRONG_MAX: u32 = 3;
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// RFC 3501 section 5.4 wants at least 30 minutes, RFC 1939 section 3 ten.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const READ: usize = 4096;

/// One of the demo's mail servers.
pub struct MailServer {
    /// Its name.
    pub name: &'static str,
    /// The name of the one mailbox.
    pub mailbox: &'static str,
    /// The password that opens it; where there is none, only the master user can.
    pub password: Option<&'static str>,
    /// Who may sign in for the user, if anybody: name and password.
    pub master: Option<(&'static str, &'static str)>,
    /// Whoever calls is believed that this user has signed in there, where a protocol has a word for that.
    pub vouched: Option<&'static str>,
    /// Where given, TLS by STARTTLS is offered, and no password is taken without it.
    pub tls: Option<Acceptor>,
    /// What lies in the mailbox.
    pub letters: Arc<[Letter]>,
    /// Its scripts.
    pub shelf: Arc<Mutex<Shelf>>,
    /// Every line of each conversation is told as well.
    pub verbatim: bool,
    /// Who is told what happens. Called before the answer is sent, so whoever has seen the answer can rely on having heard.
    pub tell: Box<dyn Fn(Report) + Send + Sync>,
}

/// Something that happened at a server.
#[derive(Debug)]
pub struct Report {
    /// The server's name.
    pub server: &'static str,
    /// Who has connected: Gatepost, if nobody goes behind its back.
    pub from: SocketAddr,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// Somebody connected.
    Connected,
    /// TLS is in place: version and cipher.
    Secured(String),
    /// The server was told who is calling.
    Told {
        /// What it was told.
        who: Box<OriginUpdate>,
        /// The command that said it.
        by: &'static str,
        /// Nobody could listen.
        protected: bool,
    },
    /// Somebody signed in.
    Login {
        /// Whose mailbox.
        user: String,
        /// Who signed in for the user.
        master: Option<String>,
        /// The command and the mechanism.
        by: &'static str,
        /// Somebody told who is calling.
        introduced: bool,
    },
    /// The server took something in.
    Took(Took),
    /// Somebody did not get in.
    Refused {
        /// The name that was said.
        user: String,
    },
    /// A line from the client; only where `verbatim`.
    Heard(String),
    /// A line to the client; only where `verbatim`.
    Answered(String),
    /// The connection is over.
    Left,
}

/// A bound server that nobody has been let into yet.
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
    doorway: Doorway,
}

/// Binds a free port on loopback.
///
/// # Errors
/// What the kernel said.
pub fn bind() -> io::Result<Bound> {
    let sockets = relay::listen::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)?;
    let socket = sockets.into_iter().next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Bound { address: socket.local_addr()?, doorway: Doorway::new(socket)? })
}

/// What a port is for.
#[derive(Clone, Copy)]
enum Spoken {
    /// Logins, and what is behind them.
    Logins(&'static dyn Speech),
    /// Letters.
    Lmtp,
}

impl MailServer {
    /// Serves one protocol for as long as it is polled.
    pub async fn serve(self: Arc<Self>, speech: &'static dyn Speech, bound: Bound) {
        self.let_everybody_in(Spoken::Logins(speech), bound).await;
    }

    async fn let_everybody_in(self: Arc<Self>, spoken: Spoken, mut bound: Bound) {
        let stats = AcceptStats::default();
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let (socket, from) = bound.doorway.accept(&stats).await;
            let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
            let Ok(conn) = socket.tune().and_then(|()| Conn::clear(socket)) else { continue };
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                // LMTP has the lines of SMTP.
                let speech = if let Spoken::Logins(speech) = spoken { speech } else { &Submission };
                let mut visit = Visit::new(&server, speech, from, conn);
                visit.tell(What::Connected);
                // How a connection ends is of no interest here, as long as it does.
                let _ = match spoken {
                    Spoken::Logins(_) => visit.run().await,
                    Spoken::Lmtp => visit.take_letters().await,
                };
                if let Some(mut conn) = visit.conn.take() {
                    conn.shutdown().await;
                }
                visit.tell(What::Left);
                drop(seat);
            });
        }
    }

    /// The user whose mailbox it is to be, and the master user if one signed in.
    fn let_in(&self, login: &Login) -> Option<(String, Option<String>)> {
        let is_right = |(name, password): (&str, &str)| {
            let said = login.password.as_ref().map_or(&[][..], |said| said.expose());
            let right = password.as_bytes().ct_eq(said);
            login.user == name && bool::from(right)
        };
        match &login.authzid {
            _ if login.mechanism == Mechanism::Xclient => {
                self.vouched.filter(|vouched| login.user == *vouched).map(|vouched| (vouched.to_owned(), None))
            }
            None => self.password.is_some_and(|password| is_right((self.mailbox, password))).then(|| (login.user.clone(), None)),
            Some(user) => {
                (user == self.mailbox && self.master.is_some_and(is_right)).then(|| (user.clone(), Some(login.user.clone())))
            }
        }
    }

    fn terms(&self, speech: &dyn Speech, protected: bool) -> Terms {
        Terms {
            starttls: !protected && self.tls.is_some(),
            password_allowed: protected || self.tls.is_none(),
            trusted: true,
            may_vouch: self.vouched.is_some(),
            xclient_as_exim: false,
            server: self.name.to_owned(),
            capability: speech.capability().to_owned(),
            greeting: format!("Gatepost demo server {} ready.", self.name),
            server_id: vec![("name".to_owned(), format!("Gatepost demo server {}", self.name))],
            retain_client_id: false,
        }
    }
}

/// One connection.
struct Visit<'a> {
    server: &'a MailServer,
    speech: &'static dyn Speech,
    from: SocketAddr,
    /// Taken out only while TLS is being set up; gone when that failed.
    conn: Option<Conn>,
    tape: Tape,
    introduced: bool,
    /// What was told of the caller last.
    who: OriginUpdate,
    /// What the caller called itself.
    helo: Option<String>,
    /// TLS has begun.
    protected: bool,
}

impl<'a> Visit<'a> {
    fn new(server: &'a MailServer, speech: &'static dyn Speech, from: SocketAddr, conn: Conn) -> Visit<'a> {
        let (conn, tape, who) = (Some(conn), Tape::new(speech), OriginUpdate::default());
        Visit { server, speech, from, conn, tape, introduced: false, who, helo: None, protected: false }
    }

    /// Where the caller comes from: what was told, or what can be seen.
    fn arrival(&mut self) -> Arrival {
        let told = self.who.client_ip.zip(self.who.client_port).map(SocketAddr::from);
        let helo = self.who.helo.as_ref().and_then(Told::known).map(str::to_owned);
        let transport = self.who.transport.map_or(self.protected, |transport| transport != Transport::Insecure);
        Arrival { client: told.unwrap_or(self.from), helo: helo.or_else(|| self.helo.take()), protected: transport }
    }

    fn tell(&self, what: What) {
        (self.server.tell)(Report { server: self.server.name, from: self.from, what });
    }

    async fn run(&mut self) -> io::Result<()> {
        let mut input = BytesMut::new();
        if self.sign_in(&mut input).await? { self.read_mail(&mut input).await } else { Ok(()) }
    }

    /// The conversation before the login. False: it ended without one.
    async fn sign_in(&mut self, input: &mut BytesMut) -> io::Result<bool> {
        let deadline = Instant::now() + LOGIN_TIMEOUT;
        let mut front = self.speech.front(self.server.terms(self.speech, false));
        let mut out = BytesMut::new();
        let mut wrong = 0;
        front.greet(&mut out);
        loop {
            let step = match front.step(input, &mut out) {
                Ok(step) => step,
                Err(_) => return self.send(&mut out, deadline).await.map(|()| false),
            };
            match step {
                Step::NeedInput => {
                    self.send(&mut out, deadline).await?;
                    if !self.read(input, deadline).await? {
                        return Ok(false);
                    }
                }
                Step::Event(LoginEvent::Said(who)) => self.told(who, self.speech.carrier()),
                Step::Event(LoginEvent::HangUp) => return self.send(&mut out, deadline).await.map(|()| false),
                Step::Event(LoginEvent::Secure) => {
                    self.send(&mut out, deadline).await?;
                    if !self.secure(input, deadline).await? {
                        return Ok(false);
                    }
                    front.secured(self.server.terms(self.speech, true));
                }
                Step::Event(LoginEvent::Login(login)) => {
                    if let Some((user, master)) = self.server.let_in(&login) {
                        self.helo = front.helo().map(|helo| helo.name);
                        let by = self.speech.by(login.mechanism);
                        self.tell(What::Login { user, master, by, introduced: self.introduced });
                        let text = format!("You are in, this is {}.", self.server.name);
                        let capability = self.speech.capability_inside().map(str::to_owned);
                        front.welcome(&Welcome { text, capability, aside: Vec::new() }, &mut out);
                        self.send(&mut out, deadline).await?;
                        return Ok(true);
                    }
                    self.tell(What::Refused { user: login.user });
                    front.refuse(&Refusal::WrongCredentials, &mut out);
                    wrong += 1;
                }
                Step::Event(LoginEvent::Unspeakable { user, .. }) => {
                    self.tell(What::Refused { user });
                    front.refuse(&Refusal::WrongCredentials, &mut out);
                    wrong += 1;
                }
                // The demo's own connections are on loopback, where its servers take passwords in clear.
                Step::Event(LoginEvent::InClear { .. }) => {}
                Step::Event(LoginEvent::Bye) => return self.send(&mut out, deadline).await.map(|()| false),
            }
            if wrong >= WRONG_MAX {
                front.goodbye(wire::login::Goodbye::TooManyFailures, &mut out);
                return self.send(&mut out, deadline).await.map(|()| false);
            }
        }
    }

    /// Begins TLS. False: there is none.
    async fn secure(&mut self, input: &BytesMut, deadline: Instant) -> io::Result<bool> {
        let (Some(conn), Some(tls)) = (self.conn.take(), &self.server.tls) else { return Ok(false) };
        // Bytes behind STARTTLS are refused in there.
        let secured = timeout_at(deadline, tls.accept(conn, input)).await?;
        let (conn, facts) = secured.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
        self.conn = Some(conn);
        self.tell(What::Secured(format!("{} {}", facts.version, facts.cipher)));
        self.protected = true;
        Ok(true)
    }

    /// Somebody said who is calling.
    fn told(&mut self, who: Box<OriginUpdate>, by: &'static str) {
        self.introduced = true;
        self.who = (*who).clone();
        self.tell(What::Told { who, by, protected: self.protected });
    }

    async fn read_mail(&mut self, input: &mut BytesMut) -> io::Result<()> {
        let MailServer { name, letters, shelf, .. } = self.server;
        let (letters, shelf) = (Arc::clone(letters), Arc::clone(shelf));
        let mut mailbox = self.speech.mailbox(Guest { server: name, letters, shelf, arrival: self.arrival() });
        let mut out = BytesMut::new();
        loop {
            let step = match mailbox.step(input, &mut out) {
                Ok(Step::Event(Turn::Took(took))) => {
                    self.tell(What::Took(took));
                    Ok(Step::Event(Turn::Answered))
                }
                step => step,
            };
            let deadline = Instant::now() + IDLE_TIMEOUT;
            self.send(&mut out, deadline).await?;
            match step {
                Ok(Step::NeedInput) => {
                    if !self.read(input, deadline).await? {
                        return Ok(());
                    }
                }
                Ok(Step::Event(Turn::Answered | Turn::Took(_))) => {}
                Ok(Step::Event(Turn::Bye)) | Err(_) => return Ok(()),
            }
        }
    }

    /// False: the peer has gone.
    async fn read(&mut self, input: &mut BytesMut, deadline: Instant) -> io::Result<bool> {
        let conn = self.conn.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let before = input.len();
        let count = timeout_at(deadline, conn.read(input, READ)).await??;
        if self.server.verbatim {
            for line in self.tape.client(input.get(before..).unwrap_or_default()) {
                self.tell(What::Heard(line));
            }
        }
        Ok(count > 0)
    }

    async fn send(&mut self, out: &mut BytesMut, deadline: Instant) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        if self.server.verbatim {
            for line in self.tape.server(out) {
                self.tell(What::Answered(line));
            }
        }
        let conn = self.conn.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        timeout_at(deadline, conn.write_all(out)).await??;
        out.clear();
        Ok(())
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
