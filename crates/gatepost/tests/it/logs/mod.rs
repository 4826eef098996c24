//! The journal as others read it: in Dovecot's words, in a file, from syslog and systemd's journal; and fail2ban's count.

mod daemons;
mod dovecot;
mod fail2ban;

use crate::gate::{Gate, OTHERS_TOO, Want};
use testkit::Protocol;
use testkit::peer::{Backend, FakeBackend, FakeServer};
use testkit::{Dir, free_port};

/// All formats.
const FORMATS: [&str; 4] = ["text", "json", "dovecot-2.3", "dovecot-2.4"];

/// A Gatepost with users of all kinds, whose password is `right` where a database knows it:
///
/// - [`good`] get in, each by their protocol;
/// - [`strange`] have backends that know another password, `later` one that is in trouble;
/// - `dead` lives where nobody listens, `odd` in a row that cannot be followed;
/// - `gone` may not come in at present.
struct House {
    gate: Gate,
    /// Backends, until the end; and the port where nobody is to listen.
    _backends: (Vec<FakeBackend>, FakeServer, testkit::ports::Port),
    /// Where the log is, and stays when the program is gone.
    dir: Dir,
}

/// Who gets in by this protocol.
fn good(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "alice",
        Protocol::Pop3 => "paula",
        Protocol::ManageSieve => "mona",
        Protocol::Submission => "susan",
    }
}

/// Who is not let in by the backend of this protocol.
fn strange(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "carol",
        Protocol::Pop3 => "piet",
        Protocol::ManageSieve => "marc",
        Protocol::Submission => "sven",
    }
}

impl House {
    /// `log` is the body of `[log]`; `DIR` in it is the directory of the log.
    fn start(log: &str, limits: &str) -> House {
        let good_ones = Protocol::ALL.map(|protocol| FakeBackend::start(Backend::of(protocol)));
        let strange_ones = Protocol::ALL.map(|protocol| {
            let answer = match protocol {
                Protocol::Imap => "NO [AUTHENTICATIONFAILED] not \"you\" <rip=6.6.6.6>",
                Protocol::Pop3 => "-ERR [AUTH] no",
                Protocol::ManageSieve => "NO \"not you, rip=6.6.6.6\"",
                Protocol::Submission => "535 5.7.8 not \"you\" <rip=6.6.6.6>",
            };
            FakeBackend::start(Backend { answer: answer.to_owned(), ..Backend::of(protocol) })
        });
        // Asked again and again until the deadline: the last try may end in the middle of a word.
        let in_trouble = FakeServer::start(|conn| {
            let mut answer = conn.try_send("* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN] ready\r\n");
            while let Some(line) = conn.read_line().filter(|_| answer.is_ok()) {
                let tag = line.split(' ').next().unwrap_or_default();
                answer = conn.try_send(format!("{tag} NO [UNAVAILABLE] later\r\n"));
            }
        });
        let row = |user: &str, password: &str, port: u16, more: &str| {
            let nopassword = if password.is_empty() { "nopassword=y" } else { "" };
            format!("{user}:{password}::::::proxy=y host=127.0.0.1 port={port} {nopassword} {more}\n")
        };
        let nobody = free_port();
        let each = |backends: &[FakeBackend], name: fn(Protocol) -> &'static str, password| -> String {
            backends.iter().map(|backend| row(name(backend.protocol()), password, backend.port(), "")).collect()
        };
        let rows = [
            each(&good_ones, good, "{PLAIN}right"),
            each(&strange_ones, strange, ""),
            row("later", "", in_trouble.port(), "proxy_timeout=1"),
            row("dead", "", nobody.number(), "proxy_timeout=1"),
            row("odd", "{PLAIN}right", 1, "proxy_timeout=soon"),
            "gone:{PLAIN}right::::::nologin=y\n".to_owned(),
        ];
        let dir = Dir::new();
        let config = Dir::new();
        config.write("users", rows.concat());
        let want = Want {
            trust: "networks = [\"127.0.0.1\"]",
            users: "[[users]]\nname = \"all\"\ndriver = \"passwd-file\"\npath = \"users\"\n",
            limits: &format!("failed_login_pause = \"0s\"\nguesses = 100000\nuser_connections = 5000\n{limits}"),
            more: &format!("{}\n{OTHERS_TOO}", log.replace("DIR", &dir.path().display().to_string())),
            ..Want::default()
        };
        let text = crate::gate::config(&want).replace("failed_login_pause = \"10ms\"\n", "");
        let gate = Gate::start_with(config, &text);
        let backends = good_ones.into_iter().chain(strange_ones).collect();
        House { gate, _backends: (backends, in_trouble, nobody), dir }
    }

    /// With a file in a format.
    fn with_file(format: &str, limits: &str) -> House {
        House::start(&format!("format = \"{format}\"\nfile = \"DIR/log\""), limits)
    }

    /// Ends the program, so that all is written, and returns the lines of the file.
    fn lines(self) -> (Dir, Vec<String>) {
        self.gate.gatepost.stop();
        let lines = testkit::Log::at(self.dir.join("log")).lines();
        (self.dir, lines)
    }
}
