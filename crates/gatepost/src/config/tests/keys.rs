//! What holds for keys of every table: what is written, and what must be said.

use super::*;

#[test]
fn version() {
    let rest = format!("server.name = \"a\"\n{LISTEN}{USERS}");
    clean(&format!("version = 1\n{rest}"));
    check(&rest, &["1:1: error[version]: `version` is missing|fix: begin the file with version = 1"]);
    check(&format!("version = 2\n{rest}"), &["1:11: error[version]: `version` is 2; this program reads 1|run the Gatepost"]);
    check(&format!("version = 0\n{rest}"), &["1:11: error[version]: there is no version 0"]);
    check(&format!("version = \"1\"\n{rest}"), &["1:11: error[version]: `version` must be a number"]);
    check(
        &format!("[server]\nname = \"a\"\nversion = 1\n{LISTEN}{USERS}"),
        &[
            "1:1: error[version]: `version` is missing",
            "3:1: error[unknown]: there is no `version` in [server]|fix: `version` belongs in the top level",
        ],
    );
}

#[test]
fn unknown_keys() {
    behind(
        "[limits]\nliterla = \"4KiB\"",
        &["12:1: error[unknown]: there is no `literla` in [limits]|did you mean `literal`?|`lookup_timeout`"],
    );
    behind("[sever]\nname = \"a\"", &["11:2: error[unknown]: there is no `sever` at the top level|did you mean `server`?"]);
    behind(
        "[backend]\nnetworks = []",
        &["12:1: error[unknown]: there is no `networks` in [backend]|fix: `networks` belongs in [trust]"],
    );
    behind(
        "[log]\nzebra = 1",
        &[
            "12:1: error[unknown]: there is no `zebra` in [log]|fix: [log] takes `format`, `level`, `target`, `file`, `socket`, `facility`",
        ],
    );
    behind("[protocol.imap]\nidle_timout = \"1h\"", &["12:1: error[unknown]|did you mean `idle_timeout`?"]);
    behind("[protocol.pop3]\nidletimeout = \"1h\"", &["12:1: error[unknown]|did you mean `idle_timeout`?"]);
    behind(
        "[protocol.pop3]\nzebra = 1",
        &["12:1: error[unknown]: |[protocol.pop3] takes `capability`, `greeting`, `idle_timeout`"],
    );
    behind("[protocol.pop3s]\n", &["11:11: error[unknown]: there is no `pop3s` in [protocol]|did you mean `pop3`?"]);
    behind("[protocol.smtp]\nx = 1", &["11:11: error[later]: `protocol.smtp` is not in this version"]);
    behind("[protocol.lmtp]\ntimeout = 1", &["12:1: error[unknown]: |[protocol.lmtp] takes"]);
    behind("[protocol.imaps]\n", &["11:11: error[unknown]: there is no `imaps` in [protocol]|did you mean `imap`?"]);
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\", key = \"tls/mail.key\", chain = \"x\" }]",
        &["12:64: error[unknown]: there is no `chain` in [[tls.certificates]]|takes `cert`, `key`"],
    );
    // Every table is finished.
    for (table, place) in [
        ("[server]", "[server]"),
        ("[tls]", "[tls]"),
        ("[trust]", "[trust]"),
        ("[backend]", "[backend]"),
        ("[limits]", "[limits]"),
        ("[log]", "[log]"),
        ("[admin]", "[admin]"),
        ("[protocol]", "[protocol]"),
        ("[protocol.imap]", "[protocol.imap]"),
        ("[protocol.pop3]", "[protocol.pop3]"),
    ] {
        if table != "[server]" {
            behind(&format!("{table}\nqqqqqqqq = 1"), &[&format!("12:1: error[unknown]: there is no `qqqqqqqq` in {place}")]);
        }
    }
    check(
        &format!("version = 1\n[server]\nname = \"a\"\nqqqqqqqq = 1\n{LISTEN}qqqqqqqq = 1\n{USERS}qqqqqqqq = 1\n"),
        &[
            "4:1: error[unknown]: there is no `qqqqqqqq` in [server]",
            "9:1: error[unknown]: there is no `qqqqqqqq` in [[listen]]",
            "13:1: error[unknown]: there is no `qqqqqqqq` in [[users]]|takes `name`, `driver`|`fields`",
        ],
    );
}

