//! From a login to a signed-in backend: databases, route, limits, identity, connection.

use super::guard::Entered;
use super::house::{House, Live};
use crate::backend::connect::{self, Means, SignedIn};
use crate::failure::{Failure, Kind, Side};
use crate::journal::Level;
use crate::protocol::Protocol;
use crate::route::{self, Route};
use crate::users::Question;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization;
use wire::dance::{Introduction, SignIn};
use wire::login::Login;
use wire::origin::Origin;

/// What is known of the client beside its login.
pub struct Caller<'a> {
    /// The protocol's row.
    pub protocol: &'static Protocol,
    /// Who is calling.
    pub origin: &'a Origin,
    /// Nobody can listen on the client's connection.
    pub protected: bool,
    /// The peer is trusted and spoke for nobody: it is exempt from limits.
    pub exempt: bool,
    /// What the client said of itself, where it is retained.
    pub client_id: &'a [(Vec<u8>, Option<Vec<u8>>)],
}

/// Somebody who may come in.
pub struct Admitted {
    /// The user as the databases know it.
    pub user: String,
    /// The route.
    pub route: Route,
    /// The backend.
    pub backend: SignedIn,
    /// The user's place among its sessions.
    pub entered: Option<Entered>,
}

/// Signs a client in at its backend.
///
/// # Errors
/// Whatever stood in the way, for the journal and the refusal.
pub async fn sign_in(house: &House, live: &Live, caller: &Caller<'_>, login: &Login) -> Result<Admitted, Failure> {
    if let Some(authzid) = &login.authzid {
        let detail = format!("wants to act as {authzid:?}; master users of Gatepost itself are not supported in this version");
        return Err(Failure::new(Side::Client, Kind::NotAuthorized, detail));
    }
    let client_id = (!caller.client_id.is_empty()).then(|| (caller.protocol.client_id)(caller.client_id));
    // Two spellings of one name must not be two users: composed once, here, before any database or limit sees it.
    let user: String = login.user.nfc().collect();
    let question = Question {
        user: &user,
        password: Some(&login.password),
        protocol: caller.protocol.name,
        mechanism: login.mechanism.name(),
        protected: caller.protected,
        origin: caller.origin,
        client_id: client_id.as_deref(),
    };
    let answer = live.chain.sign_in(&question).await?;
    let ports = (caller.protocol.port, caller.protocol.implicit.1);
    let route = route::decide(&answer, &live.meant.backend, ports, &mut |field| {
        let database = &answer.database;
        house.remark("unknown-field", format!("users \"{database}\": field {field} has no effect"));
    })?;
    // Only looked at here and taken once the backend has said yes: guesses must not use up a person's places.
    room(house, live, caller, &answer.user)?;
    let hops = caller.origin.hops.spend().ok_or_else(|| {
        let detail = "the proxies in front have used up x-proxy-ttl: proxies appear to be looping";
        Failure::new(Side::Client, Kind::Loop, detail)
    })?;
    let introduction = || {
        route.introduce.then(|| Introduction {
            origin: Origin { hops, ..caller.origin.clone() },
            client_id: caller.client_id.to_vec(),
            forward: route.forward.clone(),
        })
    };
    let credentials = || SignIn {
        user: route.user.clone(),
        master: route.master.clone(),
        password: route.pass.clone().unwrap_or_else(|| login.password.clone()),
        mechanism: None,
    };
    let own_ip = caller.origin.real_reached.0.ip();
    let ourselves = |at: SocketAddr| {
        live.ports.contains(&at.port())
            && (at.ip() == own_ip || at.ip().is_unspecified() || live.meant.backend.self_addresses.contains(&at.ip()))
    };
    let means = Means {
        resolver: &*house.resolver,
        verified: live.verified.as_ref().map_err(String::as_str),
        any_cert: &live.any_cert,
        connect_timeout: live.meant.backend.connect_timeout,
        ourselves: &ourselves,
    };
    let backend = connect::sign_in(&means, &route, caller.protocol.dialect, &introduction, &credentials).await?;
    if let Some(list) = &backend.learnt {
        house.learnt.told(caller.protocol, backend.address, list);
    }
    if !backend.left_out.is_empty() {
        let fields = backend.left_out.join(", ");
        house.journal.say(
            Level::Warning,
            "identity-cut",
            &format_args!("user {}: not told to backend {} because of its limits: {fields}", answer.user, backend.address),
        );
    }
    let entered = enter(house, live, caller, &answer.user)?;
    Ok(Admitted { user: answer.user, route, backend, entered })
}

/// Takes the user's place among its sessions, or says that all are taken.
fn enter(house: &House, live: &Live, caller: &Caller<'_>, user: &str) -> Result<Option<Entered>, Failure> {
    if caller.exempt {
        return Ok(None);
    }
    let limit = live.meant.limits.user_connections;
    let guard = Arc::clone(&house.guard);
    let ip = caller.origin.client.0.ip();
    match guard.enter(user, ip, limit) {
        Ok(entered) => {
            // Once per crossing, not for every login above the mark.
            if entered.number == (limit * 4).div_ceil(5) && limit > 1 {
                let text =
                    format_args!("user {user} has {} of {limit} sessions from {ip} (limits.user_connections)", entered.number);
                house.journal.say(Level::Warning, "limit-near", &text);
            }
            Ok(Some(entered))
        }
        Err(have) => Err(too_many(have, ip, limit)),
    }
}

fn room(house: &House, live: &Live, caller: &Caller<'_>, user: &str) -> Result<(), Failure> {
    let (ip, limit) = (caller.origin.client.0.ip(), live.meant.limits.user_connections);
    match house.guard.is_full(user, ip, limit) {
        Some(have) if !caller.exempt => Err(too_many(have, ip, limit)),
        _ => Ok(()),
    }
}

fn too_many(have: usize, ip: IpAddr, limit: usize) -> Failure {
    let detail = format!("user has {have} sessions from {ip}, the limit (limits.user_connections) is {limit}");
    Failure::new(Side::Client, Kind::Limit, detail)
}
