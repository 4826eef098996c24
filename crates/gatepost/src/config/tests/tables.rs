//! The tables of which there is one: what is written, and what must be said.

use super::*;

#[test]
fn server() {
    let with = |line: &str| format!("version = 1\n[server]\n{line}\n{LISTEN}{USERS}");
    for name in ["a", "edge.example.com", "xn--mnchen-3ya.example", "192-0-2-1.example"] {
        clean(&with(&format!("name = \"{name}\"")));
    }
    for (name, why) in [
        ("", "is empty"),
        ("a b", "other characters"),
        ("a_b.example", "other characters"),
        ("münchen", "other characters"),
        ("-a", "hyphen"),
        ("a.", "empty part"),
        ("a..b", "empty part"),
        ("a\\r\\nb", "control"),
        ("[192.0.2.1]", "other characters"),
    ] {
        check(&with(&format!("name = \"{name}\"")), &[&format!("3:8: error[value]: `server.name`|{why}")]);
    }
    check(&with(&format!("name = \"{}\"", "a.".repeat(127) + "a")), &["3:8: error[value]: |longer than 253"]);
    let named = |line: &str| with(&format!("name = \"a\"\n{line}"));
    check(&named("threads = 0"), &["4:11: error[range]: `server.threads` is 0; it must be from 1 to 1024"]);
    check(&named("user = \"root:x\""), &["4:8: error[value]: `server.user`: `root:x` is no name of a system user"]);
    check(
        &named(&format!("control = \"/{}\"", "x".repeat(107))),
        &["4:11: error[range]: `server.control` is longer than the 107 octets"],
    );
    clean(&named(&format!("control = \"/{}\"", "x".repeat(106))));
}

#[test]
fn tls() {
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/none.pem\", key = \"tls\" }]",
        &[
            "12:26: error[file]: `tls.certificates.cert`: cannot read |tls/none.pem: No such file",
            "12:48: error[file]: `tls.certificates.key`: cannot read |tls: it is a directory",
        ],
    );
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\" }, {}]",
        &[
            "12:17: error[missing]: this certificate has no `key`|{ cert = ",
            "12:44: error[missing]: this certificate has no `cert`",
            "12:44: error[missing]: this certificate has no `key`",
        ],
    );
    behind(
        "[tls]\ncertificates = \"tls/mail.pem\"",
        &["12:1: error[kind]: `tls.certificates` is text; it must be an array of tables|[{ ... }]"],
    );
    behind(
        "[tls]\ncertificates = [{ cert = \"/dev/null\", key = \"tls/mail.key\" }]",
        &["12:26: error[file]: |/dev/null: it is not a regular file"],
    );
    behind(
        "[tls]\ncertificates = [{ cert = \"tls/mail.pem\", key = \"tls/mail.pem\" }]",
        &["12:48: warning[file]: `tls.certificates.key`: everybody on this host can read"],
    );
    clean(&format!("{TOP}[[tls.certificates]]\ncert = \"tls/mail.pem\"\nkey = \"tls/mail.key\"\n{LISTEN}{USERS}"));
}

#[test]
fn trust() {
    behind(
        "[trust]\nnetworks = [\"10.0.0.0/33\", \"mx.example.com\", \"10.1.2.3/16\", \"\"]",
        &[
            "12:13: error[value]: `trust.networks`: `10.0.0.0/33` is neither an address nor a network",
            "12:28: error[value]: `trust.networks`: `mx.example.com` is neither|names are not taken",
            "12:46: error[value]: `trust.networks`: `10.1.2.3/16` has bits behind its prefix|\"10.1.0.0/16\" for the network or \"10.1.2.3\"",
            "12:61: error[value]: `trust.networks` is empty",
        ],
    );
    for world in [
        "\"0.0.0.0/0\"",
        "\"::/0\"",
        "\"10.0.0.0/8\", \"::/0\"",
        "\"0.0.0.0/1\", \"128.0.0.0/1\"",
        "\"::ffff:0.0.0.0/96\"",
        "\"8000::/1\", \"4000::/2\", \"::/2\"",
    ] {
        behind(
            &format!("[trust]\nnetworks = [{world}]"),
            &["12:12: error[trust]: `trust.networks` covers every address of a family"],
        );
    }
    behind(
        "[trust]\nlogin = []\nidentity_before_tls = \"no\"",
        &[
            "12:1: error[later]: `trust.login` is not in this version",
            "13:23: error[value]: `trust.identity_before_tls` cannot be `no`|`keep`, `drop`",
        ],
    );
}

