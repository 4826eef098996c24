//! From a login to a signed-in backend: databases, route, limits, identity, connection.
//!
//! All that is decided before a backend is called is [`ready`], and an explanation walks through it as a login does; only what
//! comes behind it differs: [`sign_in`] connects, an explanation says what would be said.

use super::guard::Entered;
use super::house::{House, Live, Phase};
use super::limits::Limit;
use super::roll::{Coming, Entry};
use super::seen;
use crate::backend::connect::{self, Means, SignedIn, Tell};
use crate::backend::health::Transition;
use crate::chance;
use crate::failure::{Failure, Kind, Side};
use crate::journal::{Level, Word};
use crate::protocol::{LoginWay, Protocol};
use crate::route::{self, Asked, Route, Verdict, Waiting};
use crate::users::{Answer, Question};
use crate::witness::{Known, Witness};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};
use unicode_normalization::UnicodeNormalization;
use wire::dance::{Introduction, SignIn};
use wire::login::{Login, Mechanism};
use wire::origin::{HopsLeft, Origin};
use wire::secret::{Password, Secret};

/// What is known of the client beside its login.
pub struct Caller<'a> {
    /// The protocol's row.
    pub protocol: &'static Protocol,
    /// The way of it.
    pub way: &'static LoginWay,
    /// Who is calling.
    pub origin: &'a Origin,
    /// Nobody can listen on the client's connection.
    pub protected: bool,
    /// The peer is trusted and spoke for nobody, or many share its address: it is exempt from the limits per address.
    pub exempt: bool,
    /// What the client said of itself, where it is retained.
    pub client_id: &'a [(Vec<u8>, Option<Vec<u8>>)],
    /// Who watches; of most logins nobody.
    pub witness: Witness<'a>,
    /// Its entry on the roll; none where there is no client, only a question.
    pub entry: Option<&'a Entry>,
}

/// All is decided, and a backend can be called.
pub struct Ready<'a> {
    /// What calling it needs.
    pub means: Means<'a>,
    /// The user as the databases know it.
    pub user: String,
    /// The route, to the local backend where it leads to ourselves.
    pub route: Route,
    /// The addresses of its host.
    pub addresses: Vec<SocketAddr>,
    /// What the whole way to the backend may take until.
    pub deadline: Instant,
    hops: HopsLeft,
}

impl Ready<'_> {
    /// Who is calling, as the backend is told; made anew for each try.
    pub fn introduction(&self, caller: &Caller<'_>) -> Option<Introduction> {
        self.route.introduce.then(|| Introduction {
            origin: Origin { hops: self.hops, ..caller.origin.clone() },
            client_id: caller.client_id.to_vec(),
            forward: self.route.forward.clone(),
            patience: Some(self.deadline.saturating_duration_since(Instant::now())),
        })
    }

    /// How to sign in there with this password of the client, unless the row has one; or with none (`proxy_noauth`).
    pub fn credentials(&self, said: Option<&Password>) -> SignIn {
        let Route { user, master, pass, mechanism, noauth, .. } = &self.route;
        let password = pass.as_ref().or(said).filter(|_| !noauth).cloned();
        SignIn {
            user: user.clone(),
            master: master.clone(),
            // There is none only where none is said: a route for a client without a password has `pass` or `proxy_noauth`.
            password: password.unwrap_or_else(|| Secret::new(Vec::new())),
            mechanism: *mechanism,
            noauth: *noauth,
        }
    }
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
    let ready = ready(house, live, caller, login).await?;
    let quick = ready.route.quick;
    admit(house, live, caller, login, ready).await.map_err(|failure| failure.quick(quick))
}

/// Decides all that is to be decided before a backend is called.
///
/// # Errors
/// Whatever stands in the way.
pub async fn ready<'a>(house: &'a House, live: &'a Live, caller: &Caller<'a>, login: &Login) -> Result<Ready<'a>, Failure> {
    if let Some(authzid) = &login.authzid {
        let detail = format!("wants to act as {authzid:?}; master users of Gatepost itself are not supported in this version");
        return Err(Failure::new(Side::Client, Kind::NotAuthorized, detail));
    }
    let (answer, route) = decide(house, live, caller, login).await?;
    let quick = route.quick;
    reach(house, live, caller, answer, *route).await.map_err(|failure| failure.quick(quick))
}

