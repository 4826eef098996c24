//! The one call: signs in through Gatepost with the same machine that Gatepost itself signs in with at backends, asks the backend
//! for its ID where the protocol has that, and leaves.

use super::super::ask::{At, Lines, refusal};
use super::super::{FAILED, UNREACHABLE};
use super::witnessed::Witnessed;
use crate::chance;
use crate::protocol::LoginWay;
use bytes::BytesMut;
use relay::conn::Conn;
use relay::tls::connector::Connector;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use wire::dance::{Dance, DanceEvent, IdentityRefused, Introduction, Plan, Secure, SignIn};
use wire::machine::Step;
use wire::origin::{Origin, SessionId};
use wire::secret::Password;

/// For all of the dialogue: a backend may be slow, and a row may hold the login.
const PATIENCE: Duration = Duration::from_secs(90);
/// For the answer to ID, to LOGOUT, and for the rest of the trace.
const SHORT: Duration = Duration::from_secs(10);
/// What one read may bring.
const READ: usize = 4096;
/// The most that is read behind the login.
const BEHIND_MAX: usize = 64 << 10;

/// What is needed for it.
pub struct Call<'a> {
    pub way: &'static LoginWay,
    pub listener: SocketAddr,
    pub secure: Secure,
    pub connector: Option<&'a Connector>,
    /// The name in Gatepost's certificate.
    pub name: String,
    pub user: &'a str,
    pub password: &'a Password,
    /// The client that we speak for.
    pub from: Option<IpAddr>,
}

/// What came of it.
pub struct Talked {
    pub witnessed: Witnessed,
    /// Gatepost's words when it did not let us in.
    pub refused: Option<String>,
    /// What the backend said behind the login.
    pub behind: Vec<u8>,
}

/// Nothing could be tried: exit code and reason.
pub struct Unable(pub u8, pub String);

