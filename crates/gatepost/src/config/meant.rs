//! What the configuration means: checked, resolved, with every default filled in.
//!
//! Plain data for the rest of the program; nothing here knows TOML. `at` fields say where something is written, for errors
//! that only show later (binding, opening a database).

mod log;

pub use log::{DovecotVersion, Log, LogFacility, LogFormat, LogLevel, LogTarget};

use super::listen_at::ListenAt;
use super::secret::Hidden;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use wire::dance::IdentityRefused;
use wire::smtp::message::BareNewline;

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// `[server]`.
    pub server: Server,
    /// `[tls]`.
    pub tls: Tls,
    /// `[trust]`.
    pub trust: Trust,
    /// `[[listen]]`, one entry per protocol and address.
    pub listen: Vec<Listen>,
    /// `[[users]]`, in order.
    pub users: Vec<UsersBlock>,
    /// `[backend]`.
    pub backend: Backend,
    /// `[protocol.imap]`.
    pub imap: Imap,
    /// `[protocol.pop3]`.
    pub pop3: Pop3,
    /// `[protocol.managesieve]`.
    pub managesieve: ManageSieve,
    /// `[protocol.submission]`.
    pub submission: Submission,
    /// `[protocol.lmtp]`.
    pub lmtp: Lmtp,
    /// `[limits]`.
    pub limits: Limits,
    /// `[log]`.
    pub log: Log,
    /// `[admin]`.
    pub admin: Admin,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `name`: in greetings and logs; default: the host name.
    pub name: String,
    /// `user`: whom to become after binding when started as root.
    pub user: Option<String>,
    /// `control`: the unix socket of the admin API; default `/run/gatepost/control.sock`.
    pub control: PathBuf,
    /// `threads`: shards, default one per processor.
    pub threads: usize,
    /// `temp_dir`: where letters are held that are too large for memory; default: `TMPDIR`, else `/tmp`.
    pub temp_dir: PathBuf,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `group`: may use the admin socket; default: the group of `server.user`, else the process's own.
    pub group: Option<String>,
    /// `address`: where the admin API is served over TCP, to those who have the token.
    pub address: Vec<SocketAddr>,
    /// `token_file`: its first line is the token.
    pub token_file: Option<PathBuf>,
}

/// `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `certificates`; the first is the default, the others are chosen by SNI.
    pub certificates: Vec<Certificate>,
    /// `alpn_strict` (default true): a client that offers ALPN without our protocol is refused.
    pub alpn_strict: bool,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `cert`: PEM, the chain, leaf first.
    pub cert: PathBuf,
    /// `key`: PEM.
    pub key: PathBuf,
}

/// `[trust]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// `networks`.
    pub networks: Vec<IpNet>,
    /// `identity_before_tls` is not "drop".
    pub identity_before_tls: bool,
    /// `login`: whose word is also believed that a user has signed in (`LOGIN` of `XCLIENT` in SMTP); all of it in `networks`.
    pub login: Vec<IpNet>,
    /// `proxy_protocol`: whose PROXY headers are believed. Gives no right to speak for clients by ID or XCLIENT.
    pub proxy_protocol: Vec<IpNet>,
}

/// When TLS begins on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenTls {
    /// Not offered.
    None,
    /// On the client's request.
    StartTls,
    /// From the first byte.
    Implicit,
    /// It ends at the balancer in front, which says so by its PROXY header; here bytes are in clear.
    Offloaded,
}

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenProxy {
    /// None does.
    Off,
    /// All do; who is not in `trust.proxy_protocol` is closed without a word.
    Required,
    /// Those of peers in `trust.proxy_protocol` do, all others do not: decided by the source address, before the first byte.
    Mixed,
}

/// What `XCLIENT` of a trusted peer must be like (SMTP).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XclientAs {
    /// As Postfix and Dovecot take it: at any time, in any parts.
    Usual,
    /// As Exim takes it: behind EHLO, and with ADDR and PORT.
    Exim,
}

