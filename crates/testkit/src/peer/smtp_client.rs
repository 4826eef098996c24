//! A client for Submission, which is SMTP, for tests (RFC 5321, 6409, 4954, 3207; XCLIENT as Postfix describes it): it says
//! what it is told and knows where a reply ends.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::ClientConfig;

use super::Sasl;
use super::client::{connected, connected_from};
use super::conn::Conn;

/// A client's connection. Everything a [`Conn`] can do, a client can do as well.
#[derive(Debug)]
pub struct SmtpClient {
    conn: Conn,
    /// Whether the server has heard EHLO or HELO since it last began afresh.
    hello_said: bool,
}

/// The name that a client says in EHLO where the test does not care.
pub(super) const HELLO: &str = "client.test";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpReply {
    /// The code.
    pub code: u16,
    /// What follows the code on each line.
    pub lines: Vec<String>,
}

/// What a server says to EHLO, behind its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extensions(pub Vec<String>);

impl SmtpClient {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> SmtpClient {
        SmtpClient { conn: connected(addr), hello_said: false }
    }

    /// Connects from a chosen local address; see [`super::Client::connect_from`].
    #[track_caller]
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> SmtpClient {
        SmtpClient { conn: connected_from(SocketAddr::new(source, 0), addr), hello_said: false }
    }

    /// Connects with TLS from the first byte, expecting a certificate for `name`.
    #[track_caller]
    pub fn connect_tls(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> SmtpClient {
        let mut client = SmtpClient::connect(addr);
        client.conn.connect_tls(config, name);
        client
    }

    /// Connects and reads the greeting, which must be a 220.
    #[track_caller]
    pub fn greeted(addr: SocketAddr) -> SmtpClient {
        let mut client = SmtpClient::connect(addr);
        client.greeting();
        client
    }

    /// Reads the greeting, which must be a 220, and returns its last line.
    #[track_caller]
    pub fn greeting(&mut self) -> String {
        let reply = self.reply();
        if reply.code != 220 {
            self.conn.fail("expected a greeting with 220");
        }
        reply.text()
    }

    /// Says EHLO, which must be answered with 250.
    #[track_caller]
    pub fn ehlo(&mut self, name: &str) -> Extensions {
        self.hello(&format!("EHLO {name}"))
    }

    /// Says EHLO unless that was done since the server last began afresh: with the connection, with TLS or behind XCLIENT.
    #[track_caller]
    pub fn say_hello(&mut self) {
        if !self.hello_said {
            self.ehlo(HELLO);
        }
    }

    /// Switches to TLS with STARTTLS, expecting a certificate for `name`. EHLO has to be said anew.
    #[track_caller]
    pub fn starttls(&mut self, config: &Arc<ClientConfig>, name: &str) {
        self.ok("STARTTLS");
        self.conn.connect_tls(config, name);
        self.hello_said = false;
    }

    /// Says XCLIENT with these attributes, whatever comes of it. After a yes EHLO has to be said anew.
    #[track_caller]
    pub fn xclient(&mut self, attributes: &str) -> SmtpReply {
        let reply = self.command(format!("XCLIENT {attributes}"));
        self.hello_said &= !reply.is_ok();
        reply
    }

    /// Sends a command and reads its answer, whatever it is.
    #[track_caller]
    pub fn command(&mut self, command: impl AsRef<[u8]>) -> SmtpReply {
        self.conn.send_line(command);
        self.reply()
    }

    /// Reads one answer, for commands that were sent together.
    #[track_caller]
    pub fn reply(&mut self) -> SmtpReply {
        let end = self.conn.deadline();
        let mut lines: Vec<String> = Vec::new();
        let mut first = None;
        loop {
            let line = self.conn.expect_line_by(end, "");
            let (digits, rest) = line.split_at_checked(3).unwrap_or((&line, ""));
            let code = digits.parse().ok().filter(|_| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()));
            let (Some(code), "" | " " | "-") = (code, rest.get(..1).unwrap_or("")) else {
                self.conn.fail("expected a line that begins with a code")
            };
            if *first.get_or_insert(code) != code {
                self.conn.fail("expected the same code on all lines of a reply");
            }
            lines.push(rest.get(1..).unwrap_or("").to_owned());
            if !rest.starts_with('-') {
                return SmtpReply { code, lines };
            }
        }
    }

