//! A POP3 client for tests (RFC 1939, 2449, 2595, 5034): it says what it is told and knows where a reply ends.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::ClientConfig;

use super::Sasl;
use super::client::{connected, connected_from};
use super::conn::Conn;

/// A client's connection. Everything a [`Conn`] can do, a client can do as well.
#[derive(Debug)]
pub struct Pop3Client {
    conn: Conn,
}

/// Yes or no, and what was said with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `+OK` of POP3, `OK` of IMAP and ManageSieve, a code that begins with 2 of Submission.
    pub ok: bool,
    /// What follows the status on its line, by ManageSieve with a literal as a quoted string. By Submission the code is part
    /// of it, and several lines become one: `535 5.7.8 Authentication failed.`
    pub text: String,
}

impl Pop3Client {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Pop3Client {
        Pop3Client { conn: connected(addr) }
    }

    /// Connects from a chosen local address; see [`super::Client::connect_from`].
    #[track_caller]
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> Pop3Client {
        Pop3Client { conn: connected_from(SocketAddr::new(source, 0), addr) }
    }

    /// Connects with TLS from the first byte, expecting a certificate for `name`.
    #[track_caller]
    pub fn connect_tls(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Pop3Client {
        let mut client = Pop3Client::connect(addr);
        client.conn.connect_tls(config, name);
        client
    }

    /// Connects and reads the greeting, which must be `+OK`.
    #[track_caller]
    pub fn greeted(addr: SocketAddr) -> Pop3Client {
        let mut client = Pop3Client::connect(addr);
        client.greeting();
        client
    }

    /// Reads the greeting, which must be `+OK`, and returns it.
    #[track_caller]
    pub fn greeting(&mut self) -> String {
        let line = self.conn.expect_line("");
        if !line.starts_with("+OK") {
            self.conn.fail("expected a greeting that begins with +OK");
        }
        line
    }

    /// Switches to TLS with STLS, expecting a certificate for `name`.
    #[track_caller]
    pub fn stls(&mut self, config: &Arc<ClientConfig>, name: &str) {
        self.ok("STLS");
        self.conn.connect_tls(config, name);
    }

    /// Sends a command and reads the first line of its answer, whatever it is.
    #[track_caller]
    pub fn command(&mut self, command: impl AsRef<[u8]>) -> Outcome {
        self.conn.send_line(command);
        self.outcome()
    }

    /// Reads one status line, for commands that were sent together.
    #[track_caller]
    pub fn outcome(&mut self) -> Outcome {
        let line = self.conn.expect_line("");
        self.read(&line)
    }

    #[track_caller]
    fn read(&self, line: &str) -> Outcome {
        let (status, text) = line.split_once(' ').unwrap_or((line, ""));
        match status {
            "+OK" | "-ERR" => Outcome { ok: status == "+OK", text: text.to_owned() },
            _ => self.conn.fail("expected +OK or -ERR"),
        }
    }

    /// As [`Pop3Client::command`]; the answer must be `+OK`. Returns its text.
    #[track_caller]
    pub fn ok(&mut self, command: impl AsRef<[u8]>) -> String {
        let outcome = self.command(command);
        if !outcome.ok {
            self.conn.fail("expected +OK");
        }
        outcome.text
    }

    /// As [`Pop3Client::command`]; the answer must be `-ERR`, with `piece` in its text, which is returned.
    #[track_caller]
    pub fn err(&mut self, command: impl AsRef<[u8]>, piece: &str) -> String {
        let outcome = self.command(command);
        if outcome.ok || !outcome.text.contains(piece) {
            self.conn.fail(&format!("expected -ERR with {piece:?}"));
        }
        outcome.text
    }

    /// Sends a command that must be answered with `+OK` and more lines. Returns these with their line ends, without
    /// the dots that the protocol adds.
    #[track_caller]
    pub fn multi_line(&mut self, command: impl AsRef<[u8]>) -> Vec<u8> {
        self.ok(command);
        self.rest_of_multi_line()
    }

    /// The lines of [`Pop3Client::multi_line`], once the status line was read.
    #[track_caller]
    pub fn rest_of_multi_line(&mut self) -> Vec<u8> {
        let end = self.conn.deadline();
        let mut all = Vec::new();
        loop {
            let line = self.conn.expect_raw_line_by(end, "");
            if line == b"." {
                return all;
            }
            all.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            all.extend_from_slice(b"\r\n");
        }
    }

    /// What CAPA lists, line by line.
    #[track_caller]
    pub fn capabilities(&mut self) -> Vec<String> {
        let list = self.multi_line("CAPA");
        String::from_utf8_lossy(&list).lines().map(str::to_owned).collect()
    }

    /// USER and PASS, whatever comes of it: the answer to PASS, or that to USER if it was refused.
    #[track_caller]
    pub fn login(&mut self, user: &str, password: &str) -> Outcome {
        let named = self.command(format!("USER {user}"));
        if named.ok { self.command(format!("PASS {password}")) } else { named }
    }

    /// AUTH PLAIN with an initial response, whatever comes of it. `authzid` may be empty.
    #[track_caller]
    pub fn authenticate_plain(&mut self, authzid: &str, user: &str, password: &str) -> Outcome {
        self.authenticate(&Sasl::plain(authzid, user, password))
    }

    /// AUTH, whatever comes of it.
    #[track_caller]
    pub fn authenticate(&mut self, sasl: &Sasl) -> Outcome {
        self.conn.send_line(format!("AUTH {}", sasl.words()));
        let mut answers = sasl.answers();
        loop {
            let line = self.conn.expect_line("");
            match answers.next().filter(|_| line.starts_with('+') && !line.starts_with("+OK")) {
                Some(answer) => self.conn.send_line(answer),
                None => return self.read(&line),
            }
        }
    }

    /// The whole of message `number`, byte for byte.
    #[track_caller]
    pub fn retr(&mut self, number: usize) -> Vec<u8> {
        self.multi_line(format!("RETR {number}"))
    }

    /// The bare connection.
    pub(super) fn into_conn(self) -> Conn {
        self.conn
    }

    /// QUIT, and the server must answer and end the connection.
    #[track_caller]
    pub fn quit(mut self) {
        self.ok("QUIT");
        self.conn.expect_end();
    }
}

impl Deref for Pop3Client {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Pop3Client {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
