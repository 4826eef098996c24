//! Submission (RFC 6409, 4954, 3207; XCLIENT as Postfix describes it, with the attributes of Dovecot).

use super::{Dialogue, GATE, Identity, Reply, SignIn, Spelling, Way, joined, place, plain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::Protocol;
use testkit::peer::{Backend, Conn, Xclient};

pub(super) struct Submission;

/// What the clients call themselves.
const CLIENT: &str = "client.test";

/// Stands for the seconds that are left.
const LEFT: &str = "TIMEOUT=(left)";

/// A command is shorter than this, its CRLF included.
const COMMAND_MAX: usize = 512;

impl Spelling for Submission {
    fn protocol(&self) -> Protocol {
        Protocol::Submission
    }

    fn ports(&self) -> (u16, u16) {
        (587, 465)
    }

    fn backend(&self, _: bool) -> Backend {
        Backend {
            capabilities: "PIPELINING\nSIZE 50000000\nENHANCEDSTATUSCODES\nAUTH PLAIN LOGIN\n\
                           XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME SESSION TTL TIMEOUT FORWARD \
                           DESTNAME CLIENT-TRANSPORT"
                .to_owned(),
            xclient: Xclient::SignsIn,
            ..Backend::of(Protocol::Submission)
        }
    }

    fn no(&self) -> &'static str {
        "535 5.7.8 No."
    }

    fn obey(&self, line: &str) -> (String, bool) {
        let Backend { greeting, capabilities, answer, .. } = self.backend(false);
        match line.split(' ').next() {
            Some("EHLO") => {
                let lines: String = capabilities.lines().map(|line| format!("250-{line}\r\n")).collect();
                (format!("250-backend.test\r\n{lines}250 HELP"), false)
            }
            Some("XCLIENT") => (greeting, false),
            Some("AUTH") => (answer, true),
            _ => ("500 5.5.1 Not here.".to_owned(), false),
        }
    }

    fn pipelines(&self) -> bool {
        false
    }

    fn starttls(&self) -> String {
        format!("EHLO {GATE}\r\nSTARTTLS\r\n")
    }

    fn helo(&self) -> Option<&'static str> {
        Some(CLIENT)
    }

    fn timeless(&self, said: &str, deadline: u64) -> String {
        let lines = said.split_inclusive('\n').map(|line| {
            let Some((before, rest)) = line.split_once("TIMEOUT=") else { return line.to_owned() };
            let (left, rest) = rest.split_at(rest.find([' ', '\r']).unwrap_or(rest.len()));
            let left: u64 = left.parse().unwrap();
            assert!((1..=deadline).contains(&left) && left + 20 > deadline, "{left} s are left of {deadline}: {line}");
            format!("{before}{LEFT}{rest}")
        });
        lines.collect()
    }

    fn carries(&self, _: &str, value: &str) -> bool {
        // A command with nothing else in it has at most 1000 octets; no case of the table comes near that without going
        // beyond it.
        value.len() <= 500 && !value.chars().any(char::is_control)
    }

    fn introduce(&self, conn: &mut Conn, identity: &Identity) {
        let mut line = format!("XCLIENT ADDR={} PORT={}", identity.client.ip(), identity.client.port());
        line += &format!(" SESSION={} TTL={}", identity.session, identity.hops);
        if !identity.forward.is_empty() {
            line += &format!(" FORWARD={}", xtext(&joined(identity)));
        }
        conn.send_line(line);
        conn.expect_line("220 ");
    }

    fn sign_in(&self, conn: &mut Conn, sign_in: &SignIn) -> String {
        conn.send_line(format!("EHLO {CLIENT}"));
        conn.expect_until("250 ");
        let mut lines = auth(sign_in).into_iter();
        conn.send_line(lines.next().unwrap());
        for line in lines {
            conn.expect_line("334 ");
            conn.send_line(line);
        }
        conn.expect_line("")
    }

    fn dialogue(&self, said: &Dialogue) -> String {
        let mut lines = Vec::new();
        if said.starttls {
            // Who is calling is never said in clear then.
            lines.extend([format!("EHLO {GATE}"), "STARTTLS".to_owned()]);
        }
        let name = if said.identity.is_some() { CLIENT } else { GATE };
        let hello = format!("EHLO {name}");
        lines.push(hello.clone());
        let vouched = (said.sign_in.way == Way::Vouched).then(|| format!(" LOGIN={}", xtext(&said.sign_in.user)));
        let introduction = xclient(said.identity.as_ref(), vouched.as_deref().unwrap_or(""));
        if !introduction.is_empty() {
            lines.extend(introduction);
            lines.push(hello);
        }
        if vouched.is_none() {
            lines.extend(auth(&said.sign_in));
        }
        lines.join("\r\n") + "\r\n"
    }

    fn answer(&self, answer: &Reply, _: Way) -> String {
        match answer {
            Reply::In => "235 2.7.0 Logged in.".to_owned(),
            Reply::WrongPassword => "535 5.7.8 Authentication failed.".to_owned(),
            Reply::Unavailable => "454 4.7.0 Account is temporarily unavailable.".to_owned(),
            Reply::Looping => "451 4.4.6 Account is temporarily unavailable. (Proxies are looping.)".to_owned(),
            Reply::Disabled(text) => format!("525 5.7.13 {text}"),
            // Two ports are usual, so it is always said.
            Reply::Refer { user, host, port, text } => format!("550 5.2.900 {user}@{} {text}", place(host, *port, 0)),
        }
    }
}

