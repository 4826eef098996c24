//! A client of any protocol, for cases that are the same in all.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::ClientConfig;

use super::{Client, Conn, Outcome, Pop3Client, Reply, Sasl, SieveClient, SieveReply, SmtpClient, SmtpReply};
use crate::Protocol;

/// A client that says the same things in the words of its protocol.
///
/// By Submission it says EHLO by itself, where that has to be said in front of what it is to say.
#[derive(Debug)]
pub enum AnyClient {
    /// By IMAP.
    Imap(Client),
    /// By POP3.
    Pop3(Pop3Client),
    /// By ManageSieve.
    ManageSieve(SieveClient),
    /// By Submission.
    Submission(SmtpClient),
}

impl AnyClient {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(protocol: Protocol, addr: SocketAddr) -> AnyClient {
        match protocol {
            Protocol::Imap => AnyClient::Imap(Client::connect(addr)),
            Protocol::Pop3 => AnyClient::Pop3(Pop3Client::connect(addr)),
            Protocol::ManageSieve => AnyClient::ManageSieve(SieveClient::connect(addr)),
            Protocol::Submission => AnyClient::Submission(SmtpClient::connect(addr)),
        }
    }

    /// Connects from a chosen local address; see [`Client::connect_from`].
    #[track_caller]
    pub fn connect_from(protocol: Protocol, source: IpAddr, addr: SocketAddr) -> AnyClient {
        match protocol {
            Protocol::Imap => AnyClient::Imap(Client::connect_from(source, addr)),
            Protocol::Pop3 => AnyClient::Pop3(Pop3Client::connect_from(source, addr)),
            Protocol::ManageSieve => AnyClient::ManageSieve(SieveClient::connect_from(source, addr)),
            Protocol::Submission => AnyClient::Submission(SmtpClient::connect_from(source, addr)),
        }
    }

