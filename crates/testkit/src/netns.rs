//! A network of one's own, for tests of what a whole machine's network decides: the range of local ports, above all.
//!
//! Only a process can have one, so the test consists of two: the first starts this test binary again, inside a new
//! network, for the second, which is ignored otherwise:
//!
//! ```no_run
//! #[test]
//! fn ports_run_out() {
//!     testkit::netns::Alone::new("ports::in_a_network_with_ten_ports").local_ports(40_000, 40_009).run();
//! }
//!
//! #[test]
//! #[ignore = "run by ports_run_out, in a network of its own"]
//! fn in_a_network_with_ten_ports() {
//!     if testkit::netns::is_alone() {
//!         // Nothing listens here, and nobody else is on loopback.
//!     }
//! }
//! ```

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::wait::poll;
use crate::{Dir, real};

/// A test that is to run in a network of its own.
#[derive(Clone, Debug)]
pub struct Alone {
    test: String,
    ports: Option<(u16, u16)>,
    patience: Duration,
}

/// Whether this process was started by [`Alone::run`].
pub fn is_alone() -> bool {
    std::env::var_os(MARK).is_some()
}

impl Alone {
    /// The ignored test of this binary with this full name, `module::name`.
    pub fn new(test: &str) -> Alone {
        Alone { test: test.to_owned(), ports: None, patience: Duration::from_secs(120) }
    }

    /// The range, ends included, from which outgoing connections get their ports.
    #[must_use]
    pub fn local_ports(self, low: u16, high: u16) -> Alone {
        Alone { ports: Some((low, high)), ..self }
    }

    /// How long it may take; 120 s unless set.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Alone {
        Alone { patience, ..self }
    }

    /// Runs it, with loopback up. Returns what it said, or `None` where such a network cannot be had, which is reported
    /// as a skipped test (see [`real`]).
    ///
    /// # Panics
    ///
    /// When the test fails or there is no such test; and where it would be skipped, with `GATEPOST_REQUIRE_PEERS=1`.
    #[track_caller]
    pub fn run(&self) -> Option<String> {
        real::require("unshare")?;
        real::require("ip")?;
        if let Err(missing) = self.attempt() {
            real::skip(&missing);
            return None;
        }
        let binary = std::env::current_exe().unwrap_or_else(|e| panic!("cannot find this binary: {e}"));
        let dir = Dir::new();
        let mut command = self.inside();
        command.arg(binary).args(["--exact", &self.test, "--ignored", "--nocapture"]).env(MARK, "1");
        let mut process = Process::start(command, dir.join("output"));
        let ended = poll(self.patience, || process.exit_status());
        let said = process.output().lines().join("\n");
        let Some(status) = ended else {
            panic!("{} is still running after {} s; it said:\n{said}", self.test, self.patience.as_secs())
        };
        // A name that matches nothing is a success to the test harness.
        assert!(status.success() && said.contains("\ntest result: ok. 1 passed"), "{}: {status}; it said:\n{said}", self.test);
        // What it lacked is told here, too: its own output is seen by nobody.
        for (_, missing) in said.lines().filter_map(|line| line.split_once(real::SKIPPED)) {
            let _ = writeln!(std::io::stderr(), "{}{missing}", real::SKIPPED);
        }
        Some(said)
    }

    /// Tries whether such a network can be had; else a sentence that says why not.
    fn attempt(&self) -> Result<(), String> {
        let outcome = self.inside().arg("true").output().map_err(|e| format!("unshare cannot be started: {e}"))?;
        if outcome.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&outcome.stderr).trim().replace('\n', "; ");
        Err(format!(
            "a network of its own cannot be had here ({why}); run the tests as root of a machine or of a privileged container"
        ))
    }

    /// A command inside the network; what it runs is still to be added.
    fn inside(&self) -> Command {
        let range = self.ports.map_or(String::new(), |(low, high)| format!("{low} {high}"));
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "/bin/sh", "-c", PREPARE, "testkit-netns"]).arg(range);
        command
    }
}

const MARK: &str = "TESTKIT_ALONE";

/// The sysctl belongs to the network of the process that writes it.
const PREPARE: &str = r#"set -e
PATH=$PATH:/usr/sbin:/sbin
ip link set lo up
if [ -n "$1" ]; then echo "$1" > /proc/sys/net/ipv4/ip_local_port_range; fi
shift
exec "$@""#;

/// The range from which outgoing connections of this process get their ports.
pub fn local_ports() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_whitespace().map(|n| n.parse().ok());
    Some((ends.next()??, ends.next()??))
}