/// Asks the databases where the login goes; holds it where they say so, and then asks again.
async fn decide(house: &House, live: &Live, caller: &Caller<'_>, login: &Login) -> Result<(Answer, Box<Route>), Failure> {
    let client_id = (!caller.client_id.is_empty()).then(|| (caller.way.client_id)(caller.client_id));
    // Two spellings of one name must not be two users: composed once, here, before any database or limit sees it.
    let user: String = login.user.nfc().collect();
    let witness = caller.witness;
    witness.saw(|| seen::name(&login.user, &user));
    let question = Question {
        user: &user,
        delivery: false,
        // Who watches a login without a password has put something into its place.
        password: login.password.as_ref().filter(|_| !witness.supposes_password()),
        vouched: login.mechanism == Mechanism::Xclient,
        protocol: caller.protocol.name,
        service: caller.protocol.service,
        mechanism: login.mechanism.name(),
        protected: caller.protected,
        origin: caller.origin,
        client_id: client_id.as_deref(),
        witness,
    };
    let asked = Asked {
        backend: &live.meant.backend,
        protocol: caller.protocol.name,
        ports: caller.protocol.ports(),
        mechanism: login.mechanism,
        noauth: caller.way.noauth,
        delivery: false,
    };
    let mut phase = house.phase.clone();
    let mut held_since = None;
    loop {
        let changed = house.roll.holds.changed();
        let answer = live.chain.sign_in(&question).await?;
        witness.saw(|| seen::fields(&answer, witness));
        let decision = route::decide(&answer, &asked, &mut |field| house.remark_field(&answer.database, field, witness))?;
        if let Some(entry) = caller.entry {
            entry.signing_in(Some(&answer.user));
        }
        if let Some(ear) = witness.ear() {
            ear.learn(&Known::User(&answer.user));
            ear.is_now("signing-in");
        }
        let waited = held_since.map_or(Duration::ZERO, |since: Instant| since.elapsed());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let by_row = decision.hold.map_or(Waiting::Over, |hold| hold.waiting(now, waited, chance::number()));
        let (waiting, ordered) = match (by_row, &decision.verdict) {
            (Waiting::Over, Verdict::SignIn(route)) => (by_order(house, caller, &answer, route, waited), true),
            (waiting, _) => (waiting, false),
        };
        let why = if ordered { "kick --hold" } else { "delay_until" };
        match waiting {
            Waiting::Over if decision.hold.is_some() => witness.saw(seen::hold_is_over),
            Waiting::Over => {}
            // The answer after the wait is known to nobody yet: from here on as if the databases said the same again.
            Waiting::For(wait) if witness.watches() => witness.saw(|| seen::hold(why, wait)),
            Waiting::For(wait) => {
                // Before the journal has it: who reads that finds it on the roll.
                if let Some(entry) = caller.entry {
                    entry.held(true);
                }
                if held_since.replace(Instant::now() - waited).is_none() {
                    let text = format_args!("{why}: {:.1} s", wait.as_secs_f64());
                    let origin = caller.origin;
                    let mut words = vec![
                        ("protocol", Word::Text(&caller.protocol.name)),
                        ("user", Word::Text(&answer.user)),
                        ("client", Word::Text(&origin.client.0)),
                    ];
                    let via = origin.via();
                    if let Some(via) = &via {
                        words.push(("via", Word::Text(via)));
                    }
                    words.extend([("text", Word::Text(&text)), ("session", Word::Text(&origin.session))]);
                    house.journal.line(Level::Info, "held", &words);
                }
                witness.saw(|| seen::held(why, wait));
                if let Some(ear) = witness.ear() {
                    ear.is_now("held");
                }
                // Whoever is held has not signed in: at our end it is sent away, not waited for.
                tokio::select! {
                    () = sleep(wait) => continue,
                    // Its hold may be over by order.
                    () = changed, if ordered => continue,
                    () = Phase::Closing.reached(&mut phase) => {
                        let text = format!("the server is going away; the login was held ({why})");
                        return Err(Failure::new(Side::Us, Kind::ShuttingDown, text));
                    }
                }
            }
            Waiting::TooLong => {
                let most = route::LONGEST.as_secs();
                if ordered {
                    let text = format!("held by kick --hold, and for {most} s in all; the client is told to try later");
                    return Err(Failure::new(Side::Us, Kind::Held, text));
                }
                let text = format_args!("is more than {most} s ahead; the client is told to try later");
                return Err(Failure::row(&answer.database, "delay_until", text));
            }
        }
        let refused = |kind, what: &str| Failure::new(Side::Client, kind, format!("users \"{}\": {what}", answer.database));
        match decision.verdict {
            Verdict::SignIn(route) => {
                witness.saw(|| seen::route(&route, &live.meant));
                if let Some(ear) = witness.ear() {
                    ear.learn(&Known::Backend(route.address.map(|ip| SocketAddr::new(ip, route.port)), &route.host));
                }
                return Ok((answer, route));
            }
            Verdict::Refer(to) => {
                let what = format!("nologin with host: sent to {}:{}", to.host, to.port);
                return Err(refused(Kind::Referral(to), &what));
            }
            Verdict::Disabled(reason) => return Err(refused(Kind::Disabled(reason), "nologin")),
        }
    }
}

