//! Mail programs of others that send by Submission, deliver by LMTP or look after Sieve scripts, told to use one server on a port of its own
//! and to trust one authority.
//!
//! Each runs to its end and is judged by its exit code, as by whoever has it in a script. They connect to `localhost` by
//! that name, because that is what the certificate must name.
//!
//! Facts about Debian 12's versions:
//!
//! * swaks 20201014 checks who signed a certificate, but not for whom. By LMTP it reads as many replies behind the message as
//!   RCPT had a yes, in lockstep before that; the exit code is 0 if one of them is 250.
//! * sieve-connect 0.90 sends `NOOP "STARTTLS-RESYNC-CAPA"` right behind the handshake and reads until that is answered. Its
//!   initial response for PLAIN is a literal (`{28+}`).
//! * sievelib 1.2 would take any certificate; here it is made to look. With LOGIN it sends both answers at once.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::Dir;
use crate::process::Process;

/// A server, and who signs in there.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// The port of `localhost`.
    pub port: u16,
    /// TLS from the first byte instead of STARTTLS.
    pub implicit: bool,
    /// PEM file of the authority that signed its certificate.
    pub ca: &'a Path,
    /// The user.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// `PLAIN` or `LOGIN`.
    pub mechanism: &'a str,
}

/// A message and its envelope.
#[derive(Clone, Debug)]
pub struct Mail<'a> {
    /// The sender.
    pub from: &'a str,
    /// The recipients.
    pub to: &'a [&'a str],
    /// The message, with CRLF line ends.
    pub text: &'a [u8],
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the program thinks that it worked.
    pub ok: bool,
    /// All that it said, on both outputs.
    pub said: String,
}

/// The name in EHLO of those programs that can be given one: `swaks`, `msmtp` and `curl`.
pub const HELLO: &str = "program.test";

/// Sends with swaks. It shows the whole dialogue.
#[track_caller]
pub fn swaks(account: &Account, mail: &Mail, more: &[&str]) -> Outcome {
    let (dir, port) = (Dir::new(), account.port.to_string());
    let mut command = Command::new("swaks");
    command.args(["--server", "localhost", "--port", &port, "--ehlo", HELLO]);
    command.arg(if account.implicit { "--tls-on-connect" } else { "--tls" }).arg("--tls-verify");
    command.arg("--tls-ca-path").arg(account.ca);
    command.args(["--auth", account.mechanism, "--auth-user", account.user, "--auth-password", account.password]);
    command.args(["--from", mail.from, "--to", &mail.to.join(",")]);
    command.arg("--data").arg(swaks_text(&dir, mail)).args(more);
    run(command, &dir)
}

/// It puts a line end behind the last line, whether there is one or not.
#[track_caller]
fn swaks_text(dir: &Dir, mail: &Mail) -> String {
    format!("@{}", dir.write("message", mail.text.strip_suffix(b"\r\n").unwrap_or(mail.text)).display())
}

/// Delivers with swaks by LMTP, to all recipients in one transaction, without TLS (`more` may have `--tls`). The outcome has
/// the whole dialogue; [`replies_to`] takes the answers out of it.
#[track_caller]
pub fn swaks_lmtp(server: SocketAddr, mail: &Mail, more: &[&str]) -> Outcome {
    let dir = Dir::new();
    let mut command = Command::new("swaks");
    command.args(["--protocol", "LMTP", "--server", &server.ip().to_string(), "--port", &server.port().to_string()]);
    command.args(["--ehlo", HELLO, "--from", mail.from, "--to", &mail.to.join(",")]);
    command.arg("--data").arg(swaks_text(&dir, mail)).args(more);
    run(command, &dir)
}

/// The replies to each RCPT, and those behind the message, in what [`swaks_lmtp`] said, as swaks got them: in order, without
/// line ends, lines of one reply joined by blanks.
pub fn replies_to(said: &str) -> (Vec<String>, Vec<String>) {
    let (mut at_rcpt, mut behind, mut last): (Vec<String>, Vec<String>, &str) = Default::default();
    let mut goes_on = false;
    for line in said.lines() {
        // " -> ", and "<- " or "<** " (for a reply other than hoped for), and the same with ~ in TLS.
        if let Some(said) = line.strip_prefix(" -> ").or_else(|| line.strip_prefix(" ~> ")) {
            last = said;
            continue;
        }
        let Some((_, reply)) = line.split_once(' ').filter(|(mark, _)| matches!(*mark, "<-" | "<~" | "<**" | "<~*")) else {
            continue;
        };
        let reply = reply.trim_start();
        let list = match last {
            "." => &mut behind,
            _ if last.starts_with("RCPT TO:") => &mut at_rcpt,
            _ => continue,
        };
        match list.last_mut().filter(|_| goes_on) {
            Some(text) => {
                text.push(' ');
                text.push_str(reply);
            }
            None => list.push(reply.to_owned()),
        }
        goes_on = reply.get(3..4) == Some("-");
    }
    (at_rcpt, behind)
}

