//! A real nginx with its mail module and private everything, as a proxy in front: it checks passwords by asking an
//! authentication server over HTTP, signs in where that one says, and tells an SMTP backend by XCLIENT who is calling.
//!
//! The authentication server is this process: a test says with a [`Verdict`] what it answers, and reads the
//! [`Question`]s.
//!
//! Facts about nginx 1.22 that this fixture lives with:
//!
//! * Where XCLIENT is on, it says `XCLIENT ADDR=192.0.2.10 LOGIN=alice NAME=[UNAVAILABLE]` behind its own EHLO, whatever
//!   the backend offers: no PORT, no HELO. An IPv6 address begins with `IPV6:`. With `proxy_smtp_auth` it leaves LOGIN
//!   out, and signs in behind the client's EHLO with AUTH PLAIN, and without an authorization identity whatever the
//!   client said. LOGIN is not encoded as xtext.
//! * Without XCLIENT it says EHLO with its own name, not with the client's.
//! * Names of clients are not looked up, because no `resolver` is configured.
//! * Its certificate is its own affair: it speaks to backends in clear only.
//! * `start worker process` is logged once the listeners are bound. A port in use is tried five times in 2.5 seconds.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use crate::certs::Certificate;
use crate::mail_server::hosts;
use crate::peer::{Conn, FakeServer};
use crate::ports::{Port, free_port};
use crate::process::Process;
use crate::wait::{PATIENCE, poll};
use crate::{Dir, Log, Protocol, real};

/// A running nginx; ended and removed when dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    ports: Vec<Port>,
    questions: Arc<Mutex<Vec<Question>>>,
    log: Log,
    _authentication: FakeServer,
    // Declared last: files go after the process that uses them.
    dir: Dir,
}

/// One way through it.
#[derive(Clone, Debug)]
pub struct Way {
    /// What it speaks, on both sides. ManageSieve it does not know.
    pub protocol: Protocol,
    /// `xclient`, for Submission only.
    pub xclient: bool,
    /// `proxy_smtp_auth`: it signs in at the backend; for Submission only.
    pub auth: bool,
    /// STARTTLS or STLS on the side of the clients.
    pub tls: Option<Certificate>,
    /// More directives for this server.
    pub extra: String,
}

/// What the authentication server was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Through which way the client came, from 0 as given to [`Nginx::start`].
    pub way: usize,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// All fields of the request, in their order and as they came: `Auth-Method`, `Auth-Protocol`, `Client-IP` and others.
    pub fields: Vec<(String, String)>,
}

/// What the authentication server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes: the user is served there.
    At(SocketAddr),
    /// No, with these words for the client, whose connection then ends.
    No(String),
}

impl Way {
    /// For Submission: with XCLIENT, and with AUTH at the backend.
    pub fn submission() -> Way {
        Way { protocol: Protocol::Submission, xclient: true, auth: true, tls: None, extra: String::new() }
    }

    /// For IMAP or POP3.
    pub fn mailbox(protocol: Protocol) -> Way {
        Way { protocol, xclient: false, auth: false, ..Way::submission() }
    }
}

impl Nginx {
    /// Starts one that asks `answer` about every login, and waits until it listens.
    ///
    /// # Panics
    ///
    /// Without a usable nginx: call [`real::require`] first.
    #[track_caller]
    pub fn start(ways: &[Way], answer: impl Fn(&Question) -> Verdict + Send + Sync + 'static) -> Nginx {
        let program = real::usable("nginx").unwrap_or_else(|missing| panic!("{missing} (ask testkit::real::require first)"));
        let dir = Dir::new();
        let questions: Arc<Mutex<Vec<Question>>> = Arc::default();
        let asked = Arc::clone(&questions);
        let authentication = FakeServer::start(move |conn| {
            let question = Question::read(conn);
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
            conn.send(answer(&question).response());
        });
        let log = Log::at(dir.join("error.log"));
        for _ in 0..5 {
            let ports: Vec<Port> = ways.iter().map(|_| free_port()).collect();
            let config = config(&dir, ways, &ports, authentication.addr());
            if let Some(process) = launch(&program, &dir, &config, &log) {
                return Nginx { process, ports, questions, log, _authentication: authentication, dir };
            }
        }
        panic!("no ports for nginx in five attempts; {}", log.tail());
    }

