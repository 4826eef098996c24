//! One connection of the backend for delivery: a line, what it means, what goes wrong there, a reply.

use std::sync::Arc;

use super::record::{Ending, LmtpSession, LmtpTransaction};
use super::wire::{Dot, Wire, undotted};
use super::{At, Does, Flavour, Lmtp, answer_for};
use crate::peer::{Conn, ProxyHeader};

/// What a session needs of whoever runs it.
pub(super) trait House {
    /// How to behave now.
    fn behaviour(&self) -> Arc<Lmtp>;

    /// Changes what is noted of this connection.
    fn note(&self, change: &mut dyn FnMut(&mut LmtpSession));
}

/// Where a session stands.
pub(super) struct Session<'a, H> {
    house: &'a H,
    conn: &'a mut Conn,
    wire: Wire,
    tls: bool,
    hello: Option<String>,
    xclients: Vec<String>,
    xforwards: Vec<String>,
    mail: Option<Mail>,
    /// Something had come when the last reply was said.
    ahead: bool,
}

/// A transaction, from MAIL on.
#[derive(Debug, Default)]
struct Mail {
    rcpts: usize,
    accepted: Vec<String>,
    chunks: usize,
    size: usize,
    /// What goes wrong in the message did.
    troubled: bool,
}

/// `Err` ends the session.
type Step<T = ()> = Result<T, Ending>;

