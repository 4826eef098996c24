//! The login phase of ManageSieve, seen from the server (RFC 5804; XCLIENT as Dovecot speaks it).

use super::{Backend, SeenLogin, Xclient, begin_tls, sasl};
use crate::peer::Conn;
use crate::peer::sieve_text::{SieveItem, items, literal, string};

/// Says the capabilities and the greeting, at the beginning and again in TLS.
#[track_caller]
pub(super) fn greet(backend: &Backend, conn: &mut Conn, seen: &SeenLogin) {
    if backend.greeting.starts_with("OK") {
        list(backend, conn, seen);
    }
    conn.send_line(&backend.greeting);
}

/// Obeys until a login has been answered; `None` when the peer leaves before that.
#[track_caller]
pub(super) fn login(backend: &Backend, conn: &mut Conn, seen: &mut SeenLogin) -> Option<()> {
    loop {
        let line = conn.read_line()?;
        let (name, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let name = name.to_ascii_uppercase();
        seen.commands.push(name.clone());
        match name.as_str() {
            "CAPABILITY" => {
                list(backend, conn, seen);
                conn.send_line("OK \"Capability completed.\"");
            }
            "XCLIENT" => {
                seen.xclients.push(rest.to_owned());
                conn.send_line(if let Xclient::Answered(line) = &backend.xclient { line } else { "OK \"Updated\"" });
            }
            "STARTTLS" if backend.offers_tls(seen) => {
                conn.send_line("OK \"Begin TLS negotiation now.\"");
                begin_tls(conn, seen, backend.tls.as_ref()?)?;
                greet(backend, conn, seen);
            }
            "AUTHENTICATE" => {
                let words = items(conn, rest)?;
                let [mechanism, initial @ ..] = &words[..] else { conn.fail("expected a mechanism") };
                let Some(mechanism) = mechanism.text() else { conn.fail("expected the mechanism as a string") };
                let initial = initial.first().and_then(SieveItem::text);
                sasl(conn, seen, &mechanism, initial.as_deref(), |conn, challenge| ask(backend, conn, challenge))?;
                conn.send_line(&backend.answer);
                return Some(());
            }
            "NOOP" => conn.send_line("OK \"Done.\""),
            "LOGOUT" => {
                conn.send_line("OK \"Bye.\"");
                return None;
            }
            _ => conn.send_line("NO \"Not here.\""),
        }
    }
}

/// Answers one line after the login, with its literals; `false` when the conversation is over.
pub(super) fn echo(conn: &mut Conn, line: &str) -> bool {
    let leaving = line.eq_ignore_ascii_case("LOGOUT");
    if items(conn, line).is_none() {
        return false;
    }
    let text = string(if leaving { "Bye.".to_owned() } else { format!("ECHO {line}") });
    conn.try_send([b"OK ", &text[..], b"\r\n"].concat()).is_ok() && !leaving
}

#[track_caller]
fn list(backend: &Backend, conn: &mut Conn, seen: &SeenLogin) {
    let starttls = backend.offers_tls(seen).then_some("\"STARTTLS\"");
    for line in backend.capabilities.lines().chain(starttls) {
        if !backend.literals {
            conn.send_line(line);
            continue;
        }
        let words = items(conn, line).unwrap_or_default();
        let words: Vec<Vec<u8>> = words.iter().filter_map(SieveItem::text).map(|text| literal(text, "")).collect();
        conn.send_line(words.join(&b' '));
    }
}

#[track_caller]
fn ask(backend: &Backend, conn: &mut Conn, challenge: &str) -> Option<String> {
    conn.send_line(if backend.literals { literal(challenge, "") } else { string(challenge) });
    let line = conn.read_line()?;
    let answer = items(conn, &line)?.first().and_then(SieveItem::text);
    Some(answer.unwrap_or_else(|| conn.fail("expected the answer to a challenge as a string")))
}
