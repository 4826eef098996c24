//! What a server can do: its list as it is told (RFC 5804 section 1.7), as words, and which of them clients may be told before
//! login.
//!
//! The rest of the program knows capabilities as words apart by blanks. So `"SIEVE" "fileinto reject"` is `SIEVE=fileinto
//! SIEVE=reject` there, and `"STARTTLS"` is itself; the front groups them again. A value that is no list, such as the name of
//! an implementation, is cut into words and put together again in the same way.

use super::text::is_atom_char;

/// The longest name that is taken in.
const NAME_MAX: usize = 32;

/// The most octets of words: with short names in front of each word a list grows.
const WORDS_MAX: usize = 8192;

/// What one backend lists of itself.
#[derive(Debug, Default)]
pub struct List {
    words: String,
    full: bool,
    /// TLS can be begun.
    pub starttls: bool,
    /// It may be told who is calling.
    pub xclient: bool,
    /// SASL PLAIN can be used.
    pub plain: bool,
    /// SASL LOGIN can be used.
    pub login: bool,
    /// Some mechanism, known or not, can be used.
    pub sasl: bool,
}

impl List {
    /// Takes in one line of the list.
    pub fn hear(&mut self, name: &[u8], value: Option<&[u8]>) {
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let value = value.map(|value| String::from_utf8_lossy(value));
        let mut values = value.as_deref().unwrap_or_default().split_ascii_whitespace().peekable();
        match name.as_str() {
            "STARTTLS" => self.starttls = true,
            "XCLIENT" => self.xclient = true,
            "SASL" => {
                for mechanism in values.clone() {
                    self.sasl = true;
                    self.plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                    self.login |= mechanism.eq_ignore_ascii_case("LOGIN");
                }
            }
            _ => {}
        }
        let is_name = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|octet| is_atom_char(octet) && octet != b'=');
        if !is_name {
            return;
        }
        if values.peek().is_none() {
            self.add(&[&name, if value.is_some() { "=" } else { "" }]);
        }
        for word in values.filter(|word| word.bytes().all(|octet| octet.is_ascii_graphic())) {
            self.add(&[&name, "=", word]);
        }
    }

    /// All of it, as words.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Adds a word while there is room; behind the first one without room nothing is added, so that what is there is whole.
    fn add(&mut self, word: &[&str]) {
        let length: usize = word.iter().map(|part| part.len()).sum();
        self.full |= self.words.len().saturating_add(length).saturating_add(1) > WORDS_MAX;
        if !self.full {
            if !self.words.is_empty() {
                self.words.push(' ');
            }
            self.words.extend(word.iter().copied());
        }
    }
}

/// What stays true when we pass it on: about the scripts alone. How to sign in and how long is between the client and us; the
/// language before login is ours; who is let go by `UNAUTHENTICATE` would be somebody else at a backend that is not its own.
const TELLABLE: [&str; 4] = ["NOTIFY", "MAXREDIRECTS", "EXTLISTS", "SIEVE"];

/// The words of a backend's list (see [`List::words`]) that a client may be told before login. The longest list comes last,
/// where a limit cuts.
pub fn tellable(list: &str) -> String {
    let of = |name: &'static str| {
        list.split_ascii_whitespace().filter(move |word| {
            word.split_once('=').is_some_and(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
        })
    };
    TELLABLE.into_iter().flat_map(of).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(lines: &[(&str, Option<&str>)]) -> List {
        let mut told = List::default();
        for (name, value) in lines {
            told.hear(name.as_bytes(), value.map(str::as_bytes));
        }
        told
    }

    /// Pigeonhole 0.5.19 as it is installed.
    const PIGEONHOLE: [(&str, Option<&str>); 7] = [
        ("IMPLEMENTATION", Some("Dovecot (Debian) Pigeonhole")),
        (
            "SIEVE",
            Some(
                "fileinto reject envelope encoded-character vacation subaddress comparator-i;ascii-numeric relational regex \
                 imap4flags copy include variables body enotify environment mailbox date index ihave duplicate mime foreverypart \
                 extracttext",
            ),
        ),
        ("NOTIFY", Some("mailto")),
        ("SASL", Some("PLAIN LOGIN")),
        ("STARTTLS", None),
        ("VERSION", Some("1.0")),
        ("XCLIENT", None),
    ];

    #[test]
    fn a_list_becomes_words() {
        let told = told(&[("sieve", Some("fileinto  reject")), ("StartTls", None), ("SASL", Some("")), ("Version", Some("1.0"))]);
        assert_eq!(told.words(), "SIEVE=fileinto SIEVE=reject STARTTLS SASL= VERSION=1.0");
        assert!(told.starttls && !told.sasl && !told.xclient);
    }

    #[test]
    fn mechanisms_are_known_in_any_case() {
        let told = told(&[("sasl", Some("plain SCRAM-SHA-1")), ("XClient", None)]);
        assert!(told.plain && !told.login && told.sasl && told.xclient && !told.starttls);
        let other = self::told(&[("SASL", Some("GSSAPI LOGIN"))]);
        assert!(!other.plain && other.login && other.sasl);
    }

    #[test]
    fn what_is_no_word_is_left_out() {
        let told = told(&[("", Some("x")), ("A=B", None), ("A B", None), (&"n".repeat(33), None), ("X", Some("a\u{e4} b \0"))]);
        assert_eq!(told.words(), "X=b");
    }

    #[test]
    fn a_list_does_not_grow() {
        let many = "x ".repeat(4000);
        let name = "N".repeat(NAME_MAX);
        let lines: Vec<_> = (0..100).map(|_| (name.as_str(), Some(many.as_str()))).chain([("SASL", Some("PLAIN"))]).collect();
        let told = told(&lines);
        assert!(told.words().len() <= WORDS_MAX && told.words().len() > WORDS_MAX - 40);
        assert!(told.plain, "what decides is heard wherever it stands");
    }

    #[test]
    fn clients_are_told_about_scripts_alone() {
        let list = "IMPLEMENTATION=Dovecot SIEVE=fileinto sieve=reject NOTIFY=mailto SASL=PLAIN STARTTLS VERSION=1.0 XCLIENT \
                    MAXREDIRECTS=4 LANGUAGE=de OWNER=joe UNAUTHENTICATE EXTLISTS= SIEVE X=y";
        assert_eq!(tellable(list), "NOTIFY=mailto MAXREDIRECTS=4 SIEVE=fileinto sieve=reject");
    }

    /// The table of what backends can do takes 64 words and 1024 octets of each.
    #[test]
    fn pigeonholes_list_fits_into_the_table() {
        let told = tellable(told(&PIGEONHOLE).words());
        assert!(told.starts_with("NOTIFY=mailto SIEVE=fileinto ") && told.ends_with(" SIEVE=extracttext"), "{told}");
        assert!(told.split(' ').count() <= 64 && told.len() <= 1024, "{} {}", told.split(' ').count(), told.len());
    }

    proptest! {
        #[test]
        fn nothing_that_is_told_can_be_more_than_a_word(lines in proptest::collection::vec(
            (any::<Vec<u8>>(), proptest::option::of(any::<Vec<u8>>())), 0..10)) {
            let mut told = List::default();
            for (name, value) in &lines {
                told.hear(name, value.as_deref());
            }
            prop_assert!(told.words().bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()));
            prop_assert!(tellable(told.words()).len() <= told.words().len());
        }
    }
}
