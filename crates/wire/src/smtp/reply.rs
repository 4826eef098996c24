//! What an SMTP server says before and while it lets a user in: one reply of one or more lines at a time.
//!
//! [`border`] finds where the first reply ends, and [`read`] finds its meaning. All lines of a reply have the same code; one that
//! changes it, a bare CR, a bare LF or a NUL is no reply. How long one may be is for whoever asks to say.
//!
//! RFC 5321 section 4.2 (replies), RFC 3463 and RFC 5248 (enhanced codes).

use crate::line::{Found, LineScan};

/// One reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Its three digits, from 200 to 599.
    pub code: u16,
    /// What stands behind the code of each line, and behind the blank or hyphen there.
    pub lines: Vec<&'a [u8]>,
}

impl Reply<'_> {
    /// The enhanced code at the beginning, such as `5.7.8`.
    pub fn enhanced(&self) -> Option<&str> {
        self.lines.first().and_then(|line| enhanced(line)).map(|(code, _)| code)
    }

    /// The words without codes, the lines joined by blanks.
    pub fn text(&self) -> Vec<u8> {
        let words = |line: &&[u8]| enhanced(line).map_or(*line, |(_, rest)| rest).trim_ascii().to_vec();
        self.lines.iter().map(words).filter(|words| !words.is_empty()).collect::<Vec<_>>().join(&b' ')
    }

    /// The code and the lines as they came, joined by blanks.
    pub fn whole(&self) -> Vec<u8> {
        let mut whole = self.code.to_string().into_bytes();
        for line in self.lines.iter().map(|line| line.trim_ascii()).filter(|line| !line.is_empty()) {
            whole.push(b' ');
            whole.extend_from_slice(line);
        }
        whole
    }
}

/// The octets of the first whole reply in `input`, its last CRLF included; `None` while it is not all here. A line that goes on
/// with no reply ends it: whether it was one is for [`read`] to say, which can be told what it was.
///
/// # Errors
/// What is here cannot be the beginning of a reply: a bare CR or LF.
pub fn border(input: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut start = 0usize;
    loop {
        let rest = input.get(start..).unwrap_or_default();
        let length = match LineScan::new().find(rest, usize::MAX) {
            Found::Line(length) => length,
            Found::More | Found::TooLong => return Ok(None),
            Found::Bare(_) => return Err("a bare CR or LF"),
        };
        let goes_on = rest.get(..length).and_then(split).is_some_and(|(code, last, _)| !last && input.starts_with(code));
        start = start.saturating_add(length).saturating_add(2);
        if !goes_on {
            return Ok(Some(start));
        }
    }
}

/// Reads one whole reply, as [`border`] found it.
///
/// # Errors
/// It is not in the grammar.
pub fn read(reply: &[u8]) -> Result<Reply<'_>, &'static str> {
    let whole = reply.strip_suffix(b"\r\n").ok_or("not a whole line")?;
    if whole.contains(&0) {
        return Err("a NUL");
    }
    let mut lines = Vec::new();
    for line in whole.split(|octet| *octet == b'\n') {
        let (code, _, text) = split(line.strip_suffix(b"\r").unwrap_or(line)).ok_or("no reply code")?;
        if !whole.starts_with(code) {
            return Err("a reply code that changes");
        }
        lines.push(text);
    }
    let digits = whole.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
    let code = digits.and_then(|digits| digits.parse().ok()).filter(|code| (200..600).contains(code)).ok_or("no reply code")?;
    Ok(Reply { code, lines })
}

/// The code of a line, whether that is the last one of its reply, and what stands behind them.
fn split(line: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3).filter(|(code, _)| code.iter().all(u8::is_ascii_digit))?;
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

