//! A real Exim 4.96 with private everything, as the server that takes mail from signed-in users and delivers all of it
//! into one maildir. This build has no XCLIENT: the client it knows is the one that connects.
//!
//! It runs with a configuration of its own (`-C`) as the daemon in the foreground, and gives up root for the user
//! `Debian-exim` once its ports are bound. Debian does not install it beside Postfix; `ci/install-peers` unpacks it.
//!
//! Facts about Exim 4.96 that this fixture lives with:
//!
//! * `daemon started` is logged once the listeners are bound; a port in use ends it.
//! * Its replies have no enhanced codes: `235 Authentication succeeded`, `535 Incorrect authentication data`.
//! * AUTH where it is not offered (before EHLO, or where it is kept for TLS) is `503 AUTH command used when not
//!   advertised`; XCLIENT is `500 unrecognized command`.
//! * Client names are not looked up, and EHLO's name stands in the log and in `Received` as what was claimed:
//!   `H=(sender.test) [127.0.0.1]`, `from [127.0.0.1] (port=51812 helo=sender.test)`.
//! * It is patient with what comes early, because it offers PIPECONNECT: lines in front of the greeting, behind EHLO and
//!   behind AUTH are carried out.
//! * Before it answers the end of a message it waits 200 ms for more input, unless there is some already.
//! * A session that is stopped is told `421 exim.test: Service not available - closing connection`.

use std::fmt::Write as _;
use std::fs::copy;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use crate::certs::{Authority, Certificate};
use crate::mail_server::{MailServer, Ports, Setup, hosts};
use crate::{Dir, Log, owner, real};

/// A running Exim, a [`MailServer`]. A line of its log: `ID <= alice@example.com H=(c.test) [127.0.0.1]:51812
/// I=[127.0.0.1]:2626 P=esmtpsa X=TLS1.3:... A=plain:alice S=491`.
#[derive(Debug)]
pub struct Exim {
    server: MailServer,
}

/// What an [`Exim`] is made of. Names and passwords stand in files of lines: no line ends, and no blanks, colons, `#` or
/// quotes in names.
#[derive(Clone, Debug)]
pub struct Options {
    /// User names and passwords.
    pub users: Vec<(String, String)>,
    /// Those who may sign in as anybody, with PLAIN and the user as its authorization identity.
    pub masters: Vec<(String, String)>,
    /// AUTH is offered in TLS only.
    pub auth_in_tls_only: bool,
    /// The certificate; without one it makes its own for `localhost`, `127.0.0.1` and `::1`.
    pub certificate: Option<Certificate>,
    /// More lines for the main part of the configuration.
    pub extra: String,
}

impl Default for Options {
    /// `alice` with `alice-secret`, `bob` with `bob-secret`, and the master user `master` with `master-secret`; AUTH is
    /// offered in clear, too.
    fn default() -> Options {
        let pair = |name: &str| (name.to_owned(), format!("{name}-secret"));
        Options {
            users: vec![pair("alice"), pair("bob")],
            masters: vec![pair("master")],
            auth_in_tls_only: false,
            certificate: None,
            extra: String::new(),
        }
    }
}

impl Exim {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    ///
    /// Without a usable Exim: call [`real::require`] first.
    #[track_caller]
    pub fn start(options: Options) -> Exim {
        let program = real::usable("exim").unwrap_or_else(|missing| panic!("{missing} (ask testkit::real::require first)"));
        let dir = Dir::new();
        let certificate = options.certificate.clone().unwrap_or_else(|| {
            Authority::new(dir.path(), "exim-authority").server("exim", &["localhost", "127.0.0.1", "::1", "exim.test"])
        });
        dir.write("users", accounts(&options.users));
        dir.write("masters", accounts(&options.masters));
        furnish(&dir, &certificate);
        let log = Log::at(dir.join("log/mainlog"));
        let shown = certificate.clone();
        let command = move |dir: &Dir, ports: &Ports| {
            let config = dir.write("exim.conf", config(dir, &program, &options, &shown, ports));
            let mut command = Command::new(&program);
            command.arg("-C").arg(config).arg("-bdf").current_dir(dir.path());
            command
        };
        Exim { server: MailServer::start(dir, Setup { certificate, log, command: Box::new(command) }) }
    }
}

impl Deref for Exim {
    type Target = MailServer;
    fn deref(&self) -> &MailServer {
        &self.server
    }
}

impl DerefMut for Exim {
    fn deref_mut(&mut self) -> &mut MailServer {
        &mut self.server
    }
}

fn accounts(pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, password) in pairs {
        let usable = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || ":#\"".contains(c));
        assert!(usable && !password.contains(['\n', '\r']), "{name:?} with {password:?} cannot stand in a file of lines");
        let _ = writeln!(text, "{name}: {password}");
    }
    text
}

/// Makes the directories it writes to, and a key that it can read.
#[track_caller]
fn furnish(dir: &Dir, certificate: &Certificate) {
    let (user, group) = (owner::user("Debian-exim"), owner::group("Debian-exim"));
    for name in ["spool", "log", "mail"] {
        owner::give(&dir.create(name), user, group, 0o755);
    }
    let key = dir.join(KEY);
    copy(&certificate.key_file, &key).unwrap_or_else(|e| panic!("cannot write {}: {e}", key.display()));
    owner::give(&key, user, group, 0o600);
}

fn config(dir: &Dir, program: &Path, options: &Options, certificate: &Certificate, ports: &Ports) -> String {
    let Options { auth_in_tls_only, extra, .. } = options;
    let dir = dir.path().display();
    let (program, cert) = (program.display(), certificate.cert_file.display());
    let interfaces: Vec<String> = hosts().iter().map(ToString::to_string).collect();
    let interfaces = interfaces.join(" ; ");
    let (clear, tls) = (ports.clear(), ports.tls());
    let offered_to = if *auth_in_tls_only { "${if eq{$tls_in_cipher}{}{}{*}}" } else { "*" };
    format!(
        r#"exim_path = {program}
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
pid_file_path = {dir}/exim.pid
notifier_socket =
primary_hostname = exim.test
local_interfaces = <; {interfaces}
daemon_smtp_ports = {clear} : {tls}
tls_on_connect_ports = {tls}
daemon_startup_retries = 0
tls_certificate = {cert}
tls_privatekey = {dir}/{KEY}
tls_advertise_hosts = *
auth_advertise_hosts = {offered_to}
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
acl_smtp_rcpt = rcpt
# Nobody but its own user ever handles mail: it cannot become root again.
deliver_drop_privilege = true
keep_environment =
timezone = UTC
log_selector = +smtp_connection +smtp_protocol_error +smtp_syntax_error +incoming_port +incoming_interface +proxy
{extra}

begin acl
rcpt:
  accept authenticated = *
  deny message = Sign in first

begin routers
everybody:
  driver = accept
  transport = inbox

begin transports
inbox:
  driver = appendfile
  directory = {dir}/mail/inbox
  maildir_format
  return_path_add
  headers_add = Delivered-To: $local_part@$domain

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if eq{{$auth3}}{{${{lookup{{$auth2}}lsearch{{${{if eq{{$auth1}}{{}}{{{dir}/users}}{{{dir}/masters}}}}}}{{$value}}fail}}}}}}
  server_set_id = ${{if eq{{$auth1}}{{}}{{$auth2}}{{$auth1}}}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = User Name : Password
  server_condition = ${{if eq{{$auth2}}{{${{lookup{{$auth1}}lsearch{{{dir}/users}}{{$value}}fail}}}}}}
  server_set_id = $auth1
"#
    )
}

/// The copy of its key that its user may read.
const KEY: &str = "exim.key.own";
