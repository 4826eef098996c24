//! One command, one answer: what is said to the server, what it says, and what whoever follows sees of both.

use super::{Courier, Lost, READ, REPLY_MAX, State};
use crate::witness::Ear;
use bytes::Buf;
use std::io;
use tokio::time::{Instant, timeout, timeout_at};
use wire::encode::escaped;
use wire::envelope::Verdict;
use wire::overheard::{Line, text};
use wire::smtp::reply;

impl Courier {
    pub(super) async fn say(&mut self, octets: &[u8]) -> Result<(), Lost> {
        match timeout(self.patience, self.conn.write_all(octets)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.gone(e)),
            Err(_) => Err(Lost(format!("it does not read what is said for {} s", self.patience.as_secs()))),
        }
    }

    pub(super) fn gone(&mut self, e: io::Error) -> Lost {
        self.state = State::Gone;
        Lost(e.to_string())
    }

    /// The answer to MAIL. One that ends the connection is about that and not about the mail.
    pub(super) async fn mail_verdict(&mut self) -> Result<Verdict, Lost> {
        let reply = self.reply(Instant::now() + self.patience).await?;
        match reply.0 {
            421 => {
                self.state = State::Gone;
                Err(Lost(format!("it takes its leave: {}", reply.2)))
            }
            200..=299 | 400..=599 => Ok(reply.verdict((1, 0))),
            code => Err(Lost(format!("it answers MAIL with {code}"))),
        }
    }

    /// The answer to an XFORWARD, which decides nothing: a no is written down, once for a server.
    pub(super) async fn forward_reply(&mut self) -> Result<(), Lost> {
        let answer = self.reply(Instant::now() + self.patience).await?;
        if answer.0 >= 400 {
            let text = format!("backend {}: it refused to hear who sent a mail (XFORWARD): {}", self.address, answer.0);
            self.house.remark("xforward-refused", text);
        }
        Ok(())
    }

    pub(super) async fn verdict(&mut self, enhanced: (u16, u16), by: Instant) -> Result<Verdict, Lost> {
        let reply = self.reply(by.min(Instant::now() + self.patience)).await?;
        match reply.0 {
            200..=299 | 400..=599 => Ok(reply.verdict(enhanced)),
            code => {
                self.state = State::Gone;
                Err(Lost(format!("it answers with {code}, which was not asked")))
            }
        }
    }

    pub(super) async fn reply(&mut self, by: Instant) -> Result<Answer, Lost> {
        let read = timeout_at(by, self.read_reply()).await;
        let answer = read.unwrap_or_else(|_| Err(Lost("it does not answer in time".to_owned())));
        if answer.is_err() {
            self.state = State::Gone;
        }
        answer
    }

    async fn read_reply(&mut self) -> Result<Answer, Lost> {
        loop {
            let seen = self.input.get(..REPLY_MAX).unwrap_or(&self.input);
            match reply::border(seen) {
                Ok(Some(end)) => {
                    let octets = self.input.get(..end).unwrap_or_default().to_vec();
                    self.input.advance(end);
                    self.heard(&octets);
                    let reply =
                        reply::read(&octets).map_err(|why| Lost(format!("not a reply ({why}): {}", escaped(&octets, 200))))?;
                    let text = String::from_utf8_lossy(&reply.text()).into_owned();
                    self.leaving |= reply.code == 421;
                    return Ok(Answer(reply.code, reply.enhanced().and_then(enhanced), text));
                }
                Ok(None) if seen.len() >= REPLY_MAX => return Err(Lost("its reply is too long".to_owned())),
                Ok(None) => {}
                Err(why) => return Err(Lost(format!("not a reply ({why}): {}", escaped(seen, 200)))),
            }
            match self.conn.read(&mut self.input, READ).await {
                Ok(0) => return Err(Lost("it closed the connection".to_owned())),
                Ok(_) => {}
                Err(e) => return Err(Lost(e.to_string())),
            }
        }
    }

    pub(super) fn note(&self, said: &[u8]) {
        self.tell(said, false);
    }

    pub(super) fn heard(&self, said: &[u8]) {
        self.tell(said, true);
    }

    fn tell(&self, said: &[u8], from_peer: bool) {
        if let Some(tap) = &self.tap {
            let lines = said.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
            let line = |line: &[u8]| {
                let text = text(line);
                // What databases forward may be meant for servers only.
                let text = match text.find(" XRCPTFORWARD=") {
                    Some(at) if !from_peer => format!("{} XRCPTFORWARD=***", text.get(..at).unwrap_or_default()),
                    _ => text,
                };
                Line { from_peer, free: true, text, user: None }
            };
            tap.backend_said(lines.map(line).collect());
        }
    }
}

/// A reply: its code, its enhanced code, its words.
pub(super) struct Answer(pub(super) u16, Option<(u16, u16, u16)>, String);

impl Answer {
    /// What it means to a recipient. `enhanced` stands in where the server said none that goes with the code. A server that takes its
    /// leave says nothing for good.
    pub(super) fn verdict(&self, default: (u16, u16)) -> Verdict {
        let Answer(code, enhanced, text) = self;
        let code = if *code == 421 { 451 } else { *code };
        let said = enhanced.filter(|(class, ..)| *class == code / 100).map(|(_, subject, detail)| (subject, detail));
        Verdict::new(code, said.unwrap_or(default), text)
    }
}

/// `5.1.1` as numbers.
fn enhanced(text: &str) -> Option<(u16, u16, u16)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}
