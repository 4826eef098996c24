//! Listeners on unix sockets: who may connect, whose client one is, and what becomes of the file.

use crate::gate::{BINARY, Gate, Want, config, echo_backend, everybody_at};
use crate::upgrade::{signal, upgrade, wait_for_end};
use rustix::process::Signal;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::certs::Authority;
use testkit::dovecot::{Backend, Options};
use testkit::gatepost::Gatepost;
use testkit::peer::{Client, FakeServer};
use testkit::wait::until;
use testkit::{Dir, real};

/// A listener at `imap.sock` beside the configuration.
fn listener(more: &str) -> String {
    format!("[[listen]]\nprotocol = \"imap\"\naddress = \"unix:imap.sock\"\n{more}\n")
}

/// The configuration with that listener and more.
fn text(backend: &FakeServer, more: &str) -> String {
    config(&Want { users: &everybody_at(backend.addr(), ""), more, ..Default::default() })
}

fn started(text: &str) -> (Gatepost, PathBuf) {
    let gate = Gate::start_with(Dir::new(), text);
    let path = gate.gatepost.dir().join("imap.sock");
    (gate.gatepost, path)
}

/// What it says when it must not start, in a directory that was made ready.
fn refused(dir: Dir, text: &str) -> (Option<i32>, String, Dir) {
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let file = dir.write("gatepost.toml", text);
    let out = Command::new(BINARY).args(["run", "--config"]).arg(&file).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned(), dir)
}

fn ask(gatepost: &Gatepost, words: &[&str]) -> String {
    let file = gatepost.dir().join("gatepost.toml");
    let out = Command::new(BINARY).args(words).arg("--config").arg(file).output().unwrap();
    // The exit code of `status` is about the certificate of these tests as well.
    assert!(out.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn reload(gatepost: &mut Gatepost, text: &str) {
    let log = gatepost.log().from_here();
    gatepost.reload_with(text);
    log.wait_for("the new configuration is in force");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

#[track_caller]
fn signed_in(path: &Path, user: &str) -> Client {
    let mut client = Client::greeted_unix(path);
    assert!(client.login(user, "x").is_ok());
    client
}

fn ids_of(user: &str) -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user)).expect("the user is there");
    let id = |column| line.split(':').nth(column).and_then(|id| id.parse().ok()).unwrap();
    (id(2), id(3))
}

#[test]
fn a_unix_client_is_one_of_this_host_at_a_real_dovecot_and_for_whoever_asks() {
    let Some(_) = real::require("dovecot") else { return };
    let dovecot = Backend::start(Options { trusted: "127.0.0.1".into(), ..Default::default() });
    let (gatepost, path) = started(&config(&Want {
        users: &everybody_at(dovecot.imap(), ""),
        more: &listener("connections = 2"),
        ..Default::default()
    }));
    let mut client = Client::greeted_unix(&path);
    // No TLS, and a password may be said: nobody can listen, and the client is on this host.
    let offered = client.command("CAPABILITY").untagged_text();
    assert!(offered.contains("AUTH=PLAIN") && !offered.contains("STARTTLS"), "{offered}");
    assert!(client.login("alice", "alice-secret").is_ok(), "{}", gatepost.log().tail());
    assert!(client.command("SELECT INBOX").is_ok());
    let line = dovecot.login_line(1);
    assert!(line.contains("user=<alice>") && line.contains("rip=127.0.0.1"), "{line}");
    let name = format!("unix:{}", path.display());
    gatepost.wait_for(&format!("imap (none) on {name}"));
    gatepost.wait_for("client=127.0.0.1:0");
    for words in [&["status"][..], &["sessions", "--json"]] {
        let said = ask(&gatepost, words);
        assert!(said.contains(&name), "{words:?}: {said}");
    }
    let explained = ask(&gatepost, &["explain", "login", "alice", "--listener", &name]);
    assert!(explained.contains(&format!("imap on {name}")) && explained.contains("127.0.0.1"), "{explained}");
    assert!(ask(&gatepost, &["show", "--effective"]).contains(&format!("address = \"{name}\"\nsocket_mode = \"0660\"\n")));
    // The limit of the listener holds, and who is too many hears why.
    let second = Client::greeted_unix(&path);
    let mut third = Client::connect_unix(&path);
    assert!(third.expect_line("").contains("BYE Too many connections"));
    drop(second);
    client.logout();
    gatepost.wait_for(" info end ");
    gatepost.stop();
    assert!(!path.exists(), "the end removes it");
}

