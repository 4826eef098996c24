//! A client for LMTP for tests (RFC 2033, 3030; XCLIENT and XFORWARD as Postfix describes them): what an [`SmtpClient`] can
//! do, with LHLO, and with a reply for each recipient behind the message.
//!
//! Everything that an [`SmtpClient`] and a [`super::Conn`] can do, it can do as well, lines and octets of any kind included. What of
//! it says EHLO is not for LMTP: [`SmtpClient::say_hello`] and [`SmtpClient::send_message`] have their match here.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::conn::Conn;
use super::smtp_client::{Extensions, HELLO, SmtpClient, SmtpReply};

/// A client's connection.
#[derive(Debug)]
pub struct LmtpClient {
    smtp: SmtpClient,
}

impl LmtpClient {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> LmtpClient {
        LmtpClient { smtp: SmtpClient::connect(addr) }
    }

    /// Connects from a chosen local address; see [`super::Client::connect_from`].
    #[track_caller]
    pub fn connect_from(source: IpAddr, addr: SocketAddr) -> LmtpClient {
        LmtpClient { smtp: SmtpClient::connect_from(source, addr) }
    }

    /// Connects with TLS from the first byte, expecting a certificate for `name`.
    #[track_caller]
    pub fn connect_tls(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> LmtpClient {
        LmtpClient { smtp: SmtpClient::connect_tls(addr, config, name) }
    }

    /// Connects to a socket of the file system and says nothing.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> LmtpClient {
        let socket = UnixStream::connect(path).unwrap_or_else(|e| panic!("cannot connect to {}: {e}", path.display()));
        LmtpClient { smtp: SmtpClient::on(Conn::over_unix(socket)) }
    }

    /// Connects, reads the greeting, which must be a 220, and says LHLO.
    #[track_caller]
    pub fn ready(addr: SocketAddr) -> LmtpClient {
        let mut client = LmtpClient::connect(addr);
        client.greeting();
        client.say_hello();
        client
    }

    /// Says LHLO, which must be answered with 250.
    #[track_caller]
    pub fn lhlo(&mut self, name: &str) -> Extensions {
        self.smtp.hello(&format!("LHLO {name}"))
    }

    /// Says LHLO unless that was done since the server last began afresh: with the connection, with TLS or behind XCLIENT.
    #[track_caller]
    pub fn say_hello(&mut self) {
        if !self.smtp.is_hello_said() {
            self.lhlo(HELLO);
        }
    }

    /// Says XFORWARD with these attributes, whatever comes of it.
    #[track_caller]
    pub fn xforward(&mut self, attributes: &str) -> SmtpReply {
        self.command(format!("XFORWARD {attributes}"))
    }

    /// MAIL, which must be agreed to, and RCPT for each recipient, whatever comes of it. `from` and `to` are addresses, with
    /// parameters behind `>` where there are any: `a@b.test` or `a@b.test> SIZE=100`.
    #[track_caller]
    pub fn envelope<T: AsRef<str>>(&mut self, from: &str, to: &[T]) -> Vec<SmtpReply> {
        self.ok(format!("MAIL FROM:{}", path(from)));
        to.iter().map(|recipient| self.command(format!("RCPT TO:{}", path(recipient.as_ref())))).collect()
    }

    /// A whole transaction with DATA: what each recipient was answered in the end, at RCPT or behind the message. The message
    /// must have CRLF line ends. Where RCPT is a no to all, there is no message.
    #[track_caller]
    pub fn transaction<T: AsRef<str>>(&mut self, from: &str, to: &[T], message: &[u8]) -> Vec<SmtpReply> {
        let at_rcpt = self.envelope(from, to);
        if !at_rcpt.iter().any(SmtpReply::is_ok) {
            self.ok("RSET");
            return at_rcpt;
        }
        self.expect("DATA", "354");
        self.send_dotted(message);
        self.finals(at_rcpt)
    }

    /// As [`LmtpClient::transaction`] with BDAT: chunks of these sizes, and what remains as the last one, which may be empty.
    #[track_caller]
    pub fn transaction_in_chunks<T: AsRef<str>>(
        &mut self,
        from: &str,
        to: &[T],
        message: &[u8],
        sizes: &[usize],
    ) -> Vec<SmtpReply> {
        let at_rcpt = self.envelope(from, to);
        if !at_rcpt.iter().any(SmtpReply::is_ok) {
            self.ok("RSET");
            return at_rcpt;
        }
        let mut rest = message;
        for &size in sizes {
            let Some((chunk, behind)) = rest.split_at_checked(size) else { self.fail("the chunks are larger than the message") };
            rest = behind;
            self.send_chunk(chunk, false);
            let reply = self.reply();
            if !reply.is_ok() {
                self.fail("expected a yes to a chunk");
            }
        }
        self.send_chunk(rest, true);
        self.finals(at_rcpt)
    }

    /// Sends BDAT with this chunk, and reads nothing.
    #[track_caller]
    pub fn send_chunk(&mut self, chunk: &[u8], last: bool) {
        let last = if last { " LAST" } else { "" };
        let mut text = format!("BDAT {}{last}\r\n", chunk.len()).into_bytes();
        text.extend_from_slice(chunk);
        self.send(text);
    }

    /// Puts the replies behind the message, one for each recipient to whom RCPT was a yes, in the place of those.
    #[track_caller]
    pub fn finals(&mut self, at_rcpt: Vec<SmtpReply>) -> Vec<SmtpReply> {
        at_rcpt.into_iter().map(|reply| if reply.is_ok() { self.reply() } else { reply }).collect()
    }

    /// QUIT, and the server must answer 221 and end the connection.
    #[track_caller]
    pub fn quit(self) {
        self.smtp.quit();
    }
}

impl Deref for LmtpClient {
    type Target = SmtpClient;
    fn deref(&self) -> &SmtpClient {
        &self.smtp
    }
}

impl DerefMut for LmtpClient {
    fn deref_mut(&mut self) -> &mut SmtpClient {
        &mut self.smtp
    }
}

/// An address in brackets, unless its end is written already.
fn path(address: &str) -> String {
    if address.contains('>') { format!("<{address}") } else { format!("<{address}>") }
}
