//! The two protocols that fixtures speak, so that one test can run its case for both.

/// A protocol by which mail is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// IMAP4rev1.
    Imap,
    /// POP3.
    Pop3,
}

impl Protocol {
    /// Both, for tables.
    pub const ALL: [Protocol; 2] = [Protocol::Imap, Protocol::Pop3];

    /// `imap` or `pop3`: the name of a listener in clear or with STARTTLS, and of Dovecot's service.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
        }
    }

    /// `imaps` or `pop3s`: the name of a listener with TLS from the first byte.
    pub fn implicit(self) -> &'static str {
        match self {
            Protocol::Imap => "imaps",
            Protocol::Pop3 => "pop3s",
        }
    }
}
