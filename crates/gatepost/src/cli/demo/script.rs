//! What the scripted client of `gatepost demo --once` says, and what was seen at both ends meanwhile.
//!
//! A [`Talk`] has a row for each command: what the client said and heard, and beside it what a mail server heard and said until
//! the client had its answer. Servers tell before they answer, so nothing is late.

use super::client::Client;
use super::guest::Took;
use super::once::{Reports, take};
use super::scene::{ALICE, BOB, DAVE, Doors, ERIN, NAME};
use super::screen::{Screen, Tone, side_by_side};
use super::server::{Report, What};
use super::speech::{Answer, Errand, plain_response};
use relay::tls::connector::Connector;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use wire::origin::{Origin, OriginUpdate, SessionId};

/// What a liar says, and nobody may believe (RFC 5737 addresses belong to nobody).
pub const FORGED_IP: &str = "192.0.2.66";
/// The session identifier that goes with it.
pub const FORGED_SESSION: &str = "forged";
/// Who calls by way of a balancer.
pub const BEHIND: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 42_424));
/// What was reached there.
pub const REACHED_THERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 25), 4_242));

/// What a script saw.
#[derive(Debug, Default)]
pub struct Said {
    /// What the errand was about, as it arrived.
    pub arrived: Option<Vec<u8>>,
    /// A command sent together with the login was answered.
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

/// What the script of the dead server saw.
#[derive(Debug, Default)]
pub struct Dead {
    /// The client heard "try later", and nothing of its password.
    pub later: bool,
}

/// What the script of the balancer saw.
#[derive(Debug, Default)]
pub struct Behind {
    /// Somebody who sent no header was not served.
    pub left_without: bool,
}

/// Where scripts are played.
pub struct Stage<'a> {
    /// What is spoken, and where.
    pub doors: &'a Doors,
    /// What the servers tell.
    pub reports: &'a Reports,
    /// TLS that trusts the demo's authority.
    pub connector: &'a Connector,
    /// What alice and bob sign in for.
    pub errands: &'a [Errand; 2],
}

