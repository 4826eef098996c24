//! How each protocol spells what the table says: the client's sign-in and its answer, and what a backend hears of it.
//!
//! A protocol that is added here runs through the whole table. Written for itself, without the program's own writers, so
//! that both cannot be wrong in the same way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use testkit::Protocol;
use testkit::peer::{Backend, Conn};

/// All protocols of the table.
pub const SPELLINGS: [&dyn Spelling; 2] = [&Imap, &Pop3];

/// By what means somebody signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The protocol's own command: LOGIN, USER and PASS.
    Command,
    /// SASL PLAIN.
    Plain,
    /// SASL LOGIN.
    Login,
}

/// What one side says to sign in.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub way: Way,
    /// Of PLAIN: as whom to act.
    pub authzid: String,
    pub user: String,
    pub password: String,
}

/// Who is calling, as a peer says or hears it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub session: String,
    pub client: SocketAddr,
    /// What the client reached, and how: a trusted front leaves both out.
    pub reached: Option<SocketAddr>,
    pub transport: Option<&'static str>,
    pub hops: u8,
    /// Pairs of `forward_`, in order.
    pub forward: Vec<(String, String)>,
}

/// What a backend is to hear up to the login's answer.
#[derive(Clone, Debug)]
pub struct Dialogue {
    pub starttls: bool,
    pub identity: Option<Identity>,
    pub sign_in: SignIn,
}

/// What a client is to hear of its login.
#[derive(Clone, Debug)]
pub enum Reply {
    In,
    WrongPassword,
    Unavailable,
    Looping,
    Disabled(String),
    Refer { user: String, host: String, port: u16, text: String },
}

pub trait Spelling: Sync {
    fn protocol(&self) -> Protocol;

    /// The registered ports, in clear and with TLS from the first byte.
    fn ports(&self) -> (u16, u16);

    /// A backend that lets everybody in, by every means; its greeting offers TLS or not.
    fn backend(&self, starttls: bool) -> Backend;

    /// A backend's answer to a wrong password, as [`Backend::answer`] has it.
    fn no(&self) -> &'static str;

    /// The answer to a line of a login, for scripts that go line by line; `true` where it lets the user in.
    fn obey(&self, line: &str) -> (String, bool);

    /// Whether who is calling and the sign-in leave together.
    fn pipelines(&self) -> bool;

    /// All that a backend hears that is left at its offer of TLS.
    fn starttls(&self) -> &'static str;

    /// Whether a forwarded pair can be told to a backend.
    fn carries(&self, name: &str, value: &str) -> bool;

    /// Says who is calling, and expects a yes.
    fn introduce(&self, conn: &mut Conn, identity: &Identity);

    /// Signs in and returns the line that answers it.
    fn sign_in(&self, conn: &mut Conn, sign_in: &SignIn) -> String;

    /// All that a backend hears.
    fn dialogue(&self, said: &Dialogue) -> String;

    /// The line that answers [`Spelling::sign_in`]. `way` is the client's.
    fn answer(&self, answer: &Reply, way: Way) -> String;
}

struct Imap;

impl Spelling for Imap {
    fn protocol(&self) -> Protocol {
        Protocol::Imap
    }

    fn ports(&self) -> (u16, u16) {
        (143, 993)
    }

    fn backend(&self, starttls: bool) -> Backend {
        let capabilities = "IMAP4rev1 SASL-IR ID LITERAL+ AUTH=PLAIN AUTH=LOGIN";
        let greeting = format!("* OK [CAPABILITY {capabilities}{}] ready", if starttls { " STARTTLS" } else { "" });
        Backend { greeting, capabilities: capabilities.to_owned(), ..Backend::of(Protocol::Imap) }
    }

