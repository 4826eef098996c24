//! Lines, whatever is in them; targets that cannot keep up; and changes of the target.

use super::*;
use crate::config::meant::{DovecotVersion, LogFacility};
use proptest::prelude::*;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use text::unprintable;

const FORMATS: [Format; 4] =
    [Format::Text, Format::Json, Format::Dovecot(DovecotVersion::V2_3), Format::Dovecot(DovecotVersion::V2_4)];
const EVENTS: [&str; 6] = ["login", "end", "refused", "disconnect", "held", "backend-failing"];
const FACILITY: LogFacility = LogFacility::new(2);

fn shapes() -> [Shape; 3] {
    [Shape::Line, Shape::Syslog { facility: 2 }, Shape::Journald { facility: 2 }]
}

fn words<'a>(user: &'a &'a str) -> [(&'static str, Word<'a>); 2] {
    [("user", Word::Text(user)), ("bytes", Word::Number(7))]
}

fn json_of(user: &str) -> serde_json::Value {
    serde_json::from_str(&json::message("T", Level::Info, "login", &words(&user))).unwrap()
}

fn all_of<'a>(text: &'a &'a str) -> Vec<(&'static str, Word<'a>)> {
    let client = &"192.0.2.1:5";
    let mut words = vec![("protocol", Word::Text(&"imap")), ("client", Word::Text(client)), ("reached", Word::Dovecot(client))];
    for name in ["user", "host", "destuser", "master", "mechanism", "reason", "text", "by", "user_\"\n", "backend"] {
        words.push((name, Word::Text(text)));
    }
    words.push(("session", Word::Text(&"SESSION")));
    words
}

fn lines_of(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (format, shape) in FORMATS.into_iter().flat_map(|format| shapes().map(|shape| (format, shape))) {
        for event in EVENTS {
            lines.push(shape.line(format, Level::Info, event, &all_of(&text)));
        }
    }
    lines
}

/// What a datagram for journald holds must be as many fields as were meant, and nothing else.
fn one_line_of(line: &str) -> &str {
    let Some(fields) = line.strip_prefix("MESSAGE=") else { return line.trim_end_matches('\n') };
    let (message, fields) = fields.split_once('\n').unwrap();
    assert!(fields.ends_with('\n'), "{fields:?}");
    for field in fields.lines() {
        let (name, _) = field.split_once('=').unwrap_or_else(|| panic!("no field: {field:?}"));
        let known = ["PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID"].contains(&name);
        let ours = name.starts_with("GATEPOST_") && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        assert!(known || ours, "{field:?}");
    }
    message
}

#[test]
fn one_event_is_one_line_whatever_is_in_it() {
    let evil = "a\r\n2026-01-01 info login user=root\x1b[2J\u{202e}\u{2028}\"\\ = \0";
    for line in lines_of(evil) {
        assert!(!one_line_of(&line).chars().any(unprintable), "{line:?}");
    }
    let read = json_of(evil);
    assert_eq!(read["user"], evil);
    assert_eq!(read["bytes"], 7);
}

proptest! {
    #[test]
    fn any_text_is_part_of_one_line(text in any::<String>(), more in "[\\x00-\\x20<>\"'(),:=\\\\a{}]{0,40}") {
        for text in [text, more] {
            for line in lines_of(&text) {
                prop_assert!(!one_line_of(&line).chars().any(unprintable), "{line:?}");
            }
            let text = &*text;
            let words = all_of(&text);
            let read: serde_json::Value = serde_json::from_str(&json::message("T", Level::Info, "x", &words)).unwrap();
            prop_assert_eq!(read["session"].as_str(), Some("SESSION"));
        }
    }

    /// Nobody can say fields of his own in a line that is for Dovecot's readers.
    #[test]
    fn dovecots_fields_are_ours(user in "[a<>,:=() }{\"rip0-9.]{0,30}", text in "[a<>,:=() \"rip0-9.]{0,30}") {
        for (event, version) in EVENTS.into_iter().flat_map(|e| [DovecotVersion::V2_3, DovecotVersion::V2_4].map(|v| (e, v))) {
            let (text, user) = (&*text, &*user);
            let mut words = all_of(&text).into_iter().filter(|(name, _)| *name != "user").collect::<Vec<_>>();
            words.push(("user", Word::Text(&user)));
            if event == "backend-failing" {
                words.retain(|(name, _)| *name != "protocol");
            }
            let line = dovecot::message(version, Some("Info"), event, &words);
            let fields = usize::from(event != "backend-failing");
            prop_assert_eq!(line.matches("rip=").count(), fields, "{}", line);
            prop_assert_eq!(line.matches("user=<").count(), fields, "{}", line);
            prop_assert_eq!(line.matches(": user=<").count(), fields, "{}", line);
            // Where filters backtrack over free text there is none.
            for begin in ["Disconnected", "Aborted login", "Login aborted"] {
                if let Some(rest) = line.split_once(": Info: ").unwrap().1.strip_prefix(begin) {
                    prop_assert!(rest.split('(').next().unwrap().matches(": ").count() <= 1, "{}", line);
                }
            }
            if fields == 1 {
                let after = line.split_once("user=<").unwrap().1.split_once('>').unwrap().1;
                prop_assert!(after.contains(", rip=192.0.2.1, lip=192.0.2.1"), "{}", line);
                prop_assert!(after.ends_with(", session=<SESSION>"), "{}", line);
            }
        }
    }
}

