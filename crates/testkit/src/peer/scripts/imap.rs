//! The login phase of IMAP, seen from the server.

use super::{Backend, SeenLogin, begin_tls, sasl_by_lines};
use crate::peer::Conn;

/// Obeys until a login has been answered; `None` when the peer leaves before that.
#[track_caller]
pub(super) fn login(backend: &Backend, conn: &mut Conn, seen: &mut SeenLogin) -> Option<()> {
    loop {
        let line = conn.read_line()?;
        let mut words = line.splitn(3, ' ');
        let (tag, name, rest) = (words.next()?, words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let name = name.to_ascii_uppercase();
        seen.commands.push(name.clone());
        match name.as_str() {
            "CAPABILITY" => {
                let starttls = if backend.offers_tls(seen) { " STARTTLS" } else { "" };
                conn.send_line(format!("* CAPABILITY {}{starttls}", backend.capabilities));
                conn.send_line(format!("{tag} OK Done."));
            }
            "ID" => {
                seen.ids.push(with_literals(conn, rest)?);
                conn.send_line("* ID (\"name\" \"testkit\")");
                conn.send_line(format!("{tag} OK ID completed."));
            }
            "STARTTLS" if backend.offers_tls(seen) => {
                conn.send_line(format!("{tag} OK Begin TLS."));
                begin_tls(conn, seen, backend.tls.as_ref()?)?;
            }
            "LOGIN" => {
                let all = with_literals(conn, rest)?;
                let mut arguments = strings(&all).into_iter();
                seen.user = arguments.next()?;
                seen.password = arguments.next()?;
                conn.send_line(format!("{tag} {}", backend.answer));
                return Some(());
            }
            "AUTHENTICATE" => {
                sasl_by_lines(conn, seen, rest, "+")?;
                conn.send_line(format!("{tag} {}", backend.answer));
                return Some(());
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

/// Answers one line after the login; `false` when the conversation is over.
pub(super) fn echo(conn: &mut Conn, line: &str) -> bool {
    let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
    let leaving = rest.eq_ignore_ascii_case("LOGOUT");
    let first = if leaving { "* BYE".to_owned() } else { format!("* ECHO {rest}") };
    conn.try_send(format!("{first}\r\n{tag} OK Done.\r\n")).is_ok() && !leaving
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
