//! A ManageSieve client for tests (RFC 5804; XCLIENT as Dovecot speaks it): it says what it is told and knows where a
//! response ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::ClientConfig;

use super::Sasl;
use super::client::{connected, connected_from};
use super::conn::Conn;
use super::sieve_text::{SieveItem, items, literal, shown, string};

/// A client's connection. Everything a [`Conn`] can do, a client can do as well.
#[derive(Debug)]
pub struct SieveClient {
    conn: Conn,
    literals: bool,
    capabilities: SieveCaps,
}

/// What a server lists: names in capitals, with what stands behind them.
pub type SieveCaps = BTreeMap<String, String>;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SieveReply {
    /// `OK`, `NO` or `BYE`.
    pub status: String,
    /// What stands in parentheses behind it, as in `TRYLATER` or `REFERRAL "sieve://..."`; empty if nothing does.
    pub code: String,
    /// The text for humans.
    pub text: String,
    /// The lines in front of it.
    pub data: Vec<Vec<SieveItem>>,
    /// What follows the status, on one line, with every string quoted.
    pub rest: String,
}

impl SieveClient {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> SieveClient {
        SieveClient::with(connected(addr))
    }

    /// Connects from a chosen local address; see [`super::Client::connect_from`].
    #[track_caller]
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> SieveClient {
        SieveClient::with(connected_from(SocketAddr::new(source, 0), addr))
    }

    fn with(conn: Conn) -> SieveClient {
        SieveClient { conn, literals: false, capabilities: SieveCaps::new() }
    }

    /// Connects and reads the greeting, which must end with OK.
    #[track_caller]
    pub fn greeted(addr: SocketAddr) -> SieveClient {
        let mut client = SieveClient::connect(addr);
        client.greeting();
        client
    }

    /// Reads the greeting, which must end with OK, and returns that line. What it lists is in [`SieveClient::listed`].
    #[track_caller]
    pub fn greeting(&mut self) -> String {
        let reply = self.reply();
        if !reply.is_ok() {
            self.conn.fail("expected a greeting that ends with OK");
        }
        self.capabilities = capabilities(&reply);
        format!("OK {}", reply.rest)
    }

    /// What the server listed last, without being asked or in answer to CAPABILITY.
    pub fn listed(&self) -> &SieveCaps {
        &self.capabilities
    }

    /// Whether all strings are said as literals from now on.
    pub fn set_literals(&mut self, literals: bool) {
        self.literals = literals;
    }

    /// Switches to TLS with STARTTLS, expecting a certificate for `name`, and reads what the server then lists.
    #[track_caller]
    pub fn starttls(&mut self, config: &Arc<ClientConfig>, name: &str) {
        self.ok("STARTTLS");
        self.conn.connect_tls(config, name);
        self.capabilities.clear();
        self.greeting();
    }

    /// Asks for the capabilities.
    #[track_caller]
    pub fn capability(&mut self) -> &SieveCaps {
        let reply = self.ok("CAPABILITY");
        self.capabilities = capabilities(&reply);
        &self.capabilities
    }

    /// Says XCLIENT with these attributes, whatever comes of it.
    #[track_caller]
    pub fn xclient(&mut self, attributes: &str) -> SieveReply {
        self.command(format!("XCLIENT {attributes}"))
    }

    /// Sends a command and reads its answer, whatever it is.
    #[track_caller]
    pub fn command(&mut self, command: impl AsRef<[u8]>) -> SieveReply {
        self.conn.send_line(command);
        self.reply()
    }

    /// Reads one answer, for commands that were sent together.
    #[track_caller]
    pub fn reply(&mut self) -> SieveReply {
        let mut data = Vec::new();
        loop {
            let items = self.response();
            match read(&items) {
                Some(reply) => return SieveReply { data, ..reply },
                None => data.push(items),
            }
        }
    }

    /// As [`SieveClient::command`]; the answer must be OK.
    #[track_caller]
    pub fn ok(&mut self, command: impl AsRef<[u8]>) -> SieveReply {
        let reply = self.command(command);
        if !reply.is_ok() {
            self.conn.fail("expected OK");
        }
        reply
    }

    /// As [`SieveClient::command`]; the answer must be NO, with `piece` in its code or its text.
    #[track_caller]
    pub fn no(&mut self, command: impl AsRef<[u8]>, piece: &str) -> SieveReply {
        let reply = self.command(command);
        if reply.status != "NO" || !(reply.code.contains(piece) || reply.text.contains(piece)) {
            self.conn.fail(&format!("expected NO with {piece:?}"));
        }
        reply
    }

    /// AUTHENTICATE PLAIN with an initial response, whatever comes of it.
    #[track_caller]
    pub fn login(&mut self, user: &str, password: &str) -> SieveReply {
        self.authenticate(&Sasl::plain("", user, password))
    }

