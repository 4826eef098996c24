//! Where the cases run: a Gatepost for each [`Setup`], its databases, and the backends.

use super::case::{Case, Cert, NULL, Peer, Setup};
use super::lmtp;
use super::spelling::{SPELLINGS, Spelling};
use crate::gate::{Gate, Want};
use rusqlite::Connection;
use rustls::ServerConfig;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use testkit::certs::Authority;
use testkit::peer::{Backend, Conn, FakeServer, Flavour, ProxyHeader};
use testkit::ports::Port;
use testkit::wait::{PATIENCE, poll};
use testkit::{Dir, Protocol, free_port};

/// The address of the front whose word about clients is believed.
pub const FRONT: &str = "127.0.0.9";

/// A Gatepost for each setup.
pub struct Gates {
    running: Vec<(Setup, Running)>,
    pub certificates: Certificates,
}

impl Gates {
    pub fn start(cases: &[Case]) -> Gates {
        let certificates = Certificates::new();
        let start = |setup| (setup, Running::start(setup, cases, &certificates));
        Gates { running: Setup::ALL.map(start).into(), certificates }
    }

    pub fn running(&self, setup: Setup) -> &Running {
        self.running.iter().find(|(known, _)| *known == setup).map(|(_, running)| running).unwrap()
    }
}

/// What backends show.
pub struct Certificates {
    good: Arc<ServerConfig>,
    other: Arc<ServerConfig>,
    ca: String,
    _dir: Dir,
}

impl Certificates {
    fn new() -> Certificates {
        let dir = Dir::new();
        let authority = Authority::new(dir.path(), "backends");
        Certificates {
            good: authority.server("good", &["127.0.0.1", "localhost"]).server_config(),
            other: authority.server("other", &["other.example"]).server_config(),
            ca: authority.ca_file().display().to_string(),
            _dir: dir,
        }
    }

    pub fn of(&self, cert: Cert) -> Arc<ServerConfig> {
        Arc::clone(if cert == Cert::Good { &self.good } else { &self.other })
    }
}

/// A Gatepost with its databases and local backends.
pub struct Running {
    pub gate: Gate,
    pub rows: Rows,
    /// As [`SPELLINGS`].
    local: Vec<(Protocol, Server)>,
    /// The local server that takes mail.
    pub lmtp: lmtp::Server,
}

impl Running {
    fn start(setup: Setup, cases: &[Case], certificates: &Certificates) -> Running {
        let dir = Dir::new();
        let columns = |rows: &mut dyn Iterator<Item = &'static str>| rows.collect::<BTreeSet<&str>>();
        let first = columns(&mut cases.iter().flat_map(|case| case.first.iter().map(|(name, _)| *name)));
        let rows = columns(&mut cases.iter().flat_map(Case::columns).chain(super::case::BASE.map(|(name, _)| name)));
        let database = Rows::create(&dir.join("users.db"), &[("first", &first), ("rows", &rows)]);
        let users = [block("first", &first, "result_success = \"continue\""), block("rows", &rows, "")].concat();
        let local = SPELLINGS.map(|spelling| {
            let server = Server::start(spelling, Peer::Clear, setup == Setup::Header, certificates);
            (spelling.protocol(), server)
        });
        let places = local.iter().map(|(protocol, server)| format!("{} = \"127.0.0.1:{}\"", protocol.name(), server.port()));
        let lmtp = lmtp::Server::start(Peer::Clear, Flavour::Lmtp, setup == Setup::Header, certificates);
        let places = places.chain([format!("lmtp = \"127.0.0.1:{}\"", lmtp.port())]);
        let backend = match setup {
            Setup::Usual | Setup::Slow => String::new(),
            Setup::Local => format!("self_addresses = [\"127.0.0.3\"]\nlocal = {{ {} }}", places.collect::<Vec<_>>().join(", ")),
            Setup::Header => "proxy_protocol = \"v2\"".to_owned(),
            Setup::Vouching => "submission_login = \"xclient\"".to_owned(),
        };
        let listen = SPELLINGS.iter().map(|spelling| spelling.protocol().name()).filter(|name| *name != "imap").chain(["lmtp"]);
        let more = listen.map(|name| format!("[[listen]]\nprotocol = \"{name}\"\naddress = [\"127.0.0.1:0\"]\n"));
        let pause = if setup == Setup::Slow { "30s" } else { "10ms" };
        let config = crate::gate::config(&Want {
            users: &users,
            trust: &format!("networks = [\"{FRONT}\"]"),
            backend: &format!("tls_ca = \"{}\"\n{backend}", certificates.ca),
            limits: "guesses = 100000",
            more: &more.collect::<String>(),
        });
        let config = config.replace("failed_login_pause = \"10ms\"", &format!("failed_login_pause = \"{pause}\""));
        Running { gate: Gate::start_with(dir, &config), rows: database, local: local.into(), lmtp }
    }

    /// The local backend of a protocol.
    pub fn local(&self, spelling: &dyn Spelling) -> &Server {
        self.local.iter().find(|(protocol, _)| *protocol == spelling.protocol()).map(|(_, server)| server).unwrap()
    }
}

fn block(table: &str, columns: &BTreeSet<&str>, more: &str) -> String {
    let columns = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "[[users]]\nname = \"{table}\"\ndriver = \"sqlite\"\npath = \"users.db\"\ndefault_pass_scheme = \"PLAIN\"\n\
         query = '''SELECT {columns} FROM {table} WHERE who = '%u' '''\n{more}\n"
    )
}

