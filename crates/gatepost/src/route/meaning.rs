//! What each field of a row means, in a line for people. The names are those of [`READ`] and [`NOT_OURS`].

use super::{NOT_OURS, USED_UP};

/// A field's meaning; `None` for one that has no effect. `proxied`: the row has `proxy` or `proxy_maybe`.
pub fn meaning(name: &str, value: &str, proxied: bool) -> Option<&'static str> {
    match name {
        "nologin" | "reason" if proxied => return Some("nothing here: proxy and proxy_maybe win"),
        "destuser" if value.is_empty() => return Some("nothing: the backend is given the user's own name"),
        _ => {}
    }
    let known = MEANINGS.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning);
    let prefixed = || PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, meaning)| *meaning);
    let passed_over = || NOT_OURS.contains(&name).then_some("taken without a word: nothing here depends on it");
    let used_up = || USED_UP.contains(&name).then_some("used up by the chain of databases");
    known.or_else(prefixed).or_else(passed_over).or_else(used_up)
}

const PREFIXES: &[(&str, &str)] = &[
    ("forward_", "is told to the backend with who is calling"),
    ("user_", "is a word of the journal's login line"),
    ("event_", "is a word of the journal's login line"),
    ("userdb_", "is a mail store's business"),
];

const MEANINGS: &[(&str, &str)] = &[
    ("proxy", "the user lives at host"),
    ("proxy_maybe", "the user lives at host, or here (backend.local) where that is this server itself"),
    ("proxy_always", "never to backend.local"),
    ("host", "where the mailbox lives; certificates are checked against it"),
    ("hostip", "the address of host: it is not looked up"),
    ("port", "the port there"),
    ("source_ip", "the address to call from"),
    ("ssl", "TLS from the first byte; any-cert: whatever the certificate"),
    ("starttls", "TLS by the protocol's own command; any-cert: whatever the certificate"),
    ("proxy_timeout", "the one deadline of the way to the backend"),
    ("proxy_host_immediate_failure_after", "how long a backend must have been failing before it is not even tried"),
    ("proxy_mech", "the SASL mechanism to sign in with"),
    ("master", "who signs in for the user"),
    ("pass", "the password that the backend is given instead of the client's"),
    ("destuser", "the name that the backend is given"),
    ("proxy_nopipelining", "each answer is awaited before the next command"),
    ("proxy_not_trusted", "the backend is not told who is calling"),
    ("proxy_noauth", "in Submission: the backend is told who the user is (XCLIENT LOGIN), and no password"),
    ("nologin", "nobody gets in; with host and without proxy the client is sent there"),
    ("reason", "the words for the person who is refused"),
    ("nodelay", "a refusal is answered at once and counts as no guess"),
    ("delay_until", "the login is held until then, and the databases are asked again"),
];

#[cfg(test)]
mod tests {
    use super::super::READ;
    use super::*;

    #[test]
    fn every_field_that_is_read_has_a_meaning_and_no_other_one_has() {
        for name in READ.iter().chain(NOT_OURS).chain(USED_UP) {
            assert!(meaning(name, "x", false).is_some(), "{name}");
        }
        for (name, _) in MEANINGS {
            assert!(READ.contains(name), "{name} is not read");
        }
        assert_eq!(meaning("colour", "", false), None);
        // What is told agrees with what is done.
        assert_ne!(meaning("nologin", "y", true), meaning("nologin", "y", false));
        assert_ne!(meaning("destuser", "", true), meaning("destuser", "bob", true));
        assert!(meaning("forward_site", "x", true).is_some() && meaning("userdb_home", "x", true).is_some());
    }
}
