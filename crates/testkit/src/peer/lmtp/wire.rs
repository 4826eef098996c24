//! Lines and octets as they come, none of them lost or changed, and where a message ends.

use std::io::BufRead as _;

use crate::peer::Conn;

/// What has come on a connection and was not used yet.
#[derive(Debug, Default)]
pub(super) struct Wire {
    come: Vec<u8>,
    /// How much of it is used.
    used: usize,
}

impl Wire {
    /// Whether there is more already.
    pub(super) fn has_more(&self) -> bool {
        self.used < self.come.len()
    }

    /// The next line with its end, LF; what came last when there is no LF any more. `None` at the end.
    pub(super) fn line(&mut self, conn: &mut Conn) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") && self.fill(conn) {
            let mut rest = self.come.get(self.used..).unwrap_or_default();
            // Searching an array of octets is never an error.
            self.used += rest.read_until(b'\n', &mut line).unwrap_or_default();
        }
        Some(line).filter(|line| !line.is_empty())
    }

    /// Some of the next octets, at most so many; `None` at the end.
    pub(super) fn octets(&mut self, conn: &mut Conn, most: usize) -> Option<Vec<u8>> {
        if !self.fill(conn) {
            return None;
        }
        let end = self.come.len().min(self.used.saturating_add(most));
        let octets = self.come.get(self.used..end)?.to_vec();
        self.used = end;
        Some(octets)
    }

    /// Takes back the last octets of what was handed out.
    pub(super) fn take_back(&mut self, octets: &[u8]) {
        let rest = self.come.get(self.used..).unwrap_or_default();
        self.come = [octets, rest].concat();
        self.used = 0;
    }

    fn fill(&mut self, conn: &mut Conn) -> bool {
        if self.has_more() {
            return true;
        }
        let more = conn.read_some();
        (self.come, self.used) = (more.unwrap_or_default(), 0);
        self.has_more()
    }
}

/// Finds the dot behind DATA, line by line.
#[derive(Debug)]
pub(super) struct Dot {
    lenient: bool,
    at_line_start: bool,
}

impl Dot {
    pub(super) fn new(lenient: bool) -> Dot {
        Dot { lenient, at_line_start: true }
    }

    /// Looks at the next line, which ends in LF, and says how much of it belongs to the message if it ends there.
    pub(super) fn found(&mut self, line: &[u8]) -> Option<usize> {
        if !self.lenient {
            let found = (self.at_line_start && line == b".\r\n").then_some(line.len());
            self.at_line_start = line.ends_with(b"\r\n");
            return found;
        }
        let is_end = |octet: Option<&u8>| matches!(octet, Some(b'\r' | b'\n'));
        for (at, octet) in line.iter().enumerate() {
            if self.at_line_start && *octet == b'.' && is_end(line.get(at + 1)) {
                let crlf = line.get(at + 1..at + 3) == Some(b"\r\n");
                return Some(at + if crlf { 3 } else { 2 });
            }
            self.at_line_start = is_end(Some(octet));
        }
        None
    }
}

/// The message in what came behind DATA: without the dot's line, and without the dots in front of others.
pub(super) fn undotted(raw: &[u8], lenient: bool) -> Vec<u8> {
    let (mut message, mut at_line_start) = (Vec::with_capacity(raw.len()), true);
    let body = match raw.iter().rposition(|&b| b == b'.') {
        Some(dot) => raw.get(..dot).unwrap_or_default(),
        None => raw,
    };
    for line in body.split_inclusive(|&b| b == b'\n' || (lenient && b == b'\r')) {
        message.extend_from_slice(if at_line_start { line.strip_prefix(b".").unwrap_or(line) } else { line });
        at_line_start = lenient || line.ends_with(b"\r\n");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of the octets is one message, fed line by line.
    fn end_of(raw: &[u8], lenient: bool) -> Option<usize> {
        let (mut dot, mut before) = (Dot::new(lenient), 0);
        for line in raw.split_inclusive(|&b| b == b'\n') {
            if let Some(n) = dot.found(line) {
                return Some(before + n);
            }
            before += line.len();
        }
        None
    }

    #[test]
    fn only_crlf_ends_a_message_unless_lenient() {
        for (raw, strict, lenient) in [
            (&b".\r\n"[..], Some(3), Some(3)),
            (b"a\r\n.\r\nb\r\n", Some(6), Some(6)),
            (b"a\n.\r\nb\r\n", None, Some(5)),
            (b"a\r\n.\nb\r\n", None, Some(5)),
            (b"a\n.\nb\r\n", None, Some(4)),
            (b"a\r.\rb\r\n", None, Some(4)),
            (b"a\r.\r\nb\r\n", None, Some(5)),
            (b"a\r\n.\rb\r\n", None, Some(5)),
            (b"a\r\n..\r\nb.\r\n", None, None),
        ] {
            assert_eq!((end_of(raw, false), end_of(raw, true)), (strict, lenient), "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn dots_are_taken_away_where_they_were_added() {
        let raw = b"..a\r\n.b\n.c\r\n..\r\n.\r\n";
        assert_eq!(undotted(raw, false), b".a\r\nb\n.c\r\n.\r\n");
        assert_eq!(undotted(raw, true), b".a\r\nb\nc\r\n.\r\n");
        assert_eq!(undotted(b".\r\n", false), b"");
    }
}
