//! What both fixtures share: one Dovecot master, its ports and its life.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use crate::certs::Certificate;
use crate::ports::{Port, free_port};
use crate::process::Process;
use crate::wait::{PATIENCE, poll};
use crate::{Dir, Log, real};

/// The ports of one Dovecot, claimed for as long as the fixture lives, so that it can come back on them.
#[derive(Debug)]
struct Ports {
    imap: Port,
    imaps: Port,
}

/// A running Dovecot master with its directory; stopped and removed when dropped.
#[derive(Debug)]
pub struct Instance {
    process: Option<Process>,
    program: PathBuf,
    ports: Ports,
    /// The part of the configuration that is the fixture's own; the rest is made here.
    own: String,
    certificate: Certificate,
    trusted: String,
    log: Log,
    dir: Dir,
}

impl Instance {
    /// Starts a master in `dir` with a configuration that ends in `own`.
    #[track_caller]
    pub(super) fn start(dir: Dir, certificate: Certificate, trusted: &str, own: String) -> Instance {
        let program = real::usable("dovecot").unwrap_or_else(|missing| panic!("{missing} (ask testkit::real::require first)"));
        dir.create("run");
        dir.create("state");
        let log = Log::at(dir.join("dovecot.log"));
        let ports = Ports { imap: free_port(), imaps: free_port() };
        let trusted = trusted.to_owned();
        let mut instance = Instance { process: None, program, ports, own, certificate, trusted, log, dir };
        for _ in 0..5 {
            match instance.launch() {
                Ok(()) => return instance,
                // Somebody who does not know our claims took a port: others will do.
                Err(PortTaken) => instance.ports = Ports { imap: free_port(), imaps: free_port() },
            }
        }
        panic!("no ports for dovecot in five attempts; {}", instance.log.tail());
    }

    /// The address for clear connections and STARTTLS.
    pub fn imap(&self) -> SocketAddr {
        SocketAddr::new(IP, self.ports.imap.number())
    }

    /// The address for TLS from the first byte.
    pub fn imaps(&self) -> SocketAddr {
        SocketAddr::new(IP, self.ports.imaps.number())
    }

    /// The port for clear connections and STARTTLS.
    pub fn imap_port(&self) -> u16 {
        self.imap().port()
    }

    /// The port for TLS from the first byte.
    pub fn imaps_port(&self) -> u16 {
        self.imaps().port()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its directory, which holds configuration, certificates and, where there is any, mail.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The certificate it shows, and through it the authority to trust.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Stops it: sessions are told BYE, listeners close. Mail, log and ports stay.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop_group();
        }
    }

    /// Kills every process at once, as when the machine dies under its clients: connections break without a word.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again on the same ports, with the same mail and the same log, after a stop or a kill.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.stop();
        // After a crash the kernel may still be closing the listeners of the dead.
        let started = poll(PATIENCE, || self.launch().ok());
        assert!(started.is_some(), "dovecot cannot have its ports back; {}", self.log.tail());
    }

    #[track_caller]
    fn launch(&mut self) -> Result<(), PortTaken> {
        let config = self.dir.write("dovecot.conf", self.config());
        let log = self.log.from_here();
        let mut command = Command::new(&self.program);
        command.arg("-F").arg("-c").arg(config).current_dir(self.dir.path());
        let mut process = Process::start(command, self.dir.join("output"));
        let output = process.output().from_here();
        let mut taken = false;
        process.wait_until("dovecot is ready", || {
            taken = [&log, &output].iter().any(|l| l.find(&["bind(", "Address already in use"]).is_some());
            taken || log.find(&["starting up for"]).is_some()
        });
        if taken {
            process.kill();
            return Err(PortTaken);
        }
        self.process = Some(process);
        Ok(())
    }

    fn config(&self) -> String {
        let Self { ports, own, certificate, trusted, .. } = self;
        let dir = self.dir.path().display();
        let label = self.dir.label();
        let (imap, imaps) = (ports.imap.number(), ports.imaps.number());
        let (cert, key) = (certificate.cert_file.display(), certificate.key_file.display());
        // Values with blanks at the ends or with # would need quotes; ours have none.
        format!(
            r#"protocols = imap
listen = {IP}
base_dir = {dir}/run
state_dir = {dir}/state
# It appears in the titles of all processes, so that a leftover can be traced to its test.
instance_name = {label}
log_path = {dir}/dovecot.log
auth_verbose = yes
auth_debug = yes
imap_id_log = *
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
login_trusted_networks = {trusted}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
{own}
"#
        )
    }
}

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug)]
struct PortTaken;