#[test]
fn words_of_other_programs() {
    for (word, ours) in [
        ("login_trusted_networks", "`networks` in [trust]"),
        ("imap_capability", "`capability` in [protocol.imap]"),
        ("mail_max_userip_connections", "`user_connections` in [limits]"),
        ("ssl_cert", "certificates"),
        ("auth_proxy_self", "`self_addresses` in [backend]"),
        ("login_source_ips", "`source_ips` in [backend]"),
        ("login_proxy_max_disconnect_delay", "`disconnect_spread` in [backend]"),
        ("haproxy_trusted_networks", "`proxy_protocol` in [trust]"),
        ("syslog_facility", "`facility` in [log]"),
        ("pop3_capabilities", "`capability` in [protocol.pop3]"),
        ("smtp_greeting_delay", "nothing: clients are greeted at once"),
        ("smtpd_authorized_xclient_hosts", "`networks` in [trust]"),
        ("submission_relay_host", "`host` in a user's row"),
        ("xclient", "`submission_login` in [backend]"),
        ("local", "`local` belongs in [backend]"),
        ("map_library", "`driver` in [[users]]"),
        ("imap_id_send", "`imap_id_send` belongs in [protocol.imap]"),
    ] {
        check(
            &format!("{word} = \"x\"\n{TOP}{LISTEN}{USERS}"),
            &[&format!("1:1: error[unknown]: there is no `{word}` at the top level|{ours}")],
        );
    }
}

#[test]
fn kinds() {
    behind("[limits]\nguesses = \"20\"", &["12:11: error[kind]: `limits.guesses` is text; it must be a whole number"]);
    behind("[limits]\nguesses = 2.5", &["12:11: error[kind]: `limits.guesses` is a fraction"]);
    behind("[limits]\nguesses = -1", &["12:11: error[range]: `limits.guesses` is -1; it must be from 1 to"]);
    behind("[limits]\nguesses = 5000000000", &["12:11: error[range]: `limits.guesses` is 5000000000"]);
    behind("[limits]\ndrain = 30", &["12:9: error[kind]: `limits.drain` is a number without a unit|\"30s\" for seconds"]);
    behind("[limits]\ndrain = \"30 secs\"", &["12:9: error[value]: `limits.drain` is `30 secs`, which is no duration|\"30s\""]);
    behind(
        "[limits]\nlogin_timeout = \"500ms\"",
        &["12:17: error[range]: `limits.login_timeout` is 500ms; it must be from 1s to 1h"],
    );
    behind("[limits]\nline = 8192", &["12:8: error[kind]: `limits.line` is a number without a unit|\"8192B\""]);
    behind("[limits]\nline = \"8k\"", &["12:8: error[value]: `limits.line` is `8k`, which is no size|\"8KiB\""]);
    behind(
        "[limits]\nline = \"511B\"\nliteral = \"65KiB\"",
        &[
            "12:8: error[range]: `limits.line` is 511B; it must be from 512B to 64KiB",
            "13:11: error[range]: `limits.literal` is 65KiB; it must be from 64B to 64KiB",
        ],
    );
    behind("[limits]\nline = true", &["12:8: error[kind]: `limits.line` is true or false; it must be a size"]);
    behind("[tls]\nalpn_strict = \"yes\"", &["12:15: error[kind]: `tls.alpn_strict` is text|write tls.alpn_strict = true"]);
    behind("[tls]\nalpn_strict = 1", &["12:15: error[kind]: `tls.alpn_strict` is a number"]);
    behind(
        "[trust]\nnetworks = \"10.0.0.0/8\"",
        &["12:12: error[kind]: `trust.networks` is text; it must be an array|[\"10.0.0.0/8\"]"],
    );
    behind("[trust]\nnetworks = [1]", &["12:13: error[kind]: `trust.networks` is a number"]);
}

#[test]
fn tables_and_arrays() {
    check(&format!("log = \"x\"\n{TOP}{LISTEN}{USERS}"), &["1:1: error[kind]: `log` is text; it must be a table|write [log]"]);
    behind("[[log]]\nlevel = \"info\"", &["11:3: error[kind]: `log` is an array; there is only one|write [log]"]);
    check(
        &format!("{TOP}[listen]\nprotocol = \"imap\"\n{USERS}"),
        &["3:2: error[kind]: `listen` is a table|write [[listen]] with two pairs"],
    );
    check(&format!("users = [1]\n{TOP}{LISTEN}"), &["1:10: error[kind]: an item of `users` is a number; each must be a table"]);
    check(&format!("{TOP}{USERS}"), &["1:1: error[missing]: there is no [[listen]]: nobody could connect"]);
    check(&format!("{TOP}{LISTEN}"), &["1:1: error[missing]: there is no [[users]]: nobody could sign in"]);
    check(&format!("users = []\n{TOP}{LISTEN}"), &["1:1: error[missing]: there is no [[users]]"]);
}

#[test]
fn tables_of_later_versions() {
    behind(
        "[spool]\npath = \"x\"\n[[checks]]\nname = \"y\"\n[metrics]\n",
        &[
            "11:2: error[later]: [spool] is not in this version",
            "13:3: error[later]: [[checks]] is not in this version",
            "15:2: error[later]: [metrics] is not in this version",
        ],
    );
}
