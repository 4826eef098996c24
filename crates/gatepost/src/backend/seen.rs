//! What a witness is told of a backend's address. Nothing here decides.

use super::connect::{Identity, Means};
use super::health::Look;
use crate::config::meant::BackendProxy;
use crate::failure::Failure;
use crate::route::Route;
use crate::witness::Step;
use relay::TlsFacts;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// One address: what is known of it, whence it would be called, and what stands in the way.
pub(super) fn address(at: SocketAddr, route: &Route, means: &Means<'_>, look: &Look, obstacle: Option<&Failure>) -> Step {
    let known = means.witness.knows_the_house();
    let mut text = format!("{at}: ");
    let state = match (&look.failing, &look.last_success) {
        _ if look.verdict.is_err() => "down",
        (Some(_), _) => "suspect",
        (None, Some(_)) => "up",
        (None, None) => "unknown",
    };
    match (&look.failing, look.last_success) {
        (Some(failing), _) => {
            let word = if look.verdict.is_err() { "down" } else { "has been failing" };
            let _ = write!(text, "{word} for {}: {}", seconds(failing.first), failing.text);
        }
        (None, Some(success)) => {
            let _ = write!(text, "up, worked {} ago", seconds(success));
        }
        (None, None) => text.push_str("nothing is known of it yet"),
    }
    if known {
        let _ = write!(text, "; {} sessions, {} connecting, {} waiting", look.sessions, look.connecting, look.waiting);
    }
    let mut step = Step::new("backend", text);
    let source = match route.source {
        Some(source) => format!("source_ip {source}"),
        None => match means.sources.all(at.ip()) {
            [] => "an address of the kernel's choice".to_owned(),
            all => format!(
                "one of backend.source_ips in turn: {}",
                all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        },
    };
    step = step.more(format!("would be called from {source}"));
    if look.verdict == Ok(true) {
        step = step.more("this login would be the one of this second that is let through to try it");
    }
    if let Some(obstacle) = obstacle {
        step = step.more(format!("would not be called: {}", obstacle.detail));
    }
    let sources: Vec<String> = match route.source {
        Some(source) => vec![source.to_string()],
        None => means.sources.all(at.ip()).iter().map(ToString::to_string).collect(),
    };
    step =
        step.with("address", at.to_string()).with("state", state).with("callable", obstacle.is_none()).with("sources", sources);
    if known {
        step = step.with("sessions", look.sessions).with("connecting", look.connecting).with("waiting", look.waiting);
    }
    if let Some(failing) = &look.failing {
        step = step
            .with("failing_for", failing.first.as_secs_f64())
            .with("last_failure", failing.last.as_secs_f64())
            .with("last_error", &*failing.text);
    }
    match look.last_success {
        Some(success) => step.with("last_success", success.as_secs_f64()),
        None => step,
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// TLS that was agreed on, on either side.
pub(crate) fn shaken(step: &'static str, facts: &TlsFacts) -> Step {
    let name = facts.sni.as_ref().map(|name| format!(", for {name:?}")).unwrap_or_default();
    let resumed = if facts.resumed { ", resumed" } else { "" };
    Step::new(step, format!("{} {}{name}{resumed}", facts.version, facts.cipher))
        .with("version", facts.version)
        .with("cipher", facts.cipher)
        .with("name", facts.sni.clone())
        .with("resumed", facts.resumed)
}

/// One address is tried.
pub(super) fn tried(at: SocketAddr, host: &str) -> Step {
    Step::new("try", format!("{at} ({host})")).with("address", at.to_string()).with("host", host)
}

/// A connection is there.
pub(super) fn connected(at: SocketAddr, stream: &TcpStream) -> Step {
    let own = stream.local_addr().map(|own| own.to_string()).unwrap_or_default();
    Step::new("connected", format!("to {at} from {own}")).with("address", at.to_string()).with("source", own)
}

/// The PROXY header that is said first.
pub(super) fn header(header: &[u8], version: BackendProxy, left_out: &[&str]) -> Step {
    // Version 1 is a line of text; of version 2 its length says enough.
    let text = match version {
        BackendProxy::V1 => wire::overheard::text(header),
        _ => format!("PROXY header of version 2, {} octets", header.len()),
    };
    Step::new("proxy-header", text).with("octets", header.len()).with("left_out", left_out)
}

/// How the backend was told who is calling.
pub(super) fn identity(identity: Identity, wanted: bool, refused: Option<&str>) -> Step {
    let text = match (identity, refused) {
        (_, Some(words)) => format!("not told: it refused to hear who is calling: {words}"),
        (Identity::Told, None) => "told in the dialogue who is calling".to_owned(),
        (Identity::Header, None) => "told by the PROXY header who is calling".to_owned(),
        (Identity::NotOffered, None) => "not told: it does not offer to hear who is calling".to_owned(),
        (Identity::NotTold, None) => "not told: the row says proxy_not_trusted".to_owned(),
    };
    Step::new("identity", text).with("identity", identity.word()).with("wanted", wanted)
}

/// It did not let the user in, or was not reached.
pub(super) fn failed(at: SocketAddr, failure: &Failure) -> Step {
    Step::new("failed", &*failure.detail).with("address", at.to_string()).with("reason", failure.kind.word())
}
