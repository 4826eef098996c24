//! A well-behaved little backend as a script, for tests that need a login to succeed and no Dovecot for it.
//!
//! It understands the login phase of IMAP (CAPABILITY, ID, STARTTLS, LOGIN with literals, AUTHENTICATE), of POP3
//! (CAPA, XCLIENT, STLS, USER and PASS, AUTH), of ManageSieve (CAPABILITY, XCLIENT, STARTTLS, AUTHENTICATE) or of
//! Submission (EHLO, XCLIENT, STARTTLS, AUTH; after the login it takes mail), all with the mechanisms PLAIN and LOGIN, and
//! notes what was said in it. After the login the test has the connection. [`super::FakeBackend`] is one that runs by
//! itself.

mod exim;
mod imap;
mod managesieve;
mod pop3;
pub(super) mod submission;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;

use super::{Conn, Letters, ProxyHeader};
use crate::Protocol;

/// How the backend behaves.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What it speaks.
    pub protocol: Protocol,
    /// The greeting, without CRLF. By ManageSieve it stands behind the capabilities, and without them if it is no OK.
    pub greeting: String,
    /// What CAPABILITY answers before the login, or CAPA or EHLO; but by IMAP one capability per line, by ManageSieve as
    /// they are written there. With [`Backend::tls`] set it also lists STARTTLS or STLS.
    pub capabilities: String,
    /// The answer to a login. By IMAP what follows the tag and a blank: `OK Logged in`, `NO [UNAVAILABLE] Later`. By all
    /// others the whole line: `-ERR [SYS/TEMP] Later`, `NO (TRYLATER) "Later"`, `454 4.7.0 Later`.
    pub answer: String,
    /// What becomes of XCLIENT.
    pub xclient: Xclient,
    /// Whether challenges and capabilities of ManageSieve are said as literals and not quoted.
    pub literals: bool,
    /// Offers STARTTLS or STLS with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// Speaks TLS from the first byte (behind a PROXY header) instead of offering it.
    pub implicit: bool,
    /// Expects a PROXY header before anything else.
    pub header: bool,
    /// Where mail goes that is sent by Submission.
    pub letters: Letters,
}

/// What becomes of XCLIENT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xclient {
    /// It is agreed to. By Submission only where EHLO lists it, and nobody is signed in by it.
    Believed,
    /// By Submission LOGIN also signs in, as at Postfix: the EHLO behind it counts as the answer to the login.
    SignsIn,
    /// This line is the answer, and nothing is changed.
    Answered(String),
    /// As Exim 4.97 to 4.99 does it when built with XCLIENT, which Debian's is not; see [`Backend::exim`].
    Exim,
}

/// What the peer said up to its login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenLogin {
    /// The user name (authentication identity).
    pub user: String,
    /// The authorization identity of SASL PLAIN; empty otherwise.
    pub authzid: String,
    /// The password.
    pub password: String,
    /// The SASL mechanism in capitals; empty when the login was a command (LOGIN, USER and PASS), `XCLIENT` when it was
    /// LOGIN of that command.
    pub mechanism: String,
    /// The lines of the ID commands, as they came after `ID `, in order.
    pub ids: Vec<String>,
    /// The lines of the XCLIENT commands, as they came after `XCLIENT `, in order.
    pub xclients: Vec<String>,
    /// The lines of EHLO and HELO, in order.
    pub hellos: Vec<String>,
    /// Who is calling, as an Exim with [`Xclient::Exim`] would log it: `H=name (hello) [address]:port`. Empty otherwise.
    pub logged: String,
    /// Whether the login came inside TLS.
    pub tls: bool,
    /// Names of the commands in the order in which they came, in capitals.
    pub commands: Vec<String>,
    /// The PROXY header, where one is expected.
    pub header: Option<ProxyHeader>,
    /// The other end of the connection.
    pub from: Option<SocketAddr>,
    /// All that had come when the login was answered, header included; of TLS what came out of it.
    pub raw: Vec<u8>,
}

impl SeenLogin {
    /// The lines of the commands by which the peer said who is calling: ID of IMAP, XCLIENT of the others.
    pub fn introductions(&self) -> &[String] {
        if self.xclients.is_empty() { &self.ids } else { &self.xclients }
    }
}

impl Default for Backend {
    /// One that speaks IMAP.
    fn default() -> Backend {
        let capabilities = "IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN";
        Backend {
            protocol: Protocol::Imap,
            greeting: format!("* OK [CAPABILITY {capabilities}] Backend ready."),
            capabilities: capabilities.to_owned(),
            answer: "OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in".to_owned(),
            xclient: Xclient::Believed,
            literals: false,
            tls: None,
            implicit: false,
            header: false,
            letters: Letters::default(),
        }
    }
}

