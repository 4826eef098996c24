//! A well-behaved little backend as a script, for tests that need a login to succeed and no Dovecot for it.
//!
//! It understands the login phase of IMAP (CAPABILITY, ID, STARTTLS, LOGIN with literals, AUTHENTICATE) or of POP3
//! (CAPA, XCLIENT, STLS, USER and PASS, AUTH), both with the mechanisms PLAIN and LOGIN, and notes what was said in it.
//! After the login the test has the connection. [`super::FakeBackend`] is one that runs by itself.

mod imap;
mod pop3;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;

use super::{Conn, ProxyHeader};
use crate::Protocol;

/// How the backend behaves.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What it speaks.
    pub protocol: Protocol,
    /// The greeting, without CRLF.
    pub greeting: String,
    /// What CAPABILITY answers before the login, or CAPA, there one capability per line. With [`Backend::tls`] set it
    /// also lists STARTTLS or STLS.
    pub capabilities: String,
    /// The answer to a login. By IMAP what follows the tag and a blank: `OK Logged in`, `NO [UNAVAILABLE] Later`. By
    /// POP3 the whole line: `-ERR [SYS/TEMP] Later`.
    pub answer: String,
    /// Offers STARTTLS or STLS with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// Speaks TLS from the first byte (behind a PROXY header) instead of offering it.
    pub implicit: bool,
    /// Expects a PROXY header before anything else.
    pub header: bool,
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
    /// The SASL mechanism in capitals; empty when the login was a command (LOGIN, USER and PASS).
    pub mechanism: String,
    /// The lines of the ID commands, as they came after `ID `, in order.
    pub ids: Vec<String>,
    /// The lines of the XCLIENT commands of POP3, as they came after `XCLIENT `, in order.
    pub xclients: Vec<String>,
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
    /// The lines of the commands by which the peer said who is calling: ID of IMAP, XCLIENT of POP3.
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
            tls: None,
            implicit: false,
            header: false,
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
        }
    }

    /// Whether [`Backend::answer`] lets the user in.
    pub fn lets_in(&self) -> bool {
        self.answer.starts_with(match self.protocol {
            Protocol::Imap => "OK",
            Protocol::Pop3 => "+OK",
        })
    }

    /// Greets and obeys until a login has been answered. `None` when the peer leaves before that, or refuses our
    /// certificate.
    #[track_caller]
    pub fn login(&self, conn: &mut Conn) -> Option<SeenLogin> {
        let mut seen = SeenLogin { from: Some(conn.peer_addr()), ..SeenLogin::default() };
        if self.header {
            seen.header = Some(ProxyHeader::read(conn)?);
        }
        if self.implicit {
            let Some(tls) = &self.tls else { conn.fail("TLS from the first byte needs a certificate") };
            begin_tls(conn, &mut seen, tls)?;
        }
        conn.send_line(&self.greeting);
        match self.protocol {
            Protocol::Imap => imap::login(self, conn, &mut seen)?,
            Protocol::Pop3 => pop3::login(self, conn, &mut seen)?,
        }
        seen.raw = conn.received();
        Some(seen)
    }

    /// After a login: answers each line with itself, and LOGOUT or QUIT with an end.
    ///
    /// A line comes back as `* ECHO` with what follows the tag, or as `+OK ECHO` with all of it.
    #[track_caller]
    pub fn echo(&self, conn: &mut Conn) {
        // A client of a test may be silent for long; the test's own waits are bounded.
        conn.set_patience(Duration::from_secs(120));
        while let Some(line) = conn.read_line() {
            let stays = match self.protocol {
                Protocol::Imap => imap::echo(conn, &line),
                Protocol::Pop3 => pop3::echo(conn, &line),
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

/// The exchange of a mechanism, after its name was said.
#[track_caller]
fn sasl(conn: &mut Conn, seen: &mut SeenLogin, mechanism: &str, initial: &str) -> Option<()> {
    seen.mechanism = mechanism.to_ascii_uppercase();
    match seen.mechanism.as_str() {
        "PLAIN" => {
            let message = if initial.is_empty() { answer_to(conn, "")? } else { decoded(conn, initial) };
            let parts: Vec<&str> = message.split('\0').collect();
            let [authzid, user, password] = parts[..] else { conn.fail("the SASL message has not three parts") };
            (seen.authzid, seen.user, seen.password) = (authzid.into(), user.into(), password.into());
        }
        "LOGIN" => {
            seen.user = if initial.is_empty() { answer_to(conn, "Username:")? } else { decoded(conn, initial) };
            seen.password = answer_to(conn, "Password:")?;
        }
        _ => conn.fail(&format!("this backend knows PLAIN and LOGIN, not {mechanism}")),
    }
    Some(())
}

#[track_caller]
fn answer_to(conn: &mut Conn, challenge: &str) -> Option<String> {
    conn.send_line(format!("+ {}", STANDARD.encode(challenge)));
    let line = conn.read_line()?;
    Some(decoded(conn, &line))
}

#[track_caller]
fn decoded(conn: &Conn, base64: &str) -> String {
    // A lone = is how an empty initial response is spelled.
    let text = if base64 == "=" { "" } else { base64 };
    let Ok(message) = STANDARD.decode(text) else { conn.fail("the SASL message is not base64") };
    String::from_utf8_lossy(&message).into_owned()
}
