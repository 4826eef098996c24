//! What the real servers share that take mail from signed-in users ([`crate::postfix`], [`crate::exim`]): two ports on
//! both loopback addresses, a log, a maildir for all they took, and a life.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;

use crate::certs::Certificate;
use crate::delivered::Delivered;
use crate::ports::{Port, free_port};
use crate::process::Process;
use crate::wait::{PATIENCE, poll};
use crate::{Dir, Log};

/// A running server; stopped and removed when dropped.
pub struct MailServer {
    process: Option<Process>,
    ports: Ports,
    setup: Setup,
    delivered: Delivered,
    // Declared last: files go after the processes that use them.
    dir: Dir,
}

/// What a [`MailServer`] is made of, besides its directory. Its maildir is `mail/inbox` there.
pub(crate) struct Setup {
    pub certificate: Certificate,
    /// Where its log is. A line with `daemon started` says that it is ready, one with `Address already in use` that a port
    /// is not to be had, after which it ends.
    pub log: Log,
    /// Writes the configuration for these ports and says how the server is started, in the foreground.
    pub command: Start,
}

pub(crate) type Start = Box<dyn Fn(&Dir, &Ports) -> Command + Send + Sync>;

/// The ports, claimed for as long as the server lives, so that it can come back on them.
#[derive(Debug)]
pub(crate) struct Ports {
    clear: Port,
    tls: Port,
}

impl MailServer {
    #[track_caller]
    pub(crate) fn start(dir: Dir, setup: Setup) -> MailServer {
        let delivered = Delivered::at(dir.join("mail/inbox"));
        let mut server = MailServer { process: None, ports: Ports::claim(), setup, delivered, dir };
        for _ in 0..5 {
            match server.launch() {
                Ok(()) => return server,
                // Somebody who does not know our claims took a port: others will do.
                Err(PortTaken) => server.ports = Ports::claim(),
            }
        }
        panic!("no ports for a mail server in five attempts; {}", server.log().tail());
    }

    /// Where it listens in clear and for STARTTLS.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.ports.clear())
    }

    /// Where it listens with TLS from the first byte.
    pub fn tls_addr(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.ports.tls())
    }

    /// The port of [`MailServer::addr`] on `::1`; nobody is there on a machine without IPv6.
    pub fn addr6(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.ports.clear())
    }

    /// The port of [`MailServer::tls_addr`] on `::1`.
    pub fn tls_addr6(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.ports.tls())
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.setup.log
    }

    /// All mail that it took.
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// The certificate it shows, and through it the authority to trust.
    pub fn certificate(&self) -> &Certificate {
        &self.setup.certificate
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The process id of the one that listens, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops it; sessions end. Mail, log and ports stay.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop_group();
        }
    }

    /// Kills every process at once, as when the machine dies under its clients.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again on the same ports, with the same queue, mail and log, after a stop or a kill.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.stop();
        let started = poll(PATIENCE, || self.launch().ok());
        assert!(started.is_some(), "the mail server cannot have its ports back; {}", self.log().tail());
    }

    #[track_caller]
    fn launch(&mut self) -> Result<(), PortTaken> {
        let command = (self.setup.command)(&self.dir, &self.ports);
        let log = self.log().from_here();
        let mut process = Process::start(command, self.dir.join("output"));
        let mut taken = false;
        process.wait_until("the mail server is ready", || {
            taken = log.find(&["Address already in use"]).is_some();
            taken || log.find(&["daemon started"]).is_some()
        });
        if taken {
            process.kill();
            return Err(PortTaken);
        }
        self.process = Some(process);
        Ok(())
    }
}

impl fmt::Debug for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailServer").field("ports", &self.ports).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Ports {
    fn claim() -> Ports {
        Ports { clear: free_port(), tls: free_port() }
    }

    /// For connections in clear and STARTTLS.
    pub(crate) fn clear(&self) -> u16 {
        self.clear.number()
    }

    /// For TLS from the first byte.
    pub(crate) fn tls(&self) -> u16 {
        self.tls.number()
    }
}

/// The loopback addresses of this machine.
pub(crate) fn hosts() -> Vec<IpAddr> {
    let hosts = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    hosts.into_iter().filter(|&ip| ip.is_ipv4() || TcpListener::bind((ip, 0)).is_ok()).collect()
}

#[derive(Debug)]
struct PortTaken;