impl Backend {
    /// One that lets everybody in, in clear.
    pub fn of(protocol: Protocol) -> Backend {
        match protocol {
            Protocol::Imap => Backend::default(),
            Protocol::Pop3 => Backend {
                protocol,
                greeting: "+OK [XCLIENT] ready".to_owned(),
                capabilities: "TOP\nUIDL\nRESP-CODES\nPIPELINING\nAUTH-RESP-CODE\nUSER\nSASL PLAIN LOGIN".to_owned(),
                answer: "+OK Logged in.".to_owned(),
                ..Backend::default()
            },
            Protocol::ManageSieve => Backend {
                protocol,
                greeting: "OK \"ready\"".to_owned(),
                capabilities: "\"IMPLEMENTATION\" \"testkit\"\n\"SIEVE\" \"fileinto\"\n\"SASL\" \"PLAIN LOGIN\"\n\
                               \"VERSION\" \"1.0\"\n\"XCLIENT\""
                    .to_owned(),
                answer: "OK \"Logged in.\"".to_owned(),
                ..Backend::default()
            },
            Protocol::Submission => Backend {
                protocol,
                greeting: "220 backend.test ESMTP ready".to_owned(),
                capabilities: "PIPELINING\nSIZE 50000000\n8BITMIME\nENHANCEDSTATUSCODES\nCHUNKING\nAUTH PLAIN LOGIN\n\
                               XCLIENT ADDR PORT PROTO HELO LOGIN SESSION CLIENT-TRANSPORT TTL TIMEOUT DESTNAME DESTADDR \
                               DESTPORT FORWARD"
                    .to_owned(),
                answer: "235 2.7.0 Logged in.".to_owned(),
                ..Backend::default()
            },
        }
    }

    /// An Exim with XCLIENT, as far as signing in and mail go. It believes the first peer that asks, until it has reason
    /// not to; without a login there is no mail to anybody.
    pub fn exim() -> Backend {
        Backend {
            greeting: "220 backend.test ESMTP Exim 4.99.1 ready".to_owned(),
            capabilities: "SIZE 52428800\n8BITMIME\nPIPELINING\nCHUNKING\nAUTH PLAIN LOGIN\n\
                           XCLIENT ADDR NAME PORT LOGIN DESTADDR DESTPORT\nHELP"
                .to_owned(),
            answer: "235 Authentication succeeded".to_owned(),
            xclient: Xclient::Exim,
            ..Backend::of(Protocol::Submission)
        }
    }

    /// Whether [`Backend::answer`] lets the user in.
    pub fn lets_in(&self) -> bool {
        self.answer.starts_with(match self.protocol {
            Protocol::Imap | Protocol::ManageSieve => "OK",
            Protocol::Pop3 => "+OK",
            Protocol::Submission => "235",
        })
    }

    /// Greets and obeys until a login has been answered. `None` when the peer leaves before that, or refuses our
    /// certificate.
    #[track_caller]
    pub fn login(&self, conn: &mut Conn) -> Option<SeenLogin> {
        self.sign_in(conn).map(|(seen, _)| seen)
    }

    /// The whole of a session: the login, which is noted when it has been answered, and what [`Backend::echo`] does behind
    /// it. A login that was refused leaves the connection silent, for the peer to end.
    #[track_caller]
    pub(super) fn converse(&self, conn: &mut Conn, note: impl FnOnce(SeenLogin)) {
        let Some((seen, session)) = self.sign_in(conn) else { return };
        let in_by_xclient = seen.mechanism == "XCLIENT";
        note(seen);
        if in_by_xclient || self.lets_in() { self.go_on(conn, session) } else { conn.hold() }
    }

    #[track_caller]
    fn sign_in(&self, conn: &mut Conn) -> Option<(SeenLogin, submission::Session)> {
        let mut session = submission::Session::default();
        let mut seen = SeenLogin { from: Some(conn.peer_addr()), ..SeenLogin::default() };
        if self.header {
            seen.header = Some(ProxyHeader::read(conn)?);
        }
        if self.implicit {
            let Some(tls) = &self.tls else { conn.fail("TLS from the first byte needs a certificate") };
            begin_tls(conn, &mut seen, tls)?;
        }
        if self.protocol == Protocol::ManageSieve {
            managesieve::greet(self, conn, &seen);
        } else {
            conn.send_line(&self.greeting);
        }
        match self.protocol {
            Protocol::Imap => imap::login(self, conn, &mut seen)?,
            Protocol::Pop3 => pop3::login(self, conn, &mut seen)?,
            Protocol::ManageSieve => managesieve::login(self, conn, &mut seen)?,
            Protocol::Submission => session.login(self, conn, &mut seen)?,
        }
        seen.raw = conn.received();
        Some((seen, session))
    }

