//! What the front says: its lines, and nothing about when to say them.
//!
//! Whatever comes from elsewhere (a backend's text, the configuration) is cleaned here once more, so that no caller can make
//! a second line, an end of a list, or a response code that we did not mean, out of it. Nothing that a client said is ever
//! repeated.
//!
//! RFC 1939 section 3, RFC 2449 sections 5 and 8, RFC 3206 (`[SYS/TEMP]`, `[SYS/PERM]`, `[AUTH]`), RFC 5034 section 6 (`SASL`).

use crate::login::{LOOPING, Referral, Refusal, Terms, Welcome};
use crate::manners::{self, line};
use crate::sasl::Server;
use bytes::BytesMut;

/// The longest text that is shown to a person, in octets: with a code in front of it the line stays below 512 (RFC 1939).
const TEXT_MAX: usize = 400;

/// The most octets of configured capabilities in one list.
const CAPABILITY_MAX: usize = 4096;

/// `+OK text`; trusted peers see that they may say who is calling.
pub(super) fn greeting(terms: &Terms, out: &mut BytesMut) {
    let code = if terms.trusted { "[XCLIENT] " } else { "" };
    line(out, format_args!("+OK {code}{}", shown(&terms.greeting, "Ready.")));
}

/// What is on offer before login, a capability a line.
pub(super) fn capability(terms: &Terms, out: &mut BytesMut) {
    line(out, "+OK");
    for word in configured(&terms.capability) {
        line(out, word);
    }
    if terms.starttls {
        line(out, "STLS");
    }
    if terms.password_allowed {
        line(out, "USER");
        line(out, format_args!("SASL {}", Server::SERVED.join(" ")));
    }
    line(out, ".");
}

/// The mechanisms, one a line; none where no password may be said.
pub(super) fn mechanisms(terms: &Terms, out: &mut BytesMut) {
    line(out, "+OK");
    for mechanism in Server::SERVED.iter().filter(|_| terms.password_allowed) {
        line(out, mechanism);
    }
    line(out, ".");
}

/// The line that ends the dialogue. POP3 has no others that a backend could have meant for the client.
pub(super) fn welcome(welcome: &Welcome, out: &mut BytesMut) {
    line(out, format_args!("+OK {}", shown(&welcome.text, "Logged in.")));
}

/// How each refusal is spelled. POP3 has few codes: what a person must read or do comes as `[AUTH]` with its text, so that
/// no client takes it for trouble that goes away by itself.
pub(super) fn refusal(refusal: &Refusal, out: &mut BytesMut) {
    let or = |text: &Option<String>, else_say: &str| shown(text.as_deref().unwrap_or_default(), else_say);
    let (code, text) = match refusal {
        Refusal::WrongCredentials => ("AUTH", "Authentication failed.".to_owned()),
        Refusal::NotAuthorized => ("AUTH", "Authorization failed.".to_owned()),
        Refusal::Unavailable { text } => ("SYS/TEMP", or(text, "Account is temporarily unavailable.")),
        // Somebody must mend it, and proxies in front say the password again at SYS/TEMP.
        Refusal::Looping => ("SYS/PERM", LOOPING.to_owned()),
        Refusal::PrivacyRequired => {
            ("AUTH", "Plaintext authentication disallowed on non-secure (SSL/TLS) connections.".to_owned())
        }
        Refusal::Limit { text } => ("IN-USE", or(text, "Too many connections.")),
        Refusal::InUse { text } => ("IN-USE", or(text, "The mailbox is in use.")),
        Refusal::ContactAdmin { text } => ("AUTH", or(text, "Please contact the administrator.")),
        Refusal::Expired { text } => ("AUTH", or(text, "The password has expired.")),
        Refusal::Alert { text } => ("AUTH", shown(text, "Login is not possible.")),
        Refusal::Referral(to) => {
            return line(out, format_args!("-ERR [REFERRAL/{}] {}", referral(to), or(&to.text, "Try this server instead.")));
        }
    };
    line(out, format_args!("-ERR [{code}] {text}"));
}

/// `user@host:port` as Dovecot spells it; the registered port goes without saying.
fn referral(to: &Referral) -> String {
    let (user, place) = to.in_url(Some(110));
    format!("{user}@{place}")
}

/// Text that is fit for the end of a line; what is said instead where nothing is left of it.
fn shown(text: &str, else_say: &str) -> String {
    manners::shown(text, TEXT_MAX, else_say)
}

