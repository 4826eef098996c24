//! Commands before login as an operator may see them: secrets are masked because of what they are (see [`crate::overheard`]).

use super::command::{Command, Tag};
use super::text::Malformed;
use crate::overheard::{MASK, Shown, is_secret, mechanism, quoted};
use crate::secret::Secret;

/// Words with which commands begin.
const WORDS: [&str; 29] = [
    "APPEND",
    "AUTHENTICATE",
    "CAPABILITY",
    "CHECK",
    "CLOSE",
    "COMPRESS",
    "COPY",
    "CREATE",
    "DELETE",
    "ENABLE",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "GETQUOTAROOT",
    "ID",
    "IDLE",
    "LIST",
    "LOGIN",
    "LOGOUT",
    "LSUB",
    "NAMESPACE",
    "NOOP",
    "SEARCH",
    "SELECT",
    "STARTTLS",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "UID",
];

impl Command {
    /// The command as it is shown.
    pub fn shown(&self, tag: &str) -> Shown {
        let (text, free) = match self {
            Command::Capability => ("CAPABILITY".to_owned(), false),
            Command::Noop => ("NOOP".to_owned(), false),
            Command::Logout => ("LOGOUT".to_owned(), false),
            Command::StartTls => ("STARTTLS".to_owned(), false),
            Command::Id(pairs) if pairs.is_empty() => ("ID NIL".to_owned(), false),
            Command::Id(pairs) => {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| {
                        let value = match value {
                            None => "NIL".to_owned(),
                            Some(_) if is_secret(&String::from_utf8_lossy(key)) => MASK.to_owned(),
                            Some(value) => quoted(value),
                        };
                        format!("{} {value}", quoted(key))
                    })
                    .collect();
                (format!("ID ({})", pairs.join(" ")), true)
            }
            Command::Login { user, .. } => (format!("LOGIN {} {MASK}", quoted(user)), false),
            Command::Authenticate { mechanism: name, initial } => {
                let initial = match initial.as_ref().map(Secret::expose) {
                    None => String::new(),
                    Some(empty) if empty.is_empty() => " =".to_owned(),
                    Some(_) => format!(" {MASK}"),
                };
                (format!("AUTHENTICATE {}{initial}", mechanism(name)), false)
            }
            Command::Other => return Shown::plain("..."),
        };
        let user = match self {
            Command::Login { user, .. } => std::str::from_utf8(user).ok().map(str::to_owned),
            _ => None,
        };
        Shown { text: format!("{tag} {text}"), free, tag: Some(tag.to_owned()), user }
    }
}

/// A whole command that was read, understood or not.
pub(super) fn read(whole: &[u8], tag: Option<&Tag>, command: &Result<Command, Malformed>) -> Shown {
    match (tag, command) {
        (Some(tag), Ok(command)) if !matches!(command, Command::Other) => command.shown(&tag.to_string()),
        (Some(_), Ok(_)) => withheld(whole, "no command before login"),
        _ => withheld(whole, "malformed"),
    }
}

/// What was not understood, or is not whole: anything may be in it.
pub(super) fn withheld(octets: &[u8], why: &str) -> Shown {
    let mut words = octets.split(|octet| octet.is_ascii_whitespace()).take(2);
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // Where the tag was forgotten the command comes first.
    let known = |word: &[u8]| WORDS.into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(word));
    Shown::withheld(known(second).or_else(|| known(first)), octets.len(), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::base64_encode;

    fn shown(whole: &[u8]) -> String {
        read(whole, Tag::of(whole).as_ref(), &Command::read(whole)).text
    }

    #[test]
    fn commands_are_shown_and_secrets_are_not() {
        for (whole, text) in [
            (&b"a CAPABILITY\r\n"[..], "a CAPABILITY"),
            (b"a login alice hunter2\r\n", "a LOGIN \"alice\" ***"),
            (b"a LOGIN \"al\\\"ice\" \"hun\\\"ter2\"\r\n", "a LOGIN \"al\\\"ice\" ***"),
            (b"a LOGIN {5}\r\nalice {7+}\r\nhunter2\r\n", "a LOGIN \"alice\" ***"),
            (b"a AUTHENTICATE PLAIN\r\n", "a AUTHENTICATE PLAIN"),
            (b"a AUTHENTICATE PLAIN =\r\n", "a AUTHENTICATE PLAIN ="),
            (b"a AUTHENTICATE hunter2\r\n", "a AUTHENTICATE (some mechanism, 7 octets)"),
            (b"a ID (\"name\" \"x\" \"password\" \"hunter2\" \"v\" NIL)\r\n", "a ID (\"name\" \"x\" \"password\" *** \"v\" NIL)"),
            (b"a ID NIL\r\n", "a ID NIL"),
            // Half of a login, and no login at all.
            (b"a LOGIN alice hunter2 more\r\n", "LOGIN ... (28 octets, malformed)"),
            (b"LOGIN alice hunter2\r\n", "LOGIN ... (21 octets, no command before login)"),
            (b"hunter2\r\n", "... (9 octets, malformed)"),
            (b"hunter2 is it\r\n", "... (15 octets, no command before login)"),
            (b"a SELECT hunter2\r\n", "SELECT ... (18 octets, no command before login)"),
        ] {
            assert_eq!(shown(whole), text);
        }
        let response = base64_encode(b"\0alice\0hunter2");
        let whole = [b"a AUTHENTICATE PLAIN ", response.expose().as_slice(), b"\r\n"].concat();
        assert_eq!(shown(&whole), "a AUTHENTICATE PLAIN ***");
        let alone = [response.expose().as_slice(), b"\r\n"].concat();
        assert_eq!(shown(&alone), format!("... ({} octets, malformed)", alone.len()));
    }
}
