//! The small spellings that more than one protocol needs: base64 for secrets, and text that is fit to be shown.
//!
//! Promises: base64 is strict (the standard alphabet, padding where it belongs, no stray bits), so that one value has one
//! spelling; what is shown, to a log or to a person, is one line without control characters and has an end.
//! Values are never *made* fit for a wire here: a protocol's own writer refuses what it cannot say.

use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

/// Decodes base64 (RFC 4648 section 4) strictly; `None` where it is not exactly that. Whatever was decoded is wiped on drop.
pub fn base64_decode(text: &[u8]) -> Option<Secret<Vec<u8>>> {
    let mut octets = vec![0; base64::decoded_len_estimate(text.len())];
    match STANDARD.decode_slice(text, &mut octets) {
        Ok(length) => {
            octets.truncate(length);
            Some(Secret::new(octets))
        }
        Err(_) => {
            octets.zeroize();
            None
        }
    }
}

/// Encodes in base64 (RFC 4648 section 4), with padding. The result is as secret as the value.
pub fn base64_encode(octets: &[u8]) -> Secret<Vec<u8>> {
    let mut text = vec![0; octets.len().div_ceil(3).saturating_mul(4)];
    // The buffer has the exact size, which is the one thing that can go wrong here.
    let length = STANDARD.encode_slice(octets, &mut text).unwrap_or(0);
    text.truncate(length);
    Secret::new(text)
}

/// Octets from a peer as text for a log: printable ASCII as it is, everything else as `\xNN`, a backslash doubled, and at
/// most `max` octets long (three dots mark the cut).
pub fn escaped(octets: &[u8], max: usize) -> String {
    let mut text = String::new();
    for octet in octets {
        let start = text.len();
        match octet {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*octet)),
            _ => text.push_str(&format!("\\x{octet:02x}")),
        }
        if text.len() > max {
            // ASCII only, so every offset is a boundary.
            text.truncate(start.min(max.saturating_sub(3)));
            text.push_str("...");
            break;
        }
    }
    text
}

/// Text as a part of a URL or of a response code: what is not unreserved (RFC 3986 section 2.3) as `%NN`, so that nothing in
/// it can mean anything there.
pub fn percent_encoded(text: &str) -> String {
    let octet = |octet: u8| match octet {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    text.bytes().map(octet).collect()
}

/// Text as it may be shown to a person at the end of a protocol line: one line, no control characters, nothing that turns
/// the reading direction, at most `max` octets. Leading opening brackets go, lest the text be read as a response code.
pub fn one_line(text: &str, max: usize) -> String {
    let mut shown = String::new();
    for c in text.trim_start_matches(|c: char| c == '[' || c.is_whitespace() || c.is_control()).chars() {
        let c = if is_invisible(c) { '?' } else { c };
        if shown.len().saturating_add(c.len_utf8()) > max {
            break;
        }
        shown.push(c);
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// Characters that have no place in a name or in one line of text: C0, DEL, C1, line and paragraph separators, and the
/// controls of bidirectional text (Unicode UAX #9), with which one name can be made to look like another.
pub fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_strict() {
        for (text, expected) in [
            ("", Some(&b""[..])),
            ("AGEAYg==", Some(b"\0a\0b")),
            ("YWJj", Some(b"abc")),
            ("YWJ", None),
            ("YQ=", None),
            ("YQ", None),
            ("YR==", None),
            ("YQ==YQ==", None),
            ("YQ== ", None),
            ("Y-_=", None),
            ("=", None),
            ("\0", None),
        ] {
            let decoded = base64_decode(text.as_bytes());
            assert_eq!(decoded.as_ref().map(|secret| secret.expose().as_slice()), expected, "{text}");
        }
        for value in [&b""[..], b"a", b"ab", b"abc", &[0xff; 100]] {
            assert_eq!(base64_decode(base64_encode(value).expose()).unwrap().expose(), value);
        }
    }

    #[test]
    fn logs_stay_one_line() {
        assert_eq!(escaped(b"a\\b\r\n\x1b\xff", 64), "a\\\\b\\x0d\\x0a\\x1b\\xff");
        assert_eq!(escaped(&[b'a'; 10], 10), "aaaaaaaaaa");
        for length in 0..40 {
            for max in 3..30 {
                let text = escaped(&vec![if length % 3 == 0 { 0 } else { b'a' }; length], max);
                assert!(text.len() <= max, "{text} {max}");
            }
        }
        assert_eq!(escaped(&[b'a'; 11], 10), "aaaaaaa...");
    }

    #[test]
    fn encoded_text_means_nothing() {
        assert_eq!(percent_encoded("Joe-1._~"), "Joe-1._~");
        assert_eq!(percent_encoded("j@b]/ %\r\nä"), "j%40b%5D%2F%20%25%0D%0A%C3%A4");
    }

    #[test]
    fn shown_text_is_one_line_and_no_code() {
        assert_eq!(one_line("Grüße, bitte\r\nwarten", 64), "Grüße, bitte??warten");
        assert_eq!(one_line(" [[ALERT] x\u{202e}y ", 64), "ALERT] x?y");
        assert_eq!(one_line("äää", 5), "ää");
    }
}