/// Who may say a password in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleartextAuth {
    /// Nobody.
    Never,
    /// Clients on this host.
    Loopback,
    /// These and the trusted networks.
    Trusted,
    /// Everybody.
    Always,
}

/// One listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The protocol's name as in the catalog, `imap` also for `imaps`.
    pub protocol: &'static str,
    /// Where.
    pub address: ListenAt,
    /// `socket_mode`, default 0660: the rights of a unix socket's file.
    pub socket_mode: u32,
    /// `socket_group`: the group of a unix socket's file; default that of `server.user`, else the process's own.
    pub socket_group: Option<String>,
    /// The address came from a default: an address family that this host lacks is passed over.
    pub optional: bool,
    /// When TLS begins.
    pub tls: ListenTls,
    /// `cleartext_auth`, default loopback.
    pub cleartext_auth: CleartextAuth,
    /// `proxy_protocol`, default off.
    pub proxy_protocol: ListenProxy,
    /// `xclient`, default usual; of protocols that are SMTP's.
    pub xclient: XclientAs,
    /// `bare_newline`, default normalize: what becomes of a CR or LF that stands alone in a letter; of the message way.
    pub bare_newline: BareNewline,
    /// `connections`: at this address at one time; default no limit of its own.
    pub connections: Option<usize>,
    /// Where it is written, `file:line:col`, for errors when binding.
    pub at: String,
}

/// What a chain does after one database's answer, Dovecot's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// End with success.
    ReturnOk,
    /// End with failure.
    ReturnFail,
    /// End with what stands so far.
    Return,
    /// Ask the next one; a success so far is kept.
    Continue,
    /// Ask the next one; counts as success.
    ContinueOk,
    /// Ask the next one; counts as failure.
    ContinueFail,
}

/// When a database is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Never.
    Never,
    /// When an earlier one let the user in.
    Authenticated,
    /// When no earlier one did.
    Unauthenticated,
}

/// One `[[users]]`. `Debug` hides the values of fields that hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct UsersBlock {
    /// `name`, for log and explain; default: the driver's name and position.
    pub name: String,
    /// `driver`, a row of `users::DRIVERS`.
    pub driver: &'static str,
    /// `protocols`: only for these; empty = all.
    pub protocols: Vec<String>,
    /// `username_format`: the template of the name that is looked up; default `%Lu`.
    pub username_format: Option<String>,
    /// `default_fields`: set where the database gave none.
    pub default_fields: Vec<(String, String)>,
    /// `override_fields`: set whatever the database gave.
    pub override_fields: Vec<(String, String)>,
    /// `result_success`, default return-ok.
    pub result_success: Then,
    /// `result_failure`, default continue.
    pub result_failure: Then,
    /// `result_internalfail`, default return-fail, unlike Dovecot.
    pub result_internalfail: Then,
    /// `skip`, default never.
    pub skip: Skip,
    /// `deny`: a hit rejects.
    pub deny: bool,
    /// The driver's own keys, checked for kind against its row.
    pub own: BTreeMap<String, OwnValue>,
    /// Where the block is written, `file:line:col`.
    pub at: String,
}

/// The value of a driver's own key, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnValue {
    /// The value.
    pub value: Own,
    /// `file:line:col`.
    pub at: String,
}

/// A driver's own value. `Debug` hides the values of fields that hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Own {
    /// Text.
    Text(String),
    /// A path, already relative to the file it stands in.
    Path(PathBuf),
    /// A table of texts, in the order of the file (`fields`).
    Fields(Vec<(String, String)>),
}

