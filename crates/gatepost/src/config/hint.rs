//! What the writer may have meant: the nearest word, and the words of other programs.

/// The candidate that is a slip of the finger away from `word`, if any: at most one change per three characters.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond this, nothing is near, and the table below must not grow with hostile input.
    let word: Vec<char> = word.chars().take(65).flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c }).collect();
    if word.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let folded: Vec<char> = candidate.chars().map(|c| if c == '-' { '_' } else { c }).collect();
            let far = distance(&word, &folded);
            (far <= word.len().max(folded.len()).div_ceil(3).min(3)).then_some((far, candidate))
        })
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Where a word of Dovecot, nginx or Perdition went. `None`: not one of theirs, or it is spelled the same here.
pub(super) fn elsewhere(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    FOREIGN.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours)
}

/// The protocol, one of `names`, that others call `word`.
pub(super) fn protocol(word: &str, names: &[&str]) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    PROTOCOLS.iter().find(|(theirs, ours)| *theirs == word && names.contains(ours)).map(|(_, ours)| *ours)
}

/// Restricted edit distance: insert, delete, replace, swap neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (row, &from) in a.iter().enumerate() {
        let mut here = Vec::with_capacity(b.len() + 1);
        here.push(row + 1);
        let mut previous_b = None;
        for (column, &to) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best =
                (at(&above, column) + usize::from(from != to)).min(at(&above, column + 1) + 1).min(at(&here, column) + 1);
            if previous_a == Some(to) && previous_b == Some(from) && column > 0 {
                best = best.min(at(&before, column - 1) + 1);
            }
            here.push(best);
            previous_b = Some(to);
        }
        before = std::mem::replace(&mut above, here);
        previous_a = Some(from);
    }
    above.last().copied().unwrap_or(0)
}

/// Their protocol, and its names here, the one with its port first.
const PROTOCOLS: &[(&str, &str)] = &[
    ("sieve", "managesieve"),
    ("smtp", "submission"),
    ("smtps", "submissions"),
    ("smtps", "submission"),
    ("ssmtp", "submissions"),
    ("ssmtp", "submission"),
];

