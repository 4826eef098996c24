//! `gatepost trace`: follows dialogues live.

use super::ask::{At, Lines, Whom, json_line, query, refusal, shown};
use super::{FAILED, UNREACHABLE, USAGE};
use crate::config::parse_duration;
use clap::Args;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

#[derive(Args)]
pub struct Trace {
    /// The user, with * and ?; several: any of them. All kinds of words that are given must match
    #[arg(value_name = "USER")]
    user: Vec<String>,
    /// The client's address or network
    #[arg(long, value_name = "ADDRESS[/BITS]")]
    client: Vec<String>,
    /// The backend: address, address:port, network, or the row's host
    #[arg(long, value_name = "BACKEND")]
    backend: Vec<String>,
    /// The listener: address:port, address, or port
    #[arg(long, value_name = "LISTENER")]
    listener: Vec<String>,
    /// The protocol: imap, pop3, managesieve, submission or lmtp
    #[arg(long)]
    protocol: Option<String>,
    /// The session id
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// For this long, such as 60s; else until interrupted
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    term: Option<Duration>,
    /// End with so many dialogues
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Each event as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whom: Whom,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "is no length of time such as 60s".to_owned())
}

impl Trace {
    /// Follows.
    pub fn go(&self, config: &Path) -> ExitCode {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        let lists = [("user", &self.user), ("client", &self.client), ("backend", &self.backend), ("listener", &self.listener)];
        for (name, values) in lists {
            pairs.extend(values.iter().map(|value| (name, value.clone())));
        }
        let single = [("protocol", &self.protocol), ("session", &self.session)];
        pairs.extend(single.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        if pairs.is_empty() {
            eprintln!(
                "gatepost trace: say whom to follow: a user ('*' is everybody), --client, --backend, --listener, --protocol or --session"
            );
            return ExitCode::from(USAGE);
        }
        let at = match self.whom.serving(config) {
            Ok(at) => at,
            Err(code) => return code,
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => {
                eprintln!("gatepost trace: {e}");
                return ExitCode::from(FAILED);
            }
        };
        runtime.block_on(self.follow(&at, &format!("/v1/trace?{}", query(&pairs))))
    }

    async fn follow(&self, at: &At, path: &str) -> ExitCode {
        let mut lines = match Lines::ask(at, path).await {
            Ok(Ok(lines)) => lines,
            Ok(Err(answer)) => {
                eprintln!("gatepost trace: {}", refusal(&answer));
                return ExitCode::from(FAILED);
            }
            Err(e) => {
                eprintln!("gatepost trace: {}", super::ask::unanswered(at, &e));
                return ExitCode::from(UNREACHABLE);
            }
        };
        let until = self.term.map(|term| Instant::now() + term);
        let mut picked = Picked { most: self.count.map(|count| count as usize), ..Picked::default() };
        loop {
            let next = tokio::select! {
                next = lines.next() => next,
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return ExitCode::SUCCESS,
                _ = tokio::signal::ctrl_c() => return ExitCode::SUCCESS,
            };
            let line = match next {
                Ok(Some(line)) => line,
                Ok(None) => {
                    eprintln!("gatepost trace: {at}: the server has ended the trace");
                    return ExitCode::from(UNREACHABLE);
                }
                Err(e) => {
                    eprintln!("gatepost trace: {at}: {e}");
                    return ExitCode::from(UNREACHABLE);
                }
            };
            let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
            if !picked.admits(&event) {
                continue;
            }
            let text = if self.json { format!("{}\n", json_line(&event)) } else { told(&event) };
            // A pager that was closed is no failure.
            if !super::is_read(&text) || picked.is_done() {
                return ExitCode::SUCCESS;
            }
        }
    }
}

/// Which dialogues are shown, where there is a number of them.
#[derive(Default)]
struct Picked {
    most: Option<usize>,
    begun: BTreeSet<u64>,
    ended: BTreeSet<u64>,
}

impl Picked {
    fn admits(&mut self, event: &Value) -> bool {
        let Some(number) = event.get("number").and_then(Value::as_u64) else {
            if event.get("event") == Some(&Value::from("lost")) {
                // Their ends may be among what was lost.
                self.ended.extend(&self.begun);
            }
            return true;
        };
        let Some(most) = self.most else { return true };
        if self.begun.len() < most {
            self.begun.insert(number);
        }
        if event.get("event") == Some(&Value::from("end")) && self.begun.contains(&number) {
            self.ended.insert(number);
        }
        self.begun.contains(&number)
    }

    fn is_done(&self) -> bool {
        self.most.is_some_and(|most| self.begun.len() >= most && self.ended.len() >= most)
    }
}

/// An event for people: one line, or a few.
pub fn told(event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).map(shown).unwrap_or_default();
    let count = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or(0);
    let kind = text("event");
    let at = event.get("at").and_then(Value::as_f64).unwrap_or(0.0);
    let start = format!("#{:<4} {at:>8.3}", count("number"));
    match kind.as_str() {
        "trace" => "following; whoever connects from now on is seen from the greeting on\n".to_owned(),
        "lost" => format!("({} events are lost: this reader is too slow)\n", count("events")),
        "begin" => {
            let late = if event.get("under_way") == Some(&Value::Bool(true)) { ", under way already" } else { "" };
            let (protocol, listener, client, session) = (text("protocol"), text("listener"), text("client"), text("session"));
            format!("{start}  begin  {} {protocol} on {listener}, client {client}, session {session}{late}\n", text("time"))
        }
        "line" => {
            let mark = match (text("from").as_str(), text("to").as_str()) {
                ("client", _) => "C>",
                (_, "client") => "C<",
                (_, "backend") => "B>",
                _ => "B<",
            };
            format!("{start}  {mark} {}\n", text("text"))
        }
        "step" => {
            let mut out = format!("{start}     {}: {}\n", text("step"), text("text"));
            let more = event.get("more").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            for line in more {
                let _ = writeln!(out, "{:>24}{}", "", shown(line));
            }
            out
        }
        "state" => format!("{start}  == {}\n", text("state")),
        "left-out" => format!("{start}     ({} events before this are left out: too many)\n", count("events")),
        "end" => format!("{start}  end    {}\n", text("text")),
        other => format!("{start}     {other}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn so_many_dialogues_and_no_other() {
        let mut picked = Picked { most: Some(2), ..Picked::default() };
        for (event, number, admitted, done) in [
            ("begin", 1, true, false),
            ("begin", 2, true, false),
            ("begin", 3, false, false),
            ("end", 3, false, false),
            ("end", 2, true, false),
            ("line", 1, true, false),
            ("end", 1, true, true),
        ] {
            assert_eq!(picked.admits(&json!({"event": event, "number": number})), admitted, "{event} {number}");
            assert_eq!(picked.is_done(), done, "{event} {number}");
        }
    }

    #[test]
    fn nothing_from_outside_writes_on_a_terminal() {
        let event = json!({"event": "step", "number": 1, "at": 0.5, "step": "row", "text": "a\u{1b}[2J", "more": ["b\r\nc"]});
        let told = told(&event);
        assert!(!told.contains('\u{1b}') && !told.contains('\r') && told.lines().count() == 2, "{told:?}");
    }
}
