//! Where we are in what the backend says, after login: may a line of ours be put in here?
//!
//! When a backend dies or an administrator ends a session, a client is better served by `* BYE` than by a dropped
//! connection. But a line in the middle of a literal would become part of somebody's mail, and one in the middle of a
//! compressed stream would be noise. [`Position`] follows the stream just closely enough to know: lines, and the literals
//! announced at their ends, which are skipped by counting. It understands nothing else and keeps nothing.
//!
//! It promises to err on the safe side. A control character other than TAB, a bare CR or LF, a line of more than 64 KiB, or
//! a literal with an impossible size, and it is lost for good; after the backend's own BYE no second one is said. The
//! verdict does not depend on how the octets arrived.
//!
//! One gap is known: right behind the backend's OK to COMPRESS, and before its first compressed octet, it still says that
//! it is safe, because it does not see what the client asked.

use memchr::{memchr, memrchr};

/// A place in the stream from server to client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Octets of a literal that are still to come, or, while a line ends in `{123`, the number so far.
    count: u64,
    /// Octets since the last CRLF or literal.
    line: u32,
    at: At,
    brace: Brace,
    /// How many octets of [`BYE`] the line began with, while it can still become one; [`NO_BYE`] otherwise.
    bye: u8,
}

/// What the next octet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Inside,
    /// Behind the CR of a CRLF.
    Cr,
    Literal,
    /// The backend has said BYE.
    Done,
    Lost,
}

/// How much of `{123+}` the line ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brace {
    None,
    Open,
    Digits,
    Plus,
    Closed,
}

const BYE: &[u8] = b"* BYE";
const NO_BYE: u8 = u8::MAX;
const LINE_MAX: u32 = 64 * 1024;

impl Default for Position {
    fn default() -> Self {
        Position::new()
    }
}

impl Position {
    /// Right behind our own welcome line.
    pub fn new() -> Self {
        Position { count: 0, line: 0, at: At::Start, brace: Brace::None, bye: 0 }
    }

