//! What a witness is told on the login way. Nothing here decides.

use super::arrival::Arrival;
use super::house::Live;
use crate::backend::connect::server_name;
use crate::config::meant::Meant;
use crate::route::{self, Route};
use crate::users::Answer;
use crate::witness::{MASK, Step, Witness};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;
use wire::dance::Secure;
use wire::origin::{HopsLeft, Origin};

/// The name as given, and as every database and limit sees it.
pub(super) fn name(given: &str, composed: &str) -> Step {
    let same = given == composed;
    let text = if same { format!("{composed:?}") } else { format!("{given:?}, composed to {composed:?} (Unicode NFC)") };
    Step::new("user", text).with("given", given).with("user", composed)
}

/// What stands in the answer, and what each field means.
pub(crate) fn fields(answer: &Answer, witness: Witness<'_>) -> Step {
    let mut step = Step::new("fields", format!("what decides over the way ({} fields):", answer.fields.len()));
    let mut data = Vec::new();
    let proxied = answer.fields.iter().any(|(name, _)| matches!(name, "proxy" | "proxy_maybe"));
    for (name, value) in answer.fields.iter() {
        let meaning = route::meaning(name, value, proxied).unwrap_or("has no effect");
        let value = witness.shown(name, value);
        step = step.more(format!("{name} = {value:?}: {meaning}"));
        data.push(json!({"name": name, "value": value, "meaning": meaning}));
    }
    step.with("fields", data)
}

pub(super) fn hold_is_over() -> Step {
    Step::new("hold", "delay_until: the moment is past, nobody waits").with("seconds", 0)
}

pub(super) fn hold(why: &str, wait: Duration) -> Step {
    let seconds = wait.as_secs_f64();
    Step::new("hold", format!("{why}: would be held for {seconds:.1} s, then the databases are asked again"))
        .more("what follows is what they say now")
        .with("seconds", seconds)
}

pub(super) fn held(why: &str, wait: Duration) -> Step {
    let seconds = wait.as_secs_f64();
    Step::new("hold", format!("{why}: held for {seconds:.1} s, then the databases are asked again")).with("seconds", seconds)
}

pub(super) fn guesses(wait: Duration) -> Step {
    let seconds = wait.as_secs_f64();
    let text = format!("waits {seconds:.1} s, because others at this address guess passwords (limits.guesses)");
    Step::new("guesses", text).with("seconds", seconds)
}

/// Whether the peer may say who is calling.
pub(crate) fn trust(arrival: &Arrival, live: &Live) -> Step {
    let ip = arrival.origin.source.0.ip();
    let net = live.meant.trust.networks.iter().find(|net| net.contains(&ip));
    let text = match (&arrival.trust, net) {
        (Some(_), Some(net)) => format!("{ip} is trusted (trust.networks: {net}): it may say who is calling"),
        _ => format!("{ip} is not trusted (trust.networks): what it says of who is calling is not heard"),
    };
    Step::new("trust", text)
        .with("address", ip.to_string())
        .with("trusted", arrival.trust.is_some())
        .with("network", net.map(ToString::to_string))
}

/// Who is calling, as it is believed now.
pub(super) fn caller(origin: &Origin) -> Step {
    let (client, session) = (origin.client.0, origin.session.as_str());
    let via = origin.via();
    let told = via.map_or_else(|| "nobody spoke for it".to_owned(), |via| format!("told by {via}"));
    Step::new("caller", format!("client {client}, session {session}; {told}"))
        .with("client", client.to_string())
        .with("session", session)
        .with("via", via.map(|via| via.to_string()))
        .with("hops", origin.hops.get())
}

