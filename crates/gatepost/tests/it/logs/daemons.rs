//! Syslog and systemd's journal: a daemon that a test owns, one that stops reading, and systemd's own. And the rotation of a
//! file.

use super::fail2ban::{all_kinds, hits, judged, login, ours};
use super::{FORMATS, House};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use testkit::process::Process;
use testkit::wait::{PATIENCE, until};
use testkit::{Dir, Log, Protocol, real};

/// A daemon that keeps what it gets.
struct Daemon {
    socket: UnixDatagram,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    fn at(path: &Path) -> Daemon {
        let socket = UnixDatagram::bind(path).unwrap();
        Daemon { socket, heard: Arc::default() }
    }

    /// Begins to read.
    fn listen(&self) {
        let (socket, heard) = (self.socket.try_clone().unwrap(), Arc::clone(&self.heard));
        socket.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        std::thread::spawn(move || {
            let mut datagram = [0; 65536];
            while let Ok(octets @ 1..) = socket.recv(&mut datagram) {
                let text = String::from_utf8(datagram[..octets].to_vec()).expect("a log is UTF-8");
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        });
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has heard this.
    #[track_caller]
    fn wait_for(&self, piece: &str) -> String {
        let find = || self.heard().into_iter().find(|said| said.contains(piece));
        until(piece, || find().is_some());
        find().unwrap()
    }
}

impl Drop for Daemon {
    /// Ends its reader too.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn syslog_hears_each_line_and_fail2ban_reads_it() {
    let Some(_) = real::require("fail2ban") else { return };
    for format in FORMATS {
        let dir = Dir::new();
        let daemon = Daemon::at(&dir.join("socket"));
        daemon.listen();
        let socket = dir.join("socket").display().to_string();
        let log = format!("format = \"{format}\"\ntarget = \"syslog\"\nsocket = \"{socket}\"\nfacility = \"local3\"");
        let house = House::start(&log, "");
        let expected = all_kinds(&house);
        house.gate.gatepost.stop();
        daemon.wait_for(if format.starts_with("dovecot") { "gatepost: stopped: " } else { "stopped" });
        let name = if format.starts_with("dovecot") { "dovecot" } else { "gatepost" };
        // As a daemon writes it: the name of the host goes between.
        let mut file = String::new();
        for said in daemon.heard() {
            assert!(!said.contains('\n'), "{said:?}");
            let (priority, rest) = said.strip_prefix('<').unwrap().split_once('>').unwrap();
            let severity = priority.parse::<u8>().unwrap() - 19 * 8;
            assert!([3, 4, 6, 7].contains(&severity), "{said}");
            let (date, message) = rest.split_at(16);
            assert!(date.ends_with(' ') && message.starts_with(&format!("{name}[")), "{said}");
            assert!(!message.contains("-login: Info: "), "{said}");
            file.push_str(&format!("{date}mail {message}\n"));
        }
        let file = dir.write("mail.log", file);
        for found in judged(format, &dir, &file) {
            assert_eq!(found, expected, "{format}");
        }
    }
}

#[test]
fn a_daemon_that_stops_reading_holds_nobody_up() {
    for target in ["syslog", "journald"] {
        let dir = Dir::new();
        let daemon = Daemon::at(&dir.join("socket"));
        let socket = dir.join("socket").display().to_string();
        // Nobody reads from the first line on.
        let house = House::start(&format!("target = \"{target}\"\nsocket = \"{socket}\""), "");
        // For longer than the writer waits, however quick the logins are.
        let began = Instant::now();
        let mut logins = 0..;
        while let Some(n) = logins.next().filter(|n| *n < 300 || began.elapsed() < Duration::from_secs(2)) {
            let (protocol, user) = if n % 2 == 0 { (Protocol::Imap, "alice") } else { (Protocol::Pop3, "paula") };
            assert!(login(&house, protocol, 31, user, "right"));
        }
        daemon.listen();
        daemon.wait_for("ready");
        // It reads again: what is said now arrives, and how much was lost.
        assert!(!login(&house, Protocol::Imap, 32, "nobody", "wrong"));
        daemon.wait_for("127.0.0.32");
        let dropped = daemon.wait_for("log-dropped");
        let lines = dropped.split("lines=").nth(1).unwrap().split(' ').next().unwrap();
        assert!(lines.parse::<usize>().unwrap() > 10, "{dropped}");
        // And one that was started anew is found.
        drop(daemon);
        std::fs::remove_file(dir.join("socket")).unwrap();
        let daemon = Daemon::at(&dir.join("socket"));
        daemon.listen();
        assert!(!login(&house, Protocol::Imap, 33, "nobody", "wrong"));
        daemon.wait_for("127.0.0.33");
        house.gate.gatepost.stop();
    }
}

/// A real journald, in a tree of mounts of its own, that listens and keeps its files in our directory.
struct Journald {
    _process: Process,
    dir: Dir,
}

impl Journald {
    fn start() -> Journald {
        let dir = Dir::new();
        dir.create("sockets");
        dir.create("kept");
        let script = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
mount --bind "$1/sockets" /run/systemd/journal
mount --bind "$1/kept" /run/log/journal
exec /lib/systemd/systemd-journald
"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "journald"]).arg(dir.path());
        let mut process = Process::start(command, dir.join("output"));
        process.wait_until("journald listens", || dir.join("sockets/socket").exists());
        Journald { _process: process, dir }
    }

    fn socket(&self, name: &str) -> String {
        self.dir.join("sockets").join(name).display().to_string()
    }

    /// The directory below which its files are, named after this machine.
    fn files(&self) -> std::path::PathBuf {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap();
        self.dir.join("kept").join(machine.trim())
    }

    /// Its entries that match, as journalctl tells them.
    #[track_caller]
    fn entries(&self, matches: &[&str]) -> Vec<serde_json::Value> {
        let mut command = Command::new("journalctl");
        command.arg("--directory").arg(self.files()).args(["--output=json", "--no-pager", "--quiet"]).args(matches);
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

#[test]
fn systemds_own_journal_takes_fields_and_fail2ban_reads_them_there() {
    for peer in ["journald", "python3-systemd", "fail2ban"] {
        let Some(_) = real::require(peer) else { return };
    }
    // Its own protocol; and what it takes as a syslog daemon.
    for (target, socket) in [("journald", "socket"), ("syslog", "dev-log")] {
        for format in FORMATS {
            let journald = Journald::start();
            let socket = journald.socket(socket);
            until("the socket is there", || Path::new(&socket).exists());
            let log = format!("format = \"{format}\"\ntarget = \"{target}\"\nsocket = \"{socket}\"");
            let house = House::start(&log, "");
            let expected = all_kinds(&house);
            let id = house.gate.gatepost.id().to_string();
            house.gate.gatepost.stop();
            let name = if format.starts_with("dovecot") { "dovecot" } else { "gatepost" };
            let by = format!("SYSLOG_IDENTIFIER={name}");
            let ended = || {
                let said = |entry: &serde_json::Value| entry["MESSAGE"].as_str().is_some_and(|said| said.contains("stopped"));
                journald.entries(&[&by]).iter().any(said)
            };
            until("the last line is there", ended);
            for entry in journald.entries(&[&by]) {
                assert_eq!((entry["SYSLOG_PID"].as_str(), entry["SYSLOG_FACILITY"].as_str()), (Some(&*id), Some("2")), "{entry}");
            }
            if target == "journald" {
                let of_carol = journald.entries(&["GATEPOST_USER=carol"]);
                assert_eq!(of_carol.len(), 1);
                let field = |name: &str| of_carol[0][name].as_str().unwrap_or_default().to_owned();
                assert_eq!(field("GATEPOST_EVENT"), "refused");
                assert_eq!(field("GATEPOST_REASON"), "backend-credentials");
                assert!(field("GATEPOST_CLIENT").starts_with("127.0.0.14:"));
                assert!(field("GATEPOST_TEXT").ends_with("not \"you\" <rip=6.6.6.6>"));
                assert_eq!(field("PRIORITY"), "6");
            }
            let log = format!("systemd-journal[journalpath={}]", journald.files().display());
            let found = hits(&["-m", &by], &ours(), Path::new(&log));
            assert_eq!(found, expected, "{target} {format}");
        }
    }
}

#[test]
fn a_file_is_opened_anew_on_sigusr1_and_nothing_else_happens() {
    let mut house = House::with_file("text", "");
    let mut on = house.gate.client();
    assert!(on.login("alice", "right").is_ok());
    let (current, old) = (house.dir.join("log"), house.dir.join("log.1"));
    Log::at(&current).wait_for(" info login ");
    std::fs::rename(&current, &old).unwrap();
    house.gate.gatepost.signal(Signal::USR1);
    until("the file is there again", || current.exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&current).unwrap().permissions());
    assert_eq!(mode & 0o137, 0, "names and addresses are not for everybody: {mode:o}");
    on.logout();
    Log::at(&current).wait_for(" info end ");
    let (_dir, lines) = house.lines();
    let before = Log::at(&old).lines();
    assert!(before.iter().any(|line| line.contains(" info login ")) && !before.iter().any(|line| line.contains(" end ")));
    assert!(!lines.iter().any(|line| line.contains("reload")), "{lines:#?}");
}

#[test]
fn a_reload_moves_the_log_and_mixes_nothing() {
    let dir = Dir::new();
    let daemon = Daemon::at(&dir.join("socket"));
    daemon.listen();
    let mut house = House::with_file("json", "");
    let (config, log) = (house.gate.gatepost.dir().join("gatepost.toml"), house.dir.join("log"));
    let text = std::fs::read_to_string(config).unwrap();
    let file = format!("format = \"json\"\nfile = \"{}\"", log.display());
    assert!(text.contains(&file));
    let socket = dir.join("socket").display().to_string();
    let other = text.replace(&file, &format!("format = \"dovecot-2.4\"\ntarget = \"syslog\"\nsocket = \"{socket}\""));
    assert!(login(&house, Protocol::Imap, 31, "alice", "right"));
    house.gate.gatepost.reload_with(&other);
    daemon.wait_for("gatepost: reloaded: ");
    assert!(login(&house, Protocol::Imap, 32, "alice", "right"));
    daemon.wait_for("rip=127.0.0.32");
    house.gate.gatepost.reload_with(&text);
    Log::at(&log).wait_for_count("\"event\":\"reloaded\"", 1);
    assert!(login(&house, Protocol::Imap, 33, "alice", "right"));
    let (_dir, lines) = house.lines();
    let mut clients = BTreeMap::new();
    for line in lines {
        let read: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        if read["event"] == "login" {
            let client = read["client"].as_str().unwrap().split(':').next().unwrap().to_owned();
            *clients.entry(client).or_insert(0) += 1;
        }
    }
    assert_eq!(clients, BTreeMap::from([("127.0.0.31".to_owned(), 1), ("127.0.0.33".to_owned(), 1)]));
    assert!(daemon.heard().iter().all(|said| said.starts_with('<') && !said.contains('\n')));
    // Nobody there is an error at the start.
    let start = "version = 1\n[[listen]]\nprotocol = \"imap\"\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n";
    let rest = "[log]\ntarget = \"journald\"\nsocket = \"/nonexistent/socket\"\n[server]\nname = \"a.test\"\ncontrol = \"c\"\n";
    let users = crate::gate::everybody_at("127.0.0.1:1".parse().unwrap(), "");
    let (code, said) = testkit::gatepost::Gatepost::refuses(crate::gate::BINARY, &format!("{start}{users}{rest}"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("log.target journald, socket /nonexistent/socket: "), "{said}");
}
