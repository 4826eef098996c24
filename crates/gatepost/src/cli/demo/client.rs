//! The demo's scripted mail client: says commands, waits for their answers, writes down both.
//!
//! Every wait ends after [`PATIENCE`], every answer has at most [`ANSWER_MAX`] octets. Passwords are left out of what is written
//! down (see [`Tape`]). What a command or an answer looks like is for its [`Speech`] to say.

use super::speech::{ANSWER_MAX, Answer, Speech};
use super::tape::Tape;
use bytes::BytesMut;
use relay::conn::Conn;
use relay::tls::connector::Connector;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::origin::{Origin, haproxy};

const PATIENCE: Duration = Duration::from_secs(10);
const READ: usize = 16 * 1024;

/// A connection to Gatepost.
pub struct Client {
    /// Our own end: what a server should be told of us.
    pub address: SocketAddr,
    speech: &'static dyn Speech,
    conn: Option<Conn>,
    input: BytesMut,
    /// What tags begin with, and the last one's number.
    letter: char,
    tag: u32,
    /// Tags and words of the commands that wait for their answers.
    asked: VecDeque<(String, String)>,
    tape: Tape,
    written: Vec<String>,
}

impl Client {
    /// Connects. `letter`: what its tags begin with, where the protocol has tags.
    ///
    /// # Errors
    /// As for everything here: one line in words.
    pub async fn connect(speech: &'static dyn Speech, letter: char, to: SocketAddr) -> Result<Client, String> {
        let stream = within(TcpStream::connect(to)).await?;
        let conn = relay::listen::tune(&stream).and_then(|()| Conn::clear(stream)).map_err(|e| e.to_string())?;
        let address = conn.local_addr();
        let written = vec![format!("(from {address} to {to})")];
        let (input, asked, tape) = (BytesMut::new(), VecDeque::new(), Tape::new(speech));
        Ok(Client { address, speech, conn: Some(conn), input, letter, tag: 0, asked, tape, written })
    }

    /// Says before everything else whose connection it is, as a balancer does (PROXY protocol, version 2).
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn speak_for(&mut self, origin: &Origin) -> Result<(), String> {
        let mut header = BytesMut::new();
        haproxy::write_v2(Some(origin), &mut header);
        self.written.push(format!("(PROXY header: {} has reached {})", origin.client.0, origin.reached.0));
        self.send(&header).await
    }

    /// Begins TLS and checks the certificate.
    ///
    /// # Errors
    /// The certificate is not valid, or the handshake failed.
    pub async fn secure(&mut self, connector: &Connector, name: &str) -> Result<(), String> {
        let conn = self.conn.take().ok_or("the connection is gone")?;
        match within(connector.connect(conn, name, &self.input)).await {
            Ok((conn, facts)) => {
                self.conn = Some(conn);
                self.written.push(format!("({}, certificate of {name} checked)", facts.version));
                Ok(())
            }
            Err(why) => {
                self.written.push(format!("({why})"));
                Err(why)
            }
        }
    }

    /// Waits for the greeting.
    ///
    /// # Errors
    /// There is none, or it is not OK.
    pub async fn greeting(&mut self) -> Result<(), String> {
        loop {
            if let Some(greeting) = self.speech.greeting(&self.input)? {
                self.write_down(greeting.octets);
                let good = self.speech.verdicts().is_ok(&greeting.verdict);
                return if good { Ok(()) } else { Err("the greeting is not OK".to_owned()) };
            }
            self.read().await?;
        }
    }

    /// Says a command and waits for its answer.
    ///
    /// # Errors
    /// See [`Client::answer`].
    pub async fn ask(&mut self, command: &str) -> Result<Answer, String> {
        self.say(&[command]).await?;
        self.answer().await
    }

    /// Says commands, all in one breath.
    ///
    /// # Errors
    /// They cannot be sent.
    pub async fn say(&mut self, commands: &[impl AsRef<str>]) -> Result<(), String> {
        let mut lines = String::new();
        for command in commands.iter().map(AsRef::as_ref) {
            self.tag = self.tag.saturating_add(1);
            let tag = format!("{}{}", self.letter, self.tag);
            lines.push_str(&self.speech.command(&tag, command));
            lines.push_str("\r\n");
            self.asked.push_back((tag, command.to_owned()));
        }
        let said = self.tape.client(lines.as_bytes());
        self.written.extend(said.iter().map(|line| format!("> {line}")));
        self.send(lines.as_bytes()).await
    }

    /// Waits for the answer to the oldest command that has none yet.
    ///
    /// # Errors
    /// The connection ends, or it is no answer to it.
    pub async fn answer(&mut self) -> Result<Answer, String> {
        let (tag, command) = self.asked.pop_front().ok_or("nothing was asked")?;
        loop {
            match self.speech.answer(&tag, &command, &self.input) {
                Ok(Some(answer)) => {
                    self.write_down(answer.octets);
                    return Ok(answer);
                }
                Ok(None) => {}
                Err(why) => {
                    self.write_down(self.input.len());
                    return Err(why);
                }
            }
            self.read().await?;
        }
    }

    /// Waits for one more answer to the command that was answered last: behind a letter, LMTP has one for each recipient.
    ///
    /// # Errors
    /// See [`Client::answer`].
    pub async fn one_more(&mut self) -> Result<Answer, String> {
        self.asked.push_front(Default::default());
        self.answer().await
    }

    /// What has been said since this was last asked.
    pub fn take_written(&mut self) -> Vec<String> {
        std::mem::take(&mut self.written)
    }

    fn write_down(&mut self, octets: usize) {
        let said = self.input.split_to(octets.min(self.input.len()));
        let lines = self.tape.server(&said);
        self.written.extend(lines.iter().map(|line| format!("< {line}")));
    }

    async fn send(&mut self, octets: &[u8]) -> Result<(), String> {
        let conn = self.conn.as_mut().ok_or("the connection is gone")?;
        within(conn.write_all(octets)).await
    }

    async fn read(&mut self) -> Result<(), String> {
        if self.input.len() > ANSWER_MAX {
            return Err("the server sent an answer that is too long".to_owned());
        }
        let conn = self.conn.as_mut().ok_or("the connection is gone")?;
        if within(conn.read(&mut self.input, READ)).await? == 0 {
            return Err("the server closed the connection".to_owned());
        }
        Ok(())
    }
}

async fn within<T, E: std::fmt::Display>(future: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(PATIENCE, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("nothing happened for {} s", PATIENCE.as_secs())),
    }
}