/// The commands that say who is calling, and who has signed in; none where neither is said.
fn xclient(identity: Option<&Identity>, vouched: &str) -> Vec<String> {
    let mut lines = vec!["XCLIENT".to_owned()];
    // What is said together.
    let mut say = |words: &str| {
        let line = lines.last_mut().unwrap();
        if line.len() + words.len() + 2 < COMMAND_MAX || line == "XCLIENT" {
            *line += words;
        } else {
            lines.push(format!("XCLIENT{words}"));
        }
    };
    let mut caller = String::new();
    if let Some(Identity { session, client, reached, transport, hops, forward }) = identity {
        let reached = reached.unwrap();
        say(&format!(" DESTADDR={} DESTPORT={}", shown(reached.ip()), reached.port()));
        say(&format!(" SESSION={session} TTL={hops} {LEFT}"));
        if !forward.is_empty() {
            say(&format!(" FORWARD={}", xtext(&joined(identity.unwrap()))));
        }
        caller = format!(" NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] ADDR={} PORT={}", shown(client.ip()), client.port());
        caller += &format!(" HELO={CLIENT} PROTO=ESMTP");
        // With the address, or it would be of another client.
        caller += &transport.map(|transport| format!(" CLIENT-TRANSPORT={transport}")).unwrap_or_default();
    }
    say(&format!("{caller}{vouched}"));
    if lines == ["XCLIENT"] { Vec::new() } else { lines }
}

fn shown(ip: std::net::IpAddr) -> String {
    if ip.is_ipv6() { format!("IPV6:{ip}") } else { ip.to_string() }
}

/// Printable ASCII without what means something there (RFC 3461 section 4).
pub fn xtext(text: &str) -> String {
    let spelled = text.bytes().map(|octet| match octet {
        b'+' | b'=' => format!("+{octet:02X}"),
        b'!'..=b'~' => char::from(octet).to_string(),
        _ => format!("+{octet:02X}"),
    });
    spelled.collect()
}

/// A line each.
fn auth(sign_in: &SignIn) -> Vec<String> {
    match sign_in.way {
        Way::Command | Way::Plain => vec![format!("AUTH PLAIN {}", plain(sign_in))],
        Way::Login => vec!["AUTH LOGIN".to_owned(), STANDARD.encode(&sign_in.user), STANDARD.encode(&sign_in.password)],
        Way::Vouched => panic!("only a backend is told so"),
    }
}