    /// Connects with TLS from the first byte, expecting a certificate for `name`.
    #[track_caller]
    pub fn connect_tls(protocol: Protocol, addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> AnyClient {
        let mut client = AnyClient::connect(protocol, addr);
        client.deref_mut().connect_tls(config, name);
        client
    }

    /// Connects and reads the greeting, which must be a good one.
    #[track_caller]
    pub fn greeted(protocol: Protocol, addr: SocketAddr) -> AnyClient {
        let mut client = AnyClient::connect(protocol, addr);
        client.greeting();
        client
    }

    /// Its protocol.
    pub fn protocol(&self) -> Protocol {
        match self {
            AnyClient::Imap(_) => Protocol::Imap,
            AnyClient::Pop3(_) => Protocol::Pop3,
            AnyClient::ManageSieve(_) => Protocol::ManageSieve,
            AnyClient::Submission(_) => Protocol::Submission,
        }
    }

    /// Reads the greeting, which must be a good one, and returns it; of several lines the one that ends it.
    #[track_caller]
    pub fn greeting(&mut self) -> String {
        match self {
            AnyClient::Imap(client) => client.greeting(),
            AnyClient::Pop3(client) => client.greeting(),
            AnyClient::ManageSieve(client) => client.greeting(),
            AnyClient::Submission(client) => client.greeting(),
        }
    }

    /// By Submission says EHLO, unless that was done since the server last began afresh; by others there is nothing to say.
    #[track_caller]
    pub fn say_hello(&mut self) {
        if let AnyClient::Submission(client) = self {
            client.say_hello();
        }
    }

    /// Switches to TLS, expecting a certificate for `name`.
    #[track_caller]
    pub fn starttls(&mut self, config: &Arc<ClientConfig>, name: &str) {
        match self {
            AnyClient::Imap(client) => client.starttls(config, name),
            AnyClient::Pop3(client) => client.stls(config, name),
            AnyClient::ManageSieve(client) => client.starttls(config, name),
            AnyClient::Submission(client) => {
                client.say_hello();
                client.starttls(config, name);
            }
        }
    }

    /// Asks for TLS and reads the yes; the handshake is for the caller to begin.
    #[track_caller]
    pub fn ask_for_tls(&mut self) {
        match self {
            AnyClient::Imap(client) => drop(client.ok("STARTTLS")),
            AnyClient::Pop3(client) => drop(client.ok("STLS")),
            AnyClient::ManageSieve(client) => drop(client.ok("STARTTLS")),
            AnyClient::Submission(client) => {
                client.say_hello();
                client.ok("STARTTLS");
            }
        }
    }

    /// Says who is really calling, with ID or XCLIENT, the way a proxy in front does. `hops` is how many may still
    /// follow.
    #[track_caller]
    pub fn introduce(&mut self, client: SocketAddr, session: &str, hops: u8) -> Outcome {
        let (ip, port) = (client.ip(), client.port());
        let attributes = format!("ADDR={ip} PORT={port} SESSION={session} TTL={hops}");
        match self {
            AnyClient::Imap(client) => outcome(client.command(format!(
                "ID (\"x-originating-ip\" \"{ip}\" \"x-originating-port\" \"{port}\" \"x-session-id\" \"{session}\" \
                 \"x-proxy-ttl\" \"{hops}\")"
            ))),
            AnyClient::Pop3(client) => client.command(format!("XCLIENT {attributes}")),
            AnyClient::ManageSieve(client) => sieve_outcome(client.xclient(&attributes)),
            AnyClient::Submission(client) => {
                client.say_hello();
                let family = if ip.is_ipv6() { "IPV6:" } else { "" };
                smtp_outcome(&client.xclient(&attributes.replacen("ADDR=", &format!("ADDR={family}"), 1)))
            }
        }
    }

    /// The protocol's own command for a name and a password, whatever comes of it: LOGIN, or USER and PASS. Where there is
    /// none it is SASL PLAIN with an initial response.
    #[track_caller]
    pub fn login(&mut self, user: &str, password: &str) -> Outcome {
        match self {
            AnyClient::Imap(client) => outcome(client.login(user, password)),
            AnyClient::Pop3(client) => client.login(user, password),
            AnyClient::ManageSieve(_) | AnyClient::Submission(_) => self.authenticate_plain("", user, password),
        }
    }

    /// As [`AnyClient::login`], but does not wait for the answer: that is for [`AnyClient::login_answer`].
    #[track_caller]
    pub fn send_login(&mut self, user: &str, password: &str) {
        match self {
            AnyClient::Imap(client) => client.send_login(user, password),
            AnyClient::Pop3(client) => client.send(format!("USER {user}\r\nPASS {password}\r\n")),
            AnyClient::ManageSieve(client) => client.send_authenticate(&Sasl::plain("", user, password)),
            AnyClient::Submission(client) => {
                client.say_hello();
                client.send_line(format!("AUTH {}", Sasl::plain("", user, password).words()));
            }
        }
    }

    /// The answer to [`AnyClient::send_login`], whatever it is.
    #[track_caller]
    pub fn login_answer(&mut self) -> Outcome {
        match self {
            AnyClient::Imap(client) => outcome(client.reply_to_last()),
            AnyClient::Pop3(client) => {
                let named = client.outcome();
                if named.ok { client.outcome() } else { named }
            }
            AnyClient::ManageSieve(client) => sieve_outcome(client.reply()),
            AnyClient::Submission(client) => smtp_outcome(&client.reply()),
        }
    }

    /// SASL PLAIN with an initial response, whatever comes of it. `authzid` may be empty.
    #[track_caller]
    pub fn authenticate_plain(&mut self, authzid: &str, user: &str, password: &str) -> Outcome {
        self.authenticate(&Sasl::plain(authzid, user, password))
    }

    /// SASL, whatever comes of it.
    #[track_caller]
    pub fn authenticate(&mut self, sasl: &Sasl) -> Outcome {
        match self {
            AnyClient::Imap(client) => outcome(client.authenticate(sasl)),
            AnyClient::Pop3(client) => client.authenticate(sasl),
            AnyClient::ManageSieve(client) => sieve_outcome(client.authenticate(sasl)),
            AnyClient::Submission(client) => {
                client.say_hello();
                smtp_outcome(&client.authenticate(sasl))
            }
        }
    }

    /// NOOP, to see whether anybody is still there. After a login this is the backend: what a proxy relays it does not
    /// answer.
    #[track_caller]
    pub fn noop(&mut self) -> Outcome {
        match self {
            AnyClient::Imap(client) => outcome(client.command("NOOP")),
            AnyClient::Pop3(client) => client.command("NOOP"),
            AnyClient::ManageSieve(client) => sieve_outcome(client.command("NOOP")),
            AnyClient::Submission(client) => smtp_outcome(&client.command("NOOP")),
        }
    }

    /// NOOP at a backend that answers each line with itself: what it repeats is returned with all around it.
    #[track_caller]
    pub fn echo(&mut self) -> String {
        match self {
            AnyClient::Imap(client) => client.command("NOOP").untagged_text(),
            _ => self.noop().text,
        }
    }

    /// The bare connection, for ends that are not polite.
    pub fn into_conn(self) -> Conn {
        match self {
            AnyClient::Imap(client) => client.into_conn(),
            AnyClient::Pop3(client) => client.into_conn(),
            AnyClient::ManageSieve(client) => client.into_conn(),
            AnyClient::Submission(client) => client.into_conn(),
        }
    }

    /// LOGOUT or QUIT; the server must answer and end the connection.
    #[track_caller]
    pub fn logout(self) {
        match self {
            AnyClient::Imap(client) => client.logout(),
            AnyClient::Pop3(client) => client.quit(),
            AnyClient::ManageSieve(client) => client.logout(),
            AnyClient::Submission(client) => client.quit(),
        }
    }
}

impl Deref for AnyClient {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        match self {
            AnyClient::Imap(client) => client,
            AnyClient::Pop3(client) => client,
            AnyClient::ManageSieve(client) => client,
            AnyClient::Submission(client) => client,
        }
    }
}

impl DerefMut for AnyClient {
    fn deref_mut(&mut self) -> &mut Conn {
        match self {
            AnyClient::Imap(client) => client,
            AnyClient::Pop3(client) => client,
            AnyClient::ManageSieve(client) => client,
            AnyClient::Submission(client) => client,
        }
    }
}

fn outcome(reply: Reply) -> Outcome {
    Outcome { ok: reply.is_ok(), text: reply.text }
}

fn sieve_outcome(reply: SieveReply) -> Outcome {
    Outcome { ok: reply.is_ok(), text: reply.rest }
}

fn smtp_outcome(reply: &SmtpReply) -> Outcome {
    Outcome { ok: reply.is_ok(), text: reply.text() }
}
