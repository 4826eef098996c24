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
            if protocol == Protocol::Pop3 {
                stream.write_all(b"+OK\r\n").await?;
                continue;
            }
            let mut words = command.split(|b| b.is_ascii_whitespace());
            let (tag, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let mut reply = Vec::new();
            match verb.to_ascii_uppercase().as_slice() {
                b"ID" => reply.extend_from_slice(b"* ID NIL\r\n"),
                b"LOGIN" | b"NOOP" => {}
                b"IDLE" => {
                    stream.write_all(b"+ idling\r\n").await?;
                    continue;
                }
                _ => continue,
            }
            reply.extend_from_slice(tag);
            reply.extend_from_slice(if verb.eq_ignore_ascii_case(b"LOGIN") {
                b" OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"
            } else {
                b" OK done\r\n"
            });
            stream.write_all(&reply).await?;
        }
    }
}
