//! `gatepost demo --once`: a scripted client, both conversations side by side, and checks.
//!
//! The script is in [`script`](super::script), what must hold after it in [`checks`](super::checks). A run shows the same as the
//! one before but for ports, times and session identifiers.

use super::checks::Checks;
use super::scene::{ALICE, BOB, Scene};
use super::screen::{Screen, Tone, WIDTH, fold};
use super::script::{Stage, Talk};
use super::server::Report;
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
    let stage = Stage { scene: &scene, reports, connector: &connector };
    let mut checks = Checks::default();

    let mut alice = Talk::default();
    let outcome = stage.alice(&mut alice).await;
    alice.print(screen, "alice, over IMAPS", ALICE.server);
    let alice_saw = checks.script("alice: over IMAPS, certificate checked, every command answered OK", outcome);

    let mut bob = Talk::default();
    let outcome = stage.bob(&mut bob).await;
    bob.print(screen, "bob, over IMAP with STARTTLS, after a wrong password", BOB.server);
    let bob_saw =
        checks.script("bob: over STARTTLS, certificate checked, every command but the wrong login answered OK", outcome);

    let mut wrong = Talk::default();
    let outcome = stage.wrong(&mut wrong).await;
    wrong.print(screen, "alice with a wrong password, then somebody unknown, over IMAPS", ALICE.server);
    let wrong_saw = checks.script("wrong logins: each was answered", outcome);

    let (imap, imaps) = (scene.imap, scene.imaps);
    let [of_east, of_west] = scene.letters.clone();
    // When this returns the sessions have ended, and the journal is complete.
    scene.gatepost.drain(Duration::from_secs(5), std::future::pending()).await;
    let journal = take(journal);
    screen.say("");
    screen.say(&screen.paint(Tone::Heading, "what Gatepost's journal said"));
    for line in journal.iter().filter(|line| [" login ", " refused ", " end "].iter().any(|event| line.contains(event))) {
        screen.say(&fold(line, WIDTH).join("\n"));
    }

    checks.alice(&alice, &alice_saw, imaps, of_east.first(), &journal);
    checks.bob(&bob, &bob_saw, imap, of_west.first(), &journal);
    checks.wrong(&wrong_saw);
    checks.journal(&journal, &[&alice, &bob, &wrong]);
    screen.say("");
    Ok(checks.print(screen))
}