impl<'a, H: House> Session<'a, H> {
    pub(super) fn new(house: &'a H, conn: &'a mut Conn) -> Session<'a, H> {
        Session {
            house,
            conn,
            wire: Wire::default(),
            tls: false,
            hello: None,
            xclients: Vec::new(),
            xforwards: Vec::new(),
            mail: None,
            ahead: false,
        }
    }

    /// All of it.
    #[track_caller]
    pub(super) fn run(mut self) -> Ending {
        let mut step = self.begin();
        loop {
            match step {
                Ok(()) => step = self.command(),
                Err(ending) => return ending,
            }
        }
    }

    #[track_caller]
    fn begin(&mut self) -> Step {
        let lmtp = self.house.behaviour();
        if lmtp.header {
            let header = ProxyHeader::read(self.conn).ok_or(Ending::Gone)?;
            self.house.note(&mut |seen| seen.header = Some(header.clone()));
        }
        if lmtp.implicit {
            self.begin_tls(&lmtp)?;
        }
        self.reply(At::Connect, &lmtp.greeting)?;
        self.trouble(At::Greeted).map(drop)
    }

    #[track_caller]
    fn command(&mut self) -> Step {
        let line = self.wire.line(self.conn).ok_or(Ending::Gone)?;
        let lmtp = self.house.behaviour();
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let (text, crlf) = text.strip_suffix(b"\r").map_or((text, false), |text| (text, true));
        let text = String::from_utf8_lossy(text).into_owned();
        let ahead = std::mem::take(&mut self.ahead);
        self.house.note(&mut |seen| {
            seen.lines.push(text.clone());
            if ahead {
                seen.ahead.push(text.clone());
            }
        });
        if !crlf && !lmtp.lenient {
            return self.say("500 5.5.2 A line ends with CRLF");
        }
        let (name, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match name.to_ascii_uppercase().as_str() {
            "LHLO" if lmtp.flavour == Flavour::Lmtp => self.hello(&lmtp, &text),
            "EHLO" | "HELO" if lmtp.flavour == Flavour::Smtp => self.hello(&lmtp, &text),
            "STARTTLS" if lmtp.tls.is_some() && !self.tls => self.starttls(&lmtp),
            "XCLIENT" => self.xclient(&lmtp, rest),
            "XFORWARD" => self.xforward(&lmtp, rest),
            "MAIL" => self.mail(&lmtp, rest),
            "RCPT" => self.rcpt(&lmtp, rest),
            "DATA" => self.data(&lmtp),
            "BDAT" if lmtp.offers("CHUNKING").is_some() => self.bdat(&lmtp, rest),
            "RSET" => {
                self.mail = None;
                self.xforwards.clear();
                self.reply(At::Rset, "250 2.0.0 OK").map(drop)
            }
            "NOOP" => self.say("250 2.0.0 OK"),
            "QUIT" => {
                self.reply(At::Quit, "221 2.0.0 Bye")?;
                Err(Ending::Quit)
            }
            _ => self.say("500 5.5.1 Not here"),
        }
    }

    fn hello(&mut self, lmtp: &Lmtp, line: &str) -> Step {
        self.mail = None;
        self.xforwards.clear();
        let short = line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("HELO"));
        let starttls = (lmtp.tls.is_some() && !self.tls).then_some("STARTTLS");
        let mut lines = vec!["fake.test"];
        if !short {
            lines.extend(lmtp.capabilities.lines().filter(|line| !line.is_empty()).chain(starttls));
        }
        let last = lines.pop().unwrap_or_default();
        let text = lines.iter().map(|line| format!("250-{line}\n")).collect::<String>() + &format!("250 {last}");
        if self.reply(At::Hello, &text)? {
            self.hello = Some(line.to_owned());
        }
        Ok(())
    }

    #[track_caller]
    fn starttls(&mut self, lmtp: &Lmtp) -> Step {
        if self.reply(At::StartTls, "220 2.0.0 Ready to start TLS")? {
            if self.wire.has_more() {
                self.conn.fail("the client sent clear text in front of its handshake");
            }
            self.begin_tls(lmtp)?;
            (self.hello, self.mail) = (None, None);
            self.xforwards.clear();
        }
        Ok(())
    }

    #[track_caller]
    fn begin_tls(&mut self, lmtp: &Lmtp) -> Step {
        let Some(tls) = &lmtp.tls else { self.conn.fail("TLS needs a certificate") };
        // A client that does not like the certificate leaves, and it may.
        self.conn.try_accept_tls(tls).map_err(|_| Ending::Gone)?;
        self.tls = true;
        self.house.note(&mut |seen| seen.tls = true);
        Ok(())
    }

    fn xclient(&mut self, lmtp: &Lmtp, attributes: &str) -> Step {
        let answer = match lmtp.offers("XCLIENT") {
            None => "550 5.7.0 Error: insufficient authorization",
            Some(_) if self.mail.is_some() => "503 5.5.1 Error: MAIL transaction in progress",
            Some(_) => &lmtp.greeting,
        };
        if self.reply(At::Xclient, answer)? {
            self.xclients.push(attributes.to_owned());
            self.xforwards.clear();
            self.hello = None;
        }
        Ok(())
    }

    fn xforward(&mut self, lmtp: &Lmtp, attributes: &str) -> Step {
        let offered: Option<Vec<&str>> = lmtp.offers("XFORWARD").map(|names| names.split(' ').collect());
        let known = |word: &str| {
            let name = word.split_once('=').map_or("", |(name, _)| name);
            offered.as_ref().is_some_and(|names| names.iter().any(|n| n.eq_ignore_ascii_case(name)))
        };
        let answer = if offered.is_none() {
            "550 5.7.0 Error: insufficient authorization"
        } else if self.mail.is_some() {
            "503 5.5.1 Error: MAIL transaction in progress"
        } else if !attributes.split(' ').all(known) {
            "501 5.5.4 Bad XFORWARD attribute name"
        } else {
            "250 2.0.0 Ok"
        };
        if self.reply(At::Xforward, answer)? {
            self.xforwards.push(attributes.to_owned());
        }
        Ok(())
    }

    fn mail(&mut self, lmtp: &Lmtp, rest: &str) -> Step {
        let (path, parameters) = path_and_parameters(rest);
        let too_large = || {
            let limit: usize = lmtp.offers("SIZE")?.parse().ok()?;
            let size: usize = parameters.iter().find_map(|p| p.strip_prefix("SIZE="))?.parse().ok()?;
            Some(size > limit)
        };
        let answer = if self.hello.is_none() {
            "503 5.5.1 Say hello first"
        } else if self.mail.is_some() {
            "503 5.5.1 Nested MAIL"
        } else if parameters.iter().any(|p| !allowed_at_mail(lmtp, p)) {
            "555 5.5.4 Unsupported option"
        } else if too_large() == Some(true) {
            "552 5.3.4 Message too large"
        } else {
            &lmtp.at_mail
        };
        if self.reply(At::Mail, answer)? {
            self.mail = Some(Mail::default());
            let transaction = LmtpTransaction {
                hello: self.hello.clone().unwrap_or_default(),
                tls: self.tls,
                xclients: self.xclients.clone(),
                xforwards: std::mem::take(&mut self.xforwards),
                mail: path,
                ..LmtpTransaction::default()
            };
            self.house.note(&mut |seen| seen.transactions.push(transaction.clone()));
        }
        Ok(())
    }

    fn rcpt(&mut self, lmtp: &Lmtp, rest: &str) -> Step {
        let Some(mail) = &mut self.mail else { return self.say("503 5.5.1 MAIL first") };
        mail.rcpts += 1;
        let at = At::Rcpt(mail.rcpts);
        let (path, parameters) = path_and_parameters(rest);
        self.note_mail(|mail| mail.rcpts.push(path.clone()));
        let answer = match answer_for(&lmtp.at_rcpt, &path) {
            Some(answer) => answer,
            None if parameters.iter().any(|p| !allowed_at_rcpt(lmtp, p)) => "555 5.5.4 Unsupported option",
            None => "250 2.1.5 OK",
        };
        if self.reply(at, answer)? {
            if let Some(mail) = &mut self.mail {
                mail.accepted.push(path.clone());
            }
            self.note_mail(|mail| mail.accepted.push(path.clone()));
        }
        Ok(())
    }

    fn data(&mut self, lmtp: &Lmtp) -> Step {
        let answer = match &self.mail {
            Some(mail) if !mail.accepted.is_empty() && mail.chunks == 0 => "354 Go ahead",
            _ => "503 5.5.1 RCPT first",
        };
        if !self.reply(At::Data, answer)? {
            return Ok(());
        }
        if std::mem::take(&mut self.ahead) {
            self.house.note(&mut |seen| seen.ahead.push("(data)".to_owned()));
        }
        let mut dot = Dot::new(lmtp.lenient);
        self.trouble_in_data(0)?;
        loop {
            let line = self.wire.line(self.conn).ok_or(Ending::Gone)?;
            let end = dot.found(&line);
            let (line, behind) = line.split_at(end.unwrap_or(line.len()));
            self.wire.take_back(behind);
            self.keep(lmtp, line);
            if end.is_some() {
                break;
            }
            self.trouble_in_data(line.len())?;
        }
        self.complete(lmtp, |raw| undotted(raw, lmtp.lenient))
    }

    fn bdat(&mut self, lmtp: &Lmtp, rest: &str) -> Step {
        let (size, last) = rest.split_once(' ').map_or((rest, ""), |(size, last)| (size, last));
        let (Ok(size), true) = (size.parse::<usize>(), last.is_empty() || last.eq_ignore_ascii_case("LAST")) else {
            return self.say("501 5.5.4 BDAT size [LAST]");
        };
        let last = !last.is_empty();
        if last {
            self.trouble(At::LastChunk)?;
        }
        let good = self.mail.as_ref().is_some_and(|mail| !mail.accepted.is_empty());
        if good {
            self.note_mail(|mail| mail.chunks.push(size));
            self.trouble_in_data(0)?;
        }
        let mut left = size;
        while left > 0 {
            let octets = self.wire.octets(self.conn, left).ok_or(Ending::Gone)?;
            left -= octets.len();
            if good {
                self.keep(lmtp, &octets);
                self.trouble_in_data(octets.len())?;
            }
        }
        let Some(mail) = self.mail.as_mut().filter(|_| good) else { return self.say("503 5.5.1 RCPT first") };
        mail.chunks += 1;
        let at = At::Chunk(mail.chunks);
        if !last {
            return self.reply(at, &format!("250 2.0.0 {size} octets")).map(drop);
        }
        self.complete(lmtp, <[u8]>::to_vec)
    }

    /// Notes some more of the message.
    fn keep(&self, lmtp: &Lmtp, octets: &[u8]) {
        self.note_mail(|mail| {
            mail.size += octets.len();
            if lmtp.keeps_data {
                mail.raw.extend_from_slice(octets);
            }
        });
    }

    /// The message is there: what comes behind it.
    fn complete(&mut self, lmtp: &Lmtp, message_in: impl Fn(&[u8]) -> Vec<u8>) -> Step {
        let Some(mail) = self.mail.take() else { return Ok(()) };
        self.note_mail(|mail| mail.message = Some(message_in(&mail.raw)));
        self.trouble(At::Dot)?;
        let limit = lmtp.offers("SIZE").and_then(|size| size.parse().ok());
        let usual = |recipient: &str| match limit {
            Some(limit) if mail.size > limit => "552 5.3.4 Message too large".to_owned(),
            _ => answer_for(&lmtp.after_data, recipient)
                .map_or_else(|| format!("250 2.0.0 {} Saved", word(recipient)), str::to_owned),
        };
        let finals: Vec<(String, Vec<String>)> = match lmtp.flavour {
            Flavour::Lmtp => mail.accepted.iter().map(|r| (usual(r), vec![r.clone()])).collect(),
            Flavour::Smtp => {
                let no = mail.accepted.iter().map(|r| usual(r)).find(|answer| !answer.starts_with('2'));
                vec![(no.unwrap_or_else(|| "250 2.0.0 Ok: queued".to_owned()), mail.accepted.clone())]
            }
        };
        let behind = finals.len() + 1;
        for (number, (answer, recipients)) in finals.into_iter().enumerate() {
            let told = self.trouble(At::Final(number + 1))?;
            if told.is_none() {
                self.say(&answer)?;
            }
            let said = told.unwrap_or(answer);
            self.note_mail(|mail| {
                if is_yes(&said) {
                    mail.taken.extend_from_slice(&recipients);
                }
                mail.finals.push(said.clone());
            });
        }
        self.trouble(At::Final(behind)).map(drop)
    }

    /// Changes what is noted of the last transaction.
    fn note_mail(&self, mut change: impl FnMut(&mut LmtpTransaction)) {
        self.house.note(&mut |seen| seen.transactions.last_mut().into_iter().for_each(&mut change));
    }

    /// What goes wrong when so many more octets of the message have come.
    fn trouble_in_data(&mut self, more: usize) -> Step {
        let Some(mail) = &mut self.mail else { return Ok(()) };
        mail.size += more;
        let size = mail.size;
        let lmtp = self.house.behaviour();
        let due = lmtp.troubles.iter().find_map(|(at, _)| match at {
            At::InData(n) if *n <= size => Some(*at),
            _ => None,
        });
        match due {
            Some(at) if !mail.troubled => {
                mail.troubled = true;
                self.trouble(at).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The usual reply, or what goes wrong in its place; whether it was a yes.
    fn reply(&mut self, at: At, usual: &str) -> Step<bool> {
        if let Some(told) = self.trouble(at)? {
            self.ahead = self.wire.has_more();
            return Ok(is_yes(&told));
        }
        self.say(usual)?;
        Ok(is_yes(usual))
    }

    /// What goes wrong here, if anything does; what was said first, if anything was.
    fn trouble(&mut self, at: At) -> Step<Option<String>> {
        let lmtp = self.house.behaviour();
        let mut said = None;
        for (_, does) in lmtp.troubles.iter().filter(|(place, _)| *place == at) {
            match does {
                Does::Close => return Err(Ending::Closed),
                Does::Reset => return Err(Ending::Reset),
                Does::Hang => {
                    self.conn.hang();
                    return Err(Ending::Gone);
                }
                Does::Say(text) => {
                    said.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
                    self.conn.try_send(text).map_err(|_| Ending::Gone)?;
                }
                Does::SayForEver(text) => loop {
                    // In large pieces: there is much to say.
                    self.conn.try_send(text.repeat(1 + 8192 / text.len().max(1))).map_err(|_| Ending::Gone)?;
                },
                Does::Wait(signal) => self.conn.wait(signal),
            }
        }
        Ok(said)
    }

    /// Says a reply of one or more lines.
    fn say(&mut self, text: &str) -> Step {
        let end = self.house.behaviour().line_end;
        let text: String = text.lines().map(|line| format!("{line}{end}")).collect();
        self.ahead = self.wire.has_more();
        self.conn.try_send(text).map_err(|_| Ending::Gone)
    }
}

fn is_yes(reply: &str) -> bool {
    reply.starts_with(['2', '3'])
}

/// What stands behind the colon of MAIL and RCPT, and its parameters in capitals.
fn path_and_parameters(rest: &str) -> (String, Vec<String>) {
    let path = rest.split_once(':').map_or(rest, |(_, path)| path).trim_start();
    let behind = path.rsplit_once('>').map_or("", |(_, behind)| behind);
    (path.to_owned(), behind.split_ascii_whitespace().map(str::to_ascii_uppercase).collect())
}

fn allowed_at_mail(lmtp: &Lmtp, parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let needed = match (name, value) {
        ("SIZE", _) => "SIZE",
        ("BODY", "7BIT" | "8BITMIME") => "8BITMIME",
        ("BODY", "BINARYMIME") => "BINARYMIME",
        ("SMTPUTF8", "") => "SMTPUTF8",
        ("RET" | "ENVID", _) => "DSN",
        ("AUTH", _) => "AUTH",
        _ => return false,
    };
    lmtp.offers(needed).is_some()
}

fn allowed_at_rcpt(lmtp: &Lmtp, parameter: &str) -> bool {
    let needed = match parameter.split_once('=').map_or(parameter, |(name, _)| name) {
        "NOTIFY" | "ORCPT" => "DSN",
        "XRCPTFORWARD" => "XRCPTFORWARD",
        _ => return false,
    };
    lmtp.offers(needed).is_some()
}

/// The address of a recipient without its parameters.
fn word(recipient: &str) -> &str {
    recipient.find('>').and_then(|at| recipient.get(..=at)).unwrap_or(recipient)
}
