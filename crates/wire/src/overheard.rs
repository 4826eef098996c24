//! What is said in a conversation, fit to be shown to an operator: every secret is left out by what it *is*, not by how it looks.
//!
//! Nobody taps octets. Fronts say which command they have read, dialects which one they have written, and both name its
//! parts: a password and a SASL response are `***` whatever they hold and however they were spelled. What was not understood
//! may hold anything, so of that only a well-known word and the length are told.
//!
//! Two kinds of text are free: what a client says of itself (ID), and what a backend answers, which may repeat a password.
//! [`Line::free`] says so, and whoever shows such a line asks a [`Censor`] first, once the passwords are known. The censor leaves
//! out the words of a line that has as much as a piece of one in it.
//!
//! While nobody listens nothing is made: [`Notes`] is one empty pointer.

use crate::encode::{base64_encode, escaped, is_invisible};
use crate::origin::xclient;
use crate::secret::Secret;
use memchr::memmem;

/// What stands for a secret.
pub const MASK: &str = "***";

/// The most octets of one line that are shown.
const LINE_MAX: usize = 2000;

/// One line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The peer said it; else we did.
    pub from_peer: bool,
    /// Parts of it are words that somebody chose, and may be anything.
    pub free: bool,
    /// The line without its end; printable, without secrets.
    pub text: String,
    /// The name that somebody signs in with, where the line says one.
    pub user: Option<String>,
}

/// A command that was read or written, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The words.
    pub text: String,
    /// Parts of it are words that somebody chose.
    pub free: bool,
    /// The tag, where it is one that is shown: answers may show it, too.
    pub tag: Option<String>,
    /// The name that somebody signs in with, where the command says one.
    pub user: Option<String>,
}

impl Shown {
    /// A SASL response, whatever it holds.
    pub(crate) fn sasl_response(cancelled: bool, decoded: bool) -> Shown {
        match (cancelled, decoded) {
            (true, _) => Shown::plain("*"),
            (_, true) => Shown::plain(MASK),
            (_, false) => Shown::plain(format!("{MASK} (no base64)")),
        }
    }

    /// XCLIENT in its plain flavour: names and values. `FORWARD` is base64 of more of them, and is not taken apart here.
    pub(crate) fn xclient(attributes: &[u8]) -> Shown {
        let words = attributes.split(|octet| *octet == b' ').filter(|word| !word.is_empty()).map(|word| {
            let text = text(word);
            match text.split_once('=') {
                Some((name, _)) if name.eq_ignore_ascii_case("FORWARD") => format!("FORWARD={MASK}"),
                Some((name, _)) if xclient::KEYS.into_iter().any(|key| key.eq_ignore_ascii_case(name)) => text,
                _ => format!("... ({} octets)", word.len()),
            }
        });
        let text = std::iter::once("XCLIENT".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
        Shown { free: true, ..Shown::plain(text) }
    }

    /// A command of fixed words alone.
    pub fn plain(text: impl Into<String>) -> Shown {
        Shown { text: text.into(), free: false, tag: None, user: None }
    }

    /// Something of which only the first word, if it is one of these, and the length are told.
    pub(crate) fn withheld_behind(words: &[&str], octets: &[u8], why: &str) -> Shown {
        let word = octets.split(|octet| octet.is_ascii_whitespace()).next().unwrap_or_default();
        let known = words.iter().copied().find(|known| known.as_bytes().eq_ignore_ascii_case(word));
        Shown::withheld(known, octets.len(), why)
    }

    /// Something of which only a word, if anything, and the length are told.
    pub fn withheld(word: Option<&str>, octets: usize, why: &str) -> Shown {
        let word = word.unwrap_or_default();
        let blank = if word.is_empty() { "" } else { " " };
        Shown::plain(format!("{word}{blank}... ({octets} octets, {why})"))
    }
}

/// What a machine has heard and said since it was last asked, kept only while somebody listens.
#[derive(Debug, Default)]
pub struct Notes(Option<Box<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// What was heard, and how much had been said in answer to what came before.
    heard: Vec<(usize, Shown)>,
    /// The tag of the command heard last.
    tag: Option<String>,
}

impl Notes {
    /// Begins, or ends.
    pub fn keep(&mut self, on: bool) {
        if on != self.0.is_some() {
            self.0 = on.then(Box::default);
        }
    }

