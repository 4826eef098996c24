//! Where a letter ends, and what its lines are: on the way in, and on the way out.
//!
//! [`Taking`] reads a letter as a client says it, behind `DATA` or in chunks. Only CRLF.CRLF ends it (RFC 5321 section 4.1.1.4,
//! 2.3.8): a server behind us may be more generous, and to each of those that end a letter at LF.LF or LF.CRLF what follows would
//! be another mail, in a name of its writer's choice. So what leaves [`Taking`] has no line end but CRLF: a CR or LF alone becomes
//! one, or the letter is refused. And no line of it begins with NUL, which some servers drop: a dot behind it would be alone.
//! [`Stuffing`] then doubles the dot that begins a line, once more and for all, so nothing in a letter can end it.
//!
//! A dot is taken away only behind a real CRLF; what a bare LF made into the beginning of a line keeps it.

use bytes::{Buf, BytesMut};
use memchr::{memchr, memchr2};

/// Reads one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taking {
    at: At,
    /// Lines may begin with a dot that is not theirs, and a lone one ends the letter (`DATA`).
    dotted: bool,
    /// A CR or LF stood alone somewhere.
    bare: bool,
}

/// Where in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At its beginning, behind CRLF.
    Begin,
    /// At the beginning of one that only normalising has begun.
    Made,
    /// Behind a dot that began it, and is gone.
    Dot,
    /// Behind that and a CR.
    DotCr,
    /// In it.
    Inside,
    /// Behind a CR, not passed on yet.
    Cr,
}

impl Taking {
    /// A letter behind `DATA`.
    pub fn dotted() -> Taking {
        Taking { at: At::Begin, dotted: true, bare: false }
    }

    /// A letter in chunks (`BDAT`, RFC 3030).
    pub fn chunked() -> Taking {
        Taking { at: At::Begin, dotted: false, bare: false }
    }

    /// A CR or LF stood alone in what was read so far.
    pub fn has_bare(&self) -> bool {
        self.bare
    }

    /// Takes octets out of `input`, at most `most` of them, and appends what they are to `out`. True: the lone dot was among them,
    /// and what is left of the input is no longer the letter's.
    pub fn take(&mut self, input: &mut BytesMut, most: usize, out: &mut BytesMut) -> bool {
        let most = most.min(input.len());
        let piece = input.get(..most).unwrap_or_default();
        let mut read = 0;
        let mut ended = false;
        while let Some(octet) = piece.get(read) {
            let (step, next) = match (self.at, octet) {
                // A dot behind it is no longer the first octet of a line, for nobody who counts octets: it stays.
                (At::Begin | At::Made | At::Dot, 0) => (1, At::Made),
                (At::Begin, b'.') if self.dotted => (1, At::Dot),
                (At::Dot, b'\r') => (1, At::DotCr),
                (At::DotCr, b'\n') => {
                    ended = true;
                    read += 1;
                    break;
                }
                (At::Cr, b'\n') => {
                    out.extend_from_slice(b"\r\n");
                    (1, At::Begin)
                }
                // The octet itself is looked at again, at the beginning of a line.
                (At::DotCr | At::Cr, _) => {
                    self.bare = true;
                    out.extend_from_slice(b"\r\n");
                    (0, At::Made)
                }
                (At::Begin | At::Made | At::Dot | At::Inside, b'\n') => {
                    self.bare = true;
                    out.extend_from_slice(b"\r\n");
                    (1, At::Made)
                }
                (_, b'\r') => (1, At::Cr),
                (At::Begin | At::Made | At::Dot | At::Inside, _) => {
                    let rest = piece.get(read..).unwrap_or_default();
                    let run = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    out.extend_from_slice(rest.get(..run).unwrap_or_default());
                    (run, At::Inside)
                }
            };
            self.at = next;
            read += step;
        }
        input.advance(read);
        ended
    }

    /// The last chunk is over: ends the line that it has begun.
    pub fn end(&mut self, out: &mut BytesMut) {
        match self.at {
            At::Begin | At::Made => {}
            At::Cr | At::DotCr => {
                self.bare = true;
                out.extend_from_slice(b"\r\n");
            }
            At::Dot | At::Inside => out.extend_from_slice(b"\r\n"),
        }
        self.at = At::Begin;
    }
}

