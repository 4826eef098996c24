//! How values are spelled in the files, for whoever writes or tells of them.

use super::meant::{CleartextAuth, ListenProxy, ListenTls, Then};
use super::sections::words;

/// The word for a value; nothing where the table has none.
pub(super) fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, have)| *have == value).map_or("", |(word, _)| word)
}

impl ListenTls {
    /// The word of `listen.tls`.
    pub fn word(self) -> &'static str {
        word_of(words::LISTEN_TLS, self)
    }
}

impl ListenProxy {
    /// The word of `listen.proxy_protocol`.
    pub fn word(self) -> &'static str {
        word_of(words::LISTEN_PROXY, self)
    }
}

impl CleartextAuth {
    /// The word of `listen.cleartext_auth`.
    pub fn word(self) -> &'static str {
        word_of(words::CLEARTEXT_AUTH, self)
    }
}

impl Then {
    /// The word of `users.result_success` and its like.
    pub fn word(self) -> &'static str {
        word_of(words::THEN, self)
    }
}
