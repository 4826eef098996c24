//! Where mail goes that somebody else passes on: an SMTP server that takes everything from everybody and keeps it.

use std::net::SocketAddr;

use super::scripts::submission::Session;
use super::{Backend, FakeServer, Letters};
use crate::Protocol;

/// A listener on loopback. Dropping it ends all its connections.
#[derive(Debug)]
pub struct SmtpSink {
    server: FakeServer,
    letters: Letters,
}

impl SmtpSink {
    /// One that offers what servers usually do, and asks nobody to sign in.
    #[track_caller]
    pub fn start() -> SmtpSink {
        SmtpSink::offering("PIPELINING\nSIZE 50000000\n8BITMIME\nENHANCEDSTATUSCODES\nCHUNKING")
    }

    /// One that offers these extensions, one per line. XCLIENT is agreed to where it is among them.
    #[track_caller]
    pub fn offering(extensions: &str) -> SmtpSink {
        let greeting = "220 sink.test ESMTP ready".to_owned();
        let backend = Backend { greeting, capabilities: extensions.to_owned(), ..Backend::of(Protocol::Submission) };
        let letters = backend.letters.clone();
        let server = FakeServer::start(move |conn| {
            conn.send_line(&backend.greeting);
            let mut session = Session::open();
            // The servers in front keep their connections for as long as their clients do.
            conn.set_patience(std::time::Duration::from_secs(120));
            while let Some(line) = conn.read_line() {
                if !session.go_on(&backend, conn, &line) {
                    return;
                }
            }
        });
        SmtpSink { server, letters }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// The mail that came.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }
}