impl Call<'_> {
    /// Signs in and leaves, with a trace on.
    pub async fn sign_in(&self, at: &At) -> Result<Talked, Unable> {
        // Everybody at our own address: the name may be another to the databases, and the port is known only when we are
        // connected.
        let connected = timeout(SHORT, Box::pin(self.connect_traced(at))).await;
        let (conn, mut trace) = connected.map_err(|_| Unable(UNREACHABLE, format!("{}: no answer", self.listener)))??;
        let mut witnessed = Witnessed::of(conn.local_addr(), self.listener);
        let mut talked = Box::pin(timeout(PATIENCE, self.talk(conn)));
        // The trace is read all the while: who does not read it loses some of it.
        let outcome = loop {
            tokio::select! {
                outcome = &mut talked => break outcome,
                line = trace.next() => hear(&mut witnessed, line)?,
            }
        };
        let by = Instant::now() + SHORT;
        while !witnessed.ended {
            match timeout_at(by, trace.next()).await {
                Ok(line) => hear(&mut witnessed, line)?,
                Err(_) => break,
            }
        }
        match outcome {
            Ok(Ok(behind)) => Ok(Talked { witnessed, refused: None, behind }),
            Ok(Err(Ended::Refused(why))) => Ok(Talked { witnessed, refused: Some(why), behind: Vec::new() }),
            Ok(Err(Ended::Broken(why))) => Err(Unable(UNREACHABLE, format!("{}: {why}", self.listener))),
            Err(_) => {
                let why = format!("no answer within {} s", PATIENCE.as_secs());
                Ok(Talked { witnessed, refused: Some(why), behind: Vec::new() })
            }
        }
    }

    async fn connect_traced(&self, at: &At) -> Result<(Conn, Lines), Unable> {
        // Which address of ours it will be is known by asking the way, without a word to anybody.
        let probe = std::net::UdpSocket::bind(if self.listener.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
            .and_then(|probe| probe.connect(self.listener).and_then(|()| probe.local_addr()));
        let own = probe.map_err(|e| Unable(UNREACHABLE, format!("{}: {e}", self.listener)))?.ip();
        let path = format!("/v1/trace?{}", super::super::ask::query(&[("client", own.to_string())]));
        let trace = match Lines::ask(at, &path).await {
            Ok(Ok(trace)) => trace,
            Ok(Err(answer)) => return Err(Unable(FAILED, refusal(&answer))),
            Err(e) => return Err(Unable(UNREACHABLE, format!("{at}: {e}"))),
        };
        let broken = |e: std::io::Error| Unable(UNREACHABLE, format!("{}: {e}", self.listener));
        let stream = TcpStream::connect(self.listener).await.map_err(broken)?;
        relay::listen::tune(&stream).map_err(broken)?;
        Ok((Conn::clear(stream).map_err(broken)?, trace))
    }

    fn plan(&self, own: SocketAddr) -> Plan {
        let introduce = self.from.map(|from| Introduction {
            origin: Origin::at_accept(SocketAddr::new(from, own.port()), self.listener, SessionId::from_random(chance::octets())),
            client_id: Vec::new(),
            forward: Vec::new(),
            patience: None,
        });
        Plan {
            secure: self.secure,
            introduce,
            sign_in: Some(SignIn {
                user: self.user.to_owned(),
                master: None,
                password: self.password.clone(),
                mechanism: None,
                noauth: false,
            }),
            one_at_a_time: false,
            identity_refused: IdentityRefused::Continue,
            server: "doctor.gatepost.invalid".to_owned(),
            helo: None,
        }
    }

    /// The dialogue, and what the backend says behind it.
    async fn talk(&self, conn: Conn) -> Result<Vec<u8>, Ended> {
        let mut dance = Dance::new((self.way.dialect)(), self.plan(conn.local_addr()));
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let mut conn = if self.secure == Secure::Implicit { self.shake(conn, &input).await? } else { conn };
        loop {
            let step = dance.step(&mut input, &mut out).map_err(|stumble| Ended::Refused(stumble.detail))?;
            if !out.is_empty() {
                conn.write_all(&out).await.map_err(broken)?;
                out.fill(0);
                out.clear();
            }
            match step {
                Step::NeedInput => {
                    if conn.read(&mut input, READ).await.map_err(broken)? == 0 {
                        let words = dance.farewell().map(|words| format!(", saying: {words}")).unwrap_or_default();
                        return Err(Ended::Refused(format!("it closed the connection{words}, state {}", dance.state())));
                    }
                }
                Step::Event(DanceEvent::Secure) => {
                    conn = self.shake(conn, &input).await?;
                    dance.secured();
                }
                Step::Event(DanceEvent::Welcome(_)) => break,
                Step::Event(DanceEvent::Refused(no)) => return Err(Ended::Refused(no.text)),
            }
        }
        let said = timeout(SHORT, self.leave(&mut conn, &mut input)).await;
        let _ = timeout(SHORT, conn.shutdown()).await;
        Ok(said.unwrap_or_default())
    }

    async fn shake(&self, conn: Conn, early: &BytesMut) -> Result<Conn, Ended> {
        let connector = self.connector.ok_or_else(|| Ended::Broken("there is no TLS to be had".to_owned()))?;
        let shaken = connector.connect(conn, &self.name, early).await;
        shaken.map(|(conn, _)| conn).map_err(|e| {
            Ended::Broken(format!(
                "TLS with Gatepost: {e}; --ca FILE with --name, or --insecure, if another certificate is right here"
            ))
        })
    }

    /// Asks what the backend says of itself and of us, where the protocol has that, and leaves. Nothing in the mailbox is
    /// touched.
    async fn leave(&self, conn: &mut Conn, input: &mut BytesMut) -> Vec<u8> {
        if conn.write_all(self.way.parting).await.is_ok() {
            while input.len() < BEHIND_MAX && matches!(conn.read(input, READ).await, Ok(read) if read > 0) {}
        }
        input.to_vec()
    }
}

enum Ended {
    Refused(String),
    Broken(String),
}

fn broken(e: std::io::Error) -> Ended {
    Ended::Broken(e.to_string())
}

fn hear(witnessed: &mut Witnessed, line: Result<Option<bytes::Bytes>, String>) -> Result<(), Unable> {
    match line {
        Ok(Some(line)) => {
            if let Ok(event) = serde_json::from_slice::<Value>(&line) {
                witnessed.hear(&event);
            }
            Ok(())
        }
        Ok(None) => Err(Unable(UNREACHABLE, "the server has ended the trace".to_owned())),
        Err(e) => Err(Unable(UNREACHABLE, e)),
    }
}