    /// Notes a command; `said` is how much waits in the output already. It is rendered only where somebody listens.
    pub fn heard(&mut self, said: usize, shown: impl FnOnce() -> Shown) {
        if let Some(kept) = &mut self.0 {
            kept.heard.push((said, shown()));
        }
    }

    /// What was noted, in order, and forgotten with that.
    pub fn take(&mut self) -> Vec<Shown> {
        self.0
            .as_mut()
            .map(|kept| std::mem::take(&mut kept.heard))
            .unwrap_or_default()
            .into_iter()
            .map(|(_, shown)| shown)
            .collect()
    }

    /// What was noted, between the lines of our own that waited in the output. Where `tagged`, the first word of ours that
    /// is neither `*` nor `+` is the client's tag, and shown only if it is the one of a command that was shown.
    pub fn merged(&mut self, out: &[u8], tagged: bool) -> Vec<Line> {
        let Some(kept) = &mut self.0 else { return Vec::new() };
        let mut lines = Vec::new();
        let mut from = 0;
        for (upto, shown) in std::mem::take(&mut kept.heard) {
            let upto = upto.min(out.len());
            ours(out.get(from..upto).unwrap_or_default(), tagged.then_some(kept.tag.as_deref()), &mut lines);
            from = upto.max(from);
            kept.tag = shown.tag;
            lines.push(Line { from_peer: true, free: shown.free, text: shown.text, user: shown.user });
        }
        ours(out.get(from..).unwrap_or_default(), tagged.then_some(kept.tag.as_deref()), &mut lines);
        lines
    }
}

/// Lines that we said.
fn ours(out: &[u8], tags: Option<Option<&str>>, lines: &mut Vec<Line>) {
    for line in out.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
        let mut text = text(line);
        if let Some(tag) = tags {
            let first = text.split(' ').next().unwrap_or_default();
            if !matches!(first, "*" | "+") && Some(first) != tag {
                text.replace_range(..first.len(), MASK);
            }
        }
        lines.push(Line { from_peer: false, free: true, text, user: None });
    }
}

/// A line of anybody, on one line, cut, without its end.
pub fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) if line.len() <= LINE_MAX && !text.chars().any(is_invisible) => text.to_owned(),
        _ => escaped(line, LINE_MAX),
    }
}

/// A value between quotation marks.
pub fn quoted(value: &[u8]) -> String {
    let text = text(value);
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        if c == '"' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Whether a field of this name holds a secret. `nopassword` and its like say only that there is none.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.split(':').next().unwrap_or(&name);
    name != "nopassword" && ["pass", "secret", "token"].iter().any(|word| name.contains(word))
}

/// The mechanism by its name, if it is one that there is: anything may stand in its place.
pub fn mechanism(name: &str) -> String {
    const KNOWN: [&str; 17] = [
        "ANONYMOUS",
        "APOP",
        "CRAM-MD5",
        "DIGEST-MD5",
        "EXTERNAL",
        "GSS-SPNEGO",
        "GSSAPI",
        "LOGIN",
        "NTLM",
        "OAUTHBEARER",
        "PLAIN",
        "SCRAM-SHA-1",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "XOAUTH2",
        "X-MASTERAUTH",
    ];
    if KNOWN.contains(&name) { name.to_owned() } else { format!("(some mechanism, {} octets)", name.len()) }
}

/// Knows the passwords of one dialogue, and leaves out words that repeat a piece of one.
///
/// A piece is four to six letters or digits in a row, with whatever else stands between them passed over, of the password or
/// of its base64 at any offset; case does not count. Names that are no secret are passed over. So it may leave out words that
/// share a piece with a password by chance; and a backend that is out to tell a password in a cipher of its own cannot be
/// stopped by it, or by anything but silence.
#[derive(Debug, Default)]
pub struct Censor {
    /// All pieces of all passwords, packed, in order: a line is looked through in a time that does not depend on how many there
    /// are, or how long.
    pieces: Option<Secret<Vec<u64>>>,
    /// There were more: then nothing that others chose is shown.
    full: bool,
    /// Names in lower case, letters and digits alone, the longest first.
    names: Vec<Vec<u8>>,
}