/// The databases: a table each, a column for each field of any case, a row for each user.
pub struct Rows(Mutex<Connection>);

impl Rows {
    fn create(path: &Path, tables: &[(&str, &BTreeSet<&str>)]) -> Rows {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        // A crash of the machine would be the end of the test as well.
        connection.pragma_update(None, "synchronous", "OFF").unwrap();
        for (table, columns) in tables {
            let columns: String = columns.iter().map(|name| format!(", \"{name}\" TEXT")).collect();
            connection.execute_batch(&format!("CREATE TABLE {table} (who TEXT PRIMARY KEY{columns})")).unwrap();
        }
        Rows(Mutex::new(connection))
    }

    /// A row for this user, unless it says nothing. What is said last counts; what is not said is NULL.
    pub fn insert(&self, table: &str, who: &str, row: &[(&str, &str)], fill: &dyn Fn(&str) -> String) {
        if !row.is_empty() {
            self.0.lock().unwrap().execute(&format!("INSERT INTO {table} (who) VALUES (?1)"), [who]).unwrap();
            self.change(table, who, row, fill);
        }
    }

    /// Changes the row of this user, all at once.
    pub fn change(&self, table: &str, who: &str, row: &[(&str, &str)], fill: &dyn Fn(&str) -> String) {
        let mut connection = self.0.lock().unwrap();
        let change = connection.transaction().unwrap();
        for (name, value) in row {
            let value = (*value != NULL).then(|| fill(value));
            let changed = change.execute(&format!("UPDATE {table} SET \"{name}\" = ?1 WHERE who = ?2"), (value, who));
            assert_eq!(changed.unwrap(), 1);
        }
        change.commit().unwrap();
    }
}

/// A backend that notes who signed in.
pub struct Server {
    fake: FakeServer,
    _port: Port,
    signed: Arc<Mutex<Vec<Signed>>>,
}

/// A login that a backend has seen.
#[derive(Clone, Debug)]
pub struct Signed {
    user: String,
    pub from: IpAddr,
    /// All that came up to the login.
    pub raw: Vec<u8>,
    pub header: Option<ProxyHeader>,
    /// More was there before a line was answered.
    pub together: bool,
}

impl Server {
    pub fn start(spelling: &'static dyn Spelling, peer: Peer, header: bool, certificates: &Certificates) -> Server {
        let mut backend = Backend { header, ..spelling.backend(matches!(peer, Peer::StartTls(_))) };
        if let Peer::StartTls(cert) | Peer::Implicit(cert) = peer {
            backend.tls = Some(certificates.of(cert));
            backend.implicit = matches!(peer, Peer::Implicit(_));
        }
        if peer == Peer::Refusing {
            spelling.no().clone_into(&mut backend.answer);
        }
        let signed = Arc::<Mutex<Vec<Signed>>>::default();
        let notes = Arc::clone(&signed);
        if peer == Peer::TakesNoLogin {
            backend.capabilities = backend.capabilities.replace(" HELO LOGIN ", " HELO ");
        }
        if peer == Peer::ListsNoPlain {
            for list in [&mut backend.greeting, &mut backend.capabilities] {
                *list = list.replace("PLAIN LOGIN", "LOGIN").replace("AUTH=PLAIN ", "");
            }
        }
        let ip = if peer == Peer::Ipv6 { "::1" } else { "127.0.0.1" };
        // Claimed for both families: with a port of the kernel's choice, the backend of another case could be at localhost's
        // other address.
        let port = free_port();
        let fake = FakeServer::start_at(SocketAddr::new(ip.parse().unwrap(), port.number()), move |mut conn| {
            let note = match peer {
                Peer::Silent => return conn.hold(),
                Peer::LineByLine => line_by_line(spelling, &mut conn),
                _ => backend.login(&mut conn).map(|login| Signed {
                    user: login.user,
                    from: conn.peer_addr().ip(),
                    raw: login.raw,
                    header: login.header,
                    together: false,
                }),
            };
            if let Some(note) = note {
                lock(&notes).push(note);
                conn.hold();
            }
        });
        Server { fake, signed, _port: port }
    }

    pub fn port(&self) -> u16 {
        self.fake.port()
    }

    pub fn connections(&self) -> usize {
        self.fake.connections()
    }

    pub fn wait_for_connections(&self, n: usize) {
        self.fake.wait_for_connections(n);
    }

    pub fn received(&self, n: usize) -> Vec<u8> {
        self.fake.received(n)
    }

    /// The one login under this name. It is noted behind its answer.
    pub fn wait_for(&self, user: &str) -> Signed {
        let of_user = |signed: &&Signed| signed.user == user || signed.user.is_empty();
        let found = poll(PATIENCE, || lock(&self.signed).iter().find(of_user).cloned());
        found.unwrap_or_else(|| panic!("no login of {user} among {:?}", lock(&self.signed)))
    }
}

/// A login, each line answered only after a look for more. Who signs in stays unknown.
fn line_by_line(spelling: &dyn Spelling, conn: &mut Conn) -> Option<Signed> {
    conn.send_line(spelling.greeting());
    let mut together = false;
    loop {
        let line = conn.read_line()?;
        together |= !conn.is_silent_for(Duration::from_millis(150));
        let (answer, in_) = spelling.obey(&line);
        conn.send_line(answer);
        if in_ {
            let (from, raw) = (conn.peer_addr().ip(), conn.received());
            return Some(Signed { user: String::new(), from, raw, header: None, together });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