/// The route as the row and `[backend]` make it.
pub(crate) fn route(route: &Route, meant: &Meant) -> Step {
    let secure = tls(route.secure);
    let verified = match route.secure {
        Secure::Never => None,
        _ if !route.verify => Some("any certificate".to_owned()),
        _ if !meant.backend.tls_pin.is_empty() => {
            let pins: Vec<String> = meant.backend.tls_pin.iter().map(|pin| STANDARD.encode(pin)).collect();
            Some(format!("the key is one of backend.tls_pin: {}", pins.join(", ")))
        }
        _ => {
            let name = server_name(&route.host);
            Some(match &meant.backend.tls_ca {
                Some(ca) => format!("the certificate is for {name}, by {} (backend.tls_ca)", ca.display()),
                None => format!("the certificate is for {name}, by the system's authorities"),
            })
        }
    };
    let mut step = Step::new("route", format!("host {}, port {}, TLS {secure}", route.host, route.port));
    if let Some(verified) = &verified {
        step = step.more(format!("TLS is checked: {verified}"));
    }
    if route.secure != Secure::Never && meant.backend.tls_client.is_some() {
        step = step.more("shows the certificate of backend.tls_client_cert where it is asked for one");
    }
    step = step.more(format!("one deadline for all of it: {} s", route.timeout.as_secs_f64()));
    step = match route.give_up_after {
        Duration::ZERO => step.more("is tried however long it has been failing"),
        after => step.more(format!("is not tried once it has been failing for {} s", after.as_secs_f64())),
    };
    if let Some(maybe) = &route.maybe {
        let local = match &maybe.local {
            Ok(local) => format!("backend.local, {}:{}", local.host, local.port),
            Err(why) => format!("a refusal: {why}"),
        };
        step = step.more(format!("if that is this server itself: {local}"));
    }
    if route.noauth {
        step = step.more("is told who the user is, and no password (proxy_noauth, backend.submission_login)");
    }
    let pass = route.pass.as_ref().map(|_| MASK);
    step.with("host", &*route.host)
        .with("address", route.address.map(|ip| ip.to_string()))
        .with("port", route.port)
        .with("tls", secure)
        .with("tls_check", verified)
        .with("user", &*route.user)
        .with("master", route.master.as_deref())
        .with("pass", pass)
        .with("mechanism", route.mechanism.map(|mechanism| mechanism.name()))
        .with("source_ip", route.source.map(|ip| ip.to_string()))
        .with("timeout", route.timeout.as_secs_f64())
        .with("give_up_after", route.give_up_after.as_secs_f64())
        .with("pipelining", !route.one_at_a_time)
        .with("introduce", route.introduce)
        .with("noauth", route.noauth)
        .with("quick", route.quick)
        .with("database", &*route.database)
}

/// When TLS begins towards a backend, in a word.
pub(crate) fn tls(secure: Secure) -> &'static str {
    match secure {
        Secure::Never => "none",
        Secure::StartTls => "starttls",
        Secure::Implicit => "implicit",
    }
}

/// How many sessions the user has.
pub(super) fn room(user: &str, ip: IpAddr, have: usize, limit: usize, exempt: bool) -> Step {
    let text = if exempt {
        format!("{user} has {have} sessions from {ip}; a trusted peer that speaks for itself has no limit")
    } else {
        format!("{user} has {have} of {limit} sessions from {ip} (limits.user_connections)")
    };
    limit_step("user_connections", text, have, limit, exempt)
}

/// One of the limits.
pub(crate) fn limit_step(limit_name: &str, text: String, have: usize, limit: usize, exempt: bool) -> Step {
    Step::new("limit", text).with("limit", limit_name).with("have", have).with("most", limit).with("exempt", exempt)
}

/// How many proxies may still follow.
pub(crate) fn hops(arrived: HopsLeft, left: Option<HopsLeft>) -> Step {
    let text = match left {
        Some(left) => format!("{} hops arrive, {} are left for the backend", arrived.get(), left.get()),
        None => format!("{} hops arrive: none is left for the backend", arrived.get()),
    };
    Step::new("hops", text).with("arrive", arrived.get()).with("left", left.map_or(Value::Null, |left| left.get().into()))
}