/// How long pieces are.
const PIECES: std::ops::RangeInclusive<usize> = 4..=6;

impl Censor {
    /// The most pieces of one dialogue: of more passwords than one connection may try.
    const PIECES_MAX: usize = 1 << 16;
    /// The most names.
    const NAMES_MAX: usize = 64;

    /// Takes in a password that is about to be used.
    pub fn add(&mut self, password: &[u8]) {
        let as_shown = Secret::new(escaped(password, usize::MAX).into_bytes());
        let mut forms = vec![(letters(password), 4), (letters(as_shown.expose()), 4)];
        // Base64 of it anywhere in a longer text: what stands before it shifts the groups. The first and the last of them
        // depend on the neighbours.
        for before in 0..3usize {
            let mut shifted = Vec::with_capacity(password.len().saturating_add(before));
            shifted.resize(before, 0);
            shifted.extend_from_slice(password);
            let text = base64_encode(Secret::new(shifted).expose());
            let own = text.expose().get(usize::from(before > 0) * 4..).unwrap_or_default();
            let whole = own.len().saturating_sub(4);
            forms.push((letters(own.get(..whole).unwrap_or_default()), 6));
        }
        let known = self.pieces.as_ref().map_or(0, |pieces| pieces.expose().len());
        // Room for all of it at once: a vector that grows leaves copies behind.
        let room = forms.iter().map(|(letters, _)| letters.expose().len()).fold(known, usize::saturating_add);
        let mut pieces = Vec::with_capacity(room);
        pieces.extend_from_slice(self.pieces.as_ref().map(Secret::expose).map_or(&[], Vec::as_slice));
        for (letters, least) in &forms {
            let length = (letters.expose().len() / 2).clamp(*least, *PIECES.end());
            pieces.extend(letters.expose().windows(length).map(packed));
        }
        pieces.sort_unstable();
        pieces.dedup();
        self.full |= pieces.len() > Self::PIECES_MAX;
        pieces.truncate(Self::PIECES_MAX);
        self.pieces = Some(Secret::new(pieces));
    }

    /// Takes in a name that may be shown.
    pub fn name(&mut self, name: &str) {
        for name in [name, name.split('@').next().unwrap_or(name)] {
            let name = letters(name.as_bytes()).expose().clone();
            if name.len() >= 3 && !self.names.contains(&name) && self.names.len() < Self::NAMES_MAX {
                self.names.push(name);
            }
        }
        self.names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    }

    /// The text, or as much of it as cannot hold a piece of a password.
    pub fn shown(&self, text: String) -> String {
        if !self.repeats(&text) {
            return text;
        }
        let head = head(&text);
        let kept = text.get(..head).unwrap_or_default();
        format!("{kept}(left out: {} octets that may repeat a password)", text.len().saturating_sub(head))
    }

    /// A value, or a mask for one that holds a piece of a password.
    pub fn value(&self, value: &str) -> String {
        if self.repeats(value) { MASK.to_owned() } else { value.to_owned() }
    }

    fn repeats(&self, text: &str) -> bool {
        let Some(pieces) = &self.pieces else { return false };
        let text = letters(text.as_bytes());
        let mut rest = text.expose().clone();
        for name in &self.names {
            let places: Vec<usize> = memmem::find_iter(&rest, name).collect();
            for at in places {
                if let Some(place) = rest.get_mut(at..at.saturating_add(name.len())) {
                    place.fill(0);
                }
            }
        }
        let rest = Secret::new(rest);
        if self.full {
            return true;
        }
        let is_one = |piece: &[u8]| pieces.expose().binary_search(&packed(piece)).is_ok();
        PIECES.into_iter().any(|length| rest.expose().windows(length).any(is_one))
    }
}

