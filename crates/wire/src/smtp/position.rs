//! Where we are in what the backend says, after login: may a line of ours be put in here?
//!
//! When a backend dies or an administrator ends a session, a client is better served by `421` than by a dropped connection, and
//! it may be told so at any time: a server that must close says `421` whatever it was asked (RFC 5321 section 3.8). But a line
//! inside of a reply of many lines would become part of that. [`Position`] follows replies, and keeps nothing of them but the
//! code.
//!
//! It promises to err on the safe side. A line of ours may stand right behind our own answer to the login, and behind the last
//! line of a reply: three digits and a blank. Not behind `220`, with which a backend begins TLS of its own with the client, or a
//! new conversation behind XCLIENT; a later reply tells which. Nor behind `221` and `421`, with which the backend itself says
//! that it leaves: one goodbye is enough. A stream that ceases to be replies, as it does in TLS, is none ever again. The verdict
//! does not depend on how the octets arrived.

use memchr::memchr2;

/// A place in the stream from server to client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    at: At,
    /// The code of a reply of which lines are still to come.
    open: Option<[u8; 3]>,
    /// The last whole reply left a line of ours possible.
    free: bool,
}

/// Where in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many digits of the code, 0 to 3.
    Code(u8, [u8; 3]),
    /// In the text of a line with this code; the flag: it is the last one of its reply.
    Text([u8; 3], bool),
    /// The same, behind a CR.
    Cr([u8; 3], bool),
    /// This is not SMTP, and will not be.
    Lost,
}

/// TLS begins, or the conversation anew; the backend leaves, as it was asked to or by itself.
const NOT_BEHIND: [&[u8; 3]; 3] = [b"220", b"221", b"421"];

impl Default for Position {
    fn default() -> Self {
        Position::new()
    }
}

impl Position {
    /// Right behind our own answer to the login.
    pub fn new() -> Self {
        Position { at: At::Code(0, [0; 3]), open: None, free: true }
    }

    /// These octets went to the client.
    pub fn saw(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        loop {
            // The text of a line is most of it, and means nothing.
            if let At::Text(code, last) = self.at {
                let Some((end, behind)) = memchr2(b'\r', b'\n', rest).and_then(|at| rest.get(at..)?.split_first()) else {
                    return;
                };
                self.at = if *end == b'\r' { At::Cr(code, last) } else { At::Lost };
                rest = behind;
            }
            let Some((octet, behind)) = rest.split_first() else { return };
            self.at = match (self.at, octet) {
                (At::Lost, _) => return,
                (At::Code(n @ 0..=2, mut code), digit @ b'0'..=b'9') => {
                    if let Some(place) = code.get_mut(usize::from(n)) {
                        *place = *digit;
                    }
                    self.coded(n.saturating_add(1), code)
                }
                (At::Code(3, code), b' ') => At::Text(code, true),
                (At::Code(3, code), b'-') => At::Text(code, false),
                (At::Code(3, code), b'\r') => At::Cr(code, true),
                (At::Cr(code, last), b'\n') => {
                    self.open = (!last).then_some(code);
                    self.free = last && !NOT_BEHIND.contains(&&code);
                    At::Code(0, [0; 3])
                }
                // Whatever else it is, others may read it as the end of a line, or as no reply.
                _ => At::Lost,
            };
            rest = behind;
        }
    }

    /// Whether a line may be put in here.
    pub fn is_safe(&self) -> bool {
        self.free && self.open.is_none() && matches!(self.at, At::Code(0, _))
    }

    /// A digit more of a code: it must be one that there is, and the same in all lines of a reply.
    fn coded(&self, digits: u8, code: [u8; 3]) -> At {
        let fits = self.open.is_none_or(|open| open.iter().zip(&code).take(usize::from(digits)).all(|(one, other)| one == other));
        let is_one = matches!(code, [b'2'..=b'5', ..]);
        if fits && is_one { At::Code(digits, code) } else { At::Lost }
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
        assert!(size_of::<Position>() <= 12);
    }

