//! Dialogues as they go on: `GET /v1/trace`, one line of JSON for each event, until the asker closes.
//!
//! Who is meant is said as elsewhere: `user`, `client`, `backend`, `listener`, `protocol`, `session`. The first line says that
//! the trace is on: dialogues that begin behind it are in it. A blank line comes every few seconds, so that an asker that is gone
//! is noticed; `{"event":"lost","events":N}` stands where one that reads too slowly has missed some.

use super::Desk;
use super::answer::{Refusal, VERSION};
use super::query::{Said, said, told};
use crate::journal::{Level, Word};
use crate::login::house::House;
use crate::login::roll::net;
use crate::trace::{TRACERS_MAX, Tracer, Wanted};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{RawQuery, State as With};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// How often an asker that has nothing to hear is told nothing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// The most words in a request.
const WORDS_MAX: usize = 256;

fn wanted(query: Option<&str>) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted::default();
    let mut number = 0usize;
    for word in said(query) {
        let Said { name, value } = &word;
        match &**name {
            "user" => wanted.user.push(word.read()?),
            "client" => wanted.client.push(net(value).map_err(|why| word.bad(why))?),
            "backend" => wanted.backend.push(word.read()?),
            "listener" => wanted.listener.push(word.read()?),
            "protocol" => wanted.protocol = Some(word.protocol()?),
            "session" if !value.is_empty() => wanted.session = Some(value.as_ref().into()),
            _ => return Err(word.unknown()),
        }
        number += 1;
        if number > WORDS_MAX {
            return Err(Refusal::bad(format!("at most {WORDS_MAX} words at a time")));
        }
    }
    if wanted.is_empty() {
        return Err(Refusal::bad("say whom to follow: user (* is everybody), client, backend, listener, protocol or session"));
    }
    Ok(wanted)
}

/// `GET /v1/trace`.
pub async fn follow(With(desk): With<Desk>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let wanted = wanted(query.as_deref())?;
    let house = desk.house;
    let tracer = house.tracers.begin(wanted).ok_or_else(|| {
        Refusal(StatusCode::CONFLICT, format!("{TRACERS_MAX} traces are on already, which is as many as there may be"))
    })?;
    let words = told(query.as_deref());
    let stream = Stream { house, tracer, words, begun: false, alive: Box::pin(sleep(SIGN_OF_LIFE)) };
    stream.tell("begin", None);
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((kind, Body::new(stream)).into_response())
}

/// What one tracer gets. With it the trace ends.
struct Stream {
    house: Arc<House>,
    tracer: Arc<Tracer>,
    /// Whom it is about, for the journal.
    words: String,
    begun: bool,
    alive: Pin<Box<Sleep>>,
}

impl Stream {
    /// Who may read dialogues is a matter for the operator: it is in the journal.
    fn tell(&self, what: &str, counts: Option<(u64, u64)>) {
        let mut words =
            vec![("state", Word::Text(&what)), ("number", Word::Number(self.tracer.number)), ("text", Word::Text(&self.words))];
        if let Some((events, lost)) = counts {
            words.extend([("events", Word::Number(events)), ("lost", Word::Number(lost))]);
        }
        self.house.journal.line(Level::Info, "trace", &words);
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = self.get_mut();
        let chunk = |text: Vec<u8>| Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))));
        if !std::mem::replace(&mut stream.begun, true) {
            let number = stream.tracer.number;
            return chunk(format!("{{\"event\":\"trace\",\"version\":{VERSION},\"trace\":{number}}}\n").into_bytes());
        }
        if let Poll::Ready((mut text, lost)) = stream.tracer.queue.poll(cx) {
            if lost > 0 {
                text.extend_from_slice(format!("{{\"event\":\"lost\",\"events\":{lost}}}\n").as_bytes());
            }
            stream.alive.as_mut().reset(Instant::now() + SIGN_OF_LIFE);
            return chunk(text);
        }
        match stream.alive.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                stream.alive.as_mut().reset(Instant::now() + SIGN_OF_LIFE);
                chunk(b"\n".to_vec())
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.house.tracers.end(&self.tracer);
        self.tell("end", Some(self.tracer.queue.counts()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_meant_is_read_strictly() {
        let fine = wanted(Some("user=a*&user=b&client=192.0.2.0/24&backend=mail1&listener=143&protocol=pop3&session=x"));
        let fine = fine.unwrap_or_else(|e| panic!("{}", e.1));
        assert_eq!((fine.user.len(), fine.client.len(), fine.backend.len(), fine.listener.len()), (2, 1, 1, 1));
        for bad in ["", "user=", "usr=a", "client=mail", "listener=mail", "protocol=gopher", "session=", "backend=a%20b"] {
            assert!(wanted(Some(bad)).is_err(), "{bad}");
        }
        assert!(wanted(None).is_err());
        assert!(wanted(Some(&"user=a&".repeat(300))).is_err());
    }
}