#[test]
fn a_unix_client_counts_as_127_0_0_1_for_trust_and_limits() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), "");
    let want = Want { users: &users, limits: "connections_before_login = 1", more: &listener(""), ..Default::default() };
    let (gatepost, path) = started(&config(&want));
    let waiting = Client::greeted_unix(&path);
    // One place before login for all of them.
    let mut second = Client::connect_unix(&path);
    assert!(second.expect_line("").contains("BYE"));
    let mut third = Client::connect_from(IpAddr::V4(Ipv4Addr::LOCALHOST), gatepost.addr("imap"));
    assert!(third.expect_line("").contains("BYE"));
    drop((waiting, gatepost));

    let trust = "networks = [\"127.0.0.1\"]\nproxy_protocol = [\"127.0.0.2\"]";
    let (gatepost, path) = started(&config(&Want { users: &users, trust, more: &listener(""), ..Default::default() }));
    let mut client = Client::greeted_unix(&path);
    assert!(client.command("ID (\"x-originating-ip\" \"192.0.2.7\")").is_ok());
    assert!(client.login("alice", "x").is_ok());
    let line = gatepost.wait_for(" info login ");
    assert!(line.contains("client=192.0.2.7") && line.contains("via=127.0.0.1"), "{line}");
}

#[test]
fn a_proxy_header_is_read_from_a_trusted_peer() {
    let backend = echo_backend();
    let users = everybody_at(backend.addr(), "");
    let more = listener("proxy_protocol = \"required\"\ncleartext_auth = \"always\"");
    let trust = "proxy_protocol = [\"127.0.0.1\"]";
    let (gatepost, path) = started(&config(&Want { users: &users, trust, more: &more, ..Default::default() }));
    let mut client = Client::connect_unix(&path);
    client.send("PROXY TCP4 192.0.2.9 192.0.2.1 4711 143\r\n");
    client.greeting();
    assert!(client.login("alice", "x").is_ok());
    let line = gatepost.wait_for(" info login ");
    assert!(line.contains("client=192.0.2.9:4711"), "{line}");
}

#[test]
fn tls_is_spoken_where_it_is_written() {
    let backend = echo_backend();
    let more = listener("tls = \"starttls\"\ncleartext_auth = \"never\"");
    let gate = Gate::start_with(Dir::new(), &text(&backend, &more));
    let mut client = Client::greeted_unix(&gate.gatepost.dir().join("imap.sock"));
    client.starttls(&gate.tls, "localhost");
    assert!(client.login("alice", "x").is_ok());
}

#[test]
fn the_file_has_the_rights_that_are_written_and_is_the_service_user_s() {
    let backend = echo_backend();
    let (gatepost, path) = started(&text(&backend, &listener("")));
    assert_eq!(mode(&path), 0o660);
    drop(gatepost);
    if !real::require_root("files are given to others") {
        return;
    }
    let ((uid, gid), (_, mail)) = (ids_of("nobody"), ids_of("daemon"));
    let dir = Dir::new();
    let certificate = Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    for path in [certificate.key_file.as_path(), dir.path()] {
        chown(path, Some(uid), None).unwrap();
    }
    let more = "[[listen]]\nprotocol = \"imap\"\naddress = \"unix:own.sock\"\nsocket_mode = \"0600\"\n";
    let more = listener("socket_mode = \"0620\"\nsocket_group = \"daemon\"") + more;
    let text = text(&backend, &more).replacen("[server]\n", "[server]\nuser = \"nobody\"\n", 1);
    let mut gatepost = Gatepost::start_in(dir, BINARY, &text, |_| {});
    let (path, own) = (gatepost.dir().join("imap.sock"), gatepost.dir().join("own.sock"));
    let of = |path: &Path| std::fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
    assert_eq!((of(&path), mode(&path)), ((uid, mail), 0o620));
    assert_eq!((of(&own), mode(&own)), ((uid, gid), 0o600));
    signed_in(&path, "alice").logout();
    // Without root's rights now: what can be given is, and what cannot is told and kept.
    reload(&mut gatepost, &text.replace("0600", "0666"));
    assert_eq!((of(&own), mode(&own)), ((uid, gid), 0o666));
    let log = gatepost.log().from_here();
    reload(&mut gatepost, &text.replace("\"0600\"\n", "\"0600\"\nsocket_group = \"daemon\"\n"));
    log.wait_for("its rights stay as they are");
    assert_eq!(of(&own), (uid, gid));
    signed_in(&own, "alice").logout();
    gatepost.stop();
    assert!(!path.exists() && !own.exists(), "the service user may remove them");
}