/// When TLS begins towards backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendTls {
    /// Never.
    None,
    /// By STARTTLS.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// `[backend]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// `tls`, default none.
    pub tls: BackendTls,
    /// `tls_verify`, default true; false is any-cert.
    pub tls_verify: bool,
    /// `tls_ca`: instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// `tls_pin`: SHA-256 of the certificate's public key (SPKI), base64; any of them is enough, and enough alone.
    pub tls_pin: Vec<[u8; 32]>,
    /// `tls_client_cert` and `tls_client_key`.
    pub tls_client: Option<Certificate>,
    /// `proxy_timeout`: one deadline for connect, TLS, identity, login and retries; default 30 s.
    pub proxy_timeout: Duration,
    /// `connect_timeout`: one connect; default 5 s.
    pub connect_timeout: Duration,
    /// `self_addresses`: more addresses that are this proxy.
    pub self_addresses: Vec<IpAddr>,
    /// `source_ips` (Dovecot's `login_source_ips`): whence connections are made, in turn; empty = the kernel chooses.
    pub source_ips: Vec<SourceIp>,
    /// `local`: by protocol, where `proxy_maybe` that leads to ourselves and rows without `proxy` go.
    pub local: BTreeMap<String, LocalBackend>,
    /// `disconnect_spread` (Dovecot's `login_proxy_max_disconnect_delay`): over how long clients are disconnected when a
    /// backend dies; default 0, at once.
    pub disconnect_spread: Duration,
    /// `proxy_protocol`: whether our connections begin with a PROXY header; default off.
    pub proxy_protocol: BackendProxy,
    /// `identity_refused`, default fail.
    pub identity_refused: IdentityRefused,
    /// `submission_login`, default password: how Submission signs in where a row does not say `proxy_noauth`.
    pub submission_login: SubmissionLogin,
}

/// How Submission signs in at a backend (nginx's `xclient` and `proxy_smtp_auth`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmissionLogin {
    /// With the password.
    Password,
    /// With XCLIENT LOGIN and no password, as if each row had `proxy_noauth`.
    Xclient,
}

/// One item of `backend.source_ips`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIp {
    /// An address, or a name that is resolved when the configuration is put into force.
    pub host: String,
    /// Written with `?`: only those of its addresses count that this host has.
    pub if_here: bool,
    /// Where it is written, `file:line:col`.
    pub at: String,
}

/// One entry of `backend.local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalBackend {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// `[backend] proxy_protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendProxy {
    /// No header.
    Off,
    /// The text form, which says addresses only.
    V1,
    /// The binary form, which also says the TLS and the server name of the client.
    V2,
}

/// `[protocol.imap]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imap {
    /// `capability`: what clients are told before login; default: learnt from the backends.
    pub capability: Option<String>,
    /// `id_send` (Dovecot's `imap_id_send`): what we say of ourselves.
    pub id_send: Vec<(String, String)>,
    /// `id_retain` (Dovecot's `imap_id_retain`): hand the client's own ID on.
    pub id_retain: bool,
    /// `greeting`: default the server's name and `Gatepost ready.`
    pub greeting: String,
    /// `idle_timeout`: after login, default 2 h, at least 31 min.
    pub idle_timeout: Duration,
}

/// `[protocol.pop3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pop3 {
    /// `capability`: what CAPA tells clients before login besides what follows from the connection; default
    /// `TOP UIDL RESP-CODES PIPELINING AUTH-RESP-CODE`.
    pub capability: String,
    /// `greeting`: default the server's name and `Gatepost ready.`
    pub greeting: String,
    /// `idle_timeout`: after login, default and at least 11 min.
    pub idle_timeout: Duration,
}

/// `[protocol.managesieve]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManageSieve {
    /// `sieve` (Dovecot's `managesieve_sieve_capability`): the extensions that clients are told before login; default: learnt
    /// from the backends.
    pub sieve: Option<String>,
    /// `notify` (Dovecot's `managesieve_notify_capability`): the methods of notification; default: learnt.
    pub notify: Option<String>,
    /// `implementation` (Dovecot's `managesieve_implementation_string`): default `Gatepost`.
    pub implementation: String,
    /// `greeting`: default the server's name and `Gatepost ready.`
    pub greeting: String,
    /// `idle_timeout`: after login, default 2 h, at least 31 min.
    pub idle_timeout: Duration,
}

