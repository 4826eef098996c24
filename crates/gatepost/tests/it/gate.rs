//! A Gatepost with the usual listeners and a certificate of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rustls::ClientConfig;
use testkit::certs::Authority;
use testkit::gatepost::Gatepost;
use testkit::peer::{AnyClient, Client, Conn, FakeBackend, FakeServer};
use testkit::{Dir, Protocol};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_gatepost");

/// For [`Want::more`]: listeners for POP3 beside those for IMAP.
pub const POP3_TOO: &str = r#"
[[listen]]
protocol = "pop3"
address = ["127.0.0.1:0"]
[[listen]]
protocol = "pop3s"
address = ["127.0.0.1:0"]
"#;

/// For [`Want::more`]: listeners for one more protocol; those for IMAP are there.
pub fn listeners_for(protocol: Protocol) -> String {
    let names = [Some(protocol.name()), protocol.implicit()].into_iter().flatten();
    let listener = |name| format!("[[listen]]\nprotocol = \"{name}\"\naddress = [\"127.0.0.1:0\"]\n");
    names.filter(|_| protocol != Protocol::Imap).map(listener).collect()
}

/// For [`Want::more`]: listeners for all other protocols beside those for IMAP.
pub const OTHERS_TOO: &str = r#"
[[listen]]
protocol = "pop3"
address = ["127.0.0.1:0"]
[[listen]]
protocol = "pop3s"
address = ["127.0.0.1:0"]
[[listen]]
protocol = "managesieve"
address = ["127.0.0.1:0"]
[[listen]]
protocol = "submission"
address = ["127.0.0.1:0"]
[[listen]]
protocol = "submissions"
address = ["127.0.0.1:0"]
"#;

/// What a test wants of its Gatepost: pieces of configuration, each complete TOML.
#[derive(Default)]
pub struct Want<'a> {
    /// The `[[users]]` blocks.
    pub users: &'a str,
    /// The body of `[trust]`.
    pub trust: &'a str,
    /// The body of `[backend]`.
    pub backend: &'a str,
    /// The body of `[limits]`; short pauses are set already.
    pub limits: &'a str,
    /// Whole further sections.
    pub more: &'a str,
}

/// A Gatepost and the authority that signed its certificate (`localhost`, `127.0.0.1`).
pub struct Gate {
    pub gatepost: Gatepost,
    pub tls: Arc<ClientConfig>,
}

impl Gate {
    #[track_caller]
    pub fn start(want: &Want<'_>) -> Gate {
        Gate::start_in(Dir::new(), want)
    }

    /// In a directory that holds more files.
    #[track_caller]
    pub fn start_in(dir: Dir, want: &Want<'_>) -> Gate {
        Gate::start_with(dir, &config(want))
    }

    /// With a configuration that was changed further.
    #[track_caller]
    pub fn start_with(dir: Dir, config: &str) -> Gate {
        let authority = Authority::new(dir.path(), "gate");
        authority.server("gate", &["localhost", "127.0.0.1"]);
        let tls = authority.client_config();
        Gate { gatepost: Gatepost::start_in(dir, BINARY, config, |_| {}), tls }
    }

    /// IMAP with STARTTLS.
    pub fn imap(&self) -> SocketAddr {
        self.gatepost.addr("imap")
    }

    /// IMAP with TLS from the first byte.
    pub fn imaps(&self) -> SocketAddr {
        self.gatepost.addr("imaps")
    }

