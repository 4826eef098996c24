//! What a server would hear of a recipient's mail: the way up to the mail by the dance itself, and the mail as a courier spells it.
//! Both for a server that offers all that may be wanted.

use super::client::TURNS_MAX;
use crate::backend::connect::Means;
use crate::delivery::courier;
use crate::inbound::recipient::Placed;
use crate::route::Route;
use crate::witness::{Step as Seen, Witness};
use bytes::BytesMut;
use wire::dance::{Dance, DanceEvent, Introduction, Plan, Secure, Stumble};
use wire::envelope::{Mail, Rcpt};
use wire::login::{Front as _, LoginEvent, Terms};
use wire::machine::Step;
use wire::origin::xforward::{self, Forwarded};
use wire::origin::{ForwardField, Origin};
use wire::smtp::message::command::{write_mail, write_rcpt};
use wire::smtp::message::front::{Event, Front};
use wire::smtp::message::offers::Offers;
use wire::smtp::{self, message};

/// All that is ever wanted of a server.
const ALL: &str = "PIPELINING 8BITMIME SMTPUTF8 DSN SIZE XRCPTFORWARD XFORWARD=NAME XFORWARD=ADDR XFORWARD=PORT XFORWARD=PROTO \
                   XFORWARD=HELO XFORWARD=IDENT XFORWARD=SOURCE";

/// The words for one server.
pub(super) struct Said {
    /// Line by line, without CRLF.
    lines: Vec<String>,
    /// Keys of what could not be said.
    left_out: Vec<String>,
    /// Why there are no more words.
    pub(super) stumble: Option<Stumble>,
}

/// Lets the dance and the courier's writers say everything.
pub(super) fn of(
    placed: &Placed,
    means: &Means<'_>,
    introduction: Option<Introduction>,
    mail: &Mail,
    origin: &Origin,
    witness: Witness<'_>,
) -> Said {
    let mut said = up_to_the_mail(&placed.route, means, introduction);
    if said.stumble.is_some() {
        return said;
    }
    let mut offers = Offers::read(ALL);
    if !placed.route.introduce {
        offers.hear_of_nobody();
    }
    let mut out = BytesMut::new();
    xforward::write(&Forwarded::of(origin, origin.session.as_str()), offers.xforward, &mut out);
    write_mail(mail, mail.size, &offers, &mut out);
    // As everywhere: what a name says is secret is not shown.
    let masked = |pair: &ForwardField| ForwardField { name: pair.name.clone(), value: witness.shown(&pair.name, &pair.value) };
    let rcpt = Rcpt { forward: placed.rcpt.forward.iter().map(masked).collect(), ..placed.rcpt.clone() };
    said.left_out.extend(write_rcpt(&rcpt, &offers, &mut out));
    said.lines.extend(lines(&out));
    said
}

/// What would be said, for who watches.
pub(super) fn step(said: &Said, placed: &Placed, header: Option<String>) -> Seen {
    let route = &placed.route;
    let mut seen = Seen::new("words", "what the server would hear, if it offers all that is wanted:");
    if let Some(header) = &header {
        seen = seen.more(format!("a PROXY header: {header}"));
    }
    for line in &said.lines {
        seen = seen.more(line.clone());
    }
    if !route.introduce {
        seen = seen.more("it is not told who is calling (proxy_not_trusted)");
    }
    for name in &said.left_out {
        seen = seen.more(format!("not told because of its limits: {name}"));
    }
    if let Some(stumble) = &said.stumble {
        seen = seen.more(format!("and there it would end: {}", stumble.detail));
    }
    seen.with("lines", said.lines.clone())
        .with("header", header)
        .with("left_out", said.left_out.clone())
        .with("one_at_a_time", route.one_at_a_time)
}

/// The server, played by the front of its protocol.
enum Server {
    Lmtp(Box<Front>),
    Smtp(Box<smtp::front::Front>),
}

impl Server {
    fn greeting(route: &Route, out: &mut BytesMut) -> Server {
        let terms = Server::terms(route, route.secure != Secure::StartTls);
        if route.smtp {
            let mut front = smtp::front::Front::new(terms, smtp::Caps::default());
            front.greet(out);
            return Server::Smtp(Box::new(front));
        }
        let mut front = Front::new(terms, message::Caps::default());
        front.greet(out);
        Server::Lmtp(Box::new(front))
    }

    fn terms(route: &Route, secured: bool) -> Terms {
        Terms {
            starttls: !secured,
            password_allowed: false,
            trusted: true,
            may_vouch: false,
            xclient_as_exim: false,
            server: route.host.clone(),
            capability: String::new(),
            greeting: String::new(),
            server_id: Vec::new(),
            retain_client_id: false,
        }
    }

    fn secured(&mut self, route: &Route) {
        let terms = Server::terms(route, true);
        match self {
            Server::Lmtp(front) => front.secured(terms),
            Server::Smtp(front) => front.secured(terms),
        }
    }

    /// False: it ended the conversation, or has nothing to say.
    fn answer(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> bool {
        match self {
            Server::Lmtp(front) => match front.step(input, out) {
                Ok(Step::Event(Event::Said(_) | Event::Secure)) => true,
                Ok(Step::NeedInput) => !out.is_empty(),
                Ok(Step::Event(_)) | Err(_) => false,
            },
            Server::Smtp(front) => match front.step(input, out) {
                Ok(Step::Event(LoginEvent::Said(_) | LoginEvent::Secure)) => true,
                Ok(Step::NeedInput) => !out.is_empty(),
                Ok(Step::Event(_)) | Err(_) => false,
            },
        }
    }
}

/// LHLO or EHLO, TLS, and who is calling.
fn up_to_the_mail(route: &Route, means: &Means<'_>, introduction: Option<Introduction>) -> Said {
    let plan = Plan {
        secure: route.secure,
        introduce: introduction,
        sign_in: None,
        one_at_a_time: true,
        identity_refused: means.identity_refused,
        server: means.server.to_owned(),
        helo: None,
    };
    let mut dance = Dance::new((courier::dialect(route))(), plan);
    let (mut to_server, mut to_dance) = (BytesMut::new(), BytesMut::new());
    let mut said = Said { lines: Vec::new(), left_out: Vec::new(), stumble: None };
    let mut server = Server::greeting(route, &mut to_dance);
    for _ in 0..TURNS_MAX {
        let step = match dance.step(&mut to_dance, &mut to_server) {
            Ok(step) => step,
            Err(stumble) => {
                said.stumble = Some(stumble);
                break;
            }
        };
        said.lines.extend(lines(&to_server));
        match step {
            Step::Event(DanceEvent::Secure) => {
                said.lines.push("(TLS begins)".to_owned());
                dance.secured();
                server.secured(route);
                continue;
            }
            Step::Event(_) => break,
            Step::NeedInput => {}
        }
        if !server.answer(&mut to_server, &mut to_dance) {
            break;
        }
    }
    said.left_out.extend(dance.left_out().iter().cloned());
    said
}

fn lines(octets: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(octets);
    text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
