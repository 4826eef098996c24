//! A cheap backend: says what a mail server says at login, then keeps still.

use crate::{Protocol, Trouble};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts it on a thread of its own; it ends with the process.
pub fn start(protocol: Protocol) -> Result<SocketAddr, Trouble> {
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    std::thread::Builder::new().name("backend".into()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(socket) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, protocol));
            }
        });
    })?;
    Ok(address)
}

async fn converse(mut stream: TcpStream, protocol: Protocol) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let greeting: &[u8] = match protocol {
        Protocol::Imap => b"* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID IDLE AUTH=PLAIN] ready\r\n",
        Protocol::Pop3 => b"+OK [XCLIENT] ready\r\n",
        Protocol::ManageSieve => {
            b"\"IMPLEMENTATION\" \"bench\"\r\n\"SASL\" \"PLAIN\"\r\n\"SIEVE\" \"fileinto\"\r\n\"XCLIENT\"\r\nOK \"ready\"\r\n"
        }
        Protocol::Submission => SMTP_GREETING,
    };
    stream.write_all(greeting).await?;
    let mut line = Vec::new();
    let mut bytes = [0u8; 512];
    loop {
        let n = stream.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        line.extend_from_slice(bytes.get(..n).unwrap_or_default());
        while let Some(end) = line.iter().position(|b| *b == b'\n') {
            let command: Vec<u8> = line.drain(..=end).collect();
            stream.write_all(&answer(protocol, &command)).await?;
        }
    }
}

const SMTP_GREETING: &[u8] = b"220 bench.localhost ESMTP ready\r\n";

fn answer(protocol: Protocol, command: &[u8]) -> Vec<u8> {
    let mut words = command.split(|b| b.is_ascii_whitespace());
    let first = words.next().unwrap_or_default();
    match protocol {
        Protocol::Imap => imap(first, &words.next().unwrap_or_default().to_ascii_uppercase()),
        Protocol::Pop3 => b"+OK\r\n".to_vec(),
        Protocol::ManageSieve => b"OK\r\n".to_vec(),
        Protocol::Submission => match first.to_ascii_uppercase().as_slice() {
            b"EHLO" => b"250-bench.localhost\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n\
                         250 XCLIENT ADDR PORT PROTO HELO SESSION TTL CLIENT-TRANSPORT\r\n"
                .to_vec(),
            b"XCLIENT" => SMTP_GREETING.to_vec(),
            b"AUTH" => b"235 2.7.0 in\r\n".to_vec(),
            _ => b"250 2.0.0 done\r\n".to_vec(),
        },
    }
}

fn imap(tag: &[u8], verb: &[u8]) -> Vec<u8> {
    let (before, end): (&[u8], &[u8]) = match verb {
        b"ID" => (b"* ID NIL\r\n", b" OK done\r\n"),
        b"LOGIN" => (b"", b" OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"),
        b"NOOP" => (b"", b" OK done\r\n"),
        b"IDLE" => return b"+ idling\r\n".to_vec(),
        _ => return Vec::new(),
    };
    [before, tag, end].concat()
}
