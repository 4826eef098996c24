//! Where the situations are: a Gatepost, its databases, its backends, and what may stand before a situation.

use super::{BALANCER, FRONT, MIXED, NEVER, OFFLOADED, REQUIRED, USUAL, WEBMAIL, ip};
use crate::admin::sessions;
use crate::explained::{Asked, Told};
use crate::gate::{BINARY, Gate, POP3_TOO, Want};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use testkit::peer::{AnyClient, Backend, FakeBackend};
use testkit::ports::Port;
use testkit::wait::{PATIENCE, poll};
use testkit::{Dir, Protocol, free_port};

/// A Gatepost with every kind of listener, users in five databases, and a backend for each protocol.
pub(super) struct House {
    pub(super) gate: Gate,
    pub(super) backends: [FakeBackend; 2],
    /// Nobody listens there.
    _dead: [Port; 2],
}

impl House {
    pub(super) fn start() -> House {
        let backends = Protocol::MAILBOX.map(|protocol| FakeBackend::start(Backend::of(protocol)));
        let dir = Dir::new();
        let dead = [free_port(), free_port()];
        let dying = |port: &Port| format!("port={} proxy_timeout=300ms proxy_host_immediate_failure_after=1ms", port.number());
        // Where a user lives depends on the protocol.
        let at = "proxy=y host=127.0.0.1";
        let users = [
            ("alice", at, ""),
            ("j\u{f6}rg", at, "destuser=joerg"),
            ("banned", at, ""),
            ("moved", at, ""),
            ("held", at, ""),
            ("local", at, "allow_nets=127.0.0.0/8"),
            ("broken", at, "destuser=%Z"),
            ("nowhere", "proxy=y host=nope.invalid", ""),
            ("closed", "", "nologin=y reason=Closed"),
            ("dead-imap", at, &dying(&dead[0])),
            ("dead-pop3", at, &dying(&dead[1])),
        ];
        let lines = users.map(|(name, place, more)| format!("{name}:{{PLAIN}}tiger::::::{place} {more}\n"));
        dir.write("main", lines.concat());
        dir.write("banned", "banned:\n");
        dir.write("extra", "moved:::::::destuser=elsewhere\n");
        dir.write("post", format!("postman:{{PLAIN}}tiger::::::{at}\n"));
        let port = |n: usize| backends[n].port();
        let users = format!(
            r#"
[[users]]
name = "banned"
driver = "passwd-file"
path = "banned"
deny = true
[[users]]
name = "main"
driver = "passwd-file"
path = "main"
protocols = ["imap"]
result_success = "continue-ok"
default_fields = {{ port = "{}" }}
[[users]]
name = "main-pop3"
driver = "passwd-file"
path = "main"
protocols = ["pop3"]
result_success = "continue-ok"
default_fields = {{ port = "{}" }}
[[users]]
name = "extra"
driver = "passwd-file"
path = "extra"
skip = "unauthenticated"
[[users]]
name = "post"
driver = "passwd-file"
path = "post"
protocols = ["pop3"]
skip = "authenticated"
default_fields = {{ port = "{}" }}
"#,
            port(0),
            port(1),
            port(1)
        );
        let mut more = POP3_TOO.to_owned();
        for protocol in ["imap", "pop3"] {
            for (at, keys) in [
                (REQUIRED, "proxy_protocol = \"required\""),
                (MIXED, "proxy_protocol = \"mixed\""),
                (NEVER, "cleartext_auth = \"never\""),
            ] {
                more += &format!("[[listen]]\nprotocol = \"{protocol}\"\naddress = \"{at}:0\"\n{keys}\n");
            }
            let keys = "tls = \"offloaded\"\nproxy_protocol = \"required\"";
            more += &format!("[[listen]]\nprotocol = \"{protocol}s\"\naddress = \"{OFFLOADED}:0\"\n{keys}\n");
        }
        let gate = Gate::start_in(
            dir,
            &Want {
                users: &users,
                trust: &format!("networks = [\"{FRONT}\", \"198.51.100.9\"]\nproxy_protocol = [\"{BALANCER}\"]"),
                limits: &format!("user_connections = 2\nconnections_before_login = 4\nguesses = 1\nexempt = [\"{WEBMAIL}\"]"),
                more: &more,
                ..Want::default()
            },
        );
        House { gate, backends, _dead: dead }
    }

    pub(super) fn listener(&self, protocol: Protocol, ip: &str, implicit: bool) -> SocketAddr {
        let name = if implicit { protocol.implicit().expect("a port for TLS") } else { protocol.name() };
        self.gate.gatepost.addrs(name).into_iter().find(|addr| addr.ip().to_string() == ip).expect("a listener")
    }

    pub(super) fn usual(&self, protocol: Protocol, from: IpAddr) -> AnyClient {
        let mut client = AnyClient::connect_from(protocol, from, self.listener(protocol, USUAL, false));
        client.greeting();
        client
    }

    /// Until the places of those are free that the last protocol's situation has let go.
    fn wait_for_nobody(&self, from: IpAddr) {
        let gone = || sessions(&self.gate, &["--client", &from.to_string()]).is_empty().then_some(());
        assert!(poll(PATIENCE, gone).is_some(), "somebody of {from} is still here");
    }

    fn sessions(&self, protocol: Protocol, from: IpAddr) -> Vec<AnyClient> {
        self.wait_for_nobody(from);
        let sessions = [(); 2].map(|()| {
            let mut client = self.usual(protocol, from);
            assert!(client.login("alice", "tiger").ok);
            client
        });
        sessions.into()
    }

    pub(super) fn both_places(&self, protocol: Protocol) -> Vec<AnyClient> {
        self.sessions(protocol, ip(20))
    }

    pub(super) fn both_places_of_webmail(&self, protocol: Protocol) -> Vec<AnyClient> {
        self.sessions(protocol, WEBMAIL)
    }

    pub(super) fn strangers(&self, protocol: Protocol) -> Vec<AnyClient> {
        self.wait_for_nobody(ip(31));
        [(); 4].map(|()| self.usual(protocol, ip(31))).into()
    }

    pub(super) fn guesses(&self, protocol: Protocol) -> Vec<AnyClient> {
        // The second protocol finds those of the first.
        if protocol == Protocol::Imap {
            let mut client = self.usual(protocol, ip(32));
            for _ in 0..2 {
                assert!(!client.login("alice", "lion").ok);
            }
        }
        Vec::new()
    }

    pub(super) fn hold(&self, _: Protocol) -> Vec<AnyClient> {
        let config = self.gate.gatepost.dir().join("gatepost.toml");
        let kicked = Command::new(BINARY).args(["kick", "held", "--hold", "2s", "--config"]).arg(config).output().unwrap();
        assert!(matches!(kicked.status.code(), Some(0 | 1)), "{kicked:?}");
        Vec::new()
    }

    pub(super) fn explain(&self, words: &[&str], password: Option<&str>) -> Told {
        Asked { gatepost: &self.gate.gatepost, words }.explain(password)
    }
}