/// A piece as a number: at most six octets, and how many.
fn packed(piece: &[u8]) -> u64 {
    piece.iter().fold(piece.len() as u64, |sum, octet| sum << 8 | u64::from(*octet))
}

/// Whether a reply is a success: `OK` stands in front, or behind a tag, or it has a code of SMTP that says so.
pub(crate) fn is_yes(reply: &str) -> bool {
    if smtp_head(reply).is_some() {
        return reply.starts_with('2');
    }
    let mut words = reply.split(' ');
    match words.next() {
        Some("+OK" | "OK") => true,
        Some("-ERR" | "NO" | "BYE") | None => false,
        Some(_tag) => words.next() == Some("OK"),
    }
}

/// Letters and digits alone, in lower case; what is no ASCII stays.
fn letters(octets: &[u8]) -> Secret<Vec<u8>> {
    let mut letters = Vec::with_capacity(octets.len());
    letters.extend(octets.iter().filter(|octet| octet.is_ascii_alphanumeric() || !octet.is_ascii()).map(u8::to_ascii_lowercase));
    Secret::new(letters)
}

/// How much of a line of SMTP is its codes, `535 5.7.8 `; none where it is not one.
fn smtp_head(text: &str) -> Option<usize> {
    let (code, rest) = text.as_bytes().split_at_checked(3)?;
    if !matches!(code, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
        return None;
    }
    let (_, rest) = match rest.split_first() {
        None => return Some(code.len()),
        Some((separator, rest)) if matches!(separator, b' ' | b'-') => (separator, rest),
        Some(_) => return None,
    };
    // An enhanced code is three numbers with points between, of which the first says no more than the code before.
    let enhanced = rest.split(|octet| *octet == b' ').next().unwrap_or_default();
    let is_number = |part: &[u8]| (1..=3).contains(&part.len()) && part.iter().all(u8::is_ascii_digit);
    let parts: Vec<&[u8]> = enhanced.splitn(4, |octet| *octet == b'.').collect();
    let is_one = parts.len() == 3 && parts.iter().all(|part| is_number(part));
    Some(4 + if is_one { (enhanced.len() + 1).min(rest.len()) } else { 0 })
}

/// How much of a reply is its protocol's own words: a tag, the condition, a code that is known.
fn head(text: &str) -> usize {
    const CONDITIONS: [&str; 6] = ["OK", "NO", "BAD", "BYE", "+OK", "-ERR"];
    const CODES: [&str; 21] = [
        "(AUTH-TOO-WEAK)",
        "(ENCRYPT-NEEDED)",
        "(TRANSITION-NEEDED)",
        "(TRYLATER)",
        "(TRYLATER/NORETRY)",
        "[ALERT]",
        "[AUTH]",
        "[AUTHENTICATIONFAILED]",
        "[AUTHORIZATIONFAILED]",
        "[CONTACTADMIN]",
        "[EXPIRED]",
        "[IN-USE]",
        "[INUSE]",
        "[LIMIT]",
        "[LOGIN-DELAY]",
        "[PRIVACYREQUIRED]",
        "[SERVERBUG]",
        "[SYS/PERM]",
        "[SYS/TEMP]",
        "[TRYLATER]",
        "[UNAVAILABLE]",
    ];
    if let Some(head) = smtp_head(text) {
        return head;
    }
    let mut words = text.split(' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let after = |word: &str, from: usize| {
        if text.get(from..).is_some_and(|rest| rest.starts_with(word)) { from + word.len() + 1 } else { from }
    };
    let mut end = if CONDITIONS.contains(&first) {
        first.len() + 1
    } else if CONDITIONS.contains(&second) {
        first.len() + second.len() + 2
    } else if matches!(first, "*" | "+") {
        first.len() + 1
    } else {
        return 0;
    };
    if let Some(code) = text.get(end..).and_then(|rest| CODES.into_iter().find(|code| rest.starts_with(code))) {
        end = after(code, end);
    }
    end.min(text.len())
}

#[cfg(test)]
mod tests;
