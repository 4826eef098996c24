//! Where the admin API is asked: its sockets, and that they can be left to a successor.

use super::Desk;
use super::serve::{CONNECTIONS, serve_tcp, serve_unix};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long an end waits for those who read their answer slowly.
const ANSWERING: Duration = Duration::from_secs(2);

/// What was opened for it at the start.
#[derive(Default)]
pub struct Sockets {
    /// The control socket, and its path.
    pub control: Option<(PathBuf, std::os::unix::net::UnixListener)>,
    /// `admin.address`: as configured, and the socket.
    pub addresses: Vec<(SocketAddr, std::net::TcpListener)>,
}

/// The sockets, being served.
#[derive(Default)]
pub struct Listening {
    sockets: Sockets,
    accepting: Vec<(JoinHandle<()>, Arc<Semaphore>)>,
}

impl Listening {
    /// Begins to answer.
    ///
    /// # Errors
    /// A socket cannot be used, or no descriptor is left.
    pub fn start(sockets: Sockets, desk: &Desk) -> io::Result<Listening> {
        let mut accepting = Vec::new();
        let places = || Arc::new(Semaphore::new(CONNECTIONS as usize));
        if let Some((_, listener)) = &sockets.control {
            let (listener, places) = (listener.try_clone()?, places());
            listener.set_nonblocking(true)?;
            let serving = serve_unix(UnixListener::from_std(listener)?, desk.clone(), Arc::clone(&places));
            accepting.push((tokio::spawn(serving), places));
        }
        for (_, listener) in &sockets.addresses {
            let (listener, places) = (listener.try_clone()?, places());
            listener.set_nonblocking(true)?;
            let serving = serve_tcp(TcpListener::from_std(listener)?, desk.clone(), Arc::clone(&places));
            accepting.push((tokio::spawn(serving), places));
        }
        Ok(Listening { sockets, accepting })
    }

    /// Copies for a successor: both can be asked until one of them leaves.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn copies(&self) -> io::Result<Sockets> {
        let control = match &self.sockets.control {
            Some((path, listener)) => Some((path.clone(), listener.try_clone()?)),
            None => None,
        };
        let copy = |(address, listener): &(SocketAddr, std::net::TcpListener)| Ok((*address, listener.try_clone()?));
        let addresses = self.sockets.addresses.iter().map(copy).collect::<io::Result<_>>()?;
        Ok(Sockets { control, addresses })
    }

    /// Takes no more questions. Returns the path of the control socket.
    pub async fn leave(&mut self) -> Option<PathBuf> {
        for (task, _) in &mut self.accepting {
            task.abort();
            // It ends at once: it only ever waits.
            let _ = task.await;
        }
        let sockets = std::mem::take(&mut self.sockets);
        sockets.control.map(|(path, _)| path)
    }

    /// Waits until whoever asked has the answer and has gone, but not for ever. To be called after [`Listening::leave`].
    pub async fn answered(&self) {
        for (_, places) in &self.accepting {
            // Each connection has one; so have those who accept, while they do.
            let _ = timeout(ANSWERING, places.acquire_many(CONNECTIONS)).await;
        }
    }
}
