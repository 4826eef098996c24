//! What a client says to sign in by SASL, apart from how its protocol frames it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A mechanism's messages, and whether the first of them comes along with the command or waits to be asked for.
#[derive(Clone, Debug)]
pub struct Sasl {
    mechanism: String,
    messages: Vec<Vec<u8>>,
    at_once: bool,
}

impl Sasl {
    /// PLAIN with an initial response. `authzid` may be empty.
    pub fn plain(authzid: &str, user: &str, password: &str) -> Sasl {
        Sasl::of("PLAIN", [format!("{authzid}\0{user}\0{password}")]).at_once()
    }

    /// LOGIN, asked for the name and for the password.
    pub fn login(user: &str, password: &str) -> Sasl {
        Sasl::of("LOGIN", [user, password])
    }

    /// Any mechanism with these messages, each of which is asked for.
    pub fn of(mechanism: &str, messages: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Sasl {
        Sasl { mechanism: mechanism.to_owned(), messages: messages.into_iter().map(Into::into).collect(), at_once: false }
    }

    /// The same with the first message as the initial response.
    pub fn at_once(self) -> Sasl {
        Sasl { at_once: true, ..self }
    }

    /// The same without an initial response.
    pub fn asked(self) -> Sasl {
        Sasl { at_once: false, ..self }
    }

    /// The mechanism's name, as it is said.
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// The initial response in base64, if there is one.
    pub(super) fn initial(&self) -> Option<String> {
        self.messages.first().filter(|_| self.at_once).map(|message| STANDARD.encode(message))
    }

    /// What answers the challenges, in base64 and in order.
    pub(super) fn answers(&self) -> impl Iterator<Item = String> {
        self.messages.iter().skip(usize::from(self.at_once)).map(|message| STANDARD.encode(message))
    }

    /// The arguments of the command in protocols of lines: the mechanism and the initial response, which is `=` when empty.
    pub(super) fn words(&self) -> String {
        match self.initial() {
            None => self.mechanism.clone(),
            Some(initial) if initial.is_empty() => format!("{} =", self.mechanism),
            Some(initial) => format!("{} {initial}", self.mechanism),
        }
    }
}
