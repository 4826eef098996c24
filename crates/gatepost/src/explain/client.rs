//! The client, played in memory: the words of a real one against the protocol's own front.
//!
//! A proxy in front of us says who is calling and signs in as we do at a backend, so the dance plays it. It has manners, and does
//! not say a password where it hears that none may be said; the client that does so all the same is played by its dialect alone.

use crate::protocol::Protocol;
use bytes::BytesMut;
use wire::dance::dialect::Ask;
use wire::dance::{Dance, IdentityRefused, Introduction, Plan, Secure, SignIn};
use wire::login::{Front, LoginEvent, Mechanism};
use wire::machine::Step;
use wire::secret::Password;

/// More turns than any login takes.
pub(super) const TURNS_MAX: usize = 200;

/// Who plays the client.
pub(super) struct Client<'a> {
    pub(super) protocol: &'static Protocol,
    pub(super) user: &'a str,
    pub(super) password: Password,
    pub(super) mechanism: Mechanism,
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
        let (server, identity_refused) = (String::from("client.example"), IdentityRefused::Continue);
        Plan { secure: Secure::Never, introduce, sign_in, one_at_a_time: true, identity_refused, server }
    }

    /// Begins.
    pub(super) fn greeted(&self, front: &mut dyn Front) -> Conversation {
        let mut to_client = BytesMut::new();
        front.greet(&mut to_client);
        let dance = Dance::new((self.protocol.dialect)(), self.plan());
        Conversation { dance, to_front: BytesMut::new(), to_client }
    }

    /// Says its login where none may be said, and returns what it hears of that.
    pub(super) fn in_clear(&self, front: &mut dyn Front) -> Result<BytesMut, String> {
        let mut dialect = (self.protocol.dialect)();
        let (mut to_front, mut heard) = (BytesMut::new(), BytesMut::new());
        front.greet(&mut heard);
        let mut plan = self.plan();
        plan.sign_in.mechanism = None;
        dialect.say(Ask::SignIn, &plan, &mut to_front).map_err(|stumble| stumble.detail)?;
        for _ in 0..TURNS_MAX {
            heard.clear();
            match front.step(&mut to_front, &mut heard) {
                Ok(Step::Event(LoginEvent::InClear { .. })) => return Ok(heard),
                Ok(Step::NeedInput) => drop(dialect.say_on(&mut to_front).map_err(|stumble| stumble.detail)?),
                Ok(Step::Event(_)) => return Err("the front took a login in clear".to_owned()),
                Err(fault) => return Err(fault.to_string()),
            }
        }
        Err("the front did not answer".to_owned())
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
