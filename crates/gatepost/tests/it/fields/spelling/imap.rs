//! IMAP (RFC 3501; ID with the pairs of Dovecot's proxies).

use super::{Dialogue, Identity, Reply, SignIn, Spelling, Way, place, plain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::Protocol;
use testkit::peer::{Backend, Conn};

pub(super) struct Imap;

impl Spelling for Imap {
    fn protocol(&self) -> Protocol {
        Protocol::Imap
    }

    fn ports(&self) -> (u16, u16) {
        (143, 993)
    }

    fn backend(&self, starttls: bool) -> Backend {
        let capabilities = "IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN AUTH=LOGIN";
        let greeting = format!("* OK [CAPABILITY {capabilities}{}] ready", if starttls { " STARTTLS" } else { "" });
        Backend { greeting, capabilities: capabilities.to_owned(), ..Backend::of(Protocol::Imap) }
    }

    fn no(&self) -> &'static str {
        "NO [AUTHENTICATIONFAILED] No."
    }

    fn obey(&self, line: &str) -> (String, bool) {
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        match rest.starts_with("LOGIN ") {
            true => (format!("{tag} {}", self.backend(false).answer), true),
            false => (format!("{tag} OK Done."), false),
        }
    }

    fn pipelines(&self) -> bool {
        true
    }

    fn starttls(&self) -> String {
        "S STARTTLS\r\n".to_owned()
    }

    fn carries(&self, name: &str, value: &str) -> bool {
        name.len() <= 20 && value.len() <= 1000 && !value.chars().any(char::is_control)
    }

    fn introduce(&self, conn: &mut Conn, identity: &Identity) {
        conn.send_line(format!("i {}", id(identity)));
        conn.expect_until("i OK");
    }

    fn sign_in(&self, conn: &mut Conn, sign_in: &SignIn) -> String {
        match sign_in.way {
            Way::Command => conn.send_line(format!("a LOGIN {} {}", string(&sign_in.user), string(&sign_in.password))),
            Way::Plain => conn.send_line(format!("a AUTHENTICATE PLAIN {}", plain(sign_in))),
            Way::Vouched => panic!("only a backend is told so"),
            Way::Login => {
                conn.send_line("a AUTHENTICATE LOGIN");
                for value in [&sign_in.user, &sign_in.password] {
                    conn.expect_line("+ ");
                    conn.send_line(STANDARD.encode(value));
                }
            }
        }
        conn.expect_line("")
    }

    fn dialogue(&self, said: &Dialogue) -> String {
        let mut lines = Vec::new();
        if said.starttls {
            lines.extend(["S STARTTLS".to_owned(), "C CAPABILITY".to_owned()]);
        }
        lines.extend(said.identity.as_ref().map(|identity| format!("I {}", id(identity))));
        let SignIn { user, password, .. } = &said.sign_in;
        match said.sign_in.way {
            Way::Command => lines.push(format!("L LOGIN {} {}", string(user), string(password))),
            Way::Plain => lines.push(format!("L AUTHENTICATE PLAIN {}", plain(&said.sign_in))),
            Way::Vouched => panic!("IMAP has no word for a user without a password"),
            Way::Login => {
                lines.extend(["L AUTHENTICATE LOGIN".to_owned(), STANDARD.encode(user), STANDARD.encode(password)]);
            }
        }
        lines.join("\r\n") + "\r\n"
    }

    fn answer(&self, answer: &Reply, way: Way) -> String {
        match answer {
            Reply::In => "a OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in".to_owned(),
            Reply::WrongPassword => "a NO [AUTHENTICATIONFAILED] Authentication failed.".to_owned(),
            Reply::Unavailable => "a NO [UNAVAILABLE] Account is temporarily unavailable.".to_owned(),
            Reply::Looping => "a NO [UNAVAILABLE] Account is temporarily unavailable. (Proxies are looping.)".to_owned(),
            Reply::Disabled(text) => format!("a NO [CONTACTADMIN] {text}"),
            Reply::Refer { user, host, port, text } => {
                let mechanism = if way == Way::Login { "LOGIN" } else { "PLAIN" };
                format!("a NO [REFERRAL imap://{user};AUTH={mechanism}@{}/] {text}", place(host, *port, 143))
            }
        }
    }
}

/// The command ID, without its tag.
fn id(identity: &Identity) -> String {
    let mut words = Vec::new();
    let mut say = |key: &str, value: &dyn std::fmt::Display| words.extend([string(key), string(&value.to_string())]);
    say("x-session-id", &identity.session);
    say("x-originating-ip", &identity.client.ip());
    say("x-originating-port", &identity.client.port());
    if let Some(reached) = identity.reached {
        say("x-connected-ip", &reached.ip());
        say("x-connected-port", &reached.port());
    }
    say("x-proxy-ttl", &identity.hops);
    if let Some(transport) = identity.transport {
        say("x-client-transport", &transport);
    }
    for (name, value) in &identity.forward {
        words.push(string(&format!("x-forward-{name}")));
        words.push(if value.is_empty() { "NIL".to_owned() } else { string(value) });
    }
    format!("ID ({})", words.join(" "))
}

/// A string as IMAP writes it to a server with LITERAL+.
fn string(text: &str) -> String {
    match text.is_ascii() {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => format!("{{{}+}}\r\n{text}", text.len()),
    }
}
