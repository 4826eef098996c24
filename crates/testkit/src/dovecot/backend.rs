//! A Dovecot with users and mail.

use std::ops::{Deref, DerefMut};

use super::Instance;
use super::instance::Setup;
use super::maildir;
use super::refusal::{self, Refusal};
use crate::certs::{Authority, Certificate};
use crate::delivered::Delivered;
use crate::peer::{Letters, SmtpSink};
use crate::{Dir, Protocol};

/// A running Dovecot backend, an [`Instance`] with users, mail and Sieve scripts. Its log has `auth_debug`, ID commands and
/// the lines named in [`Options::forward_logged`]. What is sent by Submission it passes on to an [`SmtpSink`] of its own;
/// what comes by LMTP it puts into its users' mailboxes.
#[derive(Debug)]
pub struct Backend {
    instance: Instance,
    // Declared last: the sessions that keep connections to it go first.
    sink: SmtpSink,
}

/// What a [`Backend`] is made of. Text goes into configuration files as it is: no line ends, and no blanks or colons in
/// user names.
#[derive(Clone, Debug)]
pub struct Options {
    /// User names and passwords.
    pub users: Vec<(String, String)>,
    /// Master users, who may log in as anybody: `user*master` with the master's password, or `user` as the
    /// authorization identity of SASL.
    pub masters: Vec<(String, String)>,
    /// By LMTP everybody is a user, not only `users`; by the other protocols nothing changes.
    pub any_user: bool,
    /// Users (also users that are not among `users`) who cannot be delivered to by LMTP, and how that shows.
    pub refusing: Vec<(String, Refusal)>,
    /// `login_trusted_networks`: whose ID and XCLIENT commands are believed, and by LMTP whose XRCPTFORWARD. Empty =
    /// nobody's, not even loopback's.
    pub trusted: String,
    /// `haproxy_trusted_networks`: whose PROXY headers are read, on listeners of their own
    /// ([`Instance::behind_haproxy`]). Empty = nobody's, and there are no such listeners.
    pub haproxy_trusted: String,
    /// Names of `forward_` fields (without that prefix) that appear in the `Login:` line as `forward_NAME=<VALUE>`, and
    /// after the login in the prefix of every line of the session. They show what the backend *accepted*.
    pub forward_logged: Vec<String>,
    /// `mail_max_userip_connections`: sessions per user and client address.
    pub max_userip_connections: u32,
    /// How many sessions there may be at once, and how many logins, per protocol.
    pub sessions: u32,
    /// `auth_failure_delay` in seconds; the program's default is 2.
    pub failure_delay: u32,
    /// What [`Backend::letters`]'s server offers, if not the usual: extensions of SMTP, one per line. With XCLIENT among
    /// them it is told who the client is.
    pub sink_offers: Option<String>,
    /// The certificate; without one the backend makes its own for `localhost` and `127.0.0.1`.
    pub certificate: Option<Certificate>,
    /// More configuration, appended as it is.
    pub extra: String,
}

impl Default for Options {
    /// `alice` with `alice-secret`, `bob` with `bob-secret`, and the master user `master` with `master-secret`;
    /// nobody is trusted.
    fn default() -> Options {
        let pair = |name: &str| (name.to_owned(), format!("{name}-secret"));
        Options {
            users: vec![pair("alice"), pair("bob")],
            masters: vec![pair("master")],
            any_user: false,
            refusing: Vec::new(),
            trusted: String::new(),
            haproxy_trusted: String::new(),
            forward_logged: Vec::new(),
            max_userip_connections: 10,
            sessions: 100,
            failure_delay: 0,
            sink_offers: None,
            certificate: None,
            extra: String::new(),
        }
    }
}

impl Backend {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    ///
    /// Without a usable Dovecot: call [`crate::real::require`] first.
    #[track_caller]
    pub fn start(options: Options) -> Backend {
        let dir = Dir::new();
        let certificate = options.certificate.clone();
        let certificate = certificate.unwrap_or_else(|| {
            Authority::new(dir.path(), "backend-authority").server("backend", &["localhost", "127.0.0.1", "backend.test"])
        });
        dir.write("users", passwd_file(&options.users));
        dir.write("masters", passwd_file(&options.masters));
        dir.write("refusing", refusal::passwd_file(&options.refusing));
        maildir::own(&dir.create("mail"));
        let sink = options.sink_offers.as_deref().map_or_else(SmtpSink::start, SmtpSink::offering);
        let own = config(&dir, &options, &sink);
        let Options { trusted, haproxy_trusted, sessions, .. } = &options;
        let setup = Setup { certificate, trusted, haproxy_trusted, sessions: *sessions, own };
        Backend { instance: Instance::start(dir, setup), sink }
    }

    /// The mail that was sent through it by Submission.
    pub fn letters(&self) -> &Letters {
        self.sink.letters()
    }

    /// The messages that came by LMTP (or were added) into a user's INBOX, as long as nobody reads it. A user is who an
    /// address without its domain and its detail names, in lower case; with the domain where `users` have one.
    pub fn delivered(&self, user: &str) -> Delivered {
        Delivered::at(self.home(user).join("Maildir"))
    }