#[test]
fn values_are_cut_and_plain_ones_stay_plain() {
    let said = |user: &str| text::message(Level::Info, "login", &words(&user));
    assert!(said(&"x".repeat(64 * 1024)).len() < 600);
    assert_eq!(said("müller"), "info login user=müller bytes=7");
    assert_eq!(said("a b"), "info login user=\"a b\" bytes=7");
}

#[test]
fn dovecots_form_has_room_for_the_words_of_any_event() {
    let (by, many) = (&"mallory <rip=1>", Word::Number(3));
    let words = [("by", Word::Text(by)), ("sessions", many), ("text", Word::Text(&"user=x"))];
    let line = dovecot::message(DovecotVersion::V2_3, Some("Info"), "kick", &words);
    assert_eq!(line, "gatepost: Info: kick: user\\u{3d}x (by mallory \\u{3c}rip\\u{3d}1\\u{3e}) (sessions 3)");
}

#[test]
fn a_line_has_an_end_and_keeps_its_session() {
    let long = "\0".repeat(1024);
    for line in lines_of(&long) {
        let message = one_line_of(&line);
        // Dates and names before it; receivers take 8 KiB.
        assert!(message.len() < 8 * 1024 - 64, "{} octets", message.len());
        assert!(line.len() < 64 * 1024);
        assert!(message.contains("SESSION") || message.contains("gatepost:"), "{message}");
    }
    let names: Vec<String> = (0..100).map(|n| format!("user_{n}")).collect();
    let value = &"x".repeat(500);
    let mut words: Vec<(&str, Word<'_>)> = names.iter().map(|name| (&**name, Word::Text(value))).collect();
    words.push(("session", Word::Text(&"SESSION")));
    let line = text::message(Level::Info, "login", &words);
    assert!(line.len() < LINE_MAX + 100 && line.ends_with(" session=SESSION left_out=86"), "{line}");
}

#[test]
fn a_stuck_writer_drops_and_counts() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (tx, lines) = std::sync::mpsc::channel();
    let mut first = true;
    let journal = Journal::to_fn(Format::Text, Level::Info, move |line| {
        if std::mem::take(&mut first) {
            let _ = wait.recv();
        }
        let _ = tx.send(line.to_owned());
    })
    .unwrap();
    for _ in 0..(QUEUE * 2) {
        journal.say(Level::Info, "x", &"y");
    }
    go.send(()).unwrap();
    journal.flush();
    journal.say(Level::Info, "x", &"end");
    journal.flush();
    let all: Vec<String> = lines.try_iter().collect();
    assert!(all.iter().any(|l| l.contains("log-dropped lines=")), "{} lines", all.len());
}

#[test]
fn debug_is_not_written_at_info() {
    let (tx, lines) = std::sync::mpsc::channel();
    let journal = Journal::to_fn(Format::Text, Level::Info, move |line| drop(tx.send(line.to_owned()))).unwrap();
    journal.say(Level::Debug, "a", &"");
    journal.say(Level::Error, "b", &"");
    journal.flush();
    let all: Vec<String> = lines.try_iter().collect();
    assert_eq!(all.len(), 1);
    assert!(all[0].contains(" error b "));
}

