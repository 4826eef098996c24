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
        "\n> USER alice ",
        " | > XCLIENT ADDR=127.0.0.1 PORT=",
        " | > PASS ***\n",
        " | > STLS\n",
        " | > AUTH PLAIN ***\n",
        "\n< ....even where a line begins with dots. ",
        " | > XCLIENT ADDR=203.0.113.7 PORT=42424\n",
        "\n> AUTHENTICATE \"PLAIN\" *** ",
        " | > AUTHENTICATE \"PLAIN\" ***\n",
        "\n> PUTSCRIPT \"lunch\" {135+}                         | > PUTSCRIPT \"lunch\" {135+}\n",
        "\n>     fileinto \"Important\";                        | >     fileinto \"Important\";\n",
        "\n< \"lunch\" ACTIVE ",
        "\n> AUTH PLAIN *** ",
        " HELO=laptop.example\n",
        "\n> At noon, behind the gate?                        | > At noon, behind the gate?\n",
        " | (took a letter of ",
        " LOGIN=erin",
        "\nclient > gatepost                                  | gatepost > east, west\n",
        "\n> RCPT TO:<alice>                                  | east ",
        " | east > BDAT ",
        " | west > RCPT TO:<bob> ORCPT=rfc822;bob@example.com\n",
        "\nPASS LMTP, dave, whose server is down: 451 4.3.0, ",
        "\nPASS LMTP, behind the letter: east's answer for alice, then west's for bob, and no other\n",
    ] {
        assert!(shown.contains(expected), "{expected:?} is missing in:\n{shown}");
    }
    for (protocol, wrong, later) in [
        ("IMAP", "NO [AUTHENTICATIONFAILED]", "NO [UNAVAILABLE]"),
        ("POP3", "-ERR [AUTH]", "-ERR [SYS/TEMP]"),
        ("ManageSieve", "NO \"Authentication failed.\"", "NO (TRYLATER)"),
        ("Submission", "535 5.7.8", "454 4.7.0"),
    ] {
        for expected in [
            "alice: east was told the client's own address and port: 127.0.0.1:".to_owned(),
            "bob: west was told the client's own address and port: 127.0.0.1:".to_owned(),
            "bob: west was told forward_department from his row\n".to_owned(),
            format!("bob: a wrong password got {wrong}, and west was not even connected\n"),
            format!("dave: his server is down, and he heard {later}: not that his password is wrong\n"),
            "alice behind a balancer: east was told the client's own address and port: 203.0.113.7:42424\n".to_owned(),
        ] {
            assert!(shown.contains(&format!("\nPASS {protocol}, {expected}")), "{protocol} {expected:?} is missing in:\n{shown}");
        }
    }
    let passed = shown.lines().filter(|line| line.starts_with("PASS ")).count();
    let readme = include_str!("../../../../README.md");
    assert!(readme.contains(&format!("every one of its {passed} checks held")), "README says how many: {passed}");
    assert!(passed > 200 && shown.ends_with(&format!("\nall {passed} checks hold\n")), "{shown}");
    assert!(!shown.contains("FAIL ") && !shown.contains('\x1b'), "{shown}");
    assert_eq!(shown.lines().find(|line| line.chars().count() > 110), None);
    for password in ["wonderland", "canwefixit", "openthepod", "gardenwall", "master-of-west"] {
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
    let mut imap = Client::connect(told_place(&invitation, "IMAP, with STARTTLS"));
    imap.until("* OK ");
    imap.ask("a LOGIN alice wonderland", "a OK ");
    imap.ask("b SELECT INBOX", "b OK ");
    demo.until_told(&imap, "ID", "LOGIN");

    let mut pop3 = Client::connect(told_place(&invitation, "POP3, with STLS"));
    pop3.until("+OK ");
    pop3.ask("USER alice", "+OK");
    pop3.ask("PASS wonderland", "+OK ");
    pop3.ask("STAT", "+OK 3 ");
    // Behind the end of a list, or a refusal there, a goodbye has its place.
    pop3.ask("LIST", ".\r\n");
    pop3.ask("DELE 1", "-ERR [SYS/PERM] ");
    demo.until_told(&pop3, "XCLIENT", "USER and PASS");

    let mut sieve = Client::connect(told_place(&invitation, "ManageSieve, with STARTTLS"));
    sieve.until("OK ");
    sieve.ask("AUTHENTICATE \"PLAIN\" \"AGFsaWNlAHdvbmRlcmxhbmQ=\"", "OK ");
    sieve.ask("PUTSCRIPT \"mine\" {5+}\r\nkeep;", "OK ");
    sieve.ask("LISTSCRIPTS", "\"mine\"");
    demo.until_told(&sieve, "XCLIENT", "AUTHENTICATE PLAIN");
    demo.until("east: stored the script \"mine\", 5 octets", &mut String::new());

    let mut submission = Client::connect(told_place(&invitation, "Submission, with STARTTLS"));
    submission.until("220 ");
    submission.ask("EHLO here.example", "250 ");
    submission.ask("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=", "235 ");
    demo.until_told(&submission, "XCLIENT", "AUTH PLAIN");
    submission.ask("MAIL FROM:<alice@localhost>", "250 ");
    submission.ask("RCPT TO:<bob@example.com>", "250 ");
    submission.ask("DATA", "354 ");
    submission.ask("Hello\r\n.", "250 ");
    demo.until("east: took a letter of 7 octets from <alice@localhost> to <bob@example.com>;", &mut String::new());

    let mut lmtp = Client::connect(told_place(&invitation, "LMTP"));
    lmtp.until("220 ");
    lmtp.ask("LHLO here.example", "250 ");
    lmtp.ask("MAIL FROM:<x@example.org>", "250 ");
    lmtp.ask("RCPT TO:<bob@example.com>", "250 ");
    lmtp.ask("DATA", "354 ");
    lmtp.ask("Hello\r\n.", "250 2.0.0 ");
    demo.until("west: was told by XCLIENT in TLS: ", &mut String::new());
    demo.until("west: took a letter of ", &mut String::new());

    demo.signal(Signal::TERM);
    imap.until("* BYE ");
    pop3.until("-ERR [SYS/TEMP] Server is shutting down");
    sieve.until("BYE (TRYLATER) ");
    submission.until("421 4.3.2 ");
    lmtp.until("421 4.3.2 ");
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

/// curl has its own idea of IMAP, POP3 and SMTP.
#[test]
fn lines_to_paste_into_a_shell_fetch_and_send_letters() {
    let Some(_) = testkit::real::require("curl") else { return };
    let dir = Dir::new();
    let mut demo = Demo::start(dir.path());
    let mut invitation = String::new();
    demo.until("What happens:", &mut invitation);
    let pasted = pasted(&invitation, "curl ");
    assert_eq!(pasted.len(), 9, "three for each protocol: {invitation}");
    for command in pasted {
        let letter = in_a_shell(&command);
        if command.contains("--mail-from ") {
            let (server, from) =
                if command.contains("-u bob@") { ("west", "bob@example.com") } else { ("east", "alice@localhost") };
            let took = format!("{server}: took a letter of 72 octets from <{from}> to ");
            demo.until(&took, &mut String::new());
            // curl's own address, also where its PROXY header says it.
            demo.until("    ([127.0.0.1]:", &mut String::new());
            continue;
        }
        // The line that begins with dots must come as it lies in the mailbox, whatever the protocol does with dots.
        let (server, dots) = if command.contains("-u bob@") { ("west", "\r\n.\r\n") } else { ("east", "\r\n...even ") };
        let subject = format!("\r\nSubject: You have reached {server}\r\n");
        assert!(letter.contains(&subject) && letter.contains(dots), "{command}: {letter}");
    }
    demo.signal(Signal::TERM);
    assert!(demo.ended().success());
}

#[test]
fn a_line_to_paste_into_a_shell_delivers_a_letter() {
    let Some(_) = testkit::real::require("swaks") else { return };
    let dir = Dir::new();
    let mut demo = Demo::start(dir.path());
    let mut invitation = String::new();
    demo.until("What happens:", &mut invitation);
    let pasted = pasted(&invitation, "swaks ");
    let [deliver] = pasted.as_slice() else { panic!("one line: {invitation}") };
    let said = in_a_shell(deliver);
    for expected in ["250 2.0.0 <alice> ", "250 2.0.0 <bob> ", "550 5.1.1 ", "451 4.3.0 "] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    demo.signal(Signal::TERM);
    assert!(demo.ended().success());
}

#[test]
fn lines_to_paste_into_a_shell_store_a_script() {
    let Some(_) = testkit::real::require("sieve-connect") else { return };
    let dir = Dir::new();
    let mut demo = Demo::start(dir.path());
    let mut invitation = String::new();
    demo.until("What happens:", &mut invitation);
    let pasted = pasted(&invitation, "echo wonderland | sieve-connect ");
    let [upload, list] = pasted.as_slice() else { panic!("two lines: {invitation}") };
    in_a_shell(upload);
    demo.until("east: stored the script \"mine\", 135 octets", &mut String::new());
    let listed = in_a_shell(list);
    assert!(listed.contains("mine"), "{listed}");
    demo.signal(Signal::TERM);
    assert!(demo.ended().success());
}

/// The commands of the invitation that begin so, with the lines that belong to them.
fn pasted(invitation: &str, start: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in invitation.lines() {
        if goes_on {
            commands.last_mut().unwrap().push_str(line);
        } else if line.starts_with(start) {
            commands.push(line.to_owned());
        } else {
            continue;
        }
        goes_on = line.ends_with('\\');
        commands.last_mut().unwrap().push('\n');
    }
    commands
}

#[track_caller]
fn in_a_shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where the invitation says that this is spoken.
fn told_place(invitation: &str, what: &str) -> SocketAddr {
    let mut places = invitation.lines().filter_map(|line| line.trim().trim_start_matches("Gatepost").trim().strip_prefix(what));
    places.next().unwrap().trim().parse().unwrap()
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

    /// East was told of this client, and that alice signed in.
    #[track_caller]
    fn until_told(&mut self, client: &Client, by: &str, login: &str) {
        let told = self.until(&format!("east: was told by {by} in clear: "), &mut String::new());
        let (from, to) = (client.address, client.to);
        assert!(told.contains(&format!(" client={from} reached={to} ")), "{told}");
        let expected = format!("east: login alice by {login}; the connection itself came from 127.0.0.1:");
        self.until(&expected, &mut String::new());
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
    to: SocketAddr,
    lines: BufReader<TcpStream>,
}

impl Client {
    fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { address: stream.local_addr().unwrap(), to, lines: BufReader::new(stream) }
    }

    #[track_caller]
    fn ask(&mut self, command: &str, answer: &str) {
        self.lines.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        self.until(answer);
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
