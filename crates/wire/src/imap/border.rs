//! Where a command ends: its lines and its literals, under [`Caps`] (RFC 3501 section 4.3, RFC 7888).
//!
//! This is the first stage of reading, and the only one that sees octets of which the end is not known yet. All caps are
//! kept here, so no command and no argument position can forget one. Nothing is copied or allocated: [`Border`] counts,
//! and the octets stay in the buffer of the caller until the command is whole. That buffer never has to hold more than
//! [`Caps::held_at_most`] octets, plus what one read brought along.
//!
//! The size of a literal is read as a number with an overflow check and compared with the cap before anything else
//! happens. Where the sender does not wait for permission and the literal cannot be taken, the connection must end: what
//! follows is payload, and payload must never be read as commands.
//!
//! A line with a bare CR or LF is reported as soon as that octet is seen, and skipped up to its CRLF.

use super::Caps;
use super::text::{Announced, announced};
use crate::line::{self, LineScan};

/// How far the command at the start of the input has been looked at.
#[derive(Debug, Default)]
pub struct Border {
    /// Octets of the lines and literals that are behind us, CRLFs included.
    base: usize,
    /// Octets of those lines alone.
    lines: usize,
    literals: usize,
    scan: LineScan,
    /// A bare CR or LF was reported; the rest of the line means nothing.
    broken: bool,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No end yet.
    More,
    /// A literal that the client waits to send: say `+ `, then look again.
    Ask,
    /// The command is whole: so many octets, its last CRLF included.
    Whole(usize),
    /// A bare CR or LF. Say so, consume nothing, and look again: the rest of that line ends in [`Found::Skip`].
    Bare,
    /// The end of a line that was reported as [`Found::Bare`]: drop so many octets without a word.
    Skip(usize),
    /// A literal over a cap, announced by a client that waits: refuse, drop so many octets.
    Refuse(Excess, usize),
    /// A literal over a cap that is already on its way, or of which nobody can tell the size: end the connection.
    Unstoppable(Excess),
    /// The lines together are over their cap: end the connection.
    TooLong,
}

/// Which cap a literal is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Its size.
    Size,
    /// One literal too many.
    Count,
    /// There is no number, or the line around it is broken.
    Nonsense,
}

impl Caps {
    /// The most octets of one command, and so the most that waits in the input for its end.
    pub fn held_at_most(&self) -> usize {
        let literal = self.literal.saturating_add(2);
        self.line.saturating_add(2).saturating_add(self.literals.saturating_mul(literal))
    }
}

impl Border {
    /// Looks for the end of the command that begins at `input[0]`.
    ///
    /// After [`Found::Whole`], [`Found::Skip`] and [`Found::Refuse`] the caller consumes that many octets and starts with
    /// a new border; after [`Found::Unstoppable`] and [`Found::TooLong`] it ends the connection.
    pub fn command(&mut self, input: &[u8], caps: &Caps) -> Found {
        loop {
            let (length, end) = match self.line_end(input, caps) {
                Ok(line) => line,
                Err(found) => return found,
            };
            let line = input.get(self.base..self.base.saturating_add(length)).unwrap_or_default();
            let (octets, waits) = match announced(line) {
                None if self.broken => return Found::Skip(end),
                None => return Found::Whole(end),
                Some(Announced::Nonsense) => return Found::Unstoppable(Excess::Nonsense),
                Some(Announced::Literal { waits, .. }) if self.broken => {
                    return if waits { Found::Skip(end) } else { Found::Unstoppable(Excess::Nonsense) };
                }
                Some(Announced::Literal { octets, waits }) => (octets, waits),
            };
            let octets = match usize::try_from(octets) {
                Ok(octets) if octets <= caps.literal => octets,
                _ if waits => return Found::Refuse(Excess::Size, end),
                _ => return Found::Unstoppable(Excess::Size),
            };
            if self.literals >= caps.literals {
                return if waits { Found::Refuse(Excess::Count, end) } else { Found::Unstoppable(Excess::Count) };
            }
            self.literals = self.literals.saturating_add(1);
            self.lines = self.lines.saturating_add(length);
            self.base = end.saturating_add(octets);
            self.scan = LineScan::new();
            if waits {
                return Found::Ask;
            }
        }
    }

    /// Looks for the end of a plain line, where literals do not exist (a SASL response). [`Found::Whole`] is the octets of
    /// the line and its CRLF; [`Found::Bare`] as in [`Border::command`], which then skips the rest.
    pub fn line(&mut self, input: &[u8], caps: &Caps) -> Found {
        match self.line_end(input, caps) {
            Ok((_, end)) => Found::Whole(end),
            Err(found) => found,
        }
    }

    /// Octets of a literal are awaited, or of the line behind it.
    pub fn is_in_literal(&self) -> bool {
        self.base > 0
    }

