//! ManageSieve (RFC 5804; XCLIENT as Dovecot speaks it).

use super::{Dialogue, Identity, Reply, SignIn, Spelling, Way, place, plain, xclient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::Protocol;
use testkit::peer::{Backend, Conn};

pub(super) struct ManageSieve;

impl Spelling for ManageSieve {
    fn protocol(&self) -> Protocol {
        Protocol::ManageSieve
    }

    fn ports(&self) -> (u16, u16) {
        (4190, 4190)
    }

    fn backend(&self, _: bool) -> Backend {
        Backend::of(Protocol::ManageSieve)
    }

    fn greeting(&self) -> String {
        let Backend { capabilities, greeting, .. } = self.backend(false);
        capabilities.lines().map(|line| format!("{line}\r\n")).collect::<String>() + &greeting
    }

    fn no(&self) -> &'static str {
        "NO \"No.\""
    }

    fn obey(&self, line: &str) -> (String, bool) {
        match line.starts_with("AUTHENTICATE ") {
            true => (self.backend(false).answer, true),
            false => ("OK \"Done.\"".to_owned(), false),
        }
    }

    fn pipelines(&self) -> bool {
        false
    }

    fn starttls(&self) -> String {
        "STARTTLS\r\n".to_owned()
    }

    fn carries(&self, _: &str, value: &str) -> bool {
        // As in POP3.
        value.len() <= 500 && !value.chars().any(char::is_control)
    }

    fn introduce(&self, conn: &mut Conn, identity: &Identity) {
        conn.send_line(xclient(identity));
        conn.expect_line("OK");
    }

    fn sign_in(&self, conn: &mut Conn, sign_in: &SignIn) -> String {
        let mut lines = authenticate(sign_in).into_iter();
        conn.send_line(lines.next().unwrap());
        for line in lines {
            conn.expect_line("\"");
            conn.send_line(line);
        }
        conn.expect_line("")
    }

    fn dialogue(&self, said: &Dialogue) -> String {
        let mut lines = Vec::new();
        if said.starttls {
            lines.push("STARTTLS".to_owned());
        }
        lines.extend(said.identity.as_ref().map(xclient));
        lines.extend(authenticate(&said.sign_in));
        lines.join("\r\n") + "\r\n"
    }

    fn answer(&self, answer: &Reply, way: Way) -> String {
        match answer {
            Reply::In => "OK \"Logged in.\"".to_owned(),
            Reply::WrongPassword => "NO \"Authentication failed.\"".to_owned(),
            Reply::Unavailable => "NO (TRYLATER) \"Account is temporarily unavailable.\"".to_owned(),
            Reply::Looping => "NO (TRYLATER/NORETRY) \"Account is temporarily unavailable. (Proxies are looping.)\"".to_owned(),
            Reply::Disabled(text) => format!("NO {}", quoted(text)),
            Reply::Refer { user, host, port, text } => {
                let mechanism = if way == Way::Login { "LOGIN" } else { "PLAIN" };
                let url = format!("sieve://{user};AUTH={mechanism}@{}", place(host, *port, 4190));
                format!("NO (REFERRAL {url}) {}", quoted(text))
            }
        }
    }
}

/// A line each.
fn authenticate(sign_in: &SignIn) -> Vec<String> {
    match sign_in.way {
        Way::Command | Way::Plain => vec![format!("AUTHENTICATE \"PLAIN\" \"{}\"", plain(sign_in))],
        Way::Login => {
            let responses = [&sign_in.user, &sign_in.password].map(|value| quoted(&STANDARD.encode(value)));
            [&["AUTHENTICATE \"LOGIN\"".to_owned()][..], &responses].concat()
        }
        Way::Vouched => panic!("ManageSieve has no word for a user without a password"),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
