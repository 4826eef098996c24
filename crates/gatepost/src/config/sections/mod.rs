//! What each table means, one file per table: its keys, their ranges, their defaults, and what the table's own values say about
//! each other. What spans tables is passed in by [`meant`], which is also the order of the tables in `gatepost show`.

mod address;
mod admin;
mod backend;
mod greeting;
mod host;
mod imap;
mod limits;
mod listen;
mod lmtp;
mod local;
mod log;
mod managesieve;
mod names;
mod pop3;
mod protocol;
mod server;
mod source_ips;
mod submission;
mod tls;
mod trust;
mod unix_socket;
mod users;

pub(super) use admin::default_admin;
pub(crate) use backend::default_backend;
pub(super) use imap::default_imap;
pub(crate) use limits::default_limits;
pub(super) use lmtp::default_lmtp;
pub(super) use log::{DEFAULT_FACILITY, default_log, default_socket};
pub(super) use managesieve::default_managesieve;
pub(super) use pop3::default_pop3;
pub(super) use server::default_server;
pub(super) use submission::default_submission;
/// The words of each key that takes one of several, for reading and for writing.
pub(super) mod words {
    pub(in super::super) use super::backend::{LOGIN, PROXY as BACKEND_PROXY, REFUSED, TLS as BACKEND_TLS};
    pub(in super::super) use super::listen::{BARE_NEWLINE, CLEARTEXT_AUTH, PROXY as LISTEN_PROXY, TLS as LISTEN_TLS, XCLIENT};
    pub(in super::super) use super::log::{FACILITY, FORMAT, LEVEL, TARGET};
    pub(in super::super) use super::trust::BEFORE_TLS;
    pub(in super::super) use super::users::{SKIP, THEN};
}

use super::meant::Meant;
use super::reading::{Reading, Section};

/// Tables that a later version brings.
const LATER: &[&str] = &[
    "connection",
    "oauth2_app",
    "spool",
    "inbound",
    "check",
    "checks",
    "policy",
    "delivery",
    "pool",
    "pools",
    "cluster",
    "metrics",
    "cache",
];

/// Takes the whole file for its meaning. Where something is wrong it is told, and a default stands in.
pub(super) fn meant(r: &mut Reading<'_>, mut root: Section) -> Meant {
    let mut server = root.section(r, "server");
    let server_meant = server::read(r, &mut server);
    server.finish(r);
    let mut tls = root.section(r, "tls");
    let (tls_meant, certificates_written) = tls::read(r, &mut tls);
    tls.finish(r);
    let mut trust = root.section(r, "trust");
    let (trust_meant, balancers) = trust::read(r, &mut trust);
    trust.finish(r);
    let terms = listen::Terms { certificates: certificates_written, trusted: !trust_meant.networks.is_empty(), balancers };
    let listen = listen::read(r, &mut root, &terms);
    let users = users::read(r, &mut root);
    let mut backend = root.section(r, "backend");
    let backend_meant = backend::read(r, &mut backend, &listen);
    backend.finish(r);
    let mut protocol = root.section(r, "protocol");
    let mut imap = protocol.section(r, "imap");
    let imap_meant = imap::read(r, &mut imap, &server_meant.name);
    imap.finish(r);
    let mut pop3 = protocol.section(r, "pop3");
    let pop3_meant = pop3::read(r, &mut pop3, &server_meant.name);
    pop3.finish(r);
    let mut managesieve = protocol.section(r, "managesieve");
    let managesieve_meant = managesieve::read(r, &mut managesieve, &server_meant.name);
    managesieve.finish(r);
    let mut submission = protocol.section(r, "submission");
    let submission_meant = submission::read(r, &mut submission);
    submission.finish(r);
    let mut lmtp = protocol.section(r, "lmtp");
    let lmtp_meant = lmtp::read(r, &mut lmtp);
    lmtp.finish(r);
    protocol.later(r, r.catalog.later_protocols);
    protocol.finish(r);
    let mut limits = root.section(r, "limits");
    let limits_meant = limits::read(r, &mut limits);
    limits.finish(r);
    let mut log = root.section(r, "log");
    let log_meant = log::read(r, &mut log);
    log.finish(r);
    let mut admin = root.section(r, "admin");
    let admin_meant = admin::read(r, &mut admin);
    admin.finish(r);
    root.later(r, LATER);
    root.finish(r);
    Meant {
        server: server_meant,
        tls: tls_meant,
        trust: trust_meant,
        listen,
        users,
        backend: backend_meant,
        imap: imap_meant,
        pop3: pop3_meant,
        managesieve: managesieve_meant,
        submission: submission_meant,
        lmtp: lmtp_meant,
        limits: limits_meant,
        log: log_meant,
        admin: admin_meant,
    }
}
