//! The program under test, as its users start it: a binary, a configuration file, signals.
//!
//! The contract with the program: `gatepost run --config FILE --ports-file FILE2` writes, once everything is bound and
//! ready, one line per listener to FILE2, `PROTOCOL TLS-MODE ADDRESS:PORT` (`imap starttls 127.0.0.1:40123`), and puts
//! the file in place whole (a rename), because its existence is the sign that the program is ready. Listeners
//! say port 0 in the configuration, so no test picks a port. The journal goes to stderr.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

#[cfg(doc)]
use crate::Protocol;
use crate::process::Process;
use crate::wait::{PATIENCE, poll};
use crate::{Dir, Log};

/// A running Gatepost. Dropping it kills it; [`Gatepost::stop`] also checks how it ends.
#[derive(Debug)]
pub struct Gatepost {
    process: Process,
    config: PathBuf,
    listeners: Vec<Listener>,
    // Declared last: files go after the process that uses them.
    dir: Dir,
}

/// One line of the ports file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name of a protocol, as [`Protocol::name`] and [`Protocol::implicit`] have it; with TLS that ended in front of it
    /// always the former.
    pub protocol: String,
    /// `none`, `starttls`, `implicit` or `offloaded`.
    pub tls: String,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Gatepost {
    /// Starts `binary` (in an integration test of the program: `env!("CARGO_BIN_EXE_gatepost")`) with this
    /// configuration and waits until it is ready.
    #[track_caller]
    pub fn start(binary: impl AsRef<Path>, config: &str) -> Gatepost {
        Gatepost::start_in(Dir::new(), binary, config, |_| {})
    }

    /// As [`Gatepost::start`], in a directory that may hold certificates and tables already (relative paths in the
    /// configuration are relative to it), and with a last word on the command: arguments, environment.
    #[track_caller]
    pub fn start_in(dir: Dir, binary: impl AsRef<Path>, config: &str, adjust: impl FnOnce(&mut Command)) -> Gatepost {
        let file = dir.write("gatepost.toml", config);
        let ports = dir.join("ports");
        let mut command = Command::new(binary.as_ref());
        command.arg("run").arg("--config").arg(&file).arg("--ports-file").arg(&ports).current_dir(dir.path());
        adjust(&mut command);
        let mut process = Process::start(command, dir.join("journal"));
        process.wait_until("the ports file", || ports.exists());
        let said = fs::read_to_string(&ports).unwrap_or_else(|e| panic!("cannot read {}: {e}", ports.display()));
        let listeners = said
            .lines()
            .filter(|line| !line.contains(" unix:"))
            .map(|line| listener(line).unwrap_or_else(|| panic!("ports file, bad line: {line:?}")));
        Gatepost { listeners: listeners.collect(), process, config: file, dir }
    }

    /// Starts a program that must refuse its configuration: waits for its end, returns its exit code and all it said.
    #[track_caller]
    pub fn refuses(binary: impl AsRef<Path>, config: &str) -> (Option<i32>, String) {
        let dir = Dir::new();
        let file = dir.write("gatepost.toml", config);
        let mut command = Command::new(binary.as_ref());
        command.arg("run").arg("--config").arg(&file).arg("--ports-file").arg(dir.join("ports"));
        let mut process = Process::start(command, dir.join("journal"));
        let status = process.wait_exit();
        (status.code(), process.output().lines().join("\n"))
    }

    /// The first listener of this protocol.
    #[track_caller]
    pub fn addr(&self, protocol: &str) -> SocketAddr {
        match self.listeners.iter().find(|l| l.protocol == protocol) {
            Some(listener) => listener.addr,
            None => panic!("no listener for {protocol} among {:?}", self.listeners),
        }
    }

    /// The first listener of this protocol with this word for TLS (`none`, `starttls`, `implicit`, `offloaded`).
    #[track_caller]
    pub fn addr_with(&self, protocol: &str, tls: &str) -> SocketAddr {
        match self.listeners.iter().find(|l| l.protocol == protocol && l.tls == tls) {
            Some(listener) => listener.addr,
            None => panic!("no listener for {protocol} with {tls} among {:?}", self.listeners),
        }
    }

    /// All listeners of this protocol, in the order in which the program named them.
    pub fn addrs(&self, protocol: &str) -> Vec<SocketAddr> {
        self.listeners.iter().filter(|l| l.protocol == protocol).map(|l| l.addr).collect()
    }

    /// The port of the first listener of this protocol.
    #[track_caller]
    pub fn port(&self, protocol: &str) -> u16 {
        self.addr(protocol).port()
    }

    /// All listeners that have a port, in the order in which the program named them.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The journal.
    pub fn log(&self) -> &Log {
        self.process.output()
    }

    /// Waits for a line of the journal that contains `piece`.
    #[track_caller]
    pub fn wait_for(&self, piece: &str) -> String {
        self.log().wait_for(piece)
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its process id, to look at its memory and descriptors.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGHUP. When the reload is done is for the journal to say.
    pub fn reload(&mut self) {
        self.process.signal(Signal::HUP);
    }

    /// Replaces the configuration file, in one step as editors do, and sends SIGHUP.
    #[track_caller]
    pub fn reload_with(&mut self, config: &str) {
        let new = self.dir.write("gatepost.toml.new", config);
        fs::rename(&new, &self.config).unwrap_or_else(|e| panic!("cannot replace {}: {e}", self.config.display()));
        self.reload();
    }

    /// Sends any signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// Sends SIGTERM, waits for the end, and fails unless the exit code is 0. Returns the whole journal.
    #[track_caller]
    pub fn stop(mut self) -> Vec<String> {
        let status = self.process.stop();
        let journal = self.process.output().lines();
        assert!(status.code() == Some(0), "gatepost ended with {status}; {}", self.process.output().tail());
        journal
    }

    /// How many descriptors it has open, for leak checks.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.id()));
        entries.unwrap_or_else(|e| panic!("gatepost is not running: {e}")).count()
    }

    /// Its resident memory in KiB, for leak checks.
    #[track_caller]
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok());
        number.unwrap_or_else(|| panic!("gatepost is not running; {}", self.log().tail()))
    }

    /// Waits until the number of open descriptors is back at `n` or below.
    #[track_caller]
    pub fn wait_for_descriptors(&self, n: usize) {
        if poll(PATIENCE, || (self.descriptors() <= n).then_some(())).is_none() {
            panic!("{} descriptors open, waited for {n}; {}", self.descriptors(), self.log().tail());
        }
    }
}

impl Drop for Gatepost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- gatepost's journal: {}", self.log().tail());
        }
    }
}

fn listener(line: &str) -> Option<Listener> {
    let mut words = line.split(' ');
    let (protocol, tls, addr) = (words.next()?.to_owned(), words.next()?.to_owned(), words.next()?.parse().ok()?);
    words.next().is_none().then_some(Listener { protocol, tls, addr })
}
