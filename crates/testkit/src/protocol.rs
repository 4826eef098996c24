//! The protocols that fixtures speak, so that one test can run its case for each.

/// A protocol by which mail is read or sent, or filters are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// IMAP4rev1.
    Imap,
    /// POP3.
    Pop3,
    /// ManageSieve (RFC 5804).
    ManageSieve,
    /// Message submission, which is SMTP (RFC 6409).
    Submission,
}

impl Protocol {
    /// All of them, for tables.
    pub const ALL: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::ManageSieve, Protocol::Submission];

    /// Those by which a mailbox is read, for cases about mail in one.
    pub const MAILBOX: [Protocol; 2] = [Protocol::Imap, Protocol::Pop3];

    /// `imap`, `pop3`, `managesieve` or `submission`: the name of a listener in clear or with STARTTLS. Dovecot's login
    /// services are called after it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
            Protocol::ManageSieve => "managesieve",
            Protocol::Submission => "submission",
        }
    }

    /// `imap`, `pop3`, `sieve` or `submission`: what Dovecot and the registry of ports call it.
    pub fn service(self) -> &'static str {
        if self == Protocol::ManageSieve { "sieve" } else { self.name() }
    }

    /// `imaps`, `pop3s` or `submissions`: the name of a listener with TLS from the first byte, where there is such a port.
    pub fn implicit(self) -> Option<&'static str> {
        match self {
            Protocol::Imap => Some("imaps"),
            Protocol::Pop3 => Some("pop3s"),
            Protocol::ManageSieve => None,
            Protocol::Submission => Some("submissions"),
        }
    }
}
