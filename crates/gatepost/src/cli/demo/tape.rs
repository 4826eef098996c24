//! What was said on one connection, line by line, for people to read; passwords are left out.
//!
//! A [`Tape`] is given the octets of both directions as they pass. It understands just enough IMAP to know where a secret may
//! stand, and is wrong on the safe side: the last argument of LOGIN, everything behind the mechanism of AUTHENTICATE, and
//! every line that a client sends as a literal or because the server asked for more, shows as `***`. Lines are escaped and
//! cut, so that nothing on a tape can play tricks on a terminal.

use wire::encode;
use wire::imap::text::{Cursor, announced, is_tag_char};

/// The longest line that is shown; of a longer one the beginning.
const SHOWN_MAX: usize = 1024;
/// The most octets that are kept of a line whose end has not come.
const KEPT_MAX: usize = 16 * 1024;

/// One conversation.
#[derive(Debug, Default)]
pub struct Tape {
    client: Partial,
    server: Partial,
    /// The client's next line is one that may hold a secret as a whole.
    hide_next: bool,
}

#[derive(Debug, Default)]
struct Partial(Vec<u8>);

impl Tape {
    /// The client said these octets; the lines that are whole now.
    pub fn client(&mut self, octets: &[u8]) -> Vec<String> {
        self.client.lines(octets).iter().map(|line| self.client_line(line)).collect()
    }

    /// The server said these octets; the lines that are whole now.
    pub fn server(&mut self, octets: &[u8]) -> Vec<String> {
        let lines = self.server.lines(octets);
        if lines.iter().any(|line| line.starts_with(b"+")) {
            self.hide_next = true;
        }
        lines.iter().map(|line| escaped(line)).collect()
    }

    fn client_line(&mut self, line: &[u8]) -> String {
        let hide = std::mem::replace(&mut self.hide_next, announced(line).is_some());
        if hide && !line.eq_ignore_ascii_case(b"DONE") { "***".to_owned() } else { without_password(line) }
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

/// A command's line as it may be shown.
fn without_password(line: &[u8]) -> String {
    let mut text = Cursor::new(line);
    let tag = text.run(is_tag_char);
    text.run(|octet| octet == b' ');
    let name = text.run(|octet| octet.is_ascii_alphanumeric()).unwrap_or_default();
    let behind_name = line.len().saturating_sub(text.rest().len());
    let shown = match name.to_ascii_uppercase().as_slice() {
        b"LOGIN" if text.space().is_ok() => {
            // Where the name cannot be told from the password, neither is shown.
            let is_name = text.astring().is_ok() && text.peek() == Some(b' ');
            if is_name { line.len().saturating_sub(text.rest().len()) } else { behind_name }
        }
        b"AUTHENTICATE" if text.space().is_ok() => {
            let _ = text.atom();
            line.len().saturating_sub(text.rest().len())
        }
        // A line without tag and name is no command that we know: it may be anything.
        _ if tag.is_none() && !line.is_empty() => 0,
        _ => line.len(),
    };
    let mut words = escaped(line.get(..shown).unwrap_or_default());
    if shown < line.len() {
        words.truncate(words.trim_end().len());
        words.push_str(if words.is_empty() { "***" } else { " ***" });
    }
    words
}

/// Printable, and a backslash as it is: a flag should look like one, and nobody reads this back.
fn escaped(line: &[u8]) -> String {
    encode::escaped(line, SHOWN_MAX).replace("\\\\", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let mut tape = Tape::default();
        assert_eq!(tape.client(format!("{line}\r\n").as_bytes()), [expected], "{line}");
    }

    #[test]
    fn passwords_are_left_out() {
        check("a LOGIN alice hunter2", "a LOGIN alice ***");
        check("a login \"al ice\" \"hunter2\"", "a login \"al ice\" ***");
        check("a LOGIN \"al ice hunter2", "a LOGIN ***");
        check("a LOGIN hunter2", "a LOGIN ***");
        check("a LOGIN  alice hunter2", "a LOGIN ***");
        check("a  LOGIN alice hunter2", "a  LOGIN alice ***");
        check("a AUTHENTICATE PLAIN AGEAYg==", "a AUTHENTICATE PLAIN ***");
        check("a AUTHENTICATE PLAIN", "a AUTHENTICATE PLAIN");
        check("a AUTHENTICATE \"hunter2\"", "a AUTHENTICATE ***");
        check("%hunter2", "***");
        check("a NOOP", "a NOOP");
        check("a ID (\"name\" \"x\")", "a ID (\"name\" \"x\")");
        check("", "");
    }

    #[test]
    fn answers_to_the_server_are_left_out() {
        let mut tape = Tape::default();
        assert_eq!(tape.client(b"a AUTHENTICATE LOGIN\r\n"), ["a AUTHENTICATE LOGIN"]);
        assert_eq!(tape.server(b"+ VXNlcm5hbWU6\r\n"), ["+ VXNlcm5hbWU6"]);
        assert_eq!(tape.client(b"aHVudGVyMg==\r\n"), ["***"]);
        tape.server(b"+ Idling\r\n");
        assert_eq!(tape.client(b"DONE\r\nb NOOP\r\n"), ["DONE", "b NOOP"]);
    }

    #[test]
    fn literals_are_left_out_however_they_are_sent() {
        let mut tape = Tape::default();
        let said = tape.client(b"a LOGIN {5+}\r\nalice {7+}\r\nhunter2\r\nb NOOP\r\n");
        assert_eq!(said, ["a LOGIN ***", "***", "***", "b NOOP"]);
    }

    #[test]
    fn lines_come_whole_escaped_and_cut() {
        let mut tape = Tape::default();
        assert!(tape.client(b"a NO").is_empty());
        assert_eq!(tape.client(b"OP\x1b[2J\r\nb"), ["a NOOP\\x1b[2J"]);
        assert!(tape.server(&[b'x'; 1 << 20]).is_empty());
        assert!(tape.server.0.len() <= KEPT_MAX);
        assert_eq!(tape.server(b"\r\n")[0].len(), SHOWN_MAX);
    }
}
