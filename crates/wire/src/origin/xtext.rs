//! What XCLIENT and XFORWARD of SMTP have in common: `NAME=value` behind a verb, values in xtext (RFC 3461 section 4), and the
//! words for what is not known.
//!
//! Names and special values count in any case, blanks and tabs may run together. Reading is strict where servers differ: what is
//! no xtext is refused (Postfix would take it as it stands), and so is what becomes a special value only by decoding, because it
//! would be an absence to some readers and a name to others. Two leniencies are Postfix's: lower-case hexadecimal digits, and a
//! bare `=` inside of a value.

use super::Told;
use super::spelling::is_host_name;

pub(super) const UNAVAILABLE: &str = "[UNAVAILABLE]";
pub(super) const TEMPORARILY: &str = "[TEMPUNAVAIL]";

/// The longest value that is read, as it is spelled: Postfix's limit.
pub(super) const SPELLED_MAX: usize = 255;

/// Nothing stands behind the verb. Postfix tells this even to those whom it would not listen to.
pub(super) fn no_operand(attributes: &[u8]) -> bool {
    attributes.iter().all(is_blank)
}

/// One attribute as it was said.
pub(super) struct Said<'a> {
    /// What stands before the first `=`; may be empty.
    pub name: &'a [u8],
    /// What stands behind it; `None` where there is no `=`, or nothing behind.
    pub spelled: Option<&'a [u8]>,
    /// What is shown of it in a reason: the name, and never a value that has one.
    pub shown: &'a [u8],
}

/// The attributes behind the verb, from left to right.
pub(super) fn attributes(behind: &[u8]) -> impl Iterator<Item = Said<'_>> {
    behind.split(is_blank).filter(|word| !word.is_empty()).map(|word| {
        // Postfix splits at the first "=": "LOGIN=a=b" is the user "a=b".
        let mut parts = word.splitn(2, |octet| *octet == b'=');
        let name = parts.next().unwrap_or_default();
        let spelled = parts.next().filter(|value| !value.is_empty());
        Said { name, spelled, shown: if name.is_empty() { word } else { name } }
    })
}

fn is_blank(octet: &u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// The word for an absence, if it is one.
pub(super) fn special(text: &[u8]) -> Option<Told> {
    if text.eq_ignore_ascii_case(UNAVAILABLE.as_bytes()) {
        Some(Told::Unavailable)
    } else if text.eq_ignore_ascii_case(TEMPORARILY.as_bytes()) {
        Some(Told::TemporarilyUnavailable)
    } else {
        None
    }
}

/// Undoes the xtext of a value that is no special one, and becomes none.
pub(crate) fn decoded(spelled: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(spelled.len());
    let mut rest = spelled.iter();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let high = digit()?;
                high << 4 | digit()?
            }
            _ => Some(*octet).filter(u8::is_ascii_graphic)?,
        });
    }
    special(&octets).is_none().then_some(octets)
}

/// Xtext: a value in printable ASCII without blank, `+` and `=`.
pub(crate) fn encoded(octets: &[u8]) -> String {
    let mut spelled = String::with_capacity(octets.len());
    for octet in octets {
        match octet {
            b'!'..=b'~' if !matches!(octet, b'+' | b'=') => spelled.push(char::from(*octet)),
            _ => spelled.push_str(&format!("+{octet:02X}")),
        }
    }
    spelled
}

/// Postfix's rules for the name of a host: labels of letters, digits, hyphens and underscores, no hyphen at an end of one, and
/// not all of it digits.
pub(super) fn is_client_name(name: &str) -> bool {
    is_host_name(name)
        && !name.split('.').any(|label| label.starts_with('-') || label.ends_with('-'))
        && !name.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_told_apart() {
        let words: Vec<_> = attributes(b" \tA=b=c  D= e\t=f ")
            .map(|word| [word.name, word.spelled.unwrap_or(b"-"), word.shown].map(|part| part.escape_ascii().to_string()))
            .collect();
        assert_eq!(words, [["A", "b=c", "A"], ["D", "-", "D"], ["e", "-", "e"], ["", "f", "=f"]]);
        assert!(no_operand(b"") && no_operand(b" \t ") && !no_operand(b" ="));
    }

    #[test]
    fn what_is_no_xtext_is_refused() {
        for (spelled, expected) in [
            (&b"a+2Bb+3Dc=d"[..], Some(&b"a+b=c=d"[..])),
            (b"a+2bb", Some(b"a+b")),
            (b"+00+0d", Some(b"\0\r")),
            (b"a+zzb+4", None),
            (b"a+4", None),
            (b"+", None),
            (b"a b", None),
            (b"a\x7f", None),
            (b"\xff", None),
            (b"+5bunavailable]", None),
            (b"[TEMPUNAVAIL+5D", None),
        ] {
            assert_eq!(decoded(spelled).as_deref(), expected, "{}", spelled.escape_ascii());
        }
    }

    #[test]
    fn whatever_is_no_xchar_is_escaped() {
        assert_eq!(encoded(b"a+b=c d\0\t\x7f\xc3~!"), "a+2Bb+3Dc+20d+00+09+7F+C3~!");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(octets in any::<Vec<u8>>()) {
            let spelled = encoded(&octets);
            prop_assert!(spelled.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'='));
            prop_assert_eq!(decoded(spelled.as_bytes()), special(&octets).is_none().then_some(octets));
        }
    }
}