#[test]
fn backend() {
    behind(
        "[backend]\ntls = \"yes\"",
        &["12:7: error[value]: `backend.tls` cannot be `yes`|a row's word; here it is tls = \"implicit\""],
    );
    behind("[backend]\ntls = \"any-cert\"", &["12:7: error[value]: |tls_verify = false"]);
    behind("[backend]\ntls = \"startls\"", &["12:7: error[value]: |did you mean `starttls`?"]);
    behind("[backend]\ntls_verify = false", &["12:14: warning[tls]: |can read passwords|tls_ca"]);
    behind("[backend]\ntls_ca = \"none.pem\"", &["12:10: error[file]: `backend.tls_ca`: cannot read |none.pem"]);
    behind(
        "[backend]\ntls_client_cert = \"tls/mail.pem\"",
        &["12:19: error[missing]: `backend.tls_client_cert` needs `backend.tls_client_key`"],
    );
    behind(
        "[backend]\ntls_client_key = \"tls/mail.key\"",
        &["12:18: error[missing]: `backend.tls_client_key` needs `backend.tls_client_cert`"],
    );
    behind(
        "[backend]\ntls_pin = [\"AAAA\", \"aa:bb\"]",
        &["12:12: error[value]: `backend.tls_pin`: `AAAA` is no SHA-256|openssl", "12:20: error[value]"],
    );
    behind(
        &format!("[backend]\ntls_pin = \"{}\"", "ab:".repeat(31) + "ab"),
        &["12:11: error[value]: |fingerprint in hexadecimal"],
    );
    behind(
        "[backend]\nproxy_timeout = \"0s\"",
        &["12:17: error[range]: `backend.proxy_timeout` is 0s; it must be from 1s to 10m"],
    );
    behind(
        "[backend]\nproxy_timeout = \"3s\"\nconnect_timeout = \"4s\"",
        &["13:19: error[conflict]: `backend.connect_timeout` is longer"],
    );
    behind("[backend]\nconnect_timeout = \"31s\"", &["12:19: error[conflict]"]);
    assert_eq!(clean(&format!("{TOP}{LISTEN}{USERS}[backend]\nproxy_timeout = \"3s\"")).backend.connect_timeout.as_secs(), 3);
    behind(
        "[backend]\nself_addresses = [\"192.0.2.1:143\", \"a\"]",
        &["12:19: error[value]: `backend.self_addresses`: `192.0.2.1:143` is no address|without a port", "12:36: error[value]"],
    );
    behind(
        "[backend]\nsource_ips = []\nlocal = {}\nproxy_protocol = \"v2\"\ndisconnect_spread = \"0s\"\nidentity_refused = \"fail\"",
        &[
            "12:1: error[later]: `backend.source_ips`",
            "13:1: error[later]: `backend.local`",
            "14:18: error[later]: `backend.proxy_protocol = \"v2\"`",
            "15:1: error[later]: `backend.disconnect_spread`",
            "16:1: error[later]: `backend.identity_refused`",
        ],
    );
}

#[test]
fn imap() {
    let imap = |line: &str, expected: &[&str]| behind(&format!("[protocol.imap]\n{line}"), expected);
    imap(
        "idle_timeout = \"30m\"",
        &["12:16: error[range]: `protocol.imap.idle_timeout` is 30m; it must be from 31m to 30d (RFC 9051 section 5.4"],
    );
    imap("greeting = \"a\\r\\n* BYE\"", &["12:12: error[value]: `protocol.imap.greeting` holds control characters"]);
    imap("greeting = \"[ALERT] x\"", &["12:12: error[value]: |response code"]);
    imap("greeting = \"Grüß Gott\"", &["12:12: error[value]: |beyond ASCII"]);
    imap("capability = \"IDLE\"", &["12:14: error[value]: `protocol.imap.capability` lacks IMAP4rev1"]);
    imap("capability = \"+XSPECIAL\"", &["12:14: error[value]: |it is the list itself"]);
    imap("capability = \"IMAP4rev1 auth=PLAIN\"", &["12:14: error[value]: |holds `auth=PLAIN`, which follows from"]);
    imap("capability = \"IMAP4rev1 STARTTLS\"", &["12:14: error[value]: |Gatepost adds it"]);
    imap("capability = \"IMAP4rev1 (x)\"", &["12:14: error[value]: |which is no atom"]);
    imap("capability = \"IMAP4rev1]\"", &["12:14: error[value]: |which is no atom"]);
    imap("imap_id_send = \"name\"", &["12:16: error[value]: `protocol.imap.imap_id_send` has a name without a value"]);
    imap("imap_id_send = { os = \"*\" }", &["12:16: error[value]: `protocol.imap.imap_id_send.os` is `*`"]);
    imap("imap_id_send = { name = \"ü\" }", &["12:16: error[value]: |is not ASCII"]);
    imap(&format!("imap_id_send = {{ {} = \"x\" }}", "n".repeat(31)), &["12:16: error[value]: |longer than RFC 2971 allows"]);
    imap(
        &format!("imap_id_send = \"{}\"", (0..31).map(|n| format!("k{n} v ")).collect::<String>()),
        &["12:16: error[range]: |30 pairs of RFC 2971"],
    );
    imap("imap_id_send = \"a 1 A 2\"", &["12:16: error[twice]"]);
    let meant = clean(&format!("{TOP}{LISTEN}{USERS}[protocol.imap]\nimap_id_send = {{}}"));
    assert_eq!(meant.imap.id_send, []);
    behind("[protocol.pop3]\nx = 1", &["11:11: error[later]: `protocol.pop3` is not in this version"]);
}

#[test]
fn limits_and_descriptors() {
    // Where descriptors are unlimited, there is no number beyond them.
    let enough = default_limits().connections;
    if enough < 1_000_000 {
        let expected = "12:15: warning[limit]: `limits.connections` needs |descriptors|LimitNOFILE";
        behind(&format!("[limits]\nconnections = {}", enough + 1), &[expected]);
    }
    behind(&format!("[limits]\nconnections = {enough}"), &[]);
    behind(
        "[limits]\nconnections = 0\nlookups = 70000",
        &["12:15: error[range]: `limits.connections` is 0", "13:11: error[range]: `limits.lookups`"],
    );
}

#[test]
fn log() {
    behind(
        "[log]\nfile = \"none/log\"",
        &["12:8: error[file]: `log.file`: cannot write |none/log: its directory does not exist"],
    );
    behind("[log]\nfile = \"tls\"", &["12:8: error[file]: |it is a directory"]);
    behind("[log]\nformat = \"JSON\"", &["12:10: error[value]: |did you mean `json`?"]);
}
