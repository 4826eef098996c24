//! The letter of a mail: held as it comes, then handed to all servers at once.

use super::{Client, HOPS, MAIL_KICKED, Transaction, Trouble};
use crate::inbound::hold::{self, Held, Hold};
use crate::journal::Level;
use crate::login::house::Phase;
use crate::login::record::Record;
use bytes::Bytes;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;
use wire::envelope::Verdict;

/// The same at our end, where goodbyes have three seconds.
const LEAVING: Duration = Duration::from_secs(1);

impl Transaction {
    /// The letter begins.
    pub(in super::super) fn begin_letter(&mut self) {
        self.hold = Some(Hold::new(&self.ground.live.meant.server.temp_dir));
    }

    /// A piece of it.
    ///
    /// # Errors
    /// What becomes of the letter, whatever else comes of it.
    pub(in super::super) async fn piece(&mut self, piece: &Bytes) -> Result<(), Verdict> {
        self.hops.feed(piece);
        if self.hops.received() > HOPS {
            return Err(Verdict::new(554, (4, 6), format!("The letter has passed more than {HOPS} servers.")));
        }
        let Some(hold) = &mut self.hold else { return Ok(()) };
        let held = hold.add(piece).await;
        held.map_err(|e| self.not_held(&e))
    }

    /// It is whole, and is handed to all servers at once, with a field ahead of it. Those that were taken are answered in order, each
    /// as soon as those before it are: a server that takes its time must not keep back what is known of the others, or a client
    /// that gives up would send it to them again. `None`: the client does not hear it.
    pub(in super::super) async fn deliver(
        &mut self,
        ahead: impl FnOnce(&Transaction, &[u8]) -> Bytes,
        client: &mut Client<'_, '_>,
    ) -> Option<()> {
        let Some(hold) = self.hold.take() else { return Some(()) };
        self.taken.sort_by_key(|taken| taken.nth);
        let letter = match hold.finish().await {
            Ok(letter) => Arc::new(letter),
            Err(e) => {
                let verdict = self.not_held(&e);
                for heard in self.all(&verdict, &client.talk.record) {
                    client.front.delivered(&heard, client.out);
                }
                return client.send().await;
            }
        };
        let start = letter.read(0).await.unwrap_or_default();
        let ahead = ahead(self, &start);
        drop(start);
        let mut tasks = JoinSet::new();
        // What each place has answered; `None`: it is being asked.
        let mut answers: Vec<Option<std::vec::IntoIter<Verdict>>> = Vec::new();
        for (at, place) in self.places.iter_mut().enumerate() {
            let (letter, ahead, taken) = (Arc::clone(&letter), ahead.clone(), place.taken);
            // Where answers went astray, those that may still come would be taken for answers to the letter.
            let courier = if taken == 0 || place.failed.is_some() { None } else { place.courier.take() };
            answers.push(courier.is_none().then(|| Vec::new().into_iter()));
            if let Some(mut courier) = courier {
                tasks.spawn(async move {
                    let (verdicts, lost) = courier.deliver(&ahead, &letter, taken).await;
                    (at, courier, verdicts, lost)
                });
            }
        }
        let (mut next, mut listens) = (0, Some(()));
        // Whoever sends the client away, or ends all of us, must not take its recipients' lines with it.
        let (entry, mut phase) = (Arc::clone(&client.talk.entry), self.ground.house.phase.clone());
        let mut given_up = pin!(async {
            tokio::select! {
                () = async { entry.kicked().await; sleep(MAIL_KICKED).await } => {}
                () = Phase::Leaving.reached(&mut phase) => sleep(LEAVING).await,
            }
        });
        loop {
            next = self.answer(next, &letter, &mut answers, client);
            if listens.is_some() {
                listens = client.send().await;
            }
            let done = tokio::select! {
                done = tasks.join_next() => done,
                () = &mut given_up => break,
            };
            match done {
                Some(Ok((at, courier, verdicts, lost))) => {
                    let Some(place) = self.places.get_mut(at) else { continue };
                    if let Some(lost) = lost {
                        place.failed = Some(Trouble::Lost(lost.to_string(), lost.verdict()));
                    }
                    place.courier = Some(courier);
                    if let Some(slot) = answers.get_mut(at) {
                        *slot = Some(verdicts.into_iter());
                    }
                }
                Some(Err(e)) => self.broken(&e),
                None => break,
            }
        }
        // A task that broke, or was given up, has answered nothing.
        for slot in answers.iter_mut().filter(|slot| slot.is_none()) {
            *slot = Some(Vec::new().into_iter());
        }
        self.answer(next, &letter, &mut answers, client);
        listens?;
        client.send().await
    }

    /// Answers those that were taken, from the `next` one on, as far as their places have answered; which one is next then.
    fn answer(
        &self,
        mut next: usize,
        letter: &Held,
        answers: &mut [Option<std::vec::IntoIter<Verdict>>],
        client: &mut Client<'_, '_>,
    ) -> usize {
        while let Some(taken) = self.taken.get(next) {
            let Some(Some(own)) = answers.get_mut(taken.at) else { break };
            let place = self.places.get(taken.at);
            let failed = place.and_then(|place| place.failed.as_ref());
            let verdict = own.next().or_else(|| failed.map(|trouble| trouble.verdict(&self.ground)));
            let verdict = verdict.unwrap_or_else(|| Verdict::new(451, (4, 2), "What became of it is not known."));
            let trouble = failed.filter(|_| !verdict.is_yes());
            let told = self.soften(&verdict);
            let server = place.and_then(|place| place.server.as_ref());
            let (said, size) = (taken.said.as_deref(), Some(letter.size()));
            self.tell(&client.talk.record, &taken.to, said, server, (&verdict, &told), trouble, size);
            client.front.delivered(&told, client.out);
            next += 1;
        }
        next
    }

    /// The same answer for all that were taken.
    pub(in super::super) fn all(&mut self, verdict: &Verdict, record: &Record) -> Vec<Verdict> {
        let heard = self.soften(verdict);
        for taken in &self.taken {
            let server = self.places.get(taken.at).and_then(|place| place.server.as_ref());
            self.tell(record, &taken.to, taken.said.as_deref(), server, (verdict, &heard), None, None);
        }
        vec![heard; self.taken.len()]
    }

    fn not_held(&self, e: &io::Error) -> Verdict {
        let dir = self.ground.live.meant.server.temp_dir.display();
        let text = format_args!("a letter cannot be held in server.temp_dir ({dir}): {e}");
        self.ground.house.journal.say(Level::Error, "temp-dir", &text);
        if hold::is_full(e) {
            Verdict::new(452, (3, 1), "Insufficient system storage.")
        } else {
            Verdict::new(451, (3, 0), "The letter cannot be held for now.")
        }
    }
}
