//! Which real programs are here, and what happens to a test when one is not.
//!
//! A test begins with `let Some(_) = real::require("dovecot") else { return };`. On a machine without Dovecot it is
//! skipped, with a line on stderr that the test harness does not swallow and, when `GATEPOST_SKIPPED_FILE` names a
//! file, with the same line in that file. With `GATEPOST_REQUIRE_PEERS=1`, as in CI, it fails instead: a skipped test
//! must not look like a passed one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Finds the program that a test needs, or reports the test as skipped and returns `None`.
///
/// # Panics
///
/// When the peer is not usable here and `GATEPOST_REQUIRE_PEERS` is `1`, or when `name` is not a known peer.
#[track_caller]
pub fn require(name: &str) -> Option<PathBuf> {
    match usable(name) {
        Ok(path) => Some(path),
        Err(missing) => {
            skip(&missing);
            None
        }
    }
}

/// Whether the test runs as root, which it needs for `reason`; reports it as skipped where it does not.
///
/// # Panics
///
/// When it does not and `GATEPOST_REQUIRE_PEERS` is `1`.
#[track_caller]
pub fn require_root(reason: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(&format!("{reason}, which needs root; run the tests as root (a container will do)"));
    }
    root
}

/// How a line begins that says that a test was skipped.
pub(crate) const SKIPPED: &str = "SKIPPED-REAL-PEER: ";

