//! `gatepost demo`, as somebody meets it who has just built the program.

use crate::gate::BINARY;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use testkit::Dir;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn once_shows_both_sides_and_all_checks_hold() {
    let dir = Dir::new();
    let output = Command::new(BINARY).args(["demo", "--once"]).env("TMPDIR", dir.path()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "\nclient > gatepost                                  | gatepost > east\n",
        "\n> a2 LOGIN alice *** ",
        " | > L LOGIN \"alice\" ***\n",
        "\n> b3 AUTHENTICATE PLAIN *** ",
        " | > L AUTHENTICATE PLAIN ***\n",
        "\"x-proxy-ttl\" \"4\"",
        "\n< b2 NO [AUTHENTICATIONFAILED] ",
        "\nPASS alice: east was told the client's own address and port: 127.0.0.1:",
        "\nPASS bob: west was told the client's own address and port: 127.0.0.1:",
        "\nPASS bob: a wrong password got NO [AUTHENTICATIONFAILED], and west was not even connected\n",
    ] {
        assert!(shown.contains(expected), "{expected:?} is missing in:\n{shown}");
    }
    let passed = shown.lines().filter(|line| line.starts_with("PASS ")).count();
    assert!(passed > 30 && shown.ends_with(&format!("\nall {passed} checks hold\n")), "{shown}");
    assert!(!shown.contains("FAIL ") && !shown.contains('\x1b'), "{shown}");
    assert_eq!(shown.lines().find(|line| line.chars().count() > 110), None);
    for password in ["wonderland", "canwefixit", "master-of-west"] {
        assert!(!shown.contains(password), "{password}");
    }
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

#[test]
fn watched_it_tells_what_servers_are_told_and_leaves_nothing_behind() {
    let dir = Dir::new();
    let mut demo = Demo::start(dir.path());
    let mut invitation = String::new();
    let what_happens = demo.until("What happens:", &mut invitation);
    assert!(what_happens.len() == "What happens:".len() && !invitation.contains('\x1b'));
    assert!(invitation.contains("curl -sS --cacert ") && invitation.contains("openssl s_client "), "{invitation}");
    let config = left_in(dir.path()).into_iter().map(|name| dir.path().join(name).join("gatepost.toml")).next().unwrap();
    assert!(invitation.contains(&config.display().to_string()), "{invitation}");
    let check = Command::new(BINARY).arg("check").arg("-c").arg(&config).output().unwrap();
    assert!(
        check.status.success(),
        "its configuration is one for `gatepost check` too: {}",
        String::from_utf8_lossy(&check.stderr)
    );

    // The client is on this host, so a password in clear is taken.
    let imap: SocketAddr =
        invitation.lines().find_map(|line| line.trim().strip_prefix("IMAP, with STARTTLS")).unwrap().trim().parse().unwrap();
    let mut client = Client::connect(imap);
    client.until("* OK ");
    client.ask("a LOGIN alice wonderland");
    client.ask("b SELECT INBOX");
    let told = demo.until("east: was told in clear: ", &mut String::new());
    assert!(told.contains(&format!(" client={} reached={imap} ", client.address)), "{told}");
    let login = demo.until("east: login ", &mut String::new());
    assert!(login.starts_with("east: login alice by LOGIN; the connection itself came from 127.0.0.1:"), "{login}");

    demo.signal(Signal::TERM);
    client.until("* BYE ");
    assert!(demo.ended().success());
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

#[test]
fn an_interrupt_ends_it() {
    let dir = Dir::new();
    let mut demo = Demo::start(dir.path());
    demo.until("What happens:", &mut String::new());
    assert_eq!(left_in(dir.path()).len(), 1);
    demo.signal(Signal::INT);
    assert!(demo.ended().success());
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

fn left_in(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The running program; killed when a test fails.
struct Demo {
    child: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(tmp: &Path) -> Demo {
        let mut child = Command::new(BINARY).arg("demo").env("TMPDIR", tmp).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Demo { child, lines }
    }

    /// Reads up to a line that begins so, and returns it; what came before is appended to `before`.
    #[track_caller]
    fn until(&mut self, start: &str, before: &mut String) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no line {start:?}: {e}"));
            if line.starts_with(start) {
                return line;
            }
            before.push_str(&line);
            before.push('\n');
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the demo does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    address: SocketAddr,
    lines: BufReader<TcpStream>,
}

impl Client {
    fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { address: stream.local_addr().unwrap(), lines: BufReader::new(stream) }
    }

    #[track_caller]
    fn ask(&mut self, command: &str) {
        self.lines.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        self.until(&format!("{} OK ", command.split(' ').next().unwrap()));
    }

    #[track_caller]
    fn until(&mut self, start: &str) {
        let mut line = String::new();
        while !line.starts_with(start) {
            line.clear();
            let read = self.lines.by_ref().take(8192).read_line(&mut line).unwrap();
            assert!(read > 0, "the connection ended before {start:?}");
        }
    }
}
