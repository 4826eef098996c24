//! A client of either protocol, for cases that are the same in both.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::ClientConfig;

use super::{Client, Conn, Outcome, Pop3Client, Reply};
use crate::Protocol;

/// A client that says the same things in the words of its protocol.
#[derive(Debug)]
pub enum AnyClient {
    /// By IMAP.
    Imap(Client),
    /// By POP3.
    Pop3(Pop3Client),
}

impl AnyClient {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(protocol: Protocol, addr: SocketAddr) -> AnyClient {
        match protocol {
            Protocol::Imap => AnyClient::Imap(Client::connect(addr)),
            Protocol::Pop3 => AnyClient::Pop3(Pop3Client::connect(addr)),
        }
    }

    /// Connects from a chosen local address; see [`Client::connect_from`].
    #[track_caller]
    pub fn connect_from(protocol: Protocol, source: IpAddr, addr: SocketAddr) -> AnyClient {
        match protocol {
            Protocol::Imap => AnyClient::Imap(Client::connect_from(source, addr)),
            Protocol::Pop3 => AnyClient::Pop3(Pop3Client::connect_from(source, addr)),
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
        }
    }

    /// Reads the greeting, which must be a good one, and returns it.
    #[track_caller]
    pub fn greeting(&mut self) -> String {
        match self {
            AnyClient::Imap(client) => client.greeting(),
            AnyClient::Pop3(client) => client.greeting(),
        }
    }

    /// Switches to TLS, expecting a certificate for `name`.
    #[track_caller]
    pub fn starttls(&mut self, config: &Arc<ClientConfig>, name: &str) {
        match self {
            AnyClient::Imap(client) => client.starttls(config, name),
            AnyClient::Pop3(client) => client.stls(config, name),
        }
    }

    /// Says who is really calling, with ID or XCLIENT, the way a proxy in front does. `hops` is how many may still
    /// follow.
    #[track_caller]
    pub fn introduce(&mut self, client: SocketAddr, session: &str, hops: u8) -> Outcome {
        let (ip, port) = (client.ip(), client.port());
        match self {
            AnyClient::Imap(client) => outcome(client.command(format!(
                "ID (\"x-originating-ip\" \"{ip}\" \"x-originating-port\" \"{port}\" \"x-session-id\" \"{session}\" \
                 \"x-proxy-ttl\" \"{hops}\")"
            ))),
            AnyClient::Pop3(client) => client.command(format!("XCLIENT ADDR={ip} PORT={port} SESSION={session} TTL={hops}")),
        }
    }

    /// LOGIN, or USER and PASS, whatever comes of it.
    #[track_caller]
    pub fn login(&mut self, user: &str, password: &str) -> Outcome {
        match self {
            AnyClient::Imap(client) => outcome(client.login(user, password)),
            AnyClient::Pop3(client) => client.login(user, password),
        }
    }

    /// SASL PLAIN with an initial response, whatever comes of it. `authzid` may be empty.
    #[track_caller]
    pub fn authenticate_plain(&mut self, authzid: &str, user: &str, password: &str) -> Outcome {
        match self {
            AnyClient::Imap(client) => outcome(client.authenticate_plain(authzid, user, password)),
            AnyClient::Pop3(client) => client.authenticate_plain(authzid, user, password),
        }
    }

    /// NOOP, to see whether anybody is still there.
    #[track_caller]
    pub fn noop(&mut self) -> Outcome {
        match self {
            AnyClient::Imap(client) => outcome(client.command("NOOP")),
            AnyClient::Pop3(client) => client.command("NOOP"),
        }
    }

    /// LOGOUT or QUIT; the server must answer and end the connection.
    #[track_caller]
    pub fn logout(self) {
        match self {
            AnyClient::Imap(client) => client.logout(),
            AnyClient::Pop3(client) => client.quit(),
        }
    }
}

impl Deref for AnyClient {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        match self {
            AnyClient::Imap(client) => client,
            AnyClient::Pop3(client) => client,
        }
    }
}

impl DerefMut for AnyClient {
    fn deref_mut(&mut self) -> &mut Conn {
        match self {
            AnyClient::Imap(client) => client,
            AnyClient::Pop3(client) => client,
        }
    }
}

fn outcome(reply: Reply) -> Outcome {
    Outcome { ok: reply.is_ok(), text: reply.text }
}
