//! One database of the chain: asked inside its limits, its row read, the password compared.

use super::{MAX_FIELDS, MAX_VALUE, Standing, credentials, is_name, seen};
use crate::config::meant::{Skip, Then, UsersBlock};
use crate::failure::{Failure, Kind, Side};
use crate::users::lookups::Lookups;
use crate::users::password::{Pool, Verifier};
use crate::users::template::Text;
use crate::users::{Asked, BuildProblem, DRIVERS, Fields, Question, Shared, Users};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What one database says, with the password checked.
pub(super) enum Outcome {
    In {
        user: String,
        fields: Fields,
        proof: Proof,
    },
    /// `noauthenticate`: fields and no verdict.
    LookedUp {
        user: String,
        fields: Fields,
    },
    No {
        why: Failure,
        /// The user stands in this database.
        known: bool,
        /// A password was compared.
        proven: bool,
    },
    Trouble(Failure),
}

impl Outcome {
    /// A refusal of a row that says `nodelay`, or not.
    fn quick(self, quick: bool) -> Outcome {
        match self {
            Outcome::No { why, known, proven } => Outcome::No { why: why.quick(quick), known, proven },
            other => other,
        }
    }
}

pub(super) enum Proof {
    Checked,
    NoPassword,
    /// By a database before this one.
    Earlier,
}

/// A `[[users]]` block, ready to be asked.
pub(super) struct Block {
    pub(super) name: String,
    pub(super) driver: &'static str,
    protocols: Vec<String>,
    username_format: Text,
    default_fields: Vec<(String, Text)>,
    override_fields: Vec<(String, Text)>,
    pub(super) result_success: Then,
    pub(super) result_failure: Then,
    pub(super) result_internalfail: Then,
    pub(super) skip: Skip,
    pub(super) deny: bool,
    pub(super) users: Box<dyn Users>,
    pub(super) gate: Semaphore,
    pub(super) lookups: usize,
    pub(super) deadline: Duration,
    pub(super) seen_lookups: Arc<Lookups>,
    seen: Mutex<Seen>,
}

/// What kind of verifiers this database has, learnt from its rows.
struct Seen {
    /// Unknown users cost as much as this; where rows have no password, nothing.
    decoy: Option<Verifier>,
    /// It is from a row. Until then it is a guess.
    learnt: bool,
}

impl Block {
    pub(super) fn build(block: &UsersBlock, shared: &Shared) -> Result<Block, Vec<BuildProblem>> {
        let Some(driver) = DRIVERS.iter().find(|driver| driver.name == block.driver) else {
            let known = DRIVERS.iter().map(|driver| driver.name).collect::<Vec<_>>().join(", ");
            return Err(vec![BuildProblem::new(
                &block.at,
                format!("unknown driver \"{}\"", block.driver),
                format!("one of {known}"),
            )]);
        };
        let mut problems = Vec::new();
        let mut template = |key: &str, text: &str| {
            Text::parse(text).map_err(|error| problems.push(BuildProblem::template(&block.at, key, &error))).unwrap_or_default()
        };
        let format = template("username_format", block.username_format.as_deref().unwrap_or("%Lu"));
        let mut fields = |key: &str, pairs: &[(String, String)]| -> Vec<(String, Text)> {
            pairs.iter().map(|(name, value)| (name.clone(), template(&format!("{key}: {name}"), value))).collect()
        };
        let default_fields = fields("default_fields", &block.default_fields);
        let override_fields = fields("override_fields", &block.override_fields);
        if format.uses_password() {
            let fix = "make it of %u, %n, %d";
            problems.push(BuildProblem::new(&block.at, "username_format: a user name is not made of the password", fix));
        }
        let users = match (driver.build)(block, shared) {
            Ok(users) if problems.is_empty() => users,
            Ok(_) => return Err(problems),
            Err(more) => {
                problems.extend(more);
                return Err(problems);
            }
        };
        let example = users.example().and_then(|text| Verifier::read(&text, users.default_scheme()).ok());
        let learnt = example.is_some();
        let guess = || users.default_scheme().is_slow().then(|| Verifier::read(USUAL, users.default_scheme()).ok()).flatten();
        Ok(Block {
            name: block.name.clone(),
            driver: driver.name,
            protocols: block.protocols.clone(),
            username_format: format,
            default_fields,
            override_fields,
            result_success: block.result_success,
            result_failure: block.result_failure,
            result_internalfail: block.result_internalfail,
            skip: block.skip,
            deny: block.deny,
            gate: Semaphore::new(shared.limits.lookups.max(1)),
            lookups: shared.limits.lookups.max(1),
            deadline: shared.limits.lookup_timeout,
            seen_lookups: Arc::default(),
            seen: Mutex::new(Seen { decoy: example.map(|verifier| verifier.decoy()).or_else(guess), learnt }),
            users,
        })
    }

    pub(super) fn serves(&self, protocol: &str) -> bool {
        self.protocols.is_empty() || self.protocols.iter().any(|name| name == protocol)
    }

