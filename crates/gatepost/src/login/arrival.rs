//! Whose connection this is, before anybody says a word: the peer's of the socket, or of whom a balancer's PROXY header tells.
//!
//! A header is believed of the peers in `trust.proxy_protocol` alone, and asked for only where the listener says so. Two lists
//! stay apart: to be in that one gives no right to speak for clients by ID or XCLIENT, which is tested on the header's client.

use super::guard::Net;
use super::house::{House, Phase};
use super::limits::Limit;
use super::session::{Talk, too_many_knocks};
use crate::config::meant::{ListenProxy, ListenTls};
use crate::journal::Level;
use bytes::BytesMut;
use relay::head::{Head, HeadError, read_head};
use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use wire::login::Goodbye;
use wire::origin::Transport;
use wire::origin::haproxy::{self, Header, Progress, Protection, Proxied};
use wire::origin::trust::TrustedPeer;

/// Time for a PROXY header, from accept.
const PROXY_HEADER: Duration = Duration::from_secs(5);

impl Talk<'_> {
    /// Learns whose connection this is: the socket's peer's, or of whom a balancer's PROXY header tells. `None`: it is over.
    ///
    /// Who may send a header is decided by the address alone, before the first byte; nobody hears a word before it is read.
    pub(super) async fn arrive(&mut self, deadline: Instant) -> Option<()> {
        let proof = match self.door.proxy_protocol {
            ListenProxy::Off => None,
            ListenProxy::Required | ListenProxy::Mixed => self.live.proxies.admit(self.origin.real_client.0.ip()),
        };
        match &proof {
            None if self.door.proxy_protocol == ListenProxy::Required => {
                let text = "a peer that is not in trust.proxy_protocol, where all must be";
                // Told in sum: scanners must not fill the journal, and a balancer that was forgotten must not go unseen.
                self.house.strangers.fetch_add(1, Ordering::Relaxed);
                *self.house.last_stranger.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.origin.real_client.0.ip());
                self.record.left(&self.house.journal, Level::Debug, "proxy-protocol", &text);
                return None;
            }
            None => {}
            Some(proof) => {
                let header = self.header(deadline).await?;
                self.behind_balancer = true;
                match header {
                    Header::Proxied(header) => self.believe(&header, proof).await?,
                    // Its own health check, or a client that it cannot name: nobody is to be taken for the balancer itself.
                    Header::Local => return Some(()),
                }
            }
        }
        self.trust = self.live.trusted.admit(self.origin.source.0.ip());
        Some(())
    }

    /// Reads a PROXY header, and not an octet behind it.
    async fn header(&mut self, deadline: Instant) -> Option<Header> {
        let by = deadline.min(Instant::now() + PROXY_HEADER);
        let conn = self.conn.as_mut()?;
        let mut held = BytesMut::new();
        let reading = read_head(conn, &mut held, haproxy::V2_MAX, |octets| {
            haproxy::read(octets).map(|progress| match progress {
                Progress::More => Head::More,
                Progress::Done { header, octets } => Head::Whole(header, octets),
            })
        });
        let mut phase = self.house.phase.clone();
        let read = tokio::select! {
            read = timeout_at(by, reading) => read,
            () = Phase::Closing.reached(&mut phase) => return None,
        };
        let journal = &self.house.journal;
        match read {
            Ok(Ok(header)) => return Some(header),
            Ok(Err(HeadError::Refused(fault))) => self.record.left(journal, Level::Warning, fault.rule, &fault.detail),
            // Balancers that only look whether the port is open leave without a header.
            Ok(Err(HeadError::Closed)) if held.is_empty() => {
                self.record.left(journal, Level::Debug, "closed", &"before its PROXY header")
            }
            Ok(Err(e)) => self.record.left(journal, Level::Info, "proxy-header", &e),
            Err(_) => {
                let seconds = PROXY_HEADER.as_secs();
                self.record.left(journal, Level::Warning, "proxy-header", &format_args!("not here within {seconds} s"));
            }
        }
        None
    }

    /// Takes over what a balancer tells of its client.
    async fn believe(&mut self, header: &Proxied, proof: &TrustedPeer) -> Option<()> {
        self.origin.carried(header, proof);
        self.record.tell(&self.origin);
        let in_clear = header.protection == Some(Protection::Clear);
        self.shielded = matches!(header.protection, Some(Protection::Tls(_)));
        if self.door.tls == ListenTls::Offloaded && !in_clear {
            // The operator's word for a balancer that does not say it itself.
            self.shielded = true;
            self.origin.transport = Some(Transport::Tls);
        }
        self.born = self.origin.clone();
        self.record.note(&self.house.journal, Level::Debug, "proxy-protocol", &Told(header));
        if let Some(alpn) = &header.alpn
            && self.live.meant.tls.alpn_strict
            && !self.door.protocol.alpn.iter().any(|id| id.as_bytes() == alpn)
        {
            let text = format_args!("the balancer agreed on ALPN {} with the client", alpn.escape_ascii());
            self.record.left(&self.house.journal, Level::Info, "alpn", &text);
            return None;
        }
        if self.knock_for_client() {
            return Some(());
        }
        let text = too_many_knocks(self.live.meant.limits.connections_before_login);
        // Counted and told in sum: one client must not fill the journal.
        self.record.left(&self.house.journal, Level::Debug, "limit", &text);
        let clear = self.door.tls != ListenTls::Implicit;
        self.last_words(if clear { (self.door.protocol.goodbye)(Goodbye::TooManyConnections) } else { &[] }).await;
        None
    }

    /// From here on another address is the client's: the place before login is counted there. False: it has too many.
    pub(super) fn knock_for_client(&mut self) -> bool {
        let moved = self.origin.speaks_for_another() || self.origin.source != self.origin.real_client;
        let trusted_itself = !self.origin.speaks_for_another() && self.live.trusted.admit(self.origin.source.0.ip()).is_some();
        let (ip, limits) = (self.origin.client.0.ip(), &self.live.meant.limits);
        let exempt = !moved || trusted_itself || limits.is_exempt(ip);
        self.knock = self.house.guard.knock(ip, (!exempt).then_some(limits.connections_before_login));
        if let Some(near) = self.knock.as_ref().and_then(|knock| knock.near) {
            tell_knocks(self.house, near, limits.connections_before_login);
        }
        self.knock.is_some()
    }

    /// The client is a process of this host: the same address on both ends, or a loopback one. Who comes through a balancer is
    /// not, wherever the balancer runs.
    pub(super) fn local_client(&self) -> bool {
        let (client, own) = (self.origin.real_client.0.ip(), self.origin.real_reached.0.ip());
        !self.behind_balancer && (client.is_loopback() || client == own)
    }

    /// Nobody can listen on the client's connection.
    pub(super) fn protected(&self) -> bool {
        self.tls.is_some() || self.shielded
    }
}

