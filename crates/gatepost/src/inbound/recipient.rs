//! Where one recipient's mail goes.
//!
//! The databases are asked as they are for a login, only without a password: those that cannot be asked so are passed over. Of the
//! address its detail is no part of the name (`recipient_delimiter`), and comes back behind the name that the databases give. A no
//! is only told where all of them said it; everything else is "try later" and names its cause in the journal.

use crate::backend::connect;
use crate::config::meant::Meant;
use crate::failure::{Failure, Kind, Side};
use crate::login::house::{House, Live};
use crate::login::roll::Coming;
use crate::protocol::Protocol;
use crate::route::{self, Asked, Route, Verdict as Decided, Waiting};
use crate::users::Question;
use crate::witness::{Step, Witness};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use unicode_normalization::UnicodeNormalization;
use wire::address::Mailbox;
use wire::dance::Secure;
use wire::envelope::{Mail, Rcpt, Verdict};
use wire::login::Mechanism;
use wire::origin::{HopsLeft, Origin};
use wire::smtp::message::command::orcpt_of;

/// From the first connect to LHLO, TLS and XCLIENT included, where a row does not say: a dead server must not keep a mail waiting
/// that has recipients elsewhere.
const SETUP: Duration = Duration::from_secs(8);

/// Who asks.
pub struct Asker<'a> {
    /// The protocol's row.
    pub protocol: &'static Protocol,
    /// Who brings the mail.
    pub origin: &'a Origin,
    /// Nobody can listen on its connection.
    pub protected: bool,
    /// Who watches.
    pub witness: Witness<'a>,
}

/// A recipient with a server.
#[derive(Debug)]
pub struct Placed {
    /// As it is said there.
    pub rcpt: Rcpt,
    /// As the databases know the user.
    pub user: String,
    /// The way there.
    pub route: Route,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
    /// How many proxies may still follow.
    pub hops: HopsLeft,
}

/// What makes two recipients go by one connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    addresses: Vec<SocketAddr>,
    host: String,
    secure: Secure,
    verify: bool,
    source: Option<IpAddr>,
    introduce: bool,
    one_at_a_time: bool,
    smtp: bool,
}

impl Placed {
    /// With a name that can be said in this mail.
    ///
    /// # Errors
    /// The databases made an address beyond ASCII of one within: only a mail that came by SMTPUTF8 can go there.
    pub fn sayable(self, mail: &Mail) -> Result<Placed, Failure> {
        if mail.smtputf8 || !self.rcpt.to.is_international() {
            return Ok(self);
        }
        let text = format_args!("{:?} is beyond ASCII, and the mail came without SMTPUTF8", self.route.user);
        Err(Failure::row(&self.route.database, "destuser", text))
    }

    /// The place.
    pub fn place(&self) -> Place {
        let Route { host, secure, verify, source, introduce, one_at_a_time, smtp, .. } = &self.route;
        Place {
            addresses: self.addresses.clone(),
            host: host.clone(),
            secure: *secure,
            verify: *verify,
            source: *source,
            introduce: *introduce,
            one_at_a_time: *one_at_a_time,
            smtp: *smtp,
        }
    }
}