    /// It can only be asked together with a password.
    pub(super) fn needs_password(&self) -> bool {
        self.users.needs_password()
    }

    /// How many lookups are under way.
    pub(super) fn under_way(&self) -> usize {
        self.lookups.saturating_sub(self.gate.available_permits())
    }

    /// Asks this database and checks the password.
    pub(super) async fn ask(&self, question: &Question<'_>, standing: &Standing<'_>, pool: &Pool) -> Outcome {
        let before = Asked { question, user: &standing.user, so_far: &standing.fields };
        let user = match self.username_format.expand_text(&before) {
            Ok(user) if is_name(&user) => user,
            Ok(_) => return self.unknown("username_format makes no name of it"),
            Err(failure) => return Outcome::Trouble(failure),
        };
        let asked = Asked { user: &user, ..before };
        question.witness.saw(|| seen::asked(self, &user));
        let row = match self.find(&asked).await {
            Ok(Some(row)) => row,
            Ok(None) => return self.unknown("unknown user"),
            Err(failure) => return Outcome::Trouble(failure),
        };
        if self.deny && question.delivery {
            // Nobody said what is to become of the mail of those who may not sign in.
            let text = "user stands in this deny list; whether it has mail is not known by that";
            return Outcome::Trouble(self.trouble(Kind::Row, text));
        }
        if self.deny {
            return Outcome::No { why: credentials(String::new()), known: true, proven: false };
        }
        match self.judge(&asked, row, standing, pool).await {
            Ok(outcome) => outcome,
            Err(failure) => Outcome::Trouble(failure),
        }
    }

    /// The lookup, inside its deadline and limits. Failures carry the database's name.
    async fn find(&self, asked: &Asked<'_>) -> Result<Option<Fields>, Failure> {
        let began = Instant::now();
        let found = self.find_in_time(asked).await;
        // What is only explained is no login's lookup.
        if !asked.question.witness.watches() {
            self.seen_lookups.record(began.elapsed(), found.is_ok());
        }
        found
    }

    async fn find_in_time(&self, asked: &Asked<'_>) -> Result<Option<Fields>, Failure> {
        let Ok(_permit) = self.gate.try_acquire() else {
            return Err(self.trouble(Kind::Lookup, &format!("{} lookups are under way already", self.lookups)));
        };
        match timeout(self.deadline, self.users.find(asked)).await {
            Ok(Ok(row)) => Ok(row),
            Ok(Err(failure)) => Err(self.about(asked.user, failure)),
            Err(_) => Err(self.trouble(Kind::Lookup, &format!("no answer within {:?}", self.deadline))),
        }
    }

    /// What the row means. The error is trouble.
    async fn judge(&self, asked: &Asked<'_>, row: Fields, standing: &Standing<'_>, pool: &Pool) -> Result<Outcome, Failure> {
        let bad = |text: String| self.about(asked.user, Failure::new(Side::Users, Kind::Row, text));
        check_size(&row).map_err(bad)?;
        let mut fields = self.merge(asked, row).map_err(|failure| self.about(asked.user, failure))?;

        asked.question.witness.saw(|| seen::row(self, &fields, asked.user, asked.question.witness));

        // For whatever becomes of this row; a refusal carries it on.
        let quick = fields.get("nodelay").is_some();
        for (name, ip) in
            [("allow_nets", asked.question.origin.client.0.ip()), ("allow_real_nets", asked.question.origin.real_client.0.ip())]
        {
            if let Some(nets) = fields.take(name)
                && !allows(&nets, ip).map_err(|net| bad(format!("{name}: \"{}\" is no network", net.escape_debug())))?
            {
                if asked.question.delivery {
                    return Err(bad(format!("{name}: {ip}, which brings mail for this user, is not among them")));
                }
                return Ok(self.unknown(&format!("{ip} is not in {name}")).quick(quick));
            }
        }
        let user = rename(asked.user, &mut fields).map_err(bad)?;
        let nopassword = fields.take("nopassword").is_some();
        let password = fields.take("password").filter(|text| !text.is_empty());
        let bare = fields.take("password_noscheme").filter(|text| !text.is_empty());
        if asked.question.delivery {
            fields.remove("noauthenticate");
            return Ok(Outcome::In { user, fields, proof: Proof::Earlier });
        }
        if fields.take("noauthenticate").is_some() {
            return Ok(Outcome::LookedUp { user, fields });
        }
        if nopassword && (password.is_some() || bare.is_some()) {
            return Err(bad("nopassword is set, but password is not empty".to_owned()));
        }
        if standing.verified {
            return Ok(Outcome::In { user, fields, proof: Proof::Earlier });
        }
        let watched = asked.question.witness.watches();
        if nopassword {
            if !watched {
                self.learn(None);
            }
            return Ok(Outcome::In { user, fields, proof: Proof::NoPassword });
        }
        let default = self.users.default_scheme();
        let verifier = match (&password, &bare) {
            (Some(text), _) => Verifier::read(text, default),
            (None, Some(text)) => Verifier::of(default, text),
            (None, None) => return Ok(self.unproven("the row has neither password nor nopassword").quick(quick)),
        };
        let verifier = verifier.map_err(|why| bad(why.0))?;
        if !watched {
            self.learn(Some(&verifier));
        }
        if asked.question.witness.supposes_password() || asked.question.vouched {
            return Ok(Outcome::In { user, fields, proof: Proof::Checked });
        }
        let Some(said) = asked.question.password else { return Ok(self.unproven("no password was said").quick(quick)) };
        if pool.matches(&verifier, said).await.map_err(|failure| self.about(asked.user, failure))? {
            return Ok(Outcome::In { user, fields, proof: Proof::Checked });
        }
        let why = credentials(format!("users \"{}\": wrong password", self.name)).quick(quick);
        Ok(Outcome::No { why, known: true, proven: true })
    }

