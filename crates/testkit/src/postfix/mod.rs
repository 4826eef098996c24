//! A real Postfix with private everything, as the server that takes mail from signed-in users: it checks the password,
//! believes XCLIENT of those it was told to believe, and delivers all mail of everybody into one maildir. Or as one that takes
//! mail from everybody, and as one that relays the mail of a domain to the next server ([`Relay`]).
//!
//! It is Postfix's master alone with a configuration of its own: nothing of `/etc/postfix` is read, nothing is chrooted,
//! and mail never leaves the machine. Passwords are checked by a [`dovecot::Backend`] through its auth socket, the usual
//! way, so there are master users, too, and Dovecot's log tells what Postfix asked it. Both need root.
//!
//! Facts about Postfix 3.7 that this fixture lives with:
//!
//! * `daemon started` is logged once the listeners are bound. A port in use ends the master before that; it says so in
//!   the log only because the environment names the socket of the log's writer, and only while that has no listener
//!   yet, hence the order of `master.cf`.
//! * Client names are not looked up (`client=unknown[127.0.0.1]`): no test waits for a name server. What XCLIENT says
//!   of names counts nevertheless.
//! * Most of what it refuses it refuses at RCPT: `554 5.7.1 ...: Recipient address rejected: Access denied` to those who
//!   are not signed in. AUTH where it is kept for TLS is `503 5.5.1 Error: authentication not enabled`.
//! * XCLIENT is offered in the reply to EHLO, and each success resets the session up to the greeting. `sasl_method` of a
//!   login by XCLIENT's LOGIN is `XCLIENT`.
//! * XFORWARD is believed of others than XCLIENT, and only shows in the log: `client=unknown[127.0.0.1], orig_queue_id=Q1,
//!   orig_client=c.test[192.0.2.10]`, the queue's id only if IDENT was there.
//! * Its LMTP and SMTP clients send XFORWARD where it is offered, for each message, with the names that are offered, in two
//!   commands: `NAME= ADDR= PORT=`, then `PROTO= HELO= IDENT= SOURCE=`. IDENT is the queue's id, HELO what the client said
//!   last, `[UNAVAILABLE]` what is not known, and an IPv6 address has `IPv6:` in front. They use DATA, never BDAT.
//! * It retries what was deferred within two or three seconds here, and tells senders of what it gives up: such a message
//!   from `<>` is delivered here, like all mail that is not relayed.
//! * A `Received` field spells `[IPv6:2001:db8::1]`, the log `[2001:db8::1]`.

mod attempt;
mod relay;

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::certs::{Authority, Certificate};
use crate::dovecot::{self, Backend};
use crate::mail_server::{MailServer, Ports, Setup, hosts};
use crate::owner::{self, NOBODY};
use crate::wait::{PATIENCE, poll};
use crate::{Dir, Log, real};

pub use attempt::Attempt;
pub use relay::{Hop, Relay};

/// A running Postfix, a [`MailServer`]. A line of its log: `postfix/smtpd[PID]: QUEUEID: client=unknown[192.0.2.10],
/// sasl_method=PLAIN, sasl_username=alice`.
#[derive(Debug)]
pub struct Postfix {
    server: MailServer,
    dovecot: Backend,
}

/// What a [`Postfix`] is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// `smtpd_authorized_xclient_hosts`: whose XCLIENT is believed. Empty = nobody's, not even loopback's.
    pub xclient_hosts: String,
    /// `smtpd_authorized_xforward_hosts`: whose XFORWARD is believed. Empty = nobody's.
    pub xforward_hosts: String,
    /// Takes mail for everybody from everybody, signed in or not.
    pub takes_all: bool,
    /// The mail that it does not keep.
    pub relay: Option<Relay>,
    /// Who may sign in, and what else the Dovecot behind AUTH is made of.
    pub dovecot: dovecot::Options,
    /// `smtpd_tls_auth_only`: AUTH is offered in TLS only.
    pub auth_in_tls_only: bool,
    /// The certificate; without one it makes its own for `localhost`, `127.0.0.1` and `::1`.
    pub certificate: Option<Certificate>,
    /// More lines for `main.cf`. A name that is set already is set anew.
    pub extra: String,
}

impl Default for Options {
    /// Dovecot's `alice`, `bob` and `master`; nobody's XCLIENT is believed; AUTH is offered in clear, too.
    fn default() -> Options {
        Options {
            xclient_hosts: String::new(),
            xforward_hosts: String::new(),
            takes_all: false,
            relay: None,
            dovecot: dovecot::Options::default(),
            auth_in_tls_only: false,
            certificate: None,
            extra: String::new(),
        }
    }
}

