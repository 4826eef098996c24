//! What becomes of a login whose backend refuses half-way to hear who is calling; all else of this room is shown by
//! `tests/it`, with backends of every kind.

use super::*;
use crate::backend::source::Sources;
use relay::tls::connector::ConnectPolicy;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use wire::dance::Secure;
use wire::origin::{Origin, SessionId};
use wire::secret::Secret;

/// What to answer, each in its turn: the greeting, then a line for each command.
type Script = &'static [&'static str];

const EHLO: &str = "250-mail\r\n250-AUTH PLAIN\r\n250 XCLIENT ADDR PORT";

/// A backend that serves so many connections, each by its script, and what it heard on each.
async fn backend(scripts: &'static [Script]) -> (SocketAddr, Arc<Mutex<Vec<Vec<String>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&heard);
    tokio::spawn(async move {
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            book.lock().await.push(Vec::new());
            for reply in *script {
                stream.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    break;
                }
                book.lock().await.last_mut().unwrap().push(line.trim_end().to_owned());
            }
        }
    });
    (at, heard)
}

struct NoNames;

impl Resolve for NoNames {
    fn addresses<'a>(&'a self, _: &'a str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Failure>> + Send + 'a>> {
        Box::pin(async { panic!("the address is known") })
    }
}

struct Nobody;

impl Tell for Nobody {
    fn tell(&self, _: SocketAddr, _: Transition, _: &str) {}
}

fn route(at: SocketAddr) -> Route {
    Route {
        smtp: false,
        protocol: "submission",
        host: at.ip().to_string(),
        address: Some(at.ip()),
        port: at.port(),
        secure: Secure::Never,
        verify: true,
        user: "joe".into(),
        master: None,
        pass: None,
        mechanism: None,
        noauth: false,
        source: None,
        timeout: Duration::from_secs(20),
        give_up_after: Duration::ZERO,
        one_at_a_time: false,
        introduce: true,
        forward: Vec::new(),
        notes: Vec::new(),
        quick: false,
        maybe: None,
        database: "people".into(),
    }
}

async fn signed_in(at: SocketAddr, identity_refused: IdentityRefused) -> Result<SignedIn, Failure> {
    let any_cert = Connector::new(ConnectPolicy { verify: false, ..ConnectPolicy::default() }).unwrap();
    let (health, sources) = (Health::default(), Sources::default());
    let means = Means {
        again: true,
        resolver: &NoNames,
        verified: Err("nobody asks for TLS"),
        any_cert: &any_cert,
        connect_timeout: Duration::from_secs(5),
        ourselves: Ourselves {
            reached: "127.0.0.1:1".parse().unwrap(),
            arrived: "127.0.0.1:1".parse().unwrap(),
            addresses: &[],
            ports: &[],
        },
        health: &health,
        sources: &sources,
        proxy_protocol: BackendProxy::Off,
        identity_refused,
        server: "proxy.example",
        tell: &Nobody,
        witness: Witness::NOBODY,
    };
    let introduction = || {
        let session = SessionId::new("s").unwrap();
        let origin = Origin::at_accept("192.0.2.7:5".parse().unwrap(), "192.0.2.1:587".parse().unwrap(), session);
        Some(Introduction { origin, client_id: Vec::new(), forward: Vec::new(), patience: None })
    };
    let sign_in_as = || {
        Some(SignIn {
            user: "joe".into(),
            master: None,
            password: Secret::new(b"secret".to_vec()),
            mechanism: None,
            noauth: false,
        })
    };
    let dialect = || -> Box<dyn Dialect> { Box::new(wire::smtp::dialect::Submission::new()) };
    let words = Words { dialect, introduction: &introduction, sign_in: &sign_in_as };
    sign_in(&means, &route(at), &[at], &words, Instant::now() + Duration::from_secs(20)).await
}

const GREET: &str = "220 mail ESMTP";
const REFUSED: Script = &[GREET, EHLO, "501 5.5.4 Bad PORT syntax"];
const XCLIENT: &str = "XCLIENT ADDR=192.0.2.7 PORT=5";
const AUTH: &str = "AUTH PLAIN AGpvZQBzZWNyZXQ=";

#[tokio::test]
async fn what_was_half_believed_does_not_count_for_the_login() {
    let (at, heard) = backend(&[REFUSED, &[GREET, EHLO, "235 in"]]).await;
    let signed_in = signed_in(at, IdentityRefused::Continue).await.map_err(|failure| failure.detail).unwrap();
    assert_eq!(signed_in.identity, Identity::NotTold);
    assert_eq!(signed_in.identity_refused.as_deref(), Some("501 5.5.4 Bad PORT syntax"));
    assert_eq!(signed_in.retries, 0);
    let heard = heard.lock().await;
    let expected: [&[&str]; 2] = [&["EHLO proxy.example", XCLIENT], &["EHLO proxy.example", AUTH]];
    assert_eq!(*heard, expected);
}

#[tokio::test]
async fn what_comes_of_the_second_connection_is_told_with_what_came_of_the_first() {
    let (at, heard) = backend(&[REFUSED, &[GREET, EHLO, "535 5.7.8 no"]]).await;
    let failure = signed_in(at, IdentityRefused::Continue).await.err().unwrap();
    assert_eq!(failure.kind.word(), "backend-credentials");
    assert!(
        failure.detail.contains("no (before that it refused to hear who is calling: 501 5.5.4 Bad PORT syntax)"),
        "{failure}"
    );
    assert_eq!(heard.lock().await.len(), 2, "no third time");
}

#[tokio::test]
async fn where_the_login_is_to_fail_there_is_no_second_connection() {
    let (at, heard) = backend(&[REFUSED, &[GREET, EHLO, "235 in"]]).await;
    let failure = signed_in(at, IdentityRefused::Fail).await.err().unwrap();
    assert_eq!((failure.kind.word(), failure.retry), ("backend-config", Retry::OtherAddress));
    assert_eq!(heard.lock().await.len(), 1);
}
