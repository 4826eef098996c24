//! A domain whose mail a Postfix does not keep, and the server to which it takes it.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a Postfix relays, and how.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The domain. Mail for all others is delivered where it is.
    pub domain: String,
    /// The server.
    pub to: Hop,
    /// `lmtp_send_xforward_command` or `smtp_send_xforward_command`: it says who the client was, where it may.
    pub xforward: bool,
    /// `lmtp_destination_recipient_limit` or `smtp_destination_recipient_limit`: recipients in one transaction. With 1 the
    /// limits of connections count for each recipient, too.
    pub recipient_limit: u32,
}

/// How the next server is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// LMTP over TCP.
    Lmtp(SocketAddr),
    /// LMTP over a socket of the file system, where everybody may connect.
    LmtpSocket(PathBuf),
    /// SMTP.
    Smtp(SocketAddr),
}

impl Relay {
    /// Relays this domain with XFORWARD, and with Postfix's usual 50 recipients in one transaction.
    pub fn to(domain: &str, to: Hop) -> Relay {
        Relay { domain: domain.to_owned(), to, xforward: true, recipient_limit: 50 }
    }

    /// Lines for `main.cf`.
    pub(super) fn settings(&self) -> String {
        let Relay { domain, to, xforward, recipient_limit } = self;
        let xforward = if *xforward { "yes" } else { "no" };
        let (agent, next) = match to {
            Hop::Lmtp(addr) => ("lmtp", format!("inet:[{}]:{}", addr.ip(), addr.port())),
            Hop::LmtpSocket(path) => ("lmtp", format!("unix:{}", path.display())),
            Hop::Smtp(addr) => ("smtp", format!("[{}]:{}", addr.ip(), addr.port())),
        };
        format!(
            "transport_maps = inline:{{ {{ {domain} = {agent}:{next} }} }}
{agent}_send_xforward_command = {xforward}
{agent}_destination_recipient_limit = {recipient_limit}
{agent}_connect_timeout = 5s
"
        )
    }
}
