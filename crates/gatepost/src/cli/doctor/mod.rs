//! `gatepost doctor`: proves that something works by doing it, once, and leaves nothing behind.
//!
//! `identity USER` signs in through the running Gatepost as a mail client does, and asks at the other end whom the backend takes
//! for the client. What was told is seen in a trace of that one dialogue; what the backend believed is seen where it says so: in
//! its log, or in its answer to ID.
//!
//! Exit codes: 0 proven; 1 disproven, the backend took somebody else for the client; 3 not proven, the backend cannot tell, or
//! the login failed; 2 wrong usage; 69 nobody answers; 78 bad configuration.

mod call;
mod log;
mod password;
mod witnessed;

use super::ask::{Whom, ask, shown};
use super::{FAILED, USAGE, WARNINGS};
use crate::protocol::{self, Protocol};
use call::{Call, Talked};
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use log::{BackendLog, Seen};
use relay::tls::connector::{ConnectPolicy, Connector, pin_of_file};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wire::dance::Secure;

#[derive(Subcommand)]
pub enum Doctor {
    /// Prove that backends see who is calling: signs in through Gatepost and looks at what the backend saw
    Identity(Box<Identity>),
}

#[derive(Args)]
pub struct Identity {
    /// The user to sign in as
    user: String,
    /// The protocol: imap, pop3, managesieve or submission [default: the first that is served]
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// A file with the password in its first line
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
    /// Read the password from standard input, one line; on a terminal it is asked for anyway
    #[arg(long)]
    password_stdin: bool,
    /// Where to sign in [default: the first listener of the protocol that TLS can begin at]
    #[arg(long, value_name = "ADDR:PORT")]
    listener: Option<SocketAddr>,
    /// The backend's log, to see there whom it took for the client
    #[arg(long, value_name = "FILE")]
    backend_log: Option<PathBuf>,
    /// Speak for a client at this address, as a webmail does; this host must be in trust.networks
    #[arg(long, value_name = "ADDR")]
    from: Option<IpAddr>,
    /// Check Gatepost's certificate against this file of authorities [default: its key must be one of [tls] certificates]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// The name in Gatepost's certificate, for --ca [default: the listener's address]
    #[arg(long, value_name = "NAME", requires = "ca")]
    name: Option<String>,
    /// Take any certificate
    #[arg(long)]
    insecure: bool,
    #[command(flatten)]
    whom: Whom,
}

impl Doctor {
    /// Proves it.
    pub fn go(self, config: &Path) -> ExitCode {
        let Doctor::Identity(identity) = self;
        match identity.prove(config) {
            Ok(verdict) => verdict.tell(),
            Err(Stop(code, why)) => {
                if !why.is_empty() {
                    eprintln!("gatepost doctor identity: {}", shown(&why));
                }
                code
            }
        }
    }
}

/// Why nothing could be tried. Without words: told already.
struct Stop(ExitCode, String);

impl Stop {
    fn with(code: u8, why: impl Into<String>) -> Stop {
        Stop(ExitCode::from(code), why.into())
    }
}

/// What came of it.
enum Verdict {
    Proven(String),
    NotProven(String),
    Disproven(String),
}

impl Verdict {
    fn tell(&self) -> ExitCode {
        let (word, why, code) = match self {
            Verdict::Proven(why) => ("proven", why, ExitCode::SUCCESS),
            Verdict::NotProven(why) => ("not proven", why, ExitCode::from(WARNINGS)),
            Verdict::Disproven(why) => ("disproven", why, ExitCode::from(FAILED)),
        };
        say(word, why);
        code
    }
}

fn say(what: &str, text: &str) {
    tell!("{what:<12}{}", shown(text));
}

