//! What both fixtures share: one Dovecot master, its ports and its life.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use crate::certs::Certificate;
use crate::ports::{Port, free_port};
use crate::process::Process;
use crate::wait::{PATIENCE, poll};
use crate::{Dir, Log, Protocol, real};

/// The ports of one Dovecot, claimed for as long as the fixture lives, so that it can come back on them.
#[derive(Debug)]
struct Ports {
    open: Set,
    /// Those where a PROXY header comes first.
    headed: Option<Set>,
}

/// A port for each way in.
#[derive(Debug)]
struct Set {
    imap: Port,
    imaps: Port,
    pop3: Port,
    pop3s: Port,
    managesieve: Port,
    submission: Port,
    submissions: Port,
    lmtp: Port,
}

/// The addresses of one Dovecot: for each protocol one in clear, and one with TLS from the first byte where there is such a
/// port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IMAP in clear and with STARTTLS.
    pub imap: SocketAddr,
    /// IMAP with TLS from the first byte.
    pub imaps: SocketAddr,
    /// POP3 in clear and with STLS.
    pub pop3: SocketAddr,
    /// POP3 with TLS from the first byte.
    pub pop3s: SocketAddr,
    /// ManageSieve in clear and with STARTTLS.
    pub managesieve: SocketAddr,
    /// Submission in clear and with STARTTLS.
    pub submission: SocketAddr,
    /// Submission with TLS from the first byte.
    pub submissions: SocketAddr,
    /// LMTP in clear and with STARTTLS.
    pub lmtp: SocketAddr,
}

impl Addresses {
    /// The address for clear connections and STARTTLS.
    pub fn of(&self, protocol: Protocol) -> SocketAddr {
        match protocol {
            Protocol::Imap => self.imap,
            Protocol::Pop3 => self.pop3,
            Protocol::ManageSieve => self.managesieve,
            Protocol::Submission => self.submission,
        }
    }

    /// The address for TLS from the first byte, where there is one.
    pub fn implicit(&self, protocol: Protocol) -> Option<SocketAddr> {
        match protocol {
            Protocol::Imap => Some(self.imaps),
            Protocol::Pop3 => Some(self.pop3s),
            Protocol::ManageSieve => None,
            Protocol::Submission => Some(self.submissions),
        }
    }
}

/// What an [`Instance`] is made of, besides its directory.
pub(super) struct Setup<'a> {
    pub certificate: Certificate,
    /// `login_trusted_networks`.
    pub trusted: &'a str,
    /// `haproxy_trusted_networks`; with it come listeners that read a PROXY header.
    pub haproxy_trusted: &'a str,
    /// How many sessions there may be at once.
    pub sessions: u32,
    /// The part of the configuration that is the fixture's own.
    pub own: String,
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
    haproxy_trusted: String,
    sessions: u32,
    log: Log,
    dir: Dir,
}

impl Instance {
    /// Starts a master in `dir` with a configuration that ends in `setup.own`.
    #[track_caller]
    pub(super) fn start(dir: Dir, setup: Setup<'_>) -> Instance {
        let program = real::usable("dovecot").unwrap_or_else(|missing| panic!("{missing} (ask testkit::real::require first)"));
        dir.create("run");
        dir.create("state");
        let log = Log::at(dir.join("dovecot.log"));
        let Setup { certificate, trusted, haproxy_trusted, sessions, own } = setup;
        let headed = !haproxy_trusted.is_empty();
        let mut instance = Instance {
            process: None,
            program,
            ports: Ports::claim(headed),
            own,
            certificate,
            trusted: trusted.to_owned(),
            haproxy_trusted: haproxy_trusted.to_owned(),
            sessions,
            log,
            dir,
        };
        for _ in 0..5 {
            match instance.launch() {
                Ok(()) => return instance,
                // Somebody who does not know our claims took a port: others will do.
                Err(PortTaken) => instance.ports = Ports::claim(headed),
            }
        }
        panic!("no ports for dovecot in five attempts; {}", instance.log.tail());
    }

    /// Where it listens for clients.
    pub fn addresses(&self) -> Addresses {
        self.ports.open.addresses()
    }

    /// Where it listens for connections that begin with a PROXY header, version 1 or 2.
    ///
    /// # Panics
    ///
    /// When no network was named in `haproxy_trusted` of the options.
    #[track_caller]
    pub fn behind_haproxy(&self) -> Addresses {
        match &self.ports.headed {
            Some(set) => set.addresses(),
            None => panic!("this dovecot was not told whose PROXY headers to read"),
        }
    }

    /// The address for clear connections and STARTTLS.
    pub fn imap(&self) -> SocketAddr {
        self.addresses().imap
    }

