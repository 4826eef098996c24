//! What the demo plays with: a private directory with certificates, a user database and a configuration, the two mail
//! servers, and Gatepost itself in this process.
//!
//! Nothing here is special to the demo but the smallness: the files in the directory are what an operator would write, and
//! Gatepost reads them as `gatepost run` would. The directory goes with the [`Scene`].

use super::letters::{self, Letter};
use super::lmtp::Places;
use super::managesieve;
use super::server::{self, MailServer, Report};
use super::speech::{SPEECHES, Speech, title};
use super::submission;
use crate::failure::{Failure, Kind, Side};
use crate::journal::Journal;
use crate::life::handed::HandedSockets;
use crate::login::house::Live;
use crate::protocol;
use crate::resolve::Resolve;
use crate::server::{self as gatepost, Server};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use relay::tls::acceptor::{AcceptOptions, Acceptor, CertSource};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::TcpSocket;

/// A user of the demo.
pub struct Person {
    /// What the person signs in with.
    pub user: &'static str,
    /// The password.
    pub password: &'static str,
    /// Where the mailbox is.
    pub server: &'static str,
    /// What the mailbox is called there.
    pub mailbox: &'static str,
}

/// Lives on east, which checks the password itself.
pub const ALICE: Person = Person { user: "alice", password: "wonderland", server: "east", mailbox: "alice" };
/// Lives on west; Gatepost checks the password.
pub const BOB: Person = Person { user: "bob@example.com", password: "canwefixit", server: "west", mailbox: "bob" };
/// Lives on north, which is down.
pub const DAVE: Person = Person { user: "dave", password: "openthepod", server: "north", mailbox: "dave" };
/// Sends by way of west, which takes Gatepost's word for who she is; Gatepost checks the password. In Submission only.
pub const ERIN: Person = Person { user: "erin", password: "gardenwall", server: "west", mailbox: "erin" };
/// Who may sign in on west for anybody.
pub const MASTER: (&str, &str) = ("gatepost", "master-of-west");
/// Every password of the demo.
pub const PASSWORDS: [&str; 5] = [ALICE.password, BOB.password, DAVE.password, ERIN.password, MASTER.1];
/// The column `forward_department` of bob's row.
pub const DEPARTMENT: &str = "buildings";
/// The name in the certificate of Gatepost.
pub const NAME: &str = "localhost";
/// The name in the certificate of west, and bob's `host`.
pub const WEST_NAME: &str = "west.example";

/// Dave's `host`.
const NORTH_NAME: &str = "north.example";

/// The difference between being watched and being checked.
pub struct Wishes {
    /// `limits.failed_login_pause`.
    pub failed_login_pause: &'static str,
    /// `log.level`.
    pub log_level: &'static str,
    /// The servers tell every line.
    pub verbatim: bool,
}

/// Everything in place and running.
pub struct Scene {
    /// Gatepost.
    pub gatepost: Server,
    /// Where everybody listens, a row for each protocol.
    pub doors: Vec<Doors>,
    /// Where letters are taken by LMTP.
    pub lmtp: Places,
    /// What lies in the mailboxes.
    pub letters: [Arc<[Letter]>; 2],
    /// The certificate to trust.
    pub ca: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// The user database.
    pub users: PathBuf,
    /// A script to upload.
    pub script: PathBuf,
    /// A letter to send.
    pub letter: PathBuf,
    /// Where nobody listens; kept so that nobody ever will.
    _north: TcpSocket,
    /// Dropped last: everything above may still look at its files.
    _dir: PrivateDir,
}

/// Where one protocol is spoken.
pub struct Doors {
    /// The protocol.
    pub speech: &'static dyn Speech,
    /// Gatepost, with STARTTLS.
    pub clear: SocketAddr,
    /// Gatepost, with TLS from the first byte, where the protocol has a port for that.
    pub implicit: Option<SocketAddr>,
    /// The same behind a PROXY header.
    pub behind: SocketAddr,
    /// East.
    pub east: SocketAddr,
    /// West.
    pub west: SocketAddr,
}

impl Doors {
    /// Where TLS begins as early as it can.
    pub fn safest(&self) -> SocketAddr {
        self.implicit.unwrap_or(self.clear)
    }

