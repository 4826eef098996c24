//! Users to whom a Dovecot does not deliver by LMTP, each for a reason of a real server.

use super::maildir;

/// What happens when mail for a user comes by LMTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// RCPT is agreed to, and the message is `552 5.2.2 <ADDRESS> Quota exceeded (mailbox for user is full)`, if it is
    /// larger than nothing.
    Full,
    /// The same with `452 4.2.2`.
    FullForNow,
    /// RCPT is agreed to, and the message is `451 4.2.0 <ADDRESS> Internal error occurred. Refer to server log ...`: the
    /// mailbox cannot be opened.
    Broken,
    /// RCPT is `451 4.3.0 <ADDRESS> Temporary internal error`: the user database has trouble.
    LookupFails,
}

/// The user database in front of the others, with nobody else in it.
pub(super) fn passwd_file(users: &[(String, Refusal)]) -> String {
    let row = |(name, refusal): &(String, Refusal)| {
        assert!(!name.contains([':', '\n', '\r']), "{name:?} cannot stand in a passwd-file");
        let fields = match refusal {
            Refusal::Full => "userdb_quota_rule=*:storage=1B",
            Refusal::FullForNow => "userdb_quota_rule=*:storage=1B userdb_quota_full_tempfail=yes",
            Refusal::Broken => "userdb_mail=maildir:/dev/null/mail",
            Refusal::LookupFails => "userdb_tempfail=yes",
        };
        format!("{name}::{}:{}::::{fields}\n", maildir::UID, maildir::GID)
    };
    users.iter().map(row).collect()
}
