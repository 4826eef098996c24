//! Letters by LMTP in the demo: one transaction of a mail server that Gatepost was not told to trust, and what must hold of it.
//!
//! Four recipients: one at each server, one whom nobody knows, one whose server is down. The servers' side is in
//! [`server`](super::server); the lines are those of SMTP, so tape and client have [`Submission`]'s.
//!
//! RFC 2033.

use super::checks::{Checks, Played, word};
use super::client::Client;
use super::guest::Took;
use super::invitation::Files;
use super::once::{Reports, take};
use super::scene::{ALICE, BOB, DAVE, DEPARTMENT, NAME, Person};
use super::script::{FORGED_IP, Talk};
use super::server::What;
use super::speech::{Answer, Speech};
use super::submission::{LETTER, Submission};
use std::net::SocketAddr;

/// Where letters are taken.
pub struct Places {
    /// Gatepost.
    pub gatepost: SocketAddr,
    /// East.
    pub east: SocketAddr,
    /// West.
    pub west: SocketAddr,
}

/// What the scripted mail server calls itself.
const HELO: &str = "mx.example";
/// Whom it writes for.
const FROM: &str = "friend@elsewhere.example";
/// Whom nobody knows.
const NOBODY: &str = "carol@example.com";

/// What the mail server heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// When it said whose letter it is.
    stranger: String,
    /// At each RCPT.
    recipients: Vec<String>,
    /// Behind the letter.
    finals: Vec<String>,
}

/// Where it is spoken, for the invitation.
pub fn places(at: &Places) -> String {
    let line = |who: &str, at: SocketAddr| format!("  {who:<10} {:<35} {at}", "LMTP");
    [line("Gatepost", at.gatepost), line("east", at.east), line("west", at.west)].join("\n")
}

/// A line to paste into a shell.
pub fn paste(at: &Places, files: &Files) -> String {
    format!(
        "swaks --protocol LMTP --server {} --helo {HELO} --from {FROM} \\\n  --to {},{},{},{NOBODY} --data @{}",
        at.gatepost, ALICE.user, BOB.user, DAVE.user, files.letter
    )
}

/// Plays it.
///
/// # Errors
/// Where it broke off: one line.
pub async fn play(at: &Places, reports: &Reports, talk: &mut Talk) -> Result<Heard, String> {
    // What earlier clients have left behind belongs to none of these rows.
    take(reports);
    let row = |talk: &mut Talk, client: &mut Client| {
        let mut new = take(reports);
        // They work at the same time; to be read, one stands behind the other.
        new.sort_by_key(|report| report.server);
        talk.row(client, new, |report, line| format!("{} {line}", report.server));
    };
    let mut client = Client::connect(&Submission, 'm', at.gatepost).await?;
    talk.client = Some(client.address);
    client.greeting().await?;
    let hello = client.ask(&format!("LHLO {HELO}")).await;
    row(talk, &mut client);
    expect_ok(hello)?;
    let stranger = client.ask(&format!("XFORWARD ADDR={FORGED_IP}")).await;
    row(talk, &mut client);
    let mut heard = Heard { stranger: stranger?.verdict, ..Heard::default() };

    let to = [ALICE.user, BOB.user, NOBODY, DAVE.user].map(|to| format!("RCPT TO:<{to}>"));
    client.say(&[&[format!("MAIL FROM:<{FROM}>")][..], &to].concat()).await?;
    let mail = client.answer().await;
    for _ in &to {
        heard.recipients.push(client.answer().await?.verdict);
    }
    row(talk, &mut client);
    expect_ok(mail)?;
    let data = client.ask("DATA").await;
    row(talk, &mut client);
    expect_ok(data)?;

    client.say(&[Submission.letter()]).await?;
    heard.finals.push(client.answer().await?.verdict);
    for _ in heard.recipients.iter().filter(|verdict| verdict.starts_with('2')).skip(1) {
        heard.finals.push(client.one_more().await?.verdict);
    }
    row(talk, &mut client);
    let quit = client.ask(Submission.quit()).await;
    row(talk, &mut client);
    expect_ok(quit)?;
    Ok(heard)
}

fn expect_ok(answer: Result<Answer, String>) -> Result<(), String> {
    let verdict = answer?.verdict;
    if Submission.verdicts().is_ok(&verdict) { Ok(()) } else { Err(format!("a yes was expected, not {verdict:?}")) }
}