    /// What is spoken there.
    pub fn safest_name(&self) -> String {
        match self.speech.implicit() {
            Some(implicit) => title(implicit),
            None => format!("{} with {}", title(self.speech.name()), self.speech.starttls()),
        }
    }
}

impl Scene {
    /// Sets everything up and starts it. Must be called on a runtime, where the mail servers then live.
    ///
    /// # Errors
    /// One line that says what could not be done.
    pub fn start(
        wishes: &Wishes,
        journal: Journal,
        tell: impl Fn(Report) + Clone + Send + Sync + 'static,
    ) -> Result<Scene, String> {
        let dir = PrivateDir::new().map_err(told("a directory for the demo"))?;
        let ca = dir.0.join("ca.pem");
        write_certificates(&dir.0).map_err(told("the certificates"))?;

        let letters: [Arc<[Letter]>; 2] = [letters::of_east().into(), letters::of_west().into()];
        let [of_east, of_west] = letters.clone();
        let alpn = protocol::PROTOCOLS.iter().flat_map(|protocol| protocol.alpn).map(|id| id.as_bytes().to_vec()).collect();
        let source = CertSource { cert: dir.0.join("west.pem"), key: dir.0.join("west.key") };
        let tls = Acceptor::new(&[source], AcceptOptions { alpn, alpn_strict: true });
        let servers = [
            MailServer {
                name: ALICE.server,
                mailbox: ALICE.mailbox,
                password: Some(ALICE.password),
                master: None,
                vouched: None,
                tls: None,
                letters: of_east,
                shelf: Arc::default(),
                verbatim: wishes.verbatim,
                tell: Box::new(tell.clone()),
            },
            MailServer {
                name: BOB.server,
                mailbox: BOB.mailbox,
                // Nobody has ever told west bob's password: only the master user comes in.
                password: None,
                master: Some(MASTER),
                vouched: Some(ERIN.mailbox),
                tls: Some(tls.map_err(told("TLS for west"))?),
                letters: of_west,
                shelf: Arc::default(),
                verbatim: wishes.verbatim,
                tell: Box::new(tell),
            },
        ];
        let [at_east, at_west] = servers.map(Arc::new);
        let north = TcpSocket::new_v4().map_err(told("a port for nobody"))?;
        north.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(told("a port for nobody"))?;
        let at_north = north.local_addr().map_err(told("a port for nobody"))?;

        // Held until Gatepost has the ports as well, so that they stay free.
        let (mut doors, mut holding, mut serving) = (Vec::new(), Vec::new(), Vec::new());
        let mut hold = || hold_port().map(|(held, at)| (holding.push(held), at).1).map_err(told("a port for Gatepost"));
        let bind = || server::bind().map_err(told("a port for a mail server"));
        for speech in SPEECHES {
            let (east, west) = (bind()?, bind()?);
            let (clear, behind) = (hold()?, hold()?);
            let implicit = speech.implicit().map(|_| hold()).transpose()?;
            doors.push(Doors { speech, clear, implicit, behind, east: east.address, west: west.address });
            serving.extend([(&at_east, speech, east), (&at_west, speech, west)]);
        }
        let (lmtp_east, lmtp_west) = (bind()?, bind()?);
        let lmtp = Places { gatepost: hold()?, east: lmtp_east.address, west: lmtp_west.address };
        let users = dir.0.join("users.db");
        write_users(&users, &doors, &lmtp, at_north).map_err(told("the user database"))?;
        let script = dir.0.join("lunch.sieve");
        std::fs::write(&script, managesieve::SCRIPT).map_err(told("a script"))?;
        let letter = dir.0.join("letter.eml");
        std::fs::write(&letter, submission::LETTER).map_err(told("a letter"))?;
        let config = dir.0.join("gatepost.toml");
        std::fs::write(&config, configuration(&doors, &lmtp, wishes)).map_err(told("the configuration"))?;
        let loaded = crate::config::load(&config, &crate::cli::catalog()).map_err(|problems| problems.to_string())?;
        let bound = gatepost::bind(&loaded.meant, &mut HandedSockets::default(), &mut |_| {})?;
        drop(holding);
        let of_doors = doors.iter().flat_map(|at| [Some(at.clear), at.implicit, Some(at.behind)]).flatten();
        let ports = of_doors.chain([lmtp.gatepost]).map(|at| at.port()).collect();
        let live = Live::build(loaded.meant, ports, &gatepost::warn_to(&journal)).map_err(|problems| problems.join("\n"))?;
        let gatepost = Server::start(live, bound, journal, Box::new(NoNames)).map_err(told("Gatepost"))?;
        for (server, speech, bound) in serving {
            tokio::spawn(Arc::clone(server).serve(speech, bound));
        }
        tokio::spawn(at_east.serve_lmtp(lmtp_east));
        tokio::spawn(at_west.serve_lmtp(lmtp_west));
        Ok(Scene { gatepost, doors, lmtp, letters, ca, config, users, script, letter, _north: north, _dir: dir })
    }
}

