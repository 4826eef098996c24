//! LOGIN (draft-murchison-sasl-login): name and password in two responses. An initial response is the name.

use super::{Credentials, Exchange, Heard};
use crate::login::Mechanism;
use crate::secret::Secret;

/// The server side: has the name, or not yet. The name is kept as a secret, for people do type their password first.
#[derive(Debug, Default)]
pub(super) struct Server {
    user: Option<Secret<Vec<u8>>>,
}

impl Server {
    /// What is asked now. Clients look at these words, so they are as everybody writes them.
    pub(super) fn challenge(&self) -> &'static [u8] {
        match self.user {
            None => b"Username:",
            Some(_) => b"Password:",
        }
    }

    pub(super) fn hear(self, response: Secret<Vec<u8>>) -> Heard {
        match self.user {
            None => {
                let next = Server { user: Some(response) };
                let challenge = next.challenge();
                Heard::Challenge(super::Server(Exchange::Login(next)), challenge)
            }
            Some(user) => Heard::Done(Credentials {
                authzid: Vec::new(),
                user: user.expose().clone(),
                password: response,
                mechanism: Mechanism::Login,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_then_password() {
        let server = Server::default();
        assert_eq!(server.challenge(), b"Username:");
        let Heard::Challenge(server, b"Password:") = server.hear(Secret::new(b"joe".to_vec())) else { panic!("asks on") };
        let Ok(Heard::Done(credentials)) = server.hear(Secret::new(b"pw".to_vec())) else { panic!("done") };
        assert_eq!((credentials.user.as_slice(), credentials.password.expose().as_slice()), (&b"joe"[..], &b"pw"[..]));
    }
}
