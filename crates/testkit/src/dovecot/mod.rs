//! Real Dovecot 2.3 servers with private everything: configuration, sockets, state, logs, mail and ports.
//!
//! [`Backend`] is where mail lives and what a proxied login ends at. [`Proxy`] is the program that Gatepost replaces,
//! to compare with and to stand in front of Gatepost. Both need root, because Dovecot drops its rights to several users.
//!
//! Facts about Dovecot 2.3.19 that these fixtures live with:
//!
//! * `imap_id_log = *` logs all pairs of an ID command, also the `x-` ones, and also those it does not believe. So that
//!   line proves what was said; the `rip=` of the same connection proves what was believed.
//! * The others have no such line: XCLIENT is not logged. The `rip=` and `forward_` of the `Login:` line prove what was
//!   believed; the `forward_fields=` of the auth client's debug line is the same once more.
//! * Submission is a relay: its process connects to the next server while a login is answered, so without one nobody can
//!   sign in. Before TLS it offers strangers `AUTH` without any mechanism, and ManageSieve offers `"SASL" ""`.
//! * The Submission proxy says its own `hostname` in EHLO, pipelines the EHLO behind XCLIENT, and writes an IPv6 address
//!   there without `IPV6:`.
//! * LMTP looks a user up without a password, as `master in: USER` of the auth log, or `PASS` where it proxies: with `rip=` and
//!   `rport=` that XCLIENT named and with `forward_fields=` of XRCPTFORWARD, which is a parameter of RCPT with tab-joined pairs
//!   in xtext. Both are offered to trusted peers only, also where there is no proxying; from others they are `550 5.7.14`.
//! * By LMTP the name in the last LHLO counts, and not HELO of the XCLIENT before it, nor PROTO: `Received` says `with LMTP`
//!   or `LMTPS`. SESSION is the id in `Received`, in the log and in the replies; further recipients have `:R2` and so on behind
//!   it, further transactions `:T2`.
//! * Mail by LMTP has `Return-Path`, and `Delivered-To` only if the transaction has one recipient. It offers neither SIZE nor
//!   DSN nor SMTPUTF8. Delivery is to `new`, with LF line ends, complete when the reply comes.
//! * The LMTP proxy says `XCLIENT HELO= PROTO=LMTP SESSION=ID:P1 TTL= PORT= ADDR=`, with the HELO of the XCLIENT that it was told
//!   itself, and XRCPTFORWARD with what it was told in front of what its row adds. It sends one chunk, and agrees to MAIL before
//!   it asks the next server, whose no to that is the answer to RCPT.
//! * The LMTP proxy keeps the detail of a rewritten address (`someone+box` becomes `destuser+box@in.test`), says its own
//!   `hostname` in LHLO, and replaces a yes of the backend with `250 2.0.0 <ADDRESS> SESSION Saved`.
//! * A PROXY header is only read from `haproxy_trusted_networks`, and must come in one segment within 3 seconds. From
//!   others, and without a header, the connection is closed.
//! * A connection whose two ends have the same address counts as secured, so LOGIN without TLS from 127.0.0.1 to
//!   127.0.0.1 always works. Connect from 127.0.0.2 to be a stranger.
//! * Each failed login makes the next one from the same address wait 4, 8, then 15 seconds. The penalty is switched off
//!   here by taking away the socket it is asked on, the way the documentation of that feature recommends.
//! * The log file has no marker for "ready". The line `starting up for` is written after all listeners are bound; a
//!   port in use is reported before it and ends the master.

mod backend;
mod instance;
mod maildir;
mod proxy;
mod refusal;

pub use backend::{Backend, Options};
pub use instance::{Addresses, Instance};
pub use maildir::sample;
pub use proxy::{Leg, Proxy, ProxyOptions};
pub use refusal::Refusal;
