//! Letters while they are here: large ones arrive whole, many at once cost little memory, and nothing of them is left behind,
//! whatever becomes of us or of the disk.

use crate::gate::BINARY;
use crate::lmtp::{config, gatepost};
use rustix::process::Signal as UnixSignal;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use testkit::dovecot::{Backend, Options};
use testkit::gatepost::Gatepost;
use testkit::peer::{At, Does, FakeLmtp, Lmtp, LmtpClient, Signal};
use testkit::wait::until;
use testkit::{Dir, real};

const MIB: usize = 1024 * 1024;
/// Sending as much as here takes a while on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many clients bring a letter at the same time.
const CLIENTS: usize = 200;
/// The letter of each of them.
const LETTER: usize = 2 * MIB;
/// What all of them may cost together, the program itself included: four tenths of the letters, whose size does not matter to it.
const MOST_KIB: u64 = 160 * 1024;

fn letter(size: usize) -> Vec<u8> {
    let mut letter = b"Subject: large\r\n\r\n".to_vec();
    let mut n = 0_u32;
    while letter.len() + 64 < size {
        // No line is as another, and some begin with a dot.
        let line = format!("{}{n:010} {:046x}\r\n", if n.is_multiple_of(7) { "." } else { "-" }, u128::from(n).pow(3));
        letter.extend_from_slice(line.as_bytes());
        n += 1;
    }
    letter.resize(size - 2, b'e');
    letter.extend_from_slice(b"\r\n");
    letter
}

/// A Gatepost that keeps its letters in a directory of the test's.
fn keeping(dir: Dir, users: &[(String, String)], more: &str) -> Gatepost {
    let temp = dir.create("letters");
    let config = config(&dir, users, &format!("temp_dir = \"{}\"", temp.display()), more);
    Gatepost::start_in(dir, BINARY, &config, |_| {})
}

