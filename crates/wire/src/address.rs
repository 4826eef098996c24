//! Mailboxes, as they stand in the envelope of a mail.
//!
//! [`read_path`] reads what stands behind `MAIL FROM:` and `RCPT TO:` up to its `>`, and [`Mailbox`] spells itself so that it is
//! read back as the same: a local part that needs quotes gets them. A source route is passed over (RFC 5321 section 4.1.1.3).
//! Read generously, because mailboxes exist that no standard would let exist, but never so that one address could be two to
//! two readers: no control characters, no blanks outside of quotes, one `@` that counts, and no empty local part.
//!
//! A domain may be missing: LMTP servers know users without one.
//!
//! RFC 5321 section 4.1.2 (the grammar), RFC 6531 section 3.3 (UTF-8 in it).

use std::fmt;

/// The longest path that is read, in octets: twice RFC 5321's, because senders with long return paths exist (VERP, SRS).
pub const PATH_MAX: usize = 512;

/// Where mail for somebody goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    local: Box<str>,
    domain: Option<Box<str>>,
}

/// A path that is none, in words that do not quote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPath(pub &'static str);

impl Mailbox {
    /// The mailbox of a user as databases call it, `joe` or `joe@example.com`; `None` where nothing can be delivered to such a
    /// name. The last `@` divides it.
    pub fn of_user(user: &str) -> Option<Mailbox> {
        let (local, domain) = match user.rsplit_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (user, None),
        };
        let fine = is_local(local) && domain.is_none_or(is_domain) && user.len() + 2 <= PATH_MAX;
        fine.then(|| Mailbox { local: local.into(), domain: domain.map(Into::into) })
    }

    /// The part in front of the `@`, without quotes.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part behind it.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The name by which databases know it: without quotes.
    pub fn user(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{}@{domain}", self.local),
            None => self.local.to_string(),
        }
    }

    /// Divides the local part where one of these characters comes first: the mailbox without the detail, and the detail with the
    /// character in front. Nothing is divided that would leave no name.
    pub fn without_detail(&self, delimiters: &str) -> (Mailbox, Option<&str>) {
        let at = self.local.char_indices().skip(1).find(|(_, c)| delimiters.contains(*c)).map(|(at, _)| at);
        match at.and_then(|at| self.local.split_at_checked(at)) {
            Some((name, detail)) => (Mailbox { local: name.into(), domain: self.domain.clone() }, Some(detail)),
            None => (self.clone(), None),
        }
    }

    /// The same with a detail, which brings its delimiter along.
    #[must_use]
    pub fn with_detail(&self, detail: &str) -> Mailbox {
        Mailbox { local: format!("{}{detail}", self.local).into(), domain: self.domain.clone() }
    }

    /// It can only be said where SMTPUTF8 is understood.
    pub fn is_international(&self) -> bool {
        !self.local.is_ascii() || self.domain.as_ref().is_some_and(|domain| !domain.is_ascii())
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            f.write_str(&self.local)?;
        } else {
            f.write_str("\"")?;
            for c in self.local.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            f.write_str("\"")?;
        }
        match &self.domain {
            Some(domain) => write!(f, "@{domain}"),
            None => Ok(()),
        }
    }
}

/// Reads a path in angle brackets at the beginning of `text`: the mailbox, `None` for `<>`, and what stands behind it.
///
/// # Errors
/// It is none.
pub fn read_path(text: &str) -> Result<(Option<Mailbox>, &str), BadPath> {
    let inner = text.strip_prefix('<').ok_or(BadPath("An address in angle brackets is needed."))?;
    let mut quoted = false;
    let mut escaped = false;
    let end = inner.char_indices().find(|(_, c)| match c {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' if quoted => {
            escaped = true;
            false
        }
        '"' => {
            quoted = !quoted;
            false
        }
        '>' => !quoted,
        _ => false,
    });
    let (path, rest) = end.and_then(|(at, _)| inner.split_at_checked(at)).ok_or(BadPath("The address has no end."))?;
    let rest = rest.strip_prefix('>').unwrap_or(rest);
    if path.len() + 2 > PATH_MAX {
        return Err(BadPath("The address is too long."));
    }
    if path.is_empty() {
        return Ok((None, rest));
    }
    Ok((Some(read_mailbox(without_route(path)?)?), rest))
}

/// `@a,@b:joe@c` is `joe@c`.
fn without_route(path: &str) -> Result<&str, BadPath> {
    match path.strip_prefix('@') {
        Some(route) => route.split_once(':').map(|(_, mailbox)| mailbox).ok_or(BadPath("The address has no local part.")),
        None => Ok(path),
    }
}

fn read_mailbox(text: &str) -> Result<Mailbox, BadPath> {
    let (local, rest) = match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => {
            let at = text.find('@').unwrap_or(text.len());
            let (local, rest) = text.split_at_checked(at).unwrap_or((text, ""));
            if !is_dot_string(local) {
                return Err(BadPath("The local part of the address is malformed."));
            }
            (local.to_owned(), rest)
        }
    };
    if !is_local(&local) {
        return Err(BadPath("The local part of the address is malformed."));
    }
    let domain = match rest.strip_prefix('@') {
        Some(domain) if is_domain(domain) => Some(domain.into()),
        None if rest.is_empty() => None,
        _ => return Err(BadPath("The domain of the address is malformed.")),
    };
    Ok(Mailbox { local: local.into(), domain })
}

/// A quoted string without its first quote: its value, and what stands behind it.
fn unquoted(text: &str) -> Result<(String, &str), BadPath> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    Err(BadPath("A quote of the address has no end."))
}