    /// As [`SmtpClient::command`]; the answer must be a yes (2..).
    #[track_caller]
    pub fn ok(&mut self, command: impl AsRef<[u8]>) -> SmtpReply {
        let reply = self.command(command);
        if !reply.is_ok() {
            self.conn.fail("expected a code that begins with 2");
        }
        reply
    }

    /// As [`SmtpClient::command`]; the answer must begin with this code and text, as in `535 5.7.8`.
    #[track_caller]
    pub fn expect(&mut self, command: impl AsRef<[u8]>, start: &str) -> SmtpReply {
        let reply = self.command(command);
        if !reply.text().starts_with(start) {
            self.conn.fail(&format!("expected a reply that begins with {start:?}"));
        }
        reply
    }

    /// AUTH PLAIN with an initial response, whatever comes of it.
    #[track_caller]
    pub fn login(&mut self, user: &str, password: &str) -> SmtpReply {
        self.authenticate(&Sasl::plain("", user, password))
    }

    /// AUTH, whatever comes of it.
    #[track_caller]
    pub fn authenticate(&mut self, sasl: &Sasl) -> SmtpReply {
        let mut reply = self.command(format!("AUTH {}", sasl.words()));
        for answer in sasl.answers() {
            if reply.code != 334 {
                break;
            }
            reply = self.command(answer);
        }
        reply
    }

    /// MAIL, RCPT for each recipient, and DATA with this message, which must have CRLF line ends; all must be agreed to.
    /// Returns the last answer.
    #[track_caller]
    pub fn send_message(&mut self, from: &str, to: &[&str], message: &[u8]) -> SmtpReply {
        self.ok(format!("MAIL FROM:<{from}>"));
        for recipient in to {
            self.ok(format!("RCPT TO:<{recipient}>"));
        }
        self.expect("DATA", "354");
        self.send_dotted(message);
        let reply = self.reply();
        if reply.code != 250 {
            self.conn.fail("expected 250 for the message");
        }
        reply
    }

    /// Sends a message as it stands behind DATA, with its dot, and reads nothing.
    #[track_caller]
    pub fn send_dotted(&mut self, message: &[u8]) {
        let mut text = Vec::with_capacity(message.len() + 64);
        for line in message.split_inclusive(|&b| b == b'\n') {
            if line.starts_with(b".") {
                text.push(b'.');
            }
            text.extend_from_slice(line);
        }
        if !text.is_empty() && !text.ends_with(b"\r\n") {
            self.conn.fail("a message to be sent must end with CRLF");
        }
        text.extend_from_slice(b".\r\n");
        self.conn.send(text);
    }

    /// A client on a connection that is there already.
    pub(super) fn on(conn: Conn) -> SmtpClient {
        SmtpClient { conn, hello_said: false }
    }

    /// Says hello with this command, which must be answered with 250.
    #[track_caller]
    pub(super) fn hello(&mut self, command: &str) -> Extensions {
        let reply = self.ok(command);
        self.hello_said = true;
        Extensions(reply.lines.into_iter().skip(1).collect())
    }

    pub(super) fn is_hello_said(&self) -> bool {
        self.hello_said
    }

    /// The bare connection.
    pub(super) fn into_conn(self) -> Conn {
        self.conn
    }

    /// QUIT, and the server must answer 221 and end the connection.
    #[track_caller]
    pub fn quit(mut self) {
        self.expect("QUIT", "221");
        self.conn.expect_end();
    }
}

impl SmtpReply {
    /// Whether it is a yes (2..).
    pub fn is_ok(&self) -> bool {
        self.code / 100 == 2
    }

    /// The code, a blank, and what follows it; several lines joined by blanks.
    pub fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" "))
    }
}

impl Extensions {
    /// The parameters of this extension, `""` if it has none; `None` if it is not offered. Names in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.iter().map(|line| line.split_once(' ').unwrap_or((line, "")));
        lines.find(|(word, _)| word.eq_ignore_ascii_case(name)).map(|(_, parameters)| parameters)
    }
}

impl Deref for SmtpClient {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for SmtpClient {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
