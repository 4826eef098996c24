//! Clients: sign in, go idle, stay.

use crate::{Protocol, Trouble};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A signed-in client.
pub enum Client {
    /// In clear.
    Clear(TcpStream),
    /// With TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// TLS as a mail client would set it up.
pub fn tls(ca: &[u8]) -> Result<Arc<ClientConfig>, Trouble> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

impl Client {
    /// Connects, signs in as one of many users, and starts IDLE where the protocol has it.
    pub fn idle(
        protocol: Protocol,
        address: SocketAddr,
        config: Option<&Arc<ClientConfig>>,
        number: usize,
    ) -> Result<Client, Trouble> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut client = match config {
            None => Client::Clear(stream),
            Some(config) => {
                let tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
                Client::Tls(Box::new(StreamOwned::new(tls, stream)))
            }
        };
        match protocol {
            Protocol::Imap => {
                client.expect("* OK")?;
                client.say(&format!("a LOGIN user{number} secret\r\n"))?;
                client.expect("a OK")?;
                client.say("b IDLE\r\n")?;
                client.expect("+ idling")?;
            }
            Protocol::Pop3 => {
                client.expect("+OK")?;
                client.say(&format!("USER user{number}\r\n"))?;
                client.expect("+OK")?;
                client.say("PASS secret\r\n")?;
                client.expect("+OK")?;
            }
        }
        Ok(client)
    }

    fn say(&mut self, text: &str) -> Result<(), Trouble> {
        match self {
            Client::Clear(stream) => stream.write_all(text.as_bytes())?,
            Client::Tls(stream) => {
                stream.write_all(text.as_bytes())?;
                stream.flush()?;
            }
        }
        Ok(())
    }

    fn expect(&mut self, start: &str) -> Result<(), Trouble> {
        let mut line = Vec::new();
        let mut byte = [0u8; 1];
        while !line.ends_with(b"\n") {
            let n = match self {
                Client::Clear(stream) => stream.read(&mut byte)?,
                Client::Tls(stream) => stream.read(&mut byte)?,
            };
            if n == 0 {
                return Err(format!("the proxy closed instead of {start:?}").into());
            }
            line.extend_from_slice(&byte);
        }
        let line = String::from_utf8_lossy(&line);
        if line.starts_with(start) { Ok(()) } else { Err(format!("expected {start:?}, heard {line:?}").into()) }
    }
}