impl Identity {
    fn prove(&self, config: &Path) -> Result<Verdict, Stop> {
        let at = self.whom.serving(config).map_err(|code| Stop(code, String::new()))?;
        let (protocol, listener, secure) = self.listener(&at)?;
        let connector = self.connector(config, secure)?;
        let password =
            password::read(self.password_file.as_deref(), self.password_stdin).map_err(|why| Stop::with(USAGE, why))?;
        let log = self.backend_log.as_deref().map(BackendLog::open).transpose().map_err(|why| Stop::with(FAILED, why))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Stop::with(FAILED, e.to_string()))?;
        let Some(way) = protocol.login() else {
            return Err(Stop::with(USAGE, format!("nobody signs in by {}", protocol.name)));
        };
        let call = Call {
            way,
            listener,
            secure,
            connector: connector.as_ref(),
            name: self.name.clone().unwrap_or_else(|| listener.ip().to_string()),
            user: &self.user,
            password: &password,
            from: self.from,
        };
        let talked = runtime.block_on(call.sign_in(&at)).map_err(|call::Unable(code, why)| Stop::with(code, why))?;
        Ok(self.judge(&talked, log))
    }

    fn judge(&self, talked: &Talked, log: Option<BackendLog>) -> Verdict {
        let Talked { witnessed, refused, behind } = talked;
        say("signs in", &format!("{} at {}, session {}", self.user, witnessed.listener, witnessed.session));
        if let Some(from) = self.from {
            if witnessed.client.ip() != from {
                let why = match witnessed.trusted {
                    Some(false) => "this host is not in trust.networks, so what it says of who is calling is not heard",
                    _ => "Gatepost did not take it",
                };
                return Verdict::NotProven(format!("--from {from}: {why}; the client is {} to it", witnessed.client.ip()));
            }
            say("client", &format!("{}, as this host said of its client", witnessed.client));
        } else {
            say("client", &format!("{}, this host", witnessed.client));
        }
        if let Some(why) = refused.as_ref().or(witnessed.refused.as_ref()) {
            return Verdict::NotProven(format!("the login failed: {why}"));
        }
        say("backend", &format!("{} ({}), signed in from {}", witnessed.backend, witnessed.host, witnessed.source));
        match witnessed.identity.as_str() {
            "told" => say("told", &format!("yes: {}", witnessed.introduction)),
            "header" => say("told", "yes: by the PROXY header, which has addresses and no session id"),
            _ => {
                let why = witnessed.identity_words.strip_prefix("not told: ").unwrap_or(&witnessed.identity_words);
                say("told", &format!("no: {why}"));
                let source = witnessed.source.ip();
                let why = format!("the backend was not told who is calling, and takes every client for {source}");
                return Verdict::Disproven(if witnessed.wanted { format!("{why}; {}", trust(source)) } else { why });
            }
        }
        let mut seen = Seen::Nothing;
        if let Some(log) = log {
            seen = log.look_for(witnessed);
        }
        if seen == Seen::Nothing {
            seen = witnessed::in_answer(witnessed, behind);
        }
        match seen {
            Seen::Match(line) => {
                say("seen", &format!("yes: {line}"));
                Verdict::Proven(format!("the backend takes {} for the client", witnessed.client.ip()))
            }
            Seen::Mismatch(line, why) => {
                say("seen", &format!("no: {line}"));
                Verdict::Disproven(format!("{why}; {}", trust(witnessed.source.ip())))
            }
            Seen::Nothing => {
                let how = match &self.backend_log {
                    // One address for both: a log that tells neither session nor port cannot tell them apart.
                    Some(file) if witnessed.client.ip() == witnessed.source.ip() => {
                        let (file, ip) = (file.display(), witnessed.source.ip());
                        format!("{file} shows nothing; client and proxy are both {ip} here: name another client with --from")
                    }
                    Some(file) => format!("{} has no line that shows whom the backend took for the client", file.display()),
                    None => "the backend cannot tell by itself; give its log with --backend-log".to_owned(),
                };
                say("seen", "nothing");
                Verdict::NotProven(format!("told, but not seen: {how}"))
            }
        }
    }

    /// What to speak, where to sign in, and how TLS begins there.
    fn listener(&self, at: &super::ask::At) -> Result<(&'static Protocol, SocketAddr, Secure), Stop> {
        let answer = ask("doctor identity", at, Method::GET, "/v1/status").map_err(|code| Stop(code, String::new()))?;
        if answer.status != StatusCode::OK {
            return Err(Stop::with(FAILED, super::ask::refusal(&answer)));
        }
        let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let listed = status.get("listeners").and_then(Value::as_array).into_iter().flatten();
        let mut found: Vec<(&'static Protocol, SocketAddr, Secure)> = listed.filter_map(listener).collect();
        // It signs in, which is not to be had everywhere.
        found.retain(|(protocol, ..)| protocol.login().is_some());
        if let Some(name) = &self.protocol {
            if protocol::find(name).is_none() {
                return Err(Stop::with(USAGE, format!("{name} is none of {}", protocol::names())));
            }
            found.retain(|(protocol, ..)| protocol.name == name);
        }
        // A password is not said in clear where it can be said under TLS.
        found.sort_by_key(|(.., secure)| *secure == Secure::Never);
        let is = |at: &SocketAddr| match self.listener {
            None => true,
            Some(wanted) => at.port() == wanted.port() && (at.ip() == wanted.ip() || at.ip().is_unspecified()),
        };
        let Some((protocol, at, secure)) = found.iter().find(|(_, at, _)| is(at)) else {
            let listed: Vec<String> = found.iter().map(|(protocol, at, _)| format!("{} on {at}", protocol.name)).collect();
            return Err(Stop::with(USAGE, format!("there is no such listener; there are: {}", listed.join(", "))));
        };
        let ip = match (self.listener, at.ip()) {
            (Some(wanted), _) => wanted.ip(),
            (None, IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            (None, IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            (None, ip) => ip,
        };
        Ok((protocol, SocketAddr::new(ip, at.port()), *secure))
    }

    /// TLS with Gatepost itself: by default its key must be one that the configuration has.
    fn connector(&self, config: &Path, secure: Secure) -> Result<Option<Connector>, Stop> {
        if secure == Secure::Never {
            return Ok(None);
        }
        let mut policy = ConnectPolicy { verify: !self.insecure, ca: self.ca.clone(), ..ConnectPolicy::default() };
        if !self.insecure && self.ca.is_none() {
            let loaded = super::load(config).map_err(|code| Stop(code, String::new()))?;
            for certificate in &loaded.meant.tls.certificates {
                let pin = pin_of_file(&certificate.cert)
                    .map_err(|e| Stop::with(FAILED, format!("{e}; --ca FILE or --insecure do without it")))?;
                policy.pins.push(pin);
            }
        }
        Connector::new(policy).map(Some).map_err(|e| Stop::with(FAILED, e.to_string()))
    }
}

/// A listener, as the status tells of it.
fn listener(told: &Value) -> Option<(&'static Protocol, SocketAddr, Secure)> {
    let word = |name: &str| told.get(name).and_then(Value::as_str);
    let secure = match word("tls")? {
        "starttls" => Secure::StartTls,
        "implicit" => Secure::Implicit,
        _ => Secure::Never,
    };
    Some((protocol::find(word("protocol")?)?, word("address")?.parse().ok()?, secure))
}

/// What must be said at the backend.
fn trust(source: IpAddr) -> String {
    format!(
        "the backend must believe this proxy: with Dovecot login_trusted_networks = {source}, with Postfix \
         smtpd_authorized_xclient_hosts = {source}, with a Gatepost [trust] networks = [\"{source}\"]"
    )
}
