//! What the front says: its lines, and nothing about when to say them.
//!
//! Whatever comes from elsewhere (a backend's text or capabilities, the configuration) is cleaned here once more, so that
//! no caller can make a second line, or a response code that we did not mean, out of it. Nothing that a client said is
//! ever repeated, except a tag that has passed [`Tag::of`](super::command::Tag::of).

use super::text::{is_atom_char, write_nstring};
use crate::login::{LOOPING, Referral, Refusal, Terms, Welcome};
use crate::manners::{self, line};
use crate::sasl::Server;
use bytes::{BufMut, BytesMut};
use std::fmt::Display;

/// The longest text that is shown to a person, in octets.
const TEXT_MAX: usize = 512;

/// The most octets of other people's capabilities in one line of ours.
const CAPABILITY_MAX: usize = 4096;

/// Why an untagged alert comes when a password was said where anybody can read it.
pub(super) const EXPOSED: &str = "* BAD [ALERT] Plaintext authentication not allowed without SSL/TLS, but your client did it anyway. \
                                  Anyone on the way may have read the password.";

/// `* OK [CAPABILITY ...] text`
pub(super) fn greeting(terms: &Terms, out: &mut BytesMut) {
    let text = shown(&terms.greeting, "Ready.");
    line(out, format_args!("* OK [CAPABILITY {}] {text}", capability(terms)));
}

/// What is on offer before login, without the word CAPABILITY: ours first, each once.
pub(super) fn capability(terms: &Terms) -> String {
    let mut words = String::from("IMAP4rev1 SASL-IR LITERAL+ ID");
    let ours = words.clone();
    for word in capability_words(&terms.capability) {
        let is_known = |known: &str| known.eq_ignore_ascii_case(word);
        // What depends on this connection is for the front to say, whatever a backend says of its own connections.
        let is_ours = ours.split(' ').any(is_known)
            || is_known("STARTTLS")
            || is_known("LOGINDISABLED")
            || is_known("LITERAL-")
            || word.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("AUTH="));
        if !is_ours && !words.split(' ').any(is_known) {
            words.push(' ');
            words.push_str(word);
        }
    }
    if terms.starttls {
        words.push_str(" STARTTLS");
    }
    if terms.password_allowed {
        for mechanism in Server::SERVED {
            words.push_str(" AUTH=");
            words.push_str(mechanism);
        }
    } else {
        words.push_str(" LOGINDISABLED");
    }
    words
}

/// `* ID ("name" "Gatepost" ...)`, or `* ID NIL`
pub(super) fn server_id(terms: &Terms, out: &mut BytesMut) {
    // NUL is the one thing IMAP cannot say.
    let mut pairs = terms.server_id.iter().filter(|(name, value)| !name.contains('\0') && !value.contains('\0')).peekable();
    if pairs.peek().is_none() {
        return line(out, "* ID NIL");
    }
    let mut before: &[u8] = b"* ID (";
    for (name, value) in pairs {
        for text in [name, value] {
            out.put_slice(before);
            before = b" ";
            let _ = write_nstring(Some(text.as_bytes()), out);
        }
    }
    line(out, ")");
}

/// The backend's asides, then the tagged line that ends the dialogue. A client that has asked for capabilities itself is
/// told the new ones in a line of their own: such clients are known to overlook the response code.
pub(super) fn welcome(tag: &dyn Display, welcome: &Welcome, separate_capability: bool, out: &mut BytesMut) {
    for aside in &welcome.aside {
        // A broken one would put everything behind it out of step.
        if aside.starts_with(b"* ") && aside.ends_with(b"\r\n") {
            out.put_slice(aside);
        }
    }
    let text = shown(&welcome.text, "Logged in.");
    let words: Vec<&str> = welcome.capability.as_deref().map(capability_words).into_iter().flatten().collect();
    let words = words.join(" ");
    match (words.is_empty(), separate_capability) {
        (true, _) => line(out, format_args!("{tag} OK {text}")),
        (false, false) => line(out, format_args!("{tag} OK [CAPABILITY {words}] {text}")),
        (false, true) => {
            line(out, format_args!("* CAPABILITY {words}"));
            line(out, format_args!("{tag} OK {text}"));
        }
    }
}

