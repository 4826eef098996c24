//! What the scripted client of `gatepost demo --once` says, and what was seen at both ends meanwhile.
//!
//! A [`Talk`] has a row for each command: what the client said and heard, and beside it what a mail server heard and said until
//! the client had its answer. Servers tell before they answer, so nothing is late.

use super::client::{Answer, Client};
use super::once::{Reports, take};
use super::scene::{ALICE, BOB, NAME, Scene};
use super::screen::{Screen, Tone, side_by_side};
use super::server::{Report, What};
use relay::tls::connector::Connector;
use std::net::SocketAddr;
use wire::encode::base64_encode;
use wire::origin::OriginUpdate;

/// What a liar says, and nobody may believe (RFC 5737 addresses belong to nobody).
pub const FORGED_IP: &str = "192.0.2.66";
/// The session identifier that goes with it.
pub const FORGED_SESSION: &str = "forged";

/// What a script saw.
#[derive(Debug, Default)]
pub struct Said {
    /// The letter that was fetched.
    pub letter: Option<Vec<u8>>,
    /// A command sent together with LOGIN was answered.
    pub pipelined: bool,
    /// A wrong password was refused, without a server having been asked.
    pub refused_first: bool,
}

/// What the script of wrong logins saw.
#[derive(Debug, Default)]
pub struct Wrong {
    /// The server refused, and the client heard that its password is wrong.
    pub by_server: bool,
    /// An unknown user heard the same, and no server was asked.
    pub unknown_alike: bool,
}

/// Where scripts are played.
pub struct Stage<'a> {
    /// What is running.
    pub scene: &'a Scene,
    /// What the servers tell.
    pub reports: &'a Reports,
    /// TLS that trusts the demo's authority.
    pub connector: &'a Connector,
}

impl Stage<'_> {
    /// Signs in over IMAPS, lies about herself before, and reads a letter.
    ///
    /// # Errors
    /// Where the script broke off, here and below: one line.
    pub async fn alice(&self, talk: &mut Talk) -> Result<Said, String> {
        let mut client = self.imaps(talk).await?;
        // Nobody has told Gatepost to trust this client.
        let lie = format!(
            "a1 ID (\"name\" \"demo\" \"x-originating-ip\" \"{FORGED_IP}\" \"x-originating-port\" \"66\" \
             \"x-session-id\" \"{FORGED_SESSION}\" \"x-proxy-ttl\" \"99\")\r\n"
        );
        client.say(&lie).await?;
        let answer = client.answer("a1").await;
        self.row(talk, &mut client);
        expect_ok(answer)?;

        client.say(&format!("a2 LOGIN {} {}\r\na3 NOOP\r\n", ALICE.user, ALICE.password)).await?;
        let login = client.answer("a2").await;
        let noop = match &login {
            Ok(_) => client.answer("a3").await,
            Err(_) => Err("was not waited for".to_owned()),
        };
        self.row(talk, &mut client);
        expect_ok(login)?;
        let pipelined = noop.is_ok_and(|answer| answer.is_ok());

        let letter = self.read_letter(talk, &mut client, ["a4", "a5", "a6"]).await?;
        Ok(Said { letter, pipelined, refused_first: false })
    }

    /// Signs in over STARTTLS at the second try, and reads a letter.
    ///
    /// # Errors
    /// See [`Stage::alice`].
    pub async fn bob(&self, talk: &mut Talk) -> Result<Said, String> {
        let mut client = Client::connect(self.scene.imap).await?;
        talk.client = Some(client.address);
        client.greeting().await?;
        expect_ok(client.ask("b1", "STARTTLS").await)?;
        client.secure(self.connector, NAME).await?;
        self.row(talk, &mut client);

        let refused = client.ask("b2", &format!("LOGIN {} wrong-{}", BOB.user, BOB.password)).await;
        let refused_first = refused.is_ok_and(|answer| is_wrong_password(&answer)) && self.nobody_asked(talk);
        self.row(talk, &mut client);

        let plain = base64_encode(format!("\0{}\0{}", BOB.user, BOB.password).as_bytes());
        let login = client.ask("b3", &format!("AUTHENTICATE PLAIN {}", String::from_utf8_lossy(plain.expose()))).await;
        self.row(talk, &mut client);
        expect_ok(login)?;

        let letter = self.read_letter(talk, &mut client, ["b4", "b5", "b6"]).await?;
        Ok(Said { letter, pipelined: false, refused_first })
    }

    /// A wrong password that only the server can tell, and a user that nobody knows.
    ///
    /// # Errors
    /// See [`Stage::alice`].
    pub async fn wrong(&self, talk: &mut Talk) -> Result<Wrong, String> {
        let mut client = self.imaps(talk).await?;
        let refused = client.ask("c1", &format!("LOGIN {} wrong-{}", ALICE.user, ALICE.password)).await;
        self.row(talk, &mut client);
        let alice = refused?;
        let east = talk.reports.iter().any(|r| matches!(&r.what, What::Refused { user } if user == ALICE.mailbox));

        let before = talk.reports.len();
        let refused = client.ask("c2", &format!("LOGIN carol wrong-{}", ALICE.password)).await;
        self.row(talk, &mut client);
        let carol = refused?;
        let asked = talk.reports.iter().skip(before).any(|r| !matches!(r.what, What::Left));
        let logout = client.ask("c3", "LOGOUT").await;
        self.row(talk, &mut client);
        expect_ok(logout)?;
        Ok(Wrong { by_server: is_wrong_password(&alice) && east, unknown_alike: carol.verdict == alice.verdict && !asked })
    }

    async fn imaps(&self, talk: &mut Talk) -> Result<Client, String> {
        let mut client = Client::connect(self.scene.imaps).await?;
        talk.client = Some(client.address);
        client.secure(self.connector, NAME).await?;
        client.greeting().await?;
        self.row(talk, &mut client);
        Ok(client)
    }

    async fn read_letter(&self, talk: &mut Talk, client: &mut Client, tags: [&str; 3]) -> Result<Option<Vec<u8>>, String> {
        let [select, fetch, logout] = tags;
        let answer = client.ask(select, "SELECT INBOX").await;
        self.row(talk, client);
        expect_ok(answer)?;
        let answer = client.ask(fetch, "UID FETCH 1 BODY.PEEK[]").await;
        self.row(talk, client);
        let letter = expect_ok(answer)?.literal().map(<[u8]>::to_vec);
        let answer = client.ask(logout, "LOGOUT").await;
        self.row(talk, client);
        expect_ok(answer)?;
        Ok(letter)
    }

    /// Puts what the client has written down beside what the servers have told meanwhile.
    fn row(&self, talk: &mut Talk, client: &mut Client) {
        let new = take(self.reports);
        let right = new.iter().filter_map(shown).collect();
        talk.rows.push((client.take_written(), right));
        talk.reports.extend(new);
    }

    /// Whether no server has heard of the client since the last row (an earlier client's connection may have ended).
    fn nobody_asked(&self, talk: &mut Talk) -> bool {
        let new = take(self.reports);
        let nobody = new.iter().all(|report| matches!(report.what, What::Left));
        talk.reports.extend(new);
        nobody
    }
}

