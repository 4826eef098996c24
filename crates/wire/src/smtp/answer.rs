//! What the front says: its replies, and nothing about when to say them.
//!
//! Whatever comes from elsewhere (a backend's text, the configuration) is cleaned here once more, so that no caller can make
//! a second line or a code that we did not mean out of it. Nothing that a client said is ever repeated, not even the name that
//! many servers repeat in their answer to EHLO.
//!
//! RFC 5321 section 4.2, RFC 2034 with RFC 3463 and RFC 5248 (enhanced codes), RFC 4954 section 6 (those of AUTH).

use super::capability::{self, keyword};
use crate::login::{LOOPING, Referral, Refusal, Terms, Welcome};
use crate::manners::{self, line};
use crate::origin::xclient::smtp as xclient;
use crate::origin::xforward;
use crate::sasl::Server;
use bytes::BytesMut;

/// The longest text that is shown to a person, in octets: with codes in front of it the line stays below 512 (RFC 5321).
const TEXT_MAX: usize = 400;

/// The most octets of configured capabilities in one answer.
const CAPABILITY_MAX: usize = 4096;

/// What the front can do for everybody.
const OURS: [&str; 2] = ["PIPELINING", "ENHANCEDSTATUSCODES"];

/// What depends on this connection, and is for the front to say; and what is never so: that a client need not wait for the
/// greeting (Exim's).
const DEPENDS: [&str; 6] = ["STARTTLS", "AUTH", "XCLIENT", "XFORWARD", "XRCPTFORWARD", "PIPECONNECT"];

/// What a front that takes letters can do for everybody, besides `SIZE`.
const LETTERS: [&str; 3] = ["8BITMIME", "SMTPUTF8", "CHUNKING"];

/// What such a front says by itself, or cannot do (BINARYMIME: line ends of letters are looked at).
fn is_about_letters(line: &str) -> bool {
    let keyword = line.split(' ').next().unwrap_or_default();
    LETTERS.iter().chain(&["SIZE", "BINARYMIME"]).any(|word| word.eq_ignore_ascii_case(keyword))
}

/// `220 mail.example.com ESMTP text`, at the beginning and behind XCLIENT; `protocol` is the word behind the name.
pub(super) fn greeting(terms: &Terms, protocol: &str, out: &mut BytesMut) {
    line(out, format_args!("220 {} {protocol} {}", server(terms), shown(&terms.greeting, "Ready.")));
}

/// What a front can do, beside what all can.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Announced {
    /// The largest letter, and with it the words of servers that take letters.
    pub(super) letters: Option<u64>,
    /// Passwords are asked for, where they may be said.
    pub(super) auth: bool,
    /// The attributes of XCLIENT, where the peer may say it.
    pub(super) xclient: Option<&'static str>,
    /// Those of XFORWARD, and that of recipients.
    pub(super) xforward: Option<&'static str>,
}

/// The answer to EHLO or LHLO: what is on offer, a capability a line.
pub(super) fn capabilities(terms: &Terms, announced: &Announced, out: &mut BytesMut) {
    let mut lines = vec![server(terms).to_owned()];
    lines.extend(OURS.map(str::to_owned));
    if let Some(size) = announced.letters {
        lines.push(format!("SIZE {size}"));
        lines.extend(LETTERS.map(str::to_owned));
    }
    let more = configured(&terms.capability).into_iter();
    lines.extend(more.filter(|line| announced.letters.is_none() || !is_about_letters(line)));
    if terms.starttls {
        lines.push("STARTTLS".to_owned());
    }
    if terms.password_allowed && announced.auth {
        lines.push(format!("AUTH {}", Server::SERVED.join(" ")));
    }
    if let Some(attributes) = announced.xclient {
        lines.push(format!("XCLIENT {attributes}"));
    }
    if let Some(attributes) = announced.xforward {
        lines.push(format!("XFORWARD {attributes}"));
        lines.push("XRCPTFORWARD".to_owned());
    }
    let last = lines.len().saturating_sub(1);
    for (n, text) in lines.into_iter().enumerate() {
        line(out, format_args!("250{}{text}", if n == last { ' ' } else { '-' }));
    }
}

/// The answer to HELO.
pub(super) fn greeted(terms: &Terms, out: &mut BytesMut) {
    line(out, format_args!("250 {}", server(terms)));
}

/// What needs a login: TLS first where no password may be said without it.
pub(super) fn needs_login(terms: &Terms, out: &mut BytesMut) {
    let first = if terms.starttls && !terms.password_allowed {
        "Must issue a STARTTLS command first."
    } else {
        "Authentication required."
    };
    line(out, format_args!("530 5.7.0 {first}"));
}

/// The line that ends the dialogue.
pub(super) fn welcome(welcome: &Welcome, out: &mut BytesMut) {
    line(out, format_args!("235 2.7.0 {}", shown(&welcome.text, "Logged in.")));
}

