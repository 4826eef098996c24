//! What the front says: its lines, and nothing about when to say them.
//!
//! Whatever comes from elsewhere (a backend's text or capabilities, the configuration) is cleaned here once more, so that no
//! caller can make a second line, an end of a string, or a response code that we did not mean, out of it. Of what a client said
//! nothing is repeated but a tag of NOOP, where that is of the kind that [`is_tag`] knows.
//!
//! RFC 5804 sections 1.3 (codes), 1.7 (capabilities), 2.13 (`TAG`) and 3 (URLs).

use super::text::{QUOTED_MAX, write_quoted};
use crate::login::{LOOPING, Referral, Refusal, Terms, Welcome};
use crate::manners;
use crate::sasl::Server;
use bytes::{BufMut, BytesMut};

/// The longest text that is shown to a person, in octets. With all of it escaped it still fits into a quoted string.
const TEXT_MAX: usize = QUOTED_MAX / 2;

/// The most octets of configured capabilities, in one list.
const CAPABILITY_MAX: usize = 4096;

/// The longest name of one of them.
const NAME_MAX: usize = 64;

/// The longest tag that is repeated.
const TAG_MAX: usize = 64;

/// `OK`, `NO` or `BYE` with words for the person, and a code.
pub(super) fn status(condition: &str, code: Option<&str>, text: &str, out: &mut BytesMut) {
    out.put_slice(condition.as_bytes());
    if let Some(code) = code {
        out.put_slice(b" (");
        out.put_slice(code.as_bytes());
        out.put_u8(b')');
    }
    out.put_u8(b' ');
    write_quoted(manners::shown(text, TEXT_MAX, "").as_bytes(), out);
    out.put_slice(b"\r\n");
}

/// The capabilities and `OK "text"`.
pub(super) fn greeting(terms: &Terms, out: &mut BytesMut) {
    capability(terms, &manners::shown(&terms.greeting, TEXT_MAX, "Ready."), out);
}

/// What is on offer before login, a capability a line, and the line that ends the list.
pub(super) fn capability(terms: &Terms, text: &str, out: &mut BytesMut) {
    let configured = configured(&terms.capability);
    let values = |name: &str| configured.iter().find(|known| known.name.eq_ignore_ascii_case(name)).map(|known| &known.values);
    // Both must always be told (RFC 5804 section 1.7).
    let always = [("IMPLEMENTATION", "Gatepost"), ("SIEVE", "")];
    for (name, default) in always {
        one(name, Some(values(name).filter(|values| !values.is_empty()).map_or(default, |values| values)), out);
    }
    for Configured { name, values } in &configured {
        if !always.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            one(name, Some(values.as_str()).filter(|values| !values.is_empty()), out);
        }
    }
    one("SASL", Some(&if terms.password_allowed { Server::SERVED.join(" ") } else { String::new() }), out);
    if terms.starttls {
        one("STARTTLS", None, out);
    }
    one("VERSION", Some("1.0"), out);
    if terms.trusted {
        one("XCLIENT", None, out);
    }
    status("OK", None, text, out);
}

fn one(name: &str, value: Option<&str>, out: &mut BytesMut) {
    write_quoted(name.as_bytes(), out);
    if let Some(value) = value {
        out.put_u8(b' ');
        write_quoted(value.as_bytes(), out);
    }
    out.put_slice(b"\r\n");
}

/// Asks for the next SASL response.
pub(super) fn challenge(question: &[u8], out: &mut BytesMut) {
    write_quoted(crate::encode::base64_encode(question).expose(), out);
    out.put_slice(b"\r\n");
}

/// The answer to NOOP. Clients find their place by the tag behind STARTTLS; one that could mean something to anybody else (a
/// browser that somebody made say it) is not repeated.
pub(super) fn noop(tag: Option<&[u8]>, out: &mut BytesMut) {
    match tag.and_then(|tag| std::str::from_utf8(tag).ok()).filter(|tag| is_tag(tag)) {
        Some(tag) => status("OK", Some(&format!("TAG \"{tag}\"")), "Done.", out),
        None => status("OK", None, "NOOP completed.", out),
    }
}