/// Removed when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("gatepost-journal-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_line_goes_where_it_was_spelled_for() {
    let dir = Dir::new("turns");
    let socket = dir.0.join("socket");
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let file = |name: &str| Destination::File(dir.0.join(name));
    let journal = Journal::open(Format::Text, Level::Info, &file("text")).unwrap();
    let talkers: Vec<_> = (0..4)
        .map(|talker| {
            let journal = journal.clone();
            std::thread::spawn(move || (0..1000).for_each(|n| journal.say(Level::Info, "x", &format_args!("{talker}-{n}"))))
        })
        .collect();
    journal.reopen(Format::Json, Level::Info, &file("json"));
    std::fs::rename(dir.0.join("text"), dir.0.join("text.1")).unwrap();
    journal.reopen(Format::Text, Level::Info, &file("text"));
    talkers.into_iter().for_each(|talker| talker.join().unwrap());
    journal.reopen(Format::Text, Level::Info, &Destination::Syslog { socket, facility: FACILITY });
    journal.say(Level::Warning, "x", &"to syslog");
    journal.reopen(Format::Text, Level::Info, &file("gone/too"));
    journal.flush();
    let (text, json) = ([dir.lines("text"), dir.lines("text.1")].concat(), dir.lines("json"));
    assert!(text.iter().all(|line| line.contains(" info x text=")), "{text:?}");
    for line in &json {
        let read: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(read["event"], "x");
    }
    assert_eq!(text.len() + json.len(), 4000);
    let mut datagram = [0; 8192];
    let octets = daemon.recv(&mut datagram).unwrap();
    let said = String::from_utf8_lossy(&datagram[..octets]).into_owned();
    assert!(said.starts_with("<20>") && said.ends_with(" x text=\"to syslog\"") && said.contains(" gatepost["), "{said}");
}

#[test]
fn a_daemon_that_does_not_read_loses_lines_and_hears_how_many() {
    let dir = Dir::new("stuck");
    let socket = dir.0.join("socket");
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let journal = Journal::open(Format::Text, Level::Info, &Destination::Syslog { socket, facility: FACILITY }).unwrap();
    // Larger than what the kernel keeps for a reader, whatever net.unix.max_dgram_qlen is.
    let said = 5000;
    (0..said).for_each(|n| journal.say(Level::Info, "x", &n));
    journal.flush();
    let mut datagram = [0; 8192];
    let mut hear = || {
        let octets = daemon.recv(&mut datagram).unwrap();
        String::from_utf8_lossy(&datagram[..octets]).into_owned()
    };
    // It reads again: what is kept, in order and whole; the new line; and how many were lost.
    let mut heard = 0;
    let kept = hear();
    assert!(kept.ends_with("info x text=0"), "{kept}");
    heard += 1;
    journal.say(Level::Info, "x", &"again");
    let lost = loop {
        let line = hear();
        match line.rsplit_once("log-dropped lines=") {
            Some((_, lost)) => break lost.split(' ').next().unwrap().parse::<u64>().unwrap(),
            None if line.ends_with("text=again") => {}
            None => heard += 1,
        }
    };
    assert_eq!(heard + lost, said);
    assert_eq!(journal.lost(), lost);
}

#[test]
fn a_daemon_that_was_started_anew_is_found() {
    let dir = Dir::new("anew");
    let socket = dir.0.join("socket");
    let destination = Destination::Journald { socket: socket.clone(), facility: FACILITY };
    assert!(Journal::open(Format::Text, Level::Info, &destination).is_err(), "nobody is there");
    let mut journal = None;
    for round in 0..3 {
        let _ = std::fs::remove_file(&socket);
        let daemon = UnixDatagram::bind(&socket).unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let journal = journal.get_or_insert_with(|| Journal::open(Format::Text, Level::Info, &destination).unwrap());
        journal.say(Level::Error, "x", &round);
        let mut datagram = [0; 8192];
        let octets = daemon.recv(&mut datagram).unwrap();
        let said = String::from_utf8_lossy(&datagram[..octets]).into_owned();
        assert!(said.contains("PRIORITY=3\n") && said.contains(&format!("\nGATEPOST_TEXT={round}\n")), "{said}");
    }
}

#[test]
fn a_full_disk_costs_lines_and_tears_none() {
    /// Takes so many octets and then no more, until it is emptied.
    struct Disk(Vec<u8>, usize);
    impl io::Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let room = self.1.saturating_sub(self.0.len()).min(text.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&text[..room]);
            Ok(room)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = |names: &[&str]| names.iter().map(|name| format!("{name}\n")).collect::<Vec<_>>();
    let (mut disk, mut torn) = (Disk(Vec::new(), 7), false);
    assert_eq!(target::append(&mut disk, &mut torn, &lines(&["one", "two", "three"])), 2);
    assert_eq!(target::append(&mut disk, &mut torn, &lines(&["four"])), 1);
    disk.1 = 100;
    assert_eq!(target::append(&mut disk, &mut torn, &lines(&["five"])), 0);
    assert_eq!(String::from_utf8_lossy(&disk.0), "one\ntwo\nfive\n");
}
