//! POP3 (RFC 1939, 2449, 5034; XCLIENT as Dovecot speaks it).

use super::{Dialogue, Identity, Reply, SignIn, Spelling, Way, place, plain, xclient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::Protocol;
use testkit::peer::{Backend, Conn};

pub(super) struct Pop3;

impl Spelling for Pop3 {
    fn protocol(&self) -> Protocol {
        Protocol::Pop3
    }

    fn ports(&self) -> (u16, u16) {
        (110, 995)
    }

    fn backend(&self, _: bool) -> Backend {
        Backend::of(Protocol::Pop3)
    }

    fn no(&self) -> &'static str {
        "-ERR [AUTH] No."
    }

    fn obey(&self, line: &str) -> (String, bool) {
        match line.starts_with("PASS ") {
            true => (self.backend(false).answer, true),
            false => ("+OK".to_owned(), false),
        }
    }

    fn pipelines(&self) -> bool {
        true
    }

    fn starttls(&self) -> String {
        "STLS\r\n".to_owned()
    }

    fn carries(&self, _: &str, value: &str) -> bool {
        // The whole line has at most 1000 octets; no case of the table comes near that without going beyond it.
        value.len() <= 500 && !value.chars().any(char::is_control)
    }

    fn introduce(&self, conn: &mut Conn, identity: &Identity) {
        conn.send_line(xclient(identity));
        conn.expect_line("+OK");
    }

    fn sign_in(&self, conn: &mut Conn, sign_in: &SignIn) -> String {
        match sign_in.way {
            Way::Command => {
                conn.send_line(format!("USER {}", sign_in.user));
                conn.expect_line("+OK");
                conn.send_line(format!("PASS {}", sign_in.password));
            }
            Way::Plain => conn.send_line(format!("AUTH PLAIN {}", plain(sign_in))),
            Way::Vouched => panic!("only a backend is told so"),
            Way::Login => {
                conn.send_line("AUTH LOGIN");
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
            lines.push("STLS".to_owned());
        }
        lines.extend(said.identity.as_ref().map(xclient));
        let SignIn { user, password, .. } = &said.sign_in;
        match said.sign_in.way {
            Way::Command => lines.extend([format!("USER {user}"), format!("PASS {password}")]),
            Way::Plain => lines.push(format!("AUTH PLAIN {}", plain(&said.sign_in))),
            Way::Vouched => panic!("POP3 has no word for a user without a password"),
            Way::Login => lines.extend(["AUTH LOGIN".to_owned(), STANDARD.encode(user), STANDARD.encode(password)]),
        }
        lines.join("\r\n") + "\r\n"
    }

    fn answer(&self, answer: &Reply, _: Way) -> String {
        match answer {
            Reply::In => "+OK Logged in.".to_owned(),
            Reply::WrongPassword => "-ERR [AUTH] Authentication failed.".to_owned(),
            Reply::Unavailable => "-ERR [SYS/TEMP] Account is temporarily unavailable.".to_owned(),
            Reply::Looping => "-ERR [SYS/PERM] Account is temporarily unavailable. (Proxies are looping.)".to_owned(),
            Reply::Disabled(text) => format!("-ERR [AUTH] {text}"),
            Reply::Refer { user, host, port, text } => {
                format!("-ERR [REFERRAL/{user}@{}] {text}", place(host, *port, 110))
            }
        }
    }
}
