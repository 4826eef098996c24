//! The trace field `Received` (RFC 5321 section 4.4), and the date in it (RFC 5322 section 3.3).
//!
//! ```text
//! Received: from client.example (mail.client.example [192.0.2.10])
//!     (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)
//!     (forwarded for up.example [198.51.100.9] helo=up.example id=4XyZ1q)
//!     by mail.example.com with LMTPS id sVyHBLBgcLN
//!     (envelope-from <joe@example.net>)
//!     for <alice@example.com>; Fri, 20 Nov 2026 07:21:56 +0000
//! ```
//!
//! What was not told is not there: no TLS, no word of who stood further up, no `for` where there are more recipients than one
//! (they might not know of each other). Names and addresses were said by peers, and nothing they say can end a comment, a
//! line or the field: octets that could are `?`. A recipient that would need that is left out, because `for` would name
//! somebody else. Letters beyond ASCII stand there only in the addresses of a mail whose `with` says that it may have them
//! (RFC 6531 section 3.7.3).
//!
//! Lines are folded at 76 octets where there is a place to fold them. Values are cut long before a line may be too long.

use crate::field::Field;
use std::net::IpAddr;
use wire::encode::is_invisible;
use wire::origin::xforward::Forwarded;
use wire::origin::{Origin, Told, unmapped};

/// What a trace field tells.
#[derive(Debug, Clone, Copy)]
pub struct Trace<'a> {
    /// Who handed over the mail.
    pub origin: &'a Origin,
    /// Who sent it before, where upstream told.
    pub forwarded: Option<&'a Forwarded>,
    /// What we are called.
    pub by: &'a str,
    /// What was spoken: `LMTP`, `LMTPS`, `UTF8LMTP` and so on (RFC 3848, RFC 6531 section 4.3). One with `UTF8` in front lets
    /// addresses stand as they are.
    pub with: &'a str,
    /// What we call the transaction.
    pub id: &'a str,
    /// Version and cipher of the client's TLS, where there is one and they are known.
    pub tls: Option<(&'a str, &'a str)>,
    /// The sender, without angle brackets; empty for a mail that may not be answered.
    pub envelope_from: &'a str,
    /// The recipient, without angle brackets: only where there is exactly one.
    pub envelope_to: Option<&'a str>,
    /// When, as [`date`] spells it.
    pub date: &'a str,
}

/// The trace field of one more server.
pub fn received(trace: &Trace) -> Field {
    let utf8 = trace.with.get(..4).is_some_and(|tag| tag.eq_ignore_ascii_case("UTF8"));
    let origin = trace.origin;
    let address = literal(origin.client.0.ip());
    let known = |told: &Option<Told>| told.as_ref().and_then(Told::known).map(str::to_owned);

    let mut lines = Folded::new("Received");
    lines.word("from");
    // There must be something, and an address may be it.
    lines.word(&known(&origin.helo).map_or_else(|| address.clone(), |helo| domain(&helo)));
    match known(&origin.host_name) {
        Some(name) => {
            lines.word(&format!("({}", atom(&name)));
            lines.word(&format!("{address})"));
        }
        None => lines.word(&format!("({address})")),
    }
    if let Some((version, cipher)) = trace.tls {
        lines.line();
        for word in ["(using", &atom(version), "with", "cipher", &format!("{})", atom(cipher))] {
            lines.word(word);
        }
    }
    if let Some(words) = trace.forwarded.and_then(upstream) {
        lines.line();
        lines.word("(forwarded");
        lines.word("for");
        words.iter().for_each(|word| lines.word(word));
    }
    lines.line();
    for word in ["by", &domain(trace.by), "with", &atom(trace.with), "id", &session(trace.id)] {
        lines.word(word);
    }
    lines.line();
    lines.word("(envelope-from");
    let recipient = trace.envelope_to.filter(|address| is_path(address, utf8));
    let end = if recipient.is_some() { "" } else { ";" };
    lines.word(&format!("<{}>){end}", cleaned(trace.envelope_from, ADDRESS_MAX, |c| in_comment(c, utf8))));
    if let Some(address) = recipient {
        lines.line();
        lines.word("for");
        lines.word(&format!("<{address}>;"));
    }
    lines.word(&cleaned(trace.date, VALUE_MAX, |c| in_comment(c, false)));
    lines.field()
}

/// A moment as mail spells it: `Fri, 20 Nov 2026 07:21:56 +0000`, in the time of a zone that is so far ahead of UTC. The zone is
/// told in minutes, so seconds of it do not count, and it is less than a day. Years are 1900 to 9999: what is beyond them is
/// the first or the last second there is.
pub fn date(unix_seconds: i64, offset_seconds: i32) -> String {
    const FIRST: i64 = -2_208_988_800;
    const LAST: i64 = 253_402_300_799;
    const DAY: i64 = 86_400;
    let offset = (i64::from(offset_seconds) / 60).clamp(-1439, 1439);
    let local = unix_seconds.saturating_add(offset * 60).clamp(FIRST, LAST);
    let (day, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
    let (year, month, of_month) = civil(day);
    let weekday = name(&["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"], day.rem_euclid(7));
    let month = name(&["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], month - 1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let sign = if offset < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
    format!("{weekday}, {of_month} {month} {year} {hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}")
}

fn name<'a>(names: &[&'a str], index: i64) -> &'a str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
}