fn told<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |e| format!("{what}: {e}")
}

/// The configuration, as an operator would write it.
fn configuration(doors: &[Doors], lmtp: &Places, wishes: &Wishes) -> String {
    let Wishes { failed_login_pause, log_level, .. } = wishes;
    let listeners: String = doors.iter().map(listeners).collect();
    let lmtp = lmtp.gatepost;
    format!(
        r#"# The configuration of this demo: a certificate, where to listen, where the users are, whom to trust behind.
version = 1

[server]
name = "{NAME}"

[tls]
certificates = [{{ cert = "localhost.pem", key = "localhost.key" }}]

# Whose PROXY headers are believed: balancers. Here you are one yourself.
[trust]
proxy_protocol = ["127.0.0.1"]

# A real installation needs no addresses: protocols = ["imap", "imaps"] listens on ports 143 and 993.
{listeners}
# Letters from a mail server, for each recipient to the server that the row names. Nobody signs in there.
[[listen]]
protocol = "lmtp"
address = ["{lmtp}"]

# One row says who may come in and where the mailbox lives. A user without a password here is checked by the server.
[[users]]
name = "people"
driver = "sqlite"
path = "users.db"
query = '''
SELECT password, CASE WHEN password IS NULL THEN 'Y' END AS nopassword, 'Y' AS proxy,
       host, hostip, (SELECT port FROM ports WHERE ports.host = proxy.host AND ports.protocol = '%s') AS port,
       starttls, destuser, master, pass, proxy_noauth, proxy_timeout, department AS forward_department
FROM proxy WHERE user = '%u'
'''

[backend]
tls_ca = "ca.pem"                 # who signs the certificates of the mail servers

[limits]
failed_login_pause = "{failed_login_pause}"

[log]
level = "{log_level}"
"#
    )
}

/// The listeners of one protocol.
fn listeners(Doors { speech, clear, implicit, behind, .. }: &Doors) -> String {
    let (name, starttls) = (speech.name(), speech.starttls());
    let listener = |name: &str, what: &str, address: &SocketAddr| {
        format!("[[listen]]\n{:<34}# {what}\naddress = [\"{address}\"]\n", format!("protocol = \"{name}\""))
    };
    let secure = implicit.as_ref().zip(speech.implicit()).map(|(at, name)| listener(name, "TLS from the first byte", at));
    [
        listener(name, &format!("{starttls} is offered"), clear),
        secure.unwrap_or_default(),
        listener(speech.implicit().unwrap_or(name), "the same behind a balancer", behind),
        "proxy_protocol = \"required\"\n".to_owned(),
    ]
    .concat()
}

