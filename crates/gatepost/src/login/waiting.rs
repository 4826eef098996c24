//! While a login is looked at: the client waits, and somebody keeps an eye on it.
//!
//! What it sends ahead is kept for its mail server, up to a limit. A client that leaves, or that only half-closed and has
//! nothing more to say, does not keep a database, a place in a queue or a held login busy for long.

use super::auth::{self, Admitted, Caller};
use super::house::Phase;
use super::relayed::{LAST_WORDS, LAST_WORDS_KICKED};
use super::seen;
use super::talk::{KICKED, READ, Talk};
use crate::failure::Failure;
use crate::journal::Level;
use crate::protocol::LoginWay;
use crate::witness::{Ear, Known, Witness};
use bytes::BytesMut;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};
use wire::login::{Front, Goodbye, Login, Mechanism};
use wire::origin::Told;

/// What a client may send ahead while its login is being looked at.
const AHEAD: usize = 16 * 1024;
/// How often a waiting client hears from us.
const STILL_HERE: Duration = Duration::from_secs(25);
/// How long a client that has closed its side, and said nothing behind its login, may wait for the answer.
const HALF_CLOSED: Duration = Duration::from_secs(5);

impl Talk<'_> {
    /// Looks the login up and signs in at the backend, while keeping an eye on the client. `None`: the client is gone, or we
    /// are.
    pub(super) async fn sign_in(
        &mut self,
        way: &'static LoginWay,
        login: &Login,
        front: &mut dyn Front,
        input: &mut BytesMut,
    ) -> Option<Result<Admitted, Failure>> {
        if login.mechanism == Mechanism::Xclient && self.who.vouched.as_deref() != Some(&*login.user) {
            // The front says so of peers that may; that it is so is decided here.
            return Some(Err(Failure::credentials("nobody who may vouches for this user")));
        }
        let client_id = front.client_id().to_vec();
        let mut origin = self.who.origin.clone();
        if let Some(helo) = front.helo() {
            origin.called_itself(helo);
        }
        self.record.helo = origin.helo.as_ref().and_then(Told::known).map(Into::into);
        let tap = self.record.tap.clone();
        let caller = Caller {
            protocol: self.door.protocol,
            way,
            origin: &origin,
            protected: self.who.protected(),
            exempt: self.who.exempt(self.live),
            client_id: &client_id,
            witness: Witness::of(tap.as_deref().map(|tap| tap as &dyn Ear)),
            entry: Some(&self.entry),
        };
        self.entry.signing_in(Some(&login.user));
        if let Some(tap) = &tap {
            tap.learn(&Known::User(&login.user));
            tap.is_now("signing-in");
        }
        let mut phase = self.house.phase.clone();
        let conn = self.conn.as_mut()?;
        let wait = self.house.guard.delay(self.who.origin.client.0.ip(), self.live.meant.limits.guesses);
        let mut work = pin!(async {
            if !wait.is_zero() && !caller.exempt {
                caller.witness.saw(|| seen::guesses(wait));
                sleep(wait).await;
            }
            auth::sign_in(self.house, self.live, &caller, login).await
        });
        // A MAIL that stands for the login stays there itself.
        let login_ends =
            if login.mechanism == Mechanism::Xclient { input.iter().position(|octet| *octet == b'\n') } else { None };
        let nothing_behind = input.len() == login_ends.map_or(0, |at| at + 1);
        let began = Instant::now();
        let mut still_here = interval_at(began + STILL_HERE, STILL_HERE);
        let (mut reading, mut ahead) = (true, BytesMut::new());
        // When a client that has closed is taken for gone.
        let mut gone: Option<Instant> = None;
        // Why the client is sent away, for the client and for the journal, and how long its last words may take.
        let (why, reason, text, patience) = loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    input.unsplit(ahead);
                    return Some(done);
                }
                // Bytes sent ahead wait for the backend; their reader tells us when the client is gone.
                read = conn.read(&mut ahead, READ), if reading && ahead.len() + input.len() < AHEAD => match read {
                    // Half-closed: what it said ahead may still want its answers, and the relay will see the end again. With
                    // nothing said ahead it can only want to hear whether the password is right. Nobody waits long for that.
                    Ok(0) => {
                        reading = false;
                        gone = (ahead.is_empty() && nothing_behind).then(|| Instant::now() + HALF_CLOSED);
                    }
                    Ok(_) => {}
                    Err(e) => {
                        let text = format_args!("{e}, while the login of {} was looked at", login.user);
                        self.record.left(&self.house.journal, Level::Info, "lost", &text);
                        return None;
                    }
                },
                () = sleep_until(gone.unwrap_or(began)), if gone.is_some() => {
                    let text = format_args!("closed, while the login of {} was looked at", login.user);
                    self.record.left(&self.house.journal, Level::Info, "lost", &text);
                    return None;
                }
                () = Phase::Leaving.reached(&mut phase) => {
                    break (Goodbye::ShuttingDown, "shutting-down", "in the middle of its login".to_owned(), LAST_WORDS);
                }
                () = self.entry.kicked() => {
                    let text = format!("{KICKED}, while the login of {} was looked at", login.user);
                    break (Goodbye::Kicked, "kicked", text, LAST_WORDS_KICKED);
                }
                _ = still_here.tick() => {
                    let mut words = BytesMut::new();
                    front.still_here(&mut words);
                    self.record.overhear(front, &words);
                    if let Ok(Err(_)) | Err(_) = timeout(LAST_WORDS, conn.write_all(&words)).await {
                        self.record.left(&self.house.journal, Level::Info, "lost", &"the client left while its login was looked at");
                        return None;
                    }
                }
            }
        };
        let mut words = BytesMut::new();
        front.goodbye(why, &mut words);
        self.record.overhear(front, &words);
        self.record.left(&self.house.journal, Level::Info, reason, &text);
        let last = async {
            drop(conn.write_all(&words).await);
            conn.shutdown().await
        };
        let _ = timeout(patience, last).await;
        None
    }
}
