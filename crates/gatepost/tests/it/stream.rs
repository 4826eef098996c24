//! A stream of clients that sign in, say something and leave, one after the other, for as long as a test likes.

use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use testkit::Protocol;
use testkit::peer::AnyClient;

/// Where clients of one kind go.
#[derive(Clone)]
pub struct Way {
    pub protocol: Protocol,
    pub at: SocketAddr,
    /// With TLS from the first byte.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Way {
    /// A client that is signed in; fails if it is refused in any way.
    #[track_caller]
    pub fn signed_in(&self, user: &str) -> AnyClient {
        let mut client = match &self.tls {
            Some(tls) => AnyClient::connect_tls(self.protocol, self.at, tls, "localhost"),
            None => AnyClient::connect(self.protocol, self.at),
        };
        client.greeting();
        let outcome = client.login(user, "x");
        assert!(outcome.ok, "{user} was refused: {outcome:?}");
        client
    }
}

/// Threads of such clients.
pub struct Stream {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// One thread for each way, again and again. Any refusal, at connect or later, fails the test.
    pub fn start(ways: &[Way]) -> Stream {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = ways.iter().cloned().enumerate().map(|(number, way)| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = way.signed_in(&format!("stream{number}"));
                    assert!(client.noop().ok);
                    client.logout();
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Stream { threads: threads.collect(), stop, served }
    }

    /// Waits until so many more have been served.
    #[track_caller]
    pub fn wait_for_more(&self, more: usize) {
        let before = self.served.load(Ordering::Relaxed);
        testkit::wait::until("the stream goes on", || self.served.load(Ordering::Relaxed) >= before + more || self.has_failed());
        assert!(!self.has_failed(), "a client of the stream was refused; see above");
    }

    fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished) && !self.stop.load(Ordering::Relaxed)
    }

    /// Ends it: how many were served, all of them.
    #[track_caller]
    pub fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "a client of the stream was refused; see above");
        }
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Open sessions, some of which never stop talking.
pub struct Open {
    idle: Vec<AnyClient>,
    stop: Arc<AtomicBool>,
    talkers: Vec<JoinHandle<AnyClient>>,
}

impl Open {
    /// So many over all ways in turn; every third one talks.
    pub fn start(ways: &[Way], count: usize) -> Open {
        let stop = Arc::new(AtomicBool::new(false));
        let mut open = Open { idle: Vec::new(), stop: Arc::clone(&stop), talkers: Vec::new() };
        for (number, way) in ways.iter().cycle().take(count).enumerate() {
            let mut client = way.signed_in(&format!("open{number}"));
            if number % 3 == 0 {
                let stop = Arc::clone(&stop);
                open.talkers.push(std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        assert!(client.noop().ok);
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    client
                }));
            } else {
                open.idle.push(client);
            }
        }
        open
    }

    /// Each of those that were silent says something, and has its answer.
    #[track_caller]
    pub fn all_answer(&mut self) {
        for client in &mut self.idle {
            assert!(client.noop().ok);
        }
        assert!(!self.talkers.iter().any(JoinHandle::is_finished), "a session that talked was lost; see above");
    }

    /// Ends the talking, and gives them all.
    #[track_caller]
    pub fn finish(self) -> Vec<AnyClient> {
        self.finish_but(usize::MAX)
    }

    /// The same without this one, which was ended otherwise.
    #[track_caller]
    pub fn finish_but(mut self, ended: usize) -> Vec<AnyClient> {
        // Every third one talks, from the first on.
        if ended != usize::MAX {
            self.idle.remove(ended - ended / 3 - 1);
        }
        self.all_answer();
        self.stop.store(true, Ordering::Relaxed);
        let mut all = std::mem::take(&mut self.idle);
        all.extend(self.talkers.drain(..).map(|talker| talker.join().expect("a session that talked was not lost")));
        all
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for talker in self.talkers.drain(..) {
            let _ = talker.join();
        }
    }
}
