//! Takes our own password out of what a backend says.
//!
//! Some servers repeat the command they did not like, password and all ("Error in IMAP command LOGIN ..."). Their words go
//! to the log, and some of them to the client, who may not know the password that a row or a master user brought along. So
//! every text that leaves the dance behind the sign-in passes here. Only texts do: what a reply *means* is never touched,
//! or a password that is a word of the protocol could not sign in.

use super::SignIn;
use crate::encode::{base64_encode, escaped, one_line};
use crate::sasl::client::{Client, Plain};
use crate::secret::Secret;
use memchr::memmem;
use zeroize::Zeroize;

/// A password shorter than this is only looked for as a word of its own: it may be part of any other.
const SHORT: usize = 6;
const MASK: &[u8] = b"***";

/// The ways in which our password may come back.
#[derive(Debug, Default)]
pub(super) struct Echo(Vec<Secret<Vec<u8>>>);

impl Echo {
    /// As it is, as a quoted string, as a log shows it, and in base64 as each mechanism says it.
    pub(super) fn new(sign_in: &SignIn) -> Echo {
        let password = sign_in.password.expose();
        if password.is_empty() {
            return Echo(Vec::new());
        }
        let mut quoted = Vec::with_capacity(password.len() * 2);
        for octet in password {
            if matches!(octet, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(*octet);
        }
        // As texts are made fit to be shown before they come here.
        let cleaned = |octets: &[u8]| Secret::new(one_line(&String::from_utf8_lossy(octets), usize::MAX).into_bytes());
        let shown = Secret::new(escaped(password, usize::MAX).into_bytes());
        let mut forms = vec![cleaned(&quoted), cleaned(password), shown, sign_in.password.clone(), base64_encode(password)];
        forms.push(Secret::new(quoted));
        // Whatever a mechanism says, as it says it.
        let mut plain = Plain::new(sign_in);
        forms.extend(std::iter::from_fn(|| plain.next()).map(|message| base64_encode(message.octets.expose())));
        forms.retain(|form| !form.expose().is_empty());
        // The longest first: a message holds what a shorter form is looked for.
        forms.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
        Echo(forms)
    }

    /// Some form of the password is in there; short ones are not looked for.
    pub(super) fn is_in(&self, line: &[u8]) -> bool {
        self.0.iter().any(|form| form.expose().len() >= SHORT && !found(line, form.expose()).is_empty())
    }

    /// The text with every form of the password replaced. A short password is looked for only where `short_too`: in a
    /// success it would more likely be an ordinary word, and a mask there would give it away.
    pub(super) fn masked(&self, text: String, short_too: bool) -> String {
        let mut text = text.into_bytes();
        for form in &self.0 {
            let form = form.expose();
            let short = form.len() < SHORT;
            if short && !short_too {
                continue;
            }
            let places: Vec<usize> =
                found(&text, form).into_iter().filter(|at| !short || stands_alone(&text, *at, at + form.len())).collect();
            if !places.is_empty() {
                let mut masked = Vec::with_capacity(text.len() + MASK.len() * places.len());
                let mut from = 0;
                for at in places {
                    masked.extend_from_slice(text.get(from..at).unwrap_or_default());
                    masked.extend_from_slice(MASK);
                    from = at + form.len();
                }
                masked.extend_from_slice(text.get(from..).unwrap_or_default());
                text.zeroize();
                text = masked;
            }
            // A quotation may have been cut in the middle of it.
            let dots: &[u8] = if text.ends_with(b"...") { b"..." } else { b"" };
            let body = text.strip_suffix(dots).unwrap_or(&text);
            let begun = (SHORT - 2..form.len()).rev().find(|n| {
                let tail = body.len().checked_sub(*n).and_then(|start| body.get(start..));
                form.get(..*n).zip(tail).is_some_and(|(part, tail)| part.eq_ignore_ascii_case(tail))
            });
            if let Some(n) = begun {
                text.truncate(body.len() - n);
                text.extend_from_slice(MASK);
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Where a form is, in either case of letters if it is long: servers shout words back. Without overlaps.
fn found(text: &[u8], form: &[u8]) -> Vec<usize> {
    if form.len() < SHORT {
        return memmem::find_iter(text, form).collect();
    }
    let (text, form) = (Secret::new(text.to_ascii_lowercase()), Secret::new(form.to_ascii_lowercase()));
    memmem::find_iter(text.expose(), form.expose()).collect()
}

fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let word = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
    !word(start.checked_sub(1).and_then(|at| text.get(at))) && !word(text.get(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(password: &str, text: &str, short_too: bool) -> String {
        let sign_in = SignIn {
            user: "eve".into(),
            master: None,
            password: Secret::new(password.as_bytes().to_vec()),
            mechanism: None,
            noauth: false,
        };
        Echo::new(&sign_in).masked(text.to_owned(), short_too)
    }

    #[test]
    fn every_spelling_is_masked() {
        for (password, text, expected) in [
            ("top-secret", "what: LOGIN \"eve\" \"top-secret\"", "what: LOGIN \"eve\" \"***\""),
            ("a\"b\\c-long", "\"a\\\"b\\\\c-long\" or a\"b\\c-long", "\"***\" or ***"),
            ("top-secret", "dG9wLXNlY3JldA== AGV2ZQB0b3Atc2VjcmV0", "*** ***"),
            ("top-secret", "top-secrettop-secret", "******"),
            ("p\u{e4}ssword", "p\\xc3\\xa4ssword p\u{e4}ssword", "*** ***"),
            ("top-secret", "LOGIN eve top-sec", "LOGIN eve ***"),
            ("top-secret", "LOGIN eve top-secre...", "LOGIN eve ***"),
            ("eve", "never, eve, said forever", "never, ***, said forever"),
            ("", "nothing", "nothing"),
            ("***", "***", "***"),
            ("Top-Secret", "LOGIN EVE TOP-SECRET or top-sec", "LOGIN EVE *** or ***"),
            ("tab\tbed-secret", "no tab?bed-secret here", "no *** here"),
            ("zw\u{200e}j-secret", "zw?j-secret", "***"),
            ("q\"uo\tte-secret", "\"q\\\"uo?te-secret\"", "\"***\""),
        ] {
            assert_eq!(masked(password, text, true), expected, "{password}");
        }
        let latin = SignIn {
            user: "eve".into(),
            master: None,
            password: Secret::new(b"l\xe4tin-1-secret".to_vec()),
            mechanism: None,
            noauth: false,
        };
        let echoed = one_line(&String::from_utf8_lossy(b"no l\xe4tin-1-secret here"), 512);
        assert_eq!(Echo::new(&latin).masked(echoed, true), "no *** here");
        assert_eq!(masked("in", "Logged in", false), "Logged in");
    }
}