    /// The length of the current line without CRLF, and where in the input it ends with CRLF.
    fn line_end(&mut self, input: &[u8], caps: &Caps) -> Result<(usize, usize), Found> {
        let Some(rest) = input.get(self.base..) else { return Err(Found::More) };
        loop {
            match self.scan.find(rest, caps.line.saturating_sub(self.lines)) {
                line::Found::More => return Err(Found::More),
                line::Found::TooLong => return Err(Found::TooLong),
                line::Found::Bare(_) if self.broken => {}
                line::Found::Bare(_) => {
                    self.broken = true;
                    return Err(Found::Bare);
                }
                line::Found::Line(length) => return Ok((length, self.base.saturating_add(length).saturating_add(2))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPS: Caps = Caps { line: 20, literal: 5, literals: 2, bad_commands: 10, commands: 100 };

    /// Everything found on the way to the end of the first command, fed in pieces that end where `cuts` says.
    fn found(input: &[u8], cuts: &[usize]) -> Vec<Found> {
        let mut border = Border::default();
        let mut all = Vec::new();
        for end in cuts.iter().copied().filter(|end| *end <= input.len()).chain([input.len()]) {
            loop {
                match border.command(&input[..end], &CAPS) {
                    Found::More => break,
                    step @ (Found::Ask | Found::Bare) => all.push(step),
                    last => {
                        all.push(last);
                        return all;
                    }
                }
            }
        }
        all
    }

    #[test]
    fn commands_end_where_they_end() {
        use Excess::{Count, Nonsense, Size};
        use Found::{Ask, Bare, Refuse, Skip, TooLong, Unstoppable, Whole};
        for (input, expected) in [
            ("a NOOP\r\nb NOOP\r\n", vec![Whole(8)]),
            ("a {3}\r\nxyz\r\nb", vec![Ask, Whole(12)]),
            ("a {3+}\r\nxyz\r\nb", vec![Whole(13)]),
            ("a {3+}\r\n\r\n\n {2+}\r\nxy\r\nb", vec![Whole(22)]),
            ("a {0}\r\n\r\n", vec![Ask, Whole(9)]),
            ("a {5}\r\n", vec![Ask]),
            ("a {6}\r\n", vec![Refuse(Size, 7)]),
            ("a {18446744073709551616}\r\n", vec![TooLong]),
            ("{99999999999999999}\r\n", vec![Refuse(Size, 21)]),
            ("a {6+}\r\nx NOOP\r\n", vec![Unstoppable(Size)]),
            ("a {1+}\r\nx{1+}\r\nx{1}\r\n", vec![Refuse(Count, 21)]),
            ("a {1+}\r\nx{1+}\r\nx{1+}\r\n", vec![Unstoppable(Count)]),
            ("a {-1+}\r\n", vec![Unstoppable(Nonsense)]),
            ("a {-1}\r\n", vec![Whole(8)]),
            ("a NOOP\nb NOOP\nc\r\n", vec![Bare, Skip(17)]),
            ("a\rb\r\n", vec![Bare, Skip(5)]),
            ("a\nb {3}\r\n", vec![Bare, Skip(9)]),
            ("a\nb {3+}\r\nxyz\r\n", vec![Bare, Unstoppable(Nonsense)]),
            ("a {1+}\r\nx\n\r\n", vec![Bare, Skip(12)]),
            ("123456789012345678901", vec![TooLong]),
            ("a 34567890 {1+}\r\nx12345\r\n", vec![Whole(25)]),
            ("a 34567890 {1+}\r\nx123456\r\n", vec![TooLong]),
        ] {
            let cuts: Vec<usize> = (0..input.len()).collect();
            assert_eq!(found(input.as_bytes(), &[]), expected, "{input:?}");
            assert_eq!(found(input.as_bytes(), &cuts), expected, "{input:?} octet by octet");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in "[a{}0-6+\r\n ]{0,60}", mut cuts in proptest::collection::vec(0usize..60, 0..60)) {
            cuts.sort_unstable();
            let every: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(found(input.as_bytes(), &cuts), found(input.as_bytes(), &every));
        }

        #[test]
        fn no_more_is_held_than_said(input in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'5'), Just(b'+'),
                Just(b'}'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)) {
            let mut border = Border::default();
            let mut held = Vec::new();
            for octet in input {
                held.push(octet);
                loop {
                    match border.command(&held, &CAPS) {
                        Found::More => break,
                        Found::Ask | Found::Bare => {}
                        Found::Whole(end) | Found::Skip(end) | Found::Refuse(_, end) => {
                            held.drain(..end);
                            border = Border::default();
                        }
                        Found::Unstoppable(_) | Found::TooLong => return Ok(()),
                    }
                }
                prop_assert!(held.len() <= CAPS.held_at_most());
            }
        }
    }
}
