//! Clients: sign in, go idle, stay.

use crate::{Protocol, Trouble};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
        let mut client = Client::Clear(stream);
        if config.is_some() && protocol.implicit().is_none() {
            // Behind STARTTLS it greets once more.
            client.expect_last(protocol)?;
            client.say("STARTTLS\r\n")?;
            client.expect_last(protocol)?;
        }
        if let (Some(config), Client::Clear(stream)) = (config, &client) {
            let tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
            client = Client::Tls(Box::new(StreamOwned::new(tls, stream.try_clone()?)));
        }
        client.expect_last(protocol)?;
        match protocol {
            Protocol::Imap => {
                client.say(&format!("a LOGIN user{number} secret\r\n"))?;
                client.expect("a OK")?;
                client.say("b IDLE\r\n")?;
                client.expect("+ idling")?;
            }
            Protocol::Pop3 => {
                client.say(&format!("USER user{number}\r\n"))?;
                client.expect("+OK")?;
                client.say("PASS secret\r\n")?;
                client.expect("+OK")?;
            }
            Protocol::ManageSieve => {
                client.say(&format!("AUTHENTICATE \"PLAIN\" \"{}\"\r\n", plain(number)))?;
                client.expect("OK")?;
            }
            Protocol::Submission => {
                client.say("EHLO bench.localhost\r\n")?;
                client.expect_last(protocol)?;
                client.say(&format!("AUTH PLAIN {}\r\n", plain(number)))?;
                client.expect("235")?;
            }
        }
        Ok(client)
    }

    /// Reads lines up to the one that ends a greeting or an answer.
    fn expect_last(&mut self, protocol: Protocol) -> Result<(), Trouble> {
        let is_last = |line: &str| match protocol {
            Protocol::Imap => line.starts_with("* OK"),
            Protocol::Pop3 => line.starts_with("+OK"),
            Protocol::ManageSieve => line.starts_with("OK"),
            Protocol::Submission => line.starts_with("220 ") || line.starts_with("250 "),
        };
        let goes_on = |line: &str| match protocol {
            Protocol::Imap | Protocol::Pop3 => false,
            Protocol::ManageSieve => line.starts_with('"'),
            Protocol::Submission => line.starts_with("250-"),
        };
        loop {
            let line = self.line()?;
            if is_last(&line) {
                return Ok(());
            }
            if !goes_on(&line) {
                return Err(format!("a good answer was expected, not {line:?}").into());
            }
        }
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
        let line = self.line()?;
        if line.starts_with(start) { Ok(()) } else { Err(format!("expected {start:?}, heard {line:?}").into()) }
    }

    fn line(&mut self) -> Result<String, Trouble> {
        let mut line = Vec::new();
        let mut byte = [0u8; 1];
        while !line.ends_with(b"\n") {
            let n = match self {
                Client::Clear(stream) => stream.read(&mut byte)?,
                Client::Tls(stream) => stream.read(&mut byte)?,
            };
            if n == 0 {
                return Err(format!("the proxy closed behind {:?}", String::from_utf8_lossy(&line)).into());
            }
            line.extend_from_slice(&byte);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

/// What SASL PLAIN says for one of many users.
fn plain(number: usize) -> String {
    STANDARD.encode(format!("\0user{number}\0secret"))
}