/// The enhanced code that a text begins with, and what stands behind it.
fn enhanced(line: &[u8]) -> Option<(&str, &[u8])> {
    let end = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
    let (code, rest) = line.split_at_checked(end)?;
    let code = std::str::from_utf8(code).ok()?;
    let mut parts = code.split('.');
    let class = parts.next().is_some_and(|class| matches!(class, "2" | "4" | "5"));
    let mut number =
        || parts.next().is_some_and(|part| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()));
    let whole = class && number() && number();
    (whole && parts.next().is_none()).then_some((code, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(reply: &str) -> String {
        let octets = reply.as_bytes();
        match border(octets) {
            Ok(Some(end)) if end == octets.len() => {}
            Ok(other) => return format!("border {other:?}"),
            Err(why) => return why.to_owned(),
        }
        match read(octets) {
            Ok(reply) => {
                let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
                format!("{} {:?} <{}> <{}>", reply.code, reply.enhanced(), text(reply.text()), text(reply.whole()))
            }
            Err(why) => why.to_owned(),
        }
    }

    #[test]
    fn replies_mean_what_the_grammar_says() {
        for (reply, expected) in [
            ("220 mail ESMTP\r\n", "220 None <mail ESMTP> <220 mail ESMTP>"),
            ("220\r\n", "220 None <> <220>"),
            ("220 \r\n", "220 None <> <220>"),
            ("235 2.7.0 Logged in.\r\n", "235 Some(\"2.7.0\") <Logged in.> <235 2.7.0 Logged in.>"),
            ("535 5.7.8\r\n", "535 Some(\"5.7.8\") <> <535 5.7.8>"),
            ("535-5.7.8 Bad.\r\n535 5.7.8 Very\r\n", "535 Some(\"5.7.8\") <Bad. Very> <535 5.7.8 Bad. 5.7.8 Very>"),
            ("535-\r\n535-a\r\n535\r\n", "535 None <a> <535 a>"),
            ("550 5.2.900 a@b:587 Referral\r\n", "550 Some(\"5.2.900\") <a@b:587 Referral> <550 5.2.900 a@b:587 Referral>"),
            ("500 3.7.8 x\r\n", "500 None <3.7.8 x> <500 3.7.8 x>"),
            ("500 5.7 x\r\n", "500 None <5.7 x> <500 5.7 x>"),
            ("500 5.7.8.9 x\r\n", "500 None <5.7.8.9 x> <500 5.7.8.9 x>"),
            ("500 5.7.1000 x\r\n", "500 None <5.7.1000 x> <500 5.7.1000 x>"),
            ("220-a\r\n250 b\r\n", "a reply code that changes"),
            ("220-a\r\n250-b\r\n", "a reply code that changes"),
            ("220-a\r\n220_b\r\n", "no reply code"),
            ("220-a\r\n\r\n", "no reply code"),
            ("220-a\r\n", "border None"),
            ("220-a\r\n22", "border None"),
            ("220_a\r\n", "no reply code"),
            ("22\r\n", "no reply code"),
            ("+OK\r\n", "no reply code"),
            ("\r\n", "no reply code"),
            ("220 a\nb\r\n", "a bare CR or LF"),
            ("220 a\rb\r\n", "a bare CR or LF"),
            ("220 a\0\r\n", "a NUL"),
            ("150 wait\r\n", "no reply code"),
            ("999 x\r\n", "no reply code"),
            ("", "border None"),
            ("2", "border None"),
            ("220 a\r\n220 b\r\n", "border Some(7)"),
        ] {
            assert_eq!(shown(reply), expected, "{reply:?}");
        }
    }

    fn likely() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 9] = [b"220", b"250", b"-", b" ", b"\r\n", b"\r", b"\n", b"5.7.8", b"x\0\xff"];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_panics_and_borders_lie_inside(input in likely()) {
            if let Ok(Some(end)) = border(&input) {
                prop_assert!(end <= input.len() && input[..end].ends_with(b"\r\n"));
                let _ = read(&input[..end]).map(|reply| (reply.text(), reply.whole(), reply.enhanced().map(str::to_owned)));
            }
        }

        /// Whatever is said of a part stays true of the whole: a border never moves, and what is none stays none.
        #[test]
        fn pieces_do_not_matter(input in likely()) {
            let whole = border(&input);
            for end in 0..input.len() {
                match border(&input[..end]) {
                    Ok(None) => {}
                    known => prop_assert_eq!(&known, &whole),
                }
            }
        }
    }
}
