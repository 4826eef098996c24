//! How each protocol spells what the table says: the client's sign-in and its answer, and what a backend hears of it.
//!
//! A protocol that is added here runs through the whole table. Written for itself, without the program's own writers, so
//! that both cannot be wrong in the same way.

mod imap;
mod managesieve;
mod pop3;
mod submission;

pub use submission::xtext;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use testkit::Protocol;
use testkit::peer::{Backend, Conn};

/// All protocols of the table, as [`Protocol::ALL`].
pub const SPELLINGS: [&dyn Spelling; 4] = [&imap::Imap, &pop3::Pop3, &managesieve::ManageSieve, &submission::Submission];

/// The name of every Gatepost of the tests, as [`crate::gate::config`] has it.
const GATE: &str = "gate.test";

/// By what means somebody signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The protocol's own command: LOGIN, USER and PASS; where there is none, SASL PLAIN.
    Command,
    /// SASL PLAIN.
    Plain,
    /// SASL LOGIN.
    Login,
    /// No password: a backend is told who has signed in. Only where there is a word for that.
    Vouched,
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

    /// A backend that lets everybody in, by every means, and may be told all that a Gatepost may be told; its greeting offers TLS
    /// or not.
    fn backend(&self, starttls: bool) -> Backend;

    /// All that this backend says first.
    fn greeting(&self) -> String {
        self.backend(false).greeting
    }

    /// A backend's answer to a wrong password, as [`Backend::answer`] has it.
    fn no(&self) -> &'static str;

    /// The answer to a line of a login, for scripts that go line by line; `true` where it lets the user in.
    fn obey(&self, line: &str) -> (String, bool);

    /// Whether who is calling and the sign-in leave together.
    fn pipelines(&self) -> bool;

    /// All that a backend hears that is left at its offer of TLS.
    fn starttls(&self) -> String;

    /// How clients call themselves, where they do.
    fn helo(&self) -> Option<&'static str> {
        None
    }

    /// What a backend heard, with a fixed word for the time that is left of this deadline in seconds.
    fn timeless(&self, said: &str, _deadline: u64) -> String {
        said.to_owned()
    }

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

/// Without the registered port, and with brackets around an IPv6 address.
fn place(host: &str, port: u16, registered: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == registered { host } else { format!("{host}:{port}") }
}

fn plain(sign_in: &SignIn) -> String {
    STANDARD.encode(format!("{}\0{}\0{}", sign_in.authzid, sign_in.user, sign_in.password))
}

/// XCLIENT as POP3 and ManageSieve have it.
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
        line += &format!(" FORWARD={}", joined(identity));
    }
    line
}

/// Pairs as `FORWARD` joins them.
fn joined(identity: &Identity) -> String {
    let pairs: Vec<String> = identity.forward.iter().map(|(name, value)| format!("{name}={value}")).collect();
    STANDARD.encode(pairs.join("\t"))
}