/// Any text that a quoted string could hold.
fn is_local(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control)
}

/// Atoms and dots, the dots wherever they are: mailboxes with two in a row exist.
fn is_dot_string(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| {
            !c.is_ascii() && !c.is_control() && !c.is_whitespace()
                || c.is_ascii_alphanumeric()
                || ".!#$%&'*+-/=?^_`{|}~".contains(c)
        })
}

/// A name or an address in brackets. Underscores exist; so do names that end in a dot, but not in mail.
fn is_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return !literal.is_empty()
            && literal.len() <= 255
            && literal.bytes().all(|b| b.is_ascii_graphic() && !b"[]\\".contains(&b));
    }
    let fine =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || !c.is_ascii() && !c.is_control() && !c.is_whitespace();
    text.len() <= 255 && text.split('.').all(|label| !label.is_empty() && label.chars().all(fine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        match read_path(text) {
            Ok((None, rest)) => format!("nobody|{rest}"),
            Ok((Some(mailbox), rest)) => format!("{}|{mailbox}|{rest}", mailbox.user()),
            Err(BadPath(why)) => why.to_owned(),
        }
    }

    #[test]
    fn paths_mean_what_they_say() {
        const LOCAL: &str = "The local part of the address is malformed.";
        const DOMAIN: &str = "The domain of the address is malformed.";
        for (text, expected) in [
            ("<>", "nobody|"),
            ("<> SIZE=1", "nobody| SIZE=1"),
            ("<joe@example.com>", "joe@example.com|joe@example.com|"),
            ("<joe>", "joe|joe|"),
            ("<Joe+x=y@[192.0.2.1]> A", "Joe+x=y@[192.0.2.1]|Joe+x=y@[192.0.2.1]| A"),
            ("<a..b.@example.com>", "a..b.@example.com|a..b.@example.com|"),
            ("<@a.example,@b.example:joe@c.example>", "joe@c.example|joe@c.example|"),
            ("<\"joe\"@example.com>", "joe@example.com|joe@example.com|"),
            ("<\"a b>c\\\"\"@example.com>", "a b>c\"@example.com|\"a b>c\\\"\"@example.com|"),
            ("<j\u{f6}rg@b\u{fc}cher.example>", "j\u{f6}rg@b\u{fc}cher.example|j\u{f6}rg@b\u{fc}cher.example|"),
            ("<\"\">", LOCAL),
            ("<\"\"@example.com>", LOCAL),
            ("<@example.com>", "The address has no local part."),
            ("<a b@example.com>", LOCAL),
            ("<a@b@c>", DOMAIN),
            ("<a@>", DOMAIN),
            ("<a@b..c>", DOMAIN),
            ("<a@b c>", DOMAIN),
            ("<a@[]>", DOMAIN),
            ("<\"a\"b@c>", DOMAIN),
            ("<;x;@example.com>", LOCAL),
            ("<a\0@b>", LOCAL),
            ("<\"a\u{7}\"@b>", LOCAL),
            ("joe@example.com", "An address in angle brackets is needed."),
            ("<joe@example.com", "The address has no end."),
            ("<\"joe@example.com>", "The address has no end."),
            ("", "An address in angle brackets is needed."),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(read(&format!("<{}@b>", "a".repeat(600))), "The address is too long.");
        assert_eq!(read(&format!("<{}@b>", "a".repeat(256))), LOCAL);
    }

    #[test]
    fn a_detail_comes_off_and_on_again() {
        for (user, delimiters, name, detail) in [
            ("joe+box@d", "+", "joe@d", Some("+box")),
            ("joe+a+b@d", "+", "joe@d", Some("+a+b")),
            ("joe-a+b@d", "+-", "joe@d", Some("-a+b")),
            ("+box@d", "+", "+box@d", None),
            ("joe@d+e", "+", "joe@d+e", None),
            ("joe+@d", "+", "joe@d", Some("+")),
            ("joe+box", "", "joe+box", None),
        ] {
            let Some(mailbox) = Mailbox::of_user(user) else {
                assert!(user.contains("d+e"), "{user}: no domain has a plus");
                continue;
            };
            let (bare, found) = mailbox.without_detail(delimiters);
            assert_eq!((bare.user().as_str(), found), (name, detail), "{user}");
            assert_eq!(bare.with_detail(detail.unwrap_or_default()), mailbox);
        }
    }

    #[test]
    fn not_every_user_can_have_mail() {
        for user in ["", "@d", "a\r\nb", "a@b c", "a@", "a\0"] {
            assert!(Mailbox::of_user(user).is_none(), "{user:?}");
        }
        assert_eq!(Mailbox::of_user("a b@c@d").map(|mailbox| mailbox.to_string()).as_deref(), Some("\"a b@c\"@d"));
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_back(local in any::<String>(), domain in "([a-z0-9-]{1,9}\\.){0,2}[a-z]{1,5}") {
            if let Some(mailbox) = Mailbox::of_user(&format!("{local}@{domain}")) {
                let text = format!("<{mailbox}> X");
                prop_assert_eq!(read_path(&text), Ok((Some(mailbox), " X")));
            }
        }

        #[test]
        fn reading_never_panics_and_is_stable(text in "<?[\"\\\\@:a-z .+\u{e4}\u{0}<>]{0,40}") {
            if let Ok((Some(mailbox), _)) = read_path(&text) {
                let again = format!("<{mailbox}>");
                prop_assert_eq!(read_path(&again), Ok((Some(mailbox), "")));
            }
        }
    }
}