/// Finds the place of a recipient.
///
/// # Errors
/// `Kind::Credentials`: nobody knows it. Anything else is trouble, or a mailbox that is being moved.
pub async fn place(house: &House, live: &Live, asker: &Asker<'_>, rcpt: &Rcpt) -> Result<Placed, Failure> {
    let (bare, detail) = rcpt.to.without_detail(&live.meant.lmtp.recipient_delimiter);
    let name = bare.user();
    let user: String = name.nfc().collect();
    let witness = asker.witness;
    // Whoever speaks for others may add what databases see; of each recipient it is another.
    let mut origin = asker.origin.clone();
    origin.forward.extend(rcpt.forward.iter().cloned());
    let question = Question {
        user: &user,
        delivery: true,
        password: None,
        vouched: false,
        protocol: asker.protocol.name,
        service: asker.protocol.service,
        mechanism: "",
        protected: asker.protected,
        origin: &origin,
        client_id: None,
        witness,
    };
    witness.saw(|| {
        let mut step = Step::new("recipient", format!("{} is looked up as {user}", rcpt.to)).with("user", user.as_str());
        if let Some(detail) = detail {
            step = step.more(format!("the detail {detail} comes back behind the name")).with("detail", detail);
        }
        step
    });
    let answer = live.chain.sign_in(&question).await?;
    witness.saw(|| crate::login::seen::fields(&answer, witness));
    // Dovecot's: where a row says no port, the server listens where we do.
    let reached = asker.origin.real_reached.0.port();
    let port = if reached == 0 { asker.protocol.port } else { reached };
    let asked = Asked {
        backend: &live.meant.backend,
        protocol: asker.protocol.name,
        ports: (port, port),
        mechanism: Mechanism::Command,
        noauth: false,
        delivery: true,
    };
    let decision = route::decide(&answer, &asked, &mut |field| house.remark_field(&answer.database, field, witness))?;
    let Decided::SignIn(route) = decision.verdict else {
        return Err(Failure::row(&answer.database, "nologin", "says nothing of where mail goes"));
    };
    let mut route = *route;
    let held = |why: &str| Failure::new(Side::Us, Kind::Held, format!("users \"{}\": {why}", answer.database));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match decision.hold.map_or(Waiting::Over, |hold| hold.waiting(now, Duration::ZERO, 0)) {
        Waiting::Over => {}
        // Not for a moment: what is delivered now is delivered to the place that is being left.
        Waiting::For(_) | Waiting::TooLong => return Err(held("delay_until: the mailbox is being moved")),
    }
    let client = asker.origin.client.0.ip();
    let coming = Coming { user: &answer.user, destuser: &route.user, host: &route.host, client, protocol: asker.protocol.name };
    if house.roll.holds.wait(&coming).is_some() {
        return Err(held("held by kick --hold"));
    }
    let left = asker.origin.hops.spend();
    witness.saw(|| crate::login::seen::hops(asker.origin.hops, left));
    let hops = left.ok_or_else(|| {
        let detail = "the proxies in front have used up the hops (TTL of XCLIENT): proxies appear to be looping";
        Failure::new(Side::Client, Kind::Loop, detail)
    })?;
    if answer.fields.get("proxy_timeout").is_none() {
        route.timeout = route.timeout.min(SETUP);
    }
    if let Some(patience) = asker.origin.patience {
        // `TIMEOUT` of XCLIENT: whoever waits for us waits no longer.
        route.timeout = route.timeout.min(patience);
    }
    let (mut said, named) = (renamed(rcpt, &user, &route, detail)?, route.user.clone());
    witness.saw(|| crate::login::seen::route(&route, &live.meant));
    let means = house.means(live, asker.origin, witness, false);
    let deadline = Instant::now() + route.timeout;
    let (route, addresses) = connect::find(&means, route, deadline).await?;
    if route.user != named {
        // The local backend knows the user by another name than the row's.
        said = renamed(rcpt, &user, &route, detail)?;
    }
    Ok(Placed { rcpt: said, user: answer.user, route, addresses, hops })
}

/// The recipient under the name that the databases give, with what the row adds for the next server. Its own address goes along
/// where the other is another.
fn renamed(rcpt: &Rcpt, user: &str, route: &Route, detail: Option<&str>) -> Result<Rcpt, Failure> {
    let mut rcpt = rcpt.clone();
    rcpt.forward.extend(route.forward.iter().cloned());
    if route.user == user {
        return Ok(rcpt);
    }
    let mailbox = Mailbox::of_user(&route.user)
        .ok_or_else(|| Failure::row(&route.database, "destuser", format_args!("{:?} is no address", route.user)))?;
    let to = mailbox.with_detail(detail.unwrap_or_default());
    if rcpt.orcpt.is_none() {
        rcpt.orcpt = orcpt_of(&rcpt.to);
    }
    rcpt.to = to;
    Ok(rcpt)
}

/// What the client hears of an answer: for `soft_bounce` nothing is final.
pub fn heard(verdict: &Verdict, meant: &Meant) -> Verdict {
    if meant.lmtp.soft_bounce { verdict.clone().softened() } else { verdict.clone() }
}

/// What a recipient hears of a failure. What is ours or a server's trouble may pass; who is unknown to all databases is unknown.
pub fn verdict(failure: &Failure, session: &str) -> Verdict {
    let word = failure.kind.word();
    match &failure.kind {
        Kind::Credentials => Verdict::new(550, (1, 1), "No such user here."),
        Kind::Loop => Verdict::new(451, (4, 6), "Mail is looping between proxies."),
        Kind::Held => Verdict::new(451, (2, 1), "The mailbox is being moved, please try again later."),
        Kind::Lookup | Kind::Row => Verdict::new(451, (3, 0), format!("Temporary lookup failure ({word}, session {session}).")),
        _ => Verdict::new(451, (3, 0), format!("The mailbox cannot be reached for now ({word}, session {session}).")),
    }
}