/// `[protocol.submission]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// `capability` (Dovecot's `submission_backend_capabilities`): what EHLO tells clients besides what follows from the
    /// connection; default: learnt from the backends.
    pub capability: Option<String>,
    /// `greeting`: behind `220 NAME ESMTP`, default `Gatepost ready.`
    pub greeting: String,
    /// `login_timeout`: in place of that of `[limits]`, default 5 min.
    pub login_timeout: Duration,
    /// `idle_timeout`: after login, default and at least 11 min.
    pub idle_timeout: Duration,
}

/// `[protocol.lmtp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lmtp {
    /// `capability`: what LHLO tells clients besides what follows from the connection; default: learnt from the backends.
    pub capability: Option<String>,
    /// `greeting`: behind `220 NAME LMTP`, default `Gatepost ready.`
    pub greeting: String,
    /// `idle_timeout`: for the next command or piece of a letter, default 5 min.
    pub idle_timeout: Duration,
    /// `recipient_delimiter` (Dovecot's and Postfix's), default `+`: what begins the detail of an address; empty = addresses have
    /// none.
    pub recipient_delimiter: String,
    /// `soft_bounce` (Postfix's), default false: a definite no is told as "try later".
    pub soft_bounce: bool,
}

/// `[limits]`, defaults in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `line` (8192): octets of one line before login.
    pub line: usize,
    /// `literal` (4096): octets of one literal before login.
    pub literal: usize,
    /// `bad_commands` (10).
    pub bad_commands: u32,
    /// `commands` (100) before login.
    pub commands: u32,
    /// `failed_logins` (3) per connection.
    pub failed_logins: u32,
    /// `failed_login_pause` (2 s).
    pub failed_login_pause: Duration,
    /// `login_timeout` (60 s): the whole phase before login.
    pub login_timeout: Duration,
    /// `tls_handshake_timeout` (30 s).
    pub tls_handshake_timeout: Duration,
    /// `connections`: in all; default (descriptors - 256) / 2.
    pub connections: usize,
    /// `connections_before_login` (100) per /32 or /64.
    pub connections_before_login: usize,
    /// `user_connections` (50) per user and address.
    pub user_connections: usize,
    /// `exempt`: many users share these addresses (webmail): no limit per address, no delay after failed logins. No right to
    /// speak for anybody.
    pub exempt: Vec<IpNet>,
    /// `guesses` (20) failed logins per /32 or /64 in 10 minutes before delays double.
    pub guesses: u32,
    /// `lookup_timeout` (5 s).
    pub lookup_timeout: Duration,
    /// `lookups` (256) in flight.
    pub lookups: usize,
    /// `message_size` (50 MiB): of one letter.
    pub message_size: usize,
    /// `recipients` (1000) of one letter.
    pub recipients: usize,
    /// `drain` (30 s): how long sessions may go on after the order to stop.
    pub drain: Duration,
    /// `upgrade_drain` (1 d): how long sessions may go on in the old process after an upgrade.
    pub upgrade_drain: Duration,
}

impl Limits {
    /// Many share this address: what counts by address does not hold for it.
    pub fn is_exempt(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.exempt.iter().any(|net| net.contains(&ip))
    }
}

impl fmt::Debug for UsersBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsersBlock")
            .field("name", &self.name)
            .field("driver", &self.driver)
            .field("protocols", &self.protocols)
            .field("username_format", &self.username_format)
            .field("default_fields", &Hidden(&self.default_fields))
            .field("override_fields", &Hidden(&self.override_fields))
            .field("result_success", &self.result_success)
            .field("result_failure", &self.result_failure)
            .field("result_internalfail", &self.result_internalfail)
            .field("skip", &self.skip)
            .field("deny", &self.deny)
            .field("own", &self.own)
            .field("at", &self.at)
            .finish()
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Own::Text(text) => f.debug_tuple("Text").field(text).finish(),
            Own::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Own::Fields(fields) => f.debug_tuple("Fields").field(&Hidden(fields)).finish(),
        }
    }
}