fn left(temp: &Path) -> Vec<String> {
    fs::read_dir(temp).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// How many files without a name this process has open there.
fn held(gatepost: &Gatepost, temp: &Path) -> usize {
    let links = fs::read_dir(format!("/proc/{}/fd", gatepost.id())).unwrap();
    links.flatten().filter_map(|link| fs::read_link(link.path()).ok()).filter(|to| to.starts_with(temp)).count()
}

/// The most resident memory that it ever had, in KiB.
fn most_resident(gatepost: &Gatepost) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gatepost.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn patient(gatepost: &Gatepost) -> LmtpClient {
    let mut client = LmtpClient::ready(gatepost.addr("lmtp"));
    client.set_patience(PATIENCE);
    client
}

#[test]
fn the_largest_letter_arrives_whole_and_a_larger_one_is_refused() {
    let fake = FakeLmtp::start(Lmtp::default());
    let to = ["a@in.test", "b@in.test"];
    let users = to.map(|user| (user.to_owned(), format!("host=127.0.0.1 port={}", fake.port())));
    let dir = Dir::new();
    let temp = dir.join("letters");
    let gatepost = keeping(dir, &users, "");
    let mut client = patient(&gatepost);
    let largest = letter(50 * MIB);
    let heard = client.transaction("s@out.test", &to, &largest);
    assert!(heard.iter().all(|reply| reply.code == 250), "{heard:?}\n{}", gatepost.log().tail());
    fake.wait_for("the letter, whole", |sessions| {
        sessions.iter().flat_map(|s| &s.transactions).any(|t| t.message.as_ref().is_some_and(|m| m.ends_with(&largest)))
    });
    drop(largest);
    fake.behave(Lmtp { keeps_data: false, ..Lmtp::default() });
    // By its size, by BDAT, and when it is there.
    let said = client.command(format!("MAIL FROM:<s@out.test> SIZE={}", 52 * MIB));
    assert!(said.text().starts_with("552 5.3.4"), "{said:?}");
    let larger = letter(52 * MIB);
    for in_chunks in [false, true] {
        let heard = if in_chunks {
            let at_rcpt = client.envelope("s@out.test", &to);
            client.send_chunk(&larger, true);
            let first = client.reply();
            // Refused as a whole, or for each recipient.
            let mut heard = vec![first];
            client.send_line("NOOP");
            while heard.len() < at_rcpt.len() + 1 && heard.last().is_some_and(|reply| reply.code != 250) {
                heard.push(client.reply());
            }
            assert_eq!(heard.pop().map(|reply| reply.code), Some(250), "{heard:?}");
            heard
        } else {
            client.transaction("s@out.test", &to, &larger)
        };
        assert!(!heard.is_empty() && heard.iter().all(|reply| reply.text().starts_with("552 5.3.4")), "{heard:?}");
        client.ok("RSET");
        let heard = client.transaction("s@out.test", &to, &letter(300));
        assert!(heard.iter().all(|reply| reply.code == 250), "{heard:?}");
    }
    fake.wait_for("only the others", |sessions| {
        sessions.iter().flat_map(|s| &s.transactions).filter(|t| t.is_complete()).count() == 3
    });
    until("no letter is held", || held(&gatepost, &temp) == 0);
    assert_eq!(left(&temp), Vec::<String>::new());
}

#[test]
fn a_large_letter_lies_at_a_dovecot_as_it_was() {
    if real::require("dovecot").is_none() {
        return;
    }
    let dovecot = Backend::start(Options::default());
    let gatepost = gatepost(&[("alice@in.test".into(), format!("host=127.0.0.1 port={}", dovecot.lmtp().port()))], "");
    let large = letter(20 * MIB);
    let heard = patient(&gatepost).transaction("s@out.test", &["alice@in.test"], &large);
    assert_eq!(heard[0].code, 250, "{heard:?}\n{}", gatepost.log().tail());
    let there = dovecot.delivered("alice").wait_for(1);
    let text = String::from_utf8(large).unwrap().replace("\r\n", "\n");
    assert!(there[0].raw().ends_with(text.as_bytes()), "{} octets are there", there[0].raw().len());
}

#[test]
fn many_large_letters_cost_little_memory() {
    let go = Signal::new();
    let slow = Lmtp { keeps_data: false, ..Lmtp::default() }.with(At::LastChunk, Does::Wait(go.clone()));
    let fake = FakeLmtp::start(slow);
    let dir = Dir::new();
    let temp = dir.join("letters");
    let gatepost = keeping(dir, &[("a@in.test".into(), format!("host=127.0.0.1 port={}", fake.port()))], "");
    let large = letter(LETTER);
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (gatepost, large) = (&gatepost, &large);
            scope.spawn(move || {
                let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, u8::try_from(n % 250 + 1).unwrap()));
                let mut client = LmtpClient::connect_from(from, gatepost.addr("lmtp"));
                client.set_patience(PATIENCE);
                client.greeting();
                client.say_hello();
                let heard = client.transaction("s@out.test", &["a@in.test"], large);
                assert_eq!(heard[0].code, 250, "{heard:?}");
            });
        }
        // All are here, and their server takes none.
        let all = testkit::wait::poll(PATIENCE, || {
            let waiting = |s: &testkit::peer::LmtpSession| s.lines.last().is_some_and(|line| line.starts_with("BDAT"));
            (fake.sessions().iter().filter(|s| waiting(s)).count() == CLIENTS).then_some(())
        });
        let (most, files) = (most_resident(&gatepost), held(&gatepost, &temp));
        println!("{CLIENTS} letters of {LETTER} octets: {most} KiB, of {MOST_KIB}; {files} files");
        go.give();
        assert!(all.is_some(), "{} came", fake.sessions().len());
        assert_eq!((files, left(&temp)), (CLIENTS, Vec::new()));
    });
    let most = most_resident(&gatepost);
    println!("with all of them delivered: {most} KiB");
    assert!(most < MOST_KIB, "{most} KiB");
    let complete = fake.wait_for_complete(CLIENTS);
    assert!(complete.iter().all(|t| t.size > LETTER));
    until("no letter is held", || held(&gatepost, &temp) == 0);
    assert_eq!(left(&temp), Vec::<String>::new());
}

