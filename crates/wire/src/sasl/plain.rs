//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`, in one response.

use super::{Credentials, Malformed};
use crate::login::Mechanism;
use crate::secret::Secret;

/// Takes the one message apart. A third NUL stays in the password, where the gate of [`Credentials`] finds it.
pub(super) fn read(message: &Secret<Vec<u8>>) -> Result<Credentials, Malformed> {
    let mut parts = message.expose().splitn(3, |octet| *octet == 0);
    let (Some(authzid), Some(user), Some(password)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Malformed("The response is not of the form of PLAIN."));
    };
    Ok(Credentials {
        authzid: authzid.to_vec(),
        user: user.to_vec(),
        password: Secret::new(password.to_vec()),
        mechanism: Mechanism::Plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts() {
        for (message, expected) in [
            (&b"\0joe\0pw"[..], Some((&b""[..], &b"joe"[..], &b"pw"[..]))),
            (b"ann\0joe\0", Some((b"ann", b"joe", b""))),
            (b"\0\0", Some((b"", b"", b""))),
            (b"\0joe\0p\0w", Some((b"", b"joe", b"p\0w"))),
            (b"joe\0pw", None),
            (b"joe", None),
            (b"", None),
        ] {
            let read = read(&Secret::new(message.to_vec())).ok();
            let parts = read.as_ref().map(|c| (c.authzid.as_slice(), c.user.as_slice(), c.password.expose().as_slice()));
            assert_eq!(parts, expected, "{}", message.escape_ascii());
        }
    }
}