#[test]
fn what_stands_in_the_way_is_told_and_what_is_left_behind_makes_room() {
    let backend = echo_backend();
    let text = text(&backend, &listener(""));
    let dir = Dir::new();
    let path = dir.join("imap.sock");
    let _busy = UnixListener::bind(&path).unwrap();
    let (code, said, dir) = refused(dir, &text);
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("cannot listen on unix:{}", path.display())), "{said}");
    assert!(said.contains("a running program answers there") && said.contains("gatepost.toml:"), "{said}");
    assert!(UnixStream::connect(&path).is_ok(), "and is left alone");
    drop(dir);

    let dir = Dir::new();
    dir.write("imap.sock", "a letter");
    let (code, said, dir) = refused(dir, &text);
    assert!(code == Some(1) && said.contains("something else than a socket is there"), "{said}");
    assert_eq!(std::fs::read_to_string(dir.join("imap.sock")).unwrap(), "a letter");

    let (code, said, dir) = refused(Dir::new(), &text.replace("unix:imap.sock", "unix:none/imap.sock"));
    assert!(code == Some(1) && said.contains("none/imap.sock: No such file or directory"), "{said}");
    drop(dir);
    let (code, said, dir) = refused(Dir::new(), &text.replace("imap.sock\"", "imap.sock\"\nsocket_group = \"no-such-group\""));
    assert!(code == Some(1) && said.contains("socket_group no-such-group: there is no such name in /etc/group"), "{said}");
    // What was opened before the start failed is not left behind.
    assert!(!dir.join("imap.sock").exists());
    let (code, said, dir) = refused(
        dir,
        &text
            .replace("driver = \"static\"", "driver = \"sqlite\"\npath = \"gate.pem\"\nquery = \"SELECT 1\"")
            .replace("fields = {", "default_fields = {"),
    );
    assert!(code == Some(78) && !dir.join("imap.sock").exists(), "{code:?} {said}");

    let dir = Dir::new();
    drop(UnixListener::bind(dir.join("imap.sock")).unwrap());
    let gate = Gate::start_with(dir, &text);
    signed_in(&gate.gatepost.dir().join("imap.sock"), "alice").logout();
}

#[test]
fn a_reload_opens_changes_and_closes_it() {
    let backend = echo_backend();
    let without = text(&backend, "");
    let (mut gatepost, path) = started(&without);
    assert!(!path.exists());
    reload(&mut gatepost, &text(&backend, &listener("")));
    let mut old = signed_in(&path, "alice");
    let number = inode(&path);
    reload(&mut gatepost, &text(&backend, &listener("socket_mode = \"0666\"")));
    assert_eq!((inode(&path), mode(&path)), (number, 0o666));
    // A file that cannot be put into force changes nothing.
    let log = gatepost.log().from_here();
    let more = listener("").replace("imap.sock", "other.sock")
        + &listener("socket_group = \"no-such-group\"").replace("imap.sock", "third.sock");
    gatepost.reload_with(&text(&backend, &more));
    log.wait_for("the old configuration stays in force");
    assert!(path.exists() && !gatepost.dir().join("other.sock").exists());
    signed_in(&path, "bob").logout();
    // Something else is spoken at the same socket, and nobody is refused.
    reload(&mut gatepost, &text(&backend, &listener("").replace("\"imap\"", "\"pop3\"")));
    assert_eq!(inode(&path), number);
    until("POP3 is spoken there", || {
        let mut line = [0; 3];
        let socket = UnixStream::connect(&path).expect("somebody always listens");
        std::io::Read::read_exact(&mut &socket, &mut line).is_ok() && &line == b"+OK"
    });
    assert!(old.command("NOOP").is_ok());
    reload(&mut gatepost, &without);
    assert!(!path.exists());
    assert!(old.command("NOOP").is_ok(), "a session of a closed listener goes on");
    old.logout();
    // And again: what is there now is not the file of before.
    reload(&mut gatepost, &text(&backend, &listener("")));
    signed_in(&path, "alice").logout();
    gatepost.stop();
    assert!(!path.exists());
}

