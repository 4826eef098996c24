//! `[tls]`: what we show to clients. The files are looked at for being readable; what is in them is for the acceptor.

use crate::config::kinds;
use crate::config::meant::{Certificate, Tls};
use crate::config::reading::{Reading, Section};

/// The most certificates.
const MOST: usize = 10_000;

/// The meaning, and whether certificates are written at all, right or wrong.
pub(super) fn read(r: &mut Reading<'_>, section: &mut Section) -> (Tls, bool) {
    let mut certificates = Vec::new();
    // A wrong entry is told by itself; listeners need not complain as well.
    let mut written = section.has("certificates");
    if let Some(blocks) = section.sections(r, "certificates", MOST) {
        written = !blocks.is_empty();
        for mut block in blocks {
            let has = (block.has("cert"), block.has("key"));
            let cert = block.read(r, "cert", kinds::file);
            let key = block.read(r, "key", kinds::key_file);
            for (has, name) in [(has.0, "cert"), (has.1, "key")] {
                if !has {
                    let fix = "each entry is { cert = \"chain.pem\", key = \"key.pem\" }";
                    r.error_fix(block.at, "missing", format!("this certificate has no `{name}`"), fix);
                }
            }
            if let (Some(cert), Some(key)) = (cert, key) {
                certificates.push(Certificate { cert: cert.value, key: key.value });
            }
            block.finish(r);
        }
    }
    let alpn_strict = section.read_or(r, "alpn_strict", kinds::boolean, true);
    (Tls { certificates, alpn_strict }, written)
}