/// Whether this login is held by an order (`kick --hold`). It may add to what the row made it wait for, up to the same end.
fn by_order(house: &House, caller: &Caller<'_>, answer: &Answer, route: &Route, waited: Duration) -> Waiting {
    let coming = Coming {
        user: &answer.user,
        destuser: &route.user,
        host: &route.host,
        client: caller.origin.client.0.ip(),
        protocol: caller.protocol.name,
    };
    // A hold ends within the longest time that a login waits; whoever waited for something else before waits for what is left.
    match house.roll.holds.wait(&coming) {
        None => Waiting::Over,
        Some(wait) => match wait.min(route::LONGEST.saturating_sub(waited)) {
            Duration::ZERO => Waiting::TooLong,
            wait => Waiting::For(wait),
        },
    }
}

/// Looks whether there is room for one more, spends a hop, and finds the addresses of the route.
async fn reach<'a>(
    house: &'a House,
    live: &'a Live,
    caller: &Caller<'a>,
    answer: Answer,
    route: Route,
) -> Result<Ready<'a>, Failure> {
    // Only looked at here and taken once the backend has said yes: guesses must not use up a person's places.
    room(house, live, caller, &answer.user)?;
    let hops = caller.origin.hops.spend().ok_or_else(|| {
        let detail = "the proxies in front have used up the hops (x-proxy-ttl, TTL): proxies appear to be looping";
        Failure::new(Side::Client, Kind::Loop, detail)
    });
    caller.witness.saw(|| seen::hops(caller.origin.hops, hops.as_ref().ok().copied()));
    let hops = hops?;
    let means = house.means(live, caller.origin, caller.witness, true);
    // A proxy in front that says how long it waits is not kept waiting longer (`TIMEOUT` of `XCLIENT`).
    let deadline = Instant::now() + caller.origin.patience.map_or(route.timeout, |patience| patience.min(route.timeout));
    let (route, addresses) = connect::find(&means, route, deadline).await?;
    Ok(Ready { means, user: answer.user, route, addresses, deadline, hops })
}

/// Signs in at the backend of the route.
async fn admit(house: &House, live: &Live, caller: &Caller<'_>, login: &Login, ready: Ready<'_>) -> Result<Admitted, Failure> {
    let introduction = || ready.introduction(caller);
    let credentials = || Some(ready.credentials(login.password.as_ref()));
    if let Some(ear) = caller.witness.ear() {
        ear.keeps(&ready.credentials(login.password.as_ref()));
    }
    let words = connect::Words { dialect: caller.way.dialect, introduction: &introduction, sign_in: &credentials };
    let backend = connect::sign_in(&ready.means, &ready.route, &ready.addresses, &words, ready.deadline).await?;
    let Ready { user, route, .. } = ready;
    if let Some(list) = &backend.learnt {
        house.learnt.told(caller.protocol, backend.address, list);
    }
    for (event, what) in [
        (
            "identity-cut",
            (!backend.left_out.is_empty()).then(|| format!("not told because of its limits: {}", backend.left_out.join(", "))),
        ),
        (
            "identity-refused",
            backend.identity_refused.as_ref().map(|words| format!("it refused to hear who is calling: {words}")),
        ),
    ] {
        if let Some(what) = what {
            let text = format_args!("user {user}, backend {}: {what}", backend.address);
            house.journal.say(Level::Warning, event, &text);
        }
    }
    let entered = enter(house, live, caller, &user)?;
    Ok(Admitted { user, route, backend, entered })
}

impl Tell for House {
    /// A backend has begun or ceased to fail: one line, however many logins notice.
    fn tell(&self, at: SocketAddr, transition: Transition, text: &str) {
        match transition {
            Transition::Down => self.journal.say(Level::Error, "backend-failing", &text),
            Transition::Up { after } => {
                let text = format_args!("backend {at}: serves again, after {:.1} s", after.as_secs_f64());
                self.journal.say(Level::Warning, "backend-back", &text);
            }
        }
    }
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
            if let Some(number) = entered.near {
                let text = format_args!("user {user} has {number} of {limit} sessions from {ip}");
                house.warnings.near(&house.journal, Limit::User, &text);
            }
            Ok(Some(entered))
        }
        Err(have) => Err(too_many(have, ip, limit)),
    }
}

fn room(house: &House, live: &Live, caller: &Caller<'_>, user: &str) -> Result<(), Failure> {
    let (ip, limit) = (caller.origin.client.0.ip(), live.meant.limits.user_connections);
    if caller.witness.knows_the_house() {
        caller.witness.saw(|| seen::room(user, ip, house.guard.sessions(user, ip), limit, caller.exempt));
    }
    match house.guard.is_full(user, ip, limit) {
        Some(have) if !caller.exempt => Err(too_many(have, ip, limit)),
        _ => Ok(()),
    }
}

fn too_many(have: usize, ip: IpAddr, limit: usize) -> Failure {
    let detail = format!("user has {have} sessions from {ip}, the limit (limits.user_connections) is {limit}");
    Failure::new(Side::Client, Kind::Limit, detail)
}
