//! A real Postfix with private everything, as the server that takes mail from signed-in users: it checks the password,
//! believes XCLIENT of those it was told to believe, and delivers all mail of everybody into one maildir.
//!
//! It is Postfix's master alone with a configuration of its own: nothing of `/etc/postfix` is read, nothing is chrooted, and
//! mail never leaves the machine. Passwords are checked by a [`dovecot::Backend`] through its auth socket, the usual way,
//! so there are master users, too, and Dovecot's log tells what Postfix asked it. Both need root.
//!
//! Facts about Postfix 3.7 that this fixture lives with:
//!
//! * `daemon started` is logged once the listeners are bound. A port in use ends the master before that; it says so in
//!   the log only because the environment names the socket of the log's writer, and only while that has no listener
//!   yet, hence the order of `master.cf`.
//! * Client names are not looked up (`client=unknown[127.0.0.1]`): no test waits for a name server. What XCLIENT says
//!   of names counts nevertheless.
//! * Most of what it refuses it refuses at RCPT: `554 5.7.1 ...: Recipient address rejected: Access denied` to those who
//!   are not signed in.
//! * XCLIENT is offered in the reply to EHLO, and each success resets the session up to the greeting. `sasl_method` of a
//!   login by XCLIENT's LOGIN is `XCLIENT`.
//! * A `Received` field spells `[IPv6:2001:db8::1]`, the log `[2001:db8::1]`.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::certs::{Authority, Certificate};
use crate::delivered::Delivered;
use crate::dovecot::{self, Backend};
use crate::owner::{self, NOBODY};
use crate::ports::{Port, free_port};
use crate::process::Process;
use crate::wait::{PATIENCE, poll};
use crate::{Dir, Log, real};

/// A running Postfix; stopped and removed when dropped.
#[derive(Debug)]
pub struct Postfix {
    process: Option<Process>,
    program: PathBuf,
    ports: Ports,
    options: Options,
    certificate: Certificate,
    log: Log,
    delivered: Delivered,
    dovecot: Backend,
    // Declared last: files go after the processes that use them.
    dir: Dir,
}

/// What a [`Postfix`] is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// `smtpd_authorized_xclient_hosts`: whose XCLIENT is believed. Empty = nobody's, not even loopback's.
    pub xclient_hosts: String,
    /// Who may sign in, and what else the Dovecot behind AUTH is made of.
    pub dovecot: dovecot::Options,
    /// `smtpd_tls_auth_only`: AUTH is offered in TLS only.
    pub auth_in_tls_only: bool,
    /// The certificate; without one it makes its own for `localhost`, `127.0.0.1` and `::1`.
    pub certificate: Option<Certificate>,
    /// More lines for `main.cf`. A name that is set above is set anew.
    pub extra: String,
}

impl Default for Options {
    /// Dovecot's `alice`, `bob` and `master`; nobody's XCLIENT is believed; AUTH is offered in clear, too.
    fn default() -> Options {
        Options {
            xclient_hosts: String::new(),
            dovecot: dovecot::Options::default(),
            auth_in_tls_only: false,
            certificate: None,
            extra: String::new(),
        }
    }
}

#[derive(Debug)]
struct Ports {
    clear: Port,
    tls: Port,
}

impl Postfix {
    /// Starts one with its Dovecot and waits until both are ready.
    ///
    /// # Panics
    ///
    /// Without a usable Postfix or Dovecot: call [`require`] first.
    #[track_caller]
    pub fn start(options: Options) -> Postfix {
        let program = real::usable("postfix").unwrap_or_else(|missing| panic!("{missing} (ask testkit::postfix::require first)"));
        let dir = Dir::new();
        let certificate = options.certificate.clone().unwrap_or_else(|| {
            Authority::new(dir.path(), "postfix-authority").server("postfix", &["localhost", "127.0.0.1", "::1", "postfix.test"])
        });
        let mut accounts = options.dovecot.clone();
        accounts.extra.push_str(AUTH_SERVICE);
        let dovecot = Backend::start(accounts);
        let (log, delivered) = (Log::at(dir.join("mail.log")), Delivered::at(dir.join("mail/inbox")));
        let (ports, process) = (Ports::claim(), None);
        let mut postfix = Postfix { process, program, ports, options, certificate, log, delivered, dovecot, dir };
        postfix.furnish();
        for _ in 0..5 {
            match postfix.launch() {
                Ok(()) => return postfix,
                Err(PortTaken) => postfix.ports = Ports::claim(),
            }
        }
        panic!("no ports for postfix in five attempts; {}", postfix.log.tail());
    }