/// Spells a letter behind `DATA`; its lines end in CRLF, the last one included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuffing {
    begins: bool,
}

impl Default for Stuffing {
    fn default() -> Self {
        Stuffing { begins: true }
    }
}

impl Stuffing {
    /// Appends a piece with its dots doubled.
    pub fn say(&mut self, mut piece: &[u8], out: &mut BytesMut) {
        out.reserve(piece.len());
        while let Some(first) = piece.first() {
            if self.begins && *first == b'.' {
                out.extend_from_slice(b".");
            }
            let line = memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
            // Lines are short as a rule: all of those that need nothing go at once.
            let mut run = line;
            self.begins = piece.get(line - 1) == Some(&b'\n');
            while self.begins && piece.get(run).is_some_and(|next| *next != b'.') {
                let rest = piece.get(run..).unwrap_or_default();
                let more = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                self.begins = rest.get(more - 1) == Some(&b'\n');
                run += more;
            }
            let (said, rest) = piece.split_at_checked(run).unwrap_or((piece, b""));
            out.extend_from_slice(said);
            piece = rest;
        }
    }

    /// Appends what ends the letter.
    pub fn end(&self, out: &mut BytesMut) {
        if !self.begins {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is read of octets that come in pieces of these sizes: the letter, what is left, whether it ended, whether a line end
    /// was none.
    fn taken(mut taking: Taking, octets: &[u8], pieces: &[usize]) -> (Vec<u8>, Vec<u8>, bool, bool) {
        let mut out = BytesMut::new();
        let mut input = BytesMut::new();
        let mut rest = octets;
        let mut sizes = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
        loop {
            let size = sizes.next().unwrap_or(usize::MAX).clamp(1, rest.len().max(1)).min(rest.len());
            let (piece, behind) = rest.split_at(size);
            input.extend_from_slice(piece);
            rest = behind;
            if taking.take(&mut input, usize::MAX, &mut out) {
                return (out.to_vec(), [&input[..], rest].concat(), true, taking.has_bare());
            }
            assert!(input.is_empty());
            if rest.is_empty() {
                return (out.to_vec(), Vec::new(), false, taking.has_bare());
            }
        }
    }

    #[test]
    fn only_a_dot_between_two_real_line_ends_ends_a_letter() {
        let with = |end: &str| format!("a\r\nb{end}MAIL FROM:<x>\r\n");
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r\n.\r",
            "\r.\r\n",
            "\r\n.\0\r\n",
            "\r\n\0.\r\n",
            "\n\n.\n\n",
            "\r\r\n.\n",
            "\r\n.\r\r\n",
            "\r\n..\r\n",
            "\n.\r",
            "\r\n.\n\r\n",
        ] {
            let said = with(end);
            let (letter, left, ended, _) = taken(Taking::dotted(), said.as_bytes(), &[]);
            assert!(!ended && left.is_empty(), "{end:?}");
            let mut again = BytesMut::new();
            let mut stuffing = Stuffing::default();
            stuffing.say(&letter, &mut again);
            let text = String::from_utf8(again.to_vec()).unwrap();
            // However a server reads it: no line of what leaves is a lone dot, NULs dropped or not.
            for read in [text.clone(), text.replace('\0', "")] {
                assert!(read.split(['\r', '\n']).all(|line| line != "."), "{end:?}: {read:?}");
            }
            assert_eq!(text.replace("\r\n", "").matches(['\r', '\n']).count(), 0, "{end:?}: {text:?}");
        }
        let (letter, left, ended, bare) = taken(Taking::dotted(), with("\r\n.\r\n").as_bytes(), &[]);
        assert_eq!((&letter[..], &left[..], ended, bare), (&b"a\r\nb\r\n"[..], &b"MAIL FROM:<x>\r\n"[..], true, false));
    }

    #[test]
    fn letters_are_what_they_say() {
        for (said, letter, bare) in [
            ("\r\n.\r\n", "\r\n", false),
            (".\r\n", "", false),
            ("..\r\n.\r\n", ".\r\n", false),
            (".a\r\n.\r\n", "a\r\n", false),
            ("...\r\n.\r\n", "..\r\n", false),
            ("a\nb\r\n.\r\n", "a\r\nb\r\n", true),
            ("a\rb\r\n.\r\n", "a\r\nb\r\n", true),
            ("a\r\r\n.\r\n", "a\r\n\r\n", true),
            ("a\n.b\r\n.\r\n", "a\r\n.b\r\n", true),
            (".\n.\r\n.\r\n", "\r\n.\r\n", true),
            (".\rx\r\n.\r\n", "\r\nx\r\n", true),
            ("a\0b\r\n\0\0c\r\n.\r\n", "a\0b\r\nc\r\n", false),
            ("a\r\n\0.\r\n.\r\n", "a\r\n.\r\n", false),
            ("a\r\n.\0.\r\n.\r\n", "a\r\n.\r\n", false),
        ] {
            let (got, left, ended, has_bare) = taken(Taking::dotted(), said.as_bytes(), &[]);
            assert_eq!(
                (got.escape_ascii().to_string(), ended, has_bare),
                (letter.as_bytes().escape_ascii().to_string(), true, bare),
                "{said:?}"
            );
            assert!(left.is_empty(), "{said:?}");
        }
    }

    #[test]
    fn chunks_have_no_dots_and_end_their_last_line() {
        for (said, letter) in [("a\r\n.\r\nb", "a\r\n.\r\nb\r\n"), ("", ""), ("a\n", "a\r\n"), ("a\r", "a\r\n"), (".", ".\r\n")] {
            let mut taking = Taking::chunked();
            let (mut input, mut out) = (BytesMut::from(said), BytesMut::new());
            assert!(!taking.take(&mut input, usize::MAX, &mut out));
            taking.end(&mut out);
            assert_eq!(out, letter.as_bytes(), "{said:?}");
        }
        let (mut input, mut out) = (BytesMut::from("abcdef"), BytesMut::new());
        let mut taking = Taking::chunked();
        taking.take(&mut input, 4, &mut out);
        assert_eq!((&out[..], &input[..]), (&b"abcd"[..], &b"ef"[..]), "no octet of the next command is touched");
    }

    fn pieces() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(1usize..6, 0..40)
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in "[a.\r\n\u{0}]{0,40}", cut in pieces(), dotted in any::<bool>()) {
            let new = || if dotted { Taking::dotted() } else { Taking::chunked() };
            prop_assert_eq!(taken(new(), octets.as_bytes(), &cut), taken(new(), octets.as_bytes(), &[]));
        }