    /// Where the way `n` (from 0) begins.
    #[track_caller]
    pub fn addr(&self, n: usize) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port(n))
    }

    /// The same on `::1`; nobody is there on a machine without IPv6.
    #[track_caller]
    pub fn addr6(&self, n: usize) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), self.port(n))
    }

    /// What was asked so far.
    pub fn questions(&self) -> Vec<Question> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `n` questions were asked and returns them.
    #[track_caller]
    pub fn wait_for_questions(&self, n: usize) -> Vec<Question> {
        match poll(PATIENCE, || Some(self.questions()).filter(|q| q.len() >= n)) {
            Some(questions) => questions,
            None => panic!("{} questions, waited for {n}; {}", self.questions().len(), self.log.tail()),
        }
    }

    /// Its log: `client logged in, client: .., server: .., login: "..", upstream: ..`.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its master's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    #[track_caller]
    fn port(&self, n: usize) -> u16 {
        let Some(port) = self.ports.get(n) else { panic!("way {n} asked for, there are {}", self.ports.len()) };
        port.number()
    }
}

impl Question {
    /// Reads a request. Its body is empty.
    #[track_caller]
    fn read(conn: &mut Conn) -> Question {
        let mut question = Question { way: 0, user: String::new(), password: String::new(), fields: Vec::new() };
        loop {
            let line = conn.expect_line("");
            if line.is_empty() {
                break;
            }
            question.fields.extend(line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        question.way = question.field(WAY).and_then(|n| n.parse().ok()).unwrap_or_else(|| conn.fail("a question of nobody"));
        question.user = question.field("Auth-User").map(unescaped).unwrap_or_default();
        question.password = question.field("Auth-Pass").map(unescaped).unwrap_or_default();
        question
    }

    /// The first field of this name, as it came.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Verdict {
    fn response(&self) -> String {
        let fields = match self {
            Verdict::At(addr) => format!("Auth-Status: OK\r\nAuth-Server: {}\r\nAuth-Port: {}\r\n", addr.ip(), addr.port()),
            Verdict::No(words) => format!("Auth-Status: {words}\r\n"),
        };
        format!("HTTP/1.0 200 OK\r\n{fields}\r\n")
    }
}

/// The field of a question that names the way.
const WAY: &str = "X-Way";

/// What nginx escapes: `%`, blanks and control characters, each octet by itself.
fn unescaped(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| first == b'%').and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                rest = &behind[2..];
            }
            None => {
                octets.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// `None` when a port was taken by somebody who does not know our claims.
#[track_caller]
fn launch(program: &Path, dir: &Dir, config: &str, log: &Log) -> Option<Process> {
    let file = dir.write("nginx.conf", config);
    let log = log.from_here();
    let mut command = Command::new(program);
    command.arg("-p").arg(dir.path()).arg("-e").arg(dir.join("error.log")).arg("-c").arg(file).current_dir(dir.path());
    let mut process = Process::start(command, dir.join("output"));
    let mut taken = false;
    process.wait_until("nginx is ready", || {
        taken = log.find(&["bind()", "Address already in use"]).is_some();
        taken || log.find(&["start worker process "]).is_some()
    });
    (!taken).then_some(process)
}

fn config(dir: &Dir, ways: &[Way], ports: &[Port], authentication: SocketAddr) -> String {
    let path = dir.path().display();
    // The user is that of the worker, which needs nothing.
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
user nobody nogroup;
worker_processes 1;
pid {path}/nginx.pid;
error_log {path}/error.log info;
events {{
  worker_connections 1024;
}}
mail {{
  auth_http http://{authentication}/;
  server_name nginx.test;
  proxy_pass_error_message on;
  smtp_auth plain login;
  imap_auth plain login;
  pop3_auth plain;
"
    );
    for (number, (way, port)) in ways.iter().zip(ports).enumerate() {
        let Way { protocol, xclient, auth, tls, extra } = way;
        text.push_str("  server {\n");
        for host in hosts() {
            let _ = writeln!(text, "    listen {};", SocketAddr::new(host, port.number()));
        }
        let on = |on: &bool| if *on { "on" } else { "off" };
        let _ = match protocol {
            Protocol::Submission => {
                writeln!(text, "    protocol smtp;\n    xclient {};\n    proxy_smtp_auth {};", on(xclient), on(auth))
            }
            Protocol::Imap | Protocol::Pop3 => writeln!(text, "    protocol {};", protocol.name()),
            Protocol::ManageSieve => panic!("nginx does not speak ManageSieve"),
        };
        if let Some(Certificate { cert_file, key_file, .. }) = tls {
            let (cert, key) = (cert_file.display(), key_file.display());
            let _ = writeln!(text, "    starttls on;\n    ssl_certificate {cert};\n    ssl_certificate_key {key};");
        }
        let _ = writeln!(text, "    auth_http_header {WAY} {number};\n{extra}\n  }}");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_octets_are_read_and_others_left() {
        assert_eq!(unescaped("a%20b%25%C3%A9"), "a b%é");
        assert_eq!(unescaped("100%"), "100%");
        assert_eq!(unescaped("%zz%4"), "%zz%4");
    }
}
