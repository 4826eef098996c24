//! Where the situations are: a Gatepost, its databases, its backends, and what may stand before a situation.

use super::{BALANCER, FRONT, MIXED, NEVER, OFFLOADED, REQUIRED, USUAL, WEBMAIL, ip};
use crate::explained::{Asked, Told};
use crate::fields::spelling::SPELLINGS;
use crate::gate::{BINARY, Gate, Want, listeners_for};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use testkit::peer::{AnyClient, FakeBackend};
use testkit::ports::Port;
use testkit::{Dir, Protocol, free_port};

/// A Gatepost with every kind of listener, users in five databases, and a backend for each protocol.
pub(super) struct House {
    pub(super) gate: Gate,
    pub(super) backends: [FakeBackend; 4],
    /// Nobody listens there.
    _dead: [Port; 4],
}

/// Who lives where nobody listens.
pub(super) fn dead_user(protocol: Protocol) -> String {
    format!("dead-{}", protocol.name())
}

impl House {
    pub(super) fn start() -> House {
        let backends = SPELLINGS.map(|spelling| FakeBackend::start(spelling.backend(false)));
        let dir = Dir::new();
        let dead = SPELLINGS.map(|_| free_port());
        let dying = |port: &Port| format!("port={} proxy_timeout=300ms proxy_host_immediate_failure_after=1ms", port.number());
        // Where a user lives depends on the protocol.
        let at = "proxy=y host=127.0.0.1";
        let line = |name: &str, place: &str, more: &str| format!("{name}:{{PLAIN}}tiger::::::{place} {more}\n");
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
            ("vouched", at, "proxy_noauth=y"),
        ];
        let dead_users =
            SPELLINGS.iter().zip(&dead).map(|(spelling, port)| line(&dead_user(spelling.protocol()), at, &dying(port)));
        let lines = users.map(|(name, place, more)| line(name, place, more));
        dir.write("main", lines.into_iter().chain(dead_users).collect::<String>());
        dir.write("banned", "banned:\n");
        dir.write("extra", "moved:::::::destuser=elsewhere\n");
        dir.write("post", format!("postman:{{PLAIN}}tiger::::::{at}\n"));
        let database = |name: &str, path: &str, more: &str| {
            format!("[[users]]\nname = \"{name}\"\ndriver = \"passwd-file\"\npath = \"{path}\"\n{more}\n")
        };
        let of_protocol = |path: &str, protocol: Protocol, more: &str| {
            let port = backends.iter().find(|backend| backend.protocol() == protocol).unwrap().port();
            let name = protocol.name();
            let more = format!("protocols = [\"{name}\"]\ndefault_fields = {{ port = \"{port}\" }}\n{more}");
            database(&format!("{path}-{name}"), path, &more)
        };
        let users = [
            database("banned", "banned", "deny = true"),
            Protocol::ALL.map(|protocol| of_protocol("main", protocol, "result_success = \"continue-ok\"")).concat(),
            database("extra", "extra", "skip = \"unauthenticated\""),
            of_protocol("post", Protocol::Pop3, "skip = \"authenticated\""),
        ]
        .concat();
        let mut more = Protocol::ALL.map(listeners_for).concat();
        for protocol in Protocol::ALL {
            let name = protocol.name();
            for (at, keys) in [
                (REQUIRED, "proxy_protocol = \"required\""),
                (MIXED, "proxy_protocol = \"mixed\""),
                (NEVER, "cleartext_auth = \"never\""),
            ] {
                more += &format!("[[listen]]\nprotocol = \"{name}\"\naddress = \"{at}:0\"\n{keys}\n");
            }
            let name = protocol.implicit().unwrap_or(name);
            let keys = "tls = \"offloaded\"\nproxy_protocol = \"required\"";
            more += &format!("[[listen]]\nprotocol = \"{name}\"\naddress = \"{OFFLOADED}:0\"\n{keys}\n");
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

    fn sessions(&self, protocol: Protocol, from: IpAddr) -> Vec<AnyClient> {
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
        [(); 4].map(|()| self.usual(protocol, ip(31))).into()
    }

    pub(super) fn guesses(&self, protocol: Protocol) -> Vec<AnyClient> {
        let mut client = self.usual(protocol, ip(32));
        for _ in 0..2 {
            assert!(!client.login("alice", "lion").ok);
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