/// Reports this test as skipped, for want of what the sentence names.
#[track_caller]
pub fn skip(missing: &str) {
    if std::env::var("GATEPOST_REQUIRE_PEERS").is_ok_and(|v| v == "1") {
        panic!("GATEPOST_REQUIRE_PEERS=1, but {missing}");
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{SKIPPED}{test}: {missing}\n");
    // Straight to the stream: output of the print macros is hidden for tests that pass.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = std::env::var_os("GATEPOST_SKIPPED_FILE") {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let _ = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// The program's path, or a sentence that says what is missing and how to get it.
pub fn usable(name: &str) -> Result<PathBuf, String> {
    let Some(peer) = PEERS.iter().find(|p| p.name == name) else { panic!("{name:?} is not in testkit's table of peers") };
    let install = match peer.package {
        "" => "get it with: ci/install-peers, as root".to_owned(),
        package => format!("install it with: apt-get install {package}"),
    };
    let path = find(peer.program).ok_or_else(|| format!("{} is not here; {install}", peer.program))?;
    if let Some(file) = peer.files.iter().find(|f| !Path::new(f).exists()) {
        return Err(format!("{file} is not here; {install}"));
    }
    if !peer.version.is_empty() {
        let said = Command::new(&path).arg("--version").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let said = said.unwrap_or_default();
        if !said.starts_with(peer.version) {
            return Err(format!("{} has version {:?}; the fixture is written for {}x", peer.program, said.trim(), peer.version));
        }
    }
    if !peer.root.is_empty() && !rustix::process::geteuid().is_root() {
        return Err(format!("{name} {} here and so needs root; run the tests as root (a container will do)", peer.root));
    }
    Ok(path)
}

struct Peer {
    name: &'static str,
    program: &'static str,
    files: &'static [&'static str],
    /// What Debian has it in; empty = it is not installed but unpacked to where only tests look.
    package: &'static str,
    /// What `--version` must begin with; empty = any.
    version: &'static str,
    /// Why it needs root; empty = it does not.
    root: &'static str,
}

// Dovecot 2.4 refuses a 2.3 configuration file (and the other way round), hence the version.
const PEERS: &[Peer] = &[
    Peer {
        name: "dovecot",
        program: "dovecot",
        files: &[
            "/usr/lib/dovecot/imap-login",
            "/usr/lib/dovecot/imap",
            "/usr/lib/dovecot/pop3-login",
            "/usr/lib/dovecot/pop3",
            "/usr/lib/dovecot/managesieve-login",
            "/usr/lib/dovecot/managesieve",
            "/usr/lib/dovecot/submission-login",
            "/usr/lib/dovecot/submission",
            "/usr/lib/dovecot/lmtp",
        ],
        package: "dovecot-imapd dovecot-pop3d dovecot-managesieved dovecot-submissiond dovecot-lmtpd",
        version: "2.3.",
        root: "changes users",
    },
    Peer {
        name: "chromium",
        program: "chromedriver",
        files: &["/usr/lib/chromium/chromium"],
        package: "chromium chromium-driver",
        version: "",
        root: "",
    },
    Peer { name: "haproxy", program: "haproxy", files: &[], package: "haproxy", version: "", root: "" },
    Peer { name: "unshare", program: "unshare", files: &[], package: "util-linux", version: "", root: "makes networks" },
    Peer { name: "ip", program: "ip", files: &[], package: "iproute2", version: "", root: "" },
    Peer {
        name: "fail2ban",
        program: "fail2ban-regex",
        files: &["/etc/fail2ban/filter.d/dovecot.conf"],
        package: "fail2ban",
        version: "",
        root: "",
    },
    Peer {
        name: "journald",
        program: "journalctl",
        files: &["/lib/systemd/systemd-journald", "/etc/machine-id"],
        package: "systemd",
        version: "",
        root: "runs with mounts of its own",
    },
    // For fail2ban, to read systemd's journal.
    Peer {
        name: "python3-systemd",
        program: "python3",
        files: &["/usr/lib/python3/dist-packages/systemd/journal.py"],
        package: "python3-systemd",
        version: "",
        root: "",
    },
    Peer { name: "mpop", program: "mpop", files: &[], package: "mpop", version: "", root: "" },
    Peer { name: "mbsync", program: "mbsync", files: &[], package: "isync", version: "", root: "" },
    Peer { name: "curl", program: "curl", files: &[], package: "curl", version: "", root: "" },
    Peer { name: "openssl", program: "openssl", files: &[], package: "openssl", version: "", root: "" },
    Peer { name: "python3", program: "python3", files: &[], package: "python3", version: "", root: "" },
    Peer {
        name: "systemd-socket-activate",
        program: "systemd-socket-activate",
        files: &[],
        package: "systemd",
        version: "",
        root: "",
    },
    Peer { name: "systemd-analyze", program: "systemd-analyze", files: &[], package: "systemd", version: "", root: "" },
    Peer { name: "promtool", program: "promtool", files: &[], package: "prometheus", version: "", root: "" },
    Peer { name: "sqlite3", program: "sqlite3", files: &[], package: "sqlite3", version: "", root: "" },
    // Not the program `postfix`, which looks after a whole installation: its master is all that runs here.
    Peer {
        name: "postfix",
        program: "/usr/lib/postfix/sbin/master",
        files: &["/usr/lib/postfix/sbin/smtpd", "/usr/lib/postfix/sbin/virtual"],
        package: "postfix",
        version: "",
        root: "changes users",
    },
    // Debian installs either Exim or Postfix. XCLIENT came with 4.97, and there a test must expect other things.
    Peer {
        name: "exim",
        program: "/usr/local/lib/gatepost-peers/exim4/usr/sbin/exim4",
        files: &[],
        package: "",
        version: "Exim version 4.96",
        root: "changes users",
    },
    Peer {
        name: "nginx",
        program: "nginx",
        files: &["/usr/lib/nginx/modules/ngx_mail_module.so"],
        package: "nginx libnginx-mod-mail",
        version: "",
        root: "",
    },
    Peer {
        name: "swaks",
        program: "swaks",
        files: &["/usr/share/perl5/IO/Socket/SSL.pm"],
        package: "swaks libio-socket-ssl-perl",
        version: "",
        root: "",
    },
    Peer { name: "msmtp", program: "msmtp", files: &[], package: "msmtp", version: "", root: "" },
    Peer { name: "sieve-connect", program: "sieve-connect", files: &[], package: "sieve-connect", version: "", root: "" },
    // With Debian's Python: its packages are not there for another one.
    Peer {
        name: "python3-sievelib",
        program: "/usr/bin/python3",
        files: &["/usr/lib/python3/dist-packages/sievelib/managesieve.py"],
        package: "python3-sievelib",
        version: "",
        root: "",
    },
];

fn find(program: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons out of the path of ordinary users.
    let dirs = std::env::split_paths(&search).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file())
}
