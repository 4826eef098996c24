//! Where a command ends: its lines and its literals, under [`Caps`] (RFC 5804 sections 1.1 and 1.2).
//!
//! This is the first stage of reading, and the only one that sees octets of which the end is not known yet. All caps are
//! kept here, so no command and no argument position can forget one. Nothing is copied or allocated: [`Border`] counts,
//! and the octets stay in the buffer of the caller until the command is whole. That buffer never has to hold more than
//! [`Caps::held_at_most`] octets, plus what one read brought along.
//!
//! The size of a literal is read as a number with an overflow check and compared with the cap before anything else happens.
//! No client waits for permission, so where a literal cannot be taken the connection must end: what follows is payload, and
//! payload must never be read as commands.
//!
//! A line with a bare CR or LF is reported as soon as that octet is seen, and skipped up to its CRLF.

use super::Caps;
use super::text::{Announced, look};
use crate::line::{self, LineScan};

/// How far the command at the start of the input has been looked at.
#[derive(Debug, Default)]
pub struct Border {
    /// Octets of the lines and literals that are behind us, CRLFs included.
    base: usize,
    /// Octets of those literals alone.
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
    /// The command is whole: so many octets, its last CRLF included.
    Whole(usize),
    /// A bare CR or LF. Say so, consume nothing, and look again: the rest of that line ends in [`Found::Skip`].
    Bare,
    /// The end of a line that was reported as [`Found::Bare`]: drop so many octets without a word.
    Skip(usize),
    /// Over a cap, or of no known end: end the connection.
    Unstoppable(Excess),
}

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The lines of the command together.
    Line,
    /// A quoted string.
    Quoted,
    /// The literals of the command together.
    Literal,
    /// A literal without a number, or behind a broken line.
    Nonsense,
}

impl Border {
    /// Looks for the end of the command that begins at `input[0]`; `longest` is the cap for its lines ([`Caps::line`], or more).
    ///
    /// After [`Found::Whole`] and [`Found::Skip`] the caller consumes that many octets and starts with a new border; after
    /// [`Found::Unstoppable`] it ends the connection.
    pub fn command(&mut self, input: &[u8], longest: usize, caps: &Caps) -> Found {
        loop {
            let Some(rest) = input.get(self.base..) else { return Found::More };
            // CRLFs in the middle of a command count, so that nobody can announce empty literals without an end.
            let room = longest.saturating_sub(self.base.saturating_sub(self.literals));
            let length = match self.scan.find(rest, room) {
                line::Found::More => return Found::More,
                line::Found::TooLong => return Found::Unstoppable(Excess::Line),
                line::Found::Bare(_) if self.broken => continue,
                line::Found::Bare(_) => {
                    self.broken = true;
                    return Found::Bare;
                }
                line::Found::Line(length) => length,
            };
            let end = self.base.saturating_add(length).saturating_add(2);
            let looked = look(rest.get(..length).unwrap_or_default());
            let octets = match looked.announced {
                _ if looked.longest_quoted > caps.quoted => return Found::Unstoppable(Excess::Quoted),
                None if self.broken => return Found::Skip(end),
                None => return Found::Whole(end),
                Some(Announced::Literal(octets)) if !self.broken => octets,
                Some(_) => return Found::Unstoppable(Excess::Nonsense),
            };
            let octets = match usize::try_from(octets) {
                Ok(octets) if octets <= caps.literal.saturating_sub(self.literals) => octets,
                _ => return Found::Unstoppable(Excess::Literal),
            };
            self.literals = self.literals.saturating_add(octets);
            self.base = end.saturating_add(octets);
            self.scan = LineScan::new();
        }
    }

