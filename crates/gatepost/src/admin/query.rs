//! Queries of the API: each word is read strictly, and one that is not known is refused.

use super::answer::Refusal;
use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

/// What the journal has of a query, in characters.
const TOLD_MAX: usize = 400;

/// A name and a value.
pub struct Said<'q> {
    /// The name.
    pub name: Cow<'q, str>,
    /// The value.
    pub value: Cow<'q, str>,
}

/// The words of a query.
pub fn said(query: Option<&str>) -> impl Iterator<Item = Said<'_>> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).map(|(name, value)| Said { name, value })
}

/// The words of a query as they were meant, for the journal.
pub fn told(query: Option<&str>) -> String {
    let pairs = said(query).map(|Said { name, value }| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join(" ").chars().take(TOLD_MAX).collect()
}

impl Said<'_> {
    /// The value is wrong, and why.
    pub fn bad(&self, why: impl Display) -> Refusal {
        Refusal::bad(format!("{}: {} {why}", self.name, self.value.escape_debug()))
    }

    /// The path takes no such word.
    pub fn unknown(&self) -> Refusal {
        Refusal::bad(format!("there is no {}", self.name.escape_debug()))
    }

    /// The value as what it must be.
    ///
    /// # Errors
    /// It is not.
    pub fn read<T: FromStr<Err = String>>(&self) -> Result<T, Refusal> {
        self.value.parse().map_err(|why: String| self.bad(why))
    }

    /// The value as the name of a protocol of this version.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn protocol(&self) -> Result<Box<str>, Refusal> {
        let known = crate::protocol::find(&self.value).map(|protocol| protocol.name.into());
        known.ok_or_else(|| self.bad(format!("is none of {}", crate::protocol::names())))
    }

    /// Whether the value says yes: nothing, `1` or `true`.
    pub fn is_set(&self) -> bool {
        matches!(&*self.value, "" | "1" | "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_query_are_told_as_they_were_meant() {
        assert_eq!(told(Some("user=a%40b&client=10.0.0.0%2F8&hold=60s")), "user=a@b client=10.0.0.0/8 hold=60s");
        assert_eq!(told(Some(&"user=%20&".repeat(300))).chars().count(), 400);
        assert_eq!(told(None), "");
    }

    #[test]
    fn what_is_wrong_is_named_and_escaped() {
        let words: Vec<Said<'_>> = said(Some("protocol=go%0Apher&x%1b=1")).collect();
        assert_eq!(
            words[0].protocol().unwrap_err().1,
            "protocol: go\\npher is none of imap, pop3, managesieve, submission, lmtp"
        );
        assert_eq!(words[1].unknown().1, "there is no x\\u{1b}");
        assert_eq!(&*said(Some("protocol=imap")).next().unwrap().protocol().unwrap(), "imap");
    }
}