    /// After a login: answers each line with itself, and LOGOUT or QUIT with an end.
    ///
    /// A line comes back as `* ECHO` with what follows the tag, or with all of it as `+OK ECHO`, `OK "ECHO` with a quote at
    /// the end, or `250 ECHO`. By Submission commands have their meaning nevertheless: mail is taken.
    #[track_caller]
    pub fn echo(&self, conn: &mut Conn) {
        self.go_on(conn, submission::Session::signed_in());
    }

    #[track_caller]
    fn go_on(&self, conn: &mut Conn, mut session: submission::Session) {
        // A client of a test may be silent for long; the test's own waits are bounded.
        conn.set_patience(Duration::from_secs(120));
        while let Some(line) = conn.read_line() {
            let stays = match self.protocol {
                Protocol::Imap => imap::echo(conn, &line),
                Protocol::Pop3 => pop3::echo(conn, &line),
                Protocol::ManageSieve => managesieve::echo(conn, &line),
                Protocol::Submission => session.go_on(self, conn, &line),
            };
            if !stays {
                return;
            }
        }
    }

    /// Whether TLS may still begin.
    fn offers_tls(&self, seen: &SeenLogin) -> bool {
        self.tls.is_some() && !seen.tls
    }
}

/// `None` when the peer refuses our certificate or leaves instead; what is no TLS at all fails the test.
#[track_caller]
fn begin_tls(conn: &mut Conn, seen: &mut SeenLogin, tls: &Arc<ServerConfig>) -> Option<()> {
    let left = |e: &io::Error| {
        let alert = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        matches!(alert, Some(rustls::Error::AlertReceived(_)))
            || matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    };
    match conn.try_accept_tls(tls) {
        Ok(()) => seen.tls = true,
        Err(e) if left(&e) => return None,
        Err(e) => conn.fail(&format!("no TLS: {e}")),
    }
    Some(())
}

/// The exchange of a mechanism in lines: `words` follow the command's name, `challenge` stands in front of challenges.
#[track_caller]
fn sasl_by_lines(conn: &mut Conn, seen: &mut SeenLogin, words: &str, challenge: &str) -> Option<()> {
    let (mechanism, initial) = words.split_once(' ').map_or((words, None), |(mechanism, initial)| (mechanism, Some(initial)));
    // A lone = is how an empty initial response is spelled.
    let initial = initial.map(|initial| if initial == "=" { "" } else { initial });
    sasl(conn, seen, mechanism, initial, |conn, text| {
        conn.send_line(format!("{challenge} {text}"));
        conn.read_line()
    })
}

/// The exchange of a mechanism, after its name was said. `ask` says a challenge, in base64, and reads what answers it.
#[track_caller]
fn sasl(
    conn: &mut Conn,
    seen: &mut SeenLogin,
    mechanism: &str,
    initial: Option<&str>,
    mut ask: impl FnMut(&mut Conn, &str) -> Option<String>,
) -> Option<()> {
    let mut answer_to = |conn: &mut Conn, challenge: &str| {
        let answer = ask(conn, &STANDARD.encode(challenge))?;
        Some(decoded(conn, &answer))
    };
    seen.mechanism = mechanism.to_ascii_uppercase();
    match seen.mechanism.as_str() {
        "PLAIN" => {
            let message = match initial {
                Some(initial) => decoded(conn, initial),
                None => answer_to(conn, "")?,
            };
            let parts: Vec<&str> = message.split('\0').collect();
            let [authzid, user, password] = parts[..] else { conn.fail("the SASL message has not three parts") };
            (seen.authzid, seen.user, seen.password) = (authzid.into(), user.into(), password.into());
        }
        "LOGIN" => {
            seen.user = match initial {
                Some(initial) => decoded(conn, initial),
                None => answer_to(conn, "Username:")?,
            };
            seen.password = answer_to(conn, "Password:")?;
        }
        _ => conn.fail(&format!("this backend knows PLAIN and LOGIN, not {mechanism}")),
    }
    Some(())
}

#[track_caller]
fn decoded(conn: &Conn, base64: &str) -> String {
    let Ok(message) = STANDARD.decode(base64) else { conn.fail("the SASL message is not base64") };
    String::from_utf8_lossy(&message).into_owned()
}