/// How each refusal is spelled, with the response codes of RFC 5530.
pub(super) fn refusal(tag: &dyn Display, refusal: &Refusal, out: &mut BytesMut) {
    let or = |text: &Option<String>, else_say: &str| shown(text.as_deref().unwrap_or_default(), else_say);
    let (code, text) = match refusal {
        Refusal::WrongCredentials => ("AUTHENTICATIONFAILED", "Authentication failed.".to_owned()),
        Refusal::NotAuthorized => ("AUTHORIZATIONFAILED", "Authorization failed.".to_owned()),
        Refusal::Unavailable { text } => ("UNAVAILABLE", or(text, "Account is temporarily unavailable.")),
        // The code says that it is not the password; by the words a proxy in front knows that it is no use trying again.
        Refusal::Looping => ("UNAVAILABLE", LOOPING.to_owned()),
        Refusal::PrivacyRequired => {
            ("PRIVACYREQUIRED", "Plaintext authentication is disallowed on connections without SSL/TLS.".to_owned())
        }
        Refusal::Limit { text } => ("LIMIT", or(text, "Too many connections.")),
        Refusal::InUse { text } => ("INUSE", or(text, "The mailbox is in use.")),
        Refusal::ContactAdmin { text } => ("CONTACTADMIN", or(text, "Please contact the administrator.")),
        Refusal::Expired { text } => ("EXPIRED", or(text, "The password has expired.")),
        Refusal::Alert { text } => ("ALERT", shown(text, "Login is not possible.")),
        Refusal::Referral(to) => {
            return line(out, format_args!("{tag} NO [REFERRAL {}] {}", referral(to), or(&to.text, "Try this server instead.")));
        }
    };
    line(out, format_args!("{tag} NO [{code}] {text}"));
}

/// The URL of RFC 2221 and RFC 5092; the registered port goes without saying.
fn referral(to: &Referral) -> String {
    let (user, place) = to.in_url(Some(143));
    format!("imap://{user};AUTH={}@{place}/", to.mechanism.name())
}

/// Text that is fit for the end of a line; what is said instead where nothing is left of it.
fn shown(text: &str, else_say: &str) -> String {
    manners::shown(text, TEXT_MAX, else_say)
}

