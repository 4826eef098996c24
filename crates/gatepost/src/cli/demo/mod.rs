//! `gatepost demo`: Gatepost with everything around it, on this host's loopback, until Ctrl-C.
//!
//! [`scene`] sets it up: a private directory with certificates, a SQLite user database and a configuration, two small mail
//! servers ([`server`], [`letters`]), and Gatepost in this process. This file tells the person at the terminal what to try
//! ([`invitation`]), and then what arrives where. `--once` plays scripts instead ([`script`]) and checks them ([`checks`]).
//! Whatever depends on a protocol is in its [`speech`]: [`imap`], [`pop3`], [`managesieve`],
//! [`submission`]. Letters come by [`lmtp`], where nobody signs in.
//!
//! Nothing is left behind: the directory goes at the end, also after SIGINT, SIGTERM and SIGHUP. The mail servers stand outside
//! of both ways through the house (ARCHITECTURE.md) and are used by nothing else.

mod checks;
mod client;
mod guest;
mod imap;
mod invitation;
mod letters;
mod lmtp;
mod managesieve;
mod once;
mod pop3;
mod scene;
mod screen;
mod script;
mod server;
mod speech;
mod submission;
mod tape;

use super::FAILED;
use crate::journal::{Format, Journal, Level};
use clap::Args;
use once::{Lines, Reports, keep};
use scene::{ALICE, Scene, Wishes};
use screen::{Screen, Tone};
use server::{Report, What};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use wire::encode::one_line;
use wire::origin::{OriginUpdate, Told};

/// How long sessions may take to end when the demo does.
const GOODBYE: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Demo {
    /// Play scripted logins in each protocol, show both ends side by side, check them, and end: exit code 0 if all checks hold
    #[arg(long)]
    once: bool,
}

impl Demo {
    /// Runs the demo.
    pub fn go(&self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return failed(&e.to_string()),
        };
        let screen = Screen::new();
        match runtime.block_on(async { if self.once { check(screen).await } else { show(screen).await } }) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(problem) => failed(&problem),
        }
    }
}

fn failed(problem: &str) -> ExitCode {
    eprintln!("gatepost demo: {problem}");
    ExitCode::from(FAILED)
}

/// `--once`.
async fn check(screen: Screen) -> Result<bool, String> {
    let mut signals = Signals::new()?;
    let (reports, lines) = (Reports::default(), Lines::default());
    let (heard, read) = (Arc::clone(&reports), Arc::clone(&lines));
    let journal =
        Journal::to_fn(Format::Text, Level::Debug, move |line| keep(&read, line.to_owned())).map_err(|e| e.to_string())?;
    let wishes = Wishes { failed_login_pause: "50ms", log_level: "debug", verbatim: true };
    let scene = Scene::start(&wishes, journal, move |report| keep(&heard, report))?;
    tokio::select! {
        holds = once::play(scene, &reports, &lines, screen) => holds,
        () = signals.next() => Err("interrupted".to_owned()),
    }
}

/// Until somebody has seen enough.
async fn show(screen: Screen) -> Result<bool, String> {
    let mut signals = Signals::new()?;
    let journal = Journal::to_fn(Format::Text, Level::Info, move |line| {
        // Where it listens is told better below.
        if !line.contains(" info listening ") {
            screen.tell(Tone::Journal, "gatepost:", line);
        }
    })
    .map_err(|e| e.to_string())?;
    let wishes = Wishes { failed_login_pause: "2s", log_level: "info", verbatim: false };
    let scene = Scene::start(&wishes, journal, move |report| tell(screen, &report))?;
    screen.say(&invitation::text(&scene, screen));
    signals.next().await;
    screen.say("");
    scene.gatepost.drain(GOODBYE, signals.next()).await;
    Ok(true)
}

/// One line for what happened at a mail server.
fn tell(screen: Screen, report: &Report) {
    let from = report.from;
    let text = match &report.what {
        What::Told { who, by, protected } => {
            let how = if *protected { "in TLS" } else { "in clear" };
            format!("was told by {by} {how}: {}", identity(who))
        }
        What::Login { user, master, by, introduced } => {
            let who = master.as_ref().map_or_else(String::new, |master| format!(" of the master user {}", clean(master)));
            let whose = if *introduced { "Gatepost" } else { "nobody was introduced" };
            format!("login {} by {by}{who}; the connection itself came from {from} ({whose})", clean(user))
        }
        What::Took(took) => clean(&took.to_string()),
        What::Refused { user } => format!("refused {}; the connection itself came from {from}", clean(user)),
        What::Secured(tls) => format!("{tls} with {from}"),
        What::Left => format!("{from} is gone"),
        What::Connected | What::Heard(_) | What::Answered(_) => return,
    };
    let tone = if report.server == ALICE.server { Tone::East } else { Tone::West };
    screen.tell(tone, &format!("{}:", report.server), &text);
}

/// What a server was told of the caller.
fn identity(who: &OriginUpdate) -> String {
    let mut words: Vec<String> = Vec::new();
    let address = |ip: Option<std::net::IpAddr>, port: Option<u16>| match (ip, port) {
        (Some(ip), Some(port)) => Some(std::net::SocketAddr::from((ip, port)).to_string()),
        (Some(ip), None) => Some(ip.to_string()),
        (None, port) => port.map(|port| format!("?:{port}")),
    };
    let mut word = |name: &str, value: Option<String>| words.extend(value.map(|value| format!("{name}={}", clean(&value))));
    word("client", address(who.client_ip, who.client_port));
    word("reached", address(who.reached_ip, who.reached_port));
    word("name", who.reached_name.clone());
    word("session", who.session.as_ref().map(ToString::to_string));
    word("ttl", who.hops.map(|hops| hops.get().to_string()));
    word("tls", who.transport.map(|transport| transport.as_str().to_owned()));
    word("login", who.user.as_ref().and_then(Told::known).map(str::to_owned));
    word("helo", who.helo.as_ref().and_then(Told::known).map(str::to_owned));
    for field in &who.forward {
        word(&format!("forward.{}", clean(&field.name)), Some(field.value.clone()));
    }
    words.join(" ")
}

/// Whoever speaks to a demo server must not speak to the terminal.
fn clean(text: &str) -> String {
    one_line(text, 255)
}

/// The signals that end the demo.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn new() -> Result<Signals, String> {
        let listen = |kind| signal(kind).map_err(|e| format!("signals: {e}"));
        Ok(Signals([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let Signals([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
