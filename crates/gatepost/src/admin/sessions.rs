//! Who is on, and how to end it: `GET /v1/sessions`, `POST /v1/kick`.
//!
//! Both take the same words to say who is meant, as a query: `user` and `destuser` with `*` and `?`, `client` (address or
//! network), `backend` (address, `address:port`, network or the row's host), `protocol`, `session`, `state`; and `field`, the
//! name of a `user_NAME` column that `user` is then about; `exact=1` makes `*` and `?` ordinary characters. `user`, `client` and
//! `backend` may come several times, and any of them will do. All kinds of words that are given must match.

use super::Desk;
use super::answer::{Refusal, VERSION, json};
use super::query::{Said, said, told as told_as};
use crate::config::listen_at::ListenAt;
use crate::config::parse_duration;
use crate::journal::{Level, Word};
use crate::login::record::{Record, Shielding};
use crate::login::roll::{Entry, Filter, HOLD_MAX, Held, Mask, State, View, net};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{RawQuery, State as With};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How many sessions are written before others have their turn.
const PAGE: usize = 256;
/// The most words of one kind in a request.
const WORDS_MAX: usize = 256;

/// What a request says.
#[derive(Default)]
struct Asked {
    filter: Filter,
    hold: Option<Duration>,
    all: bool,
    dry_run: bool,
    /// List only so many, those that came last.
    limit: Option<usize>,
}

fn asked(query: Option<&str>) -> Result<Asked, Refusal> {
    let mut asked = Asked::default();
    let mut users: Vec<Mask> = Vec::new();
    let mut exact = false;
    let mut field: Option<Box<str>> = None;
    for word in said(query) {
        let Said { name, value } = &word;
        let filter = &mut asked.filter;
        match &**name {
            "user" => users.push(word.read()?),
            "field" if value.strip_prefix("user_").is_some_and(|rest| !rest.is_empty()) => field = Some(value.as_ref().into()),
            "field" => return Err(word.bad("is not the name of a user_NAME column")),
            "destuser" => filter.destuser = Some(word.read()?),
            "client" => filter.client.push(net(value).map_err(|why| word.bad(why))?),
            "backend" => filter.backend.push(word.read()?),
            "protocol" => filter.protocol = Some(word.protocol()?),
            "session" if !value.is_empty() => filter.session = Some(value.as_ref().into()),
            "state" => {
                let known = State::ALL.into_iter().find(|state| state.word() == value);
                filter.state = Some(known.ok_or_else(|| word.bad("is not talking, signing-in, held or relayed"))?);
            }
            "hold" => asked.hold = Some(parse_duration(value).ok_or_else(|| word.bad("is no length of time such as 60s"))?),
            "exact" => exact = word.is_set(),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                asked.limit = Some(limit.ok_or_else(|| word.bad("is no number of connections"))?);
            }
            "all" => asked.all = word.is_set(),
            "dry_run" => asked.dry_run = word.is_set(),
            _ => return Err(word.unknown()),
        }
        if users.len().max(filter.client.len()).max(filter.backend.len()) > WORDS_MAX {
            return Err(Refusal::bad(format!("{name}: at most {WORDS_MAX} at a time")));
        }
    }
    if exact {
        users.iter_mut().chain(&mut asked.filter.destuser).for_each(Mask::exact);
    }
    match field {
        Some(field) if users.is_empty() => return Err(Refusal::bad(format!("field: {field} of whom? say user, too"))),
        Some(field) => asked.filter.alternative = Some((field, users)),
        None => asked.filter.user = users,
    }
    Ok(asked)
}

/// One connection, as it is told.
#[derive(Serialize)]
struct Told<'a> {
    number: u64,
    /// The process that has it.
    pid: u32,
    state: &'static str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destuser: Option<&'a str>,
    client: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<SocketAddr>,
    listener: &'a ListenAt,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    session: &'a str,
    age: u64,
    idle: u64,
    to_backend: u64,
    to_client: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_tls: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<&'a str, &'a str>,
}

fn told(view: &View) -> Told<'_> {
    let record = view.record.as_deref();
    Told {
        number: view.number,
        pid: std::process::id(),
        state: view.state.word(),
        protocol: view.protocol,
        user: &view.user,
        destuser: record.map(Record::destuser),
        client: view.client,
        via: view.via,
        listener: &view.listener,
        backend: view.backend(),
        host: record.map(|record| &*record.host),
        session: &view.session,
        age: view.age.as_secs(),
        idle: view.idle.as_secs(),
        to_backend: view.to_backend,
        to_client: view.to_client,
        tls: record.map(|record| match record.client_tls {
            Some(Shielding::Here(version, cipher)) => format!("{version}:{cipher}"),
            Some(Shielding::InFront) => "offloaded".to_owned(),
            None => "none".to_owned(),
        }),
        backend_tls: record.map(|record| match record.backend_tls {
            Some((version, cipher)) => format!("{version}:{cipher}"),
            None => "none".to_owned(),
        }),
        fields: record.iter().flat_map(|record| record.notes.iter()).map(|(name, value)| (&**name, &**value)).collect(),
    }
}

/// `GET /v1/sessions`.
pub async fn list(With(desk): With<Desk>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let Asked { filter, limit, .. } = asked(query.as_deref())?;
    let mut all = desk.house.roll.all();
    if limit.is_some() {
        all.reverse();
    }
    let limit = limit.unwrap_or(usize::MAX);
    let pages = Pages { rest: all.into_iter(), filter, limit, told: 0, total: 0, stage: Stage::Head };
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], Body::new(pages)).into_response())
}