    #[test]
    fn safe_only_behind_a_whole_reply() {
        for (octets, safe) in [
            (&b""[..], true),
            (b"250 2.1.0 Ok\r\n", true),
            (b"250\r\n", true),
            (b"250 \r\n", true),
            (b"250 2.1.0 Ok\r", false),
            (b"250 2.1.0 Ok", false),
            (b"2", false),
            (b"25", false),
            (b"250", false),
            (b"250-mail.example.com\r\n", false),
            (b"250-mail.example.com\r\n250-SIZE\r\n", false),
            (b"250-mail.example.com\r\n250 SIZE\r\n", true),
            (b"250-mail.example.com\r\n250\r\n", true),
            (b"250-a\r\n251 b\r\n", false),
            (b"250-a\r\n251 b\r\n250 c\r\n", false),
            (b"354 End data with <CR><LF>.<CR><LF>\r\n", true),
            (b"354 go\r\n250 queued\r\n", true),
            (b"250 a\r\n250 b\r\n550 c\r\n", true),
            // TLS with the backend.
            (b"220 2.0.0 Ready to start TLS\r\n", false),
            (b"220 2.0.0 Ready to start TLS\r\n\x16\x03\x03\0\x7a", false),
            (b"220 go\r\n\x16\x03\x03\r\n250 x\r\n", false),
            (b"220-XCLIENT\r\n220 mail ESMTP\r\n", false),
            (b"220 mail ESMTP\r\n250 mail\r\n", true),
            // One goodbye is enough.
            (b"250 a\r\n221 2.0.0 Bye\r\n", false),
            (b"221-a\r\n221 b\r\n", false),
            (b"421 4.3.2 Shutting down\r\n", false),
            (b"250 221 x\r\n", true),
            // Only CRLF ends a line.
            (b"250 a\n", false),
            (b"250 a\n250 b\r\n", false),
            (b"250 a\rb\r\n", false),
            (b"250 a\r\r\n", false),
            (b"\r\n", false),
            (b"250 a\r\n\r\n250 b\r\n", false),
            // What is no reply.
            (b"150 x\r\n", false),
            (b"650 x\r\n250 y\r\n", false),
            (b"2500 x\r\n", false),
            (b"25 x\r\n250 y\r\n", false),
            (b"+OK\r\n250 y\r\n", false),
            (b"250_x\r\n250 y\r\n", false),
            (b"250 \0\xff\r\n", true),
        ] {
            assert_eq!(after(octets).is_safe(), safe, "{}", octets.escape_ascii());
        }
    }

    /// What a reply could be made of, to be taken for the end of it.
    fn evil() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 9] = [b"250", b"220", b" ", b"-", b"\r\n", b"\n", b"\r", b"x", b"\x16"];
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
        fn never_inside_of_a_reply(lines in proptest::collection::vec("[^\r\n]{0,12}", 1..6), code in 222u16..560) {
            prop_assume!(code != 421);
            let last = lines.len() - 1;
            let mut position = Position::new();
            for (n, line) in lines.iter().enumerate() {
                let sent = format!("{code}{}{line}\r\n", if n == last { ' ' } else { '-' });
                for octet in sent.as_bytes() {
                    prop_assert!(position.is_safe() == (n == 0 && position == Position::new()));
                    position.saw(&[*octet]);
                }
            }
            prop_assert!(position.is_safe());
        }

        /// Where it is safe, whatever was said is a sequence of whole replies.
        #[test]
        fn safe_means_that_others_see_whole_replies(octets in evil()) {
            if after(&octets).is_safe() {
                let mut rest = &octets[..];
                while !rest.is_empty() {
                    let end = crate::smtp::reply::border(rest).unwrap().expect("a whole reply");
                    rest = &rest[end..];
                }
            }
        }
    }
}
