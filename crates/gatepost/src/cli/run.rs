//! `gatepost run`: serve in the foreground.
//!
//! SIGHUP and the admin API reload, SIGUSR1 opens the log file anew, SIGTERM and SIGINT drain (a second one ends at once).
//! `gatepost upgrade` has it start its successor; see [`crate::life::succession`].

mod control;
mod outlive;
mod supervise;

use self::control::control_socket;
use self::supervise::{Running, Signals};
use super::{BAD_CONFIG, FAILED};
use crate::admin::{Desk, Listening, Sockets};
use crate::config::meant::Meant;
use crate::journal::{Journal, Level};
use crate::life::handed::HandedSockets;
use crate::life::local::SocketFile;
use crate::life::notify::Notify;
use crate::life::succession::{Heir, Program};
use crate::life::supervisor::Supervisor;
use crate::login::house::Live;
use crate::resolve::SystemDns;
use crate::server::{self, Server};
use clap::Args;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::mpsc;

#[derive(Args)]
pub struct Run {
    /// Write the bound addresses to this file once all of them listen: a line each, `protocol tls address`
    #[arg(long, value_name = "FILE")]
    ports_file: Option<PathBuf>,
}

impl Run {
    /// Serves until told to stop.
    pub fn go(&self, config: &Path) -> ExitCode {
        let mut heir = match Heir::from_env() {
            Ok(heir) => heir,
            Err(problem) => {
                eprintln!("gatepost: {problem}");
                return ExitCode::from(FAILED);
            }
        };
        let outcome = match crate::config::load(config, &super::catalog()) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    eprintln!("{warning}");
                }
                self.serve(config, loaded.meant, &mut heir)
            }
            Err(problems) => Err(Stop::Config(problems.to_string().lines().map(str::to_owned).collect())),
        };
        let (code, problems) = match outcome {
            Ok(()) => return ExitCode::SUCCESS,
            Err(Stop::Config(problems)) => (BAD_CONFIG, problems),
            Err(Stop::Failed(problem)) => (FAILED, vec![format!("gatepost: {problem}")]),
        };
        for problem in &problems {
            eprintln!("{problem}");
        }
        if let Some(heir) = heir {
            heir.failed(code, &problems);
        }
        ExitCode::from(code)
    }

    fn serve(&self, config: &Path, meant: Meant, heir: &mut Option<Heir>) -> Result<(), Stop> {
        let program = Program::own().map_err(|e| e.to_string());
        // Before the first other thread: rights are a thread's own, and threads inherit them.
        let mut early = Early::bind(&meant, heir.as_mut())?;
        become_user(meant.server.user.as_deref(), &mut early.remarks)?;
        no_core_dumps();
        // Gives memory back while nothing happens. Without it that waits for the next session.
        let _ = tikv_jemalloc_ctl::background_thread::write(true);

        let log = &meant.log;
        let opened = Journal::open(log.format, log.level, &log.target);
        let journal = opened.map_err(|e| Stop::Failed(format!("{}: {e}", log.target)))?;
        for text in &early.remarks {
            journal.say(Level::Warning, "start", text);
        }
        panics_to(&journal);
        let ports = early.bound.iter().filter_map(|b| b.address.port()).collect();
        let patience = meant.limits.drain;
        let live = Live::build(meant, ports, &server::warn_to(&journal)).map_err(Stop::Config)?;
        let resolver = SystemDns::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let server = Server::start(live, early.bound, journal.clone(), Box::new(resolver))?;
            if let Some(file) = &self.ports_file {
                write_ports(file, &server).map_err(|e| Stop::Failed(format!("{}: {e}", file.display())))?;
            }
            let signals = Signals::heard()?;
            let (orders, given) = mpsc::channel(8);
            let desk = Desk::new(Arc::clone(server.house()), orders);
            let supervisor = Supervisor::new(early.notify, journal.clone(), server.clocks());
            if let Some(heir) = heir.take() {
                heir.serving();
                for file in early.files.drain(..) {
                    // One that no listener has any more goes now.
                    file.set_ours(true);
                }
                for text in server.let_in() {
                    journal.say(Level::Warning, "start", &text);
                }
            }
            for (_, listener) in &early.admin.addresses {
                journal.say(Level::Info, "listening", &format_args!("admin API on {}", listener.local_addr()?));
            }
            let listening = Listening::start(early.admin, &desk)?;
            let running =
                Running { config, server, orders: given, desk, listening, supervisor, signals, journal, program, patience };
            running.supervise().await
        })
    }
}

enum Stop {
    Config(Vec<String>),
    Failed(String),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Stop::Failed(e.to_string())
    }
}

