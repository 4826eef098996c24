//! Where we are in what the backend says, after login: may a line of ours be put in here?
//!
//! When a backend dies or an administrator ends a session, a client is better served by `-ERR` than by a dropped
//! connection. But a line in the middle of a message would become part of somebody's mail. Whether an answer has one line or
//! many depends on what was asked, and [`Position`] does not see that: it follows lines, understands two of them, and keeps
//! nothing.
//!
//! It promises to err on the safe side. A line of ours may stand right behind our own welcome, and behind a lone `.`, with
//! which every long answer ends and which none holds inside (RFC 1939 section 3). A line that begins with `-ERR` is an
//! answer of one line where an answer may begin, and changes nothing there; inside of a message it is just mail. Behind any
//! other line nobody knows, until the next lone `.`. The verdict does not depend on how the octets arrived.

use memchr::memchr;

/// A place in the stream from server to client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    line: Line,
    /// The last octet was a CR.
    cr: bool,
    /// No answer of many lines can be open where this line began.
    between: bool,
}

/// What the line is, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    Dot,
    /// A dot and a CR.
    End,
    /// So many octets of [`REFUSAL`].
    Beginning(u8),
    Refusal,
    Other,
}

const REFUSAL: &[u8] = b"-ERR";

impl Default for Position {
    fn default() -> Self {
        Position::new()
    }
}

impl Position {
    /// Right behind our own welcome line.
    pub fn new() -> Self {
        Position { line: Line::Empty, cr: false, between: true }
    }

    /// These octets went to the client.
    pub fn saw(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some((text, behind)) = memchr(b'\n', rest).and_then(|at| rest.split_at_checked(at)) {
            self.follow(text);
            self.line_feed();
            rest = behind.get(1..).unwrap_or_default();
        }
        self.follow(rest);
    }

    /// Whether a line may be put in here.
    pub fn is_safe(&self) -> bool {
        self.between && self.line == Line::Empty
    }

    fn follow(&mut self, text: &[u8]) {
        for octet in text {
            self.line = match (self.line, octet) {
                (Line::Other | Line::Refusal, _) => break,
                (Line::Empty, b'.') => Line::Dot,
                (Line::Dot, b'\r') => Line::End,
                (Line::Empty, b'-') => Line::Beginning(1),
                (Line::Beginning(4), b' ' | b'\r') => Line::Refusal,
                (Line::Beginning(n), octet) if REFUSAL.get(usize::from(n)) == Some(octet) => Line::Beginning(n.saturating_add(1)),
                _ => Line::Other,
            };
        }
        if let Some(last) = text.last() {
            self.cr = *last == b'\r';
        }
    }

    fn line_feed(&mut self) {
        if !self.cr {
            // A bare LF ends nothing: what follows is no line of its own.
            self.line = Line::Other;
            return;
        }
        self.between = match self.line {
            Line::End => true,
            Line::Refusal => self.between,
            _ => false,
        };
        self.line = Line::Empty;
        self.cr = false;
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
        assert!(size_of::<Position>() <= 8);
    }

    #[test]
    fn safe_only_where_no_answer_can_be_open() {
        for (octets, safe) in [
            (&b""[..], true),
            (b"-ERR no such message\r\n", true),
            (b"-ERR\r\n", true),
            (b"-ERR\r\n-ERR x\r\n", true),
            (b"-ERR no such message\r", false),
            (b"-ERR no", false),
            (b"-ERROR\r\n", false),
            (b"-err x\r\n", false),
            (b"-", false),
            (b"-\r\n", false),
            (b"+OK\r\n", false),
            (b"+OK 1 octet\r\nx\r\n", false),
            (b"+OK 1 octet\r\nx\r\n.\r\n", true),
            (b"+OK 1 octet\r\nx\r\n.\r", false),
            (b"+OK 1 octet\r\nx\r\n.", false),
            (b"+OK\r\n..\r\n", false),
            (b"+OK\r\n. \r\n", false),
            (b"+OK\r\nx.\r\n", false),
            (b"+OK\r\n.\r\r\n", false),
            (b"+OK\r\n\r\n", false),
            // A message that looks like an answer.
            (b"+OK\r\n-ERR not an answer\r\n", false),
            (b"+OK\r\n.\r\n-ERR an answer\r\n", true),
            (b"+OK\r\n.\r\n+OK\r\n-ERR who knows\r\n", false),
            // Only CRLF ends a line.
            (b"+OK\n.\r\n", false),
            (b"+OK\r\nx\n.\r\n", false),
            (b"+OK\r\n.\n", false),
            (b"+OK\r\n.\n.\r\n", false),
            (b"+OK\r\nx\r.\r\n", false),
            (b"-ERR\n\r\n", false),
            (b"+OK\r\nx\n.\r\n.\r\n", true),
            (b"\n", false),
            (b"\0\xff\r\n.\r\n", true),
        ] {
            assert_eq!(after(octets).is_safe(), safe, "{}", octets.escape_ascii());
        }
    }

    /// What a message could be made of, to be taken for the end of it.
    fn evil() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 8] = [b".", b"\r\n", b"\n", b"\r", b"-ERR", b" x", b"+OK", b"\0"];
        let piece = proptest::sample::select(pieces.to_vec());
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in evil(), mut cuts in proptest::collection::vec(0usize..60, 0..20)) {
            cuts.sort_unstable();
            let (mut position, mut start) = (Position::new(), 0);
            for end in cuts.into_iter().filter(|end| *end <= octets.len()).chain([octets.len()]) {
                position.saw(&octets[start..end]);
                start = end;
            }
            let mut slow = Position::new();
            octets.iter().for_each(|octet| slow.saw(&[*octet]));
            prop_assert_eq!(position, after(&octets));
            prop_assert_eq!(slow, after(&octets));
        }

        #[test]
        fn never_inside_of_a_message(text in evil()) {
            // As a server sends it: a dot in front of each line that begins with one.
            let mut sent = b"+OK\r\n".to_vec();
            let mut start = 0;
            let ends = memchr::memmem::find_iter(&text, b"\r\n").map(|at| at + 2).chain([text.len()]);
            for end in ends {
                let line = &text[start..end];
                start = end;
                if line.starts_with(b".") {
                    sent.push(b'.');
                }
                sent.extend_from_slice(line);
            }
            if !sent.ends_with(b"\r\n") {
                sent.extend_from_slice(b"\r\n");
            }
            let mut position = Position::new();
            for octet in &sent {
                position.saw(&[*octet]);
                prop_assert!(!position.is_safe());
            }
            position.saw(b".\r\n");
            prop_assert!(position.is_safe());
        }
    }
}
