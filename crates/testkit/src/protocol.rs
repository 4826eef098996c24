//! The protocols that fixtures speak, so that one test can run its case for each.

/// A protocol by which mail is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// IMAP4rev1.
    Imap,
    /// POP3.
    Pop3,
}

impl Protocol {
    /// Those by which a mailbox is read, for cases about mail in one.
    pub const MAILBOX: [Protocol; 2] = [Protocol::Imap, Protocol::Pop3];

    /// `imap` or `pop3`: the name of a listener in clear or with STARTTLS, and of Dovecot's service.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
        }
    }

    /// `imaps` or `pop3s`: the name of a listener with TLS from the first byte, where there is such a port.
    pub fn implicit(self) -> Option<&'static str> {
        match self {
            Protocol::Imap => Some("imaps"),
            Protocol::Pop3 => Some("pop3s"),
        }
    }
}