/// The words of a list of capabilities that are words (RFC 3501 section 9: atoms), up to a limit in octets.
fn capability_words(text: &str) -> impl Iterator<Item = &str> {
    let mut room = CAPABILITY_MAX;
    text.split([' ', '\r', '\n']).filter(|word| !word.is_empty() && word.bytes().all(is_atom_char)).take_while(move |word| {
        let fits = word.len() < room;
        room = room.saturating_sub(word.len()).saturating_sub(1);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Mechanism;
    use crate::login::played::terms;

    #[test]
    fn capabilities_are_ours_first_and_each_once() {
        for (theirs, expected) in [
            ("", "IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN"),
            ("IDLE id imap4REV1 Idle", "IMAP4rev1 SASL-IR LITERAL+ ID IDLE AUTH=PLAIN AUTH=LOGIN"),
            ("STARTTLS LOGINDISABLED AUTH=EXTERNAL LITERAL-", "IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN"),
            ("X]Y ä \0 A\r\n* BYE", "IMAP4rev1 SASL-IR LITERAL+ ID A BYE AUTH=PLAIN AUTH=LOGIN"),
        ] {
            assert_eq!(capability(&Terms { capability: theirs.into(), ..terms() }), expected, "{theirs}");
        }
        let clear = Terms { password_allowed: false, starttls: true, ..terms() };
        assert_eq!(capability(&clear), "IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS LOGINDISABLED");
        assert!(capability(&Terms { capability: "word ".repeat(100_000), ..terms() }).len() < 100);
        let many: String = (0..100_000).map(|n| format!("X{n} ")).collect();
        assert!(capability(&Terms { capability: many, ..terms() }).len() < CAPABILITY_MAX + 200);
    }

    #[test]
    fn every_refusal_is_one_line_with_its_code() {
        let evil = || Some("[ALERT] pay\r\na OK [CAPABILITY]".to_owned());
        for (given, expected) in [
            (Refusal::WrongCredentials, "t NO [AUTHENTICATIONFAILED] Authentication failed."),
            (Refusal::NotAuthorized, "t NO [AUTHORIZATIONFAILED] Authorization failed."),
            (Refusal::Unavailable { text: None }, "t NO [UNAVAILABLE] Account is temporarily unavailable."),
            (Refusal::Unavailable { text: evil() }, "t NO [UNAVAILABLE] ALERT] pay??a OK [CAPABILITY]"),
            (Refusal::Looping, "t NO [UNAVAILABLE] Account is temporarily unavailable. (Proxies are looping.)"),
            (
                Refusal::PrivacyRequired,
                "t NO [PRIVACYREQUIRED] Plaintext authentication is disallowed on connections without SSL/TLS.",
            ),
            (Refusal::Limit { text: None }, "t NO [LIMIT] Too many connections."),
            (Refusal::Limit { text: Some("20 is enough".into()) }, "t NO [LIMIT] 20 is enough"),
            (Refusal::InUse { text: None }, "t NO [INUSE] The mailbox is in use."),
            (Refusal::ContactAdmin { text: None }, "t NO [CONTACTADMIN] Please contact the administrator."),
            (Refusal::Expired { text: None }, "t NO [EXPIRED] The password has expired."),
            (Refusal::Alert { text: "Down on Sunday".into() }, "t NO [ALERT] Down on Sunday"),
            (Refusal::Alert { text: "\r\n".into() }, "t NO [ALERT] Login is not possible."),
        ] {
            let mut out = BytesMut::new();
            refusal(&"t", &given, &mut out);
            assert_eq!(out, format!("{expected}\r\n").as_bytes(), "{given:?}");
        }
        let mut out = BytesMut::new();
        refusal(&"t", &Refusal::Alert { text: "x".repeat(10_000) }, &mut out);
        assert_eq!(out.len(), "t NO [ALERT] \r\n".len() + TEXT_MAX);
    }

    #[test]
    fn a_referral_is_a_url() {
        let to = |user: &str, host: &str, port, text: Option<&str>| {
            let text = text.map(str::to_owned);
            let referral = Referral { user: user.into(), mechanism: Mechanism::Command, host: host.into(), port, text };
            let mut out = BytesMut::new();
            refusal(&"t", &Refusal::Referral(referral), &mut out);
            String::from_utf8(out.to_vec()).expect("UTF-8")
        };
        assert_eq!(
            to("joe", "a.example", 143, None),
            "t NO [REFERRAL imap://joe;AUTH=PLAIN@a.example/] Try this server instead.\r\n"
        );
        assert_eq!(
            to("j@b]c", "2001:db8::1", 993, Some("Moved")),
            "t NO [REFERRAL imap://j%40b%5Dc;AUTH=PLAIN@[2001:db8::1]:993/] Moved\r\n"
        );
    }

    #[test]
    fn the_welcome_names_capabilities_where_the_client_looks() {
        let say = |welcome_: Welcome, separate| {
            let mut out = BytesMut::new();
            welcome(&"t", &welcome_, separate, &mut out);
            String::from_utf8(out.to_vec()).expect("UTF-8")
        };
        let known = Welcome { text: "Hi".into(), capability: Some("IMAP4rev1 X]\r\n IDLE".into()), aside: Vec::new() };
        assert_eq!(say(known.clone(), false), "t OK [CAPABILITY IMAP4rev1 IDLE] Hi\r\n");
        assert_eq!(say(known, true), "* CAPABILITY IMAP4rev1 IDLE\r\nt OK Hi\r\n");
        assert_eq!(say(Welcome::default(), true), "t OK Logged in.\r\n");
        let code = Welcome { text: "[READ-ONLY] Hi".into(), ..Welcome::default() };
        assert_eq!(say(code, false), "t OK READ-ONLY] Hi\r\n");
        let aside = vec![b"* OK [ALERT] Full\r\n".to_vec(), b"t OK no\r\n".to_vec(), b"* half".to_vec()];
        assert_eq!(say(Welcome { aside, ..Welcome::default() }, false), "* OK [ALERT] Full\r\nt OK Logged in.\r\n");
    }

    #[test]
    fn the_server_says_who_it_is() {
        let say = |pairs: &[(&str, &str)]| {
            let mut out = BytesMut::new();
            let server_id_ = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            server_id(&Terms { server_id: server_id_, ..terms() }, &mut out);
            String::from_utf8(out.to_vec()).expect("UTF-8")
        };
        assert_eq!(say(&[]), "* ID NIL\r\n");
        assert_eq!(say(&[("a", "\0")]), "* ID NIL\r\n");
        assert_eq!(say(&[("name", "Gate\"post"), ("os", "ä")]), "* ID (\"name\" \"Gate\\\"post\" \"os\" {2}\r\nä)\r\n");
    }
}