/// What is opened with the rights of the start.
struct Early {
    bound: Vec<server::Bound>,
    admin: Sockets,
    /// Of unix sockets, from a predecessor that removes them until it is gone.
    files: Vec<Arc<SocketFile>>,
    notify: Notify,
    remarks: Vec<String>,
}

impl Early {
    /// Opens it; what a predecessor hands over is open already.
    fn bind(meant: &Meant, mut heir: Option<&mut Heir>) -> Result<Early, Stop> {
        let mut remarks = Vec::new();
        let control = &meant.server.control;
        let handed = heir.as_mut().and_then(|heir| heir.take_control(control));
        let control = match handed.map_or_else(|| control_socket(meant, control), Ok) {
            Ok(listener) => Some((control.clone(), listener)),
            // Two processes share a port without an error (SO_REUSEPORT), and every other login would go to the wrong one.
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                return Err(Stop::Failed(format!(
                    "server.control {}: {e}; stop it, or give this one another server.control",
                    control.display()
                )));
            }
            Err(e) => {
                remarks.push(format!(
                    "server.control {}: {e}; nobody can ask this Gatepost anything; SIGHUP reloads it",
                    control.display()
                ));
                None
            }
        };
        let mut handed = match &mut heir {
            Some(heir) => heir.take_sockets(),
            None => HandedSockets::from_systemd().map_err(Stop::Failed)?,
        };
        let bound = server::bind(meant, &mut handed, &mut |text| remarks.push(text)).map_err(Stop::Failed)?;
        // Of a predecessor's sockets some may be for listeners that the configuration has no longer.
        if heir.is_none() {
            handed.all_taken().map_err(Stop::Failed)?;
        }
        let mut addresses = Vec::new();
        for address in &meant.admin.address {
            let handed = heir.as_mut().and_then(|heir| heir.take_admin(*address));
            let listener = handed.map_or_else(|| std::net::TcpListener::bind(address), Ok);
            addresses.push((*address, listener.map_err(|e| Stop::Failed(format!("admin.address {address}: {e}")))?));
        }
        let notify = Notify::from_env().unwrap_or_else(|e| {
            remarks.push(format!("{e}; the service manager hears nothing from us"));
            Notify::default()
        });
        Ok(Early { bound, admin: Sockets { control, addresses }, files: handed.into_files(), notify, remarks })
    }
}

/// Becomes the service user where the process was started as root. Users and groups are taken from /etc/passwd and /etc/group.
fn become_user(user: Option<&str>, remarks: &mut Vec<String>) -> Result<(), Stop> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let Some(user) = user else {
        remarks.push("runs as root; name an account of its own in server.user".to_owned());
        return Ok(());
    };
    let failed = |e: &dyn std::fmt::Display| Stop::Failed(format!("server.user {user}: {e}"));
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|e| failed(&e))?;
    let ids = passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(user))
            .then(|| (parts.nth(1).and_then(|id| id.parse().ok()), parts.next().and_then(|id| id.parse().ok())))
    });
    let Some((Some(uid), Some(gid))) = ids else {
        return Err(failed(&"there is no such user in /etc/passwd"));
    };
    if uid == 0 {
        return Err(failed(&"is root: name an account of its own"));
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let mut also: Vec<rustix::fs::Gid> = groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(':');
            let id = parts.nth(2)?.parse().ok()?;
            parts.next()?.split(',').any(|member| member == user).then(|| rustix::fs::Gid::from_raw(id))
        })
        .collect();
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    also.push(gid);
    rustix::thread::set_thread_groups(&also).map_err(|e| failed(&e))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|e| failed(&e))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| failed(&e))?;
    rustix::thread::set_no_new_privs(true).map_err(|e| failed(&e))?;
    for task in std::fs::read_dir("/proc/self/task").map_err(|e| failed(&e))?.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let root = status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().any(|id| id == "0"));
        if root {
            return Err(failed(&"a thread of this process keeps root's rights"));
        }
    }
    Ok(())
}

/// A core file would hold passwords.
fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// A panic ends one session; the journal says where it was.
fn panics_to(journal: &Journal) {
    let journal = journal.clone();
    std::panic::set_hook(Box::new(move |panic| {
        journal.say(Level::Error, "panic", &format_args!("a fault of Gatepost ended one task: {panic}"));
    }));
}

fn write_ports(file: &Path, server: &Server) -> io::Result<()> {
    let mut text = String::new();
    for (protocol, tls, address) in server.listening() {
        text.push_str(&format!("{protocol} {tls} {address}\n"));
    }
    // Whoever waits for the file must never see half of it.
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, file)
}