/// Year, month and day of the month of a day counted from 1970. Years are counted from March on, so that the day that is not
/// always there is the last one; 400 of them have 146097 days.
fn civil(day: i64) -> (i64, i64, i64) {
    // 1970-01-01 is the 719468th day since the first of March of the year 0.
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_month)
}

/// The longest word of a peer that is shown, in octets.
const VALUE_MAX: usize = 255;

/// The longest address. RFC 5321 section 4.5.3.1 has 256; more are taken by many.
const ADDRESS_MAX: usize = 512;

/// What upstream told, as the words of a comment from behind its first two to its end; `None` where it knew nothing.
fn upstream(forwarded: &Forwarded) -> Option<Vec<String>> {
    let mut words = Vec::new();
    words.extend(forwarded.name.as_deref().map(atom));
    words.extend(forwarded.addr.map(literal));
    if words.is_empty() {
        words.push("unknown".to_owned());
    }
    words.extend(forwarded.helo.as_deref().map(|helo| format!("helo={}", domain(helo))));
    words.extend(forwarded.ident.as_deref().map(|ident| format!("id={}", atom(ident))));
    if words == ["unknown"] {
        return None;
    }
    words.last_mut()?.push(')');
    Some(words)
}

/// An address literal (RFC 5321 section 4.1.3).
fn literal(ip: IpAddr) -> String {
    match unmapped(ip) {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

/// A name or an address literal.
fn domain(text: &str) -> String {
    let address =
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).and_then(|text| match text.split_at_checked(5) {
            Some((tag, ip)) if tag.eq_ignore_ascii_case("IPv6:") => ip.parse().ok().map(IpAddr::V6),
            _ => text.parse().ok().map(IpAddr::V4),
        });
    // As it was said, in one spelling.
    address.map_or_else(|| atom(text), literal)
}

/// The name of a session. Proxies divide it by colons (`FRONT:P1`), which are no atom's and come as they are, as from Dovecot:
/// whoever looks for it finds it.
fn session(text: &str) -> String {
    let word = cleaned(text, VALUE_MAX, |c| c == ':' || in_atom(c, false));
    if word.is_empty() { "?".to_owned() } else { word }
}

/// A word that is one wherever it stands.
fn atom(text: &str) -> String {
    let word = cleaned(text, VALUE_MAX, |c| in_atom(c, false));
    if word.is_empty() { "?".to_owned() } else { word }
}

/// Every other character becomes `?`, and what is too long is cut.
fn cleaned(text: &str, max: usize, fine: impl Fn(char) -> bool) -> String {
    let mut clean = String::new();
    for c in text.chars() {
        let c = if fine(c) { c } else { '?' };
        if clean.len() + c.len_utf8() > max {
            break;
        }
        clean.push(c);
    }
    clean
}

/// RFC 5322 section 3.2.3, with the dot.
fn in_atom(c: char, utf8: bool) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || beyond_ascii(c, utf8)
}

/// RFC 5322 section 3.2.2, with blanks and without all that nests or escapes.
fn in_comment(c: char, utf8: bool) -> bool {
    matches!(c, ' '..='~') && !matches!(c, '(' | ')' | '\\') || beyond_ascii(c, utf8)
}

fn beyond_ascii(c: char, utf8: bool) -> bool {
    utf8 && !c.is_ascii() && !is_invisible(c)
}

/// An address that can stand in angle brackets as it is (RFC 5321 section 4.1.2): an atom or a quoted string without escapes
/// before the last `@`, a name or an address literal behind it. It may have no domain: LMTP servers know such users.
fn is_path(address: &str, utf8: bool) -> bool {
    let is_atom = |text: &str| !text.is_empty() && text.chars().all(|c| in_atom(c, utf8));
    let is_quoted = |text: &str| {
        let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        inside.is_some_and(|text| text.chars().all(|c| c != '"' && in_comment(c, utf8)))
    };
    let (local, domain) = match address.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (address, None),
    };
    let in_brackets = |text: &str| {
        let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        inside.is_some_and(|text| text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".:-".contains(&octet)))
    };
    address.len() <= ADDRESS_MAX
        && (is_atom(local) || is_quoted(local))
        && domain.is_none_or(|domain| is_atom(domain) || in_brackets(domain))
}

/// Words of a field, a blank or a folding between each two of them.
struct Folded {
    name: &'static str,
    value: String,
    /// How long the last line is.
    line: usize,
    /// The next word begins a line.
    fresh: bool,
}

/// The longest line that has a place to fold it, without its CRLF.
const FOLD_AT: usize = 76;

impl Folded {
    fn new(name: &'static str) -> Folded {
        Folded { name, value: String::new(), line: name.len() + ":".len(), fresh: false }
    }

    fn line(&mut self) {
        self.fresh = true;
    }

    /// One word that is not torn apart, without controls.
    fn word(&mut self, word: &str) {
        let word = word.trim_matches(' ');
        if word.is_empty() {
            return;
        }
        if self.fresh || self.line + 1 + word.len() > FOLD_AT {
            self.value.push_str("\r\n\t");
            self.line = 1;
        } else {
            // The one behind the colon comes with the name.
            self.value.push_str(if self.value.is_empty() { "" } else { " " });
            self.line += 1;
        }
        self.fresh = false;
        self.value.push_str(word);
        self.line += word.len();
    }

    /// No word has a line end, and no line only blanks.
    fn field(self) -> Field {
        Field::composed(self.name, &self.value)
    }
}

#[cfg(test)]
mod tests;
