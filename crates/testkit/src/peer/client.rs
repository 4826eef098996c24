//! An IMAP client for tests: it says what it is told and understands just enough to know where a reply ends.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::ClientConfig;

use super::Sasl;
use super::conn::{Conn, DIALOGUE_LIMIT};

/// A client's connection. Everything a [`Conn`] can do, a client can do as well.
#[derive(Debug)]
pub struct Client {
    conn: Conn,
    tags: u32,
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `OK`, `NO` or `BAD`.
    pub status: String,
    /// What follows the status on the tagged line.
    pub text: String,
    /// The untagged lines with their literals, and continuation requests, as they came, CRLF included.
    pub untagged: Vec<Vec<u8>>,
}

impl Client {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Client {
        Client { conn: connected(addr), tags: 0 }
    }

    /// Connects to a unix socket, and says nothing.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> Client {
        let socket = UnixStream::connect(path).unwrap_or_else(|e| panic!("cannot connect to {}: {e}", path.display()));
        Client { conn: Conn::over_unix(socket), tags: 0 }
    }

    /// Connects to a unix socket and reads the greeting, which must be an OK.
    #[track_caller]
    pub fn greeted_unix(path: &Path) -> Client {
        let mut client = Client::connect_unix(path);
        client.greeting();
        client
    }

    /// Connects from a chosen local address. All of 127.0.0.0/8 is there on Linux without being configured, so one test
    /// can be many clients.
    #[track_caller]
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> Client {
        Client::connect_from_port(SocketAddr::new(source, 0), addr)
    }

    /// Connects from a chosen local address and port, for where the kernel has none to give away.
    #[track_caller]
    pub fn connect_from_port(source: SocketAddr, addr: SocketAddr) -> Client {
        Client { conn: connected_from(source, addr), tags: 0 }
    }

    /// Connects with TLS from the first byte, expecting a certificate for `name`.
    #[track_caller]
    pub fn connect_tls(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Client {
        let mut client = Client::connect(addr);
        client.conn.connect_tls(config, name);
        client
    }

    /// Connects and reads the greeting, which must be an OK.
    #[track_caller]
    pub fn greeted(addr: SocketAddr) -> Client {
        let mut client = Client::connect(addr);
        client.greeting();
        client
    }

    /// Reads the greeting, which must be an OK, and returns it.
    #[track_caller]
    pub fn greeting(&mut self) -> String {
        let line = self.conn.expect_line("");
        if !line.starts_with("* OK") {
            self.conn.fail("expected a greeting that begins with * OK");
        }
        line
    }

    /// Switches to TLS with STARTTLS, expecting a certificate for `name`.
    #[track_caller]
    pub fn starttls(&mut self, config: &Arc<ClientConfig>, name: &str) {
        self.ok("STARTTLS");
        self.conn.connect_tls(config, name);
    }

    /// Sends a command behind a fresh tag and reads its answer.
    ///
    /// The command must not need continuation requests: spell literals out with [`Conn::send`], or as `{n+}`.
    #[track_caller]
    pub fn command(&mut self, command: impl AsRef<[u8]>) -> Reply {
        let tag = self.send_command(command);
        self.reply(&tag)
    }

    /// Sends a command and returns its tag, for [`Client::reply`].
    #[track_caller]
    pub fn send_command(&mut self, command: impl AsRef<[u8]>) -> String {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        let mut line = format!("{tag} ").into_bytes();
        line.extend_from_slice(command.as_ref());
        self.conn.send_line(line);
        tag
    }

    /// Reads up to and including the line that `tag` begins, as one step (see [`Conn::set_patience`]).
    #[track_caller]
    pub fn reply(&mut self, tag: &str) -> Reply {
        self.reply_answering(tag, std::iter::empty())
    }

    /// The same, with a line for each continuation request.
    #[track_caller]
    fn reply_answering(&mut self, tag: &str, mut answers: impl Iterator<Item = String>) -> Reply {
        let end = self.conn.deadline();
        let mut untagged = Vec::new();
        loop {
            let (line, whole) = self.response(end);
            if line.starts_with('+')
                && let Some(answer) = answers.next()
            {
                self.conn.send_line(answer);
            }
            let tagged = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' '));
            let Some(rest) = tagged else {
                untagged.push(whole);
                continue;
            };
            let (status, text) = rest.split_once(' ').unwrap_or((rest, ""));
            return Reply { status: status.to_owned(), text: text.to_owned(), untagged };
        }
    }

    /// As [`Client::command`]; the answer must be OK.
    #[track_caller]
    pub fn ok(&mut self, command: impl AsRef<[u8]>) -> Reply {
        let reply = self.command(command);
        if reply.status != "OK" {
            self.conn.fail("expected OK");
        }
        reply
    }

    /// As [`Client::command`]; the answer must be NO, with `piece` in its text.
    #[track_caller]
    pub fn no(&mut self, command: impl AsRef<[u8]>, piece: &str) -> Reply {
        let reply = self.command(command);
        if reply.status != "NO" || !reply.text.contains(piece) {
            self.conn.fail(&format!("expected NO with {piece:?}"));
        }
        reply
    }

    /// LOGIN with quoted strings, whatever comes of it.
    #[track_caller]
    pub fn login(&mut self, user: &str, password: &str) -> Reply {
        self.send_login(user, password);
        self.reply_to_last()
    }

    #[track_caller]
    pub(super) fn send_login(&mut self, user: &str, password: &str) {
        self.send_command(format!("LOGIN {} {}", quoted(user), quoted(password)));
    }

    /// As [`Client::reply`] to the command that was sent last.
    #[track_caller]
    pub(super) fn reply_to_last(&mut self) -> Reply {
        self.reply(&format!("t{}", self.tags))
    }

    /// AUTHENTICATE PLAIN with an initial response, whatever comes of it. `authzid` may be empty.
    #[track_caller]
    pub fn authenticate_plain(&mut self, authzid: &str, user: &str, password: &str) -> Reply {
        self.authenticate(&Sasl::plain(authzid, user, password))
    }

    /// AUTHENTICATE, whatever comes of it.
    #[track_caller]
    pub fn authenticate(&mut self, sasl: &Sasl) -> Reply {
        let tag = self.send_command(format!("AUTHENTICATE {}", sasl.words()));
        self.reply_answering(&tag, sasl.answers())
    }

    /// The whole of message `number` of the selected mailbox, byte for byte.
    #[track_caller]
    pub fn fetch_body(&mut self, number: usize) -> Vec<u8> {
        let reply = self.ok(format!("FETCH {number} BODY.PEEK[]"));
        let start = format!("* {number} FETCH ");
        let Some(whole) = reply.untagged.iter().find(|r| r.starts_with(start.as_bytes())) else {
            self.conn.fail("expected a FETCH response")
        };
        let header = whole.iter().position(|&b| b == b'\n').map_or(0, |at| at + 1);
        let (line, rest) = whole.split_at(header);
        match literal(&String::from_utf8_lossy(line)) {
            Some(n) if n <= rest.len() => rest[..n].to_vec(),
            _ => self.conn.fail("expected the message as a literal"),
        }
    }

    /// The bare connection.
    pub(super) fn into_conn(self) -> Conn {
        self.conn
    }

    /// LOGOUT, and the server must say BYE, answer and end the connection.
    #[track_caller]
    pub fn logout(mut self) {
        let reply = self.ok("LOGOUT");
        if !reply.untagged.iter().any(|line| line.starts_with(b"* BYE")) {
            self.conn.fail("expected * BYE");
        }
        self.conn.expect_end();
    }

    /// One response: its first line, and all of it including literals.
    #[track_caller]
    fn response(&mut self, end: Instant) -> (String, Vec<u8>) {
        let first = self.conn.expect_line_by(end, "");
        let mut whole = format!("{first}\r\n").into_bytes();
        let mut line = first.clone();
        while let Some(n) = literal(&line) {
            whole.extend(self.conn.read_exact(n));
            line = self.conn.expect_line_by(end, "");
            whole.extend_from_slice(line.as_bytes());
            whole.extend_from_slice(b"\r\n");
        }
        (first, whole)
    }
}

