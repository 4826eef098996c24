//! TLS with the client: the handshake, and what is known of the connection by it.

use super::house::Phase;
use super::record::Secured;
use super::talk::Talk;
use crate::backend::seen;
use crate::journal::Level;
use crate::witness::Ear;
use bytes::BytesMut;
use relay::TlsErrorKind;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use wire::origin::ClientTls;

impl Talk<'_> {
    /// How the connection is protected, as long as it is not by TLS with us.
    pub(crate) fn secured(&self) -> Secured {
        let here = self.who.origin.client.0.ip() == self.who.origin.reached.0.ip();
        match self.who.protected() {
            true => Secured::Tls,
            false if here || self.who.trust.is_some() => Secured::Local,
            false => Secured::No,
        }
    }

    /// Shakes hands with the client. `None`: it failed, is logged, and the connection is gone.
    pub(crate) async fn secure(&mut self, input: &BytesMut, deadline: Instant) -> Option<()> {
        let acceptor = self.live.acceptor(self.door.protocol).map(Arc::clone);
        let (Some(acceptor), Some(conn)) = (acceptor, self.conn.take()) else {
            self.record.left(&self.house.journal, Level::Error, "tls", &"no certificate is configured ([tls] certificates)");
            return None;
        };
        let by = deadline.min(Instant::now() + self.live.meant.limits.tls_handshake_timeout);
        let mut phase = self.house.phase.clone();
        let shaken = tokio::select! {
            shaken = timeout_at(by, acceptor.accept(conn, input)) => shaken,
            () = Phase::Closing.reached(&mut phase) => {
                self.record.left(&self.house.journal, Level::Info, "shutting-down", &"in the middle of its TLS handshake");
                return None;
            }
            () = self.entry.kicked() => {
                self.record.left(&self.house.journal, Level::Info, "kicked", &"in the middle of its TLS handshake");
                return None;
            }
        };
        match shaken {
            Ok(Ok((conn, facts))) => {
                let (version, cipher) = (Some(facts.version.to_string()), Some(facts.cipher.to_string()));
                self.who.shook_hands(facts.sni.as_ref(), &ClientTls { version, cipher, common_name: None });
                if let Some(tap) = &self.record.tap {
                    tap.hear(seen::shaken("client-tls", &facts));
                }
                self.conn = Some(conn);
                self.tls = Some(facts);
                self.record.secured = Secured::Tls;
                Some(())
            }
            Ok(Err(e)) => {
                // Health checks and floods connect and leave: not worth a line of everybody's log.
                let left = matches!(e.kind, TlsErrorKind::Closed | TlsErrorKind::Io);
                let level = if left { Level::Debug } else { Level::Info };
                self.record.left(&self.house.journal, level, "tls", &e);
                None
            }
            Err(_) => {
                self.record.left(&self.house.journal, Level::Info, "tls", &"no handshake within limits.tls_handshake_timeout");
                None
            }
        }
    }
}
