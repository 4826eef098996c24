//! The demo's scripted mail client: says a command, waits for its answer, writes down both.
//!
//! Every wait ends after [`PATIENCE`], every answer has at most [`ANSWER_MAX`] octets. Passwords are left out of what is written
//! down (see [`Tape`]).

use super::tape::Tape;
use bytes::BytesMut;
use relay::conn::Conn;
use relay::tls::connector::Connector;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::imap::text::{Announced, announced};
use wire::line::{Found, LineScan};

const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_MAX: usize = 1024 * 1024;
const READ: usize = 16 * 1024;

/// A connection to Gatepost.
pub struct Client {
    /// Our own end: what a server should be told of us.
    pub address: SocketAddr,
    conn: Option<Conn>,
    input: BytesMut,
    tape: Tape,
    written: Vec<String>,
}

/// What a server says to one command.
#[derive(Debug)]
pub struct Answer {
    /// What comes before the tagged line, literals included.
    pub untagged: Vec<Vec<u8>>,
    /// The tagged line without tag and CRLF.
    pub verdict: String,
}

impl Answer {
    /// OK.
    pub fn is_ok(&self) -> bool {
        self.verdict.starts_with("OK ")
    }

    /// The first literal of the untagged responses.
    pub fn literal(&self) -> Option<&[u8]> {
        self.untagged.iter().find_map(|response| {
            let Found::Line(length) = LineScan::new().find(response, response.len()) else { return None };
            let Some(Announced::Literal { octets, .. }) = announced(response.get(..length)?) else { return None };
            let from = length.checked_add(2)?;
            response.get(from..from.checked_add(usize::try_from(octets).ok()?)?)
        })
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// As for everything here: one line in words.
    pub async fn connect(to: SocketAddr) -> Result<Client, String> {
        let stream = within(TcpStream::connect(to)).await?;
        let conn = relay::listen::tune(&stream).and_then(|()| Conn::clear(stream)).map_err(|e| e.to_string())?;
        let address = conn.local_addr();
        let written = vec![format!("(from {address} to {to})")];
        Ok(Client { address, conn: Some(conn), input: BytesMut::new(), tape: Tape::default(), written })
    }

    /// Begins TLS and checks the certificate.
    ///
    /// # Errors
    /// The certificate is not valid, or the handshake failed.
    pub async fn secure(&mut self, connector: &Connector, name: &str) -> Result<(), String> {
        let conn = self.conn.take().ok_or("the connection is gone")?;
        let (conn, facts) = within(connector.connect(conn, name, &self.input)).await?;
        self.conn = Some(conn);
        self.written.push(format!("({}, certificate of {name} checked)", facts.version));
        Ok(())
    }

    /// Waits for the greeting.
    ///
    /// # Errors
    /// There is none, or it is not OK.
    pub async fn greeting(&mut self) -> Result<(), String> {
        let response = self.response().await?;
        if response.starts_with(b"* OK ") { Ok(()) } else { Err("the greeting is not OK".to_owned()) }
    }

    /// Says a command and waits for its answer.
    ///
    /// # Errors
    /// See [`Client::answer`].
    pub async fn ask(&mut self, tag: &str, command: &str) -> Result<Answer, String> {
        self.say(&format!("{tag} {command}\r\n")).await?;
        self.answer(tag).await
    }

    /// Says something.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn say(&mut self, lines: &str) -> Result<(), String> {
        let said = self.tape.client(lines.as_bytes());
        self.written.extend(said.iter().map(|line| format!("> {line}")));
        let conn = self.conn.as_mut().ok_or("the connection is gone")?;
        within(conn.write_all(lines.as_bytes())).await
    }

    /// Waits for the answer to a command.
    ///
    /// # Errors
    /// The connection ends, or the answer is for another command.
    pub async fn answer(&mut self, tag: &str) -> Result<Answer, String> {
        let mut untagged: Vec<Vec<u8>> = Vec::new();
        loop {
            let response = self.response().await?;
            if response.starts_with(b"* ") && untagged.len() < 100 {
                untagged.push(response);
                continue;
            }
            let text = String::from_utf8_lossy(&response);
            let verdict = text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' '));
            let verdict = verdict.ok_or_else(|| format!("the answer to {tag} was expected, not {:?}", text.trim_end()))?;
            return Ok(Answer { untagged, verdict: verdict.trim_end().to_owned() });
        }
    }

    /// What has been said since this was last asked.
    pub fn take_written(&mut self) -> Vec<String> {
        std::mem::take(&mut self.written)
    }

    /// One response: its line, with all literals and the lines behind them.
    async fn response(&mut self) -> Result<Vec<u8>, String> {
        let mut base = 0usize;
        let mut scan = LineScan::new();
        loop {
            let rest = self.input.get(base..).unwrap_or_default();
            match scan.find(rest, ANSWER_MAX) {
                Found::Line(length) => {
                    let line = rest.get(..length).unwrap_or_default();
                    let end = base.saturating_add(length).saturating_add(2);
                    if let Some(Announced::Literal { octets, .. }) = announced(line) {
                        base = end.saturating_add(usize::try_from(octets).unwrap_or(ANSWER_MAX).min(ANSWER_MAX));
                        scan = LineScan::new();
                        continue;
                    }
                    let response = self.input.split_to(end.min(self.input.len())).to_vec();
                    let lines = self.tape.server(&response);
                    self.written.extend(lines.iter().map(|line| format!("< {line}")));
                    return Ok(response);
                }
                Found::More => {}
                Found::Bare(_) => return Err("the server sent a line that does not end in CR LF".to_owned()),
                Found::TooLong => return Err("the server sent a line that is too long".to_owned()),
            }
            if self.input.len() > ANSWER_MAX {
                return Err("the server sent an answer that is too long".to_owned());
            }
            let conn = self.conn.as_mut().ok_or("the connection is gone")?;
            if within(conn.read(&mut self.input, READ)).await? == 0 {
                return Err("the server closed the connection".to_owned());
            }
        }
    }
}

async fn within<T, E: std::fmt::Display>(future: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(PATIENCE, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("nothing happened for {} s", PATIENCE.as_secs())),
    }
}