    /// These octets went to the client.
    pub fn saw(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = match self.at {
                At::Lost | At::Done => return,
                At::Literal => self.skip_literal(rest),
                At::Start | At::Inside | At::Cr => self.follow_line(rest),
            };
        }
    }

    /// Whether a line may be put in here.
    pub fn is_safe(&self) -> bool {
        self.at == At::Start
    }

    fn skip_literal<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.count).unwrap_or(usize::MAX).min(rest.len());
        self.count = self.count.saturating_sub(length as u64);
        if self.count == 0 {
            self.at = At::Inside;
        }
        rest.get(length..).unwrap_or_default()
    }

    /// Takes the octets up to a CR, or that CR's LF.
    fn follow_line<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        if self.at == At::Cr {
            let Some((b'\n', rest)) = rest.split_first() else { return self.lost() };
            self.end_line();
            return rest;
        }
        let length = memchr(b'\r', rest).unwrap_or(rest.len());
        let (text, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        self.follow_bye(text);
        if self.at == At::Done {
            return &[];
        }
        // Without a branch, so that the compiler can look at many octets at once.
        if text.iter().fold(false, |bad, octet| bad | ((*octet < b' ') & (*octet != b'\t')) | (*octet == 0x7f)) {
            return self.lost();
        }
        self.line = self.line.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
        if self.line > LINE_MAX {
            return self.lost();
        }
        self.follow_brace(text);
        if !text.is_empty() {
            self.at = At::Inside;
        }
        match behind.split_first() {
            Some((_, behind)) => {
                self.at = At::Cr;
                behind
            }
            None => &[],
        }
    }

    fn end_line(&mut self) {
        let literal = self.brace == Brace::Closed;
        self.line = 0;
        self.brace = Brace::None;
        // What follows a literal is the same response, not the start of one.
        self.bye = if literal { NO_BYE } else { 0 };
        self.at = match (literal, self.count) {
            (false, _) => At::Start,
            (true, 0) => At::Inside,
            (true, u64::MAX) => At::Lost,
            (true, _) => At::Literal,
        };
        if !literal {
            self.count = 0;
        }
    }

    /// Whether the line begins with `* BYE`, as far as it is known.
    fn follow_bye(&mut self, text: &[u8]) {
        for octet in text.iter().take(BYE.len()) {
            match BYE.get(usize::from(self.bye)) {
                Some(expected) if expected.eq_ignore_ascii_case(octet) => self.bye = self.bye.saturating_add(1),
                _ => self.bye = NO_BYE,
            }
            if usize::from(self.bye) == BYE.len() {
                self.at = At::Done;
                return;
            }
        }
    }

    /// Whether the line ends in a literal's size, as far as it is known.
    fn follow_brace(&mut self, text: &[u8]) {
        // Only what stands behind the last brace can count.
        let fresh = match memrchr(b'{', text) {
            Some(open) => {
                self.brace = Brace::Open;
                self.count = 0;
                text.get(open.saturating_add(1)..).unwrap_or_default()
            }
            None => text,
        };
        for octet in fresh {
            self.brace = match (self.brace, octet) {
                (Brace::None, _) => return,
                (Brace::Open | Brace::Digits, b'0'..=b'9') => {
                    let digit = u64::from(octet.wrapping_sub(b'0'));
                    // Too big a number stays at the top, where the end of the line finds it.
                    self.count = self.count.saturating_mul(10).saturating_add(digit);
                    Brace::Digits
                }
                (Brace::Digits, b'+') => Brace::Plus,
                (Brace::Digits | Brace::Plus, b'}') => Brace::Closed,
                _ => Brace::None,
            };
        }
    }

    fn lost<'a>(&mut self) -> &'a [u8] {
        self.at = At::Lost;
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(octets: &[u8]) -> Position {
        let mut position = Position::new();
        position.saw(octets);
        position
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Position>() <= 24);
    }

    #[test]
    fn safe_only_between_responses() {
        for (octets, safe) in [
            (&b""[..], true),
            (b"* 1 EXISTS\r\n", true),
            (b"* 1 EXISTS", false),
            (b"* 1 EXISTS\r", false),
            (b"\r\n", true),
            (b"* 1 FETCH (BODY[] {5}\r\n", false),
            (b"* 1 FETCH (BODY[] {5}\r\nab\r\n", false),
            (b"* 1 FETCH (BODY[] {5}\r\nab\r\nc", false),
            (b"* 1 FETCH (BODY[] {5}\r\nab\r\nc)", false),
            (b"* 1 FETCH (BODY[] {5}\r\nab\r\nc)\r\n", true),
            (b"* 1 FETCH (BODY[] ~{2}\r\n\0\0)\r\n", true),
            (b"* X {0}\r\n", false),
            (b"* X {0}\r\n\r\n", true),
            (b"* X {2+}\r\nab\r\n", true),
            (b"* X {2}\r\n* {1}\r\nx\r\n", true),
            (b"* X {1}\r\nx {3}\r\n\r\n\0\r\n", true),
            (b"* X {2} \r\n", true),
            (b"* X {x}\r\n", true),
            (b"* X {}\r\n", true),
            (b"* X {+}\r\n", true),
            (b"* X {2+3}\r\n", true),
            (b"* X {{2}\r\n", false),
            (b"* {2 X {a}\r\n", true),
            (b"* OK tab\there \xc3\xa4\r\n", true),
        ] {
            assert_eq!(after(octets).is_safe(), safe, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn lost_is_lost_forever() {
        let long = [b'a'; 64 * 1024 + 1];
        for octets in [
            &b"* OK \0\r\n"[..],
            b"* OK \x1b[2J\r\n",
            b"* OK \x7f\r\n",
            b"* OK\n",
            b"* OK\rx\r\n",
            b"\r\r\n",
            b"* X {18446744073709551616}\r\n",
            &long,
            b"x\x9c\x01\x02",
        ] {
            let mut position = after(octets);
            position.saw(b"\r\n* OK\r\n");
            assert_eq!(position.at, At::Lost, "{}", octets.escape_ascii());
        }
        let fits = [&[b'a'; 64 * 1024][..], b"\r\n"].concat();
        assert!(after(&fits).is_safe());
    }

    #[test]
    fn one_bye_is_enough() {
        for octets in [&b"* BYE"[..], b"* bye see you\r\n", b"* OK\r\n* BYE x\r\n* OK\r\n"] {
            assert!(!after(octets).is_safe(), "{}", octets.escape_ascii());
        }
        for octets in [&b"* BY\r\n"[..], b"*  BYE\r\n", b"a OK * BYE\r\n", b"* X {1}\r\nx* BYE\r\n", b"* X {7}\r\n* BYE\r\n\r\n"]
        {
            assert!(after(octets).is_safe(), "{}", octets.escape_ascii());
        }
    }

    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"* BYE".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"* 1 FETCH (X ".to_vec()),
            (0u8..20).prop_map(|n| format!("{{{n}}}\r\n").into_bytes()),
            Just(b"{3+".to_vec()),
            Just(b"}".to_vec()),
            Just(b"99999999999".to_vec()),
            proptest::collection::vec(b' '..=b'~', 0..12),
            proptest::collection::vec(any::<u8>(), 0..2),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in likely(), mut cuts in proptest::collection::vec(0usize..200, 0..20)) {
            cuts.sort_unstable();
            let mut position = Position::new();
            let mut start = 0;
            for end in cuts.into_iter().filter(|end| *end <= octets.len()).chain([octets.len()]) {
                position.saw(&octets[start..end]);
                start = end;
            }
            let mut slow = Position::new();
            octets.iter().for_each(|octet| slow.saw(&[*octet]));
            let whole = after(&octets);
            prop_assert_eq!(position.at, whole.at);
            prop_assert_eq!(slow.at, whole.at);
        }
    }
}
