//! What Gatepost did with our one dialogue, as its trace tells it.

use super::log::Seen;
use serde_json::Value;
use std::net::SocketAddr;
use wire::overheard::text;

/// What is known of the dialogue.
pub struct Witnessed {
    /// Its number on the roll.
    number: Option<u64>,
    /// Our own end.
    own: SocketAddr,
    /// Where we signed in.
    pub listener: SocketAddr,
    /// Who is calling, as Gatepost believes it.
    pub client: SocketAddr,
    /// The session id.
    pub session: String,
    /// This host may speak for others.
    pub trusted: Option<bool>,
    /// The backend's address.
    pub backend: String,
    /// The row's host.
    pub host: String,
    /// From where Gatepost called it.
    pub source: SocketAddr,
    /// The name that the backend was given.
    pub destuser: String,
    /// `told`, `header`, `not-offered`, `not-told`.
    pub identity: String,
    /// The same in words.
    pub identity_words: String,
    /// The row wants it told.
    pub wanted: bool,
    /// The command that told who is calling.
    pub introduction: String,
    /// Why the login failed.
    pub refused: Option<String>,
    /// The dialogue is over.
    pub ended: bool,
}

impl Witnessed {
    /// Nothing yet of the dialogue from this address of ours.
    pub fn of(own: SocketAddr, listener: SocketAddr) -> Witnessed {
        Witnessed {
            number: None,
            own,
            listener,
            client: own,
            session: String::new(),
            trusted: None,
            backend: String::new(),
            host: String::new(),
            source: own,
            destuser: String::new(),
            identity: String::new(),
            identity_words: String::new(),
            wanted: false,
            introduction: String::new(),
            refused: None,
            ended: false,
        }
    }

    /// Hears an event of the trace.
    pub fn hear(&mut self, event: &Value) {
        let word = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let data = |name: &str| event.pointer(&format!("/data/{name}")).and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = word("event");
        let number = event.get("number").and_then(Value::as_u64);
        if kind == "begin" && word("client").parse() == Ok(self.own) {
            self.number = number;
            self.session = word("session");
        }
        if number.is_none() || number != self.number {
            return;
        }
        match (kind.as_str(), word("step").as_str()) {
            ("end", _) => self.ended = true,
            ("line", _) if word("to") == "backend" => {
                let text = word("text");
                if text.starts_with("I ID ") || text.starts_with("XCLIENT ") {
                    self.introduction = text.strip_prefix("I ").unwrap_or(&text).to_owned();
                }
            }
            (_, "trust") => self.trusted = event.pointer("/data/trusted").and_then(Value::as_bool),
            (_, "caller") => {
                self.client = data("client").parse().unwrap_or(self.client);
                self.session = data("session");
            }
            (_, "try") => (self.backend, self.host) = (data("address"), data("host")),
            (_, "connected") => self.source = data("source").parse().unwrap_or(self.source),
            (_, "route") => self.destuser = data("user"),
            (_, "identity") => {
                (self.identity, self.identity_words) = (data("identity"), word("text"));
                self.wanted = event.pointer("/data/wanted") == Some(&Value::Bool(true));
            }
            (_, "refused" | "disconnect") => self.refused = Some(word("text")),
            _ => {}
        }
    }
}

/// What the backend says of us behind the login: some answer ID with what they were told.
pub fn in_answer(witnessed: &Witnessed, behind: &[u8]) -> Seen {
    behind
        .split(|octet| *octet == b'\n')
        .map(|line| in_line(witnessed, line))
        .find(|seen| *seen != Seen::Nothing)
        .unwrap_or(Seen::Nothing)
}

fn in_line(witnessed: &Witnessed, line: &[u8]) -> Seen {
    let told = text(line);
    let ip = witnessed.client.ip().to_string();
    if !witnessed.session.is_empty() && told.contains(&witnessed.session) || told.contains(&format!("\"{ip}\"")) {
        return Seen::Match(told);
    }
    let lower = told.to_ascii_lowercase();
    let key = "\"x-originating-ip\" \"";
    match lower.split_once(key).and_then(|(_, rest)| rest.split('"').next()) {
        Some(other) => Seen::Mismatch(told.clone(), format!("the backend takes {other} for the client")),
        None => Seen::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_our_own_dialogue_counts() {
        let own: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let mut witnessed = Witnessed::of(own, "127.0.0.1:143".parse().unwrap());
        for event in [
            json!({"event": "begin", "number": 1, "client": "127.0.0.1:4999", "session": "a"}),
            json!({"event": "step", "number": 1, "step": "identity", "text": "x", "data": {"identity": "told"}}),
            json!({"event": "end", "number": 1}),
        ] {
            witnessed.hear(&event);
        }
        assert!(!witnessed.ended && witnessed.identity.is_empty() && witnessed.session.is_empty());
        for event in [
            json!({"event": "begin", "number": 2, "client": "127.0.0.1:5000", "session": "b"}),
            json!({"event": "line", "number": 2, "from": "gatepost", "to": "backend", "text": "I ID (\"x-session-id\" \"b\")"}),
            json!({"event": "step", "number": 2, "step": "identity", "text": "x", "data": {"identity": "told"}}),
            json!({"event": "end", "number": 2}),
        ] {
            witnessed.hear(&event);
        }
        assert!(witnessed.ended);
        assert_eq!((&*witnessed.identity, &*witnessed.session), ("told", "b"));
        assert_eq!(witnessed.introduction, "ID (\"x-session-id\" \"b\")");
    }

    #[test]
    fn an_answer_to_id_may_tell() {
        let own: SocketAddr = "192.0.2.9:5000".parse().unwrap();
        let mut witnessed = Witnessed::of(own, "127.0.0.1:143".parse().unwrap());
        witnessed.session = "session-id".into();
        assert!(matches!(in_answer(&witnessed, b"* ID (\"x-session-id\" \"session-id\")\r\n"), Seen::Match(_)));
        assert!(matches!(in_answer(&witnessed, b"* ID (\"x-originating-ip\" \"192.0.2.9\")\r\n"), Seen::Match(_)));
        assert!(matches!(in_answer(&witnessed, b"* ID (\"x-originating-ip\" \"192.0.2.8\")\r\n"), Seen::Mismatch(..)));
        assert!(matches!(in_answer(&witnessed, b"* ID (\"name\" \"Dovecot\")\r\n"), Seen::Nothing));
    }
}