impl Stage<'_> {
    /// Signs in with TLS from the first byte where there is such a port, lies about herself before, and does her errand.
    ///
    /// # Errors
    /// Where the script broke off, here and below: one line.
    pub async fn alice(&self, talk: &mut Talk) -> Result<Said, String> {
        let speech = self.doors.speech;
        let mut client = self.enter('a', talk).await?;
        // Nobody has told Gatepost to trust this client.
        let answer = client.ask(&speech.lie(FORGED_IP, FORGED_SESSION)).await;
        self.row(talk, &mut client);
        let (heard, stranger) = (answer?.verdict, speech.verdicts().stranger);
        if !heard.starts_with(stranger) {
            return Err(format!("{stranger} was expected, not {heard:?}"));
        }

        let mut commands = speech.login(ALICE.user, ALICE.password);
        let login = commands.len();
        commands.push("NOOP".to_owned());
        client.say(&commands).await?;
        let login = self.last_answer(&mut client, login).await;
        let noop = match &login {
            Ok(_) => client.answer().await,
            Err(_) => Err("was not waited for".to_owned()),
        };
        self.row(talk, &mut client);
        self.expect_ok(login)?;
        let pipelined = self.expect_ok(noop).is_ok();

        let [errand, _] = self.errands;
        let arrived = self.run(errand, talk, &mut client).await?;
        Ok(Said { arrived, pipelined, refused_first: false })
    }

    /// Signs in over STARTTLS at the second try, and does his errand.
    ///
    /// # Errors
    /// See [`Stage::alice`].
    pub async fn bob(&self, talk: &mut Talk) -> Result<Said, String> {
        let speech = self.doors.speech;
        let mut client = Client::connect(speech, 'b', self.doors.clear).await?;
        talk.client = Some(client.address);
        self.open(&mut client, false).await?;
        self.row(talk, &mut client);

        let refused = self.sign_in(&mut client, BOB.user, &format!("wrong-{}", BOB.password)).await;
        let refused_first = refused.is_ok_and(|answer| self.is_wrong_password(&answer)) && self.nobody_asked(talk);
        self.row(talk, &mut client);

        let login = client.ask(&speech.plain(&plain_response(BOB.user, BOB.password))).await;
        self.row(talk, &mut client);
        self.expect_ok(login)?;

        let [_, errand] = self.errands;
        let arrived = self.run(errand, talk, &mut client).await?;
        Ok(Said { arrived, pipelined: false, refused_first })
    }

    /// A wrong password that only the server can tell, and a user that nobody knows.
    ///
    /// # Errors
    /// See [`Stage::alice`].
    pub async fn wrong(&self, talk: &mut Talk) -> Result<Wrong, String> {
        let mut client = self.enter('c', talk).await?;
        let wrong = format!("wrong-{}", ALICE.password);
        let refused = self.sign_in(&mut client, ALICE.user, &wrong).await;
        self.row(talk, &mut client);
        let alice = refused?;
        let east = talk.reports.iter().any(|r| matches!(&r.what, What::Refused { user } if user == ALICE.mailbox));

        let before = talk.reports.len();
        let refused = self.sign_in(&mut client, "carol", &wrong).await;
        self.row(talk, &mut client);
        let carol = refused?;
        let asked = talk.reports.iter().skip(before).any(|r| !matches!(r.what, What::Left));
        self.quit(talk, &mut client).await?;
        let by_server = self.is_wrong_password(&alice) && east;
        Ok(Wrong { by_server, unknown_alike: carol.verdict == alice.verdict && !asked })
    }

    /// The right password of somebody whose server is down.
    ///
    /// # Errors
    /// See [`Stage::alice`].
    pub async fn dead(&self, talk: &mut Talk) -> Result<Dead, String> {
        let mut client = self.enter('d', talk).await?;
        let refused = self.sign_in(&mut client, DAVE.user, DAVE.password).await;
        self.row(talk, &mut client);
        let later = refused?.verdict.starts_with(self.doors.speech.verdicts().later);
        self.quit(talk, &mut client).await?;
        Ok(Dead { later })
    }

    /// Alice again, this time as a balancer tells of her; and somebody who comes to that port without a header.
    ///
    /// # Errors
    /// See [`Stage::alice`].
    pub async fn behind(&self, talk: &mut Talk) -> Result<Behind, String> {
        let mut client = Client::connect(self.doors.speech, 'e', self.doors.behind).await?;
        talk.client = Some(BEHIND);
        let session = SessionId::new("balancer-1").ok_or("that is no session identifier")?;
        let mut origin = Origin::at_accept(BEHIND, REACHED_THERE, session);
        // This balancer passes TLS on and does not look inside.
        origin.transport = None;
        client.speak_for(&origin).await?;
        self.open(&mut client, self.doors.implicit.is_some()).await?;
        self.row(talk, &mut client);
        let login = self.sign_in(&mut client, ALICE.user, ALICE.password).await;
        self.row(talk, &mut client);
        self.expect_ok(login)?;
        self.quit(talk, &mut client).await?;

        let mut stranger = Client::connect(self.doors.speech, 'f', self.doors.behind).await?;
        let left_without = match self.doors.implicit {
            Some(_) => stranger.secure(self.connector, NAME).await.is_err(),
            None => {
                stranger.say(&[self.doors.speech.quit()]).await?;
                stranger.greeting().await.is_err()
            }
        };
        self.row(talk, &mut stranger);
        Ok(Behind { left_without })
    }

    /// Signs in at the second try where the server is told who she is and no password, and does her errand.
    ///
    /// # Errors
    /// See [`Stage::alice`].
    pub async fn erin(&self, talk: &mut Talk) -> Result<Said, String> {
        let mut client = self.enter('g', talk).await?;
        let refused = self.sign_in(&mut client, ERIN.user, &format!("wrong-{}", ERIN.password)).await;
        let refused_first = refused.is_ok_and(|answer| self.is_wrong_password(&answer)) && self.nobody_asked(talk);
        self.row(talk, &mut client);
        let login = self.sign_in(&mut client, ERIN.user, ERIN.password).await;
        self.row(talk, &mut client);
        self.expect_ok(login)?;
        let arrived = self.run(&self.doors.speech.errand(&ERIN, &[]), talk, &mut client).await?;
        Ok(Said { arrived, pipelined: false, refused_first })
    }

    /// Connects where TLS begins as early as it can, up to where a login may be said.
    async fn enter(&self, letter: char, talk: &mut Talk) -> Result<Client, String> {
        let mut client = Client::connect(self.doors.speech, letter, self.doors.safest()).await?;
        talk.client = Some(client.address);
        self.open(&mut client, self.doors.implicit.is_some()).await?;
        self.row(talk, &mut client);
        Ok(client)
    }

    /// From the connection to where a login may be said, with TLS from the first byte or by a command.
    async fn open(&self, client: &mut Client, implicit: bool) -> Result<(), String> {
        let speech = self.doors.speech;
        if implicit {
            client.secure(self.connector, NAME).await?;
            client.greeting().await?;
        } else {
            client.greeting().await?;
            self.hello(client).await?;
            self.expect_ok(client.ask(speech.starttls()).await)?;
            client.secure(self.connector, NAME).await?;
            if speech.greets_again() {
                client.greeting().await?;
            }
        }
        self.hello(client).await
    }

    async fn hello(&self, client: &mut Client) -> Result<(), String> {
        match self.doors.speech.hello() {
            Some(hello) => self.expect_ok(client.ask(hello).await).map(|_| ()),
            None => Ok(()),
        }
    }

    async fn sign_in(&self, client: &mut Client, user: &str, password: &str) -> Result<Answer, String> {
        let commands = self.doors.speech.login(user, password);
        client.say(&commands).await?;
        self.last_answer(client, commands.len()).await
    }

    async fn last_answer(&self, client: &mut Client, of: usize) -> Result<Answer, String> {
        for _ in 1..of {
            client.answer().await?;
        }
        client.answer().await
    }

    /// Does an errand and takes its leave; what arrived, at the client or at the server.
    async fn run(&self, errand: &Errand, talk: &mut Talk, client: &mut Client) -> Result<Option<Vec<u8>>, String> {
        let mut arrived = None;
        for command in &errand.commands {
            let answer = client.ask(command).await;
            self.row(talk, client);
            arrived = self.expect_ok(answer)?.content;
        }
        self.quit(talk, client).await?;
        Ok(arrived.or_else(|| talk.took().find_map(|took| took.letter().map(<[u8]>::to_vec))))
    }

    async fn quit(&self, talk: &mut Talk, client: &mut Client) -> Result<(), String> {
        let answer = client.ask(self.doors.speech.quit()).await;
        self.row(talk, client);
        self.expect_ok(answer).map(|_| ())
    }

    fn expect_ok(&self, answer: Result<Answer, String>) -> Result<Answer, String> {
        let (answer, verdicts) = (answer?, self.doors.speech.verdicts());
        if verdicts.is_ok(&answer.verdict) {
            return Ok(answer);
        }
        Err(format!("{} was expected, not {:?}", verdicts.ok.join(" or "), answer.verdict))
    }

    fn is_wrong_password(&self, answer: &Answer) -> bool {
        answer.verdict.starts_with(self.doors.speech.verdicts().wrong)
    }

    /// Puts what the client has written down beside what the servers have told meanwhile.
    fn row(&self, talk: &mut Talk, client: &mut Client) {
        talk.row(client, take(self.reports), |_, line| line);
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

    /// One more row: what the client has written down, and what servers have told meanwhile, as `spelled`.
    pub fn row(&mut self, client: &mut Client, new: Vec<Report>, spelled: impl Fn(&Report, String) -> String) {
        let right = new.iter().filter_map(|report| shown(report).map(|line| spelled(report, line))).collect();
        self.rows.push((client.take_written(), right));
        self.reports.extend(new);
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

    /// What servers took in.
    pub fn took(&self) -> impl Iterator<Item = &Took> {
        self.reports.iter().filter_map(|report| if let What::Took(took) = &report.what { Some(took) } else { None })
    }

    /// The lines that servers heard.
    pub fn heard(&self) -> impl Iterator<Item = &str> {
        self.reports.iter().filter_map(|report| if let What::Heard(line) = &report.what { Some(line.as_str()) } else { None })
    }
}

fn shown(report: &Report) -> Option<String> {
    match &report.what {
        What::Connected => Some(format!("(from {}: Gatepost)", report.from)),
        What::Secured(tls) => Some(format!("({tls})")),
        What::Heard(line) => Some(format!("> {line}")),
        What::Answered(line) => Some(format!("< {line}")),
        What::Took(took) => Some(format!("({took})")),
        What::Told { .. } | What::Login { .. } | What::Refused { .. } | What::Left => None,
    }
}