        #[test]
        fn what_was_stuffed_is_read_back(lines in proptest::collection::vec("[a. ]{0,5}", 0..12), cut in pieces(), out_in in pieces()) {
            let letter: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut said = BytesMut::new();
            let mut stuffing = Stuffing::default();
            let mut rest = letter.as_bytes();
            for size in out_in {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                stuffing.say(piece, &mut said);
                rest = behind;
            }
            stuffing.say(rest, &mut said);
            stuffing.end(&mut said);
            let (got, left, ended, bare) = taken(Taking::dotted(), &said, &cut);
            prop_assert_eq!((got, left, ended, bare), (letter.into_bytes(), Vec::new(), true, false));
        }

        #[test]
        fn what_comes_out_has_lines_and_nothing_else(octets in "[a.\r\n\u{0}]{0,60}") {
            let mut taking = Taking::chunked();
            let (mut input, mut out) = (BytesMut::from(octets.as_str()), BytesMut::new());
            taking.take(&mut input, usize::MAX, &mut out);
            taking.end(&mut out);
            let text = String::from_utf8(out.to_vec()).unwrap();
            prop_assert!(text.is_empty() || text.ends_with("\r\n"));
            prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{:?}", text);
            prop_assert!(text.split("\r\n").all(|line| !line.starts_with('\0')), "{:?}", text);
        }
    }
}
