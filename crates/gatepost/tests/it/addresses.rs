//! Names with several addresses: which of them is tried, and where trying ends.
//!
//! No resolver of a test machine gives such names, so these tests drive the backend room itself, with names of their own.

use gatepost::backend::connect::{Means, Ourselves, SignedIn, Tell, Words, find, sign_in};
use gatepost::backend::health::{Health, Transition};
use gatepost::backend::source::Sources;
use gatepost::config::meant::BackendProxy;
use gatepost::failure::{Failure, Kind};
use gatepost::protocol;
use gatepost::resolve::Resolve;
use gatepost::route::Route;
use gatepost::witness::Witness;
use relay::tls::connector::{ConnectPolicy, Connector};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use testkit::certs::Authority;
use testkit::peer::{Backend, Conn, FakeServer};
use testkit::{Dir, free_port};
use tokio::time::Instant;
use wire::dance::{IdentityRefused, Secure, SignIn};
use wire::secret::Secret;

const NAME: &str = "mail.example";
/// The addresses of every name, in this order.
pub const FIRST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
pub const SECOND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

/// Every name has these two addresses, in this order.
struct Both;

impl Resolve for Both {
    fn addresses<'a>(&'a self, _: &'a str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Failure>> + Send + 'a>> {
        Box::pin(async { Ok(vec![FIRST, SECOND]) })
    }
}

/// Signs alice in at whichever address it comes to; certificates must be of the authority in `ca`.
fn alice(port: u16, secure: Secure, ca: &Path) -> Result<SignedIn, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(alice_knowing(&Health::default(), port, secure, Some(ca)))
}

/// The same, with what is known of these addresses already.
pub async fn alice_knowing(health: &Health, port: u16, secure: Secure, ca: Option<&Path>) -> Result<SignedIn, Failure> {
    let route = Route {
        noauth: false,
        smtp: false,
        protocol: "imap",
        host: NAME.to_owned(),
        address: None,
        port,
        secure,
        verify: true,
        user: "alice".to_owned(),
        master: None,
        pass: None,
        mechanism: None,
        source: None,
        give_up_after: Duration::from_secs(30),
        timeout: Duration::from_secs(20),
        one_at_a_time: false,
        introduce: false,
        forward: Vec::new(),
        notes: Vec::new(),
        quick: false,
        maybe: None,
        database: "test".to_owned(),
    };
    let verified = Connector::new(ConnectPolicy { ca: ca.map(Path::to_owned), ..ConnectPolicy::default() }).unwrap();
    let any_cert = Connector::new(ConnectPolicy { verify: false, ..ConnectPolicy::default() }).unwrap();
    let elsewhere: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let means = Means {
        resolver: &Both,
        verified: Ok(&verified),
        any_cert: &any_cert,
        connect_timeout: Duration::from_secs(10),
        ourselves: Ourselves { reached: elsewhere, arrived: elsewhere, addresses: &[], ports: &[] },
        health,
        sources: &Sources::default(),
        again: true,
        proxy_protocol: BackendProxy::Off,
        server: "mail.example.com",
        identity_refused: IdentityRefused::Fail,
        tell: &Nobody,
        witness: Witness::NOBODY,
    };
    let credentials = || {
        Some(SignIn {
            user: "alice".to_owned(),
            master: None,
            password: Secret::new(b"x".to_vec()),
            mechanism: None,
            noauth: false,
        })
    };
    let dialect = protocol::find("imap").unwrap().login().unwrap().dialect;
    let words = Words { dialect, introduction: &|| None, sign_in: &credentials };
    let deadline = Instant::now() + route.timeout;
    let (route, addresses) = find(&means, route, deadline).await?;
    sign_in(&means, &route, &addresses, &words, deadline).await
}

/// Hears of no transition.
struct Nobody;

impl Tell for Nobody {
    fn tell(&self, _: SocketAddr, _: Transition, _: &str) {}
}