    /// AUTHENTICATE, whatever comes of it.
    #[track_caller]
    pub fn authenticate(&mut self, sasl: &Sasl) -> SieveReply {
        self.send_authenticate(sasl);
        let mut answers = sasl.answers();
        let mut data = Vec::new();
        loop {
            let items = self.response();
            if let Some(reply) = read(&items) {
                return SieveReply { data, ..reply };
            }
            match answers.next() {
                Some(answer) => {
                    let answer = self.string(answer);
                    self.conn.send_line(answer);
                }
                None => data.push(items),
            }
        }
    }

    #[track_caller]
    pub(super) fn send_authenticate(&mut self, sasl: &Sasl) {
        let mut command = b"AUTHENTICATE ".to_vec();
        command.extend(self.string(sasl.mechanism()));
        if let Some(initial) = sasl.initial() {
            command.push(b' ');
            command.extend(self.string(initial));
        }
        self.conn.send_line(command);
    }

    /// PUTSCRIPT, whatever comes of it.
    #[track_caller]
    pub fn put_script(&mut self, name: &str, script: &[u8]) -> SieveReply {
        let command = [b"PUTSCRIPT ", &*self.string(name), b" ", &*literal(script, "+")].concat();
        self.command(command)
    }

    /// SETACTIVE, whatever comes of it. The empty name is none.
    #[track_caller]
    pub fn set_active(&mut self, name: &str) -> SieveReply {
        let command = [b"SETACTIVE ", &*self.string(name)].concat();
        self.command(command)
    }

    /// GETSCRIPT, which must be answered with the script.
    #[track_caller]
    pub fn get_script(&mut self, name: &str) -> Vec<u8> {
        let command = [b"GETSCRIPT ", &*self.string(name)].concat();
        match &self.ok(command).data[..] {
            [line] => match &line[..] {
                [SieveItem::Text(script)] => script.clone(),
                _ => self.conn.fail("expected a script"),
            },
            _ => self.conn.fail("expected one script"),
        }
    }

    /// LISTSCRIPTS: names, and whether each is active.
    #[track_caller]
    pub fn list_scripts(&mut self) -> Vec<(String, bool)> {
        let lines = self.ok("LISTSCRIPTS").data;
        let script = |line: &Vec<SieveItem>| match &line[..] {
            [name] => Some((name.text()?, false)),
            [name, active] if active.is("ACTIVE") => Some((name.text()?, true)),
            _ => None,
        };
        let scripts: Option<Vec<_>> = lines.iter().map(script).collect();
        scripts.unwrap_or_else(|| self.conn.fail("expected names of scripts"))
    }

    /// The bare connection.
    pub(super) fn into_conn(self) -> Conn {
        self.conn
    }

    /// LOGOUT, and the server must answer OK and end the connection.
    #[track_caller]
    pub fn logout(mut self) {
        self.ok("LOGOUT");
        self.conn.expect_end();
    }

    fn string(&self, text: impl AsRef<[u8]>) -> Vec<u8> {
        if self.literals { literal(text, "+") } else { string(text) }
    }

    #[track_caller]
    fn response(&mut self) -> Vec<SieveItem> {
        let line = self.conn.expect_line("");
        match items(&mut self.conn, &line) {
            Some(items) => items,
            None => self.conn.fail("expected the end of a response"),
        }
    }
}

impl SieveReply {
    /// Whether the status is OK.
    pub fn is_ok(&self) -> bool {
        self.status == "OK"
    }
}

/// The line that ends an answer; `None` for other lines.
fn read(items: &[SieveItem]) -> Option<SieveReply> {
    let (first, rest) = items.split_first()?;
    let status = ["OK", "NO", "BYE"].into_iter().find(|status| first.is(status))?;
    let open = rest.first().is_some_and(|item| item.is("("));
    let close = rest.iter().position(|item| item.is(")")).filter(|_| open);
    let (code, after) = match close {
        Some(close) => (shown(&rest[1..close]), &rest[close + 1..]),
        None => (String::new(), rest),
    };
    let text = after.first().and_then(SieveItem::text).unwrap_or_default();
    Some(SieveReply { status: status.to_owned(), code, text, data: Vec::new(), rest: shown(rest) })
}

fn capabilities(reply: &SieveReply) -> SieveCaps {
    let pair = |line: &Vec<SieveItem>| {
        let name = line.first()?.text()?.to_ascii_uppercase();
        Some((name, line.get(1).and_then(SieveItem::text).unwrap_or_default()))
    };
    reply.data.iter().filter_map(pair).collect()
}

impl Deref for SieveClient {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for SieveClient {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
