//! Submission seen from the server: the login phase, and mail after it (RFC 5321, 6409, 4954, 3030, 3207; XCLIENT as
//! Postfix and Dovecot speak it, and in `exim.rs` as Exim does).
//!
//! Unlike the other protocols this one cannot just repeat what it gets: EHLO begins a session anew, before and after a
//! login, and XCLIENT does, and a message is not a command. So there is one machine for both phases.

use super::exim::Exim;
use super::{Backend, SeenLogin, Xclient, begin_tls, sasl_by_lines};
use crate::peer::{Conn, Letter};

/// Where a session stands.
#[derive(Debug, Default)]
pub(in crate::peer) struct Session {
    /// The last EHLO or HELO, if one was said since the session began anew.
    hello: Option<String>,
    /// Nobody needs to sign in.
    open: bool,
    /// Who has signed in.
    user: Option<String>,
    /// Who is signed in with the next EHLO, because of XCLIENT.
    announced: Option<String>,
    xclients: Vec<String>,
    exim: Exim,
    /// Between MAIL and the end of the message.
    letter: Option<Letter>,
}

/// What becomes of a session after a line.
enum Step {
    GoesOn,
    /// A login has been answered.
    Login,
    Ends,
}

impl Session {
    /// One behind a login that was not seen.
    pub(super) fn signed_in() -> Session {
        Session { hello: Some(String::new()), user: Some(String::new()), ..Session::default() }
    }

    /// One that needs no login.
    pub(in crate::peer) fn open() -> Session {
        Session { open: true, ..Session::default() }
    }

    /// Obeys until a login has been answered; `None` when the peer leaves before that.
    #[track_caller]
    pub(super) fn login(&mut self, backend: &Backend, conn: &mut Conn, seen: &mut SeenLogin) -> Option<()> {
        loop {
            let line = conn.read_line()?;
            match self.step(backend, conn, seen, &line)? {
                Step::GoesOn => {}
                Step::Login => return Some(()),
                Step::Ends => return None,
            }
        }
    }

    /// Obeys one line after the login; `false` when the conversation is over.
    #[track_caller]
    pub(in crate::peer) fn go_on(&mut self, backend: &Backend, conn: &mut Conn, line: &str) -> bool {
        let mut seen = SeenLogin::default();
        matches!(self.step(backend, conn, &mut seen, line), Some(Step::GoesOn | Step::Login))
    }

    #[track_caller]
    fn step(&mut self, backend: &Backend, conn: &mut Conn, seen: &mut SeenLogin, line: &str) -> Option<Step> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let name = name.to_ascii_uppercase();
        seen.commands.push(name.clone());
        let exim = backend.xclient == Xclient::Exim;
        let reply = match name.as_str() {
            "EHLO" | "HELO" => {
                seen.hellos.push(line.to_owned());
                self.hello = Some(line.to_owned());
                self.letter = None;
                say(conn, &self.greeting_to(backend, seen, &name));
                let Some(user) = self.announced.take() else { return Some(Step::GoesOn) };
                (seen.user, seen.mechanism) = (user.clone(), "XCLIENT".to_owned());
                seen.logged = self.logged(backend, conn);
                self.user = Some(user);
                return Some(Step::Login);
            }
            "STARTTLS" if backend.offers_tls(seen) => {
                conn.send_line("220 2.0.0 Ready to start TLS");
                begin_tls(conn, seen, backend.tls.as_ref()?)?;
                self.hello = None;
                return Some(Step::GoesOn);
            }
            "XCLIENT" => {
                seen.xclients.push(rest.to_owned());
                self.xclients.push(rest.to_owned());
                let (answer, ends) = self.xclient(backend, conn, rest);
                say(conn, &answer);
                return Some(if ends { Step::Ends } else { Step::GoesOn });
            }
            "AUTH" if self.user.is_some() => "503 5.5.1 Already authenticated.".to_owned(),
            "AUTH" if self.hello.is_none() || self.letter.is_some() => "503 5.5.1 Bad sequence of commands.".to_owned(),
            "AUTH" if !backend.offers("AUTH") => "502 5.5.1 Not available.".to_owned(),
            "AUTH" => {
                sasl_by_lines(conn, seen, rest, "334")?;
                conn.send_line(&backend.answer);
                self.user = backend.lets_in().then(|| seen.user.clone());
                seen.logged = self.logged(backend, conn);
                return Some(Step::Login);
            }
            "MAIL" if self.hello.is_none() && exim => "503 HELO or EHLO required".to_owned(),
            "MAIL" if self.hello.is_none() => "503 5.5.1 Send EHLO first.".to_owned(),
            "MAIL" if self.user.is_none() && !self.open && !exim => "530 5.7.0 Authentication required.".to_owned(),
            "MAIL" if self.letter.is_some() => "503 5.5.1 Nested MAIL.".to_owned(),
            "MAIL" => {
                self.letter = Some(Letter {
                    user: self.user.clone().unwrap_or_default(),
                    hello: self.hello.clone().unwrap_or_default(),
                    xclients: self.xclients.clone(),
                    from: behind_colon(rest),
                    ..Letter::default()
                });
                format!("250 ECHO {line}")
            }
            "RCPT" if self.user.is_none() && !self.open && self.letter.is_some() => "550 relay not permitted".to_owned(),
            "RCPT" => match &mut self.letter {
                None => "503 5.5.1 MAIL first.".to_owned(),
                Some(letter) => {
                    letter.to.push(behind_colon(rest));
                    format!("250 ECHO {line}")
                }
            },
            "DATA" | "BDAT" => match self.letter.take_if(|letter| !letter.to.is_empty()) {
                None => "503 5.5.1 RCPT first.".to_owned(),
                Some(mut letter) => {
                    let complete = if name == "DATA" { data(conn, &mut letter)? } else { chunk(conn, &mut letter, rest) };
                    if complete {
                        backend.letters.add(letter);
                    } else {
                        self.letter = Some(letter);
                    }
                    format!("250 ECHO {line}")
                }
            },
            "RSET" => {
                self.letter = None;
                "250 2.0.0 OK".to_owned()
            }
            "QUIT" => {
                let _ = conn.try_send("221 2.0.0 Bye.\r\n");
                return Some(Step::Ends);
            }
            _ if self.user.is_some() => format!("250 ECHO {line}"),
            "NOOP" => "250 2.0.0 OK".to_owned(),
            _ => "500 5.5.1 Not here.".to_owned(),
        };
        say(conn, &reply);
        Some(Step::GoesOn)
    }

    /// The answer to EHLO or HELO.
    fn greeting_to(&self, backend: &Backend, seen: &SeenLogin, name: &str) -> String {
        if name == "HELO" {
            return "250 backend.test".to_owned();
        }
        let hidden = |line: &&str| match word(line) {
            "AUTH" => self.user.is_some() || self.announced.is_some(),
            "XCLIENT" => backend.xclient == Xclient::Exim && !self.exim.offers_xclient(),
            _ => false,
        };
        let starttls = backend.offers_tls(seen).then_some("STARTTLS");
        let mut lines = vec!["backend.test"];
        lines.extend(backend.capabilities.lines().filter(|line| !hidden(line)).chain(starttls));
        let last = lines.pop().unwrap_or_default();
        lines.iter().map(|line| format!("250-{line}\r\n")).collect::<String>() + &format!("250 {last}")
    }

    /// The answer to XCLIENT, and whether the connection ends with it.
    fn xclient(&mut self, backend: &Backend, conn: &Conn, attributes: &str) -> (String, bool) {
        let login = match &backend.xclient {
            Xclient::Answered(line) => return (line.clone(), false),
            Xclient::Exim => {
                let answer = self.exim.xclient(attributes, self.hello.is_some(), self.letter.is_some(), conn);
                let success = answer.is_ok();
                match self.exim.login() {
                    None => {}
                    Some(None) => (self.user, self.announced) = (None, None),
                    // What a refused command has said of it counts all the same.
                    Some(login) if self.user.is_some() || !success => self.user = login,
                    Some(login) => self.announced = login,
                }
                self.hello.take_if(|_| success);
                return answer.map_or_else(|no| (no.reply, no.fatal), |()| ("220 XCLIENT success".to_owned(), false));
            }
            _ if !backend.offers("XCLIENT") => {
                return ("550 5.7.0 Error: insufficient authorization".to_owned(), false);
            }
            _ if self.letter.is_some() => return ("503 5.5.1 Error: MAIL transaction in progress".to_owned(), false),
            Xclient::Believed => None,
            Xclient::SignsIn => attribute(attributes, "LOGIN"),
        };
        self.hello = None;
        self.user = None;
        self.announced = login;
        (backend.greeting.clone(), false)
    }

    fn logged(&self, backend: &Backend, conn: &Conn) -> String {
        match backend.xclient {
            Xclient::Exim => self.exim.logged(self.hello.as_deref().map_or("", |line| line.get(5..).unwrap_or("")), conn),
            _ => String::new(),
        }
    }
}