impl Deref for Client {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

impl Reply {
    /// Whether the status is OK.
    pub fn is_ok(&self) -> bool {
        self.status == "OK"
    }

    /// The untagged lines as one text, for `contains`.
    pub fn untagged_text(&self) -> String {
        String::from_utf8_lossy(&self.untagged.concat()).into_owned()
    }
}

/// The size that a line announces at its end: `{n}`, `{n+}` or `~{n}`.
fn literal(line: &str) -> Option<usize> {
    let inner = line.trim_end().strip_suffix('}')?;
    let (_, digits) = inner.rsplit_once('{')?;
    digits.strip_suffix('+').unwrap_or(digits).parse().ok()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A connection that has said nothing yet.
#[track_caller]
pub(super) fn connected(addr: SocketAddr) -> Conn {
    let socket = TcpStream::connect_timeout(&addr, DIALOGUE_LIMIT);
    Conn::new(socket.unwrap_or_else(|e| panic!("cannot connect to {addr}: {e}")))
}

/// The same from a chosen local address; port 0 is any.
#[track_caller]
pub(super) fn connected_from(source: SocketAddr, addr: SocketAddr) -> Conn {
    let socket = bound_to(source, addr);
    Conn::new(socket.unwrap_or_else(|e| panic!("cannot connect from {source} to {addr}: {e}")))
}

/// The standard library has no way to bind before connecting.
fn bound_to(source: SocketAddr, addr: SocketAddr) -> rustix::io::Result<TcpStream> {
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &source)?;
    rustix::net::connect(&socket, &addr)?;
    Ok(TcpStream::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_announced_at_the_end_of_the_line_only() {
        assert_eq!(literal("* 1 FETCH (BODY[] {12}"), Some(12));
        assert_eq!(literal("a LOGIN {5+}"), Some(5));
        assert_eq!(literal("* OK {5} is not one"), None);
        assert_eq!(literal("* OK {x}"), None);
    }
}
