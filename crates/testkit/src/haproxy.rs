//! A real HAProxy in TCP mode with private everything, as load balancers stand in front of mail servers and speak the
//! PROXY protocol to them.
//!
//! It is one process in the foreground that ends with its value. Its statistics socket says when it is ready, so that no
//! connection has to be made through it to find out: the server behind it sees clients only, and health checks where a
//! [`Frontend`] wants them.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certs::Certificate;
use crate::ports::{Port, free_port};
use crate::process::Process;
use crate::{Dir, Log, real};

/// A running HAProxy; ended and removed when dropped.
#[derive(Debug)]
pub struct Haproxy {
    process: Process,
    ports: Vec<Port>,
    // Declared last: files go after the process that uses them.
    dir: Dir,
}

/// One way through it.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// TLS on the side of the clients; without it bytes are passed on as they come, TLS among them.
    pub tls: Option<FrontTls>,
    /// Where connections go, in clear.
    pub server: SocketAddr,
    /// What goes in front of them.
    pub header: Header,
    /// The local address for connections to the server.
    pub source: Option<IpAddr>,
    /// How it looks whether the server is there, every 100 ms.
    pub check: Check,
}

/// A health check. With a [`Header`] it begins with one, too, that speaks of nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// None.
    None,
    /// The server takes a connection.
    Connects,
    /// It also says this, without being asked.
    Says(String),
}

/// How a [`Frontend`] speaks TLS.
#[derive(Clone, Debug)]
pub struct FrontTls {
    /// What it shows.
    pub certificate: Certificate,
    /// PEM file with the authority whose client certificates are looked at. A client may show none; a bad one is refused.
    pub clients: Option<PathBuf>,
    /// The protocols that it agrees to by ALPN, in order of preference; none = ALPN is ignored.
    pub alpn: Vec<String>,
}

/// The PROXY header that a [`Frontend`] sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// None.
    None,
    /// `send-proxy`: version 1.
    V1,
    /// `send-proxy-v2`.
    V2,
    /// `send-proxy-v2-ssl-cn`: also the client's TLS and the common name of its certificate.
    V2SslCn,
    /// `send-proxy-v2` with these `proxy-v2-options`: `ssl`, `cert-cn`, `ssl-cipher`, `authority` (what the client asked
    /// for by SNI), `unique-id`, `crc32c`. A unique id is the client's address and port and a counter, in hexadecimal
    /// digits.
    V2With(Vec<String>),
}

impl Frontend {
    /// In clear to this server, with this header.
    pub fn to(server: SocketAddr, header: Header) -> Frontend {
        Frontend { tls: None, server, header, source: None, check: Check::None }
    }

    /// The same with TLS for clients, without certificates of theirs and without ALPN.
    pub fn tls(server: SocketAddr, header: Header, certificate: &Certificate) -> Frontend {
        let tls = FrontTls { certificate: certificate.clone(), clients: None, alpn: Vec::new() };
        Frontend { tls: Some(tls), ..Frontend::to(server, header) }
    }
}

impl Haproxy {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    ///
    /// Without a usable HAProxy: call [`real::require`] first.
    #[track_caller]
    pub fn start(frontends: &[Frontend]) -> Haproxy {
        let program = real::usable("haproxy").unwrap_or_else(|missing| panic!("{missing} (ask testkit::real::require first)"));
        let dir = Dir::new();
        for _ in 0..5 {
            let ports: Vec<Port> = frontends.iter().map(|_| free_port()).collect();
            if let Some(process) = launch(&program, &dir, &config(&dir, frontends, &ports)) {
                return Haproxy { process, ports, dir };
            }
        }
        panic!("no ports for haproxy in five attempts; {}", Log::at(dir.join("output")).tail());
    }

    /// Where the frontend `n` (from 0, as given to [`Haproxy::start`]) listens.
    #[track_caller]
    pub fn addr(&self, n: usize) -> SocketAddr {
        let Some(port) = self.ports.get(n) else { panic!("frontend {n} asked for, there are {}", self.ports.len()) };
        SocketAddr::new(IP, port.number())
    }

