//! What was said on one connection, line by line, for people to read; passwords are left out.
//!
//! A [`Tape`] is given the octets of both directions as they pass. Where a secret may stand is for the [`Speech`] to say; such
//! text shows as `***`. Lines are escaped and cut, so that nothing on a tape can play tricks on a terminal.

use super::speech::{Is, Speech};
use wire::encode;

/// The longest line that is shown; of a longer one the beginning.
const SHOWN_MAX: usize = 1024;
/// The most octets that are kept of a line whose end has not come.
const KEPT_MAX: usize = 16 * 1024;

/// One conversation.
pub struct Tape {
    speech: &'static dyn Speech,
    client: Partial,
    server: Partial,
    /// What the client's next line is.
    next: Is,
}

#[derive(Debug, Default)]
struct Partial(Vec<u8>);

impl Tape {
    /// Nothing has been said yet.
    pub fn new(speech: &'static dyn Speech) -> Tape {
        Tape { speech, client: Partial::default(), server: Partial::default(), next: Is::Command }
    }

    /// The client said these octets; the lines that are whole now.
    pub fn client(&mut self, octets: &[u8]) -> Vec<String> {
        self.client.lines(octets).iter().map(|line| self.client_line(line)).collect()
    }

    /// The server said these octets; the lines that are whole now.
    pub fn server(&mut self, octets: &[u8]) -> Vec<String> {
        let lines = self.server.lines(octets);
        if let Some(is) = lines.iter().rev().find_map(|line| self.speech.asks(line)) {
            self.next = is;
        }
        lines.iter().map(|line| escaped(line)).collect()
    }

    fn client_line(&mut self, line: &[u8]) -> String {
        let is = self.next;
        self.next = self.speech.behind(line, is);
        let shown = self.speech.shown(line, is);
        let mut words = escaped(line.get(..shown).unwrap_or_default());
        if shown < line.len() {
            words.truncate(words.trim_end().len());
            words.push_str(if words.is_empty() { "***" } else { " ***" });
        }
        words
    }
}

impl Partial {
    fn lines(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for piece in octets.split_inclusive(|octet| *octet == b'\n') {
            let room = KEPT_MAX.saturating_sub(self.0.len()).min(piece.len());
            self.0.extend_from_slice(piece.get(..room).unwrap_or_default());
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.0);
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                lines.push(line.strip_suffix(b"\r").unwrap_or(line).to_vec());
            }
        }
        lines
    }
}

/// Printable, and a backslash as it is: a flag should look like one, and nobody reads this back.
fn escaped(line: &[u8]) -> String {
    encode::escaped(line, SHOWN_MAX).replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::super::imap::Imap;
    use super::*;

    #[test]
    fn lines_come_whole_escaped_and_cut() {
        let mut tape = Tape::new(&Imap);
        assert!(tape.client(b"a NO").is_empty());
        assert_eq!(tape.client(b"OP\x1b[2J\r\nb"), ["a NOOP\\x1b[2J"]);
        assert!(tape.server(&[b'x'; 1 << 20]).is_empty());
        assert!(tape.server.0.len() <= KEPT_MAX);
        assert_eq!(tape.server(b"\r\n")[0].len(), SHOWN_MAX);
    }

    #[test]
    fn what_was_hidden_once_is_shown_no_more_than_that() {
        let mut tape = Tape::new(&Imap);
        tape.server(b"+ \r\n");
        assert_eq!(tape.client(b"\r\na NOOP\r\n"), ["", "a NOOP"]);
    }
}
