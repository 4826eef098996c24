//! The client, played in memory: the words of a real one against the protocol's own front.
//!
//! A proxy in front of us says who is calling and signs in as we do at a backend, so the dance plays it. It has manners, and does
//! not say a password where it hears that none may be said; the client that does so all the same has learnt its words elsewhere.

use crate::protocol::LoginWay;
use bytes::BytesMut;
use wire::dance::{Dance, IdentityRefused, Introduction, Plan, Secure, SignIn};
use wire::login::{Front, LoginEvent, Mechanism};
use wire::machine::Step;
use wire::secret::Password;

/// More turns than any login takes.
pub(super) const TURNS_MAX: usize = 200;

/// Who plays the client.
pub(super) struct Client<'a> {
    pub(super) way: &'static LoginWay,
    pub(super) user: &'a str,
    pub(super) password: Password,
    pub(super) mechanism: Mechanism,
    /// What the client calls itself, in protocols where it does.
    pub(super) helo: &'a str,
    /// What a proxy in front says of its client.
    pub(super) introduction: Option<Introduction>,
}

/// Where a conversation came to.
pub(super) enum Said {
    /// The front reported something; what it answered so far is lost on nobody.
    Event(LoginEvent),
    /// The front ended the conversation: the rule and the detail for the journal, and its last words.
    Fault(&'static str, String, BytesMut),
    /// The front takes what was said for no login at all, and answers this.
    Bad(BytesMut),
    /// A client cannot say this, or the two did not understand each other.
    Stuck(String),
}

/// A conversation that goes on after an event.
pub(super) struct Conversation {
    dance: Dance,
    to_front: BytesMut,
    to_client: BytesMut,
}

impl Client<'_> {
    fn plan(&self) -> Plan {
        let sign_in = SignIn {
            user: self.user.to_owned(),
            master: None,
            password: self.password.clone(),
            mechanism: (self.mechanism != Mechanism::Command).then_some(self.mechanism),
            noauth: false,
        };
        let introduce = self.introduction.as_ref().map(|introduction| Introduction {
            origin: introduction.origin.clone(),
            client_id: Vec::new(),
            forward: introduction.forward.clone(),
            patience: None,
        });
        // TLS is in place already where there is some, and nothing has to be said in one flight.
        let (server, identity_refused) = (self.helo.to_owned(), IdentityRefused::Continue);
        Plan {
            secure: Secure::Never,
            introduce,
            sign_in: Some(sign_in),
            one_at_a_time: true,
            identity_refused,
            server,
            helo: None,
        }
    }

    /// Begins.
    pub(super) fn greeted(&self, front: &mut dyn Front) -> Conversation {
        let mut to_client = BytesMut::new();
        front.greet(&mut to_client);
        let dance = Dance::new((self.way.dialect)(), self.plan());
        Conversation { dance, to_front: BytesMut::new(), to_client }
    }

    /// Says its login where none may be said, and returns what it hears of that. `permissive` is the same front where it may be
    /// said: there it learns its words.
    pub(super) fn in_clear(&self, front: &mut dyn Front, permissive: &mut dyn Front) -> Result<BytesMut, String> {
        let (mut to_front, mut heard) = (BytesMut::new(), BytesMut::new());
        front.greet(&mut heard);
        for said in self.words(permissive)? {
            to_front.extend_from_slice(&said);
            heard.clear();
            match front.step(&mut to_front, &mut heard) {
                Ok(Step::Event(LoginEvent::InClear { .. })) => return Ok(heard),
                Ok(Step::NeedInput) => {}
                Ok(Step::Event(_)) => return Err("the front took a login in clear".to_owned()),
                Err(fault) => return Err(fault.to_string()),
            }
        }
        Err("the front did not answer".to_owned())
    }

    /// What it says up to its login, each time it speaks.
    fn words(&self, front: &mut dyn Front) -> Result<Vec<BytesMut>, String> {
        let Conversation { mut dance, mut to_front, mut to_client } = self.greeted(front);
        let mut words = Vec::new();
        for _ in 0..TURNS_MAX {
            match dance.step(&mut to_client, &mut to_front) {
                Ok(Step::NeedInput) => words.push(to_front.clone()),
                // Refused, and that without a look at it.
                Ok(Step::Event(_)) => return Ok(words),
                Err(stumble) => return Err(stumble.detail),
            }
            match front.step(&mut to_front, &mut to_client) {
                Ok(Step::Event(LoginEvent::Login(_) | LoginEvent::Unspeakable { .. })) => return Ok(words),
                Ok(Step::NeedInput) => {}
                Ok(Step::Event(_)) => return Err("the front expects something else than a login".to_owned()),
                Err(fault) => return Err(fault.to_string()),
            }
        }
        Err("the conversation has no end".to_owned())
    }
}

impl Conversation {
    /// Goes on until the front reports something.
    pub(super) fn go_on(&mut self, front: &mut dyn Front) -> Said {
        for _ in 0..TURNS_MAX {
            let heard = self.to_client.clone();
            match self.dance.step(&mut self.to_client, &mut self.to_front) {
                Ok(Step::NeedInput) => {}
                Ok(Step::Event(_)) => return Said::Bad(heard),
                Err(stumble) => return Said::Stuck(stumble.detail),
            }
            match front.step(&mut self.to_front, &mut self.to_client) {
                Ok(Step::Event(event)) => return Said::Event(event),
                Ok(Step::NeedInput) if self.to_client.is_empty() => {
                    return Said::Stuck("the client and the front wait for each other".to_owned());
                }
                Ok(Step::NeedInput) => {}
                Err(fault) => return Said::Fault(fault.rule, fault.detail, std::mem::take(&mut self.to_client)),
            }
        }
        Said::Stuck("the conversation has no end".to_owned())
    }
}
