//! Which of a backend's capabilities a client may be told before login.

/// What the front says by itself according to its terms, and what concerns the connection between us and the backend only.
const NOT_TOLD: &[&str] = &["IMAP4rev1", "SASL-IR", "LITERAL+", "ID", "STARTTLS", "LOGINDISABLED", "LOGIN-REFERRALS"];

/// The words of a backend's list that stay true when we pass them on: everything about the time after login. How to sign in
/// is between the client and us; referrals are never followed nor passed on.
pub fn tellable(list: &str) -> String {
    let told = |word: &&str| {
        let name = word.split('=').next().unwrap_or_default();
        !NOT_TOLD.iter().any(|not| not.eq_ignore_ascii_case(word)) && !name.eq_ignore_ascii_case("AUTH")
    };
    list.split_ascii_whitespace().filter(told).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_to_sign_in_is_not_passed_on() {
        let dovecot = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ STARTTLS AUTH=PLAIN auth=LOGIN logindisabled";
        assert_eq!(tellable(dovecot), "ENABLE IDLE");
        assert_eq!(tellable("  IMAP4REV1   COMPRESS=DEFLATE  "), "COMPRESS=DEFLATE");
    }
}
