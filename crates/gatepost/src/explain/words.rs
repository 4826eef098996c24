//! What the backend would hear: written by the dance itself, for a server that offers all that the route may want.
//!
//! That server is the protocol's own front, so what it understood can be told as well. Where the password stands, the words say
//! `***`.

use super::client::TURNS_MAX;
use crate::login::auth::{Caller, Ready};
use crate::route::Route;
use crate::witness::{MASK, Step as Seen};
use bytes::BytesMut;
use serde_json::{Value, json};
use wire::dance::{Dance, DanceEvent, Plan, Secure};
use wire::encode::base64_decode;
use wire::login::{LoginEvent, Mechanism, Terms};
use wire::machine::Step;
use wire::origin::Told;
use wire::secret::Secret;

/// The words for one backend.
pub(super) struct Words {
    /// Line by line, without CRLF.
    pub(super) lines: Vec<String>,
    /// Keys of what could not be said.
    pub(super) left_out: Vec<String>,
    /// What a server understands of the sign-in: who signs in, as whom it acts, how.
    pub(super) sign_in: Option<(String, Option<String>, Mechanism)>,
    /// Why there are no more words.
    pub(super) stumble: Option<wire::dance::Stumble>,
}

/// Lets the dance say everything.
pub(super) fn of(ready: &Ready<'_>, caller: &Caller<'_>, limits: &crate::config::meant::Limits) -> Words {
    let plan = Plan {
        secure: ready.route.secure,
        introduce: ready.introduction(caller),
        // The one value that is not shown stands for itself: of what was said in earnest nothing gets here.
        sign_in: Some(wire::dance::SignIn { password: Secret::new(MASK.as_bytes().to_vec()), ..ready.credentials(None) }),
        // So that each command is a line of its own, and what holds a secret is known.
        one_at_a_time: true,
        identity_refused: ready.means.identity_refused,
        server: ready.means.server.to_owned(),
        helo: None,
    };
    let terms = |secured: bool| Terms {
        starttls: !secured,
        password_allowed: secured,
        trusted: true,
        may_vouch: ready.route.noauth,
        xclient_as_exim: false,
        server: ready.route.host.clone(),
        capability: String::new(),
        greeting: String::new(),
        server_id: Vec::new(),
        retain_client_id: false,
    };
    let mut front = (caller.way.front)(terms(ready.route.secure != Secure::StartTls), limits);
    let mut dance = Dance::new((caller.way.dialect)(), plan);
    let (mut to_front, mut to_dance) = (BytesMut::new(), BytesMut::new());
    let mut words = Words { lines: Vec::new(), left_out: Vec::new(), sign_in: None, stumble: None };
    let mut vouched_for = None;
    front.greet(&mut to_dance);
    for _ in 0..TURNS_MAX {
        let had = dance.credentials_sent();
        let step = match dance.step(&mut to_dance, &mut to_front) {
            Ok(step) => step,
            Err(stumble) => {
                words.stumble = Some(stumble);
                break;
            }
        };
        let secret = dance.credentials_sent() && !had;
        words.lines.extend(shown(&to_front, secret));
        if let Step::Event(event) = step {
            match event {
                DanceEvent::Secure => {
                    words.lines.push("(TLS begins)".to_owned());
                    dance.secured();
                    front.secured(terms(true));
                    continue;
                }
                // Without a password the answer to who is calling is the answer to the login.
                DanceEvent::Welcome(_) => {
                    words.sign_in = vouched_for.map(|user| (user, None, Mechanism::Xclient));
                    break;
                }
                DanceEvent::Refused(_) => break,
            }
        }
        match front.step(&mut to_front, &mut to_dance) {
            Ok(Step::Event(LoginEvent::Login(login))) => {
                words.sign_in = Some((login.user.clone(), login.authzid.clone(), login.mechanism));
                break;
            }
            Ok(Step::Event(LoginEvent::Said(said))) => {
                vouched_for = said.user.as_ref().and_then(Told::known).map(str::to_owned).or(vouched_for);
            }
            Ok(Step::Event(LoginEvent::Secure)) => {}
            Ok(Step::Event(_)) | Err(_) => break,
            Ok(Step::NeedInput) if to_dance.is_empty() => break,
            Ok(Step::NeedInput) => {}
        }
    }
    words.left_out.extend(dance.left_out().iter().cloned());
    words
}

/// What would be said, for who watches.
pub(super) fn step(words: &Words, ready: &Ready<'_>, header: Option<String>) -> Seen {
    let route = &ready.route;
    let mut seen = Seen::new("words", "what the backend would hear, if it offers all that is wanted:");
    if let Some(header) = &header {
        seen = seen.more(format!("a PROXY header: {header}"));
    }
    for line in &words.lines {
        seen = seen.more(line.clone());
    }
    let whose = whose_password(route);
    seen = seen.more(match whose {
        Some(ROW) => format!("the password ({MASK}) is the row's pass"),
        Some(_) => format!("the password ({MASK}) is what the client said"),
        None => "no password is said: XCLIENT names the user (proxy_noauth, backend.submission_login)".to_owned(),
    });
    if !route.introduce {
        seen = seen.more("it is not told who is calling (proxy_not_trusted)");
    }
    for name in &words.left_out {
        seen = seen.more(format!("not told because of its limits: {name}"));
    }
    if let Some(stumble) = &words.stumble {
        seen = seen.more(format!("and there it would end: {}", stumble.detail));
    }
    let sign_in = match &words.sign_in {
        None => Value::Null,
        Some((user, acts_as, mechanism)) => {
            let mechanism = match mechanism {
                Mechanism::Command => "command",
                Mechanism::Plain => "PLAIN",
                Mechanism::Login => "LOGIN",
                Mechanism::Xclient => "XCLIENT",
            };
            json!({"user": user, "acts_as": acts_as, "mechanism": mechanism, "password": whose})
        }
    };
    seen.with("lines", words.lines.clone())
        .with("header", header)
        .with("left_out", words.left_out.clone())
        .with("sign_in", sign_in)
        .with("one_at_a_time", route.one_at_a_time)
}

/// Whose password the backend is given; `None` where it is given none.
pub(super) fn whose_password(route: &Route) -> Option<&'static str> {
    match route {
        Route { noauth: true, .. } => None,
        Route { pass: Some(_), .. } => Some(ROW),
        _ => Some("client"),
    }
}

/// The row's own.
const ROW: &str = "row";

/// The lines of one command. Base64 that holds the password is said as what it stands for.
fn shown(octets: &[u8], secret: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(octets);
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (head, last) = line.rsplit_once(' ').map_or(("", line), |(head, last)| (head, last));
            // ManageSieve says it as a string.
            let quoted = last.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            let quote = if quoted.is_some() { "\"" } else { "" };
            match base64_decode(quoted.unwrap_or(last).as_bytes()).filter(|_| secret && !line.contains(MASK)) {
                Some(decoded) => {
                    let decoded = String::from_utf8_lossy(decoded.expose()).replace('\0', "\\0");
                    let blank = if head.is_empty() { "" } else { " " };
                    format!("{head}{blank}{quote}base64({decoded}){quote}")
                }
                None => line.to_owned(),
            }
        })
        .collect()
}