/// How each refusal is spelled, whether it answers AUTH or, where a peer vouches for its client, MAIL.
pub(super) fn refusal(refusal: &Refusal, out: &mut BytesMut) {
    let or = |text: &Option<String>, else_say: &str| shown(text.as_deref().unwrap_or_default(), else_say);
    let (code, text) = match refusal {
        Refusal::WrongCredentials => ("535 5.7.8", "Authentication failed.".to_owned()),
        Refusal::NotAuthorized => ("535 5.7.8", "Authorization failed.".to_owned()),
        Refusal::Unavailable { text } => ("454 4.7.0", or(text, "Account is temporarily unavailable.")),
        Refusal::Looping => ("451 4.4.6", LOOPING.to_owned()),
        Refusal::PrivacyRequired => {
            ("538 5.7.11", "Plaintext authentication disallowed on non-secure (SSL/TLS) connections.".to_owned())
        }
        Refusal::Limit { text } => ("421 4.7.0", or(text, "Too many connections.")),
        Refusal::InUse { text } => ("454 4.7.0", or(text, "The account is in use.")),
        Refusal::ContactAdmin { text } => ("525 5.7.13", or(text, "Please contact the administrator.")),
        Refusal::Expired { text } => ("535 5.7.8", or(text, "The password has expired.")),
        Refusal::Alert { text } => ("535 5.7.0", shown(text, "Login is not possible.")),
        Refusal::Referral(to) => {
            return line(out, format_args!("550 5.2.900 {} {}", referral(to), or(&to.text, "Try this server instead.")));
        }
    };
    line(out, format_args!("{code} {text}"));
}

/// `user@host:port` as Dovecot 2.4 spells it; the port always, for there are two that are usual.
fn referral(to: &Referral) -> String {
    let (user, place) = to.in_url(None);
    format!("{user}@{place}")
}

/// Our own name, which is the first word of greetings: nothing else may stand there.
fn server(terms: &Terms) -> &str {
    let fine = super::command::is_name(terms.server.as_bytes());
    if fine { &terms.server } else { "localhost" }
}

/// Text that is fit for the end of a line; what is said instead where nothing is left of it.
fn shown(text: &str, else_say: &str) -> String {
    manners::shown(text, TEXT_MAX, else_say)
}

/// The lines of what the configuration or the backends say, but for what is ours to say.
fn configured(text: &str) -> Vec<String> {
    let mut room = CAPABILITY_MAX;
    let mut words: Vec<&str> = Vec::new();
    for word in text.split_ascii_whitespace() {
        if OURS.iter().chain(&DEPENDS).any(|ours| ours.eq_ignore_ascii_case(keyword(word))) {
            continue;
        }
        // With what stands in front of a line, and its end.
        let Some(left) = room.checked_sub(word.len().saturating_add("250-\r\n".len())) else { break };
        room = left;
        words.push(word);
    }
    capability::lines(&words.join(" "))
}

/// What is wrong with an XFORWARD, without a name that we do not know.
pub(super) fn of_xforward(malformed: &xforward::Malformed) -> String {
    match malformed {
        xforward::Malformed::Attribute { name, why } => {
            match xforward::LISTED.split(' ').find(|known| known.eq_ignore_ascii_case(name)) {
                Some(known) => format!("{known}: {why}"),
                None => (*why).to_owned(),
            }
        }
        xforward::Malformed::NoOperand => malformed.to_string(),
    }
}

