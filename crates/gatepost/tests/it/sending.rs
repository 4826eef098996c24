//! Submission to real mail servers behind Gatepost, as several tests do it: the ways there, the ways clients come, and what
//! is sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;

use testkit::Protocol;
use testkit::delivered::Message;
use testkit::mail_server::MailServer;
use testkit::peer::{Sasl, SmtpClient};
use testkit::wait;

use crate::gate::{Gate, Want, everybody_at, listeners_for};

/// What clients call themselves.
pub const HELLO: &str = "laptop.example";

/// Where clients stand that come by themselves.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 42));
/// One that is believed when it says who is calling.
pub const WEBMAIL: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));
/// One whose PROXY header is believed.
pub const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

/// The `[trust]` that makes the two what they are.
pub const TRUST: &str = "networks = [\"127.0.0.99\"]\nproxy_protocol = [\"127.0.0.7\"]";
/// Where the balancer comes in.
const HEADED: &str = "[[listen]]\nprotocol = \"submission\"\naddress = \"127.0.1.1:0\"\nproxy_protocol = \"required\"\n";

/// How Gatepost goes to the mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Clear,
    StartTls,
    Tls,
}

pub const LEGS: [Leg; 3] = [Leg::Clear, Leg::StartTls, Leg::Tls];

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// By itself, from [`CLIENT`].
    Itself,
    /// Through [`WEBMAIL`], which says by XCLIENT who it is.
    Told(&'static str),
    /// Through [`BALANCER`].
    Headed(&'static str),
}

/// The port of clients that others speak for.
const PORT: u16 = 4711;

/// A Gatepost from which all mail goes to one server.
pub struct Way {
    gate: Gate,
}

impl Way {
    /// One with these further fields in everybody's row, and `[backend]` besides TLS.
    #[track_caller]
    pub fn to(server: &MailServer, leg: Leg, fields: &str, backend: &str) -> Way {
        let (at, more_fields) = match leg {
            Leg::Clear => (server.addr(), String::new()),
            Leg::StartTls => (server.addr(), r#", starttls = "yes""#.to_owned()),
            Leg::Tls => (server.tls_addr(), r#", ssl = "yes""#.to_owned()),
        };
        let ca = server.certificate().ca_file.display();
        Way::with(&everybody_at(at, &(more_fields + fields)), &format!("tls_ca = \"{ca}\"\n{backend}"))
    }

    /// One with these databases and this `[backend]`.
    #[track_caller]
    pub fn with(users: &str, backend: &str) -> Way {
        let more = listeners_for(Protocol::Submission) + HEADED;
        Way { gate: Gate::start(&Want { users, backend, trust: TRUST, more: &more, ..Default::default() }) }
    }

    /// A client in TLS that has said EHLO, and the address by which it should be known.
    #[track_caller]
    pub fn client(&self, arrival: Arrival) -> (SmtpClient, SocketAddr) {
        let client = |from, at: &str| {
            let ours = |addr: &SocketAddr| addr.ip().to_string() == at;
            let to = self.gate.gatepost.addrs("submission").into_iter().find(ours).expect("a listener");
            SmtpClient::connect_from(from, to)
        };
        let mut client = match arrival {
            Arrival::Itself => client(CLIENT, "127.0.0.1"),
            Arrival::Told(_) => client(WEBMAIL, "127.0.0.1"),
            Arrival::Headed(who) => {
                let mut client = client(BALANCER, "127.0.1.1");
                let (family, reached) = if who.contains(':') { ("TCP6", "2001:db8::1") } else { ("TCP4", "192.0.2.1") };
                client.send(format!("PROXY {family} {who} {reached} {PORT} 587\r\n"));
                client
            }
        };
        client.greeting();
        client.ehlo("in-clear.example");
        client.starttls(&self.gate.tls, "localhost");
        let who = match arrival {
            Arrival::Itself => client.local_addr(),
            Arrival::Told(who) => {
                client.ehlo("webmail.example");
                let family = if who.contains(':') { "IPV6:" } else { "" };
                let reply = client.xclient(&format!("ADDR={family}{who} PORT={PORT}"));
                assert_eq!(reply.code, 220, "{reply:?}");
                SocketAddr::new(who.parse().unwrap(), PORT)
            }
            Arrival::Headed(who) => SocketAddr::new(who.parse().unwrap(), PORT),
        };
        client.ehlo(HELLO);
        (client, who)
    }

    /// A client that comes by itself and has signed in as alice.
    #[track_caller]
    pub fn signed_in(&self) -> SmtpClient {
        let (mut client, _) = self.client(Arrival::Itself);
        self.sign_in(&mut client, &alice());
        client
    }

    /// AUTH, which must work.
    #[track_caller]
    pub fn sign_in(&self, client: &mut SmtpClient, sasl: &Sasl) {
        let reply = client.authenticate(sasl);
        assert!(reply.is_ok(), "{sasl:?}: {reply:?}\n{}\n{}", client.dialogue(), self.gatepost.log().tail());
    }

    /// The journal's line on the `n`th login, from 1.
    #[track_caller]
    pub fn login_line(&self, n: usize) -> String {
        self.gatepost.log().wait_for_count(" info login ", n).swap_remove(n - 1)
    }
}

impl Deref for Way {
    type Target = Gate;
    fn deref(&self) -> &Gate {
        &self.gate
    }
}

/// A row for everybody, who lives at this port and whose password is checked here: `mine`.
pub fn checked_here(port: u16, fields: &str) -> String {
    row(port, r#"password = "{PLAIN}mine""#, fields)
}

/// A row for everybody, who lives at this port and whose password is compared with nothing here.
pub fn unchecked(port: u16, fields: &str) -> String {
    row(port, r#"nopassword = "y""#, fields)
}

fn row(port: u16, password: &str, fields: &str) -> String {
    let fields = format!("proxy = \"y\", host = \"127.0.0.1\", port = \"{port}\", {password}{fields}");
    format!("[[users]]\ndriver = \"static\"\nfields = {{ {fields} }}\n")
}

/// Alice as she signs in where nothing depends on it.
pub fn alice() -> Sasl {
    Sasl::plain("", "alice", "alice-secret")
}

/// Each way to sign in.
pub fn ways_to_sign_in() -> [Sasl; 4] {
    let login = || Sasl::login("alice", "alice-secret");
    [alice(), alice().asked(), login(), login().at_once()]
}

/// A short message of alice's with this subject, and QUIT.
#[track_caller]
pub fn send(mut client: SmtpClient, subject: &str) {
    let message = format!("Subject: {subject}\r\n\r\n.\r\n..\r\nWords.\r\n");
    client.send_message("alice@example.com", &["carol@example.org"], message.as_bytes());
    client.quit();
}

/// The message with this subject, waited for.
#[track_caller]
pub fn delivered(server: &MailServer, subject: &str) -> Message {
    let mut found = None;
    wait::until(&format!("{subject:?} is delivered"), || {
        found = server.delivered().messages().into_iter().find(|message| message.fields("Subject") == [subject]);
        found.is_some()
    });
    found.expect("it was found")
}