    /// The row over what stands so far, with `default_fields` under and `override_fields` over it. What one database may not
    /// leave to the next is never in `so_far`.
    fn merge(&self, asked: &Asked<'_>, row: Fields) -> Result<Fields, Failure> {
        let mut fields = asked.so_far.clone();
        for (name, text) in &self.default_fields {
            fields.set(name, &text.expand_text(asked)?);
        }
        for (name, value) in row.iter() {
            match name.rsplit_once(':') {
                Some((name, "default" | "protected")) if fields.get(name).is_some() => {}
                Some((name, "default" | "protected")) => fields.set(name, value),
                Some((name, "remove")) => fields.remove(name),
                _ => fields.set(name, value),
            }
        }
        let merged = fields.clone();
        let asked = Asked { so_far: &merged, ..*asked };
        for (name, text) in &self.override_fields {
            fields.set(name, &text.expand_text(&asked)?);
        }
        Ok(fields)
    }

    fn learn(&self, verifier: Option<&Verifier>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.learnt {
            seen.decoy = verifier.map(Verifier::decoy);
            seen.learnt = verifier.is_some();
        }
    }

    pub(super) fn decoy(&self) -> Option<Verifier> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).decoy.clone()
    }

    fn unknown(&self, text: &str) -> Outcome {
        Outcome::No { why: credentials(format!("users \"{}\": {text}", self.name)), known: false, proven: false }
    }

    fn unproven(&self, text: &str) -> Outcome {
        Outcome::No { why: credentials(format!("users \"{}\": {text}", self.name)), known: true, proven: false }
    }

    pub(super) fn trouble(&self, kind: Kind, text: &str) -> Failure {
        Failure::new(Side::Users, kind, format!("users \"{}\": {text}", self.name))
    }

    fn about(&self, user: &str, mut failure: Failure) -> Failure {
        failure.detail = format!("users \"{}\", user {}: {}", self.name, user.escape_debug(), failure.detail);
        failure
    }
}

fn check_size(row: &Fields) -> Result<(), String> {
    if row.len() > MAX_FIELDS {
        return Err(format!("{} fields are more than {MAX_FIELDS}", row.len()));
    }
    match row.iter().find(|(_, value)| value.len() > MAX_VALUE) {
        Some((name, value)) => Err(format!("field {}: {} octets are more than {MAX_VALUE}", name.escape_debug(), value.len())),
        None => Ok(()),
    }
}

/// Whether one of the networks has the address: addresses, CIDR, or `local` for "no address", which no client has. The error
/// is the one that is none of these.
fn allows(nets: &str, ip: IpAddr) -> Result<bool, &str> {
    let mut allowed = false;
    for net in nets.split([',', ' ']).filter(|net| !net.is_empty() && *net != "local") {
        let net = net.parse::<IpNet>().or_else(|_| net.parse::<IpAddr>().map(IpNet::from)).map_err(|_| net)?;
        allowed |= net.contains(&ip);
    }
    Ok(allowed)
}

/// `user` takes the place of the name, `username` and `domain` of its halves, as the row has them and in that order.
fn rename(user: &str, fields: &mut Fields) -> Result<String, String> {
    let mut name = fields.take("user").map_or_else(|| user.to_owned(), |name| name.to_string());
    if let Some(username) = fields.take("username") {
        name = match name.split_once('@') {
            Some((_, domain)) if !username.contains('@') => format!("{}@{domain}", *username),
            _ => username.to_string(),
        };
    }
    if let Some(domain) = fields.take("domain") {
        name = format!("{}@{}", name.split_once('@').map_or(name.as_str(), |(username, _)| username), *domain);
    }
    if is_name(&name) { Ok(name) } else { Err("user, username or domain make no user name".to_owned()) }
}

/// Until a row shows what verifiers a database has: what most databases with crypt strings have. The digest is nobody's.
const USUAL: &str =
    concat!("$6$gatepost.decoy$", "......................................................................................");