/// Both sides of a conversation.
#[derive(Debug, Default)]
pub struct Talk {
    /// The client's own address.
    pub client: Option<SocketAddr>,
    /// Lines of the client, and lines of a server beside them.
    pub rows: Vec<(Vec<String>, Vec<String>)>,
    /// All that servers told.
    pub reports: Vec<Report>,
}

impl Talk {
    /// Prints both sides.
    pub fn print(&self, screen: Screen, title: &str, server: &str) {
        screen.say("");
        screen.say(&screen.paint(Tone::Heading, title));
        let head = side_by_side(&["client > gatepost".to_owned()], &[format!("gatepost > {server}")]).join("\n");
        screen.say(&screen.paint(Tone::Heading, &head));
        for (left, right) in &self.rows {
            screen.say(&side_by_side(left, right).join("\n"));
        }
    }

    /// What a server was told of the caller, first.
    pub fn told(&self) -> Option<&OriginUpdate> {
        self.reports.iter().find_map(|report| if let What::Told { who, .. } = &report.what { Some(&**who) } else { None })
    }

    /// The first login: whose mailbox, the master user, the command.
    pub fn login(&self) -> Option<(&str, Option<&str>, &str)> {
        self.reports.iter().find_map(|report| match &report.what {
            What::Login { user, master, by, .. } => Some((user.as_str(), master.as_deref(), *by)),
            _ => None,
        })
    }

    /// The lines that servers heard.
    pub fn heard(&self) -> impl Iterator<Item = &str> {
        self.reports.iter().filter_map(|report| if let What::Heard(line) = &report.what { Some(line.as_str()) } else { None })
    }
}

fn expect_ok(answer: Result<Answer, String>) -> Result<Answer, String> {
    let answer = answer?;
    if answer.is_ok() { Ok(answer) } else { Err(format!("OK was expected, not {:?}", answer.verdict)) }
}

fn is_wrong_password(answer: &Answer) -> bool {
    answer.verdict.starts_with("NO [AUTHENTICATIONFAILED] ")
}

fn shown(report: &Report) -> Option<String> {
    match &report.what {
        What::Connected => Some(format!("(from {}: Gatepost)", report.from)),
        What::Secured(tls) => Some(format!("({tls})")),
        What::Heard(line) => Some(format!("> {line}")),
        What::Answered(line) => Some(format!("< {line}")),
        What::Told { .. } | What::Login { .. } | What::Refused { .. } | What::Left => None,
    }
}