/// Sends with msmtp.
#[track_caller]
pub fn msmtp(account: &Account, mail: &Mail, more: &[&str]) -> Outcome {
    let dir = Dir::new();
    let Account { port, user, password, ca, .. } = account;
    let (starttls, mechanism) = (if account.implicit { "off" } else { "on" }, account.mechanism.to_ascii_lowercase());
    let config = dir.write(
        "msmtprc",
        format!(
            "account a\nhost localhost\nport {port}\nauth {mechanism}\nuser {user}\npassword {password}\n\
             tls on\ntls_starttls {starttls}\ntls_trust_file {}\ndomain {HELLO}\nfrom {}\n",
            ca.display(),
            mail.from
        ),
    );
    // It refuses a file with a password that others may read.
    crate::owner::give(&config, rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), 0o600);
    let mut command = reading(&dir.write("message", mail.text), 0);
    command.args(["msmtp", "-C"]).arg(config).args(["-a", "a"]).args(more).args(mail.to);
    run(command, &dir)
}

/// Sends with curl.
#[track_caller]
pub fn curl(account: &Account, mail: &Mail, more: &[&str]) -> Outcome {
    let dir = Dir::new();
    let scheme = if account.implicit { "smtps" } else { "smtp" };
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--ssl-reqd", "--cacert"]).arg(account.ca);
    command.args(["-u", &format!("{}:{}", account.user, account.password)]);
    command.args(["--login-options", &format!("AUTH={}", account.mechanism)]);
    command.args(["--mail-from", mail.from]);
    for recipient in mail.to {
        command.args(["--mail-rcpt", recipient]);
    }
    command.arg("-T").arg(dir.write("message", mail.text)).arg(format!("{scheme}://localhost:{}/{HELLO}", account.port));
    command.args(more);
    run(command, &dir)
}

/// Runs sieve-connect, which knows STARTTLS only, with these arguments: `--list`, `--activate --remotesieve NAME`,
/// `--upload --localsieve FILE --remotesieve NAME` and others.
#[track_caller]
pub fn sieve_connect(account: &Account, arguments: &[&str]) -> Outcome {
    let (dir, port) = (Dir::new(), account.port.to_string());
    let mut command = reading(&dir.write("password", format!("{}\n", account.password)), 3);
    command.args(["sieve-connect", "--server", "localhost", "--port", &port, "--user", account.user, "--passwordfd", "3"]);
    command.args(["--authmech", account.mechanism, "--tlscafile"]).arg(account.ca).args(arguments);
    run(command, &dir)
}

/// Runs lines of Python with `c`, a `sievelib.managesieve.Client` that has signed in behind STARTTLS.
#[track_caller]
pub fn sievelib(account: &Account, script: &str) -> Outcome {
    let dir = Dir::new();
    let file = dir.write("client.py", format!("{SIEVELIB}\n{script}\nc.logout()\n"));
    // Debian's Python, which has Debian's packages; there may be another one in front of it.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-W", "ignore"]).arg(file).arg(account.port.to_string()).arg(account.ca);
    command.args([account.user, account.password, account.mechanism]);
    run(command, &dir)
}

/// The module calls a function that wraps a socket without looking at the certificate; this one looks.
const SIEVELIB: &str = "\
import ssl, sys
import sievelib.managesieve
port, ca, user, password, mechanism = int(sys.argv[1]), *sys.argv[2:]
context = ssl.create_default_context(cafile=ca)
ssl.wrap_socket = lambda socket, *_: context.wrap_socket(socket, server_hostname='localhost')
c = sievelib.managesieve.Client('localhost', port)
if not c.connect(user, password, starttls=True, authmech=mechanism):
    sys.exit('not signed in: %r' % c.errmsg)";

/// A shell that becomes the program behind it, with the file as its input `number`.
fn reading(file: &Path, number: u8) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!(r#"file=$1; shift; exec "$@" {number}<"$file""#), "sh"]).arg(file);
    command
}

#[track_caller]
fn run(mut command: Command, dir: &Dir) -> Outcome {
    // Nobody's own settings.
    command.env("HOME", dir.path()).env("SWAKS_HOME", dir.path());
    let mut process = Process::start(command, dir.join("output"));
    let ended = process.wait_exit();
    Outcome { ok: ended.success(), said: process.output().lines().join("\n") }
}
