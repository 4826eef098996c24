//! `gatepost explain login USER`, `gatepost explain rcpt ADDRESS`: how that login, or the mail for that recipient, would be decided,
//! step by step, without calling a mail server.
//!
//! The running Gatepost is asked, because only it knows limits, the health of backends and the configuration in force. Where none
//! answers the configuration file is looked at by this process alone, and the first line says so.
//!
//! Exit codes: 0 it would sign in, or be delivered, 1 it would not, 2 what is asked makes no sense, 69 the one that was named (`--socket`,
//! `--admin`) does not answer, 78 bad configuration.

use super::ask::{At, Whom, json_line, refusal, shown, try_say, unanswered};
use super::{BAD_CONFIG, FAILED, UNREACHABLE, USAGE};
use crate::config::listen_at::ListenAt;
use crate::explain::{self, Ask, AskRcpt, Explanation, Unanswerable, Way};
use crate::journal::{Format, Journal, Level};
use crate::login::house::{House, Live, Phase};
use crate::resolve::SystemDns;
use clap::{Args, Subcommand, ValueEnum};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::watch;

/// The longest password that is read.
const PASSWORD_MAX: u64 = 4096;

#[derive(Subcommand)]
pub enum Explain {
    /// Explain a login
    Login(Box<Login>),
    /// Explain where the mail for a recipient goes
    Rcpt(Box<Rcpt>),
}

#[derive(Args)]
pub struct Login {
    /// The user name, as the client says it
    user: String,
    /// The protocol: imap, pop3, managesieve or submission; imaps, pop3s or submissions for a listener with TLS from the first
    /// byte [default: imap]
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// Where the client is [default: an address that nobody has]
    #[arg(long, value_name = "ADDR[:PORT]")]
    from: Option<String>,
    /// The listener that it reaches [default: the first of the protocol]
    #[arg(long, value_name = "ADDR:PORT|unix:/PATH")]
    listener: Option<ListenAt>,
    /// What it calls itself, in Submission (EHLO) [default: client.example]
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// The server name that it asks for in TLS
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// It does without TLS [default: it takes TLS where that is offered]
    #[arg(long)]
    in_clear: bool,
    /// The proxy in front of Gatepost that names --from as its client, by ID or XCLIENT
    #[arg(long, value_name = "ADDR[:PORT]")]
    via: Option<String>,
    /// How many proxies may still follow, as --via says
    #[arg(long, value_name = "N", requires = "via")]
    ttl: Option<u32>,
    /// What --via forwards; may be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "via")]
    forward: Vec<String>,
    /// The balancer through which the connection comes, with a PROXY header
    #[arg(long, value_name = "ADDR[:PORT]")]
    balancer: Option<String>,
    /// How the client signs in
    #[arg(long, value_enum, default_value = "command")]
    mechanism: Mechanism,
    /// Read the password from standard input, one line, and check it; without it, it is taken for the right one
    #[arg(long)]
    password_stdin: bool,
    /// Look at the configuration file alone, whether a Gatepost runs or not
    #[arg(long, conflicts_with_all = ["socket", "admin"])]
    from_file: bool,
    /// Say it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Args)]
pub struct Rcpt {
    /// The recipient's address, as whoever brings the mail says it, without brackets
    address: String,
    /// Who sends the mail [default: nobody, as for reports]
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    sender: String,
    /// Who brings the mail [default: an address that nobody has]
    #[arg(long, value_name = "ADDR[:PORT]")]
    from: Option<String>,
    /// The listener that it reaches [default: the first one that takes mail]
    #[arg(long, value_name = "ADDR:PORT|unix:/PATH")]
    listener: Option<ListenAt>,
    /// What it calls itself (LHLO) [default: client.example]
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// The server name that it asks for in TLS
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// It does without TLS [default: it takes TLS where that is offered]
    #[arg(long)]
    in_clear: bool,
    /// The proxy in front of Gatepost that names --from as its client, by XCLIENT
    #[arg(long, value_name = "ADDR[:PORT]")]
    via: Option<String>,
    /// How many proxies may still follow, as --via says
    #[arg(long, value_name = "N", requires = "via")]
    ttl: Option<u32>,
    /// What --via forwards for this recipient (XRCPTFORWARD); may be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "via")]
    forward: Vec<String>,
    /// The balancer through which the connection comes, with a PROXY header
    #[arg(long, value_name = "ADDR[:PORT]")]
    balancer: Option<String>,
    /// Look at the configuration file alone, whether a Gatepost runs or not
    #[arg(long, conflicts_with_all = ["socket", "admin"])]
    from_file: bool,
    /// Say it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mechanism {
    /// The protocol's own: LOGIN, USER and PASS; SASL PLAIN where there is none
    Command,
    /// SASL PLAIN
    Plain,
    /// SASL LOGIN
    Login,
}

impl Explain {
    /// Asks, and shows the answer.
    pub fn go(self, config: &Path) -> ExitCode {
        let (json, from_file, whom) = match &self {
            Explain::Login(login) => (login.json, login.from_file, login.whom.clone()),
            Explain::Rcpt(rcpt) => (rcpt.json, rcpt.from_file, rcpt.whom.clone()),
        };
        let asked = match self {
            Explain::Login(login) => login.asked(),
            Explain::Rcpt(rcpt) => Ok(rcpt.asked()),
        };
        match asked.map_err(Stop::Usage).and_then(|asked| asked.explanation(config, from_file, &whom)) {
            Ok(told) => {
                if json {
                    tell!("{}", json_line(&told));
                } else {
                    show(&told);
                }
                let verdict = told.pointer("/outcome/verdict").and_then(Value::as_str);
                if verdict.is_some_and(|verdict| GOOD.contains(&verdict)) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
            }
            Err(Stop::Usage(why)) => {
                eprintln!("gatepost explain: {}", shown(&why));
                ExitCode::from(USAGE)
            }
            Err(Stop::Failed(code)) => code,
        }
    }
}

/// Why there is no explanation.
enum Stop {
    Usage(String),
    Failed(ExitCode),
}

/// What is to be explained.
enum Asked {
    Login(Ask),
    Rcpt(AskRcpt),
}

impl Asked {
    fn explanation(self, config: &Path, from_file: bool, whom: &Whom) -> Result<Value, Stop> {
        let note = if from_file {
            "from the file alone; limits and health are unknown".to_owned()
        } else {
            let at = whom.serving(config).map_err(Stop::Failed)?;
            match running(&at, &self)? {
                Ok(told) => return Ok(told),
                Err(why) if whom.is_named() => {
                    eprintln!("gatepost explain: {}", unanswered(&at, &why));
                    return Err(Stop::Failed(ExitCode::from(UNREACHABLE)));
                }
                Err(why) => format!("no running Gatepost at {at} ({why}): from the file alone; limits and health are unknown"),
            }
        };
        let loaded = super::load(config).map_err(Stop::Failed)?;
        let mut told = alone(loaded.meant, &self)?;
        if let Some(object) = told.as_object_mut() {
            object.insert("note".to_owned(), Value::from(note));
        }
        Ok(told)
    }