    /// A client in clear that has read the greeting.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::greeted(self.imap())
    }

    /// A client with TLS that has read the greeting.
    #[track_caller]
    pub fn tls_client(&self) -> Client {
        let mut client = Client::connect_tls(self.imaps(), &self.tls, "localhost");
        client.greeting();
        client
    }

    /// Where a protocol is spoken in clear and with STARTTLS. For others than IMAP see [`OTHERS_TOO`].
    pub fn at(&self, protocol: Protocol) -> SocketAddr {
        self.gatepost.addr(protocol.name())
    }

    /// The same with TLS from the first byte, for a protocol that has such a port.
    #[track_caller]
    pub fn tls_at(&self, protocol: Protocol) -> SocketAddr {
        self.gatepost.addr(protocol.implicit().expect("a port with TLS from the first byte"))
    }

    /// A client of any protocol, in clear, that has read the greeting.
    #[track_caller]
    pub fn any_client(&self, protocol: Protocol) -> AnyClient {
        AnyClient::greeted(protocol, self.at(protocol))
    }

    /// The same with TLS, from the first byte where the protocol has a port for that.
    #[track_caller]
    pub fn any_tls_client(&self, protocol: Protocol) -> AnyClient {
        if protocol.implicit().is_none() {
            let mut client = self.any_client(protocol);
            client.starttls(&self.tls, "localhost");
            return client;
        }
        let mut client = AnyClient::connect_tls(protocol, self.tls_at(protocol), &self.tls, "localhost");
        client.greeting();
        client
    }
}

/// The code with which trouble is told, as it stands in the text of an outcome.
pub fn trouble(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "[UNAVAILABLE]",
        Protocol::Pop3 => "[SYS/TEMP]",
        Protocol::ManageSieve => "(TRYLATER)",
        Protocol::Submission => "454 4.7.0",
    }
}

/// The configuration of [`Gate::start`].
pub fn config(want: &Want<'_>) -> String {
    let Want { users, trust, backend, limits, more } = want;
    format!(
        r#"version = 1
[server]
name = "gate.test"
control = "control.sock"
threads = 2
[tls]
certificates = [{{ cert = "gate.pem", key = "gate.key" }}]
[trust]
{trust}
[[listen]]
protocol = "imap"
address = ["127.0.0.1:0"]
[[listen]]
protocol = "imaps"
address = ["127.0.0.1:0"]
{users}
[backend]
{backend}
[limits]
failed_login_pause = "10ms"
drain = "0s"
{limits}
[log]
level = "debug"
{more}
"#
    )
}

/// Everybody lives at this address; the password goes to the backend unchecked.
pub fn everybody_at(backend: SocketAddr, more_fields: &str) -> String {
    let (ip, port) = (backend.ip(), backend.port());
    format!(
        "[[users]]\nname = \"all\"\ndriver = \"static\"\nfields = {{ proxy = \"y\", nopassword = \"y\", host = \"{ip}\", port = \"{port}\"{more_fields} }}\n"
    )
}

/// Everybody of a protocol lives at the backend that speaks it, by a database that is called after the protocol; with more
/// fields, such as `, destuser = "x"`.
pub fn each_at_its_own(backends: &[FakeBackend], more_fields: &str) -> String {
    let block = |backend: &FakeBackend| {
        let (protocol, port) = (backend.protocol().name(), backend.port());
        format!(
            "[[users]]\nname = \"{protocol}\"\ndriver = \"static\"\nprotocols = [\"{protocol}\"]\n\
             fields = {{ proxy = \"y\", nopassword = \"y\", host = \"127.0.0.1\", port = \"{port}\"{more_fields} }}\n"
        )
    };
    backends.iter().map(block).collect()
}

/// A backend that lets everybody in and then echoes what it gets, a line `* ECHO ...` for each line.
pub fn echo_backend() -> FakeServer {
    FakeServer::start(|conn| {
        if testkit::peer::Backend::default().login(conn).is_some() {
            echo(conn);
        }
    })
}

/// The next thing that a backend noted. It notes a login after it has answered it, so the client may know earlier.
#[track_caller]
pub fn next<T>(notes: &Receiver<T>) -> T {
    notes.recv_timeout(testkit::wait::PATIENCE).expect("the backend has noted something")
}

/// Answers each line with itself, and `LOGOUT` with an end.
pub fn echo(conn: &mut Conn) {
    // A client of a test may be silent for long; the test's own waits are bounded.
    conn.set_patience(std::time::Duration::from_secs(120));
    while let Some(line) = conn.read_line() {
        let (tag, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let leaving = rest.eq_ignore_ascii_case("LOGOUT");
        conn.send_line(if leaving { "* BYE".to_owned() } else { format!("* ECHO {rest}") });
        conn.send_line(format!("{tag} OK Done."));
        if leaving {
            return;
        }
    }
}