impl Backend {
    /// Whether an extension of Submission is offered.
    fn offers(&self, name: &str) -> bool {
        self.capabilities.lines().any(|line| word(line) == name)
    }
}

/// A peer that has gone is noticed at the next line.
fn say(conn: &mut Conn, line: &str) {
    let _ = conn.try_send(format!("{line}\r\n"));
}

fn word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

fn behind_colon(rest: &str) -> String {
    rest.split_once(':').map_or(rest, |(_, path)| path).to_owned()
}

/// The value of an attribute, if it is there, not empty and not one of those that say nothing.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let value = attributes.split(' ').find_map(|word| {
        let (n, value) = word.split_once('=')?;
        n.eq_ignore_ascii_case(name).then_some(value)
    });
    value.filter(|value| !value.is_empty() && !value.starts_with('[')).and_then(xtext)
}

/// Takes xtext apart (RFC 3461 section 4); `None` when it is none.
pub(super) fn xtext(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
                digit()? << 4 | digit()?
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a message up to its dot. `None` when the peer leaves before that.
#[track_caller]
fn data(conn: &mut Conn, letter: &mut Letter) -> Option<bool> {
    conn.send_line("354 Go ahead");
    while conn.has_more() {
        let line = conn.expect_raw_line_by(conn.deadline(), "");
        if line == b"." {
            return Some(true);
        }
        letter.data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        letter.data.extend_from_slice(b"\r\n");
    }
    None
}

/// Reads a chunk; whether it was the last one.
#[track_caller]
fn chunk(conn: &mut Conn, letter: &mut Letter, rest: &str) -> bool {
    let mut words = rest.split(' ');
    let Some(size) = words.next().and_then(|n| n.parse().ok()) else { conn.fail("expected the size of a chunk") };
    letter.data.extend(conn.read_exact(size));
    words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_decoded_or_refused() {
        assert_eq!(xtext("a+2Bb+3dc").as_deref(), Some("a+b=c"));
        assert_eq!(xtext("+C3+A9").as_deref(), Some("é"));
        assert_eq!((xtext("a+4"), xtext("a+zz")), (None, None));
        assert_eq!(attribute("ADDR=192.0.2.1 login=joe+40example.org", "LOGIN").as_deref(), Some("joe@example.org"));
        assert_eq!((attribute("LOGIN=[UNAVAILABLE]", "LOGIN"), attribute("LOGIN=", "LOGIN")), (None, None));
    }
}