    fn no(&self) -> &'static str {
        "NO [AUTHENTICATIONFAILED] No."
    }

    fn obey(&self, line: &str) -> (String, bool) {
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        match rest.starts_with("LOGIN ") {
            true => (format!("{tag} {}", self.backend(false).answer), true),
            false => (format!("{tag} OK Done."), false),
        }
    }

    fn pipelines(&self) -> bool {
        true
    }

    fn starttls(&self) -> &'static str {
        "S STARTTLS\r\n"
    }

    fn carries(&self, name: &str, value: &str) -> bool {
        name.len() <= 20 && value.len() <= 1000 && !value.chars().any(char::is_control)
    }

    fn introduce(&self, conn: &mut Conn, identity: &Identity) {
        conn.send_line(format!("i {}", id(identity)));
        conn.expect_until("i OK");
    }

    fn sign_in(&self, conn: &mut Conn, sign_in: &SignIn) -> String {
        match sign_in.way {
            Way::Command => conn.send_line(format!("a LOGIN {} {}", string(&sign_in.user), string(&sign_in.password))),
            Way::Plain => conn.send_line(format!("a AUTHENTICATE PLAIN {}", plain(sign_in))),
            Way::Login => {
                conn.send_line("a AUTHENTICATE LOGIN");
                for value in [&sign_in.user, &sign_in.password] {
                    conn.expect_line("+ ");
                    conn.send_line(STANDARD.encode(value));
                }
            }
        }
        conn.expect_line("")
    }

    fn dialogue(&self, said: &Dialogue) -> String {
        let mut lines = Vec::new();
        if said.starttls {
            lines.extend(["S STARTTLS".to_owned(), "C CAPABILITY".to_owned()]);
        }
        lines.extend(said.identity.as_ref().map(|identity| format!("I {}", id(identity))));
        let SignIn { user, password, .. } = &said.sign_in;
        match said.sign_in.way {
            Way::Command => lines.push(format!("L LOGIN {} {}", string(user), string(password))),
            Way::Plain => lines.push(format!("L AUTHENTICATE PLAIN {}", plain(&said.sign_in))),
            Way::Login => {
                lines.extend(["L AUTHENTICATE LOGIN".to_owned(), STANDARD.encode(user), STANDARD.encode(password)]);
            }
        }
        lines.join("\r\n") + "\r\n"
    }

    fn answer(&self, answer: &Reply, way: Way) -> String {
        match answer {
            Reply::In => "a OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in".to_owned(),
            Reply::WrongPassword => "a NO [AUTHENTICATIONFAILED] Authentication failed.".to_owned(),
            Reply::Unavailable => "a NO [UNAVAILABLE] Account is temporarily unavailable.".to_owned(),
            Reply::Looping => "a NO [UNAVAILABLE] Account is temporarily unavailable. (Proxies are looping.)".to_owned(),
            Reply::Disabled(text) => format!("a NO [CONTACTADMIN] {text}"),
            Reply::Refer { user, host, port, text } => {
                let mechanism = if way == Way::Login { "LOGIN" } else { "PLAIN" };
                format!("a NO [REFERRAL imap://{user};AUTH={mechanism}@{}/] {text}", place(host, *port, 143))
            }
        }
    }
}

struct Pop3;

impl Spelling for Pop3 {
    fn protocol(&self) -> Protocol {
        Protocol::Pop3
    }

    fn ports(&self) -> (u16, u16) {
        (110, 995)
    }

    fn backend(&self, _: bool) -> Backend {
        Backend::of(Protocol::Pop3)
    }