/// Letters, digits, blanks and what joins them: nothing that needs to be escaped anywhere.
fn is_tag(tag: &str) -> bool {
    let is_safe =
        |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b' ' | b'-' | b'_' | b'.' | b':' | b'+' | b'/' | b'=');
    tag.len() <= TAG_MAX && tag.bytes().all(is_safe)
}

/// The line that ends the dialogue. There is no SASL security layer, so capabilities are not told again.
pub(super) fn welcome(welcome: &Welcome, out: &mut BytesMut) {
    status("OK", None, &manners::shown(&welcome.text, TEXT_MAX, "Logged in."), out);
}

/// How each refusal is spelled. ManageSieve has few codes: what a person must read or do comes without one, so that no client
/// takes it for trouble that goes away by itself.
pub(super) fn refusal(refusal: &Refusal, out: &mut BytesMut) {
    let or = |text: &Option<String>, else_say: &str| shown(text.as_deref().unwrap_or_default(), else_say);
    let (code, text) = match refusal {
        Refusal::WrongCredentials => (None, "Authentication failed.".to_owned()),
        Refusal::NotAuthorized => (None, "Authorization failed.".to_owned()),
        Refusal::Unavailable { text } => (Some("TRYLATER"), or(text, "Account is temporarily unavailable.")),
        // Somebody must mend it: to Pigeonhole's proxies the second word means not to try again.
        Refusal::Looping => (Some("TRYLATER/NORETRY"), LOOPING.to_owned()),
        Refusal::PrivacyRequired => {
            (Some("ENCRYPT-NEEDED"), "Plaintext authentication disallowed on non-secure (SSL/TLS) connections.".to_owned())
        }
        Refusal::Limit { text } => (Some("TRYLATER"), or(text, "Too many connections.")),
        Refusal::InUse { text } => (Some("TRYLATER"), or(text, "The mailbox is in use.")),
        Refusal::ContactAdmin { text } => (None, or(text, "Please contact the administrator.")),
        Refusal::Expired { text } => (None, or(text, "The password has expired.")),
        Refusal::Alert { text } => (None, shown(text, "Login is not possible.")),
        Refusal::Referral(to) => {
            let code = format!("REFERRAL {}", referral(to));
            return status("NO", Some(&code), &or(&to.text, "Try this server instead."), out);
        }
    };
    status("NO", code, &text, out);
}

/// The URL of a server, bare as in RFC 5804 section 4 and as Dovecot spells it, whose proxies could not read a string there; the
/// registered port goes without saying. Nothing in it needs to be escaped.
fn referral(to: &Referral) -> String {
    let (user, place) = to.in_url(Some(4190));
    format!("sieve://{user};AUTH={}@{place}", to.mechanism.name())
}

/// Text that is fit to be shown; what is said instead where nothing is left of it.
fn shown(text: &str, else_say: &str) -> String {
    manners::shown(text, TEXT_MAX, else_say)
}

/// A capability made of configured words.
struct Configured {
    name: String,
    /// Apart by blanks; none where the capability has no value.
    values: String,
}