#[test]
fn nothing_is_left_of_a_letter_when_we_are_killed() {
    let fake = FakeLmtp::start(Lmtp::default());
    let dir = Dir::new();
    let temp = dir.join("letters");
    let mut gatepost = keeping(dir, &[("a@in.test".into(), format!("host=127.0.0.1 port={}", fake.port()))], "");
    let mut client = patient(&gatepost);
    client.envelope("s@out.test", &["a@in.test"]);
    client.expect("DATA", "354");
    client.send(letter(2 * MIB));
    until("the letter is held in a file", || held(&gatepost, &temp) == 1);
    assert_eq!(left(&temp), Vec::<String>::new());
    gatepost.signal(UnixSignal::KILL);
    until("it is gone", || !gatepost.is_running());
    assert_eq!(left(&temp), Vec::<String>::new());
    let ends = fake.wait_for_ends(1);
    assert!(ends[0].transactions.iter().all(|t| !t.is_complete()));
}

#[test]
fn a_full_disk_is_try_later_and_leaves_nothing() {
    if real::require("unshare").is_none() || !real::require_root("mounts a small disk") {
        return;
    }
    let fake = FakeLmtp::start(Lmtp::default());
    let to = ["a@in.test", "b@in.test"];
    let users = to.map(|user| (user.to_owned(), format!("host=127.0.0.1 port={}", fake.port())));
    let dir = Dir::new();
    let temp = dir.create("letters");
    // The program, with a disk of 1 MiB that nobody else sees.
    let script = format!(
        "#!/bin/sh\nexec unshare --mount --propagation private -- /bin/sh -c 'mount -t tmpfs -o size=1m letters {} && exec {BINARY} \"$@\"' sh \"$@\"\n",
        temp.display()
    );
    let program = dir.write("program", script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let tried = std::process::Command::new("unshare").args(["--mount", "--", "mount", "-t", "tmpfs", "x"]).arg(&temp).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        real::skip("a disk of its own cannot be mounted here; run the tests as root of a machine or of a privileged container");
        return;
    }
    let config = config(&dir, &users, &format!("temp_dir = \"{}\"", temp.display()), "");
    let gatepost = Gatepost::start_in(dir, program, &config, |_| {});
    let mut client = patient(&gatepost);
    for _ in 0..2 {
        let heard = client.transaction("s@out.test", &to, &letter(4 * MIB));
        assert_eq!(heard.len(), 2);
        assert!(heard.iter().all(|reply| reply.text().starts_with("452 4.3.1")), "{heard:?}\n{}", gatepost.log().tail());
        let said = client.command(format!("MAIL FROM:<s@out.test> SIZE={}", 4 * MIB));
        assert!(said.text().starts_with("452 4.3.1"), "{said:?}");
        // There is room for it only where nothing is left of the other.
        let fits = letter(700 * 1024);
        let heard = client.transaction("s@out.test> SIZE=716800", &to, &fits);
        assert!(heard.iter().all(|reply| reply.code == 250), "{heard:?}\n{}", gatepost.log().tail());
    }
    let complete = fake.wait_for_complete(2);
    assert!(complete.iter().all(|t| t.size > 700 * 1024));
    until("no letter is held", || held(&gatepost, &temp) == 0);
    let seen_by_it = format!("/proc/{}/root{}", gatepost.id(), temp.display());
    assert_eq!(left(Path::new(&seen_by_it)), Vec::<String>::new());
    gatepost.wait_for("temp-dir");
}

#[test]
fn a_letter_at_the_end_of_our_days_is_delivered_or_not_taken() {
    let fake = FakeLmtp::start(Lmtp::default());
    let user = ("a@in.test".to_owned(), format!("host=127.0.0.1 port={}", fake.port()));
    for (drain, in_time) in [("10s", true), ("0s", false)] {
        let mut gatepost = gatepost(std::slice::from_ref(&user), &format!("[limits]\ndrain = \"{drain}\"\n"));
        let delivered = || fake.transactions().iter().filter(|t| !t.taken.is_empty()).count();
        let before = delivered();
        let mut client = patient(&gatepost);
        client.envelope("s@out.test", &["a@in.test"]);
        client.expect("DATA", "354");
        client.send("Subject: x\r\n\r\nfirst half\r\n");
        gatepost.signal(UnixSignal::TERM);
        if !in_time {
            gatepost.wait_for("shutting-down");
        }
        let _ = client.try_send("second half\r\n.\r\n");
        let heard = client.read_line().unwrap_or_default();
        assert_eq!(heard.starts_with("250"), in_time, "{heard:?}\n{}", gatepost.log().tail());
        drop(client);
        until("it is gone", || !gatepost.is_running());
        until("what was heard is so", || delivered() == before + usize::from(in_time));
    }
}
