//! What is left of root's rights when the program has become its service user.

use crate::gate::{BINARY, Want, config, echo_backend, everybody_at};
use std::os::unix::fs::chown;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::Client;
use testkit::{Dir, real};

const USER: &str = "nobody";

#[test]
fn no_thread_keeps_a_right_of_root() {
    if !real::require_root("the program gives its rights up here") {
        return;
    }
    let uid = id_of(USER);
    let backend = echo_backend();
    let dir = Dir::new();
    let certificate = Authority::new(dir.path(), "gate").server("gate", &["localhost"]);
    // The service user reads the key, and writes the ports file.
    for path in [certificate.key_file.as_path(), dir.path()] {
        chown(path, uid.parse().ok(), None).unwrap();
    }
    let text = config(&Want { users: &everybody_at(backend.addr(), ""), ..Default::default() });
    let text = text.replacen("[server]\n", &format!("[server]\nuser = \"{USER}\"\n"), 1);
    let gatepost = Gatepost::start_in(dir, BINARY, &text, |_| {});
    // After a login every thread that serves one has been started.
    let mut client = Client::greeted(gatepost.addr("imap"));
    assert!(client.login("alice", "x").is_ok(), "{}", gatepost.log().tail());
    let mut seen = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", gatepost.id())).unwrap() {
        // A thread may end between the list and the look.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let words = |name: &str| -> Vec<String> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        seen.push((words("Name").join(" "), words("Uid"), words("CapEff"), words("NoNewPrivs")));
    }
    assert!(seen.len() >= 3, "threads for sessions, the journal and the rest: {seen:?}");
    let of_nobody = [&*uid; 4];
    for (name, uids, effective, no_new) in &seen {
        assert_eq!(*uids, of_nobody, "thread {name:?} is not {USER}'s: {seen:?}");
        assert_eq!(*effective, ["0000000000000000"], "thread {name:?} has capabilities: {seen:?}");
        assert_eq!(*no_new, ["1"], "thread {name:?} could get new rights: {seen:?}");
    }
}

fn id_of(user: &str) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user));
    line.and_then(|line| line.split(':').nth(2)).expect("the user is there").to_owned()
}