    /// Where it listens in clear and for STARTTLS.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(IPV4, self.ports.clear.number())
    }

    /// Where it listens with TLS from the first byte.
    pub fn tls_addr(&self) -> SocketAddr {
        SocketAddr::new(IPV4, self.ports.tls.number())
    }

    /// The same port as [`Postfix::addr`], on `::1`; nobody is there on a machine without IPv6.
    pub fn addr6(&self) -> SocketAddr {
        SocketAddr::new(IPV6, self.ports.clear.number())
    }

    /// The same port as [`Postfix::tls_addr`], on `::1`.
    pub fn tls_addr6(&self) -> SocketAddr {
        SocketAddr::new(IPV6, self.ports.tls.number())
    }

    /// The log of all its processes: `postfix/smtpd[PID]: QUEUEID: client=unknown[192.0.2.10], sasl_method=PLAIN,
    /// sasl_username=alice`.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// All mail that it took.
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// The Dovecot that checks the passwords. Its log has what Postfix asked: `service=smtp`, `rip=`.
    pub fn dovecot(&self) -> &Backend {
        &self.dovecot
    }

    /// The certificate it shows, and through it the authority to trust.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its master's process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops it; sessions end without a word. Mail, log and ports stay, and Dovecot goes on.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop_group();
        }
    }

    /// Kills every process at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again on the same ports, after a stop or a kill.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.stop();
        let started = poll(PATIENCE, || self.launch().ok());
        assert!(started.is_some(), "postfix cannot have its ports back; {}", self.log.tail());
    }

    /// What the installation of a Postfix creates, here.
    #[track_caller]
    fn furnish(&self) {
        let (postfix, postdrop) = (owner::user("postfix"), owner::group("postdrop"));
        let give = |name: &str, group: u32, mode: u32| owner::give(&self.dir.create(name), postfix, group, mode);
        give("data", 0, 0o700);
        self.dir.create("queue/pid");
        for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"]
        {
            give(&format!("queue/{name}"), 0, 0o700);
        }
        give("queue/maildrop", postdrop, 0o730);
        give("queue/public", postdrop, 0o710);
        owner::give(&self.dir.create("mail"), NOBODY, NOBODY, 0o755);
    }

    #[track_caller]
    fn launch(&mut self) -> Result<(), PortTaken> {
        self.dir.create("conf");
        self.dir.write("conf/master.cf", self.master_cf());
        // Every process of Postfix waits until this file is more than a second old, in case somebody is still writing it.
        let main_cf = self.dir.write("conf/main.cf", self.main_cf());
        let aged = File::options().write(true).open(&main_cf).and_then(|f| f.set_modified(SystemTime::now() - AGE));
        aged.unwrap_or_else(|e| panic!("cannot change the time of {}: {e}", main_cf.display()));
        let log = self.log.from_here();
        let mut command = Command::new(&self.program);
        // -d: it does not leave the process group in which it was started.
        command.arg("-c").arg(self.dir.join("conf")).arg("-d").current_dir(self.dir.path());
        command.env("POSTLOG_HOSTNAME", "postfix").env("POSTLOG_SERVICE", self.dir.join("queue/public/postlog"));
        let mut process = Process::start(command, self.dir.join("output"));
        let (mut taken, mut ready) = (false, false);
        let outcome = poll(PATIENCE, || {
            let ended = process.exit_status().is_some();
            taken = log.find(&["fatal: bind ", "Address already in use"]).is_some();
            ready = log.find(&["daemon started"]).is_some();
            (ended || ready).then_some(())
        });
        if taken {
            process.kill();
            return Err(PortTaken);
        }
        assert!(ready && outcome.is_some(), "postfix is not ready; {}; {}", self.log.tail(), process.output().tail());
        self.process = Some(process);
        Ok(())
    }

    fn main_cf(&self) -> String {
        let dir = self.dir.path().display();
        let Options { xclient_hosts, auth_in_tls_only, extra, .. } = &self.options;
        let auth_in_tls_only = if *auth_in_tls_only { "yes" } else { "no" };
        let (cert, key) = (self.certificate.cert_file.display(), self.certificate.key_file.display());
        let auth = self.dovecot.dir().join("run").join(AUTH_SOCKET);
        format!(
            "compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
meta_directory = {dir}/conf
maillog_file = {dir}/mail.log
maillog_file_prefixes = {dir}
myhostname = postfix.test
mydestination =
mynetworks =
alias_maps =
inet_protocols = {protocols}
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_authorized_xclient_hosts = {xclient_hosts}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth}
smtpd_sasl_authenticated_header = yes
smtpd_tls_security_level = may
smtpd_tls_auth_only = {auth_in_tls_only}
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtpd_relay_restrictions =
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
virtual_mailbox_domains = static:all
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = static:inbox/
virtual_mailbox_limit = 0
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
{extra}
",
            protocols = if has_ipv6() { "all" } else { "ipv4" },
            auth = auth.display(),
        )
    }

    fn master_cf(&self) -> String {
        let mut text = String::new();
        let hosts: &[&str] = if has_ipv6() { &["127.0.0.1", "[::1]"] } else { &["127.0.0.1"] };
        for host in hosts {
            let (clear, tls) = (self.ports.clear.number(), self.ports.tls.number());
            text.push_str(&format!("{host}:{clear} inet n - n - - smtpd\n"));
            text.push_str(&format!("{host}:{tls} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"));
        }
        text + SERVICES
    }
}

impl Ports {
    fn claim() -> Ports {
        Ports { clear: free_port(), tls: free_port() }
    }
}

/// Finds Postfix and the Dovecot it needs, or reports the test as skipped.
#[track_caller]
pub fn require() -> Option<()> {
    real::require("postfix")?;
    real::require("dovecot")?;
    Some(())
}

#[derive(Debug)]
struct PortTaken;

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// How old its configuration seems to be.
const AGE: Duration = Duration::from_secs(60);

/// In Dovecot's `base_dir`.
const AUTH_SOCKET: &str = "postfix-auth";

const AUTH_SERVICE: &str = "
service auth {
  unix_listener postfix-auth {
    mode = 0666
  }
}
";

/// What takes mail, queues it and delivers it; the log's writer last.
const SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
";

/// Whether `::1` can be listened on.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