/// A network has nearly as many connections before login as it may have.
pub fn tell_knocks(house: &House, (net, number): (Net, usize), limit: usize) {
    let text = format_args!("{net} has {number} of {limit} connections that have not signed in");
    house.warnings.near(&house.journal, Limit::BeforeLogin, &text);
}

/// A header in words for the log. What a balancer says is escaped there.
struct Told<'a>(&'a Proxied);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxied { client, reached, authority, alpn, protection, unique_id } = self.0;
        write!(f, "the balancer tells of {client} at {reached}")?;
        if let Some(name) = authority {
            write!(f, ", name {name}")?;
        }
        match protection {
            None => {}
            Some(Protection::Clear) => f.write_str(", in clear")?,
            Some(Protection::Tls(tls)) => {
                let word = |text: &Option<String>| text.as_deref().unwrap_or("?").to_owned();
                write!(f, ", {} {}", word(&tls.version), word(&tls.cipher))?;
                if let Some(name) = &tls.common_name {
                    write!(f, ", certificate of {name}")?;
                }
            }
        }
        if let Some(alpn) = alpn {
            write!(f, ", ALPN {}", alpn.escape_ascii())?;
        }
        if let Some(id) = unique_id {
            write!(f, ", id {}", id.escape_ascii())?;
        }
        Ok(())
    }
}