    /// Where a running Gatepost is asked that, and the words of it.
    fn request(&self) -> (&'static str, Result<Vec<u8>, serde_json::Error>) {
        match self {
            Asked::Login(ask) => ("/v1/explain/login", serde_json::to_vec(ask)),
            Asked::Rcpt(ask) => ("/v1/explain/rcpt", serde_json::to_vec(ask)),
        }
    }

    /// Asks a house that serves nobody.
    async fn of(&self, house: &House) -> Result<Explanation, Unanswerable> {
        match self {
            Asked::Login(ask) => explain::login(house, false, ask).await,
            Asked::Rcpt(ask) => explain::rcpt(house, false, ask).await,
        }
    }
}

impl Login {
    fn asked(self) -> Result<Asked, String> {
        let password = if self.password_stdin { Some(password()?) } else { None };
        Ok(Asked::Login(Ask {
            user: self.user,
            protocol: self.protocol,
            from: self.from,
            listener: self.listener,
            helo: self.helo,
            sni: self.sni,
            in_clear: self.in_clear,
            via: self.via,
            ttl: self.ttl,
            forward: self.forward,
            balancer: self.balancer,
            mechanism: match self.mechanism {
                Mechanism::Command => Way::Command,
                Mechanism::Plain => Way::Plain,
                Mechanism::Login => Way::Login,
            },
            password,
        }))
    }
}

impl Rcpt {
    fn asked(self) -> Asked {
        Asked::Rcpt(AskRcpt {
            recipient: self.address,
            sender: self.sender,
            from: self.from,
            listener: self.listener,
            helo: self.helo,
            sni: self.sni,
            in_clear: self.in_clear,
            via: self.via,
            ttl: self.ttl,
            forward: self.forward,
            balancer: self.balancer,
        })
    }
}

/// The words of [`crate::explain::Verdict::SignsIn`] and [`crate::explain::Verdict::Delivers`].
const GOOD: [&str; 2] = ["signs-in", "delivers"];

/// The first line of standard input.
fn password() -> Result<String, String> {
    let mut text = String::new();
    let stdin = std::io::stdin().lock();
    stdin.take(PASSWORD_MAX + 2).read_to_string(&mut text).map_err(|e| format!("the password on standard input: {e}"))?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    if line.is_empty() {
        return Err("there is no password on standard input".to_owned());
    }
    Ok(line)
}

/// Asks the one that runs. The inner error: none does.
fn running(at: &At, asked: &Asked) -> Result<Result<Value, String>, Stop> {
    let (path, body) = asked.request();
    let body = body.map_err(|e| Stop::Usage(e.to_string()))?;
    let answer = match try_say(at, Method::POST, path, body.into()) {
        Ok(answer) => answer,
        Err(why) => return Ok(Err(why)),
    };
    match answer.status {
        StatusCode::OK => serde_json::from_slice(&answer.body).map(Ok).map_err(|e| {
            eprintln!("gatepost explain: {at}: its answer is no JSON: {e}");
            Stop::Failed(ExitCode::from(FAILED))
        }),
        StatusCode::BAD_REQUEST => Err(Stop::Usage(refusal(&answer))),
        _ => {
            eprintln!("gatepost explain: {at}: {}", refusal(&answer));
            Err(Stop::Failed(ExitCode::from(FAILED)))
        }
    }
}

/// Looks at the configuration file in this process. Nothing is served, and nothing is journalled.
fn alone(meant: crate::config::meant::Meant, asked: &Asked) -> Result<Value, Stop> {
    let failed = |why: &dyn std::fmt::Display, code: u8| {
        eprintln!("gatepost explain: {why}");
        Stop::Failed(ExitCode::from(code))
    };
    let ports = meant.listen.iter().filter_map(|listen| listen.address.port()).collect();
    let silent: crate::users::Warn = Arc::new(|_| {});
    let live = Live::build(meant, ports, &silent).map_err(|problems| failed(&problems.join("\n"), BAD_CONFIG))?;
    let journal = Journal::to_fn(Format::Text, Level::Error, |_| {}).map_err(|e| failed(&e, FAILED))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e, FAILED))?;
    let told = runtime.block_on(async {
        let (_open, phase) = watch::channel(Phase::Open);
        let doors = explain::doors_of(&live);
        let house = House::new(Arc::new(live), journal, Box::new(SystemDns::new()), phase);
        house.doors.store(Arc::new(doors));
        asked.of(&house).await
    });
    let told = told.map_err(|Unanswerable(why)| Stop::Usage(why))?;
    serde_json::to_value(&told).map_err(|e| failed(&e, FAILED))
}

/// For people: a step a line, with what belongs to it below.
fn show(told: &Value) {
    let text = |value: &Value, key: &str| shown(value.get(key).and_then(Value::as_str).unwrap_or_default());
    if told.get("note").is_some() {
        tell!("{}", text(told, "note"));
    }
    let steps = told.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for step in steps {
        tell!("{:<12}  {}", text(step, "step"), text(step, "text"));
        for line in step.get("more").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            tell!("{:<12}    {}", "", shown(line));
        }
    }
    let Some(outcome) = told.get("outcome") else { return };
    tell!("{:<12}  {}", "outcome", text(outcome, "text"));
    for line in outcome.get("client_hears").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        tell!("{:<12}    the client hears: {}", "", shown(line));
    }
    if outcome.get("guess").and_then(Value::as_bool) == Some(true) {
        tell!("{:<12}    counts as a guess, and slows later logins from there", "");
    }
    if let Some(waits) = outcome.get("waits").and_then(Value::as_f64).filter(|waits| *waits > 0.0) {
        tell!("{:<12}    the client waits {waits:.1} s for its answer", "");
    }
}
