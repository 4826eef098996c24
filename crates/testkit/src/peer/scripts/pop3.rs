//! The login phase of POP3, seen from the server (RFC 1939, 2449, 2595, 5034; XCLIENT as Dovecot speaks it).

use super::{Backend, SeenLogin, Xclient, begin_tls, sasl_by_lines};
use crate::peer::Conn;

/// Obeys until a login has been answered; `None` when the peer leaves before that.
#[track_caller]
pub(super) fn login(backend: &Backend, conn: &mut Conn, seen: &mut SeenLogin) -> Option<()> {
    loop {
        let line = conn.read_line()?;
        let (name, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let name = name.to_ascii_uppercase();
        seen.commands.push(name.clone());
        match name.as_str() {
            "CAPA" => {
                conn.send_line("+OK");
                for capability in backend.capabilities.lines() {
                    conn.send_line(capability);
                }
                if backend.offers_tls(seen) {
                    conn.send_line("STLS");
                }
                conn.send_line(".");
            }
            "XCLIENT" => {
                seen.xclients.push(rest.to_owned());
                conn.send_line(if let Xclient::Answered(line) = &backend.xclient { line } else { "+OK Updated" });
            }
            "STLS" if backend.offers_tls(seen) => {
                conn.send_line("+OK Begin TLS negotiation now.");
                begin_tls(conn, seen, backend.tls.as_ref()?)?;
            }
            "USER" => {
                seen.user = rest.to_owned();
                conn.send_line("+OK");
            }
            "PASS" if seen.user.is_empty() => conn.send_line("-ERR No username given."),
            "PASS" => {
                seen.password = rest.to_owned();
                conn.send_line(&backend.answer);
                return Some(());
            }
            "AUTH" if rest.is_empty() => conn.send("+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n"),
            "AUTH" => {
                sasl_by_lines(conn, seen, rest, "+")?;
                conn.send_line(&backend.answer);
                return Some(());
            }
            "NOOP" => conn.send_line("+OK"),
            "QUIT" => {
                conn.send_line("+OK Bye.");
                return None;
            }
            _ => conn.send_line("-ERR Not here."),
        }
    }
}

/// Answers one line after the login; `false` when the conversation is over.
pub(super) fn echo(conn: &mut Conn, line: &str) -> bool {
    let leaving = line.eq_ignore_ascii_case("QUIT");
    let answer = if leaving { "Bye.".to_owned() } else { format!("ECHO {line}") };
    conn.try_send(format!("+OK {answer}\r\n")).is_ok() && !leaving
}
