//! Who is this? Peers that do not speak our protocol, recognised by the first octets they send.
//!
//! A browser that was steered here, a TLS handshake on a port that is in clear, or the PROXY header of somebody who may not
//! send one: each says so at once, and no mail client begins like that. Such a peer is dropped without a word, so that
//! nothing of what it brought is ever read as commands (ALPACA), and nobody learns that a header was understood.
//!
//! The verdict does not depend on how the octets arrived. Its price: a peer that begins with nothing but line ends is
//! answered when it says something else, because a PROXY header of version 2 begins like that too.
//!
//! PROXY protocol: sections 2.1 and 2.2 of its specification, which asks to tell the two by exactly these octets. Headers of
//! those who may send one are taken out of the stream before any front sees it.

use crate::machine::Fault;

/// Whether the peer may be listened to: `false` while too little is here to tell. Nothing is consumed.
///
/// `http` is the rule for logs where it speaks HTTP, such as `http-on-imap`.
///
/// # Errors
/// The peer speaks HTTP or TLS, or sends a PROXY header; drop it without a word.
pub fn looked_at(input: &[u8], http: &'static str) -> Result<bool, Fault> {
    let is = |known: &[&[u8]]| known.iter().any(|start| input.starts_with(start));
    if is(&METHODS) {
        Err(Fault::peer(http, "the client speaks HTTP"))
    } else if is(&HANDSHAKES) {
        Err(Fault::peer("tls-in-clear", "the client speaks TLS where it is not expected"))
    } else if is(&PROXY_HEADERS) {
        Err(Fault::peer("proxy-header", "the client sends a PROXY header, and may not"))
    } else {
        let mut all = METHODS.iter().chain(&HANDSHAKES).chain(&PROXY_HEADERS);
        Ok(!all.any(|start| start.starts_with(input)))
    }
}

const METHODS: [&[u8]; 10] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"CONNECT ", b"TRACE ", b"PRI "];

const HANDSHAKES: [&[u8]; 1] = [b"\x16\x03"];

const PROXY_HEADERS: [&[u8]; 4] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n"];

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(input: &[u8]) -> Result<bool, &'static str> {
        looked_at(input, "http-here").map_err(|fault| fault.rule)
    }

    #[test]
    fn each_stranger_is_known_by_its_first_words_and_not_before() {
        for (input, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], "http-here"),
            (b"POST /", "http-here"),
            (b"PRI * HTTP/2.0\r\n", "http-here"),
            (b"\x16\x03\x01\x02\0", "tls-in-clear"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "proxy-header"),
            (b"PROXY TCP6 ::1 ::1 1 2\r\n", "proxy-header"),
            (b"PROXY UNKNOWN\r\n", "proxy-header"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "proxy-header"),
        ] {
            let verdicts: Vec<_> = (0..=input.len()).map(|end| rule(&input[..end])).collect();
            let known = verdicts.iter().position(|verdict| *verdict == Err(expected)).expect("recognised");
            assert!(verdicts[..known].iter().all(|verdict| *verdict == Ok(false)), "{}", input.escape_ascii());
            assert!(verdicts[known..].iter().all(|verdict| *verdict == Err(expected)), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn everybody_else_is_listened_to() {
        for input in [
            &b"a1 NOOP\r\n"[..],
            b"get / HTTP/1.1\r\n",
            b"PASS x",
            b"PRIX",
            b"PROXY TCP5 ",
            b"PROXY UDP4 ",
            b"\r\n\r\n\r",
            b"\r\nCAPA\r\n",
            b"\x16\x02",
            b"\0",
        ] {
            assert_eq!(rule(input), Ok(true), "{}", input.escape_ascii());
        }
    }
}