#[test]
fn an_upgrade_hands_it_over_without_a_gap() {
    let backend = echo_backend();
    let with = text(&backend, &(listener("") + &listener("").replace("imap.sock", "second.sock")));
    let (gatepost, path) = started(&with);
    let (dir, second) = (gatepost.dir().path().to_owned(), gatepost.dir().join("second.sock"));
    let number = inode(&path);
    let mut old = signed_in(&path, "alice");
    let first = gatepost.id();
    // A successor that cannot start changes nothing.
    gatepost.dir().write("gate.key.away", std::fs::read(dir.join("gate.key")).unwrap());
    gatepost.dir().write("gate.key", "rubbish");
    upgrade(&dir).expect_err("the key is none");
    assert!(path.exists() && second.exists());
    signed_in(&path, "bob").logout();
    std::fs::rename(dir.join("gate.key.away"), dir.join("gate.key")).unwrap();

    let stop = std::sync::atomic::AtomicBool::new(false);
    let successor = std::thread::scope(|scope| {
        let (stop, path) = (&stop, &path);
        let stream = scope.spawn(move || {
            let mut served = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                signed_in(path, "stream").logout();
                served += 1;
            }
            served
        });
        // The successor's configuration has one of them only.
        gatepost.dir().write("gatepost.toml", text(&backend, &listener("socket_mode = \"0600\"")));
        let successor = upgrade(&dir).unwrap_or_else(|why| panic!("{why:?}; {}", gatepost.log().tail()));
        until("the one that is no more is gone", || !second.exists());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(stream.join().unwrap() > 0);
        successor
    });
    assert_eq!(inode(&path), number, "the same queue all the time");
    until("what is new in the file is in force", || mode(&path) == 0o600);
    assert!(old.command("NOOP").is_ok());
    old.logout();
    wait_for_end(first);
    assert!(path.exists(), "the successor has it");
    let again = upgrade(&dir).unwrap_or_else(|why| panic!("{why:?}; {}", gatepost.log().tail()));
    wait_for_end(successor);
    signed_in(&path, "carol").logout();
    signal(again, Signal::TERM);
    wait_for_end(again);
    assert!(!path.exists());
}

#[test]
fn one_of_systemd_is_served_and_left_to_it() {
    let Some(activate) = real::require("systemd-socket-activate") else { return };
    let backend = echo_backend();
    let dir = Dir::new();
    Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    let path = dir.join("imap.sock");
    let mut first = None;
    let gatepost = Gatepost::start_in(dir, BINARY, &text(&backend, &listener("socket_mode = \"0600\"")), |command| {
        let words: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let dir = command.get_current_dir().unwrap().to_owned();
        *command = Command::new(&activate);
        command.arg("-l").arg(&path).arg(BINARY).args(words).current_dir(dir);
        let path = path.clone();
        first = Some(std::thread::spawn(move || {
            until("systemd-socket-activate listens", || UnixStream::connect(&path).is_ok());
            signed_in(&path, "first")
        }));
    });
    let first = first.unwrap().join().expect("the client that started it");
    assert_ne!(mode(&path), 0o600, "its rights are those of the socket unit");
    first.logout();
    let successor = upgrade(gatepost.dir().path()).unwrap_or_else(|why| panic!("{why:?}; {}", gatepost.log().tail()));
    signed_in(&path, "second").logout();
    signal(successor, Signal::TERM);
    wait_for_end(successor);
    assert!(path.exists(), "whoever made it removes it");
}