    fn no(&self) -> &'static str {
        "-ERR [AUTH] No."
    }

    fn obey(&self, line: &str) -> (String, bool) {
        match line.starts_with("PASS ") {
            true => (self.backend(false).answer, true),
            false => ("+OK".to_owned(), false),
        }
    }

    fn pipelines(&self) -> bool {
        true
    }

    fn starttls(&self) -> &'static str {
        "STLS\r\n"
    }

    fn carries(&self, _: &str, value: &str) -> bool {
        // The whole line has at most 1000 octets; no case of the table comes near that without going beyond it.
        value.len() <= 500 && !value.chars().any(char::is_control)
    }

    fn introduce(&self, conn: &mut Conn, identity: &Identity) {
        conn.send_line(xclient(identity));
        conn.expect_line("+OK");
    }

    fn sign_in(&self, conn: &mut Conn, sign_in: &SignIn) -> String {
        match sign_in.way {
            Way::Command => {
                conn.send_line(format!("USER {}", sign_in.user));
                conn.expect_line("+OK");
                conn.send_line(format!("PASS {}", sign_in.password));
            }
            Way::Plain => conn.send_line(format!("AUTH PLAIN {}", plain(sign_in))),
            Way::Login => {
                conn.send_line("AUTH LOGIN");
                for value in [&sign_in.user, &sign_in.password] {
                    conn.expect_line("+ ");
                    conn.send_line(STANDARD.encode(value));
                }
            }
        }
        conn.expect_line("")
    }

    fn dialogue(&self, said: &Dialogue) -> String {
        let mut lines = Vec::new();
        if said.starttls {
            lines.push("STLS".to_owned());
        }
        lines.extend(said.identity.as_ref().map(xclient));
        let SignIn { user, password, .. } = &said.sign_in;
        match said.sign_in.way {
            Way::Command => lines.extend([format!("USER {user}"), format!("PASS {password}")]),
            Way::Plain => lines.push(format!("AUTH PLAIN {}", plain(&said.sign_in))),
            Way::Login => lines.extend(["AUTH LOGIN".to_owned(), STANDARD.encode(user), STANDARD.encode(password)]),
        }
        lines.join("\r\n") + "\r\n"
    }

    fn answer(&self, answer: &Reply, _: Way) -> String {
        match answer {
            Reply::In => "+OK Logged in.".to_owned(),
            Reply::WrongPassword => "-ERR [AUTH] Authentication failed.".to_owned(),
            Reply::Unavailable => "-ERR [SYS/TEMP] Account is temporarily unavailable.".to_owned(),
            Reply::Looping => "-ERR [SYS/PERM] Account is temporarily unavailable. (Proxies are looping.)".to_owned(),
            Reply::Disabled(text) => format!("-ERR [AUTH] {text}"),
            Reply::Refer { user, host, port, text } => {
                format!("-ERR [REFERRAL/{user}@{}] {text}", place(host, *port, 110))
            }
        }
    }
}

/// Without the registered port, and with brackets around an IPv6 address.
fn place(host: &str, port: u16, registered: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == registered { host } else { format!("{host}:{port}") }
}

fn plain(sign_in: &SignIn) -> String {
    STANDARD.encode(format!("{}\0{}\0{}", sign_in.authzid, sign_in.user, sign_in.password))
}

/// The command ID, without its tag.
fn id(identity: &Identity) -> String {
    let mut words = Vec::new();
    let mut say = |key: &str, value: &dyn std::fmt::Display| words.extend([string(key), string(&value.to_string())]);
    say("x-session-id", &identity.session);
    say("x-originating-ip", &identity.client.ip());
    say("x-originating-port", &identity.client.port());
    if let Some(reached) = identity.reached {
        say("x-connected-ip", &reached.ip());
        say("x-connected-port", &reached.port());
    }
    say("x-proxy-ttl", &identity.hops);
    if let Some(transport) = identity.transport {
        say("x-client-transport", &transport);
    }
    for (name, value) in &identity.forward {
        words.push(string(&format!("x-forward-{name}")));
        words.push(if value.is_empty() { "NIL".to_owned() } else { string(value) });
    }
    format!("ID ({})", words.join(" "))
}

/// A string as IMAP writes it to a server with LITERAL+.
fn string(text: &str) -> String {
    match text.is_ascii() {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => format!("{{{}+}}\r\n{text}", text.len()),
    }
}

fn xclient(identity: &Identity) -> String {
    let mut line = format!("XCLIENT ADDR={} PORT={}", identity.client.ip(), identity.client.port());
    if let Some(reached) = identity.reached {
        line += &format!(" DESTADDR={} DESTPORT={}", reached.ip(), reached.port());
    }
    line += &format!(" SESSION={} TTL={}", identity.session, identity.hops);
    if let Some(transport) = identity.transport {
        line += &format!(" CLIENT-TRANSPORT={transport}");
    }
    if !identity.forward.is_empty() {
        let pairs: Vec<String> = identity.forward.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line += &format!(" FORWARD={}", STANDARD.encode(pairs.join("\t")));
    }
    line
}