    /// A user's Sieve script of this name, as it lies on disk.
    pub fn sieve_script(&self, user: &str, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.home(user).join("sieve").join(format!("{name}.sieve"))).ok()
    }

    /// The name of the Sieve script that filters a user's mail, if one does.
    pub fn active_sieve_script(&self, user: &str) -> Option<String> {
        let target = std::fs::read_link(self.home(user).join(".dovecot.sieve")).ok()?;
        Some(target.file_stem()?.to_string_lossy().into_owned())
    }

    /// The line of the `n`th (from 1) successful login by IMAP, waited for: `user=<..>, method=.., rip=.., rport=..,
    /// lip=.., lport=.., real_rip=.., mpid=.., TLS, session=<..>, forward_..=<..>`.
    #[track_caller]
    pub fn login_line(&self, n: usize) -> String {
        self.login_line_of(Protocol::Imap, n)
    }

    /// As [`Backend::login_line`], of any protocol; each is counted for itself.
    #[track_caller]
    pub fn login_line_of(&self, protocol: Protocol, n: usize) -> String {
        let lines = self.log().wait_for_count(&format!("{}-login: Info: Login: ", protocol.name()), n);
        lines.into_iter().nth(n.saturating_sub(1)).unwrap_or_else(|| panic!("logins are counted from 1"))
    }

    /// Puts a message into a mailbox (`INBOX` or an ASCII name with dots between levels), as a delivery would.
    ///
    /// Line ends must be CRLF: then what is served is byte for byte what was put in.
    #[track_caller]
    pub fn add_message(&self, user: &str, mailbox: &str, message: &[u8]) {
        maildir::add(&self.home(user), mailbox, message);
    }

    /// Puts `n` messages into a mailbox and returns them in their order. The same `seed` gives the same messages:
    /// ordinary ones, raw 8-bit ones, one of 5 MB and one with an empty body are among any eight in a row.
    #[track_caller]
    pub fn seed_mailbox(&self, user: &str, mailbox: &str, n: usize, seed: u64) -> Vec<Vec<u8>> {
        let messages: Vec<Vec<u8>> = (0..n).map(|number| maildir::sample(seed, number)).collect();
        for message in &messages {
            self.add_message(user, mailbox, message);
        }
        messages
    }

    fn home(&self, user: &str) -> std::path::PathBuf {
        self.dir().join("mail").join(user)
    }
}

impl Deref for Backend {
    type Target = Instance;
    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl DerefMut for Backend {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }
}

pub(super) fn passwd_file(pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, password) in pairs {
        let bad = |s: &str| s.contains([':', '\n', '\r']);
        assert!(!bad(name) && !bad(password), "{name:?} with {password:?} cannot stand in a passwd-file");
        text.push_str(&format!("{name}:{{PLAIN}}{password}\n"));
    }
    text
}

fn config(dir: &Dir, options: &Options, sink: &SmtpSink) -> String {
    let Options { max_userip_connections, failure_delay, any_user, extra, .. } = options;
    let allow_all = if *any_user { " allow_all_users=yes" } else { "" };
    let lmtp_user = if options.users.iter().any(|(name, _)| name.contains('@')) { "%Lu" } else { "%Ln" };
    let dir = dir.path().display();
    let (relay, relay_port) = (sink.addr().ip(), sink.addr().port());
    let (uid, gid) = (maildir::UID, maildir::GID);
    // To the login process the fields are passdb fields; a session only knows the userdb's, so they are copied there.
    let mut in_login = String::new();
    let mut in_session = String::new();
    let mut in_userdb = String::new();
    for name in &options.forward_logged {
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "not a field name: {name:?}");
        in_login.push_str(&format!(" forward_{name}=<%{{passdb:forward_{name}}}>"));
        in_session.push_str(&format!(" forward_{name}=<%{{userdb:forward_{name}}}>"));
        in_userdb.push_str(&format!(" forward_{name}=%{{passdb:forward_{name}}}"));
    }
    format!(
        r#"auth_mechanisms = plain login
auth_master_user_separator = *
auth_failure_delay = {failure_delay} secs
mail_max_userip_connections = {max_userip_connections}
mail_location = maildir:~/Maildir
mail_log_prefix = "%s(%u)<%{{pid}}><%{{session}}>{in_session}: "
login_log_format_elements = user=<%u> method=%m rip=%r rport=%b lip=%l lport=%a real_rip=%{{real_rip}} mpid=%e %c session=<%{{session}}>{in_login}
passdb {{
  driver = passwd-file
  master = yes
  # continue: the user whose mail it is must exist, too
  result_success = continue
  args = {dir}/masters
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {dir}/users
}}
protocol lmtp {{
  auth_username_format = {lmtp_user}
  mail_plugins = quota
  mail_log_prefix = "%s(%u)<%{{pid}}><%{{session}}>{in_session} rip=%r: "
  # Databases of a protocol stand in front of those for all.
  userdb {{
    driver = passwd-file
    args = {dir}/refusing
    default_fields = uid={uid} gid={gid} home={dir}/mail/%u
  }}
  userdb {{
    driver = static
    args = uid={uid} gid={gid} home={dir}/mail/%u{in_userdb}{allow_all}
  }}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={dir}/mail/%u{in_userdb}
}}
# UIDVALIDITY and UID: the same in every session, and known to IMAP.
pop3_uidl_format = %08Xu%08Xv
# Reading by POP3 leaves no traces in the mail, and what it deletes only POP3 does not see any more.
pop3_no_flag_updates = yes
pop3_delete_type = flag
pop3_deleted_flag = "$POP3Deleted"
hostname = backend.test
submission_relay_host = {relay}
submission_relay_port = {relay_port}
# XCLIENT is said there where it is offered.
submission_relay_trusted = yes
plugin {{
  # Nobody has a limit but those who are to refuse.
  quota = maildir:User quota
  sieve = file:~/sieve;active=~/.dovecot.sieve
}}
{extra}
"#
    )
}