fn let_in(mut conn: Conn) {
    Backend::default().login(&mut conn);
    conn.hold();
}

fn ca(dir: &Dir) -> Authority {
    Authority::new(dir.path(), "ca")
}

#[test]
fn a_dead_address_leads_to_the_next() {
    let (dir, port) = (Dir::new(), free_port());
    let second = FakeServer::start_at(SocketAddr::new(SECOND, port.number()), let_in);
    let signed_in = alice(port.number(), Secure::Never, &ca(&dir).ca_file()).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((signed_in.address, signed_in.retries), (second.addr(), 0), "at once, and not in a second round");
    assert_eq!(second.connections(), 1);
}

#[test]
fn an_address_that_says_nothing_leads_to_the_next() {
    let (dir, port) = (Dir::new(), free_port());
    // As the kernel does for a server that is stopped, or out of processes: taken in, and left alone.
    let first = FakeServer::start_at(SocketAddr::new(FIRST, port.number()), |mut conn| conn.hold());
    let second = FakeServer::start_at(SocketAddr::new(SECOND, port.number()), let_in);
    let signed_in = alice(port.number(), Secure::Never, &ca(&dir).ca_file()).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((signed_in.address, signed_in.retries), (second.addr(), 0));
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

#[test]
fn the_last_address_may_greet_late() {
    let (dir, port) = (Dir::new(), free_port());
    // Servers that look up the name of who is calling may take longer than another address would be waited for.
    let second = FakeServer::start_at(SocketAddr::new(SECOND, port.number()), |conn| {
        std::thread::sleep(Duration::from_secs(11));
        let_in(conn);
    });
    let signed_in = alice(port.number(), Secure::Never, &ca(&dir).ca_file()).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((signed_in.address, signed_in.retries, second.connections()), (second.addr(), 0, 1));
}

#[test]
fn a_handshake_that_breaks_leads_to_the_next() {
    let (dir, port) = (Dir::new(), free_port());
    let authority = ca(&dir);
    let tls = authority.server("second", &[NAME]).server_config();
    let first = FakeServer::start_at(SocketAddr::new(FIRST, port.number()), |mut conn| {
        // The header of a TLS record: the client has begun, and gets no answer.
        assert_eq!(conn.read_exact(5).first(), Some(&0x16));
        conn.half_close();
        let _ = conn.read_to_end();
    });
    let second = FakeServer::start_at(SocketAddr::new(SECOND, port.number()), move |mut conn| {
        conn.accept_tls(&tls);
        let_in(conn);
    });
    let signed_in = alice(port.number(), Secure::Implicit, &authority.ca_file()).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!((signed_in.address, signed_in.retries), (second.addr(), 0));
    assert_eq!((first.connections(), second.connections()), (1, 1));
    first.finish();
}

#[test]
fn an_invalid_certificate_ends_it() {
    let (dir, port) = (Dir::new(), free_port());
    let authority = ca(&dir);
    let (wrong, right) = (authority.server("wrong", &["other.example"]), authority.server("right", &[NAME]));
    let serve = |ip, certificate: testkit::certs::Certificate| {
        let tls = certificate.server_config();
        FakeServer::start_at(SocketAddr::new(ip, port.number()), move |mut conn| {
            if conn.try_accept_tls(&tls).is_ok() {
                let_in(conn);
            }
        })
    };
    let (first, second) = (serve(FIRST, wrong), serve(SECOND, right));
    let Err(failure) = alice(port.number(), Secure::Implicit, &authority.ca_file()) else { panic!("signed in") };
    assert_eq!(failure.kind, Kind::BackendTls);
    assert!(failure.detail.contains(&first.addr().to_string()) && failure.detail.contains("other.example"), "{failure:?}");
    assert_eq!((first.connections(), second.connections()), (1, 0));
    assert_eq!(first.wait_for_end(0), b"", "no password went there");
}