/// Their word, and what to write instead.
const FOREIGN: &[(&str, &str)] = &[
    // Dovecot 2.3 and 2.4
    ("args", "the driver's own keys (`path`, `query`, ...)"),
    ("auth_allow_cleartext", "`cleartext_auth` in [[listen]]"),
    ("auth_proxy_self", "`self_addresses` in [backend]"),
    ("auth_username_format", "`username_format` in [[users]]"),
    ("auth_verbose", "`level` in [log]"),
    ("disable_plaintext_auth", "`cleartext_auth` in [[listen]]"),
    ("dovecot_config_version", "`version = 1` at the top"),
    ("haproxy", "`proxy_protocol = \"required\"` in [[listen]]"),
    ("haproxy_trusted_networks", "`proxy_protocol` in [trust]"),
    ("hostname", "`name` in [server]"),
    ("imap_capabilities", "`capability` in [protocol.imap]"),
    ("imap_capability", "`capability` in [protocol.imap]"),
    ("inet_listener", "[[listen]]"),
    ("log_path", "`file` in [log]"),
    ("login_log_format", "`format` in [log]"),
    ("syslog_facility", "`facility` in [log]"),
    ("login_greeting", "`greeting` in [protocol.imap], [protocol.pop3], [protocol.managesieve] and [protocol.submission]"),
    ("login_proxy_max_disconnect_delay", "`disconnect_spread` in [backend]"),
    ("login_proxy_timeout", "`proxy_timeout` in [backend]"),
    ("login_source_ips", "`source_ips` in [backend]"),
    ("login_trusted_networks", "`networks` in [trust]"),
    ("mail_max_userip_connections", "`user_connections` in [limits]"),
    ("managesieve_implementation_string", "`implementation` in [protocol.managesieve]"),
    ("managesieve_logout_format", "nothing: sessions end in the journal's `end` lines"),
    ("managesieve_max_line_length", "nothing: behind the login it is the backend's"),
    ("managesieve_notify_capability", "`notify` in [protocol.managesieve]"),
    ("managesieve_sieve_capability", "`sieve` in [protocol.managesieve]"),
    ("passdb", "[[users]]"),
    ("passdb_default_password_scheme", "`default_pass_scheme` in [[users]]"),
    ("password_query", "`query` in [[users]]"),
    ("server_name", "`name` in [server]"),
    ("service", "[[listen]]"),
    ("ssl", "`tls`"),
    ("ssl_ca", "`tls_ca` in [backend]"),
    ("ssl_cert", "`certificates = [{ cert = \"...\", key = \"...\" }]` in [tls]"),
    ("ssl_cert_file", "`certificates = [{ cert = \"...\", key = \"...\" }]` in [tls]"),
    ("ssl_certificate", "`certificates = [{ cert = \"...\", key = \"...\" }]` in [tls]"),
    ("ssl_certificate_key", "`certificates = [{ cert = \"...\", key = \"...\" }]` in [tls]"),
    ("ssl_client_ca_file", "`tls_ca` in [backend]"),
    ("ssl_client_cert", "`tls_client_cert` in [backend]"),
    ("ssl_client_key", "`tls_client_key` in [backend]"),
    ("ssl_key", "`certificates = [{ cert = \"...\", key = \"...\" }]` in [tls]"),
    ("ssl_key_file", "`certificates = [{ cert = \"...\", key = \"...\" }]` in [tls]"),
    ("static_password", "`fields = { password = \"{SCHEME}...\" }` in [[users]]"),
    ("submission_backend_capabilities", "`capability` in [protocol.submission]"),
    ("submission_client_workarounds", "nothing: what stands behind the login is the backend's"),
    ("submission_logout_format", "nothing: sessions end in the journal's `end` lines"),
    ("submission_max_mail_size", "nothing: limits on mail are the backend's"),
    ("submission_max_recipients", "nothing: limits on mail are the backend's"),
    ("submission_relay_host", "`host` in a user's row"),
    ("submission_relay_port", "`port` in a user's row"),
    ("submission_relay_ssl", "`tls` in [backend], or `ssl` and `starttls` in a user's row"),
    ("submission_relay_trusted", "nothing: a backend that lists XCLIENT is told"),
    ("trusted_networks", "`networks` in [trust]"),
    ("userdb", "[[users]]: a proxy needs no second database"),
    // nginx
    ("auth_http", "[[users]] with `driver = \"auth_http\"` (not in this version)"),
    ("imap_auth", "nothing: mechanisms follow from the database"),
    ("max_errors", "`bad_commands` in [limits]"),
    ("pop3_auth", "nothing: mechanisms follow from the database"),
    ("pop3_capabilities", "`capability` in [protocol.pop3]"),
    ("set_real_ip_from", "`proxy_protocol` in [trust]"),
    ("smtp_auth", "nothing: mechanisms follow from the database"),
    ("smtp_capabilities", "`capability` in [protocol.submission]"),
    ("proxy_smtp_auth", "nothing: a password is said on unless the row has `proxy_noauth`"),
    ("resolver", "nothing: names of clients are not looked up"),
    ("smtp_client_buffer", "nothing: bytes are passed on as they come"),
    ("smtp_greeting_delay", "nothing: clients are greeted at once"),
    ("starttls", "`tls = \"starttls\"`, with `cleartext_auth = \"never\"` for nginx's `only`"),
    ("xclient", "nothing: a backend that lists XCLIENT is told; `submission_login` in [backend] is for signing in by it"),
    // Postfix
    ("smtpd_authorized_xclient_hosts", "`networks` in [trust]"),
    // Perdition
    ("bind_address", "`address` in [[listen]]"),
    ("connection_limit", "`connections` in [limits]"),
    ("listen_port", "`address` in [[listen]], with the port behind a colon"),
    ("lower_case", "`username_format = \"%Lu\"` in [[users]]"),
    ("map_library", "`driver` in [[users]]"),
    ("outgoing_server", "`fields = { proxy = \"y\", host = \"...\" }` in [[users]] with `driver = \"static\"`"),
    ("pop_capability", "`capability` in [protocol.pop3]"),
    ("ssl_mode", "`tls` in [[listen]] (clients) and in [backend]"),
    ("strip_domain", "`username_format = \"%Ln\"` in [[users]]"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips() {
        let keys = ["address", "protocol", "protocols", "tls", "tls_ca", "networks", "cleartext_auth"];
        for (word, expected) in [
            ("adress", Some("address")),
            ("addresss", Some("address")),
            ("protcol", Some("protocol")),
            ("protocls", Some("protocols")),
            ("TLS", Some("tls")),
            ("tsl", Some("tls")),
            ("tls-ca", Some("tls_ca")),
            ("netwroks", Some("networks")),
            ("cleartextauth", Some("cleartext_auth")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
        assert_eq!(nearest(&"address".repeat(100_000), keys), None);
    }

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(d("", ""), 0);
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("abc", ""), 3);
        assert_eq!(d("abc", "acb"), 1);
        assert_eq!(d("kitten", "sitting"), 3);
    }

    #[test]
    fn each_foreign_word_stands_once() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(FOREIGN.iter().all(|(theirs, _)| seen.insert(theirs)));
    }
}