/// The user database: the table that Dovecot proxies have, and a few columns more.
fn write_users(path: &Path, doors: &[Doors], lmtp: &Places, north: SocketAddr) -> rusqlite::Result<()> {
    let db = rusqlite::Connection::open(path)?;
    db.execute_batch(
        "CREATE TABLE proxy (
           user          TEXT NOT NULL PRIMARY KEY,
           password      TEXT,                     -- NULL: the mail server checks it
           host          TEXT NOT NULL,            -- the name in the certificate
           hostip        TEXT,                     -- where to connect, if not to what DNS says of host
           starttls      TEXT,
           destuser      TEXT NOT NULL DEFAULT '', -- the name on the mail server, if another one
           master        TEXT,                     -- who signs in for the user, with the password pass
           pass          TEXT,
           proxy_noauth  TEXT,                     -- in Submission the server hears who it is, and no password
           proxy_timeout TEXT,                     -- how long to try, if not as [backend] says
           department    TEXT                      -- told to the mail server as forwarded field
         );
         CREATE TABLE ports (                      -- only because no server has the registered ones here
           host          TEXT NOT NULL,
           protocol      TEXT NOT NULL,
           port          INTEGER NOT NULL,
           PRIMARY KEY (host, protocol)
         )",
    )?;
    let east_name = Ipv4Addr::LOCALHOST.to_string();
    let loopback = east_name.as_str();
    // One of each kind; what a person's row does not say is NULL.
    db.execute("INSERT INTO proxy (user, host) VALUES (?1, ?2)", (ALICE.user, loopback))?;
    let insert = "INSERT INTO proxy (user, password, host, hostip, starttls, destuser, master, pass, department) \
                  VALUES (?1, ?2, ?3, ?4, 'Y', ?5, ?6, ?7, ?8)";
    let bob = (BOB.user, ssha256(BOB.password), WEST_NAME, loopback, BOB.mailbox, MASTER.0, MASTER.1, DEPARTMENT);
    db.execute(insert, bob)?;
    let insert = "INSERT INTO proxy (user, host, hostip, proxy_timeout) VALUES (?1, ?2, ?3, '500ms')";
    db.execute(insert, (DAVE.user, NORTH_NAME, loopback))?;
    let insert = "INSERT INTO proxy (user, password, host, hostip, starttls, proxy_noauth) VALUES (?1, ?2, ?3, ?4, 'Y', 'Y')";
    db.execute(insert, (ERIN.user, ssha256(ERIN.password), WEST_NAME, loopback))?;
    let of_doors = doors.iter().map(|at| (at.speech.name(), at.east, at.west));
    for (name, east, west) in of_doors.chain([("lmtp", lmtp.east, lmtp.west)]) {
        // As %s has it, which the query compares with.
        let service = protocol::find(name).map_or(name, |protocol| protocol.service);
        for (host, port) in [(loopback, east.port()), (WEST_NAME, west.port()), (NORTH_NAME, north.port())] {
            db.execute("INSERT INTO ports VALUES (?1, ?2, ?3)", (host, service, port))?;
        }
    }
    Ok(())
}

/// `{SSHA256}`: base64 of SHA-256(password, salt) and the salt.
fn ssha256(password: &str) -> String {
    let salt = random();
    let digest = Sha256::new().chain_update(password).chain_update(salt).finalize();
    format!("{{SSHA256}}{}", STANDARD.encode([digest.as_slice(), &salt].concat()))
}

/// A certificate authority, a certificate for Gatepost and one for west.
fn write_certificates(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Gatepost demo CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    write_private(&dir.join("ca.pem"), &params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for (stem, names) in [("localhost", &[NAME, "127.0.0.1", "::1"][..]), ("west", &[WEST_NAME])] {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, stem);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        write_private(&dir.join(format!("{stem}.pem")), &params.signed_by(&key, &issuer)?.pem())?;
        write_private(&dir.join(format!("{stem}.key")), &key.serialize_pem())?;
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// A free port on loopback and the socket that keeps it; Gatepost's own (`SO_REUSEPORT`) may join it.
fn hold_port() -> std::io::Result<(Vec<std::net::TcpListener>, SocketAddr)> {
    let sockets = relay::listen::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)?;
    let address = sockets.first().ok_or(std::io::ErrorKind::AddrNotAvailable)?.local_addr()?;
    Ok((sockets, address))
}

/// The demo's rows name addresses, so nobody needs to be asked about names.
struct NoNames;

impl Resolve for NoNames {
    fn addresses<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Failure>> + Send + 'a>> {
        let detail = format!("the demo asks no name server, not even about {name:?}: give the row a hostip");
        Box::pin(std::future::ready(Err(Failure::new(Side::Users, Kind::Dns, detail))))
    }
}

/// A directory that only we may look into, gone when dropped.
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn new() -> std::io::Result<PrivateDir> {
        let name: String = random().iter().map(|octet| format!("{octet:02x}")).collect();
        // Absolute, because it is told to people who are elsewhere.
        let path = std::path::absolute(std::env::temp_dir())?.join(format!("gatepost-demo-{name}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e} (TMPDIR says where)", path.display())))?;
        Ok(PrivateDir(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn random() -> [u8; 8] {
    let mut octets = [0; 8];
    // The kernel's generator cannot fail once it is seeded; a name that is taken is an error of its own.
    let _ = rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty());
    octets
}
