//! Lines under a cap: where the next one ends, and whether it may be called a line at all.
//!
//! Only CRLF ends a line. [`LineScan`] is the one place in this crate that looks for CR and LF, because two readers with
//! two opinions about line ends are how commands get smuggled. It holds no octets: it remembers how far it has looked into
//! a buffer that somebody else owns, so that a peer who sends one octet at a time costs one look per octet.
//!
//! A bare CR or a bare LF is reported at once and once each, and does not end the line: what follows belongs to the same
//! broken line until CRLF comes. So a peer that ends its lines in LF hears about it, and nothing it wrote behind the LF is
//! taken for a line of its own.

use memchr::memchr2;

/// How far the line at the start of a buffer has been looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineScan {
    seen: usize,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No end yet: look again when there is more, at the same start.
    More,
    /// The line has so many octets, and CRLF stands behind them.
    Line(usize),
    /// A bare CR or LF stands at this offset. Looking again goes on behind it, in the same line.
    Bare(usize),
    /// The line has more octets than the cap.
    TooLong,
}

impl LineScan {
    /// Starts at the beginning of a line.
    pub fn new() -> Self {
        LineScan::default()
    }

    /// Looks for the end of the line that begins at `buffer[0]`; `cap` is its longest length in octets, CRLF not counted.
    ///
    /// The verdict does not depend on how the octets arrived. After [`Found::Line`] a new scan must be used.
    pub fn find(&mut self, buffer: &[u8], cap: usize) -> Found {
        let fresh = buffer.get(self.seen..).unwrap_or_default();
        let Some(at) = memchr2(b'\r', b'\n', fresh).map(|offset| self.seen.saturating_add(offset)) else {
            self.seen = buffer.len();
            return if buffer.len() > cap { Found::TooLong } else { Found::More };
        };
        if at > cap {
            return Found::TooLong;
        }
        let behind = at.saturating_add(1);
        match (buffer.get(at), buffer.get(behind)) {
            (Some(b'\r'), Some(b'\n')) => {
                self.seen = behind.saturating_add(1);
                Found::Line(at)
            }
            (Some(b'\r'), None) => {
                // Its LF may be on the way.
                self.seen = at;
                Found::More
            }
            _ => {
                self.seen = behind;
                Found::Bare(at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All verdicts until the line ends, is too long, or the octets do; fed in pieces that end where `cuts` says.
    fn verdicts(octets: &[u8], cap: usize, cuts: &[usize]) -> Vec<Found> {
        let mut scan = LineScan::new();
        let mut found = Vec::new();
        for end in cuts.iter().copied().filter(|end| *end <= octets.len()).chain([octets.len()]) {
            loop {
                match scan.find(&octets[..end], cap) {
                    Found::More => break,
                    bare @ Found::Bare(_) => found.push(bare),
                    last => {
                        found.push(last);
                        return found;
                    }
                }
            }
        }
        found
    }

    #[test]
    fn only_crlf_ends_a_line() {
        for (octets, expected) in [
            (&b"ab\r\ncd"[..], vec![Found::Line(2)]),
            (b"\r\n", vec![Found::Line(0)]),
            (b"ab", vec![]),
            (b"ab\r", vec![]),
            (b"ab\ncd\r\n", vec![Found::Bare(2), Found::Line(5)]),
            (b"ab\rcd\r\n", vec![Found::Bare(2), Found::Line(5)]),
            (b"ab\r\r\n", vec![Found::Bare(2), Found::Line(3)]),
            (b"\n\r\n", vec![Found::Bare(0), Found::Line(1)]),
            (b"12345678\r\n", vec![Found::Line(8)]),
            (b"123456789", vec![Found::TooLong]),
            (b"123456789\r\n", vec![Found::TooLong]),
            (b"1234567\n9\r\n", vec![Found::Bare(7), Found::TooLong]),
        ] {
            assert_eq!(verdicts(octets, 8, &[]), expected, "{}", octets.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..40),
                                mut cuts in proptest::collection::vec(0usize..40, 0..40)) {
            cuts.sort_unstable();
            prop_assert_eq!(verdicts(&octets, 16, &cuts), verdicts(&octets, 16, &[]));
        }
    }
}
