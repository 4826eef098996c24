//! `gatepost demo --once`: a scripted client, both conversations side by side, and checks.
//!
//! The scripts are in [`script`](super::script), what must hold after them in [`checks`](super::checks); each is played in every
//! protocol with logins. That of [`lmtp`] stands beside them. A run shows the same as the one before but for ports, times and
//! session identifiers.

use super::checks::{Checks, Seen};
use super::lmtp;
use super::scene::{ALICE, BOB, DAVE, Doors, ERIN, Scene};
use super::screen::{Screen, Tone, WIDTH, fold};
use super::script::{Stage, Talk};
use super::server::Report;
use super::speech::title;
use relay::tls::connector::{ConnectPolicy, Connector};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most reports or lines that wait for a look; the script makes some hundred.
const KEPT_MAX: usize = 10_000;

/// What the servers have told and nobody has looked at yet.
pub type Reports = Arc<Mutex<Vec<Report>>>;
/// Gatepost's journal.
pub type Lines = Arc<Mutex<Vec<String>>>;

/// Keeps something for the script to look at.
pub fn keep<T>(list: &Mutex<Vec<T>>, one: T) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    if list.len() < KEPT_MAX {
        list.push(one);
    }
}

/// Takes all that was kept.
pub fn take<T>(list: &Mutex<Vec<T>>) -> Vec<T> {
    std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Plays the scripts, prints what was said, and checks it. True: all checks hold.
///
/// # Errors
/// The client's TLS could not be set up.
pub async fn play(scene: Scene, reports: &Reports, journal: &Lines, screen: Screen) -> Result<bool, String> {
    let policy = ConnectPolicy { verify: true, ca: Some(scene.ca.clone()), ..ConnectPolicy::default() };
    let connector = Connector::new(policy).map_err(|e| format!("the client's TLS: {e}"))?;
    let mut seen = Vec::new();
    let [of_east, of_west] = &scene.letters;
    for doors in &scene.doors {
        let errands = [doors.speech.errand(&ALICE, of_east), doors.speech.errand(&BOB, of_west)];
        let stage = Stage { doors, reports, connector: &connector, errands: &errands };
        let scripts = scripts(&stage, doors, screen).await;
        seen.push((doors, scripts, errands));
    }
    let mut talk = Talk::default();
    let heard = lmtp::play(&scene.lmtp, reports, &mut talk).await;
    let title = "a mail server, by LMTP: one letter for alice, bob, somebody unknown, and dave, whose server is down";
    talk.print(screen, title, "east, west");
    let mail = (talk, heard);
    // When this returns the sessions have ended, and the journal is complete.
    scene.gatepost.drain(Duration::from_secs(5), std::future::pending()).await;
    let journal = take(journal);
    screen.say("");
    screen.say(&screen.paint(Tone::Heading, "what Gatepost's journal said"));
    let events = [" login ", " refused ", " end ", " delivered ", " deferred ", " rejected "];
    for line in journal.iter().filter(|line| events.iter().any(|event| line.contains(event))) {
        screen.say(&fold(line, WIDTH).join("\n"));
    }

    let mut checks = Checks::default();
    for (doors, seen, errands) in &seen {
        checks.protocol(doors, seen, errands, &journal);
    }
    lmtp::check(&mut checks, &mail, &journal);
    let talks: Vec<&Talk> = seen.iter().flat_map(|(_, seen, _)| seen.talks()).chain([&mail.0]).collect();
    checks.journal(&journal, &talks);
    screen.say("");
    Ok(checks.print(screen))
}

/// All scripts in one protocol.
async fn scripts(stage: &Stage<'_>, doors: &Doors, screen: Screen) -> Seen {
    let mut seen = Seen::default();
    let (clear, safest, starttls) = (title(doors.speech.name()), doors.safest_name(), doors.speech.starttls());

    let talk = &mut seen.alice.0;
    seen.alice.1 = stage.alice(talk).await;
    talk.print(screen, &format!("alice, over {safest}"), ALICE.server);

    let talk = &mut seen.bob.0;
    seen.bob.1 = stage.bob(talk).await;
    talk.print(screen, &format!("bob, over {clear} with {starttls}, after a wrong password"), BOB.server);

    let talk = &mut seen.wrong.0;
    seen.wrong.1 = stage.wrong(talk).await;
    talk.print(screen, &format!("alice with a wrong password, then somebody unknown, over {safest}"), ALICE.server);

    let talk = &mut seen.dead.0;
    seen.dead.1 = stage.dead(talk).await;
    talk.print(screen, &format!("dave, whose server is down, over {safest}"), DAVE.server);

    let talk = &mut seen.behind.0;
    seen.behind.1 = stage.behind(talk).await;
    let words = format!("alice by way of a balancer, over {safest} behind a PROXY header; then somebody without one");
    talk.print(screen, &words, ALICE.server);

    if doors.speech.vouches() {
        let talk = &mut seen.erin.0;
        seen.erin.1 = stage.erin(talk).await;
        talk.print(screen, &format!("erin, over {safest}, after a wrong password; west is told no password"), ERIN.server);
    }
    seen
}