    /// What it says; a line for each connection that has ended.
    pub fn log(&self) -> &Log {
        self.process.output()
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// `None` when a port was taken by somebody who does not know our claims.
#[track_caller]
fn launch(program: &Path, dir: &Dir, config: &str) -> Option<Process> {
    let file = dir.write("haproxy.cfg", config);
    let socket = dir.join(SOCKET);
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(file).current_dir(dir.path());
    let mut process = Process::start(command, dir.join("output"));
    let output = process.output().from_here();
    let mut taken = false;
    process.wait_until("haproxy is ready", || {
        taken = output.find(&["cannot bind socket (Address already in use)"]).is_some();
        taken || answers(&socket)
    });
    (!taken).then_some(process)
}

/// Relative to the directory, because the address of a socket has little room.
const SOCKET: &str = "stats";

/// Whether the process takes orders, which it does once all its listeners are bound.
fn answers(socket: &Path) -> bool {
    let ask = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(crate::wait::PATIENCE))?;
        stream.write_all(b"show info\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        std::io::Result::Ok(said.contains("Uptime_sec:"))
    };
    ask().unwrap_or(false)
}

fn config(dir: &Dir, frontends: &[Frontend], ports: &[Port]) -> String {
    let mut text = format!(
        "global
  log stdout format raw local0
  stats socket unix@{SOCKET} mode 600 level admin
  nbthread 1
  maxconn 4000
  tune.ssl.default-dh-param 2048
defaults
  mode tcp
  log global
  option tcplog
  timeout connect 5s
  timeout client 10m
  timeout server 10m
"
    );
    for (number, (frontend, port)) in frontends.iter().zip(ports).enumerate() {
        let Frontend { tls, server, header, source, check } = frontend;
        let _ = write!(text, "listen way{number}\n  bind {IP}:{}", port.number());
        if let Some(tls) = tls {
            text.push_str(&bind_tls(dir, number, tls));
        }
        if matches!(header, Header::V2With(options) if options.iter().any(|o| o == "unique-id")) {
            text.push_str("\n  unique-id-format %{+X}o%ci%cp%rt");
        }
        let source = source.map_or(String::new(), |ip| format!(" source {ip}"));
        if let Check::Says(words) = check {
            assert!(!words.contains(['"', '\\', '\n']), "not a text for its configuration: {words:?}");
            let _ = write!(text, "\n  option tcp-check\n  tcp-check expect string \"{words}\"");
        }
        let check = if *check == Check::None { "" } else { " check inter 100ms" };
        let _ = writeln!(text, "\n  server s {server}{}{source}{check}", words(header));
    }
    text
}

/// The end of the line of a listener with TLS.
fn bind_tls(dir: &Dir, number: usize, tls: &FrontTls) -> String {
    let FrontTls { certificate, clients, alpn } = tls;
    // It wants certificate and key in one file.
    let both = [&certificate.cert_file, &certificate.key_file].map(|file| match std::fs::read_to_string(file) {
        Ok(pem) => pem,
        Err(e) => panic!("cannot read {}: {e}", file.display()),
    });
    let mut text = format!(" ssl crt {}", dir.write(format!("way{number}.pem"), both.concat()).display());
    if let Some(authority) = clients {
        let _ = write!(text, " ca-file {} verify optional", authority.display());
    }
    if !alpn.is_empty() {
        let _ = write!(text, " alpn {}", alpn.join(","));
    }
    text
}

/// The words of a server's line that make it send this header.
fn words(header: &Header) -> String {
    match header {
        Header::None => String::new(),
        Header::V1 => " send-proxy".to_owned(),
        Header::V2 => " send-proxy-v2".to_owned(),
        Header::V2SslCn => " send-proxy-v2-ssl-cn".to_owned(),
        Header::V2With(options) => format!(" send-proxy-v2 proxy-v2-options {}", options.join(",")),
    }
}
