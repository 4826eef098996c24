//! The program as its users run it: the built binary between real and scripted peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod addresses;
mod admin;
mod clients;
mod death;
mod delivery_trouble;
mod demo;
mod doctor;
mod documents;
mod doveadm;
mod dovecot_backend;
mod dovecot_front;
mod exim_backend;
mod explained;
mod fields;
mod gate;
mod haproxy;
mod hops;
mod hostile_clients;
mod identity;
mod injection;
mod letters;
mod life;
mod limits;
mod lmtp;
mod logs;
mod mail_connections;
mod mail_dovecot;
mod mail_postfix;
mod mail_routes;
mod mail_servers;
mod metrics;
mod misbehave;
mod moving;
mod nginx_front;
mod page;
mod postfix_backend;
mod privileges;
mod proxy_protocol;
mod proxy_protocol_out;
mod rcpt_explained;
mod reloads;
mod seeds;
mod senders;
mod sending;
mod sieve_clients;
mod situations;
mod smuggling;
mod sources;
mod status;
mod stream;
mod supervised;
mod through;
mod trace;
mod unix_sockets;
mod upgrade;
mod verbs;
mod vouched;
mod vouching;
mod xclient_said;