    /// The address for TLS from the first byte.
    pub fn imaps(&self) -> SocketAddr {
        self.addresses().imaps
    }

    /// The address for POP3 in clear and with STLS.
    pub fn pop3(&self) -> SocketAddr {
        self.addresses().pop3
    }

    /// The address for POP3 with TLS from the first byte.
    pub fn pop3s(&self) -> SocketAddr {
        self.addresses().pop3s
    }

    /// The address for LMTP in clear and with STARTTLS.
    pub fn lmtp(&self) -> SocketAddr {
        self.addresses().lmtp
    }

    /// The socket in the file system for LMTP, where anybody may connect.
    pub fn lmtp_socket(&self) -> PathBuf {
        self.dir.join("run/lmtp")
    }

    /// The port for clear connections and STARTTLS.
    pub fn imap_port(&self) -> u16 {
        self.imap().port()
    }

    /// The port for TLS from the first byte.
    pub fn imaps_port(&self) -> u16 {
        self.imaps().port()
    }

    /// The port for POP3 in clear and with STLS.
    pub fn pop3_port(&self) -> u16 {
        self.pop3().port()
    }

    /// The port for POP3 with TLS from the first byte.
    pub fn pop3s_port(&self) -> u16 {
        self.pop3s().port()
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
        let Self { ports, own, certificate, trusted, haproxy_trusted, sessions, .. } = self;
        let dir = self.dir.path().display();
        let label = self.dir.label();
        let (cert, key) = (certificate.cert_file.display(), certificate.key_file.display());
        let services = Protocol::ALL.map(|protocol| ports.service(protocol)).concat() + &ports.lmtp_service();
        // Logins and sessions have a process each. The few processes that serve all of these have a limit of clients
        // instead, and one login is more than one client of theirs.
        let clients = sessions.saturating_mul(8).max(1000);
        // Values with blanks at the ends or with # would need quotes; ours have none.
        format!(
            r#"protocols = imap pop3 sieve submission lmtp
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
haproxy_trusted_networks = {haproxy_trusted}
default_process_limit = {sessions}
default_client_limit = {clients}
{services}service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
{own}
"#
        )
    }
}

impl Ports {
    fn claim(headed: bool) -> Ports {
        Ports { open: Set::claim(), headed: headed.then(Set::claim) }
    }

    /// The login service of a protocol with its listeners.
    fn service(&self, protocol: Protocol) -> String {
        let name = protocol.name();
        let mut text = format!("service {name}-login {{\n");
        let mut listener = |name: &str, addr: SocketAddr, more: &str| {
            let port = addr.port();
            text.push_str(&format!("  inet_listener {name} {{\n    port = {port}\n{more}  }}\n"));
        };
        let headed = self.headed.as_ref().map(|set| (set, "_headed", "    haproxy = yes\n"));
        for (set, suffix, more) in [(&self.open, "", "")].into_iter().chain(headed) {
            let at = set.addresses();
            // A listener of another name would leave the one of the program's defaults on its registered port.
            listener(&format!("{}{suffix}", protocol.service()), at.of(protocol), more);
            if let (Some(implicit), Some(addr)) = (protocol.implicit(), at.implicit(protocol)) {
                listener(&format!("{implicit}{suffix}"), addr, &format!("{more}    ssl = yes\n"));
            }
        }
        text.push_str("}\n");
        text
    }

    /// Mail comes in without a login, so this service is a listener and a session in one.
    fn lmtp_service(&self) -> String {
        let mut text = "service lmtp {\n  unix_listener lmtp {\n    mode = 0666\n  }\n".to_owned();
        let headed = self.headed.as_ref().map(|set| (set, "lmtp_headed", "    haproxy = yes\n"));
        for (set, name, more) in [(&self.open, "lmtp", "")].into_iter().chain(headed) {
            let port = set.lmtp.number();
            text.push_str(&format!("  inet_listener {name} {{\n    port = {port}\n{more}  }}\n"));
        }
        text + "}\n"
    }
}

impl Set {
    fn claim() -> Set {
        Set {
            imap: free_port(),
            imaps: free_port(),
            pop3: free_port(),
            pop3s: free_port(),
            managesieve: free_port(),
            submission: free_port(),
            submissions: free_port(),
            lmtp: free_port(),
        }
    }

    fn addresses(&self) -> Addresses {
        let at = |port: &Port| SocketAddr::new(IP, port.number());
        Addresses {
            imap: at(&self.imap),
            imaps: at(&self.imaps),
            pop3: at(&self.pop3),
            pop3s: at(&self.pop3s),
            managesieve: at(&self.managesieve),
            submission: at(&self.submission),
            submissions: at(&self.submissions),
            lmtp: at(&self.lmtp),
        }
    }
}

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Debug)]
struct PortTaken;
