//! Where we are in what the backend says, after login: may a line of ours be put in here?
//!
//! When a backend dies or an administrator ends a session, a client is better served by `BYE` than by a dropped connection, and
//! a server may say it at any time (RFC 5804 section 1.2). But a line in the middle of a literal would become part of somebody's
//! script, and one in the middle of a list a script of its own. [`Position`] follows the stream just closely enough to know:
//! lines, their quoted strings, and the literals announced at their ends, which are skipped by counting. It keeps nothing.
//!
//! It promises to err on the safe side. A line of ours may stand right behind our own welcome, and behind a whole `OK` or `NO`,
//! with which every answer ends and which no list holds: names there are strings. Behind the backend's own `BYE` no second one
//! is said. A line that is none of these and no string, one with a NUL, a bare CR or LF or a quoted string that does not end,
//! one of more than 64 KiB, or a literal with an impossible size, and it is lost for good. The verdict does not depend on how the
//! octets arrived.
//!
//! One gap is known: a client that gives its login back (UNAUTHENTICATE) and then begins TLS in a stream in clear. Right behind
//! the OK to that, and before the first octet of TLS, it still says that it is safe, because it does not see what was asked.

use memchr::memchr2;

/// A place in the stream from server to client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Octets of a literal that are still to come, or, while a line ends in `{123`, the number so far.
    count: u32,
    /// Octets of the line, without literals.
    line: u32,
    at: At,
    kind: Kind,
    brace: Brace,
}

/// What the next octet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// A line begins.
    Start,
    /// Inside of a line, outside of quotes.
    Inside,
    Quoted,
    /// Behind a backslash in quotes.
    Escape,
    /// Behind the CR of a CRLF.
    Cr,
    Literal,
    /// The backend has said BYE.
    Done,
    Lost,
}

/// What the line is, or the last one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The end of an answer.
    Status,
    /// A string: part of an answer.
    Data,
    /// So many octets of the word of [`WORDS`] at that index.
    Word(u8, u8),
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

const WORDS: [&[u8]; 3] = [b"OK", b"NO", BYE];
const BYE: &[u8] = b"BYE";
const LINE_MAX: u32 = 64 * 1024;

impl Default for Position {
    fn default() -> Self {
        Position::new()
    }
}

impl Position {
    /// Right behind our own welcome line.
    pub fn new() -> Self {
        Position { count: 0, line: 0, at: At::Start, kind: Kind::Status, brace: Brace::None }
    }

    /// These octets went to the client.
    pub fn saw(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some((octet, behind)) = rest.split_first() {
            rest = match self.at {
                At::Lost | At::Done => return,
                At::Literal => self.skip_literal(rest),
                // Most of what is long is in quotes or literals.
                At::Quoted => self.skip_quoted(rest),
                At::Start | At::Inside | At::Escape | At::Cr => {
                    self.follow(*octet);
                    behind
                }
            };
        }
    }

    /// Whether a line may be put in here.
    pub fn is_safe(&self) -> bool {
        self.at == At::Start && self.kind == Kind::Status
    }

