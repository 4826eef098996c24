//! The demo's mail servers as they take letters by LMTP: `wire`'s own front, and for those who live here a yes.
//!
//! A letter is told when it is whole ([`What::Took`]), and not kept. Bounds: [`RECIPIENTS_MAX`], [`LETTER_MAX`], the caps of the
//! front, and [`IDLE_TIMEOUT`].

use super::super::guest::Sent;
use super::super::submission::Submission;
use super::{Bound, IDLE_TIMEOUT, MailServer, Spoken, Took, Visit, What};
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use tokio::time::Instant;
use wire::envelope::{Rcpt, Verdict};
use wire::login::Terms;
use wire::machine::Step;
use wire::smtp::message::front::{Event, Front};
use wire::smtp::message::{BareNewline, Caps};

const RECIPIENTS_MAX: usize = 10;
/// The longest letter, in octets.
const LETTER_MAX: u64 = 256 * 1024;

const CAPS: Caps = Caps {
    line: 2000,
    bad_commands: 20,
    idle_commands: 100,
    recipients: RECIPIENTS_MAX,
    size: LETTER_MAX,
    bare_newline: BareNewline::Reject,
    soft_bounce: false,
};

/// A mail that was begun.
#[derive(Default)]
struct Begun {
    from: String,
    to: Vec<String>,
    octets: Vec<u8>,
}

impl MailServer {
    /// Takes letters by LMTP for as long as it is polled.
    pub async fn serve_lmtp(self: Arc<Self>, bound: Bound) {
        self.let_everybody_in(Spoken::Lmtp, bound).await;
    }

    fn lmtp_terms(&self, protected: bool) -> Terms {
        // What there is to announce of letters the front says by itself.
        Terms { capability: String::new(), ..self.terms(&Submission, protected) }
    }

    fn recipient(&self, rcpt: &Rcpt) -> Verdict {
        if rcpt.to.local() == self.mailbox || Some(rcpt.to.local()) == self.vouched {
            Verdict::new(250, (1, 5), "Fine.")
        } else {
            Verdict::new(550, (1, 1), "Nobody of that name lives here.")
        }
    }
}

impl Visit<'_> {
    pub(super) async fn take_letters(&mut self) -> io::Result<()> {
        let mut front = Front::new(self.server.lmtp_terms(false), CAPS);
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let mut begun = Begun::default();
        front.greet(&mut out);
        loop {
            let deadline = Instant::now() + IDLE_TIMEOUT;
            let event = match front.step(&mut input, &mut out) {
                Ok(Step::Event(event)) => event,
                Ok(Step::NeedInput) => {
                    self.send(&mut out, deadline).await?;
                    if !self.read(&mut input, deadline).await? {
                        return Ok(());
                    }
                    continue;
                }
                Err(_) => return self.send(&mut out, deadline).await,
            };
            match event {
                Event::Secure => {
                    self.send(&mut out, deadline).await?;
                    if !self.secure(&input, deadline).await? {
                        return Ok(());
                    }
                    front.secured(self.server.lmtp_terms(true));
                    begun = Begun::default();
                }
                Event::Said(who) => {
                    self.told(who, "XCLIENT");
                    begun = Begun::default();
                }
                Event::Mail(mail) => {
                    begun = Begun { from: mail.path(), ..Begun::default() };
                    front.mail(&Verdict::new(250, (1, 0), "Fine."), &mut out);
                }
                Event::Recipients(rcpts) => {
                    for rcpt in rcpts {
                        let verdict = self.server.recipient(&rcpt);
                        if verdict.is_yes() {
                            begun.to.push(rcpt.to.to_string());
                        }
                        front.recipient(&verdict, &mut out);
                    }
                }
                Event::Letter => front.go_on(&mut out),
                // No more than LETTER_MAX of them: the front counts.
                Event::Piece(piece) => begun.octets.extend_from_slice(&piece),
                Event::End => {
                    let Begun { from, to, octets } = std::mem::take(&mut begun);
                    let text = format!("This is {}, it was taken.", self.server.name);
                    to.iter().for_each(|to| front.delivered(&Verdict::new(250, (0, 0), format!("<{to}> {text}")), &mut out));
                    self.helo = front.helo().map(str::to_owned);
                    let received = self.arrival().received(self.server.name, ["LMTP", "LMTPS"]);
                    self.tell(What::Took(Took::Letter(Box::new(Sent { from, to, octets, received }))));
                }
                Event::Refused(_) | Event::Reset => begun = Begun::default(),
                Event::Bye => return self.send(&mut out, deadline).await,
            }
        }
    }
}
