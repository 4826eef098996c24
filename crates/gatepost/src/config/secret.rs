//! Which names hold secrets, so that neither an error, a debug print nor `gatepost show` says them.
//!
//! A secret has no place in the configuration: a key with such a name is refused in favour of its `..._file` form. The one
//! exception is `fields`, where operators put what a database row would say (`pass`, `password`); there it is accepted and
//! hidden whenever it could be printed.

use std::fmt;

/// Whether a key or field of this name holds a secret: the bare word or the word behind an underscore, so that `nopassword` and
/// `password_file` do not count.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit(['_', '-']).next().unwrap_or(&name);
    matches!(last, "pass" | "password" | "passwd" | "passphrase" | "dnpass" | "secret" | "token" | "apikey")
        || matches!(name.as_str(), "api_key" | "private_key" | "access_key")
}

/// Fields for a debug print, secrets as `***`.
pub(super) struct Hidden<'a>(pub(super) &'a [(String, String)]);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(name, value)| (name, if is_secret(name) { "***" } else { value.as_str() })))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for secret in ["pass", "password", "PASSWORD", "master_pass", "dnpass", "client_secret", "forward_token", "api_key"] {
            assert!(is_secret(secret), "{secret}");
        }
        for open in ["nopassword", "password_file", "pass_through", "key", "host", "passdb", "default_pass_scheme", ""] {
            assert!(!is_secret(open), "{open}");
        }
    }

    #[test]
    fn debug_hides() {
        let fields = [("host".to_owned(), "a".to_owned()), ("pass".to_owned(), "hunter2".to_owned())];
        assert_eq!(format!("{:?}", Hidden(&fields)), r#"{"host": "a", "pass": "***"}"#);
        let own = super::super::meant::Own::Fields(fields.to_vec());
        assert!(!format!("{own:?}").contains("hunter2"));
    }
}