/// Whether Postfix and the Dovecot it needs are here; reports the test as skipped where they are not.
#[track_caller]
pub fn require() -> Option<PathBuf> {
    real::require("dovecot")?;
    real::require("postfix")
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
        furnish(&dir);
        let main_cf = main_cf(&dir, &options, &certificate, &dovecot.dir().join("run").join(AUTH_SOCKET));
        let command = move |dir: &Dir, ports: &Ports| {
            let config = configure(dir, &main_cf, ports);
            let mut command = Command::new(&program);
            // -d: it does not leave the process group in which it was started.
            command.arg("-c").arg(config).arg("-d").current_dir(dir.path());
            command.env("POSTLOG_HOSTNAME", "postfix").env("POSTLOG_SERVICE", dir.join("queue/public/postlog"));
            command
        };
        let setup = Setup { certificate, log: Log::at(dir.join("mail.log")), command: Box::new(command) };
        Postfix { server: MailServer::start(dir, setup), dovecot }
    }

    /// What it has tried so far with each recipient, as its log tells, from the beginning.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.log().lines().iter().filter_map(|line| Attempt::read(line)).collect()
    }

    /// Waits for a try with this recipient that had this outcome (`sent`, `deferred`, `bounced`), and returns the last one.
    #[track_caller]
    pub fn wait_for_attempt(&self, to: &str, status: &str) -> Attempt {
        let find = || self.attempts().into_iter().rfind(|a| a.to == to && a.status == status);
        match poll(PATIENCE, find) {
            Some(attempt) => attempt,
            None => panic!("waited for {to:?} to be {status}; {:#?} {}", self.attempts(), self.log().tail()),
        }
    }

    /// The ids of the messages in its queue, wherever there.
    pub fn queue(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for name in ["incoming", "active", "deferred", "hold", "corrupt"] {
            attempt::ids(&self.dir().join("queue").join(name), &mut ids);
        }
        ids.sort();
        ids
    }

    /// Waits until its queue is empty.
    #[track_caller]
    pub fn wait_for_empty_queue(&self) {
        if poll(PATIENCE, || self.queue().is_empty().then_some(())).is_none() {
            panic!("still in the queue: {:?}; {}", self.queue(), self.log().tail());
        }
    }

    /// The Dovecot that checks the passwords. Its log has what Postfix asked: `service=smtp`, `rip=`.
    pub fn dovecot(&self) -> &Backend {
        &self.dovecot
    }
}

impl Deref for Postfix {
    type Target = MailServer;
    fn deref(&self) -> &MailServer {
        &self.server
    }
}

impl DerefMut for Postfix {
    fn deref_mut(&mut self) -> &mut MailServer {
        &mut self.server
    }
}

/// Makes the directories that come with an installation of Postfix.
#[track_caller]
fn furnish(dir: &Dir) {
    let (postfix, postdrop) = (owner::user("postfix"), owner::group("postdrop"));
    let give = |name: &str, group: u32, mode: u32| owner::give(&dir.create(name), postfix, group, mode);
    dir.create("conf");
    dir.create("queue/pid");
    for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"] {
        give(&format!("queue/{name}"), 0, 0o700);
    }
    give("queue/maildrop", postdrop, 0o730);
    give("queue/public", postdrop, 0o710);
    give("data", 0, 0o700);
    owner::give(&dir.create("mail"), NOBODY, NOBODY, 0o755);
}

/// Writes the configuration and returns its directory.
#[track_caller]
fn configure(dir: &Dir, main_cf: &str, ports: &Ports) -> PathBuf {
    dir.write("conf/master.cf", master_cf(ports));
    // Every process of Postfix waits until this file is more than a second old, in case somebody is still writing it.
    let path = dir.write("conf/main.cf", main_cf);
    let aged = File::options().write(true).open(&path).and_then(|f| f.set_modified(SystemTime::now() - AGE));
    aged.unwrap_or_else(|e| panic!("cannot change the time of {}: {e}", path.display()));
    dir.join("conf")
}

fn main_cf(dir: &Dir, options: &Options, certificate: &Certificate, auth: &Path) -> String {
    let Options { xclient_hosts, xforward_hosts, takes_all, relay, auth_in_tls_only, extra, .. } = options;
    // All recipients are its own, so this one refuses nobody; and Postfix insists on one that could.
    let recipients = if *takes_all { "reject_unauth_destination" } else { "permit_sasl_authenticated, reject" };
    let relay = relay.as_ref().map(Relay::settings).unwrap_or_default();
    let dir = dir.path().display();
    let protocols = if hosts().len() == 1 { "ipv4" } else { "all" };
    let auth_in_tls_only = if *auth_in_tls_only { "yes" } else { "no" };
    let (cert, key, auth) = (certificate.cert_file.display(), certificate.key_file.display(), auth.display());
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
smtpd_authorized_xforward_hosts = {xforward_hosts}
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
smtpd_recipient_restrictions = {recipients}
virtual_mailbox_domains = static:all
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = static:inbox/
virtual_mailbox_limit = 0
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
transport_retry_time = 1s
{relay}{extra}
"
    )
}

fn master_cf(ports: &Ports) -> String {
    let mut text = String::new();
    for host in hosts() {
        let (clear, tls) = (ports.clear(), ports.tls());
        text.push_str(&format!("[{host}]:{clear} inet n - n - - smtpd\n"));
        text.push_str(&format!("[{host}]:{tls} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"));
    }
    text + SERVICES
}

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
lmtp unix - - n - - lmtp
smtp unix - - n - - smtp
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";