/// The words that may stand as a capability of their own, each once, up to a limit in octets. What depends on this
/// connection is for the front to say.
fn configured(text: &str) -> Vec<&str> {
    const OURS: [&str; 3] = ["STLS", "USER", "SASL"];
    let mut words: Vec<&str> = Vec::new();
    let mut room = CAPABILITY_MAX;
    for word in text.split_ascii_whitespace() {
        // A dot at the start would have to be doubled, or would end the list.
        let fine = word.bytes().all(|octet| octet.is_ascii_graphic()) && !word.starts_with('.');
        let known = OURS.iter().chain(&words).any(|known| known.eq_ignore_ascii_case(word));
        if fine && !known {
            let Some(left) = room.checked_sub(word.len().saturating_add(2)) else { break };
            room = left;
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Mechanism;
    use crate::login::played::terms;

    fn said(say: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        say(&mut out);
        String::from_utf8(out.to_vec()).expect("UTF-8")
    }

    #[test]
    fn capabilities_are_each_once_and_what_depends_on_us_is_ours() {
        for (configured, expected) in [
            ("", "+OK\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n"),
            ("TOP top  UIDL", "+OK\r\nTOP\r\nUIDL\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n"),
            ("user STLS Sasl EXTERNAL", "+OK\r\nEXTERNAL\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n"),
            (". .x ä a\0b TOP\r\n.\r\n-ERR", "+OK\r\nTOP\r\n-ERR\r\nUSER\r\nSASL PLAIN LOGIN\r\n.\r\n"),
        ] {
            assert_eq!(said(|out| capability(&Terms { capability: configured.into(), ..terms() }, out)), expected);
        }
        let clear = Terms { password_allowed: false, starttls: true, ..terms() };
        assert_eq!(said(|out| capability(&clear, out)), "+OK\r\nSTLS\r\n.\r\n");
        let many: String = (0..100_000).map(|n| format!("X{n} ")).collect();
        assert!(said(|out| capability(&Terms { capability: many, ..terms() }, out)).len() < CAPABILITY_MAX + 100);
    }

    #[test]
    fn every_refusal_is_one_line_with_its_code() {
        let evil = || Some("[AUTH] pay\r\n+OK in".to_owned());
        for (given, expected) in [
            (Refusal::WrongCredentials, "-ERR [AUTH] Authentication failed."),
            (Refusal::NotAuthorized, "-ERR [AUTH] Authorization failed."),
            (Refusal::Unavailable { text: None }, "-ERR [SYS/TEMP] Account is temporarily unavailable."),
            (Refusal::Unavailable { text: evil() }, "-ERR [SYS/TEMP] AUTH] pay??+OK in"),
            (Refusal::Looping, "-ERR [SYS/PERM] Account is temporarily unavailable. (Proxies are looping.)"),
            (Refusal::PrivacyRequired, "-ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections."),
            (Refusal::Limit { text: None }, "-ERR [IN-USE] Too many connections."),
            (Refusal::Limit { text: Some("20 is enough".into()) }, "-ERR [IN-USE] 20 is enough"),
            (Refusal::InUse { text: None }, "-ERR [IN-USE] The mailbox is in use."),
            (Refusal::ContactAdmin { text: None }, "-ERR [AUTH] Please contact the administrator."),
            (Refusal::Expired { text: None }, "-ERR [AUTH] The password has expired."),
            (Refusal::Alert { text: "Down on Sunday".into() }, "-ERR [AUTH] Down on Sunday"),
            (Refusal::Alert { text: "\r\n".into() }, "-ERR [AUTH] Login is not possible."),
        ] {
            assert_eq!(said(|out| refusal(&given, out)), format!("{expected}\r\n"), "{given:?}");
        }
        let longest = said(|out| refusal(&Refusal::Unavailable { text: Some("x".repeat(10_000)) }, out));
        assert!(longest.len() <= 512, "{}", longest.len());
    }

    #[test]
    fn a_referral_cannot_leave_its_code() {
        let to = |user: &str, host: &str, port, text: Option<&str>| {
            let (mechanism, text) = (Mechanism::Command, text.map(str::to_owned));
            let referral = Referral { user: user.into(), mechanism, host: host.into(), port, text };
            said(|out| refusal(&Refusal::Referral(referral), out))
        };
        assert_eq!(to("joe", "a.example", 110, None), "-ERR [REFERRAL/joe@a.example] Try this server instead.\r\n");
        assert_eq!(
            to("j@b]/ \r\nc", "2001:db8::1", 995, Some("[x] Moved")),
            "-ERR [REFERRAL/j%40b%5D%2F%20%0D%0Ac@[2001:db8::1]:995] x] Moved\r\n"
        );
        assert_eq!(to("joe", "a] b\r\n", 110, None), "-ERR [REFERRAL/joe@a%5D%20b%0D%0A] Try this server instead.\r\n");
    }

    #[test]
    fn greeting_and_welcome_forge_no_code() {
        let trusted = Terms { trusted: true, greeting: "[XCLIENT] hi\r\n".into(), ..terms() };
        assert_eq!(said(|out| greeting(&trusted, out)), "+OK [XCLIENT] XCLIENT] hi??\r\n");
        assert_eq!(said(|out| greeting(&Terms { trusted: false, ..trusted }, out)), "+OK XCLIENT] hi??\r\n");
        assert_eq!(said(|out| greeting(&Terms { greeting: String::new(), ..terms() }, out)), "+OK Ready.\r\n");
        let told = Welcome { text: "[XCLIENT] in".into(), capability: Some("X".into()), aside: vec![b"+OK\r\n".to_vec()] };
        assert_eq!(said(|out| welcome(&told, out)), "+OK XCLIENT] in\r\n");
        assert_eq!(said(|out| welcome(&Welcome::default(), out)), "+OK Logged in.\r\n");
    }
}