/// A list that is written page by page: a hundred thousand sessions are no reason to hold all their lines in memory.
struct Pages {
    rest: std::vec::IntoIter<Arc<Entry>>,
    filter: Filter,
    limit: usize,
    told: usize,
    total: usize,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Head,
    Middle,
    Done,
}

impl HttpBody for Pages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let pages = self.get_mut();
        let mut text = Vec::new();
        match pages.stage {
            Stage::Done => return Poll::Ready(None),
            Stage::Head => {
                text.extend_from_slice(format!("{{\"version\":{VERSION},\"sessions\":[").as_bytes());
                pages.stage = Stage::Middle;
            }
            Stage::Middle => {}
        }
        for _ in 0..PAGE {
            let Some(entry) = pages.rest.next() else {
                text.extend_from_slice(format!("\n],\"total\":{}}}\n", pages.total).as_bytes());
                pages.stage = Stage::Done;
                break;
            };
            let view = View::of(&entry);
            // One that has ended meanwhile is only held by us.
            if entry.slot().order().is_some() || !pages.filter.admits(&view) {
                continue;
            }
            pages.total += 1;
            if pages.told >= pages.limit {
                continue;
            }
            text.extend_from_slice(if pages.told == 0 { b"\n" } else { b",\n" });
            if serde_json::to_writer(&mut text, &told(&view)).is_ok() {
                pages.told += 1;
            }
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}

/// What came of a kick.
#[derive(Serialize)]
struct Kicked {
    version: u32,
    kicked: usize,
    dry_run: bool,
    /// Seconds for which logins are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<f64>,
}

/// `POST /v1/kick`: both sides of every connection that is meant are closed within a second.
pub async fn kick(With(desk): With<Desk>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let Asked { filter, hold, all, dry_run, limit } = asked(query.as_deref())?;
    if limit.is_some() {
        return Err(Refusal::bad("limit is for lists: a kick ends all that are meant"));
    }
    if filter.is_empty() && !all {
        return Err(Refusal::bad("say whom to kick: user, destuser, client, backend, protocol, session or state; or all=1"));
    }
    let house = &desk.house;
    if let Some(term) = hold {
        if term > HOLD_MAX {
            return Err(Refusal::bad(format!("hold: at most {} s, because clients give up", HOLD_MAX.as_secs())));
        }
        let held = Held {
            user: filter.user.clone(),
            destuser: filter.destuser.clone(),
            client: filter.client.clone(),
            backend: filter.backend.clone(),
            protocol: filter.protocol.clone(),
        };
        if filter.session.is_some() || filter.state.is_some() || filter.alternative.is_some() {
            return Err(Refusal::bad(
                "hold goes with user, destuser, client, backend and protocol: of others a login knows nothing",
            ));
        }
        // First the hold, then the kick: nobody may slip in between.
        if !dry_run {
            house.roll.holds.add(held, term).map_err(|why| Refusal(StatusCode::CONFLICT, why))?;
        }
    }
    let kicked = if hold.is_some_and(|term| term.is_zero()) {
        // Whoever ends a hold means those who wait, and does not send them away.
        0
    } else if dry_run {
        house.roll.all().iter().filter(|entry| entry.slot().order().is_none() && filter.admits(&View::of(entry))).count()
    } else {
        house.roll.kick(&filter)
    };
    if !dry_run {
        let what = told_as(query.as_deref());
        let words = [("connections", Word::Number(u64::try_from(kicked).unwrap_or(u64::MAX))), ("text", Word::Text(&what))];
        house.journal.line(Level::Info, "kick", &words);
    }
    Ok(json(&Kicked { version: VERSION, kicked, dry_run, held: hold.map(|term| term.as_secs_f64()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_read_strictly() {
        let fine = |query: &str| asked(Some(query)).unwrap_or_else(|e| panic!("{query}: {}", e.1));
        assert!(fine("").filter.is_empty());
        let all = fine("user=a*&user=b%40c&client=192.0.2.0/24&backend=10.0.0.1:143&protocol=imap&session=x&state=held&hold=60s");
        assert_eq!((all.filter.user.len(), all.filter.client.len(), all.filter.backend.len()), (2, 1, 1));
        assert_eq!(all.hold, Some(Duration::from_secs(60)));
        assert!(fine("user=a*").filter.user.iter().any(|mask| mask.matches("ab")));
        let exact = fine("user=a*&destuser=*&exact=1").filter;
        assert!(exact.user.iter().all(|mask| mask.matches("a*") && !mask.matches("ab")));
        assert!(exact.destuser.is_some_and(|mask| mask.matches("*") && !mask.matches("x")));
        let (field, masks) = fine("field=user_alias&user=x").filter.alternative.unwrap();
        assert_eq!((&*field, masks.len()), ("user_alias", 1));
        for bad in [
            "user=",
            "usr=a",
            "client=mail.example.com",
            "client=10.0.0.0/33",
            "backend=a%20b",
            "protocol=gopher",
            "state=on",
            "hold=soon",
            "session=",
            "field=user_alias",
            "field=alias&user=x",
            "limit=0",
            "limit=-1",
        ] {
            assert!(asked(Some(bad)).is_err(), "{bad}");
        }
        assert!(asked(Some(&"user=a&".repeat(300))).is_err());
    }
}