/// What must hold of it.
pub fn check(checks: &mut Checks, (talk, outcome): &Played<Heard>, journal: &[String]) {
    checks.about("LMTP");
    let unheard = Heard::default();
    let heard = checks.script("one letter for four recipients: every command was answered", outcome).unwrap_or(&unheard);
    let begins = |answers: &[String], n: usize, with: &str| answers.get(n).is_some_and(|answer| answer.starts_with(with));
    let from = |n: usize, server: &str| heard.finals.get(n).is_some_and(|answer| answer.contains(server));
    checks.that(heard.stranger.starts_with("550 5.7.0"), "a mail server that is not trusted may not say for whom it speaks");
    let taken = begins(&heard.recipients, 0, "250 2.1.5") && begins(&heard.recipients, 1, "250 2.1.5");
    checks.that(taken, "alice and bob: taken, each by the own server");
    checks.that(begins(&heard.recipients, 2, "550 5.1.1"), "carol, whom nobody knows: 550 5.1.1");
    checks
        .that(begins(&heard.recipients, 3, "451 4.3.0"), "dave, whose server is down: 451 4.3.0, and the others are not held up");
    let both = heard.finals.len() == 2 && heard.finals.iter().all(|answer| answer.starts_with("250 2.0.0"));
    let in_order = both && from(0, ALICE.server) && from(1, BOB.server);
    checks.that(in_order, "behind the letter: east's answer for alice, then west's for bob, and no other");
    for person in [&ALICE, &BOB] {
        arrived(checks, person, talk);
    }
    let department = heard_by(talk, BOB.server).any(|line| line.starts_with("RCPT ") && line.contains(DEPARTMENT));
    checks.that(department, "bob: west was told forward_department from his row, with him as recipient");
    for (to, event) in [(ALICE.user, "delivered"), (BOB.user, "delivered"), (NOBODY, "rejected"), (DAVE.user, "deferred")] {
        let of = |line: &&String| word(line, "protocol") == Some("lmtp") && word(line, "to") == Some(to);
        let lines: Vec<&String> = journal.iter().filter(of).filter(|line| word(line, "took").is_some()).collect();
        let one = matches!(lines.as_slice(), [line] if line.contains(&format!(" {event} ")));
        checks.that(one, &format!("{to}: the journal has one line, {event}"));
    }
}

/// The letter is where it should be, once, and its server knows who sent it.
fn arrived(checks: &mut Checks, person: &Person, talk: &Talk) {
    let Person { server, mailbox, .. } = person;
    let of_server = || talk.reports.iter().filter(|report| report.server == *server).map(|report| &report.what);
    let letters: Vec<_> =
        of_server().filter_map(|what| if let What::Took(Took::Letter(letter)) = what { Some(letter) } else { None }).collect();
    let only = if let [letter] = letters.as_slice() { Some(letter) } else { None };
    let envelope = only.is_some_and(|letter| letter.from == FROM && letter.to == [*mailbox]);
    checks.that(envelope, &format!("{mailbox}: {server} has one letter, for nobody else"));
    let text = only.map(|letter| String::from_utf8_lossy(&letter.octets).into_owned()).unwrap_or_default();
    let head = text.strip_suffix(LETTER);
    checks.that(head.is_some(), &format!("{mailbox}: the letter arrived at {server} octet by octet"));
    let head = head.unwrap_or_default();
    let ours = head.starts_with(&format!("Received: from {HELO} ")) && head.contains(&format!("by {NAME} with LMTP id "));
    let ours = ours && text.matches("Received:").count() == 1;
    checks.that(ours, &format!("{mailbox}: Gatepost has written one Received field, and the letter had none before"));
    let client = talk.client.map_or_else(|| "a client".to_owned(), |client| client.to_string());
    let told = of_server().find_map(|what| if let What::Told { who, .. } = what { Some(who) } else { None });
    let address = told.and_then(|who| who.client_ip.zip(who.client_port)).map(|told| SocketAddr::from(told).to_string());
    checks.equal(&format!("{mailbox}: {server} was told the mail server's own address and port"), &client, address);
    let forwarded = heard_by(talk, server)
        .any(|line| line.starts_with("XFORWARD ") && word(line, "ADDR") == Some("127.0.0.1") && word(line, "HELO") == Some(HELO));
    checks.that(forwarded, &format!("{mailbox}: and by XFORWARD whose letter it is"));
}

fn heard_by<'a>(talk: &'a Talk, server: &'a str) -> impl Iterator<Item = &'a str> {
    talk.reports
        .iter()
        .filter(move |report| report.server == server)
        .filter_map(|report| if let What::Heard(line) = &report.what { Some(line.as_str()) } else { None })
}

#[cfg(test)]
#[path = "lmtp_tests.rs"]
mod tests;