/// What is wrong with an XCLIENT, without a name that we do not know.
pub(super) fn of_xclient(malformed: &xclient::Malformed) -> String {
    match malformed {
        xclient::Malformed::Attribute { name, why } => {
            match xclient::listed(true).split(' ').find(|known| known.eq_ignore_ascii_case(name)) {
                Some(known) => format!("{known}: {why}"),
                None => (*why).to_owned(),
            }
        }
        xclient::Malformed::MayNotVouch => format!("{malformed}."),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Mechanism;
    use crate::login::played::terms;

    const LOGIN: Announced = Announced { auth: true, letters: None, xclient: None, xforward: None };

    fn said(say: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        say(&mut out);
        String::from_utf8(out.to_vec()).expect("UTF-8")
    }

    #[test]
    fn capabilities_are_each_once_and_what_depends_on_us_is_ours() {
        const BEGIN: &str = "250-mail.example.com\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n";
        const END: &str = "250 AUTH PLAIN LOGIN\r\n";
        for (configured, expected) in [
            ("", ""),
            ("SIZE=10240000 size=5  8BITMIME", "250-SIZE 10240000 5\r\n250-8BITMIME\r\n"),
            ("pipelining STARTTLS AUTH=EXTERNAL Xclient=ADDR ENHANCEDSTATUSCODES PipeConnect DSN", "250-DSN\r\n"),
            ("\u{e4} a\0b CHUNKING\r\n250 forged\r\n-ERR", "250-CHUNKING\r\n250-250\r\n250-forged\r\n"),
        ] {
            let given = Terms { capability: configured.into(), ..terms() };
            assert_eq!(said(|out| capabilities(&given, &LOGIN, out)), format!("{BEGIN}{expected}{END}"));
        }
        let clear = Terms { password_allowed: false, starttls: true, trusted: true, ..terms() };
        assert_eq!(
            said(|out| capabilities(&clear, &Announced { xclient: Some("ADDR PORT"), ..LOGIN }, out)),
            format!("{BEGIN}250-STARTTLS\r\n250 XCLIENT ADDR PORT\r\n")
        );
        let bare = Terms { password_allowed: false, ..terms() };
        let expected = "250-mail.example.com\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n";
        assert_eq!(said(|out| capabilities(&bare, &LOGIN, out)), expected);
        let many: String = (0..100_000).map(|n| format!("X{n} ")).collect();
        assert!(said(|out| capabilities(&Terms { capability: many, ..terms() }, &LOGIN, out)).len() < CAPABILITY_MAX + 200);
    }

    #[test]
    fn every_refusal_is_one_line_with_its_code() {
        let evil = || Some("[x] pay\r\n250 in".to_owned());
        for (given, expected) in [
            (Refusal::WrongCredentials, "535 5.7.8 Authentication failed."),
            (Refusal::NotAuthorized, "535 5.7.8 Authorization failed."),
            (Refusal::Unavailable { text: None }, "454 4.7.0 Account is temporarily unavailable."),
            (Refusal::Unavailable { text: evil() }, "454 4.7.0 x] pay??250 in"),
            (Refusal::Looping, "451 4.4.6 Account is temporarily unavailable. (Proxies are looping.)"),
            (Refusal::PrivacyRequired, "538 5.7.11 Plaintext authentication disallowed on non-secure (SSL/TLS) connections."),
            (Refusal::Limit { text: None }, "421 4.7.0 Too many connections."),
            (Refusal::Limit { text: Some("20 is enough".into()) }, "421 4.7.0 20 is enough"),
            (Refusal::InUse { text: None }, "454 4.7.0 The account is in use."),
            (Refusal::ContactAdmin { text: None }, "525 5.7.13 Please contact the administrator."),
            (Refusal::Expired { text: None }, "535 5.7.8 The password has expired."),
            (Refusal::Alert { text: "Down on Sunday".into() }, "535 5.7.0 Down on Sunday"),
            (Refusal::Alert { text: "\r\n".into() }, "535 5.7.0 Login is not possible."),
        ] {
            assert_eq!(said(|out| refusal(&given, out)), format!("{expected}\r\n"), "{given:?}");
        }
        let longest = said(|out| refusal(&Refusal::Unavailable { text: Some("x".repeat(10_000)) }, out));
        assert!(longest.len() <= 512, "{}", longest.len());
    }

    #[test]
    fn a_referral_stays_one_word() {
        let to = |user: &str, host: &str, port, text: Option<&str>| {
            let (mechanism, text) = (Mechanism::Plain, text.map(str::to_owned));
            let referral = Referral { user: user.into(), mechanism, host: host.into(), port, text };
            said(|out| refusal(&Refusal::Referral(referral), out))
        };
        assert_eq!(to("joe", "a.example", 587, None), "550 5.2.900 joe@a.example:587 Try this server instead.\r\n");
        assert_eq!(
            to("j@b \r\nc", "2001:db8::1", 465, Some("Moved\r\n250 x")),
            "550 5.2.900 j%40b%20%0D%0Ac@[2001:db8::1]:465 Moved??250 x\r\n"
        );
    }

    #[test]
    fn greeting_and_welcome_are_one_line() {
        assert_eq!(
            said(|out| greeting(&Terms { greeting: "hi\r\n250 x".into(), ..terms() }, "ESMTP", out)),
            "220 mail.example.com ESMTP hi??250 x\r\n"
        );
        let nameless = Terms { greeting: String::new(), server: "a b".into(), ..terms() };
        assert_eq!(said(|out| greeting(&nameless, "ESMTP", out)), "220 localhost ESMTP Ready.\r\n");
        assert_eq!(said(|out| greeted(&terms(), out)), "250 mail.example.com\r\n");
        let literal = Terms { server: "[192.0.2.1]".into(), ..terms() };
        assert_eq!(said(|out| greeted(&literal, out)), "250 [192.0.2.1]\r\n");
        let told = Welcome { text: "in\r\n535 no".into(), capability: Some("X".into()), aside: vec![b"250 x\r\n".to_vec()] };
        assert_eq!(said(|out| welcome(&told, out)), "235 2.7.0 in??535 no\r\n");
        assert_eq!(said(|out| welcome(&Welcome::default(), out)), "235 2.7.0 Logged in.\r\n");
    }

    #[test]
    fn who_may_say_no_password_here_is_told_what_comes_first() {
        for (starttls, password_allowed, expected) in [
            (true, false, "530 5.7.0 Must issue a STARTTLS command first.\r\n"),
            (true, true, "530 5.7.0 Authentication required.\r\n"),
            (false, false, "530 5.7.0 Authentication required.\r\n"),
        ] {
            assert_eq!(said(|out| needs_login(&Terms { starttls, password_allowed, ..terms() }, out)), expected);
        }
    }
}