    /// Octets of a literal are awaited, or of the line behind it.
    pub fn is_in_literal(&self) -> bool {
        self.base > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: usize = 24;
    const CAPS: Caps = Caps { line: LINE, quoted: 6, literal: 5, bad_commands: 10, commands: 100 };

    /// Everything found on the way to the end of the first command, fed in pieces that end where `cuts` says.
    fn found(input: &[u8], cuts: &[usize]) -> Vec<Found> {
        let mut border = Border::default();
        let mut all = Vec::new();
        for end in cuts.iter().copied().filter(|end| *end <= input.len()).chain([input.len()]) {
            loop {
                match border.command(&input[..end], LINE, &CAPS) {
                    Found::More => break,
                    Found::Bare => all.push(Found::Bare),
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
        use Excess::{Line, Literal, Nonsense, Quoted};
        use Found::{Bare, Skip, Unstoppable, Whole};
        for (input, expected) in [
            ("NOOP\r\nNOOP\r\n", vec![Whole(6)]),
            ("\r\n", vec![Whole(2)]),
            ("N {3+}\r\nxyz\r\nb", vec![Whole(13)]),
            ("N {3}\r\nxyz\r\nb", vec![Whole(12)]),
            ("N {3+}\r\n\r\n\n {2+}\r\nxy\r\nb", vec![Whole(22)]),
            ("N {0+}\r\n\r\n", vec![Whole(10)]),
            ("N {5+}\r\n", vec![]),
            ("N {6+}\r\nNOOP\r\n", vec![Unstoppable(Literal)]),
            ("N {6}\r\nNOOP\r\n", vec![Unstoppable(Literal)]),
            ("N {3+}\r\nxyz {3+}\r\n", vec![Unstoppable(Literal)]),
            ("{9999999999999999999+}\r\n", vec![Unstoppable(Literal)]),
            ("N {-1+}\r\n", vec![Unstoppable(Nonsense)]),
            ("N {}\r\n", vec![Unstoppable(Nonsense)]),
            ("N \"{5+}\r\nNOOP\r\n", vec![Whole(9)]),
            ("N \"{5+}\"\r\nNOOP\r\n", vec![Whole(10)]),
            ("N \"123456\"\r\n", vec![Whole(12)]),
            ("N \"1234567\"\r\n", vec![Unstoppable(Quoted)]),
            ("N \"1234567\r\n", vec![Unstoppable(Quoted)]),
            ("N {1+}\r\nx \"1234567\"\r\n", vec![Unstoppable(Quoted)]),
            ("NOOP\nNOOP\nc\r\n", vec![Bare, Skip(13)]),
            ("N\rb\r\n", vec![Bare, Skip(5)]),
            ("N\nb {3+}\r\nxyz\r\n", vec![Bare, Unstoppable(Nonsense)]),
            ("N\nb {3}\r\nxyz\r\n", vec![Bare, Unstoppable(Nonsense)]),
            ("N {1+}\r\nx\n\r\n", vec![Bare, Skip(12)]),
            ("1234567890123456789012345", vec![Unstoppable(Line)]),
            ("N 34567890123456 {1+}\r\nx\r\n", vec![Whole(26)]),
            ("N 34567890123456 {1+}\r\nx1\r\n", vec![Whole(27)]),
            ("N 34567890123456 {1+}\r\nx12\r\n", vec![Unstoppable(Line)]),
            ("{0}\r\n{0}\r\n{0}\r\n{0}\r\n{0}\r\n{0}\r\n", vec![Unstoppable(Line)]),
        ] {
            let cuts: Vec<usize> = (0..input.len()).collect();
            assert_eq!(found(input.as_bytes(), &[]), expected, "{input:?}");
            assert_eq!(found(input.as_bytes(), &cuts), expected, "{input:?} octet by octet");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in "[a{}0-6+\"\\\\\r\n ]{0,60}", mut cuts in proptest::collection::vec(0usize..60, 0..60)) {
            cuts.sort_unstable();
            let every: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(found(input.as_bytes(), &cuts), found(input.as_bytes(), &every));
        }

        #[test]
        fn no_more_is_held_than_said(input in proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'5'), Just(b'+'),
                Just(b'}'), Just(b'"'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200)) {
            let mut border = Border::default();
            let mut held = Vec::new();
            for octet in input {
                held.push(octet);
                loop {
                    match border.command(&held, LINE, &CAPS) {
                        Found::More => break,
                        Found::Bare => {}
                        Found::Whole(end) | Found::Skip(end) => {
                            held.drain(..end);
                            border = Border::default();
                        }
                        Found::Unstoppable(_) => return Ok(()),
                    }
                }
                prop_assert!(held.len() <= LINE + CAPS.literal + 2);
            }
        }
    }
}
