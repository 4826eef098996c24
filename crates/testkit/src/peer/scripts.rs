//! A well-behaved little IMAP backend as a script, for tests that need a login to succeed and no Dovecot for it.
//!
//! It understands the login phase (CAPABILITY, ID, STARTTLS, LOGIN with literals, AUTHENTICATE PLAIN) and notes what
//! was said in it. After the login the test has the connection.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;

use super::Conn;

/// How the backend behaves.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The greeting, without CRLF.
    pub greeting: String,
    /// What CAPABILITY answers before the login; with [`Backend::tls`] set it also lists STARTTLS.
    pub capabilities: String,
    /// The tagged answer to a login, after the tag and a blank: `OK Logged in`, `NO [UNAVAILABLE] Later`.
    pub answer: String,
    /// Offers STARTTLS with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What the peer said up to its login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenLogin {
    /// The user name (authentication identity).
    pub user: String,
    /// The authorization identity of SASL PLAIN; empty with LOGIN.
    pub authzid: String,
    /// The password.
    pub password: String,
    /// The lines of the ID commands, as they came after `ID `, in order.
    pub ids: Vec<String>,
    /// Whether the login came inside TLS.
    pub tls: bool,
    /// Names of the commands in the order in which they came, in capitals.
    pub commands: Vec<String>,
}

impl Default for Backend {
    fn default() -> Backend {
        let capabilities = "IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN";
        Backend {
            greeting: format!("* OK [CAPABILITY {capabilities}] Backend ready."),
            capabilities: capabilities.to_owned(),
            answer: "OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in".to_owned(),
            tls: None,
        }
    }
}

impl Backend {
    /// Greets and obeys until a login has been answered. `None` when the peer leaves before that.
    #[track_caller]
    pub fn login(&self, conn: &mut Conn) -> Option<SeenLogin> {
        conn.send_line(&self.greeting);
        let mut seen = SeenLogin::default();
        loop {
            let line = conn.read_line()?;
            let mut words = line.splitn(3, ' ');
            let (tag, name, rest) = (words.next()?, words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let name = name.to_ascii_uppercase();
            seen.commands.push(name.clone());
            match name.as_str() {
                "CAPABILITY" => {
                    let starttls = if self.tls.is_some() && !seen.tls { " STARTTLS" } else { "" };
                    conn.send_line(format!("* CAPABILITY {}{starttls}", self.capabilities));
                    conn.send_line(format!("{tag} OK Done."));
                }
                "ID" => {
                    seen.ids.push(with_literals(conn, rest)?);
                    conn.send_line("* ID (\"name\" \"testkit\")");
                    conn.send_line(format!("{tag} OK ID completed."));
                }
                "STARTTLS" if self.tls.is_some() && !seen.tls => {
                    conn.send_line(format!("{tag} OK Begin TLS."));
                    conn.accept_tls(self.tls.as_ref()?);
                    seen.tls = true;
                }
                "LOGIN" => {
                    let all = with_literals(conn, rest)?;
                    let mut arguments = strings(&all).into_iter();
                    seen.user = arguments.next()?;
                    seen.password = arguments.next()?;
                    conn.send_line(format!("{tag} {}", self.answer));
                    return Some(seen);
                }
                "AUTHENTICATE" => {
                    let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
                    if !mechanism.eq_ignore_ascii_case("PLAIN") {
                        conn.fail(&format!("this backend knows PLAIN, not {mechanism}"));
                    }
                    let message = if initial.is_empty() {
                        conn.send_line("+ ");
                        conn.read_line()?
                    } else {
                        initial.to_owned()
                    };
                    let Ok(message) = STANDARD.decode(&message) else { conn.fail("the SASL message is not base64") };
                    let message = String::from_utf8_lossy(&message).into_owned();
                    let parts: Vec<&str> = message.split('\0').collect();
                    let [authzid, user, password] = parts[..] else { conn.fail("the SASL message has not three parts") };
                    (seen.authzid, seen.user, seen.password) = (authzid.into(), user.into(), password.into());
                    conn.send_line(format!("{tag} {}", self.answer));
                    return Some(seen);
                }
                "NOOP" => conn.send_line(format!("{tag} OK Done.")),
                "LOGOUT" => {
                    conn.send_line("* BYE Bye.");
                    conn.send_line(format!("{tag} OK Done."));
                    return None;
                }
                _ => conn.send_line(format!("{tag} BAD Not here.")),
            }
        }
    }
}

/// Asks for the literals at line ends and puts their data, as quoted strings, in their places.
fn with_literals(conn: &mut Conn, rest: &str) -> Option<String> {
    let mut all = rest.to_owned();
    while let Some((before, digits)) = all.strip_suffix('}').and_then(|l| l.rsplit_once('{')) {
        let waits = !digits.ends_with('+');
        let size = digits.trim_end_matches('+').parse().ok()?;
        if waits {
            conn.send_line("+ OK");
        }
        let data = String::from_utf8_lossy(&conn.read_exact(size)).replace('\\', "\\\\").replace('"', "\\\"");
        all = format!("{before}\"{data}\"{}", conn.read_line()?);
    }
    Some(all)
}

/// Atoms and quoted strings, separated by blanks.
fn strings(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let mut text = String::new();
        match c {
            ' ' => continue,
            '"' => {
                while let Some(c) = chars.next().filter(|&c| c != '"') {
                    text.extend(if c == '\\' { chars.next() } else { Some(c) });
                }
            }
            c => {
                text.push(c);
                while let Some(c) = chars.next_if(|&c| c != ' ') {
                    text.push(c);
                }
            }
        }
        found.push(text);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_atoms_or_quoted() {
        assert_eq!(strings(r#"bob "a \"b\\ c""#), ["bob", r#"a "b\ c"#]);
        assert_eq!(strings(r#""" x"#), ["", "x"]);
    }
}