/// The words that may be told, grouped by the names in front of `=` in the order in which they first come, each word once,
/// each value as long as a quoted string may be, all up to a limit in octets. What depends on this connection is for the front
/// to say, and nobody is logged in yet.
fn configured(text: &str) -> Vec<Configured> {
    const OURS: [&str; 5] = ["SASL", "STARTTLS", "VERSION", "XCLIENT", "OWNER"];
    let mut all: Vec<Configured> = Vec::new();
    let mut room = CAPABILITY_MAX;
    for word in text.split_ascii_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let fine = (1..=NAME_MAX).contains(&name.len())
            && word.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\'));
        if !fine || OURS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            continue;
        }
        // As much as a line of its own would take.
        let Some(left) = room.checked_sub(word.len().saturating_add(6)) else { break };
        let at = all.iter().position(|known| known.name.eq_ignore_ascii_case(name)).unwrap_or(all.len());
        if at == all.len() {
            all.push(Configured { name: name.to_owned(), values: String::new() });
        }
        let Some(known) = all.get_mut(at) else { break };
        let is_new = !value.is_empty() && !known.values.split(' ').any(|have| have.eq_ignore_ascii_case(value));
        if is_new && known.values.len().saturating_add(value.len()) < QUOTED_MAX {
            if !known.values.is_empty() {
                known.values.push(' ');
            }
            known.values.push_str(value);
        }
        room = left;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::reply;
    use super::super::text::look;
    use super::*;
    use crate::login::Mechanism;
    use crate::login::played::terms;

    fn said(say: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        say(&mut out);
        for line in out.split_inclusive(|octet| *octet == b'\n') {
            assert!(reply::read(line).is_ok(), "{}", line.escape_ascii());
            assert!(look(line).longest_quoted <= QUOTED_MAX);
        }
        String::from_utf8(out.to_vec()).expect("UTF-8")
    }

    #[test]
    fn capabilities_are_grouped_and_what_depends_on_us_is_ours() {
        let ours = |implementation: &str, sieve: &str, more: &str| {
            format!(
                "\"IMPLEMENTATION\" \"{implementation}\"\r\n\"SIEVE\" \"{sieve}\"\r\n{more}\"SASL\" \"PLAIN LOGIN\"\r\n\
                 \"VERSION\" \"1.0\"\r\nOK \"x\"\r\n"
            )
        };
        for (configured, expected) in [
            ("", ours("Gatepost", "", "")),
            (
                "SIEVE=fileinto NOTIFY=mailto sieve=reject SIEVE=FileInto MAXREDIRECTS=4",
                ours("Gatepost", "fileinto reject", "\"NOTIFY\" \"mailto\"\r\n\"MAXREDIRECTS\" \"4\"\r\n"),
            ),
            ("IMPLEMENTATION=Our IMPLEMENTATION=Mail UNAUTHENTICATE X=", {
                ours("Our Mail", "", "\"UNAUTHENTICATE\"\r\n\"X\"\r\n")
            }),
            ("SIEVE=a;b LANGUAGE=de =x starttls SASL=GSSAPI OWNER=joe VERSION=2 xclient", {
                ours("Gatepost", "a;b", "\"LANGUAGE\" \"de\"\r\n")
            }),
            ("A=\"x B=\\ ä SIEVE=a\0b C=d\r\nOK", ours("Gatepost", "", "\"C\" \"d\"\r\n\"OK\"\r\n")),
        ] {
            assert_eq!(said(|out| capability(&Terms { capability: configured.into(), ..terms() }, "x", out)), expected);
        }
        let clear = Terms { password_allowed: false, starttls: true, trusted: true, ..terms() };
        assert_eq!(
            said(|out| capability(&clear, "x", out)),
            "\"IMPLEMENTATION\" \"Gatepost\"\r\n\"SIEVE\" \"\"\r\n\"SASL\" \"\"\r\n\"STARTTLS\"\r\n\"VERSION\" \"1.0\"\r\n\
             \"XCLIENT\"\r\nOK \"x\"\r\n"
        );
        for name in ["SIEVE", "X"] {
            let many: String = (0..100_000).map(|n| format!("{name}={n} Y{n} ")).collect();
            let list = said(|out| capability(&Terms { capability: many, ..terms() }, "x", out));
            assert!(list.len() < CAPABILITY_MAX + 200, "{}", list.len());
            let many: String = (0..100_000).map(|n| format!("{name}={n} ")).collect();
            let list = said(|out| capability(&Terms { capability: many, ..terms() }, "x", out));
            assert!(list.len() < QUOTED_MAX + 200, "{}", list.len());
        }
    }

    #[test]
    fn every_refusal_is_one_line_with_its_code() {
        let evil = || Some("(REFERRAL) \"pay\\\r\nOK in".to_owned());
        for (given, expected) in [
            (Refusal::WrongCredentials, "NO \"Authentication failed.\""),
            (Refusal::NotAuthorized, "NO \"Authorization failed.\""),
            (Refusal::Unavailable { text: None }, "NO (TRYLATER) \"Account is temporarily unavailable.\""),
            (Refusal::Unavailable { text: evil() }, "NO (TRYLATER) \"(REFERRAL) \\\"pay\\\\??OK in\""),
            (Refusal::Looping, "NO (TRYLATER/NORETRY) \"Account is temporarily unavailable. (Proxies are looping.)\""),
            (
                Refusal::PrivacyRequired,
                "NO (ENCRYPT-NEEDED) \"Plaintext authentication disallowed on non-secure (SSL/TLS) connections.\"",
            ),
            (Refusal::Limit { text: None }, "NO (TRYLATER) \"Too many connections.\""),
            (Refusal::Limit { text: Some("20 is enough".into()) }, "NO (TRYLATER) \"20 is enough\""),
            (Refusal::InUse { text: None }, "NO (TRYLATER) \"The mailbox is in use.\""),
            (Refusal::ContactAdmin { text: None }, "NO \"Please contact the administrator.\""),
            (Refusal::Expired { text: None }, "NO \"The password has expired.\""),
            (Refusal::Alert { text: "Down on Sunday".into() }, "NO \"Down on Sunday\""),
            (Refusal::Alert { text: "\r\n".into() }, "NO \"Login is not possible.\""),
        ] {
            assert_eq!(said(|out| refusal(&given, out)), format!("{expected}\r\n"), "{given:?}");
        }
        for filler in ["x", "\"", "\\", "\u{e4}"] {
            let _ = said(|out| refusal(&Refusal::Alert { text: filler.repeat(10_000) }, out));
        }
    }

    #[test]
    fn a_referral_cannot_leave_its_code() {
        let to = |user: &str, host: &str, port, text: Option<&str>| {
            let (mechanism, text) = (Mechanism::Login, text.map(str::to_owned));
            let referral = Referral { user: user.into(), mechanism, host: host.into(), port, text };
            said(|out| refusal(&Refusal::Referral(referral), out))
        };
        assert_eq!(
            to("joe", "a.example", 4190, None),
            "NO (REFERRAL sieve://joe;AUTH=LOGIN@a.example) \"Try this server instead.\"\r\n"
        );
        assert_eq!(
            to("j@b\")/ \r\nc", "2001:db8::1", 2000, Some("\" Moved")),
            "NO (REFERRAL sieve://j%40b%22%29%2F%20%0D%0Ac;AUTH=LOGIN@[2001:db8::1]:2000) \"\\\" Moved\"\r\n"
        );
        assert_eq!(
            to("joe", "a\") b\r\n", 4190, None),
            "NO (REFERRAL sieve://joe;AUTH=LOGIN@a%22%29%20b%0D%0A) \"Try this server instead.\"\r\n"
        );
    }

    #[test]
    fn a_tag_is_repeated_where_it_means_nothing_to_anybody() {
        for (tag, expected) in [
            (None, "OK \"NOOP completed.\"\r\n"),
            (Some(&b"STARTTLS-SYNC-42"[..]), "OK (TAG \"STARTTLS-SYNC-42\") \"Done.\"\r\n"),
            (Some(b""), "OK (TAG \"\") \"Done.\"\r\n"),
            (Some(b"a b=1"), "OK (TAG \"a b=1\") \"Done.\"\r\n"),
            (Some(&[b'a'; 64]), &format!("OK (TAG \"{}\") \"Done.\"\r\n", "a".repeat(64))),
            (Some(&[b'a'; 65]), "OK \"NOOP completed.\"\r\n"),
            (Some(b"<script>"), "OK \"NOOP completed.\"\r\n"),
            (Some(b"a\"b"), "OK \"NOOP completed.\"\r\n"),
            (Some(b"a\\b"), "OK \"NOOP completed.\"\r\n"),
            (Some(b"a\r\nOK"), "OK \"NOOP completed.\"\r\n"),
            (Some(b"\xc3\xa4"), "OK \"NOOP completed.\"\r\n"),
            (Some(b"\xff"), "OK \"NOOP completed.\"\r\n"),
        ] {
            assert_eq!(said(|out| noop(tag, out)), expected);
        }
    }

    #[test]
    fn greeting_and_welcome_stay_in_their_strings() {
        let evil = Terms { greeting: "\" (X)\r\nNO".into(), ..terms() };
        assert!(said(|out| greeting(&evil, out)).ends_with("\"VERSION\" \"1.0\"\r\nOK \"\\\" (X)??NO\"\r\n"));
        assert!(said(|out| greeting(&Terms { greeting: String::new(), ..terms() }, out)).ends_with("OK \"Ready.\"\r\n"));
        let told = Welcome { text: "in\"".into(), capability: Some("X".into()), aside: vec![b"OK\r\n".to_vec()] };
        assert_eq!(said(|out| welcome(&told, out)), "OK \"in\\\"\"\r\n");
        assert_eq!(said(|out| welcome(&Welcome::default(), out)), "OK \"Logged in.\"\r\n");
    }
}