    fn skip_literal<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.count).unwrap_or(usize::MAX).min(rest.len());
        self.count = self.count.saturating_sub(u32::try_from(length).unwrap_or(u32::MAX));
        if self.count == 0 {
            self.at = At::Inside;
        }
        rest.get(length..).unwrap_or_default()
    }

    fn skip_quoted<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let length = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let (text, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        // Without a branch, so that the compiler can look at many octets at once.
        let bad = text.iter().fold(false, |bad, octet| bad | (*octet == 0) | (*octet == b'\r') | (*octet == b'\n'));
        let longer = u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(u32::from(!behind.is_empty()));
        if bad || !self.grows(longer) {
            self.at = At::Lost;
            return &[];
        }
        match behind.split_first() {
            Some((octet, behind)) => {
                self.at = if *octet == b'"' { At::Inside } else { At::Escape };
                behind
            }
            None => &[],
        }
    }

    /// Whether the line may be so much longer.
    fn grows(&mut self, octets: u32) -> bool {
        self.line = self.line.saturating_add(octets);
        self.line <= LINE_MAX
    }

    /// Takes one octet outside of strings.
    fn follow(&mut self, octet: u8) {
        if !self.grows(1) {
            self.at = At::Lost;
            return;
        }
        self.at = match (self.at, octet) {
            (At::Cr, b'\n') => self.end_line(),
            (At::Cr, _) | (_, 0 | b'\n') => At::Lost,
            (At::Escape, b'"' | b'\\') => At::Quoted,
            (At::Escape, _) => At::Lost,
            (At::Start, _) => self.begin_line(octet),
            (_, octet) => self.go_on(octet),
        };
    }

    fn begin_line(&mut self, octet: u8) -> At {
        match octet {
            b'"' | b'{' => {
                self.kind = Kind::Data;
                self.go_on(octet)
            }
            _ => match WORDS.iter().position(|word| word.first() == Some(&octet.to_ascii_uppercase())) {
                Some(word) => {
                    self.kind = Kind::Word(u8::try_from(word).unwrap_or(u8::MAX), 1);
                    At::Inside
                }
                None => At::Lost,
            },
        }
    }

    fn go_on(&mut self, octet: u8) -> At {
        if let Kind::Word(index, so_far) = self.kind {
            return self.go_on_in_word(index, so_far, octet);
        }
        match octet {
            b'"' => {
                self.brace = Brace::None;
                At::Quoted
            }
            b'\r' => At::Cr,
            _ => {
                self.follow_brace(octet);
                At::Inside
            }
        }
    }

    fn go_on_in_word(&mut self, index: u8, so_far: u8, octet: u8) -> At {
        let word = WORDS.get(usize::from(index)).copied().unwrap_or_default();
        match (word.get(usize::from(so_far)), octet) {
            (Some(next), _) if next.eq_ignore_ascii_case(&octet) => {
                self.kind = Kind::Word(index, so_far.saturating_add(1));
                At::Inside
            }
            (None, b' ' | b'\r') if word == BYE => At::Done,
            (None, b' ' | b'\r') => {
                self.kind = Kind::Status;
                if octet == b'\r' { At::Cr } else { At::Inside }
            }
            _ => At::Lost,
        }
    }

    fn end_line(&mut self) -> At {
        let literal = self.brace == Brace::Closed;
        let brace = std::mem::replace(&mut self.brace, Brace::None);
        if literal {
            // What follows is the same line, as far as its length goes.
            return match self.count {
                u32::MAX => At::Lost,
                0 => At::Inside,
                _ => At::Literal,
            };
        }
        self.line = 0;
        self.count = 0;
        // A brace that was opened and is none of the grammar: nobody knows what it announced.
        if brace == Brace::None { At::Start } else { At::Lost }
    }

    /// Whether the line ends in a literal's size, as far as it is known.
    fn follow_brace(&mut self, octet: u8) {
        self.brace = match (self.brace, octet) {
            (_, b'{') => {
                self.count = 0;
                Brace::Open
            }
            (Brace::Open | Brace::Digits, b'0'..=b'9') => {
                let digit = u32::from(octet.wrapping_sub(b'0'));
                // Too big a number stays at the top, where the end of the line finds it.
                self.count = self.count.saturating_mul(10).saturating_add(digit);
                Brace::Digits
            }
            (Brace::Digits, b'+') => Brace::Plus,
            (Brace::Digits | Brace::Plus, b'}') => Brace::Closed,
            (Brace::None, _) => Brace::None,
            // `{5} x`, `{x`: outside of a string a brace is a literal's and nothing else.
            _ => Brace::Open,
        };
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
        assert!(size_of::<Position>() <= 16);
    }

    #[test]
    fn safe_only_behind_a_whole_answer() {
        for (octets, safe) in [
            (&b""[..], true),
            (b"OK\r\n", true),
            (b"ok \"done\"\r\n", true),
            (b"NO (NONEXISTENT) \"There is no script by that name.\"\r\n", true),
            (b"OK\r", false),
            (b"OK", false),
            (b"O", false),
            (b"OK \"{5}\"\r\n", true),
            (b"OK \"a\\\"b\\\\\"\r\n", true),
            (b"NO {5}\r\n", false),
            (b"NO {5}\r\nOK\r\n1", false),
            (b"NO {5}\r\nOK\r\n1\r\n", true),
            (b"NO {3}\r\nabc", false),
            (b"OK (TAG {2}\r\nab) \"x\"\r\n", true),
            (b"OK (TAG {2}\r\nab", false),
            (b"OK {0}\r\n\r\n", true),
            (b"OK {0}\r\n", false),
            (b"OK {2+}\r\nab\r\n", true),
            // A list: names are strings, and look like anything.
            (b"\"summer\" ACTIVE\r\n", false),
            (b"\"OK\"\r\n", false),
            (b"\"summer\"\r\nOK\r\n", true),
            (b"\"SIEVE\" \"fileinto\"\r\n\"STARTTLS\"\r\nOK \"x\"\r\n", true),
            (b"\"a {3}\"\r\nOK\r\n", true),
            // A script that looks like an answer.
            (b"{4}\r\nOK\r\n", false),
            (b"{4}\r\nOK\r\n\r\n", false),
            (b"{4}\r\nOK\r\n\r\nOK\r\n", true),
            (b"{6}\r\n\"\0\r{9}\r\nOK\r\n", true),
            (b"{3}\r\nabc {2}\r\nde\r\nOK\r\n", true),
            (b"{3}\r\nabc {2}\r\nde\r\n", false),
            // Answers one behind the other.
            (b"OK\r\nNO \"x\"\r\n\"a\"\r\n", false),
            (b"OK\r\nNO \"x\"\r\n\"a\"\r\nOK\r\n", true),
        ] {
            assert_eq!(after(octets).is_safe(), safe, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn lost_is_lost_forever() {
        let long = [b"OK \"".as_slice(), &[b'a'; 64 * 1024], b"\"\r\n"].concat();
        let longer = [b"OK ".as_slice(), &[b'a'; 64 * 1024], b"\r\n"].concat();
        for octets in [
            &b"\r\n"[..],
            b"OKAY\r\n",
            b"OK\t\r\n",
            b"X\r\n",
            b"* OK\r\n",
            b"+OK\r\n",
            b" OK\r\n",
            b"OK\n",
            b"OK\rx",
            b"OK \0\r\n",
            b"OK \"\0\"\r\n",
            b"OK \"a\r\n",
            b"OK \"a\n",
            b"OK \"a\\b\"\r\n",
            b"OK {4294967296}\r\n",
            b"OK {99999999999999999999}\r\n",
            b"OK {x}\r\n",
            b"OK {5} \r\n",
            b"OK {5\r\n",
            b"OK {}\r\n",
            b"BYEBYE\r\n",
            b"\x16\x03\x01",
            b"{1}\r\nx\nOK\r\n",
            &long,
            &longer,
        ] {
            let mut position = after(octets);
            position.saw(b"\r\nOK\r\n\r\nOK\r\n");
            assert_eq!(position.at, At::Lost, "{}", octets.escape_ascii());
        }
        let fits = [b"OK \"".as_slice(), &[b'a'; 64 * 1024 - 7], b"\"\r\n"].concat();
        assert!(after(&fits).is_safe());
        let script = [b"{100000}\r\n".as_slice(), &[b'a'; 100_000], b"\r\nOK\r\n"].concat();
        assert!(after(&script).is_safe());
    }

    #[test]
    fn one_bye_is_enough() {
        for octets in [&b"BYE \"x\"\r\n"[..], b"bye\r", b"OK\r\nBYE (TRYLATER) \"x\"\r\nOK\r\n"] {
            assert_eq!(after(octets).at, At::Done, "{}", octets.escape_ascii());
        }
        for octets in [&b"\"BYE \"\r\nOK\r\n"[..], b"OK \"BYE x\"\r\n", b"{5}\r\nBYE \r\r\nOK\r\n"] {
            assert!(after(octets).is_safe(), "{}", octets.escape_ascii());
        }
    }

    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"OK".to_vec()),
            Just(b"NO ".to_vec()),
            Just(b"BYE".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\"".to_vec()),
            Just(b"\\".to_vec()),
            Just(b" ".to_vec()),
            Just(b"\"name\"".to_vec()),
            (0u8..20).prop_map(|n| format!("{{{n}}}\r\n").into_bytes()),
            Just(b"{3+".to_vec()),
            Just(b"}".to_vec()),
            proptest::collection::vec(b' '..=b'~', 0..12),
            proptest::collection::vec(any::<u8>(), 0..2),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in likely(), mut cuts in proptest::collection::vec(0usize..200, 0..20)) {
            cuts.sort_unstable();
            let (mut position, mut start) = (Position::new(), 0);
            for end in cuts.into_iter().filter(|end| *end <= octets.len()).chain([octets.len()]) {
                position.saw(&octets[start..end]);
                start = end;
            }
            let mut slow = Position::new();
            octets.iter().for_each(|octet| slow.saw(&[*octet]));
            let whole = after(&octets);
            prop_assert_eq!((position.at, position.is_safe()), (whole.at, whole.is_safe()));
            prop_assert_eq!((slow.at, slow.is_safe()), (whole.at, whole.is_safe()));
        }

        /// Whatever scripts and names hold, a line of ours does not come between them.
        #[test]
        fn never_inside_of_an_answer(
            names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4), words in "[ -~]{0,20}",
        ) {
            let mut sent = Vec::new();
            for name in &names {
                sent.extend_from_slice(format!("{{{}}}\r\n", name.len()).as_bytes());
                sent.extend_from_slice(name);
                sent.extend_from_slice(b"\r\n");
            }
            sent.extend_from_slice(b"OK ");
            super::super::text::write_quoted(words.as_bytes(), &mut sent);
            let mut position = Position::new();
            for octet in &sent {
                position.saw(&[*octet]);
                prop_assert!(!position.is_safe());
            }
            position.saw(b"\r\n");
            prop_assert!(position.is_safe());
        }

        /// Both readers of this protocol agree where a reply ends.
        #[test]
        fn it_is_safe_where_a_status_that_we_would_read_ends(octets in likely()) {
            let mut rest = &octets[..];
            let mut position = Position::new();
            while let Ok(Some(end)) = super::super::reply::border(rest, 1000) {
                let (reply, behind) = rest.split_at(end);
                position.saw(reply);
                let Ok(read) = super::super::reply::read(reply) else { return Ok(()) };
                let status = matches!(&read, super::super::reply::Reply::Status(status)
                    if status.condition != super::super::reply::Condition::Bye);
                prop_assert_eq!(position.is_safe(), status && position.at != At::Done);
                rest = behind;
            }
        }
    }
}
